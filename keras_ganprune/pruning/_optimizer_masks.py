"""Optimizers that must be given the masks: those of a compiled JAX step, and PyTorch's own."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import keras

from keras_ganprune.backend import tracing
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.traversal import MaskedWeight


def attach(pruner: Any, optimizer: Any) -> None:
    """Let an optimizer hold the masks of a `Pruner`; see `Pruner.attach`."""
    if isinstance(optimizer, keras.optimizers.Optimizer):
        if keras.backend.backend() == "jax" and not _trained_by(pruner.weights, optimizer):
            raise InvalidArgumentError(
                "`optimizer` must be built, and train weights that are pruned. Received: "
                f"'{optimizer.name}', which trains none of them. Call "
                "`optimizer.build(model.trainable_variables)` first."
            )
        track(pruner.weights, optimizer)
        return
    if keras.backend.backend() != "torch" or not hasattr(optimizer, "register_step_post_hook"):
        raise InvalidArgumentError(
            "`optimizer` must be a Keras optimizer or, on the PyTorch backend, one of `torch.optim`. "
            f"Received: {optimizer!r} (of type {type(optimizer).__name__})."
        )
    importlib.import_module("keras_ganprune.backend._optimizers_torch").attach(optimizer, pruner)


def track(weights: Sequence[MaskedWeight], optimizer: keras.optimizers.Optimizer) -> bool:
    """On JAX, make masks variables of an optimizer; return whether any mask was newly added."""
    trained = _trained_by(weights, optimizer)
    companions = [(weight.variable, weight.mask) for weight in trained]
    for weight in trained:
        weight.variable.constraint.compiled_in = False
        hidden = weight.layer.pruning_masks.hidden.get(weight.name)
        if hidden is not None:
            companions.append((weight.variable, hidden))
    return tracing.track(optimizer, companions)


def _trained_by(
    weights: Sequence[MaskedWeight], optimizer: keras.optimizers.Optimizer
) -> list[MaskedWeight]:
    inner: Any = getattr(optimizer, "inner_optimizer", optimizer)
    trained = {id(v) for v in tracing.trained_variables(inner)}
    return [weight for weight in weights if id(weight.variable) in trained]


def check_not_compiled_in(weights: Sequence[MaskedWeight]) -> None:
    """Raise `InvalidArgumentError` if a compiled JAX step holds a mask as a constant."""
    for weight in weights:
        if weight.variable.constraint.compiled_in:
            raise tracing.not_tracked(weight.variable)
