"""The train function of a model, replaced during the calls whose batches or gradients are recorded.

Two hooks, both on instances and only during a call: the optimizers' public `apply`, which receives the
gradients of every Keras training step, and the model's public `train_step`, which receives the batch.
"""

from __future__ import annotations

import functools
import importlib
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, cast

import keras
from keras import ops

from keras_ganprune.backend import tracing
from keras_ganprune.callbacks._first_batch import first_batch
from keras_ganprune.callbacks._gradient_requests import (
    Loss,
    check_dependent,
    scalar_loss,
)
from keras_ganprune.training import discovery

Sums = Any  # the running sums of one request, see `GradientSampler`


def backend_gradients():
    """Return the module that takes gradients on this backend."""
    try:
        return importlib.import_module(
            f"keras_ganprune.backend._gradients_{keras.backend.backend()}"
        )
    except ModuleNotFoundError as error:
        raise NotImplementedError(
            f"Gradients of a loss function cannot be taken on the Keras backend "
            f"'{keras.backend.backend()}' yet. Set KERAS_BACKEND=tensorflow before Keras is imported, or "
            "use a criterion that needs the training gradients only ('gradient', 'taylor')."
        ) from error


class Tap:
    """Replaces the train function of a model during one call, if that call is sampled.

    At all other times the model has its own function, so that nothing is left behind when training is
    interrupted, or the model is saved or copied.
    """

    def __init__(self, model: keras.Model):
        self.model: Any = model
        self.plain: Any = None
        self.armed: list[Any] = []
        self.recorders: list[Callable[[Any], None]] = []
        # Weak references to the samplers that a function feeds: they end with their callback.
        self.functions: dict[frozenset[weakref.ref], tuple[Any, Any, Callable | None]] = {}

    @classmethod
    def of(cls, model: keras.Model) -> Tap:
        """Return the tap of a model, which several callbacks and a later `fit` share."""
        tap = vars(model).get("_gradient_tap")
        if tap is None or tap.model is not model:
            tap = cls(model)
            # Past Keras's attribute tracking, which must not track it.
            object.__setattr__(model, "_gradient_tap", tap)
        return tap

    @property
    def _inserted(self) -> bool:
        return getattr(self.model.train_function, "__self__", None) is self

    def _insert(self) -> None:
        if not self._inserted:
            self.plain, self.armed, self.recorders = self.model.train_function, [], []
            self.model.train_function = self.run

    def arm(self, sampler: Any) -> None:
        """Sample the next call for a `GradientSampler`, too."""
        self._insert()
        if sampler not in self.armed:
            self.armed.append(sampler)

    def record(self, recorder: Callable[[Any], None]) -> None:
        """Give the first batch of the next call to a function."""
        self._insert()
        if recorder not in self.recorders:
            self.recorders.append(recorder)

    def disarm(self, sampler: Any) -> None:
        """Do not sample or record the next call for a sampler or recorder."""
        if not self._inserted:
            return
        for waiting in (self.armed, self.recorders):
            if sampler in waiting:
                waiting.remove(sampler)
        if not self.armed and not self.recorders:
            self.model.train_function = self.plain

    def run(self, *arguments: Any) -> Any:
        """Run one sampled call of the train function, with its own arguments."""
        samplers, self.armed = self.armed, []
        recorders, self.recorders = self.recorders, []
        self.model.train_function = self.plain
        if recorders:
            batch, source = first_batch(arguments[-1], self.model.steps_per_execution)
            arguments = (*arguments[:-1], source)
            for recorder in recorders:
                recorder(batch)
        if not samplers:
            return self.plain(*arguments)
        sums = [s for sampler in samplers for s in sampler.sums.values()]
        with ExitStack() as stack:
            function, step = self._function(samplers, sums)
            if step is not None and keras.backend.backend() == "torch":
                # On other backends the function was made with this step; here it looks it up at each call.
                _replace(stack, self.model, "train_step", step)
            training = [s for s in sums if s.request.loss is None]
            if training:
                for optimizer in discovery.optimizers(self.model):
                    _replace(stack, optimizer, "apply", _sampling_apply(optimizer, training))
            return function(*arguments)

    def _function(
        self, samplers: Sequence[Any], sums: Sequence[Sums]
    ) -> tuple[Any, Callable | None]:
        """Return the train function that feeds some samplers, and its step.

        A new function is not traced yet. The step is None if it is the model's own.
        """
        key = frozenset(weakref.ref(sampler) for sampler in samplers)
        known = self.functions.get(key)
        if known is None or known[0] is not self.plain:
            self.functions = {
                k: row
                for k, row in self.functions.items()
                if row[0] is self.plain and all(ref() is not None for ref in k)
            }
            by_loss = [s for s in sums if s.request.loss is not None]
            step = _sampling_step(self.model, by_loss) if by_loss else None
            with ExitStack() as stack:
                if step is not None:
                    _replace(stack, self.model, "train_step", step)
                tracing.remake(self.model)
                known = (self.plain, self.model.train_function, step)
                self.model.train_function = self.plain
            self.functions[key] = known
        return known[1:]


def _replace(stack: ExitStack, owner: Any, name: str, function: Callable) -> None:
    """Replace a method of one object by a function, until the stack is closed."""
    before = vars(owner).get(name)
    # Past Keras's attribute tracking, which must not track a function.
    object.__setattr__(owner, name, function)
    if before is None:
        stack.callback(object.__delattr__, owner, name)
    else:
        stack.callback(object.__setattr__, owner, name, before)


def _sampling_apply(optimizer: keras.optimizers.Optimizer, training: list[Sums]) -> Callable:
    original = optimizer.apply

    def apply(grads, trainable_variables=None):
        grads = list(grads)
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
        variables = trainable_variables or discovery.trained_variables(optimizer)
        scale = optimizer.loss_scale_factor
        for gradient, variable in zip(grads, variables, strict=False):
            if gradient is not None and scale is not None:
                gradient = ops.divide(gradient, scale)
            for sums in training:
                sums.add(gradient, variable)
        return original(grads, trainable_variables)

    return apply


def _sampling_step(model: keras.Model, by_loss: list[Sums]) -> Callable:
    original = model.train_step

    def sample(data):
        for sums in by_loss:
            _sample_loss(model, data, sums)

    return backend_gradients().sampling_step(model, original, sample)


def _sample_loss(model: keras.Model, data: Any, sums: Sums) -> None:
    scale = loss_scale(model)

    def loss():
        value = scalar_loss(cast(Loss, sums.request.loss), model, data)
        value = ops.cast(value, "float32")
        return value if scale is None else value * scale

    gradients = backend_gradients().gradients(loss, sums.variables)
    check_dependent(gradients, sums.variables)
    usable = None
    if scale is not None:
        gradients = [g if g is None else ops.cast(g, "float32") / scale for g in gradients]
        # As the optimizer does: a batch whose scaled gradients overflow is left out.
        finite = [ops.all(ops.isfinite(g)) for g in gradients if g is not None]
        usable = ops.all(ops.stack(finite)) if finite else None
    for gradient, variable in zip(gradients, sums.variables, strict=True):
        sums.add(gradient, variable, usable)


def loss_scale(model: keras.Model) -> Any:
    """Return the factor that scales losses so that half-precision gradients do not vanish, or None."""
    scales = [
        optimizer.scale_loss(1.0)
        for optimizer in discovery.optimizers(model, unwrap=False)
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    ]
    return functools.reduce(ops.minimum, scales) if scales else None
