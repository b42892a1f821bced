"""Smaller networks inside `fit`: add `Shrink` to the callbacks of a GAN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_ganprune.callbacks._cut_backup import check_not_cut
from keras_ganprune.callbacks._shrink_run import CutPlan, ShrinkRun
from keras_ganprune.callbacks.callback_list import callbacks_beside
from keras_ganprune.callbacks.shrink_event import ShrinkEvent
from keras_ganprune.errors import ArgumentTypeError, DataError, InvalidArgumentError
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers import scope as scopes
from keras_ganprune.pruning import compatibility
from keras_ganprune.pruning.allocation import Allocation
from keras_ganprune.pruning.criteria import ChannelCriterionName, Criterion
from keras_ganprune.pruning.granularity import Channel
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.training import discovery
from keras_ganprune.training.fresh_copies import FreshCopies
from keras_ganprune.utils import annotated, terminal, validation
from keras_ganprune.utils.closing import folded
from keras_ganprune.utils.notebook import Block, ShownInNotebooks
from keras_ganprune.utils.validation import validate_sparsity


class Shrink(ShownInNotebooks, FreshCopies):
    """Cuts channels out of networks during `fit`; training continues with the smaller networks.

    At a step of your choice, a smaller network takes the place of the old one: in the attributes of the
    model, in the optimizers (their state is cut like the weights) and in weight averages. The training
    step is traced again for the next batch, and then costs what a step of the smaller network costs.
    Other references to the old network stay with the old one. A `Prune` ends when its network is cut.

    After a cut, `BackupAndRestore` cannot resume an interrupted run from a model of the old size: it is
    refused. Place a `ModelCheckpoint` of the whole model behind `Shrink`, and continue with its last file.

    Args:
        at: Positive int, or rising list of ints: optimizer steps of the first target at which to cut. None
            for `cut`, which cuts between two calls of `fit`.
        target: Attribute name of a network in the model, or a list of names. For `GANModel`:
            'generator', 'discriminator' or both. Defaults to 'generator'.
        sparsity: Float in [0, 1), share of the present channels to remove at each step, or a list with
            one share per step. Defaults to None.
        budget: `Budget` such as `Budget(macs=0.25)`, or a list with one per step: what remains of the
            network, relative to its size when training begins. A latency is measured at the cut; the dense
            network is exported when training begins. Defaults to None. With neither `sparsity` nor `budget`,
            the channels that `Prune(granularity="channel")` has masked are removed.
        criterion: How channels are scored, as for `shrink`. Defaults to 'magnitude'.
        granularity: 'channel' or a `Channel`, as for `shrink`. Defaults to 'channel'.
        allocation: How the sparsity is spread over groups, as for `shrink`. Defaults to 'uniform'.
        keep: Layers that keep all their channels, as for `shrink`. Defaults to None.
        limits: Largest share of channels to remove per layer, as for `shrink`. Defaults to None.
        recalibrate: Whether a `GANModel` without labels gets new batch statistics after a cut
            (`recalibrate_batch_norm`). Or the data for that: what `fit` gets for a `GANModel` or an
            `ImageToImageGAN`; the inputs of the target for any other model. A GAN that needs the data and
            does not get it warns. Defaults to True.
        refine: 'singular_values' takes the square root of the singular values of the cut kernels, also of
            the averages (`scale_singular_values`). The outputs change at the cut. Defaults to None: the
            kernels stay as they are.
        optimizer: The optimizer whose steps count, or its attribute name. None finds the optimizer of
            the first target. Defaults to None.
        copies: Weight averages of a target, which are cut like it: 'auto' finds them; or a name, a
            network or a list; None for no averages. Defaults to 'auto'.
        verify: Whether each smaller network and average is compared with the old one on random inputs, as
            by `shrink`, before it takes its place. Defaults to True.
        verbose: 0 or 1; 1 prints a line per cut. Defaults to 1.

    Attributes:
        events: List of `ShrinkEvent`, one per cut network.

    Raises:
        InvalidArgumentError: `at` is not a positive int or a rising list of them.
        InvalidArgumentError: Both `sparsity` and `budget` are given, one is out of range, or a list does
            not have one entry per step.
        InvalidArgumentError: `target` is None or the model itself, or does not exist.
        InvalidArgumentError: The criterion, granularity and allocation are not compatible.
        InvalidArgumentError: `BackupAndRestore` is about to restore a network that was cut.
        InvalidArgumentError: At a cut: nothing can be removed, or the budget cannot be met.
        UnsupportedLayerError: At a cut: channels reach a layer without a channel rule.
        DifferentOutputsError: At a cut: `verify` is True, and a smaller network or average does not give
            the outputs of the old one. Nothing is replaced.

    Example:
    >>> Shrink(at=1000, target="generator", budget=Budget(macs=0.25))
    <Shrink 'generator' at [1000]: Budget(macs=0.25)>
    """

    # Keras sets both before any hook runs.
    model: keras.Model
    params: dict[str, Any]

    def __init__(
        self,
        at: int | Sequence[int] | None,
        target: str | keras.layers.Layer | Sequence[str | keras.layers.Layer] = "generator",
        *,
        sparsity: float | Sequence[float] | None = None,
        budget: Budget | Sequence[Budget] | None = None,
        criterion: ChannelCriterionName | Criterion | Mapping[str, float] = "magnitude",
        granularity: Literal["channel"] | Channel = "channel",
        allocation: Literal["uniform", "erk", "owl", "isomorphic", "global_ranking"]
        | Allocation
        | Mapping[Any, float] = "uniform",
        keep: Any = None,
        limits: Mapping[Any, float] | None = None,
        recalibrate: Any = True,
        refine: Literal["singular_values"] | None = None,
        optimizer: keras.optimizers.Optimizer | str | None = None,
        copies: Literal["auto"] | str | Sequence[str] | keras.layers.Layer | None = "auto",
        verify: bool = True,
        verbose: int | bool = 1,
    ):
        annotated.check(Shrink.__init__, locals(), "limits", "optimizer")
        annotated.check(Shrink.__init__, locals(), "copies", "verify", "verbose")
        validation.one_of(verbose, "verbose", (0, 1, 2))
        _check_recalibrate(recalibrate)
        validation.one_of(refine, "refine", (None, "singular_values"))
        scopes.check(keep, "keep")
        for rule, limit in (limits or {}).items():
            validation.fraction(limit, f"limits[{rule!r}]")
        super().__init__()
        # One cut, which `cut` makes, has no step.
        self.at = [] if at is None else _steps(at)
        if sparsity is not None and budget is not None:
            raise InvalidArgumentError(
                "Give one of `sparsity` and `budget`, or neither to remove what `Prune` has masked. "
                f"Received: sparsity={sparsity}, budget={budget!r}."
            )
        self.sparsity = self._per_step("sparsity", sparsity)
        self.budget = self._per_step("budget", budget)
        for value in self.sparsity:
            if value is not None:
                validate_sparsity(value)
        for value in self.budget:
            if value is not None and not isinstance(value, Budget):
                raise InvalidArgumentError(
                    "`budget` must be a `Budget` such as Budget(macs=0.25), or a list of them. "
                    f"Received: {value!r}."
                )
        compatibility.check(compatibility.get(criterion, granularity, allocation, "hard"))
        if target is None:
            raise InvalidArgumentError(
                "`target` must name a network inside the model: `fit` cannot replace the model that it "
                "runs. Received: None. To shrink the model itself, fit it, then call `shrink(model)`, "
                "compile the result and fit again."
            )
        annotated.check(Shrink.__init__, locals(), "target")
        self.target = target
        self.settings = {
            "criterion": criterion,
            "granularity": granularity,
            "allocation": allocation,
            "keep": keep,
            "limits": limits,
        }
        self.recalibrate = recalibrate
        self.refine = refine
        self.verify = verify
        self.optimizer = optimizer
        self.copies = copies
        self.verbose = verbose
        self.events: list[ShrinkEvent] = []
        self._run: ShrinkRun | None = None

    def __repr__(self):
        amounts = [s for s in (*self.sparsity, *self.budget) if s is not None]
        return f"<Shrink {self.target!r} at {self.at}: {', '.join(map(str, amounts)) or 'what is masked'}>"

    def _blocks(self) -> list[Block]:
        return [repr(self)[1:-1], *(str(event) for event in self.events)]

    def _per_step(self, name: str, value: Any) -> list[Any]:
        """Return one value per step of `at`."""
        if not isinstance(value, (list, tuple)):
            return [value] * max(1, len(self.at))
        if len(value) != len(self.at):
            raise InvalidArgumentError(
                f"`{name}` as a list must have one entry for each of the {len(self.at)} steps of `at`. "
                f"Received: {len(value)} entries."
            )
        return list(value)

    def cut(self, model: keras.Model) -> list[ShrinkEvent]:
        """Cut now, between two calls of `fit`. The next `fit` trains the smaller networks.

        Args:
            model: The model that has the target.

        Returns: One `ShrinkEvent` per network. They are added to `events`.

        Raises:
            InvalidArgumentError: `at` has several steps, or as for the class.

        Example:
        >>> latent, images = keras.Input((4,)), keras.Input((2,))
        >>> dense = keras.layers.Dense
        >>> generator = keras.Model(latent, dense(2)(dense(8, "relu")(latent)))
        >>> gan = kgp.GANModel(generator, keras.Model(images, dense(1)(images)), 4, value_range=None)
        >>> gan.compile()
        >>> event, = kgp.Shrink(None, sparsity=0.5, verbose=0).cut(gan)
        >>> event.channels
        (8, 4)
        """
        validation.keras_model(model)
        if len(self.at) > 1:
            raise InvalidArgumentError(
                f"`cut` makes one cut. Received: `Shrink` with at={self.at}. Write at=None."
            )
        targets = discovery.resolve_target(model, self.target)
        self._check_targets(model, targets)
        run = ShrinkRun(model, targets, self._plan([0]), self.optimizer, self.copies, self._say, [])
        events = run.cut_now()
        for event in events:
            self.events.append(event)
            self._say(str(event))
        return events

    # --- Keras's hooks ---------------------------------------------------------------------------

    def set_model(self, model: keras.Model) -> None:
        """Refuse a backup of networks that were cut, before Keras reads it."""
        super().set_model(model)
        check_not_cut(discovery.resolve_target(model, self.target), callbacks_beside())

    def on_train_begin(self, logs=None):
        """Find the networks, and check that they can be replaced."""
        if not self.at:
            raise InvalidArgumentError(
                "In `fit`, `Shrink` needs the step `at` which to cut. Received: at=None. Give a step, or "
                "call `cut(model)` instead of passing the callback to `fit`."
            )
        targets = discovery.resolve_target(self.model, self.target)
        self._check_targets(self.model, targets)
        siblings = vars(self.model).get("_shrunk_by")
        if siblings is None or siblings[0] is not self.params:  # those of an earlier `fit`
            siblings = (self.params, [])
        plan = self._plan(self.at)
        self._run = ShrinkRun(
            self.model, targets, plan, self.optimizer, self.copies, self._say, siblings[1]
        )
        # Around Keras's attribute tracking, which is for layers and variables.
        object.__setattr__(self.model, "_shrunk_by", siblings)

    def on_epoch_begin(self, epoch, logs=None):
        """Let the step clock know that an epoch begins."""
        self._running.clock.begin_epoch()

    def on_train_batch_begin(self, batch, logs=None):
        """Note the step at which training begins."""
        self._running.batch_begins()

    def on_train_batch_end(self, batch, logs=None):
        """Make the cuts that are due."""
        for event in self._running.batch_ended(batch):
            self.events.append(event)
            self._say(str(event))
        self._running.log(logs)

    def on_epoch_end(self, epoch, logs=None):
        """Log the number of parameters."""
        self._running.log(logs)

    def on_train_end(self, logs=None):
        """Report cuts that were not reached."""
        vars(self.model).pop("_shrunk_by", None)
        missed = self._running.missed()
        if missed:
            step = self._running.last_step
            self._say(f"training ended at step {step}, before the cuts at {missed}")

    # --- helpers ---------------------------------------------------------------------------------

    @property
    def _running(self) -> ShrinkRun:
        if self._run is None:
            raise InvalidArgumentError(
                "`Shrink` works inside `fit`: `on_train_begin` must be called before other hooks."
            )
        return self._run

    def _plan(self, at: Sequence[int]) -> CutPlan:
        settings = self.settings, self.recalibrate, self.verify, self.refine
        return CutPlan(at, self.sparsity, self.budget, *settings)

    def _check_targets(
        self, model: keras.Model, targets: Sequence[tuple[str, keras.layers.Layer]]
    ) -> None:
        for name, network in targets:
            if network is model:
                raise InvalidArgumentError(
                    f"`target` must be a network inside the model, not the model itself ('{name}'). "
                    "After `fit`, call `shrink(model)` instead."
                )
        average = getattr(model, "ema_generator", None)
        cuts_generator = any(n is getattr(model, "generator", None) for _, n in targets)
        if not self.copies and isinstance(model, AdversarialModel) and average and cuts_generator:
            raise InvalidArgumentError(
                f"The averaged generator of a `{type(model).__name__}` follows the generator, so "
                f"it must be cut in the same way. Received: copies={self.copies!r}. Leave `copies` at 'auto'."
            )

    def _say(self, text: str) -> None:
        if self.verbose:
            terminal.say("\n" + folded(f"Shrink: {text}."))


def _check_recalibrate(value: Any) -> None:
    """Raise `ArgumentTypeError` unless a value is a bool or may be data."""
    if isinstance(value, (bool, np.bool_)):
        return
    leaves: list[Any] = keras.tree.flatten(value)  # pyright: ignore[reportAssignmentType]
    streams = not isinstance(value, (str, bytes, type, keras.layers.Layer)) and (
        hasattr(value, "__iter__") or hasattr(value, "__getitem__")
    )
    nested = isinstance(value, (list, tuple, Mapping))
    if not streams or (nested and not all(len(getattr(x, "shape", ())) for x in leaves or [None])):
        raise ArgumentTypeError(
            "`recalibrate` must be True, False or data for `recalibrate_batch_norm`. Received: "
            f"{value!r} (of type {type(value).__name__})."
        )
    for array in leaves:
        if isinstance(array, np.ndarray) and not validation.samples(array, "recalibrate").size:
            raise DataError(f"`recalibrate` must have samples. Received: shape {array.shape}.")


def _steps(at: Any) -> list[int]:
    """Return the steps as a rising list of positive ints."""
    steps = list(at) if isinstance(at, (list, tuple)) else [at]
    valid = steps and all(validation.is_int(step) and step >= 1 for step in steps)
    if not valid or sorted(set(steps)) != steps:
        raise InvalidArgumentError(
            f"`at` must be a positive int, or a rising list of them, in optimizer steps. Received: {at!r}."
        )
    return [int(step) for step in steps]
