"""Files and folders: written completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import gzip
import importlib.util
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import platformdirs

from keras_ganprune.errors import ArgumentTypeError, MissingPackageError, OutputError
from keras_ganprune.utils.work_folders import put_aside, work_folder


def check_tensorflow() -> None:
    """Raise `MissingPackageError` if TensorFlow is not installed. TensorFlow is not imported."""
    if importlib.util.find_spec("tensorflow") is None:
        raise _no_tensorflow("No module named 'tensorflow'")


def _no_tensorflow(reason: Any) -> MissingPackageError:
    return MissingPackageError(
        "Writing and reading SavedModels needs TensorFlow, also if Keras runs on another backend. "
        f"Received: {reason}. Run `pip install tensorflow` (training can stay on the other backend), or "
        "save the network with `strip_pruning(model).save('model.keras')`."
    )


def tensorflow() -> Any:
    """Return the module `tensorflow`, which is needed for SavedModels on every Keras backend.

    Raises:
        MissingPackageError: TensorFlow is not installed.
    """
    try:
        module = importlib.import_module("tensorflow")
    except ImportError as error:
        raise _no_tensorflow(error) from error
    import keras

    if keras.backend.backend() != "tensorflow":
        # TensorFlow would allocate all memory of the GPU that the other backend uses.
        with contextlib.suppress(RuntimeError):  # TensorFlow has initialised the GPU already.
            module.config.set_visible_devices([], "GPU")
    return module


def cache_folder() -> pathlib.Path:
    """Return the user's folder for files that this package caches, such as trained feature extractors.

    It is the folder in the environment variable KERAS_GANPRUNE_CACHE if that is set, and else the cache
    folder of the operating system (`~/.cache/keras_ganprune` on Linux). The folder may not exist yet.
    """
    folder = os.environ.get("KERAS_GANPRUNE_CACHE")
    return pathlib.Path(folder or platformdirs.user_cache_dir("keras_ganprune", appauthor=False))


def make_folder(path: str | os.PathLike) -> pathlib.Path:
    """Create a folder if it does not exist, check that it is writable, and return its path.

    Raises:
        OSError: The folder cannot be created or written.
    """
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        pass
    return path


def check_new_folder(path: str | os.PathLike, overwrite: bool = False) -> pathlib.Path:
    """Return `path` if a new folder can be created there. Call this function before a long computation.

    Args:
        path: Path of the new folder.
        overwrite: Whether `path` may be a folder with files. Defaults to False.

    Raises:
        ArgumentTypeError: `path` is not a str or a path.
        OutputError: `path` is a file, a mount point, has too long a name, cannot be written, or is a folder
            with files and `overwrite` is False.
    """
    path = as_path(path)
    with _own_words(path, "folder", begun=False):
        check_name(path)
        if path.is_dir():
            if any(path.iterdir()) and not overwrite:
                raise _exists(path)
            if os.path.ismount(path):
                raise OutputError(
                    "The output folder must not be a mount point: a folder that is written beside it gets "
                    f"its name at the end. Received: '{path}'. Choose a folder in it."
                )
        elif path.exists():
            raise OutputError(
                f"The output must be a folder. '{path}' is a file. Choose another name."
            )
        make_folder(_real(path).parent)
    return path


def check_saved_model_path(path: str | os.PathLike) -> None:
    """Raise an error if TensorFlow cannot read a SavedModel at a path. Call it before a long computation.

    Args:
        path: Path of the folder, or of a folder around it.

    Raises:
        OutputError: The path has a character that TensorFlow does not take as it is.
    """
    path = as_path(path)
    for place in (path.absolute(), _real(path)):
        found = [letter for letter in "*?[\\" if letter in place.as_posix()]
        if found:
            raise OutputError(
                "The path of a SavedModel must have none of * ? [ and \\, because TensorFlow reads paths as "
                f"patterns. Received: '{place}', which has {' and '.join(found)}. Choose another folder."
            )


def as_path(path: Any) -> pathlib.Path:
    """Return a path.

    Raises:
        ArgumentTypeError: `path` is not a str or a path.
        OutputError: It has a null character.
    """
    try:
        text = os.fsdecode(path)
    except TypeError as error:
        raise ArgumentTypeError(
            f"A path must be a str or a `pathlib.Path`. Received: {path!r} (of type {type(path).__name__})."
        ) from error
    if "\0" in text:
        raise OutputError(f"The name of a file must not have null characters. Received: {text!r}.")
    return pathlib.Path(text)


def check_name(path: pathlib.Path) -> None:
    """Raise `OutputError` if a path is too long, or leads through a folder that cannot be read."""
    missing = (FileNotFoundError, NotADirectoryError)
    with _own_words(path, "file", begun=False), contextlib.suppress(*missing):
        path.lstat()


def _real(path: pathlib.Path) -> pathlib.Path:
    """Return the absolute path of an output, behind symbolic links."""
    return pathlib.Path(os.path.realpath(path))


def _exists(path: pathlib.Path) -> OutputError:
    return OutputError(
        f"The output folder must be new or empty. '{path}' exists and contains files. Choose another "
        "name, remove the folder, or overwrite it (`overwrite=True`, `--overwrite`)."
    )


@contextlib.contextmanager
def _own_words(path: pathlib.Path, kind: str, begun: bool = True) -> Iterator[None]:
    """Raise an `OutputError` in the place of the error of the system that stopped an output.

    Args:
        path: The output, as it was given.
        kind: 'file' or 'folder'.
        begun: Whether writing has begun. Defaults to True.
    """
    try:
        yield
    except (
        OutputError,
        BrokenPipeError,
    ):  # A pipe is no file: the reader of the terminal has ended.
        raise
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OutputError(
                f"A name must have at most 255 bytes, and a path 4,095. Received the {kind} '{path}', whose "
                f"name has {len(os.fsencode(path.name))}. Choose a shorter name."
            ) from error
        words = "could not be" if begun else "cannot be"
        partial = " No partial output is left." if begun else ""
        raise OutputError(
            f"The output {kind} '{path}' {words} written ({error.strerror or error}).{partial} Check the "
            "free space and the permissions, or choose another place."
        ) from error


def reason(error: Exception) -> str:
    """Return what the system, or TensorFlow, says about an output that could not be written."""
    cause = error.__cause__ if isinstance(error, OutputError) else None
    cause = cause if isinstance(cause, OSError) else error
    # An `OpError` of TensorFlow has a `message`; its text also holds the node of a graph.
    return getattr(cause, "strerror", None) or getattr(cause, "message", None) or str(cause)


@contextlib.contextmanager
def new_folder(path: str | os.PathLike, overwrite: bool = False) -> Iterator[pathlib.Path]:
    """Yield a temporary folder beside `path`. It is renamed to `path` if the block succeeds.

    If the block fails, the temporary folder is removed and an older folder at `path` is unchanged. Of several
    processes that write one new folder, the first one that is ready succeeds.

    Args:
        path: Path of the new folder.
        overwrite: Whether an older folder at `path` is replaced. Defaults to False.

    Raises:
        OutputError: `path` is a file, cannot be written, or is a folder with files and `overwrite` is False;
            or the disk is full or fails.
    """
    path = check_new_folder(path, overwrite)
    target = _real(path)
    with _own_words(path, "folder"), work_folder(target) as place:
        was_there = target.exists()
        work = place / target.name
        work.mkdir()
        yield work
        if overwrite:
            _replace(work, target, place)
        else:
            _publish(work, target, was_there, path)


def _publish(work: pathlib.Path, target: pathlib.Path, was_there: bool, path: pathlib.Path) -> None:
    """Rename a folder, unless another one has got the name since.

    Args:
        work: The complete folder.
        target: Its name, missing or an empty folder.
        was_there: Whether the empty folder existed when the writer began.
        path: The name as it was given, for the error.
    """
    try:
        if was_there:
            with contextlib.suppress(FileNotFoundError):  # Another writer is a moment ahead.
                os.rmdir(target)
        # POSIX renames a folder onto an empty one. So the name is claimed first: one process makes it.
        if os.name != "nt":
            os.mkdir(target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise _exists(path) from error
        raise
    try:
        os.rename(work, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise _exists(path) from error
        with contextlib.suppress(OSError):
            os.rmdir(target)
        raise


def _replace(work: pathlib.Path, target: pathlib.Path, place: pathlib.Path) -> None:
    """Rename a folder to a name that an older one may have."""
    while True:
        old = None
        with contextlib.suppress(FileNotFoundError):
            old = put_aside(target, place)
        try:
            os.rename(work, target)
            return
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                continue  # Another writer was faster; its folder is the older one now.
            if old is not None:
                old.rename(target)
            raise


@contextlib.contextmanager
def new_file(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yield the path of a temporary file, which is moved to `path` if the block succeeds.

    If the block fails, an older file at `path` is unchanged. Missing folders of `path` are made.

    Raises:
        ArgumentTypeError: `path` is not a str or a path.
        OutputError: The file cannot be written, has too long a name, or the disk is full or fails.
    """
    path = as_path(path)
    with _own_words(path, "file"):
        target = _real(path)
        if target.is_dir():
            raise OutputError(
                f"The output must be a file. '{path}' is a folder. Choose another name."
            )
        make_folder(target.parent)
        with work_folder(target) as place:
            yield place / path.name
            os.replace(place / path.name, target)


@contextlib.contextmanager
def new_outputs(
    paths: Sequence[pathlib.Path], overwrite: bool = False
) -> Iterator[list[pathlib.Path]]:
    """Yield temporary paths for files and folders that belong together, such as a page and its pictures.

    At the end they get their names in the given order. If the block fails, or another process has written
    one of them meanwhile, nothing is left.

    Args:
        paths: The outputs, in one folder. What is written as a folder must come first.
        overwrite: Whether older outputs are replaced. Defaults to False.

    Raises:
        OutputError: An output cannot be written, or the disk is full or fails; or one exists and `overwrite`
            is False.
    """
    targets = [_real(path) for path in paths]
    published: list[pathlib.Path] = []
    with _own_words(paths[-1], "file"):
        make_folder(targets[0].parent)
        with work_folder(targets[-1]) as place:
            works = [place / f"new{number}" for number in range(len(paths))]
            yield works
            try:
                for path, target, work in zip(paths, targets, works, strict=True):
                    if overwrite and work.is_dir():
                        _replace(work, target, place)
                    elif overwrite:
                        os.replace(work, target)
                    elif work.is_dir():
                        _publish(work, target, False, path)
                    else:
                        _publish_file(work, target, path)
                    published.append(target)
            except OSError:
                for target in () if overwrite else published:
                    shutil.rmtree(target) if target.is_dir() else target.unlink()
                raise


def _publish_file(work: pathlib.Path, target: pathlib.Path, path: pathlib.Path) -> None:
    """Give a file its name, unless another one has it."""
    try:
        try:
            os.link(work, target)  # Unlike `rename`, it replaces nothing.
        except FileExistsError:
            raise
        except OSError:  # The disk has no hard links.
            with open(target, "xb"):
                pass
            os.replace(work, target)
    except FileExistsError as error:
        raise OutputError(
            f"The output must be new. '{path}' exists; choose another name, or allow overwriting "
            "(`overwrite=True`, `--overwrite`)."
        ) from error


def folder_bytes(path: str | os.PathLike) -> int:
    """Return the total size in bytes of all files below a folder."""
    return sum(p.stat().st_size for p in pathlib.Path(path).rglob("*") if p.is_file())


def folder_gzip_bytes(path: str | os.PathLike) -> int:
    """Return the total size in bytes of all files below a folder, each compressed by gzip."""
    files = (p for p in pathlib.Path(path).rglob("*") if p.is_file())
    return sum(len(gzip.compress(p.read_bytes(), compresslevel=6, mtime=0)) for p in files)


def check_free_space(path: str | os.PathLike, needed: int) -> None:
    """Raise `OutputError` if the disk of `path` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(pathlib.Path(path).absolute().parent).free
    if free < needed:
        raise OutputError(
            f"The output needs about {needed // 2**20} MiB of free space. The disk of '{path}' has "
            f"{free // 2**20} MiB left. Free some space, or choose another folder."
        )
