"""Runs that are interrupted and begun again end with the bits of one that is not: tables of kinds of runs."""

import keras
import kill_script
import numpy as np
import pytest
from cases import cases
from interruptions import BreakAt

from keras_ganprune.errors import PruningWarning

# Each number is counted from the begin of a run: the backups are those of epochs 1, 2 and 3.
CHAIN = (7, 6, 9)


def assert_resumes(name, chain, folder):
    expected = kill_script.train(name, folder / "whole")
    for at in chain:
        with pytest.raises(KeyboardInterrupt):
            kill_script.train(name, folder, BreakAt(at))
    found = kill_script.train(name, folder)
    assert len(found) == len(expected)
    differing = [
        number
        for number, (one, two) in enumerate(zip(found, expected, strict=True))
        if not np.array_equal(one, two)
    ]
    assert not differing, (differing, [found[n].shape for n in differing])


NAMES = [name for name in kill_script.ALL if "-" in name]


@cases(("gradients-rigl", "trials-long_trial"), "name", NAMES)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(name, tmp_path):
    if kill_script.ALL[name].compile and keras.backend.backend() != "tensorflow":
        pytest.skip("several steps a call: on TensorFlow only")
    assert_resumes(name, CHAIN, tmp_path)


# What a process leaves that is killed while it writes a backup: first weights, then a number of epochs.
def older_number(folder):
    (folder / "training_metadata.json").write_text('{"epoch": 1, "batch": 0}')


def begun_number(folder):
    (folder / "training_metadata.json").write_text("")


def no_number(folder):
    (folder / "training_metadata.json").unlink()


def half_of_the_weights(folder):
    path = folder / "latest.weights.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@cases(2, "leave", [older_number, begun_number, no_number, half_of_the_weights])
def test_a_backup_that_was_not_written_to_its_end(leave, tmp_path):
    expected = kill_script.train("modes-set", tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        kill_script.train("modes-set", tmp_path, BreakAt(13))
    leave(tmp_path / "backup")
    for one, two in zip(kill_script.train("modes-set", tmp_path), expected, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.full
def test_a_backup_before_prune(tmp_path):
    """Its number of epochs is right, too; but an adaptive schedule cannot go on from it."""
    expected = kill_script.train("modes-set", tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        kill_script.train("modes-set", tmp_path, BreakAt(13), early=True)
    for one, two in zip(
        kill_script.train("modes-set", tmp_path, early=True), expected, strict=True
    ):
        np.testing.assert_array_equal(one, two)
    with pytest.warns(PruningWarning, match="Place `BackupAndRestore` behind `Prune`"):
        kill_script.train("adaptive", tmp_path / "adaptive", early=True)
