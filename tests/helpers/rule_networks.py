"""Small networks for the tests of shrink rules: described by their groups, and cut in half."""

import keras
import numpy as np
from keras import layers, ops

import keras_ganprune as kgp
from keras_ganprune.pruning.structured.rebuild import Builder

# No other axis has this length: Keras adds (b, t, 1) and (b, 1, 1) wrongly where b == t.
BATCH = 13


def model_of(shape, build, dtype=None):
    """Return a network without a weight of zero."""
    x = keras.Input(shape, dtype=dtype)
    model = keras.Model(x, build(x))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if "variance" in variable.name:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif "float" in variable.dtype:
            variable.assign(rng.normal(0.1, 0.5, variable.shape))
    return model


def described(groups):
    """Return a line for each group: name, size, and for each weight the role, axis and positions per unit."""
    lines = []
    for group in groups:
        parts = []
        for piece in group.slices:
            times = np.bincount(piece.units[piece.units >= 0], minlength=group.size)
            assert np.all(times == times[0])
            often = f" x{times[0]}" if times[0] > 1 else ""
            parts.append(f"{piece.weight.role} {piece.weight.path}.{piece.weight.axis}{often}")
        lines.append(f"{group.name} {group.size}: {', '.join(parts)}")
    return lines


def units_along(groups, path, axis):
    """Return the unit at each position along an axis of a weight."""
    return next(
        piece.units.tolist()
        for group in groups
        for piece in group.slices
        if (piece.weight.path, piece.weight.axis) == (path, axis)
    )


def random_inputs(model):
    """Return the inputs of a model: one array, or a list of them."""
    rng = np.random.default_rng(1)
    arrays = []
    for x in model.inputs:
        shape = (BATCH, *(n or 6 for n in x.shape[1:]))
        tokens = x.dtype == "int32"
        array = rng.integers(0, 7, shape) if tokens else rng.standard_normal(shape)
        arrays.append(array.astype(x.dtype))
    return arrays[0] if len(arrays) == 1 else arrays


def assert_cut_gives_the_same(model, keep=0.5, seed=2):
    """Cut a share of the units of each group, and return the smaller model.

    The outputs are compared with those of the model itself, in which the units are masked."""
    groups = kgp.channel_groups(model)
    rng = np.random.default_rng(seed)
    keeps = []
    for group in groups:
        kept = np.zeros(group.size, dtype=bool)
        kept[rng.permutation(group.size)[: max(round(keep * group.size), 1)]] = True
        keeps.append(kept)
    small, _ = Builder(groups, keeps).build()
    for variable, masked in groups.masked_values(keeps).values():
        variable.assign(masked)
    x = random_inputs(model)
    expected, actual = (
        [np.asarray(ops.convert_to_numpy(y)) for y in keras.tree.flatten(m(x, training=False))]
        for m in (model, small)
    )
    for e, a in zip(expected, actual, strict=True):
        assert a.shape == e.shape
        assert np.max(np.abs(e - a)) <= 1e-5 * np.max(np.abs(e))
        assert np.max(np.ptp(e, axis=0)) > 1e-3 * np.max(np.abs(e))
    return small


def dense(units, name, **kwargs):
    return layers.Dense(units, name=name, **kwargs)


def conv(filters, name, size=1, **kwargs):
    return layers.Conv2D(filters, size, name=name, **kwargs)


def head(x, name="head"):
    return layers.Dense(2, name=name)(x)


def chain(*stack):
    def build(x):
        for layer in stack:
            x = layer(x)
        return head(x)

    return build


OWN = "out a/kernel.1, along a/bias.0"  # of Dense 'a'
CONV = "out a/kernel.3, along a/bias.0"  # of Conv2D 'a'
READ = "in head/kernel.0"
