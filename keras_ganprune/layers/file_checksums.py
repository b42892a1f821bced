"""The checksum in the files of a pruned model: of all weights and masks, its configuration and its assets.

Keras saves a model layer by layer. The first layer with masks asks the HDF5 file to add the checksum when it
is closed, and to check it when it is read. The checksum is an attribute of the HDF5 file, so other readers do
not see it, and editors such as `KerasFileEditor` write files without one, which are not checked.
"""

from __future__ import annotations

import contextlib
import contextvars
import io
import os
import pathlib
import sys
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from keras_ganprune.errors import FileFormatError
from keras_ganprune.utils import checksums

# The attributes of the HDF5 file.
_CONTENT = "keras_ganprune_checksum"
_REST = "keras_ganprune_config_checksum"
_CHECKED = "_keras_ganprune_checked"

_is_off = contextvars.ContextVar("_is_off", default=False)


@contextlib.contextmanager
def off() -> Iterator[None]:
    """Within the context, files are read without a check."""
    token = _is_off.set(True)
    try:
        yield
    finally:
        _is_off.reset(token)


def add_when_closed(store: Any) -> None:
    """Let a file that is being written get its checksum when Keras closes it.

    Args:
        store: The argument of `save_own_variables`. A dict or another kind of store is left alone.
    """
    file = getattr(store, "h5_file", None)
    if not isinstance(file, h5py.File) or "close" in vars(file):
        return
    rest = _rest_being_saved()

    def close() -> None:
        del file.close  # pyright: ignore[reportAttributeAccessIssue]  (back to the method of the class)
        try:
            if rest is not None:
                file.attrs[_REST] = np.bytes_(rest())
            file.attrs[_CONTENT] = np.bytes_(_content(file))
        finally:
            file.close()

    file.close = close


def check(store: Any) -> None:
    """Raise `FileFormatError` if a file that Keras is reading is damaged. Each file is checked once.

    Args:
        store: The argument of `load_own_variables`. A dict or another kind of store is not checked.
    """
    file = getattr(store, "h5_file", None)
    if _is_off.get() or not isinstance(file, h5py.File) or _CHECKED in vars(file):
        return
    name = str(file.filename)
    name = name if os.path.exists(name) else "The file of the model"
    expected = _check_weights(file, name)
    frame = _frame("_load_model_from_fileobj", "_load_model_from_dir")
    if frame is not None and expected is not None:
        place = frame["zf"] if "zf" in frame else pathlib.Path(frame["dirpath"])
        if _rest(frame["config_json"], _assets_in(place)) != expected:
            raise _damaged(name, "config.json or an asset differs")
    vars(file)[_CHECKED] = True


def check_archive(path: str | os.PathLike[str]) -> None:
    """Raise `FileFormatError` if a `.keras` file has a checksum and differs from it."""
    with zipfile.ZipFile(path) as archive:
        if not {"model.weights.h5", "config.json"} <= set(archive.namelist()):
            return  # Keras names what is missing.
        try:
            file = h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r")
        except Exception as error:
            raise _damaged(
                str(path), f"its weights cannot be read ({error}), so it differs"
            ) from error
        with file:
            expected = _check_weights(file, str(path))
        if expected not in (None, _rest(archive.read("config.json"), _assets_in(archive))):
            raise _damaged(str(path), "config.json or an asset differs")


def _check_weights(file: h5py.File, name: str) -> str | None:
    """Check the content of an HDF5 file that has a checksum, and return that of the rest, if it has one."""
    try:
        expected, rest = _text(file, _CONTENT), _text(file, _REST)
        found = None if expected is None else _content(file)
    except Exception as error:  # h5py raises many kinds of errors for damaged files.
        raise _damaged(name, f"its weights cannot be read ({error}), so it differs") from error
    if found != expected:
        raise _damaged(name, "its weights or masks differ")
    return rest


def _damaged(name: str, what: str) -> FileFormatError:
    """Return the error for a file that differs from its checksum."""
    return FileFormatError(
        f"'{name}' is damaged, or was changed after it was written: {what} from the checksum in it. "
        "Replace the file, and load the intact one before you use the model. If you changed it on purpose: "
        "`kgp.load_model(path, verify=False)` loads a `.keras` file; delete the checksum of a weights file, "
        f"`with h5py.File(path, 'a') as file: del file.attrs['{_CONTENT}']`."
    )


def _text(file: h5py.File, key: str) -> str | None:
    """Return a checksum in a file, or None.

    Texts of variable length are elsewhere in the file, in a heap; HDF5 reads a damaged heap for ever. So the
    checksums have a fixed length, and no other text is read.
    """
    if key not in file.attrs:
        return None
    if file.attrs.get_id(key).dtype.kind != "S":
        raise ValueError("its checksum has another type")
    value: Any = file.attrs[key]
    return value.decode("ascii")


def _content(file: h5py.File) -> str:
    """Return the checksum of all groups and arrays of a file, with the names of their attributes."""
    checksum = checksums.new()

    def add(name: str, item: Any) -> None:
        checksum.update(f"{name}\n".encode())
        checksum.update("\n".join(k for k in sorted(item.attrs) if k != _CONTENT).encode())
        if isinstance(item, h5py.Dataset) and h5py.check_string_dtype(item.dtype) is None:
            checksums.add_array(checksum, item[()])

    add("", file)
    checksum.update(f"{_text(file, _REST)}".encode())
    file.visititems(add)
    return checksum.hexdigest()


def _rest(config: str | bytes, assets: dict[str, int]) -> str:
    """Return the checksum of a configuration and of the assets."""
    config = config.encode() if isinstance(config, str) else config
    return checksums.of_json([checksums.of_bytes(config), assets])


def _rest_being_saved() -> Any:
    """Return a function of no arguments for the checksum of the rest of the file; None for a weights file."""
    frame = _frame("_save_model_to_fileobj", "_save_model_to_dir")
    if frame is None or "config_json" not in frame:
        return None
    config = frame["config_json"]
    # Assets are in a folder until the file is closed.
    folder = getattr(frame.get("asset_store"), "working_dir", None)
    return lambda: _rest(config, _assets_in(folder and pathlib.Path(folder).parent))


def _assets_in(place: zipfile.ZipFile | pathlib.Path | None) -> dict[str, int]:
    """Return path -> CRC-32 of each asset in an archive or in a folder."""
    if isinstance(place, zipfile.ZipFile):
        infos = [info for info in place.infolist() if not info.is_dir()]
        return {i.filename: i.CRC for i in infos if i.filename.startswith("assets/")}
    if place is None:
        return {}
    files = sorted(path for path in place.glob("assets/**/*") if path.is_file())
    return {p.relative_to(place).as_posix(): zlib.crc32(p.read_bytes()) for p in files}


def _frame(*functions: str) -> dict[str, Any] | None:
    """Return the variables of a function of Keras that is saving or loading a model.

    Private functions of Keras: a layer is not told which file it is saved to.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in functions and frame.f_globals["__name__"].startswith("keras."):
            return frame.f_locals
        frame = frame.f_back
    return None
