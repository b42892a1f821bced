"""Files for ONNX Runtime, LiteRT and OpenVINO give the outputs of the model, or are refused with a reason."""

import errno
import json
import os
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
from keras_ganprune.exporters._comparison import input_names
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
    "ignore:ONNX Runtime computes convolutions:keras_ganprune.errors.PruningWarning",
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
    h = layers.Dense(16, "relu")(x)
    return keras.Model(x, {"b": layers.Dense(3)(h), "a": layers.Dense(2)(h)})


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
    if report.format != "saved_model":
        names = list(input_names(model, structure))
    elif len(names) > 1:
        names = [tensor.name for tensor in keras.tree.flatten(model.inputs)]
    assert set(names) == set(forms)
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


@pytest.mark.full
@pytest.mark.parametrize("format", ["onnx", "litert", "openvino"])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_that_computes_in_half_precision(policy, format, tmp_path):
    model = stack(
        (16,),
        layers.Dense(64, "relu", dtype=policy),
        layers.Dense(8, dtype="float32"),
    )
    for precision, calibration in (("float32", None), ("int8", inputs_of(model))):
        kgp.export(
            model,
            tmp_path / precision,
            format,
            precision=precision,
            calibration=calibration,
            latency=False,
        )
    assert model.layers[0].compute_dtype == policy.removeprefix("mixed_")


@pytest.mark.full
@pytest.mark.parametrize("activation", ["gelu", "celu", "silu", "softplus", "hard_swish"])
def test_activations_in_onnx(activation, tmp_path):
    model = stack((16,), layers.Dense(8, activation))
    assert_alike(model, kgp.export(model, tmp_path / "f", "onnx", latency=False))


@pytest.mark.full
@pytest.mark.parametrize("format", ["onnx", "litert", "openvino"])
def test_a_network_with_a_batch_size_of_its_own(format, tmp_path):
    model = keras.Sequential([keras.Input(batch_shape=(2, 6, 8)), layers.LSTM(8, stateful=True)])
    report = kgp.export(model, tmp_path / "f", format)
    assert set(report.milliseconds) == {2}


@pytest.mark.full
@pytest.mark.parametrize("format", ["saved_model", "onnx", "litert", "openvino"])
def test_names_of_inputs_that_are_no_names_of_python(format, tmp_path):
    one, other = keras.Input((8,), name="my input-1"), keras.Input((4,), name="2nd")
    model = keras.Model([one, other], layers.Dense(3)(layers.Concatenate()([one, other])))
    report = kgp.export(model, tmp_path / "f", format, latency=False)
    assert len(FORMATS[format].inputs(report.path)) == 2


@pytest.mark.full
@pytest.mark.parametrize("format", ["onnx", "litert", "openvino"])
def test_what_no_runtime_has_is_refused_with_a_way_out(format, tmp_path):
    inputs = keras.Input((8,))
    ranked = keras.Model(inputs, keras.ops.argmax(layers.Dense(5)(inputs), -1))
    with pytest.raises(UnsupportedLayerError, match="Export the network without them"):
        kgp.export(ranked, tmp_path / "f", format)
    assert not list(tmp_path.iterdir())


@pytest.mark.full
@pytest.mark.parametrize(
    ("format", "layer", "text"),
    [
        ("litert", layers.UpSampling2D(2, interpolation="bicubic"), "ResizeBicubic.*bilinear"),
        ("openvino", layers.UpSampling2D(2, interpolation="bicubic"), "ResizeBicubic.*bilinear"),
        ("onnx", layers.Conv2D(4, 3, groups=2), "`groups=1`"),
    ],
    ids=str,
)
def test_the_operator_that_is_missing_is_named(format, layer, text, tmp_path):
    with pytest.raises(UnsupportedLayerError, match=text):
        kgp.export(stack((6, 6, 2), layer), tmp_path / "f", format)


@pytest.mark.full
def test_weights_in_half_precision_are_refused_with_a_way_out(tmp_path):
    model = stack((16,), layers.Dense(64, "relu", dtype="float16"))
    with pytest.raises(UnsupportedLayerError, match="made of float32 weights"):
        kgp.export(model, tmp_path / "f", "litert", latency=False)


@pytest.mark.full
@pytest.mark.parametrize("format", ["onnx", "litert", "openvino"])
def test_statistics_of_the_data_that_a_layer_holds(format, tmp_path):
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(5, 2, (100, 8)))
    model = stack((8,), normalization, layers.Dense(32, "relu"), layers.Dense(3))
    assert_alike(model, kgp.export(model, tmp_path / "f", format, latency=False))


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


def generator_mlp():
    """Return the trained-size network on which the faults were seen."""
    keras.utils.set_random_seed(0)
    inner = [layers.Dense(width, "relu") for width in (256, 512, 1024)]
    return stack((100,), *inner, layers.Dense(784, "tanh"))


@pytest.mark.full
def test_sparse_blocks_of_16_in_8_bits_are_found_out(tmp_path):
    """LiteRT computes other outputs, and says nothing."""
    model = generator_mlp()
    kgp.make_prunable(model)
    kgp.Pruner(model, granularity=kgp.Block((16, 1))).update(sparsity=0.9)
    model = kgp.strip_pruning(model)
    for layer in model.layers:
        layer.kernel.assign(4.0 * layer.kernel)  # so that the outputs fill their range, -1 to 1

    def prepare(converter, tf):
        lite = tf.lite
        converter.optimizations = [lite.Optimize.DEFAULT, lite.Optimize.EXPERIMENTAL_SPARSITY]
        converter.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS_INT8]
        batch = inputs_of(model, 64)
        converter.representative_dataset = lambda: ([row[None]] for row in batch)

    path = lite(model, tmp_path, prepare)
    with pytest.raises(ExportError):
        proven(model, path, "int8")
    # Without the sparse encoding, as `export` writes it, the same network is right.
    report = kgp.export(
        model, tmp_path / "ours", "litert", precision="int8", calibration=inputs_of(model, 64)
    )
    assert report.mean_difference < 0.02


@pytest.mark.full
def test_what_keras_quantized_is_wrong_in_its_openvino_file_and_found_out(tmp_path):
    model = generator_mlp()
    model.quantize("int8")
    path = tmp_path / "keras.xml"
    model.export(str(path), format="openvino", verbose=False)
    exporter = FORMATS["openvino"]
    batch = inputs_of(model, 3)
    expected = [{"output": keras.ops.convert_to_numpy(model(batch, training=False))}]
    (name,) = exporter.inputs(path)
    values = next(iter(exporter.load(path, exact=True)({name: batch}).values()))
    with pytest.raises(ExportError):
        found = proof.agreement(expected, [{"output": values}], "file")
        proof.check_agreement(found, "float32", None, "file")


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


@pytest.mark.full
def test_an_export_reports_nothing_to_anybody(tmp_path, monkeypatch):
    """OpenVINO and NNCF send an event for each conversion, by a fork of the process."""
    sender = pytest.importorskip("openvino_telemetry.utils.sender").TelemetrySender
    sent = []

    def send(self, backend, message):
        sent.append(message)

    monkeypatch.setattr(sender, "send", send)
    model = network("mlp")
    calibration = inputs_of(model)
    kgp.export(
        model,
        tmp_path / "f",
        "openvino",
        precision="int8",
        calibration=calibration,
        latency=False,
    )
    assert sent == [] and sender.send is send


# --- quality, ranges, widths -----------------------------------------------------------------------


def test_quality_is_measured_on_the_outputs_of_the_file(tmp_path):
    model, x = network("mlp"), inputs_of(network("mlp"), 100)
    report = kgp.export(
        model,
        tmp_path / "file",
        "litert",
        latency=False,
        quality=lambda predict: {"mean": predict(x).mean(), "rows": len(predict(x))},
    )
    expected = keras.ops.convert_to_numpy(model(x)).mean()
    assert report.quality["rows"] == 100
    np.testing.assert_allclose(report.quality["mean"], expected, rtol=1e-4)
    np.testing.assert_allclose(report.model_quality["mean"], expected, rtol=1e-4)
    assert "mean" in str(report) and "the model:" in str(report)


@pytest.mark.full
@pytest.mark.parametrize("format", ["saved_model", "onnx", "litert", "openvino"])
def test_the_images_of_a_file_are_judged_like_those_of_the_gan(format, tmp_path):
    keras.utils.set_random_seed(0)
    up = {"strides": 2, "padding": "same"}
    z, label = keras.Input((8,)), keras.Input((), dtype="int32")
    x = layers.Concatenate()([z, layers.Embedding(2, 4)(label)])
    x = layers.Reshape((2, 2, 8))(layers.Dense(32)(x))
    x = layers.Conv2DTranspose(8, 4, activation="relu", **up)(x)
    generator = keras.Model([z, label], layers.Conv2DTranspose(1, 4, activation="tanh", **up)(x))
    image, label = keras.Input((8, 8, 1)), keras.Input((), dtype="int32")
    x = layers.Concatenate()([layers.Flatten()(image), layers.Embedding(2, 4)(label)])
    discriminator = keras.Model([image, label], layers.Dense(1)(x))
    gan = kgp.GANModel(generator, discriminator, latent_dim=8)
    rng = np.random.default_rng(0)
    extractor = keras.Sequential([keras.Input((8, 8, 1)), layers.AveragePooling2D(4)])
    extractor.add(layers.Flatten())
    quality = kgp.ImageQuality(
        rng.uniform(-1, 1, (200, 8, 8, 1)),
        np.arange(200) % 2,
        extractor=kgp.FeatureExtractor(extractor),
        samples=200,
    )
    report = kgp.export(gan, tmp_path / "file", format, quality=quality, latency=False)
    expected = quality.measure_generator(gan).fd
    np.testing.assert_allclose(report.model_quality["fd"], expected, rtol=1e-3)
    # OpenVINO computes in bfloat16 on some processors.
    np.testing.assert_allclose(report.quality["fd"], expected, rtol=0.05)


@pytest.mark.parametrize(
    ("returned", "error"),
    [("much", ArgumentTypeError), ({}, ArgumentTypeError), (np.nan, InvalidArgumentError)],
)
def test_a_quality_that_is_no_number_leaves_no_file(returned, error, tmp_path):
    with pytest.raises(error, match="`quality` must return"):
        kgp.export(
            network("mlp"),
            tmp_path / "f",
            "litert",
            quality=lambda predict: returned,
            latency=False,
        )
    assert not list(tmp_path.iterdir())


def trained_statistics():
    """Return a network whose batch normalization has seen inputs of the deviation 1."""
    model = stack((16,), layers.Dense(16), layers.BatchNormalization(), layers.Dense(4))
    x = np.random.default_rng(0).standard_normal((256, 16)).astype("float32")
    kgp.recalibrate_batch_norm(model, x)
    return model, x


@pytest.mark.parametrize("factor", [127.5, 1 / 255])
@pytest.mark.parametrize("known", ["statistics", "inputs"])
def test_a_calibration_of_another_range_is_found_out(factor, known, tmp_path):
    model, x = trained_statistics()
    more = {} if known == "statistics" else {"inputs": x[:8]}
    model = model if known == "statistics" else network("mlp")
    with pytest.raises(InvalidArgumentError, match="`calibration` must have the range"):
        kgp.export(
            model, tmp_path / "f", "litert", precision="int8", calibration=factor * x, **more
        )
    assert not list(tmp_path.iterdir())


def test_a_strange_calibration_is_taken_with_inputs_like_it(tmp_path):
    model, x = trained_statistics()
    x = 127.5 * x
    given = {"calibration": x, "inputs": x[:8], "tolerance": 1e3}
    kgp.export(model, tmp_path / "f", "litert", precision="int8", latency=False, **given)


def test_a_calibration_of_the_right_range_is_taken(tmp_path):
    model, x = trained_statistics()
    for scale in (0.5, 1.0, 2.0):
        kgp.export(
            model,
            tmp_path / f"{scale}",
            "litert",
            precision="int8",
            calibration=scale * x,
            latency=False,
        )


@pytest.mark.full
@pytest.mark.parametrize("share", [0.99, 0.5, 0.0])
def test_a_calibration_is_taken_after_a_training_of_a_few_steps(share, tmp_path):
    """Moving averages that begin with 1, and inputs of layers that are far smaller."""
    model, x = trained_statistics()
    kernel, norm = model.layers[0].kernel, model.layers[1]
    kernel.assign(0.05 * kernel)
    norm.moving_variance.assign(share + (1 - share) * 0.0025 * norm.moving_variance)
    kgp.export(
        model,
        tmp_path / "f",
        "litert",
        precision="int8",
        calibration=x,
        latency=False,
        tolerance=9.0,
    )


@pytest.mark.full
@pytest.mark.parametrize(
    ("width", "format", "warns"),
    [(15, "onnx", True), (16, "onnx", False), (6, "onnx", False), (15, "litert", False)],
)
def test_widths_that_onnx_runtime_is_slow_with(width, format, warns, tmp_path):
    model = stack(
        (8, 8, 3), layers.Conv2D(width, 3), layers.GlobalAveragePooling2D(), layers.Dense(10)
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = kgp.export(model, tmp_path / "f", format, latency=False)
    found = [str(w.message) for w in caught if issubclass(w.category, kgp.PruningWarning)]
    assert len(found) == warns
    assert all("Channel(round_to=8)" in text and "15" in text for text in found)
    assert any("round_to" in note for note in report.notes) == warns


# --- files that cannot be written ------------------------------------------------------------------


@cases(1, ("kind",), [("full",), ("read-only",), ("a file as folder",)])
def test_what_cannot_be_written_is_said_and_leaves_nothing(kind, tmp_path, monkeypatch):
    path = tmp_path / "f.tflite"
    if kind == "a file as folder":
        (tmp_path / "f").write_text("")
        path = tmp_path / "f" / "g.tflite"
    else:
        code = errno.ENOSPC if kind == "full" else errno.EROFS

        write = pathlib.Path.write_bytes

        def written(self, data):
            # Files of the converters are in the folder for temporary files.
            if tmp_path in self.parents:
                raise OSError(code, os.strerror(code), str(self))
            return write(self, data)

        monkeypatch.setattr(pathlib.Path, "write_bytes", written)
    with pytest.raises(OutputError):
        kgp.export(network("mlp"), path, "litert", latency=False)
    assert [p.name for p in tmp_path.iterdir()] == (["f"] if kind == "a file as folder" else [])


def test_the_report_can_be_written_as_json(tmp_path):
    report = kgp.export(network("mlp"), tmp_path / "f", "litert", latency=False)
    assert json.loads(json.dumps(report.to_dict()))["bytes"] == report.bytes


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
        ({"quality": 3}, ArgumentTypeError, "`quality` must be an `ImageQuality`"),
        ({"quality": float}, ArgumentTypeError, "`quality` must be an `ImageQuality`"),
        ({"path": "model.tflite"}, InvalidArgumentError, "must end in '.onnx'"),
        ({"path": 3}, ArgumentTypeError, "`path` must be a path"),
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
