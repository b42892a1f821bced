"""Kernels that a layer computes: LoRA and quantization on pruned models keep the zeros, or are refused."""

import copy
import warnings

import computed
import keras
import numpy as np
import pytest
from computed import floats, lora, model_around, nonzero, part_of
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import PruningWarning, UnsupportedLayerError
from keras_ganprune.layers.class_swap import MaskedPart
from keras_ganprune.layers.computed_kernels import effective_kernel
from keras_ganprune.layers.prunable import PrunableLayer
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import walk

full = pytest.mark.full


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


KERNELS = {
    **computed.KERNELS,
    "EinsumDense": (
        lambda: layers.EinsumDense("abc,cd->abd", (3, 6), name="it"),
        "kernel",
        floats(16, 3, 8),
    ),
}


def short(names):
    """Return parameters of which only the first is in the default suite."""
    return [pytest.param(name, marks=[] if i == 0 else full) for i, name in enumerate(names)]


each_kernel = pytest.mark.parametrize("name", short(KERNELS))


def pruned_model(name, sparsity=0.75, scope=None):
    model, path, x = model_around(*KERNELS[name])
    kgp.Pruner(model, scope=scope).update(sparsity=sparsity)
    return model, path, x


def with_lora(name):
    """Return a pruned model that was trained with LoRA, the kernel's path, its mask, inputs and outputs."""
    # The head is dense, so that every kept weight gets a gradient.
    model, path, x = pruned_model(name, scope="it")
    keep = effective_kernel(model.get_layer("it"), path) != 0
    before = model.predict(x, verbose=0)
    lora(model, path, x)
    outputs = model.predict(x, verbose=0)
    assert not np.allclose(outputs, before, atol=1e-3)
    return model, path, keep, x, outputs


# --- LoRA -----------------------------------------------------------------------------------------


def reloaded(model, tmp_path):
    model.save(tmp_path / "m.keras")
    return keras.saving.load_model(tmp_path / "m.keras")


def merged(model, tmp_path):
    duplicate = copy.deepcopy(model)
    kgp.merge_lora(duplicate)
    return duplicate


ROUTES = {
    "trained": lambda model, tmp_path: model,
    "saved and loaded": reloaded,
    "kgp.load_model": lambda model, tmp_path: (
        model.save(tmp_path / "m.keras"),
        kgp.load_model(tmp_path / "m.keras"),
    )[1],
    "deepcopy": lambda model, tmp_path: copy.deepcopy(model),
    "stripped": lambda model, tmp_path: kgp.strip_pruning(model),
    "merged": merged,
    "stripped in place": lambda model, tmp_path: kgp.strip_pruning(model, copy=False),
}


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
@full
@each_kernel
def test_lora_of_a_pruned_kernel_is_masked_on_every_route(name, tmp_path):
    model, path, keep, x, outputs = with_lora(name)
    for route, follow in ROUTES.items():
        other = follow(model, tmp_path)
        assert np.array_equal(nonzero(other, path), keep), route
        np.testing.assert_allclose(
            other.predict(x, verbose=0), outputs, rtol=1e-5, atol=1e-5, err_msg=route
        )
        # The user's model is as it was.
        np.testing.assert_array_equal(model.predict(x, verbose=0), outputs, err_msg=route)


@each_kernel
@pytest.mark.full
def test_merged_kernels_train_and_are_pruned_again(name):
    model, path, _, x, _ = with_lora(name)
    paths = kgp.merge_lora(model)
    assert len(paths) == 1
    assert kgp.merge_lora(model) == []
    part = part_of(model, path)
    assert not part.lora_enabled
    assert getattr(part, f"_{path.split('.')[-1]}").trainable
    kgp.Pruner(model, scope="it").update(sparsity=0.9)
    keep = nonzero(model, path)
    before = effective_kernel(model.get_layer("it"), path)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(x, floats(len(x), 3), verbose=0)
    after = effective_kernel(model.get_layer("it"), path)
    assert np.array_equal(after != 0, keep)
    assert not np.array_equal(after, before)


def fit_with_prune(model, x):
    prune = kgp.Prune(0.9, frequency=1, verbose=0)
    model.fit(x, floats(len(x), 3), verbose=0, callbacks=[prune])


@pytest.mark.full
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda model, x: kgp.Pruner(model).update(sparsity=0.9), id="pruner"),
        pytest.param(fit_with_prune, id="prune", marks=full),
        pytest.param(
            lambda model, x: kgp.shrink(model, sparsity=0.5, strict=False), id="shrink", marks=full
        ),
        pytest.param(
            lambda model, x: kgp.masks_from_zeros(kgp.strip_pruning(model)), id="zeros", marks=full
        ),
    ],
)
def test_what_needs_a_stored_kernel_names_merge_lora(change):
    model, _, keep, x, _ = with_lora("Dense")
    with pytest.raises(UnsupportedLayerError, match=r"LoRA.*kgp\.merge_lora\(model\)"):
        change(model, x)
    assert np.array_equal(nonzero(model, "kernel"), keep)
    kgp.merge_lora(model)
    model.compile("adam", "mse")
    change(model, x)


@full
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float32"])
def test_lora_of_other_dtypes_and_alphas(policy):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(7, name="it", dtype=policy)])
    kgp.Pruner(model).update(sparsity=0.75)
    keep, layer, x = nonzero(model, "kernel"), model.get_layer("it"), floats(4, 8)
    layer.enable_lora(3, lora_alpha=6)
    layer.lora_kernel_b.assign(floats(3, 7))
    outputs = to_numpy(model(x)).astype("float32")
    assert np.array_equal(nonzero(model, "kernel"), keep)
    expected = np.where(keep, to_numpy(layer._kernel), 0) + keep * 2 * (
        to_numpy(layer.lora_kernel_a) @ to_numpy(layer.lora_kernel_b)
    )
    tolerance = 0.05 if "bfloat16" in policy else 1e-5
    np.testing.assert_allclose(
        effective_kernel(layer), expected, rtol=tolerance, atol=tolerance / 10
    )
    kgp.merge_lora(model)
    np.testing.assert_allclose(
        to_numpy(model(x)).astype("float32"), outputs, rtol=tolerance, atol=tolerance
    )


@full
def test_lora_of_an_own_subclass_of_dense():
    class Scaled(layers.Dense):
        def call(self, x):
            return 2 * super().call(x)

    kgp.register_prunable(Scaled, ["kernel"])
    model = keras.Sequential([keras.Input((8,)), Scaled(7, name="it")])
    kgp.Pruner(model).update(sparsity=0.75)
    keep = nonzero(model, "kernel")
    model.get_layer("it").enable_lora(2)
    model.get_layer("it").lora_kernel_b.assign(floats(2, 7))
    response = to_numpy(model(np.eye(8, dtype="float32")))
    bias = to_numpy(model(np.zeros((1, 8), "float32")))
    assert np.array_equal(response - bias != 0, keep)


def test_tied_kernels_refuse_what_would_separate_them():
    def network():
        return keras.Sequential([keras.Input((4,)), layers.Dense(4, name="it")])

    one, two = network(), network()
    kgp.tie_mirrored(one, two, pairs=[("it", "it")])
    for network_ in (one, two):
        with pytest.raises(UnsupportedLayerError, match=r"tie_mirrored.*kgp\.strip_pruning"):
            network_.get_layer("it").enable_lora(2)
        with pytest.raises(UnsupportedLayerError, match=r"tie_mirrored.*kgp\.strip_pruning"):
            network_.quantize("int8")
    free = kgp.strip_pruning(one)
    free.get_layer("it").enable_lora(2)
    kgp.strip_pruning(two).quantize("int8")


@full
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX compiles masks in")
def test_a_mask_that_is_compiled_into_lora_does_not_change(tmp_path):
    model, _, keep, x, _ = with_lora("Dense")
    other, _, _ = pruned_model("Dense", 0.5)
    other.save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(Exception, match=r"keeps the mask of a layer with LoRA"):
        model.load_weights(tmp_path / "m.weights.h5")
    model.predict(x, verbose=0)
    assert np.array_equal(to_numpy(kgp.masked_weights(model)[0].mask), keep)


# --- quantization ---------------------------------------------------------------------------------


def quantize(model, mode):
    with warnings.catch_warnings():
        # Keras says which layers have no method `quantize`.
        warnings.filterwarnings("ignore", "(Layer|Invalid quantization)", UserWarning)
        if mode == "int4 in groups":
            model.quantize(config=keras.quantizers.Int4QuantizationConfig(block_size=4))
        else:
            model.quantize(mode)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(name, mode, marks=full)
        for name in ("Dense", "EinsumDense", "Embedding", "MultiHeadAttention")
        for mode in ("int8", "int4", "int4 in groups", "float8")
    ],
)
def test_a_quantized_pruned_model_is_quantized_and_keeps_its_zeros(name, mode, tmp_path):
    model, path, x = pruned_model(name)
    keep, outputs = nonzero(model, path), model.predict(x, verbose=0)
    # What Keras makes of the plain copy.
    plain = kgp.strip_pruning(model)
    quantize(plain, mode)
    quantize(model, mode)
    np.testing.assert_array_equal(model.predict(x, verbose=0), plain.predict(x, verbose=0))
    assert np.abs(model.predict(x, verbose=0) - outputs).max() < 0.3 * np.abs(outputs).max()
    assert not np.any(nonzero(model, path) & ~keep)
    assert part_of(model, path).quantization_mode == part_of(plain, path).quantization_mode
    integer = mode.startswith("int")
    ours = [layer for _, layer in walk(model) if isinstance(layer, (PrunableLayer, MaskedPart))]
    assert bool(ours) is not integer
    if "Attention" in name:
        return  # Keras itself cannot load it.
    loaded = reloaded(model, tmp_path)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert np.array_equal(nonzero(loaded, path), nonzero(model, path))
    assert len(kgp.masked_weights(loaded)) == len(kgp.masked_weights(model))


@full
def test_float8_keeps_its_mask_in_fit():
    model, path, x = pruned_model("Dense")
    keep = nonzero(model, path)
    quantize(model, "float8")
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(x, floats(len(x), 3), verbose=0)
    assert np.array_equal(nonzero(model, path), keep)


def test_filters_leave_other_layers_pruned():
    model, path, x = pruned_model("Dense")
    quantized = nonzero(model, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.quantize("int8", filters="it")
    assert type(model.get_layer("it")) is layers.Dense
    assert np.array_equal(nonzero(model, path), quantized)
    assert [weight.path for weight in kgp.masked_weights(model)] == ["head/kernel"]
    model.compile("adam", "mse")
    model.fit(x, floats(len(x), 3), verbose=0)
    assert kgp.sparsity_report(model).sparsity == pytest.approx(0.75, abs=0.02)


@pytest.mark.full
def test_lora_is_merged_before_quantization():
    model, path, keep, x, outputs = with_lora("Dense")
    with pytest.warns(PruningWarning, match="LoRA update was merged into the kernel"):
        quantize(model, "int8")
    assert not np.any(nonzero(model, path) & ~keep)
    assert np.abs(model.predict(x, verbose=0) - outputs).max() < 0.1 * np.abs(outputs).max()


@pytest.mark.parametrize("mode", ["gptq", pytest.param("awq", marks=full)])
@pytest.mark.full
def test_modes_that_move_zeros_are_refused(mode):
    model, path, _ = pruned_model("Dense")
    keep = nonzero(model, path)
    name = f"{mode.upper()}Config"
    if not hasattr(keras.quantizers, name):
        pytest.skip(f"Keras {keras.__version__} has no {name}")
    config = getattr(keras.quantizers, name)(dataset=None, tokenizer=None)
    with pytest.raises(UnsupportedLayerError, match=rf"{mode.upper()} gives pruned weights values"):
        model.get_layer("it").quantize(config=config)
    assert np.array_equal(nonzero(model, path), keep)
    quantize(model, "int8")  # the fix that the error names


@full
def test_a_prunable_layer_with_a_quantized_policy_has_no_mask():
    layer = kgp.PrunableDense(3, dtype="int8_from_float32")
    model = keras.Sequential([keras.Input((4,)), layer])
    assert kgp.masked_weights(model) == []
    with pytest.raises(UnsupportedLayerError, match="is quantized"):
        kgp.make_prunable(
            keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype="int8_from_float32")])
        )


@pytest.mark.parametrize(
    ("route", "name"),
    [
        pytest.param(*cell, marks=[] if cell == ("int8, LoRA, fit", "Dense") else full)
        for cell in computed.cells()
        if "LoRA" in cell[0] and "int" in cell[0]
    ],
)
def test_lora_and_integers_keep_zeros_or_refuse(route, name, tmp_path):
    # An outcome that is silent raises.
    expected = "said" if route.startswith("LoRA") else "refused"
    assert computed.outcome(route, name, tmp_path).startswith(expected)


@full
def test_lora_beside_integers_if_the_zeros_may_be_lost():
    model, _, _ = pruned_model("Dense")
    quantize(model, "int8")
    layer = model.get_layer("it")
    with pytest.raises(UnsupportedLayerError, match=r"keras\.layers\.Dense\.enable_lora"):
        layer.enable_lora(2)
    layers.Dense.enable_lora(layer, 2)
    assert layer.lora_enabled
    dense, _, _ = model_around(*KERNELS["Dense"])
    quantize(dense, "int8")
    dense.get_layer("it").enable_lora(2)  # It was not pruned.


@pytest.mark.full
def test_a_pruner_that_was_made_before_quantize_says_so():
    model, _, _ = pruned_model("Dense")
    pruner = kgp.Pruner(model)
    quantize(model, "int8")
    with pytest.raises(UnsupportedLayerError, match="Prune first, then quantize"):
        pruner.update(sparsity=0.9)
    with pytest.raises(UnsupportedLayerError, match="is quantized"):
        kgp.shrink(model, sparsity=0.5)


# --- the kernel that a layer computes with --------------------------------------------------------


def outputs_by_hand(name, x, kernel):
    if name == "Embedding":
        return kernel[x]
    return np.einsum("abc,cd->abd", x, kernel) if name == "EinsumDense" else x @ kernel


@pytest.mark.parametrize(
    ("name", "mode", "lora"),
    [
        pytest.param(
            name, mode, lora, marks=[] if (name, mode, lora) == ("Dense", "int8", True) else full
        )
        for name in ("Dense", "EinsumDense", "Embedding")
        for mode in ("int8", "int4", "int4 in groups", None)
        for lora in (False, True)
    ],
)
def test_effective_kernel_is_what_the_layer_computes_with(name, mode, lora):
    make, attribute, x = KERNELS[name]
    layer = make()
    model = keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype), layer])
    if mode is not None:
        quantize(model, mode)
    if lora:
        layer.enable_lora(2)
        b = getattr(layer, f"lora_{attribute}_b")
        b.assign(floats(*b.shape))
    layer.inputs_quantizer = None  # so that the inputs are not rounded
    expected = outputs_by_hand(name, x, effective_kernel(layer, attribute))
    np.testing.assert_allclose(to_numpy(layer(x)), expected, rtol=1e-4, atol=1e-5)
