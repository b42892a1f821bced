"""The report: the page is complete in itself, and its numbers are those of the runs."""

import base64
import dataclasses
import html.parser
import io
import itertools
import math
import re

import example_runs
import numpy as np
import pytest

from keras_ganprune.errors import (
    FileFormatError,
    InvalidArgumentError,
    MissingPackageError,
    OutputError,
)
from keras_ganprune.reports import images as report_pictures
from keras_ganprune.reports import write_report
from keras_ganprune.reports.run import load_run, record_run, write_run
from keras_ganprune.reports.tables import several_runs
from keras_ganprune.utils.palette import DARK, LIGHT

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")
Image = pytest.importorskip("PIL.Image")

VOID = {"meta", "img", "wbr", "br", "link", "input", "hr"}
HOSTILE = "<script>alert(1)</script>\"'&$x_{1}$ | `b` [l](http://evil.example)"


class Page(html.parser.HTMLParser):
    """Reads a page: its elements, its text, its tables, and whether tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.open, self.tables = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert tag not in VOID and self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.words.append(data)
        if self.open and self.open[-1] in ("th", "td"):
            self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def rows(self, first):
        """Return the rows, of all tables, that begin with this cell."""
        return [row for table in self.tables for row in table if row and row[0] == first]


def report(runs, folder, **settings):
    files = write_report(runs, folder / "report.html", **settings)
    return Page(files.html.read_text(encoding="utf-8")), files


@pytest.fixture(scope="module")
def trained_run():
    model, history, prune, dense = example_runs.trained()
    return record_run(
        history=history,
        samples=example_runs.samples(model, dense),
        networks=model,
        prunes={"generator": prune},
        steps=example_runs.STEPS,
        name="trained",
    )


# --- the page ------------------------------------------------------------------------------------


def check_structure(page, text):
    assert page.all("html")[0]["lang"] == "en"
    assert "width=device-width" in str(page.all("meta"))
    for tag in ("script", "link", "iframe", "object", "form", "base"):
        assert page.all(tag) == [], tag
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "srcset", "action", "data"):
                assert value.startswith(("data:image/png;base64,", "#")), (tag, value[:60])
            if name == "style" or "url" in value[:200]:
                assert not re.search(r"url\((?!#)", value), (tag, value)
    # The style sheet loads nothing either.
    style = re.search(r"<style>(.*?)</style>", text, flags=re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style and "http" not in style
    images, charts, tables = page.all("img"), page.all("svg"), page.tables
    assert images and all(image["alt"].strip() for image in images)
    assert all(chart["role"] == "img" and chart["aria-label"].strip() for chart in charts)
    captions, heads = page.all("caption"), [a.get("scope") for a in page.all("th")]
    assert len(captions) == len(tables) and set(heads) == {"row", "col"}
    for table in tables:
        assert len({len(row) for row in table}) == 1
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    for link in page.all("a"):
        assert link["href"][1:] in names
    used = re.findall(r"url\(#([^)]*)\)", text) + [use["href"][1:] for use in page.all("use")]
    assert set(used) <= set(names)


def test_a_page_is_complete_in_itself(trained_run, tmp_path):
    page, files = report(trained_run, tmp_path)
    text = files.html.read_text(encoding="utf-8")
    check_structure(page, text)
    assert len(text) < 1_000_000
    for word in ("Samples", "Training", "Sparsity by layer", "Masks", "Settings"):
        assert f"<h2>{word}</h2>" in text
    assert "<h2>Quality</h2>" not in text and "<h2>Channels</h2>" not in text
    assert str(files).startswith(f"{files.html} (0.")


def test_page_and_charts_share_one_palette(trained_run, tmp_path):
    _, files = report(trained_run, tmp_path)
    text = files.html.read_text(encoding="utf-8")
    for palette in (LIGHT, DARK):
        for name, colour in palette.variables().items():
            assert f"--{name}: {colour};" in text
    # Charts in the page use the variables, so that they follow a dark page.
    charts = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "var(--series-0)" in charts and not re.search(r"#[0-9a-f]{6}\b", charts)
    svg = (files.pictures / "losses.svg").read_text(encoding="utf-8")
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= set(LIGHT.variables().values())


@pytest.mark.full
def test_several_runs_are_one_page(trained_run, tmp_path):
    runs = [trained_run, example_runs.made(0), example_runs.made(1, fd=5.0)]
    page, files = report(runs, tmp_path, title="All of them")
    check_structure(page, files.html.read_text(encoding="utf-8"))
    assert page.text.startswith("All of them")
    assert len(page.all("details")) == 3
    (criterion,) = page.rows("criterion")[:1]
    assert criterion == ["criterion", "–", "magnitude", "magnitude"]
    (names,) = page.rows("run")
    assert names[1:] == [run.name for run in runs]
    assert page.rows("sparsity, generator") == [["sparsity, generator", "75.0%", "–", "–"]]


def test_numbers_are_those_of_the_run(trained_run, tmp_path):
    page, _ = report(trained_run, tmp_path)
    for row in trained_run.layers["generator"]:
        (found,) = page.rows(f"{row.layer}/{row.weight}")
        assert found == [
            f"{row.layer}/{row.weight}",
            f"{row.sparsity:.4f}",
            "",
            f"{row.requested:.4f}",
            f"{row.kept:,}",
            f"{row.total:,}",
            "×".join(map(str, row.shape)),
        ]
    (total,) = page.rows("all")
    assert total[:2] == ["all", f"{trained_run.sparsity('generator'):.4f}"]
    assert (
        f"achieved sparsity {trained_run.prunes['generator'].updates[-1].achieved:.4f}" in page.text
    )
    widths = [a["style"] for a in page.all("i") if "width" in a.get("style", "")]
    assert widths == [f"width:{row.sparsity:.2%}" for row in trained_run.layers["generator"]]
    losses = next(c["aria-label"] for c in page.all("svg") if c["aria-label"].startswith("Losses"))
    first, last = (trained_run.history["generator_loss"][i] for i in (0, -1))
    assert f"generator loss from {first:.3g} to {last:.3g}" in losses


def test_quality_sizes_and_times(tmp_path):
    run = example_runs.made(0, fd=6.0, increase=0.5)
    page, _ = report(run, tmp_path)
    # Three values 0.1 apart: standard deviation 0.1, t of two degrees of freedom 4.303.
    assert f"{4.302653 * 0.1 / math.sqrt(3):.2f}" == "0.25"
    assert page.rows("Fréchet distance ↓") == [
        ["Fréchet distance ↓", "6.00 ± 0.25", "9.00 ± 0.25", "1.50 ± 0.25"]
    ]
    assert page.rows("coverage ↑") == [["coverage ↑", "0.9", "0.88", "0.9"]]
    assert page.rows("missing classes ↓") == [["missing classes ↓", "0", "0", "0"]]
    assert page.rows("not zero") == [["not zero", "1,700", "456 (0.27×)"]]
    assert page.rows("MACs") == [["MACs", "1,632", "1,632 (1.00×)"]]
    assert page.rows("ms: batch of 16") == [["ms: batch of 16", "0.5", "0.525 (1.05×)"]]
    assert "+50.0% against dense" in page.text
    assert (
        "Fréchet distance of pruned against dense: +50.0% (95 % interval +49.2% to +50.8%"
        in page.text
    )


def test_seeds_are_compared_in_pairs(tmp_path):
    increases = (0.08, 0.10, 0.15, 0.07)
    runs = [example_runs.made(s, fd=5.0 + s, increase=x) for s, x in enumerate(increases)]
    page, files = report(runs, tmp_path)
    (row,) = page.rows("pruned: run0, run1, run2, run3")
    assert row[1:5] == [
        "4",
        "6.5",
        f"{np.mean([r.mean('pruned', 'fd') for r in runs]):.3g}",
        "+10.0%",
    ]
    low, high = (float(x) for x in re.findall(r"([+-][\d.]+)%", row[5]))
    # All 4 ** 4 ways to resample four seeds.
    pairs = [(r.mean("dense", "fd"), r.mean("pruned", "fd")) for r in runs]
    sums = [np.sum(drawn, axis=0) for drawn in itertools.product(pairs, repeat=4)]
    found = [pruned / dense - 1 for dense, pruned in sums]
    np.testing.assert_allclose([low, high], np.percentile(found, [2.5, 97.5]) * 100, atol=0.11)
    assert "Paired over seeds" in files.markdown.read_text(encoding="utf-8")
    # No comparison if more than the seed differs, or if a seed is repeated or unknown.
    for other in (
        example_runs.made(9, settings={"sparsity": 0.9}),
        example_runs.made(9, seed=0),
        example_runs.made(9, seed=None),
        dataclasses.replace(example_runs.made(9), extractor="another"),
    ):
        assert several_runs.paired([runs[0], other]) is None
    # A setting with the name seed does not separate runs.
    two = [dataclasses.replace(r, settings={**r.settings, "seed": r.seed}) for r in runs[:2]]
    assert [row[0] for row in several_runs.paired(two).rows] == ["pruned: run0, run1"]


def test_the_conditions_of_a_measurement_are_not_metrics(tmp_path):
    judged = {"fd": 6.0, "samples": 1000, "real_samples": 500, "extractor_accuracy": 0.975}
    runs = [
        dataclasses.replace(example_runs.made(i, quality={"pruned": judged}), extractor=name)
        for i, name in enumerate(("first", "second"))
    ]
    page, _ = report(runs[0], tmp_path)
    sentence = "Measured with 1,000 images, 500 real images, a feature extractor with an accuracy of 97.5%."
    assert sentence in page.text and page.rows("samples") == []
    (row,) = page.rows("feature extractor")
    assert "judged by the feature extractor with the fingerprint first." in row[1]
    assert "different feature extractors" in several_runs.overview(runs).note
    assert "different feature extractors" not in several_runs.overview([runs[0], runs[0]]).note


def test_a_run_with_little_content_has_a_short_page(tmp_path):
    run = record_run(history={"loss": [1.0]}, samples={"mine": np.zeros((3, 4, 4, 3))}, name="bare")
    page, files = report(run, tmp_path)
    text = files.html.read_text(encoding="utf-8")
    check_structure(page, text)
    assert re.findall("<h2>(.*?)</h2>", text) == ["Samples", "Training", "Settings"]
    assert len(page.all("img")) == 1 and "dl" not in dict(page.elements)


def test_channels_of_a_shrunk_network(tmp_path):
    run = example_runs.made(
        0,
        channels={"generator": [("dense", 48, 22), ("up", 24, 12)]},
        samples={"dense": np.zeros((2, 8, 8, 1)), "shrunk": np.zeros((2, 8, 8, 1))},
        quality={"dense": {"fd": 6.0}, "shrunk": [{"fd": 6.6}, {"fd": 6.8}]},
    )
    page, _ = report(run, tmp_path)
    assert page.rows("dense") == [["dense", f"{1 - 22 / 48:.4f}", "", "48", "22"]]
    assert "34 of 72" in page.text
    # One measurement against two: the ratio of the means, without an interval.
    assert "of shrunk against dense: +11.7%." in page.text


def test_large_colour_images_stay_small(tmp_path):
    images = np.random.default_rng(0).uniform(-1, 1, (24, 256, 128, 3))
    run = record_run(
        history={"loss": [1.0]}, samples={"dense": images, "pruned": images}, name="large"
    )
    grid, *_ = report_pictures.samples(run)
    shown = Image.open(io.BytesIO(grid.data))
    assert shown.size == (4 * 49 - 1, 4 * 97 - 1) and "16 images" in grid.alt
    _, files = report(run, tmp_path)
    assert files.html.stat().st_size < 3_000_000


# --- pictures ------------------------------------------------------------------------------------


def test_samples_are_those_of_the_run(trained_run):
    grids = report_pictures.samples(trained_run)
    assert [grid.title for grid in grids] == ["real", "dense", "pruned"]
    pixels = np.asarray(Image.open(io.BytesIO(grids[2].data)))
    for index, image in enumerate(trained_run.samples["pruned"]):
        y, x = (index // 10) * 9, (index % 10) * 9
        np.testing.assert_array_equal(pixels[y : y + 8, x : x + 8], image[..., 0])
    *rows, away = report_pictures.same_latents(trained_run)
    assert [row.title for row in rows] == ["dense", "pruned"]
    first, last = (trained_run.samples[n][:10].astype(float) for n in ("dense", "pruned"))
    mean = np.abs(last - first).mean() / 255
    assert f"{mean:.1%} of the range on average" in away.title
    pixels = np.asarray(Image.open(io.BytesIO(away.data)))
    wanted = np.abs(last - first)[0, ..., 0] / np.abs(last - first).max() * 255
    np.testing.assert_allclose(pixels[:8, :8], wanted, atol=1)


def test_masks_are_those_of_the_run(trained_run):
    pictures = report_pictures.masks(trained_run)["generator"]
    for picture, mask in zip(pictures, trained_run.masks["generator"], strict=True):
        levels = np.asarray(Image.open(io.BytesIO(picture.data)))
        np.testing.assert_array_equal(levels, mask * 15)
        assert f"{mask.mean():.1%} of {mask.size:,} kept" in picture.title


@pytest.mark.parametrize("shape", [(7, 5), (3, 3, 6, 4), (1, 400), (90, 2), (64,)])
@pytest.mark.parametrize("cells", [1, 12, 10_000])
def test_a_large_mask_becomes_shares(shape, cells):
    mask = np.random.default_rng(0).random(shape) < 0.3
    shares = report_pictures.density(mask, cells)
    assert shares.size <= max(2 * cells, 4)
    if cells == 10_000:
        assert shares.sum() == mask.sum() and set(np.unique(shares)) <= {0.0, 1.0}
    if cells == 1:
        assert shares.mean() == pytest.approx(mask.mean(), abs=0.2)


# --- hostile and wrong input ---------------------------------------------------------------------


def test_hostile_names_are_only_text(tmp_path):
    run = example_runs.made(
        0,
        name=HOSTILE,
        data=HOSTILE,
        settings={HOSTILE: HOSTILE},
        samples={"dense": np.zeros((2, 8, 8, 1)), HOSTILE: np.zeros((2, 8, 8, 1))},
        quality={"dense": {"fd": 6.0, HOSTILE: 1.0}, HOSTILE: {"fd": 6.6}},
        prunes={HOSTILE: [(8, 0.5, 0.5)]},
        channels={HOSTILE: [(HOSTILE, 4, 2)]},
        sizes={HOSTILE: {"macs": 4}},
        latency={HOSTILE: {HOSTILE: 0.5}},
        hardware=HOSTILE,
        history={f"_{HOSTILE}_loss": [1.0, 2.0], "字_loss": [1.0, 2.0], "\x07_loss": [2.0, 1.0]},
    )
    write_run(run, tmp_path)
    run = load_run(tmp_path)
    for runs in (run, [run, dataclasses.replace(run, seed=1)]):
        page, files = report(runs, tmp_path, overwrite=True, title=HOSTILE)
        text = files.html.read_text(encoding="utf-8")
        check_structure(page, text)
        assert HOSTILE in page.text and page.all("script") == []
        markdown = files.markdown.read_text(encoding="utf-8")
        outside_code = re.sub(r"\\.", "", markdown)
        assert "<" not in outside_code and "`" not in outside_code and "$" not in outside_code
        links = re.findall(r"\]\((.*?)\)", outside_code)
        assert links and all(re.fullmatch(r"report_files/[\w.-]+", link) for link in links)


def test_the_policy_forbids_loading(trained_run, tmp_path):
    page, _ = report(trained_run, tmp_path)
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_markdown_has_its_pictures_beside_it(trained_run, tmp_path):
    _, files = report(trained_run, tmp_path)
    text = files.markdown.read_text(encoding="utf-8")
    links = re.findall(r"!\[[^\n]+\]\((.+?)\)\n", text)
    assert sorted(links) == sorted(f"report_files/{p.name}" for p in files.pictures.iterdir())
    assert len(links) >= 8
    for row in trained_run.layers["generator"]:
        assert f"| {row.layer}/{row.weight} | {row.sparsity:.4f} | {row.requested:.4f} |" in text
    for path in files.pictures.iterdir():
        head = path.read_bytes()[:8]
        assert head == b"\x89PNG\r\n\x1a\n" if path.suffix == ".png" else head[:5] == b"<?xml"


def test_pictures_of_page_and_markdown_are_the_same(trained_run, tmp_path):
    page, files = report(trained_run, tmp_path)
    inside = {base64.b64decode(image["src"].partition(",")[2]) for image in page.all("img")}
    assert inside == {p.read_bytes() for p in files.pictures.glob("*.png")}


def test_files_that_exist_are_left_alone(trained_run, tmp_path):
    for name in ("report.html", "report.md"):
        (tmp_path / name).write_text("mine", encoding="utf-8")
        with pytest.raises(OutputError, match=rf"{name}' exists and is no report; .*--overwrite"):
            report(trained_run, tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()
    (tmp_path / "report_files").mkdir()
    (tmp_path / "report_files" / "old.png").write_bytes(b"old")
    with pytest.raises(OutputError, match="report_files' exists"):
        report(trained_run, tmp_path)
    report(trained_run, tmp_path, overwrite=True)
    assert not (tmp_path / "report_files" / "old.png").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "report.html",
        "report.md",
        "report_files",
    ]
    (tmp_path / "page.html").mkdir()
    with pytest.raises(OutputError, match="exists and is no report; choose another name"):
        write_report(trained_run, tmp_path / "page.html", overwrite=True)


def test_a_failed_write_leaves_nothing(trained_run, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        report(trained_run, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_wrong_runs_and_outputs_are_refused(trained_run, tmp_path):
    with pytest.raises(InvalidArgumentError, match="at least one run"):
        write_report([], tmp_path / "report.html")
    with pytest.raises(InvalidArgumentError, match=r"such as 'report\.html'"):
        write_report(trained_run, tmp_path / "report.pdf")
    with pytest.raises(FileFormatError, match="does not exist"):
        write_report(tmp_path / "run", tmp_path / "report.html")
    write_run(trained_run, tmp_path)
    with pytest.raises(InvalidArgumentError, match="twice"):
        write_report([tmp_path, tmp_path / "."], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.full
def test_runs_with_equal_names_show_their_folders(tmp_path):
    for parent in ("a", "b"):
        (tmp_path / parent).mkdir()
        write_run(example_runs.made(0, name="same"), tmp_path / parent)
    page, _ = report([tmp_path / "a", tmp_path / "b"], tmp_path)
    (names,) = page.rows("run")
    assert names[1:] == [f"same ({tmp_path / parent})" for parent in ("a", "b")]


@pytest.mark.parametrize("package", ["jinja2", "matplotlib", "PIL", "scipy"])
def test_a_missing_package_is_named(package, tmp_path, without):
    without(package)
    with pytest.raises(MissingPackageError, match=r"pip install 'keras-ganprune\["):
        report(example_runs.made(), tmp_path)
    assert list(tmp_path.iterdir()) == []
