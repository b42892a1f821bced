"""`export`: one network as a file for the runtime where it will live, proven in that runtime."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any, Literal

import keras

from keras_ganprune.errors import InvalidArgumentError, OutputError
from keras_ganprune.exporters import _comparison
from keras_ganprune.exporters.calibration import calibration_batches, calibration_inputs
from keras_ganprune.exporters.contract import Arrays, Exporter, ExportOptions
from keras_ganprune.exporters.conversion_source import conversion_source
from keras_ganprune.exporters.export_job import ExportJob, kernels_of
from keras_ganprune.exporters.file_quality import check_quality
from keras_ganprune.exporters.file_report import FileReport
from keras_ganprune.exporters.formats import FORMATS, PRECISIONS
from keras_ganprune.exporters.full_precision import in_float32
from keras_ganprune.exporters.saved_model import export_saved_model
from keras_ganprune.exporters.saved_model_measurements import with_measurements
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.as_saved import uncompiled
from keras_ganprune.layers.stripping import mask_written_values, plain_classes
from keras_ganprune.utils import annotated, files, validation

Format = Literal["saved_model", "onnx", "litert", "openvino"]
Precision = Literal["float32", "float16", "int8"]


def export(
    model: keras.Model,
    path: str | os.PathLike[str],
    format: Format = "saved_model",
    *,
    precision: Precision = "float32",
    calibration: Any = None,
    sparse: bool | Literal["auto"] = "auto",
    batch_size: int | None = None,
    inputs: Any = None,
    tolerance: float | None = None,
    quality: Any = None,
    latency: bool = True,
    overwrite: bool = False,
) -> FileReport:
    """Write a network as a file for another runtime, run the file there, and compare it with the model.

    The file holds no masks and needs neither Keras nor this package. It is written only if its runtime gives
    the outputs of the model, for batches of 1 and 3 samples.

    Args:
        model: A built Keras model. For a `GANModel` or an `ImageToImageGAN`, the generator is exported: the
            averaged one, if there is one.
        path: The file to write, such as 'digits.onnx'; for 'saved_model' the folder. A missing ending is
            added. The weights of an OpenVINO file are in a second file beside it, which ends in '.bin'.
        format: 'saved_model', 'onnx' (ONNX Runtime), 'litert' (TensorFlow Lite) or 'openvino'. Defaults to
            'saved_model'.
        precision: 'float32', 'float16' (half the bytes) or 'int8' (a quarter of the bytes). Defaults to
            'float32'.
        calibration: For 'int8', inputs like those that the file will see: an array (n, ...), or a list or
            dict of them, some hundred samples. Defaults to None: latent vectors for a `GANModel`.
        sparse: Whether a float32 LiteRT file leaves out the zeros of masked kernels. Defaults to 'auto': if
            there are some, and the file proves to be right.
        batch_size: Positive int, fixed batch size of the file. Recurrent layers in LiteRT need one. Defaults
            to None: any.
        inputs: A batch to compare on, as for `export_saved_model`. Defaults to None: the `calibration`, or
            random values in the range of the layers.
        tolerance: Non-negative float, largest valid difference, relative to the largest output (at least 1).
            Defaults to None: 1e-4 for 'float32' (8 rounding steps of layers that compute in half precision in
            Keras) and 0.02 for 'float16'. For 'int8' the mean difference must be at most 5 % of the range of
            the outputs.
        quality: What measures the outputs of the model and of the file: an `ImageQuality`, or a function
            (predict) -> number or dict, where `predict(inputs)` returns the outputs for inputs of the
            network, such as `lambda predict: {"accuracy": (predict(x).argmax(-1) == y).mean()}`. Defaults to
            None: nothing is measured.
        latency: Whether to measure the time in the runtime. Defaults to True.
        overwrite: Whether to replace an existing file. Defaults to False.

    Returns:
        A `FileReport`.

    Raises:
        InvalidArgumentError: An argument has a wrong value, or an argument has no effect for the format.
        ArgumentTypeError: `quality` is neither an `ImageQuality` nor a function, or returns no numbers.
        UnsupportedLayerError: The format has no form for a layer or an input of the model.
        ExportError: The file gives other outputs in its runtime. Nothing is left at `path`.
        OutputError: The file exists, cannot be written, or the disk is full.
        MissingPackageError: A package of the format is not installed.

    Example:
    >>> import tempfile
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = export(model, folder + "/model", latency=False)
    >>> report.format, report.max_difference < 1e-5
    ('saved_model', True)
    """
    annotated.check(
        export, locals(), "path", "batch_size", "tolerance", "latency", "overwrite", "model"
    )
    exporter = _checked(locals())
    network = _network(model)
    validation.built_model(network, "is exported")
    target = _target(exporter, files.as_path(path), overwrite)
    exporter.check_installed(precision)
    if exporter.name == "saved_model":
        report = _saved_model(network, target, tolerance, inputs, overwrite)
        return with_measurements(report, model, network, inputs, quality, latency)
    mask_written_values(network)
    with plain_classes(network), uncompiled(network), tempfile.TemporaryDirectory() as folder:
        batch = _comparison.inputs_for(network, inputs)
        batches: Sequence[Arrays] = ()
        if precision == "int8":
            known = None if inputs is None else batch
            ranges = calibration_inputs(model, network, calibration, known)
            batches = calibration_batches(network, ranges, batch_size)
            # An 8-bit file is right for inputs like those of its calibration only.
            batch = ranges if inputs is None else batch
        work = pathlib.Path(folder)
        (work / "source").mkdir()
        exact = 1e-5 if tolerance is None else tolerance
        with in_float32(network):
            source = conversion_source(network, work / "source", batch, batch_size, exact)
        job = ExportJob(exporter, network, source, batch, batch_size, tolerance, work)
        leave_out = job.is_sparse() if sparse == "auto" else bool(sparse)
        leave_out = leave_out and exporter.can_leave_out(precision) is None
        options = ExportOptions(precision, batches, leave_out)
        write = job.dense_if_wrong if sparse == "auto" else job.written
        written, report = write(options)
        if quality is not None:
            report = job.judged(written, report, quality, model)
        if latency:
            report = job.timed(written, report)
        report = job.advised(report)
        return job.published(written, report, target, overwrite)


def _checked(values: dict[str, Any]) -> Exporter:
    """Return the format; raise `InvalidArgumentError` if an argument is wrong or has no effect."""
    name = validation.one_of(values["format"], "format", FORMATS)
    precision = validation.one_of(values["precision"], "precision", PRECISIONS)
    exporter = FORMATS[name]
    sparse = values["sparse"]
    if not isinstance(sparse, bool) and not (isinstance(sparse, str) and sparse == "auto"):
        raise InvalidArgumentError(
            f"`sparse` must be one of 'auto', True, False. Received: {values['sparse']!r}."
        )
    check_quality(values["quality"])
    if values["tolerance"] is not None:
        validation.non_negative(values["tolerance"], "tolerance")
    if values["batch_size"] is not None:
        validation.positive_int(values["batch_size"], "batch_size")
    reason = exporter.precisions[precision]
    if reason:
        raise InvalidArgumentError(f"'{name}' cannot have the precision {precision!r}. {reason}")
    if values["calibration"] is not None and precision != "int8":
        raise InvalidArgumentError(
            f"`calibration` is for `precision='int8'`. Received: {precision!r}. Leave it out."
        )
    if values["batch_size"] is not None and name == "saved_model":
        raise InvalidArgumentError(
            "A SavedModel takes any batch size. Received: "
            f"`batch_size={values['batch_size']}`. Leave it out."
        )
    reason = exporter.can_leave_out(precision) if values["sparse"] is True else None
    if reason is not None:
        raise InvalidArgumentError(f"`sparse=True` cannot be used here: {reason}")
    return exporter


def _network(model: Any) -> keras.Model:
    """Return the network that is exported: for a GAN its generator, averaged if it has an average."""
    return model.sampler if isinstance(model, AdversarialModel) else model


def _target(exporter: Exporter, path: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Return the path of the file, with its ending.

    Raises:
        InvalidArgumentError: It ends as a file of another format.
        OutputError: It exists.
    """
    others = {each.suffix for each in FORMATS.values()} - {exporter.suffix}
    if path.suffix in others and path.suffix:
        rule = (
            f"A file of the format {exporter.name!r} must end in '{exporter.suffix}'"
            if exporter.suffix
            else "A SavedModel is a folder, whose name must have no ending"
        )
        raise InvalidArgumentError(f"{rule}. Received: '{path}'.")
    if exporter.suffix and path.suffix != exporter.suffix:
        path = path.with_name(path.name + exporter.suffix)
    if exporter.suffix and not overwrite:
        for file in exporter.files_of(path):
            if file.exists():
                raise OutputError(
                    f"The output must be new. '{file}' exists. Choose another name, or overwrite it "
                    "(`overwrite=True`, `--overwrite`)."
                )
    return path


def _saved_model(
    network: keras.Model, path: pathlib.Path, tolerance: float | None, inputs: Any, overwrite: bool
) -> FileReport:
    found = export_saved_model(
        network,
        path,
        overwrite=overwrite,
        tolerance=1e-5 if tolerance is None else tolerance,
        inputs=inputs,
    )
    kernels = [values for _, values in kernels_of(network)]
    zeros = sum(int((values == 0).sum()) for values in kernels)
    return FileReport(
        path=found.path,
        format="saved_model",
        precision="float32",
        bytes=found.bytes,
        gzip_bytes=found.gzip_bytes,
        max_difference=found.max_difference,
        zeros=zeros,
        zeros_in_file=zeros,  # the reloaded file has the outputs, bit for bit
        weights=sum(values.size for values in kernels),
    )
