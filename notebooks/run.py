"""Run notebooks in place. They keep what they print and draw, but no messages of TensorFlow.

    python notebooks/run.py notebooks/01_prune_a_gan.ipynb     # or several; without a name, all

The stored outputs are those of the documentation site.
"""

import pathlib
import sys
import tempfile
from collections.abc import Iterable

import nbclient
import nbformat

FOLDER = pathlib.Path(__file__).parent


def kept(output: nbformat.NotebookNode) -> bool:
    """Return whether an output is of the notebook itself; change it to what is kept."""
    if output.output_type == "stream":
        lines = output.text.splitlines(keepends=True)
        output.text = "".join(line for line in lines if not line.startswith("INFO:tensorflow:"))
        return output.name == "stdout" and bool(output.text.strip())
    # Progress bars of converters, which the package rich writes.
    return not output.get("data", {}).get("text/html", "").startswith("<pre style=")


def joined(outputs: Iterable[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Return outputs with the texts that follow one another as one."""
    result: list[nbformat.NotebookNode] = []
    for output in outputs:
        if result and output.output_type == result[-1].output_type == "stream":
            result[-1].text += output.text
        else:
            result.append(output)
    return result


def clean(notebook: nbformat.NotebookNode) -> None:
    """Leave nothing in a notebook that differs between machines and says nothing."""
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = joined(output for output in cell.outputs if kept(output))


def run(path: pathlib.Path) -> None:
    """Run one notebook in an empty folder, and write it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(
            notebook, timeout=3600, record_timing=False, resources={"metadata": {"path": folder}}
        )
        client.execute()
    clean(notebook)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for path in [pathlib.Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")):
        run(path)
        print(path)
