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
from keras_ganprune.layers.unmasked_zeros import looks_pruned

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


NOT_PRUNED = {
    "zeros": np.zeros((20, 20)),
    "identity": np.eye(20),
    "one-hot": np.eye(20)[np.arange(40) % 20],
    "few zeros": np.where(np.arange(400) < 15, 0, np.arange(400) + 1.0).reshape(20, 20),
    "a small share": np.where(np.arange(4000) < 100, 0, np.arange(4000) + 1.0),
    "dense": np.arange(1.0, 401.0).reshape(20, 20),
}


@pytest.mark.parametrize("name", NOT_PRUNED)
def test_what_is_not_taken_for_a_pruned_kernel(name):
    assert not looks_pruned(NOT_PRUNED[name])
    rows, columns = np.atleast_2d(NOT_PRUNED[name]).shape
    model = keras.Sequential([keras.Input((rows,)), layers.Dense(columns)])
    model.layers[0].kernel.assign(np.atleast_2d(NOT_PRUNED[name]))
    kgp.make_prunable(model)  # A PruningWarning would be an error.


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
