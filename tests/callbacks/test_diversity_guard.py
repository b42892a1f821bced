"""`DiversityGuard`: when it acts, and what it restores."""

import keras
import networks as nets
import numpy as np
import pytest
from watched_runs import (
    BATCHES,
    Judge,
    any_gan,
    assert_same,
    fit,
    foreign,
    foreign_gan,
    gan_model,
    state,
)

import keras_ganprune as kgp
from keras_ganprune.callbacks.diversity_guard import DiversityEvent, DiversityGuard
from keras_ganprune.callbacks.quality_monitor import QualityMonitor
from keras_ganprune.errors import InvalidArgumentError, PruningWarning


class Record(keras.callbacks.Callback):
    """Records the whole state at every epoch end."""

    def __init__(self):
        super().__init__()
        self.states = []

    def on_epoch_end(self, epoch, logs=None):
        self.states.append(state(self.model))


def guarded(values, fd=None, missing=None, gan=None, callbacks=(), **arguments):
    """Fit a GAN whose evaluator returns given values, epoch by epoch."""
    script = {"coverage": values, "fd": fd or [1.0] * len(values)}
    guard = DiversityGuard(**{"coverage": 0.05, **arguments})
    monitor = QualityMonitor(Judge(script, missing))
    history = fit(gan or any_gan(), monitor, *callbacks, guard, epochs=len(values))
    return guard, history


def test_it_stops_when_coverage_falls():
    with pytest.warns(
        PruningWarning,
        match=r"by epoch 4: coverage 0.740 is more than 0.05 below 0.800, while fd 1 looks fine "
        r"\(best 1\). Training stopped. Prune less",
    ):
        guard, history = guarded([0.5, 0.8, 0.76, 0.74, 0.9])
    assert history["coverage"] == [0.5, 0.8, 0.76, 0.74]
    assert guard.events == [
        DiversityEvent(4, 0.74, 0.8, (), guard.events[0].missing, 1.0, 1.0, "stop")
    ]
    assert np.isnan(guard.events[0].missing)


def test_it_leaves_a_run_alone_that_keeps_its_variety():
    guard, history = guarded([0.5, 0.8, 0.76, 0.751, 0.9], missing=[(1,), (), (), (), ()])
    assert guard.events == [] and len(history["coverage"]) == 5


@pytest.mark.full
def test_a_distance_that_shows_it_is_left_to_others():
    fall = [0.8, 0.5, 0.5]
    guard, _ = guarded(fall, fd=[10.0, 12.6, 12.6])
    assert guard.events == []
    with pytest.warns(PruningWarning, match=r"while fd 12.4 looks fine \(best 10\)"):
        guarded(fall, fd=[10.0, 12.4, 12.4])
    with pytest.warns(PruningWarning, match=r"by epoch 3: .* while fd 11 looks fine"):
        guarded(fall, fd=[10.0, 20.0, 11.0])
    with pytest.warns(PruningWarning, match=r"by epoch 2: coverage 0.500 [^,]*\. Training stopped"):
        guarded(fall, fd=[10.0, 99.0, 99.0], distance_tolerance=None)


def test_a_class_that_is_lost():
    # Class 4 is missing at first, class 2 appears, then 7 is lost while 4 appears: the number is equal.
    missing = [(2, 4), (4,), (7,)]
    with pytest.warns(PruningWarning, match="by epoch 3: the classes 7 are lost, while"):
        guard, _ = guarded([0.8] * 3, missing=missing)
    assert guard.events[0].lost_classes == (7,) and guard.events[0].missing == 1.0
    guard, _ = guarded([0.8] * 3, missing=missing, classes=False)
    assert guard.events == []


@pytest.mark.full
def test_a_judge_that_only_counts_classes():
    counts = iter([2, 1, 2, 2])

    def quality(model):
        return {"coverage": 0.8, "fd": 1.0, "missing_classes": next(counts)}

    guard = DiversityGuard(quality)
    with pytest.warns(PruningWarning, match="by epoch 3: 2 classes are missing, while"):
        history = fit(any_gan(), guard, epochs=4)
    assert history["missing_classes"] == [2.0, 1.0, 2.0]
    assert guard.events[0].lost_classes == ()


@pytest.mark.parametrize(
    ("arguments", "stopped"),
    [
        ({"patience": 2}, 5),
        pytest.param({"patience": 3}, None, marks=pytest.mark.full),
        pytest.param({"start_from_epoch": 1}, 5, marks=pytest.mark.full),
        pytest.param({"start_from_epoch": 4}, None, marks=pytest.mark.full),
        ({"baseline": 0.6}, 1),
        pytest.param({"baseline": 0.55}, None, marks=pytest.mark.full),
        pytest.param({"coverage": 0.11}, 2, marks=pytest.mark.full),
        pytest.param({"coverage": 0.31}, None, marks=pytest.mark.full),
    ],
)
def test_when_it_acts(arguments, stopped):
    coverage = {
        "patience": [0.8, 0.7, 0.8, 0.7, 0.7, 0.8],
        "start_from_epoch": [0.9, 0.7, 0.7, 0.7, 0.6, 0.6],
        "baseline": [0.5, 0.8, 0.6, 0.6, 0.6, 0.6],
        "coverage": [0.8, 0.6, 0.5, 0.5, 0.5, 0.5],
    }[next(iter(arguments))]
    if stopped is None:
        guard, _ = guarded(coverage, **arguments)
        assert guard.events == []
        return
    with pytest.warns(PruningWarning, match="Variety was lost"):
        guard, history = guarded(coverage, **arguments)
    assert [event.epoch for event in guard.events] == [stopped] == [len(history["coverage"])]


def test_warnings_come_once_for_each_fall():
    with pytest.warns(PruningWarning) as caught:
        guard, history = guarded([0.8, 0.7, 0.6, 0.8, 0.7], action="warn")
    assert [event.epoch for event in guard.events] == [2, 5]
    assert len([w for w in caught if "Variety was lost" in str(w.message)]) == 2
    assert len(history["coverage"]) == 5


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: gan_model(ema_decay=0.9), id="gan_model"),
        pytest.param(
            lambda: gan_model(nets.dcgan_pair, ema_decay=0.9), id="dcgan", marks=pytest.mark.full
        ),
        pytest.param(
            lambda: foreign_gan(nets.EmaGAN), id="foreign", marks=[foreign, pytest.mark.full]
        ),
    ],
)
def test_rollback(make):
    gan, record = make(), Record()
    prune = kgp.Prune(kgp.PolynomialDecay(0.9, 0, 3 * BATCHES), "generator", BATCHES, verbose=0)
    with pytest.warns(
        PruningWarning, match=r"of epoch 2 were restored \(sparsity 0.\d+ -> 0.\d+\)"
    ):
        guard, history = guarded(
            [0.8, 0.81, 0.7, 0.9], gan=gan, callbacks=(prune, record), action="rollback"
        )
    assert guard.events[0].restored_epoch == 2
    assert len(history["coverage"]) == 3
    # Everything is as at the end of the second epoch, at a lower sparsity.
    assert_same(state(gan), record.states[1])
    assert any(not np.array_equal(a, b) for a, b in zip(state(gan), record.states[2], strict=True))
    nets.assert_exact(prune.updates[2][1], gan.generator, gan.ema_generator)
    assert prune.updates[2][1] < prune.updates[3][1]
    # Another run can continue from there.
    again = kgp.Prune(0.88, "generator", BATCHES, verbose=0)
    fit(gan, again, epochs=2)
    nets.assert_exact(0.88, gan.generator, gan.ema_generator)


def test_rollback_without_a_good_epoch():
    with pytest.warns(PruningWarning, match="no state of a good epoch is kept"):
        guard, history = guarded([0.3, 0.3], baseline=0.9, action="rollback")
    assert guard.events[0].restored_epoch is None and len(history["coverage"]) == 1


@pytest.mark.full
def test_rollback_past_a_cut():
    cut = kgp.Shrink(at=BATCHES + 1, target="generator", sparsity=0.5, verbose=0)
    gan = gan_model()
    with pytest.warns(PruningWarning, match="no state of a good epoch is kept"):
        guard, _ = guarded([0.8, 0.5, 0.5], gan=gan, callbacks=(cut,), action="rollback")
    assert guard.events[0].restored_epoch is None
    assert len(cut.events) == 1


def test_rollback_beside_a_search():
    prune = kgp.Prune(kgp.AdaptiveSparsity("fd"), "generator", verbose=0)
    with pytest.raises(InvalidArgumentError, match="Only one callback may restore"):
        guarded([0.8], callbacks=(prune,), action="rollback")


@pytest.mark.full
def test_values_that_are_not_finite_are_not_its_business():
    guard, _ = guarded([0.8, np.nan, 0.78], fd=[1.0, np.nan, 1.0])
    assert guard.events == []


@pytest.mark.full
def test_its_own_judge_is_logged_and_measured():
    judge = Judge({"coverage": [0.8, 0.6], "fd": [1.0, 1.0]})
    guard = DiversityGuard(QualityMonitor(judge, every=3, prefix="own_"), action="warn")
    with pytest.warns(PruningWarning, match="by epoch 4"):
        history = fit(any_gan(), guard, epochs=4)
    assert history["own_coverage"] == [0.8, 0.8, 0.8, 0.6]


def test_what_the_guard_remembers_of_an_earlier_fit():
    guard = DiversityGuard()
    gan = any_gan()
    fit(gan, QualityMonitor(Judge({"coverage": [0.8], "fd": [1.0]})), guard, epochs=1)
    with pytest.warns(PruningWarning, match=r"0.600 is more than 0.1 below 0.800"):
        fit(gan, QualityMonitor(Judge({"coverage": [0.6], "fd": [1.0]})), guard, epochs=1)


def test_nothing_measures_the_coverage():
    for callbacks in ([DiversityGuard()], [DiversityGuard(), QualityMonitor(Judge())]):
        with pytest.raises(InvalidArgumentError, match="needs a callback that measures coverage"):
            fit(any_gan(), *callbacks)
    monitor = QualityMonitor(Judge())
    with pytest.raises(InvalidArgumentError, match=r"the guard finds it.*`DiversityGuard\(\)`"):
        fit(any_gan(), monitor, DiversityGuard(monitor))
    with pytest.raises(InvalidArgumentError, match=r"must measure 'coverage'. Received: a"):
        fit(any_gan(), DiversityGuard(lambda model: {"a": 1.0}))
    with pytest.raises(InvalidArgumentError, match=r"must measure 'kd'. Received: fd, coverage"):
        fit(any_gan(), DiversityGuard(Judge(), distance="kd"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"coverage": 0.0}, r"`coverage` must be a fraction in \(0, 1\)\. Received: 0\.0"),
        ({"coverage": 5}, "For 5 %, pass 0.05"),
        ({"action": "back"}, "`action` must be one of .*stop.*rollback.*warn.*Received: 'back'"),
        ({"classes": 1}, "`classes` must be True or False"),
        ({"distance_tolerance": -1}, "`distance_tolerance` must be a non-negative number"),
        ({"patience": 0}, "`patience` must be a positive int"),
        ({"start_from_epoch": -1}, "`start_from_epoch` must be a non-negative int"),
        ({"baseline": 80}, r"`baseline` must be a fraction in \[0, 1\]"),
    ],
)
def test_arguments_of_the_guard(arguments, text):
    with pytest.raises(InvalidArgumentError, match=text):
        DiversityGuard(**arguments)
