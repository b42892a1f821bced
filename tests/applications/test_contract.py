"""One contract for all applications: a tiny one by default, the real ones with `full`."""

import json
import re

import attrs
import fake_application
import keras
import numpy as np
import paths
import pytest

import keras_ganprune as kgp
from keras_ganprune.applications import catalog, dense_training, pipeline
from keras_ganprune.applications.base import Application, Split
from keras_ganprune.applications.option_fields import options_of
from keras_ganprune.applications.options import ApplicationOptions
from keras_ganprune.errors import InvalidArgumentError, OutputError

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

# On the way to a budget, a small network has few sizes to choose from.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The budget, .* is missed:keras_ganprune.errors.PruningWarning"
)

TITLES = ["dense", "80 % sparse", "25 % of the MACs", "built at 25 % of the MACs"]
FILES = {"dense", "sparse", "small", "narrow"}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    output = tmp_path_factory.mktemp("fake") / "run"
    options = ApplicationOptions(output=str(output), compare_narrow=True)
    return pipeline.run(fake_application.Fake(options))


def check_result(result, titles):
    """Check what holds for the result of every application."""
    assert list(result.networks) == titles
    metrics = result.application.metrics
    for title, network in result.networks.items():
        assert set(network.metrics) == set(metrics), title
        assert np.isfinite(next(iter(network.metrics.values()))), title
        assert network.exported.max_difference < 1e-3, title
    for name, numbers in result.baselines.items():
        assert set(numbers) <= set(metrics) and next(iter(metrics)) in numbers, name
    costs = {title: network.costs.macs for title, network in result.networks.items()}
    assert costs["80 % sparse"] == costs["dense"]
    # The nearest network of whole channels.
    assert 0.2 * costs["dense"] < costs["25 % of the MACs"] <= 0.27 * costs["dense"]
    if "built at 25 % of the MACs" in costs:
        assert costs["built at 25 % of the MACs"] <= 0.25 * costs["dense"]
    written = {path.name for path in result.output.iterdir()}
    names = {network.branch.name for network in result.networks.values()}
    assert names | {f"{name}.keras" for name in names} <= written
    assert {"run.json", "report.html", "report.md", "picture_0.png"} <= written
    assert not result.output.with_name(f"{result.output.name}_unfinished").exists()
    source, text = result.data.source, (result.output / "report.md").read_text(encoding="utf-8")
    text = re.sub(r"\\(.)", r"\1", text)  # without the escapes of Markdown
    assert all(words in text for words in (source.name, source.license, source.citation))


def test_the_result_of_an_application(result):
    check_result(result, TITLES)


def test_dense_is_trained_for_equal_steps(result):
    run = kgp.load_run(result.output)
    assert run.settings["steps of the dense training"] == 25
    assert run.settings["further steps of each network"] == 20
    assert run.steps == 45
    lengths = {
        title: len(network.branch.history["loss"]) for title, network in result.networks.items()
    }
    assert lengths == dict(zip(TITLES, (4, 4, 4, 4), strict=True))


def test_the_table_has_a_row_per_network_and_baseline(result):
    table = result.table
    assert [row[0] for row in table.rows] == ["dense, equal steps", *TITLES[1:], "always 0"]
    assert table.header[1:3] == ("mean squared error ↓", "against dense, equal steps")
    dense, sparse = table.rows[:2]
    errors = [result.networks[title].metrics["error"] for title in TITLES[:2]]
    assert dense[1:3] == (f"{errors[0]:.4f}", "")
    assert float(sparse[2]) == pytest.approx(errors[1] - errors[0], abs=1e-4)
    assert "trained on without pruning for as many steps" in table.note and "CC0" in table.note
    page = (result.output / "report.html").read_text(encoding="utf-8")
    assert "mean squared error ↓" in page and "always 0" in page and "data:image/png" in page


def test_the_numbers_are_those_of_the_files(result):
    for name, title in zip(("dense", "sparse", "small", "narrow"), TITLES, strict=True):
        network = keras.saving.load_model(result.output / f"{name}.keras")
        found = result.application.evaluate(network, result.data.test)
        assert found["error"] == pytest.approx(result.networks[title].metrics["error"], rel=1e-4)
    sparse = keras.saving.load_model(result.output / "sparse.keras")
    kernels = [np.asarray(layer.kernel) for layer in sparse.layers]
    zeros, total = sum(np.sum(k == 0) for k in kernels), sum(k.size for k in kernels)
    assert zeros / total == pytest.approx(0.8, abs=1 / total)


def test_a_killed_run_does_not_train_the_dense_network_again(tmp_path, monkeypatch):
    application = fake_application.Fake(ApplicationOptions(output=str(tmp_path / "run"), epochs=1))
    fits, fit = [], dense_training.fit

    def counting(application, model, data, lengths, title, *more):
        fits.append(title)
        if title != "dense":
            raise KeyboardInterrupt
        return fit(application, model, data, lengths, title, *more)

    monkeypatch.setattr(dense_training, "fit", counting)
    monkeypatch.setattr("keras_ganprune.applications.branches.fit", counting)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(application)
    assert fits == ["dense", "dense, trained on", "dense, trained on"]
    assert [path.name for path in tmp_path.iterdir()] == ["run_unfinished"]
    # Another seed begins anew.
    other = fake_application.Fake(attrs.evolve(application.options, seed=1))
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(other)
    assert fits[3:] == ["dense", "dense, trained on"]


def test_a_model_goes_on_from_the_end_of_the_dense_training(tmp_path):
    application = fake_application.Fake(ApplicationOptions(epochs=2))
    data = application.data()
    plan = dense_training.Plan.of(application, data)
    dense = dense_training.DenseTraining(application, data, plan, tmp_path)
    first, second = dense.trained_model(), dense.trained_model()
    assert int(first.optimizer.iterations) == plan.steps[0] == 10
    pairs = zip(
        [*first.weights, *first.optimizer.variables],
        [*second.weights, *second.optimizer.variables],
        strict=True,
    )
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert any(np.any(np.asarray(m)) for m in first.optimizer.variables[2:])


@pytest.mark.parametrize(
    ("options", "plan"),
    [
        ({}, (5, 4, 32)),
        ({"epochs": 10}, (10, 8, 32)),
        ({"epochs": 1}, (1, 1, 32)),
        ({"steps": 11}, (3, 2, 32)),
        ({"batch_size": 1000}, (5, 4, 160)),
    ],
    ids=str,
)
def test_the_length_of_the_trainings(options, plan):
    application = fake_application.Fake(ApplicationOptions(**options))
    found = dense_training.Plan.of(application, application.data())
    assert (found.dense, found.branch, found.batch_size) == plan


def test_an_output_that_exists_is_refused_before_the_data_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(fake_application.Fake, "data", lambda self: 1 / 0)
    application = fake_application.Fake(ApplicationOptions(output=str(tmp_path)))
    with pytest.raises(OutputError, match="must be new or empty"):
        pipeline.run(application)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"macs": 1.0}, "For a quarter, pass 0.25"),
        ({"macs": 25}, "in \\(0, 1\\)"),
        ({"sparsity": 80}, "For 80 %, pass 0.8"),
        ({"sparsity": 0.0}, "must be above 0"),
        ({"epochs": 1, "steps": 1}, "not both"),
        ({"seed": -1}, "int in \\[0"),
        ({"batch_size": 0}, "positive int"),
    ],
    ids=str,
)
def test_wrong_options(options, text):
    with pytest.raises(InvalidArgumentError, match=text):
        ApplicationOptions(**options)


@pytest.mark.parametrize("name", catalog.names())
def test_every_application_is_described(name):
    cls = catalog.get(name)
    assert issubclass(cls, Application) and issubclass(cls.options_class, ApplicationOptions)
    assert cls.name == name and 10 < len(cls.help) <= 100
    assert cls.metrics and all(metric.title for metric in cls.metrics.values())
    documented = " ".join(cls.options_class.__doc__.split())
    for option, description in options_of(cls.options_class).items():
        assert f"{option}: {description}" in documented
    quick, full = (cls(cls.options_class(quick=quick)).epochs() for quick in (True, False))
    assert all(n > 0 for n in (*quick, *full)) and sum(quick) <= sum(full)


@pytest.mark.full
def test_an_application_with_two_inputs(tmp_path):
    options = ApplicationOptions(output=str(tmp_path / "run"), compare_narrow=True)
    check_result(pipeline.run(fake_application.TwoInputs(options)), TITLES)


@pytest.mark.full
def test_the_application_of_the_docs_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (paths.DOCS / "applications.md").read_text(encoding="utf-8")
    snippet = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[-1]
    exec(compile(snippet, "docs/applications.md", "exec"), {"__name__": "smoothing"})
    printed = capsys.readouterr().out
    assert "as it is" in printed and "80 % sparse" in printed
    assert (tmp_path / "smoothing_run" / "report.html").exists()


@pytest.mark.full
@pytest.mark.parametrize("name", catalog.names())
def test_every_application_runs(name, tmp_path):
    cls = catalog.get(name)
    options = cls.options_class(quick=True, output=str(tmp_path / "run"), compare_narrow=True)
    result = pipeline.run(cls(options))
    check_result(result, TITLES)
    parts = [result.data.train, result.data.validation, result.data.test]
    assert all(isinstance(part, Split) and len(part) for part in parts)
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["data"]
