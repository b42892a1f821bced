"""What a sweep writes into its study, with checksums: a damaged database is not read as if it were whole."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from keras_ganprune.errors import FileFormatError, PruningError
from keras_ganprune.utils.checksums import of_json

_KEY = "checksum"
# Texts of errors of databases that mean damage. Others, such as a lost connection, are passed on.
_DAMAGE = ("malformed", "not a database", "corrupt", "no such table", "no such column")


def sealed(place: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with a checksum of itself and of its place.

    Example:
    >>> record = sealed("dense, seed 0", {"fd": 7.0})
    >>> opened("dense, seed 0", record)
    {'fd': 7.0}
    """
    record = json.loads(json.dumps(dict(record)))  # as the database returns it
    return {**record, _KEY: of_json([place, record])}


def opened(place: str, record: Any) -> dict[str, Any]:
    """Return a record without its checksum. Records of version 0.1 have none.

    Raises:
        FileFormatError: The record differs from its checksum, or was written for another place.
    """
    if not isinstance(record, Mapping):
        raise damaged(f"the record of '{place}' is {record!r}")
    plain = {key: value for key, value in record.items() if key != _KEY}
    if record.get(_KEY, of_json([place, plain])) != of_json([place, plain]):
        raise damaged(f"the record of '{place}' differs from its checksum")
    return plain


def damaged(reason: str) -> FileFormatError:
    """Return the error for a study that cannot be trusted."""
    return FileFormatError(
        f"The database of the sweep is damaged, or was changed by hand: {reason}. Replace it by a copy, or "
        "repeat the sweep with another `storage`."
    )


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Within the context, turn the errors of Optuna and of the database into `FileFormatError`s."""
    import sqlalchemy.exc  # Optuna needs it too

    try:
        yield
    except PruningError:
        raise
    except Exception as error:
        text = str(getattr(error, "orig", error))
        lost = isinstance(error, sqlalchemy.exc.DBAPIError)
        if lost and not any(word in text for word in _DAMAGE):
            raise
        raise damaged(f"{type(error).__name__}: {text}".rstrip(". ")) from error
