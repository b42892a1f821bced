"""The maximum mean discrepancy between the images of two generators, in the features of a frozen network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_ganprune.backend.operations import ops
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, UnbuiltModelError
from keras_ganprune.gan import network_checks
from keras_ganprune.layers.stripping import plain_copy

# The bandwidths of the kernel, as factors of the typical distance.
FACTORS = (0.5, 1.0, 2.0)


def discrepancy(features: Any, targets: Any) -> Any:
    """Return the squared maximum mean discrepancy of two batches of features.

        k(x, y) = mean over f in (1/2, 1, 2) of exp(-|x - y|^2 / (2 f^2 s^2))
        mean k(x, x') + mean k(y, y') - 2 mean k(x, y)

    s^2 is the mean of |y - y'|^2 over all pairs of different targets. The means of k are over all pairs, also
    of a feature with itself (the biased estimate): it is 0 for equal batches, and never below 0.

    Args:
        features: Tensor (n, ...) of the generator that learns.
        targets: Tensor (m, ...) of the other generator, which gets no gradient.

    Returns: Scalar float32 tensor.

    Example:
    >>> from keras_ganprune.gan.distribution_distance import discrepancy
    >>> x = keras.ops.convert_to_tensor([[0.0], [1.0], [3.0]])
    >>> abs(float(discrepancy(x, x))) < 1e-6, float(discrepancy(x + 5.0, x)) > 0.5
    (True, True)

    Reference: [A kernel two-sample test](https://jmlr.org/papers/v13/gretton12a.html), Section 2.2.
    """
    x, y = (ops.reshape(ops.cast(t, "float32"), (ops.shape(t)[0], -1)) for t in (features, targets))
    y = ops.stop_gradient(y)
    within = _squared_distances(y, y)
    count = ops.cast(ops.shape(y)[0], "float32")
    # The diagonal is 0, and no pair.
    scale = ops.sum(within) / ops.maximum(count * (count - 1.0), 1.0)
    scale = ops.maximum(scale, 1e-12)

    def mean(distances: Any) -> Any:
        values = [ops.mean(ops.exp(-distances / (2.0 * f * f * scale))) for f in FACTORS]
        return sum(values[1:], values[0]) / len(FACTORS)

    return mean(_squared_distances(x, x)) + mean(within) - 2.0 * mean(_squared_distances(x, y))


def _squared_distances(x: Any, y: Any) -> Any:
    """Return the squared distance of each row of `x` to each row of `y`."""
    lengths = ops.sum(ops.square(x), axis=1)[:, None] + ops.sum(ops.square(y), axis=1)[None, :]
    return ops.maximum(lengths - 2.0 * ops.matmul(x, ops.transpose(y)), 0.0)


def features_of(extractor: keras.Model, images: Any) -> list[Any]:
    """Return the outputs of an extractor for images, each as float32."""
    outputs: Any = extractor(images, training=False)
    return [ops.cast(x, "float32") for x in keras.tree.flatten(outputs)]


def frozen_extractor(extractor: keras.Model | Mapping[str, Any]) -> keras.Model:
    """Return a frozen copy of an extractor, or the one of a config.

    Raises:
        ArgumentTypeError: The config is that of another object.
        InvalidArgumentError: The config is not valid.
        UnbuiltModelError: The extractor has no weights yet.
        UnsupportedLayerError: It cannot be copied.
    """
    if isinstance(extractor, Mapping):
        try:
            made = keras.saving.deserialize_keras_object(dict(extractor))
        except Exception as error:
            raise InvalidArgumentError(
                "`extractor` cannot be made from its config. Pass the network itself. Received: "
                f"{str(extractor)[:200]} ({type(error).__name__})."
            ) from error
        if not isinstance(made, keras.Model):
            raise ArgumentTypeError(
                f"`extractor` must be a Keras model. Received the config of: {made!r}."
            )
        extractor = made
    if not extractor.built:
        raise UnbuiltModelError(
            "The `extractor` has no weights yet. Call it once on a batch of images."
        )
    copy = plain_copy(
        extractor,
        what="frozen copy",
        fix="Let the `get_config` of its layers return all arguments of the constructor.",
    )
    copy.trainable = False
    return copy


def check_takes_images(extractor: keras.Model, generator: keras.Model) -> None:
    """Raise `InvalidArgumentError` unless an extractor takes the images that a generator makes."""
    inputs = network_checks.inputs_of(extractor)
    made = network_checks.output_shape(generator)
    if not inputs or made is None:
        return
    shape = tuple(inputs[0].shape[1:])
    if len(inputs) > 1 or not network_checks.shapes_match(shape, made[1:]):
        raise InvalidArgumentError(
            f"The `extractor` must take the images that the generator makes, {made[1:]}. Received: "
            f"'{extractor.name}', which takes {[tuple(x.shape[1:]) for x in inputs]}. Put layers before it "
            "that change the images, such as "
            "`keras.Model(image, extractor(keras.ops.repeat(image, 3, axis=-1)))` for grey images."
        )
