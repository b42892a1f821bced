"""Ctrl-C says what is kept; the last line of a command is one that can be typed."""

import pathlib
import re
import shlex

import fake_application
import keras
import numpy as np
import pytest
import screens

from keras_ganprune import cli
from keras_ganprune.applications import catalog, pipeline
from keras_ganprune.applications.options import ApplicationOptions


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(2)]
    )
    network.compile("adam", "mse")
    network.save("m.keras")
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    np.savez("d.npz", x=x, y=x[:, :2])


def next_of(text):
    """Return the words of the next command that a text names, without the name of the program."""
    program, *words = shlex.split(re.findall(r"^Next: (.*)$", text, flags=re.MULTILINE)[-1])
    assert program == "keras-ganprune"
    return words


def stopped(monkeypatch, owner, name):
    """Let a function be stopped by Ctrl-C."""

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, stop)


@pytest.mark.full
def test_a_chain_of_commands(model, capsys):
    """Each command names the next one, which works when it is typed."""
    words = [
        "compress",
        "m.keras",
        "d.npz",
        "out",
        "--sparsity",
        "0.5",
        "--epochs",
        "2",
        "--batch-size",
        "8",
    ]
    for _ in range(2):
        assert cli.main(words) == 0
        printed = capsys.readouterr().out
        assert "Made: " in printed
        words = next_of(printed)
        assert words[0] in ("export", "benchmark", "report")
    assert cli.main(words) == 0
    assert not capsys.readouterr().out.startswith("Measuring")  # a table in Markdown alone


def test_shrink_and_report_name_the_next_command(model, capsys):
    assert cli.main(["shrink", "m.keras", "small", "--macs", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert re.search(
        r"^Worth: [\d.]+ % of the weights are left, and [\d.]+ % of the MACs\.$", printed, re.M
    )
    assert next_of(printed) == ["benchmark", "m.keras", "small/model.keras"]
    assert cli.main(["report", "m.keras"]) == 0
    assert next_of(capsys.readouterr().out)[0] in ("export", "benchmark")
    assert cli.main(["report", "m.keras", "--markdown"]) == 0
    assert "Next:" not in capsys.readouterr().out


@pytest.mark.full
def test_the_command_after_an_application(capsys):
    result = pipeline.run(fake_application.Fake(ApplicationOptions(output="run")))
    text = str(result)
    assert "Made: run with report.html" in text
    assert re.search(
        r"Worth: 80 % sparse: mean squared error 0\.\d{4}, [\d.]+ % of the weights are left", text
    )
    assert cli.main(next_of(text)) == 0
    assert next_of(capsys.readouterr().out) == ["report", "run"]


@pytest.mark.full
def test_ctrl_c_in_compress(model, capsys, monkeypatch):
    words = ["compress", "m.keras", "d.npz", "out", "--sparsity", "0.5"]
    words += ["--epochs", "2", "--batch-size", "8"]
    with monkeypatch.context() as patch:
        stopped(patch, keras.Model, "fit")
        assert cli.main(words) == 130
        error = capsys.readouterr().err
        assert "keras-ganprune: stopped. Nothing is kept." in error
        again = next_of(error)
        assert again == [*words, "--folder", "out_unfinished"]
        assert cli.main(again) == 130
        error = capsys.readouterr().err
    assert "Its state is in 'out_unfinished', and the same command goes on with it." in error
    assert next_of(error) == again
    assert cli.main(again) == 0


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(catalog, "get", lambda name: fake_application.Fake)
    return fake_application.Fake


def test_ctrl_c_in_a_demo(fake, monkeypatch):
    from keras_ganprune.applications import dense_training
    from keras_ganprune.cli import demo, stopping

    application = fake(ApplicationOptions(output="run"))
    kept, more = demo._kept(application)
    assert kept == "Nothing was trained yet, so nothing is kept." and more == []
    stopped(monkeypatch, dense_training.DenseTraining, "trained_model")
    with (
        pytest.raises(stopping.StoppedError) as stop,
        stopping.stopping(lambda: demo._kept(application)),
    ):
        pipeline.run(application)
    text = stopping.text_of(stop.value, ["demo", "fake", "--output", "run"])
    assert text.splitlines() == [
        "keras-ganprune: stopped. What is trained is in 'run_unfinished', and the same command goes on with "
        "it.",
        "Next: keras-ganprune demo fake --output run",
    ]
    assert not pathlib.Path("run").exists()


@pytest.mark.full
def test_ctrl_c_in_the_demo_of_image_generation(capsys, monkeypatch):
    stopped(monkeypatch, keras.Model, "fit")
    assert cli.main(["demo", "--quick", "--no-quality"]) == 130
    assert "stopped. Nothing is kept: this demo writes its folder" in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.parametrize("columns", [80, 160])
def test_a_demo_neither_wraps_nor_scrolls_while_it_works(columns):
    helpers = pathlib.Path(screens.__file__).parent
    program = (
        f"import sys; sys.path.insert(0, {str(helpers)!r})\n"
        "from fake_application import Fake\n"
        "from keras_ganprune.applications import pipeline\n"
        "pipeline.run(Fake(Fake.options_class(output='run')))\n"
    )
    seen = screens.run(["-c", program], columns, errors=False)
    assert seen.code == 0 and seen.screen.wraps == 0
    text = "\n".join(seen.lines)
    for stage in (
        *(
            "Loading the data",
            "Measuring the baselines",
            "dense: compiling",
            "compress: sparsity 0.8",
        ),
        *("cutting the channels out", "measuring the quality", "writing the report"),
    ):
        assert stage in text
    # What stays: at most a line per training and per remark.
    assert len(seen.screen.text) < 15 and seen.screen.scrolls == 0
