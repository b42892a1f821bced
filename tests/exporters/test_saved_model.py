"""SavedModels: stripped, verified, small, and readable without this package."""

import json
import pathlib
import pickle
import subprocess
import sys

import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf

import keras_ganprune as kgp
from keras_ganprune import exporters
from keras_ganprune.errors import (
    ArgumentTypeError,
    ExportError,
    InvalidArgumentError,
    MissingPackageError,
    OutputError,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.exporters import _exchange as _exchange_files
from keras_ganprune.exporters import (
    _tensorflow,
    _tensorflow_process,
    full_precision,
)
from keras_ganprune.exporters._comparison import AS_IT_IS
from keras_ganprune.utils import files

layers = keras.layers


def _generator():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(4 * 4 * 8),
            layers.Reshape((4, 4, 8)),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="tanh"),
        ]
    )


def _gan(**kwargs):
    discriminator = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3, strides=2), layers.Flatten(), layers.Dense(1)]
    )
    gan = kgp.GANModel(_generator(), discriminator, latent_dim=6, seed=0, **kwargs)
    gan.compile()
    return gan


class NoConfig(keras.Model):
    """A subclassed generator without `get_config`."""

    def __init__(self, units, initial):
        super().__init__()
        self.initial = initial  # an array: not serializable
        self.dense = layers.Dense(units)

    def call(self, x):
        return self.dense(x) + self.initial


def test_the_saved_model_gives_the_same_outputs(tmp_path):
    model = _generator()
    kgp.Pruner(model).update(sparsity=0.8)
    report = exporters.export_saved_model(model, tmp_path / "out")
    assert report.max_difference == 0.0
    z = np.random.default_rng(0).standard_normal((5, 6)).astype("float32")
    reloaded = tf.saved_model.load(str(tmp_path / "out"))
    assert np.max(np.abs(reloaded.serve(z).numpy() - model(z, training=False))) <= 1e-5
    assert report.nonzero_parameters < 0.45 * report.parameters
    assert report.bytes == files.folder_bytes(tmp_path / "out")
    assert report.gzip_bytes < report.bytes
    assert "differs by 0 at most" in str(report)


def test_every_variable_is_stored_once(tmp_path):
    model = keras.Sequential([keras.Input((100,)), layers.Dense(1000)])
    exporters.export_saved_model(model, tmp_path / "out")
    stored = next((tmp_path / "out" / "variables").glob("*.data*")).stat().st_size
    weights = 4 * 101_000
    assert weights <= stored < 1.1 * weights


@pytest.mark.full
def test_it_loads_without_keras_and_this_package(tmp_path):
    model = _generator()
    kgp.Pruner(model).update(sparsity=0.5)
    exporters.export_saved_model(model, tmp_path / "out")
    z = np.linspace(-1, 1, 12, dtype="float32").reshape(2, 6)
    np.save(tmp_path / "z.npy", z)
    np.save(tmp_path / "y.npy", model(z, training=False))
    script = (
        "import sys\n"
        "sys.modules['keras_ganprune'] = None\n"  # any import of it fails
        "import numpy as np, tensorflow as tf\n"
        f"folder = {str(tmp_path)!r}\n"
        "model = tf.saved_model.load(folder + '/out')\n"
        "y = model.serve(np.load(folder + '/z.npy')).numpy()\n"
        "assert np.max(np.abs(y - np.load(folder + '/y.npy'))) <= 1e-5\n"
        "print('served', y.shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "served (2, 8, 8, 1)" in done.stdout


def test_a_gan_exports_its_generator_or_the_average(tmp_path):
    gan = _gan(ema_decay=0.9)
    gan.fit(np.zeros((16, 8, 8, 1), "float32"), verbose=0, callbacks=[kgp.Prune(0.5, "generator")])
    z = np.random.default_rng(1).standard_normal((3, 6)).astype("float32")
    for average, network in ((False, gan.generator), (True, gan.ema_generator)):
        path = tmp_path / str(average)
        exporters.export_saved_model(gan, path, average=average)
        loaded = tf.saved_model.load(str(path))
        served = loaded.serve(z).numpy()
        assert np.max(np.abs(served - network(z, training=False))) <= 1e-5
    with pytest.raises(InvalidArgumentError, match="a GAN with an averaged generator"):
        exporters.export_saved_model(_gan(), tmp_path / "no", average=True)
    with pytest.raises(InvalidArgumentError, match="is for a `GANModel`"):
        exporters.export_saved_model(_generator(), tmp_path / "no", average=True)


def test_a_conditional_generator_with_two_inputs(tmp_path):
    z, label = keras.Input((6,)), keras.Input((), dtype="int32")
    joined = layers.Multiply()([z, layers.Embedding(10, 6)(label)])
    model = keras.Model([z, label], layers.Dense(3)(joined))
    kgp.Pruner(model).update(sparsity=0.5)
    assert exporters.export_saved_model(model, tmp_path / "out").max_difference == 0.0


def test_inputs_by_name(tmp_path):
    z, label = keras.Input((6,), name="z"), keras.Input((2,), name="label")
    model = keras.Model({"z": z, "label": label}, layers.Dense(3)(layers.Concatenate()([z, label])))
    kgp.Pruner(model).update(sparsity=0.5)
    assert exporters.export_saved_model(model, tmp_path / "out").max_difference == 0.0
    given = {"z": np.ones((2, 6), "float32"), "label": np.ones((2, 2), "float32")}
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    np.testing.assert_allclose(loaded.serve(given), model(given), atol=1e-5)


NESTED = {
    "a dict in a list": lambda a, b: [a, {"b": b}],
    "a list in a dict": lambda a, b: {"a": a, "b": [b]},
    "a tuple in a list": lambda a, b: [(a, b), b],
}


@pytest.mark.parametrize("case", NESTED)
def test_nested_outputs_are_refused_with_a_flat_model(case, tmp_path):
    x = keras.Input((4,))
    h = layers.Dense(3)(x)
    model = keras.Model(x, NESTED[case](h, layers.Dense(2)(h)))
    with pytest.raises(
        UnsupportedLayerError, match=r"`keras\.Model\(model\.inputs, keras\.tree\.flat"
    ):
        kgp.export_saved_model(model, tmp_path / "model")
    flat = keras.Model(model.inputs, keras.tree.flatten(model.outputs))
    assert kgp.export_saved_model(flat, tmp_path / "model").max_difference == 0


def test_a_subclassed_model_with_config(tmp_path):
    model = nets.SubclassedGenerator()
    model(np.ones((2, nets.LATENT), "float32"))
    kgp.Pruner(model).update(sparsity=0.5)
    assert exporters.export_saved_model(model, tmp_path / "out").max_difference == 0.0


def test_a_subclassed_model_of_two_arguments(tmp_path):
    class TwoArguments(NoConfig):
        def call(self, x, y):
            return self.dense(x) + self.dense(y)

    model = TwoArguments(4, np.ones(4, "float32"))
    model(np.ones((2, 6), "float32"), np.ones((2, 6), "float32"))
    exporters.export_saved_model(model, tmp_path / "out")
    x, y = np.ones((3, 6), "float32"), np.full((3, 6), 2.0, "float32")
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    np.testing.assert_allclose(loaded.serve(x, y), model(x, y), atol=1e-5)


def test_a_subclassed_model_without_config_is_exported_as_it_is(tmp_path):
    model = NoConfig(4, np.ones(4, "float32"))
    x = np.ones((2, 6), "float32")
    model(x)
    kgp.Pruner(model).update(sparsity=0.5)
    exporters.export_saved_model(model, tmp_path / "out")
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    served = loaded.serve(x).numpy()
    assert np.max(np.abs(served - model(x))) <= 1e-5
    assert isinstance(model.dense, kgp.PrunableDense)  # still prunable afterwards


def test_a_lookup_table_survives(tmp_path):
    words = keras.Input((), dtype="string")
    index = layers.StringLookup(vocabulary=["a", "b"])(words)
    model = keras.Model(words, layers.Embedding(3, 4)(index))
    kgp.Pruner(model).update(sparsity=0.5)
    assert exporters.export_saved_model(model, tmp_path / "out").max_difference == 0.0
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    expected = model(tf.constant(["b", "unknown"]))
    assert np.array_equal(loaded.serve(tf.constant(["b", "unknown"])), expected)


def test_a_saved_model_that_differs_is_refused(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    write = _tensorflow.write

    def broken(plain, folder, signature):
        kept = plain.get_weights()
        plain.set_weights([w + 1 for w in kept])
        write(plain, folder, signature)
        plain.set_weights(kept)

    monkeypatch.setattr(_tensorflow, "write", broken)
    with pytest.raises(ExportError, match="must give the outputs of the model"):
        exporters.export_saved_model(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_nan_weights_are_refused(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.set_weights([np.full((3, 2), np.nan), np.zeros(2)])
    with pytest.raises(ExportError, match="NaN or infinite"):
        exporters.export_saved_model(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a[0]", r"\["),
        ("a[0]/model", r"\["),
        ("a*", r"\*"),
        ("a?", r"\?"),
        ("a\\b", r"\\"),
        ("[\\", r"\[ and \\"),
        ("a]", None),
        ("a {b}'#%20", None),
    ],
)
def test_a_path_that_tensorflow_reads_as_a_pattern(tmp_path, name, found):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    if found is None:
        exporters.export_saved_model(model, tmp_path / name)
        tf.saved_model.load(str(tmp_path / name))
        return
    (tmp_path / "link").symlink_to(tmp_path / name)
    for folder in (tmp_path / name, tmp_path / "link"):
        with pytest.raises(OutputError, match=rf"paths as patterns.* which has {found}\."):
            exporters.export_saved_model(model, folder)
        assert not (tmp_path / name).exists()


def test_bad_arguments(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(UnbuiltModelError, match="must be built"):
        exporters.export_saved_model(keras.Sequential([layers.Dense(2)]), tmp_path / "out")
    with pytest.raises(ArgumentTypeError, match="must be a Keras model"):
        exporters.export_saved_model("model.keras", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("keep me")
    with pytest.raises(OutputError, match="must be new or empty"):
        exporters.export_saved_model(model, tmp_path / "full")
    assert (tmp_path / "full" / "precious.txt").exists()
    exporters.export_saved_model(model, tmp_path / "full", overwrite=True)
    assert (tmp_path / "full" / "saved_model.pb").exists()
    assert pathlib.Path(tmp_path / "full").stat().st_mode & 0o055


# --- the process that writes for JAX and PyTorch; see also test_across_backends.py ----------------


def _exchange(folder, model, classes=()):
    inputs = np.ones((2, *model.input_shape[1:]), "float32")
    _exchange_files.write(model, folder, 1e-5, inputs, AS_IT_IS)
    path = folder / "request.pickle"
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | {"classes": classes}))
    _tensorflow_process.main(folder)
    return json.loads((folder / "answer.json").read_text())


def test_the_process_writes_and_answers(tmp_path):
    answer = _exchange(tmp_path, _generator())
    assert answer == {"outputs": 1, "difference": 0.0}
    loaded = tf.saved_model.load(str(tmp_path / "saved_model"))
    with np.load(tmp_path / "arrays.npz") as arrays:
        served = loaded.serve(np.ones((2, nets.LATENT), "float32"))
        np.testing.assert_allclose(served, arrays["output_0"], atol=1e-6)


def test_the_process_reports_errors(tmp_path, monkeypatch):
    nan = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    nan.set_weights([np.full((3, 2), np.nan), np.zeros(2)])
    (tmp_path / "nan").mkdir()
    answer = _exchange(tmp_path / "nan", nan)
    assert answer["error"] == "ExportError" and "NaN or infinite outputs" in answer["text"]

    (tmp_path / "class").mkdir()
    answer = _exchange(tmp_path / "class", _generator(), [("networks", "NoSuchLayer")])
    assert answer["error"] == "Exception"
    assert answer["text"].startswith("AttributeError: module 'networks' has no")

    def full(plain, folder, signature):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(_tensorflow, "write", full)
    (tmp_path / "full").mkdir()
    answer = _exchange(tmp_path / "full", _generator())
    assert answer == {"error": "OSError", "text": "No space left on device"}


def test_a_full_disk(tmp_path, monkeypatch):
    def full(plain, folder, signature):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(_tensorflow, "write", full)
    with pytest.raises(OutputError, match=r"out' could not be written \(No space left on device"):
        exporters.export_saved_model(_generator(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@keras.saving.register_keras_serializable("test_export")
def doubled(x):
    return 2 * x


class Doubled(layers.Layer):
    def call(self, x):
        return doubled(x)


def test_classes_and_functions_that_are_not_of_keras_are_found_in_the_file(tmp_path):
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation=doubled), Doubled()])
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, activation="relu"), inner])
    model.save(tmp_path / "model.keras")
    found = _exchange_files.own_classes(tmp_path / "model.keras")
    assert found == [(__name__, "Doubled"), (__name__, "doubled")]


def test_classes_that_no_other_process_can_import(tmp_path, monkeypatch):
    class Local(layers.Layer):
        pass

    for layer, text in (
        (Local(), f"'Local' of the module '{__name__}'"),
        (Doubled(), "__main__"),
    ):
        monkeypatch.setattr(Doubled, "__module__", "__main__")
        model = keras.Sequential([keras.Input((3,)), layer])
        model.save(tmp_path / "model.keras")
        with pytest.raises(_exchange_files.NotRebuiltError, match=text):
            _exchange_files.own_classes(tmp_path / "model.keras")


def test_tensorflow_is_looked_for_without_an_import(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingPackageError, match="needs TensorFlow"):
        files.check_tensorflow()


def test_half_precision_may_differ_by_a_few_of_its_steps():
    assert full_precision.coarsest_step(nets.dcgan_generator()) == 0
    assert full_precision.coarsest_step(nets.dcgan_generator(dtype="mixed_bfloat16")) == 2.0**-7
