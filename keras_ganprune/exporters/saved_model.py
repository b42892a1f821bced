"""SavedModels that plain TensorFlow serves. Each one is loaded again and compared with its model."""

from __future__ import annotations

import os
import pathlib
from dataclasses import dataclass
from typing import Any

import keras

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.exporters import _tensorflow, other_backends
from keras_ganprune.exporters._comparison import AS_IT_IS, Form, inputs_for
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.as_saved import uncompiled
from keras_ganprune.layers.stripping import mask_written_values, plain_classes
from keras_ganprune.metrics.sparsity import count_parameters
from keras_ganprune.utils import annotated, files, validation
from keras_ganprune.utils.notebook import Block, ShownInNotebooks


@dataclass(frozen=True)
class ExportReport(ShownInNotebooks):
    """The result of `export_saved_model`: its size, and its agreement with the model.

    Attributes:
        path: `pathlib.Path`, the folder of the SavedModel.
        max_difference: Float, largest absolute difference between the outputs of the reloaded SavedModel
            and those of the model. On another backend than TensorFlow, the model also runs on TensorFlow,
            and the larger difference counts.
        bytes: Int, size of the folder in bytes.
        gzip_bytes: Int, size of the folder in bytes if each file is compressed by gzip.
        parameters: Int, number of parameters of the exported network.
        nonzero_parameters: Int, number of its parameters that are not zero.

    Example:
    >>> print(ExportReport(pathlib.Path("digits"), 0.0, 4000, 900, 1000, 200))
    SavedModel digits: 4,000 bytes (900 gzipped), 200 of 1,000 parameters not zero; reloaded, it differs
    by 0 at most
    """

    path: pathlib.Path
    max_difference: float
    bytes: int
    gzip_bytes: int
    parameters: int
    nonzero_parameters: int

    def _blocks(self) -> list[Block]:
        return [str(self)]

    def __str__(self) -> str:
        return (
            f"SavedModel {self.path}: {self.bytes:,} bytes ({self.gzip_bytes:,} gzipped), "
            f"{self.nonzero_parameters:,} of {self.parameters:,} parameters not zero; reloaded, it "
            f"differs by {self.max_difference:g} at most"
        )


def export_saved_model(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    average: bool = False,
    overwrite: bool = False,
    tolerance: float = 1e-5,
    inputs: Any = None,
) -> ExportReport:
    """Write a model as a SavedModel without masks, load the SavedModel and compare it with the model.

    The model itself is written, not a copy, and is not changed.

    Only TensorFlow is needed to use the SavedModel:

        loaded = tf.saved_model.load(path)  # keep a reference: `serve` alone does not keep the variables
        images = loaded.serve(z)

    On the JAX and PyTorch backends a TensorFlow process on the CPU loads the model from a file and writes
    the SavedModel. So all classes and functions of the model must be in modules that can be imported, and
    must compute with `keras.ops`. If this is not so, JAX's own converter writes the SavedModel; on PyTorch an
    error is raised.

    Args:
        model: A built Keras model. For a `GANModel` or an `ImageToImageGAN`, the generator is exported.
        path: The folder to write. It is created only if the export succeeds.
        average: Whether to export the averaged generator of such a GAN with `ema_decay`. Defaults to
            False.
        overwrite: Whether to replace an existing folder. Defaults to False.
        tolerance: Non-negative float, largest valid difference, relative to the largest output. Between two
            backends, which round differently, ten times this value is valid. If layers compute in half
            precision, a difference of 8 rounding steps is always valid. Defaults to 1e-5.
        inputs: A batch to compare on: arrays, a list or dict of them, or a tuple of the positional arguments
            of `call`; or `keras.Input`s, which are filled. For a subclassed model, the SavedModel takes
            inputs of these types. Defaults to None: random values in the range of the layers.

    Returns:
        An `ExportReport`.

    Raises:
        ArgumentTypeError: `model` is not a Keras model.
        InvalidArgumentError: `average` is True, but `model` has no averaged generator, or `tolerance` is not
            a non-negative number, or the model cannot be called on `inputs`.
        UnbuiltModelError: The model has no weights yet, or its inputs are not known.
        UnsupportedLayerError: The model cannot be called on random inputs, or on PyTorch a TensorFlow process
            cannot rebuild the model.
        OutputError: The folder exists and holds files, cannot be written, or the disk is full; or its path
            has one of `* ? [` or a backslash, with which TensorFlow cannot read it.
        ExportError: The reloaded SavedModel gives other outputs, the outputs are not finite, or the
            TensorFlow process failed. Nothing is left at `path`.
        MissingPackageError: TensorFlow is not installed.

    Example:
    >>> import tempfile
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = export_saved_model(model, folder + "/model")
    >>> report.parameters, report.max_difference < 1e-5
    (10, True)
    """
    annotated.check(export_saved_model, locals(), "path", "average", "overwrite")
    files.check_tensorflow()
    files.check_saved_model_path(path)
    tolerance = validation.non_negative(tolerance, "tolerance")
    network = validation.built_model(_network(model, average), "is exported")
    mask_written_values(network)
    with plain_classes(network), uncompiled(network):
        batch = inputs_for(network, inputs)
        with files.new_folder(path, overwrite) as folder:
            return ExportReport(
                pathlib.Path(path),
                write_and_compare(network, folder, tolerance, batch),
                files.folder_bytes(folder),
                files.folder_gzip_bytes(folder),
                *count_parameters(network.weights),
            )


def _network(model: keras.Model, average: bool) -> keras.Model:
    """Return the network to export."""
    if isinstance(model, AdversarialModel):
        if not average:
            return model.generator
        if model.ema_generator is None:
            raise InvalidArgumentError(
                "`average=True` needs a GAN with an averaged generator. Received: a GAN with "
                "`ema_decay=None`. Leave `average` out, or create the GAN with `ema_decay`."
            )
        return model.ema_generator
    if average:
        raise InvalidArgumentError(
            "`average=True` is for a `GANModel` or an `ImageToImageGAN`. For any other model pass the "
            "averaged network itself."
        )
    return model


def write_and_compare(
    network: keras.Model,
    folder: pathlib.Path,
    tolerance: float,
    inputs: Any,
    form: Form = AS_IT_IS,
) -> float:
    """Write a SavedModel and compare it; return the largest difference.

    Args:
        network: A model whose layers have their plain classes. No state of it changes.
        folder: An empty folder.
        tolerance: As for `export_saved_model`.
        inputs: Structure of arrays, as `probe_inputs` returns it.
        form: How the SavedModel calls and sizes its inputs.
    """
    if keras.backend.backend() == "tensorflow":
        return _tensorflow.write_and_compare(network, folder, tolerance, inputs, form).difference
    return other_backends.write_and_compare(network, folder, tolerance, inputs, form)
