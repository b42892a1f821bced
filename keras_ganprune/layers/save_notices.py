"""What to say when a model is saved whose masks do not come back by themselves."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import keras

from keras_ganprune.errors import PruningNotice
from keras_ganprune.utils.registry import PACKAGE

_SAID: set[str] = set()


def notice(store: keras.layers.Layer) -> None:
    """Say once per class which call loads the masks, if a file is written that Keras loads without them.

    Args:
        store: The `MaskStore` that is being saved.
    """
    root, to_weights, depth = _being_saved()
    if root is None or type(root).__module__.split(".")[0] == PACKAGE:
        return
    name = type(root).__name__
    key = "weights" if to_weights else f"{type(root).__module__}.{name}"
    if key in _SAID:
        return
    if not to_weights:
        masked = _masked_below(root, set())
        # Every store of the model is saved; the first one looks at the configuration for all of them.
        if (masked and masked[0].pruning_masks is not store) or _comes_back(root, len(masked)):
            return
    _SAID.add(key)
    if to_weights:
        text = (
            "The weights file contains masks. Only Prunable layers read them: before `load_weights`, call "
            "`kgp.make_prunable(model)` on a model that was built anew. A plain model reads the zeros, but "
            "training fills them again."
        )
    else:
        text = (
            f"{name} makes plain layers when it is loaded, which cannot read the masks in this file. Load it "
            "with `kgp.load_model(path)`. With `keras.saving.load_model` the zeros come without their masks, "
            "and training fills them again. On a copy by `copy.deepcopy` or `pickle`, call "
            "`kgp.masks_from_zeros(copy)`."
        )
    warnings.warn(text, PruningNotice, stacklevel=depth)


def _being_saved() -> tuple[Any, bool, int]:
    """Return the model that Keras is saving, whether only its weights are saved, and the depth of the caller.

    Private functions of Keras: a layer that is saved is not told which model it belongs to. The frames of
    the callers know it. `BackupAndRestore` needs no notice: `Prune` makes the layers Prunable before it
    reads.
    """
    root, to_weights, depth, steps = None, False, 2, 0
    frame = sys._getframe(1)
    while frame is not None:
        steps += 1
        function = frame.f_code.co_name
        if function in ("_save_model_to_fileobj", "_save_model_to_dir", "save_weights_only"):
            root, to_weights = frame.f_locals.get("model"), function == "save_weights_only"
        if type(frame.f_locals.get("self")) is keras.callbacks.BackupAndRestore:
            return None, False, depth
        if frame.f_globals.get("__name__", "").split(".")[0] in ("keras", PACKAGE):
            depth = steps + 1
        frame = frame.f_back
    return root, to_weights, depth


def _comes_back(root: Any, masked: int) -> bool:
    """Return whether the configuration of a model names all of its layers with masks."""
    try:
        config = keras.saving.serialize_keras_object(root)
    except Exception:  # Keras raises its own error when it writes the configuration.
        return True
    return _count(config) >= masked


def _count(config: Any) -> int:
    """Return the number of Prunable classes in a configuration."""
    if isinstance(config, dict):
        own = str(config.get("registered_name", "")).startswith(f"{PACKAGE}>Prunable")
        return own + sum(_count(value) for value in config.values())
    if isinstance(config, (list, tuple)):
        return sum(_count(value) for value in config)
    return 0


def _masked_below(layer: Any, seen: set[int]) -> list[Any]:
    """Return the layers with masks. Keras makes the second layer of a `Bidirectional` from the first."""
    if id(layer) in seen:
        return []
    seen.add(id(layer))
    store = vars(layer).get("pruning_masks")
    found = [layer] if store is not None and store.masks else []
    for child in layer._flatten_layers(include_self=False, recursive=False):
        if not (isinstance(layer, keras.layers.Bidirectional) and child is layer.backward_layer):
            found += _masked_below(child, seen)
    return found
