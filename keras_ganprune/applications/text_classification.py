"""Text classification: the country of a place name, by a GRU or a small transformer."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import keras
import numpy as np

from keras_ganprune import datasets
from keras_ganprune.applications import learning_rates, text_quality
from keras_ganprune.applications.base import Application, Metric, Source, Split, Splits
from keras_ganprune.applications.dense_training import Plan
from keras_ganprune.applications.option_fields import documented, option
from keras_ganprune.applications.options import ApplicationOptions
from keras_ganprune.datasets import letters
from keras_ganprune.utils import optional_imports, palette, plotting

# Longest n-grams, and most rows for those of one length: a prime number, so that all letters count.
_LONGEST, _ROWS = 5, 65521
# The logits of n-grams are multiplied by this: their weights then learn in larger steps than the GRUs.
_WIDE = 4.0
_QUICK_COUNTRIES, _QUICK_NAMES = 6, 1200


@documented
@attrs.frozen
class TextClassificationOptions(ApplicationOptions):
    """The options of text classification.

    Raises:
        InvalidArgumentError: An option has a wrong value.

    Example:
    >>> TextClassificationOptions(network="transformer").network
    'transformer'
    """

    data: str | None = option(
        None,
        "Path of your own text file, with 'name<TAB>label' per line, or of a .csv file with 'name,label'.",
        default_text="place names of 15 countries",
    )
    network: str = option("gru", "Network that reads the letters.", choices=("gru", "transformer"))


class TextClassification(Application):
    """Say in which country a place lies, by its name.

    Args:
        options: `TextClassificationOptions`.

    Example:
    >>> application = TextClassification(TextClassificationOptions(quick=True))
    >>> list(application.metrics)
    ['accuracy', 'macro_f1']
    """

    name = "text-classification"
    help = "tell the country of a place name, 15 classes: GRU or small transformer"
    options_class = TextClassificationOptions
    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric("accuracy", True),
        "macro_f1": Metric("macro F1", True),
    }

    def data(self) -> Splits:
        """Return names of places and their countries, or those of the user's file."""
        return self._data

    @functools.cached_property
    def _data(self) -> Splits:
        if self.options.data is not None:
            names = datasets.names_file(self.options.data, labels=True)
        elif self.options.quick:
            names = datasets.geonames_by_country(_QUICK_COUNTRIES, most=_QUICK_NAMES)
        else:
            names = datasets.geonames_by_country()
        train, validation, test = (_split(part) for part in names.split())
        source = Source(names.description, names.license, names.citation)
        return Splits(train, validation, test, source, f"{names.description}.")

    def networks(self, data: Splits, width: float = 1.0) -> dict[str, keras.Model]:
        """Return the new network by the name 'network'."""
        build = {"gru": gru, "transformer": transformer}[self.options.network]
        return {"network": build(len(data.train.extra["classes"]), width)}

    def model(self, networks: Mapping[str, keras.Model]) -> keras.Model:
        """Return the network, compiled with cross-entropy and accuracy."""
        network = networks["network"]
        dense, branch = Plan.of(self, self.data()).steps
        network.compile(
            keras.optimizers.AdamW(
                learning_rates.falling(5e-3, dense, branch),
                weight_decay=0.08,
                # With a small one, an n-gram of one name would learn it in a few large steps.
                epsilon=4e-3,
                **learning_rates.averaged(branch),
            ),
            smoothed_cross_entropy,
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            jit_compile=text_quality.compiles_loops(),
        )
        return network

    def evaluate(self, network: keras.Model, data: Split) -> dict[str, float]:
        """Return accuracy and macro F1."""
        return _scores(data, _predictions(network, data))

    def show(self, networks: Mapping[str, keras.Model], data: Split) -> Any:
        """Return a figure with a confusion matrix per network, and names with their predicted classes."""
        predictions = {title: _predictions(network, data) for title, network in networks.items()}
        figure = plotting.require_plotting().Figure(
            figsize=(4.6 * len(networks), 8.0), layout="constrained"
        )
        axes = figure.subplots(2, len(networks), squeeze=False, height_ratios=(3, 2))
        for column, (title, predicted) in enumerate(predictions.items()):
            _draw_confusion(axes[0, column], data, predicted, title, column == 0)
            _draw_examples(axes[1, column], data, predicted)
        return figure

    def epochs(self) -> tuple[int, int]:
        """Return (epochs of the dense training, epochs of each compression)."""
        return (3, 2) if self.options.quick else (2, 3)

    def batch_size(self) -> int:
        """Return the number of names per step."""
        return 64 if self.options.quick else 128

    def baselines(self, data: Splits) -> dict[str, dict[str, float]]:
        """Return the numbers of a logistic regression on character n-grams of 1 to 4 letters."""
        text = optional_imports.require(
            "sklearn.feature_extraction.text", "applications", "Baselines"
        )
        linear = optional_imports.require("sklearn.linear_model", "applications", "Baselines")
        n_grams = text.TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
        x = n_grams.fit_transform(data.train.extra["names"])
        best = None
        # The strength of its regularization is chosen on the validation names.
        for c in (1.0, 3.0, 10.0):
            model = linear.LogisticRegression(C=c, max_iter=200, tol=1e-3).fit(x, data.train.y)
            score = model.score(
                n_grams.transform(data.validation.extra["names"]), data.validation.y
            )
            best = max(best or (score, model), (score, model), key=lambda pair: pair[0])
        predicted = best[1].predict(n_grams.transform(data.test.extra["names"]))
        return {"logistic regression on n-grams": _scores(data.test, predicted)}


@keras.saving.register_keras_serializable(package="keras_ganprune")
def smoothed_cross_entropy(labels: Any, probabilities: Any) -> Any:
    """Return the cross-entropy for labels of which a tenth goes to all classes alike.

    A name may be at home in several countries, so no network should be sure of its label.

    Args:
        labels: Numbers of classes (n,) or (n, 1).
        probabilities: Probabilities (n, classes).

    Returns: Tensor (n,).

    Example:
    >>> round(float(smoothed_cross_entropy(np.array([1]), np.array([[0.05, 0.95]]))[0]), 3)
    0.199

    Reference: [Rethinking the Inception architecture](https://arxiv.org/abs/1512.00567), §7.
    """
    rows = keras.ops.reshape(labels, (-1,))
    one_hot = keras.ops.one_hot(rows, probabilities.shape[-1], dtype=probabilities.dtype)
    return keras.losses.categorical_crossentropy(one_hot, probabilities, label_smoothing=0.1)


def gru(classes: int, width: float = 1.0) -> keras.Model:
    """Return a wide and deep network: the evidence of n-grams, plus two GRUs that read the letters.

    The second GRU reads what the first one says of each letter, from the last letter to the first one. The
    logits of its largest outputs are added to those of the n-grams.

    Args:
        classes: Positive int, number of classes.
        width: Positive float, factor for the channels of the convolution and the GRUs. Defaults to 1.

    Returns: Keras model that maps numbers of letters (n, 12) to probabilities (n, classes).

    Example:
    >>> gru(3, width=0.1).output_shape
    (None, 3)

    References: [Learning phrase representations](https://arxiv.org/abs/1406.1078), §2.3; the sum of two
    paths: [Wide & deep learning](https://arxiv.org/abs/1606.07792), §3.3.
    """
    layers = keras.layers
    units = max(1, round(48 * width))
    inputs = keras.Input((letters.LENGTH,), dtype="int32", name="letters")
    x = layers.Embedding(len(letters.SYMBOLS), 32, name="letter_vectors")(inputs)
    x = layers.Conv1D(units, 3, padding="same", activation="relu")(layers.Dropout(0.1)(x))
    x = layers.GRU(units, return_sequences=True)(layers.Dropout(0.3)(x))
    x = layers.GRU(units, return_sequences=True, go_backwards=True)(layers.Dropout(0.3)(x))
    return _wide_and_deep(inputs, layers.GlobalMaxPooling1D()(x), classes, "gru")


def transformer(classes: int, width: float = 1.0, blocks: int = 2) -> keras.Model:
    """Return a wide and deep network: the evidence of n-grams, plus a small transformer on the letters.

    Args:
        classes: Positive int, number of classes.
        width: Positive float, factor for its channels and heads. Defaults to 1.
        blocks: Positive int, number of blocks. Defaults to 2.

    Returns: Keras model that maps numbers of letters (n, 12) to probabilities (n, classes).

    Example:
    >>> transformer(3, width=0.1).output_shape
    (None, 3)

    Reference: [Attention is all you need](https://arxiv.org/abs/1706.03762), §3; normalization first:
    [On layer normalization in the transformer](https://arxiv.org/abs/2002.04745); the sum of two paths: as
    for `gru`.
    """
    layers = keras.layers
    heads = max(1, round(6 * width))
    channels = 12 * heads
    inputs = keras.Input((letters.LENGTH,), dtype="int32", name="letters")
    x = layers.Embedding(len(letters.SYMBOLS), channels, name="letter_vectors")(inputs)
    positions = keras.ops.add(keras.ops.zeros_like(inputs), keras.ops.arange(letters.LENGTH))
    x = layers.Add()([x, layers.Embedding(letters.LENGTH, channels, name="position")(positions)])
    for _ in range(blocks):
        y = layers.LayerNormalization()(x)
        y = layers.MultiHeadAttention(heads, 12, dropout=0.1)(y, y)
        x = layers.Add()([x, y])
        y = layers.LayerNormalization()(x)
        y = layers.Dense(4 * channels, activation="relu")(y)
        y = layers.Dropout(0.2)(layers.Dense(channels)(y))
        x = layers.Add()([x, y])
    x = layers.GlobalMaxPooling1D()(layers.LayerNormalization()(x))
    return _wide_and_deep(inputs, x, classes, "transformer")


def _wide_and_deep(inputs: Any, deep: Any, classes: int, name: str) -> keras.Model:
    """Return a model whose logits are the sum of those of n-grams and of a deep part.

    The n-grams know the few names that they are in, and the deep part what names have in common.

    Args:
        inputs: Numbers of letters (n, 12).
        deep: What the deep part says of each name (n, channels).
        classes: Number of classes.
        name: Name of the model.
    """
    layers = keras.layers
    logits = layers.Dense(classes, name="deep_logits")(layers.Dropout(0.5)(deep))
    wide = layers.Add()(_evidence(inputs, classes))
    logits = layers.Add()([logits, layers.Rescaling(_WIDE)(keras.ops.sum(wide, axis=1))])
    return keras.Model(inputs, layers.Softmax()(logits), name=name)


def _evidence(inputs: Any, classes: int) -> list[Any]:
    """Return what n-grams of 1 to 5 letters say of the classes, at each place: arrays (n, 13, classes)."""
    symbols = len(letters.SYMBOLS)
    evidence: list[Any] = []
    n_gram: Any = 0
    for n in range(_LONGEST):
        # The letter n places before; 0 is the begin or end of a name.
        padded: Any = keras.ops.pad(inputs, ((0, 0), (n, 1)))
        letter = padded[:, : letters.LENGTH + 1]
        n_gram = n_gram + letter * symbols**n
        # Of the n-grams of 4 and 5 letters, several share a row.
        rows = min(symbols ** (n + 1), _ROWS)
        numbers = n_gram if rows < _ROWS else n_gram % _ROWS
        said = keras.layers.Embedding(
            rows, classes, embeddings_initializer="zeros", name=f"{n + 1}_grams"
        )(numbers)
        # Whole n-grams are left out: long and rare ones would learn their few names by heart.
        said = keras.layers.Dropout(0.5, noise_shape=(None, letters.LENGTH + 1, 1))(said)
        evidence.append(said)
    return evidence


def _split(names: datasets.Names) -> Split:
    extra = {"names": names.names, "classes": names.classes}
    return Split(letters.encode(names.names), names.labels, extra)


def _predictions(network: Any, data: Split) -> np.ndarray:
    return network.predict(data.x, batch_size=1024, verbose=0).argmax(-1)


def _confusion(data: Split, predicted: np.ndarray) -> np.ndarray:
    """Return the number of names of each class (rows) by predicted class (columns)."""
    classes = len(data.extra["classes"])
    counts = np.bincount(classes * data.y + predicted, minlength=classes**2)
    return counts.reshape(classes, classes)


def _scores(data: Split, predicted: np.ndarray) -> dict[str, float]:
    """Return accuracy, and the mean of F1 = 2 TP / (2 TP + FP + FN) over the classes."""
    counts = _confusion(data, predicted)
    right = np.diag(counts)
    f1 = 2.0 * right / np.maximum(1, counts.sum(0) + counts.sum(1))
    return {"accuracy": float(right.sum() / counts.sum()), "macro_f1": float(f1.mean())}


def _draw_confusion(axes: Any, data: Split, predicted: np.ndarray, title: str, named: bool) -> None:
    counts = _confusion(data, predicted)
    axes.imshow(counts / np.maximum(1, counts.sum(1, keepdims=True)), cmap="Blues", vmin=0, vmax=1)
    places = np.arange(len(counts))
    classes = data.extra["classes"]
    axes.set_xticks(places, classes, rotation=90, fontsize=8)
    axes.set_yticks(places, classes if named else [""] * len(classes), fontsize=8)
    accuracy = np.mean(predicted == data.y)
    axes.set(title=f"{title}: {accuracy:.1%} right", xlabel="predicted")


def _draw_examples(axes: Any, data: Split, predicted: np.ndarray, rows: int = 12) -> None:
    """Write the first names with the predicted class, and the right one where it differs."""
    classes = data.extra["classes"]
    axes.set_axis_off()
    for row in range(min(rows, len(data))):
        right = predicted[row] == data.y[row]
        said = classes[predicted[row]]
        text = said if right else f"{said} (is {classes[data.y[row]]})"
        place = {"y": 1.0 - (row + 0.5) / rows, "transform": axes.transAxes, "fontsize": 9}
        axes.text(0.0, s=data.extra["names"][row].title(), **place)
        axes.text(0.35, s=text, color=palette.LIGHT.colour(2 if right else 1), **place)
