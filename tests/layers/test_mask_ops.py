"""Kept counts, ties and thresholds are exact."""

import numpy as np
import pytest

from keras_ganprune.errors import DivergedError, InvalidArgumentError
from keras_ganprune.layers import mask_ops
from keras_ganprune.utils import validation


def stable_top_k(scores, keep):
    """Oracle: a full stable sort by falling score, so that ties go to the lower index."""
    flat = np.asarray(scores, dtype=np.float64).reshape(-1)
    mask = np.zeros(flat.size, dtype=bool)
    mask[np.argsort(-flat, kind="stable")[:keep]] = True
    return mask.reshape(np.shape(scores))


@pytest.mark.parametrize(
    ("size", "sparsity", "kept"),
    [
        (5, 0.5, 2),  # 2.5, half to even
        (3, 0.5, 2),  # 1.5, half to even
        (7, 0.5, 4),
        (10, 0.9, 1),
        (20, 0.9, 2),
        (10, 0.0, 10),
        (100, 0.5, 50),
        (100, 0.9999, 1),  # never none
        (1, 0.99, 1),
        (17, 0.4, 10),
        (784 * 128, 0.8, 20070),
        (10_000_000, 0.8, 2_000_000),
    ],
)
def test_kept_count(size, sparsity, kept):
    assert mask_ops.kept_count(size, sparsity) == kept
    assert isinstance(mask_ops.kept_count(size, np.float32(0.5)), int)


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 0.99, np.float32(0.25), np.float64(0.25)])
def test_validate_sparsity_accepts(value):
    result = validation.validate_sparsity(value)
    assert type(result) is float
    assert result == pytest.approx(float(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (80, r"fraction in \[0, 1\)\. Received: 80\. For 80 %, pass 0\.8\."),
        (55.5, r"Received: 55\.5\. For 55\.5 %, pass 0\.555\."),
        (100, r"Received: 100\. At least one weight"),
        (1.0, r"Received: 1\.0\. At least one weight .* 0\.99"),
        (-0.1, r"Received: -0\.1\."),
        (-0.001, r"Received: -0\.001\."),
        (1e6, r"Received: 1000000\.0\."),
        (float("nan"), r"Received: nan"),
        (float("inf"), r"Received: inf"),
        (True, r"Received: True \(of type bool\)"),
        ("0.5", r"Received: '0\.5' \(of type str\)"),
        (None, r"Received: None \(of type NoneType\)"),
        ([0.5], r"of type list"),
    ],
)
def test_validate_sparsity_rejects(value, text):
    with pytest.raises(InvalidArgumentError, match=text):
        validation.validate_sparsity(value)
    with pytest.raises(ValueError, match="`final_sparsity` must be"):
        validation.validate_sparsity(value, "final_sparsity")


def test_top_k_known_values():
    scores = np.array([[0.1, 0.9], [0.5, 0.7]])
    np.testing.assert_array_equal(mask_ops.top_k_mask(scores, 2), [[False, True], [False, True]])
    eight_equal = np.ones(8)
    np.testing.assert_array_equal(mask_ops.top_k_mask(eight_equal, 4), [True] * 4 + [False] * 4)
    one_to_hundred = np.arange(1.0, 101.0)
    np.testing.assert_array_equal(
        np.flatnonzero(mask_ops.top_k_mask(one_to_hundred, 50)), np.arange(50, 100)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
@pytest.mark.parametrize("shape", [(1,), (7,), (6, 5), (3, 2, 4, 5)])
def test_top_k_is_a_stable_sort(dtype, levels, shape):
    # Few levels means many ties, one level a constant tensor.
    scores = np.random.default_rng(levels).integers(levels, size=shape).astype(dtype)
    before = scores.copy()
    for keep in {0, 1, scores.size // 3, scores.size - 1, scores.size}:
        mask = mask_ops.top_k_mask(scores, keep)
        assert mask.dtype == bool
        assert mask.shape == shape
        assert mask.sum() == keep
        np.testing.assert_array_equal(mask, stable_top_k(scores, keep))
    np.testing.assert_array_equal(scores, before)


def test_top_k_ties_across_chunks(monkeypatch):
    monkeypatch.setattr(mask_ops, "_TIE_CHUNK", 4)
    scores = np.array([1.0, 2.0, 2.0, 0.0, 2.0, 3.0, 2.0, 2.0, 2.0, 0.0, 2.0])
    for keep in range(scores.size + 1):
        np.testing.assert_array_equal(mask_ops.top_k_mask(scores, keep), stable_top_k(scores, keep))


def test_top_k_with_pruned_entries():
    scores = np.array([-np.inf, 1.0, -np.inf, 0.5, 2.0])
    np.testing.assert_array_equal(mask_ops.top_k_mask(scores, 2), [False, True, False, False, True])
    # More wanted than is left: the first of the pruned ones fill up, and the caller drops them.
    np.testing.assert_array_equal(mask_ops.top_k_mask(scores, 4), [True, True, False, True, True])


def test_top_k_non_contiguous():
    scores = np.arange(24.0).reshape(4, 6).T
    np.testing.assert_array_equal(mask_ops.top_k_mask(scores, 7), stable_top_k(scores, 7))


@pytest.mark.parametrize("keep", [-1, 4])
def test_top_k_rejects_impossible_counts(keep):
    with pytest.raises(InvalidArgumentError, match=rf"must be in \[0, 3\]\. Received: {keep}"):
        mask_ops.top_k_mask(np.ones(3), keep)


def test_threshold_below_goes_equal_stays():
    scores = np.array([0.0, 0.4999, 0.5, 0.5001])
    np.testing.assert_array_equal(mask_ops.threshold_mask(scores, 0.5), [False, False, True, True])
    np.testing.assert_array_equal(mask_ops.threshold_mask(scores, 0.0), [True] * 4)


def test_threshold_on_unit_scores():
    rows = np.abs(np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])).sum(axis=1)
    np.testing.assert_array_equal(mask_ops.threshold_mask(rows, 0.5), [True, True])
    np.testing.assert_array_equal(mask_ops.threshold_mask(rows, 1.0), [False, True])


def test_sparsity():
    assert mask_ops.sparsity(np.array([True, False, False, False])) == 0.75
    assert mask_ops.sparsity(np.array([[0.0, 1.0], [2.0, -3.0]])) == 0.25
    assert mask_ops.sparsity(np.ones((3, 3), bool)) == 0.0


def test_check_finite_accepts_what_is_finite():
    mask_ops.check_finite(np.array([1.0, -2.0]), "w")
    # The float32 sum of these overflows, yet every value is finite.
    mask_ops.check_finite(np.full(8, np.finfo(np.float32).max), "w")
    mask_ops.check_finite(np.full(4, np.finfo(np.float64).max), "w")


@pytest.mark.parametrize(
    ("values", "count"),
    [([1.0, np.nan], 1), ([np.inf, 1.0], 1), ([np.inf, -np.inf, np.nan], 3)],
)
def test_check_finite_rejects(values, count):
    with pytest.raises(
        DivergedError, match=rf"kernel has {count} value\(s\) .* lower the learning"
    ):
        mask_ops.check_finite(np.array(values, np.float32), "kernel")
    with pytest.raises(FloatingPointError, match="Training has diverged"):
        mask_ops.check_finite(np.array(values), "kernel")
