"""What stands behind a layer in its network: a batch normalization, or the network's output."""

from __future__ import annotations

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
    """Who takes whose output in a network, through models nested in it.

    Private touch: the nodes of an operation are the only record of the graph, and a Sequential keeps its
    own in `_functional`. An operation may be called in several graphs; only those of `network` count.
    Activations called as functions are operations too, though not layers.
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
        """Return what takes an output; the network itself where it is the network's output.

        A nested model that no graph calls stands for whatever its caller does with its output.
        """
        found = {
            id(node.operation): node.operation
            for node in getattr(entry, "_outbound_nodes", ())
            if id(node.operation) in self.known
        }
        for model, graph in self.parts:
            if any(tensor._keras_history.operation is entry for tensor in graph.outputs):
                called = model is not self.network and id(model) in self.known
                found |= {id(o): o for o in (self.after(model) if called else [model])}
        return list(found.values())


def _holders(layer: keras.layers.Layer, network: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return the layer, then the wrappers around it (SpectralNormalization and the like), if any."""
    found = [layer]
    for held in found:  # which grows: a wrapper may be wrapped
        found += [
            other
            for other in network._flatten_layers()
            if isinstance(other, keras.layers.Wrapper) and other.layer is held
        ]
    return found


def following_scale(
    layer: keras.layers.Layer, network: keras.layers.Layer
) -> keras.Variable | None:
    """Return the gamma of the BatchNormalization that alone takes a layer's output, or None.

    None too where the graph is not known (subclassed networks), branches, or has no scale.
    """
    graph = _Graph(network)
    for start in _holders(layer, network):
        here = start
        while True:
            after = graph.after(here)
            if len(after) != 1:
                break
            here = after[0]
            if isinstance(here, keras.layers.BatchNormalization):
                last_axis = here.axis in (-1, here.input_spec.ndim - 1)
                return here.gamma if here.scale and last_axis else None
            if not isinstance(here, _KEEPS_CHANNELS):
                break
    return None


def _has_kernel(entry: keras.Operation) -> bool:
    # The scales of these may have as many axes as a kernel, yet mix no channels.
    if isinstance(entry, (*_KEEPS_CHANNELS, keras.layers.LayerNormalization)):
        return False
    return any(len(weight.shape) > 1 for weight in getattr(entry, "weights", ()))


def makes_output(layer: keras.layers.Layer, network: keras.layers.Layer) -> bool | None:
    """Return whether a layer's channels are those of the network's output; None if that is not known.

    They are if no layer with a kernel stands between. Only Sequential and functional networks tell.
    """
    graph = _Graph(network)
    waiting = [entry for entry in _holders(layer, network) if id(entry) in graph.known]
    seen = {id(entry) for entry in waiting}
    unknown = not waiting
    while waiting:
        for after in graph.after(waiting.pop()):
            if after is network:
                return True
            if id(after) not in graph.known:
                unknown = True
            elif id(after) not in seen and not _has_kernel(after):
                seen.add(id(after))
                waiting.append(after)
    return None if unknown else False
