"""The warning of a `Pruner` when an update does not reach the requested sparsity."""

from __future__ import annotations

from collections.abc import Sequence

from keras_ganprune.pruning.allocation import Allocation
from keras_ganprune.pruning.mask_report import MaskReport
from keras_ganprune.pruning.rankings.base import Ranking
from keras_ganprune.pruning.rankings.targets import Target


def missed_target(
    report: MaskReport,
    targets: Sequence[Target],
    rankings: Sequence[Ranking],
    allocation: Allocation,
) -> str | None:
    """Return a warning for the first target that was not reached, or None.

    Args:
        report: The report of the update.
        targets: The targets of the update.
        rankings: All rankings of the pruner.
        allocation: The allocation, whose `minimum` may be the reason.
    """
    for target in targets:
        rows = [report.rows[i] for i in target.members]
        kept = sum(row.kept if target.in_weights else row.kept_units for row in rows)
        wanted = target.wanted
        if wanted is None or abs(kept - wanted) <= _slack(target, rankings):
            continue
        path = f", of {rows[0].path}" if len(targets) > 1 else ""
        counts = f"{kept} {_unit_name(report, target, rankings)} kept, not {wanted}{path}"
        if kept < wanted:
            reason = (
                "`hard` masks never return a weight, and the network is sparser than that already"
            )
        else:
            reason = (
                "at least `minimum` of every tensor is kept, which is "
                f"{allocation.minimum} for {type(allocation).__name__}"
            )
        return (
            f"Sparsity {report.requested:g} was requested, {report.achieved:.4f} achieved ({counts}): "
            f"{reason}."
        )
    return None


def _slack(target: Target, rankings: Sequence[Ranking]) -> int:
    """Return by how much the number kept may differ from the target without a warning."""
    if target.in_weights:
        # Whole units can come as near to a number of weights as the largest unit allows.
        return max(int(rankings[i].unit_sizes.max()) for i in target.members)
    return sum(rankings[i].rounding_slack for i in target.members)


def _unit_name(report: MaskReport, target: Target, rankings: Sequence[Ranking]) -> str:
    if report.counted != "weights":
        return report.counted
    single = all(rankings[i].tensor.unit_size == 1 for i in target.members)
    return "weights" if single or target.in_weights else "units"
