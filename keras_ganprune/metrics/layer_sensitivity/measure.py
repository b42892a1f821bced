"""What each layer of a network bears: pruned alone, at several sparsities."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ganprune.backend import tracing
from keras_ganprune.errors import (
    DivergedError,
    InvalidArgumentError,
    PruningWarning,
    UnsupportedLayerError,
)
from keras_ganprune.layers import mask_ops
from keras_ganprune.metrics.image_quality import is_judge
from keras_ganprune.metrics.layer_sensitivity.report import SensitivityReport, SensitivityRow
from keras_ganprune.metrics.layer_sensitivity.temporary_pruning import Moment
from keras_ganprune.pruning import criteria
from keras_ganprune.pruning.granularity import get as get_granularity
from keras_ganprune.pruning.mask_report import MaskReport
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.training import discovery
from keras_ganprune.utils import validation


def sensitivity(
    model: keras.Model,
    metric: Any,
    *,
    sparsities: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95),
    criterion: Any = "magnitude",
    granularity: Any = "unstructured",
    scope: Any = None,
    target: Any = None,
    direction: str = "min",
) -> SensitivityReport:
    """Prune each layer alone, at several sparsities, and measure; the model is left as it was.

    No training in between: it says what a layer bears at once, which orders layers much as what they bear
    with training does, at no cost.

    Args:
        model: A built Keras model: a `GANModel`, of which the generator is looked at (and its average
            pruned alike), another GAN, a classifier.
        metric: Function of `model` -> float, or an `ImageQuality`, whose Fréchet distance counts. It
            should give the same number for the same weights: seed what it draws.
        sparsities: Floats in (0, 1).
        criterion: Which weights go first, as for `Pruner`; none that needs gradients.
        granularity: As for `Pruner`; of coupled channels each group is looked at as one. No pattern.
        scope: Which layers, as for `Pruner`.
        target: Attribute name of a network in the model; None for its `generator`, or the model itself.
        direction: 'min' if the metric should be low, 'max' if high.

    Returns: A `SensitivityReport`.

    Raises:
        InvalidArgumentError: an argument breaks its rule.
        UnbuiltModelError: the model has no weights yet.
        DivergedError: the metric of the model as it is is not finite.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8, name="a"), keras.layers.Dense(2, name="b")]
    ... )
    >>> x = np.random.default_rng(0).normal(size=(32, 4))
    >>> y = model.predict(x, verbose=0)
    >>> found = sensitivity(model, lambda m: float(np.mean((m.predict(x, verbose=0) - y) ** 2)))
    >>> found.base, [row.path for row in found.rows[::5]]
    (0.0, ['a/kernel', 'b/kernel'])
    >>> sorted(found.allocation(0.75).named)
    ['a/kernel', 'b/kernel']

    Reference: [Pruning filters for efficient ConvNets](https://arxiv.org/abs/1608.08710), §3.2.
    """
    measure = _measure(metric)
    sign = validation.sign_of(direction)
    wanted = _check_sparsities(sparsities)
    if get_granularity(granularity).pattern:
        raise InvalidArgumentError(
            "A pattern such as 2:4 has one sparsity only. Use granularity='unstructured', 'channel' or a "
            f"block. Received: {granularity!r}."
        )
    if criteria.get(criterion).needs_gradient:
        raise InvalidArgumentError(
            f"`criterion` must do without gradients, since nothing is trained. Received: {criterion!r}. Use "
            "for example 'magnitude'."
        )
    network = _network(model, target)
    tracing.sync(model)
    rows: list[SensitivityRow] = []
    with Moment(model, network) as moment:
        pruner = Pruner(network, criterion=criterion, granularity=granularity, scope=scope)
        base = measure(model)
        if not math.isfinite(base):
            raise DivergedError(
                f"The metric of the model as it is must be finite. Received: {base}. Look at the weights, "
                "and at the metric."
            )
        asked = [0.0] * len(pruner.ranked)
        present = _update(pruner, asked).rows
        for index, row in enumerate(present):
            for sparsity in wanted:
                moment.restore()
                asked[index] = sparsity
                found = _update(pruner, asked).rows[index]
                moment.prune_copies(pruner)
                value = measure(model)
                if math.isnan(value):  # ruined
                    value = math.inf * sign
                measured = (sparsity, found.sparsity, value, sign * (value - base))
                rows.append(SensitivityRow(row.path, tuple(row.shape), row.total, *measured))
            asked[index] = 0.0
    return SensitivityReport(
        tuple(rows),
        base,
        {row.path: row.sparsity for row in present},
        all(row.units == row.total for row in present),
        direction,
    )


def _update(pruner: Pruner, sparsities: list[float]) -> MaskReport:
    with warnings.catch_warnings():
        # A layer that is sparser already than what is asked of it stays so, as it should.
        warnings.simplefilter("ignore", PruningWarning)
        return pruner.update(sparsity=sparsities)


def _measure(metric: Any) -> Callable[[keras.Model], float]:
    if is_judge(metric):
        return lambda model: float(metric.measure_generator(model).fd)
    if not callable(metric):
        raise InvalidArgumentError(
            "`metric` must be a function of the model that returns a float, or an `ImageQuality`. "
            f"Received: {metric!r} (of type {type(metric).__name__})."
        )

    def measure(model: keras.Model) -> float:
        value = metric(model)
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(
                f"`metric` must return a float. Received: {value!r} (of type {type(value).__name__})."
            ) from error

    return measure


def _check_sparsities(sparsities: Any) -> list[float]:
    values = [sparsities] if isinstance(sparsities, (int, float)) else list(sparsities)
    found = [mask_ops.validate_sparsity(value, "sparsities") for value in values]
    if not found or 0.0 in found or len(set(found)) != len(found):
        raise InvalidArgumentError(
            f"`sparsities` must be different fractions in (0, 1), one at least. Received: {values}."
        )
    return sorted(found)


def _network(model: Any, target: Any) -> keras.layers.Layer:
    if not isinstance(model, keras.layers.Layer):
        raise UnsupportedLayerError(
            f"`model` must be a Keras model. Received: {model!r} (of type {type(model).__name__})."
        )
    if target is None:
        return discovery.networks(model).get("generator", model)
    found = discovery.resolve_target(model, target)
    if len(found) != 1:
        raise InvalidArgumentError(
            f"`target` must name one network. Received: {target!r}. Call `sensitivity` for each."
        )
    return found[0][1]
