"""Optimizer steps done for a network."""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from typing import Any

import keras

from keras_ganprune.backend import tracing
from keras_ganprune.training import discovery

# How many batches may go by, at most, before a step that is only known from the last ones is read.
_UNREAD = 32


class Clock:
    """Optimizer steps done for a network: the optimizer's own count, so that a resumed run goes on.

    Until an optimizer that trains the network is found (it may be built only by the first batch),
    batches are counted instead.

    The count is on the device, and to read it is to wait for the step that is running. So where that
    matters (everywhere but on TensorFlow) it is read in the first batches, and then now and then: in
    between, steps are counted on as regularly as they went.
    """

    def __init__(self, model: keras.Model, network: keras.layers.Layer, chosen: Any):
        self.model = model
        self.network = network
        self.optimizer = None if chosen is None else discovery.resolve_optimizer(model, chosen)
        self.offset = 0
        self._batches = 0
        self._batches_before_epoch = 0
        self._read_at = 0
        # The last few (batches, step) at which the step was seen to have changed.
        self._changes: deque[tuple[int, int]] = deque(maxlen=4)

    def begin_epoch(self) -> None:
        self._batches_before_epoch = self._batches

    def batch_done(self, batch: int) -> int:
        """Count on to the end of a batch; return how many batches that is."""
        # With `steps_per_execution` one call stands for several batches; `batch` is the last of them.
        before, self._batches = self._batches, self._batches_before_epoch + batch + 1
        return self._batches - before

    @property
    def step(self) -> int:
        """The step now: read, or counted on where steps come regularly."""
        if keras.backend.backend() == "tensorflow" or self._overdue or self._rate is None:
            return self.read()
        return self._counted() + self.offset

    def read(self) -> int:
        """Return the step, as the optimizer counts it; on JAX the model's variables are then in sync."""
        tracing.sync(self.model)
        step = self._count()
        self._read_at = self._batches
        if self._rate is not None:
            if step == self._counted():
                return step + self.offset
            self._changes.clear()  # they come otherwise than they did
        if not self._changes or step != self._changes[-1][1]:
            self._changes.append((self._batches, step))
        return step + self.offset

    def _count(self) -> int:
        found = self.optimizer or discovery.optimizer_of(self.model, self.network)
        if found is None:
            return self._batches
        done = discovery.steps_done(found)
        if done:  # one that has made no update yet may turn out to be idle
            self.optimizer = found
        return done

    @property
    def _overdue(self) -> bool:
        return self._batches - self._read_at >= _UNREAD

    @property
    def _rate(self) -> float | None:
        """Steps a batch, if the last ones came regularly."""
        seen = list(self._changes)[-3:]
        rates = {(t - s) / (b - a) for (a, s), (b, t) in pairwise(seen) if b > a and t > s}
        return rates.pop() if len(seen) == 3 and len(rates) == 1 else None

    def _counted(self) -> int:
        batches, step = self._changes[-1]
        return step + math.floor(self._rate * (self._batches - batches) + 1e-6)

    def reach(self, batches: int) -> tuple[int, int]:
        """Return the step now, and that after `batches` more batches, as fast as steps went of late.

        A batch need not be a step: an optimizer may take several in one (five critic steps), or only
        every few batches (`gradient_accumulation_steps`). To be asked before every batch.
        """
        step = self.step
        seen = list(self._changes)
        rates = [(t - s) / (b - a) for (a, s), (b, t) in pairwise(seen) if b > a and t > s]
        rate = max(rates, default=self._expected_rate())
        # Where a step takes several batches, those since the last one count too.
        since = rate * (self._batches - seen[-1][0]) - (step - self.offset - seen[-1][1])
        begun = min(max(since, 0), max(1 - rate, 0))
        return step, math.floor(step + begun + rate * batches + 1e-6)

    def _expected_rate(self) -> float:
        """Return how many steps a batch is, before any step was seen."""
        found = self.optimizer or discovery.optimizer_of(self.model, self.network)
        # One that the first batch is yet to build does not tell what it trains.
        possible = discovery.optimizers(self.model) if found is None else [found]
        batches = [getattr(o, "gradient_accumulation_steps", None) or 1 for o in possible]
        return 1 / min(batches, default=1)
