"""Random inputs for the comparison of two models, and the difference of their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_ganprune.errors import ExportError


def random_inputs(specs: Sequence[Any], batch: int = 4, seed: int = 0) -> list[np.ndarray]:
    """Return a random array for each input of a model.

    Args:
        specs: Objects with a `shape` and a `dtype`, such as `keras.KerasTensor`. Unknown sizes become 8.
        batch: Size of the first axis. Defaults to 4.
        seed: Int, seed of the random numbers. Defaults to 0.

    Returns:
        List of arrays: standard normal floats, ints that are 0 or 1, or byte strings.

    Example:
    >>> [array.shape for array in random_inputs([keras.Input((3,)), keras.Input((None, 2))])]
    [(4, 3), (4, 8, 2)]
    """
    rng = np.random.default_rng(seed)
    inputs = []
    for spec in specs:
        shape = [batch if i == 0 else (n or 8) for i, n in enumerate(spec.shape)]
        name = str(getattr(spec.dtype, "name", spec.dtype))
        if name == "string":
            inputs.append(np.full(shape, b"word", dtype=object))
            continue
        dtype = np.dtype("float32" if name == "bfloat16" else name)
        if dtype.kind == "f":
            inputs.append(rng.standard_normal(shape).astype(dtype))
        else:
            # Class numbers and tokens: an embedding has at least two rows.
            inputs.append(rng.integers(0, 2, shape).astype(dtype))
    return inputs


def difference(
    expected: Sequence[np.ndarray], actual: Sequence[np.ndarray], tolerance: float, name: str
) -> float:
    """Return the largest absolute difference between the outputs of a model and of its SavedModel.

    Args:
        expected: Outputs of the model.
        actual: Outputs of the SavedModel for the same inputs.
        tolerance: Largest allowed difference, relative to the largest absolute output (at least 1).
        name: Name of the model, for the error.

    Raises:
        ExportError: The outputs differ by more than `tolerance`, have other shapes, or are NaN or infinite.
    """
    if len(expected) != len(actual):
        raise ExportError(
            f"The reloaded SavedModel must give the outputs of the model. Received: {len(actual)} outputs "
            f"instead of {len(expected)}. Nothing was written."
        )
    worst = 0.0
    for a, b in zip(expected, actual, strict=True):
        a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
        if not np.isfinite(a).all():
            raise ExportError(
                f"The outputs of the model '{name}' on random inputs must be finite. Received: NaN or "
                "infinite outputs. Nothing was written."
            )
        if a.shape != b.shape or not np.isfinite(b).all():
            raise ExportError(
                "The reloaded SavedModel must give the outputs of the model. Received: an output of shape "
                f"{b.shape} instead of {a.shape}, or outputs that are not finite. Nothing was written."
            )
        gap = float(np.max(np.abs(a - b), initial=0.0))
        if gap > tolerance * max(1.0, float(np.max(np.abs(a), initial=0.0))):
            raise ExportError(
                f"The reloaded SavedModel must give the outputs of the model. Largest difference: {gap:g}. "
                f"Allowed: {tolerance:g} times the largest output. Nothing was written."
            )
        worst = max(worst, gap)
    return worst
