"""What a run of `Prune` finds when training starts: a step, other workers, other callbacks."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import distribution
from keras_ganprune.callbacks import _prune_warnings
from keras_ganprune.callbacks.target_networks import PruneCallback, TargetNetworks
from keras_ganprune.errors import PruningWarning
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.training.step_clock import Clock


def first_step(clock: Clock, targets: TargetNetworks, say: Callable[[str], None]) -> int:
    """Return the step to start from: the optimizer's own count, or the step saved with the masks."""
    step = clock.step
    saved = max((store.step for store in targets.stores), default=0)
    if any(store.restored for store in targets.stores) and step < saved:
        # Keras does not restore an optimizer that is built only by the first batch.
        clock.offset = saved - step
        say(
            "the optimizer's state was not restored with the masks; the schedule continues at step "
            f"{saved}, where they were saved"
        )
        return saved
    return step


def check_resumed(model: keras.Model, pruner: Pruner, step: int) -> None:
    """Check that all workers start at the same step, with the same masks.

    Raises:
        InvalidArgumentError: They do not.
    """
    if distribution.count(model) == 1:
        return
    bits = b"".join(np.packbits(to_numpy(w.mask)).tobytes() for w in pruner.weights)
    distribution.check_same(
        {"step": step, "masks": f"{pruner.sparsity:.4f} ({zlib.crc32(bits):x})"},
        model,
        "All workers must begin at the same step, with the same masks.",
        "Restore the backup of one worker on all of them, or of none.",
    )


def claim_layers(callback: PruneCallback, pruner: Pruner) -> None:
    """Warn if another callback of this `fit` chooses the masks of the same layers, and may undo these."""
    model: Any = callback.model
    claims = vars(model).get("_pruned_by")
    if claims is None or claims[0] is not callback.params:
        claims = (callback.params, {})
        # Past Keras's attribute tracking, which must not track it.
        object.__setattr__(model, "_pruned_by", claims)
    paths = {id(w.layer): w.path for w in pruner.weights}
    for other, layers in claims[1].items():
        shared = [path for layer, path in paths.items() if layer in layers]
        regrowing = [p.mode for p in (pruner, other.pruner) if p.mode.regrows]
        if shared and regrowing:
            text = _prune_warnings.shared_layers(shared, regrowing[0])
            warnings.warn(text, PruningWarning, stacklevel=4)
    claims[1][callback] = set(paths)


def release_layers(model: Any) -> None:
    """Forget which callbacks of this `fit` choose the masks of which layers."""
    vars(model).pop("_pruned_by", None)
