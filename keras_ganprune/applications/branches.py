"""The networks of an application: each goes on from the trained dense model for the same number of steps."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import keras

from keras_ganprune.applications.base import Application, Splits
from keras_ganprune.applications.dense_training import DenseTraining, Plan, fit
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.gan import Distillation
from keras_ganprune.layers.stripping import strip_pruning
from keras_ganprune.metrics import profile
from keras_ganprune.pruning.schedules import PolynomialDecay
from keras_ganprune.pruning.shrink_model import shrink
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.training import discovery


@attrs.frozen(eq=False)
class Branch:
    """A trained network of an application.

    Attributes:
        name: Name of its files: 'dense', 'sparse', 'small' or 'narrow'.
        title: Name in tables.
        network: The network that would be shipped, plain and uncompiled.
        model: The trained model around it.
        history: Log -> one value per epoch.
        seconds: Training time after the dense training.
    """

    name: str
    title: str
    network: keras.Model
    model: keras.Model
    history: Mapping[str, list[float]]
    seconds: float


def percent(share: float) -> str:
    """Return a share as text.

    Example:
    >>> percent(0.8), percent(0.125)
    ('80 %', '12.5 %')
    """
    return f"{round(100 * share, 2):g} %"


def branches(dense: DenseTraining, folder: pathlib.Path) -> Iterator[Branch]:
    """Yield the networks: dense trained on, sparse, with fewer MACs, and built narrow if that is an option.

    Args:
        dense: The finished dense training.
        folder: Folder for the state of a compression that may be interrupted.
    """
    options = dense.application.options
    yield trained_on(dense)
    yield compressed(
        dense, "sparse", f"{percent(options.sparsity)} sparse", folder, sparsity=options.sparsity
    )
    share = f"{percent(options.macs)} of the MACs"
    yield compressed(dense, "small", share, folder, budget=Budget(macs=options.macs))
    if options.compare_narrow:
        yield narrow(dense, f"built at {share}", options.macs)


def trained_on(dense: DenseTraining) -> Branch:
    """Return the dense network after as many further steps as the others get."""
    application, data, plan = dense.application, dense.data, dense.plan
    model = dense.trained_model()
    training = fit(application, model, data, plan, plan.branch)
    network = strip_pruning(application.network(model))
    return Branch("dense", "dense", network, model, training.history, training.seconds)


def compressed(
    dense: DenseTraining, name: str, title: str, folder: pathlib.Path, **target: Any
) -> Branch:
    """Return a network that is compressed to a target, `sparsity` or `budget`.

    Args:
        dense: The finished dense training.
        name, title: Of the branch.
        folder: Folder for the state of a compression that may be interrupted.
        **target: `sparsity` or `budget`.
    """
    model, started = dense.trained_model(), time.perf_counter()
    model, network, history = _compress(dense.application, model, dense.data, dense.plan, **target)
    return Branch(name, title, network, model, history, time.perf_counter() - started)


def _compress(
    application: Application,
    model: Any,
    data: Splits,
    plan: Plan,
    sparsity: float | None = None,
    budget: Budget | None = None,
) -> tuple[keras.Model, keras.Model, dict[str, list[float]]]:
    teach(model, application.network(model))
    if budget is not None and application.target is None:
        config = model.get_compile_config()
        model = shrink(model, budget=budget)
        model.compile_from_config(config)
    begin = discovery.steps_done(discovery.optimizers(model)[0])
    steps = plan.branch * plan.steps_per_epoch
    callbacks: list[Any] = []
    if sparsity is not None:
        schedule = PolynomialDecay(sparsity, begin, begin + max(1, round(0.6 * steps)))
        callbacks = [
            Prune(
                schedule,
                application.target,
                max(1, steps // 40),
                allocation="global_ranking",
                verbose=0,
            )
        ]
    elif application.target is not None:
        from keras_ganprune.callbacks.shrink import Shrink

        callbacks = [Shrink(begin + 1, application.target, budget=budget, verbose=0)]
    training = fit(application, model, data, plan, plan.branch, *callbacks)
    return model, strip_pruning(application.network(model)), training.history


def teach(model: Any, teacher: keras.Model) -> None:
    """Let a GAN stay close to a teacher."""
    if hasattr(model, "set_teacher"):
        model.set_teacher(strip_pruning(teacher), Distillation())


def narrow(dense: DenseTraining, title: str, share: float) -> Branch:
    """Return a network built with a share of the MACs, and trained by the same teacher from the start.

    Args:
        dense: The finished dense training; its network is the teacher.
        title: Of the branch.
        share: Share of the MACs of the dense network.
    """
    application, data, plan = dense.application, dense.data, dense.plan
    teacher = dense.trained_model()
    model = dense.new_model(width_for(share, lambda width: _macs(dense, width)))
    teach(model, application.network(teacher))
    training = fit(application, model, data, plan, plan.dense + plan.branch)
    network = strip_pruning(application.network(model))
    return Branch("narrow", title, network, model, training.history, training.seconds)


def _macs(dense: DenseTraining, width: float) -> int:
    """Return the multiply-accumulates of the network of an application at a width."""
    application = dense.application
    network = application.network(dense.new_model(width))
    return int(profile(network, latency=False).macs)


def width_for(share: float, macs: Callable[[float], int]) -> float:
    """Return the largest width at which a network has at most a share of the MACs of width 1.

    Args:
        share: Share of the MACs, in (0, 1).
        macs: Function that returns the MACs at a width. It must not fall.

    Example:
    >>> width_for(0.25, lambda width: round(1000 * width**2))
    0.5
    """
    allowed = share * macs(1.0)
    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        if macs(middle) <= allowed:
            low = middle
        else:
            high = middle
    # Below the narrowest network there is none: each layer has a channel at least.
    return low or high
