"""`QualityMonitor`: what is measured and when, who reads it, and that training is not affected."""

import csv
import json
import re

import keras
import networks as nets
import numpy as np
import paths
import pytest
from keras import layers, ops
from keras.callbacks import BackupAndRestore, CSVLogger, EarlyStopping, ModelCheckpoint
from keras.optimizers import Adam
from watched_runs import (
    Break,
    Judge,
    any_gan,
    assert_same,
    assert_untouched,
    fit,
    foreign,
    foreign_gan,
    gan_model,
    state,
)

import keras_ganprune as kgp
from keras_ganprune.backend import distribution
from keras_ganprune.callbacks import fixed_inputs
from keras_ganprune.callbacks.diversity_guard import DiversityGuard
from keras_ganprune.callbacks.quality_monitor import QualityMonitor
from keras_ganprune.errors import (
    ArgumentTypeError,
    DataError,
    InvalidArgumentError,
    PruningWarning,
)
from keras_ganprune.metrics import FeatureExtractor, ImageQuality
from keras_ganprune.metrics import extractor_training as training

# --- when and what -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "epochs", "measured", "logged"),
    [
        pytest.param(1, 3, [1, 2, 3], [0, 1, 2], marks=pytest.mark.full),
        (2, 5, [1, 3, 5], [0, 0, 1, 1, 2]),
        pytest.param(3, 6, [1, 4, 6], [0, 0, 0, 1, 1, 2], marks=pytest.mark.full),
        pytest.param(10, 3, [1, 3], [0, 0, 1], marks=pytest.mark.full),
    ],
)
def test_which_epochs_are_measured_and_what_is_carried_on(every, epochs, measured, logged):
    judge = Judge({"fd": [10.0, 11.0, 12.0]})
    monitor = QualityMonitor(judge, every)
    history = fit(any_gan(), monitor, epochs=epochs)
    assert [epoch for epoch, _ in monitor.measured] == measured
    assert history["fd"] == [10.0 + i for i in logged]
    assert [values["coverage"] for _, values in monitor.measured] == [
        float(np.std(images)) for *_, images in judge.calls
    ]
    assert [history["coverage"][epoch - 1] for epoch in measured] == [
        values["coverage"] for _, values in monitor.measured
    ]


@pytest.mark.full
def test_the_last_value_is_what_the_judge_says_after_fit():
    gan, judge = gan_model(), Judge()
    monitor = QualityMonitor(judge, n=12, seed=5)
    history = fit(gan, monitor)
    after = judge.measure_generator(gan, 12, seed=5).to_dict()
    assert monitor.values == after
    assert history["fd"][-1] == after["fd"]
    assert judge.calls[0][2].shape[0] == 12


def test_a_run_that_is_stopped_is_measured_where_it_ends():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    monitor = QualityMonitor(Judge(), every=5)
    fit(any_gan(), Stop(), monitor, epochs=9)
    assert [epoch for epoch, _ in monitor.measured] == [1, 2]


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        (None, {"fd", "coverage"}),
        ("all", {"fd", "coverage", "precision"}),
        ("precision", {"precision"}),
        (["precision", "fd"], {"precision", "fd"}),
    ],
)
def test_names_of_the_logs(metrics, names):
    history = fit(any_gan(), QualityMonitor(Judge(), metrics=metrics, prefix="q_"), epochs=1)
    assert {name for name in history if name.startswith("q_")} == {f"q_{name}" for name in names}
    assert "fd" not in history


def test_missing_classes_are_logged_where_there_are_labels():
    history = fit(any_gan(), QualityMonitor(Judge(missing=[(), (3, 7)])), epochs=2)
    assert history["missing_classes"] == [0.0, 2.0]


def test_unknown_metric():
    monitor = QualityMonitor(Judge(), metrics=("coverag",))
    with pytest.raises(InvalidArgumentError, match=r"'coverag'. Did you mean 'coverage'"):
        fit(any_gan(), monitor)


@pytest.mark.full
def test_seconds_are_counted(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(
        "keras_ganprune.callbacks.quality_monitor.time.perf_counter", lambda: next(now)
    )
    monitor = QualityMonitor(Judge())
    fit(any_gan(), monitor)
    assert monitor.quality_seconds == 3.0


# --- which weights -------------------------------------------------------------------------------


def test_the_averaged_generator_is_judged():
    gan, judge = gan_model(ema_decay=0.9), Judge()
    fit(gan, QualityMonitor(judge))
    assert judge.calls[-1][0] is gan
    assert_same(judge.calls[-1][1], gan.ema_generator.get_weights())
    named = Judge()
    fit(gan, QualityMonitor(named, target="generator"))
    assert named.calls[-1][0] is gan.generator


@foreign
@pytest.mark.full
def test_the_average_that_a_foreign_gan_keeps_is_judged():
    gan, judge = foreign_gan(nets.EmaGAN), Judge()
    fit(gan, QualityMonitor(judge))
    assert judge.calls[-1][0] is gan.ema_generator
    teacher, judge = foreign_gan(nets.DistilledGAN), Judge()
    fit(teacher, QualityMonitor(judge))
    assert judge.calls[-1][0] is teacher.generator


@pytest.mark.parametrize("overwrite", [None, 3])
@pytest.mark.full
def test_averages_of_the_optimizer_are_judged_as_fit_leaves_them(overwrite):
    def make():
        return Adam(1e-2, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=overwrite)

    gan, judge = gan_model(nets.dcgan_pair, make), Judge()
    fit(gan, QualityMonitor(judge), kgp.Prune(0.8, "generator", 2, verbose=0))
    assert_same(judge.calls[-1][1], gan.generator.get_weights())
    nets.assert_exact(0.8, gan.generator)


@foreign
@pytest.mark.full
def test_a_subclassed_network_of_a_foreign_gan():
    generator = nets.SubclassedGenerator()
    generator.build((None, nets.LATENT))
    gan, judge = foreign_gan(nets.GuideGAN, generator=generator), Judge()
    history = fit(gan, QualityMonitor(judge))
    assert judge.calls[-1][0] is generator
    assert np.isfinite(history["fd"]).all()


@foreign
def test_targets_of_other_names():
    class Other(nets.GuideGAN):
        pass

    gan = foreign_gan(Other)
    gan.painter = gan.generator
    assert fixed_inputs.sampled_network(gan, "painter") == ("painter", gan.generator)
    cycle = nets.CycleGAN()
    with pytest.raises(InvalidArgumentError, match=r"Unknown network of CycleGAN: 'generator'"):
        fixed_inputs.sampled_network(cycle)
    with pytest.raises(InvalidArgumentError, match=r"must be one network.*gen_G, gen_F"):
        fixed_inputs.sampled_network(cycle, ["gen_G", "gen_F"])
    with pytest.raises(InvalidArgumentError, match="Did you mean 'gen_G'"):
        fixed_inputs.sampled_network(cycle, "gen_g")


# --- no trace ------------------------------------------------------------------------------------


class Noise(layers.Layer):
    """Draws noise in inference too, as StyleGAN does."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(7)

    def call(self, x):
        return x + 0.1 * keras.random.normal(ops.shape(x), seed=self.seeds)


def noisy_pair():
    generator = nets.mlp_generator()
    z = keras.Input((nets.LATENT,))
    return keras.Model(z, Noise()(generator(z)), name="generator"), nets.mlp_discriminator()


def use_ema():
    return Adam(1e-2, use_ema=True, ema_momentum=0.9)


CASES = {
    "plain": lambda: gan_model(),
    "dcgan": lambda: gan_model(nets.dcgan_pair, ema_decay=0.9),
    "dropout": lambda: gan_model(lambda: nets.mlp_pair(dropout=0.3)),
    "noise": lambda: gan_model(noisy_pair),
    "use_ema": lambda: gan_model(make=use_ema),
}
FOREIGN = {
    "ema": lambda: foreign_gan(nets.EmaGAN),
    "foreign_use_ema": lambda: foreign_gan(nets.GuideGAN, use_ema),
}
every_gan = pytest.mark.parametrize("make", [
    pytest.param(f, id=k, marks=[] if k == "noise" else pytest.mark.full) for k, f in CASES.items()
] + [
    pytest.param(f, id=k, marks=[foreign, pytest.mark.full]) for k, f in FOREIGN.items()
])  # fmt: skip


@every_gan
def test_training_goes_on_bit_by_bit(make):
    watching = (QualityMonitor(Judge()), DiversityGuard(coverage=0.9))
    assert_untouched(make, before=watching, written=("fd", "coverage"))


@pytest.mark.full
def test_a_function_may_look_at_any_model():
    x, y = nets.classifier_data()

    def train(*callbacks):
        keras.utils.set_random_seed(3)
        model = nets.classifier()
        model.compile(Adam(1e-2), nets.classifier_loss(), metrics=["accuracy"])
        history = model.fit(
            x, y, epochs=2, verbose=0, shuffle=False, callbacks=list(callbacks)
        ).history
        return model, history

    def quality(model):
        # `evaluate` resets the metrics; this must have no effect either.
        loss = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
        return {"right": np.mean(nets.value(model(x)).argmax(1) == y), "again": loss}

    model, plain = train()
    monitor = QualityMonitor(quality)
    judged, history = train(monitor)
    assert_same(state(model), state(judged))
    assert {k: history[k] for k in plain} == plain
    assert history["right"][-1] == np.mean(nets.value(judged(x)).argmax(1) == y)
    assert history["again"][-1] == monitor.measured[-1][1]["again"]
    assert monitor.missing_classes is None


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.full
def test_the_judge_of_the_package(labelled):
    """Real features and classes, from an untrained network."""
    x, y = nets.images(60), np.arange(60) % 3

    def quality():
        keras.utils.set_random_seed(6)
        image = keras.Input((nets.SIZE, nets.SIZE, 1))
        features = layers.Dense(4, name="features")(layers.Flatten()(image))
        outputs = layers.Dense(3, activation="softmax")(features) if labelled else features
        network = keras.Model(image, outputs)
        extractor = FeatureExtractor(network, "features", classes=3 if labelled else None)
        return ImageQuality(x, y if labelled else None, extractor=extractor, samples=250)

    def train(*callbacks):
        gan = gan_model(ema_decay=0.9)
        return gan, fit(gan, *callbacks, epochs=2)

    judge = quality()
    gan, history = train(QualityMonitor(judge, seed=3), DiversityGuard(coverage=0.9))
    after = judge.measure_generator(gan, seed=3)
    assert history["fd"][-1] == after.fd and history["coverage"][-1] == after.coverage
    assert ("missing_classes" in history) == labelled
    if labelled:
        assert history["missing_classes"][-1] == len(after.missing_classes)
    assert_same(state(train()[0]), state(gan))


def test_a_function_gets_the_target():
    seen = []

    def quality(network):
        seen.append(network)
        return {"size": network.count_params()}

    gan = any_gan()
    history = fit(gan, QualityMonitor(quality, target="discriminator"), epochs=1)
    assert seen == [gan.discriminator]
    assert history["size"] == [gan.discriminator.count_params()]


# --- who sees it ---------------------------------------------------------------------------------


def test_keras_callbacks_watch_it(tmp_path):
    fd = [5.0, 4.0, 3.0, 6.0, 7.0, 8.0]
    best = tmp_path / "best.weights.h5"
    gan = any_gan()
    history = fit(
        gan,
        QualityMonitor(Judge({"fd": fd})),
        CSVLogger(str(tmp_path / "log.csv")),
        ModelCheckpoint(
            str(best), monitor="fd", mode="min", save_best_only=True, save_weights_only=True
        ),
        EarlyStopping("fd", mode="min", patience=2, restore_best_weights=True),
        epochs=6,
    )
    assert history["fd"] == fd[:5]
    with (tmp_path / "log.csv").open() as file:
        assert [float(row["fd"]) for row in csv.DictReader(file)] == fd[:5]
    # Both have kept the third epoch.
    restored = gan.get_weights()
    gan.load_weights(best)
    assert_same(gan.get_weights(), restored)


@pytest.mark.full
def test_adaptive_sparsity_watches_it(capsys):
    # Two trials hold, a third one does not.
    monitor = QualityMonitor(Judge({"fd": [1.0, 1.05, 1.08, 2.0, 1.0]}))
    schedule = kgp.AdaptiveSparsity("fd", 0.1, increment=0.2)
    prune = kgp.Prune(schedule, "generator", 2)
    gan = gan_model()
    history = fit(gan, monitor, prune, epochs=4)
    assert history["generator_sparsity"] == pytest.approx([0.0, 0.2, 0.4, 0.4], abs=0.01)
    assert "did not hold (fd 2 against 1)" in capsys.readouterr().out


WATCHERS = {
    "early": lambda: EarlyStopping("coverage", mode="max"),
    "checkpoint": lambda: ModelCheckpoint("x.weights.h5", monitor="coverage", mode="max"),
    "adaptive": lambda: kgp.Prune(
        kgp.AdaptiveSparsity("coverage", direction="max"), "generator", verbose=0
    ),
}


@pytest.mark.parametrize("make", WATCHERS.values(), ids=WATCHERS)
def test_a_watcher_in_front_is_an_error_before_the_first_batch(make):
    gan = gan_model()
    with pytest.raises(
        InvalidArgumentError,
        match=r"`QualityMonitor` must stand before .* of 'coverage' in front of it",
    ):
        fit(gan, make(), QualityMonitor(Judge()))
    assert int(gan.generator_optimizer.iterations) == 0


def test_a_watcher_in_front_of_a_guard_that_measures():
    with pytest.raises(InvalidArgumentError, match="`DiversityGuard` must stand before"):
        fit(any_gan(), WATCHERS["early"](), DiversityGuard(Judge()))


def test_a_watcher_in_front_of_a_function_whose_names_are_not_known_yet():
    # Keras's own callback only warns, in every epoch.
    with (
        pytest.warns(UserWarning, match="conditioned on metric `mine`"),
        pytest.raises(InvalidArgumentError, match="EarlyStopping of 'mine' in front of it"),
    ):
        fit(any_gan(), EarlyStopping("mine", mode="min"), QualityMonitor(lambda m: {"mine": 1}))


@pytest.mark.full
def test_a_csv_logger_in_front_misses_it(tmp_path):
    with pytest.warns(PruningWarning, match=r"CSVLogger stands before .* coverage, fd"):
        fit(any_gan(), CSVLogger(str(tmp_path / "log.csv")), QualityMonitor(Judge()))
    # After it there is no warning; a warning would be an error here.
    fit(any_gan(), QualityMonitor(Judge()), CSVLogger(str(tmp_path / "log.csv")))


@pytest.mark.full
def test_a_trial_that_is_never_measured():
    prune = kgp.Prune(kgp.AdaptiveSparsity("fd", recovery_epochs=2), "generator", verbose=0)
    with pytest.raises(InvalidArgumentError, match=r"recovery_epochs=2, every=3. Use every=2"):
        fit(gan_model(), QualityMonitor(Judge(), every=3), prune)
    fit(gan_model(), QualityMonitor(Judge(), every=2), prune, epochs=2)


def test_two_monitors():
    one, two = QualityMonitor(Judge({"fd": [1.0]})), QualityMonitor(Judge({"fd": [2.0]}))
    with pytest.raises(InvalidArgumentError, match=r"must not write the same log.*`prefix`"):
        fit(any_gan(), one, two, epochs=1)
    two = QualityMonitor(Judge({"fd": [2.0]}), prefix="other_")
    history = fit(any_gan(), QualityMonitor(Judge({"fd": [1.0]})), two, epochs=1)
    assert (history["fd"], history["other_fd"]) == ([1.0], [2.0])


def test_a_log_of_that_name_is_there_already():
    monitor = QualityMonitor(lambda model: {"generator_loss": 1.0})
    with pytest.raises(InvalidArgumentError, match=r"'generator_loss' exists already.*prefix"):
        fit(any_gan(), monitor)


def test_the_first_worker_decides(monkeypatch):
    told = json.dumps([{"fd": 42.0, "coverage": 0.5}, [3]])
    monkeypatch.setattr(distribution, "count", lambda like: 2)
    monkeypatch.setattr(distribution, "gather", lambda text, like: [told, text])
    monkeypatch.setattr(distribution, "any_of", lambda flag, like: flag)
    monitor = QualityMonitor(Judge())
    history = fit(any_gan(), monitor, epochs=1)
    assert (history["fd"], monitor.missing_classes) == ([42.0], (3,))


# --- what goes wrong -----------------------------------------------------------------------------


class Ruin(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            network = getattr(self.model, "ema_generator", None) or self.model.generator
            network.weights[0].assign(np.full(network.weights[0].shape, np.nan))


@pytest.mark.parametrize(
    ("make", "epochs"),
    [
        # (Later epochs are stopped by its `NaNGuard`.)
        pytest.param(lambda: gan_model(ema_decay=0.9), 2, id="gan_model"),
        pytest.param(
            lambda: foreign_gan(nets.GuideGAN), 4, id="foreign", marks=[foreign, pytest.mark.full]
        ),
    ],
)
def test_a_diverged_generator_has_nan_for_quality(make, epochs):
    judge = Judge()
    monitor = QualityMonitor(judge, metrics=("fd", "precision"))
    with pytest.warns(PruningWarning, match="The quality is NaN: .* has diverged") as caught:
        history = fit(make(), Ruin(), monitor, epochs=epochs)
    assert np.isfinite(history["fd"][0])
    assert np.isnan(history["fd"][1:]).all() and np.isnan(history["precision"][1:]).all()
    assert len(judge.calls) == 1
    assert sum("quality is NaN" in str(w.message) for w in caught) == 1
    assert monitor.report is None and np.isnan(monitor.values["fd"])


@pytest.mark.full
def test_diverged_in_the_first_epoch():
    class Now(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.ema_generator.weights[0].assign(np.full((nets.LATENT, 24), np.inf))

    with pytest.warns(PruningWarning, match="The quality is NaN"):
        history = fit(gan_model(ema_decay=0.9), Now(), QualityMonitor(Judge()), epochs=1)
    assert np.isnan(history["fd"]).all() and np.isnan(history["coverage"]).all()


class Overflow(layers.Layer):
    def call(self, x, training=False):
        return x if training else x * 1e38 * 1e38


@pytest.mark.full
def test_images_that_are_nan_though_no_weight_is():
    def pair():
        z = keras.Input((nets.LATENT,))
        return keras.Model(z, Overflow()(nets.mlp_generator()(z))), nets.mlp_discriminator()

    with pytest.warns(PruningWarning, match="images of 'generator' = nan"):
        history = fit(gan_model(pair), QualityMonitor(Judge()), epochs=1)
    assert np.isnan(history["fd"]).all()


def test_what_else_the_judge_finds_wrong_is_an_error():
    class Strict:
        def measure_generator(self, generator, n=None, seed=0):
            raise DataError("Four images at least.")

    with pytest.raises(DataError, match="Four images at least"):
        fit(any_gan(), QualityMonitor(Strict()))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            {"quality": 3},
            ArgumentTypeError,
            r"`quality` must be an `ImageQuality`.*\(of type int",
        ),
        ({"quality": Judge}, ArgumentTypeError, r"not its class.*`Judge\(...\)`"),
        ({"every": 0}, InvalidArgumentError, "`every` must be a positive int. Received: 0"),
        ({"n": 2.5}, InvalidArgumentError, "`n` must be a positive int"),
        ({"seed": -1}, InvalidArgumentError, "`seed` must be a non-negative int"),
        ({"metrics": ()}, InvalidArgumentError, "`metrics` must be names"),
        ({"metrics": (1,)}, InvalidArgumentError, "`metrics` must be names"),
        ({"prefix": None}, InvalidArgumentError, "`prefix` must be text"),
    ],
)
def test_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        QualityMonitor(**{"quality": Judge(), **arguments})


def test_functions_that_return_something_else():
    with pytest.raises(ArgumentTypeError, match=r"must return a dict of floats.*0.5"):
        fit(any_gan(), QualityMonitor(lambda model: 0.5))
    with pytest.raises(
        ArgumentTypeError, match=r"must return one number per name. Received: 'a' = \[1, 2\]"
    ):
        fit(any_gan(), QualityMonitor(lambda model: {"a": [1, 2]}))


def test_repr():
    monitor = QualityMonitor(Judge({"fd": [1.5]}), 3, metrics="fd")
    assert repr(monitor) == "<QualityMonitor Judge every 3 epochs>"
    fit(any_gan(), monitor, epochs=1)
    assert repr(monitor) == "<QualityMonitor Judge every 3 epochs: fd=1.5>"


def test_a_wrong_target_is_told_before_the_first_batch():
    gan = gan_model()
    with pytest.raises(InvalidArgumentError, match="Did you mean 'generator'"):
        fit(gan, QualityMonitor(Judge(), target="generater"))
    assert int(gan.generator_optimizer.iterations) == 0


# --- cut short and resumed -----------------------------------------------------------------------


@pytest.mark.full
def test_a_resumed_run_goes_on(tmp_path):
    def run(folder, *callbacks):
        monitor = QualityMonitor(Judge(), every=2)
        backup = BackupAndRestore(str(tmp_path / folder), delete_checkpoint=False)
        history = fit(gan_model(), monitor, backup, *callbacks, epochs=5)
        return monitor, history

    whole, expected = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("cut", Break())
    resumed, history = run("cut")
    assert [epoch for epoch, _ in resumed.measured] == [3, 5]
    assert resumed.measured == whole.measured[1:]
    assert history["fd"] == expected["fd"][2:]


@pytest.mark.full
def test_the_same_monitor_in_another_fit():
    monitor, gan = QualityMonitor(Judge(), every=4), any_gan()
    fit(gan, monitor, epochs=1)
    fit(gan, monitor, epochs=5)
    assert [epoch for epoch, _ in monitor.measured] == [1, 1, 5]


# --- the page ------------------------------------------------------------------------------------


@pytest.mark.full
def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_GANPRUNE_CACHE", str(tmp_path))
    # The accuracy of the classifier does not matter here.
    monkeypatch.setattr(training, "epochs_for", lambda size, epochs: 2)
    page = paths.DOCS / "monitoring.md"
    names: dict = {"__name__": "monitoring"}
    snippets = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert snippets
    for snippet in snippets:
        exec(compile(snippet, "docs/monitoring.md", "exec"), names)
    assert (tmp_path / "samples" / "training.gif").stat().st_size > 0
