"""Runs that are interrupted and begun again end with the bits of one that is not: tables of kinds of runs."""

import keras
import kill_script
import numpy as np
import pytest
from cases import cases
from interruptions import BreakAt

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError, PruningWarning

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


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(name, tmp_path):
    if kill_script.ALL[name].compile and keras.backend.backend() != "tensorflow":
        pytest.skip("several steps a call: on TensorFlow only")
    assert_resumes(name, CHAIN, tmp_path)


# What a process leaves that is killed while it writes a backup: first weights, then a number of epochs.
def older_number(folder):
    (folder / "training_metadata.json").write_text('{"epoch": 0, "batch": 0}')


def begun_number(folder):
    (folder / "training_metadata.json").write_text("")


def no_number(folder):
    (folder / "training_metadata.json").unlink()


def half_of_the_weights(folder):
    path = folder / "latest.weights.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@cases(0, "leave", [older_number, begun_number, no_number, half_of_the_weights])
def test_a_backup_that_was_not_written_to_its_end(leave, tmp_path):
    """Two of three batches are sampled at the end of the first epoch."""
    expected = kill_script.train("gradients-rigl", tmp_path / "whole")
    at = 13 if leave is half_of_the_weights else 8  # Keras reads the backup before the last one
    with pytest.raises(KeyboardInterrupt):
        kill_script.train("gradients-rigl", tmp_path, BreakAt(at))
    leave(tmp_path / "backup")
    for one, two in zip(kill_script.train("gradients-rigl", tmp_path), expected, strict=True):
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


def shrink_and_train(gan, folder, backup, end=None, epoch=0):
    images = np.random.default_rng(0).uniform(-1, 1, (20, 4, 4, 1)).astype("float32")
    callbacks = [
        kgp.Shrink([8, 17], sparsity=0.3, verbose=0),
        keras.callbacks.ModelCheckpoint(str(folder / "epoch_{epoch:03d}.keras")),
        keras.callbacks.BackupAndRestore(str(folder / backup)),
        *([end] if end else []),
    ]
    gan.fit(
        images, None, 4, 6, 0, callbacks=callbacks, shuffle=False, initial_epoch=epoch
    )  # steps 1 to 30
    return [keras.ops.convert_to_numpy(weight) for weight in gan.weights]


@pytest.mark.full
def test_a_run_that_was_cut_goes_on_from_the_whole_model(tmp_path):
    """A backup has no layers, so it is refused, with what works instead."""
    expected = shrink_and_train(kill_script.make("gan_model")[0], tmp_path / "whole", "backup")
    with pytest.raises(KeyboardInterrupt):
        shrink_and_train(kill_script.make("gan_model")[0], tmp_path, "backup", BreakAt(13))
    with pytest.raises(InvalidArgumentError, match="'generator', which `Shrink` had cut"):
        shrink_and_train(kill_script.make("gan_model")[0], tmp_path, "backup")
    gan = kgp.load_model(tmp_path / "epoch_002.keras")
    found = shrink_and_train(gan, tmp_path, "other_backup", epoch=2)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, two)


def recover_and_end(folder, end=None):
    gan, optimizers = kill_script.make("gan_model")
    kgp.Pruner(gan.generator).update(sparsity=0.5)
    images = np.random.default_rng(0).uniform(-1, 1, (20, 4, 4, 1)).astype("float32")
    backup = keras.callbacks.BackupAndRestore(str(folder), double_checkpoint=True)
    kgp.recover(
        gan,
        images,
        6,
        learning_rate=1e-3,
        batch_size=4,
        callbacks=[backup, *([end] if end else [])],
        shuffle=False,
        verbose=0,
    )
    variables = [*gan.weights, *(v for optimizer in optimizers for v in optimizer.variables)]
    return [keras.ops.convert_to_numpy(v) for v in variables]


@pytest.mark.full
def test_an_interrupted_recovery(tmp_path):
    expected = recover_and_end(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        recover_and_end(tmp_path / "cut", BreakAt(13))
    for one, two in zip(recover_and_end(tmp_path / "cut"), expected, strict=True):
        np.testing.assert_array_equal(one, two)
