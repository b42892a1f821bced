"""What `GANModel` asks of its arguments, networks and data, with the reason when it says no."""

from __future__ import annotations

import math
import warnings
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import (
    DataError,
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.gan.losses import GANLoss


def ema_decay(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise InvalidArgumentError(
            f"`ema_decay` must be None or a float in (0, 1). Received: {value!r}. Usual is 0.99 to 0.9999."
        )
    return float(value)


def smoothed(loss: GANLoss, label_smoothing: float) -> GANLoss:
    """Return the loss with label smoothing, if any is asked for and the loss has labels."""
    if not label_smoothing:
        return loss
    if "label_smoothing" not in loss.get_config():
        raise InvalidArgumentError(
            f"`label_smoothing` needs a loss with labels. {type(loss).__name__} has none; use "
            "'non_saturating', 'minimax', 'least_squares' or 'relativistic', or leave it at 0."
        )
    return type(loss)(**{**loss.get_config(), "label_smoothing": label_smoothing})


def inputs_of(network: keras.layers.Layer) -> list | None:
    """Return a network's symbolic inputs, or None for a subclassed one or a layer."""
    try:
        inputs = network.inputs
    except (AttributeError, ValueError):
        return None
    return list(inputs) if inputs else None


def conditional(generator: Any, discriminator: Any, wanted: bool | None) -> bool:
    """Return whether both networks take labels; told by the number of inputs unless said."""
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        if not isinstance(network, keras.Model):
            raise UnsupportedLayerError(
                f"`{name}` must be a `keras.Model`. Received: {network!r} "
                f"(of type {type(network).__module__}.{type(network).__name__})."
            )
    counts = [
        len(inputs) if inputs else None
        for inputs in (inputs_of(generator), inputs_of(discriminator))
    ]
    known = [c for c in counts if c is not None]
    if any(c > 2 for c in known) or len(set(known)) == 2:
        raise InvalidArgumentError(
            "The generator must take latent vectors and the discriminator images, or both also labels. "
            f"Received: a generator with {counts[0]} inputs and a discriminator with {counts[1]}."
        )
    if wanted is None:
        return 2 in known
    if known and wanted != (2 in known):
        raise InvalidArgumentError(
            f"`conditional={wanted}` does not fit networks with {known[0]} input(s)."
        )
    return bool(wanted)


def networks_fit(
    generator: keras.Model, discriminator: keras.Model, latent_dim: int, takes_labels: bool
) -> None:
    """Build unbuilt networks where that is possible, and compare their shapes."""
    if not generator.built or not discriminator.built:
        if takes_labels:
            raise UnbuiltModelError(
                "Networks that take labels must be built before `GANModel` gets them, since the shape of "
                "a label is not known here. Call each once on a batch: `generator([z, labels])`, "
                "`discriminator([images, labels])`."
            )
        z = np.zeros((1, latent_dim), dtype="float32")
        try:
            discriminator(generator(z))
        except Exception as error:
            raise UnbuiltModelError(
                f"The networks are not built and could not be built from latent vectors of shape "
                f"(batch, {latent_dim}): {type(error).__name__}: {error}\nCall each once on a batch to "
                "see which of them fails."
            ) from error
    inputs = inputs_of(generator)
    if inputs:
        shape = tuple(inputs[0].shape)
        if len(shape) != 2 or shape[-1] not in (latent_dim, None):
            raise InvalidArgumentError(
                f"`latent_dim` must be the length of the generator's latent vectors. Received: "
                f"latent_dim={latent_dim}, and a generator whose first input has shape {shape}."
            )
    inputs = inputs_of(discriminator)
    made = output_shape(generator)
    wanted = tuple(inputs[0].shape) if inputs else None
    if made and wanted and not _compatible(made[1:], wanted[1:]):
        raise InvalidArgumentError(
            "The generator's output must have the shape of the discriminator's input. "
            f"Received: {made[1:]} from the generator, {wanted[1:]} at the discriminator."
        )
    logits = output_shape(discriminator)
    if logits is not None and (len(logits) < 2 or (logits[0] is not None and logits[0] != 1)):
        raise InvalidArgumentError(
            f"The discriminator must return logits for each image. Received: output shape {logits}."
        )


def output_shape(network: keras.Model) -> tuple | None:
    try:
        return tuple(network.output_shape)
    except (AttributeError, ValueError, TypeError):
        return None


def _compatible(a: tuple, b: tuple) -> bool:
    return len(a) == len(b) and all(
        x == y or x is None or y is None for x, y in zip(a, b, strict=True)
    )


def augmentation(layer: Any, discriminator: keras.Model) -> keras.layers.Layer | None:
    """Return the layer, built for the discriminator's images."""
    if layer is None:
        return None
    if not isinstance(layer, keras.layers.Layer):
        raise UnsupportedLayerError(
            "`augmentation` must be None or a Keras layer that maps images to images, such as "
            f"`DiffAugment()`. Received: {layer!r} (of type {type(layer).__name__})."
        )
    inputs = inputs_of(discriminator)
    if not layer.built and inputs:
        layer.build(tuple(inputs[0].shape))
        layer.built = True
    if layer.trainable_weights:
        raise InvalidArgumentError(
            "`augmentation` must have no trainable weights: neither optimizer would train them. "
            f"Received: {layer!r}."
        )
    return layer


def optimizers(generator: Any, discriminator: Any, single: Any) -> tuple[Any, Any]:
    """Return the two optimizers, or say why one is not enough."""
    if single is not None or (generator is None) != (discriminator is None):
        raise InvalidArgumentError(
            "A GAN needs two optimizers, one for each network. Write "
            "`gan.compile(generator_optimizer=Adam(2e-4, 0.5), discriminator_optimizer=Adam(2e-4, 0.5))`. "
            f"Received: generator_optimizer={generator!r}, discriminator_optimizer={discriminator!r}, "
            f"optimizer={single!r}."
        )
    if generator is None:
        return tuple(keras.optimizers.Adam(2e-4, beta_1=0.5) for _ in range(2))
    pair = keras.optimizers.get(generator), keras.optimizers.get(discriminator)
    if pair[0] is pair[1]:
        raise InvalidArgumentError(
            "The two networks need an optimizer object each; one object cannot keep the state of both. "
            f"Received the same {type(pair[0]).__name__} twice."
        )
    return pair


def labels_for(n: int, labels: Any, takes_labels: bool) -> np.ndarray | None:
    """Return the labels for `n` images as an array."""
    if not takes_labels:
        if labels is not None:
            raise DataError("The networks take no labels. Call `generate(n)` without `labels`.")
        return None
    if labels is None:
        raise DataError(
            f"The networks are conditional: pass `labels`, one for each of the {n} images."
        )
    labels = np.asarray(labels)
    if labels.ndim == 0 or len(labels) != n:
        raise DataError(
            f"`labels` must hold one label for each of the {n} images. Received: shape {labels.shape}."
        )
    return labels


def data(gan: Any, x: Any, y: Any) -> None:
    """Look at the training data before a step is spent on it; streams are looked at by their first batch."""
    if x is None:
        raise DataError("`fit` needs images. Received: None.")
    if isinstance(x, (list, tuple)) and not isinstance(x[0] if len(x) else None, (int, float)):
        raise DataError(
            "`fit` takes images as one array (and labels as a second argument), a `tf.data.Dataset` or a "
            f"`PyDataset`. Received: a {type(x).__name__} of {len(x)}."
        )
    if isinstance(x, np.ndarray) or _is_tensor(x):
        _images(gan, np.asarray(x), whole=True)
        gan.unpack((x, y) if y is not None else (x,))
        if y is not None and len(y) != len(x):
            raise DataError(
                f"There must be one label an image. Received: {len(x)} images, {len(y)} labels."
            )
        return
    batch = _first_batch(x)
    if batch is not None:
        images, _ = gan.unpack(batch)
        _images(gan, np.asarray(images), whole=False)


def _is_tensor(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype") and not callable(x)


def _first_batch(stream: Any) -> Any:
    """Return the first batch of a stream that can be read twice, else None."""
    if isinstance(stream, keras.utils.PyDataset):
        if not len(stream):
            raise DataError("The data is empty: the PyDataset has no batch.")
        return stream[0]
    if type(stream).__module__.startswith("tensorflow.") and hasattr(stream, "take"):
        for batch in stream.take(1):
            return batch
        raise DataError("The data is empty: the tf.data.Dataset has no batch.")
    return None


def _images(gan: Any, images: np.ndarray, whole: bool) -> None:
    part = "" if whole else " (in the first batch)"
    if images.size == 0:
        raise DataError(f"The data is empty. Received: shape {images.shape}.")
    if images.dtype.kind not in "fiub":
        raise DataError(f"Images must be numbers. Received: dtype {images.dtype}.")
    wanted = output_shape(gan.generator)
    if wanted and not _compatible(tuple(images.shape[1:]), wanted[1:]):
        raise DataError(
            f"Images must have the shape that the generator makes, {wanted[1:]}. "
            f"Received: {images.shape[1:]}{part}."
        )
    low, high = float(np.min(images)), float(np.max(images))
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int(np.count_nonzero(~np.isfinite(images)))
        raise DataError(
            f"Images must be finite. Received: {bad} NaN or infinite value(s) of {images.size}{part}. "
            "Remove or replace them (`np.nan_to_num`) before `fit`."
        )
    if gan.value_range is not None:
        want_low, want_high = gan.value_range
        slack = 0.01 * (want_high - want_low)
        if low < want_low - slack or high > want_high + slack:
            warnings.warn(
                f"Images lie in [{low:g}, {high:g}]{part}, outside the expected "
                f"[{want_low:g}, {want_high:g}], which a generator that ends in tanh cannot reach. "
                "Scale them (for 8-bit images: x / 127.5 - 1), or pass `value_range=`.",
                PruningWarning,
                stacklevel=4,
            )
