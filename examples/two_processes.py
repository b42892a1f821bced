"""Starts a script twice on this machine: two processes stand for two machines."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def tensorflow_environments() -> list[dict[str, str]]:
    """Return what each of two workers of TensorFlow needs to know."""
    workers = [f"localhost:{port}" for port in free_ports(2)]
    return [
        {
            "TF_CONFIG": json.dumps(
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            )
        }
        for index in range(2)
    ]


def torch_environments() -> list[dict[str, str]]:
    """Return what each of two workers of PyTorch needs to know: what `torchrun` sets."""
    [port] = free_ports(1)
    return [
        {
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(port),
            "RANK": str(index),
            "WORLD_SIZE": "2",
            "OMP_NUM_THREADS": "1",
        }
        for index in range(2)
    ]


def start(
    environments: Sequence[dict[str, str]],
    commands: Sequence[Sequence[str]],
    timeout: float = 600.0,
    **options,
) -> list[subprocess.CompletedProcess]:
    """Run one command for each environment, all at once; none is left behind.

    Args:
        environments: What is added to the environment of each.
        commands: Script and arguments of each.
        timeout: Seconds after which those that still run are killed.
        **options: For `subprocess.Popen`.
    """
    processes = [
        subprocess.Popen([sys.executable, *command], env={**os.environ, **added}, **options)
        for added, command in zip(environments, commands, strict=True)
    ]
    end = time.monotonic() + timeout
    try:
        said = [p.communicate(timeout=max(end - time.monotonic(), 0.1)) for p in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        subprocess.CompletedProcess(p.args, p.returncode, *texts)
        for p, texts in zip(processes, said, strict=True)
    ]
