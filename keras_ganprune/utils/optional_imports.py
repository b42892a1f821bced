"""Import packages that only some functions need. If a package is missing, the error names it."""

from __future__ import annotations

import importlib
import importlib.util
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
        raise _missing(name, extra, feature, f" ({error})") from error


def check_installed(package: str, extra: str, feature: str) -> None:
    """Raise the error of `require` if a package is not installed. The package is not imported.

    Args:
        package: Name of the package for `import`, such as 'optuna'.
        extra: As in `require`.
        feature: As in `require`.

    Raises:
        MissingPackageError: The package is not installed.
    """
    try:
        found = importlib.util.find_spec(package)
    except ValueError:  # The package is blocked in `sys.modules`.
        found = None
    if found is None:
        raise _missing(package, extra, feature)


def _missing(package: str, extra: str, feature: str, reason: str = "") -> MissingPackageError:
    return MissingPackageError(
        f"{feature} need {_INSTALLED_AS.get(package, package)}, which is not installed{reason}: "
        f"pip install 'keras-ganprune[{extra}]'."
    )
