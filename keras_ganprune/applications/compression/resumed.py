"""What a killed training needs beside `BackupAndRestore`, to end with the same bits."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.applications.compression.folder import Folder
from keras_ganprune.datasets import Batches


@contextlib.contextmanager
def random_numbers(seed: int) -> Iterator[None]:
    """Within the context, what is drawn depends on a seed.

    The generators of Python and NumPy have their old states afterwards.
    """
    before = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


class Resumed(keras.callbacks.Callback):
    """Gives a resumed training what `BackupAndRestore` does not: see `on_epoch_end`.

    Args:
        folder: Where states are kept.
        key: Name of the training.
        stream: The data.
    """

    def __init__(self, folder: Folder, key: str, stream: Any):
        super().__init__()
        self.folder = folder
        self.key = key
        self.stream = stream
        self.rows: list[tuple[int, dict[str, float], int]] = []
        self.begun = False
        self._place = 0

    @property
    def history(self) -> dict[str, list[float]]:
        """Name of a log -> one value per epoch."""
        names = dict.fromkeys(name for _, logs, _ in self.rows for name in logs)
        return {name: [logs.get(name, float("nan")) for _, logs, _ in self.rows] for name in names}

    def on_epoch_begin(self, epoch, logs=None):
        """Read the states of the epoch before, if an earlier process trained it."""
        if not self.begun:
            self.begun = True
            rows = self.folder.get(f"{self.key} epochs") or []
            self.rows = [(number, logs, place) for number, logs, place in rows if number < epoch]
            if self.rows:
                self.folder.load_random(f"{self.key}-{epoch - 1}", cast(keras.Model, self.model))
                set_place(self.stream, self.rows[-1][2] + 1)
        self._place = place_of(self.stream)

    def on_epoch_end(self, epoch, logs=None):
        """Keep the logs and the states of random generators."""
        numbers = {k: float(np.asarray(v)) for k, v in (logs or {}).items()}
        self.rows.append((epoch, numbers, self._place))
        if self.folder.path is not None:
            self.folder.put(f"{self.key} epochs", self.rows)
            self.folder.save_random(f"{self.key}-{epoch}", cast(keras.Model, self.model))
            # `BackupAndRestore` keeps the last two states, and may stop while it writes.
            self.folder.remove(f"{self.key}-{epoch - 3}")


def place_of(stream: Any) -> int:
    """Return how many epochs of `Batches` are over. Keras also ends one before the first begins."""
    return stream.epoch if isinstance(stream, Batches) else 0


def set_place(stream: Any, place: int) -> None:
    """Let `Batches` go on where an earlier process was."""
    if isinstance(stream, Batches):
        stream.epoch = place
