"""Records the tensors that a `call` on symbols makes from numbers, such as `keras.ops.arange(n)`."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

# Functions that make a tensor from numbers, or repeat one.
_MAKERS = (
    "arange", "zeros", "ones", "full", "eye", "identity", "tri", "linspace", "broadcast_to", "tile",
    "repeat",
)  # fmt: skip
# Functions that draw a tensor of a shape.
_DRAWERS = ("normal", "uniform", "truncated_normal", "randint", "binomial", "gamma", "beta")


@dataclass
class Made:
    """One call of such a function.

    Attributes:
        name: Its name.
        arguments: Its arguments, by name.
        shape: Shape of the result.
        dtype: Type of the result.
    """

    name: str
    arguments: dict[str, Any]
    shape: tuple[int, ...]
    dtype: str

    def is_like(self, name: str, arguments: dict[str, Any]) -> bool:
        """Return whether a call has the same name and arguments."""
        return self.name == name and _text(self.arguments) == _text(arguments)


@dataclass
class Recorder:
    """Records such calls, and gives symbols in the place of some of them.

    Attributes:
        replaced: Pairs (`Made`, function that returns a symbol or None), in the order of the calls.
        made: The calls that were recorded.
        drawn: Function (shape, dtype) -> symbol in the place of random numbers; None to let them be drawn.
        draws: Number of calls that drew random numbers.
        called_inside: Names of layers that cannot be called on symbols by themselves.
    """

    replaced: list[tuple[Made, Callable[[], Any] | None]] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    drawn: Callable[[tuple, str], Any] | None = None
    draws: int = 0
    called_inside: list[str] = field(default_factory=list)
    _next: int = 0
    _depth: int = 0

    @contextlib.contextmanager
    def below(self) -> Iterator[None]:
        """Within the context nothing is recorded: a layer or a function of Keras runs."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    @contextlib.contextmanager
    def recording(self, is_tracing: Callable[[], bool]) -> Iterator[None]:
        """Within the context, calls of the thread that traces are recorded.

        Private touch: every function of `keras.ops` and `keras.random` calls the module of its backend by
        this name. There is no public way to see such calls.

        Args:
            is_tracing: Function of `traces.one_thread`.
        """

        def of_thread(function: Callable[..., Any], wrapped: Callable[..., Any]) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                return (wrapped if is_tracing() else function)(*args, **kwargs)

            return call

        backend = importlib.import_module("keras.src.backend")
        with contextlib.ExitStack() as stack:
            for module, names, wrap in (
                (backend.numpy, _MAKERS, self._maker),
                (backend.random, _DRAWERS, self._drawer),
            ):
                for name in names:
                    function = getattr(module, name)
                    stack.callback(setattr, module, name, function)
                    setattr(module, name, of_thread(function, wrap(name, function)))
            of_layer = keras.layers.Layer.symbolic_call  # pyright: ignore[reportAttributeAccessIssue]

            def symbolic_call(layer: Any, *args: Any, **kwargs: Any) -> Any:
                def run_call() -> Any:
                    return backend.compute_output_spec(layer.call, *args, **kwargs)

                with self.below():
                    try:
                        outputs = of_layer(layer, *args, **kwargs)
                    except TypeError:
                        # Its `compute_output_spec` does not take all arguments of its `call`.
                        self.called_inside.append(layer.name)
                        return run_call()
                    _complete_shapes(outputs, (args, kwargs), run_call)
                    return outputs

            stack.callback(setattr, keras.layers.Layer, "symbolic_call", of_layer)
            patched = of_thread(of_layer, symbolic_call)
            setattr(keras.layers.Layer, "symbolic_call", patched)  # noqa: B010  (stubs)
            yield

    def _maker(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._depth:
                return function(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            arguments = dict(bound.arguments)
            for i in range(self._next, len(self.replaced)):
                made, symbol = self.replaced[i]
                if made.is_like(name, arguments):
                    self._next = i + 1
                    if symbol is not None:
                        return symbol()
                    break
            with self.below():
                result = function(*args, **kwargs)
            dtype = keras.backend.standardize_dtype(result.dtype)
            self.made.append(Made(name, arguments, tuple(result.shape), dtype))
            return result

        return call

    def _drawer(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(shape: Any, *args: Any, **kwargs: Any) -> Any:
            if self._depth:
                return function(shape, *args, **kwargs)
            self.draws += 1
            if self.drawn is None:
                return function(shape, *args, **kwargs)
            dtype = kwargs.get("dtype") or ("int32" if name == "randint" else keras.config.floatx())
            sizes = (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)
            return self.drawn(sizes, keras.backend.standardize_dtype(dtype))

        return call


def _complete_shapes(outputs: Any, inputs: Any, run_call: Callable[[], Any]) -> None:
    """Give symbols the sizes that their layer leaves open, although it knows those of its inputs.

    `EinsumDense(.., output_shape=(None, 8))` does so, and layers with such a `compute_output_shape`. A `call`
    that reads such a size would get None.

    Args:
        outputs: What the layer returned.
        inputs: Its arguments.
        run_call: Function that runs `call` and returns symbols.
    """
    made = _symbols(outputs)
    if not any(None in symbol.shape for symbol in made):
        return
    if any(None in symbol.shape for symbol in _symbols(inputs)):
        return
    with contextlib.suppress(Exception):  # The sizes stay open.
        for symbol, seen in zip(made, _symbols(run_call()), strict=True):
            if len(symbol.shape) == len(seen.shape):
                # Private touch: a symbol has no public way to change its shape.
                symbol._shape = tuple(seen.shape)


def _symbols(structure: Any) -> list[Any]:
    found: Any = keras.tree.flatten(structure)
    return [leaf for leaf in found if isinstance(leaf, keras.KerasTensor)]


def _text(value: Any) -> str:
    """Return numbers as text; of a tensor the shape and the type, since its values may be random."""
    if isinstance(value, dict):
        return str({k: _text(v) for k, v in value.items()})
    if isinstance(value, (list, tuple)):
        return str([_text(v) for v in value])
    if keras.ops.is_tensor(value) or isinstance(value, (np.ndarray, keras.Variable)):
        return f"{tuple(value.shape)} {value.dtype}"
    return repr(int(value) if isinstance(value, np.integer) else value)
