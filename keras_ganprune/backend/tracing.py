"""Masks in a compiled training step, and the tracing of that step.

On TensorFlow and PyTorch the step reads variables. JAX compiles a function of arrays: `fit` passes the values
of the weights and of the optimizer's variables to the step, and the step returns the new values. So on JAX
the masks become variables of the optimizer that trains the weights.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from keras_ganprune.errors import InvalidArgumentError

_TRACKED = "_tracked_for_pruning"


def _on_jax() -> bool:
    return keras.backend.backend() == "jax"


def is_constant(mask: keras.Variable, weight: Any) -> bool:
    """Return whether the mask of a weight would be a constant in a step that is being compiled."""
    if not _on_jax():
        return False
    traced = importlib.import_module("keras_ganprune.backend._gradients_jax").is_traced
    return traced(weight) and not traced(mask)


def is_readable(mask: keras.Variable, value: Any) -> bool:
    """Return whether a write of `value` to a weight can be masked with the present value of its mask.

    On JAX, `fit` takes the values out of all variables while it runs, and writes the weights back before
    the masks. These weights are masked already. In a compiled step the constraint masks, which follows there:
    it knows whether the mask is a constant, and one operation is enough.

    Private attribute of Keras: `value` of a variable without a value calls its initializer, which is None.
    """
    if not _on_jax():
        return True
    traced = importlib.import_module("keras_ganprune.backend._gradients_jax").is_traced
    return mask._value is not None and not traced(value)


def not_tracked(weight: Any) -> InvalidArgumentError:
    """Return the error for a mask that is a constant in a compiled step of JAX."""
    return InvalidArgumentError(
        "On JAX the masks must be among the variables of the optimizer that trains the weights, because a "
        "compiled step keeps the first value of a constant. Received: the mask of "
        f"'{getattr(weight, 'path', 'a weight')}', which is a constant in the step. Call "
        "`pruner.attach(optimizer)` before the step is compiled and before `optimizer.variables` is read. In "
        "`fit`, `Prune` does so for the optimizers that are attributes of the model."
    )


def trained_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Return the variables that an optimizer was built with, or [] if it is not built.

    Private attribute of Keras: there is no public way to get them.
    """
    return list(getattr(optimizer, "_trainable_variables", None) or []) if optimizer.built else []


def track(
    optimizer: keras.optimizers.Optimizer,
    companions: Iterable[tuple[keras.Variable, keras.Variable]],
) -> bool:
    """On JAX, add variables to the state of an optimizer.

    The optimizer does not save these variables, so that its files are the same on all backends.

    Args:
        optimizer: Optimizer that trains the weights.
        companions: Pairs of a weight and a variable that belongs to it, such as its mask.

    Returns:
        Whether any variable is new to the optimizer. Always False on the other backends.

    Private method of Keras: only `_track_variable` can add a variable to `optimizer.variables`.
    """
    if not _on_jax():
        return False
    inner: Any = getattr(optimizer, "inner_optimizer", optimizer)
    tracked = vars(inner).get(_TRACKED)
    if tracked is None:
        tracked = {}
        # `object.__setattr__` keeps Keras from tracking the attribute.
        object.__setattr__(inner, _TRACKED, tracked)
    for outer in {id(o): o for o in (optimizer, inner)}.values():
        if "save_own_variables" not in vars(outer):
            for name in ("save_own_variables", "load_own_variables"):
                method = functools.partial(_without_tracked, outer, inner, name)
                object.__setattr__(outer, name, method)
    new = [pair for pair in companions if id(pair[1]) not in tracked]
    for weight, variable in new:
        if id(variable) not in tracked:
            inner._track_variable(variable)
        tracked[id(variable)] = (weight, variable)
    return bool(new)


def tracked(optimizer: keras.optimizers.Optimizer) -> list[tuple[keras.Variable, keras.Variable]]:
    """Return the (weight, variable) pairs that `track` has added to an optimizer, which is not unwrapped."""
    return list(vars(optimizer).get(_TRACKED, {}).values())


def forget(optimizer: keras.optimizers.Optimizer) -> None:
    """Delete the record of the variables that `track` has added. The variables are not changed."""
    optimizer.__dict__.pop(_TRACKED, None)


def release(optimizer: keras.optimizers.Optimizer) -> None:
    """Remove the variables that `track` has added from an optimizer."""
    inner: Any = getattr(optimizer, "inner_optimizer", optimizer)
    removed = {id(v) for _, v in tracked(inner)}
    if not removed:
        return
    inner._variables[:] = [v for v in inner._variables if id(v) not in removed]
    forget(inner)
    for outer in (optimizer, inner):
        for name in ("save_own_variables", "load_own_variables"):
            outer.__dict__.pop(name, None)


def untrack(optimizer: keras.optimizers.Optimizer, variables: Iterable[keras.Variable]) -> None:
    """Remove some of the variables that `track` has added from an optimizer."""
    inner: Any = getattr(optimizer, "inner_optimizer", optimizer)
    gone = {id(v) for v in variables} & {id(v) for _, v in tracked(inner)}
    if not gone:
        return
    if len(gone) == len(tracked(inner)):
        release(optimizer)
        return
    inner._variables[:] = [v for v in inner._variables if id(v) not in gone]
    for key in gone:
        del vars(inner)[_TRACKED][key]


@contextlib.contextmanager
def _untracked(inner: keras.optimizers.Optimizer) -> Iterator[None]:
    """Within the context, an optimizer has only the variables that it would have without masks."""
    variables = list(inner._variables)
    removed = {id(v) for _, v in tracked(inner)}
    inner._variables[:] = [v for v in variables if id(v) not in removed]
    try:
        yield
    finally:
        inner._variables[:] = variables


def _without_tracked(optimizer: Any, inner: Any, name: str, store: Any) -> None:
    with _untracked(inner):
        getattr(type(optimizer), name)(optimizer, store)


def sync(model: keras.Model) -> None:
    """Update the variables of a model in the middle of an epoch of `fit`.

    On JAX, only the state of the training loop has the current values until this function is called.
    """
    if _on_jax():
        model.jax_state_sync()


def retrace(model: keras.Model) -> None:
    """Let the training step of a model be traced again at its next call."""
    if _on_jax():
        remake(model)
    else:
        model.train_function = None


def remake(model: keras.Model) -> None:
    """Give a model a new train function that is not traced yet."""
    original, before = model.train_step, vars(model).get("train_step")

    # JAX would reuse the trace of the method, although the variables inside have changed.
    def train_step(*arguments):
        return original(*arguments)

    if _on_jax():
        # `object.__setattr__` keeps Keras from tracking the attribute.
        object.__setattr__(model, "train_step", train_step)
    try:
        model.make_train_function(force=True)
    finally:
        if before is not None:
            object.__setattr__(model, "train_step", before)
        elif _on_jax():
            object.__delattr__(model, "train_step")
