"""Scores by synaptic flow, for pruning before training, without data."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune.errors import DivergedError, InvalidArgumentError
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import MaskedWeight, walk
from keras_ganprune.pruning.criteria.base import Criterion, family, require_gradient

# A deep network of absolute values may exceed the range of float32; its flow is linear in the input.
_INPUT_SCALES = (1.0, 1e-20)


@family.register
class SynFlow(Criterion):
    """Synaptic flow: the share of a weight in the flow through a network of absolute weights.

        score = |w| dR/d|w|,   R = sum of the outputs for an input of ones

    R is the output of the network in which every weight is |w|, biases and batch means are zero, and
    activations are the identity. The sum of the scores is the same for every layer, so a global ranking
    empties no layer, if it is made in many rounds. No data and no training are needed:

        pruner = kgp.Pruner(model, criterion="synflow", allocation="global_ranking")
        for round in range(1, 101):
            pruner.update(sparsity=1 - (1 - 0.9) ** (round / 100))

    or `Prune(Exponential(0.9, 0, 100), frequency=1, ...)` in `fit`. In one round, it empties whole layers
    like other criteria.

    Raises: in use:
        InvalidArgumentError: The shape of an input is not known, apart from the batch axis.
        DivergedError: The flow exceeds the range of float32.

    Example:
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    >>> model.set_weights([np.array([[1.0, 2.0]]), np.zeros(2), np.array([[-3.0], [1.0]]), np.zeros(1)])
    >>> pruner = kgp.Pruner(model, criterion="synflow", allocation="global_ranking")
    >>> report = pruner.update(sparsity=0.5)
    >>> [np.array(w).tolist() for w in model.get_weights()[::2]]
    [[[1.0, 0.0]], [[-3.0], [0.0]]]

    Reference:
        [Pruning neural networks without any data by iteratively conserving synaptic
        flow](https://arxiv.org/abs/2006.05467), Eq. 2 and Algorithm 1.
    """

    measures = True

    def measure(
        self,
        networks: Sequence[keras.layers.Layer],
        weights: Sequence[MaskedWeight],
        calibration: Sequence[Any] | None,
    ) -> list[Any]:
        """Return dR/d|w| for each weight."""
        found: dict[int, np.ndarray] = {}
        for network in networks:
            variables = {id(v): v for v in network.weights}
            own = [w for w in weights if id(w.variable) in variables]
            ones = _ones(network)
            for scale in _INPUT_SCALES:
                slopes = _flow(network, own, [x * scale for x in ones])
                if all(np.isfinite(slope).all() for slope in slopes):
                    break
            else:
                raise DivergedError(
                    f"The synaptic flow of '{network.name}' exceeds the range of float32. Prune it by "
                    "another criterion, such as 'magnitude', or initialise it with smaller weights."
                )
            found |= {id(w.variable): slope for w, slope in zip(own, slopes, strict=True)}
        return [found[id(w.variable)] for w in weights]

    def score(self, weight: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Return |w| dR/d|w|.

        Raises:
            InvalidArgumentError: Nothing was measured.
        """
        return np.abs(weight) * require_gradient(self, gradient)


def _ones(network: Any) -> list[np.ndarray]:
    """Return one sample of ones per input."""
    inputs = getattr(network, "inputs", None) or []
    shapes = [tuple(x.shape[1:]) for x in inputs]
    types = [keras.backend.standardize_dtype(x.dtype) for x in inputs]
    if not shapes:  # a subclassed network knows the shape that it was built with, of one input
        built = (network.get_build_config() or {}).get("input_shape")
        if isinstance(built, (list, tuple)) and built and not isinstance(built[-1], (list, tuple)):
            shapes, types = [tuple(built[1:])], [network.compute_dtype]
    if not shapes or any(size is None for shape in shapes for size in shape):
        raise InvalidArgumentError(
            f"'synflow' needs the shape of the inputs of '{network.name}'. Received: "
            f"{shapes or 'a subclassed network with several inputs'}. Give the network inputs of fixed "
            "shapes (`keras.Input`), or use another criterion, such as 'magnitude'."
        )
    return [
        np.ones((1, *shape), dtype="float32" if "float" in kind else kind)
        for kind, shape in zip(types, shapes, strict=True)
    ]


def _flow(
    network: Any, weights: Sequence[MaskedWeight], inputs: list[np.ndarray]
) -> list[np.ndarray]:
    """Return dR/d|w| for weights of a network."""
    backend = importlib.import_module(
        f"keras_ganprune.backend._gradients_{keras.backend.backend()}"
    )

    def flow() -> Any:
        outputs: list[Any] = keras.tree.flatten(
            network(inputs[0] if len(inputs) == 1 else inputs, training=False)
        )
        sums: list[Any] = [ops.sum(ops.cast(x, "float32")) for x in outputs]
        return sum(sums)

    with _absolute(network):
        slopes = backend.gradients(flow, [w.variable for w in weights])
        return [
            np.zeros(tuple(w.mask.shape), np.float32)
            if slope is None
            else np.abs(np.asarray(to_numpy(backend.dense(slope)), dtype=np.float64))
            for w, slope in zip(weights, slopes, strict=True)
        ]


@contextlib.contextmanager
def _absolute(network: Any) -> Iterator[None]:
    """Within the context, weights are absolute, biases and means are zero, activations are linear."""
    floats = [v for v in network.weights if "float" in keras.backend.standardize_dtype(v.dtype)]
    before = [(v, np.array(to_numpy(v))) for v in floats]
    zero = ("bias", "beta", "moving_mean", "mean")
    activations = [
        (layer, layer.activation)
        for _, layer in walk(network)
        if callable(getattr(layer, "activation", None))
    ]
    try:
        for variable, value in before:
            # The guard of a masked weight keeps its pruned entries at zero.
            variable.assign(np.zeros_like(value) if variable.name in zero else np.abs(value))
        for layer, _ in activations:
            object.__setattr__(layer, "activation", keras.activations.linear)
        yield
    finally:
        for layer, activation in activations:
            object.__setattr__(layer, "activation", activation)
        for variable, value in before:
            variable.assign(value)
