"""Layers whose output before the activation is a linear function of a kernel and a bias."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from typing import Any, cast

import keras
import numpy as np

from keras_ganprune.backend.no_gradients import no_gradients
from keras_ganprune.backend.operations import ops
from keras_ganprune.layers.kernels import is_float, own_variables
from keras_ganprune.layers.prunable import PrunableLayer, weight_variable
from keras_ganprune.layers.tensors import to_numpy

# Class -> the kernel in which it is linear. A separable convolution is linear in either of its two kernels,
# but not in both together; the pointwise kernel has nearly all weights.
_KERNELS: dict[type, str] = {
    keras.layers.SeparableConv1D: "pointwise_kernel",
    keras.layers.SeparableConv2D: "pointwise_kernel",
    keras.layers.Dense: "kernel",
    keras.layers.EinsumDense: "kernel",
    keras.layers.Conv1D: "kernel",
    keras.layers.Conv2D: "kernel",
    keras.layers.Conv3D: "kernel",
    keras.layers.Conv1DTranspose: "kernel",
    keras.layers.Conv2DTranspose: "kernel",
    keras.layers.Conv3DTranspose: "kernel",
    keras.layers.DepthwiseConv1D: "kernel",
    keras.layers.DepthwiseConv2D: "kernel",
}
# Kernels whose last axis is not that of the output channels; see `LinearLayer.scaled`.
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
# Difference of two float32 results that are equal in exact arithmetic, as a share of their norm.
_ROUNDING = 1e-3

Vector = list[Any]
"""One tensor per solved variable: the kernel, and the bias if there is one."""


def kernel_of(layer: keras.layers.Layer) -> keras.Variable | None:
    """Return the kernel in which a layer may be linear, or None.

    Besides the layers of Keras with a kernel, any layer with one masked weight is tried; `is_linear` says
    whether it is linear.
    """
    name = next((name for cls, name in _KERNELS.items() if isinstance(layer, cls)), None)
    if name is None and isinstance(layer, PrunableLayer):
        names = [n for n in layer.pruned_weight_names if "." not in n]
        name = names[0] if len(names) == len(layer.pruned_weight_names) == 1 else None
    kernel = None if name is None else weight_variable(layer, name)
    return kernel if kernel is not None and is_float(kernel) else None


class LinearLayer:
    """A layer as the linear function y = A w of its kernel and bias, for given inputs.

    Everything is computed in float32 by the layer's own `call`, without its activation.

    Args:
        layer: Built layer with a kernel, see `kernel_of`.

    Attributes:
        layer: The layer.
        variables: The kernel, and the bias if there is one.
    """

    def __init__(self, layer: keras.layers.Layer):
        self.layer = layer
        kernel, bias = kernel_of(layer), weight_variable(layer, "bias")
        own = {id(v) for v in own_variables(layer)}
        self.variables: list[keras.Variable] = [
            v for v in (kernel, bias) if v is not None and id(v) in own
        ]
        name = keras.backend.backend()
        self._backend = importlib.import_module(f"keras_ganprune.backend._gradients_{name}")
        compiled = getattr(self._backend, "compiled_linear", None)
        self._compiled = None if compiled is None else compiled(self._with)

    def values(self) -> Vector:
        """Return the stored values in float32."""
        return [ops.cast(ops.convert_to_tensor(v), "float32") for v in self.variables]

    def outputs(self, x: Any, values: Sequence[Any] | None = None) -> Any:
        """Return the output before the activation.

        Args:
            x: Input of the layer.
            values: One value per variable. Defaults to None: those that are stored.
        """
        if self._compiled is not None:
            return self._compiled[0](self.values() if values is None else list(values), x)
        with no_gradients():
            return self._call(x) if values is None else self._with(values, x)

    def _with(self, values: Sequence[Any], x: Any) -> Any:
        pairs = list(zip(self.variables, values, strict=True))
        with keras.StatelessScope(state_mapping=pairs):
            return self._call(x)

    def gradient(self, x: Any, weights: Any) -> Vector:
        """Return the gradient of sum(weights * y) for each variable: A^T weights."""
        if self._compiled is not None:
            return self._compiled[1](self.values(), x, weights)
        found = self._backend.gradients(lambda: ops.sum(self._call(x) * weights), self.variables)
        return [
            ops.zeros(v.shape, "float32")
            if g is None
            else ops.cast(self._backend.dense(g), "float32")
            for g, v in zip(found, self.variables, strict=True)
        ]

    def squares(self, x: Any) -> Vector:
        """Return the diagonal of A^T A: the sum of the squares of what each weight is multiplied with."""
        if self.squares_are_exact:
            shape = ops.shape(self.outputs(x[:1]))
            ones = ops.ones((ops.shape(x)[0], *shape[1:]), "float32")
            return self.gradient(ops.square(ops.cast(x, "float32")), ones)
        # Hutchinson: the mean of (A^T v)^2 over random signs v. The mean over a variable varies little.
        rng, shape = np.random.default_rng(0), tuple(self.outputs(x).shape)
        signs = [rng.choice(np.array([-1, 1], "float32"), shape) for _ in range(4)]
        parts = [self.gradient(x, ops.convert_to_tensor(sign)) for sign in signs]
        return [
            ops.full(v.shape, float(np.mean([np.mean(np.square(to_numpy(p[i]))) for p in parts])))
            for i, v in enumerate(self.variables)
        ]

    @property
    def squares_are_exact(self) -> bool:
        """Whether each weight meets an output in one product with one entry of the input."""
        known = isinstance(self.layer, tuple(_KERNELS))
        return known and not isinstance(self.layer, _SEPARABLE)

    @property
    def channel_axis(self) -> int | None:
        """Axis of the output channels, or None if the layer has no such axis."""
        if isinstance(self.layer, keras.layers.EinsumDense) or not isinstance(
            self.layer, tuple(_KERNELS)
        ):
            return None
        first = getattr(self.layer, "data_format", None) == "channels_first"
        return 1 if first else -1

    def scaled(self, factors: np.ndarray, shift: np.ndarray) -> Vector:
        """Return the kernel (and bias) that give `factors * y + shift`, one number per output channel.

        Without a bias the shift is left out.
        """
        kernel, *biases = [to_numpy(v) for v in self.variables]
        if isinstance(self.layer, _TRANSPOSED):
            by_axis = factors[:, None]
        elif isinstance(self.layer, _DEPTHWISE):
            by_axis = factors.reshape(kernel.shape[-2:])
        else:
            by_axis = factors
        scaled = [kernel * by_axis, *(bias * factors + shift for bias in biases)]
        return [ops.convert_to_tensor(value.astype("float32")) for value in scaled]

    def reached(self, x: Any, keeps: Sequence[Any]) -> Any:
        """Return float 1 for each output of one sample that a kept weight contributes to, otherwise 0."""
        kept = [ops.cast(keep, "float32") for keep in keeps]
        if isinstance(self.layer, _SEPARABLE):
            # Its depthwise kernel has signs. The last axes of the pointwise kernel are (in, out).
            axis = cast(int, self.channel_axis)
            used = ops.max(ops.reshape(kept[0], (-1, kept[0].shape[-1])), axis=0)
            used = used if len(kept) == 1 else ops.maximum(used, kept[1])
            outputs = self.outputs(x[:1])
            shape = [1] * len(outputs.shape)
            shape[axis] = -1
            return ops.ones_like(outputs) * ops.reshape(used, shape)
        if not self.squares_are_exact:
            return ops.ones_like(self.outputs(x[:1]))
        return ops.cast(self.outputs(ops.ones_like(x[:1]), kept) > 0, "float32")

    def is_linear(self, x: Any) -> bool:
        """Return whether the layer really is linear: no class says so of a subclass."""
        rng = np.random.default_rng(0)
        first, second = (
            [
                ops.convert_to_tensor(rng.normal(size=v.shape).astype("float32"))
                for v in self.variables
            ]
            for _ in range(2)
        )
        both = [2.0 * a - b for a, b in zip(first, second, strict=True)]
        found, a, b = (to_numpy(self.outputs(x, values)) for values in (both, first, second))
        error = float(np.linalg.norm(found - (2.0 * a - b)))
        return error <= _ROUNDING * float(np.linalg.norm(a) + np.linalg.norm(b))

    def _call(self, x: Any) -> Any:
        # Not `__call__`, which casts to the compute type of a mixed policy and masks.
        with _without_activation(self.layer):
            outputs = self.layer.call(ops.cast(x, "float32"))
        return ops.cast(outputs, "float32")


@contextlib.contextmanager
def _without_activation(layer: keras.layers.Layer) -> Iterator[None]:
    """Within the context, the activation of a layer is linear.

    It is set past Keras's and PyTorch's attribute tracking: an activation may be a layer.
    """
    if not callable(getattr(layer, "activation", None)):
        yield
        return
    attributes = cast("dict[str, Any]", vars(layer))
    before = attributes.get("activation")
    attributes["activation"] = keras.activations.linear
    try:
        yield
    finally:
        del attributes["activation"]
        if before is not None:
            attributes["activation"] = before
