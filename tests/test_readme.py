"""The README's Python runs as it stands, and its commands are the ones that CI runs."""

import re

import paths
import pytest

ROOT = paths.ROOT
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_there_are_snippets():
    assert len(SNIPPETS) >= 3


@pytest.fixture(scope="module")
def first_snippet(tmp_path_factory):
    """Run the first snippet once; later snippets start from its names, as a reader would."""
    names: dict = {"__name__": "readme"}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(tmp_path_factory.mktemp("readme"))
        exec(compile(SNIPPETS[0], "README.md, snippet 0", "exec"), names)
    return names


@pytest.mark.full
def test_the_first_snippet_runs(first_snippet):
    assert first_snippet["gan"].generator.built


@pytest.mark.full  # CI runs them
@pytest.mark.parametrize("number", range(1, len(SNIPPETS)))
def test_later_snippets_run(number, first_snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(SNIPPETS[number], f"README.md, snippet {number}", "exec"), dict(first_snippet))


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
    assert len(lines) <= 16


def test_ci_runs_the_readmes_test_command():
    assert 'pip install ".[test]" && pytest' in README
    assert 'pip install ".[demo]" && keras-ganprune demo' in README
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert 'pip install ".[test]" && pytest' in ci


def test_pictures_and_files_that_the_readme_names_exist():
    for link in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / link).exists(), link
