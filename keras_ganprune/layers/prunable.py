"""Prunable layers: a Keras layer plus a mask for each of its kernels."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import keras
import numpy as np

from keras_ganprune.errors import (
    InvalidArgumentError,
    UnsupportedLayerError,
)
from keras_ganprune.layers import file_checksums
from keras_ganprune.layers.class_swap import hold_parts
from keras_ganprune.layers.computed_kernels import integer_mode, masked_properties, owner_of
from keras_ganprune.layers.guard import MaskConstraint
from keras_ganprune.layers.initial_values import initial_values
from keras_ganprune.layers.kernels import attribute_paths, member, own_kernels
from keras_ganprune.layers.mask_store import MaskStore
from keras_ganprune.layers.registration_checks import check_class, check_names
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.utils.registry import PACKAGE

if TYPE_CHECKING:
    # Every Prunable class also has a Keras layer class as a base.
    _LayerMixin = keras.layers.Layer
else:
    _LayerMixin = object


def weight_variable(layer: keras.layers.Layer, path: str) -> keras.Variable | None:
    """Return the variable behind an attribute path such as 'kernel', 'cell.kernel' or 'experts.0', or None.

    Private attributes of Keras: `Dense` and `Conv` keep the variable as `_kernel`. Their public `kernel`
    may be a computed tensor (LoRA, quantization), which cannot be masked.
    """
    *parents, name = path.split(".")
    owner: Any = layer
    for parent in parents:
        owner = member(owner, parent)
    for attribute in (f"_{name}", name):
        value = member(owner, attribute)
        if isinstance(value, keras.Variable):
            return value
    return None


class PrunableLayer(_LayerMixin):
    """Mixin that adds masks to a Keras layer class.

    Every Prunable class derives from it, so `isinstance(layer, PrunableLayer)` is True for a layer that can
    hold masks. To make a layer class of your own prunable, call `register_prunable`.

    Attributes:
        pruned_weight_names: Tuple of the attribute paths of the weights that get a mask.
        plain_class: The Keras class that the layer has after `strip_pruning`.
        pruning_masks: The `MaskStore`. It exists once the layer is built.

    Example:
    >>> layer = kgp.PrunableDense(2, name="head")
    >>> layer.build((None, 4))
    >>> isinstance(layer, kgp.PrunableLayer), layer
    (True, <PrunableDense name=head, kept=8/8>)
    """

    pruned_weight_names: tuple[str, ...] = ()
    plain_class: type
    pruning_masks: MaskStore

    def __repr__(self) -> str:
        store = getattr(self, "pruning_masks", None)
        if store is None:
            return f"<{type(self).__qualname__} name={self.name}, built={self.built}>"
        masks = [to_numpy(mask) for mask in store.masks.values()]
        total = sum(mask.size for mask in masks)
        kept = sum(int(np.count_nonzero(mask)) for mask in masks)
        return f"<{type(self).__qualname__} name={self.name}, kept={kept}/{total}>"

    def load_own_variables(self, store: Any) -> None:
        """Read the weights of a file. Its masks follow; until then the present masks do not apply."""
        file_checksums.check(store)
        masks = getattr(self, "pruning_masks", None)
        if masks is not None:
            masks.pause()
        try:
            super().load_own_variables(store)
        except Exception:
            if masks is not None:
                masks.apply()
            raise

    def _attach_masks(self) -> None:
        """Create the mask store, with an all-True mask for each weight in `pruned_weight_names`."""
        weights = {}
        for name, weight in self._named_weights().items():
            if isinstance(weight.constraint, MaskConstraint):
                continue  # Another layer has the same variable and masks it already.
            weights[name] = weight
        find = functools.partial(weight_variable, self)
        # `object.__setattr__` keeps Keras and TensorFlow from tracking the store as a sublayer, which
        # would put the masks among `layer.weights`.
        initial = functools.partial(initial_values, self)
        object.__setattr__(self, "pruning_masks", MaskStore(weights, find, initial))
        hold_parts(self)
        if keras.backend.backend() == "torch":
            # A layer is a module of PyTorch there.
            cast("Any", self).register_load_state_dict_post_hook(_note_state_dict)

    def quantize(self, *args: Any, **kwargs: Any) -> None:
        """Quantize the layer as Keras quantizes its plain class. Pruned weights stay zero.

        After "int8" or "int4" the kernel consists of integers that are not trained. Its mask is dropped, and
        a layer without another mask becomes a plain Keras layer. "float8" keeps the kernel and its mask.

        Args:
            *args: Arguments of `quantize` of the Keras layer, such as "int8".
            **kwargs: The same, by name.

        Raises:
            UnsupportedLayerError: The layer is pruned, and the mode is "gptq" or "awq", which do not keep
                zeros.

        Example:
        >>> layer = kgp.PrunableDense(2)
        >>> layer.build((None, 4))
        >>> layer.quantize("int8")
        >>> type(layer) is keras.layers.Dense, layer.quantization_mode
        (True, 'int8')
        """
        quantizing = importlib.import_module("keras_ganprune.layers.quantizing")
        plain = getattr(type(self), "plain_class", type(self)).quantize
        quantizing.quantize_pruned(self, functools.partial(plain, self), *args, **kwargs)

    def _named_weights(self) -> dict[str, keras.Variable]:
        """Return the weights in `pruned_weight_names` that this configuration of the layer has.

        Raises:
            UnsupportedLayerError: The layer has no weight of such a name, but kernels of other names or none.
        """
        # A quantized kernel is computed from integers, which are not trained.
        stored = [n for n in self.pruned_weight_names if integer_mode(owner_of(self, n)[0]) is None]
        found = {name: weight_variable(self, name) for name in stored}
        weights = {name: weight for name, weight in found.items() if weight is not None}
        missing = [name for name in found if name not in weights and "." not in name]
        named = {id(weight) for weight in weights.values()}
        others = [v for v in own_kernels(self) if id(v) not in named]
        # A layer may have a kernel in some configurations only. Then every kernel that it has is named.
        if missing and (others or not weights):
            paths = attribute_paths(self)
            known = [paths[id(v)] for v in own_kernels(self) if id(v) in paths]
            raise UnsupportedLayerError(
                f"{self.plain_class.__name__} '{self.name}' has no weight `{missing[0]}`. "
                "Pass the names of the attributes that hold its kernels to `register_prunable`"
                f"{': ' + repr(known) if known else ''}."
            )
        return weights


def _note_state_dict(layer: Any, incompatible: Any) -> None:
    """Look for zeros without masks that `load_state_dict` of PyTorch has brought into a layer."""
    store = vars(layer).get("pruning_masks")
    for weight in () if store is None else store.weights_by_name.values():
        weight.constraint.arrivals.restored(weight)


# Plain class -> its Prunable class.
PRUNABLE_CLASSES: dict[type, type[PrunableLayer]] = {}


def _define(base: type, *weight_names: str, module: str = __name__) -> type[Any]:
    """Make and register the Prunable class of a layer class."""

    # `wraps` matters: Keras reads the parameter names of `build` to save and rebuild a layer.
    @functools.wraps(base.build)
    def build(self, *args, **kwargs):
        base.build(self, *args, **kwargs)
        self._attach_masks()

    masked = ", ".join(f"`{name}`" for name in weight_names)
    members: dict[str, Any] = {
        "pruned_weight_names": tuple(weight_names),
        "plain_class": base,
        "__module__": module,
        "__doc__": f"`{base.__name__}` with a mask for "
        f"{masked or 'the weights that belong to its channels'}.\n\n"
        f"    It takes the arguments of `{base.__name__}`. The masks start as all True, so the layer\n"
        f"    computes what `{base.__name__}` computes until it is pruned.",
        **masked_properties(base, weight_names),
    }
    if getattr(base.build, "_is_default", False):
        # The layer makes its weights in `__init__`, and Keras never calls its `build`.
        @functools.wraps(base.__init__)
        def __init__(self, *args, **kwargs):
            base.__init__(self, *args, **kwargs)
            self._attach_masks()

        signature = inspect.signature(base.__init__)
        __init__.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
        members["__init__"] = __init__
    else:
        members["build"] = build
    name = registered_name = f"Prunable{base.__name__}"
    namesakes = [other for other in base.__mro__[1:] if other in PRUNABLE_CLASSES]
    if any(other.__name__ == base.__name__ for other in namesakes):
        # A subclass with the name of its parent, such as a Dense of another library.
        registered_name = f"{name}.{base.__module__.partition('.')[0]}"
    # `__name__` stays the name of the Keras class, because Keras derives the paths inside weights files from
    # it. So a file that a plain model wrote can be loaded into its Prunable version, and vice versa. The
    # qualified name and the registered name distinguish the classes.
    cls = type(base.__name__, (PrunableLayer, base), {**members, "__qualname__": name})
    keras.saving.register_keras_serializable(package=PACKAGE, name=registered_name)(cls)
    PRUNABLE_CLASSES[base] = cls
    return cls


PrunableDense = _define(keras.layers.Dense, "kernel")
PrunableEinsumDense = _define(keras.layers.EinsumDense, "kernel")
PrunableEmbedding = _define(keras.layers.Embedding, "embeddings")
if hasattr(keras.layers, "ReversibleEmbedding"):  # since Keras 3.12
    # With `tie_weights=False` it has a second kernel.
    _define(keras.layers.ReversibleEmbedding, "embeddings", "reverse_embeddings")
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
# A recurrent layer rebuilds its cell from its own configuration, so the layer owns the masks of the cell.
PrunableLSTM = _define(keras.layers.LSTM, "cell.kernel", "cell.recurrent_kernel")
PrunableGRU = _define(keras.layers.GRU, "cell.kernel", "cell.recurrent_kernel")
PrunableSimpleRNN = _define(keras.layers.SimpleRNN, "cell.kernel", "cell.recurrent_kernel")
PrunableLSTMCell = _define(keras.layers.LSTMCell, "kernel", "recurrent_kernel")
PrunableGRUCell = _define(keras.layers.GRUCell, "kernel", "recurrent_kernel")
PrunableSimpleRNNCell = _define(keras.layers.SimpleRNNCell, "kernel", "recurrent_kernel")
PrunableConvLSTM1D = _define(keras.layers.ConvLSTM1D, "cell.kernel", "cell.recurrent_kernel")
PrunableConvLSTM2D = _define(keras.layers.ConvLSTM2D, "cell.kernel", "cell.recurrent_kernel")
PrunableConvLSTM3D = _define(keras.layers.ConvLSTM3D, "cell.kernel", "cell.recurrent_kernel")
# Private attributes of Keras: the EinsumDense layers of attention have no public names. The `build` of the
# attention layer makes them, so the attention layer owns their masks. Only `use_gate=True` has the last one.
_ATTENTION = tuple(f"_{part}_dense.kernel" for part in ("query", "key", "value", "output", "gate"))
PrunableMultiHeadAttention = _define(keras.layers.MultiHeadAttention, *_ATTENTION)
PrunableGroupQueryAttention = _define(keras.layers.GroupQueryAttention, *_ATTENTION)
# These layers have no kernel to prune. If whole channels are pruned, `add_masks` masks their entries too.
PrunableBatchNormalization = _define(keras.layers.BatchNormalization)
PrunableGroupNormalization = _define(keras.layers.GroupNormalization)
PrunablePReLU = _define(keras.layers.PReLU)

# The names that this package needs. A user can add others.
_BUILT_IN = {base: cls.pruned_weight_names for base, cls in PRUNABLE_CLASSES.items()}


def register_prunable(
    layer_class: type[keras.layers.Layer], weight_names: Sequence[str]
) -> type[Any]:
    """Make a layer class of your own prunable.

    Call it in the module that defines the class, so that saved files can be loaded in any process.

    Args:
        layer_class: Subclass of `keras.layers.Layer`.
        weight_names: Attribute names of its kernels, such as `["my_kernel"]`. A dotted path
            (`"cell.kernel"`) names a kernel of a sublayer.

    Returns:
        The Prunable class, usable as a constructor.

    Raises:
        ArgumentTypeError: `layer_class` is not a Keras layer class, or `weight_names` is no list of str.
        InvalidArgumentError: `layer_class` is `Layer` itself, a model or a Prunable class, or another class
            of its name is registered.
        InvalidArgumentError: `weight_names` is empty, has a name twice, has a name of no attribute that the
            class sets, or lacks a kernel that this package masks in a layer of Keras.

    Example:
    >>> class Scale(keras.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.scale = self.add_weight(shape=(input_shape[-1],), name="scale")
    ...     def call(self, x):
    ...         return x * self.scale
    >>> register_prunable(Scale, ["scale"]).__qualname__
    'PrunableScale'
    """
    check_class(layer_class)
    names = check_names(layer_class, weight_names, _BUILT_IN.get(layer_class, ()))
    for base, cls in PRUNABLE_CLASSES.items():
        # A subclass may have the name of its parent.
        if base.__name__ == layer_class.__name__ and base not in layer_class.__mro__:
            if (base.__module__, base.__qualname__) == (
                layer_class.__module__,
                layer_class.__qualname__,
            ):
                continue  # The same class was defined again: a re-run notebook cell, or a reload.
            raise InvalidArgumentError(
                f"A layer class named {base.__name__!r} is registered already ({cls.plain_class}). "
                "Files identify layers by their class name, so rename one of the two classes."
            )
    registered = PRUNABLE_CLASSES.get(layer_class)
    if registered is not None and registered.pruned_weight_names == names:
        return registered
    return _define(layer_class, *names, module=layer_class.__module__)


def register_holder(layer_class: type) -> type[Any]:
    """Return the Prunable class of a layer class without kernels, for masks of scales and biases."""
    known = PRUNABLE_CLASSES.get(layer_class)
    return known or _define(layer_class, module=layer_class.__module__)


def pruned_names_of(cls: type) -> tuple[str, ...] | None:
    """Return the weight names of the nearest registered base of a class, or None if there is no such base."""
    for base in cls.__mro__:
        if base in PRUNABLE_CLASSES:
            return PRUNABLE_CLASSES[base].pruned_weight_names
    return None


def is_redefined(cls: type) -> bool:
    """Return whether a class of this module and name is registered, but as another class object.

    A notebook cell or a reloaded module makes a new class object each time it runs.
    """
    places = {(base.__module__, base.__qualname__) for base in PRUNABLE_CLASSES}
    return any(
        (base.__module__, base.__qualname__) in places
        for base in cls.__mro__
        if base not in PRUNABLE_CLASSES
    )


def prunable_class(layer: keras.layers.Layer) -> type[PrunableLayer] | None:
    """Return the Prunable class that a layer can get, or None.

    A subclass of a registered class is registered with the weight names of that class. A Prunable layer can
    get the class of a later call of `register_prunable`, which names other weights.
    """
    cls = type(layer)
    if cls in PRUNABLE_CLASSES:
        return PRUNABLE_CLASSES[cls]
    if isinstance(layer, PrunableLayer):
        newer = PRUNABLE_CLASSES.get(layer.plain_class)
        return None if newer is cls else newer
    names = pruned_names_of(cls)
    if names is None:
        return None
    return register_prunable(cls, names) if names else register_holder(cls)


def pruned_names(layer: keras.layers.Layer) -> tuple[str, ...]:
    """Return the attribute paths of the kernels of a layer that have or can have masks; () if none can."""
    if isinstance(layer, PrunableLayer):
        return (prunable_class(layer) or layer).pruned_weight_names
    return pruned_names_of(type(layer)) or ()


def is_scale_holder(layer: keras.layers.Layer) -> bool:
    """Return whether a plain layer has no kernel to prune, but can hold masks of other weights."""
    return any(
        base in PRUNABLE_CLASSES and not PRUNABLE_CLASSES[base].pruned_weight_names
        for base in type(layer).__mro__
    )
