"""Every rule on a network so small that its groups are known by hand, and cut to see that it was right."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.structured.rebuild import Builder, assign
from keras_ganprune.pruning.structured.rules.elementwise import acts_alone, keeps_zero
from keras_ganprune.pruning.structured.rules.slices import cut_key, parts_by_axis
from keras_ganprune.pruning.structured.union_find import FIXED, Units

BATCH = (
    13  # no other axis is of this length: Keras adds (b, t, 1) and (b, 1, 1) wrongly where b == t
)


def _model(shape, build, dtype=None):
    """Return a network whose weights are nowhere zero."""
    x = keras.Input(shape, dtype=dtype)
    model = keras.Model(x, build(x))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if "variance" in variable.name:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif "float" in variable.dtype:
            variable.assign(rng.normal(0.1, 0.5, variable.shape))
    return model


def _told(groups):
    """Return a line for each group: name, size, and role, weight, axis and how often a unit is in it."""
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


def _units(groups, path, axis):
    """Return the unit at each place of a weight's axis."""
    return next(
        piece.units.tolist()
        for group in groups
        for piece in group.slices
        if (piece.weight.path, piece.weight.axis) == (path, axis)
    )


def _inputs(model):
    rng = np.random.default_rng(1)
    arrays = []
    for x in model.inputs:
        shape = (BATCH, *(n or 6 for n in x.shape[1:]))
        tokens = x.dtype == "int32"
        array = rng.integers(0, 7, shape) if tokens else rng.standard_normal(shape)
        arrays.append(array.astype(x.dtype))
    return arrays[0] if len(arrays) == 1 else arrays


def _halve(model, keep=0.5, seed=2):
    """Mask a share of the units of each group in the model itself, compare, and return the smaller one."""
    groups = kgp.channel_groups(model)
    rng = np.random.default_rng(seed)
    keeps = []
    for group in groups:
        kept = np.zeros(group.size, dtype=bool)
        kept[rng.permutation(group.size)[: max(round(keep * group.size), 1)]] = True
        keeps.append(kept)
    small, cuts = Builder(groups, keeps).build()
    assign(cuts)
    for variable, masked in groups.masked_values(keeps).values():
        variable.assign(masked)
    x = _inputs(model)
    expected, actual = (
        [np.asarray(ops.convert_to_numpy(y)) for y in keras.tree.flatten(m(x, training=False))]
        for m in (model, small)
    )
    for e, a in zip(expected, actual, strict=True):
        assert a.shape == e.shape
        assert np.max(np.abs(e - a)) <= 1e-5 * np.max(np.abs(e))
        assert np.max(np.ptp(e, axis=0)) > 1e-3 * np.max(np.abs(e))
    return small


def _dense(units, name, **kwargs):
    return layers.Dense(units, name=name, **kwargs)


def _conv(filters, name, size=1, **kwargs):
    return layers.Conv2D(filters, size, name=name, **kwargs)


def _head(x, name="head"):
    return layers.Dense(2, name=name)(x)


def _chain(*stack):
    def build(x):
        for layer in stack:
            x = layer(x)
        return _head(x)

    return build


# --- one layer, one line -------------------------------------------------------------------------

OWN = "out a/kernel.1, along a/bias.0"  # of Dense 'a'
CONV = "out a/kernel.3, along a/bias.0"  # of Conv2D 'a'
READ = "in head/kernel.0"

SIMPLE = {
    "dense": ((5,), _chain(_dense(8, "a")), [f"a 8: {OWN}, {READ}"]),
    "dense_without_bias": (
        (5,),
        _chain(_dense(8, "a", use_bias=False)),
        [f"a 8: out a/kernel.1, {READ}"],
    ),
    "dense_over_a_sequence": ((4, 5), _chain(_dense(8, "a")), [f"a 8: {OWN}, {READ}"]),
    "dense_with_a_softmax": ((5,), _chain(_dense(8, "a", activation="softmax")), []),
    "conv2d": ((4, 4, 3), _chain(_conv(8, "a", 3)), [f"a 8: {CONV}, {READ}"]),
    "conv1d": (
        (6, 3),
        _chain(layers.Conv1D(8, 3, name="a", padding="causal", dilation_rate=2)),
        [f"a 8: out a/kernel.2, along a/bias.0, {READ}"],
    ),
    "conv3d": (
        (3, 3, 3, 2),
        _chain(layers.Conv3D(6, 2, name="a")),
        [f"a 6: out a/kernel.4, along a/bias.0, {READ}"],
    ),
    "grouped_conv": (
        (4, 4, 3),
        _chain(_conv(8, "a"), _conv(6, "b", 3, groups=2)),
        [
            "a 4: out a/kernel.3 x2, along a/bias.0 x2, in b/kernel.2",
            f"b 3: out b/kernel.3 x2, along b/bias.0 x2, {READ} x2",
        ],
    ),
    "conv1d_transpose": (
        (4, 3),
        _chain(layers.Conv1D(5, 1, name="a"), layers.Conv1DTranspose(6, 3, strides=2, name="b")),
        [
            "a 5: out a/kernel.2, along a/bias.0, in b/kernel.2",
            f"b 6: out b/kernel.1, along b/bias.0, {READ}",
        ],
    ),
    "conv2d_transpose": (
        (4, 4, 3),
        _chain(_conv(5, "a"), layers.Conv2DTranspose(6, 3, strides=2, name="b")),
        [f"a 5: {CONV}, in b/kernel.3", f"b 6: out b/kernel.2, along b/bias.0, {READ}"],
    ),
    "conv3d_transpose": (
        (2, 2, 2, 3),
        _chain(layers.Conv3DTranspose(6, 2, name="a")),
        [f"a 6: out a/kernel.3, along a/bias.0, {READ}"],
    ),
    "depthwise_conv": (
        (4, 4, 3),
        _chain(_conv(5, "a"), layers.DepthwiseConv2D(3, name="b", depth_multiplier=2)),
        [f"a 5: {CONV}, along b/kernel.2, along b/bias.0 x2, {READ} x2"],
    ),
    "depthwise_conv1d": (
        (6, 3),
        _chain(layers.Conv1D(5, 1, name="a"), layers.DepthwiseConv1D(3, name="b")),
        [
            "a 5: out a/kernel.2, along a/bias.0, along b/kernel.1, along b/bias.0, "
            f"{READ}"
        ],
    ),
    "separable_conv": (
        (4, 4, 3),
        _chain(_conv(5, "a"), layers.SeparableConv2D(6, 3, name="b", depth_multiplier=2)),
        [
            f"a 5: {CONV}, along b/depthwise_kernel.2, in b/pointwise_kernel.2 x2",
            f"b 6: out b/pointwise_kernel.3, along b/bias.0, {READ}",
        ],
    ),
    "separable_conv1d": (
        (6, 3),
        _chain(layers.Conv1D(5, 1, name="a"), layers.SeparableConv1D(6, 3, name="b")),
        [
            "a 5: out a/kernel.2, along a/bias.0, along b/depthwise_kernel.1, in b/pointwise_kernel.1",
            f"b 6: out b/pointwise_kernel.2, along b/bias.0, {READ}",
        ],
    ),
    "batch_normalization": (
        (5,),
        _chain(_dense(8, "a"), layers.BatchNormalization(name="n")),
        [
            f"a 8: {OWN}, along n/gamma.0, along n/beta.0, mean n/moving_mean.0, "
            f"state n/moving_variance.0, {READ}"
        ],
    ),
    "batch_normalization_without_scale": (
        (5,),
        _chain(_dense(8, "a"), layers.BatchNormalization(name="n", scale=False, center=False)),
        [f"a 8: {OWN}, mean n/moving_mean.0, state n/moving_variance.0, {READ}"],
    ),
    "group_normalization": (
        (3, 3, 3),
        _chain(_conv(8, "a"), layers.GroupNormalization(4, name="n")),
        [f"a 4: {CONV} x2, along n/gamma.0 x2, along n/beta.0 x2, {READ} x2".replace(
            "kernel.3, along a/bias.0 x2", "kernel.3 x2, along a/bias.0 x2"
        )],
    ),
    "instance_normalization": (
        (3, 3, 3),
        _chain(_conv(8, "a"), layers.GroupNormalization(-1, name="n")),
        [f"a 8: {CONV}, along n/gamma.0, along n/beta.0, {READ}"],
    ),
    "layer_normalization": ((5,), _chain(_dense(8, "a"), layers.LayerNormalization()), []),
    "layer_normalization_over_places": (
        (3, 3, 3),
        _chain(_conv(8, "a"), layers.LayerNormalization(axis=(1, 2), name="n")),
        [f"a 8: {CONV}, {READ}"],
    ),
    "unit_normalization": (
        (5,),
        _chain(_dense(8, "a"), layers.UnitNormalization()),
        [f"a 8: {OWN}, {READ}"],
    ),
    "unit_normalization_of_what_is_not_zero": (
        (5,),
        _chain(_dense(8, "a", activation="sigmoid"), layers.UnitNormalization()),
        [],
    ),
    "prelu": (
        (3, 4, 3),
        _chain(_conv(8, "a"), layers.PReLU(name="p")),
        [f"a 8: {CONV}, along p/alpha.2, {READ}"],
    ),
    "prelu_shared": (
        (3, 4, 3),
        _chain(_conv(8, "a"), layers.PReLU(name="p", shared_axes=[1, 2])),
        [f"a 8: {CONV}, along p/alpha.2, {READ}"],
    ),
    "prelu_shared_by_channels": (
        (3, 4, 3),
        _chain(_conv(8, "a"), layers.PReLU(name="p", shared_axes=[3])),
        [f"a 8: {CONV}, {READ}"],
    ),
    "softmax": ((5,), _chain(_dense(8, "a"), layers.Softmax()), []),
    "softmax_of_ops": ((5,), _chain(_dense(8, "a"), ops.softmax), []),
    "entry_by_entry": (
        (3, 3, 3),
        _chain(
            _conv(8, "a"),
            layers.ReLU(max_value=6.0),
            layers.LeakyReLU(),
            layers.ELU(),
            layers.Activation("softplus"),
            layers.Dropout(0.5),
            layers.SpatialDropout2D(0.5),
            layers.GaussianNoise(0.1),
            layers.Identity(),
            layers.Rescaling(0.5, offset=-1.0),
            ops.sigmoid,
            lambda x: ops.clip(x, 0.1, 0.95),
            lambda x: ops.add(ops.multiply(x, 2.0), 1.0),
        ),
        [f"a 8: {CONV}, {READ}"],
    ),
    "space": (
        (4, 4, 3),
        _chain(
            _conv(8, "a"),
            layers.UpSampling2D(interpolation="bilinear"),
            layers.ZeroPadding2D(1),
            layers.Cropping2D(((1, 0), (0, 1))),
            layers.MaxPooling2D(2),
            layers.AveragePooling2D(2),
            layers.Resizing(3, 3),
        ),
        [f"a 8: {CONV}, {READ}"],
    ),
    "space_1d": (
        (6, 3),
        _chain(
            layers.Conv1D(8, 1, name="a"),
            layers.UpSampling1D(2),
            layers.ZeroPadding1D(1),
            layers.MaxPooling1D(2),
            layers.GlobalMaxPooling1D(),
        ),
        [f"a 8: out a/kernel.2, along a/bias.0, {READ}"],
    ),
    "global_pooling": (
        (3, 3, 3),
        _chain(_conv(8, "a"), layers.GlobalAveragePooling2D(keepdims=True)),
        [f"a 8: {CONV}, {READ}"],
    ),
    "channels_first": (
        (3, 3, 3),
        _chain(
            _conv(8, "a"),
            layers.Permute((3, 1, 2)),
            layers.BatchNormalization(axis=1, scale=False, center=False, name="n"),
            layers.GlobalAveragePooling2D(data_format="channels_first"),
        ),
        [f"a 8: {CONV}, mean n/moving_mean.0, state n/moving_variance.0, {READ}"],
    ),
    "flatten": ((3, 3, 3), _chain(_conv(8, "a"), layers.Flatten()), [f"a 8: {CONV}, {READ} x9"]),
    "flatten_channels_first": (
        (3, 3, 3),
        _chain(
            _conv(8, "a"),
            layers.Permute((3, 1, 2)),
            layers.Flatten(data_format="channels_first"),
        ),
        [f"a 8: {CONV}, {READ} x9"],
    ),
    "reshape_to_an_image": (
        (5,),
        _chain(_dense(7 * 7 * 4, "a"), layers.Reshape((7, 7, 4)), _conv(6, "b", 3)),
        [
            "a 4: out a/kernel.1 x49, along a/bias.0 x49, in b/kernel.2",
            f"b 6: out b/kernel.3, along b/bias.0, {READ}",
        ],
    ),
    "reshape_to_one_channel": (
        (5,),
        _chain(_dense(16, "a"), layers.Reshape((4, 4, 1)), _conv(6, "b", 3)),
        [f"b 6: out b/kernel.3, along b/bias.0, {READ}"],
    ),
    "repeat_vector": (
        (5,),
        _chain(_dense(8, "a"), layers.RepeatVector(3)),
        [f"a 8: {OWN}, {READ}"],
    ),
    "time_distributed": (
        (4, 5),
        _chain(
            layers.TimeDistributed(_dense(8, "a"), name="t"), layers.TimeDistributed(layers.Dropout(0.5))
        ),
        [f"t/a 8: out t/a/kernel.1, along t/a/bias.0, {READ}"],
    ),
    "spectral_normalization": (
        (4, 4, 3),
        _chain(layers.SpectralNormalization(_conv(8, "a"), name="s")),
        [f"s/a 8: out s/a/kernel.3, along s/a/bias.0, state s/vector_u.1, {READ}"],
    ),
    # The last axis of this kernel is what it reads.
    "spectral_normalization_transposed": (
        (4, 4, 3),
        _chain(
            _conv(5, "a"),
            layers.SpectralNormalization(layers.Conv2DTranspose(8, 2, name="b"), name="s"),
        ),
        [
            f"a 5: {CONV}, in s/b/kernel.3, state s/vector_u.1",
            f"s/b 8: out s/b/kernel.2, along s/b/bias.0, {READ}",
        ],
    ),
    "lstm": (
        (4, 5),
        _chain(layers.LSTM(6, name="a")),
        [
            "a 6: out a/cell.kernel.1 x4, out a/cell.recurrent_kernel.1 x4, "
            f"in a/cell.recurrent_kernel.0, along a/cell.bias.0 x4, {READ}"
        ],
    ),
    "gru": (
        (4, 5),
        _chain(_dense(8, "d"), layers.GRU(6, name="a", return_sequences=True)),
        [
            "d 8: out d/kernel.1, along d/bias.0, in a/cell.kernel.0",
            "a 6: out a/cell.kernel.1 x3, out a/cell.recurrent_kernel.1 x3, "
            f"in a/cell.recurrent_kernel.0, along a/cell.bias.1 x3, {READ}",
        ],
    ),
    "simple_rnn": (
        (4, 5),
        _chain(layers.SimpleRNN(6, name="a", use_bias=False, activation="sigmoid")),
        [
            "a 6: out a/cell.kernel.1, out a/cell.recurrent_kernel.1, in a/cell.recurrent_kernel.0, "
            f"{READ}"
        ],
    ),
    "bidirectional": ((4, 5), _chain(layers.Bidirectional(layers.LSTM(3))), []),
    "einsum": (
        (5,),
        _chain(layers.EinsumDense("ab,bc->ac", 8, bias_axes="c", name="a")),
        [f"a 8: {OWN}, {READ}"],
    ),
    "einsum_with_dots": (
        (3, 5),
        _chain(_dense(8, "a"), layers.EinsumDense("...c,cd->...d", 6, bias_axes="d", name="b")),
        [f"a 8: {OWN}, in b/kernel.0", f"b 6: out b/kernel.1, along b/bias.0, {READ}"],
    ),
    "einsum_of_each_step": (
        (3, 5),
        _chain(_dense(8, "a"), layers.EinsumDense("abc,bcd->abd", (3, 6), bias_axes="bd", name="b")),
        [f"a 8: {OWN}, in b/kernel.1", f"b 6: out b/kernel.2, along b/bias.1, {READ}"],
    ),
    "pixel_shuffle": (
        (3, 3, 3),
        _chain(
            _conv(12, "a"),
            lambda x: ops.reshape(x, (-1, 3, 3, 2, 2, 3)),
            lambda x: ops.transpose(x, (0, 1, 3, 2, 4, 5)),
            lambda x: ops.reshape(x, (-1, 6, 6, 3)),
        ),
        [f"a 3: out a/kernel.3 x4, along a/bias.0 x4, {READ}"],
    ),
    "mean": (
        (3, 3, 3),
        _chain(_conv(8, "a"), lambda x: ops.mean(x, axis=(1, 2))),
        [f"a 8: {CONV}, {READ}"],
    ),
    "mean_over_channels": (
        (3, 3, 3),
        _chain(_conv(8, "a"), lambda x: ops.mean(x, axis=-1, keepdims=True)),
        [],
    ),
    "axes_of_length_one": (
        (5,),
        _chain(
            _dense(8, "a"),
            lambda x: ops.expand_dims(x, 1),
            lambda x: ops.swapaxes(x, 1, 2),
            lambda x: ops.squeeze(x, axis=-1),
        ),
        [f"a 8: {OWN}, {READ}"],
    ),
    # A variance of zero plus an epsilon is not zero; one by itself is.
    "divided": (
        (3, 3, 3),
        _chain(
            _conv(8, "a"),
            lambda x: x / ops.sqrt(ops.var(x, axis=(1, 2), keepdims=True) + 1e-3),
        ),
        [f"a 8: {CONV}, {READ}"],
    ),
    "divided_by_what_may_be_zero": (
        (3, 3, 3),
        _chain(_conv(8, "a"), lambda x: x / ops.std(x, axis=(1, 2), keepdims=True)),
        [],
    ),
    "powers": (
        (5,),
        _chain(_dense(8, "a"), ops.square, lambda x: ops.power(x, 0.5)),
        [f"a 8: {OWN}, {READ}"],
    ),
    "negative_power": ((5,), _chain(_dense(8, "a", activation="exponential"), lambda x: x**-1.0), []),
    "constant": (
        (5,),
        _chain(_dense(8, "a"), lambda x: x * np.arange(8, dtype="float32")),
        [],
    ),
    "step": ((5,), _chain(_dense(8, "a"), lambda x: x[:, ::2]), []),
    "one_picked": ((4, 5), _chain(_dense(8, "a"), lambda x: x[:, -1]), [f"a 8: {OWN}, {READ}"]),
    "attention": (
        (4, 5),
        lambda x: _head(layers.Attention()([_dense(8, "a")(x), _dense(8, "b")(x)])),
        [],
    ),
    "dot": ((5,), lambda x: _head(layers.Dot(1)([_dense(8, "a")(x), _dense(8, "b")(x)])), []),
}  # fmt: skip


@pytest.mark.parametrize("name", SIMPLE)
def test_one_layer(name):
    shape, build, expected = SIMPLE[name]
    model = _model(shape, build)
    told = _told(kgp.channel_groups(model))
    assert told == expected
    if told:
        small = _halve(model)
        assert small.count_params() < model.count_params()
    else:
        assert _halve(model).count_params() == model.count_params()


def test_why_they_stay():
    reasons = {
        "dense_with_a_softmax": r"'softmax' mixes them",
        "layer_normalization": r"'layer_normalization\w*' \(LayerNormalization\) averages over all of them",
        "unit_normalization_of_what_is_not_zero": r"they are not zero where 'unit_normalization\w*' takes a "
        r"norm over them",
        "mean_over_channels": r"'mean\w*' runs over them",
        "divided_by_what_may_be_zero": r"something is divided by them, which must not be by zero",
        "negative_power": r"they are raised to a power that may not be of zero",
        "constant": r"they meet channels that stay",
        "step": r"some of them are picked",
        "attention": r"'attention\w*' \(Attention\) mixes them",
    }
    for name, reason in reasons.items():
        shape, build, _ = SIMPLE[name]
        groups = kgp.channel_groups(_model(shape, build))
        assert re.fullmatch(reason, groups.stay["a"]), (name, groups.stay)
        assert groups.stay["head"] == "they are those of the network's output"


def test_which_unit_is_where():
    def units(name, path, axis):
        shape, build, _ = SIMPLE[name]
        return _units(kgp.channel_groups(_model(shape, build)), path, axis)

    # In blocks: for each group of a grouped convolution, for each gate, for each place of a pixel.
    assert units("grouped_conv", "a/kernel", 3) == [0, 1, 2, 3] * 2
    assert units("grouped_conv", "b/kernel", 3) == [0, 1, 2] * 2
    assert units("lstm", "a/cell.kernel", 1) == list(range(6)) * 4
    assert units("pixel_shuffle", "a/kernel", 3) == [0, 1, 2] * 4
    assert units("reshape_to_an_image", "a/kernel", 1) == [0, 1, 2, 3] * 49
    assert units("flatten", "head/kernel", 0) == list(range(8)) * 9
    # One beside the other: channels of a normalization group, and those that a depthwise one makes.
    assert units("group_normalization", "a/kernel", 3) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert units("depthwise_conv", "b/bias", 0) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert units("separable_conv", "b/pointwise_kernel", 2) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


# --- configurations of the smaller layers --------------------------------------------------------


def _configured(name, layer):
    shape, build, _ = SIMPLE[name]
    return _halve(_model(shape, build)).get_layer(layer).get_config()


def test_the_smaller_layers_are_configured_so():
    assert _configured("dense", "a")["units"] == 4
    assert _configured("conv2d", "a")["filters"] == 4
    grouped = _configured("grouped_conv", "b")
    assert (grouped["filters"], grouped["groups"]) == (4, 2)
    assert _configured("conv2d_transpose", "b")["filters"] == 3
    assert _configured("separable_conv", "b")["filters"] == 3
    assert _configured("depthwise_conv", "b")["depth_multiplier"] == 2
    assert _configured("lstm", "a")["units"] == 3
    assert _configured("gru", "a")["units"] == 3
    assert _configured("group_normalization", "n")["groups"] == 2
    assert _configured("instance_normalization", "n")["groups"] == 4
    assert _configured("einsum_of_each_step", "b")["output_shape"] == (3, 3)
    assert _configured("time_distributed", "t")["layer"]["config"]["units"] == 4
    assert _configured("spectral_normalization", "s")["layer"]["config"]["filters"] == 4
    shape, build, _ = SIMPLE["reshape_to_an_image"]
    small = _halve(_model(shape, build))
    reshape = next(x for x in small.layers if isinstance(x, layers.Reshape))
    assert reshape.target_shape == (7, 7, 2)


# --- attention -----------------------------------------------------------------------------------


@pytest.mark.parametrize("use_bias", [True, False])
def test_whole_heads_go(use_bias):
    attention = layers.MultiHeadAttention(4, 3, value_dim=2, use_bias=use_bias, name="m")

    def build(x):
        x = _dense(6, "a")(x)
        return _head(attention(x, x))

    model = _model((5, 7), build)
    groups = kgp.channel_groups(model)
    biases = [f"along m/_{part}_dense.bias.0" for part in ("query", "key", "value")]
    head_parts = [
        "out m/_query_dense.kernel.1",
        "out m/_key_dense.kernel.1",
        "out m/_value_dense.kernel.1",
        *(biases if use_bias else []),
        "in m/_output_dense.kernel.0",
    ]
    last = ["out m/_output_dense.kernel.2", "along m/_output_dense.bias.0", READ]
    read = [f"in m/_{part}_dense.kernel.0" for part in ("query", "key", "value")]
    assert _told(groups) == [
        f"a 6: {OWN}, {', '.join(read)}",
        f"m 4: {', '.join(head_parts)}",
        f"m 6: {', '.join(last if use_bias else [last[0], last[2]])}",
    ]
    small = _halve(model).get_layer("m")
    assert (small.num_heads, small.key_dim, small.value_dim) == (2, 3, 2)
    assert small.get_config()["output_shape"] == (3,)


def test_attention_to_something_else():
    def build(x):
        y = _dense(6, "b")(x)
        return _head(
            layers.MultiHeadAttention(4, 3, name="m")(_dense(8, "a")(x), y[:, :3], y[:, :3])
        )

    model = _model((5, 7), build)
    told = _told(kgp.channel_groups(model))
    assert told[:2] == [
        f"b 6: {OWN.replace('a/', 'b/')}, in m/_key_dense.kernel.0, in m/_value_dense.kernel.0",
        f"a 8: {OWN}, in m/_query_dense.kernel.0",
    ]
    _halve(model)


def test_initial_states_go_with_the_units():
    steps, z = keras.Input((4, 3)), keras.Input((5,))
    states = [_dense(6, name)(z) for name in ("h", "c")]
    x, h, c = layers.LSTM(6, return_sequences=True, return_state=True, name="a")(
        steps, initial_state=states
    )
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model([steps, z], _head(layers.Concatenate()([x, h, c])))
    (line,) = _told(kgp.channel_groups(model))
    assert line.startswith(
        "h 6: out h/kernel.1, along h/bias.0, out c/kernel.1, along c/bias.0, out a/"
    )
    assert line.endswith("in head/kernel.0 x3")
    _halve(model)


# --- embeddings and their masks ------------------------------------------------------------------


def test_embeddings():
    model = _model((4,), _chain(layers.Embedding(7, 8, name="a")), "int32")
    assert _told(kgp.channel_groups(model)) == [f"a 8: out a/embeddings.1, {READ}"]
    small = _halve(model)
    assert small.get_layer("a").output_dim == 4 and small.get_layer("a").input_dim == 7


def test_masked_steps_are_left_out_still():
    stack = [
        layers.Embedding(7, 8, mask_zero=True, name="a"),
        layers.GRU(6, return_sequences=True, name="b"),
        layers.GlobalAveragePooling1D(),
    ]
    model = _model((None,), _chain(*stack), "int32")
    small = _halve(model)
    steps = np.array([[1, 2, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]], "int32")
    np.testing.assert_allclose(small(steps), model(steps), rtol=0, atol=1e-5)
    np.testing.assert_allclose(small(steps[:, :2]), small(steps), rtol=0, atol=1e-5)


@pytest.mark.parametrize("merge", [layers.Add, layers.Average, layers.Concatenate])
def test_masked_steps_through_a_merge(merge):
    def build(x):
        x = layers.Embedding(7, 8, mask_zero=True, name="a")(x)
        y = _dense(8, "b")(x)
        return _head(layers.GlobalAveragePooling1D()(merge()([x, y])))

    _halve(_model((6,), build, "int32"))


# --- merges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("merge", ["Add", "Subtract", "Average", "Maximum", "Minimum", "Multiply"])
def test_what_is_merged_goes_together(merge):
    def build(x):
        return _head(getattr(layers, merge)()([_dense(8, "a")(x), _dense(8, "b")(x)]))

    model = _model((5,), build)
    assert _told(kgp.channel_groups(model)) == [
        f"a 8: {OWN}, out b/kernel.1, along b/bias.0, {READ}"
    ]
    _halve(model)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "maximum", "minimum"])
def test_operations_merge_as_layers_do(name):
    def build(x):
        return _head(getattr(ops, name)(_dense(8, "a")(x), _dense(8, "b")(x)))

    model = _model((5,), build)
    assert _told(kgp.channel_groups(model)) == [
        f"a 8: {OWN}, out b/kernel.1, along b/bias.0, {READ}"
    ]
    _halve(model)


def test_what_is_added_to_an_input_stays():
    model = _model((8,), lambda x: _head(layers.Add()([_dense(8, "a")(x), x])))
    groups = kgp.channel_groups(model)
    assert _told(groups) == [] and groups.stay["a"] == "they meet channels that stay"


def test_what_is_spread_over_channels_stays():
    """A single channel times eight."""

    def build(x):
        return _head(layers.Multiply()([_dense(8, "a")(x), _dense(1, "b")(x)]))

    model = _model((5,), build)
    groups = kgp.channel_groups(model)
    assert _told(groups) == [f"a 8: {OWN}, {READ}"]
    assert groups.stay["b"] == "they are spread over others"
    _halve(model)


def test_a_vector_is_spread_over_places():
    def build(x):
        y = layers.GlobalAveragePooling2D(keepdims=True)(_conv(8, "a")(x))
        return _head(layers.Multiply()([_conv(8, "b")(x), y]))

    model = _model((3, 4, 3), build)
    assert _told(kgp.channel_groups(model)) == [
        f"b 8: {CONV.replace('a/', 'b/')}, {CONV}, {READ}"
    ] or _told(kgp.channel_groups(model)) == [f"a 8: {CONV}, {CONV.replace('a/', 'b/')}, {READ}"]
    _halve(model)


@pytest.mark.parametrize("merge", [layers.Add, layers.Multiply])
def test_what_is_spread_is_not_zero_where_a_channel_is(merge):
    """Behind it, a norm over the channels would be of more than is left."""

    def build(x):
        a = _dense(8, "a", activation="sigmoid" if merge is layers.Multiply else None)(x)
        return _head(layers.UnitNormalization()(merge()([a, _dense(1, "b")(x)])))

    _halve(_model((5,), build))


def test_concatenated_channels_are_counted_on():
    def build(x):
        return _head(layers.Concatenate()([_dense(3, "a")(x), x, _dense(4, "b")(x)]))

    model = _model((5,), build)
    groups = kgp.channel_groups(model)
    assert _told(groups) == [
        f"a 3: {OWN}, {READ}",
        f"b 4: {OWN.replace('a/', 'b/')}, {READ}",
    ]
    assert groups[0].slices[-1].units.tolist() == [0, 1, 2] + [-1] * 9
    assert groups[1].slices[-1].units.tolist() == [-1] * 8 + [0, 1, 2, 3]
    _halve(model)


def test_concatenated_places_go_together():
    def build(x):
        return _head(layers.Concatenate(axis=1)([_dense(4, "a")(x), _dense(4, "b")(x)]))

    model = _model((3, 5), build)
    assert _told(kgp.channel_groups(model)) == [
        f"a 4: {OWN}, out b/kernel.1, along b/bias.0, {READ}"
    ]
    _halve(model)


def test_a_layer_that_is_called_twice():
    def build(x):
        shared = _dense(8, "b")
        return _head(shared(shared(_dense(8, "a")(x))))

    model = _model((5,), build)
    assert _told(kgp.channel_groups(model)) == [
        f"a 8: {OWN}, in b/kernel.0, out b/kernel.1, along b/bias.0, {READ}"
    ]
    _halve(model)


# --- parts ---------------------------------------------------------------------------------------


def test_the_parts_of_a_split_are_counted_anew():
    def build(x):
        first, second, third = ops.split(_dense(9, "a")(x), [2, 5], axis=-1)
        return [_head(first, "x"), _head(second, "y"), _head(third, "z")]

    model = _model((5,), build)
    assert _told(kgp.channel_groups(model)) == [
        f"a {n}: {OWN}, in {head}/kernel.0" for n, head in ((2, "x"), (3, "y"), (4, "z"))
    ]
    small = _halve(model)
    assert [small.get_layer(n).kernel.shape[0] for n in "xyz"] == [1, 2, 2]


def test_the_halves_of_a_gate_go_together():
    def build(x):
        value, gate = ops.split(_dense(8, "a")(x), 2, axis=-1)
        return _head(value * ops.sigmoid(gate))

    model = _model((5,), build)
    groups = kgp.channel_groups(model)
    assert _told(groups) == [f"a 4: out a/kernel.1 x2, along a/bias.0 x2, {READ}"]
    assert _units(groups, "a/kernel", 1) == [0, 1, 2, 3] * 2
    _halve(model)


def test_slices_are_counted_anew():
    def build(x):
        y = _dense(8, "a")(x)
        return [_head(y[:, :3], "x"), _head(y[..., -2:], "y"), _head(y, "z")]

    model = _model((5,), build)
    groups = kgp.channel_groups(model)
    assert _told(groups) == [
        f"a 3: {OWN}, in z/kernel.0, in x/kernel.0",
        f"a 3: {OWN}, in z/kernel.0",
        f"a 2: {OWN}, in z/kernel.0, in y/kernel.0",
    ]
    assert [g.slices[0].units.tolist() for g in groups] == [
        [0, 1, 2, -1, -1, -1, -1, -1],
        [-1, -1, -1, 0, 1, 2, -1, -1],
        [-1, -1, -1, -1, -1, -1, 0, 1],
    ]
    small = _halve(model)
    assert [small.get_layer(n).kernel.shape[0] for n in "xyz"] == [2, 1, 5]


def test_keys_of_slices():
    assert parts_by_axis((Ellipsis, slice(2)), 4) == [slice(None)] * 3 + [slice(2)]
    assert parts_by_axis(0, 2) == [0, slice(None)]
    assert parts_by_axis((slice(None), None, slice(1)), 2) == [slice(None), None, slice(1)]
    assert parts_by_axis(([0, 1],), 2) is None
    kept = np.array([1, 0, 1, 1, 0, 1], bool)

    def cut(key):
        return cut_key(key, 2, lambda axis: kept if axis == 1 else None)

    assert cut((slice(None), slice(1, 4))) == (slice(None), slice(1, 3))
    assert cut((Ellipsis, slice(-2, None))) == (slice(None), slice(3, 4))
    assert cut((slice(0, 2), None)) == (slice(0, 2), None, slice(None))


# --- axes that change places ---------------------------------------------------------------------


def test_channels_that_become_steps_stay():
    model = _model((4, 5), _chain(_dense(8, "a"), layers.Permute((2, 1)), layers.LSTM(3, name="b")))
    groups = kgp.channel_groups(model)
    assert [g.name for g in groups] == ["b"]
    assert groups.stay["a"] == "they are steps in time"


def test_a_dense_layer_runs_over_the_last_axis():
    stack = [_dense(8, "a"), layers.Permute((2, 1)), _dense(7, "b"), layers.Flatten()]
    model = _model((4, 5), _chain(*stack))
    groups = kgp.channel_groups(model)
    assert _told(groups) == [f"b 7: {OWN.replace('a/', 'b/')}, {READ} x8"]
    assert groups.stay["a"] == "'b' runs over them"
    _halve(model)


def test_sizes_that_are_not_known():
    def build(x):
        y = layers.Reshape((-1, 8))(_conv(8, "a", 3)(x))
        return _head(y)

    model = _model((None, None, 3), build)
    assert _told(kgp.channel_groups(model)) == [f"a 8: {CONV}, {READ}"]
    _halve(model)


def test_steps_that_a_batch_takes_in():
    """(b, 3, 8) -> (3 b, 8): the last axis is the same one."""

    def build(x):
        return _head(ops.reshape(_dense(8, "a")(x), (-1, 8)))

    model = _model((3, 5), build)
    assert _told(kgp.channel_groups(model)) == [f"a 8: {OWN}, {READ}"]
    _halve(model)


def test_the_bias_of_an_einsum_may_skip_axes():
    build = _chain(
        layers.EinsumDense("abc,cd->adb", (6, 4), bias_axes="d", name="a"), layers.Flatten()
    )
    model = _model((4, 5), build)
    assert _told(kgp.channel_groups(model)) == [f"a 6: {OWN}, {READ} x4"]
    _halve(model)


# --- operations without a rule -------------------------------------------------------------------


def test_padding_by_an_operation_is_followed():
    def build(x):
        x = _conv(8, "a")(x)
        x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        return _head(_conv(6, "b", 3)(x))

    model = _model((4, 4, 3), build)
    assert [group.size for group in kgp.channel_groups(model)] == [8, 6]
    _halve(model)


def test_channels_stay_that_reach_an_operation_without_a_rule():
    def build(x):
        x = _conv(8, "a")(x)
        return _head(_conv(6, "b")(ops.roll(x, 1, axis=1)))

    model = _model((4, 4, 3), build)
    groups = kgp.channel_groups(model)
    assert [group.name for group in groups] == ["b"]
    assert "is an operation without a rule" in groups.stay["a"]
    _halve(model)


# --- the small parts -----------------------------------------------------------------------------


def test_activations_are_asked():
    activations = keras.activations
    for name in ("relu", "gelu", "tanh", "silu", "leaky_relu", "softsign", "hard_tanh"):
        assert acts_alone(activations.get(name)) and keeps_zero(activations.get(name)), name
    for name in ("sigmoid", "softplus", "exponential"):
        assert acts_alone(activations.get(name)) and not keeps_zero(activations.get(name)), name
    for function in (
        activations.softmax,
        activations.log_softmax,
        lambda x: x[:, :1],
        lambda x: 1 / 0,
    ):
        assert not acts_alone(function)


def test_units_in_classes():
    units = Units()
    a, b, c = units.new(4), units.new(4), units.new(2)
    units.tie(a, b)
    assert units.find(a).tolist() == units.find(b).tolist() == a.tolist()
    units.tie(a[:2], c[::-1])
    assert units.find(c).tolist() == [a[1], a[0]]
    units.tie(np.array([c[0]]), a[2:])  # one with several, at once
    assert len({*units.find(a[1:]).tolist()}) == 1
    assert units.find(a)[0] == a[0]
    units.fix(b[3:])
    assert units.find(a).tolist() == [a[0], FIXED, FIXED, FIXED]
    assert len(units) == 11


def test_classes_are_those_of_a_graph():
    """As networkx would find them: flood from each label, by the pairs that were tied."""
    rng = np.random.default_rng(0)
    units = Units()
    labels = units.new(60)
    pairs = rng.integers(0, len(labels), (45, 2))
    for part in np.split(pairs, 9):
        units.tie(labels[part[:, 0]], labels[part[:, 1]])
    reach = np.eye(60, dtype=bool)
    reach[pairs[:, 0], pairs[:, 1]] = reach[pairs[:, 1], pairs[:, 0]] = True
    for _ in range(6):
        reach = reach @ reach
    found = units.find(labels)
    assert np.array_equal(found[:, None] == found[None], reach)


def test_axes_that_do_not_match():
    model = _model((5,), _chain(_dense(8, "a")))
    channels = kgp.channel_groups(model).channels
    with pytest.raises(InvalidArgumentError, match=r"equally many channels\. Received: 2 and 3"):
        channels.tie(np.array([1, 2]), np.array([1, 2, 3]))
