"""The sentences on top of a report, and what 'dense' and a latency are called in it."""

import copy
import pickle

import example_runs
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.metrics.milliseconds import Milliseconds, within_noise
from keras_ganprune.reports.run import load_run, record_run, write_run
from keras_ganprune.reports.tables import comparison, one_run
from keras_ganprune.reports.tables.meaning import meaning, meaning_of_seeds

DENSE = "dense, equal steps"


def of_fd(dense, pruned, **more):
    quality = {
        "dense": [{"fd": value} for value in dense],
        "pruned": [{"fd": value} for value in pruned],
    }
    return example_runs.made(0, quality=quality, equal_steps=True, **more)


@pytest.mark.parametrize(
    ("dense", "pruned", "words"),
    [
        ([2.0, 2.0], [2.2, 2.2], ["10.0% higher than", "does not include 0: worse."]),
        ([2.0, 2.0], [1.9, 1.9], ["5.0% lower than", "does not include 0: better."]),
        ([2.0, 2.2], [2.2, 2.0], ["equal to that of", "within the noise of the measurement"]),
        ([2.0], [2.5], ["25.0% higher than", "not known whether this is more than noise"]),
    ],
)
def test_the_distance_has_a_direction_and_its_noise(dense, pruned, words):
    (sentence,) = [s for s in meaning(of_fd(dense, pruned)) if "Fréchet" in s]
    assert all(word in sentence for word in [*words, f"'{DENSE}'", "lower is better"])
    assert ("runs with other seeds" in sentence) == (len(dense) > 1)


def of_metric(value, higher=True, seed=0, **more):
    return record_run(
        history={"loss": [1.0]},
        pictures={"a": b"\x89PNG\r\n\x1a\n"},
        quality={"dense": {"m": 20.0}, "small": {"m": value}, "baseline": {"m": 10.0}},
        metrics={"m": ("PSNR", higher, 2)},
        sizes={
            "dense": {"parameters": 100, "macs": 400, "gzip_bytes": 1000},
            "small": {"parameters": 50, "macs": 100, "gzip_bytes": 280},
        },
        equal_steps=True,
        seed=seed,
        name=f"run {seed}",
        **more,
    )


def test_the_metric_of_a_run_and_what_it_saves():
    quality, saved = meaning(of_metric(19.5))
    assert quality == (
        f"PSNR (higher is better): 'small' is 0.50 lower than '{DENSE}'. "
        "It was measured once: runs with other seeds show whether this is more than noise."
    )
    assert saved == (
        "'small' needs 0.28 of the gzipped bytes and 0.25 of the multiplications of "
        f"'{DENSE}', which has 100 parameters."
    )
    assert "'small' is equal to" in meaning(of_metric(20.0))[0]
    assert "(lower is better): 'small' is 0.50 higher" in meaning(of_metric(20.5, higher=False))[0]


def test_seeds_are_compared_in_pairs():
    runs = [of_metric(value, seed=i) for i, value in enumerate((19.0, 19.1, 18.9))]
    (sentence,) = meaning_of_seeds(runs)
    assert sentence.startswith(
        "Over 3 seeds (run 0, run 1, run 2), the PSNR of 'small' is 1.00 lower"
    )
    assert sentence.endswith("does not include 0: worse.")
    runs = [of_metric(value, seed=i) for i, value in enumerate((19.0, 21.0, 20.5))]
    assert "includes 0: this is within the noise" in meaning_of_seeds(runs)[0]
    # Runs that differ in more than the seed have a sentence each.
    other = of_metric(19.0, seed=1, settings={"a": 1})
    assert [s.split(":")[0] for s in meaning_of_seeds([runs[0], other])] == ["run 0", "run 1"]


def test_what_was_not_measured_is_left_out():
    images = {"mine": np.zeros((1, 4, 4, 1))}
    assert meaning(record_run(history={"loss": [1.0]}, samples=images)) == []


@pytest.mark.parametrize(
    ("equal", "title"), [(True, DENSE), (False, "dense, fewer steps"), (None, "dense")]
)
def test_every_column_and_card_names_dense(equal, title, tmp_path):
    run = example_runs.made(0, equal_steps=equal)
    assert one_run.quality(run).header[1] == title
    assert one_run.sizes(run).header[1] == title
    write_run(run, tmp_path)
    assert load_run(tmp_path).equal_steps is equal
    page = kgp.write_report(tmp_path).html.read_text(encoding="utf-8")
    assert f"<figcaption>{title}</figcaption>" in page
    assert f"against {title}</dd>" in page
    if equal:
        assert "<figcaption>dense</figcaption>" not in page
        assert ">dense<" not in page


# --- latencies -----------------------------------------------------------------------------------


def test_times_know_their_quartiles():
    time = Milliseconds.of([0.001, 0.002, 0.003, 0.004, 0.005])
    assert time == 3.0
    assert time.quartiles == (2.0, 4.0)
    for same in (copy.deepcopy(time), pickle.loads(pickle.dumps(time))):
        assert (same, same.quartiles) == (time, time.quartiles)
    assert Milliseconds.of([0.002]).quartiles == (2.0, 2.0)
    assert within_noise(time, Milliseconds(4.5, 3.9, 5.0))
    assert not within_noise(time, Milliseconds(4.5, 4.1, 5.0))
    assert not within_noise(time, None)


@pytest.mark.parametrize(("low", "noise"), [(2.1, True), (2.3, False)])
def test_a_latency_says_when_it_differs_by_noise_only(low, noise, tmp_path):
    latency = {
        "dense": {"batch of 1": Milliseconds(2.0, 1.8, 2.2)},
        "small": {"batch of 1": Milliseconds(2.4, low, 2.6)},
    }
    write_run(of_metric(19.5, latency=latency), tmp_path)
    run = load_run(tmp_path)
    assert run.latency_quartiles["small"] == {"batch of 1": (low, 2.6)}
    for table in (comparison.comparison(run), one_run.sizes(run)):
        cells = [cell for row in table.rows for cell in row]
        assert any("within noise" in cell for cell in cells) == noise
        assert ("Within noise: the quartiles of the two times overlap." in table.note) == noise


def test_a_table_of_models_says_it_too():
    rows = kgp.metrics.comparison.ComparisonRow
    times = Milliseconds(2.0, 1.8, 2.2), Milliseconds(2.1, 2.0, 2.3), Milliseconds(4.0, 3.9, 4.1)
    table = kgp.metrics.Comparison(("a", "b", "c"), (rows("ms, batch of 1", times),))
    assert table.table()[1] == ("ms, batch of 1", "2", "2.1 (1.05×, within noise)", "4 (2.00×)")
    assert table.notes() == ["Within noise: the quartiles of the two times overlap."]


def test_measured_times_have_quartiles():
    times = kgp.metrics.measure_latency.latency({"sum": np.sum}, np.ones(10), repeats=9)
    low, high = times["sum"].quartiles
    assert 0 < low <= times["sum"] <= high
