"""The errors of this package. Each class also derives from the fitting built-in error, such as ValueError."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PruningError(Exception):
    """Base class of the errors that keras_ganprune raises."""


class InvalidArgumentError(PruningError, ValueError):
    """An argument has an invalid value."""


class ArgumentTypeError(InvalidArgumentError, TypeError):
    """An argument has the wrong type."""


class UnsupportedLayerError(PruningError, TypeError):
    """A layer cannot be pruned, cut or exported.

    Attributes:
        keep: Tuple of names, patterns or paths of the layers that `keep` can leave alone, so that the others
            can be cut; () if that does not help.
    """

    keep: tuple[str, ...] = ()


class UnbuiltModelError(PruningError, ValueError):
    """The model has no weights yet."""


class DataError(PruningError, ValueError):
    """The training data is missing, or has a shape, type or values that cannot be used."""


class DivergedError(PruningError, FloatingPointError):
    """Weights or losses are no longer finite."""


class FileFormatError(PruningError, ValueError):
    """A file or folder is missing, damaged, or has another format than expected."""


class ExportError(PruningError, RuntimeError):
    """The outputs of an exported model differ from those of the model that was exported."""


class DifferentOutputsError(ExportError):
    """A copy of a model has other outputs than the model."""


class OutputError(PruningError, OSError):
    """An output file or folder cannot be written."""


class MissingPackageError(PruningError, ImportError):
    """A function needs a package that is not installed."""


class PruningWarning(UserWarning):
    """The package did not do exactly what was requested. The text of the warning states the difference."""


class PruningNotice(UserWarning):
    """The package did what was requested. The text states what the next step needs. It is given once."""


def unknown_name(kind: str, received: object, known: Iterable[str], hint: str = "") -> str:
    """Return the text of an 'unknown name' error, with the most similar known name.

    Args:
        kind: Kind of the named thing, such as 'schedule'.
        received: The unknown name.
        known: All valid names.
        hint: Sentence to add at the end. Defaults to '' (none).

    Example:
    >>> print(unknown_name("loss", "hing", ["hinge", "minimax"]))
    Unknown loss 'hing'. Did you mean 'hinge'?
    Known: hinge, minimax.
    """
    known = sorted(known)
    close = difflib.get_close_matches(str(received), known, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    text = f"Unknown {kind} {received!r}.{guess}\nKnown: {', '.join(known) or '(none)'}."
    return f"{text} {hint}".rstrip()
