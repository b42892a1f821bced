"""Chains of processes that are killed and begun again end with the bits of one that is not killed."""

import keras
import pytest
from kill_chains import KillChains

BACKEND = keras.backend.backend()

# Kind of run -> chains: the batches at which the processes are killed, each counted from its own begin.
CHAINS = {
    # (1, 7, 2): in the first step, and twice in one epoch.
    "gan_model": [(13,), (3, 7), (6, 6, 6), (29,), (1, 7, 2)],
    "foreign": [(13,), (3, 7), (26,)],
    "image_to_image": [(13,), (1, 7, 2)],
    "rigl": [(8,), (12, 9), (21,)],
    "soft": [(8,), (12, 9), (24,)],
    "taylor": [(13,), (12, 9), (22,), (8,)],
    # In the trial that holds, in the one that does not, behind it, and in two trials.
    "adaptive": [(8,), (14,), (17,), (14, 7)],
}
ROWS = [(kind, chain) for kind, chains in CHAINS.items() for chain in chains]


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    return KillChains("kill_script.py", 300, tmp_path_factory.mktemp)


@pytest.mark.full
@pytest.mark.parametrize(("kind", "chain"), ROWS)
def test_a_chain_of_kills_ends_as_an_uninterrupted_run(kind, chain, chains, tmp_path):
    if kind == "foreign" and BACKEND == "jax":
        pytest.skip("a `train_step` of one's own has no variables of other optimizers on JAX")
    chains.check(kind, chain, tmp_path)
