"""Budgets are met, and the constraints on group sizes hold."""

import functools
import warnings

import keras
import numpy as np
import pytest
from architectures import ARCHITECTURES
from keras import layers

from keras_ganprune.applications import networks
from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.pruning.structured import channel_groups
from keras_ganprune.pruning.structured.budget import Budget, fit, get
from keras_ganprune.pruning.structured.budget_search import TOLERANCE
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.pruning.structured.rebuild import Builder

NETWORKS = {
    "dcgan": lambda: networks.dcgan((28, 28, 1))[0],
    "discriminator": lambda: networks.dcgan((28, 28, 1))[1],
    "unet": ARCHITECTURES["unet_pix2pix"],
    "cyclegan": ARCHITECTURES["cyclegan_resnet_generator"],
}
QUANTITIES = Costs.QUANTITIES
RANKINGS = ("uniform", "global")


@functools.cache
def case(name):
    """Return groups, costs and scores of a network; nothing in a test changes them."""
    groups = channel_groups(NETWORKS[name]())
    rng = np.random.default_rng(len(name))
    scores = [rng.random(group.size) * rng.uniform(0.1, 10) for group in groups]
    return groups, Costs(groups), scores


def share(name, quantity, keeps):
    costs = case(name)[1]
    return costs.of(quantity, keeps) / costs.of(quantity)


def chain(*units, inputs=8, outputs=2):
    return channel_groups(
        keras.Sequential(
            [
                keras.Input((inputs,)),
                *(layers.Dense(n, use_bias=False, name=f"d{i}") for i, n in enumerate(units)),
                layers.Dense(outputs, use_bias=False, name="head"),
            ]
        )
    )


def sizes(keeps):
    return [int(keep.sum()) for keep in keeps]


# --- the budget --------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_budget_round_trip(quantity):
    budget = Budget(**{quantity: 0.25})
    assert (budget.quantity, budget.fraction) == (quantity, 0.25)
    assert repr(budget) == f"Budget({quantity}=0.25)"
    assert Budget.from_config(budget.get_config()) == budget
    assert budget != Budget(**{quantity: 0.5})
    assert hash(budget) == hash(Budget(**{quantity: 0.25}))
    config = keras.saving.serialize_keras_object(budget)
    for identifier in (budget, config, {quantity: 0.25}):
        assert get(identifier) == budget
    assert type(Budget(**{quantity: np.float32(1)}).fraction) is float


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "exactly one of `macs`, `parameters`, `bytes` and `latency`. Received: none"),
        ({"macs": 0.5, "bytes": 0.5}, "exactly one"),
        ({"macs": 25}, r"`macs` must be a fraction in \(0, 1\]. Received: 25. For 25 %, pass 0.25"),
        ({"macs": "25%"}, r"`macs` must be a fraction in .* Received: '25%'"),
        ({"parameters": 0}, r"Received: 0\.$"),
        ({"parameters": 0.0}, r"Received: 0.0\.$"),
        ({"bytes": -0.5}, "`bytes` must be a fraction"),
        ({"bytes": float("nan")}, "Received: nan"),
        ({"bytes": True}, "Received: True"),
        ({"macs": 250}, r"Received: 250\.$"),
        ({"macs": [0.5]}, "Received: "),
    ],
)
def test_invalid_budgets(arguments, text):
    with pytest.raises(InvalidArgumentError, match=text):
        Budget(**arguments)


def test_get_errors():
    with pytest.raises(InvalidArgumentError, match=r"Unknown quantity 'mac'.*Did you mean 'macs'"):
        get({"mac": 0.5})
    with pytest.raises(TypeError, match="The budget must be"):
        get(0.5)
    with pytest.raises(InvalidArgumentError, match="exactly one of"):
        get("budget")


# --- budgets are met ---------------------------------------------------------------------------------


# By default all fractions of the DCGAN, and one of each other network.
BUDGETS = [
    pytest.param(
        name, fraction, marks=() if name == "dcgan" or fraction == default else pytest.mark.full
    )
    for name, default in (("dcgan", None), ("unet", 0.25), ("cyclegan", 1 / 16))
    for fraction in (0.75, 0.5, 0.25, 1 / 16)
]


@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize(("name", "fraction"), BUDGETS)
def test_within_two_percent(name, quantity, ranking, fraction):
    groups, costs, scores = case(name)
    budget = Budget(**{quantity: fraction})
    if (name, quantity, fraction) == ("cyclegan", "macs", 1 / 16):
        # One channel of each group is more than that.
        with pytest.raises(InvalidArgumentError, match=r"has 0.0649 of them.*'conv2d"):
            fit(groups, scores, budget, ranking=ranking)
        return
    keeps = fit(groups, scores, budget, ranking=ranking, costs=costs)
    assert abs(share(name, quantity, keeps) / fraction - 1) <= TOLERANCE == 0.02
    for keep, score in zip(keeps, scores, strict=True):
        assert keep.dtype == bool and keep.any()
        assert keep.all() or score[keep].min() >= score[~keep].max()


@pytest.mark.parametrize("ranking", RANKINGS)
def test_the_network_that_is_built_costs_that(ranking):
    groups, _, scores = case("unet")
    keeps = fit(groups, scores, Budget(macs=0.3), ranking=ranking)
    small, _ = Builder(groups, keeps).build()
    dense, shrunk = Costs(groups), Costs(channel_groups(small))
    assert shrunk.macs() == dense.macs(keeps)
    assert shrunk.macs() / dense.macs() == pytest.approx(0.3, rel=0.02)
    keeps = fit(groups, scores, Budget(parameters=0.3), ranking=ranking)
    small, _ = Builder(groups, keeps).build()
    assert small.count_params() / groups.graph.model.count_params() == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "dcgan" else pytest.mark.full) for name in NETWORKS],
)
def test_a_larger_budget_costs_more(name, quantity, ranking):
    groups, costs, scores = case(name)
    found = [
        fit(groups, scores, Budget(**{quantity: f}), ranking=ranking, costs=costs)
        for f in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    ]
    shares = [share(name, quantity, keeps) for keeps in found]
    assert shares == sorted(shares) and len(set(shares)) == len(shares)
    assert all(keep.all() for keep in found[-1])


def test_uniform_by_hand():
    # One group: 8 n + 2 n, and the same again with 400.
    groups = chain(400)
    scores = [np.arange(400.0)]
    assert sizes(fit(groups, scores, Budget(macs=0.3011))) == [120]
    assert sizes(fit(groups, scores, Budget(macs=0.3014))) == [121]
    (keep,) = fit(groups, scores, Budget(macs=0.3))
    assert np.flatnonzero(keep).tolist() == list(range(280, 400))


def test_uniform_keeps_one_share():
    groups, _, scores = case("unet")
    keeps = fit(groups, scores, Budget(macs=0.5))
    shares = [keep.sum() / group.size for keep, group in zip(keeps, groups, strict=True)]
    # Each is within a channel or so of the same share.
    steps = [1.5 / group.size for group in groups]
    middle = np.median(shares)
    assert all(abs(s - middle) <= step for s, step in zip(shares, steps, strict=True))


def test_global_takes_from_where_scores_are_low():
    groups = chain(200, 200)
    flat = np.ones(200)
    steep = np.concatenate([np.full(100, 1.9), np.full(100, 0.1)])  # with the same mean
    # 1.9 before 1.0 before 0.1: scores are divided by the mean of their group.
    for fraction in (0.1, 0.25, 0.4):
        budget = Budget(parameters=fraction)
        first, second = fit(groups, [flat, 100 * steep], budget, ranking="global")
        assert abs(int(second.sum()) - 100) <= 1
        assert int(first.sum()) < 180
    uniform = fit(groups, [flat, 100 * steep], Budget(parameters=0.4), ranking="uniform")
    assert max(sizes(uniform)) - min(sizes(uniform)) <= 2


@pytest.mark.parametrize("ranking", RANKINGS)
def test_ties_go_to_the_lower_index(ranking):
    groups = chain(20, 20)
    for keep in fit(groups, [np.ones(20), np.ones(20)], Budget(macs=0.5), ranking=ranking):
        count = int(keep.sum())
        assert 0 < count < 20
        assert keep[:count].all()


@pytest.mark.parametrize("ranking", RANKINGS)
def test_scores_of_zero_or_infinity(ranking):
    groups = chain(20, 20)
    scores = [np.zeros(20), np.full(20, np.inf)]
    keeps = fit(groups, scores, Budget(macs=0.5), ranking=ranking)
    assert Costs(groups).macs(keeps) / Costs(groups).macs() == pytest.approx(0.5, rel=0.02)


# --- constraints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ranking", RANKINGS)
def test_minimum(ranking):
    groups, _, scores = case("unet")
    keeps = fit(groups, scores, Budget(parameters=0.1), ranking=ranking, minimum=4)
    assert min(sizes(keeps)) == 4
    assert share("unet", "parameters", keeps) == pytest.approx(0.1, rel=0.02)
    keeps = fit(groups, scores, Budget(parameters=0.3), ranking=ranking, minimum=0.5)
    assert all(k.sum() >= 0.5 * k.size for k in keeps)
    assert share("unet", "parameters", keeps) == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_round_to(ranking, quantity):
    groups = chain(100, 200, 50, inputs=64)
    scores = [np.random.default_rng(i).random(g.size) for i, g in enumerate(groups)]
    costs = Costs(groups)
    for fraction in (0.75, 0.5, 0.25):
        budget = Budget(**{quantity: fraction})
        keeps = fit(groups, scores, budget, ranking=ranking, round_to=8)
        assert all(keep.all() or keep.sum() % 8 == 0 for keep in keeps)
        assert costs.of(quantity, keeps) / costs.of(quantity) == pytest.approx(fraction, rel=0.02)


@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize(
    ("limits", "least"),
    [
        ({"d0": 0.25}, [75, 1, 1]),
        ({"d0/kernel": 0.25}, [75, 1, 1]),
        ({"d[01]": 0.0}, [100, 100, 1]),
        ({"re:d2$": 0.1}, [1, 1, 90]),
        # The first entry that matches counts.
        ({"d2": 0.9, "*": 0.3}, [70, 70, 10]),
    ],
)
def test_limits(ranking, limits, least):
    groups = chain(100, 100, 100)
    rng = np.random.default_rng(0)
    scores = [rng.random(100) for _ in groups]
    costs = Costs(groups)
    keeps = fit(groups, scores, Budget(parameters=0.55), ranking=ranking, limits=limits)
    assert all(n >= low for n, low in zip(sizes(keeps), least, strict=True))
    assert costs.parameters(keeps) / costs.parameters() == pytest.approx(0.55, rel=0.02)
    # The smallest network is what the limits leave.
    smallest = costs.parameters(least) / costs.parameters()
    budget = Budget(parameters=max(smallest, 0.001))
    assert sizes(fit(groups, scores, budget, ranking=ranking, limits=limits)) == least


def test_a_limit_holds_for_every_maker_of_a_group():
    x = keras.Input((4,))
    y = layers.Add()([layers.Dense(40, name="left")(x), layers.Dense(40, name="right")(x)])
    groups = channel_groups(keras.Model(x, layers.Dense(1)(y)))
    (keep,) = fit(groups, [np.ones(40)], Budget(macs=0.5), limits={"left": 0.9, "right": 0.5})
    assert keep.sum() == 20
    with pytest.raises(InvalidArgumentError, match=r"0.5000 of them, because `limits="):
        fit(groups, [np.ones(40)], Budget(macs=0.4), limits={"left": 0.9, "right": 0.5})


@pytest.mark.parametrize("ranking", RANKINGS)
def test_alive(ranking):
    groups, costs, scores = case("dcgan")
    first = fit(groups, scores, Budget(macs=0.6), ranking=ranking)
    # The removed units now have the highest scores, and stay removed.
    scores = [np.where(keep, score, 99.0) for keep, score in zip(first, scores, strict=True)]
    second = fit(groups, scores, Budget(macs=0.3), ranking=ranking, alive=first)
    assert all(not (later & ~earlier).any() for earlier, later in zip(first, second, strict=True))
    assert costs.macs(second) / costs.macs() == pytest.approx(0.3, rel=0.02)
    # A network below the budget is left as it is.
    third = fit(groups, scores, Budget(macs=0.6), ranking=ranking, alive=second)
    assert all(np.array_equal(a, b) for a, b in zip(second, third, strict=True))


# --- budgets that cannot be met -------------------------------------------------------------


def test_the_error_names_the_constraint():
    groups = chain(40, 40)
    scores = [np.ones(40)] * 2

    def smallest(text, **kwargs):
        with pytest.raises(InvalidArgumentError, match=text):
            fit(groups, scores, Budget(macs=0.1), **kwargs)

    # 8 * 20 + 20 * 20 + 20 * 2 of 2000; 16 of each: 416; 8 of each: 144.
    smallest(r"budget of 0.1 of the macs cannot.*0.3000 of them.*`minimum=20`", minimum=20)
    smallest(r"0.2080 of them, because `round_to=16`", round_to=16)
    smallest(r"0.3000 of them, because `limits={'\*': 0.5}`", limits={"*": 0.5})
    smallest(r"because `minimum=20` and `limits=.* together", minimum=20, limits={"*": 0.5})
    # 8 + 1 + 2: the channels of the head cannot go.
    with pytest.raises(InvalidArgumentError, match=r"0.0055 of them.*'head' \(they are those of"):
        fit(groups, scores, Budget(macs=0.001))


def test_the_smallest_is_taken_where_it_is_near_enough():
    groups = chain(40, 40)
    keeps = fit(groups, [np.ones(40)] * 2, Budget(macs=0.206), round_to=16)
    assert sizes(keeps) == [16, 16]  # 0.208


def test_coarse_channels_warn():
    # 1 of 3 channels, or 2.
    groups = chain(3)
    with pytest.warns(PruningWarning, match=r"0.5 of the macs, is missed by more than 2%.*0.\d{4}"):
        keeps = fit(groups, [np.ones(3)], Budget(macs=0.5))
    assert sizes(keeps) in ([1], [2])
    with pytest.warns(PruningWarning, match=r"in steps of 16 has 0.4000"):
        assert sizes(fit(chain(40), [np.ones(40)], Budget(macs=0.5), round_to=16)) == [16]


def test_all_sizes_are_tried_where_channels_are_few():
    groups = chain(5, 7, 3)
    costs = Costs(groups)
    grid = np.stack([a.ravel() for a in np.indices((5, 7, 3))]) + 1
    found = costs.at("macs", grid) / costs.macs()
    for fraction in np.linspace(0.2, 0.9, 15):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PruningWarning)
            keeps = fit(groups, [np.ones(5), np.ones(7), np.ones(3)], Budget(macs=fraction))
        gap = abs(costs.macs(keeps) / costs.macs() - fraction)
        best = np.abs(found - fraction).min()
        assert gap <= max(best, 0.02 * fraction) + 1e-12


def test_a_layer_that_is_not_counted_warns():
    class Mixer(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], shape[-1]), name="w")

        def call(self, x):
            return x @ self.w

    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(400),
            layers.Dense(6),
            Mixer(name="mixer"),
            layers.Dense(2),
        ]
    )
    groups = channel_groups(model, keep="mixer")
    scores = [np.ones(group.size) for group in groups]
    with pytest.warns(
        PruningWarning,
        match=r"the MACs of 'mixer' \(Mixer\), which are not known.*`kgp\.register_macs`",
    ):
        fit(groups, scores, Budget(macs=0.5))
    with pytest.raises(InvalidArgumentError, match=r"The MACs of 'mixer' \(Mixer\) are not known"):
        with pytest.warns(PruningWarning):
            fit(groups, scores, Budget(macs=0.001))
    fit(groups, scores, Budget(parameters=0.5))


def test_a_network_without_channels():
    groups = channel_groups(keras.Sequential([keras.Input((8,)), layers.Dense(2)]))
    with pytest.raises(InvalidArgumentError, match="no channels that could be removed"):
        fit(groups, [], Budget(macs=0.5))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"ranking": "local"},
            r"`ranking` must be one of \('uniform', 'global', 'isomorphic'\)\. Received: 'local'",
        ),
        ({"minimum": 0}, "`minimum`"),
        ({"minimum": 1.5}, "`minimum`"),
        ({"round_to": 0}, "`round_to` must be a positive int"),
        ({"round_to": True}, "`round_to`"),
        ({"limits": 0.5}, "`limits` must be a dict"),
        ({"limits": {"d0": 1.0}}, r"`limits\['d0'\]`.*in \[0, 1\). Received: 1.0"),
        ({"limits": {"d0": "half"}}, "Received: 'half'"),
        ({"limits": {"d9": 0.5}}, r"(?s)Unknown layer in `limits`: 'd9'.*Known: d0, d1"),
        ({"limits": {"re:(": 0.5}}, "not a regular expression"),
        ({"scores": [np.ones(40)]}, r"`scores` must be one number array per group"),
        ({"scores": [np.ones(40), np.ones(39)]}, r"of the shapes \[\(40,\), \(40,\)\]"),
        ({"scores": [np.full(40, np.nan)] * 2}, "Received: NaN"),
        ({"alive": [np.ones(40)] * 2}, "`alive` must be one bool array per group"),
    ],
)
def test_arguments(arguments, text):
    arguments = {"scores": [np.ones(40)] * 2, "budget": Budget(macs=0.5), **arguments}
    with pytest.raises(InvalidArgumentError, match=text):
        fit(chain(40, 40), **arguments)


@pytest.mark.full
def test_large_networks_take_seconds():
    # 37 groups and thousands of channels: a search that builds networks would take hours.
    groups = channel_groups(keras.applications.ResNet50V2(weights=None, input_shape=(32, 32, 3)))
    scores = [np.random.default_rng(i).random(g.size) for i, g in enumerate(groups)]
    costs = Costs(groups)
    for ranking in RANKINGS:
        keeps = fit(groups, scores, Budget(macs=0.25), ranking=ranking, costs=costs)
        assert costs.macs(keeps) / costs.macs() == pytest.approx(0.25, rel=0.001)
