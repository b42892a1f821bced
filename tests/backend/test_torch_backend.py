"""PyTorch: each step of `GANModel` against autograd in float64, GANs that others wrote, no waiting."""

import keras
import pytest

if keras.backend.backend() != "torch":
    pytest.skip("needs KERAS_BACKEND=torch", allow_module_level=True)

import gc
import itertools
import subprocess
import sys
import textwrap

import networks as nets
import numpy as np
import torch
import torch.nn.functional as F
from keras import layers, ops
from keras.optimizers import SGD, Adam, AdamW
from torch.utils._python_dispatch import TorchDispatchMode

import keras_ganprune as kgp
from keras_ganprune.backend import _gradients_torch
from keras_ganprune.gan import _step_torch
from keras_ganprune.layers import mask_store

# The networks are tiny: several threads would only wait for each other.
torch.set_num_threads(1)

LATENT, HIDDEN, PIXELS, CLASSES, BATCH, RATE = 3, 5, 4, 2, 6, 0.1

# What each player minimises, from logits of real and generated samples: (discriminator, generator).
LOSSES = {
    "non_saturating": (
        lambda r, f: F.softplus(-r).mean() + F.softplus(f).mean(),
        lambda r, f: F.softplus(-f).mean(),
    ),
    "minimax": (
        lambda r, f: F.softplus(-r).mean() + F.softplus(f).mean(),
        lambda r, f: -F.softplus(f).mean(),
    ),
    "hinge": (lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean(), lambda r, f: -f.mean()),
    "least_squares": (
        lambda r, f: ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2,
        lambda r, f: ((f - 1) ** 2).mean() / 2,
    ),
    "wasserstein": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "relativistic": (
        lambda r, f: F.softplus(f.mean() - r).mean() + F.softplus(f - r.mean()).mean(),
        lambda r, f: F.softplus(r.mean() - f).mean() + F.softplus(r - f.mean()).mean(),
    ),
}


# --- the same GAN twice --------------------------------------------------------------------------


def weights(rng, *sizes):
    pairs = itertools.pairwise(sizes)
    return [w for a, b in pairs for w in (rng.normal(0, 0.6, (a, b)), rng.normal(0, 0.3, b))]


class Oracle:
    """A GAN of two small networks with tanh inside, in float64 and by nothing but autograd.

    With `spectral` the kernels of the discriminator are divided by their norm in every training pass,
    as Keras does it: the divided kernel is stored, and is what the gradient belongs to.
    """

    def __init__(self, loss="non_saturating", *, gp=0.0, r1=0.0, classes=0, spectral=False):
        rng = np.random.default_rng(7)
        self.loss, self.gp, self.r1 = loss, gp, r1
        self.g = [self.leaf(w) for w in weights(rng, LATENT + classes, HIDDEN, PIXELS)]
        self.d = [self.leaf(w) for w in weights(rng, PIXELS + classes, HIDDEN, 1)]
        self.u = [rng.normal(size=(1, n)) for n in (HIDDEN, 1)] if spectral else []
        self.average = [w.detach().clone() for w in self.g]
        self.real = rng.normal(0.3, 1, (BATCH, PIXELS))
        self.z = rng.normal(0, 1, (BATCH, LATENT))
        self.mix = rng.uniform(0, 1, (BATCH, 1))
        self.labels = np.eye(CLASSES)[np.arange(BATCH) % CLASSES] if classes else None
        self.steps = 0

    @staticmethod
    def leaf(w):
        return torch.tensor(np.asarray(w), dtype=torch.float64, requires_grad=True)

    def run(self, x, w):
        x = torch.as_tensor(x)
        if self.labels is not None:
            x = torch.cat([x, torch.as_tensor(self.labels)], 1)
        return torch.tanh(x @ w[0] + w[1]) @ w[2] + w[3]

    def judge(self, x):
        """Return the logits, and the weights that they were made with."""
        for k in range(len(self.u)):
            kernel, u = self.d[2 * k].detach(), torch.as_tensor(self.u[k])
            v = F.normalize(u @ kernel.T)
            u = F.normalize(v @ kernel)
            self.u[k] = u
            self.d[2 * k] = self.leaf(kernel / (v @ kernel @ u.T))
        return self.run(x, self.d), self.d[:]

    def slope(self, x):
        x = torch.as_tensor(x).detach().requires_grad_()
        logits, used = self.judge(x)
        (found,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        return found, used

    def discriminator_step(self, fake):
        fake = fake.detach()
        (r, used_r), (f, used_f) = self.judge(self.real), self.judge(fake)
        passes = [used_r, used_f]
        loss = LOSSES[self.loss][0](r, f)
        if self.gp:
            real = torch.as_tensor(self.real)
            found, used = self.slope(real + torch.as_tensor(self.mix) * (fake - real))
            norm = torch.sqrt((found**2).sum(1) + 1e-12)
            loss, passes = loss + self.gp * ((norm - 1) ** 2).mean(), [*passes, used]
        if self.r1:
            found, used = self.slope(self.real)
            loss, passes = loss + self.r1 / 2 * (found**2).sum(1).mean(), [*passes, used]
        # A weight that is the same in all passes must count once.
        total = [torch.zeros_like(w) for w in self.d]
        for i in range(len(self.d)):
            for used in {id(p[i]): p[i] for p in passes}.values():
                (slope,) = torch.autograd.grad(loss, used, retain_graph=True, allow_unused=True)
                total[i] += 0 if slope is None else slope
        self.d = [self.leaf((w - RATE * g).detach()) for w, g in zip(self.d, total, strict=True)]
        return loss

    def step(self, d_steps=1, decay=0.99):
        for _ in range(d_steps):
            fake = self.run(self.z, self.g)
            d_loss = self.discriminator_step(fake)
        real = self.judge(self.real)[0] if self.loss == "relativistic" else None
        g_loss = LOSSES[self.loss][1](real, self.judge(fake)[0])
        slopes = torch.autograd.grad(g_loss, self.g)
        before = self.run(fake, self.d).mean()
        self.g = [self.leaf((w - RATE * s).detach()) for w, s in zip(self.g, slopes, strict=True)]
        after = self.run(self.run(self.z, self.g), self.d).mean()
        self.steps += 1
        keep = min(decay, (1 + self.steps) / (10 + self.steps))
        self.average = [
            keep * a + (1 - keep) * w for a, w in zip(self.average, self.g, strict=True)
        ]
        gap = self.run(self.real, self.d).mean() - before
        return {
            "discriminator_loss": d_loss,
            "generator_loss": g_loss,
            "balance_ratio": (after - before) / gap,
        }


def network(inputs, outputs, classes, name, spectral=False):
    wrap = layers.SpectralNormalization if spectral else (lambda layer: layer)
    x = y = keras.Input((inputs,))
    if classes:
        label = keras.Input((classes,))
        x, y = [x, label], layers.Concatenate()([x, label])
    y = wrap(layers.Dense(outputs))(wrap(layers.Dense(HIDDEN, activation="tanh"))(y))
    return keras.Model(x, y, name=name)


def gan_like(oracle, classes=0, optimizer=lambda: SGD(RATE), **kwargs):
    generator = network(LATENT, PIXELS, classes, "generator")
    discriminator = network(PIXELS, 1, classes, "discriminator", bool(oracle.u))
    generator.set_weights([w.detach().numpy() for w in oracle.g])
    for variable, w in zip(discriminator.trainable_weights, oracle.d, strict=True):
        variable.assign(w.detach().numpy())
    wrappers = [w for w in discriminator.layers if isinstance(w, layers.SpectralNormalization)]
    for wrapper, u in zip(wrappers, oracle.u, strict=True):
        wrapper.vector_u.assign(u)
    settings = dict(balance_frequency=1, value_range=None, ema_decay=0.99, seed=0)
    gan = kgp.GANModel(
        generator,
        discriminator,
        LATENT,
        oracle.loss,
        gradient_penalty=oracle.gp,
        r1_penalty=oracle.r1,
        **{**settings, **kwargs},
    )
    gan.compile(optimizer(), optimizer())
    return gan


@pytest.fixture
def fixed(monkeypatch):
    """Make the steps draw what an oracle has drawn."""

    def fix(oracle):
        z, mix = (torch.as_tensor(x, dtype=torch.float32) for x in (oracle.z, oracle.mix))
        monkeypatch.setattr(_step_torch, "_sample", lambda gan, batch: z)
        monkeypatch.setattr(_step_torch, "_mix", lambda gan, real: mix)
        return oracle

    return fix


def assert_close(variables, expected):
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(
            nets.value(variable), value.detach().numpy(), rtol=2e-4, atol=2e-5
        )


def assert_steps(oracle, gan, d_steps=1, rounds=3, logged=True):
    data = [oracle.real.astype("float32")]
    data += [] if oracle.labels is None else [oracle.labels.astype("float32")]
    for _ in range(rounds):
        expected = oracle.step(d_steps)
        gan.reset_metrics()
        logs = gan.train_step(tuple(data) if len(data) > 1 else data[0])
        for key, value in expected.items() if logged else ():
            assert float(logs[key]) == pytest.approx(value.item(), rel=2e-3, abs=1e-5), key
        assert_close(gan.generator.weights, oracle.g)
        assert_close(gan.discriminator.trainable_weights, oracle.d)
        assert_close(gan.ema_generator.weights, oracle.average)
    parameters = [v.value for v in gan.variables]
    assert all(p.grad is None for p in parameters), "the step left gradients behind"


@pytest.mark.parametrize("loss", LOSSES)
def test_step_of_each_loss(fixed, loss):
    oracle = fixed(Oracle(loss))
    assert_steps(oracle, gan_like(oracle))


@pytest.mark.parametrize("gp, r1", [(10.0, 0.0), (0.0, 2.0), (10.0, 2.0)])
def test_gradient_penalties(fixed, gp, r1):
    oracle = fixed(Oracle("wasserstein", gp=gp, r1=r1))
    assert_steps(oracle, gan_like(oracle))


def test_discriminator_steps(fixed):
    oracle = fixed(Oracle("wasserstein", gp=1.0))
    gan = gan_like(oracle, discriminator_steps=3)
    assert_steps(oracle, gan, d_steps=3)
    assert int(gan.discriminator_optimizer.iterations) == 9
    assert int(gan.generator_optimizer.iterations) == 3


@pytest.mark.parametrize("loss", ["hinge", "relativistic"])
def test_conditional(fixed, loss):
    oracle = fixed(Oracle(loss, r1=1.0, classes=CLASSES))
    assert_steps(oracle, gan_like(oracle, CLASSES))


@pytest.mark.parametrize("loss", ["hinge", "relativistic"])
@pytest.mark.parametrize("gp, r1", [(0.0, 0.0), (3.0, 2.0)])
def test_spectral_normalization_writes_the_kernel_in_every_pass(fixed, loss, gp, r1):
    """Several passes lie between a gradient and the kernel that it was taken at."""
    oracle = fixed(Oracle(loss, gp=gp, r1=r1, spectral=True))
    # The oracle measures the balance elsewhere: inference passes do not divide.
    assert_steps(oracle, gan_like(oracle, balance_frequency=0), logged=False)


def test_spectral_normalization_of_a_generator_that_runs_again_and_again():
    wrapped = layers.SpectralNormalization(layers.Dense(PIXELS))
    z = keras.Input((PIXELS,))
    generator = keras.Model(z, wrapped(wrapped(z)))
    gan = kgp.GANModel(generator, network(PIXELS, 1, 0, "d"), PIXELS, seed=0, ema_decay=0.9)
    gan.compile()
    history = gan.fit(np.zeros((8, PIXELS), "float32"), batch_size=4, epochs=2, verbose=0).history
    assert np.isfinite(history["generator_loss"]).all()


@pytest.mark.parametrize("loss", ["hinge", "relativistic"])
def test_saliency_is_the_slope_of_the_adversarial_loss(fixed, loss):
    """Neither player moves, and all draws are the same, so the mean over batches is each of them."""
    oracle = fixed(Oracle(loss))
    gan = gan_like(oracle, optimizer=lambda: SGD(0.0))
    fake, real = (
        oracle.run(oracle.run(oracle.z, oracle.g), oracle.d),
        oracle.run(oracle.real, oracle.d),
    )
    slopes = torch.autograd.grad(LOSSES[loss][1](real, fake), oracle.g)
    found = []

    class Spy(kgp.DiscriminatorSaliency):
        def score(self, weight, gradient=None):
            found.append(np.array(gradient))
            return super().score(weight, gradient)

    callback = kgp.Prune(kgp.OneShot(0.5, step=4), "generator", criterion=Spy(3), verbose=0)
    x = np.tile(oracle.real.astype("float32"), (5, 1))
    gan.fit(x, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[callback])
    for gradient, slope in zip(found, (slopes[0], slopes[2]), strict=True):
        np.testing.assert_allclose(gradient, slope.abs(), rtol=1e-4, atol=1e-6)


def test_a_shared_weight_is_updated_by_each_player(fixed):
    """The generator's gradient is that at the weight which its samples were made with."""
    rng = np.random.default_rng(1)
    shared = layers.Dense(LATENT, use_bias=False)
    z, x = keras.Input((LATENT,)), keras.Input((LATENT,))
    generator = keras.Model(z, ops.tanh(shared(z)))
    discriminator = keras.Model(x, ops.sum(ops.tanh(shared(x)), axis=1, keepdims=True))
    start = rng.normal(0, 0.5, (LATENT, LATENT))
    shared.kernel.assign(start)
    oracle = fixed(Oracle())
    real = rng.normal(0, 1, (BATCH, LATENT))
    gan = kgp.GANModel(generator, discriminator, LATENT, "wasserstein", value_range=None)
    gan.compile(SGD(RATE), SGD(RATE))
    gan.train_step(real.astype("float32"))

    def judge(x, w):
        return torch.tanh(x @ w).sum(1)

    w, at = Oracle.leaf(start), torch.as_tensor(oracle.z)
    fake = torch.tanh(at @ w)
    loss = judge(fake.detach(), w).mean() - judge(torch.as_tensor(real), w).mean()
    (slope,) = torch.autograd.grad(loss, w)
    after = (w - RATE * slope).detach()
    (slope,) = torch.autograd.grad(-judge(fake, after).mean(), w)
    assert_close([shared.kernel], [after - RATE * slope])


def test_weight_regularization():
    generator = keras.Sequential(
        [keras.Input((2,)), layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.5))]
    )
    discriminator = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    discriminator.set_weights([np.zeros((2, 1)), np.zeros(1)])
    kernel = generator.layers[0].kernel
    start = np.array(nets.value(kernel))
    gan = kgp.GANModel(generator, discriminator, 2, "wasserstein", balance_frequency=0)
    gan.compile(SGD(RATE), SGD(0.0))
    logs = gan.train_step(np.zeros((4, 2), "float32"))
    np.testing.assert_allclose(nets.value(kernel), start * (1 - RATE), rtol=1e-5)
    assert float(logs["generator_loss"]) == pytest.approx(0.5 * np.sum(start**2), rel=1e-5)


def test_a_layer_that_is_never_called_does_not_matter():
    """Keras would call the model on the images, to build it."""

    class Generator(nets.SubclassedGenerator):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.idle = layers.Dense(3)

    generator = Generator()
    generator.build((None, nets.LATENT))
    gan = kgp.GANModel(generator, nets.mlp_discriminator(), nets.LATENT)
    gan.compile()
    history = gan.fit(nets.images(8), batch_size=4, verbose=0, validation_data=nets.images(8))
    assert np.isfinite(history.history["val_generator_loss"]).all()


# --- pruned in fit -------------------------------------------------------------------------------


def prune(target="generator", **kwargs):
    schedule = kgp.PolynomialDecay(0.75, begin_step=1, end_step=6)
    return kgp.Prune(schedule, target, frequency=2, verbose=0, **kwargs)


def pruned_fit(gan, *, epochs=3, callbacks=(), **kwargs):
    networks = [gan.generator, gan.discriminator]
    watch = nets.Watch(*networks)
    masks = [prune("generator", **kwargs), prune("discriminator", **kwargs)]
    history = gan.fit(
        nets.images(16),
        batch_size=4,
        epochs=epochs,
        verbose=0,
        callbacks=[*masks, watch, *callbacks],
    ).history
    nets.assert_held(watch, 0.75)
    assert history["generator_sparsity"][-1] == pytest.approx(0.75, abs=0.02)
    assert history["discriminator_sparsity"][-1] == pytest.approx(0.75, abs=0.02)
    return history


OPTIMIZERS = {
    "adam": lambda: Adam(1e-2, 0.5),
    "adamw": lambda: AdamW(1e-2, weight_decay=0.1),
    "use_ema": lambda: Adam(1e-2, use_ema=True, ema_momentum=0.9),
    "overwritten": lambda: Adam(1e-2, use_ema=True, ema_overwrite_frequency=2),
    "accumulated": lambda: SGD(1e-2, momentum=0.9, gradient_accumulation_steps=2),
    "clipped": lambda: Adam(1e-2, global_clipnorm=1.0),
}


def gan_model(pair, optimizer=OPTIMIZERS["adam"], options=None, **kwargs):
    gan = kgp.GANModel(*pair, nets.LATENT, **{"seed": 1, "ema_decay": 0.9, **kwargs})
    gan.compile(optimizer(), optimizer(), **(options or {}))
    return gan


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_zeros_are_exact_with(optimizer):
    gan = gan_model(nets.mlp_pair(), OPTIMIZERS[optimizer])
    pruned_fit(gan)
    nets.assert_exact(0.75, gan.ema_generator)


def test_zeros_are_exact_under_spectral_norm_and_gradient_penalty():
    pair = nets.dcgan_generator(), nets.dcgan_discriminator(spectral=True)
    pruned_fit(gan_model(pair, loss="wasserstein", gradient_penalty=10.0, discriminator_steps=2))


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_zeros_are_exact_in_half_precision(dtype):
    nets.skip_without_half_convolutions(dtype)
    gan = gan_model(nets.dcgan_pair(dtype=dtype), r1_penalty=1.0, gradient_penalty=1.0)
    history = pruned_fit(gan)
    assert all(np.isfinite(v).all() for v in history.values())
    scaled = isinstance(gan.generator_optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (dtype == "mixed_float16")
    assert {str(p.dtype) for p in gan.generator.parameters()} == {"torch.float32"}


def test_a_step_whose_gradients_overflow_is_left_out_and_not_counted():
    gan = gan_model(nets.mlp_pair(dtype="mixed_float16"), balance_frequency=2)
    gan.train_step(nets.images(4))
    gan.generator_optimizer.dynamic_scale.assign(1e38)
    for _ in range(3):
        gan.train_step(nets.images(4))
    assert int(gan.generator_optimizer.iterations) == 1
    assert _step_torch._host.read(gan.generator_optimizer.iterations) == 1


@pytest.mark.parametrize("criterion", ["gradient", "taylor", "discriminator_saliency"])
def test_criteria_that_need_gradients(criterion):
    gan = gan_model(nets.mlp_pair())
    watch = nets.Watch(gan.generator)
    callbacks = [prune(criterion=criterion), watch]
    gan.fit(nets.images(16), batch_size=4, epochs=3, verbose=0, callbacks=callbacks)
    nets.assert_held(watch, 0.75)


def test_regrowth_by_gradients():
    gan = gan_model(nets.mlp_pair())
    callback = prune(mode="rigl")
    gan.fit(nets.images(16), batch_size=4, epochs=3, verbose=0, callbacks=[callback])
    nets.assert_exact(0.75, gan.generator)


@pytest.mark.full
def test_compiled_step():
    """About a minute: PyTorch translates the step to C++."""
    pruned_fit(gan_model(nets.mlp_pair(), options={"jit_compile": True}, balance_frequency=2))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int8"])
def test_masked_values_are_exact(dtype):
    """The kept bits as they are, and plain zeros elsewhere: also for NaN, and with no sign."""
    dtype = getattr(torch, dtype)
    value = torch.tensor([[1.5, -2.0, -0.0], [3.0, -7.0, 5.0]]).to(dtype)
    if dtype.is_floating_point:
        value[0] = torch.tensor([np.nan, -np.inf, -2.0])
    keep = torch.tensor([[False, False, False], [True, False, True]])
    # A view across rows, as a transposed kernel is.
    found, expected = mask_store.masked(value.T, keep.T), torch.zeros_like(value)
    expected[1, 0], expected[1, 2] = 3.0, 5.0
    assert found.dtype == dtype
    assert torch.equal(found.T, expected) and not torch.signbit(found).any()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "bool", "int32"])
def test_arrays_are_copies(dtype):
    variable = keras.Variable(np.array([0, 1, 1]), dtype=dtype, trainable=dtype == "float32")
    array = mask_store.to_numpy(variable)
    assert array.dtype.name == dtype
    variable.assign(np.array([1, 0, 0]))
    assert array.astype(int).tolist() == [0, 1, 1]


# --- gradients of a loss function ----------------------------------------------------------------


def test_gradients_of_a_loss_also_of_frozen_weights():
    layer = layers.Dense(3)
    layer.build((None, 2))
    other = keras.Variable(np.ones(2))
    layer.trainable = False
    x = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")
    with torch.no_grad():
        kernel, bias, none = _gradients_torch.gradients(
            lambda: ops.sum(layer(x)), [layer.kernel, layer.bias, other]
        )
    np.testing.assert_allclose(kernel, np.array([[4.0] * 3, [6.0] * 3]))
    np.testing.assert_allclose(bias, [2.0] * 3)
    assert none is None
    assert not layer.kernel.value.requires_grad and layer.kernel.value.grad is None
    assert _gradients_torch.gradients(lambda: torch.ones(()), [other]) == [None]


def test_a_sparse_gradient_is_made_dense():
    rows = torch.sparse_coo_tensor([[1, 1]], [[1.0, 2.0], [3.0, 4.0]], (3, 2))
    np.testing.assert_array_equal(_gradients_torch.dense(rows), [[0, 0], [4, 6], [0, 0]])


# --- the same run again --------------------------------------------------------------------------


class Stop(keras.callbacks.Callback):
    """Kills the run behind one batch of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.at = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.at and batch == 1:
            raise KeyboardInterrupt


def resumable(**kwargs):
    keras.utils.set_random_seed(3)
    pair = nets.mlp_generator(dropout=0.2), nets.mlp_discriminator(dropout=0.2)
    return gan_model(pair, balance_frequency=3, gradient_penalty=1.0, **kwargs)


def fit_from(gan, first, epochs, *callbacks):
    gan.fit(
        nets.images(16),
        batch_size=4,
        shuffle=False,
        initial_epoch=first,
        epochs=epochs,
        verbose=0,
        callbacks=[prune("generator"), prune("discriminator"), *callbacks],
    )


def assert_same(one, two):
    for a, b in zip(one.variables, two.variables, strict=True):
        np.testing.assert_array_equal(nets.value(a), nets.value(b), err_msg=a.path)
    for name in ("generator_optimizer", "discriminator_optimizer"):
        for a, b in zip(getattr(one, name).variables, getattr(two, name).variables, strict=True):
            np.testing.assert_array_equal(nets.value(a), nets.value(b), err_msg=a.path)


def test_save_load_and_go_on_is_as_if_uninterrupted(tmp_path):
    whole, half = resumable(), resumable()
    fit_from(whole, 0, 3)
    with pytest.warns(kgp.PruningWarning, match="Training ended at step 4"):
        fit_from(half, 0, 1)
    half.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    fit_from(loaded, 1, 3)
    assert_same(loaded, whole)
    nets.assert_exact(0.75, loaded.generator, loaded.discriminator, loaded.ema_generator)


def test_killed_and_restored(tmp_path):
    whole, killed, again = resumable(), resumable(), resumable()
    fit_from(whole, 0, 3)

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with pytest.raises(KeyboardInterrupt):
        fit_from(killed, 0, 3, backup(), Stop(1))
    fit_from(again, 0, 3, backup())
    assert_same(again, whole)


def test_latent_vectors_follow_the_state_of_the_seed():
    gan, other = resumable(), resumable()
    first = [_step_torch._sample(gan, 4) for _ in range(3)]
    assert len({tuple(z.flatten().tolist()) for z in first}) == 3
    assert torch.equal(_step_torch._sample(other, 4), first[0])
    other.noise_seed.state.assign([1, 2])  # somebody else writes it
    assert torch.equal(_step_torch._sample(other, 4), first[2])
    assert nets.value(other.noise_seed.state).tolist() == [1, 3]
    seeds = [gan_model(nets.mlp_pair(), seed=s) for s in range(9)]
    assert len({tuple(_step_torch._sample(gan, 1)[0].tolist()) for gan in seeds}) == 9


def test_what_the_host_knows_goes_with_the_model():
    gan = resumable()
    gan.train_step(nets.images(4))
    known = len(_step_torch._host._known)
    del gan
    gc.collect()
    assert len(_step_torch._host._known) < known


# --- nothing waits for the device ----------------------------------------------------------------


class _Waits(TorchDispatchMode):
    """Counts operations that hand a value to the host."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


class _CountWaits(keras.callbacks.Callback):
    """Counts, for each batch, what the step and the callbacks before this one hand to the host."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_train_begin(self, logs=None):
        step = self.model.train_step

        def counted(data):
            with _Waits() as waits:
                logs = step(data)
            self.rows.append(waits.count)
            return logs

        self.model.train_step = counted


@pytest.mark.parametrize(
    "kwargs", [{}, {"gradient_penalty": 1.0, "discriminator_steps": 2}], ids=["plain", "wgan_gp"]
)
def test_a_pruned_step_waits_for_nothing(kwargs, monkeypatch):
    pair = nets.dcgan_pair()
    gan = gan_model(pair, balance_frequency=2, **kwargs)
    reads, read = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: reads.append(t) or read(t))
    counter = _CountWaits()
    callbacks = [prune("generator"), prune("discriminator"), counter]
    gan.fit(nets.images(32), batch_size=4, epochs=2, verbose=0, callbacks=callbacks)
    assert counter.rows == [0] * 16
    # The count of steps and the seed, once; Keras reads the order of the images in each epoch.
    assert len([t for t in reads if t.numel() <= 2]) == 2


def test_between_updates_no_weight_or_mask_goes_to_the_host(monkeypatch):
    copied = []
    read = mask_store.to_numpy
    for module in list(sys.modules.values()):
        if getattr(module, "to_numpy", None) is read:
            monkeypatch.setattr(module, "to_numpy", lambda v: copied.append(v.shape) or read(v))
    gan = gan_model(nets.dcgan_pair())
    callbacks = [prune("generator"), prune("discriminator")]
    sizes = []

    class Seen(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            copied.clear()

        def on_train_batch_end(self, batch, logs=None):
            sizes.append(max((int(np.prod(shape)) for shape in copied), default=0))

    gan.fit(nets.images(32), batch_size=4, verbose=0, callbacks=[*callbacks, Seen()])
    # Updates are at 1, 3, 5 and 6; at other steps nothing but counts of steps is looked at.
    assert [size > 1 for size in sizes] == [True, False, True, False, True, True, False, False]


# --- GANs that someone else wrote ----------------------------------------------------------------


class GuideGAN(keras.Model):
    """The GAN of Keras's guide `custom_train_step_in_torch`."""

    def __init__(self, discriminator, generator, latent_dim):
        super().__init__()
        self.discriminator = discriminator
        self.generator = generator
        self.latent_dim = latent_dim
        self.d_loss_tracker = keras.metrics.Mean(name="d_loss")
        self.g_loss_tracker = keras.metrics.Mean(name="g_loss")
        self.seed_generator = keras.random.SeedGenerator(1337)
        self.built = True

    @property
    def metrics(self):
        return [self.d_loss_tracker, self.g_loss_tracker]

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer
        self.loss_fn = loss_fn

    def noise(self, batch_size):
        return keras.random.normal((batch_size, self.latent_dim), seed=self.seed_generator)

    def train_step(self, real_images):
        if isinstance(real_images, tuple):
            real_images = real_images[0]
        batch_size = real_images.shape[0]
        generated_images = self.generator(self.noise(batch_size))
        combined_images = torch.concat([generated_images, real_images], axis=0)
        labels = torch.concat([torch.ones((batch_size, 1)), torch.zeros((batch_size, 1))], axis=0)
        labels += 0.05 * keras.random.uniform(labels.shape, seed=self.seed_generator)

        self.zero_grad()
        predictions = self.discriminator(combined_images)
        d_loss = self.loss_fn(labels, predictions)
        d_loss.backward()
        grads = [v.value.grad for v in self.discriminator.trainable_weights]
        with torch.no_grad():
            self.d_optimizer.apply(grads, self.discriminator.trainable_weights)

        misleading_labels = torch.zeros((batch_size, 1))
        self.zero_grad()
        predictions = self.discriminator(self.generator(self.noise(batch_size)))
        g_loss = self.loss_fn(misleading_labels, predictions)
        g_loss.backward()
        grads = [v.value.grad for v in self.generator.trainable_weights]
        with torch.no_grad():
            self.g_optimizer.apply(grads, self.generator.trainable_weights)

        self.d_loss_tracker.update_state(d_loss)
        self.g_loss_tracker.update_state(g_loss)
        return {"d_loss": self.d_loss_tracker.result(), "g_loss": self.g_loss_tracker.result()}


class WGAN(GuideGAN):
    """WGAN-GP in the style of keras.io's example, several critic steps, with a hand-kept average."""

    def __init__(self, *args):
        super().__init__(*args)
        self.ema_generator = keras.models.clone_model(self.generator)
        self.ema_generator.set_weights(self.generator.get_weights())

    def gradient_penalty(self, real, fake):
        alpha = keras.random.uniform((real.shape[0], 1, 1, 1), seed=self.seed_generator)
        interpolated = (real + alpha * (fake - real)).requires_grad_(True)
        pred = self.discriminator(interpolated, training=True)
        (grads,) = torch.autograd.grad(pred.sum(), interpolated, create_graph=True)
        norm = torch.sqrt(torch.sum(grads**2, dim=[1, 2, 3]))
        return torch.mean((norm - 1.0) ** 2)

    def update(self, loss, network, optimizer):
        self.zero_grad()
        loss.backward()
        grads = [v.value.grad for v in network.trainable_weights]
        with torch.no_grad():
            optimizer.apply(grads, network.trainable_weights)

    def train_step(self, real):
        real = real[0] if isinstance(real, tuple) else real
        for _ in range(2):
            fake = self.generator(self.noise(len(real)), training=True).detach()
            scores = self.discriminator(torch.concat([fake, real]), training=True)
            d_loss = scores[: len(real)].mean() - scores[len(real) :].mean()
            d_loss = d_loss + 10.0 * self.gradient_penalty(real, fake)
            self.update(d_loss, self.discriminator, self.d_optimizer)
        fake = self.generator(self.noise(len(real)), training=True)
        g_loss = -self.discriminator(fake, training=False).mean()
        self.update(g_loss, self.generator, self.g_optimizer)
        for average, weight in zip(self.ema_generator.weights, self.generator.weights, strict=True):
            average.assign(0.9 * average + 0.1 * weight)
        return {"d_loss": d_loss, "g_loss": g_loss}


def foreign(cls, optimizer="adam", spectral=False):
    if spectral:
        pair = nets.dcgan_discriminator(spectral=True), nets.dcgan_generator()
    else:
        pair = nets.mlp_discriminator(), nets.mlp_generator()
    gan = cls(*pair, nets.LATENT)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    gan.compile(OPTIMIZERS[optimizer](), OPTIMIZERS[optimizer](), loss)
    return gan


@pytest.mark.parametrize("cls", [GuideGAN, WGAN])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "use_ema"])
def test_foreign_gans(cls, optimizer):
    gan = foreign(cls, optimizer)
    pruned_fit(gan)
    if cls is WGAN:
        nets.assert_exact(0.75, gan.ema_generator)


def test_foreign_gan_with_spectral_normalization():
    pruned_fit(foreign(GuideGAN, spectral=True))


@pytest.mark.parametrize("cls", [GuideGAN, WGAN])
@pytest.mark.parametrize("criterion", ["gradient", "taylor"])
def test_gradients_of_foreign_gans(cls, criterion):
    pruned_fit(foreign(cls), criterion=criterion)


def test_a_gradient_loss_of_a_foreign_gan_leaves_its_own_gradients_alone():
    plain, sampled = foreign(GuideGAN), foreign(GuideGAN)
    sampled.set_weights(plain.get_weights())

    def saliency(model, data):
        z = ops.ones((4, nets.LATENT))
        return -ops.mean(model.discriminator(model.generator(z)))

    for gan, loss in ((plain, None), (sampled, saliency)):
        callback = kgp.Prune(
            0.5, "generator", frequency=100, criterion="taylor", gradient_loss=loss, verbose=0
        )
        gan.fit(nets.images(16), batch_size=4, shuffle=False, verbose=0, callbacks=[callback])
    for a, b in zip(plain.discriminator.weights, sampled.discriminator.weights, strict=True):
        assert a.shape == b.shape
    nets.assert_exact(0.5, sampled.generator)


def test_gradients_that_a_foreign_gan_gives_are_those_that_are_scored():
    """One step of SGD with rate 1 moves a weight by its gradient."""
    gan = foreign(GuideGAN)
    gan.compile(SGD(0.0), SGD(1.0), keras.losses.BinaryCrossentropy(from_logits=True))
    kernel = gan.generator.trainable_weights[0]
    start = np.array(nets.value(kernel))
    scores = {}

    class Spy(kgp.Gradient):
        def score(self, weight, gradient=None):
            scores.setdefault(weight.shape, np.array(gradient))
            return super().score(weight, gradient)

    moved = {}

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            moved.setdefault("kernel", np.array(nets.value(kernel)))

    callback = kgp.Prune(0.5, "generator", frequency=1, criterion=Spy(batches=1), verbose=0)
    data = nets.images(4)
    gan.fit(data, batch_size=4, verbose=0, callbacks=[Look(), callback])
    np.testing.assert_allclose(scores[start.shape], np.abs(start - moved["kernel"]), atol=1e-6)


# --- shrink, profile, no TensorFlow --------------------------------------------------------------


def test_whole_channels_are_cut():
    generator = nets.dcgan_generator(channels=8)
    kgp.Pruner(generator, granularity="channel", criterion="l1").update(sparsity=0.5)
    small = kgp.shrink(generator)
    z = np.random.default_rng(0).normal(size=(4, nets.LATENT)).astype("float32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(small(z)), ops.convert_to_numpy(generator(z)), atol=1e-5
    )
    assert small.count_params() < generator.count_params()
    assert kgp.profile(small).macs < kgp.profile(generator).macs


def test_without_tensorflow(tmp_path):
    """In a process where it cannot be imported; what needs it says so."""
    code = f"""
    import sys

    sys.modules["tensorflow"] = None
    import keras, numpy as np
    import keras_ganprune as kgp
    from keras_ganprune.applications.networks import dcgan

    generator, discriminator = dcgan((8, 8, 1), 6, 4)
    gan = kgp.GANModel(generator, discriminator, 6, seed=0)
    gan.compile()
    images = np.zeros((16, 8, 8, 1), "float32")
    prune = kgp.Prune(0.5, "generator", frequency=1, granularity="channel", verbose=0)
    gan.fit(images, batch_size=4, verbose=0, callbacks=[prune])
    gan.save(r"{tmp_path}/gan.keras")
    gan = keras.saving.load_model(r"{tmp_path}/gan.keras")
    print("sparsity:", kgp.sparsity_report(gan.generator).sparsity)
    shrink = kgp.Shrink(5, sparsity=0.5, verbose=0)
    gan.fit(images, batch_size=4, verbose=0, callbacks=[shrink])
    assert gan.generator.count_params() < generator.count_params()
    small = kgp.shrink(gan.generator, sparsity=0.5)
    print(kgp.compare_models({{"pruned": gan.generator, "small": small}}, repeats=3))
    kgp.strip_pruning(gan.discriminator).save(r"{tmp_path}/d.keras")
    for needs_it in (
        lambda: kgp.export_saved_model(small, r"{tmp_path}/saved"),
        lambda: __import__("keras_ganprune.interop.tfmot").interop.tfmot.convert(small),
    ):
        try:
            needs_it()
        except ImportError as error:
            print("says:", error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = [line for line in done.stdout.splitlines() if line.startswith("says:")]
    assert len(said) == 2, done.stdout
    assert "Writing and reading SavedModels needs TensorFlow" in said[0]
    assert "tf_keras" in said[1]
    assert not (tmp_path / "saved").exists()
