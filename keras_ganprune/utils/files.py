"""Writing folders and files so that nothing is ever half there."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import keras

from keras_ganprune.errors import MissingPackageError, OutputError


def check_tensorflow() -> None:
    """Raise `MissingPackageError` where TensorFlow is not installed, without importing it."""
    if importlib.util.find_spec("tensorflow") is None:
        raise _no_tensorflow("No module named 'tensorflow'")


def _no_tensorflow(reason: Any) -> MissingPackageError:
    return MissingPackageError(
        "SavedModels can be written and read only where TensorFlow is installed, whatever the Keras "
        f"backend. Received: {reason}. Run `pip install tensorflow` (training may stay on its "
        "backend), or keep the network with `strip_pruning(model).save('model.keras')`."
    )


def tensorflow() -> Any:
    """Return TensorFlow, which SavedModels are written and read with, whatever the Keras backend.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        found = importlib.import_module("tensorflow")
    except ImportError as error:
        raise _no_tensorflow(error) from error
    if keras.backend.backend() != "tensorflow":
        # It would take all memory of a GPU that another backend works on.
        with contextlib.suppress(RuntimeError):  # it has it already
            found.config.set_visible_devices([], "GPU")
    return found


def make_folder(path: str | os.PathLike) -> pathlib.Path:
    """Return a folder that is there and can be written; what else is in it stays.

    Raises: OSError: it cannot be made or written.
    """
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        pass
    return path


def check_new_folder(path: str | os.PathLike, overwrite: bool = False) -> pathlib.Path:
    """Return `path` if a folder can be made there, before any work is spent.

    Raises:
        OutputError: it exists and is not empty, it is a file, or it cannot be written.
    """
    path = pathlib.Path(path)
    if path.exists() and not path.is_dir():
        raise OutputError(f"The output must be a folder. '{path}' is a file; choose another name.")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise OutputError(
            f"The output folder must be new or empty. '{path}' exists and holds files; choose another "
            "name, remove it, or ask to overwrite it (`overwrite=True`, `--overwrite`)."
        )
    try:
        make_folder(path.absolute().parent)
    except OSError as error:
        raise OutputError(f"The output folder '{path}' cannot be written: {error}.") from error
    return path


@contextlib.contextmanager
def new_folder(path: str | os.PathLike, overwrite: bool = False) -> Iterator[pathlib.Path]:
    """Give a temporary folder beside `path` that becomes `path` only if the block succeeds.

    Raises:
        OutputError: as `check_new_folder`, or the disk is full or fails; then nothing is left behind,
            and an older folder is still there.
    """
    path = check_new_folder(path, overwrite)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.absolute().parent))
    try:
        yield work
        work.chmod(0o755)  # mkdtemp makes private folders
        if path.exists():
            old = work.with_name(work.name + "-old")
            path.rename(old)
            work.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            work.rename(path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"'{path}' could not be written ({error.strerror or error}); nothing was left there. "
            "Check the free space and the permissions."
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def new_file(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Give a place for a file of the same name that becomes `path` only if the block succeeds.

    Raises: OSError: the folder is not there, or the disk is full or fails; an older file is still there.
    """
    path = pathlib.Path(path)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.absolute().parent))
    try:
        yield work / path.name
        os.replace(work / path.name, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def folder_bytes(path: str | os.PathLike) -> int:
    """Return the size of all files below a folder, in bytes."""
    return sum(p.stat().st_size for p in pathlib.Path(path).rglob("*") if p.is_file())


def folder_gzip_bytes(path: str | os.PathLike) -> int:
    """Return the size of all files below a folder, each compressed by gzip, in bytes."""
    files = (p for p in pathlib.Path(path).rglob("*") if p.is_file())
    return sum(len(gzip.compress(p.read_bytes(), compresslevel=6, mtime=0)) for p in files)


def check_free_space(path: str | os.PathLike, needed: int) -> None:
    """Raise `OutputError` if the disk of `path` has less than `needed` bytes free."""
    free = shutil.disk_usage(pathlib.Path(path).absolute().parent).free
    if free < needed:
        raise OutputError(
            f"The output needs about {needed // 2**20} MiB of free space. '{path}' is on a disk with "
            f"{free // 2**20} MiB left; free some, or choose another place."
        )
