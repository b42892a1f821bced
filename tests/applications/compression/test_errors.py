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
    ({"epochs": -1}, "`epochs`"),
    ({"batch_size": 48}, "at least 4 training steps"),
    ({"metric": lambda network: float("nan")}, "finite number"),
    ({"metric": lambda network: "good"}, "must return a number"),
    ({"metric": lambda network: 1.0, "tolerance": 0.1, "baseline": None}, "higher_is_better=True"),
    ({"tolerance": 0.1}, "baseline=False"),
    ({"baseline": {"f1": 1.0}}, "deciding metric"),
    ({"teacher": keras.Sequential([keras.Input((16,)), keras.layers.Dense(7)])}, "Leave `teacher`"),
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
        (X, r"Pass a tuple \(x, y\)"),
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


@pytest.mark.parametrize(
    ("held_out", "text"),
    [
        ((X[:, :3], Y), "`validation_data` must have the shape of the model's input"),
        ((X, Y[:5]), r"`validation_data` must have one entry per sample. Received: \[12, 5\]"),
        ((X * np.nan, Y), "`validation_data` must be finite"),
        ((X, Y * np.nan), "The labels of `validation_data` must be finite"),
        ((X[:0], Y[:0]), "`validation_data` must hold at least one sample"),
        (X, r"`validation_data` must have labels.*Pass a tuple \(x, y\)"),
        ((X, np.ones((12, 7))), r"`validation_data` must be what the model and its compiled loss"),
    ],
    ids=["shape", "length", "nan", "nan labels", "empty", "labels", "shape of labels"],
)
def test_validation_data(trained, held_out, text):
    with pytest.raises(DataError, match=text):
        kgp.compress(*trained, **FINE, validation_data=held_out)


A, B = np.ones((12, 6), "float32"), np.ones((12, 4), "float32")


@pytest.mark.parametrize(
    ("x", "text"),
    [
        ({"a": A, "b": B[:, :2]}, r"\(None, 4\).*Received: \{'a': \(12, 6\), 'b': \(12, 2\)\}"),
        ({"a": A}, "'a': \\(12, 6\\)"),
        ({"a": A, "b": B[:5]}, r"Received: \[12, 5, 12"),
    ],
    ids=["shape", "one missing", "length"],
)
def test_data_of_two_inputs(x, text):
    model, (_, y) = models.two_inputs()
    with pytest.raises(DataError, match=text):
        kgp.compress(model, (x, {name: labels[:12] for name, labels in y.items()}), **FINE)


@pytest.mark.full
def test_a_metric_that_returns_nan_for_a_sparse_network_only(trained):
    def metric(network):
        kernels = [w for w in network.get_weights() if w.ndim > 1]
        share = sum(map(np.count_nonzero, kernels)) / sum(kernel.size for kernel in kernels)
        return float("nan") if share < 0.9 else share

    with pytest.raises(
        InvalidArgumentError, match="= nan. Let it return a number".replace(".", r"\.")
    ):
        kgp.compress(*trained, **FINE, metric=metric)


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
