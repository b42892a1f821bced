"""The arguments of `compress`: the request, the data, and what judges."""

from __future__ import annotations

from typing import Any, cast

import attrs
import keras
import numpy as np

from keras_ganprune.applications.compression.judge import Judge
from keras_ganprune.applications.compression.latency_goals import check_one_network
from keras_ganprune.applications.compression.least_kept import least_of_a_group, missed_silently
from keras_ganprune.applications.compression.outputs import in_one_line, shapes
from keras_ganprune.applications.compression.subjects import Subject
from keras_ganprune.applications.compression.task import Task
from keras_ganprune.applications.compression.training import Data
from keras_ganprune.errors import (
    ArgumentTypeError,
    DataError,
    InvalidArgumentError,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.traversal import is_built
from keras_ganprune.pruning import granularity as granularities
from keras_ganprune.pruning.granularity import Channel
from keras_ganprune.pruning.structured import budget as budgets
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.pruning.structured.groups import Groups, channel_groups
from keras_ganprune.training import discovery
from keras_ganprune.training.compiled_copies import compile_arguments
from keras_ganprune.utils import training_data, validation
from keras_ganprune.utils.validation import validate_sparsity

# How far a search goes if nothing says so.
_FURTHEST = 0.98


def goal_of(sparsity: Any, budget: Any, tolerance: Any) -> Task:
    """Return the request.

    Raises:
        InvalidArgumentError: Not exactly one of `sparsity` and `budget` is given (or none of them with a
            tolerance), or one is out of range.
    """
    if sparsity is not None and budget is not None:
        raise InvalidArgumentError(
            "Give one of `sparsity` (weights become zero) and `budget` (channels are cut out). Received: "
            f"sparsity={sparsity!r}, budget={budget!r}."
        )
    if tolerance is not None:
        validation.non_negative(tolerance, "tolerance", "a share of the metric such as 0.02")
        if validation.looks_like_percent(tolerance):
            raise InvalidArgumentError(
                f"`tolerance` is a share of the metric, such as 0.02 for 2 %. Received: {tolerance!r}."
            )
    if budget is not None:
        budget = budgets.get(budget)
        if budget.is_measured:
            # Until it is measured, the same share of the multiply-accumulates.
            return Task("budget", budget.fraction, "macs", latency=budget)
        return Task("budget", budget.fraction, budget.quantity)
    if sparsity is None:
        if tolerance is None:
            raise InvalidArgumentError(
                "Say what to compress to: `sparsity=0.9`, `budget=Budget(macs=0.25)`, or `tolerance=0.02` "
                "for the most that holds. Received: none of them."
            )
        return Task("sparsity", _FURTHEST)
    validate_sparsity(sparsity)
    return Task("sparsity", float(sparsity))


def with_granularity(goal: Task, granularity: Any) -> Task:
    """Return a goal with what is removed together.

    Raises:
        InvalidArgumentError: The granularity is no channel for a budget, or is one for a sparsity.
    """
    if granularity is None:
        return goal
    units = granularities.get(granularity)
    is_channel = isinstance(units, Channel)
    if goal.kind == "budget":
        if not is_channel or not units.coupled:
            raise InvalidArgumentError(
                "A budget is met by cutting out channels: `granularity` must be a `Channel`. Received: "
                f"{units!r}. Give `sparsity` instead, or `Channel(round_to=8)`."
            )
        options = {"aggregate": units.aggregate, "round_to": units.round_to}
        return attrs.evolve(goal, granularity=Channel(of=cast(Any, goal.quantity), **options))
    if is_channel:
        raise InvalidArgumentError(
            "With `sparsity`, masked channels would stay in the network. Received: "
            f"{units!r}. To cut out channels, give a budget: `budget=Budget(macs=0.25)`."
        )
    return attrs.evolve(goal, granularity=units)


def check_numbers(epochs: Any, batch_size: Any, seed: Any) -> None:
    """Raise `InvalidArgumentError` if a number is out of range."""
    if epochs is not None:
        validation.non_negative_int(epochs, "epochs")
    if batch_size is not None:
        validation.positive_int(batch_size, "batch_size")
    if seed is not None:
        validation.non_negative_int(seed, "seed")


def check_model(model: Any) -> None:
    """Raise unless a model is compiled and has weights."""
    validation.keras_model(model)
    if not discovery.optimizers(model):
        raise InvalidArgumentError(
            f"`compress` trains '{model.name}', or judges it by its loss and metrics: it must be compiled. "
            "Received: a model without an optimizer. Call its `compile` first. Save a file after that: it "
            "keeps what the model was compiled with."
        )
    if not is_built(model) and not isinstance(model, AdversarialModel):
        networks = discovery.networks(model)
        if not networks or not any(is_built(network) for network in networks.values()):
            raise UnbuiltModelError(
                f"`compress` begins from a trained model. '{model.name}' has no weights. Call `fit` first."
            )


def check_teacher(teacher: Any, dense: keras.Model) -> None:
    """Raise unless a teacher is a network with outputs of the same shapes."""
    validation.keras_model(teacher)
    theirs, ours = (
        [tuple(output.shape)[1:] for output in getattr(network, "outputs", None) or []]
        for network in (teacher, dense)
    )
    if theirs and ours and theirs != ours:
        raise InvalidArgumentError(
            f"`teacher` must give outputs of the shapes that '{dense.name}' gives, {ours} for a sample. "
            f"Received: '{teacher.name}', which gives {theirs}. Leave `teacher` out: the network as it "
            "is now teaches."
        )


def check_tolerance(tolerance: Any, judge: Judge) -> None:
    """Raise if a tolerance has nothing that it could be compared by."""
    if tolerance is not None and not judge.judges:
        raise InvalidArgumentError(
            "`tolerance` needs a `metric`. Received: none, and the model has no compiled metrics that judge "
            "a generator. Pass a function of a network, or an `ImageQuality`."
        )


def check_direction(tolerance: Any, judge: Judge) -> None:
    """Raise if a tolerance is given and it is not known which way the metric is better."""
    if tolerance is not None and judge.higher_is_better is None:
        raise InvalidArgumentError(
            f"`tolerance` needs to know which way '{judge.name}' is better. Received: "
            "higher_is_better=None. Pass higher_is_better=True or False."
        )


def data_of(model: keras.Model, data: Any, name: str = "data") -> Data:
    """Return the data, checked.

    Args:
        model: The model that takes it.
        data: As for `compress`.
        name: The argument that it was passed as.

    Raises:
        DataError: It is empty, not finite, or not of one length.
        ArgumentTypeError: It is no data.
    """
    x, y, weights = data, None, None
    if isinstance(data, tuple):
        if not 1 <= len(data) <= 3:
            raise DataError(
                f"`{name}` must be x, (x, y) or (x, y, sample_weight). Received: a tuple of "
                f"{len(data)}. Several inputs are a list or dict: ([a, b], y)."
            )
        x, y, weights = (*data, None, None)[:3]
    leaves: list[Any] = [] if x is None else keras.tree.flatten(x)  # pyright: ignore
    arrays = bool(leaves) and all(hasattr(leaf, "shape") for leaf in leaves)
    if isinstance(x, (list, tuple)) and leaves and not arrays:
        x, arrays = np.asarray(x), True
    if y is None and arrays and training_data.needs_labels(model):
        raise DataError(
            f"`{name}` must have labels: '{model.name}' is compiled with a loss that compares them. "
            f"Received: inputs only, of the shapes {shapes(x)}. Pass a tuple (x, y)."
        )
    try:
        training_data.check(model, x, y)
    except DataError as error:
        text = str(error).replace("`data`", f"`{name}`")
        text = text.replace("`labels`", f"the labels of `{name}`")
        raise DataError(text[0].upper() + text[1:]) from error
    if not arrays:
        return Data(x)
    convert = lambda part: None if part is None else keras.tree.map_structure(np.asarray, part)  # noqa: E731
    x, y, weights = convert(x), convert(y), convert(weights)
    counts = {
        len(leaf)
        for part in (x, y, weights)
        if part is not None
        for leaf in keras.tree.flatten(part)
    }
    if len(counts) > 1:
        raise DataError(
            f"`{name}` must have one label and one weight per sample. Received: {sorted(counts)} entries."
        )
    return Data(x, y, weights, counts.pop())


def compiled_metrics(
    subject: Subject, data: Data, validation_data: Any, higher_is_better: bool | None
) -> Judge:
    """Return the judge that evaluates by the compiled loss and metrics.

    The first metric decides, or the loss if there is none.
    """
    if validation_data is None:
        subject.notes.append(
            "The metrics are those of the training data, since `validation_data` was not given."
        )
        held_out, given = data, "data"
    else:
        given = "validation_data"
        if not isinstance(validation_data, tuple):
            validation_data = (validation_data,)
        held_out = data_of(subject.model, validation_data, given)
    model = subject.model

    def measure(network: keras.Model) -> dict[str, float]:
        arguments = compile_arguments(model)
        network.compile(optimizer="sgd", **arguments)
        evaluate: Any = network.evaluate
        try:
            found = evaluate(
                held_out.x,
                held_out.y,
                sample_weight=held_out.weights,
                batch_size=None if held_out.samples is None else 256,
                verbose=0,
                return_dict=True,
            )
        except Exception as error:
            received = (
                f"a {type(held_out.x).__name__}"
                if held_out.samples is None
                else f"inputs of the shapes {shapes(held_out.x)}, labels of {shapes(held_out.y)}"
            )
            raise DataError(
                f"`{given}` must be what the model and its compiled loss and metrics take, as in `fit`. "
                f"Received: {received}. {type(error).__name__}: {in_one_line(error)}"
            ) from error
        names = [name for name in found if name != "loss" and not name.endswith("_loss")]
        return {
            name: float(found[name]) for name in [*names, *(k for k in found if k not in names)]
        }

    return Judge(measure, higher_is_better, "the compiled metrics")


def feasible(goal: Task, subject: Subject) -> Task:
    """Return the goal, or the next best one if channels cannot be cut out.

    Raises:
        InvalidArgumentError: The budget cannot be met.
    """
    if goal.kind != "budget":
        return goal
    reason = None
    if subject.targets is None and subject.label == "gan":
        reason = (
            f"{type(subject.model).__name__} has its own training step and is the network itself."
        )
    check_one_network(goal, subject)
    traced: list[Groups] = []
    for _, network in [] if reason else subject.networks:
        try:
            groups = channel_groups(network)
        except UnsupportedLayerError as error:
            reason = str(error).split(". ")[0] + "."
            break
        if not len(groups):
            reason = f"'{network.name}' has no channels that could be removed."
            break
        traced.append(groups)
        if goal.latency is not None:
            continue  # what can be met is found by measurement
        if goal.quantity not in Costs.QUANTITIES:
            raise ArgumentTypeError(f"Unknown quantity {goal.quantity!r}.")
        scores = [np.arange(group.size, dtype="float64") for group in groups]
        with missed_silently():
            budgets.fit(groups, scores, {goal.quantity: goal.value})
    if reason is None and goal.latency is not None:
        return goal
    if reason is None:
        return attrs.evolve(goal, minimum=least_of_a_group(goal, traced))
    subject.notes.append(
        "Channels cannot be cut out of this model, so weights were masked: the network is sparse, and as "
        f"fast as before. {reason}"
    )
    value = round(1.0 - goal.value, 6)
    return attrs.evolve(
        goal, kind="sparsity", value=value, quantity="weights", granularity=None, latency=None
    )
