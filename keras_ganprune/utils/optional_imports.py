"""Import of packages that only some functions need, with an error that names a missing package."""

from __future__ import annotations

import importlib
from typing import Any

from keras_ganprune.errors import MissingPackageError

# Packages whose name for `pip install` differs from their name for `import`.
_INSTALLED_AS = {"PIL": "pillow", "sklearn": "scikit-learn", "optuna": "Optuna"}


def require(module: str, extra: str, what: str) -> Any:
    """Import and return a module of a package that may not be installed.

    Args:
        module: Name of the module, such as 'scipy.stats'.
        extra: Extra of this package that installs it: 'demo', 'quality' or 'sweep'.
        what: What needs the package, in the plural, such as 'Pictures'.

    Raises:
        MissingPackageError: The package is not installed. The error is also an ImportError.

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
