"""Coupled channels in `Pruner` and in `Prune`: their masks against lists made by hand."""

import collections
import warnings

import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf
from cases import cases
from keras import layers
from keras.optimizers import SGD, Adam, AdamW
from networks import value

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError, PruningWarning, UnsupportedLayerError
from keras_ganprune.layers.traversal import prunable_layers
from keras_ganprune.pruning import compatibility
from keras_ganprune.pruning.structured.costs import Costs

# --- networks, and what goes together in them ----------------------------------------------------

# Rows of (path, axis, number of the channel at each place along it, or -1). `makers` have the scores;
# `means` are paths of normalizations and the channels at each place of their moving mean.
Group = collections.namedtuple("Group", "size makers rest means", defaults=((),))


def spread(size, times=1):
    return np.tile(np.arange(size), times)


def conv():
    x = keras.Input((8, 8, 1))
    y = layers.Conv2D(6, 3, name="a")(x)
    y = layers.ReLU()(layers.BatchNormalization(name="an")(y))
    y = layers.PReLU(shared_axes=[1, 2], name="p")(layers.Conv2D(5, 3, strides=2, name="b")(y))
    return keras.Model(x, layers.Dense(2, name="c")(layers.Flatten()(y)))


CONV = [
    Group(
        6,
        [("a/kernel", 3, spread(6))],
        [
            *[(name, 0, spread(6)) for name in ("a/bias", "an/gamma", "an/beta")],
            ("b/kernel", 2, spread(6)),
        ],
        [("an", spread(6))],
    ),
    Group(
        5,
        [("b/kernel", 3, spread(5))],
        [("b/bias", 0, spread(5)), ("p/alpha", 2, spread(5)), ("c/kernel", 0, spread(5, 2 * 2))],
    ),
]


def residual():
    x = keras.Input((6, 6, 1))
    y = layers.Conv2D(6, 3, padding="same", use_bias=False, name="a")(x)
    z = layers.Conv2D(4, 3, padding="same", name="b")(y)
    z = layers.ReLU()(layers.BatchNormalization(scale=False, name="bn")(z))
    y = layers.Add()([y, layers.Conv2D(6, 3, padding="same", name="c")(z)])
    return keras.Model(x, layers.Dense(2, name="d")(layers.GlobalAveragePooling2D()(y)))


RESIDUAL = [
    Group(
        6,
        [("a/kernel", 3, spread(6)), ("c/kernel", 3, spread(6))],
        [("b/kernel", 2, spread(6)), ("c/bias", 0, spread(6)), ("d/kernel", 0, spread(6))],
    ),
    Group(
        4,
        [("b/kernel", 3, spread(4))],
        [("b/bias", 0, spread(4)), ("bn/beta", 0, spread(4)), ("c/kernel", 2, spread(4))],
        [("bn", spread(4))],
    ),
]


def concatenated():
    x = keras.Input((6, 6, 1))
    y = layers.Concatenate()([layers.Conv2D(3, 3, name="a")(x), layers.Conv2D(5, 3, name="b")(x)])
    y = layers.BatchNormalization(name="n")(y)
    return keras.Model(x, layers.Conv2D(2, 1, name="c")(y))


def _part(name, size, places):
    return Group(
        size,
        [(f"{name}/kernel", 3, spread(size))],
        [
            (f"{name}/bias", 0, spread(size)),
            ("n/gamma", 0, places),
            ("n/beta", 0, places),
            ("c/kernel", 2, places),
        ],
        [("n", places)],
    )


CONCATENATED = [
    _part("a", 3, np.array([0, 1, 2, *[-1] * 5])),
    _part("b", 5, np.array([*[-1] * 3, 0, 1, 2, 3, 4])),
]


def stem():
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(7 * 7 * 4, use_bias=False, name="a"),
            layers.BatchNormalization(name="n"),
            layers.LeakyReLU(),
            layers.Reshape((7, 7, 4)),
            layers.Conv2DTranspose(3, 4, strides=2, padding="same", name="b"),
            layers.ReLU(),
            layers.Conv2D(1, 3, name="c"),
        ]
    )


STEM = [
    Group(
        4,
        [("a/kernel", 1, spread(4, 49))],
        [
            ("n/gamma", 0, spread(4, 49)),
            ("n/beta", 0, spread(4, 49)),
            ("b/kernel", 3, spread(4)),  # (h, w, out, in)
        ],
        [("n", spread(4, 49))],
    ),
    Group(3, [("b/kernel", 2, spread(3))], [("b/bias", 0, spread(3)), ("c/kernel", 2, spread(3))]),
]


def depthwise():
    x = keras.Input((6, 6, 1))
    y = layers.Conv2D(4, 1, name="a")(x)
    y = layers.DepthwiseConv2D(3, depth_multiplier=2, name="b")(y)
    y = layers.BatchNormalization(name="n")(y)
    return keras.Model(x, layers.Conv2D(2, 1, name="c")(y))


_PAIRS = np.repeat(np.arange(4), 2)  # two of each input channel, side by side
DEPTHWISE = [
    Group(
        4,
        [("a/kernel", 3, spread(4))],
        [
            ("a/bias", 0, spread(4)),
            ("b/kernel", 2, spread(4)),
            *[(name, 0, _PAIRS) for name in ("b/bias", "n/gamma", "n/beta")],
            ("c/kernel", 2, _PAIRS),
        ],
        [("n", _PAIRS)],
    )
]


def recurrent():
    return keras.Sequential(
        [
            keras.Input((5, 3)),
            layers.GRU(4, return_sequences=True, name="a"),
            layers.LSTM(5, name="b"),
            layers.Dense(2, name="c"),
        ]
    )


RECURRENT = [
    Group(
        size,
        [
            (f"{name}/cell.kernel", 1, spread(size, gates)),
            (f"{name}/cell.recurrent_kernel", 1, spread(size, gates)),
        ],
        [
            (f"{name}/cell.recurrent_kernel", 0, spread(size)),
            (f"{name}/cell.bias", bias, spread(size, gates)),
            (reader, 0, spread(size)),
        ],
    )
    # A GRU has two rows of biases.
    for name, size, gates, bias, reader in (
        ("a", 4, 3, 1, "b/cell.kernel"),
        ("b", 5, 4, 0, "c/kernel"),
    )
]


def attention():
    x = keras.Input((5, 4))
    y = layers.MultiHeadAttention(3, 2, name="a")(x, x)
    return keras.Model(x, layers.Dense(2, name="c")(y))


_QKV = ("a/_query_dense", "a/_key_dense", "a/_value_dense")
ATTENTION = [
    Group(
        3,
        [(f"{name}.kernel", 1, spread(3)) for name in _QKV],
        [
            *[(f"{name}.bias", 0, spread(3)) for name in _QKV],
            ("a/_output_dense.kernel", 0, spread(3)),
        ],
    ),
    Group(
        4,
        [("a/_output_dense.kernel", 2, spread(4))],
        [("a/_output_dense.bias", 0, spread(4)), ("c/kernel", 0, spread(4))],
    ),
]


def spectral():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.SpectralNormalization(layers.Conv2D(6, 3, name="inner"), name="a"),
            layers.LeakyReLU(),
            layers.Flatten(),
            layers.SpectralNormalization(layers.Dense(1, name="inner"), name="b"),
        ]
    )


SPECTRAL = [
    Group(
        6,
        [("a/inner/kernel", 3, spread(6))],
        [("a/inner/bias", 0, spread(6)), ("b/inner/kernel", 0, spread(6, 36))],
    )
]

NETWORKS = {
    "conv": (conv, CONV),
    "residual": (residual, RESIDUAL),
    "concat": (concatenated, CONCATENATED),
    "stem": (stem, STEM),
    "depthwise": (depthwise, DEPTHWISE),
    "recurrent": (recurrent, RECURRENT),
    "attention": (attention, ATTENTION),
    "spectral": (spectral, SPECTRAL),
}


def everything(model):
    """Return the masked weights of a model by path."""
    return {w.path: w for w in kgp.masked_weights(model)}


def values(model):
    return {path: np.array(value(w.variable)) for path, w in everything(model).items()}


def score(array, row, aggregate=np.sum):
    """Return the sum over each channel of what one weight has of it."""
    _, axis, places = row
    sums = np.moveaxis(array, axis, 0).reshape(len(places), -1).sum(axis=1, dtype=np.float64)
    return np.bincount(places[places >= 0], sums[places >= 0])


def l1(arrays, group, aggregate=np.sum):
    found = [score(np.abs(arrays[row[0]]), row) for row in group.makers]
    return aggregate(found, axis=0)


def best(scores, count):
    keep = np.zeros(len(scores), bool)
    keep[np.argsort(-np.asarray(scores), kind="stable")[:count]] = True  # ties by lower index
    return keep


def masks_of(groups, keeps, shapes):
    """Return the masks that keep these channels, by path."""
    found = {path: np.ones(shape, bool) for path, shape in shapes.items()}
    for group, keep in zip(groups, keeps, strict=True):
        for path, axis, places in (*group.makers, *group.rest):
            gone = (places >= 0) & ~keep[places]
            np.moveaxis(found[path], axis, 0)[gone] = False
    return found


def kept_of(groups, model):
    """Return which channels the masks of the makers keep, for each group."""
    have = everything(model)
    found = []
    for group in groups:
        keep = np.zeros(group.size, bool)
        for path, axis, places in group.makers:
            mask = np.moveaxis(value(have[path].mask), axis, 0).reshape(len(places), -1)
            np.logical_or.at(keep, places[places >= 0], mask.any(axis=1)[places >= 0])
        found.append(keep)
    return found


def assert_masks(model, groups, keeps):
    """Assert that the masks are those of these channels, that nothing else is masked, and the zeros."""
    have = everything(model)
    listed = {row[0] for group in groups for row in (*group.makers, *group.rest)}
    wanted = masks_of(groups, keeps, {path: tuple(have[path].mask.shape) for path in have})
    assert listed <= set(have)
    for path, weight in have.items():
        np.testing.assert_array_equal(value(weight.mask), wanted[path], path)
        np.testing.assert_array_equal(value(weight.variable) != 0, wanted[path], path)


def prune(model, **options):
    return kgp.Pruner(model, granularity=options.pop("granularity", "channel"), **options)


# --- masks ---------------------------------------------------------------------------------------


@cases((0.5,), "sparsity", [0.3, 0.5, 0.99])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_masks_are_those_of_whole_channels(name, sparsity):
    build, groups = NETWORKS[name]
    model = nets.filled(build())
    count, number = model.count_params(), len(model.weights)
    pruner = prune(model)
    before = values(model)
    means = {path: np.array(value(model.get_layer(path).moving_mean)) for path in ("n", "an", "bn")
             if any(path == row[0] for group in groups for row in group.means)}  # fmt: skip
    report = pruner.update(sparsity=sparsity)

    keeps = [best(l1(before, g), nets.kept_oracle(g.size, sparsity)) for g in groups]
    assert_masks(model, groups, keeps)
    assert [(row.kept, row.total) for row in report] == [
        (keep.sum(), group.size) for keep, group in zip(keeps, groups, strict=True)
    ]
    total, kept = sum(g.size for g in groups), sum(int(k.sum()) for k in keeps)
    assert report.achieved == pruner.sparsity == pruner.unit_sparsity(model) == 1.0 - kept / total
    assert report.counted == "channels"
    zeros = sum(int((~value(w.mask)).sum()) for w in kgp.masked_weights(model))
    assert report.newly_pruned == zeros > 0
    # Nothing is added to the model, and what stays is as it was.
    assert (model.count_params(), len(model.weights)) == (count, number)
    for path, weight in everything(model).items():
        mask = value(weight.mask)
        np.testing.assert_array_equal(value(weight.variable)[mask], before[path][mask])
    # A mean of what is zero is zero; the variance says nothing.
    for path, old in means.items():
        gone = np.zeros(len(old), bool)
        for group, keep in zip(groups, keeps, strict=True):
            for mean, places in group.means:
                if mean == path:
                    gone |= (places >= 0) & ~keep[places]
        layer = model.get_layer(path)
        np.testing.assert_array_equal(value(layer.moving_mean), np.where(gone, 0, old))
        assert np.all(value(layer.moving_variance) > 0)


def test_all_there_is_to_prune_is_named_and_counted_once():
    model = nets.filled(conv())
    pruner = prune(model)
    assert [row.path for row in pruner.update(sparsity=0.5)] == ["a/kernel", "b/kernel"]
    assert [w.path for w in pruner.ranked] == ["a/kernel", "b/kernel"]
    assert sorted(w.path for w in pruner.weights) == sorted(
        {row[0] for group in CONV for row in (*group.makers, *group.rest)}
    )
    assert pruner.remarks == [
        "c: its channels all stay, because they are those of the network's output"
    ]
    assert "2 groups of channels in 8 tensors, sparsity 0.5455" in repr(pruner)
    assert pruner.traced_steps_are_stale
    assert not prune(model).traced_steps_are_stale


def test_ties_go_to_the_lower_index():
    model = conv()
    for weight in model.trainable_weights:
        weight.assign(np.full(weight.shape, 0.5))
    prune(model).update(sparsity=0.5)
    assert_masks(model, CONV, [spread(6) < 3, spread(5) < 2])


def test_weights_that_are_all_zero_tie_too():
    model = conv()
    model.get_layer("a").kernel.assign(np.zeros((3, 3, 1, 6)))
    prune(model).update(sparsity=0.5)
    np.testing.assert_array_equal(kept_of(CONV, model)[0], spread(6) < 3)


def test_hard_masks_only_shrink():
    model = nets.filled(residual())
    pruner = prune(model)
    pruner.update(sparsity=0.3)
    first = kept_of(RESIDUAL, model)
    for weight in model.weights:  # other scores
        weight.assign(value(weight) * np.random.default_rng(1).uniform(0.1, 2.0, weight.shape))
    pruner.update(sparsity=0.6)
    second = kept_of(RESIDUAL, model)
    assert_masks(model, RESIDUAL, second)
    for one, other in zip(first, second, strict=True):
        assert not np.any(other & ~one)
        assert other.sum() == nets.kept_oracle(len(other), 0.6)
    with pytest.warns(PruningWarning, match=r"2 channels kept, not 4, of a/kernel.*never return"):
        pruner.update(sparsity=0.3)
    np.testing.assert_array_equal(kept_of(RESIDUAL, model)[0], second[0])


def test_an_error_leaves_all_as_it_was():
    model = nets.filled(residual())
    pruner = prune(model)
    model.get_layer("b").kernel.assign(np.full((3, 3, 6, 4), np.nan))
    with pytest.raises(kgp.errors.DivergedError, match="'b/kernel'"):
        pruner.update(sparsity=0.5)
    assert all(np.all(value(w.mask)) for w in kgp.masked_weights(model))


def test_each_kernel_by_itself():
    model = nets.filled(residual())
    pruner = prune(model, granularity=kgp.Channel(coupled=False))
    before = values(model)
    report = pruner.update(sparsity=0.5)
    # Kernels alone, `a` and `c` apart; `d` makes the output.
    assert [row.path for row in report] == ["a/kernel", "b/kernel", "c/kernel"]
    assert report.counted == "weights"
    for path in ("a/kernel", "b/kernel", "c/kernel"):
        sums = np.abs(before[path]).sum(axis=(0, 1, 2), dtype=np.float64)
        keep = best(sums, nets.kept_oracle(len(sums), 0.5))
        mask = value(everything(model)[path].mask)
        np.testing.assert_array_equal(mask, np.broadcast_to(keep, mask.shape))
    assert not pruner.coupled
    assert "tensors" in repr(pruner)


@pytest.mark.parametrize("aggregate", ["sum", "mean", "max"])
def test_the_scores_of_several_makers(aggregate):
    numpy = {"sum": np.sum, "mean": np.mean, "max": np.max}[aggregate]
    model = nets.filled(residual(), seed=4)
    # Weak in one and strong in the other, so that the three ways differ.
    model.get_layer("a").kernel.assign(np.full((3, 3, 1, 6), [1.0, 0.1, 0.5, 0.4, 0.45, 0.2]))
    model.get_layer("c").kernel.assign(np.full((3, 3, 4, 6), [0.01, 0.2, 0.1, 0.15, 0.1, 0.25]))
    pruner = prune(model, granularity=kgp.Channel(aggregate=aggregate))
    before = values(model)
    pruner.update(sparsity=0.5)
    keeps = [
        best(l1(before, RESIDUAL[0], numpy), 3),
        best(l1(before, RESIDUAL[1]), 2),
    ]
    assert_masks(model, RESIDUAL, keeps)
    by_hand = {"sum": [0, 3, 5], "mean": [0, 3, 5], "max": [0, 1, 5]}
    assert np.flatnonzero(keeps[0]).tolist() == by_hand[aggregate]


def dense(*units, inputs=5, outputs=3):
    model = [keras.Input((inputs,))]
    model += [layers.Dense(n, "relu", name=f"h{i}") for i, n in enumerate(units)]
    return nets.filled(keras.Sequential([*model, layers.Dense(outputs, name="out")]))


def kept(report):
    return [row.kept for row in report]


@pytest.mark.parametrize(
    ("sparsity", "counts"),
    # 12 of 24 is as near to 8 as to 16, and goes to the even number of steps; 6 is all there is.
    [(0.5, [16, 8, 6]), (0.7, [8, 8, 6]), (0.2, [16, 16, 6]), (0.99, [8, 8, 6])],
)
def test_channels_in_eights(sparsity, counts):
    model = dense(24, 20, 6)
    pruner = prune(model, granularity=kgp.Channel(round_to=8))
    before = values(model)
    assert kept(pruner.update(sparsity=sparsity)) == counts
    for i, count in enumerate(counts):
        sums = np.abs(before[f"h{i}/kernel"]).sum(axis=0, dtype=np.float64)
        mask = value(everything(model)[f"h{i}/bias"].mask)
        np.testing.assert_array_equal(mask, best(sums, count))


def test_channels_in_eights_go_step_by_step():
    model = dense(24, 20)
    pruner = prune(model, granularity=kgp.Channel(round_to=8))
    assert [kept(pruner.update(sparsity=s)) for s in (0.1, 0.3, 0.6, 0.9)] == [
        [24, 16],
        [16, 16],
        [8, 8],
        [8, 8],
    ]


def test_at_least_so_many_stay():
    model = dense(24, 6)
    pruner = prune(model, allocation=kgp.Uniform(minimum=4))
    with pytest.warns(PruningWarning, match=r"2 channels kept|4 channels kept, not 2"):
        report = pruner.update(sparsity=0.9)
    assert kept(report) == [4, 4]
    model = dense(24, 6)
    with pytest.warns(PruningWarning, match=r"at least `minimum`.*0.5 for Uniform"):
        assert kept(prune(model, allocation=kgp.Uniform(0.5)).update(sparsity=0.9)) == [12, 3]


def test_at_least_so_many_stay_in_steps():
    pruner = prune(dense(20), granularity=kgp.Channel(round_to=4), allocation=kgp.Uniform(5))
    with pytest.warns(PruningWarning, match="at least `minimum`"):
        assert kept(pruner.update(sparsity=0.9)) == [8]


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.8])
def test_one_ranking_over_all_groups(sparsity):
    model = dense(10, 20, 7)
    pruner = prune(model, allocation="global_ranking")
    before = values(model)
    report = pruner.update(sparsity=sparsity)
    sums = [np.abs(before[f"h{i}/kernel"]).sum(axis=0, dtype=np.float64) for i in range(3)]
    # The best of every group stays, whatever the others are.
    joint = np.concatenate([np.where(s == s.max(), np.inf, s) for s in sums])
    assert report.kept == nets.kept_oracle(37, sparsity)
    keep = best(joint, report.kept)
    found = np.concatenate([value(everything(model)[f"h{i}/bias"].mask) for i in range(3)])
    np.testing.assert_array_equal(found, keep)


def test_one_ranking_over_two_networks():
    pair = nets.filled(conv()), nets.filled(residual(), seed=3)
    pruner = kgp.Pruner(
        *pair, granularity="channel", allocation=kgp.GlobalRanking(normalize="mean")
    )
    report = pruner.update(sparsity=0.5)
    assert report.kept == nets.kept_oracle(6 + 5 + 6 + 4, 0.5)
    for model, groups in zip(pair, (CONV, RESIDUAL), strict=True):
        keeps = kept_of(groups, model)
        assert_masks(model, groups, keeps)
        gone = sum(int((~keep).sum()) for keep in keeps)
        assert pruner.unit_sparsity(model) == pytest.approx(gone / sum(g.size for g in groups))


def test_a_sparsity_for_each_layer():
    model = dense(10, 20, 8)
    pruner = prune(model, allocation={"h0": 0.2, "h2": 0.75})
    # 38 channels at 0.5: the middle ones make up the difference, 19 - 2 - 6 = 11 of 20.
    assert kept(pruner.update(sparsity=0.5)) == [8, 9, 2]
    with pytest.raises(InvalidArgumentError, match=r"Unknown layer in `sparsities`: 'out'.*"):
        prune(dense(10), allocation={"out": 0.5})


def test_a_sparsity_by_any_layer_that_makes_the_channels():
    model = nets.filled(residual())
    prune(model, allocation={"c": 0.5}).update(sparsity=0.5)


def test_erk():
    model = dense(40, 10, inputs=4)
    # Densities in the ratio of (4 + 40) / (4 * 40) and (40 + 10) / (40 * 10).
    raw = np.array([44 / 160, 50 / 400])
    epsilon = 25 / (raw * [40, 10]).sum()
    exact = epsilon * raw * [40, 10]
    counts = kept(prune(model, allocation="erk").update(sparsity=0.5))
    assert sum(counts) == 25
    assert np.all(np.abs(np.array(counts) - exact) < 1)


# --- criteria ------------------------------------------------------------------------------------


def gradients_of(pruner, seed=7):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=tuple(w.mask.shape)).astype("float32") for w in pruner.weights]


def by_path(pruner, arrays):
    return {w.path: a for w, a in zip(pruner.weights, arrays, strict=True)}


def l2(arrays, grads, group):
    return sum(np.sqrt(score(np.square(arrays[r[0]].astype(float)), r)) for r in group.makers)


def taylor(arrays, grads, group):
    return sum(score(np.abs(arrays[r[0]] * grads[r[0]]), r) for r in group.makers)


def gradient(arrays, grads, group):
    return sum(score(np.abs(grads[r[0]]), r) for r in group.makers)


def median(arrays, grads, group):
    total = 0
    for path, axis, places in group.makers:
        rows = np.moveaxis(arrays[path].astype(float), axis, 0).reshape(len(places), -1)
        rows = np.stack([rows[places == u].ravel() for u in range(group.size)])
        total = total + np.linalg.norm(rows[:, None] - rows[None], axis=2).sum(axis=1)
    return total


CRITERIA = {
    "l1": lambda arrays, grads, group: l1(arrays, group),
    "l2": l2,
    "gradient": gradient,
    "taylor": taylor,
    "geometric_median": median,
}


@cases(("residual",), "network", ["residual", "recurrent", "stem", "attention"])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_criteria_score_what_makes_a_channel(criterion, network):
    build, groups = NETWORKS[network]
    model = nets.filled(build(), seed=2)
    pruner = prune(model, criterion=criterion)
    grads, before = gradients_of(pruner), values(model)
    given = grads if pruner.criterion.needs_gradient else None
    pruner.update(sparsity=0.5, gradients=given)
    named = by_path(pruner, grads)
    keeps = [
        best(CRITERIA[criterion](before, named, g), nets.kept_oracle(g.size, 0.5)) for g in groups
    ]
    assert_masks(model, groups, keeps)


def test_gradients_by_path_and_what_is_missing():
    model = nets.filled(residual())
    pruner = prune(model, criterion="taylor")
    grads = gradients_of(pruner)
    with pytest.raises(InvalidArgumentError, match=r"needs gradients\. Pass `gradients=`"):
        pruner.update(sparsity=0.5)
    with pytest.raises(InvalidArgumentError, match="must match the pruned weights"):
        pruner.update(sparsity=0.5, gradients=grads[:-1])
    pruner.update(sparsity=0.5, gradients=by_path(pruner, grads))
    first = kept_of(RESIDUAL, model)
    other = nets.filled(residual())
    prune(other, criterion="taylor").update(sparsity=0.5, gradients=grads)
    for one, two in zip(first, kept_of(RESIDUAL, other), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_scale_that_follows():
    model = nets.filled(conv())
    model.get_layer("an").gamma.assign([0.1, -3.0, 2.0, -0.2, 0.3, -1.0])
    pruner = prune(model, criterion="batch_norm_scale")
    before = values(model)
    pruner.update(sparsity=0.5)
    # `b` has no normalization behind it, and is scored by its magnitude.
    assert_masks(model, CONV, [np.isin(spread(6), [1, 2, 5]), best(l1(before, CONV[1]), 2)])
    assert any("b/kernel" in r and "no batch normalization" in r for r in pruner.remarks)


def test_the_scale_of_a_stem_is_of_every_place():
    model = nets.filled(stem())
    gamma = np.abs(value(model.get_layer("n").gamma)).reshape(49, 4).sum(axis=0)
    prune(model, criterion="batch_norm_scale", scope=["a"]).update(sparsity=0.5)
    np.testing.assert_array_equal(kept_of(STEM[:1], model)[0], best(gamma, 2))


def test_random_scores_nest_and_have_a_seed():
    def run(seed, *sparsities):
        model = nets.filled(dense(40, 40))
        pruner = prune(model, criterion=kgp.Random(seed))
        for sparsity in sparsities:
            pruner.update(sparsity=sparsity)
        return [value(everything(model)[f"h{i}/bias"].mask) for i in range(2)]

    one, two = run(0, 0.2, 0.6), run(0, 0.6)
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, run(1, 0.6))
    assert not np.array_equal(one[0], one[1])
    assert [int(mask.sum()) for mask in one] == [16, 16]


def test_a_mix_of_criteria():
    model = nets.filled(residual(), seed=5)
    pruner = prune(model, criterion=kgp.Hybrid({"l1": 1.0, "taylor": 2.0}))
    grads, before = gradients_of(pruner), values(model)
    pruner.update(sparsity=0.5, gradients=grads)
    named = by_path(pruner, grads)

    def mixed(group):
        total = 0
        for row in group.makers:
            for weight, part in ((1.0, np.abs(before[row[0]])),
                                 (2.0, np.abs(before[row[0]] * named[row[0]]))):  # fmt: skip
                own = score(part, row)
                total = total + weight * own / own.mean()
        return total

    keeps = [best(mixed(g), nets.kept_oracle(g.size, 0.5)) for g in RESIDUAL]
    assert_masks(model, RESIDUAL, keeps)


# --- scope ---------------------------------------------------------------------------------------


def test_what_is_not_in_scope_may_read_fewer():
    model = nets.filled(conv())
    pruner = prune(model, scope=["a"])
    before = values(model)
    report = pruner.update(sparsity=0.5)
    assert [row.path for row in report] == ["a/kernel"]
    assert_masks(model, CONV[:1], [best(l1(before, CONV[0]), 3)])
    assert "b/bias" not in everything(model)
    assert any(r.startswith("b: its channels all stay") for r in pruner.remarks)


def test_channels_that_meet_those_of_a_layer_that_is_not_in_scope_stay():
    model = nets.filled(residual())
    assert [row.path for row in prune(model, scope=["a", "b"]).update(sparsity=0.5)] == ["b/kernel"]
    assert_masks(model, RESIDUAL[1:], kept_of(RESIDUAL[1:], model))
    with pytest.raises(InvalidArgumentError, match=r"(?s)nothing to prune:.*another `scope`"):
        prune(nets.filled(residual()), scope=["a"])
    with pytest.raises(InvalidArgumentError, match="Unknown layer in `scope`: 'e'"):
        prune(nets.filled(residual()), scope=["e"])


def test_a_scope_that_is_in_one_of_two_networks():
    pair = nets.filled(conv()), nets.filled(stem())
    pruner = kgp.Pruner(*pair, granularity="channel", scope=keras.layers.Conv2DTranspose)
    assert [row.path for row in pruner.update(sparsity=0.5)] == ["b/kernel"]
    assert kgp.masked_weights(pair[0]) == []
    with pytest.raises(InvalidArgumentError, match="Unknown layer in `scope`"):
        kgp.Pruner(*pair, granularity="channel", scope="none_of_them")


# --- a share of what it costs --------------------------------------------------------------------


def wide():
    x = keras.Input((16, 16, 3))
    y = layers.Conv2D(32, 3, padding="same", name="a")(x)
    y = layers.ReLU()(layers.BatchNormalization(name="n")(y))
    y = layers.Conv2D(48, 3, strides=2, padding="same", name="b")(y)
    y = layers.ReLU()(y)
    return nets.filled(keras.Model(x, layers.Conv2D(1, 3, padding="same", name="c")(y)))


@pytest.mark.parametrize("allocation", ["uniform", "global_ranking"])
@cases(("macs",), "quantity", ["macs", "parameters", "bytes"])
def test_a_sparsity_of_the_cost(quantity, allocation):
    model = wide()
    pruner = prune(model, granularity=kgp.Channel(of=quantity), allocation=allocation)
    before = values(model)
    report = pruner.update(sparsity=0.75)
    costs = Costs(kgp.channel_groups(model))
    keeps = [value(everything(model)[f"{name}/bias"].mask) for name in "ab"]
    share = costs.of(quantity, keeps) / costs.of(quantity)
    assert abs(share - 0.25) <= 0.02 * 0.25
    assert report.achieved == report.share == pruner.sparsity == pytest.approx(1 - share)
    assert report.counted == "channels"
    assert report.kept == sum(int(k.sum()) for k in keeps)
    # In each group the best stay, and the network that is built from them costs that.
    for name, keep in zip("ab", keeps, strict=True):
        sums = np.abs(before[f"{name}/kernel"]).sum(axis=(0, 1, 2), dtype=np.float64)
        np.testing.assert_array_equal(keep, best(sums, keep.sum()))
    if quantity == "parameters":
        assert kgp.shrink(model).count_params() == round(share * costs.parameters())


def test_a_share_of_the_cost_only_falls():
    model = wide()
    pruner = prune(model, granularity=kgp.Channel(of="macs"))
    shares, last = [], None
    for sparsity in (0.0, 0.3, 0.6, 0.75):
        shares.append(pruner.update(sparsity=sparsity).achieved)
        now = [value(w.mask).copy() for w in pruner.weights]
        assert last is None or not any(np.any(n & ~b) for n, b in zip(now, last, strict=True))
        last = now
    np.testing.assert_allclose(shares, [0.0, 0.3, 0.6, 0.75], atol=0.02 * 0.7)
    assert pruner.update(sparsity=0.2).achieved == shares[-1]  # `hard`


@pytest.mark.parametrize("final", [0.6, None])
def test_on_the_way_to_a_share_of_the_cost_enough_small_channels_stay_to_meet_it(final):
    """Two heads cost a quarter each and are ranked highest: if all small channels go, a head is too much."""
    x = keras.Input((6, 16))
    heads = keras.layers.MultiHeadAttention(2, 8)
    h = keras.layers.LayerNormalization()(x + heads(x, x))
    hidden = keras.layers.Dense(32, "relu")(h)
    model = keras.Model(x, keras.layers.Dense(16)(hidden))
    for layer in (heads.query_dense, heads.key_dense, heads.value_dense):
        layer.kernel.assign(10.0 * layer.kernel)
    options = {"granularity": kgp.Channel(of="macs"), "allocation": "global_ranking"}
    pruner = prune(model, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The budget, .* is missed by", PruningWarning)
        for sparsity in (0.2, 0.4, 0.44, 0.6):
            pruner.update(sparsity=sparsity, final=final)
    missed = abs(pruner.sparsity - 0.6) > 0.02 * 0.4
    assert missed == (final is None)


@cases(2, "seed", range(12))
@cases((0.6,), "goal", [0.4, 0.6, 0.7])
def test_coarse_channels_end_as_near_to_the_share_as_any_network(seed, goal):
    """Two groups of 8 channels have no network within 2 % of most shares: the nearest counts."""
    rng = np.random.default_rng(seed)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), *[layers.Conv2D(n, 3, padding="same") for n in (8, 8, 1)]]
    )
    for layer in model.layers:
        layer.kernel.assign(rng.normal(size=layer.kernel.shape) * rng.uniform(0.1, 10.0))
    costs = Costs(kgp.channel_groups(model))
    pairs = [(a, b) for a in range(1, 9) for b in range(1, 9)]
    nearest = min(abs(costs.macs(pair) / costs.macs() - (1 - goal)) for pair in pairs)
    pruner = prune(model, granularity=kgp.Channel(of="macs"), allocation="global_ranking")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The budget, .* is missed by", PruningWarning)
        for sparsity in np.linspace(0.0, goal, 9):
            pruner.update(sparsity=float(sparsity), final=goal)
    assert abs(pruner.sparsity - goal) <= max(nearest, 0.02 * (1 - goal)) + 1e-9


def test_a_share_of_the_cost_wants_a_sparsity():
    pruner = prune(wide(), granularity=kgp.Channel(of="macs"))
    with pytest.raises(InvalidArgumentError, match="needs a `sparsity`, a share of the macs"):
        pruner.update(threshold=0.1)
    with pytest.raises(InvalidArgumentError, match="sparsity"):
        pruner.update(sparsity=75)
    with pytest.raises(InvalidArgumentError, match="the smallest network that is allowed"):
        pruner.update(sparsity=0.99999)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mode": "rigl"}, "exchanges channels of different cost"),
        ({"mode": "set"}, "use mode='hard' or 'soft'"),
        ({"mode": "splice"}, "exchanges channels of different cost"),
        ({"allocation": "erk"}, "distributes a share of the channels, not of the macs"),
        ({"allocation": {"a": 0.5}}, "use allocation='uniform', 'isomorphic' or"),
    ],
)
def test_what_does_not_go_with_a_share_of_the_cost(options, text):
    with pytest.raises(InvalidArgumentError, match=f"not compatible: .*{text}"):
        prune(wide(), granularity=kgp.Channel(of="macs"), **options)


@pytest.mark.parametrize(
    "schedule", [kgp.Threshold(0.1), kgp.LayerwiseOrder(kgp.Cubic(0.8, 5, 50))]
)
def test_schedules_that_say_nothing_of_the_cost(schedule):
    chosen = compatibility.get("l1", kgp.Channel(of="macs"), "uniform", "hard", schedule)
    with pytest.raises(InvalidArgumentError, match="sets no total of the macs"):
        compatibility.check(chosen)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"axis": "up"}, "`axis` must be 'out', 'in'.*'up'"),
        ({"axis": "in", "coupled": True}, "True needs axis='out'.*coupled=True, axis='in'"),
        ({"axis": 3, "coupled": True}, "True needs axis='out'"),
        ({"coupled": "yes"}, "`coupled` must be True, False or None"),
        ({"aggregate": "min"}, "`aggregate` must be one of .'sum', 'mean', 'max'.*'min'"),
        ({"round_to": 0}, "`round_to` must be a positive int.*0"),
        ({"round_to": 8.0}, "`round_to` must be a positive int.*8.0"),
        ({"round_to": True}, "`round_to` must be a positive int.*True"),
        ({"of": "flops"}, "`of` must be one of .'channels', 'macs'.*'flops'"),
        ({"axis": "in", "round_to": 8}, "are for coupled channels.*axis='in'"),
        ({"coupled": False, "of": "macs"}, "are for coupled channels.*coupled=False"),
        ({"coupled": False, "aggregate": "max"}, "are for coupled channels.*'max'"),
    ],
)
def test_arguments_of_channel(arguments, text):
    with pytest.raises(InvalidArgumentError, match=text):
        kgp.Channel(**arguments)


def test_which_channels_are_coupled():
    assert [kgp.Channel(axis).coupled for axis in ("out", "in", 1)] == [True, False, False]
    assert not kgp.Channel(coupled=False).coupled
    assert "round_to=8, of='macs'" in repr(kgp.Channel(round_to=8, of="macs"))
    assert kgp.Channel(**kgp.Channel(aggregate="max").get_config()) == kgp.Channel(aggregate="max")


@keras.saving.register_keras_serializable("test_channel_masks")
class CallsTensorFlow(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a, self.b = layers.Dense(6), layers.Dense(2)

    def build(self, shape):
        self.a.build(shape)
        self.b.build((None, 6))
        self.built = True

    def call(self, x):
        return self.b(tf.nn.relu(self.a(x)))


def test_a_network_that_cannot_be_followed():
    model = CallsTensorFlow()
    model.build((None, 4))
    with pytest.raises(UnsupportedLayerError, match=r"`granularity=Channel\(coupled=False\)`"):
        prune(model)
    # Nothing was begun.
    assert prunable_layers(model) == []
    prune(model, granularity=kgp.Channel(coupled=False)).update(sparsity=0.5)


def tied():
    """Return a generator and a discriminator whose first kernels are one."""
    generator = [keras.Input((6,)), layers.Dense(8, "relu", name="g1"), layers.Dense(6, name="g2")]
    discriminator = [keras.Input((6,)), layers.Dense(8, "relu", name="d1"), layers.Dense(1)]
    pair = (
        keras.Sequential(generator, name="generator"),
        keras.Sequential(discriminator, name="discriminator"),
    )
    kgp.tie_mirrored(*pair, pairs=[("g1", "d1")])
    return pair


def test_tied_networks():
    generator, discriminator = tied()
    with pytest.raises(InvalidArgumentError, match=r"shares weights with another network"):
        kgp.Pruner(generator, discriminator, granularity="channel")
    kgp.Pruner(generator, discriminator, granularity=kgp.Channel(coupled=False)).update(
        sparsity=0.5
    )


def test_one_of_two_tied_networks():
    generator, discriminator = tied()
    prune(generator).update(sparsity=0.5)
    assert kgp.shrink(generator).count_params() == 6 * 4 + 4 + 4 * 6 + 6
    with pytest.raises(UnsupportedLayerError, match="'d1' shares its masks with another layer"):
        prune(discriminator)


def test_networks_that_share_a_layer():
    shared = layers.Dense(6, "relu", name="shared")
    pair = [
        keras.Sequential([keras.Input((4,)), shared, layers.Dense(n)], name=name)
        for name, n in (("one", 2), ("two", 3))
    ]
    with pytest.raises(InvalidArgumentError, match="'two' shares weights with another network"):
        kgp.Pruner(*pair, granularity="channel")
    prune(pair[0]).update(sparsity=0.5)
    # The same network twice is no better.
    with pytest.raises(InvalidArgumentError, match="'one' shares weights with another network"):
        kgp.Pruner(pair[0], pair[0], granularity="channel")


def test_nothing_to_prune():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="only")])
    with pytest.raises(
        InvalidArgumentError, match=r"(?s)nothing to prune:\nonly: all channels stay.*another"
    ):
        prune(model)
    assert type(model.layers[0]) is layers.Dense


# --- in `fit` ------------------------------------------------------------------------------------

SCHEDULE = kgp.PolynomialDecay(0.5, begin_step=1, end_step=5)


class Watch(nets.Watch):
    """Looks at what masks leave, and at biases and scales, which must have masks too."""

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        self.names = {w.name for n in self.networks for w in kgp.masked_weights(n)}


def pruned(target, schedule=SCHEDULE, **options):
    options = {"granularity": "channel", "verbose": 0, **options}
    return kgp.Prune(schedule, target, options.pop("frequency", 2), **options)


def assert_whole(callback, sparsity=0.5):
    """Assert exact numbers, and that masks are those of what the makers keep, everywhere."""
    found = callback.pruner
    assert found.held
    masks = {id(w.variable): value(w.mask) for w in found.weights}
    wanted = {key: np.ones(mask.shape, bool) for key, mask in masks.items()}
    for row, group in zip(callback.report, [g for gs in found.groups for g in gs], strict=True):
        keep = np.zeros(group.size, bool)
        for piece in group.slices:
            if piece.weight.role == "out":
                mask = np.moveaxis(masks[id(piece.weight.variable)], piece.weight.axis, 0)
                inside = piece.units >= 0
                np.logical_or.at(
                    keep, piece.units[inside], mask.reshape(len(mask), -1).any(axis=1)[inside]
                )
        assert row.kept == keep.sum() == nets.kept_oracle(group.size, sparsity)
        for piece in group.slices:
            if piece.weight.role in ("out", "in", "along"):
                mask = np.moveaxis(wanted[id(piece.weight.variable)], piece.weight.axis, 0)
                mask[(piece.units >= 0) & ~keep[piece.units]] = False
    for key, mask in masks.items():
        np.testing.assert_array_equal(mask, wanted[key])
    for weight in found.weights:
        assert not np.any(value(weight.variable)[~value(weight.mask)])


def classifier():
    return keras.Sequential(
        [
            keras.Input((nets.SIZE, nets.SIZE, 1)),
            layers.Conv2D(6, 3, strides=2, name="a"),
            layers.BatchNormalization(momentum=0.5, name="n"),
            layers.PReLU(shared_axes=[1, 2], name="p"),
            layers.Flatten(),
            layers.Dense(3, name="c"),
        ]
    )


def assert_same_when_shrunk(model, x):
    small = kgp.shrink(model)
    assert small.count_params() < model.count_params()
    old, new = (value(m(x, training=False)) for m in (model, small))
    np.testing.assert_allclose(new, old, rtol=0, atol=1e-5 * np.max(np.abs(old)))
    assert np.max(np.ptp(old, axis=0)) > 1e-3 * np.max(np.abs(old))


OPTIMIZERS = {
    "adam": lambda: Adam(1e-2),
    "adamw": lambda: AdamW(1e-2, weight_decay=0.1),
    "sgd": lambda: SGD(1e-2, momentum=0.9, nesterov=True),
    "ema": lambda: Adam(1e-2, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3),
    "accumulation": lambda: Adam(1e-2, gradient_accumulation_steps=2),
}


@cases(1, "name", OPTIMIZERS)
@pytest.mark.full
def test_masks_hold_under_optimizers(name):
    model = classifier()
    model.compile(OPTIMIZERS[name](), nets.classifier_loss(), jit_compile=False)
    x, y = nets.classifier_data()
    callback, watch = pruned(None), Watch(model)
    history = model.fit(
        x, y, batch_size=4, epochs=2, verbose=0, callbacks=[callback, watch]
    ).history
    assert watch.leaks == []
    assert watch.kept == sorted(watch.kept, reverse=True)
    assert watch.names == {"kernel", "bias", "gamma", "beta", "alpha"}
    assert_whole(callback)
    share = 1 - sum(value(w.mask).sum() for w in callback.pruner.weights) / sum(
        value(w.mask).size for w in callback.pruner.weights
    )
    assert history["channel_sparsity"][-1] == 0.5
    assert history["sparsity"][-1] == pytest.approx(share)
    # Nothing of a pruned channel is left anywhere, also not in the averages of the statistics.
    gone = ~value(everything(model)["n/gamma"].mask)
    assert gone.sum() == 3
    assert not np.any(value(model.get_layer("n").moving_mean)[gone])
    averages = getattr(model.optimizer, "_model_variables_moving_average", None) or []
    for weight, average in zip(model.trainable_weights, averages, strict=False):
        mask = value(weight.constraint.mask) if weight.constraint is not None else True
        assert not np.any(np.where(mask, 0, value(average)))
    assert_same_when_shrunk(model, x)


def gan_model(pair=None, **kwargs):
    gan = kgp.GANModel(
        *(pair or nets.dcgan_pair()), nets.LATENT, seed=1, balance_frequency=0, **kwargs
    )
    gan.compile(Adam(1e-2, 0.5), Adam(1e-2, 0.5))
    return gan


def latents(n=16):
    return np.random.default_rng(3).standard_normal((n, nets.LATENT)).astype("float32")


@pytest.mark.full
def test_a_gan_with_an_average_and_spectral_norm(tmp_path):
    pair = nets.dcgan_generator(), nets.dcgan_discriminator(spectral=True)
    gan = gan_model(pair, ema_decay=0.9)
    callback, watch = pruned(["generator", "discriminator"]), Watch(*pair)
    history = gan.fit(
        nets.images(), batch_size=8, epochs=2, verbose=0, callbacks=[callback, watch]
    ).history
    assert watch.leaks == []
    assert_whole(callback)
    for name in ("generator", "discriminator"):
        assert history[f"{name}_channel_sparsity"][-1] == 0.5
        network = getattr(gan, name)
        masks = [value(w.mask) for w in kgp.masked_weights(network)]
        share = 1 - sum(m.sum() for m in masks) / sum(m.size for m in masks)
        assert history[f"{name}_sparsity"][-1] == pytest.approx(share)
    assert len(callback.reports) == len(callback.updates) == 3
    assert_same_when_shrunk(gan.generator, latents())
    assert_same_when_shrunk(gan.discriminator, nets.images())
    # The average has the same masks, of scales as of kernels.
    assert_same_masks(gan.generator, gan.ema_generator, values=False)
    assert nets.leaks(gan.ema_generator) == {}
    assert_same_when_shrunk(gan.ema_generator, latents())
    # A file brings them all back, and training goes on under them.
    gan.save(tmp_path / "gan.keras")
    for load in (kgp.load_model, keras.saving.load_model):
        loaded = load(tmp_path / "gan.keras")
        for name in ("generator", "discriminator", "ema_generator"):
            assert_same_masks(getattr(gan, name), getattr(loaded, name))
    watch = Watch(loaded.generator, loaded.discriminator)
    loaded.fit(nets.images(16), batch_size=8, verbose=0, callbacks=[watch])
    assert watch.leaks == []
    assert watch.names == {"kernel", "bias", "gamma", "beta"}
    assert len(set(watch.kept)) == 1
    assert_same_when_shrunk(loaded.generator, latents())


def by_place(model):
    """Return the masked weights of a model by their place among all its weights."""
    places = {id(w): i for i, w in enumerate(model.weights)}
    return {places[id(w.variable)]: w for w in kgp.masked_weights(model)}


def assert_same_masks(one, other, values=True):
    one, other = by_place(one), by_place(other)
    assert one.keys() == other.keys() != set()
    for place, own in one.items():
        assert own.name == other[place].name
        np.testing.assert_array_equal(value(own.mask), value(other[place].mask))
        if values:
            np.testing.assert_array_equal(value(own.variable), value(other[place].variable))


@keras.saving.register_keras_serializable("test_channel_masks")
class Subclassed(keras.Model):
    """Makes its layers anew when it is loaded."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(4 * 4 * 4, use_bias=False)
        self.norm = layers.BatchNormalization()
        self.alpha = layers.PReLU()
        self.up = layers.Conv2DTranspose(4, 3, strides=2, padding="same")
        self.image = layers.Conv2D(1, 3, padding="same", activation="tanh")

    def build(self, shape):
        self.hidden.build(shape)
        self.norm.build((None, 64))
        self.alpha.build((None, 64))
        self.up.build((None, 4, 4, 4))
        self.image.build((None, 8, 8, 4))
        self.built = True

    def call(self, z, training=False):
        x = self.alpha(self.norm(self.hidden(z), training=training))
        x = keras.ops.relu(self.up(keras.ops.reshape(x, (-1, 4, 4, 4))))
        return self.image(x)


def subclassed():
    model = Subclassed(name="generator")
    model.build((None, nets.LATENT))
    return model


@pytest.mark.full
def test_a_gan_with_a_subclassed_network_and_a_file_of_it(tmp_path):
    gan = gan_model((subclassed(), nets.mlp_discriminator()))
    callback, watch = pruned("generator"), Watch(gan.generator)
    gan.fit(nets.images(), batch_size=8, epochs=2, verbose=0, callbacks=[callback, watch])
    assert watch.leaks == []
    assert watch.names == {"kernel", "bias", "gamma", "beta", "alpha"}
    assert_whole(callback)
    assert_same_when_shrunk(gan.generator, latents())
    gan.save(tmp_path / "gan.keras")
    for load in (kgp.load_model, keras.saving.load_model):
        loaded = load(tmp_path / "gan.keras")
        assert_same_masks(gan.generator, loaded.generator)
    watch = Watch(loaded.generator)
    loaded.fit(nets.images(16), batch_size=8, verbose=0, callbacks=[watch])
    assert watch.leaks == []
    assert len(set(watch.kept)) == 1


@cases(1, "name", [*NETWORKS, "subclassed"])
def test_a_file_of_one_network(name, tmp_path):
    model = nets.filled(subclassed() if name == "subclassed" else NETWORKS[name][0]())
    prune(model).update(sparsity=0.5)
    model.save(tmp_path / "m.keras")
    loads = [kgp.load_model]
    # Of a subclassed network Keras's own way brings plain layers.
    loads += [keras.saving.load_model] if name != "subclassed" else []
    for load in loads:
        loaded = load(tmp_path / "m.keras")
        assert_same_masks(model, loaded)
        assert kgp.shrink(loaded).count_params() == kgp.shrink(model).count_params()
    # Training goes on under the masks, also after a file.
    loaded.compile(Adam(0.1), "mse", run_eagerly=True, jit_compile=False)
    shape = (nets.LATENT,) if name == "subclassed" else tuple(model.inputs[0].shape[1:])
    x = np.random.default_rng(1).normal(size=(3, *shape)).astype("float32")
    target = np.asarray(value(loaded(x))) + 1.0
    loaded.train_on_batch(x, target)
    assert nets.leaks(loaded) == {}
    pairs = zip(model.trainable_weights, loaded.trainable_weights, strict=True)
    assert any(not np.array_equal(value(a), value(b)) for a, b in pairs)


@pytest.mark.full
@pytest.mark.parametrize("granularity", ["channel", "unstructured"])
def test_a_file_of_a_functional_network_with_a_layer_of_layers(granularity, tmp_path):
    import architectures

    model = nets.filled(architectures.adain_generator())
    prune(model, granularity=granularity).update(sparsity=0.5)
    model.save(tmp_path / "m.keras")
    assert_same_masks(model, kgp.load_model(tmp_path / "m.keras"))


@pytest.mark.full
def test_a_foreign_gan():
    gan = nets.EmaGAN(nets.dcgan_discriminator(spectral=True), nets.dcgan_generator())
    gan.compile(SGD(1e-2, momentum=0.9), Adam(1e-2, use_ema=True, ema_momentum=0.9))
    callback, watch = (
        pruned(["generator", "discriminator"]),
        Watch(gan.generator, gan.discriminator),
    )
    history = gan.fit(
        nets.images(), batch_size=8, epochs=2, verbose=0, callbacks=[callback, watch]
    ).history
    assert watch.leaks == []
    assert_whole(callback)
    assert history["generator_channel_sparsity"][-1] == 0.5
    assert history["discriminator_channel_sparsity"][-1] == 0.5
    assert nets.leaks(gan.ema_generator) == {}
    assert_same_masks(gan.generator, gan.ema_generator, values=False)
    assert_same_when_shrunk(gan.generator, latents())
    assert_same_when_shrunk(gan.ema_generator, latents())


@pytest.mark.full
def test_a_schedule_of_the_macs():
    gan = gan_model((nets.dcgan_generator(16), nets.mlp_discriminator()))
    schedule = kgp.PolynomialDecay(0.75, begin_step=1, end_step=5)
    callback = pruned("generator", schedule, granularity=kgp.Channel(of="macs"))
    watch = Watch(gan.generator)
    history = gan.fit(
        nets.images(), batch_size=8, epochs=2, verbose=0, callbacks=[callback, watch]
    ).history
    assert watch.leaks == []
    for step, requested, achieved in callback.updates:
        assert requested == schedule(step)
        assert abs(achieved - requested) <= 0.02 * (1 - requested)
    groups = kgp.channel_groups(gan.generator)
    small = kgp.shrink(gan.generator)
    share = Costs(kgp.channel_groups(small)).macs() / Costs(groups).macs()
    assert abs(share - 0.25) <= 0.02 * 0.25
    # The logs count channels, of which fewer have to go.
    assert history["generator_channel_sparsity"][-1] == callback.pruner.unit_sparsity(gan.generator)
    assert 0.3 < history["generator_channel_sparsity"][-1] < 0.75
    assert_same_when_shrunk(gan.generator, latents())


# --- modes that let channels return --------------------------------------------------------------

MODES = {
    "soft": kgp.Soft(),
    "rigl": kgp.RigL(0.5, "constant"),
    "set": kgp.SET(0.5),
    "splice": kgp.Splice(margin=0.0, fraction=1.0, decay="constant"),
}


class Returns(keras.callbacks.Callback):
    """Notes at every batch which weights are masked, and which channels the makers keep."""

    def __init__(self, callback):
        super().__init__()
        self.callback = callback
        self.kept, self.others = [], set()

    def on_train_batch_end(self, batch, logs=None):
        if not self.callback.updates:
            return
        found, last = self.callback.pruner, self.callback.updates[-1][0]
        makers = {m for groups in found.groups for group in groups for m in group.makers}
        if last < self.callback.schedule.end_step:
            self.others |= {
                w.path for w in found.weights if not value(w.mask).all() and w.path not in makers
            }
        rows = []
        for groups in found.groups:
            for group in groups:
                piece = next(s for s in group.slices if s.weight.role == "out")
                array = np.moveaxis(value(piece.weight.variable), piece.weight.axis, 0)
                places = array.reshape(len(array), -1).any(axis=1)
                rows.append([bool(places[piece.units == u].any()) for u in range(group.size)])
        self.kept.append(np.concatenate(rows))


@pytest.mark.full
@cases(1, "name", MODES)
def test_modes_that_let_channels_return(name):
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((nets.SIZE, nets.SIZE, 1)),
            layers.Conv2D(12, 3, strides=2, name="a"),
            layers.BatchNormalization(momentum=0.5, name="n"),
            layers.LeakyReLU(0.2),
            layers.Conv2D(12, 3, name="b"),
            layers.LeakyReLU(0.2),
            layers.Flatten(),
            layers.Dense(3, name="c"),
        ]
    )
    model.compile(Adam(2e-2), nets.classifier_loss(), jit_compile=False)
    x, y = nets.classifier_data()
    callback = pruned(None, kgp.Linear(0.5, begin_step=1, end_step=13), mode=MODES[name])
    watch, notes = Watch(model), Returns(callback)
    model.fit(x, y, batch_size=8, epochs=4, verbose=0, callbacks=[callback, watch, notes])
    assert watch.leaks == []
    # What reads a channel is masked only when none can return any more.
    assert notes.others == set()
    came_back = sum(int(np.sum(b & ~a)) for a, b in zip(notes.kept, notes.kept[1:], strict=False))
    assert came_back > 0
    if name != "soft":
        assert sum(report.regrown for report in callback.reports) > 0
    assert_whole(callback)
    assert watch.names == {"kernel", "bias", "gamma", "beta"}
    assert_same_when_shrunk(model, x)


@cases(1, "name", ["soft", "set"])
def test_a_run_that_ends_before_its_schedule_is_masked_whole(name):
    model = classifier()
    model.compile(Adam(2e-2), nets.classifier_loss(), jit_compile=False)
    x, y = nets.classifier_data()
    callback = pruned(None, kgp.ConstantSparsity(0.5), mode=MODES[name], frequency=3)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[callback])
    assert_whole(callback)
    assert_same_when_shrunk(model, x)


@cases(1, "name", MODES)
def test_by_hand_nothing_but_the_makers_is_masked_until_it_is_held(name):
    model = nets.filled(residual())
    pruner = prune(model, mode=MODES[name])
    grads = gradients_of(pruner)
    grads = grads if pruner.mode.needs_gradient else None
    pruner.update(sparsity=0.5, growth=grads)
    assert not pruner.held
    zero = {path for path, array in values(model).items() if not np.all(array)}
    assert zero == {"a/kernel", "b/kernel", "c/kernel"}
    # `c` makes channels of the one group and reads those of the other.
    assert np.all(values(model)["c/kernel"].any(axis=(0, 1, 3)))
    assert pruner.sparsity == 0.5
    pruner.hold()
    assert pruner.held
    assert_masks(model, RESIDUAL, kept_of(RESIDUAL, model))
    assert not np.any(value(model.get_layer("bn").moving_mean)[~kept_of(RESIDUAL, model)[1]])
    assert kgp.shrink(model).count_params() < model.count_params()


@cases(1, "name", ["soft", "set"])
def test_a_run_that_is_taken_up_again_is_masked_whole_in_the_end(name):
    # As after an interruption: the masks are there, the pruner is another one.
    model = nets.filled(residual())
    prune(model, mode=MODES[name]).update(sparsity=0.5)
    pruner = prune(model, mode=MODES[name])
    assert not pruner.held
    pruner.hold()
    assert_masks(model, RESIDUAL, kept_of(RESIDUAL, model))
    kgp.shrink(model)


# --- beside other masks --------------------------------------------------------------------------


def test_masks_of_a_twin():
    model, twin = nets.filled(conv()), nets.filled(conv(), seed=9)
    prune(model).update(sparsity=0.5)
    kgp.copy_masks(model, twin)
    assert_masks(twin, CONV, kept_of(CONV, model))
    kgp.copy_masks(model, twin)  # and again
    assert_same_masks(model, twin, values=False)
    for name in ("recurrent", "attention"):
        build, groups = NETWORKS[name]
        model, twin = nets.filled(build()), nets.filled(build(), seed=9)
        prune(model).update(sparsity=0.5)
        kgp.copy_masks(model, twin)
        assert_masks(twin, groups, kept_of(groups, model))


@pytest.mark.parametrize("granularity", ["channel", "unstructured"])
def test_masks_of_a_twin_with_spectral_norm(granularity):
    model, twin = nets.filled(spectral()), nets.filled(spectral(), seed=9)
    prune(model, granularity=granularity).update(sparsity=0.5)
    kgp.copy_masks(model, twin)
    # No class that a new process would not know.
    kinds = [[type(layer) for layer in m._flatten_layers()] for m in (model, twin)]
    assert kinds[0] == kinds[1]
    assert set(everything(model)) == set(everything(twin))


@cases(2, "name", NETWORKS)
def test_stripped(name):
    model = nets.filled(NETWORKS[name][0]())
    prune(model).update(sparsity=0.5)
    plain = kgp.strip_pruning(model)
    for layer in plain._flatten_layers():
        assert type(layer).__module__.startswith("keras."), layer
    shape = tuple(model.inputs[0].shape[1:])
    x = np.random.default_rng(2).normal(size=(7, *shape)).astype("float32")
    np.testing.assert_array_equal(value(plain(x)), value(model(x)))
    for one, other in zip(plain.weights, model.weights, strict=True):
        np.testing.assert_array_equal(value(one), value(other))
    assert kgp.masked_weights(plain) == []
    assert kgp.masked_weights(model)


def test_rows_of_the_report():
    model = nets.filled(conv())
    prune(model).update(sparsity=0.5)
    rows = {(row.layer, row.weight): row for row in kgp.sparsity_report(model)}
    assert {f"{layer}/{name}" for layer, name in rows} == set(everything(model))
    a, b = kept_of(CONV, model)
    assert rows["a", "kernel"].kept == rows["a", "kernel"].nonzero == 9 * a.sum()
    assert rows["b", "kernel"].kept == 9 * a.sum() * b.sum()
    assert (rows["an", "gamma"].kept, rows["an", "gamma"].total) == (3, 6)
    assert rows["c", "kernel"].kept == 4 * b.sum() * 2
    assert rows["p", "alpha"].shape == (1, 1, 5)
    assert kgp.sparsity_report(model).parameters == model.count_params()


def test_single_weights_of_a_network_without_some_channels():
    model = nets.filled(conv())
    prune(model).update(sparsity=0.5)
    channels = {path: value(w.mask).copy() for path, w in everything(model).items()}
    pruner = kgp.Pruner(model)
    assert [w.path for w in pruner.weights] == ["a/kernel", "b/kernel", "c/kernel"]
    report = pruner.update(sparsity=0.8)
    assert [row.kept for row in report] == [nets.kept_oracle(row.total, 0.8) for row in report]
    for path, weight in everything(model).items():
        mask = value(weight.mask)
        assert not np.any(mask & ~channels[path])
        if not path.endswith("kernel"):
            np.testing.assert_array_equal(mask, channels[path])
    # And the other way round: what single weights have lost stays lost.
    before = {path: value(w.mask).copy() for path, w in everything(model).items()}
    prune(model).update(sparsity=0.7)
    for path, weight in everything(model).items():
        assert not np.any(value(weight.mask) & ~before[path])
    for group, keep in zip(CONV, kept_of(CONV, model), strict=True):
        assert keep.sum() == nets.kept_oracle(group.size, 0.7)
