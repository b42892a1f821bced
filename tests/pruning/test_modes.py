"""Modes as pure functions of a `Choice`: which units are kept, and which return."""

import math

import numpy as np
import pytest
from seeds import seeds

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.pruning import modes
from keras_ganprune.pruning.modes import SET, Choice, Hard, Mode, RigL, Soft, Splice
from keras_ganprune.pruning.rankings.top_k import best


def choice(
    scores, kept=None, budget=None, threshold=None, growth=None, progress=0.0, draw=None, **ranking
):
    """Return a `Choice`; `ranking` is what `best` takes: sizes, edges, floors."""
    scores = np.array(scores, dtype=np.float64)
    sizes = ranking.get("sizes")
    return Choice(
        scores=scores,
        kept=np.ones(scores.shape, bool) if kept is None else np.array(kept, bool),
        best=lambda s, b: best(s, b, **ranking),
        top=lambda s, b: best(s, b, sizes),
        budget=budget,
        threshold=threshold,
        size_of=lambda k: int(k.sum() if sizes is None else sizes[k].sum()),
        growth=None if growth is None else np.array(growth, dtype=np.float64),
        progress=progress,
        draw=draw or np.random.default_rng(0).random,
    )


def highest(values, count):
    """Return the set of the indices of the highest values, ties by lower index."""
    return set(sorted(range(len(values)), key=lambda i: (-values[i], i))[:count])


def units(mask):
    assert mask.dtype == bool
    return set(np.flatnonzero(mask).tolist())


# --- hard and soft -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", seeds(20))
def test_hard_keeps_the_best_of_what_is_kept(seed):
    rng = np.random.default_rng(seed)
    scores, kept = rng.integers(0, 5, 12), rng.random(12) < 0.7
    for budget in range(13):
        keep = Hard().choose(choice(scores, kept, budget))
        wanted = highest(np.where(kept, scores, -1), min(budget, kept.sum()))
        assert units(keep) == wanted
        assert not np.any(keep & ~kept)


def test_hard_under_a_threshold():
    scores, kept = [0.5, 0.2, 0.9, 0.5], [True, True, False, True]
    assert units(Hard().choose(choice(scores, kept, threshold=0.5))) == {0, 3}
    assert units(Hard().choose(choice(scores, kept, threshold=0.0))) == {0, 1, 3}  # 2 never returns
    assert units(Hard().choose(choice(scores, kept, threshold=2.0))) == set()


@pytest.mark.parametrize("seed", seeds(20))
def test_soft_uses_only_the_scores(seed):
    rng = np.random.default_rng(seed)
    scores, kept = rng.integers(0, 5, 12), rng.random(12) < 0.7
    for budget in range(13):
        assert units(Soft().choose(choice(scores, kept, budget))) == highest(scores, budget)
    assert units(Soft().choose(choice(scores, kept, threshold=3))) == set(
        np.flatnonzero(scores >= 3)
    )


def test_what_the_modes_promise():
    assert (Hard.enforced, Hard.regrows) == (True, False)
    assert (Soft.enforced, Soft.regrows) == (False, True)
    for mode in (RigL(), SET(), Splice()):
        assert mode.enforced and mode.regrows
    assert RigL(batches=3).needs_gradient and RigL(batches=3).batches == 3
    assert not SET().needs_gradient and not Splice().needs_gradient
    assert RigL().needs_budget and SET().needs_budget and not Splice().needs_budget
    assert Splice().collects and not RigL().collects
    assert [m.restore for m in (RigL(), SET(), Splice())] == ["zero", "zero", "zero"]


# --- drop and grow -------------------------------------------------------------------------------


def exchange_oracle(scores, kept, growth, budget, share):
    """Drop the lowest of the kept, then grow the largest of all that did not survive."""
    alive = highest(np.where(kept, scores, -1.0), min(budget, int(kept.sum())))
    dropped = round(share * len(alive))
    survivors = highest([scores[i] if i in alive else -1.0 for i in range(len(scores))],
                        len(alive) - dropped)  # fmt: skip
    free = [-1.0 if i in survivors else growth[i] for i in range(len(scores))]
    return survivors | highest(free, budget - len(survivors))


# The 8 weights of jaxpruner's test of RigL: half are kept.
SCORES = np.array([0.5, 0.7, 0.1, 0.9, 0.0, 0.0, 0.0, 0.0])
KEPT = np.array([True, True, True, True, False, False, False, False])
GROWTH = np.array([0.1, 0.2, 0.3, 0.0, 0.4, 0.9, 0.8, 0.6])


@pytest.mark.parametrize(
    ("fraction", "wanted"),
    [
        (0.1, {0, 1, 2, 3}),  # 0.4 of a weight: none
        (0.25, {0, 1, 3, 5}),
        (0.5, {1, 3, 5, 6}),
        (0.75, {3, 5, 6, 7}),
        (1.0, {4, 5, 6, 7}),
    ],
)
def test_rigl_by_hand(fraction, wanted):
    keep = RigL(fraction).choose(choice(SCORES, KEPT, 4, growth=GROWTH))
    assert units(keep) == wanted
    assert units(keep) == exchange_oracle(SCORES, KEPT, GROWTH, 4, fraction)


def test_rigl_may_regrow_a_unit_that_it_has_just_dropped():
    growth = np.array([0.0, 0.0, 9.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    assert units(RigL(0.25).choose(choice(SCORES, KEPT, 4, growth=growth))) == {0, 1, 2, 3}
    assert units(RigL(0.5).choose(choice(SCORES, KEPT, 4, growth=growth))) == {1, 2, 3, 4}


@pytest.mark.parametrize("seed", seeds(30))
@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.5, 0.8, 1.0])
def test_rigl_against_the_oracle(seed, fraction):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    kept = rng.random(n) < 0.5
    scores = np.where(kept, rng.integers(1, 6, n), 0.0)
    growth = rng.integers(0, 6, n).astype(float)
    for budget in {1, max(1, int(kept.sum())), n // 2 or 1, n}:
        for progress in (0.0, 0.4, 1.0):
            mode = RigL(fraction)
            keep = mode.choose(choice(scores, kept, budget, growth=growth, progress=progress))
            share = fraction / 2 * (1 + math.cos(math.pi * progress))
            assert units(keep) == exchange_oracle(scores, kept, growth, budget, share)
            assert keep.sum() == budget  # the number kept does not change


@pytest.mark.parametrize("mode", [RigL(0.3, "constant"), SET(0.3)])
def test_the_number_kept_is_constant_over_many_updates(mode):
    rng = np.random.default_rng(0)
    kept, seen = np.arange(100) < 20, np.zeros(100, bool)
    for _ in range(30):
        scores = np.where(kept, rng.random(100), 0.0)
        keep = mode.choose(choice(scores, kept, 20, growth=rng.random(100), draw=rng.random))
        assert keep.sum() == 20
        assert (keep & kept).sum() >= 14  # no more than 6 of 20 are exchanged
        kept, seen = keep, seen | keep
    assert seen.sum() > 60  # most weights were kept at some time


def test_rigl_while_the_sparsity_still_rises_or_falls():
    fewer = RigL(0.5).choose(choice(SCORES, KEPT, 2, growth=GROWTH))
    assert units(fewer) == {3, 5}  # down to {1, 3}, then 1 is exchanged
    more = RigL(0.5).choose(choice(SCORES, KEPT, 6, growth=GROWTH))
    assert units(more) == {1, 3, 5, 6, 7, 4}


@pytest.mark.parametrize("progress", [-0.5, 0.0, 0.3, 1.0, 1.5])
def test_share(progress):
    inside = min(max(progress, 0.0), 1.0)
    assert RigL(0.3).share(progress) == pytest.approx(0.15 * (1 + math.cos(math.pi * inside)))
    assert RigL(0.3, "constant").share(progress) == 0.3
    assert SET(0.3).share(progress) == 0.3
    assert SET(0.3, "cosine").share(progress) == RigL(0.3).share(progress)


def test_at_the_end_of_the_cosine_nothing_is_exchanged():
    keep = RigL(1.0).choose(choice(SCORES, KEPT, 4, growth=GROWTH, progress=1.0))
    assert units(keep) == {0, 1, 2, 3}


@pytest.mark.parametrize("seed", seeds(20))
def test_set_grows_what_is_drawn(seed):
    drawn = np.random.default_rng(seed).random(8)
    asked = []
    keep = SET(0.5).choose(
        choice(SCORES, KEPT, 4, draw=lambda size: asked.append(size) or drawn.copy())
    )
    assert units(keep) == exchange_oracle(SCORES, KEPT, drawn, 4, 0.5)
    assert asked == [8]


def test_set_grows_everywhere_alike():
    counts = np.zeros(8)
    draw = np.random.default_rng(0).random
    for _ in range(3000):
        counts += SET(0.5).choose(choice(SCORES, KEPT, 4, draw=draw))
    assert counts[1] == counts[3] == 3000  # the survivors
    np.testing.assert_allclose(counts[[0, 2, 4, 5, 6, 7]], 1000, rtol=0.1)  # 2 of 6


def test_exchange_over_two_tensors_never_empties_one():
    # Joint ranking: the second tensor has the lowest scores and the smallest gradients.
    scores = [5.0, 6.0, 7.0, 8.0, 0.1, 0.2]
    growth = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    keep = RigL(0.5).choose(choice(scores, [True] * 6, 4, growth=growth, edges=[4], floors=[1, 1]))
    assert keep.sum() == 4
    assert keep[4:].sum() == 1


def test_exchange_moves_weights_between_tensors():
    scores = [1.0, 1.0, 1.0, 9.0, 9.0, 0.0, 0.0]
    kept = [True, True, True, True, True, False, False]
    growth = [0.0, 0.0, 0.0, 0.0, 0.0, 5.0, 5.0]
    keep = RigL(0.4).choose(choice(scores, kept, 5, growth=growth, edges=[3], floors=[1, 1]))
    assert units(keep) == {0, 3, 4, 5, 6}


def test_exchange_of_units_of_different_sizes_counts_weights():
    sizes = np.array([4, 4, 2, 2, 2, 2])
    scores, kept = [4.0, 3.0, 2.0, 1.0, 0.0, 0.0], [True, True, True, True, False, False]
    growth = [0.0, 0.0, 0.0, 0.0, 2.0, 3.0]
    # 12 weights are kept; a third of them, units 2 and 3, are dropped, and 4 and 5 come.
    keep = RigL(1 / 3).choose(choice(scores, kept, 12, growth=growth, sizes=sizes))
    assert units(keep) == {0, 1, 4, 5}
    assert sizes[keep].sum() == 12


# --- splice --------------------------------------------------------------------------------------


def surgery(margin, fraction=1.0):
    """Return the splice of the paper, in which only the margin keeps a unit from returning."""
    return Splice(margin, fraction, decay="constant", restore="previous")


def test_splice_with_a_threshold_has_two():
    scores = [0.99, 1.0, 1.05, 1.05, 1.11, 1.0]
    kept = [True, True, True, False, False, False]
    # Kept units go below 1; pruned ones return at 1.1.
    keep = surgery(0.1).choose(choice(scores, kept, threshold=1.0))
    assert units(keep) == {1, 2, 4}
    assert units(surgery(0.0).choose(choice(scores, kept, threshold=1.0))) == {1, 2, 3, 4, 5}
    # At most a third of three may return: the one with the highest score.
    assert units(surgery(0.0, 1 / 3).choose(choice(scores, kept, threshold=1.0))) == {1, 2, 4}


def test_splice_with_a_budget_keeps_the_exact_number():
    scores = np.array([3.0, 2.0, 1.0, 2.1, 2.5, 0.5])
    kept = np.array([True, True, True, False, False, False])
    # 2.1 is less than 10 % above 2; 2.5 is more, and takes the place of 1.
    assert units(surgery(0.1).choose(choice(scores, kept, 3))) == {0, 1, 4}
    assert units(surgery(0.0).choose(choice(scores, kept, 3))) == {0, 3, 4}
    assert units(surgery(9.0).choose(choice(scores, kept, 3))) == {0, 1, 2}
    assert units(surgery(0.0, 1 / 3).choose(choice(scores, kept, 3))) == {0, 1, 4}


def spliced(scores, kept, margin, most, budget=None, threshold=None):
    """Return what stays: of the pruned ones, no more than the `most` highest may return."""
    pruned = [-np.inf if k else s for s, k in zip(scores, kept, strict=True)]
    free = {i for i in highest(pruned, most) if not kept[i]}
    size = [
        s if k else s / (1 + margin) if i in free else -np.inf
        for i, (s, k) in enumerate(zip(scores, kept, strict=True))
    ]
    if threshold is not None:
        return {i for i, s in enumerate(size) if s >= threshold}
    return highest(size, budget)


@pytest.mark.parametrize("seed", seeds(20))
@pytest.mark.parametrize("margin", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("fraction", [1.0, 0.2])
def test_splice_against_the_oracle(seed, margin, fraction):
    rng = np.random.default_rng(seed)
    scores, kept = rng.random(30), rng.random(30) < 0.5
    most = round(fraction * int(kept.sum()))
    for budget in (1, 15, 30):
        keep = surgery(margin, fraction).choose(choice(scores, kept, budget))
        allowed = max(most, budget - int(kept.sum()))
        assert units(keep) == spliced(scores, kept, margin, allowed, budget)
        assert keep.sum() == budget
    keep = surgery(margin, fraction).choose(choice(scores, kept, threshold=0.5))
    assert units(keep) == spliced(scores, kept, margin, most, threshold=0.5)


def test_splice_returns_less_and_less_and_nothing_at_the_end():
    scores = np.concatenate([np.full(10, 1.0), np.full(10, 2.0)])
    kept = np.arange(20) < 10
    returned = [
        int(Splice(0.0, 0.4).choose(choice(scores, kept, 10, progress=p))[10:].sum())
        for p in (0.0, 0.5, 1.0)
    ]
    assert returned == [4, 2, 0]


@pytest.mark.parametrize("mode", [Soft(), RigL(), SET(), Splice()], ids=str)
def test_a_sparsity_that_falls_is_met_at_once(mode):
    scores, kept = np.linspace(1, 2, 20), np.arange(20) < 4
    for progress in (0.0, 1.0):
        keep = mode.choose(choice(scores, kept, 16, growth=scores, progress=progress))
        assert keep.sum() == 16


def test_splice_ignores_small_changes_of_the_scores():
    # Two weights differ by 5 %, and swap their order at every update. `Splice` exchanges none, `Soft` one.
    kept = {"splice": np.array([True, False]), "soft": np.array([True, False])}
    changes = {"splice": 0, "soft": 0}
    for step in range(20):
        scores = [1.0, 1.05] if step % 2 else [1.05, 1.0]
        for name in kept:
            keep = modes.get(name).choose(choice(scores, kept[name], 1))
            changes[name] += int(np.any(keep != kept[name]))
            kept[name] = keep
    assert changes == {"splice": 0, "soft": 19}


# --- one ranking over several tensors ------------------------------------------------------------


@pytest.mark.parametrize("mode", [Hard(), Soft(), RigL(), SET(), Splice()], ids=str)
@pytest.mark.parametrize("seed", seeds(10))
def test_joint_rankings_meet_the_budget_and_the_floors(mode, seed):
    rng = np.random.default_rng(seed)
    edges, n = [7, 12], 20
    kept = np.ones(n, bool)
    for budget in (18, 12, 6, 6):
        scores = rng.random(n) * (kept if mode.enforced and not mode.collects else 1)
        keep = mode.choose(
            choice(scores, kept, budget, growth=rng.random(n), edges=edges, floors=[2, 1, 1])
        )
        assert keep.sum() == budget
        assert all(
            part.sum() >= f for part, f in zip(np.split(keep, edges), [2, 1, 1], strict=True)
        )
        if not mode.regrows:
            assert not np.any(keep & ~kept)
        kept = keep


# --- bad arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [RigL, SET])
@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0, r"must be a fraction in \(0, 1\]\. Received: 0\."),
        (-0.1, r"Received: -0\.1\."),
        (1.5, r"Received: 1\.5\. For 1\.5 %, pass 0\.015"),
        (30, r"Received: 30\. For 30 %, pass 0\.3"),
        (float("nan"), r"Received: nan"),
        (True, r"Received: True"),
        ("0.3", r"Received: '0\.3'"),
        (None, r"Received: None"),
    ],
)
def test_bad_fraction(make, fraction, text):
    with pytest.raises(InvalidArgumentError, match=f"`fraction` .*{text}"):
        make(fraction)


def test_good_fractions():
    assert RigL(1).fraction == 1.0
    assert RigL(np.float32(0.5)).get_config()["fraction"] == 0.5
    assert type(RigL(np.float32(0.5)).fraction) is float


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf"), True, "0.1", None])
def test_bad_margin(margin):
    with pytest.raises(
        InvalidArgumentError, match=r"`margin` must be a non-negative number.*Received"
    ):
        Splice(margin)


@pytest.mark.parametrize("make", [RigL, SET, Splice])
@pytest.mark.parametrize("restore", ["zeros", "", None, 0])
def test_bad_restore(make, restore):
    with pytest.raises(
        InvalidArgumentError, match=r"`restore` must be one of .*'initializer'.* Received: "
    ):
        make(restore=restore)


@pytest.mark.parametrize("make", [RigL, SET])
def test_bad_decay(make):
    with pytest.raises(
        InvalidArgumentError,
        match=r"`decay` must be .*'cosin'\. Did you mean 'cosine'",
    ):
        make(decay="cosin")


@pytest.mark.parametrize("batches", [0, -1, True, 1.0, "1", None])
def test_bad_batches(batches):
    with pytest.raises(InvalidArgumentError, match=r"`batches` must be a positive int\. Received"):
        RigL(batches=batches)


@pytest.mark.parametrize("seed", [-1, 0.5, True, "0", None])
def test_bad_seed(seed):
    with pytest.raises(InvalidArgumentError, match=r"`seed` must be a non-negative int\. Received"):
        SET(seed=seed)


def test_rigl_needs_a_gradient():
    with pytest.raises(InvalidArgumentError, match=r"RigL\(.*\) needs gradients .* `gradients=`"):
        RigL().choose(choice(SCORES, KEPT, 4))


def test_get():
    for name, cls in (
        ("hard", Hard),
        ("soft", Soft),
        ("rigl", RigL),
        ("set", SET),
        ("splice", Splice),
    ):
        assert modes.get(name) == cls()
    with pytest.raises(InvalidArgumentError, match=r"Unknown mode 'rigel'\. Did you mean 'rigl'"):
        modes.get("rigel")
    with pytest.raises(ArgumentTypeError, match=r"Write `RigL\(\.\.\.\)`"):
        modes.get(RigL)


def test_base_class_is_abstract():
    with pytest.raises(NotImplementedError, match=r"^$"):
        Mode().choose(choice([1.0], budget=1))
