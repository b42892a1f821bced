"""Gradients on PyTorch; the place where the core asks autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


def gradients(loss: Callable[[], Any], variables: Sequence[Any]) -> list[Any]:
    """Return the gradient of `loss()` for each variable, None where it does not depend on it.

    Variables that are not trained count too, as they do elsewhere; no `.grad` is written.
    """
    tensors = [variable.value for variable in variables]
    frozen = [tensor for tensor in tensors if not tensor.requires_grad]
    try:
        for tensor in frozen:
            tensor.requires_grad_(True)
        with torch.enable_grad():
            result = loss()
        if not result.requires_grad:  # it depends on none of them
            return [None] * len(tensors)
        return list(torch.autograd.grad(result, tensors, allow_unused=True))
    finally:
        for tensor in frozen:
            tensor.requires_grad_(False)


def dense(gradient: Any) -> torch.Tensor:
    """Return a gradient as a tensor of the shape of its weight, a sparse one with its zeros."""
    return gradient.to_dense() if gradient.is_sparse else gradient


def sampling_step(model: Any, step: Callable, sample: Callable[[Any], None]) -> Callable:
    """Return a training step that first lets `sample(data)` assign variables."""

    def train_step(data):
        sample(data)
        return step(data)

    return train_step
