"""The samples of a sweep: arrays, and tuples and dicts of arrays."""

import numpy as np
import pytest

from keras_ganprune.errors import DataError
from keras_ganprune.search.samples import Samples


@pytest.mark.parametrize("kind", [tuple, dict])
def test_structures_are_taken_apart_together(kind):
    x, y = np.arange(6), np.arange(12).reshape(6, 2)
    labels = (x, y) if kind is tuple else {"a": x, "b": y}
    samples = Samples(x, labels)
    images, taken = samples.take(np.array([4, 1]))
    one, two = taken.values() if kind is dict else taken
    assert len(samples) == 6 and images.tolist() == one.tolist() == [4, 1]
    assert two.tolist() == [[8, 9], [2, 3]]
    other = Samples(x, (x, y + 1) if kind is tuple else {"a": x, "b": y + 1})
    assert samples.settings() != other.settings()


def test_each_array_of_a_dict_has_one_entry_per_image():
    with pytest.raises(DataError, match=r"one entry per image, 6\. Received: 5"):
        Samples(np.arange(6), {"a": np.arange(6), "b": np.arange(5)})
