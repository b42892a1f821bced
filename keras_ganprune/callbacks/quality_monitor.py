"""Quality in the logs: `QualityMonitor` measures images at the end of epochs."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import distribution
from keras_ganprune.callbacks import _fixed_inputs
from keras_ganprune.errors import (
    DataError,
    InvalidArgumentError,
    PruningWarning,
    UnsupportedLayerError,
    unknown_name,
)
from keras_ganprune.gan import GANModel
from keras_ganprune.metrics.image_quality import is_evaluator
from keras_ganprune.training.snapshot import sums_not_finite
from keras_ganprune.utils import validation

# Logged if nothing else is asked for, as far as the judge measures them.
_USUAL = ("fd", "coverage", "missing_classes")
# How many images are looked at to tell a diverged generator from another fault in the data.
_LOOKED_AT = 16


def callbacks_beside() -> list[keras.callbacks.Callback]:
    """Return the list of callbacks that is running the hook which calls this; [] if there is none.

    Private touch: Keras tells a callback its model, but not its list; only the caller knows it.
    """
    frame = sys._getframe(1)
    while frame is not None:
        holder = frame.f_locals.get("self")
        if isinstance(holder, keras.callbacks.CallbackList):
            return list(holder.callbacks)
        frame = frame.f_back
    return []


class QualityMonitor(keras.callbacks.Callback):
    """Measures a GAN's images at the end of epochs, and puts what it finds into the logs.

    So `EarlyStopping`, `ModelCheckpoint` and `AdaptiveSparsity` can watch 'fd' or 'coverage', and
    `History`, `CSVLogger` and `TensorBoard` keep them. It must stand before those in the list of
    callbacks, and says so if it does not.

    The latent vectors are the same every time. What is measured is what `fit` would leave if it ended
    there: of a generator with a moving average (`GANModel(ema_decay=...)`, an `ema_generator` of another
    class, `use_ema` of its optimizer) the average. Training goes on bit by bit as without the callback.

    Measured are the first epoch of a `fit`, every `every`-th after the first of all, and the last. In
    between the last values are carried on, since Keras wants every log in every epoch: to whoever
    watches them they are epochs without a change, so patience should be a few times `every`. Of a
    generator that has diverged all values are NaN.

    Args:
        quality: What judges the images: an `ImageQuality`, or a function (model) -> dict of floats. The
            function may judge any model; it is given the network named by `target`, or else the model.
        every: Positive int, epochs between two measurements.
        target: Name of the network that makes the images; None for the generator or its average.
        n: Positive int, images to measure; None for the judge's own number.
        seed: Int, of the latent vectors.
        metrics: Names of what is logged, or 'all'. None for `fd`, `coverage` and, where there are labels,
            `missing_classes`; for a function all that it returns.
        prefix: Put before the names of the logs, to tell two monitors apart.

    Attributes:
        values: dict, all that was measured last, by name (without `prefix`).
        measured: List of (epoch, values), the epochs counted from 1 as the progress bar does.
        missing_classes: Class numbers that were missing last; None of a judge that does not tell.
        report: What the judge returned last; None of a generator that has diverged.
        quality_seconds: Float, seconds spent on measuring so far.

    Raises:
        InvalidArgumentError, UnsupportedLayerError, DataError: see the texts.

    Example:
    >>> monitor = QualityMonitor(lambda model: {"weights": float(model.count_params())})
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    >>> model.compile("adam", "mse")
    >>> history = model.fit(np.ones((8, 4)), np.ones((8, 5)), verbose=0, callbacks=[monitor])
    >>> history.history["weights"]
    [25.0]
    """

    def __init__(
        self,
        quality: Any,
        every: int = 1,
        *,
        target: Any = None,
        n: int | None = None,
        seed: int = 0,
        metrics: Sequence[str] | str | None = None,
        prefix: str = "",
    ):
        super().__init__()
        if not is_evaluator(quality) and not callable(quality):
            raise UnsupportedLayerError(
                "`quality` must be an `ImageQuality`, or a function (model) -> dict of floats. "
                f"Received: {quality!r} (of type {type(quality).__name__})."
            )
        if isinstance(quality, type):
            raise UnsupportedLayerError(
                f"`quality` must be an object, not its class. Received: {quality.__name__}. Write "
                f"`{quality.__name__}(...)`."
            )
        self.quality = quality
        self.every = validation.positive_int(every, "every")
        self.target = target
        self.n = None if n is None else validation.positive_int(n, "n")
        self.seed = validation.non_negative_int(seed, "seed")
        if isinstance(metrics, str) and metrics != "all":
            metrics = (metrics,)
        if metrics is not None and metrics != "all":
            metrics = tuple(metrics)
            if not metrics or not all(isinstance(name, str) and name for name in metrics):
                raise InvalidArgumentError(
                    "`metrics` must be names such as ('fd', 'coverage'), 'all' or None. "
                    f"Received: {metrics!r}."
                )
        self.metrics = metrics
        if not isinstance(prefix, str):
            raise InvalidArgumentError(
                f"`prefix` must be text, such as 'dense_'. Received: {prefix!r}."
            )
        self.prefix = prefix
        self.values: dict[str, float] = {}
        self.measured: list[tuple[int, dict[str, float]]] = []
        self.missing_classes: tuple[int, ...] | None = None
        self.report: Any = None
        self.quality_seconds = 0.0
        self._reset()

    def __repr__(self):
        last = ", ".join(f"{k}={v:.4g}" for k, v in self._logged.items())
        return (
            f"<QualityMonitor {type(self.quality).__name__} every {self.every} epochs"
            f"{': ' + last if last else ''}>"
        )

    def _reset(self) -> None:
        self._names: tuple[str, ...] | None = None
        self._logged: dict[str, float] = {}
        self._told: set[Any] = set()
        self._beside: list[keras.callbacks.Callback] = []

    # --- Keras's hooks ---------------------------------------------------------------------------

    def on_train_begin(self, logs=None):
        self._reset()
        self._beside = callbacks_beside()
        model = self.model
        if is_evaluator(self.quality) or self.target is not None:
            _fixed_inputs.sampled_network(model, self.target)  # a wrong name is told at once
        names = self._expected()
        self._check_place(names)

    def on_epoch_end(self, epoch, logs=None):
        if not self._logged or self.is_due(epoch):
            self._measure(epoch, logs)
        if logs is not None:
            logs.update(self._logged)

    def is_due(self, epoch: int) -> bool:
        """Return whether an epoch, counted from 0, is one to measure at."""
        last = (self.params or {}).get("epochs")
        return epoch % self.every == 0 or epoch + 1 == last or self.model.stop_training

    # --- What they do ----------------------------------------------------------------------------

    def _measure(self, epoch: int, logs: dict | None) -> None:
        start = time.perf_counter()
        found, report = self._judge()
        first = self._names is None
        if first:
            # Of a generator that diverged in the first epoch nothing is known but the usual names.
            self._names = self._choose(found) if found is not None else self._expected()
        if found is None:
            found = dict.fromkeys(self._names, float("nan"))
        self.report = report
        self.values, self.missing_classes = self._agreed(found)
        self.measured.append((epoch + 1, self.values))
        self._logged = {self.prefix + k: self.values.get(k, float("nan")) for k in self._names}
        self.quality_seconds += time.perf_counter() - start
        if first:
            self._check_place(self._names)
            self._check_new(logs or {})

    def _judge(self) -> tuple[dict[str, float] | None, Any]:
        """Return (what was measured, what the judge returned), or (None, None) of a diverged generator."""
        model = self.model
        if not is_evaluator(self.quality):
            network = model
            if self.target is not None:
                network = _fixed_inputs.sampled_network(model, self.target)[1]
            with _fixed_inputs.as_exported(model, network):
                found = self.quality(network)
            if not isinstance(found, Mapping):
                raise UnsupportedLayerError(
                    "`quality` must return a dict of floats, such as {'accuracy': 0.9}. "
                    f"Received: {found!r} (of type {type(found).__name__})."
                )
            return {name: _number(name, value) for name, value in found.items()}, found
        name, network = _fixed_inputs.sampled_network(model, self.target)
        bad = sums_not_finite(network)
        if not bad:
            # A `GANModel` knows more than its generator does; a subclassed network does not tell its inputs.
            whole = self.target is None and isinstance(model, GANModel)
            latent_dim = getattr(model, "latent_dim", None)
            size = {} if whole or getattr(network, "inputs", None) else {"latent_dim": latent_dim}
            with _fixed_inputs.as_exported(model, network):
                try:
                    report = self.quality.measure_generator(
                        model if whole else network, n=self.n, seed=self.seed, **size
                    )
                except DataError:
                    if self._finite(network):
                        raise
                    bad = {f"images of '{name}'": float("nan")}
        if bad:
            self._warn_diverged(bad)
            return None, None
        return {k: _number(k, v) for k, v in report.to_dict().items() if v is not None}, report

    def _finite(self, network: keras.layers.Layer) -> bool:
        try:
            fixed = _fixed_inputs.FixedInputs(_LOOKED_AT, self.seed)
            images = _fixed_inputs.show(self.model, network, fixed)
        except (DataError, InvalidArgumentError):
            return True  # then it was these that the judge had to complain of
        return bool(np.all(np.isfinite(images)))

    def _warn_diverged(self, bad: Mapping[str, float]) -> None:
        what = ", ".join(f"{k} = {v:g}" for k, v in list(bad.items())[:4])
        self._warn_once(
            "diverged",
            f"The quality is NaN: what makes the images has diverged ({what}). Lower the learning rate, "
            "clip gradients (`clipnorm`), or stop such a run with `NaNGuard`.",
        )

    def _agreed(self, found: dict[str, float]) -> tuple[dict[str, float], tuple[int, ...] | None]:
        """Return the values and the missing classes of the first worker, so that all decide alike."""
        missing = getattr(self.report, "missing_classes", None)
        missing = None if missing is None else [int(number) for number in missing]
        if distribution.count(self.model) > 1:
            sent = json.dumps([found, missing])
            found, missing = json.loads(distribution.gather(sent, self.model)[0])
        return found, None if missing is None else tuple(missing)

    def _choose(self, found: Mapping[str, float]) -> tuple[str, ...]:
        if self.metrics is None and is_evaluator(self.quality):
            return tuple(k for k in _USUAL if np.isfinite(found.get(k, np.nan))) or tuple(found)
        if self.metrics is None or self.metrics == "all":
            return tuple(found)
        for name in self.metrics:
            if name not in found:
                raise InvalidArgumentError(unknown_name("name in `metrics`:", name, found))
        return self.metrics

    def _expected(self) -> tuple[str, ...]:
        """Return the names as far as they are known before anything was measured."""
        if self.metrics is None or self.metrics == "all":
            return _USUAL if is_evaluator(self.quality) else ()
        return self.metrics

    # --- its place in the list -------------------------------------------------------------------

    def _check_place(self, names: Sequence[str]) -> None:
        """Say if something that reads these logs stands before the callback that writes them."""
        written = {self.prefix + name for name in names}
        # A guard may hold its own one.
        own = [o for o in self._beside if o is self or getattr(o, "_own", None) is self]
        if not own:
            return
        name = type(own[0]).__name__
        for other in self._beside[: self._beside.index(own[0])]:
            read = sorted(written & set(_watched(other)))
            if read:
                raise InvalidArgumentError(
                    f"`{name}` must stand before what watches its logs. Received: "
                    f"{type(other).__name__} of '{read[0]}' in front of it. Move `{name}` to the front of "
                    "`callbacks`."
                )
            keeps = (keras.callbacks.CSVLogger, keras.callbacks.TensorBoard)
            if isinstance(other, keeps) and written:
                self._warn_once(
                    id(other),
                    f"{type(other).__name__} stands before `{name}` in `callbacks`, so it does not see "
                    f"{', '.join(sorted(written))}. Move `{name}` to the front.",
                )
        for other in self._beside:
            adaptive = getattr(other, "schedule", None)
            epochs = getattr(adaptive, "recovery_epochs", self.every)
            if epochs < self.every and getattr(adaptive, "monitor", None) in written:
                raise InvalidArgumentError(
                    "Every trial of `AdaptiveSparsity` must be measured: `recovery_epochs` at least "
                    f"`QualityMonitor`'s `every`. Received: recovery_epochs={epochs}, every={self.every}. "
                    f"Use every={epochs}, with fewer images (`n`) if it takes too long."
                )
        twins = [o for o in self._beside if isinstance(o, QualityMonitor) and o is not self]
        for other in twins:
            both = written & {other.prefix + name for name in other._names or other._expected()}
            if both:
                raise InvalidArgumentError(
                    f"Two `QualityMonitor`s must not write one log. Received: {sorted(both)} of both. Give "
                    "one of them a `prefix`."
                )

    def _warn_once(self, key: Any, text: str) -> None:
        if key not in self._told:
            self._told.add(key)
            warnings.warn(text, PruningWarning, stacklevel=2)

    def _check_new(self, logs: Mapping[str, Any]) -> None:
        both = sorted(set(self._logged) & set(logs))
        if both:
            raise InvalidArgumentError(
                f"A log of the name {both[0]!r} is there already. Give `QualityMonitor` a `prefix`, such "
                f"as prefix='judged_', which makes it 'judged_{both[0]}'."
            )


def _number(name: str, value: Any) -> float:
    try:
        return float(np.asarray(value, dtype="float64"))
    except (TypeError, ValueError) as error:
        raise UnsupportedLayerError(
            f"Every value of `quality` must be one number. Received: {name!r} = {value!r}."
        ) from error


def _watched(callback: keras.callbacks.Callback) -> Iterator[str]:
    """Yield the names of logs that a callback reads, as far as it says."""
    schedule = getattr(callback, "schedule", None)
    for name in (getattr(callback, "monitor", None), getattr(schedule, "monitor", None)):
        if isinstance(name, str):
            yield name
