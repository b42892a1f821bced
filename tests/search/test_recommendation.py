"""The choice: rows against their dense runs, who is recommended, the Pareto front."""

import math

import numpy as np
import pytest

pytest.importorskip("scipy")

from keras_ganprune.errors import InvalidArgumentError, PruningError
from keras_ganprune.metrics import paired_increase
from keras_ganprune.search import SweepResult, Trial
from keras_ganprune.search.recommendation import DenseComparison


def trial(value, requested=None, seed=0, fold=None, criterion="magnitude", **more):
    return Trial(
        criterion=None if requested is None else criterion,
        quantity="sparsity",
        requested=requested,
        seed=seed,
        fold=fold,
        values={"fd": value},
        **{
            "achieved": requested or 0.0,
            "parameters": 1000,
            "nonzero": round(1000 * (1 - (requested or 0.0))),
            "macs": 5000,
            "nonzero_macs": round(5000 * (1 - (requested or 0.0))),
            "seconds": 2.0,
            **more,
        },
    )


def result(trials, **settings):
    return SweepResult(
        tuple(trials), {"metric": "fd", "direction": "min", "seed": 0, "sparsities": [], **settings}
    )


def failed(requested, seed=0):
    criterion = None if requested is None else "magnitude"
    return Trial(criterion, "sparsity", requested, seed, None, error="ValueError: no")


DENSE = [10.0, 20.0, 40.0]


def paired(ratios, requested, criterion="magnitude"):
    """Return trials whose values are those of dense times a ratio."""
    return [
        trial(d * r, requested, seed, criterion=criterion)
        for seed, (d, r) in enumerate(zip(DENSE, ratios, strict=True))
    ]


def dense():
    return [trial(value, seed=seed) for seed, value in enumerate(DENSE)]


# --- increases and intervals ---------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["min", "max"])
def test_increase_and_interval_are_those_of_the_pairs(direction):
    rng = np.random.default_rng(1)
    base = rng.uniform(5, 50, 12)
    pruned = base * rng.uniform(1.0, 1.3, 12)
    trials = [trial(v, seed=i) for i, v in enumerate(base)]
    trials += [trial(v, 0.8, i) for i, v in enumerate(pruned)]
    row = result(trials, direction=direction).rows[1]
    found = paired_increase(base, pruned, direction)
    assert (row.increase, *row.interval, row.pairs) == found
    assert (row.trials, row.pairs) == (12, 12) and row.sparsity == pytest.approx(0.8)
    assert row.deviation == pytest.approx(np.std(pruned, ddof=1))


def test_the_same_seed_gives_the_same_interval():
    trials = dense() + paired([1.0, 1.1, 1.4], 0.8)
    assert result(trials).rows[1].interval == result(trials).rows[1].interval
    assert result(list(reversed(trials))).rows[1].interval == result(trials).rows[1].interval


def test_pairs_are_by_seed_and_fold():
    trials = [trial(10.0, seed=0, fold=0), trial(20.0, seed=0, fold=1)]
    trials += [trial(11.0, 0.5, 0, 0), trial(22.0, 0.5, 0, 1), trial(99.0, 0.5, 1, 0)]
    row = result(trials).rows[1]
    assert (row.trials, row.pairs) == (3, 2)
    assert row.increase == pytest.approx(0.1)


# --- the recommendation --------------------------------------------------------------------------


def test_the_highest_within_tolerance():
    found = result(
        dense() + paired([1.0] * 3, 0.5) + paired([1.08] * 3, 0.8) + paired([1.3] * 3, 0.9)
    )
    best = found.recommend(0.10)
    assert (best.requested, best.criterion) == (0.8, "magnitude")
    assert best.increase == pytest.approx(0.08) and best.pairs == 3 and best.sure
    assert best.sparsity == best.sure_sparsity == pytest.approx(0.8)
    assert best.shares == {"0.8": 1.0}
    text = str(best)
    assert "highest sparsity whose fd is within 10 % of dense is 0.8000, by magnitude" in text
    assert "+8.0% (95 % interval +8.0% to +8.0%), over 3 pairs" in text
    assert "The upper end of the interval is within the tolerance too." in text
    assert "An interval from 3 pairs is usually too narrow; run 5 pairs or more." in text
    assert found.recommend(0.01).requested == 0.5
    assert found.recommend(0.5).requested == 0.9


def test_uncertainty_is_said():
    found = result(dense() + paired([1.0, 1.0, 1.02], 0.5) + paired([0.9, 0.9, 1.2], 0.8))
    best = found.recommend(0.10)
    assert best.requested == 0.8 and not best.sure and best.sure_sparsity == 0.5
    assert "The upper end of the interval is outside the tolerance: to be sure, take 0.5000" in str(
        best
    )
    # Drawn anew, the third pair alone (or nearly) speaks against 0.8: more than twice of three draws.
    drawn = np.stack(np.meshgrid(*[range(3)] * 3), -1).reshape(-1, 3)
    base, high = np.array(DENSE), np.array(DENSE) * [0.9, 0.9, 1.2]
    share = np.mean(high[drawn].sum(1) / base[drawn].sum(1) <= 1.10 + 1e-12)
    assert 0 < share < 1
    assert best.shares["0.8"] == pytest.approx(share, abs=0.02)
    assert sum(best.shares.values()) == pytest.approx(1.0)
    assert "Bootstrap samples of the pairs choose: " in str(best)


def test_of_criteria_the_one_that_bears_more():
    found = result(
        dense()
        + paired([1.05] * 3, 0.5)
        + paired([1.2] * 3, 0.8)
        + paired([1.09] * 3, 0.8, "taylor")
        + paired([1.5] * 3, 0.9, "taylor")
    )
    best = found.recommend()
    assert (best.criterion, best.requested) == ("taylor", 0.8)
    assert best.shares == {"0.8 by taylor": 1.0}


def test_nothing_is_within_tolerance():
    best = result(dense() + paired([1.2] * 3, 0.5) + paired([1.4] * 3, 0.8)).recommend()
    assert best.sparsity == 0.0 and best.requested is None and best.shares == {"dense": 1.0}
    assert "No pruned run has a fd within 10 % of dense: stay dense." in str(best)
    assert "The nearest is sparsity 0.5 by magnitude: +20.0%" in str(best)


def test_one_pair_has_no_interval():
    best = result([trial(10.0), trial(10.5, 0.8)]).recommend()
    assert best.requested == 0.8 and best.interval is None and not best.sure
    assert best.shares == {} and "over 1 pair of" in str(best)
    assert "One pair gives no interval: run more seeds." in str(best)


def test_a_metric_that_should_be_high():
    trials = [trial(0.8), trial(0.74, 0.5), trial(0.6, 0.9), trial(0.9, 0.7)]
    found = result(trials, direction="max")
    assert [row.increase for row in found.rows] == pytest.approx([0.0, 0.075, -0.125, 0.25])
    assert found.recommend().requested == 0.7


def test_failed_trials_are_left_out_and_said():
    trials = [*dense()[:2], failed(None, 2), *paired([1.05] * 3, 0.5), failed(0.9)]
    found = result(trials)
    row = found.rows[1]
    assert (row.trials, row.pairs) == (3, 2) and len(found.rows) == 2 and len(found.failed) == 2
    assert found.rows[0].failed == 1 and "2 (1 failed)" in found.table()[1]
    assert "failed: magnitude, sparsity 0.9, seed 0: ValueError: no" in str(found)
    with pytest.raises(PruningError, match=r"needs a dense run that succeeded: .* ValueError: no"):
        result([failed(None), trial(1.0, 0.5)]).recommend()


@pytest.mark.parametrize("tolerance", [-0.1, math.nan, True])
def test_bad_tolerance(tolerance):
    with pytest.raises(InvalidArgumentError, match="non-negative fraction"):
        result(dense()).recommend(tolerance)


# --- table, front, picture -----------------------------------------------------------------------


def test_tables(tmp_path):
    found = result(dense() + paired([1.0, 1.1, 1.4], 0.8))
    header, base, row = found.table()
    assert header[:6] == ("criterion", "sparsity", "achieved", "runs", "fd", "against dense")
    assert base[:4] == ("dense", "–", "0.0000", "3") and base[5:7] == ("–", "–")
    assert row[:4] == ("magnitude", "0.8", "0.8000", "3")
    assert row[4] == f"{np.mean([10, 22, 56]):.4g} ± {np.std([10, 22, 56], ddof=1):.3g}"
    assert row[5] == f"{88 / 70 - 1:+.1%}" and row[7:10] == ("200", "5,000", "1,000")
    assert found.to_markdown().count("\n") == 3 and "magnitude" in str(found)
    assert found.to_dicts()[1]["increase"] == pytest.approx(88 / 70 - 1)
    found.save_csv(tmp_path / "trials.csv")
    lines = (tmp_path / "trials.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 7 and lines[0].endswith("fd")


def dominated(row, rows, cost, sign):
    return any(
        getattr(o, cost) <= getattr(row, cost)
        and sign * o.mean <= sign * row.mean
        and (getattr(o, cost), o.mean) != (getattr(row, cost), row.mean)
        for o in rows
    )


@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_front_is_what_nothing_beats(direction):
    rng = np.random.default_rng(0)
    trials = [trial(5.0)] + [
        trial(v, s) for s, v in zip(np.linspace(0.1, 0.9, 20), rng.uniform(1, 10, 20), strict=True)
    ]
    found = result(trials, direction=direction)
    sign = 1 if direction == "min" else -1
    front = found.pareto("nonzero")
    assert front == [
        row
        for row in sorted(found.rows, key=lambda row: row.nonzero)
        if not dominated(row, found.rows, "nonzero", sign)
    ]
    assert 1 < len(front) < 21
    with pytest.raises(InvalidArgumentError, match="Did you mean 'macs'"):
        found.pareto("mac")


def test_picture(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    found = result(dense() + paired([1.0, 1.1, 1.4], 0.8) + paired([1.2] * 3, 0.9, "random"))
    found.save_pareto(tmp_path / "pareto.png")
    both = image.imread(tmp_path / "pareto.png")
    assert both.shape[1] > 1500 and len(np.unique(both[..., 0])) > 50
    # Of a network whose work is not known, the first panel alone.
    trials = [trial(v, macs=None, nonzero_macs=None) for v in DENSE[:1]]
    result(trials).save_pareto(tmp_path / "one.png")
    assert image.imread(tmp_path / "one.png").shape[1] < 1000
    with pytest.raises(PruningError, match="at least one trial that succeeded"):
        result([failed(0.5)]).save_pareto(tmp_path / "none.png")


def test_comparison_of_nothing():
    assert DenseComparison([], "fd", "min").rows == []
    assert DenseComparison([], "fd", "min").within(0.1) is None
