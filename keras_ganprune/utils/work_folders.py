"""Work folders beside an output: locked while their writer lives, removed by the next if it was killed."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows: the folders of killed writers stay there.
    fcntl = None

# The suffix of the folders, and the file in them whose lock tells a dead writer from a live one: the system
# frees it when a process ends, however it ends.
_SUFFIX = ".ganprune"
_LOCK = "lock"
_OLD = "old"
# File systems allow 255 bytes; the rest is for the dot, the random letters and the suffix.
_LONGEST = 200


@contextlib.contextmanager
def work_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield a new folder beside `path`, on the same disk. It is removed at the end.

    Before, the work folders that killed writers left in the same place are removed.

    Args:
        path: Absolute path of the output.

    Raises:
        OSError: The folder of `path` does not exist or cannot be written.
    """
    remove_dead(path.parent)
    folder, lock = _make(path)
    try:
        yield folder
    finally:
        _remove(folder, lock)


def put_aside(path: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Move an older output into a work folder, and return its new path.

    If the writer is killed before the new output has its name, `remove_dead` moves the older one back.
    """
    number = sum(1 for _ in folder.glob(f"{_OLD}*"))
    old = folder / f"{_OLD}{number or ''}" / path.name
    old.parent.mkdir()
    path.rename(old)
    return old


def remove_dead(parent: pathlib.Path) -> None:
    """Remove the work folders in `parent` whose writers are dead. Those of live writers stay."""
    with contextlib.suppress(OSError):
        with os.scandir(parent) as entries:
            folders = [e.path for e in entries if e.name[:1] == "." and e.name.endswith(_SUFFIX)]
        for folder in folders:
            _remove_if_dead(pathlib.Path(folder))


def _make(path: pathlib.Path) -> tuple[pathlib.Path, int]:
    """Return a new work folder, and the descriptor of its file, which holds the lock."""
    short = os.fsencode(path.name)[:_LONGEST].decode("utf-8", "ignore")
    while True:
        folder = pathlib.Path(
            tempfile.mkdtemp(prefix=f".{short}-", suffix=_SUFFIX, dir=path.parent)
        )
        # Until the file is locked, another writer may take the folder for one of a dead writer.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            if _take(lock) is not False and (folder / _LOCK).exists():
                return folder, lock
            os.close(lock)


def _remove_if_dead(folder: pathlib.Path) -> None:
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:  # Its writer was killed when it made or removed the folder.
        with contextlib.suppress(OSError):
            folder.rmdir()
        return
    except OSError:  # The folder of another user.
        return
    if not _take(lock):
        os.close(lock)
        return
    with contextlib.suppress(OSError):
        for old in (folder / _OLD).iterdir():
            if not os.path.lexists(folder.with_name(old.name)):
                old.rename(folder.with_name(old.name))
    _remove(folder, lock)


def _remove(folder: pathlib.Path, lock: int) -> None:
    """Remove a work folder, its lock last, and free the lock."""
    with contextlib.suppress(OSError):
        (folder / _OLD).rename(
            folder / "replaced"
        )  # If this is interrupted, it is no longer whole.
    with contextlib.suppress(OSError):
        for entry in list(folder.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != _LOCK:
                entry.unlink(missing_ok=True)
    if fcntl is None:  # Windows removes no open file.
        os.close(lock)
    shutil.rmtree(folder, ignore_errors=True)
    if fcntl is not None:
        os.close(lock)


def _take(lock: int) -> bool | None:
    """Lock an open file.

    Returns:
        True; False if another process holds the lock; None if there are no locks here.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
