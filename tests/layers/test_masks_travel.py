"""Every way to copy or load a pruned model: its masks come with the zeros, or a message names the fix."""

import re
import warnings

import keras
import numpy as np
import paths
import pytest
import travel
from keras import layers
from travel import Net, OwnGAN, masks, pruned, same_masks, sequential, subclassed

import keras_ganprune as kgp
from keras_ganprune.errors import FileFormatError, PruningNotice, PruningWarning
from keras_ganprune.layers import save_notices
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.zero_patterns import pruned_zeros

full = pytest.mark.full
DEFAULT = [("by_keras", "OwnGAN"), ("by_clone", "sequential"), ("deepcopied", "subclassed")]
CELLS = [
    pytest.param(*cell, id="-".join(name), marks=[] if name in DEFAULT else full)
    for name, cell in travel.cells().items()
]


@pytest.mark.parametrize(("way", "make", "expected"), CELLS)
def test_masks_travel_or_it_is_said(way, make, expected, tmp_path):
    result, new, said = travel.outcome(way, make, tmp_path)
    assert result == expected
    notices, texts = (
        [str(w.message) for w in said if w.category is category]
        for category in (PruningNotice, PruningWarning)
    )
    fixes = ("kgp.make_prunable", "kgp.load_model(path)")
    assert all(any(fix in notice for fix in fixes) for notice in notices)
    if expected == travel.WRITTEN:
        assert notices
    if expected in (travel.READ, travel.TRAINED):
        assert all("kgp.masks_from_zeros(model)" in text for text in texts)
        # Each kernel is named once; one warning names three of them.
        network = getattr(new, "generator", new)
        count = len(masks(new if expected == travel.READ else network))
        assert sum(text.count("kernel") for text in texts) == min(3, count)


@pytest.mark.parametrize("make", [travel.sequential, pytest.param(travel.subclassed, marks=full)])
def test_masks_from_zeros_mends_it(make):
    model = pruned(make)
    new = travel.set_weights(model, make, None)
    taken = kgp.masks_from_zeros(new)
    assert all(same_masks(masks(model), masks(new)))
    assert taken.sparsity == pytest.approx(travel.SPARSITY)
    assert kgp.sparsity_report(new).sparsity == pytest.approx(travel.SPARSITY)


def test_taken_zeros_hold_in_fit():
    model = sequential()
    model.set_weights(pruned(sequential).get_weights())
    kgp.masks_from_zeros(model)
    before = masks(model)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(np.ones((8, 8)), np.ones((8, 4)), verbose=0)
    for weight in kgp.masked_weights(model):
        assert not np.any(to_numpy(weight.variable)[~before[weight.path]])


@full
@pytest.mark.parametrize("way", [travel.by_clone, travel.by_tensor])
def test_training_in_eager_mode_is_said_too(way, tmp_path):
    new = way(pruned(sequential), sequential, tmp_path)
    with pytest.warns(PruningWarning, match=r"a/kernel.*b/kernel"):
        travel.train(new, run_eagerly=True)
    travel.train(new, run_eagerly=True)  # It is said once.


@pytest.mark.parametrize(
    "mend",
    ["masks_from_zeros", pytest.param("copy_masks", marks=full), pytest.param("dense", marks=full)],
)
def test_mended_zeros_are_not_said(mend):
    model = pruned(sequential)
    new = keras.models.clone_model(model)
    new.set_weights((sequential() if mend == "dense" else model).get_weights())
    if mend == "masks_from_zeros":
        kgp.masks_from_zeros(new)
    elif mend == "copy_masks":
        kgp.copy_masks(model, new)
    travel.train(new)  # A PruningWarning would be an error.


def test_zeros_of_whole_channels_take_their_biases_and_scales():
    keras.utils.set_random_seed(0)

    def make():
        return keras.Sequential(
            [
                keras.Input((8, 8, 2)),
                layers.Conv2D(6, 3, name="a"),
                layers.BatchNormalization(name="n"),
                layers.Conv2DTranspose(4, 3, name="b"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(3, name="c"),
            ]
        )

    model, other = make(), make()
    for weight in model.weights:
        if weight.name in ("bias", "beta"):
            weight.assign(np.ones(weight.shape))
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    other.set_weights(model.get_weights())
    kgp.masks_from_zeros(other)
    ours, theirs = masks(model), masks(other)
    for path in ("a/kernel", "a/bias", "n/gamma", "n/beta", "b/kernel", "b/bias", "c/kernel"):
        np.testing.assert_array_equal(ours[path], theirs[path], err_msg=path)
    small = [kgp.shrink(net) for net in (model, other)]
    assert small[0].count_params() == small[1].count_params()


def test_scope_and_zero_kernels():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(12, name="a"),
            layers.Dense(4, kernel_initializer="zeros", name="z"),
        ]
    )
    kernel = model.get_layer("a").kernel
    kernel.assign(np.triu(np.ones((8, 12)), 3) * np.arange(1, 13))
    taken = kgp.masks_from_zeros(model)
    assert taken.untouched == ("z/kernel",)
    assert "All zero, so not masked: z/kernel" in str(taken)
    assert dict((path, kept) for path, kept, _ in taken)["z/kernel"] == 48
    other = sequential()
    other.set_weights(pruned(sequential).get_weights())
    assert [path for path, _, _ in kgp.masks_from_zeros(other, scope="b")] == ["b/kernel"]


RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(20, 20))
ANGLES = 2 * np.pi * np.outer(np.arange(16), np.arange(16)) / 16
TENT = np.clip(1 - np.abs(np.arange(-7, 8)) / 8, 0, None)


def bilinear(channels=4):
    return np.eye(channels) * np.outer(TENT, TENT)[:, :, None, None]


def rounded(values, levels, axis=0):
    scale = np.abs(values).max(axis=axis, keepdims=True) / levels
    return np.round(values / scale) * scale


# Kernel -> whether its zeros look as if they were pruned.
KERNELS = {
    "zeros": (np.zeros((20, 20)), False),
    "identity": (np.eye(20), False),
    "scaled identity": (-0.3 * np.eye(20), False),
    "one-hot": (np.eye(20)[np.arange(40) % 20], False),
    "few zeros": (np.where(np.arange(400) < 15, 0, NORMAL.ravel()).reshape(20, 20), False),
    "a small share": (np.where(np.arange(4000) < 100, 0, RNG.normal(size=4000)), False),
    "dense": (NORMAL, False),
    "bilinear upsampling": (bilinear(), False),
    "filter bank": (np.maximum(0, 1 - np.abs(np.arange(40)[:, None] / 4 - np.arange(10))), False),
    "clipped": (np.maximum(NORMAL, 0), False),
    "Fourier": (np.concatenate([np.cos(ANGLES), np.sin(ANGLES)], 1).astype("float32"), False),
    "Sobel of 32 channels": (
        np.repeat(np.outer([1, 2, 1], [-1, 0, 1])[:, :, None, None], 32, 2).astype("float32"),
        False,
    ),
    "Haar": (np.kron(np.eye(10), [[1, 1], [1, -1]]) / np.sqrt(2), False),
    "int8": (rounded(RNG.normal(size=(200, 20)), 127), False),
    "int4": (rounded(RNG.normal(size=(200, 20)), 7), False),
    "int4, rows": (rounded(RNG.normal(size=(20, 200)), 7, axis=1), False),
    "pruned": (np.where(np.abs(NORMAL) > 0.7, NORMAL, 0), True),
    "pruned to 2:4": (NORMAL * (np.arange(20) % 4 < 2), True),
    "pruned channels": (NORMAL * (np.arange(20) % 4 > 0), True),
    "small, pruned": (np.where(np.abs(NORMAL[:4, :8]) > 0.7, NORMAL[:4, :8], 0), True),
    "pruned, half precision": (np.where(np.abs(NORMAL) > 0.7, NORMAL, 0).astype("float16"), True),
    "pruned, then int8": (rounded(np.where(np.abs(NORMAL) > 0.7, NORMAL, 0), 127), True),
}


@pytest.mark.parametrize("name", KERNELS)
def test_which_zeros_look_pruned(name):
    values, expected = KERNELS[name]
    assert bool(pruned_zeros(values)) is expected


def initialized(values):
    def initializer(shape, dtype=None):
        return keras.ops.convert_to_tensor(values, dtype=dtype)

    return initializer


PRUNED = np.where(np.abs(NORMAL) > 0.7, NORMAL, 0)
# Layer, its kernel, whether zeros are said.
IN_LAYERS = {
    "initialized so": (layers.Dense, PRUNED, PRUNED, False),
    "initialized so, then pruned": (layers.Dense, np.triu(NORMAL), np.triu(PRUNED), True),
    "not initialized so": (layers.Dense, None, PRUNED, True),
    "words without a vector": (
        layers.Embedding,
        None,
        NORMAL * (np.arange(20) % 3 > 0)[:, None],
        False,
    ),
    "pruned table": (layers.Embedding, None, PRUNED, True),
}


@pytest.mark.parametrize("name", IN_LAYERS)
def test_the_initializer_and_the_layer_decide_too(name):
    cls, initial, values, expected = IN_LAYERS[name]
    start = {} if initial is None else {"kernel_initializer": initialized(initial)}
    layer = cls(20, **start) if cls is layers.Dense else cls(20, 20)
    model = keras.Sequential([keras.Input((20,)), layer])
    layer.weights[0].assign(values)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kgp.make_prunable(model)
    assert bool(caught) is expected


def test_masks_that_were_chosen_are_no_lost_masks():
    model = sequential()
    pruner = kgp.Pruner(model, mode="soft")
    pruner.update(sparsity=0.5)
    kgp.Pruner(model, mode="soft")
    kgp.sparsity_report(model)


def test_a_notice_is_given_once(tmp_path):
    save_notices._SAID.clear()
    model = pruned(OwnGAN)
    with pytest.warns(PruningNotice, match=r"OwnGAN .*kgp\.load_model"):
        model.save(tmp_path / "m.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error", PruningNotice)
        model.save(tmp_path / "m.keras")
        pruned(sequential).save(tmp_path / "s.keras")


@full
@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Bidirectional(layers.GRU(3)),
        lambda: layers.RNN([layers.GRUCell(4), layers.LSTMCell(3)]),
        lambda: layers.TimeDistributed(layers.Dense(5)),
    ],
)
def test_wrappers_come_back_without_a_notice(make, tmp_path):
    save_notices._SAID.clear()
    model = keras.Sequential([keras.Input((5, 4)), make()])
    kgp.Pruner(model).update(sparsity=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PruningNotice)
        model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert all(same_masks(masks(model), masks(loaded)))


# --- why a file cannot be loaded -------------------------------------------------------------------


class Forgetful(Net):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)

    def get_config(self):
        return {}


def unknown(path, monkeypatch):
    cls = type("Unknown", (Net,), {"__module__": "no_such_module"})
    model = cls()
    model.build((None, 8))
    model.save(path)
    return {}


def constructor(path, monkeypatch):
    model = Forgetful(3)
    model.build((None, 8))
    model.save(path)
    return {"Forgetful": Forgetful}


def other_shapes(path, monkeypatch):
    pruned(subclassed).save(path)
    monkeypatch.setattr(Net, "width", 13)
    return {}


@pytest.mark.filterwarnings("ignore::keras_ganprune.errors.PruningNotice")
@pytest.mark.parametrize(
    ("write", "advice"),
    [
        (unknown, "Import the classes of your own first"),
        (constructor, "`get_config` must return all arguments"),
        (other_shapes, "the weights do not fit it"),
    ],
)
def test_causes_of_a_failure_are_told_apart(write, advice, tmp_path, monkeypatch):
    known = write(tmp_path / "m.keras", monkeypatch)
    with pytest.raises(FileFormatError, match=advice):
        kgp.load_model(tmp_path / "m.keras", custom_objects=known)


@pytest.mark.filterwarnings("ignore::keras_ganprune.errors.PruningNotice")
@pytest.mark.parametrize(
    ("name", "advice"),
    [("m.h5", r"kgp\.masks_from_zeros"), ("m.weights.h5", r"kgp\.make_prunable")],
)
def test_other_files_are_refused_with_their_own_fix(name, advice, tmp_path):
    model = pruned(sequential)
    (model.save_weights if "weights" in name else model.save)(tmp_path / name)
    with pytest.raises(FileFormatError, match=advice):
        kgp.load_model(tmp_path / name)


def test_the_page_runs(capsys):
    page = (paths.DOCS / "saving.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(snippet, "docs/saving.md", "exec"), {})
    assert "total" in capsys.readouterr().out
