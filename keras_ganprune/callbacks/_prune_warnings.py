"""The warnings of `Prune` during a run that does not go as its settings say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def cut(network: Any, prune: Any, step: int, others: Sequence[str]) -> str:
    """Return the warning that a target was cut before the end of the schedule."""
    more = f" Pruning of {', '.join(map(repr, others))} ends with it." if others else ""
    return (
        f"'{network.name}' was made smaller at step {step}, and {prune!r} ends there, its "
        f"schedule at step {prune.schedule.end_step}.{more} Cut at the end of the schedule or later, and "
        "give networks that are cut at different steps callbacks of their own."
    )


def ended(schedule: Any, step: int, sparsity: float) -> str | None:
    """Return the warning that training ended before the schedule ended or began, or None."""
    begin, end = schedule.begin_step, schedule.end_step
    if step < begin:
        return (
            f"Training ended at step {step}, before the schedule's begin_step {begin}: "
            "nothing was pruned. Train longer, or choose an earlier `begin_step`; another `fit` "
            "continues from here."
        )
    if end is not None and step < end:
        return (
            f"Training ended at step {step}, before the schedule's end_step {end}: "
            f"sparsity is {sparsity:.4f}, the schedule ends at {schedule(end):g}. "
            "Train longer, or choose an earlier `end_step`; another `fit` continues from here."
        )
    return None


def late_start(begin: int, step: int, before: float, after: float) -> str:
    """Return the warning that a gradual schedule has pruned much at its first update."""
    return (
        f"The optimizer was at step {step} already, past begin_step {begin}: the masks went from sparsity "
        f"{before:.4f} to {after:.4f} at once. Steps are the optimizer's own count; for a gradual start "
        f"pass begin_step={step} or later."
    )


def frozen(paths: Sequence[str]) -> str:
    """Return the warning that training does not change some weights that are pruned."""
    more = f" and {len(paths) - 3} others" if len(paths) > 3 else ""
    return (
        f"{', '.join(paths[:3])}{more}: frozen (`trainable` is False, and training has not changed them), so "
        "pruned without a chance to recover. Leave frozen layers out of `scope` if you do not want this."
    )


def lowered(prune: Any, before: float, after: float) -> str:
    """Return the warning that the first update has brought weights back that other settings have pruned."""
    return (
        f"The masks had sparsity {before:.4f} when training began, and the first update of {prune!r} has "
        f"lowered it to {after:.4f}, because {prune.settings.mode!r} brings weights back. To keep what is "
        'pruned, use mode="hard"; to continue the run that made these masks, use its settings.'
    )


def shared_layers(paths: Sequence[str], mode: Any) -> str:
    """Return the warning that two callbacks choose the masks of the same layers."""
    return (
        f"Two `Prune` callbacks of this `fit` choose the masks of {', '.join(paths[:3])}"
        f"{' and others' if len(paths) > 3 else ''}, and {mode!r} brings "
        "weights back that the other callback has pruned: the last update wins. Give them targets "
        "or a `scope` without common layers."
    )


def no_gradients(criterion: Any) -> str:
    """Return the warning that an update waited for gradients that no batch gave."""
    return (
        "Nothing was pruned: training ended before any batch gave the gradients that "
        f"{criterion!r} needs."
    )


def written_past_keras(paths: Sequence[str]) -> str:
    """Return the warning that other code has written values into pruned weights."""
    return (
        f"{', '.join(paths[:3])}{' and others' if len(paths) > 3 else ''} had values under the mask at the "
        "end of an epoch, which are set to zero now. So the losses of that epoch are not those of the pruned "
        "model. Other code wrote them past Keras: an operation of the backend on the variable, or an "
        "optimizer that applies no constraint. On PyTorch call `Pruner(...).attach(optimizer)` for one of "
        "`torch.optim`; elsewhere write by `variable.assign`."
    )


def optimizer_lost(saved: int, model: str) -> str:
    """Return the warning that masks were loaded without the state of the optimizer that trains them."""
    return (
        "the optimizer's state was not restored with the masks, so its moments begin anew; the schedule "
        f"continues at step {saved}, where they were saved. Keras restores an optimizer that is an attribute "
        f"of the {model} and built before the file is read: call "
        "`optimizer.build(network.trainable_variables)` first, for example in `compile`."
    )
