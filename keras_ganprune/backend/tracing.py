"""What a compiled training step knows of masks: on JAX only what is part of an optimizer's state.

TensorFlow and PyTorch read variables inside the step. JAX compiles a function of arrays: `fit` hands
the step the values of the weights and of the optimizer's variables, and takes the new ones back. So
there the masks are made variables of the optimizer that trains the weights.
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
    """Return whether a step that is being compiled would hold a mask as a constant."""
    if not _on_jax():
        return False
    traced = importlib.import_module("keras_ganprune.backend._gradients_jax").is_traced
    return traced(weight) and not traced(mask)


def not_tracked(weight: Any) -> InvalidArgumentError:
    """Return the error for masks that a compiled step of JAX does not get as state."""
    return InvalidArgumentError(
        "On JAX the masks must be among the variables of the optimizer that trains the weights, or a "
        f"compiled step never sees them change. Received: '{getattr(weight, 'path', 'a weight')}', whose "
        "mask the step holds as a constant. Call `pruner.attach(optimizer)` before the step is compiled "
        "and before its `variables` are read; in `fit`, `Prune` does so for the optimizers that are "
        "attributes of the model."
    )


def trained_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Return the variables an optimizer was built with; empty if it is not built.

    Private touch: there is no public way to ask an optimizer what it trains.
    """
    return list(getattr(optimizer, "_trainable_variables", None) or []) if optimizer.built else []


def track(
    optimizer: keras.optimizers.Optimizer,
    companions: Iterable[tuple[keras.Variable, keras.Variable]],
) -> bool:
    """Make variables a part of an optimizer's state on JAX; return whether any is new to it.

    Files do not hold them: what is written is what any other backend would write and read.

    Args:
        companions: Pairs of a weight and a variable that goes with it, such as its mask.

    Private touch: `_track_variable` is the only way into `optimizer.variables`.
    """
    if not _on_jax():
        return False
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    tracked = vars(inner).get(_TRACKED)
    if tracked is None:
        tracked = {}
        # Past Keras's attribute tracking, which has no use for it.
        object.__setattr__(inner, _TRACKED, tracked)
    for one in {id(o): o for o in (optimizer, inner)}.values():
        if "save_own_variables" not in vars(one):
            for name in ("save_own_variables", "load_own_variables"):
                method = functools.partial(_without_tracked, one, inner, name)
                object.__setattr__(one, name, method)
    new = [pair for pair in companions if id(pair[1]) not in tracked]
    for weight, variable in new:
        if id(variable) not in tracked:
            inner._track_variable(variable)
        tracked[id(variable)] = (weight, variable)
    return bool(new)


def tracked(optimizer: keras.optimizers.Optimizer) -> list[tuple[keras.Variable, keras.Variable]]:
    """Return the pairs of which `track` has added the second to the variables of an optimizer itself."""
    return list(vars(optimizer).get(_TRACKED, {}).values())


def forget(optimizer: keras.optimizers.Optimizer) -> None:
    """Take away the memory, not the variables, of what `track` has added to an optimizer itself."""
    vars(optimizer).pop(_TRACKED, None)


@contextlib.contextmanager
def _untracked(inner: keras.optimizers.Optimizer) -> Iterator[None]:
    """Within the context, an optimizer has the variables that it would have without masks."""
    variables = list(inner._variables)
    gone = {id(v) for _, v in tracked(inner)}
    inner._variables[:] = [v for v in variables if id(v) not in gone]
    try:
        yield
    finally:
        inner._variables[:] = variables


def _without_tracked(optimizer: Any, inner: Any, name: str, store: Any) -> None:
    with _untracked(inner):
        getattr(type(optimizer), name)(optimizer, store)


def sync(model: keras.Model) -> None:
    """Bring the variables of a model up to date in the middle of an epoch of `fit`.

    On JAX their values are in the state of the running step, and nowhere else, until this is called.
    """
    if _on_jax():
        model.jax_state_sync()


def retrace(model: keras.Model) -> None:
    """Let the training step of a model be traced anew at its next call."""
    if _on_jax():
        remake(model)
    else:
        model.train_function = None


def remake(model: keras.Model) -> None:
    """Make the train function of a model anew, as yet untraced."""
    original, before = model.train_step, vars(model).get("train_step")

    # JAX takes a method that it has traced for the same one, whatever has changed inside.
    def train_step(*arguments):
        return original(*arguments)

    if _on_jax():
        # Past Keras's attribute tracking, which has no use for a function.
        object.__setattr__(model, "train_step", train_step)
    try:
        model.make_train_function(force=True)
    finally:
        if before is not None:
            object.__setattr__(model, "train_step", before)
        elif _on_jax():
            object.__delattr__(model, "train_step")
