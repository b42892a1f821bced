"""A sweep end to end, on a small regression and a small GAN; the plan, the folds, bad input."""

import re

import attrs
import keras
import networks as nets
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune import datasets
from keras_ganprune.errors import (
    DataError,
    InvalidArgumentError,
    MissingPackageError,
    PruningError,
    PruningWarning,
)
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.metrics import ImageQuality, profile
from keras_ganprune.metrics.feature_extractor import FeatureExtractor
from keras_ganprune.search import SweepResult, make_folds, sweep
from keras_ganprune.search.plan import SweepPlan
from keras_ganprune.search.runs import SweepRun

optuna = pytest.importorskip("optuna")
pytest.importorskip("scipy")
pytest.importorskip("sklearn")

X = np.random.default_rng(0).normal(size=(60, 6)).astype("float32")
Y = (X @ np.arange(1, 7, dtype="float32"))[:, None] / 6


def build(seed):
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)]
    )
    # Ten steps take less time than tracing one.
    model.compile("adam", "mse", run_eagerly=True)
    return model


def error_of(model, x, y):
    return {"mse": float(np.mean((to_numpy(model(x)) - y) ** 2)), "seen": float(len(x))}


SMALL = {
    "quality": error_of,
    "metric": "mse",
    "target": None,
    "steps": 10,
    "batch_size": 10,
    "sparsities": (0.5, 0.9),
    "seeds": 2,
    "storage": None,
    "progress": False,
}


def small(build=build, images=X, labels=Y, **arguments):
    return sweep(build, images, labels, **{**SMALL, **arguments})


# --- the plan ------------------------------------------------------------------------------------


def test_a_plan_or_its_fields():
    plan = SweepPlan(steps=4, batch_size=2)
    for arguments, text in (
        ({"stepz": 3}, "Did you mean 'steps'"),
        ({"steps": 3}, "needs `batch_size`"),
        ({"plan": 3}, "`plan` must be a `SweepPlan`"),
        ({"plan": plan, "seeds": 2}, "either `plan` or its fields"),
    ):
        with pytest.raises(InvalidArgumentError, match=text):
            sweep(lambda seed: None, X, quality=len, storage=None, **arguments)
    assert attrs.evolve(plan, steps=6).steps == 6


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"sparsities": (0.5, 80)}, r"For 80 %, pass 0\.8"),
        ({"sparsities": (0.0, 0.5)}, "a sweep always trains dense runs"),
        ({"sparsities": ()}, "must be a sequence of numbers"),
        ({"sparsities": "0.5"}, "must be a sequence of numbers"),
        ({"sparsities": (0.5, 0.5)}, "must not repeat a value"),
        ({"thresholds": (0.1, -1)}, "must be positive, finite numbers"),
        ({"thresholds": (0.1,), "allocation": "erk"}, "threshold"),
        ({"criteria": ("magnitud",)}, "Did you mean 'magnitude'"),
        ({"criteria": ()}, "at least one criterion"),
        ({"seeds": 0}, "at least one seed"),
        ({"seeds": (1, 1)}, "must not repeat a value"),
        ({"seeds": (-1,)}, r"ints in \[0, 2\*\*32\)"),
        ({"steps": 0}, "`steps` must be a positive int"),
        ({"steps": 2}, "of 2 `steps`"),
        ({"batch_size": 1.5}, "`batch_size` must be a positive int"),
        ({"begin": 0.7}, "0 <= begin < end <= 1"),
        ({"search": "grd"}, "Did you mean 'grid'"),
        ({"search": "tpe"}, "`trials` must be a positive int"),
        ({"search": "tpe", "trials": 3, "sparsities": (0.5,)}, "needs a range"),
        ({"trials": 3}, "only valid with search='tpe'"),
        ({"direction": "up"}, "Unknown direction"),
        ({"tolerance": -1}, "non-negative fraction"),
        ({"target": keras.layers.Dense(1)}, "every run builds a new network"),
        ({"granularity": "2:4", "sparsities": (0.7,)}, "2"),
    ],
)
def test_bad_plans_are_refused_before_anything_is_trained(arguments, text):
    with pytest.raises(InvalidArgumentError, match=text):
        SweepPlan(**{"steps": 100, "batch_size": 10, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"quality": 3}, InvalidArgumentError, "must be an `ImageQuality`, or a function"),
        ({"quality": lambda m, x, y: "good"}, InvalidArgumentError, "dict of floats, or one float"),
        ({"metric": "fd"}, InvalidArgumentError, "a value that `quality` returns: mse, seen"),
        ({"target": "generator"}, InvalidArgumentError, "Unknown target"),
        ({"build": 3}, InvalidArgumentError, "function that takes a seed"),
        ({"build": lambda seed: 3}, InvalidArgumentError, "must return a compiled Keras model"),
        ({"labels": Y[:3]}, DataError, "must have one entry per image, 60"),
        ({"images": X[:0]}, DataError, "must be a non-empty array"),
        (
            {"folds": 1, "labels": None},
            InvalidArgumentError,
            "`folds` must be an int of at least 2",
        ),
    ],
)
def test_bad_arguments_end_the_sweep_at_once(arguments, error, text):
    with pytest.raises(error, match=text):
        small(**arguments)


def test_a_quality_that_cannot_be_made_anew_for_a_fold():
    class Judge:
        def measure_generator(self, model, seed):
            raise AssertionError("nothing is judged")

    labels = np.arange(60) % 3
    with pytest.raises(
        InvalidArgumentError, match=r"Judge has no method `against\(images, labels\)`"
    ):
        small(quality=Judge(), folds=2, labels=labels)


@pytest.mark.parametrize(("steps", "batch"), [(4000, 64), (100, 7), (97, 10), (6, 500)])
def test_epochs_are_about_a_pass_and_the_steps_exact(steps, batch):
    epochs, each = SweepPlan(steps=steps, batch_size=batch).epochs(1800)
    assert epochs * each == steps
    passes = steps / max(1, 1800 // batch)
    divisors = [n for n in range(1, steps + 1) if steps % n == 0]
    assert epochs in sorted(divisors, key=lambda n: abs(np.log(n / passes)))[:1]


# --- folds ---------------------------------------------------------------------------------------


def test_folds_share_the_images_out():
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    folds = make_folds(60, 5, labels, seed=1)
    held = [set(test) for _, test in folds]
    assert set.union(*held) == set(range(60)) and sum(map(len, held)) == 60
    for train, test in folds:
        assert not set(train) & set(test) and len(train) + len(test) == 60
        assert np.bincount(labels[test]).tolist() == [6, 4, 2]
    again = make_folds(60, 5, np.eye(3)[labels], seed=1)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(folds, again, strict=True))
    other = make_folds(60, 5, labels, seed=2)
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(folds, other, strict=True))
    assert sorted(len(test) for _, test in make_folds(11, 3)) == [3, 4, 4]


def test_bad_folds():
    with pytest.raises(InvalidArgumentError, match=r"Class 7 has 1 image\(s\)"):
        make_folds(5, 2, np.array([1, 1, 1, 1, 7]))
    with pytest.raises(InvalidArgumentError, match="from 2 to the number of images, 3"):
        make_folds(3, 4)


# --- training ------------------------------------------------------------------------------------


class Watch(keras.callbacks.Callback):
    """Notes the weights at the beginning, and the loss of every batch."""

    def on_train_begin(self, logs=None):
        self.begin = [np.array(w) for w in self.model.get_weights()]
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])


@pytest.mark.full
def test_runs_of_a_seed_begin_alike_and_see_the_same_data():
    watched = {}

    def callbacks(run):
        watched[run] = Watch()
        return [watched[run]]

    result = small(callbacks=callbacks, sparsities=(0.9,), begin=0.5, end=0.8)
    assert sorted(str(run) for run in watched) == [
        "dense, seed 0",
        "dense, seed 1",
        "magnitude, sparsity 0.9, seed 0",
        "magnitude, sparsity 0.9, seed 1",
    ]
    by_seed = {seed: [w for r, w in watched.items() if r.seed == seed] for seed in (0, 1)}
    for dense, pruned in by_seed.values():
        assert all(np.array_equal(a, b) for a, b in zip(dense.begin, pruned.begin, strict=True))
        assert len(dense.losses) == len(pruned.losses) == 10
        assert dense.losses[:5] == pytest.approx(pruned.losses[:5], rel=1e-6)
        assert dense.losses[-1] != pytest.approx(pruned.losses[-1], rel=1e-4)
    assert not np.array_equal(by_seed[0][0].begin[0], by_seed[1][0].begin[0])
    # Weights of 6×16 and 16×1, and 17 biases.
    row = result.rows[1]
    kept = nets.kept_oracle(96, 0.9) + nets.kept_oracle(16, 0.9)
    assert row.sparsity == pytest.approx(1 - kept / 112)
    assert (row.parameters, row.macs, row.nonzero_macs) == (129, 112, kept)
    assert kept <= row.nonzero <= kept + 17
    assert row.seconds > 0


@pytest.mark.full
def test_what_is_measured_on_all_images_or_on_the_fold():
    # (labels that are numbers of the images tell which were held out)
    seen = []

    def quality(model, x, y):
        seen.append(tuple(y[:, 0].astype(int)))
        return 1.0

    labels = np.arange(60, dtype="float32")[:, None] // 30
    small(quality=quality, labels=labels, sparsities=(0.5,), seeds=1)
    assert seen == [tuple(labels[:, 0].astype(int))] * 2
    trained = []

    class Count(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            trained.append(self.params["steps"])

    seen.clear()
    result = small(
        quality=quality, labels=labels, sparsities=(0.5,), seeds=1, folds=3,
        callbacks=lambda run: [Count()],
    )  # fmt: skip
    assert [len(each) for each in seen] == [20] * 6 and all(sum(each) == 10 for each in seen)
    assert [(t.fold, t.requested) for t in result.trials][:3] == [(0, None), (1, None), (2, None)]
    assert len(result.trials) == 6 and result.rows[1].pairs == 3


@pytest.mark.full
def test_a_cross_validated_choice_is_reproducible():
    def choice(**arguments):
        found = small(folds=2, labels=(Y > 0).astype("float32"), seeds=1, **arguments)
        return found.recommend(0.5), found.to_dicts()

    one, other = choice(), choice()
    drop = [{k: v for k, v in row.items() if k != "seconds"} for row in one[1]]
    assert drop == [{k: v for k, v in row.items() if k != "seconds"} for row in other[1]]
    assert one[0] == other[0]
    assert choice(seed=1)[1][0]["mean"] != one[1][0]["mean"]


@pytest.mark.full
def test_thresholds():
    result = small(thresholds=(0.05, 0.2), sparsities=(0.99,), seeds=1)
    low, high = result.rows[1:]
    assert (low.requested, high.requested) == (0.05, 0.2)
    assert 0 < low.sparsity < high.sparsity < 0.9
    assert result.table()[0][1] == "threshold" and "threshold" in str(result.recommend(1e9))
    for trial in result.trials[1:]:
        assert trial.quantity == "threshold" and 0 < trial.achieved < 1


@pytest.mark.full
def test_channels_cost_what_the_shrunk_network_costs():
    result = small(granularity="channel", sparsities=(0.5,), seeds=1)
    small_model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(8), keras.layers.Dense(1)]
    )
    expected = profile(small_model, latency=False)
    row = result.rows[1]
    assert (row.parameters, row.macs) == (expected.parameters, expected.macs)


# --- GANs ----------------------------------------------------------------------------------------


def gan_of(pair, **kwargs):
    def build(seed):
        gan = kgp.GANModel(*pair(), nets.LATENT, seed=seed, balance_frequency=0, **kwargs)
        gan.compile()
        return gan

    return build


GAN = {"steps": 4, "batch_size": 50, "sparsities": (0.5,), "seeds": 1, "storage": None}


def judge():
    """Return a judge by means of quarters of the images, which needs no training."""
    layers = [keras.Input((8, 8, 1)), keras.layers.AveragePooling2D(4), keras.layers.Flatten()]
    images = datasets.digits().images[200:600]
    return ImageQuality(images, extractor=FeatureExtractor(keras.Sequential(layers)), samples=300)


@pytest.mark.full
def test_a_gan_is_judged_by_image_quality(capsys):
    digits = datasets.digits().take(200)
    result = sweep(gan_of(nets.mlp_pair, ema_decay=0.9), digits, quality=judge(), **GAN)
    for trial in result.trials:
        assert trial.error is None and {"fd", "coverage", "precision"} <= set(trial.values)
        assert trial.values["samples"] == 300 and trial.values["real_samples"] == 400
    assert result.rows[1].sparsity == pytest.approx(0.5)
    generator = 6 * 24 + 24 * 64
    assert (result.rows[1].macs, result.rows[1].nonzero_macs) == (generator, generator / 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "sweep: study 'sweep' of 2 trials, new."
    assert re.fullmatch(r"sweep: 1/2  dense, seed 0: fd [\d.]+; about \d+ s left\.", lines[1])
    assert re.fullmatch(
        r"sweep: 2/2  magnitude, sparsity 0\.5, seed 0: fd [\d.]+ "
        r"\(dense [\d.]+, [+-][\d.]+%\), achieved 0\.5000\.",
        lines[2],
    )
    assert len(lines) == 3


@pytest.mark.full
def test_image_quality_is_made_anew_of_the_images_held_out():
    digits = datasets.digits().take(200)
    result = sweep(
        gan_of(nets.mlp_pair), digits.images, quality=judge(), folds=2, progress=False, **GAN
    )
    assert [t.values["real_samples"] for t in result.trials] == [100] * 4
    assert len(result.rows) == 2 and result.rows[1].pairs == 2


@pytest.mark.full
def test_a_conditional_gan_gets_its_labels():
    images, labels = nets.images(60), nets.labels(60)
    result = sweep(
        gan_of(nets.conditional_pair),
        images,
        labels,
        quality=lambda gan, x, y: {"fd": float(np.std(gan.generate(len(y), y, seed=0)))},
        progress=False,
        **GAN,
    )
    assert [trial.error for trial in result.trials] == [None, None]


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.full
def test_failed_trials_are_recorded_and_the_sweep_goes_on(tmp_path, capsys):
    database = tmp_path / "sweep.db"
    broken = [True]

    def callbacks(run):
        if broken[0] and run == SweepRun(1, None, "sparsity", 0.9, "magnitude"):
            raise MemoryError("out of it")
        return []

    def quality(model, x, y):
        judged.append(model)
        return {"mse": np.nan if len(judged) == 4 else 1.0}

    judged = []
    arguments = {"callbacks": callbacks, "quality": quality, "storage": database}
    result = small(**arguments, progress=True)
    assert [str(t.error)[:22] for t in result.failed] == [
        "DivergedError: `mse` m",
        "MemoryError: out of it",
    ]
    assert {t.requested for t in result.failed} == {0.9} and len(result.trials) == 6
    assert "seed 1: failed: MemoryError: out of it" in capsys.readouterr().out
    # Both runs at 0.9 failed, so there is no row of them; they stay failed, until it is asked for.
    assert [row.requested for row in result.rows] == [None, 0.5]
    broken[0] = False
    assert len(small(**arguments).failed) == 2
    assert not small(**arguments, retry_failed=True).failed
    loaded = SweepResult.load(database)
    assert [row.requested for row in loaded.rows] == [None, 0.5, 0.9]
    assert loaded.metric == "mse" and len(loaded.trials) == 6


def test_if_all_fail_that_is_an_error():
    def callbacks(run):
        raise ValueError(f"no good: {run}")

    with pytest.raises(PruningError, match=r"All 6 trials .* ValueError: no good: dense, seed 0"):
        small(callbacks=callbacks)


def test_a_run_that_is_stopped_early_has_failed():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    callbacks = lambda run: [] if run.dense else [Stop()]  # noqa: E731
    with pytest.warns(PruningWarning, match="ended"):
        result = small(callbacks=callbacks, seeds=1, sparsities=(0.5,))
    assert "stopped it in epoch 1" in result.failed[0].error


@pytest.mark.full
def test_an_interruption_leaves_it_to_be_gone_on_with(tmp_path):
    trained, interrupt = [], [True]

    def callbacks(run):
        if interrupt[0] and len(trained) == 3:
            interrupt[0] = False
            raise KeyboardInterrupt
        trained.append(str(run))
        return []

    with pytest.raises(KeyboardInterrupt):
        small(callbacks=callbacks, storage=tmp_path / "a.db")
    assert len(trained) == 3
    result = small(callbacks=callbacks, storage=tmp_path / "a.db")
    assert len(trained) == len(set(trained)) == len(result.trials) == 6 and not result.failed


@pytest.mark.full
def test_other_settings_data_or_networks_are_another_study(tmp_path):
    def wider(seed):
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(20), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    arguments = {"storage": tmp_path / "a.db", "sparsities": (0.5,), "seeds": 1}
    small(**arguments, settings={"width": 16})
    for changed, text in (
        ({"steps": 12}, "steps: 10 in the study, 12 now"),
        ({"images": X * 2}, r"images: '60 of 6, \w+' in the study, '60 of 6, \w+' now"),
        (
            {"build": wider},
            "model: 'Sequential of 129 parameters .*, Adam 0.001' in the study, .* SGD 0.01",
        ),
        ({"quality": lambda m, x, y: {"mse": 1.0}}, "quality: 'error_of' in the study"),
        ({"settings": {"width": 20}}, "width: 16 in the study, 20 now"),
        ({"criteria": ("l2",)}, r"criteria: \['magnitude'\] in the study, \['l2'\] now"),
    ):
        with pytest.raises(InvalidArgumentError, match=text):
            small(**{**arguments, "settings": {"width": 16}, **changed})
    # The tolerance is not a setting of a grid, because a grid can be evaluated with any tolerance.
    small(**arguments, settings={"width": 16}, tolerance=0.5)


@pytest.mark.full
@pytest.mark.parametrize(
    ("package", "extra", "call"),
    [
        ("optuna", "sweep", lambda result: small()),
        ("sklearn", "sweep", lambda result: make_folds(4, 2)),
        ("scipy", "quality", lambda result: result.rows),
        ("matplotlib", "demo", lambda result: result.save_pareto("never.png")),
    ],
)
def test_missing_packages_are_named(package, extra, call, without):
    result = small(seeds=2, sparsities=(0.5,))
    without(package)
    with pytest.raises(MissingPackageError, match=rf"pip install 'keras-ganprune\[{extra}\]'"):
        call(result)


# --- the search ----------------------------------------------------------------------------------


def by_sparsity(model, x, y):
    """A metric that is 1 up to sparsity 0.7, and rises steeply behind it."""
    kernels = np.concatenate([to_numpy(w).reshape(-1) for w in model.weights if len(w.shape) > 1])
    return 1.0 + 4.0 * max(0.0, float(np.mean(kernels == 0)) - 0.7)


@pytest.mark.full
def test_tpe_finds_the_highest_sparsity_within_tolerance(tmp_path):
    arguments = {
        "quality": by_sparsity, "search": "tpe", "trials": 10, "sparsities": (0.3, 0.95),
        "steps": 4, "seeds": 1, "begin": 0.25, "end": 0.75, "storage": tmp_path / "a.db",
    }  # fmt: skip
    trained = []
    count = lambda run: trained.append(str(run)) or []  # noqa: E731
    result = small(**arguments, callbacks=count)
    assert len(trained) == len(result.trials) == 11 and len(result.rows) == 11
    best = result.recommend(0.10)
    # The metric is within 10 % up to sparsity 0.725.
    assert 0.6 < best.sparsity <= 0.73
    assert all(0.3 <= t.requested <= 0.95 for t in result.trials if not t.dense)
    # What it was told is within tolerance comes before all that is not.
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path / 'a.db'}")
    values = {t.params["sparsity"]: t.value for t in study.get_trials()[1:]}
    for sparsity, value in values.items():
        assert value > 0 if sparsity < 0.71 else True
        assert value < 0 if sparsity > 0.74 else True
    assert max(values.values()) == pytest.approx(best.sparsity)
    again = small(**arguments, callbacks=count)
    assert len(trained) == 11 and again.to_dicts() == result.to_dicts()
    with pytest.raises(InvalidArgumentError, match=r"tolerance: 0\.1 in the study, 0\.2 now"):
        small(**arguments, tolerance=0.2)


@pytest.mark.full
def test_a_candidate_is_trained_with_all_seeds_and_one_criterion():
    result = small(
        quality=by_sparsity,
        search="tpe",
        trials=3,
        sparsities=(0.3, 0.95),
        criteria=("magnitude", "random"),
        steps=4,
        begin=0.25,
        end=0.75,
    )
    assert len(result.trials) == 2 + 3 * 2
    assert [(row.trials, row.pairs) for row in result.rows] == [(2, 2)] * 4
    assert {row.criterion for row in result.rows[1:]} <= {"magnitude", "random"}
    assert len({row.requested for row in result.rows[1:]}) == 3
