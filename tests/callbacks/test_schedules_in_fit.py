"""Schedules inside `fit`: which masks `Prune` makes, step by step and epoch by epoch."""

import functools
import math
import warnings

import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf
from cases import cases
from interruptions import BreakAt
from keras.optimizers import Adagrad, Adam

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.pruning.modes import SET, RigL, Splice
from keras_ganprune.pruning.schedules import (
    AdaptiveSparsity,
    Cosine,
    Cyclic,
    DynamicThreshold,
    IterativeRewind,
    LayerwiseOrder,
    Linear,
    OneShot,
    PolynomialDecay,
)
from keras_ganprune.training import discovery
from keras_ganprune.training.snapshot import TrainingState, mask_stores

# --- models that are compiled once ---------------------------------------------------------------


def gan_model(pair, **kwargs):
    gan = kgp.GANModel(*pair, nets.LATENT, seed=1, balance_frequency=0, **kwargs)
    gan.compile(Adam(1e-2, 0.5), Adam(1e-2, 0.5))
    return gan


def dcgan():
    pair = nets.dcgan_generator(4), nets.dcgan_discriminator(4, spectral=True)
    return gan_model(pair, ema_decay=0.9)


def foreign(**kwargs):
    gan = nets.EmaGAN()
    gan.compile(d_optimizer=Adam(1e-2, 0.5), g_optimizer=Adam(1e-2, 0.5), **kwargs)
    return gan


def classifier(optimizer=None, **kwargs):
    model = nets.classifier()
    model.compile(optimizer or Adam(1e-2), nets.classifier_loss(), **kwargs)
    return model


MODELS = {
    "dcgan": dcgan,
    "subclassed": lambda: gan_model((nets.SubclassedGenerator(), nets.mlp_discriminator())),
    "foreign": foreign,
    "classifier": classifier,
    # For a few steps of a model of its own, quicker than a trace.
    "eager": lambda optimizer=None: classifier(optimizer, run_eagerly=True),
    "chunks": lambda: classifier(steps_per_execution=3),
}
each_model = cases(
    ("foreign", "classifier"), "model", ["dcgan", "subclassed", "foreign", "classifier"]
)


def make(model, *args, **kwargs):
    keras.utils.set_random_seed(7)
    return MODELS[model](*args, **kwargs)


def pruned_network(model):
    return getattr(model, "generator", model)


def fit(model, *callbacks, steps, epochs=1, **kwargs):
    """Train `steps` batches in each epoch, always on the same images."""
    x, y = nets.classifier_data(8)
    data = tf.data.Dataset.from_tensors((x, y) if pruned_network(model) is model else x)
    options = {"verbose": 0, "shuffle": False, "callbacks": list(callbacks), **kwargs}
    return model.fit(data.repeat(steps), epochs=epochs, **options).history


def prune(model, schedule, target="generator", frequency=4, **kwargs):
    target = None if pruned_network(model) is model else target
    return kgp.Prune(schedule, target, frequency, **{"verbose": 0, **kwargs})


@functools.cache
def _compiled(model):
    made = make(model)
    for network in discovery.networks(made).values() or [made]:
        kgp.make_prunable(network)
    return made, TrainingState(made)


def fresh(model):
    """Return a model at its first state; its step is traced once for all tests of this file."""
    made, start = _compiled(model)
    start.restore()
    made._initial_epoch = None  # which `BackupAndRestore` sets, and leaves
    for store in mask_stores(made):
        store.arrays.clear()
    return made


# --- what there is to see ------------------------------------------------------------------------


def optimizers(model):
    names = (
        "optimizer",
        "generator_optimizer",
        "discriminator_optimizer",
        "g_optimizer",
        "d_optimizer",
    )
    return {n: o for n in names if (o := getattr(model, n, None)) is not None}


def value_of(variable):
    """Return a copy of the value; many times as fast as by way of Keras."""
    return np.array(variable.value.numpy())


def look_at(model):
    """Return {name: array} of all that training changes, but for the counts of steps."""
    found = {f"weight {i} {w.path}": w for i, w in enumerate(model.weights)}
    for name, optimizer in optimizers(model).items():
        found |= {f"{name} {i} {v.path}": v for i, v in enumerate(optimizer.variables)}
        found.pop(f"{name} 0 {optimizer.iterations.path}")
    for store_number, store in enumerate(mask_stores(model)):
        found |= {f"mask {store_number} {name}": v for name, v in store.masks.items()}
        found |= {f"hidden {store_number} {name}": v for name, v in store.hidden.items()}
    if hasattr(model, "noise_seed"):
        found["noise"] = model.noise_seed.state
    return {name: value_of(v) for name, v in found.items()}


def slots_of(model, variables):
    """Return the arrays of the optimizers' slots of some variables."""
    wanted = {id(v) for v in variables}
    return [
        value_of(slot)
        for optimizer in discovery.optimizers(model)
        for variable, slot in discovery.slots(optimizer)
        if id(variable) in wanted
    ]


def arrays(variables):
    return [value_of(v) for v in variables]


def masks_of(network):
    return arrays(w.mask for w in kgp.masked_weights(network))


def same(one, two):
    return len(one) == len(two) and all(map(np.array_equal, one, two))


def assert_same_state(one, two):
    """Assert that two `look_at`s are equal bit for bit; what is only in the second has just begun."""
    assert one.keys() <= two.keys()
    for name, array in two.items():
        wanted = one.get(name, np.zeros_like(array))
        assert np.array_equal(array, wanted), name


class Look(keras.callbacks.Callback):
    """Notes weights and masks of a network at the start and at batch ends, everything at epochs' ends.

    One stands ahead of `Prune` in the list of callbacks and one behind it.

    Attributes:
        weights, masks: dict, step -> list of arrays, one for each tensor that can be pruned.
        steps: List of int, the steps after which batches ended.
        epochs: List of `look_at`s, at the end of each epoch.
        begins: The same, at the beginning of each epoch.
        begin_slots: List, one for each beginning, of lists of slots, one for each tensor.
    """

    def __init__(self, network=None):
        super().__init__()
        self.network = network
        self.weights, self.masks, self.steps = {}, {}, []
        self.epochs, self.begins, self.begin_slots = [], [], []

    def note(self, step):
        self.weights[step] = arrays(w.variable for w in self.found)
        self.masks[step] = arrays(w.mask for w in self.found)

    def on_train_begin(self, logs=None):
        self.found = kgp.masked_weights(self.network or pruned_network(self.model))
        self.note(0)

    def on_epoch_begin(self, epoch, logs=None):
        self.begins.append(look_at(self.model))
        self.begin_slots.append([slots_of(self.model, [w.variable]) for w in self.found])

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(max(int(o.iterations) for o in optimizers(self.model).values()))
        self.note(self.steps[-1])

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(look_at(self.model))


def kept(masks):
    return [int(m.sum()) for m in masks]


def wanted(masks, sparsity):
    """Return how many weights of each tensor stay at one sparsity, or at one for each."""
    each = sparsity if isinstance(sparsity, list) else [sparsity] * len(masks)
    return [nets.kept_oracle(m.size, s) for m, s in zip(masks, each, strict=True)]


def largest(weights, masks, sparsity):
    """Return the masks that magnitude leaves of these weights: ties by lower index, none comes back."""
    found = []
    for weight, mask, keep in zip(weights, masks, wanted(masks, sparsity), strict=True):
        order = np.argsort(-np.where(mask, np.abs(weight), -1.0), axis=None, kind="stable")
        new = np.zeros(weight.size, bool)
        new[order[:keep]] = True
        found.append(new.reshape(weight.shape))
    return found


# --- one rise: exact at every step ---------------------------------------------------------------

RISES = {
    "one_shot": OneShot(0.6, 5),
    "one_shot_at_0": OneShot(0.55, 0),
    "linear": Linear(0.8, 1, 9),
    "linear_from_0": Linear(0.7, 0, 11, initial_sparsity=0.25),
    "cosine": Cosine(0.75, 2, 7, initial_sparsity=0.1),
    "cubic": kgp.Cubic(0.9, 3, 10),
    "square": PolynomialDecay(0.65, 1, 12, power=2),
    "constant": kgp.ConstantSparsity(0.5, 3),
}
LAST = 13


def due_steps(schedule, frequency):
    """Return the update steps by the rule: begin, begin + f, ..., and the end."""
    end = LAST if schedule.end_step is None else schedule.end_step
    steps = set(range(schedule.begin_step, end + 1, frequency))
    return sorted(steps if schedule.end_step is None else steps | {end})


@cases(
    (("classifier", "one_shot"), ("classifier", "cubic"), ("foreign", "linear_from_0")),
    ("model", "rise"),
    [
        *(("classifier", rise) for rise in RISES),
        ("dcgan", "cosine"),
        ("subclassed", "linear"),
        ("foreign", "linear_from_0"),
    ],
)
def test_a_rise_keeps_exact_counts_of_the_largest_weights(model, rise):
    schedule, gan = RISES[rise], fresh(model)
    due = due_steps(schedule, 4)
    assert due == [s for s in range(LAST + 1) if schedule.is_update_step(s, 4)]
    callback, before, after = prune(gan, schedule), Look(), Look()
    fit(gan, before, callback, after, steps=LAST)
    assert after.steps == list(range(1, LAST + 1))
    assert [step for step, *_ in callback.updates] == due
    assert [asked for _, asked, _ in callback.updates] == [schedule(step) for step in due]
    masks = before.masks[0]
    if 0 in due:
        masks = largest(before.weights[0], masks, schedule(0))
    for step in range(1, LAST + 1):
        if step in due:
            masks = largest(before.weights[step], masks, schedule(step))
        assert same(after.masks[step], masks), step
        latest = max((s for s in due if s <= step), default=None)
        assert kept(masks) == wanted(masks, 0.0 if latest is None else schedule(latest)), step
        for weight, mask in zip(after.weights[step], masks, strict=True):
            assert not weight[~mask].any() and weight[mask].all(), step
    nets.assert_exact(schedule(LAST), pruned_network(gan))


@pytest.mark.full
@cases(("linear",), "rise", ["one_shot_at_0", "linear", "square"])
def test_a_rise_with_several_steps_per_execution(rise):
    schedule, model = RISES[rise], fresh("chunks")
    callback, before, after = prune(model, schedule), Look(), Look()
    fit(model, before, callback, after, steps=15)
    seen = [3, 6, 9, 12, 15]
    assert after.steps == seen
    due = [s for s in range(16) if schedule.is_update_step(s, 4)]
    # Of those inside one execution, the latest.
    made = [max(d for d in due if d <= s) for s in seen if any(s - 3 < d <= s for d in due)]
    assert [step for step, *_ in callback.updates] == ([0] if 0 in due else []) + made
    for step in seen:
        latest = max((d for d in due if d <= step), default=None)
        masks = after.masks[step]
        assert kept(masks) == wanted(masks, 0.0 if latest is None else schedule(latest)), step
    nets.assert_exact(schedule(15), model)


@pytest.mark.full
def test_a_rise_of_a_spectrally_normalised_discriminator():
    schedule, gan = RISES["linear"], fresh("dcgan")
    inside = [w.layer.name for w in kgp.masked_weights(gan.discriminator)]
    wrappers = [
        layer.layer.name
        for layer in gan.discriminator.layers
        if isinstance(layer, keras.layers.SpectralNormalization)
    ]
    assert inside == wrappers and len(inside) == 3
    callback = prune(gan, schedule, "discriminator")
    before, after = Look(gan.discriminator), Look(gan.discriminator)
    fit(gan, before, callback, after, steps=LAST)
    masks = before.masks[0]
    for step in range(1, LAST + 1):
        if step in due_steps(schedule, 4):
            masks = largest(before.weights[step], masks, schedule(step))
        assert same(after.masks[step], masks), step
    nets.assert_exact(schedule(LAST), gan.discriminator)


# --- layer after layer ---------------------------------------------------------------------------


def in_slices(schedule, step, count):
    """Return what each tensor's slice of a straight line from 0 says, by the formula of the class."""
    line, rest = schedule.schedule, 1.0 - schedule.overlap
    length = (line.end_step - line.begin_step) / (1 + (count - 1) * rest)
    begins = [line.begin_step + i * length * rest for i in range(count)]
    shares = [min(max((step - begin) / length, 0.0), 1.0) for begin in begins]
    values = [line.final_sparsity * share for share in shares]
    return values if schedule.order == "forward" else values[::-1]


ORDERS = {
    "forward": LayerwiseOrder(Linear(0.8, 0, 12)),
    "backward": LayerwiseOrder(Linear(0.8, 0, 12), "backward"),
    "forward_overlap": LayerwiseOrder(Linear(0.6, 1, 11), "forward", 0.5),
    "backward_overlap": LayerwiseOrder(Linear(0.6, 2, 12), "backward", 0.25),
}


@cases(
    1,
    ("model", "order"),
    [
        *(("classifier", order) for order in ORDERS),
        ("dcgan", "backward_overlap"),
        ("subclassed", "forward_overlap"),
        ("foreign", "backward"),
    ],
)
def test_layers_are_pruned_one_after_the_other(model, order):
    schedule, gan = ORDERS[order], fresh(model)
    callback, before, after = prune(gan, schedule, frequency=2), Look(), Look()
    fit(gan, before, callback, after, steps=LAST)
    count = len(after.masks[1])
    assert count > 1
    due = sorted({*range(schedule.begin_step, schedule.end_step, 2), schedule.end_step})
    assert [step for step, *_ in callback.updates] == due
    masks = before.masks[0]
    for step in range(1, LAST + 1):
        if step in due:
            targets = in_slices(schedule, step, count)
            masks = largest(before.weights[step], masks, targets)
            assert kept(after.masks[step]) == wanted(masks, targets), step
        assert same(after.masks[step], masks), step
    # The one whose turn comes last is dense for as long as the first is not done.
    first, last = (0, -1) if schedule.order == "forward" else (-1, 0)
    early = after.masks[4]
    assert not early[first].all() and early[last].all()
    nets.assert_exact(schedule.schedule.final_sparsity, pruned_network(gan))


def test_a_list_of_schedules_prunes_each_tensor_along_its_own():
    gan = fresh("foreign")
    parts = [Linear(0.8, 5, 9), OneShot(0.3, 3)]
    callback, before, after = prune(gan, LayerwiseOrder(parts), frequency=100), Look(), Look()
    fit(gan, before, callback, after, steps=LAST)
    # Begin and end of every one, whatever the frequency.
    assert [step for step, *_ in callback.updates] == [3, 5, 9]
    for step in range(1, LAST + 1):
        latest = max((s for s in (3, 5, 9) if s <= step), default=0)
        masks = after.masks[step]
        assert kept(masks) == wanted(masks, [part(latest) for part in parts]), step
    sizes = [m.size for m in masks]
    left = nets.kept_oracle(sizes[0], 0.8) + nets.kept_oracle(sizes[1], 0.3)
    assert callback.report.achieved == 1 - left / sum(sizes)
    asked = (0.8 * sizes[0] + 0.3 * sizes[1]) / sum(sizes)
    assert callback.report.requested == pytest.approx(asked, rel=1e-12)


def test_a_list_of_the_wrong_length_is_refused():
    gan = fresh("foreign")
    schedule = LayerwiseOrder([OneShot(0.3, 2), OneShot(0.3, 3), OneShot(0.3, 4)])
    with pytest.raises(
        InvalidArgumentError,
        match=r"one schedule per pruned tensor\. Received: 3 schedule\(s\) for 2 tensor\(s\)",
    ):
        fit(gan, prune(gan, schedule), steps=LAST)
    assert all(m.all() for m in masks_of(gan.generator))


def test_a_list_of_the_wrong_length_is_refused_before_training():
    gan = fresh("foreign")
    with pytest.raises(InvalidArgumentError, match="one schedule per pruned tensor"):
        fit(gan, prune(gan, LayerwiseOrder([OneShot(0.3, 6)])), steps=8)
    assert int(gan.g_optimizer.iterations) == 0


# --- thresholds that move ------------------------------------------------------------------------

STATISTICS = {
    None: lambda w: 1.0,
    "std": lambda w: np.sqrt(np.mean((w - w.mean()) ** 2)),
    "mean_abs": lambda w: np.mean(np.abs(w)),
    "max_abs": lambda w: np.max(np.abs(w)),
}


@cases(
    2,
    ("model", "statistic", "final", "power"),
    [
        ("classifier", None, 0.15, 1.0),
        ("classifier", "std", 0.8, 1.0),
        ("classifier", "mean_abs", 0.9, 2.0),
        ("classifier", "max_abs", 0.5, 0.5),
        ("dcgan", "std", 0.8, 2.0),
        ("subclassed", "mean_abs", 0.9, 1.0),
        ("foreign", "max_abs", 0.5, 1.0),
    ],
)
def test_dynamic_threshold_prunes_what_is_below_it_at_that_moment(model, statistic, final, power):
    gan = fresh(model)
    schedule = DynamicThreshold(final, 2, 9, final / 4, power, statistic)
    callback, before, after = prune(gan, schedule, frequency=3), Look(), Look()
    fit(gan, before, callback, after, steps=LAST)
    assert [step for step, *_ in callback.updates] == [2, 5, 8, 9]
    masks = before.masks[0]
    for step in range(1, LAST + 1):
        if step in (2, 5, 8, 9):
            left = 1 - (step - 2) / 7
            value = final + (final / 4 - final) * left**power
            new = []
            for weight, mask in zip(before.weights[step], masks, strict=True):
                limit = value * STATISTICS[statistic](weight.astype(np.float64))
                new.append(mask & (np.abs(weight) >= np.float32(limit)))
            # Some go, and some stay: else there is nothing to be seen.
            assert min(kept(new)) > 0 and (step == 9 or sum(kept(new)) < sum(kept(masks))), step
            masks = new
        assert same(after.masks[step], masks), step


def test_dynamic_threshold_that_would_empty_a_tensor_keeps_its_largest_weight():
    model = fresh("classifier")
    callback, before = prune(model, DynamicThreshold(3.0, 2, 2, statistic="max_abs")), Look()
    with pytest.warns(PruningWarning, match="is above every score of .* and would empty it"):
        fit(model, before, callback, steps=4)
    for weight, mask in zip(before.weights[2], masks_of(model), strict=True):
        assert np.flatnonzero(mask).tolist() == [np.argmax(np.abs(weight))]


# --- cycles --------------------------------------------------------------------------------------

CYCLES = Cyclic(0.3, 0.7, period=6, begin_step=1, end_step=15)
# Begins and ends of rises, and every second step from begin_step on.
CYCLE_STEPS = [1, 3, 4, 5, 7, 9, 10, 11, 13, 15]


def cycle(step):
    """Return the sparsity: two cycles of 6 steps, three of them a rise, then high."""
    position = (step - 1) % 6
    if step >= 13 or position >= 3:
        return 0.7
    return 0.7 - 0.4 * (1 - position / 3) ** 3


@cases(
    ("soft", "splice"),
    ("model", "mode"),
    [
        ("classifier", "soft"),
        ("classifier", RigL(0.3)),
        ("classifier", Splice()),
        ("dcgan", "soft"),
        ("subclassed", "set"),
        ("foreign", RigL(0.3, batches=2)),
    ],
    ids=["soft", "rigl", "splice", "dcgan-soft", "subclassed-set", "foreign-rigl"],
)
def test_cycles_have_the_sparsity_of_the_schedule_at_every_step(model, mode):
    # Weights that collect updates unseen are another step to trace.
    gan = make("eager") if isinstance(mode, Splice) else fresh(model)
    callback, after = prune(gan, CYCLES, frequency=2, mode=mode), Look()
    history = {}

    class Log(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            history[batch + 1] = next(v for k, v in logs.items() if k.endswith("sparsity"))

    fit(gan, callback, after, Log(), steps=17)
    assert [step for step, *_ in callback.updates] == CYCLE_STEPS
    for step, asked, achieved in callback.updates:
        assert asked == pytest.approx(cycle(step), abs=1e-12)
        masks = after.masks[step]
        total = sum(m.size for m in masks)
        assert achieved == 1 - sum(wanted(masks, asked)) / total
    for step in range(1, 18):
        latest = max(s for s in CYCLE_STEPS if s <= step)
        masks, values = after.masks[step], after.weights[step]
        exact = wanted(masks, CYCLES(latest))
        assert history[step] == 1 - sum(exact) / sum(m.size for m in masks)
        if mode == "soft" and step < 15:
            assert all(m.all() for m in masks), step
            if step == latest:
                assert [np.count_nonzero(v) for v in values] == exact, step
        else:
            assert kept(masks) == exact, step
            assert not any(v[~m].any() for v, m in zip(values, masks, strict=True)), step
    assert callback.pruner.held


def test_cycles_bring_weights_back():
    model = fresh("classifier")
    callback, after = prune(model, CYCLES, frequency=100, mode="set"), Look()
    fit(model, callback, after, steps=17)
    # Whatever the frequency: where cycles begin and where their rises end.
    assert [step for step, *_ in callback.updates] == [1, 4, 7, 10, 15]
    grown = [
        sum(int((b & ~a).sum()) for a, b in zip(after.masks[s - 1], after.masks[s], strict=True))
        for s in (1, 4, 7, 10, 15)
    ]
    at_7 = sum(wanted(after.masks[7], 0.3)) - sum(wanted(after.masks[4], 0.7))
    assert grown[2] >= at_7 > 0


@pytest.mark.full
def test_cycles_with_several_steps_per_execution():
    model = fresh("chunks")
    callback, after = prune(model, CYCLES, frequency=2, mode="set"), Look()
    fit(model, callback, after, steps=18)
    # Steps 1 to 3, 4 to 6 and so on are one execution each; the latest update in each is made.
    assert [step for step, *_ in callback.updates] == [3, 5, 9, 11, 15]
    for step, due in zip((3, 6, 9, 12, 15, 18), (3, 5, 9, 11, 15, 15), strict=True):
        assert kept(after.masks[step]) == wanted(after.masks[step], CYCLES(due)), step


# --- adaptive ------------------------------------------------------------------------------------

SEARCH = AdaptiveSparsity("quality", 0.1, increment=0.2, minimum_increment=0.05)
# The baseline; holds; does not; holds; does not, twice; over.
QUALITY = [1.0, 1.05, 1.2, 1.0, 1.3, 1.3, 1.0, 1.0]
TRIALS = [0.2, 0.4, 0.3, 0.4, 0.35]  # of the epochs from the second on
HELD = 0.3  # found after the fourth epoch
JUDGED = [0.0, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3]  # what holds after each epoch
# Two epochs for each trial, so that training may end between them.
SLOW = AdaptiveSparsity("quality", 0.1, increment=0.2, minimum_increment=0.05, recovery_epochs=2)


class Script(keras.callbacks.Callback):
    """Writes a log; stands ahead of `Prune` in the list of callbacks."""

    def __init__(self, values, name="quality"):
        super().__init__()
        self.values, self.name = list(values), name

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]


class Adaptive:
    """A run that a script of values decides, with all that there was before and after each epoch end."""

    def __init__(self, model, schedule, values, *more, target="generator", steps=2, **kwargs):
        self.model = model
        settings = {k: kwargs.pop(k) for k in ("mode", "criterion") if k in kwargs}
        self.prune = prune(model, schedule, target, **settings)
        self.before, self.after = Look(), Look()
        script = [] if values is None else [Script(values)]
        callbacks = [*script, *more, self.before, self.prune, self.after]
        self.history = fit(
            model, *callbacks, steps=steps, **{"epochs": len(values or ()), **kwargs}
        )
        self.network = getattr(model, target, model)
        # An optimizer that Keras has made, but the model never uses, makes no steps.
        self.iterations = {int(o.iterations) for o in optimizers(model).values()} - {0}

    @property
    def trials(self):
        return [round(asked, 9) for _, asked, _ in self.prune.updates]

    @property
    def steps(self):
        return [step for step, *_ in self.prune.updates]


def course(schedule, values):
    """Return (what is to be tried after each epoch or None, the highest sparsity that held at the end).

    What is to be tried after the last epoch is not tried.
    """
    baseline, rise, held, trial, left = schedule.baseline, schedule.increment, 0.0, None, 0
    tried, over = [], False
    for value in values:
        left -= 1
        if trial is not None and left > 0:
            tried.append(None)
            continue
        if baseline is None:
            baseline = value
        elif trial is not None:
            slack = schedule.tolerance * (abs(baseline) if schedule.relative else 1.0)
            bad = {
                "min": value > baseline + slack,
                "max": value < baseline - slack,
                "target": abs(value - baseline) > slack,
            }[schedule.direction]
            held, rise = (held, rise / 2) if bad or math.isnan(value) else (trial, rise)
        trial = min(held + rise, schedule.maximum)
        room = schedule.maximum - held
        over = over or trial - held < min(schedule.minimum_increment, room) - 1e-9 or room < 1e-9
        trial, left = (None, 0) if over else (trial, schedule.recovery_epochs)
        tried.append(None if over else round(trial, 9))
    return tried, round(held, 9)


def test_the_course_that_these_tests_expect():
    assert course(SEARCH, QUALITY) == ([*TRIALS, None, None, None], HELD)
    assert [course(SEARCH, QUALITY[: n + 1])[1] for n in range(len(QUALITY))] == JUDGED


@functools.cache
def searched(model):
    return Adaptive(fresh(model), SEARCH, QUALITY)


@each_model
def test_a_search_ends_with_the_highest_sparsity_that_held(model):
    run = searched(model)
    assert (run.trials, run.steps) == (TRIALS, [2, 4, 6, 8, 10])
    key = "sparsity" if model == "classifier" else "generator_sparsity"
    masks = run.after.masks[2]
    sizes = sum(m.size for m in masks)
    # The log of an epoch is written after its judgement, and before the next trial begins.
    assert run.history[key] == [1 - sum(wanted(masks, s)) / sizes for s in JUDGED]
    for epoch, sparsity in enumerate([0.0, *TRIALS, HELD, HELD]):
        for step in (2 * epoch + 1, 2 * epoch + 2):
            assert kept(run.after.masks[step]) == wanted(masks, sparsity), step
            for weight, mask in zip(run.after.weights[step], run.after.masks[step], strict=True):
                assert not weight[~mask].any() and weight[mask].all(), step
    for _, asked, achieved in run.prune.updates:
        assert achieved == 1 - sum(wanted(masks, asked)) / sizes


@each_model
def test_backing_off_puts_the_last_good_state_back_bit_for_bit(model):
    run = searched(model)
    before, after = run.before.epochs, run.after.epochs
    # Sparsity 0.3 held after the fourth epoch (3); two trials (4, 5) did not.
    assert_same_state(before[3], after[5])
    moved = [name for name, array in before[5].items() if not np.array_equal(array, after[5][name])]
    for kind in ("weight", "mask", "optimizer", *(["noise"] if "noise" in before[5] else [])):
        assert any(kind in name for name in moved), kind
    assert run.iterations == {16}
    # After a failure (epoch 2) as well, to the end of the epoch.
    assert_same_state(before[1], after[2])
    assert_same_state(after[2], run.before.begins[3])
    # The trial of the next epoch begins with it, at the good state but for what it prunes.
    begun = run.after.begins[3]
    assert begun.keys() == before[1].keys()
    pruned = 0
    for name, good in before[1].items():
        new = begun[name]
        if name.startswith("mask"):
            assert not (new & ~good).any(), name
            pruned += int((good & ~new).sum())
        else:
            # Only what is pruned now has become zero: weights, their moments, their average.
            assert np.array_equal(new, np.where(new != 0, good, 0)), name
    assert pruned > 0
    weights = run.before.weights[4]
    expected = largest(weights, run.before.masks[4], 0.3)
    assert same(run.after.masks[7], expected)
    for moments, mask in zip(run.after.begin_slots[3], expected, strict=True):
        assert len(moments) == 2  # Adam
        for moment in moments:
            assert not moment[~mask].any() and moment[mask].any()
    # And training goes on from there.
    for weight, mask, moved in zip(weights, expected, run.after.weights[7], strict=True):
        assert not np.array_equal(np.where(mask, weight, 0), moved)
        np.testing.assert_allclose(moved, np.where(mask, weight, 0), atol=0.05)


@pytest.mark.full
def test_a_copy_has_the_masks_that_are_gone_back_to():
    gan = fresh("foreign")
    Adaptive(gan, SEARCH, QUALITY[:6])
    nets.assert_exact(HELD, gan.generator, gan.ema_generator)
    assert same(masks_of(gan.generator), masks_of(gan.ema_generator))


@pytest.mark.full
def test_backing_off_puts_hidden_values_back():
    run = Adaptive(make("eager"), SEARCH, QUALITY, mode=SET(0.4, restore="previous"), steps=3)
    before, after = run.before.epochs, run.after.epochs
    hidden = [name for name in before[3] if name.startswith("hidden")]
    assert len(hidden) == 2 and all(before[3][name].any() for name in hidden)
    assert any(not np.array_equal(before[3][name], before[5][name]) for name in hidden)
    assert_same_state(before[3], after[5])
    nets.assert_exact(HELD, run.network)


@pytest.mark.full
def test_the_learning_rate_does_not_step_back():
    model = fresh("classifier")

    class Lower(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 4:
                self.model.optimizer.learning_rate = 1e-3

    Adaptive(model, SEARCH, QUALITY, Lower())
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)


@cases(
    3,
    ("schedule", "values", "trials", "held"),
    [
        # Higher is better.
        (
            AdaptiveSparsity("quality", 0.1, 0.3, direction="max"),
            [2, 1.9, 1.7, 2.5, 1.7],
            [0.3, 0.6, 0.45, 0.6],
            0.45,
        ),
        # In units of the log, up to the maximum, which is tried though it is less than a rise away.
        (
            AdaptiveSparsity(
                "quality", 0.5, 0.4, maximum=0.7, minimum_increment=0.35, relative=False
            ),
            [1, 1.4, 1.4, 1.4],
            [0.4, 0.7],
            0.7,
        ),
        # A baseline that is given: the first epoch is no measure.
        (
            AdaptiveSparsity("quality", 0.1, 0.2, baseline=1.0),
            [5, 1.05, 1.2, 1.1, 1.2],
            [0.2, 0.4, 0.3, 0.4],
            0.3,
        ),
        # NaN is no baseline (the next epoch gives it), and never holds.
        (SEARCH, [math.nan, 1.0, 1.0, math.nan, 1.0, 9.0], [0.2, 0.4, 0.3, 0.4], 0.3),
        # Nothing holds: dense again, and no trial smaller than the smallest rise.
        (SEARCH, [1.0, 9.0, 9.0, 9.0, 1.0], [0.2, 0.1, 0.05], 0.0),
        # Infinite, also where higher is better.
        (SEARCH, [1.0, math.inf, 1.0, math.inf], [0.2, 0.1, 0.2], 0.1),
        (
            AdaptiveSparsity("quality", 0.1, 0.2, direction="max"),
            [1.0, math.inf, 1.0, math.inf],
            [0.2, 0.1, 0.2],
            0.1,
        ),
        # Too low is as bad as too high.
        (
            AdaptiveSparsity("quality", 0.1, 0.2, direction="target"),
            [1.0, 0.8, 1.05, 1.2, 0.95, 1.2],
            [0.2, 0.1, 0.2, 0.15, 0.2],
            0.15,
        ),
    ],
    ids=["max", "maximum", "baseline", "nan", "nothing", "inf", "inf_max", "target"],
)
def test_courses(schedule, values, trials, held):
    run = Adaptive(fresh("classifier"), schedule, values)
    assert run.trials == trials
    assert kept(masks_of(run.model)) == wanted(masks_of(run.model), held)
    assert run.prune.pruner.sparsity == pytest.approx(held, abs=0.01)


@pytest.mark.full
def test_recovery_epochs_judges_only_the_last_of_them():
    schedule = AdaptiveSparsity("quality", 0.1, 0.2, recovery_epochs=3, minimum_increment=0.1)
    values = [1.0, 9.0, 9.0, 1.0, 1.0, 1.0, 9.0, 9.0, 1.0, 1.05, 1.0]
    tried, held = course(schedule, values)
    assert (tried[0], tried[3], tried[6], tried[9], held) == (0.2, 0.4, 0.3, 0.4, 0.3)
    run = Adaptive(fresh("classifier"), schedule, values)
    assert run.trials == [t for t in tried[:-1] if t is not None]
    assert run.steps == [2, 8, 14, 20]
    # Training ended after one of the three epochs: back to the last that was judged good.
    assert_same_state(run.before.epochs[9], look_at(run.model))
    nets.assert_exact(0.3, run.model)


@pytest.mark.full
def test_a_run_that_ends_in_mid_trial_ends_with_what_held(capsys):
    gan = fresh("dcgan")
    callback, before, after = prune(gan, SLOW, verbose=1), Look(), Look()
    fit(gan, Script([1.0, 9.0, 1.05, 1.0]), before, callback, after, steps=2, epochs=4)
    assert [(step, asked) for step, asked, _ in callback.updates] == [(2, 0.2), (6, 0.4)]
    # The second trial had one of its two epochs.
    assert kept(after.masks[8]) == wanted(after.masks[8], 0.4)
    assert_same_state(before.epochs[2], look_at(gan))
    nets.assert_exact(0.2, gan.generator, gan.ema_generator)
    said = capsys.readouterr().out
    assert "Prune: sparsity 0.2000 held (quality 1.05 against 1)." in said
    assert "Prune: training ended before sparsity 0.4000 was evaluated." in said


@pytest.mark.full
def test_a_trial_that_no_epoch_is_left_for_is_not_made(capsys):
    gan = fresh("dcgan")
    callback, before, after = prune(gan, SEARCH, verbose=1), Look(), Look()
    fit(gan, Script(QUALITY), before, callback, after, steps=2, epochs=2)
    assert [(step, asked) for step, asked, _ in callback.updates] == [(2, 0.2)]
    assert len(callback.reports) == 1 and callback.report is callback.reports[0]
    for seen in (after.epochs[1], look_at(gan)):
        assert_same_state(before.epochs[1], seen)
    nets.assert_exact(0.2, gan.generator, gan.ema_generator)
    said = capsys.readouterr().out
    assert "Prune: sparsity 0.2000 held (quality 1.05 against 1)." in said
    assert "0.4000" not in said and "training ended" not in said


@pytest.mark.full
@pytest.mark.parametrize("first", range(1, 7))
def test_a_search_in_two_fits_is_as_in_one(first):
    """Whether the second begins with a trial that holds, or with one that does not and has to go back."""
    model = fresh("subclassed")
    whole = Adaptive(model, SEARCH, QUALITY)
    expected = look_at(model)
    model = fresh("subclassed")
    with warnings.catch_warnings():
        warnings.simplefilter("error", PruningWarning)
        one = Adaptive(model, SEARCH, QUALITY[:first])
        two = Adaptive(model, SEARCH, QUALITY[first:])
    assert len(one.prune.updates) == min(first - 1, len(TRIALS))
    assert one.prune.updates + two.prune.updates == whole.prune.updates
    for parts, wholes in (
        (one.before.epochs + two.before.epochs, whole.before.epochs),
        (one.after.epochs + two.after.epochs, whole.after.epochs),
    ):
        for part, wanted_state in zip(parts, wholes, strict=True):
            assert_same_state(wanted_state, part)
    assert_same_state(expected, look_at(model))


@pytest.mark.full
def test_a_second_fit_goes_on_with_the_search():
    model = fresh("classifier")
    first = Adaptive(model, SEARCH, QUALITY[:3])
    assert (first.trials, first.steps) == ([0.2, 0.4], [2, 4])
    nets.assert_exact(0.2, model)
    # Its baseline is that of the first; the rise was halved. It begins with the trial that was next.
    second = Adaptive(model, SEARCH, [1.09, 1.2, 1.2, 1.2])
    assert (second.trials, second.steps) == ([0.3, 0.4, 0.35], [6, 8, 10])
    masks = second.after.masks
    for step, sparsity in zip(range(7, 15), np.repeat([0.3, 0.4, 0.35, 0.3], 2), strict=True):
        # A trial that did not hold is given up at the end of its epoch, after the look at its last batch.
        assert kept(masks[step]) == wanted(masks[step], sparsity), step
    nets.assert_exact(0.3, model)
    # The search is over.
    third = Adaptive(model, SEARCH, [1.0, 1.0])
    assert third.trials == []
    nets.assert_exact(0.3, model)


@pytest.mark.full
def test_other_settings_begin_another_search_at_the_sparsity_that_held():
    model = fresh("classifier")
    Adaptive(model, SEARCH, QUALITY)
    nets.assert_exact(HELD, model)
    finer = AdaptiveSparsity("quality", 0.1, increment=0.02, minimum_increment=0.02)
    # The baseline of this log is still 1.0: not what it is now.
    run = Adaptive(model, finer, [1.0, 1.05, 1.2, 1.2])
    assert run.trials == [0.32, 0.34]
    nets.assert_exact(0.32, model)
    other = AdaptiveSparsity("score", 0.1, increment=0.1, minimum_increment=0.1, direction="max")
    callback = prune(model, other)
    fit(model, Script([50.0, 49.0, 30.0], "score"), callback, steps=2, epochs=3)
    assert [round(asked, 9) for _, asked, _ in callback.updates] == [0.42, 0.52]
    nets.assert_exact(0.42, model)


@cases(1, "steps", [2, 3])
def test_nothing_is_pruned_or_read_before_begin_step(steps):
    schedule = AdaptiveSparsity("quality", 0.1, increment=0.2, begin_step=2 * steps)
    run = Adaptive(fresh("classifier"), schedule, [7.0, 1.0, 1.0, 9.0], steps=steps)
    assert (run.steps, run.trials) == ([2 * steps, 3 * steps], [0.2, 0.4])
    assert all(m.all() for m in run.after.masks[2 * steps])
    masks = run.after.masks[2 * steps + 1]
    assert kept(masks) == wanted(masks, 0.2)
    nets.assert_exact(0.2, run.model)


def test_a_log_that_is_not_there():
    model = fresh("classifier")
    with pytest.raises(
        InvalidArgumentError,
        match=r"Unknown log in `monitor`: 'qualty'\. Did you mean 'quality'\?(.|\n)*"
        r"loss(.|\n)*Place the callback that writes it before `Prune`\.",
    ):
        Adaptive(model, AdaptiveSparsity("qualty"), [1.0])
    assert all(m.all() for m in masks_of(model))


def test_a_log_that_is_written_too_late():
    model = fresh("classifier")
    with pytest.raises(InvalidArgumentError, match=r"Place the callback .* before `Prune`"):
        fit(model, prune(model, SEARCH), Script([1.0]), steps=2)


@pytest.mark.full
def test_the_accuracy_of_a_discriminator_that_is_to_stay_where_it_is():
    name = "discriminator_fake_accuracy"
    schedule = AdaptiveSparsity(
        name,
        0.2,
        0.1,
        direction="target",
        relative=False,
        minimum_increment=0.01,
    )
    gan = fresh("dcgan")
    run = Adaptive(gan, schedule, None, target="discriminator", epochs=9)
    tried, held = course(schedule, run.history[name])
    assert run.trials == [t for t in tried[:-1] if t is not None]
    # Some held, and some did not.
    assert 0.0 < held < max(run.trials)
    nets.assert_exact(held, gan.discriminator)
    assert kept(masks_of(gan.generator)) == wanted(masks_of(gan.generator), 0.0)


@pytest.mark.full
def test_one_search_over_both_networks():
    gan = fresh("subclassed")
    callback = prune(gan, SEARCH, ["generator", "discriminator"])
    fit(gan, Script(QUALITY), callback, steps=2, epochs=len(QUALITY))
    assert [round(asked, 9) for _, asked, _ in callback.updates] == TRIALS
    nets.assert_exact(HELD, gan.generator, gan.discriminator)


# --- adaptive, with other callbacks --------------------------------------------------------------


def backup(folder):
    return keras.callbacks.BackupAndRestore(str(folder), delete_checkpoint=False)


@pytest.mark.full
@pytest.mark.parametrize(
    ("model", "at"), [("classifier", 4), ("subclassed", 7), ("subclassed", 9), ("classifier", 12)]
)
def test_a_search_that_is_killed_goes_on_where_it_was(model, at, tmp_path):
    values = [1.0, 1.0, 1.0, 1.05, 1.2, 1.3, 1.3, 1.0]
    gan = fresh(model)
    whole = prune(gan, SEARCH)
    fit(gan, Script(values), whole, steps=2, epochs=8)
    expected = look_at(gan)
    gan = fresh(model)
    with pytest.raises(KeyboardInterrupt):
        fit(
            gan,
            Script(values),
            prune(gan, SEARCH),
            backup(tmp_path),
            BreakAt(at),
            steps=2,
            epochs=8,
        )
    gan = fresh(model)
    rest = prune(gan, SEARCH)
    fit(gan, Script(values), rest, backup(tmp_path), steps=2, epochs=8)
    # It begins with the trial that ran, whether that will hold (steps 4, 7) or not (9, 12).
    done = (at - 1) // 2
    assert rest.updates == whole.updates[done - 1 :]
    assert rest.updates[0][0] == 2 * done
    assert_same_state(expected, look_at(gan))
    nets.assert_exact(0.6, pruned_network(gan))


@pytest.mark.full
def test_a_search_that_is_killed_between_the_epochs_of_a_trial(tmp_path):
    values = [1.0, 9.0, 1.0, 9.0, 1.0, 1.0, 1.0]
    model = fresh("classifier")
    whole = prune(model, SLOW)
    fit(model, Script(values), whole, steps=2, epochs=7)
    expected = look_at(model)
    model = fresh("classifier")
    with pytest.raises(KeyboardInterrupt):
        callbacks = [Script(values), prune(model, SLOW), backup(tmp_path), BreakAt(9)]
        fit(model, *callbacks, steps=2, epochs=7)
    model = fresh("classifier")
    rest = prune(model, SLOW)
    fit(model, Script(values), rest, backup(tmp_path), steps=2, epochs=7)
    # The trial that ran held, so the state before it is not asked for.
    assert [asked for _, asked, _ in whole.updates[:2]] == [0.2, 0.4]
    assert rest.updates == whole.updates[2:] and len(rest.updates) == 1
    assert_same_state(expected, look_at(model))
    nets.assert_exact(0.6, model)


@pytest.mark.full
def test_a_search_that_is_killed_in_a_trial_that_does_not_hold(tmp_path):
    """The backup holds the state before the trial, so the rest goes as if nothing had happened."""
    values = [1.0, 1.0, 1.0, 1.0, 9.0, 9.0, 9.0]
    model = fresh("classifier")
    whole = prune(model, SLOW)
    fit(model, Script(values), whole, steps=2, epochs=7)
    expected = look_at(model)
    model = fresh("classifier")
    with pytest.raises(KeyboardInterrupt):
        # In the second epoch of the second trial.
        callbacks = [Script(values), prune(model, SLOW), backup(tmp_path), BreakAt(9)]
        fit(model, *callbacks, steps=2, epochs=7)
    model = fresh("classifier")
    rest = prune(model, SLOW)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PruningWarning)
        fit(model, Script(values), rest, backup(tmp_path), steps=2, epochs=7)
    assert rest.updates == whole.updates[2:] and len(rest.updates) == 1
    assert_same_state(expected, look_at(model))


class Poison(keras.callbacks.Callback):
    """Ruins a weight as one batch begins, or as it ends."""

    def __init__(self, at, begin=True):
        super().__init__()
        self.at, self.begin, self.begun, self.ended = at, begin, 0, 0

    def ruin(self):
        weight = pruned_network(self.model).trainable_weights[-1]
        weight.assign(weight + np.nan)

    def on_train_batch_begin(self, batch, logs=None):
        self.begun += 1
        if self.begin and self.begun == self.at:
            self.ruin()

    def on_train_batch_end(self, batch, logs=None):
        self.ended += 1
        if not self.begin and self.ended == self.at:
            self.ruin()


@cases(("classifier",), "model", ["subclassed", "foreign", "classifier"])
def test_a_trial_that_diverges_does_not_hold(model):
    """`GANModel` adds the guard by itself; it stops training, and the search goes back further."""
    gan = fresh(model)
    guard = [] if isinstance(gan, kgp.GANModel) else [kgp.NaNGuard()]
    loss = {"classifier": "loss", "foreign": "g_loss"}.get(model, "generator_loss")
    schedule = AdaptiveSparsity(loss, 50.0, increment=0.2)
    callback, before = prune(gan, schedule), Look()
    with pytest.warns(PruningWarning, match="Training stopped after batch 7"):
        fit(gan, *guard, Poison(7), before, callback, steps=2, epochs=8)
    # Two trials held, the third (from step 6 on) was ruined.
    updates = [(step, round(asked, 9)) for step, asked, _ in callback.updates]
    assert updates == [(2, 0.2), (4, 0.4), (6, 0.6)]
    assert len(before.epochs) == 4
    assert_same_state(before.epochs[2], look_at(gan))
    nets.assert_exact(0.4, pruned_network(gan))


@pytest.mark.full
def test_a_trial_that_diverges_in_its_last_step_does_not_hold():
    gan = fresh("subclassed")
    schedule = AdaptiveSparsity("generator_loss", 50.0, increment=0.2)
    callback, before = prune(gan, schedule), Look()
    with pytest.warns(PruningWarning, match="Training stopped after batch 6"):
        fit(gan, Poison(6, begin=False), before, callback, steps=2, epochs=8)
    # The loss of step 6 was finite, the weights after it were not.
    assert_same_state(before.epochs[1], look_at(gan))
    nets.assert_exact(0.2, gan.generator)


def test_a_trial_that_ruins_the_weights_does_not_hold_with_a_guard_behind():
    model = fresh("classifier")
    callback, before = prune(model, SEARCH), Look()
    callbacks = [Script([1.0, 1.0, 1.0]), Poison(6, begin=False), before, callback, kgp.NaNGuard()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PruningWarning)  # the guard may have something to say
        fit(model, *callbacks, steps=2, epochs=3)
    assert_same_state(before.epochs[1], look_at(model))
    nets.assert_exact(0.2, model)


@pytest.mark.full
def test_a_search_that_backs_off_leaves_the_other_network_its_schedule():
    gan = fresh("subclassed")
    other = prune(gan, Linear(0.5, 1, 4), "discriminator", 1)
    run = Adaptive(gan, SEARCH, [1.0, 9.0, 1.0, 1.0, 9.0], other)
    assert run.trials == [0.2, 0.1, 0.2, 0.3]
    nets.assert_exact(0.2, gan.generator)
    nets.assert_exact(0.5, gan.discriminator)


@pytest.mark.full
def test_a_search_by_gradients():
    model = fresh("classifier")
    run = Adaptive(model, SEARCH, [*QUALITY, 1.0, 1.0], criterion=kgp.Taylor(batches=1))
    # Each trial waits for a batch of gradients of the epoch that it is to begin with.
    assert (run.trials, run.steps) == (TRIALS, [3, 5, 7, 9, 11])
    assert all(m.all() for m in run.after.masks[2]) and not all(m.all() for m in run.after.masks[3])
    nets.assert_exact(HELD, model)


@pytest.mark.full
@cases(
    1,
    ("schedule", "values", "batches", "steps"),
    [
        # In mid-trial.
        (SLOW, [1.0, 9.0, 1.05, 1.0], 1, [3, 7]),
        # When a trial would be next.
        (SEARCH, QUALITY[:2], 1, [3]),
        # While the next trial still waits for gradients.
        (SEARCH, [1.0, 1.0, 1.05, 1.0], 3, [5]),
    ],
    ids=["trial", "planned", "waiting"],
)
def test_a_search_by_gradients_that_ends_before_it_is_over(schedule, values, batches, steps):
    with warnings.catch_warnings():
        warnings.simplefilter("error", PruningWarning)
        criterion = kgp.Taylor(batches=batches)
        run = Adaptive(fresh("classifier"), schedule, values, criterion=criterion)
    assert (run.trials, run.steps) == ([0.2, 0.4][: len(steps)], steps)
    # What held, and nothing after it.
    if schedule is SLOW:
        assert_same_state(run.before.epochs[2], look_at(run.model))
    nets.assert_exact(0.2, run.model)


@pytest.mark.full
def test_a_search_that_ends_in_mid_trial_ends_with_the_averages_of_use_ema():
    model = make("eager", Adam(1e-2, use_ema=True, ema_momentum=0.9))
    run = Adaptive(model, SLOW, [1.0, 9.0, 1.05, 1.0])
    assert run.trials == [0.2, 0.4]
    nets.assert_exact(0.2, model)
    averages = model.optimizer._model_variables_moving_average
    assert same(arrays(model.trainable_weights), arrays(averages))


# --- rounds with a rewind ------------------------------------------------------------------------

ROUNDS = [4, 7, 10]


def rounds(rewind="model", rewind_step=2):
    return IterativeRewind(
        0.784, 3, begin_step=4, round_steps=3, rewind_step=rewind_step, rewind=rewind
    )


def of_round(number):
    """Return the sparsity after a round: each leaves 60 % of what the one before has left."""
    return [0.4, 0.64, 0.784][number]


class Weights(keras.callbacks.Callback):
    """Notes all weights of a model, by network, and the optimizers' slots at batch ends."""

    def __init__(self):
        super().__init__()
        self.weights, self.slots = {}, {}

    def note(self, step):
        for name, network in self.networks.items():
            self.weights[step, name] = arrays(network.weights)
            self.slots[step, name] = slots_of(self.model, network.weights)

    def on_train_begin(self, logs=None):
        self.networks = discovery.networks(self.model) or {"model": self.model}
        self.step = max(int(o.iterations) for o in optimizers(self.model).values())
        self.note(self.step)

    def on_train_batch_end(self, batch, logs=None):
        self.step = max(int(o.iterations) for o in optimizers(self.model).values())
        self.note(self.step)


def with_masks(values, network, masks):
    """Return the arrays of a network's weights, with zero where masks prune."""
    found = {id(w.variable): m for w, m in zip(kgp.masked_weights(network), masks, strict=True)}
    return [
        np.where(found[id(w)], v, 0) if id(w) in found else v
        for w, v in zip(network.weights, values, strict=True)
    ]


def masked(values, network):
    """Return the arrays of a network's weights, with zero where its own masks prune."""
    return with_masks(values, network, masks_of(network))


class Rewound:
    """A run of three rounds, with all that there was before and after each batch end."""

    def __init__(self, gan, schedule, *more, target="generator", steps=12, **kwargs):
        self.gan = gan
        self.prune = prune(gan, schedule, target, frequency=100, **kwargs)
        self.before, self.after = Weights(), Weights()
        network = getattr(gan, target, gan) if isinstance(target, str) else gan.generator
        self.look_before, self.look = Look(network), Look(network)
        callbacks = [self.before, self.look_before, self.prune, self.after, self.look]
        fit(gan, *callbacks, *more, steps=steps)


@cases(
    (("classifier", "model", 0), ("foreign", "model", 2)),
    ("model", "rewind", "rewind_step"),
    [
        ("classifier", "model", 0),
        ("classifier", "target", 2),
        ("dcgan", "model", 2),
        ("dcgan", "target", 2),
        ("subclassed", "model", 0),
        ("foreign", "model", 2),
        ("foreign", "target", 0),
    ],
)
def test_each_round_goes_back_to_the_early_weights_times_the_mask(model, rewind, rewind_step):
    gan = fresh(model)
    run = Rewound(gan, rounds(rewind, rewind_step))
    assert [step for step, *_ in run.prune.updates] == ROUNDS
    network = pruned_network(gan)
    of_target = [n for n, net in run.after.networks.items() if net is network]
    assert len(of_target) == 1
    back = list(run.after.networks) if rewind == "model" else of_target
    masks = run.look.masks[0]
    for number, step in enumerate(ROUNDS):
        assert run.prune.updates[number][1] == pytest.approx(of_round(number), abs=1e-12)
        # The mask: the largest of the weights that this round has trained.
        masks = largest(run.look_before.weights[step], masks, of_round(number))
        assert same(run.look.masks[step], masks), step
        for name, net in run.after.networks.items():
            trained, now = run.before.weights[step, name], run.after.weights[step, name]
            early = run.after.weights[rewind_step, name]
            carries_masks = net is network or name == "ema_generator"
            if name in back:
                assert not same(now, trained), name
                assert same(now, with_masks(early, net, masks) if carries_masks else early), name
                assert not any(slot.any() for slot in run.after.slots[step, name]), name
            else:
                # A copy is masked, the other network left as it was.
                assert same(now, with_masks(trained, net, masks) if carries_masks else trained)
                assert same(run.after.slots[step, name], run.before.slots[step, name]), name
        assert any(slot.any() for slot in run.before.slots[step, of_target[0]])
    for optimizer in optimizers(gan).values():
        assert int(optimizer.iterations) in (12, 0)
    # Trained on from there, and not pruned further.
    assert not same(run.after.weights[12, of_target[0]], run.after.weights[10, of_target[0]])
    nets.assert_exact(0.784, network)
    # Batch statistics were among what went back.
    moved = {
        w.path.split("/")[-1]
        for w, a, b in zip(
            network.weights,
            run.before.weights[7, of_target[0]],
            run.after.weights[7, of_target[0]],
            strict=True,
        )
        if not np.array_equal(a, b)
    }
    assert {"kernel"} < moved
    assert ({"moving_mean", "moving_variance"} < moved) == (model == "dcgan")


@pytest.mark.full
def test_copies_carry_the_masks_of_every_round():
    gan, seen = fresh("foreign"), []

    class Copies(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            equal = same(masks_of(gan.generator), masks_of(gan.ema_generator))
            seen.append((batch + 1 < 4 or equal) and not nets.leaks(gan.ema_generator))

    Rewound(gan, rounds("target"), Copies())
    assert seen == [True] * 12
    nets.assert_exact(0.784, gan.ema_generator)


@pytest.mark.full
def test_a_copy_that_goes_back_to_step_0_gets_the_masks():
    gan = make("foreign", run_eagerly=True)
    fit(gan, prune(gan, IterativeRewind(0.5, 1, 4, 1)), steps=4)
    nets.assert_exact(0.5, gan.generator)
    nets.assert_exact(0.5, gan.ema_generator)


@pytest.mark.full
def test_averages_of_use_ema_begin_anew_at_the_rewound_weights():
    model = make("eager", Adam(1e-2, use_ema=True, ema_momentum=0.5))
    seen = {}

    class Averages(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen[batch + 1] = (
                arrays(self.model.trainable_weights),
                arrays(self.model.optimizer._model_variables_moving_average),
            )

    early = Weights()
    fit(model, prune(model, rounds()), early, Averages(), steps=12)
    for step in ROUNDS:
        weights, averages = seen[step]
        assert same(weights, averages), step
        for average, new, moved in zip(averages, *seen[step + 1], strict=True):
            # Keras averages before it masks, so only what is kept.
            expected = np.where(new != 0, 0.5 * average + 0.5 * new, 0)
            np.testing.assert_allclose(np.where(new != 0, moved, 0), expected, rtol=1e-5)
    # What Keras leaves in the weights is the average; not one that has begun at zero.
    final = arrays(model.trainable_weights)
    for kernel, trained in zip(final, seen[12][0], strict=True):
        if kernel.ndim > 1:
            assert np.abs(kernel).sum() > 0.8 * np.abs(trained).sum()
    nets.assert_exact(0.784, model)


@pytest.mark.full
def test_accumulators_begin_anew_at_their_initial_value():
    model = make("eager", Adagrad(0.05, initial_accumulator_value=0.25))
    run = Rewound(model, rounds())
    masks = {
        id(w.variable): m for w, m in zip(kgp.masked_weights(model), run.look.masks[4], strict=True)
    }
    expected = [
        np.where(masks.get(id(w), np.ones(w.shape, bool)), np.float32(0.25), 0)
        for w in model.trainable_weights
    ]
    assert same(run.after.slots[4, "model"], expected)
    assert not same(run.before.slots[4, "model"], run.after.slots[4, "model"])


@pytest.mark.full
def test_a_model_that_goes_back_leaves_the_zeros_of_the_other_network():
    gan = fresh("subclassed")
    other, watch = prune(gan, OneShot(0.5, 3), "discriminator"), nets.Watch(gan.discriminator)
    Rewound(gan, rounds(), other, watch)
    # Its masks hold at the very batch end at which its dense, early weights come back.
    nets.assert_held(watch, 0.5)
    nets.assert_exact(0.784, gan.generator)


@pytest.mark.full
def test_both_networks_in_one_callback():
    gan = fresh("subclassed")
    run = Rewound(gan, rounds("target"), target=["generator", "discriminator"])
    for name in ("generator", "discriminator"):
        network = getattr(gan, name)
        early, now = run.after.weights[2, name], run.after.weights[10, name]
        assert same(now, masked(early, network))
        assert not any(slot.any() for slot in run.after.slots[10, name])
    nets.assert_exact(0.784, gan.generator, gan.discriminator)


# --- rounds that are cut -------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize(
    ("model", "first"),
    [
        ("dcgan", 3),
        ("foreign", 8),
        ("foreign", 4),
        ("subclassed", 4),
    ],
)
def test_two_fits_are_as_one(model, first):
    gan = fresh(model)
    whole = Rewound(gan, rounds())
    expected = look_at(gan)
    gan = fresh(model)
    missed = (
        r"end_step 10: sparsity is" if first >= ROUNDS[0] else r"begin_step 4: nothing was pruned"
    )
    with pytest.warns(
        PruningWarning, match=f"ended at step {first}, before the schedule's {missed}"
    ):
        Rewound(gan, rounds(), steps=first)
    rest = Rewound(gan, rounds(), steps=12 - first)
    assert [s for s, *_ in rest.prune.updates] == [s for s in ROUNDS if s > first]
    for step in [s for s in ROUNDS if s > first]:
        for name in whole.after.networks:
            one, two = whole.after.weights[step, name], rest.after.weights[step, name]
            assert same(one, two), (step, name)
    assert_same_state(expected, look_at(gan))


@pytest.mark.full
@pytest.mark.parametrize("model", ["dcgan", "classifier"])
def test_a_model_that_is_saved_and_loaded_between_rounds_rewinds_to_the_same_weights(
    model, tmp_path
):
    gan = fresh(model)
    with pytest.warns(PruningWarning, match="ended at step 5, before the schedule's end_step 10"):
        run = Rewound(gan, rounds(), steps=5)
    name = "generator" if model == "dcgan" else "model"
    early = run.after.weights[2, name]
    gan.save(tmp_path / "gan.keras")
    loaded = kgp.load_model(tmp_path / "gan.keras")
    assert loaded is not gan
    rest = Rewound(loaded, rounds(), steps=7)
    assert [s for s, *_ in rest.prune.updates] == [7, 10]
    network = pruned_network(loaded)
    assert same(rest.after.weights[10, name], masked(early, network))
    nets.assert_exact(0.784, network)
    if model == "dcgan":
        nets.assert_exact(0.784, loaded.ema_generator)
        assert same(rest.after.weights[10, "discriminator"], run.after.weights[2, "discriminator"])


@pytest.mark.full
@pytest.mark.parametrize("at", [3, 9])
def test_rounds_that_are_killed_go_on_to_the_same_weights(at, tmp_path):
    gan = fresh("subclassed")
    fit(gan, prune(gan, rounds()), steps=4, epochs=3)
    expected = look_at(gan)
    gan = fresh("subclassed")
    with pytest.raises(KeyboardInterrupt):
        fit(gan, prune(gan, rounds()), backup(tmp_path), BreakAt(at), steps=4, epochs=3)
    gan = fresh("subclassed")
    callback = prune(gan, rounds())
    fit(gan, callback, backup(tmp_path), steps=4, epochs=3)
    assert [s for s, *_ in callback.updates] == (ROUNDS if at == 3 else [10])
    assert_same_state(expected, look_at(gan))


def test_a_step_to_rewind_to_that_has_passed():
    gan = fresh("foreign")
    fit(gan, steps=3)
    callback = prune(gan, rounds())
    with pytest.raises(
        InvalidArgumentError,
        match=r"to rewind to are those at step 2, but training is at step 3 already .* `rewind_step=3`",
    ):
        fit(gan, callback, steps=3)
    # As it says.
    run = Rewound(gan, rounds(rewind_step=3), steps=9)
    assert same(
        run.after.weights[10, "generator"], masked(run.after.weights[3, "generator"], gan.generator)
    )


@pytest.mark.full
def test_a_step_to_rewind_to_inside_an_execution_of_several():
    model = fresh("chunks")
    with pytest.raises(InvalidArgumentError, match=r"at step 2, but training is at step 3 already"):
        fit(model, prune(model, rounds()), steps=12)
    model = fresh("chunks")
    run = Rewound(model, rounds(rewind_step=3))
    # Of the executions that end at 3, 6, 9 and 12, the last three see a round.
    assert [s for s, *_ in run.prune.updates] == ROUNDS
    assert same(run.after.weights[12, "model"], masked(run.after.weights[3, "model"], model))


def test_other_rounds_rewind_to_their_own_step():
    model = fresh("classifier")
    Rewound(model, IterativeRewind(0.2, 1, 4, 1, rewind_step=0), steps=6)
    run = Rewound(model, IterativeRewind(0.5, 1, 10, 1, rewind_step=8), steps=6)
    assert run.before.step == 12
    assert same(run.after.weights[10, "model"], masked(run.after.weights[8, "model"], model))
    # One that was never kept, though others were.
    with pytest.raises(
        InvalidArgumentError, match="are those at step 7, but training is at step 12"
    ):
        Rewound(model, IterativeRewind(0.6, 1, 13, 1, rewind_step=7), steps=2)


def test_rewinding_to_the_step_of_the_first_round():
    model = fresh("classifier")
    run = Rewound(model, rounds(rewind_step=4))
    for step in ROUNDS:
        early = with_masks(run.before.weights[4, "model"], model, run.look.masks[step])
        assert same(run.after.weights[step, "model"], early), step
