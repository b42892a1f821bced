"""The unit of pruning: pooling scores, expanding kept units, patterns and ragged edges.

The oracles loop over units one by one; the code under test has no such loop.
"""

import itertools
import json

import keras
import numpy as np
import pytest

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.layers.kernel_axes import KernelAxes
from keras_ganprune.pruning import granularity
from keras_ganprune.pruning.granularity import NM, Block, Channel, Granularity, Unstructured

SHAPES = [(5,), (8,), (4, 6), (7, 5), (1, 9), (2, 3, 4), (3, 2, 5, 7)]
DENSE = KernelAxes((-2,), (-1,))


def rng(*seed):
    return np.random.default_rng(seed)


def fits(unit, shape):
    try:
        unit.check(shape)
    except InvalidArgumentError:
        return False
    return True


UNITS = [
    Unstructured(),
    NM(2, 4, axis=-1),
    Block((2,)),
    Block((1, 4), "max"),
    Block((2, 3)),
    Block((2, 2), "max"),
    Block((2, 1, 5)),
    Channel(0),
    Channel(-1),
    Channel((-2, -1)),
    Channel((0, -1)),
]


def pairs():
    """Return all pairs of a unit and a shape that fit; by default two shapes per unit run."""
    for unit in UNITS:
        fitting = [shape for shape in SHAPES if fits(unit, shape)]
        for shape in fitting:
            by_default = shape in (fitting[0], fitting[-1])
            marks = () if by_default else (pytest.mark.full,)
            yield pytest.param(unit, shape, marks=marks, id=f"{unit}-{shape}")


each_pair = pytest.mark.parametrize(("unit", "shape"), list(pairs()))


def cells_of_units(unit, shape):
    """Return for each unit, in the order of `pool`, the indices of its weights."""
    rank = len(shape)
    if isinstance(unit, Channel):
        axes = [a % rank for a in (unit.axis if isinstance(unit.axis, tuple) else (unit.axis,))]
        sizes = [1 if axis in axes else n for axis, n in enumerate(shape)]
    else:
        sizes = [1] * rank
        if isinstance(unit, Block):
            # Of a block with more axes than the kernel, the last ones count.
            block = unit.shape[max(len(unit.shape) - rank, 0) :]
            sizes[rank - len(block) :] = block
    units = {}
    for cell in itertools.product(*map(range, shape)):
        units.setdefault(tuple(i // n for i, n in zip(cell, sizes, strict=True)), []).append(cell)
    return [units[key] for key in sorted(units)]


# ---- all granularities against brute force ----


@each_pair
def test_pool_against_loops(unit, shape):
    scores = rng(1).random(shape, dtype=np.float32)
    combine = {"mean": np.mean, "max": np.max}.get(getattr(unit, "pooling", None), np.sum)
    want = [
        combine([np.float64(scores[c]) for c in cells]) for cells in cells_of_units(unit, shape)
    ]
    np.testing.assert_allclose(unit.pool(scores).reshape(-1), want, rtol=1e-12)


@each_pair
def test_alive_and_expand_against_loops(unit, shape):
    mask = rng(2).random(shape) < 0.2
    units = cells_of_units(unit, shape)
    want = [any(mask[c] for c in cells) for cells in units]
    alive = unit.alive(mask)
    assert alive.dtype == bool
    assert alive.shape == unit.pool(mask.astype(float)).shape
    np.testing.assert_array_equal(alive.reshape(-1), want)
    expanded = np.zeros(shape, bool)
    for keep, cells in zip(want, units, strict=True):
        for c in cells:
            expanded[c] = keep
    got = unit.expand(alive, shape)
    assert got.dtype == bool
    np.testing.assert_array_equal(got, expanded)
    np.testing.assert_array_equal(unit.expand(alive.reshape(-1), shape), expanded)


@each_pair
def test_unit_sizes_against_loops(unit, shape):
    sizes = unit.unit_sizes(shape)
    want = [len(cells) for cells in cells_of_units(unit, shape)]
    pooled = unit.pool(np.ones(shape))
    assert isinstance(sizes, int) == (len(set(want)) == 1)
    if not isinstance(sizes, int):
        assert sizes.shape == pooled.shape and sizes.dtype.kind == "i"
    np.testing.assert_array_equal(np.broadcast_to(sizes, pooled.shape).reshape(-1), want)
    assert np.broadcast_to(sizes, pooled.shape).sum() == np.prod(shape)


@each_pair
def test_properties(unit, shape):
    mask = rng(3).random(shape) < 0.5
    kept = unit.expand(unit.alive(mask), shape)
    assert (kept >= mask).all()  # no kept weight is lost
    np.testing.assert_array_equal(unit.alive(kept), unit.alive(mask))
    assert unit.alive(np.ones(shape, bool)).all()
    assert not unit.alive(np.zeros(shape, bool)).any()
    if isinstance(unit, Channel):
        assert (unit.pool(np.ones(shape)) == unit.unit_sizes(shape)).all()
    elif isinstance(unit, Block):
        assert (unit.pool(np.ones(shape)) == 1).all()  # padding would show in an edge block


@each_pair
def test_defaults_of_the_base_class_agree(unit, shape):
    # So a granularity of one's own with only `pool` and `expand` works.
    class Mine(Granularity):
        def pool(self, scores):
            return unit.pool(scores)

        def expand(self, keep, shape):
            return unit.expand(keep, shape)

    mask = rng(4).random(shape) < 0.3
    np.testing.assert_array_equal(Mine().alive(mask), unit.alive(mask))
    np.testing.assert_array_equal(Mine().unit_sizes(shape), unit.unit_sizes(shape))
    assert type(Mine().unit_sizes(shape)) is type(unit.unit_sizes(shape))


@each_pair
def test_views_that_are_not_contiguous(unit, shape):
    scores = rng(5).random(shape[::-1]).T
    assert scores.shape == shape
    np.testing.assert_allclose(unit.pool(scores), unit.pool(scores.copy(order="C")))
    np.testing.assert_array_equal(unit.alive(scores > 0.5), unit.alive((scores > 0.5).copy("C")))


def test_base_class():
    base = Granularity()
    for call in (
        lambda: base.pool(np.ones(3)),
        lambda: base.expand(np.ones(3, bool), (3,)),
        lambda: base.pattern_mask(np.ones(3), 0.5),
    ):
        with pytest.raises(NotImplementedError, match=r"^$"):
            call()
    assert base.resolve(DENSE) is base
    assert base.pattern is False
    assert base.check((3,)) is None and base.note((3,)) is None


def test_defaults_know_weights_that_belong_to_no_unit():
    class Diagonal(Granularity):
        def pool(self, scores):
            return scores.diagonal()

        def expand(self, keep, shape):
            return np.diag(keep)

    mask = np.array([[True, True], [True, False]])
    np.testing.assert_array_equal(Diagonal().alive(mask), [True, False])
    assert Diagonal().unit_sizes((2, 2)) == 1


# ---- unstructured ----


def test_unstructured_copies_nothing():
    # A mask update of 100 million weights should not hold them twice for this.
    scores = np.ones((3, 4), np.float32)
    mask = np.ones((3, 4), bool)
    assert Unstructured().pool(scores) is scores
    assert Unstructured().alive(mask) is mask
    assert np.shares_memory(Unstructured().expand(mask, (12,)), mask)


def test_unstructured_fits_any_kernel():
    for shape in [(), *SHAPES]:
        assert Unstructured().check(shape) is None and Unstructured().note(shape) is None


# ---- family ----


@pytest.mark.parametrize(
    ("identifier", "unit"),
    [
        ("unstructured", Unstructured()),
        ("nm", NM(2, 4, "in")),
        ("channel", Channel("out")),
        ("2:4", NM(2, 4)),
        ("8:16", NM(8, 16)),
        ("4x4", Block((4, 4))),
        ("1x8", Block((1, 8))),
        ("2x4x4", Block((2, 4, 4))),
    ],
)
def test_get(identifier, unit):
    assert granularity.get(identifier) == unit


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        ("block", r"'block' needs a block size\. Pass for example '4x4' or Block\(\(4, 4\)\)"),
        ("4:4", "N must be smaller than M"),
        ("0x4", "must be positive ints"),
        ("4x", "Unknown granularity '4x'"),
        ("chanel", "Did you mean 'channel'"),
    ],
)
def test_get_refuses(identifier, text):
    with pytest.raises(InvalidArgumentError, match=text):
        granularity.get(identifier)
    with pytest.raises(ArgumentTypeError, match="The granularity must be an instance"):
        granularity.get(Block)


@pytest.mark.parametrize(
    "unit",
    [
        NM(1, 4, "out"),
        NM(1, 4, -1),
        NM(np.int64(1), np.int32(4), np.int64(0)),
        Block([2, 4], "max"),
        Block((np.int64(2),)),
        Channel("in"),
        Channel(0),
        Channel([0, -1]),
        Channel((np.int64(1), 2)),
    ],
    ids=repr,
)
def test_configs_are_json_and_round_trip(unit):
    again = keras.saving.deserialize_keras_object(
        json.loads(json.dumps(keras.saving.serialize_keras_object(unit)))
    )
    assert again == unit and hash(again) == hash(unit)
    assert type(unit).from_config(unit.get_config()) == unit
    assert eval(repr(unit)) == unit


def test_equal_by_meaning():
    assert Block([2, 4]) == Block((2, 4))
    assert isinstance(Block([2, 4]).shape, tuple)
    assert Channel([1]) == Channel(1)
    assert Channel([0, 1]) == Channel((0, 1))
    assert NM(2, 4, 0) != NM(2, 4, 1)
