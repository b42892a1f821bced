"""Small networks from images to images, with discriminators of patches, and pairs of images for them."""

import keras
import numpy as np
from keras import layers

import keras_ganprune as kgp

SIDE, CLASSES = 8, 3
SHAPE = (SIDE, SIDE, 1)


def inputs_of(kind):
    made = {
        "image": keras.Input(SHAPE, name="image"),
        "mask": keras.Input(SHAPE, name="mask"),
        "label": keras.Input((), dtype="int32", name="label"),
    }
    return [made[name] for name in kind.split()]


def joined(inputs):
    maps = [x for x in inputs if len(x.shape) == 4]
    for label in [x for x in inputs if len(x.shape) < 4]:
        row = layers.Dense(SIDE**2)(layers.Embedding(CLASSES, 4)(label))
        maps.append(layers.Reshape(SHAPE)(row))
    return layers.Concatenate()(maps) if len(maps) > 1 else maps[0]


def unet(kind="image mask", channels=6, norm=False, known=False, form=list):
    inputs = inputs_of(kind)
    top = layers.Conv2D(channels, 3, padding="same", activation="relu", name="top")(joined(inputs))
    x = layers.Conv2D(2 * channels, 3, 2, padding="same", activation="relu", name="down")(top)
    x = layers.BatchNormalization(name="norm")(x) if norm else x
    x = layers.Conv2DTranspose(channels, 4, 2, padding="same", activation="relu", name="up")(x)
    x = layers.Concatenate()([top, x])
    x = layers.Conv2D(1, 3, padding="same", activation="tanh", name="image_out")(x)
    if known:
        x = kgp.keep_known_pixels(x, *inputs[:2])
    return keras.Model(form(inputs), x, name="unet")


def patches(kind="image mask"):
    """A discriminator that returns four logits for each image."""
    inputs = [*(inputs_of(kind) if kind else []), keras.Input(SHAPE, name="result")]
    x = layers.Conv2D(6, 3, 2, padding="same", name="look")(joined(inputs))
    x = layers.LeakyReLU(0.2)(x)
    x = layers.Conv2D(1, 3, 2, padding="same", name="logits")(x)
    return keras.Model(inputs if kind else inputs[0], x, name="patches")


def pair(kind="image mask", sees="image mask", **options):
    keras.utils.set_random_seed(0)
    return unet(kind, **options), patches(sees)


def data(kind="image mask", n=8):
    """Return (inputs, targets): images with holes, masks and labels as far as they are asked for."""
    rng = np.random.default_rng(3)
    targets = rng.uniform(-1, 1, (n, *SHAPE)).astype("float32")
    masks = (rng.random((n, *SHAPE)) > 0.4).astype("float32")
    made = {"image": targets * masks, "mask": masks, "label": np.arange(n) % CLASSES}
    arrays = tuple(made[name] for name in kind.split())
    return (arrays if len(arrays) > 1 else arrays[0]), targets


def compiled(networks=None, metrics=None, eager=True, **options):
    gan = kgp.ImageToImageGAN(*(networks or pair()), seed=1, **{"balance_frequency": 0, **options})
    gan.compile(
        keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3), metrics=metrics, run_eagerly=eager
    )
    return gan


def fit(gan, x, y=None, *callbacks, epochs=1, **options):
    options = {"batch_size": 4, "shuffle": False, "verbose": 0, **options}
    return gan.fit(x, y, epochs=epochs, callbacks=[*callbacks], **options).history


def assert_same_weights(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 2

    def __getitem__(self, i):
        rows = slice(4 * i, 4 * i + 4)
        return tuple(a[rows] for a in self.x), self.y[rows]
