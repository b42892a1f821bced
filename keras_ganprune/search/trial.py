"""One run of a sweep: build, train with or without pruning, evaluate, and count costs."""

from __future__ import annotations

import hashlib
import math
import numbers
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_ganprune.callbacks.run_progress import RunProgress
from keras_ganprune.callbacks.training_progress import TrainingProgress
from keras_ganprune.datasets import Batches
from keras_ganprune.errors import (
    ArgumentTypeError,
    DivergedError,
    InvalidArgumentError,
    PruningError,
    UnsupportedLayerError,
)
from keras_ganprune.gan import GANModel
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import is_built, masked_weights, walk
from keras_ganprune.metrics import profile
from keras_ganprune.metrics.image_quality import ImageQuality, is_evaluator
from keras_ganprune.metrics.sparsity import count_parameters
from keras_ganprune.pruning import granularity
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.pruning.shrink_model import shrink
from keras_ganprune.search.folds import make_folds
from keras_ganprune.search.plan import SweepPlan
from keras_ganprune.search.runs import SweepRun
from keras_ganprune.search.samples import Samples
from keras_ganprune.training import discovery
from keras_ganprune.utils import annotated


class SettingError(InvalidArgumentError):
    """An error that every run of a sweep would raise, so the sweep stops."""


class Trainer:
    """Trains and evaluates the runs of a plan.

    Args:
        plan: The `SweepPlan`.
        build: Function that takes a seed and returns a compiled model.
        images, labels: Arrays or tuples of arrays; `labels` may be None.
        quality: As for `sweep`.
        callbacks: Function that takes a `SweepRun` and returns more callbacks, or None.
    """

    def __init__(
        self,
        plan: SweepPlan,
        build: Callable[[int], keras.Model],
        images: Any,
        labels: Any,
        quality: Any,
        callbacks: Callable[[SweepRun], list] | None,
    ):
        self.plan = plan
        self.build = build
        self.samples = Samples(images, labels)
        self.quality = quality
        self.callbacks = callbacks
        if not callable(build) or isinstance(build, (type, keras.layers.Layer)):
            raise InvalidArgumentError(
                "`build` must be a function that takes a seed and returns a new compiled model. "
                f"Received: {build!r} (of type {type(build).__name__})."
            )
        if not annotated.takes(build, 1):
            raise ArgumentTypeError(
                "`build` must be a function of one argument, the seed. "
                f"Received: {build!r}, which does not take one."
            )
        _check_quality(quality, plan)
        self.folds = (
            None
            if plan.folds is None
            else make_folds(len(self.samples), plan.folds, self.samples.labels, plan.seed)
        )
        self._evaluators: dict[int | None, Any] = {}
        self._last: weakref.ref[keras.Model] | None = None

    # --- settings --------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Return short descriptions of data, model and evaluator, to compare with other sweeps."""
        model = self._model(self.plan.seeds[0])
        described = _describe(model)  # before it gets masks
        self._try_pruning(model)
        return {
            **self.samples.settings(),
            "model": described,
            "quality": _name(self.quality),
        }

    def _try_pruning(self, model: keras.Model) -> None:
        """Find settings that do not fit the model now, on a model of its own, not after the dense runs."""
        pairs = discovery.resolve_target(model, self.plan.target)
        networks = [network for _, network in pairs if is_built(network)]
        if len(networks) < len(pairs):
            return  # The first batch will build them.
        for criterion in self.plan.criteria:
            settings = {
                name: getattr(self.plan, name) for name in ("granularity", "allocation", "mode")
            }
            pruner = Pruner(*networks, criterion=criterion, **settings)
            for value in self.plan.values if self.plan.quantity == "sparsity" else ():
                pruner.check(value)

    def _model(self, seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        model = self.build(seed)
        if not isinstance(model, keras.Model):
            raise SettingError(
                "`build` must return a compiled Keras model, such as a `GANModel`. "
                f"Received: {model!r} (of type {type(model).__name__})."
            )
        own_fit = type(model).fit is not keras.Model.fit and not isinstance(model, GANModel)
        if not model.compiled and not own_fit:
            raise SettingError(
                "`build` must return a compiled Keras model. Received: "
                f"{type(model).__name__} '{model.name}', which is not. Call `model.compile(...)` in it."
            )
        if self._last is not None and self._last() is model:
            raise SettingError(
                "`build` must return a new model at each call: a run would continue the training of the run "
                f"before. Received: the same {type(model).__name__} '{model.name}' again. Make the model in "
                "the function."
            )
        self._last = weakref.ref(model)
        return model

    # --- one run ---------------------------------------------------------------------------------

    def run(self, run: SweepRun, progress: RunProgress) -> dict[str, Any]:
        """Train and evaluate one run; return its outcome as JSON values.

        Args:
            run: The run.
            progress: Shows how far it is.

        Raises:
            SettingError: `build`, `quality` or `metric` cannot be used for any run.
            DivergedError: Training stopped early, or the metric is not finite.
        """
        started = time.perf_counter()
        model = self._model(run.seed)
        train, held_out = self._split(run.fold)
        images, labels = self.samples.take(train)
        if isinstance(model, GANModel) and not model.conditional:
            labels = None
        prune = self.plan.prune(run)
        extra = [] if self.callbacks is None else list(self.callbacks(run))
        epochs, per_epoch = self.plan.epochs(len(keras.tree.flatten(images)[0]))
        line = TrainingProgress(progress, str(run), keeps=False)
        # Set the seed again: `build` may have drawn random numbers, and runs of one seed must draw the same
        # noise.
        keras.utils.set_random_seed(run.seed)
        model.fit(
            Batches(images, labels, self.plan.batch_size, per_epoch, run.seed),
            epochs=epochs,
            callbacks=[*([] if prune is None else [prune]), *extra, line],
            shuffle=False,  # `Batches` shuffles each pass itself
            verbose=0,  # pyright: ignore[reportArgumentType]  (Keras's stub says str)
        )
        if model.stop_training:
            done = len(model.history.epoch)
            raise DivergedError(
                f"A run must train for all of its {epochs} epochs; runs of different lengths cannot be "
                f"compared. A `NaNGuard` or one of your callbacks stopped it in epoch {done}. Lower the "
                "learning rate, and leave out callbacks such as EarlyStopping."
            )
        seconds = time.perf_counter() - started
        with progress.doing(f"{run}: measuring the quality"):
            values = self._evaluate(model, run, held_out)
        return {
            "values": values,
            "achieved": 0.0 if prune is None or prune.report is None else prune.report.achieved,
            **self._costs(model, run),
            "seconds": seconds,
        }

    def _split(self, fold: int | None) -> tuple[Any, Any]:
        """Return the indices of the training images and of the held-out images."""
        if fold is None or self.folds is None:
            return slice(None), slice(None)
        return self.folds[fold]

    def _evaluate(self, model: keras.Model, run: SweepRun, held_out: Any) -> dict[str, float]:
        images, labels = self.samples.take(held_out)
        if is_evaluator(self.quality):
            # The same latent vectors for all runs of a seed.
            report = self._quality_for(run.fold, images, labels).measure_generator(
                model, seed=run.seed
            )
            measured: Any = report.to_dict()
        else:
            measured = self.quality(model, images, labels)
        if isinstance(measured, numbers.Real):
            measured = {self.plan.metric: measured}
        if not isinstance(measured, Mapping):
            raise SettingError(
                "`quality` must return a dict of floats, or one float. "
                f"Received: {measured!r} (of type {type(measured).__name__})."
            )
        values = {
            str(name): float(value)
            for name, value in measured.items()
            if isinstance(value, (numbers.Real, np.number))
        }
        if self.plan.metric not in values:
            raise SettingError(
                f"`metric` must be a value that `quality` returns: {', '.join(sorted(values)) or 'none'}. "
                f"Received: {self.plan.metric!r}."
            )
        if not math.isfinite(values[self.plan.metric]):
            raise DivergedError(
                f"`{self.plan.metric}` must be finite. Received: {values[self.plan.metric]}. The images or "
                "the weights are not finite. Lower the learning rate, or add a `NaNGuard`."
            )
        # JSON has no NaN.
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def _quality_for(self, fold: int | None, images: np.ndarray, labels: Any) -> Any:
        if fold is None:
            return self.quality
        if fold not in self._evaluators:
            self._evaluators[fold] = _against(self.quality, images, labels)
        return self._evaluators[fold]

    def _costs(self, model: keras.Model, run: SweepRun) -> dict[str, Any]:
        """Return the costs of the target: parameters, nonzero parameters, multiply-accumulates."""
        networks = [network for _, network in discovery.resolve_target(model, self.plan.target)]
        costs = [_costs_of(network, self._has_masked_channels(run)) for network in networks]
        return {name: _sum_or_none([counts[name] for counts in costs]) for name in costs[0]}

    def _has_masked_channels(self, run: SweepRun) -> bool:
        return not run.dense and getattr(granularity.get(self.plan.granularity), "coupled", False)


def _costs_of(network: Any, channels: bool) -> dict[str, int | None]:
    """Return the costs of a network. If its channels are masked, return the costs of the shrunk network."""
    if channels and masked_weights(network):
        try:
            network = shrink(network, verify=False)
        except PruningError:
            pass  # the network cannot be shrunk, so the costs of the masked network are returned
    parameters, nonzero = count_parameters(network.weights)
    result = {"parameters": parameters, "nonzero": nonzero, "macs": None, "nonzero_macs": None}
    try:
        costs = profile(network, latency=False)
    except (UnsupportedLayerError, InvalidArgumentError):
        return result
    if costs.uncounted:
        return result
    density = {path: _density(layer) for path, layer in walk(network)}
    result["macs"] = costs.macs
    result["nonzero_macs"] = sum(
        round((row.macs or 0) * density.get(row.layer, 1.0)) for row in costs
    )
    return result


def _sum_or_none(values: list[int | None]) -> int | None:
    """Return the sum of the costs of several networks, or None if any cost is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _density(layer: Any) -> float:
    """Return the density of a layer's kernels. Each entry is used in equally many products."""
    total, nonzero = count_parameters(w for w in layer.trainable_weights if len(w.shape) > 1)
    return nonzero / total if total else 1.0


def _against(quality: Any, images: np.ndarray, labels: Any) -> Any:
    """Return an evaluator with the same extractor and settings, but other real images."""
    if not isinstance(quality, ImageQuality):
        return quality.against(images, labels)
    names = ("extractor", "samples", "neighbours", "manifold_samples", "seed", "batch_size")
    return ImageQuality(images, labels, **{name: getattr(quality, name) for name in names})


def _check_quality(quality: Any, plan: SweepPlan) -> None:
    if is_evaluator(quality):
        known = isinstance(quality, ImageQuality) or hasattr(quality, "against")
        if plan.folds is not None and not known:
            raise InvalidArgumentError(
                "With folds, `quality` must be able to compare with the images of each fold. "
                f"{type(quality).__name__} has no method `against(images, labels)` that returns such an "
                "evaluator. Pass an `ImageQuality`, or a function (model, held_out_images, "
                "held_out_labels) -> dict of floats."
            )
    elif not callable(quality):
        raise InvalidArgumentError(
            "`quality` must be an `ImageQuality`, or a function (model, images, labels) -> dict of "
            f"floats. Received: {quality!r} (of type {type(quality).__name__})."
        )
    elif not annotated.takes(quality, 3):
        raise InvalidArgumentError(
            "`quality` must be a function of three arguments, (model, images, labels) -> dict of floats. "
            f"Received: {quality!r}, which does not take three."
        )


def _name(quality: Any) -> str:
    """Return a text that distinguishes an evaluator from others, as far as possible."""
    if isinstance(quality, ImageQuality):
        # The features are left out, because their rounding differs between machines.
        by, real = quality.extractor.fingerprint, len(quality.real_features)
        return f"ImageQuality by {by}, {quality.samples} samples against {real}"
    # The module is left out: it is '__main__' in a script, and has another name if it is imported.
    return (quality if hasattr(quality, "__qualname__") else type(quality)).__qualname__


def _describe(model: keras.Model) -> str:
    """Return the class, size and optimizers of a model."""
    shapes = [tuple(w.shape) for w in model.weights]
    shapes_hash = hashlib.blake2b(repr(shapes).encode(), digest_size=4).hexdigest()
    optimizers = []
    for optimizer in discovery.optimizers(model):
        rate = float(to_numpy(optimizer.learning_rate))  # the first rate of a schedule
        optimizers.append(f"{type(optimizer).__name__} {rate:.6g}")
    size = sum(math.prod(shape) for shape in shapes)
    return f"{type(model).__name__} of {size:,} parameters ({shapes_hash}), {', '.join(optimizers)}"
