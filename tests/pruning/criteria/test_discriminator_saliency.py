"""`DiscriminatorSaliency`: |w dL/dw| of the generator, where L is its loss under the discriminator."""

import functools
import re

import keras
import networks as nets
import numpy as np
import paths
import pytest
import tensorflow as tf
from keras import ops
from keras.optimizers import SGD, Adam

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.gan import _step_tensorflow

BATCH, BATCHES = 8, 5
DUE, WINDOW = 5, 3


# --- the gradients of the criterion against those of a tape --------------------------------------


class Spy(kgp.DiscriminatorSaliency):
    """Notes the weights, gradients and scores of each update."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def score(self, weight, gradient=None):
        scores = super().score(weight, gradient)
        self.seen.append((np.array(weight), np.array(gradient), np.array(scores)))
        return scores


def gan_model(pair=None, make=lambda: SGD(0.0), **kwargs):
    pair = pair or nets.mlp_pair()
    gan = kgp.GANModel(*pair, nets.LATENT, seed=1, balance_frequency=0, **kwargs)
    gan.compile(make(), make())
    return gan


def prune(criterion, target="generator", due=DUE, **kwargs):
    return kgp.Prune(kgp.OneShot(0.5, step=due), target, criterion=criterion, verbose=0, **kwargs)


def fit(gan, callback, x, y=None, epochs=1):
    return gan.fit(
        x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=[callback]
    )


def kernels(network):
    kgp.make_prunable(network)
    return [w.variable for w in kgp.masked_weights(network)]


def generator_loss(loss, fake, real):
    """Return the generator's loss by its formula in the literature."""
    bce = lambda logits, target: ops.mean(  # noqa: E731
        ops.softplus(logits) - target * logits
    )
    if loss == "relativistic":
        return bce(fake - ops.mean(real), 1.0) + bce(real - ops.mean(fake), 0.0)
    return {
        "non_saturating": lambda: bce(fake, 1.0),
        "minimax": lambda: -bce(fake, 0.0),
        "hinge": lambda: -ops.mean(fake),
        "wasserstein": lambda: -ops.mean(fake),
        "least_squares": lambda: 0.5 * ops.mean(ops.square(fake - 1.0)),
    }[loss]()


def tape_gradients(gan, z, x, loss, labels=None):
    """Return the gradient of the loss for each masked weight, both networks in inference mode."""
    extra = [] if labels is None else [tf.constant(labels)]
    variables = [w.value for w in kernels(gan.generator)]
    with tf.GradientTape() as tape:
        fake = gan.generator([z, *extra] if extra else z, training=False)
        judged = gan.discriminator([fake, *extra] if extra else fake, training=False)
        real = gan.discriminator([tf.constant(x), *extra] if extra else x, training=False)
        value = generator_loss(loss, judged, real)
    return [np.asarray(g, "float64") for g in tape.gradient(value, variables)]


def replayed(gan, x, loss, labels=None, window=range(DUE - WINDOW, DUE), jit=False):
    """Return the gradients of the sampled batches; a sampled one draws once more, before the step."""
    twin, found = gan_model(), []  # of the same seed
    # XLA makes other normal numbers of a seed.
    draw = tf.function(lambda: _step_tensorflow._sample(twin, BATCH), jit_compile=jit)
    for batch in range(max(window) + 1):
        part = slice(batch * BATCH, (batch + 1) * BATCH)
        if batch in window:
            own = None if labels is None else labels[part]
            found.append(tape_gradients(gan, draw(), x[part], loss, own))
        draw()  # of the training step
    return found


def assert_scores(spy, gan, gradients, squared=False):
    """Assert that scores are |w| mean |g|, or w^2 mean g^2, and that the mask keeps the largest half."""
    weights = kgp.masked_weights(gan.generator)
    assert len(spy.seen) == len(weights) > 1
    for (value, _, scores), weight, each in zip(
        spy.seen, weights, zip(*gradients, strict=True), strict=True
    ):
        products = [np.abs(value * g) ** (2 if squared else 1) for g in each]
        wanted = np.mean(products, axis=0)
        assert wanted.max() > 0
        np.testing.assert_allclose(scores, wanted, rtol=2e-3, atol=2e-4 * wanted.max())
        kept = nets.kept_oracle(scores.size, 0.5)
        keep = np.zeros(scores.size, bool)
        keep[np.argsort(-scores, axis=None, kind="stable")[:kept]] = True
        np.testing.assert_array_equal(nets.value(weight.mask).reshape(-1), keep)


PAIRS = {
    "mlp": nets.mlp_pair,
    # Batch statistics and spectral norms would change in training mode; dropout would draw.
    "dcgan": lambda: (nets.dcgan_generator(), nets.dcgan_discriminator(spectral=True)),
    "dropout": lambda: nets.mlp_pair(dropout=0.4),
}


@pytest.mark.parametrize(
    ("pair", "loss", "squared"),
    [
        pytest.param("mlp", "non_saturating", False, marks=pytest.mark.full),
        pytest.param("mlp", "minimax", False, marks=pytest.mark.full),
        pytest.param("mlp", "hinge", True, marks=pytest.mark.full),
        pytest.param("mlp", "wasserstein", False, marks=pytest.mark.full),
        pytest.param("mlp", "least_squares", False, marks=pytest.mark.full),
        ("mlp", "relativistic", True),
        pytest.param("dropout", "non_saturating", False, marks=pytest.mark.full),
    ],
)
def test_scores_against_a_tape(pair, loss, squared):
    gan, x = gan_model(PAIRS[pair](), loss=loss), nets.images(BATCH * BATCHES)
    spy = Spy(WINDOW, squared=squared)
    gradients = replayed(gan, x, loss)
    fit(gan, prune(spy), x)
    assert_scores(spy, gan, gradients, squared)


@pytest.mark.parametrize("loss", ["hinge", pytest.param("relativistic", marks=pytest.mark.full)])
@pytest.mark.full
def test_batch_statistics_and_spectral_norms_are_those_of_inference(loss):
    """The first batch is sampled before its step moves them."""
    gan, x = gan_model(PAIRS["dcgan"](), loss=loss), nets.images(2 * BATCH)
    spy = Spy(1)
    gradients = replayed(gan, x, loss, window=range(1))
    callback = prune(spy, due=0)
    fit(gan, callback, x)
    assert [step for step, *_ in callback.updates] == [1]
    assert_scores(spy, gan, gradients)


def test_labels_of_a_conditional_gan():
    gan, x = gan_model(nets.conditional_pair()), nets.images(BATCH * BATCHES)
    y = nets.labels(BATCH * BATCHES)
    spy = Spy(WINDOW)
    gradients = replayed(gan, x, "non_saturating", y)
    other = replayed(gan, x, "non_saturating", np.roll(y, 1, axis=1))
    assert not np.allclose(gradients[0][0], other[0][0], rtol=1e-2)  # labels matter
    fit(gan, prune(spy), x, y)
    assert_scores(spy, gan, gradients)


@pytest.mark.full
def test_label_smoothing_is_of_the_discriminator_alone():
    gan, x = gan_model(loss="non_saturating", label_smoothing=0.2), nets.images(BATCH * BATCHES)
    spy = Spy(WINDOW)
    gradients = replayed(gan, x, "non_saturating")
    fit(gan, prune(spy), x)
    assert_scores(spy, gan, gradients)


@pytest.mark.full
@pytest.mark.parametrize("how", ["run_eagerly", "jit_compile"])
def test_compile_options(how):
    gan, x = gan_model(), nets.images(BATCH * BATCHES)
    gan.compile(SGD(0.0), SGD(0.0), **{how: True})
    spy = Spy(WINDOW)
    gradients = replayed(gan, x, "non_saturating", jit=how == "jit_compile")
    fit(gan, prune(spy), x)
    assert_scores(spy, gan, gradients)


# --- the trained discriminator -------------------------------------------------------------------


@pytest.mark.full
def test_the_discriminator_is_the_one_of_now():
    """The generator stands still, the discriminator learns: the scores follow it."""
    gan, x = gan_model(), nets.images(BATCH * 8)
    before = replayed(gan, x, "non_saturating", window=range(1))
    gan.compile(SGD(0.0), Adam(1e-2))
    gan.fit(x, batch_size=BATCH, epochs=4, shuffle=False, verbose=0)
    gan.compile(SGD(0.0), SGD(0.0))
    state = nets.value(gan.noise_seed.state).copy()
    z = _step_tensorflow._sample(gan, BATCH)
    after = tape_gradients(gan, z, x[:BATCH], "non_saturating")
    gan.noise_seed.state.assign(state)
    spy = Spy(1)
    fit(gan, prune(spy, due=0), x[:BATCH])
    assert_scores(spy, gan, [after])
    masks = [nets.value(w.mask) for w in kgp.masked_weights(gan.generator)]
    # Judged by the untrained one, other weights would have stayed.
    for (value, *_), gradient, mask in zip(spy.seen, before[0], masks, strict=True):
        scores = np.abs(value * gradient).reshape(-1)
        keep = np.argsort(-scores, kind="stable")[: mask.sum()]
        assert 0.3 < np.mean(mask.reshape(-1)[keep]) < 0.95


def masks_by(criterion, pair, **kwargs):
    keras.utils.set_random_seed(5)
    gan = gan_model(pair(), lambda: Adam(1e-2, 0.5), **kwargs)
    fit(gan, prune(criterion, due=16), nets.images(BATCH * 16))
    return [np.array(nets.value(w.mask)) for w in kgp.masked_weights(gan.generator)]


def agreement(one, two):
    return [np.mean(a[b]) for a, b in zip(one, two, strict=True)]


@pytest.mark.full
def test_other_weights_stay_than_by_taylor():
    """Taylor's gradients are those of training: with dropout here, of a loss with regularization."""
    pair = functools.partial(nets.mlp_pair, dropout=0.5)
    by_saliency = masks_by(kgp.DiscriminatorSaliency(4), pair)
    by_taylor = masks_by(kgp.Taylor(4), pair)
    assert all(0.5 < share < 0.97 for share in agreement(by_saliency, by_taylor))


def regular_pair():
    dense = functools.partial(keras.layers.Dense, kernel_regularizer=keras.regularizers.L2(10.0))
    generator = keras.Sequential(
        [
            keras.Input((nets.LATENT,)),
            dense(24, activation="relu"),
            dense(nets.SIZE**2, activation="tanh"),
            keras.layers.Reshape((nets.SIZE, nets.SIZE, 1)),
        ]
    )
    return generator, nets.mlp_discriminator()


@pytest.mark.full
def test_regularization_does_not_count():
    """Its gradient is 20 w, which dominates the scores of `Taylor`."""
    gan, x = gan_model(regular_pair()), nets.images(BATCH * BATCHES)
    assert len(gan.generator.losses) == 2
    spy = Spy(WINDOW)
    gradients = replayed(gan, x, "non_saturating")
    sizes = [np.abs(nets.value(w.variable)) for w in kgp.masked_weights(gan.generator)]
    fit(gan, prune(spy), x)
    assert_scores(spy, gan, gradients)
    for weight, size in zip(kgp.masked_weights(gan.generator), sizes, strict=True):
        mask = nets.value(weight.mask).reshape(-1)
        largest = np.argsort(-size, axis=None, kind="stable")[: mask.sum()]
        assert 0.5 < np.mean(mask[largest]) < 0.97
    # Taylor scores by w * 20 w, which keeps the largest weights.
    twin = gan_model(regular_pair())
    sizes = [np.abs(nets.value(w)) for w in kernels(twin.generator)]
    fit(twin, prune(kgp.Taylor(WINDOW)), x)
    for weight, size in zip(kgp.masked_weights(twin.generator), sizes, strict=True):
        mask = nets.value(weight.mask).reshape(-1)
        largest = np.argsort(-size, axis=None, kind="stable")[: mask.sum()]
        assert np.mean(mask[largest]) > 0.99


@pytest.mark.full
def test_train_score_prune_recover_and_continue():
    gan, x = gan_model(make=lambda: Adam(1e-2, 0.5)), nets.images(BATCH * 8)
    schedule = kgp.Linear(0.8, begin_step=8, end_step=24, initial_sparsity=0.4)
    criterion = kgp.DiscriminatorSaliency(3)
    callback = kgp.Prune(schedule, "generator", 8, criterion=criterion, verbose=0)
    watch = nets.Watch(gan.generator)
    gan.fit(x, batch_size=BATCH, epochs=4, verbose=0, callbacks=[callback, watch])
    assert [(s, r) for s, r, _ in callback.updates] == [(s, schedule(s)) for s in (8, 16, 24)]
    nets.assert_held(watch, 0.8)


# --- other GAN classes ---------------------------------------------------------------------------


def guide_gan(cls=nets.GuideGAN):
    gan = cls()
    gan.compile(d_optimizer=SGD(0.0), g_optimizer=SGD(0.0))
    return gan


def critic_loss(model, batch):
    """Return what a Wasserstein critic makes of samples for fixed noise, seen beside the batch."""
    z = np.random.default_rng(3).normal(size=(BATCH, nets.LATENT)).astype("float32")
    gap = model.discriminator(batch) - model.discriminator(model.generator(z))
    return ops.mean(ops.square(gap))


@pytest.mark.parametrize(
    ("cls", "squared"),
    [
        (nets.GuideGAN, True),
        pytest.param(nets.GuideGAN, False, marks=pytest.mark.full),
        pytest.param(nets.WGAN, True, marks=pytest.mark.full),
        pytest.param(nets.WGAN, False, marks=pytest.mark.full),
    ],
)
@pytest.mark.full
def test_gradient_loss_of_a_foreign_gan(cls, squared):
    gan, x = guide_gan(cls), nets.images(BATCH * BATCHES)
    variables = [w.value for w in kernels(gan.generator)]
    gradients = []
    for batch in range(DUE - WINDOW, DUE):
        with tf.GradientTape() as tape:
            loss = critic_loss(gan, x[batch * BATCH :][:BATCH])
        gradients.append([np.asarray(g) for g in tape.gradient(loss, variables)])
    spy = Spy(WINDOW, squared=squared)
    fit(gan, prune(spy, gradient_loss=critic_loss), x)
    assert_scores(spy, gan, gradients, squared)


@pytest.mark.full
def test_gradient_loss_goes_before_what_the_model_tells():
    gan, x = gan_model(), nets.images(BATCH * BATCHES)
    variables = [w.value for w in kernels(gan.generator)]
    with tf.GradientTape() as tape:
        loss = critic_loss(gan, x[4 * BATCH :])
    gradients = [np.asarray(g) for g in tape.gradient(loss, variables)]
    spy = Spy(1)
    fit(gan, prune(spy, gradient_loss=critic_loss), x)
    assert_scores(spy, gan, [gradients])


class TellingGAN(nets.GuideGAN):
    """A GAN that tells its loss by the name that `GANModel` has for it."""

    def adversarial_loss(self, data):
        return critic_loss(self, data)


@pytest.mark.full
def test_a_foreign_gan_may_tell_its_loss_itself():
    gan, x = guide_gan(TellingGAN), nets.images(BATCH * BATCHES)
    variables = [w.value for w in kernels(gan.generator)]
    with tf.GradientTape() as tape:
        loss = critic_loss(gan, x[4 * BATCH :])
    gradients = [np.asarray(g) for g in tape.gradient(loss, variables)]
    spy = Spy(1)
    fit(gan, prune(spy), x)
    assert_scores(spy, gan, [gradients])


# --- refused settings ----------------------------------------------------------------------------

NO_TARGET = (
    r"^DiscriminatorSaliency\(.*\) scores the generator's weights by the discriminator, so the "
    r"discriminator cannot be its target\. Received: .*'discriminator'.*\. Use 'taylor' there\.$"
)


@pytest.mark.parametrize(
    "target",
    ["discriminator", ["generator", "discriminator"], None],
    ids=["named", "both", "the model"],
)
def test_the_discriminator_is_no_target(target):
    gan = gan_model()
    with pytest.raises(InvalidArgumentError, match=NO_TARGET):
        fit(gan, prune("discriminator_saliency", target, due=0), nets.images(BATCH))
    assert kgp.masked_weights(gan.generator, gan.discriminator) == []
    with pytest.raises(InvalidArgumentError, match=NO_TARGET):
        fit(gan, prune("discriminator_saliency", gan.discriminator), nets.images(BATCH))


def test_in_a_mix_the_discriminator_is_no_target_either():
    mix = kgp.Hybrid({"magnitude": 1.0, "discriminator_saliency": 1.0})
    with pytest.raises(InvalidArgumentError, match=r"(?s)^Hybrid\(.*cannot be its target"):
        fit(gan_model(), prune(mix, "discriminator"), nets.images(BATCH))


@pytest.mark.parametrize("mixed", [False, True])
def test_a_model_that_does_not_tell_its_loss(mixed):
    criterion = kgp.DiscriminatorSaliency()
    if mixed:
        criterion = kgp.Hybrid({"magnitude": 1.0, criterion: 1.0})
    match = (
        r"(?s)needs the adversarial loss of the generator, which GuideGAN does not provide\. Pass "
        r"`Prune\(gradient_loss=function\)`, a function \(model, batch\) -> scalar loss, or use `GANModel`"
    )
    gan = guide_gan()
    with pytest.raises(InvalidArgumentError, match=match):
        fit(gan, prune(criterion), nets.images(BATCH))
    assert kgp.masked_weights(gan.generator) == []


def test_a_loss_that_does_not_run_the_generator():
    gan = guide_gan()
    loss = lambda model, batch: ops.mean(model.discriminator(batch))  # noqa: E731
    with pytest.raises(UnsupportedLayerError, match=r"gradient loss does not depend on .*kernel"):
        fit(gan, prune(Spy(1), gradient_loss=loss), nets.images(BATCH * BATCHES))


def test_labels_that_a_batch_lacks_are_missed_before_training():
    gan = gan_model(nets.conditional_pair())
    with pytest.raises(kgp.PruningError, match="conditional, but the data has no labels"):
        gan.adversarial_loss(nets.images(4))


# --- the page ------------------------------------------------------------------------------------

PAGE = paths.DOCS / "discriminator_saliency.md"


@pytest.mark.full
def test_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "page"}
    for snippet in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL):
        exec(compile(snippet, str(PAGE), "exec"), names)
    out = capsys.readouterr().out
    assert re.findall(r"sparsity (\S+),", out) == ["0.40", "0.60", "0.80"]
    nets.assert_exact(0.8, names["gan"].generator)
