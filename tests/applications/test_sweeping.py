"""An application in a sweep: dense and pruned runs of the same seeds, measured on the validation data."""

import fake_application
import numpy as np
import pytest

from keras_ganprune.applications.options import ApplicationOptions
from keras_ganprune.applications.sweeping import sweep_application
from keras_ganprune.errors import InvalidArgumentError

pytest.importorskip("optuna")

SETTINGS = {"sparsities": (0.5,), "seeds": 1, "steps": 6, "batch_size": None}


# The test below sweeps `Fake` by default.
@pytest.mark.parametrize(
    "cls",
    [pytest.param(fake_application.Fake, marks=pytest.mark.full), fake_application.TwoInputs],
)
def test_an_application_is_swept(cls):
    application = cls(ApplicationOptions())
    result = sweep_application(application, SETTINGS, storage=None, progress=False)
    assert [(row.requested, row.trials) for row in result.rows] == [(None, 1), (0.5, 1)]
    assert all(np.isfinite(row.mean) for row in result.rows)
    assert result.rows[1].sparsity == pytest.approx(0.5, abs=0.02)
    assert set(result.trials[0].values) == {"error", "worst"}
    # The numbers are those of the validation data, and a lower error is better.
    assert result.settings["metric"] == "error" and result.settings["direction"] == "min"
    assert result.settings["application"] == "fake"


def test_without_settings_it_is_as_long_as_the_application():
    settings = {"sparsities": (0.5,), "seeds": 1}
    application = fake_application.Fake(ApplicationOptions(epochs=1))
    result = sweep_application(application, settings, storage=None, progress=False)
    assert result.settings["steps"] == 10 and result.settings["batch_size"] == 32


def test_wrong_settings_are_refused_before_the_data_is_loaded(monkeypatch):
    monkeypatch.setattr(fake_application.Fake, "data", lambda self: 1 / 0)
    application = fake_application.Fake(ApplicationOptions())
    with pytest.raises(InvalidArgumentError, match=r"For 80 %, pass 0\.8"):
        sweep_application(application, {"sparsities": (80,)}, storage=None)
