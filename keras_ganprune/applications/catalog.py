"""The applications by name. A module is imported only when its application is used."""

from __future__ import annotations

import importlib

from keras_ganprune.applications.base import Application
from keras_ganprune.errors import InvalidArgumentError, unknown_name

#: Name -> (module in this folder, class). To add an application: its file, and a row here.
PLACES = {
    "image-generation": ("image_generation.application", "ImageGeneration"),
    "inpainting": ("inpainting", "Inpainting"),
    "denoising": ("denoising", "Denoising"),
    "super-resolution": ("super_resolution", "SuperResolution"),
    "text-generation": ("text_generation", "TextGeneration"),
    "text-classification": ("text_classification", "TextClassification"),
    "detection": ("detection", "Detection"),
    "recognition": ("recognition", "Recognition"),
}


def names() -> list[str]:
    """Return the names of the applications.

    Example:
    >>> names()[0]
    'image-generation'
    """
    return [*PLACES]


def get(name: str) -> type[Application]:
    """Return the class of an application.

    Args:
        name: Name, such as 'image-generation'.

    Raises:
        InvalidArgumentError: There is no application with this name.

    Example:
    >>> get("image-generation").name
    'image-generation'
    """
    if name not in names():
        raise InvalidArgumentError(unknown_name("application", name, names()))
    module, cls = PLACES[name]
    return getattr(importlib.import_module(_path(module)), cls)


def _path(module: str) -> str:
    return f"keras_ganprune.applications.{module}"
