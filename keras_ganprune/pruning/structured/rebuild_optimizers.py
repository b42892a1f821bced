"""Optimizers that go on with narrower weights: the same objects, with the state that they had.

To make other optimizers would break every reference to them: `gan.generator_optimizer`, the schedule of
a learning-rate callback, a variable of the user's own.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import tracing
from keras_ganprune.errors import PruningWarning, UnsupportedLayerError
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.pruning.structured.cuts import Cut, take
from keras_ganprune.training import discovery

# An old network and the new one.
Row = tuple[keras.layers.Layer, keras.layers.Layer]


def _parts(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """Return an optimizer and those inside it (of a loss-scaling one, of a `MultiOptimizer`)."""
    inner = [getattr(optimizer, "inner_optimizer", None)]
    inner += getattr(optimizer, "_inner_optimizers", None) or []
    return [optimizer, *(part for i in inner if i is not None for part in _parts(i))]


@dataclass
class _Kept:
    """What an optimizer (or one inside it) was before it was built for new variables."""

    optimizer: keras.optimizers.Optimizer
    attributes: dict[str, Any]
    variables: list[keras.Variable]
    trained: list[keras.Variable]
    # On JAX: (weight, its mask) and the like, which are variables of the optimizer there.
    companions: list[tuple[keras.Variable, keras.Variable]]

    @classmethod
    def of(cls, optimizer: keras.optimizers.Optimizer) -> _Kept:
        # TensorFlow's own (`_self_`) change in place.
        attributes = {
            name: copy.copy(value) if name.startswith("_self_unconditional") else value
            for name, value in vars(optimizer).items()
        }
        trained = discovery.trained_variables(optimizer)
        companions = tracing.tracked(optimizer)
        masks = {id(v) for _, v in companions}
        variables = [v for v in optimizer._variables if id(v) not in masks]
        return cls(optimizer, attributes, variables, trained, companions)

    def lists(self) -> dict[str, list]:
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
        return {n: v for n, v in self.attributes.items() if isinstance(v, keras.Variable)}

    def unknown(self) -> list[str]:
        """Return the names of variables that are neither a slot in such a list nor an attribute."""
        found = {id(v) for value in self.lists().values() for v in value}
        found |= {id(v) for v in self.singles().values()}
        return [v.path for v in self.variables if id(v) not in found]

    def unbuild(self) -> None:
        """Make the optimizer forget its variables; only what it counts and its learning rate stay.

        Private touch: Keras builds an optimizer once, and there is no public way back.
        """
        optimizer = self.optimizer
        first = (optimizer._iterations, optimizer._learning_rate)
        _track(optimizer, [v for v in self.variables if any(v is f for f in first)])
        tracing.forget(optimizer)
        # Past the tracking of attributes, and not in place: `restore` puts the old ones back.
        vars(optimizer).update({name: [] for name in self.lists()})
        vars(optimizer).update(built=False, _trainable_variables=[])
        vars(optimizer).update(_trainable_variables_indices={}, _exclude_from_weight_decay_cache={})

    def restore(self) -> None:
        """Undo everything; the old variables were not touched."""
        optimizer = self.optimizer
        vars(optimizer).clear()
        vars(optimizer).update(self.attributes)
        _track(optimizer, [*self.variables, *(v for _, v in self.companions)])

    def carry_over(self, cuts: dict[int, Cut], rows: Sequence[Row]) -> list[str]:
        """Give the rebuilt optimizer the state it had; return what began anew instead."""
        optimizer = self.optimizer
        now = discovery.trained_variables(optimizer)
        left = _left(self.trained, cuts, rows)
        expected = [_new_of(self.trained[i], cuts) for i in left]
        if [id(v) for v in now] != [id(v) for v in expected]:
            raise ValueError(f"'{optimizer.name}' was built for other variables")
        anew = []
        for name, old_slots in self.lists().items():
            slots = getattr(optimizer, name, None)
            if not isinstance(slots, (list, tuple)) or len(slots) != len(now):
                raise ValueError(f"`{name}` is not made by `build`")
            for i, slot in zip(left, slots, strict=True):
                value = _cut_slot(name, old_slots[i], slot, cuts.get(id(self.trained[i])))
                if value is not None:
                    slot.assign(value)
                elif slot is not None:
                    anew.append(f"`{name}` of '{self.trained[i].path}'")
        for name, variable in self.singles().items():
            single = getattr(optimizer, name, None)
            if single is not variable and isinstance(single, keras.Variable):
                single.assign(to_numpy(variable))  # one for all variables, as Nadam's product
        # What `__init__` has made is still there, and comes before what `build` makes.
        own = {id(v) for v in vars(optimizer).values() if isinstance(v, keras.Variable)}
        first = [v for v in self.variables if id(v) in own]
        rest = [v for v in optimizer._variables if not any(v is f for f in first)]
        _track(optimizer, [*first, *rest])
        excluded = vars(optimizer).get("_exclude_from_weight_decay")
        if excluded:
            key = optimizer._var_key
            keys = {key(v): key(_new_of(v, cuts)) for v in self.trained}
            vars(optimizer)["_exclude_from_weight_decay"] = {keys.get(k, k) for k in excluded}
        trained = {id(v) for v in now}
        tracing.track(optimizer, [pair for pair in self.companions if id(pair[0]) in trained])
        return anew


def _track(optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]) -> None:
    """Set the list of all variables of an optimizer.

    Private touch: it is made anew, as in Keras's `__init__` before there is a tracker, since
    `tf.train.Checkpoint` refuses a list that has lost an entry.
    """
    tracker = vars(optimizer).pop("_tracker")
    optimizer._variables = list(variables)
    vars(optimizer)["_tracker"] = tracker
    test, _ = tracker.config["variables"]
    tracker.config["variables"] = (test, optimizer._variables)
    tracker.stored_ids["variables"] = {id(v) for v in variables}


def _new_of(variable: keras.Variable, cuts: dict[int, Cut]) -> keras.Variable:
    cut = cuts.get(id(variable))
    return variable if cut is None else cut.new


def _left(trained: list[keras.Variable], cuts: dict[int, Cut], rows: Sequence[Row]) -> list[int]:
    """Return the positions of the trained variables that stay or become new ones, in their new order.

    Those of a network stand in the order of its weights, if they did before: by that order Keras puts
    averages into weights, and reads the slots in a file.
    """
    replaced = {id(v) for old, _ in rows for v in old.variables}
    left = [i for i, v in enumerate(trained) if id(v) in cuts or id(v) not in replaced]
    for old, new in rows:
        place = {id(w): n for n, w in enumerate(new.weights)}
        spots = [n for n, i in enumerate(left) if id(_new_of(trained[i], cuts)) in place]
        block = [left[n] for n in spots]
        ids = [id(trained[i]) for i in block]
        if ids == [id(w) for w in old.weights if id(w) in set(ids)]:
            block.sort(key=lambda i: place[id(_new_of(trained[i], cuts))])
        for n, i in zip(spots, block, strict=True):
            left[n] = i
    return left


# Which axis of the weight a slot of Adafactor lacks; the shape of a square kernel does not tell.
_LACKS = {"_r": -1, "_c": -2}


def _cut_slot(name: str, old: Any, slot: Any, cut: Cut | None) -> np.ndarray | None:
    """Return the value of a slot after a cut, or None if there is none or it cannot be told."""
    if old is None or slot is None:
        return None
    value, shape = to_numpy(old), tuple(slot.shape)
    if cut is None or value.ndim == 0:
        return value if value.shape == shape else None
    if value.shape == tuple(cut.old.shape):
        return cut.slice(value)
    rank = len(cut.index)
    fits = {}
    for axis in range(rank):
        rest = [*range(axis), *range(axis + 1, rank)]
        if value.shape == tuple(cut.old.shape[a] for a in rest):
            cut_value = take(value, [cut.index[a] for a in rest])
            if cut_value.shape == shape:
                fits[axis] = cut_value
    if len(fits) == 1:
        return next(iter(fits.values()))
    return fits.get(_LACKS[name] % rank) if name in _LACKS else None


def rebuild_optimizers(model: keras.Model, cuts: dict[int, Cut], rows: Sequence[Row]) -> None:
    """Let every optimizer that trains an old variable train the new one in its place.

    Args:
        model: The model that has the optimizers as attributes.
        cuts: The cut of each old variable, by its id.
        rows: The old and the new networks; old variables without a cut are no longer trained.

    Raises:
        UnsupportedLayerError: an optimizer keeps state in a way that is not known. Then none is changed.
    """
    done: list[_Kept] = []
    anew: list[str] = []
    touched = set(cuts) | {id(v) for old, _ in rows for v in old.variables}
    for optimizer in discovery.optimizers(model, unwrap=False):
        kept = [_Kept.of(part) for part in _parts(optimizer)]
        # Keras 3.8 has no list of its own in a loss-scaling one.
        trained = next((k.trained for k in kept if k.trained), [])
        if not any(id(v) in touched for v in trained):
            continue
        unknown = [path for k in kept for path in k.unknown()]
        try:
            if unknown:
                raise ValueError(f"its variables {', '.join(unknown[:3])} are in no known place")
            done += kept
            for k in kept:
                k.unbuild()
            left = [trained[i] for i in _left(trained, cuts, rows)]
            _build(optimizer, [_new_of(v, cuts) for v in left])
            anew += [text for k in kept for text in k.carry_over(cuts, rows)]
        except Exception as error:
            for k in done:
                k.restore()
            raise UnsupportedLayerError(
                f"{type(optimizer).__name__} '{optimizer.name}' cannot be given the smaller weights in the "
                f"middle of training ({type(error).__name__}: {error}). Its slots must be lists in the "
                "order of the trained variables that `build` makes, as in Keras's own optimizers. Nothing "
                "was changed."
            ) from error
    if anew:
        warnings.warn(
            f"Some state of the optimizers begins anew, since its shape does not tell how to cut it: "
            f"{', '.join(anew[:5])}{' and others' if len(anew) > 5 else ''}.",
            PruningWarning,
            stacklevel=4,
        )


def _build(optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]) -> None:
    """Build an optimizer, on the replicas that its variables live on."""
    strategy = getattr(variables[0].value, "distribute_strategy", None) if variables else None
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        optimizer.build(variables)
