"""Gradients on PyTorch, by `torch.autograd`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch  # pyright: ignore[reportMissingImports]


def gradients(loss: Callable[[], Any], variables: Sequence[Any]) -> list[Any]:
    """Return the gradient of `loss()` for each variable, None if the loss does not depend on it.

    As on the other backends, variables that are not trainable get gradients too. The attribute `.grad` of the
    parameters is not changed.
    """
    tensors = [variable.value for variable in variables]
    frozen = [tensor for tensor in tensors if not tensor.requires_grad]
    try:
        for tensor in frozen:
            tensor.requires_grad_(True)
        with torch.enable_grad():
            result = loss()
        if not result.requires_grad:  # The loss depends on no variable.
            return [None] * len(tensors)
        return list(torch.autograd.grad(result, tensors, allow_unused=True))
    finally:
        for tensor in frozen:
            tensor.requires_grad_(False)


def dense(gradient: Any) -> torch.Tensor:
    """Return a gradient as a dense tensor of the shape of its weight."""
    return gradient.to_dense() if gradient.is_sparse else gradient


def sampling_step(model: Any, step: Callable, sample: Callable[[Any], None]) -> Callable:
    """Return a training step that first calls `sample(data)`, which may assign variables."""

    def train_step(data):
        sample(data)
        return step(data)

    return train_step
