"""The study of a sweep: claims, dead workers, other settings, bad databases. Nothing is trained here."""

import collections
import threading
import time

import pytest

from keras_ganprune.errors import FileFormatError, InvalidArgumentError, OutputError
from keras_ganprune.search import claim as claims
from keras_ganprune.search import storage as storages
from keras_ganprune.search import study as studies
from keras_ganprune.search.claim import TakenAwayError
from keras_ganprune.search.plan import SweepPlan
from keras_ganprune.search.study import Study

optuna = pytest.importorskip("optuna")

PLAN = SweepPlan(steps=10, batch_size=2, sparsities=(0.5, 0.9), seeds=2)
STATES = optuna.trial.TrialState


@pytest.fixture(autouse=True)
def no_noise(capfd):
    with storages.quiet():
        yield
    assert capfd.readouterr().err == ""


def begin(storage, plan=PLAN, name="sweep", **settings):
    study = Study(storage, name)
    study.fresh = study.begin({**plan.settings(), **settings}, plan.cells(), "minimize")
    return study


def outcome(run, value=1.0):
    return {"criterion": run.criterion, "requested": run.requested, "values": {"fd": value}}


def do(claim, value=1.0):
    for run in claim.cell.runs:
        claim.record(run.pair, outcome(run, value))
    claim.finish(value)


def work_off(study):
    names = []
    while (claim := study.claim()) is not None:
        names.append(claim.cell.name)
        do(claim)
    return names


def pretend_dead(claim, **worker):
    """Let a claim be that of another worker."""
    kept = claim.trial.user_attrs["worker"]
    claim.trial.set_user_attr("worker", {**kept, **worker})


# --- the plan ------------------------------------------------------------------------------------


def test_dense_runs_come_first_and_every_cell_once():
    study = begin(None)
    assert study.fresh
    names = work_off(study)
    assert names == [cell.name for cell in PLAN.cells()]
    assert names[:3] == ["dense, seed 0", "dense, seed 1", "magnitude, sparsity 0.5, seed 0"]
    assert len(names) == len(set(names)) == 6
    assert set(study.states().values()) == {"done"}


def test_the_parameters_are_there_for_optunas_own_tools():
    plan = SweepPlan(
        steps=10, batch_size=2, sparsities=(0.5,), seeds=(7,), folds=2, criteria=("l2",)
    )
    study = begin(None, plan)
    trial = study.study.get_trials()[-1]
    assert trial.params == {"seed": 7, "fold": 1, "criterion": "l2", "sparsity": 0.5}


def test_it_goes_on_with_what_is_left(tmp_path):
    first = begin(tmp_path / "a.db")
    do(first.claim())
    do(first.claim())
    second = begin(tmp_path / "a.db")
    assert not second.fresh
    assert work_off(second) == [cell.name for cell in PLAN.cells()][2:]
    assert len(second.study.get_trials()) == 6


@pytest.mark.full  # it starts processes
@pytest.mark.parametrize("workers", [3])
def test_no_two_workers_get_the_same_trial(tmp_path, workers):
    # Without a lock from the start of a transaction, SQLite lets them: 11 of 40 were done twice.
    plan = SweepPlan(steps=10, batch_size=2, seeds=8, sparsities=(0.5, 0.6, 0.7))
    found, barrier = [], threading.Barrier(workers)

    def work():
        barrier.wait()
        study = begin(tmp_path / "a.db", plan)
        while (claim := study.claim()) is not None:
            found.append(claim.cell.name)
            do(claim)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert collections.Counter(found) == {cell.name: 1 for cell in plan.cells()}
    assert len(begin(tmp_path / "a.db", plan).study.get_trials()) == 32


def test_a_plan_that_was_only_half_written_is_completed(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "_PLAN_SECONDS", 0.3)
    study = Study(tmp_path / "a.db", "sweep")
    added = []

    def add(cell, older=None):
        if len(added) == 2:
            raise KeyboardInterrupt
        added.append(cell)
        Study._add(study, cell, older)

    study._add = add
    with pytest.raises(KeyboardInterrupt):
        study.begin(PLAN.settings(), PLAN.cells(), "minimize")
    assert work_off(begin(tmp_path / "a.db")) == [cell.name for cell in PLAN.cells()]


# --- workers that are gone -----------------------------------------------------------------------


@pytest.mark.parametrize("worker", [{"pid": 2**22 + 1}, {"token": "of an older process"}])
def test_a_trial_of_a_dead_process_is_done_again(tmp_path, worker):
    study = begin(tmp_path / "a.db")
    lost = study.claim()
    pretend_dead(lost, **worker)
    names = work_off(begin(tmp_path / "a.db"))
    assert sorted(names) == sorted(cell.name for cell in PLAN.cells())
    with pytest.raises(TakenAwayError):
        lost.record((0, None), {})
    with pytest.raises(TakenAwayError):
        lost.finish(3.0)
    values = [t.value for t in study.study.get_trials(states=(STATES.COMPLETE,))]
    assert values == [1.0] * 6


def test_a_trial_of_a_living_process_is_left_alone(tmp_path):
    study = begin(tmp_path / "a.db")
    claim = study.claim()
    names = work_off(begin(tmp_path / "a.db"))
    assert claim.cell.name not in names and len(names) == 5
    do(claim)
    assert set(study.states().values()) == {"done"}


@pytest.mark.full  # it waits for heartbeats
@pytest.mark.parametrize("beats", [True, False])
def test_a_worker_elsewhere_is_known_by_its_heartbeat(tmp_path, monkeypatch, beats):
    for module in (storages, claims):
        monkeypatch.setattr(module, "BEAT_SECONDS", 1)
    monkeypatch.setattr(storages, "GRACE_SECONDS", 2)
    study = begin(tmp_path / "a.db")
    claim = study.claim()
    pretend_dead(claim, place="another computer")
    if beats:
        with claim.beating():
            time.sleep(3.5)  # the database counts whole seconds
            names = work_off(begin(tmp_path / "a.db"))
        do(claim)
        assert len(names) == 5
    else:
        time.sleep(3.5)
        assert len(work_off(begin(tmp_path / "a.db"))) == 6
    assert set(study.states().values()) == {"done"}


def test_a_released_trial_keeps_the_runs_that_are_finished():
    plan = SweepPlan(steps=10, batch_size=2, sparsities=(0.5, 0.9), seeds=2, search="tpe", trials=1)
    study = begin(None, plan)
    do(study.claim(), -1.0)
    do(study.claim(), -1.0)
    claim = study.claim()
    assert claim.cell.candidate
    chosen = claim.trial.suggest_float("sparsity", 0.5, 0.9)
    claim.record((0, None), outcome(claim.cell.runs[0]))
    claim.release()
    again = study.claim()
    assert again.cell.name == claim.cell.name
    assert list(again.done) == [(0, None)]
    assert again.trial.suggest_float("sparsity", 0.5, 0.9) == chosen


def test_a_search_waits_for_all_dense_runs():
    plan = SweepPlan(steps=10, batch_size=2, sparsities=(0.5, 0.9), seeds=2, search="tpe", trials=2)
    study = begin(None, plan)
    first, second = study.claim(), study.claim()
    assert study.claim() is None
    do(first)
    assert study.claim() is None
    do(second)
    assert study.claim().cell.name == "candidate 0"


# --- trials that fail ----------------------------------------------------------------------------


def test_a_failed_trial_is_done_again_only_if_asked(tmp_path):
    study = begin(tmp_path / "a.db")
    study.claim().fail("ValueError: no", {"requested": None})
    assert len(work_off(study)) == 5
    assert study.states()["dense, seed 0"] == "failed"
    study = begin(tmp_path / "a.db")
    assert work_off(study) == []
    study.retry()
    assert work_off(study) == ["dense, seed 0"]
    assert [t.state.name for _, t in study.finished()] == ["COMPLETE"] * 6


def test_surplus_trials_are_given_up():
    study = begin(None)
    for cell in PLAN.cells():  # as if two processes had found the same cells lost
        study._add(cell)
    assert len(work_off(study)) == 6
    study.tidy()
    states = collections.Counter(t.state.name for t in study.study.get_trials())
    assert states == {"COMPLETE": 6, "FAIL": 6}
    assert len(study.finished()) == 6 and study.claim() is None


# --- bad input -----------------------------------------------------------------------------------


def test_other_settings_are_refused_with_the_difference(tmp_path):
    begin(tmp_path / "a.db", width=8)
    other = SweepPlan(steps=12, batch_size=2, sparsities=(0.5, 0.95), seeds=2)
    with pytest.raises(InvalidArgumentError, match="exists with other settings") as error:
        begin(tmp_path / "a.db", other, width=16)
    text = str(error.value)
    assert "  sparsities: [0.5, 0.9] in the study, [0.5, 0.95] now\n" in text
    assert (
        "  steps: 10 in the study, 12 now\n" in text and "  width: 8 in the study, 16 now\n" in text
    )
    assert "batch_size" not in text and "Choose another `name`" in text
    # Under another name it goes.
    assert begin(tmp_path / "a.db", other, name="other").fresh


def test_a_study_of_something_else_is_refused(tmp_path):
    study = optuna.create_study(storage=storages.open_storage(tmp_path / "a.db"), study_name="mine")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    with pytest.raises(FileFormatError, match="No sweep has created the study 'mine'"):
        begin(tmp_path / "a.db", name="mine")
    with pytest.raises(FileFormatError, match="No sweep has created the study 'mine'"):
        Study(tmp_path / "a.db", "mine").load()
    with pytest.raises(FileFormatError, match=r"no study 'sweep'\. Its studies: mine"):
        Study(tmp_path / "a.db", "sweep").load()


def test_databases_that_cannot_be_used(tmp_path):
    (tmp_path / "text.db").write_text("no database " * 100)
    with pytest.raises(FileFormatError, match="must be a SQLite database"):
        Study(tmp_path / "text.db", "sweep")
    with pytest.raises(OutputError, match="is a folder; name a file in it"):
        Study(tmp_path, "sweep")
    with pytest.raises(OutputError, match="cannot be created"):
        Study(tmp_path / "text.db" / "a.db", "sweep")
    with pytest.raises(InvalidArgumentError, match="must be the path of a SQLite file"):
        Study(3, "sweep")
    with pytest.raises(InvalidArgumentError, match="must be a non-empty str"):
        Study(None, "")


def test_a_password_is_never_shown(tmp_path):
    with pytest.raises((ImportError, OutputError)) as error:
        Study("postgresql://me:secret@127.0.0.1:1/none", "sweep")
    assert "secret" not in str(error.value) and "me:***@127.0.0.1" in str(error.value)


def test_a_storage_of_optunas_is_taken_as_it_is():
    storage = optuna.storages.InMemoryStorage()
    do(begin(storage).claim())
    assert len(work_off(begin(storage))) == 5


def test_optuna_is_as_loud_as_before():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with storages.quiet():
        assert optuna.logging.get_verbosity() == optuna.logging.ERROR
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
