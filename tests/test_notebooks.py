"""Every notebook runs from top to bottom, at a small size, and is stored with the outputs of a full run."""

import paths
import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("mlxtend")

NOTEBOOKS = sorted((paths.ROOT / "notebooks").glob("*.ipynb"))


# What the claims of a notebook rest on.
SAID = {
    "01_prune_a_gan": ["differs by 0 at most", "largest difference to Keras"],
    "02_compare_the_engine": [
        "3,459 of 17,296 weights kept",
        "24 of 48 channels",
        "compares whole channels; use the granularity 'channel'",
    ],
    "03_shrink_a_dcgan": [
        "conv2d_transpose_1: all channels stay",
        "largest difference between masked and shrunk",
        "'generator' has 93 of 192 channels left, 243,630 of 608,577 parameters, 25.1% of the MACs",
        "2,700,782 (0.25×)",
        "243,630 of 243,630 parameters not zero; reloaded, it differs by",
        "largest difference to Keras",
    ],
    "04_all_formats": [
        "refused: 'saved_model' cannot have the precision 'int8'",
        "10 files, each proven in its runtime",
        "small_litert_int8.tflite",
        "float32 differs from Keras by",
        "int8 differs by",
    ],
}
# Packages that only one notebook needs.
NEEDED = {"04_all_formats": ("tf2onnx", "onnxruntime", "ai_edge_litert", "openvino", "nncf")}


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == list(SAID)


def printed(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_with_its_outputs(path):
    """`python notebooks/run.py` writes them."""
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    assert all(output.output_type != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)
    for text in SAID[path.stem]:
        assert text in printed(notebook)


@pytest.mark.full  # CI runs them
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    for module in NEEDED.get(path.stem, ()):
        pytest.importorskip(module)
    monkeypatch.setenv("KERAS_GANPRUNE_NOTEBOOK_STEPS", "12")
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    for text in SAID[path.stem]:
        assert text in printed(notebook)
