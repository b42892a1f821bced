"""The numbers by which generated names are judged, and the Markov samplers that they are compared with."""

from collections import Counter

import keras
import numpy as np
import pytest
from scipy.spatial import distance

from keras_ganprune.applications import text_quality
from keras_ganprune.applications.markov import MarkovSampler
from keras_ganprune.datasets import letters
from keras_ganprune.errors import InvalidArgumentError


def random_names(n: int, seed: int, alphabet: str = "abcd") -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice([*alphabet], rng.integers(4, 9))) for _ in range(n)]


def test_divergence_is_that_of_scipy():
    a, b = random_names(50, 0), random_names(40, 1, "bcde")
    counts = text_quality.trigrams(a), text_quality.trigrams(b)
    every = sorted({*counts[0], *counts[1]})
    p, q = ([count[trigram] for trigram in every] for count in counts)
    expected = distance.jensenshannon(p, q, base=2) ** 2
    assert text_quality.trigram_divergence(a, b) == pytest.approx(expected, abs=1e-12)
    assert text_quality.trigram_divergence(b, a) == pytest.approx(expected, abs=1e-12)
    assert text_quality.trigram_divergence(a, a[::-1]) == 0.0


def test_a_gap_in_a_name_is_no_real_trigram():
    assert text_quality.trigrams(["bo nn"])["o n"] == 1


@pytest.mark.parametrize("names", [[], ["bonn"]])
def test_empty_lists(names):
    with pytest.raises(InvalidArgumentError, match="at least one name"):
        text_quality.trigram_divergence(names, [])
    with pytest.raises(InvalidArgumentError, match="at least 2 names each"):
        text_quality.two_sample_accuracy(names, names)


def test_two_sample_test_tells_what_differs_and_nothing_else():
    real = random_names(600, 0)
    same = text_quality.two_sample_accuracy(random_names(600, 1), real, epochs=2)
    other = text_quality.two_sample_accuracy(random_names(600, 1, "acde"), real, epochs=2)
    assert abs(same - 0.5) < 0.07
    assert other > 0.8


def test_two_sample_test_is_the_same_twice_and_leaves_the_seed_of_keras_alone():
    real, fake = random_names(100, 0), random_names(100, 1)
    keras.utils.set_random_seed(7)
    before = text_quality.two_sample_accuracy(fake, real, epochs=1)
    keras.utils.set_random_seed(8)
    assert text_quality.two_sample_accuracy(fake, real, epochs=1) == before


def test_markov_sampler_draws_the_frequencies_of_the_names():
    sampler = MarkovSampler(["abab", "abac", "abac"], order=2)
    names = sampler.sample(3000, seed=1)
    assert names == sampler.sample(3000, seed=1) != sampler.sample(3000, seed=2)
    shares = Counter(name[:4] for name in names)
    # After "ba", b follows once and c twice.
    assert set(shares) == {"abab", "abac"}
    assert shares["abac"] / 3000 == pytest.approx(2 / 3, abs=0.04)


def test_higher_order_is_closer_to_the_names():
    real = [*Counter(random_names(400, 0, "aaabcd"))]
    far, near = (
        text_quality.trigram_divergence(MarkovSampler(real, order).sample(400), real)
        for order in (1, 3)
    )
    assert near < far
    assert all(map(letters.fits, MarkovSampler(real, 1).sample(50)))
