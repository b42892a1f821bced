"""Import of the packages that ship the data sets."""

from __future__ import annotations

import importlib
from typing import Any

from keras_ganprune.errors import DataError


def require(module: str) -> Any:
    """Import and return a module of a package that ships or reads images.

    Raises:
        DataError: The package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"The data set needs the package '{module.split('.')[0]}', which is not installed. "
            "Install the demo's packages: pip install 'keras-ganprune[demo]'."
        ) from error
