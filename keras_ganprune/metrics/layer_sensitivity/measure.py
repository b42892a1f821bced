"""The measurement of layer sensitivity: each layer is pruned alone, at several sparsities."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras

from keras_ganprune.backend import tracing
from keras_ganprune.errors import (
    ArgumentTypeError,
    DivergedError,
    InvalidArgumentError,
    PruningWarning,
)
from keras_ganprune.layers import scope as scopes
from keras_ganprune.metrics.image_quality import Evaluator, is_evaluator
from keras_ganprune.metrics.layer_sensitivity.report import SensitivityReport, SensitivityRow
from keras_ganprune.metrics.layer_sensitivity.temporary_pruning import TemporaryPruning
from keras_ganprune.pruning import criteria
from keras_ganprune.pruning.criteria import CriterionLike
from keras_ganprune.pruning.granularity import GranularityLike
from keras_ganprune.pruning.granularity import get as get_granularity
from keras_ganprune.pruning.mask_report import MaskReport
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.training import discovery
from keras_ganprune.utils import annotated, validation


def sensitivity(
    model: keras.Model,
    metric: Evaluator | Callable[[Any], Any],
    *,
    sparsities: float | Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95),
    criterion: CriterionLike = "magnitude",
    granularity: GranularityLike = "unstructured",
    scope: Any = None,
    target: str | keras.layers.Layer | None = None,
    direction: Literal["min", "max"] = "min",
) -> SensitivityReport:
    """Prune each layer alone at several sparsities, and measure how much a metric degrades.

    Nothing is trained, and the model is restored afterwards. Layers that degrade the metric most without
    training usually also do so with training.

    Args:
        model: A built Keras model: a `GANModel`, another GAN, a classifier. For a GAN, the generator is
            pruned, and its averaged copy gets the same masks.
        metric: Function of `model` that returns a float, or an `ImageQuality`, whose Fréchet distance is
            used. It should return the same number for the same weights, so seed its random draws.
        sparsities: Different floats in (0, 1). Defaults to (0.5, 0.7, 0.8, 0.9, 0.95).
        criterion: Criterion without gradients, as for `Pruner`. Defaults to 'magnitude'.
        granularity: Granularity, as for `Pruner`, but not a pattern such as 2:4. Each group of coupled
            channels is pruned as one layer. Defaults to 'unstructured'.
        scope: Layers to prune, as for `Pruner`. Defaults to None: all.
        target: Attribute name of a network in the model, or the network. Defaults to None: the attribute
            `generator` if there is one, or else the model.
        direction: 'min' if a lower metric is better, 'max' if a higher one is. Defaults to 'min'.

    Returns:
        A `SensitivityReport`.

    Raises:
        ArgumentTypeError: `model` is not a Keras model, or `metric` is neither a function of the model
            that returns a float nor an `ImageQuality`.
        InvalidArgumentError: `sparsities` has equal values or values outside (0, 1), the criterion needs
            gradients, the granularity is a pattern, a name is unknown, `scope` matches no layer, or `target`
            names several networks.
        UnbuiltModelError: The model has no weights yet.
        DivergedError: The metric of the unchanged model is not finite.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8, name="a"), keras.layers.Dense(2, name="b")]
    ... )
    >>> x = np.random.default_rng(0).normal(size=(32, 4))
    >>> y = model.predict(x, verbose=0)
    >>> report = sensitivity(model, lambda m: float(np.mean((m.predict(x, verbose=0) - y) ** 2)))
    >>> report.base, [row.path for row in report.rows[::5]]
    (0.0, ['a/kernel', 'b/kernel'])
    >>> sorted(report.allocation(0.75).named)
    ['a/kernel', 'b/kernel']

    Reference: [Pruning filters for efficient ConvNets](https://arxiv.org/abs/1608.08710), §3.2.
    """
    annotated.check(sensitivity, locals(), "target")
    scopes.check(scope, "scope")
    measure = _metric_function(metric)
    sign = validation.sign_of(direction)
    levels = _checked_sparsities(sparsities)
    if get_granularity(granularity).pattern:
        raise InvalidArgumentError(
            "`granularity` must allow several sparsities, but a pattern such as 2:4 has only one. "
            f"Received: {granularity!r}. Use 'unstructured', 'channel' or a block such as '4x4'."
        )
    if criteria.get(criterion).needs_gradient:
        raise InvalidArgumentError(
            "`criterion` must not need gradients, since nothing is trained. Received: "
            f"{criterion!r}. Use for example 'magnitude'."
        )
    network = _network(model, target)
    tracing.sync(model)
    rows: list[SensitivityRow] = []
    with TemporaryPruning(model, network) as temporary:
        pruner = Pruner(network, criterion=criterion, granularity=granularity, scope=scope)
        base = measure(model)
        if not math.isfinite(base):
            raise DivergedError(
                f"The metric of the unchanged model must be finite. Received: {base}. Check that its "
                "weights are finite and that `metric` is correct."
            )
        requested = [0.0] * len(pruner.ranked)
        present = _update(pruner, requested).rows
        for index, row in enumerate(present):
            for sparsity in levels:
                temporary.restore()
                requested[index] = sparsity
                achieved = _update(pruner, requested).rows[index].sparsity
                temporary.prune_copies(pruner)
                value = measure(model)
                if math.isnan(value):  # the network is ruined: the worst possible value
                    value = math.inf * sign
                numbers = (sparsity, achieved, value, sign * (value - base))
                rows.append(SensitivityRow(row.path, tuple(row.shape), row.total, *numbers))
            requested[index] = 0.0
    return SensitivityReport(
        tuple(rows),
        base,
        {row.path: row.sparsity for row in present},
        all(row.units == row.total for row in present),
        direction,
    )


def _update(pruner: Pruner, sparsities: list[float]) -> MaskReport:
    with warnings.catch_warnings():
        # A layer that is already sparser than requested keeps its sparsity. The warning about it is not
        # needed.
        warnings.simplefilter("ignore", PruningWarning)
        return pruner.update(sparsity=sparsities)


def _metric_function(metric: Any) -> Callable[[keras.Model], float]:
    """Return a function that returns the metric of a model as a float."""
    if is_evaluator(metric):
        return lambda model: float(metric.measure_generator(model).fd)
    if not callable(metric) or isinstance(metric, (type, keras.layers.Layer)):
        raise ArgumentTypeError(
            "`metric` must be a function of the model that returns a float, or an `ImageQuality`. "
            f"Received: {metric!r} (of type {type(metric).__name__})."
        )
    if not annotated.takes(metric, 1):
        raise ArgumentTypeError(
            "`metric` must be a function of one argument, the model. "
            f"Received: {metric!r}, which does not take one."
        )

    def measure(model: keras.Model) -> float:
        value: Any = metric(model)
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise ArgumentTypeError(
                f"`metric` must return a float. Received: {value!r} (of type {type(value).__name__})."
            ) from error

    return measure


def _checked_sparsities(sparsities: Any) -> list[float]:
    several = validation.entries(sparsities)
    values = [sparsities] if several is None else several
    levels = [validation.validate_sparsity(value, "sparsities") for value in values]
    if not levels or 0.0 in levels or len(set(levels)) != len(levels):
        raise InvalidArgumentError(
            "`sparsities` must be at least one fraction in (0, 1), without repetition. Received: "
            f"{values}. Pass for example (0.5, 0.8, 0.9)."
        )
    return sorted(levels)


def _network(model: Any, target: Any) -> keras.layers.Layer:
    if not isinstance(model, keras.layers.Layer):
        raise ArgumentTypeError(
            f"`model` must be a Keras model. Received: {model!r} (of type {type(model).__name__})."
        )
    if target is None:
        return discovery.networks(model).get("generator", model)
    matches = discovery.resolve_target(model, target)
    if len(matches) != 1:
        raise InvalidArgumentError(
            f"`target` must name one network. Received: {target!r}. Call `sensitivity` for each."
        )
    return matches[0][1]
