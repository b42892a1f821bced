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
        """The (seed, fold) of the run. A pruned run is compared with the dense run of the same pair."""
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
        runs: The runs. For a candidate, these are dense runs, of which only the seeds and folds are used.
        candidate: Whether the search chooses the sparsity when the trial begins.
    """

    name: str
    runs: tuple[SweepRun, ...]
    candidate: bool = False
