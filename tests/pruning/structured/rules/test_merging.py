"""The rules of layers and operations that merge tensors, and of attention and sequences."""

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
)

import keras_ganprune as kgp

# --- attention -----------------------------------------------------------------------------------


@pytest.mark.parametrize("use_bias", [True, False])
def test_whole_heads_go(use_bias):
    attention = layers.MultiHeadAttention(4, 3, value_dim=2, use_bias=use_bias, name="m")

    def build(x):
        x = dense(6, "a")(x)
        return head(attention(x, x))

    model = model_of((5, 7), build)
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
    assert described(groups) == [
        f"a 6: {OWN}, {', '.join(read)}",
        f"m 4: {', '.join(head_parts)}",
        f"m 6: {', '.join(last if use_bias else [last[0], last[2]])}",
    ]
    small = assert_cut_gives_the_same(model).get_layer("m")
    assert (small.num_heads, small.key_dim, small.value_dim) == (2, 3, 2)
    assert small.get_config()["output_shape"] == (3,)


def test_attention_to_something_else():
    def build(x):
        y = dense(6, "b")(x)
        return head(layers.MultiHeadAttention(4, 3, name="m")(dense(8, "a")(x), y[:, :3], y[:, :3]))

    model = model_of((5, 7), build)
    lines = described(kgp.channel_groups(model))
    assert lines[:2] == [
        f"b 6: {OWN.replace('a/', 'b/')}, in m/_key_dense.kernel.0, in m/_value_dense.kernel.0",
        f"a 8: {OWN}, in m/_query_dense.kernel.0",
    ]
    assert_cut_gives_the_same(model)


def test_initial_states_go_with_the_units():
    steps, z = keras.Input((4, 3)), keras.Input((5,))
    states = [dense(6, name)(z) for name in ("h", "c")]
    x, h, c = layers.LSTM(6, return_sequences=True, return_state=True, name="a")(
        steps, initial_state=states
    )
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model([steps, z], head(layers.Concatenate()([x, h, c])))
    (line,) = described(kgp.channel_groups(model))
    assert line.startswith(
        "h 6: out h/kernel.1, along h/bias.0, out c/kernel.1, along c/bias.0, out a/"
    )
    assert line.endswith("in head/kernel.0 x3")
    assert_cut_gives_the_same(model)


# --- embeddings and their masks ------------------------------------------------------------------


def test_embeddings():
    model = model_of((4,), chain(layers.Embedding(7, 8, name="a")), "int32")
    assert described(kgp.channel_groups(model)) == [f"a 8: out a/embeddings.1, {READ}"]
    small = assert_cut_gives_the_same(model)
    assert small.get_layer("a").output_dim == 4 and small.get_layer("a").input_dim == 7


def test_masked_steps_are_left_out_still():
    stack = [
        layers.Embedding(7, 8, mask_zero=True, name="a"),
        layers.GRU(6, return_sequences=True, name="b"),
        layers.GlobalAveragePooling1D(),
    ]
    model = model_of((None,), chain(*stack), "int32")
    small = assert_cut_gives_the_same(model)
    steps = np.array([[1, 2, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]], "int32")
    one, other, fewer = map(ops.convert_to_numpy, (model(steps), small(steps), small(steps[:, :2])))
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)
    np.testing.assert_allclose(fewer, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("merge", [layers.Add, layers.Average, layers.Concatenate])
def test_masked_steps_through_a_merge(merge):
    def build(x):
        x = layers.Embedding(7, 8, mask_zero=True, name="a")(x)
        y = dense(8, "b")(x)
        return head(layers.GlobalAveragePooling1D()(merge()([x, y])))

    assert_cut_gives_the_same(model_of((6,), build, "int32"))


# --- merges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("merge", ["Add", "Subtract", "Average", "Maximum", "Minimum", "Multiply"])
def test_what_is_merged_goes_together(merge):
    def build(x):
        return head(getattr(layers, merge)()([dense(8, "a")(x), dense(8, "b")(x)]))

    model = model_of((5,), build)
    assert described(kgp.channel_groups(model)) == [
        f"a 8: {OWN}, out b/kernel.1, along b/bias.0, {READ}"
    ]
    assert_cut_gives_the_same(model)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "maximum", "minimum"])
def test_operations_merge_as_layers_do(name):
    def build(x):
        return head(getattr(ops, name)(dense(8, "a")(x), dense(8, "b")(x)))

    model = model_of((5,), build)
    assert described(kgp.channel_groups(model)) == [
        f"a 8: {OWN}, out b/kernel.1, along b/bias.0, {READ}"
    ]
    assert_cut_gives_the_same(model)


def test_what_is_added_to_an_input_stays():
    model = model_of((8,), lambda x: head(layers.Add()([dense(8, "a")(x), x])))
    groups = kgp.channel_groups(model)
    assert described(groups) == [] and groups.stay["a"] == "they meet channels that stay"


def test_what_is_spread_over_channels_stays():
    """A single channel times eight."""

    def build(x):
        return head(layers.Multiply()([dense(8, "a")(x), dense(1, "b")(x)]))

    model = model_of((5,), build)
    groups = kgp.channel_groups(model)
    assert described(groups) == [f"a 8: {OWN}, {READ}"]
    assert groups.stay["b"] == "they are spread over others"
    assert_cut_gives_the_same(model)


def test_a_vector_is_spread_over_places():
    def build(x):
        y = layers.GlobalAveragePooling2D(keepdims=True)(conv(8, "a")(x))
        return head(layers.Multiply()([conv(8, "b")(x), y]))

    model = model_of((3, 4, 3), build)
    assert described(kgp.channel_groups(model)) == [
        f"b 8: {CONV.replace('a/', 'b/')}, {CONV}, {READ}"
    ] or described(kgp.channel_groups(model)) == [
        f"a 8: {CONV}, {CONV.replace('a/', 'b/')}, {READ}"
    ]
    assert_cut_gives_the_same(model)


@pytest.mark.parametrize("merge", [layers.Add, layers.Multiply])
def test_what_is_spread_is_not_zero_where_a_channel_is(merge):
    """Behind it, a norm over the channels would be of more than is left."""

    def build(x):
        a = dense(8, "a", activation="sigmoid" if merge is layers.Multiply else None)(x)
        return head(layers.UnitNormalization()(merge()([a, dense(1, "b")(x)])))

    assert_cut_gives_the_same(model_of((5,), build))


def test_concatenated_channels_are_counted_on():
    def build(x):
        return head(layers.Concatenate()([dense(3, "a")(x), x, dense(4, "b")(x)]))

    model = model_of((5,), build)
    groups = kgp.channel_groups(model)
    assert described(groups) == [
        f"a 3: {OWN}, {READ}",
        f"b 4: {OWN.replace('a/', 'b/')}, {READ}",
    ]
    assert groups[0].slices[-1].units.tolist() == [0, 1, 2] + [-1] * 9
    assert groups[1].slices[-1].units.tolist() == [-1] * 8 + [0, 1, 2, 3]
    assert_cut_gives_the_same(model)


def test_concatenated_places_go_together():
    def build(x):
        return head(layers.Concatenate(axis=1)([dense(4, "a")(x), dense(4, "b")(x)]))

    model = model_of((3, 5), build)
    assert described(kgp.channel_groups(model)) == [
        f"a 4: {OWN}, out b/kernel.1, along b/bias.0, {READ}"
    ]
    assert_cut_gives_the_same(model)


def test_a_layer_that_is_called_twice():
    def build(x):
        shared = dense(8, "b")
        return head(shared(shared(dense(8, "a")(x))))

    model = model_of((5,), build)
    assert described(kgp.channel_groups(model)) == [
        f"a 8: {OWN}, in b/kernel.0, out b/kernel.1, along b/bias.0, {READ}"
    ]
    assert_cut_gives_the_same(model)
