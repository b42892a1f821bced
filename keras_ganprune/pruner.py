"""The Pruner: scope -> scores -> masks -> a report of what was asked and what came out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune import allocation as allocations
from keras_ganprune import criteria, granularity, masks
from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.layers import (
    MaskedWeight,
    make_prunable,
    masked_weights,
    prunable_candidates,
)
from keras_ganprune.masking import to_numpy
from keras_ganprune.scope import select

_MODES = ("hard",)


@dataclass(frozen=True)
class MaskRow:
    """One weight after an update."""

    path: str
    shape: tuple[int, ...]
    kept: int
    total: int

    @property
    def sparsity(self) -> float:
        return 1.0 - self.kept / self.total


@dataclass(frozen=True)
class MaskReport:
    """What one update asked for and what came out.

    Attributes:
        quantity: 'sparsity' or 'threshold'.
        requested: The target, in units of `quantity`.
        rows: One `MaskRow` for each weight.
        newly_pruned: Int, weights that this update removed.
    """

    quantity: str
    requested: float
    rows: tuple[MaskRow, ...]
    newly_pruned: int

    @property
    def kept(self) -> int:
        return sum(row.kept for row in self.rows)

    @property
    def total(self) -> int:
        return sum(row.total for row in self.rows)

    @property
    def achieved(self) -> float:
        """Sparsity over all rows together, whatever the quantity asked for."""
        return 1.0 - self.kept / self.total

    def __iter__(self):
        return iter(self.rows)

    def __len__(self):
        return len(self.rows)

    def __str__(self):
        return (
            f"{self.quantity} {self.requested:g} requested, sparsity {self.achieved:.4f} achieved: "
            f"{self.kept:,} of {self.total:,} weights kept in {len(self.rows)} tensors"
        )


def _split_scope(models: Sequence[keras.layers.Layer], scope: Any) -> dict[int, Any]:
    """Return, by the id of each model, the layers of it that are in scope; None for all of them."""
    if scope is None or len(models) == 1:
        return {id(model): scope for model in models}
    found = {id(model): prunable_candidates(model) for model in models}
    everything = [pair for pairs in found.values() for pair in pairs]
    chosen = {id(layer) for _, layer in select(everything, scope)}
    return {
        key: [layer for _, layer in pairs if id(layer) in chosen] for key, pairs in found.items()
    }


def _load_scores(
    weight: MaskedWeight,
    criterion: criteria.Criterion,
    unit: granularity.Granularity,
    gradient: Any,
) -> np.ndarray:
    value = to_numpy(weight.variable)
    if value.dtype.itemsize < 4:
        value = value.astype(np.float32)  # NumPy cannot select in half precision types
    masks.check_finite(value, f"Weight '{weight.path}'")
    if gradient is not None:
        gradient = np.asarray(gradient)
    scores = criterion.score(value, gradient)
    pooled = np.asarray(criterion.unit(unit.pool(scores)))
    if pooled.dtype.kind != "f":
        pooled = pooled.astype(np.float64)  # -inf marks what is pruned already
    # The largest of some values is NaN if any of them is.
    if np.isnan(np.max(pooled)):
        raise InvalidArgumentError(
            f"The scores of a criterion must not be NaN. {criterion!r} gave NaN for '{weight.path}'."
        )
    if np.may_share_memory(pooled, value):
        pooled = pooled.copy()
    return pooled


class Pruner:
    """Decides masks for one or several networks, and applies them.

    For use without callbacks, in a hand-written loop:

        pruner = Pruner(generator)
        ...
        if step % 100 == 0:
            pruner.update(sparsity=schedule(step))

    The masks then hold by themselves, at every later step of any Keras optimizer. Make the `Pruner`
    before a compiled step of your own (`tf.function`) runs for the first time: what was traced
    before knows of no masks. (`fit` with the `Prune` callback sees to that by itself.)

    Args:
        *models: Built Keras models or layers. They become Prunable in place, within `scope`; a layer
            that two of them share has one mask and is counted once.
        criterion: Name, config or `Criterion`: 'magnitude' (the same as 'l1') or 'l2'.
        granularity: Name, config or `Granularity`: 'unstructured'.
        allocation: Name, config or `Allocation`: 'uniform' (every tensor gets the same sparsity) or
            'global_ranking' (one ranking over all tensors).
        mode: 'hard': a pruned weight stays pruned.
        scope: Which layers, see `keras_ganprune.scope.select`; None for all.

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
        mode: str = "hard",
        scope: Any = None,
    ):
        if not models:
            raise InvalidArgumentError("`Pruner` needs at least one model. Received none.")
        self.criterion = criteria.get(criterion)
        self.granularity = _get_granularity(granularity)
        self.allocation = allocations.get(allocation)
        if mode not in _MODES:
            raise InvalidArgumentError(f"`mode` must be one of {_MODES}. Received: {mode!r}.")
        self.mode = mode
        self.scope = scope
        self.models = models
        models_scope = _split_scope(models, scope)
        for model in models:
            # A scope may match in one of several models only.
            inside = models_scope[id(model)]
            if inside is None or inside:
                make_prunable(model, inside)
        self.weights = masked_weights(*models, scope=scope)

    def __repr__(self):
        names = ", ".join(model.name for model in self.models)
        return (
            f"<Pruner of {names}: {self.criterion!r}, {self.granularity!r}, {self.allocation!r}, "
            f"{self.mode}, {len(self.weights)} tensors, sparsity {self.sparsity:.4f}>"
        )

    @property
    def sparsity(self) -> float:
        """Sparsity of the masks now, over all tensors in scope together."""
        total = sum(int(np.prod(w.mask.shape)) for w in self.weights)
        return 1.0 - sum(int(np.count_nonzero(to_numpy(w.mask))) for w in self.weights) / total

    def update(
        self,
        *,
        sparsity: float | None = None,
        threshold: float | None = None,
        gradients: Sequence[Any] | Mapping[str, Any] | None = None,
    ) -> MaskReport:
        """Choose new masks, apply them to the weights and return what came out.

        Args:
            sparsity: Float in [0, 1), share of the units to prune. Exactly one of `sparsity` and
                `threshold` is given.
            threshold: Non-negative float; units with a lower score are pruned.
            gradients: Arrays in the order of `self.weights`, or a dict by weight path, for criteria
                that need them.

        Raises:
            InvalidArgumentError: bad or missing targets or gradients.
            DivergedError: a weight is NaN or infinite; no mask is changed.
        """
        if (sparsity is None) == (threshold is None):
            raise InvalidArgumentError(
                "Give exactly one of `sparsity` and `threshold`. "
                f"Received: sparsity={sparsity}, threshold={threshold}."
            )
        if sparsity is not None:
            sparsity = masks.validate_sparsity(sparsity)
        elif (
            isinstance(threshold, bool)
            or not isinstance(threshold, (int, float, np.number))
            or not 0 <= threshold < np.inf
        ):
            raise InvalidArgumentError(
                f"`threshold` must be a finite, non-negative number. Received: {threshold!r}."
            )
        gradients = self._match_gradients(gradients)
        # A ranking over all tensors needs all scores at once; tensor by tensor takes less memory.
        single = isinstance(self.allocation, allocations.Uniform) or threshold is not None
        groups = [[w] for w in self.weights] if single else [self.weights]
        # All masks are chosen before the first one changes: an error leaves them all as they were.
        chosen: list[np.ndarray] = []
        for group in groups:
            chosen += self._select(group, sparsity, threshold, gradients)
        rows: list[MaskRow] = []
        newly_pruned = 0
        for weight, keep in zip(self.weights, chosen, strict=True):
            newly_pruned += int(np.count_nonzero(to_numpy(weight.mask) & ~keep))
            weight.mask.assign(keep)
            weight.apply()
            rows.append(MaskRow(weight.path, keep.shape, int(np.count_nonzero(keep)), keep.size))
        report = MaskReport(
            "threshold" if sparsity is None else "sparsity",
            float(threshold if sparsity is None else sparsity),
            tuple(rows),
            newly_pruned,
        )
        self._warn_if_missed(report)
        return report

    def apply(self) -> None:
        """Set all pruned weights to zero again, after something bypassed the optimizer."""
        for weight in self.weights:
            weight.apply()

    def _match_gradients(self, gradients: Any) -> dict[int, Any]:
        if gradients is None:
            if self.criterion.needs_gradient:
                raise InvalidArgumentError(
                    f"{self.criterion!r} needs gradients. Pass `gradients=` in the order of "
                    "`pruner.weights`."
                )
            return dict.fromkeys((id(w.variable) for w in self.weights), None)
        if isinstance(gradients, Mapping):
            gradients = [gradients.get(w.path) for w in self.weights]
        gradients = list(gradients)
        shapes = [None if g is None else tuple(np.shape(g)) for g in gradients]
        wanted = [tuple(w.mask.shape) for w in self.weights]
        if shapes != wanted:
            raise InvalidArgumentError(
                f"`gradients` must match the pruned weights, of shapes {wanted}. Received: {shapes}."
            )
        return {id(w.variable): g for w, g in zip(self.weights, gradients, strict=True)}

    def _select(
        self,
        group: Sequence[MaskedWeight],
        sparsity: float | None,
        threshold: float | None,
        gradients: dict[int, Any],
    ) -> list[np.ndarray]:
        scores = []
        for weight in group:
            gradient = gradients[id(weight.variable)]
            unit_scores = _load_scores(weight, self.criterion, self.granularity, gradient)
            pruned = ~to_numpy(weight.mask)
            # Every pooled unit is pruned as a whole, so a unit is gone if all its weights are.
            gone = np.asarray(self.granularity.pool(pruned), dtype=bool)
            np.putmask(unit_scores, gone, -np.inf)
            scores.append(unit_scores)
        if sparsity is not None:
            sizes = [
                int(np.prod(w.mask.shape)) // s.size for w, s in zip(group, scores, strict=True)
            ]
            keeps = self.allocation.select(scores, sizes, sparsity)
        else:
            keeps = []
            for weight, s in zip(group, scores, strict=True):
                keep = masks.threshold_mask(s, threshold)
                if not keep.any():
                    keep = masks.top_k_mask(s, 1)
                    warnings.warn(
                        f"Threshold {threshold:g} is above every score of '{weight.path}', and would "
                        f"empty it; its largest unit ({float(np.max(s)):.3g}) is kept. "
                        "Lower the threshold, or leave the layer out of `scope`.",
                        PruningWarning,
                        stacklevel=3,
                    )
                keeps.append(keep)
        # `hard`: what is pruned stays pruned, even where the target would keep more.
        keeps = [k & (s != -np.inf) for k, s in zip(keeps, scores, strict=True)]
        return [
            self.granularity.expand(k, tuple(w.mask.shape))
            for w, k in zip(group, keeps, strict=True)
        ]

    def _warn_if_missed(self, report: MaskReport) -> None:
        if report.quantity != "sparsity":
            return
        if isinstance(self.allocation, allocations.Uniform):
            wanted = sum(masks.kept_count(row.total, report.requested) for row in report.rows)
        else:
            wanted = masks.kept_count(report.total, report.requested)
        if report.kept == wanted:
            return
        if report.kept < wanted:
            reason = (
                "`hard` masks never return a weight, and the network is sparser than that already"
            )
        else:
            reason = "at least one weight of every tensor is kept"
        warnings.warn(
            f"Sparsity {report.requested:g} was requested, {report.achieved:.4f} achieved "
            f"({report.kept} weights kept, not {wanted}): {reason}.",
            PruningWarning,
            stacklevel=3,
        )


# The argument named `granularity` hides the module inside the constructor.
_get_granularity = granularity.get
