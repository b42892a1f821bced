"""The options of the demo: one description each, and the combinations that are refused."""

import argparse
import subprocess
import sys

import pytest

from keras_ganprune import cli
from keras_ganprune.applications import image_generation
from keras_ganprune.applications.image_generation import DemoOptions, training
from keras_ganprune.applications.option_fields import options_of
from keras_ganprune.cli.arguments import Recorder, add_to
from keras_ganprune.cli.command_options import add_options, given_options
from keras_ganprune.errors import InvalidArgumentError

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")


def test_every_option_is_described_once_and_shown_everywhere(capsys):
    options = options_of(DemoOptions)
    assert len(options) == 29
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", "--help"])
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    documented = " ".join(DemoOptions.__doc__.split())
    for name, option in options.items():
        assert f"{name}: {option}" in documented
        # argparse breaks lines at hyphens.
        assert str(option).replace("-", "") in printed.replace("- ", "").replace("-", ""), name
        assert option.flag in printed


def test_the_command_line_without_arguments_gives_the_defaults():
    recorder, parser = Recorder(), argparse.ArgumentParser()
    add_options(recorder, DemoOptions)
    add_to(parser, recorder.records)
    assert DemoOptions(**given_options(parser.parse_args([]), DemoOptions)) == DemoOptions()


def test_the_schedule_follows_from_a_threshold():
    assert DemoOptions().schedule == "polynomial"
    assert DemoOptions(threshold=0.1).schedule == "threshold"
    assert DemoOptions(schedule="dynamic_threshold").limit == 1.0


def test_missing_labels_are_refused_before_training(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "images").mkdir()
    for i in range(4):
        image.new("L", (8, 8), 40 * i).save(tmp_path / "images" / f"{i}.png")
    folder = ["--data", str(tmp_path / "images"), "--image-size", "8"]
    output = ["--output", str(tmp_path / "run")]
    assert cli.main(["demo", *folder, *output, "--conditional"]) == 2
    assert "--conditional needs images with labels" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--sparsity", "80"], "For 80 %, pass 0.8"),
        (["--sparsity", "nan"], "--sparsity must be a finite number"),
        (["--sparsity", "0.5", "--threshold", "0.1"], "--sparsity has no meaning"),
        (["--schedule", "cubic", "--threshold", "0.1"], "--threshold has no meaning"),
        (["--network", "dcgna"], "Did you mean 'dcgan'"),
        (["--target", "generater"], "Did you mean 'generator'"),
        (["--schedule", "cubik"], "Unknown schedule 'cubik'. Did you mean 'cubic'"),
        (["--criterion", "magnitud"], "Did you mean 'magnitude'"),
        (["--criterion", "magnitude=1,taylor"], "must be written as NAME=NUMBER"),
        (["--criterion", "magnitude=1,taylor=-1"], "Received: -1.0"),
        (["--granularity", "4:2"], "N must be smaller than M"),
        (["--granularity", "2:4", "--sparsity", "0.9"], "use the same final sparsity in both"),
        (["--allocation", "erkk"], "Did you mean 'erk'"),
        (["--allocation", "conv*=90"], "For 90 %, pass 0.9"),
        (["--mode", "riggle"], "Unknown mode 'riggle'"),
        (["--schedule", "cyclic"], "use --mode soft, rigl, set or splice"),
        (["--criterion", "fpgm"], "use the granularity 'channel'"),
        (["--joint"], "Name both"),
        (["--target", "discriminator", "--balance"], "Leave one of the two out"),
        (["--network", "mlp", "--conditional"], "'mlp' takes no labels"),
        (["--network", "mlp", "--tie"], "Use the network 'dcgan'"),
        (["--loss", "hinges"], "Did you mean 'hinge'"),
        (["--data", "mnitst"], "Did you mean 'mnist'"),
        (["--steps", "0"], "positive int"),
        (["--steps", "5", "--epochs", "5"], "not both"),
        (["--output", "/proc/none"], "cannot be written"),
        (["--threshold", "-1"], "non-negative number"),
    ],
)
def test_bad_options_are_refused_before_training(arguments, text, capsys, tmp_path):
    given = ["--output", str(tmp_path / "run")] if "--output" not in arguments else []
    data = [] if "--data" in arguments else ["--data", "digits"]
    assert cli.main(["demo", *given, *data, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("keras-ganprune: error: ") and text in error
    assert list(tmp_path.iterdir()) == []


def test_steps_become_whole_epochs():
    options = image_generation.DemoOptions(steps=250)
    assert training.epochs_and_steps(options, batches=79) == (4, 79)
    assert training.epochs_and_steps(options, batches=938) == (3, 100)
    options = image_generation.DemoOptions(epochs=2)
    assert training.epochs_and_steps(options, batches=938) == (2, 100)


def test_batch_size_must_be_positive():
    with pytest.raises(InvalidArgumentError, match="positive int"):
        image_generation.DemoOptions(batch_size=0)


@pytest.mark.parametrize(
    ("settings", "chosen"),
    [
        ({}, ("taylor", "global_ranking")),
        ({"criterion": "random"}, ("random", "global_ranking")),
        ({"allocation": "erk"}, ("taylor", "erk")),
        ({"granularity": "2:4"}, ("magnitude", "uniform")),
        ({"structured": True}, ("magnitude", "uniform")),
        ({"schedule": "threshold"}, ("magnitude", "uniform")),
    ],
    ids=str,
)
def test_the_default_criterion_and_allocation(settings, chosen):
    options = image_generation.DemoOptions(**settings)
    assert (options.criterion, options.allocation) == chosen


@pytest.mark.full
def test_help_lists_the_options():
    script = (
        "import sys; from keras_ganprune import cli\n"
        "try: cli.main(['demo', '--help'])\n"
        "except SystemExit as stop: code = stop.code\n"
        "print('exit', code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert "--sparsity" in done.stdout and "exit 0" in done.stdout
