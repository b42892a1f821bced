"""Communication between several processes (workers) that train one network together.

The first worker decides, and all others use its decision. Every function has an argument `like`, a variable
of the network or the model itself, which determines the workers. If there is only one process, nothing is
sent. All workers must make the same calls in the same order.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError

# Seconds that a worker waits for the others on TensorFlow. PyTorch's process group and JAX have their own
# limits.
TIMEOUT = 300.0
# Largest number of characters of a setting in an error text.
_SHOWN = 300


def multi_worker_strategy(**options: Any) -> Any:
    """Return a `tf.distribute.MultiWorkerMirroredStrategy` that works with `fit` of Keras 3.

    `fit` needs reductions that TensorFlow's own strategy rejects (keras-team/keras#20585). As for that
    strategy, set TF_CONFIG on every machine, and create the strategy before any other use of TensorFlow.

    Args:
        **options: Arguments of `tf.distribute.MultiWorkerMirroredStrategy`: `cluster_resolver`,
            `communication_options`.

    Returns:
        The strategy. Build and compile the model inside `with strategy.scope():`.

    Raises:
        InvalidArgumentError: Keras does not run on TensorFlow.

    Example:
    >>> strategy = multi_worker_strategy()  # doctest: +SKIP
    >>> with strategy.scope():  # doctest: +SKIP
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    ...     model.compile("adam", "mse")
    """
    if keras.backend.backend() != "tensorflow":
        raise InvalidArgumentError(
            "`multi_worker_strategy` needs the backend 'tensorflow'. Received: the backend "
            f"'{keras.backend.backend()}'. Set KERAS_BACKEND=tensorflow before Keras is imported. On JAX "
            "use `keras.distribution.DataParallel`, on PyTorch `DistributedDataParallel`."
        )
    return _backend_module().MultiWorkerMirroredStrategy(**options)


def count(like: Any) -> int:
    """Return the number of processes that train the network of `like`."""
    module = _backend_module()
    return 1 if module is None else module.count(like)


def rank(like: Any) -> int:
    """Return the index of this process among the workers, from 0."""
    return 0 if count(like) == 1 else _backend_module().rank(like)


def broadcast(array: np.ndarray, like: Any) -> np.ndarray:
    """Return the first worker's array, bit for bit, on every worker. All arrays must have the same shape.

    Example:
    >>> broadcast(np.array([0.5, 2.0]), keras.Variable(1.0))
    array([0.5, 2. ])
    """
    if count(like) == 1:
        return array
    sent = np.frombuffer(array.tobytes(), np.uint8)
    if rank(like) > 0:
        sent = np.zeros_like(sent)
    return np.frombuffer(_total(sent, like).tobytes(), array.dtype).reshape(array.shape)


def broadcast_masks(masks: Sequence[np.ndarray], like: Any) -> list[np.ndarray]:
    """Return the first worker's bool arrays on every worker. They are sent in one message."""
    if count(like) == 1:
        return list(masks)
    bits = np.concatenate([mask.ravel() for mask in masks])
    bits = np.unpackbits(broadcast(np.packbits(bits), like), count=bits.size).astype(bool)
    parts = np.split(bits, np.cumsum([mask.size for mask in masks])[:-1])
    return [part.reshape(mask.shape) for part, mask in zip(parts, masks, strict=True)]


def gather(text: str, like: Any) -> list[str]:
    """Return the texts of all workers on every worker, in the order of their ranks."""
    workers = count(like)
    if workers == 1:
        return [text]
    encoded, here = np.frombuffer(text.encode(), np.uint8), rank(like)
    sizes = np.zeros(workers, np.int64)
    sizes[here] = encoded.size
    sizes = np.frombuffer(_total(sizes.view(np.uint8), like).tobytes(), np.int64)
    rows = np.zeros((workers, int(sizes.max())), np.uint8)
    rows[here, : encoded.size] = encoded
    rows = _total(rows.ravel(), like).reshape(rows.shape)
    return [row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)]


def check_same(settings: Mapping[str, Any], like: Any, rule: str, fix: str) -> None:
    """Raise `InvalidArgumentError` on every worker if a setting differs between workers.

    Args:
        settings: Settings by name. The `repr` of the values is compared.
        like: Variable of the network, or the model.
        rule: Sentence for the error: the settings that must be equal.
        fix: Sentence for the error: how to fix it.
    """
    if count(like) == 1:
        return
    # Addresses in memory are removed: they differ between workers although the objects are equal.
    texts = {k: re.sub(r" at 0x[0-9a-fA-F]+", "", repr(v)) for k, v in settings.items()}
    workers = [json.loads(text) for text in gather(json.dumps(texts), like)]
    first = workers[0]
    names = [k for k in first if any(other.get(k) != first[k] for other in workers)]
    names += [k for other in workers for k in other if k not in first]
    if not names:
        return
    received = "; ".join(
        f"worker {i}: " + ", ".join(f"{k}={str(t.get(k))[:_SHOWN]}" for k in dict.fromkeys(names))
        for i, t in enumerate(workers)
    )
    raise InvalidArgumentError(f"{rule} Received: {received}. {fix}")


def version() -> str:
    """Return the version of keras_ganprune in this process."""
    return getattr(sys.modules["keras_ganprune"], "__version__", "unknown")


def check_strategy(model: keras.Model, variables: Sequence[keras.Variable]) -> None:
    """Raise if, on TensorFlow, the variables were not made under the strategy of `fit`."""
    if keras.backend.backend() == "tensorflow":
        _backend_module().check_strategy(model, variables)


def any_of(flag: bool, like: Any) -> bool:
    """Return whether the flag of any worker is True.

    The flag must depend on the logs only. On TensorFlow and JAX all workers have the same logs, so nothing
    is sent.
    """
    if count(like) == 1 or not _backend_module().LOGS_DIFFER:
        return flag
    sent = np.zeros(count(like), np.uint8)
    sent[rank(like)] = flag
    return bool(_total(sent, like).any())


def _backend_module() -> Any:
    """Return the `_distribution_*` module of the Keras backend, or None if there is none."""
    name = keras.backend.backend()
    if name not in ("tensorflow", "jax", "torch"):
        return None
    return importlib.import_module(f"keras_ganprune.backend._distribution_{name}")


def _total(sent: np.ndarray, like: Any) -> np.ndarray:
    """Return the sum of the byte arrays of all workers. Per position, at most one byte is not 0."""
    padded = np.zeros(-(-sent.size // 8) * 8, np.uint8)
    padded[: sent.size] = sent
    # As int64, which every backend can add. The sum is exact, because all other summands are zero.
    total = np.asarray(_backend_module().total(padded.view(np.int64), like, TIMEOUT))
    return total.view(np.uint8)[: sent.size]
