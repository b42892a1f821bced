"""Random inputs to compare two models on, and how far their outputs differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_ganprune.errors import ExportError


def random_inputs(specs: Sequence[Any], batch: int = 4, seed: int = 0) -> list[np.ndarray]:
    """Return an array for each spec, anything with a `shape` and a `dtype`; unknown sizes become 8."""
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
            # Class numbers and tokens: 0 and 1 are in range of every embedding worth the name.
            inputs.append(rng.integers(0, 2, shape).astype(dtype))
    return inputs


def difference(
    expected: Sequence[np.ndarray], actual: Sequence[np.ndarray], tolerance: float, name: str
) -> float:
    """Return the largest difference between the outputs of a model and those of its SavedModel.

    Args:
        tolerance: What is allowed, relative to the largest output.
        name: Of the model.

    Raises:
        ExportError: they differ by more, or are NaN or infinite.
    """
    if len(expected) != len(actual):
        raise ExportError(
            f"The reloaded SavedModel gives {len(actual)} outputs, the model {len(expected)}."
        )
    worst = 0.0
    for a, b in zip(expected, actual, strict=True):
        a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
        if not np.isfinite(a).all():
            raise ExportError(
                f"The model '{name}' gives NaN or infinite outputs on random inputs. "
                "Nothing was written."
            )
        if a.shape != b.shape or not np.isfinite(b).all():
            raise ExportError(
                f"The reloaded SavedModel must give the outputs of the model. Received: shape {b.shape} "
                f"where the model gives {a.shape}, or numbers that are not finite. Nothing was written."
            )
        gap = float(np.max(np.abs(a - b), initial=0.0))
        if gap > tolerance * max(1.0, float(np.max(np.abs(a), initial=0.0))):
            raise ExportError(
                f"The reloaded SavedModel must give the outputs of the model. Largest difference: {gap:g}, "
                f"allowed: {tolerance:g} of the largest output. Nothing was written."
            )
        worst = max(worst, gap)
    return worst
