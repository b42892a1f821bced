"""The kept units, against brute force."""

import itertools

import numpy as np
from cases import cases

from keras_ganprune.pruning.rankings.top_k import best


def ranked(scores):
    """Return the units by falling score, ties by lower index."""
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))


def oracle(scores, budget, sizes=None, edges=(), floors=()):
    """The floor of each tensor first, then by rank: the prefix nearest to the budget, or the shorter."""
    safe = set()
    for floor, part in zip(
        floors, np.split(np.arange(len(scores)), list(edges)), strict=bool(floors)
    ):
        safe |= {part[i] for i in ranked(scores[part])[:floor] if scores[part[i]] != -np.inf}
    protected = len(safe | {i for i, s in enumerate(scores) if s == np.inf})
    key = [np.inf if i in safe else s for i, s in enumerate(scores)]
    order = ranked(key)
    if sizes is None:
        count = min(budget, len(scores))
    else:
        fills = [sum(sizes[i] for i in order[:n]) for n in range(len(scores) + 1)]
        count = min(range(len(fills)), key=lambda n: (abs(fills[n] - budget), n))
        count = max(count, protected)
    keep = np.zeros(len(scores), bool)
    keep[[i for i in order[:count] if scores[i] != -np.inf]] = True
    return keep


def examples(seed, infinite=True):
    """Return scores with many ties, some of them -inf, and where tensors begin among them."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 30))
    scores = rng.integers(0, 6, n).astype(rng.choice(["float32", "float64"]))
    if infinite:
        scores[rng.random(n) < 0.2] = -np.inf
        scores[rng.random(n) < 0.1] = np.inf
    edges = sorted(set(rng.integers(1, max(n, 2), size=rng.integers(0, 3)).tolist()) - {n})
    return rng, scores, edges


@cases(10, "seed", range(60))
def test_against_brute_force(seed):
    _, scores, _ = examples(seed)
    before = scores.copy()
    for budget in range(len(scores) + 2):
        np.testing.assert_array_equal(best(scores, budget), oracle(scores, budget))
    np.testing.assert_array_equal(scores, before)


@cases(10, "seed", range(60))
def test_with_floors_against_brute_force(seed):
    rng, scores, edges = examples(seed)
    floors = rng.integers(1, 5, len(edges) + 1).tolist()
    before = scores.copy()
    for budget in range(sum(floors), len(scores) + 1):
        wanted = oracle(scores, budget, None, edges, floors)
        np.testing.assert_array_equal(best(scores, budget, None, edges, floors), wanted)
    np.testing.assert_array_equal(scores, before)


@cases(10, "seed", range(60))
def test_units_of_different_sizes_against_brute_force(seed):
    rng, scores, edges = examples(seed)
    sizes = rng.integers(1, 9, len(scores))
    floors = rng.integers(1, 3, len(edges) + 1).tolist()
    for budget in range(int(sizes.sum()) + 2):
        wanted = oracle(scores, budget, sizes)
        np.testing.assert_array_equal(best(scores, budget, sizes), wanted, err_msg=f"{budget}")
        wanted = oracle(scores, budget, sizes, edges, floors)
        np.testing.assert_array_equal(best(scores, budget, sizes, edges, floors), wanted)


@cases(5, "seed", range(30))
def test_a_larger_budget_only_adds(seed):
    rng, scores, _ = examples(seed)
    sizes = rng.integers(1, 9, len(scores))
    for arguments in ((), (sizes,)):
        masks = [best(scores, b, *arguments) for b in range(int(sizes.sum()) + 1)]
        assert all(np.all(b[a]) for a, b in itertools.pairwise(masks))


@cases(5, "seed", range(30))
def test_the_number_of_weights_is_off_by_less_than_half_a_unit(seed):
    rng, scores, _ = examples(seed, infinite=False)
    sizes = rng.integers(1, 9, len(scores))
    for budget in range(int(sizes.sum()) + 1):
        assert abs(sizes[best(scores, budget, sizes)].sum() - budget) <= sizes.max() / 2


def test_floors_of_one_tensor():
    scores = np.array([3.0, 1.0, 2.0])
    np.testing.assert_array_equal(best(scores, 2, floors=[1]), [True, False, True])
    np.testing.assert_array_equal(best(scores, 3, floors=[9]), [True, True, True])


def test_one_tensor_of_large_units_is_not_emptied():
    # A budget of one weight is nearer to none than to a unit of four.
    scores, sizes = np.array([1.0, 2.0]), np.array([4, 2])
    np.testing.assert_array_equal(best(scores, 1, np.array([4, 4]), floors=[1]), [False, True])
    np.testing.assert_array_equal(best(scores, 0, sizes, floors=[1]), [False, True])
    np.testing.assert_array_equal(best(scores, 0, sizes), [False, False])


def test_what_is_pruned_never_returns_for_a_floor():
    scores = np.array([-np.inf, -np.inf, 1.0, 2.0])
    keep = best(scores, 3, edges=[2], floors=[1, 1])
    np.testing.assert_array_equal(keep, [False, False, True, True])


def test_integer_scores_with_floors():
    keep = best(np.array([5, 4, 1]), 2, edges=[2], floors=[1, 1])
    np.testing.assert_array_equal(keep, [True, False, True])
