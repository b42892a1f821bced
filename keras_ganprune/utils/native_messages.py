"""What libraries in C++ print past Python."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from typing import BinaryIO

from keras_ganprune.utils import command_line

# Lines that TensorFlow, XLA, LiteRT and OpenVINO log: below fatal errors, which end the process.
_LOG = re.compile(
    rb"[IWE]\d{4} \d\d:\d\d:\d\d|WARNING: All log messages before absl::|WARNING: Logging before|"
    rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] |INFO: "
)


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Within the context, nothing of what C++ writes to the standard error is shown.

    Use it only where an error of C++ becomes an exception.
    """
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, ValueError, AttributeError):  # no standard error, as in some servers
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def hide_logs() -> None:
    """Hide the lines that C++ libraries log, for the rest of this process.

    Call it in the command line, before those libraries are imported. What Python writes to the standard error
    is shown, and so is what C++ writes that is no log, such as the last words of a process that is aborted.
    A small process reads the lines: in this one, a thread could not while C++ holds Python's lock.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not (command_line.parses_arguments() and hasattr(os, "fork") and sys.stderr is not None):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    shown = os.dup(2)
    read, write = os.pipe()
    if os.fork() == 0:
        _filter(read, write, shown)
    os.dup2(write, 2)
    for number in (read, write):
        os.close(number)
    kept = sys.stderr
    sys.stderr = os.fdopen(
        shown, "w", buffering=1, encoding=kept.encoding, errors=kept.errors, closefd=False
    )


def _filter(read: int, write: int, shown: int) -> None:
    """Copy the lines of a pipe that are no logs, until its writers end; then end this process."""
    try:
        # Ctrl-C goes to all processes of a terminal; this one lives as long as the other.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Otherwise the reader of the output would not see its end.
        for number in (0, 1, 2, write):
            os.close(number)
        with os.fdopen(read, "rb") as lines, os.fdopen(shown, "wb", buffering=0) as stream:
            copy_without_logs(lines, stream)
    finally:
        os._exit(0)


def copy_without_logs(lines: BinaryIO, stream: BinaryIO) -> None:
    """Copy the lines that are no logs of C++ libraries.

    Example:
    >>> import io
    >>> text = b"I0000 00:00:17.9 204 port.cc:153] oneDNN\\nabort: no memory\\n"
    >>> copy_without_logs(io.BytesIO(text), copied := io.BytesIO())
    >>> copied.getvalue()
    b'abort: no memory\\n'
    """
    for line in lines:
        if not _LOG.match(line):
            stream.write(line)
