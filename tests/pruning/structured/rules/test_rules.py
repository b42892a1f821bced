"""The rule of each layer, in a network whose groups are known by hand. The network is cut, too."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops
from rule_networks import (
    CONV,
    OWN,
    READ,
    assert_cut_gives_the_same,
    chain,
    conv,
    dense,
    described,
    head,
    model_of,
    units_along,
)

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError

# --- one layer, one line -------------------------------------------------------------------------

SIMPLE = {
    "dense": ((5,), chain(dense(8, "a")), [f"a 8: {OWN}, {READ}"]),
    "dense_without_bias": (
        (5,),
        chain(dense(8, "a", use_bias=False)),
        [f"a 8: out a/kernel.1, {READ}"],
    ),
    "dense_over_a_sequence": ((4, 5), chain(dense(8, "a")), [f"a 8: {OWN}, {READ}"]),
    "dense_with_a_softmax": ((5,), chain(dense(8, "a", activation="softmax")), []),
    "conv2d": ((4, 4, 3), chain(conv(8, "a", 3)), [f"a 8: {CONV}, {READ}"]),
    "conv1d": (
        (6, 3),
        chain(layers.Conv1D(8, 3, name="a", padding="causal", dilation_rate=2)),
        [f"a 8: out a/kernel.2, along a/bias.0, {READ}"],
    ),
    "conv3d": (
        (3, 3, 3, 2),
        chain(layers.Conv3D(6, 2, name="a")),
        [f"a 6: out a/kernel.4, along a/bias.0, {READ}"],
    ),
    "grouped_conv": (
        (4, 4, 3),
        chain(conv(8, "a"), conv(6, "b", 3, groups=2)),
        [
            "a 4: out a/kernel.3 x2, along a/bias.0 x2, in b/kernel.2",
            f"b 3: out b/kernel.3 x2, along b/bias.0 x2, {READ} x2",
        ],
    ),
    "conv1d_transpose": (
        (4, 3),
        chain(layers.Conv1D(5, 1, name="a"), layers.Conv1DTranspose(6, 3, strides=2, name="b")),
        [
            "a 5: out a/kernel.2, along a/bias.0, in b/kernel.2",
            f"b 6: out b/kernel.1, along b/bias.0, {READ}",
        ],
    ),
    "conv2d_transpose": (
        (4, 4, 3),
        chain(conv(5, "a"), layers.Conv2DTranspose(6, 3, strides=2, name="b")),
        [f"a 5: {CONV}, in b/kernel.3", f"b 6: out b/kernel.2, along b/bias.0, {READ}"],
    ),
    "conv3d_transpose": (
        (2, 2, 2, 3),
        chain(layers.Conv3DTranspose(6, 2, name="a")),
        [f"a 6: out a/kernel.3, along a/bias.0, {READ}"],
    ),
    "depthwise_conv": (
        (4, 4, 3),
        chain(conv(5, "a"), layers.DepthwiseConv2D(3, name="b", depth_multiplier=2)),
        [f"a 5: {CONV}, along b/kernel.2, along b/bias.0 x2, {READ} x2"],
    ),
    "depthwise_conv1d": (
        (6, 3),
        chain(layers.Conv1D(5, 1, name="a"), layers.DepthwiseConv1D(3, name="b")),
        [
            "a 5: out a/kernel.2, along a/bias.0, along b/kernel.1, along b/bias.0, "
            f"{READ}"
        ],
    ),
    "separable_conv": (
        (4, 4, 3),
        chain(conv(5, "a"), layers.SeparableConv2D(6, 3, name="b", depth_multiplier=2)),
        [
            f"a 5: {CONV}, along b/depthwise_kernel.2, in b/pointwise_kernel.2 x2",
            f"b 6: out b/pointwise_kernel.3, along b/bias.0, {READ}",
        ],
    ),
    "separable_conv1d": (
        (6, 3),
        chain(layers.Conv1D(5, 1, name="a"), layers.SeparableConv1D(6, 3, name="b")),
        [
            "a 5: out a/kernel.2, along a/bias.0, along b/depthwise_kernel.1, in b/pointwise_kernel.1",
            f"b 6: out b/pointwise_kernel.2, along b/bias.0, {READ}",
        ],
    ),
    "batch_normalization": (
        (5,),
        chain(dense(8, "a"), layers.BatchNormalization(name="n")),
        [
            f"a 8: {OWN}, along n/gamma.0, along n/beta.0, mean n/moving_mean.0, "
            f"state n/moving_variance.0, {READ}"
        ],
    ),
    "batch_normalization_without_scale": (
        (5,),
        chain(dense(8, "a"), layers.BatchNormalization(name="n", scale=False, center=False)),
        [f"a 8: {OWN}, mean n/moving_mean.0, state n/moving_variance.0, {READ}"],
    ),
    "group_normalization": (
        (3, 3, 3),
        chain(conv(8, "a"), layers.GroupNormalization(4, name="n")),
        [f"a 4: {CONV} x2, along n/gamma.0 x2, along n/beta.0 x2, {READ} x2".replace(
            "kernel.3, along a/bias.0 x2", "kernel.3 x2, along a/bias.0 x2"
        )],
    ),
    "instance_normalization": (
        (3, 3, 3),
        chain(conv(8, "a"), layers.GroupNormalization(-1, name="n")),
        [f"a 8: {CONV}, along n/gamma.0, along n/beta.0, {READ}"],
    ),
    "layer_normalization": ((5,), chain(dense(8, "a"), layers.LayerNormalization()), []),
    "layer_normalization_over_places": (
        (3, 3, 3),
        chain(conv(8, "a"), layers.LayerNormalization(axis=(1, 2), name="n")),
        [f"a 8: {CONV}, {READ}"],
    ),
    "unit_normalization": (
        (5,),
        chain(dense(8, "a"), layers.UnitNormalization()),
        [f"a 8: {OWN}, {READ}"],
    ),
    "unit_normalization_of_what_is_not_zero": (
        (5,),
        chain(dense(8, "a", activation="sigmoid"), layers.UnitNormalization()),
        [],
    ),
    "prelu": (
        (3, 4, 3),
        chain(conv(8, "a"), layers.PReLU(name="p")),
        [f"a 8: {CONV}, along p/alpha.2, {READ}"],
    ),
    "prelu_shared": (
        (3, 4, 3),
        chain(conv(8, "a"), layers.PReLU(name="p", shared_axes=[1, 2])),
        [f"a 8: {CONV}, along p/alpha.2, {READ}"],
    ),
    "prelu_shared_by_channels": (
        (3, 4, 3),
        chain(conv(8, "a"), layers.PReLU(name="p", shared_axes=[3])),
        [f"a 8: {CONV}, {READ}"],
    ),
    "softmax": ((5,), chain(dense(8, "a"), layers.Softmax()), []),
    "softmax_of_ops": ((5,), chain(dense(8, "a"), ops.softmax), []),
    "entry_by_entry": (
        (3, 3, 3),
        chain(
            conv(8, "a"),
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
        chain(
            conv(8, "a"),
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
        chain(
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
        chain(conv(8, "a"), layers.GlobalAveragePooling2D(keepdims=True)),
        [f"a 8: {CONV}, {READ}"],
    ),
    "channels_first": (
        (3, 3, 3),
        chain(
            conv(8, "a"),
            layers.Permute((3, 1, 2)),
            layers.BatchNormalization(axis=1, scale=False, center=False, name="n"),
            layers.GlobalAveragePooling2D(data_format="channels_first"),
        ),
        [f"a 8: {CONV}, mean n/moving_mean.0, state n/moving_variance.0, {READ}"],
    ),
    "flatten": ((3, 3, 3), chain(conv(8, "a"), layers.Flatten()), [f"a 8: {CONV}, {READ} x9"]),
    "flatten_channels_first": (
        (3, 3, 3),
        chain(
            conv(8, "a"),
            layers.Permute((3, 1, 2)),
            layers.Flatten(data_format="channels_first"),
        ),
        [f"a 8: {CONV}, {READ} x9"],
    ),
    "reshape_to_an_image": (
        (5,),
        chain(dense(7 * 7 * 4, "a"), layers.Reshape((7, 7, 4)), conv(6, "b", 3)),
        [
            "a 4: out a/kernel.1 x49, along a/bias.0 x49, in b/kernel.2",
            f"b 6: out b/kernel.3, along b/bias.0, {READ}",
        ],
    ),
    "reshape_to_one_channel": (
        (5,),
        chain(dense(16, "a"), layers.Reshape((4, 4, 1)), conv(6, "b", 3)),
        [f"b 6: out b/kernel.3, along b/bias.0, {READ}"],
    ),
    "repeat_vector": (
        (5,),
        chain(dense(8, "a"), layers.RepeatVector(3)),
        [f"a 8: {OWN}, {READ}"],
    ),
    "time_distributed": (
        (4, 5),
        chain(
            layers.TimeDistributed(dense(8, "a"), name="t"), layers.TimeDistributed(layers.Dropout(0.5))
        ),
        [f"t/a 8: out t/a/kernel.1, along t/a/bias.0, {READ}"],
    ),
    "spectral_normalization": (
        (4, 4, 3),
        chain(layers.SpectralNormalization(conv(8, "a"), name="s")),
        [f"s/a 8: out s/a/kernel.3, along s/a/bias.0, state s/vector_u.1, {READ}"],
    ),
    # The last axis of this kernel is what it reads.
    "spectral_normalization_transposed": (
        (4, 4, 3),
        chain(
            conv(5, "a"),
            layers.SpectralNormalization(layers.Conv2DTranspose(8, 2, name="b"), name="s"),
        ),
        [
            f"a 5: {CONV}, in s/b/kernel.3, state s/vector_u.1",
            f"s/b 8: out s/b/kernel.2, along s/b/bias.0, {READ}",
        ],
    ),
    "lstm": (
        (4, 5),
        chain(layers.LSTM(6, name="a")),
        [
            "a 6: out a/cell.kernel.1 x4, out a/cell.recurrent_kernel.1 x4, "
            f"in a/cell.recurrent_kernel.0, along a/cell.bias.0 x4, {READ}"
        ],
    ),
    "gru": (
        (4, 5),
        chain(dense(8, "d"), layers.GRU(6, name="a", return_sequences=True)),
        [
            "d 8: out d/kernel.1, along d/bias.0, in a/cell.kernel.0",
            "a 6: out a/cell.kernel.1 x3, out a/cell.recurrent_kernel.1 x3, "
            f"in a/cell.recurrent_kernel.0, along a/cell.bias.1 x3, {READ}",
        ],
    ),
    "simple_rnn": (
        (4, 5),
        chain(layers.SimpleRNN(6, name="a", use_bias=False, activation="sigmoid")),
        [
            "a 6: out a/cell.kernel.1, out a/cell.recurrent_kernel.1, in a/cell.recurrent_kernel.0, "
            f"{READ}"
        ],
    ),
    "bidirectional": ((4, 5), chain(layers.Bidirectional(layers.LSTM(3))), []),
    "einsum": (
        (5,),
        chain(layers.EinsumDense("ab,bc->ac", 8, bias_axes="c", name="a")),
        [f"a 8: {OWN}, {READ}"],
    ),
    "einsum_with_dots": (
        (3, 5),
        chain(dense(8, "a"), layers.EinsumDense("...c,cd->...d", 6, bias_axes="d", name="b")),
        [f"a 8: {OWN}, in b/kernel.0", f"b 6: out b/kernel.1, along b/bias.0, {READ}"],
    ),
    "einsum_of_each_step": (
        (3, 5),
        chain(dense(8, "a"), layers.EinsumDense("abc,bcd->abd", (3, 6), bias_axes="bd", name="b")),
        [f"a 8: {OWN}, in b/kernel.1", f"b 6: out b/kernel.2, along b/bias.1, {READ}"],
    ),
    "pixel_shuffle": (
        (3, 3, 3),
        chain(
            conv(12, "a"),
            lambda x: ops.reshape(x, (-1, 3, 3, 2, 2, 3)),
            lambda x: ops.transpose(x, (0, 1, 3, 2, 4, 5)),
            lambda x: ops.reshape(x, (-1, 6, 6, 3)),
        ),
        [f"a 3: out a/kernel.3 x4, along a/bias.0 x4, {READ}"],
    ),
    "mean": (
        (3, 3, 3),
        chain(conv(8, "a"), lambda x: ops.mean(x, axis=(1, 2))),
        [f"a 8: {CONV}, {READ}"],
    ),
    "mean_over_channels": (
        (3, 3, 3),
        chain(conv(8, "a"), lambda x: ops.mean(x, axis=-1, keepdims=True)),
        [],
    ),
    "axes_of_length_one": (
        (5,),
        chain(
            dense(8, "a"),
            lambda x: ops.expand_dims(x, 1),
            lambda x: ops.swapaxes(x, 1, 2),
            lambda x: ops.squeeze(x, axis=-1),
        ),
        [f"a 8: {OWN}, {READ}"],
    ),
    # A variance of zero plus an epsilon is not zero; one by itself is.
    "divided": (
        (3, 3, 3),
        chain(
            conv(8, "a"),
            lambda x: x / ops.sqrt(ops.var(x, axis=(1, 2), keepdims=True) + 1e-3),
        ),
        [f"a 8: {CONV}, {READ}"],
    ),
    "divided_by_what_may_be_zero": (
        (3, 3, 3),
        chain(conv(8, "a"), lambda x: x / ops.std(x, axis=(1, 2), keepdims=True)),
        [],
    ),
    "powers": (
        (5,),
        chain(dense(8, "a"), ops.square, lambda x: ops.power(x, 0.5)),
        [f"a 8: {OWN}, {READ}"],
    ),
    "negative_power": ((5,), chain(dense(8, "a", activation="exponential"), lambda x: x**-1.0), []),
    "constant": (
        (5,),
        chain(dense(8, "a"), lambda x: x * np.arange(8, dtype="float32")),
        [],
    ),
    "step": ((5,), chain(dense(8, "a"), lambda x: x[:, ::2]), []),
    "one_picked": ((4, 5), chain(dense(8, "a"), lambda x: x[:, -1]), [f"a 8: {OWN}, {READ}"]),
    "attention": (
        (4, 5),
        lambda x: head(layers.Attention()([dense(8, "a")(x), dense(8, "b")(x)])),
        [],
    ),
    "dot": ((5,), lambda x: head(layers.Dot(1)([dense(8, "a")(x), dense(8, "b")(x)])), []),
}  # fmt: skip


# Variants of rules that another row covers.
FULL = {
    "dense_without_bias",
    "dense_over_a_sequence",
    "conv1d",
    "conv3d",
    "conv1d_transpose",
    "conv3d_transpose",
    "depthwise_conv1d",
    "separable_conv1d",
    "batch_normalization_without_scale",
    "layer_normalization_over_places",
    "unit_normalization",
    "prelu",
    "prelu_shared_by_channels",
    "softmax_of_ops",
    "space_1d",
    "flatten_channels_first",
    "reshape_to_one_channel",
    "repeat_vector",
    "spectral_normalization",
    "gru",
    "simple_rnn",
    "bidirectional",
    "einsum_with_dots",
    "mean",
    "axes_of_length_one",
    "powers",
    "step",
    "attention",
}
EACH_LAYER = [pytest.param(name, marks=pytest.mark.full if name in FULL else ()) for name in SIMPLE]


@pytest.mark.parametrize("name", EACH_LAYER)
def test_one_layer(name):
    if name == "layer_normalization_over_places" and keras.backend.backend() == "torch":
        pytest.skip("Keras normalizes over the last axes only there")
    shape, build, expected = SIMPLE[name]
    model = model_of(shape, build)
    lines = described(kgp.channel_groups(model))
    assert lines == expected
    if lines:
        small = assert_cut_gives_the_same(model)
        assert small.count_params() < model.count_params()
    else:
        assert assert_cut_gives_the_same(model).count_params() == model.count_params()


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
        groups = kgp.channel_groups(model_of(shape, build))
        assert re.fullmatch(reason, groups.stay["a"]), (name, groups.stay)
        assert groups.stay["head"] == "they are those of the network's output"


def test_which_unit_is_where():
    def units(name, path, axis):
        shape, build, _ = SIMPLE[name]
        return units_along(kgp.channel_groups(model_of(shape, build)), path, axis)

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
    return assert_cut_gives_the_same(model_of(shape, build)).get_layer(layer).get_config()


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
    small = assert_cut_gives_the_same(model_of(shape, build))
    reshape = next(x for x in small.layers if isinstance(x, layers.Reshape))
    assert reshape.target_shape == (7, 7, 2)


# --- the small parts -----------------------------------------------------------------------------


def test_axes_that_do_not_match():
    model = model_of((5,), chain(dense(8, "a")))
    channels = kgp.channel_groups(model).channels
    with pytest.raises(InvalidArgumentError, match=r"equally many channels\. Received: 2 and 3"):
        channels.tie(np.array([1, 2]), np.array([1, 2, 3]))
