"""The guard of a masked weight: every write to its variable leaves the pruned entries at zero.

Two parts work together:

- The constraint of the variable, which every Keras optimizer applies after its update. It composes with the
  user's own constraint.
- The class of the variable, whose `assign` masks the new value. So `set_weights`, restored checkpoints,
  weight averages and callbacks such as `EarlyStopping` cannot write into pruned entries, with or without a
  callback of this package. On TensorFlow, optimizers write into the `tf.Variable` behind a Keras variable.
  Its methods are guarded too: the update itself is masked, so the constraint has nothing left to do.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import keras
import numpy as np
from keras import ops

from keras_ganprune.backend import tracing
from keras_ganprune.layers.tensors import masked, tensor, to_numpy
from keras_ganprune.layers.zero_arrivals import Arrivals
from keras_ganprune.utils.registry import PACKAGE

if TYPE_CHECKING:
    # The guard is always mixed into a class of Keras variables.
    _VariableMixin = keras.Variable
else:
    _VariableMixin = object


@keras.saving.register_keras_serializable(package=PACKAGE)
class MaskConstraint(keras.constraints.Constraint):
    """Constraint that sets pruned entries to zero, after the user's own constraint.

    Args:
        mask: Bool `keras.Variable` of the shape of the weight, True = keep.
        inner: Constraint that the weight had before. Defaults to None.

    Attributes:
        hidden: Variable of the shape of the weight that accumulates the updates of pruned entries, or None.
        compiled_in: Bool, whether a compiled step of JAX holds the mask as a constant. If True, the mask must
            not change any more.
        resting: Bool, whether no pruning run accumulates updates at present, though `hidden` is there.
        paused: Bool, whether `assign` writes values as they are: while a file is loaded, whose masks are read
            after its weights.
        arrivals: What is known about zeros that came without a mask, or None.
    """

    def __init__(self, mask: keras.Variable, inner: Callable[[Any], Any] | None = None):
        self.mask = mask
        self.inner: Any = inner
        self.hidden: keras.Variable | None = None
        self.compiled_in = False
        self.resting = False
        self.paused = False
        self.arrivals: Arrivals | None = None

    def __call__(self, w: Any) -> Any:
        """Return the weight with its pruned entries set to zero."""
        self.paused = False  # A file that could not be read to its end had paused the guard.
        if self.arrivals is not None and not self.arrivals.in_training:
            self.arrivals.training_begins(w)
        if tracing.is_constant(self.mask, w):
            if self.hidden is not None:
                raise tracing.not_tracked(w)
            self.compiled_in = True
        if self.hidden is not None:
            # A pruned weight was zero before the step, so its present value is the optimizer's update.
            update: Any = ops.cast(w, self.hidden.dtype)
            moved = ops.where(tensor(self.mask), update, tensor(self.hidden) + update)
            if self.inner is not None:
                moved = self.inner(moved)
            self.hidden.assign(masked(moved, ops.logical_not(tensor(self.mask))))
        elif isinstance(w, GuardedVariable) and w.constraint is self and _is_masked(w):
            if self.inner is None:
                return w  # `assign` of a variable to itself does nothing.
            return masked(self.inner(tensor(w)), self.mask)
        if self.inner is not None:
            # Masked before the user's constraint, so that a norm is taken over the kept weights only. Masked
            # again after it, because a constraint such as a lower bound may change zeros.
            w = self.inner(masked(w, self.mask))
        return masked(w, self.mask)

    def __getstate__(self) -> dict[str, Any]:
        # The store of a copied variable is another one, or none.
        return {**vars(self), "arrivals": None}

    @property
    def enforced(self) -> bool:
        """Whether a write is masked. While updates of pruned entries are collected, the constraint masks."""
        return (self.hidden is None or self.resting) and not self.paused

    def get_config(self) -> dict[str, Any]:
        """Return the configuration of the user's constraint. The layer saves the mask."""
        return {} if self.inner is None else self.inner.get_config()


class GuardedVariable(_VariableMixin):
    """Mixin for the class of a variable that has a mask. Its constraint is a `MaskConstraint`."""

    mask_constraint: MaskConstraint
    plain_class: type

    def assign(self, value: Any) -> Any:
        """Assign a value with its pruned entries set to zero."""
        if value is self:
            return value
        rule = self.mask_constraint
        if rule.arrivals is not None and not rule.paused:
            rule.arrivals.written(self, value)
        if rule.enforced:
            # Not `self.dtype`, which is another one while an autocast scope is open.
            value = ops.convert_to_tensor(value, dtype=self._dtype)
            # A value of another shape raises the error of Keras.
            same_shape = tuple(value.shape) == tuple(self.shape)
            if same_shape and tracing.is_readable(rule.mask, value):
                value = masked(value, rule.mask)
        return super().assign(value)

    @property
    def constraint(self) -> MaskConstraint:
        """The mask constraint, which holds the user's own constraint as `inner`."""
        return self.mask_constraint

    @constraint.setter
    def constraint(self, value: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        if isinstance(value, MaskConstraint):
            self.mask_constraint = value
        elif value is None or callable(value):
            self.mask_constraint.inner = value
        else:
            raise ValueError(
                f"`constraint` must be a function of a weight, or None. Received: {value!r}."
            )

    def _initialize(self, value: Any) -> None:
        # Private method of Keras: a variable of a model that is built in a symbolic scope gets its value
        # later.
        super()._initialize(value)
        _guard_native(self)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # The class is made at run time, so that `pickle` cannot import it by its name.
        return _new_guarded, (type(self).plain_class,), dict(vars(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _guard_native(self)


def _new_guarded(plain_class: type) -> Any:
    return object.__new__(_guarded_class(cast("Any", plain_class)))


def guard(weight: keras.Variable, constraint: MaskConstraint) -> None:
    """Let every write to a variable respect the mask of a constraint."""
    if not isinstance(weight, GuardedVariable):
        _swap_class(weight, _guarded_class(cast("Any", type(weight))))
    weight.constraint = constraint
    _guard_native(weight)


def unguard(weight: keras.Variable) -> None:
    """Undo `guard`: the variable gets its class and the user's own constraint back. Its value stays."""
    if not isinstance(weight, GuardedVariable):
        return
    inner = weight.mask_constraint.inner
    if _on_tensorflow() and weight._value is not None:
        _native().unguard(weight._value)
    _swap_class(weight, type(weight).plain_class)
    del weight.mask_constraint
    weight.constraint = inner


@contextlib.contextmanager
def unchecked(weight: keras.Variable) -> Iterator[None]:
    """Within the context, a variable takes values as they are: they are masked already."""
    rule = getattr(weight, "mask_constraint", None)
    before = rule is not None and rule.paused
    if rule is not None:
        rule.paused = True
    try:
        yield
    finally:
        if rule is not None:
            rule.paused = before


def pruned_but_not_zero(weight: keras.Variable, mask: Any) -> int:
    """Return the number of pruned entries of a weight that are not zero: other code has written them."""
    return int(np.count_nonzero(to_numpy(weight)[~to_numpy(mask)]))


def _swap_class(variable: keras.Variable, cls: type) -> None:
    """Change the class of an existing variable. It stays the same object, with the same value."""
    variable.__class__ = cls


@functools.cache
def _guarded_class(cls: Any) -> type[Any]:
    """Return the guarded class of a class of variables. It has the same name."""
    members = {"plain_class": cls, "__module__": __name__, "__qualname__": f"Guarded{cls.__name__}"}
    return type(cls.__name__, (GuardedVariable, cls), members)


def _on_tensorflow() -> bool:
    return keras.backend.backend() == "tensorflow"


def _native() -> Any:
    return importlib.import_module("keras_ganprune.backend._writes_tensorflow")


def _guard_native(weight: Any) -> None:
    """On TensorFlow, guard the `tf.Variable` behind a Keras variable.

    Private attribute of Keras: `value` is a tensor while an autocast scope is open.
    """
    if _on_tensorflow() and weight._value is not None:
        _native().guard(weight._value, weight)


def _is_masked(weight: Any) -> bool:
    """Return whether the pruned entries of a guarded variable are zero, or set them to zero in place."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _native().take_note(weight)
    if backend == "torch":
        return importlib.import_module("keras_ganprune.backend._masking_torch").mask_in_place(
            weight, weight.mask_constraint.mask
        )
    return False
