"""The kernels that a layer holds itself, and the attribute paths that name them.

A kernel is a trained weight with two or more axes. Biases and scales are no kernels, also where they have
several axes, such as the bias of attention heads or the slopes of a `PReLU`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras

# Last part of an attribute path, or name of a variable, that is no kernel whatever its shape.
_VECTOR_NAME = re.compile(r"(^|_)bias(es)?$|^(b|alpha|beta|gamma|lora_.*)$")
# Its two weights are a Fourier basis, which is given and not learned.
_WITHOUT_KERNELS = (keras.layers.STFTSpectrogram,)
# Attributes in which Keras and the backends keep lists of variables and layers.
BOOKKEEPING = frozenset(
    {
        *("_layers", "_metrics", "_losses", "_loss_ids", "_tracker", "_functional", "_operations"),
        *("_trainable_variables", "_non_trainable_variables", "_seed_generators", "_nodes"),
        *("_inbound_nodes", "_outbound_nodes", "_self_tracked_trackables", "_modules"),
        *("_parameters", "_buffers", "_torch_params", "_saved_model_inputs_spec", "pruning_masks"),
    }
)


def member(owner: Any, name: str) -> Any:
    """Return an attribute of an object, or the entry of a list or dict, or None.

    Args:
        owner: A layer, or a list, tuple or dict that is an attribute of one.
        name: Name of the attribute, index of the entry, or key of the dict.
    """
    if isinstance(owner, Mapping):
        return owner.get(name)
    if isinstance(owner, (list, tuple)):
        return owner[int(name)] if name.isdigit() and int(name) < len(owner) else None
    return getattr(owner, name, None)


def own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the variables that a layer itself has created, without those of its sublayers.

    Private attributes of Keras: there is no public list without the variables of the sublayers.
    """
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def is_float(variable: keras.Variable) -> bool:
    """Return whether a variable holds floats. Quantized weights hold integers."""
    return "float" in keras.backend.standardize_dtype(variable.dtype)


def own_kernels(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the kernels that a layer itself has created, without those of its sublayers.

    Kernels of a frozen layer are among them. Private attribute of Keras: `trainable_weights` is empty where a
    layer is frozen, and `weights` also has state, such as running means. The list of the weights that were
    created as trainable ones has neither fault.
    """
    if isinstance(layer, _WITHOUT_KERNELS):
        return []
    kernels = [v for v in layer._trainable_variables if _has_kernel_shape(v)]
    paths = attribute_paths(layer) if kernels else {}
    return [v for v in kernels if not _is_named_as_vector(v, paths.get(id(v), ""))]


def _is_named_as_vector(variable: keras.Variable, path: str) -> bool:
    """Return whether the name of a variable, or of its attribute, says that it is a bias or a scale."""
    attributes = [part for part in path.split(".") if not part.isdigit()]
    return any(_VECTOR_NAME.search(name) for name in (variable.name, *attributes[-1:]))


def _has_kernel_shape(variable: keras.Variable) -> bool:
    shape = tuple(variable.shape)
    if len(shape) < 2 or not is_float(variable):
        return False
    long = [axis - len(shape) for axis, size in enumerate(shape) if size > 1]
    # Scales of channels have one long axis, such as (1, 1, 64) or (64, 1, 1). A kernel with one output
    # channel has the shape (.., in, 1).
    return len(long) > 1 or long == [-2]


def attribute_paths(layer: keras.layers.Layer, inner: bool = False) -> dict[int, str]:
    """Return the attribute paths of the variables of a layer: id of the variable -> shortest path.

    A part of a path is the name of an attribute, the index in a list, or the key in a dict, as in
    'cell.kernel', 'experts.0' or 'kernels.left'.

    Args:
        layer: A built layer.
        inner: Whether to list the variables of its sublayers too. Defaults to False.
    """
    paths: dict[int, str] = {}
    seen = {id(layer)}
    level: list[tuple[str, Any]] = [("", layer)]
    while level:
        deeper = []
        for prefix, owner in level:
            for name, value in _members(owner):
                path = f"{prefix}{name}"
                if isinstance(value, keras.Variable):
                    paths.setdefault(id(value), path)
                    continue
                is_container = isinstance(value, (list, tuple, Mapping))
                is_layer = inner and isinstance(value, keras.layers.Layer)
                if (is_container or is_layer) and id(value) not in seen:
                    seen.add(id(value))
                    deeper.append((f"{path}.", value))
        level = deeper
    return paths


def _members(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) for the attributes or entries of an object."""
    if isinstance(owner, Mapping):
        yield from ((k, v) for k, v in owner.items() if isinstance(k, str) and "." not in k)
    elif isinstance(owner, (list, tuple)):
        yield from ((str(i), v) for i, v in enumerate(owner))
    else:
        members = dict(vars(owner))
        # On PyTorch a layer is a PyTorch module, which stores its sublayers in a dict of its own.
        members.update(members.get("_modules") or {})
        yield from ((name, value) for name, value in members.items() if name not in BOOKKEEPING)
