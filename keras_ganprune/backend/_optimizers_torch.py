"""Masks under PyTorch's own optimizers, which know of no constraints."""

from __future__ import annotations

from typing import Any

import torch

from keras_ganprune.errors import InvalidArgumentError


def attach(optimizer: torch.optim.Optimizer, pruner: Any) -> None:
    """Let a PyTorch optimizer hold the masks of a `Pruner` at each of its steps."""
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    weights = [w for w in pruner.weights if id(w.variable.value) in trained]
    if not weights:
        raise InvalidArgumentError(
            "`optimizer` must train weights that are pruned. Received: one that "
            f"trains {len(trained)} parameters, none of them among the {len(pruner.weights)} pruned ones. "
            "Give the one that was made with `model.parameters()`."
        )
    cleared = pruner.updates_made

    @torch.no_grad()
    def clear_slots(*_: Any) -> None:
        nonlocal cleared
        if pruner.updates_made == cleared:
            return
        cleared = pruner.updates_made
        for weight in weights:
            keep = _moved(weight, pruner)
            for slot in optimizer.state.get(weight.variable.value, {}).values():
                if torch.is_tensor(slot) and slot.shape == keep.shape:
                    slot.mul_(keep)

    @torch.no_grad()
    def hold(*_: Any) -> None:
        for weight in weights:
            # As Keras's optimizers do: with the user's own constraint, and what a mode collects.
            weight.variable.assign(weight.variable.constraint(weight.variable))

    optimizer.register_step_pre_hook(clear_slots)
    optimizer.register_step_post_hook(hold)


def _moved(weight: Any, pruner: Any) -> torch.Tensor:
    """Return where momentum stays: not at what is pruned, or came back at the last update."""
    keep = weight.mask.value
    if pruner.mode.collects:
        keep = torch.ones_like(keep)  # pruned weights go on training unseen
    grown = pruner.regrown.get(id(weight.variable))
    if grown is not None:
        keep = keep & ~torch.from_numpy(grown).to(keep.device)
    return keep
