"""Calls outside training."""

from __future__ import annotations

import contextlib
import importlib
from contextlib import AbstractContextManager
from typing import Any

import keras


def no_gradients() -> AbstractContextManager[Any]:
    """Return a context in which PyTorch records no gradients, as in Keras's `predict`.

    PyTorch alone records them in every call. Code that mixes tensors and NumPy arrays fails then.
    """
    if keras.backend.backend() == "torch":
        return importlib.import_module("torch").no_grad()
    return contextlib.nullcontext()
