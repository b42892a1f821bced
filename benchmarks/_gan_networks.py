"""The networks of the quality benchmark that are larger than those of the package."""

from __future__ import annotations

import keras


def dcgan(
    image_shape: tuple[int, int, int], latent_dim: int, channels: float, classes: int | None = None
) -> tuple[keras.Model, keras.Model]:
    """Return the networks of a DCGAN that grows images from 4×4 pixels, doubling them.

    Args:
        image_shape: (height, width, channels); height and width are equal, 4 times a power of two.
        latent_dim: Length of a latent vector.
        channels: Channels of the last hidden layer of the generator and of the first of the discriminator;
            those of the other layers are multiples, rounded.
        classes: Number of classes of a conditional GAN, or None.

    Reference: [DCGAN](https://arxiv.org/abs/1511.06434).
    """
    layers = keras.layers
    times = _doublings(image_shape[0])
    z, given, x = _latent(latent_dim, classes)
    deepest = _whole(channels * 2 ** (times - 1))
    x = layers.Dense(16 * deepest, use_bias=False, name="seed")(x)
    x = layers.Reshape((4, 4, deepest))(x)
    for number in reversed(range(times)):
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        last = number == 0
        x = layers.Conv2DTranspose(
            image_shape[-1] if last else _whole(channels * 2 ** (number - 1)),
            *(4, 2, "same"),
            use_bias=last,
            activation="tanh" if last else None,
        )(x)
    generator = keras.Model(given or z, x, name="generator")
    image = x = keras.Input(image_shape)
    for number in range(times):
        x = layers.Conv2D(_whole(channels * 2**number), 4, 2, "same")(x)
        x = layers.LeakyReLU(0.2)(x)
        x = layers.Dropout(0.2)(x)
    return generator, _judged(image, layers.Flatten()(x), classes, layers.Dense(1))


def sngan(
    image_shape: tuple[int, int, int], latent_dim: int, channels: float, classes: int | None = None
) -> tuple[keras.Model, keras.Model]:
    """Return the residual networks of SNGAN; the kernels of the discriminator have spectral norm 1.

    Args:
        image_shape, latent_dim, channels, classes: As for `dcgan`.

    Reference: [Spectral normalization](https://arxiv.org/abs/1802.05957), tables 4 and 5.
    """
    layers = keras.layers
    times = _doublings(image_shape[0])
    z, given, x = _latent(latent_dim, classes)
    deepest = _whole(channels * 2 ** (times - 1))
    x = layers.Dense(16 * deepest, name="seed")(x)
    x = layers.Reshape((4, 4, deepest))(x)
    for number in reversed(range(times)):
        x = _up(x, _whole(channels * 2**number))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(image_shape[-1], 3, padding="same", activation="tanh")(x)
    generator = keras.Model(given or z, x, name="generator")
    image = x = keras.Input(image_shape)
    for number in range(times):
        x = _down(x, _whole(channels * 2**number), first=number == 0)
    x = _down(x, _whole(channels * 2 ** (times - 1)), halve=False)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return generator, _judged(image, x, classes, _normed(layers.Dense(1)))


def _whole(channels: float) -> int:
    return max(1, round(channels))


def _doublings(size: int) -> int:
    times = (size // 4).bit_length() - 1
    if size != 4 * 2**times:
        raise ValueError(
            f"The images must have 4 times a power of two of pixels. Received: {size}."
        )
    return times


def _latent(latent_dim: int, classes: int | None):
    """Return (latent input, list of all inputs or None, scaled and shifted latent vectors)."""
    z = keras.Input((latent_dim,))
    if classes is None:
        return z, None, z
    layers = keras.layers
    label = keras.Input((), dtype="int32", name="label")
    scale = layers.Embedding(classes, latent_dim, embeddings_initializer="ones", name="classes")
    x = layers.Multiply()([z, scale(label)])
    x = layers.Add()([x, layers.Embedding(classes, latent_dim, name="class_shift")(label)])
    return z, [z, label], x


def _judged(image, features, classes: int | None, last) -> keras.Model:
    """Return the discriminator; classes are projected onto its features (arXiv:1802.05637, Eq. 3)."""
    layers = keras.layers
    if classes is None:
        return keras.Model(image, last(features), name="discriminator")
    label = keras.Input((), dtype="int32", name="label")
    vector = layers.Embedding(classes, features.shape[-1], name="classes")(label)
    logits = layers.Add()([last(features), layers.Dot(1)([features, vector])])
    return keras.Model([image, label], logits, name="discriminator")


def _normed(layer):
    return keras.layers.SpectralNormalization(layer)


def _up(x, channels: int):
    """Return a residual block that doubles the image."""
    layers = keras.layers
    skip = layers.Conv2D(channels, 1)(layers.UpSampling2D()(x))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(channels, 3, padding="same", use_bias=False)(layers.UpSampling2D()(x))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return layers.Add()([layers.Conv2D(channels, 3, padding="same")(x), skip])


def _down(x, channels: int, first: bool = False, halve: bool = True):
    """Return a residual block that halves the image, with spectral norm."""
    layers = keras.layers
    skip = x
    if not first:
        x = layers.ReLU()(x)
    x = layers.ReLU()(_normed(layers.Conv2D(channels, 3, padding="same"))(x))
    x = _normed(layers.Conv2D(channels, 3, padding="same"))(x)
    if halve:
        x, skip = layers.AveragePooling2D(2)(x), layers.AveragePooling2D(2)(skip)
    if skip.shape[-1] != channels or halve:
        skip = _normed(layers.Conv2D(channels, 1))(skip)
    return layers.Add()([x, skip])
