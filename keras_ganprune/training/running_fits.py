"""The callback lists of the `fit`s that are running now."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import keras

from keras_ganprune.errors import InvalidArgumentError


def callback_lists() -> Iterator[keras.callbacks.CallbackList]:
    """Yield the callback lists of the running `fit`s, the innermost first.

    To be called inside a hook of a callback.

    Private touch: Keras gives a callback its model, but not the list that it is in. Only the callers of the
    hook have that list: the list itself, and `fit`.
    """
    found: list[keras.callbacks.CallbackList] = []
    frame = sys._getframe(1)
    while frame is not None:
        for name in ("self", "callbacks"):
            value = frame.f_locals.get(name)
            known = any(value is other for other in found)
            if isinstance(value, keras.callbacks.CallbackList) and not known:
                found.append(value)
                yield value
        frame = frame.f_back


def check_alone(callback: keras.callbacks.Callback) -> None:
    """Raise if a callback is twice in the list of a `fit`, or in that of another `fit` that is running.

    Raises:
        InvalidArgumentError: It is. One callback cannot keep the state of two trainings.
    """
    name = type(callback).__name__
    fix = "`copy.deepcopy(callback)` makes a new one with the same arguments."
    for number, lists in enumerate(callback_lists()):
        count = sum(other is callback for other in lists.callbacks)
        if count > 1:
            raise InvalidArgumentError(
                f"`callbacks` must have each callback once. Received: the same `{name}` {count} times. {fix}"
            )
        if number and count:
            raise InvalidArgumentError(
                f"A `{name}` works for one `fit` at a time. Received: one that another `fit` uses, which is "
                f"still running. {fix}"
            )
