"""SavedModels that plain TensorFlow serves, always verified by loading them again."""

from __future__ import annotations

import contextlib
import os
import pathlib
from dataclasses import dataclass
from typing import Any

import keras

from keras_ganprune.errors import InvalidArgumentError, UnbuiltModelError, UnsupportedLayerError
from keras_ganprune.exporters import _tensorflow, other_backends
from keras_ganprune.gan import GANModel
from keras_ganprune.layers.traversal import apply_masks
from keras_ganprune.layers.upgrade import plain_classes, strip_pruning
from keras_ganprune.metrics.sparsity import count_parameters
from keras_ganprune.utils import files


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how well it agrees with the model.

    Attributes:
        path: The SavedModel's folder.
        max_difference: Largest absolute difference between the reloaded SavedModel and the stripped
            model, on random inputs: run by TensorFlow and, on another backend, by that one too.
        bytes: Size of the folder.
        gzip_bytes: Size of its files, each compressed by gzip.
        parameters, nonzero_parameters: Of the exported network.
    """

    path: pathlib.Path
    max_difference: float
    bytes: int
    gzip_bytes: int
    parameters: int
    nonzero_parameters: int

    def __str__(self) -> str:
        return (
            f"SavedModel {self.path}: {self.bytes:,} bytes ({self.gzip_bytes:,} gzipped), "
            f"{self.nonzero_parameters:,} of {self.parameters:,} parameters not zero; reloaded, it "
            f"differs by {self.max_difference:g} at most"
        )


def _network(model: Any, average: bool) -> keras.Model:
    if isinstance(model, GANModel):
        if average and model.ema_generator is None:
            raise InvalidArgumentError(
                "`average=True` needs a GAN that keeps an averaged generator; this one was made with "
                "`ema_decay=None`."
            )
        return model.ema_generator if average else model.generator
    if average:
        raise InvalidArgumentError(
            "`average=True` is for a `GANModel`. For any other model pass the averaged network itself."
        )
    if not isinstance(model, keras.Model):
        raise UnsupportedLayerError(
            f"`model` must be a Keras model. Received: {model!r} (of type {type(model).__name__})."
        )
    return model


def export_saved_model(
    model: Any,
    path: str | os.PathLike,
    *,
    average: bool = False,
    overwrite: bool = False,
    tolerance: float = 1e-5,
) -> ExportReport:
    """Strip a model, write it as a SavedModel, load that again and compare.

    The SavedModel needs nothing but TensorFlow:

        model = tf.saved_model.load(path)  # keep the object: its functions hold its variables weakly
        images = model.serve(z)

    On the JAX and PyTorch backends a TensorFlow process, on the CPU, loads the stripped model and writes
    it: all its classes must be in modules that can be imported, and compute by `keras.ops`. Where that
    is not so, JAX's own converter is used; PyTorch has none.

    Args:
        model: A built Keras model, or a `GANModel`, of which the generator is exported.
        path: Folder to write. It appears only when all went well.
        average: Of a `GANModel`, export the averaged generator (`ema_decay`).
        overwrite: Replace a folder that exists.
        tolerance: Largest difference allowed, relative to the largest output. Between two backends,
            which round differently, ten times that; of layers in half precision at least 8 of its steps.

    Returns: An `ExportReport`.

    Raises:
        OutputError: the folder exists, cannot be written or the disk is full.
        ExportError: the reloaded model gives other outputs, or the TensorFlow process died; nothing is
            left at `path`.
        UnsupportedLayerError: it is no Keras model, or none that TensorFlow can be given.
        UnbuiltModelError: the model has no weights yet.
        MissingPackageError: TensorFlow is not installed.
    """
    files.check_tensorflow()
    network = _network(model, average)
    if not network.built:
        raise UnbuiltModelError(
            f"'{network.name}' must be built before it is exported. Call it once on a batch first."
        )
    with contextlib.ExitStack() as stack:
        copied = True
        try:
            plain = strip_pruning(network)
        except UnsupportedLayerError as error:
            # A subclassed model without `get_config` cannot be copied. Its weights are masked and
            # its forward pass is the plain one, so it is exported as it is.
            if keras.backend.backend() == "torch":
                raise other_backends.not_rebuilt(network, error) from error
            apply_masks(network)
            stack.enter_context(plain_classes(network))
            plain, copied = network, False
        work = stack.enter_context(files.new_folder(path, overwrite))
        difference = _write(plain, work, tolerance, copied)
        report = ExportReport(
            pathlib.Path(path),
            difference,
            files.folder_bytes(work),
            files.folder_gzip_bytes(work),
            *count_parameters(plain.weights),
        )
    return report


def _write(plain: keras.Model, folder: pathlib.Path, tolerance: float, copied: bool) -> float:
    """Write a SavedModel and compare it; return the largest difference."""
    if keras.backend.backend() == "tensorflow":
        return _tensorflow.write_and_compare(plain, folder, tolerance).difference
    return other_backends.write_and_compare(plain, folder, tolerance, copied)
