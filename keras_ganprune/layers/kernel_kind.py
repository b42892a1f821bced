"""The kind of a kernel: the class of its layer and its size, without the numbers of channels."""

from __future__ import annotations

import keras

from keras_ganprune.layers.kernel_axes import kernel_axes


def kernel_kind(layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> str:
    """Return the kind of a weight, such as 'Conv2D kernel 3x3' or 'Dense kernel'.

    Args:
        layer: Built Keras layer, plain or Prunable.
        name: Attribute path of the weight, such as 'kernel'.
        shape: Shape of the weight.

    Example:
    >>> from keras_ganprune.layers.kernel_kind import kernel_kind
    >>> layer = keras.layers.Conv2D(8, 3)
    >>> layer.build((None, 7, 7, 4))
    >>> kernel_kind(layer, "kernel", tuple(layer.kernel.shape))
    'Conv2D kernel 3x3'
    """
    axes = kernel_axes(layer, name)
    channels = {axis % len(shape) for axis in (*axes.inputs, *axes.outputs)}
    size = "x".join(str(n) for axis, n in enumerate(shape) if axis not in channels)
    # The classes of Prunable layers have the name of the Keras class behind a prefix.
    title = type(layer).__name__.removeprefix("Prunable")
    return f"{title} {name} {size}".strip()
