"""Weight averages of pruned networks that a user's code maintains. They must have the same masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import is_built
from keras_ganprune.layers.upgrade import copy_masks
from keras_ganprune.training import discovery
from keras_ganprune.training.loose_averages import LooseAverages


def _fingerprint(network: keras.layers.Layer) -> float:
    """Return a number that changes when the kernels of a network change.

    Vectors are ignored, because the batch statistics of a frozen teacher change if it runs in training mode.
    """
    kernels = [w for w in network.weights if len(w.shape) > 1]
    return float(sum(np.sum(to_numpy(w), dtype=np.float64) for w in kernels[:4]))


class Copies:
    """Finds the weight averages that a user's code maintains, and copies the masks to them.

    Args:
        model: Model that is being trained.
        targets: (name, network) for each pruned network.
        chosen: 'auto' to find the averages, names of networks as for `target`, or None for no averages.
        say: Function that prints a line of text. It is called when an average is found.
        effect: What this package does to an average, for that line. Defaults to 'gets the same masks'.
        holders: Other objects that may hold averages: the callbacks of this `fit`. Defaults to none.

    Attributes:
        pairs: Pairs of a pruned network and its average.
        loose: The averages that are kept as single variables or arrays.

    Raises:
        InvalidArgumentError: `chosen` names a network without the weight shapes of a pruned network.
    """

    def __init__(
        self,
        model: keras.Model,
        targets: Sequence[tuple[str, keras.layers.Layer]],
        chosen: discovery.Target,
        say: Callable[[str], Any],
        effect: str = "gets the same masks",
        holders: Iterable[Any] = (),
    ):
        self.model = model
        self.effect = effect
        self.targets = targets
        self.say = say
        self.pairs: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []
        self.automatic = chosen == "auto"
        self._first_seen: dict[int, float] = {}
        self.loose = LooseAverages(model, holders, say, effect)
        if not self.automatic and chosen:
            for name, copy in discovery.resolve_target(model, chosen):
                self._accept_chosen(name, copy)
        if self.automatic:
            # Recorded before the first batch, so that a single update is enough to notice a change.
            for other in discovery.networks(model).values():
                if is_built(other):
                    self._first_seen[id(other)] = _fingerprint(other)
            self.look_at_loose()

    def _accept_chosen(self, name: str, copy: keras.layers.Layer) -> None:
        shapes = [tuple(w.shape) for w in copy.weights]
        for _, network in self.targets:
            if [tuple(w.shape) for w in network.weights] == shapes:
                self.pairs.append((network, copy))
                return
        raise InvalidArgumentError(
            "`copies` must name networks with the weight shapes of a pruned network. "
            f"Received: '{name}', which has other shapes than "
            f"{' and '.join(n or 'the model' for n, _ in self.targets)}."
        )

    def look(self) -> None:
        """Add the untrained networks with the shapes of a pruned one whose weights have changed."""
        if not self.automatic:
            return
        known = {id(copy) for _, copy in self.pairs} | {id(n) for _, n in self.targets}
        for target_name, network in self.targets:
            if network is self.model:
                continue
            for name, other in discovery.possible_copies(self.model, network).items():
                if id(other) in known:
                    continue
                now = _fingerprint(other)
                if self._first_seen.setdefault(id(other), now) == now:
                    continue  # The weights of a frozen teacher never change.
                self.pairs.append((network, other))
                known.add(id(other))
                self.say(f"'{name}' is an average of '{target_name}' and {self.effect}")

    def look_at_loose(self) -> None:
        """Find averages that are no networks. The first call notes their values before training."""
        if self.automatic:
            self.loose.look(self.targets, [copy for _, copy in self.pairs])

    def sync(self) -> None:
        """Find new averages, then copy the masks of the pruned networks to all averages."""
        self.look()
        for network, copy in self.pairs:
            copy_masks(network, copy)
        if self.automatic:
            self.loose.sync(self.targets, [copy for _, copy in self.pairs])
