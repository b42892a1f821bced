"""Rectangular blocks of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.granularity.base import Granularity, family
from keras_ganprune.utils.validation import is_int, one_of

# Runtime -> the blocks of a `Dense` kernel (inputs, outputs) whose zeros it skips.
_SKIPPED = {"litert": (4, 1)}


def _fold(
    array: np.ndarray, size: int, axis: int, ufunc: np.ufunc, dtype: Any = None
) -> np.ndarray:
    """Reduce runs of `size` entries along an axis to one entry each; the last run may be shorter.

    The loop is over the positions inside a run. This is several times as fast as `ufunc.reduceat`, which
    loops over the runs.
    """
    array = np.moveaxis(array, axis, 0)
    folded = array[::size].astype(dtype or array.dtype)
    for offset in range(1, min(size, len(array))):
        entries = array[offset::size]
        ufunc(folded[: len(entries)], entries, out=folded[: len(entries)])
    return np.moveaxis(folded, 0, axis)


@family.register
class Block(Granularity):
    """Rectangles of neighbouring weights over the last axes of a kernel.

    (4, 4) covers 4 inputs x 4 outputs of a `Dense` layer, and the same at each position of a `Conv2D`
    kernel (height, width, in, out). A `Conv2DTranspose` kernel is (height, width, out, in), so there
    it covers 4 outputs x 4 inputs. If the kernel is not a multiple of the block, the blocks at its edge
    are smaller. If the kernel is shorter than the block, all its blocks are, such as (3, 4) in the first
    convolution of an RGB image. `note` reports both. Nothing is padded.

    Args:
        shape: Tuple of positive ints, in weights. It covers as many of the last axes as it has ints. For a
            kernel with fewer axes, the first ints are left out.
        pool: 'mean' or 'max', how the scores in a block are combined. With 'mean', the scores of small
            blocks at the edge are comparable with the others. Defaults to 'mean'.

    Raises:
        InvalidArgumentError: `shape` is not a tuple or list of positive ints.
        InvalidArgumentError: `pool` is not 'mean' or 'max'.

    Example:
    >>> Block((2, 2)).pool(np.array([[1.0, 2.0, 5.0], [3.0, 4.0, 7.0]]))
    array([[2.5, 6. ]])

    Reference:
        [Block-sparse recurrent neural networks](https://arxiv.org/abs/1711.02782), with 'max'.
    """

    def __init__(self, shape: Sequence[int], pool: Literal["mean", "max"] = "mean"):
        if (
            not isinstance(shape, (tuple, list))
            or not shape
            or not all(is_int(size) and size > 0 for size in shape)
        ):
            raise InvalidArgumentError(
                f"`shape` must be positive ints, such as (4, 4). Received: {shape!r}."
            )
        self.shape = tuple(int(size) for size in shape)
        self.pooling = one_of(pool, "pool", ("mean", "max"))  # `pool` is the method

    @classmethod
    def for_runtime(cls, runtime: str) -> Block:
        """Return the blocks whose zeros a runtime skips, so that the file is faster, not only smaller.

        LiteRT skips zeros of `Dense` layers in blocks of 4 inputs of one output. At a sparsity of 0.9, they
        take a third to a half of the time for one sample, and two thirds for 16. At 0.8, they gain for one
        sample only.
        No other runtime of `export` skips zeros: cut out channels there, see `shrink`.

        Args:
            runtime: 'litert'.

        Raises:
            InvalidArgumentError: The runtime skips no zeros.

        Example:
        >>> Block.for_runtime("litert").shape
        (4, 1)

        Reference: [Fast sparse ConvNets](https://arxiv.org/abs/1911.09723), Section 3.
        """
        try:
            return cls(_SKIPPED[runtime])
        except (KeyError, TypeError):
            raise InvalidArgumentError(
                "`runtime` must be one that skips zeros: 'litert'. Received: "
                f"{runtime!r}. Other runtimes compute with all zeros. Cut out channels for them: "
                "`granularity=Channel(round_to=8)`."
            ) from None

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {"shape": list(self.shape), "pool": self.pooling}

    def _block(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the size of the block along the last axes of a kernel."""
        return self.shape[max(len(self.shape) - len(shape), 0) :]

    def _sizes(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return (axis, size) for each axis along which the blocks of a kernel are longer than 1."""
        block = self._block(shape)
        first = len(shape) - len(block)
        sizes = [(first + i, min(size, shape[first + i])) for i, size in enumerate(block)]
        return [(axis, size) for axis, size in sizes if size > 1]

    def note(self, shape: tuple[int, ...]) -> str | None:
        """Return a remark if the blocks of a kernel are smaller, all or those at its edge, or None."""
        rank, block = len(shape), self._block(shape)
        lengths = shape[rank - len(block) :]
        whole = tuple(map(min, block, lengths))
        parts = []
        if len(self.shape) > rank:
            parts.append(f"it has only {rank} axes")
        parts += [
            f"axis {i - len(block)} is only {length} long"
            for i, (size, length) in enumerate(zip(block, lengths, strict=True))
            if length < size
        ]
        text = f"a kernel of shape {tuple(shape)} in blocks of {self.shape}: "
        text += " and ".join(parts) + (f", so its blocks are {whole}" if parts else "")
        ragged = [
            f"{length % size} along axis {i - len(block)}"
            for i, (size, length) in enumerate(zip(whole, lengths, strict=True))
            if length % size
        ]
        if ragged:
            text += "; " if parts else ""
            text += "the last blocks are only " + " and ".join(ragged)
        return text if parts or ragged else None

    def pool(self, scores: np.ndarray) -> np.ndarray:
        """Return the mean or the maximum of the scores in each block."""
        if self.pooling == "max":
            return self._fold_all(scores, np.maximum)
        return self._fold_all(scores, np.add, np.float64) / self.unit_sizes(scores.shape)

    def alive(self, mask: np.ndarray) -> np.ndarray:
        """Return which blocks have at least one kept weight."""
        return self._fold_all(np.asarray(mask, dtype=bool), np.logical_or)

    def _fold_all(self, array: np.ndarray, ufunc: np.ufunc, dtype: Any = None) -> np.ndarray:
        for axis, size in self._sizes(array.shape):
            array = _fold(array, size, axis, ufunc, dtype)
        return array

    def expand(self, keep: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the mask of the weights from one bool per block."""
        sizes = dict(self._sizes(shape))
        keep = keep.reshape([-(-n // sizes.get(axis, 1)) for axis, n in enumerate(shape)])
        for axis, size in sizes.items():
            keep = keep.repeat(size, axis)
        return keep[tuple(slice(length) for length in shape)]

    def unit_sizes(self, shape: tuple[int, ...]) -> int | np.ndarray:
        """Return the number of weights in each block: an int, or an array if edge blocks are smaller."""
        sizes = self._sizes(shape)
        if not any(shape[axis] % size for axis, size in sizes):
            return math.prod(size for _, size in sizes)
        lengths = [np.ones(length, dtype=np.int64) for length in shape]
        for axis, size in sizes:
            lengths[axis] = _fold(lengths[axis], size, 0, np.add)
        return math.prod(np.ix_(*lengths))
