"""When the sparsities of an `AdaptiveSparsity` are tried in a `fit`, evaluated and given up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_ganprune.backend import distribution
from keras_ganprune.callbacks import _optimizer_slots
from keras_ganprune.callbacks._adaptive_controller import AdaptiveController
from keras_ganprune.training import discovery
from keras_ganprune.training.snapshot import sums_not_finite


class AdaptiveTrials:
    """Runs the trials that a controller plans.

    Args:
        controller: The search for the highest sparsity that holds.
        run: The `PruningRun` that updates the masks.
    """

    def __init__(self, controller: AdaptiveController, run: Any):
        self.controller = controller
        self.run = run
        if controller.goes_on:
            run.first_update.foreign_sparsity = 0.0  # the masks are those of this search

    def begin(self) -> None:
        """Try the sparsity planned at the end of the last epoch, so that a trial has an epoch of its own."""
        controller = self.controller
        if not math.isnan(controller.planned) and not self.run.postponed:
            controller.before_trial()
            controller.waits = not self.run.update(self.run.last_step, controller.planned)

    def evaluate(self, logs: dict[str, Any] | None) -> None:
        """Evaluate the sparsity on trial, and plan the next one or go back."""
        run, controller = self.run, self.controller
        if run.postponed is not None or run.last_step < run.callback.schedule.begin_step:
            return
        updates = run.callback.updates
        updated_at = updates[-1][0] if updates else None  # None: in the run before this one
        if controller.trying and updated_at == run.last_step:
            return  # it waited for gradients during the epoch, whose logs do not measure it
        value = controller.read(logs)
        if sums_not_finite(run.model) or getattr(run.model, "_nan_guarded", "") == "stopped":
            value = math.nan  # the log was measured before the step that ruined the weights
        value = float(distribution.broadcast(np.array(value), run.model))
        message = controller.after_epoch(value)
        if message:
            run.say(message)

    def abandon(self) -> None:
        """Go back to the last sparsity that held if training ends during a trial."""
        if not self.controller.trying:
            return
        self.run.say(f"training ended before sparsity {self.controller.trial:.4f} was evaluated")
        # Keras has written its averages into the weights by now (`use_ema`); so must older averages be.
        averaged = [
            o for o in discovery.optimizers(self.run.model) if _optimizer_slots.hold_averages(o)
        ]
        self.controller.back_off()
        for optimizer in averaged:
            optimizer.finalize_variable_values(discovery.trained_variables(optimizer))
