"""The identity of a process that works on a sweep, and whether it is still alive."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import secrets
import socket
from typing import Any

# Distinguishes this process from an older one with the same process id.
_TOKEN = secrets.token_hex(8)


@functools.cache
def _machine() -> str:
    """Return an identifier of the computer and the container, inside which process ids are unique."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(pathlib.Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def this_worker() -> dict[str, Any]:
    """Return the identity of this process, as JSON values."""
    return {"place": _machine(), "pid": os.getpid(), "token": _TOKEN}


def is_dead(worker: dict[str, Any] | None) -> bool:
    """Return whether a worker is known to be dead: a process of this computer that no longer exists."""
    if not worker or worker["place"] != _machine():
        return False
    if worker["pid"] == os.getpid():
        return worker["token"] != _TOKEN
    if os.name == "nt":  # on Windows, signal 0 would end the process
        return False
    try:
        os.kill(worker["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
