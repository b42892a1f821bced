"""The layers after a layer in its network: a batch normalization, or the output of the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

_KEEPS_CHANNELS = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
    keras.layers.UpSampling1D,
    keras.layers.UpSampling2D,
    keras.layers.UpSampling3D,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    keras.layers.ZeroPadding3D,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Cropping3D,
    keras.layers.Reshape,
)


class _Graph:
    """The edges of a network: which operations use the output of an operation, also across nested models.

    An operation may be part of several graphs. Only the graphs inside `network` count. Activations that are
    called as functions are operations too, but not layers.

    Private attributes of Keras: the nodes of an operation are the only record of the graph, and a
    Sequential keeps its graph in `_functional`.
    """

    def __init__(self, network: keras.layers.Layer):
        self.network = network
        self.parts = []
        for model in network._flatten_layers():
            graph = getattr(model, "_functional", None) or model
            if isinstance(graph, keras.Function):
                self.parts.append((model, graph))
        self.known = {id(entry) for _, graph in self.parts for entry in graph.operations}

    def after(self, entry: keras.Operation) -> list[keras.Operation]:
        """Return the operations that use the output of `entry`.

        If `entry` makes the output of a nested model, the operations that use the output of the nested model
        are returned. If `entry` makes the output of the network, or of a nested model that no graph calls,
        that model itself is returned.
        """
        users: dict[int, keras.Operation] = {
            id(node.operation): node.operation
            for node in getattr(entry, "_outbound_nodes", ())
            if id(node.operation) in self.known
        }
        for model, graph in self.parts:
            if any(tensor._keras_history.operation is entry for tensor in graph.outputs):
                called = model is not self.network and id(model) in self.known
                users |= {id(user): user for user in (self.after(model) if called else [model])}
        return list(users.values())


def _with_wrappers(
    layer: keras.layers.Layer, network: keras.layers.Layer
) -> list[keras.layers.Layer]:
    """Return the layer, then the wrappers around it (such as SpectralNormalization), if any."""
    layers = [layer]
    for inner in layers:  # The list grows while it is read, since a wrapper may be wrapped.
        layers += [
            other
            for other in network._flatten_layers()
            if isinstance(other, keras.layers.Wrapper) and other.layer is inner
        ]
    return layers


def _chains_after(
    layer: keras.layers.Layer, network: keras.layers.Layer
) -> Iterator[Iterator[Any]]:
    """Yield what follows a layer, and each wrapper around it, one operation after the other.

    A chain ends where the graph branches, or is not known.
    """
    graph = _Graph(network)

    def chain(here: keras.Operation) -> Iterator[Any]:
        after = graph.after(here)
        while len(after) == 1:
            yield after[0]
            after = graph.after(after[0])

    for start in _with_wrappers(layer, network):
        yield chain(start)


def following_scale(
    layer: keras.layers.Layer, network: keras.layers.Layer
) -> keras.Variable | None:
    """Return the gamma of the BatchNormalization that scales the output channels of a layer, or None.

    The result is None if no BatchNormalization follows, if the graph branches before the BatchNormalization,
    if the graph is not known (subclassed networks), or if the BatchNormalization has no scale.
    """
    for chain in _chains_after(layer, network):
        for here in chain:
            if isinstance(here, keras.layers.BatchNormalization):
                rank = getattr(here.input_spec, "ndim", 0)
                last_axis = here.axis in (-1, rank - 1)
                return here.gamma if here.scale and last_axis else None
            if not isinstance(here, _KEEPS_CHANNELS):
                break
    return None


_ACTIVATIONS = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
    keras.layers.Softmax,
)


def following_activation(
    layer: keras.layers.Layer, network: keras.layers.Layer
) -> keras.layers.Layer:
    """Return the layer whose output is the activation of a layer's channels.

    It is the layer itself if it has an activation, or if no activation follows directly or after a batch
    normalization, or if the graph is not known (subclassed networks).
    """
    if getattr(layer, "activation", None) not in (None, keras.activations.linear):
        return layer
    for chain in _chains_after(layer, network):
        for here in chain:
            if isinstance(here, _ACTIVATIONS):
                return here
            if not isinstance(here, keras.layers.BatchNormalization):
                break
    return layer


def _has_kernel(entry: keras.Operation) -> bool:
    # The weights of these layers may have as many axes as a kernel, but they do not mix channels.
    if isinstance(entry, (*_KEEPS_CHANNELS, keras.layers.LayerNormalization)):
        return False
    return any(len(weight.shape) > 1 for weight in getattr(entry, "weights", ()))


def makes_output(layer: keras.layers.Layer, network: keras.layers.Layer) -> bool | None:
    """Return whether the channels of a layer are channels of the network's output, or None if not known.

    The result is True if no layer with a kernel is between the layer and the output. The graph is known for
    Sequential and functional networks only.
    """
    graph = _Graph(network)
    queue: list[keras.Operation] = [
        entry for entry in _with_wrappers(layer, network) if id(entry) in graph.known
    ]
    seen = {id(entry) for entry in queue}
    unknown = not queue
    while queue:
        for after in graph.after(queue.pop()):
            if after is network:
                return True
            if id(after) not in graph.known:
                unknown = True
            elif id(after) not in seen and not _has_kernel(after):
                seen.add(id(after))
                queue.append(after)
    return None if unknown else False
