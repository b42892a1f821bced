"""What a network costs, as a function of which of its channels stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.layers.traversal import walk
from keras_ganprune.pruning.structured.graph import Call, _own_variables
from keras_ganprune.pruning.structured.groups import Groups
from keras_ganprune.pruning.structured.rules.macs import Products, Size, counted


@dataclass(frozen=True)
class LayerCost:
    """A row of `Costs.rows`.

    Attributes:
        layer: Path of the layer, or name of the operation.
        kind: Name of its class.
        shape: Of its first output, with the batch first; None if the layer is never called.
        parameters: Int, weights that no row above has.
        macs: Int for one sample, all calls together; None if that is not known.
        weights: The variables that are counted in this row.
    """

    layer: str
    kind: str
    shape: tuple[int | None, ...] | None
    parameters: int
    macs: int | None
    weights: tuple[keras.Variable, ...] = field(default=(), repr=False, compare=False)


def item_bytes(variable: keras.Variable) -> int:
    """Return how many bytes an entry of a variable takes."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    if dtype == "bfloat16" or dtype.startswith("float8"):  # unknown to NumPy
        return 2 if dtype == "bfloat16" else 1
    return np.dtype(dtype).itemsize


@dataclass(eq=False)
class _Row:
    path: str
    layer: keras.Operation
    shape: list[Any] | None
    weights: list[keras.Variable]
    products: list[Size] = field(default_factory=list)


def _table(terms: list[tuple[int, int, tuple[int, ...]]]) -> tuple[np.ndarray, ...]:
    """Return the rows, constants and axes (filled up with axis 0) of terms as arrays."""
    index = np.zeros(
        (len(terms), max((len(axes) for *_, axes in terms), default=0)), dtype=np.int64
    )
    for place, (_, _, axes) in enumerate(terms):
        index[place, : len(axes)] = axes
    numbers, constants = (np.array([t[i] for t in terms], dtype=np.int64) for i in (0, 1))
    return numbers, constants, index


class _Axes:
    """How many places of each axis stay, as a linear function of how many units of each kind do.

    Units of a group are of one kind if they have equally many places in each axis; nearly always all are.
    """

    def __init__(self, groups: Groups):
        self.units = groups.channels.units
        self.unit_of = np.full(len(self.units), -1)
        classes = [group.classes for group in groups] or [np.zeros(0, dtype=np.int64)]
        self.kinds = np.repeat(np.arange(len(groups)), [group.size for group in groups])
        self.unit_of[np.concatenate(classes)] = np.arange(len(self.kinds))
        # Axis 0 is always of length one: products of fewer axes than others are filled up with it.
        self.found: dict[tuple, int] = {(1, b"", b""): 0}

    def split(self, size: Size) -> tuple[int, tuple[int, ...]]:
        """Return a product as a constant and the numbers of the axes that channels can go from."""
        constant, axes = 1, []
        for part in size:
            if not isinstance(part, np.ndarray):
                constant *= int(part)
                continue
            units = self.unit_of[self.units.find(part)]
            which, times = np.unique(units[units >= 0], return_counts=True)
            rest = len(units) - int(times.sum())
            if which.size:
                key = (rest, which.tobytes(), times.tobytes())
                axes.append(self.found.setdefault(key, len(self.found)))
            else:
                constant *= rest
        return constant, tuple(axes)

    def finish(self) -> None:
        rows = [
            (rest, np.frombuffer(which, dtype=np.int64), np.frombuffer(times, dtype=np.int64))
            for rest, which, times in self.found
        ]
        for _, which, times in rows:
            own = np.zeros(len(self.kinds), dtype=np.int64)
            own[which] = times
            self.kinds = np.unique(
                self.kinds * (own.max(initial=0) + 1) + own, return_inverse=True
            )[1]
        _, first = np.unique(self.kinds, return_index=True)
        self.kind_count = len(first)
        self.constant = np.array([rest for rest, _, _ in rows], dtype=np.int64)
        self.slope = np.zeros((len(rows), len(first)), dtype=np.int64)
        for row, (_, which, times) in enumerate(rows):
            own = np.zeros(len(self.kinds), dtype=np.int64)
            own[which] = times
            self.slope[row] = own[first]

    def lengths(self, counts: np.ndarray) -> np.ndarray:
        """Return how many places of each axis stay; for a matrix, in columns."""
        constant = self.constant if counts.ndim == 1 else self.constant[:, None]
        return self.slope @ counts + constant


Keeps = Sequence[Any] | None


class Costs:
    """Multiply-accumulates, parameters and bytes of a network without some of its channels.

    One multiply-accumulate (MAC) is one product of a kernel's entry that is added up, for one sample;
    twice as many FLOPs. Counted are layers with kernels (a transposed convolution has as many as its
    *input* has positions), attention, and products of tensors (`ops.matmul`, `ops.einsum`). Biases,
    activations, normalizations, pooling and other work entry by entry count as 0: at inference they fuse
    with a kernel, or take next to no time beside it. What is not known is in `uncounted`.

    Nothing is built to find out: a cost takes microseconds, so that thousands of cuts can be compared.

    Args:
        groups: From `channel_groups`.

    Attributes:
        uncounted: Dict, path of a layer whose MACs are not known -> why.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((8, 8, 3)), keras.layers.Conv2D(10, 3), keras.layers.Conv2D(1, 3)]
    ... )
    >>> costs = Costs(channel_groups(model))
    >>> costs.macs(), 6 * 6 * 3 * 3 * 3 * 10 + 4 * 4 * 3 * 3 * 10 * 1
    (11160, 11160)
    >>> costs.macs([5]), costs.parameters([5]), costs.bytes([5])
    (5580, 186, 744)
    """

    QUANTITIES = ("macs", "parameters", "bytes")

    def __init__(self, groups: Groups):
        self.groups = groups
        self.uncounted: dict[str, str] = {}
        self._unknown: list[str] = []
        self._axes = _Axes(groups)
        calls, self._batch = counted(groups.graph, groups.channels)
        self._rows = self._sort(calls)
        terms: dict[str, list[tuple[int, int, tuple[int, ...]]]] = {q: [] for q in self.QUANTITIES}
        for number, row in enumerate(self._rows):
            for product in row.products:
                if any(part is None for part in product):
                    self._unknown.append(row.path)
                else:
                    terms["macs"].append((number, *self._axes.split(product)))
            for w in row.weights:
                labels = [groups.channels.labels_of(w, axis) for axis in range(len(w.shape))]
                size = [n if own is None else own for n, own in zip(w.shape, labels, strict=True)]
                constant, axes = self._axes.split(size)
                terms["parameters"].append((number, constant, axes))
                terms["bytes"].append((number, constant * item_bytes(w), axes))
        self._axes.finish()
        self._terms = {quantity: _table(found) for quantity, found in terms.items()}

    def _sort(self, calls: list[tuple[Call, Products]]) -> list[_Row]:
        """Return rows of layers: calls of one are together, a weight is in the first that has it."""
        rows: dict[int, _Row] = {}
        claimed: set[int] = set()

        def claim(weights: Sequence[keras.Variable]) -> list[keras.Variable]:
            own = list({id(w): w for w in weights if id(w) not in claimed}.values())
            claimed.update(id(w) for w in own)
            return own

        for call, products in calls:
            layer = call.operation
            row = rows.get(id(layer))
            if row is None:
                weights = claim(getattr(layer, "weights", []))
                row = rows[id(layer)] = _Row(call.path, layer, self._shape(call), weights)
            row.products += products or []
            if products is None:
                self.uncounted[call.path] = call.opaque or f"no rule for {type(layer).__name__}"
        for path, layer in walk(self.groups.graph.model):
            left = claim(_own_variables(layer))
            if left:
                rows[id(layer)] = _Row(path, layer, None, left)
        is_layer = keras.layers.Layer
        return [r for r in rows.values() if r.products or isinstance(r.layer, is_layer)]

    def _shape(self, call: Call) -> list[Any] | None:
        """Return the shape of the first output; what channels can go from as constants and axes."""
        if not call.outputs:
            return None
        axes = self.groups.channels.axes.get(id(call.outputs[0]))
        if axes is None:
            return list(call.outputs[0].shape)
        return [
            n if labels is None else self._axes.split([labels])
            for n, labels in zip(axes.shape, axes.labels, strict=True)
        ]

    @property
    def kind_count(self) -> int:
        """How many kinds of units there are; see `counts`."""
        return self._axes.kind_count

    def kinds(self) -> list[np.ndarray]:
        """Return the kind of each unit of each group: those of one kind cost the same."""
        ends = np.cumsum([group.size for group in self.groups])
        return np.split(self._axes.kinds, ends)[: len(self.groups)]

    # --- of a cut --------------------------------------------------------------------------------

    def counts(self, keeps: Keeps = None) -> np.ndarray:
        """Return how many units of each kind stay: what `at` takes."""
        found = np.zeros(self.kind_count, dtype=np.int64)
        if keeps is None:
            return np.bincount(self._axes.kinds, minlength=len(found))
        if len(keeps) != len(self.groups):
            raise InvalidArgumentError(
                f"`keeps` must have an entry for each of the {len(self.groups)} groups. "
                f"Received: {len(keeps)}."
            )
        for group, keep, own in zip(self.groups, keeps, self.kinds(), strict=True):
            if isinstance(keep, (int, np.integer)) and not isinstance(keep, (bool, np.bool_)):
                if not 0 <= keep <= group.size or own.min() != own.max():
                    raise InvalidArgumentError(
                        f"Of '{group.name}' an int from 0 to {group.size} may be given, if all its channels "
                        f"cost the same; else a bool array. Received: {keep}."
                    )
                found[own[0]] += int(keep)
                continue
            keep = np.asarray(keep)
            if keep.shape != (group.size,) or keep.dtype != bool:
                raise InvalidArgumentError(
                    f"What stays of '{group.name}' must be an int or a bool array of shape "
                    f"({group.size},). Received: {keep.dtype} of shape {keep.shape}."
                )
            found += np.bincount(own[keep], minlength=len(found))
        return found

    def at(self, quantity: str, counts: np.ndarray) -> Any:
        """Return a cost by `counts`; of a matrix of them, one for each column."""
        terms = self._checked(quantity)
        return terms[1] @ self._values(terms, counts) // (self._batch if quantity == "macs" else 1)

    def _checked(self, quantity: str) -> tuple:
        if quantity not in self._terms:
            raise InvalidArgumentError(unknown_name("quantity", quantity, self.QUANTITIES))
        if quantity == "macs" and self._unknown:
            raise InvalidArgumentError(
                "MACs can only be counted where all sizes are known. Not known at "
                f"'{self._unknown[0]}' of '{self.groups.graph.model.name}'. Give a model with known sizes, "
                "such as `keras.models.clone_model(model, input_tensors=keras.Input((64, 64, 3)))`."
            )
        return self._terms[quantity]

    def _values(self, terms: tuple, counts: np.ndarray) -> np.ndarray:
        return np.prod(self._axes.lengths(counts)[terms[2]], axis=1)

    def of(self, quantity: str, keeps: Keeps = None) -> int:
        """Return one cost: 'macs', 'parameters' or 'bytes'.

        Args:
            quantity: Which.
            keeps: For each group a bool array, or an int, how many of its units stay; None for all.

        Raises:
            InvalidArgumentError: `keeps` does not fit, or MACs depend on sizes that are not known.
        """
        return int(self.at(quantity, self.counts(keeps)))

    def macs(self, keeps: Keeps = None) -> int:
        """Return multiply-accumulates for one sample."""
        return self.of("macs", keeps)

    def parameters(self, keeps: Keeps = None) -> int:
        """Return the number of entries of all weights, also of those that are not trained."""
        return self.of("parameters", keeps)

    def bytes(self, keeps: Keeps = None) -> int:
        """Return the bytes of all weights, by their data types."""
        return self.of("bytes", keeps)

    def rows(self, keeps: Keeps = None) -> list[LayerCost]:
        """Return a `LayerCost` for each layer, in the order of calls, and for each product of tensors.

        Where sizes are not known, `macs` is None.
        """
        counts = self.counts(keeps)
        sums = {}
        for quantity in ("macs", "parameters"):
            number, constant, _ = terms = self._terms[quantity]
            sums[quantity] = np.zeros(len(self._rows), dtype=np.int64)
            np.add.at(sums[quantity], number, constant * self._values(terms, counts))
        blind = {*self.uncounted, *self._unknown}
        lengths = self._axes.lengths(counts)

        def shape(n: Any) -> int | None:
            return n[0] * int(np.prod(lengths[list(n[1])])) if isinstance(n, tuple) else n

        return [
            LayerCost(
                row.path,
                type(row.layer).__name__,
                None if row.shape is None else tuple(shape(n) for n in row.shape),
                int(sums["parameters"][i]),
                None if row.path in blind else int(sums["macs"][i]) // self._batch,
                tuple(row.weights),
            )
            for i, row in enumerate(self._rows)
        ]
