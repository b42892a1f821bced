"""Optimizer steps done for a network."""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from typing import Any

import keras

from keras_ganprune import discovery


class Clock:
    """Optimizer steps done for a network: the optimizer's own count, so that a resumed run goes on.

    Until an optimizer that trains the network is found (it may be built only by the first batch),
    batches are counted instead.
    """

    def __init__(self, model: keras.Model, network: keras.layers.Layer, chosen: Any):
        self.model = model
        self.network = network
        self.optimizer = None if chosen is None else discovery.resolve_optimizer(model, chosen)
        self.offset = 0
        self._batches = 0
        self._batches_before_epoch = 0
        # The last few (batches, step) at which the step had changed.
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
        found = self.optimizer or discovery.optimizer_of(self.model, self.network)
        if found is None:
            return self._batches + self.offset
        done = discovery.steps_done(found)
        if done:  # one that has made no update yet may turn out to be idle
            self.optimizer = found
        return done + self.offset

    def reach(self, batches: int) -> tuple[int, int]:
        """Return the step now, and that after `batches` more batches, as fast as steps went of late.

        A batch need not be a step: an optimizer may take several in one (five critic steps), or only
        every few batches (`gradient_accumulation_steps`). To be asked before every batch.
        """
        step = self.step
        if not self._changes or step != self._changes[-1][1]:
            self._changes.append((self._batches, step))
        seen = list(self._changes)
        rates = [(t - s) / (b - a) for (a, s), (b, t) in pairwise(seen) if b > a and t > s]
        rate = max(rates, default=self._expected_rate())
        # Where a step takes several batches, those since the last one count too.
        begun = min(rate * (self._batches - seen[-1][0]), max(1 - rate, 0))
        return step, math.floor(step + begun + rate * batches + 1e-6)

    def _expected_rate(self) -> float:
        """Return how many steps a batch is, before any step was seen."""
        found = self.optimizer or discovery.optimizer_of(self.model, self.network)
        # One that the first batch is yet to build does not tell what it trains.
        possible = discovery.optimizers(self.model) if found is None else [found]
        batches = [getattr(o, "gradient_accumulation_steps", None) or 1 for o in possible]
        return 1 / min(batches, default=1)
