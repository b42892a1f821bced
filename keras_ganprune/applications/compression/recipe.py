"""The code that a user pastes to do by hand what `compress` did."""

from __future__ import annotations

from typing import Any

from keras_ganprune.applications.compression.latency_goals import cut_choice
from keras_ganprune.applications.compression.plan import Plan
from keras_ganprune.applications.compression.subjects import (
    AdversarialSubject,
    NetworkSubject,
    Subject,
)
from keras_ganprune.applications.compression.task import Task
from keras_ganprune.applications.compression.training import Trainer
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.training import discovery


def recipe(trainer: Trainer, task: Task) -> str:
    """Return the code of one training.

    Args:
        trainer: What ran it.
        task: The task that gave the result.
    """
    subject, plan = trainer.subject, trainer.plan
    if not plan.epochs:
        return "\n".join(_without_training(trainer, task)) + "\n"
    lines = [
        "# `model` is the compiled model that was compressed, in the state that it had then.",
        "import keras",
        "",
        "import keras_ganprune as kgp",
        "",
        *_data(trainer, plan),
        *_model(subject, trainer),
        *_prune(trainer, task),
        *_fits(trainer, task),
    ]
    return "\n".join(lines) + "\n"


def _data(trainer: Trainer, plan: Plan) -> list[str]:
    data = trainer.data
    if data.samples is None:
        return ["batches = data  # as it was passed to `compress`"]
    weights = ", weights" if data.weights is not None else ""
    labels = "y" if data.y is not None else "None"
    names = "x, y, weights" if weights else "x, y" if data.y is not None else "x"
    keyword = ", weights=weights" if weights else ""
    return [
        f"{names} = data  # as it was passed to `compress`",
        f"batches = kgp.datasets.Batches(x, {labels}, batch_size={plan.batch_size}, "
        f"per_epoch={plan.per_epoch}, seed={trainer.seed}{keyword})",
    ]


def _model(subject: Subject, trainer: Trainer) -> list[str]:
    taught = trainer.teacher is not None
    if isinstance(subject, AdversarialSubject):
        lines = ["gan = model"]
        if taught:
            teacher = trainer.teacher_name or "kgp.strip_pruning(gan.sampler)"
            lines.append(f"gan.set_teacher({teacher})")
        return lines
    if isinstance(subject, NetworkSubject):
        kinds: Any = subject.outputs[0] if len(set(subject.outputs)) == 1 else subject.outputs
        teacher = (
            f", teacher={trainer.teacher_name or 'model'}, outputs={kinds!r}" if taught else ""
        )
        return [f"trainer = kgp.Distiller.of(model{teacher})"]
    lines = ["gan = model"]
    if getattr(subject, "unpacks", False):
        lines += [
            "step = gan.train_step  # a data set gives it (x,) where an array gives x",
            "gan.train_step = lambda *a: step(*a[:-1], a[-1][0])",
        ]
    if taught and getattr(subject, "teaches", False):
        teacher = trainer.teacher_name or f"kgp.strip_pruning(gan.{subject.shipped})"  # pyright: ignore
        lines.append(f"teach = kgp.Teach({teacher}, {subject.targets[0]!r})")  # pyright: ignore
    return lines


def _prune(trainer: Trainer, task: Task) -> list[str]:
    schedule, frequency = trainer.schedule(task)
    targets = trainer.targets
    target = targets[0] if targets is not None and len(targets) == 1 else targets
    units = []
    if not isinstance(task.units, str):
        units = [f"    granularity=kgp.{task.units!r},"]
    elif task.units != "unstructured":
        units = [f"    granularity={task.units!r},"]
    return [
        "prune = kgp.Prune(",
        f"    kgp.PolynomialDecay({schedule.final:.6g}, begin_step={schedule.begin_step}, "
        f"end_step={schedule.end_step}),",
        f"    target={target!r},",
        f"    frequency={frequency},",
        f'    criterion="{task.criterion}",',
        f"    allocation={_allocation(task)},",
        *units,
        ")",
        f"keras.utils.set_random_seed({trainer.seed})",
    ]


def _fits(trainer: Trainer, task: Task) -> list[str]:
    plan, name = trainer.plan, trainer.subject.label
    teach = trainer.teacher is not None and getattr(trainer.subject, "teaches", False)
    more, alone = (", teach", ", callbacks=[teach]") if teach else ("", "")
    some = f"keras.tree.map_structure(lambda a: a[:{trainer.recalibrated}], x)"
    settle = f"kgp.recalibrate_batch_norm(trainer.student, {some})"
    end = [settle] if trainer.settles(task) else []
    if task.kind == "sparsity":
        fit = f"{name}.fit(batches, epochs={plan.epochs}, shuffle=False, callbacks=[prune{more}])"
        return [fit, *end]
    targets = trainer.targets
    target = targets[0] if targets is not None and len(targets) == 1 else targets
    first = f"{name}.fit(batches, epochs={plan.cut_epoch}, shuffle=False, callbacks=[prune{more}])"
    cut = (
        f"kgp.Shrink(None, target={target!r}{_correction(trainer, task)}{_recalibration(trainer)})"
    )
    cut += f".cut({name})"
    lines = [first, cut]
    if plan.cut_epoch < plan.epochs:
        lines += [
            f"keras.utils.set_random_seed({trainer.seed})",
            f"{name}.fit(batches, initial_epoch={plan.cut_epoch}, epochs={plan.epochs}, "
            f"shuffle=False{alone})",
        ]
    return [*lines, *end]


def _correction(trainer: Trainer, task: Task) -> str:
    """Return what the cut of a latency was corrected to."""
    share = trainer.folder.get(f"{task.key} cut")
    if not share:
        return ""
    arguments = {"budget": Budget(macs=share), **cut_choice(task)}
    return "".join(f", {name}=kgp.{value!r}" for name, value in arguments.items())


def _recalibration(trainer: Trainer) -> str:
    n = trainer.recalibrated
    if isinstance(trainer.recalibration, bool):
        return "" if trainer.recalibration else ", recalibrate=False"
    data = "(x, y)" if trainer.subject.label == "gan" else "x"
    return f", recalibrate=keras.tree.map_structure(lambda a: a[:{n}], {data})"


# --- without training --------------------------------------------------------------------------------


def _without_training(trainer: Trainer, task: Task) -> list[str]:
    subject, targets = trainer.subject, trainer.subject.targets
    places = ["model"] if targets is None else [f"model.{name}" for name in targets]
    value = task.value if task.kind == "sparsity" else 1.0 - task.value
    lines = [
        "# `model` is the model that was compressed, in the state that it had then. It is changed.",
        "import copy",
        "",
        "import keras_ganprune as kgp",
        "",
        "dense = copy.deepcopy(model)",
        f"pruner = kgp.Pruner({', '.join(places)}, criterion={task.criterion!r}, "
        f"allocation={_allocation(task)}, granularity={_units(task)})",
        f"pruner.update(sparsity={value:.6g})",
    ]
    for place in places:
        copies = discovery.averages_of(
            subject.model, _at(subject.model, place.removeprefix("model").strip("."))
        )
        lines += [f"kgp.copy_masks({place}, model.{name})" for name in copies]
    seed = f", seed={trainer.seed}" if trainer.seed else ""
    if isinstance(subject, AdversarialSubject) and targets == ["generator"]:
        labelled = trainer.data.y is not None and getattr(subject.model, "conditional", True)
        data = ", data" if labelled else ""
        lines.append(f"kgp.repair(model, dense{data}{seed})")
    elif targets is None:
        lines.append(f"kgp.repair(model, dense, data{seed})  # data as it was passed to `compress`")
    else:
        lines += [
            f"kgp.repair({place}, dense{place.removeprefix('model')}, inputs{seed})  # its own inputs"
            for place in places
        ]
    if task.kind == "budget":
        if targets is None:
            lines.append("model = kgp.shrink(model)")
        else:
            lines.append(f"kgp.Shrink(None, target={targets!r}, recalibrate=False).cut(model)")
    return lines


def _at(model: Any, name: str) -> Any:
    return getattr(model, name) if name else model


def _allocation(task: Task) -> str:
    if task.minimum == 1:
        return '"global_ranking"'
    return f"kgp.GlobalRanking(minimum={task.minimum:.6g})"


def _units(task: Task) -> str:
    return repr(task.units) if isinstance(task.units, str) else f"kgp.{task.units!r}"
