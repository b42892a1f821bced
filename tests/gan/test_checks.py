"""Arguments, networks and data that `GANModel` refuses before the first step."""

import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.optimizers import Adam

import keras_ganprune as kgp
from keras_ganprune.errors import (
    ArgumentTypeError,
    DataError,
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
)


def gan(pair=None, **kwargs):
    return kgp.GANModel(*(pair or nets.mlp_pair()), nets.LATENT, balance_frequency=0, **kwargs)


def compiled(pair=None, **kwargs):
    model = gan(pair, **kwargs)
    # Eagerly, since these tests are about what happens before the first step.
    model.compile(run_eagerly=True)
    return model


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -3, 2.5, True, "64", None])
def test_latent_dim(value):
    with pytest.raises(
        InvalidArgumentError, match=r"`latent_dim` must be a positive int. Received:"
    ):
        kgp.GANModel(*nets.mlp_pair(), latent_dim=value)


def test_latent_dim_that_does_not_fit_the_generator():
    with pytest.raises(InvalidArgumentError, match=r"latent_dim=7, and a generator .* \(None, 6\)"):
        kgp.GANModel(*nets.mlp_pair(), latent_dim=7)


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("discriminator_steps", 0, "`discriminator_steps` must be a positive int. Received: 0"),
        ("discriminator_steps", 1.5, "`discriminator_steps` must be a positive int"),
        ("gradient_penalty", -1.0, "`gradient_penalty` must be a non-negative number"),
        ("gradient_penalty", float("nan"), "`gradient_penalty` must be a non-negative number"),
        ("r1_penalty", float("inf"), "`r1_penalty` must be a non-negative number"),
        ("r1_penalty", "10", "`r1_penalty` must be a non-negative number"),
        ("balance_frequency", -1, "`balance_frequency` must be a non-negative int"),
        ("ema_decay", 0.0, r"`ema_decay` must be None or a float in \(0, 1\)"),
        ("ema_decay", 1, r"`ema_decay` must be None or a float in \(0, 1\)"),
        ("ema_decay", 99.9, "Usual is 0.99 to 0.9999"),
        ("value_range", (1.0, -1.0), "`value_range` must be .* with low < high"),
        ("value_range", (0.0, float("nan")), "`value_range` must be .* with low < high"),
        ("value_range", 1.0, "`value_range` must be .low, high."),
        ("value_range", (0, 1, 2), "`value_range` must be .low, high."),
        ("loss", "hing", "Unknown GAN loss 'hing'. Did you mean 'hinge'"),
        ("conditional", True, "`conditional=True` does not fit networks with 1 input"),
    ],
)
def test_other_arguments(name, value, match):
    with pytest.raises(InvalidArgumentError, match=match):
        kgp.GANModel(*nets.mlp_pair(), nets.LATENT, **{name: value})


# --- networks ------------------------------------------------------------------------------------


def test_networks_of_the_wrong_kind():
    generator, discriminator = nets.mlp_pair()
    with pytest.raises(ArgumentTypeError, match=r"`generator` must be a `keras.Model`"):
        kgp.GANModel(layers.Dense(3), discriminator, nets.LATENT)
    with pytest.raises(ArgumentTypeError, match=r"`discriminator` must be a `keras.Model`"):
        kgp.GANModel(generator, "discriminator", nets.LATENT)
    with pytest.raises(ArgumentTypeError, match="Received: None"):
        kgp.GANModel(generator, None, nets.LATENT)


def test_output_shape_that_is_not_the_input_shape():
    generator = keras.Sequential([keras.Input((nets.LATENT,)), layers.Dense(10)])
    with pytest.raises(
        InvalidArgumentError, match=r"\(10,\) from the generator, \(8, 8, 1\) at the"
    ):
        gan((generator, nets.mlp_discriminator()))


def test_networks_in_the_wrong_order():
    with pytest.raises(
        InvalidArgumentError, match=r"`latent_dim` must be the length|must have the shape"
    ):
        gan(tuple(reversed(nets.mlp_pair())))


def test_only_one_of_two_takes_labels():
    generator, _ = nets.conditional_pair()
    with pytest.raises(InvalidArgumentError, match="a generator with 2 inputs and a discriminator"):
        gan((generator, nets.mlp_discriminator()))


def test_discriminator_that_returns_one_number_for_a_batch():
    x = keras.Input((8, 8, 1))
    whole = keras.Model(x, keras.ops.mean(x))
    with pytest.raises(InvalidArgumentError, match="must return logits for each image"):
        gan((nets.mlp_generator(), whole))


def test_unbuilt_networks_are_built_where_that_is_possible():
    model = compiled(nets.unbuilt_pair())
    assert all(network.built for network in (model.generator, model.discriminator))
    model.fit(nets.images(8), verbose=0)


def test_unbuilt_networks_that_cannot_be_built():
    generator, _ = nets.unbuilt_pair()
    wrong = keras.Sequential([layers.Conv2D(2, 3), layers.Conv2D(2, 9), layers.Dense(1)])
    with pytest.raises(UnbuiltModelError, match="could not be built from latent vectors of shape"):
        gan((generator, wrong))


def test_unbuilt_networks_with_labels():
    with pytest.raises(UnbuiltModelError, match="Networks that take labels must be built before"):
        gan(nets.unbuilt_pair(), conditional=True)


# --- compile -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"generator_optimizer": "adam"},
        {"discriminator_optimizer": "adam"},
        {"optimizer": "adam"},
        {"generator_optimizer": "adam", "discriminator_optimizer": "adam", "optimizer": "adam"},
    ],
)
def test_one_optimizer_is_not_enough(arguments):
    with pytest.raises(
        InvalidArgumentError, match="A GAN needs two optimizers, one for each network"
    ):
        gan().compile(**arguments)


def test_one_positional_optimizer():
    with pytest.raises(InvalidArgumentError, match=r"discriminator_optimizer=None"):
        gan().compile(Adam(1e-3))


def test_the_same_optimizer_twice():
    one = Adam(1e-3)
    with pytest.raises(InvalidArgumentError, match="need an optimizer object each"):
        gan().compile(one, one)


def test_unknown_optimizer():
    with pytest.raises(ValueError, match="adamm"):
        gan().compile("adamm", "adam")


@pytest.mark.parametrize("name", ["loss", "metrics", "loss_weights"])
def test_arguments_that_compile_does_not_take(name):
    with pytest.raises(InvalidArgumentError, match=f"`GANModel.compile` does not take {name}"):
        gan().compile("adam", "adam", **{name: "mse"})


def test_names_and_configs_are_optimizers():
    model = gan()
    model.compile("adam", keras.saving.serialize_keras_object(Adam(0.5)))
    assert float(model.discriminator_optimizer.learning_rate) == 0.5


def test_default_optimizers():
    model = compiled()
    for optimizer in (model.generator_optimizer, model.discriminator_optimizer):
        assert type(optimizer) is Adam
        assert float(optimizer.learning_rate) == pytest.approx(2e-4)
        assert optimizer.beta_1 == 0.5


def test_fit_before_compile():
    with pytest.raises(InvalidArgumentError, match=r"Call `gan.compile.* before `fit`"):
        gan().fit(nets.images())


# --- data ----------------------------------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        return self.batches[i]


def spoiled(value):
    x = nets.images()
    x[3, 2, 1] = value
    return x


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (None, "`fit` needs images. Received: None"),
        ([], "`fit` takes images as one array .* Received: a list of 0"),
        ([nets.images(4), nets.images(4)], "Received: a list of 2"),
        ((nets.images(4), nets.labels(4)), "labels as a second argument"),
        (nets.images(0), r"The data is empty. Received: shape \(0, 8, 8, 1\)"),
        (spoiled(np.nan), "Images must be finite. Received: 1 NaN or infinite value"),
        (spoiled(np.inf), "Images must be finite. Received: 1 NaN or infinite value"),
        (spoiled(-np.inf), "np.nan_to_num"),
        (nets.images(4)[..., 0], r"Images must have the shape .* Received: \(8, 8\)"),
        (np.zeros((4, 28, 28, 1), "float32"), r"the generator makes, \(8, 8, 1\). Received"),
        (np.full((4, 8, 8, 1), "a"), "Images must be numbers. Received: dtype <U1"),
        (Batches(), "the PyDataset has no batch"),
        (Batches(spoiled(np.nan)), r"32 values|\(in the first batch\)"),
        (Batches(nets.images(4)[:, :4]), r"Received: \(4, 8, 1\) \(in the first batch\)"),
    ],
)
def test_bad_data(x, match):
    model = compiled()
    before = model.get_weights()
    with pytest.raises(DataError, match=match):
        model.fit(x, verbose=0)
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_bad_tf_data():
    data = tf.data.Dataset.from_tensor_slices(nets.images(8)).batch(4)
    with pytest.raises(DataError, match=r"the tf.data.Dataset has no batch"):
        compiled().fit(data.take(0), verbose=0)
    with pytest.raises(DataError, match=r"Images must be finite.*\(in the first batch\)"):
        compiled().fit(data.map(lambda x: x / 0.0), verbose=0)


@pytest.mark.parametrize("low_high", [(0, 255), (-1.0, 2.0), (-3.0, 0.0)])
def test_images_outside_the_expected_range(low_high):
    x = np.random.default_rng(0).uniform(*low_high, (8, 8, 8, 1)).astype("float32")
    with pytest.warns(PruningWarning, match=r"outside the expected \[-1, 1\].*x / 127.5 - 1"):
        compiled().fit(x, verbose=0)


def test_eight_bit_images_are_trained_on_with_a_warning():
    x = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), dtype="uint8")
    model = compiled()
    with pytest.warns(PruningWarning, match="outside the expected"):
        history = model.fit(x, verbose=0).history
    assert np.isfinite(history["discriminator_loss"]).all()


@pytest.mark.parametrize("value_range", [None, (0, 255)])
def test_value_range_is_taken_from_the_argument(value_range):
    x = np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 1)).astype("float32")
    compiled(value_range=value_range).fit(x, verbose=0)


def test_a_value_a_hair_outside_is_no_reason_to_warn():
    compiled().fit(nets.images(8) * 1.01, verbose=0)


def test_missing_labels():
    with pytest.raises(DataError, match="the data has no labels"):
        compiled(nets.conditional_pair()).fit(nets.images(), verbose=0)
    with pytest.raises(DataError, match="the data has no labels"):
        compiled(nets.conditional_pair()).fit(Batches(nets.images(4)), verbose=0)


def test_surplus_labels():
    with pytest.raises(DataError, match="The data has labels, but the networks take none"):
        compiled().fit(nets.images(), nets.labels(), verbose=0)
    with pytest.raises(DataError, match="The data has labels, but the networks take none"):
        compiled().fit(Batches((nets.images(4), nets.labels(4))), verbose=0)


def test_sample_weights():
    with pytest.raises(DataError, match="A GAN cannot use sample weights"):
        compiled(nets.conditional_pair()).fit(
            Batches((nets.images(4), nets.labels(4), np.ones(4))), verbose=0
        )


def test_more_images_than_labels():
    with pytest.raises(DataError, match="Received: 32 images, 30 labels"):
        compiled(nets.conditional_pair()).fit(nets.images(), nets.labels(30), verbose=0)


# --- generate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, -1, 2.0, True, None])
def test_number_of_images(n):
    with pytest.raises(InvalidArgumentError, match="`n` must be a positive int"):
        gan().generate(n)


def test_labels_of_generate():
    with pytest.raises(DataError, match="The networks take no labels"):
        gan().generate(2, labels=nets.labels(2))
    model = gan(nets.conditional_pair())
    with pytest.raises(DataError, match="pass `labels`, one for each of the 3 images"):
        model.generate(3)
    with pytest.raises(
        DataError, match=r"one label for each of the 3 images. Received: shape \(2, 3\)"
    ):
        model.generate(3, labels=nets.labels(2))
    with pytest.raises(DataError, match=r"Received: shape \(\)"):
        model.generate(3, labels=1)
