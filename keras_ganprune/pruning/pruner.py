"""The Pruner: scope -> scores -> masks -> a report of requested and achieved sparsity."""

# Annotations are evaluated here, so that `help` lists the names that are valid.

import copy
import functools
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.layers.computed_kernels import check_stored
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import MaskedWeight, check_layer
from keras_ganprune.layers.unmasked_zeros import warn_of_unmasked_zeros
from keras_ganprune.pruning import _update_inputs, _warnings
from keras_ganprune.pruning._optimizer_masks import attach, check_not_compiled_in, track
from keras_ganprune.pruning._remarks import Remarks
from keras_ganprune.pruning.allocation import AllocationLike
from keras_ganprune.pruning.criteria import CriterionLike
from keras_ganprune.pruning.granularity import GranularityLike, Layer
from keras_ganprune.pruning.mask_report import MaskReport
from keras_ganprune.pruning.mask_state import MaskState, sparsity_of_weights
from keras_ganprune.pruning.modes import ModeLike
from keras_ganprune.pruning.rankings import cost_budget
from keras_ganprune.pruning.rankings.choose import choose_all_units
from keras_ganprune.pruning.rankings.make import make_rankings
from keras_ganprune.pruning.rankings.targets import make_targets
from keras_ganprune.pruning.settings import PruningSettings
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.utils import validation
from keras_ganprune.utils.notebook import Block, ShownInNotebooks, TableBlock


class Pruner(ShownInNotebooks):
    """Chooses masks for one or several networks, and applies them.

    For use without callbacks, in a hand-written loop:

        pruner = Pruner(generator)
        ...
        if step % 100 == 0:
            pruner.update(sparsity=schedule(step))

    From then on every step of any Keras optimizer keeps the masks. Make the `Pruner` before a compiled step
    of your own (`tf.function`) runs for the first time: a step that was traced before does not know the
    masks. On JAX, `attach` the optimizer too. (`fit` with the `Prune` callback does both.)

    Args:
        *models: Built Keras models or layers. Their layers in `scope` become Prunable in place. A layer that
            two of them share has one mask and counts once.
        criterion: Scores the weights: a name ('magnitude', 'l1', 'l2', 'gradient', 'taylor',
            'discriminator_saliency', 'batch_norm_scale', 'fpgm', 'random', ...), a config or a `Criterion`.
            Defaults to 'magnitude'.
        granularity: The units that are removed together: 'unstructured', 'channel' (with everything in other
            layers that depends on the channel, so that `shrink` can cut it out), 'layer' (whole residual
            blocks), a pattern such as '2:4' (`NM`), a block such as '4x4' (`Block`), a config or a
            `Granularity`. Defaults to 'unstructured'.
        allocation: How one sparsity is spread over the tensors: 'uniform', 'erk', 'global_ranking', a dict
            of sparsities by layer, a config or an `Allocation`. Defaults to 'uniform'.
        mode: Whether weights may return: 'hard', 'soft', 'soft_shrinkage', 'rigl', 'set', 'splice',
            a config or a `Mode`. Defaults to 'hard'.
        scope: Which layers are pruned: a name, a path with `*`, a class, a function, or a list of them; see
            `keras_ganprune.layers.scope.select`. Defaults to None, all layers.

    Attributes:
        settings: The `PruningSettings`: criterion, granularity, allocation, mode and scope.
        weights: List of `MaskedWeight`.
        ranked: List of `MaskedWeight`, one per ranking: all weights, or the first maker of each group of
            coupled channels.
        groups: List of `Groups`, one per model, for coupled channels and blocks; otherwise empty.
        remarks: List of str, on layers that are not covered, on frozen layers, shapes, scope and criterion.
        remarks_to_print: List of str, the remarks that `Prune` prints when training begins.
        regrown: Dict, id of a variable -> bool array of its weights that the last update brought back.
        updates_made: Int, number of updates.

    Raises:
        InvalidArgumentError: No model is given, or a name is unknown.
        InvalidArgumentError: The settings are not compatible, or `scope` has nothing to prune.
        UnbuiltModelError: A model has no weights yet.
        UnsupportedLayerError: A layer in `scope` cannot be pruned with this granularity.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    >>> report = Pruner(model).update(sparsity=0.5)
    >>> report.kept, report.total
    (10, 20)
    """

    def __init__(
        self,
        *models: keras.layers.Layer,
        criterion: CriterionLike = "magnitude",
        granularity: GranularityLike = "unstructured",
        allocation: AllocationLike = "uniform",
        mode: ModeLike = "hard",
        scope: Any = None,
    ):
        if not models:
            raise InvalidArgumentError("`Pruner` needs at least one model. Received none.")
        self.settings = PruningSettings.of(criterion, granularity, allocation, mode, scope)
        self.criterion = self.settings.criterion
        self.granularity = self.settings.granularity
        self.allocation = self.settings.allocation
        self.mode = self.settings.mode
        self.scope = scope
        self.models = models
        ranked = make_rankings(models, self.settings)
        self.weights = ranked.weights
        self.groups = ranked.groups
        self._rankings: Sequence[Any] = ranked.rankings
        remarks = Remarks(models, self.settings, ranked)
        self.remarks, self.remarks_to_print = remarks.texts, remarks.to_print()
        self.check()
        warn_of_unmasked_zeros(self.weights)
        self._state = MaskState(self.weights, self._rankings, self.mode, self.coupled)
        self.updates_made = 0
        self.traced_steps_are_stale = self._state.prepare_hidden_values() or ranked.has_new_masks

    def __repr__(self) -> str:
        names = ", ".join(model.name for model in self.models)
        tensors = f"{len(self.weights)} tensors"
        if self.coupled:
            kind = "networks with blocks" if self.counted == "blocks" else "groups of channels"
            tensors = f"{len(self._rankings)} {kind} in {tensors}"
        return (
            f"<Pruner of {names}: {self.criterion!r}, {self.granularity!r}, {self.allocation!r}, "
            f"{self.mode!r}, {tensors}, sparsity {self.sparsity:.4f}>"
        )

    def _blocks(self) -> list[Block]:
        cells = [("weight", "kept", "total", "sparsity")]
        for weight in self.weights:
            mask = to_numpy(weight.mask)
            kept = int(np.count_nonzero(mask))
            share = f"{1.0 - kept / mask.size:.4f}"
            cells.append((weight.path, f"{kept:,}", f"{mask.size:,}", share))
        return [repr(self)[1:-1], TableBlock(cells)]

    def __deepcopy__(self, memo: dict[int, Any]) -> "Pruner":
        models = [copy.deepcopy(model, memo) for model in self.models]
        memo[id(self)] = twin = _of_models(models, self._own_settings, self.updates_made)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_models, (list(self.models), self._own_settings, self.updates_made)

    @property
    def _own_settings(self) -> dict[str, Any]:
        names = ("criterion", "granularity", "allocation", "mode", "scope")
        return {name: getattr(self, name) for name in names}

    # --- the masks now ---------------------------------------------------------------------------

    @property
    def coupled(self) -> bool:
        """Whether a unit spans several layers: a channel with all that depends on it, or a block."""
        return self.settings.coupled

    @property
    def counted(self) -> str:
        """What a sparsity is a share of: 'weights' (or units of one size), 'channels' or 'blocks'."""
        if not self.coupled:
            return "weights"
        return "blocks" if isinstance(self.granularity, Layer) else "channels"

    @property
    def ranked(self) -> list[MaskedWeight]:
        """One weight per ranking: all weights, or the first maker of each group of channels."""
        return [ranking.first for ranking in self._rankings]

    @property
    def regrown(self) -> dict[int, np.ndarray]:
        """Bool arrays of the weights that the last update brought back, by the id of the variable."""
        return self._state.regrown

    @property
    def sparsity(self) -> float:
        """Sparsity of the masks now: the pruned share of all weights, or of all coupled channels or blocks.

        With `Channel(of="macs")` and the like, the removed share of this cost. Under `soft`, the sparsity of
        the masks that were chosen last, although they are not held yet.
        """
        quantity = self.settings.cost_quantity
        if quantity is not None:
            masks_now = self._state.masks()
            return cost_budget.removed_share(
                self._rankings, self.groups, self._costs, masks_now, quantity
            )
        if self.coupled:
            return self._state.sparsity_of_units(self._rankings)
        return sparsity_of_weights(self.weights)

    def unit_sparsity(self, network: keras.layers.Layer) -> float:
        """Return the pruned share of a network's coupled channels (or blocks)."""
        check_layer(network)
        variables = {id(w) for w in network.weights}
        return self._state.sparsity_of_units(
            [r for r in self._rankings if id(r.first.variable) in variables]
        )

    @functools.cached_property
    def _costs(self) -> list[Costs]:
        return [Costs(groups) for groups in self.groups]

    @property
    def held(self) -> bool:
        """Whether the masks hold between updates, and cover everything that depends on a pruned channel.

        False under `soft` before the end, and for coupled channels under a mode that brings some back.
        """
        return self._state.held

    def check(self, final: float | None = None) -> None:
        """Check that the allocation can spread a sparsity over the tensors.

        Args:
            final: Sparsity at the end of the schedule. Defaults to None: only what does not depend on it is
                checked.

        Raises:
            InvalidArgumentError: The allocation names unknown layers, or cannot meet `final`.
        """
        _update_inputs.check_final(final)
        self.allocation.check([ranking.tensor for ranking in self._rankings], final)

    # --- updates ---------------------------------------------------------------------------------

    def update(
        self,
        *,
        sparsity: float | Sequence[float] | np.ndarray | None = None,
        threshold: float | Sequence[float] | np.ndarray | None = None,
        gradients: _update_inputs.Gradients | None = None,
        growth: _update_inputs.Gradients | None = None,
        calibration: Any = None,
        final: float | None = None,
        step: int | None = None,
        progress: float = 0.0,
        harden: bool = False,
    ) -> MaskReport:
        """Choose new masks, apply them to the weights and return a report.

        Args:
            sparsity: Fraction in [0, 1) of the units to prune, or a list with one per weight in `ranked`.
                Exactly one of `sparsity` and `threshold` is given.
            threshold: Non-negative float, or a list; units with a lower score are pruned.
            gradients: Arrays in the order of `weights`, or a dict by weight path, for a criterion that needs
                them. Defaults to None.
            growth: The same for a mode that grows by gradient. Defaults to None: `gradients`.
            calibration: Inputs of the model, for a criterion that measures activations: an array, or a list
                or dict of arrays for several inputs; for several models, a list with an entry per model.
                Defaults to None.
            final: Sparsity at the end of the schedule, for allocations that scale with it, and for channels
                by cost, which must not become too coarse to meet it. Defaults to None: `sparsity` itself.
            step: Int, seed of modes that draw at random. Defaults to None: the number of the update.
            progress: Float in [0, 1], the progress of the schedule, for modes that slow down. Defaults to 0.
            harden: Whether a mode that lets weights return holds its masks from now on. Defaults to False.

        Returns:
            The `MaskReport` with requested and achieved sparsity.

        Raises:
            InvalidArgumentError: Not exactly one of `sparsity` and `threshold` is given, or it is out of
                range.
            InvalidArgumentError: `gradients`, `growth` or `calibration` are missing or do not match.
            UnsupportedLayerError: A layer has LoRA enabled, or was quantized.
            DivergedError: A weight or gradient is NaN or infinite. No mask is changed.

        Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
        >>> print(Pruner(model).update(sparsity=0.5))
        sparsity 0.5 requested, sparsity 0.5000 achieved: 10 of 20 weights kept in 1 tensors
        """
        _update_inputs.check(Pruner.update, locals())
        check_stored(self.weights, "pruned again")
        check_not_compiled_in(self.weights)
        sparsity, threshold = (
            v.item() if isinstance(v, np.ndarray) and v.ndim == 0 else v
            for v in (sparsity, threshold)
        )
        if self.settings.cost_quantity is not None:
            return self._update_by_cost(
                sparsity, threshold, gradients, harden, final, progress, calibration
            )
        tensors = [ranking.tensor for ranking in self._rankings]
        scored: list[Any] | None = None
        settings = self.settings
        if self.allocation.needs_scores:
            scored = self._evidence(gradients, calibration)
            scores = [ranking.scores(self.mode.collects, scored) for ranking in self._rankings]
            settings = replace(settings, allocation=self.allocation.with_scores(scores))
        targets = make_targets(
            tensors, settings, sparsity=sparsity, threshold=threshold, final=final
        )
        if scored is None:
            scored = self._evidence(gradients, calibration)
        growth = gradients if growth is None else growth
        grown_by = _update_inputs.match_gradients(self.weights, growth, "growth", self.mode)
        self.updates_made += 1
        seed = (getattr(self.mode, "seed", 0), self.updates_made if step is None else step)
        # All masks are chosen before the first one changes: an error leaves them all as they were.
        units = choose_all_units(
            self._rankings, targets, settings, seed, scored, grown_by, progress
        )
        self._state.begin_update(harden)
        report = self._keep(units, harden or self.mode.enforced, sparsity, threshold, progress)
        if report.quantity == "sparsity" and not self.granularity.pattern:
            text = _warnings.missed_target(report, targets, self._rankings, self.allocation)
            if text is not None:
                warnings.warn(text, PruningWarning, stacklevel=2)
        return report

    def _update_by_cost(
        self,
        sparsity: Any,
        threshold: Any,
        gradients: Any,
        harden: bool,
        final: float | None,
        progress: float,
        calibration: Any,
    ) -> MaskReport:
        """Update the masks so that the cost of each network is the share that a sparsity leaves."""
        quantity = self.settings.cost_quantity
        if threshold is not None:
            raise InvalidArgumentError(
                f"{self.granularity!r} needs a `sparsity`, a share of the {quantity}. "
                f"Received: threshold={threshold}."
            )
        sparsity = validation.validate_sparsity(sparsity)
        scored = self._evidence(gradients, calibration)
        units = cost_budget.choose(
            self._rankings,
            self.groups,
            self._costs,
            [ranking.scores(self.mode.collects, scored) for ranking in self._rankings],
            Budget(**{str(quantity): 1.0 - sparsity}),
            self.allocation,
            getattr(self.granularity, "round_to", None),
            self.mode.regrows,
            None if final is None else 1.0 - final,
        )
        self.updates_made += 1
        self._state.begin_update(harden)
        report = self._keep(units, harden or self.mode.enforced, sparsity, None, progress)
        return replace(report, share=self.sparsity)

    def _evidence(self, gradients: Any, calibration: Any) -> list[Any]:
        """Return what the criterion needs to know of each weight: gradients, measurements, or None."""
        return self.criterion.evidence(
            self.models,
            self.weights,
            _update_inputs.match_gradients(self.weights, gradients, "gradients", self.criterion),
            _update_inputs.match_calibration(self.models, calibration, self.criterion),
        )

    def _keep(
        self,
        units: list[np.ndarray],
        hold: bool,
        sparsity: Any,
        threshold: Any,
        progress: float,
    ) -> MaskReport:
        """Keep these units of each ranking, and prune all others."""
        units = _update_inputs.agree_on_units(
            units, self.weights, self.settings, sparsity, threshold
        )
        masks = self._state.masks_of_units(units)
        newly_pruned, regrown = self._state.replace(masks, hold, self.mode.remaining(progress))
        if self._state.whole:
            for ranking, keep in zip(self._rankings, units, strict=True):
                ranking.settle(keep)
        rows = tuple(ranking.row(masks) for ranking in self._rankings)
        quantity, value = ("sparsity", sparsity) if threshold is None else ("threshold", threshold)
        if isinstance(value, (list, tuple, np.ndarray)):
            total = sum(row.total for row in rows)
            value = sum(v * row.total for v, row in zip(value, rows, strict=True)) / total
        return MaskReport(quantity, float(value), rows, newly_pruned, regrown, self.counted)

    def hold(self) -> None:
        """Hold the masks that were chosen last from now on, and mask all that depends on them.

        Modes such as `soft` need it when training ends; for other modes nothing changes.
        """
        check_not_compiled_in(self.weights)
        self._state.hold()

    def apply(self) -> None:
        """Set all pruned weights to zero again, after something bypassed the optimizer."""
        self._state.apply()

    # --- optimizers ------------------------------------------------------------------------------

    def attach(self, optimizer: Any) -> None:
        """Let an optimizer hold the masks at each of its steps, in a hand-written loop.

        On TensorFlow and PyTorch, Keras's optimizers need no call. On JAX a compiled step only sees changes
        of its arguments, so the masks become variables of the optimizer: call this after the optimizer is
        built, and before its `variables` are read or the step is compiled. (`fit` with the `Prune` callback
        does it.) PyTorch's own optimizers, such as `torch.optim.Adam` in a loop with
        `DistributedDataParallel`, do not apply constraints and need the call:

            pruner = Pruner(model)
            pruner.attach(torch.optim.Adam(model.parameters()))

        Args:
            optimizer: A Keras optimizer, or one of `torch.optim`, that trains pruned weights.

        Raises:
            InvalidArgumentError: `optimizer` is not an optimizer, or trains none of the pruned weights.
        """
        attach(self, optimizer)

    def track(self, optimizer: keras.optimizers.Optimizer) -> bool:
        """On JAX, make the masks variables of a Keras optimizer.

        Args:
            optimizer: A built Keras optimizer.

        Returns:
            Whether any mask was newly added, so that a step traced before must be traced again.
        """
        return track(self.weights, optimizer)


def _of_models(
    models: Sequence[keras.layers.Layer], settings: dict[str, Any], updates_made: int
) -> Pruner:
    """Return the copy of a `Pruner`, for copies of its models. Their masks came with them."""
    pruner = Pruner(*models, **settings)
    pruner.updates_made = updates_made
    return pruner
