"""A killed `compress` goes on, and ends with the bits of one that was not killed."""

import functools
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import paths
import pytest

# Kind -> chains: the batches at which the processes are killed, each counted from its own begin. There are 24
# of the dense training, then 24 of the compression; a budget is cut after 12 of these.
CHAINS = {
    "gan_sparsity": [(13,), (30, 8)],
    "gan_budget": [(31,), (44,), (3, 40, 3)],
    "classifier_sparsity": [(31, 3)],
    "classifier_budget": [(30,), (43,)],
    "wgan_gp_budget": [(44,)],
}


def start(kind, folder, kill_at):
    script = paths.HELPERS / "compress_script.py"
    path = os.pathsep.join([str(paths.ROOT), str(paths.HELPERS)])
    return subprocess.run(
        [sys.executable, str(script), kind, str(folder), str(kill_at)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )


def end(folder):
    with np.load(folder / "end.npz") as arrays:
        return dict(arrays)


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
@pytest.mark.parametrize(
    ("kind", "chain"), [(kind, chain) for kind, chains in CHAINS.items() for chain in chains]
)
def test_a_chain_of_kills_ends_as_an_uninterrupted_run(kind, chain, uninterrupted, tmp_path):
    if kind == "wgan_gp_budget" and keras.backend.backend() != "tensorflow":
        pytest.skip("the class of the user is of TensorFlow")
    expected = uninterrupted(kind)
    for kill_at in chain:
        killed = start(kind, tmp_path, kill_at)
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    resumed = start(kind, tmp_path, 0)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    found = end(tmp_path)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
