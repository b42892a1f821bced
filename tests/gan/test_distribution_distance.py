"""The maximum mean discrepancy to a teacher: against NumPy, in GANs, and saved with them."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_ganprune as kgp
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, UnbuiltModelError
from keras_ganprune.gan.distribution_distance import discrepancy

SHAPE = (4, 4, 1)


def oracle(x, y):
    x, y = (np.asarray(a, "float64").reshape(len(a), -1) for a in (x, y))

    def distances(a, b):
        return ((a[:, None] - b[None]) ** 2).sum(-1)

    scale = distances(y, y)[~np.eye(len(y), dtype=bool)].mean()

    def kernel(a, b):
        return np.mean([np.exp(-distances(a, b) / (2 * f * f * scale)) for f in (0.5, 1, 2)])

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


def image_network(units=3, shape=SHAPE):
    return keras.Sequential(
        [keras.Input(shape), layers.Flatten(), layers.Dense(units, "tanh", name="features")]
    )


def generator():
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(6, "relu"),
            layers.Dense(16, "tanh"),
            layers.Reshape(SHAPE),
        ]
    )


@pytest.mark.parametrize("sizes", [(5, 5), (6, 3)])
def test_discrepancy(sizes):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(shift, 1, (n, 2, 3)).astype("float32") for shift, n in enumerate(sizes))
    assert float(discrepancy(x, y)) == pytest.approx(oracle(x, y), rel=1e-4)
    assert float(discrepancy(y, y)) == pytest.approx(0, abs=1e-6)
    assert float(discrepancy(y + 100, y)) > 0.5


def test_one_image_and_equal_images_are_finite():
    for batch in (np.zeros((1, 4)), np.ones((5, 4))):
        assert np.isfinite(float(discrepancy(batch.astype("float32"), batch.astype("float32"))))


def test_weight_and_features():
    extractor = image_network()
    extractor.set_weights(
        [np.random.default_rng(0).normal(size=w.shape) for w in extractor.weights]
    )
    measure = kgp.Distillation(output=2.0, distribution=3.0, extractor=extractor)
    images, taught = np.random.default_rng(1).normal(size=(2, 6, *SHAPE)).astype("float32")
    features = [ops.convert_to_numpy(extractor(a)) for a in (images, taught)]
    expected = 2 * np.abs(images - taught).mean() + 3 * oracle(*features)
    assert float(measure(None, images, taught, None)) == pytest.approx(expected, rel=1e-4)
    # A copy: training the network of the user changes nothing.
    extractor.set_weights([np.zeros(w.shape) for w in extractor.weights])
    assert float(measure(None, images, taught, None)) == pytest.approx(expected, rel=1e-4)
    assert not measure.extractor.trainable


def test_round_trip():
    measure = kgp.Distillation(output=0.0, distribution=1.0, extractor=image_network())
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(measure))
    assert (again.output, again.distribution) == (0.0, 1.0)
    assert again.extractor.output_shape == (None, 3)
    assert "extractor=<Model " in repr(measure)
    plain = kgp.Distillation(output=1.0)
    assert plain.get_config() == {"output": 1.0, "features": 0.0, "layers": None}


def test_what_is_refused():
    with pytest.raises(InvalidArgumentError, match="belong together"):
        kgp.Distillation(distribution=1.0)
    with pytest.raises(InvalidArgumentError, match="belong together"):
        kgp.Distillation(extractor=image_network())
    with pytest.raises(ArgumentTypeError, match="`extractor`"):
        kgp.Distillation(distribution=1.0, extractor=3)
    with pytest.raises(UnbuiltModelError, match="`extractor`"):
        kgp.Distillation(distribution=1.0, extractor=keras.Sequential([layers.Dense(2)]))
    with pytest.raises(InvalidArgumentError, match="cannot be made from its config"):
        kgp.Distillation(distribution=1.0, extractor={"class_name": "Nope", "config": {}})
    other = kgp.Distillation(distribution=1.0, extractor=image_network(shape=(5, 5, 1)))
    discriminator = image_network(1)
    with pytest.raises(InvalidArgumentError, match="must take the images"):
        kgp.GANModel(generator(), discriminator, 3, teacher=generator(), distillation=other)


def trained_distance(gan, data, **arguments):
    history = gan.fit(*data, epochs=12, batch_size=32, verbose=0, **arguments).history
    return history["distillation_loss"]


@pytest.mark.full
@pytest.mark.parametrize("kind", ["plain", "conditional", "images"])
def test_gans(kind, tmp_path):
    keras.utils.set_random_seed(0)
    measure = kgp.Distillation(output=0.0, distribution=50.0, extractor=image_network(8))
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (64, *SHAPE)).astype("float32")
    data = (images,)
    if kind == "plain":
        gan = kgp.GANModel(
            generator(), image_network(1), 3, teacher=generator(), distillation=measure
        )
    elif kind == "conditional":

        def made():
            latent, label = keras.Input((3,)), keras.Input((), dtype="int32")
            x = layers.Concatenate()([latent, layers.Embedding(2, 2)(label)])
            x = layers.Reshape(SHAPE)(layers.Dense(16, "tanh")(layers.Dense(6, "relu")(x)))
            return keras.Model([latent, label], x)

        image, label = keras.Input(SHAPE), keras.Input((), dtype="int32")
        x = layers.Concatenate()([layers.Flatten()(image), layers.Embedding(2, 2)(label)])
        judge = keras.Model([image, label], layers.Dense(1)(x))
        gan = kgp.GANModel(made(), judge, 3, conditional=True, teacher=made(), distillation=measure)
        data = (images, np.arange(64) % 2)
    else:

        def made():
            return keras.Sequential(
                [keras.Input(SHAPE), layers.Conv2D(4, 3, padding="same"), layers.Conv2D(1, 1)]
            )

        image, target = keras.Input(SHAPE), keras.Input(SHAPE)
        x = layers.Flatten()(layers.Concatenate()([image, target]))
        judge = keras.Model([image, target], layers.Dense(1)(x))
        gan = kgp.ImageToImageGAN(
            made(), judge, reconstruction=None, teacher=made(), distillation=measure
        )
        data = (images, images[::-1].copy())
    adam = keras.optimizers.Adam
    gan.compile(generator_optimizer=adam(0.01), discriminator_optimizer=adam(1e-6))
    frozen = [np.array(w) for w in gan.distillation.extractor.get_weights()]
    losses = trained_distance(gan, data)
    assert losses[-1] < losses[0]
    gan.save(tmp_path / "gan.keras")
    loaded = kgp.load_model(tmp_path / "gan.keras")
    for each in (gan, loaded):
        for old, new in zip(frozen, each.distillation.extractor.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
