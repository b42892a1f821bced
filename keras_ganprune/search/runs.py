"""One training run of a sweep, and the runs that make up one trial."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SweepRun:
    """One planned training run of a sweep.

    Attributes:
        seed: Int, seed of the weights, the order of the data and the latent vectors.
        fold: Int, the fold that is held out; None without cross-validation.
        quantity: 'sparsity' or 'threshold'.
        requested: Float, sparsity or threshold at the end of the run; None for a dense run.
        criterion: Name of the criterion; None for a dense run.

    Example:
    >>> str(SweepRun(seed=0, fold=1, requested=0.8, criterion="magnitude"))
    'magnitude, sparsity 0.8, seed 0, fold 1'
    """

    seed: int
    fold: int | None
    quantity: str = "sparsity"
    requested: float | None = None
    criterion: str | None = None

    @property
    def dense(self) -> bool:
        """Whether the run trains without pruning."""
        return self.requested is None

    @property
    def pair(self) -> tuple[int, int | None]:
        """The (seed, fold) that a pruned run shares with the dense run that it is compared with."""
        return (self.seed, self.fold)

    def __str__(self) -> str:
        setting = (
            "dense"
            if self.requested is None
            else f"{self.criterion}, {self.quantity} {self.requested:.4g}"
        )
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{setting}, seed {self.seed}{fold}"


@dataclass(frozen=True)
class Cell:
    """The work of one Optuna trial: one run, or, in a search, one sparsity with all seeds and folds.

    Attributes:
        name: Text, unique within the study.
        runs: The runs. A candidate has dense runs, which stand for their seeds and folds.
        candidate: Whether the search has yet to choose the sparsity.
    """

    name: str
    runs: tuple[SweepRun, ...]
    candidate: bool = False
