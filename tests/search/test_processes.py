"""A sweep that is killed goes on; two processes share one; nothing is lost, nothing done twice."""

import pathlib
import re
import subprocess
import sys
import time

import postgres
import pytest
import sweep_script

from keras_ganprune.search.storage import open_storage, quiet

optuna = pytest.importorskip("optuna")
pytest.importorskip("scipy")
pytest.importorskip("sklearn")

SCRIPT = pathlib.Path(sweep_script.__file__)


def trials_of(database):
    """Return what the database holds: cell -> [(number, state, values, begin, end, worker, runs)]."""
    with quiet():
        storage = open_storage(database)
        study = optuna.load_study(storage=storage, study_name="sweep")
        found = {}
        for trial in study.get_trials():
            row = (
                *(trial.number, trial.state.name, trial.values),
                *(trial.datetime_start, trial.datetime_complete),
                trial.user_attrs.get("worker", {}).get("pid"),
                {k: v for k, v in trial.user_attrs.items() if k.startswith("run ")},
            )
            found.setdefault(trial.user_attrs["cell"], []).append(row)
        return found


def complete(rows):
    return [row for row in rows if row[1] == "COMPLETE"]


def begun(database):
    """Return whether a first trial has ended; the database may not be there yet, or not quite."""
    if not database.exists():
        return False
    try:
        return any(complete(rows) for rows in trials_of(database).values())
    except KeyError:  # no study
        return False


def start(*arguments, **kwargs):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Return (trials when the process was killed, trials after the resume, what it trained, its result)."""
    database = tmp_path_factory.mktemp("killed") / "sweep.db"
    process = start(database, 3)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == -9, errors
    assert output.startswith("sweep: study ")
    assert re.findall(r"^sweep: (\d)/4  dense, seed \d: fd ", output, re.MULTILINE) == ["1", "2"]
    before = trials_of(database)
    trained = []
    result = sweep_script.run(database, runs=trained, progress=False)
    after = trials_of(database)
    # Once more: nothing is left to do.
    again = []
    assert sweep_script.run(database, runs=again, progress=False).to_dicts() == result.to_dicts()
    assert again == [] and trials_of(database) == after
    return before, after, trained, result


@pytest.mark.full
def test_a_killed_sweep_goes_on_where_it_was(killed):
    before, after, trained, result = killed
    states = sorted(row[1] for rows in before.values() for row in rows)
    assert states == ["COMPLETE", "COMPLETE", "RUNNING", "WAITING"]
    # What had ended is as it was, to the bit; the run that was killed, and the others, were done.
    done = {cell: complete(rows) for cell, rows in before.items() if complete(rows)}
    assert {cell: complete(after[cell]) for cell in done} == done
    assert sorted(trained) == sorted(set(before) - set(done)) and len(trained) == 2
    assert all(len(complete(rows)) == 1 for rows in after.values())
    assert len(after) == len(result.trials) == sweep_script.CELLS and not result.failed


@pytest.mark.full
def test_two_processes_share_a_study(tmp_path, killed):
    database = tmp_path / "sweep.db"
    other = start(database, 0, 1.0)
    try:
        ends = time.monotonic() + 120
        while not begun(database):
            assert other.poll() is None and time.monotonic() < ends, other.stderr.read()
            time.sleep(0.1)
        trained = []
        result = sweep_script.run(database, runs=trained, progress=False)
        _, errors = other.communicate(timeout=120)
    finally:
        other.kill()
    assert other.returncode == 0, errors
    found = trials_of(database)
    # Each cell was done once, by one of them, and both have done some.
    assert {cell: [row[1] for row in rows] for cell, rows in found.items()} == {
        cell: ["COMPLETE"] for cell in found
    }
    workers = {rows[0][5] for rows in found.values()}
    assert len(workers) == 2 and 0 < len(trained) < sweep_script.CELLS
    assert len(result.trials) == len(found) == sweep_script.CELLS
    # Whoever does it, and whatever happens in between, the same comes out.
    for one, other in zip(result.rows, killed[-1].rows, strict=True):
        assert one.mean == pytest.approx(other.mean, rel=1e-3)
        assert one.sparsity == other.sparsity


@pytest.mark.full
def test_two_workers_share_a_study_through_postgresql_and_one_is_killed():
    with postgres.server() as url:
        workers = [
            start(url, 2, 0.5, 5),
            start(url, 0, 0.5, 5),
        ]  # The first is killed in its second run.
        try:
            errors = [worker.communicate(timeout=300)[1] for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
        assert [worker.returncode for worker in workers] == [-9, 0], errors
        found = trials_of(url)
        assert len(found) == 10  # two settings with five seeds
        for cell, rows in found.items():
            assert len(complete(rows)) == 1, cell
            assert len(complete(rows)[0][6]) == 1, cell
        states = sorted(row[1] for rows in found.values() for row in rows)
        # The run in which the first was killed was begun again, and no other.
        assert states == ["COMPLETE"] * 10 + ["FAIL"]
        pids = [complete(rows)[0][5] for rows in found.values()]
        assert pids.count(workers[0].pid) == 1 and pids.count(workers[1].pid) == 9
        trained = []
        result = sweep_script.run(url, seeds=5, runs=trained, progress=False)
        assert trained == [] and len(result.trials) == 10 and not result.failed
