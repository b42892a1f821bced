"""Networks that are made narrower by hand, and the cuts from the wide to the narrow ones."""

import keras
import networks as nets
import numpy as np
import tensorflow as tf
from keras import layers

from keras_ganprune.pruning.structured.cuts import Cut

KEEP = np.array([0, 2, 3])  # of 5 hidden units
CHANNELS = np.array([1, 2, 5])  # of 6 channels


def mlp(units, inputs=4, outputs=3, dropout=0.0, name=None):
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            layers.Dense(units, activation="tanh"),
            layers.Dropout(dropout, seed=1),
            layers.Dense(outputs),
        ],
        name=name,
    )


def generator(units, dropout=0.0):
    pixels = nets.SIZE * nets.SIZE
    body = mlp(units, nets.LATENT, pixels, dropout)
    return keras.Sequential(
        [*body.layers, layers.Reshape((nets.SIZE, nets.SIZE, 1))], name="generator"
    )


def discriminator(units, dropout=0.0):
    body = mlp(units, nets.SIZE * nets.SIZE, 1, dropout)
    return keras.Sequential(
        [keras.Input((nets.SIZE, nets.SIZE, 1)), layers.Flatten(), *body.layers],
        name="discriminator",
    )


def every(keep, places, channels=6):
    """Return the kept positions of a flattened (places, channels)."""
    return (np.arange(places)[:, None] * channels + keep[None]).ravel()


# For each weight in order, which positions of each axis stay.
MLP = [(None, KEEP), (KEEP,), (KEEP, None), (None,)]
_STEM = every(CHANNELS, 16)
DCGAN_GENERATOR = [
    (None, _STEM),
    *[(_STEM,)] * 4,
    (None, None, CHANNELS, CHANNELS),
    *[(CHANNELS,)] * 4,
    (None, None, CHANNELS, None),
    (None,),
]
DCGAN_DISCRIMINATOR = [
    (None, None, None, CHANNELS),
    (CHANNELS,),
    (None, None, CHANNELS, CHANNELS),
    (CHANNELS,),
    (every(CHANNELS, 4), None),
    (None,),
]


def by_hand(array, index):
    """Return an array with only these positions of each axis; None stands for all."""
    rows = zip(array.shape, index, strict=True)
    return array[np.ix_(*[np.arange(n) if i is None else i for n, i in rows])]


def narrowed(old, new, indices):
    """Return the replacement, after the values of the old network are assigned to the new one."""
    assert [w.path.split("/")[-1] for w in old.weights] == [
        w.path.split("/")[-1] for w in new.weights
    ]
    cuts = [Cut(*row) for row in zip(old.weights, new.weights, indices, strict=True)]
    weights = [{id(w) for w in network.weights} for network in (old, new)]
    seeds = [
        [v for v in network.variables if id(v) not in known]
        for network, known in zip((old, new), weights, strict=True)
    ]
    cuts += [Cut(*pair, (None,) * len(pair[0].shape)) for pair in zip(*seeds, strict=True)]
    for cut in cuts:
        cut.new.assign(cut.slice(nets.value(cut.old)))
    return old, new, cuts


def same(old):
    """Return a replacement that cuts nothing."""
    new = keras.models.clone_model(old)
    new.trainable = old.trainable
    return narrowed(old, new, [(None,) * len(w.shape) for w in old.weights])


class Net(keras.Model):
    """A model with one network and one optimizer, under its own names."""

    def __init__(self, net, opt=None, **extra):
        super().__init__()
        self.before = layers.Flatten()
        self.net = net
        self.after = layers.Flatten()
        self.opt = opt
        for name, value in extra.items():
            setattr(self, name, value)

    def build(self, input_shape):
        self.built = True

    def call(self, x):
        return self.net(x)


def gradients(variables, seed):
    """Return random gradients."""
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.normal(0, 1, v.shape), v.dtype) for v in variables]


def state(optimizer):
    """Return all lists of slots of an optimizer and its inner ones: {(class, name): arrays}."""
    inner = [getattr(optimizer, "inner_optimizer", None)]
    inner += getattr(optimizer, "_inner_optimizers", None) or []
    found = {}
    for part in [optimizer, *[i for i in inner if i is not None]]:
        for name, value in vars(part).items():
            if name not in ("_variables", "_trainable_variables") and isinstance(value, list):
                if any(isinstance(v, keras.Variable) for v in value):
                    found[type(part).__name__, name] = [
                        None if v is None else np.array(nets.value(v)) for v in value
                    ]
    return found
