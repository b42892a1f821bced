"""A tolerance: the strongest goal that held, the same for a seed; and a baseline that calls share."""

import types

import compressed_models as models
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_ganprune as kgp
from keras_ganprune.applications.compression import search
from keras_ganprune.applications.compression.folder import Folder
from keras_ganprune.applications.compression.judge import Judge
from keras_ganprune.applications.compression.training import Task
from keras_ganprune.callbacks.run_progress import RunProgress
from keras_ganprune.errors import InvalidArgumentError


def state(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]


class Untrained:
    """A `Trainer` of networks whose quality is a function of their task."""

    def __init__(self, quality):
        self.quality, self.done = quality, []
        self.progress, self.folder = RunProgress(False), Folder(None, {})
        self.plan = types.SimpleNamespace(steps=10)
        self.subject = types.SimpleNamespace(has_copies=True)
        self.criterion, self.notes = "taylor", []

    def criterion_for(self, task):
        return task.criterion

    def run(self, task):
        self.done.append(task)
        network = {"score": 1.0 if task.kind == "dense" else self.quality(task.value)}
        trainee = types.SimpleNamespace(network=lambda: network)
        return search.Trained(trainee, {})


def searched(goal, quality, monkeypatch):
    trainer = Untrained(quality)
    monkeypatch.setattr(search, "achieved_by", lambda trainer, task, trained: task.value)
    judge = Judge(lambda numbers: numbers, True, "the numbers")
    return search.run(trainer, goal, judge, 0.1, None), trainer


GOALS = [Task("sparsity", 0.98), Task("sparsity", 0.5), Task("budget", 0.1, "macs")]


@pytest.mark.parametrize("goal", GOALS, ids=str)
@given(data=st.data())
def test_of_all_candidates_the_strongest_that_holds(goal, data):
    """Quality falls with the strength, so that a bisection finds what trying all would find."""
    tasks = [goal, *search.candidates(goal)]
    limit = data.draw(st.integers(0, len(tasks) - 1))
    held = [task.value for task in tasks[limit:]]
    with pytest.MonkeyPatch.context() as patch:
        found, trainer = searched(goal, lambda value: 0.9 if value in held else 0.89, patch)
    assert found.task.value == tasks[limit].value
    assert len(trainer.done) <= 2 + np.ceil(np.log2(len(tasks)))
    assert [row["holds"] for row in found.trials[1:]] == [t.value in held for t in trainer.done[1:]]


@given(values=st.lists(st.sampled_from([0.5, 0.95]), min_size=20, max_size=20))
def test_whatever_the_metric_does_the_result_is_the_strongest_that_was_seen_to_hold(values):
    numbers = iter(values)
    with pytest.MonkeyPatch.context() as patch:
        try:
            found, _ = searched(Task("sparsity", 0.95), lambda value: next(numbers), patch)
        except InvalidArgumentError as error:
            assert "Nothing is within the tolerance of 0.1" in str(error)
        else:
            held = [row["achieved"] for row in found.trials[1:] if row["holds"]]
            assert found.achieved == max(held) and found.after["score"] == 0.95


@pytest.mark.full
def test_a_search_ends_with_the_network_that_held():
    model, data = models.trained(models.classifier, epochs=1)
    settings = {"epochs": 1, "batch_size": 24, "metric": models.density, "verbose": 0}
    result = kgp.compress(model, data, sparsity=0.6, tolerance=0.45, **settings)
    # 1 - 0.4 * 1.25 = 0.5 does not hold, the next one does, and was trained before: the model goes back.
    assert [row["holds"] for row in result.trials[1:]] == [False, True, False]
    assert result.achieved == pytest.approx(0.375, abs=1e-3)
    assert models.density(result.network) == result.after
    assert kgp.sparsity_report(result.model).sparsity == result.achieved


@pytest.mark.full
@pytest.mark.parametrize(
    "request_", [{"sparsity": 0.97}, {"budget": kgp.Budget(macs=0.1)}], ids=str
)
def test_twice_the_same_for_a_seed(request_):
    model, data = models.trained(models.classifier, epochs=10)
    one, two = (
        kgp.compress(model, data, tolerance=0.1, epochs=6, verbose=0, **request_) for _ in range(2)
    )
    assert one.trials == two.trials and len(one.trials) > 2
    assert all(map(np.array_equal, state(one.network), state(two.network)))
    reference = one.baseline["accuracy"]
    for trial in one.trials[1:]:
        assert trial["holds"] == (trial["accuracy"] >= 0.9 * reference)
    held = [trial["achieved"] for trial in one.trials[1:] if trial["holds"]]
    assert one.achieved == (max(held) if "sparsity" in request_ else min(held))


@pytest.mark.full
def test_a_tolerance_that_nothing_meets_says_what_was_tried():
    model, data = models.trained(models.classifier, epochs=1)
    settings = {"epochs": 1, "batch_size": 24, "metric": models.density, "verbose": 0}
    settings["baseline"] = {"score": 1.0}
    before = state(model)
    with pytest.raises(InvalidArgumentError, match=r"Tried: sparsity 0.2: 0.8.*Train for more"):
        kgp.compress(model, data, sparsity=0.2, tolerance=0.01, **settings)
    assert all(map(np.array_equal, before, state(model)))


@pytest.mark.full
def test_a_dense_model_is_trained_for_as_many_steps_and_can_be_shared():
    model, data = models.trained(models.classifier)
    settings = {"epochs": 4, "validation_data": data, "verbose": 0}
    first = kgp.compress(model, data, sparsity=0.5, batch_size=16, **settings)
    trainer = kgp.Distiller.of(model)
    batches = kgp.datasets.Batches(*data, batch_size=16, per_epoch=6, seed=0)
    keras.utils.set_random_seed(0)
    trainer.fit(batches, epochs=4, shuffle=False, verbose=0)
    trainer.student.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    expected = trainer.student.evaluate(*data, batch_size=256, verbose=0, return_dict=True)
    assert first.baseline == pytest.approx(expected) and first.steps == 24
    second = kgp.compress(model, data, sparsity=0.7, batch_size=16, baseline=first, **settings)
    assert second.baseline == first.baseline and len(second.trials) == 1
    with pytest.raises(InvalidArgumentError, match=r"12 here\. Received: a result of 24"):
        kgp.compress(model, data, sparsity=0.7, batch_size=32, baseline=first, **settings)
