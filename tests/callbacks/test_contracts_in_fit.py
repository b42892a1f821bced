"""The promises of every member of every family inside `fit`: the rows of helpers/members.py, trained.

A row is combined with plain choices for the other families, or with the first ones that go with it.
"""

import functools
import itertools
import json
import random
import re

import keras
import members
import networks as nets
import numpy as np
import pytest
import short_runs as runs
from cases import cases
from past_keras import write_past_keras

import keras_ganprune as kgp
from keras_ganprune.backend import tracing
from keras_ganprune.errors import PruningWarning, UnsupportedLayerError
from keras_ganprune.pruning import compatibility, criteria
from keras_ganprune.pruning.granularity import Layer

FREQUENCY = 6
EPOCH = 5  # of schedules that decide at epoch ends; they get ten epochs
LONGEST = 60

# Losses prune nothing; test_gan_model.py trains, saves and loads them.
FAMILIES = [kind for kind in members.FAMILIES if "loss" not in kind]
# Whole blocks need a network that has some: rankings/test_blocks.py.
ROWS = [row for row in members.MEMBERS if row[0] in FAMILIES and not isinstance(row[1], Layer)]
IDS = [f"{kind}-{member!r}" for kind, member in ROWS]
# By default one row of each family; `test_every_family_is_walked` has them all in `SAMPLE`.
DEFAULT = {kind: index for index, (kind, _) in reversed(list(enumerate(ROWS)))}.values()
each_row = cases(tuple(IDS[index] for index in DEFAULT), ("kind", "member"), ROWS, ids=IDS)

# What a row is combined with: the first of each family that goes with it.
PARTNERS = {
    "criterion": [kgp.Magnitude()],
    "granularity": [kgp.Unstructured(), kgp.Channel()],
    "allocation": [kgp.Uniform()],
    "mode": [kgp.Hard(), kgp.SET()],
    "schedule": [kgp.Cubic(0.6, 4, 16), kgp.Cubic(0.75, 4, 16)],
}
# The graph of a subclassed network is not known, which these say.
NEED_THE_GRAPH = [criteria.BatchNormScale(fallback="error")]


def conflict(chosen):
    return compatibility.conflict(compatibility.Combination(**chosen))


def settings_for(kind, member):
    """Return one member of each family, `member` for its own, that go together."""
    others = [PARTNERS[family] if family != kind else [member] for family in FAMILIES]
    found = [dict(zip(FAMILIES, choice, strict=True)) for choice in itertools.product(*others)]
    # As few as possible that are not the plain ones.
    found.sort(key=lambda chosen: sum(chosen[f] != PARTNERS[f][0] for f in FAMILIES))
    for chosen in found:
        if conflict(chosen) is None:
            return chosen
    raise AssertionError(
        f"{member!r} goes with none of the choices in `PARTNERS` of {__file__}; add one there: "
        f"{conflict(found[0])}."
    )


def covering(rows):
    """Return settings in which every row occurs, as many of them together as go together."""
    left, found = list(rows), []
    while left:
        chosen = settings_for(*left[0])
        taken = [left[0]]
        for kind, member in left[1:]:
            if any(kind == k for k, _ in taken) or not fits(kind, member, chosen):
                continue
            chosen = {**chosen, kind: member}
            taken.append((kind, member))
        found.append(chosen)
        left = [row for row in left if row not in taken]
    # In this order a step is traced anew least often.
    modes = [chosen["mode"] for chosen in found]
    order = sorted(range(len(found)), key=lambda i: (modes[i].collects, modes[i].restore == "zero"))
    return [found[i] for i in order]


def fits(kind, member, chosen):
    chosen = {**chosen, kind: member}
    # Sparsities by layer cannot meet every total.
    by_layer = isinstance(chosen["allocation"], kgp.PerLayer)
    if by_layer and chosen["schedule"] not in PARTNERS["schedule"]:
        return False
    # The scores of others are far above or below the thresholds here.
    if getattr(chosen["schedule"], "quantity", "") == "threshold" and chosen["criterion"].measures:
        return False
    # Here they name every layer that makes channels, which leaves none to make up the total.
    if by_layer and getattr(chosen["granularity"], "coupled", False):
        return False
    return conflict(chosen) is None


def label(chosen):
    return " ".join(repr(member) for member in chosen.values())


SAMPLE = covering(ROWS)
# Other schedules only say numbers, and test_modes_in_fit.py has modes that collect on two replicas.
REPLICATED = covering(
    (kind, member)
    for kind, member in ROWS
    if (kind != "schedule" or member.adaptive or member.rewind_step is not None)
    and not getattr(member, "collects", False)
)


def test_every_family_is_walked():
    assert set(FAMILIES) == set(PARTNERS), (
        "a family is new: give it plain choices in `PARTNERS`, or leave it out of `FAMILIES`"
    )
    for kind, member in ROWS:
        assert any(chosen[kind] == member for chosen in SAMPLE)
    assert len(SAMPLE) < 30


# --- one run -------------------------------------------------------------------------------------


LAYERS = ["dense_1", "conv_up", "plain", "spectral", "image"]
FEWER = ["dense_1", "conv_up", "image"]


def scope_for(chosen, layers):
    """Return the layers to prune where it cannot be all."""
    listed = getattr(chosen["schedule"], "schedule", None)
    if isinstance(listed, tuple):
        return layers[: len(listed)]  # as many as there are schedules
    # No batch normalization is behind the image.
    return layers[:-1] if chosen["criterion"] in NEED_THE_GRAPH else None


class Log(keras.callbacks.Callback):
    """Writes what an adaptive schedule reads: good up to a sparsity, bad beyond it."""

    LIMIT = 0.34

    def __init__(self, prune):
        super().__init__()
        self.prune, schedule = prune, prune.schedule
        self.name = schedule.monitor
        self.good = 1.0 if schedule.baseline is None else schedule.baseline
        self.bad = next(
            v for v in (self.good + 1e6, self.good - 1e6) if not schedule.holds(v, self.good)
        )

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.good if self.prune.pruner.sparsity <= self.LIMIT else self.bad


class Run:
    """One `Prune` with the callbacks that watch it."""

    def __init__(self, chosen, layers=FEWER):
        self.chosen = chosen
        self.schedule = chosen["schedule"]
        self.steps = (self.schedule.end_step or 16) + 2
        if self.schedule.adaptive:
            self.steps = 10 * EPOCH
        assert self.steps <= LONGEST, (
            f"{self.schedule!r} ends too late for a short run: give its row in `MEMBERS` of "
            f"helpers/members.py an `end_step` of at most {LONGEST - 2}"
        )
        settings = {k: v for k, v in chosen.items() if k != "schedule"}
        self.prune = kgp.Prune(
            self.schedule,
            "generator",
            FREQUENCY,
            scope=scope_for(chosen, layers),
            verbose=0,
            **settings,
        )
        before = runs.Before(self.prune)
        self.watch = runs.Watch(self.prune, before)
        self.callbacks = [before, self.prune, self.watch]
        if self.schedule.adaptive:
            self.callbacks.insert(0, Log(self.prune))

    @property
    def half(self):
        """A step in mid-schedule, right after an update and so before the next one is prepared."""
        if self.schedule.adaptive:
            return 3 * EPOCH
        begin, end = self.schedule.begin_step, self.schedule.end_step or self.steps
        middle = (begin + end) // 2 if begin < end else max(begin // 2, 1)
        last = self.schedule.latest_update_step(-1, middle, FREQUENCY)
        return middle if last is None else last + 1

    def fit(self, fit, first=0, last=None):
        """Train from one step to another; `fit` takes callbacks, `steps` and `epochs`."""
        last = self.steps if last is None else last
        each = EPOCH if self.schedule.adaptive else last - first
        fit(*self.callbacks, steps=each, epochs=(last - first) // each)
        return self

    def problems(self, first=0, last=None):
        """Return what is wrong after training from one step to another, as a list of str."""
        last = self.steps if last is None else last
        prune, schedule, found = self.prune, self.schedule, list(self.watch.problems)
        if int(nets.value(prune.model.generator_optimizer.iterations)) != last:
            found.append("it did not train for all steps")
        seen = [step for step, *_ in self.watch.updates]
        if schedule.adaptive:
            # A trial begins with an epoch, once there are gradients if it needs some.
            settings = self.prune.settings
            wait = settings.gradient_batches if settings.needs_gradient else 0
            due = [s for s in seen if s % EPOCH == wait]
        else:
            due = [s for s in range(first, last + 1) if schedule.is_update_step(s, FREQUENCY)]
            due = due if first == 0 else [s for s in due if s > first]
        if seen != due or not seen:
            found.append(f"masks were updated at {seen}, not at {due}")
        for step, requested, masks, before in self.watch.updates:
            found += [f"step {step}: {p}" for p in self._of_update(step, requested, masks, before)]
        found += runs.problems_of_weights(prune.pruner)
        now = [nets.value(w.mask) for w in prune.pruner.weights]
        if schedule.adaptive:
            reached = max(r for _, r, *_ in self.watch.updates if r <= Log.LIMIT)
            found += runs.problems_of_masks(prune.pruner, now, reached, reached)
        elif seen:
            target = schedule.targets(last, self.watch.updates[-1][3]) or schedule(last)
            if schedule.quantity == "sparsity":
                found += runs.problems_at_end(prune, target, schedule.final)
            if not all(
                np.array_equal(a, b) for a, b in zip(now, self.watch.updates[-1][2], strict=True)
            ):
                found.append("the masks at the end are not those of the last update")
        return found

    def _of_update(self, step, requested, masks, before):
        schedule, pruner = self.schedule, self.prune.pruner
        target = schedule.targets(step, before)
        if target is None:
            target = requested
            if not schedule.adaptive and requested != schedule(step):
                return [f"{requested} was requested, not {schedule(step)}"]
        if schedule.quantity == "sparsity":
            final = requested if schedule.adaptive else schedule.final
            return runs.problems_of_masks(pruner, masks, target, final)
        if any(self.chosen[f] != PARTNERS[f][0] for f in FAMILIES if f != "schedule"):
            return []  # whose scores the threshold is for is not known here
        limits = target if isinstance(target, list) else [target] * len(masks)
        return [
            f"{weight.path}: not pruned are others than those of at least {limit}"
            for weight, value, mask, limit in zip(
                pruner.weights, before, masks, limits, strict=True
            )
            if not np.array_equal(mask, np.abs(value) >= limit)
        ]


# --- on every kind of layer ----------------------------------------------------------------------

NETWORKS = {"functional": runs.generator, "subclassed": runs.SubclassedGenerator}


def built(network, every_kind=False):
    keras.utils.set_random_seed(1)
    generator = NETWORKS[network](every_kind)
    generator.build((None, runs.LATENT))
    return generator


@pytest.fixture(
    scope="module", params=["functional", pytest.param("subclassed", marks=pytest.mark.full)]
)
def bench(request):
    """Return `Runs` of a network with a layer of every kind."""
    return runs.Runs(runs.gan_model(built(request.param, every_kind=True)))


def is_subclassed(bench):
    return isinstance(bench.gan.generator, runs.SubclassedGenerator)


@each_row
def test_masks_are_exact_and_held_on_every_kind_of_layer(bench, kind, member):
    bench.reset()
    run = Run(settings_for(kind, member), LAYERS)
    if is_subclassed(bench) and member in NEED_THE_GRAPH:
        with pytest.raises(UnsupportedLayerError, match="is not followed by a BatchNorm"):
            run.fit(bench.fit)
        return
    run.fit(bench.fit)
    assert run.problems() == []
    pruned = {w.layer.name: w.layer for w in run.prune.pruner.weights}
    wanted = scope_for(run.chosen, LAYERS) or LAYERS[:-1]  # the channels of an image stay
    assert set(wanted) <= set(pruned)
    if "spectral" in pruned:
        wrappers = bench.gan.generator._flatten_layers()
        assert any(getattr(w, "layer", None) is pruned["spectral"] for w in wrappers)


# --- saved in mid-schedule -----------------------------------------------------------------------


def rebuilt(chosen):
    """Return the settings from what a file would say of them."""
    text = json.dumps({k: keras.saving.serialize_keras_object(m) for k, m in chosen.items()})
    return {k: keras.saving.deserialize_keras_object(c) for k, c in json.loads(text).items()}


def state(gan):
    """Return all that training changes, in order."""
    found = list(gan.weights)
    for optimizer in (gan.generator_optimizer, gan.discriminator_optimizer):
        # On JAX the masks (below) and sums of gradients are among them, which no file holds.
        companions = {id(v) for _, v in tracing.tracked(optimizer)}
        found += [v for v in optimizer.variables if id(v) not in companions]
    for weight in kgp.masked_weights(gan):
        store = weight.layer.pruning_masks
        found += [weight.mask, *store.hidden.values()]
    return [np.array(nets.value(v)) for v in found]


class Save(keras.callbacks.Callback):
    """Saves the model at a step, as `ModelCheckpoint` does; stands last."""

    def __init__(self, path, step):
        super().__init__()
        self.path, self.step = path, step

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.generator_optimizer.iterations) == self.step:
            self.model.save(self.path)
            self.state, self.drawn = state(self.model), random.getstate()

    def on_epoch_end(self, epoch, logs=None):
        self.on_train_batch_end(None)


def save_load_and_go_on(bench, chosen, path):
    """Train with a file in mid-schedule; return what is wrong where it is loaded and trained on."""
    bench.reset()
    whole = Run(chosen)
    save = Save(path, whole.half)
    whole.callbacks.append(save)
    whole.fit(bench.fit)
    found = whole.problems()
    wanted = state(bench.gan)

    custom = {"SubclassedGenerator": runs.SubclassedGenerator}
    gan = keras.saving.load_model(path, custom_objects=custom)
    if not same(save.state, state(gan)):
        found.append("what was loaded is not what was saved")
    random.setstate(save.drawn)  # initial values of weights that come back are drawn from it
    rest = Run(rebuilt(chosen)).fit(functools.partial(runs.fit, gan), whole.half)
    found += [f"after loading: {p}" for p in rest.problems(whole.half)]
    if not same(wanted, state(gan)):
        found.append("it did not end as the uninterrupted run did")
    if same(save.state, wanted):
        found.append("nothing was trained after the file was written")
    return found


def same(one, two):
    return len(one) == len(two) and all(map(np.array_equal, one, two))


@pytest.fixture(scope="module")
def benches():
    return {name: runs.Runs(runs.gan_model(built(name))) for name in NETWORKS}


expected_warnings = pytest.mark.filterwarnings(
    "ignore:Training ended at step", "ignore:Sparsity .* was requested"
)


@pytest.mark.full
@expected_warnings
@cases(1, "chosen", SAMPLE, ids=label)
def test_sample_saved_in_mid_schedule_goes_on_as_if_uninterrupted(benches, chosen, tmp_path):
    bench = benches["functional" if chosen["criterion"] in NEED_THE_GRAPH else "subclassed"]
    assert save_load_and_go_on(bench, chosen, tmp_path / "gan.keras") == []


@pytest.mark.full
@expected_warnings
@each_row
def test_row_saved_in_mid_schedule_goes_on_as_if_uninterrupted(bench, kind, member, tmp_path):
    if is_subclassed(bench) and member in NEED_THE_GRAPH:
        pytest.skip("refused, as another test has it")
    chosen = settings_for(kind, member)
    assert save_load_and_go_on(bench, chosen, tmp_path / "gan.keras") == []


@pytest.mark.full
@expected_warnings
def test_soft_saved_between_updates_is_sparse_where_training_ends_before_the_next(
    benches, tmp_path
):
    bench, path = benches["subclassed"], tmp_path / "gan.keras"
    bench.reset()
    chosen = {**settings_for("mode", kgp.Soft()), "schedule": kgp.ConstantSparsity(0.5)}
    run = Run(chosen)
    run.callbacks.append(Save(path, 2 * FREQUENCY + 1))
    run.fit(bench.fit)
    assert run.problems() == []
    custom = {"SubclassedGenerator": runs.SubclassedGenerator}
    gan = keras.saving.load_model(path, custom_objects=custom)
    runs.fit(gan, *Run(chosen).callbacks, steps=2)
    nets.assert_exact(0.5, gan.generator)


# --- on two replicas -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mirrored():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("`tf.distribute` is TensorFlow's")
    with nets.both_replicas().scope():
        return runs.Runs(runs.gan_model(built("functional")))


def problems_on_replicas(mirrored, chosen):
    mirrored.reset()
    run = Run(chosen).fit(mirrored.fit)
    found = run.problems()
    for weight in run.prune.pruner.weights:
        hidden = weight.layer.pruning_masks.hidden.values()
        for variable in (weight.variable, weight.mask, *hidden):
            one, two = nets.replicas(variable)
            if not np.array_equal(one, two):
                found.append(f"{variable.path} differs on the two replicas")
    return found


@pytest.mark.full
@expected_warnings
@pytest.mark.parametrize("chosen", REPLICATED, ids=label)
def test_sample_is_exact_and_held_on_two_replicas(mirrored, chosen):
    assert problems_on_replicas(mirrored, chosen) == []


@pytest.mark.full
@each_row
def test_row_is_exact_and_held_on_two_replicas(mirrored, kind, member):
    assert problems_on_replicas(mirrored, settings_for(kind, member)) == []


# --- whether all this would notice ---------------------------------------------------------------


class Spares(kgp.Hard):
    """Keeps one unit too many."""

    def choose(self, choice):
        keep = super().choose(choice)
        keep[np.argmin(keep)] = True
        return keep


class Forgets(kgp.Mode):
    """Exact at each update, but lets units come back."""

    regrows = True

    def choose(self, choice):
        return choice.by_score(choice.draw(choice.scores.size))


class Alternates(criteria.Criterion):
    """Knows something that no file has: how often it was asked."""

    asked = 0

    def score(self, weight, gradient=None):
        self.asked += 1
        return np.random.default_rng(self.asked).random(np.shape(weight))


@expected_warnings
@pytest.mark.parametrize(
    ("mode", "wrong"),
    [(Spares(), "weights kept|units kept"), (Forgets(), "came back under `hard`")],
)
def test_a_broken_mode_is_noticed(benches, mode, wrong, monkeypatch):
    bench = benches["subclassed"]
    bench.reset()
    monkeypatch.setattr(kgp, "Hard", type(mode))  # a promise of `hard`, asked of this one
    run = Run({**settings_for("mode", kgp.Soft()), "mode": mode}).fit(bench.fit)
    assert any(re.search(wrong, problem) for problem in run.problems())


def test_masks_that_are_not_held_are_noticed(benches, monkeypatch):
    bench = benches["subclassed"]
    bench.reset()
    run = Run(settings_for("mode", kgp.Hard()))
    dense = bench.gan.generator.get_weights()

    def puts_back(batch, logs=None):
        write_past_keras(bench.gan.generator, dense)

    run.callbacks.insert(-1, keras.callbacks.LambdaCallback(on_train_batch_end=puts_back))
    with pytest.warns(PruningWarning, match="had values under the mask at the end of an epoch"):
        run.fit(bench.fit)
    assert any("is not zero under its mask" in p for p in run.problems())


@pytest.mark.full
def test_state_that_is_not_in_the_file_is_noticed(benches, tmp_path, monkeypatch):
    chosen = {**settings_for("mode", kgp.SET()), "criterion": Alternates()}
    monkeypatch.setitem(globals(), "rebuilt", lambda chosen: {**chosen, "criterion": Alternates()})
    found = save_load_and_go_on(benches["subclassed"], chosen, tmp_path / "gan.keras")
    assert found == ["it did not end as the uninterrupted run did"]


def test_a_row_without_a_partner_says_what_to_add(monkeypatch):
    monkeypatch.setitem(PARTNERS, "granularity", [kgp.Unstructured()])
    with pytest.raises(AssertionError, match=r"add one there: .* compares whole channels"):
        settings_for("criterion", criteria.GeometricMedian())
