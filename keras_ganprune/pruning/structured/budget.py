"""How many channels of each group stay, so that a network costs what it may."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ganprune.errors import InvalidArgumentError, PruningWarning, unknown_name
from keras_ganprune.pruning.allocation import Tensor
from keras_ganprune.pruning.allocation.base import checked_minimum as _check_minimum
from keras_ganprune.pruning.allocation.layer_patterns import matches as _matches
from keras_ganprune.pruning.allocation.layer_patterns import pattern_text as _rule_text
from keras_ganprune.pruning.structured.budget_search import TOLERANCE, Path, Search
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.pruning.structured.groups import Group, Groups
from keras_ganprune.utils.registry import Configurable, Family


class Budget(Configurable):
    """What a network may cost after its channels are cut, as a fraction of the dense network.

    Args:
        macs: Float in (0, 1], multiply-accumulates of one sample: the work.
        parameters: Float in (0, 1], entries of all weights.
        bytes: Float in (0, 1], bytes of all weights.

    Exactly one of them is given.

    Raises: InvalidArgumentError (a ValueError): none or several are given, or not a fraction.

    Example:
    >>> Budget(macs=0.25)
    Budget(macs=0.25)
    """

    def __init__(
        self,
        macs: float | None = None,
        parameters: float | None = None,
        bytes: float | None = None,
    ):
        names = {"macs": macs, "parameters": parameters, "bytes": bytes}
        given = {name: value for name, value in names.items() if value is not None}
        if len(given) != 1:
            raise InvalidArgumentError(
                "A `Budget` is of exactly one of `macs`, `parameters` and `bytes`. "
                f"Received: {given or 'none'}. Write `Budget(macs=0.25)`, for example."
            )
        ((self.quantity, value),) = given.items()
        self.fraction = _fraction(self.quantity, value)

    def get_config(self):
        return {self.quantity: self.fraction}


_family = Family("budget", Budget)
_family.register(Budget)


def _fraction(name: str, value: Any) -> float:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(
        value, bool
    )
    if number and 0.0 < value <= 1.0:
        return float(value)
    percent = value if number else str(value).rstrip(" %")
    try:
        share = float(percent) / 100.0
    except ValueError:
        share = 0.0
    hint = f" For {100 * share:g} % pass {share:g}." if 0.0 < share <= 1.0 else ""
    raise InvalidArgumentError(
        f"`{name}` of a `Budget` must be a fraction in (0, 1] of the dense network. "
        f"Received: {value!r}.{hint}"
    )


def get(identifier: Any) -> Budget:
    """Return the budget for an instance, a config, or a dict such as {'macs': 0.25}.

    Example:
    >>> get({"parameters": 0.5})
    Budget(parameters=0.5)
    """
    if isinstance(identifier, Mapping) and "class_name" not in identifier:
        wrong = set(identifier) - set(Costs.QUANTITIES)
        if wrong:
            raise InvalidArgumentError(
                unknown_name("quantity", str(min(map(str, wrong))), Costs.QUANTITIES)
            )
        return Budget(**identifier)
    return _family.get(identifier)


# --- what a group may be ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rules:
    """What binds the sizes of groups: see `fit`."""

    minimum: int | float
    round_to: int | None
    limits: dict[str, float]

    def sizes(self, group: Group, alive: int) -> np.ndarray:
        floor = self.minimum
        floor = math.ceil(floor * group.size - 1e-9) if isinstance(floor, float) else floor
        floor = min(max(floor, 1, group.size - self._may_go(group)), alive)
        if self.round_to is None:
            return np.arange(floor, alive + 1)
        steps = np.arange(0, alive + 1, self.round_to)
        steps = steps[steps >= floor]
        if alive == group.size or not len(steps):
            steps = np.union1d(steps, [alive])
        return steps

    def _may_go(self, group: Group) -> int:
        shares = [1.0]
        for tensor in _tensors(group):
            shares += [limit for rule, limit in self.limits.items() if _matches(rule, tensor)][:1]
        return math.floor(min(shares) * group.size + 1e-9)


def _tensors(group: Group) -> list[Tensor]:
    """Return the weights that make a group's channels, as what rules of names are asked about."""
    return [Tensor(path, path.rsplit("/", 1)[0], (), group.size, None) for path in group.makers]


def _check_rules(groups: Groups, minimum: Any, round_to: Any, limits: Any) -> _Rules:
    if round_to is not None and (
        isinstance(round_to, bool) or not isinstance(round_to, (int, np.integer)) or round_to < 1
    ):
        raise InvalidArgumentError(
            f"`round_to` must be None or a positive int, such as 8. Received: {round_to!r}."
        )
    if limits is not None and not isinstance(limits, Mapping):
        raise InvalidArgumentError(
            "`limits` must be a dict of layer name or pattern -> largest share of its channels that may "
            f"go. Received: {limits!r}."
        )
    found = {}
    for rule, limit in (limits or {}).items():
        text = _rule_text(rule)
        number = isinstance(limit, (int, float, np.number)) and not isinstance(limit, bool)
        if not number or not 0.0 <= limit < 1.0:
            raise InvalidArgumentError(
                f"`limits[{rule!r}]`, the largest share of its channels that may go, must be a float in "
                f"[0, 1). Received: {limit!r}."
            )
        tensors = [tensor for group in groups for tensor in _tensors(group)]
        if not any(_matches(text, tensor) for tensor in tensors):
            known = {t.layer_path if "/" in text else t.layer_path.split("/")[-1] for t in tensors}
            raise InvalidArgumentError(
                unknown_name("layer in `limits`:", rule, known, "Other layers keep all channels.")
            )
        found[text] = float(limit)
    return _Rules(_check_minimum(minimum), None if round_to is None else int(round_to), found)


def _arrays(groups: Groups, name: str, given: Any, kind: str) -> list[np.ndarray]:
    """Return one array for each group, checked."""
    arrays = [np.asarray(array) for array in given]
    sizes, shapes = [(group.size,) for group in groups], [array.shape for array in arrays]
    good = shapes == sizes and all((a.dtype == bool) == (kind == "bool") for a in arrays)
    if not good:
        raise InvalidArgumentError(
            f"`{name}` must be a {kind} array for each group, of the shapes {sizes}. "
            f"Received: {[f'{a.dtype} {a.shape}' for a in arrays]}."
        )
    if any(np.isnan(array).any() for array in arrays):
        raise InvalidArgumentError(
            f"`{name}` must be numbers. Received: NaN. Check the weights, which may have diverged."
        )
    return arrays


def fit(
    groups: Groups,
    scores: Sequence[np.ndarray],
    budget: Budget,
    *,
    ranking: str = "uniform",
    minimum: int | float = 1,
    round_to: int | None = None,
    limits: Mapping[Any, float] | None = None,
    costs: Costs | None = None,
    alive: Sequence[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Return which units of each group stay, so that the network costs what the budget says.

    The cost comes within 2 % of the fraction of the dense network, from either side, as near as whole
    channels allow. In each group those with the highest scores stay, ties by lower index.

    Args:
        groups: From `channel_groups`.
        scores: For each group a float array, higher = keep.
        budget: A `Budget`.
        ranking: 'uniform': every group keeps the same share of its channels, up to one step. 'global':
            one ranking over all groups, by scores divided by the mean of their group, so that some
            groups lose more.
        minimum: What stays of every group at least: int channels, or a float share of them.
        round_to: None, or an int such as 8: groups keep a multiple of it, or all.
        limits: Dict, layer name, path with `*` or regular expression (see `PerLayer`) -> largest share of
            its channels that may go. The first entry that matches a layer counts.
        costs: `Costs` of the same groups, if there are some already.
        alive: For each group a bool array, which units are still there; None for all. The fraction is of
            the dense network in any case.

    Returns: A bool array for each group, True = stays.

    Raises:
        InvalidArgumentError: the smallest network that is allowed still costs more, or an argument
            breaks its rule.

    Warns: PruningWarning: whole channels (or `round_to`) leave it more than 2 % off; or there are layers
        whose cost is not known.

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
    if ranking not in ("uniform", "global"):
        raise InvalidArgumentError(
            f"`ranking` must be 'uniform' or 'global'. Received: {ranking!r}."
        )
    budget = get(budget)
    costs = Costs(groups) if costs is None else costs
    rules = _check_rules(groups, minimum, round_to, limits)
    scores = [a.astype(np.float64) for a in _arrays(groups, "scores", scores, "number")]
    alive = [np.ones(g.size, dtype=bool) for g in groups] if alive is None else alive
    alive = _arrays(groups, "alive", alive, "bool")
    dense = costs.of(budget.quantity)
    target = budget.fraction * dense
    if budget.quantity == "macs":
        _warn_of_uncounted(costs)
    paths = _paths(groups, scores, alive, rules, costs)
    search = Search(costs, budget.quantity, target, paths)
    nothing = np.zeros(len(paths), dtype=np.int64)
    place = search.top
    if search.cost(place) > target:
        if search.cost(nothing) > target * (1 + TOLERANCE):
            raise InvalidArgumentError(_too_small(groups, scores, alive, rules, costs, budget))
        if ranking == "uniform":
            place = search.uniform([group.size for group in groups])
        else:
            ordered = [score[path.order] for score, path in zip(scores, paths, strict=True)]
            place = search.ranked([own / _mean(own) for own in ordered])
        place = search.adjust(place, np.ones_like(place))
        if search.missed(place):
            place = search.adjust(place, search.top)
        if search.missed(place):
            place = search.anywhere(place)
        if search.missed(place):
            steps = f" in steps of {round_to}" if round_to else ""
            warnings.warn(
                f"A budget of {budget.fraction:g} of the {budget.quantity} is missed by more than "
                f"{TOLERANCE:.0%}: whole channels{steps} come to {search.cost(place) / dense:.4f}.",
                PruningWarning,
                stacklevel=2,
            )
    keeps = []
    for group, path, p in zip(groups, paths, place, strict=True):
        keep = np.zeros(group.size, dtype=bool)
        keep[path.order[: path.sizes[p]]] = True
        keeps.append(keep)
    return keeps


def _paths(
    groups: Groups,
    scores: list[np.ndarray],
    alive: list[np.ndarray],
    rules: _Rules,
    costs: Costs,
) -> list[Path]:
    found = []
    for group, score, there, kinds in zip(groups, scores, alive, costs.kinds(), strict=True):
        order = np.argsort(-score, kind="stable")
        order = order[there[order]]
        sizes = rules.sizes(group, len(order))
        # How many units of each kind are among the best, one more in each row.
        above = np.zeros((len(order) + 1, costs.kind_count), dtype=np.int64)
        above[np.arange(1, len(order) + 1), kinds[order]] = 1
        found.append(Path(order, sizes, np.cumsum(above, axis=0)[sizes]))
    return found


def _mean(scores: np.ndarray) -> float:
    finite = np.abs(scores[np.isfinite(scores)])
    mean = float(finite.mean()) if finite.size else 0.0
    return mean if mean > 0 else 1.0


def _warn_of_uncounted(costs: Costs) -> None:
    kernels = [row for row in costs.rows() if row.layer in costs.uncounted]
    names = [r.layer for r in kernels if any(len(w.shape) > 1 for w in r.weights)]
    if names:
        warnings.warn(
            f"The budget is of the MACs of the other layers: those of {', '.join(names[:3])} are not known "
            "(`register_macs`).",
            PruningWarning,
            stacklevel=3,
        )


def _too_small(
    groups: Groups,
    scores: list[np.ndarray],
    alive: list[np.ndarray],
    rules: _Rules,
    costs: Costs,
    budget: Budget,
) -> str:
    """Return why a budget cannot be met: what alone would have to be lifted."""
    dense = costs.of(budget.quantity)

    def smallest(rules: _Rules) -> float:
        paths = _paths(groups, scores, alive, rules, costs)
        return costs.at(budget.quantity, sum(path.kinds[0] for path in paths)) / dense

    least = smallest(rules)
    free = _Rules(1, None, {})
    lifted = {
        f"`minimum={rules.minimum!r}`": _Rules(1, rules.round_to, rules.limits),
        f"`round_to={rules.round_to}`": _Rules(rules.minimum, None, rules.limits),
        f"`limits={rules.limits}`": _Rules(rules.minimum, rules.round_to, {}),
    }
    lifted = {name: smallest(other) for name, other in lifted.items() if other != rules}
    enough = [name for name, cost in lifted.items() if cost <= budget.fraction]
    if smallest(free) > budget.fraction * (1 + TOLERANCE):
        stay = ", ".join(f"'{path}' ({why})" for path, why in list(groups.stay.items())[:3])
        why = f"with one channel of each group that is what is left. Channels stay of: {stay or 'none'}"
    elif enough:
        why = f"{' or '.join(enough)} keeps more; loosen it"
    else:
        why = f"{' and '.join(lifted)} together keep more; loosen them"
    return (
        f"A budget of {budget.fraction:g} of the {budget.quantity} cannot be met: the smallest network "
        f"that is allowed has {math.ceil(least * 1e4) / 1e4:.4f} of them, because {why}. Ask for no less."
    )
