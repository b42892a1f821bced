"""Several processes that train one network together: what the first one decides holds for all of them.

Every function takes `like`, a variable of the network (or the model itself), which knows its workers. Where
there is one process, nothing is sent and no framework is asked. All workers must make the same calls.
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

# How long the others may take to say what they have, in seconds, before a worker gives up. PyTorch's
# process group and JAX have limits of their own.
TIMEOUT = 300.0
_SHOWN = 300


def multi_worker_strategy(**options: Any) -> Any:
    """Return a `tf.distribute.MultiWorkerMirroredStrategy` under which the `fit` of Keras 3 works.

    Keras asks the strategy for reductions that TensorFlow's own refuses (keras-team/keras#20585). Like
    that one, to be made before anything else of TensorFlow, with TF_CONFIG set on every machine.

    Args:
        **options: As for TensorFlow's: `cluster_resolver`, `communication_options`.

    Raises:
        InvalidArgumentError: Keras runs on another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise InvalidArgumentError(
            "A strategy of TensorFlow needs Keras on TensorFlow. Received: the backend "
            f"'{keras.backend.backend()}'. Set KERAS_BACKEND=tensorflow before Keras is imported; on JAX "
            "use `keras.distribution.DataParallel`, on PyTorch `DistributedDataParallel`."
        )
    return _engine().MultiWorkerMirroredStrategy(**options)


def count(like: Any) -> int:
    """Return how many processes train the network that `like` belongs to."""
    engine = _engine()
    return 1 if engine is None else engine.count(like)


def rank(like: Any) -> int:
    """Return the number of this process among them, from 0."""
    return 0 if count(like) == 1 else _engine().rank(like)


def broadcast(array: np.ndarray, like: Any) -> np.ndarray:
    """Return the first worker's array, bit by bit, on every worker; their shapes must be equal.

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
    """Return the first worker's bool arrays on every worker: one message for all of them."""
    if count(like) == 1:
        return list(masks)
    bits = np.concatenate([mask.ravel() for mask in masks])
    bits = np.unpackbits(broadcast(np.packbits(bits), like), count=bits.size).astype(bool)
    parts = np.split(bits, np.cumsum([mask.size for mask in masks])[:-1])
    return [part.reshape(mask.shape) for part, mask in zip(parts, masks, strict=True)]


def gather(text: str, like: Any) -> list[str]:
    """Return what each worker says, in the order of their numbers."""
    workers = count(like)
    if workers == 1:
        return [text]
    own, here = np.frombuffer(text.encode(), np.uint8), rank(like)
    sizes = np.zeros(workers, np.int64)
    sizes[here] = own.size
    sizes = np.frombuffer(_total(sizes.view(np.uint8), like).tobytes(), np.int64)
    rows = np.zeros((workers, int(sizes.max())), np.uint8)
    rows[here, : own.size] = own
    rows = _total(rows.ravel(), like).reshape(rows.shape)
    return [row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)]


def check_same(settings: Mapping[str, Any], like: Any, rule: str, fix: str) -> None:
    """Raise `InvalidArgumentError` on every worker if some setting is not the same on all of them.

    Args:
        settings: What must be the same, by name; the texts of the values are compared.
        like: See above.
        rule: Sentence that says what must be the same.
        fix: Sentence that says what to do.
    """
    if count(like) == 1:
        return
    # Where an object lies in memory says nothing of what it is.
    own = {k: re.sub(r" at 0x[0-9a-fA-F]+", "", repr(v)) for k, v in settings.items()}
    told = [json.loads(text) for text in gather(json.dumps(own), like)]
    names = [k for k in told[0] if any(other.get(k) != told[0][k] for other in told)]
    names += [k for other in told for k in other if k not in told[0]]
    if not names:
        return
    received = "; ".join(
        f"worker {i}: " + ", ".join(f"{k}={str(t.get(k))[:_SHOWN]}" for k in dict.fromkeys(names))
        for i, t in enumerate(told)
    )
    raise InvalidArgumentError(f"{rule} Received: {received}. {fix}")


def version() -> str:
    """Return the version of this package that this process runs."""
    return getattr(sys.modules[__package__], "__version__", "unknown")


def check_strategy(model: keras.Model, variables: Sequence[keras.Variable]) -> None:
    """Raise `InvalidArgumentError` if `fit` runs under another strategy of TensorFlow than variables."""
    if keras.backend.backend() == "tensorflow":
        _engine().check_strategy(model, variables)


def any_of(flag: bool, like: Any) -> bool:
    """Return whether a worker says yes, where each sees only what it has measured itself.

    TensorFlow and JAX show every worker the same logs, so that nothing has to be sent.
    """
    if count(like) == 1 or not _engine().LOGS_DIFFER:
        return flag
    sent = np.zeros(count(like), np.uint8)
    sent[rank(like)] = flag
    return bool(_total(sent, like).any())


def _engine() -> Any:
    name = keras.backend.backend()
    if name not in ("tensorflow", "jax", "torch"):
        return None
    return importlib.import_module(f"keras_ganprune.backend._distribution_{name}")


def _total(sent: np.ndarray, like: Any) -> np.ndarray:
    """Return the sum of what all workers send: bytes, of which at most one worker's are not zero."""
    padded = np.zeros(-(-sent.size // 8) * 8, np.uint8)
    padded[: sent.size] = sent
    # As int64, which every engine can add; the sum with zeros is exact.
    found = np.asarray(_engine().total(padded.view(np.int64), like, TIMEOUT))
    return found.view(np.uint8)[: sent.size]
