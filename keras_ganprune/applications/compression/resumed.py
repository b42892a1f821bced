"""What a killed training needs beside `BackupAndRestore`, to end with the same bits."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.applications.compression.folder import Folder
from keras_ganprune.datasets import Batches
from keras_ganprune.layers.tensors import to_numpy


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
        prunes: The `Prune` callbacks, which sample gradients for their next update.
    """

    def __init__(self, folder: Folder, key: str, stream: Any, prunes: Sequence[Any]):
        super().__init__()
        self.folder = folder
        self.key = key
        self.stream = stream
        self.prunes = list(prunes)
        self.rows: list[tuple[int, dict[str, float], int]] = []
        self.begun = False
        self._sampled: dict[str, np.ndarray] = {}
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
                self._sampled = self.folder.load_random(
                    f"{self.key}-{epoch - 1}", cast(keras.Model, self.model)
                )
                set_place(self.stream, self.rows[-1][2] + 1)
        self._place = place_of(self.stream)

    def on_train_batch_begin(self, batch, logs=None):
        """Give `Prune` the gradients that were sampled before the process was killed."""
        # After `Prune` has begun: it would use what was sampled for an update at once.
        if self._sampled:
            for i, sampler in self._samplers():
                prefix = f"sampler_{i}_"
                state = {
                    k.removeprefix(prefix): v
                    for k, v in self._sampled.items()
                    if k.startswith(prefix)
                }
                if state:
                    set_sampled(sampler, state)
            self._sampled = {}

    def on_epoch_end(self, epoch, logs=None):
        """Keep the logs, the states of random generators, and the gradients sampled so far."""
        numbers = {k: float(np.asarray(v)) for k, v in (logs or {}).items()}
        self.rows.append((epoch, numbers, self._place))
        if self.folder.path is not None:
            gradients = {
                f"sampler_{i}_{name}": value
                for i, sampler in self._samplers()
                for name, value in sampled(sampler).items()
            }
            self.folder.put(f"{self.key} epochs", self.rows)
            self.folder.save_random(f"{self.key}-{epoch}", cast(keras.Model, self.model), gradients)
            # `BackupAndRestore` keeps the last two states, and may stop while it writes.
            self.folder.remove(f"{self.key}-{epoch - 3}")

    def _samplers(self) -> list[tuple[int, Any]]:
        found = [getattr(prune, "gradient_sampler", None) for prune in self.prunes]
        return [(i, sampler) for i, sampler in enumerate(found) if sampler is not None]


def place_of(stream: Any) -> int:
    """Return how many epochs of `Batches` are over. Keras also ends one before the first begins."""
    return stream.epoch if isinstance(stream, Batches) else 0


def set_place(stream: Any, place: int) -> None:
    """Let `Batches` go on where an earlier process was."""
    if isinstance(stream, Batches):
        stream.epoch = place


def sampled(sampler: Any) -> dict[str, np.ndarray]:
    """Return what a `GradientSampler` has sampled so far, as arrays by name."""
    arrays = {"batches": np.array(sampler.batches)}
    for i, sums in enumerate(sampler.sums.values()):
        for j, (total, count) in enumerate(zip(sums.sums, sums.counts, strict=True)):
            arrays[f"sum_{i}_{j}"] = np.array(to_numpy(total))
            arrays[f"count_{i}_{j}"] = np.array(to_numpy(count))
    return arrays


def set_sampled(sampler: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Give a `GradientSampler` what `sampled` returned."""
    sampler.batches = int(arrays["batches"])
    for i, sums in enumerate(sampler.sums.values()):
        for j, (total, count) in enumerate(zip(sums.sums, sums.counts, strict=True)):
            total.assign(arrays[f"sum_{i}_{j}"])
            count.assign(arrays[f"count_{i}_{j}"])
