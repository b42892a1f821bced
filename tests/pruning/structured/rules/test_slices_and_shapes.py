"""The rules of splits, slices, reshapes and transposes, and operations without a rule."""

import numpy as np
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
from keras_ganprune.pruning.structured.rules.slices import cut_key, parts_by_axis

# --- parts ---------------------------------------------------------------------------------------


def test_the_parts_of_a_split_are_counted_anew():
    def build(x):
        first, second, third = ops.split(dense(9, "a")(x), [2, 5], axis=-1)
        return [head(first, "x"), head(second, "y"), head(third, "z")]

    model = model_of((5,), build)
    assert described(kgp.channel_groups(model)) == [
        f"a {n}: {OWN}, in {head}/kernel.0" for n, head in ((2, "x"), (3, "y"), (4, "z"))
    ]
    small = assert_cut_gives_the_same(model)
    assert [small.get_layer(n).kernel.shape[0] for n in "xyz"] == [1, 2, 2]


def test_the_halves_of_a_gate_go_together():
    def build(x):
        value, gate = ops.split(dense(8, "a")(x), 2, axis=-1)
        return head(value * ops.sigmoid(gate))

    model = model_of((5,), build)
    groups = kgp.channel_groups(model)
    assert described(groups) == [f"a 4: out a/kernel.1 x2, along a/bias.0 x2, {READ}"]
    assert units_along(groups, "a/kernel", 1) == [0, 1, 2, 3] * 2
    assert_cut_gives_the_same(model)


def test_slices_are_counted_anew():
    def build(x):
        y = dense(8, "a")(x)
        return [head(y[:, :3], "x"), head(y[..., -2:], "y"), head(y, "z")]

    model = model_of((5,), build)
    groups = kgp.channel_groups(model)
    assert described(groups) == [
        f"a 3: {OWN}, in z/kernel.0, in x/kernel.0",
        f"a 3: {OWN}, in z/kernel.0",
        f"a 2: {OWN}, in z/kernel.0, in y/kernel.0",
    ]
    assert [g.slices[0].units.tolist() for g in groups] == [
        [0, 1, 2, -1, -1, -1, -1, -1],
        [-1, -1, -1, 0, 1, 2, -1, -1],
        [-1, -1, -1, -1, -1, -1, 0, 1],
    ]
    small = assert_cut_gives_the_same(model)
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
    model = model_of((4, 5), chain(dense(8, "a"), layers.Permute((2, 1)), layers.LSTM(3, name="b")))
    groups = kgp.channel_groups(model)
    assert [g.name for g in groups] == ["b"]
    assert groups.stay["a"] == "they are steps in time"


def test_a_dense_layer_runs_over_the_last_axis():
    stack = [dense(8, "a"), layers.Permute((2, 1)), dense(7, "b"), layers.Flatten()]
    model = model_of((4, 5), chain(*stack))
    groups = kgp.channel_groups(model)
    assert described(groups) == [f"b 7: {OWN.replace('a/', 'b/')}, {READ} x8"]
    assert groups.stay["a"] == "'b' runs over them"
    assert_cut_gives_the_same(model)


def test_sizes_that_are_not_known():
    def build(x):
        y = layers.Reshape((-1, 8))(conv(8, "a", 3)(x))
        return head(y)

    model = model_of((None, None, 3), build)
    assert described(kgp.channel_groups(model)) == [f"a 8: {CONV}, {READ}"]
    assert_cut_gives_the_same(model)


def test_steps_that_a_batch_takes_in():
    """(b, 3, 8) -> (3 b, 8): the last axis is the same one."""

    def build(x):
        return head(ops.reshape(dense(8, "a")(x), (-1, 8)))

    model = model_of((3, 5), build)
    assert described(kgp.channel_groups(model)) == [f"a 8: {OWN}, {READ}"]
    assert_cut_gives_the_same(model)


def test_the_bias_of_an_einsum_may_skip_axes():
    build = chain(
        layers.EinsumDense("abc,cd->adb", (6, 4), bias_axes="d", name="a"), layers.Flatten()
    )
    model = model_of((4, 5), build)
    assert described(kgp.channel_groups(model)) == [f"a 6: {OWN}, {READ} x4"]
    assert_cut_gives_the_same(model)


# --- operations without a rule -------------------------------------------------------------------


def test_padding_by_an_operation_is_followed():
    def build(x):
        x = conv(8, "a")(x)
        x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        return head(conv(6, "b", 3)(x))

    model = model_of((4, 4, 3), build)
    assert [group.size for group in kgp.channel_groups(model)] == [8, 6]
    assert_cut_gives_the_same(model)


def test_channels_stay_that_reach_an_operation_without_a_rule():
    def build(x):
        x = conv(8, "a")(x)
        return head(conv(6, "b")(ops.roll(x, 1, axis=-1)))

    model = model_of((4, 4, 3), build)
    groups = kgp.channel_groups(model)
    assert [group.name for group in groups] == ["b"]
    assert "'roll' mixes them" in groups.stay["a"]
    assert_cut_gives_the_same(model)
