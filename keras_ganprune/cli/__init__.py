"""The command line: keras-ganprune demo | sweep | compress | shrink | export | benchmark | report.

One file per command, with `HELP`, `add_arguments(parser)` and `run(arguments)`. To add a command: one file
here and one row in `COMMANDS`. To add an application: one row in `keras_ganprune.applications.catalog`.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from keras_ganprune.cli import (
    benchmark,
    compress,
    demo,
    error_texts,
    export,
    report,
    shrink,
    stopping,
    sweep,
)
from keras_ganprune.errors import PruningError
from keras_ganprune.utils import terminal


class Command(NamedTuple):
    """A command.

    Attributes:
        help: One line for the list of commands.
        add_arguments: Function that adds the arguments to a parser, for the given arguments of the command:
            those of an application depend on its name.
        run: Function that does the work, from the parsed arguments.
    """

    help: str
    add_arguments: Callable[..., None]
    run: Callable[[argparse.Namespace], None]


COMMANDS = {
    "demo": Command(demo.HELP, demo.add_arguments, demo.run),
    "sweep": Command(sweep.HELP, sweep.add_arguments, sweep.run),
    "compress": Command(compress.HELP, compress.add_arguments, compress.run),
    "export": Command(export.HELP, export.add_arguments, export.run),
    "benchmark": Command(benchmark.HELP, benchmark.add_arguments, benchmark.run),
    "shrink": Command(shrink.HELP, shrink.add_arguments, shrink.run),
    "report": Command(report.HELP, report.add_arguments, report.run),
}

# Commands whose first argument may be the name of an application, on which the others depend.
WITH_APPLICATIONS = ("demo", "sweep")


def _parser(
    argv: Sequence[str],
) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser(
        prog="keras-ganprune",
        description="Prune Keras 3 GANs inside model.fit, and export the result.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = {}
    for name, command in COMMANDS.items():
        parsers[name] = commands.add_parser(name, help=command.help, description=command.help)
        given = argv[1:] if argv and argv[0] == name else []
        command.add_arguments(parsers[name], *([given] if name in WITH_APPLICATIONS else []))
    return parser, parsers


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments. Defaults to None: the arguments of the process.

    Returns:
        The exit code: 0 after success, 2 after an error (its text is printed), 130 after Ctrl-C, 141 if the
        reader of the output has ended (`| head`).
    """
    argv = sys.argv[1:] if argv is None else argv
    flags: dict[str, str] = {}
    # TensorFlow's messages at start-up would hide the output.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with terminal.any_terminal():
            parser, parsers = _parser(argv)
            arguments = parser.parse_args(argv)
            flags = error_texts.flags_of(parsers[arguments.command])
            COMMANDS[arguments.command].run(arguments)
    except PruningError as error:
        text = error_texts.in_words_of(str(error), flags)
        print(f"keras-ganprune: error: {text}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 141
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"keras-ganprune: error: the disk is full ({error}).", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(stopping.text_of(stop, argv), file=sys.stderr)
        return 130
    return 0
