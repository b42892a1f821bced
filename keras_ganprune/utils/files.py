"""Files and folders: written completely or not at all."""

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
import platformdirs

from keras_ganprune.errors import MissingPackageError, OutputError


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
        OutputError: `path` is a file, cannot be written, or is a folder with files and `overwrite` is False.
    """
    path = pathlib.Path(path)
    if path.exists() and not path.is_dir():
        raise OutputError(f"The output must be a folder. '{path}' is a file. Choose another name.")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise OutputError(
            f"The output folder must be new or empty. '{path}' exists and contains files. Choose another "
            "name, remove the folder, or overwrite it (`overwrite=True`, `--overwrite`)."
        )
    try:
        make_folder(path.absolute().parent)
    except OSError as error:
        raise OutputError(f"The output folder '{path}' cannot be written: {error}.") from error
    return path


@contextlib.contextmanager
def new_folder(path: str | os.PathLike, overwrite: bool = False) -> Iterator[pathlib.Path]:
    """Yield a temporary folder beside `path`. It is renamed to `path` if the block succeeds.

    If the block fails, the temporary folder is removed and an older folder at `path` is unchanged.

    Args:
        path: Path of the new folder.
        overwrite: Whether an older folder at `path` is replaced. Defaults to False.

    Raises:
        OutputError: `path` is a file, cannot be written, or is a folder with files and `overwrite` is False;
            or the disk is full or fails.
    """
    path = check_new_folder(path, overwrite)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.absolute().parent))
    try:
        yield work
        work.chmod(0o755)  # `mkdtemp` creates folders that only their owner can read.
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
            f"'{path}' could not be written ({error.strerror or error}). No partial output is left. "
            "Check the free space and the permissions."
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def new_file(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yield the path of a temporary file, which is moved to `path` if the block succeeds.

    If the block fails, an older file at `path` is unchanged.

    Raises:
        OSError: The folder of `path` does not exist, or the disk is full or fails.
    """
    path = pathlib.Path(path)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.absolute().parent))
    try:
        yield work / path.name
        os.replace(work / path.name, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


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
