"""What `explain` found of one network, and the calls that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from keras_ganprune.layers.covered_kernels import MaskCoverage
from keras_ganprune.metrics.explanation import screen
from keras_ganprune.pruning.structured.groups import Groups
from keras_ganprune.utils.notebook import Block, ShownInNotebooks


@dataclass(frozen=True)
class Outcome:
    """The costs of a network as it is, or as it would be left.

    Attributes:
        what: What is done, such as '80% sparsity (masks)'.
        kind: 'now', 'masks', 'cut' (channels are removed), or 'masked channels' (those that masks have
            pruned are removed).
        parameters: Int, number of weights.
        nonzero: Int, number of weights that are not zero.
        macs: Int, multiply-accumulates per sample, which names the layers that are not counted; None if the
            inputs of the network are not known.
        bytes: Int, bytes of all weights in memory.
        arguments: Code of the arguments of `shrink` or `Prune` that leave this; ''.

    Example:
    >>> Outcome("now", "now", 36, 32, 32, 144).row()
    ('now', '36', '32', '32', '144')
    """

    what: str
    kind: Literal["now", "masks", "cut", "masked channels"]
    parameters: int
    nonzero: int
    macs: int | None
    bytes: int
    arguments: str = ""

    def row(self) -> tuple[str, ...]:
        """Return the cells of a table."""
        uncounted = " + ?" if getattr(self.macs, "uncounted", ()) else ""
        macs = "?" if self.macs is None else f"{int(self.macs):,}{uncounted}"
        counts = (self.parameters, self.nonzero)
        return (self.what, *(f"{n:,}" for n in counts), macs, f"{self.bytes:,}")


@dataclass(frozen=True)
class NextCall:
    """A line of code that works on the explained model.

    Attributes:
        code: The line. In it, `kgp` is keras_ganprune, `model` the explained model, and `data` what it is
            trained on.
        what: What the line does.

    Example:
    >>> print(NextCall("plain = kgp.strip_pruning(model)", "a plain model with the zeros in it"))
    plain = kgp.strip_pruning(model)  # a plain model with the zeros in it
    """

    code: str
    what: str

    def __str__(self) -> str:
        return f"{self.code}  # {self.what}"


@dataclass(frozen=True, repr=False)
class NetworkExplanation(ShownInNotebooks):
    """What can be pruned of one network.

    Attributes:
        name: Name of the network; of a network inside a model, its attribute name.
        kind: Name of its class.
        coverage: `MaskCoverage`: which kernels can have masks, and what helps where one cannot.
        pruned: Float, the sparsity of its masks now; 0 without masks.
        outcomes: Tuple of `Outcome`: now, at 80 % sparsity, at a quarter of the MACs. What is not possible
            is left out.
        groups: `Groups` of channels that go together, or None if channels cannot be followed.
        stay: Dict, path of a layer whose channels all stay -> the reason.
        keep: Tuple of the layers that must be left alone (`keep=`), so that the others can be cut.
        advice: Tuple of texts: what is in the way, and what helps.

    Example:
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6), keras.layers.Dense(4)])
    >>> network = kgp.explain(model).networks[0]
    >>> network.coverage.covered, len(network.groups), network.can_be_cut, network.pruned
    (72, 1, True, 0.0)
    """

    name: str
    kind: str
    coverage: MaskCoverage
    pruned: float
    outcomes: tuple[Outcome, ...]
    groups: Groups | None
    stay: Mapping[str, str] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def can_be_cut(self) -> bool:
        """Whether channels can be cut out, so that the network gets smaller and faster."""
        return self.outcome("cut") is not None

    def outcome(self, kind: str) -> Outcome | None:
        """Return the outcome of a kind, such as 'masks' or 'cut'; None if it is not possible."""
        return next((outcome for outcome in self.outcomes if outcome.kind == kind), None)

    def table(self) -> list[tuple[str, ...]]:
        """Return the outcomes as text cells, header first."""
        rows = [outcome.row() for outcome in self.outcomes]
        return [("what is left", "parameters", "not zero", "MACs", "bytes"), *rows]

    def __str__(self) -> str:
        return "\n".join(screen.network(self))

    __repr__ = __str__

    def _blocks(self) -> list[Block]:
        return screen.network_blocks(self)
