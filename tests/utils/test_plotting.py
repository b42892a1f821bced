"""Grids of images and pictures of masks."""

import re

import numpy as np
import paths
import pytest

from keras_ganprune.utils import palette, plotting


@pytest.mark.parametrize("shape", [(3, 5), (8, 8), (9, 4), (1, 17), (31, 2)])
@pytest.mark.parametrize(("down", "across"), [(1, 1), (2, 3), (4, 4)])
def test_the_means_of_blocks(shape, down, across):
    mask = np.random.default_rng(0).random(shape) < 0.3
    found = plotting.block_means(mask, down, across)
    assert found.shape == (-(-shape[0] // down), -(-shape[1] // across))
    for i, j in np.ndindex(found.shape):
        block = mask[i * down : (i + 1) * down, j * across : (j + 1) * across]
        assert found[i, j] == pytest.approx(block.mean())


def test_a_kernel_is_a_tile_for_each_tap():
    mask = np.random.default_rng(0).random((2, 3, 4, 5)) < 0.5
    picture = plotting.mask_picture(mask)
    assert picture.shape == (2 * 4, 3 * 5)
    np.testing.assert_array_equal(picture[4:, 5:10], mask[1, 1])
    assert plotting.mask_picture(np.ones(7, bool)).shape == (1, 7)


def test_a_grid_places_images_row_by_row():
    images = np.stack([np.full((2, 2, 1), v, "float32") for v in (-1.0, 0.0, 1.0)])
    grid = plotting.image_grid(images, columns=2, gap=1)
    assert grid.shape == (5, 5, 1)
    assert grid[0, 0, 0] == 0.0 and grid[0, 3, 0] == 0.5 and grid[3, 0, 0] == 1.0


def test_a_mask_has_one_meaning_everywhere():
    """Dark is kept: in figures, in the pages of runs, and in TensorBoard, which draw with one function."""
    mask = np.array([[True, False]])
    (kept, pruned) = plotting.mask_colours(mask)[0].astype(int)
    assert kept.sum() + 200 < pruned.sum()
    assert tuple(kept) == palette.rgb(palette.KEPT)
    assert tuple(pruned) == palette.rgb(palette.PRUNED)
    figure = plotting.require_plotting().Figure()
    axes = figure.subplots()
    plotting.draw_mask(axes, mask)
    np.testing.assert_array_equal(axes.images[0].get_array(), plotting.mask_colours(mask))
    texts = [*paths.ROOT.glob("notebooks/*.ipynb"), *paths.ROOT.glob("docs/*.md")]
    texts += [*paths.ROOT.glob("keras_ganprune/**/*.py")]
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"white (weights?|stays|where)|Dark where(?! a weight is kept)", text)
