"""A callback that sees lost variety where the distance does not show it."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import keras

from keras_ganprune.callbacks.quality_monitor import QualityMonitor, callbacks_beside
from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.pruning.mask_state import sparsity_of
from keras_ganprune.training.snapshot import TrainingState
from keras_ganprune.utils import validation

_ACTIONS = ("stop", "rollback", "warn")


@dataclass(frozen=True)
class DiversityEvent:
    """Variety that was lost.

    Attributes:
        epoch: Int, counted from 1.
        coverage, best_coverage: Floats, at that epoch, and what it was compared to.
        lost_classes: Class numbers that were there before; of a judge that only counts them, empty.
        missing: Float, how many classes are missing; NaN without labels.
        distance, best_distance: Floats.
        action: What was done: 'stop', 'rollback' or 'warn'.
        restored_epoch: Int, the epoch that was gone back to; None if none was.
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


class DiversityGuard(keras.callbacks.Callback):
    """Acts when a GAN loses variety while the distance looks fine.

    A Fréchet distance can stay where it is while a network that was pruned too far draws fewer and fewer
    different images. The guard compares the coverage with the best so far, and the classes that are
    missing with those that were there before:

        coverage < best - tolerance, or a class is lost, while distance <= best * (1 + distance_tolerance)

    Where the distance rises too, whatever watches that will see it (`EarlyStopping`, `AdaptiveSparsity`).

    'stop' ends training; 'rollback' ends it too, and puts back weights, masks, optimizers and averages of
    the last measured epoch that was good. It does not train on from there: the schedule would prune the
    same weights again. Fit again with a lower sparsity or a slower schedule instead; the count of steps
    has gone back too. 'warn' only says so, once until the variety is back. The logs keep what was
    measured, and `events` what was done.

    Args:
        quality: None for the `QualityMonitor` that stands before it in the list of callbacks; or one of
            your own, which is then not in the list; or a judge, as for `QualityMonitor`, of every epoch.
        coverage: Float in (0, 1), how far the coverage may fall, in units of coverage. Of n real images it
            is uncertain by about sqrt(1 / 4n), so several times that: 0.1 suits a few hundred, 0.03 some
            thousands.
        classes: Bool, whether a lost class counts; needs a judge that knows labels.
        distance_tolerance: Non-negative float, up to which relative rise above its best the distance
            looks fine; None to act whatever the distance does.
        action: 'stop', 'rollback' or 'warn'.
        patience: Positive int, measurements in a row that must have lost it.
        start_from_epoch: Int, epochs to leave out at the beginning, while training finds its feet.
        baseline: Float in [0, 1], the coverage to compare with, such as that of the dense network; None
            for the best of this run. A run that was cut short and resumed has no other memory of it.
        distance: Name of the distance among what the judge measures.

    Attributes:
        events: List of `DiversityEvent`.

    Raises:
        InvalidArgumentError: an argument breaks its rule, or nothing measures the coverage.

    Example:
    >>> DiversityGuard(action="rollback")
    <DiversityGuard: rollback if coverage falls by 0.1 or a class is lost>
    """

    def __init__(
        self,
        quality: Any = None,
        coverage: float = 0.1,
        *,
        classes: bool = True,
        distance_tolerance: float | None = 0.25,
        action: str = "stop",
        patience: int = 1,
        start_from_epoch: int = 0,
        baseline: float | None = None,
        distance: str = "fd",
    ):
        super().__init__()
        self.coverage = validation.fraction(coverage, "coverage", zero=False)
        if action not in _ACTIONS:
            raise InvalidArgumentError(
                f"`action` must be 'stop', 'rollback' or 'warn'. Received: {action!r}."
            )
        self.classes = validation.boolean(classes, "classes")
        self.distance_tolerance = (
            None
            if distance_tolerance is None
            else validation.non_negative(distance_tolerance, "distance_tolerance")
        )
        self.action = action
        self.patience = validation.positive_int(patience, "patience")
        self.start_from_epoch = validation.non_negative_int(start_from_epoch, "start_from_epoch")
        self.baseline = (
            None if baseline is None else validation.fraction(baseline, "baseline", one=True)
        )
        self.distance = distance
        self._own: QualityMonitor | None = None
        if quality is not None:
            self._own = quality if isinstance(quality, QualityMonitor) else QualityMonitor(quality)
        self.events: list[DiversityEvent] = []
        self._monitor: QualityMonitor | None = self._own
        # What was best, in this `fit` and in those before it.
        self._best_coverage = -math.inf if self.baseline is None else self.baseline
        self._best_distance = math.inf
        self._never_seen: set[int] | None = None
        self._fewest_missing = math.inf

    def __repr__(self):
        classes = " or a class is lost" if self.classes else ""
        return f"<DiversityGuard: {self.action} if coverage falls by {self.coverage:g}{classes}>"

    # --- Keras's hooks ---------------------------------------------------------------------------

    def set_params(self, params):
        super().set_params(params)
        if self._own is not None:
            self._own.set_params(params)

    def set_model(self, model):
        super().set_model(model)
        if self._own is not None:
            self._own.set_model(model)

    def on_train_begin(self, logs=None):
        self._bad = 0
        self._alarmed = False
        self._state: TrainingState | None = None
        self._state_epoch: int | None = None
        beside = callbacks_beside()
        self._check_schedules(beside)
        if self._own is not None:
            if any(other is self._own for other in beside):
                raise InvalidArgumentError(
                    "A `QualityMonitor` that is in `callbacks` measures there, and the guard finds it. "
                    "Received: the same one as `quality`. Write `DiversityGuard()` behind it."
                )
            self._own.on_train_begin(logs)
            return
        place = next((i for i, other in enumerate(beside) if other is self), 0)
        found = [other for other in beside[:place] if isinstance(other, QualityMonitor)]
        if not found:
            raise InvalidArgumentError(
                "`DiversityGuard` needs something that measures coverage: a `QualityMonitor` that stands "
                "before it in `callbacks`, or `DiversityGuard(quality)` with an `ImageQuality`. Received: "
                "neither."
            )
        self._monitor = found[-1]

    def on_epoch_end(self, epoch, logs=None):
        if self._own is not None:
            self._own.on_epoch_end(epoch, logs)
        measured = self._monitor.measured
        if not measured or measured[-1][0] != epoch + 1 or epoch < self.start_from_epoch:
            return
        values = measured[-1][1]
        for name in (
            ("coverage",) if self.distance_tolerance is None else ("coverage", self.distance)
        ):
            if name not in values:
                raise InvalidArgumentError(
                    f"The judge must measure {name!r}. Received: {', '.join(values) or 'nothing'}. "
                    "`ImageQuality` does; a function of your own can return it."
                )
        coverage = values["coverage"]
        distance = values.get(self.distance, math.nan)
        if not math.isfinite(coverage) or getattr(self.model, "_nan_guarded", "") == "stopped":
            return  # a diverged network is the business of `NaNGuard`
        self._judge(epoch + 1, coverage, distance, values.get("missing_classes", math.nan))

    def on_train_end(self, logs=None):
        self._state = None

    # --- What they do ----------------------------------------------------------------------------

    def _check_schedules(self, beside: list[keras.callbacks.Callback]) -> None:
        for other in beside:
            if self.action == "rollback" and getattr(
                getattr(other, "schedule", None), "adaptive", False
            ):
                raise InvalidArgumentError(
                    "Only one callback can go back to what was good. Received: action='rollback' beside "
                    f"{other.schedule!r}, which does so by itself. Let it watch the coverage "
                    "(`AdaptiveSparsity('coverage', 0.05, direction='max', relative=False)`), or use "
                    "action='stop'."
                )

    def _judge(self, epoch: int, coverage: float, distance: float, missing: float) -> None:
        lost, fewer = self._lost_classes(missing)
        fell = coverage < self._best_coverage - self.coverage
        compared = self._best_coverage
        if self.baseline is None:
            self._best_coverage = max(compared, coverage)
        if math.isfinite(distance):
            self._best_distance = min(self._best_distance, distance)
        if not (fell or fewer):
            self._bad, self._alarmed = 0, False
            if self.action == "rollback":
                self._keep(epoch)
            return
        if self.distance_tolerance is not None:
            fine = distance <= self._best_distance * (1.0 + self.distance_tolerance)
            if not fine:
                self._bad = 0
                return
        self._bad += 1
        if self._bad >= self.patience and not self._alarmed:
            self._alarmed = True
            event = DiversityEvent(
                epoch,
                coverage,
                compared,
                lost,
                missing,
                distance,
                self._best_distance,
                self.action,
                self._state_epoch if self.action == "rollback" and self._fits() else None,
            )
            self.events.append(event)
            self._act(event, fell, fewer)

    def _lost_classes(self, missing: float) -> tuple[tuple[int, ...], bool]:
        """Return the classes that were there before, and whether fewer are there than at best."""
        if not self.classes or not math.isfinite(missing):
            return (), False
        fewer = missing > self._fewest_missing
        self._fewest_missing = min(self._fewest_missing, missing)
        if self._monitor.missing_classes is None:
            return (), fewer
        now = set(self._monitor.missing_classes)
        # Which, not how many: another one may have come in its place.
        lost = () if self._never_seen is None else tuple(sorted(now - self._never_seen))
        self._never_seen = now if self._never_seen is None else self._never_seen & now
        return lost, bool(lost)

    def _keep(self, epoch: int) -> None:
        self._state, self._state_epoch = TrainingState(self.model), epoch
        self._networks = [id(layer) for layer in self.model.layers]

    def _fits(self) -> bool:
        # `Shrink` may have put other networks there since, for which the state is of no use.
        return self._state is not None and self._networks == [id(n) for n in self.model.layers]

    def _act(self, event: DiversityEvent, fell: bool, fewer: bool) -> None:
        reasons = []
        if fell:
            reasons.append(
                f"coverage {event.coverage:.3f} is more than {self.coverage:g} below "
                f"{event.best_coverage:.3f}"
            )
        if event.lost_classes:
            reasons.append(f"lost are the classes {', '.join(map(str, event.lost_classes))}")
        elif fewer:
            reasons.append(f"{event.missing:g} classes are missing")
        if self.distance_tolerance is not None:
            reasons.append(
                f"while {self.distance} {event.distance:.4g} looks fine (best {event.best_distance:.4g})"
            )
        done = ""
        if self.action != "warn":
            self.model.stop_training = True
            done = " Training stopped"
        if event.restored_epoch is not None:
            before = sparsity_of(self.model)
            self._state.restore()
            done += (
                f", and the weights, masks and optimizers of epoch {event.restored_epoch} were put back "
                f"(sparsity {before:.4f} -> {sparsity_of(self.model):.4f})"
            )
        elif self.action == "rollback":
            done += "; no state of a good epoch is kept, so nothing was put back"
        warnings.warn(
            f"Variety was lost by epoch {event.epoch}: {', '.join(reasons)}.{done}{'.' if done else ''} "
            "Prune less or more slowly, spare the first and last layers (`scope`), or train on longer "
            "between mask updates (`frequency`).",
            PruningWarning,
            stacklevel=2,
        )
