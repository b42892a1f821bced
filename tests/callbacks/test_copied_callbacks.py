"""Callbacks, pruners and settings can be copied and pickled at any time; a copy begins anew."""

import copy
import inspect
import pickle

import keras
import numpy as np
import pytest
from keras import layers
from members import MEMBERS

import keras_ganprune as kgp
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.pruning import PruningSettings

X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
Y = np.zeros((32, 4, 4, 1), "float32")


def distance(model):
    return {"fd": 1.0, "coverage": 0.5}


@keras.saving.register_keras_serializable("copied")
class Net(keras.Model):
    """A model of one network that draws small images."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.part = keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(8, "relu", name="one"),
                layers.Dense(16, name="two"),
                layers.Reshape((4, 4, 1)),
            ],
            name="part",
        )
        self.normalized = keras.Sequential(
            [keras.Input((6,)), layers.Dense(7), layers.BatchNormalization(), layers.Dense(6)]
        )

    def call(self, x):
        return self.part(self.normalized(x))


def make_model():
    keras.utils.set_random_seed(1)
    model = Net()
    model.compile("adam", "mse")
    return model


def fit(model, callbacks):
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks)


def monitors(folder):
    monitor = kgp.QualityMonitor(distance, target="part")
    return [monitor, kgp.DiversityGuard(action="warn")]


CASES = {
    "Prune": lambda folder: [kgp.Prune(kgp.PolynomialDecay(0.5, 1, 5), frequency=2)],
    "Prune with gradients": lambda folder: [
        kgp.Prune(kgp.OneShot(0.5, 5), criterion="taylor", mode="rigl", allocation="erk")
    ],
    "Prune by layer": lambda folder: [kgp.Prune(0.5, allocation={"one": 0.5}, mode="rigl")],
    "Prune adaptive": lambda folder: [
        kgp.Prune(kgp.AdaptiveSparsity("loss", tolerance=9.0, increment=0.4), frequency=2)
    ],
    "Prune and rewind": lambda folder: [kgp.Prune(kgp.IterativeRewind(0.5, 2, 2, 4))],
    "BalanceController": lambda folder: [
        kgp.BalanceController(0.1, 0.2, monitor="loss", target=None, frequency=2)
    ],
    "Shrink": lambda folder: [kgp.Shrink(at=4, sparsity=0.25, target="part")],
    "GroupLasso": lambda folder: [kgp.GroupLasso(0.1, "part", verbose=0)],
    "NetworkSlimming": lambda folder: [kgp.NetworkSlimming(0.1, "normalized", verbose=0)],
    "GrowingL2": lambda folder: [kgp.GrowingL2("part", sparsity=0.5, delta=5.0, frequency=2)],
    "Teach": lambda folder: [kgp.Teach(make_model().part, "part")],
    "Progress": lambda folder: [kgp.Progress(), kgp.Prune(0.5)],
    "NaNGuard": lambda folder: [kgp.NaNGuard(2)],
    "QualityMonitor and DiversityGuard": monitors,
    "SampleGrid": lambda folder: [
        kgp.SampleGrid(folder / "grid", target="part", inputs=X[:4], n=4)
    ],
    "PruningSummary": lambda folder: [kgp.PruningSummary(folder / "logs", images=0)],
}


class CopyInside(keras.callbacks.Callback):
    """Copies other callbacks in the middle of a `fit`, as a search may do."""

    def __init__(self, others):
        super().__init__()
        self.others = others

    def on_train_batch_end(self, batch, logs=None):
        self.copies = copy.deepcopy(self.others)


def results(model):
    return [to_numpy(w) for w in model.weights]


def state(callbacks):
    """Return what callbacks have done, as text."""
    names = ("updates", "events", "stopped_batch", "written", "history")
    return [[repr(getattr(c, name, None)) for name in names] for c in callbacks]


@pytest.mark.filterwarnings("ignore::keras_ganprune.errors.PruningWarning")
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize(
    ("name", "tried"),
    [("Prune", lambda before, inside, *others: [inside])]
    + [
        pytest.param(name, lambda *all_copies: all_copies, marks=pytest.mark.full) for name in CASES
    ],
)
def test_a_copy_made_at_any_time_begins_anew(name, tried, tmp_path):
    original = CASES[name](tmp_path)
    untouched = state(original)
    before = copy.deepcopy(original)
    inside = CopyInside(original)
    model = make_model()
    fit(model, [*original, inside])
    after = copy.deepcopy(original)
    pickled = pickle.loads(pickle.dumps(original))
    done = state(original)
    for copies in (before, inside.copies, after, pickled):
        assert state(copies) == untouched
        assert all(c.model is None for c in copies)
    for copies in tried(before, inside.copies, after, pickled):
        fresh = make_model()
        fit(fresh, copies)
        assert state(copies) == done
        for one, other in zip(results(model), results(fresh), strict=True):
            np.testing.assert_array_equal(one, other)
    assert state(original) == done


def test_every_public_callback_is_in_the_table(tmp_path):
    public = {
        value
        for value in (getattr(kgp, name) for name in kgp.__all__)
        if isinstance(value, type) and issubclass(value, keras.callbacks.Callback)
    }
    tried = {type(callback) for case in CASES.values() for callback in case(tmp_path)}
    assert public <= tried
    for cls in public:
        assert "args" not in inspect.signature(cls).parameters


def test_a_copy_keeps_networks_and_functions_of_its_arguments():
    model = make_model()

    def loss(model, batch):
        return keras.ops.mean(model(batch[0]))

    prune = kgp.Prune(0.5, model.part, criterion="gradient", gradient_loss=loss, scope=[model.part])
    twin = copy.deepcopy(prune)
    assert twin.target is model.part and twin.gradient_loss is loss
    assert twin.settings.scope[0] is model.part and twin.settings.scope is not prune.settings.scope


def test_callbacks_that_belong_together_still_do():
    monitor = kgp.QualityMonitor(distance)
    own = kgp.DiversityGuard(kgp.QualityMonitor(distance))
    for monitor_2, own_2 in (
        copy.deepcopy([monitor, own]),
        pickle.loads(pickle.dumps([monitor, own])),
    ):
        assert monitor_2.quality is distance and own_2.coverage == own.coverage


def test_a_copied_pruner_prunes_the_copied_model():
    model = make_model().part
    pruner = kgp.Pruner(model, criterion="l2", granularity="channel")
    pruner.update(sparsity=0.5)
    for twin in (copy.deepcopy(pruner), pickle.loads(pickle.dumps(pruner))):
        assert twin.models[0] is not model and twin.updates_made == 1
        assert twin.sparsity == pruner.sparsity and repr(twin.criterion) == repr(pruner.criterion)
        twin.update(sparsity=0.75)
        assert twin.sparsity == 0.75 and pruner.sparsity == 0.5
    both = copy.deepcopy({"model": model, "pruner": pruner})
    assert both["pruner"].models[0] is both["model"]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
def test_members_and_settings_are_copied(duplicate):
    report = kgp.Pruner(make_model().part).update(sparsity=0.5)
    settings = PruningSettings.of("l2", "2:4", schedule=0.5, scope="dense*")
    values = [*(member for _, member in MEMBERS), settings, kgp.Budget(macs=0.5), report]
    for value in values:
        assert duplicate(value) == value, value
