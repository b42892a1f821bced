"""Criteria that measure the network, and those of signed gradients, each against a few lines of NumPy."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import (
    DataError,
    DivergedError,
    InvalidArgumentError,
)
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import masked_weights
from keras_ganprune.pruning.criteria import (
    APOZ,
    LAMP,
    SNIP,
    Fisher,
    Hybrid,
    LatentSensitivity,
    Magnitude,
    MeanActivation,
    Movement,
    SynFlow,
    Wanda,
)
from keras_ganprune.pruning.granularity import Channel, Unstructured
from keras_ganprune.training.discovery import networks


def rng(seed=0):
    return np.random.default_rng(seed)


def measured(criterion, network, inputs=None):
    """Return what a criterion measures of each kernel, by path."""
    kgp.make_prunable(network)
    weights = [w for w in masked_weights(network) if "bias" not in w.name]
    calibration = None if inputs is None else [inputs]
    rows = criterion.measure([network], weights, calibration)
    return {w.path: np.array(row) for w, row in zip(weights, rows, strict=True)}


def functional(make, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, make(inputs))


# --- LAMP, spectral norm ---------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [Unstructured(), Channel(-1)], ids=str)
def test_lamp_against_two_loops(unit):
    weight = rng(1).normal(size=(7, 9)).astype("float32")
    sizes = weight.astype(float) ** 2 if isinstance(unit, Unstructured) else (weight**2).sum(axis=0)
    flat = sizes.reshape(-1)
    expected = [s / flat[flat >= s].sum() for s in flat]
    found = LAMP().unit_scores(weight, None, unit)
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-5)


def test_lamp_of_equal_and_of_zero_weights():
    np.testing.assert_allclose(LAMP().score(np.array([2.0, 2.0])), [0.5, 1.0])
    assert LAMP().score(np.zeros((2, 3))).tolist() == np.zeros((2, 3)).tolist()


def test_lamp_finds_sparsities_that_do_not_depend_on_the_scale_of_layers():
    model = keras.Sequential([keras.Input((9,)), layers.Dense(12), layers.Dense(5)])
    values = [rng(i).normal(size=w.shape) for i, w in enumerate(model.get_weights())]
    kept = []
    for scale in (1.0, 1000.0):
        model.set_weights([values[0] * scale, *values[1:]])
        twin = keras.models.clone_model(model)
        twin.set_weights(model.get_weights())
        report = kgp.Pruner(twin, criterion="lamp", allocation="global_ranking").update(
            sparsity=0.7
        )
        kept.append([row.kept for row in report.rows])
    assert kept[0] == kept[1]
    assert kept[0] != [round(108 * 0.3), round(60 * 0.3)]


def test_magnitude_by_the_spectral_norm():
    network = functional(layers.Conv2D(6, 3), (5, 5, 4))
    kernel = to_numpy(network.layers[1].kernel)
    sigma = np.linalg.svd(kernel.reshape(-1, 6).astype(float), compute_uv=False)[0]
    pruner = kgp.Pruner(network, criterion=Magnitude(normalize="spectral"))
    ranking = pruner._rankings[0]
    scores = ranking.scores(False, [None])
    np.testing.assert_allclose(scores, np.abs(kernel).reshape(-1) / sigma, rtol=1e-5)
    assert Magnitude(normalize="spectral").score(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]
    assert repr(Magnitude()) == "Magnitude(norm='l1')"  # saved files know settings by it


# --- signed gradients, in fit ----------------------------------------------------------------------


class _Spy:
    """Keeps what `score` receives."""

    def score(self, weight, gradient=None):
        self.seen = np.array(gradient)
        return super().score(weight, gradient)


def spied(criterion):
    cls = type(criterion)
    spy = type(cls.__name__, (_Spy, cls), {})(**criterion.get_config())
    spy.bind = lambda context: spy
    return spy


GRADIENTS = [
    (SNIP(batches=3), lambda w, g: np.mean(g, axis=0), lambda w, s: np.abs(w * s)),
    (Movement(batches=3), lambda w, g: np.mean(w * g, axis=0), lambda w, s: -s),
    (Fisher(batches=3), lambda w, g: np.sqrt(np.mean(g**2, axis=0)), lambda w, s: w**2 * s**2 / 2),
]


@pytest.mark.parametrize(
    ("criterion", "statistic", "score"), GRADIENTS, ids=[str(row[0]) for row in GRADIENTS]
)
def test_gradients_of_the_running_fit(criterion, statistic, score):
    x, y = rng(1).normal(size=(30, 4)), rng(2).normal(size=(30, 3))
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, use_bias=False)])
    weight = to_numpy(model.layers[0].kernel).astype(float)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    spy = spied(criterion)
    prune = kgp.Prune(kgp.OneShot(0.5, 5), criterion=spy, verbose=0)
    model.fit(x, y, batch_size=5, shuffle=False, verbose=0, callbacks=[prune])
    batches = [(x[i : i + 5], y[i : i + 5]) for i in (10, 15, 20)]  # the three before step 5
    slopes = np.array([2 * a.T @ (a @ weight - b) / b.size for a, b in batches])
    expected = statistic(weight, slopes)
    np.testing.assert_allclose(spy.seen, expected, rtol=1e-4, atol=1e-6)
    kept = np.sort(np.argsort(score(weight, expected).reshape(-1))[6:])
    assert np.flatnonzero(to_numpy(prune.pruner.weights[0].mask)).tolist() == kept.tolist()


# --- Wanda -----------------------------------------------------------------------------------------


def rms(x, axes):
    return np.sqrt(np.mean(np.square(x.astype(float)), axis=axes))


def test_wanda_of_dense_and_convolutions():
    x = rng(3).normal(size=(70, 6, 6, 4)).astype("float32") * np.arange(1, 5)
    for layer in (
        layers.Conv2D(8, 3),
        layers.Conv2DTranspose(8, 4, strides=2),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.Dense(5),
    ):
        network = functional(layer, (6, 6, 4))
        shape = tuple(network.layers[1].weights[0].shape)
        norms = rms(x, (0, 1, 2))
        spread = {
            layers.Conv2D: norms[:, None],
            layers.Conv2DTranspose: norms,
            layers.DepthwiseConv2D: norms[:, None],
            layers.Dense: norms[:, None],
        }[type(layer)]
        (found,) = measured(Wanda(), network, x).values()
        np.testing.assert_allclose(found, np.broadcast_to(spread, shape), rtol=1e-5)


def test_wanda_of_a_grouped_convolution():
    x = rng(3).normal(size=(9, 5, 5, 6)).astype("float32") * np.arange(1, 7)
    network = functional(layers.Conv2D(4, 3, groups=2), (5, 5, 6))
    (found,) = measured(Wanda(), network, x).values()
    norms = rms(x, (0, 1, 2))
    for output in range(4):
        own = norms[:3] if output < 2 else norms[3:]
        np.testing.assert_allclose(found[..., output], np.broadcast_to(own, (3, 3, 3)), rtol=1e-5)


def test_wanda_of_an_embedding_and_attention():
    inputs = keras.Input((5,), dtype="int32")
    embedded = layers.Embedding(7, 8, name="words")(inputs)
    outputs = layers.MultiHeadAttention(2, 3, name="mix")(embedded, embedded)
    network = keras.Model(inputs, outputs)
    x = rng(0).integers(0, 6, size=(11, 5))
    table = to_numpy(network.get_layer("words").embeddings)
    found = measured(Wanda(), network, x)
    counts = np.bincount(x.reshape(-1), minlength=7) / x.size
    np.testing.assert_allclose(
        found["words/embeddings"], np.broadcast_to(np.sqrt(counts)[:, None], (7, 8)), rtol=1e-5
    )
    query = next(v for k, v in found.items() if "query" in k)
    expected = rms(table[x], (0, 1))[:, None, None]
    np.testing.assert_allclose(query, np.broadcast_to(expected, (8, 2, 3)), rtol=1e-4)
    mixed = next(v for k, v in found.items() if "output" in k)
    assert mixed.shape == (2, 3, 8)
    assert np.ptp(mixed, axis=2).max() < 1e-6 < np.ptp(mixed[..., 0])


def test_wanda_counts_unknown_inputs_as_one():
    network = functional(lambda x: layers.SeparableConv2D(4, 3)(x), (6, 6, 2))
    found = measured(Wanda(), network, np.full((3, 6, 6, 2), 2.0, "float32"))
    depthwise, pointwise = found.values()
    assert (depthwise == 2.0).all() and (pointwise == 1.0).all()
    network = keras.Sequential([keras.Input((4, 3)), layers.LSTM(5)])
    assert all(
        np.isfinite(v).all() for v in measured(Wanda(), network, np.ones((2, 4, 3))).values()
    )


def test_wanda_per_output_prunes_every_output_alike():
    model = keras.Sequential([keras.Input((10,)), layers.Dense(6)])
    x = rng(1).normal(size=(50, 10)) * np.arange(1, 11)
    scores = np.abs(to_numpy(model.layers[0].kernel)) * rms(x, 0)[:, None]
    kgp.Pruner(model, criterion=Wanda(per_output=True)).update(sparsity=0.7, calibration=x)
    mask = to_numpy(masked_weights(model)[0].mask)
    assert (mask.sum(axis=0) == 3).all()
    for column in range(6):
        best = np.sort(np.argsort(-scores[:, column])[:3])
        assert np.flatnonzero(mask[:, column]).tolist() == best.tolist()


def test_wanda_takes_the_batches_before_the_update():
    x = (np.arange(40)[:, None] + 1.0) * np.array([1.0, 2.0])
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    spy = spied(Wanda(batches=2))
    prune = kgp.Prune(kgp.OneShot(0.5, 5), criterion=spy, verbose=0)
    seen = []
    record = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(batch)
    )
    model.fit(
        x, np.zeros((40, 3)), batch_size=4, shuffle=False, verbose=0, callbacks=[prune, record]
    )
    np.testing.assert_allclose(spy.seen[:, 0], rms(x[12:20], 0), rtol=1e-5)
    assert seen == list(range(10))  # no batch is lost


# --- activations -----------------------------------------------------------------------------------


def small_convolutional():
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(5, 3, name="first")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Conv2D(4, 3, activation="relu", name="second")(x)
    outputs = layers.Dense(2)(layers.Flatten()(x))
    network = keras.Model(inputs, outputs)
    network.get_layer("norm").beta.assign(rng(5).normal(size=5))
    return network


@pytest.mark.parametrize(
    ("criterion", "statistic"),
    [(MeanActivation(), np.abs), (APOZ(), lambda a: a > 0)],
    ids=["mean_activation", "apoz"],
)
def test_activations_after_the_next_activation(criterion, statistic):
    network, x = small_convolutional(), rng(1).normal(size=(80, 6, 6, 2)).astype("float32")
    found = measured(criterion, network, x)
    for kernel, place in (("first/kernel", "relu"), ("second/kernel", "second")):
        activations = to_numpy(keras.Model(network.input, network.get_layer(place).output)(x))
        expected = statistic(activations).mean(axis=(0, 1, 2))
        scores = criterion.unit_scores(np.zeros(found[kernel].shape), found[kernel], Channel(-1))
        np.testing.assert_allclose(scores, expected, rtol=1e-4)
        assert np.ptp(expected) > 0


def test_silent_channels_are_cut():
    network, x = small_convolutional(), rng(1).normal(size=(20, 6, 6, 2)).astype("float32")
    network.get_layer("norm").beta.assign([9.0, -9.0, 9.0, -9.0, 9.0])  # two that a ReLU stops
    kernel = to_numpy(network.get_layer("first").kernel)
    for criterion in ("apoz", "mean_activation"):
        small = kgp.shrink(
            network, sparsity=0.4, criterion=criterion, inputs=x, keep=["second"], verify=False
        )
        np.testing.assert_array_equal(
            to_numpy(small.get_layer("first").kernel), kernel[..., [0, 2, 4]]
        )


def test_activation_criteria_need_channels():
    for criterion in (MeanActivation(), APOZ()):
        with pytest.raises(InvalidArgumentError, match="use the granularity 'channel'"):
            kgp.Prune(0.5, criterion=criterion)
        with pytest.raises(InvalidArgumentError, match="a single weight has no score"):
            criterion.score(np.ones((2, 2)))


# --- SynFlow ---------------------------------------------------------------------------------------


def test_synflow_of_a_perceptron():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, "tanh"), layers.Dense(5), layers.Dense(2, "sigmoid")]
    )
    for layer in model.layers:
        layer.bias.assign(rng(3).normal(size=layer.bias.shape))
    before = [np.array(w) for w in model.get_weights()]
    a, b, c = (np.abs(w).astype(float) for w in before[::2])
    flows = [
        a * np.outer(np.ones(4), b @ c @ np.ones(2)),
        b * np.outer(np.ones(4) @ a, c @ np.ones(2)),
        c * np.outer(np.ones(4) @ a @ b, np.ones(2)),
    ]
    found = measured(SynFlow(), model)
    for slopes, weight, flow in zip(found.values(), before[::2], flows, strict=True):
        np.testing.assert_allclose(SynFlow().score(weight, slopes), flow, rtol=1e-5)
    assert len({round(flow.sum(), 6) for flow in flows}) == 1  # the flow of every layer is the same
    assert all((x == y).all() for x, y in zip(before, model.get_weights(), strict=True))
    assert model.layers[0].activation is keras.activations.tanh


@pytest.mark.full
def test_synflow_in_rounds_empties_no_layer():
    widths = [200, 200, 200, 3]
    model = keras.Sequential([keras.Input((3,)), *(layers.Dense(n, "relu") for n in widths)])
    pruner = kgp.Pruner(model, criterion="synflow", allocation="global_ranking")
    for number in range(1, 31):
        report = pruner.update(sparsity=1 - 0.005 ** (number / 30))
    assert report.achieved == pytest.approx(0.995, abs=1e-4)
    assert min(row.kept for row in report.rows) > 5


def test_synflow_needs_known_shapes_and_a_finite_flow():
    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(2, 3)])
    with pytest.raises(
        InvalidArgumentError, match=r"needs the shape of the inputs .*\(None, None, 1\)"
    ):
        kgp.Pruner(model, criterion="synflow").update(sparsity=0.5)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Dense(4), layers.Dense(4)])
    model.set_weights([w + 1e25 for w in model.get_weights()])
    with pytest.raises(DivergedError, match="exceeds the range of float32"):
        kgp.Pruner(model, criterion="synflow").update(sparsity=0.5)
    assert to_numpy(model.layers[0].kernel).min() > 0.9e25


# --- latent sensitivity ----------------------------------------------------------------------------


def test_latent_sensitivity_of_a_linear_generator():
    generator = keras.Sequential([keras.Input((3,)), layers.Dense(5)])
    weight = to_numpy(generator.layers[0].kernel).astype(float)
    z = rng(1).normal(size=(100, 3)).astype("float32")
    draw, slopes = rng(7), []
    for batch in (z[:64], z[64:]):
        for _ in range(2):
            d = 0.5 * draw.standard_normal(batch.shape)
            slopes.append(np.abs(d.T @ np.sign(d @ weight) / (len(batch) * 5)))
    criterion = LatentSensitivity(0.5, directions=2, seed=7)
    (found,) = measured(criterion, generator, z).values()
    np.testing.assert_allclose(found, np.mean(slopes, axis=0), rtol=2e-3, atol=1e-6)


def test_channels_that_ignore_the_latent_vector_go_first():
    inputs = keras.Input((4,))
    hidden = layers.Dense(6, name="hidden")(inputs)
    generator = keras.Model(inputs, layers.Dense(3)(hidden))
    kernel = rng(0).normal(size=(4, 6)) + 1.0
    kernel[:, [1, 4]] = 0.0
    generator.get_layer("hidden").set_weights([kernel, np.full(6, 9.0)])
    after = generator.layers[-1]
    after.set_weights(
        [np.where(np.arange(6)[:, None] % 3 == 1, 1e-3, 1.0) * np.ones((6, 3)), np.zeros(3)]
    )
    z = rng(2).normal(size=(64, 4))
    small = kgp.shrink(
        generator, sparsity=1 / 3, criterion="latent_sensitivity", inputs=z, verify=False
    )
    np.testing.assert_allclose(
        to_numpy(small.get_layer("hidden").kernel), kernel[:, [0, 2, 3, 5]], rtol=1e-6
    )
    with pytest.raises(InvalidArgumentError, match="perturbs the first input"):
        kgp.shrink(
            generator, sparsity=0.5, criterion="latent_sensitivity", inputs=np.ones((4, 4), int)
        )


# --- mixtures, and where the inputs come from ------------------------------------------------------


def test_a_mixture_of_measured_and_plain_scores():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    x, weight = rng(1).normal(size=(20, 4)), to_numpy(model.layers[0].kernel).astype(float)
    pruner = kgp.Pruner(model, criterion={"magnitude": 1.0, "wanda": 2.0})
    pruner.update(sparsity=0.5, calibration=x)
    wanda = np.abs(weight) * rms(x, 0)[:, None]
    scores = np.abs(weight) / np.abs(weight).mean() + 2 * wanda / wanda.mean()
    kept = np.sort(np.argsort(scores.reshape(-1))[6:])
    assert np.flatnonzero(to_numpy(pruner.weights[0].mask)).tolist() == kept.tolist()
    mix = Hybrid({"taylor": 1.0, "wanda": 1.0})
    assert (mix.needs_gradient, mix.measures, mix.batches) == (True, True, 8)
    with pytest.raises(InvalidArgumentError, match="must have the same `signed`"):
        Hybrid({"taylor": 1.0, "snip": 1.0})


class Foreign(keras.Model):
    """A GAN of a user: networks G and D, a training step of its own."""

    def __init__(self, shape=(4,)):
        super().__init__()
        self.G = keras.Sequential([keras.Input((3,)), layers.Dense(8, "relu"), layers.Dense(4)])
        self.D = keras.Sequential([keras.Input(shape), layers.Dense(8, "relu"), layers.Dense(1)])

    def call(self, x):
        return self.D(x)


@pytest.mark.full
def test_inputs_of_other_networks_are_found_by_their_shapes():
    model = Foreign()
    model.compile("sgd", "mse")
    x = rng(1).normal(size=(24, 4)).astype("float32")
    assert {"G", "D"} <= set(networks(model))
    spies = {name: spied(Wanda(batches=1)) for name in ("G", "D")}
    prunes = [
        kgp.Prune(kgp.OneShot(0.5, 2), name, criterion=spy, verbose=0, scope=["dense*"])
        for name, spy in spies.items()
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gradients do not exist")  # nothing trains G
        model.fit(x, np.zeros((24, 1)), batch_size=8, shuffle=False, verbose=0, callbacks=prunes)
    assert all(prune.report.achieved == 0.5 for prune in prunes)


def test_calibration_of_the_user():
    gan = kgp.GANModel(
        keras.Sequential([keras.Input((3,)), layers.Dense(4)]),
        keras.Sequential([keras.Input((4,)), layers.Dense(1)]),
        latent_dim=3,
    )
    gan.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0))
    z = rng(5).normal(size=(10, 3)).astype("float32") * 4
    spies = [spied(Wanda()), spied(Wanda())]
    prunes = [
        kgp.Prune(kgp.OneShot(0.5, 1), "generator", criterion=spies[0], calibration=z, verbose=0),
    ]
    gan.fit(np.zeros((12, 4), "float32"), batch_size=4, verbose=0, callbacks=prunes)
    np.testing.assert_allclose(spies[0].seen[:, 0], rms(z, 0), rtol=1e-5)
    # Without it: latent vectors, of standard deviation 1.
    prunes = [kgp.Prune(kgp.OneShot(0.5, 4), "generator", criterion=spies[1], verbose=0)]
    gan.fit(np.zeros((12, 4), "float32"), batch_size=4, epochs=2, verbose=0, callbacks=prunes)
    np.testing.assert_allclose(spies[1].seen[:, 0], 1.0, atol=0.2)


@pytest.mark.parametrize(
    ("calibration", "error", "text"),
    [
        (None, InvalidArgumentError, "Pass `calibration=`, an array of inputs"),
        (np.ones((0, 4)), DataError, "at least one"),
        (np.full((3, 4), np.nan), DataError, "finite"),
        (np.ones((3, 5)), InvalidArgumentError, r"must be inputs of 'sequential.*shapes \(3, 5\)"),
        ("images", DataError, "`calibration inputs` must be an array of real numbers"),
    ],
)
def test_wrong_calibration(calibration, error, text):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    pruner = kgp.Pruner(model, criterion="wanda")
    with pytest.raises(error, match=text):
        pruner.update(sparsity=0.5, calibration=calibration)
    assert pruner.sparsity == 0.0


def test_calibration_that_nothing_uses():
    with pytest.raises(InvalidArgumentError, match="`calibration` is not used"):
        kgp.Prune(0.5, calibration=np.ones((4, 4)))
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])
    with pytest.raises(InvalidArgumentError, match="Pass `inputs=`"):
        kgp.shrink(model, sparsity=0.5, criterion="wanda")


def test_cuts_inside_fit():
    gan = kgp.GANModel(
        keras.Sequential([keras.Input((3,)), layers.Dense(8, "relu"), layers.Dense(4)]),
        keras.Sequential([keras.Input((4,)), layers.Dense(1)]),
        latent_dim=3,
    )
    gan.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0))
    kernel = to_numpy(gan.generator.layers[0].kernel)
    quiet = [1, 6]
    gan.generator.layers[0].bias.assign(np.where(np.isin(np.arange(8), quiet), -99.0, 0.0))
    shrink = kgp.Shrink(at=2, sparsity=0.25, criterion="apoz", recalibrate=False, verbose=0)
    gan.fit(np.zeros((12, 4), "float32"), batch_size=4, verbose=0, callbacks=[shrink])
    left = [i for i in range(8) if i not in quiet]
    np.testing.assert_array_equal(to_numpy(gan.generator.layers[0].kernel), kernel[:, left])
