"""The command line as a whole."""

from keras_ganprune import cli


def test_every_command_has_a_file_and_a_line_of_help():
    assert sorted(cli.COMMANDS) == [
        "benchmark",
        "compress",
        "demo",
        "export",
        "report",
        "shrink",
        "sweep",
    ]
    assert all(command.help for command in cli.COMMANDS.values())


def test_wrong_files_are_one_line_of_error(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path / "none.keras")]) == 2
    assert "There is no file" in capsys.readouterr().err
    (tmp_path / "x.keras").write_text("x")
    assert cli.main(["export", str(tmp_path / "x.keras"), str(tmp_path / "out")]) == 2
    assert "not a `.keras` file" in capsys.readouterr().err
    assert cli.main(["report", "--import", "no_such_module", "x.keras"]) == 2
    assert "no_such_module" in capsys.readouterr().err
