"""Trained models of many kinds with tiny data, for `compress`."""

import keras
import numpy as np
from keras import layers

import keras_ganprune as kgp

RNG = np.random.default_rng(0)
N = 96


def images(n=N, size=8):
    """Return images of one bright square each, in [-1, 1], and the row of the square."""
    x, rows = -np.ones((n, size, size, 1), "float32"), RNG.integers(0, size - 2, n)
    for image, row, column in zip(x, rows, RNG.integers(0, size - 2, n), strict=True):
        image[row : row + 3, column : column + 3] = 1.0
    return x, rows


def generator(conditional=False):
    z = keras.Input((8,))
    label = keras.Input((3,))
    h = layers.Concatenate()([z, label]) if conditional else z
    h = layers.Dense(4 * 4 * 8)(h)
    h = layers.LeakyReLU()(layers.BatchNormalization()(h))
    h = layers.Conv2DTranspose(8, 3, 2, padding="same")(layers.Reshape((4, 4, 8))(h))
    h = layers.Conv2D(1, 3, padding="same", activation="tanh")(layers.LeakyReLU()(h))
    return keras.Model([z, label] if conditional else z, h, name="generator")


def discriminator(conditional=False):
    x = keras.Input((8, 8, 1))
    label = keras.Input((3,))
    h = layers.LeakyReLU()(layers.Conv2D(8, 3, 2, padding="same")(x))
    h = layers.Flatten()(h)
    h = layers.Concatenate()([h, label]) if conditional else h
    return keras.Model([x, label] if conditional else x, layers.Dense(1)(h), name="discriminator")


class WGANGP(keras.Model):
    """WGAN-GP as in Keras's own example: a class of the user's."""

    def __init__(self, discriminator, generator, latent_dim, discriminator_extra_steps=2):
        super().__init__()
        self.discriminator = discriminator
        self.generator = generator
        self.latent_dim = latent_dim
        self.d_steps = discriminator_extra_steps
        self.gp_weight = 10.0
        self.seeds = keras.random.SeedGenerator(1)

    def compile(self, d_optimizer, g_optimizer, d_loss_fn, g_loss_fn):
        super().compile()
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer
        self.d_loss_fn, self.g_loss_fn = d_loss_fn, g_loss_fn

    def penalty(self, n, real, fake):
        import tensorflow as tf

        alpha = keras.random.uniform((n, 1, 1, 1), seed=self.seeds)
        between = real + alpha * (fake - real)
        with tf.GradientTape() as tape:
            tape.watch(between)
            score = self.discriminator(between, training=True)
        slope = tape.gradient(score, [between])[0]
        norm = tf.sqrt(tf.reduce_sum(tf.square(slope), axis=[1, 2, 3]) + 1e-12)
        return tf.reduce_mean((norm - 1.0) ** 2)

    def train_step(self, real):
        import tensorflow as tf

        n = tf.shape(real)[0]
        for _ in range(self.d_steps):
            z = keras.random.normal((n, self.latent_dim), seed=self.seeds)
            with tf.GradientTape() as tape:
                fake = self.generator(z, training=True)
                d_loss = self.d_loss_fn(
                    self.discriminator(real, training=True), self.discriminator(fake, training=True)
                ) + self.gp_weight * self.penalty(n, real, fake)
            weights = self.discriminator.trainable_variables
            self.d_optimizer.apply_gradients(
                zip(tape.gradient(d_loss, weights), weights, strict=True)
            )
        z = keras.random.normal((n, self.latent_dim), seed=self.seeds)
        with tf.GradientTape() as tape:
            g_loss = self.g_loss_fn(self.discriminator(self.generator(z, training=True)))
        weights = self.generator.trainable_variables
        self.g_optimizer.apply_gradients(zip(tape.gradient(g_loss, weights), weights, strict=True))
        return {"d_loss": d_loss, "g_loss": g_loss}


def _adam():
    return keras.optimizers.Adam(3e-3, beta_1=0.5)


def wgan_gp():
    gan = WGANGP(discriminator(), generator(), 8)
    gan.compile(
        _adam(),
        _adam(),
        lambda real, fake: keras.ops.mean(fake) - keras.ops.mean(real),
        lambda fake: -keras.ops.mean(fake),
    )
    return gan, images()[0]


class DCGAN(keras.Model):
    """DCGAN as in Keras's own example: its step calls the networks without `training`."""

    def __init__(self, discriminator, generator, latent_dim):
        super().__init__()
        self.discriminator = discriminator
        self.generator = generator
        self.latent_dim = latent_dim
        self.seed_generator = keras.random.SeedGenerator(1337)
        self.g_metric = keras.metrics.Mean(name="g_loss")

    @property
    def metrics(self):
        return [self.g_metric]

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn

    def made(self, z):
        return self.generator(z)

    def train_step(self, real):
        import tensorflow as tf

        n = tf.shape(real)[0]
        z = keras.random.normal((n, self.latent_dim), seed=self.seed_generator)
        images = keras.ops.concatenate([self.made(z), real], axis=0)
        labels = keras.ops.concatenate([keras.ops.ones((n, 1)), keras.ops.zeros((n, 1))], axis=0)
        with tf.GradientTape() as tape:
            d_loss = self.loss_fn(labels, self.discriminator(images))
        weights = self.discriminator.trainable_weights
        self.d_optimizer.apply_gradients(zip(tape.gradient(d_loss, weights), weights, strict=True))
        z = keras.random.normal((n, self.latent_dim), seed=self.seed_generator)
        with tf.GradientTape() as tape:
            g_loss = self.loss_fn(keras.ops.zeros((n, 1)), self.discriminator(self.made(z)))
        weights = self.generator.trainable_weights
        self.g_optimizer.apply_gradients(zip(tape.gradient(g_loss, weights), weights, strict=True))
        self.g_metric.update_state(g_loss)
        return {"g_loss": self.g_metric.result()}


def dcgan():
    gan = DCGAN(discriminator(), generator(), 8)
    gan.compile(_adam(), _adam(), keras.losses.BinaryCrossentropy(from_logits=True))
    return gan, images()[0]


def gan_with_a_function():
    """Return a GAN that cannot be copied: a function among its attributes holds its generator."""
    gan, x = dcgan()
    network = gan.generator
    object.__setattr__(gan, "made", lambda z: network(z))
    return gan, x


class Followed(DCGAN):
    """A DCGAN that calls a function after each step."""

    def train_step(self, real):
        logs = super().train_step(real)
        self.follow()
        return logs


def gan_with_an_average():
    """Return a GAN whose copy trains, but changes the GAN: a function holds its generator's average."""
    gan = Followed(discriminator(), generator(), 8)
    network, average = gan.generator, keras.models.clone_model(gan.generator)
    average.set_weights(network.get_weights())
    gan.average = average

    def follow():
        for slow, weight in zip(average.weights, network.weights, strict=True):
            slow.assign(0.9 * slow + 0.1 * weight)

    object.__setattr__(gan, "follow", follow)
    gan.compile(_adam(), _adam(), keras.losses.BinaryCrossentropy(from_logits=True))
    return gan, images()[0]


def density(network):
    """Return the share of the kernels that is not zero: a metric that chance does not change."""
    kernels = [w for w in network.get_weights() if w.ndim > 1]
    return {"score": sum(map(np.count_nonzero, kernels)) / sum(w.size for w in kernels)}


def gan_model(ema_decay=0.9):
    gan = kgp.GANModel(generator(), discriminator(), 8, seed=0, ema_decay=ema_decay)
    gan.compile(_adam(), _adam())
    return gan, images()[0]


def conditional_gan():
    gan = kgp.GANModel(generator(True), discriminator(True), 8, seed=0)
    gan.compile(_adam(), _adam())
    x, rows = images()
    return gan, (x, np.eye(3, dtype="float32")[rows // 2])


def image_to_image():
    clean = images()[0]
    noisy = clean + RNG.normal(0, 0.3, size=clean.shape).astype("float32")
    x, y = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    h = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    h = layers.Conv2D(8, 3, padding="same", activation="relu")(h)
    critic = layers.Conv2D(8, 3, 2, activation="relu")(layers.Concatenate()([x, y]))
    gan = kgp.ImageToImageGAN(
        keras.Model(x, layers.Conv2D(1, 3, padding="same")(h)),
        keras.Model([x, y], layers.Conv2D(1, 2)(critic)),
        "least_squares",
        reconstruction=50,
        seed=0,
    )
    gan.compile(_adam(), _adam())
    return gan, (noisy, clean)


def classifier():
    model = keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(24, "relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.1),
            layers.Dense(24, "relu"),
            layers.Dense(3, "softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    x = RNG.normal(size=(N, 16)).astype("float32")
    return model, (x, x[:, :3].argmax(axis=1))


def autoencoder():
    x = images()[0]
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, 2, padding="same", activation="relu"),
            layers.Conv2D(8, 3, 2, padding="same", activation="relu"),
            layers.Conv2DTranspose(8, 3, 2, padding="same", activation="relu"),
            layers.Conv2DTranspose(1, 3, 2, padding="same", activation="tanh"),
        ]
    )
    model.compile("adam", "mse")
    return model, (x, x)


def unet():
    x = keras.Input((8, 8, 1))
    a = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    b = layers.Conv2D(8, 3, 2, padding="same", activation="relu")(a)
    c = layers.UpSampling2D()(layers.Conv2D(8, 3, padding="same", activation="relu")(b))
    d = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.Concatenate()([a, c]))
    model = keras.Model(x, layers.Conv2D(1, 1, activation="sigmoid")(d))
    model.compile("adam", "binary_crossentropy", metrics=[keras.metrics.BinaryIoU(name="iou")])
    clean = images()[0]
    noisy = clean + RNG.normal(size=clean.shape).astype("float32")
    return model, (noisy, (clean > 0).astype("float32"))


def mobilenet():
    model = keras.applications.MobileNetV2((32, 32, 3), 0.35, weights=None, classes=4)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    y = RNG.integers(0, 4, 48)
    return model, (RNG.normal(size=(48, 32, 32, 3)).astype("float32") + y[:, None, None, None], y)


def lstm():
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(12, 8, mask_zero=True),
            layers.LSTM(16),
            layers.Dense(1, "sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    x = RNG.integers(0, 12, (N, 6))
    return model, (x, (x.max(axis=1) > 9).astype("float32")[:, None])


def transformer():
    x = keras.Input((6,), dtype="int32")
    h = layers.Embedding(12, 16)(x)
    h = layers.LayerNormalization()(h + layers.MultiHeadAttention(2, 8)(h, h))
    h = layers.LayerNormalization()(h + layers.Dense(16)(layers.Dense(32, "gelu")(h)))
    model = keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(h)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    tokens = RNG.integers(0, 12, (N, 6))
    return model, (tokens, tokens[:, 0] % 3)


def two_inputs():
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    h = layers.Concatenate()([layers.Dense(12, "relu")(a), layers.Dense(12, "relu")(b)])
    h = layers.Dense(16, "relu")(h)
    outputs = {
        "sum": layers.Dense(1, name="sum")(h),
        "sign": layers.Dense(1, "sigmoid", name="sign")(h),
    }
    model = keras.Model({"a": a, "b": b}, outputs)
    model.compile("adam", {"sum": "mse", "sign": "binary_crossentropy"})
    x = {k: RNG.normal(size=(N, n)).astype("float32") for k, n in (("a", 6), ("b", 4))}
    total = (x["a"].sum(axis=1) + x["b"].sum(axis=1))[:, None]
    return model, (x, {"sum": total, "sign": (total > 0).astype("float32")})


MODELS = {
    "wgan_gp": wgan_gp,
    "conditional_gan": conditional_gan,
    "autoencoder": autoencoder,
    "unet": unet,
    "mobilenet": mobilenet,
    "lstm": lstm,
    "transformer": transformer,
    "two_inputs": two_inputs,
}


def trained(make, epochs=2):
    """Return (model, data) after a short training. Equal calls give equal models."""
    global RNG
    RNG = np.random.default_rng(0)
    keras.utils.set_random_seed(1)
    model, data = make()
    arguments = data if isinstance(data, tuple) else (data,)
    model.fit(*arguments, epochs=epochs, batch_size=16, shuffle=False, verbose=0)
    return model, data


def spread(network):
    """Return a number that says something of a generator's images: a stand-in for their quality."""
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(16, *x.shape[1:])).astype("float32") for x in network.inputs]
    # Keras warns of a list where a network has one input.
    made = network.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
    return float(np.std(made))
