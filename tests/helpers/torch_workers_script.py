"""What one of two workers of PyTorch does; run by test_workers.py.

Usage: torch_workers_script.py FOLDER; what was found is written to FOLDER/worker-<number>.json.
"""

import json
import os
import sys
import warnings
from datetime import timedelta
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_TORCH_DEVICE"] = "cpu"

import keras
import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import keras_ganprune as kgp


def network():
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)]
    )
    draw = np.random.default_rng(3).normal
    model.set_weights([draw(size=w.shape).astype("float32") for w in model.weights])
    return model


def masks(model):
    found = [keras.ops.convert_to_numpy(w.mask) for w in kgp.masked_weights(model)]
    return [np.packbits(mask).tobytes().hex() for mask in found]


def nonzero(model):
    return [int(torch.count_nonzero(w.variable.value)) for w in kgp.masked_weights(model)]


def rounded(rank):
    """Each worker has weights of its own: the masks are the first one's."""
    model = network()
    pruner = kgp.Pruner(model)
    for weight in pruner.weights:
        values = np.random.default_rng(5 + rank).normal(size=weight.mask.shape)
        weight.variable.assign(values.astype("float32"))
    pruner.update(sparsity=0.5)
    return {"masks": masks(model), "nonzero": nonzero(model)}


def held(rank, mode="hard", constraint=None):
    """An optimizer of PyTorch's own, which has momentum for what is pruned."""
    model = network()
    model.layers[0].kernel.constraint = constraint
    pruner = kgp.Pruner(model, mode=mode)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    pruner.attach(optimizer)
    ddp = DistributedDataParallel(model)
    rng = np.random.default_rng(6 + rank)
    counts = []
    for step in range(9):
        if step in (3, 6):
            pruner.update(sparsity=0.25 * (step // 3), step=step)
        x, y = (torch.tensor(rng.normal(size=(16, n)), dtype=torch.float32) for n in (8, 3))
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(ddp(x), y).backward()
        optimizer.step()
        counts.append(nonzero(model))
    return {
        "masks": masks(model),
        "nonzero": counts,
        "weights": [float(w.value.detach().double().sum()) for w in model.weights],
        "largest": float(model.layers[0].kernel.value.detach().abs().max()),
    }


def grown(rank):
    """Under `set` weights return, with no momentum from before."""
    model = network()
    pruner = kgp.Pruner(model, mode="set")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    pruner.attach(optimizer)
    pruner.update(sparsity=0.5, step=0)
    x = torch.ones((4, 8))
    for step in (1, 2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        if step == 1:
            pruner.update(sparsity=0.5, step=1)
            back = pruner.regrown[id(model.layers[0].kernel)]
    kernel = model.layers[0].kernel.value
    where = torch.from_numpy(back)
    # The momentum of one step is its gradient, where none was kept.
    buffer = optimizer.state[kernel]["momentum_buffer"]
    same = torch.equal(buffer[where], kernel.grad[where])
    return {"grown": int(back.sum()), "momentum_is_the_gradient": same}


def clipped(rank):
    """A user's own constraint holds, too, as it does under Keras's optimizers."""
    return held(rank, constraint=keras.constraints.MaxNorm(0.5, axis=[0, 1]))


def in_fit(rank):
    """`Prune` in a `fit` of each worker, which sees data of its own: what it measures differs."""
    model = network()
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    rng = np.random.default_rng(6 + rank)
    x, y = (rng.normal(size=(64, n)).astype("float32") for n in (8, 3))
    prune = kgp.Prune(kgp.PolynomialDecay(0.8, 0, 7), frequency=3, verbose=0)
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[prune])
    return {"masks": masks(model), "nonzero": nonzero(model)}


def diverged(rank):
    """The loss of one worker is NaN: both stop."""
    model = network()
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    x, y = np.ones((64, 8), "float32"), np.ones((64, 3), "float32")
    if rank == 1:
        y[20] = np.nan
    guard = kgp.NaNGuard()
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0, callbacks=[guard])
    return {"stopped": guard.stopped_batch}


def updates_differ(rank):
    pruner = kgp.Pruner(network(), criterion=("magnitude", "l2")[rank])
    try:
        pruner.update(sparsity=0.5)
    except kgp.PruningError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"error": None}


def attached_elsewhere(rank):
    try:
        kgp.Pruner(network()).attach(torch.optim.SGD(network().parameters(), lr=0.1))
    except kgp.PruningError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"error": None}


CASES = (
    rounded,
    held,
    grown,
    clipped,
    in_fit,
    diverged,
    updates_differ,
    attached_elsewhere,
)

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    rank = dist.get_rank()
    found = {case.__name__: case(rank) for case in CASES}
    Path(sys.argv[1], f"worker-{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()
