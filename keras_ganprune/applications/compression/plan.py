"""How long a compression trains, and when its networks get sparse."""

from __future__ import annotations

from typing import Any

import attrs
import keras

from keras_ganprune.datasets import Batches
from keras_ganprune.errors import DataError, InvalidArgumentError

# Without `epochs`: about this many steps, in at least and at most so many epochs.
_STEPS, _FEWEST, _MOST = 1000, 4, 100
# Fewer epochs than this are cut into more and shorter ones, so that a killed run loses little.
_SHORTEST_RUN = 4
# A sampled gradient, a first and a last mask, and a step to recover.
FEWEST_STEPS = 4
# Shares of the steps after which the last mask is made, and channels are cut out.
_RAMP, _CHANNEL_RAMP, _CUT = 0.6, 0.4, 0.5
_UPDATES = 40


@attrs.frozen
class Plan:
    """The length of each training of one compression.

    Attributes:
        epochs: Epochs of `fit`; 0 without training.
        per_epoch: Steps of each epoch.
        batch_size: Samples per step; None if the data brings its own batches.
    """

    epochs: int
    per_epoch: int
    batch_size: int | None

    @property
    def steps(self) -> int:
        """All steps of one training."""
        return self.epochs * self.per_epoch

    @property
    def ramp(self) -> int:
        """Steps until the last weights are pruned."""
        return max(2, int(_RAMP * self.steps))

    @property
    def channel_ramp(self) -> int:
        """Steps until the last channels are masked: before they are cut out."""
        return max(2, min(int(_CHANNEL_RAMP * self.steps), self.cut_epoch * self.per_epoch))

    @property
    def cut_epoch(self) -> int:
        """Epochs after which masked channels are cut out."""
        return max(-(-2 // self.per_epoch), int(_CUT * self.epochs))

    def frequency(self, ramp: int) -> int:
        """Return the number of steps between two mask updates."""
        return max(1, ramp // _UPDATES)


def plan_for(
    x: Any, samples: int | None, batch_size: int | None, epochs: int | None, cuts: bool
) -> Plan:
    """Return the plan for data.

    Args:
        x: The data, if it brings its own batches.
        samples: Number of samples of arrays, or None for a stream of batches.
        batch_size, epochs: As for `compress`.
        cuts: Whether channels are cut out between two trainings.

    Raises:
        DataError: The length of a stream is not known.
        InvalidArgumentError: `batch_size` is given for a stream, or there are too few epochs or steps.

    Example:
    >>> from keras_ganprune.applications.compression.plan import plan_for
    >>> plan_for(None, 1000, 50, 10, cuts=False)
    Plan(epochs=10, per_epoch=20, batch_size=50)
    """
    if epochs == 0:
        return Plan(0, 0, batch_size)
    if samples is None:
        if batch_size is not None:
            raise InvalidArgumentError(
                "`batch_size` is for arrays; a data set brings its own batches. Received: "
                f"batch_size={batch_size} and a {type(x).__name__}. Leave it out."
            )
        per_pass = _length(x)
        epochs = _default_epochs(per_pass) if epochs is None else epochs
        if cuts and epochs < 2:
            raise InvalidArgumentError(
                "A data set that brings its own batches needs at least 2 epochs for a budget: channels are "
                f"cut out between two epochs. Received: epochs={epochs}."
            )
        return Plan(epochs, per_pass, None)
    size = min(32 if batch_size is None else batch_size, samples)
    per_pass = samples // size
    epochs = _default_epochs(per_pass) if epochs is None else epochs
    steps = epochs * per_pass
    if steps < FEWEST_STEPS:
        raise InvalidArgumentError(
            f"`compress` needs at least {FEWEST_STEPS} training steps: pruning is gradual. Received: "
            f"{steps} (epochs={epochs}, {samples} samples, {size} per step). Train for more `epochs`, or "
            "with a smaller `batch_size`."
        )
    if epochs < _SHORTEST_RUN:
        parts = min(10, steps)
        return Plan(parts, steps // parts, size)
    return Plan(epochs, per_pass, size)


def _default_epochs(per_pass: int) -> int:
    return min(max(-(-_STEPS // per_pass), _FEWEST), _MOST)


def _length(stream: Any) -> int:
    """Return the number of batches in one epoch of a stream."""
    if isinstance(stream, keras.utils.PyDataset):
        count = stream.num_batches
    else:
        try:
            count = len(stream)
        except TypeError:
            count = None
    if not count:
        batches_text = "an unknown number of" if count is None else count
        raise DataError(
            "`data` must be arrays, or a data set whose number of batches is known and not 0: the schedule "
            f"is made from it. Received: a {type(stream).__name__} of {batches_text} "
            "batches. Give a `tf.data.Dataset` its length by "
            "`dataset.apply(tf.data.experimental.assert_cardinality(n))`; write a generator as a "
            "`keras.utils.PyDataset`."
        )
    return int(count)


def batches(x: Any, y: Any, weights: Any, plan: Plan, seed: int) -> Any:
    """Return the data as `fit` takes it: arrays in an order that depends on the seed and the epoch only."""
    if plan.batch_size is None:
        return x
    return Batches(x, y, plan.batch_size, plan.per_epoch, seed, weights)
