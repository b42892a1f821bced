"""The errors of this package; each is also the built-in that a caller would expect."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PruningError(Exception):
    """Base of every error that keras_ganprune raises on purpose."""


class InvalidArgumentError(PruningError, ValueError):
    """An argument breaks a stated rule."""


class ArgumentTypeError(InvalidArgumentError, TypeError):
    """An argument has the wrong type."""


class UnsupportedLayerError(PruningError, TypeError):
    """A layer cannot be pruned, cut or exported."""


class UnbuiltModelError(PruningError, ValueError):
    """The model has no weights yet."""


class DataError(PruningError, ValueError):
    """The training data cannot be used as it is."""


class DivergedError(PruningError, FloatingPointError):
    """Weights or losses are no longer finite."""


class FileFormatError(PruningError, ValueError):
    """A file or folder is not what it should be."""


class ExportError(PruningError, RuntimeError):
    """An exported model does not reproduce the model it came from."""


class OutputError(PruningError, OSError):
    """An output folder cannot be used."""


class MissingPackageError(PruningError, ImportError):
    """What was asked for needs a package that is not installed."""


class PruningWarning(UserWarning):
    """Something was done differently from what was asked; the text says what."""


def unknown_name(kind: str, received: object, known: Iterable[str], hint: str = "") -> str:
    """Return the text of an 'unknown name' error, with the nearest known name."""
    known = sorted(known)
    close = difflib.get_close_matches(str(received), known, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    text = f"Unknown {kind} {received!r}.{guess}\nKnown: {', '.join(known) or '(none)'}."
    return f"{text} {hint}".rstrip()
