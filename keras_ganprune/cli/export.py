"""`keras-ganprune export`: a network of a saved model as a file for the runtime where it will live."""

from __future__ import annotations

import argparse
from typing import Any

import keras

from keras_ganprune.cli import compress, saved_models
from keras_ganprune.cli.arguments import Recorder
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.exporters import FileReport, export
from keras_ganprune.exporters.formats import FORMATS, PRECISIONS
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.inference import inner_function
from keras_ganprune.metrics import ImageQuality
from keras_ganprune.reports.run.exported_files import ExportedFile, add_files
from keras_ganprune.training import discovery
from keras_ganprune.utils.closing import closing
from keras_ganprune.utils.status_line import EXTRACTOR, StatusLine

HELP = "Write a network of a saved model as a SavedModel, ONNX, LiteRT or OpenVINO file."
EXAMPLES = (
    "keras-ganprune export gan.keras digits",
    "keras-ganprune export gan.keras digits.onnx --format onnx",
    "keras-ganprune export model.keras m.tflite --format litert --precision int8 --calibration data.npz",
)


def add_arguments(recorder: Recorder) -> None:
    """Add the arguments of the command."""
    recorder.add_argument(
        "model",
        help="A .keras file. If it contains a GAN of this package, the generator is exported.",
    )
    recorder.add_argument("output", help="File to write; for a SavedModel the folder.")
    recorder.add_argument(
        "--format",
        choices=tuple(FORMATS),
        default="saved_model",
        help="Format of the file. Defaults to saved_model.",
    )
    recorder.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="Precision of the file: float16 is half as large, int8 a quarter. Defaults to float32.",
    )
    recorder.add_argument(
        "--calibration",
        default=None,
        metavar="DATA",
        help="For int8: inputs like those that the file will see. A .npz file with x, a .npy file, or a "
        "folder of images. Defaults to latent vectors for a GANModel.",
    )
    recorder.add_argument(
        "--batch-size",
        type=int,
        default=None,
        help="Fixed batch size of the file; recurrent layers in LiteRT need one. Defaults to any.",
    )
    recorder.add_argument(
        "--network",
        default=None,
        help="Network of a model that is exported: the name of an attribute, such as generator or D. "
        "Defaults to the generator of a GAN of this package, or the model itself.",
    )
    recorder.add_argument(
        "--tolerance",
        type=float,
        default=None,
        help="Largest valid difference, relative to the largest output. Defaults to that of the precision.",
    )
    recorder.add_argument(
        "--size",
        type=int,
        default=28,
        help="Height and width of the images of a folder with --calibration. Defaults to 28.",
    )
    recorder.add_argument(
        "--quality",
        default=None,
        metavar="DATA",
        help="Real images that judge those of the file and of the model by their Fréchet distance: a .npz or "
        ".npy file, a folder of images, or one of digits, mnist, mnist-5000. Defaults to none.",
    )
    recorder.add_argument(
        "--run",
        default=None,
        metavar="FOLDER",
        help="Folder of a run: the file is added to it, and its report shows it. Defaults to none.",
    )
    saved_models.add_live(recorder, "Export")
    recorder.add_argument(
        "--overwrite", action="store_true", help="Replace an existing file. Defaults to no."
    )
    saved_models.add_import(recorder)


def run(arguments: argparse.Namespace) -> None:
    """Export the network and print the comparison with it.

    Raises:
        InvalidArgumentError: The model has no such network, or an option has no effect.
        OutputError: The file exists or cannot be written.
        FileFormatError: The saved model does not exist or cannot be loaded.
        ExportError: The outputs of the file differ from those of the network.
    """
    model = saved_models.load(arguments.model, arguments.modules)
    calibration = arguments.calibration
    if calibration is not None:
        calibration = compress.read(calibration, arguments.size)[0]
    quality = _quality(arguments)
    with StatusLine().doing("Writing the file, and comparing it with the model"):
        report = export(
            _exported(model, arguments.network, arguments.live),
            arguments.output,
            arguments.format,
            precision=arguments.precision,
            calibration=calibration,
            batch_size=arguments.batch_size,
            tolerance=arguments.tolerance,
            quality=quality,
            overwrite=arguments.overwrite,
        )
    print(report)
    then = ["benchmark", report.path]
    if arguments.run is not None:
        add_files(arguments.run, [_entry(report)])
        then = ["report", arguments.run]
    print(closing(f"{report.path}.", "", then))


def _quality(arguments: argparse.Namespace) -> ImageQuality | None:
    """Return what judges the images of the file, or None."""
    if arguments.quality is None:
        return None
    images, labels = compress.read(arguments.quality, arguments.size)
    with StatusLine().doing(EXTRACTOR):
        return ImageQuality(images, labels)


def _entry(report: FileReport) -> ExportedFile:
    """Return what a run keeps of a file."""
    return ExportedFile(
        name=report.path.name,
        format=report.format,
        precision=report.precision,
        bytes=report.bytes,
        gzip_bytes=report.gzip_bytes,
        max_difference=report.max_difference,
        milliseconds={str(size): ms for size, ms in report.milliseconds.items()},
        quality=dict(report.quality),
        notes=report.notes,
    )


def _exported(model: Any, name: str | None, live: bool) -> keras.Model:
    """Return what is exported.

    Raises:
        InvalidArgumentError: The model has no such network, or it has networks and no `call`.
    """
    if name is not None:
        network: Any = discovery.resolve_target(model, name)[0][1]
        return network
    if isinstance(model, AdversarialModel):
        return model.generator if live else model
    overridden = type(model).call is not keras.Model.call
    if not overridden and inner_function(model) is None:
        known = ", ".join(discovery.networks(model)) or "none"
        raise InvalidArgumentError(
            "--network must name the network to export, as the model itself has no `call`. Networks: "
            f"{known}."
        )
    return model
