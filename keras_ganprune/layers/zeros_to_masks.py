"""Take the zeros of a model over into masks, when its zeros have come without them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.layers.kernel_axes import kernel_axes
from keras_ganprune.layers.prunable import PrunableLayer, is_scale_holder, weight_variable
from keras_ganprune.layers.scope import Scope
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import masked_weights, walk
from keras_ganprune.layers.upgrade import add_masks, upgrade_layers
from keras_ganprune.utils import tables
from keras_ganprune.utils.notebook import Block, ShownInNotebooks, TableBlock


@dataclass(frozen=True)
class ZerosTaken(ShownInNotebooks):
    """What `masks_from_zeros` has found. It can be iterated over (rows) and printed.

    Attributes:
        rows: Tuple with (path of the weight, entries that its mask keeps now, entries) for each weight that
            has a mask.
        untouched: Tuple of the paths of weights whose entries are all zero. Pruning keeps at least one entry
            of a weight, so their masks were not changed.
    """

    rows: tuple[tuple[str, int, int], ...]
    untouched: tuple[str, ...] = ()

    @property
    def kept(self) -> int:
        """Number of entries that the masks keep."""
        return sum(kept for _, kept, _ in self.rows)

    @property
    def total(self) -> int:
        """Number of entries of all masked weights."""
        return sum(total for _, _, total in self.rows)

    @property
    def sparsity(self) -> float:
        """Sparsity over all masked weights together; 0 if there are none."""
        return 1.0 - self.kept / self.total if self.rows else 0.0

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def table(self) -> list[tuple[str, ...]]:
        """Return the cells as text, header first and total last."""
        cells = [("weight", "kept", "total", "sparsity")]
        for path, kept, total in (*self.rows, ("total", self.kept, self.total)):
            share = 1.0 - kept / total if total else 0.0
            cells.append((path, f"{kept:,}", f"{total:,}", f"{share:.4f}"))
        return cells

    def _notes(self) -> list[str]:
        named = ", ".join(self.untouched)
        return [f"All zero, so not masked: {named}."] if self.untouched else []

    def _blocks(self) -> list[Block]:
        return [TableBlock(self.table(), total=True), *self._notes()]

    def __str__(self) -> str:
        return "\n".join([tables.text(self.table(), total=True), *self._notes()])

    __repr__ = __str__


def masks_from_zeros(model: keras.layers.Layer, scope: Scope | None = None) -> ZerosTaken:
    """Give a model masks for the weights that are exactly zero. Plain layers become Prunable, in place.

    Use it for a model whose zeros came without their masks: a stripped model, a clone with `set_weights`, a
    legacy `.h5` file, or a file that was read by a plain model. From then on the zeros hold. The outputs stay
    the same. Masks that exist already keep what they prune.

    If a kernel has lost whole channels and nothing else, the zeros of its bias in these channels are masked
    too, and so are the zeros that gamma and beta of a normalization layer have in common: whole channels are
    pruned together with their biases and scales.

    Args:
        model: Built Keras model or layer.
        scope: Which layers: a layer class, a name or path (`*` matches anything), a compiled regular
            expression, a layer, a function of a layer, or a list of these. Defaults to None (all layers).

    Returns:
        A `ZerosTaken` with the entries that each mask keeps.

    Raises:
        ArgumentTypeError: `model` is not a Keras 3 model or layer, or `scope` has another type.
        UnbuiltModelError: The model, or a layer that could be pruned, has no weights yet.
        UnsupportedLayerError: No layer of the model can be pruned, or a layer in scope is quantized or has
            LoRA.
        InvalidArgumentError: An entry of `scope` matches no layer.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, name="head")])
    >>> report = Pruner(model).update(sparsity=0.5)
    >>> copy = keras.models.clone_model(model)
    >>> copy.set_weights(model.get_weights())
    >>> print(masks_from_zeros(copy))
    weight       kept  total  sparsity
    ──────────────────────────────────
    head/kernel    10     20    0.5000
    ──────────────────────────────────
    total          10     20    0.5000
    """
    upgrade_layers(model, scope)
    untouched = []
    kernels = [w for w in masked_weights(model, scope=scope) if _is_kernel(w)]
    for weight in kernels:
        values = to_numpy(weight.variable)
        if not values.any():
            untouched.append(weight.path)
            continue
        weight.mask.assign(to_numpy(weight.mask) & (values != 0))
    layers = {id(weight.layer): weight.layer for weight in kernels}
    for layer in layers.values():
        _mask_bias(layer)
    if scope is None:
        for _, layer in walk(model):
            if is_scale_holder(layer) and layer.built:
                _mask_scales(layer)
    rows = tuple(
        (weight.path, int(np.count_nonzero(to_numpy(weight.mask))), int(np.prod(weight.mask.shape)))
        for weight in masked_weights(model)
    )
    return ZerosTaken(rows, tuple(untouched))


def _is_kernel(weight: Any) -> bool:
    return weight.name in weight.layer.pruned_weight_names


def _mask_bias(layer: PrunableLayer) -> None:
    """Mask the zeros of the bias in pruned output channels, if the kernel has lost whole channels only."""
    names, bias = layer.pruned_weight_names, weight_variable(layer, "bias")
    if bias is None or len(names) != 1 or "." in names[0]:
        return
    kernel = to_numpy(layer.pruning_masks.masks[names[0]]) if layer.pruning_masks.masks else None
    outputs = kernel_axes(layer, names[0]).outputs
    if kernel is None or len(outputs) != 1:
        return
    columns: Any = np.moveaxis(kernel, outputs[0], -1).reshape(-1, kernel.shape[outputs[0]])
    alive, rows = columns.any(axis=0), columns.any(axis=1)
    if alive.shape == tuple(bias.shape) and np.array_equal(columns, rows[:, None] & alive):
        _mask(layer, {"bias": ~alive & (to_numpy(bias) == 0)})


def _mask_scales(layer: keras.layers.Layer) -> None:
    """Mask the entries of a normalization layer whose gamma and beta are both zero."""
    variables = {name: weight_variable(layer, name) for name in ("gamma", "beta")}
    zeros: dict[str, Any] = {
        name: to_numpy(v) == 0 for name, v in variables.items() if v is not None
    }
    if "gamma" not in zeros or zeros["gamma"].all():
        return
    both: np.ndarray = np.logical_and.reduce(list(zeros.values()))
    _mask(layer, dict.fromkeys(zeros, both))


def _mask(layer: Any, zeros: dict[str, np.ndarray]) -> None:
    found = {name: array for name, array in zeros.items() if array.any()}
    try:
        add_masks(layer, list(found)) if found else None
    except UnsupportedLayerError:
        return  # The layer shares its masks with another one, so it has none of its own for a bias.
    for name, array in found.items():
        mask = layer.pruning_masks.masks[name]
        mask.assign(to_numpy(mask) & ~array)
