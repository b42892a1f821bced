"""The command line as a whole."""

import pathlib

from keras_ganprune import cli
from keras_ganprune.cli import arguments, parsers, record


def test_the_recorded_arguments_are_those_of_the_commands():
    """After a change of a command or of an option: `python -m keras_ganprune.cli.record`."""
    assert arguments.FILE.read_text(encoding="utf-8") == record.text()


def test_every_command_has_a_file_help_and_examples_that_are_valid():
    modules = {path.stem for path in pathlib.Path(cli.__file__).parent.glob("*.py")}
    assert {*record.COMMANDS, "completion"} <= modules
    for name, command in arguments.recorded()["commands"].items():
        assert command["help"].endswith("."), name
        assert command["examples"], name
        for example in command["examples"]:
            program, *words = example.split()
            assert program == "keras-ganprune" and words[0] == name
            assert parsers.parse(words).command == name


def test_every_option_has_a_help_that_ends_with_its_default():
    for name, command in arguments.recorded()["commands"].items():
        lists = [command["arguments"], *command.get("applications", {}).values()]
        for one in (one for records in lists for one in records if arguments.is_flag(one)):
            assert "Defaults to" in one["help"] or one["flags"] == ["--list"], (name, one["flags"])


def test_wrong_files_are_one_line_of_error(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path / "none.keras")]) == 2
    assert "There is no file" in capsys.readouterr().err
    (tmp_path / "x.keras").write_text("x")
    assert cli.main(["export", str(tmp_path / "x.keras"), str(tmp_path / "out")]) == 2
    assert "not a `.keras` file" in capsys.readouterr().err
    assert cli.main(["report", "--import", "no_such_module", str(tmp_path / "x.keras")]) == 2
    assert "no_such_module" in capsys.readouterr().err
