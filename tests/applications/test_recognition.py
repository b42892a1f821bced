"""Recognition: scores, network, own folders, wrong data, few labels with a GAN, picture."""

import attrs
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.applications import few_labels, pipeline, recognition
from keras_ganprune.applications.base import Split
from keras_ganprune.applications.few_labels import first_of_each, images_of_gans
from keras_ganprune.applications.recognition import Recognition, RecognitionOptions
from keras_ganprune.applications.recognition_picture import examples
from keras_ganprune.applications.residual_classifier import residual_classifier
from keras_ganprune.errors import DataError, InvalidArgumentError
from keras_ganprune.pruning import structured

measure = pytest.importorskip("sklearn.metrics")
pil = pytest.importorskip("PIL.Image")
pytest.importorskip("skimage")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory):
    """Return a folder with images of vertical and of horizontal lines, in sub-folders."""
    path = tmp_path_factory.mktemp("lines")
    rng = np.random.default_rng(0)
    for name in ("level", "upright"):
        (path / name).mkdir()
        for number in range(36):
            image = rng.normal(100, 20, (16, 16))
            place = rng.integers(16)
            image[(place, slice(None)) if name == "level" else (slice(None), place)] += 100
            file = path / name / f"{number:02}.png"
            pil.fromarray(image.clip(0, 255).astype("uint8")).save(file)
    return path


def options(data, **more):
    return RecognitionOptions(data=str(data), quick=True, **more)


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_are_those_of_scikit_learn(classes):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, 200)
    found = rng.dirichlet(np.ones(classes), 200) + np.eye(classes)[labels] / 3
    found /= found.sum(1, keepdims=True)
    scores = recognition.scores(found.astype("float32"), labels)
    pairs = [(labels == k, found[:, k]) for k in range(classes)]
    areas = [measure.roc_auc_score(right, score) for right, score in pairs]
    assert scores["auc"] == pytest.approx(np.mean(areas), abs=1e-4)
    shares = [np.mean(found.argmax(1)[labels == k] == k) for k in range(classes)]
    assert scores["balanced_accuracy"] == pytest.approx(np.mean(shares))


def test_an_own_folder(own_folder):
    application = Recognition(options(own_folder))
    data = application.data()
    assert [len(part) for part in (data.train, data.validation, data.test)] == [48, 12, 12]
    assert data.train.extra["classes"] == ("level", "upright")
    for part in (data.train, data.validation, data.test):
        # A line across the image has the brightest mean.
        level = part.x.mean(2).max((1, 2)) > part.x.mean(1).max((1, 2))
        np.testing.assert_array_equal(part.y.argmax(1), np.where(level, 0, 1))
    assert application.baselines(data)["logistic regression on gradients"]["auc"] > 0.9


def _save(path, size=(16, 16)):
    path.parent.mkdir(exist_ok=True, parents=True)
    pil.fromarray(np.zeros(size[::-1], "uint8")).save(path)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({}, "must contain images"),
        ({"a": 12}, r"at least two sub-folders.* Received: 1 in .*: a\. Add a sub-folder"),
        ({"a": 12, "b": 0}, r"at least 10 images.* Received: 0 in .*b'\. Add images"),
        ({"a": 12, "b": 9}, r"Received: 9 in .*b'\. Add images, or remove this sub-folder"),
        ({"a": 12, "b": 12, "": 1}, r"sub-folder whose name is its class\. Received: '0\.png'"),
    ],
    ids=["no image", "one class", "empty class", "few images", "image of no class"],
)
def test_folders_that_are_refused_before_a_training(files, text, tmp_path):
    data, output = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    for name, count in files.items():
        (data / name).mkdir(exist_ok=True)
        for number in range(count):
            _save(data / name / f"{number}.png")
    with pytest.raises(DataError, match=text):
        pipeline.run(Recognition(options(data, output=str(output))))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_images_of_two_sizes(tmp_path):
    for name in "ab":
        for number in range(10):
            _save(
                tmp_path / name / f"{number}.png",
                (20, 16) if (name, number) == ("b", 3) else (16, 16),
            )
    with pytest.raises(DataError, match=r"16×16 .* and 20×16 .*b/3\.png'\)\. Crop or resize"):
        Recognition(options(tmp_path)).data()


def test_large_images_are_made_smaller_and_keep_their_form(tmp_path):
    for name in "ab":
        for number in range(10):
            _save(tmp_path / name / f"{number}.png", (60, 30))
    parts, _ = kgp.datasets.class_folders(tmp_path, size=20)
    assert parts["train"].images.shape == (16, 10, 20, 1)


def test_wrong_options():
    with pytest.raises(InvalidArgumentError, match="Did you mean 'both'"):
        RecognitionOptions(flips="booth")


def test_the_network_mirrors_and_shifts_in_training_only_and_shrinks():
    network = residual_classifier((40, 40, 1), 3, width=0.5, flips="both")
    x = np.random.default_rng(0).normal(size=(4, 40, 40, 1)).astype("float32")
    for name in ("mirror", "shift"):
        layer = network.get_layer(name)
        assert not np.array_equal(layer(x, training=True), x)
        np.testing.assert_array_equal(layer(x, training=False), x)
    groups = kgp.channel_groups(network)
    costs = structured.Costs(groups)
    smallest = [np.arange(group.size) == 0 for group in groups]
    assert costs.macs(smallest) < 0.1 * costs.macs()
    small = kgp.shrink(network, budget=kgp.Budget(macs=0.5))
    assert small.get_layer("mirror").mode == "horizontal_and_vertical"


@pytest.mark.full
def test_the_weights_are_averages_over_a_part_of_the_training(own_folder):
    application = Recognition(options(own_folder, batch_size=8))
    data = application.data()
    model = application.model(application.networks(data))
    optimizer = model.optimizer
    # Each compression has ten steps, of which a third counts.
    assert optimizer.ema_momentum == pytest.approx(1 - 3 / 10)
    model.fit(data.train.x, data.train.y, batch_size=8, verbose=0)
    averages = optimizer._model_variables_moving_average
    for weight, average in zip(model.trainable_variables, averages, strict=True):
        np.testing.assert_array_equal(weight.numpy(), average.numpy())


def test_the_classes_have_the_same_weight(own_folder):
    application = Recognition(options(own_folder, batch_size=8))
    data = application.data()
    # Six images of one class, all of the other.
    keep = np.r_[np.flatnonzero(data.train.y[:, 0])[:6], np.flatnonzero(data.train.y[:, 1])]
    train = Split(data.train.x[keep], data.train.y[keep], data.train.extra)
    application.__dict__["_data"] = attrs.evolve(data, train=train)
    model = application.model(application.networks(data))
    even = np.full((len(keep), 2), 0.5, "float32")
    few, many = (
        n * float(model.loss(y, even[:n])) for n, y in ((6, train.y[:6]), (24, train.y[6:]))
    )
    assert few == pytest.approx(many, rel=1e-4)


@pytest.mark.parametrize("classes", [2, 10])
def test_the_picture_shows_every_network(classes):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % classes
    found = rng.dirichlet(np.ones(classes), 40)
    names = [f"class {k}" for k in range(classes)]
    figure = recognition.recognition_picture.draw(
        rng.uniform(-1, 1, (40, 8, 8, 1)),
        labels,
        names,
        {"dense": found, "small": np.eye(classes)[labels]},
        {"dense": "AUC 0.5", "small": "AUC 1.0"},
    )
    *images, curves = figure.axes
    assert [axes.get_title() for axes in images] == [
        names[labels[place]] for place in examples(labels, classes)
    ]
    assert not any(axes.texts[-1].get_text().startswith("wrong: ") for axes in images)
    texts = [text.get_text() for text in curves.get_legend().get_texts()]
    assert texts == ["dense: AUC 0.5", "small: AUC 1.0", "by chance"]
    assert max(curves.lines[1].get_ydata()[:2]) == 1.0


@pytest.mark.full
def test_images_of_a_dense_and_of_a_sparse_gan():
    digits = kgp.datasets.load("digits")
    few = first_of_each(digits.labels, 3)
    made, labels = images_of_gans(
        digits.images[few],
        digits.labels[few],
        2,
        steps=4,
        channels=8,
        sparsity=0.5,
        seed=0,
    )
    assert labels.tolist() == np.repeat(np.arange(10), 2).tolist()
    assert made["dense"].shape == made["sparse"].shape == (20, 8, 8, 1)
    assert not np.allclose(made["dense"], made["sparse"])


@pytest.mark.full
def test_few_digits_compare_the_images_of_the_gans(tmp_path, monkeypatch):
    monkeypatch.setattr(few_labels, "_STEPS", 200)
    application = Recognition(options("few-digits", output=str(tmp_path / "run"), epochs=1))
    result = pipeline.run(application)
    assert list(result.baselines)[1:] == [
        "without the GAN's images",
        "with images of the 80 % sparse GAN",
    ]
    sizes = {len(part) for part in result.data.train.extra["others"].values()}
    assert sizes == {len(result.data.train)} == {2000}
