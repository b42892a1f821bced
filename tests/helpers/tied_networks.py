"""Small GANs whose networks share kernels or layers, and checks of what they share."""

import keras
import networks as nets
import numpy as np
from keras import layers
from keras.optimizers import Adam

import keras_ganprune as kgp
from keras_ganprune.layers.guard import MaskConstraint
from keras_ganprune.layers.weight_tying import tie_mirrored

SCHEDULE = kgp.PolynomialDecay(0.8, begin_step=1, end_step=5)
# The layers of `dense_pair` that can share a kernel.
NAMED = [("a", "b")]


def symmetric_generator(dtype=None, **options):
    """Latent vectors to 8x8x1, by 6 and 4 channels; its last layers mirror the discriminator."""
    return keras.Sequential(
        [
            keras.Input((nets.LATENT,)),
            layers.Dense(2 * 2 * 6, dtype=dtype),
            layers.Reshape((2, 2, 6), dtype=dtype),
            layers.Conv2DTranspose(4, 3, 2, "same", name="up_1", dtype=dtype, **options),
            layers.BatchNormalization(dtype=dtype),
            layers.LeakyReLU(0.2, dtype=dtype),
            layers.Conv2DTranspose(
                1, 3, 2, "same", activation="tanh", name="up_2", dtype=dtype, **options
            ),
        ],
        name="generator",
    )


def symmetric_discriminator(dtype=None, wrap=lambda layer: layer, **options):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            wrap(layers.Conv2D(4, 3, 2, "same", name="down_1", dtype=dtype, **options)),
            layers.LeakyReLU(0.2, dtype=dtype),
            wrap(layers.Conv2D(6, 3, 2, "same", name="down_2", dtype=dtype, **options)),
            layers.LeakyReLU(0.2, dtype=dtype),
            layers.Flatten(dtype=dtype),
            layers.Dense(1, dtype=dtype),
        ],
        name="discriminator",
    )


def symmetric_pair(**options):
    return symmetric_generator(**options), symmetric_discriminator(**options)


def tied_pair(**options):
    pair = symmetric_pair(**options)
    tie_mirrored(*pair)
    return pair


def label_pair():
    """Conditional networks that look labels up in one embedding."""
    table = layers.Embedding(3, 5, name="labels")
    z, label = keras.Input((nets.LATENT,)), keras.Input((), dtype="int32")
    x = layers.Dense(12, activation="relu")(layers.Concatenate()([z, table(label)]))
    x = layers.Reshape((8, 8, 1))(layers.Dense(64, activation="tanh")(x))
    image, other = keras.Input((8, 8, 1)), keras.Input((), dtype="int32")
    y = layers.Concatenate()([layers.Flatten()(image), table(other)])
    y = layers.Dense(1)(layers.LeakyReLU(0.2)(layers.Dense(12)(y)))
    return (
        keras.Model([z, label], x, name="generator"),
        keras.Model([image, other], y, name="discriminator"),
    )


def trunk_pair():
    """Networks with a model in common: convolution, batch statistics, dropout, spectral norm, an LSTM."""
    trunk = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(3, 3, padding="same", name="stem"),
            layers.BatchNormalization(),
            layers.Dropout(0.2, seed=7),
            layers.SpectralNormalization(layers.Conv2D(2, 3, padding="same"), name="spectral"),
            layers.Reshape((2, 64)),
            layers.LSTM(32, return_sequences=True, unroll=True),
            layers.Reshape((8, 8, 1)),
        ],
        name="trunk",
    )
    z = keras.Input((nets.LATENT,))
    x = trunk(layers.Reshape((8, 8, 1))(layers.Dense(64)(z)))
    generator = keras.Model(z, layers.Conv2D(1, 1, activation="tanh")(x), name="generator")
    image = keras.Input((8, 8, 1))
    y = layers.Dense(1)(layers.Flatten()(trunk(image)))
    return generator, keras.Model(image, y, name="discriminator")


class Subclassed(keras.Model):
    """A generator in the subclassing style, with layers that mirror the discriminator."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stem = layers.Dense(24)
        self.shape = layers.Reshape((2, 2, 6))
        self.blocks = [layers.Conv2DTranspose(4, 3, 2, "same", activation="relu")]
        self.head = layers.Conv2DTranspose(1, 3, 2, "same", activation="tanh")

    def build(self, input_shape):
        self.stem.build(input_shape)
        self.blocks[0].build((None, 2, 2, 6))
        self.head.build((None, 4, 4, 4))
        self.built = True

    def call(self, z):
        return self.head(self.blocks[0](self.shape(self.stem(z))))


def subclassed_pair():
    generator = Subclassed()
    generator.build((None, nets.LATENT))
    pair = generator, symmetric_discriminator()
    tie_mirrored(*pair)
    return pair


def gan_model(pair, make=lambda: Adam(1e-2, 0.5), options=None, **kwargs):
    gan = kgp.GANModel(*pair, nets.LATENT, **{"balance_frequency": 0, "seed": 1, **kwargs})
    gan.compile(make(), make(), **(options or {}))
    return gan


def dense_pair():
    generator = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="a"), layers.Dense(4)])
    discriminator = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="b"), layers.Dense(1, name="out")]
    )
    return generator, discriminator


def conv(network, name):
    return network.get_layer(name)


def same(one, two):
    return len(one) == len(two) and all(
        np.array_equal(nets.value(a), nets.value(b)) for a, b in zip(one, two, strict=True)
    )


def assert_one_mask(generator, discriminator):
    """Assert that both networks see the same masks on the two tied kernels, each counted once."""
    both = kgp.masked_weights(generator, discriminator)
    assert len({id(w.variable) for w in both}) == len(both)
    own = [
        {id(w.variable): w.mask for w in kgp.masked_weights(n)} for n in (generator, discriminator)
    ]
    for up, down in (("up_1", "down_2"), ("up_2", "down_1")):
        variable = conv(generator, up).kernel
        assert variable is conv(discriminator, down).kernel
        assert own[0][id(variable)] is own[1][id(variable)] is variable.constraint.mask
        assert not isinstance(variable.constraint.inner, MaskConstraint)
    # 2 Dense kernels and 2 that are shared.
    assert len(both) == 4 and len(kgp.sparsity_report(generator)) == 3
    assert len(kgp.sparsity_report(discriminator)) == 3


def fit(
    gan, target=("generator", "discriminator"), watched=None, epochs=2, x=None, y=None, **settings
):
    names = [target] if isinstance(target, str) else list(target)
    watch = nets.Watch(*(watched or [getattr(gan, name) for name in names]))
    prune = kgp.Prune(SCHEDULE, names, 2, verbose=0, **settings)
    gan.fit(
        nets.images() if x is None else x,
        y,
        batch_size=8,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=[prune, watch],
    )
    watch.prune = prune
    return watch
