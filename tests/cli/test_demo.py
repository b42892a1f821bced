"""`keras-ganprune demo`: the list of applications, and the options of each."""

import pytest

from keras_ganprune import cli
from keras_ganprune.applications import catalog
from keras_ganprune.applications.option_fields import options_of


def test_the_list_of_applications(capsys):
    assert cli.main(["demo", "--list"]) == 0
    printed = capsys.readouterr().out
    for name in catalog.names():
        assert f"{name} " in printed and catalog.get(name).help in printed


@pytest.mark.parametrize("command", ["demo", "sweep"])
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["image-genration"], "Did you mean 'image-generation'"),
        (["nothing"], "image-generation"),
        (["--data", "digits", "image-generation"], "must come before its options"),
    ],
)
def test_the_name_of_an_application(command, arguments, text, capsys):
    assert cli.main([command, *arguments]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("name", catalog.names())
def test_the_options_of_each_application(name, capsys):
    for command in ("demo", "sweep"):
        with pytest.raises(SystemExit) as stop:
            cli.main([command, name, "--help"])
        assert stop.value.code == 0
        printed = "".join(capsys.readouterr().out.split())
        if command == "demo":
            for option in options_of(catalog.get(name).options_class).values():
                assert option.flag in printed
                assert "".join(str(option).split()) in printed


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--macs", "25"], "--macs must be the remaining share"),
        (["--sparsity", "80"], "For 80 %, pass 0.8"),
        (["--epochs", "3", "--steps", "3"], "Give --steps or --epochs, not both"),
        (["--data", "mnitst"], "Did you mean 'mnist'"),
    ],
)
def test_bad_options_leave_nothing(arguments, text, tmp_path, capsys):
    output = ["--output", str(tmp_path / "run")]
    assert cli.main(["demo", "image-generation", "--quick", *output, *arguments]) == 2
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
