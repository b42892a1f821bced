"""Files for ONNX Runtime, LiteRT and OpenVINO give the outputs of the model, or are refused with a reason."""

import pathlib
import warnings

import keras
import numpy as np
import pytest
from cases import cases
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import (
    ArgumentTypeError,
    ExportError,
    InvalidArgumentError,
    OutputError,
    UnsupportedLayerError,
)
from keras_ganprune.exporters import proof
from keras_ganprune.exporters.conversion_source import conversion_source
from keras_ganprune.exporters.formats import FORMATS

pytest.importorskip("tensorflow")
for module in ("onnxruntime", "tf2onnx", "ai_edge_litert", "openvino", "nncf"):
    pytest.importorskip(module)

pytestmark = pytest.mark.filterwarnings(
    # Converters and runtimes of other projects.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore:.*Interpreter is deprecated.*:UserWarning",
    "ignore:In (ONNX Runtime|LiteRT|OpenVINO), :keras_ganprune.errors.PruningWarning",
)


def stack(shape, *inner):
    return keras.Sequential([keras.Input(shape), *inner])


def mlp():
    return stack((16,), layers.Dense(64, "relu"), layers.Dense(48, "tanh"))


def deconvolutional():
    up = {"strides": 2, "padding": "same"}
    return stack(
        (16,),
        layers.Dense(4 * 4 * 16),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Reshape((4, 4, 16)),
        layers.Conv2DTranspose(8, 4, activation="relu", **up),
        layers.Conv2DTranspose(1, 4, activation="tanh", **up),
    )


def conditional():
    z, label = keras.Input((8,), name="z"), keras.Input((), dtype="int32", name="label")
    x = layers.Concatenate()([z, layers.Embedding(3, 8)(label)])
    return keras.Model([z, label], layers.Dense(24, activation="tanh")(x))


def super_resolution():
    x = image = keras.Input((None, None, 3))
    x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(12, 3, padding="same")(x))
    x = keras.ops.reshape(layers.Conv2D(12, 3, padding="same")(x), (-1, 8, 8, 2, 2, 3))
    x = keras.ops.reshape(keras.ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 16, 16, 3))
    return keras.Model(image, x)


def unet():
    image, mask = keras.Input((16, 16, 1), name="image"), keras.Input((16, 16, 1), name="mask")
    top = layers.Conv2D(8, 3, padding="same", activation="relu")(
        layers.Concatenate()([image, mask])
    )
    x = layers.Conv2D(16, 3, 2, padding="same", activation="relu")(top)
    x = layers.Conv2DTranspose(8, 4, 2, padding="same", activation="relu")(x)
    x = layers.Conv2D(1, 3, padding="same", activation="tanh")(layers.Concatenate()([top, x]))
    return keras.Model({"image": image, "mask": mask}, kgp.keep_known_pixels(x, image, mask))


def mobile():
    return stack(
        (32, 32, 3),
        layers.Conv2D(16, 3, 2, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(6.0),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(6.0),
        layers.Conv2D(32, 1),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10),
    )


def recurrent():
    return stack((6, 8), layers.GRU(16, return_sequences=True), layers.Dense(5))


def transformer():
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 16)(tokens)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x))
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(tokens, x)


def two_outputs():
    x = keras.Input((8,))
    return keras.Model(x, {"b": layers.Dense(3)(x), "a": layers.Dense(2)(x)})


MODELS = {
    f.__name__: f
    for f in (
        mlp,
        deconvolutional,
        conditional,
        super_resolution,
        unet,
        mobile,
        recurrent,
        transformer,
        two_outputs,
    )
}
# (model, format, precision) -> part of the reason why it is refused.
REFUSED = {
    ("recurrent", "litert", "int8"): "no recurrent layers of 8 bits",
    **{
        (name, "saved_model", p): "float32 weights only"
        for name in MODELS
        for p in ("float16", "int8")
    },
}
ROWS = [
    (name, format, precision, form)
    for name in MODELS
    for format in FORMATS
    for precision in ("float32", "float16", "int8")
    for form in ("dense", "masked", "shrunk")
]


def network(name, form="dense"):
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    if form == "masked":
        kgp.make_prunable(model)
        kgp.Pruner(model).update(sparsity=0.8)
    elif form == "shrunk":
        model = kgp.shrink(model, sparsity=0.5)
    return model


def inputs_of(model, n=32):
    from keras_ganprune.layers.probe_inputs import probe_inputs

    return probe_inputs(model, None, batch=n)


def options_of(name, model, format, precision):
    options = {"latency": False}
    if precision == "int8":
        options["calibration"] = inputs_of(model)
    if name == "recurrent" and format == "litert":
        options["batch_size"] = 1
    if name == "super_resolution":
        options["inputs"] = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3)).astype("float32")
        if precision == "int8":
            options["calibration"] = np.resize(options["inputs"], (16, 8, 8, 3))
    return options


DEFAULT = {
    ("mlp", "onnx", "float32", "masked"),
    ("mlp", "litert", "float32", "masked"),
    ("mlp", "litert", "int8", "masked"),
}


@pytest.mark.parametrize(
    ("name", "format", "precision", "form"),
    [pytest.param(*row, marks=[] if row in DEFAULT else pytest.mark.full) for row in ROWS],
)
def test_a_file_gives_the_outputs_of_the_model_or_is_refused(
    name, format, precision, form, tmp_path
):
    model = network(name, form)
    options = options_of(name, model, format, precision)
    path = tmp_path / "file"
    reason = REFUSED.get((name, format, precision))
    if reason is not None:
        with pytest.raises((InvalidArgumentError, UnsupportedLayerError), match=reason):
            kgp.export(model, path, format, precision=precision, **options)
        assert not list(tmp_path.iterdir())
        return
    report = kgp.export(model, path, format, precision=precision, **options)
    assert report.path.exists() and report.bytes > 0
    assert_alike(model, report, options.get("inputs"))
    if form == "masked":
        assert report.zeros > 0.7 * report.weights
        assert report.zeros_in_file == report.zeros or any(
            "not looked for" in n for n in report.notes
        )


def assert_alike(model, report, given=None):
    """Run the file with its runtime alone, on inputs that the export has not seen."""
    exporter = FORMATS[report.format]
    forms = exporter.inputs(report.path)
    fixed = {form.shape[0] for form in forms.values()} - {None}
    batch = min(fixed) if fixed else 5
    structure = inputs_of(model, batch) if given is None else np.resize(given, (batch, 8, 8, 3))
    arrays = keras.tree.flatten(structure)
    names = list(forms)
    if len(names) > 1:
        names = [tensor.name for tensor in keras.tree.flatten(model.inputs)]
    values = {
        name: np.asarray(array, forms[name].dtype)
        for name, array in zip(names, arrays, strict=True)
    }
    found = exporter.load(report.path, exact=True)(values)
    expected = model(structure, training=False)
    if not isinstance(expected, dict):
        expected = {"output_0": expected}
    assert set(found) == set(expected)
    for key, value in expected.items():
        one, other = keras.ops.convert_to_numpy(value), np.asarray(found[key])
        assert one.shape == other.shape
        limits = {"float32": 1e-4, "float16": 1e-2, "int8": 0.2}
        span = float(one.max() - one.min())
        assert np.abs(one - other).max() <= limits[report.precision] * max(1.0, span)


# --- faults of the runtimes that nothing says ------------------------------------------------------


def lite(model, folder, prepare):
    """Return a LiteRT file that a converter writes with given settings, without any check."""
    import tensorflow as tf

    (folder / "source").mkdir()
    source = conversion_source(model, folder / "source", inputs_of(model, 4), None, 1e-5)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(source.folder))
    prepare(converter, tf)
    path = folder / "file.tflite"
    path.write_bytes(converter.convert())
    return path


def proven(model, path, precision):
    exporter = FORMATS["litert"]
    batch = inputs_of(model, 3)
    name = next(iter(exporter.inputs(path)))
    expected = [{"output_0": keras.ops.convert_to_numpy(model(batch, training=False))}]
    found = proof.run_all(exporter, path, [{name: batch}])
    proof.check_agreement(proof.agreement(expected, found, "file"), precision, None, "file")


def half_and_sparse(converter, tf):
    converter.optimizations = [tf.lite.Optimize.DEFAULT, tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    converter.target_spec.supported_types = [tf.float16]


def dynamic_range_and_sparse(converter, tf):
    converter.optimizations = [tf.lite.Optimize.DEFAULT, tf.lite.Optimize.EXPERIMENTAL_SPARSITY]


@pytest.mark.full
@pytest.mark.parametrize(
    ("prepare", "precision"), [(half_and_sparse, "float16"), (dynamic_range_and_sparse, "int8")]
)
def test_sparse_files_of_other_precisions_are_found_out(prepare, precision, tmp_path):
    """float16: NaN. Dynamic range: the runtime cannot prepare it."""
    model = network("deconvolutional", "masked")
    path = lite(kgp.strip_pruning(model), tmp_path, prepare)
    with pytest.raises(ExportError):
        proven(model, path, precision)


@pytest.mark.full
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_sparse_is_for_float32(precision, tmp_path):
    model = network("deconvolutional", "masked")
    with pytest.raises(InvalidArgumentError, match="`sparse=True` cannot be used here"):
        kgp.export(model, tmp_path / "f", "litert", precision=precision, sparse=True)


@pytest.mark.full
def test_a_model_that_keras_has_quantized_is_right_or_refused(tmp_path):
    model = network("mlp")
    model.quantize("int8")
    for format in ("onnx", "litert", "openvino"):
        try:
            report = kgp.export(model, tmp_path / format, format, latency=False)
        except (ExportError, UnsupportedLayerError):
            assert not (tmp_path / format).exists()
            continue
        assert_alike(model, report)


# --- what is left out, and what it weighs ----------------------------------------------------------


@pytest.mark.full
def test_a_sparse_litert_file_is_small(tmp_path):
    keras.utils.set_random_seed(0)
    model = stack((100,), layers.Dense(256, "relu"), layers.Dense(512, "relu"), layers.Dense(784))
    kgp.make_prunable(model)
    kgp.Pruner(model, granularity=kgp.Block((4, 1))).update(sparsity=0.8)
    small = kgp.export(model, tmp_path / "small", "litert", latency=False)
    large = kgp.export(model, tmp_path / "large", "litert", sparse=False, latency=False)
    assert small.bytes <= 0.32 * large.bytes
    assert small.zeros_in_file == large.zeros_in_file == small.zeros


def test_batch_sizes(tmp_path):
    model = network("mlp")
    report = kgp.export(model, tmp_path / "one", "litert", batch_size=2, latency=False)
    forms = FORMATS["litert"].inputs(report.path)
    assert [form.shape[0] for form in forms.values()] == [2]


@pytest.mark.full
def test_a_gan_exports_its_sampler_and_draws_its_calibration(tmp_path):
    keras.utils.set_random_seed(0)
    discriminator = stack((48,), layers.Dense(1))
    gan = kgp.GANModel(mlp(), discriminator, latent_dim=16, ema_decay=0.5)
    gan.compile("adam", "adam")
    gan.fit(np.zeros((8, 48), "float32"), epochs=2, verbose=0)
    for precision in ("float32", "int8"):
        report = kgp.export(gan, tmp_path / precision, "litert", precision=precision, latency=False)
        assert_alike(gan.ema_generator, report)


@pytest.mark.full
def test_times_and_a_warning_where_eight_bits_are_slower(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = kgp.export(network("mlp"), tmp_path / "f", "onnx")
    assert set(report.milliseconds) == {1, 16}
    assert all(ms > 0 for ms in report.milliseconds.values())


# --- wrong arguments -------------------------------------------------------------------------------

CALIBRATION = np.random.default_rng(0).standard_normal((8, 16)).astype("float32")


@cases(
    3,
    ("change", "error", "text"),
    [
        ({"format": "tflite"}, InvalidArgumentError, "`format` must be one of"),
        ({"precision": "int4"}, InvalidArgumentError, "`precision` must be one of"),
        ({"precision": "int8"}, InvalidArgumentError, "Files of 8 bits need `calibration`"),
        ({"calibration": CALIBRATION}, InvalidArgumentError, "`calibration` is for"),
        (
            {"format": "saved_model", "precision": "float16"},
            InvalidArgumentError,
            "float32 weights",
        ),
        ({"format": "saved_model", "batch_size": 2}, InvalidArgumentError, "takes any batch size"),
        (
            {"precision": "int8", "calibration": CALIBRATION[:, :4]},
            InvalidArgumentError,
            "`calibration`",
        ),
        (
            {"precision": "int8", "calibration": CALIBRATION[:0]},
            InvalidArgumentError,
            "at least one",
        ),
        (
            {"precision": "int8", "calibration": CALIBRATION * np.nan},
            InvalidArgumentError,
            "must be finite",
        ),
        (
            {"precision": "int8", "calibration": 0 * CALIBRATION},
            InvalidArgumentError,
            "one value, 0, everywhere",
        ),
        ({"tolerance": -1.0}, InvalidArgumentError, "tolerance"),
        ({"batch_size": 0}, InvalidArgumentError, "batch_size"),
        ({"sparse": "yes"}, InvalidArgumentError, "`sparse` must be one of"),
        ({"path": "model.tflite"}, InvalidArgumentError, "must end in '.onnx'"),
        ({"path": 3}, ArgumentTypeError, "A path must be"),
        ({"path": "taken.onnx"}, OutputError, "exists"),
        ({"tolerance": 0.0, "precision": "float16"}, ExportError, "Largest difference"),
    ],
)
def test_wrong_arguments(change, error, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("taken.onnx").write_text("mine")
    arguments = {"path": "file", "format": "onnx", "latency": False, **change}
    with pytest.raises(error, match=text):
        kgp.export(network("mlp"), **arguments)
    assert [p.name for p in tmp_path.iterdir()] == ["taken.onnx"]
    assert pathlib.Path("taken.onnx").read_text() == "mine"


@pytest.mark.full
def test_text_and_layers_that_a_format_has_not(tmp_path):
    words = stack((), layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=4))
    words = keras.Sequential(
        [keras.Input((1,), dtype="string"), *words.layers, layers.Embedding(9, 2)]
    )
    for format in ("onnx", "litert", "openvino"):
        with pytest.raises(UnsupportedLayerError, match="Only a SavedModel takes text"):
            kgp.export(words, tmp_path / "f", format)
    with pytest.raises(UnsupportedLayerError, match="fixed batch size for a recurrent layer"):
        kgp.export(network("recurrent"), tmp_path / "f", "litert")
    assert not list(tmp_path.iterdir())
