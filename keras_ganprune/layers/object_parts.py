"""What Python objects are made of, so that two of them can be compared, and one can be made again.

Each object says it itself, as for `pickle` and `copy.deepcopy`. So no type has to be known here.
"""

from __future__ import annotations

import copyreg
import functools
import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.tensors import to_numpy

FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)
# Values that cannot change, and are equal if they look equal.
PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None), type(Ellipsis)})
# A class, so it is the same object in every process.
NOTHING: Any = inspect.Parameter.empty


@dataclass
class Parts:
    """What an object is made of.

    Attributes:
        make: Function of `args` that returns an object to fill.
        args: Tuple.
        state: What is set on the object: attributes by name, or what its `__setstate__` takes.
        items: Entries that are appended to it.
        pairs: Keys and values that are set in it.
        by_attributes: Whether `state` is its attributes, and nothing else makes the object.
    """

    make: Callable[..., Any]
    args: tuple
    state: Any = None
    items: list[Any] = field(default_factory=list)
    pairs: list[tuple[Any, Any]] = field(default_factory=list)
    by_attributes: bool = False

    def all(self) -> Iterator[Any]:
        """Yield every object in it."""
        yield from self.args
        yield from self.state.values() if isinstance(self.state, dict) else [self.state]
        yield from self.items
        for key, value in self.pairs:
            yield key
            yield value


def parts_of(value: Any) -> Parts:
    """Return what an object is made of.

    Raises:
        Exception: The object has a state that Python cannot read, such as a lock or an open file. The type
            of the error depends on the object.
    """
    cls = type(value)
    if cls is types.MappingProxyType:  # Python itself does not say it.
        return Parts(types.MappingProxyType, (dict(value),))
    if any("__reduce__" in vars(base) and _is_of_keras(base) for base in cls.__mro__):
        # Keras would write a file.
        return Parts(_empty, (cls,), attributes_of(value), by_attributes=True)
    reducer = copyreg.dispatch_table.get(cls)
    reduced: Any = reducer(value) if reducer is not None else value.__reduce_ex__(4)
    if isinstance(reduced, str):  # the name of a global object
        return Parts(lambda: value, ())
    make, args = reduced[:2]
    state, items, pairs = (*reduced[2:], None, None, None)[:3]
    sets_itself = hasattr(cls, "__setstate__")
    if isinstance(state, tuple) and len(state) == 2 and not sets_itself:
        state = {**(state[0] or {}), **(state[1] or {})}
    parts = Parts(make, args, state, list(items or ()), list(pairs or ()))
    if make is _empty and len(args) == 1 and not (parts.items or parts.pairs or sets_itself):
        parts.by_attributes = set(state or ()) == set(attributes_of(value))
    return parts


# What makes an object from its class alone. Public, but not in Python's stubs.
_empty: Callable[..., Any] = getattr(copyreg, "__newobj__")  # noqa: B009


def _is_of_keras(cls: type) -> bool:
    return cls.__module__.split(".")[0] == "keras"


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the attributes of an object by name, also those in `__slots__`."""
    found = {}
    for cls in type(value).__mro__:
        for name, member in vars(cls).items():
            if isinstance(member, types.MemberDescriptorType):
                try:
                    found[name] = member.__get__(value)
                except AttributeError:  # not set
                    continue
    return {**found, **getattr(value, "__dict__", {})}


# --- variables, tensors, functions ------------------------------------------------------------------


def is_tensor(value: Any) -> bool:
    """Return whether a value is an array or a tensor, not a variable."""
    return isinstance(value, (np.ndarray, np.generic)) or bool(keras.ops.is_tensor(value))


def is_variable(value: Any) -> bool:
    """Return whether a value is a variable of Keras, TensorFlow or PyTorch."""
    return isinstance(value, keras.Variable) or is_framework_variable(value)


def is_framework_variable(value: Any) -> bool:
    """Return whether a value is a variable of TensorFlow, or a parameter of PyTorch, not of Keras."""
    if isinstance(value, type):
        return False
    if hasattr(value, "assign") and hasattr(value, "read_value") and hasattr(value, "shape"):
        return True
    return hasattr(value, "requires_grad_") and type(value).__name__ == "Parameter"


def is_table(value: Any) -> bool:
    """Return whether a value is a lookup table of TensorFlow, which keeps its entries outside of Python."""
    return all(hasattr(value, name) for name in ("export", "lookup", "resource_handle"))


def as_array(value: Any) -> np.ndarray:
    """Return a copy of the value of a variable, array or tensor."""
    known = isinstance(value, keras.Variable) or keras.ops.is_tensor(value)
    return np.array(to_numpy(value) if known else value)


def same_array(one: Any, other: Any) -> bool:
    """Return whether two arrays or tensors have one type and the same bytes."""
    if type(one) is not type(other) or not is_tensor(one):
        return False
    if one.dtype != other.dtype or tuple(one.shape) != tuple(other.shape):
        return False
    if getattr(one, "requires_grad", None) != getattr(other, "requires_grad", None):
        return False
    try:
        one, other = as_array(one), as_array(other)
    except Exception:  # such as a key of JAX or a ragged tensor, which NumPy cannot hold
        return False
    if one.dtype.hasobject:
        return all(type(a) is type(b) and a == b for a, b in zip(one.flat, other.flat, strict=True))
    return one.tobytes() == other.tobytes()


def compiled_function(value: Any) -> Any:
    """Return the Python function in a compiled one (`tf.function`, `jax.jit`), or None."""
    if isinstance(value, (type, *FUNCTIONS, functools.partial)) or not callable(value):
        return None
    inner = getattr(value, "python_function", None) or getattr(value, "__wrapped__", None)
    return inner if isinstance(inner, FUNCTIONS) else None


def cells_of(function: types.FunctionType) -> list[Any]:
    """Return what a function holds of the code around it, and its default arguments."""
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not set yet
            cells.append(NOTHING)
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return [*cells, *defaults]
