"""A process killed in mid-epoch and restarted: same position in the schedule, masks and final sparsity."""

import json
import os
import signal
import subprocess
import sys

import keras
import networks as nets
import numpy as np
import paths
import pytest
import resume_script
from cases import cases
from interruptions import BreakAt
from keras.optimizers import Adam

import keras_ganprune as kgp

HERE = paths.HELPERS


def start(kind, folder, kill_at):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(paths.ROOT), str(HERE)])}
    return subprocess.run(
        [sys.executable, str(HERE / "resume_script.py"), kind, str(folder), str(kill_at)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def killed_and_resumed(kind, folder, kill_at):
    killed = start(kind, folder, kill_at)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (folder / "result.json").exists()
    resumed = start(kind, folder, 0)
    assert resumed.returncode == 0, resumed.stderr
    return json.loads((folder / "result.json").read_text()), resumed


def sparsity_in_force(step):
    """Return the schedule's value at the last update step up to `step`."""
    schedule, frequency = resume_script.SCHEDULE, resume_script.FREQUENCY
    due = [s for s in range(step + 1) if schedule.is_update_step(s, frequency)]
    return schedule(due[-1]) if due else 0.0


def expected_kept(step, sizes):
    return sum(nets.kept_oracle(n, sparsity_in_force(step)) for n in sizes)


# Batch 13 is the fifth of the second epoch; the last backup is of the end of batch 10 or so, between
# the mask updates at steps 8 and 14.
@pytest.mark.full
@pytest.mark.parametrize("kill_at", [13])
def test_gan_model_killed_in_mid_epoch(kill_at, tmp_path):
    result, _ = killed_and_resumed("gan_model", tmp_path, kill_at)
    whole, expected = resume_script.train("gan_model")
    # It starts behind a backup, not at zero, and does the rest.
    first = result["rows"][0][0]
    assert 1 < first <= kill_at + 1
    assert result["rows"][-1][0] == result["iterations"]
    sizes = [size for _, _, size in expected["nonzeros"].values()]
    for step, kept in result["rows"]:
        assert kept == expected_kept(step, sizes), step
    uninterrupted = dict(map(tuple, expected["rows"]))
    assert all(uninterrupted.get(step, kept) == kept for step, kept in result["rows"])
    # No update was made twice, none was left out.
    assert [u[0] for u in result["updates"]] == [u[0] for u in expected["updates"] if u[0] >= first]
    for key in ("nonzeros", "ema_nonzeros"):
        # In order, not by name: Keras numbers the layers of this process on from earlier tests.
        assert [tuple(v) for v in result[key].values()] == list(expected[key].values())
    assert result["leaks"] == {}
    nets.assert_exact(0.8, whole.generator, whole.ema_generator)
    for nonzero, kept, size in result["nonzeros"].values():
        assert (nonzero, kept) == (nets.kept_oracle(size, 0.8),) * 2


@pytest.mark.full
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="its `train_step` is written for TensorFlow"
)
def test_foreign_gan_killed_in_mid_epoch(tmp_path):
    """Its optimizers are built before Keras restores them, so that their count and state go on."""
    result, resumed = killed_and_resumed("foreign", tmp_path, 13)
    _, expected = resume_script.train("foreign")
    assert "was not restored with the masks" not in resumed.stdout + resumed.stderr
    sizes = [size for _, _, size in expected["nonzeros"].values()]
    assert result["rows"][0][0] == 11  # the backup is of batch 10, two times SAVE_EVERY
    for step, kept in result["rows"]:
        assert kept == expected_kept(step, sizes), step
    assert [u[0] for u in result["updates"]] == [14, 20, 26]
    assert [u[0] for u in expected["updates"]] == [2, 8, 14, 20, 26]
    for key in ("nonzeros", "ema_nonzeros"):
        table = list(result[key].values())
        assert len(table) == 2
        for nonzero, kept_, size in table:
            assert (nonzero, kept_) == (nets.kept_oracle(size, 0.8),) * 2
    assert result["leaks"] == {}


def gan_model():
    keras.utils.set_random_seed(0)
    gan = kgp.GANModel(*nets.mlp_pair(), nets.LATENT, seed=1, ema_decay=0.9, balance_frequency=0)
    gan.compile(Adam(1e-2), Adam(1e-2))
    return gan


def fit(gan, folder, *callbacks, epochs=4):
    prune = kgp.Prune(kgp.PolynomialDecay(0.8, 2, 26), ["generator", "discriminator"], 6, verbose=0)
    backup = keras.callbacks.BackupAndRestore(str(folder), delete_checkpoint=False)
    gan.fit(
        nets.images(32),
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[prune, backup, *callbacks],
    )
    return prune


@cases((9,), "at", [3, 9, 20, 30])
def test_restored_at_an_epoch_end_gives_the_weights_of_an_uninterrupted_run(at, tmp_path):
    """Backups of epoch ends hold all there is: weights, masks, both optimizers, random states."""
    whole = gan_model()
    fit(whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(gan_model(), tmp_path / "cut", BreakAt(at))
    gan = gan_model()
    fit(gan, tmp_path / "cut")
    assert int(gan.generator_optimizer.iterations) == 32
    for one, two in zip(whole.weights, gan.weights, strict=True):
        np.testing.assert_array_equal(nets.value(one), nets.value(two))
    for name in ("generator_optimizer", "discriminator_optimizer"):
        pairs = zip(getattr(whole, name).variables, getattr(gan, name).variables, strict=True)
        for one, two in pairs:
            np.testing.assert_array_equal(nets.value(one), nets.value(two))
    nets.assert_exact(0.8, gan.generator, gan.discriminator, gan.ema_generator)


@pytest.mark.full
def test_a_finished_run_restored_trains_no_more(tmp_path):
    gan = gan_model()
    fit(gan, tmp_path)
    again = gan_model()
    prune = fit(again, tmp_path)
    assert int(again.generator_optimizer.iterations) == 32
    assert prune.updates == []
    for one, two in zip(gan.weights, again.weights, strict=True):
        np.testing.assert_array_equal(nets.value(one), nets.value(two))
    nets.assert_exact(0.8, again.generator)


@pytest.mark.full
def test_weights_put_back_by_hand_before_fit(tmp_path):
    """The plain way to resume: build, make prunable, load weights, fit; the optimizer starts anew."""
    gan = gan_model()
    with pytest.warns(kgp.PruningWarning, match="Training ended at step 16, before"):
        fit(gan, tmp_path / "backup", epochs=2)
    kept = [kept for _, kept, _ in nets.nonzeros(gan.generator).values()]
    gan.save_weights(tmp_path / "gan.weights.h5")
    other = gan_model()
    for network in (other.generator, other.discriminator, other.ema_generator):
        kgp.make_prunable(network)
    other.load_weights(tmp_path / "gan.weights.h5")
    assert [kept for _, kept, _ in nets.nonzeros(other.generator).values()] == kept
    watch = nets.Watch(other.generator)
    prune = fit(other, tmp_path / "other", watch)
    nets.assert_held(watch, 0.8)
    assert prune.updates[-1][0] == 26
