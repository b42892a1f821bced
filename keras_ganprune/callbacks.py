"""Pruning inside `fit`: add `Prune` to the callbacks of any Keras 3 model, GAN or not."""

from __future__ import annotations

import warnings
import zlib
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune import discovery, schedules
from keras_ganprune.errors import (
    DivergedError,
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
)
from keras_ganprune.layers import copy_masks, is_built, prunable_layers
from keras_ganprune.masking import MaskStore, to_numpy
from keras_ganprune.pruner import MaskReport, Pruner


class _Clock:
    """Optimizer steps done for a network: the optimizer's own count, so that a resumed run goes on.

    Until an optimizer that trains the network is found (it may be built only by the first batch),
    batches are counted instead.
    """

    def __init__(self, model: keras.Model, network: keras.layers.Layer, chosen: Any):
        self.model = model
        self.network = network
        self.optimizer = None if chosen is None else discovery.resolve_optimizer(model, chosen)
        self.offset = 0
        self._batches = 0
        self._batches_before_epoch = 0

    def begin_epoch(self) -> None:
        self._batches_before_epoch = self._batches

    def batch_done(self, batch: int) -> None:
        # With `steps_per_execution` one call stands for several batches; `batch` is the last of them.
        self._batches = self._batches_before_epoch + batch + 1

    @property
    def step(self) -> int:
        found = self.optimizer or discovery.optimizer_of(self.model, self.network)
        if found is None:
            return self._batches + self.offset
        done = discovery.steps_done(found)
        if done:  # one that has made no update yet may turn out to be idle
            self.optimizer = found
        return done + self.offset


def _fingerprint(network: keras.layers.Layer) -> float:
    """Return a number that changes when the kernels of a network move.

    Not its vectors: batch statistics move in a frozen teacher that is run in training mode.
    """
    kernels = [w for w in network.weights if len(w.shape) > 1]
    return float(sum(np.sum(to_numpy(w), dtype=np.float64) for w in kernels[:4]))


class _Copies:
    """Finds hand-kept weight averages of the pruned networks, and gives them the same masks."""

    def __init__(self, model: keras.Model, targets, chosen: Any, say):
        self.model = model
        self.targets = targets
        self.say = say
        self.found: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []
        self.automatic = chosen == "auto"
        self._first_seen: dict[int, float] = {}
        if not self.automatic and chosen:
            for name, copy in discovery.resolve_target(model, chosen):
                self._accept_chosen(name, copy)
        if self.automatic:
            # Seen before the first batch, so that one update in one epoch is enough to see a move.
            for other in discovery.networks(model).values():
                if is_built(other):
                    self._first_seen[id(other)] = _fingerprint(other)

    def _accept_chosen(self, name: str, copy: keras.layers.Layer) -> None:
        shapes = [tuple(w.shape) for w in copy.weights]
        for _, network in self.targets:
            if [tuple(w.shape) for w in network.weights] == shapes:
                self.found.append((network, copy))
                return
        raise InvalidArgumentError(
            f"`copies` must name networks with the weight shapes of a pruned one. '{name}' fits none "
            f"of: {', '.join(n or 'the model' for n, _ in self.targets)}."
        )

    def look(self) -> None:
        """Accept an untrained twin of a pruned network as its copy once its weights have moved."""
        if not self.automatic:
            return
        known = {id(copy) for _, copy in self.found} | {id(n) for _, n in self.targets}
        for target_name, network in self.targets:
            if network is self.model:
                continue
            for name, other in discovery.possible_copies(self.model, network).items():
                if id(other) in known:
                    continue
                now = _fingerprint(other)
                if self._first_seen.setdefault(id(other), now) == now:
                    continue  # a frozen teacher never moves
                self.found.append((network, other))
                known.add(id(other))
                self.say(f"'{name}' is an average of '{target_name}' and gets the same masks")

    def sync(self) -> None:
        self.look()
        for network, copy in self.found:
            copy_masks(network, copy)


class Prune(keras.callbacks.Callback):
    """Prunes one or several networks of the model that is being fitted, along a schedule.

    Works with any `keras.Model`, whatever its `train_step`: the masks are enforced by the weights'
    constraints inside the compiled step. Masks are updated between batches, without retracing. The
    logs get `generator_sparsity` and so on (`sparsity` for `target=None`), so that the progress bar,
    `History`, `CSVLogger` and `TensorBoard` show it; put it before other callbacks that read logs.

    Args:
        schedule: A `Schedule` (TFMOT's are accepted), or a float: a constant sparsity in [0, 1).
        target: Attribute name of the network in the model, a list of names, a `keras.Model`, or None
            for the model itself. With a list, an allocation such as 'global_ranking' spreads one
            total over all of them.
        frequency: Positive int, optimizer steps between mask updates. Defaults to 100 (or to that of
            a TFMOT schedule). The schedule's end step always updates.
        criterion, granularity, allocation, mode, scope: As for `Pruner`.
        optimizer: The optimizer, or its attribute name, whose steps the schedule counts. None for the
            one that trains the (first) target; say it where several have trained it.
        copies: Networks that are weight averages of a target (an EMA generator) and get its masks:
            'auto' finds and announces them, or a name, network or list; None for no copies.
        verbose: 0 for silence, 1 for a line where something was found or done unasked.

    Attributes:
        pruner: The `Pruner`, once the model is known.
        report: The last `MaskReport`.
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
        mode: str = "hard",
        scope: Any = None,
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
        # Unknown names should be found here, not in the middle of `fit`.
        _check_settings(self.settings)
        self.optimizer = optimizer
        self.copies = copies
        self.verbose = verbose
        self.pruner: Pruner | None = None
        self.report: MaskReport | None = None
        self.updates: list[tuple[int, float, float]] = []
        self._pruned_model: keras.Model | None = None
        self._started = False

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
            self.pruner = None
            self._pruned_model = model
        if self.pruner is None and all(is_built(network) for _, network in self._targets):
            self._prepare()
        for store in self._stores():
            store.restored = False

    def on_train_begin(self, logs=None):
        self._clock = _Clock(self.model, self._targets[0][1], self.optimizer)
        self._copies = _Copies(self.model, self._targets, self.copies, self._say)
        self._started = False
        if self.pruner is None:
            unbuilt = [name or self.model.name for name, n in self._targets if not is_built(n)]
            self._say(
                f"{', '.join(repr(name) for name in unbuilt)} is not built yet; "
                "pruning starts after the first batch has built it"
            )

    def on_epoch_begin(self, epoch, logs=None):
        self._clock.begin_epoch()

    def on_train_batch_begin(self, batch, logs=None):
        if not self._started and self.pruner is not None:
            self._start()

    def on_train_batch_end(self, batch, logs=None):
        self._clock.batch_done(batch)
        if self.pruner is None:
            self._prepare_late()
        step = self._clock.step
        due = self.schedule.latest_update_step(self._last_step, step, self.frequency)
        before, self._last_step = self._last_step, step
        for store in self._stores():
            store.step = step
        if due is not None:
            try:
                self._update(due)
            except DivergedError:
                if not getattr(self.model, "_nan_guarded", False):
                    raise
                # The loss was finite still; the guard sees that of the next batch. Due until then.
                self._last_step = before
        self._log(logs)

    def on_epoch_end(self, epoch, logs=None):
        self._project()
        if self.pruner is not None:
            self._measure()  # a guard may have put older masks back
        self._log(logs)

    def on_train_end(self, logs=None):
        if self.pruner is None:
            raise UnbuiltModelError(
                "Nothing was pruned: no batch was run that would have built "
                f"{', '.join(repr(name) for name, _ in self._targets)}. Check that the data is not empty."
            )
        self._project()
        # Past Keras's attribute tracking, which has no use for a function.
        object.__setattr__(self.model, "_step_with_masks", self.model.train_function)
        end = self.schedule.end_step
        if end is not None and self._started and self._last_step < end:
            warnings.warn(
                f"Training ended at step {self._last_step}, before the schedule's end_step {end}: "
                f"sparsity is {self.pruner.sparsity:.4f}, the schedule ends at {self.schedule(end):g}. "
                "Train longer, or choose an earlier `end_step`; another `fit` goes on from here.",
                PruningWarning,
                stacklevel=2,
            )

    # --- What they do ----------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        if self.verbose:
            # On a line of its own, also in the middle of a progress bar.
            print(f"\nPrune: {text}.")

    def _stores(self) -> list[MaskStore]:
        return self._store_list if self.pruner is not None else []

    def _prepare(self) -> None:
        """Make the targets Prunable; a step that was traced before must be traced anew."""
        before = {id(layer) for _, n in self._targets for _, layer in prunable_layers(n)}
        self.pruner = Pruner(*(network for _, network in self._targets), **self.settings)
        self._store_list = list(
            {id(w.layer): w.layer.pruning_masks for w in self.pruner.weights}.values()
        )
        after = {id(layer) for _, n in self._targets for _, layer in prunable_layers(n)}
        # Layers may also have become Prunable by hand, after the step was traced without masks.
        traced_with_masks = getattr(self.model, "_step_with_masks", None)
        if after != before or traced_with_masks is not self.model.train_function:
            self.model.train_function = None
        self._per_network = [
            (f"{name.replace('.', '_')}_sparsity" if name else "sparsity", network)
            for name, network in self._targets
        ]
        if self.target is None and len(self._per_network) > 1:
            self._per_network = [("sparsity", None)]
        self._measure()

    def _prepare_late(self) -> None:
        """The first batch has built the networks; the step is traced once more, with masks."""
        self._prepare()
        self.model.make_train_function(force=True)
        self._start()

    def _start(self) -> None:
        self._started = True
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
        due = self.schedule.latest_update_step(-1, step, self.frequency)
        if due is None or all(self._stamp(due) == store.stamp for store in self._stores()):
            return
        before = self.pruner.sparsity
        self._update(due)
        gradual = self.schedule(due) != self.schedule(self.schedule.begin_step)
        if gradual and self.pruner.sparsity > before:
            warnings.warn(
                f"The optimizer is at step {step} already, past begin_step "
                f"{self.schedule.begin_step}: the masks went from sparsity {before:.4f} to "
                f"{self.pruner.sparsity:.4f} at once. Steps are the optimizer's own count; for a "
                f"gradual start give begin_step={step} or later.",
                PruningWarning,
                stacklevel=2,
            )

    def _stamp(self, due: int) -> int:
        """Return a number that tells this update of this schedule from any other."""
        return zlib.crc32(f"{due} {self.schedule!r} {self.pruner.criterion!r}".encode())

    def _update(self, due: int) -> None:
        self.report = self.pruner.update(**{self.schedule.quantity: self.schedule(due)})
        for store in self._stores():
            store.stamp = self._stamp(due)
        self._mask_slots()
        self._copies.sync()
        self._measure()
        self.updates.append((due, self.report.requested, self.report.achieved))

    def _mask_slots(self, only_averages: bool = False) -> None:
        masks = {id(w.variable): w.mask for w in self.pruner.weights}
        for optimizer in discovery.optimizers(self.model):
            for variable, slot in discovery.slots(optimizer, only_averages):
                if id(variable) in masks:
                    slot.assign(ops.where(masks[id(variable)], slot, 0.0))

    def _project(self) -> None:
        """Mask again all that can change weights without asking the constraint."""
        if self.pruner is None:
            return
        self.pruner.apply()
        self._mask_slots(only_averages=True)
        self._copies.sync()

    def _measure(self) -> None:
        self._values = {}
        for key, network in self._per_network:
            if network is None:
                self._values[key] = self.pruner.sparsity
                continue
            own = {id(v) for v in network.weights}
            masks = [to_numpy(w.mask) for w in self.pruner.weights if id(w.variable) in own]
            kept = sum(int(np.count_nonzero(m)) for m in masks)
            self._values[key] = 1.0 - kept / sum(m.size for m in masks) if masks else 0.0

    def _log(self, logs: dict | None) -> None:
        if logs is not None and self.pruner is not None:
            logs.update(self._values)


def _check_settings(settings: dict[str, Any]) -> None:
    probe = keras.layers.Dense(1)
    probe.build((None, 1))
    Pruner(probe, **{**settings, "scope": None})
