"""Each adversarial loss against its formula in NumPy."""

import keras
import numpy as np
import pytest
from keras import ops
from losses_of_users import Offset

import keras_ganprune as kgp
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.gan import losses

RNG = np.random.default_rng(0)
REAL = RNG.normal(0.5, 2.0, (9, 1)).astype("float32")
FAKE = RNG.normal(-0.5, 2.0, (9, 1)).astype("float32")


def softplus(x):
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0.0)


def cross_entropy(label, logits):
    """Binary cross-entropy from its definition."""
    p = 1.0 / (1.0 + np.exp(-logits.astype("float64")))
    return np.mean(-label * np.log(p) - (1.0 - label) * np.log(1.0 - p))


def relu(x):
    return np.maximum(x, 0.0)


# name: (discriminator, generator) of real and fake logits; `e` is the label smoothing
ORACLES = {
    "non_saturating": (
        lambda r, f, e: cross_entropy(1 - e, r) + cross_entropy(0, f),
        lambda r, f: cross_entropy(1, f),
    ),
    "minimax": (
        lambda r, f, e: cross_entropy(1 - e, r) + cross_entropy(0, f),
        lambda r, f: -cross_entropy(0, f),
    ),
    "hinge": (
        lambda r, f, e: np.mean(relu(1 - r)) + np.mean(relu(1 + f)),
        lambda r, f: -np.mean(f),
    ),
    "least_squares": (
        lambda r, f, e: (np.mean((r - (1 - e)) ** 2) + np.mean(f**2)) / 2,
        lambda r, f: np.mean((f - 1) ** 2) / 2,
    ),
    "wasserstein": (
        lambda r, f, e: np.mean(f) - np.mean(r),
        lambda r, f: -np.mean(f),
    ),
    "relativistic": (
        lambda r, f, e: cross_entropy(1 - e, r - f.mean()) + cross_entropy(0, f - r.mean()),
        lambda r, f: cross_entropy(1, f - r.mean()) + cross_entropy(0, r - f.mean()),
    ),
}
SMOOTHED = ["non_saturating", "minimax", "least_squares", "relativistic"]


@pytest.mark.parametrize("name", ORACLES)
def test_against_the_formula(name):
    loss = losses.get(name)
    discriminator, generator = ORACLES[name]
    got = loss.discriminator(ops.convert_to_tensor(REAL), ops.convert_to_tensor(FAKE))
    assert tuple(got.shape) == ()
    assert float(got) == pytest.approx(discriminator(REAL, FAKE, 0.0), rel=1e-5)
    got = loss.generator(ops.convert_to_tensor(FAKE), ops.convert_to_tensor(REAL))
    assert float(got) == pytest.approx(generator(REAL, FAKE), rel=1e-5)


@pytest.mark.parametrize("name", SMOOTHED)
@pytest.mark.parametrize("smoothing", [0.1, 0.3])
def test_label_smoothing(name, smoothing):
    config = {**keras.saving.serialize_keras_object(losses.get(name))}
    config["config"] = {"label_smoothing": smoothing}
    loss = losses.get(config)
    want = ORACLES[name][0](REAL, FAKE, smoothing)
    assert float(loss.discriminator(REAL, FAKE)) == pytest.approx(want, rel=1e-5)
    # One-sided: only the label of real samples is lowered.
    assert float(loss.generator(FAKE, REAL)) == pytest.approx(ORACLES[name][1](REAL, FAKE), 1e-5)


@pytest.mark.parametrize("name", ORACLES)
def test_generator_without_real_logits_only_where_the_loss_says_so(name):
    loss = losses.get(name)
    assert loss.generator_needs_real == (name == "relativistic")
    if not loss.generator_needs_real:
        assert float(loss.generator(FAKE)) == float(loss.generator(FAKE, REAL))


@pytest.mark.parametrize("name", ["non_saturating", "minimax", "relativistic"])
def test_large_logits_stay_finite(name):
    loss = losses.get(name)
    big = np.float32(1e4)
    for real, fake in ((REAL * big, FAKE * big), (-REAL * big, -FAKE * big)):
        assert np.isfinite(float(loss.discriminator(real, fake)))
        assert np.isfinite(float(loss.generator(fake, real)))


@pytest.mark.parametrize(
    ("name", "real", "fake", "expected"),
    [
        ("hinge", [1.0, -1.0, 2.0, 0.0], [-1.0, 1.0, -1.0, -1.0], (0.5, 0.75)),
        # Least squares judges at 0.5, half way between its labels.
        ("least_squares", [0.6, 0.4, 0.9, 1.1], [0.4, 0.6, -1.0, 0.0], (0.75, 0.75)),
        # Without labels: real above the mean fake (0), fake below the mean real (1).
        ("wasserstein", [4.0, -1.0, 0.5, 0.5], [2.0, -2.0, 1.5, -1.5], (0.75, 0.5)),
        ("relativistic", [4.0, -1.0, 0.5, 0.5], [2.0, -2.0, 1.5, -1.5], (0.75, 0.5)),
    ],
)
def test_accuracy(name, real, fake, expected):
    loss = losses.get(name)
    got = loss.accuracy(ops.convert_to_tensor(real), ops.convert_to_tensor(fake))
    assert tuple(map(float, got)) == expected


def test_an_instance_of_a_user_goes_through():
    loss = Offset(2.0)
    assert losses.get(loss) is loss
    assert float(loss.discriminator(REAL, FAKE)) == pytest.approx(
        FAKE.mean() - REAL.mean() + 2, rel=1e-5
    )


@pytest.mark.parametrize("name", ORACLES)
def test_config_round_trip(name):
    loss = losses.get(name)
    again = losses.get(keras.saving.serialize_keras_object(loss))
    assert again == loss and again is not loss


@pytest.mark.parametrize(
    ("identifier", "error", "match"),
    [
        ("hinj", InvalidArgumentError, "Unknown GAN loss 'hinj'. Did you mean 'hinge'"),
        ("bce", InvalidArgumentError, "Known: hinge, least_squares, minimax"),
        (None, ArgumentTypeError, "The GAN loss must be a name"),
        (3, ArgumentTypeError, "The GAN loss must be a name"),
        (losses.Hinge, ArgumentTypeError, "The GAN loss must be an instance, not a class"),
        (keras.losses.BinaryCrossentropy(), ArgumentTypeError, "The GAN loss must be a name"),
    ],
)
def test_bad_identifiers(identifier, error, match):
    with pytest.raises(error, match=match):
        losses.get(identifier)


@pytest.mark.parametrize("value", [1.0, -0.1, 90, float("nan"), True, "0.1", None])
def test_bad_smoothing(value):
    with pytest.raises(
        InvalidArgumentError, match=r"`label_smoothing` must be a fraction in \[0, 1\)"
    ):
        losses.NonSaturating(value)


def test_smoothing_of_a_loss_without_labels():
    pair = (
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]),
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]),
    )
    with pytest.raises(InvalidArgumentError, match="`label_smoothing` needs a loss with labels"):
        kgp.GANModel(*pair, latent_dim=2, loss="hinge", label_smoothing=0.1)
    gan = kgp.GANModel(*pair, latent_dim=2, label_smoothing=0.1)
    assert gan.loss_pair == losses.NonSaturating(0.1)
