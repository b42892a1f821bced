"""`compress`: a trained model made sparse or small, by the best recipe known, in one call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras

from keras_ganprune.applications.compression import judge as judges
from keras_ganprune.applications.compression import requests, search
from keras_ganprune.applications.compression.folder import Folder, mark
from keras_ganprune.applications.compression.judge import Judge, measured
from keras_ganprune.applications.compression.outputs import kinds_of_outputs
from keras_ganprune.applications.compression.plan import plan_for
from keras_ganprune.applications.compression.recipe import recipe
from keras_ganprune.applications.compression.result import Compression
from keras_ganprune.applications.compression.subjects import (
    ForeignSubject,
    NetworkSubject,
    subject_of,
)
from keras_ganprune.applications.compression.training import Trainer
from keras_ganprune.callbacks.run_progress import RunProgress
from keras_ganprune.pruning.granularity import GranularityLike
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.utils import annotated


def compress(
    model: keras.Model,
    data: Any,
    *,
    sparsity: float | None = None,
    budget: Budget | Mapping[str, float] | None = None,
    granularity: GranularityLike | None = None,
    target: str | Sequence[str] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    validation_data: Any = None,
    metric: Any = None,
    higher_is_better: bool | None = None,
    tolerance: float | None = None,
    teacher: keras.Model | Literal[False] | None = None,
    baseline: Mapping[str, float] | Compression | Literal[False] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    folder: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    verbose: Literal["auto", 0, 1, 2] | bool = "auto",
) -> Compression:
    """Make a trained model sparse, or small and fast, and keep its quality.

    The recipe: the dense network becomes a frozen teacher. Weights (for a `budget`: channels) are scored
    by 'taylor', ranked over the whole network, and removed along a `PolynomialDecay`. Masked channels are
    cut out, and batch statistics are computed anew. The rest of the training is for recovery. Beside it,
    a copy of the dense model is trained for the same number of steps: the result is compared with that.

    The model is not changed, except for a class with a training step of its own that cannot be copied;
    the result says so.

    Args:
        model: A trained, compiled model: a `GANModel`, a GAN class of your own, or any other Keras model.
        data: What it was trained on: x, (x, y) or (x, y, sample_weight) of arrays, or a data set of batches
            whose length is known. A list or dict of arrays as x is one array per input.
        sparsity: Float in [0, 1), share of the weights to prune. Defaults to None.
        budget: `Budget` such as `Budget(macs=0.25)`, what stays of the network after channels are cut; or
            `Budget(latency=0.25, runtime="onnx")`, the time that stays, which is measured before the
            training, at the cut and at the end. Defaults to None.
        granularity: What is removed together. For `sparsity` any granularity, such as '2:4' or
            `Block.for_runtime("litert")`, whose zeros LiteRT skips; for `budget` a `Channel`.
            `Channel(round_to=8)` keeps widths that are multiples of 8: ONNX Runtime needs them to be fast.
            Defaults to None: single weights, or channels.
        target: Names of the networks of a GAN that are compressed. Defaults to None: the generator.
        epochs: Int, length of each training; 0 prunes by 'magnitude' in one shot and repairs the outputs of
            each layer without training (`repair`). Defaults to None: about 1,000 steps, in 4 to 100 epochs.
        batch_size: Positive int, samples per step, for arrays. Defaults to None, which means 32.
        validation_data: Held-out data as (x, y), for the compiled metrics. Defaults to None.
        metric: What judges: a function of a plain network that returns a number, or a dict whose first
            entry decides; an `ImageQuality`; None for the compiled metrics. For a GAN without a metric,
            nothing judges. Defaults to None.
        higher_is_better: Whether a higher value of the deciding metric is better. Defaults to None: its
            name tells.
        tolerance: Non-negative float, how much worse than dense the deciding metric may be, as a share of
            its value: 0.02 is 2 %. The highest sparsity (smallest budget) that holds is searched for,
            no further than `sparsity` (0.98 if there is none) or `budget`. Defaults to None: no search.
        teacher: The network that the compressed one stays close to; False for none. Defaults to None:
            the model's own network as it is now.
        baseline: Numbers of a dense model that was trained on for as many steps, or the `Compression` that
            has them, so that several calls share one; False to train none. Defaults to None: it is trained.
        callbacks: Further callbacks of each `fit`. Defaults to none.
        folder: Folder in which states are kept. A killed call goes on when it is made again with
            the same arguments. Defaults to None: nothing is kept.
        seed: Non-negative int, seed of the order of the data and of what is drawn. Defaults to None, which
            means 0.
        verbose: 0 for silence, otherwise lines with the time left. Defaults to 'auto'.

    Returns: A `Compression`.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        InvalidArgumentError: An argument is out of range, the model is not compiled, the budget cannot be
            met, the metric returns NaN, or nothing is within the tolerance.
        DataError: The data is empty, not finite, or has another number of labels than of samples.
        UnbuiltModelError: The model has no weights yet.
        FileFormatError: `folder` has the state of another compression.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)]
    ... )
    >>> model.compile("adam", "mse")
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> data = x, x.sum(axis=1, keepdims=True)
    >>> result = kgp.compress(model, data, sparsity=0.5, epochs=4, verbose=0)
    >>> result.achieved, result.steps
    (0.5, 8)

    Reference: [GAN Compression](https://arxiv.org/abs/2003.08936) for the teacher;
    [Importance estimation for neural network pruning](https://arxiv.org/abs/1906.10771) for 'taylor';
    [To prune, or not to prune](https://arxiv.org/abs/1710.01878) for the schedule.
    """
    names = ("target", "teacher", "baseline", "callbacks", "folder", "higher_is_better", "verbose")
    annotated.check(compress, locals(), *names)
    goal = requests.with_granularity(requests.goal_of(sparsity, budget, tolerance), granularity)
    requests.check_numbers(epochs, batch_size, seed)
    seed = seed or 0
    requests.check_model(model)
    targets = [target] if isinstance(target, str) else None if target is None else list(target)
    subject = subject_of(model, targets)
    given = requests.data_of(model, data)
    judge = _judge(subject, given, validation_data, metric, higher_is_better)
    requests.check_tolerance(tolerance, judge)
    plan = plan_for(given.x, given.samples, batch_size, epochs, goal.kind == "budget")
    dense = subject.dense()
    goal = requests.feasible(goal, subject)
    if teacher is not None and teacher is not False:
        requests.check_teacher(teacher, dense)
    if isinstance(subject, NetworkSubject):
        subject.outputs = kinds_of_outputs(dense, given.x)
    if isinstance(subject, ForeignSubject):
        subject.unpacks = given.samples is not None and given.y is None
    progress = RunProgress(bool(verbose), "compress: ")
    before = measured(judge, dense, progress, "the model as it is")
    requests.check_direction(tolerance, judge)
    identity = {
        "model": mark([w for _, network in subject.networks for w in network.weights]),
        "data": "a stream" if given.samples is None else mark([given.x, given.y, given.weights]),
        "options": f"{goal} {plan} {targets} {seed} {tolerance} {teacher is not False} "
        f"{goal.units!r} {goal.minimum}",
    }
    trainer = Trainer(
        subject,
        given,
        plan,
        None if teacher is False else dense if teacher is None else teacher,
        Folder(folder, identity),
        callbacks,
        seed,
        progress,
    )
    if teacher is not None and teacher is not False:
        trainer.teacher_name = "teacher"
    if not plan.epochs and baseline is None and before:
        baseline = before  # dense, trained for as many steps: none
    found = search.run(trainer, goal, judge, tolerance, baseline)
    network = found.trained.trainee.network()
    return Compression(
        model=found.trained.trainee.finished(),
        network=network,
        dense=dense,
        history=found.trained.history,
        before=before,
        baseline=found.baseline if plan.epochs else {},
        after=found.after,
        metric=judge.name,
        higher_is_better=judge.higher_is_better,
        requested=str(goal)
        if tolerance is None
        else f"{found.task} within {tolerance:.4g} of dense",
        achieved=found.achieved,
        steps=plan.steps,
        trials=found.trials,
        notes=[*subject.notes, *trainer.notes, *search.missed(found)],
        recipe=recipe(trainer, found.task),
    )


def _judge(
    subject: Any, data: Any, validation_data: Any, metric: Any, higher_is_better: bool | None
) -> Judge:
    judge = judges.of_metric(metric, higher_is_better)
    if judge is not None:
        return judge
    if isinstance(subject, NetworkSubject):
        return requests.compiled_metrics(subject, data, validation_data, higher_is_better)
    subject.notes.append("Nothing judged the quality. Pass `metric`, such as an `ImageQuality`.")
    return Judge(None, higher_is_better, "nothing")
