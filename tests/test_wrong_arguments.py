"""Wrong arguments of everything that is public: an error of our own, or a value that is right.

`tests/helpers/wrong_arguments.py` has the values, the valid calls, and what may be accepted.
"""

import json
import re

import keras
import numpy as np
import pytest
import wrong_arguments

import keras_ganprune as kgp
from keras_ganprune.applications import image_generation
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
        "Progress",
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


@pytest.mark.full
@pytest.mark.parametrize("name", CALLS)
def test_rarer_wrong_values(name):
    assert wrong_arguments.problems(name, *CALLS[name], wrong_arguments.MORE) == []


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
    "of_many_digits": (lambda _: kgp.Linear(0.5, 0, 10**5000), "below 2**63"),
    "range_of_texts": (lambda _: kgp.SampleGrid("s", value_range="01"), "low < high"),
    "slow_pictures": (lambda _: kgp.SampleGrid("s", duration_ms=10**9), "at most 131070"),
    "home": (lambda _: kgp.SampleGrid("~/s"), "only a shell replaces '~'"),
    "zero_byte": (lambda _: kgp.load_model("a\0"), "`path` must be a path"),
    "too_few_arguments": (lambda _: kgp.QualityMonitor(lambda: {}), "does not take one"),
    "loss_of_one_argument": (
        lambda _: kgp.Prune(0.5, criterion="taylor", gradient_loss=lambda model: 0.0),
        "(model, batch) -> scalar loss",
    ),
    "model_as_quality": (lambda _: kgp.QualityMonitor(MODEL()), "`quality` must be"),
    "names_as_scope": (lambda _: kgp.Pruner(MODEL(), scope=lambda x: x.name), "True or False"),
    "iterator_as_scope": (lambda _: kgp.Pruner(MODEL(), scope=iter(["a"])), "list of these"),
    "rule_that_is_none": (
        lambda _: kgp.register_rule(keras.layers.Layer)(5),
        "(layer, channels, x)",
    ),
    "rule_of_one_argument": (
        lambda _: kgp.register_macs(keras.layers.Layer)(lambda layer: 1),
        "(layer, seen, x)",
    ),
    "a_billion_seeds": (lambda _: kgp.SweepPlan(steps=20, batch_size=8, seeds=10**9), "at most"),
    "unknown_option": (lambda _: kgp.load_model("a.keras", safe=True), "Did you mean 'safe_mode'"),
    "not_unicode": (
        lambda f: kgp.save_run(f / "run", history={"\udce9": [1.0]}, samples={"dense": IMAGES(2)}),
        "UTF-8",
    ),
    "taught_by_another_shape": (
        lambda _: wrong_arguments.gan().set_teacher(wrong_arguments.generator(5)),
        "take what the generator takes",
    ),
    "number_as_optimizer": (lambda _: wrong_arguments.gan().compile(3, 4), "`generator_optimizer`"),
    "numbers_as_images": (lambda _: trained_gan().fit([1, 2], verbose=0), "images as one array"),
    "iterator_as_images": (lambda _: trained_gan().fit(iter(()), verbose=0), "images as one array"),
    "epochs": (lambda _: trained_gan().fit(IMAGES(), epochs=-1, verbose=0), "`epochs`"),
    "text_as_batch_size": (
        lambda _: trained_gan().fit(IMAGES(), batch_size="a", verbose=0),
        "`batch_size`",
    ),
    "class_as_callback": (
        lambda _: trained_gan().fit(IMAGES(), callbacks=[kgp.Prune], verbose=0),
        "`callbacks` must be",
    ),
    "unknown_argument_of_fit": (
        lambda _: trained_gan().fit(IMAGES(), verbose=0, epoch=3),
        "Did you mean 'epochs'",
    ),
    "too_many_images": (lambda _: trained_gan().generate(10**15), "must fit into memory"),
    "no_target": (lambda _: image_generation.DemoOptions(targets=()), "at least one network"),
    "outside_of_fit": (lambda _: kgp.Prune(0.5).set_model(None), "works on a Keras model"),
    "labels_beside_a_stream": (
        lambda _: kgp.recover(wrong_arguments.compiled(), iter(()), 1, labels=np.ones((8, 3))),
        "`labels` must be None if `data` is a stream",
    ),
    "set_of_criteria": (
        lambda _: kgp.SweepPlan(steps=20, batch_size=8, criteria={"magnitude", "random"}),
        "a set has none",
    ),
    "settings_of_numbers": (lambda _: recorded(settings={1: "a", "1": "b"}), "must be texts"),
    "coverage_of_nothing": (
        lambda _: kgp.mask_coverage(keras.Sequential([keras.layers.Dense(2)])),
        "must be built before its kernels are counted",
    ),
    "scope_of_no_argument": (lambda _: kgp.Prune(0.5, scope=[lambda: 3]), "take one argument"),
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


# --- what is found before the first step -------------------------------------------------------------


class Steps(keras.callbacks.Callback):
    """Counts the batches that were trained."""

    count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1


def shrink_later(**arguments):
    return [kgp.Shrink(1000, "discriminator", **({"sparsity": 0.5} | arguments))]


def monitored(*others, **arguments):
    return [kgp.QualityMonitor(wrong_arguments.quality(), **arguments), *others]


def twice(callback):
    return [callback, callback]


LATE = {
    "keep": (lambda: shrink_later(keep="nope"), "Unknown layer in `keep`"),
    "limits": (
        lambda: shrink_later(sparsity=None, budget=kgp.Budget(macs=0.9), limits={"nope": 0.5}),
        "Unknown layer in `limits`",
    ),
    "limits_alone": (lambda: shrink_later(limits={"dense*": 0.5}), "`limits` can only be used"),
    "allocation": (lambda: shrink_later(allocation={"nope": 0.5}), "Unknown layer in `sparsities`"),
    "budget": (
        lambda: shrink_later(sparsity=None, budget=kgp.Budget(macs=1e-9)),
        "cannot be met",
    ),
    "second_budget": (
        lambda: [
            kgp.Shrink(
                [5, 9], "discriminator", budget=[kgp.Budget(macs=0.5), kgp.Budget(macs=1e-9)]
            )
        ],
        "cannot be met",
    ),
    "twice": (lambda: twice(kgp.NaNGuard()), "each callback once"),
    "two_names": (lambda: [kgp.Prune(0.5, ["generator"] * 2)], "each network once"),
    "huge_picture": (lambda: [kgp.SampleGrid("s", zoom=10**7)], "at most 268,435,456 pixels"),
    "metrics": (lambda: monitored(metrics=["nope"]), "Unknown name in `metrics`"),
    "labels_missing": (lambda: monitored(metrics=["class_kl"]), "Unknown name in `metrics`"),
    "three_images": (lambda: monitored(n=3), "at least four images"),
    "no_images": (lambda: monitored(target="discriminator"), "latent vectors"),
    "distance": (
        lambda: monitored(kgp.DiversityGuard(distance="nope")),
        "The evaluator must measure 'nope'",
    ),
}
LATE_DEFAULT = ("keep", "second_budget", "twice", "distance")


@pytest.mark.parametrize(
    "name", [n if n in LATE_DEFAULT else pytest.param(n, marks=pytest.mark.full) for n in LATE]
)
def test_what_would_be_found_late_is_found_before_the_first_step(name):
    make, text = LATE[name]
    steps = Steps()
    with pytest.raises(PruningError, match=re.escape(text)):
        trained_gan().fit(IMAGES(), batch_size=8, verbose=0, callbacks=[*make(), steps])
    assert steps.count == 0


def test_a_masked_network_is_needed_if_nothing_says_what_to_remove():
    with pytest.raises(PruningError, match="no `Prune` in `callbacks`"):
        trained_gan().fit(
            IMAGES(), batch_size=8, verbose=0, callbacks=[kgp.Shrink(9, "discriminator")]
        )


def test_one_callback_cannot_work_for_two_fits_at_once():
    prune = kgp.Prune(0.5, verbose=0)

    def fit(*others):
        x, y = wrong_arguments.XY
        wrong_arguments.compiled().fit(x, y, verbose=0, callbacks=[prune, *others])

    fit()
    fit()
    with pytest.raises(PruningError, match="one `fit` at a time"):
        fit(keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: fit()))
    fit()


def swept(**arguments):
    """Return the sweep of the table, with other arguments."""
    base = wrong_arguments.BASES["sweep"] | {"quality": lambda: wrong_arguments.quality()}
    arguments = (
        {k: v() for k, v in base.items() if callable(v)}
        | {
            "storage": None,
            "progress": False,
        }
        | arguments
    )
    return kgp.sweep(**arguments)


def same_model():
    model = trained_gan()
    return lambda seed: model


SWEEPS = {
    "file_of_the_user": ({"storage": "notes.txt"}, "SQLite database, or a new file"),
    "question_mark": ({"storage": "a?b.db"}, "without '?'"),
    "no_seed": ({"build": lambda: 3}, "one argument, the seed"),
    "same_model": ({"build": same_model()}, "new model at each call"),
    "not_compiled": ({"build": lambda seed: wrong_arguments.gan()}, "compiled"),
    "measure_of_one_argument": ({"quality": lambda model: 3.0}, "three arguments"),
    "allocation": (
        {
            "plan": kgp.SweepPlan(
                sparsities=(0.5,), seeds=(0,), steps=4, batch_size=8, allocation={"nope": 0.5}
            )
        },
        "Unknown layer in `sparsities`",
    ),
}


@pytest.mark.full
@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_finds_wrong_arguments_before_it_trains(name, tmp_path):
    pytest.importorskip("optuna")
    arguments, text = SWEEPS[name]
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(PruningError) as error:
        swept(**arguments)
    assert text in str(error.value)
    assert (tmp_path / "notes.txt").read_text() == "x"
