"""`Prune`: when masks change, what is logged and what is refused; and `NaNGuard`."""

import copy
import csv
import re

import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf
from cases import cases
from keras import layers
from keras.optimizers import SGD, Adam

import keras_ganprune as kgp
from keras_ganprune.errors import (
    ArgumentTypeError,
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.layers import traversal
from keras_ganprune.training import discovery

BOTH = ["generator", "discriminator"]


def gan_model(pair=None, optimizer=lambda: Adam(1e-2, 0.5), **kwargs):
    kwargs = {"balance_frequency": 0, **kwargs}
    gan = kgp.GANModel(*(pair or nets.mlp_pair()), nets.LATENT, seed=1, **kwargs)
    gan.compile(optimizer(), optimizer())
    return gan


def fit(model, *callbacks, batches=8, epochs=1, verbose=0, **kwargs):
    return model.fit(
        nets.images(4 * batches),
        batch_size=4,
        epochs=epochs,
        verbose=verbose,
        callbacks=list(callbacks),
        **kwargs,
    )


def prune(schedule=0.8, target="generator", frequency=2, **kwargs):
    return kgp.Prune(schedule, target, frequency, **{"verbose": 0, **kwargs})


# --- when ----------------------------------------------------------------------------------------


@cases(
    1,
    ("begin", "end", "frequency", "steps"),
    [
        (0, 8, 2, [0, 2, 4, 6, 8]),
        (1, 8, 3, [1, 4, 7, 8]),
        (2, 7, 5, [2, 7]),
        (3, 6, 100, [3, 6]),
        (0, 1, 1, [0, 1]),
        (2, 5, 1, [2, 3, 4, 5]),
    ],
)
def test_update_steps(begin, end, frequency, steps):
    schedule = kgp.PolynomialDecay(0.8, begin, end, initial_sparsity=0.2)
    callback = prune(schedule, frequency=frequency)
    gan = gan_model()
    fit(gan, callback)
    assert [step for step, *_ in callback.updates] == steps
    sizes = [np.prod(w.mask.shape) for w in kgp.masked_weights(gan.generator)]
    for step, requested, achieved in callback.updates:
        assert requested == schedule(step)
        kept = sum(nets.kept_oracle(n, requested) for n in sizes)
        assert achieved == 1 - kept / sum(sizes)


@cases(
    1,
    ("schedule", "steps"),
    [
        (kgp.ConstantSparsity(0.5), [0, 3, 6]),
        (kgp.ConstantSparsity(0.5, 2), [2, 5, 8]),
        (kgp.ConstantSparsity(0.5, 2, 4), [2, 4]),
        (kgp.Threshold(0.05, 1, 7), [1, 4, 7]),
        (0.5, [0, 3, 6]),
    ],
)
@pytest.mark.full
def test_update_steps_of_other_schedules(schedule, steps):
    callback = prune(schedule, frequency=3)
    fit(gan_model(), callback)
    assert [step for step, *_ in callback.updates] == steps


@pytest.mark.full
def test_the_masks_follow_the_schedule_batch_by_batch():
    gan = gan_model()
    schedule = kgp.PolynomialDecay(0.8, 2, 6)
    watch = nets.Watch(gan.generator)
    fit(gan, prune(schedule), watch)
    sizes = [int(np.prod(w.mask.shape)) for w in kgp.masked_weights(gan.generator)]
    updates = {2: 2, 3: 2, 4: 4, 5: 4, 6: 6, 7: 6, 8: 6}  # optimizer step -> the update in force
    for step, kept in enumerate(watch.kept, start=1):
        sparsity = schedule(updates[step]) if step in updates else 0.0
        assert kept == sum(nets.kept_oracle(n, sparsity) for n in sizes)


def test_the_clock_is_that_of_the_target_own_optimizer():
    gan = gan_model(discriminator_steps=3)
    of_generator, of_discriminator = prune(frequency=2), prune(target="discriminator", frequency=6)
    fit(gan, of_generator, of_discriminator)
    assert [step for step, *_ in of_generator.updates] == [0, 2, 4, 6, 8]
    assert [step for step, *_ in of_discriminator.updates] == [0, 6, 12, 18, 24]


@pytest.mark.full
def test_accumulated_batches_are_one_step():
    gan = gan_model(optimizer=lambda: Adam(1e-2, gradient_accumulation_steps=2))
    callback = prune(kgp.PolynomialDecay(0.8, 1, 4), frequency=1)
    fit(gan, callback)
    assert [step for step, *_ in callback.updates] == [1, 2, 3, 4]


class NoOptimizer(keras.Model):
    """Updates its weights without a Keras optimizer."""

    def __init__(self):
        super().__init__()
        self.generator = nets.mlp_generator()

    def train_step(self, data):
        for weight in self.generator.trainable_weights:
            weight.assign(weight * 0.99)
        return {"loss": keras.ops.sum(self.generator.trainable_weights[0])}


def test_batches_are_counted_where_there_is_no_optimizer():
    model = NoOptimizer()
    model.compile()
    model.optimizer = None
    callback = prune(kgp.PolynomialDecay(0.8, 3, 11), frequency=4)
    fit(model, callback, epochs=2)
    assert [step for step, *_ in callback.updates] == [3, 7, 11]
    nets.assert_exact(0.8, model.generator)


# --- what else changes at an update --------------------------------------------------------------


class Slots(keras.callbacks.Callback):
    """Right after each update, counts slots that are not zero where the mask prunes."""

    def __init__(self, callback):
        super().__init__()
        self.callback, self.seen, self.found = callback, 0, []

    def on_train_batch_end(self, batch, logs=None):
        if len(self.callback.updates) == self.seen:
            return
        self.seen = len(self.callback.updates)
        masks = {id(w.variable): nets.value(w.mask) for w in self.callback.pruner.weights}
        for optimizer in discovery.optimizers(self.model):
            for variable, slot in discovery.slots(optimizer):
                if id(variable) in masks:
                    mask = masks[id(variable)]
                    kept = np.count_nonzero(nets.value(slot)[mask])
                    self.found.append((np.count_nonzero(nets.value(slot)[~mask]), kept))


@cases(
    ("ema",),
    "optimizer",
    [lambda: Adam(1e-2), lambda: SGD(1e-2, momentum=0.9), lambda: Adam(1e-2, use_ema=True)],
    ids=["adam", "sgd", "ema"],
)
def test_slots_are_zero_at_pruned_entries(optimizer):
    gan = gan_model(optimizer=optimizer)
    callback = prune(kgp.PolynomialDecay(0.8, 2, 6), target=BOTH)
    slots = Slots(callback)
    fit(gan, callback, slots)
    assert slots.seen == 3 and slots.found
    assert all(pruned == 0 for pruned, _ in slots.found)
    assert sum(kept for _, kept in slots.found) > 0


def test_a_joint_list_shares_one_total():
    gan = gan_model()
    for w in gan.discriminator.trainable_weights:
        w.assign(0.1 * w)  # so that the ranking takes more from one network than from the other
    callback = prune(0.7, BOTH, allocation="global_ranking", frequency=100)
    history = fit(gan, callback).history
    weights = kgp.masked_weights(gan.generator, gan.discriminator)
    total = sum(int(np.prod(w.mask.shape)) for w in weights)
    kept = {
        name: sum(int(nets.value(w.mask).sum()) for w in kgp.masked_weights(getattr(gan, name)))
        for name in BOTH
    }
    assert sum(kept.values()) == nets.kept_oracle(total, 0.7)
    assert callback.report.kept == sum(kept.values())
    for name in BOTH:
        size = sum(int(np.prod(w.mask.shape)) for w in kgp.masked_weights(getattr(gan, name)))
        assert history[f"{name}_sparsity"] == [1 - kept[name] / size]
    assert history["discriminator_sparsity"][0] > history["generator_sparsity"][0] + 0.1


@pytest.mark.full
def test_two_callbacks_for_two_networks():
    gan = gan_model()
    fit(gan, prune(0.8), prune(kgp.Threshold(0.05), target="discriminator", frequency=100))
    nets.assert_exact(0.8, gan.generator)
    for weight in kgp.masked_weights(gan.discriminator):
        assert 0 < nets.value(weight.mask).sum() < np.prod(weight.mask.shape)
    assert nets.leaks(gan.generator, gan.discriminator) == {}


@pytest.mark.full
def test_all_state_is_set_in_the_constructor():
    gan, callback = gan_model(), prune(kgp.PolynomialDecay(0.8, 2, 6), target=BOTH)
    twin = copy.deepcopy(callback)
    names = set(vars(callback))
    fit(gan, callback)
    assert set(vars(callback)) == names
    assert callback.report is callback.reports[-1] and callback.pruner is not None
    assert twin.pruner is None and twin.report is None and twin.updates == []
    assert twin.settings == callback.settings


# --- targets -------------------------------------------------------------------------------------


@cases(
    1,
    ("target", "keys"),
    [
        ("generator", {"generator_sparsity"}),
        (BOTH, {"generator_sparsity", "discriminator_sparsity"}),
        (None, {"sparsity"}),
    ],
)
def test_target_forms(target, keys):
    gan = gan_model()
    history = fit(gan, prune(0.5, target)).history
    assert {key for key in history if "sparsity" in key} == keys
    nets.assert_exact(0.5, gan.generator)
    pruned = bool(kgp.masked_weights(gan.discriminator))
    assert pruned == (target != "generator")


@pytest.mark.full
def test_none_with_an_averaged_generator():
    gan = gan_model(ema_decay=0.9)
    history = fit(gan, prune(0.5, None)).history
    assert [key for key in history if "sparsity" in key] == ["sparsity"]
    nets.assert_exact(0.5, gan.generator, gan.discriminator, gan.ema_generator)


@pytest.mark.full
def test_a_network_as_target():
    gan = gan_model()
    history = fit(gan, prune(0.5, gan.discriminator)).history
    assert "discriminator_sparsity" in history
    nets.assert_exact(0.5, gan.discriminator)
    assert kgp.masked_weights(gan.generator) == []


@pytest.mark.full
def test_dotted_target():
    class Outer(nets.GuideGAN):
        def __init__(self):
            super().__init__()
            self.parts = keras.Model()
            self.parts.inner = self.generator

    gan = Outer()
    gan.compile(Adam(1e-2), Adam(1e-2))
    history = fit(gan, prune(0.5, "parts.inner")).history
    assert "parts_inner_sparsity" in history
    nets.assert_exact(0.5, gan.generator)


@pytest.mark.full
def test_a_plain_model():
    model = nets.classifier()
    model.compile(Adam(1e-2), nets.classifier_loss())
    callback = kgp.Prune(kgp.PolynomialDecay(0.75, 0, 4), frequency=2)
    model.fit(*nets.classifier_data(), batch_size=8, verbose=0, callbacks=[callback])
    nets.assert_exact(0.75, model)


@pytest.mark.full
def test_scope_leaves_layers_out():
    gan = gan_model(nets.dcgan_pair())
    callback = prune(0.8, scope=layers.Conv2DTranspose)
    history = fit(gan, callback).history
    (weight,) = kgp.masked_weights(gan.generator)
    assert isinstance(weight.layer, layers.Conv2DTranspose)
    assert history["generator_sparsity"] == [callback.report.achieved]


# --- logs ----------------------------------------------------------------------------------------


def test_logs_reach_history_csv_and_progress_bar(tmp_path, capsys):
    gan = gan_model()
    path = tmp_path / "log.csv"
    callback = prune(kgp.PolynomialDecay(0.8, 1, 16), target=BOTH, frequency=5)
    logger = keras.callbacks.CSVLogger(str(path))
    history = fit(gan, callback, logger, epochs=2, verbose=1).history
    rows = list(csv.DictReader(path.open()))
    assert len(rows) == 2
    sizes = {
        name: [int(np.prod(w.mask.shape)) for w in kgp.masked_weights(getattr(gan, name))]
        for name in BOTH
    }
    for name in BOTH:
        key = f"{name}_sparsity"
        for epoch, due in enumerate((6, 16)):
            sparsity = kgp.PolynomialDecay(0.8, 1, 16)(due)
            kept = sum(nets.kept_oracle(n, sparsity) for n in sizes[name])
            assert history[key][epoch] == 1 - kept / sum(sizes[name])
            assert float(rows[epoch][key]) == pytest.approx(history[key][epoch])
    # The bar shows the last value, or in older versions of Keras the mean of the epoch.
    assert re.search(r"generator_sparsity: 0\.[6-8]", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("granularity", "target"),
    [
        *(("unstructured", target) for target in ("generator", BOTH, None)),
        *(("channel", target) for target in ("generator", BOTH)),
    ],
    ids=str,
)
def test_at_most_two_logs_for_each_target(granularity, target):
    """Keras's bar shows all of them. The other logs of a GAN are its own."""
    gan = gan_model()
    callback = prune(0.5, target=target, granularity=granularity)
    own = set(fit(gan_model()).history)
    added = set(fit(gan, callback).history) - own
    names = [""] if target is None else [f"{n}_" for n in ([target] if target != BOTH else BOTH)]
    kinds = ["sparsity"] if granularity == "unstructured" else ["sparsity", "channel_sparsity"]
    assert added == {f"{name}{kind}" for name in names for kind in kinds}


@pytest.mark.full
def test_tensorboard_gets_the_sparsity(tmp_path):
    pytest.importorskip("tensorboard")
    gan = gan_model()
    fit(gan, prune(0.5), keras.callbacks.TensorBoard(str(tmp_path), write_graph=False))
    tags = set()
    for file in tmp_path.rglob("events*"):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            tags |= {value.tag for value in event.summary.value}
    assert "epoch_generator_sparsity" in tags


@pytest.mark.full
def test_early_stopping_and_checkpoint_can_watch_it(tmp_path):
    gan = gan_model()
    stop = keras.callbacks.EarlyStopping("generator_sparsity", mode="min", patience=0)
    fit(gan, prune(0.5), stop, epochs=5)
    assert stop.stopped_epoch == 1


# --- TFMOT's schedules ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tfmot():
    return pytest.importorskip("tensorflow_model_optimization").sparsity.keras


def test_tfmot_schedules_have_equal_values(tfmot):
    theirs = tfmot.PolynomialDecay(0.2, 0.8, 100, 110, power=3, frequency=1)
    ours = kgp.Prune(theirs).schedule
    assert ours == kgp.PolynomialDecay(0.8, 100, 110, initial_sparsity=0.2, power=3)
    for step in range(100, 111):
        due, sparsity = theirs(tf.constant(step, tf.int64))
        assert bool(due) == ours.is_update_step(step, 1)
        assert ours(step) == pytest.approx(float(sparsity), abs=1e-6)
    theirs = tfmot.ConstantSparsity(0.5, 3, end_step=20, frequency=5)
    ours = kgp.Prune(theirs).schedule
    for step in range(0, 20):
        due, sparsity = theirs(tf.constant(step, tf.int64))
        assert bool(due) == ours.is_update_step(step, 5)
        if due:
            assert ours(step) == pytest.approx(float(sparsity))


@pytest.mark.full
def test_tfmot_schedules_bring_their_frequency(tfmot):
    schedule = tfmot.PolynomialDecay(0.0, 0.8, 1, 7, frequency=3)
    assert kgp.Prune(schedule).frequency == 3
    assert kgp.Prune(schedule, frequency=2).frequency == 2
    assert kgp.Prune(0.5).frequency == 100
    gan = gan_model()
    callback = kgp.Prune(schedule, "generator", verbose=0)
    fit(gan, callback)
    assert [step for step, *_ in callback.updates] == [1, 4, 7]
    nets.assert_exact(0.8, gan.generator)


@pytest.mark.full
def test_tfmot_schedule_without_an_end(tfmot):
    gan = gan_model()
    callback = kgp.Prune(tfmot.ConstantSparsity(0.5, 0, frequency=4), "generator", verbose=0)
    fit(gan, callback)
    assert [step for step, *_ in callback.updates] == [0, 4, 8]


# --- warnings ------------------------------------------------------------------------------------


def test_training_that_ends_too_early_warns_and_goes_on():
    gan = gan_model()
    schedule = kgp.PolynomialDecay(0.8, 0, 12)
    with pytest.warns(PruningWarning, match=r"ended at step 8, before the schedule's end_step 12"):
        fit(gan, prune(schedule))
    callback = prune(schedule)
    fit(gan, callback)
    # The optimizer's own count goes on, and so does the schedule.
    assert [step for step, *_ in callback.updates] == [10, 12]
    nets.assert_exact(0.8, gan.generator)


def test_a_start_in_mid_schedule_warns():
    gan = gan_model()
    fit(gan, epochs=2)
    with pytest.warns(PruningWarning, match=r"at step 16 already, past begin_step 4: .* to 0.7"):
        fit(gan, prune(kgp.PolynomialDecay(0.8, 4, 20)))
    nets.assert_exact(0.8, gan.generator)


@pytest.mark.full
def test_a_start_at_the_step_it_is_at_does_not_warn():
    gan = gan_model()
    fit(gan)
    callback = prune(kgp.PolynomialDecay(0.8, 8, 12))
    fit(gan, callback)
    assert [step for step, *_ in callback.updates] == [8, 10, 12]


@pytest.mark.full
def test_verbose_says_what_was_found_unasked(capsys):
    gan = gan_model(ema_decay=0.9)
    fit(gan, prune(0.5, verbose=1))
    assert (
        capsys.readouterr().out.strip()
        == "Prune: 'ema_generator' is an average of 'generator' and gets the same masks."
    )


@pytest.mark.full
def test_repr():
    callback = prune(kgp.PolynomialDecay(0.8, 0, 4))
    assert "every 2 steps" in repr(callback) and "'generator'" in repr(callback)
    fit(gan_model(), callback)
    assert "sparsity 0.79" in repr(callback) or "sparsity 0.80" in repr(callback)


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [80, -0.1, 1.0, float("nan"), float("inf"), 100])
def test_sparsity_that_is_no_fraction(value):
    for make in (kgp.Prune, kgp.ConstantSparsity, lambda s: kgp.PolynomialDecay(s, 0, 10)):
        with pytest.raises(InvalidArgumentError, match=r"must be a fraction in \[0, 1\)"):
            make(value)


@pytest.mark.parametrize("value", [0, -5, 2.5, True, "100", float("nan")])
def test_frequency(value):
    with pytest.raises(InvalidArgumentError, match="`frequency` must be a positive int"):
        kgp.Prune(0.5, frequency=value)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"criterion": "magnitud"}, InvalidArgumentError, "Did you mean 'magnitude'"),
        ({"criterion": 3}, ArgumentTypeError, "The criterion must be a name"),
        ({"granularity": "blocky"}, InvalidArgumentError, "Unknown granularity 'blocky'"),
        ({"allocation": "globl"}, InvalidArgumentError, "Unknown allocation 'globl'"),
        ({"mode": "gentle"}, InvalidArgumentError, "Unknown mode 'gentle'"),
        ({"schedule": "polynomial"}, InvalidArgumentError, "Unknown schedule 'polynomial'"),
        ({"schedule": None}, ArgumentTypeError, "The schedule must be a name"),
        ({"schedule": kgp.PolynomialDecay}, ArgumentTypeError, "schedule must be an instance, not"),
    ],
)
def test_bad_settings_are_found_at_construction(arguments, error, match):
    with pytest.raises(error, match=match):
        kgp.Prune(**{"schedule": 0.5, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"target": "generater"}, InvalidArgumentError, "Did you mean 'generator'"),
        ({"target": "loss_pair"}, ArgumentTypeError, "GANModel.loss_pair is a NonSaturating"),
        ({"scope": "head"}, InvalidArgumentError, "Unknown layer in `scope`: 'head'"),
        ({"scope": layers.Conv3D}, InvalidArgumentError, "must match at least one prunable layer"),
    ],
)
def test_bad_targets_leave_the_model_as_it_was(arguments, error, match):
    gan = gan_model()
    before = gan.get_weights()
    with pytest.raises(error, match=match):
        fit(gan, kgp.Prune(0.5, **{"target": "generator", **arguments}))
    assert kgp.masked_weights(gan.generator) == []
    assert int(gan.generator_optimizer.iterations) == 0
    for one, two in zip(before, gan.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_regex_that_matches_nothing():
    import re

    with pytest.raises(InvalidArgumentError, match=r"'\^head\$' matches none of"):
        fit(gan_model(), prune(scope=re.compile("^head$")))


def test_nothing_prunable():
    x = keras.Input((4,))
    model = keras.Model(x, layers.BatchNormalization()(x))
    model.compile("sgd", "mse")
    data = np.ones((8, 4), "float32")
    with pytest.raises(
        UnsupportedLayerError, match=r"has no layer that can be pruned\. Known: .*Conv1D"
    ):
        model.fit(data, data, verbose=0, callbacks=[kgp.Prune(0.5)])


def test_a_target_that_no_batch_builds():
    class Idle(nets.GuideGAN):
        def __init__(self):
            super().__init__()
            self.unused = keras.Sequential([layers.Dense(3)])

    gan = Idle()
    gan.compile(Adam(1e-2), Adam(1e-2))
    with pytest.raises(UnbuiltModelError, match="must be built before it is pruned"):
        fit(gan, prune(target="unused"))


# --- NaNGuard ------------------------------------------------------------------------------------


class Keep(keras.callbacks.Callback):
    """Copies the state at each epoch begin, to compare with what comes back."""

    def on_epoch_begin(self, epoch, logs=None):
        self.weights = self.model.get_weights()
        self.slots = [nets.value(v).copy() for v in self.model.generator_optimizer.variables]


def assert_put_back(gan, keep):
    for one, two in zip(keep.weights, gan.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(keep.slots, gan.generator_optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, nets.value(two))


def test_nan_stops_and_puts_the_last_good_state_back():
    gan = gan_model()
    keep = Keep()
    with pytest.warns(
        PruningWarning, match="stopped after batch 12: .*_loss = nan.*of batch 8 were"
    ):
        history = fit(gan, prune(0.8), nets.Poison(12), keep, epochs=5)
    assert len(history.epoch) == 2
    assert_put_back(gan, keep)
    nets.assert_exact(0.8, gan.generator)
    # Training can go on from there.
    assert np.isfinite(fit(gan, prune(0.8)).history["generator_loss"]).all()


@pytest.mark.full
def test_nan_between_two_mask_updates_puts_the_masks_of_the_good_state_back():
    gan = gan_model()
    keep = Keep()
    schedule = kgp.PolynomialDecay(0.8, 0, 16)
    with pytest.warns(PruningWarning) as caught:
        fit(gan, prune(schedule, frequency=4), nets.Poison(14), keep, epochs=3)
    texts = " ".join(str(w.message) for w in caught)
    assert "Training stopped after batch 14" in texts
    assert "Training ended at step 8, before the schedule's end_step 16" in texts
    assert_put_back(gan, keep)
    # The update at step 12 was taken back with the rest.
    nets.assert_exact(schedule(8), gan.generator)


@pytest.mark.full
def test_frequency_of_the_guard():
    gan = gan_model()
    guard = kgp.NaNGuard(frequency=3)
    with pytest.warns(PruningWarning, match="stopped after batch 8: .*of batch 6 were restored"):
        fit(gan, guard, nets.Poison(8), prune(0.8))
    assert guard.stopped_batch == 8
    assert int(gan.generator_optimizer.iterations) == 6
    nets.assert_exact(0.8, gan.generator)


@pytest.mark.full
@cases(1, "frequency", [1, 100])
@cases(1, "loss", ["least_squares", "wasserstein"])
def test_a_huge_learning_rate(loss, frequency):
    """The step that ruins the weights has a finite loss, and may be one at which masks are due."""
    gan = gan_model(optimizer=lambda: SGD(1e30), loss=loss)
    before = gan.get_weights()
    with pytest.warns(PruningWarning, match="Training stopped after batch"):
        fit(gan, prune(kgp.ConstantSparsity(0.8), BOTH, frequency), epochs=3)
    # The good state is the one before the first batch, so before its first mask update.
    for one, two in zip(before, gan.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    nets.assert_exact(0.0, gan.generator, gan.discriminator)
    gan.compile(Adam(1e-2), Adam(1e-2))
    fit(gan, prune(kgp.ConstantSparsity(0.8), BOTH, frequency))
    nets.assert_exact(0.8, gan.generator, gan.discriminator)


class PoisonAfter(nets.Poison):
    """Ruins the generator after a batch, as the update of that batch does; its loss was finite."""

    def on_train_batch_begin(self, batch, logs=None):
        pass

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_begin(batch, logs)


@pytest.mark.full
def test_weights_ruined_by_the_last_step_of_an_epoch():
    gan = gan_model()
    keep = Keep()
    with pytest.warns(
        PruningWarning, match="stopped after batch 16: sum of .* of batch 8 were put"
    ):
        history = fit(gan, PoisonAfter(16), prune(0.8, frequency=100), keep, epochs=4)
    assert len(history.epoch) == 2
    assert_put_back(gan, keep)
    nets.assert_exact(0.8, gan.generator)


@pytest.mark.full
def test_a_mask_update_that_is_due_on_ruined_weights_is_left_to_the_guard():
    gan = gan_model()
    keep = Keep()
    # The update at step 12 is the first one after the ruin, before any loss has shown it.
    with pytest.warns(PruningWarning, match="stopped after batch 13: .*_loss = nan"):
        fit(gan, PoisonAfter(12), prune(0.8, frequency=12), keep, epochs=4)
    assert_put_back(gan, keep)
    nets.assert_exact(0.8, gan.generator)


@pytest.mark.full
def test_prune_without_a_guard_says_that_training_diverged():
    gan = nets.GuideGAN()
    gan.compile(Adam(1e-2), Adam(1e-2))
    with pytest.raises(kgp.PruningError, match=r"no mask can be chosen from it\. The masks are"):
        fit(gan, nets.Poison(4), prune(kgp.ConstantSparsity(0.5, 6), frequency=1))


@pytest.mark.full
@cases(1, "first", [True, False])
def test_guard_of_a_foreign_gan(first):
    gan = nets.GuideGAN()
    gan.compile(Adam(1e-2), Adam(1e-2))
    guard, callback = kgp.NaNGuard(), prune(0.8, frequency=1)
    order = [guard, callback] if first else [callback, guard]
    with pytest.warns(PruningWarning, match="stopped after batch 12: .*_loss = nan"):
        fit(gan, nets.Poison(12), *order, epochs=4)
    assert guard.stopped_batch == 12
    assert all(np.isfinite(w).all() for w in gan.get_weights())
    nets.assert_exact(0.8, gan.generator)
    # The slots that the first batch made are zero or as they were; none is NaN.
    for optimizer in (gan.g_optimizer, gan.d_optimizer):
        assert all(np.isfinite(nets.value(v)).all() for v in optimizer.variables)


@pytest.mark.full
def test_guard_keeps_networks_that_the_first_batch_built():
    gan = nets.GuideGAN(*reversed(nets.unbuilt_pair()))
    gan.compile(Adam(1e-2), Adam(1e-2))
    with pytest.warns(PruningWarning, match="of batch 1 were restored"):
        fit(gan, kgp.NaNGuard(), nets.Poison(4))
    weights = gan.generator.get_weights()
    assert all(np.isfinite(w).all() for w in weights)
    assert np.count_nonzero(weights[0]) == weights[0].size


def test_guard_of_a_classifier():
    model = nets.classifier()
    model.compile(SGD(1e30), nets.classifier_loss())
    with pytest.warns(PruningWarning, match="Training stopped after batch"):
        model.fit(*nets.classifier_data(), batch_size=4, verbose=0, callbacks=[kgp.NaNGuard()])
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.full
def test_a_quiet_guard_changes_nothing():
    runs = []
    for callbacks in ([], [kgp.NaNGuard(frequency=1)]):
        keras.utils.set_random_seed(0)
        gan = gan_model()
        fit(gan, *callbacks, shuffle=False)
        runs.append(gan.get_weights())
    for one, two in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("value", [0, -1, 1.5, "batch", None, True])
def test_bad_guard_frequency(value):
    with pytest.raises(InvalidArgumentError, match=r"`frequency` must be (an int|'epoch') or "):
        kgp.NaNGuard(value)


@pytest.mark.full
def test_the_clock_can_be_named_where_several_optimizers_have_trained_the_target():
    gan = gan_model()
    fit(gan, epochs=2)  # 16 steps that are not to count
    gan.earlier_optimizer = gan.generator_optimizer
    gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
    callback = prune(kgp.PolynomialDecay(0.8, 2, 6), optimizer="generator_optimizer")
    fit(gan, callback)
    assert [step for step, *_ in callback.updates] == [2, 4, 6]
    schedule = kgp.PolynomialDecay(0.9, 10, 14, initial_sparsity=0.8)
    same = prune(schedule, optimizer=gan.generator_optimizer)
    fit(gan, same)
    assert [step for step, *_ in same.updates] == [10, 12, 14]
    with pytest.raises(InvalidArgumentError, match="Did you mean 'generator_optimizer'"):
        fit(gan, prune(0.5, optimizer="generator_optimiser"))


@pytest.mark.full
def test_layers_made_prunable_by_hand_after_the_step_was_traced_hold_too():
    gan = gan_model()
    fit(gan)
    kgp.make_prunable(gan.generator)
    watch = nets.Watch(gan.generator)
    fit(gan, prune(0.8), watch)
    nets.assert_held(watch, 0.8)


@pytest.mark.full
def test_a_second_callback_on_the_same_model_does_not_trace_again():
    gan = gan_model()
    fit(gan, prune(0.5))
    step = gan.train_function
    fit(gan, prune(0.8))
    assert gan.train_function is step
    nets.assert_exact(0.8, gan.generator)


def test_sparsities_by_layer_are_those_at_the_highest_that_an_adaptive_schedule_may_reach():
    model = nets.classifier()
    model.compile("sgd", nets.classifier_loss())
    x, y = nets.classifier_data(32)
    first = traversal.prunable_candidates(model)[0][0]
    schedule = kgp.AdaptiveSparsity("loss", 100.0, increment=0.4, maximum=0.8)
    prune = kgp.Prune(schedule, allocation={first: 0.9}, verbose=0)
    model.fit(x, y, epochs=4, verbose=0, callbacks=[prune])
    assert [requested for _, requested, _ in prune.updates] == [0.4, 0.8]
    shares = [prune.reports[i].rows[0].sparsity for i in (0, 1)]
    assert shares == pytest.approx([0.45, 0.9], abs=0.02)
    other = kgp.AdaptiveSparsity("loss", maximum=0.1)
    with pytest.raises(kgp.PruningError, match=r"cannot meet the total of 0\.1"):
        model.fit(x, y, verbose=0, callbacks=[kgp.Prune(other, allocation={first: 0.9})])
