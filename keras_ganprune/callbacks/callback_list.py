"""The other callbacks of a `fit`, and the logs that they read."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from keras_ganprune.training.running_fits import callback_lists


def callbacks_beside() -> list[keras.callbacks.Callback]:
    """Return all callbacks of the running `fit`, in order; [] if no callback list calls the hook.

    To be called inside a hook of a callback.
    """
    running = next(callback_lists(), None)
    return [] if running is None else list(running.callbacks)


def logs_read_by(callback: keras.callbacks.Callback) -> Iterator[str]:
    """Yield the names of the logs that a callback monitors, as far as its attributes show."""
    schedule = getattr(callback, "schedule", None)
    for name in (getattr(callback, "monitor", None), getattr(schedule, "monitor", None)):
        if isinstance(name, str):
            yield name
