"""LoRA and quantization on pruned layers: what becomes of the zeros on each route.

A route is a function of (pruned model, path of the kernel, inputs, folder). It returns the model whose zeros
are compared with those of the pruned model.
"""

import copy
import warnings

import keras
import numpy as np
from keras import layers

import keras_ganprune as kgp
from keras_ganprune import errors
from keras_ganprune.layers.computed_kernels import effective_kernel

RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.normal(size=shape).astype("float32")


# The projections of attention are EinsumDense layers.
# Name -> (layer 'it', path of a kernel that can have LoRA, its inputs).
KERNELS = {
    "Dense": (lambda: layers.Dense(7, name="it"), "kernel", floats(16, 8)),
    "Embedding": (
        lambda: layers.Embedding(9, 6, name="it"),
        "embeddings",
        RNG.integers(0, 9, size=(16, 3)).astype("int32"),
    ),
    "Conv2D": (lambda: layers.Conv2D(4, 3, name="it"), "kernel", floats(16, 6, 6, 2)),
    "MultiHeadAttention": (
        lambda: layers.MultiHeadAttention(2, 4, name="it"),
        "_query_dense.kernel",
        floats(16, 4, 8),
    ),
}


def model_around(make, path, x):
    """Return a functional model around the layer 'it', the path of its kernel and the inputs."""
    inputs = keras.Input(x.shape[1:], dtype=x.dtype)
    layer = make()
    y = layer(inputs, inputs) if isinstance(layer, layers.MultiHeadAttention) else layer(inputs)
    if len(y.shape) > 2:
        y = layers.Reshape((-1,))(y)
    return keras.Model(inputs, layers.Dense(3, name="head")(y)), path, x


def part_of(model, path):
    layer = model.get_layer("it")
    return layer if "." not in path else getattr(layer, path.split(".")[0])


def nonzero(model, path):
    return effective_kernel(model.get_layer("it"), path) != 0


def fit(model, x):
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(x, floats(len(x), 3), epochs=2, verbose=0)


def lora(model, path, x):
    part_of(model, path).enable_lora(2)
    fit(model, x)


def quantize(model, mode):
    with warnings.catch_warnings():
        # Keras says which layers have no method `quantize`.
        warnings.filterwarnings("ignore", "(Layer|Invalid quantization)", UserWarning)
        model.quantize(mode)


# --- the routes -----------------------------------------------------------------------------------


def trained(model, path, x, folder):
    lora(model, path, x)
    return model


def saved(model, path, x, folder):
    lora(model, path, x)
    model.save(folder / "m.keras")
    return kgp.load_model(folder / "m.keras")


def copied(model, path, x, folder):
    lora(model, path, x)
    return copy.deepcopy(model)


def stripped(model, path, x, folder):
    lora(model, path, x)
    return kgp.strip_pruning(model)


def merged(model, path, x, folder):
    lora(model, path, x)
    kgp.merge_lora(model)
    fit(model, x)
    return model


def pruned_again(model, path, x, folder):
    lora(model, path, x)
    kgp.Pruner(model, scope="it").update(sparsity=0.9)
    return model


def quantized_in(mode):
    def route(model, path, x, folder):
        quantize(model, mode)
        fit(model, x)  # The other layers may be trained.
        return model

    return route


def saved_in_int8(model, path, x, folder):
    quantize(model, "int8")
    model.save(folder / "m.keras")
    return kgp.load_model(folder / "m.keras")


def lora_then(mode):
    def route(model, path, x, folder):
        lora(model, path, x)
        quantize(model, mode)
        return model

    return route


def then_lora(mode):
    def route(model, path, x, folder):
        quantize(model, mode)
        lora(model, path, x)
        return model

    return route


def loaded_then_lora(model, path, x, folder):
    loaded = saved_in_int8(model, path, x, folder)
    lora(loaded, path, x)
    return loaded


ROUTES = {
    "LoRA, fit": trained,
    "LoRA, fit, save, load": saved,
    "LoRA, fit, deepcopy": copied,
    "LoRA, fit, strip": stripped,
    "LoRA, fit, merge_lora, fit": merged,
    "LoRA, fit, prune again": pruned_again,
    "int8, fit": quantized_in("int8"),
    "int4, fit": quantized_in("int4"),
    "float8, fit": quantized_in("float8"),
    "int8, save, load": saved_in_int8,
    "LoRA, fit, int8": lora_then("int8"),
    "int8, LoRA, fit": then_lora("int8"),
    "int4, LoRA, fit": then_lora("int4"),
    "int8, save, load, LoRA": loaded_then_lora,
}
UNQUANTIZED = ("Conv2D",)  # Keras does not quantize these classes.


def cells():
    """Return all (route, layer). Keras itself cannot load quantized attention."""
    return [
        (route, name)
        for route in ROUTES
        for name in KERNELS
        if not ("8" in route or "4" in route) or name not in UNQUANTIZED
        if not ("8, save" in route and name == "MultiHeadAttention")
    ]


def outcome(route, name, folder):
    """Return 'exact', 'said' or 'refused' with the reason, or the name of an error of Keras itself.

    Raises:
        AssertionError: Zeros are gone, and nothing was said.
    """
    keras.utils.set_random_seed(0)
    model, path, x = model_around(*KERNELS[name])
    # The head is dense, so that every kept weight gets a gradient.
    kgp.Pruner(model, scope="it").update(sparsity=0.75)
    keep = nonzero(model, path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = ROUTES[route](model, path, x, folder)
        except errors.PruningError as error:
            return f"refused: {' '.join(str(error).split())}"
        except NotImplementedError as error:
            lines = [line for line in str(error).splitlines() if "support" in line]
            return f"refused: by Keras ({lines[0].strip() if lines else type(error).__name__})"
    assert not np.any(nonzero(result, path) & ~keep), f"{route}, {name}: zeros are gone in silence"
    texts = [str(w.message) for w in caught if issubclass(w.category, errors.PruningWarning)]
    return f"said: {texts[0]}" if texts else "exact"
