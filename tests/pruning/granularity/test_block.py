"""`Block`: edges, kernels that are shorter than a block, and what is refused."""

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
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
    ("block", "shape", "clipped", "text"),
    [
        ((4, 4), (3, 3, 3, 8), (3, 4), "axis -2 is only 3 long, so its blocks are (3, 4)"),
        ((4, 4), (8, 3), (4, 3), "axis -1 is only 3 long, so its blocks are (4, 3)"),
        (
            (4, 4),
            (3, 6),
            (3, 4),
            "so its blocks are (3, 4); the last blocks are only 2 along axis -1",
        ),
        ((2, 2), (8,), (2,), "it has only 1 axes, so its blocks are (2,)"),
        ((2, 4, 4), (8, 3), (4, 3), "2 axes and axis -1 is only 3 long, so its blocks are (4, 3)"),
        ((64,), (4, 8), (8,), "axis -1 is only 8 long, so its blocks are (8,)"),
    ],
)
def test_a_kernel_that_is_shorter_than_the_block(block, shape, clipped, text):
    """It has smaller blocks, as a group of three input channels keeps two of them in 2:4."""
    scores = np.random.default_rng(0).random(shape)
    keep = Block(clipped).pool(scores) > 0.5
    np.testing.assert_array_equal(Block(block).pool(scores), Block(clipped).pool(scores))
    np.testing.assert_array_equal(
        Block(block).expand(keep, shape), Block(clipped).expand(keep, shape)
    )
    np.testing.assert_array_equal(Block(block).unit_sizes(shape), Block(clipped).unit_sizes(shape))
    mask = scores > 0.7
    np.testing.assert_array_equal(Block(block).alive(mask), Block(clipped).alive(mask))
    note = Block(block).note(shape)
    assert note is not None and note.endswith(text)


@pytest.mark.parametrize("granularity", ["4x4", "16x16", "8x1", Block((2, 4, 4)), "2:4", "1:16"])
def test_a_network_of_small_images(granularity):
    """Layers whose kernels are too short are pruned, and named in a remark."""
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(16, 3, name="rgb"), keras.layers.Dense(32)]
    )
    pruner = kgp.Pruner(model, granularity=granularity)
    assert any(text.startswith("rgb/kernel: ") for text in pruner.remarks)
    pruner.update(sparsity=0.5)
    for layer in model.layers:
        kept = np.count_nonzero(layer.kernel) / layer.kernel.shape[-2] / layer.kernel.shape[-1]
        assert kept < np.prod(layer.kernel.shape[:-2])


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
