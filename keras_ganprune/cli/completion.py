"""`keras-ganprune completion SHELL`: the file that completes commands and options."""

from __future__ import annotations

from keras_ganprune.cli import parsers
from keras_ganprune.utils import optional_imports


def text(shell: str) -> str:
    """Return the file for a shell: 'bash', 'zsh' or 'tcsh'.

    Raises:
        MissingPackageError: shtab is not installed.
    """
    shtab = optional_imports.require("shtab", "completion", "Completions")
    return shtab.complete(parsers.parser(known=True), shell=shell)
