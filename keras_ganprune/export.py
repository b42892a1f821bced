"""SavedModels that plain TensorFlow serves, always verified by loading them again."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune import files
from keras_ganprune.errors import (
    ExportError,
    InvalidArgumentError,
    OutputError,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.gan import GANModel
from keras_ganprune.layers import apply_masks, plain_classes, strip_pruning
from keras_ganprune.masking import to_numpy
from keras_ganprune.probing import random_inputs


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how well it agrees with the model.

    Attributes:
        path: The SavedModel's folder.
        max_difference: Largest absolute difference between the reloaded SavedModel and the stripped
            model, on random inputs.
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

    Args:
        model: A built Keras model, or a `GANModel`, of which the generator is exported.
        path: Folder to write. It appears only when all went well.
        average: Of a `GANModel`, export the averaged generator (`ema_decay`).
        overwrite: Replace a folder that exists.
        tolerance: Largest difference allowed, relative to the largest output.

    Returns: An `ExportReport`.

    Raises:
        OutputError: the folder exists, cannot be written or the disk is full.
        ExportError: the reloaded model gives other outputs; nothing is left at `path`.
        UnbuiltModelError: the model has no weights yet.
    """
    # Only here is TensorFlow needed; on other backends Keras's own exporter brings it in.
    import tensorflow as tf

    network = _network(model, average)
    if not network.built:
        raise UnbuiltModelError(
            f"'{network.name}' must be built before it is exported. Call it once on a batch first."
        )
    with contextlib.ExitStack() as stack:
        try:
            plain = strip_pruning(network)
        except UnsupportedLayerError:
            # A subclassed model without `get_config` cannot be copied. Its weights are masked and
            # its forward pass is the plain one, so it is exported as it is.
            apply_masks(network)
            stack.enter_context(plain_classes(network))
            plain = network
        work = stack.enter_context(files.new_folder(path, overwrite))
        try:
            _write(plain, work)
            reloaded = tf.saved_model.load(str(work))
        except (tf.errors.OpError, OSError) as error:
            # TensorFlow reports a full disk as an error class of its own.
            raise OutputError(
                f"'{path}' could not be written ({error}); nothing was left there."
            ) from error
        difference = _compare(plain, reloaded, tolerance)
        sizes = [(int(np.prod(w.shape)), int(np.count_nonzero(to_numpy(w)))) for w in plain.weights]
        report = ExportReport(
            pathlib.Path(path),
            difference,
            files.folder_bytes(work),
            files.folder_gzip_bytes(work),
            sum(n for n, _ in sizes),
            sum(n for _, n in sizes),
        )
    return report


def _write(plain: keras.Model, folder: pathlib.Path) -> None:
    """Write a SavedModel with every variable once.

    Keras's exporter stores each variable twice (as its own and as TensorFlow's), which doubles the
    file. So what it wrote is loaded, and saved again with only what the endpoint reads.
    """
    import tensorflow as tf

    full = folder / "full"
    plain.export(str(full), format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(str(full))
    signature = loaded.signatures["serving_default"]
    compact = tf.Module()
    compact.serve = loaded.serve
    compact.weights = list(signature.variables)
    try:
        tf.saved_model.save(compact, str(folder), signatures={"serving_default": signature})
    except AssertionError:
        # Lookup tables and the like are not variables; then the larger SavedModel is the right one.
        for entry in folder.iterdir():
            if entry != full:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.copytree(full, folder, dirs_exist_ok=True)
    shutil.rmtree(full)


def _compare(plain: keras.Model, reloaded: Any, tolerance: float) -> float:
    """Return the largest difference between a model and its SavedModel, or raise."""
    import tensorflow as tf

    specs = reloaded.signatures["serving_default"].structured_input_signature[1]
    ordered = [specs[name] for name in sorted(specs)]
    try:
        ordered = list(plain.inputs)
    except (AttributeError, ValueError):
        pass  # subclassed: the signature is all there is
    inputs = random_inputs(ordered)
    tensors = [tf.constant(x) for x in inputs]
    single = len(tensors) == 1
    # Both sides compiled: eager TensorFlow fuses operations differently, which costs the last bit.
    expected = tf.function(lambda *x: plain(x[0] if single else list(x), training=False))(*tensors)
    actual = reloaded.serve(tensors[0] if single else tensors)
    worst = 0.0
    for a, b in zip(tf.nest.flatten(expected), tf.nest.flatten(actual), strict=True):
        a, b = (np.asarray(tf.cast(t, tf.float64)) for t in (a, b))
        if a.shape != b.shape or not np.array_equal(np.isfinite(a), np.isfinite(b)):
            raise ExportError(
                f"The reloaded SavedModel gives shape {b.shape}, the model {a.shape}."
            )
        if not np.isfinite(a).all():
            raise ExportError(
                f"The model '{plain.name}' gives NaN or infinite outputs on random inputs. "
                "Nothing was written."
            )
        gap = float(np.max(np.abs(a - b), initial=0.0))
        if gap > tolerance * max(1.0, float(np.max(np.abs(a), initial=0.0))):
            raise ExportError(
                f"The reloaded SavedModel must give the outputs of the model. Largest difference: {gap:g}, "
                f"allowed: {tolerance:g} of the largest output. Nothing was written."
            )
        worst = max(worst, gap)
    return worst
