"""Scores: higher = keep. Each criterion against a few lines of NumPy."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers.kernel_axes import kernel_axes
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.upgrade import make_prunable
from keras_ganprune.pruning import criteria
from keras_ganprune.pruning.criteria import (
    BatchNormScale,
    Criterion,
    DiscriminatorSaliency,
    GeometricMedian,
    Gradient,
    Hybrid,
    Magnitude,
    Random,
    Taylor,
    WeightContext,
)
from keras_ganprune.pruning.granularity import NM, Block, Channel, Unstructured

SHAPES = [(6, 5), (3, 3, 4, 6)]
UNITS = [Unstructured(), Channel(-1), Channel(-2), Block((2, 2)), Block((2, 3), "max")]


def rng(seed=0):
    return np.random.default_rng(seed)


def pair(shape, seed=0):
    """Return a weight and a gradient."""
    return (rng(seed + i).normal(size=shape).astype("float32") for i in (0, 100))


def pooled(unit, scores):
    """Oracle for units: what the granularity promises to make of scores, which has its own tests."""
    return unit.pool(scores.astype(np.float64))


def bound(criterion, layer, network, index=0, name="kernel"):
    context = WeightContext(index, f"{layer.name}/{name}", kernel_axes(layer, name), layer, network)
    return criterion.bind(context)


# --- magnitude -----------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_magnitude_of_one_weight_is_its_absolute_value(norm):
    weight = np.array([[-3.0, 0.5], [0.0, 2.0]], np.float32)
    criterion = Magnitude(norm)
    scores = criterion.unit(criterion.score(weight))
    np.testing.assert_allclose(scores, np.abs(weight), rtol=1e-7)
    assert scores.shape == weight.shape


def test_magnitude_of_a_unit():
    weight = np.array([[3.0, -4.0], [1.0, 1.0]])
    np.testing.assert_allclose(Magnitude("l1").unit_scores(weight, None, Channel(0)), [7.0, 2.0])
    np.testing.assert_allclose(
        Magnitude("l2").unit_scores(weight, None, Channel(0)), [5.0, np.sqrt(2.0)]
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("unit", UNITS, ids=str)
def test_magnitude_of_units_against_the_oracle(unit, shape):
    weight, _ = pair(shape)
    l1, l2 = (Magnitude(norm).unit_scores(weight, None, unit) for norm in ("l1", "l2"))
    np.testing.assert_allclose(l1, pooled(unit, np.abs(weight)), rtol=1e-6)
    np.testing.assert_allclose(l2, np.sqrt(pooled(unit, weight.astype(np.float64) ** 2)), rtol=1e-6)


def test_l2_tells_tiny_weights_apart():
    weight = np.array([1e-30, 2e-30, 3e-30], np.float32)  # their float32 squares are all zero
    scores = Magnitude("l2").unit(Magnitude("l2").score(weight))
    assert scores[0] < scores[1] < scores[2]


@pytest.mark.parametrize("norm", ["l3", None, 1])
def test_magnitude_rejects_other_norms(norm):
    with pytest.raises(InvalidArgumentError, match=rf"\('l1', 'l2'\)\. Received: {norm!r}"):
        Magnitude(norm)


# --- gradients -----------------------------------------------------------------------------------

# The score of one weight by hand; `gradient` is mean |g|, or the root of mean g^2 where moment is 2.
ORACLES = [
    (Gradient(), lambda w, g: np.abs(g)),
    (Taylor(), lambda w, g: np.abs(w * g)),
    (Taylor(squared=True), lambda w, g: (w * g) ** 2),
    (DiscriminatorSaliency(), lambda w, g: np.abs(w * g)),
    (DiscriminatorSaliency(squared=True), lambda w, g: (w * g) ** 2),
]
each_oracle = pytest.mark.parametrize(
    ("criterion", "oracle"), ORACLES, ids=[str(c) for c, _ in ORACLES]
)


@each_oracle
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("unit", UNITS, ids=str)
def test_gradient_criteria_against_the_oracle(criterion, oracle, unit, shape):
    weight, gradient = pair(shape)
    exact = oracle(weight.astype(np.float64), gradient.astype(np.float64))
    np.testing.assert_allclose(criterion.score(weight, gradient), exact, rtol=1e-5)
    np.testing.assert_allclose(
        criterion.unit_scores(weight, gradient, unit), pooled(unit, exact), rtol=1e-5
    )


def test_squared_taylor_is_the_mean_of_squares_over_batches():
    weight = rng(1).normal(size=(4, 3))
    batches = rng(2).normal(size=(5, 4, 3))
    criterion = Taylor(squared=True)
    assert (criterion.moment, Taylor().moment, Gradient().moment) == (2, 1, 1)
    found = criterion.score(weight, np.sqrt(np.mean(batches**2, axis=0)))
    np.testing.assert_allclose(found, np.mean((weight * batches) ** 2, axis=0))
    found = Taylor().score(weight, np.mean(np.abs(batches), axis=0))
    np.testing.assert_allclose(found, np.mean(np.abs(weight * batches), axis=0))


def test_squared_taylor_tells_tiny_products_apart():
    weight = np.array([1e-25, 2e-25, 3e-25], np.float32)
    scores = Taylor(squared=True).score(weight, np.full(3, 1e-5, np.float32))
    assert scores[0] < scores[1] < scores[2]


def test_which_gradients_are_meant():
    for criterion in (Gradient(3), Taylor(3), DiscriminatorSaliency(3)):
        assert criterion.needs_gradient and criterion.batches == 3
    assert Gradient.source == Taylor.source == "training"
    assert DiscriminatorSaliency.source == "adversarial"
    for criterion in (Magnitude(), Random(), BatchNormScale(), GeometricMedian()):
        assert not criterion.needs_gradient and criterion.batches == 0


@each_oracle
def test_no_gradient_is_an_error(criterion, oracle):
    text = r"needs a gradient of the shape of the weight.* Received: None\. .* pass `gradients=`"
    with pytest.raises(InvalidArgumentError, match=text):
        criterion.score(np.ones(3))


@pytest.mark.parametrize("make", [Gradient, Taylor, DiscriminatorSaliency])
@pytest.mark.parametrize("batches", [0, -1, True, 2.0, "2", None])
def test_bad_batches(make, batches):
    with pytest.raises(
        InvalidArgumentError, match=r"`batches`.* must be a positive int\. Received"
    ):
        make(batches=batches)


# --- the scale of batch normalization ------------------------------------------------------------


def scaled(first, *after, input_shape=(8, 8, 3), gamma_seed=3):
    """Return (prunable layer, network): the first layer, then others, with random gammas."""
    network = keras.Sequential([keras.Input(input_shape), first, *after])
    for layer in after:
        if isinstance(layer, layers.BatchNormalization) and layer.scale:
            layer.gamma.assign(rng(gamma_seed).normal(size=layer.gamma.shape))
    make_prunable(network)
    return getattr(first, "layer", first), network


def gamma_of(network):
    norms = [layer for layer in network.layers if isinstance(layer, layers.BatchNormalization)]
    return np.abs(to_numpy(norms[0].gamma).astype(np.float64))


# (layer, number of output channels, axis of them in the kernel)
SCALED = [
    (lambda: layers.Dense(4), 4, 1),
    (lambda: layers.Conv2D(4, 3), 4, 3),
    (lambda: layers.Conv2DTranspose(4, 3), 4, 2),
    (lambda: layers.SpectralNormalization(layers.Conv2D(4, 3)), 4, 3),
    (lambda: layers.DepthwiseConv2D(3), 3, 2),
]


@pytest.mark.parametrize(
    ("make", "channels", "axis"),
    SCALED,
    ids=["Dense", "Conv2D", "Conv2DTranspose", "SpectralNormalization", "DepthwiseConv2D"],
)
def test_batch_norm_scale_against_the_oracle(make, channels, axis):
    layer, network = scaled(make(), layers.LeakyReLU(), layers.BatchNormalization())
    criterion = bound(BatchNormScale(), layer, network)
    weight, gamma = to_numpy(layer.kernel), gamma_of(network)
    assert gamma.shape == (channels,)
    # A channel is worth |gamma| exactly; a weight its share of that, by |w| within the channel.
    units = criterion.unit_scores(weight, None, Channel(axis))
    np.testing.assert_allclose(units, gamma, rtol=1e-12)
    size = np.abs(np.moveaxis(weight, axis, -1)).astype(np.float64)
    share = gamma * size / size.reshape(-1, channels).sum(axis=0)
    np.testing.assert_allclose(criterion.score(weight), np.moveaxis(share, -1, axis), rtol=1e-6)
    np.testing.assert_allclose(criterion.score(weight).sum(), gamma.sum(), rtol=1e-6)


def test_batch_norm_scale_of_a_dcgan_stem_repeats_the_scale():
    # Dense(4 * 4 * 6) -> Reshape -> BatchNormalization over 6: neuron u is channel u mod 6.
    layer, network = scaled(
        layers.Dense(4 * 4 * 6),
        layers.Reshape((4, 4, 6)),
        layers.BatchNormalization(),
        input_shape=(5,),
    )
    criterion = bound(BatchNormScale(), layer, network)
    gamma = gamma_of(network)
    units = criterion.unit_scores(to_numpy(layer.kernel), None, Channel(1))
    np.testing.assert_allclose(units, [gamma[u % 6] for u in range(96)], rtol=1e-12)


def test_batch_norm_scale_follows_the_running_scale():
    layer, network = scaled(layers.Conv2D(4, 3), layers.BatchNormalization())
    criterion = bound(BatchNormScale("error"), layer, network)
    network.layers[-1].gamma.assign([0.0, -2.0, 1.0, 3.0])
    units = criterion.unit_scores(to_numpy(layer.kernel), None, Channel(-1))
    np.testing.assert_allclose(units, [0.0, 2.0, 1.0, 3.0], rtol=1e-12)


def test_batch_norm_scale_of_an_empty_channel_is_zero():
    layer, network = scaled(layers.Dense(4), layers.BatchNormalization(), input_shape=(5,))
    weight = to_numpy(layer.kernel).copy()
    weight[:, 1] = 0.0
    criterion = bound(BatchNormScale(), layer, network)
    gamma = gamma_of(network)
    np.testing.assert_allclose(
        criterion.unit_scores(weight, None, Channel(1)), np.where(np.arange(4) == 1, 0, gamma)
    )


def test_batch_norm_scale_does_not_bind_the_original():
    # One criterion serves all layers.
    original = BatchNormScale()
    layer, network = scaled(layers.Dense(4), layers.BatchNormalization(), input_shape=(5,))
    assert bound(original, layer, network) is not original
    np.testing.assert_array_equal(original.score(np.array([[-2.0]])), [[2.0]])
    assert bound(original, layer, network) == original  # the same settings


class Branches(keras.Model):
    """A subclassed network: what follows its layer is written in `call`, where nobody can read it."""

    def __init__(self):
        super().__init__()
        self.dense, self.norm = layers.Dense(4), layers.BatchNormalization()

    def call(self, x):
        return self.norm(self.dense(x))


def subclassed():
    network = make_prunable_built(Branches())
    return network.dense, network


def make_prunable_built(network):
    network(np.zeros((1, 5), "float32"))
    return make_prunable(network)


def branching():
    dense, x = layers.Dense(4), keras.Input((5,))
    y = dense(x)
    network = keras.Model(x, layers.Add()([layers.BatchNormalization()(y), y]))
    return dense, make_prunable(network)


UNSCALED = {
    "none": lambda: scaled(layers.Dense(4), input_shape=(5,)),
    "another kernel": lambda: scaled(
        layers.Dense(4), layers.Dense(3), layers.BatchNormalization(), input_shape=(5,)
    ),
    "scale=False": lambda: scaled(
        layers.Dense(4), layers.BatchNormalization(scale=False), input_shape=(5,)
    ),
    "branch": branching,
    "subclassed": subclassed,
    "merged by a reshape": lambda: scaled(
        layers.Conv2D(4, 3), layers.Reshape((-1,)), layers.BatchNormalization()
    ),
    "several of one channel": lambda: scaled(
        layers.DepthwiseConv2D(3, depth_multiplier=2), layers.BatchNormalization()
    ),
}


@pytest.mark.parametrize("make", UNSCALED.values(), ids=UNSCALED)
def test_batch_norm_scale_falls_back_to_the_mean_magnitude(make):
    layer, network = make()
    criterion = bound(BatchNormScale(), layer, network)
    weight = to_numpy(layer.kernel)
    np.testing.assert_array_equal(criterion.score(weight), np.abs(weight))
    axis = kernel_axes(layer, "kernel").outputs[0]
    others = tuple(set(range(weight.ndim)) - {axis % weight.ndim})
    np.testing.assert_allclose(
        criterion.unit_scores(weight, None, Channel(axis)),
        np.abs(weight.astype(np.float64)).mean(axis=others),
        rtol=1e-6,
    )


@pytest.mark.parametrize("make", UNSCALED.values(), ids=UNSCALED)
def test_batch_norm_scale_refuses_if_asked_to(make):
    layer, network = make()
    text = rf"'{layer.name}/kernel' is not followed by a BatchNormalization with a scale .* `scope`"
    with pytest.raises(UnsupportedLayerError, match=text):
        bound(BatchNormScale(fallback="error"), layer, network)


def test_batch_norm_scale_of_a_layer_with_several_kernels():
    # Only the last kernel makes the channels that are scaled.
    separable, network = scaled(layers.SeparableConv2D(6, 3), layers.BatchNormalization())
    for name, is_scaled in (("depthwise_kernel", False), ("pointwise_kernel", True)):
        criterion = bound(BatchNormScale(), separable, network, name=name)
        assert (criterion._scale is not None) == is_scaled
    lstm, network = scaled(layers.LSTM(3), layers.BatchNormalization(), input_shape=(4, 5))
    for name in ("cell.kernel", "cell.recurrent_kernel"):
        criterion = bound(BatchNormScale(), lstm, network, name=name)
        weight = rng().normal(size=(5, 12))
        np.testing.assert_array_equal(criterion.score(weight), np.abs(weight))


@pytest.mark.parametrize("fallback", ["none", None, True])
def test_batch_norm_scale_bad_fallback(fallback):
    with pytest.raises(InvalidArgumentError, match=r"`fallback` must be one of \('magnitude'"):
        BatchNormScale(fallback)


def test_batch_norm_scale_conflicts():
    assert "use Channel('out')" in BatchNormScale().conflict(Channel("in"), joint=False)
    assert "normalize='mean'" in BatchNormScale().conflict(Unstructured(), joint=True)
    assert BatchNormScale("error").conflict(Channel("out"), joint=True) is None
    assert BatchNormScale().conflict(Unstructured(), joint=False) is None


# --- the geometric median ------------------------------------------------------------------------


def distances(rows):
    """Return for each row the sum of its distances to all rows, one pair at a time."""
    return [sum(np.sqrt(np.sum((a - b) ** 2)) for b in rows) for a in rows]


@pytest.mark.parametrize(
    ("make", "axis"),
    [(lambda: layers.Dense(7), 1), (lambda: layers.Conv2D(5, 3), 3),
     (lambda: layers.Conv2DTranspose(6, 3), 2)],
    ids=["Dense", "Conv2D", "Conv2DTranspose"],
)  # fmt: skip
def test_geometric_median_against_brute_force(make, axis):
    layer = make()
    layer.build((None, 4) if axis == 1 else (None, 8, 8, 4))
    weight = to_numpy(layer.kernel).astype(np.float64)
    unit = Channel("out").resolve(kernel_axes(layer, "kernel"))
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    found = GeometricMedian().unit_scores(weight, None, unit)
    np.testing.assert_allclose(found, distances(rows), rtol=1e-6)
    found = GeometricMedian().unit_scores(weight, None, Channel(0))
    np.testing.assert_allclose(found, distances(weight.reshape(len(weight), -1)), rtol=1e-6)


def test_geometric_median_of_units_over_several_axes():
    weight = rng().normal(size=(5, 2, 3))
    found = GeometricMedian().unit_scores(weight, None, Channel((1, 2)))
    wanted = np.reshape(distances(weight.reshape(5, 6).T), (2, 3))
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    found = GeometricMedian().unit_scores(weight, None, Channel((-1, 1)))
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


@pytest.mark.parametrize("channels", [511, 512, 513, 1300])
def test_geometric_median_of_many_channels(channels):
    weight = rng(channels).normal(size=(3, channels)).astype(np.float32)
    found = GeometricMedian().unit_scores(weight, None, Channel(1))
    rows = weight.T.astype(np.float64)
    wanted = np.sqrt(((rows[:, None] - rows) ** 2).sum(axis=2)).sum(axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("channels", [3, 64, 700])
def test_geometric_median_of_equal_channels_is_zero(channels):
    # So that ties go by index, as everywhere, and not by what rounding left.
    weight = np.repeat(rng().normal(size=(900, 1)).astype(np.float32), channels, axis=1)
    found = GeometricMedian().unit_scores(weight, None, Channel(1))
    np.testing.assert_array_equal(found, np.zeros(channels))
    weight[:, 1] += 1e-4  # near, yet not equal
    found = GeometricMedian().unit_scores(weight, None, Channel(1))
    np.testing.assert_allclose(found[1], 1e-4 * 30 * (channels - 1), rtol=1e-2)


def test_geometric_median_drops_what_others_stand_in_for():
    # Channels 0 and 1 are nearly the same, and large; 3 is small but alone.
    weight = np.array([[5.0, 5.1, -1.0, 0.1], [5.0, 4.9, 6.0, -9.0]])
    order = np.argsort(GeometricMedian().unit_scores(weight, None, Channel(1)))
    assert set(order[:2].tolist()) == {0, 1}


def test_geometric_median_needs_channels():
    with pytest.raises(
        InvalidArgumentError, match=r"compares whole channels.*granularity='channel'"
    ):
        GeometricMedian().score(np.ones((2, 2)))
    for unit in (Unstructured(), Block((2, 2)), NM()):
        assert "granularity 'channel'" in GeometricMedian().conflict(unit, joint=False)
    assert GeometricMedian().conflict(Channel(), joint=True) is None


# --- random --------------------------------------------------------------------------------------


def contexts(count=2):
    layer = layers.Dense(4)
    layer.build((None, 3))
    return [
        WeightContext(i, f"{i}", kernel_axes(layer, "kernel"), layer, layer) for i in range(count)
    ]


def test_random_is_seeded():
    weight = np.zeros((5, 6))
    first, second = (Random(seed=3).bind(contexts()[0]).score(weight) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.any(first != Random(seed=4).bind(contexts()[0]).score(weight))
    assert first.min() >= 0 and first.max() < 1 and len(np.unique(first)) == 30


def test_random_looks_at_nothing_so_masks_nest():
    criterion = Random().bind(contexts()[0])
    before = criterion.score(np.zeros((5, 6)))
    np.testing.assert_array_equal(criterion.score(np.ones((5, 6)), np.ones((5, 6))), before)


def test_random_scores_of_two_tensors_differ():
    one, two = (Random().bind(context) for context in contexts())
    assert one is not two
    assert not np.any(one.score(np.zeros((5, 6))) == two.score(np.zeros((5, 6))))


@pytest.mark.parametrize("unit", UNITS[1:], ids=str)
def test_random_scores_of_units_are_drawn_not_summed(unit):
    weight = np.zeros((60, 60))
    scores = Random().unit_scores(weight, None, unit)
    assert scores.shape == unit.pool(weight).shape
    # Sums or means of many would crowd around their middle.
    assert scores.min() < 0.1 and scores.max() > 0.9 and abs(scores.mean() - 0.5) < 0.15
    np.testing.assert_array_equal(scores, Random().unit_scores(weight + 1, None, unit))


@pytest.mark.parametrize("seed", [-1, 0.5, True, "0", None])
def test_random_bad_seed(seed):
    with pytest.raises(InvalidArgumentError, match=r"`seed` must be a non-negative int\. Received"):
        Random(seed)


# --- hybrid --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("unit", UNITS, ids=str)
def test_hybrid_against_the_oracle(unit, shape):
    weight, gradient = (a.astype(np.float64) for a in pair(shape))
    weight *= 1e-3  # of another size than the gradients
    mix = Hybrid({"l1": 1.0, "gradient": 2.0, "l2": 0.5})
    parts = [
        (1.0, pooled(unit, np.abs(weight))),
        (2.0, pooled(unit, np.abs(gradient))),
        (0.5, np.sqrt(pooled(unit, weight**2))),
    ]
    wanted = sum(w * scores / scores.mean() for w, scores in parts)
    found = mix.unit_scores(weight, gradient, unit)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert found.mean() == pytest.approx(3.5)  # each part counts by its weight, whatever its size


def test_hybrid_of_single_weights():
    mix = Hybrid([(Magnitude(), 1), ("gradient", 3)])
    weight, gradient = np.array([1.0, -3.0]), np.array([0.4, 0.0])
    np.testing.assert_allclose(mix.score(weight, gradient), [0.5 + 6.0, 1.5])


def test_hybrid_of_one_and_of_zeros():
    weight = np.array([3.0, -1.0])
    np.testing.assert_allclose(Hybrid({"l1": 9.0}).score(weight), [13.5, 4.5])  # the same order
    zeros = Hybrid({"l1": 1.0, "gradient": 1.0}).score(weight, np.zeros(2))
    np.testing.assert_allclose(zeros, [1.5, 0.5])  # a part that says nothing changes nothing


def test_hybrid_may_hold_a_hybrid():
    inner = Hybrid({"l1": 1.0, "l2": 1.0})
    mix = Hybrid([(inner, 0.5), ("gradient", 1.0)])
    assert mix.needs_gradient and mix.batches == 8
    assert mix.get_config() == Hybrid.from_config(mix.get_config()).get_config()


def test_hybrid_binds_its_parts():
    layer, network = scaled(layers.Dense(4), layers.BatchNormalization(), input_shape=(5,))
    mix = bound(Hybrid({"batch_norm_scale": 1.0, "random": 1.0}), layer, network, index=7)
    weight, gamma = to_numpy(layer.kernel), gamma_of(network)
    drawn = np.random.default_rng((0, 7)).random(4)
    wanted = gamma / gamma.mean() + drawn / drawn.mean()
    np.testing.assert_allclose(mix.unit_scores(weight, None, Channel(1)), wanted, rtol=1e-9)


def test_hybrid_takes_its_gradient_from_its_parts():
    mix = Hybrid({Taylor(batches=3, squared=True): 1.0, "l2": 1.0})
    assert (mix.needs_gradient, mix.batches, mix.moment, mix.source) == (True, 3, 2, "training")
    mix = Hybrid({DiscriminatorSaliency(batches=5): 1.0})
    assert (mix.moment, mix.source) == (1, "adversarial")
    mix = Hybrid({Taylor(batches=3): 1.0, Gradient(batches=9): 1.0})
    assert mix.batches == 9
    mix = Hybrid({"l1": 1.0, "random": 1.0})
    assert (mix.needs_gradient, mix.batches) == (False, 0)


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({"l1": 0}, r"must be positive numbers\. Received: 0 for 'l1'\. To leave a criterion out"),
        ({"l1": 0.0, "l2": 1.0}, r"Received: 0\.0 for 'l1'"),
        ({"l1": 1.0, "gradient": -1}, r"Received: -1 for 'gradient'"),
        ({"l1": float("nan")}, r"Received: nan"),
        ({"l1": float("inf")}, r"Received: inf"),
        ({"l1": "1"}, r"Received: '1' for 'l1'"),
        ({"l1": True}, r"Received: True for 'l1'"),
        ({"l1": None}, r"Received: None for 'l1'"),
        ({}, r"`weights` must name at least one criterion\. Received none"),
        ([], r"`weights` must name at least one criterion\. Received none"),
        ("l1", r"`weights` must be a dict of criterion -> weight, .* Received: 'l1'"),
        (None, r"must be a dict of criterion -> weight, .* Received: None"),
        (["l1", "l2"], r"or a list of such pairs\. Received: \['l1', 'l2'\]"),
        ([("l1", 1.0, 2.0)], r"or a list of such pairs"),
        ({"l1": 1.0, "magnitud": 1.0}, r"Unknown criterion 'magnitud'\. Did you mean 'magnitude'"),
        (
            {"taylor": 1.0, Taylor(squared=True): 1.0},
            r"must have the same `moment`\. Received: Taylor\(.*\) \(1\), Taylor\(.*\) \(2\)",
        ),
        (
            {"taylor": 1.0, "discriminator_saliency": 1.0},
            r"must have the same `source`\. .*\(training\), .*\(adversarial\)",
        ),
        (
            [(Hybrid({"taylor": 1.0}), 1.0), ("discriminator_saliency", 1.0)],
            r"must have the same `source`",
        ),
    ],
    ids=str,
)
def test_bad_hybrids(weights, text):
    with pytest.raises(InvalidArgumentError, match=f"(?s){text}"):
        Hybrid(weights)


def test_hybrid_conflicts_are_those_of_its_parts():
    mix = Hybrid({"l1": 1.0, "fpgm": 1.0})
    assert mix.conflict(Unstructured(), joint=False).startswith("GeometricMedian: it compares")
    assert mix.conflict(Channel(), joint=False) is None
    # Normalised scores compare between tensors, so a joint ranking is no trouble.
    assert Hybrid({"batch_norm_scale": 1.0}).conflict(Unstructured(), joint=True) is None


# --- all of them ---------------------------------------------------------------------------------

ALL = [
    Magnitude("l1"),
    Magnitude("l2"),
    Gradient(),
    Taylor(),
    Taylor(squared=True),
    DiscriminatorSaliency(),
    BatchNormScale(),
    GeometricMedian(),
    Random(),
    Hybrid({"l1": 1.0, "gradient": 1.0}),
]


@pytest.mark.parametrize("criterion", ALL, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inputs_are_left_alone(criterion, dtype):
    weight, gradient = (a.astype(dtype) for a in pair((4, 6)))
    weight.flags.writeable = gradient.flags.writeable = False  # the memory of a variable
    criterion.unit_scores(weight, gradient, Channel(1))


@pytest.mark.parametrize("criterion", ALL, ids=str)
def test_scores_of_units_have_the_shape_of_the_units(criterion):
    weight, gradient = pair((2, 4, 6))
    for unit in (Channel(-1), Channel((0, -1)), Channel(1)):
        scores = criterion.unit_scores(weight, gradient, unit)
        assert np.shape(scores) == np.shape(unit.pool(weight))
        assert np.all(np.isfinite(scores)) and np.all(scores >= 0)


@pytest.mark.parametrize("criterion", ALL, ids=str)
def test_a_network_of_zeros_has_scores(criterion):
    zeros = np.zeros((4, 6), np.float32)
    assert np.all(np.isfinite(criterion.unit_scores(zeros, zeros, Channel(1))))


@pytest.mark.parametrize(
    ("name", "criterion"),
    [
        ("magnitude", Magnitude("l1")),
        ("l1", Magnitude("l1")),
        ("l2", Magnitude("l2")),
        ("magnitude_l1", Magnitude("l1")),
        ("magnitude_l2", Magnitude("l2")),
        ("gradient", Gradient()),
        ("taylor", Taylor()),
        ("discriminator_saliency", DiscriminatorSaliency()),
        ("batch_norm_scale", BatchNormScale()),
        ("geometric_median", GeometricMedian()),
        ("fpgm", GeometricMedian()),
        ("random", Random()),
    ],
)
def test_get_by_name(name, criterion):
    assert criteria.get(name) == criterion


def test_base_class_is_abstract():
    with pytest.raises(NotImplementedError, match=r"^$"):
        Criterion().score(np.ones(2))
    np.testing.assert_array_equal(Criterion().unit(np.array([1.0, 4.0])), [1.0, 4.0])
    assert Criterion().bind(contexts()[0]) == Criterion()
    assert Criterion().conflict(Unstructured(), joint=True) is None
