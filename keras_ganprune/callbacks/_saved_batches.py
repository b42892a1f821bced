"""Recorded batches as arrays that can be saved, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def arrays_of(batches: Sequence[Any]) -> dict[str, np.ndarray]:
    """Return the arrays of some batches by name, with a text that says where each belongs.

    Args:
        batches: Nested tuples, lists and dicts of arrays and None.

    Example:
    >>> from keras_ganprune.callbacks._saved_batches import arrays_of, batches_of
    >>> saved = arrays_of([(np.zeros(2), {"label": np.ones(2)}, None)])
    >>> batches_of(saved)
    [(array([0., 0.]), {'label': array([1., 1.])}, None)]
    """
    leaves: list[np.ndarray] = []

    def encode(part: Any) -> Any:
        if part is None:
            return None
        if isinstance(part, Mapping):
            return {"dict": [[str(key), encode(value)] for key, value in part.items()]}
        if isinstance(part, (list, tuple)):
            kind = "tuple" if isinstance(part, tuple) else "list"
            return {kind: [encode(value) for value in part]}
        leaves.append(np.asarray(part))
        return len(leaves) - 1

    text = json.dumps(encode(list(batches)))
    saved = {f"batch_{number}": leaf for number, leaf in enumerate(leaves)}
    return {**saved, "batches": np.frombuffer(text.encode(), dtype=np.uint8)}


def batches_of(arrays: Mapping[str, np.ndarray]) -> list[Any]:
    """Return the batches that `arrays_of` has made arrays of; [] if there are none."""
    if "batches" not in arrays:
        return []

    def decode(part: Any) -> Any:
        if part is None:
            return None
        if isinstance(part, int):
            return arrays[f"batch_{part}"]
        ((kind, values),) = part.items()
        if kind == "dict":
            return {key: decode(value) for key, value in values}
        return (tuple if kind == "tuple" else list)(decode(value) for value in values)

    return decode(json.loads(np.asarray(arrays["batches"]).tobytes().decode()))
