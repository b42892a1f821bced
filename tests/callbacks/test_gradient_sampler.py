"""The sampler reads, in the compiled step of a running `fit`, the gradients that a tape gives."""

import copy
import gc

import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf
from cases import cases
from keras.optimizers import SGD, Adam, LossScaleOptimizer

import keras_ganprune as kgp
from keras_ganprune.callbacks import _gradient_sampler as engine
from keras_ganprune.errors import (
    DivergedError,
    InvalidArgumentError,
    PruningWarning,
    UnsupportedLayerError,
)
from keras_ganprune.layers import traversal

OLD_KERAS = keras.version().startswith("3.8.")
RATE = 1e-3
BATCH = 8
OPTIMIZERS = {"generator": "generator_optimizer", "discriminator": "discriminator_optimizer"}


# --- what was read, and what a tape gives --------------------------------------------------------


@pytest.fixture
def reads(monkeypatch):
    """Return a list that gets what each mask update was given, and how many batches it comes from."""
    found, batches = [], []
    read, update = engine.GradientSampler.read, kgp.Pruner.update

    def noting_read(self, request):
        batches.append(self.batches)
        return read(self, request)

    def noting_update(self, **arguments):
        given = {
            name: [np.array(g) for g in arguments[name]]
            for name in ("gradients", "growth")
            if arguments.get(name) is not None
        }
        if given:
            found.append({**given, "batches": batches[-1]})
        return update(self, **arguments)

    monkeypatch.setattr(engine.GradientSampler, "read", noting_read)
    monkeypatch.setattr(kgp.Pruner, "update", noting_update)
    return found


class Recorder(SGD):
    """Keeps the gradients of the loss that it is given; for runs that are not compiled."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        object.__setattr__(self, "given", [])

    def apply(self, grads, trainable_variables=None):
        grads, variables = list(grads), list(trainable_variables)
        self.given.append(
            {
                id(v): np.asarray(tf.convert_to_tensor(g), "float64")
                / (self.loss_scale_factor or 1)
                for g, v in zip(grads, variables, strict=True)
            }
        )
        return super().apply(grads, variables)


def recorded(optimizer):
    return getattr(optimizer, "inner_optimizer", optimizer).given


def average(given, variables, moment=1):
    """Return mean |g| (or the root of mean g^2) of each variable over a list of {id: gradient}."""
    means = [np.mean([np.abs(g[id(v)]) ** moment for g in given], axis=0) for v in variables]
    return [m ** (1 / moment) for m in means]


def kernels(network):
    """Return the variables that `Prune` masks, before it does."""
    probe = [layer for _, layer in traversal.prunable_candidates(network)]
    kgp.make_prunable(network, probe)
    return [w.variable for w in kgp.masked_weights(network)]


def assert_close(found, wanted, rtol=1e-4):
    assert len(found) == len(wanted) > 0
    for one, two in zip(found, wanted, strict=True):
        assert np.max(two) > 0, "an oracle of zeros shows nothing"
        np.testing.assert_allclose(one, two, rtol=rtol, atol=rtol * np.max(two))


def prune(due, target=None, criterion=None, frequency=100, **kwargs):
    """Return a callback that updates the masks once, at step `due`."""
    criterion = kgp.Gradient(3) if criterion is None else criterion
    return kgp.Prune(
        kgp.OneShot(0.5, step=due), target, frequency, criterion=criterion, verbose=0, **kwargs
    )


def fit(model, x, *callbacks, y=None, epochs=1, batch_size=BATCH):
    return model.fit(x, y, batch_size, epochs, verbose=0, shuffle=False, callbacks=list(callbacks))


def classifier(optimizer=None, network=None, **options):
    model = network or nets.classifier()
    model.compile(optimizer or SGD(RATE), nets.classifier_loss(), **options)
    return model


def tape_of(model, x, y):
    """Return {id: gradient} of the classifier's loss on one batch."""
    with tf.GradientTape() as tape:
        loss = nets.classifier_loss()(y, model(x, training=True))
    variables = model.trainable_variables
    found = tape.gradient(loss, variables)
    return {
        id(v): np.asarray(tf.convert_to_tensor(g)) for g, v in zip(found, variables, strict=True)
    }


def batches_of(*arrays):
    return [tuple(a[i : i + BATCH] for a in arrays) for i in range(0, len(arrays[0]), BATCH)]


def gan_model(pair=None, optimizer=lambda: SGD(RATE), options=None, **kwargs):
    gan = kgp.GANModel(
        *(pair or nets.mlp_pair()), nets.LATENT, seed=1, balance_frequency=0, **kwargs
    )
    gan.compile(optimizer(), optimizer(), **(options or {}))
    return gan


def guide_gan(cls=nets.GuideGAN, optimizer=lambda: SGD(RATE), **options):
    gan = cls()
    gan.compile(optimizer(), optimizer(), **options)
    return gan


# --- a classifier, against a tape ----------------------------------------------------------------


@cases(
    1,
    ("criterion", "moment"),
    [
        (kgp.Gradient(3), 1),
        (kgp.Taylor(3), 1),
        (kgp.Taylor(3, squared=True), 2),
        (kgp.Hybrid({"magnitude": 1.0, kgp.Taylor(3): 2.0}), 1),
    ],
    ids=["gradient", "taylor", "squared", "hybrid"],
)
def test_mean_gradient_of_the_batches_before_the_update(reads, criterion, moment):
    model = classifier(SGD(0.0))
    x, y = nets.classifier_data(48)
    wanted = [tape_of(model, *batch) for batch in batches_of(x, y)[2:5]]
    variables = kernels(model)
    fit(model, x, prune(5, criterion=criterion), y=y)
    (read,) = reads
    assert read["batches"] == 3
    assert_close(read["gradients"], average(wanted, variables, moment))


@pytest.mark.full
def test_regrowth_reads_gradients_too(reads):
    model = classifier(SGD(0.0))
    x, y = nets.classifier_data(48)
    wanted = [tape_of(model, *batch) for batch in batches_of(x, y)]
    variables = kernels(model)
    mode = kgp.RigL(batches=2)
    fit(model, x, prune(5, criterion=kgp.Taylor(3, squared=True), mode=mode), y=y)
    (read,) = reads
    # One window for both, the longer one.
    assert_close(read["gradients"], average(wanted[2:5], variables, 2))
    assert_close(read["growth"], average(wanted[2:5], variables))


def test_pruned_weights_have_gradients_as_well(reads):
    model = classifier(SGD(0.0))
    x, y = nets.classifier_data(48)
    fit(model, x, prune(2, criterion="magnitude"), y=y)
    nets.assert_exact(0.5, model)
    wanted = [tape_of(model, *batch) for batch in batches_of(x, y)[:2]]
    variables = kernels(model)
    # Six steps are done.
    fit(model, x, prune(8, criterion="magnitude", mode=kgp.RigL(batches=2)), y=y)
    assert_close(reads[-1]["growth"], average(wanted, variables))


@pytest.mark.full
def test_a_batch_of_another_shape_is_sampled_too(reads):
    model = classifier(SGD(0.0))
    x, y = nets.classifier_data(30)
    *_, last = batches = batches_of(x, y)
    assert len(last[0]) == 6
    wanted = [tape_of(model, *batch) for batch in batches[2:] + batches[:1]]
    variables = kernels(model)
    fit(model, x, prune(5, criterion=kgp.Gradient(3)), y=y, epochs=2)
    assert_close(reads[0]["gradients"], average(wanted, variables))


@pytest.mark.full
def test_the_window_is_always_on_where_updates_come_faster(reads):
    model = classifier(SGD(0.0))
    x, y = nets.classifier_data(64)
    wanted = [tape_of(model, *batch) for batch in batches_of(x, y)]
    variables = kernels(model)
    schedule = kgp.ConstantSparsity(0.0, begin_step=2, end_step=8)
    pruner = kgp.Prune(schedule, None, 2, criterion=kgp.Gradient(5), verbose=0)
    fit(model, x, pruner, y=y)
    assert [step for step, *_ in pruner.updates] == [2, 4, 6, 8]
    for i, read in enumerate(reads):
        assert read["batches"] == 2
        assert_close(read["gradients"], average(wanted[2 * i : 2 * i + 2], variables))


def test_the_first_update_waits_for_its_gradients(reads):
    model = classifier(SGD(0.0))
    x, y = nets.classifier_data(48)
    wanted = [tape_of(model, *batch) for batch in batches_of(x, y)[:3]]
    variables = kernels(model)
    callback, watch = prune(0), nets.Watch(model)
    fit(model, x, callback, watch, y=y)
    assert callback.updates == [(3, 0.5, callback.report.achieved)]
    assert reads[0]["batches"] == 3
    assert_close(reads[0]["gradients"], average(wanted, variables))
    assert [kept == watch.kept[-1] for kept in watch.kept] == [False] * 2 + [True] * 4


def test_a_run_that_goes_on_inside_a_window_reads_what_is_left_of_it(reads):
    model = classifier(SGD(0.0))
    x, y = nets.classifier_data(48)
    wanted = [tape_of(model, *batch) for batch in batches_of(x, y)]
    variables = kernels(model)
    fit(model, x[:32], y=y[:32])  # four steps, of which the callback knows nothing
    fit(model, x[32:], prune(6, criterion=kgp.Gradient(4)), y=y[32:])
    assert reads[0]["batches"] == 2
    assert_close(reads[0]["gradients"], average(wanted[4:], variables))


@pytest.mark.full
def test_a_window_goes_on_in_the_next_fit(reads):
    model = classifier(SGD(0.0))
    x, y = nets.classifier_data(48)
    wanted = [tape_of(model, *batch) for batch in batches_of(x, y)[1:5]]
    variables = kernels(model)
    callback = prune(5, criterion=kgp.Gradient(4))
    with pytest.warns(PruningWarning, match="ended at step 3, before the schedule's begin_step 5"):
        fit(model, x[:24], callback, y=y[:24])
    fit(model, x[24:], callback, y=y[24:])
    assert reads[0]["batches"] == 4
    assert_close(reads[0]["gradients"], average(wanted, variables))


@pytest.mark.full
def test_training_shorter_than_the_window_makes_the_update_at_its_end(reads):
    model = classifier(SGD(0.0))
    x, y = nets.classifier_data(16)
    wanted = [tape_of(model, *batch) for batch in batches_of(x, y)]
    variables = kernels(model)
    callback = prune(0, criterion=kgp.Gradient(8))
    fit(model, x, callback, y=y)
    assert callback.updates == [(2, 0.5, callback.report.achieved)]
    assert reads[0]["batches"] == 2
    assert_close(reads[0]["gradients"], average(wanted, variables))
    nets.assert_exact(0.5, model)


# --- ways to compile, optimizers -----------------------------------------------------------------


def embedding_classifier():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(12, 5),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )


def compare_with_the_recorder(
    reads, make, x, target, due, window, y=None, optimizer=None, options=None, rtol=1e-4, **more
):
    """Fit one model with `Prune`, and an equal one step by step with an optimizer that takes notes."""
    optimizer = optimizer or (lambda base: base(RATE))
    keras.utils.set_random_seed(3)
    model = make(lambda: optimizer(SGD), **(options or {}))
    callback = prune(due, target, **more)
    fit(model, x, callback, y=y)
    keras.utils.set_random_seed(3)
    twin = make(lambda: optimizer(Recorder), run_eagerly=True)
    network = getattr(twin, target) if target else twin
    variables = kernels(network)
    fit(twin, x, y=y)
    names = {"generator": ("generator_optimizer", "g_optimizer")}
    names["discriminator"] = ("discriminator_optimizer", "d_optimizer")
    found = [getattr(twin, n) for n in names.get(target, ("optimizer",)) if hasattr(twin, n)]
    (read,) = reads
    given = recorded(found[0])[window]
    assert given
    assert_close(read["gradients"], average(given, variables), rtol)
    return read, callback


COMPILED = {
    "plain": ({}, slice(3, 6), 3),
    "run_eagerly": ({"run_eagerly": True}, slice(3, 6), 3),
    "jit_compile": ({"jit_compile": True}, slice(3, 6), 3),
    # Calls of the step stand for batches 1-4 and 5-8; the update due at 6 comes after the second.
    "steps_per_execution": ({"steps_per_execution": 4}, slice(0, 8), 8),
}


@cases(("plain",), "case", COMPILED)
@pytest.mark.full
def test_compile_options(reads, case):
    options, window, batches = COMPILED[case]
    x, y = nets.classifier_data(72)
    read, _ = compare_with_the_recorder(
        reads,
        lambda optimizer, **o: classifier(optimizer(), **o),
        x,
        None,
        6,
        window,
        y=y,
        options=options,
    )
    if case == "steps_per_execution" and OLD_KERAS:
        pytest.skip("Keras 3.8 names the first batch of a call, so that fewer are counted")
    assert read["batches"] == batches


@pytest.mark.full
def test_a_window_is_rounded_up_to_whole_executions(reads):
    x, y = nets.classifier_data(72)
    read, callback = compare_with_the_recorder(
        reads,
        lambda optimizer, **o: classifier(optimizer(), **o),
        x,
        None,
        8,
        slice(4, 8),
        y=y,
        options={"steps_per_execution": 4},
        criterion=kgp.Gradient(2),
    )
    assert read["batches"] == 4
    assert [step for step, *_ in callback.updates] == [8]


@cases(
    ("clipnorm",),
    ("optimizer", "due", "window"),
    [
        (lambda base: base(RATE, clipnorm=1e-3), 5, slice(2, 5)),
        (lambda base: base(RATE, clipvalue=1e-3), 5, slice(2, 5)),
        (lambda base: base(RATE, global_clipnorm=1e-3), 5, slice(2, 5)),
        (lambda base: base(RATE, weight_decay=0.1), 5, slice(2, 5)),
        (lambda base: base(RATE, loss_scale_factor=256.0), 5, slice(2, 5)),
        # An optimizer step is three batches: the update at step 2 comes after six of them.
        (lambda base: base(RATE, gradient_accumulation_steps=3), 2, slice(2, 6)),
    ],
    ids=["clipnorm", "clipvalue", "global_clipnorm", "decay", "loss_scale_factor", "accumulation"],
)
def test_optimizers(reads, optimizer, due, window):
    """Sampled are the gradients of the loss: not clipped, unscaled, of every batch."""
    x, y = nets.classifier_data(72)
    make = lambda o, **options: classifier(o(), **options)  # noqa: E731
    read, _ = compare_with_the_recorder(
        reads,
        make,
        x,
        None,
        due,
        window,
        y=y,
        optimizer=optimizer,
        criterion=kgp.Gradient(window.stop - window.start),
        **({"rtol": 1e-4}),
    )
    assert read["batches"] == window.stop - window.start


@pytest.mark.full
def test_embedding_gradients_are_not_slices(reads):
    x = np.random.default_rng(0).integers(0, 12, (48, 4))
    compare_with_the_recorder(
        reads,
        lambda optimizer, **o: classifier(optimizer(), embedding_classifier(), **o),
        x,
        None,
        5,
        slice(2, 5),
        y=np.arange(48) % 3,
    )
    assert [g.shape for g in reads[0]["gradients"]] == [(12, 5), (5, 3)]


@pytest.mark.full
def test_loss_scaling_is_undone(reads):
    x, y = nets.classifier_data(48)
    compare_with_the_recorder(
        reads,
        lambda o, **options: classifier(
            LossScaleOptimizer(o()), nets.classifier("mixed_float16"), **options
        ),
        x,
        None,
        5,
        slice(2, 5),
        y=y,
        rtol=2e-2,
    )


@pytest.mark.full
@pytest.mark.skipif(OLD_KERAS, reason="the loss scaling of Keras 3.8 counts the steps it skips")
def test_batches_that_loss_scaling_skips_do_not_count(reads):
    model = nets.classifier("mixed_float16")
    # The first batches overflow, each of them halves the scale.
    classifier(LossScaleOptimizer(SGD(0.0), initial_scale=2.0**22), model)
    x, y = nets.classifier_data(8)
    wanted = tape_of(model, x, y)
    variables = kernels(model)
    callback = prune(0, criterion=kgp.Gradient(1))
    fit(model, x, callback, y=y, epochs=12)
    skipped = 12 - int(model.optimizer.iterations)
    assert 0 < skipped < 12
    assert reads[0]["batches"] == skipped + 1
    assert_close(reads[0]["gradients"], average([wanted], variables), 2e-2)


# --- GANs ----------------------------------------------------------------------------------------


def scores(gan, z):
    return gan.discriminator(gan.generator(z, training=True), training=True)


@pytest.mark.full
@cases(1, "target", ["generator", "discriminator"])
def test_both_networks_of_gan_model(reads, target):
    gan = gan_model(optimizer=lambda: SGD(0.0))
    x = nets.images(48)
    twin = gan_model((gan.generator, gan.discriminator), lambda: SGD(0.0))
    network = getattr(gan, target)
    given = []
    for (real,) in batches_of(x):
        seed = tf.cast(twin.noise_seed.next(), tf.int32)
        z = tf.random.stateless_normal((BATCH, nets.LATENT), seed, alg="philox")
        with tf.GradientTape() as tape:
            if target == "generator":
                loss = tf.reduce_mean(tf.nn.softplus(-scores(gan, z)))
            else:
                logits = gan.discriminator(real, training=True)
                loss = tf.reduce_mean(tf.nn.softplus(-logits))
                loss += tf.reduce_mean(tf.nn.softplus(scores(gan, z)))
        weights = network.trainable_variables
        found = tape.gradient(loss, weights)
        given.append({id(v): np.asarray(g) for g, v in zip(found, weights, strict=True)})
    variables = kernels(network)
    fit(gan, x, prune(5, target, kgp.Taylor(3)))
    assert reads[0]["batches"] == 3
    assert_close(reads[0]["gradients"], average(given[2:5], variables))


@pytest.mark.full
def test_the_generator_of_a_foreign_gan(reads):
    gan, twin = guide_gan(optimizer=lambda: SGD(0.0)), guide_gan()
    given = []
    for _ in range(5):
        twin.noise(BATCH)
        with tf.GradientTape() as tape:
            fake = gan.generator(twin.noise(BATCH), training=True)
            loss = twin.loss_fn(np.zeros((BATCH, 1)), gan.discriminator(fake))
        weights = gan.generator.trainable_variables
        found = tape.gradient(loss, weights)
        given.append({id(v): np.asarray(g) for g, v in zip(found, weights, strict=True)})
    variables = kernels(gan.generator)
    fit(gan, nets.images(48), prune(5, "generator", kgp.Taylor(3)))
    assert reads[0]["batches"] == 3
    assert_close(reads[0]["gradients"], average(given[2:], variables))


class FiveCriticSteps(nets.WGANGP):
    gp_weight = 0.0  # its noise comes from a generator that compiled steps seed otherwise


GANS = {
    "sn": lambda o, **c: gan_model(
        (nets.dcgan_generator(), nets.dcgan_discriminator(spectral=True)), o, c
    ),
    "subclassed": lambda o, **c: gan_model(
        (nets.SubclassedGenerator(), nets.mlp_discriminator()), o, c
    ),
    "half": lambda o, **c: gan_model(nets.mlp_pair(dtype="mixed_float16"), o, c),
    "critic_steps": lambda o, **c: gan_model(None, o, c, discriminator_steps=5, ema_decay=0.9),
    "guide": lambda o, **c: guide_gan(optimizer=o, **c),
    "wgan_gp": lambda o, **c: guide_gan(FiveCriticSteps, o, **c),
}


@pytest.mark.full
@cases(("generator",), "target", ["generator", "discriminator"])
@cases(("guide",), "name", GANS)
def test_gans(reads, name, target):
    steps = 5 if name in ("critic_steps", "wgan_gp") and target == "discriminator" else 1
    read, _ = compare_with_the_recorder(
        reads,
        GANS[name],
        nets.images(48),
        target,
        5 * steps,
        slice(2 * steps, 5 * steps),
        rtol=3e-2 if name == "half" else 1e-3,
    )
    # All five gradients of a batch count, but it is one batch.
    assert read["batches"] == 3


@pytest.mark.full
def test_conditional_gan(reads):
    compare_with_the_recorder(
        reads,
        lambda o, **c: gan_model(nets.conditional_pair(), o, c),
        nets.images(48),
        "generator",
        5,
        slice(2, 5),
        y=nets.labels(48),
    )


@pytest.mark.full
def test_one_callback_for_both_networks(reads):
    make = lambda o, **c: gan_model(None, o, c)  # noqa: E731
    gan = make(lambda: SGD(RATE))
    keras.utils.set_random_seed(20240607)
    twin = make(lambda: Recorder(RATE), run_eagerly=True)
    for one, two in zip(gan.weights, twin.weights, strict=True):
        two.assign(one)
    names = list(OPTIMIZERS)
    variables = [kernels(getattr(twin, name)) for name in names]
    fit(gan, nets.images(48), prune(5, names, allocation="global_ranking"))
    fit(twin, nets.images(48))
    wanted = [
        average(recorded(getattr(twin, OPTIMIZERS[name]))[2:5], own)
        for name, own in zip(names, variables, strict=True)
    ]
    assert_close(reads[0]["gradients"], wanted[0] + wanted[1])


@pytest.mark.full
@cases(
    1,
    ("first", "second"),
    [((5, 3), (5, 3)), ((4, 2), (5, 3)), ((4, 3), (6, 2)), ((6, 5), (4, 2)), ((2, 2), (6, 2))],
    ids=["same", "inside", "overlapping", "around", "apart"],
)
def test_two_callbacks_each_with_a_window_of_its_own(reads, first, second):
    gan, x = gan_model(), nets.images(64)
    twin = gan_model(
        tuple(keras.models.clone_model(n) for n in (gan.generator, gan.discriminator)),
        lambda: Recorder(RATE),
        {"run_eagerly": True},
    )
    for one, two in zip(gan.weights, twin.weights, strict=True):
        two.assign(one)
    wanted = {}
    for name, (due, batches) in zip(OPTIMIZERS, (first, second), strict=True):
        wanted[name] = (due, kernels(getattr(twin, name)), slice(due - batches, due))
    # One network is half pruned before the other is read: the twin must be, too.
    schedule = lambda due: kgp.OneShot(0.0, step=due)  # noqa: E731
    callbacks = [
        kgp.Prune(schedule(due), name, criterion=kgp.Gradient(batches), verbose=0)
        for name, (due, batches) in zip(OPTIMIZERS, (first, second), strict=True)
    ]
    fit(gan, x, *callbacks)
    fit(twin, x)
    order = sorted(wanted, key=lambda name: wanted[name][0])
    assert len(reads) == 2
    for read, name in zip(reads, order, strict=True):
        _, variables, window = wanted[name]
        given = recorded(getattr(twin, OPTIMIZERS[name]))[window]
        assert_close(read["gradients"], average(given, variables))
    assert_nothing_left(gan)


# --- several replicas ----------------------------------------------------------------------------


def halves(model, x, y):
    """Return the gradients of the two replicas of one batch, each of its own mean loss."""
    return [tape_of(model, x[:4], y[:4]), tape_of(model, x[4:], y[4:])]


@pytest.mark.full
@pytest.mark.parametrize("half", [False, True], ids=["float32", "mixed_float16"])
@pytest.mark.parametrize(
    ("criterion", "moment"), [(kgp.Taylor(2), 1), (kgp.Taylor(2, squared=True), 2)]
)
def test_mirrored_classifier(reads, criterion, moment, half):
    dtype = "mixed_float16" if half else None
    alone = nets.classifier(dtype)
    x, y = nets.classifier_data(32)
    with nets.both_replicas().scope():
        model = nets.classifier(dtype)
        optimizer = LossScaleOptimizer(SGD(0.0)) if half else SGD(0.0)
        model.compile(optimizer, nets.classifier_loss())
    alone.set_weights(model.get_weights())
    # The mean over replicas of |g|, not |mean over replicas of g|.
    wanted = [g for batch in batches_of(x, y)[1:3] for g in halves(alone, *batch)]
    variables = kernels(alone)
    fit(model, x, prune(3, criterion=criterion), y=y)
    assert reads[0]["batches"] == 2
    assert_close(reads[0]["gradients"], average(wanted, variables, moment), 2e-2 if half else 1e-4)


@pytest.mark.full
def test_mirrored_gradient_loss(reads):
    alone = nets.classifier()
    x, y = nets.classifier_data(32)
    with nets.both_replicas().scope():
        model = classifier(SGD(0.0))
    alone.set_weights(model.get_weights())
    wanted = [g for batch in batches_of(x, y)[1:3] for g in halves(alone, *batch)]
    variables = kernels(alone)
    fit(model, x, prune(3, criterion=kgp.Taylor(2), gradient_loss=plain_mean), y=y)
    assert_close(reads[0]["gradients"], average(wanted, variables))


def plain_mean(model, batch):
    # A loss object of Keras would divide by the number of replicas, which this need not know of.
    x, y = batch
    each = keras.losses.sparse_categorical_crossentropy(y, model(x), from_logits=True)
    return keras.ops.mean(each)


@pytest.mark.full
def test_mirrored_gan_model(reads):
    with nets.both_replicas().scope():
        gan = gan_model()
    fit(gan, nets.images(32), prune(3, "generator", kgp.Taylor(2)))
    assert reads[0]["batches"] == 2
    nets.assert_exact(0.5, gan.generator)


# --- a loss function -----------------------------------------------------------------------------


def classifier_loss(model, batch):
    x, y = batch
    return nets.classifier_loss()(y, model(x))


@cases(
    1,
    "options",
    [{}, {"run_eagerly": True}, {"jit_compile": True}, {"steps_per_execution": 3}],
    ids=["plain", "run_eagerly", "jit_compile", "steps_per_execution"],
)
def test_gradient_loss_of_a_classifier(reads, options):
    model = classifier(SGD(0.0), **options)
    x, y = nets.classifier_data(48)
    wanted = [tape_of(model, *batch) for batch in batches_of(x, y)]
    variables = kernels(model)
    seen = []

    def loss(model, batch):
        seen.append(len(batch))
        return 2.0 * classifier_loss(model, batch)

    fit(model, x, prune(6, criterion=kgp.Gradient(3), gradient_loss=loss), y=y)
    assert set(seen) == {2}
    assert reads[0]["batches"] == 3
    assert_close(reads[0]["gradients"], [2 * g for g in average(wanted[3:], variables)])


@pytest.mark.full
def test_gradient_loss_of_a_foreign_gan(reads):
    gan, x = guide_gan(optimizer=lambda: SGD(0.0)), nets.images(48)
    z = np.random.default_rng(5).normal(size=(BATCH, nets.LATENT)).astype("float32")

    def loss(model, batch):
        fake = model.generator(z)
        return keras.ops.mean(keras.ops.softplus(-model.discriminator(fake) * batch[:, 0, 0, 0]))

    given = []
    for (batch,) in batches_of(x)[2:5]:
        with tf.GradientTape() as tape:
            value = loss(gan, batch)
        found = tape.gradient(value, gan.generator.trainable_variables)
        pairs = zip(found, gan.generator.trainable_variables, strict=True)
        given.append({id(v): np.asarray(g) for g, v in pairs})
    variables = kernels(gan.generator)
    fit(gan, x, prune(5, "generator", kgp.DiscriminatorSaliency(3), gradient_loss=loss))
    assert_close(reads[0]["gradients"], average(given, variables))
    assert_nothing_left(gan)


@pytest.mark.full
def test_small_gradients_of_a_loss_survive_half_precision(reads):
    model = nets.classifier("mixed_float16")
    classifier(LossScaleOptimizer(SGD(0.0)), model)
    x, y = nets.classifier_data(24)
    wanted = [tape_of(model, *batch) for batch in batches_of(x, y)]
    variables = kernels(model)
    loss = lambda model, batch: 1e-6 * classifier_loss(model, batch)  # noqa: E731
    fit(model, x, prune(3, gradient_loss=loss), y=y)
    assert_close([1e6 * g for g in reads[0]["gradients"]], average(wanted, variables), 2e-2)


@pytest.mark.full
def test_a_loss_that_overflows_half_precision_leaves_the_batch_out(reads):
    model = nets.classifier("mixed_float16")
    classifier(LossScaleOptimizer(SGD(0.0), initial_scale=2.0**22), model)
    x, y = nets.classifier_data(8)
    wanted = tape_of(model, x, y)
    variables = kernels(model)
    callback = prune(0, criterion=kgp.Gradient(1), gradient_loss=classifier_loss)
    fit(model, x, callback, y=y, epochs=12)
    assert reads[0]["batches"] > 1
    assert_close(reads[0]["gradients"], average([wanted], variables), 2e-2)


@pytest.mark.parametrize("value", [3.0, "mse", ["mse"]])
def test_gradient_loss_must_be_a_function(value):
    with pytest.raises(InvalidArgumentError, match="`gradient_loss` must be a function"):
        kgp.Prune(0.5, criterion="taylor", gradient_loss=value)


def test_gradient_loss_must_return_a_scalar():
    model = classifier()
    x, y = nets.classifier_data(16)
    callback = prune(2, gradient_loss=lambda model, batch: model(batch[0]))
    with pytest.raises(InvalidArgumentError, match=r"must return a scalar. Received .*\(8, 3\)"):
        fit(model, x, callback, y=y)
    assert_nothing_left(model)


def test_gradient_loss_that_does_not_depend_on_the_weights():
    model = classifier()
    x, y = nets.classifier_data(16)
    callback = prune(2, gradient_loss=lambda model, batch: keras.ops.mean(batch[0]))
    with pytest.raises(UnsupportedLayerError, match=r"gradient loss does not depend on .*kernel"):
        fit(model, x, callback, y=y)
    assert_nothing_left(model)


# --- only the sampled batches --------------------------------------------------------------------


def assert_nothing_left(model):
    """Assert that no hook stayed, and that optimizers can be copied."""
    assert "train_step" not in vars(model)
    assert "__self__" not in dir(model.train_function), "the stand-in is still there"
    for name in ("optimizer", "generator_optimizer", "discriminator_optimizer"):
        optimizer = getattr(model, name, None)
        if optimizer is not None:
            inner = getattr(optimizer, "inner_optimizer", optimizer)
            assert "apply" not in vars(optimizer)
            assert "apply" not in vars(inner)
            assert copy.deepcopy(optimizer) is not optimizer


class Functions(keras.callbacks.Callback):
    """Notes, before each batch and after it, which train function the model has."""

    def __init__(self):
        super().__init__()
        self.before, self.after = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.before.append(self.model.train_function)

    def on_train_batch_end(self, batch, logs=None):
        self.after.append(self.model.train_function)


def test_unsampled_batches_run_the_very_function_that_ran_without():
    gan, x = guide_gan(), nets.images(64)
    seen = Functions()
    with_two = kgp.Prune(kgp.Linear(0.5, 3, 7), "generator", 4, criterion=kgp.Taylor(2), verbose=0)
    fit(gan, x, with_two, seen)
    plain = gan.train_function
    assert all(function is plain for function in seen.after)
    assert [function is plain for function in seen.before] == [
        *(True, False, False, True, True, False, False, True)
    ]
    # One trace of each.
    assert gan.traces == 2
    assert_nothing_left(gan)


@pytest.mark.full
def test_at_most_two_traces_for_each_shape_of_batch():
    gan, x = guide_gan(), nets.images(60)  # seven batches of 8, one of 4
    fit(gan, x)
    alone = gan.traces
    gan = guide_gan()
    callback = kgp.Prune(kgp.Linear(0.5, 3, 30), "generator", 3, criterion=kgp.Taylor(2), verbose=0)
    fit(gan, x, callback, epochs=4)
    assert len(callback.updates) == 10
    assert gan.traces <= 2 * alone


@pytest.mark.full
def test_the_next_fit_uses_both_functions_again():
    gan, x = guide_gan(), nets.images(32)
    schedule = kgp.ConstantSparsity(0.5, 3)
    make = lambda: kgp.Prune(  # noqa: E731
        schedule, "generator", 4, criterion=kgp.Taylor(1), verbose=0
    )
    callback, seen = make(), Functions()
    fit(gan, x, callback, seen)
    plain, traces = gan.train_function, gan.traces
    assert traces == 2
    fit(gan, x, callback, seen)
    assert gan.train_function is plain
    assert gan.traces == traces
    assert [step for step, *_ in callback.updates] == [3, 7]
    # A fit without the callback, and one with another: only what that samples is traced.
    fit(gan, x, seen)
    assert (gan.train_function is plain, gan.traces) == (True, traces)
    fit(gan, x, make(), seen)
    assert (gan.train_function is plain, gan.traces) == (True, traces + 1)
    assert all(function is plain for function in seen.after)


@pytest.mark.full
def test_functions_of_forgotten_callbacks_are_forgotten():
    gan, x = guide_gan(), nets.images(32)
    for begin in (2, 6, 10):
        fit(gan, x, prune(begin, "generator", kgp.Taylor(1)))
        gc.collect()
    assert len(gan._gradient_tap.functions) == 1


@pytest.mark.full
def test_compiling_anew_between_two_fits(reads):
    model = classifier()
    x, y = nets.classifier_data(32)
    callback = kgp.Prune(
        kgp.ConstantSparsity(0.5, 2), None, 2, criterion=kgp.Gradient(1), verbose=0
    )
    fit(model, x, callback, y=y)
    model.compile(SGD(0.0), nets.classifier_loss())
    wanted = tape_of(model, x[8:16], y[8:16])
    variables = kernels(model)
    read = len(reads)
    model.compile(SGD(0.0), nets.classifier_loss())
    again = kgp.Prune(kgp.ConstantSparsity(0.6, 2), None, 2, criterion=kgp.Gradient(1), verbose=0)
    fit(model, x, again, y=y)
    assert_close(reads[read]["gradients"], average([wanted], variables))


def test_sampling_changes_nothing_about_the_training():
    """The weights after a run with a criterion that samples are those of a run with one that does not."""
    weights = []
    for criterion in ("magnitude", kgp.Gradient(3)):
        keras.utils.set_random_seed(7)
        gan = gan_model(nets.dcgan_pair(), lambda: Adam(1e-3))
        callback = kgp.Prune(kgp.OneShot(0.0, step=4), "generator", criterion=criterion, verbose=0)
        fit(gan, nets.images(48), callback)
        weights.append(gan.get_weights())
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


# --- what cannot be sampled ----------------------------------------------------------------------


class Decorated(nets.GuideGAN):
    @tf.function
    def train_step(self, data):
        return nets.GuideGAN.train_step(self, data)


class DecoratedInside(nets.GuideGAN):
    """Calls a compiled function of its own, which is traced with the batch that comes first."""

    @tf.function
    def inside(self, data):
        return nets.GuideGAN.train_step(self, data)

    def train_step(self, data):
        return self.inside(data)


def test_a_decorated_train_step_is_refused_before_training():
    gan = guide_gan(Decorated)
    with pytest.raises(UnsupportedLayerError, match=r"Decorated.train_step` is decorated with"):
        fit(gan, nets.images(16), prune(2, "generator"))
    assert int(gan.g_optimizer.iterations) == 0


@pytest.mark.full
def test_a_decorated_train_step_and_a_gradient_loss_go_together(reads):
    gan = guide_gan(Decorated)
    loss = lambda model, batch: keras.ops.mean(model.discriminator(model.generator(z)))  # noqa: E731
    z = np.ones((2, nets.LATENT), "float32")
    fit(gan, nets.images(32), prune(3, "generator", gradient_loss=loss))
    nets.assert_exact(0.5, gan.generator)


@cases(
    1,
    ("begin", "match"),
    [
        (6, "No gradient reached .* calls a `tf.function` of its own"),
        (1, "calls a `tf.function` of its own, which would sample"),
    ],
    ids=["traced_plain", "traced_sampling"],
)
def test_a_compiled_function_inside_train_step_is_found_out(begin, match):
    gan = guide_gan(DecoratedInside)
    callback = kgp.Prune(
        kgp.ConstantSparsity(0.5, begin), "generator", 4, criterion=kgp.Taylor(1), verbose=0
    )
    with pytest.raises(UnsupportedLayerError, match=match):
        fit(gan, nets.images(64), callback)
    assert_nothing_left(gan)


def test_a_frozen_layer_is_refused_before_training():
    model = nets.classifier()
    model.layers[0].trainable = False
    classifier(network=model)
    x, y = nets.classifier_data()
    name = model.layers[0].name
    with pytest.raises(UnsupportedLayerError, match=f"not trained .*{name}/.*Leave it out of"):
        fit(model, x, prune(2), y=y)
    assert int(model.optimizer.iterations) == 0
    fit(model, x, prune(2, scope=[model.layers[-1]]), y=y)
    nets.assert_exact(0.5, model.layers[-1])


@pytest.mark.full
def test_a_frozen_layer_has_a_gradient_of_a_loss(reads):
    model = nets.classifier()
    model.layers[0].trainable = False
    classifier(network=model)
    x, y = nets.classifier_data()
    with pytest.warns(PruningWarning, match="frozen .* pruned without a chance to recover"):
        fit(model, x, prune(2, gradient_loss=classifier_loss), y=y)
    assert all(np.any(g) for g in reads[0]["gradients"])


class Alternating(nets.GuideGAN):
    """Never trains the discriminator."""

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.discriminator(self.generator(self.noise(8), training=True)))
        weights = self.generator.trainable_weights
        grads = tape.gradient(loss, weights)
        self.g_optimizer.apply_gradients(zip(grads, weights, strict=True))
        return {"loss": loss}


def test_a_network_that_no_optimizer_trains():
    gan = guide_gan(Alternating)
    with pytest.raises(UnsupportedLayerError, match=r"No gradient reached dense.*kernel"):
        fit(gan, nets.images(), prune(2, "discriminator"))
    assert_nothing_left(gan)


# --- gradients that are not finite ---------------------------------------------------------------


def poisoned_loss(model, batch):
    """A loss whose gradient is NaN for a batch of large values; training knows nothing of it."""
    x, y = batch
    bad = keras.ops.where(keras.ops.max(x) > 5.0, np.nan, 1.0)
    return bad * nets.classifier_loss()(y, model(x))


def test_a_gradient_that_is_not_finite_stops_training():
    model = classifier()
    x, y = nets.classifier_data(32)
    x[8] = 6.0
    before = [np.ones(w.shape, bool) for w in model.weights[::2]]
    with pytest.raises(DivergedError, match=r"gradient of '.*kernel'"):
        fit(model, x, prune(3, gradient_loss=poisoned_loss), y=y)
    for mask, weight in zip(before, kgp.masked_weights(model), strict=True):
        np.testing.assert_array_equal(nets.value(weight.mask), mask)
    assert_nothing_left(model)


@pytest.mark.full
def test_a_guarded_run_reads_its_gradients_again(reads):
    model = classifier(SGD(0.0))
    x, y = nets.classifier_data(64)
    x[8] = 6.0
    wanted = [tape_of(model, *batch) for batch in batches_of(x, y)]
    variables = kernels(model)
    callback = prune(3, gradient_loss=poisoned_loss)
    fit(model, x, callback, kgp.NaNGuard(), y=y)
    assert callback.updates == [(7, 0.5, callback.report.achieved)]
    # Due after the third batch, left to the guard, found waiting after the fourth.
    assert_close(reads[-1]["gradients"], average(wanted[4:7], variables))


@pytest.mark.full
@cases(1, "guard_first", [True, False])
def test_a_guarded_run_that_ends_while_an_update_waits(guard_first):
    model = classifier(SGD(0.0))
    x, y = nets.classifier_data(16)
    x[8] = 6.0
    callback = prune(0, criterion=kgp.Gradient(8), gradient_loss=poisoned_loss)
    both = [kgp.NaNGuard(), callback]
    with pytest.warns(PruningWarning, match="Nothing was pruned"):
        fit(model, x, *(both if guard_first else both[::-1]), y=y)
    with pytest.raises(DivergedError, match="gradient of"):
        fit(model, x, prune(0, criterion=kgp.Gradient(8), gradient_loss=poisoned_loss), y=y)


# --- interrupted ---------------------------------------------------------------------------------


class Interrupt(keras.callbacks.Callback):
    """Presses Ctrl-C before or after a batch."""

    def __init__(self, at, before):
        super().__init__()
        self.at, self.before, self.seen = at, before, 0

    def _look(self):
        if self.seen == self.at:
            raise KeyboardInterrupt

    def on_train_batch_begin(self, batch, logs=None):
        self.seen += 1
        if self.before:
            self._look()

    def on_train_batch_end(self, batch, logs=None):
        if not self.before:
            self._look()


class Fails(nets.GuideGAN):
    """Fails in the middle of its step, once."""

    fail = False

    def after_generator_update(self):
        if self.fail:
            self.fail = False
            raise KeyboardInterrupt


@cases(("inside",), "how", ["before", "after", "inside"])
@cases(("same",), "next_fit", ["plain", "same", "other"])
def test_an_interrupted_run_leaves_nothing_behind(reads, how, next_fit):
    gan, x = guide_gan(Fails, lambda: SGD(0.0), run_eagerly=how == "inside"), nets.images(64)
    fit(gan, x[:8])
    callback, first = prune(5, "generator", kgp.Gradient(3)), Functions()

    class FailNow(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.fail = batch == 2

    stop = FailNow() if how == "inside" else Interrupt(3, how == "before")
    with pytest.raises(KeyboardInterrupt):
        fit(gan, x[8:], callback, first, stop)
    plain = first.before[0]  # no sampled batch yet
    done = int(gan.g_optimizer.iterations)
    assert done == {"before": 3, "after": 4, "inside": 4}[how]
    assert "apply" not in vars(gan.g_optimizer)
    gan.noise(3)  # the sequence of the noise need not be that of the run before
    if next_fit == "other":
        callback = prune(done + 3, "generator", kgp.Gradient(3))
    if next_fit == "same":
        callback.schedule = kgp.OneShot(0.5, step=done + 3)
    seen = Functions()
    fit(gan, x[:40], *([] if next_fit == "plain" else [callback]), seen)
    if next_fit == "plain":
        assert all(function is plain for function in seen.before[1:])
        assert not reads
    else:
        assert all(function is gan.train_function for function in seen.after)
        assert reads[0]["batches"] == 3
        assert all(np.isfinite(g).all() for g in reads[0]["gradients"])
        nets.assert_exact(0.5, gan.generator)
    assert_nothing_left(gan)


@pytest.mark.full
def test_data_that_ends_unannounced_inside_a_window(reads):
    model = classifier(SGD(0.0))
    x, y = nets.classifier_data(24)
    wanted = [tape_of(model, *batch) for batch in batches_of(x, y)]
    variables = kernels(model)

    def some():
        yield from batches_of(x, y)

    shapes = (tf.TensorSpec((None, *x.shape[1:])), tf.TensorSpec((None,), tf.int64))
    data = tf.data.Dataset.from_generator(some, output_signature=shapes)
    callback = prune(5, criterion=kgp.Gradient(4))
    model.fit(data, epochs=2, verbose=0, callbacks=[callback])
    # TensorFlow may count a step for the call that finds no data, and then the update is due earlier.
    batches = reads[0]["batches"]
    assert batches in (3, 4)
    assert_close(reads[0]["gradients"], average([*wanted[1:], *wanted[: batches - 2]], variables))
    assert_nothing_left(model)
