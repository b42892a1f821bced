"""Text classification: data, both networks, and numbers; a short training, pruned and smaller."""

import keras
import numpy as np
import pytest
from sklearn import metrics

import keras_ganprune as kgp
from keras_ganprune.applications import text_classification
from keras_ganprune.applications.base import Split
from keras_ganprune.applications.text_classification import (
    TextClassification,
    TextClassificationOptions,
)
from keras_ganprune.errors import DataError, InvalidArgumentError
from keras_ganprune.pruning import structured


@pytest.fixture
def own_names(tmp_path):
    """Return the path of a file in which the vowels of a name say its class."""
    rng = np.random.default_rng(0)
    lines = {
        "".join(letter for one in rng.choice([*"bdklmnrst"], 3) for letter in (one, vowel))
        + f"\t{vowel}-people"
        for vowel in "aeo"
        for _ in range(120)
    }
    path = tmp_path / "names.txt"
    path.write_text("\n".join(sorted(lines)), encoding="utf-8")
    return str(path)


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    right, predicted = rng.integers(0, 4, 200), rng.integers(0, 3, 200)
    right[:120] = predicted[:120]
    split = Split(right, right, {"classes": "abcd"})
    scores = text_classification._scores(split, predicted)
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(right, predicted))
    expected = metrics.f1_score(right, predicted, average="macro", zero_division=0)
    assert scores["macro_f1"] == pytest.approx(expected)


def test_data_and_options(own_names):
    data = TextClassification(TextClassificationOptions(data=own_names)).data()
    assert data.train.extra["classes"] == ("a-people", "e-people", "o-people")
    for part in (data.train, data.validation, data.test):
        classes = [part.extra["classes"][label] for label in part.y]
        assert classes == [f"{name[1]}-people" for name in part.extra["names"]]
    with pytest.raises(InvalidArgumentError, match="Did you mean 'gru'"):
        TextClassificationOptions(network="gruu")


def test_a_file_with_one_class(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("bonn\tDE\nkoeln\tDE\n", encoding="utf-8")
    with pytest.raises(DataError, match="at least two classes"):
        TextClassification(TextClassificationOptions(data=str(path))).data()


@pytest.mark.full
@pytest.mark.parametrize("network", ["gru", "transformer"])
def test_a_training_with_pruned_and_smaller_network(network, own_names):
    options = TextClassificationOptions(data=own_names, network=network, quick=True)
    application = TextClassification(options)
    data = application.data()
    keras.utils.set_random_seed(0)
    model = application.model(application.networks(data, width=0.5))
    prune = kgp.Prune(0.5, target=None, criterion="taylor", allocation="global_ranking")
    model.fit(data.train.x, data.train.y, batch_size=32, epochs=4, verbose=0, callbacks=[prune])
    plain = kgp.strip_pruning(application.network(model))
    numbers = application.evaluate(plain, data.test)
    assert list(numbers) == list(application.metrics)
    assert numbers["accuracy"] > 0.6
    small = kgp.shrink(plain, budget=kgp.Budget(macs=0.5))
    assert small.count_params() < plain.count_params()
    figure = application.show({"dense": plain, "smaller": small}, data.test)
    assert len(figure.axes) == 4


@pytest.mark.parametrize("network", ["gru", "transformer"])
def test_channels_can_be_cut_to_a_quarter_of_the_macs(network):
    build = getattr(text_classification, network)
    groups = kgp.channel_groups(build(3, width=0.5))
    costs = structured.Costs(groups)
    smallest = [np.arange(group.size) == 0 for group in groups]
    assert costs.macs(smallest) < 0.2 * costs.macs()


def test_the_transformer_learns_its_positions():
    names = {weight.path for weight in text_classification.transformer(3).trainable_weights}
    assert any("position" in name for name in names)


def test_baseline(own_names):
    application = TextClassification(TextClassificationOptions(data=own_names))
    ((_, numbers),) = application.baselines(application.data()).items()
    assert numbers["accuracy"] == 1.0
