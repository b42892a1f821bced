"""Workers of a `torch.distributed` process group."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.distributed as dist  # pyright: ignore[reportMissingImports]

# Each process logs the losses of its own part of the data.
LOGS_DIFFER = True


def count(like: Any) -> int:
    """Return the number of processes."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size()


def rank(like: Any) -> int:
    """Return the index of this process, from 0."""
    return dist.get_rank()


def total(sent: np.ndarray, like: Any, timeout: float) -> np.ndarray:
    """Return the sum of the int64 arrays of all processes."""
    # The NCCL backend sends GPU tensors only, the gloo backend sends CPU tensors.
    on_cpu = "gloo" in dist.get_backend() or not torch.cuda.is_available()
    summed = torch.from_numpy(sent.copy()).to("cpu" if on_cpu else "cuda")
    dist.all_reduce(summed)
    return summed.cpu().numpy()
