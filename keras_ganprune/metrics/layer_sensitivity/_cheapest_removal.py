"""Distribute a number of pruned weights over the layers so that the measured degradation is least."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

# A finite cost for a network whose metric is no longer finite.
_RUINED = 1e300

Point = tuple[float, float]


def cheapest_removal(
    curves: Mapping[str, Sequence[Point]], removed: Mapping[str, float], number: float
) -> dict[str, float]:
    """Return how many weights to remove from each layer.

    Each curve is replaced by its lower convex hull. Weights are then removed where the slope is lowest,
    until the number is reached; on convex curves this is optimal. Pieces of equal slope are used in
    proportion to their lengths.

    Args:
        curves: Dict, path -> measured points (weights removed, increase of the metric).
        removed: Dict, path -> weights that are removed already.
        number: Number of further weights to remove.

    Returns:
        Dict, path -> weights removed in the end, not rounded.

    Reference: [Shoham & Gersho](https://doi.org/10.1109/29.90373), §III: allocation along convex hulls.
    """
    result = dict(removed)
    pieces = [
        (slope, path, length)
        for path, points in curves.items()
        for slope, length in _hull(points, removed[path])
    ]
    for _, group in itertools.groupby(sorted(pieces), key=lambda piece: piece[0]):
        equal = list(group)
        share = min(1.0, max(number, 0.0) / sum(length for *_, length in equal))
        for _, path, length in equal:
            result[path] += share * length
            number -= share * length
    return result


def _hull(points: Sequence[Point], removed: float) -> list[Point]:
    """Return the pieces (slope, length) of the lower convex hull, beginning with the weights removed already.

    An increase below zero is noise and counts as zero.
    """
    path: list[Point] = [(removed, 0.0)]
    for x, increase in points:
        if x > path[-1][0]:
            path.append((x, min(max(increase, 0.0), _RUINED)))
    hull: list[Point] = []
    for point in path:
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return [(_slope(a, b), b[0] - a[0]) for a, b in itertools.pairwise(hull)]


def _slope(a: Point, b: Point) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def whole_numbers(
    kept: Mapping[str, float], sizes: Mapping[str, int], total: int
) -> dict[str, int]:
    """Return ints near `kept` that add up to `total`, each at least 1 and at most its size."""
    result = {path: max(1, round(value)) for path, value in kept.items()}
    while (missing := total - sum(result.values())) != 0:
        step = 1 if missing > 0 else -1
        adjustable = [p for p in result if (result[p] < sizes[p] if step > 0 else result[p] > 1)]
        if not adjustable:
            return result
        path = max(adjustable, key=lambda p: step * (kept[p] - result[p]))
        result[path] += step
    return result


def moved_to_total(
    kept: Mapping[str, int], sizes: Mapping[str, int], total: float
) -> dict[str, float]:
    """Return `kept`, changed so that its sum is the fractional `total`, but by less than rounding removes."""
    rest = total - sum(kept.values())
    adjustable = [path for path in kept if rest < 0 or kept[path] < sizes[path]]
    # Slightly less than the rest, since exactly a half may be rounded up.
    move = 0.98 * rest / max(1, len(adjustable))
    return {path: n + move if path in adjustable else float(n) for path, n in kept.items()}
