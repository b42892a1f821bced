"""`convert`: a tf_keras model that TFMOT has pruned, as a Keras 3 model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from keras_ganprune.interop.tfmot import (
    _masks,
    _remaining_parts,
    _tf_keras_files,
    _wrappers,
)
from keras_ganprune.interop.tfmot.converted_model import Converted
from keras_ganprune.utils import validation


def convert(
    model: Any,
    *,
    custom_objects: Mapping[str, Any] | None = None,
    inputs: Any = None,
    tolerance: float | None = None,
) -> Converted:
    """Return a Keras 3 model with the outputs, the masks and the schedules of a model pruned by TFMOT.

    A layer in a `PruneLowMagnitude` wrapper becomes Prunable, with the wrapper's mask. In a model
    without wrappers (`strip_pruning`) every layer that can be pruned becomes Prunable, and a weight
    that is exactly zero counts as pruned. Optimizer, loss and `train_step` are not converted, and the
    states of stateful layers are reset. The weights of `model` are not changed.

    Args:
        model: A built Sequential or functional `tf_keras.Model`, or the path of a file or folder in
            which tf_keras saved one (`.h5`, `.keras`, SavedModel).
        custom_objects: Dict, name in the model -> Keras 3 class or function, for all layers and functions
            that are not part of tf_keras. Defaults to None.
        inputs: Inputs on which both models are called and compared. Defaults to None, random inputs.
        tolerance: Positive float, largest valid difference, relative to the largest output. Defaults to
            None, which means 1e-5, or 2e-2 if a layer computes in half precision.

    Returns:
        A `Converted`, with the new model and the callbacks that continue the pruning.

    Raises:
        ArgumentTypeError: `model` is neither a tf_keras model nor a path.
        InvalidArgumentError: `custom_objects` or `tolerance` is not valid.
        UnsupportedLayerError: The model is subclassed, or one of its layers cannot be converted.
        UnbuiltModelError: The model has no weights yet.
        ExportError: The converted model gives other outputs.
        FileFormatError: The file does not exist, or tf_keras cannot load it.
        MissingPackageError: tf_keras or TFMOT is not installed.

    Example:
    >>> import tf_keras
    >>> old = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(2,))])
    >>> old.set_weights([np.array([[0.0, 1.0], [2.0, 0.0]]), np.zeros(2)])
    >>> convert(old).model.layers[0].pruning_masks.masks["kernel"].numpy()
    array([[False,  True],
           [ True, False]])
    """
    _tf_keras_files.require_packages()
    # Imported here: these modules need tf_keras, and `Shifted` must load without it.
    from keras_ganprune.interop.tfmot import _comparison, rebuilder

    custom_objects = rebuilder.check_custom_objects(custom_objects)
    if tolerance is not None:
        tolerance = validation.positive(
            tolerance, "tolerance", "a positive number, relative to the output"
        )
    old = _tf_keras_files.load(model) if isinstance(model, (str, os.PathLike)) else model
    _tf_keras_files.check_model(old)
    wrappers = _wrappers.wrappers_of(old)
    overrides = _wrappers.without_mask_zero(wrappers)
    twins = rebuilder.Rebuilder(_wrappers.unwrap, custom_objects, overrides)
    new = twins.network(old)
    twins.copy_weights(ignored=_wrappers.pruning_variables(wrappers))
    if wrappers:
        _masks.copy_masks(new, wrappers, twins.variables)
    else:
        _masks.masks_from_zeros(new)
    with _masked(wrappers):
        difference = _comparison.compare(twins, old, inputs, tolerance)
    return Converted(
        new, _remaining_parts.remaining_parts(new, wrappers, twins.variables), difference
    )


@contextlib.contextmanager
def _masked(wrappers: list[Any]) -> Iterator[None]:
    """Within the context, the weights of the old model are masked.

    TFMOT masks the weights only when a wrapper is called, and does not restore them.
    """
    stored = [(w, w.numpy()) for wrapper in wrappers for w, _, _ in wrapper.pruning_vars]
    for wrapper in wrappers:
        for weight, mask, _ in wrapper.pruning_vars:
            weight.assign(weight * mask)
    try:
        yield
    finally:
        for weight, value in stored:
            weight.assign(value)
