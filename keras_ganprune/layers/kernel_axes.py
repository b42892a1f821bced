"""The axes of a kernel that index its input channels and its output channels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.kernels import member


@dataclass(frozen=True)
class KernelAxes:
    """The channel axes of a kernel.

    All axes are negative (counted from the last axis), because kernels of the same kind of layer have the
    same last axes for any number of spatial axes.

    Args:
        inputs: Axes of the input channels. () if the weight has none, such as a vector of scales.
        outputs: Axes of the output channels. () if the weight has none.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


_IN_OUT = KernelAxes(inputs=(-2,), outputs=(-1,))
_OUT_IN = KernelAxes(inputs=(-1,), outputs=(-2,))
# (.., in, multiplier): each input channel has output channels of its own. Pruning an input channel prunes its
# output channels, so the input axis is also the output axis.
_DEPTHWISE = KernelAxes(inputs=(-2,), outputs=(-2,))


def _of_einsum(layer: keras.layers.EinsumDense) -> KernelAxes:
    """Return the axes according to the equation. A letter in all three terms is an output axis."""
    _, kernel, output = layer.equation.replace("->", ",").split(",")
    axes = range(-len(kernel), 0)
    return KernelAxes(
        inputs=tuple(axis for axis in axes if kernel[axis] not in output),
        outputs=tuple(axis for axis in axes if kernel[axis] in output),
    )


# The kernels whose axes are not (.., in, out). A row is valid for subclasses too.
_ROWS: list[tuple[tuple[type, ...], str, Callable[[keras.layers.Layer], KernelAxes]]] = [
    (
        (
            keras.layers.Conv1DTranspose,
            keras.layers.Conv2DTranspose,
            keras.layers.Conv3DTranspose,
        ),
        "kernel",
        lambda layer: _OUT_IN,
    ),
    (
        (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D),
        "kernel",
        lambda layer: _DEPTHWISE,
    ),
    (
        (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D),
        "depthwise_kernel",
        lambda layer: _DEPTHWISE,
    ),
    ((keras.layers.EinsumDense,), "kernel", _of_einsum),
]


def kernel_axes(layer: keras.layers.Layer, name: str) -> KernelAxes:
    """Return the axes of a weight that index its input channels and its output channels.

        Dense, Conv, recurrent cells, pointwise kernels   (.., in, out)
        Embedding                                         (vocabulary, dim) = (in, out)
        Conv1DTranspose, Conv2DTranspose, Conv3DTranspose (.., out, in)
        DepthwiseConv, depthwise kernels                  (.., in, multiplier), `in` for both
        EinsumDense, also inside attention                from its equation: summed letters are inputs,
                                                          all others are outputs
        a layer of your own                               (.., in, out); a vector is (out,)

    Args:
        layer: Built Keras layer, plain or Prunable.
        name: Attribute path of the weight, such as 'kernel' or 'cell.recurrent_kernel'.

    Returns:
        `KernelAxes`.

    Raises:
        InvalidArgumentError: The layer has no weight `name`, or is not built.

    Example:
    >>> layer = keras.layers.Conv2DTranspose(8, 4)
    >>> layer.build((None, 7, 7, 3))
    >>> layer.kernel.shape, kernel_axes(layer, "kernel")
    (TensorShape([4, 4, 8, 3]), KernelAxes(inputs=(-1,), outputs=(-2,)))
    """
    *parents, attribute = name.split(".")
    owner = functools.reduce(member, parents, layer)
    weight: Any = member(owner, attribute)
    if not hasattr(weight, "shape"):
        raise InvalidArgumentError(
            f"`name` must be the attribute path of a weight. Received: {name!r} for "
            f"{type(layer).__name__} '{layer.name}', which has no such weight"
            f"{'' if layer.built else ' because it is not built; call it once on a batch first'}."
        )
    rank = len(weight.shape)
    for classes, kernel, axes_of in _ROWS:
        if attribute == kernel and isinstance(owner, classes):
            return axes_of(owner)
    return _IN_OUT if rank > 1 else KernelAxes(inputs=(), outputs=(-1,) * rank)
