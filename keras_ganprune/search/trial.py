"""One run of a sweep: build, train with or without pruning, judge, weigh."""

from __future__ import annotations

import hashlib
import math
import numbers
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_ganprune.datasets import Batches
from keras_ganprune.errors import (
    DataError,
    DivergedError,
    InvalidArgumentError,
    PruningError,
    UnsupportedLayerError,
)
from keras_ganprune.gan import GANModel
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.prunable import masked_weights, walk
from keras_ganprune.metrics import profile
from keras_ganprune.metrics.image_quality import ImageQuality, is_evaluator
from keras_ganprune.metrics.sparsity import count_parameters
from keras_ganprune.pruning import granularity
from keras_ganprune.pruning.shrink_model import shrink
from keras_ganprune.search.folds import make_folds
from keras_ganprune.search.plan import Plan, SweepRun
from keras_ganprune.training import discovery


class SettingError(InvalidArgumentError):
    """What is wrong with every run of a sweep, so that it is no use to go on to the next one."""


def digest(*arrays: np.ndarray) -> str:
    """Return a short hash of the contents of arrays.

    Example:
    >>> digest(np.zeros(3)) == digest(np.zeros(3)), digest(np.zeros(3)) == digest(np.ones(3))
    (True, False)
    """
    found = hashlib.blake2b(digest_size=6)
    for array in arrays:
        found.update(np.ascontiguousarray(array).view(np.uint8).data)
    return found.hexdigest()


class Trainer:
    """Trains and judges the runs of a plan.

    Args:
        plan: The `Plan`.
        build: Function of a seed that returns a compiled model.
        images, labels: Arrays, or None for no labels.
        quality: As for `sweep`.
        callbacks: Function of a `SweepRun` that returns more callbacks, or None.
    """

    def __init__(
        self,
        plan: Plan,
        build: Callable[[int], keras.Model],
        images: Any,
        labels: Any,
        quality: Any,
        callbacks: Callable[[SweepRun], list] | None,
    ):
        self.plan = plan
        self.build = build
        self.images = np.asarray(images)
        self.labels = None if labels is None else np.asarray(labels)
        self.quality = quality
        self.callbacks = callbacks
        if self.images.ndim < 1 or not len(self.images):
            raise DataError(
                f"`images` must be an array (n, ...). Received the shape {self.images.shape}."
            )
        if self.labels is not None and len(self.labels) != len(self.images):
            raise DataError(
                f"There must be one label for each of the {len(self.images)} images. "
                f"Received {len(self.labels)}."
            )
        if not callable(build):
            raise InvalidArgumentError(
                "`build` must be a function of a seed that returns a compiled model, a new one each time. "
                f"Received: {build!r} (of type {type(build).__name__})."
            )
        _check_quality(quality, plan)
        self.folds = (
            None
            if plan.folds is None
            else make_folds(len(self.images), plan.folds, self.labels, plan.seed)
        )
        self._judges: dict[int | None, Any] = {}

    # --- what it is ------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Return what data, model and judge are, in a few words each, to tell them from others."""
        model = self._model(self.plan.seeds[0])
        discovery.resolve_target(model, self.plan.target)  # said now, not after the first dense run
        shape = "×".join(str(n) for n in self.images.shape[1:])
        return {
            "images": f"{len(self.images)} of {shape}, {digest(self.images)}",
            "labels": None if self.labels is None else digest(self.labels),
            "model": _describe(model),
            "quality": _name(self.quality),
        }

    def _model(self, seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        model = self.build(seed)
        if not isinstance(model, keras.Model):
            raise SettingError(
                "`build` must return a compiled Keras model, such as a `GANModel`. "
                f"Received: {model!r} (of type {type(model).__name__})."
            )
        return model

    # --- a run -----------------------------------------------------------------------------------

    def run(self, run: SweepRun) -> dict[str, Any]:
        """Train and judge one run; return what it has come to, in values that JSON keeps.

        Raises:
            SettingError: every run would end like this.
            DivergedError: training was stopped early, or the metric is not finite.
        """
        started = time.perf_counter()
        model = self._model(run.seed)
        train, held = self._split(run.fold)
        images, labels = self.images[train], None if self.labels is None else self.labels[train]
        if isinstance(model, GANModel) and not model.conditional:
            labels = None
        prune = self.plan.prune(run)
        more = [] if self.callbacks is None else list(self.callbacks(run))
        epochs, per_epoch = self.plan.epochs(len(images))
        # Once more: whatever `build` has drawn, runs of a seed see the same noise.
        keras.utils.set_random_seed(run.seed)
        model.fit(
            Batches(images, labels, self.plan.batch_size, per_epoch, run.seed),
            epochs=epochs,
            callbacks=[*([] if prune is None else [prune]), *more],
            shuffle=False,  # they are, each pass anew
            verbose=0,
        )
        if model.stop_training:
            done = len(model.history.epoch)
            raise DivergedError(
                f"Training was stopped in epoch {done} of {epochs}, by a `NaNGuard` or by a callback of "
                "yours; runs of different lengths do not compare. Look at the learning rate, and leave "
                "callbacks such as EarlyStopping out."
            )
        seconds = time.perf_counter() - started
        values = self._judge(model, run, held)
        return {
            "values": values,
            "achieved": 0.0 if prune is None else float(prune.report.achieved),
            **self._costs(model, run),
            "seconds": seconds,
        }

    def _split(self, fold: int | None) -> tuple[Any, Any]:
        return (slice(None), slice(None)) if fold is None else self.folds[fold]

    def _judge(self, model: keras.Model, run: SweepRun, held: Any) -> dict[str, float]:
        images, labels = self.images[held], None if self.labels is None else self.labels[held]
        if is_evaluator(self.quality):
            # The same latents for all runs of a seed.
            report = self._quality_of(run.fold, images, labels).measure_generator(
                model, seed=run.seed
            )
            found: Any = report.to_dict()
        else:
            found = self.quality(model, images, labels)
        if isinstance(found, numbers.Real):
            found = {self.plan.metric: found}
        if not isinstance(found, Mapping):
            raise SettingError(
                "`quality` must return a dict of floats, or one float. "
                f"Received: {found!r} (of type {type(found).__name__})."
            )
        values = {
            str(name): float(value)
            for name, value in found.items()
            if isinstance(value, (numbers.Real, np.number))
        }
        if self.plan.metric not in values:
            raise SettingError(
                f"`metric` must be one of what `quality` measures: {', '.join(sorted(values)) or 'nothing'}. "
                f"Received: {self.plan.metric!r}."
            )
        if not math.isfinite(values[self.plan.metric]):
            raise DivergedError(
                f"{self.plan.metric} is {values[self.plan.metric]}: the images, or the training, are not "
                "finite. Look at the learning rate, or add a `NaNGuard`."
            )
        # JSON has no NaN.
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def _quality_of(self, fold: int | None, images: np.ndarray, labels: Any) -> Any:
        if fold is None:
            return self.quality
        if fold not in self._judges:
            self._judges[fold] = _against(self.quality, images, labels)
        return self._judges[fold]

    def _costs(self, model: keras.Model, run: SweepRun) -> dict[str, Any]:
        """Return how large the target is now: parameters, those not zero, multiply-accumulates."""
        networks = [network for _, network in discovery.resolve_target(model, self.plan.target)]
        found = [_costs_of(network, self._channels(run)) for network in networks]
        # Of several networks all together; unknown if one is.
        return {
            key: None if any(each[key] is None for each in found) else sum(e[key] for e in found)
            for key in found[0]
        }

    def _channels(self, run: SweepRun) -> bool:
        return not run.dense and getattr(granularity.get(self.plan.granularity), "coupled", False)


def _costs_of(network: Any, channels: bool) -> dict[str, int | None]:
    """Return the costs of a network; of one whose channels are masked, those of the shrunk one."""
    if channels and masked_weights(network):
        try:
            network = shrink(network, verify=False)
        except PruningError:
            pass  # it cannot be shrunk, so it costs what it costs
    parameters, nonzero = count_parameters(network.weights)
    found = {"parameters": parameters, "nonzero": nonzero, "macs": None, "nonzero_macs": None}
    try:
        costs = profile(network, latency=False)
    except (UnsupportedLayerError, InvalidArgumentError):
        return found
    if costs.uncounted:
        return found
    density = {path: _density(layer) for path, layer in walk(network)}
    found["macs"] = costs.macs
    found["nonzero_macs"] = sum(
        round((row.macs or 0) * density.get(row.layer, 1.0)) for row in costs
    )
    return found


def _density(layer: Any) -> float:
    """Return the share of a layer's kernels that is not zero; each entry is in as many products."""
    total, nonzero = count_parameters(w for w in layer.trainable_weights if len(w.shape) > 1)
    return nonzero / total if total else 1.0


def _against(quality: Any, images: np.ndarray, labels: Any) -> Any:
    """Return a judge with the same extractor and settings that holds against other real images."""
    if not isinstance(quality, ImageQuality):
        return quality.against(images, labels)
    same = ("extractor", "samples", "neighbours", "manifold_samples", "seed", "batch_size")
    return ImageQuality(images, labels, **{name: getattr(quality, name) for name in same})


def _check_quality(quality: Any, plan: Plan) -> None:
    if is_evaluator(quality):
        known = isinstance(quality, ImageQuality) or hasattr(quality, "against")
        if plan.folds is not None and not known:
            raise InvalidArgumentError(
                "With folds, `quality` must be able to judge by other images than it was made of. "
                f"{type(quality).__name__} has no `against(images, labels)` that returns such a judge. Pass "
                "an `ImageQuality`, or a function (model, held_out_images, held_out_labels) -> dict of "
                "floats."
            )
    elif not callable(quality):
        raise InvalidArgumentError(
            "`quality` must be an `ImageQuality`, or a function (model, images, labels) -> dict of "
            f"floats. Received: {quality!r} (of type {type(quality).__name__})."
        )


def _name(quality: Any) -> str:
    """Return a text that tells a judge from others, as far as it can be told."""
    if isinstance(quality, ImageQuality):
        # Not its features: on another machine they differ by a rounding.
        by, real = quality.extractor.fingerprint, len(quality.real_features)
        return f"ImageQuality by {by}, {quality.samples} samples against {real}"
    # Not its module, which is '__main__' in a script and has a name where that is imported.
    return (quality if hasattr(quality, "__qualname__") else type(quality)).__qualname__


def _describe(model: keras.Model) -> str:
    """Return class, size and optimizers of a model."""
    shapes = [tuple(w.shape) for w in model.weights]
    found = hashlib.blake2b(repr(shapes).encode(), digest_size=4).hexdigest()
    optimizers = []
    for optimizer in discovery.optimizers(model):
        rate = float(to_numpy(optimizer.learning_rate))  # of a schedule, the first
        optimizers.append(f"{type(optimizer).__name__} {rate:.6g}")
    size = sum(math.prod(shape) for shape in shapes)
    return f"{type(model).__name__} of {size:,} parameters ({found}), {', '.join(optimizers)}"
