"""Runs with metrics of their own: one table with a row per network or baseline, and pictures."""

import dataclasses

import matplotlib.figure
import pytest

import keras_ganprune as kgp
from keras_ganprune.errors import FileFormatError, InvalidArgumentError
from keras_ganprune.reports.run import MetricColumn, record_run
from keras_ganprune.reports.tables import several_runs
from keras_ganprune.reports.tables.comparison import comparison


def picture():
    figure = matplotlib.figure.Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    return figure


@pytest.fixture
def arguments():
    return {
        "history": {"loss, dense": [2.0, 1.0], "loss, 80 % sparse": [2.5, 1.5]},
        "pictures": {"Held-out data": picture()},
        "metrics": {"psnr": ("PSNR, dB", True, 2), "worst": ("largest error", False)},
        "quality": {
            "dense": {"psnr": 30.0, "worst": 0.5},
            "80 % sparse": {"psnr": 29.94, "worst": 0.625},
            "bicubic": {"psnr": 27.0},
        },
        "sizes": {
            "dense": {"nonzero": 1000, "macs": 50_000, "gzip_bytes": 4000},
            "80 % sparse": {"nonzero": 200, "macs": 50_000, "gzip_bytes": 1100},
        },
        "latency": {"dense": {"SavedModel": 2.0}, "80 % sparse": {"SavedModel": 2.01}},
        "settings": {"source": "photos", "licence": "CC0", "citation": "A. Photographer, 2020"},
    }


def test_the_table(arguments):
    table = comparison(record_run(**arguments, equal_steps=True))
    assert table.header == (
        *("", "PSNR, dB ↑", "against dense, equal steps", "largest error ↓"),
        *("not zero", "MACs", "bytes, gzipped", "ms, SavedModel"),
    )
    assert table.rows == (
        ("dense, equal steps", "30.00", "", "0.500", "1,000", "50,000", "4,000", "2"),
        ("80 % sparse", "29.94", "-0.06", "0.625", "200", "50,000", "1,100", "2.01"),
        ("bicubic", "27.00", "-3.00", "–", "–", "–", "–", "–"),
    )
    assert (
        "trained on without pruning for as many steps" in table.note and "'bicubic'" in table.note
    )
    assert "Data: photos. Licence: CC0. A. Photographer, 2020." in table.note


def test_a_run_without_metrics_has_no_such_table(arguments):
    run = record_run(**{**arguments, "metrics": None})
    assert comparison(run) is None


def test_it_is_written_and_read_again(arguments, tmp_path):
    kgp.save_run(tmp_path / "run", **arguments)
    run = kgp.load_run(tmp_path / "run")
    assert run.metrics == {
        "psnr": MetricColumn("PSNR, dB", True, 2),
        "worst": MetricColumn("largest error", False, 3),
    }
    assert list(run.pictures) == ["Held-out data"] and not run.samples
    assert run.pictures["Held-out data"] == (tmp_path / "run" / "picture_0.png").read_bytes()
    assert "samples.npz" not in {path.name for path in (tmp_path / "run").iterdir()}
    (tmp_path / "run" / "picture_0.png").write_bytes(b"\x89PNG\r\n\x1a\nother")
    with pytest.raises(FileFormatError, match="checksum"):
        kgp.load_run(tmp_path / "run")


@pytest.mark.parametrize("count", [1, 2])
def test_the_report_shows_table_and_picture(count, arguments, tmp_path):
    runs = [tmp_path / f"run{seed}" for seed in range(count)]
    for seed, path in enumerate(runs):
        kgp.save_run(path, **arguments, seed=seed)
    files = kgp.write_report(runs, tmp_path / "report.html")
    page = files.html.read_text(encoding="utf-8")
    text = files.markdown.read_text(encoding="utf-8")
    assert page.count("data:image/png") >= count
    for words in ("PSNR, dB ↑", "against dense", "bicubic", "29.94", "CC0"):
        assert words in page and words in text
    assert any(path.name.endswith("picture-0.png") for path in files.pictures.iterdir())


def test_seeds_are_compared_in_pairs(arguments):
    runs = []
    for seed, value in enumerate((29.9, 29.8, 30.1)):
        quality = {"dense": {"psnr": 30.0}, "80 % sparse": {"psnr": value}}
        arguments = {**arguments, "quality": quality, "seed": seed, "name": f"run {seed}"}
        runs.append(record_run(**arguments))
    (row,) = several_runs.paired(runs).rows
    assert row[:6] == (
        *("80 % sparse: run 0, run 1, run 2", "PSNR, dB ↑", "3"),
        *("30.00", "29.93", "-0.07"),
    )
    # Student: 4.303 * 0.1528 / sqrt(3) = 0.38
    assert row[6] == "-0.45 to +0.31"
    overview = several_runs.overview(runs)
    assert overview.header == ("run", "run 0", "run 1", "run 2")
    assert [row[0] for row in overview.rows[:2]] == ["at its end", "PSNR, dB ↑"]
    assert [row[1] for row in overview.rows[:2]] == ["80 % sparse", "29.90"]
    # More runs have a row each.
    many = [dataclasses.replace(run, name=f"{run.name}{i}") for i in range(2) for run in runs]
    assert several_runs.overview(many).rows[0][:3] == ("run 00", "80 % sparse", "29.90")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"pictures": {"a": b"GIF89a"}}, "bytes of a PNG file"),
        ({"pictures": {"a": "file.png"}}, "matplotlib figure"),
        ({"pictures": None}, "at least one name of generated images"),
        ({"metrics": {"psnr": "PSNR"}}, "whether higher is better"),
        ({"metrics": {"psnr": ("PSNR",)}}, "whether higher is better"),
    ],
    ids=["no PNG", "a name", "nothing to show", "a text", "no direction"],
)
def test_wrong_arguments(change, text, arguments):
    with pytest.raises(InvalidArgumentError, match=text):
        record_run(**{**arguments, **change})
