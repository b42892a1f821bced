"""Seeds for tests of random cases: a few by default, all of them with `-m full`."""

import pytest


def seeds(count, default=5):
    """Return the seeds 0 ... count - 1 for `parametrize`; those from `default` on are marked `full`."""
    return [
        seed if seed < default else pytest.param(seed, marks=pytest.mark.full)
        for seed in range(count)
    ]
