"""`keras-ganprune compress`: what it writes, and the arguments that it refuses."""

import importlib.util

import example_runs
import keras
import numpy as np
import pytest

from keras_ganprune import cli


@pytest.fixture
def saved(tmp_path):
    """Return the paths of a compiled model and of its data."""
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(2)]
    )
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
    np.savez(tmp_path / "data.npz", x=x, y=x[:, :2])
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras", tmp_path / "data.npz"


def call(saved, output, *arguments):
    return cli.main(["compress", *map(str, saved), str(output), *arguments])


def test_it_writes_the_network_the_table_and_the_code(saved, tmp_path, capsys):
    assert call(saved, tmp_path / "out", "--macs", "0.5", "--epochs", "8") == 0
    small = keras.saving.load_model(tmp_path / "out" / "model.keras")
    assert small.count_params() < 16 * 8 + 18
    assert "Shrink(None" in (tmp_path / "out" / "recipe.py").read_text(encoding="utf-8")
    exported = (tmp_path / "out" / "saved_model" / "saved_model.pb").exists()
    assert exported == (importlib.util.find_spec("tensorflow") is not None)
    text = capsys.readouterr().out
    assert "0.5 of the macs: achieved" in text and "loss" in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "Give one of --sparsity"),
        (["--sparsity", "0.5", "--macs", "0.5"], "Received: --sparsity, --macs"),
        (["--sparsity", "80"], "For 80 %, pass 0.8"),
        (["--sparsity", "0.5", "--target", "generator"], "Leave it out"),
    ],
    ids=str,
)
def test_arguments_that_are_refused(saved, tmp_path, capsys, arguments, text):
    assert call(saved, tmp_path / "out", *arguments) == 2
    assert text in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_file_without_x(saved, tmp_path, capsys):
    np.savez(tmp_path / "other.npz", pictures=np.ones(3))
    assert call((saved[0], tmp_path / "other.npz"), tmp_path / "out", "--sparsity", "0.5") == 2
    assert "must hold 'x'" in capsys.readouterr().err


def test_a_file_without_labels(saved, tmp_path, capsys):
    np.savez(tmp_path / "other.npz", x=np.ones((40, 6), "float32"))
    assert call((saved[0], tmp_path / "other.npz"), tmp_path / "out", "--sparsity", "0.5") == 2
    assert "Write them as 'y' beside 'x'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_shrink_without_training_says_so_and_names_compress(tmp_path, capsys):
    pytest.importorskip("tensorflow")
    example_runs.gan().save(tmp_path / "gan.keras")
    arguments = [
        "shrink",
        str(tmp_path / "gan.keras"),
        str(tmp_path / "small"),
        "--sparsity",
        "0.5",
    ]
    assert cli.main(arguments) == 0
    assert "keras-ganprune compress MODEL DATA OUT" in capsys.readouterr().out
