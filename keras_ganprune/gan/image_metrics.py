"""Metrics of generated images against target images, for `ImageToImageGAN.compile(metrics=...)`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from keras_ganprune.backend.operations import ops
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.utils import validation
from keras_ganprune.utils.registry import PACKAGE

# Below this mean squared error, two images of the range (0, 1) count as equal: 100 dB.
_SMALLEST_ERROR = 1e-10


@keras.saving.register_keras_serializable(package=PACKAGE)
class PSNR(keras.metrics.Mean):
    """Peak signal-to-noise ratio, the mean over the images, in dB.

        PSNR = 10 log10((high - low)^2 / mean (x - y)^2)

    It is at most 100 dB, the value for equal images.

    Args:
        value_range: (low, high) of the images. Defaults to (-1.0, 1.0).
        name: Name in the logs. Defaults to "psnr".
        dtype: As for `keras.metrics.Metric`. Defaults to None.

    Raises:
        InvalidArgumentError: `value_range` is not (low, high) with low < high.

    Example:
    >>> metric = PSNR((0.0, 1.0))
    >>> metric.update_state(np.zeros((1, 2, 2, 1)), np.full((1, 2, 2, 1), 0.1))
    >>> round(float(metric.result()), 3)
    20.0

    Reference: [SRGAN](https://arxiv.org/abs/1609.04802), Section 3.
    """

    def __init__(
        self,
        value_range: tuple[float, float] = (-1.0, 1.0),
        name: str = "psnr",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.value_range = validation.value_range(value_range)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add the ratios of a batch of images (batch, ...)."""
        y_true, y_pred = (ops.cast(x, self.dtype) for x in (y_true, y_pred))
        low, high = self.value_range
        axes = tuple(range(1, len(y_pred.shape)))
        error = ops.mean(ops.square(y_true - y_pred), axis=axes) / (high - low) ** 2
        error = ops.maximum(error, _SMALLEST_ERROR)
        return super().update_state(
            ops.log(error) * (-10.0 / math.log(10.0)), sample_weight=sample_weight
        )

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"value_range": self.value_range, "name": self.name, "dtype": self.dtype}


def metrics_of(
    identifiers: Any, value_range: tuple[float, float] | None, logged: Iterable[str] = ()
) -> list[keras.metrics.Metric]:
    """Return the metrics for the argument `metrics` of `compile`.

    Args:
        identifiers: None, or a list of names, functions of (targets, images) and Keras metrics. 'psnr' is
            the `PSNR` of `value_range`.
        value_range: (low, high) of the images, or None.
        logged: Names of the other logs. Defaults to none.

    Raises:
        ArgumentTypeError: `identifiers` is not a list, or an entry is not a metric.
        InvalidArgumentError: Two metrics have one name, a name is unknown, or 'psnr' is given without a
            `value_range`.
    """
    if identifiers is None:
        return []
    if isinstance(identifiers, str) or not isinstance(identifiers, Sequence):
        raise ArgumentTypeError(
            "`metrics` must be a list, such as `metrics=['psnr', 'mae']`. Received: "
            f"{identifiers!r} (of type {type(identifiers).__name__})."
        )
    metrics = [_metric(one, value_range) for one in identifiers]
    names = [*logged, *(metric.name for metric in metrics)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidArgumentError(
            f"Each metric must have a name of its own in the logs. Received twice: {', '.join(twice)}. Pass "
            "`name=` to one of them."
        )
    return metrics


def _metric(identifier: Any, value_range: tuple[float, float] | None) -> keras.metrics.Metric:
    if isinstance(identifier, str) and identifier == "psnr":
        if value_range is None:
            raise InvalidArgumentError(
                "The metric 'psnr' needs the range of the images. Received: a GAN with value_range=None. "
                "Pass `metrics=[PSNR(value_range=(low, high))]`."
            )
        return PSNR(value_range)
    if isinstance(identifier, type):
        raise ArgumentTypeError(
            f"A metric must be an object, not its class. Received: {identifier.__name__}. Write "
            f"`{identifier.__name__}()`."
        )
    try:
        found = keras.metrics.get(identifier)
    except (ValueError, TypeError) as error:
        raise InvalidArgumentError(
            "A metric must be 'psnr', or a name, a function or an object that Keras accepts as a metric. "
            f"Received: {identifier!r}."
        ) from error
    if isinstance(found, keras.metrics.Metric):
        # The log has the name that was written, as in `keras.Model.compile`.
        return type(found)(name=identifier) if isinstance(identifier, str) else found
    if callable(found):
        name = identifier if isinstance(identifier, str) else getattr(found, "__name__", "metric")
        return keras.metrics.MeanMetricWrapper(found, name=name)
    raise ArgumentTypeError(
        f"A metric must be a name, a function or a Keras metric. Received: {identifier!r} (of type "
        f"{type(identifier).__name__})."
    )
