"""Image quality: which numbers degrade with the images, generators, and errors."""

import re

import keras
import numpy as np
import paths
import pytest

from keras_ganprune import datasets
from keras_ganprune.errors import (
    ArgumentTypeError,
    DataError,
    InvalidArgumentError,
    PruningWarning,
)
from keras_ganprune.gan import GANModel
from keras_ganprune.metrics import (
    FeatureExtractor,
    ImageQuality,
    discriminator_accuracy,
    extractor_training,
    frechet_distance,
    kernel_distance,
    manifold_metrics,
    sampling,
    train_extractor,
)

TRAINED_ON = 1200
FEW_IMAGES = pytest.mark.filterwarnings("ignore:The Fréchet distance needs")


@pytest.fixture(scope="module")
def digits():
    return datasets.digits()


@pytest.fixture(scope="module")
def classifier(digits):
    return train_extractor(
        digits.images[:TRAINED_ON], digits.labels[:TRAINED_ON], features=16, epochs=30, cache=False
    )


@pytest.fixture(scope="module")
def autoencoder(digits):
    return train_extractor(
        digits.images[:TRAINED_ON], kind="autoencoder", features=16, epochs=15, cache=False
    )


@pytest.fixture(scope="module")
def quality(digits, classifier):
    return ImageQuality(
        digits.images[TRAINED_ON:], digits.labels[TRAINED_ON:], extractor=classifier, samples=200
    )


@pytest.fixture(scope="module")
def second_quality(digits, autoencoder):
    return ImageQuality(digits.images[TRAINED_ON:], extractor=autoencoder)


@pytest.fixture(scope="module")
def pooled_quality(digits):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.AveragePooling2D(2), keras.layers.Flatten()]
    )
    return ImageQuality(digits.images[TRAINED_ON:], extractor=FeatureExtractor(model))


def noisy(images, strength):
    noise = np.random.default_rng(0).normal(0, 1, images.shape)
    return np.clip(images + strength * noise, -1, 1)


def blurred(images, sigma):
    ndimage = pytest.importorskip("scipy.ndimage")
    return ndimage.gaussian_filter(images, (0, sigma, sigma, 0))


def without_classes(digits, lost):
    """Return as many images as ever, of the classes that are left."""
    left = np.flatnonzero(digits.labels[:TRAINED_ON] >= lost)
    return digits.images[np.resize(left, TRAINED_ON)]


# --- the numbers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evaluator", "damage"),
    [
        ("quality", "noise"),
        ("quality", "classes"),
        pytest.param("quality", "blur", marks=pytest.mark.full),
        pytest.param("second_quality", "noise", marks=pytest.mark.full),
        pytest.param("second_quality", "blur", marks=pytest.mark.full),
        pytest.param("second_quality", "classes", marks=pytest.mark.full),
    ],
)
@pytest.mark.full
def test_the_distances_rise_with_damage(request, digits, evaluator, damage):
    evaluator = request.getfixturevalue(evaluator)
    images = digits.images[:TRAINED_ON]
    damaged = {
        "noise": [noisy(images, s) for s in (0.0, 0.1, 0.2, 0.4, 0.8)],
        "blur": [blurred(images, s) for s in (0.0, 0.4, 0.6, 0.9, 1.5)],
        "classes": [without_classes(digits, lost) for lost in (0, 3, 5, 8)],
    }[damage]
    reports = [evaluator.measure(x) for x in damaged]
    assert np.all(np.diff([r.fd for r in reports]) > 0)
    # What may go the wrong way is noise: of the kernel distance its error, of coverage 3 % of 597 images.
    kernel = np.array([r.kd for r in reports])
    assert np.all(np.diff(kernel) > -np.array([r.kd_error for r in reports[:-1]]))
    assert kernel[-1] > kernel[0] + 5 * reports[-1].kd_error
    assert np.all(np.diff([r.coverage for r in reports]) < 0.03)
    assert reports[-1].coverage < reports[0].coverage - 0.3


def test_lost_classes_are_named(quality, digits):
    for lost in (0, 1, 3):
        report = quality.measure(without_classes(digits, lost))
        assert report.missing_classes == tuple(range(lost))
        assert report.class_kl == pytest.approx(np.log(10 / (10 - lost)), abs=0.08)


@pytest.mark.full
def test_two_extractors_rank_five_generators_alike(quality, second_quality, digits):
    images = digits.images[:TRAINED_ON]
    rng = np.random.default_rng(3)
    mean, deviation = images.mean(axis=0), images.std(axis=0)
    generators = {
        "half of the classes": without_classes(digits, 5),
        "one picture": np.clip(rng.normal(mean, 0.1, images.shape), -1, 1),
        "real": images,
        "pixels drawn one by one": np.clip(rng.normal(mean, deviation, images.shape), -1, 1),
        "noise": noisy(images, 0.3),
    }
    ranks = [
        sorted(generators, key=lambda name: evaluator.measure(generators[name]).fd)
        for evaluator in (quality, second_quality)
    ]
    expected = ["real", "noise", "half of the classes", "pixels drawn one by one", "one picture"]
    assert ranks == [expected, expected]


def test_the_report_agrees_with_the_pure_functions(quality, classifier, digits):
    fakes = noisy(digits.images[: TRAINED_ON // 2], 0.3)
    report = quality.measure(fakes)
    real, fake = quality.real_features, classifier.features(fakes)
    np.testing.assert_allclose(real, classifier.features(digits.images[TRAINED_ON:]))
    assert report.fd == pytest.approx(frechet_distance(real, fake))
    scale = np.sqrt(np.mean(real.astype("float64") ** 2))
    kernel = kernel_distance(real / scale, fake / scale)
    assert (report.kd, report.kd_error) == pytest.approx((kernel.value, kernel.error))
    # As many real as generated images: all 597 real ones against as many of 600.
    rows = np.sort(np.random.default_rng(0).permutation(len(fake))[: len(real)])
    near = manifold_metrics(real, fake[rows])
    assert report.manifold_samples == len(real) == 597
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(report, name) == pytest.approx(getattr(near, name))
    assert (report.samples, report.real_samples) == (600, 597)
    assert report.extractor == classifier.fingerprint
    assert report.extractor_accuracy == classifier.accuracy > 0.9


def test_the_metrics_of_neighbours_use_equal_numbers_of_images(digits, classifier):
    real, fakes = digits.images[TRAINED_ON:], digits.images[:TRAINED_ON]
    few = ImageQuality(real, extractor=classifier, manifold_samples=200)
    assert few.measure(fakes).manifold_samples == 200
    assert few.measure(fakes[:170]).manifold_samples == 170
    assert few.measure(fakes).coverage == pytest.approx(1 - 0.5**5, abs=0.06)
    # Equal images give equal reports, also after others.
    assert few.measure(fakes) == few.measure(fakes)


def test_labels_that_are_followed(quality, digits):
    images, labels = digits.images[:300], digits.labels[:300]
    assert quality.measure(images, labels).label_accuracy > 0.95
    wrong = np.where(np.arange(300) < 150, labels, (labels + 1) % 10)
    assert quality.measure(images, wrong).label_accuracy == pytest.approx(0.5, abs=0.05)
    assert quality.measure(images).label_accuracy is None


def test_the_report_prints(quality, pooled_quality, digits):
    report = quality.measure(without_classes(digits, 2))
    text = str(report)
    assert "Fréchet distance" in text and "0, 1" in text
    assert (
        "1,200 images against 597 real images, judged by the feature extractor with the fingerprint "
        f"{report.extractor[:8]} and an accuracy of 96" in text
    )
    assert report.to_markdown().startswith("| metric | value | better |\n| --- | ---: | ---: |\n")
    logs = report.to_dict()
    assert logs["missing_classes"] == 2.0 and all(type(v) is float for v in logs.values())
    assert "label_accuracy" not in logs and "extractor" not in logs
    other = pooled_quality.measure(digits.images[:200])
    assert other.class_kl is None and "class_kl" not in other.to_dict()
    assert "class" not in str(other) and "accuracy" not in str(other)


def test_the_split_of_the_images_without_an_extractor(digits, monkeypatch):
    monkeypatch.setattr(extractor_training, "_fit", lambda *arguments: None)
    images, labels = digits.images[:600], digits.labels[:600]
    quality = ImageQuality(images, labels, held_out=0.4, cache=False)
    np.testing.assert_array_equal(quality.labels, labels[360:])
    np.testing.assert_allclose(
        quality.real_features, quality.extractor.features(images[360:]), atol=1e-5
    )
    with pytest.warns(PruningWarning, match=r"240 images for 64 dimensions"):
        floor = quality.floor()
    assert (floor.samples, floor.real_samples) == (360, 240)
    assert floor.label_accuracy is None and floor.class_kl is not None


@pytest.mark.full
def test_without_an_extractor_one_is_trained_on_the_first_images(digits, tmp_path):
    images, labels = digits.images[:600], digits.labels[:600]
    quality = ImageQuality(images, labels, held_out=0.5, cache=tmp_path)
    assert len(quality.real_features) == len(quality.labels) == 300
    assert quality.extractor.accuracy > 0.8 and quality.extractor.classes == 10
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.warns(PruningWarning, match=r"300 images for 64 dimensions"):
        floor = quality.floor()
    assert floor.samples == 300 and floor.coverage > 0.5
    quality.measure(images)  # warns once
    again = ImageQuality(images, labels, held_out=0.5, cache=tmp_path)
    assert again.extractor.fingerprint == quality.extractor.fingerprint


# --- generators ----------------------------------------------------------------------------------


def generator(conditional=False, latent_dim=4):
    seed = keras.initializers.GlorotUniform(seed=0)
    inputs = [keras.Input((latent_dim,))]
    x = inputs[0]
    if conditional:
        inputs.append(keras.Input((10,)))
        x = keras.layers.Concatenate()(inputs)
    x = keras.layers.Dense(64, activation="tanh", kernel_initializer=seed)(x)
    return keras.Model(inputs if conditional else inputs[0], keras.layers.Reshape((8, 8, 1))(x))


def discriminator(conditional=False):
    inputs = [keras.Input((8, 8, 1))]
    x = keras.layers.Flatten()(inputs[0])
    if conditional:
        inputs.append(keras.Input((10,)))
        x = keras.layers.Concatenate()([x, inputs[1]])
    return keras.Model(inputs if conditional else inputs[0], keras.layers.Dense(1)(x))


def images_of(*args, **kwargs):
    batches = list(sampling.generated(*args, **kwargs))
    return np.concatenate([x for x, _ in batches]), [y for _, y in batches]


def test_all_ways_to_give_a_generator_give_the_same_images(quality):
    network = generator()
    gan = GANModel(network, discriminator(), latent_dim=4)

    class Foreign(keras.Model):
        def __init__(self):
            super().__init__()
            self.generator = network

    def function(n, seed):
        return gan.generate(n, seed=seed)

    expected = gan.generate(160, seed=3)
    for source in (gan, network, Foreign(), function):
        for batch_size in (30, 160, 256):
            found, labels = images_of(source, 160, seed=3, batch_size=batch_size)
            np.testing.assert_allclose(found, expected, atol=1e-6)
            assert set(labels) == {None}
    reports = [quality.measure_generator(s, 160, seed=3) for s in (gan, network, function)]
    for report in [*reports[1:], quality.measure(expected)]:
        assert report.to_dict() == pytest.approx(reports[0].to_dict(), rel=1e-3)
    assert quality.measure_generator(network).samples == 200
    assert quality.measure_generator(network, 160) == quality.measure_generator(network, 160)
    assert quality.measure_generator(network, 160, seed=1).fd != reports[0].fd


def test_the_averaged_generator_is_measured():
    gan = GANModel(generator(), discriminator(), latent_dim=4, ema_decay=0.9)
    gan.generator.set_weights([0 * w for w in gan.generator.get_weights()])
    found, _ = images_of(gan, 10)
    assert np.any(found) and not np.any(images_of(gan.generator, 10)[0])


def test_a_conditional_generator_gets_the_real_labels():
    labels = np.eye(10)[np.repeat([0, 1, 2], [5, 3, 2])]
    gan = GANModel(generator(True), discriminator(True), latent_dim=4)
    for source in (gan, gan.generator):
        found, drawn = images_of(source, 25, labels=labels, batch_size=10)
        drawn = np.concatenate(drawn)
        np.testing.assert_array_equal(drawn[:10].sum(axis=0)[:3], [5, 3, 2])
        np.testing.assert_array_equal(drawn[:20].sum(axis=0)[:3], [10, 6, 4])
        assert np.any(np.diff(drawn.argmax(axis=1)) < 0)  # not in order
        np.testing.assert_allclose(found, gan.generate(25, drawn, seed=0), atol=1e-6)
    with pytest.raises(DataError, match=r"distribution is not known. Pass the real `labels`"):
        images_of(gan, 5)


def test_the_label_accuracy_of_a_conditional_generator(digits, classifier):
    one_hot = np.eye(10, dtype="float32")[digits.labels]
    quality = ImageQuality(digits.images[TRAINED_ON:], one_hot[TRAINED_ON:], extractor=classifier)
    report = quality.measure_generator(generator(True), 160)
    assert 0.0 <= report.label_accuracy < 0.5


def test_invalid_generators(quality, digits):
    subclassed = type("Own", (keras.Model,), {"call": lambda self, z: z})()
    with pytest.raises(InvalidArgumentError, match=r"Pass `latent_dim=`"):
        images_of(subclassed, 5)
    found, _ = images_of(subclassed, 5, latent_dim=3)
    assert found.shape == (5, 3)
    with pytest.raises(ArgumentTypeError, match=r"or a function of \(n, seed\). Received: 'g'"):
        images_of("g", 5)
    with pytest.raises(DataError, match=r"must return n=5 images. Received: shape \(3, 8, 8, 1\)"):
        images_of(lambda n, seed: np.zeros((3, 8, 8, 1)), 5)
    three = [keras.Input((2,)) for _ in range(3)]
    with pytest.raises(InvalidArgumentError, match=r"with 3 inputs"):
        images_of(keras.Model(three, keras.layers.Add()(three)), 5)
    with pytest.raises(InvalidArgumentError, match=r"`n` must be a positive int. Received: 0"):
        quality.measure_generator(generator(), 0)
    diverged = generator()
    diverged.set_weights([w * np.nan for w in diverged.get_weights()])
    with pytest.raises(DataError, match=r"must be finite.*A generator that diverged"):
        quality.measure_generator(diverged, 20)


# --- bad input -----------------------------------------------------------------------------------


@FEW_IMAGES
def test_invalid_images(quality, digits):
    images = digits.images[:50]
    with pytest.raises(DataError, match=r"must be finite.*in 1 of 50 rows"):
        quality.measure(np.where(np.arange(50)[:, None, None, None] == 7, np.nan, images))
    with pytest.raises(DataError, match=r"\(8, 8, 1\) that the extractor takes"):
        quality.measure(images[:, :4])
    with pytest.raises(DataError, match=r"Received: \[0, 16\]"):
        quality.measure(8 * images + 8)
    with pytest.raises(DataError, match=r"is empty"):
        quality.measure(images[:0])
    with pytest.raises(DataError, match=r"at least four images of each kind. Received: 3"):
        quality.measure(images[:3])
    with pytest.raises(DataError, match=r"`neighbours=5` needs more than 5"):
        quality.measure(images[:5])
    with pytest.raises(DataError, match=r"one label for each of the 50 images. Received: 4"):
        quality.measure(images, digits.labels[:4])


def test_invalid_real_images(digits, classifier):
    images, labels = digits.images, digits.labels
    with pytest.raises(DataError, match=r"`real` must be finite"):
        ImageQuality(images * np.nan, extractor=classifier)
    with pytest.raises(DataError, match=r"one label for each of the 1797 images. Received: 5"):
        ImageQuality(images, labels[:5], extractor=classifier)
    with pytest.raises(ArgumentTypeError, match=r"must be a `FeatureExtractor`"):
        ImageQuality(images, extractor=classifier.model)
    with pytest.raises(
        DataError, match=r"different features for different images.*the same features"
    ):
        ImageQuality(np.repeat(images[:1], 20, axis=0), extractor=classifier)
    with pytest.raises(InvalidArgumentError, match=r"passed as `extractor=`"):
        ImageQuality(images[:50], extractor=classifier).floor()
    with pytest.raises(DataError, match=r"at least two classes. Received: class 0 only"):
        ImageQuality(images, np.zeros(len(images), int), cache=False)
    with pytest.raises(InvalidArgumentError, match=r"`samples` must be an int of at least 4"):
        ImageQuality(images, extractor=classifier, samples=1)


@FEW_IMAGES
def test_real_images_of_one_class_have_no_histogram(digits, classifier):
    zeros = digits.images[digits.labels == 0]
    zeros = zeros[classifier.features_and_probabilities(zeros)[1].argmax(axis=1) == 0]
    report = ImageQuality(zeros, extractor=classifier).measure(digits.images[:100])
    assert report.class_kl is None and report.missing_classes is None


def test_few_images_for_the_features_warn_once(digits, classifier):
    quality = ImageQuality(digits.images[:400], extractor=classifier)
    with pytest.warns(PruningWarning, match=r"159 images for 16 dimensions"):
        quality.measure(digits.images[:159])
    assert quality.measure(digits.images[:15]).fd > 0  # would raise: the warning is an error here
    with pytest.warns(PruningWarning, match=r"15 images .so few that the covariance is singular"):
        ImageQuality(digits.images[:15], extractor=classifier).measure(digits.images)


# --- discriminator -------------------------------------------------------------------------------


def gan_with_logits(logit, loss="non_saturating"):
    """Return a GAN whose discriminator scores images by the function `logit`."""
    images = keras.Input((8, 8, 1))
    mean = keras.layers.GlobalAveragePooling2D()(images)
    network = keras.Model(images, keras.layers.Lambda(logit)(mean))
    return GANModel(generator(), network, latent_dim=4, loss=loss)


def test_discriminator_accuracy():
    real = np.stack([np.full((8, 8, 1), v) for v in np.linspace(-1, 1, 41)[1:]])
    found = discriminator_accuracy(gan_with_logits(lambda x: x), real, batch_size=16)
    gan = gan_with_logits(lambda x: x)
    fake = gan.generate(40, seed=0).mean(axis=(1, 2, 3))
    assert found.real == pytest.approx(0.5)
    assert found.fake == pytest.approx(np.mean(fake < 0))
    assert found.samples == 40
    assert discriminator_accuracy(gan_with_logits(lambda x: x), real, n=10).samples == 10
    # Without a boundary of its own, a loss takes the mean of the others.
    relative = discriminator_accuracy(
        gan_with_logits(lambda x: x, "wasserstein"), real, batch_size=16
    )
    assert relative.real == pytest.approx(np.mean(real.mean(axis=(1, 2, 3)) > fake.mean()))


def test_discriminator_accuracy_of_a_conditional_gan():
    gan = GANModel(generator(True), discriminator(True), latent_dim=4)
    images, labels = np.zeros((30, 8, 8, 1)), np.eye(10)[np.arange(30) % 10]
    found = discriminator_accuracy(gan, images, labels)
    logits = gan.discriminator.predict([images, labels], verbose=0)
    assert found.real == pytest.approx(np.mean(logits > 0))
    with pytest.raises(DataError, match=r"conditional=True, labels missing"):
        discriminator_accuracy(gan, images)
    with pytest.raises(DataError, match=r"conditional=False, labels given"):
        discriminator_accuracy(gan_with_logits(lambda x: x), images, labels)
    with pytest.raises(DataError, match=r"with NaN or infinite values"):
        discriminator_accuracy(gan_with_logits(lambda x: x), images * np.nan)
    with pytest.raises(ArgumentTypeError, match=r"`gan` must be a `GANModel`.*Wrap the networks"):
        discriminator_accuracy(gan.discriminator, images)


def test_an_extractor_of_ones_own(pooled_quality, digits):
    good, bad = (pooled_quality.measure(noisy(digits.images[:TRAINED_ON], s)) for s in (0, 0.5))
    assert good.fd < bad.fd and good.class_kl is None and good.extractor_accuracy is None


@pytest.mark.full
def test_the_page_on_quality_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_GANPRUNE_CACHE", str(tmp_path))
    page = paths.DOCS / "quality.md"
    (snippet,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names = {"__name__": "quality"}
    exec(compile(snippet, "docs/quality.md", "exec"), names)
    floor, untrained = re.findall(r"Fréchet distance +([\d.]+)", capsys.readouterr().out)
    assert float(floor) < float(untrained) / 5
