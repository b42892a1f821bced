"""The README's Python runs as it stands, and its commands are the ones that CI runs."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_there_are_snippets():
    assert len(SNIPPETS) >= 3


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippet_runs(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Later snippets go on from the first one, as a reader would.
    names: dict = {"__name__": "readme"}
    for snippet in dict.fromkeys([SNIPPETS[0], SNIPPETS[number]]):
        exec(compile(snippet, f"README.md, snippet {number}", "exec"), names)


def test_the_first_snippet_is_short():
    lines = [line for line in SNIPPETS[0].splitlines() if line.strip()]
    assert len(lines) <= 16


def test_ci_runs_the_readmes_test_command():
    assert 'pip install ".[test]" && pytest' in README
    assert 'pip install ".[demo]" && keras-ganprune demo' in README
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert 'pip install ".[test]" && pytest' in ci


def test_pictures_and_files_that_the_readme_names_exist():
    for link in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / link).exists(), link
