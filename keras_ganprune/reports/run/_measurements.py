"""Logs, images, sizes and quality of a run, as plain numbers and uint8 images."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import DivergedError, InvalidArgumentError, PruningWarning
from keras_ganprune.exporters import ExportReport
from keras_ganprune.metrics import Profile
from keras_ganprune.metrics.milliseconds import Milliseconds
from keras_ganprune.pruning.structured.counted_macs import CountedMacs
from keras_ganprune.reports.run.run import MetricColumn
from keras_ganprune.utils import validation

_PNG = b"\x89PNG\r\n\x1a\n"
_SIZES = ("parameters", "nonzero", "macs", "bytes", "saved_bytes", "gzip_bytes")


def history_of(history: Any) -> dict[str, list[float | None]]:
    """Return the logs as lists of equal length, with None for epochs without a measurement."""
    logs = getattr(history, "history", history)
    if not isinstance(logs, Mapping) or not any(_as_list(values) for values in logs.values()):
        raise InvalidArgumentError(
            "`history` must be the result of `fit`, or a dict of log -> list with one float per epoch "
            f"and at least one epoch. Received: {history!r}."
        )
    lists = {str(k): [number(value, k) for value in _as_list(v)] for k, v in logs.items()}
    for key, values in lists.items():
        check_not_diverged(values, key, "The run")
    epochs = max(len(values) for values in lists.values())
    return {key: _spread(values, epochs) for key, values in lists.items() if values}


def _as_list(values: Any) -> list[Any]:
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__"):
        raise InvalidArgumentError(
            "`history` must hold a list with one float per epoch for each log. Received: "
            f"{values!r}."
        )
    return list(values)


def check_not_diverged(values: Sequence[float | None], key: str, whose: str) -> None:
    """Raise `DivergedError` if a loss is NaN or infinite. Other logs may be."""
    bad = [i for i, v in enumerate(values, 1) if v is not None and not math.isfinite(v)]
    if bad and "loss" in key:
        raise DivergedError(
            f"{whose} diverged: {key} is {values[bad[0] - 1]} in epoch {bad[0]} of "
            f"{len(values)}, so its samples have no meaningful quality. "
            "Train again with a lower learning rate or with `clipnorm`; see `NaNGuard`."
        )


def _spread(values: list[float | None], epochs: int) -> list[float | None]:
    """Return a log of every k-th epoch as a log with one value per epoch."""
    interval = epochs // len(values)
    log: list[float | None] = [None] * epochs
    log[interval - 1 : interval * len(values) : interval] = values
    return log


def number(value: Any, name: str) -> float | None:
    """Return a float, or None for None."""
    if value is None:
        return None
    try:
        if isinstance(value, (str, bytes, bool)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"'{name}' must be a number. Received: {value!r}.") from error


def numbers(values: Any, name: str) -> dict[str, float]:
    """Return a dict of finite floats. Values that are None, NaN or infinite are left out."""
    if not isinstance(values, Mapping):
        raise InvalidArgumentError(
            f"`{name}` must be a dict of name -> number. Received: {values!r} "
            f"(of type {type(values).__name__})."
        )
    floats = {str(key): number(value, f"{name}[{key!r}]") for key, value in values.items()}
    return {
        key: value for key, value in floats.items() if value is not None and math.isfinite(value)
    }


def samples_of(samples: Any) -> dict[str, np.ndarray]:
    """Return the samples as uint8 images."""
    if not isinstance(samples, Mapping) or not set(samples) - {"real"}:
        names = f"the names {sorted(samples)}" if isinstance(samples, Mapping) else repr(samples)
        raise InvalidArgumentError(
            "`samples` must be a dict of name -> images with at least one name of generated images "
            f"('dense', 'pruned' or 'shrunk'). Received: {names}."
        )
    arrays = {str(name): _image(images, name) for name, images in samples.items()}
    shapes = {name: images.shape for name, images in arrays.items() if name != "real"}
    if len(set(shapes.values())) > 1:
        raise InvalidArgumentError(
            "Samples must come from the same latent vectors, so their number and size must be equal. "
            f"Received: {', '.join(f'{name} {shape}' for name, shape in shapes.items())}."
        )
    return arrays


def pictures_of(pictures: Mapping[str, Any]) -> dict[str, bytes]:
    """Return pictures as the bytes of PNG files. Pictures are such bytes, or matplotlib figures."""
    files = {str(title): _png(picture) for title, picture in pictures.items()}
    for title, data in files.items():
        if not data.startswith(_PNG):
            raise InvalidArgumentError(
                "A picture must be a matplotlib figure, or the bytes of a PNG file. Received for "
                f"'{title}': bytes that begin with {data[:8]!r}."
            )
    return files


def _png(picture: Any) -> bytes:
    if isinstance(picture, bytes):
        return picture
    if not hasattr(picture, "savefig"):
        raise InvalidArgumentError(
            "A picture must be a matplotlib figure, or the bytes of a PNG file. Received: "
            f"{picture!r} (of type {type(picture).__name__})."
        )
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def metrics_of(metrics: Mapping[str, Any]) -> dict[str, MetricColumn]:
    """Return descriptions of metrics: (title, whether higher is better) or (title, ..., digits)."""
    columns = {}
    for name, given in metrics.items():
        try:
            title, higher_is_better, *digits = given
            columns[str(name)] = MetricColumn(str(title), bool(higher_is_better), *map(int, digits))
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(
                "`metrics` must be a dict of metric -> (title, whether higher is better) or (title, whether "
                f"higher is better, digits). Received for {name!r}: {given!r}."
            ) from error
    return columns


def _image(images: Any, name: str) -> np.ndarray:
    images = np.asarray(keras.ops.convert_to_numpy(images))
    if images.dtype.kind not in "fiub":
        raise InvalidArgumentError(
            f"Samples must be real numbers. Received for '{name}': dtype {images.dtype}."
        )
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise InvalidArgumentError(
            "Samples must be images (n, height, width, channels) with 1 or 3 channels. "
            f"Received for '{name}': shape {images.shape}. Reshape them first."
        )
    if images.dtype == np.uint8:
        return images
    images = images.astype("float32")
    if not np.all(np.isfinite(images)):
        raise InvalidArgumentError(
            f"Samples must be finite. Received NaN or infinite values for '{name}'. Has the training "
            "diverged? See `NaNGuard`."
        )
    if images.min() < -1.5 or images.max() > 1.5:
        raise InvalidArgumentError(
            f"Samples must be floats in [-1, 1], or uint8. Received for '{name}': values from "
            f"{images.min():g} to {images.max():g}. For pixels up to 255, pass images / 127.5 - 1."
        )
    return np.rint((np.clip(images, -1.0, 1.0) + 1.0) * 127.5).astype("uint8")


def sizes_of(
    sizes: Mapping[str, Any],
) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    """Return the sizes of each name, and the latencies that the profiles among them contain."""
    all_sizes: dict[str, dict[str, int]] = {}
    all_times: dict[str, dict[str, float]] = {}
    for name, sources in sizes.items():
        counts = all_sizes.setdefault(str(name), {})
        for source in sources if isinstance(sources, (list, tuple)) else [sources]:
            counts.update(_size(source, name))
            if isinstance(source, Profile):
                all_times.setdefault(str(name), {}).update(_times(source))
    return all_sizes, {name: times for name, times in all_times.items() if times}


def _times(profile: Profile) -> dict[str, float]:
    runtimes = {"Keras": profile.latency, "SavedModel": profile.saved_latency}
    return {
        f"{runtime}, batch of {batch}": milliseconds
        for runtime, by_batch in runtimes.items()
        for batch, milliseconds in by_batch.items()
    }


def quartiles_of(
    *latencies: Mapping[str, Any],
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the quartiles of the times that know them, by name and label."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for times_of in latencies:
        for name, times in times_of.items():
            known = times.items() if isinstance(times, Mapping) else ()
            for label, time in known:
                if isinstance(time, Milliseconds):
                    found.setdefault(str(name), {})[str(label)] = time.quartiles
    return found


def _size(source: Any, name: str) -> dict[str, int]:
    counts: dict[str, Any]
    if isinstance(source, Profile):
        counts = {
            "parameters": source.parameters,
            "nonzero": source.nonzero,
            "macs": source.macs,
            "bytes": source.bytes,
            "saved_bytes": source.saved_bytes,
        }
    elif isinstance(source, ExportReport):
        counts = {
            "parameters": source.parameters,
            "nonzero": source.nonzero_parameters,
            "saved_bytes": source.bytes,
            "gzip_bytes": source.gzip_bytes,
        }
    elif isinstance(source, Mapping) and set(source) <= set(_SIZES):
        counts = dict(source)
    else:
        raise InvalidArgumentError(
            "`sizes` must contain a `Profile`, an `ExportReport` or a dict with some of "
            f"{', '.join(_SIZES)}. Received for '{name}': {source!r}."
        )
    macs = counts.get("macs")
    if isinstance(macs, CountedMacs) and macs.uncounted:
        warnings.warn(
            f"The MACs of '{name}' are left out of the run, because they are not known for all layers. Not "
            f"counted: {macs.missing}. Register a rule for them with `kgp.register_macs`.",
            PruningWarning,
            stacklevel=5,
        )
        del counts["macs"]
    for key, value in counts.items():
        if value is not None:
            counts[key] = validation.non_negative_int(value, f"sizes[{name!r}][{key!r}]")
    return {key: value for key, value in counts.items() if value is not None}


def quality_of(
    quality: Mapping[str, Any],
) -> tuple[dict[str, tuple[dict[str, float], ...]], str]:
    """Return the measurements of each name as dicts, and the fingerprint of the feature extractor."""
    measurements: dict[str, tuple[dict[str, float], ...]] = {}
    extractors: set[str] = set()
    for name, value in quality.items():
        reports: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
        extractors |= {str(report.extractor) for report in reports if hasattr(report, "extractor")}
        dicts = [report.to_dict() if hasattr(report, "to_dict") else report for report in reports]
        measurements[str(name)] = tuple(numbers(report, f"quality[{name!r}]") for report in dicts)
    if len(extractors) > 1:
        raise InvalidArgumentError(
            "`quality` must come from one feature extractor, because distances from different extractors "
            f"are not comparable. Received: {', '.join(sorted(extractors))}. Measure all names with one "
            "`ImageQuality`."
        )
    return measurements, next(iter(extractors), "")
