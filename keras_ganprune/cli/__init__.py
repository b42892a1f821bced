"""The command line: keras-ganprune demo | compress | sweep | shrink | export | benchmark | report.

One file per command, with `HELP`, `EXAMPLES`, `add_arguments(recorder)` and `run(arguments)`. The files need
Keras; what runs before them does not: `parsers` and `first_checks` read the recorded arguments. To add a
command: one file here, and its name in `record.COMMANDS`.
"""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Sequence

from keras_ganprune.cli import completion, error_texts, first_checks, parsers, stopping
from keras_ganprune.errors import PruningError
from keras_ganprune.utils import command_line, native_messages, tables, terminal


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
    try:
        with terminal.any_terminal():
            arguments = parsers.parse(argv)
            if arguments.command == "completion":
                print(completion.text(arguments.shell))
                return 0
            if getattr(arguments, "list", False):
                print(_applications())
                return 0
            application = getattr(arguments, "application", None)
            records = parsers.records_of(arguments.command, application)
            flags = error_texts.flags_of(records)
            first_checks.check(arguments, records)
            if not arguments.verbose:
                native_messages.hide_logs()
            command_line.import_all()
            importlib.import_module(f"keras_ganprune.cli.{arguments.command}").run(arguments)
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


def _applications() -> str:
    """Return the table of `demo --list`."""
    rows = [("application", "what it does"), *parsers.recorded()["applications"].items()]
    return tables.text(rows, left=2)
