"""Gives a layer what another layer holds beside its weights: attributes of every kind, by their values.

A configuration knows the arguments of a constructor. What a user has set or changed later is in the
attributes only. So each attribute of the new layer is compared with that of the old one. If it is not
proven equal, it is made again from the parts that the old one has, with new layers and variables in the place
of the old ones. What cannot be made again is refused.
"""

from __future__ import annotations

import copy as shallow
import types
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.kernels import own_variables
from keras_ganprune.layers.object_parts import (
    FUNCTIONS,
    NOTHING,
    PLAIN,
    Parts,
    as_array,
    cells_of,
    compiled_function,
    is_table,
    is_tensor,
    is_variable,
    parts_of,
    same_array,
)

# A copy is not compiled, so it has no state of training.
_OF_TRAINING = (keras.optimizers.Optimizer, keras.metrics.Metric)
# They are what they are: no two objects are the same one.
_ITSELF = (type, types.ModuleType, keras.KerasTensor, types.CodeType, property)


class NotCarriedError(Exception):
    """A value that cannot be made again; the text says which and why."""


class Carrier:
    """Makes again what old layers hold, for new layers.

    Args:
        pairs: The old layers, each with its new one. Where an old layer has two new ones, the first counts.
    """

    def __init__(self, pairs: Iterable[tuple[keras.layers.Layer, keras.layers.Layer]] = ()):
        # What stands for what, by the id of the old object.
        self.new: dict[int, Any] = {}
        # The objects whose ids are known must live as long.
        self.alive: list[Any] = []
        self.holding: dict[int, bool] = {}
        for old, new in pairs:
            self.pair(old, new)

    def pair(self, old: keras.layers.Layer, new: keras.layers.Layer) -> None:
        """Let a new layer, with its variables and seeds, stand for an old one."""
        if id(old) in self.new:
            return
        self._know(old, new)
        self._know(vars(old).get("_tracker"), vars(new).get("_tracker"))
        for of in (own_variables, lambda layer: layer._seed_generators):
            left, right = of(old), of(new)
            if len(left) == len(right):
                for one, other in zip(left, right, strict=True):
                    self._know(one, other)
                    if isinstance(one, keras.random.SeedGenerator):
                        self._know(one.state, getattr(other, "state"))  # noqa: B009

    def _know(self, old: Any, new: Any) -> Any:
        if old is not None:
            self.alive.append(old)
            self.new.setdefault(id(old), new)
        return new

    # --- what is equal -------------------------------------------------------------------------------

    def same(self, old: Any, new: Any, proving: frozenset[tuple[int, int]] = frozenset()) -> bool:
        """Return whether a value is proven to be what an old value is, in the place of the old layer."""
        if id(old) in self.new:
            return self.new[id(old)] is new
        if old is new:
            return not self.holds_state(old)
        if type(old) is not type(new) or isinstance(old, (keras.layers.Layer, *_ITSELF)):
            return False
        if type(old) in PLAIN:
            return old == new if not isinstance(old, (float, complex)) else repr(old) == repr(new)
        if is_variable(old):
            return False
        if is_tensor(old):
            return same_array(old, new)
        if (id(old), id(new)) in proving:
            return True
        if type(old).__module__ == "_thread":  # A lock holds nothing.
            return True
        proving |= {(id(old), id(new))}
        if isinstance(old, FUNCTIONS):
            return self._same_function(old, new, proving)
        if isinstance(old, (list, tuple)) and type(old) in (list, tuple):
            return self._all_same(old, new, proving)
        if is_table(old):
            return all(same_array(a, b) for a, b in zip(_entries(old), _entries(new), strict=True))
        inner = compiled_function(old)
        if inner is not None:
            return self.same(inner, compiled_function(new), proving)
        try:
            one, other = parts_of(old), parts_of(new)
        except Exception:
            return False
        self.alive += [one, other]
        return self._same_parts(one, other, proving)

    def _same_parts(self, one: Parts, other: Parts, proving: frozenset) -> bool:
        if isinstance(one.state, dict) and isinstance(other.state, dict):
            names = sorted(one.state, key=str)
            if names != sorted(other.state, key=str) or not self._all_same(
                [one.state[n] for n in names], [other.state[n] for n in names], proving
            ):
                return False
        elif not self.same(one.state, other.state, proving):
            return False
        left, right = (
            [x.make, *x.args, *x.items, *(leaf for pair in x.pairs for leaf in pair)]
            for x in (one, other)
        )
        return self._all_same(left, right, proving)

    def _all_same(self, left: Any, right: Any, proving: frozenset) -> bool:
        return len(left) == len(right) and all(
            self.same(a, b, proving) for a, b in zip(left, right, strict=True)
        )

    def _same_function(self, old: Any, new: Any, proving: frozenset) -> bool:
        if isinstance(old, types.FunctionType):
            return (
                old.__code__ == new.__code__
                and old.__globals__ is new.__globals__
                and self._all_same(cells_of(old), cells_of(new), proving)
            )
        name = "__func__" if isinstance(old, types.MethodType) else "__name__"
        return getattr(old, name) == getattr(new, name) and self.same(
            old.__self__, new.__self__, proving
        )

    def holds_state(self, value: Any, depth: int = 12) -> bool:
        """Return whether a value reaches a layer or a variable, so that two models must not share it."""
        if id(value) in self.new or isinstance(value, keras.layers.Layer) or is_variable(value):
            return True
        if type(value) in PLAIN or isinstance(value, _ITSELF) or is_tensor(value) or not depth:
            return False
        if id(value) not in self.holding:
            self.holding[id(value)] = False  # for an object that reaches itself
            self.alive.append(value)
            inner = self._inner(value)
            self.holding[id(value)] = any(self.holds_state(x, depth - 1) for x in inner)
        return self.holding[id(value)]

    def _inner(self, value: Any) -> list[Any]:
        """Return what an object reaches directly."""
        if isinstance(value, types.FunctionType):
            return cells_of(value)
        if isinstance(value, FUNCTIONS):
            return [value.__self__]
        if isinstance(value, (list, tuple, set, frozenset)):
            return list(value)
        compiled = compiled_function(value)
        if compiled is not None:
            return [compiled]
        if is_table(value):
            return []
        try:
            parts = parts_of(value)
        except Exception:
            return []
        self.alive.append(parts)
        return list(parts.all())

    # --- what is made again ----------------------------------------------------------------------------

    def carried(self, old: Any, new: Any = NOTHING) -> Any:
        """Return what stands for an old value in the new layer.

        Args:
            old: Value in the old layer.
            new: What the new layer has in this place. It is returned if it is proven equal, and its
                variables get the values of the old ones. Defaults to `NOTHING`.

        Raises:
            NotCarriedError: The value cannot be made again.
        """
        if id(old) in self.new:
            return self.new[id(old)]
        if self.same(old, new):
            return new
        if isinstance(old, _OF_TRAINING):
            return new
        if isinstance(old, keras.KerasTensor) and isinstance(new, keras.KerasTensor):
            return new  # A symbol of the new model; the old one would keep the old model alive.
        if type(old) in PLAIN or isinstance(old, _ITSELF):
            return old
        if isinstance(old, keras.layers.Layer):
            return self._layer(old, new)
        if is_variable(old):
            return self._know(old, _variable(old, new))
        if is_tensor(old):
            return self._know(old, _own_copy(old))
        if isinstance(old, FUNCTIONS) or compiled_function(old) is not None:
            return self._function(old, new)
        if type(old) is tuple:
            return tuple(self._each(old, new if type(new) is tuple else ()))
        if is_table(old):
            return self._know(old, _table(old, new))
        return self._object(old, new)

    def _each(self, old: Iterable[Any], new: Any) -> list[Any]:
        """Return what stands for each entry."""
        present = list(new)
        return [
            self.carried(x, present[i] if i < len(present) else NOTHING) for i, x in enumerate(old)
        ]

    def _layer(self, old: keras.layers.Layer, new: Any) -> Any:
        """Return the layer of the new constructor, with the weights of one that Keras does not track."""
        if type(new) is type(old) and new is not old:
            left, right = old._flatten_layers(), new._flatten_layers()
            fits = [type(a) for a in left] == [type(b) for b in right]
            shapes = [[tuple(v.shape) for v in layer.variables] for layer in (old, new)]
            if fits and shapes[0] == shapes[1]:
                for one, other in zip(left, right, strict=True):
                    self.pair(one, other)
                for variable, other in zip(old.variables, new.variables, strict=True):
                    other.assign(as_array(variable))
                return new
        raise NotCarriedError(
            f"the layer '{old.name}' ({type(old).__name__}) is no part of the model. Make it an attribute "
            "of a layer or model in the constructor"
        )

    def _function(self, old: Any, new: Any) -> Any:
        """Return a function, with new layers and variables in the place of the old ones that it uses."""
        if not self.holds_state(old):
            return old  # Functions do not change.
        if isinstance(old, types.FunctionType):
            return self._closure(old, new)
        if isinstance(old, FUNCTIONS):
            same_kind = type(new) is type(old)
            owner = self.carried(old.__self__, new.__self__ if same_kind else NOTHING)
            if isinstance(old, types.MethodType):
                return types.MethodType(old.__func__, owner)
            return getattr(owner, old.__name__)
        raise NotCarriedError(
            "it is a compiled function that uses a layer or a variable of the model. Make it in the "
            "constructor"
        )

    def _closure(self, old: types.FunctionType, new: Any) -> Any:
        cells = [types.CellType() for _ in old.__closure__ or ()]
        made = types.FunctionType(
            old.__code__, old.__globals__, old.__name__, None, tuple(cells) or None
        )
        self._know(old, made)
        hints = cells_of(new) if getattr(new, "__code__", None) == old.__code__ else ()
        values = self._each(cells_of(old), hints)
        for cell, value in zip(cells, values, strict=False):
            if value is not NOTHING:
                cell.cell_contents = value
        rest = values[len(cells) :]
        count = len(old.__defaults__ or ())
        made.__defaults__ = tuple(rest[:count]) or None
        if old.__kwdefaults__:
            made.__kwdefaults__ = dict(zip(old.__kwdefaults__, rest[count:], strict=True))
        made.__qualname__, made.__module__ = old.__qualname__, old.__module__
        made.__doc__, made.__annotations__ = old.__doc__, dict(old.__annotations__)
        made.__dict__.update(old.__dict__)
        return made

    def _object(self, old: Any, new: Any) -> Any:
        """Return an object that is made again, or the present one of the same kind with new attributes."""
        try:
            parts = parts_of(old)
        except Exception as error:
            raise NotCarriedError(f"{type(error).__name__}: {error}") from error
        self.alive.append(parts)
        if parts.by_attributes and not parts.state:
            return old  # Such as a mark that is compared by `is`.
        alike = type(new) is type(old) and new is not old
        try:
            present: Any = parts_of(new) if alike else Parts(parts.make, ())
            self.alive.append(present)
            if alike and parts.by_attributes and present.by_attributes:
                return self._updated(old, new, parts, present)
            return self._made(old, parts, present)
        except NotCarriedError:
            raise
        except Exception as error:
            raise NotCarriedError(f"{type(error).__name__}: {error}") from error

    def _updated(self, old: Any, new: Any, parts: Parts, present: Parts) -> Any:
        """Give an object the attributes of another one of its class."""
        self._know(old, new)
        for name, value in parts.state.items():
            result = self.carried(value, present.state.get(name, NOTHING))
            if result is not present.state.get(name, NOTHING):
                object.__setattr__(new, name, result)
        for name in set(present.state) - set(parts.state):
            object.__delattr__(new, name)
        return new

    def _made(self, old: Any, parts: Parts, present: Parts) -> Any:
        """Return an object that is made of its parts."""
        made = parts.make(*self._each(parts.args, present.args))
        if made is old:  # such as a member of an enumeration
            return old
        self._know(old, made)
        if isinstance(parts.state, dict):
            had = present.state if isinstance(present.state, dict) else {}
            state = {k: self.carried(v, had.get(k, NOTHING)) for k, v in parts.state.items()}
        else:
            state = None if parts.state is None else self.carried(parts.state)
        if state is not None and hasattr(made, "__setstate__"):
            made.__setstate__(state)
        elif state is not None:
            for name, value in state.items():
                object.__setattr__(made, name, value)
        for value in self._each(parts.items, present.items):
            made.append(value)
        had = {k: v for k, v in present.pairs if isinstance(k, (str, int))}
        for key, value in parts.pairs:
            hint = had.get(key, NOTHING) if isinstance(key, (str, int)) else NOTHING
            made[self.carried(key)] = self.carried(value, hint)
        return made


def _variable(old: Any, new: Any) -> Any:
    """Return a variable with the value of another one: the present one if it fits."""
    fits = type(new) is type(old) and new is not old
    if fits and tuple(new.shape) == tuple(old.shape) and new.dtype == old.dtype:
        if hasattr(new, "assign"):
            new.assign(as_array(old))
        else:
            new.data.copy_(old.data)
        return new
    if isinstance(old, keras.Variable):
        return keras.Variable(
            as_array(old), trainable=old.trainable, dtype=old.dtype, name=old.name
        )
    return shallow.deepcopy(old)


def _own_copy(value: Any) -> Any:
    """Return a copy of an array or tensor. Tensors of TensorFlow and JAX cannot change."""
    if str(getattr(getattr(value, "dtype", None), "name", "")) in ("resource", "variant"):
        raise NotCarriedError("it is a handle of a resource of TensorFlow")
    if hasattr(value, "detach"):
        return value.detach().clone().requires_grad_(value.requires_grad)
    return value.copy() if isinstance(value, np.ndarray) else value


def _entries(table: Any) -> list[Any]:
    """Return the keys and values of a lookup table, sorted by the keys."""
    keys, values = (as_array(x) for x in table.export())
    order = keys.argsort() if keys.ndim == 1 else slice(None)
    return [keys[order], values[order]]


def _table(old: Any, new: Any) -> Any:
    """Return a lookup table with the entries of another one. One that cannot change may be shared."""
    if not hasattr(old, "insert"):
        return old
    if type(new) is not type(old) or new is old:
        raise NotCarriedError("it is a lookup table that can change. Make it in the constructor")
    new.remove(new.export()[0])
    new.insert(*old.export())
    return new
