"""The quality of what a file gives: measured on its outputs, as its runtime computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import keras
import numpy as np

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, PruningError
from keras_ganprune.exporters import _comparison
from keras_ganprune.exporters.conversion_source import in_batches
from keras_ganprune.exporters.file_report import FileReport
from keras_ganprune.metrics import measure_latency, sampling
from keras_ganprune.metrics.image_quality import is_evaluator
from keras_ganprune.utils import annotated
from keras_ganprune.utils.foreign_errors import sentence_of

# Latent vectors per call of a file.
_BATCH = 64


def check_quality(quality: Any) -> None:
    """Raise `ArgumentTypeError` unless `quality` is None, an `ImageQuality` or a function."""
    if quality is None or is_evaluator(quality):
        return
    usable = callable(quality) and not isinstance(quality, (type, keras.layers.Layer))
    if not usable or not annotated.takes(quality, 1):
        raise ArgumentTypeError(
            "`quality` must be an `ImageQuality`, or a function (predict) -> number or dict, where "
            f"`predict(inputs)` returns the outputs. Received: {quality!r}."
        )


def judged(
    report: FileReport,
    quality: Any,
    model: keras.Model,
    network: keras.Model,
    of_file: Callable[[Any], Any],
    batch: int | None,
) -> FileReport:
    """Return a report with the quality of the outputs of a file, and of the network.

    Args:
        report: The report.
        quality: An `ImageQuality`, or a function of `predict(inputs)`.
        model: The model of the user.
        network: Its network that was exported.
        of_file: Function of a batch of inputs that returns the outputs of the file.
        batch: Fixed batch size of the file, or None.
    """
    compiled = measure_latency.compiled(network)

    def of_network(rows: Any) -> Any:
        return compiled(*_comparison.tensors(network, rows))

    numbers = [
        _measured(quality, model, lambda x, n, f=f: in_batches(f, x, n), batch)
        for f in (of_file, of_network)
    ]
    return attrs.evolve(report, quality=numbers[0], model_quality=numbers[1])


def _measured(
    quality: Any, model: keras.Model, predict: Callable[[Any, int], Any], batch: int | None
) -> dict[str, float]:
    """Return metric -> value for a network or a file.

    Args:
        quality: An `ImageQuality`, or a function of `predict(inputs)`.
        model: The model of the user, which tells the form of the latent vectors.
        predict: Function of (inputs in the structure of the network, batch size) that returns its outputs.
        batch: Fixed batch size of the file, or None.

    Raises:
        ArgumentTypeError: The function returns neither a number nor a dict of numbers.
        InvalidArgumentError: The first value is NaN or infinite.
        DataError: The images cannot be measured.
    """
    size = batch or _BATCH
    if is_evaluator(quality):
        return _numbers(_evaluated(quality, model, lambda inputs: predict(inputs, size)))

    def one_batch(inputs: Any) -> Any:
        """Return the outputs for inputs in the structure of the network."""
        return predict(inputs, size)

    try:
        found = quality(one_batch)
    except PruningError:
        raise
    except Exception as error:
        raise InvalidArgumentError(
            "`quality` must take `predict`, and return a number or a dict. Received: a function that raised "
            f"{type(error).__name__}: {sentence_of(error)} Nothing was written."
        ) from error
    return _numbers(found)


def _evaluated(quality: Any, model: keras.Model, predict: Callable[[Any], Any]) -> Any:
    labels = getattr(quality, "labels", None)
    drawn: list[Any] = []

    def images(n: int, seed: int) -> np.ndarray:
        inputs = sampling.drawn_inputs(model, n, labels=labels, seed=seed)
        drawn[:] = inputs[1:]
        return np.asarray(predict(inputs if len(inputs) > 1 else inputs[0]), "float32")

    if labels is not None and hasattr(quality, "measure"):
        found = images(quality.samples, quality.seed)
        return quality.measure(found, drawn[0] if drawn else None)
    return quality.measure_generator(images)


def _numbers(found: Any) -> dict[str, float]:
    if hasattr(found, "to_dict"):
        found = found.to_dict()
    rows = dict(found) if isinstance(found, Mapping) else {"quality": found}
    numbers: dict[str, float] = {}
    for name, value in rows.items():
        try:
            numbers[str(name)] = float(np.asarray(value))
        except (TypeError, ValueError):
            continue  # such as the name of the extractor
    if not numbers:
        raise ArgumentTypeError(
            f"`quality` must return a number or a dict of numbers. Received: {found!r}."
        )
    name, value = next(iter(numbers.items()))
    if not np.isfinite(value):
        raise InvalidArgumentError(
            f"`quality` must return finite numbers. Received: {name} = {value}. Nothing was written."
        )
    return numbers
