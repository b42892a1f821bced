"""Gradients for criteria and regrowth, sampled in the compiled step of a running `fit`.

In all other batches the model runs exactly its own function: a second function, which contains the
accumulators, is traced and replaces it for the sampled batches only.
"""

from __future__ import annotations

import functools
import importlib
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, cast

import keras
import numpy as np
from keras import ops

from keras_ganprune.backend import tracing
from keras_ganprune.callbacks._gradient_requests import Loss, Request
from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers.mask_store import companion
from keras_ganprune.layers.tensors import tensor, to_numpy
from keras_ganprune.layers.traversal import MaskedWeight
from keras_ganprune.training import discovery

_LOSS_INSTEAD = "give `gradient_loss=`, a function (model, batch) -> scalar loss"


class _Sums:
    """Running sums of one request: the sum for each weight, and the number of gradients in it."""

    def __init__(self, weights: Sequence[MaskedWeight], request: Request):
        self.request = request
        self.variables = [w.variable for w in weights]
        self.index = {id(w.variable): i for i, w in enumerate(weights)}
        # Under tf.distribute the sums of the replicas are averaged.
        self.sums = [
            companion(w.variable, np.zeros(w.mask.shape, "float32"), "gradient", "mean")
            for w in weights
        ]
        self.counts = [
            companion(w.variable, np.zeros((), "float32"), "gradients", "mean") for w in weights
        ]
        # An optimizer receives the gradient of its replica's share of the loss, but a loss function
        # returns the mean over the batch of its replica.
        strategy = getattr(weights[0].variable.value, "distribute_strategy", None)
        self.share = 1 if request.loss else getattr(strategy, "num_replicas_in_sync", 1)

    def add(self, gradient: Any, variable: keras.Variable, usable: Any = None) -> None:
        """Add a gradient, unless the bool tensor `usable` is False."""
        index = self.index.get(id(variable))
        if index is None or gradient is None:
            return
        size: Any = ops.abs(ops.cast(_dense(gradient), "float32"))
        if self.share > 1:
            size = ops.multiply(size, float(self.share))
        if self.request.moment == 2:
            size = ops.square(size)
        # Always 1, but computed from the gradient: a call that finds no more data must not count.
        flat: Any = ops.ravel(size)
        one = ops.maximum(ops.cast(ops.isnan(flat[0]), "float32"), 1.0)
        if usable is not None:
            size, one = ops.where(usable, size, 0.0), ops.cast(usable, "float32")
        self.sums[index].assign_add(size)
        self.counts[index].assign_add(one)

    def track(self, model: keras.Model) -> None:
        """On JAX, make the sums part of the optimizers' state; otherwise a compiled step would lose them."""
        untracked = {id(v): i for i, v in enumerate(self.variables)}
        optimizers = discovery.optimizers(model, unwrap=False)
        for optimizer in optimizers:
            trained = [id(v) for v in discovery.trained_variables(optimizer) if id(v) in untracked]
            tracing.track(optimizer, self._companions([untracked.pop(key) for key in trained]))
        if optimizers:  # the loss of a user may depend on weights that are not trained
            tracing.track(optimizers[0], self._companions(untracked.values()))

    def _companions(self, indices: Iterable[int]) -> list[tuple[keras.Variable, keras.Variable]]:
        return [(self.variables[i], v) for i in indices for v in (self.sums[i], self.counts[i])]

    def reset(self) -> None:
        """Set all sums and counts to zero."""
        for variable in (*self.sums, *self.counts):
            variable.assign(ops.zeros_like(tensor(variable)))

    @property
    def empty(self) -> bool:
        """Whether no gradient was added."""
        return not any(float(to_numpy(count)) for count in self.counts)

    def read(self) -> list[np.ndarray | None]:
        """Return the average for each weight; None for a weight without any gradient."""
        averages: list[np.ndarray | None] = []
        for total, count in zip(self.sums, self.counts, strict=True):
            n = float(to_numpy(count))
            if not n:
                averages.append(None)
                continue
            mean = np.array(to_numpy(total)) / n
            averages.append(np.sqrt(mean) if self.request.moment == 2 else mean)
        return averages


def _backend():
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


def _dense(gradient: Any) -> Any:
    """Return a gradient as a tensor of the shape of its weight.

    The gradients of embeddings are lists of rows; rows that occur several times are summed.
    """
    if keras.backend.backend() == "tensorflow":
        return _backend().dense(gradient)  # Keras's own conversion keeps the list of rows
    return ops.convert_to_tensor(gradient)


class GradientSampler:
    """Accumulates the gradients of some weights over batches of a running `fit`.

    It samples the gradients that the optimizers receive, before they clip them. Under tf.distribute it takes
    the mean over replicas of |g|, where g is the gradient of the mean loss of one replica.

    Args:
        model: The model that is fitted.
        weights: The weights whose gradients are sampled.
        requests: Which gradients.

    Attributes:
        batches: Int, batches sampled since the last `reset`; the caller counts them.
        active: Bool, whether the next (or last) batch is sampled.

    Raises:
        UnsupportedLayerError: The gradients of some weights cannot be sampled.
    """

    def __init__(
        self, model: keras.Model, weights: Sequence[MaskedWeight], requests: Sequence[Request]
    ):
        self.model = model
        self.weights = list(weights)
        self.sums = {request: _Sums(weights, request) for request in dict.fromkeys(requests)}
        if any(request.loss for request in self.sums):
            _backend()
        if any(request.loss is None for request in self.sums):
            self._check_training()
        for sums in self.sums.values():
            sums.track(model)
        self.batches = 0
        self.active = False

    def _check_training(self) -> None:
        if hasattr(self.model.train_step, "get_concrete_function"):
            raise UnsupportedLayerError(
                f"`{type(self.model).__name__}.train_step` is decorated with `tf.function`, which traces "
                "it once, so gradients cannot be sampled in some batches only. Remove the decorator "
                f"(`fit` compiles `train_step`), or {_LOSS_INSTEAD}."
            )
        frozen = [w.path for w in self.weights if not w.variable.trainable]
        if frozen:
            raise UnsupportedLayerError(
                f"A weight that is not trained has no gradient. Received frozen: "
                f"{', '.join(frozen[:3])}. Leave it out of `scope`, use a criterion without gradients "
                f"such as 'magnitude', or {_LOSS_INSTEAD}."
            )

    def start(self) -> None:
        """Sample the next batch (the next call of the train function)."""
        if not self.active:
            tracing.sync(self.model)
        if not self.active and not self.batches and not self.empty:
            self.reset()
            raise UnsupportedLayerError(
                f"`{type(self.model).__name__}.train_step` calls a `tf.function` of its own, which would "
                "sample gradients in all batches. Remove that decorator (`fit` compiles all of "
                f"`train_step`), or {_LOSS_INSTEAD}."
            )
        self.active = True
        _Tap.of(self.model).arm(self)

    def stop(self) -> None:
        """Stop sampling."""
        self.active = False
        _Tap.of(self.model).disarm(self)

    def reset(self) -> None:
        """Forget all sampled gradients."""
        self.batches = 0
        for sums in self.sums.values():
            sums.reset()

    @property
    def empty(self) -> bool:
        """Whether no gradient was sampled."""
        return all(sums.empty for sums in self.sums.values())

    @property
    def skipped(self) -> bool:
        """Whether loss scaling skipped all sampled batches because their gradients overflowed."""
        return _loss_scale(self.model) is not None and self.empty

    def read(self, request: Request) -> list[np.ndarray]:
        """Return the averages for each weight, in order.

        Raises:
            UnsupportedLayerError: A weight got no gradient in the sampled batches.
        """
        averages = self.sums[request].read()
        missing = [w.path for w, g in zip(self.weights, averages, strict=True) if g is None]
        if missing and request.loss is not None:
            raise UnsupportedLayerError(
                f"The gradient loss does not depend on {', '.join(missing[:3])}. Leave these weights out "
                "of `scope`, or pass a `gradient_loss` that runs their network."
            )
        if missing:
            raise UnsupportedLayerError(
                f"No gradient reached {', '.join(missing[:3])} in {self.batches} sampled batch(es). "
                "Gradients are sampled when an optimizer that is an attribute of the model applies "
                "them. If `train_step` calls a `tf.function` of its own, remove that decorator "
                "(`fit` compiles all of `train_step`); if these weights are not trained, leave them out "
                f"of `scope`; or {_LOSS_INSTEAD}."
            )
        return [average for average in averages if average is not None]


class _Tap:
    """Replaces the train function of a model during one call, if that call is sampled.

    At all other times the model has its own function, so that nothing is left behind when training is
    interrupted, or the model is saved or copied.
    """

    def __init__(self, model: keras.Model):
        self.model: Any = model
        self.plain: Any = None
        self.armed: list[GradientSampler] = []
        # Weak references to the samplers that a function feeds: they end with their callback.
        self.functions: dict[frozenset[weakref.ref], tuple[Any, Any, Callable | None]] = {}

    @classmethod
    def of(cls, model: keras.Model) -> _Tap:
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

    def arm(self, sampler: GradientSampler) -> None:
        """Sample the next call for a sampler, too."""
        if not self._inserted:
            self.plain, self.armed = self.model.train_function, []
            self.model.train_function = self.run
        if sampler not in self.armed:
            self.armed.append(sampler)

    def disarm(self, sampler: GradientSampler) -> None:
        """Do not sample the next call for a sampler."""
        if self._inserted and sampler in self.armed:
            self.armed.remove(sampler)
            if not self.armed:
                self.model.train_function = self.plain

    def run(self, *arguments: Any) -> Any:
        """Run one sampled call of the train function, with its own arguments."""
        samplers, self.armed = self.armed, []
        self.model.train_function = self.plain
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
        self, samplers: Sequence[GradientSampler], sums: Sequence[_Sums]
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


# Two hooks, both on instances and only during a call: the optimizers' public `apply`, which receives the
# gradients of every Keras training step, and the model's public `train_step`, which receives the batch.


def _replace(stack: ExitStack, owner: Any, name: str, function: Callable) -> None:
    """Replace a method of one object by a function, until the stack is closed."""
    before = vars(owner).get(name)
    # Past Keras's attribute tracking, which must not track a function.
    object.__setattr__(owner, name, function)
    if before is None:
        stack.callback(object.__delattr__, owner, name)
    else:
        stack.callback(object.__setattr__, owner, name, before)


def _sampling_apply(optimizer: keras.optimizers.Optimizer, training: list[_Sums]) -> Callable:
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


def _sampling_step(model: keras.Model, by_loss: list[_Sums]) -> Callable:
    original = model.train_step

    def sample(data):
        for sums in by_loss:
            _sample_loss(model, data, sums)

    return _backend().sampling_step(model, original, sample)


def _sample_loss(model: keras.Model, data: Any, sums: _Sums) -> None:
    scale = _loss_scale(model)

    def loss():
        value = cast(Loss, sums.request.loss)(model, data)  # only requests with a loss come here
        shape: Any = ops.shape(value)
        if len(shape):
            raise InvalidArgumentError(
                "`gradient_loss` must return a scalar. Received a tensor of shape "
                f"{shape}. Take the mean over the batch."
            )
        value = ops.cast(value, "float32")
        return value if scale is None else value * scale

    gradients = _backend().gradients(loss, sums.variables)
    usable = None
    if scale is not None:
        gradients = [g if g is None else ops.cast(g, "float32") / scale for g in gradients]
        # As the optimizer does: a batch whose scaled gradients overflow is left out.
        finite = [ops.all(ops.isfinite(g)) for g in gradients if g is not None]
        usable = ops.all(ops.stack(finite)) if finite else None
    for gradient, variable in zip(gradients, sums.variables, strict=True):
        sums.add(gradient, variable, usable)


def _loss_scale(model: keras.Model) -> Any:
    """Return the factor that scales losses so that half-precision gradients do not vanish, or None."""
    scales = [
        optimizer.scale_loss(1.0)
        for optimizer in discovery.optimizers(model, unwrap=False)
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    ]
    return functools.reduce(ops.minimum, scales) if scales else None
