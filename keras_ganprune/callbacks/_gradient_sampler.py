"""Gradients for criteria and regrowth, sampled in the compiled step of a running `fit`.

In all other batches the model runs exactly its own function: a second function, which contains the
accumulators, is traced and replaces it for the sampled batches only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune.backend import tracing
from keras_ganprune.callbacks._gradient_requests import Request
from keras_ganprune.callbacks._train_function_tap import Tap, backend_gradients, loss_scale
from keras_ganprune.errors import UnsupportedLayerError
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
        size: Any = ops.cast(_dense(gradient), "float32")
        if self.request.times_weight:
            size = ops.multiply(size, ops.cast(tensor(variable), "float32"))
        if not self.request.signed:
            size = ops.abs(size)
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


def _dense(gradient: Any) -> Any:
    """Return a gradient as a tensor of the shape of its weight.

    The gradients of embeddings are lists of rows; rows that occur several times are summed.
    """
    if keras.backend.backend() == "tensorflow":
        return backend_gradients().dense(gradient)  # Keras's own conversion keeps the list of rows
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
            backend_gradients()
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
        Tap.of(self.model).arm(self)

    def stop(self) -> None:
        """Stop sampling."""
        self.active = False
        Tap.of(self.model).disarm(self)

    def reset(self) -> None:
        """Forget all sampled gradients."""
        self.batches = 0
        for variable in self.variables:
            variable.assign(ops.zeros_like(tensor(variable)))

    @property
    def variables(self) -> list[keras.Variable]:
        """The sums and counts of all requests: the state between two batches."""
        return [v for sums in self.sums.values() for v in (*sums.sums, *sums.counts)]

    @property
    def empty(self) -> bool:
        """Whether no gradient was sampled."""
        return all(sums.empty for sums in self.sums.values())

    @property
    def skipped(self) -> bool:
        """Whether loss scaling skipped all sampled batches because their gradients overflowed."""
        return loss_scale(self.model) is not None and self.empty

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
