"""Prunable layers: the Keras layer plus a mask for each kernel."""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import keras
import numpy as np

from keras_ganprune.errors import (
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.cloning import clone
from keras_ganprune.layers.mask_store import MaskConstraint, MaskStore, masked, to_numpy
from keras_ganprune.utils.registry import PACKAGE

AnyLayer = TypeVar("AnyLayer", bound=keras.layers.Layer)


def _weight_variable(layer: keras.layers.Layer, path: str) -> keras.Variable | None:
    """Return the variable behind an attribute path such as 'kernel' or 'cell.kernel'.

    Private touch: `Dense` and `Conv` keep the variable as `_kernel`, and their public `kernel` may be
    a computed tensor (LoRA, quantization), which cannot be masked.
    """
    *parents, name = path.split(".")
    for parent in parents:
        layer = getattr(layer, parent, None)
    for attribute in (f"_{name}", name):
        value = getattr(layer, attribute, None)
        if isinstance(value, keras.Variable):
            return value
    return None


class PrunableLayer:
    """Mixin that makes a Keras layer hold masks; see `register_prunable` for a layer of your own.

    Attributes:
        pruned_weight_names: Attribute paths of the weights that get a mask.
        plain_class: The Keras class that `strip_pruning` returns to.
        pruning_masks: The `MaskStore`, once the layer is built.
    """

    pruned_weight_names: tuple[str, ...] = ()
    plain_class: type

    def __repr__(self) -> str:
        store = getattr(self, "pruning_masks", None)
        if store is None:
            return f"<{type(self).__qualname__} name={self.name}, built={self.built}>"
        masks = [to_numpy(mask) for mask in store.masks.values()]
        total = sum(mask.size for mask in masks)
        kept = sum(int(np.count_nonzero(mask)) for mask in masks)
        return f"<{type(self).__qualname__} name={self.name}, kept={kept}/{total}>"

    def _attach_masks(self) -> None:
        weights = {}
        for name in self.pruned_weight_names:
            weight = _weight_variable(self, name)
            if weight is None:
                if "." in name:
                    continue  # an inner part that this configuration does not have
                raise UnsupportedLayerError(
                    f"{self.plain_class.__name__} '{self.name}' has no weight `{name}`. "
                    "Name the attributes that hold its kernels in `register_prunable`."
                )
            if isinstance(weight.constraint, MaskConstraint):
                continue  # masked by another layer that owns the same variable
            weights[name] = weight
        find = functools.partial(_weight_variable, self)
        # `object.__setattr__` keeps Keras and TensorFlow from tracking the store as a sublayer, which
        # would put the masks among `layer.weights`.
        object.__setattr__(self, "pruning_masks", MaskStore(weights, find))


_PRUNABLE: dict[type, type] = {}
_PLAIN_WEIGHTS: dict[type, tuple[str, ...]] = {}


def _define(base: type, *weight_names: str, module: str = __name__) -> type:
    """Make and register the Prunable class of one layer class."""

    # `wraps` matters: Keras reads the parameter names of `build` to save and rebuild a layer.
    @functools.wraps(base.build)
    def build(self, *args, **kwargs):
        base.build(self, *args, **kwargs)
        self._attach_masks()

    members: dict[str, Any] = {
        "pruned_weight_names": tuple(weight_names),
        "plain_class": base,
        "__module__": module,
        "__doc__": f"`{base.__name__}` with a mask for "
        f"{', '.join(weight_names) or 'what goes with a channel'}.\n\n"
        f"    Takes the arguments of `{base.__name__}`; the masks start as all True.",
    }
    if getattr(base.build, "_is_default", False):
        # The layer makes its weights in `__init__`; Keras never calls its `build`.
        @functools.wraps(base.__init__)
        def __init__(self, *args, **kwargs):
            base.__init__(self, *args, **kwargs)
            self._attach_masks()

        __init__.__signature__ = inspect.signature(base.__init__)
        members["__init__"] = __init__
    else:
        members["build"] = build
    name = f"Prunable{base.__name__}"
    # `__name__` stays that of the Keras class: Keras derives the paths inside weights files from it,
    # so a file written before an upgrade loads after it, and the other way round. The qualified name
    # and the registered name say what the class is.
    cls = type(base.__name__, (PrunableLayer, base), {**members, "__qualname__": name})
    keras.saving.register_keras_serializable(package=PACKAGE, name=name)(cls)
    _PRUNABLE[base] = cls
    _PLAIN_WEIGHTS[base] = tuple(weight_names)
    return cls


PrunableDense = _define(keras.layers.Dense, "kernel")
PrunableEinsumDense = _define(keras.layers.EinsumDense, "kernel")
PrunableEmbedding = _define(keras.layers.Embedding, "embeddings")
PrunableConv1D = _define(keras.layers.Conv1D, "kernel")
PrunableConv2D = _define(keras.layers.Conv2D, "kernel")
PrunableConv3D = _define(keras.layers.Conv3D, "kernel")
PrunableConv1DTranspose = _define(keras.layers.Conv1DTranspose, "kernel")
PrunableConv2DTranspose = _define(keras.layers.Conv2DTranspose, "kernel")
PrunableConv3DTranspose = _define(keras.layers.Conv3DTranspose, "kernel")
PrunableDepthwiseConv1D = _define(keras.layers.DepthwiseConv1D, "kernel")
PrunableDepthwiseConv2D = _define(keras.layers.DepthwiseConv2D, "kernel")
PrunableSeparableConv1D = _define(
    keras.layers.SeparableConv1D, "depthwise_kernel", "pointwise_kernel"
)
PrunableSeparableConv2D = _define(
    keras.layers.SeparableConv2D, "depthwise_kernel", "pointwise_kernel"
)
# A recurrent layer makes its cell anew from its own configuration, so the layer owns the cell's masks.
PrunableLSTM = _define(keras.layers.LSTM, "cell.kernel", "cell.recurrent_kernel")
PrunableGRU = _define(keras.layers.GRU, "cell.kernel", "cell.recurrent_kernel")
PrunableSimpleRNN = _define(keras.layers.SimpleRNN, "cell.kernel", "cell.recurrent_kernel")
PrunableLSTMCell = _define(keras.layers.LSTMCell, "kernel", "recurrent_kernel")
PrunableGRUCell = _define(keras.layers.GRUCell, "kernel", "recurrent_kernel")
PrunableSimpleRNNCell = _define(keras.layers.SimpleRNNCell, "kernel", "recurrent_kernel")
PrunableConvLSTM1D = _define(keras.layers.ConvLSTM1D, "cell.kernel", "cell.recurrent_kernel")
PrunableConvLSTM2D = _define(keras.layers.ConvLSTM2D, "cell.kernel", "cell.recurrent_kernel")
PrunableConvLSTM3D = _define(keras.layers.ConvLSTM3D, "cell.kernel", "cell.recurrent_kernel")
# Private touch: the four EinsumDense layers of attention are only reachable by these names, and are
# made anew by its `build`, so the attention layer owns their masks.
_ATTENTION = tuple(f"_{part}_dense.kernel" for part in ("query", "key", "value", "output"))
PrunableMultiHeadAttention = _define(keras.layers.MultiHeadAttention, *_ATTENTION)
PrunableGroupQueryAttention = _define(keras.layers.GroupQueryAttention, *_ATTENTION)
# These have no kernel to prune; when whole channels go, so do their entries (`add_masks`).
PrunableBatchNormalization = _define(keras.layers.BatchNormalization)
PrunableGroupNormalization = _define(keras.layers.GroupNormalization)
PrunablePReLU = _define(keras.layers.PReLU)


def register_prunable(layer_class: type, weight_names: Sequence[str]) -> type:
    """Make a layer class of your own prunable.

    Call it beside the class, at import, so that saved files load in any process.

    Args:
        layer_class: Subclass of `keras.layers.Layer`.
        weight_names: Attribute names of its kernels, such as `["my_kernel"]`; a dotted path
            (`"cell.kernel"`) reaches into a sublayer.

    Returns: The Prunable class, usable as a constructor.

    Raises:
        UnsupportedLayerError: `layer_class` is not a Keras layer class.
        InvalidArgumentError: no weight is named, or another class of that name is registered.

    Example:
    >>> class Scale(keras.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.scale = self.add_weight(shape=(input_shape[-1],), name="scale")
    ...     def call(self, x):
    ...         return x * self.scale
    >>> register_prunable(Scale, ["scale"]).__qualname__
    'PrunableScale'
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.layers.Layer)):
        raise UnsupportedLayerError(
            f"`layer_class` must be a subclass of `keras.layers.Layer`. Received: {layer_class!r}."
        )
    if isinstance(weight_names, str) or not weight_names:
        raise InvalidArgumentError(
            "`weight_names` must be a non-empty list of attribute names. "
            f"Received: {weight_names!r}. Write for example `['kernel']`."
        )
    for base, cls in _PRUNABLE.items():
        if base.__name__ == layer_class.__name__ and base is not layer_class:
            if (base.__module__, base.__qualname__) == (
                layer_class.__module__,
                layer_class.__qualname__,
            ):
                continue  # the same class, defined again (a re-run notebook cell, a reload)
            raise InvalidArgumentError(
                f"A layer class named {base.__name__!r} is registered already ({cls.plain_class}). "
                "Files name layers by class name, so give one of them another name."
            )
    if _PLAIN_WEIGHTS.get(layer_class) == tuple(weight_names):
        return _PRUNABLE[layer_class]
    return _define(layer_class, *weight_names, module=layer_class.__module__)


def _prunable_class(layer: keras.layers.Layer) -> type | None:
    """Return the Prunable class for a layer, deriving it for a subclass of a known class."""
    cls = type(layer)
    if cls in _PRUNABLE:
        return _PRUNABLE[cls]
    if isinstance(layer, PrunableLayer):
        return None
    for base in cls.__mro__[1:]:
        if base in _PLAIN_WEIGHTS:
            return register_prunable(cls, _PLAIN_WEIGHTS[base])
    return None


def pruned_names(layer: keras.layers.Layer) -> tuple[str, ...]:
    """Return the attribute paths of the kernels of a layer that have or can have masks, perhaps none."""
    if isinstance(layer, PrunableLayer):
        return layer.pruned_weight_names
    return next((_PLAIN_WEIGHTS[c] for c in type(layer).__mro__ if c in _PLAIN_WEIGHTS), ())


def walk(model: keras.layers.Layer) -> list[tuple[str, keras.layers.Layer]]:
    """Return (path, layer) for every layer below `model`, parents first, each layer once.

    Private touch: `_flatten_layers` is the only way to the sublayers of a plain layer or wrapper.
    """
    found: list[tuple[str, keras.layers.Layer]] = []
    seen: set[int] = set()

    def visit(layer: keras.layers.Layer, path: str) -> None:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        found.append((path, layer))
        for child in layer._flatten_layers(include_self=False, recursive=False):
            visit(child, f"{path}/{child.name}" if path else child.name)

    visit(model, "")
    found[0] = (model.name, model)
    return found


def prunable_layers(model: keras.layers.Layer) -> list[tuple[str, PrunableLayer]]:
    """Return (path, layer) for every Prunable layer of a model that holds masks."""
    return [
        (path, layer)
        for path, layer in walk(model)
        if isinstance(layer, PrunableLayer)
        and getattr(layer, "pruning_masks", None) is not None
        and layer.pruning_masks.masks
    ]


def prunable_candidates(model: keras.layers.Layer) -> list[tuple[str, keras.layers.Layer]]:
    """Return the layers that are or can become Prunable; inner parts of one are left to it."""
    owned: set[int] = set()
    found = []
    for path, layer in walk(model):
        if id(layer) in owned:
            continue
        prunable = layer if isinstance(layer, PrunableLayer) else _prunable_class(layer)
        if prunable is None or not prunable.pruned_weight_names:
            continue
        found.append((path, layer))
        if any("." in name for name in prunable.pruned_weight_names):
            owned.update(id(inner) for _, inner in walk(layer)[1:])
    return found


def _swap_class(layer: keras.layers.Layer, cls: type) -> None:
    """The one place where an existing layer changes class: same object, same variables."""
    layer.__class__ = cls


def _has_computed_kernel(layer: keras.layers.Layer) -> bool:
    """Return whether a layer, or the inner part that holds a kernel of it, is quantized or has LoRA."""
    holders = [layer]
    for name in _prunable_class(layer).pruned_weight_names:
        holder = layer
        for part in name.split(".")[:-1]:
            holder = getattr(holder, part, None)
        holders.append(holder)
    return any(
        getattr(holder, "quantization_mode", None) or getattr(holder, "lora_enabled", False)
        for holder in holders
    )


def _computed(path: str, layer: keras.layers.Layer) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        f"'{path}' ({type(layer).__name__}) is quantized or has LoRA enabled, so its kernel is "
        "computed, not stored, and cannot be masked. Prune first, or leave it out of `scope`."
    )


def is_built(model: keras.layers.Layer) -> bool:
    """Return whether every layer that could be pruned has its weights, and there is at least one."""
    candidates = prunable_candidates(model)
    return all(layer.built for _, layer in candidates) and (bool(candidates) or model.built)


def make_prunable(model: AnyLayer, scope: Any = None) -> AnyLayer:
    """Give the layers of a built model masks, in place: same objects, same variables, same outputs.

    Works on Sequential, functional, subclassed and nested models, on layers inside wrappers such as
    `SpectralNormalization`, and on shared layers. Layers that are Prunable already are left alone.

    Args:
        model: A built `keras.Model` or layer.
        scope: Which layers; None for all, see `keras_ganprune.scope.select`.

    Returns: `model` itself.

    Raises:
        UnbuiltModelError: the model, or a layer in scope, has no weights yet.
        UnsupportedLayerError: nothing in the model can be pruned, or a layer is quantized or has LoRA.
        InvalidArgumentError: `scope` matches nothing.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> make_prunable(model).layers[0].pruning_masks.masks["kernel"].shape
    TensorShape([4, 2])
    """
    if not isinstance(model, keras.layers.Layer):
        raise UnsupportedLayerError(
            "`model` must be a Keras 3 model or layer. "
            f"Received: {model!r} (of type {type(model).__module__}.{type(model).__name__})."
            + (
                " This is a Keras 2 object (tf_keras); build the model with `import keras`."
                if type(model).__module__.startswith("tf_keras")
                else ""
            )
        )
    candidates = prunable_candidates(model)
    unbuilt = [path for path, layer in candidates if not layer.built]
    if unbuilt or (not model.built and not candidates):
        raise UnbuiltModelError(
            f"`{type(model).__name__}` '{model.name}' must be built before it is pruned; it has no "
            f"weights yet{': ' + ', '.join(unbuilt[:5]) if unbuilt else ''}. "
            "Call it once on a batch (`model(x)`), or `model.build(input_shape)`, first."
        )
    if not candidates:
        raise UnsupportedLayerError(
            f"`{type(model).__name__}` '{model.name}' has no layer that can be pruned. Known: "
            f"{', '.join(sorted(base.__name__ for base in _PRUNABLE))}. For a layer of your own call "
            "`register_prunable(MyLayer, ['my_kernel'])`."
        )
    chosen = scopes.select(candidates, scope)
    chosen = [pair for pair in chosen if not isinstance(pair[1], PrunableLayer)]
    for path, layer in chosen:
        if _has_computed_kernel(layer):
            raise _computed(path, layer)
    for _, layer in chosen:
        plain = type(layer)
        _swap_class(layer, _prunable_class(layer))
        try:
            layer._attach_masks()
        except Exception:
            _swap_class(layer, plain)
            raise
    return model


def add_masks(layer: keras.layers.Layer, names: Sequence[str]) -> bool:
    """Give weights of a built layer masks, such as a bias and a scale that go with their channels.

    Args:
        layer: Plain or Prunable; of a kind that has no Prunable class, one is derived for it.
        names: Attribute paths of weights. Those that have a mask are passed over.

    Returns: Whether there is a new mask; a step that was traced before must be traced anew then.

    Raises:
        UnsupportedLayerError: the layer is quantized or has LoRA, or shares its masks with another one.
    """
    before = getattr(layer, "pruning_masks", None)
    before = 0 if before is None else len(before.masks)
    if not isinstance(layer, PrunableLayer):
        cls = _prunable_class(layer) or register_holder(type(layer))
        plain = type(layer)
        if _PLAIN_WEIGHTS[cls.plain_class] and _has_computed_kernel(layer):
            raise _computed(layer.name, layer)
        _swap_class(layer, cls)
        try:
            layer._attach_masks()
        except Exception:
            _swap_class(layer, plain)
            raise
    store = layer.pruning_masks
    for name in names:
        weight = _weight_variable(layer, name)
        if isinstance(weight.constraint, MaskConstraint):
            continue
        if name in store.masks:
            raise UnsupportedLayerError(
                f"'{layer.name}' shares its masks with another layer (`tie_mirrored`), so no channel of it "
                "can go with its bias. Use `Channel(coupled=False)`, or leave the layer out of `scope`."
            )
        store.add(name, weight)
    return len(store.masks) > before


def drop_empty_masks(layer: keras.layers.Layer) -> None:
    """Make a layer that holds no mask after all a plain one again."""
    if isinstance(layer, PrunableLayer) and not layer.pruning_masks.masks:
        object.__delattr__(layer, "pruning_masks")
        _swap_class(layer, layer.plain_class)


def register_holder(layer_class: type) -> type:
    """Return the Prunable class of a layer class without kernels, which holds masks of its scales."""
    return _PRUNABLE.get(layer_class) or _define(layer_class, module=layer_class.__module__)


def holders(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return the layers of a model that have no kernel to prune, but can hold masks of other weights."""
    return [
        layer
        for _, layer in walk(model)
        if not isinstance(layer, PrunableLayer)
        and layer.built
        and any(_PLAIN_WEIGHTS.get(cls) == () for cls in type(layer).__mro__)
    ]


@dataclass(frozen=True)
class MaskedWeight:
    """One prunable weight: where it is, its variable and its mask."""

    layer_path: str
    name: str
    layer: PrunableLayer
    variable: keras.Variable
    mask: keras.Variable

    @property
    def path(self) -> str:
        return f"{self.layer_path}/{self.name}"

    def apply(self) -> None:
        """Set pruned entries to zero."""
        self.variable.assign(masked(self.variable, self.mask))


def masked_weights(*models: keras.layers.Layer, scope: Any = None) -> list[MaskedWeight]:
    """Return every masked weight of some models; one that they share is counted once."""
    layers = [pair for model in models for pair in prunable_layers(model)]
    if scope is not None:
        layers = scopes.select(layers, scope)
    found: dict[int, MaskedWeight] = {}
    for path, layer in layers:
        store = layer.pruning_masks
        for name, mask in store.masks.items():
            weight = store.weights_by_name[name]
            found.setdefault(id(weight), MaskedWeight(path, name, layer, weight, mask))
    return list(found.values())


def apply_masks(model: keras.layers.Layer) -> None:
    """Set every pruned weight of a model to zero, after something wrote weights past the optimizer.

    Needed only outside `fit`, for example after `set_weights` or `finalize_variable_values`.
    """
    _check_layer(model)
    for weight in masked_weights(model):
        weight.apply()


def _check_layer(model: Any) -> None:
    if not isinstance(model, keras.layers.Layer):
        raise UnsupportedLayerError(
            "`model` must be a Keras 3 model or layer. "
            f"Received: {model!r} (of type {type(model).__module__}.{type(model).__name__})."
        )


def copy_masks(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Give `target`, a copy of `source` with the same weight shapes, the same masks, and apply them.

    Raises:
        InvalidArgumentError: the two networks do not have the same weight shapes, or `source` no masks.
    """
    pairs = list(zip(source.weights, target.weights, strict=False))
    if [tuple(w.shape) for w in source.weights] != [tuple(w.shape) for w in target.weights]:
        raise InvalidArgumentError(
            f"'{target.name}' must have the same weight shapes as '{source.name}' to get its masks."
        )
    masked = {id(w.variable): w for w in masked_weights(source)}
    if not masked:
        raise InvalidArgumentError(
            f"'{source.name}' has no masks to copy. Prune it, or call `make_prunable` on it, first."
        )
    wanted = {id(copy): masked[id(own)] for own, copy in pairs if id(own) in masked}
    have = {id(w.variable) for w in masked_weights(target)}
    if wanted.keys() - have:
        for _, layer in walk(target):
            # A cell has its kernel too, but under another name than the layer that owns its mask.
            names = {w.name for v, w in wanted.items() if v not in have}
            found = [
                name
                for name in sorted(names)
                if id(v := _weight_variable(layer, name)) in wanted
                and wanted[id(v)].name == name
                # Not a wrapper, which may have the variable under the same name.
                and isinstance(layer, wanted[id(v)].layer.plain_class)
            ]
            if found:
                add_masks(layer, found)
    for weight in masked_weights(target):
        if id(weight.variable) in wanted:
            # Not the variable: on JAX both would then hold one array, which a step may use up.
            weight.mask.assign(to_numpy(wanted[id(weight.variable)].mask))
            weight.apply()


@contextlib.contextmanager
def plain_classes(model: keras.layers.Layer) -> Iterator[None]:
    """Within the context, the model's Prunable layers are the plain Keras layers they came from."""
    layers = [layer for _, layer in walk(model) if isinstance(layer, PrunableLayer)]
    prunable = [type(layer) for layer in layers]
    for layer in layers:
        _swap_class(layer, type(layer).plain_class)
    try:
        yield
    finally:
        for layer, cls in zip(layers, prunable, strict=True):
            _swap_class(layer, cls)


def strip_pruning(model: keras.Model) -> keras.Model:
    """Return a plain Keras copy of a pruned model: masks baked in, no class of this package left.

    The copy is not compiled. Its outputs are those of `model`, bit for bit; `model` is unchanged, unless
    something wrote weights back that its masks prune: that is said, and mended as `apply_masks` does.

    Args:
        model: A built `keras.Model`; a subclassed one needs `get_config`/`from_config`, as for saving.

    Raises:
        UnsupportedLayerError: the model cannot be rebuilt from its configuration.

    Example:
    >>> model = make_prunable(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    >>> type(strip_pruning(model).layers[0]) is keras.layers.Dense
    True
    """
    _check_layer(model)
    written = [
        w.path for w in masked_weights(model) if np.any(to_numpy(w.variable)[~to_numpy(w.mask)])
    ]
    if written:
        warnings.warn(
            f"{', '.join(written[:3])}{' and others' if len(written) > 3 else ''} had values under the "
            "mask, which are set to zero now: something wrote other weights into the model after it was "
            "pruned, such as EarlyStopping(restore_best_weights=True) behind `Prune` in the list of "
            "callbacks. The outputs change; put such a callback before `Prune`, or call `apply_masks` "
            "and look at the model again.",
            PruningWarning,
            stacklevel=2,
        )
    apply_masks(model)
    with plain_classes(model):
        return clone(model, [type(layer) for _, layer in walk(model)])
