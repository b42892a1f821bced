"""Output to ASCII terminals, to full disks and to readers that leave early."""

import io
import os
import pathlib
import subprocess
import sys

import pytest

from keras_ganprune import cli
from keras_ganprune.cli import report
from keras_ganprune.utils import terminal

TEXT = "größe 2 × 3 ± 1 – …"
ASCII = "gr\\xf6\\xdfe 2 x 3 +- 1 - ..."


def test_a_text_reaches_an_ascii_terminal(monkeypatch):
    for encoding, expected in (("ascii", ASCII), ("utf-8", TEXT)):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        terminal.say(TEXT)
        with terminal.any_terminal():
            print(TEXT)
        assert stream.errors == "strict"
        stream.seek(0)
        assert stream.read() == f"{expected}\n" * 2


def test_all_signs_of_this_package_are_known():
    """What the package itself writes is written in ASCII as a person would."""
    root = pathlib.Path(cli.__file__).parents[1]
    # The letters that names of places are folded from are data.
    files = [path for path in root.rglob("*.py") if path.name != "letters.py"]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    names = set("éőö")  # of persons, in references
    assert {c for c in text if not c.isascii()} - names <= set(terminal._ASCII)


class Closed(io.RawIOBase):
    """A pipe whose reader has ended, or a file on a full disk."""

    def __init__(self, error):
        self.error = error

    def writable(self):
        return True

    def write(self, data):
        raise self.error


@pytest.mark.parametrize(
    ("error", "code"), [(BrokenPipeError(32, "Broken pipe"), 141), (OSError(28, "No space"), 2)]
)
@pytest.mark.parametrize("lines", [1, 10_000])
def test_a_pipe_that_nobody_reads_ends_a_command(error, code, lines, monkeypatch, capsys, tmp_path):
    def run(arguments):
        for _ in range(lines):
            print(TEXT)

    monkeypatch.setattr(report, "run", run)
    raw = Closed(error)
    stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert cli.main(["report", str(tmp_path)]) == code
    assert ("the disk is full" in capsys.readouterr().err) == (code == 2)
    raw.write = len  # so that Python can close the stream


@pytest.mark.full
@pytest.mark.parametrize(
    ("command", "variables", "code"),
    [
        ("demo --help | head -n 1", {}, 0),
        ("demo --help", {"PYTHONIOENCODING": "ascii"}, 0),
        ("sweep --help", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, 0),
        ("report none.keras >&-", {}, 2),
    ],
)
def test_no_command_ends_with_a_traceback(command, variables, code):
    process = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m keras_ganprune {command}"],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
        capture_output=True,
        text=True,
    )
    assert process.returncode == code
    assert "Traceback" not in process.stderr and "Exception ignored" not in process.stderr
