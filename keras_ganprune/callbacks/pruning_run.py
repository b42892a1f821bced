"""The state of `Prune` during one `fit`: which step it is, which update is due, and what an update does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, cast

from keras_ganprune.backend import tracing
from keras_ganprune.callbacks import _optimizer_slots, _prune_warnings
from keras_ganprune.callbacks._adaptive_controller import AdaptiveController
from keras_ganprune.callbacks._adaptive_trials import AdaptiveTrials
from keras_ganprune.callbacks._first_update import FirstUpdate
from keras_ganprune.callbacks._frozen_weights import FrozenWeights
from keras_ganprune.callbacks._open_window import forget_interrupted, resumed_window
from keras_ganprune.callbacks._training_start import (
    check_resumed,
    claim_layers,
    first_step,
    made_masks,
    release_layers,
)
from keras_ganprune.callbacks.callback_list import callbacks_beside
from keras_ganprune.callbacks.target_networks import PruneCallback, TargetNetworks
from keras_ganprune.errors import DivergedError, PruningWarning
from keras_ganprune.layers.guard import pruned_but_not_zero
from keras_ganprune.layers.mask_store import MaskStore, memory
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.pruning.schedules import AdaptiveSparsity
from keras_ganprune.training.step_clock import Clock
from keras_ganprune.training.weight_averages import Copies

# One target for all tensors, or one per tensor.
Target = float | list[float]


def _warn(text: str) -> None:
    warnings.warn(text, PruningWarning, stacklevel=3)


class PruningRun:
    """Prunes the target networks during one `fit`. `Prune` makes one when training begins.

    Args:
        callback: The `Prune` callback; its `reports` and `updates` are filled.
        targets: The networks to prune.
        say: Function that prints a line for the user.

    Attributes:
        clock: Counts the steps of the target's optimizer.
        copies: Weight averages of the targets, which get the same masks.
        trials: The trials of an `AdaptiveSparsity`, or None.
        started: Whether the first batch has begun.
        last_step: Int, optimizer steps at the end of the last batch.
        postponed: (step of the schedule, target) of an update that waits for gradients, or None.
    """

    def __init__(
        self, callback: PruneCallback, targets: TargetNetworks, say: Callable[[str], None]
    ):
        self.callback = callback
        self.targets = targets
        self.say = say
        self.clock = Clock(self.model, targets.first, callback.optimizer)
        beside = callbacks_beside()
        self.copies = Copies(self.model, targets.networks, callback.copies, say, holders=beside)
        self.trials: AdaptiveTrials | None = None
        self.started = False
        self.last_step = 0
        self.postponed: tuple[int, Target] | None = None
        self._frozen: FrozenWeights | None = None
        self.first_update = FirstUpdate(callback)
        # A guard may have unset its mark when training ends.
        self._guarded = False
        self._said_written = False
        forget_interrupted(targets.collectors)
        targets.announce()

    @property
    def model(self) -> Any:
        """The model that is fitted. On JAX, Keras syncs its variables whenever this is read."""
        return self.callback.model

    @property
    def pruner(self) -> Pruner:
        """The `Pruner`; raises `UnbuiltModelError` if no batch has built the networks."""
        return self.targets.made_pruner

    @property
    def stores(self) -> list[MaskStore]:
        """The mask stores of all pruned layers."""
        return self.targets.stores

    # --- the hooks of one `fit` ------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """Count a new epoch; begin the trial of an adaptive schedule."""
        self.clock.begin_epoch()
        if self.trials is not None:
            self.trials.begin()

    def begin_batch(self) -> None:
        """Start before the first batch; sample the gradients of this batch if an update needs them."""
        if self.targets.pruner is None:
            return
        if not self.started:
            self.start()
        collectors = self.targets.collectors
        if collectors:
            wanted = self.samples_next()
            for collector in collectors:
                if wanted:
                    collector.start()
                else:
                    collector.stop()

    def end_batch(self, batch: int, logs: dict[str, Any] | None) -> None:
        """Update the masks if an update is due at this step.

        Args:
            batch: Int, number of the batch in the epoch.
            logs: The logs of the batch, for subclasses.
        """
        batches = self.clock.batch_done(batch)
        sampler = self.targets.sampler
        if self.targets.pruner is None:
            self._prepare_late()
        elif sampler is not None and sampler.active:
            sampler.batches += batches
        if self._frozen and not self._frozen.own_step:
            self._warn_of_frozen()
        step = self.clock.step
        if self._needs_exact_step(step):
            step = self.clock.read()
        if self.targets.rewinder is not None:
            self.targets.rewinder.look(step)  # before an update at this very step rewinds to it
        self._go_back_with_restored_masks()
        due = self.due_update(step)
        step_before, self.last_step = self.last_step, step
        for store in self.stores:
            store.step = step
        if due is not None:
            try:
                self.update(*due)
            except DivergedError:
                if not getattr(self.model, "_nan_guarded", False):
                    raise
                # The loss was still finite; `NaNGuard` will see the loss of the next batch.
                self.last_step = step_before
                self._reset_collectors()

    def end_epoch(self, logs: dict[str, Any] | None) -> None:
        """Evaluate the trial of an adaptive schedule, and mask whatever bypassed the constraint."""
        if self.trials is not None:
            self.trials.evaluate(logs)
        self._warn_of_frozen()
        self._apply_masks()
        if self.targets.pruner is not None:
            self.targets.measure()  # a guard may have restored older masks

    def end_training(self) -> None:
        """Make the last update, hold the masks, and warn if the schedule has not ended."""
        pruner = self.pruner
        for collector in self.targets.collectors:
            collector.stop()
        if self.postponed is not None and self.callback.schedule.adaptive:
            self.postponed = None  # a trial that never began
        if self.postponed is not None:
            self._update_with_fewer_batches(self.postponed)
        if self.trials is not None:
            self.trials.abandon()
        if not pruner.held:
            self._harden()
        self._apply_masks()
        for store in self.stores:
            store.rest(True)
        self.targets.measure()
        # Past Keras's attribute tracking, which must not track a function.
        object.__setattr__(self.model, "_step_with_masks", self.model.train_function)
        release_layers(self.model)
        if self.started:
            text = _prune_warnings.ended(self.callback.schedule, self.last_step, pruner.sparsity)
            if text:
                _warn(text)

    def retire(self, replaced: set[int]) -> None:
        """End pruning if a target was replaced by a smaller network, which has no masks.

        Args:
            replaced: Ids of the replaced networks.
        """
        networks = self.targets.networks
        cut = [network for _, network in networks if id(network) in replaced]
        if not cut or self.targets.retired:
            return
        self.targets.retired = True
        others = [name for name, network in networks if id(network) not in replaced]
        end = self.callback.schedule.end_step
        if others or (end is not None and self.started and self.last_step < end):
            _warn(_prune_warnings.cut(cut[0], self.callback, self.last_step, others))

    # --- the start -------------------------------------------------------------------------------

    def _prepare_late(self) -> None:
        """Prune networks that the first batch has built: the step is traced once more, with masks."""
        self.targets.prepare()
        tracing.retrace(self.model)
        self.model.make_train_function()
        self.start()

    def start(self) -> None:
        """Find the step to start from, and make the update that is due there."""
        self.started = True
        for store in self.stores:
            store.rest(False)
        self.copies.look_at_loose()  # other callbacks may have made averages when training began
        if self.targets.track_masks():  # an optimizer was built meanwhile
            tracing.retrace(self.model)
            self.model.make_train_function()
        self._guarded = getattr(self.model, "_nan_guarded", False)
        self.last_step = step = first_step(self.clock, self.targets, self.callback, self.say)
        self._sampled = resumed_window(self)  # a weak reference of the store needs it
        check_resumed(self.model, self.pruner, step)
        if self.targets.rewinder is not None:
            self.targets.rewinder.look(step)
        if not made_masks(self.callback, self.stores, step):
            self.first_update.foreign_sparsity = self.pruner.sparsity
        schedule = self.callback.schedule
        if schedule.adaptive:
            search = cast(AdaptiveSparsity, schedule)  # the only kind that is adaptive
            store = memory(self.targets.first)
            self.trials = AdaptiveTrials(AdaptiveController(search, self.model, store), self)
            self.trials.begin()
        claim_layers(self.callback, self.pruner)
        if not self.targets.warned_of_frozen:
            self._frozen = FrozenWeights(self.model, self.pruner.weights)
        due = schedule.latest_update_step(-1, step, self.callback.frequency)
        if (
            self.postponed is not None
            or due is None
            or all(self.callback.settings.stamp(due) == store.stamp for store in self.stores)
        ):
            return
        if schedule(due) != schedule(schedule.begin_step):
            self.first_update.late_start = (step, self.pruner.sparsity)
        self.update(due, self.target_at(due))

    # --- which update is due ---------------------------------------------------------------------

    def _needs_exact_step(self, step: int) -> bool:
        """Return whether anything happens at a step, so that the optimizer's own count must be read."""
        if self.postponed is not None or any(store.restored for store in self.stores):
            return True
        rewinder = self.targets.rewinder
        if rewinder is not None and not rewinder.ready and step >= rewinder.step:
            return True
        return self._latest_update(self.last_step, step) is not None

    def _latest_update(self, after: int, until: int) -> int | None:
        return self.callback.schedule.latest_update_step(after, until, self.callback.frequency)

    def _go_back_with_restored_masks(self) -> None:
        """If another callback has restored older masks, make the updates since then again."""
        restored = [store for store in self.stores if store.restored]
        if restored and not self.model.stop_training:
            self.last_step = min(self.last_step, *(store.step for store in restored))
            for store in restored:
                store.restored = False

    def samples_next(self) -> bool:
        """Return whether the gradients of the next batch are needed."""
        if self.postponed is not None:
            return True
        # One call of the step may stand for several batches, and the update comes after all of them.
        batches = self.callback.settings.gradient_batches
        batches += getattr(self.targets.model, "steps_per_execution", 1) - 1
        step, reach = self.clock.reach(batches)
        return self._latest_update(step, reach) is not None

    def due_update(self, step: int) -> tuple[int, Target] | None:
        """Return (step of the schedule, target) of the update that is due at a step, or None."""
        if self.postponed is not None:
            collected = [collector.batches for collector in self.targets.collectors]
            if min(collected, default=0) < self.callback.settings.gradient_batches:
                return None
            # The schedule may have continued meanwhile.
            latest = self._latest_update(-1, step)
            return self.postponed if latest is None else (latest, self.target_at(latest))
        due = self._latest_update(self.last_step, step)
        return None if due is None else (due, self.target_at(due))

    def target_at(self, due: int) -> Target:
        """Return the target of an update: one number, or a list with one per ranking."""
        weights = [to_numpy(w.variable) for w in self.pruner.ranked]
        targets = self.callback.schedule.targets(due, weights)
        return self.callback.schedule(due) if targets is None else targets

    def progress_at(self, due: int) -> float:
        """Return the progress of the schedule at a step, in [0, 1]."""
        begin, end = self.callback.schedule.begin_step, self.callback.schedule.end_step
        return min((due - begin) / (end - begin), 1.0) if end is not None and end > begin else 0.0

    # --- updates ---------------------------------------------------------------------------------

    def update(self, due: int, target: Target, harden: bool = False) -> bool:
        """Update the masks, or postpone the update if it needs gradients and none were sampled.

        Args:
            due: Int, step of the schedule that the update belongs to.
            target: Sparsity or threshold.
            harden: Whether a mode that lets weights return holds its masks from now on.

        Returns:
            Whether the masks were updated.

        Raises:
            DivergedError: A weight or gradient is NaN or infinite.
        """
        callback, pruner, sampler = self.callback, self.pruner, self.targets.sampler
        arguments: dict[str, Any] = {callback.schedule.quantity: target}
        was_postponed = self.postponed is not None
        if not self._collected():
            self.postponed = (due, target)
            return False
        if self.targets.calibration is not None:
            arguments["calibration"] = self.targets.calibration.read()
        if sampler is not None:
            for name, request in zip(("gradients", "growth"), self.targets.requests, strict=True):
                arguments[name] = None if request is None else sampler.read(request)
        if callback.schedule.quantity == "sparsity":
            arguments["final"] = callback.schedule.final
        report = pruner.update(
            **arguments,
            step=due,
            progress=self.progress_at(due),
            harden=harden or due == callback.schedule.end_step,
        )
        self.postponed = None
        self._reset_collectors()
        if self.trials is not None:
            self.trials.controller.begin_trial(cast(float, target))  # one for all tensors
        if self.targets.rewinder is not None:
            # Copies are found before they are rewound too, perhaps to the values first seen.
            self.copies.look()
            self.targets.rewinder.rewind()
            pruner.apply()
        for store in self.stores:
            store.stamp = self.callback.settings.stamp(due)
        _optimizer_slots.clear(self.model, pruner)
        self.copies.sync()
        self.targets.measure()
        callback.reports.append(report)
        step = self.last_step if was_postponed else due
        callback.updates.append((step, report.requested, report.achieved))
        self.first_update.warn(pruner.sparsity)
        return True

    def _collected(self) -> bool:
        """Return whether an update has what it needs from the batches: of one batch at least."""
        sampler = self.targets.sampler
        seen = all(collector.batches for collector in self.targets.collectors)
        return seen and (sampler is None or not sampler.skipped)

    def _reset_collectors(self) -> None:
        for collector in self.targets.collectors:
            collector.reset()

    def _warn_of_frozen(self) -> None:
        """Warn once of pruned weights that training does not change."""
        if not self._frozen:
            return
        # On JAX, reading the model syncs its variables.
        paths = self._frozen.found() if self.model is not None else []
        if paths:
            self.targets.warned_of_frozen = True
            _warn(_prune_warnings.frozen(paths))

    def _update_with_fewer_batches(self, postponed: tuple[int, Target]) -> None:
        """Make an update that still waits for gradients, with those of fewer batches."""
        collectors = self.targets.collectors
        try:
            updated = bool(collectors) and self._collected() and self.update(*postponed)
        except DivergedError:
            if not self._guarded:
                raise
            updated = False  # `NaNGuard` has stopped training, and restored a good state
        if not updated:
            _warn(_prune_warnings.no_gradients(self.callback.settings.criterion))

    def _harden(self) -> None:
        """Hold the masks of a mode that let weights return: new masks if possible, or else the last ones."""
        reports, updates = self.callback.reports, self.callback.updates
        if not self.targets.collectors and updates and not self.pruner.mode.enforced:
            due = updates[-1][0]
            self.update(due, self.target_at(due), harden=True)
            reports.pop(-2)
            updates.pop(-2)
        else:
            self.pruner.hold()

    def _apply_masks(self) -> None:
        """Mask everything that can change weights without their constraint."""
        if self.targets.pruner is None:
            return
        written = [w.path for w in self.pruner.weights if pruned_but_not_zero(w.variable, w.mask)]
        if written and not self._said_written:
            self._said_written = True
            _warn(_prune_warnings.written_past_keras(written))
        self.pruner.apply()
        _optimizer_slots.mask_averages(self.model, self.pruner)
        self.copies.sync()
