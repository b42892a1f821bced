"""How channels pass through the layers of Keras: one small function for each kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_ganprune.pruning.structured.channels import Axes, Channels
from keras_ganprune.pruning.structured.rules.registry import entry_of, register_rule


def image_axis(layer: Any, x: Axes) -> int:
    """Return the axis of the channels of an image-like tensor."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else x.rank - 1


def acts_alone(function: Callable) -> bool:
    """Return whether an activation gives each entry what it gives it without the others (no softmax)."""
    function = _without_weights(function)
    if function is None:
        return False
    probe = np.array([[0.3, -1.2, 2.0, 0.7, -0.1, 1.1]], dtype="float32")
    try:
        whole = ops.convert_to_numpy(function(ops.convert_to_tensor(probe)))
        part = ops.convert_to_numpy(function(ops.convert_to_tensor(probe[:, :3])))
    except Exception:
        return False
    return whole.shape == probe.shape and np.array_equal(whole[:, :3], part)


def _without_weights(function: Callable) -> Callable | None:
    """Return an activation to be tried out; of a layer a copy, which trying builds, or None with weights."""
    if not isinstance(function, keras.layers.Layer):
        return function
    copy = type(function).from_config(function.get_config())
    copy(ops.zeros((1, 6)))
    return None if copy.weights else copy


def keeps_zero(function: Callable) -> bool:
    """Return whether an activation maps zero to zero."""
    function = _without_weights(function)
    if function is None:
        return False
    found = ops.convert_to_numpy(function(ops.zeros((1, 3))))
    return not np.any(found)


def activated(channels: Channels, function: Callable | None, x: Axes, axis: int = -1) -> Axes:
    """Return the axes behind an activation function."""
    if function is None or function is keras.activations.linear:
        return x
    if not acts_alone(function):
        name = getattr(function, "__name__", type(function).__name__)
        channels.fix(x, f"'{name}' mixes them")
        return Axes.fixed(channels.shape)
    return Axes(x.shape, x.labels, x.zero and keeps_zero(function))


# --- kernels -----------------------------------------------------------------------------------------


def _units_of_dense(layer, config, sizes):
    return {**config, "units": sizes.weight("kernel")[-1]}


@register_rule(layers.Dense, config=_units_of_dense)
def dense(layer, channels, x):
    read = channels.keeps_only(x, -1, f"'{layer.name}' runs over them")
    channels.reads(layer, "kernel", 0, read)
    made = channels.makes(layer, "kernel", 1)
    channels.along(layer, "bias", 0, made)
    return activated(channels, layer.activation, x.along(channels.shape, -1, made, zero=True))


def _shape_of_einsum(layer, config, sizes):
    # `output_shape` may name fewer axes than there are, and None for those that follow the input.
    given = config["output_shape"]
    given = (given,) if isinstance(given, int) else tuple(given)
    new = sizes.outputs[0][len(sizes.outputs[0]) - len(given) :]
    return {
        **config,
        "output_shape": [n if old is not None else None for old, n in zip(given, new, strict=True)],
    }


@register_rule(layers.EinsumDense, config=_shape_of_einsum)
def einsum_dense(layer, channels, x):
    """Every letter of the equation is an axis: read, made, or passed on."""
    left, kernel, output = layer.equation.replace(" ", "").replace("->", ",").split(",")
    left, output = _without_dots(left, x.rank), _without_dots(output, len(channels.shape))
    labels: list[np.ndarray | None] = [None] * len(output)
    for axis, letter in enumerate(left):
        if letter in kernel:
            channels.reads(layer, "kernel", kernel.index(letter), x[axis])
            if letter in output:  # in all three: it stays the input's own
                labels[output.index(letter)] = x[axis]
        elif letter in output:
            labels[output.index(letter)] = x[axis]
        else:
            channels.fix(x[axis], f"'{layer.name}' sums over them")
    # Several axes of heads and the like: the last one alone, so that no two are cut at once.
    new = [letter for letter in output if letter in kernel and letter not in left]
    for letter in new[-1:]:
        labels[output.index(letter)] = channels.makes(layer, "kernel", kernel.index(letter))
    bias_axes = (getattr(layer, "bias_axes", None) or "").replace(" ", "")
    for letter in bias_axes:
        # A letter that the bias skips is an axis of one in it.
        place = output.index(letter) - len(output)
        found = labels[output.index(letter)]
        if found is not None:
            channels.along(layer, "bias", place, found)
    made = Axes(channels.shape, tuple(labels), True)
    return activated(channels, layer.activation, made)


def _without_dots(term: str, rank: int) -> str:
    """Return a term of an equation with a letter of its own for every axis behind '...'."""
    missing = rank - len(term.replace("...", ""))
    return term.replace("...", "".join(chr(0x100 + i) for i in range(missing)))


def _filters(layer, config, sizes):
    return {**config, "filters": sizes.weight("kernel")[-1]}


@register_rule(layers.Conv1D, layers.Conv2D, layers.Conv3D, config=_filters)
def conv(layer, channels, x):
    axis = image_axis(layer, x)
    read = channels.keeps_only(x, axis, f"'{layer.name}' runs over them")
    read = _across_groups(channels, read, layer.groups)
    channels.reads(layer, "kernel", -2, read)
    made = channels.makes(layer, "kernel", -1)
    _across_groups(channels, made, layer.groups)
    channels.along(layer, "bias", 0, made)
    return activated(channels, layer.activation, x.along(channels.shape, axis, made, zero=True))


def _across_groups(channels: Channels, labels: np.ndarray | None, groups: int) -> Any:
    """Let every group of a grouped convolution lose the same channels; return those of the first."""
    if groups == 1 or labels is None:
        return labels
    rows = labels.reshape(groups, -1)
    channels.tie(np.tile(rows[0], groups), labels)
    return rows[0]


def _transposed_filters(layer, config, sizes):
    return {**config, "filters": sizes.weight("kernel")[-2]}


@register_rule(
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
    config=_transposed_filters,
)
def transposed_conv(layer, channels, x):
    axis = image_axis(layer, x)
    read = channels.keeps_only(x, axis, f"'{layer.name}' runs over them")
    channels.reads(layer, "kernel", -1, read)
    made = channels.makes(layer, "kernel", -2)
    channels.along(layer, "bias", 0, made)
    return activated(channels, layer.activation, x.along(channels.shape, axis, made, zero=True))


@register_rule(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def depthwise_conv(layer, channels, x):
    axis = image_axis(layer, x)
    own = channels.keeps_only(x, axis, f"'{layer.name}' runs over them")
    channels.along(layer, "kernel", -2, own)
    made = _repeated(own, layer.depth_multiplier)
    channels.along(layer, "bias", 0, made)
    return activated(channels, layer.activation, x.along(channels.shape, axis, made, zero=True))


def _repeated(labels: np.ndarray | None, times: int) -> np.ndarray | None:
    return None if labels is None else np.repeat(labels, times)


def _separable_filters(layer, config, sizes):
    return {**config, "filters": sizes.weight("pointwise_kernel")[-1]}


@register_rule(layers.SeparableConv1D, layers.SeparableConv2D, config=_separable_filters)
def separable_conv(layer, channels, x):
    axis = image_axis(layer, x)
    own = channels.keeps_only(x, axis, f"'{layer.name}' runs over them")
    channels.along(layer, "depthwise_kernel", -2, own)
    channels.reads(layer, "pointwise_kernel", -2, _repeated(own, layer.depth_multiplier))
    made = channels.makes(layer, "pointwise_kernel", -1)
    channels.along(layer, "bias", 0, made)
    return activated(channels, layer.activation, x.along(channels.shape, axis, made, zero=True))


def _output_dim(layer, config, sizes):
    return {**config, "output_dim": sizes.weight("embeddings")[-1]}


@register_rule(layers.Embedding, config=_output_dim)
def embedding(layer, channels, x):
    made = channels.makes(layer, "embeddings", 1)
    return Axes.fixed(channels.shape).along(channels.shape, -1, made)


# --- wrappers ----------------------------------------------------------------------------------------


def _config_inside(layer, config, sizes):
    """Return the configuration of a wrapper whose layer is cut."""
    entry = entry_of(layer.layer)
    if entry is None:
        return config
    outer = sizes.weight
    # The layer inside names its weights without the wrapper.
    sizes = dataclasses.replace(sizes, weight=lambda name: outer(f"layer.{name}"))
    # It is built by the wrapper: the shape that it was built for is no longer its own.
    inner = {k: v for k, v in config["layer"].items() if k != "build_config"}
    if entry.config is not None:
        inner["config"] = entry.config(layer.layer, inner["config"], sizes)
    return {**config, "layer": inner}


@register_rule(layers.SpectralNormalization, config=_config_inside)
def spectral_normalization(layer, channels, x):
    found = _inner_rule(layer, channels)(layer.layer, channels, x)
    # One entry for each index of the kernel's last axis: of a transposed convolution these are inputs.
    channels.state(layer, "vector_u", -1, channels.labels_of(layer.kernel, -1))
    return found


def _inner_rule(layer, channels):
    entry = entry_of(layer.layer)
    return stays if entry is None else entry.rule


@register_rule(layers.TimeDistributed, config=_config_inside)
def time_distributed(layer, channels, x, training=None, mask=None):
    channels.fix(x[1], "they are steps in time")
    if not isinstance(layer.layer, (layers.Dense, *AS_THEY_ARE)):
        # Other layers see one axis fewer than there is here.
        return stays(layer, channels, x)
    return entry_of(layer.layer).rule(layer.layer, channels, x)


def stays(layer, channels, *inputs, **kwargs):
    """The rule of what mixes channels, or is not worth a rule: all of them stay."""
    for x in keras.tree.flatten((inputs, kwargs)):
        if isinstance(x, Axes):
            channels.fix(x, f"'{layer.name}' ({type(layer).__name__}) mixes them")
    found = [Axes.fixed(shape) for shape in channels.shapes]
    return found if len(found) > 1 else found[0]


# --- normalization -----------------------------------------------------------------------------------


def _one_axis(axis: Any, x: Axes) -> int | None:
    axis = axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis
    return axis % x.rank if isinstance(axis, int) else None


@register_rule(layers.BatchNormalization)
def batch_normalization(layer, channels, x, mask=None, training=None):
    axis = _one_axis(layer.axis, x)
    own = channels.keeps_only(x, axis, f"'{layer.name}' averages over them")
    for name in ("gamma", "beta"):
        channels.along(layer, name, 0, own)
    channels.state(layer, "moving_mean", 0, own, mean=True)
    channels.state(layer, "moving_variance", 0, own)
    # Without a gamma to mask, zero comes out only if zero goes in (and the moving mean is none).
    return Axes(x.shape, x.labels, layer.scale or x.zero)


def _normalization_groups(layer, config, sizes):
    # By now the layer has put the number of channels in the place of -1.
    before, after = sizes.before[0][layer.axis], sizes.inputs[0][layer.axis]
    return {**config, "groups": layer.groups * after // before}


@register_rule(layers.GroupNormalization, config=_normalization_groups)
def group_normalization(layer, channels, x):
    """A group goes as a whole, so that the mean over those that stay is what it was."""
    axis = _one_axis(layer.axis, x)
    own = channels.keeps_only(x, axis, f"'{layer.name}' averages over them")
    groups = layer.groups if layer.groups > 0 else x.shape[axis]
    if own is not None and groups < len(own):
        rows = own.reshape(groups, -1)
        channels.tie(np.broadcast_to(rows[:, :1], rows.shape).reshape(-1), own)
    for name in ("gamma", "beta"):
        channels.along(layer, name, 0, own)
    return Axes(x.shape, x.labels, layer.scale or x.zero)


@register_rule(layers.LayerNormalization)
def layer_normalization(layer, channels, x, mask=None):
    """The mean is over all channels, masked ones too: a network without them would give another."""
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    for axis in axes:
        channels.fix(x[axis], f"'{layer.name}' ({type(layer).__name__}) averages over all of them")
    gone = {axis % x.rank for axis in axes}
    labels = tuple(None if i in gone else found for i, found in enumerate(x.labels))
    return Axes(x.shape, labels, x.zero)


@register_rule(layers.UnitNormalization)
def unit_normalization(layer, channels, x):
    """Zeros add nothing to a norm."""
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    for axis in axes:
        if not x.zero:
            channels.fix(x[axis], f"they are not zero where '{layer.name}' takes a norm over them")
    return x


# --- what works on every entry by itself -------------------------------------------------------------


AS_THEY_ARE = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.GaussianNoise,
    layers.GaussianDropout,
    layers.AlphaDropout,
    layers.ActivityRegularization,
    layers.Identity,
    layers.Masking,
)


@register_rule(*AS_THEY_ARE)
def as_they_are(layer, channels, x, training=None, mask=None):
    if getattr(layer, "noise_shape", None) is not None:
        channels.fix(x, f"'{layer.name}' has a `noise_shape`")
    if isinstance(layer, layers.Masking):
        channels.fix(x, f"'{layer.name}' compares all of them")
    return x


@register_rule(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Softmax)
def activation(layer, channels, x, mask=None):
    return activated(channels, layer, x)


@register_rule(layers.PReLU)
def prelu(layer, channels, x):
    shared = {axis % x.rank for axis in (layer.shared_axes or [])}
    for axis in range(1, x.rank):
        if axis in shared:
            continue
        if x[axis] is not None:
            channels.along(layer, "alpha", axis - 1, x[axis])
    return x


@register_rule(layers.Rescaling)
def rescaling(layer, channels, x, training=None):
    if not np.isscalar(layer.scale) or not np.isscalar(layer.offset):
        channels.fix(x, f"'{layer.name}' has a scale for each")
        return x
    return Axes(x.shape, x.labels, x.zero and layer.offset == 0)


# --- space -------------------------------------------------------------------------------------------


SPATIAL = (
    *(
        getattr(layers, f"{kind}{n}D")
        for n in (1, 2, 3)
        for kind in ("MaxPooling", "AveragePooling", "UpSampling", "ZeroPadding", "Cropping")
    ),
    layers.Resizing,
)


@register_rule(*SPATIAL)
def spatial(layer, channels, x, training=None):
    axis = image_axis(layer, x)
    own = channels.keeps_only(x, axis, f"'{layer.name}' runs over them")
    return x.along(channels.shape, axis, own)


@register_rule(
    *(getattr(layers, f"Global{kind}Pooling{n}D") for n in (1, 2, 3) for kind in ("Max", "Average"))
)
def global_pooling(layer, channels, x, mask=None):
    axis = image_axis(layer, x)
    own = channels.keeps_only(x, axis, f"'{layer.name}' averages over them")
    return x.along(channels.shape, axis if layer.keepdims else -1, own)


@register_rule(layers.RepeatVector)
def repeat_vector(layer, channels, x):
    return x.along(channels.shape, -1, x[-1])


# --- shape -------------------------------------------------------------------------------------------


def _target_shape(layer, config, sizes):
    new = sizes.outputs[0][1:]
    unknown = sum(n is None for n in new)
    if unknown > 1:
        return config
    return {**config, "target_shape": [-1 if n is None else n for n in new]}


@register_rule(layers.Reshape, config=_target_shape)
def reshape(layer, channels, x):
    return reshaped(channels, x)


@register_rule(layers.Flatten)
def flatten(layer, channels, x):
    if getattr(layer, "data_format", None) == "channels_first" and x.rank > 2:
        x = transposed(x, [0, *range(2, x.rank), 1])
    return reshaped(channels, x)


@register_rule(layers.Permute)
def permute(layer, channels, x):
    return transposed(x, [0, *layer.dims])


def transposed(x: Axes, order: list[int]) -> Axes:
    return Axes(
        tuple(x.shape[axis] for axis in order), tuple(x.labels[axis] for axis in order), x.zero
    )


def reshaped(channels: Channels, x: Axes) -> Axes:
    """Return the axes behind a reshape: runs of axes of one product become one another."""
    new = channels.shape
    labels: list[np.ndarray | None] = [None] * len(new)
    # Equal last axes are the same ones, whatever becomes of those before them.
    same = 0
    while same < min(len(new), x.rank) and new[-1 - same] == x.shape[-1 - same] is not None:
        same += 1
        labels[-same] = x.labels[-same]
    old_rank, new_rank = x.rank - same, len(new) - same
    blocks = _blocks(x.shape[:old_rank], new[:new_rank])
    if blocks is None:
        for found in x.labels[:old_rank]:
            channels.fix(found, "a reshape of unknown sizes cannot be followed")
        blocks = []
    for (a, b), (c, d) in blocks:
        if b - a == 1 and d - c == 1:
            labels[c] = x.labels[a]
            continue
        flat = _joined(channels, x.shape[a:b], x.labels[a:b])
        if flat is not None and c == d:
            channels.fix(flat, "an axis of length one stays")
        elif flat is not None:
            axis, found = _parted(channels, flat, new[c:d])
            labels[c + axis] = found
    return Axes(tuple(new), tuple(labels), x.zero)


def _blocks(old: tuple, new: tuple) -> list | None:
    """Return the runs ((a, b), (c, d)) of axes that a reshape turns into one another, or None."""
    found = []
    a = c = 0
    while a < len(old) or c < len(new):
        if a < len(old) and c < len(new) and old[a] == new[c]:  # also two unknown ones
            found.append(((a, a + 1), (c, c + 1)))
            a, c = a + 1, c + 1
            continue
        b, d, left, right = a, c, 1, 1
        while b == a or d == c or left != right:
            if (left <= right or d == len(new)) and b < len(old):
                if old[b] is None:
                    return None
                left, b = left * old[b], b + 1
            elif d < len(new):
                if new[d] is None:
                    return None
                right, d = right * new[d], d + 1
            elif left == right:
                break
            else:
                return None
        found.append(((a, b), (c, d)))
        a, c = b, d
    return found


def _joined(channels: Channels, shape: tuple, labels: tuple) -> np.ndarray | None:
    """Return the labels of an axis made of several, of which one at most can lose something."""
    cut = [i for i, found in enumerate(labels) if found is not None]
    for i in cut[:-1]:
        channels.fix(labels[i], "a reshape joins them with others")
    if not cut:
        return None
    one = cut[-1]
    form = [n if i == one else 1 for i, n in enumerate(shape)]
    return np.broadcast_to(labels[one].reshape(form), shape).reshape(-1)


def _parted(channels: Channels, flat: np.ndarray, shape: tuple) -> tuple[int, np.ndarray]:
    """Return which of several axes an axis's channels end on, and their labels there.

    The one along which they differ now, if there is one; else the last, with what lies on the others
    tied: a unit of Dense in front of Reshape((7, 7, 128)) goes with the 48 others of its channel.
    """
    classes = channels.units.find(flat).reshape(shape)
    for axis in range(len(shape)):
        first = np.moveaxis(classes, axis, 0)
        alike = first.reshape(len(first), -1)
        if (alike == alike[:, :1]).all():
            return axis, np.moveaxis(flat.reshape(shape), axis, 0).reshape(len(first), -1)[:, 0]
    axis = len(shape) - 1
    while axis and shape[axis] == 1:
        axis -= 1
    rows = np.moveaxis(flat.reshape(shape), axis, 0).reshape(shape[axis], -1)
    channels.tie(np.broadcast_to(rows[:, :1], rows.shape).reshape(-1), rows.reshape(-1))
    return axis, rows[:, 0].copy()
