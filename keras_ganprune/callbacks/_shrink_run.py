"""One `fit` with `Shrink`: when to cut, and what replaces what."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.backend import tracing
from keras_ganprune.callbacks._regularized_apply import follow_cuts
from keras_ganprune.callbacks.calibration_inputs import CalibrationInputs
from keras_ganprune.callbacks.callback_list import callbacks_beside
from keras_ganprune.callbacks.shrink_event import ShrinkEvent, shrink_event
from keras_ganprune.errors import InvalidArgumentError, PruningWarning, UnsupportedLayerError
from keras_ganprune.gan import GANModel
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import is_built, masked_weights, walk
from keras_ganprune.pruning import allocation as allocations
from keras_ganprune.pruning import criteria
from keras_ganprune.pruning._shrink_timed import Run, check_reachable, dense_run
from keras_ganprune.pruning.recalibration import recalibrate_batch_norm
from keras_ganprune.pruning.scaled_kernels import scale_singular_values
from keras_ganprune.pruning.shrink_alike import shrink_alike
from keras_ganprune.pruning.shrink_model import Shrunk, check_choice, shrink_with_cuts
from keras_ganprune.pruning.structured import budget as budgets
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.pruning.structured.groups import Groups, channel_groups
from keras_ganprune.pruning.structured.replace_networks import replace_networks
from keras_ganprune.training import discovery
from keras_ganprune.training.step_clock import Clock
from keras_ganprune.training.weight_averages import Copies

# A name in the model, and the network there.
Target = tuple[str, keras.layers.Layer]


@dataclass(frozen=True)
class CutPlan:
    """What is cut at which step.

    Attributes:
        at: Optimizer steps, rising.
        sparsity: One share of channels per step, or None.
        budget: One `Budget` per step, or None.
        settings: Further arguments of `shrink`: criterion, granularity, allocation, keep, limits.
        recalibrate: Whether a `GANModel` gets new batch statistics after a cut, or the data for that.
        verify: Whether the smaller networks are compared with the old ones.
        refine: 'singular_values' to scale those of the cut kernels, or None.
    """

    at: Sequence[int]
    sparsity: Sequence[float | None]
    budget: Sequence[Budget | None]
    settings: dict[str, Any]
    recalibrate: Any
    verify: bool = True
    refine: str | None = None


class ShrinkRun:
    """The state of a `Shrink` callback during one `fit`.

    Args:
        model: The model that is being fitted.
        targets: The networks to cut.
        plan: What is cut at which step.
        optimizer, copies: As for `Shrink`.
        say: Function that shows a line of text.
        siblings: The runs of all `Shrink` callbacks of this `fit`; this run is added.

    Attributes:
        clock: `Clock` of the optimizer whose steps count.
        targets: The networks, as they are now.
        copies: `Copies`, the weight averages of the targets.
        pending: Steps of the cuts still to be made.
        first_step, last_step: Step before the first batch and after the last one; None before training.
    """

    def __init__(
        self,
        model: keras.Model,
        targets: Sequence[Target],
        plan: CutPlan,
        optimizer: Any,
        copies: Any,
        say: Callable[[str], None],
        siblings: list[ShrinkRun],
    ):
        self.model = model
        self.targets = list(targets)
        self.plan = plan
        self.clock = Clock(model, self.targets[0][1], optimizer)
        self.copies = Copies(model, self.targets, copies, say, "is cut in the same places")
        self.pending = list(plan.at)
        self.first_step: int | None = None
        self.last_step: int | None = None
        self._dense_costs: dict[str, dict[str, float]] = {}
        self._dense_runs: dict[tuple[str, Any, Any], Run] = {}
        self._parameters: dict[str, float] = {}
        self._siblings = siblings
        siblings.append(self)
        self._measure_dense_costs()
        self._try_settings()

    def _try_settings(self) -> None:
        """Choose channels as the first cut will: a name that matches nothing is found before training.

        The cut itself chooses anew, by the weights that it finds.
        """
        for name, network in self.targets:
            if not is_built(network):
                continue
            for number, at in enumerate(self.plan.at):
                if at <= self.clock.step:
                    continue  # an earlier `fit` has made this cut
                budget = self.plan.budget[number]
                sparsity = self.plan.sparsity[number]
                if budget is None and sparsity is None:
                    self._check_masks_will_come(name, network)
                    continue
                check_choice(network, sparsity=sparsity, budget=budget, **self.plan.settings)

    def batch_begins(self) -> None:
        """Note the step at which training begins."""
        if self.last_step is None:
            self.last_step = self.first_step = self.clock.step

    def batch_ended(self, batch: int) -> list[ShrinkEvent]:
        """Make the cuts that are due after a batch; return their events."""
        self._measure_dense_costs()
        self.clock.batch_done(batch)
        step = self.clock.step
        if self._due_cuts(step):
            step = self.clock.read()
        due = self._due_cuts(step)
        self.last_step = step
        events = []
        for number in due:
            self.pending.remove(self.plan.at[number])
            events += self._cut(step, number)
        return events

    def cut_now(self) -> list[ShrinkEvent]:
        """Make the only cut of the plan, outside `fit`; return its events."""
        self.pending.clear()
        if self.copies.automatic:
            self._note_averages()
        return self._cut(self.clock.read(), 0)

    def _note_averages(self) -> None:
        """Find the averages without training, which would show them: by name, or by the masks of `Prune`."""
        for _, network in self.targets:
            known = {id(copy) for _, copy in self.copies.pairs}
            found = dict(discovery.averages_of(self.model, network))
            if masked_weights(network):
                others = discovery.possible_copies(self.model, network)
                found |= {name: other for name, other in others.items() if masked_weights(other)}
            self.copies.pairs += [(network, x) for x in found.values() if id(x) not in known]

    def missed(self) -> list[int]:
        """Return the steps of cuts that this training should have reached, but did not."""
        first = self.clock.step if self.first_step is None else self.first_step
        return [at for at in self.pending if at > first]

    def log(self, logs: dict[str, Any] | None) -> None:
        """Write the number of parameters of each target into the logs."""
        # Counted when the networks change, not in every batch.
        if not self._parameters and all(is_built(network) for _, network in self.targets):
            self._parameters = {
                f"{name.replace('.', '_')}_parameters": float(network.count_params())
                for name, network in self.targets
            }
        if logs is not None:
            logs.update(self._parameters)

    def _due_cuts(self, step: int) -> list[int]:
        """Return the numbers of the cuts that are due at a step."""
        return [i for i, at in enumerate(self.plan.at) if (self.last_step or 0) < at <= step]

    def _cut(self, step: int, number: int) -> list[ShrinkEvent]:
        """Make every target smaller.

        All smaller networks are built, and compared with the old ones, before the first is put in place.
        So an error leaves the model as it is.
        """
        tracing.sync(self.model)
        for run in self._siblings:
            run.copies.look()
            run.copies.look_at_loose()
        self._check_loose_averages()
        results: list[tuple[str, keras.layers.Layer, Shrunk]] = []
        rows = []
        for name, network in self.targets:
            shrunk = shrink_with_cuts(
                network,
                sparsity=self.plan.sparsity[number],
                budget=self._remaining_budget(name, network, number),
                dense=self._dense_run(name, number),
                verify=self.plan.verify,
                inputs=self._calibration(name, network),
                **self.plan.settings,
            )
            results.append((name, network, shrunk))
            rows.append((network, shrunk.model, shrunk.cuts))
            for copy in [copy for original, copy in self.copies.pairs if original is network]:
                keep = self.plan.settings["keep"]
                alike = shrink_alike(network, copy, shrunk, keep, self.plan.verify)
                rows.append((copy, alike.model, alike.cuts))
        replace_networks(self.model, rows)
        if self.plan.refine is not None:
            for _, new, _ in rows:
                scale_singular_values(new)
        for prune in (vars(self.model).get("_pruned_by") or (None, {}))[1]:
            prune.retire([network for _, network, _ in results])
        follow_cuts(self.model, rows)
        replacements = {id(old): new for old, new, _ in rows}
        for run in self._siblings:
            run._follow(replacements)
        self._recalibrate()
        return [shrink_event(step, name, network, shrunk) for name, network, shrunk in results]

    def _calibration(self, name: str, network: keras.layers.Layer) -> Any:
        """Return the inputs on which the criterion measures a network; None if it measures nothing."""
        if not criteria.get(self.plan.settings["criterion"]).needs_calibration:
            return None
        return CalibrationInputs(self.model, [(name, network)], None).read()

    def _check_masks_will_come(self, name: str, network: keras.layers.Layer) -> None:
        """Raise if a cut is to remove what is masked, and nothing masks a network in this `fit`."""
        # A callback of the user may prune too.
        own = ("keras.src.callbacks.", "keras_ganprune.")
        pruned = any(
            hasattr(other, "pruner")
            or isinstance(other, keras.callbacks.LambdaCallback)
            or not type(other).__module__.startswith(own)
            for other in callbacks_beside()
        )
        if not pruned and not any(not to_numpy(w.mask).all() for w in masked_weights(network)):
            raise InvalidArgumentError(
                f"`Shrink` needs to know what to remove. Received: neither `sparsity` nor `budget`, no "
                f"masks in '{name or network.name}', and no `Prune` in `callbacks`. Give `sparsity` or "
                "`budget`, or add `Prune(granularity='channel')` to the callbacks."
            )

    def _recalibrate(self) -> None:
        """Give the cut networks new batch statistics."""
        data = self.plan.recalibrate
        if isinstance(data, (bool, np.bool_)):
            if data and isinstance(self.model, GANModel) and not self.model.conditional:
                recalibrate_batch_norm(self.model)
            elif data and isinstance(self.model, AdversarialModel):
                self._warn_of_old_statistics()
        elif isinstance(self.model, AdversarialModel):
            recalibrate_batch_norm(self.model, data)
        else:
            for _, network in self.targets:
                recalibrate_batch_norm(cast(keras.Model, network), data)

    def _warn_of_old_statistics(self) -> None:
        """Warn if the cut networks keep the batch statistics from before the cut."""
        normalized = [
            name
            for name, network in self.targets
            if any(isinstance(x, keras.layers.BatchNormalization) for _, x in walk(network))
        ]
        if normalized:
            data = "images, labels" if isinstance(self.model, GANModel) else "inputs, targets"
            warnings.warn(
                "`Shrink` needs data to measure the batch statistics of networks that take images or labels. "
                f"Received: recalibrate=True, and BatchNormalization in {', '.join(normalized)}, whose "
                "statistics stay as they were before the cut. Pass the data that `fit` gets, such as "
                f"`recalibrate=({data})`; or `recalibrate=False`, if enough steps follow.",
                PruningWarning,
                stacklevel=2,
            )

    def _check_loose_averages(self) -> None:
        """Refuse to cut a network whose average is kept as variables: its arrays cannot be cut alike."""
        found = next(iter(self.copies.loose.found.items()), None)
        if found is not None:
            raise UnsupportedLayerError(
                f"'{found[0]}' is an average of '{found[1].path}' but no network, so `Shrink` cannot cut it. "
                "Keep the average as a network, made by `keras.models.clone_model`: it is cut in the same "
                "places. Or pass `copies=None`, and make the average anew after the cut."
            )

    def _follow(self, replacements: dict[int, keras.layers.Layer]) -> None:
        """Continue with the new networks, whichever `Shrink` has put them in place."""
        self.targets = [(name, replacements.get(id(n), n)) for name, n in self.targets]
        self._parameters = {}
        self.copies.targets = self.targets
        self.copies.pairs = [
            (replacements.get(id(original), original), replacements.get(id(copy), copy))
            for original, copy in self.copies.pairs
        ]

    def _measure_dense_costs(self) -> None:
        """Note the costs of the networks before any cut: budgets are shares of these.

        For a latency, the dense network is exported here, and measured at each cut, beside the smaller one.
        """
        wanted = [budget for budget in self.plan.budget if budget is not None]
        quantities = {budget.quantity for budget in wanted if not budget.is_measured}
        for name, network in self.targets:
            if not is_built(network):
                continue
            if quantities and name not in self._dense_costs:
                costs = self._costs(network)
                self._dense_costs[name] = {quantity: costs.of(quantity) for quantity in quantities}
            for budget in wanted:
                key = name, budget.runtime, budget.batch_size
                if budget.is_measured and key not in self._dense_runs:
                    groups, settings = self._groups(network), self.plan.settings
                    self._dense_runs[key] = dense_run(groups, budget)
                    check_reachable(
                        groups,
                        budget,
                        self._dense_runs[key],
                        allocations.get(settings["allocation"]).minimum,
                        settings["limits"],
                    )

    def _dense_run(self, name: str, number: int) -> Run | None:
        """Return the dense network as a function, if the budget of a cut is a latency."""
        budget = self.plan.budget[number]
        if budget is None or not budget.is_measured:
            return None
        self._measure_dense_costs()
        return self._dense_runs[name, budget.runtime, budget.batch_size]

    def _groups(self, network: Any) -> Groups:
        return channel_groups(network, keep=self.plan.settings["keep"])

    def _costs(self, network: Any) -> Costs:
        return Costs(self._groups(network))

    def _remaining_budget(
        self, name: str, network: keras.layers.Layer, number: int
    ) -> Budget | None:
        """Return the budget of a cut as a share of the network as it is now.

        A latency stays a share of the dense network, which runs beside the smaller one.
        """
        budget = self.plan.budget[number]
        if budget is None or budget.is_measured:
            return budget
        now = self._costs(network).of(budget.quantity)
        dense = self._dense_costs[name][budget.quantity]
        share = budget.fraction * dense / now
        if share >= 1.0:
            raise InvalidArgumentError(
                f"`budget` must be smaller than the network. '{name}' already has {now / dense:.4f} of its "
                f"{budget.quantity}. Received: {budget!r}. Give a smaller budget, or leave this step out."
            )
        return budgets.get({budget.quantity: share})
