"""Writes to the `tf.Variable` of a masked weight.

Keras's optimizers, their averages and `SwapEMAWeights` write into the `tf.Variable` behind a Keras variable.
The methods that write are replaced on the object, so that a training step traces the masked ones. An update
is not added in place: the masked sum is assigned, which costs one operation more and also mends values that
other code has written past these methods.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

_SUMS = {"assign_add": tf.add, "assign_sub": tf.subtract}
_ROWS = ("scatter_add", "scatter_sub", "scatter_update")
# Rarely used. The variable is masked after the write.
_OTHERS = (
    "scatter_max",
    "scatter_min",
    "scatter_mul",
    "scatter_div",
    "batch_scatter_update",
    "scatter_nd_add",
    "scatter_nd_sub",
    "scatter_nd_update",
    "scatter_nd_max",
    "scatter_nd_min",
)
_RESTORE = "_restore_from_tensors"  # of a `tf.train.Checkpoint`
_NOTE = "_masked_in"
# A table up to this number of entries is masked as a whole when some of its rows are written. That takes less
# than a millisecond.
_SMALL = 2**20


def guard(variable: Any, weight: Any) -> None:
    """Replace the methods of a `tf.Variable` that write.

    Args:
        variable: The `tf.Variable` behind `weight`, or the variable of a distribution strategy.
        weight: The guarded Keras variable. It is referred to weakly.
    """
    unguard(variable)
    owner = weakref.ref(weight)
    for number, component in enumerate(_components(variable)):
        _Writes(component, owner, number).install()


def unguard(variable: Any) -> None:
    """Give a `tf.Variable` the methods of its class back."""
    for component in _components(variable):
        for name in ("assign", *_SUMS, *_ROWS, *_OTHERS, _RESTORE, _NOTE):
            vars(component).pop(name, None)


def take_note(weight: Any) -> bool:
    """Return whether the last write to a variable was masked in the graph that is traced now.

    If not, an operation of its own has updated the variable, and the constraint masks it.
    """
    notes = [vars(c).pop(_NOTE, None) for c in _components(weight._value)]
    graph = _graph()
    return all(note is not None and note() is graph for note in notes)


def value_outside_of_graphs(value: Any) -> np.ndarray:
    """Return the present value of a variable as an array, also while a function is traced."""
    with tf.init_scope():
        return np.asarray(value)


def _components(variable: Any) -> list[Any]:
    """Return the variables of all replicas, or the variable itself."""
    strategy = getattr(variable, "distribute_strategy", None)
    if strategy is None or not hasattr(variable, "values"):
        return [variable]
    return list(variable.values)


def _graph() -> Any:
    """Return the graph that is traced, or the one that stands for eager execution."""
    return tf.compat.v1.get_default_graph()


class _Writes:
    """The guarded methods of one `tf.Variable`.

    Args:
        variable: The `tf.Variable`.
        owner: Weak reference to the guarded Keras variable.
        number: Position of `variable` among the replicas.
    """

    def __init__(self, variable: Any, owner: Callable[[], Any], number: int):
        self.variable = variable
        self.owner = owner
        self.number = number
        self.assign = variable.assign
        # A variable that is created while a function is traced gets its initial value by one `assign` in
        # another graph. Its mask has no value there yet.
        self.born_in = None if tf.executing_eagerly() else weakref.ref(_graph())

    def install(self) -> None:
        """Replace the methods that write."""
        writers = [("assign", self.write)]
        writers += [(name, functools.partial(self.add, sign)) for name, sign in _SUMS.items()]
        writers += [(name, self.write_rows) for name in _ROWS]
        writers += [(name, self.write_and_mask) for name in _OTHERS]
        writers += [(_RESTORE, self.restore)]
        for name, writer in writers:
            method = getattr(self.variable, name, None)
            if method is not None:
                guarded = functools.partial(writer, method)
                vars(self.variable)[name] = tf.autograph.experimental.do_not_convert(guarded)

    def write(self, method: Callable, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Write a whole value."""
        if not self._is_initial() and self._enforced():
            value = tf.convert_to_tensor(value, dtype=self.variable.dtype)
            if value.shape == self.variable.shape:  # else the method raises its own error
                value = self._masked(value)
                self._note()
        return method(value, *args, **kwargs)

    def add(
        self, operation: Callable, method: Callable, value: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Add a whole value, or subtract it: the masked sum is written.

        So values that other code has written past the guard end here.
        """
        if not self._enforced():
            return method(value, *args, **kwargs)
        value = tf.convert_to_tensor(value, dtype=self.variable.dtype)
        if value.shape != self.variable.shape:
            return method(value, *args, **kwargs)  # raises its own error
        total = self._masked(operation(self.variable.read_value(), value))
        self._note()
        return self.assign(total, *args, **kwargs)

    def write_rows(self, method: Callable, rows: Any, *args: Any, **kwargs: Any) -> Any:
        """Write some rows, or add them."""
        if not self._enforced():
            return method(rows, *args, **kwargs)
        kept = tf.gather(self._mask(), rows.indices)
        values = tf.where(kept, rows.values, tf.zeros((), rows.values.dtype))
        rows = tf.IndexedSlices(values, rows.indices, rows.dense_shape)
        result = method(rows, *args, **kwargs)
        if self.variable.shape.num_elements() <= _SMALL:
            self.assign(self._masked(self.variable.read_value()))
        self._note()
        return result

    def write_and_mask(self, method: Callable, *args: Any, **kwargs: Any) -> Any:
        """Write in another way, then mask the whole variable."""
        result = method(*args, **kwargs)
        if self._enforced():
            self.assign(self._masked(self.variable.read_value()))
        return result

    def restore(self, method: Callable, *args: Any, **kwargs: Any) -> Any:
        """Take the value of a `tf.train.Checkpoint`, then mask the variable."""
        result = self.write_and_mask(method, *args, **kwargs)
        weight = self.owner()
        arrivals = None if weight is None else weight.mask_constraint.arrivals
        if arrivals is not None:
            arrivals.restored(weight)
        return result

    def _is_initial(self) -> bool:
        if self.born_in is None or self.born_in() is _graph():
            return False
        self.born_in = None
        return True

    def _enforced(self) -> bool:
        weight = self.owner()
        return weight is not None and weight.mask_constraint.enforced

    def _mask(self) -> Any:
        masks = _components(self.owner().mask_constraint.mask._value)
        return masks[min(self.number, len(masks) - 1)]

    def _masked(self, value: Any) -> Any:
        return tf.where(self._mask(), value, tf.zeros((), value.dtype))

    def _note(self) -> None:
        vars(self.variable)[_NOTE] = weakref.ref(_graph())
