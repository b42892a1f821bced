"""A killed `compress` goes on, and ends with the bits of one that was not killed."""

import keras
import pytest
from kill_chains import KillChains

# Kind -> chains: the batches at which the processes are killed, each counted from its own begin. There are 24
# of the dense training, then 24 of the compression; a budget is cut after 12 of these.
CHAINS = {
    "gan_sparsity": [(13,), (30, 8)],
    "gan_budget": [(31,), (44,), (3, 40, 3)],
    "classifier_sparsity": [(31, 3)],
    "classifier_budget": [(30,), (43,)],
    "wgan_gp_budget": [(30, 15), (44,)],
    "wgan_gp_sparsity": [(13, 25)],
    "held_sparsity": [(13,), (30,)],
    # 24 of a copy come first.
    "noticed_sparsity": [(13,), (30, 30)],
    # Four trainings of a candidate: the kills are in the second and the last.
    "classifier_tolerance": [(55, 40)],
}


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    return KillChains("compress_script.py", 600, tmp_path_factory.mktemp)


@pytest.mark.full
@pytest.mark.parametrize(
    ("kind", "chain"), [(kind, chain) for kind, chains in CHAINS.items() for chain in chains]
)
def test_a_chain_of_kills_ends_as_an_uninterrupted_run(kind, chain, chains, tmp_path):
    if kind.startswith(("wgan_gp", "held", "noticed")) and keras.backend.backend() != "tensorflow":
        pytest.skip("the class of the user is of TensorFlow")
    chains.check(kind, chain, tmp_path)
