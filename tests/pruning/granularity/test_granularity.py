"""The unit of pruning: pooling scores, expanding kept units, patterns and ragged edges.

The oracles loop over units one by one; the code under test has no such loop.
"""

import itertools
import json

import keras
import numpy as np
import pytest

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.layers import mask_ops
from keras_ganprune.layers.kernel_axes import KernelAxes, kernel_axes
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
            sizes[rank - len(unit.shape) :] = unit.shape
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


# ---- N:M ----


def nm_oracle(scores, keep, of, axis, sparsity):
    mask = np.zeros(scores.shape, bool)
    length = scores.shape[axis]
    lines = np.moveaxis(mask, axis, -1)
    for where in np.ndindex(lines.shape[:-1]):
        line = np.moveaxis(scores, axis, -1)[where]
        for start in range(0, length, of):
            group = range(start, min(start + of, length))
            g = len(group)
            stay = max(max(1, round(g * keep / of)), min(g, round(g * (1 - sparsity))))
            for i in sorted(group, key=lambda i: (-line[i], i))[:stay]:
                lines[(*where, i)] = True
    return mask


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("keep", "of"), [(2, 4), (1, 2), (1, 4), (3, 4), (2, 3), (4, 8)])
def test_nm_against_loops(shape, keep, of):
    unit_axes = range(-len(shape), len(shape))
    for seed, axis in enumerate(unit_axes):
        scores = rng(seed, keep, of).integers(0, 5, shape).astype(np.float32)  # many ties
        for share in (0.0, 0.3, 0.5, 0.8, 1.0):
            sparsity = share * (1 - keep / of)
            got = NM(keep, of, axis).pattern_mask(scores, sparsity)
            assert got.dtype == bool
            np.testing.assert_array_equal(got, nm_oracle(scores, keep, of, axis, sparsity))


@pytest.mark.parametrize(
    ("scores", "keep", "of", "want"),
    [
        # TFMOT's own tests, whose (m, n) counts the zeros; ours counts what stays.
        ([[-0.49, -0.66, 0.42], [0.31, 0.63, -1.63]], 2, 4, [[1, 1, 0], [0, 1, 1]]),
        ([[1, 2, 3, 4]], 2, 4, [[0, 0, 1, 1]]),
        ([[1, 2, 3, 4, 5, 6]], 3, 6, [[0, 0, 0, 1, 1, 1]]),
        ([[1, 2], [3, 4]], 1, 2, [[0, 1], [0, 1]]),
        # Equal scores: lower indices stay.
        ([[1, 1, 1, 1]], 2, 4, [[1, 1, 0, 0]]),
        ([[0, 0, 0, 0, 0, 0, 0]], 2, 4, [[1, 1, 0, 0, 1, 1, 0]]),
        # One entry left over always stays.
        ([[5, 6, 7, 8, 1]], 2, 4, [[0, 0, 1, 1, 1]]),
    ],
)
def test_nm_by_hand(scores, keep, of, want):
    unit = NM(keep, of, axis=1)
    got = unit.pattern_mask(np.abs(np.array(scores, float)), unit.sparsity)
    np.testing.assert_array_equal(got, np.array(want, bool))


def test_nm_seven_input_channels():
    # TFMOT, Conv2D whose input channels are no multiple of 4: sparsity 0.428571.
    layer = keras.layers.Conv2D(8, 3)
    layer.build((None, 9, 9, 7))
    unit = NM(2, 4).resolve(kernel_axes(layer, "kernel"))
    shape = tuple(layer.kernel.shape)
    mask = unit.pattern_mask(rng(0).random(shape), 0.5)
    assert mask_ops.sparsity(mask) == pytest.approx(0.428571, abs=1e-6)
    assert (mask.sum(axis=2) == 4).all()  # the same at each tap and output
    assert unit.note(shape) == "7 input channels in groups of 4: the last group of 3 keeps 2"


@pytest.mark.parametrize(
    ("sparsity", "kept_of_4"),
    [(0.0, 4), (0.1, 4), (0.125, 4), (0.13, 3), (0.3, 3), (0.375, 2), (0.45, 2), (0.5, 2)],
)
def test_nm_decays_with_the_schedule(sparsity, kept_of_4):
    mask = NM(2, 4, axis=0).pattern_mask(rng(1).random((12, 5)), sparsity)
    np.testing.assert_array_equal(mask.reshape(3, 4, 5).sum(axis=1), kept_of_4)


def test_nm_masks_of_a_rising_sparsity_are_nested():
    scores = rng(2).random((6, 22))
    before = np.ones(scores.shape, bool)
    for sparsity in np.linspace(0, 0.75, 20):
        mask = NM(4, 16, axis=1).pattern_mask(scores, sparsity)
        assert (mask <= before).all()
        before = mask


@pytest.mark.parametrize(("keep", "of"), [(k, m) for m in range(2, 14) for k in range(1, m)])
def test_nm_ends_at_exactly_its_share(keep, of):
    # 1 - keep / of is inexact in floating point; a group of 3 of NM(5, 6) must not keep 3 for that.
    unit = NM(keep, of, axis=0)
    for size in range(1, of + 1):
        mask = unit.pattern_mask(np.arange(float(size)), unit.sparsity)
        assert mask.sum() == max(1, round(size * keep / of))


def test_nm_pruned_entries_never_win():
    scores = np.array([1.0, -np.inf, 2.0, -np.inf, -np.inf, -np.inf, -np.inf, 3.0])
    mask = NM(2, 4, axis=0).pattern_mask(scores, 0.5)
    # The exact count holds where a group has too few left; the lower index then.
    np.testing.assert_array_equal(mask, np.array([1, 0, 1, 0, 1, 0, 0, 1], bool))


def test_nm_reads_views_and_leaves_scores_alone():
    scores = rng(3).random((6, 8)).T[::2]
    before = scores.copy()
    got = NM(2, 4, axis=1).pattern_mask(scores, 0.5)
    np.testing.assert_array_equal(scores, before)
    np.testing.assert_array_equal(got, NM(2, 4, axis=1).pattern_mask(before, 0.5))


@pytest.mark.parametrize(
    ("unit", "axes", "axis"),
    [
        (NM(), DENSE, -2),
        (NM(axis="out"), DENSE, -1),
        (NM(), KernelAxes((-1,), (-2,)), -1),
        (NM(), KernelAxes((-3, -2), (-1,)), -2),  # several: the last
        (NM(axis="out"), KernelAxes((-3,), (-2, -1)), -1),
        (NM(axis=0), DENSE, 0),
    ],
)
def test_nm_resolve(unit, axes, axis):
    resolved = unit.resolve(axes)
    assert resolved == NM(2, 4, axis=axis)
    assert resolved.resolve(axes) is resolved
    np.testing.assert_array_equal(resolved.pool(np.ones(3)), np.ones(3))


def test_resolve_leaves_the_original_alone():
    # One granularity serves all layers, each with its own axis order.
    for unit in (NM(), Channel()):
        before = unit.get_config()
        assert unit.resolve(DENSE) is not unit
        assert unit.get_config() == before


@pytest.mark.parametrize(
    ("unit", "shape", "text"),
    [
        (NM().resolve(DENSE), (8, 3), None),
        (
            NM().resolve(DENSE),
            (3, 8),
            "3 input channels in groups of 4: the only group of 3 keeps 2",
        ),
        (
            NM().resolve(DENSE),
            (1, 8),
            "1 input channel in groups of 4: the only group of 1 keeps 1",
        ),
        (
            NM(1, 4, "out").resolve(DENSE),
            (2, 6),
            "6 output channels in groups of 4: the last group of 2 keeps 1",
        ),
        (
            NM(axis=-1),
            (2, 5),
            "5 weights along axis -1 in groups of 4: the last group of 1 keeps 1",
        ),
    ],
)
def test_nm_note(unit, shape, text):
    assert unit.note(shape) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"keep": 4, "of": 4}, r"N must be smaller than M.* Received: keep=4, of=4\. For 2:4 pass"),
        ({"keep": 5, "of": 4}, "N must be smaller than M"),
        ({"keep": 0}, r"`keep` must be a positive int, in weights\. Received: 0"),
        ({"keep": -1}, "`keep` must be a positive int"),
        ({"keep": True}, r"`keep` must be .* Received: True\."),
        ({"keep": 0.5}, "`keep` must be a positive int"),
        ({"of": 4.0}, r"`of` must be a positive int.* Received: 4\.0"),
        ({"of": "4"}, "`of` must be a positive int"),
        ({"axis": "inputs"}, "`axis` must be 'in', 'out' or an int. Received: 'inputs'"),
        ({"axis": 1.0}, "`axis` must be"),
        ({"axis": True}, "`axis` must be"),
        ({"axis": None}, "`axis` must be"),
    ],
)
def test_nm_bad_arguments(arguments, text):
    with pytest.raises(InvalidArgumentError, match=text):
        NM(**arguments)


@pytest.mark.parametrize(
    ("unit", "sparsity", "text"),
    [
        (NM(2, 4, 0), 0.8, r"NM\(2, 4\) removes at most 0\.5 .*sparsity=0\.8\. .*NM\(1, 5\)\."),
        (NM(2, 4, 0), 0.51, r"removes at most 0\.5 .*NM\(1, 3\)"),
        (NM(3, 4, 0), 0.9, r"removes at most 0\.25 .*NM\(1, 10\)"),
        (NM(2, 4, 0), 1.0, r"`sparsity` must be a fraction in \[0, 1\)"),
        (NM(2, 4, 0), -0.1, r"`sparsity` must be a fraction in \[0, 1\)"),
        (NM(2, 4, 0), 50, r"For 50 %, pass 0\.5"),
        (NM(2, 4, 1), 0.5, r"`axis` must be an axis of the kernel.*axis=1 for a kernel of shape \(8,\)"),
        (NM(), 0.5, r"cannot know which axis of this kernel 'in' is\. Call `resolve"),
    ],
)  # fmt: skip
def test_nm_bad_mask_requests(unit, sparsity, text):
    with pytest.raises(InvalidArgumentError, match=text):
        unit.pattern_mask(np.ones(8), sparsity)


def test_nm_takes_its_own_sparsity_as_the_limit():
    unit = NM(5, 6, axis=0)
    assert unit.sparsity == 1 - 5 / 6
    assert unit.pattern_mask(np.arange(6.0), unit.sparsity).sum() == 5
    assert unit.pattern_mask(np.arange(6.0), unit.sparsity + 1e-10).sum() == 5


# ---- blocks ----


@pytest.mark.parametrize(
    ("pool", "kernel"),
    [
        (
            "mean",
            [
                [0.1, 0.1, 0.2, 0.2],
                [0.1, 0.1, 0.2, 0.2],
                [0.3, 0.3, 0.4, 0.4],
                [0.3, 0.3, 0.4, 0.4],
            ],
        ),
        (
            "max",
            [[0.1, 0, 0.2, 0], [0, -0.1, 0, -0.2], [0.3, 0, 0.4, 0], [0, -0.3, 0, -0.4]],
        ),
    ],
)
def test_block_as_in_tfmot(pool, kernel):
    unit = Block((2, 2), pool)
    pooled = unit.pool(np.abs(np.array(kernel)))
    np.testing.assert_allclose(pooled, [[0.1, 0.2], [0.3, 0.4]])
    mask = unit.expand(mask_ops.top_k_mask(pooled, mask_ops.kept_count(pooled.size, 0.5)), (4, 4))
    np.testing.assert_array_equal(mask, np.array([[0] * 4, [0] * 4, [1] * 4, [1] * 4], bool))


def test_block_covers_channels_at_each_tap():
    # TFMOT refuses kernels of more than two axes.
    pooled = Block((4, 4)).pool(np.ones((3, 3, 8, 16)))
    assert pooled.shape == (3, 3, 2, 4)


def test_block_edges_by_hand():
    scores = np.arange(15.0).reshape(3, 5)
    np.testing.assert_array_equal(Block((2, 2)).pool(scores), [[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]])
    np.testing.assert_array_equal(
        Block((2, 2), "max").pool(-scores), [[0, -2, -4], [-10, -12, -14]]
    )
    np.testing.assert_array_equal(Block((2, 2)).unit_sizes((3, 5)), [[4, 4, 2], [2, 2, 1]])


@pytest.mark.parametrize(
    ("block", "shape", "text"),
    [
        ((4, 4), (8, 8), None),
        ((1, 8), (7, 16), None),
        ((2,), (7, 8), None),
        (
            (4, 4),
            (3, 3, 7, 8),
            "a kernel of shape (3, 3, 7, 8) in blocks of (4, 4): the last blocks are only 3 along axis -2",
        ),
        ((4, 4), (7, 10), "3 along axis -2 and 2 along axis -1"),
    ],
)
def test_block_note(block, shape, text):
    note = Block(block).note(shape)
    assert (note is None) == (text is None)
    assert text is None or note.endswith(text)


@pytest.mark.parametrize(
    ("block", "shape", "text"),
    [
        (
            (4, 4),
            (3, 3, 1, 8),
            r"blocks of \(4, 4\) .* shape \(3, 3, 1, 8\): axis -2 .* only 1 long",
        ),
        ((4, 4), (8, 3), "axis -1 of the kernel is only 3 long. Use a smaller block, or leave"),
        ((2, 2), (8,), "the kernel has only 1 axes.*leave the layer out of `scope`"),
        ((1,), (), "the kernel has only 0 axes"),
    ],
)
def test_block_that_does_not_fit(block, shape, text):
    unit = Block(block)
    for use in (
        unit.check,
        unit.note,
        unit.unit_sizes,
        lambda shape: unit.pool(np.ones(shape)),
        lambda shape: unit.alive(np.ones(shape, bool)),
        lambda shape: unit.expand(np.ones(1, bool), shape),
    ):
        with pytest.raises(InvalidArgumentError, match=text):
            use(shape)


@pytest.mark.parametrize(
    "shape", [(), [], (0, 4), (-1, 4), (4.0, 4), (True, 4), "4x4", None, 4, ("4", "4")]
)
def test_block_bad_shape(shape):
    with pytest.raises(InvalidArgumentError, match=r"`shape` must be positive ints, such as"):
        Block(shape)


@pytest.mark.parametrize("pool", ["sum", "avg", None, np.max])
def test_block_bad_pool(pool):
    with pytest.raises(InvalidArgumentError, match=r"`pool` must be one of \('mean', 'max'\)"):
        Block((2, 2), pool)


# ---- channels ----


def test_channel_rows_of_the_design():
    # L1 of the rows: 0.6 and 1.5, so a threshold of 0.5 takes none of them and 1.0 the first.
    kernel = np.array([[0.1, 0.2, 0.3], [-0.4, 0.5, -0.6]])
    unit = Channel("in").resolve(DENSE)
    pooled = unit.pool(np.abs(kernel))
    np.testing.assert_allclose(pooled, [0.6, 1.5])
    assert mask_ops.threshold_mask(pooled, 0.5).all()
    mask = unit.expand(mask_ops.threshold_mask(pooled, 1.0), kernel.shape)
    np.testing.assert_array_equal(mask, [[False] * 3, [True] * 3])


def test_channel_has_the_axis_order_of_each_layer():
    for cls in (keras.layers.Conv2D, keras.layers.Conv2DTranspose):
        layer = cls(7, 3)
        layer.build((None, 9, 9, 5))
        axes = kernel_axes(layer, "kernel")
        shape = tuple(layer.kernel.shape)
        for name, channels in (("out", 7), ("in", 5)):
            unit = Channel(name).resolve(axes)
            assert unit.pool(np.ones(shape)).shape == (channels,)
            assert unit.unit_sizes(shape) == 9 * 35 // channels


def test_channel_of_attention_is_one_dimension_of_one_head():
    unit = Channel("out", coupled=False).resolve(KernelAxes((-3,), (-2, -1)))
    assert unit == Channel((-2, -1))
    assert unit.pool(np.ones((5, 2, 3))).shape == (2, 3)
    assert unit.unit_sizes((5, 2, 3)) == 5


def test_channel_sums_in_double():
    scores = np.full((200_000, 1), 0.1, np.float32)
    want = 200_000 * np.float64(np.float32(0.1))
    assert Channel(1).pool(scores)[0] == pytest.approx(want, rel=1e-12)


def test_channel_mask_can_be_written():
    mask = Channel(0).expand(np.array([True, False]), (2, 3))
    mask[0, 0] = False
    assert mask.sum() == 2


@pytest.mark.parametrize(
    ("axis", "shape", "text"),
    [
        (
            2,
            (3, 4),
            r"`axis` must be an axis of the kernel\. Received: axis=2 .*shape \(3, 4\), .* 2\.",
        ),
        (-3, (3, 4), "axis=-3 .*Choose another axis, or leave the layer out of `scope`"),
        (0, (), r"shape \(\), which has 0"),
        ((0, 5), (3, 4), "axis=5"),
        ((0, -2), (3, 4), r"must name each axis once\. Received: axis=\(0, -2\)"),
        (
            "out",
            (3, 4),
            r"Channel\(axis='out'\) cannot know which axis .*Call `resolve\(kernel_axes",
        ),
        ("in", (3, 4), "or pass the axis as an int"),
    ],
)
def test_channel_that_does_not_fit(axis, shape, text):
    unit = Channel(axis)
    for use in (
        unit.check,
        unit.unit_sizes,
        lambda shape: unit.pool(np.ones(shape)),
        lambda shape: unit.alive(np.ones(shape, bool)),
        lambda shape: unit.expand(np.ones(1, bool), shape),
    ):
        with pytest.raises(InvalidArgumentError, match=text):
            use(shape)


@pytest.mark.parametrize("axis", ["output", None, 1.0, True, (), [], (0, "in"), (True,), {0}])
def test_channel_bad_axis(axis):
    with pytest.raises(InvalidArgumentError, match="`axis` must be 'out', 'in', an int or a tuple"):
        Channel(axis)


@pytest.mark.parametrize("unit", [NM(), Channel("in")])
def test_no_input_channels(unit):
    with pytest.raises(
        InvalidArgumentError, match="its input channels, but this weight has no such axis"
    ):
        unit.resolve(KernelAxes((), (-1,)))


def test_no_output_channels():
    with pytest.raises(
        InvalidArgumentError, match="over its output channels, but this weight has no such axis"
    ):
        Channel().resolve(KernelAxes((-1,), ()))


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
    with pytest.raises(ArgumentTypeError, match="Expected an instance of a granularity"):
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
