"""New batch statistics: compared with NumPy, for data of every form, and nothing else changes."""

import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf
from cases import cases
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import (
    ArgumentTypeError,
    DataError,
    DivergedError,
    InvalidArgumentError,
    UnbuiltModelError,
)
from keras_ganprune.pruning.recalibration import recalibrate_batch_norm


def data(n=24, width=4, seed=0):
    scale = np.arange(1, width + 1)
    return (np.random.default_rng(seed).normal(2, 1, (n, width)) * scale).astype("float32")


def small(**options):
    """A model with two BatchNormalizations in a row."""
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3),
            layers.BatchNormalization(**options),
            layers.Activation("tanh"),
            layers.BatchNormalization(**options),
        ]
    )


def statistics(model):
    return [
        np.array(nets.value(v))
        for layer in model._flatten_layers()
        if isinstance(layer, layers.BatchNormalization)
        for v in (layer.moving_mean, layer.moving_variance)
    ]


def others(model):
    """Return copies of all variables except the statistics, by position."""
    known = {
        id(v)
        for layer in model._flatten_layers()
        if isinstance(layer, layers.BatchNormalization)
        for v in (layer.moving_mean, layer.moving_variance)
    }
    return [np.array(nets.value(v)) for v in model.variables if id(v) not in known]


def by_hand(model, batches):
    """The statistics of `small`, in NumPy: each layer normalizes by the batch."""
    kernel, bias = (nets.value(w).astype("float64") for w in model.layers[0].weights)
    found = []
    for x in batches:
        row, x = [], x @ kernel + bias
        for layer in (model.layers[1], model.layers[3]):
            mean, variance = x.mean(axis=0), x.var(axis=0)
            row += [mean, variance]
            gamma, beta = (nets.value(w) for w in (layer.gamma, layer.beta))
            x = np.tanh((x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta)
        found.append(row)
    counts = [len(x) for x in batches]
    return [np.average(np.stack(v), axis=0, weights=counts) for v in zip(*found, strict=True)]


def assert_close(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


# --- the numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.99, 0.1])
@pytest.mark.parametrize("n", [24, 20])
def test_statistics_are_averages_over_batches(momentum, n):
    model, x = small(momentum=momentum), data(n)
    for layer in (model.layers[1], model.layers[3]):
        layer.gamma.assign([0.5, 2.0, 1.5])
        layer.moving_mean.assign([9.0, 9.0, 9.0])
    before = others(model)
    assert recalibrate_batch_norm(model, x, batch_size=8) == 2
    assert_close(statistics(model), by_hand(model, np.split(x, range(8, n, 8))))
    for one, other in zip(before, others(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.layers[1].momentum == momentum
    assert "call" not in vars(model.layers[1])


def test_the_same_data_again_gives_the_same():
    model, x = small(), data()
    recalibrate_batch_norm(model, x)
    first = statistics(model)
    recalibrate_batch_norm(model, x)
    for one, other in zip(first, statistics(model), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.full
def test_it_is_what_training_converges_to():
    model = small(momentum=0.9)
    x = data(16)
    for _ in range(200):
        model(x, training=True)
    trained = statistics(model)
    recalibrate_batch_norm(model, x, batch_size=16)
    assert_close(statistics(model), trained)


def test_old_statistics_that_are_not_finite_are_mended():
    model = small()
    model.layers[1].moving_mean.assign([np.nan] * 3)
    recalibrate_batch_norm(model, data())
    assert all(np.all(np.isfinite(v)) for v in statistics(model))


def test_a_layer_that_is_called_twice_sees_both():
    norm = layers.BatchNormalization()
    a, b = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([a, b], layers.Add()([norm(a), norm(b)]))
    x, y = data(8), data(8, seed=1) + 3
    assert recalibrate_batch_norm(model, [x, y]) == 1
    mean, variance = statistics(model)
    np.testing.assert_allclose(mean, (x.mean(axis=0) + y.mean(axis=0)) / 2, rtol=1e-5)
    np.testing.assert_allclose(variance, (x.var(axis=0) + y.var(axis=0)) / 2, rtol=1e-4)


def test_images_with_channels_on_any_axis():
    x = np.random.default_rng(0).normal(1, 2, (6, 3, 4, 2)).astype("float32")
    for axis in (-1, 1):
        model = keras.Sequential([keras.Input((3, 4, 2)), layers.BatchNormalization(axis=axis)])
        recalibrate_batch_norm(model, x)
        mean, variance = statistics(model)
        axes = (0, 1, 2) if axis == -1 else (0, 2, 3)
        np.testing.assert_allclose(mean, x.mean(axis=axes), rtol=1e-5)
        np.testing.assert_allclose(variance, x.var(axis=axes), rtol=1e-5)


def test_time_steps_that_are_masked_do_not_count():
    model = keras.Sequential([keras.Input((3, 2)), layers.Masking(), layers.BatchNormalization()])
    x = np.random.default_rng(0).normal(1, 2, (6, 3, 2)).astype("float32")
    x[:, 2] = 0
    recalibrate_batch_norm(model, x)
    mean, variance = statistics(model)
    np.testing.assert_allclose(mean, x[:, :2].mean(axis=(0, 1)), rtol=1e-4)
    np.testing.assert_allclose(variance, x[:, :2].var(axis=(0, 1)), rtol=1e-4)


def test_half_precision():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, dtype="mixed_float16"),
            layers.BatchNormalization(dtype="mixed_float16"),
        ]
    )
    x = data()
    recalibrate_batch_norm(model, x, batch_size=24)
    wanted = x @ nets.value(model.layers[0].kernel)
    np.testing.assert_allclose(statistics(model)[0], wanted.mean(axis=0), rtol=1e-2, atol=2e-2)


# --- nothing else changes ------------------------------------------------------------------------


class Noisy(layers.Layer):
    """Draws random numbers also in inference, and counts its calls in a weight."""

    def build(self, shape):
        self.seeds = keras.random.SeedGenerator(1)
        self.calls = self.add_weight(shape=(), trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x + keras.random.normal(tf.shape(x), seed=self.seeds)


def test_kernels_vectors_and_seeds_stay():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.SpectralNormalization(layers.Dense(5)),
            layers.Dropout(0.5, seed=2),
            Noisy(),
            layers.BatchNormalization(),
            layers.GaussianNoise(0.5, seed=3),
        ]
    )
    model.layers[0].layer.kernel.assign(3 * model.layers[0].layer.kernel)
    before = others(model)
    assert recalibrate_batch_norm(model, data()) == 1
    for one, other in zip(before, others(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_layers_see_what_they_see_in_inference():
    model = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5), layers.BatchNormalization()])
    x = data()
    recalibrate_batch_norm(model, x, batch_size=24)
    assert_close(statistics(model), [x.mean(axis=0), x.var(axis=0)])


def test_frozen_layers_too_and_they_stay_frozen():
    model = small()
    model.trainable = False
    assert recalibrate_batch_norm(model, data(8), batch_size=8) == 2
    assert_close(statistics(model), by_hand(model, [data(8)]))
    assert not model.layers[1].trainable
    assert not model.trainable_weights


def test_a_compiled_step_sees_the_new_statistics():
    model = small()
    model.compile("sgd", "mse")
    x = data()
    before = model.predict(x, verbose=0)
    recalibrate_batch_norm(model, x)
    after = model.predict(x, verbose=0)
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, model(x), rtol=1e-4, atol=1e-5)


# --- data of every form --------------------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    def __init__(self, batches, count=None):
        super().__init__()
        self.batches, self.count = batches, count

    @property
    def num_batches(self):
        return self.count

    def __getitem__(self, i):
        return self.batches[i % len(self.batches)]


X, Y = data(), np.zeros((24, 1), "float32")
PARTS = np.split(X, 3)
FORMS = {
    "array": lambda: X,
    "double": lambda: X.astype("float64"),
    "tensor": lambda: tf.constant(X),
    "x and y": lambda: (X, Y),
    "dataset": lambda: tf.data.Dataset.from_tensor_slices(X).batch(8),
    "dataset of x and y": lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(8),
    "PyDataset": lambda: Batches([(x, Y[:8]) for x in PARTS], 3),
    "generator": lambda: (x for x in PARTS),
    "generator of x, y, weight": lambda: ((x, Y[:8], Y[:8]) for x in PARTS),
    "list of batches": lambda: PARTS,
    "list of rows": lambda: [[x, Y[:8]] for x in PARTS],
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_data(form):
    model = small()
    assert recalibrate_batch_norm(model, FORMS[form](), batch_size=8) == 2
    assert_close(statistics(model), by_hand(model, PARTS))


@cases(
    ("array", "dataset", "PyDataset", "generator", "endless"),
    "form",
    [*FORMS, "endless", "endless PyDataset"],
)
def test_steps(form):
    more = {
        "endless": lambda: tf.data.Dataset.from_tensor_slices(X).batch(8).repeat(),
        "endless PyDataset": lambda: Batches(PARTS),
    }
    model = small()
    recalibrate_batch_norm(model, {**FORMS, **more}[form](), batch_size=8, steps=2)
    assert_close(statistics(model), by_hand(model, PARTS[:2]))


def two_inputs():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    norms = [layers.BatchNormalization()(x) for x in (a, b)]
    return keras.Model([a, b], layers.Add()(norms))


TWO = {
    "list": lambda: [X, 2 * X],
    "tuple": lambda: (X, 2 * X),
    "dict": lambda: {"b": 2 * X, "a": X},
    "x and y": lambda: ([X, 2 * X], Y),
    "dataset": lambda: tf.data.Dataset.from_tensor_slices((X, 2 * X)).batch(8),
    "dataset of x and y": lambda: tf.data.Dataset.from_tensor_slices(((X, 2 * X), Y)).batch(8),
    "dataset of dicts": lambda: tf.data.Dataset.from_tensor_slices({"b": 2 * X, "a": X}).batch(8),
    "generator of lists": lambda: ([x, 2 * x] for x in PARTS),
}


@pytest.mark.parametrize("form", TWO)
def test_forms_of_data_for_two_inputs(form):
    model = two_inputs()
    assert recalibrate_batch_norm(model, TWO[form](), batch_size=8) == 2
    found = sorted(float(v[0]) for v in statistics(model)[::2])
    np.testing.assert_allclose(found, [X[:, 0].mean(), 2 * X[:, 0].mean()], rtol=1e-4)


def test_a_subclassed_model_takes_a_list_as_its_inputs():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = layers.BatchNormalization()

        def call(self, pair):
            return self.norm(pair[0] + pair[1])

    model = Two()
    model([X, X])
    assert recalibrate_batch_norm(model, [X, X]) == 1
    np.testing.assert_allclose(statistics(model)[0], 2 * X.mean(axis=0), rtol=1e-4)
    assert recalibrate_batch_norm(model, (([x, x], Y) for x in PARTS)) == 1


def test_no_batch_normalization():
    assert recalibrate_batch_norm(nets.mlp_generator(), np.zeros((4, nets.LATENT))) == 0


def test_a_layer_that_is_not_reached_keeps_its_statistics():
    class Idle(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.idle = layers.BatchNormalization(), layers.BatchNormalization()
            self.idle.build((None, 4))

        def call(self, x):
            return self.used(x)

    model = Idle()
    model(X)
    before = statistics(model)
    assert recalibrate_batch_norm(model, X) == 1
    np.testing.assert_array_equal(statistics(model)[2], before[2])
    assert not np.array_equal(statistics(model)[0], before[0])


# --- a GANModel ----------------------------------------------------------------------------------


def judge_with_norm(inputs=1):
    x = keras.Input((nets.SIZE, nets.SIZE, 1))
    y = layers.BatchNormalization(name="norm")(layers.Flatten()(x))
    label = keras.Input((3,))
    both = layers.Concatenate()([y, label]) if inputs == 2 else y
    return keras.Model([x, label] if inputs == 2 else x, layers.Dense(1)(both))


def gan_model(**options):
    options = {"ema_decay": 0.9, "seed": 4, **options}
    return kgp.GANModel(nets.dcgan_generator(), judge_with_norm(), nets.LATENT, **options)


def latents(n, seed=4):
    return np.random.default_rng(seed).standard_normal((n, nets.LATENT), dtype="float32")


def test_the_generators_of_a_gan_on_latent_vectors():
    gan = gan_model()
    for weight in gan.generator.trainable_weights:
        weight.assign(1.5 * weight)
    before, noise = statistics(gan.discriminator), np.array(nets.value(gan.noise_seed.state))
    assert recalibrate_batch_norm(gan, 64) == 4
    found = statistics(gan.generator), statistics(gan.ema_generator)
    assert not gan.ema_generator.trainable
    np.testing.assert_array_equal(nets.value(gan.noise_seed.state), noise)
    for one, other in zip(before, statistics(gan.discriminator), strict=True):
        np.testing.assert_array_equal(one, other)
    for network, wanted in zip((gan.generator, gan.ema_generator), found, strict=True):
        recalibrate_batch_norm(network, latents(64))
        assert_close(statistics(network), wanted)
    assert not np.array_equal(found[0][0], found[1][0])


@pytest.mark.full
def test_the_number_of_latent_vectors():
    gan, other = gan_model(), gan_model()
    other.generator.set_weights(gan.generator.get_weights())
    for one, options in ((gan, {}), (other, {"data": 1024})):
        recalibrate_batch_norm(one, **options)
    assert_close(statistics(gan.generator), statistics(other.generator))
    recalibrate_batch_norm(other, steps=2)
    recalibrate_batch_norm(gan, 64)
    assert_close(statistics(gan.generator), statistics(other.generator))


@pytest.mark.parametrize("form", ["array", "dataset", "generator"])
def test_the_discriminator_on_real_images(form):
    gan, x = gan_model(ema_decay=None), nets.images(24)
    made = {
        "array": lambda: x,
        "dataset": lambda: tf.data.Dataset.from_tensor_slices(x).batch(8),
        "generator": lambda: (x[i : i + 8] for i in (0, 8, 16)),
    }[form]()
    assert recalibrate_batch_norm(gan, made, batch_size=8) == 3
    flat = x.reshape(3, 8, -1)
    assert_close(
        statistics(gan.discriminator), [flat.mean(axis=(0, 1)), flat.var(axis=1).mean(axis=0)]
    )
    found = statistics(gan.generator)
    recalibrate_batch_norm(gan.generator, latents(24), batch_size=8)
    assert_close(statistics(gan.generator), found)


@pytest.mark.parametrize("judge_has_norm", [True, False])
def test_a_conditional_gan(judge_has_norm):
    generator, plain = nets.conditional_pair()
    z, label = keras.Input((nets.LATENT,)), keras.Input((3,))
    both = layers.BatchNormalization(name="norm")(layers.Concatenate()([z, label]))
    image = layers.Reshape((nets.SIZE, nets.SIZE, 1))(layers.Dense(nets.SIZE**2)(both))
    generator = keras.Model([z, label], image)
    gan = kgp.GANModel(generator, judge_with_norm(2) if judge_has_norm else plain, nets.LATENT)
    with pytest.raises(DataError, match="conditional"):
        recalibrate_batch_norm(gan, 32)
    x, y = nets.images(20), nets.labels(20)
    assert recalibrate_batch_norm(gan, (x, y)) == 1 + judge_has_norm
    mean = nets.value(generator.get_layer("norm").moving_mean)
    np.testing.assert_allclose(mean[-3:], y.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(mean[:-3], latents(20, 0).mean(axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.full
def test_in_the_middle_of_fit():
    class Recalibrate(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            recalibrate_batch_norm(self.model, 8)

    gan = gan_model(balance_frequency=0)
    gan.compile()
    history = gan.fit(nets.images(8), batch_size=4, verbose=0, callbacks=[Recalibrate()])
    assert np.isfinite(history.history["generator_loss"][0])
    found = statistics(gan.generator)
    recalibrate_batch_norm(gan, 8)
    assert_close(statistics(gan.generator), found)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["data", "weights", "later"])
def test_nan_is_refused_and_the_old_statistics_stay(where):
    model, x = small(), data()
    recalibrate_batch_norm(model, x)
    if where == "weights":
        model.layers[1].beta.assign([np.nan, 0.0, 0.0])
    else:
        x[0 if where == "data" else 20, 1] = np.nan
    before = [*statistics(model), *others(model)]
    with pytest.raises(DivergedError, match=r"not finite in batch .* old statistics were kept"):
        recalibrate_batch_norm(model, x, batch_size=8)
    for one, other in zip(before, [*statistics(model), *others(model)], strict=True):
        np.testing.assert_array_equal(one, other)
    assert "call" not in vars(model.layers[1])


def test_a_gan_keeps_all_statistics_if_one_network_has_diverged():
    gan = gan_model()
    gan.generator.weights[0].assign(gan.generator.weights[0] * np.nan)
    before = statistics(gan)
    with pytest.raises(DivergedError):
        recalibrate_batch_norm(gan, nets.images(8))
    for one, other in zip(before, statistics(gan), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "empty",
    [
        X[:0],
        [],
        iter([]),
        tf.data.Dataset.from_tensor_slices(X[:0]).batch(8),
        Batches([], 0),
    ],
)
def test_empty_data(empty):
    with pytest.raises(DataError, match="data is empty"):
        recalibrate_batch_norm(small(), empty)


@pytest.mark.parametrize(
    "endless", [tf.data.Dataset.from_tensor_slices(X).batch(8).repeat(), Batches(PARTS)]
)
def test_endless_data(endless):
    with pytest.raises(DataError, match=r"has no end. Pass `steps`"):
        recalibrate_batch_norm(small(), endless)


@pytest.mark.parametrize("wrong", [None, 32, "images"])
def test_data_of_the_wrong_kind(wrong):
    with pytest.raises(DataError, match=r"`data` must be arrays.*Received"):
        recalibrate_batch_norm(small(), wrong)


def test_inputs_of_different_lengths():
    with pytest.raises(DataError, match=r"the same number of samples. Received: \[8, 24\]"):
        recalibrate_batch_norm(two_inputs(), [X, X[:8]])


@pytest.mark.parametrize("name", ["steps", "batch_size"])
@pytest.mark.parametrize("wrong", [0, 1.5, True])
def test_numbers(name, wrong):
    with pytest.raises(InvalidArgumentError, match=f"`{name}` must be a positive int"):
        recalibrate_batch_norm(small(), X, **{name: wrong})


def test_number_of_latent_vectors_must_be_positive():
    with pytest.raises(InvalidArgumentError, match="`data` must be a positive int"):
        recalibrate_batch_norm(gan_model(), 0)


def test_unbuilt():
    model = keras.Sequential([layers.Dense(2), layers.BatchNormalization()])
    with pytest.raises(UnbuiltModelError, match="must be built before"):
        recalibrate_batch_norm(model, X)


def test_not_a_model():
    with pytest.raises(ArgumentTypeError, match="`model` must be a Keras model"):
        recalibrate_batch_norm("generator", X)
