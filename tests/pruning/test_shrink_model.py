"""`shrink`: whole architectures, what it returns, what it leaves alone and how many channels stay."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from architectures import APPLICATIONS, ARCHITECTURES, sample_inputs, shake, train_briefly
from keras import layers, ops
from shrunk_models import (
    BATCH,
    all_layers,
    assert_loads_anywhere,
    assert_plain,
    assert_same,
    assert_trains,
    count_left,
    noise_batch,
    outputs,
    random_weights,
    residual_mlp,
    small_mlp,
    train_one_step,
    unmask,
)

import keras_ganprune as kgp
from keras_ganprune.errors import (
    ArgumentTypeError,
    InvalidArgumentError,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.pruning.shrink_model import shrink_with_cuts
from keras_ganprune.pruning.structured.rebuild import Builder

SPARSITIES = (0.3, 0.5, 0.8)
# LayerNormalization averages over all channels, so that all of them stay.
SHRINKABLE = [name for name in ARCHITECTURES if name != "wgan_gp_critic_layernorm"]


# --- whole architectures -------------------------------------------------------------------------


# One of each kind by default: transposed convolutions, a nested or subclassed network.
FAST = ("dcgan_generator", "subclassed_discriminator")


@pytest.mark.parametrize(
    "name",
    [n if n in FAST else pytest.param(n, marks=pytest.mark.full) for n in SHRINKABLE],
)
def test_architectures_shrink_to_what_the_masks_say(name, tmp_path):
    model = train_briefly(ARCHITECTURES[name]())
    x = sample_inputs(model, batch=BATCH, seed=5)
    shapes = [tuple(y.shape) for y in outputs(model, x)]
    trained = model.get_weights()
    for criterion in (kgp.Random(seed=1), "magnitude"):
        pruner = kgp.Pruner(model, granularity="channel", criterion=criterion)
        size = model.count_params()
        for sparsity in SPARSITIES:
            pruner.update(sparsity=sparsity)
            if criterion == "magnitude" and sparsity == 0.5:
                train_one_step(model)
            # Here the comparison of `verify` is repeated on other inputs, with a lower tolerance.
            small = kgp.shrink(model, verify=False)
            assert_same(model, small, x)
            assert [y.shape for y in outputs(small, x)] == shapes
            assert small.count_params() == count_left(model) < size
            size = small.count_params()
            if sparsity == 0.8:
                assert_plain(small)
        unmask(model, trained)
    assert_loads_anywhere(small, x, tmp_path / "small.keras")
    assert_trains(small)


def test_a_critic_with_layer_normalization_keeps_all_channels():
    model = ARCHITECTURES["wgan_gp_critic_layernorm"]()
    reason = r"all channels stay, because 'layer_normalization\w*' \(LayerNormalization\) averages over all"
    with pytest.raises(InvalidArgumentError, match=rf"has nothing to prune:\n(.|\n)*{reason}"):
        kgp.Pruner(model, granularity="channel")
    with pytest.raises(
        InvalidArgumentError, match=rf"no channels that could be removed:\n.*{reason}"
    ):
        kgp.shrink(model, sparsity=0.5)


def _statistics_of_a_batch(model):
    """Give batch normalizations the statistics of the pruned network.

    With those of the dense one an output hardly depends on the input any more.
    """
    found = [x for x in all_layers(model) if isinstance(x, layers.BatchNormalization)]
    momenta = [layer.momentum for layer in found]
    for layer in found:
        layer.momentum = 0.0
    model(sample_inputs(model, batch=64), training=True)
    for layer, momentum in zip(found, momenta, strict=True):
        layer.momentum = momentum


def _applications():
    for name in APPLICATIONS:
        for criterion in ("magnitude", "random"):
            for sparsity in SPARSITIES:
                yield name, criterion, sparsity


@pytest.fixture
def in_float64():
    policy = keras.config.dtype_policy().name
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(policy)


@pytest.mark.full
@pytest.mark.parametrize("name, criterion, sparsity", list(_applications()))
def test_applications_shrink_to_what_the_masks_say(name, criterion, sparsity, in_float64):
    # Shaken, not trained: after a few large steps, the outputs of such deep networks no longer depend
    # on their inputs. And without the softmax, which would hide the rest. In float32, fifty layers
    # make 1e-5 of rounding alone; in float64 it is 1e-14, so that nothing can hide behind it.
    model = APPLICATIONS[name]()
    model.layers[-1].activation = keras.activations.linear
    shake(model)
    kgp.Pruner(model, granularity="channel", criterion=criterion).update(sparsity=sparsity)
    _statistics_of_a_batch(model)
    small = kgp.shrink(model, verify=False)
    x = sample_inputs(model, batch=BATCH, seed=5)
    assert_same(model, small, x, tolerance=1e-11, spread=0.1)
    assert small.count_params() == count_left(model) < model.count_params()
    assert_plain(small)


@pytest.mark.parametrize(
    "name",
    [
        "dcgan_generator",
        "sngan_discriminator",
        "acgan_discriminator",
        "subclassed_generator",
        "text_generator",
        "cgan_concat_generator",
    ],
)
@pytest.mark.full
def test_what_is_small_exports(name, tmp_path):
    model = shake(ARCHITECTURES[name]())
    small = kgp.shrink(model, sparsity=0.5)
    x = sample_inputs(model, batch=BATCH)
    kgp.export_saved_model(small, tmp_path / "small")
    loaded = tf.saved_model.load(str(tmp_path / "small"))
    # Converted as by `predict`: a SavedModel takes no NumPy arrays for inputs with names.
    served = loaded.serve(keras.tree.map_structure(tf.constant, x))
    for expected, actual in zip(outputs(small, x), keras.tree.flatten(served), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    stored = next((tmp_path / "small" / "variables").glob("*.data*")).stat().st_size
    assert stored < 0.75 * 4 * model.count_params()


# --- the direct way ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "dcgan_generator",
        pytest.param("sngan_discriminator", marks=pytest.mark.full),
        pytest.param("adain_generator", marks=pytest.mark.full),
        pytest.param("subclassed_generator", marks=pytest.mark.full),
    ],
)
def test_the_direct_way_leaves_the_model_alone(name):
    model = shake(ARCHITECTURES[name]())
    x = sample_inputs(model, batch=BATCH)
    before = outputs(model, x)
    values = model.get_weights()
    classes = [type(layer) for layer in all_layers(model)]
    constraints = [w.constraint for w in model.trainable_variables]
    nodes = [len(layer._inbound_nodes) for layer in all_layers(model)]

    result = shrink_with_cuts(model, sparsity=0.5)

    assert all(np.array_equal(a, b) for a, b in zip(values, model.get_weights(), strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(before, outputs(model, x), strict=True))
    assert [type(layer) for layer in all_layers(model)] == classes
    assert [w.constraint for w in model.trainable_variables] == constraints
    assert [len(layer._inbound_nodes) for layer in all_layers(model)] == nodes
    if isinstance(model, keras.Sequential):
        assert model.layers[0].output.shape[0] is None  # raises if the layer was called twice
    # And the same channels, masked by hand in the model itself, give the same outputs.
    for variable, masked in result.groups.masked_values(result.keeps).values():
        variable.assign(masked)
    assert_same(model, result.model, x)


def test_the_direct_way_is_that_of_the_pruner():
    model = shake(ARCHITECTURES["dcgan_generator"]())
    small = kgp.shrink(
        model, sparsity=0.5, criterion="l2", granularity=kgp.Channel(aggregate="max")
    )
    pruner = kgp.Pruner(model, criterion="l2", granularity=kgp.Channel(aggregate="max"))
    pruner.update(sparsity=0.5)
    again = kgp.shrink(model)
    shapes = [w.shape for w in small.weights]
    assert shapes == [w.shape for w in again.weights]
    assert_same(small, again, sample_inputs(model, batch=BATCH))


def test_a_sequential_model_stays_one_and_names_stay():
    model = shake(ARCHITECTURES["dcgan_generator"]())
    small = kgp.shrink(model, sparsity=0.5)
    assert type(small) is keras.Sequential
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
    assert [type(layer) for layer in small.layers] == [type(layer) for layer in model.layers]
    assert small.name == model.name
    acgan = shake(ARCHITECTURES["acgan_discriminator"]())
    assert kgp.shrink(acgan, sparsity=0.5).output_names == acgan.output_names


def test_structures_and_settings_stay():
    z, w = keras.Input((5,), name="z"), keras.Input((4,), name="w")
    x = layers.Dense(8, kernel_constraint="non_neg", kernel_regularizer="l2", name="first")(z)
    frozen = layers.BatchNormalization(trainable=False, name="norm")
    y = layers.Dense(3, name="left")(frozen(x))
    model = keras.Model(
        {"z": z, "w": w}, {"out": y, "other": layers.Dense(2, name="right")(layers.Dense(6)(w))}
    )
    kgp.Pruner(random_weights(model), granularity="channel").update(sparsity=0.5)
    small = kgp.shrink(model)
    arrays = {"z": noise_batch(5), "w": noise_batch(4)}
    assert set(small(arrays)) == {"out", "other"}
    assert_same(model, small, arrays)
    first = small.get_layer("first")
    assert first.units == 4
    assert isinstance(first.kernel.constraint, keras.constraints.NonNeg)
    assert isinstance(first.kernel_regularizer, keras.regularizers.L2)
    assert not small.get_layer("norm").trainable
    assert sorted(small.output_names) == sorted(model.output_names)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        norm = layers.BatchNormalization()
        head = layers.Dense(2, dtype="float32")
        model = keras.Sequential([keras.Input((5,)), layers.Dense(8, "relu"), norm, head])
    finally:
        keras.config.set_dtype_policy("float32")
    small = kgp.shrink(random_weights(model), sparsity=0.5)
    assert [layer.dtype_policy.name for layer in small.layers] == ["mixed_float16"] * 2 + [
        "float32"
    ]
    assert {w.dtype for w in small.weights} == {"float32"}
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    assert_same(model, small, noise_batch(5), tolerance=1e-2)  # half precision


# --- kept layers ---------------------------------------------------------------------------------


def test_keep_by_name_class_and_list():
    model = small_mlp()
    for keep, units in (
        ("a", [8, 3]),
        (["a", "b"], None),
        (layers.Dense, None),
        (model.layers[1], [4, 6]),
        ("*b", [4, 6]),
        (lambda layer: layer.name == "a", [8, 3]),
        ([], [4, 3]),
        (None, [4, 3]),
    ):
        if units is None:
            with pytest.raises(InvalidArgumentError, match="no channels that could be removed"):
                kgp.shrink(model, sparsity=0.5, keep=keep)
            continue
        small = kgp.shrink(model, sparsity=0.5, keep=keep)
        assert [layer.units for layer in small.layers] == [*units, 2]
    with pytest.raises(InvalidArgumentError, match=r"Unknown layer.*'aa'"):
        kgp.shrink(model, sparsity=0.5, keep="aa")


# --- sharing, nesting, inputs --------------------------------------------------------------------


def test_a_shared_layer_and_a_nested_model_are_cut_once():
    model = shake(ARCHITECTURES["nested_generator"]())
    kgp.Pruner(model, granularity="channel", criterion="random").update(sparsity=0.5)
    small = kgp.shrink(model)
    names = [layer.name for layer in small.layers]
    assert len(names) == len(set(names)) and not any(
        isinstance(x, keras.Model) for x in small.layers
    )
    twice = [layer for layer in small.layers if len(layer._inbound_nodes) == 2]
    assert sum(isinstance(layer, layers.Conv2D) for layer in twice) == 2  # those of `refine`
    assert_same(model, small, sample_inputs(model, batch=BATCH))


@pytest.mark.parametrize("kind", ["reshape", "group_normalization"])
def test_a_shared_layer_without_weights_fits_each_of_its_calls(kind):
    noise = keras.Input((5,))
    if kind == "reshape":
        shared = layers.Reshape((2, 2, 8))
        a, b = (shared(layers.Dense(32)(noise)) for _ in range(2))
    else:
        shared = layers.GroupNormalization(4, scale=False, center=False)
        image = layers.Reshape((2, 2, 4))(layers.Dense(16)(noise))
        a, b = (shared(layers.Conv2D(8, 1)(image)) for _ in range(2))
    heads = [layers.Conv2D(2, 1)(x) for x in (a, b)]
    model = random_weights(keras.Model(noise, heads))
    groups = kgp.channel_groups(model)
    keeps = [np.ones(group.size, dtype=bool) for group in groups]
    keeps[-2][1:] = (
        False  # the first call has a half or an eighth of its channels, the second one all
    )
    small, _ = Builder(groups, keeps).build()
    for variable, masked in groups.masked_values(keeps).values():
        variable.assign(masked)
    assert_same(model, small, noise_batch(5))


class TwoInputs(keras.Model):
    def __init__(self):
        super().__init__()
        self.noise, self.label = layers.Dense(8), layers.Embedding(4, 8)
        self.head = layers.Dense(2)

    def call(self, inputs):
        noise, label = inputs
        return self.head(ops.tanh(self.noise(noise) + self.label(label)))


class TwoArguments(TwoInputs):
    def call(self, noise, label):
        return super().call([noise, label])


def _label():
    return np.random.default_rng(1).integers(0, 4, (BATCH,), dtype="int32")


def test_a_subclassed_model_with_two_inputs():
    model = TwoInputs()
    x = [noise_batch(5), _label()]
    model(x)
    kgp.Pruner(random_weights(model), granularity="channel").update(sparsity=0.5)
    inputs = [keras.Input((5,)), keras.Input((), dtype="int32")]
    for given in (None, inputs):
        small = kgp.shrink(model, inputs=given)
        assert small.count_params() == 5 * 4 + 4 + 4 * 4 + 4 * 2 + 2
        assert_same(model, small, x)
    assert small.inputs[1].dtype == "int32"


def test_a_subclassed_model_with_two_arguments():
    model = TwoArguments()
    model(noise_batch(5), _label())
    random_weights(model)
    symbols = [keras.Input((5,)), keras.Input((), dtype="int32")]
    both = (noise_batch(5), _label())
    for inputs in (None, symbols, tuple(symbols), both, list(both)):
        small = kgp.shrink(model, sparsity=0.5, inputs=inputs)
        assert small.count_params() == 5 * 4 + 4 + 4 * 4 + 4 * 2 + 2
        assert small.inputs[1].shape == (None,)
        assert small.inputs[1].dtype == ("float32" if inputs is None else "int32")


class TimesMean(TwoInputs):
    """Any shape of the second argument will do."""

    def call(self, noise, label):
        return super().call([noise, ops.zeros_like(noise[:, 0], "int32")]) * ops.mean(label)


def test_models_whose_inputs_are_not_known():
    unbuilt = keras.Sequential([layers.Dense(8), layers.Dense(2)])
    with pytest.raises(UnbuiltModelError, match=r"must be built.*Call it once on a batch first"):
        kgp.shrink(unbuilt, sparsity=0.5)
    with pytest.raises(InvalidArgumentError, match="`inputs` must fit the inputs of"):
        kgp.shrink(small_mlp(), sparsity=0.5, inputs=[keras.Input((6,))])
    two = TimesMean()
    two(noise_batch(5), ops.cast(_label(), "float32"))
    with pytest.raises(
        UnbuiltModelError, match=r"takes `noise` and `label`.*inputs=\(noise, label"
    ):
        kgp.shrink(two, sparsity=0.5)
    with pytest.raises(ArgumentTypeError, match="must be a Keras 3 model or layer"):
        kgp.shrink("model.keras", sparsity=0.5)


def test_a_gan_is_two_networks():
    critic = keras.Sequential([keras.Input((2,)), layers.Dense(4), layers.Dense(1)])
    gan = kgp.GANModel(small_mlp(), critic, latent_dim=5)
    with pytest.raises(UnsupportedLayerError, match=r"holds two networks.*shrink\(gan.generator\)"):
        kgp.shrink(gan, sparsity=0.5)
    assert kgp.shrink(gan.generator, sparsity=0.5).count_params() < gan.generator.count_params()


# --- how many stay -------------------------------------------------------------------------------


def test_channels_in_multiples():
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(32), layers.Dense(24), layers.Dense(8), layers.Dense(2)]
    )
    small = kgp.shrink(random_weights(model), sparsity=0.6, granularity=kgp.Channel(round_to=8))
    # 12.8 -> 8 or 16, 9.6 -> 8, 3.2 -> the least there is, 8
    units = [layer.units for layer in small.layers]
    assert units == [16, 8, 8, 2]
    kgp.Pruner(model, granularity=kgp.Channel(round_to=8)).update(sparsity=0.6)
    again = kgp.shrink(model)
    assert [layer.units for layer in again.layers] == units
    assert_same(small, again, noise_batch(5))


def test_at_least_so_many_stay():
    small = kgp.shrink(small_mlp(), sparsity=0.9, allocation=kgp.Uniform(minimum=4))
    assert [layer.units for layer in small.layers] == [4, 4, 2]
    small = kgp.shrink(small_mlp(), sparsity=0.99)
    assert [layer.units for layer in small.layers] == [1, 1, 2]


def test_one_ranking_over_all_groups():
    model = small_mlp()
    model.layers[1].kernel.assign(model.layers[1].kernel * 100)
    small = kgp.shrink(model, sparsity=0.5, allocation="global_ranking")
    assert [layer.units for layer in small.layers] == [1, 6, 2]  # 7 of 14, and one at least


def test_a_sparsity_for_each_layer():
    # 7 of 14 channels go: 2 of the 8 that are named, so 5 of the others.
    small = kgp.shrink(small_mlp(), sparsity=0.5, allocation={"a": 0.25})
    assert [layer.units for layer in small.layers] == [6, 1, 2]
    with pytest.raises(InvalidArgumentError, match=r"give a total of 0\.3571, which is not"):
        kgp.shrink(small_mlp(), sparsity=0.5, allocation={"a": 0.25, "b": 0.5})
    with pytest.raises(InvalidArgumentError, match="'nowhere'"):
        kgp.shrink(small_mlp(), sparsity=0.5, allocation={"nowhere": 0.25, "*": 0.5})


# --- groups to look at ---------------------------------------------------------------------------


def test_the_groups_of_a_generator():
    keras.backend.clear_session()
    assert repr(kgp.channel_groups(ARCHITECTURES["dcgan_generator"]())) == (
        """\
dense: 16 channels
  out   dense/kernel axis 1, 16 for each
  along batch_normalization/gamma axis 0, 16 for each
  along batch_normalization/beta axis 0, 16 for each
  mean  batch_normalization/moving_mean axis 0, 16 for each
  state batch_normalization/moving_variance axis 0, 16 for each
  in    conv2d_transpose/kernel axis 3
conv2d_transpose: 16 channels
  out   conv2d_transpose/kernel axis 2
  along batch_normalization_1/gamma axis 0
  along batch_normalization_1/beta axis 0
  mean  batch_normalization_1/moving_mean axis 0
  state batch_normalization_1/moving_variance axis 0
  in    conv2d_transpose_1/kernel axis 3
conv2d_transpose_1: 8 channels
  out   conv2d_transpose_1/kernel axis 2
  along batch_normalization_2/gamma axis 0
  along batch_normalization_2/beta axis 0
  mean  batch_normalization_2/moving_mean axis 0
  state batch_normalization_2/moving_variance axis 0
  in    conv2d_transpose_2/kernel axis 3
conv2d_transpose_2: all channels stay, because they are those of the network's output."""
    )


def test_the_groups_of_a_residual_network():
    groups = kgp.channel_groups(residual_mlp())
    assert repr(groups) == (
        """\
first: 8 channels
  out   first/kernel axis 1
  along first/bias axis 0
  in    inner/kernel axis 0
  out   last/kernel axis 1
  along last/bias axis 0
  in    head/kernel axis 0
inner: 6 channels
  out   inner/kernel axis 1
  along inner/bias axis 0
  in    last/kernel axis 0
head: all channels stay, because they are those of the network's output."""
    )
    assert len(groups) == 2 and groups.size == 14
    assert groups[0].makers == ["first/kernel", "last/kernel"]


@pytest.mark.parametrize(
    "quantity",
    ["macs", *(pytest.param(name, marks=pytest.mark.full) for name in ("parameters", "bytes"))],
)
def test_a_sparsity_may_be_a_share_of_the_cost(quantity):
    model = ARCHITECTURES["dcgan_generator"]()
    one = kgp.shrink(model, sparsity=0.5, granularity=kgp.Channel(of=quantity))
    other = kgp.shrink(model, budget=kgp.Budget(**{quantity: 0.5}))
    channels = kgp.shrink(model, sparsity=0.5)
    assert [w.shape for w in one.weights] == [w.shape for w in other.weights]
    assert [w.shape for w in one.weights] != [w.shape for w in channels.weights]
