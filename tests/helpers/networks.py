"""Small networks and GANs for the tests, written the way users write them, and the check of zeros.

The foreign classes follow the examples on keras.io and papers' repositories; nothing in them knows
of `keras_ganprune`.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_ganprune import PrunableDense, masked_weights
from keras_ganprune.backend import tracing
from keras_ganprune.layers.tensors import to_numpy as value

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

SIZE = 8
LATENT = 6


def images(n=32, seed=0):
    """Return float32 images (n, SIZE, SIZE, 1) in [-1, 1]."""
    return np.random.default_rng(seed).uniform(-1, 1, (n, SIZE, SIZE, 1)).astype("float32")


def labels(n=32, classes=3):
    return np.eye(classes, dtype="float32")[np.arange(n) % classes]


# --- networks ------------------------------------------------------------------------------------


def dcgan_generator(channels=6, dtype=None, name="generator"):
    z = keras.Input((LATENT,))
    x = layers.Dense(4 * 4 * channels, use_bias=False, dtype=dtype)(z)
    x = layers.BatchNormalization(dtype=dtype)(x)
    x = layers.ReLU(dtype=dtype)(x)
    x = layers.Reshape((4, 4, channels))(x)
    x = layers.Conv2DTranspose(channels, 3, strides=2, padding="same", use_bias=False, dtype=dtype)(
        x
    )
    x = layers.BatchNormalization(dtype=dtype)(x)
    x = layers.LeakyReLU(0.2, dtype=dtype)(x)
    x = layers.Conv2D(1, 3, padding="same", activation="tanh", dtype=dtype)(x)
    return keras.Model(z, x, name=name)


def dcgan_discriminator(channels=6, dtype=None, spectral=False, name="discriminator"):
    wrap = layers.SpectralNormalization if spectral else (lambda layer: layer)
    x = keras.Input((SIZE, SIZE, 1))
    y = wrap(layers.Conv2D(channels, 3, strides=2, padding="same", dtype=dtype))(x)
    y = layers.LeakyReLU(0.2, dtype=dtype)(y)
    y = wrap(layers.Conv2D(channels, 3, strides=2, padding="same", dtype=dtype))(y)
    y = layers.LeakyReLU(0.2, dtype=dtype)(y)
    y = wrap(layers.Dense(1, dtype=dtype))(layers.Flatten()(y))
    return keras.Model(x, y, name=name)


def mlp_generator(dtype=None, dropout=0.0, name="generator"):
    return keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(24, dtype=dtype),
            layers.LeakyReLU(0.2, dtype=dtype),
            layers.Dropout(dropout, seed=3, dtype=dtype),
            layers.Dense(SIZE * SIZE, activation="tanh", dtype=dtype),
            layers.Reshape((SIZE, SIZE, 1), dtype=dtype),
        ],
        name=name,
    )


def mlp_discriminator(dtype=None, dropout=0.0, constraint=None, name="discriminator"):
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            layers.Flatten(dtype=dtype),
            layers.Dense(24, kernel_constraint=constraint, dtype=dtype),
            layers.LeakyReLU(0.2, dtype=dtype),
            layers.Dropout(dropout, seed=4, dtype=dtype),
            layers.Dense(1, kernel_constraint=constraint, dtype=dtype),
        ],
        name=name,
    )


def mlp_pair(**kwargs):
    return mlp_generator(**kwargs), mlp_discriminator(**kwargs)


def dcgan_pair(**kwargs):
    return dcgan_generator(**kwargs), dcgan_discriminator(**kwargs)


def conditional_pair(classes=3):
    z, label = keras.Input((LATENT,)), keras.Input((classes,))
    x = layers.Concatenate()([z, label])
    x = layers.Dense(24, activation="relu")(x)
    x = layers.Reshape((SIZE, SIZE, 1))(layers.Dense(SIZE * SIZE, activation="tanh")(x))
    generator = keras.Model([z, label], x, name="generator")
    image, label = keras.Input((SIZE, SIZE, 1)), keras.Input((classes,))
    y = layers.Concatenate()([layers.Flatten()(image), label])
    y = layers.Dense(1)(layers.LeakyReLU(0.2)(layers.Dense(24)(y)))
    return generator, keras.Model([image, label], y, name="discriminator")


class SubclassedGenerator(keras.Model):
    """A generator in the subclassing style, saveable the way Keras asks for."""

    def __init__(self, units=24, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden = layers.Dense(units, activation="relu")
        self.drop = layers.Dropout(0.2, seed=5)
        self.blocks = [layers.Dense(units, activation="relu") for _ in range(2)]
        self.head = layers.Dense(SIZE * SIZE, activation="tanh")
        self.shape = layers.Reshape((SIZE, SIZE, 1))

    def build(self, input_shape):
        self.hidden.build(input_shape)
        for block in (*self.blocks, self.head):
            block.build((None, self.units))
        self.built = True

    def call(self, z, training=False):
        x = self.drop(self.hidden(z), training=training)
        for block in self.blocks:
            x = block(x)
        return self.shape(self.head(x))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class BuiltByFit(keras.Model):
    """A model whose layers the first `fit` builds."""

    def __init__(self):
        super().__init__()
        self.first, self.last = PrunableDense(8, activation="relu"), PrunableDense(3)

    def call(self, x):
        return self.last(self.first(x))


def unbuilt_pair():
    """Networks without an input shape: they have no weights before the first batch."""
    generator = keras.Sequential(
        [
            layers.Dense(24, activation="relu"),
            layers.Dense(SIZE * SIZE, activation="tanh"),
            layers.Reshape((SIZE, SIZE, 1)),
        ],
        name="generator",
    )
    discriminator = keras.Sequential(
        [layers.Flatten(), layers.Dense(24, activation="relu"), layers.Dense(1)],
        name="discriminator",
    )
    return generator, discriminator


def classifier(dtype=None):
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            layers.Conv2D(4, 3, strides=2, activation="relu", dtype=dtype),
            layers.Flatten(),
            layers.Dense(3, dtype=dtype),
        ]
    )


def classifier_data(n=32):
    return images(n), np.arange(n) % 3


def classifier_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# --- GANs that someone else wrote ----------------------------------------------------------------


class GuideGAN(keras.Model):
    """The GAN of the Keras guide on custom training steps; `traces` counts how often it is traced."""

    def __init__(self, discriminator=None, generator=None, latent_dim=LATENT):
        super().__init__()
        self.discriminator = discriminator or mlp_discriminator()
        self.generator = generator or mlp_generator()
        self.latent_dim = latent_dim
        self.d_loss_metric = keras.metrics.Mean(name="d_loss")
        self.g_loss_metric = keras.metrics.Mean(name="g_loss")
        self.seed_generator = keras.random.SeedGenerator(1337)
        self.traces = 0

    @property
    def metrics(self):
        return [self.d_loss_metric, self.g_loss_metric]

    def compile(self, d_optimizer, g_optimizer, loss_fn=None, **kwargs):
        super().compile(**kwargs)
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer
        self.loss_fn = loss_fn or keras.losses.BinaryCrossentropy(from_logits=True)

    def noise(self, batch):
        return keras.random.normal((batch, self.latent_dim), seed=self.seed_generator)

    def train_step(self, real_images):
        self.traces += 1
        if isinstance(real_images, tuple):
            real_images = real_images[0]
        batch = ops.shape(real_images)[0]
        combined = ops.concatenate([self.generator(self.noise(batch)), real_images], axis=0)
        truth = ops.concatenate([ops.ones((batch, 1)), ops.zeros((batch, 1))], axis=0)
        truth += 0.05 * tf.random.stateless_uniform(tf.shape(truth), (1, 2))
        with tf.GradientTape() as tape:
            d_loss = self.loss_fn(truth, self.discriminator(combined, training=True))
        grads = tape.gradient(d_loss, self.discriminator.trainable_weights)
        self.d_optimizer.apply_gradients(
            zip(grads, self.discriminator.trainable_weights, strict=True)
        )
        with tf.GradientTape() as tape:
            fake = self.generator(self.noise(batch), training=True)
            g_loss = self.loss_fn(ops.zeros((batch, 1)), self.discriminator(fake))
        grads = tape.gradient(g_loss, self.generator.trainable_weights)
        self.g_optimizer.apply_gradients(zip(grads, self.generator.trainable_weights, strict=True))
        self.after_generator_update()
        self.d_loss_metric.update_state(d_loss)
        self.g_loss_metric.update_state(g_loss)
        return {"d_loss": self.d_loss_metric.result(), "g_loss": self.g_loss_metric.result()}

    def after_generator_update(self):
        pass


class EmaGAN(GuideGAN):
    """A hand-kept average of the generator, as in the keras.io GAN with adaptive augmentation."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ema_generator = keras.models.clone_model(self.generator)
        self.ema_generator.set_weights(self.generator.get_weights())

    def after_generator_update(self):
        for weight, average in zip(self.generator.weights, self.ema_generator.weights, strict=True):
            average.assign(0.9 * average + 0.1 * weight)


class DistilledGAN(GuideGAN):
    """Keeps a frozen teacher of the very shapes of the generator."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.teacher = keras.models.clone_model(self.generator)
        self.teacher.trainable = False


class Clip(keras.constraints.Constraint):
    """The weight clipping of WGAN."""

    def __init__(self, value):
        self.value = value

    def __call__(self, w):
        return ops.clip(w, -self.value, self.value)

    def get_config(self):
        return {"value": self.value}


class WGAN(GuideGAN):
    """A critic with clipped weights."""

    def train_step(self, real_images):
        batch = ops.shape(real_images)[0]
        with tf.GradientTape() as tape:
            fake = self.generator(self.noise(batch), training=True)
            d_loss = ops.mean(self.discriminator(fake)) - ops.mean(self.discriminator(real_images))
        grads = tape.gradient(d_loss, self.discriminator.trainable_weights)
        self.d_optimizer.apply(grads, self.discriminator.trainable_weights)
        with tf.GradientTape() as tape:
            g_loss = -ops.mean(self.discriminator(self.generator(self.noise(batch), training=True)))
        grads = tape.gradient(g_loss, self.generator.trainable_weights)
        self.g_optimizer.apply(grads, self.generator.trainable_weights)
        return {"d_loss": d_loss, "g_loss": g_loss}


class WGANGP(GuideGAN):
    """keras.io's WGAN-GP: five critic steps for each generator step."""

    d_steps = 5
    gp_weight = 10.0

    def gradient_penalty(self, batch, real, fake):
        between = real + tf.random.normal([batch, 1, 1, 1]) * (fake - real)
        with tf.GradientTape() as tape:
            tape.watch(between)
            pred = self.discriminator(between, training=True)
        grads = tape.gradient(pred, [between])[0]
        norm = tf.sqrt(tf.reduce_sum(tf.square(grads), axis=[1, 2, 3]))
        return tf.reduce_mean((norm - 1.0) ** 2)

    def train_step(self, real_images):
        batch = tf.shape(real_images)[0]
        for _ in range(self.d_steps):
            with tf.GradientTape() as tape:
                fake = self.generator(self.noise(batch), training=True)
                d_loss = tf.reduce_mean(self.discriminator(fake, training=True))
                d_loss -= tf.reduce_mean(self.discriminator(real_images, training=True))
                d_loss += self.gp_weight * self.gradient_penalty(batch, real_images, fake)
            grads = tape.gradient(d_loss, self.discriminator.trainable_variables)
            self.d_optimizer.apply_gradients(
                zip(grads, self.discriminator.trainable_variables, strict=True)
            )
        with tf.GradientTape() as tape:
            fake = self.generator(self.noise(batch), training=True)
            g_loss = -tf.reduce_mean(self.discriminator(fake, training=True))
        grads = tape.gradient(g_loss, self.generator.trainable_variables)
        self.g_optimizer.apply_gradients(
            zip(grads, self.generator.trainable_variables, strict=True)
        )
        return {"d_loss": d_loss, "g_loss": g_loss}


def translator(name):
    x = keras.Input((SIZE, SIZE, 1))
    y = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    y = layers.Conv2D(4, 3, padding="same", activation="relu")(y)
    return keras.Model(x, layers.Conv2D(1, 3, padding="same", activation="tanh")(y), name=name)


class CycleGAN(keras.Model):
    """keras.io's CycleGAN: four networks, four optimizers, one persistent tape."""

    def __init__(self):
        super().__init__()
        self.gen_G, self.gen_F = translator("gen_G"), translator("gen_F")
        self.disc_X = dcgan_discriminator(name="disc_X")
        self.disc_Y = dcgan_discriminator(name="disc_Y")

    def compile(self, gen_G_optimizer, gen_F_optimizer, disc_X_optimizer, disc_Y_optimizer):
        super().compile()
        self.gen_G_optimizer, self.gen_F_optimizer = gen_G_optimizer, gen_F_optimizer
        self.disc_X_optimizer, self.disc_Y_optimizer = disc_X_optimizer, disc_Y_optimizer

    def train_step(self, batch):
        real_x, real_y = batch
        with tf.GradientTape(persistent=True) as tape:
            fake_y, fake_x = self.gen_G(real_x, training=True), self.gen_F(real_y, training=True)
            cycled_x = self.gen_F(fake_y, training=True)
            cycled_y = self.gen_G(fake_x, training=True)
            judged_x, judged_y = self.disc_X(fake_x), self.disc_Y(fake_y)
            cycle = ops.mean(ops.abs(real_x - cycled_x)) + ops.mean(ops.abs(real_y - cycled_y))
            g_loss = ops.mean((judged_y - 1) ** 2) + 10 * cycle
            f_loss = ops.mean((judged_x - 1) ** 2) + 10 * cycle
            x_loss = ops.mean((self.disc_X(real_x) - 1) ** 2) + ops.mean(judged_x**2)
            y_loss = ops.mean((self.disc_Y(real_y) - 1) ** 2) + ops.mean(judged_y**2)
        for loss, network, optimizer in (
            (g_loss, self.gen_G, self.gen_G_optimizer),
            (f_loss, self.gen_F, self.gen_F_optimizer),
            (x_loss, self.disc_X, self.disc_X_optimizer),
            (y_loss, self.disc_Y, self.disc_Y_optimizer),
        ):
            weights = network.trainable_variables
            grads = tape.gradient(loss, weights)
            optimizer.apply_gradients(zip(grads, weights, strict=True))
        return {"G_loss": g_loss, "F_loss": f_loss, "D_X_loss": x_loss, "D_Y_loss": y_loss}


# --- the check -----------------------------------------------------------------------------------


def skip_without_half_convolutions(policy):
    """Skip where plain Keras cannot train a convolution so: PyTorch on CPUs without half precision."""
    if keras.backend.backend() != "torch" or "float16" not in policy:
        return
    plain = keras.Sequential(
        [keras.Input((4, 4, 6)), layers.Conv2D(1, 3, padding="same", dtype=policy)]
    )
    plain.compile("sgd", "mse")
    try:
        plain.fit(np.ones((2, 4, 4, 6)), np.ones((2, 4, 4, 1)), verbose=0)
    except RuntimeError as error:
        if "slow_conv2d" not in str(error):
            raise
        pytest.skip(f"PyTorch cannot train convolutions in {policy} on this CPU: {error}")


def kept_oracle(size, sparsity):
    """Return how many weights of a tensor stay: max(1, round half to even (n (1 - s)))."""
    return max(1, int(np.round(np.float64(size) * (1.0 - sparsity))))


def replicas(variable):
    """Return the value of a variable on each replica."""
    values = getattr(variable.value, "values", None)  # which a tensor of PyTorch has as a method
    return [np.asarray(v) for v in values] if isinstance(values, tuple) else [value(variable)]


def leaks(*networks):
    """Return the weights that are not zero where their mask prunes: {path: count}."""
    found = {}
    for weight in masked_weights(*networks):
        pruned = ~value(weight.mask)
        for array in replicas(weight.variable):
            count = int(np.count_nonzero(array[pruned]))
            if count:
                found[weight.path] = count
    return found


def nonzeros(*networks):
    """Return {path: (nonzero weights, kept by the mask, size)} for every masked weight."""
    return {
        w.path: (
            int(np.count_nonzero(replicas(w.variable)[0])),
            int(np.count_nonzero(value(w.mask))),
            int(np.prod(w.mask.shape)),
        )
        for w in masked_weights(*networks)
    }


class Watch(keras.callbacks.Callback):
    """Looks at the weights after every batch; stands after `Prune` in the list of callbacks."""

    def __init__(self, *networks):
        super().__init__()
        self.networks = networks
        self.leaks = []
        self.kept = []

    def on_train_batch_end(self, batch, logs=None):
        tracing.sync(self.model)
        if leaks(*self.networks):
            self.leaks.append((batch, leaks(*self.networks)))
        self.kept.append(sum(kept for _, kept, _ in nonzeros(*self.networks).values()))

    def on_epoch_end(self, epoch, logs=None):
        if leaks(*self.networks):
            self.leaks.append((f"epoch {epoch}", leaks(*self.networks)))


def assert_exact(sparsity, *networks):
    """Assert that every masked weight has exactly the nonzeros that a sparsity leaves, now."""
    kernels = {
        w.path for w in masked_weights(*networks) if w.name in w.layer.pruned_weight_names
    }  # a layer may have masks of its bias, too, from whole channels that went before
    table = {path: row for path, row in nonzeros(*networks).items() if path in kernels}
    assert table, "nothing is prunable"
    for path, (nonzero, kept, size) in table.items():
        assert (nonzero, kept) == (kept_oracle(size, sparsity),) * 2, path


def assert_held(watch, sparsity):
    """Assert that no batch end showed a weight under a mask, that zeros only grew, and the end is exact."""
    assert watch.leaks == []
    assert watch.kept, "no batch was seen"
    assert watch.kept == sorted(watch.kept, reverse=True)
    assert_exact(sparsity, *watch.networks)


class Poison(keras.callbacks.Callback):
    """Ruins the generator at one batch."""

    def __init__(self, at):
        super().__init__()
        self.at, self.seen = at, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.at:
            weight = self.model.generator.trainable_weights[-1]
            weight.assign(np.full(weight.shape, np.nan))


def filled(model, seed=0):
    """Give all weights values away from zero, so that a zero is a mask, and nowhere equal."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "float" in weight.dtype:
            size = rng.uniform(0.1, 0.4, weight.shape)
            sign = 1.0 if "variance" in weight.name else rng.choice([-1.0, 1.0], weight.shape)
            weight.assign(size * sign)
    return model


def both_replicas():
    """Return a strategy of the two logical CPUs of conftest.py."""
    devices = tf.config.list_logical_devices("CPU")
    assert len(devices) >= 2, "conftest.py makes two logical CPUs"
    # TensorFlow's collectives do not bear a second strategy on the same devices in one process.
    return tf.distribute.MirroredStrategy(
        [device.name for device in devices[:2]],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
