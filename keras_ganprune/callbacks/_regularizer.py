"""The base class of the regularizers: callbacks that shrink weights in the training step of a `fit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ganprune.backend import tracing
from keras_ganprune.callbacks._penalties import Penalty
from keras_ganprune.callbacks._regularized_apply import Hook, strength_variable
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers.traversal import is_built
from keras_ganprune.pruning.structured.replace_networks import Replacement
from keras_ganprune.training import discovery
from keras_ganprune.training.fresh_copies import FreshCopies
from keras_ganprune.training.step_clock import Clock
from keras_ganprune.utils import annotated, terminal, validation
from keras_ganprune.utils.closing import folded

# A number, or a function of the step, such as a `Schedule`.
Strength = float | Callable[[int], float]


def check_strength(strength: Any, name: str = "strength") -> Any:
    """Return a strength: a non-negative float, or a function of the step.

    Raises:
        InvalidArgumentError: It is a negative number.
        ArgumentTypeError: It is neither a number nor a function of one argument.
    """
    if validation.is_number(strength):
        return validation.non_negative(strength, name)
    if not callable(strength) or isinstance(strength, type) or not annotated.takes(strength, 1):
        raise ArgumentTypeError(
            f"`{name}` must be a non-negative number, or a function (step) -> number such as "
            f"`kgp.Linear(0.1, begin_step=0, end_step=1000)`. Received: {strength!r} "
            f"(of type {type(strength).__name__})."
        )
    return strength


class Regularizer(FreshCopies):
    """Base of callbacks that shrink weights after each update of an optimizer, inside the training step.

    A subclass defines `penalty_of` and `strength_at`.

    Args:
        target, scope, optimizer, verbose: As for `Prune`.
        frequency: Positive int, optimizer steps between two looks at the strength.

    Attributes:
        networks: List of (name, network).
        penalties: One `Penalty` per network that is regularized.
        strength_now: Float, the strength in the last batch.
        logs: Dict, name of a log -> value, as of the last epoch.
    """

    # Keras sets both before any hook runs.
    model: keras.Model
    params: dict[str, Any]

    def __init__(self, target: Any, frequency: int, optimizer: Any, verbose: int | bool):
        super().__init__()
        validation.one_of(verbose, "verbose", (0, 1, 2))
        self.target = target
        self.frequency = validation.positive_int(frequency, "frequency", "in optimizer steps")
        self.optimizer = optimizer
        self.verbose = verbose
        self.networks: list[tuple[str, keras.layers.Layer]] = []
        self.penalties: list[Penalty] = []
        self.strength_now = 0.0
        self.logs: dict[str, float] = {}
        self._names: list[str] = []
        self._fitted: Any = None
        self._clock: Clock | None = None
        self._looked_at: int | None = None
        # Ids of the weights that the training step changes, until that was checked after a whole batch.
        self._changed: set[int] = set()
        self._unchecked = True
        self._checks = False
        # By the id of an optimizer.
        self._strengths: dict[int, keras.Variable] = {}

    # --- what a subclass defines -----------------------------------------------------------------

    def penalty_of(self, name: str, network: keras.layers.Layer) -> Penalty | None:
        """Return the penalty of a network, or None if it has none."""
        raise NotImplementedError

    def strength_at(self, step: int) -> float:
        """Return the strength after a number of steps."""
        raise NotImplementedError

    def looks(self, step: int) -> None:
        """Take note of a step, before the strength is set."""

    def penalty_after_cut(self, penalty: Penalty, row: Replacement, name: str) -> Penalty | None:
        """Return the penalty of the network that has replaced another, or None if it has none."""
        return self.penalty_of(name, row[1])

    # --- Keras's hooks ---------------------------------------------------------------------------

    def set_model(self, model: keras.Model) -> None:
        """Find the networks."""
        super().set_model(model)
        # Without the sync of `self.model` on JAX.
        self._fitted = model
        self.networks = discovery.resolve_target(model, self.target)
        if hasattr(model.train_step, "get_concrete_function"):
            raise UnsupportedLayerError(
                f"`{type(model).__name__}.train_step` is decorated with `tf.function`, so what happens in it "
                f"cannot change. Received: {type(self).__name__} among the callbacks. Remove the decorator: "
                "`fit` compiles `train_step`."
            )

    def on_train_begin(self, logs=None):
        """Begin to count steps."""
        self._clock = Clock(self._fitted, self.networks[0][1], self.optimizer)
        self._looked_at = None
        self._changed, self._unchecked, self._checks = set(), True, False
        self._strengths, self.strength_now = {}, 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """Let the step clock know that an epoch begins."""
        self._running.begin_epoch()

    def on_train_batch_begin(self, batch, logs=None):
        """Put the penalties into the training step, before the first batch."""
        self._checks = self._unchecked
        if self._looked_at is None and all(is_built(network) for _, network in self.networks):
            self._start()

    def on_train_batch_end(self, batch, logs=None):
        """Set the strength for the next batch."""
        self._running.batch_done(batch)
        if self._looked_at is None:  # this batch has built the networks
            if all(is_built(network) for _, network in self.networks):
                self._start()
            return
        if self._checks:
            self._check_at_work()
        step = self._running.step
        if self._due(self._looked_at, step):
            self._look(self._running.read())
        if logs is not None:
            logs.update(self.logs)

    def on_epoch_end(self, epoch, logs=None):
        """Measure the networks for the logs."""
        if self._looked_at is None:
            return
        tracing.sync(self._fitted)
        self._measure()
        if logs is not None:
            logs.update(self.logs)

    def on_train_end(self, logs=None):
        """Take the penalties out of the training step."""
        hook = Hook.of(self._fitted)
        if hook is None or not any(rule is self for rule in hook.rules):
            return
        tracing.sync(self._fitted)
        self._set_strength(
            0.0
        )  # a function inside `train_step` that was traced apart keeps the penalties
        hook.discard(self)
        companions = [v for p in self.penalties for _, v in p.companions]
        for optimizer in discovery.optimizers(self._fitted):
            tracing.untrack(optimizer, [*companions, *self._strengths.values()])
        tracing.retrace(self._fitted)

    # --- what the hook calls ---------------------------------------------------------------------

    def strength_for(self, optimizer: keras.optimizers.Optimizer) -> keras.Variable:
        """Return the variable that holds the strength for an optimizer."""
        return self._strengths[id(optimizer)]

    def note(self, variables: Sequence[keras.Variable]) -> None:
        """Take note that the step that is traced changes these variables."""
        self._changed.update(id(v) for v in variables)

    def follow(self, rows: Sequence[Replacement]) -> None:
        """Go on with networks that have replaced others."""
        for row in rows:
            old, new, _ = row
            for number, (name, network) in enumerate(self.networks):
                if network is not old:
                    continue
                self.networks[number] = (name, new)
                if name not in self._names:
                    continue
                place = self._names.index(name)
                penalty = self.penalty_after_cut(self.penalties[place], row, name)
                if penalty is None:
                    del self.penalties[place], self._names[place]
                else:
                    self.penalties[place] = penalty
        self._track()
        self._changed, self._unchecked, self._checks = set(), True, False

    # --- helpers ---------------------------------------------------------------------------------

    @property
    def _running(self) -> Clock:
        if self._clock is None:
            raise InvalidArgumentError(
                f"`{type(self).__name__}` works inside `fit`: `on_train_begin` must be called before other "
                "hooks."
            )
        return self._clock

    def _say(self, text: str) -> None:
        if self.verbose:
            terminal.say("\n" + folded(f"{type(self).__name__}: {text}."))

    def _due(self, before: int, step: int) -> bool:
        """Return whether the strength is set at a step, if it was set at an earlier step before."""
        return step // self.frequency != before // self.frequency

    def _start(self) -> None:
        """Make the penalties, and trace the training step anew, with them."""
        step = self._running.read()
        self._make_penalties()
        for optimizer in discovery.optimizers(self._fitted):
            weight = self.networks[0][1].weights[0]
            self._strengths[id(optimizer)] = strength_variable(weight)
        Hook.add(self._fitted, self)
        self._track()
        self._look(step)
        self._measure()
        tracing.retrace(self._fitted)
        self._fitted.make_train_function()

    def _make_penalties(self) -> None:
        self.penalties, self._names = [], []
        for name, network in self.networks:
            penalty = self.penalty_of(name, network)
            if penalty is not None:
                self.penalties.append(penalty)
                self._names.append(name)

    def _track(self) -> None:
        """On JAX, make the variables that the penalties read part of the optimizers' state."""
        companions = [pair for p in self.penalties for pair in p.companions]
        planned = {key for p in self.penalties for key in p.variables}
        for optimizer in discovery.optimizers(self._fitted):
            trained = {id(v): v for v in discovery.trained_variables(optimizer) if id(v) in planned}
            if not trained:
                continue
            strength = self._strengths[id(optimizer)]
            pairs = [(w, v) for w, v in companions if id(w) in trained]
            tracing.track(optimizer, [(next(iter(trained.values())), strength), *pairs])

    def _look(self, step: int) -> None:
        """Set the strength of a step."""
        self._looked_at = step
        self.looks(step)
        value = check_strength(self.strength_at(step), "the result of `strength`")
        if callable(value):
            raise ArgumentTypeError(
                f"`strength` must return a number at each step. Received: {value!r} at step {step}."
            )
        if value != self.strength_now:
            tracing.sync(self._fitted)
            self._set_strength(value)

    def _set_strength(self, value: float) -> None:
        self.strength_now = value
        for variable in self._strengths.values():
            variable.assign(value)

    def _check_at_work(self) -> None:
        """Raise if the training step has never updated a weight that is to be regularized."""
        for name, penalty in zip(self._names, self.penalties, strict=True):
            if penalty.variables and not self._changed & penalty.variables.keys():
                raise UnsupportedLayerError(
                    f"`{type(self).__name__}` works where an optimizer that is an attribute of the model "
                    f"applies gradients. Received: no gradient of '{name or self._fitted.name}' in the first "
                    "batch. Train the network (`trainable = True`), and update it by "
                    "`optimizer.apply` in `train_step`, outside of a `tf.function` of its own."
                )
        self._unchecked = False

    def _measure(self) -> None:
        self.logs = {}
        for name, penalty in zip(self._names, self.penalties, strict=True):
            prefix = f"{name.replace('.', '_')}_" if name else ""
            for log, value in penalty.measure().items():
                self.logs[prefix + log] = value
