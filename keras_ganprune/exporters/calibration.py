"""Inputs that show a converter the range of each activation, for files of 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.exporters._comparison import inputs_for
from keras_ganprune.exporters.contract import Arrays
from keras_ganprune.exporters.conversion_source import named_inputs
from keras_ganprune.gan import GANModel
from keras_ganprune.layers.inference import replaced_calls, run
from keras_ganprune.layers.probe_inputs import probe_inputs
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import walk

# Latent vectors that are drawn for a generator.
_DRAWN, _BATCH = 256, 16
# The standard deviation of calibration inputs, or of what a batch normalization gets for them, must be that
# of the others within this factor. Pixels of 0 to 255 instead of -1 to 1 are over 100 times as large.
_FACTOR = 20.0
# Factors between usual ranges of images: 0 to 255, 0 to 1, -1 to 1. What is right agrees within `_NEAR`.
_USUAL, _NEAR = (127.5, 255.0), 3.0
# Samples that show the ranges.
_SHOWN = 64


def calibration_inputs(
    model: keras.Model, network: keras.Model, calibration: Any, inputs: Any
) -> Any:
    """Return the inputs to calibrate with, in the structure of the network.

    Args:
        model: The model of the user. For a `GANModel`, latent vectors can be drawn.
        network: The network that is exported.
        calibration: Inputs in the structure of the network, or None.
        inputs: Inputs that the user compares on, or None.

    Raises:
        InvalidArgumentError: `calibration` is missing, empty, has NaN, the network cannot be called on it, or
            it has another range than the inputs that the network knows.
    """
    structure = _drawn(model) if calibration is None else _structure(network, calibration)
    flat = [np.asarray(array) for array in keras.tree.flatten(structure)]
    rows = {len(array) for array in flat if array.ndim}
    if len(rows) != 1 or not min(rows):
        raise InvalidArgumentError(
            "`calibration` must have at least one sample, and as many of each input. Received: arrays of the "
            f"shapes {[array.shape for array in flat]}."
        )
    for array in flat:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InvalidArgumentError(
                "`calibration` must be finite. Received: NaN or infinite values. Remove these "
                "samples."
            )
        if array.dtype.kind == "f" and array.size > 1 and array.min() == array.max():
            raise InvalidArgumentError(
                "`calibration` must be like the inputs that the file will see. Received: one value, "
                f"{array.flat[0]:g}, everywhere."
            )
    if calibration is not None:
        known = _drawn(model) if inputs is None and isinstance(model, GANModel) else inputs
        _check_range(network, structure, known)
    return structure


def calibration_batches(
    network: keras.Model, structure: Any, batch_size: int | None
) -> list[Arrays]:
    """Return batches of inputs by name.

    Args:
        network: The network that is exported.
        structure: What `calibration_inputs` returns.
        batch_size: Batch size of the file, or None.
    """
    count = max(len(array) for array in keras.tree.flatten(structure) if np.ndim(array))
    size = batch_size or _BATCH
    batches = []
    for begin in range(0, max(1, count - size + 1), size):
        part = keras.tree.map_structure(
            lambda a, begin=begin: np.resize(a[begin : begin + size], (size, *a.shape[1:])),
            structure,
        )
        batches.append(named_inputs(network, part))
    return batches


def _check_range(network: keras.Model, structure: Any, known: Any) -> None:
    """Raise `InvalidArgumentError` if calibration inputs are much larger or smaller than what is known.

    Args:
        network: The network.
        structure: The calibration inputs.
        known: Inputs that the network will see, or None. Without them, the batch normalizations tell.
    """
    if known is not None:
        pairs = zip(keras.tree.flatten(structure), keras.tree.flatten(known), strict=True)
        for array, other in pairs:
            array, other = np.asarray(array), np.asarray(other)
            if array.dtype.kind == "f" and other.size:
                _check_factor(float(array.std()), float(other.std()), "your inputs have")
        return
    first = _first_normalized(network, structure)
    if first is None:
        return
    name, found, expected = first
    who = f"the batch normalization '{name}' knows, for its inputs,"
    if found > expected:
        _check_factor(found, expected, who)
        return
    # After a short training, moving averages are still larger than the inputs. So smaller inputs are wrong
    # only if those of another usual range would be right.
    for scale in _USUAL:
        scaled = keras.tree.map_structure(
            lambda a, scale=scale: a * scale if a.dtype.kind == "f" else a, structure
        )
        _, there, _ = _first_normalized(network, scaled) or first
        if 1 / _NEAR <= there / expected <= _NEAR:
            _check_factor(found, expected, who)


def _check_factor(found: float, expected: float, who: str) -> None:
    if expected > 0.0 and not 1 / _FACTOR <= found / expected <= _FACTOR:
        raise InvalidArgumentError(
            "`calibration` must have the range of the inputs that the network was trained on. Received: "
            f"values with a standard deviation of {found:.3g}, where {who} {expected:.3g}. Scale them as "
            "for the training, such as from 0 to 255 to -1 to 1. If they are right, pass some as `inputs`, "
            "too."
        )


def _first_normalized(network: keras.Model, inputs: Any) -> tuple[str, float, float] | None:
    """Return name, standard deviation of the inputs, and moving standard deviation of the first
    `BatchNormalization` that is called: medians over the channels. None if there is none, or it was not
    trained."""
    norms: Any = [
        layer for _, layer in walk(network) if isinstance(layer, keras.layers.BatchNormalization)
    ]
    found: list[tuple[str, float, float]] = []

    def recording(layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(values: Any, *args: Any, **kwargs: Any) -> Any:
            moving = np.sqrt(to_numpy(layer.moving_variance))
            # Without training, the variances are 1.
            if not (moving == 1.0).all():
                array = np.asarray(keras.ops.convert_to_numpy(values), "float64")
                axes = tuple(n for n in range(array.ndim) if n != layer.axis % array.ndim)
                deviation = float(np.median(array.std(axes)))
                found.append((layer.name, deviation, float(np.median(moving))))
            return call(values, *args, **kwargs)

        return called

    shown = keras.tree.map_structure(lambda a: a[:_SHOWN] if np.ndim(a) else a, inputs)
    with replaced_calls(norms, recording):
        run(network, shown)
    return found[0] if found else None


def _structure(network: keras.Model, calibration: Any) -> Any:
    """Return calibration inputs in the structure of the inputs of a network, checked by a call."""
    shapes = [np.shape(array) for array in keras.tree.flatten(calibration)]
    if any(shape and not shape[0] for shape in shapes):
        raise InvalidArgumentError(
            "`calibration` must have at least one sample; some hundred are better. Received: arrays of the "
            f"shapes {shapes}."
        )
    try:
        return inputs_for(network, calibration)
    except InvalidArgumentError as error:
        raise type(error)(str(error).replace("`inputs`", "`calibration`")) from error


def _drawn(model: keras.Model) -> Any:
    """Return latent vectors and labels for a GAN.

    Raises:
        InvalidArgumentError: The model has no latent vectors.
    """
    if not isinstance(model, GANModel):
        raise InvalidArgumentError(
            "Files of 8 bits need `calibration`: some hundred inputs like those that the file will see. "
            "Received: none. Give a part of the training data; for a generator, latent vectors. They are "
            "drawn for a `GANModel` only."
        )
    return probe_inputs(model.sampler, None, batch=_DRAWN)
