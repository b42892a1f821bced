"""Times and quality of a SavedModel, as TensorFlow serves it."""

from __future__ import annotations

from typing import Any

import attrs
import keras

from keras_ganprune.exporters import _comparison, file_quality
from keras_ganprune.exporters.conversion_source import sized
from keras_ganprune.exporters.file_report import FileReport
from keras_ganprune.metrics import measure_latency

_TIMED = (1, 16)  # batch sizes of the times


def with_measurements(
    report: FileReport,
    model: keras.Model,
    network: keras.Model,
    inputs: Any,
    quality: Any,
    latency: bool,
) -> FileReport:
    """Return the report of a SavedModel with the requested measurements.

    Args:
        report: The report.
        model: The model of the user.
        network: Its network that was exported.
        inputs, quality, latency: As for `export`.
    """
    if quality is None and not latency:
        return report
    serve = measure_latency.served(report.path)

    def of_file(rows: Any) -> Any:
        return serve(*_comparison.tensors(network, rows))

    if quality is not None:
        report = file_quality.judged(report, quality, model, network, of_file, None)
    if latency:
        batch = _comparison.inputs_for(network, inputs)
        times = {
            size: measure_latency.timed({"": of_file}, sized(batch, size), None)[""]
            for size in _TIMED
        }
        report = attrs.evolve(report, milliseconds=times)
    return report
