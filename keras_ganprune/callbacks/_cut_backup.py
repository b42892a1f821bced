"""Backups of networks that `Shrink` has cut: the networks of a restarted program are too large for them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import h5py
import keras

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.traversal import is_built


def check_not_cut(
    targets: Sequence[tuple[str, keras.layers.Layer]], callbacks: Iterable[Any]
) -> None:
    """Raise if the backup that a `fit` is about to restore is of smaller networks.

    Args:
        targets: (name, network) of the networks to cut.
        callbacks: All callbacks of the `fit`.

    Raises:
        InvalidArgumentError: The file holds a smaller network.
    """
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.BackupAndRestore):
            continue
        # Private attribute of Keras: the callback has no public name for its file.
        path = str(getattr(callback, "_weights_path", ""))
        for name, network in targets:
            saved, present = _size_in(path, name), _size_of(network)
            if not 0 < saved < present:  # 0: another layout
                continue
            raise InvalidArgumentError(
                f"`BackupAndRestore` cannot restore '{name}', which `Shrink` had cut when the backup was "
                f"made: its kernels have {present:,} entries here and {saved:,} in '{path}'. A backup has "
                "weights but no layers. Delete its folder to begin anew. To go on after a cut, write "
                "the whole model too: put "
                "`keras.callbacks.ModelCheckpoint('epoch_{epoch:03d}.keras')` behind `Shrink`, then load the "
                "last file with `kgp.load_model`, and call `fit` of that model with the `initial_epoch` in "
                "its name and another folder for `BackupAndRestore`."
            )


def _size_of(network: keras.layers.Layer) -> int:
    if not is_built(network):
        return 0
    return sum(math.prod(w.shape) for w in network.weights if len(w.shape) > 1)


def _size_in(path: str, name: str) -> int:
    """Return the number of entries of all kernels of a network in a weights file; 0 if there are none."""
    sizes: list[int] = []

    def look(inner: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset) and "pruning_masks" not in inner and entry.ndim > 1:
            sizes.append(math.prod(entry.shape))

    # A file that cannot be read is left to `BackupAndRestore`.
    with contextlib.suppress(OSError, KeyError, ValueError), h5py.File(path) as file:
        group: Any = file[name]
        group.visititems(look)
    return sum(sizes)
