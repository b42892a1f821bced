"""Which gradients a criterion and a mode need from a running `fit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.pruning.criteria import Criterion
from keras_ganprune.pruning.modes import Mode
from keras_ganprune.utils import validation

Loss = Callable[[keras.Model, Any], Any]


@dataclass(frozen=True)
class Request:
    """The gradients to sample.

    Attributes:
        moment: 1 for mean |g|, 2 for the root of mean g^2.
        loss: Function (model, batch) -> scalar whose gradient is sampled; None for the gradients that the
            optimizers receive.
        signed: Whether gradients keep their sign: mean g in place of mean |g|.
        times_weight: Whether each gradient is multiplied by the weight: w g in place of g.
    """

    moment: int
    loss: Loss | None = None
    signed: bool = False
    times_weight: bool = False


def adversarial_loss(model: Any, data: Any) -> Any:
    """Return the adversarial loss of a model that has one (`GANModel`)."""
    return model.adversarial_loss(data)


def requests(
    model: keras.Model,
    networks: Sequence[keras.layers.Layer],
    criterion: Criterion,
    mode: Mode,
    loss: Loss | None,
) -> tuple[Request | None, Request | None]:
    """Return which gradients a criterion and a mode need; None where they need none.

    Args:
        model: The model that is fitted.
        networks: The networks to prune.
        criterion: The criterion.
        mode: The mode.
        loss: The `gradient_loss` of the user, or None.

    Raises:
        InvalidArgumentError: The criterion needs the adversarial loss, but the model has none, or a target is
            the discriminator itself.
    """
    scoring = None
    if criterion.needs_gradient:
        if criterion.source == "adversarial":
            _check_adversarial(model, networks, criterion, loss)
            loss = loss or adversarial_loss
        scoring = Request(criterion.moment, loss, criterion.signed, criterion.times_weight)
    return scoring, Request(1, loss) if mode.needs_gradient else None


def scalar_loss(loss: Loss, model: keras.Model, data: Any) -> Any:
    """Return the loss of a model on a batch.

    Raises:
        ArgumentTypeError: The function of the user returns no tensor and no number.
        InvalidArgumentError: It returns a tensor that is no scalar.
    """
    value = loss(model, data)
    if not (validation.is_number(value) or ops.is_tensor(value)):
        raise ArgumentTypeError(
            "`gradient_loss` must return a scalar loss, a tensor. "
            f"Received: {value!r} (of type {type(value).__name__})."
        )
    shape: Any = ops.shape(value)
    if len(shape):
        raise InvalidArgumentError(
            "`gradient_loss` must return a scalar. Received a tensor of shape "
            f"{shape}. Take the mean over the batch."
        )
    return value


def check_dependent(gradients: Sequence[Any], variables: Sequence[keras.Variable]) -> None:
    """Raise `UnsupportedLayerError` if a loss depends on none of the pruned weights."""
    if all(gradient is None for gradient in gradients):
        names = ", ".join(variable.path for variable in variables[:3])
        raise UnsupportedLayerError(
            f"The gradient loss does not depend on {names}, nor on another pruned weight. Run their network "
            "in it: `gradient_loss=lambda model, batch: keras.ops.mean(model(batch[0]))`."
        )


def _check_adversarial(
    model: keras.Model,
    networks: Sequence[keras.layers.Layer],
    criterion: Criterion,
    loss: Loss | None,
) -> None:
    discriminator = getattr(model, "discriminator", None)
    layers = (layer for network in networks for layer in network._flatten_layers())
    if discriminator is not None and any(layer is discriminator for layer in layers):
        raise InvalidArgumentError(
            f"{criterion!r} scores the generator's weights by the discriminator, so the discriminator "
            f"cannot be its target. Received: '{discriminator.name}'. Use 'taylor' there."
        )
    if loss is None and not hasattr(model, "adversarial_loss"):
        raise InvalidArgumentError(
            f"{criterion!r} needs the adversarial loss of the generator, which "
            f"{type(model).__name__} does not provide. Pass `Prune(gradient_loss=function)`, a "
            "function (model, batch) -> scalar loss, or use `GANModel`."
        )
