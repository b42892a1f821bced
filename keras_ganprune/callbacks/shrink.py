"""Really smaller networks inside `fit`: add `Shrink` to the callbacks of a GAN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.gan import GANModel
from keras_ganprune.layers.mask_ops import validate_sparsity
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.traversal import is_built
from keras_ganprune.pruning import compatibility
from keras_ganprune.pruning.recalibration import recalibrate_batch_norm
from keras_ganprune.pruning.shrink_model import Shrunk, shrink_with_cuts
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.pruning.structured.cuts import Cut
from keras_ganprune.pruning.structured.groups import channel_groups
from keras_ganprune.pruning.structured.rebuild import Builder, assign
from keras_ganprune.pruning.structured.replace_networks import replace_networks
from keras_ganprune.training import discovery
from keras_ganprune.training.step_clock import Clock
from keras_ganprune.training.weight_averages import Copies


@dataclass(frozen=True)
class ShrinkEvent:
    """One network that was made smaller.

    Attributes:
        step: Optimizer step.
        name: Of the network in the model.
        channels, parameters, macs: Pairs (before, after). MACs for one sample; None where a size of an
            image is not known.
        groups: Rows (path of the first layer that makes the channels, before, after).
    """

    step: int
    name: str
    channels: tuple[int, int]
    parameters: tuple[int, int]
    macs: tuple[int, int] | None
    groups: tuple[tuple[str, int, int], ...] = ()

    def __str__(self) -> str:
        text = (
            f"step {self.step}: '{self.name}' has {self.channels[1]:,} of {self.channels[0]:,} channels "
            f"left, {self.parameters[1]:,} of {self.parameters[0]:,} parameters"
        )
        if self.macs is not None:
            text += f", {self.macs[1] / self.macs[0]:.1%} of the MACs"
        return text


class Shrink(keras.callbacks.Callback):
    """Cuts channels out of networks of the model that is being fitted, which trains on with smaller ones.

    At a step it puts a smaller network in the place of the old one: the attributes of the model, the
    optimizers with their state (cut like the weights) and hand-kept averages. The next batch traces the
    step once more; from then on it costs what a step of the smaller network costs. References to the old
    network that are kept elsewhere stay with the old one. A `Prune` of a network ends when that is cut.

    A run that is interrupted after a cut cannot be resumed by `BackupAndRestore` from a model of the old
    size: save the model (`gan.save`), and go on with that.

    Args:
        at: Int or list of ints, optimizer steps of the first target at which to cut.
        target: Attribute name of a network in the model, or a list of names. For `GANModel`
            'generator' (default), 'discriminator' or both.
        sparsity: Share of the channels to remove at each step, of those that there are then; a float, or a
            list with one for each step.
        budget: `Budget`, such as `Budget(macs=0.25)`, or a list: what is to be left, of the network as it
            is when training begins. With neither, it removes what `Prune(granularity="channel")` has
            masked.
        criterion, granularity, allocation, keep, limits: As for `shrink`.
        recalibrate: Whether the generator of a `GANModel` gets new batch statistics after a cut.
        optimizer: The optimizer, or its attribute name, whose steps count; None to find it.
        copies: As for `Prune`: averages of a target, which are cut like it.
        verbose: 0 for silence, 1 for a line for each cut.

    Attributes:
        events: List of `ShrinkEvent`.

    Raises:
        InvalidArgumentError, UnsupportedLayerError: see the texts.

    Example:
    >>> callback = Shrink(at=1000, target="generator", budget=Budget(macs=0.25))
    """

    def __init__(
        self,
        at: int | Sequence[int],
        target: Any = "generator",
        *,
        sparsity: float | Sequence[float] | None = None,
        budget: Budget | Sequence[Budget] | None = None,
        criterion: Any = "magnitude",
        granularity: Any = "channel",
        allocation: Any = "uniform",
        keep: Any = None,
        limits: Any = None,
        recalibrate: bool = True,
        optimizer: Any = None,
        copies: Any = "auto",
        verbose: int = 1,
    ):
        super().__init__()
        self.at = _steps(at)
        if sparsity is not None and budget is not None:
            raise InvalidArgumentError(
                "Give one of `sparsity` and `budget`, or neither to remove what `Prune` has masked. "
                f"Received: sparsity={sparsity}, budget={budget!r}."
            )
        self.sparsity = self._each("sparsity", sparsity)
        self.budget = self._each("budget", budget)
        for value in self.sparsity:
            if value is not None:
                validate_sparsity(value)
        for value in self.budget:
            if value is not None and not isinstance(value, Budget):
                raise InvalidArgumentError(
                    "`budget` must be a `Budget` or a list of them, such as Budget(macs=0.25). "
                    f"Received: {value!r}."
                )
        compatibility.check(compatibility.get(criterion, granularity, allocation, "hard"))
        if target is None:
            raise InvalidArgumentError(
                "`target` must name a network inside the model: the model that `fit` runs cannot be "
                "another one when it ends. Fit, `shrink(model)`, compile and fit again."
            )
        self.target = target
        self.settings = {
            "criterion": criterion,
            "granularity": granularity,
            "allocation": allocation,
            "keep": keep,
            "limits": limits,
        }
        self.recalibrate = recalibrate
        self.optimizer = optimizer
        self.copies = copies
        self.verbose = verbose
        self.events: list[ShrinkEvent] = []

    def __repr__(self):
        what = [s for s in (*self.sparsity, *self.budget) if s is not None] or ["what is masked"]
        return f"<Shrink {self.target!r} at {self.at}: {', '.join(map(str, what))}>"

    def _each(self, name: str, value: Any) -> list[Any]:
        """Return one value for each step."""
        if not isinstance(value, (list, tuple)):
            return [value] * len(self.at)
        if len(value) != len(self.at):
            raise InvalidArgumentError(
                f"`{name}` as a list must have one entry for each of the {len(self.at)} steps of `at`. "
                f"Received: {len(value)}."
            )
        return list(value)

    # --- Keras's hooks ---------------------------------------------------------------------------

    def on_train_begin(self, logs=None):
        self._targets = discovery.resolve_target(self.model, self.target)
        for name, network in self._targets:
            if network is self.model:
                raise InvalidArgumentError(
                    f"`target` must be a network inside the model, not the model itself ('{name}')."
                )
        average = getattr(self.model, "ema_generator", None)
        cuts_generator = any(n is getattr(self.model, "generator", None) for _, n in self._targets)
        if not self.copies and isinstance(self.model, GANModel) and average and cuts_generator:
            raise InvalidArgumentError(
                "The averaged generator of a `GANModel` has to be cut like the generator, whose steps it "
                f"follows. Received: copies={self.copies!r}. Leave `copies` at 'auto'."
            )
        self._clock = Clock(self.model, self._targets[0][1], self.optimizer)
        self._copies = Copies(
            self.model, self._targets, self.copies, self._say, "is cut in the same places"
        )
        self._dense: dict[str, dict[str, float]] = {}
        self._last_step: int | None = None
        self._late = list(self.at)
        others = vars(self.model).get("_shrunk_by")
        if others is None or others[0] is not self.params:
            others = (self.params, [])
            # Past Keras's attribute tracking, which has no use for it.
            object.__setattr__(self.model, "_shrunk_by", others)
        others[1].append(self)
        self._weigh()
        self._parameters: dict[str, float] = {}

    def on_epoch_begin(self, epoch, logs=None):
        self._clock.begin_epoch()

    def on_train_batch_begin(self, batch, logs=None):
        if self._last_step is None:
            self._last_step = self._begun = self._clock.step

    def on_train_batch_end(self, batch, logs=None):
        self._weigh()
        self._clock.batch_done(batch)
        step = self._clock.step
        if self._due(step):
            step = self._clock.read()
        due = self._due(step)
        self._last_step = step
        for number in due:
            self._late.remove(self.at[number])
            self._cut(step, number)
        self._log(logs)

    def _due(self, step: int) -> list[int]:
        """Return the numbers of the cuts that are to be made at a step."""
        return [i for i, at in enumerate(self.at) if (self._last_step or 0) < at <= step]

    def on_epoch_end(self, epoch, logs=None):
        self._log(logs)

    def on_train_end(self, logs=None):
        vars(self.model).pop("_shrunk_by", None)
        late = [at for at in self._late if at > self._begun]
        if late:
            self._say(f"training ended at step {self._last_step}, before the cuts at {late}")

    # --- What they do ----------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        if self.verbose:
            print(f"\nShrink: {text}.")

    def _log(self, logs: dict | None) -> None:
        # Counted when the networks change, not at every batch.
        if not self._parameters and all(is_built(network) for _, network in self._targets):
            self._parameters = {
                f"{name.replace('.', '_')}_parameters": float(network.count_params())
                for name, network in self._targets
            }
        if logs is not None:
            logs.update(self._parameters)

    def _cut(self, step: int, number: int) -> None:
        """Make every target smaller. All is built before the first one is replaced."""
        shrinks = vars(self.model)["_shrunk_by"][1]
        for other in shrinks:
            other._copies.look()
        done: list[tuple[str, keras.layers.Layer, Shrunk]] = []
        rows = []
        for name, network in self._targets:
            shrunk = shrink_with_cuts(
                network,
                sparsity=self.sparsity[number],
                budget=self._budget(name, network, number),
                **self.settings,
            )
            done.append((name, network, shrunk))
            rows.append((network, shrunk.model, shrunk.cuts))
            rows += [
                (copy, *_cut_copy(network, copy, shrunk))
                for own, copy in self._copies.found
                if own is network
            ]
        for callback in (vars(self.model).get("_pruned_by") or (None, {}))[1]:
            callback.retire([network for _, network, _ in done])
        replace_networks(self.model, rows)
        new_of = {id(old): new for old, new, _ in rows}
        for other in shrinks:
            other._follow(new_of)
        if self.recalibrate and isinstance(self.model, GANModel) and not self.model.conditional:
            recalibrate_batch_norm(self.model)
        for name, network, shrunk in done:
            event = _event(step, name, network, shrunk)
            self.events.append(event)
            self._say(str(event))

    def _follow(self, new_of: dict[int, keras.layers.Layer]) -> None:
        """Go on with the networks that are there now, whichever callback has put them there."""
        self._targets = [(name, new_of.get(id(n), n)) for name, n in self._targets]
        self._parameters = {}
        self._copies.targets = self._targets
        self._copies.found = [
            (new_of.get(id(own), own), new_of.get(id(copy), copy))
            for own, copy in self._copies.found
        ]

    def _weigh(self) -> None:
        """Note what the networks cost before any cut, of what budgets are shares of."""
        quantities = {budget.quantity for budget in self.budget if budget is not None}
        for name, network in self._targets:
            if quantities and name not in self._dense and is_built(network):
                costs = Costs(channel_groups(network, keep=self.settings["keep"]))
                self._dense[name] = {quantity: costs.of(quantity) for quantity in quantities}

    def _budget(self, name: str, network: keras.layers.Layer, number: int) -> Budget | None:
        """Return the budget as a share of the network as it is now."""
        budget = self.budget[number]
        if budget is None:
            return None
        costs = Costs(channel_groups(network, keep=self.settings["keep"]))
        now = costs.of(budget.quantity)
        dense = self._dense[name][budget.quantity]
        share = budget.fraction * dense / now
        if share >= 1.0:
            raise InvalidArgumentError(
                f"'{name}' has {now / dense:.4f} of its {budget.quantity} already, less than the "
                f"{budget.fraction:g} that {budget!r} asks for. Ask for less, or leave this step out."
            )
        return Budget(**{budget.quantity: share})


def _steps(at: Any) -> list[int]:
    steps = list(at) if isinstance(at, (list, tuple)) else [at]
    good = steps and all(
        isinstance(s, (int, np.integer)) and not isinstance(s, bool) and s >= 1 for s in steps
    )
    if not good or sorted(set(steps)) != steps:
        raise InvalidArgumentError(
            f"`at` must be a positive int, or a rising list of them, in optimizer steps. Received: {at!r}."
        )
    return [int(s) for s in steps]


def _cut_copy(
    network: keras.layers.Layer, copy: keras.layers.Layer, shrunk: Shrunk
) -> tuple[keras.Model, list[Cut]]:
    """Return a smaller network with the values of a copy, and what its weights were in that."""
    places = {id(own): other for own, other in zip(network.weights, copy.weights, strict=True)}
    small, cuts = Builder(shrunk.groups, shrunk.keeps, shrunk.bypassed).build()
    assign(cuts, {id(cut.old): to_numpy(places[id(cut.old)]) for cut in cuts})
    small.trainable = copy.trainable
    return small, [Cut(places[id(cut.old)], cut.new, cut.index) for cut in cuts]


def _event(step: int, name: str, network: keras.layers.Layer, shrunk: Shrunk) -> ShrinkEvent:
    # Of a block that is left out nothing stays, though its groups keep a unit each.
    built = {id(cut.old) for cut in shrunk.cuts}
    counts = [
        int(np.count_nonzero(keep))
        if any(id(s.weight.variable) in built for s in group.slices)
        else 0
        for group, keep in zip(shrunk.groups, shrunk.keeps, strict=True)
    ]
    macs = None
    try:
        costs = Costs(shrunk.groups)
        left = Costs(channel_groups(shrunk.model)) if shrunk.bypassed else None
        macs = (int(costs.macs()), int(left.macs() if left else costs.macs(shrunk.keeps)))
    except (InvalidArgumentError, UnsupportedLayerError):
        pass  # images of unknown size
    return ShrinkEvent(
        step,
        name,
        (shrunk.groups.size, sum(counts)),
        (network.count_params(), shrunk.model.count_params()),
        macs,
        tuple(
            (group.name, group.size, count)
            for group, count in zip(shrunk.groups, counts, strict=True)
        ),
    )
