"""`sweep_application`: dense and pruned networks of an application, in pairs over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import keras

from keras_ganprune.applications.base import Application
from keras_ganprune.applications.dense_training import Plan, settings_of
from keras_ganprune.search import SweepPlan, SweepResult, sweep
from keras_ganprune.utils.status_line import StatusLine

# Options of an application that a sweep sets itself, or that are for one run only.
NOT_SWEPT = (
    *("output", "overwrite", "seed", "epochs", "steps", "batch_size"),
    *("compare_narrow", "sparsity", "macs"),
)


def sweep_application(
    application: Application, settings: Mapping[str, Any], **arguments: Any
) -> SweepResult:
    """Train the networks of an application dense and at several sparsities, and compare them in pairs.

    Each run is measured on the validation data: the test data stays unseen until the sparsity is chosen.

    Args:
        application: The application, with its options.
        settings: Fields of `SweepPlan`. Without them, `steps` and `batch_size` are those of the application,
            and `metric` is its first metric.
        **arguments: Further arguments of `sweep`, such as `storage`.

    Raises:
        InvalidArgumentError: A setting is wrong, or the study exists with other settings.
        DataError: The data cannot be loaded.

    Example:
    >>> from keras_ganprune.applications import catalog
    >>> generation = catalog.get("image-generation")
    >>> application = generation(generation.options_class(quick=True))
    >>> result = sweep_application(application, {"seeds": 3}, storage=None)  # doctest: +SKIP
    """
    metric = settings.get("metric") or next(iter(application.metrics))
    given = {key: value for key, value in settings.items() if value is not None}
    given |= {
        "target": application.target,
        "metric": metric,
        "direction": "max" if application.metrics[metric].higher_is_better else "min",
    }
    # Checked before the data is loaded.
    SweepPlan(**{"steps": 100, "batch_size": 1, **given})
    line = StatusLine()
    with line.doing("Loading the data"):
        data = application.data()
    line.say(f"Data: {data.description}")
    lengths = Plan.of(application, data)
    plan = SweepPlan(**{"steps": sum(lengths.steps), "batch_size": lengths.batch_size, **given})

    def build(seed: int) -> keras.Model:
        options = attrs.evolve(application.options, seed=seed)
        # The data, and what evaluates, are those of the first seed.
        application.options, before = options, application.options
        try:
            return application.model(application.networks(data))
        finally:
            application.options = before

    def quality(model: keras.Model, x: Any, y: Any) -> dict[str, float]:
        return application.evaluate(application.network(model), data.validation)

    return sweep(
        build,
        data.train.x,
        data.train.y,
        plan,
        quality=quality,
        callbacks=lambda run: application.callbacks(data),
        settings={
            "application": application.name,
            **{k: v for k, v in settings_of(application).items() if k not in NOT_SWEPT},
        },
        **arguments,
    )
