"""What was logged, drawn and measured of a run, as plain numbers and uint8 images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.exporters import ExportReport
from keras_ganprune.metrics import Profile

_SIZES = ("parameters", "nonzero", "macs", "bytes", "saved_bytes", "gzip_bytes")


def history_of(history: Any) -> dict[str, list[float | None]]:
    """Return the logs, a list of as many floats or None for each."""
    found = getattr(history, "history", history)
    if not isinstance(found, Mapping) or not any(len(list(v)) for v in found.values()):
        raise InvalidArgumentError(
            "`history` must be what `fit` returned, or a dict of log -> list of floats, one an epoch, "
            f"with an epoch at least. Received: {history!r}."
        )
    lists = {str(key): [number(v, key) for v in values] for key, values in found.items()}
    epochs = max(len(values) for values in lists.values())
    return {key: _spread(values, epochs) for key, values in lists.items() if values}


def _spread(values: list[float | None], epochs: int) -> list[float | None]:
    """Put the values of every k-th epoch at these epochs."""
    every = epochs // len(values)
    found: list[float | None] = [None] * epochs
    found[every - 1 : every * len(values) : every] = values
    return found


def number(value: Any, name: str) -> float | None:
    """Return a float, or None for None."""
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"'{name}' must be a number. Received: {value!r}.") from error


def numbers(values: Any, name: str) -> dict[str, float]:
    """Return a dict of floats; what is None or not finite is left out."""
    if not isinstance(values, Mapping):
        raise InvalidArgumentError(
            f"`{name}` must be a dict of name -> number. Received: {values!r} "
            f"(of type {type(values).__name__})."
        )
    found = {str(key): number(value, f"{name}[{key!r}]") for key, value in values.items()}
    return {
        key: value for key, value in found.items() if value is not None and math.isfinite(value)
    }


def samples_of(samples: Any) -> dict[str, np.ndarray]:
    """Return the samples as uint8 images."""
    if not isinstance(samples, Mapping) or not set(samples) - {"real"}:
        raise InvalidArgumentError(
            "`samples` must be a dict of name -> images, with generated ones ('dense', 'pruned' or "
            f"'shrunk') among them. Received: {_named(samples)}."
        )
    found = {str(name): _image(images, name) for name, images in samples.items()}
    shapes = {name: images.shape for name, images in found.items() if name != "real"}
    if len(set(shapes.values())) > 1:
        raise InvalidArgumentError(
            "Samples must come from the same latent vectors, so as many and of one size. "
            f"Received: {', '.join(f'{name} {shape}' for name, shape in shapes.items())}."
        )
    return found


def _named(value: Any) -> str:
    return f"the names {sorted(value)}" if isinstance(value, Mapping) else repr(value)


def _image(images: Any, name: str) -> np.ndarray:
    images = keras.ops.convert_to_numpy(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise InvalidArgumentError(
            "Samples must be images (n, height, width, channels), with 1 or 3 channels. "
            f"Received for '{name}': shape {images.shape}. Reshape them first."
        )
    if images.dtype == np.uint8:
        return images
    images = images.astype("float32")
    if not np.all(np.isfinite(images)):
        raise InvalidArgumentError(
            f"Samples must be finite. Received NaN or infinite values for '{name}': has the run "
            "diverged? See `NaNGuard`."
        )
    if images.min() < -1.5 or images.max() > 1.5:
        raise InvalidArgumentError(
            f"Samples must be floats in [-1, 1], or uint8. Received for '{name}': values from "
            f"{images.min():g} to {images.max():g}. For pixels up to 255, pass images / 127.5 - 1."
        )
    return np.rint((np.clip(images, -1.0, 1.0) + 1.0) * 127.5).astype("uint8")


def sizes_of(sizes: Mapping[str, Any]) -> tuple[dict[str, dict[str, int]], dict[str, dict]]:
    """Return the sizes of each name, and what the profiles among them have timed."""
    found: dict[str, dict[str, int]] = {}
    timed: dict[str, dict[str, float]] = {}
    for name, things in sizes.items():
        own = found.setdefault(str(name), {})
        for thing in things if isinstance(things, (list, tuple)) else [things]:
            own.update(_size(thing, name))
            if isinstance(thing, Profile):
                times = timed.setdefault(str(name), {})
                for label, by_batch in (
                    ("Keras", thing.latency),
                    ("SavedModel", thing.saved_latency),
                ):
                    times.update({f"{label}, batch of {b}": float(t) for b, t in by_batch.items()})
    return found, {name: times for name, times in timed.items() if times}


def _size(thing: Any, name: str) -> dict[str, int]:
    if isinstance(thing, Profile):
        found = {
            "parameters": thing.parameters,
            "nonzero": thing.nonzero,
            "macs": None if thing.uncounted else thing.macs,
            "bytes": thing.bytes,
            "saved_bytes": thing.saved_bytes,
        }
    elif isinstance(thing, ExportReport):
        found = {
            "parameters": thing.parameters,
            "nonzero": thing.nonzero_parameters,
            "saved_bytes": thing.bytes,
            "gzip_bytes": thing.gzip_bytes,
        }
    elif isinstance(thing, Mapping) and set(thing) <= set(_SIZES):
        found = dict(thing)
    else:
        raise InvalidArgumentError(
            "`sizes` must give a `Profile`, an `ExportReport` or a dict with some of "
            f"{', '.join(_SIZES)}. Received for '{name}': {thing!r}."
        )
    return {key: int(value) for key, value in found.items() if value is not None}


def quality_of(
    quality: Mapping[str, Any],
) -> tuple[dict[str, tuple[dict[str, float], ...]], str]:
    """Return the measurements of each name as dicts, and the extractor that judged all of them."""
    found: dict[str, tuple[dict[str, float], ...]] = {}
    extractors: set[str] = set()
    for name, value in quality.items():
        many: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
        extractors |= {str(each.extractor) for each in many if hasattr(each, "extractor")}
        found[str(name)] = tuple(
            numbers(each.to_dict() if hasattr(each, "to_dict") else each, f"quality[{name!r}]")
            for each in many
        )
    if len(extractors) > 1:
        raise InvalidArgumentError(
            "All of `quality` must be judged by one extractor: distances of several do not compare. "
            f"Received: {', '.join(sorted(extractors))}. Measure all of it with one `ImageQuality`."
        )
    return found, next(iter(extractors), "")
