"""Bad input to `compress`: the rule, what was received, a fix, and nothing half-written."""

import compressed_models as models
import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.errors import DataError, FileFormatError, InvalidArgumentError


@pytest.fixture(scope="module")
def trained():
    return models.trained(models.classifier, epochs=1)


X, Y = np.ones((12, 16), "float32"), np.zeros(12)
FINE = {"sparsity": 0.5, "epochs": 1, "batch_size": 2, "verbose": 0, "baseline": False}
WRONG = [
    ({"sparsity": 80}, "For 80 %, pass 0.8"),
    ({"sparsity": None}, "`sparsity=0.9`, `budget=Budget"),
    ({"budget": kgp.Budget(macs=0.5)}, "Give one of `sparsity`"),
    ({"sparsity": None, "budget": kgp.Budget(macs=0.001)}, "cannot be met"),
    ({"tolerance": 2}, "0.02 for 2 %"),
    ({"target": "generator"}, "Leave it out"),
    ({"epochs": 0}, "`epochs`"),
    ({"batch_size": 48}, "at least 4 training steps"),
    ({"metric": lambda network: float("nan")}, "finite number"),
    ({"metric": lambda network: "good"}, "must return a number"),
    ({"metric": lambda network: 1.0, "tolerance": 0.1, "baseline": None}, "higher_is_better=True"),
    ({"tolerance": 0.1}, "baseline=False"),
    ({"baseline": {"f1": 1.0}}, "deciding metric"),
]


@pytest.mark.parametrize(("change", "text"), WRONG, ids=[text for _, text in WRONG])
def test_arguments(trained, change, text, tmp_path):
    model, data = trained
    with pytest.raises(InvalidArgumentError, match=text):
        kgp.compress(model, data, **{**FINE, **change})


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ((X, Y[:5]), r"\[12, 5\] entries"),
        ((X[:0], Y[:0]), "at least one sample"),
        ((X * np.nan, Y), "finite"),
        ((X[:, :3], Y), "shape of the model's input"),
        (X, "`labels` are missing"),
        ((X, Y, Y, Y), "tuple of 4"),
        ("digits", "must be arrays"),
    ],
    ids=["length", "empty", "nan", "shape", "labels", "four", "text"],
)
def test_data(trained, data, text):
    with pytest.raises(DataError, match=text):
        kgp.compress(trained[0], data, **FINE)


def test_a_model_that_is_not_compiled():
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(1)])
    with pytest.raises(InvalidArgumentError, match="Call its `compile`"):
        kgp.compress(model, (X, Y), **FINE)


@pytest.mark.full
def test_nothing_is_within_the_tolerance(trained):
    values = iter([1.0, 1.0, *[0.0] * 20])
    with pytest.raises(InvalidArgumentError, match=r"Tried: sparsity 0.5: 0, .*Train for more"):
        kgp.compress(
            *trained,
            **{**FINE, "baseline": None},
            tolerance=0.01,
            metric=lambda network: {"score": next(values)},
        )


def test_a_folder_of_something_else(trained, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileFormatError, match="Name another folder"):
        kgp.compress(*trained, folder=tmp_path, **FINE)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


class Interrupt(keras.callbacks.Callback):
    """Ends a run before its first step."""

    def on_train_begin(self, logs=None):
        raise KeyboardInterrupt


def test_a_folder_of_other_options(trained, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        kgp.compress(*trained, folder=tmp_path / "state", callbacks=[Interrupt()], **FINE)
    with pytest.raises(FileFormatError, match="another options"):
        kgp.compress(*trained, folder=tmp_path / "state", **{**FINE, "sparsity": 0.6})
