"""Every way to copy or load a pruned model: its masks come with the zeros, or a message names the fix."""

import copy
import pickle
import re
import warnings

import keras
import numpy as np
import paths
import pytest
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import FileFormatError, PruningNotice, PruningWarning
from keras_ganprune.layers import save_notices
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.zero_patterns import pruned_zeros

full = pytest.mark.full
SPARSITY = 0.75


def sequential():
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(12, "relu", name="a"), layers.Dense(4, name="b")]
    )


def functional():
    x = keras.Input((8,))
    return keras.Model(x, layers.Dense(4, name="b")(layers.Dense(12, "relu", name="a")(x)))


@keras.saving.register_keras_serializable("travel")
class Net(keras.Model):
    """Makes its layers anew when it is loaded."""

    width = 12

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a, self.b = layers.Dense(self.width, "relu", name="a"), layers.Dense(4, name="b")

    def build(self, shape):
        self.a.build(shape)
        self.b.build((None, self.width))
        self.built = True

    def call(self, x):
        return self.b(self.a(x))


@keras.saving.register_keras_serializable("travel")
class OwnGAN(keras.Model):
    """Makes its networks anew when it is loaded, and has no `call`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator, self.discriminator = sequential(), functional()


def subclassed():
    model = Net()
    model.build((None, 8))
    return model


def pruned(make):
    keras.utils.set_random_seed(0)
    model = make()
    kgp.Pruner(model).update(sparsity=SPARSITY)
    return model


def masks(model):
    return {w.path: to_numpy(w.mask) for w in kgp.masked_weights(model)}


def kernels(model):
    return [to_numpy(w) for w in model.weights if len(w.shape) == 2]


def same_masks(one, two):
    return [np.array_equal(a, b) for a, b in zip(one.values(), two.values(), strict=True)]


# --- ways to copy a model: (model, function that makes it, folder) -> copy -------------------------


def by_keras(model, make, folder):
    model.save(folder / "m.keras")
    return keras.saving.load_model(folder / "m.keras")


def by_kgp(model, make, folder):
    model.save(folder / "m.keras")
    return kgp.load_model(folder / "m.keras")


def by_h5(model, make, folder):
    model.save(folder / "m.h5")
    return keras.saving.load_model(folder / "m.h5")


def read(new, model, folder):
    """Read the weights file of a model; a GAN without a `call` is never built itself."""
    new.built = model.built = True
    model.save_weights(folder / "m.weights.h5")
    new.load_weights(folder / "m.weights.h5")
    return new


def weights_into_plain(model, make, folder):
    return read(make(), model, folder)


def weights_into_prunable(model, make, folder):
    return read(kgp.make_prunable(make()), model, folder)


def stripped_into_prunable(model, make, folder):
    return read(kgp.make_prunable(make()), kgp.strip_pruning(model), folder)


def by_clone(model, make, folder):
    new = keras.models.clone_model(model)
    new.set_weights(model.get_weights())
    return new


def by_config(model, make, folder):
    new = type(model).from_config(model.get_config())
    new.build((None, 8))
    new.set_weights(model.get_weights())
    return new


def by_json(model, make, folder):
    return read(keras.models.model_from_json(model.to_json()), model, folder)


def set_weights(model, make, folder):
    new = kgp.make_prunable(make())
    new.set_weights(model.get_weights())
    return new


def deepcopied(model, make, folder):
    return copy.deepcopy(model)


def pickled(model, make, folder):
    return pickle.loads(pickle.dumps(model))


BY_CONFIG = (sequential, functional)  # The classes of their layers are in their configuration.
ANEW = (subclassed, OwnGAN)
KEEP, NOTICE, WARN = "masks", "notice at save", "warning"
# (way, kinds of model) -> what happens: the masks come too, the file says how to load it, or whatever looks
# at the copy next warns.
TABLE = {
    (by_keras, BY_CONFIG): KEEP,
    (by_keras, ANEW): NOTICE,
    (by_kgp, BY_CONFIG + ANEW): KEEP,
    (by_h5, BY_CONFIG): WARN,
    (weights_into_plain, BY_CONFIG + ANEW): NOTICE,
    (weights_into_prunable, BY_CONFIG + ANEW): KEEP,
    (stripped_into_prunable, BY_CONFIG): WARN,
    (by_clone, BY_CONFIG): WARN,
    (by_config, BY_CONFIG): WARN,
    (by_config, (subclassed,)): WARN,
    (by_json, BY_CONFIG): KEEP,
    (set_weights, BY_CONFIG + ANEW): WARN,
    (deepcopied, BY_CONFIG): KEEP,
    (deepcopied, ANEW): NOTICE,
    (pickled, BY_CONFIG): KEEP,
    (pickled, ANEW): NOTICE,
}
DEFAULT = [(by_keras, OwnGAN), (by_kgp, OwnGAN), (by_clone, sequential), (deepcopied, subclassed)]
CELLS = [
    pytest.param(
        way,
        make,
        outcome,
        id=f"{way.__name__}-{make.__name__}",
        marks=[] if (way, make) in DEFAULT else full,
    )
    for (way, makes), outcome in TABLE.items()
    for make in makes
]


@pytest.mark.parametrize(("way", "make", "outcome"), CELLS)
def test_masks_travel_or_it_is_said(way, make, outcome, tmp_path):
    save_notices._SAID.clear()
    model = pruned(make)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        new = way(model, make, tmp_path)
        for one, two in zip(kernels(model), kernels(new), strict=True):
            np.testing.assert_array_equal(one, two)
        notices = [w for w in caught if w.category is PruningNotice]
        if outcome == KEEP:
            assert all(same_masks(masks(model), masks(new)))
            assert not any(w.category is PruningWarning for w in caught)
            # The call that the notice names has been used already.
            assert not notices or way in (by_kgp, weights_into_prunable, by_json)
            return
        if outcome == NOTICE:
            assert len(notices) == 1
            assert notices[0].filename.endswith(("test_masks_travel.py", "copy.py"))
            fixes = ("kgp.make_prunable", "kgp.load_model(path)")
            assert any(fix in str(notices[0].message) for fix in fixes)
            assert masks(new) == {}
        kgp.make_prunable(new)
        kgp.sparsity_report(new)
        said = [str(w.message) for w in caught if w.category is PruningWarning]
    assert said
    assert all("kgp.masks_from_zeros(model)" in text for text in said)
    # Each kernel is named once; one warning names three of them.
    assert sum(text.count("kernel") for text in said) == min(3, len(masks(new)))
    taken = kgp.masks_from_zeros(new)
    assert all(same_masks(masks(model), masks(new)))
    assert taken.sparsity == pytest.approx(SPARSITY)
    assert kgp.sparsity_report(new).sparsity == pytest.approx(SPARSITY)


def test_taken_zeros_hold_in_fit():
    model = sequential()
    model.set_weights(pruned(sequential).get_weights())
    kgp.masks_from_zeros(model)
    before = masks(model)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(np.ones((8, 8)), np.ones((8, 4)), verbose=0)
    for weight in kgp.masked_weights(model):
        assert not np.any(to_numpy(weight.variable)[~before[weight.path]])


def dense_step(model, **compile_arguments):
    model.compile(keras.optimizers.Adam(0.05), "mse", **compile_arguments)
    model.fit(np.ones((8, 8)), np.ones((8, 4)), verbose=0)


def into_trained(new, model):
    dense_step(new)
    new.set_weights(model.get_weights())


def by_layer(new, model):
    for layer in model.layers:
        new.get_layer(layer.name).set_weights(layer.get_weights())


def by_variable(new, model):
    for target, source in zip(new.variables, model.variables, strict=True):
        target.assign(source)


def by_tensor(new, model):
    for target, source in zip(new.variables, model.variables, strict=True):
        target.assign(source.value)


def by_checkpoint(new, model, folder):
    import tensorflow as tf

    path = tf.train.Checkpoint(model=model).save(str(folder / "checkpoint"))
    tf.train.Checkpoint(model=new).restore(path)


ARRIVALS = {
    "set_weights": lambda new, model: new.set_weights(model.get_weights()),
    "after a fit": into_trained,
    "layer.set_weights": by_layer,
    "variables": by_variable,
    "tensors": by_tensor,
}
if keras.backend.backend() == "tensorflow":
    ARRIVALS["tf.train.Checkpoint"] = by_checkpoint


@pytest.mark.parametrize("eager", [pytest.param(True, marks=full), False])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "set_weights" else full) for n in ARRIVALS]
)
def test_training_zeros_without_masks_is_said(name, eager, tmp_path):
    model = pruned(sequential)
    new = keras.models.clone_model(model)
    bring = ARRIVALS[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bring(new, model, *([tmp_path] if "folder" in bring.__code__.co_varnames else []))
        dense_step(new, run_eagerly=eager)
        dense_step(new, run_eagerly=eager)
    said = " ".join(str(w.message) for w in caught if w.category is PruningWarning)
    assert said.count("a/kernel") == said.count("b/kernel") == 1
    assert "kgp.masks_from_zeros(model)" in said


@pytest.mark.parametrize("mend", ["masks_from_zeros", "copy_masks", "dense"])
def test_mended_zeros_are_not_said(mend):
    model = pruned(sequential)
    new = keras.models.clone_model(model)
    new.set_weights((sequential() if mend == "dense" else model).get_weights())
    if mend == "masks_from_zeros":
        kgp.masks_from_zeros(new)
    elif mend == "copy_masks":
        kgp.copy_masks(model, new)
    dense_step(new)  # A PruningWarning would be an error.


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
