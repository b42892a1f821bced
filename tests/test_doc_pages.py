"""Each Python block of a page of the docs runs, in order, and prints what the block below it says.

A page that needs a package outside of the `test` extra is skipped, and the reason names the package.
"""

import contextlib
import importlib.util
import io
import re
import warnings

import keras
import paths
import pytest

from keras_ganprune.errors import PruningWarning

# Page -> packages that it needs besides those of the `test` extra.
PAGES = {
    "explain.md": (),
    "interop_keras.md": ("sklearn", "keras.distillation"),
    "interop_keras_hub.md": ("keras_hub",),
    "interop_keras_tuner.md": ("keras_tuner",),
}
_BLOCKS = re.compile(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", re.DOTALL)


def blocks(page):
    return _BLOCKS.findall((paths.DOCS / page).read_text(encoding="utf-8"))


@pytest.mark.full
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_and_prints_what_it_says(page, tmp_path, monkeypatch):
    for package in PAGES[page]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{page} needs {package}, which is not installed")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    keras.utils.clear_session()  # Keras numbers the models of a process.
    found = blocks(page)
    assert found
    with warnings.catch_warnings():
        # What Keras says of the optimizers and the data of its own wrappers; never what we say.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("error", PruningWarning)
        try:
            for code, expected in found:
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile(code, page, "exec"), names)
                if expected:
                    assert printed.getvalue().strip() == expected.strip()
        finally:
            keras.config.enable_interactive_logging()


def test_no_page_of_interoperation_is_left_out():
    pages = {path.name for path in paths.DOCS.glob("interop_*.md")}
    assert pages == {page for page in PAGES if page.startswith("interop_")}
