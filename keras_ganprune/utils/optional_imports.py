"""Packages that only some parts need: imported where they are used, and named where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from keras_ganprune.errors import MissingPackageError

# Packages that are installed under another name than they are imported by.
_INSTALLED_AS = {"PIL": "pillow", "sklearn": "scikit-learn", "optuna": "Optuna"}


def require(module: str, extra: str, what: str) -> Any:
    """Return a module of a package that may not be installed.

    Args:
        module: Its name, such as 'scipy.stats'.
        extra: The extra of this package that brings it: 'demo', 'quality' or 'sweep'.
        what: What needs it, in the plural, such as 'Pictures'.

    Raises: MissingPackageError (an ImportError).

    Example:
    >>> require("numpy.linalg", "quality", "Distances").__name__
    'numpy.linalg'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise MissingPackageError(
            f"{what} need {_INSTALLED_AS.get(name, name)}, which is not installed ({error}): "
            f"pip install 'keras-ganprune[{extra}]'."
        ) from error
