"""Finds the weights of inner layers that a `call` computes with itself, past the layers.

A graph holds the values of such a weight as constants. They would neither be cut nor trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras

from keras_ganprune.pruning.structured.traces import Step, is_array, leaves, same_array


def read_by_hand(
    layer: keras.layers.Layer, steps: Sequence[Step], again: Callable[[], Sequence[Step]]
) -> str | None:
    """Return the path of a weight whose values, or which itself, are among the arguments of calls, or None.

    Args:
        layer: A layer without weights of its own.
        steps: Its calls.
        again: Function that runs it on symbols once more, and returns the calls.
    """
    found = [leaf for step in steps for leaf in leaves((step.args, step.kwargs))]
    inner = [w for w in layer.weights if "float" in keras.backend.standardize_dtype(w.dtype)]
    ids = {id(w): w.path for w in inner}
    direct = next((ids[id(leaf)] for leaf in found if id(leaf) in ids), None)
    if direct or not any(map(is_array, found)):
        return direct
    if not _differs(steps, inner, again):
        return None
    return next((w.path for w in inner if _differs(steps, [w], again)), inner[0].path)


def _differs(
    steps: Sequence[Step], weights: Sequence[keras.Variable], again: Callable[[], Sequence[Step]]
) -> bool:
    """Return whether an argument of the calls changes with the values of weights."""
    other = [(w, keras.ops.add(w.value, 1)) for w in weights]
    with keras.StatelessScope(state_mapping=other):
        moved = again()
    rows = []
    for calls in (steps, moved):
        arguments = [leaf for step in calls for leaf in leaves((step.args, step.kwargs))]
        rows.append([leaf for leaf in arguments if is_array(leaf)])
    return len(rows[0]) == len(rows[1]) and not all(map(same_array, *rows))
