"""`QualityMonitor`: image quality in the logs, measured at the end of epochs."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import keras
import numpy as np

from keras_ganprune.backend import distribution
from keras_ganprune.callbacks import _quality_log_order, fixed_inputs
from keras_ganprune.callbacks.callback_list import callbacks_beside
from keras_ganprune.errors import (
    ArgumentTypeError,
    DataError,
    InvalidArgumentError,
    PruningWarning,
    unknown_name,
)
from keras_ganprune.gan import GANModel
from keras_ganprune.layers.traversal import is_built
from keras_ganprune.metrics.image_quality import Evaluator
from keras_ganprune.training.fresh_copies import FreshCopies
from keras_ganprune.training.snapshot import sums_not_finite
from keras_ganprune.utils import annotated, validation

# Logged by default, as far as the evaluator measures them.
_DEFAULT_METRICS = ("fd", "coverage", "missing_classes")
# Images to look at to tell a diverged generator from another fault in the data.
_PROBED_IMAGES = 16


@dataclass
class _FitState:
    """What a monitor knows of the running `fit`.

    Attributes:
        names: Names of the values to log; None before the first measurement.
        logged: The values logged last, by log name.
        warned: Keys of the warnings given so far.
        beside: All callbacks of the `fit`.
        known: Names of all values that the evaluator will measure; None if it does not tell them.
    """

    names: tuple[str, ...] | None = None
    logged: dict[str, float] = field(default_factory=dict)
    warned: set[Any] = field(default_factory=set)
    beside: list[keras.callbacks.Callback] = field(default_factory=list)
    known: tuple[str, ...] | None = None


class QualityMonitor(FreshCopies):
    """Measures the images of a GAN at the end of epochs, and writes the results into the logs.

    `EarlyStopping`, `ModelCheckpoint` and `AdaptiveSparsity` can then watch 'fd' or 'coverage', and
    `History`, `CSVLogger` and `TensorBoard` store them. The monitor must stand before these callbacks
    in the list; otherwise it raises an error.

    The latent vectors are the same in every measurement. The monitor measures the network that `fit`
    would leave if it ended now: the moving average of the generator, if there is one
    (`GANModel(ema_decay=...)`, an attribute such as `ema_generator`, or `use_ema` of its optimizer). The
    training is bit-equal to a training without this callback.

    The first epoch of a `fit`, every `every`-th epoch and the last epoch are measured. In between, the
    last values are logged again, because Keras expects each log in each epoch. Callbacks with `patience`
    count these as epochs without a change, so `patience` should be a few times `every`. If the generator
    has diverged, all values are NaN.

    Args:
        quality: What measures the images: an `ImageQuality`, or a function (model) -> dict of floats.
            A function can measure any model. It receives the network named by `target`, else the model.
        every: Positive int, epochs between two measurements. Defaults to 1.
        target: Name of the network that generates the images. None for the generator or its average.
            Defaults to None.
        n: Positive int, number of images to measure. None for the default of the evaluator. Defaults
            to None.
        seed: Non-negative int, seed of the latent vectors. Defaults to 0.
        metrics: Names of the values to log, or 'all'. None for 'fd', 'coverage' and (with labels)
            'missing_classes'; for a function, all that it returns. Defaults to None.
        prefix: Text before the log names, to distinguish two monitors. Defaults to ''.

    Attributes:
        values: Dict, all values of the last measurement by name (without `prefix`).
        measured: List of (epoch, values). Epochs count from 1, as in the progress bar.
        missing_classes: Tuple, the classes missing in the last measurement. None if the evaluator does
            not report them.
        report: The last result of the evaluator. None if the generator had diverged.
        quality_seconds: Float, total time spent on measurements, in seconds.

    Raises:
        ArgumentTypeError: `quality` is neither an evaluator nor a function, or is a class, or returns
            something other than a dict of floats.
        InvalidArgumentError: `every`, `n` or `seed` is not an int in its range; `metrics` or `prefix` is
            not text.
        InvalidArgumentError: `metrics` names a value that is not measured.
        InvalidArgumentError: A callback that reads these logs stands before the monitor, or another
            callback writes logs of the same names.
        DataError: The evaluator cannot use the images.

    Example:
    >>> monitor = QualityMonitor(lambda model: {"weights": float(model.count_params())})
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    >>> model.compile("adam", "mse")
    >>> history = model.fit(np.ones((8, 4)), np.ones((8, 5)), verbose=0, callbacks=[monitor])
    >>> history.history["weights"]
    [25.0]
    """

    model: keras.Model  # set by Keras before any hook runs

    def __init__(
        self,
        quality: Evaluator | Callable[[Any], Mapping[str, float]],
        every: int = 1,
        *,
        target: str | keras.layers.Layer | None = None,
        n: int | None = None,
        seed: int = 0,
        metrics: Sequence[str] | Literal["all"] | str | None = None,
        prefix: str = "",
    ):
        annotated.check(QualityMonitor.__init__, locals(), "target")
        super().__init__()
        layer = isinstance(
            quality, keras.layers.Layer
        )  # callable, but on images and not on a model
        if layer or not (isinstance(quality, Evaluator) or callable(quality)):
            raise ArgumentTypeError(
                "`quality` must be an `ImageQuality`, or a function (model) -> dict of floats. "
                f"Received: {quality!r} (of type {type(quality).__name__})."
            )
        if isinstance(quality, type):
            raise ArgumentTypeError(
                f"`quality` must be an object, not its class. Received: {quality.__name__}. Write "
                f"`{quality.__name__}(...)`."
            )
        if not isinstance(quality, Evaluator) and not annotated.takes(quality, 1):
            raise ArgumentTypeError(
                "`quality` must be a function of one argument, (model) -> dict of floats. "
                f"Received: {quality!r}, which does not take one."
            )
        self.quality = quality
        self.every = validation.positive_int(every, "every")
        self.target = target
        self.n = None if n is None else validation.positive_int(n, "n")
        self.seed = validation.non_negative_int(seed, "seed")
        self.metrics = _metric_names(metrics)
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
        self._state = _FitState()

    def __repr__(self):
        last = ", ".join(f"{k}={v:.4g}" for k, v in self._state.logged.items())
        return (
            f"<QualityMonitor {type(self.quality).__name__} every {self.every} epochs"
            f"{': ' + last if last else ''}>"
        )

    # --- Keras's hooks ---------------------------------------------------------------------------

    def on_train_begin(self, logs=None):
        """Check the target, what is measured, and the place in the list of callbacks."""
        self._state = _FitState(beside=callbacks_beside())
        if isinstance(self.quality, Evaluator) or self.target is not None:
            _, network = fixed_inputs.sampled_network(
                self.model, self.target
            )  # raises if it is wrong
            if isinstance(self.quality, Evaluator) and is_built(network):
                self._check_evaluator(self.quality, network)
        self._check_order(self._expected_names())

    def _check_evaluator(self, evaluator: Evaluator, network: Any) -> None:
        """Find before the first step what the first measurement would find after an epoch."""
        check = getattr(evaluator, "check_generator", None)
        if check is None:
            return  # an evaluator of a user may not have it
        source, size = self._source(network)
        with fixed_inputs.as_exported(self.model, network):
            known: tuple[str, ...] = check(source, n=self.n, seed=self.seed, **size)
        self._state.known = known
        for name in () if self.metrics in (None, "all") else self.metrics:
            if name not in known:
                raise InvalidArgumentError(unknown_name("name in `metrics`:", name, known))

    @property
    def known_names(self) -> tuple[str, ...] | None:
        """Names of the values that will be measured; None before `fit`, or if they are not known."""
        return self._state.known

    def on_epoch_end(self, epoch, logs=None):
        """Measure if it is due, and log the values."""
        if not self._state.logged or self.is_due(epoch):
            self._measure(epoch, logs)
        if logs is not None:
            logs.update(self._state.logged)

    def is_due(self, epoch: int) -> bool:
        """Return whether to measure at the end of an epoch, counted from 0."""
        validation.non_negative_int(epoch, "epoch")
        last = (self.params or {}).get("epochs")
        return epoch % self.every == 0 or epoch + 1 == last or bool(self.model.stop_training)

    # --- measurements ----------------------------------------------------------------------------

    def _measure(self, epoch: int, logs: Mapping[str, Any] | None) -> None:
        state = self._state
        start = time.perf_counter()
        values, self.report = self._evaluate()
        first = state.names is None
        # If the generator diverged in the first epoch, only the default names are known.
        names = state.names or (
            self._chosen_names(values) if values is not None else self._expected_names()
        )
        if values is None:
            values = dict.fromkeys(names, float("nan"))
        state.names = names
        self.values, self.missing_classes = self._agreed(values)
        self.measured.append((epoch + 1, self.values))
        state.logged = {self.prefix + k: self.values.get(k, float("nan")) for k in names}
        self.quality_seconds += time.perf_counter() - start
        if first:
            self._check_order(names)
            self._check_new_names(logs or {})

    def _evaluate(self) -> tuple[dict[str, float] | None, Any]:
        """Return (values, result of the evaluator), or (None, None) if the generator has diverged."""
        if isinstance(self.quality, Evaluator):
            return self._evaluate_generator(self.quality)
        network: Any = self.model
        if self.target is not None:
            network = fixed_inputs.sampled_network(self.model, self.target)[1]
        with fixed_inputs.as_exported(self.model, network):
            result = self.quality(network)
        if not isinstance(result, Mapping):
            raise ArgumentTypeError(
                "`quality` must return a dict of floats, such as {'accuracy': 0.9}. "
                f"Received: {result!r} (of type {type(result).__name__})."
            )
        return {name: _float_value(name, value) for name, value in result.items()}, result

    def _evaluate_generator(self, evaluator: Evaluator) -> tuple[dict[str, float] | None, Any]:
        """Return what `_evaluate` does, for an evaluator of generators."""
        model: Any = self.model
        name, network = fixed_inputs.sampled_network(model, self.target)
        bad = sums_not_finite(network)
        if not bad:
            source, size = self._source(network)
            with fixed_inputs.as_exported(model, network):
                try:
                    report = evaluator.measure_generator(source, n=self.n, seed=self.seed, **size)
                except DataError:
                    if self._makes_finite_images(network):
                        raise
                    bad = {f"images of '{name}'": float("nan")}
                else:
                    values = report.to_dict().items()
                    return {k: _float_value(k, v) for k, v in values if v is not None}, report
        self._warn_diverged(bad)
        return None, None

    def _source(self, network: Any) -> tuple[Any, dict[str, Any]]:
        """Return what an evaluator measures, and the further arguments that it needs."""
        model: Any = self.model
        # A `GANModel` knows whether it takes labels. A subclassed network does not tell its input size.
        whole = self.target is None and isinstance(model, GANModel)
        latent_dim = getattr(model, "latent_dim", None)
        size = {} if whole or getattr(network, "inputs", None) else {"latent_dim": latent_dim}
        return model if whole else network, size

    def _makes_finite_images(self, network: keras.layers.Layer) -> bool:
        try:
            fixed = fixed_inputs.FixedInputs(_PROBED_IMAGES, self.seed)
            images = fixed_inputs.outputs(self.model, network, fixed)
        except (DataError, InvalidArgumentError):
            return True  # the inputs were the evaluator's problem
        return bool(np.all(np.isfinite(images)))

    def _warn_diverged(self, bad: Mapping[str, float]) -> None:
        shown = ", ".join(f"{k} = {v:g}" for k, v in list(bad.items())[:4])
        self._warn_once(
            "diverged",
            f"The quality is NaN: the network that generates the images has diverged ({shown}). Lower the "
            "learning rate, clip gradients (`clipnorm`), or stop such runs with `NaNGuard`.",
        )

    def _agreed(self, values: dict[str, float]) -> tuple[dict[str, float], tuple[int, ...] | None]:
        """Return the values and the missing classes of the first worker, so that all workers agree."""
        missing = getattr(self.report, "missing_classes", None)
        missing = None if missing is None else [int(number) for number in missing]
        if distribution.count(self.model) > 1:
            sent = json.dumps([values, missing])
            values, missing = json.loads(distribution.gather(sent, self.model)[0])
        return values, None if missing is None else tuple(missing)

    # --- names and order of logs -----------------------------------------------------------------

    def _chosen_names(self, values: Mapping[str, float]) -> tuple[str, ...]:
        """Return the names of the values to log, once they are measured."""
        if self.metrics is None and isinstance(self.quality, Evaluator):
            finite = tuple(k for k in _DEFAULT_METRICS if np.isfinite(values.get(k, np.nan)))
            return finite or tuple(values)
        if self.metrics is None or self.metrics == "all":
            return tuple(values)
        for name in self.metrics:
            if name not in values:
                raise InvalidArgumentError(unknown_name("name in `metrics`:", name, values))
        return tuple(self.metrics)

    def _expected_names(self) -> tuple[str, ...]:
        """Return the names of the values to log, as far as they are known before a measurement."""
        if self.metrics is None or self.metrics == "all":
            return _DEFAULT_METRICS if isinstance(self.quality, Evaluator) else ()
        return tuple(self.metrics)

    def _check_order(self, names: Sequence[str]) -> None:
        """Raise or warn if a callback that reads these logs stands before this one."""
        beside = self._state.beside
        written = {self.prefix + name for name in names}
        # A `DiversityGuard` may hold this monitor, and then writes its logs.
        writers = [o for o in beside if o is self or getattr(o, "_inner_monitor", None) is self]
        if not writers:
            return
        name = type(writers[0]).__name__
        before = beside[: beside.index(writers[0])]
        _quality_log_order.check_readers_before(name, before, written)
        for other in _quality_log_order.blind_writers(before) if written else []:
            self._warn_once(
                id(other),
                f"{type(other).__name__} stands before `{name}` in `callbacks`, so it does not see "
                f"{', '.join(sorted(written))}. Move `{name}` to the front.",
            )
        _quality_log_order.check_trials_are_measured(beside, written, self.every)
        for other in beside:
            if not isinstance(other, QualityMonitor) or other is self:
                continue
            other_names = other._state.names or other._expected_names()
            both = sorted(written & {other.prefix + name for name in other_names})
            if both:
                raise InvalidArgumentError(
                    f"Two `QualityMonitor`s must not write the same log. Received: {both} in both. Give "
                    "one of them a `prefix`."
                )

    def _check_new_names(self, logs: Mapping[str, Any]) -> None:
        both = sorted(set(self._state.logged) & set(logs))
        if both:
            raise InvalidArgumentError(
                f"A log with the name {both[0]!r} exists already. Give `QualityMonitor` a `prefix`, such "
                f"as prefix='quality_', which logs 'quality_{both[0]}'."
            )

    def _warn_once(self, key: Any, message: str) -> None:
        if key not in self._state.warned:
            self._state.warned.add(key)
            warnings.warn(message, PruningWarning, stacklevel=2)


def _metric_names(metrics: Any) -> tuple[str, ...] | Literal["all"] | None:
    if metrics is None or (isinstance(metrics, str) and metrics == "all"):
        return metrics
    several = isinstance(metrics, (list, tuple, set))
    names = tuple(metrics) if several else (metrics,)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InvalidArgumentError(
            f"`metrics` must be names such as ('fd', 'coverage'), 'all' or None. Received: {names!r}."
        )
    return names


def _float_value(name: str, value: Any) -> float:
    try:
        return float(np.asarray(value, dtype="float64"))
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(
            f"`quality` must return one number per name. Received: {name!r} = {value!r}."
        ) from error
