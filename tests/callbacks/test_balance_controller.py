"""`BalanceController`: the density of the discriminator follows the measured ratio."""

import itertools
import math

import keras
import networks as nets
import numpy as np
import pytest
import short_runs as runs
from balance_runs import (
    ABOVE,
    BATCHES,
    BELOW,
    BOTH,
    INSIDE,
    NAN,
    SCRIPT,
    SETTINGS,
    Look,
    assert_density,
    controller,
    densities,
    each_mode,
    fit,
    foreign,
    from_settings,
    full,
    gan_model,
    in_force,
    kept_at,
    oracle,
    scripted,
    steps_of,
)
from keras.optimizers import SGD, Adam

import keras_ganprune as kgp
from keras_ganprune.callbacks import _gradient_sampler as engine
from keras_ganprune.callbacks._density_rule import DensityRule
from keras_ganprune.callbacks._log_window import LogWindow
from keras_ganprune.callbacks.pruning_run import PruningRun
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.modes import SET, RigL

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
@pytest.mark.full
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


@pytest.mark.full
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
@pytest.mark.full
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
def test_an_update_that_waits_for_its_gradients_is_made_as_it_was_decided(monkeypatch):
    gan = scripted([0.5] * 2 + [0.9] * 4 + [-100.0] + [0.5] * 9)
    callback = controller(monitor="plain", begin_step=2)
    samples = PruningRun.samples_next
    seen = itertools.count(1)
    # The batch before the update at step 6 is not sampled, as if the clock had mispredicted the step.
    monkeypatch.setattr(PruningRun, "samples_next", lambda run: next(seen) != 6 and samples(run))
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
        full("set", DOWN, id="set-down"),
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
@pytest.mark.full
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


@pytest.mark.full
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
        ({"granularity": "2:4"}, "These settings are not compatible: RigL"),
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
