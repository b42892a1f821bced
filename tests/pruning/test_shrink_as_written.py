"""`shrink` of networks as people write them: sizes read from tensors, own weights, calls of all kinds.

Table: a network -> its number of parameters before and after. The smaller network gives the outputs of the
user's model, also for other sizes than the proof has tried, and loads from its file.
"""

import keras
import numpy as np
import pytest
import written_models
from keras import ops
from written_models import WRITTEN

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.inference import run
from keras_ganprune.layers.probe_inputs import probe_inputs
from keras_ganprune.pruning.shrink_model import shrink_with_cuts

EXPECTED = {
    "vit": (3111, 2583),
    "mixer": (1435, 1095),
    "gpt": (4038, 3294),
    "gpt_fixed_length": (4038, 3294),
    "gpt_subclassed": (3710, 3310),
    "llama": (3180, 2604),
    "t5": (3204, 2628),
    "pixels": (221, 67),
    "merge_and_split": (221, 67),
    "half_by_shape": (221, 67),
    "other_half": (221, 67),
    "split_in_two": (221, 67),
    "tiled_constant": (221, 102),
    "ones_beside": (226, 69),
    "zeros_state": (221, 67),
    "lower_triangle": (221, 102),
    "tri_mask": (221, 102),
    "eye_minus": (221, 102),
    "batch_mask": (221, 102),
    "by_length": (221, 67),
    "flat_heads": (221, 60),
    "minus_one": (221, 67),
    "repeat_rows": (221, 67),
    "like_linspace": (221, 67),
    "merge_and_split_any": (221, 67),
    "half_by_shape_any": (221, 67),
    "other_half_any": (221, 67),
    "split_in_two_any": (221, 67),
    "ones_beside_any": (226, 69),
    "lower_triangle_any": (221, 102),
    "eye_minus_any": (221, 102),
    "batch_mask_any": (221, 102),
    "by_length_any": (221, 67),
    "flat_heads_any": (221, 60),
    "minus_one_any": (221, 67),
    "repeat_rows_any": (221, 67),
    "pixel_shuffle_any": (412, 169),
    "windows_any": (292, 135),
    "einsum_heads": (299, 86),
    "einsum_heads_any": (299, 86),
    "class_token": (83, 38),
    "own_conv": (657, 232),
    "ada_in": (1276, 619),
    "places": (146, 66),
    "layer_scale": (83, 38),
    "drop_path": (74, 34),
    "scaled_block": (414, 262),
    "scale_and_shift": (92, 42),
    "square_mix": (155, 50),
    "gate": (83, 38),
    "sliced_table": (254, 114),
    "sliced_table_any": (254, 114),
    "moving": (83, 38),
    "own_dense": (186, 67),
    "body_on_batch": (135, 59),
    "larger_input": (718, 265),
    "keywords": (123, 63),
    "two_arguments": (164, 84),
    "keyword_call": (194, 98),
    "keyword_attention": (404, 221),
    "dict_layer": (58, 34),
    "functions_in_graph": (275, 94),
    "nested_and_shared": (137, 72),
    "nested_subclassed": (1596, 581),
    "unet": (3062, 704),
    "far_below": (5005, 1625),
    "equal_lengths": (114, 58),
    "batch_deviation": (813, 519),
    "on_batch": (1195, 455),
}
# What cannot be cut, and the text that says so.
REFUSED = {
    "rms_norm": (InvalidArgumentError, r"front: all channels stay, because 'mean\w*' runs over")
}
FAST = (
    "mixer",
    "windows_any",
    "einsum_heads_any",
    "flat_heads_any",
    "class_token",
    "own_dense",
    "two_arguments",
    "batch_deviation",
)
# They cannot be loaded, cut or not: a `lambda` is not written down.
NOT_SAVED = ("functions_in_graph",)
CLASSES = {k: v for k, v in vars(written_models).items() if isinstance(v, type)}


def numbers(structure):
    found = keras.tree.flatten(structure)
    return [np.asarray(ops.convert_to_numpy(ops.cast(y, "float64"))) for y in found]


def other_sizes(model):
    """Return a batch with other sizes than the proof has: 12 samples, 10 places where any number is taken."""
    arrays = probe_inputs(model, batch=12, seed=5)
    if isinstance(model, keras.Model) and getattr(model, "inputs", None):
        for symbol, array in zip(model.inputs, keras.tree.flatten(arrays), strict=True):
            if len(symbol.shape) > 1 and len(symbol.shape) < 4 and symbol.shape[1] is None:
                assert array.shape[1] == 8
        fewer = [
            a[:, :6] if s.shape[1:2] == (None,) and a.ndim < 4 else a
            for s, a in zip(model.inputs, keras.tree.flatten(arrays), strict=True)
        ]
        arrays = keras.tree.pack_sequence_as(arrays, fewer)
    return arrays


def assert_close(expected, actual, tolerance=2e-5):
    assert [a.shape for a in actual] == [e.shape for e in expected]
    for e, a in zip(expected, actual, strict=True):
        assert np.max(np.abs(e - a)) <= tolerance * np.max(np.abs(e))


def rows():
    return [n if n in FAST else pytest.param(n, marks=pytest.mark.full) for n in WRITTEN]


@pytest.mark.parametrize("name", rows())
def test_networks_as_people_write_them(name, tmp_path):
    keras.utils.set_random_seed(1)
    model = WRITTEN[name]()
    if name in REFUSED:
        with pytest.raises(REFUSED[name][0], match=REFUSED[name][1]):
            kgp.shrink(model, sparsity=0.5)
        return
    result = shrink_with_cuts(model, sparsity=0.5)
    small = result.model
    assert (model.count_params(), small.count_params()) == EXPECTED[name]
    values = [
        (v, ops.convert_to_tensor(value, dtype=v.dtype))
        for v, value in result.groups.masked_values(result.keeps).values()
    ]
    x = other_sizes(model)
    actual = numbers(run(small, x))
    assert_close(numbers(run(model, x, values)), actual)
    if name in NOT_SAVED:
        return
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras", custom_objects=CLASSES)
    assert_close(actual, numbers(run(loaded, x)), 1e-6)


@pytest.mark.parametrize(
    "name", ["class_token", pytest.param("scaled_block", marks=pytest.mark.full)]
)
def test_masks_on_weights_of_ones_own(name):
    keras.utils.set_random_seed(1)
    model = WRITTEN[name]()
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    small = kgp.shrink(model)
    x = other_sizes(model)
    assert_close(numbers(run(model, x)), numbers(run(small, x)))
    assert small.count_params() == EXPECTED[name][1]
