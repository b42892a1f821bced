"""The files in which trained feature extractors are cached."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import textwrap
import warnings
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import FileFormatError, PruningWarning
from keras_ganprune.metrics.feature_extractor import FeatureExtractor
from keras_ganprune.utils import files

# Part of each file name. Raise it when a change of the networks or the training changes the weights.
_RECIPE = 2


def cache_file(
    cache: str | os.PathLike[str] | bool | None,
    images: np.ndarray,
    numbers: np.ndarray | None,
    settings: dict[str, Any],
) -> pathlib.Path | None:
    """Return the file for an extractor; None, with a warning, if the folder cannot be written.

    Args:
        cache: Folder; None or True for the default one.
        images: The images that it is trained on.
        numbers: Their class numbers, or None.
        settings: Everything else that changes the weights, with a key 'kind'.
    """
    folder: str | os.PathLike[str]
    if cache is None or isinstance(cache, bool):
        folder = files.cache_folder()
    else:
        folder = cache
    try:
        folder = files.make_folder(folder)
    except OSError as error:
        warnings.warn(
            f"The trained extractor will not be cached: the folder '{folder}' cannot be written ({error}). "
            "Pass another folder as `cache=`, set KERAS_GANPRUNE_CACHE to one, or pass `cache=False`.",
            PruningWarning,
            stacklevel=3,
        )
        return None
    digest = hashlib.sha256(json.dumps({"recipe": _RECIPE, **settings}, sort_keys=True).encode())
    for array in (images, numbers):
        if array is not None:
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return folder / f"extractor-{settings['kind']}-{digest.hexdigest()[:24]}.keras"


def read(file: pathlib.Path) -> FeatureExtractor:
    """Return the extractor of a cache file.

    Raises:
        FileFormatError: The file is damaged, or was written by another version of Keras.
    """
    try:
        return FeatureExtractor.load(file)
    except (FileFormatError, ValueError, TypeError, KeyError) as error:
        # Keras puts the whole configuration of the network into the later lines.
        reason = textwrap.shorten(str(error).partition("\n")[0], 300)
        raise FileFormatError(
            f"The cached extractor '{file}' cannot be read by Keras {keras.__version__} ({reason}). If "
            "another version of Keras wrote it, set KERAS_GANPRUNE_CACHE to a separate folder for this "
            "version; otherwise remove the file. The extractor will then be trained again."
        ) from error
