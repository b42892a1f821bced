"""Weights that are zero although no mask holds them: the zeros of a pruned model came, the masks did not."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_ganprune.errors import PruningWarning
from keras_ganprune.layers.tensors import to_numpy

# A kernel looks pruned if it has at least so many exact zeros, and at least this share of them.
_MIN_ZEROS = 16
_MIN_SHARE = 0.05


def looks_pruned(values: np.ndarray) -> bool:
    """Return whether a kernel has many exact zeros, as after pruning.

    A kernel of zeros only was initialised so. If all other entries are equal, it is a table such as an
    identity or one-hot matrix.

    Args:
        values: Array, the weight.

    Example:
    >>> from keras_ganprune.layers.unmasked_zeros import looks_pruned
    >>> looks_pruned(np.triu(np.arange(36.0).reshape(6, 6), 1)), looks_pruned(np.eye(6))
    (True, False)
    """
    zeros = int(values.size - np.count_nonzero(values))
    if zeros < max(_MIN_ZEROS, _MIN_SHARE * values.size) or zeros == values.size:
        return False
    others = values[values != 0]
    return bool(np.any(others != others.flat[0]))


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
    if not to_numpy(store.masks[name]).all() or not looks_pruned(values):
        return 0
    return int(values.size - np.count_nonzero(values))


def _warn(kernels: Iterable[tuple[str, Any, str]], stacklevel: int) -> None:
    found = []
    for path, store, name in kernels:
        values = to_numpy(store.weights_by_name[name])
        zeros = unmasked_zeros(store, name, values)
        if zeros and _first_remark(store, name):
            found.append((path, zeros, values.size))
    if not found:
        return
    paths = [path for path, _, _ in found]
    zeros, total = (sum(row[i] for row in found) for i in (1, 2))
    warnings.warn(
        f"{', '.join(paths[:3])}{' and others' if len(paths) > 3 else ''}: {zeros:,} of {total:,} weights "
        "are exactly zero, but their masks keep all, so training fills these zeros again. They look like the "
        "zeros of a pruned model whose masks did not come with them (a clone, `set_weights`, a stripped "
        "model, or a file that was read by a plain model). Call `kgp.masks_from_zeros(model)`, which takes "
        "the zeros over into masks. For a `.keras` file, `kgp.load_model` keeps the masks themselves.",
        PruningWarning,
        stacklevel=stacklevel,
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
