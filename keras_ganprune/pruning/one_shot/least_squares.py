"""Least squares over the kept weights of a linear layer, by conjugate gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from keras_ganprune.backend.operations import ops
from keras_ganprune.pruning.one_shot.linear_layers import LinearLayer, Vector


@attrs.frozen(eq=False)
class Pairs:
    """Inputs of a layer, and what it should return for them.

    Attributes:
        inputs: One tensor per call and batch.
        targets: The output before the activation for each of them.
        reached: For each of them, float 1 where an output can change, and 0 where it cannot.
    """

    inputs: list[Any]
    targets: list[Any]
    reached: list[Any]

    def residuals(self, layer: LinearLayer) -> list[Any]:
        """Return (target - output) for the weights that are stored."""
        parts = zip(self.inputs, self.targets, self.reached, strict=True)
        return [keep * (y - layer.outputs(x)) for x, y, keep in parts]


def best_change(
    layer: LinearLayer,
    pairs: Pairs,
    residuals: Sequence[Any],
    keeps: Sequence[Any],
    ridge: float,
    iterations: int,
    tolerance: float = 1e-4,
) -> Vector:
    """Return the change of the kept weights that brings the outputs closest to the targets.

        minimize ||A d - r||^2 + ridge * sum_j h_j d_j^2    over d_j of kept weights

    Here A d is the output for the weights d, r the residual, and h the diagonal of A^T A. In the variables
    z_j = sqrt(h_j) d_j the matrix has ones on its diagonal (Jacobi's preconditioner), and the ridge is equal
    for all weights. A weight whose input is always zero does not change.

    Args:
        layer: The layer.
        pairs: Its inputs and targets.
        residuals: What is to be explained: one tensor per input.
        keeps: Bool masks of the variables, True = may change.
        ridge: Non-negative float, a share of the diagonal.
        iterations: Largest number of iterations; each is a forward and a backward pass of the layer.
        tolerance: Norm of the gradient, as a share of the first one, at which it ends. Defaults to 1e-4.

    Reference: [Conjugate gradients for least squares](https://doi.org/10.6028/jres.049.044), §10.
    """
    diagonal = _sum(layer.squares(x) for x in pairs.inputs)
    scales = [
        ops.where(ops.logical_and(keep, h > 0), ops.rsqrt(ops.maximum(h, 1e-30)), 0.0)
        for h, keep in zip(diagonal, keeps, strict=True)
    ]

    def gradient(residuals: Sequence[Any], z: Vector) -> Vector:
        total = _sum(layer.gradient(x, r) for x, r in zip(pairs.inputs, residuals, strict=True))
        return [s * g - ridge * v for s, g, v in zip(scales, total, z, strict=True)]

    z = [ops.zeros_like(s) for s in scales]
    residuals = list(residuals)
    slope = gradient(residuals, z)
    direction, size = slope, norm2(slope)
    first = size
    for _ in range(iterations):
        if size <= tolerance**2 * first or size == 0.0:
            break
        step = [s * p for s, p in zip(scales, direction, strict=True)]
        moved = [layer.outputs(x, step) for x in pairs.inputs]
        length = size / (norm2(moved) + ridge * norm2(direction))
        z = [v + length * p for v, p in zip(z, direction, strict=True)]
        residuals = [r - length * q for r, q in zip(residuals, moved, strict=True)]
        slope = gradient(residuals, z)
        size, before = norm2(slope), size
        direction = [g + size / before * p for g, p in zip(slope, direction, strict=True)]
    return [s * v for s, v in zip(scales, z, strict=True)]


def norm2(tensors: Sequence[Any]) -> float:
    """Return the sum of the squares of all entries of some tensors."""
    return sum(float(ops.sum(ops.square(t))) for t in tensors)


def _sum(vectors: Any) -> Vector:
    total: Vector | None = None
    for vector in vectors:
        total = vector if total is None else [a + b for a, b in zip(total, vector, strict=True)]
    return total or []
