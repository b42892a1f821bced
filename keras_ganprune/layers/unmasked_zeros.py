"""Weights that are zero although no mask holds them: the zeros of a pruned model came, the masks did not."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_ganprune.errors import PruningWarning
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.zero_patterns import pruned_zeros


def warn_of_unmasked_zeros(weights: Iterable[Any], stacklevel: int = 3) -> None:
    """Warn if kernels look pruned, but have a full mask that no update has made. Each kernel is named once.

    Args:
        weights: `MaskedWeight`s.
        stacklevel: As for `warnings.warn`. Defaults to 3, the caller of the caller.
    """
    _warn(
        (
            (weight.path, weight.layer.pruning_masks, weight.name)
            for weight in weights
            if weight.name in weight.layer.pruned_weight_names
        ),
        stacklevel + 1,
    )


def warn_of_loaded_zeros(store: Any) -> None:
    """Warn as above about the weights of one `MaskStore`, after a file without masks was loaded.

    Args:
        store: `MaskStore`.
    """
    _warn(((weight.path, store, name) for name, weight in store.weights_by_name.items()), 3)


def unmasked_zeros(store: Any, name: str, values: np.ndarray) -> int:
    """Return the number of zeros of a weight that looks pruned, but has a full mask that no update has made.

    Args:
        store: `MaskStore`.
        name: Attribute path of the weight.
        values: Array, the weight.
    """
    if store.step or store.stamp or store.chosen or store.hidden:
        return 0  # An update has chosen this mask.
    if name not in store.masks or not to_numpy(store.masks[name]).all():
        return 0
    return pruned_zeros(values, functools.partial(store.initial, name), name.endswith("embeddings"))


def _warn(kernels: Iterable[tuple[str, Any, str]], stacklevel: int) -> None:
    rows = []
    for path, store, name in kernels:
        values = to_numpy(store.weights_by_name[name])
        rows.append((path, store, name, unmasked_zeros(store, name, values), values.size))
    warn_of(rows, stacklevel + 1)


def warn_of(rows: Iterable[tuple[str, Any, str, int, int]], stacklevel: int) -> None:
    """Give one warning that names the kernels whose zeros have no masks. Each kernel is named once.

    Args:
        rows: (path of the weight, its `MaskStore`, its attribute path, zeros without a mask, entries).
        stacklevel: As for `warnings.warn`, as if the caller called it.
    """
    found = [row for row in rows if row[3] and _first_remark(row[1], row[2])]
    if not found:
        return
    paths = [row[0] for row in found]
    zeros, total = sum(row[3] for row in found), sum(row[4] for row in found)
    warnings.warn(
        f"{', '.join(paths[:3])}{' and others' if len(paths) > 3 else ''}: {zeros:,} of {total:,} weights "
        "are exactly zero, but their masks keep all, so training fills these zeros again. They look like the "
        "zeros of a pruned model whose masks did not come with them (a clone, `set_weights`, a stripped "
        "model, or a file that was read by a plain model). Call `kgp.masks_from_zeros(model)`, which takes "
        "the zeros over into masks. For a `.keras` file, `kgp.load_model` keeps the masks themselves.",
        PruningWarning,
        stacklevel=stacklevel + 1,
    )


def _first_remark(store: Any, name: str) -> bool:
    """Return whether the user has not been told about a weight of a store yet."""
    said = vars(store).get("_zeros_said")
    if said is None:
        said = set()
        object.__setattr__(store, "_zeros_said", said)  # past Keras's attribute tracking
    if name in said:
        return False
    said.add(name)
    return True
