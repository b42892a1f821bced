"""The database of a sweep, opened so that two processes never claim the same trial."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sqlite3
import time
import warnings
from collections.abc import Iterator
from typing import Any

from keras_ganprune.errors import (
    ArgumentTypeError,
    FileFormatError,
    InvalidArgumentError,
    MissingPackageError,
    OutputError,
)
from keras_ganprune.utils import annotated, optional_imports

# A worker without a heartbeat for this many seconds is considered dead.
BEAT_SECONDS, GRACE_SECONDS = 15, 120
# Seconds that a process waits while another one writes to the same SQLite file.
_LOCK_SECONDS = 60
# The first bytes of every SQLite file.
_SQLITE = b"SQLite format 3\0"
_TRIES = 20


def optuna() -> Any:
    """Return Optuna. It takes a second to import, and is an optional package."""
    return optional_imports.require("optuna", "sweep", "Sweeps")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the context, silence the logs and the experimental warnings of Optuna.

    The user's settings are restored afterwards.
    """
    logging = optuna().logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna().exceptions.ExperimentalWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)


def url_of(storage: Any) -> str:
    """Return the URL of a database. A path becomes the URL of a SQLite file.

    Example:
    >>> url_of("sqlite:///sweep.db"), url_of("/tmp/sweep.db")
    ('sqlite:///sweep.db', 'sqlite:////tmp/sweep.db')
    """
    if isinstance(storage, str) and "://" in storage:
        return storage
    if not isinstance(storage, (str, os.PathLike)):
        raise ArgumentTypeError(
            "`storage` must be the path of a SQLite file, a URL such as 'sqlite:///sweep.db' or "
            "'postgresql://user@host/database', an Optuna storage, or None for memory only. "
            f"Received: {storage!r} (of type {type(storage).__name__})."
        )
    annotated.check_value(storage, "storage", str | os.PathLike[str])
    path = pathlib.Path(storage).absolute()
    if "?" in str(path):
        raise OutputError(
            f"`storage` must be a path without '?', where its options begin. Received: '{storage}'. Choose "
            "another name."
        )
    if path.is_dir():
        raise OutputError(
            f"`storage` must be a file. '{path}' is a folder; name a file in it, such as "
            f"'{path / 'sweep.db'}'."
        )
    return f"sqlite:///{path}"


def check_usable(storage: Any) -> None:
    """Raise the error of `open_storage` that is known without opening anything. Nothing is written.

    Raises:
        As `open_storage`.
    """
    optuna()
    if isinstance(storage, (str, os.PathLike)):
        engine = _parsed(url_of(storage))
        if engine.get_backend_name() == "sqlite" and engine.database:
            shown = engine.render_as_string(hide_password=True)
            _check_intact(pathlib.Path(engine.database), shown)


def _parsed(url: str) -> Any:
    """Return the URL of a database in its parts."""
    import sqlalchemy.exc

    try:
        return sqlalchemy.engine.make_url(url)
    except sqlalchemy.exc.ArgumentError as error:
        raise InvalidArgumentError(f"`storage` is not the URL of a database: {error}.") from error


def open_storage(storage: Any) -> Any:
    """Return an Optuna storage for a path, a URL, None (memory) or an Optuna storage.

    Raises:
        ArgumentTypeError: `storage` has another type.
        InvalidArgumentError: The URL is not valid.
        OutputError: The database cannot be opened.
        FileFormatError: The file is not a SQLite database, or was written by another version of Optuna.
        MissingPackageError: Optuna, or the driver of the database, is not installed.
    """
    storages = optuna().storages
    if storage is None:
        return storages.InMemoryStorage()
    if isinstance(storage, storages.BaseStorage):
        return storages.get_storage(storage)
    url = url_of(storage)
    import sqlalchemy.exc  # Optuna needs it too

    engine = _parsed(url)
    shown = engine.render_as_string(hide_password=True)
    lite = engine.get_backend_name() == "sqlite"
    if lite and engine.database:
        try:
            pathlib.Path(engine.database).absolute().parent.mkdir(parents=True, exist_ok=True)
            _check_intact(pathlib.Path(engine.database), shown)
        except OSError as error:
            raise OutputError(f"The storage '{shown}' cannot be created: {error}.") from error
    for left in reversed(range(_TRIES)):
        try:
            database = storages.RDBStorage(
                url,
                engine_kwargs={"connect_args": {"timeout": _LOCK_SECONDS}} if lite else None,
                heartbeat_interval=BEAT_SECONDS,
                grace_period=GRACE_SECONDS,
            )
            break
        except ImportError as error:
            raise MissingPackageError(
                f"The storage '{shown}' needs a driver that is not installed: {error}."
            ) from error
        except RuntimeError as error:  # the text names the other version of Optuna
            raise FileFormatError(f"The storage '{shown}' cannot be used: {error}") from error
        except sqlalchemy.exc.SQLAlchemyError as error:
            text = str(getattr(error, "orig", error))
            # If two processes create the tables at the same moment, one of them gets an error because a table
            # or a row exists already. That process tries again.
            collision = "already exists" in text or "locked" in text or "UNIQUE" in text.upper()
            if not collision or not left:
                raise OutputError(f"The storage '{shown}' cannot be opened: {text}.") from error
            time.sleep(0.1)
        except (AssertionError, LookupError, TypeError, ValueError) as error:
            raise _damaged(shown, f"{type(error).__name__}: {error}") from error
    if lite:
        _lock_at_begin(database.engine)
    return storages.get_storage(database)


def _check_intact(path: pathlib.Path, shown: str) -> None:
    """Raise `FileFormatError` if a file exists, but is not an intact SQLite database.

    Its trees and indices are checked here; what a sweep writes has checksums of its own.
    """
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        with path.open("rb") as file:
            begin = file.read(len(_SQLITE))
    except OSError:
        return  # Optuna says why it cannot be read.
    if begin != _SQLITE:  # SQLite would replace a short file of another kind.
        raise FileFormatError(
            f"The storage must be a SQLite database, or a new file. '{shown}' is neither. "
            "Choose another name."
        )
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_LOCK_SECONDS)) as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
    except sqlite3.OperationalError as error:
        # A locked file or one without permissions is not damaged. Optuna tries, and says so.
        if "malformed" in str(error):
            raise _damaged(shown, str(error)) from error
        return
    except (sqlite3.DatabaseError, ValueError) as error:
        if "not a database" in str(error):
            raise FileFormatError(
                f"The storage must be a SQLite database, or a new file. '{shown}' is neither. "
                "Choose another name."
            ) from error
        raise _damaged(shown, str(error)) from error
    if found != ["ok"]:
        raise _damaged(shown, str(found[0]) if found else "it has no tables")


def _damaged(shown: str, reason: str) -> FileFormatError:
    return FileFormatError(
        f"The storage '{shown}' is damaged: {reason.rstrip('.')}. Replace it by a copy, or repeat the sweep "
        "with another `storage`."
    )


def check_is_there(storage: Any) -> None:
    """Raise `FileFormatError` if a storage that is read is a SQLite file that does not exist."""
    if isinstance(storage, (str, os.PathLike)):
        scheme, _, path = url_of(storage).partition(":///")
        if scheme == "sqlite" and path and not pathlib.Path(path.partition("?")[0]).exists():
            raise FileFormatError(f"There is no study to read: the file '{path}' does not exist.")


def _lock_at_begin(engine: Any) -> None:
    """Make every transaction of SQLite lock the file at its beginning.

    Optuna claims a trial by reading its state and writing a new one. SQLite has no `FOR UPDATE`, and
    Python's driver begins a transaction only at the first write. So two processes can both read 'waiting' and
    both claim the trial. With four workers this happened for 11 of 40 trials.

    Reference: [SQLAlchemy](https://docs.sqlalchemy.org/en/20/dialects/sqlite.html), on transactions.
    """
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def no_transactions_by_the_driver(connection, record):
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # earlier connections lack these settings
