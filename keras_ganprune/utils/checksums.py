"""Checksums of what is written, so that damage is found when it is read."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np


def new() -> Any:
    """Return a hash object. Its `hexdigest` is a checksum."""
    return hashlib.blake2b(digest_size=16)


def of_bytes(data: bytes) -> str:
    """Return the checksum of bytes.

    Example:
    >>> of_bytes(b"mask")
    'd834f9cc4de3e53dd9dfbdc89446361d'
    """
    checksum = new()
    checksum.update(data)
    return checksum.hexdigest()


def of_file(path: str | os.PathLike[str]) -> str:
    """Return the checksum of the content of a file."""
    return of_bytes(pathlib.Path(path).read_bytes())


def of_json(value: Any) -> str:
    """Return the checksum of a JSON value. Spaces and the order of keys do not change it."""
    return of_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def add_array(checksum: Any, array: Any) -> None:
    """Add the type, the shape and the values of an array to a hash object."""
    array = np.asarray(array)
    checksum.update(f"{array.dtype} {array.shape}\n".encode())
    if array.dtype.kind == "O":
        checksum.update(repr(array.tolist()).encode())
    else:
        checksum.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
