"""Known pixels stay as they are: the last step of a generator that fills holes."""

from __future__ import annotations

from typing import Any

import keras

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError


def keep_known_pixels(generated: Any, image: Any, mask: Any) -> Any:
    """Return generated pixels in the holes of an image, and its own pixels elsewhere.

        result = mask * image + (1 - mask) * generated

    Call it when you build the generator. It adds four layers of Keras, without weights. So every copy and
    every export of the network keeps the known pixels too.

    Args:
        generated: Keras tensor (batch, height, width, channels), the image that the network makes.
        image: Keras tensor of the same shape, the input with holes.
        mask: Keras tensor (batch, height, width, 1) or of the same shape: 1 where a pixel is known, 0 in
            a hole. Numbers between mix the two.

    Returns: Keras tensor of the shape of `generated`.

    Raises:
        ArgumentTypeError: An argument is not a Keras tensor of a network that is being built.
        InvalidArgumentError: The shapes do not fit.

    Example:
    >>> image, mask = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    >>> x = keras.layers.Concatenate()([image, mask])
    >>> generated = keras.layers.Conv2D(1, 3, padding="same", activation="tanh")(x)
    >>> generator = keras.Model([image, mask], keep_known_pixels(generated, image, mask))
    >>> photo = np.full((1, 8, 8, 1), 0.5, "float32")
    >>> float(generator([photo, np.ones_like(photo)])[0, 0, 0, 0])
    0.5

    Reference: [Generative image inpainting with contextual
    attention](https://arxiv.org/abs/1801.07892), Section 3.
    """
    for name, tensor in (("generated", generated), ("image", image), ("mask", mask)):
        if not isinstance(tensor, keras.KerasTensor):
            raise ArgumentTypeError(
                f"`{name}` must be a Keras tensor, such as a `keras.Input` or the output of a layer. "
                f"Received: {tensor!r} (of type {type(tensor).__name__})."
            )
    shapes = [tuple(x.shape) for x in (generated, image, mask)]
    if shapes[0] != shapes[1] or shapes[2] not in (shapes[0], (*shapes[0][:-1], 1)):
        raise InvalidArgumentError(
            "`image` must have the shape of `generated`, and `mask` the same, or one channel. Received: "
            f"generated {shapes[0]}, image {shapes[1]}, mask {shapes[2]}."
        )
    known = keras.layers.Multiply()([mask, image])
    hole = keras.layers.Rescaling(-1.0, 1.0)(mask)
    return keras.layers.Add()([known, keras.layers.Multiply()([hole, generated])])
