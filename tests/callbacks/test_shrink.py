"""`Shrink`: networks are cut in the middle of `fit`, and training continues with the smaller ones."""

import keras
import networks as nets
import numpy as np
import pytest
import residual_networks
import tensorflow as tf
from keras import layers
from keras.optimizers import SGD, Adam
from networks import value

import keras_ganprune as kgp
from keras_ganprune.callbacks.shrink_event import shrink_event
from keras_ganprune.errors import (
    ArgumentTypeError,
    InvalidArgumentError,
    PruningWarning,
)
from keras_ganprune.pruning.shrink_model import shrink_with_cuts
from keras_ganprune.pruning.structured.costs import Costs

EPOCH = 4  # batches


def gan_model(pair=None, options=None, **kwargs):
    """Return a GAN that runs eagerly, because tracing costs more than a few steps."""
    kwargs = {"seed": 1, "balance_frequency": 0, **kwargs}
    gan = kgp.GANModel(*(pair or nets.dcgan_pair()), nets.LATENT, **kwargs)
    options = {"run_eagerly": True} if options is None else options
    gan.compile(Adam(1e-2, 0.5), Adam(1e-2, 0.5), **options)
    return gan


def mlp_gan(**kwargs):
    return gan_model(nets.mlp_pair(), **kwargs)


def fit(gan, *callbacks, epochs=2, **kwargs):
    """Fit four batches per epoch; return the logs."""
    return gan.fit(
        nets.images(8 * EPOCH),
        batch_size=8,
        epochs=epochs,
        verbose=0,
        callbacks=list(callbacks),
        **kwargs,
    ).history


def shrink(at, target="generator", **options):
    return kgp.Shrink(at, target, **{"verbose": 0, **options})


def latents(n=7):
    return np.random.default_rng(3).standard_normal((n, nets.LATENT)).astype("float32")


def macs(network):
    return Costs(kgp.channel_groups(network)).macs()


class Watch(keras.callbacks.Callback):
    """Records networks and optimizers after each batch; its place is after `Shrink`."""

    def __init__(self, names=("generator",), traces=lambda: 0):
        super().__init__()
        self.names, self.count = names, traces
        self.parameters, self.traces, self.weights, self.finite = [], [], [], []

    def on_train_batch_end(self, batch, logs=None):
        networks = [getattr(self.model, name) for name in self.names]
        self.parameters.append(tuple(n.count_params() for n in networks))
        self.traces.append(self.count())
        self.weights.append([np.array(value(w)) for n in networks for w in n.trainable_weights])
        self.finite.append(all(np.all(np.isfinite(value(w))) for w in self.model.weights))


def changes(rows):
    """Return the batches, counted from 1, after which a row differs from the row before."""
    return [i + 1 for i in range(1, len(rows)) if rows[i] != rows[i - 1]]


def assert_trains_on(watch, history):
    """Assert that losses and weights are finite, and that all weights move in every batch."""
    assert all(watch.finite)
    for before, after in zip(watch.weights, watch.weights[1:], strict=False):
        for a, b in zip(before, after, strict=False):
            assert a.shape != b.shape or not np.array_equal(a, b)
    for key, values in history.items():
        assert np.all(np.isfinite(values)), key


# --- in a GANModel -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "generator",
        pytest.param("discriminator", marks=pytest.mark.full),
        pytest.param(["generator", "discriminator"], marks=pytest.mark.full),
    ],
)
def test_a_share_of_the_channels_goes(traced, target):
    gan = gan_model(ema_decay=0.9, options={})
    names = [target] if isinstance(target, str) else target
    dense = {n: (getattr(gan, n).count_params(), macs(getattr(gan, n))) for n in names}
    callback, watch = shrink(6, target, sparsity=0.5), Watch(names, traced)
    options = {"validation_data": nets.images(4)} if len(names) > 1 else {}
    history = fit(gan, callback, watch, **options)
    assert [(event.step, event.name) for event in callback.events] == [(6, n) for n in names]
    for event in callback.events:
        network = getattr(gan, event.name)
        assert event.channels == (12, 6)
        assert [row[1:] for row in event.groups] == [(6, 3), (6, 3)]
        assert event.parameters == (dense[event.name][0], network.count_params())
        assert event.macs == (dense[event.name][1], macs(network))
        key = f"{event.name}_parameters"
        assert history[key] == list(event.parameters)  # of the first epoch and the second
    assert changes(watch.parameters) == [6]
    assert not options or len(history["val_generator_loss"]) == 2
    # One more trace than at the start, for the batch after the cut.
    assert watch.traces == [watch.traces[0]] * 6 + [watch.traces[0] + 1] * 2
    assert_trains_on(watch, history)
    assert int(gan.generator_optimizer.iterations) == 8
    for network in (gan.generator, gan.discriminator):
        assert kgp.masked_weights(network) == []
    # The average is cut in the same way.
    assert gan.ema_generator.count_params() == gan.generator.count_params()
    for own, copy in zip(gan.generator.weights, gan.ema_generator.weights, strict=True):
        assert tuple(own.shape) == tuple(copy.shape)
    assert not gan.ema_generator.trainable
    assert gan.generate(2).shape == (2, nets.SIZE, nets.SIZE, 1)


class Around(keras.callbacks.Callback):
    """Records the generator and its optimizer right before `Shrink`, and another instance right after it."""

    def __init__(self, at):
        super().__init__()
        self.at, self.done = at, 0

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        if self.done == self.at:
            gan = self.model
            self.outputs = np.array(value(gan.generator(latents(), training=False)))
            self.average = np.array(value(gan.ema_generator(latents(), training=False)))
            self.weights = [np.array(value(w)) for w in gan.generator.trainable_weights]
            optimizer = gan.generator_optimizer
            self.slots = [
                [np.array(value(v)) for v in slots]
                for slots in (optimizer._momentums, optimizer._velocities)
            ]


@pytest.mark.full
def test_outputs_and_slots_right_behind_the_cut():
    # The masks are held from step 3 on, and cut out at 5.
    gan = gan_model(ema_decay=0.9, options={})
    prune = kgp.Prune(
        kgp.PolynomialDecay(0.5, 1, 3), "generator", 1, granularity="channel", verbose=0
    )
    before, after = Around(5), Around(5)
    callback = shrink(5, recalibrate=False)
    history = fit(gan, prune, before, callback, after)
    (event,) = callback.events
    assert event.channels == (12, 6)
    # The masked network computed what the smaller network computes now.
    scale = np.max(np.abs(before.outputs))
    np.testing.assert_allclose(after.outputs, before.outputs, rtol=0, atol=1e-5 * scale)
    np.testing.assert_allclose(after.average, before.average, rtol=0, atol=1e-5 * scale)
    assert np.max(np.ptp(before.outputs, axis=0)) > 1e-3 * scale
    # Weights and slots are those of the channels that stay: all but whole slices of zeros.
    for old, new, *slots in zip(
        before.weights, after.weights, *before.slots, *after.slots, strict=True
    ):
        kept = [
            np.flatnonzero(old.any(axis=tuple(a for a in range(old.ndim) if a != axis)))
            for axis in range(old.ndim)
        ]
        index = np.ix_(*kept)
        np.testing.assert_array_equal(new, old[index])
        for old_slot, new_slot in zip(slots[:2], slots[2:], strict=True):
            np.testing.assert_array_equal(new_slot, old_slot[index])
            assert np.any(new_slot)
    # The report of `Prune` stays as it was at the end.
    assert history["generator_channel_sparsity"] == [0.5, 0.5]
    assert history["generator_sparsity"][0] == history["generator_sparsity"][1] > 0.5
    assert [step for step, *_ in prune.updates] == [1, 2, 3]


@pytest.mark.full
def test_several_cuts(traced):
    gan = mlp_gan(options={})
    callback, watch = shrink([2, 5], sparsity=[0.25, 0.5]), Watch(traces=traced)
    history = fit(gan, callback, watch)
    assert [(e.step, e.channels) for e in callback.events] == [(2, (24, 18)), (5, (18, 9))]
    assert changes(watch.parameters) == [2, 5]
    assert np.diff(watch.traces).tolist() == [0, 1, 0, 0, 1, 0, 0]
    assert history["generator_parameters"] == [
        float(event.parameters[1]) for event in callback.events
    ]
    assert_trains_on(watch, history)


@pytest.mark.full
def test_two_cuts_inside_one_call_of_the_step():
    gan = mlp_gan(options={"steps_per_execution": 4})
    callback = shrink([2, 3], sparsity=0.5)
    history = fit(gan, callback)
    assert [(e.step, e.channels) for e in callback.events] == [(4, (24, 12)), (4, (12, 6))]
    assert history["generator_parameters"][0] == gan.generator.count_params()


@pytest.mark.full
def test_steps_per_execution(traced):
    gan = mlp_gan(ema_decay=0.9, options={"steps_per_execution": 2})
    callback = shrink(3, ["generator", "discriminator"], sparsity=0.5)
    watch = Watch(traces=traced)
    history = fit(gan, callback, watch)
    # Cut behind the call in which the step was.
    assert [event.step for event in callback.events] == [4, 4]
    assert watch.parameters[1] < watch.parameters[0]
    assert int(gan.generator_optimizer.iterations) == 8
    assert traced() == watch.traces[0] + 1
    assert all(np.isfinite(values).all() for values in history.values())


def wide():
    """Return networks with enough channels to get close to any budget."""
    generator = [
        keras.Input((nets.LATENT,)),
        layers.Dense(64, "relu", name="first"),
        layers.Dense(80, "relu", name="second"),
        layers.Dense(nets.SIZE**2, "tanh"),
        layers.Reshape((nets.SIZE, nets.SIZE, 1)),
    ]
    return keras.Sequential(generator, name="generator"), nets.mlp_discriminator()


@pytest.mark.full
def test_budgets_are_of_the_network_that_training_began_with():
    gan = gan_model(wide())
    dense = macs(gan.generator)
    budgets = [kgp.Budget(macs=0.5), kgp.Budget(macs=0.25)]
    callback = shrink([2, 4], budget=budgets, allocation="global_ranking")
    fit(gan, callback, epochs=1)
    for event, share in zip(callback.events, (0.5, 0.25), strict=True):
        assert abs(event.macs[1] / dense - share) <= 0.021 * share
    assert callback.events[1].macs == (callback.events[0].macs[1], macs(gan.generator))
    assert callback.events[1].parameters[1] == gan.generator.count_params()
    # In another `fit`, the budget is a share of the network at its beginning.
    callback = shrink(6, budget=kgp.Budget(macs=0.5))
    dense = macs(gan.generator)
    fit(gan, callback, epochs=1)
    assert abs(macs(gan.generator) / dense - 0.5) <= 0.03


@pytest.mark.full
def test_budgets_of_several_quantities_are_of_that_network_too():
    gan = gan_model(wide())
    dense = gan.generator.count_params()
    callback = shrink([2, 4], budget=[kgp.Budget(macs=0.5), kgp.Budget(parameters=0.25)])
    fit(gan, callback, epochs=1)
    assert abs(gan.generator.count_params() / dense - 0.25) <= 0.01


def test_a_budget_above_what_is_there():
    gan = gan_model(wide())
    callback = shrink([2, 3], budget=[kgp.Budget(macs=0.25), kgp.Budget(macs=0.5)])
    with pytest.raises(
        InvalidArgumentError,
        match=r"'generator' already has 0\.2\d+ of its macs\. Received: Budget\(macs=0\.5\)",
    ):
        fit(gan, callback, epochs=1)
    assert len(callback.events) == 1


@pytest.mark.full
def test_settings_are_those_of_shrink():
    gan = gan_model(wide())
    copy = keras.models.clone_model(gan.generator)
    callback = shrink(
        2,
        sparsity=0.5,
        criterion=kgp.Random(3),
        granularity=kgp.Channel(round_to=8),
        keep=["first"],
    )

    class Take(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                copy.set_weights(self.model.generator.get_weights())

    fit(gan, Take(), callback, epochs=1)
    assert callback.events[0].groups == (("second", 80, 40),)
    small = kgp.shrink(
        copy,
        sparsity=0.5,
        criterion=kgp.Random(3),
        granularity=kgp.Channel(round_to=8),
        keep=["first"],
    )
    assert [tuple(w.shape) for w in small.weights] == [
        tuple(w.shape) for w in gan.generator.weights
    ]


def test_limits():
    gan = mlp_gan()
    name = gan.generator.layers[0].name
    budget = kgp.Budget(parameters=0.5)
    with pytest.raises(InvalidArgumentError, match=r"cannot be met.*`limits="):
        fit(gan, shrink(1, budget=budget, limits={name: 0.1}), epochs=1)
    gan = mlp_gan()
    with pytest.raises(InvalidArgumentError, match="`limits` can only be used with a `budget`"):
        fit(gan, shrink(1, sparsity=0.5, limits={gan.generator.layers[0].name: 0.1}), epochs=1)


@pytest.mark.parametrize("options", [{"sparsity": 0.5}, {}])
@pytest.mark.full
def test_a_discriminator_with_spectral_norm(options):
    gan = gan_model((nets.mlp_generator(), nets.dcgan_discriminator(spectral=True)))
    prune = kgp.Prune(kgp.OneShot(0.5, 2), "discriminator", 1, granularity="channel", verbose=0)
    callback, watch = shrink(3, "discriminator", **options), Watch(["discriminator"])
    history = fit(gan, *([] if options else [prune]), callback, watch, epochs=1)
    assert callback.events[0].channels == (12, 6)
    assert_trains_on(watch, history)
    kinds = [type(layer) for layer in gan.discriminator.layers]
    assert kinds.count(layers.SpectralNormalization) == 3
    for layer in gan.discriminator.layers:
        if isinstance(layer, layers.SpectralNormalization):
            assert tuple(layer.vector_u.shape) == (1, layer.layer.kernel.shape[-1])


@pytest.mark.full
def test_a_conditional_gan():
    gan = gan_model(nets.conditional_pair())
    callback = shrink(3, ["generator", "discriminator"], sparsity=0.5)
    watch = Watch(["generator", "discriminator"])
    x = tf.data.Dataset.from_tensor_slices((nets.images(), nets.labels())).batch(8)
    options = {"epochs": 2, "verbose": 0, "shuffle": False}
    history = gan.fit(x, callbacks=[callback, watch], **options).history
    assert [event.channels for event in callback.events] == [(24, 12)] * 2
    assert changes(watch.parameters) == [3]
    assert_trains_on(watch, history)
    assert gan.generate(3, nets.labels(3)).shape == (3, nets.SIZE, nets.SIZE, 1)


@pytest.mark.full
def test_new_statistics_of_the_generator():
    def train(recalibrate):
        keras.utils.set_random_seed(4)
        gan = gan_model()
        fit(gan, shrink(EPOCH, sparsity=0.5, recalibrate=recalibrate), epochs=1)
        return gan

    gan, other = train(True), train(False)
    pairs = list(zip(gan.generator.weights, other.generator.weights, strict=True))
    same = [np.array_equal(value(a), value(b)) for a, b in pairs]
    assert same == ["moving" not in a.path for a, _ in pairs]
    kgp.recalibrate_batch_norm(other)
    for a, b in pairs:
        np.testing.assert_allclose(value(a), value(b), rtol=1e-5, atol=1e-6)


class Foreign(nets.EmaGAN):
    """Has networks under the names of papers, the one in a dict, and an average of one."""

    def __init__(self):
        super().__init__(nets.dcgan_discriminator(), nets.dcgan_generator())

    discriminator = property(lambda self: self.D, lambda self, v: setattr(self, "D", v))
    generator = property(lambda self: self.G, lambda self, v: setattr(self, "G", v))


@pytest.mark.full
def test_a_foreign_gan(capsys):
    gan = Foreign()
    gan.compile(SGD(1e-2, momentum=0.9), Adam(1e-2))
    callback = kgp.Shrink(3, ["G", "D"], sparsity=0.5)
    watch = Watch(["G", "D", "ema_generator"], lambda: gan.traces)
    history = fit(gan, callback, watch)
    assert [(event.name, event.channels) for event in callback.events] == [
        *(("G", (12, 6)), ("D", (12, 6)))
    ]
    assert changes(watch.parameters) == [3]
    assert np.diff(watch.traces).tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert gan.G.count_params() == gan.ema_generator.count_params()
    assert history["G_parameters"] == [float(gan.G.count_params())] * 2
    assert all(np.all(np.isfinite(value(w))) for w in gan.weights)
    said = capsys.readouterr().out
    assert "'ema_generator' is an average of 'G' and is cut in the same places" in said
    assert str(callback.events[1]) in said
    assert "'D' has 6 of 12 channels left" in said


@pytest.mark.full
def test_an_average_is_cut_in_the_same_places():
    gan = gan_model(ema_decay=0.5)
    taken = {}

    class Take(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                for name in ("generator", "ema_generator"):
                    taken[name] = [np.array(value(w)) for w in getattr(self.model, name).weights]

    class Compare(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                for name, before in taken.items():
                    now = [np.array(value(w)) for w in getattr(self.model, name).weights]
                    taken[name] = list(zip(before, now, strict=True))

    callback = shrink(2, sparsity=0.5, recalibrate=False)
    fit(gan, Take(), callback, Compare(), epochs=1)
    # The average loses the same positions as the generator.
    for own, copy in zip(taken["generator"], taken["ema_generator"], strict=True):
        (old, new), (old_copy, new_copy) = own, copy
        if old.ndim == 1:
            places = [np.flatnonzero(old == v)[:1] for v in new]
            distinct = len(np.unique(old)) == len(old)
            if distinct:
                np.testing.assert_array_equal(new_copy, old_copy[np.concatenate(places)])
        assert old_copy.shape == old.shape
        assert new_copy.shape == new.shape
        assert set(new_copy.ravel().tolist()) <= set(old_copy.ravel().tolist())


# --- with `Prune` --------------------------------------------------------------------------------


def test_a_prune_that_is_not_done_ends_with_a_warning():
    gan = mlp_gan()
    prune = kgp.Prune(
        kgp.PolynomialDecay(0.5, 1, 20), "generator", 1, granularity="channel", verbose=0
    )
    callback = shrink(3)
    with pytest.warns(
        PruningWarning,
        match=r"'generator' was made smaller at step 3, and .* ends there, its schedule at step 20\. "
        r"Cut at the end of the schedule",
    ):
        history = fit(gan, prune, callback)
    assert [step for step, *_ in prune.updates] == [1, 2, 3]
    assert history["generator_channel_sparsity"] == [prune.updates[-1][2]] * 2
    assert callback.events[0].channels[1] == prune.report.kept


@pytest.mark.full
def test_a_prune_of_several_networks_ends_for_all():
    gan = mlp_gan()
    targets = ["generator", "discriminator"]
    prune = kgp.Prune(kgp.OneShot(0.5, 1), targets, 1, granularity="channel", verbose=0)
    with pytest.warns(PruningWarning, match=r"Pruning of 'discriminator' ends with it\."):
        fit(gan, prune, shrink(3), epochs=1)
    # Its masks stay, and hold.
    assert nets.leaks(gan.discriminator) == {}
    assert kgp.masked_weights(gan.discriminator)


@pytest.mark.full
def test_a_prune_of_networks_that_are_all_cut_is_done():
    gan = mlp_gan()
    targets = ["generator", "discriminator"]
    prune = kgp.Prune(kgp.OneShot(0.5, 1), targets, 1, granularity="channel", verbose=0)
    fit(gan, prune, shrink(3, targets), epochs=1)


@pytest.mark.full
def test_a_prune_of_the_other_network_goes_on():
    gan = mlp_gan()
    prune = kgp.Prune(
        kgp.PolynomialDecay(0.5, 1, 6), "discriminator", 1, criterion="taylor",
        granularity="channel", verbose=0,
    )  # fmt: skip
    watch = nets.Watch(gan.discriminator)
    history = fit(gan, prune, shrink(3, sparsity=0.5), watch)
    assert prune.updates[-1][0] == 6
    assert history["discriminator_channel_sparsity"] == [pytest.approx(prune.updates[3][2]), 0.5]
    assert watch.leaks == []
    assert prune.pruner.held


def test_masks_of_single_weights_cannot_be_cut_out():
    gan = mlp_gan()
    prune = kgp.Prune(kgp.OneShot(0.5, 1), "generator", 1, verbose=0)
    callback = shrink(3)
    generator = gan.generator
    with pytest.raises(InvalidArgumentError, match=r"prune single weights, which no smaller layer"):
        fit(gan, prune, callback, epochs=1)
    assert gan.generator is generator
    assert callback.events == []


def test_without_masks_there_is_nothing_to_cut():
    with pytest.raises(InvalidArgumentError, match=r"no masks in 'generator', and no `Prune`"):
        fit(mlp_gan(), shrink(2), epochs=1)


def blocks_pruned(average):
    gan = gan_model((residual_networks.generator(3), nets.mlp_discriminator()), ema_decay=average)
    prune = kgp.Prune(kgp.OneShot(0.5, 2), "generator", 1, granularity="layer", verbose=0)
    callback, watch = shrink(3), Watch()
    return gan, callback, watch, fit(gan, prune, callback, watch, epochs=1)


@pytest.mark.full
def test_masked_blocks_are_left_out():
    gan, callback, watch, history = blocks_pruned(None)
    assert changes(watch.parameters) == [3]
    assert callback.events[0].parameters[1] == gan.generator.count_params()
    assert len(residual_networks.blocks_of(gan.generator)) == 2
    assert history["generator_block_sparsity"] == [pytest.approx(1 / 3)]
    assert_trains_on(watch, history)


@pytest.mark.full
def test_masked_blocks_are_left_out_of_an_average():
    gan, _, _, _ = blocks_pruned(0.9)
    assert gan.ema_generator.count_params() == gan.generator.count_params()


def test_the_numbers_of_left_out_blocks():
    network = nets.filled(residual_networks.generator(3))
    kgp.Pruner(network, granularity="layer").update(sparsity=0.5)
    shrunk = shrink_with_cuts(network)
    event = shrink_event(1, "generator", network, shrunk)
    assert event.parameters[1] == shrunk.model.count_params()
    assert event.macs == (macs(network), macs(shrunk.model))


# --- one callback after another ------------------------------------------------------------------


@pytest.mark.full
def test_a_second_fit_with_the_same_callbacks(capsys):
    gan = mlp_gan(ema_decay=0.9)
    prune = kgp.Prune(
        kgp.PolynomialDecay(0.5, 1, 3), "generator", 1, granularity="channel", verbose=0
    )
    callback = kgp.Shrink(4, "generator")
    first = fit(gan, prune, callback, epochs=1)
    small = gan.generator
    history = fit(gan, prune, callback)
    assert gan.generator is small
    assert len(callback.events) == 1
    assert history["generator_parameters"] == [small.count_params()] * 2
    assert history["generator_channel_sparsity"] == [first["generator_channel_sparsity"][-1]] * 2
    assert int(gan.generator_optimizer.iterations) == 12
    assert kgp.masked_weights(small) == []
    assert "before the cuts" not in capsys.readouterr().out


@pytest.mark.full
def test_a_second_fit_brings_the_second_cut():
    gan = mlp_gan()
    callback = shrink([2, 6], sparsity=0.5)
    fit(gan, callback, epochs=1)
    assert [event.step for event in callback.events] == [2]
    fit(gan, callback, epochs=1)
    assert [event.step for event in callback.events] == [2, 6]


@pytest.mark.full
def test_two_callbacks_for_two_networks():
    gan = mlp_gan()
    one, two = shrink(2, sparsity=0.5), shrink(3, "discriminator", sparsity=0.25)
    watch = Watch(["generator", "discriminator"])
    history = fit(gan, one, two, watch)
    assert [event.channels for event in (*one.events, *two.events)] == [(24, 12), (24, 18)]
    assert changes(watch.parameters) == [2, 3]
    assert_trains_on(watch, history)


@pytest.mark.full
def test_two_callbacks_for_one_network():
    gan = mlp_gan()
    one, two = shrink(2, sparsity=0.5), shrink(3, sparsity=0.5)
    history = fit(gan, one, two)
    assert [event.channels for event in (*one.events, *two.events)] == [(24, 12), (12, 6)]
    assert history["generator_parameters"] == [gan.generator.count_params()] * 2


@pytest.mark.full
def test_a_file_that_goes_on(tmp_path):
    gan = gan_model(ema_decay=0.9)
    fit(gan, shrink(3, ["generator", "discriminator"], sparsity=0.5), epochs=1)
    gan.save(tmp_path / "gan.keras")
    loaded = kgp.load_model(tmp_path / "gan.keras")
    assert loaded.generator.count_params() == gan.generator.count_params()
    np.testing.assert_array_equal(gan.generate(3, seed=1), loaded.generate(3, seed=1))
    for one in (gan, loaded):
        one.fit(nets.images(16), batch_size=8, shuffle=False, verbose=0)
    assert int(loaded.generator_optimizer.iterations) == 6
    for one, other in zip(gan.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(value(one), value(other), rtol=1e-5, atol=1e-6)


class Poison(keras.callbacks.Callback):
    """Writes NaN into the present generator before one batch."""

    def __init__(self, at):
        super().__init__()
        self.at, self.done = at, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.done += 1
        if self.done == self.at:
            weight = self.model.generator.trainable_weights[-1]
            weight.assign(weight + np.nan)


@pytest.mark.parametrize(
    "at",
    [
        5,
        3,
    ],
)
@pytest.mark.full
def test_a_guard_puts_a_good_state_of_the_small_network_back(at):
    gan = mlp_gan()
    callback = shrink(2, sparsity=0.5)
    with pytest.warns(PruningWarning, match=rf"Training stopped after batch {at}: .*were restored"):
        fit(gan, callback, Poison(at))
    assert callback.events[0].channels == (24, 12)
    for variable in (*gan.weights, *gan.generator_optimizer.variables):
        assert np.all(np.isfinite(value(variable)))
    assert 2 <= int(gan.generator_optimizer.iterations) < at


def test_training_that_ends_before_the_cut(capsys):
    callback = kgp.Shrink([2, 50, 60], "generator", sparsity=0.5)
    fit(mlp_gan(), callback, epochs=1)
    assert "Shrink: training ended at step 4, before the cuts at [50, 60]." in (
        capsys.readouterr().out
    )
    assert len(callback.events) == 1
    # Silence.
    fit(mlp_gan(), shrink(50, sparsity=0.5), epochs=1)
    assert capsys.readouterr().out == ""


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "options", "text"),
    [
        (0, {}, "`at` must be a positive int.*Received: 0"),
        ([5, 3], {}, r"rising list.*\[5, 3\]"),
        ([3, 3], {}, r"rising list.*\[3, 3\]"),
        ([], {}, r"Received: \[\]"),
        (2.0, {}, r"Received: 2\.0"),
        (True, {}, "Received: True"),
        ("5", {}, "Received: '5'"),
        (5, {"target": None}, "must name a network inside the model"),
        (5, {"sparsity": 0.5, "budget": kgp.Budget(macs=0.5)}, "one of `sparsity` and `budget`"),
        ([2, 3], {"sparsity": [0.5]}, "`sparsity` as a list.*each of the 2 steps.*Received: 1"),
        (2, {"budget": [kgp.Budget(macs=0.5)] * 2}, "`budget` as a list.*the 1 steps.*Received: 2"),
        (2, {"sparsity": 80}, r"80"),
        (2, {"sparsity": 1.0}, "1"),
        (2, {"budget": 0.25}, r"`budget` must be a `Budget`.*Received: 0\.25"),
        (2, {"sparsity": 0.5, "criterion": "magnitud"}, "Did you mean 'magnitude'"),
        (
            2,
            {"granularity": "unstructured", "criterion": "geometric_median"},
            "not compatible",
        ),
    ],
)
def test_arguments(at, options, text):
    with pytest.raises(InvalidArgumentError, match=text):
        kgp.Shrink(at, **options)


@pytest.mark.parametrize("budget", [{"macs": 25}, {"macs": 0.0}])
def test_budgets_in_percent(budget):
    with pytest.raises(InvalidArgumentError, match="must be a fraction"):
        kgp.Shrink(2, budget=kgp.Budget(**budget))


def test_the_model_itself_is_no_target():
    model = nets.classifier()
    model.compile(Adam(), nets.classifier_loss())
    with pytest.raises(InvalidArgumentError, match="must be a network inside the model, not the"):
        model.fit(*nets.classifier_data(), verbose=0, callbacks=[shrink(1, model, sparsity=0.5)])


def test_unknown_targets():
    with pytest.raises(InvalidArgumentError, match="Did you mean 'generator'"):
        fit(mlp_gan(), shrink(1, "generater", sparsity=0.5), epochs=1)
    with pytest.raises(ArgumentTypeError, match="latent_dim"):
        fit(mlp_gan(), shrink(1, "latent_dim", sparsity=0.5), epochs=1)


@pytest.mark.full
def test_an_optimizer_that_counts():
    gan = mlp_gan(discriminator_steps=2)
    callback = shrink(5, sparsity=0.5, optimizer="discriminator_optimizer")
    fit(gan, callback, epochs=1)
    # Two steps of the discriminator in each batch.
    assert [event.step for event in callback.events] == [6]
    with pytest.raises(InvalidArgumentError, match="optimizer of GANModel"):
        fit(mlp_gan(), shrink(5, sparsity=0.5, optimizer="other"), epochs=1)


def test_what_it_says():
    callback = kgp.Shrink([2, 4], sparsity=0.5)
    assert repr(callback) == "<Shrink 'generator' at [2, 4]: 0.5, 0.5>"
    assert repr(kgp.Shrink(2)) == "<Shrink 'generator' at [2]: what is masked>"
    assert "Budget(macs=0.25)" in repr(kgp.Shrink(2, budget=kgp.Budget(macs=0.25)))
