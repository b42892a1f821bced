"""Builds a network with fewer channels: new layers from the old configurations, and cut weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.layers.carrier import Carrier, NotCarriedError
from keras_ganprune.layers.copy_state import is_of_keras
from keras_ganprune.layers.stripping import plain_classes
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.pruning.structured.carry_state import (
    carry_penalties,
    carry_state,
    layer_pairs,
)
from keras_ganprune.pruning.structured.cuts import Cut
from keras_ganprune.pruning.structured.dense_symbols import as_dense
from keras_ganprune.pruning.structured.followed_layers import set_argument
from keras_ganprune.pruning.structured.graph import Call, Tensor, leaves
from keras_ganprune.pruning.structured.groups import Groups
from keras_ganprune.pruning.structured.rebuild_errors import (
    advice,
    asked_weight,
    check_shape,
    named,
)
from keras_ganprune.pruning.structured.rebuild_layers import (
    build_again,
    build_sublayers,
    configuration,
    uncut_layer,
)
from keras_ganprune.pruning.structured.rules.registry import Sizes, entry_of
from keras_ganprune.pruning.structured.rules.slices import cut_key
from keras_ganprune.pruning.structured.sized_operations import Sized


@dataclass(frozen=True, eq=False)
class NewCall:
    """A call of a new operation.

    Attributes:
        operation: The new layer or operation.
        args: Positional arguments, with the `Tensor`s of the old graph in them.
        kwargs: Keyword arguments, likewise.
    """

    operation: Any
    args: tuple
    kwargs: dict[str, Any]


class Builder:
    """Builds a network again, without some units of its groups.

    Args:
        groups: `Groups` of the network.
        keeps: For each group a bool array, True = the unit stays.
        dropped: Calls that are left out, by id, each with the `Tensor` that replaces its result.
            Defaults to None.
    """

    def __init__(
        self,
        groups: Groups,
        keeps: Sequence[np.ndarray],
        dropped: dict[int, Tensor] | None = None,
    ):
        self.groups = groups
        self.graph, self.channels = groups.graph, groups.channels
        self.removed = groups.removed(keeps)
        self.dropped = dropped or {}
        # New layers and operations, by the id of the old one (and the configuration).
        self.new_operations: dict[Any, Any] = {}
        # The new operation of each call, by the id of the call, and its arguments with old `Tensor`s.
        self.new_calls: dict[int, NewCall] = {}
        self.names: set[str] = set()

    def kept(self, labels: np.ndarray) -> np.ndarray:
        """Return a bool array of the positions of an axis that stay."""
        return ~self.removed[self.channels.units.find(labels)]

    def index(self, variable: keras.Variable) -> tuple[np.ndarray | None, ...]:
        """Return, for each axis of a weight, the positions that stay, or None for all."""
        index: list[np.ndarray | None] = []
        for axis in range(len(variable.shape)):
            labels = self.channels.labels_of(variable, axis)
            kept = None if labels is None else self.kept(labels)
            index.append(None if kept is None or kept.all() else np.flatnonzero(kept))
        return tuple(index)

    def tensor_index(self, tensor: Tensor) -> tuple[np.ndarray | None, ...]:
        """Return, for each axis of a tensor, the positions that stay, or None for all."""
        rows = (None if x is None else self.kept(x) for x in self.channels.axes[id(tensor)].labels)
        return tuple(None if r is None or r.all() else np.flatnonzero(r) for r in rows)

    def shape(self, tensor: Tensor) -> tuple[int | None, ...]:
        """Return the shape of a tensor after the cut."""
        axes = self.channels.axes[id(tensor)]
        return tuple(
            size if labels is None else int(np.count_nonzero(self.kept(labels)))
            for size, labels in zip(axes.shape, axes.labels, strict=True)
        )

    def weight_shape(self, variable: keras.Variable) -> tuple[int, ...]:
        """Return the shape of a weight after the cut."""
        return tuple(
            size if positions is None else len(positions)
            for size, positions in zip(variable.shape, self.index(variable), strict=True)
        )

    # --- layers ----------------------------------------------------------------------------------

    def name(self, path: str) -> str:
        """Return a name that no other operation has: if possible, the last part of the path."""
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            name = "_".join(parts[-count:])
            if name not in self.names:
                break
        else:
            number = 1
            while f"{name}_{number}" in self.names:
                number += 1
            name = f"{name}_{number}"
        self.names.add(name)
        return name

    def operation(self, call: Call) -> Any:
        """Return the new layer or operation of a call; the same one for all calls of the old one."""
        old = call.operation
        if id(old) in self.new_operations:
            return self.new_operations[id(old)]
        config = self._config(call)
        key: Any = id(old)
        if isinstance(old, keras.layers.Layer) and not old.weights:
            # A layer without weights, such as a Reshape, may need another configuration in each call.
            key = (id(old), repr(config))
        if key not in self.new_operations:
            name = self.name(call.path)
            self.new_operations[key] = build_again(old, call.path, lambda: self._config(call), name)
        return self.new_operations[key]

    def _config(self, call: Call) -> dict[str, Any] | None:
        """Return the configuration after the cut; None for an operation without one."""
        old, entry = call.operation, entry_of(call.operation)
        config = configuration(old, call.path)
        if config is None:
            return None
        for argument, members in call.arguments.items():
            variable, axis = members[0]
            config = set_argument(config, argument, self.weight_shape(variable)[axis])
        if entry is None or entry.config is None:
            return config
        sizes = Sizes(
            weight=lambda name: self.weight_shape(asked_weight(old, name)),
            before=[t.shape for t in call.inputs],
            inputs=[self.shape(t) for t in call.inputs],
            outputs=[self.shape(t) for t in call.outputs],
            kept=lambda i, axis: self._kept_input(call, i, axis),
        )
        return entry.config(old, config, sizes)

    def _kept_input(self, call: Call, number: int, axis: int) -> np.ndarray:
        axes = self.channels.axes[id(call.inputs[number])]
        labels = axes[axis]
        return np.ones(axes.shape[axis] or 0, dtype=bool) if labels is None else self.kept(labels)

    # --- the graph -------------------------------------------------------------------------------

    def build(self) -> tuple[keras.Model, list[Cut]]:
        """Return the new model with its weights and its other state, and a `Cut` for each of its weights.

        Raises:
            UnsupportedLayerError: A layer cannot be built again, or gets other weights than its rule says.
            InvalidArgumentError: The rule of a layer gives a wrong output shape.
        """
        with plain_classes(self.graph.model):
            model = self._sequential() or self._functional()
            cuts = self._cuts()
            self._carry_states(cuts)
        known = {id(cut.new) for cut in cuts}
        missing = [w.path for w in model.weights if id(w) not in known]
        if missing:
            raise UnsupportedLayerError(
                f"Weights of the new network have no origin: {', '.join(missing[:3])}. A layer makes "
                "other weights when it is built again from its configuration; check its `get_config`."
            )
        return model, cuts

    def _input(self, tensor: Tensor, name: str) -> Any:
        self.names.add(name)
        optional = {"optional": True} if tensor.optional else {}
        return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name, **optional)

    def _sequential(self) -> keras.Model | None:
        """Return a Sequential, if the model is one whose layers are called one after the other."""
        graph = self.graph
        if not isinstance(graph.model, keras.Sequential) or self.dropped:
            return None
        layers = [id(layer) for layer in graph.model.layers]
        if [id(call.operation) for call in graph.calls] != layers:
            return None
        symbol = self._input(leaves(graph.inputs)[0], graph.names[0])
        new: list[Any] = [symbol]
        for call in graph.calls:
            new.append(self.operation(call))
            # Here an error names the layer. `Sequential.add` would call all layers before it again.
            with named(call):
                given, symbol = symbol, new[-1](symbol)
                build_sublayers(new[-1], call.operation, (given,), {})
            self.new_calls[id(call)] = NewCall(new[-1], call.args, call.kwargs)
        return keras.Sequential(new, name=graph.model.name, trainable=graph.model.trainable)

    def _functional(self) -> keras.Model:
        graph = self.graph
        inputs = leaves(graph.inputs)
        symbols = [self._input(t, name) for t, name in zip(inputs, graph.names, strict=True)]
        symbol_of = {id(t): symbol for t, symbol in zip(inputs, symbols, strict=True)}

        def fill(structure: Any) -> Any:
            return keras.tree.map_structure(
                lambda leaf: symbol_of[id(leaf)] if isinstance(leaf, Tensor) else leaf, structure
            )

        needed = self.needed()
        for call in graph.calls:
            if id(call) in self.dropped:
                symbol_of[id(call.outputs[0])] = symbol_of[id(self.dropped[id(call)])]
            elif id(call) in needed:
                for tensor, symbol in zip(call.outputs, self._called(call, fill), strict=True):
                    symbol_of[id(tensor)] = symbol
        structure = keras.tree.pack_sequence_as(graph.inputs, symbols)
        return keras.Model(
            structure,
            fill(graph.outputs),
            name=graph.model.name,
            trainable=graph.model.trainable,
        )

    def _called(self, call: Call, fill: Callable[[Any], Any]) -> list[Any]:
        """Call the new operation on symbols; return its outputs after a check of their shapes.

        Args:
            call: The old call.
            fill: Function that puts symbols in the place of the old tensors.
        """
        args, kwargs = call.args, dict(call.kwargs)
        if type(call.operation).__name__ == "GetItem":
            key = kwargs.pop("key") if "key" in kwargs else args[1]
            args = (args[0], self._key(call, key))
        new = self.operation(call)
        self.new_calls[id(call)] = NewCall(new, args, kwargs)
        with named(call):
            given = fill(args), fill(kwargs)
            if isinstance(new, keras.layers.Layer) and not is_of_keras(type(new)):
                given = as_dense(given, lambda: self.name(f"{call.path}/dense_input"))
            outputs = _symbols(new(*given[0], **given[1]))
            build_sublayers(new, call.operation, *given)
        if isinstance(new, Sized):
            self._rename(outputs, _symbols(given), call)
        for tensor, symbol in zip(call.outputs, outputs, strict=True):
            check_shape(call, tuple(symbol.shape), self.shape(tensor))
        return outputs

    def _rename(self, outputs: list[Any], given: list[Any], call: Call) -> None:
        """Give unique names to the operations between symbols.

        Private touch: the history of a symbol is the only way to the operation that made it.
        """
        waiting, seen = list(outputs), {id(symbol) for symbol in given}
        while waiting:
            symbol = waiting.pop()
            if id(symbol) in seen:
                continue
            seen.add(id(symbol))
            operation, node, _ = symbol._keras_history
            operation.name = self.name(f"{call.path}/{operation.name}")
            waiting += operation._inbound_nodes[node].input_tensors

    def needed(self) -> set[int]:
        """Return the calls that the outputs depend on, by id."""
        tensors = {id(t) for t in leaves(self.graph.outputs)}
        calls = set()
        for call in reversed(self.graph.calls):
            if any(id(t) in tensors for t in call.outputs):
                calls.add(id(call))
                if id(call) in self.dropped:
                    tensors.add(id(self.dropped[id(call)]))
                else:
                    tensors |= {id(t) for t in call.inputs}
        return calls

    def _key(self, call: Call, key: Any) -> Any:
        """Return the key of a slice, counted in the channels that stay."""
        axes = self.channels.axes[id(call.inputs[0])]

        def kept(axis: int) -> np.ndarray | None:
            labels = axes[axis]
            return None if labels is None else self.kept(labels)

        return cut_key(key, axes.rank, kept)

    # --- weights ---------------------------------------------------------------------------------

    def _cuts(self) -> list[Cut]:
        cuts = []
        for call in self.graph.calls:
            old, new = call.operation, self.new_operations.get(id(call.operation))
            if new is old or not isinstance(new, keras.layers.Layer):
                continue
            old_weights = cast("keras.layers.Layer", old).weights
            shapes = [tuple(w.shape) for w in new.weights]
            expected = [self.weight_shape(w) for w in old_weights]
            if shapes != expected:
                raise UnsupportedLayerError(
                    f"{type(new).__name__} '{call.path}' must have weights of the shapes {expected} after "
                    f"the cut, but has {shapes} when it is built again. {advice(call)}"
                )
            cuts += [
                Cut(w, n, self.index(w)) for w, n in zip(old_weights, new.weights, strict=True)
            ]
        # A layer that is called twice is cut once.
        return list({id(cut.new): cut for cut in cuts}.values())

    def is_whole(self, call: Call) -> bool:
        """Return whether nothing of a call is cut: neither its tensors nor the weights of its layer."""
        weights = getattr(call.operation, "weights", [])
        rows = [self.index(w) for w in weights]
        rows += [self.tensor_index(t) for t in (*call.inputs, *call.outputs)]
        return all(kept is None for row in rows for kept in row)

    def _carry_states(self, cuts: Sequence[Cut]) -> None:
        """Give the new layers the weights of the old ones, and what they have beside their weights."""
        for cut in cuts:
            cut.new.assign(cut.slice(to_numpy(cut.old)))
            carry_penalties(cut.old, cut.new)
        whole: dict[int, bool] = {}
        layers: dict[int, tuple[Any, Any, str]] = {}
        for call in self.graph.calls:
            new = self.new_calls.get(id(call))
            if new is not None and isinstance(new.operation, keras.layers.Layer):
                key = id(new.operation)
                layers[key] = (call.operation, new.operation, call.path)
                whole[key] = whole.get(key, True) and self.is_whole(call)
        carrier = Carrier(p for old, new, _ in layers.values() for p in layer_pairs(old, new))
        for key, (old, new, path) in layers.items():
            uncut = None if whole[key] else functools.partial(uncut_layer, old, path)
            try:
                carry_state(old, new, self.index, uncut, carrier)
            except NotCarriedError as error:
                raise UnsupportedLayerError(
                    f"'{path}' ({type(old).__name__}) cannot be built again with all its state: {error}. "
                    "Delete the attribute, and set it on the result; or leave out what cannot be copied."
                ) from error
        for cut in cuts:
            # The methods of a layer for saving may have changed them: what it writes may be computed.
            cut.new.assign(cut.slice(to_numpy(cut.old)))


def _symbols(structure: Any) -> list[Any]:
    return [leaf for leaf in leaves(structure) if isinstance(leaf, keras.KerasTensor)]
