"""Lets optimizers train narrower weights in the middle of training, with the cut state.

The optimizers stay the same objects. New objects would break every reference to them:
`gan.generator_optimizer`, the schedule of a learning-rate callback, a variable of the user.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.backend import tracing
from keras_ganprune.errors import PruningWarning, UnsupportedLayerError
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.pruning.structured.cuts import Cut, take
from keras_ganprune.training import discovery

# An old network and the new one.
Pair = tuple[keras.layers.Layer, keras.layers.Layer]


def rebuild_optimizers(model: keras.Model, cuts: dict[int, Cut], pairs: Sequence[Pair]) -> None:
    """Let every optimizer that trains an old variable train the new one.

    Args:
        model: The model that has the optimizers as attributes.
        cuts: The cut of each old variable, by its id.
        pairs: The old and the new networks; old variables without a cut are no longer trained.

    Raises:
        UnsupportedLayerError: An optimizer keeps state in a way that is not known. Then none is changed.

    Warns:
        PruningWarning: A slot was reset, since its shape does not tell how to cut it.
    """
    change = _Change(cuts, pairs)
    changed: list[_State] = []
    reset: list[str] = []
    for optimizer in discovery.optimizers(model, unwrap=False):
        states = [_State.of(inner) for inner in _with_inner(optimizer)]
        # In Keras 3.8 a loss-scaling optimizer does not list what it trains.
        trained = next((state.trained for state in states if state.trained), [])
        if not any(change.concerns(v) for v in trained):
            continue
        try:
            unknown = [path for state in states for path in state.unknown()]
            if unknown:
                raise ValueError(f"its variables {', '.join(unknown[:3])} are in no known place")
            changed += states
            for state in states:
                state.unbuild()
            _build(optimizer, [change.new_of(trained[i]) for i in change.order(trained)])
            reset += [text for state in states for text in state.carry_over(change)]
        except Exception as error:
            for state in changed:
                state.restore()
            raise UnsupportedLayerError(
                f"{type(optimizer).__name__} '{optimizer.name}' cannot be given the smaller weights in the "
                f"middle of training ({type(error).__name__}: {error}). Its slots must be lists in the "
                "order of the trained variables, made in `build`, as in Keras's own optimizers. Nothing "
                "was changed."
            ) from error
    if reset:
        warnings.warn(
            f"Some state of the optimizers was reset, since its shape does not tell how to cut it: "
            f"{', '.join(reset[:5])}{' and others' if len(reset) > 5 else ''}.",
            PruningWarning,
            stacklevel=4,
        )


def _with_inner(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """Return an optimizer and its inner ones (of a loss-scaling optimizer, of a `MultiOptimizer`)."""
    inner = [getattr(optimizer, "inner_optimizer", None)]
    inner += getattr(optimizer, "_inner_optimizers", None) or []
    return [optimizer, *(part for i in inner if i is not None for part in _with_inner(i))]


def _build(optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]) -> None:
    """Build an optimizer on the replicas of its variables."""
    strategy = getattr(variables[0].value, "distribute_strategy", None) if variables else None
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        optimizer.build(variables)


# --- which variables change --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Change:
    """The variables that change; the arguments of `rebuild_optimizers` explain the two fields."""

    cuts: dict[int, Cut]
    pairs: Sequence[Pair]

    def new_of(self, variable: keras.Variable) -> keras.Variable:
        """Return the variable that is trained instead of a variable."""
        cut = self.cuts.get(id(variable))
        return variable if cut is None else cut.new

    def concerns(self, variable: keras.Variable) -> bool:
        """Return whether a variable is cut or belongs to an old network."""
        return id(variable) in self.cuts or id(variable) in self._old_ids()

    def order(self, trained: list[keras.Variable]) -> list[int]:
        """Return the positions of the trained variables that stay or are replaced, in their new order.

        The variables of a network are in the order of its weights, if they were so before: Keras uses
        that order when it writes averages into weights, and when it reads slots from a file.
        """
        old_ids = self._old_ids()
        order = [i for i, v in enumerate(trained) if id(v) in self.cuts or id(v) not in old_ids]
        for old, new in self.pairs:
            place = {id(w): n for n, w in enumerate(new.weights)}
            spots = [n for n, i in enumerate(order) if id(self.new_of(trained[i])) in place]
            block = [order[n] for n in spots]
            ids = [id(trained[i]) for i in block]
            if ids == [id(w) for w in old.weights if id(w) in set(ids)]:
                block.sort(key=lambda i, place=place: place[id(self.new_of(trained[i]))])
            for n, i in zip(spots, block, strict=True):
                order[n] = i
        return order

    def _old_ids(self) -> set[int]:
        return {id(v) for old, _ in self.pairs for v in old.variables}


# --- the state of one optimizer ----------------------------------------------------------------------


@dataclass
class _State:
    """The state of an optimizer (or an inner one) before it is built for new variables."""

    optimizer: keras.optimizers.Optimizer
    attributes: dict[str, Any]
    variables: list[keras.Variable]
    trained: list[keras.Variable]
    # Pairs of a weight and its mask or the like; on JAX these are variables of the optimizer.
    companions: list[tuple[keras.Variable, keras.Variable]]

    @classmethod
    def of(cls, optimizer: keras.optimizers.Optimizer) -> _State:
        """Return the state of an optimizer."""
        # TensorFlow changes its own attributes (`_self_unconditional...`) in place.
        attributes = {
            name: copy.copy(value) if name.startswith("_self_unconditional") else value
            for name, value in vars(optimizer).items()
        }
        trained = discovery.trained_variables(optimizer)
        companions = tracing.tracked(optimizer)
        masks = {id(v) for _, v in companions}
        variables = [v for v in optimizer._variables if id(v) not in masks]
        return cls(optimizer, attributes, variables, trained, companions)

    def slots(self) -> dict[str, list]:
        """Return the slots: by attribute name, a list in the order of the trained variables."""
        return {
            name: list(value)
            for name, value in self.attributes.items()
            if name not in ("_variables", "_trainable_variables")
            and isinstance(value, (list, tuple))
            and len(value) == len(self.trained)
            and any(isinstance(v, keras.Variable) for v in value)
        }

    def singles(self) -> dict[str, keras.Variable]:
        """Return the variables that are attributes, by name."""
        return {n: v for n, v in self.attributes.items() if isinstance(v, keras.Variable)}

    def unknown(self) -> list[str]:
        """Return the paths of variables that are neither a slot nor an attribute."""
        known = {id(v) for value in self.slots().values() for v in value}
        known |= {id(v) for v in self.singles().values()}
        return [v.path for v in self.variables if id(v) not in known]

    def unbuild(self) -> None:
        """Make the optimizer forget all variables except its step count and its learning rate.

        Private touch: Keras builds an optimizer once, and there is no public way back.
        """
        optimizer = self.optimizer
        counters = (optimizer._iterations, optimizer._learning_rate)
        _set_variables(optimizer, [v for v in self.variables if any(v is c for c in counters)])
        tracing.forget(optimizer)
        # New lists, set past Keras's tracking of attributes: `restore` puts the old lists back.
        vars(optimizer).update({name: [] for name in self.slots()})
        vars(optimizer).update(built=False, _trainable_variables=[])
        vars(optimizer).update(_trainable_variables_indices={}, _exclude_from_weight_decay_cache={})

    def restore(self) -> None:
        """Undo all changes. The old variables were never changed."""
        optimizer = self.optimizer
        vars(optimizer).clear()
        vars(optimizer).update(self.attributes)
        _set_variables(optimizer, [*self.variables, *(v for _, v in self.companions)])

    def carry_over(self, change: _Change) -> list[str]:
        """Give the newly built optimizer the old state, cut.

        Returns: A description of each slot that could not be cut, and was reset.

        Raises:
            ValueError: The optimizer was built in a way that is not known.
        """
        trained = discovery.trained_variables(self.optimizer)
        order = change.order(self.trained)
        expected = [change.new_of(self.trained[i]) for i in order]
        if [id(v) for v in trained] != [id(v) for v in expected]:
            raise ValueError(f"'{self.optimizer.name}' was built for other variables")
        reset = list(self._carry_slots(change, order))
        self._carry_singles()
        self._carry_lists(change, {id(v) for v in trained})
        return reset

    def _carry_slots(self, change: _Change, order: list[int]) -> Iterator[str]:
        """Assign the cut slots; yield a description of each slot that could not be cut."""
        for name, old_slots in self.slots().items():
            new_slots = getattr(self.optimizer, name, None)
            if not isinstance(new_slots, (list, tuple)) or len(new_slots) != len(order):
                raise ValueError(f"`{name}` is not made by `build`")
            for i, slot in zip(order, new_slots, strict=True):
                if slot is None:
                    continue
                cut = change.cuts.get(id(self.trained[i]))
                value = _cut_slot(name, old_slots[i], tuple(slot.shape), cut)
                if value is not None:
                    slot.assign(value)
                else:
                    yield f"`{name}` of '{self.trained[i].path}'"

    def _carry_singles(self) -> None:
        """Assign the variables that are not per weight, such as Nadam's product."""
        for name, old in self.singles().items():
            new = getattr(self.optimizer, name, None)
            if new is not old and isinstance(new, keras.Variable):
                new.assign(to_numpy(old))

    def _carry_lists(self, change: _Change, trained: set[int]) -> None:
        """Restore the order of all variables, the exclusions from weight decay, and the masks on JAX.

        Args:
            change: The variables that change.
            trained: Ids of the new trained variables.
        """
        optimizer = self.optimizer
        # The variables that `__init__` made are still there, and come before those that `build` made.
        current = {id(v) for v in vars(optimizer).values() if isinstance(v, keras.Variable)}
        first = [v for v in self.variables if id(v) in current]
        rest = [v for v in optimizer._variables if not any(v is f for f in first)]
        _set_variables(optimizer, [*first, *rest])
        excluded = vars(optimizer).get("_exclude_from_weight_decay")
        if excluded:
            key = optimizer._var_key
            keys = {key(v): key(change.new_of(v)) for v in self.trained}
            _attributes(optimizer)["_exclude_from_weight_decay"] = {
                keys.get(k, k) for k in excluded
            }
        tracing.track(optimizer, [pair for pair in self.companions if id(pair[0]) in trained])


def _attributes(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """Return the attributes of an optimizer, to be set past Keras's tracking."""
    # The type checker takes `vars` for the read-only one of a class.
    return cast("dict[str, Any]", vars(optimizer))


def _set_variables(optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]) -> None:
    """Set the list of all variables of an optimizer.

    Private touch: the list is made while there is no tracker, as in Keras's `__init__`, because
    `tf.train.Checkpoint` refuses a list that has lost an entry.
    """
    attributes = _attributes(optimizer)
    tracker = attributes.pop("_tracker")
    optimizer._variables = list(variables)
    attributes["_tracker"] = tracker
    test, _ = tracker.config["variables"]
    tracker.config["variables"] = (test, optimizer._variables)
    tracker.stored_ids["variables"] = {id(v) for v in variables}


# The axis of the weight that a slot of Adafactor lacks; the shape of a square kernel does not tell.
_LACKS = {"_r": -1, "_c": -2}


def _cut_slot(name: str, old: Any, shape: tuple[int, ...], cut: Cut | None) -> np.ndarray | None:
    """Return the value of a slot after a cut, or None if it is not clear how to cut it.

    Args:
        name: Attribute name of the slot.
        old: The old slot, or None.
        shape: Shape of the new slot.
        cut: The cut of the weight, or None if it stays whole.
    """
    if old is None:
        return None
    value = to_numpy(old)
    if cut is None or value.ndim == 0:
        return value if value.shape == shape else None
    if value.shape == tuple(cut.old.shape):
        return cut.slice(value)
    # The slot may be shaped as the weight without one axis.
    rank = len(cut.index)
    candidates = {}
    for axis in range(rank):
        rest = [*range(axis), *range(axis + 1, rank)]
        if value.shape == tuple(cut.old.shape[a] for a in rest):
            cut_value = take(value, [cut.index[a] for a in rest])
            if cut_value.shape == shape:
                candidates[axis] = cut_value
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    return candidates.get(_LACKS[name] % rank) if name in _LACKS else None
