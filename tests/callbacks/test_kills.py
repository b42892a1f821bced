"""Chains of processes that are killed and begun again end with the bits of one that is not killed."""

import functools
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import paths
import pytest

BACKEND = keras.backend.backend()

# Kind of run -> chains: the batches at which the processes are killed, each counted from its own begin.
CHAINS = {
    # (1, 7, 2): in the first step, and twice in one epoch.
    "gan_model": [(13,), (3, 7), (6, 6, 6), (29,), (1, 7, 2)],
    "foreign": [(13,), (3, 7), (26,)],
    "rigl": [(8,), (12, 9), (21,)],
    "soft": [(8,), (12, 9), (24,)],
    "taylor": [(13,), (12, 9), (22,), (8,)],
    # In the trial that holds, in the one that does not, behind it, and in two trials.
    "adaptive": [(8,), (14,), (17,), (14, 7)],
}
ROWS = [(kind, chain) for kind, chains in CHAINS.items() for chain in chains]


def start(kind, folder, kill_at):
    script = paths.HELPERS / "kill_script.py"
    path = os.pathsep.join([str(paths.ROOT), str(paths.HELPERS)])
    return subprocess.run(
        [sys.executable, str(script), kind, str(folder), str(kill_at)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def end(folder):
    with np.load(folder / "end.npz") as arrays:
        return [arrays[name] for name in arrays]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Return a function: kind -> the end of a run that was not killed."""

    @functools.cache
    def run(kind):
        folder = tmp_path_factory.mktemp(kind)
        process = start(kind, folder, 0)
        assert process.returncode == 0, process.stderr[-3000:]
        return end(folder)

    return run


@pytest.mark.full
@pytest.mark.parametrize(("kind", "chain"), ROWS)
def test_a_chain_of_kills_ends_as_an_uninterrupted_run(kind, chain, uninterrupted, tmp_path):
    if kind == "foreign" and BACKEND == "jax":
        pytest.skip("a `train_step` of one's own has no variables of other optimizers on JAX")
    expected = uninterrupted(kind)
    for kill_at in chain:
        killed = start(kind, tmp_path, kill_at)
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    resumed = start(kind, tmp_path, 0)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    found = end(tmp_path)
    assert len(found) == len(expected)
    for number, (one, two) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_array_equal(one, two, err_msg=str(number))
