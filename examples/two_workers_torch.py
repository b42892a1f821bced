"""Prunes one classifier on two PyTorch workers with `DistributedDataParallel`.

    python examples/two_workers_torch.py [--backup FOLDER [--kill-at STEP]]

By itself it starts both workers on this machine. On machines of your own, start it on each with
`torchrun` (see PyTorch's 'torchrun (Elastic Launch)').
"""

import argparse
import hashlib
import os
import signal
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
os.environ.setdefault("KERAS_TORCH_DEVICE", "cpu")  # on GPUs: take this away, and use "nccl" below

import two_processes

EPOCHS, BATCH = 6, 64  # the batch is that of each worker


def digits(rank, workers):
    """Return a worker's share of the data, in batches."""
    import torch
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    number = len(x) // (workers * BATCH)
    return [
        (x[start : start + BATCH], y[start : start + BATCH])
        for start in range(rank * BATCH, number * workers * BATCH, workers * BATCH)
    ]


def work(backup, kill_at):
    import keras
    import torch
    import torch.distributed as dist

    import keras_ganprune as kgp

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    data = digits(rank, dist.get_world_size())
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10)]
    )
    ddp = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loss_of = torch.nn.CrossEntropyLoss()

    pruner = kgp.Pruner(model)
    pruner.attach(optimizer)
    schedule = kgp.PolynomialDecay(0.9, begin_step=10, end_step=60)
    weights_file, rest_file = (Path(backup or ".", n) for n in ("model.weights.h5", "rest.pt"))
    step = 0
    if backup and rest_file.exists():  # the first worker's: it is right for all
        model.load_weights(weights_file)  # with the masks
        rest = torch.load(rest_file)
        optimizer.load_state_dict(rest["optimizer"])
        step = rest["step"]

    while step < EPOCHS * len(data):
        x, y = data[step % len(data)]
        optimizer.zero_grad()
        loss = loss_of(ddp(x), y)
        loss.backward()
        optimizer.step()
        step += 1
        if schedule.is_update_step(step, 10):
            pruner.update(sparsity=schedule(step), step=step)  # on every worker
        if backup and rank == 0 and step % len(data) == 0:
            Path(backup).mkdir(parents=True, exist_ok=True)
            model.save_weights(weights_file, overwrite=True)
            torch.save({"optimizer": optimizer.state_dict(), "step": step}, rest_file)
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    masks = [keras.ops.convert_to_numpy(w.mask) for w in kgp.masked_weights(model)]
    weights = [keras.ops.convert_to_numpy(w) for w in model.weights]
    print(
        f"worker {rank}: steps {step}, loss {float(loss.detach()):.3f}, "
        f"kept {sum(int(m.sum()) for m in masks)} of {sum(m.size for m in masks)}, "
        f"nonzero {sum(int((w != 0).sum()) for w in weights if w.ndim == 2)}, "
        f"masks {digest(masks)}, weights {digest(weights)}",
        flush=True,
    )
    # DDP's reducer must not be the last to hold the group: it would end gloo's thread while it
    # holds Python's lock, which that thread may be waiting for, and the process would never end.
    del ddp
    dist.destroy_process_group()


def digest(arrays):
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:12]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--backup", help="folder that both workers can read")
    parser.add_argument("--kill-at", type=int, default=0, help="step at which both are killed")
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        work(arguments.backup, arguments.kill_at)
    else:
        ended = two_processes.start(two_processes.torch_environments(), [sys.argv] * 2)
        sys.exit(max(abs(process.returncode) for process in ended))
