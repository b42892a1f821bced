"""The size of a network against the dense one, in words."""

from __future__ import annotations

from keras_ganprune.metrics.model_profile import Profile


def size_shares(small: Profile, dense: Profile) -> str:
    """Return which shares of the dense network are left.

    Args:
        small: Profile of the pruned or shrunk network.
        dense: Profile of the dense network.

    Example:
    >>> dense = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, use_bias=False)])
    >>> small = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, use_bias=False)])
    >>> size_shares(kgp.profile(small, latency=False), kgp.profile(dense, latency=False))
    '25 % of the weights are left, and 25 % of the MACs'
    """
    text = f"{_percent(small.nonzero / max(1, dense.parameters))} of the weights are left"
    if small.uncounted or dense.uncounted or not dense.macs:
        return text
    return f"{text}, and {_percent(small.macs / dense.macs)} of the MACs"


def _percent(share: float) -> str:
    return f"{round(100 * share, 1):g} %"
