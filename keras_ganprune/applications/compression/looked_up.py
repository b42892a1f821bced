"""How much of a network is rows of tables that are looked up."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from keras_ganprune.layers.traversal import prunable_candidates

#: What `compress` says where it does not use 'taylor' for that reason.
NOTE = (
    "Most weights are rows of embeddings. The batches that 'taylor' averages look up only some of the rows, "
    "and the others would have no score. So the criterion was 'magnitude'."
)


def share_looked_up(networks: Iterable[keras.layers.Layer]) -> float:
    """Return the share of the weights of prunable layers that are in tables of embeddings.

    Args:
        networks: Built networks.

    Example:
    >>> from keras_ganprune.applications.compression.looked_up import share_looked_up
    >>> share_looked_up(
    ...     [keras.Sequential([keras.Input((3,)), keras.layers.Embedding(10, 4), keras.layers.Dense(8)])]
    ... )
    0.5
    """
    looked_up = total = 0
    for network in networks:
        for _, layer in prunable_candidates(network):
            total += layer.count_params()
            looked_up += isinstance(layer, keras.layers.Embedding) * layer.count_params()
    return looked_up / total if total else 0.0
