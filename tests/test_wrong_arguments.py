"""Wrong arguments of everything that is public: an error of our own, or a value that is right.

`tests/helpers/wrong_arguments.py` has the values, the valid calls, and what may be accepted.
"""

import pytest
import wrong_arguments

CALLS = {name: (make, base) for name, make, base in wrong_arguments.callables()}
# Callables without networks, and some of each kind with one. The others take minutes together.
DEFAULT = {
    *(
        "Budget",
        "Channel",
        "ConstantSparsity",
        "Cyclic",
        "DiversityGuard",
        "Linear",
        "NM",
        "NaNGuard",
        "RigL",
    ),
    *("Linear.__call__", "Pruner.update", "QualityMonitor", "SampleGrid", "Shrink", "record_run"),
    *("copy_masks", "load_run", "mean_interval", "sparsity_report"),
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name", [n if n in DEFAULT else pytest.param(n, marks=pytest.mark.full) for n in CALLS]
)
def test_no_foreign_error_and_nothing_wrong_is_accepted(name):
    assert wrong_arguments.problems(name, *CALLS[name]) == []


def test_the_table_has_every_public_name_with_required_arguments():
    assert set(wrong_arguments.BASES) <= set(CALLS) | {"multi_worker_strategy"}
