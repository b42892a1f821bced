"""`Block`: edges, and what is refused."""

import numpy as np
import pytest

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers import mask_ops
from keras_ganprune.pruning.granularity import Block


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
