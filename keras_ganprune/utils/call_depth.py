"""Which line of the user's code a warning points to."""

from __future__ import annotations

import sys

_LIBRARIES = ("keras", "keras_ganprune", "tensorflow", "jax", "jaxlib", "torch")


def depth_of_caller() -> int:
    """Return the `stacklevel` at which `warnings.warn`, called by the caller, names the user's line."""
    depth, steps = 2, 0
    frame = sys._getframe(1)
    while frame is not None:
        steps += 1
        if frame.f_globals.get("__name__", "").split(".")[0] in _LIBRARIES:
            depth = steps + 1
        frame = frame.f_back
    return depth
