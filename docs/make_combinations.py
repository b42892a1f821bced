"""Write combinations.md beside this file: which settings are compatible, and why others are not.

    python docs/make_combinations.py

All results come from `keras_ganprune.pruning.compatibility.conflict`, which `Prune` and `Pruner` use too.
"""

from __future__ import annotations

import inspect
import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

from keras_ganprune.pruning import allocation as allocations
from keras_ganprune.pruning import compatibility, criteria, modes, schedules
from keras_ganprune.pruning import granularity as granularities
from keras_ganprune.utils import tables

PAGE = pathlib.Path(__file__).with_name("combinations.md")

# What a user may write for each argument. tests/pruning/test_compatibility.py trains every combination of
# the first four families. All schedules but one end at the sparsity of 2:4. Another registered class is
# added below by its name, if it has one.
CHOICES: dict[str, dict[str, Any]] = {
    "criterion": {
        "'magnitude'": criteria.Magnitude(),
        "'l2'": criteria.Magnitude("l2"),
        "'gradient'": criteria.Gradient(),
        "'taylor'": criteria.Taylor(),
        "Taylor(squared=True)": criteria.Taylor(squared=True),
        "'discriminator_saliency'": criteria.DiscriminatorSaliency(),
        "'batch_norm_scale'": criteria.BatchNormScale(),
        "'geometric_median'": criteria.GeometricMedian(),
        "'random'": criteria.Random(),
        "Hybrid({'magnitude': 1, 'taylor': 1})": criteria.Hybrid({"magnitude": 1.0, "taylor": 1.0}),
    },
    "granularity": {
        "'unstructured'": granularities.Unstructured(),
        "'2:4'": granularities.NM(2, 4),
        "'2x2'": granularities.Block((2, 2)),
        "'channel'": granularities.Channel("out"),
        "Channel(coupled=False)": granularities.Channel(coupled=False),
        "Channel('in')": granularities.Channel("in"),
    },
    "allocation": {
        "'uniform'": allocations.Uniform(),
        "'erk'": allocations.ERK(),
        "'global_ranking'": allocations.GlobalRanking(),
        "GlobalRanking('mean')": allocations.GlobalRanking(normalize="mean"),
        "{'conv_up': 0.9}": allocations.PerLayer({"conv_up": 0.9}),
    },
    "mode": {
        "'hard'": modes.Hard(),
        "'soft'": modes.Soft(),
        "'rigl'": modes.RigL(),
        "'set'": modes.SET(),
        "'splice'": modes.Splice(),
    },
    "schedule": {
        "0.5": schedules.ConstantSparsity(0.5),
        "OneShot(0.5, ...)": schedules.OneShot(0.5, 100),
        "Linear(0.5, ...)": schedules.Linear(0.5, 100, 500),
        "Cubic(0.5, ...)": schedules.Cubic(0.5, 100, 500),
        "Cubic(0.8, ...)": schedules.Cubic(0.8, 100, 500),
        "Cosine(0.5, ...)": schedules.Cosine(0.5, 100, 500),
        "Exponential(0.5, ...)": schedules.Exponential(0.5, 100, 500),
        "PolynomialDecay(0.5, ...)": schedules.PolynomialDecay(0.5, 100, 500),
        "Cyclic(0.2, 0.5, ...)": schedules.Cyclic(0.2, 0.5, 200, 100, 500),
        "IterativeRewind(0.5, ...)": schedules.IterativeRewind(0.5, 3, 100, 200),
        "LayerwiseOrder(Cubic(0.5, ...))": schedules.LayerwiseOrder(schedules.Cubic(0.5, 100, 500)),
        "Threshold(0.01)": schedules.Threshold(0.01),
        "DynamicThreshold(0.01, ...)": schedules.DynamicThreshold(0.01, 100, 500),
        "DynamicThreshold(1, statistic='std')": schedules.DynamicThreshold(1, statistic="std"),
        "AdaptiveSparsity('loss')": schedules.AdaptiveSparsity("loss"),
    },
}
TRAINED = ("criterion", "granularity", "allocation", "mode")
# Whole blocks need a network with residual blocks: tests/pruning/rankings/test_blocks.py.
NOT_LISTED = (granularities.Layer,)


def add_registered_classes() -> None:
    """Add a choice for each registered class that has none, if its name alone can be passed."""
    families = {
        "criterion": criteria,
        "granularity": granularities,
        "allocation": allocations,
        "mode": modes,
    }
    for family, module in families.items():
        listed = {type(member) for member in CHOICES[family].values()} | set(NOT_LISTED)
        for name, cls in module._family.members.items():
            parameters = inspect.signature(cls).parameters.values()
            if cls not in listed and all(p.default is not p.empty for p in parameters):
                CHOICES[family][repr(name)] = cls()


add_registered_classes()

_INTRODUCTION = """\
# Compatible settings

A combination is one choice from each family: `Prune(schedule, criterion=..., granularity=...,
allocation=..., mode=...)`. `Prune(...)` and `Pruner(...)` refuse a combination with an
`InvalidArgumentError` before any training if a pair in it has a number in one of the tables below. The
number is that of the reason. All other combinations train to their exact target. The criteria,
granularities, allocations and modes below have {total:,} combinations, of which {refused:,} are refused.
Each of the other {allowed:,} is trained for 50 steps of a small GAN by
`pytest -m full tests/pruning/test_compatibility.py`.

`python docs/make_combinations.py` writes this page from the code; do not edit it.

## The rules
"""


def every(families: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield every combination of labels, one label per family."""
    return itertools.product(*(CHOICES[family] for family in families))


def combination(labels: dict[str, str]) -> compatibility.Combination:
    """Return the combination of labels by family. 'schedule' may be left out."""
    return compatibility.Combination(**{f: CHOICES[f][label] for f, label in labels.items()})


def conflicts(families: tuple[str, ...] = TRAINED) -> dict[tuple[str, ...], str | None]:
    """Return for every combination of labels why it is refused, or None if it is allowed."""
    return {
        labels: compatibility.conflict(combination(dict(zip(families, labels, strict=True))))
        for labels in every(families)
    }


Pair = tuple[tuple[str, str], tuple[str, str]]


def refused_pairs() -> dict[Pair, str]:
    """Return the pairs of choices that are refused whatever the other choices are, each with its reason.

    A pair is (family, label), (family, label). Its reason comes from a combination in which no other pair
    is refused: there, each of the two choices is allowed with another partner.
    """
    families = tuple(CHOICES)
    table = conflicts(families)
    pairs: dict[Pair, str] = {}
    for i, j in itertools.combinations(range(len(families)), 2):
        allowed_with: dict[tuple[int, str], set[tuple[str, ...]]] = {}
        reasons: dict[tuple[str, str], dict[tuple[str, ...], str | None]] = {}
        for labels, reason in table.items():
            rest = tuple(label for k, label in enumerate(labels) if k not in (i, j))
            reasons.setdefault((labels[i], labels[j]), {})[rest] = reason
            if reason is None:
                allowed_with.setdefault((i, labels[i]), set()).add(rest)
                allowed_with.setdefault((j, labels[j]), set()).add(rest)
        for (one, two), by_rest in reasons.items():
            if None in by_rest.values():
                continue
            clean = allowed_with[i, one] & allowed_with[j, two]
            members = [repr(CHOICES[families[i]][one]), repr(CHOICES[families[j]][two])]
            # If the two have no other partners in common, use the reason that names both of them.
            pairs[(families[i], one), (families[j], two)] = next(
                reason
                for rest, reason in by_rest.items()
                if rest in clean or (not clean and all(member in reason for member in members))
            )
    return pairs


def _general(reason: str, members: dict[str, Any]) -> str:
    """Return a reason with {family} in place of the member of that family."""
    for family, member in members.items():
        reason = reason.replace(repr(member), "{" + family + "}")
    return reason


def _table(rows: str, columns: str, pairs: dict[Pair, str]) -> str | None:
    """Return the table of two families and its numbered reasons; None if all pairs are compatible."""
    marks: dict[tuple[str, str], str] = {}
    for pair, reason in pairs.items():
        labels = dict(pair)
        members = {family: CHOICES[family][label] for family, label in labels.items()}
        marks[labels[rows], labels[columns]] = _general(reason, members)
    if not marks:
        return None
    # Numbers are in the order of the cells. Cells with the same reason have the same number.
    cells: dict[str, list[tuple[str, str]]] = {}
    for cell in itertools.product(CHOICES[rows], CHOICES[columns]):
        if cell in marks:
            cells.setdefault(marks[cell], []).append(cell)
    numbers = {reason: str(number) for number, reason in enumerate(cells, 1)}
    header = ["", *(f"`{column}`" for column in CHOICES[columns])]
    body = [
        [
            f"`{row}`",
            *(
                numbers[marks[c]] if c in marks else "✓"
                for c in [(row, column) for column in CHOICES[columns]]
            ),
        ]
        for row in CHOICES[rows]
    ]
    table = tables.markdown([header, *body]).replace("---:", ":---:")
    lines = []
    for reason, places in cells.items():
        names = {}
        for family, labels in zip((rows, columns), zip(*places, strict=True), strict=True):
            one = len(set(labels)) == 1
            names[family] = f"`{labels[0]}`" if one else f"this {family}"
        text = reason
        for family, name in names.items():
            text = text.replace("{" + family + "}", name)
        lines.append(f"{numbers[reason]}. {text[:1].upper()}{text[1:]}.")
    return f"## {rows.capitalize()} × {columns}\n\n{table}\n\n" + "\n".join(lines)


def page() -> str:
    """Return the text of the page."""
    trained = list(conflicts().values())
    allowed = trained.count(None)
    parts = [
        _INTRODUCTION.format(
            total=len(trained), allowed=allowed, refused=len(trained) - allowed
        ).rstrip(),
        "\n".join(f"- {' '.join(rule.__doc__.split())}" for rule in compatibility.RULES),
    ]
    pairs = refused_pairs()
    free = []
    for one, two in itertools.combinations(CHOICES, 2):
        # The longer family is in the rows.
        rows, columns = sorted((one, two), key=lambda f: len(CHOICES[f]), reverse=True)
        between = {p: r for p, r in pairs.items() if {p[0][0], p[1][0]} == {one, two}}
        table = _table(rows, columns, between)
        if table is None:
            free.append(f"- every {rows} with every {columns}")
        else:
            parts.append(table)
    parts += ["## The rest", "These are always compatible:", "\n".join(free)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE} written")
