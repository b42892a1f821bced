"""Patches of photos, and solar cells: splits that share no photo and no module."""

import numpy as np
import pytest

from keras_ganprune import datasets
from keras_ganprune.datasets import elpv_cells
from keras_ganprune.errors import DataError, InvalidArgumentError

pytest.importorskip("skimage")
pytest.importorskip("elpv_dataset")
pil = pytest.importorskip("PIL.Image")


@pytest.mark.parametrize("channels", [1, 3])
def test_no_photo_is_in_two_splits(channels):
    patches = datasets.photo_patches(size=32, count=64, channels=channels, seed=1)
    labels = {name: set(part.labels.tolist()) for name, part in patches.items()}
    assert not labels["train"] & labels["validation"] and not labels["test"] & labels["train"]
    assert not labels["validation"] & labels["test"]
    for part in patches.values():
        assert part.images.shape[1:] == (32, 32, channels) and part.images.dtype == "float32"
        assert -1.0 <= part.images.min() < 0 < part.images.max() <= 1.0
    assert len(patches["train"]) == 64


def test_a_seed_gives_the_same_patches_and_test_patches_need_none():
    one, two, other = (datasets.photo_patches(size=24, count=32, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one["train"].images, two["train"].images)
    assert not np.array_equal(one["train"].images, other["train"].images)
    np.testing.assert_array_equal(one["test"].images, other["test"].images)


def photo(path, size, seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype="uint8")
    pil.fromarray(pixels).save(path)


def test_photos_of_a_folder_may_have_any_size(tmp_path):
    for number, size in enumerate([(40, 50), (60, 40), (90, 80), (40, 40)]):
        photo(tmp_path / f"{number}.png", size, number)
    patches = datasets.photo_patches(size=16, count=10, folder=tmp_path)
    assert "0.png, 1.png" in patches["train"].description
    assert "3.png" in patches["test"].description and len(patches["train"]) == 10


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ([(40, 40)] * 2, "at least 3 photos: for training, validation and test. Received: 2"),
        (
            [(40, 40), (40, 40), (12, 40)],
            "'2.png' with 12×40. Use larger photos, or remove this one.",
        ),
        ([], "has no file that ends in"),
    ],
)
def test_a_folder_that_does_not_do(sizes, text, tmp_path):
    for number, size in enumerate(sizes):
        photo(tmp_path / f"{number}.png", size, number)
    with pytest.raises(DataError, match=text):
        datasets.photo_patches(size=16, count=8, folder=tmp_path)


def test_a_damaged_photo_is_named(tmp_path):
    for number in range(3):
        photo(tmp_path / f"{number}.png", (30, 30), number)
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.png' cannot be read .* Remove or repair it"):
        datasets.photo_patches(size=16, count=8, folder=tmp_path)


@pytest.mark.parametrize("arguments", [{"channels": 2}, {"size": 0}, {"count": 0}])
def test_wrong_numbers(arguments):
    with pytest.raises(InvalidArgumentError, match=next(iter(arguments))):
        datasets.photo_patches(**arguments)


@pytest.mark.full
def test_no_module_of_solar_cells_is_in_two_splits():
    cells = datasets.solar_cells(size=16)
    kinds = datasets.solar_cells(size=16, labels="type")
    assert {n: len(p) for n, p in cells.items()} == {"train": 1784, "validation": 420, "test": 420}
    for name, part in cells.items():
        assert part.images.shape[1:] == (16, 16, 1)
        assert 0.3 < part.labels.mean() < 0.32, name
        assert 0.5 < kinds[name].labels.mean() < 0.75, name


def test_splits_of_solar_cells_end_where_a_module_ends():
    """Runs of one type begin and end with a module; those of the long runs have 60 cells."""
    types = np.repeat(["mono", "poly", "mono", "poly"], [60, 180, 72, 240])
    splits = elpv_cells._splits(types)
    assert splits["validation"].tolist() == [*range(60, 120), *range(312, 372)]
    assert splits["test"].tolist() == [*range(180, 240), *range(492, 552)]
    assert sorted(np.concatenate(list(splits.values()))) == [*range(552)]


@pytest.mark.parametrize("arguments", [{"size": 301}, {"labels": "modules"}])
def test_wrong_arguments_of_solar_cells(arguments):
    with pytest.raises(InvalidArgumentError, match=next(iter(arguments))):
        datasets.solar_cells(**arguments)
