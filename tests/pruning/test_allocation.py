"""Allocations: one total sparsity over several tensors."""

import re

import keras
import numpy as np
import pytest
from seeds import seeds

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning import allocation
from keras_ganprune.pruning.allocation import (
    ERK,
    Allocation,
    GlobalRanking,
    PerLayer,
    Ranking,
    Tensor,
    Uniform,
)


def tensor(name, shape, unit_size=1, units=None):
    """Return a tensor of single weights, or of units of one size (None: of several sizes)."""
    units = units or int(np.prod(shape)) // unit_size
    return Tensor(f"{name}/kernel", name, tuple(shape), units, unit_size)


def tensors(**shapes):
    return [tensor(name, shape) for name, shape in shapes.items()]


def keeps(rankings):
    return [ranking.keep for ranking in rankings]


def kept(size, sparsity):
    return max(1, round(size * (1 - sparsity)))


def random_tensors(seed, most=7):
    """Return up to `most` tensors, from a single weight to a small convolution."""
    rng = np.random.default_rng(seed)
    shapes = [
        tuple(rng.integers(1, 9, size=rng.integers(1, 5)).tolist())
        for _ in range(rng.integers(1, most + 1))
    ]
    return [tensor(f"layer{i}", shape) for i, shape in enumerate(shapes)]


# The tensors of jaxpruner's own tests.
JAXPRUNER = tensors(a=(2, 4), b=(3, 6), c=(2, 4, 6))

EVERY = [
    Uniform(),
    ERK(),
    ERK(power=0.5),
    GlobalRanking(),
    PerLayer({"layer0": 0.0}),
]


# --- uniform -------------------------------------------------------------------------------------


def test_uniform_counts_each_tensor_alone():
    found = Uniform().rankings(tensors(a=(5,), b=(2, 2), c=(1,), d=(3,)), 0.5, 0.5)
    assert keeps(found) == [2, 2, 1, 2]  # half to even, and at least one
    assert [r.members for r in found] == [(0,), (1,), (2,), (3,)]
    assert not any(r.in_weights for r in found)


@pytest.mark.parametrize("seed", seeds(40))
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9, 0.999])
def test_uniform_is_the_formula_of_the_design(seed, sparsity):
    layers = random_tensors(seed)
    assert keeps(Uniform().rankings(layers, sparsity, 0.9)) == [
        kept(t.size, sparsity) for t in layers
    ]


def test_uniform_counts_units_not_weights():
    layers = [tensor("a", (3, 3, 4, 8), 36), tensor("b", (10, 6), 10), tensor("c", (5, 5), None, 9)]
    found = Uniform().rankings(layers, 0.5, 0.5)
    assert keeps(found) == [4, 3, 4]
    assert not any(r.in_weights for r in found)


# --- ERK -----------------------------------------------------------------------------------------


def erk_oracle(shapes, density, power=1.0):
    """Return sparsities: densities eps * (sum / prod) ** power, where those above 1 become 1."""
    sizes = np.array([np.prod(s) for s in shapes], float)
    raw = np.array([(sum(s) / np.prod(s)) ** power for s in shapes])
    dense = np.zeros(len(shapes), bool)
    while True:
        eps = (density * sizes.sum() - sizes[dense].sum()) / (raw * sizes)[~dense].sum()
        over = ~dense & (raw * eps > 1)
        if not over.any():
            return np.where(dense, 0.0, 1 - eps * raw)
        dense[np.argmax(np.where(dense, 0, raw))] = True  # one at a time, the densest first


@pytest.mark.parametrize(
    ("power", "sparsity", "wanted"),
    [
        (1.0, 0.5, [0.0, 0.31, 0.655]),
        (2.0, 0.5, [0.0, 0.033, 0.758]),
        # jaxpruner rounds the zeros of each tensor down before it sums: 6, 14 and 38 of 59.2 at 0.8.
        (1.0, (6 + 14 + 38) / 74, [0.556, 0.704, 0.852]),
        (0.0, 0.5, [0.5, 0.5, 0.5]),
    ],
    ids=["power 1", "power 2", "0.8", "power 0 is uniform"],
)
def test_erk_numbers_of_jaxpruner(power, sparsity, wanted):
    found = ERK(power=power).sparsities(JAXPRUNER, sparsity, sparsity)
    np.testing.assert_allclose(found, wanted, atol=5e-4)


def test_erk_of_matrices_is_erdos_renyi():
    # (in + out) / (in * out), as in sparse evolutionary training: with two axes it is the same.
    layers = tensors(a=(2, 4), b=(3, 6), c=(4, 6))
    raw = np.array([6 / 8, 9 / 18, 10 / 24])
    eps = 0.3 * (8 + 18 + 24) / (6 + 9 + 10)
    np.testing.assert_allclose(ERK().sparsities(layers, 0.7, 0.7), 1 - eps * raw, rtol=1e-12)


def test_the_variant_without_kernel_axes_is_another_formula():
    # jaxpruner can use only the last two axes of c(2, 4, 6). No power gives its numbers: the densities of
    # `a` and `b` need power 1, and with power 1 that of `c` depends on its first axis too.
    found = 1 - np.array(ERK().sparsities(tensors(a=(2, 4), b=(3, 6), c=(2, 4, 6)), 0.7, 0.7))
    assert found[0] / found[1] == pytest.approx((1 - 0.207) / (1 - 0.471), abs=2e-3)
    assert found[2] / found[1] == pytest.approx(0.5)
    assert (1 - 0.56) / (1 - 0.471) == pytest.approx(0.83, abs=0.01)


class ErdosRenyi(ERK):
    """An allocation of a user: ERK by the last two axes."""

    def sparsities(self, tensors, sparsity, final):
        sizes = np.array([t.size for t in tensors])
        raw = np.array([sum(t.shape[-2:]) / np.prod(t.shape[-2:]) for t in tensors])
        eps = (1 - sparsity) * sizes.sum() / (raw * sizes).sum()
        return list(1 - eps * raw)


def test_a_subclass_changes_only_the_densities():
    found = ErdosRenyi().sparsities(JAXPRUNER, 0.5, 0.5)
    np.testing.assert_allclose(found, [0.207, 0.471, 0.56], atol=1e-3)
    assert (
        sum(keeps(ErdosRenyi().rankings(JAXPRUNER, 0.5, 0.5))) == 37
    )  # rounding and total as in the base class


@pytest.mark.parametrize("seed", seeds(60))
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_erk_against_the_oracle(seed, power):
    layers = random_tensors(seed)
    sparsity = np.random.default_rng(seed + 1).uniform(0.05, 0.98)
    found = np.array(ERK(power).sparsities(layers, sparsity, sparsity))
    wanted = erk_oracle([t.shape for t in layers], 1 - sparsity, power)
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    sizes = np.array([t.size for t in layers])
    assert found.min() >= 0 and found.max() < 1
    assert (found * sizes).sum() == pytest.approx(sparsity * sizes.sum())


def test_erk_total_is_exact_after_rounding():
    # Rounded tensor by tensor, 300 random networks often miss their total.
    missed = 0
    for seed in range(300):
        layers = random_tensors(seed, most=12)
        rng = np.random.default_rng(seed)
        sparsity = float(rng.uniform(0, 0.9))
        shares = ERK().sparsities(layers, sparsity, sparsity)
        found = ERK().rankings(layers, sparsity, sparsity)
        total = sum(t.size for t in layers)
        least = len(layers)  # one weight of each
        assert sum(keeps(found)) == max(kept(total, sparsity), least), seed
        for ranking, layer, share in zip(found, layers, shares, strict=True):
            assert 1 <= ranking.keep <= layer.size
            # The share of ERK rounded up or down, or one more for the total.
            assert abs(ranking.keep - layer.size * (1 - share)) < 2 or ranking.keep == 1
        missed += sum(kept(t.size, s) for t, s in zip(layers, shares, strict=True)) != sum(
            keeps(found)
        )
    assert missed > 50


def test_erk_makes_saturating_tensors_dense():
    layers = tensors(tiny=(1, 2), small=(2, 3), large=(64, 64))
    found = ERK().rankings(layers, 0.2, 0.2)
    assert keeps(found) == [2, 6, kept(2 + 6 + 4096, 0.2) - 8]
    assert ERK().sparsities(layers, 0.2, 0.2)[:2] == [0.0, 0.0]
    assert ERK().sparsities(layers, 0.0, 0.8) == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)


def test_erk_larger_tensors_are_sparser():
    layers = tensors(a=(8, 8), b=(16, 16), c=(64, 64))
    found = ERK().sparsities(layers, 0.8, 0.8)
    assert found == sorted(found)
    steeper = ERK(power=2).sparsities(layers, 0.8, 0.8)
    assert steeper[-1] > found[-1]


def test_erk_of_channels_counts_units():
    layers = [tensor("a", (3, 3, 4, 8), 36), tensor("b", (3, 3, 8, 16), 72)]
    shares = ERK().sparsities(layers, 0.5, 0.5)
    assert keeps(ERK().rankings(layers, 0.5, 0.5)) == [kept(8, shares[0]), kept(16, shares[1])]


@pytest.mark.parametrize("power", [-1, np.inf, np.nan, "1", True, None])
def test_erk_rejects_a_bad_power(power):
    with pytest.raises(InvalidArgumentError, match="`power` must be a non-negative number"):
        ERK(power=power)


# --- global ranking ------------------------------------------------------------------------------


def test_global_is_one_ranking_of_all():
    found = GlobalRanking().rankings(tensors(w=(4,), w2=(2,)), 0.5, 0.5)
    assert found == [Ranking((0, 1), keep=3, in_weights=False, wanted=3)]
    assert GlobalRanking.joint and not Uniform.joint and not ERK.joint and not PerLayer.joint


@pytest.mark.parametrize("seed", seeds(40))
@pytest.mark.parametrize("sparsity", [0.0, 0.37, 0.5, 0.95])
def test_global_total_is_exact(seed, sparsity):
    layers = random_tensors(seed)
    (found,) = GlobalRanking().rankings(layers, sparsity, sparsity)
    total = sum(t.size for t in layers)
    assert found.wanted == kept(total, sparsity)
    assert found.keep == max(kept(total, sparsity), len(layers))


def test_global_counts_units_where_all_are_of_one_size():
    layers = [tensor("a", (4, 8), 4), tensor("b", (4, 16), 4)]
    assert GlobalRanking().rankings(layers, 0.5, 0.5) == [Ranking((0, 1), 12, False, 12)]


@pytest.mark.parametrize(
    "layers",
    [
        [tensor("a", (4, 8), 4), tensor("b", (8, 16), 8)],
        [tensor("a", (5, 32), None, 24)],
        [tensor("a", (5, 32), None, 24), tensor("b", (4, 4), 4)],
    ],
    ids=["two sizes", "one ragged tensor", "ragged and whole"],
)
def test_global_counts_weights_where_units_differ(layers):
    (found,) = GlobalRanking().rankings(layers, 0.75, 0.75)
    assert found.in_weights
    assert found.keep == kept(sum(t.size for t in layers), 0.75)


@pytest.mark.parametrize(
    ("normalize", "scale"),
    [
        (None, lambda s: 1.0),
        ("mean", lambda s: np.mean(np.abs(s))),
        ("rms", lambda s: np.sqrt(np.mean(s**2))),
        ("l2", lambda s: np.sqrt(np.sum(s**2))),
    ],
)
def test_normalize_against_the_oracle(normalize, scale):
    scores = np.random.default_rng(0).uniform(0, 3, 50).astype(np.float32)
    found = GlobalRanking(normalize=normalize).normalize(scores)
    np.testing.assert_allclose(found, scores / scale(scores.astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize("normalize", ["mean", "rms", "l2"])
def test_normalize_keeps_the_order_and_infinite_scores(normalize):
    rule = GlobalRanking(normalize=normalize)
    found = rule.normalize(np.array([2.0, np.inf, 4.0, -np.inf]))
    scale = {"mean": 3.0, "rms": np.sqrt(10.0), "l2": np.sqrt(20.0)}[normalize]
    np.testing.assert_allclose(found, [2 / scale, np.inf, 4 / scale, -np.inf])
    np.testing.assert_array_equal(rule.normalize(np.zeros(3)), np.zeros(3))
    np.testing.assert_array_equal(rule.normalize(np.array([np.inf])), [np.inf])


@pytest.mark.parametrize("rule", [Uniform(), ERK(), PerLayer({"a": 0.5})])
def test_other_allocations_do_not_change_scores(rule):
    scores = np.array([1.0, 3.0])
    assert rule.normalize(scores) is scores


@pytest.mark.parametrize("normalize", ["max", "", 0, True])
def test_global_rejects_other_norms(normalize):
    with pytest.raises(
        InvalidArgumentError, match=r"must be one of \(None, 'mean', 'rms', 'l2'\)\. Received: "
    ):
        GlobalRanking(normalize=normalize)


# --- floors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minimum", "units", "floor"),
    [(1, 40, 1), (5, 40, 5), (5, 3, 3), (0.1, 40, 4), (0.1, 41, 5), (0.1, 3, 1), (0.99, 7, 7)],
)
def test_floor_is_units_or_a_share_of_them(minimum, units, floor):
    for rule in (Uniform(minimum), ERK(minimum=minimum), GlobalRanking(minimum=minimum)):
        assert rule.floor(units) == floor


def test_floors_are_kept_and_the_count_without_them_is_returned():
    layers = tensors(a=(4,), b=(10, 10))
    assert Uniform(minimum=3).rankings(layers, 0.9, 0.9) == [
        Ranking((0,), 3, wanted=1),
        Ranking((1,), 10, wanted=10),
    ]
    assert GlobalRanking(minimum=30).rankings(layers, 0.9, 0.9) == [Ranking((0, 1), 34, wanted=10)]
    assert keeps(PerLayer({"a": 0.75}, minimum=2).rankings(layers, 0.75, 0.75)) == [2, 25]


def test_erk_takes_a_floor_from_the_other_tensors():
    layers = tensors(a=(20, 20), b=(30, 30))
    plain, raised = (keeps(ERK(minimum=m).rankings(layers, 0.9, 0.9)) for m in (1, 60))
    assert sum(plain) == sum(raised) == 130
    assert plain[0] < 60 == raised[0]
    over = ERK(minimum=100).rankings(layers, 0.9, 0.9)
    assert keeps(over) == [100, 100]
    assert sum(r.wanted for r in over) == 130  # so that the pruner can report the difference


@pytest.mark.parametrize("minimum", [0, -1, 0.0, 1.0, 1.5, np.nan, True, "1", None])
@pytest.mark.parametrize(
    "make", [Uniform, GlobalRanking, ERK, lambda minimum: PerLayer({"a": 0.5}, minimum=minimum)]
)
def test_bad_minimum(make, minimum):
    with pytest.raises(
        InvalidArgumentError, match=r"must be a positive int \(units\) or a float in"
    ):
        make(minimum=minimum)


def test_minimum_of_numpy_is_a_plain_number():
    assert Uniform(np.int64(3)).get_config() == {"minimum": 3}
    assert type(Uniform(np.int64(3)).minimum) is int
    assert type(Uniform(np.float32(0.5)).minimum) is float


# --- layer by layer ------------------------------------------------------------------------------

NET = [
    tensor("gen/stem", (10, 20)),
    tensor("gen/up_1", (3, 3, 4, 5)),
    tensor("gen/up_2", (3, 3, 4, 5)),
    tensor("gen/image", (3, 3, 5, 2)),
]


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ({"stem": 0.9}, [0.9, None, None, None]),
        ({"gen/stem": 0.9}, [0.9, None, None, None]),
        ({"gen/stem/kernel": 0.9}, [0.9, None, None, None]),
        ({"up_*": 0.8}, [None, 0.8, 0.8, None]),
        ({"*/image": 0.0}, [None, None, None, 0.0]),
        ({"re:up_[12]$": 0.8}, [None, 0.8, 0.8, None]),
        ({re.compile(r"up_\d"): 0.8}, [None, 0.8, 0.8, None]),
        ({re.compile("UP_", re.IGNORECASE): 0.8}, [None, 0.8, 0.8, None]),
        ({"up_1": 0.5, "up_*": 0.8}, [None, 0.5, 0.8, None]),  # the first that matches
        ({"up_*": 0.8, "up_1": 0.5}, [None, 0.8, 0.8, None]),
        ({"*": 0.7}, [0.7, 0.7, 0.7, 0.7]),
    ],
    ids=str,
)
def test_per_layer_rules(rules, wanted):
    found = PerLayer(rules).sparsities(NET, 0.7, 0.7)
    named = [f for f, w in zip(found, wanted, strict=True) if w is not None]
    rest = [f for f, w in zip(found, wanted, strict=True) if w is None]
    assert named == [w for w in wanted if w is not None]
    assert len(set(rest)) <= 1  # the others have the same sparsity
    sizes = [t.size for t in NET]
    assert np.dot(found, sizes) == pytest.approx(0.7 * sum(sizes))


@pytest.mark.parametrize("seed", seeds(40))
def test_per_layer_total_is_met_by_the_others(seed):
    rng = np.random.default_rng(seed)
    layers = [*random_tensors(seed), tensor("rest", (40, 40))]
    rules = {f"layer{i}": float(rng.uniform(0, 0.9)) for i in range(len(layers) - 1)}
    rule = PerLayer(rules)
    rule.check(layers, 0.6)
    found = rule.sparsities(layers, 0.6, 0.6)
    np.testing.assert_allclose(found[:-1], list(rules.values()))
    assert np.dot(found, [t.size for t in layers]) == pytest.approx(
        0.6 * sum(t.size for t in layers)
    )
    total = sum(keeps(rule.rankings(layers, 0.6, 0.6)))
    # Each tensor rounds its own share.
    assert abs(total - 0.4 * sum(t.size for t in layers)) <= len(layers)


def test_per_layer_scales_on_the_way():
    rule = PerLayer({"stem": 0.9, "image": 0.0})
    end = rule.sparsities(NET, 0.8, 0.8)
    for now in (0.0, 0.2, 0.4, 0.8):
        found = rule.sparsities(NET, now, 0.8)
        np.testing.assert_allclose(found, np.array(end) * now / 0.8, atol=1e-11)
        assert np.dot(found, [t.size for t in NET]) == pytest.approx(now * sum(t.size for t in NET))
    assert rule.sparsities(NET, 0.0, 0.0) == [0.0] * 4


def test_per_layer_never_removes_a_whole_tensor():
    # A schedule may pass its end on the way.
    found = PerLayer({"stem": 0.99}).sparsities(NET, 0.6, 0.5)
    assert max(found) < 1
    assert keeps(PerLayer({"stem": 0.99}).rankings(NET, 0.6, 0.5))[0] == 1


@pytest.mark.parametrize(
    ("rules", "total", "text"),
    [
        (
            {"stm": 0.5},
            0.5,
            r"Unknown layer in `sparsities`: 'stm'\. Did you mean 'stem'\?\nKnown: image, stem",
        ),
        ({"gen/stam": 0.5}, 0.5, r"Unknown layer .* 'gen/stam'\. Did you mean 'gen/stem'"),
        ({"stem": 0.5, "re:^down": 0.5}, 0.5, r"Unknown layer in `sparsities`: 're:\^down'"),
        (
            {"stem": 0.0, "up_*": 0.1},
            0.9,
            r"cannot meet the total of 0\.9: .* would need sparsity 6\.\d+\. "
            r"With these numbers the total can be from 0\.0554 to below 0\.1938",
        ),
        (
            {"up_*": 0.95},
            0.3,
            r"would need sparsity -0\.\d+\. .* from 0\.5262 to below 0\.9723",
        ),
        (
            {"*": 0.5},
            0.6,
            r"give a total of 0\.5000, which is not the requested 0\.6\. Request sparsity 0\.5000",
        ),
    ],
    ids=["unknown", "unknown path", "pattern", "too low", "too high", "all named"],
)
def test_per_layer_refuses_impossible_totals(rules, total, text):
    with pytest.raises(InvalidArgumentError, match=f"(?s){text}"):
        PerLayer(rules).check(NET, total)


def test_per_layer_takes_a_total_that_fits():
    for rules, total in (({"*": 0.5}, 0.5), ({"stem": 0.9}, 0.5), ({"stem": 0.9}, 0.3)):
        PerLayer(rules).check(NET, total)


@pytest.mark.parametrize("rules", [{}, None, [], "stem", 0.5, [("stem", 0.5)]])
def test_per_layer_needs_a_dict(rules):
    with pytest.raises(InvalidArgumentError, match="`sparsities` must be a dict of layer name"):
        PerLayer(rules)


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"stem": 80}, r"`sparsities\['stem'\]` must be .* Received: 80\. For 80 %, pass 0\.8"),
        ({"stem": 1.0}, r"Received: 1\.0\. At least one weight"),
        ({"stem": -0.1}, r"Received: -0\.1"),
        ({"stem": np.nan}, r"Received: nan"),
        ({"stem": "0.5"}, r"Received: '0\.5' \(of type str\)"),
        ({"stem": True}, r"Received: True \(of type bool\)"),
        ({3: 0.5}, r"A layer must be a name, a path .* Received: 3 \(of type int\)"),
        ({("a", "b"): 0.5}, r"Received: \('a', 'b'\) \(of type tuple\)"),
        ({"re:(": 0.5}, r"'re:\(' is not a regular expression: missing \)"),
        ({re.compile(b"stem"): 0.5}, r"must be a name, .* Received: re\.compile\(b'stem'\)"),
    ],
)
def test_per_layer_bad_entries(rules, text):
    with pytest.raises(InvalidArgumentError, match=text):
        PerLayer(rules)


@pytest.mark.parametrize(
    "pattern",
    [
        re.compile("UP_[12]", re.IGNORECASE),
        re.compile("(?i)UP_[12]"),
        re.compile("up_ [12]", re.VERBOSE),
        re.compile("(?x) UP_ [12]", re.IGNORECASE),
    ],
    ids=str,
)
def test_a_compiled_expression_keeps_its_flags_in_the_config(pattern):
    rule = PerLayer({pattern: 0.5})
    again = PerLayer.from_config(rule.get_config())
    assert again == rule
    assert again.sparsities(NET, 0.7, 0.7)[1:3] == [0.5, 0.5]
    again.check(NET, 0.7)


# --- family --------------------------------------------------------------------------------------


def test_get():
    assert allocation.get("uniform") == Uniform()
    assert allocation.get("erk") == ERK()
    assert allocation.get("global_ranking") == GlobalRanking()
    assert allocation.get({"up_*": 0.5}) == PerLayer({"up_*": 0.5})
    config = keras.saving.serialize_keras_object(PerLayer({"up_*": 0.5}, minimum=0.1))
    assert allocation.get(config) == PerLayer({"up_*": 0.5}, minimum=0.1)
    assert Uniform() != GlobalRanking()
    with pytest.raises(InvalidArgumentError, match=r"must be a dict .* Received: \{\}"):
        allocation.get({})
    with pytest.raises(InvalidArgumentError, match=r"For 80 %, pass 0\.8"):
        allocation.get({"up_1": 80})


@pytest.mark.parametrize("rule", EVERY, ids=str)
def test_every_allocation_keeps_at_least_one_weight_per_tensor(rule):
    for seed in range(20):
        layers = random_tensors(seed)
        if isinstance(rule, PerLayer) and len(layers) == 1:
            continue
        for sparsity in (0.0, 0.5):
            final = 0.5 * (1 - layers[0].size / sum(t.size for t in layers))
            found = rule.rankings(layers, min(sparsity, final), final)
            members = [i for r in found for i in r.members]
            assert members == list(range(len(layers)))  # every tensor in one ranking, in order
            assert all(r.keep >= len(r.members) for r in found)
            if sparsity == 0:
                assert sum(keeps(found)) == sum(t.size for t in layers)


def test_base_class_is_abstract():
    with pytest.raises(NotImplementedError, match=r"^$"):
        Allocation().rankings(tensors(a=(2,)), 0.5, 0.5)
    assert Allocation().check(tensors(a=(2,)), 0.5) is None
