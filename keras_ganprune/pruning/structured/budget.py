"""The channels that stay so that a network meets a budget."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from keras_ganprune.errors import (
    ArgumentTypeError,
    InvalidArgumentError,
    PruningWarning,
    unknown_name,
)
from keras_ganprune.pruning.allocation import Tensor
from keras_ganprune.pruning.allocation.base import checked_minimum
from keras_ganprune.pruning.allocation.layer_patterns import matching_tensors, pattern_text
from keras_ganprune.pruning.structured.budget_search import TOLERANCE, Path, Search
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.pruning.structured.groups import Group, Groups
from keras_ganprune.pruning.structured.kinds import ranks_by_kind
from keras_ganprune.pruning.structured.requested_budget import Budget, counted, get
from keras_ganprune.utils import validation

# --- the valid sizes of a group -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Constraints:
    """The constraints on the sizes of groups; the arguments of `fit` explain them."""

    minimum: int | float = 1
    round_to: int | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    limit_of: Mapping[str, float] = field(default_factory=dict)  # by the path of the weight

    def sizes(self, group: Group, alive: int) -> np.ndarray:
        """Return the valid sizes of a group that has `alive` units left, ascending."""
        floor = self.minimum
        floor = math.ceil(floor * group.size - 1e-9) if isinstance(floor, float) else floor
        floor = min(max(floor, 1, group.size - self._most_removed(group)), alive)
        if self.round_to is None:
            return np.arange(floor, alive + 1)
        sizes = np.arange(0, alive + 1, self.round_to)
        sizes = sizes[sizes >= floor]
        if alive == group.size or not len(sizes):
            sizes = np.union1d(sizes, [alive])
        return sizes

    def _most_removed(self, group: Group) -> int:
        """Return how many units the limits allow to remove: the lowest of all makers of the group."""
        share = min((self.limit_of.get(path, 1.0) for path in group.makers), default=1.0)
        return math.floor(share * group.size + 1e-9)


def _makers(group: Group) -> list[Tensor]:
    """Return the weights that make the channels of a group, for the rules that name layers."""
    return [Tensor(path, path.rsplit("/", 1)[0], (), group.size, None) for path in group.makers]


def _constraints(
    groups: Groups,
    minimum: int | float,
    round_to: int | None,
    limits: Mapping[Any, float] | None,
) -> _Constraints:
    """Return the checked constraints."""
    if round_to is not None:
        round_to = validation.positive_int(round_to, "round_to")
    if limits is not None and not isinstance(limits, Mapping):
        raise ArgumentTypeError(
            "`limits` must be a dict of layer name or pattern -> largest share of its channels that may "
            f"be removed. Received: {limits!r}."
        )
    makers = [tensor for group in groups for tensor in _makers(group)]
    checked, limit_of = {}, {}
    for rule, limit in (limits or {}).items():
        text = pattern_text(rule)
        limit = validation.fraction(limit, f"limits[{rule!r}]")
        found = matching_tensors(text, makers)
        if not found:
            known = {t.layer_path if "/" in text else t.layer_path.split("/")[-1] for t in makers}
            raise InvalidArgumentError(
                unknown_name("layer in `limits`:", rule, known, "Other layers keep all channels.")
            )
        checked[text] = limit
        for index in found:
            limit_of.setdefault(makers[index].path, limit)
    return _Constraints(checked_minimum(minimum), round_to, checked, limit_of)


def _arrays(groups: Groups, name: str, values: Any, kind: str) -> list[np.ndarray]:
    """Return one array per group, or raise if shapes or types are wrong."""
    arrays = [np.asarray(array) for array in values]
    sizes, shapes = [(group.size,) for group in groups], [array.shape for array in arrays]
    if shapes != sizes or any((a.dtype == bool) != (kind == "bool") for a in arrays):
        raise InvalidArgumentError(
            f"`{name}` must be one {kind} array per group, of the shapes {sizes}. "
            f"Received: {[f'{a.dtype} {a.shape}' for a in arrays]}."
        )
    if any(np.isnan(array).any() for array in arrays):
        raise InvalidArgumentError(
            f"`{name}` must be numbers. Received: NaN. Check the weights, which may have diverged."
        )
    return arrays


# --- meeting the budget -------------------------------------------------------------------------------


def fit(
    groups: Groups,
    scores: Sequence[np.ndarray],
    budget: Budget | Mapping[str, Any],
    *,
    ranking: Literal["uniform", "global", "isomorphic"] = "uniform",
    minimum: int | float = 1,
    round_to: int | None = None,
    limits: Mapping[Any, float] | None = None,
    costs: Costs | None = None,
    alive: Sequence[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Return which units of each group stay, so that the network meets a budget.

    The cost is within 2 % of the budget, above or below, as near as whole channels allow. In each group
    the units with the highest scores stay; of equal scores, the lower index stays.

    Args:
        groups: From `channel_groups`.
        scores: For each group a float array, higher = keep.
        budget: A `Budget` of a counted cost, or a dict such as {'macs': 0.25}.
        ranking: 'uniform': every group keeps the same share of its channels, up to one step. 'global':
            the channels of all groups are ranked together, by scores divided by the mean of their
            group, so that some groups lose more. 'isomorphic': the channels of groups of the same kind
            (`Group.kind`) are ranked together, and every kind loses the same share. Defaults to
            'uniform'.
        minimum: Least that stays of every group: an int of channels, or a float share of them.
            Defaults to 1.
        round_to: Int such as 8: the size of every group is a multiple of it, or the group keeps all
            channels. Defaults to None: any size.
        limits: Dict, layer name, path with `*` or regular expression (as in `PerLayer`) -> largest share
            of its channels that may be removed. The first entry that matches a layer counts. Defaults
            to None.
        costs: `Costs` of the same groups. Defaults to None: they are computed.
        alive: For each group a bool array of the units that are not removed yet. The budget is a
            fraction of the dense network in any case. Defaults to None: all.

    Returns: For each group a bool array, True = stays.

    Raises:
        InvalidArgumentError: The smallest network that the constraints allow costs more than the
            budget; the network has no channels that could be removed; or an argument is not valid.
        ArgumentTypeError: `limits` is not a dict.

    Warns:
        PruningWarning: The cost misses the budget by more than 2 %, because whole channels (or
            `round_to`) allow no better; or the MACs of some layers are not known.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), keras.layers.Dense(40), keras.layers.Dense(40), keras.layers.Dense(2)]
    ... )
    >>> groups = channel_groups(model)
    >>> keeps = fit(groups, [np.arange(40.0)] * 2, Budget(macs=0.5))
    >>> [int(keep.sum()) for keep in keeps], Costs(groups).macs(keeps) / Costs(groups).macs()
    ([27, 27], 0.4995)
    """
    if not len(groups):
        raise InvalidArgumentError(
            f"'{groups.graph.model.name}' has no channels that could be removed:\n{groups!r}"
        )
    validation.one_of(ranking, "ranking", ("uniform", "global", "isomorphic"))
    budget = counted(get(budget), "`fit`")
    costs = Costs(groups) if costs is None else costs
    constraints = _constraints(groups, minimum, round_to, limits)
    scores = [a.astype(np.float64) for a in _arrays(groups, "scores", scores, "number")]
    alive = [np.ones(g.size, dtype=bool) for g in groups] if alive is None else alive
    alive = _arrays(groups, "alive", alive, "bool")
    if budget.quantity == "macs":
        _warn_of_uncounted(costs)
    paths = _paths(groups, scores, alive, constraints, costs)
    search = Search(costs, budget.quantity, budget.fraction * costs.of(budget.quantity), paths)
    place = search.top
    if search.cost(place) > search.target:
        smallest = np.zeros_like(place)
        if search.cost(smallest) > search.target * (1 + TOLERANCE):
            raise InvalidArgumentError(
                _reason_of_no_fit(groups, scores, alive, constraints, costs, budget)
            )
        place = _refine(search, _first_place(search, groups, scores, ranking))
        _warn_of_missed(search, place, budget, constraints)
    return [_keep(group, path, i) for group, path, i in zip(groups, paths, place, strict=True)]


def smallest(
    groups: Groups,
    scores: Sequence[np.ndarray],
    *,
    minimum: int | float = 1,
    round_to: int | None = None,
    limits: Mapping[Any, float] | None = None,
    costs: Costs | None = None,
) -> list[np.ndarray]:
    """Return which units of each group stay in the smallest network that the constraints of `fit` allow.

    Args:
        groups, scores, minimum, round_to, limits, costs: As for `fit`.

    Returns: For each group a bool array, True = stays.
    """
    costs = Costs(groups) if costs is None else costs
    scores = [a.astype(np.float64) for a in _arrays(groups, "scores", scores, "number")]
    alive = [np.ones(group.size, dtype=bool) for group in groups]
    constraints = _constraints(groups, minimum, round_to, limits)
    paths = _paths(groups, scores, alive, constraints, costs)
    return [_keep(group, path, 0) for group, path in zip(groups, paths, strict=True)]


def _paths(
    groups: Groups,
    scores: list[np.ndarray],
    alive: list[np.ndarray],
    constraints: _Constraints,
    costs: Costs,
) -> list[Path]:
    """Return the valid sizes of each group, and the units that stay at each size."""
    paths = []
    for group, score, is_alive, kinds in zip(groups, scores, alive, costs.kinds(), strict=True):
        order = np.argsort(-score, kind="stable")
        order = order[is_alive[order]]
        sizes = constraints.sizes(group, len(order))
        # Row n has how many units of each kind are among the best n.
        best = np.zeros((len(order) + 1, costs.kind_count), dtype=np.int64)
        best[np.arange(1, len(order) + 1), kinds[order]] = 1
        paths.append(Path(order, sizes, np.cumsum(best, axis=0)[sizes]))
    return paths


def _first_place(
    search: Search, groups: Groups, scores: list[np.ndarray], ranking: str
) -> np.ndarray:
    """Return where the search begins: the nearest place that follows the ranking strictly."""
    if ranking == "uniform":
        return search.uniform([group.size for group in groups])
    ordered = [score[path.order] for score, path in zip(scores, search.paths, strict=True)]
    if ranking == "isomorphic":
        return search.ranked(ranks_by_kind([group.kind for group in groups], ordered))
    return search.ranked([row / _mean(row) for row in ordered])


def _mean(scores: np.ndarray) -> float:
    """Return the mean of the finite absolute scores; 1 where that is zero."""
    finite = np.abs(scores[np.isfinite(scores)])
    mean = float(finite.mean()) if finite.size else 0.0
    return mean if mean > 0 else 1.0


def _refine(search: Search, place: np.ndarray) -> np.ndarray:
    """Return a place nearer to the target, that leaves the ranking only as far as is necessary."""
    place = search.adjust(place, np.ones_like(place))
    if search.is_missed(place):
        place = search.adjust(place, search.top)
    if search.is_missed(place):
        place = search.anywhere(place)
    return place


def _keep(group: Group, path: Path, index: int) -> np.ndarray:
    """Return the units that stay at a size of a path, as a bool array."""
    keep = np.zeros(group.size, dtype=bool)
    keep[path.order[: path.sizes[index]]] = True
    return keep


# --- warnings and errors ------------------------------------------------------------------------------


def _warn_of_missed(
    search: Search, place: np.ndarray, budget: Budget, constraints: _Constraints
) -> None:
    if not search.is_missed(place):
        return
    steps = f" in steps of {constraints.round_to}" if constraints.round_to else ""
    share = search.cost(place) / search.costs.of(budget.quantity)
    warnings.warn(
        f"The budget, {budget.fraction:g} of the {budget.quantity}, is missed by more than "
        f"{TOLERANCE:.0%}: the nearest network of whole channels{steps} has {share:.4f}.",
        PruningWarning,
        stacklevel=3,
    )


def _warn_of_uncounted(costs: Costs) -> None:
    rows = [row for row in costs.rows() if row.layer in costs.uncounted]
    layers = [row.layer for row in rows if any(len(w.shape) > 1 for w in row.weights)]
    if layers:
        warnings.warn(
            f"The budget ignores the MACs of {uncounted_text(costs, layers)}, which are not known. "
            "Register a rule for them with `kgp.register_macs`.",
            PruningWarning,
            stacklevel=3,
        )


def uncounted_text(costs: Costs, paths: Sequence[str] | None = None) -> str:
    """Return the layers whose MACs are not known, as text for a message; "" if there are none.

    Args:
        costs: The costs of a network.
        paths: Paths of the layers to name. Defaults to None: all of them.
    """
    paths = list(costs.uncounted_layers) if paths is None else list(paths)
    named = [f"'{path}' ({costs.uncounted_layers[path]})" for path in paths[:3]]
    return ", ".join(named) + (f" and {len(paths) - 3} others" if len(paths) > 3 else "")


def _reason_of_no_fit(
    groups: Groups,
    scores: list[np.ndarray],
    alive: list[np.ndarray],
    constraints: _Constraints,
    costs: Costs,
    budget: Budget,
) -> str:
    """Return the error text for a budget that cannot be met: it names what has to be loosened."""
    dense = costs.of(budget.quantity)

    def smallest(constraints: _Constraints) -> float:
        paths = _paths(groups, scores, alive, constraints, costs)
        kinds = np.sum([path.kinds[0] for path in paths], axis=0)
        return costs.at(budget.quantity, kinds) / dense

    least = smallest(constraints)
    # The same constraints, each time without one of them.
    loosened = {
        f"`minimum={constraints.minimum!r}`": replace(constraints, minimum=1),
        f"`round_to={constraints.round_to}`": replace(constraints, round_to=None),
        f"`limits={constraints.limits}`": replace(constraints, limits={}, limit_of={}),
    }
    loosened = {text: smallest(c) for text, c in loosened.items() if c != constraints}
    enough = [text for text, cost in loosened.items() if cost <= budget.fraction]
    if smallest(_Constraints()) > budget.fraction * (1 + TOLERANCE):
        stay = ", ".join(f"'{path}' ({why})" for path, why in list(groups.stay.items())[:3])
        why = f"every group keeps one channel. All channels stay in: {stay or 'no layer'}"
    elif enough:
        why = f"{' or '.join(enough)} keeps more; loosen it"
    else:
        why = f"{' and '.join(loosened)} together keep more; loosen them"
    uncounted = uncounted_text(costs) if budget.quantity == "macs" else ""
    without = f" The MACs of {uncounted} are not known, and not among them." if uncounted else ""
    return (
        f"A budget of {budget.fraction:g} of the {budget.quantity} cannot be met: the smallest network "
        f"that is allowed has {math.ceil(least * 1e4) / 1e4:.4f} of them, because {why}. Or give a budget "
        f"of at least that.{without}"
    )
