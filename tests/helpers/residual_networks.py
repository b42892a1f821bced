"""A small residual generator, and the blocks that are found in a network."""

import keras
import networks as nets
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.pruning.structured.residual_blocks import residual_blocks


def blocks_of(model):
    return residual_blocks(kgp.channel_groups(model).graph)


def generator(blocks=4, channels=4, scale=True, name="generator"):
    """Return a small residual generator."""
    z = keras.Input((nets.LATENT,))
    x = layers.Dense(8 * 8 * channels, name="stem")(z)
    x = layers.Reshape((8, 8, channels))(x)
    for i in range(blocks):
        y = layers.Conv2D(channels + i, 3, padding="same", use_bias=False, name=f"a{i}")(x)
        y = layers.BatchNormalization(scale=scale, momentum=0.5, name=f"n{i}")(y)
        y = layers.PReLU(shared_axes=[1, 2], name=f"p{i}")(y)
        y = layers.Conv2D(channels, 3, padding="same", name=f"b{i}")(y)
        x = layers.Add(name=f"add{i}")([x, y])
    x = layers.Conv2D(1, 3, padding="same", activation="tanh", name="image")(x)
    return keras.Model(z, x, name=name)
