"""Random inputs to compare two models on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


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
