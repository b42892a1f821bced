"""The Pruner: scope -> scores -> masks -> a report of what was asked and what came out."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import distribution, tracing
from keras_ganprune.errors import InvalidArgumentError, PruningWarning, unknown_name
from keras_ganprune.layers import device_topk, mask_ops
from keras_ganprune.layers.mask_store import dense_array, to_numpy
from keras_ganprune.layers.traversal import MaskedWeight, masked_weights
from keras_ganprune.layers.upgrade import make_prunable
from keras_ganprune.pruning import _warnings, compatibility, criteria, granularity, modes
from keras_ganprune.pruning import allocation as allocations
from keras_ganprune.pruning.mask_report import MaskReport
from keras_ganprune.pruning.rankings import cost_budget, top_k
from keras_ganprune.pruning.rankings.blocks import BlockPart, make_block_parts
from keras_ganprune.pruning.rankings.channels import GroupPart, make_group_parts
from keras_ganprune.pruning.rankings.targets import Target, make_targets
from keras_ganprune.pruning.rankings.weights import (
    Part,
    frozen_remark,
    make_part,
    split_scope,
    without_outputs,
)
from keras_ganprune.pruning.regrowth import exchange_values
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.pruning.structured.costs import Costs


class Pruner:
    """Decides masks for one or several networks, and applies them.

    For use without callbacks, in a hand-written loop:

        pruner = Pruner(generator)
        ...
        if step % 100 == 0:
            pruner.update(sparsity=schedule(step))

    The masks then hold by themselves, at every later step of any Keras optimizer. Make the `Pruner`
    before a compiled step of your own (`tf.function`) runs for the first time: what was traced
    before knows of no masks. On JAX, `attach` the optimizer too. (`fit` with the `Prune` callback sees to
    both by itself.)

    Args:
        *models: Built Keras models or layers. They become Prunable in place, within `scope`; a layer
            that two of them share has one mask and is counted once.
        criterion: Name, config or `Criterion`: which weights matter. 'magnitude' ('l1'), 'l2',
            'gradient', 'taylor', 'batch_norm_scale', 'geometric_median', 'random', `Hybrid`, ...
        granularity: Name, config or `Granularity`: what is removed together. 'unstructured',
            'channel' (with all that goes with it in other layers, so that `shrink` can cut it out), '2:4'
            (`NM`), '4x4' (`Block`).
        allocation: Name, config, `Allocation` or a dict of sparsities by layer: how one total is
            spread. 'uniform', 'erk', 'global_ranking'.
        mode: Name, config or `Mode`: whether weights may return. 'hard', 'soft', 'rigl', 'set',
            'splice'.
        scope: Which layers, see `keras_ganprune.scope.select`; None for all.

    Attributes:
        weights: List of `MaskedWeight`.
        ranked: List of `MaskedWeight`, one for each ranking by itself: all of them, or, of coupled
            channels, the first one that makes the channels of a group.
        groups: Of coupled channels, the `Groups` of each model.
        remarks: List of str, what the granularity has to say on these shapes (ragged edges).
        regrown: dict, id of a variable -> bool array of its weights that the last update brought back.
        updates_made: Int, how often the masks were chosen.

    Raises:
        InvalidArgumentError, UnbuiltModelError, UnsupportedLayerError: see the texts.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    >>> report = Pruner(model).update(sparsity=0.5)
    >>> report.kept, report.total
    (10, 20)
    """

    def __init__(
        self,
        *models: keras.layers.Layer,
        criterion: Any = "magnitude",
        granularity: Any = "unstructured",
        allocation: Any = "uniform",
        mode: Any = "hard",
        scope: Any = None,
    ):
        if not models:
            raise InvalidArgumentError("`Pruner` needs at least one model. Received none.")
        self.criterion = criteria.get(criterion)
        self.granularity = _get_granularity(granularity)
        self.allocation = allocations.get(allocation)
        self.mode = modes.get(mode)
        self._settings = compatibility.get(
            self.criterion, self.granularity, self.allocation, self.mode
        )
        compatibility.check(self._settings)
        self.scope = scope
        self.models = models
        self.remarks: list[str] = []
        self._parts: Sequence[Part | GroupPart | BlockPart]
        # A channel of one model that goes with others, or the channels of each kernel by itself.
        self.coupled = getattr(self.granularity, "coupled", False)
        fresh_masks = self._take_groups() if self.coupled else self._take_weights()
        frozen = frozen_remark(self.weights)
        self.remarks += [frozen] if frozen else []
        for part in self._parts:
            self.remarks += part.remarks
        self.check()
        if self.mode.enforced:
            for weight in self.weights:
                weight.layer.pruning_masks.chosen.clear()
        self.regrown: dict[int, np.ndarray] = {}
        # Masks may be there already, of a run that ended while channels could return.
        self._whole = not (self.coupled and self.mode.regrows) or self._masked_whole()
        self.updates_made = 0
        self.traced_steps_are_stale = self._prepare_hidden() or fresh_masks

    def __repr__(self):
        names = ", ".join(model.name for model in self.models)
        return (
            f"<Pruner of {names}: {self.criterion!r}, {self.granularity!r}, {self.allocation!r}, "
            f"{self.mode!r}, {self._many}, sparsity {self.sparsity:.4f}>"
        )

    @property
    def _many(self) -> str:
        if self.coupled:
            kind = "networks with blocks" if self.counted == "blocks" else "groups of channels"
            return f"{len(self._parts)} {kind} in {len(self.weights)} tensors"
        return f"{len(self.weights)} tensors"

    def _take_weights(self) -> bool:
        models_scope = split_scope(self.models, self.scope)
        for model in self.models:
            # A scope may match in one of several models only.
            inside = models_scope[id(model)]
            if inside is None or inside:
                make_prunable(model, inside)
        # Not the masks of scales and biases, which only go with whole channels.
        found = [
            weight
            for weight in masked_weights(*self.models, scope=self.scope)
            if weight.name in weight.layer.pruned_weight_names
        ]
        self.weights, more = without_outputs(found, self.granularity, self._network_of)
        self.remarks += more
        self._parts = [
            make_part(i, weight, self.criterion, self.granularity, self._network_of(weight))
            for i, weight in enumerate(self.weights)
        ]
        return False

    def _take_groups(self) -> bool:
        whole = isinstance(self.granularity, granularity.Layer)
        make = make_block_parts if whole else make_group_parts
        self.weights, self._parts, remarks, fresh, self.groups = make(
            self.models, self.criterion, self.granularity, self.scope
        )
        self.remarks += remarks
        return fresh

    @property
    def ranked(self) -> list[MaskedWeight]:
        if self.coupled:
            return [part.first for part in self._parts]
        return self.weights

    def _network_of(self, weight: MaskedWeight) -> keras.layers.Layer:
        return next(m for m in self.models if any(weight.variable is w for w in m.weights))

    def _prepare_hidden(self) -> bool:
        """Keep what pruned weights were, if the mode wants it; return whether steps must be retraced."""
        stores = {id(w.layer): w.layer.pruning_masks for w in self.weights}.values()
        if self.mode.collects or self.mode.restore == "previous":
            return any([store.keep_hidden(self.mode.collects) for store in stores])
        return any([store.stop_collecting() for store in stores])

    @property
    def sparsity(self) -> float:
        """Sparsity of the masks now, over all tensors in scope together; of coupled channels, their share.

        With `Channel(of="macs")` and the like, the share of these. Under `soft` these are the masks chosen
        last, though they are not held yet.
        """
        if self._share_of != "channels":
            masks_now = [_mask(weight) for weight in self.weights]
            return cost_budget.cut(self._parts, self.groups, self._costs, masks_now, self._share_of)
        if self.coupled:
            return self._sparsity_of_units(self._parts)
        return _sparsity_of(self.weights)

    def unit_sparsity(self, network: keras.layers.Layer) -> float:
        """Return the share of a network's coupled channels (or blocks) that is pruned."""
        own = {id(w) for w in network.weights}
        return self._sparsity_of_units([p for p in self._parts if id(p.first.variable) in own])

    def _sparsity_of_units(self, parts: Sequence[GroupPart]) -> float:
        masks_now = [_mask(weight) for weight in self.weights]
        rows = [part.row(masks_now) for part in parts]
        total = sum(row.units for row in rows)
        return 1.0 - sum(row.kept_units for row in rows) / total if total else 0.0

    @property
    def held(self) -> bool:
        """Whether the masks hold between updates, and all that goes with a channel has one.

        Under `soft` that is not so before the end; nor for coupled channels where a mode brings some back.
        """
        return self._whole and not any(w.layer.pruning_masks.chosen for w in self.weights)

    def check(self, final: float | None = None) -> None:
        """Raise `InvalidArgumentError` if the allocation names unknown layers, or cannot meet a total."""
        self.allocation.check([p.tensor for p in self._parts], final)

    def update(
        self,
        *,
        sparsity: float | Sequence[float] | None = None,
        threshold: float | Sequence[float] | None = None,
        gradients: Sequence[Any] | Mapping[str, Any] | None = None,
        growth: Sequence[Any] | Mapping[str, Any] | None = None,
        final: float | None = None,
        step: int | None = None,
        progress: float = 0.0,
        harden: bool = False,
    ) -> MaskReport:
        """Choose new masks, apply them to the weights and return what came out.

        Args:
            sparsity: Float in [0, 1), share of the units to prune, or a list of one for each of
                `self.ranked`. Exactly one of `sparsity` and `threshold` is given.
            threshold: Non-negative float, or a list; units with a lower score are pruned.
            gradients: Arrays in the order of `self.weights`, or a dict by weight path, for criteria
                that need them.
            growth: The same for modes that grow by gradient; None to use `gradients`.
            final: Float, the sparsity that the schedule ends with, for allocations that scale with
                it; None for `sparsity` itself.
            step: Int, for modes that draw at random; None to count updates.
            progress: Float in [0, 1], how far the schedule has come, for modes that slow down.
            harden: Whether a mode that lets weights return holds its masks from now on.

        Raises:
            InvalidArgumentError: bad or missing targets or gradients.
            DivergedError: a weight is NaN or infinite; no mask is changed.
        """
        self._check_not_compiled_in()
        sparsity, threshold = (
            v.item() if isinstance(v, np.ndarray) and v.ndim == 0 else v
            for v in (sparsity, threshold)
        )
        if self._share_of != "channels":
            return self._update_by_cost(sparsity, threshold, gradients, harden)
        targets = make_targets(
            [p.tensor for p in self._parts],
            self._settings,
            sparsity=sparsity,
            threshold=threshold,
            final=final,
        )
        scored = self._match(gradients, "gradients", self.criterion, self.criterion.needs_gradient)
        grown_by = self._match(
            gradients if growth is None else growth, "growth", self.mode, self.mode.needs_gradient
        )
        self.updates_made += 1
        seed = (getattr(self.mode, "seed", 0), self.updates_made if step is None else step)
        # All masks are chosen before the first one changes: an error leaves them all as they were.
        chosen: list[Any] = [None] * len(self._parts)
        for number, target in enumerate(targets):
            random = np.random.default_rng((*seed, number)).random
            keeps = self._choose(target, scored, grown_by, progress, random)
            for index, keep in zip(target.members, keeps, strict=True):
                chosen[index] = keep
        self._whole = harden or not (self.coupled and self.mode.regrows)
        report = self._keep(chosen, harden or self.mode.enforced, sparsity, threshold)
        self._warn_if_missed(report, targets)
        return report

    def _update_by_cost(
        self, sparsity: Any, threshold: Any, gradients: Any, harden: bool
    ) -> MaskReport:
        """Update the masks so that the network costs what a sparsity leaves."""
        quantity = self.granularity.of
        if threshold is not None:
            raise InvalidArgumentError(
                f"{self.granularity!r} needs a `sparsity`, a share of the {quantity}. "
                f"Received: threshold={threshold}."
            )
        sparsity = mask_ops.validate_sparsity(sparsity)
        scored = self._match(gradients, "gradients", self.criterion, self.criterion.needs_gradient)
        chosen = cost_budget.choose(
            self._parts,
            self.groups,
            self._costs,
            [part.scores(self.mode.collects, scored) for part in self._parts],
            Budget(**{quantity: 1.0 - sparsity}),
            self.allocation,
            self.granularity.round_to,
            self.mode.regrows,
        )
        self.updates_made += 1
        self._whole = harden or not self.mode.regrows
        report = self._keep(chosen, harden or self.mode.enforced, sparsity, None)
        return replace(report, share=self.sparsity)

    @functools.cached_property
    def _costs(self) -> list[Costs]:
        return [Costs(groups) for groups in self.groups]

    def hold(self) -> None:
        """From now on, hold the masks that a mode such as `soft` has chosen last, with all they go with."""
        self._check_not_compiled_in()
        if not self._whole:
            self._complete()
        for weight in self.weights:
            keep = weight.layer.pruning_masks.chosen.pop(weight.name, None)
            if keep is not None:
                weight.mask.assign(keep)
                weight.apply()

    def _masked_whole(self) -> bool:
        masks_now = [_mask(weight) for weight in self.weights]
        return not any(
            np.any(masks_now[index] & ~keep)
            for part in self._parts
            for index, keep in part.masks(part.alive_in(masks_now)).items()
        )

    def _complete(self) -> None:
        """Mask everything that goes with the channels that are pruned, not only what makes them."""
        self._whole = True
        masks_now = [_mask(weight) for weight in self.weights]
        for part in self._parts:
            units = part.alive_in(masks_now)
            for index, keep in part.masks(units).items():
                masks_now[index] = masks_now[index] & keep
            part.settle(units)
        self._apply_masks(masks_now, hold=True)

    def apply(self) -> None:
        """Set all pruned weights to zero again, after something bypassed the optimizer."""
        for weight in self.weights:
            weight.apply()

    def attach(self, optimizer: Any) -> None:
        """Let an optimizer hold the masks at each of its steps, in a hand-written loop.

        Keras's optimizers do that by themselves on TensorFlow and PyTorch. On JAX a compiled step sees
        nothing change but its arguments, so the masks become variables of the optimizer: call this after
        the optimizer is built, and before its `variables` are read or the step is compiled. (`fit` with
        the `Prune` callback sees to it by itself.) PyTorch's own optimizers, such as
        `torch.optim.Adam` in a loop with `DistributedDataParallel`, know of no constraints and need it:

            pruner = Pruner(model)
            pruner.attach(torch.optim.Adam(model.parameters()))

        Args:
            optimizer: A Keras optimizer, or one of `torch.optim` that trains pruned weights.

        Raises:
            InvalidArgumentError: it is no optimizer, or trains none of the pruned weights.
        """
        if isinstance(optimizer, keras.optimizers.Optimizer):
            if keras.backend.backend() == "jax" and not self._trained_by(optimizer):
                raise InvalidArgumentError(
                    "`optimizer` must be built, and train weights that are pruned. Received: "
                    f"'{optimizer.name}', which trains none of them. Call "
                    "`optimizer.build(model.trainable_variables)` first."
                )
            self.track(optimizer)
            return
        if keras.backend.backend() != "torch" or not hasattr(optimizer, "register_step_post_hook"):
            raise InvalidArgumentError(
                "`optimizer` must be a Keras optimizer or, on the PyTorch backend, one of `torch.optim`. "
                f"Received: {optimizer!r} (of type {type(optimizer).__name__})."
            )
        importlib.import_module("keras_ganprune.backend._optimizers_torch").attach(optimizer, self)

    def track(self, optimizer: keras.optimizers.Optimizer) -> bool:
        """On JAX, make masks variables of the Keras optimizer; return whether it had any of them not."""
        own = self._trained_by(optimizer)
        companions = [(weight.variable, weight.mask) for weight in own]
        for weight in own:
            weight.variable.constraint.compiled_in = False
            hidden = weight.layer.pruning_masks.hidden.get(weight.name)
            if hidden is not None:
                companions.append((weight.variable, hidden))
        return tracing.track(optimizer, companions)

    def _trained_by(self, optimizer: keras.optimizers.Optimizer) -> list[MaskedWeight]:
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        trained = {id(v) for v in tracing.trained_variables(inner)}
        return [weight for weight in self.weights if id(weight.variable) in trained]

    def _check_not_compiled_in(self) -> None:
        for weight in self.weights:
            if weight.variable.constraint.compiled_in:
                raise tracing.not_tracked(weight.variable)

    # --- gradients -------------------------------------------------------------------------------

    def _match(self, gradients: Any, name: str, owner: Any, needed: bool) -> list[Any]:
        if not needed:
            return [None] * len(self.weights)
        if gradients is None:
            raise InvalidArgumentError(
                f"{owner!r} needs gradients. Pass `{name}=` in the order of `pruner.weights`."
            )
        if isinstance(gradients, Mapping):
            paths = [w.path for w in self.weights]
            unknown = [path for path in gradients if path not in paths]
            if unknown:
                raise InvalidArgumentError(unknown_name(f"weight in `{name}`:", unknown[0], paths))
            gradients = [gradients.get(path) for path in paths]
        gradients = [None if g is None else dense_array(g) for g in gradients]
        shapes = [None if g is None else tuple(g.shape) for g in gradients]
        wanted = [tuple(weight.mask.shape) for weight in self.weights]
        if shapes != wanted:
            raise InvalidArgumentError(
                f"`{name}` must match the pruned weights, of shapes {wanted}. Received: {shapes}."
            )
        for weight, gradient in zip(self.weights, gradients, strict=True):
            mask_ops.check_finite(gradient, f"The gradient of '{weight.path}'")
        return gradients

    # --- scores and masks ------------------------------------------------------------------------

    def _choose(
        self, target: Target, gradients: list, grown_by: list, progress: float, random: Any
    ) -> list[np.ndarray]:
        """Return, for each member of a ranking, its units that stay; of a pattern, its mask."""
        parts = [self._parts[i] for i in target.members]
        if len(parts) == 1 and self._selects_on_device(parts[0], target):
            keep = device_topk.largest(
                parts[0].weight.variable, parts[0].weight.mask, target.budget
            )
            return [keep.reshape(-1)]
        collects = self.mode.collects
        scores = _join([self.allocation.normalize(p.scores(collects, gradients)) for p in parts])
        if target.pattern is not None:
            return [self._pattern(parts[0], scores, target.pattern)]
        kept = _join([p.alive() for p in parts])
        growth = None
        if self.mode.needs_gradient:
            growth = _join([self.allocation.normalize(p.growth(grown_by)) for p in parts])
        sizes = None
        if target.in_weights:
            sizes = np.concatenate(
                [
                    np.full(p.tensor.units, p.tensor.unit_size) if p.sizes is None else p.sizes
                    for p in parts
                ]
            )
        edges = np.cumsum([p.tensor.units for p in parts])[:-1].tolist()
        floors = [self.allocation.floor(p.tensor.units) for p in parts]
        best_score = float(np.max(scores))
        choice = modes.Choice(
            scores=scores,
            kept=kept,
            best=lambda s, budget: top_k.best(s, budget, sizes, edges, floors),
            top=lambda s, budget: top_k.best(s, budget, sizes),
            budget=target.budget,
            threshold=target.threshold,
            size_of=lambda k: int(np.count_nonzero(k) if sizes is None else sizes[k].sum()),
            growth=growth,
            progress=progress,
            draw=random,
        )
        keep = self.mode.choose(choice)
        if target.threshold is not None and np.count_nonzero(keep) < floors[0]:
            left = int(np.count_nonzero(keep))
            _warn(
                _warnings.emptied(
                    parts[0].tensor.path, target.threshold, best_score, left, floors[0]
                )
            )
            keep = choice.top(np.where(keep, np.inf, scores), floors[0])
        if not self.coupled:
            return np.split(keep, edges)
        step = getattr(self.granularity, "round_to", None)
        return [
            top_k.rounded(
                units, part_scores, step, None if self.mode.regrows else part.alive(), floor
            )
            for part, units, part_scores, floor in zip(
                parts, np.split(keep, edges), np.split(scores, edges), floors, strict=True
            )
        ]

    def _selects_on_device(self, part: Any, target: Target) -> bool:
        """Return whether the plain case is at hand, and the weight so large that it should stay there."""
        plain = (
            self.criterion == criteria.Magnitude()
            and self.granularity == granularity.Unstructured()
            and type(self.mode) is modes.Hard
        )
        return plain and target.budget is not None and device_topk.worth_it(part.weight.variable)

    def _pattern(self, part: Part, scores: np.ndarray, sparsity: float) -> np.ndarray:
        scores = scores.reshape(part.shape)
        if self.mode.regrows:
            return part.granularity.pattern_mask(scores, sparsity)
        mask = to_numpy(part.weight.mask)
        scores = np.where(mask, scores, -np.inf)
        return part.granularity.pattern_mask(scores, sparsity) & mask

    # --- what changes ----------------------------------------------------------------------------

    def _keep(
        self, chosen: list[np.ndarray], hold: bool, sparsity: Any, threshold: Any
    ) -> MaskReport:
        """Keep these units of each part, and nothing else."""
        chosen = self._agreed(chosen, sparsity, threshold)
        found: dict[int, np.ndarray] = {}
        for part, units in zip(self._parts, chosen, strict=True):
            # A pattern has made whole masks.
            if self.granularity.pattern:
                made = {part.index: units}
            else:
                made = part.masks(units, self._whole)
            for index, keep in made.items():
                found[index] = found[index] & keep if index in found else keep
        masks_now = [found[i] for i in range(len(self.weights))]
        if not self.mode.regrows:
            # A unit may have been pruned in part, under another granularity.
            masks_now = [
                keep & to_numpy(weight.mask)
                for keep, weight in zip(masks_now, self.weights, strict=True)
            ]
        newly_pruned, regrown = self._apply_masks(masks_now, hold)
        for part, units in zip(self._parts, chosen, strict=True):
            if self._whole:
                part.settle(units)
        rows = tuple(part.row(masks_now) for part in self._parts)
        total = sum(row.total for row in rows)
        value = sparsity if threshold is None else threshold
        if isinstance(value, (list, tuple, np.ndarray)):
            value = sum(v * row.total for v, row in zip(value, rows, strict=True)) / total
        quantity = "sparsity" if threshold is None else "threshold"
        return MaskReport(quantity, float(value), rows, newly_pruned, regrown, self.counted)

    def _agreed(self, chosen: list[np.ndarray], sparsity: Any, threshold: Any) -> list[np.ndarray]:
        """Return the first worker's choice where several processes train the networks, else this one.

        Weights that should be equal on all of them may differ by a rounding; masks may not.
        """
        like = self.weights[0].variable
        if distribution.count(like) == 1:
            return chosen
        targets = {"sparsity": sparsity, "threshold": threshold}
        asked = {k: float(f"{v:.4g}") for k, v in targets.items() if isinstance(v, (int, float))}
        families = ("criterion", "granularity", "allocation", "mode")
        settings = {name: getattr(self, name) for name in families}
        settings["tensors"] = [w.mask.shape for w in self.weights]
        distribution.check_same(
            settings | asked,
            like,
            "All workers must make the same updates of their masks.",
            "Make the same `Pruner` on each, and call `update` with the same arguments.",
        )
        return distribution.broadcast_masks(chosen, like)

    def _apply_masks(self, masks_now: list[np.ndarray], hold: bool) -> tuple[int, int]:
        """Give every weight its mask; return how many weights were pruned, and how many returned."""
        newly_pruned = regrown = 0
        self.regrown = {}
        for weight, keep in zip(self.weights, masks_now, strict=True):
            old = _mask(weight)
            pruned, grown = old & ~keep, keep & ~old
            newly_pruned += int(np.count_nonzero(pruned))
            regrown += int(np.count_nonzero(grown))
            if grown.any():
                self.regrown[id(weight.variable)] = grown
            exchange_values(weight, self.mode, pruned, grown)
            if hold:
                weight.layer.pruning_masks.chosen.pop(weight.name, None)
                weight.mask.assign(keep)
                weight.apply()
                if grown.any():
                    # The user's own constraint must hold for what came back, too.
                    variable = weight.variable
                    variable.assign(variable.constraint(variable))
            else:
                weight.layer.pruning_masks.chosen[weight.name] = keep
                weight.mask.assign(np.ones(keep.shape, dtype=bool))
                weight.variable.assign(np.where(keep, to_numpy(weight.variable), 0))
        return newly_pruned, regrown

    @property
    def _share_of(self) -> str:
        """What the sparsity of coupled channels is a share of."""
        coupled = isinstance(self.granularity, granularity.Channel)
        return self.granularity.of if coupled else "channels"

    @property
    def counted(self) -> str:
        """What a sparsity is a share of: 'weights' (or units of one size), 'channels' or 'blocks'."""
        if not self.coupled:
            return "weights"
        return "blocks" if isinstance(self.granularity, granularity.Layer) else "channels"

    def _unit_name(self, target: Target) -> str:
        if self.coupled:
            return self.counted
        single = all(self._parts[i].tensor.unit_size == 1 for i in target.members)
        return "weights" if single or target.in_weights else "units"

    def _warn_if_missed(self, report: MaskReport, targets: list[Target]) -> None:
        if report.quantity != "sparsity" or self.granularity.pattern:
            return
        rows = report.rows
        for target in targets:
            members = [rows[i] for i in target.members]
            kept = sum(r.kept if target.in_weights else r.kept_units for r in members)
            # Whole units can come as near to a number of weights as the largest of them allows.
            slack = (getattr(self.granularity, "round_to", None) or 0) * len(members)
            if target.in_weights:
                slack = max(self._parts[i].largest_unit for i in target.members)
            if abs(kept - target.wanted) <= slack:
                continue
            where = f", of {members[0].path}" if len(targets) > 1 else ""
            found = f"{kept} {self._unit_name(target)} kept, not {target.wanted}{where}"
            _warn(_warnings.total(report, found, kept < target.wanted, self.allocation))
            return


def _warn(text: str) -> None:
    warnings.warn(text, PruningWarning, stacklevel=4)


def sparsity_of(*networks: keras.layers.Layer) -> float:
    """Return the sparsity of some networks' masks together, a shared one counted once."""
    return _sparsity_of(masked_weights(*networks))


def _sparsity_of(weights: Sequence[MaskedWeight]) -> float:
    found = [_mask(weight) for weight in weights]
    total = sum(mask.size for mask in found)
    kept = sum(int(np.count_nonzero(mask)) for mask in found)
    return 1.0 - kept / total if total else 0.0


def _mask(weight: MaskedWeight) -> np.ndarray:
    # Under a mode that does not hold its masks: the last one chosen.
    chosen = weight.layer.pruning_masks.chosen.get(weight.name)
    return to_numpy(weight.mask) if chosen is None else chosen


def _join(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


# The argument named `granularity` hides the module inside the constructor.
_get_granularity = granularity.get
