"""What a regularizer does to the weights of one network after an update of its optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune.layers.tensors import tensor, to_numpy
from keras_ganprune.pruning.structured.channels import ALONG
from keras_ganprune.pruning.structured.cuts import Cut
from keras_ganprune.pruning.structured.groups import Group, Groups, GroupSlice

# Below this share of the average of its network, the norm of a channel counts as zero.
NEARLY_ZERO = 1e-3
# Keeps the division by a norm finite; no norm of a weight that matters is so small.
_TINY = 1e-12

# The trained variables that an optimizer has just updated, by id.
Updated = Mapping[int, keras.Variable]


class Penalty:
    """The rule of one regularizer for one network.

    Attributes:
        variables: The weights that it may change, by id.
        companions: Pairs of a weight and a variable that the rule reads for it.
    """

    variables: dict[int, keras.Variable]
    companions: Sequence[tuple[keras.Variable, keras.Variable]] = ()

    def shrunk(self, updated: Updated, amount: Any) -> dict[int, Any]:
        """Return the new values of weights that were updated, as float32 tensors.

        Args:
            updated: The weights, by id; a part of `variables`.
            amount: Scalar tensor, learning rate times strength.
        """
        raise NotImplementedError

    def measure(self) -> dict[str, float]:
        """Return what the logs show of the network, by the last part of the name of the log."""
        raise NotImplementedError


def _values(updated: Updated) -> dict[int, Any]:
    return {key: ops.cast(tensor(v), "float32") for key, v in updated.items()}


def _other_axes(rank: int, axis: int) -> tuple[int, ...]:
    return tuple(a for a in range(rank) if a != axis)


def _along(values: Any, piece: GroupSlice) -> Any:
    """Return one value per position of a slice, in a shape that broadcasts over the weight."""
    shape = [1] * len(piece.weight.variable.shape)
    shape[piece.weight.axis] = len(piece.units)
    return ops.reshape(values, shape)


def _is_one_to_one(piece: GroupSlice, size: int) -> bool:
    return np.array_equal(piece.units, np.arange(size))


class GroupLassoPenalty(Penalty):
    """Proximal step of the group lasso; a group is a channel with all its entries, in all weights.

    An entry that belongs to two channels (a kernel has those that it makes and those that it reads) is
    multiplied by the factors of both. The norms of all channels are taken before any of them is changed.

    Args:
        groups: The groups of channels of the network.
    """

    def __init__(self, groups: Groups):
        self.groups = groups.groups
        pieces = [p for group in groups for p in group.slices if p.masked]
        self.variables = {id(p.weight.variable): p.weight.variable for p in pieces}

    def shrunk(self, updated: Updated, amount: Any) -> dict[int, Any]:
        """Return each weight times the factors of its channels."""
        values = _values(updated)
        squares = {key: ops.square(value) for key, value in values.items()}
        factors = [
            (piece, factor)
            for group in self.groups
            for piece, factor in self._factors(group, squares, amount)
        ]
        for piece, factor in factors:
            key = id(piece.weight.variable)
            values[key] = ops.multiply(values[key], _along(factor, piece))
        return values

    def _factors(
        self, group: Group, squares: Mapping[int, Any], amount: Any
    ) -> list[tuple[GroupSlice, Any]]:
        """Return the factor of each position of the slices of one group."""
        pieces = [p for p in group.slices if p.masked and id(p.weight.variable) in squares]
        if not pieces:
            return []
        total: Any = 0.0
        for piece in pieces:
            square: Any = squares[id(piece.weight.variable)]
            sums: Any = ops.sum(square, axis=_other_axes(len(square.shape), piece.weight.axis))
            if not _is_one_to_one(piece, group.size):
                places = np.where(piece.units < 0, group.size, piece.units)
                sums = ops.segment_sum(sums, places, group.size + 1)
                sums = sums[: group.size]
            total = ops.add(total, sums)
        roots = np.sqrt(_entries(group, pieces)).astype("float32")
        norm = ops.maximum(ops.sqrt(total), _TINY)
        loss = ops.divide(ops.multiply(amount, roots), norm)
        factor = ops.maximum(0.0, ops.subtract(1.0, loss))
        rows = []
        for piece in pieces:
            if _is_one_to_one(piece, group.size):
                rows.append((piece, factor))
            else:
                with_one = ops.concatenate([factor, ops.ones((1,), "float32")])
                places = np.where(piece.units < 0, group.size, piece.units)
                rows.append((piece, ops.take(with_one, places)))
        return rows

    def measure(self) -> dict[str, float]:
        """Return the mean root mean square of the channels, and the share that is nearly zero."""
        rows = [channel_rms(group) for group in self.groups]
        rms = np.concatenate(rows) if rows else np.zeros(1)
        return {"channel_rms": float(np.mean(rms)), "zero_channels": share_of_zeros(rms)}


def share_of_zeros(sizes: np.ndarray) -> float:
    """Return the share of sizes that are zero, or nearly so compared with their average."""
    return float(np.mean(sizes <= NEARLY_ZERO * np.mean(sizes)))


def _entries(group: Group, pieces: Sequence[GroupSlice]) -> np.ndarray:
    """Return the number of entries that each channel has in some slices."""
    count = np.zeros(group.size)
    for piece in pieces:
        size = int(np.prod(piece.weight.variable.shape)) // len(piece.units)
        count += size * np.bincount(piece.units[piece.units >= 0], minlength=group.size)
    return count


def channel_rms(group: Group) -> np.ndarray:
    """Return the root mean square of the entries of each channel of a group."""
    pieces = [p for p in group.slices if p.masked]
    total = np.zeros(group.size)
    for piece in pieces:
        square = np.square(to_numpy(piece.weight.variable).astype("float64"))
        sums = square.sum(axis=_other_axes(square.ndim, piece.weight.axis))
        inside = piece.units >= 0
        total += np.bincount(piece.units[inside], sums[inside], group.size)
    return np.sqrt(total / np.maximum(_entries(group, pieces), 1))


class GammaPenalty(Penalty):
    """Soft threshold of the scales of batch normalization, where they scale channels that can go.

    Args:
        groups: The groups of channels of the network.
    """

    def __init__(self, groups: Groups):
        self.variables = {}
        self.places: dict[int, np.ndarray] = {}
        for piece in (p for group in groups for p in group.slices):
            weight = piece.weight
            batch_norm = isinstance(weight.layer, keras.layers.BatchNormalization)
            if batch_norm and weight.role == ALONG and weight.name == "gamma":
                key = id(weight.variable)
                self.variables[key] = weight.variable
                self.places[key] = self.places.get(key, False) | (piece.units >= 0)

    def shrunk(self, updated: Updated, amount: Any) -> dict[int, Any]:
        """Return the scales, closer to zero by the amount."""
        values = _values(updated)
        for key, value in values.items():
            size = ops.maximum(ops.subtract(ops.abs(value), amount), 0.0)
            values[key] = ops.where(self.places[key], ops.multiply(ops.sign(value), size), value)
        return values

    def measure(self) -> dict[str, float]:
        """Return the mean size of the scales, and the share that is nearly zero."""
        rows = [np.abs(to_numpy(v))[self.places[key]] for key, v in self.variables.items()]
        sizes = np.concatenate(rows).astype("float64")
        return {"mean_gamma": float(np.mean(sizes)), "zero_channels": share_of_zeros(sizes)}


@dataclass(frozen=True, eq=False)
class Going:
    """Entries of one weight that are to go.

    Attributes:
        weight: The weight.
        flags: Variable that broadcasts over the weight: 1 for entries that are to go, else 0.
    """

    weight: keras.Variable
    flags: keras.Variable

    @property
    def entries(self) -> np.ndarray:
        """The values of the entries that are to go."""
        chosen = np.broadcast_to(to_numpy(self.flags) > 0, tuple(self.weight.shape))
        return to_numpy(self.weight)[chosen].astype("float64")


class GrowingPenalty(Penalty):
    """Decay of what is to go. An entry of two channels that are to go decays for both.

    Args:
        rows: One `Going` per weight, or per axis of a weight.
        norms: The norm of each row when it was chosen.
    """

    def __init__(self, rows: Sequence[Going], norms: Sequence[float]):
        self.rows = list(rows)
        self.norms = list(norms)
        self.variables = {id(row.weight): row.weight for row in self.rows}
        self.companions = [(row.weight, row.flags) for row in self.rows]

    def shrunk(self, updated: Updated, amount: Any) -> dict[int, Any]:
        """Return each weight with the entries that are to go closer to zero."""
        values = _values(updated)
        for row in self.rows:
            key = id(row.weight)
            if key in values:
                decay = ops.multiply(amount, tensor(row.flags))
                factor = ops.maximum(0.0, ops.subtract(1.0, decay))
                values[key] = ops.multiply(values[key], factor)
        return values

    def measure(self) -> dict[str, float]:
        """Return the norm of what is to go, relative to its norm when it was chosen."""
        now = sum(float(np.sum(np.square(row.entries))) for row in self.rows)
        then = sum(norm**2 for norm in self.norms)
        return {"going_norm": float(np.sqrt(now / then)) if then else 0.0}

    def cut(self, cuts: Mapping[int, Cut], make: Any) -> GrowingPenalty:
        """Return the penalty for the weights that a cut has left.

        Args:
            cuts: The cut of each old weight, by its id.
            make: Function (weight, flags as an array) -> `Going`.
        """
        rows, norms = [], []
        for row, norm in zip(self.rows, self.norms, strict=True):
            cut = cuts.get(id(row.weight))
            if cut is None:
                continue
            flags = to_numpy(row.flags)
            for axis, kept in enumerate(cut.index):
                if kept is not None and flags.shape[axis] > 1:
                    flags = np.take(flags, kept, axis=axis)
            if flags.any():
                rows.append(make(cut.new, flags))
                norms.append(norm)
        return GrowingPenalty(rows, norms)
