"""`DiversityGuard`: acts on lost variety where the distance does not show it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras

from keras_ganprune.callbacks._diversity_record import Comparison, DiversityRecord
from keras_ganprune.callbacks.callback_list import callbacks_beside
from keras_ganprune.callbacks.quality_monitor import QualityMonitor
from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.metrics.image_quality import Evaluator
from keras_ganprune.pruning.mask_state import sparsity_of
from keras_ganprune.training.fresh_copies import FreshCopies
from keras_ganprune.training.snapshot import TrainingState
from keras_ganprune.utils import annotated, validation

_ACTIONS = ("stop", "rollback", "warn")


@dataclass(frozen=True)
class DiversityEvent:
    """A measurement at which variety was lost.

    Attributes:
        epoch: Int, counted from 1.
        coverage: Float, the coverage at that epoch.
        best_coverage: Float, the coverage that it was compared with.
        lost_classes: Tuple, classes that were present before; empty if only their number is known.
        missing: Float, number of missing classes; NaN without labels.
        distance: Float, the distance at that epoch.
        best_distance: Float, the lowest distance so far.
        action: 'stop', 'rollback' or 'warn'.
        restored_epoch: Int, the epoch whose state was restored; None if nothing was restored.
    """

    epoch: int
    coverage: float
    best_coverage: float
    lost_classes: tuple[int, ...]
    missing: float
    distance: float
    best_distance: float
    action: str
    restored_epoch: int | None = None


class _GoodState:
    """The state of the training at the end of a good epoch."""

    def __init__(self, model: keras.Model, epoch: int):
        self.epoch = epoch
        self.state = TrainingState(model)
        self._networks = [id(layer) for layer in model.layers]

    def fits(self, model: keras.Model) -> bool:
        """Return whether the model has the same networks. `Shrink` may have replaced them."""
        return self._networks == [id(layer) for layer in model.layers]


@dataclass
class _FitState:
    """What a guard knows of the running `fit`.

    Attributes:
        bad: Measurements in a row at which variety was lost.
        alarmed: Whether this loss was reported already.
        good: State of the last good epoch, for 'rollback'.
    """

    bad: int = 0
    alarmed: bool = False
    good: _GoodState | None = None


class DiversityGuard(FreshCopies):
    """Acts when a GAN loses variety while the distance looks fine.

    If a network is pruned too far, it may generate fewer and fewer different images while a Fréchet
    distance hardly changes. The guard compares the coverage with the best coverage so far, and the
    missing classes with those that were present before:

        coverage < best - tolerance, or a class is lost, while distance <= best * (1 + distance_tolerance)

    If the distance rises as well, callbacks that watch the distance notice it (`EarlyStopping`,
    `AdaptiveSparsity`).

    Actions:
        'stop' ends the training.
        'rollback' ends it and restores weights, masks, optimizers and averages of the last good
            measured epoch, step counts included. It does not continue from there, because the schedule
            would prune the same weights again. Fit again with a lower sparsity or a slower schedule.
        'warn' only warns, once until the variety is back.

    The logs keep all measured values, and `events` lists the actions.

    Args:
        quality: None for the `QualityMonitor` that stands before the guard in the list of callbacks; or
            a `QualityMonitor` that is not in the list; or an evaluator or function as for
            `QualityMonitor`, which then measures every epoch. Defaults to None.
        coverage: Float in (0, 1), how far the coverage may fall, absolute. With n real images the
            coverage is uncertain by about sqrt(1 / 4n); use several times that: 0.1 for a few hundred
            images, 0.03 for some thousands. Defaults to 0.1.
        classes: Bool, whether a lost class counts. Needs an evaluator with labels. Defaults to True.
        distance_tolerance: Non-negative float, relative rise above the best distance up to which the
            distance looks fine. None to act whatever the distance is. Defaults to 0.25.
        action: 'stop', 'rollback' or 'warn'. Defaults to 'stop'.
        patience: Positive int, number of measurements in a row that must have lost variety. Defaults
            to 1.
        start_from_epoch: Non-negative int, epochs to ignore at the beginning. Defaults to 0.
        baseline: Float in [0, 1], the coverage to compare with, such as that of the dense network. None
            for the best of this run. A resumed run has no memory of the best. Defaults to None.
        distance: Name of the distance among the measured values. Defaults to 'fd'.

    Attributes:
        events: List of `DiversityEvent`.

    Raises:
        ArgumentTypeError: `quality` is neither an evaluator nor a function.
        InvalidArgumentError: A number is out of its range, or `action` is unknown.
        InvalidArgumentError: No `QualityMonitor` stands before the guard, and `quality` is None.
        InvalidArgumentError: `quality` is a `QualityMonitor` that is also in the list of callbacks.
        InvalidArgumentError: The evaluator does not measure the coverage or the distance.
        InvalidArgumentError: `action` is 'rollback' and an `AdaptiveSparsity` is in the list.

    Example:
    >>> DiversityGuard(action="rollback")
    <DiversityGuard: rollback if coverage falls by 0.1 or a class is lost>
    """

    model: keras.Model  # set by Keras before any hook runs

    def __init__(
        self,
        quality: QualityMonitor | Evaluator | Callable[[Any], Mapping[str, float]] | None = None,
        coverage: float = 0.1,
        *,
        classes: bool = True,
        distance_tolerance: float | None = 0.25,
        action: Literal["stop", "rollback", "warn"] = "stop",
        patience: int = 1,
        start_from_epoch: int = 0,
        baseline: float | None = None,
        distance: str = "fd",
    ):
        annotated.check(DiversityGuard.__init__, locals(), "distance")
        super().__init__()
        self.coverage = validation.fraction(coverage, "coverage", zero=False)
        self.action = validation.one_of(action, "action", _ACTIONS)
        self.classes = validation.boolean(classes, "classes")
        if distance_tolerance is not None:
            distance_tolerance = validation.non_negative(distance_tolerance, "distance_tolerance")
        self.distance_tolerance = distance_tolerance
        self.patience = validation.positive_int(patience, "patience")
        self.start_from_epoch = validation.non_negative_int(start_from_epoch, "start_from_epoch")
        if baseline is not None:
            baseline = validation.fraction(baseline, "baseline", one=True)
        self.baseline = baseline
        self.distance = distance
        self.events: list[DiversityEvent] = []
        # A monitor that is not in the list of callbacks: the guard calls its hooks.
        self._inner_monitor: QualityMonitor | None = None
        if quality is not None:
            inner = isinstance(quality, QualityMonitor)
            self._inner_monitor = quality if inner else QualityMonitor(quality)
        self._monitor = self._inner_monitor
        self._record = DiversityRecord(self.coverage, self.classes, self.baseline)
        self._state = _FitState()

    def __repr__(self):
        classes = " or a class is lost" if self.classes else ""
        return f"<DiversityGuard: {self.action} if coverage falls by {self.coverage:g}{classes}>"

    # --- Keras's hooks ---------------------------------------------------------------------------

    def set_params(self, params):
        """Pass the settings of `fit` on to the inner monitor."""
        super().set_params(params)
        if self._inner_monitor is not None:
            self._inner_monitor.set_params(params)

    def set_model(self, model):
        """Pass the model on to the inner monitor."""
        super().set_model(model)
        if self._inner_monitor is not None:
            self._inner_monitor.set_model(model)

    def on_train_begin(self, logs=None):
        """Find the monitor, and check that it measures before the guard acts."""
        self._state = _FitState()
        beside = callbacks_beside()
        self._check_schedules(beside)
        if self._inner_monitor is not None:
            if any(other is self._inner_monitor for other in beside):
                raise InvalidArgumentError(
                    "`quality` must not be a `QualityMonitor` that is in `callbacks`: it measures there, "
                    "and the guard finds it. Received: the same one as `quality`. Write "
                    "`DiversityGuard()` behind it."
                )
            self._inner_monitor.on_train_begin(logs)
            self._check_names(self._inner_monitor.known_names)
            return
        place = next((i for i, other in enumerate(beside) if other is self), 0)
        monitors = [other for other in beside[:place] if isinstance(other, QualityMonitor)]
        if not monitors:
            raise InvalidArgumentError(
                "`DiversityGuard` needs a callback that measures coverage: a `QualityMonitor` that stands "
                "before it in `callbacks`, or `DiversityGuard(quality)` with an `ImageQuality`. Received: "
                "neither."
            )
        self._monitor = monitors[-1]
        self._check_names(monitors[-1].known_names)

    def on_epoch_end(self, epoch, logs=None):
        """Compare the last measurement, and act on a loss."""
        if self._inner_monitor is not None:
            self._inner_monitor.on_epoch_end(epoch, logs)
        measured = self._monitor.measured if self._monitor is not None else []
        if not measured or measured[-1][0] != epoch + 1 or epoch < self.start_from_epoch:
            return
        values = measured[-1][1]
        self._check_names(values)
        nan_stopped = getattr(self.model, "_nan_guarded", "") == "stopped"
        if math.isfinite(values["coverage"]) and not nan_stopped:  # else `NaNGuard` acts
            self._compare(epoch + 1, values)

    def on_train_end(self, logs=None):
        """Free the memory of the kept state."""
        self._state.good = None

    # --- helpers ---------------------------------------------------------------------------------

    def _check_schedules(self, beside: list[keras.callbacks.Callback]) -> None:
        for other in beside:
            schedule = getattr(other, "schedule", None)
            if self.action == "rollback" and getattr(schedule, "adaptive", False):
                raise InvalidArgumentError(
                    "Only one callback may restore an earlier state. Received: action='rollback' beside "
                    f"{schedule!r}, which restores states itself. Let that schedule watch the coverage "
                    "(`AdaptiveSparsity('coverage', 0.05, direction='max', relative=False)`), or use "
                    "action='stop'."
                )

    def _check_names(self, measured: Iterable[str] | None) -> None:
        """Raise if a value that the guard compares is not measured. None: that is not known yet."""
        if measured is None:
            return
        needed = ["coverage"] if self.distance_tolerance is None else ["coverage", self.distance]
        for name in needed:
            if name not in measured:
                raise InvalidArgumentError(
                    f"The evaluator must measure {name!r}. Received: {', '.join(measured) or 'nothing'}. "
                    "`ImageQuality` measures it; a function of your own can return it."
                )

    def _compare(self, epoch: int, values: Mapping[str, float]) -> None:
        state = self._state
        distance = values.get(self.distance, math.nan)
        missing = values.get("missing_classes", math.nan)
        missing_classes = self._monitor.missing_classes if self._monitor is not None else None
        result = self._record.compare(values["coverage"], distance, missing, missing_classes)
        if not result.fell:
            state.bad, state.alarmed = 0, False
            if self.action == "rollback":
                state.good = _GoodState(self.model, epoch)
            return
        if self.distance_tolerance is not None:
            fine = distance <= result.best_distance * (1.0 + self.distance_tolerance)
            if not fine:
                state.bad = 0
                return
        state.bad += 1
        if state.bad >= self.patience and not state.alarmed:
            state.alarmed = True
            good = state.good if state.good is not None and state.good.fits(self.model) else None
            event = DiversityEvent(
                epoch,
                values["coverage"],
                result.best_coverage,
                result.lost_classes,
                missing,
                distance,
                result.best_distance,
                self.action,
                None if good is None else good.epoch,
            )
            self.events.append(event)
            reasons = self._reasons(event, result)
            actions = self._act(good)
            warnings.warn(
                f"Variety was lost by epoch {epoch}: {', '.join(reasons)}.{actions} Prune less or more "
                "slowly, spare the first and last layers (`scope`), or train longer between mask updates "
                "(`frequency`).",
                PruningWarning,
                stacklevel=2,
            )

    def _reasons(self, event: DiversityEvent, result: Comparison) -> list[str]:
        reasons = []
        if result.coverage_fell:
            reasons.append(
                f"coverage {event.coverage:.3f} is more than {self.coverage:g} below "
                f"{event.best_coverage:.3f}"
            )
        if event.lost_classes:
            reasons.append(f"the classes {', '.join(map(str, event.lost_classes))} are lost")
        elif result.classes_fell:
            reasons.append(f"{event.missing:g} classes are missing")
        if self.distance_tolerance is not None:
            reasons.append(
                f"while {self.distance} {event.distance:.4g} looks fine (best {event.best_distance:.4g})"
            )
        return reasons

    def _act(self, good: _GoodState | None) -> str:
        """Stop and restore as `action` says; return sentences that report it."""
        if self.action == "warn":
            return ""
        self.model.stop_training = True
        if self.action == "stop":
            return " Training stopped."
        if good is None:
            return " Training stopped; no state of a good epoch is kept, so nothing was restored."
        before = sparsity_of(self.model)
        good.state.restore()
        return (
            f" Training stopped, and the weights, masks and optimizers of epoch {good.epoch} were restored "
            f"(sparsity {before:.4f} -> {sparsity_of(self.model):.4f})."
        )
