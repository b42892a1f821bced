"""Scores of groups of different kinds, made comparable by their places within the kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ranks_by_kind(kinds: Sequence[str], ordered: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the place of each score among those of its kind, as a share in (0, 1].

    Args:
        kinds: The kind of each group.
        ordered: For each group its scores.

    Example:
    >>> from keras_ganprune.pruning.structured.kinds import ranks_by_kind
    >>> ranks_by_kind(["a", "b", "a"], [np.array([9.0, 1.0]), np.array([0.1]), np.array([5.0, 4.0])])
    [array([1.  , 0.25]), array([1.]), array([0.75, 0.5 ])]
    """
    ranks: list[np.ndarray] = [np.empty(0)] * len(ordered)
    for kind in set(kinds):
        members = [i for i, other in enumerate(kinds) if other == kind]
        joined = np.concatenate([ordered[i] for i in members])
        places = np.empty(len(joined))
        # Of equal scores the later one counts as the lower one.
        places[np.argsort(-joined, kind="stable")] = np.arange(len(joined), 0, -1) / len(joined)
        edges = np.cumsum([len(ordered[i]) for i in members])[:-1]
        for i, part in zip(members, np.split(places, edges), strict=True):
            ranks[i] = part
    return ranks
