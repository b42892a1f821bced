"""How one total sparsity is spread over several tensors."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.layers import mask_ops
from keras_ganprune.utils.registry import Configurable, Family


@dataclass(frozen=True)
class Tensor:
    """What an allocation knows of one tensor.

    Attributes:
        path: Layer path and weight name.
        layer_path: Layer path alone.
        shape: Of the weight.
        units: Int, number of removable units.
        unit_size: Int, weights in a unit, or None where units differ in size. Of channels that go
            together in several layers 1: they are counted, not weighed.
        makers: Of such channels, the paths of all weights that make them, any of which may be named.
    """

    path: str
    layer_path: str
    shape: tuple[int, ...]
    units: int
    unit_size: int | None
    makers: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return math.prod(self.shape) if self.unit_size is None else self.units * self.unit_size


@dataclass(frozen=True)
class Ranking:
    """Tensors that are ranked together, and how much of them stays.

    Attributes:
        members: Indices of the tensors.
        keep: Int, units to keep; with `in_weights`, weights to keep.
        in_weights: Whether the budget counts weights, because units differ in size.
        wanted: Int, what would stay without a `minimum`; None for `keep`.
    """

    members: tuple[int, ...]
    keep: int
    in_weights: bool = False
    wanted: int | None = None


class Allocation(Configurable):
    """Spreads one sparsity over tensors.

    A new allocation overrides `sparsities`; one that compares tensors overrides `rankings`.

    Attributes:
        joint: Whether scores of different tensors are compared.
        minimum: Least that stays of every tensor: an int of units, or a float share of its units.
    """

    joint = False
    minimum: int | float = 1

    def floor(self, units: int) -> int:
        """Return how many of a tensor's units stay at least."""
        if isinstance(self.minimum, float):
            return max(1, math.ceil(self.minimum * units))
        return min(self.minimum, units)

    def check(self, tensors: Sequence[Tensor], final: float | None = None) -> None:
        """Raise `InvalidArgumentError` if the total `final` cannot be spread over these tensors.

        Without a total only what does not depend on it is checked.
        """

    def sparsities(self, tensors: Sequence[Tensor], sparsity: float, final: float) -> list[float]:
        """Return the sparsity of each tensor, for a total now and the one at the schedule's end."""
        raise NotImplementedError

    def rankings(self, tensors: Sequence[Tensor], sparsity: float, final: float) -> list[Ranking]:
        """Return which tensors are ranked together, and how many units of them stay."""
        shares = self.sparsities(tensors, sparsity, final)
        found = []
        for index, (tensor, share) in enumerate(zip(tensors, shares, strict=True)):
            wanted = mask_ops.kept_count(tensor.units, share)
            found.append(Ranking((index,), max(wanted, self.floor(tensor.units)), wanted=wanted))
        return found

    def normalize(self, scores: np.ndarray) -> np.ndarray:
        """Return a tensor's scores in units that compare with those of other tensors."""
        return scores


_family = Family("allocation", Allocation)


def _check_minimum(minimum: Any) -> int | float:
    good = not isinstance(minimum, bool) and (
        (isinstance(minimum, (int, np.integer)) and minimum >= 1)
        or (isinstance(minimum, (float, np.floating)) and 0.0 < minimum < 1.0)
    )
    if not good:
        raise InvalidArgumentError(
            "`minimum`, what stays of every tensor, must be a positive int (units) or a float in "
            f"(0, 1) (share of its units). Received: {minimum!r}."
        )
    return int(minimum) if isinstance(minimum, (int, np.integer)) else float(minimum)


@_family.register
class Uniform(Allocation):
    """Every tensor gets the same sparsity: `max(minimum, round(n * (1 - s)))` units stay of n.

    Args:
        minimum: What stays of every tensor at least: int units, or a float share of its units.

    Example:
    >>> tensors = [Tensor("a", "a", (10, 4), 40, 1), Tensor("b", "b", (4, 1), 4, 1)]
    >>> [r.keep for r in Uniform().rankings(tensors, 0.5, 0.5)]
    [20, 2]
    """

    def __init__(self, minimum: int | float = 1):
        self.minimum = _check_minimum(minimum)

    def get_config(self):
        return {"minimum": self.minimum}

    def sparsities(self, tensors, sparsity, final):
        return [sparsity] * len(tensors)


@_family.register
class ERK(Allocation):
    """Erdős–Rényi-kernel: large tensors get sparser than small ones.

    The total of single weights is exact; that of larger units is rounded tensor by tensor.

        density of a tensor = eps * (sum(shape) / prod(shape)) ** power, at most 1

    eps is such that the total comes out; tensors whose density would pass 1 are made dense, and eps is
    found anew for the others.

    Args:
        power: Non-negative float; 0 gives uniform densities.
        minimum: What stays of every tensor at least: int units, or a float share of its units.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> shapes = {"a": (2, 4), "b": (3, 6), "c": (2, 4, 6)}
    >>> tensors = [Tensor(n, n, s, int(np.prod(s)), 1) for n, s in shapes.items()]
    >>> [round(s, 3) for s in ERK().sparsities(tensors, 0.5, 0.5)]
    [0.0, 0.31, 0.655]

    Reference: [Rigging the lottery](https://arxiv.org/abs/1911.11134), §3; densities of
    [sparse evolutionary training](https://arxiv.org/abs/1707.04780), Eq. 1, with the kernel's axes.
    """

    def __init__(self, power: float = 1.0, minimum: int | float = 1):
        if (
            isinstance(power, bool)
            or not isinstance(power, (int, float, np.integer, np.floating))
            or not 0 <= power < math.inf
        ):
            raise InvalidArgumentError(
                f"`power` must be a non-negative number. Received: {power!r}."
            )
        self.power = float(power)
        self.minimum = _check_minimum(minimum)

    def get_config(self):
        return {"power": self.power, "minimum": self.minimum}

    def sparsities(self, tensors, sparsity, final):
        sizes = np.array([t.size for t in tensors], dtype=np.float64)
        raw = np.array([(sum(t.shape) / math.prod(t.shape)) ** self.power for t in tensors])
        kept = sizes.sum() * (1.0 - sparsity)
        dense = np.zeros(len(tensors), dtype=bool)
        while True:
            left = kept - sizes[dense].sum()
            densities = np.where(dense, 1.0, 0.0)
            if not dense.all():
                densities[~dense] = left * raw[~dense] / (raw[~dense] * sizes[~dense]).sum()
            full = (densities >= 1.0) & ~dense
            if not full.any():
                return [float(1.0 - d) for d in densities]
            dense |= full

    def rankings(self, tensors, sparsity, final):
        found = super().rankings(tensors, sparsity, final)
        if any(t.unit_size != 1 for t in tensors):
            return found
        # Rounding each tensor by itself can miss the total by a few; the nearest roundings make it up.
        shares = self.sparsities(tensors, sparsity, final)
        exact = np.array([t.units * (1.0 - s) for t, s in zip(tensors, shares, strict=True)])
        keep = np.array([r.keep for r in found])
        floors = np.array([self.floor(t.units) for t in tensors])
        tops = np.array([t.units for t in tensors])
        wanted = mask_ops.kept_count(int(tops.sum()), sparsity)
        missing = wanted - int(keep.sum())
        step = 1 if missing > 0 else -1
        while missing:
            room = keep < tops if step > 0 else keep > floors
            if not room.any():
                break
            index = int(np.argmax(np.where(room, step * (exact - keep), -np.inf)))
            keep[index] += step
            missing -= step
        # Each tensor's share is what the total needs, unless the floors alone pass it.
        over = missing < 0
        return [
            Ranking(r.members, int(k), wanted=r.wanted if over else int(k))
            for r, k in zip(found, keep, strict=True)
        ]


_SCALES: dict[str, Callable[[np.ndarray], Any]] = {
    "mean": lambda scores: np.mean(np.abs(scores)),
    "rms": lambda scores: np.sqrt(np.mean(np.square(scores))),
    "l2": np.linalg.norm,
}


@_family.register
class GlobalRanking(Allocation):
    """One ranking over all tensors (of one network, or jointly of several), so that some lose more.

    The total is exact: units where all are of one size, else the number of weights that whole units
    come nearest to. `minimum` units of every tensor stay, since a layer with no weight left cuts the
    network in two.

    Args:
        normalize: None to compare scores as they are; 'mean' or 'rms' to divide them by the mean
            (or the root mean square) of their tensor first, so that layers whose weights are small
            throughout are not emptied; 'l2' to divide by the L2 norm of the tensor, which grows with
            its size, so that large tensors lose more.
        minimum: What stays of every tensor at least: int units, or a float share of its units.

    Example:
    >>> tensors = [Tensor("a", "a", (10, 4), 40, 1), Tensor("b", "b", (4, 1), 4, 1)]
    >>> GlobalRanking().rankings(tensors, 0.5, 0.5)
    [Ranking(members=(0, 1), keep=22, in_weights=False, wanted=22)]

    Reference: [What is the state of neural network pruning?](https://arxiv.org/abs/2003.03033), §2.
    """

    joint = True

    def __init__(self, normalize: str | None = None, minimum: int | float = 1):
        if normalize is not None and normalize not in _SCALES:
            raise InvalidArgumentError(
                f"`normalize` must be None, 'mean', 'rms' or 'l2'. Received: {normalize!r}."
            )
        self.normalization = normalize
        self.minimum = _check_minimum(minimum)

    def get_config(self):
        return {"normalize": self.normalization, "minimum": self.minimum}

    def rankings(self, tensors, sparsity, final):
        in_weights = len({t.unit_size for t in tensors}) > 1 or tensors[0].unit_size is None
        total = sum(t.size if in_weights else t.units for t in tensors)
        keep = wanted = mask_ops.kept_count(total, sparsity)
        if not in_weights:
            keep = max(keep, sum(self.floor(t.units) for t in tensors))
        return [Ranking(tuple(range(len(tensors))), keep, in_weights, wanted)]

    def normalize(self, scores):
        if self.normalization is None:
            return scores
        finite = scores[np.isfinite(scores)].astype(np.float64)
        if not finite.size:
            return scores
        scale = float(_SCALES[self.normalization](finite))
        return scores / scale if scale > 0 else scores


@_family.register
class PerLayer(Allocation):
    """Sparsities given layer by layer; layers that are not named share what is left of the total.

    The numbers are those at the end of the schedule. On the way there every tensor has the same share
    of its own: `s_i(t) = s_i * s(t) / s_final`.

    Args:
        sparsities: dict, layer name, path with `*`, or regular expression (a compiled one, or text
            that begins with 're:') -> sparsity in [0, 1). The first entry that matches counts.
        minimum: What stays of every tensor at least: int units, or a float share of its units.

    Raises: InvalidArgumentError (a ValueError): an entry matches no layer, or the total that the
        schedule asks for cannot be met with these numbers.

    Example:
    >>> tensors = [Tensor("a/kernel", "a", (10, 4), 40, 1), Tensor("b/kernel", "b", (10, 4), 40, 1)]
    >>> PerLayer({"a": 0.9}).sparsities(tensors, 0.8, 0.8)
    [0.9, 0.7]
    """

    def __init__(self, sparsities: Mapping[Any, float], minimum: int | float = 1):
        if not isinstance(sparsities, Mapping) or not sparsities:
            raise InvalidArgumentError(
                "`sparsities` must be a dict of layer name or pattern -> sparsity, with at least one "
                f"entry. Received: {sparsities!r}."
            )
        self.named = {
            _rule_text(rule): mask_ops.validate_sparsity(value, f"sparsities[{rule!r}]")
            for rule, value in sparsities.items()
        }
        self.minimum = _check_minimum(minimum)

    def get_config(self):
        return {"sparsities": dict(self.named), "minimum": self.minimum}

    def check(self, tensors, final=None):
        for rule in self.named:
            if not any(_matches(rule, t) for t in tensors):
                known = {t.layer_path if "/" in rule else _last(t.layer_path) for t in tensors}
                raise InvalidArgumentError(unknown_name("layer in `sparsities`:", rule, known))
        if final is not None:
            self._targets(tensors, final)

    def _targets(self, tensors: Sequence[Tensor], final: float) -> list[float]:
        given = [
            next((s for rule, s in self.named.items() if _matches(rule, t)), None) for t in tensors
        ]
        total = sum(t.size for t in tensors)
        named = sum(t.size * s for t, s in zip(tensors, given, strict=True) if s is not None)
        rest = sum(t.size for t, s in zip(tensors, given, strict=True) if s is None)
        if rest == 0:
            if abs(named / total - final) > 1e-3:
                raise InvalidArgumentError(
                    f"The per-layer sparsities come to {named / total:.4f} in all, which cannot meet the "
                    f"total of {final:g}. Ask for sparsity {named / total:.4f}, or leave a layer unnamed "
                    "so that it makes up the difference."
                )
            return given
        other = (final * total - named) / rest
        if not -1e-9 <= other < 1.0:
            low, high = named / total, (named + rest) / total
            raise InvalidArgumentError(
                f"The per-layer sparsities cannot meet the total of {final:g}: the layers that are not "
                f"named would need sparsity {other:.4f}. With these numbers the total can be from "
                f"{low:.4f} to below {high:.4f}."
            )
        return [max(other, 0.0) if s is None else s for s in given]

    def sparsities(self, tensors, sparsity, final):
        if final == 0.0:
            return [0.0] * len(tensors)
        share = sparsity / final
        targets = self._targets(tensors, final)
        # A cyclic or hand-driven target may pass its end; no tensor may then be asked for all of it.
        return [min(round(s * share, 12), 1.0 - 1e-9) for s in targets]


_FLAGS = {"a": re.ASCII, "i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
_OWN_FLAGS = re.compile(r"^\(\?[aimsux]+\)")


def _rule_text(rule: Any) -> str:
    if isinstance(rule, re.Pattern) and isinstance(rule.pattern, str):
        # Its flags go into the text, which alone is kept in the config.
        flags = "".join(letter for letter, flag in _FLAGS.items() if rule.flags & flag)
        pattern = _OWN_FLAGS.sub("", rule.pattern)
        return f"re:(?{flags}){pattern}" if flags else f"re:{pattern}"
    if isinstance(rule, str):
        if rule.startswith("re:"):
            try:
                re.compile(rule[3:])
            except re.error as error:
                raise InvalidArgumentError(
                    f"{rule!r} is not a regular expression: {error}."
                ) from error
        return rule
    raise InvalidArgumentError(
        "A key of `sparsities` must be a layer name, a path with `*` or a regular expression. "
        f"Received: {rule!r} (of type {type(rule).__name__})."
    )


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _matches(rule: str, tensor: Tensor) -> bool:
    if rule.startswith("re:"):
        return bool(re.search(rule[3:], tensor.layer_path))
    paths = (tensor.layer_path, tensor.path, _last(tensor.layer_path))
    for path in tensor.makers:
        layer_path = path.rpartition("/")[0]
        paths += (layer_path, path, _last(layer_path))
    return any(fnmatch.fnmatchcase(path, rule) for path in paths)


# The allocations that a name alone gives.
AllocationName: TypeAlias = Literal["uniform", "erk", "global_ranking"]
# A mapping is the sparsities of a `PerLayer`, or a Keras config.
AllocationLike: TypeAlias = (
    Allocation | AllocationName | Mapping[str, Any] | Mapping[str | re.Pattern[str], float]
)


def get(identifier: AllocationLike) -> Allocation:
    """Return the allocation for a name, a config, an instance, or a dict of sparsities by layer.

    Names: 'uniform', 'erk', 'global_ranking'.

    Example:
    >>> get({"dense_1": 0.5})
    PerLayer(sparsities={'dense_1': 0.5}, minimum=1)
    """
    if isinstance(identifier, Mapping) and "class_name" not in identifier:
        return PerLayer(identifier)
    return _family.get(identifier)
