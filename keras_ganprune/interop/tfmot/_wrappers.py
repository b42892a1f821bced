"""TFMOT's wrappers around the layers that it prunes."""

from __future__ import annotations

import warnings
from typing import Any

from keras_ganprune.errors import PruningWarning


def wrappers_of(model: Any) -> list[Any]:
    """Return all `PruneLowMagnitude` wrappers in a tf_keras model, each once."""
    # Private method: there is no public way to get the layers inside wrappers such as `TimeDistributed`.
    wrappers = {id(layer): layer for layer in model._flatten_layers() if _is_wrapper(layer)}
    return list(wrappers.values())


def _is_wrapper(layer: Any) -> bool:
    return any(
        cls.__name__ == "PruneLowMagnitude"
        and cls.__module__.startswith("tensorflow_model_optimization.")
        for cls in type(layer).__mro__
    )


def unwrap(layer: Any) -> Any:
    """Return the layer inside a wrapper, or the layer itself."""
    return layer.layer if _is_wrapper(layer) else layer


def pruning_variables(wrappers: list[Any]) -> set[int]:
    """Return the ids of the variables that TFMOT has added: steps, masks and thresholds."""
    ids = {id(wrapper.pruning_step) for wrapper in wrappers}
    for wrapper in wrappers:
        for _, mask, threshold in wrapper.pruning_vars:
            ids |= {id(mask), id(threshold)}
    return ids


def without_mask_zero(wrappers: list[Any]) -> dict[int, dict[str, Any]]:
    """Return the options that turn off `mask_zero` in wrapped layers, by the id of the layer.

    TFMOT's wrapper drops the mask of padded steps, so the converted layer must not create such a mask.
    """
    layers = [w.layer for w in wrappers if getattr(w.layer, "mask_zero", False)]
    for layer in layers:
        warnings.warn(
            f"'{layer.name}' has `mask_zero=True`, which has no effect inside TFMOT's wrapper. The "
            "converted layer gets `mask_zero=False`, to give the same outputs. If padding is to be "
            "masked, convert `tfmot.sparsity.keras.strip_pruning(model)` instead.",
            PruningWarning,
            stacklevel=3,
        )
    return {id(layer): {"mask_zero": False} for layer in layers}
