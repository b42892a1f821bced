"""What results show in a notebook: well-formed HTML that says what `str` says, and nothing that runs."""

import html.parser
import importlib
import inspect
import pathlib
import pkgutil
import re

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.exporters.benchmark import Benchmark, BenchmarkRow, Times
from keras_ganprune.interop.tfmot.converted_model import Converted
from keras_ganprune.metrics.comparison import ComparisonRow
from keras_ganprune.metrics.layer_sensitivity.report import SensitivityRow
from keras_ganprune.search.recommendation import DenseComparison, Trial, recommend
from keras_ganprune.utils import notebook

NASTY = "<script>alert(1)</script>&'"


def model(name="net", layer="a"):
    hidden = keras.layers.Dense(6, "relu", name=layer)
    return keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(3, name="b")], name=name)


def masked():
    net = model()
    kgp.Pruner(net).update(sparsity=0.5)
    return net


def trained_prune():
    net = model()
    net.compile("sgd", "mse")
    prune = kgp.Prune(kgp.Linear(0.6, begin_step=0, end_step=24), frequency=2)
    x, y = np.ones((8, 4)), np.ones((8, 3))
    net.fit(x, y, epochs=13, batch_size=4, verbose=0, callbacks=[prune])
    return prune


def trials():
    left = {"parameters": 100, "nonzero": 100, "seconds": 1.0}
    dense = Trial(None, "sparsity", None, 0, None, {"fd": 10.0}, 0.0, **left)
    pruned = Trial("l1", "sparsity", 0.8, 0, None, {"fd": 10.5}, 0.8, **left)
    failed = Trial(
        "l1", "sparsity", 0.9, 0, None, {}, None, **{**left, "seconds": 0.0}, error=NASTY
    )
    return dense, pruned, failed


def quality():
    counts = {"samples": 200, "real_samples": 300, "manifold_samples": 200}
    rest = dict.fromkeys(
        [n for n in inspect.signature(kgp.QualityReport).parameters if n not in counts], None
    )
    numbers = {"fd": 12.25, "kd": 0.5, "kd_error": 0.125, "extractor": "ffc5a784"}
    return kgp.QualityReport(**{**rest, **counts, **numbers})


def compression():
    net = model()
    names = ("psnr",)
    return kgp.Compression(
        model=net,
        network=net,
        dense=net,
        history={},
        before=dict.fromkeys(names, 20.0),
        baseline=dict.fromkeys(names, 21.0),
        after=dict.fromkeys(names, 20.5),
        metric="psnr",
        higher_is_better=True,
        requested="sparsity 0.5",
        achieved=0.5,
        steps=8,
        trials=[],
        notes=[NASTY],
        recipe="a < b\n",
    )


def report_files(tmp_path):
    page = tmp_path / "report.html"
    page.write_bytes(b"x" * 200_000)
    return kgp.reports.ReportFiles(page, page.with_suffix(".md"), tmp_path / "report_files")


PATH = pathlib.Path(f"{NASTY.replace('/', '')}.onnx")
# Function of a temporary folder -> result.
RESULTS = {
    "MaskReport": lambda _: kgp.Pruner(model()).update(sparsity=0.5),
    "SparsityReport": lambda _: kgp.sparsity_report(masked()),
    "MaskCoverage": lambda _: kgp.mask_coverage(model()),
    "ZerosTaken": lambda _: kgp.masks_from_zeros(kgp.strip_pruning(masked())),
    "Profile": lambda _: kgp.profile(model(), latency=False),
    "Comparison": lambda _: kgp.metrics.Comparison(
        (NASTY, "b"), (ComparisonRow("MACs", (200, 50)), ComparisonRow("ms", (1.25, 0.5)))
    ),
    "QualityReport": lambda _: quality(),
    "SensitivityReport": lambda _: kgp.SensitivityReport(
        tuple(SensitivityRow("a/k", (4, 5), 20, s, s, 1 + s, s) for s in (0.5, 0.9)),
        base=1.0,
        before={"a/k": 0.0},
    ),
    "SweepResult": lambda _: kgp.SweepResult(
        trials(), {"metric": "fd", "direction": "min", "seed": 0}
    ),
    "Recommendation": lambda _: recommend(
        DenseComparison(trials()[:2], "fd", "min"), "sparsity", tolerance=0.1
    ),
    "FileReport": lambda _: kgp.FileReport(
        PATH, "onnx", "int8", 4000, 900, 1e-3, 1e-4, 44.5, notes=(NASTY,)
    ),
    "ExportReport": lambda _: kgp.ExportReport(PATH, 0.0, 4000, 900, 1000, 200),
    "Benchmark": lambda _: Benchmark(
        (BenchmarkRow(PATH, "onnx", 4000, 900, {1: Times(1.5, (1.25, 1.75), 1.5, 1.0, True)}),)
    ),
    "Groups": lambda _: kgp.channel_groups(model()),
    "Explanation": lambda _: kgp.explain(model()),
    "Pruner": lambda _: kgp.Pruner(masked()),
    "Prune": lambda _: trained_prune(),
    "new Prune": lambda _: kgp.Prune(0.5, NASTY),
    "Shrink": lambda _: kgp.Shrink(10, target=NASTY, sparsity=0.5),
    "Compression": lambda _: compression(),
    "ReportFiles": report_files,
    "Converted": lambda _: Converted(masked(), (), 1e-7),
}
# Their texts come from the user, or from files.
WITH_NASTY = {
    *("Comparison", "SweepResult", "FileReport", "ExportReport", "Benchmark", "new Prune"),
    *("Shrink", "Compression"),
}


class Page(html.parser.HTMLParser):
    """Reads a page, and checks that each tag is closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text = [], set(), []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.tags.add(tag)
        assert {name for name, _ in attributes} <= {"style"}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("kind", RESULTS)
def test_html_is_well_formed_and_says_what_str_says(kind, tmp_path):
    result = RESULTS[kind](tmp_path)
    shown = result._repr_html_()
    page = Page(shown)
    assert page.tags <= {"div", "p", "pre", "table", "thead", "tbody", "tr", "th", "td"}
    text = " ".join(page.text)
    numbers = re.findall(r"\d[\d,.]*\d|\d", str(result))
    missing = [number for number in numbers if number not in text]
    assert missing == []
    assert "color:#" not in shown
    if kind in WITH_NASTY:
        assert "<script" not in shown
        assert "alert(1)" in text


def test_every_result_with_a_table_is_shown():
    modules = []
    for info in pkgutil.walk_packages(kgp.__path__, "keras_ganprune."):
        # The steps of other backends cannot be imported here, and have no results.
        if not re.search(r"__main__|_jax$|_torch$|_tensorflow$", info.name):
            modules.append(importlib.import_module(info.name))
    found = {
        cls
        for module in modules
        for cls in vars(module).values()
        if inspect.isclass(cls)
        and cls.__module__.startswith("keras_ganprune.")
        and (hasattr(cls, "to_markdown") or hasattr(cls, "table"))
    }
    assert len(found) > 8
    assert {cls for cls in found if not issubclass(cls, notebook.ShownInNotebooks)} == set()


@pytest.mark.full
def test_a_cell_of_a_real_notebook(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    code = (
        "import keras, keras_ganprune as kgp\n"
        "model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6), keras.layers.Dense(3)])\n"
        "kgp.explain(model)"
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    (result,) = [o for o in book.cells[0].outputs if o.output_type == "execute_result"]
    assert "<table" in result["data"]["text/html"]
    assert "kgp.shrink(model" in result["data"]["text/plain"]
    Page(result["data"]["text/html"])
