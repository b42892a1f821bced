"""Gradients for criteria and regrowth, sampled in the compiled step of a running `fit`.

Outside the sampled batches the model runs the very function that it would run without this: a second
one, with the accumulators in it, is traced and put in its place for the sampled batches alone.
"""

from __future__ import annotations

import functools
import importlib
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune.backend import tracing
from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers.mask_store import companion, tensor, to_numpy
from keras_ganprune.layers.traversal import MaskedWeight
from keras_ganprune.pruning.criteria import Criterion
from keras_ganprune.pruning.modes import Mode
from keras_ganprune.training import discovery

Loss = Callable[[keras.Model, Any], Any]

_LOSS_INSTEAD = "give `gradient_loss=`, a function (model, batch) -> scalar loss"


@dataclass(frozen=True)
class Request:
    """Which gradients are wanted.

    Attributes:
        moment: 1 for mean |g|, 2 for the root of mean g^2.
        loss: Function (model, batch) -> scalar whose gradient is meant; None for the gradients that the
            optimizers are given.
    """

    moment: int
    loss: Loss | None = None


class _Sums:
    """Running sums of one request: for each weight, and how many gradients went into it."""

    def __init__(self, weights: Sequence[MaskedWeight], request: Request):
        self.request = request
        self.variables = [w.variable for w in weights]
        self.index = {id(w.variable): i for i, w in enumerate(weights)}
        # Under tf.distribute what the replicas add is averaged.
        self.sums = [
            companion(w.variable, np.zeros(w.mask.shape, "float32"), "gradient", "mean")
            for w in weights
        ]
        self.counts = [
            companion(w.variable, np.zeros((), "float32"), "gradients", "mean") for w in weights
        ]
        # An optimizer is given the gradient of its replica's share of the loss, a loss function
        # returns the mean over the batch of its replica.
        strategy = getattr(weights[0].variable.value, "distribute_strategy", None)
        self.share = 1 if request.loss else getattr(strategy, "num_replicas_in_sync", 1)

    def add(self, gradient: Any, variable: keras.Variable, usable: Any = None) -> None:
        """Add a gradient; one that is not `usable` (a bool tensor) is left out."""
        where = self.index.get(id(variable))
        if where is None or gradient is None:
            return
        size = ops.abs(ops.cast(_dense(gradient), "float32"))
        if self.share > 1:
            size = ops.multiply(size, float(self.share))
        if self.request.moment == 2:
            size = ops.square(size)
        # Always 1, but only with a gradient: the call that finds no more data must not count.
        one = ops.maximum(ops.cast(ops.isnan(ops.ravel(size)[0]), "float32"), 1.0)
        if usable is not None:
            size, one = ops.where(usable, size, 0.0), ops.cast(usable, "float32")
        self.sums[where].assign_add(size)
        self.counts[where].assign_add(one)

    def track(self, model: keras.Model) -> None:
        """On JAX, make the sums a part of the state of optimizers, or a compiled step would lose them."""
        left = {id(v): i for i, v in enumerate(self.variables)}
        found = discovery.optimizers(model, unwrap=False)
        for optimizer in found:
            own = [id(v) for v in discovery.trained_variables(optimizer) if id(v) in left]
            tracing.track(optimizer, self._companions([left.pop(key) for key in own]))
        if found:  # of weights that are not trained, for a loss of the user's
            tracing.track(found[0], self._companions(left.values()))

    def _companions(self, indices: Iterable[int]) -> list[tuple[keras.Variable, keras.Variable]]:
        return [(self.variables[i], v) for i in indices for v in (self.sums[i], self.counts[i])]

    def reset(self) -> None:
        for variable in (*self.sums, *self.counts):
            variable.assign(ops.zeros_like(tensor(variable)))

    @property
    def empty(self) -> bool:
        return not any(float(to_numpy(count)) for count in self.counts)

    def read(self) -> list[np.ndarray | None]:
        found = []
        for total, count in zip(self.sums, self.counts, strict=True):
            n = float(to_numpy(count))
            mean = np.array(to_numpy(total)) / n if n else None
            found.append(np.sqrt(mean) if n and self.request.moment == 2 else mean)
        return found


def _backend():
    try:
        return importlib.import_module(
            f"keras_ganprune.backend._gradients_{keras.backend.backend()}"
        )
    except ModuleNotFoundError as error:
        raise NotImplementedError(
            f"Gradients of a loss function cannot be taken on the Keras backend "
            f"'{keras.backend.backend()}' yet. Set KERAS_BACKEND=tensorflow before Keras is imported, or "
            "use a criterion of the training gradients ('gradient', 'taylor')."
        ) from error


def _dense(gradient: Any) -> Any:
    """Return a gradient as a tensor of the shape of its weight.

    Those of embeddings are lists of rows, in which a row may stand several times: its sum is wanted.
    """
    if keras.backend.backend() == "tensorflow":
        return _backend().dense(gradient)  # which Keras's own conversion leaves as it is
    return ops.convert_to_tensor(gradient)


class GradientSampler:
    """Accumulates gradients of some weights over batches of the `fit` that is running.

    Sampled are the gradients that the optimizers are given, before they clip them; under tf.distribute
    the mean over replicas of |g|, each g that of the replica's own mean loss.

    Args:
        model: The model that is being fitted.
        weights: The weights whose gradients are wanted.
        requests: Which gradients.

    Attributes:
        batches: Int, batches sampled since the last `reset`; whoever runs the batches counts them.
        active: Bool, whether the batch that is run next, or was run last, is sampled.

    Raises:
        UnsupportedLayerError: the gradients of some weights can't be sampled.
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
                "it once, so that no gradients can be sampled in some batches only. Take the decorator "
                f"away (`fit` compiles `train_step`), or {_LOSS_INSTEAD}."
            )
        frozen = [w.path for w in self.weights if not w.variable.trainable]
        if frozen:
            raise UnsupportedLayerError(
                f"A weight that is not trained has no gradient. Received frozen: "
                f"{', '.join(frozen[:3])}. Leave it out of `scope`, use a criterion without gradients "
                f"such as 'magnitude', or {_LOSS_INSTEAD}."
            )

    def start(self) -> None:
        """Sample the batch (the call of the train function) that comes next."""
        if not self.active:
            tracing.sync(self.model)
        if not self.active and not self.batches and not self.empty:
            self.reset()
            raise UnsupportedLayerError(
                f"`{type(self.model).__name__}.train_step` calls a `tf.function` of its own, which goes on "
                "sampling gradients in batches where none are wanted. Take that decorator away "
                f"(`fit` compiles all of `train_step`), or {_LOSS_INSTEAD}."
            )
        self.active = True
        _Tap.of(self.model).arm(self)

    def stop(self) -> None:
        """Sample no more."""
        self.active = False
        _Tap.of(self.model).disarm(self)

    def reset(self) -> None:
        """Forget what was sampled."""
        self.batches = 0
        for sums in self.sums.values():
            sums.reset()

    @property
    def empty(self) -> bool:
        """Whether no gradient was sampled."""
        return all(sums.empty for sums in self.sums.values())

    @property
    def skipped(self) -> bool:
        """Whether loss scaling skipped all sampled batches, since their gradients overflowed."""
        return _loss_scale(self.model) is not None and self.empty

    def read(self, request: Request) -> list[np.ndarray]:
        """Return the averages for each weight, in order.

        Raises:
            UnsupportedLayerError: a weight got no gradient in the sampled batches.
        """
        found = self.sums[request].read()
        missing = [w.path for w, g in zip(self.weights, found, strict=True) if g is None]
        if missing and request.loss is not None:
            raise UnsupportedLayerError(
                f"The gradient loss does not depend on {', '.join(missing[:3])}. Leave these weights out "
                "of `scope`, or give a `gradient_loss` that runs the network they are in."
            )
        if missing:
            raise UnsupportedLayerError(
                f"No gradient reached {', '.join(missing[:3])} in {self.batches} sampled batch(es). "
                "Gradients are sampled where an optimizer that is an attribute of the model applies "
                "them. If `train_step` calls a `tf.function` of its own, take that decorator away "
                "(`fit` compiles all of `train_step`); if these weights are not trained, leave them out "
                f"of `scope`; or {_LOSS_INSTEAD}."
            )
        return found


class _Tap:
    """Stands in for the train function of a model for the length of one call, if that is sampled.

    At all other times the model has the very function that it would have without it, so that nothing
    is left behind when training is interrupted, or the model saved or copied.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.plain: Any = None
        self.armed: list[GradientSampler] = []
        # Keyed by the samplers that a function feeds, weakly: they go with their callback.
        self.functions: dict[frozenset[weakref.ref], tuple[Any, Any, Callable | None]] = {}

    @classmethod
    def of(cls, model: keras.Model) -> _Tap:
        """Return the tap of a model. Several callbacks share it, and a later `fit` its functions."""
        tap = vars(model).get("_gradient_tap")
        if tap is None or tap.model is not model:
            tap = cls(model)
            # Past Keras's attribute tracking, which has no use for it.
            object.__setattr__(model, "_gradient_tap", tap)
        return tap

    @property
    def _inserted(self) -> bool:
        return getattr(self.model.train_function, "__self__", None) is self

    def arm(self, sampler: GradientSampler) -> None:
        if not self._inserted:
            self.plain, self.armed = self.model.train_function, []
            self.model.train_function = self.run
        if sampler not in self.armed:
            self.armed.append(sampler)

    def disarm(self, sampler: GradientSampler) -> None:
        if self._inserted and sampler in self.armed:
            self.armed.remove(sampler)
            if not self.armed:
                self.model.train_function = self.plain

    def run(self, *arguments: Any) -> Any:
        """Run one call of the train function, sampled: of an iterator; on JAX, of the state and one."""
        samplers, self.armed = self.armed, []
        self.model.train_function = self.plain
        sums = [s for sampler in samplers for s in sampler.sums.values()]
        with ExitStack() as stack:
            function, step = self._function(samplers, sums)
            if step is not None and keras.backend.backend() == "torch":
                # Elsewhere the function was made with it; here it looks for it when it runs.
                _replace(stack, self.model, "train_step", step)
            training = [s for s in sums if s.request.loss is None]
            if training:
                for optimizer in discovery.optimizers(self.model):
                    _replace(stack, optimizer, "apply", _sampling_apply(optimizer, training))
            return function(*arguments)

    def _function(
        self, samplers: Sequence[GradientSampler], sums: Sequence[_Sums]
    ) -> tuple[Any, Callable | None]:
        """Return the train function that feeds some samplers, as yet untraced if it is new, and its step.

        The step is None where it is the model's own.
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


# Two hooks, both on instances and only for the length of a call: the optimizers' public `apply`,
# through which every Keras training step hands its gradients, and the model's public `train_step`,
# which alone sees the batch.


def _replace(stack: ExitStack, owner: Any, name: str, function: Callable) -> None:
    """Put a function in the place of a method of one object, until the stack is closed."""
    before = vars(owner).get(name)
    # Past Keras's attribute tracking, which has no use for a function.
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
        value = sums.request.loss(model, data)
        if len(ops.shape(value)):
            raise InvalidArgumentError(
                "`gradient_loss` must return a scalar. Received a tensor of shape "
                f"{ops.shape(value)}. Take the mean over the batch."
            )
        value = ops.cast(value, "float32")
        return value if scale is None else value * scale

    found = _backend().gradients(loss, sums.variables)
    usable = None
    if scale is not None:
        found = [g if g is None else ops.cast(g, "float32") / scale for g in found]
        # As the optimizer does: a batch whose scaled gradients overflow is left out.
        finite = [ops.all(ops.isfinite(g)) for g in found if g is not None]
        usable = ops.all(ops.stack(finite)) if finite else None
    for gradient, variable in zip(found, sums.variables, strict=True):
        sums.add(gradient, variable, usable)


def _loss_scale(model: keras.Model) -> Any:
    """Return by what losses are multiplied lest gradients vanish in half precision, or None."""
    scales = [
        optimizer.scale_loss(1.0)
        for optimizer in discovery.optimizers(model, unwrap=False)
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    ]
    return functools.reduce(ops.minimum, scales) if scales else None


def adversarial_loss(model: keras.Model, data: Any) -> Any:
    """Return the adversarial loss of a model that knows it (`GANModel`)."""
    return model.adversarial_loss(data)


def check_loss(loss: Any) -> Loss | None:
    """Return `gradient_loss` if it is a function or None."""
    if loss is not None and not callable(loss):
        raise InvalidArgumentError(
            "`gradient_loss` must be a function (model, batch) -> scalar loss. "
            f"Received: {loss!r} (of type {type(loss).__name__})."
        )
    return loss


def requests(
    model: keras.Model,
    networks: Sequence[keras.layers.Layer],
    criterion: Criterion,
    mode: Mode,
    loss: Loss | None,
) -> tuple[Request | None, Request | None]:
    """Return which gradients a criterion and a mode need for some networks; None where they need none.

    Raises:
        InvalidArgumentError: the criterion asks the discriminator, and there is no way to, or no sense.
    """
    if not criterion.needs_gradient:
        scoring = None
    elif criterion.source == "adversarial":
        _check_adversarial(model, networks, criterion, loss)
        scoring = Request(criterion.moment, loss or adversarial_loss)
    else:
        scoring = Request(criterion.moment, loss)
    return scoring, Request(1, loss) if mode.needs_gradient else None


def _check_adversarial(
    model: keras.Model,
    networks: Sequence[keras.layers.Layer],
    criterion: Criterion,
    loss: Loss | None,
) -> None:
    judge = getattr(model, "discriminator", None)
    inside = (layer for network in networks for layer in network._flatten_layers())
    if judge is not None and any(layer is judge for layer in inside):
        raise InvalidArgumentError(
            f"{criterion!r} asks what the discriminator makes of the generator's weights, so "
            f"the discriminator cannot be its target. Received: '{judge.name}'. Use 'taylor' there."
        )
    if loss is None and not hasattr(model, "adversarial_loss"):
        raise InvalidArgumentError(
            f"{criterion!r} needs the adversarial loss of the generator, which "
            f"{type(model).__name__} does not tell. Give `Prune(gradient_loss=function)`, a "
            "function (model, batch) -> scalar loss, or use `GANModel`."
        )
