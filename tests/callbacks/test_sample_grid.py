"""`SampleGrid`: the pictures, the animation, and their fate when a run is interrupted."""

import keras
import networks as nets
import numpy as np
import pytest
from cases import cases
from keras import layers
from keras.callbacks import BackupAndRestore
from keras.optimizers import Adam
from PIL import Image
from watched_runs import (
    WATCHED,
    Break,
    any_gan,
    assert_untouched,
    fit,
    foreign,
    foreign_gan,
    gan_model,
)

import keras_ganprune as kgp
from keras_ganprune.backend import distribution
from keras_ganprune.callbacks import fixed_inputs, sample_grid
from keras_ganprune.callbacks.fixed_inputs import as_images
from keras_ganprune.callbacks.sample_grid import SampleGrid
from keras_ganprune.errors import (
    DataError,
    InvalidArgumentError,
    MissingPackageError,
    OutputError,
    PruningWarning,
)
from keras_ganprune.utils import files


def grid(path, **arguments):
    return SampleGrid(path, **{"n": 6, "columns": 3, "zoom": 2, **arguments})


def names(path):
    return sorted(each.name for each in path.iterdir())


def pngs(path):
    return [name for name in names(path) if name.startswith("epoch_")]


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def frames(path):
    with Image.open(path / "training.gif") as picture:
        found = []
        for i in range(picture.n_frames):
            picture.seek(i)
            found.append((np.asarray(picture.convert("L")), picture.info["duration"]))
        return found


def oracle(images, columns=3, zoom=2):
    """Return the picture of images in [-1, 1]: a white line of two pixels between them."""
    size = nets.SIZE * zoom
    rows = -(-len(images) // columns)
    out = np.full((rows * (size + 2) - 2, columns * (size + 2) - 2), 255, "uint8")
    for i, image in enumerate(images[..., 0]):
        y, x = (i // columns) * (size + 2), (i % columns) * (size + 2)
        grey = np.round((image + 1) / 2 * 255).astype("uint8")
        out[y : y + size, x : x + size] = np.kron(grey, np.ones((zoom, zoom), "uint8"))
    return out


# --- the pictures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: gan_model(), id="gan_model"),
        pytest.param(lambda: gan_model(ema_decay=0.9), id="average", marks=pytest.mark.full),
        pytest.param(
            lambda: foreign_gan(nets.GuideGAN), id="foreign", marks=[foreign, pytest.mark.full]
        ),
        pytest.param(
            lambda: foreign_gan(nets.EmaGAN),
            id="foreign average",
            marks=[foreign, pytest.mark.full],
        ),
    ],
)
def test_pictures_and_animation(make, tmp_path):
    gan, callback = make(), grid(tmp_path / "new" / "samples", seed=4, duration_ms=50)
    fit(gan, callback)
    folder = callback.path
    assert names(folder) == [
        *(f"epoch_000{i}.png" for i in (1, 2, 3)),
        "latest.png",
        "training.gif",
    ]
    network = getattr(gan, "ema_generator", None) or gan.generator
    z = np.random.default_rng(4).standard_normal((6, nets.LATENT), dtype="float32")
    expected = oracle(nets.value(network(z, training=False)))
    # Keras and this oracle may round the last bit of a pixel differently.
    np.testing.assert_allclose(pixels(folder / "latest.png").astype(int), expected, atol=1)
    np.testing.assert_array_equal(pixels(folder / "latest.png"), pixels(folder / "epoch_0003.png"))
    found = frames(folder)
    assert [duration for _, duration in found] == [50, 50, 250]
    for i, (picture, _) in enumerate(found, 1):
        np.testing.assert_array_equal(picture, pixels(folder / f"epoch_000{i}.png"))
    assert not np.array_equal(found[0][0], found[2][0])
    assert (callback.written, callback.failed) == ([1, 2, 3], [])


@cases(1, ("every", "epochs", "drawn"), [(2, 5, [1, 3, 5]), (3, 3, [1, 3]), (9, 4, [1, 4])])
def test_which_epochs_are_drawn(every, epochs, drawn, tmp_path):
    fit(any_gan(), grid(tmp_path, every=every, gif=False), epochs=epochs)
    assert names(tmp_path) == [*(f"epoch_{i:04d}.png" for i in drawn), "latest.png"]


def test_the_animation_is_not_made_anew_for_each_picture(tmp_path, monkeypatch):
    made, animate = [], SampleGrid._animate
    monkeypatch.setattr(
        SampleGrid, "_animate", lambda self, until: (made.append(until), animate(self, until))
    )
    monkeypatch.setattr(sample_grid, "_MAX_FRAMES", 4)
    fit(any_gan(), grid(tmp_path), epochs=9)
    assert made == [1, 2, 4, 8, 9]
    found = frames(tmp_path)
    assert len(found) == 4
    for (picture, _), number in zip(found, (1, 4, 6, 9), strict=True):
        np.testing.assert_array_equal(picture, pixels(tmp_path / f"epoch_{number:04d}.png"))


@WATCHED
def test_training_goes_on_bit_by_bit(make, tmp_path):
    assert_untouched(make, grid(tmp_path))


# --- what is drawn -------------------------------------------------------------------------------


@pytest.mark.full
def test_conditional_gan_draws_the_classes_in_turn(tmp_path):
    gan = gan_model(nets.conditional_pair)
    fit(gan, grid(tmp_path), labels=nets.labels(16), epochs=1)
    expected = gan.generate(6, labels=nets.labels(6), seed=0)
    np.testing.assert_allclose(
        pixels(tmp_path / "latest.png").astype(int), oracle(expected), atol=1
    )
    fit(gan, grid(tmp_path, labels=nets.labels(9)[3:]), labels=nets.labels(16), epochs=1)
    with pytest.raises(DataError, match=r"takes, \(6, 3\). Received: shape \(6,\)"):
        fit(gan, grid(tmp_path, labels=np.arange(6)), labels=nets.labels(16))


def test_labels_that_are_numbers():
    z, number = keras.Input((nets.LATENT,)), keras.Input((1,), dtype="int32")
    x = layers.Concatenate()([z, layers.Flatten()(layers.Embedding(3, 2)(number))])
    network = keras.Model([z, number], layers.Dense(4)(x))
    fixed = fixed_inputs.FixedInputs(5, labels=np.arange(5) % 3)
    latents, numbers = fixed.arrays(network, network)
    assert latents.shape == (5, nets.LATENT)
    np.testing.assert_array_equal(numbers, [[0], [1], [2], [0], [1]])
    with pytest.raises(DataError, match="its classes are not known"):
        fixed_inputs.FixedInputs(5).arrays(network, network)


@foreign
@pytest.mark.full
def test_a_network_that_translates_images(tmp_path):
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    gan = nets.CycleGAN()
    gan.compile(*(Adam(1e-2, 0.5) for _ in range(4)))
    x = nets.images(8)
    data = tf.data.Dataset.from_tensor_slices((x, nets.images(8, 1))).batch(4)
    callback = grid(tmp_path, target="gen_G", inputs=x)
    gan.fit(data, epochs=1, verbose=0, callbacks=[callback])
    expected = oracle(nets.value(gan.gen_G(x[:6])))
    np.testing.assert_allclose(pixels(tmp_path / "latest.png").astype(int), expected, atol=1)
    with pytest.raises(InvalidArgumentError, match=r"which are not latent vectors.*`inputs=images"):
        gan.fit(data, verbose=0, callbacks=[grid(tmp_path, target="gen_G")])


@foreign
@pytest.mark.full
def test_networks_that_the_first_batch_builds(tmp_path):
    generator, discriminator = nets.unbuilt_pair()
    gan = foreign_gan(nets.GuideGAN, generator=generator, discriminator=discriminator)
    fit(gan, grid(tmp_path), epochs=1)
    assert pngs(tmp_path) == ["epoch_0001.png"]
    with pytest.raises(ValueError, match="has no weights yet"):
        network, _ = nets.unbuilt_pair()
        fixed_inputs.outputs(gan, network, fixed_inputs.FixedInputs(2))


def test_a_subclassed_network_of_unknown_inputs():
    network = nets.SubclassedGenerator()
    network.build((None, nets.LATENT))
    holder = keras.Sequential([network])
    with pytest.raises(InvalidArgumentError, match=r"has no `latent_dim`. Pass `inputs=`"):
        fixed_inputs.outputs(holder, network, fixed_inputs.FixedInputs(2))
    z = np.ones((3, nets.LATENT), "float32")
    shown = fixed_inputs.outputs(holder, network, fixed_inputs.FixedInputs(2, inputs=z), 1)
    np.testing.assert_allclose(shown, nets.value(network(z[:2])), rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "mode"),
    [
        pytest.param((8, 8, 1), "L", marks=pytest.mark.full),
        ((8, 8, 3), "RGB"),
        pytest.param((8, 8, 4), "RGBA", marks=pytest.mark.full),
        pytest.param((64,), "L", marks=pytest.mark.full),
    ],
)
def test_kinds_of_images(shape, mode, tmp_path):
    def pair():
        generator = keras.Sequential(
            [keras.Input((3,)), layers.Dense(int(np.prod(shape))), layers.Reshape(shape)]
        )
        return generator, keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(1)])

    gan = kgp.GANModel(*pair(), 3, value_range=(0.0, 1.0))
    gan.compile(Adam(), Adam())
    x = np.random.default_rng(0).uniform(0, 1, (4, *shape)).astype("float32")
    gan.fit(x, batch_size=4, epochs=2, verbose=0, callbacks=[grid(tmp_path, n=1, zoom=1)])
    with Image.open(tmp_path / "latest.png") as picture:
        assert (picture.mode, picture.size) == (mode, (8, 8))
        found = np.asarray(picture).reshape(8, 8, -1)
    # The range is that of the model, so that 0 is black.
    z = np.random.default_rng(0).standard_normal((1, 3), dtype="float32")
    expected = np.clip(nets.value(gan.generator(z))[0], 0, 1).reshape(8, 8, -1)
    np.testing.assert_allclose(found / 255, expected, atol=1 / 255)
    assert len(frames(tmp_path)) == 2


def test_as_images():
    one = np.array([[[0.0, 0.5], [1.0, np.nan]], [[np.inf, -np.inf], [2.0, -1.0]]])
    np.testing.assert_allclose(
        as_images(one, (0.0, 1.0))[..., 0],
        [[[-1.0, 0.0], [1.0, -1.0]], [[1.0, -1.0], [3.0, -3.0]]],
    )
    with pytest.raises(DataError, match=r"must be images.*Received: shape \(4, 10\).*`target`"):
        as_images(np.zeros((4, 10)))
    with pytest.raises(DataError, match=r"Received: shape \(1, 4, 4, 2\)"):
        as_images(np.zeros((1, 4, 4, 2)))


def test_small_images_are_drawn_larger(tmp_path):
    fit(any_gan(), SampleGrid(tmp_path, n=4, columns=8), epochs=1)
    # 8 pixels six times, and three lines of two pixels.
    assert pixels(tmp_path / "latest.png").shape == (48, 4 * 48 + 3 * 2)


def test_a_diverged_generator_is_drawn_black(tmp_path):
    class Ruin(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            weight = self.model.ema_generator.weights[0]
            weight.assign(np.full(weight.shape, np.nan))

    fit(gan_model(ema_decay=0.9), Ruin(), grid(tmp_path, n=1), epochs=1)
    assert not pixels(tmp_path / "latest.png").any()


# --- cut short, resumed, run again ---------------------------------------------------------------


@pytest.mark.full
def test_a_resumed_run_goes_on_with_the_pictures_that_are_there(tmp_path):
    def run(folder, *callbacks):
        path = tmp_path / folder
        backup = BackupAndRestore(str(path / "backup"), delete_checkpoint=False)
        fit(gan_model(), grid(path / "samples"), backup, *callbacks, epochs=4)
        return path / "samples"

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("cut", Break())
    assert pngs(tmp_path / "cut" / "samples") == ["epoch_0001.png", "epoch_0002.png"]
    # This picture was drawn after the last backup, before the interruption.
    (tmp_path / "cut" / "samples" / "epoch_0009.png").write_bytes(b"old")
    cut = run("cut")
    assert names(cut) == names(whole)
    for name in pngs(whole):
        np.testing.assert_array_equal(pixels(cut / name), pixels(whole / name))
    assert len(frames(cut)) == 4


def test_a_new_run_replaces_the_pictures_of_an_old_one(tmp_path):
    fit(any_gan(), grid(tmp_path), epochs=3)
    (tmp_path / "mine.txt").write_text("stays")
    fit(any_gan(), grid(tmp_path, every=2), epochs=2)
    assert names(tmp_path) == [
        "epoch_0001.png",
        "epoch_0002.png",
        "latest.png",
        "mine.txt",
        "training.gif",
    ]
    assert len(frames(tmp_path)) == 2


@pytest.mark.full
def test_another_fit_with_the_same_callback_counts_on(tmp_path):
    callback = grid(tmp_path)
    fit(any_gan(), callback, epochs=2)
    fit(any_gan(), callback, epochs=1)
    fit(any_gan(), callback, epochs=5, initial_epoch=3)
    assert callback.written == [1, 2, 3, 4, 5]
    assert len(frames(tmp_path)) == 5


# --- what goes wrong -----------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "samples"):
        with pytest.raises(OutputError, match="`path` must be a folder that can be written"):
            fit(any_gan(), grid(path))


def test_a_full_disk_is_told_once_and_training_goes_on(tmp_path, monkeypatch):
    new_file = files.new_file

    def failing(path):
        if path.name in ("epoch_0002.png", "epoch_0003.png"):
            raise OSError(28, "No space left on device")
        return new_file(path)

    monkeypatch.setattr(files, "new_file", failing)
    callback = grid(tmp_path)
    with pytest.warns(PruningWarning, match=r"of epoch 2 could not .*No space left") as caught:
        history = fit(any_gan(), callback, epochs=4)
    assert len([w for w in caught if "could not be written" in str(w.message)]) == 1
    assert len(history["generator_loss"]) == 4
    assert (callback.written, callback.failed) == ([1, 4], [2, 3])
    assert len(frames(tmp_path)) == 2


def test_only_the_first_worker_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(distribution, "rank", lambda like: 1)
    fit(any_gan(), grid(tmp_path / "never"), epochs=1)
    assert not (tmp_path / "never").exists()


def test_without_pillow(without):
    without("PIL")
    with pytest.raises(MissingPackageError, match=r"pip install 'keras-ganprune\[demo\]'"):
        SampleGrid("samples")


def test_a_wrong_target_is_told_before_the_first_batch(tmp_path):
    gan = gan_model()
    with pytest.raises(InvalidArgumentError, match="Did you mean 'generator'"):
        fit(gan, grid(tmp_path, target="generater"))
    with pytest.raises(DataError, match="takes only latent vectors"):
        fit(gan, grid(tmp_path, labels=np.arange(6)))
    with pytest.raises(DataError, match=r"must be images.*\(6, 1\)"):
        fit(gan, grid(tmp_path, target="discriminator", inputs=nets.images(6)[:, :, :, :1]))
    assert int(gan.generator_optimizer.iterations) == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"every": 0}, "`every` must be a positive int"),
        ({"n": 0}, "`n` must be a positive int"),
        ({"columns": 1.5}, "`columns` must be a positive int"),
        ({"seed": -1}, "`seed` must be a non-negative int"),
        ({"zoom": 0}, "`zoom` must be a positive int"),
        ({"gif": "yes"}, "`gif` must be True or False"),
        ({"duration_ms": -5}, "`duration_ms` must be a positive int"),
        ({"value_range": (1, 0)}, "`value_range` must be"),
        ({"labels": [1]}, r"`labels` must have one entry for each of the 64 images.*\(1,\)"),
        ({"inputs": np.zeros((3, 4))}, r"`inputs` must have one entry.*\(3, 4\)"),
        ({"labels": [1], "inputs": [2]}, "Give `labels` or `inputs`, not both"),
    ],
)
def test_arguments(arguments, text):
    with pytest.raises(ValueError, match=text):
        SampleGrid("samples", **arguments)


def test_repr():
    assert repr(SampleGrid("a", n=4)) == "<SampleGrid 'a' every 1 epochs: 4 images in 4 columns>"
