"""Which channels stay, according to the masks that a network already has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import masked_weights
from keras_ganprune.pruning.structured.channels import IN, OUT
from keras_ganprune.pruning.structured.cuts import take
from keras_ganprune.pruning.structured.groups import Group, Groups, GroupSlice
from keras_ganprune.pruning.structured.rebuild import Builder

# An error names so many weights, and says that there are others.
_SHOWN = 3


def live_units(groups: Groups, strict: bool, explained: set[int]) -> list[np.ndarray]:
    """Return for each group a bool array of the units that stay: those that some layer still reads.

    The weights decide. A channel has no effect if every weight that reads it is zero, whatever the
    weights that produce it are.

    Args:
        groups: Groups of channels of the masked network.
        strict: Whether masks that disagree within a group are an error.
        explained: Ids of weights that go as a whole, with a dead residual block. If there are some,
            it is no error that no channel goes.

    Raises:
        InvalidArgumentError: `strict` is True and the masks disagree, or nothing can be removed.
    """
    keeps = [~_dead_units(group) for group in groups]
    if strict:
        _check_agreement(groups, keeps, explained)
    if all(kept.all() for kept in keeps) and not explained:
        raise InvalidArgumentError(
            f"No channel of '{groups.graph.model.name}' is pruned everywhere it is read, so there is "
            "nothing to remove. Prune with granularity='channel' first, or pass `sparsity=` or `budget=`."
        )
    for kept in keeps:
        # A layer without channels cannot be built. All units of this group are dead: any will do.
        kept[:1] |= not kept.any()
    return keeps


def _dead_units(group: Group) -> np.ndarray:
    """Return which units no layer reads: all weights along them are zero."""
    dead = np.ones(group.size, dtype=bool)
    readers = [piece for piece in group.slices if piece.weight.role == IN]
    # Where no layer reads the channels (outputs), the weights that produce them decide.
    for piece in readers or [p for p in group.slices if p.weight.role == OUT]:
        dead &= ~_used_units(piece, to_numpy(piece.weight.variable) != 0, group.size)
    return dead


def _used_units(piece: GroupSlice, used: np.ndarray, size: int) -> np.ndarray:
    """Return which units have a True entry in a bool array that has the shape of the weight."""
    along_axis = np.any(used, axis=tuple(a for a in range(used.ndim) if a != piece.weight.axis))
    units = np.zeros(size, dtype=bool)
    inside = piece.units >= 0
    np.logical_or.at(units, piece.units[inside], along_axis[inside])
    return units


def _check_agreement(groups: Groups, keeps: Sequence[np.ndarray], explained: set[int]) -> None:
    """Raise if masks do not prune whole channels, or disagree within a group.

    Args:
        groups: Groups of channels of the masked network.
        keeps: For each group a bool array of the units in use.
        explained: Ids of weights that go as a whole.
    """
    masked = masked_in_slices(groups.graph.model, explained)
    for group, kept in zip(groups, keeps, strict=True):
        pruned: dict[str, np.ndarray] = {}
        whole: list[str] = []
        for piece in (piece for piece in group.slices if piece.masked):
            _, mask = masked.get(id(piece.weight.variable), ("", None))
            units = None if mask is None else kept & ~_used_units(piece, mask, group.size)
            if units is not None and units.any():
                pruned[piece.weight.path] = units
            else:
                whole.append(piece.weight.path)
        if pruned:
            count = int(np.any(list(pruned.values()), axis=0).sum())
            raise InvalidArgumentError(
                f"{count} channels of the group '{group.name}' are pruned in {', '.join(pruned)}, but not "
                f"in {', '.join(whole) or 'the same positions of each'}: all masks of a group must agree. "
                "Prune with granularity='channel', which masks whole groups, or pass `strict=False` to "
                f"keep these channels as zeros. The group:\n{group!r}"
            )


def check_nothing_left(
    model: keras.layers.Layer, builder: Builder, explained: Iterable[int]
) -> None:
    """Raise if some mask prunes more of a weight than the channels that go.

    Args:
        model: The masked network.
        builder: Builder of the smaller network.
        explained: Ids of weights that go as a whole.
    """
    left = [
        weight.path
        for weight in masked_weights(model)
        if id(weight.variable) not in explained
        and not take(to_numpy(weight.mask), builder.index(weight.variable)).all()
    ]
    if left:
        raise InvalidArgumentError(
            f"The masks of {_listed(left)} prune channels that cannot be removed, or only some positions "
            "of a channel. `channel_groups(model)` lists the channels that can go; pass `strict=False` "
            "to keep the others as zeros."
        )


def masked_in_slices(
    model: keras.layers.Layer, explained: Iterable[int] = ()
) -> dict[int, tuple[str, np.ndarray]]:
    """Return (path, mask) of every weight that has pruned entries, by the id of its variable.

    Args:
        model: The masked network.
        explained: Ids of weights to leave out.

    Raises:
        InvalidArgumentError: A mask prunes single weights instead of whole slices.
    """
    masked = {}
    for weight in masked_weights(model):
        mask = to_numpy(weight.mask)
        if not mask.all() and id(weight.variable) not in explained:
            masked[id(weight.variable)] = (weight.path, mask)
    single = [path for path, mask in masked.values() if not _in_whole_slices(mask)]
    if single:
        raise InvalidArgumentError(
            f"The masks of {_listed(single)} prune single weights, which no smaller layer can leave out. "
            "Prune with granularity='channel', or pass `strict=False` to keep them as zeros."
        )
    return masked


def _in_whole_slices(mask: np.ndarray) -> bool:
    """Return whether a mask removes only whole slices along its axes."""
    whole = np.ones(mask.shape, dtype=bool)
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        whole &= np.expand_dims(mask.any(axis=others), others)
    return np.array_equal(whole, mask)


def _listed(paths: Sequence[str]) -> str:
    """Return the first paths as text for an error."""
    return ", ".join(paths[:_SHOWN]) + (" and others" if len(paths) > _SHOWN else "")
