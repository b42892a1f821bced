"""Whether this process is the command line, which checks its arguments before Keras is imported."""

from __future__ import annotations

import importlib
import os
import pathlib
import signal
import sys

_SCRIPT = "keras-ganprune"
_MODULE = "keras_ganprune"
# Whether the arguments are still to be checked; None before the package is imported.
_waits: bool | None = None


def parses_arguments() -> bool:
    """Return whether this process runs `keras-ganprune`, and has not checked its arguments yet.

    Only then does `import keras_ganprune` leave Keras out. The processes that a command starts, and programs
    that import this package, are not the command line.
    """
    global _waits
    if _waits is None:
        _waits = _is_command()
    return _waits


def _is_command() -> bool:
    """Return whether this process runs the command. Call it while the package is imported first."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script is not None:
        # On Windows, the script is a file in keras-ganprune.exe.
        path = pathlib.PurePath(script)
        return _SCRIPT in (path.stem, path.parent.stem)
    # `python -m` imports the package before its `__main__`; only then is the first argument '-m'.
    words = sys.orig_argv
    if sys.argv[:1] != ["-m"] or "-m" not in words:
        return False
    return words[words.index("-m") + 1 :][:1] == [_MODULE]


def import_all() -> None:
    """Import what `import keras_ganprune` imports in other programs. Ctrl-C ends the process at once."""
    global _waits
    if not parses_arguments():
        return
    _waits = False
    # An interrupt within the imports of C++ libraries becomes errors of many kinds.
    kept = signal.signal(signal.SIGINT, _stop)
    try:
        importlib.reload(sys.modules[_MODULE])
    finally:
        signal.signal(signal.SIGINT, kept)


def _stop(number: int, frame: object) -> None:
    os.write(2, b"keras-ganprune: stopped.\n")
    os._exit(128 + number)
