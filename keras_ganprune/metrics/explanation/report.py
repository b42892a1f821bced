"""`Explanation`: what `explain` found, as fields, on one screen, and in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.metrics.explanation import screen
from keras_ganprune.metrics.explanation.one_network import NetworkExplanation, NextCall
from keras_ganprune.utils.notebook import Block, CodeBlock, ShownInNotebooks


@dataclass(frozen=True, repr=False)
class Explanation(ShownInNotebooks):
    """The result of `explain`: it prints on one screen, and is indexed by the name of a network.

    Attributes:
        name: Name of the model.
        kind: Name of its class.
        networks: Tuple of `NetworkExplanation`, one per network.
        calls: Tuple of `NextCall`: lines of code that work on this model, the first of which to make next.
        notes: Tuple of sentences on networks that are left out.

    Example:
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6), keras.layers.Dense(4)])
    >>> kgp.explain(model).calls[0].code
    'small = kgp.shrink(model, budget=kgp.Budget(macs=0.25))'
    """

    name: str
    kind: str
    networks: tuple[NetworkExplanation, ...]
    calls: tuple[NextCall, ...]
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[NetworkExplanation]:
        return iter(self.networks)

    def __len__(self) -> int:
        return len(self.networks)

    def __getitem__(self, name: str) -> NetworkExplanation:
        known = {network.name: network for network in self.networks}
        if name not in known:
            raise InvalidArgumentError(unknown_name("network", name, known))
        return known[name]

    def __str__(self) -> str:
        return "\n".join(
            [
                *screen.headline(self.name, self.kind, self.networks),
                *(line for network in self.networks for line in ["", *screen.network(network)]),
                *screen.notes(self.notes),
                "",
                *screen.calls(self.calls),
            ]
        )

    __repr__ = __str__

    def _blocks(self) -> list[Block]:
        blocks: list[Block] = [" ".join(screen.headline(self.name, self.kind, self.networks))]
        for network in self.networks:
            blocks += screen.network_blocks(network)
        code = "\n".join(f"# {call.what}\n{call.code}" for call in self.calls)
        return [*blocks, *self.notes, "Next:", CodeBlock(code)]
