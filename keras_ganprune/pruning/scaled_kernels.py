"""`scale_singular_values`: cut kernels whose directions count more alike, before a network is trained on."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import DivergedError
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.kernel_axes import kernel_axes
from keras_ganprune.layers.kernels import attribute_paths, own_kernels
from keras_ganprune.layers.scope import select
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import apply_masks, check_layer, walk
from keras_ganprune.utils import validation

_EPSILON = 1e-8


def scale_singular_values(network: keras.Model, layers: Any = None) -> int:
    """Take the square root of the singular values of the kernels of a network, and return their number.

        W = U S V^T  ->  U sqrt(S) V^T,    b  ->  b / sqrt(norm(b) + 1e-8)

    A kernel W is a matrix with one row for each output channel. After a cut, a few directions dominate each
    kernel, and training explores the others slowly. The square root makes them more alike. No data is
    needed. Call it after `shrink`, before training: the outputs change at once, so a network that is not
    trained on gets worse. Batch statistics are old then: `recalibrate_batch_norm` renews them.

    Normalizations keep their scales and shifts. Kernels of depthwise convolutions, whose channels do not
    mix, and embeddings keep their values. Masked weights stay 0. The network is changed in place.

    Args:
        network: A built Keras model.
        layers: The layers whose kernels are scaled, in any form that `keras_ganprune.layers.scope.select`
            accepts. Defaults to None: all.

    Returns:
        Int, the number of scaled kernels.

    Raises:
        ArgumentTypeError: `network` is not a Keras model.
        UnbuiltModelError: The network has no weights yet.
        InvalidArgumentError: No layer has a name in `layers`.
        DivergedError: A kernel is not finite. Nothing is changed.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    >>> model.set_weights([np.array([[4.0, 0.0], [0.0, 9.0]])])
    >>> kgp.scale_singular_values(model)
    1
    >>> np.asarray(model.layers[0].kernel)
    array([[2., 0.],
           [0., 3.]], dtype=float32)

    Reference: [Singular value scaling](https://arxiv.org/abs/2412.17387); the treatment of biases as in the
    authors' code.
    """
    validation.keras_model(network)
    check_layer(network)
    validation.built_model(network, "is scaled")
    scopes.check(layers, "layers")
    pairs = [(path, layer) for path, layer in walk(network)]
    if layers is not None:
        pairs = select(pairs, layers, "layers")
    new: dict[int, tuple[keras.Variable, np.ndarray]] = {}
    kernels = 0
    for _, layer in pairs:
        found = [w for w in own_kernels(layer) if _is_scaled(layer, w)]
        for weight in found:
            if id(weight) not in new:
                new[id(weight)] = weight, _scaled_kernel(layer, weight)
                kernels += 1
        bias = getattr(layer, "bias", None)
        if found and isinstance(bias, keras.Variable) and id(bias) not in new:
            values = to_numpy(bias).astype(np.float64)
            new[id(bias)] = bias, values / np.sqrt(np.linalg.norm(values) + _EPSILON)
    for variable, values in new.values():
        variable.assign(values.astype(np.float32))
    apply_masks(network)
    return kernels


def _is_scaled(layer: keras.layers.Layer, weight: keras.Variable) -> bool:
    """Return whether a kernel is a matrix from input channels to output channels."""
    if isinstance(layer, keras.layers.Embedding):
        return False
    axes = _axes(layer, weight)
    return bool(axes.inputs and axes.outputs) and not set(axes.inputs) & set(axes.outputs)


def _axes(layer: keras.layers.Layer, weight: keras.Variable) -> Any:
    return kernel_axes(layer, attribute_paths(layer)[id(weight)])


def _scaled_kernel(layer: keras.layers.Layer, weight: keras.Variable) -> np.ndarray:
    """Return a kernel with the square roots of its singular values."""
    values = to_numpy(weight).astype(np.float64)
    if not np.isfinite(values).all():
        raise DivergedError(
            f"The kernel {weight.path} is not finite, so it has no singular values. Nothing was changed. "
            "Go back to a state before the training diverged."
        )
    outputs = [axis % values.ndim for axis in _axes(layer, weight).outputs]
    others = [axis for axis in range(values.ndim) if axis not in outputs]
    order = [*outputs, *others]
    moved = values.transpose(order)
    rows = int(np.prod([values.shape[axis] for axis in outputs]))
    u, s, v = np.linalg.svd(moved.reshape(rows, -1), full_matrices=False)
    scaled = (u * np.sqrt(s)) @ v
    return scaled.reshape(moved.shape).transpose(np.argsort(order))
