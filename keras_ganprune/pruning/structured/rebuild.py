"""The same network with fewer channels: new layers from the old configurations, weights cut to fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.prunable import weight_variable
from keras_ganprune.layers.upgrade import plain_classes
from keras_ganprune.pruning.structured.cuts import Cut
from keras_ganprune.pruning.structured.graph import Call, Tensor
from keras_ganprune.pruning.structured.groups import Groups
from keras_ganprune.pruning.structured.rules.ops import cut_key
from keras_ganprune.pruning.structured.rules.registry import Sizes, entry_of

# A function, which a configuration can hardly hold, and tables, which it does not: none has weights.
_AS_IT_IS = (keras.layers.Lambda, keras.layers.StringLookup, keras.layers.IntegerLookup)


class Builder:
    """Builds a network anew, without some units of its groups.

    Args:
        groups: Of the network.
        keeps: For each group, a bool array: which of its units stay.
        dropped: Calls that are left out, by id, each with the `Tensor` that stands for its result.
    """

    def __init__(
        self,
        groups: Groups,
        keeps: Sequence[np.ndarray],
        dropped: dict[int, Tensor] | None = None,
    ):
        self.groups = groups
        self.graph, self.channels = groups.graph, groups.channels
        self.gone = groups.gone(keeps)
        self.dropped = dropped or {}
        self.made: dict[int, Any] = {}
        self.names: set[str] = set()

    def kept(self, labels: np.ndarray | None) -> np.ndarray | None:
        """Return which places of an axis stay, or None for all."""
        return None if labels is None else ~self.gone[self.channels.units.find(labels)]

    def index(self, variable: keras.Variable) -> tuple[np.ndarray | None, ...]:
        """Return, for each axis of a weight, the places that stay, or None for all."""
        found: list[np.ndarray | None] = []
        for axis in range(len(variable.shape)):
            kept = self.kept(self.channels.labels_of(variable, axis))
            found.append(None if kept is None or kept.all() else np.flatnonzero(kept))
        return tuple(found)

    def shape(self, tensor: Tensor) -> tuple[int | None, ...]:
        axes = self.channels.axes[id(tensor)]
        return tuple(
            size if labels is None else int(np.count_nonzero(self.kept(labels)))
            for size, labels in zip(axes.shape, axes.labels, strict=True)
        )

    def weight_shape(self, variable: keras.Variable) -> tuple[int, ...]:
        return tuple(
            size if places is None else len(places)
            for size, places in zip(variable.shape, self.index(variable), strict=True)
        )

    # --- layers ----------------------------------------------------------------------------------

    def name(self, path: str) -> str:
        """Return a name that no other operation has, the last part of the path where that will do."""
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
        """Return the new layer or operation of a call, the same one for all calls of the old one."""
        old = call.operation
        if id(old) in self.made:
            return self.made[id(old)]
        config = None if isinstance(old, _AS_IT_IS) else self._config(call)
        key: Any = id(old)
        if isinstance(old, keras.layers.Layer) and not old.weights:
            # One without weights, such as a Reshape, may have to differ from call to call.
            key = (id(old), repr(config))
        if key not in self.made:
            self.made[key] = old if config is None else self._make(call, config)
        return self.made[key]

    def _config(self, call: Call) -> dict[str, Any] | None:
        """Return the configuration after the cut; None for an operation that has none."""
        old, entry = call.operation, entry_of(call.operation)
        try:
            config = old.get_config()
        except NotImplementedError:
            if isinstance(old, keras.layers.Layer):
                raise UnsupportedLayerError(
                    f"{type(old).__name__} '{call.path}' needs `get_config` (all its constructor "
                    "arguments), as for saving, to be built anew."
                ) from None
            return None
        if entry is None or entry.config is None:
            return config
        sizes = Sizes(
            weight=lambda name: self.weight_shape(weight_variable(old, name)),
            before=[t.shape for t in call.inputs],
            inputs=[self.shape(t) for t in call.inputs],
            outputs=[self.shape(t) for t in call.outputs],
            kept=lambda i, axis: self._kept_input(call, i, axis),
        )
        return entry.config(old, config, sizes)

    def _make(self, call: Call, config: dict[str, Any]) -> Any:
        old = call.operation
        name = self.name(call.path)
        if isinstance(old, keras.layers.Layer):
            config["name"] = name
        else:
            config.pop("name", None)  # not every version of Keras takes one here
        try:
            made = type(old).from_config(config)
            if not isinstance(made, keras.layers.Layer):
                made.name = name
            return made
        except Exception as error:
            raise UnsupportedLayerError(
                f"{type(old).__name__} '{call.path}' could not be built anew from its configuration "
                f"({type(error).__name__}: {error}). Check its `get_config` and, if it is a layer of your "
                "own, the `config=` of `register_rule`."
            ) from error

    def _kept_input(self, call: Call, number: int, axis: int) -> np.ndarray:
        axes = self.channels.axes[id(call.inputs[number])]
        kept = self.kept(axes[axis])
        return np.ones(axes.shape[axis], dtype=bool) if kept is None else kept

    # --- the graph -------------------------------------------------------------------------------

    def build(self) -> tuple[keras.Model, list[Cut]]:
        """Return the new model, and what each of its weights is of the old ones."""
        with plain_classes(self.graph.model):
            model = self._sequential() or self._functional()
            cuts = self._cuts()
        known = {id(cut.new) for cut in cuts}
        missing = [w.path for w in model.weights if id(w) not in known]
        if missing:
            raise UnsupportedLayerError(
                f"Weights of the new network have no origin: {', '.join(missing[:3])}. A layer makes "
                "other weights when it is built anew from its configuration; check its `get_config`."
            )
        return model, cuts

    def _input(self, tensor: Tensor, name: str) -> keras.KerasTensor:
        self.names.add(name)
        return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)

    def _sequential(self) -> keras.Model | None:
        """Return a Sequential for one whose layers are called one after the other, else None."""
        graph = self.graph
        if not isinstance(graph.model, keras.Sequential) or self.dropped:
            return None
        own = [id(layer) for layer in graph.model.layers]
        if [id(call.operation) for call in graph.calls] != own:
            return None
        tensor = keras.tree.flatten(graph.inputs)[0]
        model = keras.Sequential(name=graph.model.name, trainable=graph.model.trainable)
        model.add(self._input(tensor, graph.names[0]))
        for call in graph.calls:
            model.add(self.operation(call))
        return model

    def _functional(self) -> keras.Model:
        graph = self.graph
        inputs = keras.tree.flatten(graph.inputs)
        symbols = [self._input(t, name) for t, name in zip(inputs, graph.names, strict=True)]
        tensors = {id(t): symbol for t, symbol in zip(inputs, symbols, strict=True)}

        def fill(leaf: Any) -> Any:
            return tensors[id(leaf)] if isinstance(leaf, Tensor) else leaf

        needed = self._needed()
        for call in graph.calls:
            if id(call) in self.dropped:
                tensors[id(call.outputs[0])] = tensors[id(self.dropped[id(call)])]
                continue
            if id(call) not in needed:
                continue
            args, kwargs = keras.tree.map_structure(fill, (call.args, call.kwargs))
            if type(call.operation).__name__ == "GetItem":
                key = kwargs.pop("key") if "key" in kwargs else args[1]
                args = (args[0], self._key(call, key))
            outputs = keras.tree.flatten(self.operation(call)(*args, **kwargs))
            for tensor, made in zip(call.outputs, outputs, strict=True):
                if tuple(made.shape) != self.shape(tensor):
                    raise InvalidArgumentError(
                        f"'{call.path}' ({type(call.operation).__name__}) must give the shape "
                        f"{self.shape(tensor)} after the cut, but gives {tuple(made.shape)}. Check its rule "
                        "and the `config=` of `register_rule`."
                    )
                tensors[id(tensor)] = made
        structure = keras.tree.pack_sequence_as(graph.inputs, symbols)
        return keras.Model(
            structure,
            keras.tree.map_structure(fill, graph.outputs),
            name=graph.model.name,
            trainable=graph.model.trainable,
        )

    def _needed(self) -> set[int]:
        """Return the calls that the outputs depend on, by id."""
        wanted = {id(t) for t in keras.tree.flatten(self.graph.outputs)}
        found = set()
        for call in reversed(self.graph.calls):
            if any(id(t) in wanted for t in call.outputs):
                found.add(id(call))
                if id(call) in self.dropped:
                    wanted.add(id(self.dropped[id(call)]))
                else:
                    wanted |= {id(t) for t in call.inputs}
        return found

    def _key(self, call: Call, key: Any) -> Any:
        axes = self.channels.axes[id(call.inputs[0])]
        return cut_key(key, axes.rank, lambda axis: self.kept(axes[axis]))

    # --- weights ---------------------------------------------------------------------------------

    def _cuts(self) -> list[Cut]:
        found = []
        for call in self.graph.calls:
            new = self.made.get(id(call.operation))
            if new is None or new is call.operation or not isinstance(new, keras.layers.Layer):
                continue
            old_weights, new_weights = call.operation.weights, new.weights
            shapes = [tuple(n.shape) for n in new_weights]
            wanted = [self.weight_shape(w) for w in old_weights]
            if shapes != wanted:
                raise UnsupportedLayerError(
                    f"{type(new).__name__} '{call.path}' must have weights of the shapes {wanted} after "
                    f"the cut, but has {shapes} when it is built anew. Check its rule and the `config=` "
                    "of `register_rule`."
                )
            for old, made in zip(old_weights, new_weights, strict=True):
                found.append(Cut(old, made, self.index(old)))
        # A layer that is called twice is cut once.
        return list({id(cut.new): cut for cut in found}.values())


def assign(cuts: Sequence[Cut], values: dict[int, np.ndarray] | None = None) -> None:
    """Give the weights of a new network their values.

    Args:
        cuts: From `Builder.build`.
        values: Values of old weights, by id, to take in the place of those that they have.
    """
    for cut in cuts:
        value = (values or {}).get(id(cut.old))
        cut.new.assign(cut.slice(to_numpy(cut.old) if value is None else value))
