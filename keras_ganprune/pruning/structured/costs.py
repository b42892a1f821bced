"""The cost of a network as a function of which channels stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.layers.traversal import walk
from keras_ganprune.pruning.structured.graph import Call, untied_variables
from keras_ganprune.pruning.structured.groups import Groups
from keras_ganprune.pruning.structured.rules.macs import Products, Size, count_macs
from keras_ganprune.utils import annotated, validation


@dataclass(frozen=True)
class LayerCost:
    """A row of `Costs.rows`.

    Attributes:
        layer: Path of the layer, or name of the operation.
        kind: Name of its class.
        shape: Shape of its first output, with the batch first; None if the layer is never called.
        parameters: Int, number of entries of the weights that no row above has.
        macs: Int, multiply-accumulates for one sample in all calls; None if they are not known.
        weights: The variables that are counted in this row.
    """

    layer: str
    kind: str
    shape: tuple[int | None, ...] | None
    parameters: int
    macs: int | None
    weights: tuple[keras.Variable, ...] = field(default=(), repr=False, compare=False)


def item_bytes(variable: keras.Variable) -> int:
    """Return the bytes of one entry of a variable."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    if dtype == "bfloat16" or dtype.startswith("float8"):  # unknown to NumPy
        return 2 if dtype == "bfloat16" else 1
    return np.dtype(dtype).itemsize


@dataclass(eq=False)
class _Row:
    """A layer with all its calls. A product of sizes is a number of multiply-accumulates."""

    path: str
    layer: keras.Operation
    shape: list[Any] | None
    weights: list[keras.Variable]
    products: list[Size] = field(default_factory=list)


# A sum of products: for each product the number of its row, a constant factor, and its axes.
_Terms = tuple[np.ndarray, np.ndarray, np.ndarray]


def _terms(products: list[tuple[int, int, tuple[int, ...]]]) -> _Terms:
    """Return products as arrays: rows, constants, and axes filled up with axis 0, of length one."""
    most = max((len(axes) for *_, axes in products), default=0)
    index = np.zeros((len(products), most), dtype=np.int64)
    for place, (_, _, axes) in enumerate(products):
        index[place, : len(axes)] = axes
    rows, constants = (np.array([p[i] for p in products], dtype=np.int64) for i in (0, 1))
    return rows, constants, index


class _AxisLengths:
    """The length of each axis as a linear function of how many units of each kind stay.

    Units of a group are of one kind if they have equally many positions in each axis. Nearly always all
    units of a group are of one kind.
    """

    def __init__(self, groups: Groups):
        self.units = groups.channels.units
        self.unit_of = np.full(len(self.units), -1)
        classes = [group.classes for group in groups] or [np.zeros(0, dtype=np.int64)]
        self.kinds = np.repeat(np.arange(len(groups)), [group.size for group in groups])
        self.unit_of[np.concatenate(classes)] = np.arange(len(self.kinds))
        # Number of each axis by its content: (positions that always stay, units, positions of each).
        # Axis 0 always has the length one.
        self.axes: dict[tuple[int, bytes, bytes], int] = {(1, b"", b""): 0}

    def split(self, size: Size) -> tuple[int, tuple[int, ...]]:
        """Return a product of sizes as a constant factor and the numbers of the axes that can be cut."""
        constant, axes = 1, []
        for part in size:
            if not isinstance(part, np.ndarray):
                constant *= int(part)
                continue
            units = self.unit_of[self.units.find(part)]
            members, times = np.unique(units[units >= 0], return_counts=True)
            rest = len(units) - int(times.sum())
            if members.size:
                key = (rest, members.tobytes(), times.tobytes())
                axes.append(self.axes.setdefault(key, len(self.axes)))
            else:
                constant *= rest
        return constant, tuple(axes)

    def finish(self) -> None:
        """Compute the kinds and the linear function, after all axes were passed to `split`."""

        def positions(members: bytes, times: bytes) -> np.ndarray:
            row = np.zeros(len(self.kinds), dtype=np.int64)
            row[np.frombuffer(members, dtype=np.int64)] = np.frombuffer(times, dtype=np.int64)
            return row

        for _, members, times in self.axes:
            row = positions(members, times)
            numbers = self.kinds * (row.max(initial=0) + 1) + row
            self.kinds = np.unique(numbers, return_inverse=True)[1]
        _, first = np.unique(self.kinds, return_index=True)
        self.kind_count = len(first)
        self.constant = np.array([rest for rest, _, _ in self.axes], dtype=np.int64)
        # Only one row at a time has all units: a large network has many axes and many units.
        self.slope = np.array([positions(*axis[1:])[first] for axis in self.axes])

    def lengths(self, counts: np.ndarray) -> np.ndarray:
        """Return the length of each axis; for a matrix of counts, one column for each column."""
        constant = self.constant if counts.ndim == 1 else self.constant[:, None]
        return self.slope @ counts + constant


# For each group a bool array (True = stays) or an int, how many units stay. None: all stay.
Keeps = Sequence["np.ndarray | int"] | None


class Costs:
    """Multiply-accumulates, parameters and bytes of a network without some of its channels.

    One multiply-accumulate (MAC) is one product with an entry of a kernel and one addition, that is, two
    FLOPs. Three kinds of work are counted: layers with kernels (a transposed convolution: the size of
    the kernel times the positions of its *input*), attention, and products of tensors (`ops.matmul`,
    `ops.einsum`). Biases, activations, normalizations, pooling and other elementwise work count as 0:
    at inference they are fused with a kernel, or take little time beside it. Layers whose MACs are not
    known are listed in `uncounted`.

    No network is built: a cost takes microseconds, so that thousands of cuts can be compared.

    Args:
        groups: `Groups` from `channel_groups`.

    Attributes:
        groups: The argument.
        uncounted: Dict, path of a layer whose MACs are not known -> the reason.
        uncounted_layers: Dict, path of a layer whose MACs are not known -> the name of its class.

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
        annotated.check(Costs.__init__, locals())
        self.groups = groups
        self.uncounted: dict[str, str] = {}
        self.uncounted_layers: dict[str, str] = {}
        self._unknown: list[str] = []  # paths of calls with sizes that are not known
        self._axes = _AxisLengths(groups)
        calls, self._batch = count_macs(groups.graph, groups.channels)
        self._rows = self._sort(calls)
        products: dict[str, list] = {quantity: [] for quantity in self.QUANTITIES}
        for number, row in enumerate(self._rows):
            for product in row.products:
                if any(part is None for part in product):
                    self._unknown.append(row.path)
                else:
                    products["macs"].append((number, *self._axes.split(product)))
            for w in row.weights:
                constant, axes = self._axes.split(groups.channels.sizes_of(w))
                products["parameters"].append((number, constant, axes))
                products["bytes"].append((number, constant * item_bytes(w), axes))
        self._axes.finish()
        self._terms = {quantity: _terms(rows) for quantity, rows in products.items()}

    def _sort(self, calls: list[tuple[Call, Products]]) -> list[_Row]:
        """Return one row per layer, with all its calls. A weight is in the first row that has it."""
        rows: dict[int, _Row] = {}
        claimed: set[int] = set()

        def claim(weights: Sequence[keras.Variable]) -> list[keras.Variable]:
            new = list({id(w): w for w in weights if id(w) not in claimed}.values())
            claimed.update(id(w) for w in new)
            return new

        for call, products in calls:
            layer = call.operation
            row = rows.get(id(layer))
            if row is None:
                weights = claim(getattr(layer, "weights", []))
                row = rows[id(layer)] = _Row(call.path, layer, self._shape(call), weights)
            row.products += products or []
            if products is None:
                kind = type(layer).__name__
                self.uncounted[call.path] = call.opaque or f"no rule for {kind}"
                self.uncounted_layers[call.path] = kind
        for path, layer in walk(self.groups.graph.model):
            unclaimed = claim(untied_variables(layer))
            if unclaimed:
                rows[id(layer)] = _Row(path, layer, None, unclaimed)
        is_layer = keras.layers.Layer
        return [r for r in rows.values() if r.products or isinstance(r.layer, is_layer)]

    def _shape(self, call: Call) -> list[Any] | None:
        """Return the shape of the first output. A size that can change is the result of `split`."""
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
        """Number of kinds of units. Units of one kind cost the same."""
        return self._axes.kind_count

    def kinds(self) -> list[np.ndarray]:
        """Return, for each group, an int array with the kind of each unit."""
        ends = np.cumsum([group.size for group in self.groups])
        return np.split(self._axes.kinds, ends)[: len(self.groups)]

    # --- the cost of a cut -----------------------------------------------------------------------

    def counts(self, keeps: Keeps = None) -> np.ndarray:
        """Return how many units of each kind stay, the argument of `at`.

        Args:
            keeps: For each group a bool array (True = stays), or an int, how many units stay. Defaults
                to None: all units stay.

        Raises:
            InvalidArgumentError: `keeps` does not have one valid entry per group.
        """
        counts = np.zeros(self.kind_count, dtype=np.int64)
        if keeps is None:
            return np.bincount(self._axes.kinds, minlength=len(counts))
        if len(keeps) != len(self.groups):
            raise InvalidArgumentError(
                f"`keeps` must have an entry for each of the {len(self.groups)} groups. "
                f"Received: {len(keeps)}."
            )
        for group, keep, kinds in zip(self.groups, keeps, self.kinds(), strict=True):
            if validation.is_int(keep):
                if not 0 <= keep <= group.size or kinds.min() != kinds.max():
                    raise InvalidArgumentError(
                        f"An entry of `keeps` may be an int from 0 to {group.size} if all channels of "
                        f"'{group.name}' cost the same; else it must be a bool array. Received: {keep}."
                    )
                counts[kinds[0]] += int(keep)
                continue
            keep = np.asarray(keep)
            if keep.shape != (group.size,) or keep.dtype != bool:
                raise InvalidArgumentError(
                    f"The entry of `keeps` for '{group.name}' must be an int or a bool array of shape "
                    f"({group.size},). Received: {keep.dtype} of shape {keep.shape}."
                )
            counts += np.bincount(kinds[keep], minlength=len(counts))
        return counts

    def at(self, quantity: str, counts: np.ndarray) -> Any:
        """Return the cost for `counts`.

        Args:
            quantity: 'macs', 'parameters' or 'bytes'.
            counts: Int array from `counts`, or a matrix with one such column per cut.

        Returns: An int, or for a matrix an array with one cost per column.

        Raises:
            InvalidArgumentError: `quantity` is not known, or MACs depend on sizes that are not known.
        """
        terms = self._checked(quantity)
        return terms[1] @ self._values(terms, counts) // (self._batch if quantity == "macs" else 1)

    def _checked(self, quantity: str) -> _Terms:
        if quantity not in self._terms:
            raise InvalidArgumentError(unknown_name("quantity", quantity, self.QUANTITIES))
        if quantity == "macs" and self._unknown:
            raise InvalidArgumentError(
                "MACs can only be counted where all sizes are known. Not known at "
                f"'{self._unknown[0]}' of '{self.groups.graph.model.name}'. Give a model with known sizes, "
                "such as `keras.models.clone_model(model, input_tensors=keras.Input((64, 64, 3)))`."
            )
        return self._terms[quantity]

    def _values(self, terms: _Terms, counts: np.ndarray) -> np.ndarray:
        """Return the product of the axes of each term."""
        return np.prod(self._axes.lengths(counts)[terms[2]], axis=1)

    def of(self, quantity: str, keeps: Keeps = None) -> int:
        """Return one cost.

        Args:
            quantity: 'macs', 'parameters' or 'bytes'.
            keeps: For each group a bool array (True = stays), or an int, how many units stay. Defaults
                to None: all units stay.

        Raises:
            InvalidArgumentError: `quantity` is not known; `keeps` does not have one valid entry per
                group; or MACs depend on sizes that are not known.

        Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6), keras.layers.Dense(2)])
        >>> Costs(channel_groups(model)).of("macs", [3])
        18
        """
        return int(self.at(quantity, self.counts(keeps)))

    def macs(self, keeps: Keeps = None) -> int:
        """Return the multiply-accumulates for one sample, as `of("macs", keeps)` does."""
        return self.of("macs", keeps)

    def parameters(self, keeps: Keeps = None) -> int:
        """Return the number of entries of all weights, trained or not, as `of` does."""
        return self.of("parameters", keeps)

    def bytes(self, keeps: Keeps = None) -> int:
        """Return the bytes of all weights, by their data types, as `of` does."""
        return self.of("bytes", keeps)

    def rows(self, keeps: Keeps = None) -> list[LayerCost]:
        """Return a `LayerCost` for each layer, in the order of calls, and for each product of tensors.

        Where sizes are not known, `macs` is None.

        Args:
            keeps: As in `of`. Defaults to None: all units stay.
        """
        counts = self.counts(keeps)
        sums = {}
        for quantity in ("macs", "parameters"):
            number, constant, _ = terms = self._terms[quantity]
            sums[quantity] = np.zeros(len(self._rows), dtype=np.int64)
            np.add.at(sums[quantity], number, constant * self._values(terms, counts))
        not_known = {*self.uncounted, *self._unknown}
        lengths = self._axes.lengths(counts)

        def size(n: Any) -> int | None:
            return n[0] * int(np.prod(lengths[list(n[1])])) if isinstance(n, tuple) else n

        return [
            LayerCost(
                row.path,
                type(row.layer).__name__,
                None if row.shape is None else tuple(size(n) for n in row.shape),
                int(sums["parameters"][i]),
                None if row.path in not_known else int(sums["macs"][i]) // self._batch,
                tuple(row.weights),
            )
            for i, row in enumerate(self._rows)
        ]
