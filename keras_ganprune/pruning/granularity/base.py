"""The base class of granularities, and the granularity whose units are single weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.kernel_axes import KernelAxes
from keras_ganprune.utils.registry import Configurable, Family


class Granularity(Configurable):
    """Base class of granularities. A granularity groups the weights of a kernel into units.

    A pruner keeps or removes whole units. A subclass must define two methods, in which each weight
    belongs to at most one unit:

    - `pool`, which returns one score per unit from the scores of the weights.
    - `expand`, which returns the mask of the weights from one bool per unit.

    It may override the others. `alive` and `unit_sizes` have defaults that use `pool` and `expand`; an
    override is faster. `get_config` returns the arguments of the constructor, if there are any.

    An instance can be passed as `granularity=` at once. A granularity of this package also has the
    decorator `@family.register`, an import and a name in `granularity/__init__.py`, and a row in
    `tests/helpers/members.py`.

    Attributes:
        pattern: Bool. True if the number of kept weights is fixed inside small groups, as for `NM`. Then
            masks come from `pattern_mask`, and the allocation has no influence. Defaults to False.
        sparsity: Float, the final sparsity of the groups. Only with `pattern`.

    Example:
    >>> class Row(Granularity):  # all weights of one input of a Dense layer
    ...     def pool(self, scores):
    ...         return scores.sum(axis=1)
    ...
    ...     def expand(self, keep, shape):
    ...         return np.broadcast_to(keep[:, None], shape).copy()
    >>> Row().pool(np.array([[1.0, 2.0], [0.5, 0.1]]))
    array([3. , 0.6])
    >>> Row().expand(np.array([True, False]), (2, 2))
    array([[ True,  True],
           [False, False]])
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> kgp.Pruner(model, granularity=Row()).update(sparsity=0.5).kept
    4
    """

    pattern: bool = False
    sparsity: float

    def resolve(self, axes: KernelAxes) -> Granularity:
        """Return the granularity for one kernel, with numbers for the named axes 'in' and 'out'.

        Args:
            axes: The axes over the input and over the output channels of the kernel.
        """
        return self

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise `InvalidArgumentError` if the granularity cannot be applied to a kernel of `shape`."""

    def note(self, shape: tuple[int, ...]) -> str | None:
        """Return a remark for the user about a kernel of `shape`, such as ragged edges, or None."""
        return None

    def pool(self, scores: np.ndarray) -> np.ndarray:
        """Return the scores of the units.

        Args:
            scores: Array of the shape of the kernel, the scores of its weights.

        Returns:
            Array of any shape, with one score per unit.
        """
        raise NotImplementedError

    def expand(self, keep: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the mask of the weights.

        Args:
            keep: Bool array of the shape that `pool` returns, or flat. True = keep the unit.
            shape: Shape of the kernel.

        Returns:
            Bool array of `shape`, True = keep.
        """
        raise NotImplementedError

    def alive(self, mask: np.ndarray) -> np.ndarray:
        """Return which units have at least one kept weight.

        Args:
            mask: Bool array of the shape of the kernel, True = keep.

        Returns:
            Bool array of the shape that `pool` returns.
        """
        mask = np.asarray(mask, dtype=bool)
        units = self.pool(np.zeros(mask.shape)).shape
        counts = np.bincount(self._unit_numbers(mask.shape)[mask], minlength=math.prod(units) + 1)
        return (counts[1:] > 0).reshape(units)

    def unit_sizes(self, shape: tuple[int, ...]) -> int | np.ndarray:
        """Return the number of weights in a unit of a kernel of `shape`.

        Returns:
            Int if all units have the same size, else an int array of the shape that `pool` returns.
        """
        units = self.pool(np.zeros(shape)).shape
        counts = np.bincount(self._unit_numbers(shape).ravel(), minlength=math.prod(units) + 1)[1:]
        return int(counts[0]) if np.all(counts == counts[0]) else counts.reshape(units)

    def pattern_mask(self, scores: np.ndarray, sparsity: float) -> np.ndarray:
        """Return the mask of a kernel at a sparsity. Used only if `pattern` is True.

        Args:
            scores: Array of the shape of the kernel, higher = keep.
            sparsity: Float in [0, 1).

        Returns:
            Bool array of the shape of `scores`, True = keep.
        """
        raise NotImplementedError

    def _unit_numbers(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return for each weight the number of its unit, from 1, or 0 if it belongs to no unit.

        `expand` takes bools, so it is called once for each bit of the numbers.
        """
        units = self.pool(np.zeros(shape)).shape
        unit_numbers = np.arange(1, math.prod(units) + 1).reshape(units)
        numbers = np.zeros(shape, dtype=np.int64)
        for bit in range(int(unit_numbers.max()).bit_length()):
            is_set = self.expand((unit_numbers >> bit & 1).astype(bool), shape)
            numbers |= is_set.astype(np.int64) << bit
        return numbers


def axis_number(axis: int, shape: tuple[int, ...]) -> int:
    """Return `axis` as a non-negative number.

    Raises:
        InvalidArgumentError: A kernel of `shape` has no such axis.
    """
    rank = len(shape)
    if not -rank <= axis < rank:
        raise InvalidArgumentError(
            f"`axis` must be an axis of the kernel. Received: axis={axis} for a kernel of shape "
            f"{tuple(shape)}, which has {rank}. Choose another axis, or leave the layer out of `scope`."
        )
    return axis % rank


def named_axes(axes: KernelAxes, axis: str, granularity: Granularity) -> tuple[int, ...]:
    """Return the axes of one kernel that 'in' or 'out' stands for.

    Raises:
        InvalidArgumentError: The kernel has no such axes.
    """
    numbers = axes.inputs if axis == "in" else axes.outputs
    if not numbers:
        raise InvalidArgumentError(
            f"{granularity!r} needs a weight with an axis over its "
            f"{'input' if axis == 'in' else 'output'} channels, but this weight has no such axis. Choose "
            "another `axis`, or leave the layer out of `scope`."
        )
    return numbers


def refuse_named(axis: Any, granularity: Granularity) -> None:
    """Raise `InvalidArgumentError` if `axis` is still a name."""
    if isinstance(axis, str):
        raise InvalidArgumentError(
            f"{granularity!r} cannot know which axis of this kernel {axis!r} is. Call "
            "`resolve(kernel_axes(layer, name))` and use the result, or pass the axis as an int."
        )


family = Family("granularity", Granularity)


class SingleWeights(Granularity):
    """Base class of granularities whose units are single weights. It copies no arrays."""

    def pool(self, scores: np.ndarray) -> np.ndarray:
        """Return the scores as they are."""
        return scores

    def expand(self, keep: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the bools in the shape of the kernel."""
        return keep.reshape(shape)

    def alive(self, mask: np.ndarray) -> np.ndarray:
        """Return the mask as it is."""
        return np.asarray(mask, dtype=bool)

    def unit_sizes(self, shape: tuple[int, ...]) -> int:
        """Return 1."""
        return 1


@family.register
class Unstructured(SingleWeights):
    """Every weight is a unit of its own.

    Example:
    >>> Unstructured().pool(np.array([[1.0, 2.0]]))
    array([[1., 2.]])

    Reference:
        [Learning both weights and connections](https://arxiv.org/abs/1506.02626), §3.
    """
