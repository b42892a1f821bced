"""Backups of a process that was killed while it wrote them.

`BackupAndRestore` writes the weights first, and then the number of the epoch into a second file. Between the
two, the weights are newer than the number. Keras would train one epoch twice, and would not open a second
file that was begun only. So `Prune` saves the number with the masks too.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import h5py
import keras
import numpy as np

from keras_ganprune.callbacks.target_networks import TargetNetworks
from keras_ganprune.errors import PruningWarning
from keras_ganprune.layers.mask_store import memory

# The name under which the number is saved; see `MaskStore.arrays`.
_EPOCHS = "epochs_done"


def note_epochs(targets: TargetNetworks | None, epochs: int | None) -> None:
    """Save the number of epochs that are done with the masks; None if no backup needs it."""
    if targets is None or targets.retired or targets.pruner is None:
        return
    arrays = memory(targets.first).arrays
    arrays.pop(_EPOCHS, None)
    if epochs is not None:
        arrays[_EPOCHS] = np.array(epochs, dtype=np.int64)


def backup_follows(prune: Any, callbacks: Sequence[Any]) -> bool:
    """Return whether a backup is written after `Prune` has seen the end of the epoch.

    If it is written before, a `PruningWarning` says what an adaptive schedule loses: it evaluates its trial
    at the end of the epoch.
    """
    place = callbacks.index(prune) if prune in callbacks else 0
    backups = [isinstance(c, keras.callbacks.BackupAndRestore) for c in callbacks]
    if any(backups[:place]) and prune.schedule.adaptive:
        warnings.warn(
            f"`BackupAndRestore` stands before the `Prune` with {type(prune.schedule).__name__} in "
            "`callbacks`, so its backup is written before the trial of the epoch is evaluated, and a resumed "
            "run would try another sparsity. Place `BackupAndRestore` behind `Prune`.",
            PruningWarning,
            stacklevel=4,
        )
    return any(backups[place:]) and not any(backups[:place])


def mend(callbacks: Sequence[Any], say: Callable[[str], None]) -> None:
    """Write the number of epochs of a backup again if it does not belong to its weights.

    Args:
        callbacks: All callbacks of the `fit`, before `BackupAndRestore` reads its files.
        say: Function that prints a line for the user.
    """
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.BackupAndRestore):
            continue
        # Private attributes of Keras: the callback has no public names for its files.
        weights = str(getattr(callback, "_weights_path", ""))
        numbers = str(getattr(callback, "_training_metadata_path", ""))
        epochs = _epochs_in(weights)
        if epochs is None or not numbers or _epoch_of(numbers) == epochs:
            continue
        part = f"{numbers}.{os.getpid()}"  # whole, or not there
        with open(part, "w", encoding="utf-8") as file:
            json.dump({"epoch": epochs, "batch": 0}, file)
        os.replace(part, numbers)
        say(
            "the process was killed between the two files of its backup. The weights are those of the end "
            f"of epoch {epochs}, where training goes on"
        )


def _epochs_in(path: str) -> int | None:
    """Return the number of epochs in a weights file, or None."""
    found: list[int] = []

    def look(name: str, entry: Any) -> None:
        if name.endswith(f"/memory_{_EPOCHS}"):
            found.append(int(entry[()]))

    with contextlib.suppress(OSError), h5py.File(path) as file:
        file.visititems(look)
    return found[0] if found else None


def _epoch_of(path: str) -> int | None:
    """Return the number of epochs in the second file of a backup, or None."""
    try:
        with open(path, encoding="utf-8") as file:
            return int(json.load(file)["epoch"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
