"""Optimizers that are built before `BackupAndRestore` reads its file, so that their state is restored.

Keras restores the state of an optimizer only if it is built. A GAN class builds its optimizers in its first
`train_step`, which is too late. The shapes in the file tell which network each of them trains, or else the
names.
"""

from __future__ import annotations

import itertools
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import h5py
import keras
import numpy as np

from keras_ganprune.errors import PruningWarning
from keras_ganprune.layers.traversal import is_built, masked_weights
from keras_ganprune.training import discovery

Shapes = list[tuple[int, ...]]


def build_optimizers(model: keras.Model, callbacks: Iterable[Any]) -> None:
    """Build the optimizers of a model whose state a backup holds, before the backup is restored.

    A `PruningWarning` names the optimizers whose networks cannot be told.

    Args:
        model: The model that is fitted.
        callbacks: All callbacks of the `fit`.
    """
    path = next((found for found in map(_backup, callbacks) if found is not None), None)
    if path is None:
        return
    lost = []
    for name, held in discovery.attributes(model).items():
        if name.startswith("_"):
            continue
        saved = _saved_shapes(path, name)
        if isinstance(held, keras.optimizers.Optimizer):
            # Keras builds the optimizer of `compile` itself. One that had made no step has no state.
            if held.built or held is model.optimizer or not _has_made_steps(path, name):
                continue
            variables = _trained(model, name, held, saved)
            if variables is None:
                lost.append(name)
            else:
                held.build(variables)
        elif any(not optimizer.built for optimizer in _optimizers_in(held)):
            lost.append(name)
    if lost:
        warnings.warn(
            f"{', '.join(lost)} of {type(model).__name__}: not built yet, so `BackupAndRestore` cannot "
            "restore the state (such as the moments of Adam), which begins anew. Build optimizers before "
            "`fit`, for example in `compile`: `optimizer.build(network.trainable_variables)`, with the "
            "network that each one trains.",
            PruningWarning,
            stacklevel=4,
        )


def _backup(callback: Any) -> str | None:
    """Return the file that a callback will restore, or None.

    Private attribute of Keras: the callback has no public name for its file.
    """
    if not isinstance(callback, keras.callbacks.BackupAndRestore):
        return None
    path = str(getattr(callback, "_weights_path", ""))
    return path if os.path.isfile(path) else None


def _optimizers_in(held: Any) -> list[Any]:
    """Return the optimizers in a list or dict."""
    values = held.values() if isinstance(held, Mapping) else held
    if not isinstance(held, (list, tuple, Mapping)):
        return []
    return [value for value in values if isinstance(value, keras.optimizers.Optimizer)]


def _saved_shapes(path: str, name: str) -> Shapes:
    """Return the shapes of the variables of an optimizer in a file; [] if they cannot be read."""
    try:
        with h5py.File(path) as file:
            group: Any = file.get(f"{name}/vars") or {}
            return [tuple(group[str(i)].shape) for i in range(len(group))]
    except (OSError, KeyError):
        return []  # `BackupAndRestore` reads its second file, or raises its own error.


def _has_made_steps(path: str, name: str) -> bool:
    """Return whether an optimizer in a file has made steps: one of its whole numbers is not zero."""
    try:
        with h5py.File(path) as file:
            group: Any = file.get(f"{name}/vars") or {}
            entries: list[Any] = list(group.values())
            whole = [e for e in entries if e.shape == () and np.issubdtype(e.dtype, np.integer)]
            return any(int(e[()]) > 0 for e in whole)
    except (OSError, KeyError):
        return False


def _trained(
    model: keras.Model, name: str, optimizer: Any, saved: Shapes
) -> list[keras.Variable] | None:
    """Return the only variables with which an optimizer has the saved shapes, or None."""
    networks = {
        key: network
        for key, network in discovery.networks(model).items()
        if is_built(network) and network.trainable_variables
    }
    masks = len(masked_weights(model)) if keras.backend.backend() == "jax" else 0
    fitting: dict[tuple[int, ...], tuple[str, list[keras.Variable]]] = {}
    # Without slots (SGD without momentum) every network fits, so that only its name can tell.
    for count in (1, 2) if any(saved) else (1,):
        for keys in itertools.islice(itertools.permutations(networks, count), 64):
            variables = [v for key in keys for v in networks[key].trainable_variables]
            if _fits(optimizer, variables, saved, masks):
                # The same variables may have several names.
                fitting.setdefault(tuple(map(id, variables)), ("".join(keys), variables))
    if len(fitting) > 1:
        fitting = {k: found for k, found in fitting.items() if _named_alike(name, found[0])}
    return next(iter(fitting.values()))[1] if len(fitting) == 1 else None


def _fits(optimizer: Any, variables: list[keras.Variable], saved: Shapes, masks: int) -> bool:
    """Return whether an optimizer of some variables has the saved shapes.

    On JAX the masks of the variables, and what they hide, are behind its own variables.
    """
    if any(saved) and any(tuple(variable.shape) not in saved for variable in variables):
        return False
    twin = type(optimizer).from_config(optimizer.get_config())
    twin.build(variables)
    own = [tuple(variable.shape) for variable in twin.variables]
    return saved[: len(own)] == own and len(saved) - len(own) <= 2 * masks


def _named_alike(optimizer: str, network: str) -> bool:
    """Return whether an optimizer is named after a network, such as 'g_optimizer' and 'generator'."""
    stem = re.sub(r"_?(optimi[sz]ers?|opt)_?", "", optimizer.lower()).replace("_", "")
    other = network.lower().replace("_", "")
    return bool(stem) and (other.startswith(stem) or stem.startswith(other))
