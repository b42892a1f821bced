"""Classes of channel labels."""

import numpy as np

from keras_ganprune.pruning.structured.union_find import FIXED, Units


def test_units_in_classes():
    units = Units()
    a, b, c = units.new(4), units.new(4), units.new(2)
    units.tie(a, b)
    assert units.find(a).tolist() == units.find(b).tolist() == a.tolist()
    units.tie(a[:2], c[::-1])
    assert units.find(c).tolist() == [a[1], a[0]]
    units.tie(np.array([c[0]]), a[2:])  # one with several, at once
    assert len({*units.find(a[1:]).tolist()}) == 1
    assert units.find(a)[0] == a[0]
    units.fix(b[3:])
    assert units.find(a).tolist() == [a[0], FIXED, FIXED, FIXED]
    assert len(units) == 11


def test_classes_are_those_of_a_graph():
    """As networkx would find them: flood from each label, by the pairs that were tied."""
    rng = np.random.default_rng(0)
    units = Units()
    labels = units.new(60)
    pairs = rng.integers(0, len(labels), (45, 2))
    for part in np.split(pairs, 9):
        units.tie(labels[part[:, 0]], labels[part[:, 1]])
    reach = np.eye(60, dtype=bool)
    reach[pairs[:, 0], pairs[:, 1]] = reach[pairs[:, 1], pairs[:, 0]] = True
    for _ in range(6):
        reach = reach @ reach
    found = units.find(labels)
    assert np.array_equal(found[:, None] == found[None], reach)
