"""Every combination of settings trains to its exact target, or is refused before with a reason."""

import collections
import importlib.util
import itertools
import math
import re

import keras
import paths
import pytest
import short_runs as runs

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError, PruningError
from keras_ganprune.pruning import (
    allocation,
    compatibility,
    criteria,
    granularity,
    modes,
    schedules,
)

DOCS = paths.DOCS


def _script():
    spec = importlib.util.spec_from_file_location(
        "make_combinations", DOCS / "make_combinations.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


page = _script()
FAMILIES = page.TRAINED
TABLE = page.conflicts()
ALLOWED = [labels for labels, reason in TABLE.items() if reason is None]
REFUSED = {labels: reason for labels, reason in TABLE.items() if reason is not None}

STEPS, FREQUENCY = 50, 10


def settings(labels):
    """Return the arguments of `Prune` for labels of the page."""
    return {f: page.CHOICES[f][label] for f, label in zip(FAMILIES, labels, strict=True)}


def schedule_for(labels):
    """Return a schedule of four updates, which ends at the sparsity of the pattern if there is one."""
    unit = settings(labels)["granularity"]
    return kgp.Cubic(unit.sparsity if unit.pattern else 0.75, begin_step=10, end_step=40)


def pairs(labels):
    return set(itertools.combinations(zip(FAMILIES, labels, strict=True), 2))


def group(labels):
    """Return the settings that decide whether a traced step can be reused."""
    chosen = settings(labels)
    wants = {(c.moment, c.source) for c in [chosen["criterion"]] if c.needs_gradient}
    wants |= {(1, "training")} if chosen["mode"].needs_gradient else set()
    return (
        chosen["mode"].collects,
        sorted(wants),
        labels[FAMILIES.index("granularity")] == "'channel'",
    )


def covering_sample():
    """Return allowed combinations in which every pair that is allowed at all occurs, in a fixed order.

    Greedy: the one with most pairs that are not covered yet; among equals one that traces nothing new.
    """
    missing = set().union(*map(pairs, ALLOWED))
    chosen, traced = [], set()
    while missing:
        best = max(
            ALLOWED, key=lambda labels: (len(pairs(labels) & missing), str(group(labels)) in traced)
        )
        chosen.append(best)
        traced.add(str(group(best)))
        missing -= pairs(best)
    return chosen


SAMPLE = covering_sample()
# The first ones cover the most pairs, and share one traced step.
DEFAULT_SAMPLE = SAMPLE[:3]


# --- the families --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "module"),
    [
        ("criterion", criteria),
        ("granularity", granularity),
        ("allocation", allocation),
        ("mode", modes),
        ("schedule", schedules),
    ],
)
def test_every_registered_class_is_among_the_choices(family, module):
    chosen = {type(member) for member in page.CHOICES[family].values()}
    assert chosen == set(module._family.members.values()) - set(page.NOT_LISTED)


@pytest.mark.parametrize("family", [*FAMILIES, "schedule"])
def test_the_labels_of_the_page_are_what_a_user_may_write(family):
    module = {
        "criterion": criteria,
        "granularity": granularity,
        "allocation": allocation,
        "mode": modes,
        "schedule": schedules,
    }[family]
    names = {**vars(criteria), **vars(allocation), **vars(granularity)}
    for label, member in page.CHOICES[family].items():
        if "..." in label or label == "AdaptiveSparsity('loss')":
            assert label.startswith(type(member).__name__)
            continue
        assert module.get(eval(label, {**names, **vars(schedules)})) == member, label


@pytest.mark.full
def test_sample_covers_every_pair_that_is_allowed():
    covered = set().union(*map(pairs, SAMPLE))
    refused = {frozenset(pair) for pair in page.refused_pairs()}
    every = {
        ((f, a), (g, b))
        for f, g in itertools.combinations(FAMILIES, 2)
        for a in page.CHOICES[f]
        for b in page.CHOICES[g]
    }
    assert covered == {pair for pair in every if frozenset(pair) not in refused}
    assert len(SAMPLE) < 160


# --- those that are allowed ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench():
    keras.utils.set_random_seed(1)
    return runs.Runs(runs.gan_model(runs.generator()))


def train(bench, labels):
    """Run 50 steps with one combination; return what is wrong."""
    bench.reset()
    schedule = schedule_for(labels)
    prune = kgp.Prune(schedule, "generator", FREQUENCY, verbose=0, **settings(labels))
    watch = runs.Watch(prune)
    bench.fit(prune, watch, steps=STEPS // 2, epochs=2)
    found = watch.problems + runs.problems_at_end(prune, schedule.final, schedule.final)
    if int(bench.gan.generator_optimizer.iterations) != STEPS:
        found.append("it did not train for all steps")
    if [step for step, *_ in prune.updates] != [10, 20, 30, 40]:
        found.append(f"masks were updated at {[step for step, *_ in prune.updates]}")
    if prune.report.requested != schedule.final:
        found.append(f"{prune.report.requested} was requested")
    return found


def problems_of(bench, chosen):
    """Return {labels: what is wrong} for some combinations, those that share a traced step together."""
    found = {}
    for labels in sorted(chosen, key=lambda labels: str(group(labels))):
        try:
            wrong = train(bench, labels)
        except Exception as error:
            wrong = [f"{type(error).__name__}: {error}"]
            bench.gan.train_function = None
        if wrong:
            found[labels] = wrong
    return found


def test_sample_of_combinations_trains_to_its_exact_target(bench):
    assert problems_of(bench, DEFAULT_SAMPLE) == {}


@pytest.mark.full
def test_sample_of_all_pairs_trains_to_its_exact_target(bench):
    assert problems_of(bench, SAMPLE) == {}


@pytest.mark.full
@pytest.mark.parametrize("criterion", page.CHOICES["criterion"])
def test_every_combination_trains_to_its_exact_target(bench, criterion):
    chosen = [labels for labels in ALLOWED if labels[0] == criterion]
    assert len(chosen) >= 40
    assert problems_of(bench, chosen) == {}


# --- those that are not --------------------------------------------------------------------------


class Untouched:
    """Stands for a network. Any use of it before the settings are checked is an error."""

    def __getattribute__(self, name):
        raise AssertionError(f"`{name}` of the network was used")


def test_construction_refuses_a_combination_with_its_reason_or_accepts_it():
    for labels, reason in TABLE.items():
        chosen = settings(labels)
        try:
            kgp.Prune(schedule_for(labels), **chosen)
            message = None
        except PruningError as error:
            assert type(error) is InvalidArgumentError
            message = str(error)
        wanted = None if reason is None else f"These settings are not compatible: {reason}."
        assert message == wanted, labels


def test_pruner_refuses_the_same_and_leaves_the_network_alone():
    for labels, reason in REFUSED.items():
        with pytest.raises(InvalidArgumentError, match=re.escape(f"compatible: {reason}.")):
            kgp.Pruner(Untouched(), **settings(labels))


def test_schedules_are_refused_at_construction_with_the_reason():
    families = tuple(page.CHOICES)
    for labels, reason in page.conflicts(families).items():
        # One criterion, which is compatible with every schedule, keeps this short.
        if reason is None or labels[0] != "'magnitude'":
            continue
        chosen = {f: page.CHOICES[f][label] for f, label in zip(families, labels, strict=True)}
        schedule = chosen.pop("schedule")
        with pytest.raises(InvalidArgumentError, match=re.escape(f"compatible: {reason}.")):
            kgp.Prune(schedule, **chosen)


def test_a_reason_says_what_to_use_instead():
    for reason in set(REFUSED.values()) | set(page.refused_pairs().values()):
        assert re.search(r"; use ", reason), reason


def test_normalised_scores_of_batch_norm_scale_may_be_ranked_together():
    # The reason for the refusal of raw scores says so.
    scale = criteria.BatchNormScale()
    raw = compatibility.conflict(compatibility.get(scale, "channel", "global_ranking", "hard"))
    assert "use GlobalRanking(normalize='mean')" in raw
    for normalize in ("mean", "rms", "l2"):
        joint = allocation.GlobalRanking(normalize=normalize)
        assert compatibility.conflict(compatibility.get(scale, "channel", joint, "hard")) is None


# --- the page ------------------------------------------------------------------------------------


def test_page_is_what_the_script_writes():
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), (
        "run `python docs/make_combinations.py`"
    )


@pytest.mark.full
def test_page_is_true_of_every_combination():
    """A combination is refused exactly if one of its pairs is, so tables of pairs are enough."""
    families = tuple(page.CHOICES)
    refused = {frozenset(pair) for pair in page.refused_pairs()}
    for labels, reason in page.conflicts(families).items():
        own = itertools.combinations(zip(families, labels, strict=True), 2)
        assert any(frozenset(pair) in refused for pair in own) == (reason is not None), labels


def test_page_counts_what_the_slow_test_trains():
    text = page.PAGE.read_text(encoding="utf-8")
    assert f"{len(TABLE):,} combinations" in " ".join(text.split())
    assert f"{len(REFUSED):,} are refused" in " ".join(text.split())
    assert f"other {len(ALLOWED):,} is trained" in " ".join(text.split())
    assert len(set(TABLE)) == len(TABLE) == math.prod(len(page.CHOICES[f]) for f in FAMILIES)
    assert len(TABLE) >= 10 * 6 * 5 * 5
    by_criterion = collections.Counter(labels[0] for labels in ALLOWED)
    assert min(by_criterion.values()) > 0
