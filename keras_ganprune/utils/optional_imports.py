"""Import packages that only some functions need. If a package is missing, the error names it."""

from __future__ import annotations

import importlib
from typing import Any

from keras_ganprune.errors import MissingPackageError

# Packages whose name for `pip install` differs from their name for `import`.
_INSTALLED_AS = {"PIL": "pillow", "sklearn": "scikit-learn", "optuna": "Optuna"}


def require(module: str, extra: str, feature: str) -> Any:
    """Import and return a module of a package that may not be installed.

    Args:
        module: Name of the module, such as 'scipy.stats'.
        extra: Extra of keras-ganprune that installs the package: 'demo', 'quality' or 'sweep'.
        feature: Feature that needs the package, in the plural, such as 'Pictures'.

    Raises:
        MissingPackageError: The package is not installed. The error is also an ImportError.

    Example:
    >>> require("numpy.linalg", "quality", "Distances").__name__
    'numpy.linalg'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        # What is missing may be a package that this one needs.
        name = (getattr(error, "name", None) or module).partition(".")[0]
        raise MissingPackageError(
            f"{feature} need {_INSTALLED_AS.get(name, name)}, which is not installed ({error}): "
            f"pip install 'keras-ganprune[{extra}]'."
        ) from error
