"""Says why Keras cannot start, before any other module of this package asks for it."""

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
    except ValueError:  # blocked in `sys.modules`
        return False


def _chosen() -> tuple[str, str]:
    """Return the backend that Keras is told to use, and where that is written."""
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"], "by KERAS_BACKEND"
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    path = pathlib.Path(home) / "keras.json"
    try:
        return str(json.loads(path.read_text())["backend"]), f"by {path}"
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow", "which is the default"


def check_keras() -> None:
    """Import Keras, or say which backend it asks for and what there is.

    Raises:
        MissingPackageError: the backend is not installed.
        InvalidArgumentError: there is no such backend.
    """
    try:
        import keras  # noqa: F401
    except (ImportError, ValueError) as error:
        backend, where = _chosen()
        there = [name for name in _BACKENDS if _installed(name)]
        use = f"Installed: {', '.join(there) or 'none'}."
        if there:
            use += f" Set KERAS_BACKEND={there[0]} before Python starts."
        if backend not in _BACKENDS:
            raise InvalidArgumentError(
                "Keras needs the backend 'tensorflow', 'jax' or 'torch'. "
                f"Received: '{backend}' ({where}). {use}"
            ) from error
        if _installed(backend):
            raise  # it is there, and says itself what is wrong with it
        raise MissingPackageError(
            f"Keras is set to the backend '{backend}' ({where}), which is not installed. {use} Or install "
            f"it: `pip install {backend}`."
        ) from error


check_keras()
