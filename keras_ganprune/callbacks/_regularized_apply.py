"""The hook of the regularizers: what happens after an optimizer has updated its weights.

The rules are decoupled from the gradients, as the weight decay of AdamW is: the optimizer makes its own
update, then each rule changes the weights that were updated, with the learning rate of that update. So
Adam's normalization does not scale the penalty, and a proximal step gives exact zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from keras_ganprune.backend import tracing
from keras_ganprune.backend.no_gradients import no_gradients
from keras_ganprune.callbacks._penalties import Penalty
from keras_ganprune.callbacks.callback_list import callbacks_beside
from keras_ganprune.layers.mask_store import companion
from keras_ganprune.layers.tensors import tensor
from keras_ganprune.pruning.structured.replace_networks import Replacement
from keras_ganprune.training import discovery

# Attribute of a model: its hook.
_NAME = "_regularized_by"


class Rule(Protocol):
    """What the hook needs of a regularizer."""

    @property
    def penalties(self) -> Sequence[Penalty]:
        """One penalty per network."""
        ...

    def strength_for(self, optimizer: keras.optimizers.Optimizer) -> Any:
        """Return the strength as a scalar variable."""
        ...

    def note(self, variables: Sequence[keras.Variable]) -> None:
        """Take note that the step that is traced changes these variables."""
        ...

    def follow(self, rows: Sequence[Replacement]) -> None:
        """Go on with networks that have replaced others."""
        ...


class Hook:
    """Lets the regularizers of one `fit` work in the training step of a model, until it is removed.

    Args:
        model: The model that is fitted.

    Attributes:
        rules: The regularizers, in order.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.rules: list[Any] = []
        self._undo: list[tuple[Any, str, Any, Any]] = []

    @classmethod
    def of(cls, model: keras.Model) -> Hook | None:
        """Return the hook of a model, or None."""
        return vars(model).get(_NAME)

    @classmethod
    def add(cls, model: keras.Model, rule: Rule) -> Hook:
        """Let a regularizer work, after those that work already."""
        hook = cls.of(model)
        if hook is None:
            hook = cls(model)
            # Past Keras's attribute tracking, which must not track functions.
            object.__setattr__(model, _NAME, hook)
            for optimizer in discovery.optimizers(model):
                hook._replace(optimizer, "apply", hook._regularized(optimizer))
            hook._replace(model, "make_train_function", hook._guarded(model.make_train_function))
        if not any(rule is other for other in hook.rules):
            hook.rules.append(rule)
        return hook

    def discard(self, rule: Rule) -> None:
        """Let a regularizer work no more; the last one takes the hook out of the model."""
        self.rules = [other for other in self.rules if other is not rule]
        if not self.rules:
            self.remove()

    def remove(self) -> None:
        """Take the hook out of the model, which then has its own functions."""
        for owner, name, function, before in self._undo:
            if vars(owner).get(name) is not function:
                continue  # another callback has replaced the function since, and will remove its own
            if before is None:
                object.__delattr__(owner, name)
            else:
                object.__setattr__(owner, name, before)
        self._undo, self.rules = [], []
        self.model.__dict__.pop(_NAME, None)

    def _replace(self, owner: Any, name: str, function: Callable) -> None:
        before = vars(owner).get(name)
        object.__setattr__(owner, name, function)
        self._undo.append((owner, name, function, before))

    def _guarded(self, original: Callable) -> Callable:
        """Return `make_train_function`, which a `fit` without the callbacks calls first.

        An interrupted `fit` never calls `on_train_end`.
        """

        def make_train_function(force=False):
            beside = callbacks_beside()
            if any(rule is other for rule in self.rules for other in beside):
                return original(force)
            self.remove()
            if self.model.train_function is not None:
                tracing.retrace(self.model)
            return original()

        return make_train_function

    def _regularized(self, optimizer: keras.optimizers.Optimizer) -> Callable:
        """Return the `apply` of an optimizer with the rules behind it."""
        original = optimizer.apply

        def apply(grads, trainable_variables=None):
            if not self.rules:
                return original(grads, trainable_variables)
            grads = list(grads)
            if trainable_variables is not None:
                trainable_variables = list(trainable_variables)
            # Before the update, which moves the learning rate of a schedule on. A sum is no alias of the
            # variable, as PyTorch counts in place.
            rate = ops.cast(tensor(optimizer.learning_rate), "float32")
            steps = ops.add(tensor(optimizer.iterations), 0)
            result = original(grads, trainable_variables)
            variables = trainable_variables or discovery.trained_variables(optimizer)
            updated = {id(v): v for g, v in zip(grads, variables, strict=False) if g is not None}
            with no_gradients():
                self._regularize(optimizer, updated, rate, steps)
            return result

        return apply

    def _regularize(self, optimizer: Any, updated: dict[int, Any], rate: Any, steps: Any) -> None:
        """Apply the rules to the weights that were updated, at a learning rate, after a number of steps."""
        if optimizer.gradient_accumulation_steps:  # the weights change in every n-th call only
            moved = ops.greater(tensor(optimizer.iterations), steps)
            rate = ops.multiply(rate, ops.cast(moved, "float32"))
        for rule in self.rules:
            for penalty in rule.penalties:
                present = {key: v for key, v in updated.items() if key in penalty.variables}
                if not present:
                    continue
                amount = ops.multiply(rate, tensor(rule.strength_for(optimizer)))
                for key, value in penalty.shrunk(present, amount).items():
                    _write(optimizer, present[key], value, steps)
                rule.note(list(present.values()))


def follow_cuts(model: keras.Model, rows: Sequence[Replacement]) -> None:
    """Let the regularizers of a running `fit` go on with the networks that have replaced others.

    Args:
        model: The model that is fitted.
        rows: An old network, the new network, and a `Cut` for every weight of the new one.
    """
    hook = Hook.of(model)
    for rule in hook.rules if hook is not None else ():
        rule.follow(rows)


def _write(optimizer: Any, variable: Any, value: Any, steps: Any) -> None:
    """Assign the new value of a weight; the average that the optimizer keeps of it follows."""
    before = tensor(variable)
    value = ops.cast(value, keras.backend.standardize_dtype(before.dtype))
    # The constraint of a masked weight holds the user's own one; `assign` masks.
    constraint = getattr(variable.constraint, "inner", variable.constraint)
    if constraint is not None:
        value = constraint(value)
    average = _average_of(optimizer, variable)
    if average is not None:
        # The optimizer took the average of the weight before this change: average += (1 - m) * change.
        later = ops.cast(ops.not_equal(steps, 0), average.dtype)
        share = ops.subtract(1.0, ops.multiply(later, optimizer.ema_momentum))
        change = ops.cast(ops.subtract(value, before), average.dtype)
        average.assign(ops.add(tensor(average), ops.multiply(share, change)))
    variable.assign(value)


def _average_of(optimizer: Any, variable: keras.Variable) -> keras.Variable | None:
    if not optimizer.use_ema:
        return None
    pairs = discovery.slots(optimizer, only_averages=True)
    return next((average for trained, average in pairs if trained is variable), None)


def strength_variable(weight: keras.Variable) -> keras.Variable:
    """Return a new strength, 0, on the replicas of a weight."""
    return companion(weight, np.zeros((), "float32"), "penalty_strength")
