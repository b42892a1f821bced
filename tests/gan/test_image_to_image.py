"""`ImageToImageGAN`: its steps against NumPy, forms of data, files, pruning, the page and the example."""

import functools
import os
import re
import subprocess
import sys
import warnings

import keras
import networks as nets
import numpy as np
import paths
import pytest
from image_pairs import (
    SHAPE,
    SIDE,
    Batches,
    assert_same_weights,
    compiled,
    data,
    fit,
    inputs_of,
    pair,
    unet,
)
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
from keras_ganprune.metrics import discriminator_accuracy, psnr

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
    ("kind", "sees", "loss", "eager"),
    [
        (*KINDS[4], "hinge", True),
        *(
            pytest.param(*kind, loss, False, marks=pytest.mark.full)
            for kind, loss in zip(
                KINDS,
                ["hinge", "wasserstein", "relativistic", "non_saturating", "least_squares"],
                strict=True,
            )
        ),
    ],
)
def test_every_kind_of_inputs_with_every_part(kind, sees, loss, eager):
    x, y = data(kind, n=4 if eager else 8)
    gan = compiled(
        pair(kind, sees),
        ["psnr", "mae"],
        eager,
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
    expected = nets.value(gan.ema_generator(list(x) if isinstance(x, tuple) else [x]))
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


def test_a_user_s_own_loss_and_metric():
    class Twice(kgp.ReconstructionLoss):
        def distance(self, images, targets):
            return 2.0 * keras.ops.mean(keras.ops.abs(images - targets))

    def brightness(targets, images):
        return keras.ops.mean(images, axis=(1, 2, 3))

    x, y = data()
    one, other = (
        fit(compiled(reconstruction=loss, metrics=[brightness]), x, y)
        for loss in (Twice(5.0), kgp.L1Loss(10.0))
    )
    assert one == other
    assert "brightness" in one


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


@functools.cache
def trained_on_tuples():
    gan = compiled()
    fit(gan, *data())
    return gan


@pytest.mark.parametrize(
    "form",
    [
        "dict",
        *(
            pytest.param(form, marks=pytest.mark.full)
            for form in ("list", "PyDataset", "tf.data", "integers")
        ),
    ],
)
def test_every_form_of_data_trains_the_same(form):
    x, y = data()
    whole = trained_on_tuples()
    given = {
        "list": lambda: (list(x), y),
        "dict": lambda: ({"mask": x[1], "image": x[0]}, y),
        "PyDataset": lambda: (Batches(x, y), None),
        "tf.data": lambda: (tensors(x, y), None),
        # Masks and labels are often stored as integers.
        "integers": lambda: ((x[0], x[1].astype("uint8")), y),
    }[form]()
    gan = compiled()
    fit(gan, *given, **({} if given[1] is not None else {"batch_size": None}))
    assert_same_weights(gan, whole)
    if given[1] is not None:
        np.testing.assert_array_equal(gan.generate(given[0]), whole.generate(x))


def tensors(x, y):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(4)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
def test_a_generator_with_named_inputs():
    """A functional model of a dict, whose names are not in the order of the alphabet."""
    x, y = data()

    def by_name(inputs):
        return {"picture": inputs[0], "holes": inputs[1]}

    gan = compiled(pair(form=by_name))
    fit(gan, x, y)
    other = compiled(pair(form=by_name))
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
    gan = compiled((generator, keras.Model(result, layers.Conv2D(1, 3, 2)(result))))
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
    gan = compiled((generator, discriminator), discriminator_sees="inputs_and_result")
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


def rich_gan(eager):
    return compiled(
        pair(norm=True, known=True),
        ["psnr", keras.metrics.MeanSquaredError(name="mse")],
        eager,
        ema_decay=0.9,
        reconstruction=[kgp.L1Loss(10.0), kgp.PerceptualLoss(features(), "edges"), "perceptual"],
        teacher=unet(norm=True),
        adversarial_weight=0.5,
        augmentation=kgp.DiffAugment(seed=3),
    )


@pytest.mark.parametrize("eager", [True, pytest.param(False, marks=pytest.mark.full)])
def test_a_loaded_model_trains_on_as_if_it_had_not_been_saved(eager, tmp_path):
    x, y = data(n=4 if eager else 8)
    gan = rich_gan(eager)
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
    again = kgp.ImageToImageGAN.from_config(gan.get_config())
    assert again.get_config() == gan.get_config()
    assert again.discriminator_sees == "image_and_result"
    # `PerceptualLoss` is no layer of the model: it is not trained, pruned or counted.
    assert len(again.weights) == len(
        kgp.ImageToImageGAN(*pair(sees="image"), ema_decay=0.9).weights
    )


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:Training ended at step 8")
def test_resume(tmp_path):
    x, y = data(n=16)

    def run(epochs, folder):
        gan = compiled(pair(norm=True), ["psnr"], eager=False, ema_decay=0.9)
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
    gan = compiled(eager=False, ema_decay=0.9)
    prune = kgp.Prune(kgp.Linear(0.5, 1, 6), frequency=2, verbose=0, **settings)
    logs = fit(gan, x, y, prune, epochs=2)
    assert prune.pruner.sparsity == pytest.approx(0.5, abs=0.03)
    assert nets.leaks(gan.generator, gan.ema_generator) == {}
    assert logs["generator_sparsity"][-1] > 0.3
    assert kgp.sparsity_report(gan).sparsity > 0


@pytest.mark.full
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
    dense = compiled(pair(known=True, norm=True), ema_decay=0.9)
    dense.save(tmp_path / "dense.keras")
    arguments = ["shrink", str(tmp_path / "dense.keras"), str(tmp_path / "small"), "--macs", "0.5"]
    assert main(arguments) == 0
    small = keras.saving.load_model(tmp_path / "small" / "model.keras")
    assert small.count_params() < gan.generator.count_params()
    assert main(["report", str(tmp_path / "gan.keras")]) == 0
    assert "averaged generator" in capsys.readouterr().out
    with pytest.raises(InvalidArgumentError, match="a `ImageToImageGAN` has two"):
        kgp.profile(gan, latency=False)


def test_what_draws_latent_vectors_says_what_to_call_instead():
    """The fixes that the errors name are used here."""
    x, y = data(n=16)
    gan = compiled(pair(norm=True))
    with pytest.raises(ArgumentTypeError, match=r"gan.evaluate\(inputs, targets, return_dict=True"):
        discriminator_accuracy(gan, y)
    logs = gan.evaluate(x, y, return_dict=True, verbose=0)
    assert {"discriminator_real_accuracy", "discriminator_fake_accuracy"} <= set(logs)
    pooled = keras.Sequential(
        [keras.Input(y.shape[1:]), keras.layers.AveragePooling2D(2), keras.layers.Flatten()]
    )
    with pytest.warns(PruningWarning, match="images"):
        quality = kgp.ImageQuality(y, extractor=kgp.FeatureExtractor(pooled))
        fd = quality.measure(gan.generate(x)).fd
    for source in (gan, gan.generator):
        with pytest.raises(InvalidArgumentError, match=r"QualityMonitor\(lambda gan: \{'fd': "):
            quality.measure_generator(source)
    monitor = kgp.QualityMonitor(lambda gan: {"fd": quality.measure(gan.generate(x)).fd})
    assert np.isfinite(fit(gan, x, y, monitor)["fd"][-1]) and np.isfinite(fd)
    with pytest.warns(PruningWarning, match=r"recalibrate=\(inputs, targets\)"):
        kgp.Shrink(None, sparsity=0.5, verbose=0).cut(gan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kgp.Shrink(None, sparsity=0.5, recalibrate=(x, y), verbose=0).cut(gan)


@pytest.mark.full
def test_the_other_callbacks_and_functions(tmp_path):
    x, y = data(n=16)
    gan = compiled(pair(norm=True), ["psnr"], ema_decay=0.9, balance_frequency=1)
    callbacks = [
        kgp.BalanceController(monitor="balance_ratio"),
        kgp.QualityMonitor(lambda model: {"hole": float(np.mean(psnr(model.generate(x), y)))}),
        kgp.Prune(0.5, "generator", 2, verbose=0),
        kgp.SampleGrid(tmp_path, n=4, inputs=list(x), gif=False),
        keras.callbacks.EarlyStopping("val_psnr", mode="max", patience=5),
    ]
    logs = fit(gan, x, y, *callbacks, validation_data=(x, y), epochs=2)
    assert logs["hole"][-1] == pytest.approx(logs["val_psnr"][-1], rel=1e-4)
    assert len(list(tmp_path.glob("epoch_*.png"))) == 2
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
    gan = compiled()
    gan.generator_optimizer.learning_rate = float("inf")
    with pytest.warns(PruningWarning, match="Training stopped after batch"):
        fit(gan, x, y, epochs=5)
    assert gan.stop_training


# --- the page and the example --------------------------------------------------------------------


@pytest.mark.full
def test_the_page_runs_as_it_stands():
    page = (paths.DOCS / "image_to_image.md").read_text(encoding="utf-8")
    names: dict = {"__name__": "page"}
    for snippet in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(compile(snippet, "docs/image_to_image.md", "exec"), names)
    history = names["history"].history["val_psnr"]
    assert history[-1] > history[0]
    assert kgp.sparsity_report(names["gan"].generator).sparsity == pytest.approx(0.6, abs=0.01)


@pytest.mark.full
def test_the_example_of_a_cyclegan():
    pytest.importorskip("tensorflow")
    command = [sys.executable, str(paths.ROOT / "examples" / "cyclegan.py"), "--epochs", "4"]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=150,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    for name in ("to_b", "to_a"):
        found = re.search(rf"{name}: ([0-9.]+) of (\d+) weights pruned", ended.stdout)
        assert found and float(found[1]) == pytest.approx(0.8, abs=0.001)
