"""`ImageToImageGAN`: its steps against NumPy, forms of data, files, pruning, and what it refuses."""

import keras
import networks as nets
import numpy as np
import pytest
from keras import layers
from keras.optimizers import SGD

import keras_ganprune as kgp
from keras_ganprune.cli import main
from keras_ganprune.errors import (
    ArgumentTypeError,
    DataError,
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.metrics import psnr

SIDE, CLASSES = 8, 3
SHAPE = (SIDE, SIDE, 1)


# --- networks and data ---------------------------------------------------------------------------


def inputs_of(kind):
    made = {
        "image": keras.Input(SHAPE, name="image"),
        "mask": keras.Input(SHAPE, name="mask"),
        "label": keras.Input((), dtype="int32", name="label"),
    }
    return [made[name] for name in kind.split()]


def joined(inputs):
    maps = [x for x in inputs if len(x.shape) == 4]
    for label in [x for x in inputs if len(x.shape) < 4]:
        row = layers.Dense(SIDE**2)(layers.Embedding(CLASSES, 4)(label))
        maps.append(layers.Reshape(SHAPE)(row))
    return layers.Concatenate()(maps) if len(maps) > 1 else maps[0]


def unet(kind="image mask", channels=6, norm=False, known=False, form=list):
    inputs = inputs_of(kind)
    top = layers.Conv2D(channels, 3, padding="same", activation="relu", name="top")(joined(inputs))
    x = layers.Conv2D(2 * channels, 3, 2, padding="same", activation="relu", name="down")(top)
    x = layers.BatchNormalization(name="norm")(x) if norm else x
    x = layers.Conv2DTranspose(channels, 4, 2, padding="same", activation="relu", name="up")(x)
    x = layers.Concatenate()([top, x])
    x = layers.Conv2D(1, 3, padding="same", activation="tanh", name="image_out")(x)
    if known:
        x = kgp.keep_known_pixels(x, *inputs[:2])
    return keras.Model(form(inputs), x, name="unet")


def patches(kind="image mask"):
    """A discriminator that returns four logits for each image."""
    inputs = [*(inputs_of(kind) if kind else []), keras.Input(SHAPE, name="result")]
    x = layers.Conv2D(6, 3, 2, padding="same", name="look")(joined(inputs))
    x = layers.LeakyReLU(0.2)(x)
    x = layers.Conv2D(1, 3, 2, padding="same", name="logits")(x)
    return keras.Model(inputs if kind else inputs[0], x, name="patches")


def pair(kind="image mask", sees="image mask", **options):
    keras.utils.set_random_seed(0)
    return unet(kind, **options), patches(sees)


def data(kind="image mask", n=8):
    """Return (inputs, targets): images with holes, masks and labels as far as they are asked for."""
    rng = np.random.default_rng(3)
    targets = rng.uniform(-1, 1, (n, *SHAPE)).astype("float32")
    masks = (rng.random((n, *SHAPE)) > 0.4).astype("float32")
    made = {"image": targets * masks, "mask": masks, "label": np.arange(n) % CLASSES}
    arrays = tuple(made[name] for name in kind.split())
    return (arrays if len(arrays) > 1 else arrays[0]), targets


def compiled(networks=None, metrics=None, eager=False, **options):
    gan = kgp.ImageToImageGAN(*(networks or pair()), seed=1, **{"balance_frequency": 0, **options})
    gan.compile(
        keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3), metrics=metrics, run_eagerly=eager
    )
    return gan


def fit(gan, x, y=None, *callbacks, epochs=1, **options):
    options = {"batch_size": 4, "shuffle": False, "verbose": 0, **options}
    return gan.fit(x, y, epochs=epochs, callbacks=[*callbacks], **options).history


def assert_same_weights(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- the step ------------------------------------------------------------------------------------


def linear_pair():
    """G(x, m) = a x + b m in each pixel, and D(x, m, y) = a sum of weighted pixels."""
    keras.utils.set_random_seed(0)
    inputs = inputs_of("image mask")
    generated = layers.Conv2D(1, 1, use_bias=False)(layers.Concatenate()(inputs))
    seen = [*inputs_of("image mask"), keras.Input(SHAPE)]
    flat = layers.Concatenate()([layers.Flatten()(x) for x in seen])
    return keras.Model(inputs, generated), keras.Model(seen, layers.Dense(1, use_bias=False)(flat))


def test_one_step_against_numpy():
    """Least squares, half its weight, and L1 and L2: all gradients can be written down."""
    (x, m), y = data()
    rate, weight, l1, l2 = 0.1, 0.5, 3.0, 2.0
    gan = kgp.ImageToImageGAN(
        *linear_pair(),
        "least_squares",
        reconstruction=[l1, kgp.L2Loss(l2)],
        adversarial_weight=weight,
        balance_frequency=0,
    )
    gan.compile(SGD(rate), SGD(rate), run_eagerly=True)
    a, b = gan.generator.get_weights()[0].ravel()
    w = gan.discriminator.get_weights()[0][:, 0]
    logs = fit(gan, (x, m), y, batch_size=8)

    rows = [array.reshape(8, -1) for array in (x, m, y)]
    fake = a * rows[0] + b * rows[1]
    seen_real, seen_fake = np.hstack(rows), np.hstack([*rows[:2], fake])
    w = w - rate * (seen_real.T @ (seen_real @ w - 1) + seen_fake.T @ (seen_fake @ w)) / 8
    np.testing.assert_allclose(gan.discriminator.get_weights()[0][:, 0], w, rtol=1e-4, atol=1e-6)

    error, logits = fake - rows[2], seen_fake @ w
    by_pixel = weight * (logits - 1)[:, None] * w[-(SIDE**2) :] / 8
    by_pixel = by_pixel + (l1 * np.sign(error) + 2 * l2 * error) / error.size
    expected = [c - rate * np.sum(by_pixel * rows[i]) for i, c in enumerate((a, b))]
    np.testing.assert_allclose(gan.generator.get_weights()[0].ravel(), expected, rtol=1e-4)
    # What is minimised is the sum of the logs.
    reconstruction = l1 * np.mean(abs(error)) + l2 * np.mean(error**2)
    assert logs["reconstruction_loss"][0] == pytest.approx(reconstruction, rel=1e-4)
    adversarial = weight * np.mean((logits - 1) ** 2) / 2
    assert logs["generator_loss"][0] == pytest.approx(adversarial, rel=1e-4)


@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1_penalty"])
def test_penalties_are_of_the_slope_at_the_result_alone(penalty):
    x, y = data()
    gan = kgp.ImageToImageGAN(*linear_pair(), "wasserstein", balance_frequency=0, **{penalty: 10.0})
    gan.compile(SGD(0.0), SGD(0.0), run_eagerly=True)
    w = gan.discriminator.get_weights()[0][:, 0]
    logs = fit(gan, x, y, batch_size=8)
    slope = float(np.sum(w[-(SIDE**2) :] ** 2))
    expected = 10 * (slope**0.5 - 1) ** 2 if penalty == "gradient_penalty" else 5 * slope
    plain = gan.evaluate(x, y, verbose=0, return_dict=True)["discriminator_loss"]
    assert logs["discriminator_loss"][0] - plain == pytest.approx(expected, rel=1e-3)


EVERYTHING = {
    "ema_decay": 0.9,
    "balance_frequency": 1,
    "discriminator_steps": 2,
    "gradient_penalty": 1.0,
    "r1_penalty": 1.0,
    "augmentation": kgp.DiffAugment(),
    "reconstruction": ["l1", "l2", "perceptual"],
}
KINDS = [
    ("image", ""),
    ("image", "image"),
    ("image mask", "image"),
    ("image label", "image label"),
    ("image mask label", "image mask label"),
]


@pytest.mark.parametrize(
    ("kind", "sees", "loss"),
    [
        pytest.param(*KINDS[i], loss, marks=pytest.mark.full if i in (0, 2, 3) else [])
        for i, loss in enumerate(
            ["hinge", "wasserstein", "relativistic", "non_saturating", "least_squares"]
        )
    ],
)
def test_every_kind_of_inputs_with_every_part(kind, sees, loss):
    x, y = data(kind)
    gan = compiled(
        pair(kind, sees),
        ["psnr", "mae"],
        loss=loss,
        teacher=unet(kind),
        distillation=kgp.Distillation(1.0, 1.0),
        **EVERYTHING,
    )
    before = [np.array(w) for w in gan.discriminator.get_weights()]
    logs = fit(gan, x, y, validation_data=(x, y))
    assert all(np.isfinite(values).all() for values in logs.values())
    common = ["generator_loss", "discriminator_loss", "reconstruction_loss", "psnr", "mae"]
    assert {*common, *(f"val_{name}" for name in common)} <= set(logs)
    assert {"balance_ratio", "distillation_loss", "discriminator_fake_accuracy"} <= set(logs)
    assert any((a != b).any() for a, b in zip(before, gan.discriminator.get_weights(), strict=True))
    assert np.isfinite(float(gan.adversarial_loss((x, y))))
    # What is used afterwards is the average.
    images = gan.generate(x, batch_size=3)
    expected = nets.value(gan.ema_generator(list(x) if isinstance(x, tuple) else x))
    np.testing.assert_allclose(images, expected, atol=1e-6)
    np.testing.assert_allclose(gan.predict(x, verbose=0), expected, atol=1e-6)
    # So is what validation measures.
    assert logs["val_psnr"][0] == pytest.approx(float(np.mean(psnr(images, y))), rel=1e-4)


def test_without_the_adversarial_loss_the_discriminator_is_left_alone():
    x, y = data()
    gan = compiled(adversarial_weight=0, balance_frequency=1)
    before = gan.discriminator.get_weights()
    logs = fit(gan, x, y, validation_data=(x, y), epochs=3)
    assert set(logs) == {
        *("generator_loss", "reconstruction_loss"),
        *("val_generator_loss", "val_reconstruction_loss"),
    }
    for one, other in zip(before, gan.discriminator.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert logs["reconstruction_loss"][-1] < logs["reconstruction_loss"][0]
    assert compiled(adversarial_weight=0, reconstruction="perceptual").trains_discriminator


def test_what_the_discriminator_sees_is_changed_alike():
    """With equal images, input and result stay equal under a random shift and brightness."""
    gan = compiled(pair(sees="image mask"), augmentation=kgp.DiffAugment(0.25, seed=1))
    image = keras.ops.convert_to_tensor(data()[1])
    result, (first, mask) = gan.augmented(image, (image, keras.ops.ones_like(image)))
    np.testing.assert_array_equal(nets.value(result), nets.value(first))
    assert (nets.value(result) != nets.value(image)).any()
    assert nets.value(mask).shape == nets.value(image).shape
    alone = compiled(pair(sees=""), augmentation=kgp.DiffAugment())
    assert alone.augmented(image, (image, image))[1][0] is image


# --- forms of data -------------------------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 2

    def __getitem__(self, i):
        rows = slice(4 * i, 4 * i + 4)
        return tuple(a[rows] for a in self.x), self.y[rows]


@pytest.mark.parametrize("form", ["list", "dict", "PyDataset", "tf.data", "integers"])
def test_every_form_of_data_trains_the_same(form):
    x, y = data()
    whole = compiled(eager=True)
    fit(whole, x, y)
    given = {
        "list": lambda: (list(x), y),
        "dict": lambda: ({"mask": x[1], "image": x[0]}, y),
        "PyDataset": lambda: (Batches(x, y), None),
        "tf.data": lambda: (tensors(x, y), None),
        # Masks and labels are often stored as integers.
        "integers": lambda: ((x[0], x[1].astype("uint8")), y),
    }[form]()
    gan = compiled(eager=True)
    fit(gan, *given, **({} if given[1] is not None else {"batch_size": None}))
    assert_same_weights(gan, whole)
    if given[1] is not None:
        np.testing.assert_array_equal(gan.generate(given[0]), whole.generate(x))


def tensors(x, y):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(4)


def test_a_generator_with_named_inputs():
    """A functional model of a dict, whose names are not in the order of the alphabet."""
    x, y = data()

    def by_name(inputs):
        return {"picture": inputs[0], "holes": inputs[1]}

    gan = compiled(pair(form=by_name), eager=True)
    fit(gan, x, y)
    other = compiled(pair(form=by_name), eager=True)
    fit(other, {"holes": x[1], "picture": x[0]}, y)
    assert_same_weights(gan, other)
    np.testing.assert_array_equal(gan.generate({"holes": x[1], "picture": x[0]}), other.generate(x))


def test_other_sizes_and_a_higher_resolution():
    """A network without a fixed size takes every size of which the target is twice as large."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 1))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    generator = keras.Model(image, layers.Conv2DTranspose(1, 4, 2, padding="same")(x))
    result = keras.Input((None, None, 1))
    gan = compiled((generator, keras.Model(result, layers.Conv2D(1, 3, 2)(result))), eager=True)
    y = data()[1]
    assert np.isfinite(fit(gan, y[:, ::2, ::2], y)["generator_loss"]).all()
    assert gan.generate(y[:2]).shape == (2, 2 * SIDE, 2 * SIDE, 1)
    with pytest.raises(DataError, match=r"Targets must have the shape .* \(16, 16, 1\). Received"):
        fit(gan, y, y)


def test_subclassed_networks():
    class Sum(keras.Model):
        def __init__(self, count, **options):
            super().__init__(**options)
            self.count = count
            self.layer = layers.Conv2D(1, 3, padding="same")

        def call(self, inputs):
            parts = inputs if self.count > 1 else [inputs]
            return self.layer(sum(parts[1:], parts[0]))

    (x, m), y = data()
    generator, discriminator = Sum(2), Sum(3)
    with pytest.raises(UnbuiltModelError, match="`generator` has no weights yet"):
        kgp.ImageToImageGAN(generator, discriminator)
    generator([x, m])
    discriminator([x, m, y])
    gan = compiled((generator, discriminator), eager=True, discriminator_sees="inputs_and_result")
    fit(gan, (x, m), y)
    assert gan.generate((x, m)).shape == y.shape
    with pytest.raises(UnsupportedLayerError, match="`PerceptualLoss` needs inner outputs"):
        kgp.ImageToImageGAN(generator, discriminator, reconstruction="perceptual")


# --- files ---------------------------------------------------------------------------------------


def features():
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [keras.Input(SHAPE), layers.Conv2D(4, 3, name="edges"), layers.Conv2D(4, 3, name="more")]
    )


def rich_gan():
    return compiled(
        pair(norm=True, known=True),
        ["psnr", keras.metrics.MeanSquaredError(name="mse")],
        ema_decay=0.9,
        reconstruction=[kgp.L1Loss(10.0), kgp.PerceptualLoss(features(), "edges"), "perceptual"],
        teacher=unet(norm=True),
        adversarial_weight=0.5,
        augmentation=kgp.DiffAugment(seed=3),
    )


def test_a_loaded_model_trains_on_as_if_it_had_not_been_saved(tmp_path):
    x, y = data()
    gan = rich_gan()
    prune = kgp.Prune(0.5, "generator", 1, verbose=0)
    fit(gan, x, y, prune)
    gan.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    assert type(loaded) is kgp.ImageToImageGAN
    assert [type(loss) for loss in loaded.reconstruction] == [
        type(loss) for loss in gan.reconstruction
    ]
    np.testing.assert_array_equal(loaded.generate(x), gan.generate(x))
    one, other = (
        fit(model, x, y, kgp.Prune(0.5, "generator", 1, verbose=0), validation_data=(x, y))
        for model in (gan, loaded)
    )
    assert one == other
    assert_same_weights(gan, loaded)
    nets.assert_exact(0.5, loaded.generator)


def test_config_round_trip():
    gan = kgp.ImageToImageGAN(
        *pair(sees="image"),
        "hinge",
        reconstruction=[5, kgp.PerceptualLoss(features(), weight=2.0)],
        adversarial_weight=0.25,
        ema_decay=0.99,
        value_range=(0.0, 1.0),
        name="mine",
    )
    config = gan.get_config()
    again = kgp.ImageToImageGAN.from_config(config)
    assert again.get_config() == config
    assert again.discriminator_sees == "image_and_result"
    # `PerceptualLoss` is no layer of the model: it is not trained, pruned or counted.
    assert len(again.weights) == len(
        kgp.ImageToImageGAN(*pair(sees="image"), ema_decay=0.9).weights
    )


@pytest.mark.full
def test_resume(tmp_path):
    x, y = data(n=16)

    def run(epochs, folder, stop=None):
        gan = compiled(pair(norm=True), ["psnr"], ema_decay=0.9)
        backup = keras.callbacks.BackupAndRestore(folder, delete_checkpoint=False)
        prune = kgp.Prune(kgp.Cubic(0.5, 2, 10), "generator", 2, verbose=0)
        fit(gan, x, y, prune, backup, epochs=epochs)
        return gan

    whole = run(4, tmp_path / "whole")
    run(2, tmp_path / "parts")
    resumed = run(4, tmp_path / "parts")
    assert_same_weights(whole, resumed)
    nets.assert_exact(0.5, resumed.generator, resumed.ema_generator)


# --- pruning, cutting and shipping ---------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"target": ["generator", "discriminator"]},
        *(
            pytest.param({"target": "generator", **one}, marks=pytest.mark.full)
            for one in (
                {"criterion": "taylor", "allocation": "global_ranking"},
                {"criterion": "discriminator_saliency"},
                {"mode": "rigl"},
                {"granularity": "channel"},
            )
        ),
    ],
    ids=str,
)
def test_prune(settings):
    x, y = data(n=16)
    gan = compiled(ema_decay=0.9)
    prune = kgp.Prune(kgp.Linear(0.5, 1, 6), frequency=2, verbose=0, **settings)
    logs = fit(gan, x, y, prune, epochs=2)
    assert prune.pruner.sparsity == pytest.approx(0.5, abs=0.03)
    assert nets.leaks(gan.generator, gan.ema_generator) == {}
    assert logs["generator_sparsity"][-1] > 0.3
    assert kgp.sparsity_report(gan).sparsity > 0


def test_shrink_in_training_and_known_pixels(tmp_path):
    """After a cut and an export the network still returns known pixels exactly."""
    (x, m), y = data(n=16)
    gan = compiled(pair(known=True, channels=8), ema_decay=0.9)
    before = gan.generator.count_params()
    fit(gan, (x, m), y, kgp.Shrink(2, sparsity=0.5, target="generator", verbose=0), epochs=2)
    assert gan.generator.count_params() < before / 2
    images = gan.generate((x, m))
    np.testing.assert_array_equal(images[m == 1], y[m == 1])
    assert (images[m == 0] != 0).all()
    gan.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    np.testing.assert_array_equal(loaded.generate((x, m)), images)


@pytest.mark.full
def test_export_and_command_line(tmp_path, capsys):
    tf = pytest.importorskip("tensorflow")
    (x, m), y = data(n=16)
    gan = compiled(pair(known=True, norm=True), ema_decay=0.9)
    fit(gan, (x, m), y, kgp.Prune(0.5, "generator", 1, verbose=0))
    gan.save(tmp_path / "gan.keras")
    kgp.export_saved_model(gan, tmp_path / "live")
    assert main(["export", str(tmp_path / "gan.keras"), str(tmp_path / "average")]) == 0
    for folder, network in (("live", gan.generator), ("average", gan.ema_generator)):
        served = tf.saved_model.load(str(tmp_path / folder))
        expected = nets.value(network([x, m], training=False))
        np.testing.assert_allclose(served.serve([x, m]), expected, atol=1e-5)
    arguments = ["shrink", str(tmp_path / "gan.keras"), str(tmp_path / "small"), "--macs", "0.5"]
    assert main(arguments) == 0
    small = keras.saving.load_model(tmp_path / "small" / "model.keras")
    assert small.count_params() < gan.generator.count_params()
    assert main(["report", str(tmp_path / "gan.keras")]) == 0
    assert "averaged generator" in capsys.readouterr().out
    with pytest.raises(InvalidArgumentError, match="a `ImageToImageGAN` has two"):
        kgp.profile(gan, latency=False)


@pytest.mark.full
def test_the_other_callbacks_and_functions():
    x, y = data(n=16)
    gan = compiled(pair(norm=True), ["psnr"], ema_decay=0.9, balance_frequency=1)
    callbacks = [
        kgp.BalanceController(monitor="balance_ratio"),
        kgp.QualityMonitor(lambda model: {"hole": float(np.mean(psnr(model.generate(x), y)))}),
        kgp.Prune(0.5, "generator", 2, verbose=0),
        keras.callbacks.EarlyStopping("val_psnr", mode="max", patience=5),
    ]
    logs = fit(gan, x, y, *callbacks, validation_data=(x, y), epochs=2)
    assert logs["hole"][-1] == pytest.approx(logs["val_psnr"][-1], rel=1e-4)
    assert kgp.recalibrate_batch_norm(gan, (x, y), batch_size=8) == 2
    with pytest.raises(DataError, match=r"Pass \(inputs, targets\) as `data`"):
        kgp.recalibrate_batch_norm(gan)
    recovered = kgp.recover(
        gan, x, 1, labels=y, teacher=unet(norm=True), verbose=0, learning_rate=1e-4
    )
    assert "distillation_loss" in recovered.history
    assert gan.teacher is None
    nets.assert_exact(0.5, gan.generator)


def test_a_run_that_diverges_stops():
    x, y = data(n=16)
    gan = compiled(eager=True)
    gan.generator_optimizer.learning_rate = float("inf")
    with pytest.warns(UserWarning, match="NaN"):
        fit(gan, x, y, epochs=5)
    assert gan.stop_training


# --- known pixels and metrics --------------------------------------------------------------------


def test_known_pixels_need_tensors_of_one_size():
    image, mask = keras.Input(SHAPE), keras.Input(SHAPE)
    colours = keras.Input((SIDE, SIDE, 3))
    assert kgp.keep_known_pixels(colours, keras.Input((SIDE, SIDE, 3)), mask).shape[-1] == 3
    with pytest.raises(InvalidArgumentError, match="`image` must have the shape of `generated`"):
        kgp.keep_known_pixels(colours, image, mask)
    with pytest.raises(InvalidArgumentError, match="`mask` the same, or one channel"):
        kgp.keep_known_pixels(image, image, keras.Input((4, 4, 1)))
    with pytest.raises(ArgumentTypeError, match="`image` must be a Keras tensor"):
        kgp.keep_known_pixels(image, data()[1], mask)


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 255.0)])
def test_psnr_is_the_mean_over_images(value_range):
    rng = np.random.default_rng(0)
    images, targets = rng.uniform(*value_range, (2, 6, 5, 4, 3))
    metric = kgp.PSNR(value_range)
    for rows in (slice(0, 4), slice(4, 6)):
        metric.update_state(targets[rows], images[rows])
    expected = np.mean(psnr(images, targets, value_range=value_range))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)
    assert kgp.PSNR.from_config(metric.get_config()).value_range == value_range
    metric.reset_state()
    metric.update_state(targets, targets)
    assert float(metric.result()) == pytest.approx(100.0)


# --- what is refused -----------------------------------------------------------------------------


def test_a_user_s_own_loss_and_metric():
    class Twice(kgp.ReconstructionLoss):
        def distance(self, images, targets):
            return 2.0 * keras.ops.mean(keras.ops.abs(images - targets))

    def brightness(targets, images):
        return keras.ops.mean(images, axis=(1, 2, 3))

    x, y = data()
    one, other = (
        fit(compiled(eager=True, reconstruction=loss, metrics=[brightness]), x, y)
        for loss in (Twice(5.0), kgp.L1Loss(10.0))
    )
    assert one == other
    assert "brightness" in one


BAD_ARGUMENTS = [
    ({"adversarial_weight": -1}, "`adversarial_weight` must be a non-negative number"),
    ({"adversarial_weight": 0, "reconstruction": None}, "The generator must have a loss"),
    ({"reconstruction": "l3"}, "Unknown reconstruction loss 'l3'"),
    ({"reconstruction": 0}, "`weight` must be a positive number"),
    ({"reconstruction": kgp.PerceptualLoss(layers="other")}, "`layers` must be names of layers"),
    ({"discriminator_sees": "image_and_result"}, "the discriminator must have 2 input"),
    ({"discriminator_sees": "all"}, "`discriminator_sees`"),
    ({"balance_frequency": -1}, "`balance_frequency` must be"),
]


@pytest.mark.parametrize(("options", "match"), BAD_ARGUMENTS, ids=str)
def test_bad_arguments(options, match):
    with pytest.raises(InvalidArgumentError, match=match):
        kgp.ImageToImageGAN(*pair(), **options)


def test_bad_types():
    generator, discriminator = pair()
    for networks, match in (
        (("a", discriminator), "`generator` must be"),
        ((generator, None), "`discriminator` must be"),
    ):
        with pytest.raises(ArgumentTypeError, match=match):
            kgp.ImageToImageGAN(*networks)
    with pytest.raises(InvalidArgumentError, match="must be two networks"):
        kgp.ImageToImageGAN(generator, generator)
    with pytest.raises(ArgumentTypeError, match="reconstruction loss must be a name"):
        kgp.ImageToImageGAN(generator, discriminator, reconstruction=object())
    with pytest.raises(ArgumentTypeError, match="`network` must be"):
        kgp.PerceptualLoss("vgg")
    with pytest.raises(UnbuiltModelError, match="has no weights yet"):
        kgp.PerceptualLoss(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(InvalidArgumentError, match="uses the discriminator of the GAN"):
        kgp.PerceptualLoss().distance(data()[1], data()[1])


def wide(shape):
    """A discriminator of the result alone, of another shape."""
    image = keras.Input(shape)
    return keras.Model(image, layers.Conv2D(1, 3)(image))


@pytest.mark.parametrize(
    ("networks", "options", "match"),
    [
        (lambda: (unet("image"), patches("image mask")), {}, "result, .image, result., or the 1"),
        (lambda: (unet(), wide((4, 4, 1))), {}, "must have the shapes of what it sees"),
        (
            lambda: (unet(), patches("")),
            {"reconstruction": kgp.PerceptualLoss(wide((SIDE, SIDE, 3)))},
            "must take the images that the generator makes",
        ),
        (
            lambda: (
                keras.Model(x := keras.Input(SHAPE), [layers.ReLU()(x), layers.ReLU()(x)]),
                patches(""),
            ),
            {},
            "must return one image",
        ),
    ],
)
def test_networks_that_do_not_fit(networks, options, match):
    with pytest.raises(InvalidArgumentError, match=match):
        kgp.ImageToImageGAN(*networks(), **options)


def test_augmentation_needs_images_of_one_size():
    small, result = keras.Input((4, 4, 1)), keras.Input(SHAPE)
    generator = keras.Model(small, layers.UpSampling2D(2)(layers.Conv2D(1, 1)(small)))
    seen = layers.Concatenate()([layers.UpSampling2D(2)(small), result])
    discriminator = keras.Model([small, result], layers.Conv2D(1, 3)(seen))
    with pytest.raises(InvalidArgumentError, match="they must have one height and width"):
        kgp.ImageToImageGAN(generator, discriminator, augmentation=kgp.DiffAugment())


(X, M), Y = data()
BAD_DATA = [
    (None, Y, "takes inputs and targets as arrays"),
    ("images", Y, "takes inputs and targets as arrays"),
    ((X, M), None, "one target image for each input.* no targets"),
    ((X, M), (Y, Y), "a tuple of 2 as targets"),
    (X, Y, r"takes 2 input\(s\), \['image', 'mask'\]. Received: 1"),
    ((X, M, M), Y, "Received: 3"),
    ({"image": X, "hole": M}, Y, r"names of the generator's inputs.*\['image', 'hole'\]"),
    ((X, M), Y[:5], "8 of image, 8 of mask, 5 of targets"),
    ((X, M[:5]), Y, "8 of image, 5 of mask, 8 of targets"),
    ((X, M[:, ::2]), Y, r"shapes that the generator takes, .* Received: .*\(4, 8, 1\)"),
    ((X, M), Y[:, ::2], r"Targets must have the shape .* Received: \(4, 8, 1\)"),
    ((X, np.full_like(M, np.nan)), Y, "The values of 'mask' must be finite"),
    ((X, M), Y * np.inf, "The values of 'targets' must be finite"),
    ((X, M.astype(str)), Y, "The values of 'mask' must be numbers"),
    ((X[:0], M[:0]), Y[:0], "The data is empty"),
    (([X[0], X[1, :4]], [M[0], M[1]]), Y[:2], "several sizes"),
]


@pytest.mark.parametrize(("x", "y", "match"), BAD_DATA, ids=range(len(BAD_DATA)))
def test_bad_data(x, y, match):
    gan = compiled()
    with pytest.raises(DataError, match=match):
        fit(gan, x, y)


def test_bad_data_in_streams_validation_and_generate():
    gan = compiled()
    with pytest.raises(DataError, match=r"must be finite.*\(in the first batch\)"):
        fit(gan, Batches((X, M), Y * np.nan), batch_size=None)
    with pytest.raises(DataError, match="5 of targets"):
        fit(gan, (X, M), Y, validation_data=((X, M), Y[:5]))
    with pytest.raises(DataError, match="sample weights"):
        fit(gan, Weighted((X, M), Y), batch_size=None)
    for inputs, match in (((X, M[:5]), "5 of mask"), (X, "Received: 1"), ((X, M[:, :4]), "shapes")):
        with pytest.raises(DataError, match=match):
            gan.generate(inputs)
    with pytest.raises(InvalidArgumentError, match="`batch_size`"):
        gan.generate((X, M), batch_size=0)


class Weighted(Batches):
    def __getitem__(self, i):
        return (*super().__getitem__(i), np.ones(4))


def test_masks_of_another_size_for_a_network_of_any_size():
    image, mask = keras.Input((None, None, 1)), keras.Input((None, None, 1))
    generator = keras.Model(
        [image, mask], layers.Conv2D(1, 3, padding="same")(layers.Concatenate()([image, mask]))
    )
    result = keras.Input((None, None, 1))
    gan = compiled((generator, keras.Model(result, layers.Conv2D(1, 3)(result))))
    with pytest.raises(DataError, match="cannot take inputs of these sizes together"):
        fit(gan, (X, M[:, ::2, ::2]), Y)


@pytest.mark.parametrize(
    ("x", "y", "name"),
    [
        ((X, M), (Y + 1) * 127.5, "targets"),
        ((X, 255 * M), Y, "mask"),
        (((X + 1) * 127.5, M), Y, "image"),
    ],
)
def test_a_wrong_range_is_warned_of(x, y, name):
    gan = compiled(eager=True)
    with pytest.warns(PruningWarning, match=f"The values of '{name}' lie in .*masks to 0 and 1"):
        fit(gan, x, y)


def test_noise_beyond_the_range_is_no_fault(recwarn):
    fit(compiled(eager=True), (X + np.float32(0.3), M), Y)
    assert [w for w in recwarn if issubclass(w.category, PruningWarning)] == []


def test_bad_metrics():
    gan = kgp.ImageToImageGAN(*pair(), value_range=None)
    for metrics, error, match in (
        ("psnr", ArgumentTypeError, "`metrics` must be a list"),
        (["psnr"], InvalidArgumentError, "needs the range of the images"),
        ([kgp.PSNR], ArgumentTypeError, r"Write `PSNR\(\)`"),
        (["mae", "mae"], InvalidArgumentError, "Received twice: mae"),
        ([keras.metrics.Mean(name="generator_loss")], InvalidArgumentError, "Received twice"),
        (["nonsense"], InvalidArgumentError, "A metric must be 'psnr', or"),
        ([3], (ArgumentTypeError, InvalidArgumentError), "A metric must be"),
    ):
        with pytest.raises(error, match=match):
            gan.compile(metrics=metrics)
    with pytest.raises(InvalidArgumentError, match=r"`ImageToImageGAN.compile` does not take loss"):
        gan.compile(loss="mse")
