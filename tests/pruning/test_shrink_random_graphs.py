"""Property: on random graphs, cutting channels gives the same outputs as masking them.

The drawn model itself is masked, by its own weights, so that nothing of what cuts is compared with itself.
To look at one seed: `random_graph(seed)` says which operations were drawn, `channel_groups` the rest.

No output of a random graph is the same for all inputs where nothing is masked (the makers see to that:
no instance normalization of one value). Masks can make one so, such as zeros behind a ReLU; it is compared
like any other. What is near zero by cancellation (a constant less its mean behind an instance
normalization, times 1 / sqrt(epsilon)) is rounding alone, so a difference below 1e-6 passes as well: values
are about one everywhere.
"""

import keras
import numpy as np
import pytest
from random_graphs import random_graph, random_inputs

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.structured.rebuild import Builder


def _batch(groups):
    """Return a batch size that no axis has: Keras adds (b, t, 1) and (b, 1, 1) wrongly if b == t."""
    outputs = [tensor for call in groups.graph.calls for tensor in call.outputs]
    sizes = {n for tensor in outputs for n in tensor.shape}
    # Above MAX_CHANNELS of the graphs: no axis is cut down to it either.
    return next(n for n in range(25, 100) if n not in sizes)


def _outputs(model, x):
    found = keras.tree.flatten(model(x, training=False))
    return [np.asarray(keras.ops.convert_to_numpy(y), dtype=np.float64) for y in found]


def _assert_same(expected, actual):
    assert [a.shape for a in actual] == [e.shape for e in expected]
    for e, a in zip(expected, actual, strict=True):
        assert np.max(np.abs(e - a)) <= max(1e-5 * np.max(np.abs(e)), 1e-6)


def _draw(groups, rng):
    """Return which units stay: at least one per group, sometimes all, sometimes only one."""
    keeps = []
    for group in groups:
        keep = rng.random(group.size) < rng.choice([0.0, 0.3, 0.6, 0.9, 1.0])
        keep[rng.integers(group.size)] = True
        keeps.append(keep)
    return keeps


def _removable(groups):
    """Return the share of the produced channels that belong to a group."""
    made = [w.labels.size for w in groups.channels.weights.values() if w.role == "out"]
    own = [
        np.count_nonzero(piece.units >= 0)
        for group in groups
        for piece in group.slices
        if piece.weight.role == "out"
    ]
    return sum(own) / max(sum(made), 1)


def _cut_by_hand(model, groups, x, rng):
    """Cut with a builder; return the shares of removable channels and of removed weights."""
    keeps = groups.never_empty(_draw(groups, rng))
    small, _ = Builder(groups, keeps).build()
    values = groups.masked_values(keeps)
    for variable, masked in values.values():
        variable.assign(masked)
    _assert_same(_outputs(model, x), _outputs(small, x))
    return _removable(groups), 1 - small.count_params() / model.count_params()


def _cut_by_masks(model, groups, x, rng):
    """Cut the channels that a `Pruner` has masked; return the same shares."""
    share = _removable(groups)
    if not len(groups):
        with pytest.raises(InvalidArgumentError, match="nothing to prune"):
            kgp.Pruner(model, granularity="channel")
        return share, 0.0
    criterion = kgp.Random(seed=int(rng.integers(1000)))
    pruner = kgp.Pruner(model, granularity="channel", criterion=criterion)
    report = pruner.update(sparsity=[float(s) for s in rng.uniform(0.1, 0.8, len(groups))])
    if report.kept == report.total:  # of a group of two, half of one is none
        return share, 0.0
    small = kgp.shrink(model, verify=False)
    _assert_same(_outputs(model, x), _outputs(small, x))
    return share, 1 - small.count_params() / model.count_params()


def _check(seeds):
    """Return the mean shares of removable channels and of removed weights."""
    shares, kinds = [], None
    for seed in seeds:
        try:
            model, kinds = random_graph(seed)
            groups = kgp.channel_groups(model)
            x = random_inputs(model, seed, batch=_batch(groups))
            way = _cut_by_masks if seed % 4 == 3 else _cut_by_hand
            shares.append(way(model, groups, x, np.random.default_rng(seed)))
        except Exception as error:
            raise AssertionError(f"Seed {seed}, drawn from {kinds}: {error}") from error
    return np.mean(shares, axis=0)


def test_a_few_random_graphs():
    removable, removed = _check(range(10))
    # If hardly any channel could be removed, nothing would be tested.
    assert removable > 0.45
    assert removed > 0.15


# In parts, to show the progress.
@pytest.mark.full
@pytest.mark.parametrize("start", range(0, 150, 50))
def test_random_graphs(start):
    removable, removed = _check(range(start, start + 50))
    # 0.7 and 0.35 over many seeds.
    assert removable > 0.55
    assert removed > 0.2


@pytest.mark.full
@pytest.mark.parametrize("start", range(150, 2350, 100))
def test_more_random_graphs(start):
    removable, removed = _check(range(start, start + 100))
    assert removable > 0.6
    assert removed > 0.25
