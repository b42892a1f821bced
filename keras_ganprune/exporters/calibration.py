"""Inputs that show a converter the range of each activation, for files of 8 bits."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.exporters._comparison import inputs_for
from keras_ganprune.exporters.contract import Arrays
from keras_ganprune.exporters.conversion_source import named_inputs
from keras_ganprune.gan import GANModel
from keras_ganprune.layers.probe_inputs import probe_inputs

# Latent vectors that are drawn for a generator.
_DRAWN, _BATCH = 256, 16


def calibration_batches(
    model: keras.Model, network: keras.Model, calibration: Any, batch_size: int | None
) -> list[Arrays]:
    """Return batches of inputs by name.

    Args:
        model: The model of the user. For a `GANModel`, latent vectors can be drawn.
        network: The network that is exported.
        calibration: Inputs in the structure of the network, or None.
        batch_size: Batch size of the file, or None.

    Raises:
        InvalidArgumentError: `calibration` is missing, empty, has NaN, or the network cannot be called on it.
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
    count, size = rows.pop(), batch_size or _BATCH
    batches = []
    for begin in range(0, max(1, count - size + 1), size):
        part = keras.tree.map_structure(
            lambda a, begin=begin: np.resize(a[begin : begin + size], (size, *a.shape[1:])),
            structure,
        )
        batches.append(named_inputs(network, part))
    return batches


def _structure(network: keras.Model, calibration: Any) -> Any:
    """Return calibration inputs in the structure of the inputs of a network, checked by a call."""
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
            "Files of 8 bits need `calibration`: some hundred inputs like those that the file will see, such "
            "as `calibration=x_train[:256]`. Received: none. Only for a `GANModel`, latent vectors are drawn."
        )
    return probe_inputs(model.sampler, None, batch=_DRAWN)
