"""Feature extractors: features, errors, files, training and the cache."""

import zipfile

import keras
import numpy as np
import pytest

from keras_ganprune import datasets
from keras_ganprune.errors import (
    ArgumentTypeError,
    DataError,
    FileFormatError,
    InvalidArgumentError,
    OutputError,
    PruningWarning,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.metrics import (
    FeatureExtractor,
    _shifted_images,
    extractor_training,
    train_extractor,
    train_on_generated,
)


def network(name="net", seed=0):
    layers = keras.layers

    def glorot(n):
        return keras.initializers.GlorotUniform(seed=seed + n)

    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu", kernel_initializer=glorot(1), name="conv"),
            layers.Flatten(),
            layers.Dense(6, kernel_initializer=glorot(2), name="features"),
            layers.Dense(3, kernel_initializer=glorot(3), name="scores"),
        ],
        name=name,
    )


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(-1, 1, (37, 8, 8, 1)).astype("float32")


class Subclassed(keras.Model):
    def __init__(self, outputs=1, **kwargs):
        super().__init__(**kwargs)
        self.flat = keras.layers.Flatten()
        self.dense = keras.layers.Dense(5)
        self.scores = keras.layers.Dense(3)
        self.outputs_wanted = outputs

    def call(self, x):
        features = self.dense(self.flat(x))
        scores = self.scores(features)
        return features if self.outputs_wanted == 1 else (features, scores)


# --- features ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["features", 2, -2, "itself"])
def test_the_layer_gives_the_features(images, layer):
    model = network()
    chosen = model.get_layer("features") if layer == "itself" else layer
    extractor = FeatureExtractor(model, chosen)
    expected = keras.Model(model.inputs, model.get_layer("features").output).predict(
        images, verbose=0
    )
    np.testing.assert_allclose(extractor.features(images), expected, atol=1e-6)
    # Batches, and the last one that is smaller, change nothing.
    np.testing.assert_allclose(extractor.features(images, batch_size=10), expected, atol=1e-6)
    assert extractor.features(images).dtype == "float32"


def test_a_map_of_features_is_averaged(images):
    model = network()
    conv = keras.Model(model.inputs, model.get_layer("conv").output).predict(images, verbose=0)
    found = FeatureExtractor(model, "conv").features(images)
    np.testing.assert_allclose(found, conv.mean(axis=(1, 2)), atol=1e-6)


def test_features_and_probabilities_of_logits_and_of_a_softmax(images):
    model = network()
    logits = model.predict(images, verbose=0)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    extractor = FeatureExtractor(model, "features", classes=3)
    features, probabilities = extractor.features_and_probabilities(images)
    np.testing.assert_allclose(features, extractor.features(images))
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    softmax = keras.Model(model.inputs, keras.layers.Softmax()(model.outputs[0]))
    again = FeatureExtractor(softmax, "features", classes=3).features_and_probabilities(images)[1]
    np.testing.assert_allclose(again, expected, atol=1e-6)
    numbers = expected.argmax(axis=1)
    assert extractor.accuracy_on(images, numbers) == 1.0
    assert extractor.accuracy_on(images[:4], np.r_[numbers[:3], (numbers[3] + 1) % 3]) == 0.75


def test_subclassed_models(images):
    one, two = Subclassed(1), Subclassed(2)
    for model in (one, two):
        model(images[:1])
    np.testing.assert_allclose(
        FeatureExtractor(one).features(images), one.predict(images, verbose=0), atol=1e-6
    )
    features, probabilities = FeatureExtractor(two, classes=3).features_and_probabilities(images)
    assert features.shape == (37, 5) and probabilities.shape == (37, 3)
    with pytest.raises(UnsupportedLayerError, match=r"Let its `call` return the features"):
        FeatureExtractor(one, "dense")
    with pytest.raises(InvalidArgumentError, match=r"1 array\(s\). Received: 2"):
        FeatureExtractor(two).features(images)


def test_bytes_are_taken_where_the_model_was_trained_on_them(images):
    model = network()
    pixels = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 1), dtype="uint8")
    extractor = FeatureExtractor(model, "features", value_range=(0, 255))
    np.testing.assert_allclose(
        extractor.features(pixels), extractor.features(pixels.astype("float32"))
    )


# --- errors -----------------------------------------------------------------------------


def test_images_of_the_wrong_shape(images):
    extractor = FeatureExtractor(network(), "features")
    with pytest.raises(DataError, match=r"\(8, 8, 1\) that the extractor takes.*\(9, 9, 1\)"):
        extractor.features(np.zeros((2, 9, 9, 1)))
    with pytest.raises(DataError, match=r"Received: \(8, 8, 3\)"):
        extractor.features(np.zeros((2, 8, 8, 3)))
    with pytest.raises(DataError, match=r"Add the channel axis: `images\[..., None\]`"):
        extractor.features(images[..., 0])
    with pytest.raises(DataError, match=r"is empty"):
        extractor.features(images[:0])


def test_images_of_the_wrong_range(images):
    extractor = FeatureExtractor(network(), "features")
    with pytest.raises(DataError, match=r"(?s)\[-1, 1\].*Received: \[0, 255\].*images / 127.5 - 1"):
        extractor.features(np.linspace(0, 255, 64).reshape(1, 8, 8, 1))
    with pytest.raises(DataError, match=r"or clip them: `np.clip\(images, -1, 1\)`"):
        extractor.features(1.5 * images)
    extractor.features(1.005 * images)  # rounding of a tanh in half precision, say
    with pytest.warns(
        PruningWarning, match=r"If their range is \[0, 1\], scale them: `2 \* images - 1`"
    ):
        extractor.features(np.concatenate([images, images]) / 2 + 0.5)


def test_images_that_are_not_finite(images):
    extractor = FeatureExtractor(network(), "features")
    images[5, 3, 3, 0] = np.nan
    images[8, 3, 3, 0] = -np.inf
    with pytest.raises(DataError, match=r"NaN or infinite values in 2 of 37 rows.*row 5"):
        extractor.features(images)
    with pytest.raises(DataError, match=r"must hold numbers. Received: dtype object"):
        extractor.features(np.array([[[[None]]]]))


def test_arguments_that_break_a_rule(images):
    model = network()
    with pytest.raises(InvalidArgumentError, match=r"Did you mean 'features'"):
        FeatureExtractor(model, "feature")
    with pytest.raises(InvalidArgumentError, match=r"among the 4 layers. Received: 9"):
        FeatureExtractor(model, 9)
    with pytest.raises(InvalidArgumentError, match=r"must be a layer of 'net'"):
        FeatureExtractor(model, network().layers[0])
    with pytest.raises(InvalidArgumentError, match=r"low < high"):
        FeatureExtractor(model, value_range=(1, -1))
    with pytest.raises(ArgumentTypeError, match=r"must be a Keras model"):
        FeatureExtractor(lambda x: x)
    with pytest.raises(UnbuiltModelError, match=r"must be built"):
        FeatureExtractor(keras.Sequential([keras.layers.Dense(3)]))
    with pytest.raises(InvalidArgumentError, match=r"need a classifier"):
        FeatureExtractor(model, "features").features_and_probabilities(images)
    with pytest.raises(InvalidArgumentError, match=r"`batch_size` must be a positive int"):
        FeatureExtractor(model, "features").features(images, 0)


# --- identity and files --------------------------------------------------------------------------


def test_the_fingerprint_is_of_what_is_computed():
    first = FeatureExtractor(network(), "features").fingerprint
    assert len(first) == 64
    assert FeatureExtractor(network(name="other"), "features").fingerprint == first
    others = [
        FeatureExtractor(network(seed=1), "features"),
        FeatureExtractor(network(), "conv"),
        FeatureExtractor(network(), "features", value_range=(0, 1)),
        FeatureExtractor(network(), "features", classes=3),
    ]
    model = network()
    model.get_layer("conv").activation = keras.activations.tanh
    others.append(FeatureExtractor(model, "features"))
    assert len({first, *(each.fingerprint for each in others)}) == 6


def test_a_file_holds_all_of_it(tmp_path, images):
    extractor = FeatureExtractor(
        network(), "features", classes=3, accuracy=0.75, value_range=(-2, 2)
    )
    extractor.save(tmp_path / "new" / "e.keras")
    again = FeatureExtractor.load(tmp_path / "new" / "e.keras")
    assert again.fingerprint == extractor.fingerprint
    assert (again.accuracy, again.classes, again.value_range) == (0.75, 3, (-2.0, 2.0))
    np.testing.assert_allclose(again.features(images), extractor.features(images), atol=1e-6)
    assert keras.saving.load_model(tmp_path / "new" / "e.keras").name == "net"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["e.keras"]


def test_invalid_files(tmp_path):
    network().save(tmp_path / "plain.keras")
    with pytest.raises(
        FileFormatError, match=r"but not the choice of the layer that gives the features"
    ):
        FeatureExtractor.load(tmp_path / "plain.keras")
    with pytest.raises(FileFormatError, match=r"There is no file"):
        FeatureExtractor.load(tmp_path / "none.keras")
    with pytest.raises(InvalidArgumentError, match=r"must end in '.keras'"):
        FeatureExtractor(network()).save(tmp_path / "e.h5")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"could not be written"):
        FeatureExtractor(network()).save(tmp_path / "file" / "e.keras")


# --- InceptionV3 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_inception_resizes_scales_and_makes_rgb(monkeypatch, channels):
    asked = {}

    def small(**kwargs):
        asked.update(kwargs)
        images = keras.Input(kwargs["input_shape"])
        return keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))

    monkeypatch.setattr(keras.applications, "InceptionV3", small)
    extractor = FeatureExtractor.inception((8, 8, channels), value_range=(0, 255))
    assert asked["include_top"] is False and asked["pooling"] == "avg"
    pixels = np.zeros((2, 8, 8, channels), "uint8")
    pixels[1, ..., 0] = 255
    expected = [[-1, -1, -1], [1, 1, 1] if channels == 1 else [1, -1, -1]]
    np.testing.assert_allclose(extractor.features(pixels), expected, atol=1e-5)


def test_inception_without_weights(monkeypatch):
    def unreachable(**kwargs):
        raise OSError("no network")

    monkeypatch.setattr(keras.applications, "InceptionV3", unreachable)
    with pytest.raises(
        DataError, match=r"cannot be loaded \(OSError: no network\).*train_extractor"
    ):
        FeatureExtractor.inception()
    with pytest.raises(InvalidArgumentError, match=r"1 or 3 channels. Received: \(8, 8, 2\)"):
        FeatureExtractor.inception((8, 8, 2))


# --- training ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return datasets.digits()


@pytest.fixture
def untrained(monkeypatch):
    """Leave out the training, for tests of everything around it."""
    monkeypatch.setattr(extractor_training, "_fit", lambda *arguments: None)


def quick(digits, n=300, **kwargs):
    settings = {"features": 8, "epochs": 2, "cache": False, **kwargs}
    return train_extractor(digits.images[:n], digits.labels[:n], **settings)


@pytest.mark.full
def test_the_extractor_of_mnist_is_right_for_97_of_100_images():
    mnist = datasets.mnist(full=False)
    extractor = train_extractor(mnist.images, mnist.labels, cache=False)
    assert extractor.accuracy >= 0.97
    # Of the last 1,000 images, which it has not seen.
    assert extractor.accuracy == extractor.accuracy_on(mnist.images[4000:], mnist.labels[4000:])
    features = extractor.features(mnist.images[4000:])
    assert features.shape == (1000, 64) and features.min() == 0.0
    # No feature is dead, and all are of one scale.
    deviations = features.std(axis=0)
    assert deviations.min() > 0.2 and deviations.max() < 2.0


@pytest.mark.full
def test_training_is_the_same_for_a_seed_and_leaves_the_global_one_alone(digits):
    keras.utils.set_random_seed(1)
    before = np.random.get_state()[1].copy()
    first = quick(digits)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    keras.utils.set_random_seed(2)
    np.testing.assert_allclose(
        quick(digits).features(digits.images[:9]), first.features(digits.images[:9]), atol=1e-4
    )


@pytest.mark.full
def test_a_global_policy_of_half_precision_changes_nothing(digits):
    first = quick(digits)
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_float16")
        second = quick(digits)
        assert keras.config.dtype_policy().name == "mixed_float16"
    finally:
        keras.config.set_dtype_policy(before)
    assert {w.dtype for w in second.model.weights} == {"float32"}
    np.testing.assert_allclose(
        second.features(digits.images[:9]), first.features(digits.images[:9]), atol=1e-4
    )


@pytest.mark.full
def test_the_held_out_images_are_not_trained_on(digits):
    images = digits.images[:600].copy()
    first = quick(digits, n=600, epochs=8, features=32)
    images[480:] = images[480:][::-1]
    second = train_extractor(images, digits.labels[:600], features=32, epochs=8, cache=False)
    assert first.accuracy > 0.6 > 0.4 > second.accuracy
    np.testing.assert_allclose(second.features(images[:9]), first.features(images[:9]), atol=1e-4)


def test_the_cache(untrained, digits, tmp_path, monkeypatch):
    first = quick(digits, cache=tmp_path)
    files = list(tmp_path.iterdir())
    assert len(files) == 1 and files[0].name.startswith("extractor-classifier-")

    def fail(*args):
        raise AssertionError("trained again")

    with monkeypatch.context() as patched:
        patched.setattr(extractor_training, "fit_classifier", fail)
        patched.setenv("KERAS_GANPRUNE_CACHE", str(tmp_path))
        again = quick(digits, cache=None)
        assert (again.fingerprint, again.accuracy) == (first.fingerprint, first.accuracy)
        # Other images, labels or settings are another file.
        for other in ({"n": 299}, {"seed": 1}, {"epochs": 3}, {"held_out": 0.3}, {"features": 9}):
            with pytest.raises(AssertionError, match=r"trained again"):
                quick(digits, **{"cache": None, **other})
        with pytest.raises(AssertionError, match=r"trained again"):
            train_extractor(digits.images[:300], 9 - digits.labels[:300], features=8, epochs=2)
    files[0].write_bytes(files[0].read_bytes()[:-200])
    with pytest.raises(FileFormatError, match=rf"'{files[0]}'.*by Keras 3.*remove the file"):
        quick(digits, cache=tmp_path)
    files[0].unlink()
    quick(digits, cache=tmp_path)
    with zipfile.ZipFile(files[0]) as archive:
        assert archive.testzip() is None


@pytest.mark.full
def test_another_seed_gives_other_weights(digits):
    assert quick(digits, seed=1).fingerprint != quick(digits).fingerprint


def test_a_cache_that_cannot_be_written_warns(untrained, digits, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(PruningWarning, match=r"will not be cached.*KERAS_GANPRUNE_CACHE"):
        extractor = quick(digits, epochs=1, cache=tmp_path / "file")
    assert extractor.accuracy is not None


@pytest.mark.full
def test_an_autoencoder_needs_no_labels_and_learns(digits):
    images = digits.images[:600]
    short, long = (
        train_extractor(images, kind="autoencoder", features=12, epochs=n, cache=False)
        for n in (1, 25)
    )
    assert long.accuracy is None and long.classes is None
    held_out = images[480:]

    def explained(extractor):
        """Share of the images' variance that a linear map of the features gives back."""
        x = np.c_[extractor.features(held_out), np.ones(len(held_out))]
        y = held_out.reshape(len(held_out), -1)
        rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        return 1 - (rest**2).sum() / ((y - y.mean(axis=0)) ** 2).sum()

    assert explained(long) > 0.6
    assert explained(long) > explained(short)


def test_images_move_by_their_shifts():
    images = np.arange(2 * 5 * 4, dtype="float32").reshape(2, 5, 4, 1)
    moved = _shifted_images.shifted(images, np.array([[0, 0], [1, -2]]))
    np.testing.assert_array_equal(moved[0], images[0])
    expected = images[1][[1, 2, 3, 4, 4]][:, [0, 0, 0, 1]]
    np.testing.assert_array_equal(moved[1], expected)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        pytest.param((1, 1, 1), "classifier", marks=pytest.mark.full),
        ((5, 9, 2), "autoencoder"),
        pytest.param((5, 9, 2), "classifier", marks=pytest.mark.full),
        pytest.param((40, 33, 3), "classifier", marks=pytest.mark.full),
    ],
)
def test_images_of_any_size(shape, kind):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = rng.uniform(0, 0.4, (40, *shape)) + 0.5 * labels[:, None, None, None]
    extractor = train_extractor(
        images, labels, kind=kind, features=4, epochs=1, value_range=(0, 1), cache=False
    )
    assert extractor.features(images).shape == (40, 4)
    assert (extractor.accuracy is None) == (kind == "autoencoder")


def test_invalid_training_data(digits):
    images, labels = digits.images[:100], digits.labels[:100]
    with pytest.raises(DataError, match=r"at least two classes. Received: class 4 only"):
        train_extractor(images, np.full(100, 4), cache=False)
    with pytest.raises(DataError, match=r"A classifier needs `labels`"):
        train_extractor(images, cache=False)
    order = np.argsort(labels, kind="stable")
    with pytest.raises(DataError, match=r"(?s)held-out.*\[8, 9\].*sorted by class. Shuffle"):
        train_extractor(images[order], labels[order], cache=False)
    with pytest.raises(DataError, match=r"each have at least two classes"):
        train_extractor(images, np.repeat([0, 1], [30, 70]), held_out=0.5, cache=False)
    with pytest.raises(DataError, match=r"one label for each of the 100 images. Received: 99"):
        train_extractor(images, labels[:99], cache=False)
    with pytest.raises(DataError, match=r"must be finite"):
        train_extractor(np.where(images > 0.9, np.nan, images), labels, cache=False)
    with pytest.raises(InvalidArgumentError, match=r"`held_out` must be a fraction in \(0, 1\)"):
        train_extractor(images, labels, held_out=1.0, cache=False)
    with pytest.raises(
        InvalidArgumentError, match=r"`kind` must be one of .*Did you mean 'classifier'"
    ):
        train_extractor(images, labels, kind="classifer", cache=False)
    with pytest.raises(DataError, match=r"must have at least one image"):
        train_extractor(images[:2], labels[:2], cache=False)


# --- train on generated, test on real ------------------------------------------------------------


def test_generated_training_data_that_cannot_be_used(digits):
    images, labels = digits.images, digits.labels
    with pytest.raises(DataError, match=r"must have the same shape"):
        train_on_generated(images[:9, :4], labels[:9], images, labels)
    with pytest.raises(DataError, match=r"at least two classes"):
        train_on_generated(images[:9], np.zeros(9), images, labels)


@pytest.mark.full
def test_train_on_generated(digits):
    images, labels = digits.images, digits.labels
    train, test = slice(0, 600), slice(1200, None)
    real = train_on_generated(images[train], labels[train], images[test], labels[test], epochs=10)
    # Labels that are followed for every second image only.
    wrong = np.where(np.arange(600) % 2, labels[train], (labels[train] + 1) % 10)
    half = train_on_generated(images[train], wrong, images[test], labels[test], epochs=10)
    # All images of a class alike.
    first = [int(np.argmax(labels == c)) for c in range(10)]
    alike = images[first][labels[train]]
    poor = train_on_generated(alike, labels[train], images[test], labels[test], epochs=10)
    assert real > 0.8 and half < real - 0.1 and poor < real - 0.1
