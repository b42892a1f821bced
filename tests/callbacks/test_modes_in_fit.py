"""Modes inside `fit`: the values of pruned and returning weights, step by step."""

import functools
import itertools

import keras
import networks as nets
import numpy as np
import pytest
import short_runs as runs
from cases import cases
from keras.optimizers import SGD, Adam

import keras_ganprune as kgp
from keras_ganprune.pruning.modes import SET, RigL, Splice
from keras_ganprune.training import discovery

SCHEDULE = kgp.Linear(0.8, begin_step=2, end_step=14, initial_sparsity=0.5)
FREQUENCY = 4
UPDATES = [2, 6, 10, 14]
BATCHES, EPOCHS = 5, 4
EXCHANGING = ["rigl", "set", "splice"]


# --- models and a record of what happens to them -------------------------------------------------


def gan_model(pair=None, make=lambda: Adam(1e-2, 0.5), compile_options=None, **kwargs):
    options = {"balance_frequency": 0, "seed": 1, **kwargs}
    gan = kgp.GANModel(*(pair or nets.mlp_pair()), nets.LATENT, **options)
    gan.compile(make(), make(), **(compile_options or {}))
    return gan


def foreign():
    gan = nets.EmaGAN()
    gan.compile(d_optimizer=Adam(1e-2, 0.5), g_optimizer=Adam(1e-2, 0.5))
    return gan


def classifier():
    model = nets.classifier()
    model.compile(Adam(1e-2), nets.classifier_loss())
    return model


MODELS = {
    "dcgan": lambda: gan_model(nets.dcgan_pair()),
    "subclassed": lambda: gan_model((nets.SubclassedGenerator(), nets.mlp_discriminator())),
    "ema": lambda: gan_model(ema_decay=0.9),
    "foreign": foreign,
    "classifier": classifier,
}


def pruned_network(model):
    return getattr(model, "generator", model)


def fit(model, *callbacks, epochs=EPOCHS, batches=BATCHES, **kwargs):
    x, y = nets.classifier_data(8 * batches)
    data = (x, y) if pruned_network(model) is model else (x,)
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(*data, epochs=epochs, callbacks=list(callbacks), **options)


def prune(model, mode, schedule=SCHEDULE, frequency=FREQUENCY, **kwargs):
    target = None if pruned_network(model) is model else "generator"
    return kgp.Prune(schedule, target, frequency, mode=mode, verbose=0, **kwargs)


def state(model, network):
    """Return what training knows of each masked weight: value, mask, hidden value, both moments."""
    weights = kgp.masked_weights(network)
    slots = {}
    for optimizer in discovery.optimizers(model):
        for variable, slot in discovery.slots(optimizer):
            slots.setdefault(id(variable), []).append(np.array(nets.value(slot)))
    return [
        {
            "value": np.array(nets.value(w.variable)),
            "mask": np.array(nets.value(w.mask)),
            "hidden": np.array(nets.value(w.layer.pruning_masks.hidden[w.name]))
            if w.layer.pruning_masks.hidden
            else None,
            "slots": slots.get(id(w.variable), []),
        }
        for w in weights
    ]


class Look(keras.callbacks.Callback):
    """Notes the state at every batch end; one stands before `Prune` in the list and one behind it."""

    def __init__(self, callback):
        super().__init__()
        self.callback, self.states, self.updates, self.logs = callback, [], [], []

    def on_train_batch_end(self, batch, logs=None):
        self.states.append(state(self.model, pruned_network(self.model)))
        self.updates.append(len(self.callback.updates))
        self.logs.append(dict(logs or {}))


class Run:
    """A fit under one mode, with the states before and after each call of `Prune`."""

    def __init__(self, model, mode, schedule=SCHEDULE, frequency=FREQUENCY, **kwargs):
        keras.utils.set_random_seed(7)
        self.model = model()
        self.network = pruned_network(self.model)
        self.prune = prune(self.model, mode, schedule, frequency)
        self.before, self.after = Look(self.prune), Look(self.prune)
        self.watch = nets.Watch(self.network)
        callbacks = [self.before, self.prune, self.after, self.watch]
        self.history = fit(self.model, *callbacks, **kwargs).history

    @property
    def at_updates(self):
        """Yield (step of the schedule, states before, states after) for each update."""
        made = [0, *self.after.updates]
        rows = zip(made[:-1], made[1:], self.before.states, self.after.states, strict=True)
        for one, two, before, after in rows:
            if two > one:
                yield self.prune.updates[two - 1][0], before, after


@functools.cache
def run(model, mode):
    return Run(MODELS[model], mode)


each_model = cases(("ema", "foreign"), "model", MODELS)
each_exchange = cases(
    (("foreign", "rigl"),),
    ("model", "mode"),
    [(model, mode) for model in MODELS for mode in EXCHANGING],
)


def kept(states):
    return [np.count_nonzero(s["mask"]) for s in states]


def wanted(states, sparsity):
    return [nets.kept_oracle(s["mask"].size, sparsity) for s in states]


def grown(before, after):
    return [~b["mask"] & a["mask"] for b, a in zip(before, after, strict=True)]


# --- soft ----------------------------------------------------------------------------------------


@cases(("ema",), "model", MODELS)
def test_soft_zeroes_at_updates_and_lets_go_in_between(model):
    result = run(model, "soft")
    assert [step for step, *_ in result.at_updates] == UPDATES
    last = None
    for step, states in enumerate(result.after.states, start=1):
        nonzero = [np.count_nonzero(s["value"]) for s in states]
        if step in UPDATES:
            assert nonzero == wanted(states, SCHEDULE(step)), step
        if step < UPDATES[-1]:
            assert all(s["mask"].all() for s in states), step
            if step - 1 in UPDATES:
                assert sum(nonzero) > sum(last), step  # what was zeroed moves again
        else:
            assert kept(states) == nonzero == wanted(states, 0.8), step
        last = nonzero
    nets.assert_exact(0.8, result.network)


@each_model
def test_soft_zeroes_the_smallest_weights_of_that_moment(model):
    for step, before, after in run(model, "soft").at_updates:
        for old, new in zip(before, after, strict=True):
            keep = np.argsort(-np.abs(old["value"]), axis=None, kind="stable")
            keep = keep[: nets.kept_oracle(old["value"].size, SCHEDULE(step))]
            expected = np.zeros(old["value"].size, "float32")
            expected[keep] = old["value"].reshape(-1)[keep]
            np.testing.assert_array_equal(new["value"].reshape(-1), expected)


def test_soft_lets_weights_return_as_the_oracle_does():
    # A constant gradient: what is set to zero at an update moves by the same step as before.
    model, data = linear_model(X, C, START, 4 * RATE)
    callback = kgp.Prune(kgp.ConstantSparsity(0.5, 2, 38), None, 4, mode="soft", verbose=0)
    look = Look(callback)
    model.fit(*many(data, 40), batch_size=1, verbose=0, callbacks=[callback, look])
    value, mask, returned = START.astype("float32"), np.ones((4, 4), bool), 0
    for step, (seen,) in enumerate(look.states, start=1):
        value = value - 4 * STEP
        if step in range(2, 39, 4):
            new = np.zeros(16, bool)
            new[np.argsort(-np.abs(value).reshape(-1), kind="stable")[:8]] = True
            returned += np.count_nonzero(new.reshape(4, 4) & ~mask)
            mask = new.reshape(4, 4)
            value = np.where(mask, value, 0)
        elif step > 38:
            value = np.where(mask, value, 0)
        np.testing.assert_array_equal(seen["value"], value, f"step {step}")
    assert returned > 0


@each_model
def test_soft_logs_the_sparsity_it_has_chosen(model):
    result = run(model, "soft")
    key = "sparsity" if model == "classifier" else "generator_sparsity"
    sizes = [s["mask"].size for s in result.after.states[0]]
    for step, logs in enumerate(result.after.logs, start=1):
        due = max((s for s in UPDATES if s <= step), default=None)
        left = sum(nets.kept_oracle(n, SCHEDULE(due)) if due else n for n in sizes)
        assert logs[key] == 1 - left / sum(sizes), step
    assert result.history[key] == [log[key] for log in result.after.logs[BATCHES - 1 :: BATCHES]]


@pytest.mark.parametrize("model", ["ema", "foreign"])
def test_soft_gives_the_copy_the_masks_once_they_are_held(model):
    result = run(model, "soft")
    gan = result.model
    nets.assert_exact(0.8, gan.generator)
    assert nets.leaks(gan.ema_generator) == {}
    pairs = zip(
        kgp.masked_weights(gan.generator), kgp.masked_weights(gan.ema_generator), strict=True
    )
    for own, copy in pairs:
        np.testing.assert_array_equal(nets.value(own.mask), nets.value(copy.mask))


@cases(("classifier",), "model", ["dcgan", "classifier"])
def test_soft_without_an_end_is_held_at_the_end_of_fit(model):
    result = Run(MODELS[model], "soft", kgp.ConstantSparsity(0.7, 1), 3, epochs=2)
    assert [step for step, *_ in result.prune.updates] == [1, 4, 7, 10]
    assert result.prune.pruner.held
    nets.assert_exact(0.7, result.network)
    # The masks are those of the weights at the end, not of the last update.
    before, after = result.after.states[-1], state(result.model, result.network)
    for old, new in zip(before, after, strict=True):
        smallest = np.abs(old["value"][new["mask"]]).min()
        assert np.abs(old["value"][~new["mask"]]).max() <= smallest
    watch = nets.Watch(result.network)
    fit(result.model, watch, epochs=1)
    nets.assert_held(watch, 0.7)
    # Another fit under the mode lets go again, and holds again.
    again = prune(result.model, "soft", kgp.ConstantSparsity(0.7, 1), 3)
    watch = nets.Watch(result.network)
    fit(result.model, again, watch, epochs=1)
    sizes = [size for _, _, size in nets.nonzeros(result.network).values()]
    assert sum(sizes) in watch.kept
    nets.assert_exact(0.7, result.network)


@pytest.mark.full
def test_soft_that_ends_in_mid_schedule_warns_and_holds_what_it_has():
    gan = gan_model()
    with pytest.warns(kgp.PruningWarning, match="before the schedule's end_step 14"):
        fit(gan, prune(gan, "soft"), epochs=1)
    nets.assert_exact(SCHEDULE(2), gan.generator)
    callback = prune(gan, "soft")
    fit(gan, callback, epochs=2)
    assert [step for step, *_ in callback.updates] == [6, 10, 14]
    nets.assert_exact(0.8, gan.generator)


@cases(("rigl",), "mode", ["soft", *EXCHANGING])
@pytest.mark.full
def test_a_guard_that_goes_back_leaves_exact_masks(mode):
    gan = gan_model()
    callback = prune(gan, mode)
    with pytest.warns(kgp.PruningWarning) as caught:
        fit(gan, callback, nets.Poison(12))
    assert any("Training stopped after batch 12" in str(w.message) for w in caught)
    assert all(np.isfinite(w).all() for w in gan.get_weights())
    assert int(gan.generator_optimizer.iterations) == 10
    nonzero = [n for n, *_ in nets.nonzeros(gan.generator).values()]
    states = state(gan, gan.generator)
    # Epoch 2 began at step 10, with the masks of that step.
    assert kept(states) == wanted(states, SCHEDULE(10))
    if mode == "soft":
        assert nonzero == kept(states)
    assert nets.leaks(gan.generator) == {}


@cases(1, "overwrite", [None, 3])
@cases(("rigl",), "mode", ["soft", *EXCHANGING])
@pytest.mark.full
def test_averages_that_keras_keeps(mode, overwrite):
    gan = gan_model(
        make=lambda: Adam(1e-2, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=overwrite)
    )
    watch = nets.Watch(gan.generator)
    fit(gan, prune(gan, mode), watch)
    assert watch.leaks == []
    nets.assert_exact(0.8, gan.generator)


# --- exchanging modes: rigl, set, splice ---------------------------------------------------------


@each_exchange
def test_the_number_kept_is_exact_and_nothing_leaks(model, mode):
    result = run(model, mode)
    assert [step for step, *_ in result.prune.updates] == UPDATES
    assert result.watch.leaks == []
    for step, states in enumerate(result.after.states, start=1):
        due = max((s for s in UPDATES if s <= step), default=None)
        assert kept(states) == (wanted(states, SCHEDULE(due)) if due else wanted(states, 0)), step
        for s in states:
            assert not s["value"][~s["mask"]].any()
    for (_, requested, achieved), due in zip(result.prune.updates, UPDATES, strict=True):
        assert requested == SCHEDULE(due)
        states = result.after.states[0]
        total = sum(s["mask"].size for s in states)
        assert achieved == 1 - sum(wanted(states, SCHEDULE(due))) / total
    assert kept(state(result.model, result.network)) == wanted(states, 0.8)
    copy = getattr(result.model, "ema_generator", None)
    if copy is not None:
        assert nets.leaks(copy) == {}
        for own, other in zip(
            kgp.masked_weights(result.network), kgp.masked_weights(copy), strict=True
        ):
            np.testing.assert_array_equal(nets.value(own.mask), nets.value(other.mask))


@each_exchange
def test_kept_weights_are_left_as_they_are(model, mode):
    for step, before, after in run(model, mode).at_updates:
        for old, new in zip(before, after, strict=True):
            both = old["mask"] & new["mask"]
            np.testing.assert_array_equal(new["value"][both], old["value"][both], f"step {step}")


@cases(("classifier",), "model", ["dcgan", "classifier"])
@cases(("set",), "mode", ["rigl", "set"])
def test_weights_are_exchanged_at_a_constant_number(model, mode):
    mode = {"rigl": RigL(0.4), "set": SET(0.4)}[mode]
    result = Run(MODELS[model], mode, kgp.ConstantSparsity(0.75, 1, 17), 4)
    updates = list(result.at_updates)
    assert [step for step, *_ in updates] == [1, 5, 9, 13, 17]
    for step, before, after in updates[1:]:
        assert kept(before) == kept(after) == wanted(after, 0.75)
        for old, new in zip(before, after, strict=True):
            left = nets.kept_oracle(new["mask"].size, 0.75)
            most = round(mode.share((step - 1) / 16) * left)
            exchanged = np.count_nonzero(old["mask"] & ~new["mask"])
            assert exchanged <= most  # one that was dropped may be the best to grow
            assert exchanged > 0 or most == 0 or left == 1
            # The lowest go: whatever stays is at least as large as whatever goes.
            value = np.abs(old["value"])
            gone = old["mask"] & ~new["mask"]
            if gone.any():
                lowest = np.sort(value[old["mask"]])[:most]
                assert np.isin(value[gone], lowest).all()


class Spy(RigL):
    """Notes what it decides on."""

    def choose(self, choice):
        keep = super().choose(choice)
        self.seen.append((choice.kept, choice.scores.copy(), choice.growth, choice.progress, keep))
        return keep


def test_rigl_grows_where_the_gradient_is_largest():
    mode = Spy(0.4)
    mode.seen = []
    Run(MODELS["classifier"], mode, kgp.ConstantSparsity(0.75, 1, 17), 4)
    assert len(mode.seen) == 10  # two tensors, five updates
    for was_kept, scores, growth, progress, keep in mode.seen:
        left = nets.kept_oracle(keep.size, 0.75)
        stay = left - round(mode.share(progress) * left)
        ranked = np.where(was_kept, scores, -np.inf)
        survivors = np.argsort(-ranked, kind="stable")[:stay]
        rest = np.where(np.isin(np.arange(keep.size), survivors), -np.inf, growth)
        expected = np.zeros(keep.size, bool)
        expected[survivors] = True
        expected[np.argsort(-rest, kind="stable")[: left - stay]] = True
        np.testing.assert_array_equal(keep, expected)
        assert growth.max() > 0


def test_growth_is_by_the_gradient_of_the_batch_before():
    """A linear model whose gradient is known: dL/dw = x_i c_j."""
    x, c = np.array([1.0, 2.0, 4.0, 8.0]), np.array([1.0, 3.0, 0.5, 0.25])
    gradient = np.abs(np.outer(x, c))
    model, data = linear_model(x, c, np.ones((4, 4)), learning_rate=0.0)
    mode = Spy(0.5, "constant")
    mode.seen = []
    callback = kgp.Prune(kgp.ConstantSparsity(0.5, 3, 9), None, 3, mode=mode, verbose=0)
    model.fit(*many(data, 10), batch_size=1, verbose=0, callbacks=[callback])
    assert len(mode.seen) == 3
    for _, _, growth, _, _ in mode.seen:
        np.testing.assert_array_equal(growth, gradient.reshape(-1))


@pytest.mark.full
@cases(("previous",), "restore", ["zero", "initializer", "previous"])
@cases(1, "kind", [RigL, SET, Splice])
def test_what_comes_back_comes_back_with(kind, restore):
    mode = kind(
        **({"margin": 0.0} if kind is Splice else {}),
        fraction=0.5,
        decay="constant",
        restore=restore,
    )
    result = Run(gan_model, mode, kgp.ConstantSparsity(0.6, 2), 3)
    value_when_pruned = [np.full(s["mask"].shape, np.nan) for s in result.after.states[0]]
    came_back, fresh = 0, []
    for _, before, after in result.at_updates:
        rows = zip(before, after, grown(before, after), value_when_pruned, strict=True)
        for old, new, new_ones, pruned_value in rows:
            values = new["value"][new_ones]
            came_back += values.size
            if restore == "zero":
                assert not values.any()
            elif restore == "initializer":
                # Glorot's uniform: some random number each, within its limits.
                limit = np.sqrt(6 / sum(new["value"].shape))
                assert np.count_nonzero(values) == values.size
                assert np.abs(values).max(initial=0) <= limit
                if values.size > 100:
                    assert np.abs(values).mean() == pytest.approx(limit / 2, rel=0.3)
                    fresh.append(values[:50])
            elif kind is Splice:
                np.testing.assert_array_equal(values, old["hidden"][new_ones])
            else:
                np.testing.assert_array_equal(values, pruned_value[new_ones])
            gone = old["mask"] & ~new["mask"]
            pruned_value[gone] = old["value"][gone]
            if new["hidden"] is not None:
                assert not new["hidden"][new["mask"]].any()
                np.testing.assert_array_equal(new["hidden"][gone], old["value"][gone])
    assert came_back > 20
    assert len(np.unique(fresh)) == np.size(fresh), "the initializer gave the same values again"


@pytest.mark.full
def test_previous_values_wait_unchanged_where_nothing_is_collected():
    result = Run(MODELS["classifier"], RigL(0.3, "constant", "previous"), 0.6, 3)
    for one, two in zip(result.after.states[:-1], result.before.states[1:], strict=True):
        for earlier, later in zip(one, two, strict=True):
            np.testing.assert_array_equal(earlier["hidden"], later["hidden"])


@cases(
    (("foreign", "rigl"),),
    ("model", "mode"),
    [(model, mode) for model in MODELS for mode in ("rigl", "set")],
)
def test_both_moments_are_zero_where_a_weight_is_pruned_or_has_come_back(model, mode):
    touched = 0
    for step, before, after in run(model, mode).at_updates:
        for old, new, new_ones in zip(before, after, grown(before, after), strict=True):
            assert len(new["slots"]) == 2
            for earlier, slot in zip(old["slots"], new["slots"], strict=True):
                assert not slot[~new["mask"]].any(), step
                assert not slot[new_ones].any(), step
                rest = new["mask"] & ~new_ones
                np.testing.assert_array_equal(slot[rest], earlier[rest])
                touched += np.count_nonzero(earlier[new_ones])
    assert touched > 0, "there was nothing to clear"


@cases(("ema",), "model", MODELS)
def test_splice_keeps_the_moments_of_what_is_pruned_and_clears_those_of_what_returns(model):
    alive = 0
    for step, before, after in run(model, "splice").at_updates:
        for old, new, new_ones in zip(before, after, grown(before, after), strict=True):
            assert len(new["slots"]) == 2
            for earlier, slot in zip(old["slots"], new["slots"], strict=True):
                assert not slot[new_ones].any(), step
                np.testing.assert_array_equal(slot[~new_ones], earlier[~new_ones])
                alive += np.count_nonzero(slot[~new["mask"]])
    assert alive > 0


# --- splice against an oracle --------------------------------------------------------------------


def linear_model(x, c, start, learning_rate, constraint=None, **options):
    """Return a model of one kernel (4, 4) whose gradient is always x_i c_j, and its data."""
    layer = keras.layers.Dense(4, use_bias=False, kernel_constraint=constraint)
    model = keras.Sequential([keras.Input((4,)), layer])
    layer.kernel.assign(start)
    model.compile(SGD(learning_rate, **options), lambda truth, out: keras.ops.sum(truth * out))
    return model, (x[None].astype("float32"), c[None].astype("float32"))


def many(data, steps):
    return [np.repeat(array, steps, 0) for array in data]


# All multiples of 1/1024, so that float32 arithmetic is exact.
START = np.random.default_rng(0).permutation(np.arange(-40, 40, 5)).reshape(4, 4) / 64
X, C = np.array([1.0, -1.0, 0.5, -0.25]), np.array([1.0, -0.5, 2.0, 0.25])
RATE = 2.0**-5
STEP = (RATE * np.outer(X, C)).astype("float32")


def surgery(margin):
    """Return the splice of the paper: what was pruned returns with all that it collected."""
    return Splice(margin, fraction=1.0, decay="constant", restore="previous")


def spliced(schedule, frequency, margin, constraint=None, steps=40, **options):
    """Fit under splice; return (model, states at batch ends, steps of updates)."""
    model, data = linear_model(X, C, START, RATE, constraint, **options)
    callback = kgp.Prune(schedule, None, frequency, mode=surgery(margin), verbose=0)
    look = Look(callback)
    model.fit(*many(data, steps), batch_size=1, verbose=0, callbacks=[callback, look])
    return model, [s[0] for s in look.states], [step for step, *_ in callback.updates]


@cases((0.5,), "margin", [0.0, 0.5])
def test_splice_follows_the_oracle_at_a_target_sparsity(margin):
    schedule = kgp.Linear(0.75, 3, 15, initial_sparsity=0.25)
    _, states, updates = spliced(schedule, 4, margin)
    assert updates == [3, 7, 11, 15]
    # The gradient does not depend on the weights, so pruned and kept ones move as in a dense model.
    mask, returned = np.ones((4, 4), bool), 0
    for step, seen in enumerate(states, start=1):
        dense = START - step * STEP
        if step in updates:
            scores = np.where(mask, np.abs(dense), np.abs(dense) / (1 + margin)).reshape(-1)
            new = np.zeros(16, bool)
            new[np.argsort(-scores, kind="stable")[: nets.kept_oracle(16, schedule(step))]] = True
            returned += np.count_nonzero(new.reshape(4, 4) & ~mask)
            mask = new.reshape(4, 4)
        np.testing.assert_array_equal(seen["mask"], mask, f"step {step}")
        np.testing.assert_array_equal(seen["value"], np.where(mask, dense, 0))
        np.testing.assert_array_equal(seen["hidden"], np.where(mask, 0, dense))
    assert returned > 0


@cases((0.25,), "margin", [0.0, 0.25, 1.0])
def test_splice_with_a_threshold_prunes_below_it_and_returns_beyond_the_margin(margin):
    threshold = 0.25
    _, states, updates = spliced(kgp.Threshold(threshold, 2, 38), 4, margin)
    assert updates == list(range(2, 39, 4))
    mask, returned, waited = np.ones((4, 4), bool), 0, 0
    for step, seen in enumerate(states, start=1):
        dense = START - step * STEP
        if step in updates:
            size = np.abs(dense)
            back = ~mask & (size >= threshold * (1 + margin))
            waited += np.count_nonzero(~mask & (size >= threshold) & ~back)
            returned += np.count_nonzero(back)
            mask = (mask & (size >= threshold)) | back
        np.testing.assert_array_equal(seen["mask"], mask, f"step {step}")
        np.testing.assert_array_equal(seen["value"], np.where(mask, dense, 0))
        np.testing.assert_array_equal(seen["hidden"], np.where(mask, 0, dense))
    assert returned > 0
    assert (waited > 0) == (margin > 0)


@cases(1, "schedule", [kgp.Threshold(0.125, 2), kgp.ConstantSparsity(0.5, 2)])
def test_splice_under_weight_clipping_moves_as_the_clipped_dense_model_would(schedule):
    _, states, _ = spliced(schedule, 4, 0.5, nets.Clip(0.25))
    # As in the dense model the clipping begins with the first step.
    dense, returned = START.astype("float32"), 0
    for seen, last in zip(states, [None, *states], strict=False):
        dense = np.clip(dense - STEP, -0.25, 0.25)
        assert np.abs(seen["value"]).max() <= 0.25
        np.testing.assert_array_equal(seen["value"], np.where(seen["mask"], dense, 0))
        np.testing.assert_array_equal(seen["hidden"], np.where(seen["mask"], 0, dense))
        returned += 0 if last is None else np.count_nonzero(seen["mask"] & ~last["mask"])
    assert returned > 0


def test_an_average_written_over_the_weights_is_not_collected():
    options = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 4}
    _, states, updates = spliced(kgp.ConstantSparsity(0.5, 2, 30), 7, 0.0, steps=32, **options)
    assert len(updates) == 5
    for step, (one, two) in enumerate(itertools.pairwise(states), start=2):
        waiting = ~one["mask"] & ~two["mask"]
        moved = np.abs(two["hidden"] - one["hidden"])[waiting]
        # One update of the optimizer at most, never the value from before the pruning.
        assert (moved <= np.abs(STEP)[waiting] * 1.001).all(), step


@cases(1, "restore", ["initializer", "previous"])
@pytest.mark.full
def test_what_comes_back_obeys_the_users_constraint_at_once(restore):
    pair = nets.mlp_generator(), nets.mlp_discriminator(constraint=nets.Clip(0.02))
    gan = gan_model(pair)
    mode = RigL(0.5, "constant", restore)
    callback = kgp.Prune(kgp.ConstantSparsity(0.5, 2), "discriminator", 3, mode=mode, verbose=0)

    class Largest(keras.callbacks.Callback):
        seen = []

        def on_train_batch_end(self, batch, logs=None):
            weights = kgp.masked_weights(gan.discriminator)
            self.seen.append(max(np.abs(nets.value(w.variable)).max() for w in weights))

    largest = Largest()
    fit(gan, callback, largest)
    assert callback.report.regrown > 0
    assert max(largest.seen) <= np.float32(0.02)
    for s in state(gan, gan.discriminator):
        assert s["value"][s["mask"]].any()


@pytest.mark.full
def test_splice_that_turns_hard_traces_anew_and_collects_no_more():
    gan = gan_model()
    with pytest.warns(kgp.PruningWarning, match="Training ended at step 10"):
        fit(gan, prune(gan, "splice"), epochs=2)
    step, before = gan.train_function, state(gan, gan.generator)
    assert any(s["hidden"].any() for s in before)
    callback = prune(gan, "hard", kgp.Linear(0.9, 12, 18, initial_sparsity=0.8))
    watch = nets.Watch(gan.generator)
    fit(gan, callback, watch, epochs=2)
    assert gan.train_function is not step
    assert all(w.variable.constraint.hidden is None for w in kgp.masked_weights(gan.generator))
    nets.assert_held(watch, 0.9)
    for old, new in zip(before, state(gan, gan.generator), strict=True):
        assert not (new["mask"] & ~old["mask"]).any()
    # And the other way round: from now on it is to collect.
    step = gan.train_function
    schedule = kgp.ConstantSparsity(0.9, 20)
    fit(gan, prune(gan, "splice", schedule), epochs=2)
    assert gan.train_function is not step
    assert any(s["hidden"].any() for s in state(gan, gan.generator))
    nets.assert_exact(0.9, gan.generator)


def test_the_same_mode_again_does_not_trace_anew():
    gan = gan_model()
    schedule = kgp.ConstantSparsity(0.5)
    fit(gan, prune(gan, "splice", schedule), epochs=1)
    step = gan.train_function
    fit(gan, prune(gan, "splice", schedule), epochs=1)
    assert gan.train_function is step


# --- where the compiled step is another ----------------------------------------------------------


def check_fit(gan, mode):
    """Fit; assert exact counts at the end, no leak on the way, and that something was exchanged."""
    callback = prune(gan, mode)
    watch = nets.Watch(gan.generator)
    reports = []

    class Note(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if callback.report is not None and callback.report not in reports:
                reports.append(callback.report)

    fit(gan, callback, watch, Note())
    assert watch.leaks == []
    states = state(gan, gan.generator)
    assert kept(states) == wanted(states, 0.8)
    if mode in ("rigl", "set"):  # the others bring back what has grown enough, if anything has
        assert sum(report.regrown for report in reports) > 0
    if mode == "splice":
        assert any(s["hidden"].any() for s in states)
        assert all(np.isfinite(s["hidden"]).all() for s in states)
    return callback


@pytest.mark.full
@cases(("rigl",), "mode", ["soft", *EXCHANGING])
def test_spectral_norm(mode):
    gan = gan_model((nets.dcgan_generator(), nets.dcgan_discriminator(spectral=True)))
    callback = kgp.Prune(SCHEDULE, "discriminator", FREQUENCY, mode=mode, verbose=0)
    watch = nets.Watch(gan.discriminator)
    fit(gan, callback, watch)
    assert watch.leaks == []
    states = state(gan, gan.discriminator)
    assert kept(states) == wanted(states, 0.8)


@pytest.mark.full
@pytest.mark.parametrize(
    "options",
    [{"steps_per_execution": 5}, {"jit_compile": True}, {"run_eagerly": True}],
    ids=["steps_per_execution", "jit_compile", "run_eagerly"],
)
@pytest.mark.parametrize("mode", ["soft", *EXCHANGING])
def test_compile_options(mode, options):
    callback = check_fit(gan_model(compile_options=options), mode)
    if "steps_per_execution" in options:
        # Updates inside one execution become the latest of them.
        assert [step for step, *_ in callback.updates] == [2, 10, 14]


@pytest.mark.full
@pytest.mark.parametrize("mode", ["soft", *EXCHANGING])
def test_mixed_precision(mode):
    gan = gan_model(nets.mlp_pair(dtype="mixed_float16"))
    assert isinstance(gan.generator_optimizer, keras.optimizers.LossScaleOptimizer)
    check_fit(gan, mode)


@pytest.mark.full
def test_a_step_that_loss_scaling_skips_gives_no_gradient_to_grow_by():
    gan = gan_model(nets.mlp_pair(dtype="mixed_float16"))
    # Far too high: Keras halves it, and leaves out the update, until gradients are finite.
    gan.generator_optimizer.dynamic_scale.assign(2.0**30)
    callback = prune(gan, "rigl", kgp.ConstantSparsity(0.8), 4)
    watch = nets.Watch(gan.generator)
    fit(gan, callback, watch, epochs=8)
    assert int(gan.generator_optimizer.inner_optimizer.iterations) < 40
    assert len(callback.updates) > 1
    assert watch.leaks == []
    states = state(gan, gan.generator)
    assert kept(states) == wanted(states, 0.8)


@pytest.mark.full
@pytest.mark.parametrize("mode", ["soft", *EXCHANGING])
def test_two_replicas(mode):

    with nets.both_replicas().scope():
        gan = gan_model(ema_decay=0.9)
    check_fit(gan, mode)
    variables = list(gan.generator.weights)
    for w in kgp.masked_weights(gan.generator):
        variables += [w.mask, *w.layer.pruning_masks.hidden.values()]
    for variable in variables:
        one, two = nets.replicas(variable)
        np.testing.assert_array_equal(one, two)
    assert nets.leaks(gan.ema_generator) == {}


@pytest.mark.full
def test_splice_on_two_replicas_collects_an_update_once():

    def train(strategy):
        keras.utils.set_random_seed(3)
        with strategy.scope():
            model, (x, y) = linear_model(X, C, START, RATE)
        callback = kgp.Prune(kgp.ConstantSparsity(0.5, 2), None, 4, mode=surgery(0.1), verbose=0)
        # Two equal rows, one for each replica: the loss is a mean over both.
        model.fit(*many((x, y), 24), batch_size=2, verbose=0, callbacks=[callback])
        return state(model, model)[0]

    import tensorflow as tf

    one, two = train(tf.distribute.get_strategy()), train(nets.both_replicas())
    for key in ("mask", "value", "hidden"):
        np.testing.assert_array_equal(one[key], two[key], key)


@pytest.mark.full
def test_channels_come_back_whole():
    gan = gan_model(nets.dcgan_pair())
    callback = prune(
        gan, RigL(0.5, "constant", "previous"), kgp.ConstantSparsity(0.5, 2), granularity="channel"
    )
    masks = []

    class Note(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            masks.append([np.array(nets.value(w.mask)) for w in callback.pruner.weights])

    watch = nets.Watch(gan.generator)
    fit(gan, callback, watch, Note())
    assert watch.leaks == []
    # While channels return, only what makes them is masked; in the end, all that goes with them.
    counted = runs.groups_of(callback.pruner, masks[-1])
    assert runs.problems_of_coupling(callback.pruner, masks[-1], counted, ("out",)) == []
    final = [np.array(nets.value(w.mask)) for w in callback.pruner.weights]
    assert runs.problems_of_coupling(callback.pruner, final, counted) == []
    for row, (_, kept) in zip(callback.report, counted, strict=True):
        assert row.kept_units == kept.sum() == nets.kept_oracle(row.units, 0.5)
    changed = [
        np.any(a & ~b)
        for one, two in zip(masks[2:], masks[1:], strict=False)
        for a, b in zip(one, two, strict=True)
    ]
    assert any(changed)
