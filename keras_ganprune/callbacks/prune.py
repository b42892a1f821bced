"""Pruning inside `fit`: add `Prune` to the callbacks of any Keras 3 model, GAN or not."""

from __future__ import annotations

import math
import warnings
import zlib
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import distribution, tracing
from keras_ganprune.callbacks import _gradient_sampler, _optimizer_slots, _prune_warnings
from keras_ganprune.callbacks._adaptive_controller import AdaptiveController
from keras_ganprune.callbacks._rewinder import Rewinder
from keras_ganprune.errors import (
    DivergedError,
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
)
from keras_ganprune.layers.mask_store import MaskStore, memory, to_numpy
from keras_ganprune.layers.traversal import is_built, prunable_layers
from keras_ganprune.pruning import compatibility, schedules
from keras_ganprune.pruning.mask_report import MaskReport
from keras_ganprune.pruning.pruner import Pruner, sparsity_of
from keras_ganprune.training import discovery
from keras_ganprune.training.snapshot import sums_not_finite
from keras_ganprune.training.step_clock import Clock
from keras_ganprune.training.weight_averages import Copies


def _warn(text: str) -> None:
    warnings.warn(text, PruningWarning, stacklevel=3)


class Prune(keras.callbacks.Callback):
    """Prunes one or several networks of the model that is being fitted, along a schedule.

    Works with any `keras.Model`, whatever its `train_step`: the masks are enforced by the weights'
    constraints inside the compiled step. Masks are updated between batches, without retracing. The
    logs get `generator_sparsity` and so on (`sparsity` for `target=None`), so that the progress bar,
    `History`, `CSVLogger` and `TensorBoard` show it; put it before other callbacks that read logs, but
    behind one that writes weights when training ends (`EarlyStopping(restore_best_weights=True)`).

    Args:
        schedule: A `Schedule` (TFMOT's are accepted), or a float: a constant sparsity in [0, 1).
        target: Attribute name of the network in the model, a list of names, a `keras.Model`, or None
            for the model itself. With a list, an allocation such as 'global_ranking' spreads one
            total over all of them.
        frequency: Positive int, optimizer steps between mask updates. Defaults to 100 (or to that of
            a TFMOT schedule). The schedule's end step always updates.
        criterion, granularity, allocation, mode, scope: As for `Pruner`. Gradients that a criterion or
            mode needs are averaged over the batches that lead up to an update; other steps cost what
            they cost without.
        gradient_loss: Function (model, batch) -> scalar loss, whose gradients a gradient criterion
            uses instead of those that the optimizers are given; 'discriminator_saliency' needs it for
            models other than `GANModel`.
        optimizer: The optimizer, or its attribute name, whose steps the schedule counts. None for the
            one that trains the (first) target; say it where several have trained it.
        copies: Networks that are weight averages of a target (an EMA generator) and get its masks:
            'auto' finds and announces them, or a name, network or list; None for no copies.
        verbose: 0 for silence, 1 for a line where something was found or done unasked.

    Attributes:
        pruner: The `Pruner`, once the model is known.
        report: The last `MaskReport`.
        reports: List of `MaskReport`, one for each mask update.
        updates: List of (step, requested, achieved sparsity), one for each mask update.

    Raises:
        InvalidArgumentError, UnsupportedLayerError, UnbuiltModelError: see the texts.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    >>> model.compile("adam", "mse")
    >>> x, y = np.ones((8, 4)), np.ones((8, 5))
    >>> history = model.fit(x, y, verbose=0, callbacks=[Prune(0.5)])
    >>> history.history["sparsity"]
    [0.5]
    """

    def __init__(
        self,
        schedule: Any,
        target: Any = None,
        frequency: int | None = None,
        *,
        criterion: Any = "magnitude",
        granularity: Any = "unstructured",
        allocation: Any = "uniform",
        mode: Any = "hard",
        scope: Any = None,
        gradient_loss: Any = None,
        optimizer: Any = None,
        copies: Any = "auto",
        verbose: int = 1,
    ):
        super().__init__()
        if frequency is None:
            # Only TFMOT's schedules carry their own frequency.
            frequency = getattr(schedule, "frequency", None) or 100
        if (
            isinstance(frequency, bool)
            or not isinstance(frequency, (int, np.integer))
            or frequency < 1
        ):
            raise InvalidArgumentError(
                f"`frequency` must be a positive int, in optimizer steps. Received: {frequency!r}."
            )
        self.schedule = schedules.get(schedule)
        self.target = target
        self.frequency = int(frequency)
        self.settings = {
            "criterion": criterion,
            "granularity": granularity,
            "allocation": allocation,
            "mode": mode,
            "scope": scope,
        }
        # Unknown names and settings that do not go together should be found here, not inside `fit`.
        self._combination = compatibility.get(
            criterion, granularity, allocation, mode, self.schedule
        )
        compatibility.check(self._combination)
        self.gradient_loss = _gradient_sampler.check_loss(gradient_loss)
        if gradient_loss is not None and not (
            self._combination.criterion.needs_gradient or self._combination.mode.needs_gradient
        ):
            raise InvalidArgumentError(
                f"`gradient_loss` has no use: neither {self._combination.criterion!r} nor "
                f"{self._combination.mode!r} looks at gradients. Leave it out, or use a criterion such as "
                "'taylor'."
            )
        self.optimizer = optimizer
        self.copies = copies
        self.verbose = verbose
        self.pruner: Pruner | None = None
        self.report: MaskReport | None = None
        self.reports: list[MaskReport] = []
        self.updates: list[tuple[int, float, float]] = []
        self._pruned_model: keras.Model | None = None
        self._started = False
        self._retired = False

    def __repr__(self):
        done = f", {self.pruner!r}" if self.pruner else ""
        return (
            f"<Prune {self.schedule!r} of {self.target or 'the model'!r} "
            f"every {self.frequency} steps{done}>"
        )

    # --- Keras's hooks ---------------------------------------------------------------------------

    def set_model(self, model):
        # Before every `on_train_begin`, so that `BackupAndRestore` finds the masks it is to restore.
        super().set_model(model)
        if model is not self._pruned_model:
            self._targets = discovery.resolve_target(model, self.target)
            self._check_targets()
            self._requests = _gradient_sampler.requests(
                model,
                [network for _, network in self._targets],
                self._combination.criterion,
                self._combination.mode,
                self.gradient_loss,
            )
            self.pruner = self.report = None
            self.reports, self.updates = [], []
            self._pruned_model = model
            self._retired = False
        self._check_workers()
        if self.pruner is None and all(is_built(network) for _, network in self._targets):
            self._prepare()
        for store in self._stores():
            store.restored = False

    def retire(self, networks: list[keras.layers.Layer]) -> None:
        """End here if one is a target: it has been replaced by a smaller one, where masks are no more."""
        gone = {id(network) for network in networks}
        cut = [network for _, network in self._targets if id(network) in gone]
        if self._retired or not cut:
            return
        self._retired = True
        network = cut[0]
        others = [name for name, target in self._targets if id(target) not in gone]
        end = self.schedule.end_step
        if others or (end is not None and self._started and self._last_step < end):
            _warn(_prune_warnings.cut(network, self, self._last_step, others))

    def on_train_begin(self, logs=None):
        if self._retired:
            return
        self._clock = Clock(self.model, self._targets[0][1], self.optimizer)
        self._copies = Copies(self.model, self._targets, self.copies, self._say)
        self._controller: AdaptiveController | None = None
        self._started = False
        self._postponed: tuple[int, Any] | None = None
        self._jump: tuple[int, float] | None = None
        if self.pruner is not None and self._sampler is not None and self._sampler.active:
            # The `fit` before was interrupted in a sampled batch.
            self._sampler.stop()
            self._sampler.reset()
        if self.target is None:
            for name in discovery.averages(self.model):
                self._say(f"'{name}' looks like a weight average, and is no target of its own")
        if self.pruner is None:
            unbuilt = [name or self.model.name for name, n in self._targets if not is_built(n)]
            self._say(
                f"{', '.join(repr(name) for name in unbuilt)} is not built yet; "
                "pruning starts after the first batch has built it"
            )

    def on_epoch_begin(self, epoch, logs=None):
        if self._retired:
            return
        self._clock.begin_epoch()
        if self._started:
            self._begin_trial()

    def on_train_batch_begin(self, batch, logs=None):
        if self.pruner is None or self._retired:
            return
        if not self._started:
            self._start()
        if self._sampler is not None:
            if self._samples_next():
                self._sampler.start()
            else:
                self._sampler.stop()

    def on_train_batch_end(self, batch, logs=None):
        if self._retired:
            self._log(logs)
            return
        batches = self._clock.batch_done(batch)
        if self.pruner is None:
            self._prepare_late()
        elif self._sampler is not None and self._sampler.active:
            self._sampler.batches += batches
        step = self._clock.step
        if self._matters(step):
            step = self._clock.read()
        if self._rewinder is not None:
            self._rewinder.look(step)  # before an update of this very step goes back to it
        turned_back = [store for store in self._stores() if store.restored]
        if turned_back and not self.model.stop_training:
            # The search of another callback has put older masks back: what was due since is due again.
            self._last_step = min(self._last_step, *(store.step for store in turned_back))
            for store in turned_back:
                store.restored = False
        due = self._due(step)
        before, self._last_step = self._last_step, step
        for store in self._stores():
            store.step = step
        if due is not None:
            try:
                self._update(*due)
            except DivergedError:
                if not getattr(self.model, "_nan_guarded", False):
                    raise
                # The loss was finite still; the guard sees that of the next batch. Due until then.
                self._last_step = before
                if self._sampler is not None:
                    self._sampler.reset()
        self._log(logs)

    def _matters(self, step: int) -> bool:
        """Return whether anything is to be done at a step, so that it must be known for certain."""
        if self._postponed is not None or any(store.restored for store in self._stores()):
            return True
        if self._rewinder is not None and not self._rewinder.ready and step >= self._rewinder.step:
            return True
        return self.schedule.latest_update_step(self._last_step, step, self.frequency) is not None

    def on_epoch_end(self, epoch, logs=None):
        if self._retired:
            self._log(logs)
            return
        if self.schedule.adaptive and self.pruner is not None:
            self._adapt(logs)
        self._project()
        if self.pruner is not None:
            self._measure()  # a guard may have put older masks back
        self._log(logs)

    def on_train_end(self, logs=None):
        if self._retired:
            vars(self.model).pop("_pruned_by", None)
            return
        if self.pruner is None:
            raise UnbuiltModelError(
                "Nothing was pruned: no batch was run that would have built "
                f"{', '.join(repr(name) for name, _ in self._targets)}. Check that the data is not empty."
            )
        if self._sampler is not None:
            self._sampler.stop()
        if self._postponed is not None and self.schedule.adaptive:
            self._postponed = None  # a trial that never began
        if self._postponed is not None:
            self._prune_late()
        if self._controller is not None and self._controller.trying:
            self._say(f"training ended before sparsity {self._controller.trial:.4f} was judged")
            # Keras has put its averages into the weights by now (`use_ema`); so are older ones to be.
            averaged = [
                o for o in discovery.optimizers(self.model) if _optimizer_slots.hold_averages(o)
            ]
            self._controller.back_off()
            for optimizer in averaged:
                optimizer.finalize_variable_values(discovery.trained_variables(optimizer))
        if not self.pruner.held:
            self._harden()
        self._project()
        self._measure()
        # Past Keras's attribute tracking, which has no use for a function.
        object.__setattr__(self.model, "_step_with_masks", self.model.train_function)
        vars(self.model).pop("_pruned_by", None)
        if self._started:
            said = _prune_warnings.ended(self.schedule, self._last_step, self.pruner.sparsity)
            if said:
                _warn(said)

    # --- What they do ----------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        if self.verbose:
            # On a line of its own, also in the middle of a progress bar.
            print(f"\nPrune: {text}.")

    def _stores(self) -> list[MaskStore]:
        return self._store_list if self.pruner is not None else []

    def _check_workers(self) -> None:
        """Compare with the other workers, before anything is sent that only some of them would send."""
        variables = [w for _, network in self._targets for w in network.weights]
        variables += [v for o in discovery.optimizers(self.model) for v in o.variables]
        distribution.check_strategy(self.model, variables)
        own = {k: v for k, v in vars(self).items() if not k.startswith("_") and k != "verbose"}
        distribution.check_same(
            {
                **{k: v for k, v in own.items() if isinstance(v, (int, float, str))},
                **self.settings,
                **vars(self._combination),
                "target": [name for name, _ in self._targets],
                "gradient_loss": self.gradient_loss,
                "version": distribution.version(),
            },
            self.model,
            "All workers must prune alike.",
            "Give `Prune` the same arguments on every worker.",
        )

    def _check_targets(self) -> None:
        inside = {id(layer) for layer in self.model._flatten_layers()}
        for name, network in self._targets:
            if id(network) not in inside:
                _warn(_prune_warnings.outside(name, self.model))

    def _prepare(self) -> None:
        """Make the targets Prunable; a step that was traced before must be traced anew."""
        before = {id(layer) for _, n in self._targets for _, layer in prunable_layers(n)}
        networks = [network for _, network in self._targets]
        self.pruner = Pruner(*networks, **self.settings)
        if self.schedule.quantity == "sparsity":
            self.pruner.check(self.schedule.final)
        crowded = self.schedule.crowded(len(self.pruner.ranked), self.frequency)
        if crowded:
            _warn(crowded)
        if self.frequency < self._combination.criterion.batches:
            self._say(
                f"updates come every {self.frequency} steps, so gradients are averaged over the batches "
                f"since the last one, not over {self._combination.criterion.batches}"
            )
        for remark in self.pruner.remarks[:3]:
            self._say(remark)
        if len(self.pruner.remarks) > 3:
            self._say(f"{len(self.pruner.remarks) - 3} more such remarks in `pruner.remarks`")
        self._store_list = list(
            {id(w.layer): w.layer.pruning_masks for w in self.pruner.weights}.values()
        )
        after = {id(layer) for _, n in self._targets for _, layer in prunable_layers(n)}
        self._per_network = [
            (f"{name.replace('.', '_')}_sparsity" if name else "sparsity", [network])
            for name, network in self._targets
        ]
        if self.target is None:
            self._per_network = [("sparsity", networks)]
        wanted = [request for request in self._requests if request is not None]
        self._sampler = (
            _gradient_sampler.GradientSampler(self.model, self.pruner.weights, wanted)
            if wanted
            else None
        )
        # A list of schedules of the wrong length is refused now, not when it is first needed.
        self.schedule.targets(
            self.schedule.begin_step, [to_numpy(w.variable) for w in self.pruner.ranked]
        )
        # Layers may also have become Prunable by hand, after the step was traced without masks.
        traced_with_masks = getattr(self.model, "_step_with_masks", None)
        stale = [self.pruner.traced_steps_are_stale, after != before, self._track()]
        if any(stale) or traced_with_masks is not self.model.train_function:
            tracing.retrace(self.model)
        self._rewinder = None
        if self.schedule.rewind_step is not None:
            everything = self.schedule.rewind == "model"
            self._rewinder = Rewinder(self.model, networks, self.schedule.rewind_step, everything)
        if self.schedule.adaptive:
            memory(networks[0])  # there before a checkpoint is read into it
        self._measure()

    def _track(self) -> bool:
        """Let the optimizers know the masks; return whether a step that is traced does not."""
        found = discovery.optimizers(self.model, unwrap=False)
        return any([self.pruner.track(optimizer) for optimizer in found])

    def _prepare_late(self) -> None:
        """The first batch has built the networks; the step is traced once more, with masks."""
        self._prepare()
        tracing.retrace(self.model)
        self.model.make_train_function()
        self._start()

    def _start(self) -> None:
        self._started = True
        if self._track():  # an optimizer was built meanwhile
            tracing.retrace(self.model)
            self.model.make_train_function()
        self._guarded = getattr(self.model, "_nan_guarded", False)
        step = self._clock.step
        saved = max((store.step for store in self._stores()), default=0)
        if any(store.restored for store in self._stores()) and step < saved:
            # The masks came back from a checkpoint, but the optimizer's count did not (Keras does not
            # restore an optimizer that is built only by the first batch).
            self._clock.offset = saved - step
            self._say(
                f"the optimizer's state was not restored with the masks; the schedule goes on at step "
                f"{saved}, where they were saved"
            )
            step = saved
        self._last_step = step
        self._check_resumed()
        if self._rewinder is not None:
            self._rewinder.look(step)
        if self.schedule.adaptive:
            self._controller = AdaptiveController(
                self.schedule, self.model, memory(self._targets[0][1])
            )
            self._begin_trial()
        self._check_claims()
        due = self.schedule.latest_update_step(-1, step, self.frequency)
        if due is None or all(self._stamp(due) == store.stamp for store in self._stores()):
            return
        if self.schedule(due) != self.schedule(self.schedule.begin_step):
            self._jump = (step, self.pruner.sparsity)
        self._update(due, self._target(due))

    def _check_resumed(self) -> None:
        """See that all workers begin where the others do."""
        if distribution.count(self.model) == 1:
            return
        found = b"".join(np.packbits(to_numpy(w.mask)).tobytes() for w in self.pruner.weights)
        distribution.check_same(
            {
                "step": self._last_step,
                "masks": f"{self.pruner.sparsity:.4f} ({zlib.crc32(found):x})",
            },
            self.model,
            "All workers must begin at the same step, with the same masks.",
            "Restore the backup of one worker on all of them, or of none.",
        )

    def _check_claims(self) -> None:
        """Warn where two callbacks of this `fit` choose the masks of one layer, and undo each other's."""
        claims = vars(self.model).get("_pruned_by")
        if claims is None or claims[0] is not self.params:
            claims = (self.params, {})
            # Past Keras's attribute tracking, which has no use for it.
            object.__setattr__(self.model, "_pruned_by", claims)
        own = {id(w.layer): w.path for w in self.pruner.weights}
        for other, layers in claims[1].items():
            both = [path for layer, path in own.items() if layer in layers]
            regrows = [p for p in (self, other) if p.pruner.mode.regrows]
            if both and regrows:
                _warn(_prune_warnings.both(both, regrows[0].pruner.mode))
        claims[1][self] = set(own)

    def _stamp(self, due: int) -> int:
        """Return a number that tells this update of this schedule from any other."""
        return zlib.crc32(f"{due} {self._combination!r}".encode())

    # --- gradients -------------------------------------------------------------------------------

    @property
    def _batches(self) -> int:
        """How many batches of gradients an update needs."""
        return max(self._combination.criterion.batches, self._combination.mode.batches)

    def _samples_next(self) -> bool:
        if self._postponed is not None:
            return True
        # One call of the step may stand for several batches, and the update comes after all of them.
        batches = self._batches + getattr(self._pruned_model, "steps_per_execution", 1) - 1
        step, reach = self._clock.reach(batches)
        return self.schedule.latest_update_step(step, reach, self.frequency) is not None

    def _due(self, step: int) -> tuple[int, Any] | None:
        """Return (step of the schedule, target) of the update that is due, or None."""
        if self._postponed is not None:
            if self._sampler.batches < self._batches:
                return None
            # The schedule may have gone on meanwhile.
            latest = self.schedule.latest_update_step(-1, step, self.frequency)
            return self._postponed if latest is None else (latest, self._target(latest))
        due = self.schedule.latest_update_step(self._last_step, step, self.frequency)
        return None if due is None else (due, self._target(due))

    # --- updates ---------------------------------------------------------------------------------

    def _target(self, due: int) -> Any:
        """Return the target of an update: one number, or a list with one for each weight."""
        weights = [to_numpy(w.variable) for w in self.pruner.ranked]
        targets = self.schedule.targets(due, weights)
        return self.schedule(due) if targets is None else targets

    def _progress(self, due: int) -> float:
        begin, end = self.schedule.begin_step, self.schedule.end_step
        return min((due - begin) / (end - begin), 1.0) if end is not None and end > begin else 0.0

    def _update(self, due: int, target: Any, harden: bool = False) -> bool:
        """Update the masks; or, if gradients are needed and none are there, later. Return whether."""
        arguments: dict[str, Any] = {}
        late = self._postponed is not None
        if self._sampler is not None:
            if self._sampler.batches == 0 or self._sampler.skipped:
                self._postponed = (due, target)
                return False
            for name, request in zip(("gradients", "growth"), self._requests, strict=True):
                arguments[name] = None if request is None else self._sampler.read(request)
        if self.schedule.quantity == "sparsity":
            arguments["final"] = self.schedule.final
        self.report = self.pruner.update(
            **{self.schedule.quantity: target},
            **arguments,
            step=due,
            progress=self._progress(due),
            harden=harden or due == self.schedule.end_step,
        )
        self._postponed = None
        if self._sampler is not None:
            self._sampler.reset()
        if self._controller is not None:
            self._controller.begin_trial(target)
        if self._rewinder is not None:
            # Before copies go back too, perhaps to where they were first seen.
            self._copies.look()
            self._rewinder.rewind()
            self.pruner.apply()
        for store in self._stores():
            store.stamp = self._stamp(due)
        _optimizer_slots.clear(self.model, self.pruner)
        self._copies.sync()
        self._measure()
        self.reports.append(self.report)
        step = self._last_step if late else due
        self.updates.append((step, self.report.requested, self.report.achieved))
        if self._jump is not None:
            (step, before), self._jump = self._jump, None
            if self.pruner.sparsity > before:
                begin = self.schedule.begin_step
                _warn(_prune_warnings.jumped(begin, step, before, self.pruner.sparsity))
        return True

    def _prune_late(self) -> None:
        """Make an update that still waited for gradients, with those of fewer batches."""
        try:
            done = self._sampler.batches > 0 and self._update(*self._postponed)
        except DivergedError:
            if not self._guarded:
                raise
            done = False  # the guard has stopped training, and put a good state back
        if not done:
            _warn(_prune_warnings.no_gradients(self._combination.criterion))

    def _harden(self) -> None:
        """Hold the masks of a mode that let weights return: the best ones now, or else the last ones."""
        if self._sampler is None and self.updates and not self.pruner.mode.enforced:
            due = self.updates[-1][0]
            self._update(due, self._target(due), harden=True)
            self.reports.pop(-2)
            self.updates.pop(-2)
        else:
            self.pruner.hold()

    def _adapt(self, logs: dict | None) -> None:
        """Judge the sparsity that is being tried, and plan the next one or go back."""
        if not self._started or self._postponed is not None:
            return
        if self._last_step < self.schedule.begin_step:
            return
        made = self.updates[-1][0] if self.updates else None  # None: in the run before this one
        if self._controller.trying and made == self._last_step:
            return  # it waited for gradients all through the epoch, whose logs say nothing of it
        value = self._controller.read(logs)
        if sums_not_finite(self.model) or getattr(self.model, "_nan_guarded", "") == "stopped":
            value = math.nan  # what is logged was measured before the step that ruined the weights
        value = float(distribution.broadcast(np.float64(value), self.model))
        said = self._controller.after_epoch(value)
        if said:
            self._say(said)

    def _begin_trial(self) -> None:
        """Try the sparsity that the last epoch's end has planned: in an epoch of its own, not in its logs."""
        controller = self._controller
        if controller is not None and not math.isnan(controller.planned) and not self._postponed:
            controller.before_trial()
            self._update(self._last_step, controller.planned)

    def _project(self) -> None:
        """Mask again all that can change weights without asking the constraint."""
        if self.pruner is None:
            return
        self.pruner.apply()
        _optimizer_slots.mask_averages(self.model, self.pruner)
        self._copies.sync()

    def _measure(self) -> None:
        """Note the sparsity of each target, whichever callbacks have pruned it."""
        self._values = {key: sparsity_of(*networks) for key, networks in self._per_network}
        if self.pruner.coupled:
            for key, networks in self._per_network:
                shares = [self.pruner.unit_sparsity(network) for network in networks]
                unit = self.pruner.counted.removesuffix("s")
                self._values[f"{key.removesuffix('sparsity')}{unit}_sparsity"] = float(
                    np.mean(shares)
                )

    def _log(self, logs: dict | None) -> None:
        if logs is not None and self.pruner is not None:
            logs.update(self._values)
