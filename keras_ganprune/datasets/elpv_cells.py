"""Electroluminescence images of solar cells (ELPV data set), in splits that share no module."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import pathlib
from typing import Literal

import numpy as np

from keras_ganprune.datasets import packages
from keras_ganprune.datasets.images import Images, scaled
from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.utils import annotated, validation

LICENSE = "CC BY-NC-SA 4.0"
CITATION = (
    "Deitsch et al., Segmentation of photovoltaic module cells in uncalibrated electroluminescence images, "
    "2021, doi:10.1007/s00138-021-01191-9; package elpv-dataset"
)
_SIDE = 300
# The cells are sorted by module, and a module has one type. So a run of cells of one type begins and ends
# with a module. In the long runs, modules have 60 cells: most of these runs are multiples of 60 long, and
# brightness and borders of the cells change there. So the first and the last 60 cells of a run are modules.
_MODULE, _LONG_RUN = 60, 3 * 60


def solar_cells(size: int = 64, labels: Literal["defect", "type"] = "defect") -> dict[str, Images]:
    """Return grey images of solar cells in three splits. No module is in two of them.

    Args:
        size: Positive int, height and width in pixels, at most 300. Defaults to 64.
        labels: "defect": 1 for a cell that experts found defective with a probability above 0.5. "type": 1
            for a polycrystalline cell, 0 for a monocrystalline one. Defaults to "defect".

    Returns:
        Dict with "train" (1,784 cells), "validation" (420) and "test" (420): `Images` with labels.

    Raises:
        DataError: The package elpv-dataset or Pillow is not installed.
        InvalidArgumentError: `size` is above 300, or `labels` is unknown.

    Example:
    >>> cells = kgp.datasets.solar_cells(size=32)  # doctest: +SKIP
    >>> cells["test"].images.shape  # doctest: +SKIP
    (420, 32, 32, 1)
    """
    annotated.check(solar_cells, locals(), "labels")
    size = validation.positive_int(size, "size")
    if size > _SIDE:
        raise InvalidArgumentError(
            f"The cells have {_SIDE}×{_SIDE} pixels, so `size` must be at most {_SIDE}. Received: {size}."
        )
    if labels not in ("defect", "type"):
        raise InvalidArgumentError(unknown_name("labels", labels, ("defect", "type")))
    # The package's own loader reads all pixels of all cells, which takes 700 MB and some ten seconds.
    package = packages.require("elpv_dataset")
    folder = pathlib.Path(package.__file__).parent / "data"
    paths, probabilities, types = _table(folder)
    images = scaled(_pixels(folder, tuple(paths), size), 255.0)
    classes = (probabilities > 0.5 if labels == "defect" else types == "poly").astype("int64")
    return {
        split: Images(
            images[places],
            classes[places],
            f"{len(places):,} solar cells of the ELPV data set, {size}×{size} pixels",
        )
        for split, places in _splits(types).items()
    }


def _table(folder: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (paths, probabilities of a defect, types) of all cells."""
    rows = [
        line.split() for line in (folder / "labels.csv").read_text("utf-8").splitlines() if line
    ]
    paths, probabilities, types = (np.array(column) for column in zip(*rows, strict=True))
    return paths, probabilities.astype("float64"), types


@functools.lru_cache(maxsize=2)
def _pixels(folder: pathlib.Path, paths: tuple[str, ...], size: int) -> np.ndarray:
    """Return the images as uint8 array (n, size, size), cached because it reads 2,624 files."""
    pil = packages.require("PIL.Image")

    def read(path: str) -> np.ndarray:
        with pil.open(folder / path) as image:
            return np.asarray(image.resize((size, size), pil.Resampling.BOX))

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(read, paths)))


def _splits(types: np.ndarray) -> dict[str, np.ndarray]:
    """Return the places of each split: the first module of each long run validates, the last one tests."""
    splits = np.full(len(types), "train", dtype="U10")
    start = 0
    for _, run in itertools.groupby(types):
        end = start + len(list(run))
        if end - start >= _LONG_RUN:
            splits[start : start + _MODULE] = "validation"
            splits[end - _MODULE : end] = "test"
        start = end
    return {name: np.flatnonzero(splits == name) for name in ("train", "validation", "test")}
