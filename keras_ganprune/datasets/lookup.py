"""Data sets by name."""

from __future__ import annotations

import os

from keras_ganprune.datasets.image_folder import check_size, folder
from keras_ganprune.datasets.images import Images
from keras_ganprune.datasets.mnist_digits import mnist
from keras_ganprune.datasets.optical_digits import digits
from keras_ganprune.utils import annotated, given_paths

#: Name -> function that returns the data set.
LOADERS = {"mnist": mnist, "mnist-5000": lambda: mnist(full=False), "digits": digits}


def load(name: str | os.PathLike[str], size: int = 28) -> Images:
    """Return a data set by its name, or the images of a folder.

    Args:
        name: 'mnist' (see `mnist`), 'mnist-5000' (`mnist(full=False)`), 'digits' (see `digits`), or the
            path of a folder of images (see `folder`).
        size: Int, height and width of the images of a folder, a multiple of 4. Defaults to 28. The named
            data sets have a fixed size.

    Returns:
        `Images`.

    Raises:
        DataError: `name` is neither a known name nor a folder, the data cannot be read, or a package is not
            installed.
        InvalidArgumentError: `name` is a folder, and `size` is not a multiple of 4 or is below 8.

    Example:
    >>> kgp.datasets.load("digits").description
    'digits, 1,797 8×8 images from scikit-learn'
    """
    annotated.check(load, locals())
    check_size(size)
    if isinstance(name, str) and name in LOADERS:
        return LOADERS[name]()
    given_paths.check_data(name, LOADERS)
    return folder(name, size)
