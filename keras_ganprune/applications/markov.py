"""`MarkovSampler`: names drawn letter by letter, the baseline that a text GAN has to beat."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from keras_ganprune.datasets import letters
from keras_ganprune.utils import validation

_BEGIN, _END = "^", "$"


class MarkovSampler:
    """Draw names whose next letter depends on the last `order` letters, with the frequencies of real names.

        P(letter | last letters) = count(last letters, letter) / count(last letters)

    Args:
        names: Real names.
        order: Positive int, number of letters that the next one depends on. Defaults to 1.

    Example:
    >>> MarkovSampler(["bonn"], order=3).sample(2)
    ['bonn', 'bonn']

    Reference: Shannon,
    [A mathematical theory of communication](https://doi.org/10.1002/j.1538-7305.1948.tb01338.x), §3.
    """

    def __init__(self, names: Iterable[str], order: int = 1):
        self.order = validation.positive_int(order, "order")
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for name in names:
            text = _BEGIN * order + name + _END
            for i in range(order, len(text)):
                counts[text[i - order : i]][text[i]] += 1
        self._next = {
            last: ("".join(found), np.cumsum(list(found.values())))
            for last, found in counts.items()
        }

    def sample(self, n: int, seed: int = 0) -> list[str]:
        """Return `n` names. Names with fewer than 4 or more than 12 letters are drawn again.

        Args:
            n: Positive int, number of names.
            seed: Non-negative int. Defaults to 0.
        """
        rng = np.random.default_rng(seed)
        names: list[str] = []
        while len(names) < n:
            name = self._one(rng)
            if letters.fits(name):
                names.append(name)
        return names

    def _one(self, rng: np.random.Generator) -> str:
        text = _BEGIN * self.order
        while len(text) <= self.order + letters.LENGTH:
            found, sums = self._next[text[-self.order :]]
            letter = found[np.searchsorted(sums, rng.integers(sums[-1]), side="right")]
            if letter == _END:
                break
            text += letter
        return text[self.order :]
