"""Checks that the logs of `QualityMonitor` reach the callbacks that read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import keras

from keras_ganprune.callbacks.callback_list import logs_read_by
from keras_ganprune.errors import InvalidArgumentError


def check_readers_before(
    name: str, before: Iterable[keras.callbacks.Callback], written: set[str]
) -> None:
    """Raise if a callback that stands before the monitor reads one of its logs.

    Args:
        name: Class name of the callback that writes the logs.
        before: The callbacks that stand before it.
        written: Names of its logs.
    """
    for other in before:
        read = sorted(written & set(logs_read_by(other)))
        if read:
            raise InvalidArgumentError(
                f"`{name}` must stand before callbacks that read its logs. Received: "
                f"{type(other).__name__} of '{read[0]}' in front of it. Move `{name}` to the front of "
                "`callbacks`."
            )


def blind_writers(before: Iterable[keras.callbacks.Callback]) -> list[keras.callbacks.Callback]:
    """Return the callbacks before the monitor that store all logs, and so miss its logs."""
    storing = (keras.callbacks.CSVLogger, keras.callbacks.TensorBoard)
    return [other for other in before if isinstance(other, storing)]


def check_trials_are_measured(
    beside: Sequence[keras.callbacks.Callback], written: set[str], every: int
) -> None:
    """Raise if `AdaptiveSparsity` reads one of the logs more often than it is measured.

    Args:
        beside: All callbacks.
        written: Names of the logs.
        every: Epochs between two measurements.
    """
    for other in beside:
        adaptive = getattr(other, "schedule", None)
        epochs = getattr(adaptive, "recovery_epochs", every)
        if epochs < every and getattr(adaptive, "monitor", None) in written:
            raise InvalidArgumentError(
                "`AdaptiveSparsity` needs a measurement in every trial: `recovery_epochs` must be at least "
                f"`every` of `QualityMonitor`. Received: recovery_epochs={epochs}, every={every}. "
                f"Use every={epochs}, with fewer images (`n`) if it takes too long."
            )
