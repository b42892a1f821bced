"""Check that Keras can be imported, before any other module of this package imports it."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib

from keras_ganprune.errors import InvalidArgumentError, MissingPackageError

_BACKENDS = ("tensorflow", "jax", "torch")


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # The package is blocked in `sys.modules`.
        return False


def _chosen() -> tuple[str, str]:
    """Return the backend that Keras is configured to use, and where it is configured."""
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"], "by KERAS_BACKEND"
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    path = pathlib.Path(home) / "keras.json"
    try:
        return str(json.loads(path.read_text())["backend"]), f"by {path}"
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow", "which is the default"


def check_keras() -> None:
    """Import Keras, or raise an error that names the configured backend and the installed ones.

    Raises:
        MissingPackageError: The configured backend is not installed.
        InvalidArgumentError: The configured backend does not exist.
    """
    try:
        import keras  # noqa: F401
    except (ImportError, ValueError) as error:
        backend, where = _chosen()
        installed = [name for name in _BACKENDS if _installed(name)]
        fix = f"Installed: {', '.join(installed) or 'none'}."
        if installed:
            fix += f" Set KERAS_BACKEND={installed[0]} before Python starts."
        if backend not in _BACKENDS:
            raise InvalidArgumentError(
                "Keras needs the backend 'tensorflow', 'jax' or 'torch'. "
                f"Received: '{backend}' ({where}). {fix}"
            ) from error
        if _installed(backend):
            raise  # The error of the installed backend states the cause.
        raise MissingPackageError(
            f"Keras is set to the backend '{backend}' ({where}), which is not installed. {fix} Or install "
            f"it: `pip install {backend}`."
        ) from error


check_keras()
