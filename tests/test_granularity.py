"""The unit of pruning: pooling scores and expanding kept units."""

import numpy as np
import pytest

from keras_ganprune import granularity
from keras_ganprune.granularity import Granularity, Unstructured


@pytest.mark.parametrize("shape", [(3,), (4, 5), (2, 3, 4, 5)])
def test_unstructured_has_one_unit_per_weight(shape):
    scores = np.random.default_rng(0).random(shape)
    unit = Unstructured()
    np.testing.assert_array_equal(unit.pool(scores), scores)
    keep = scores > 0.5
    mask = unit.expand(keep, shape)
    assert mask.shape == shape
    np.testing.assert_array_equal(mask, keep)
    np.testing.assert_array_equal(unit.expand(keep.reshape(-1), shape), keep)


def test_base_class_is_abstract():
    with pytest.raises(NotImplementedError, match=r"^$"):
        Granularity().pool(np.ones(3))
    with pytest.raises(NotImplementedError, match=r"^$"):
        Granularity().expand(np.ones(3, bool), (3,))


def test_get():
    assert granularity.get("unstructured") == Unstructured()
