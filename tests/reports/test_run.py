"""The folder of a run: what was written is read back, and errors name what is missing."""

import csv
import json
import re

import example_runs
import keras
import numpy as np
import paths
import pytest

import keras_ganprune as kgp
from keras_ganprune.callbacks.shrink import ShrinkEvent
from keras_ganprune.errors import (
    ArgumentTypeError,
    FileFormatError,
    InvalidArgumentError,
    OutputError,
)
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.reports.run import LayerRow, load_run, record_run, save_run, write_run

SAMPLES = {"pruned": np.zeros((2, 4, 4, 1))}
HISTORY = {"loss": [2.0, 1.0]}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Return (folder, GAN, history, callback, dense samples) of a run that was trained and written."""
    keras.utils.set_random_seed(0)
    model, history, prune, dense = example_runs.trained()
    folder = tmp_path_factory.mktemp("runs") / "first"
    save_run(
        folder,
        history=history,
        samples=example_runs.samples(model, dense),
        networks=model,
        prunes={"generator": prune},
        sizes={"pruned": kgp.profile(model.generator, latency=False)},
        quality={"dense": example_runs.measurements(6.0), "pruned": {"fd": 7.0}},
        settings={"schedule": prune.schedule, "sparsity": np.float32(0.75), "layers": (1, 2)},
        seed=3,
        steps=example_runs.STEPS,
        seconds=1.5,
        data="noise",
    )
    return folder, model, history, prune, dense


def test_what_was_trained_is_read_back(fitted):
    folder, _, history, prune, dense = fitted
    run = load_run(folder)
    assert (run.name, run.seed, run.steps, run.seconds) == ("first", 3, example_runs.STEPS, 1.5)
    assert run.steps_per_epoch == example_runs.STEPS / example_runs.EPOCHS
    assert run.history == {k: [float(v) for v in each] for k, each in history.history.items()}
    assert np.max(np.abs(run.samples["dense"] / 127.5 - 1 - np.clip(dense, -1, 1))) <= 1 / 255
    assert [tuple(u) for u in run.prunes["generator"].updates] == prune.updates
    assert run.prunes["generator"].of == "weights"
    assert run.prunes["generator"].schedule == repr(prune.schedule)
    assert run.sizes["pruned"]["macs"] == 4 * 24 + 24 * 64
    assert run.settings == {"schedule": repr(prune.schedule), "sparsity": 0.75, "layers": [1, 2]}
    assert run.quality["pruned"] == ({"fd": 7.0},)
    assert run.mean("dense", "fd") == pytest.approx(6.0) and run.mean("dense", "kd") is None
    assert run.versions["keras"] == keras.__version__ and run.versions["numpy"] == np.__version__
    assert run.versions["backend"] == keras.backend.backend() in run.versions
    assert "cores" in run.hardware


def test_masks_and_rows_are_those_of_the_network(fitted):
    folder, model, *_ = fitted
    run = load_run(folder)
    weights = kgp.masked_weights(model.generator)
    assert list(run.layers) == list(run.masks) == ["generator"]
    for row, mask, weight in zip(
        run.layers["generator"], run.masks["generator"], weights, strict=True
    ):
        np.testing.assert_array_equal(mask, to_numpy(weight.mask))
        size = mask.size
        kept = max(1, round(size * 0.25))
        wanted = LayerRow(weight.layer_path, "kernel", mask.shape, kept, size, 1 - kept / size)
        assert row == wanted
        assert row.sparsity == 1 - mask.sum() / size
    report = kgp.sparsity_report(model.generator)
    assert run.sparsity("generator") == report.sparsity


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (
            {"allocation": {"image": 0.78}},
            {"image": 0.78, "hidden": (0.75 * 1632 - 0.78 * 1536) / 96},
        ),
        pytest.param(
            {"allocation": "global_ranking"},
            {"image": None, "hidden": None},
            marks=pytest.mark.full,
        ),
        pytest.param(
            {"granularity": "2:4", "mode": "soft"},
            {"image": 0.75, "hidden": 0.75},
            marks=pytest.mark.full,
        ),
    ],
)
def test_the_requested_sparsity_of_each_layer(settings, wanted):
    if "granularity" in settings:
        settings["granularity"] = kgp.NM(keep=1, of=4)
    model, history, prune, dense = example_runs.trained(**settings)
    run = record_run(
        history=history, samples={"dense": dense}, networks=model, prunes={"generator": prune}
    )
    found = {row.layer: row.requested for row in run.layers["generator"]}
    assert found == {
        name: None if share is None else pytest.approx(share, abs=0.02)
        for name, share in wanted.items()
    }
    if wanted["image"] == 0.78:  # a layer with a number of its own achieves it
        for row in run.layers["generator"]:
            assert row.sparsity == pytest.approx(row.requested, abs=1e-12)


def test_one_total_over_two_networks_is_one_log():
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)], name="net")
    prune = kgp.Prune(0.5)
    network.compile("sgd", "mse")
    network.fit(np.ones((8, 4)), np.ones((8, 4)), callbacks=[prune], verbose=0)
    run = record_run(
        history=HISTORY, samples=SAMPLES, prunes={"generator": prune, "discriminator": prune}
    )
    assert list(run.prunes) == ["generator and discriminator"]
    assert run.prunes["generator and discriminator"].updates[-1].achieved == 0.5


def test_the_mask_reports_of_your_own_loop_are_recorded():
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)], name="net")
    pruner = kgp.Pruner(network)
    reports = [(10 * i, pruner.update(sparsity=0.2 * i)) for i in (1, 2)]
    run = record_run(
        history=HISTORY, samples=SAMPLES, networks=network, prunes={"net": reports}, steps=20
    )
    np.testing.assert_allclose(run.prunes["net"].updates, [(10, 0.2, 0.2), (20, 0.4, 0.4)])
    assert run.sparsity("net") == 0.4
    threshold = [(5, pruner.update(threshold=0.3))]
    assert record_run(history=HISTORY, samples=SAMPLES, prunes={"net": threshold}).prunes[
        "net"
    ].quantity == ("threshold")


def test_a_network_that_was_shrunk_has_channels():
    event = ShrinkEvent(9, "generator", (72, 33), (100, 40), (10, 3), (("dense", 48, 22),))
    run = record_run(history=HISTORY, samples=SAMPLES, channels={"generator": event})
    assert run.channels == {"generator": (("dense", 48, 22),)}


def test_profiles_and_exports_give_sizes_and_times(tmp_path):
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)], name="net")
    profile = kgp.profile(network, batch_sizes=[2], repeats=2)
    export = kgp.ExportReport(tmp_path, 0.0, 2000, 900, 25, 20)
    run = record_run(
        history=HISTORY, samples=SAMPLES, sizes={"dense": [profile, export], "pruned": {"macs": 7}}
    )
    assert run.sizes["dense"] == {
        "parameters": 25,
        "nonzero": 20,
        "macs": 20,
        "bytes": 100,
        "saved_bytes": 2000,
        "gzip_bytes": 900,
    }
    assert run.sizes["pruned"] == {"macs": 7}
    assert run.latency == {"dense": {"Keras, batch of 2": profile.latency[2]}}


def test_a_log_of_every_second_epoch_stands_at_these_epochs(tmp_path):
    history = {
        "loss": [4.0, 3.0, 2.0, 1.0, 0.5],
        "fd": [9.0, 8.0],
        "coverage": [None, 0.5] + [None] * 3,
    }
    save_run(tmp_path / "run", history=history, samples=SAMPLES)
    run = load_run(tmp_path / "run")
    assert run.history["fd"] == [None, 9.0, None, 8.0, None]
    assert run.history["coverage"] == [None, 0.5, None, None, None]
    with (tmp_path / "run" / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row["fd"] for row in rows] == ["", "9.0", "", "8.0", ""]


def test_a_run_can_be_written_beside_other_files(tmp_path):
    (tmp_path / "gan.keras").write_bytes(b"weights")
    write_run(example_runs.made(name="mine"), tmp_path)
    assert load_run(tmp_path).name == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "gan.keras",
        "history.csv",
        "run.json",
        "samples.npz",
    ]
    with pytest.raises(OutputError, match="must exist"):
        write_run(example_runs.made(), tmp_path / "nowhere")


def test_a_write_that_fails_leaves_no_run_that_looks_complete(tmp_path, monkeypatch):
    write_run(example_runs.made(name="old"), tmp_path)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OutputError, match="No space left"):
        write_run(example_runs.made(name="new"), tmp_path)
    with pytest.raises(FileFormatError, match=r"run\.json.*is missing"):
        load_run(tmp_path)


def test_an_existing_folder_is_kept(tmp_path):
    save_run(tmp_path / "run", history=HISTORY, samples=SAMPLES)
    with pytest.raises(OutputError, match="must be new or empty"):
        save_run(tmp_path / "run", history=HISTORY, samples=SAMPLES)
    save_run(tmp_path / "run", history={"loss": [9.0]}, samples=SAMPLES, overwrite=True)
    assert load_run(tmp_path / "run").history == {"loss": [9.0]}


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ({"history": {}}, "`history` must be the result of `fit`"),
        ({"history": {"loss": []}}, "at least one epoch"),
        ({"history": {"loss": ["high"]}}, "'loss' must be a number. Received: 'high'"),
        ({"samples": {"real": SAMPLES["pruned"]}}, "generated images"),
        ({"samples": {"pruned": np.zeros((2, 16))}}, r"shape \(2, 16\). Reshape"),
        ({"samples": {"pruned": np.zeros((2, 4, 4, 2))}}, "1 or 3 channels"),
        ({"samples": {"pruned": np.full((1, 2, 2, 1), 255.0)}}, "images / 127.5 - 1"),
        ({"samples": {"pruned": np.full((1, 2, 2, 1), np.nan)}}, "Has the training diverged"),
        (
            {"samples": {"dense": np.zeros((3, 4, 4, 1)), "pruned": np.zeros((2, 4, 4, 1))}},
            "same latent vectors",
        ),
        ({"prunes": {"generator": [(1, 0.5)]}}, "list of"),
        ({"channels": {"generator": ["dense"]}}, r"rows \(path, before, after\)"),
        ({"sizes": {"dense": {"weight": 3}}}, "parameters, nonzero, macs"),
        ({"quality": {"dense": 6.0}}, r"`quality\['dense'\]` must be a dict"),
    ],
)
def test_bad_input_is_refused(what, text):
    with pytest.raises(InvalidArgumentError, match=text):
        record_run(**({"history": HISTORY, "samples": SAMPLES} | what))


class Measurement(dict):
    """A measurement with an extractor and `to_dict`, like a `QualityReport`."""

    def __init__(self, extractor, **metrics):
        super().__init__(metrics)
        self.extractor = extractor

    def to_dict(self):
        return dict(self)


def test_the_feature_extractor_of_the_quality_is_recorded(tmp_path):
    quality = {
        "dense": Measurement("abc", fd=6.0, kd=np.nan),
        "pruned": [Measurement("abc", fd=7.0)],
    }
    save_run(tmp_path / "run", history=HISTORY, samples=SAMPLES, quality=quality)
    run = load_run(tmp_path / "run")
    assert run.extractor == "abc"
    assert run.quality == {"dense": ({"fd": 6.0},), "pruned": ({"fd": 7.0},)}
    with pytest.raises(InvalidArgumentError, match=r"one feature extractor.*Received: abc, other"):
        quality["pruned"].append(Measurement("other", fd=7.0))
        record_run(history=HISTORY, samples=SAMPLES, quality=quality)


def test_networks_must_be_keras_models():
    with pytest.raises(ArgumentTypeError, match="`networks` must be a Keras model"):
        record_run(history=HISTORY, samples=SAMPLES, networks={"generator": "generator"})


def _edit(**changes):
    def change(folder):
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        for key, value in changes.items():
            if value is KeyError:
                del facts[key]
            else:
                facts[key] = value
        (folder / "run.json").write_text(json.dumps(facts), encoding="utf-8")

    return change


def _text(name, text):
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


def _gone(name):
    return lambda folder: (folder / name).unlink()


def _cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:60])


def _nan(folder):
    text = (folder / "history.csv").read_text(encoding="utf-8")
    header, *rows = csv.reader(text.splitlines())
    rows[1][header.index("generator_loss")] = "nan"
    lines = [",".join(row) for row in (header, *rows)]
    (folder / "history.csv").write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            _gone("run.json"),
            r"run\.json, its settings and measurements, is missing. Writing was",
        ),
        (
            _gone("history.csv"),
            "incomplete: history.csv, the losses by epoch, is missing. Write it",
        ),
        (_gone("samples.npz"), r"incomplete: samples\.npz, the images, is missing"),
        (_gone("masks.npz"), r"incomplete: masks\.npz, the masks, is missing"),
        (_text("run.json", '{"format": 1'), r"run\.json' is damaged: Expecting"),
        (_text("run.json", "[1]"), "does not describe a run"),
        (_edit(format=2), "has format 2; this version of keras-ganprune reads format 1. Install"),
        (_edit(samples=KeyError), "'samples' is missing"),
        (_edit(samples=["dense", "pruned", "shrunk", "more"]), r"sample_3.*is not a file|sample_3"),
        (_edit(samples=["real"]), "no generated images"),
        (_edit(layers=[]), "masks for 0 weights"),
        (
            _edit(quality={"dense": [{"fd": "low"}]}),
            r"quality\['dense'\]\[0\]\['fd'\] must be a number. Found: 'low'",
        ),
        (_edit(quality=[1]), r"run\.json' is damaged: quality must be an object. Found: \[1\]"),
        (_edit(channels={"generator": [["dense", 4, 5]]}), "5 of 4 channels"),
        (_edit(settings="none"), "settings must be an object. Found: 'none'"),
        (_edit(layers=[{"network": "generator"}]), r"'layers\[0\]\.layer' is missing"),
        (_edit(masks=True), "masks must be an int. Found: True"),
        (_cut("samples.npz"), r"samples\.npz' is damaged"),
        (_cut("masks.npz"), r"masks\.npz' is damaged"),
        (_text("history.csv", ""), r"history\.csv' is damaged"),
        (_text("history.csv", "epoch,loss\n1,2.0\n2\n"), r"history\.csv' is damaged"),
        (_text("history.csv", "epoch,loss\n1,high\n"), r"history\.csv' is damaged"),
        (
            _nan,
            "diverged: .*loss is nan in epoch 2 of 4, so its samples have no meaningful quality. Train",
        ),
    ],
)
def test_an_incomplete_folder_says_what_is_missing(fitted, tmp_path, change, text):
    for name in ("run.json", "history.csv", "samples.npz", "masks.npz"):
        (tmp_path / name).write_bytes((fitted[0] / name).read_bytes())
    assert load_run(tmp_path).layers
    _edit(checksums={}, checksum=None)(tmp_path)  # as in a run of version 0.1
    change(tmp_path)
    with pytest.raises(FileFormatError, match=text):
        load_run(tmp_path)


def test_a_path_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match="does not exist"):
        load_run(tmp_path / "nowhere")
    (tmp_path / "file").write_text("text", encoding="utf-8")
    with pytest.raises(FileFormatError, match="is a file"):
        load_run(tmp_path / "file")
    with pytest.raises(FileFormatError, match=r"is missing\. Write it again"):
        load_run(tmp_path)


def test_the_snippets_of_the_docs_run(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    text = (paths.DOCS / "report.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "report"}
    snippets = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert snippets
    for snippet in snippets:
        exec(compile(snippet, "docs/report.md", "exec"), names)
    assert (tmp_path / "run" / "report.html").exists()
