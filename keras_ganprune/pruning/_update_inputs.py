"""Checks of what `Pruner.update` receives: gradients, and agreement with the other workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_ganprune.backend import distribution
from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.layers import mask_ops
from keras_ganprune.layers.tensors import dense_array
from keras_ganprune.layers.traversal import MaskedWeight
from keras_ganprune.pruning.criteria import Criterion
from keras_ganprune.pruning.modes import Mode
from keras_ganprune.pruning.settings import PruningSettings
from keras_ganprune.utils import annotated, validation

Gradients = Sequence[Any] | Mapping[str, Any]


def check(update: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Check the arguments of `Pruner.update` that are used only later, or by some settings only.

    Raises:
        InvalidArgumentError: An argument has the wrong type, or is out of its range.
    """
    annotated.check(update, arguments, "gradients", "growth", "final", "step", "harden")
    validation.fraction(arguments["progress"], "progress", one=True)
    if arguments["step"] is not None:
        validation.non_negative_int(arguments["step"], "step")
    check_final(arguments["final"])


def check_final(final: Any) -> None:
    """Raise an error unless the sparsity at the end of a schedule is one, or None."""
    if final is not None:
        validation.validate_sparsity(final, "final")


def match_gradients(
    weights: Sequence[MaskedWeight], gradients: Gradients | None, name: str, user: Criterion | Mode
) -> list[Any]:
    """Return one array per weight; None for each of them where no gradient is needed.

    Args:
        weights: The pruned weights.
        gradients: Arrays in the order of the weights, or a dict by weight path.
        name: Name of the argument, for the error.
        user: The criterion or mode that needs the gradients.

    Raises:
        InvalidArgumentError: Gradients are missing, or do not have the shapes of the weights.
        DivergedError: A gradient is NaN or infinite.
    """
    if not user.needs_gradient:
        return [None] * len(weights)
    if gradients is None:
        raise InvalidArgumentError(
            f"{user!r} needs gradients. Pass `{name}=` in the order of `pruner.weights`."
        )
    if isinstance(gradients, Mapping):
        paths = [w.path for w in weights]
        unknown = [path for path in gradients if path not in paths]
        if unknown:
            raise InvalidArgumentError(unknown_name(f"weight in `{name}`:", unknown[0], paths))
        gradients = [gradients.get(path) for path in paths]
    arrays: list[Any] = [None if g is None else _real(g, name) for g in gradients]
    received = [None if array is None else tuple(array.shape) for array in arrays]
    expected = [tuple(weight.mask.shape) for weight in weights]
    if received != expected:
        raise InvalidArgumentError(
            f"`{name}` must match the pruned weights, of shapes {expected}. Received: {received}."
        )
    for weight, array in zip(weights, arrays, strict=True):
        mask_ops.check_finite(array, f"The gradient of '{weight.path}'")
    return arrays


def match_calibration(
    models: Sequence[Any], calibration: Any, criterion: Criterion
) -> list[Any] | None:
    """Return the calibration inputs of each model; None if the criterion needs none.

    Args:
        models: The models that are pruned.
        calibration: Inputs of the model; for several models, a list with an entry per model.
        criterion: The criterion.

    Raises:
        InvalidArgumentError: The inputs are missing, or there is not one entry per model.
    """
    if not criterion.needs_calibration:
        return None
    if calibration is None:
        raise InvalidArgumentError(
            f"{criterion!r} measures the network on calibration inputs. Pass `calibration=`, an array of "
            "inputs of the network, such as 256 samples of the training data."
        )
    if len(models) == 1:
        return [calibration]
    if not isinstance(calibration, (list, tuple)) or len(calibration) != len(models):
        raise InvalidArgumentError(
            f"`calibration` for {len(models)} models must be a list with the inputs of each. Received: "
            f"{type(calibration).__name__}"
            + (f" of length {len(calibration)}." if hasattr(calibration, "__len__") else ".")
        )
    return list(calibration)


def _real(gradient: Any, name: str) -> np.ndarray:
    """Return a gradient as an array of real numbers."""
    try:
        array = dense_array(gradient)
    except Exception:
        array = np.empty(0, object)
    # Types such as bfloat16 have a kind of their own.
    if array.dtype.kind in "bcOSUMm":
        raise InvalidArgumentError(
            f"`{name}` must hold arrays of real numbers. Received: "
            f"{array.dtype if array.dtype.kind != 'O' else type(gradient).__name__}."
        )
    return array


def agree_on_units(
    units: list[np.ndarray],
    weights: Sequence[MaskedWeight],
    settings: PruningSettings,
    sparsity: Any,
    threshold: Any,
) -> list[np.ndarray]:
    """Return the first worker's choice where several processes train the networks, otherwise `units`.

    Weights that should be equal on all workers may differ by a rounding error; masks may not.

    Raises:
        InvalidArgumentError: The workers make different updates.
    """
    variable = weights[0].variable
    if distribution.count(variable) == 1:
        return units
    values = {"sparsity": sparsity, "threshold": threshold}
    targets = {k: float(f"{v:.4g}") for k, v in values.items() if isinstance(v, (int, float))}
    families = ("criterion", "granularity", "allocation", "mode")
    facts = {name: getattr(settings, name) for name in families}
    facts["tensors"] = [w.mask.shape for w in weights]
    distribution.check_same(
        facts | targets,
        variable,
        "All workers must make the same updates of their masks.",
        "Make the same `Pruner` on each, and call `update` with the same arguments.",
    )
    return distribution.broadcast_masks(units, variable)
