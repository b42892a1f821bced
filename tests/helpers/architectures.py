"""Small networks in the styles users write them, on which structured pruning is tested.

Every entry of ``ARCHITECTURES`` is a function that returns a new, built, uncompiled model. It has the
same layers in the same order as the well-known example of that architecture, with 8 to 32 channels
and images of 8 to 32 pixels. ``APPLICATIONS`` has four networks of ``keras.applications``, which are
slower.

A new model hides errors: its biases and betas are zero, its gammas are one, and its batch statistics
are those of white noise. ``train_briefly`` and ``shake`` change all of these values.

``train_briefly`` is reproducible on the same model. For the same weights and the same dropout,
seed Keras before the model is built as well.
"""

import functools

import keras
import numpy as np
from keras import layers, ops

LATENT = 12
CLASSES = 10
VOCABULARY = 20
LENGTH = 8  # of a text, in tokens

# With the default momentum of 0.99 a few steps would hardly move the statistics.
batch_normalization = functools.partial(layers.BatchNormalization, momentum=0.8)


def embedding(size, width):
    # With the default spread of 0.05, the output would hardly depend on the input.
    return layers.Embedding(
        size, width, embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0)
    )


# Dense networks


def mlp_generator():
    return keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(16),
            layers.LeakyReLU(negative_slope=0.2),
            batch_normalization(),
            layers.Dense(32),
            layers.LeakyReLU(negative_slope=0.2),
            batch_normalization(),
            layers.Dense(8 * 8 * 1, activation="tanh"),
            layers.Reshape((8, 8, 1)),
        ]
    )


def mlp_discriminator():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(32),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Dense(16),
            layers.LeakyReLU(negative_slope=0.2),
            batch_normalization(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


# DCGAN


def _dcgan_generator(scale=True):
    return keras.Sequential(
        [
            keras.Input((LATENT,)),
            # This normalization has a statistic for each of the 4 * 4 * 16 units, not for a channel.
            layers.Dense(4 * 4 * 16, use_bias=False),
            batch_normalization(scale=scale),
            layers.LeakyReLU(),
            layers.Reshape((4, 4, 16)),
            layers.Conv2DTranspose(16, 5, strides=1, padding="same", use_bias=False),
            batch_normalization(scale=scale),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(8, 5, strides=2, padding="same", use_bias=False),
            batch_normalization(scale=scale),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(3, 5, strides=2, padding="same", activation="tanh"),
        ]
    )


def dcgan_generator():
    return _dcgan_generator()


def dcgan_generator_no_scale():
    return _dcgan_generator(scale=False)


def dcgan_generator_reshape_first():
    return keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(4 * 4 * 16),
            layers.Reshape((4, 4, 16)),
            batch_normalization(),
            layers.ReLU(),
            layers.Conv2DTranspose(16, 4, strides=2, padding="same"),
            batch_normalization(),
            layers.ReLU(),
            layers.Conv2DTranspose(8, 4, strides=2, padding="same"),
            batch_normalization(),
            layers.ReLU(),
            layers.Conv2D(3, 5, padding="same", activation="tanh"),
        ]
    )


def dcgan_discriminator():
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(8, 5, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Dropout(0.3),
            layers.Conv2D(16, 5, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )


def acgan_discriminator():
    """A discriminator with two outputs: real or fake, and the class."""
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same")(image)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Dropout(0.3)(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same")(x)
    x = batch_normalization()(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    features = layers.Flatten()(x)
    validity = layers.Dense(1, activation="sigmoid")(features)
    label = layers.Dense(CLASSES, activation="softmax")(features)
    return keras.Model(image, [validity, label])


# SNGAN


def _upsampling_residual_block(x, filters):
    shortcut = layers.UpSampling2D()(x)
    shortcut = layers.Conv2D(filters, 1)(shortcut)
    x = batch_normalization()(x)
    x = layers.ReLU()(x)
    x = layers.UpSampling2D()(x)
    x = layers.Conv2D(filters, 3, padding="same")(x)
    x = batch_normalization()(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(filters, 3, padding="same")(x)
    return layers.Add()([x, shortcut])


def sngan_generator():
    noise = keras.Input((LATENT,))
    x = layers.Dense(4 * 4 * 24)(noise)
    x = layers.Reshape((4, 4, 24))(x)
    x = _upsampling_residual_block(x, 16)
    x = _upsampling_residual_block(x, 8)
    x = batch_normalization()(x)
    x = layers.ReLU()(x)
    image = layers.Conv2D(3, 3, padding="same", activation="tanh")(x)
    return keras.Model(noise, image)


def _sn_conv(filters, kernel_size, **options):
    convolution = layers.Conv2D(filters, kernel_size, padding="same", **options)
    return layers.SpectralNormalization(convolution)


def _downsampling_residual_block(x, filters, activate_first=True):
    shortcut = _sn_conv(filters, 1)(x)
    shortcut = layers.AveragePooling2D(2)(shortcut)
    if activate_first:
        x = layers.ReLU()(x)
    x = _sn_conv(filters, 3)(x)
    x = layers.ReLU()(x)
    x = _sn_conv(filters, 3)(x)
    x = layers.AveragePooling2D(2)(x)
    return layers.Add()([x, shortcut])


def sngan_discriminator():
    image = keras.Input((16, 16, 3))
    x = _downsampling_residual_block(image, 8, activate_first=False)
    x = _downsampling_residual_block(x, 16)
    x = layers.ReLU()(x)
    x = ops.sum(x, axis=(1, 2))
    validity = layers.SpectralNormalization(layers.Dense(1))(x)
    return keras.Model(image, validity)


def sn_transposed_generator():
    return keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.SpectralNormalization(layers.Dense(4 * 4 * 16)),
            layers.Reshape((4, 4, 16)),
            layers.SpectralNormalization(
                layers.Conv2DTranspose(16, 4, strides=2, padding="same"), power_iterations=2
            ),
            batch_normalization(),
            layers.ReLU(),
            layers.SpectralNormalization(
                layers.Conv2DTranspose(8, 4, strides=2, padding="same", use_bias=False)
            ),
            batch_normalization(),
            layers.ReLU(),
            layers.Conv2D(3, 3, padding="same", activation="tanh"),
        ]
    )


# WGAN-GP


def _upsample_block(x, filters, activation):
    x = layers.UpSampling2D((2, 2))(x)
    x = layers.Conv2D(filters, (3, 3), padding="same", use_bias=False)(x)
    x = batch_normalization()(x)
    return activation(x)


def wgan_gp_generator():
    noise = keras.Input((LATENT,))
    x = layers.Dense(4 * 4 * 24, use_bias=False)(noise)
    x = batch_normalization()(x)
    x = layers.LeakyReLU(0.2)(x)
    x = layers.Reshape((4, 4, 24))(x)
    x = _upsample_block(x, 16, layers.LeakyReLU(0.2))
    x = _upsample_block(x, 8, layers.LeakyReLU(0.2))
    x = _upsample_block(x, 1, layers.Activation("tanh"))
    image = layers.Cropping2D((2, 2))(x)  # 32 to 28 pixels
    return keras.Model(noise, image)


def wgan_gp_critic():
    image = keras.Input((28, 28, 1))
    x = layers.ZeroPadding2D((2, 2))(image)
    x = layers.Conv2D(8, (5, 5), strides=2, padding="same")(x)
    x = layers.LeakyReLU(0.2)(x)
    x = layers.Conv2D(16, (5, 5), strides=2, padding="same")(x)
    x = layers.LeakyReLU(0.2)(x)
    x = layers.Dropout(0.3)(x)
    x = layers.ZeroPadding2D((1, 1))(x)
    x = layers.Conv2D(24, (5, 5), strides=2)(x)
    x = layers.LeakyReLU(0.2)(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(image, layers.Dense(1)(x))


def wgan_gp_critic_layernorm():
    image = keras.Input((16, 16, 3))
    x = image
    for filters in (8, 16, 24):
        x = layers.Conv2D(filters, 4, strides=2, padding="same")(x)
        x = layers.LayerNormalization()(x)
        x = layers.LeakyReLU(0.2)(x)
    x = layers.Flatten()(x)
    return keras.Model(image, layers.Dense(1)(x))


# Conditional GANs


def _label_input():
    return keras.Input((1,), dtype="int32", name="label")


def cgan_concat_generator():
    noise = keras.Input((LATENT,), name="noise")
    label = _label_input()
    one_hot = layers.Flatten()(ops.one_hot(label, CLASSES))
    x = layers.Concatenate()([noise, one_hot])
    x = layers.Dense(4 * 4 * 16)(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Reshape((4, 4, 16))(x)
    x = layers.Conv2DTranspose(16, 4, strides=2, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Conv2DTranspose(8, 4, strides=2, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    image = layers.Conv2D(3, 7, padding="same", activation="tanh")(x)
    return keras.Model([noise, label], image)


def cgan_concat_discriminator():
    image = keras.Input((16, 16, 3), name="image")
    label = _label_input()
    plane = embedding(CLASSES, 8)(label)
    plane = layers.Dense(16 * 16)(plane)
    plane = layers.Reshape((16, 16, 1))(plane)
    x = layers.Concatenate()([image, plane])
    x = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.4)(x)
    return keras.Model([image, label], layers.Dense(1, activation="sigmoid")(x))


def cgan_multiply_generator():
    noise = keras.Input((LATENT,), name="noise")
    label = _label_input()
    label_features = layers.Flatten()(embedding(CLASSES, LATENT)(label))
    x = layers.multiply([noise, label_features])
    x = layers.Dense(4 * 4 * 16, activation="relu")(x)
    x = layers.Reshape((4, 4, 16))(x)
    x = batch_normalization()(x)
    x = layers.UpSampling2D()(x)
    x = layers.Conv2D(16, 3, padding="same")(x)
    x = layers.Activation("relu")(x)
    x = batch_normalization()(x)
    x = layers.UpSampling2D()(x)
    x = layers.Conv2D(8, 3, padding="same")(x)
    x = layers.Activation("relu")(x)
    x = batch_normalization()(x)
    x = layers.Conv2D(3, 3, padding="same")(x)
    return keras.Model([noise, label], layers.Activation("tanh")(x))


def cgan_projection():
    """A generator whose label embedding is as wide as the hidden layer it multiplies."""
    noise = keras.Input((LATENT,), name="noise")
    label = _label_input()
    hidden = layers.Dense(24)(noise)
    hidden = layers.LeakyReLU(negative_slope=0.2)(hidden)
    label_features = layers.Flatten()(embedding(CLASSES, 24)(label))
    x = hidden * label_features
    x = layers.Dense(4 * 4 * 16, activation="relu")(x)
    x = layers.Reshape((4, 4, 16))(x)
    x = layers.Conv2DTranspose(8, 4, strides=2, padding="same", activation="relu")(x)
    image = layers.Conv2D(3, 3, padding="same", activation="tanh")(x)
    return keras.Model([noise, label], image)


# Image to image


def unet_pix2pix():
    image = keras.Input((32, 32, 3))
    x = image
    skips = []
    for level, filters in enumerate((8, 16, 24, 32)):
        x = layers.Conv2D(filters, 4, strides=2, padding="same", use_bias=False)(x)
        if level > 0:
            x = batch_normalization()(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
        skips.append(x)
    for level, (filters, skip) in enumerate(zip((24, 16, 8), reversed(skips[:-1]), strict=True)):
        x = layers.Conv2DTranspose(filters, 4, strides=2, padding="same", use_bias=False)(x)
        x = batch_normalization()(x)
        if level == 0:
            x = layers.Dropout(0.5)(x)
        x = layers.ReLU()(x)
        x = layers.Concatenate()([x, skip])
    x = layers.Conv2DTranspose(3, 4, strides=2, padding="same", activation="tanh")(x)
    return keras.Model(image, x)


def patchgan_discriminator():
    source = keras.Input((32, 32, 3), name="source")
    target = keras.Input((32, 32, 3), name="target")
    x = layers.concatenate([source, target])
    x = layers.Conv2D(8, 4, strides=2, padding="same", use_bias=False)(x)
    x = layers.LeakyReLU()(x)
    x = layers.Conv2D(16, 4, strides=2, padding="same", use_bias=False)(x)
    x = batch_normalization()(x)
    x = layers.LeakyReLU()(x)
    x = layers.ZeroPadding2D()(x)
    x = layers.Conv2D(32, 4, strides=1, use_bias=False)(x)
    x = batch_normalization()(x)
    x = layers.LeakyReLU()(x)
    x = layers.ZeroPadding2D()(x)
    return keras.Model([source, target], layers.Conv2D(1, 4, strides=1)(x))


def _instance_normalization():
    return layers.GroupNormalization(groups=-1)


def cyclegan_resnet_generator():
    image = keras.Input((16, 16, 3))
    x = layers.ZeroPadding2D(3)(image)
    x = layers.Conv2D(8, 7, use_bias=False)(x)
    x = _instance_normalization()(x)
    x = layers.Activation("relu")(x)
    for filters in (16, 24):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = _instance_normalization()(x)
        x = layers.Activation("relu")(x)
    for _ in range(2):
        shortcut = x
        x = layers.ZeroPadding2D(1)(x)
        x = layers.Conv2D(24, 3, use_bias=False)(x)
        x = _instance_normalization()(x)
        x = layers.Activation("relu")(x)
        x = layers.ZeroPadding2D(1)(x)
        x = layers.Conv2D(24, 3, use_bias=False)(x)
        x = _instance_normalization()(x)
        x = layers.add([shortcut, x])
    for filters in (16, 8):
        x = layers.Conv2DTranspose(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = _instance_normalization()(x)
        x = layers.Activation("relu")(x)
    x = layers.ZeroPadding2D(3)(x)
    return keras.Model(image, layers.Conv2D(3, 7, activation="tanh")(x))


# Super-resolution


def _srgan_trunk(image):
    x = layers.Conv2D(16, 9, padding="same")(image)
    x = first = layers.PReLU(shared_axes=[1, 2])(x)
    for _ in range(2):
        shortcut = x
        x = layers.Conv2D(16, 3, padding="same")(x)
        x = batch_normalization()(x)
        x = layers.PReLU(shared_axes=[1, 2])(x)
        x = layers.Conv2D(16, 3, padding="same")(x)
        x = batch_normalization()(x)
        x = layers.Add()([shortcut, x])
    x = layers.Conv2D(16, 3, padding="same")(x)
    x = batch_normalization()(x)
    return layers.Add()([first, x])


def _pixel_shuffle(x, scale=2):
    _, height, width, channels = x.shape
    depth = channels // scale**2
    x = ops.reshape(x, (-1, height, width, scale, scale, depth))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height * scale, width * scale, depth))


def srgan_generator():
    image = keras.Input((8, 8, 3))
    x = _srgan_trunk(image)
    x = layers.Conv2D(32, 3, padding="same")(x)
    x = _pixel_shuffle(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    return keras.Model(image, layers.Conv2D(3, 9, padding="same", activation="tanh")(x))


def srgan_generator_upsampling():
    image = keras.Input((8, 8, 3))
    x = _srgan_trunk(image)
    x = layers.UpSampling2D(size=2)(x)
    x = layers.Conv2D(24, 3, padding="same")(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    return keras.Model(image, layers.Conv2D(3, 9, padding="same", activation="tanh")(x))


# StyleGAN


@keras.saving.register_keras_serializable("tests")
class AdaIN(layers.Layer):
    """Adaptive instance normalization of ``x`` by a style ``w``: called on ``[x, w]``."""

    def __init__(self, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        x_shape, w_shape = input_shape
        self.to_scale = layers.Dense(x_shape[-1], bias_initializer="ones")
        self.to_shift = layers.Dense(x_shape[-1])
        self.to_scale.build(w_shape)
        self.to_shift.build(w_shape)

    def call(self, inputs):
        x, w = inputs
        mean, variance = ops.moments(x, axes=(1, 2), keepdims=True)
        normalized = (x - mean) / ops.sqrt(variance + self.epsilon)
        scale = self.to_scale(w)[:, None, None, :]
        shift = self.to_shift(w)[:, None, None, :]
        return scale * normalized + shift

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


def adain_generator():
    latent = keras.Input((LATENT,))
    w = latent
    for _ in range(2):
        w = layers.Dense(16)(w)
        w = layers.LeakyReLU(negative_slope=0.2)(w)
    x = layers.Dense(4 * 4 * 16)(latent)  # stands for StyleGAN's learned constant
    x = layers.Reshape((4, 4, 16))(x)
    x = AdaIN()([x, w])
    for filters in (16, 8):
        x = layers.UpSampling2D()(x)
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
        x = AdaIN()([x, w])
    return keras.Model(latent, layers.Conv2D(3, 1)(x))


# Subclassed models, each with the shape of its input in ``sample_shape``


@keras.saving.register_keras_serializable("tests")
class ResidualBlock(layers.Layer):
    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv1 = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        self.norm1 = batch_normalization()
        self.conv2 = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        self.norm2 = batch_normalization()

    def call(self, x, training=None):
        y = ops.relu(self.norm1(self.conv1(x), training=training))
        y = self.norm2(self.conv2(y), training=training)
        return ops.relu(x + y)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable("tests")
class SubclassedGenerator(keras.Model):
    def __init__(self, latent_dim=LATENT, width=16, **kwargs):
        super().__init__(**kwargs)
        self.latent_dim = latent_dim
        self.width = width
        self.project = layers.Dense(4 * 4 * width)
        self.reshape = layers.Reshape((4, 4, width))
        self.block = ResidualBlock(width)
        self.upsample = layers.Conv2DTranspose(width // 2, 4, strides=2, padding="same")
        self.norm = batch_normalization()
        self.to_image = layers.Conv2D(3, 3, padding="same", activation="tanh")

    @property
    def sample_shape(self):
        return (self.latent_dim,)

    def call(self, z, training=None):
        x = self.reshape(self.project(z))
        x = self.block(x, training=training)
        x = self.norm(self.upsample(x), training=training)
        return self.to_image(ops.relu(x))

    def get_config(self):
        return {**super().get_config(), "latent_dim": self.latent_dim, "width": self.width}


@keras.saving.register_keras_serializable("tests")
class SubclassedDiscriminator(keras.Model):
    sample_shape = (16, 16, 3)

    def __init__(self, filters=(8, 16), **kwargs):
        super().__init__(**kwargs)
        self.filters = tuple(filters)
        self.convs = [layers.Conv2D(n, 4, strides=2, padding="same") for n in filters]
        self.activation = layers.LeakyReLU(negative_slope=0.2)
        self.dropout = layers.Dropout(0.3)
        self.flatten = layers.Flatten()
        self.head = layers.Dense(1)

    def call(self, x, training=None):
        for conv in self.convs:
            x = self.dropout(self.activation(conv(x)), training=training)
        return self.head(self.flatten(x))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def _built(model):
    model(sample_inputs(model))
    return model


def subclassed_generator():
    return _built(SubclassedGenerator())


def subclassed_discriminator():
    return _built(SubclassedDiscriminator())


# Text


def text_generator():
    return keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            embedding(VOCABULARY, 8),
            layers.GRU(16, return_sequences=True),
            layers.LSTM(12, return_sequences=True),
            layers.Dense(VOCABULARY),
        ]
    )


def text_discriminator():
    return keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            embedding(VOCABULARY, 8),
            layers.Conv1D(16, 3, padding="same", activation="relu"),
            layers.Conv1D(12, 3, activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dropout(0.2),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def transformer_generator():
    tokens = keras.Input((LENGTH,), dtype="int32")
    x = embedding(VOCABULARY, 16)(tokens)
    attention = layers.MultiHeadAttention(num_heads=2, key_dim=8, dropout=0.1)(x, x)
    x = layers.LayerNormalization(epsilon=1e-6)(x + attention)
    feed_forward = layers.Dense(32, activation="relu")(x)
    feed_forward = layers.Dense(16)(feed_forward)
    feed_forward = layers.Dropout(0.1)(feed_forward)
    x = layers.LayerNormalization(epsilon=1e-6)(x + feed_forward)
    return keras.Model(tokens, layers.Dense(VOCABULARY)(x))


# Attention and other branches


def _self_attention(x):
    _, height, width, channels = x.shape
    f = ops.reshape(layers.Conv2D(channels // 4, 1)(x), (-1, height * width, channels // 4))
    g = ops.reshape(layers.Conv2D(channels // 4, 1)(x), (-1, height * width, channels // 4))
    h = ops.reshape(layers.Conv2D(channels // 2, 1)(x), (-1, height * width, channels // 2))
    attention = ops.softmax(ops.matmul(g, ops.transpose(f, (0, 2, 1))), axis=-1)
    o = ops.reshape(ops.matmul(attention, h), (-1, height, width, channels // 2))
    return layers.Add()([x, layers.Conv2D(channels, 1)(o)])


def attention_generator():
    noise = keras.Input((LATENT,))
    x = layers.Dense(4 * 4 * 24)(noise)
    x = layers.Reshape((4, 4, 24))(x)
    x = layers.Conv2DTranspose(16, 4, strides=2, padding="same")(x)
    x = batch_normalization()(x)
    x = layers.ReLU()(x)
    x = _self_attention(x)
    x = layers.Conv2DTranspose(8, 4, strides=2, padding="same")(x)
    x = batch_normalization()(x)
    x = layers.ReLU()(x)
    return keras.Model(noise, layers.Conv2D(3, 3, padding="same", activation="tanh")(x))


def _squeeze_and_excitation(x, keepdims):
    channels = x.shape[-1]
    weight = layers.GlobalAveragePooling2D(keepdims=keepdims)(x)
    if not keepdims:
        weight = layers.Reshape((1, 1, channels))(weight)
    weight = layers.Dense(channels // 2, activation="relu")(weight)
    weight = layers.Dense(channels, activation="sigmoid")(weight)
    return layers.Multiply()([x, weight])


def se_block_classifier():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    x = _squeeze_and_excitation(x, keepdims=True)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(24, 3, padding="same", use_bias=False)(x)
    x = batch_normalization()(x)
    x = layers.ReLU()(x)
    x = _squeeze_and_excitation(x, keepdims=False)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax")(x))


def depthwise_classifier():
    image = keras.Input((16, 16, 3))
    x = layers.SeparableConv2D(8, 3, padding="same")(image)
    x = batch_normalization()(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)(x)
    x = layers.GroupNormalization(groups=4)(x)
    x = layers.ReLU()(x)
    left = layers.Conv2D(16, 3, padding="same", groups=2)(x)
    right = layers.Conv2D(16, 1)(x)
    x = layers.Average()([left, right])
    left = layers.Conv2D(16, 3, padding="same")(x)
    x = layers.Maximum()([left, x])
    left = layers.Conv2D(12, 1)(x)
    right = layers.SeparableConv2D(12, 3, padding="same", depth_multiplier=2)(x)
    x = layers.Subtract()([left, right])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax")(x))


def nested_generator():
    """A nested Sequential, and a nested functional block whose weights are used twice."""
    features = keras.Input((8, 8, 16))
    x = layers.Conv2D(12, 3, padding="same")(features)
    x = batch_normalization()(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(16, 3, padding="same")(x)
    refine = keras.Model(features, layers.Add()([features, x]), name="refine")

    upsample = keras.Sequential(
        [
            layers.UpSampling2D(),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            batch_normalization(),
            layers.LeakyReLU(negative_slope=0.2),
        ],
        name="upsample",
    )

    noise = keras.Input((LATENT,))
    x = layers.Dense(4 * 4 * 16)(noise)
    x = layers.Reshape((4, 4, 16))(x)
    x = upsample(x)
    x = refine(x)
    x = refine(x)
    return keras.Model(noise, layers.Conv2D(3, 3, padding="same", activation="tanh")(x))


def plain_classifier():
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(24, activation="relu"),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


ARCHITECTURES = {
    build.__name__: build
    for build in (
        mlp_generator,
        mlp_discriminator,
        dcgan_generator,
        dcgan_generator_no_scale,
        dcgan_generator_reshape_first,
        dcgan_discriminator,
        acgan_discriminator,
        sngan_generator,
        sngan_discriminator,
        sn_transposed_generator,
        wgan_gp_generator,
        wgan_gp_critic,
        wgan_gp_critic_layernorm,
        cgan_concat_generator,
        cgan_concat_discriminator,
        cgan_multiply_generator,
        cgan_projection,
        unet_pix2pix,
        patchgan_discriminator,
        cyclegan_resnet_generator,
        srgan_generator,
        srgan_generator_upsampling,
        adain_generator,
        subclassed_generator,
        subclassed_discriminator,
        text_generator,
        text_discriminator,
        transformer_generator,
        attention_generator,
        se_block_classifier,
        depthwise_classifier,
        nested_generator,
        plain_classifier,
    )
}


# keras.applications


def _application(constructor, **options):
    return lambda: constructor(weights=None, input_shape=(32, 32, 3), classes=CLASSES, **options)


APPLICATIONS = {
    "mobilenet_v2": _application(keras.applications.MobileNetV2, alpha=0.35),
    "resnet50_v2": _application(keras.applications.ResNet50V2),
    "efficientnet_b0": _application(keras.applications.EfficientNetB0),
    "densenet121": _application(keras.applications.DenseNet121),
}


# Inputs and values


def sample_inputs(model, batch=4, seed=0):
    """Return normal noise, or classes for an integer input: one array, or a list of them."""
    if hasattr(model, "sample_shape"):
        specs = [(model.sample_shape, "float32")]
    else:
        specs = [(tensor.shape[1:], tensor.dtype) for tensor in model.inputs]
    rng = np.random.default_rng(seed)
    arrays = [
        rng.integers(0, CLASSES, (batch, *shape), dtype="int32")
        if "int" in dtype
        else rng.standard_normal((batch, *shape), dtype="float32")
        for shape, dtype in specs
    ]
    return arrays[0] if len(arrays) == 1 else arrays


def _add_noise(variable, rng):
    """Add a fifth of the spread of the values, or a fifth of one where they are all the same."""
    value = ops.convert_to_numpy(variable)
    scale = value.std() or 1.0
    variable.assign(value + 0.2 * scale * rng.standard_normal(value.shape, dtype="float32"))


def train_briefly(model, steps=3, seed=0):
    """Take a few large steps towards random targets; return the model."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        # The steps leave a bias before a batch normalization at zero, and that of a dead unit.
        if np.ptp(ops.convert_to_numpy(variable)) == 0:
            _add_noise(variable, rng)
    outputs = keras.tree.flatten(model(sample_inputs(model, seed=seed)))
    # A few steps take less time than tracing one would.
    model.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=["mse"] * len(outputs),
        run_eagerly=True,
        jit_compile=False,
    )
    for step in range(steps):
        targets = [rng.standard_normal(output.shape, dtype="float32") for output in outputs]
        model.train_on_batch(sample_inputs(model, seed=seed + step), targets)
    return model


def shake(model, seed=0):
    """Move all weights and statistics at random instead of training; return the model.

    The statistics of batch normalizations become those of a batch. Random ones would not fit
    the weights, and the output of a deep network would no longer depend on its input.
    """
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if "variance" in variable.name:  # stays positive
            variable.assign(variable * rng.uniform(0.5, 1.5, variable.shape).astype("float32"))
        elif "float" in variable.dtype:
            _add_noise(variable, rng)
    normalizations = [
        layer for layer in model._flatten_layers() if isinstance(layer, layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in normalizations]
    for layer in normalizations:
        layer.momentum = 0.0
    model(sample_inputs(model, batch=64, seed=seed), training=True)
    for layer, momentum in zip(normalizations, momenta, strict=True):
        layer.momentum = momentum
    return model
