"""`NM` against loops, by hand, and what is refused."""

import keras
import numpy as np
import pytest

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers import mask_ops
from keras_ganprune.layers.kernel_axes import KernelAxes, kernel_axes
from keras_ganprune.pruning.granularity import NM, Channel

SHAPES = [(5,), (8,), (4, 6), (7, 5), (1, 9), (2, 3, 4), (3, 2, 5, 7)]
DENSE = KernelAxes((-2,), (-1,))


def rng(*seed):
    return np.random.default_rng(seed)


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
