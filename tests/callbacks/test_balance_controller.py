"""`BalanceController`: the density of the discriminator follows the measured ratio; both networks pruned."""

import functools
import itertools
import math

import keras
import networks as nets
import numpy as np
import pytest
import short_runs as runs
import tensorflow as tf
from keras.optimizers import SGD, Adam

import keras_ganprune as kgp
from keras_ganprune.callbacks import _gradient_sampler as engine
from keras_ganprune.callbacks._density_rule import DensityRule
from keras_ganprune.callbacks._log_window import LogWindow
from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.pruning.modes import SET, RigL
from keras_ganprune.pruning.pruner import sparsity_of
from keras_ganprune.training import discovery

BOTH = ["generator", "discriminator"]
MODES = ["rigl", "set", "splice"]
BATCHES = 8
# Every finite ratio is above the first band, below the second and inside the third.
ABOVE, BELOW, INSIDE = (-1e9, -1e8), (1e8, 1e9), (-1e9, 1e9)
NAN = math.nan
each_mode = pytest.mark.parametrize(
    "mode", ["rigl", *(pytest.param(mode, marks=pytest.mark.full) for mode in MODES[1:])]
)


def full(*values, **options):
    """Return a case that is not in the default suite."""
    return pytest.param(*values, marks=pytest.mark.full, **options)


# --- models --------------------------------------------------------------------------------------


def gan_model(cls=kgp.GANModel, pair=None, make=lambda: SGD(0.05, 0.9), **kwargs):
    gan = cls(*(pair or nets.mlp_pair()), nets.LATENT, seed=1, **{"balance_frequency": 1, **kwargs})
    gan.compile(make(), make())
    return gan


class Scripted(kgp.GANModel):
    """Logs one number of a script per batch: 'shown' as the mean over the epoch, 'plain' as it is.

    A number that is NaN is not measured, so that the mean over the epoch stays as it was.
    """

    def __init__(self, *args, script=(), **kwargs):
        super().__init__(*args, **{"balance_frequency": 0, **kwargs})
        self.script = tf.constant(np.array(script, "float32"))
        self.shown = keras.metrics.Mean(name="shown")

    @property
    def metrics(self):
        return [*super().metrics, self.shown]

    def train_step(self, data):
        now = self.script[tf.cast(self.generator_optimizer.iterations, "int32")]
        logs = super().train_step(data)
        good = tf.math.is_finite(now)
        self.shown.update_state(tf.where(good, now, 0.0), sample_weight=tf.cast(good, "float32"))
        return {**logs, "shown": self.shown.result(), "plain": now}


def scripted(script, **kwargs):
    return gan_model(Scripted, script=script, **kwargs)


def foreign(cls=nets.GuideGAN):
    gan = cls()
    gan.compile(d_optimizer=Adam(1e-2, 0.5), g_optimizer=Adam(1e-2, 0.5))
    return gan


def fit(model, *callbacks, epochs=1, batches=BATCHES):
    return model.fit(
        nets.images(4 * batches),
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    ).history


def controller(low=0.45, high=0.55, *args, **kwargs):
    return kgp.BalanceController(low, high, *args, **{"frequency": 4, "verbose": 0, **kwargs})


def densities(callback):
    """Return [(step, density)] of all mask updates."""
    return [(step, round(1 - requested, 9)) for step, requested, _ in callback.updates]


# --- the oracle, and what is looked at -----------------------------------------------------------


def oracle(
    values, low=0.45, high=0.55, density=0.5, inc=0.05, bounds=(0.05, 1.0), frequency=4, begin=2
):
    """Return [(step, density)] for one measured value per batch (NaN: not measured), in decimals."""
    moves, window = [(begin, density)], []
    for step, value in enumerate(values, start=1):
        window += [value] if math.isfinite(value) else []
        if step == begin:
            window = []
        if step > begin and (step - begin) % frequency == 0:
            mean = np.mean(window) if window else NAN
            if mean > high and density < bounds[1]:
                moves.append((step, density := min(round(density + inc, 9), bounds[1])))
            elif mean < low and density > bounds[0]:
                moves.append((step, density := max(round(density - inc, 9), bounds[0])))
            window = []
    return moves


def in_force(moves, step):
    """Return the density after a step; 1 before the first update."""
    return ([1.0] + [density for due, density in moves if due <= step])[-1]


def kept_at(density, sizes):
    return [nets.kept_oracle(size, 1 - density) for size in sizes]


class Look(keras.callbacks.Callback):
    """Records masks, weights, slots and logs at each batch end, before or after the controller."""

    def __init__(self, target="discriminator"):
        super().__init__()
        self.target, self.states, self.logs = target, [], []

    def on_train_batch_end(self, batch, logs=None):
        weights = kgp.masked_weights(getattr(self.model, self.target))
        slots = {}
        for optimizer in discovery.optimizers(self.model):
            for variable, slot in discovery.slots(optimizer):
                slots.setdefault(id(variable), []).append(np.array(nets.value(slot)))
        self.states.append(
            [
                {
                    "value": np.array(nets.value(w.variable)),
                    "mask": np.array(nets.value(w.mask)),
                    "slots": slots.get(id(w.variable), []),
                }
                for w in weights
            ]
        )
        self.logs.append({k: float(v) for k, v in (logs or {}).items()})

    def kept(self):
        return [[np.count_nonzero(s["mask"]) for s in states] for states in self.states]


def assert_density(density, network):
    """Assert that each mask keeps exactly its count; weights that just returned are still zero."""
    table = nets.nonzeros(network).values()
    assert table and nets.leaks(network) == {}
    assert [kept for _, kept, _ in table] == kept_at(density, [size for *_, size in table])


def steps_of(before, after):
    """Yield (step, states before the controller, states after it) for each batch."""
    rows = zip(before.states, after.states, strict=True)
    return ((step, one, two) for step, (one, two) in enumerate(rows, start=1))


# Up to the upper bound, down to the lower bound, inside the band; some batches measure nothing.
SCRIPT = (
    [0.5, 0.9] + [0.9] * 8 + [0.5] * 4 + [NAN] * 4 + [0.7, NAN, 0.7, 0.2] + [0.44, 0.44, NAN, 0.44]
)
SCRIPT += [0.1] * 12 + [NAN, 0.3, NAN, NAN] + [0.54, 0.54, 0.56, 0.52] + [0.0] * 4 + [0.8] * 6
assert len(SCRIPT) == 56
SETTINGS = {"density": 0.65, "inc": 0.1, "bounds": (0.3, 0.8)}


def from_settings(**kwargs):
    return controller(0.45, 0.55, 0.65, 0.1, 0.3, 0.8, **kwargs)


# --- the law -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("density", "ratio", "expected"),
    [
        (0.5, 0.56, 0.6),
        (0.5, 0.55, 0.5),
        (0.5, 0.45, 0.5),
        (0.5, 0.44, 0.4),
        (0.5, NAN, 0.5),
        (0.75, 9.0, 0.8),
        (0.8, 9.0, 0.8),
        (0.35, -9.0, 0.3),
        (0.3, -9.0, 0.3),
    ],
)
def test_one_step_of_density(density, ratio, expected):
    rule = DensityRule(0.45, 0.55, 0.1, minimum=0.3, maximum=0.8)
    assert rule.next_density(density, ratio) == pytest.approx(expected, abs=1e-15)


class WithMean(keras.Model):
    """A model with one `Mean` metric."""

    def __init__(self):
        super().__init__()
        self.mean = keras.metrics.Mean(name="ratio")

    @property
    def metrics(self):
        return [self.mean]


def test_the_window_takes_a_running_mean_apart():
    model = WithMean()
    model.mean.update_state(5.0)
    window = LogWindow(model, "ratio")  # what the metric holds now does not count
    assert math.isnan(window.mean)
    for value in (1.0, 2.0):
        model.mean.update_state(value)
        window.add(model.mean.result())
    window.add(model.mean.result())  # only logged again
    assert (window.total, window.weight) == (3.0, 2.0)
    window.clear()
    model.mean.reset_state()
    window.skip()
    model.mean.update_state(4.0)
    window.add(model.mean.result())
    assert window.mean == 4.0


def test_the_window_takes_other_logs_as_they_are():
    window = LogWindow(WithMean(), "other")
    for value in (1.0, NAN, math.inf, 3.0, 3.0):
        window.add(value)
    assert (window.total, window.weight) == (7.0, 3.0)


@pytest.mark.parametrize(
    ("mode", "monitor"),
    [("rigl", "shown"), full("set", "plain"), full("splice", "shown")],
)
def test_density_follows_what_was_measured_since_the_last_update(mode, monitor):
    gan = scripted(SCRIPT)
    callback = from_settings(monitor=monitor, begin_step=2, mode=mode)
    before, after = Look(), Look()
    history = fit(gan, before, callback, after, epochs=7)
    moves = oracle(SCRIPT, **SETTINGS)
    # Both directions, both ends, and updates that change nothing.
    assert {0.3, 0.8} <= {density for _, density in moves} and len(moves) == 9
    assert densities(callback) == moves
    assert callback.density == moves[-1][1]
    sizes = [s["mask"].size for s in after.states[0]]
    for step, old, new in steps_of(before, after):
        # 0.65 of 24 weights is 15.6 of them; at every density the number is exact.
        kept = kept_at(in_force(moves, step), sizes)
        assert [np.count_nonzero(s["mask"]) for s in new] == kept, step
        assert after.logs[step - 1]["discriminator_sparsity"] == 1 - sum(kept) / sum(sizes)
        for one, two in zip(old, new, strict=True):
            assert not two["value"][~two["mask"]].any()
            if step not in dict(moves):
                np.testing.assert_array_equal(one["mask"], two["mask"])
    epochs = [log["discriminator_sparsity"] for log in after.logs[BATCHES - 1 :: BATCHES]]
    assert history["discriminator_sparsity"] == epochs


def test_the_mean_over_the_epoch_would_decide_otherwise():
    """With this script, the mean since the last update and the logged epoch mean lead to other decisions."""
    shown = []
    for epoch in np.reshape(SCRIPT, (7, BATCHES)):
        good = np.isfinite(epoch)
        counts = np.maximum(np.cumsum(good), 1)
        shown += list(np.cumsum(np.where(good, epoch, 0.0)) / counts)
    last_of_window = [value if step % 4 == 2 else NAN for step, value in enumerate(shown, start=1)]
    assert oracle(last_of_window, **SETTINGS) != oracle(SCRIPT, **SETTINGS)
    assert oracle(shown, **SETTINGS) != oracle(SCRIPT, **SETTINGS)


@each_mode
def test_weights_that_come_back_start_from_zero_with_empty_slots(mode):
    gan = scripted([0.9] * 32, make=lambda: Adam(1e-2, 0.5))
    callback = controller(density=0.3, increment=0.2, monitor="plain", begin_step=2, mode=mode)
    before, after = Look(), Look()
    fit(gan, before, callback, after, epochs=2)
    updates = dict(densities(callback))
    assert updates == {2: 0.3, 6: 0.5, 10: 0.7, 14: 0.9}
    for step, old, new in steps_of(before, after):
        for one, two in zip(old, new, strict=True):
            grown = ~one["mask"] & two["mask"]
            assert grown.any() == (step in updates and step > 2)
            assert len(two["slots"]) == 2
            for value in (two["value"], *two["slots"]):
                assert not value[grown].any()
            if step == 2:
                continue
            for slot, earlier in zip(two["slots"], one["slots"], strict=True):
                stay = one["mask"] & two["mask"]
                np.testing.assert_array_equal(slot[stay], earlier[stay])
                assert slot[stay].any()
    # Weights that returned are trained.
    first, last = after.states[5][0], after.states[-1][0]
    grown = first["mask"] & ~before.states[5][0]["mask"]
    assert last["value"][grown & last["mask"]].any()


@pytest.mark.parametrize(
    ("mode", "exchanges"),
    [
        pytest.param(RigL(0.4), False, id="rigl"),
        full(RigL(0.4, decay="constant"), True, id="rigl_constant"),
        full(SET(0.4), True, id="set"),
    ],
)
def test_a_move_changes_the_density_alone_unless_the_mode_goes_on_exchanging(mode, exchanges):
    gan = scripted([0.9] * 10 + [0.1] * 8)
    callback = controller(monitor="plain", begin_step=2, mode=mode, increment=0.1)
    before, after = Look(), Look()
    fit(gan, before, callback, after, batches=18)
    assert densities(callback) == [(2, 0.5), (6, 0.6), (10, 0.7), (14, 0.6), (18, 0.5)]
    for step, old, new in steps_of(before, after):
        if step <= 2 or step not in dict(densities(callback)):
            continue
        one, two = old[0]["mask"], new[0]["mask"]
        lost, grown = np.count_nonzero(one & ~two), np.count_nonzero(two & ~one)
        moved = kept_at(in_force(densities(callback), step), [one.size])[0] - one.sum()
        assert grown - lost == moved
        assert (lost > 0 and grown > 0) if exchanges else min(lost, grown) == 0
        if not exchanges and moved < 0:
            # The smallest weights are pruned.
            value = np.abs(old[0]["value"])
            assert value[one & ~two].max() <= value[two].min()


@pytest.mark.full
def test_growth_uses_the_gradient_of_the_batch_before_alone(monkeypatch):
    read, batches = engine.GradientSampler.read, []

    def noting_read(self, request):
        batches.append(self.batches)
        return read(self, request)

    monkeypatch.setattr(engine.GradientSampler, "read", noting_read)
    script = [0.5] * 10 + [0.9] * 6  # two updates that change nothing, then one that does
    callback = controller(monitor="plain", begin_step=2)
    fit(scripted(script), callback, batches=16)
    assert densities(callback) == [(2, 0.5), (14, 0.55)]
    assert batches == [1, 1]


@pytest.mark.full
def test_an_update_that_waits_for_its_gradients_is_made_as_it_was_decided():
    gan = scripted([0.5] * 2 + [0.9] * 4 + [-100.0] + [0.5] * 9)
    callback = controller(monitor="plain", begin_step=2)
    samples = callback._samples_next
    seen = itertools.count(1)
    # The batch before the update at step 6 is not sampled, as if the clock had mispredicted the step.
    callback._samples_next = lambda: next(seen) != 6 and samples()
    look = Look()
    fit(gan, callback, look, batches=16)
    assert densities(callback) == [(2, 0.5), (7, 0.55)]
    sizes = [s["mask"].size for s in look.states[0]]
    assert look.kept()[1:] == [kept_at(0.5, sizes)] * 5 + [kept_at(0.55, sizes)] * 10


# --- the ratio that GANModel measures ------------------------------------------------------------


def measured(logs, key, every=1):
    """Return the value that each batch of an epoch measured, from the logged means so far."""
    means = np.array([log[key] for log in logs][::every], "float64")
    sums = means * np.arange(1, len(means) + 1)
    values = np.full(len(logs), NAN)
    values[::every] = np.diff(sums, prepend=0.0)
    return values


def test_the_measured_ratio_of_gan_model():
    gan = gan_model(balance_frequency=2)
    callback, look = controller(begin_step=2), Look()
    fit(gan, look, callback, epochs=3)
    values = np.concatenate(
        [measured(look.logs[i : i + BATCHES], "balance_ratio", 2) for i in range(0, 24, BATCHES)]
    )
    moves = oracle(values)
    sizes = [density for _, density in moves]
    assert len(moves) > 3 and max(np.diff(sizes)) > 0 > min(np.diff(sizes))
    assert densities(callback) == moves


UP, DOWN, STAY = (
    (ABOVE, [(0, 0.5), (4, 0.7), (8, 0.75)]),
    (BELOW, [(0, 0.5), (4, 0.3), (8, 0.15)]),
    (INSIDE, [(0, 0.5)]),
)


@pytest.mark.parametrize(
    ("mode", "case"),
    [
        full("rigl", UP, id="rigl-up"),
        full("splice", DOWN, id="splice-down"),
        pytest.param("set", DOWN, id="set-down"),
        full("set", STAY, id="set-stay"),
    ],
)
def test_up_down_stay_and_the_bounds(mode, case):
    band, expected = case
    gan = gan_model(pair=(nets.mlp_generator(), nets.dcgan_discriminator(spectral=True)))
    callback, watch = (
        controller(*band, 0.5, 0.2, 0.15, 0.75, mode=mode),
        nets.Watch(gan.discriminator),
    )
    history = fit(gan, callback, watch, epochs=2)
    if mode == "rigl":  # no gradient before the first batch
        expected = [(1, expected[0][1]), *expected[1:]]
    assert densities(callback) == expected
    assert_density(expected[-1][1], gan.discriminator)
    assert watch.leaks == []
    sizes = [size for *_, size in nets.nonzeros(gan.discriminator).values()]
    # The last batch of the first epoch is step 8.
    final = 1 - sum(kept_at(expected[-1][1], sizes)) / sum(sizes)
    assert history["discriminator_sparsity"] == [final] * 2
    assert "generator_sparsity" not in history and kgp.masked_weights(gan.generator) == []


@pytest.mark.full
def test_one_measurement_moves_the_density_once():
    gan = gan_model(balance_frequency=8)  # measured in batches 1, 9 and 17
    callback = controller(*ABOVE, frequency=2, begin_step=2, mode="set")
    fit(gan, callback, epochs=3)
    assert densities(callback) == [(2, 0.5), (10, 0.55), (18, 0.6)]


@pytest.mark.full
def test_a_ratio_that_was_never_measured_moves_nothing():
    """As between a restart and the first measurement, when the log is zero."""
    gan = gan_model()
    for weight in gan.discriminator.trainable_weights:
        weight.assign(0 * weight)  # no gap between real and generated images
    gan.compile(SGD(0.0), SGD(0.0))
    callback = controller(mode="set")
    history = fit(gan, callback)
    assert history["balance_ratio"] == [0.0]
    assert densities(callback) == [(0, 0.5)]


@pytest.mark.full
def test_steps_are_those_of_the_discriminator():
    gan = gan_model(discriminator_steps=3)
    callback = controller(*ABOVE, frequency=12, mode="set")
    fit(gan, callback)
    assert densities(callback) == [(0, 0.5), (12, 0.55), (24, 0.6)]


@pytest.mark.full
def test_dense_before_its_begin_step():
    gan, look = gan_model(), Look()
    callback = controller(*BELOW, begin_step=6, mode="set")
    fit(gan, callback, look, epochs=2)
    assert densities(callback) == [(6, 0.5), (10, 0.45), (14, 0.4)]
    sizes = [s["mask"].size for s in look.states[0]]
    kept = look.kept()
    assert kept[:5] == [sizes] * 5
    assert kept[5:] == [kept_at(in_force(densities(callback), s), sizes) for s in range(6, 17)]


@pytest.mark.parametrize("allocation", ["erk", "global_ranking"])
@pytest.mark.full
def test_the_total_is_exact_under_other_allocations(allocation):
    gan, look = gan_model(pair=(nets.mlp_generator(), nets.dcgan_discriminator())), Look()
    callback = controller(*ABOVE, 0.25, 0.15, allocation=allocation, begin_step=2)
    fit(gan, callback, look, epochs=2)
    moves = densities(callback)
    assert moves == [(2, 0.25), (6, 0.4), (10, 0.55), (14, 0.7)]
    sizes = [s["mask"].size for s in look.states[0]]
    for step, kept in enumerate(look.kept(), start=1):
        assert sum(kept) == kept_at(in_force(moves, step), [sum(sizes)])[0]
    assert look.kept()[-1] != kept_at(0.7, sizes)  # not uniform


@pytest.mark.full
def test_whole_channels():
    gan = gan_model(pair=(nets.mlp_generator(), nets.dcgan_discriminator()))
    callback = controller(*BELOW, 1.0, 0.34, granularity="channel", begin_step=2)
    fit(gan, callback)
    assert densities(callback) == [(2, 1.0), (6, 0.66)]
    masks = [nets.value(w.mask) for w in callback.pruner.weights]
    groups = runs.groups_of(callback.pruner, masks)
    assert runs.problems_of_coupling(callback.pruner, masks, groups) == []
    # The layer of the logit keeps its one channel.
    assert [(len(kept), kept.sum()) for _, kept in groups] == [(6, 4), (6, 4)]


# --- beside the generator's own pruning ----------------------------------------------------------


@pytest.mark.parametrize(("mode", "generator_mode"), [full("rigl", "rigl"), ("splice", "hard")])
def test_beside_the_prune_of_the_generator(mode, generator_mode):
    gan = scripted([0.9] * 12 + [0.1] * 12)
    schedule = kgp.Linear(0.8, 2, 14, initial_sparsity=0.5)
    prune = kgp.Prune(schedule, "generator", 4, mode=generator_mode, verbose=0)
    callback = controller(monitor="plain", begin_step=3, mode=mode)
    looks = {name: Look(name) for name in BOTH}
    history = fit(gan, prune, callback, *looks.values(), epochs=3)
    assert [(s, r) for s, r, _ in prune.updates] == [(s, schedule(s)) for s in (2, 6, 10, 14)]
    moves = [(3, 0.5), (7, 0.55), (11, 0.6), (15, 0.55), (19, 0.5), (23, 0.45)]
    assert densities(callback) == moves
    sizes = {name: [s["mask"].size for s in look.states[0]] for name, look in looks.items()}
    for step in range(1, 25):
        due = max((s for s, *_ in prune.updates if s <= step), default=None)
        wanted = {
            "generator": 1.0 if due is None else 1 - schedule(due),
            "discriminator": in_force(moves, step),
        }
        for name, look in looks.items():
            assert look.kept()[step - 1] == kept_at(wanted[name], sizes[name]), (name, step)
            for s in look.states[step - 1]:
                assert not s["value"][~s["mask"]].any()
    assert_density(0.2, gan.generator)
    assert_density(0.45, gan.discriminator)
    for name in BOTH:
        logged = [log[f"{name}_sparsity"] for log in looks[name].logs]
        assert history[f"{name}_sparsity"] == logged[BATCHES - 1 :: BATCHES]


# --- other GANs, other logs ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "mode"),
    [full(nets.GuideGAN, "rigl"), (nets.WGAN, "set"), full(nets.WGAN, "splice")],
)
def test_a_log_of_a_foreign_gan(cls, mode):
    """GuideGAN logs means over the epoch, WGAN the loss of each batch."""
    gan, look = foreign(cls), Look()
    middle = {nets.GuideGAN: 0.9, nets.WGAN: -0.1}[cls]
    low, high = middle - 0.02, middle + 0.02
    callback = controller(low, high, monitor="d_loss", begin_step=2, mode=mode)
    history = fit(gan, look, callback, epochs=3)
    chunks = [look.logs[i : i + BATCHES] for i in range(0, 24, BATCHES)]
    if cls is nets.GuideGAN:
        values = np.concatenate([measured(chunk, "d_loss") for chunk in chunks])
    else:
        values = [log["d_loss"] for chunk in chunks for log in chunk]
    moves = oracle(values, low, high)
    assert len(moves) > 3
    assert densities(callback) == moves
    assert_density(moves[-1][1], gan.discriminator)
    assert len(history["discriminator_sparsity"]) == 3


@pytest.mark.full
def test_values_that_are_not_finite_do_not_count():
    script = [0.5] * 2 + [NAN, math.inf, -math.inf, NAN] + [NAN, 0.9, -math.inf, 0.9]
    callback = controller(monitor="plain", begin_step=2, mode="set")
    fit(scripted(script), callback, batches=10)
    assert densities(callback) == [(2, 0.5), (10, 0.55)]


@pytest.mark.full
def test_networks_that_the_first_batch_builds():
    gan = nets.GuideGAN(*reversed(nets.unbuilt_pair()))
    gan.compile(d_optimizer=Adam(1e-2), g_optimizer=Adam(1e-2))
    callback = controller(*ABOVE, monitor="d_loss", frequency=3)
    fit(gan, callback)
    assert callback.updates[0][1] == 0.5
    assert [step for step, *_ in callback.updates[1:]] == [3, 6]
    assert_density(0.6, gan.discriminator)


@pytest.mark.parametrize(
    ("make", "monitor", "match"),
    [
        (lambda: gan_model(balance_frequency=0), "balance_ratio", "unless balance_frequency=0"),
        full(gan_model, "balance_rato", "'balance_rato'. Did you mean 'balance_ratio'"),
        full(foreign, "balance_ratio", r"(?s)Unknown log in `monitor`: .*Known: d_loss, g_loss\."),
        full(foreign, "val_d_loss", "It must be a log of every batch"),
    ],
)
def test_a_log_that_is_not_there(make, monitor, match):
    with pytest.raises(InvalidArgumentError, match=match):
        fit(make(), controller(monitor=monitor))


# --- going on ------------------------------------------------------------------------------------


def assert_same(one, two):
    """Assert that two GANs have the same weights, masks and slots, bit by bit."""
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_array_equal(nets.value(a), nets.value(b))
    pairs = zip(
        kgp.masked_weights(one.discriminator), kgp.masked_weights(two.discriminator), strict=True
    )
    for a, b in pairs:
        np.testing.assert_array_equal(nets.value(a.mask), nets.value(b.mask))
    for name in ("generator_optimizer", "discriminator_optimizer"):
        pairs = zip(getattr(one, name).variables, getattr(two, name).variables, strict=True)
        for a, b in pairs:
            np.testing.assert_array_equal(nets.value(a), nets.value(b))


RESUMED = {"frequency": 5, "begin_step": 2, "increment": 0.1}
RESUMED_BAND = (-1.0, 1.0)


def resumable(epochs, mode, *callbacks):
    keras.utils.set_random_seed(11)
    gan = gan_model(balance_frequency=2, make=lambda: Adam(1e-2, 0.5))
    callback = controller(*RESUMED_BAND, mode=mode, **RESUMED)
    fit(gan, callback, *callbacks, epochs=epochs)
    return gan, callback


@functools.cache
def uninterrupted(mode):
    return resumable(4, mode)


class Break(keras.callbacks.Callback):
    def __init__(self, at):
        super().__init__()
        self.at, self.seen = at, 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("mode", ["rigl", "set"])
@pytest.mark.full
def test_backup_and_restore_is_as_if_uninterrupted(mode, tmp_path):
    """The backup of the first epoch's end lies between two updates, after a measurement."""
    whole, all_of_it = uninterrupted(mode)
    assert len({density for _, density in densities(all_of_it)}) > 2
    backup = lambda: keras.callbacks.BackupAndRestore(str(tmp_path), delete_checkpoint=False)  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        resumable(4, mode, backup(), Break(14))
    gan, callback = resumable(4, mode, backup())
    # At step 8 or after: no update is made twice, none is left out.
    assert densities(callback) == [pair for pair in densities(all_of_it) if pair[0] > 8]
    assert callback.density == all_of_it.density
    assert int(gan.discriminator_optimizer.iterations) == 32
    assert_same(whole, gan)


@pytest.mark.parametrize(
    ("mode", "how"),
    [full("splice", "file"), ("set", "new_callback"), full("rigl", "same_callback")],
)
def test_another_fit_goes_on_where_the_last_one_stopped(mode, how, tmp_path):
    whole, all_of_it = uninterrupted(mode)
    gan, first = resumable(2, mode)
    density = first.density
    assert density != 0.5
    if how == "file":
        gan.save(tmp_path / "gan.keras")
        gan = kgp.load_model(tmp_path / "gan.keras")
    second = first if how == "same_callback" else controller(*RESUMED_BAND, mode=mode, **RESUMED)
    look = Look()
    fit(gan, look, second, epochs=2)
    # At step 17, before the update that is due there.
    assert look.kept()[0] == kept_at(density, [s["mask"].size for s in look.states[0]])
    made = densities(first) if how == "same_callback" else densities(first) + densities(second)
    assert made == densities(all_of_it)
    assert second.density == all_of_it.density
    assert_same(whole, gan)


@pytest.mark.full
def test_another_fit_in_the_band_exchanges_nothing():
    gan = gan_model()
    for _ in range(3):
        before = [nets.value(w.mask).copy() for w in kgp.masked_weights(gan.discriminator)]
        callback = controller(*INSIDE, mode="set")
        fit(gan, callback, batches=6)
        if before:
            assert callback.updates == []
            for mask, weight in zip(before, kgp.masked_weights(gan.discriminator), strict=True):
                np.testing.assert_array_equal(mask, nets.value(weight.mask))
    nets.assert_exact(0.5, gan.discriminator)


@pytest.mark.full
def test_a_new_callback_may_begin_with_another_density():
    gan = gan_model()
    fit(gan, controller(*ABOVE, mode="set"))
    assert_density(0.6, gan.discriminator)
    callback = controller(*ABOVE, density=0.2, mode="set")
    fit(gan, callback)
    assert [density for _, density in densities(callback)] == [0.2, 0.25, 0.3]


@pytest.mark.full
def test_a_used_callback_begins_anew_with_a_new_model():
    callback = controller(*ABOVE, begin_step=2, mode="set")
    fit(gan_model(), callback)
    assert densities(callback) == [(2, 0.5), (6, 0.55)]
    gan = gan_model()
    fit(gan, callback)
    assert densities(callback) == [(2, 0.5), (6, 0.55)]
    assert_density(0.55, gan.discriminator)


@pytest.mark.full
def test_the_ratio_is_measured_again_after_a_diverged_run():
    gan = gan_model()
    with pytest.warns(PruningWarning, match="of batch 0 were put back"):
        fit(gan, controller(mode="set"), nets.Poison(2))
    history = fit(gan, controller(*ABOVE, mode="set"))
    assert np.isfinite(history["balance_ratio"]).all()


@pytest.mark.full
def test_masks_that_a_guard_put_back_have_their_density_again():
    gan = scripted([0.9] * 40)
    callback = controller(0.45, 0.55, 0.25, 0.25, monitor="plain", begin_step=2, mode="set")
    with pytest.warns(PruningWarning, match="after batch 15: .*of batch 8 were put back"):
        fit(gan, callback, nets.Poison(15), epochs=3)
    # The guard undid the moves at 10 and 14 with the weights, but not the move at 6.
    assert densities(callback) == [(2, 0.25), (6, 0.5), (10, 0.75), (14, 1.0)]
    assert_density(0.5, gan.discriminator)
    again = controller(0.45, 0.55, 0.25, 0.25, monitor="plain", begin_step=2, mode="set")
    fit(gan, again)
    assert densities(again) == [(10, 0.75), (14, 1.0)]


# --- bad arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            {"low": 0.6, "high": 0.4},
            r"`low` must be smaller than `high`\. Received: low=0.6, high=0.4",
        ),
        ({"low": 0.5, "high": 0.5}, "`low` must be smaller than `high`"),
        ({"low": math.nan}, "`low` must be smaller than `high`"),
        ({"high": math.inf}, "`low` must be smaller than `high`"),
        ({"low": "0.4"}, "`low` must be a number. Received: '0.4'"),
        ({"high": None}, "`high` must be a number. Received: None"),
        ({"high": True}, "`high` must be a number. Received: True"),
        (
            {"density": 50},
            r"`density` must be a density.*in \(0, 1\]\. Received: 50\. For 50 %, pass 0.5",
        ),
        ({"minimum": 5}, r"`minimum` must be a density.*Received: 5\. For 5 %, pass 0.05"),
        ({"maximum": 100}, r"`maximum` must be a density.*Received: 100\. For 100 %, pass 1\."),
        ({"density": 0.0}, r"`density` must be a density.*Received: 0.0\.$"),
        ({"density": -0.5}, r"`density` must be a density.*Received: -0.5"),
        ({"density": math.nan}, "`density` must be a density.*Received: nan"),
        ({"density": "half"}, "`density` must be a density.*Received: 'half'"),
        ({"density": True}, "`density` must be a density.*Received: True"),
        ({"minimum": None}, "`minimum` must be a density.*Received: None"),
        ({"density": 0.01}, "between `minimum` and `maximum`.*minimum=0.05, density=0.01"),
        ({"density": 0.9, "maximum": 0.8}, "between.*density=0.9, maximum=0.8"),
        ({"minimum": 0.9, "maximum": 0.1}, "between.*minimum=0.9, density=0.5, maximum=0.1"),
        ({"increment": 0}, r"`increment` must be a step of density in \(0, 1\)\. Received: 0\."),
        ({"increment": 1.0}, "`increment` must be.*Received: 1.0"),
        ({"increment": 5}, "`increment` must be.*Received: 5"),
        ({"increment": -0.05}, "`increment` must be.*Received: -0.05"),
        ({"increment": math.nan}, "`increment` must be.*Received: nan"),
        ({"increment": "0.05"}, "`increment` must be.*Received: '0.05'"),
        ({"increment": True}, "`increment` must be.*Received: True"),
        ({"monitor": None}, "`monitor` must be the name of a log. Received: None"),
        (
            {"mode": "hard"},
            r"`mode` must hold its masks and let weights return.*Received: Hard\(\)",
        ),
        ({"mode": "soft"}, r"`mode` must hold its masks.*Received: Soft\(\)"),
        ({"mode": "rigel"}, "Unknown mode 'rigel'. Did you mean 'rigl'"),
        ({"frequency": 0}, "`frequency` must be a positive int"),
        ({"begin_step": -1}, "`begin_step` must be a non-negative int"),
        ({"allocation": {"dense": 0.5}}, r"(?s)must not be per layer.*PerLayer\("),
        ({"granularity": "2:4"}, "These settings do not go together: RigL"),
    ],
)
def test_bad_arguments(arguments, match):
    with pytest.raises(InvalidArgumentError, match=match):
        kgp.BalanceController(**arguments)


def test_numbers_of_numpy_are_numbers():
    callback = kgp.BalanceController(
        np.float32(0.25), np.int64(1), np.float32(0.5), np.float32(0.25), np.float64(0.25)
    )
    assert (callback.density, callback.minimum, callback.maximum) == (0.5, 0.25, 1.0)


def test_repr():
    callback = controller(0.4, 0.6, 0.5, 0.2, 0.1, 0.9)
    text = (
        "of 'discriminator' every 4 steps: density 0.5 in [0.1, 0.9], 'balance_ratio' in [0.4, 0.6]"
    )
    assert repr(callback) == f"<BalanceController {text}>"


@pytest.mark.full
def test_repr_after_training():
    callback = controller(*ABOVE, mode="set")
    fit(gan_model(), callback)
    assert "density 0.6 in [0.05, 1]" in repr(callback) and "sparsity 0.4000" in repr(callback)


def test_a_target_that_is_not_there():
    with pytest.raises(InvalidArgumentError, match="'critic'"):
        fit(gan_model(), controller(target="critic"))


# --- two networks, in general --------------------------------------------------------------------

GANS = {
    "gan_model": lambda: gan_model(balance_frequency=0),
    "dcgan": lambda: gan_model(pair=nets.dcgan_pair(), balance_frequency=0, loss="hinge"),
    "foreign": foreign,
    "wgan_gp": lambda: foreign(nets.WGANGP),
}
RAMP = kgp.Linear(0.8, begin_step=2, end_step=10, initial_sparsity=0.4)


def prune(schedule=RAMP, target="generator", frequency=4, **kwargs):
    return kgp.Prune(schedule, target, frequency, **{"verbose": 0, **kwargs})


def joint_oracle(states, sparsity, scale=lambda scores: 1.0):
    """Return the masks of one ranking over all tensors: the largest weights kept so far stay.

    The largest of each tensor stays in any case.
    """
    scores = []
    for s in states:
        size = np.abs(s["value"].astype("float64"))
        scores.append(np.where(s["mask"], size / scale(size), -np.inf).reshape(-1))
        scores[-1][np.argmax(scores[-1])] = np.inf
    joined = np.concatenate(scores)
    keep = np.zeros(joined.size, bool)
    budget = nets.kept_oracle(joined.size, sparsity)
    keep[np.argsort(-joined, kind="stable")[:budget]] = True
    parts = np.split(keep, np.cumsum([s.size for s in scores])[:-1])
    return [part.reshape(s["mask"].shape) for part, s in zip(parts, states, strict=True)]


@pytest.mark.parametrize(("name", "normalize"), [full("foreign", None), ("dcgan", "mean")])
def test_one_budget_and_one_ranking_over_both_networks(name, normalize):
    gan = GANS[name]()
    for weight in gan.discriminator.trainable_weights:
        weight.assign(0.3 * weight)  # so that the ranking takes more from one than from the other
    callback = prune(target=BOTH, allocation=kgp.GlobalRanking(normalize))
    before, after = ([Look(name) for name in BOTH] for _ in range(2))
    history = fit(gan, *before, callback, *after, epochs=2)
    assert [(s, r) for s, r, _ in callback.updates] == [(s, RAMP(s)) for s in (2, 6, 10)]
    scale = {None: lambda scores: 1.0, "mean": np.mean}[normalize]
    total = None
    for step in range(16):
        old = before[0].states[step] + before[1].states[step]
        new = after[0].states[step] + after[1].states[step]
        total = sum(s["mask"].size for s in new)
        due = max((s for s in (2, 6, 10) if s <= step + 1), default=None)
        if step + 1 == due:
            for mask, s in zip(joint_oracle(old, RAMP(due), scale), new, strict=True):
                np.testing.assert_array_equal(mask, s["mask"])
        kept = sum(np.count_nonzero(s["mask"]) for s in new)
        assert kept == (nets.kept_oracle(total, RAMP(due)) if due else total)
        assert not any(s["value"][~s["mask"]].any() for s in new)
    final = {n: history[f"{n}_sparsity"][-1] for n in BOTH}
    assert abs(final["generator"] - final["discriminator"]) > 0.005  # spread, not the same for both
    assert callback.updates[-1][2] == 1 - nets.kept_oracle(total, 0.8) / total


@pytest.mark.parametrize("name", ["gan_model", "wgan_gp"])
@pytest.mark.full
def test_the_discriminator_after_the_generator(name):
    gan = GANS[name]()
    steps = 5 if name == "wgan_gp" else 1  # of the critic in a batch
    later = kgp.Linear(0.6, begin_step=9 * steps, end_step=13 * steps, initial_sparsity=0.2)
    of_generator = prune(kgp.Linear(0.8, 2, 6, initial_sparsity=0.4))
    of_discriminator = prune(later, "discriminator", frequency=2 * steps)
    looks = [Look(name) for name in BOTH]
    fit(gan, of_generator, of_discriminator, *looks, epochs=2)
    assert [s for s, *_ in of_generator.updates] == [2, 6]
    assert [s for s, *_ in of_discriminator.updates] == [9 * steps, 11 * steps, 13 * steps]
    kept = looks[1].kept()
    sizes = [s["mask"].size for s in looks[1].states[0]]
    assert kept[:8] == [sizes] * 8
    for batch in range(9, 17):
        due = min(batch - (batch - 9) % 2, 13) * steps
        assert kept[batch - 1] == kept_at(1 - later(due), sizes)
    nets.assert_exact(0.8, gan.generator)
    nets.assert_exact(0.6, gan.discriminator)


@pytest.mark.parametrize("name", ["gan_model", pytest.param("foreign", marks=pytest.mark.full)])
@pytest.mark.full
def test_the_two_apart_each_with_settings_of_its_own(name):
    gan = GANS[name]()
    of_generator = prune(kgp.Linear(0.9, 2, 10), criterion="taylor", mode="rigl", allocation="erk")
    of_discriminator = prune(kgp.OneShot(0.5, 3), "discriminator", criterion="random")
    history = fit(gan, of_generator, of_discriminator, epochs=2)
    nets.assert_exact(0.5, gan.discriminator)
    total = of_generator.report.total
    assert of_generator.report.kept == nets.kept_oracle(total, 0.9)
    assert (
        sum(kept for _, kept, _ in nets.nonzeros(gan.generator).values())
        == of_generator.report.kept
    )
    assert nets.leaks(gan.generator, gan.discriminator) == {}
    assert history["generator_sparsity"][-1] == 1 - of_generator.report.kept / total
    assert {"generator_sparsity", "discriminator_sparsity"} <= set(history)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_pruner_by_hand_ranks_both_networks(reverse):
    networks = nets.mlp_pair()[:: -1 if reverse else 1]
    pruner = kgp.Pruner(*networks, allocation="global_ranking")
    states = [
        {"value": np.array(nets.value(w.variable)), "mask": np.array(nets.value(w.mask))}
        for w in pruner.weights
    ]
    expected = joint_oracle(states, 0.65)
    report = pruner.update(sparsity=0.65)
    assert report.kept == nets.kept_oracle(report.total, 0.65)
    for mask, weight in zip(expected, pruner.weights, strict=True):
        np.testing.assert_array_equal(mask, nets.value(weight.mask))
    own = [sparsity_of(network) for network in networks]
    sizes = [sum(np.prod(w.mask.shape) for w in kgp.masked_weights(n)) for n in networks]
    assert np.average(own, weights=sizes) == pytest.approx(report.achieved, abs=1e-12)
