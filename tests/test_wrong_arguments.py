"""Wrong arguments of everything that is public: an error of our own, or a value that is right.

`tests/helpers/wrong_arguments.py` has the values, the valid calls, and what may be accepted.
"""

import json

import keras
import numpy as np
import pytest
import wrong_arguments

import keras_ganprune as kgp
from keras_ganprune.errors import PruningError
from keras_ganprune.reports import record_run

CALLS = {name: (make, base) for name, make, base in wrong_arguments.callables()}
# Callables without networks, and some of each kind with one. The others take minutes together.
DEFAULT = {
    *(
        "Budget",
        "Channel",
        "ConstantSparsity",
        "Cyclic",
        "DiversityGuard",
        "Linear",
        "NM",
        "NaNGuard",
        "RigL",
    ),
    *("Linear.__call__", "QualityMonitor", "SampleGrid", "Shrink", "record_run"),
    *("copy_masks", "load_run", "mean_interval", "sparsity_report"),
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name", [n if n in DEFAULT else pytest.param(n, marks=pytest.mark.full) for n in CALLS]
)
def test_no_foreign_error_and_nothing_wrong_is_accepted(name):
    assert wrong_arguments.problems(name, *CALLS[name]) == []


def test_the_table_has_every_public_name_with_required_arguments():
    assert set(wrong_arguments.BASES) <= set(CALLS) | {"multi_worker_strategy"}


# --- values that need more than one argument, or another object -------------------------------------


def trained_gan():
    gan = wrong_arguments.gan()
    gan.compile()
    return gan


def taylor(gradients):
    return kgp.Pruner(wrong_arguments.model(), criterion="taylor").update(
        sparsity=0.5, gradients=gradients
    )


def without_inputs():
    return keras.Sequential([keras.Input((0,)), keras.layers.Dense(3, name="hollow")])


def recorded(**arguments):
    return record_run(
        **{"history": {"loss": [1.0]}, "samples": {"dense": wrong_arguments.images(2)}, **arguments}
    )


def read_with(folder, field, value):
    path = folder / "run"
    kgp.save_run(
        path,
        history={"loss": [1.0]},
        samples={"dense": wrong_arguments.images(2)},
        sizes={"dense": {"bytes": 4}},
        latency={"dense": {"batch of 1": 2.0}},
    )
    content = json.loads((path / "run.json").read_text())
    del content["checksum"], content["checksums"]  # as an older version writes it
    content[field]["dense"] = {key: value for key in content[field]["dense"]}
    (path / "run.json").write_text(json.dumps(content))
    return kgp.load_run(path)


MODEL, IMAGES = wrong_arguments.model, wrong_arguments.images
KNOWN = {
    "one_model_twice": (
        lambda _: kgp.GANModel(*[wrong_arguments.discriminator()] * 2, 4),
        "two networks",
    ),
    "tied_to_itself": (
        lambda _: kgp.tie_mirrored(*[wrong_arguments.mirrored()[1]] * 2),
        "two networks",
    ),
    "complex_gradients": (
        lambda _: taylor([np.ones((4, 6), complex), np.ones((6, 3))]),
        "real numbers",
    ),
    "text_gradients": (
        lambda _: taylor({"hidden/kernel": "a", "head/kernel": "b"}),
        "real numbers",
    ),
    "gradients_of_objects": (lambda _: taylor([object(), object()]), "real numbers"),
    "progress": (
        lambda _: wrong_arguments.pruner().update(sparsity=0.5, progress=np.nan),
        "`progress`",
    ),
    "negative_step": (lambda _: wrong_arguments.pruner().update(sparsity=0.5, step=-1), "`step`"),
    "schedule_at_nan": (lambda _: kgp.Linear(0.5, 0, 10)(np.nan), "`step`"),
    "own_schedule_at_nan": (lambda _: Own()(np.nan), "`step`"),
    "verbose": (lambda _: kgp.Prune(0.5, verbose="x"), "`verbose`"),
    "strict": (
        lambda _: kgp.shrink(MODEL(), sparsity=0.5, strict="a"),
        "`strict` must be True or False",
    ),
    "seed_of_a_run": (lambda _: recorded(seed=object()), "`seed` must be an int or None"),
    "networks_of_a_run": (lambda _: recorded(networks=5), "`networks` must be a Keras model"),
    "diverged_run": (
        lambda _: recorded(history={"g_loss": [1.0, np.nan]}),
        "diverged: g_loss is nan",
    ),
    "negative_size": (lambda _: recorded(sizes={"dense": {"bytes": -4}}), "non-negative int"),
    "size_nan": (lambda _: recorded(sizes={"dense": {"bytes": np.nan}}), "non-negative int"),
    "negative_latency": (lambda _: recorded(latency={"dense": {"x": -1.0}}), "non-negative number"),
    "read_negative_size": (lambda f: read_with(f, "sizes", -1), "non-negative number"),
    "read_negative_latency": (lambda f: read_with(f, "latency", -0.5), "non-negative number"),
    "report_of_none": (lambda _: kgp.sparsity_report(None), "must be a Keras 3 model or layer"),
    "no_models": (lambda _: kgp.compare_models({}), "at least one entry"),
    "no_path": (lambda _: kgp.load_model(None), "`path` must be a path"),
    "no_model": (lambda _: kgp.recover(5, IMAGES()), "`model` must be a Keras model"),
    "dict_of_images": (
        lambda _: trained_gan().fit({"a": IMAGES()}, verbose=0),
        "images as one array",
    ),
    "text_as_images": (lambda _: trained_gan().fit("a", verbose=0), "images as one array"),
    "kernel_of_size_zero": (lambda _: kgp.Pruner(without_inputs()), "hollow"),
    "frequency": (lambda _: kgp.Linear(0.5, 0, 10).is_update_step(3, 0), "`frequency`"),
    "unhashable_direction": (lambda _: kgp.sensitivity(MODEL(), len, direction=[]), "direction"),
    "config_of_nothing": (lambda _: kgp.Prune({"class_name": "Nope", "config": {}}), "schedule"),
}


class Own(kgp.Schedule):
    def __call__(self, step):
        return 0.5 if step > 3 else 0.0


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_wrong_is_named(name, tmp_path):
    call, text = KNOWN[name]
    with pytest.raises(PruningError) as error:
        call(tmp_path)
    assert text in str(error.value)
