"""One total sparsity over several tensors."""

import numpy as np
import pytest

from keras_ganprune import allocation
from keras_ganprune.allocation import Allocation, GlobalRanking, Uniform


def global_oracle(scores, sparsity):
    """The best unit of every tensor first, then all others by falling score, ties by position."""
    flat = np.concatenate([np.ravel(s) for s in scores]).astype(np.float64)
    starts = np.cumsum([0] + [s.size for s in scores])
    best = [start + int(np.argmax(s)) for start, s in zip(starts, scores, strict=False)]
    order = best + [i for i in np.argsort(-flat, kind="stable") if i not in best]
    count = max(len(scores), max(1, round(flat.size * (1 - sparsity))))
    mask = np.zeros(flat.size, bool)
    mask[order[:count]] = True
    return [
        mask[start : start + s.size].reshape(s.shape)
        for start, s in zip(starts, scores, strict=False)
    ]


def test_uniform_counts_every_tensor_by_itself():
    scores = [np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([[9.0, 8.0], [7.0, 6.0]]), np.ones(1)]
    first, second, third = Uniform().select(scores, [1, 1, 1], 0.5)
    np.testing.assert_array_equal(first, [False, False, False, True, True])
    np.testing.assert_array_equal(second, [[True, True], [False, False]])
    np.testing.assert_array_equal(third, [True])


def test_global_known_values():
    one, two = GlobalRanking().select(
        [np.array([0.1, 0.9, 0.2, 0.5]), np.array([0.7, 0.8])], [1, 1], 0.5
    )
    np.testing.assert_array_equal(one, [False, True, False, False])
    np.testing.assert_array_equal(two, [True, True])


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("levels", [2, 4, 1000])
def test_global_matches_oracle(sparsity, levels):
    rng = np.random.default_rng(levels)
    shapes = [(4, 5), (3, 3, 2), (7,), (1,)]
    scores = [rng.integers(1, levels + 1, size=s).astype(np.float32) for s in shapes]
    before = [s.copy() for s in scores]
    chosen = GlobalRanking().select(scores, [1] * 4, sparsity)
    for mask, wanted in zip(chosen, global_oracle(scores, sparsity), strict=True):
        np.testing.assert_array_equal(mask, wanted)
    for s, b in zip(scores, before, strict=True):
        np.testing.assert_array_equal(s, b)


def test_global_never_empties_a_tensor():
    scores = [np.full(50, 100.0), np.array([1e-9, 2e-9]), np.zeros((2, 2))]
    counts = [int(m.sum()) for m in GlobalRanking().select(scores, [1, 1, 1], 0.5)]
    assert counts == [26, 1, 1]  # 28 of 56 in total
    counts = [int(m.sum()) for m in GlobalRanking().select(scores, [1, 1, 1], 0.999)]
    assert counts == [1, 1, 1]


def test_get():
    assert allocation.get("uniform") == Uniform()
    assert allocation.get("global_ranking") == GlobalRanking()
    assert Uniform() != GlobalRanking()


def test_base_class_is_abstract():
    with pytest.raises(NotImplementedError, match=r"^$"):
        Allocation().select([np.ones(2)], [1], 0.5)
