"""`PruningSummary`: the event files, read back and compared with the model."""

import io
import sys

import keras
import networks as nets
import numpy as np
import pytest
from keras.optimizers import Adam
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util
from watched_runs import (
    BATCHES,
    WATCHED,
    assert_untouched,
    fit,
    foreign,
    foreign_gan,
    gan_model,
)

import keras_ganprune as kgp
from keras_ganprune.backend import distribution
from keras_ganprune.callbacks import tensorboard
from keras_ganprune.callbacks.tensorboard import PruningSummary
from keras_ganprune.errors import (
    DataError,
    InvalidArgumentError,
    MissingPackageError,
    OutputError,
    PruningWarning,
)
from keras_ganprune.utils import files, plotting


def events(folder):
    """Return the content of the event files: {tag: {step: array}}."""
    found = EventAccumulator(str(folder / "pruning"), size_guidance={"tensors": 0})
    found.Reload()
    return {
        tag: {e.step: tensor_util.make_ndarray(e.tensor_proto) for e in found.Tensors(tag)}
        for tag in found.Tags()["tensors"]
    }


def scalars(found, tag):
    return {step: float(value) for step, value in found[tag].items()}


def picture(array):
    width, height, *pictures = array
    with Image.open(io.BytesIO(pictures[0])) as image:
        pixels = np.asarray(image)
    assert pixels.shape[:2] == (int(height), int(width)) and len(pictures) == 1
    return pixels


def schedule(last=0.8):
    return kgp.PolynomialDecay(last, begin_step=1, end_step=2 * BATCHES)


# --- what is written -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: gan_model(nets.dcgan_pair, balance_frequency=2), id="gan_model"),
        pytest.param(
            lambda: foreign_gan(
                nets.GuideGAN,
                generator=nets.dcgan_generator(),
                discriminator=nets.dcgan_discriminator(),
            ),
            id="foreign",
            marks=[foreign, pytest.mark.full],
        ),
    ],
)
def test_numbers_are_those_of_the_model(make, tmp_path):
    gan = make()
    prunes = {
        "generator": kgp.Prune(schedule(), "generator", 2, verbose=0),
        "discriminator": kgp.Prune(kgp.Threshold(0.05, 2), "discriminator", 3, verbose=0),
    }
    history = fit(gan, *prunes.values(), PruningSummary(tmp_path, seed=3, images=6, columns=3))
    found = events(tmp_path)
    for name, prune in prunes.items():
        network = getattr(gan, name)
        assert scalars(found, f"sparsity/{name}") == pytest.approx(
            dict(enumerate(history[f"{name}_sparsity"]))
        )
        nonzero = sum(np.count_nonzero(nets.value(w)) for w in network.weights)
        assert scalars(found, f"nonzero_parameters/{name}")[2] == nonzero
        # The requested and the achieved value of each mask update, at its step.
        asked = {"generator": "sparsity", "discriminator": "threshold"}[name]
        assert len(prune.updates) > 2
        for tag, place in ((f"requested_{asked}", 1), ("achieved_sparsity", 2)):
            assert scalars(found, f"updates/{name}/{tag}") == pytest.approx(
                {update[0]: update[place] for update in prune.updates}
            )
        weights = kgp.masked_weights(network)
        layers = {tag for tag in found if tag.startswith(f"layers/{name}/")}
        assert layers == {f"layers/{name}/{w.path}" for w in weights}
        for weight in weights:
            mask, value = nets.value(weight.mask), nets.value(weight.variable)
            sparsity = scalars(found, f"layers/{name}/{weight.path}")
            assert sorted(sparsity) == [0, 1, 2]
            assert sparsity[2] == pytest.approx(1 - mask.mean())
            drawn = picture(found[f"masks/{name}/{weight.path}"][2])
            expected = plotting.mask_colours(plotting.mask_picture(mask))
            np.testing.assert_array_equal(drawn, expected)
            # Rows (left, right, count), of the weights that stay.
            histogram = found[f"weights/{name}/{weight.path}"][2]
            assert histogram[:, 2].sum() == mask.sum()
            assert histogram[0, 0] == pytest.approx(value[mask].min())
            assert histogram[-1, 1] == pytest.approx(value[mask].max())
            below = sum(count for _, right, count in histogram if right <= 1e-6)
            assert below <= np.count_nonzero(value[mask] < 1e-6)
    if "balance_ratio" in history:
        assert scalars(found, "balance_ratio") == pytest.approx(
            dict(enumerate(history["balance_ratio"]))
        )
    else:
        assert "balance_ratio" not in found
    z = np.random.default_rng(3).standard_normal((6, nets.LATENT), dtype="float32")
    images = nets.value(gan.generator(z, training=False))
    expected = np.round(plotting.image_grid(images, 3) * 255)
    drawn = picture(found["samples/generator"][2]).astype(int)
    np.testing.assert_allclose(drawn, expected[..., 0], atol=1)


@pytest.mark.full
def test_frequencies(tmp_path):
    prune = kgp.Prune(0.5, "generator", verbose=0)
    summary = PruningSummary(tmp_path, histogram_freq=2, mask_freq=3, image_freq=0)
    fit(gan_model(), prune, summary, epochs=4)
    found = events(tmp_path)
    path = kgp.masked_weights(prune.model.generator)[0].path
    assert sorted(found[f"weights/generator/{path}"]) == [0, 2]
    assert sorted(found[f"masks/generator/{path}"]) == [0, 3]
    assert sorted(found[f"layers/generator/{path}"]) == [0, 1, 2, 3]
    assert not any(tag.startswith("samples") for tag in found)


@pytest.mark.full
def test_a_classifier(tmp_path):
    x, y = nets.classifier_data()
    model = nets.classifier()
    model.compile(Adam(1e-2), nets.classifier_loss())
    prune = kgp.Prune(0.75, verbose=0)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[prune, PruningSummary(tmp_path)])
    found = events(tmp_path)
    assert scalars(found, f"sparsity/{model.name}")[1] == pytest.approx(0.75, abs=0.01)
    assert scalars(found, "updates/model/requested_sparsity") == {0: 0.75}
    assert not any(tag.startswith("samples") for tag in found)


@pytest.mark.full
def test_a_network_that_is_not_pruned(tmp_path):
    gan = gan_model()
    fit(gan, PruningSummary(tmp_path, "generator", images=0), epochs=1)
    found = events(tmp_path)
    kernels = [w for w in gan.generator.trainable_weights if len(w.shape) > 1]
    assert set(found) == {
        "sparsity/generator",
        "nonzero_parameters/generator",
        *(f"weights/generator/{w.path}" for w in kernels),
    }
    assert scalars(found, "sparsity/generator") == {0: 0.0}
    for kernel in kernels:
        counted = found[f"weights/generator/{kernel.path}"][0][:, 2].sum()
        assert counted == np.prod(kernel.shape)


@pytest.mark.full
def test_masks_that_are_chosen_but_not_held(tmp_path):
    prune = kgp.Prune(schedule(0.5), "generator", 2, mode="soft", verbose=0)
    gan = gan_model()
    history = fit(gan, prune, PruningSummary(tmp_path, images=0), epochs=2)
    found = events(tmp_path)
    assert 0 < history["generator_sparsity"][0] < 0.5
    assert scalars(found, "sparsity/generator") == pytest.approx(
        dict(enumerate(history["generator_sparsity"]))
    )
    sizes = {w.path: np.prod(w.mask.shape) for w in kgp.masked_weights(gan.generator)}
    layers = [scalars(found, f"layers/generator/{path}")[0] * n for path, n in sizes.items()]
    total = sum(sizes.values())
    assert sum(layers) / total == pytest.approx(history["generator_sparsity"][0])


@pytest.mark.full
def test_the_averaged_generator_is_shown_and_not_counted(tmp_path):
    gan = gan_model(ema_decay=0.9)
    fit(gan, kgp.Prune(0.5, "generator", verbose=0), PruningSummary(tmp_path), epochs=1)
    found = events(tmp_path)
    assert {tag for tag in found if tag.startswith("sparsity/")} == {
        "sparsity/generator",
        "sparsity/discriminator",
    }
    drawn = picture(found["samples/ema_generator"][0]).astype(int)
    expected = np.round(plotting.image_grid(gan.generate(64, seed=0)) * 255)[..., 0]
    np.testing.assert_allclose(drawn, expected, atol=1)


@pytest.mark.full
def test_two_callbacks_of_one_network_and_one_of_both(tmp_path):
    gan = gan_model()
    first, second = (w.path.split("/")[0] for w in kgp.Pruner(gan.generator).weights)
    prunes = [
        kgp.Prune(0.5, "generator", scope=first, verbose=0),
        kgp.Prune(0.25, ["generator"], scope=second, verbose=0),
        kgp.Prune(0.1, ["generator", "discriminator"], verbose=0),
    ]
    assert [name for _, name in tensorboard._named(prunes)] == [
        "generator",
        "generator 2",
        "generator+discriminator",
    ]
    fit(gan, *prunes[:2], PruningSummary(tmp_path, images=0), epochs=1)
    found = events(tmp_path)
    assert scalars(found, "updates/generator/requested_sparsity") == {0: 0.5}
    assert scalars(found, "updates/generator 2/requested_sparsity") == {0: 0.25}


@pytest.mark.full
def test_another_fit_and_a_callback_that_records_now_and_then(tmp_path):
    gan = gan_model()
    prune = kgp.Prune(schedule(), "generator", 2, verbose=0)
    summary = PruningSummary(tmp_path, images=0)
    board = keras.callbacks.TensorBoard(str(tmp_path), write_graph=False, update_freq=1000)
    fit(gan, board, prune, summary, epochs=2)
    fit(gan, board, prune, summary, epochs=3, initial_epoch=2)
    found = events(tmp_path)
    assert sorted(found["sparsity/generator"]) == [0, 1, 2]
    assert scalars(found, "updates/generator/achieved_sparsity") == pytest.approx(
        {step: achieved for step, _, achieved in prune.updates}
    )


@WATCHED
@pytest.mark.full
def test_training_goes_on_bit_by_bit(make, tmp_path):
    assert_untouched(make, PruningSummary(tmp_path))


# --- what goes wrong -----------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="`log_dir` must be a folder that can be written"):
        fit(gan_model(), PruningSummary(tmp_path / "file"))


def test_a_full_disk_is_told_once_and_training_goes_on(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PruningSummary, "_write_epoch", full)
    with pytest.warns(PruningWarning, match="could not be written into .*No space left") as caught:
        history = fit(gan_model(), PruningSummary(tmp_path, images=0))
    assert len([w for w in caught if "could not be written" in str(w.message)]) == 1
    assert len(history["generator_loss"]) == 3


@pytest.mark.parametrize("missing", ["tensorboard", "tensorflow"])
def test_without_the_packages(missing, tmp_path, monkeypatch):
    def none():
        raise MissingPackageError("No module named 'tensorflow'")

    gan = gan_model()
    if missing == "tensorflow":
        monkeypatch.setattr(files, "tensorflow", none)
    else:
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingPackageError, match=f"{missing}.*pip install tensorflow tensorboard"):
        fit(gan, PruningSummary(tmp_path, images=0))
    assert int(gan.generator_optimizer.iterations) == 0


def test_only_the_first_worker_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(distribution, "rank", lambda like: 1)
    fit(gan_model(), PruningSummary(tmp_path / "never"), epochs=1)
    assert not (tmp_path / "never").exists()


def test_names_and_samples_are_checked_before_the_first_batch(tmp_path):
    gan = gan_model()
    with pytest.raises(InvalidArgumentError, match="Did you mean 'generator'"):
        fit(gan, PruningSummary(tmp_path, "generater"))
    with pytest.raises(DataError, match="takes only latent vectors"):
        fit(gan, PruningSummary(tmp_path, labels=np.zeros(64)))
    assert int(gan.generator_optimizer.iterations) == 0
    model = nets.classifier()
    model.compile(Adam(), nets.classifier_loss())
    with pytest.raises(InvalidArgumentError, match="Unknown network of Sequential: 'generator'"):
        model.fit(*nets.classifier_data(), callbacks=[PruningSummary(tmp_path, images=4)])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"histogram_freq": -1}, "`histogram_freq` must be a non-negative int"),
        ({"mask_freq": 0.5}, "`mask_freq` must be a non-negative int"),
        ({"image_freq": None}, "`image_freq` must be a non-negative int"),
        ({"images": -1}, "`images` must be a non-negative int"),
        ({"columns": 0}, "`columns` must be a positive int"),
        ({"seed": "a"}, "`seed` must be a non-negative int"),
        ({"value_range": 1}, "`value_range` must be"),
        ({"inputs": np.zeros((3, 4))}, "`inputs` must have one entry for each of the 64 images"),
    ],
)
def test_arguments(arguments, text):
    with pytest.raises(ValueError, match=text):
        PruningSummary("logs", **arguments)


def test_repr():
    assert repr(PruningSummary("a")) == "<PruningSummary 'a'>"
