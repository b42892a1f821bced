"""Generated images in batches, from a GAN, a generator or a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_ganprune.backend import tracing
from keras_ganprune.errors import ArgumentTypeError, DataError, InvalidArgumentError
from keras_ganprune.gan import GANModel, latents, network_checks
from keras_ganprune.utils import annotated, validation

Source = keras.layers.Layer | Callable[[int, int], Any]
"""A `GANModel`, a model with an attribute `generator`, a generator, or a function of (n, seed)."""


def generated(
    source: Source,
    n: int,
    *,
    labels: ArrayLike | None = None,
    latent_dim: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yield batches of (images, labels or None) until there are `n` images.

    The latent vectors depend on `seed` only, not on the batch size. `GANModel.generate` draws the same latent
    vectors.

    Args:
        source: A `GANModel` (its averaged generator if there is one), another `keras.Model` with a
            generator in its attribute `generator`, a generator, or a function of (n, seed) that returns
            images.
        n: Positive int.
        labels: Real labels, (m,) or (m, classes), for a generator with two inputs. Each label is drawn as
            often as it occurs among them. Defaults to None.
        latent_dim: Positive int, length of a latent vector. Defaults to None: it is read from the
            generator's input.
        seed: Int, seed of the latent vectors. Defaults to 0.
        batch_size: Positive int, images per forward pass. Defaults to 256.

    Raises:
        ArgumentTypeError: `source` has none of these types, or is a function that does not take (n, seed).
        DataError: The generator takes labels but `labels` is None, or a function does not return `n` images.
        InvalidArgumentError: The generator takes images or has more than two inputs, the length of its
            latent vectors is not known, or `n` or `batch_size` is not a positive int.
    """
    n = validation.positive_int(n, "n")
    batch_size = validation.positive_int(batch_size, "batch_size")
    if not isinstance(source, keras.layers.Layer):
        yield from _from_function(source, n, seed, batch_size)
        return
    generator, _, _ = _resolve(source, latent_dim)
    inputs = drawn_inputs(source, n, labels=labels, latent_dim=latent_dim, seed=seed)
    start = 0
    for images in latents.images_of(generator, inputs, batch_size):
        yield images, inputs[1][start : start + len(images)] if len(inputs) > 1 else None
        start += len(images)


def drawn_inputs(
    source: keras.layers.Layer,
    n: int,
    *,
    labels: ArrayLike | None = None,
    latent_dim: int | None = None,
    seed: int = 0,
) -> list[np.ndarray]:
    """Return the inputs of a generator: latent vectors, and labels if it takes them.

    Args:
        source, n, labels, latent_dim, seed: As for `generated`.

    Raises:
        DataError: The generator takes labels but `labels` is None.
        InvalidArgumentError: As for `generated`.
    """
    _, conditional, size = _resolve(source, latent_dim)
    inputs = [latents.draw(n, size, seed)]
    if conditional:
        inputs.append(_draw_labels(labels, n, seed))
    return inputs


def _from_function(
    source: Any, n: int, seed: int, batch_size: int
) -> Iterator[tuple[np.ndarray, None]]:
    if not callable(source) or isinstance(source, type):
        raise ArgumentTypeError(
            "Images must come from a `GANModel`, a Keras model with an attribute `generator`, a "
            f"generator, or a function of (n, seed). Received: {source!r} (of type "
            f"{type(source).__name__})."
        )
    if not annotated.takes(source, 2):
        raise ArgumentTypeError(
            "A function that makes images must take two arguments, the number of images and a seed: "
            f"(n, seed). Received: {source!r}, which does not."
        )
    images = np.asarray(source(n, seed))
    if images.ndim == 0:
        raise DataError(f"The function must return n={n} images. Received: {images!r}.")
    if len(images) != n:
        raise DataError(f"The function must return n={n} images. Received: shape {images.shape}.")
    for start in range(0, n, batch_size):
        yield images[start : start + batch_size], None


def _resolve(source: Any, latent_dim: int | None) -> tuple[keras.layers.Layer, bool, int]:
    """Return the generator, whether it takes labels, and the length of its latent vectors."""
    if isinstance(source, GANModel):
        tracing.sync(source)
        return source.sampler, source.conditional, source.latent_dim
    generator = getattr(source, "generator", None)
    if isinstance(generator, keras.layers.Layer):
        if isinstance(source, keras.Model):
            tracing.sync(source)
        latent_dim = latent_dim or getattr(source, "latent_dim", None)
    else:
        generator = source
    inputs = network_checks.inputs_of(generator) or []
    if inputs and len(inputs[0].shape) == 4:
        raise InvalidArgumentError(
            "A generator must take latent vectors, which are drawn here. Received: "
            f"'{generator.name}', which takes images. Measure its results: "
            "`quality.measure(gan.generate(inputs))`; in `fit`, `QualityMonitor(lambda gan: {'fd': "
            "quality.measure(gan.generate(inputs)).fd})`."
        )
    if len(inputs) > 2:
        raise InvalidArgumentError(
            "A generator must take latent vectors, or latent vectors and labels. Received: "
            f"'{generator.name}' with {len(inputs)} inputs. Pass a function of (n, seed) instead."
        )
    if inputs and latent_dim is None and len(inputs[0].shape) == 2:
        latent_dim = inputs[0].shape[1]
    if latent_dim is None:
        raise InvalidArgumentError(
            f"The length of the latent vectors of '{generator.name}' is not known. Pass `latent_dim=`, or "
            "a function of (n, seed) instead of the generator. If it takes images, measure its results: "
            "`quality.measure(gan.generate(inputs))`."
        )
    return generator, len(inputs) == 2, validation.positive_int(latent_dim, "latent_dim")


def _draw_labels(labels: ArrayLike | None, n: int, seed: int) -> np.ndarray:
    """Return `n` labels in random order. The counts of the real labels differ by at most one."""
    if labels is None:
        raise DataError(
            "The generator takes labels, but their distribution is not known. Pass the real `labels`."
        )
    labels = np.asarray(labels)
    # A separate random stream, so that the latent vectors stay equal to those of `GANModel.generate`.
    rng = np.random.default_rng([seed, 1])
    rounds = [rng.permutation(len(labels)) for _ in range(-(-n // len(labels)))]
    return labels[np.concatenate(rounds)[:n]]
