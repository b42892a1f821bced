"""What a run of `Prune` finds when training starts: a step, other workers, other callbacks."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import distribution
from keras_ganprune.callbacks import _prune_warnings
from keras_ganprune.callbacks.target_networks import PruneCallback, TargetNetworks
from keras_ganprune.errors import PruningWarning
from keras_ganprune.layers.mask_store import MaskStore
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.training.step_clock import Clock


def first_step(
    clock: Clock, targets: TargetNetworks, callback: PruneCallback, say: Callable[[str], None]
) -> int:
    """Return the step to start from: the optimizer's own count, or the step saved with the masks.

    Keras does not restore an optimizer that is built only by the first batch, nor one that a GAN class gets
    in its own `compile`. Its count is zero then, and the step saved with the masks is the clock.
    """
    step = clock.step
    counted = step - clock.offset
    saved = max((store.step for store in targets.stores), default=0)
    restored = any(store.restored for store in targets.stores)
    if not restored and not targets.loaded:
        return step
    if counted >= saved:
        clock.offset = 0  # The optimizer was restored with the masks.
        return counted
    if not restored and not made_masks(callback, targets.stores, saved):
        # A new run of a model that was loaded, not the rest of the run that saved it.
        say(
            f"the masks were saved at step {saved}, by other settings; this schedule starts at step "
            f"{counted}, the optimizer's own count"
        )
        clock.offset = 0
        return counted
    if clock.offset != saved - counted:
        clock.offset = saved - counted
        warnings.warn(
            _prune_warnings.optimizer_lost(saved, type(targets.model).__name__),
            PruningWarning,
            stacklevel=4,
        )
    return saved


def made_masks(callback: PruneCallback, stores: Sequence[MaskStore], step: int) -> bool:
    """Return whether the settings of a callback have made the masks that a network had at a step."""
    stamps = {store.stamp for store in stores}
    due = callback.schedule.latest_update_step(-1, step, callback.frequency)
    if due is None:
        return stamps == {0}
    # The last updates may have waited for gradients.
    for _ in range(4):
        if due is not None and callback.settings.stamp(due) in stamps:
            return True
        due = None if due is None else _before(callback, due)
    return False


def _before(callback: PruneCallback, due: int) -> int | None:
    return callback.schedule.latest_update_step(-1, due - 1, callback.frequency)


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
