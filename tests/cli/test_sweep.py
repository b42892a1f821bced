"""`keras-ganprune sweep` end to end at a small size, and the docs about choosing a sparsity."""

import csv
import pathlib
import re

import keras
import paths
import pytest

from keras_ganprune import search
from keras_ganprune.applications import image_generation
from keras_ganprune.cli import parsers, sweep
from keras_ganprune.errors import DataError, InvalidArgumentError, OutputError
from keras_ganprune.metrics import extractor_training
from keras_ganprune.metrics.feature_extractor import FeatureExtractor

pytest.importorskip("optuna")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

PAGE = paths.DOCS / "choosing_a_sparsity.md"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def quick_extractor(monkeypatch):
    """Use the means of the quarters of an image as features, which need no training."""

    def train(*args, **kwargs):
        layers = [keras.Input((8, 8, 1)), keras.layers.AveragePooling2D(4), keras.layers.Flatten()]
        return FeatureExtractor(keras.Sequential(layers))

    monkeypatch.setattr(extractor_training, "train_extractor", train)


def command(*arguments):
    sweep.run(parsers.parse(["sweep", *arguments]))


SMALL = (
    *("--data", "digits", "--channels", "4", "--steps", "6", "--batch-size", "32"),
    *("--seeds", "1", "--sparsities", "0.5", "--samples", "60"),
)


@pytest.mark.full
@pytest.mark.parametrize(
    ("given", "other", "inputs"),
    [((), "--no-conditional", 2), (("--no-conditional",), "--conditional", 1)],
)
def test_whether_its_networks_take_labels(given, other, inputs, quick_extractor, monkeypatch):
    gans, build = [], image_generation.build

    def recording(*args):
        gans.append(build(*args))
        return gans[-1]

    monkeypatch.setattr(image_generation, "build", recording)
    command(*SMALL, *given)
    assert {len(gan.generator.inputs) for gan in gans} == {inputs}
    with pytest.raises(InvalidArgumentError, match="classes"):
        command(*SMALL, other, "--overwrite")


@pytest.mark.full
def test_it_writes_a_folder_and_resumes_from_the_storage(quick_extractor, capsys):
    command(*SMALL)
    folder = pathlib.Path("ganprune_sweep")
    assert sorted(p.name for p in folder.iterdir()) == [
        *("pareto.png", "recommendation.md", "table.md", "trials.csv"),
    ]
    printed = capsys.readouterr().out
    assert "sweep: study 'sweep' of 2 trials, new." in printed
    assert "1,797 8×8 images" in printed and "Made: ganprune_sweep with pareto.png" in printed
    assert re.search(r"^Next: keras-ganprune (demo|sweep) ", printed, flags=re.MULTILINE)
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert "| magnitude | 0.5 | 0.50" in table and "| dense | – |" in table
    assert "within 10 % of dense" in (folder / "recommendation.md").read_text(encoding="utf-8")
    with (folder / "trials.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # A fifth of the 1,797 images is held out for the evaluation.
    assert [row["real_samples"] for row in rows] == ["359.0"] * 2
    assert [row["criterion"] for row in rows] == ["", "magnitude"] and "coverage" in rows[0]

    with pytest.raises(OutputError, match="must be new or empty"):
        command(*SMALL)
    command(*SMALL, "--overwrite", "--tolerance", "5")
    printed = capsys.readouterr().out
    assert "resumed, 2 of them have ended" in printed and "1/2" not in printed
    assert "within 500 % of dense" in (folder / "recommendation.md").read_text(encoding="utf-8")
    with pytest.raises(InvalidArgumentError, match="steps: 6 in the study, 8 now"):
        command(*SMALL, "--overwrite", "--steps", "8")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("--sparsities", "80"), InvalidArgumentError, r"For 80 %, pass 0\.8"),
        (("--sparsities", "0.5;0.8"), InvalidArgumentError, "numbers that are separated by commas"),
        (("--sparsities", "0.5", "--thresholds", "0.1"), InvalidArgumentError, "not both"),
        (("--criteria", "magnitud"), InvalidArgumentError, "Did you mean 'magnitude'"),
        (("--network", "dcgn"), InvalidArgumentError, "Did you mean 'dcgan'"),
        (("--search", "tpe", "--sparsities", "0.5,0.9"), InvalidArgumentError, "`trials` must be"),
        (("--data", "digit"), DataError, "Did you mean 'digits'"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(arguments, error, text):
    with pytest.raises(error, match=text):
        command(*arguments)
    assert not list(pathlib.Path().iterdir())


@pytest.mark.full
def test_the_snippets_of_the_docs_run(capsys):
    names: dict = {"__name__": "choosing_a_sparsity"}
    text = PAGE.read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(snippets) == 4
    for snippet in snippets:
        exec(compile(snippet, "docs/choosing_a_sparsity.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "dense_" in printed and "0.9000" in printed
    assert "sweep: 6/6  magnitude, sparsity 0.9, seed 1" in printed
    assert "within 10 % of dense" in printed and "6 runs in sweep.db" in printed
    assert {"sensitivity.png", "pareto.png", "sweep.db"} <= {
        p.name for p in pathlib.Path().iterdir()
    }


def test_the_command_in_the_docs_is_valid():
    line = re.search(r"keras-ganprune sweep (--.*)", PAGE.read_text(encoding="utf-8"))[1]
    found = parsers.parse(["sweep", *line.split()])
    assert (found.seeds, found.steps, found.data) == (5, 4000, "mnist-5000")


def parse(words):
    """Return what the command line reads from words."""
    return parsers.parse(words)


@pytest.mark.parametrize("name", [None, "denoising"])
@pytest.mark.parametrize("requested", [0.8, None])
def test_the_command_after_a_sweep_can_be_typed(name, requested):
    """The demo with what is recommended; or a sweep of lower sparsities, if nothing is."""
    given = ["--seeds", "2", "--steps", "50"]
    given += ["--data", "digits", "--network", "mlp", "--mode", "rigl"] if name is None else []
    argv = ["sweep", *([] if name is None else [name]), *given]
    arguments = parse(argv)
    trials = [
        search.Trial(None, "sparsity", None, 0, None, {"fd": 10.0}, 0.0, 9, 9, seconds=1.0),
        search.Trial("l1", "sparsity", 0.8, 0, None, {"fd": 10.5}, 0.8, 9, 2, seconds=1.0),
    ]
    settings = {"metric": "fd", "direction": "min", "seed": 0}
    found = search.SweepResult(tuple(trials), settings).recommend(0.1 if requested else 0.01)
    words = [str(word) for word in sweep._next(found, arguments)]
    parsed = parse(words)
    assert parsed.command == ("demo" if requested else "sweep") and parsed.application == name
    if requested:
        assert parsed.sparsity == 0.8
    else:
        assert (parsed.sparsities, parsed.seeds, parsed.steps) == ("0.4", 2, 50)
        assert parsed.name == "sweep-lower" and parsed.output == "ganprune_sweep-lower"
    if name is None:
        assert (parsed.network, parsed.mode) == ("mlp", "rigl") and "digits" in words
