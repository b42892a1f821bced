"""The other callbacks of a `fit`, and the logs that they read."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import keras


def callbacks_beside() -> list[keras.callbacks.Callback]:
    """Return all callbacks of the running `fit`, in order; [] if no callback list calls the hook.

    To be called inside a hook of a callback.

    Private touch: Keras gives a callback its model, but not the list that it is in. Only the caller of
    the hook has that list.
    """
    frame = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList):
            return list(caller.callbacks)
        frame = frame.f_back
    return []


def logs_read_by(callback: keras.callbacks.Callback) -> Iterator[str]:
    """Yield the names of the logs that a callback monitors, as far as its attributes show."""
    schedule = getattr(callback, "schedule", None)
    for name in (getattr(callback, "monitor", None), getattr(schedule, "monitor", None)):
        if isinstance(name, str):
            yield name
