"""`keras-ganprune shrink`: the channels that it cuts, and the arguments that it refuses."""

import example_runs
import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune import cli


@pytest.fixture
def saved(tmp_path):
    """Return the path of a GANModel whose generator has masked channels."""
    gan = example_runs.gan()
    pruner = kgp.Pruner(gan.generator, granularity="channel", scope=["hidden"])
    pruner.update(sparsity=0.5)
    gan.save(tmp_path / "gan.keras")
    return tmp_path / "gan.keras"


def widths(folder):
    model = keras.saving.load_model(folder / "model.keras")
    return [layer.units for layer in model.layers if hasattr(layer, "units")]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [12, 64]),
        pytest.param(["--sparsity", "0.75"], [6, 64], marks=pytest.mark.full),
        (["--sparsity", "0.75", "--round-to", "8"], [8, 64]),
        pytest.param(
            ["--network", "discriminator", "--sparsity", "0.5"], [8, 1], marks=pytest.mark.full
        ),
    ],
    ids=str,
)
def test_channels_are_cut(saved, tmp_path, capsys, arguments, expected):
    assert cli.main(["shrink", str(saved), str(tmp_path / "out"), *arguments]) == 0
    assert widths(tmp_path / "out") == expected
    table = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert "before" in table and "shrunk" in table
    assert (tmp_path / "out" / "saved_model" / "saved_model.pb").exists()
    assert f"{tmp_path / 'out' / 'saved_model'}" in capsys.readouterr().out


def test_a_network_with_pruned_single_weights_keeps_its_zeros(tmp_path, capsys):
    """The file that `keras-ganprune demo` leaves."""
    gan = example_runs.gan()
    kgp.Pruner(gan.generator, scope=["hidden"]).update(sparsity=0.8)
    gan.save(tmp_path / "gan.keras")
    command = ["shrink", str(tmp_path / "gan.keras"), str(tmp_path / "out"), "--sparsity", "0.5"]
    assert cli.main(command) == 0
    assert widths(tmp_path / "out") == [12, 64]
    small = keras.saving.load_model(tmp_path / "out" / "model.keras")
    kernels = [w.numpy() for w in small.trainable_weights if len(w.shape) == 2]
    zeros = sum(int((kernel == 0).sum()) for kernel in kernels)
    share = zeros / sum(kernel.size for kernel in kernels)
    assert 0 < share < 0.5
    assert f"stay as zeros: {share:.1%} of the weights" in capsys.readouterr().out


@pytest.mark.full
def test_masked_channels_are_cut_without_a_change(saved, tmp_path):
    assert cli.main(["shrink", str(saved), str(tmp_path / "out"), "--live"]) == 0
    gan = keras.saving.load_model(saved)
    z = np.random.default_rng(0).standard_normal((4, example_runs.LATENT)).astype("float32")
    small = keras.saving.load_model(tmp_path / "out" / "model.keras")
    np.testing.assert_allclose(small(z), gan.generator(z), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--sparsity", "0.5", "--macs", "0.5"], "only one of --sparsity, --macs"),
        (["--network", "generater"], "Did you mean 'generator'"),
        (["--sparsity", "80"], r"For 80 %, pass 0.8"),
    ],
)
def test_wrong_arguments_are_refused(saved, tmp_path, capsys, arguments, text):
    assert cli.main(["shrink", str(saved), str(tmp_path / "out"), *arguments]) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
