"""`sweep`: find the sparsity by experiment, in a study that can be interrupted and shared."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs
import keras
import numpy as np

from keras_ganprune.datasets import Images
from keras_ganprune.errors import (
    ArgumentTypeError,
    DataError,
    InvalidArgumentError,
    PruningError,
    unknown_name,
)
from keras_ganprune.search._worker import Worker
from keras_ganprune.search.plan import SweepPlan
from keras_ganprune.search.result import SweepResult
from keras_ganprune.search.runs import SweepRun
from keras_ganprune.search.storage import quiet
from keras_ganprune.search.study import Study
from keras_ganprune.search.trial import Trainer
from keras_ganprune.utils import annotated, validation

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


def sweep(
    build: Callable[[int], keras.Model],
    images: Any,
    labels: Any = None,
    plan: SweepPlan | None = None,
    *,
    quality: Any,
    callbacks: Callable[[SweepRun], list[keras.callbacks.Callback]] | None = None,
    storage: str | os.PathLike | BaseStorage | None = "sweep.db",
    name: str = "sweep",
    settings: Mapping[str, Any] | None = None,
    retry_failed: bool = False,
    progress: bool = True,
    **options: Any,
) -> SweepResult:
    """Train at several sparsities, with several seeds, and compare with dense runs of the same seeds.

    Each run is a trial of an Optuna study in a database, and is written to the database when it ends. To
    resume after an interruption, call `sweep` again with the same arguments. Interrupted runs are repeated;
    runs that have ended are not. Call it in several processes, or on several machines that reach the same
    database server, to share the work. Each trial is trained by one process.

    Runs of one seed (and fold) start from the same weights and see the same batches. They are compared in
    pairs, which cancels the effect of the seed.

    Args:
        build: Function that takes a seed (int) and returns a new compiled model: a `GANModel`, or any
            `keras.Model` that has the target as an attribute.
        images: Array (n, ...), a tuple or dict of arrays for several inputs, or `datasets.Images`, which
            contains its labels.
        labels: Array (n, ...), a tuple or dict of arrays, or None. They are passed to `fit`, except for a
            `GANModel` that is not conditional. Folds are stratified by them: then they must be class numbers
            (n,) or one-hot rows (n, classes). Defaults to None.
        plan: `SweepPlan` with the sparsities, criteria, seeds, steps, etc. Instead of a plan, its fields
            can be passed as keyword arguments. Defaults to None.
        quality: An `ImageQuality`, or a function (model, images, labels) -> dict of floats (or one
            float). The function gets the held-out images, or all images without folds. With folds, a new
            `ImageQuality` with the same settings is made from the images of each fold.
        callbacks: Function that takes a `SweepRun` and returns more callbacks for its `fit`. Defaults to
            None.
        storage: Path of a SQLite file, URL of a database, an Optuna storage, or None for memory only.
            Defaults to 'sweep.db'.
        name: Name of the study in the storage. Defaults to 'sweep'.
        settings: Dict of further settings that distinguish this sweep from others, such as the width of
            the network. A study is resumed only if all settings are equal. The code of functions is not
            compared. Defaults to None.
        retry_failed: Whether failed trials are repeated once. Defaults to False.
        progress: Whether to print a line for each run that ends. Defaults to True.
        **options: Fields of `SweepPlan`, such as `steps=1000, batch_size=64`, if `plan` is None.

    Returns:
        A `SweepResult`.

    Raises:
        InvalidArgumentError: An argument is invalid, `labels` or fields of the plan are given twice, or the
            study exists with other settings.
        ArgumentTypeError: `plan` is not a `SweepPlan`, or an option is not a field of `SweepPlan`.
        DataError: `images` is empty, or the number of labels differs from the number of images.
        PruningError: All trials failed.
        MissingPackageError: Optuna, scipy or scikit-learn is not installed.

    Example:
    >>> def build(seed):
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)])
    ...     model.compile("sgd", "mse")
    ...     return model
    >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    >>> plan = SweepPlan(sparsities=(0.5, 0.75), seeds=2, steps=8, batch_size=8, target=None, metric="mse")
    >>> result = sweep(build, x, x.sum(axis=1, keepdims=True), plan, storage=None, progress=False,
    ...     quality=lambda model, x, y: float(model.evaluate(x, y, verbose=0)))
    >>> [(row.criterion, row.requested, row.trials) for row in result.rows]
    [(None, None, 2), ('magnitude', 0.5, 2), ('magnitude', 0.75, 2)]

    References: [Optuna](https://arxiv.org/abs/1907.10902); TPE:
    [Bergstra et al.](https://papers.nips.cc/paper/4443), section 4; feasible results first:
    [Deb](https://doi.org/10.1016/S0045-7825(99)00389-8), section 3.
    """
    annotated.check(sweep, locals(), "settings", "retry_failed", "progress", "name", "callbacks")
    for name_of, value in (("images", images), ("labels", labels)):
        if value is not None and not isinstance(value, Images):
            several = value.values() if isinstance(value, dict) else value
            is_several = isinstance(value, (tuple, dict)) and any(
                hasattr(each, "shape") for each in several
            )
            for each in several if is_several else [value]:
                _check_array(each, name_of)
    validation.check_keys(settings or {}, "settings")
    plan = _plan_of(plan, options)
    if isinstance(images, Images):
        if labels is not None:
            raise InvalidArgumentError("`images` already contains labels. Leave `labels` out.")
        images, labels = images.images, images.labels
    with quiet():
        trainer = Trainer(plan, build, images, labels, quality, callbacks)
        study = Study(storage, name)
        compared = {**plan.settings(), **trainer.settings(), **_json_values(settings)}
        direction: Literal["maximize", "minimize"] = (
            "maximize" if plan.search == "tpe" or plan.direction == "max" else "minimize"
        )
        is_new = study.begin(compared, plan.cells(), direction)
        if retry_failed:
            study.retry()
        Worker(plan, trainer, study, compared, progress).run(is_new)
        result = SweepResult.of(study, compared)
    if result.trials and len(result.failed) == len(result.trials):
        raise PruningError(
            f"All {len(result.failed)} trials of the sweep failed. The error of the first is "
            f"{result.failed[0].error}"
        )
    return result


def _check_array(value: Any, name: str) -> None:
    symbol = isinstance(value, (list, tuple, keras.KerasTensor))
    array = validation.array(value, name) if symbol else value
    kind = getattr(getattr(array, "dtype", None), "kind", "f")
    if (
        not hasattr(array, "shape")
        or not hasattr(array, "dtype")
        or kind in "OSU"
        or not array.shape
    ):
        raise DataError(
            f"`{name}` must be an array with one entry per sample. Received: {value!r} (of type "
            f"{type(value).__name__})."
        )
    if isinstance(array, np.ndarray):
        validation.samples(array, name)


def _plan_of(plan: SweepPlan | None, options: dict[str, Any]) -> SweepPlan:
    """Return the plan of the arguments of `sweep`."""
    if plan is None:
        fields = [field.name for field in attrs.fields(SweepPlan)]
        for name in options:
            if name not in fields:
                raise ArgumentTypeError(unknown_name("argument of `sweep`:", name, fields))
        missing = [name for name in ("steps", "batch_size") if name not in options]
        if missing:
            raise ArgumentTypeError(
                f"`sweep` needs {' and '.join(f'`{name}`' for name in missing)}. Pass them as keyword "
                "arguments, or in a `SweepPlan`."
            )
        return SweepPlan(**options)
    if not isinstance(plan, SweepPlan):
        raise ArgumentTypeError(
            f"`plan` must be a `SweepPlan`. Received: {plan!r} (of type {type(plan).__name__})."
        )
    if options:
        raise InvalidArgumentError(
            f"Pass either `plan` or its fields. Received `plan` and {', '.join(sorted(options))}. "
            "Use `attrs.evolve(plan, ...)` to change a field of a plan."
        )
    return plan


def _json_values(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return settings as JSON values. NaN is a text: as a number it would differ from itself."""

    def value_of(value: Any) -> Any:
        finite = not isinstance(value, float) or math.isfinite(value)
        plain = isinstance(value, (str, int, float, bool, type(None)))
        return value if plain and finite else repr(value)

    return {key: value_of(value) for key, value in (settings or {}).items()}
