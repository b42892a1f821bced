"""What judges a compressed network: a callable, an `ImageQuality`, or the compiled metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_ganprune.applications.compression.outputs import in_one_line
from keras_ganprune.callbacks.run_progress import RunProgress
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, PruningError
from keras_ganprune.metrics.image_quality import is_evaluator
from keras_ganprune.utils import validation

# Parts of names that say which way is better.
_HIGHER = (
    r"acc|auc|precision|recall|f1|fbeta|f_beta|iou|io_u|dice|ap50|ap75|map|psnr|ssim|r2|score|coverage|"
    r"density|cosine"
)
_LOWER = r"loss|error|mse|mae|mape|msle|rmse|entropy|divergence|distance|perplexity|fd|fid|kd|kid|kl|hinge"


def direction_of(name: str) -> bool | None:
    """Return whether a higher value of a metric is better, by its name; None if the name does not tell.

    Example:
    >>> from keras_ganprune.applications.compression.judge import direction_of
    >>> direction_of("val_accuracy"), direction_of("fd"), direction_of("value")
    (True, False, None)
    """
    words = name.lower()
    for pattern, answer in ((_LOWER, False), (_HIGHER, True)):
        if re.search(rf"(^|[^a-z])({pattern})|({pattern})([^a-z]|$)", words):
            return answer
    return None


class Judge:
    """Measures networks by the metric of one call of `compress`.

    Args:
        measure: Function of a plain network that returns a float or a dict, or None if nothing judges.
        higher_is_better: Bool, or None if the name of the metric tells.
        source: What the numbers are of, for the result.

    Attributes:
        name: Name of the metric that decides; None before the first measurement, or without a metric.
    """

    def __init__(
        self,
        measure: Callable[[keras.Model], Any] | None,
        higher_is_better: bool | None,
        source: str,
    ):
        self._measure = measure
        self._given = higher_is_better
        self.source = source
        self.name: str | None = None

    @property
    def judges(self) -> bool:
        """Whether there is a metric."""
        return self._measure is not None

    @property
    def higher_is_better(self) -> bool | None:
        """Whether a higher value of the deciding metric is better; None if that is not known."""
        if self._given is not None or self.name is None:
            return self._given
        return direction_of(self.name)

    def __call__(self, network: keras.Model) -> dict[str, float]:
        """Return the numbers of a network, the deciding one first; {} without a metric.

        Raises:
            ArgumentTypeError: The metric returns neither a number nor a dict of numbers.
            InvalidArgumentError: The metric returns NaN or an infinite number.
        """
        if self._measure is None:
            return {}
        try:
            found = self._measure(network)
        except PruningError:
            raise
        except Exception as error:
            raise InvalidArgumentError(
                f"`metric` must take the plain network and return a number or a dict. Received: "
                f"{self.source}, which raised {type(error).__name__}: {in_one_line(error)}"
            ) from error
        numbers = as_numbers(found)
        self.name = next(iter(numbers))
        return numbers

    def within(self, value: float, reference: float, tolerance: float) -> bool:
        """Return whether a value is worse than a reference by at most a share of the reference."""
        sign = 1.0 if self.higher_is_better else -1.0
        return sign * (reference - value) <= tolerance * abs(reference)


def as_numbers(found: Any) -> dict[str, float]:
    """Return what a metric returned as a dict of floats.

    Raises:
        ArgumentTypeError: It is neither a number nor a dict of numbers.
        InvalidArgumentError: The first number is NaN or infinite.
    """
    if hasattr(found, "to_dict"):
        found = found.to_dict()
    rows = dict(found) if isinstance(found, Mapping) else {"metric": found}
    numbers = {}
    for name, value in rows.items():
        try:
            numbers[str(name)] = float(np.asarray(keras.ops.convert_to_numpy(value)))
        except (TypeError, ValueError):
            if not numbers:
                raise ArgumentTypeError(
                    "`metric` must return a number, or a dict whose first entry is a number. Received: "
                    f"{value!r} (of type {type(value).__name__})."
                ) from None
    if not numbers:
        raise ArgumentTypeError(f"`metric` must return at least one number. Received: {found!r}.")
    name, first = next(iter(numbers.items()))
    if not math.isfinite(first):
        raise InvalidArgumentError(
            f"`metric` must return a finite number, since it decides. Received: {name} = {first}. Let it "
            "return a number for every network, also for one that is bad."
        )
    return numbers


def of_metric(metric: Any, higher_is_better: Any) -> Judge | None:
    """Return the judge for the argument `metric`, or None if it is None.

    Raises:
        ArgumentTypeError: `metric` cannot be called and does not measure generators.
    """
    if higher_is_better is not None:
        validation.boolean(higher_is_better, "higher_is_better")
    if metric is None:
        return None
    if is_evaluator(metric):
        return Judge(
            metric.measure_generator, bool(higher_is_better or False), type(metric).__name__
        )
    if not callable(metric) or isinstance(metric, (type, str)):
        raise ArgumentTypeError(
            "`metric` must be a function of a network that returns a number or a dict, an `ImageQuality`, "
            f"or None for the compiled metrics. Received: {metric!r} (of type {type(metric).__name__})."
        )
    return Judge(metric, higher_is_better, getattr(metric, "__name__", type(metric).__name__))


def measured(
    judge: Judge, network: keras.Model, progress: RunProgress, title: str
) -> dict[str, float]:
    """Return the numbers of a network, and say meanwhile what goes on.

    Args:
        judge: Measures.
        network: The plain network.
        progress: Shows what goes on.
        title: Name of the network.
    """
    if not judge.judges:
        return judge(network)
    with progress.doing(f"{title}: measuring the quality"):
        return judge(network)
