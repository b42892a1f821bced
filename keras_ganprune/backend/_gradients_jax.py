"""Gradients on JAX, for code that reads and assigns variables as on the other backends.

Such code runs in a `keras.StatelessScope`, which holds the values of the variables. JAX differentiates
functions of arrays, so each differentiated function runs in a new inner scope. Its assignments are copied to
the outer scope.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax  # pyright: ignore[reportMissingImports]
import keras


def is_traced(value: Any) -> bool:
    """Return whether a variable or tensor is an argument of a function that is being compiled."""
    return isinstance(keras.ops.convert_to_tensor(value), jax.core.Tracer)


def _scope_now() -> keras.StatelessScope | None:
    """Return the current scope, or None.

    Private function of Keras: there is no public way to get the current scope.
    """
    from keras.src.backend.common import stateless_scope

    return stateless_scope.get_stateless_scope()


class _Inner(keras.StatelessScope):
    """An inner scope that begins with the values of the outer scope."""

    def __init__(self, outer: keras.StatelessScope | None):
        super().__init__(collect_losses=outer is not None and outer.collect_losses)
        self.before = {} if outer is None else outer.state_mapping
        self.state_mapping = dict(self.before)
        self.differentiated: dict[int, Any] = {}

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        """Record a new value of a variable."""
        variable, value = update
        at = self.differentiated.get(id(variable))
        if at is not None:
            # The layer has rewritten the weight (as SpectralNormalization does). On all backends, the
            # gradient is taken at the new value. The added difference is zero, but its gradient is not.
            value = jax.lax.stop_gradient(value) + (at - jax.lax.stop_gradient(at))
        super().add_update((variable, value))

    @property
    def changed(self) -> dict[int, Any]:
        """The new values of the variables that changed, by id."""
        return {k: v for k, v in self.state_mapping.items() if v is not self.before.get(k)}


def differentiate(function: Callable[..., Any], at: Sequence[Any]) -> tuple[Any, Any, list[Any]]:
    """Return (scalar, rest, gradients) of `function(scope, *at)`, which returns (scalar, rest)."""
    outer = _scope_now()

    def pure(values):
        with _Inner(outer) as inner:
            scalar, rest = function(inner, *values)
        return scalar, (rest, inner.changed)

    (scalar, (rest, changed)), slopes = jax.value_and_grad(pure, has_aux=True)(list(at))
    if outer is not None:
        outer.state_mapping.update(changed)
    return scalar, rest, slopes


def value_and_gradients(
    function: Callable[[], Any], variables: Sequence[keras.Variable]
) -> tuple[Any, Any, list[Any]]:
    """Return (scalar, rest, gradients for the variables) of `function()`, which returns (scalar, rest)."""

    def with_variables(scope, *values):
        for variable, value in zip(variables, values, strict=True):
            scope.state_mapping[id(variable)] = scope.differentiated[id(variable)] = value
        return function()

    return differentiate(with_variables, [variable.value for variable in variables])


def gradients(loss: Callable[[], Any], variables: Sequence[keras.Variable]) -> list[Any]:
    """Return the gradient of `loss()` for each variable, zero if the loss does not depend on it."""
    return value_and_gradients(lambda: (loss(), None), variables)[2]


def compiled_linear(
    function: Callable[[list[Any], Any], Any],
) -> tuple[Callable[[list[Any], Any], Any], Callable[[list[Any], Any, Any], list[Any]]]:
    """Return `function(values, x)`, linear in the values, and its transposed (values, x, y), both compiled.

    Without compilation, JAX would trace the function anew at each call of the transposed one.
    """

    def transposed(values: list[Any], x: Any, y: Any) -> list[Any]:
        return jax.vjp(lambda at: function(at, x), values)[1](y)[0]

    return jax.jit(function), jax.jit(transposed)


def dense(gradient: Any) -> Any:
    """Return a gradient as a tensor."""
    return keras.ops.convert_to_tensor(gradient)


def sampling_step(model: keras.Model, step: Callable, sample: Callable[[Any], None]) -> Callable:
    """Return a training step that first calls `sample(data)`, which may assign variables of the model."""

    def train_step(state, data):
        _, state = run_on(model, state, lambda: sample(data))
        return step(state, data)

    return train_step


def run_on(
    model: keras.Model, state: Sequence[list], function: Callable[[], Any]
) -> tuple[Any, tuple]:
    """Run a function on the values that `fit` passes to a step.

    Args:
        model: Model that is being trained.
        state: Values of the trainable, non-trainable, optimizer (not in `test_step`) and metric variables.
        function: Function that reads and assigns variables.

    Returns:
        The result of the function, and the new state.
    """
    lists = [model.trainable_variables, model.non_trainable_variables]
    if len(state) == 4:
        lists.append(model.optimizer.variables)
    lists.append(model.metrics_variables)
    pairs = [
        pair
        for variables, values in zip(lists, state, strict=True)
        for pair in zip(variables, values, strict=True)
    ]
    with keras.StatelessScope(pairs, collect_losses=True) as scope:
        result = function()
    return result, tuple([scope.get_current_value(v) for v in variables] for variables in lists)
