"""The README's Python runs as it stands, and its commands are the ones that CI runs."""

import configparser
import importlib.util
import re
import sys

import paths
import pytest

import keras_ganprune

ROOT = paths.ROOT
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_there_are_snippets():
    assert len(SNIPPETS) >= 3


@pytest.mark.full  # CI runs it
def test_the_snippets_run_in_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "readme"}
    for number, snippet in enumerate(SNIPPETS):
        exec(compile(snippet, f"README.md, snippet {number}", "exec"), names)
    assert names["result"].achieved == pytest.approx(0.9, abs=1e-3)
    assert keras_ganprune.sparsity_report(names["gan"].generator).sparsity == pytest.approx(
        0.8, abs=1e-3
    )
    assert (tmp_path / "generator" / "saved_model.pb").exists()


def test_the_landing_page_is_short():
    assert len(README.split()) <= 900
    assert len(re.findall(r"^!\[", README, flags=re.MULTILINE)) == 1


def test_the_table_is_made_of_the_rows_of_the_benchmark():
    """After new rows: `python benchmarks/applications.py --table --pages`."""
    spec = importlib.util.spec_from_file_location(
        "applications", ROOT / "benchmarks/applications.py"
    )
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec.loader.exec_module(benchmark := importlib.util.module_from_spec(spec))
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    rows = benchmark.rows_of(benchmark.RESULTS / "applications.jsonl")
    for page in ("README.md", "docs/results.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert f"{benchmark.BEGIN}\n{benchmark.short_table(rows)}\n{benchmark.END}" in text, page


def test_the_wheel_and_the_extras_that_the_readme_names_exist():
    extras = re.search(r"with extras in brackets: (.*?)\. Without", README, flags=re.DOTALL)[1]
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert set(re.findall(r"`(\w+)`", extras)) <= set(config["options.extras_require"])


STRUCTURED = (ROOT / "docs" / "structured.md").read_text(encoding="utf-8")


def test_the_page_on_channels_runs_and_says_what_is_printed(capsys):
    names: dict = {"__name__": "structured"}
    for snippet in re.findall(r"```python\n(.*?)```", STRUCTURED, flags=re.DOTALL):
        exec(compile(snippet, "docs/structured.md", "exec"), names)
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    shown = re.search(r"```\n(dense: 64.*?)```", STRUCTURED, flags=re.DOTALL)[1].splitlines()
    for line in shown:
        # Keras numbers the layers of a process.
        pattern = re.sub(r"\\_\d+|_\d+", r"(_\\d+)?", re.escape(" ".join(line.split())))
        if line.strip() != "...":
            pattern = re.sub(
                r"(dense|batch_normalization|conv2d_transpose)", r"\1(_\\d+)?", pattern
            )
            assert any(re.fullmatch(pattern, each) for each in printed), line


def test_the_first_snippet_is_short():
    lines = [line for line in SNIPPETS[0].splitlines() if line.strip()]
    assert len(lines) <= 12


def test_ci_runs_the_readmes_test_command():
    assert 'pip install ".[test]" && pytest' in README
    assert 'pip install ".[demo]" && keras-ganprune demo' in README
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert 'pip install ".[test]" && pytest' in ci


def test_pictures_and_files_that_the_readme_names_exist():
    for link in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / link).exists(), link
