"""The step clock: it counts the optimizer steps of a network."""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise

import keras
import numpy as np

from keras_ganprune.backend import tracing
from keras_ganprune.training import discovery

# Largest number of batches for which the step is extrapolated before it is read again.
_UNREAD = 32
# Attribute of an optimizer: steps that were made before it began to count.
_BEFORE = "_steps_before_pruning_resumed"


class Clock:
    """Counts the optimizer steps of a network.

    The step is the optimizer's own `iterations`, so that a resumed run continues where it stopped. Batches
    are counted until the optimizer that trains the network is known. It may not be built before the first
    batch.

    `iterations` is on the device, and reading it waits for the running step. On TensorFlow that costs
    nothing. On the other backends it is read in the first batches, and then at least every 32 batches. In
    between, the step is extrapolated if the number of steps per batch has been constant.

    Args:
        model: Model that is being trained.
        network: Network that is pruned.
        chosen: Optimizer of the model or its attribute name, or None to find the optimizer that trains the
            network.
    """

    def __init__(
        self,
        model: keras.Model,
        network: keras.layers.Layer,
        chosen: discovery.OptimizerName | None,
    ):
        self.model = model
        self.network = network
        self.optimizer = None if chosen is None else discovery.resolve_optimizer(model, chosen)
        self._offset = 0
        self._batches = 0
        self._batches_before_epoch = 0
        self._read_at = 0
        # The last few (batches, step) at which a read step differed from the step read before.
        self._changes: deque[tuple[int, int]] = deque(maxlen=4)

    @property
    def offset(self) -> int:
        """Steps that were made before the optimizer began to count, because its state was not restored.

        They are noted at the optimizer, so that the next `fit` with the same optimizer goes on from there.
        """
        optimizer = self.optimizer or discovery.optimizer_of(self.model, self.network)
        if optimizer is None:
            return self._offset
        noted = vars(optimizer).get(_BEFORE, 0)
        if self._offset and self._offset != noted:
            # Past Keras's attribute tracking.
            object.__setattr__(optimizer, _BEFORE, self._offset)
        return self._offset or noted

    @offset.setter
    def offset(self, steps: int) -> None:
        self._offset = steps
        optimizer = self.optimizer or discovery.optimizer_of(self.model, self.network)
        if optimizer is not None:
            object.__setattr__(optimizer, _BEFORE, steps)

    def begin_epoch(self) -> None:
        """Note the number of batches before an epoch."""
        self._batches_before_epoch = self._batches

    def batch_done(self, batch: int) -> int:
        """Count the batches of the epoch up to number `batch`, and return how many of them are new."""
        # With `steps_per_execution`, Keras makes one call for several batches, and `batch` is the last of
        # them.
        before, self._batches = self._batches, self._batches_before_epoch + batch + 1
        return self._batches - before

    @property
    def step(self) -> int:
        """Current step: read from the optimizer, or extrapolated if the steps per batch are constant."""
        rate = self._rate
        if keras.backend.backend() == "tensorflow" or self._overdue or rate is None:
            return self.read()
        return self._extrapolated(rate) + self.offset

    def read(self) -> int:
        """Return the step that the optimizer counts. On JAX this also updates the model's variables."""
        tracing.sync(self.model)
        step = self._count()
        self._read_at = self._batches
        rate = self._rate
        if rate is not None:
            if step == self._extrapolated(rate):
                return step + self.offset
            self._changes.clear()  # The number of steps per batch has changed.
        if not self._changes or step != self._changes[-1][1]:
            self._changes.append((self._batches, step))
        return step + self.offset

    @property
    def rates(self) -> np.ndarray:
        """The last changes of the step, which tell how many steps a batch makes: for a resumed run.

        Int array (changes, 2): batches and steps, counted from the present ones.
        """
        step = self.read() - self.offset
        rows = [(b - self._batches, s - step) for b, s in self._changes]
        return np.array(rows, dtype=np.int64).reshape(-1, 2)

    @rates.setter
    def rates(self, rows: np.ndarray) -> None:
        step = self.read() - self.offset
        self._changes.clear()
        self._changes.extend((self._batches + int(b), step + int(s)) for b, s in rows)

    def _count(self) -> int:
        optimizer = self.optimizer or discovery.optimizer_of(self.model, self.network)
        if optimizer is None:
            return self._batches
        steps = discovery.steps_done(optimizer)
        if steps:  # An optimizer without updates may be one that the model never uses.
            self.optimizer = optimizer
        return steps

    @property
    def _overdue(self) -> bool:
        return self._batches - self._read_at >= _UNREAD

    @property
    def _rate(self) -> float | None:
        """Steps per batch if they were constant in the last batches, else None."""
        changes = list(self._changes)[-3:]
        rates = {(t - s) / (b - a) for (a, s), (b, t) in pairwise(changes) if b > a and t > s}
        return rates.pop() if len(changes) == 3 and len(rates) == 1 else None

    def _extrapolated(self, rate: float) -> int:
        batches, step = self._changes[-1]
        return step + math.floor(rate * (self._batches - batches) + 1e-6)

    def reach(self, batches: int) -> tuple[int, int]:
        """Return the current step, and the expected step after `batches` more batches.

        The highest of the last rates is assumed. A batch need not be a step: an optimizer may make several
        steps per batch (five critic steps), or one step in several batches (`gradient_accumulation_steps`).
        Call this before every batch, so that changes of the step are noticed.
        """
        step = self.step
        changes = list(self._changes)
        rates = [(t - s) / (b - a) for (a, s), (b, t) in pairwise(changes) if b > a and t > s]
        rate = max(rates, default=self._expected_rate())
        # If a step takes several batches, the batches since the last step belong to the next step.
        since = rate * (self._batches - changes[-1][0]) - (step - self.offset - changes[-1][1])
        begun = min(max(since, 0), max(1 - rate, 0))
        return step, math.floor(step + begun + rate * batches + 1e-6)

    def _expected_rate(self) -> float:
        """Return the expected steps per batch before the first step."""
        optimizer = self.optimizer or discovery.optimizer_of(self.model, self.network)
        # An optimizer that is not built yet may train this network, so all optimizers are considered.
        possible = discovery.optimizers(self.model) if optimizer is None else [optimizer]
        batches = [getattr(o, "gradient_accumulation_steps", None) or 1 for o in possible]
        return 1 / min(batches, default=1)
