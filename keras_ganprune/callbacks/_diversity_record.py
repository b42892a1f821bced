"""What `DiversityGuard` compares with: the best coverage, distance and classes so far."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """One measurement against the best of those before it.

    Attributes:
        best_coverage: The coverage that the measurement was compared with.
        best_distance: The lowest distance so far, this measurement included.
        coverage_fell: Whether the coverage fell by more than the tolerance.
        lost_classes: Classes that were present before and are missing now; empty if only their number
            is known.
        classes_fell: Whether a class was lost.
    """

    best_coverage: float
    best_distance: float
    coverage_fell: bool
    lost_classes: tuple[int, ...]
    classes_fell: bool

    @property
    def fell(self) -> bool:
        """Whether variety was lost."""
        return self.coverage_fell or self.classes_fell


class DiversityRecord:
    """The best measurements so far, in this `fit` and in earlier ones.

    Args:
        tolerance: How far the coverage may fall.
        classes: Whether lost classes count.
        baseline: The coverage to compare with; None for the best so far.
    """

    def __init__(self, tolerance: float, classes: bool, baseline: float | None):
        self.tolerance = tolerance
        self.classes = classes
        self.fixed = baseline is not None
        self.best_coverage = -math.inf if baseline is None else baseline
        self.best_distance = math.inf
        self.never_seen: set[int] | None = None
        self.fewest_missing = math.inf

    def compare(
        self,
        coverage: float,
        distance: float,
        missing: float,
        missing_classes: Iterable[int] | None,
    ) -> Comparison:
        """Return how a measurement compares, and take it into the record.

        Args:
            coverage: Share of real images covered.
            distance: Distance to the real images.
            missing: Number of missing classes; NaN if it is not measured.
            missing_classes: Their numbers; None if the evaluator does not report them.
        """
        lost, classes_fell = self._compare_classes(missing, missing_classes)
        compared_with = self.best_coverage
        if not self.fixed:
            self.best_coverage = max(compared_with, coverage)
        if math.isfinite(distance):
            self.best_distance = min(self.best_distance, distance)
        coverage_fell = coverage < compared_with - self.tolerance
        return Comparison(compared_with, self.best_distance, coverage_fell, lost, classes_fell)

    def _compare_classes(
        self, missing: float, missing_classes: Iterable[int] | None
    ) -> tuple[tuple[int, ...], bool]:
        if not self.classes or not math.isfinite(missing):
            return (), False
        more_missing = missing > self.fewest_missing
        self.fewest_missing = min(self.fewest_missing, missing)
        if missing_classes is None:
            return (), more_missing
        now = set(missing_classes)
        # Which classes, not how many: another class may have appeared in place of a lost one.
        lost = () if self.never_seen is None else tuple(sorted(now - self.never_seen))
        self.never_seen = now if self.never_seen is None else self.never_seen & now
        return lost, bool(lost)
