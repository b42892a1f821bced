"""Growing L2 in `fit`: what is to go is chosen first, and decays faster and faster until it is cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_ganprune.backend import tracing
from keras_ganprune.callbacks._growing_choice import entries_to_go
from keras_ganprune.callbacks._penalties import Going, GrowingPenalty
from keras_ganprune.callbacks._regularizer import Regularizer
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.mask_store import companion
from keras_ganprune.pruning import compatibility
from keras_ganprune.pruning.allocation import Allocation
from keras_ganprune.pruning.criteria import Criterion
from keras_ganprune.pruning.granularity import Granularity
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.pruning.structured.replace_networks import Replacement
from keras_ganprune.utils import annotated, validation
from keras_ganprune.utils.validation import validate_sparsity


class GrowingL2(Regularizer):
    """Lets the channels that are to go decay more and more, so that little is lost when they are cut.

        strength(t) = min(ceiling, delta * floor((t - begin_step) / frequency))
        w_g <- w_g * max(0, 1 - rate * strength(t))   for each channel g that is to go

    At `begin_step` the channels are chosen, as `Shrink` chooses them; all other weights train on and take
    over. The decay follows each update of the optimizer and uses its learning `rate`, as the decay of AdamW
    does. An entry of a kernel between two such channels decays for both.

    Afterwards `Shrink` with the same `sparsity` or `budget`, criterion and allocation removes these channels,
    because they are the smallest; it may be in the same `fit`. With another granularity than 'channel',
    single weights or blocks decay, and `Prune` with the same settings removes them. The logs get
    `generator_going_norm` (norm of what is to go, relative to its norm at the choice) and `l2_strength`.

    A resumed run chooses anew. What has decayed has the lowest scores, so the choice is the same unless
    training was interrupted soon after `begin_step`.

    Args:
        target: As for `Prune`: an attribute name of the model, a list, a network, or None for the model
            itself. Defaults to None.
        sparsity: Float in [0, 1), share of the channels (or weights) that are to go. Defaults to None.
        budget: `Budget` such as `Budget(macs=0.25)`, what is to remain. Give this or `sparsity`. Defaults to
            None.
        begin_step: Non-negative int, optimizer step of the choice. Defaults to 0.
        delta: Positive float, growth of the strength. Defaults to 0.5.
        frequency: Positive int, optimizer steps between two rises of the strength. Defaults to 10.
        ceiling: Positive float, the largest strength. A weight is set to zero in one step where the learning
            rate times the strength reaches 1. Defaults to 100.0.
        criterion: How channels are scored, as for `Shrink`. Defaults to 'magnitude'.
        granularity: What is chosen: 'channel', or as for `Prune`. Defaults to 'channel'.
        allocation: How the sparsity is spread, as for `Shrink`. Defaults to 'uniform'.
        keep: Layers that keep all their channels or weights, as for `Shrink`. Defaults to None.
        limits: With a budget, the largest share of channels to remove per layer, as for `Shrink`. Defaults to
            None.
        optimizer: The optimizer, or its attribute name, whose steps are counted. Defaults to None: the
            optimizer that trains the first target.
        verbose: 0 for silence, 1 to print a line when the channels are chosen. Defaults to 1.

    Attributes:
        strength_now: Float, the strength of the last batch.
        logs: Dict, the logs of the last epoch.

    Raises:
        InvalidArgumentError: Not exactly one of `sparsity` and `budget` is given, or one breaks its rule.
        InvalidArgumentError: A number breaks its rule, or the settings are not compatible.
        InvalidArgumentError: In `fit`: `target`, `keep` or `optimizer` matches nothing in the model, or the
            budget cannot be met.
        UnsupportedLayerError: In `fit`: channels reach a layer without a channel rule, or the training step
            has no gradient of a target.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
    ... )
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> growing = GrowingL2(sparsity=0.5, delta=1.0, frequency=2, verbose=0)
    >>> history = model.fit(x, x[:, :1], epochs=20, verbose=0, callbacks=[growing])
    >>> history.history["going_norm"][-1] < 1e-3
    True
    >>> kgp.shrink(model, sparsity=0.5).layers[0].units
    4

    Reference:
        [Neural pruning via growing regularization](https://arxiv.org/abs/2012.09243), §3.2 (GReg-1).
    """

    def __init__(
        self,
        target: str | keras.layers.Layer | Sequence[str | keras.layers.Layer] | None = None,
        *,
        sparsity: float | None = None,
        budget: Budget | None = None,
        begin_step: int = 0,
        delta: float = 0.5,
        frequency: int = 10,
        ceiling: float = 100.0,
        criterion: Literal[
            "magnitude", "l1", "l2", "batch_norm_scale", "geometric_median", "fpgm", "random"
        ]
        | Criterion
        | Mapping[str, float] = "magnitude",
        granularity: Granularity | str | Mapping[str, Any] = "channel",
        allocation: Literal["uniform", "erk", "global_ranking"]
        | Allocation
        | Mapping[Any, float] = "uniform",
        keep: Any = None,
        limits: Mapping[Any, float] | None = None,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        verbose: int | bool = 1,
    ):
        annotated.check(
            GrowingL2.__init__, locals(), "target", "budget", "limits", "optimizer", "verbose"
        )
        super().__init__(target, frequency, optimizer, verbose)
        if (sparsity is None) == (budget is None):
            raise InvalidArgumentError(
                "Give exactly one of `sparsity` and `budget`, the size that `Shrink` or `Prune` will leave. "
                f"Received: sparsity={sparsity}, budget={budget!r}."
            )
        self.sparsity = None if sparsity is None else validate_sparsity(sparsity)
        self.budget = budget
        self.begin_step = validation.non_negative_int(
            begin_step, "begin_step", "in optimizer steps"
        )
        self.delta = validation.positive(delta, "delta")
        self.ceiling = validation.positive(ceiling, "ceiling")
        scopes.check(keep, "keep")
        for rule, limit in (limits or {}).items():
            validation.fraction(limit, f"limits[{rule!r}]")
        settings = compatibility.get(criterion, granularity, allocation, "hard")
        compatibility.check(settings)
        if settings.criterion.needs_gradient:
            raise InvalidArgumentError(
                f"The choice is made between two batches, without gradients. Received: {criterion!r}. Use a "
                "criterion that scores weights alone, such as 'magnitude'."
            )
        self.settings = {
            "criterion": criterion,
            "granularity": granularity,
            "allocation": allocation,
            "keep": keep,
            "limits": limits,
        }
        self._chosen: list[tuple[keras.layers.Layer, GrowingPenalty]] = []
        self._waiting: list[tuple[str, keras.layers.Layer, GrowingPenalty]] = []

    def __repr__(self) -> str:
        amount = self.budget if self.sparsity is None else self.sparsity
        return (
            f"<GrowingL2 {amount} of {self.target or 'the model'!r}, +{self.delta} every {self.frequency} "
            f"steps from {self.begin_step} up to {self.ceiling}>"
        )

    def strength_at(self, step: int) -> float:
        """Return the strength after a number of steps."""
        rises = max(0, step - self.begin_step) // self.frequency
        return min(self.ceiling, self.delta * rises)

    def penalty_of(self, name: str, network: keras.layers.Layer) -> GrowingPenalty:
        """Return the penalty of a network; nothing is chosen yet."""
        for known, penalty in self._chosen:
            if known is network:
                return penalty
        # The choice now is the form of the choice at `begin_step`, and finds errors before training.
        rows = [_going(w, np.zeros_like(flags)) for w, flags in self._entries(network)]
        penalty = GrowingPenalty(rows, [0.0] * len(rows))
        self._waiting.append((name, network, penalty))
        return penalty

    def penalty_after_cut(self, penalty: Any, row: Replacement, name: str) -> GrowingPenalty | None:
        """Return the penalty of what is still to go after a cut, or None if nothing is."""
        old, new, cuts = row
        if any(waiting is old for _, waiting, _ in self._waiting):
            self._waiting = [entry for entry in self._waiting if entry[1] is not old]
            return self.penalty_of(name, new)
        left = penalty.cut({id(cut.old): cut for cut in cuts}, _going)
        self._chosen = [(n, p) for n, p in self._chosen if n is not old]
        if not left.rows:
            self._say(f"what was to go is cut from '{name or new.name}'")
            return None
        self._chosen.append((new, left))
        return left

    def looks(self, step: int) -> None:
        """Choose what is to go, once `begin_step` is reached."""
        if step < self.begin_step or not self._waiting:
            return
        tracing.sync(self._fitted)
        for name, network, penalty in self._waiting:
            for row, (_, flags) in zip(penalty.rows, self._entries(network), strict=True):
                row.flags.assign(flags)
            penalty.norms = [float(np.linalg.norm(row.entries)) for row in penalty.rows]
            self._chosen.append((network, penalty))
            amount = self.budget if self.sparsity is None else f"sparsity {self.sparsity}"
            self._say(
                f"at step {step} the {self._unit} of '{name or network.name}' beyond {amount} begin to decay"
            )
        self._waiting = []

    @property
    def _unit(self) -> str:
        settings = self.settings
        return "channels" if settings["granularity"] == "channel" else "weights"

    def _entries(self, network: keras.layers.Layer) -> list[tuple[keras.Variable, np.ndarray]]:
        return entries_to_go(network, self.sparsity, self.budget, self.settings)

    def _due(self, before: int, step: int) -> bool:
        first, frequency = self.begin_step, self.frequency
        return (step - first) // frequency != (before - first) // frequency

    def _make_penalties(self) -> None:
        self._waiting = []
        super()._make_penalties()

    def _measure(self) -> None:
        super()._measure()
        self.logs["l2_strength"] = self.strength_now


def _going(weight: keras.Variable, flags: np.ndarray) -> Going:
    return Going(weight, companion(weight, flags.astype("float32"), "is_to_go"))
