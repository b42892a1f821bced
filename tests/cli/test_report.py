"""`keras-ganprune report`, without the rest of the command line."""

import example_runs
import keras
import pytest

import keras_ganprune as kgp
from keras_ganprune.cli import parsers, report, saved_models
from keras_ganprune.errors import FileFormatError, InvalidArgumentError, OutputError, PruningError
from keras_ganprune.reports.run import write_run

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")


def command(*arguments):
    report.run(parsers.parse(["report", *map(str, arguments)]))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        (tmp_path / f"run{seed}").mkdir()
        write_run(example_runs.made(seed), tmp_path / f"run{seed}")
    return [tmp_path / "run0", tmp_path / "run1"]


@pytest.fixture
def model(tmp_path):
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, name="head")], name="net")
    kgp.Pruner(network).update(sparsity=0.5)
    network.save(tmp_path / "net.keras")
    return tmp_path / "net.keras"


def test_folders_become_a_page(folders, tmp_path, capsys):
    command(*folders, "--title", "Both", "--output", tmp_path / "new" / "both.html")
    text = (tmp_path / "new" / "both.html").read_text(encoding="utf-8")
    assert "<title>Both</title>" in text and "run0" in text and "run1" in text
    assert (tmp_path / "new" / "both.md").exists()
    printed = capsys.readouterr().out
    assert "both.html (0." in printed and "needs no network) and" in printed


def test_the_default_name_of_the_page(folders, tmp_path):
    page = folders[0] / "report.html"
    command(folders[0])
    assert "run0" in page.read_text(encoding="utf-8")
    command(folders[0], "--title", "another")  # its own page needs no flag
    assert "another" in page.read_text(encoding="utf-8")
    command(*folders)
    assert "run1" in (tmp_path / "report.html").read_text(encoding="utf-8")
    page.write_text("a page of mine", encoding="utf-8")
    with pytest.raises(OutputError, match=r"is no report; .*--overwrite"):
        command(folders[0])
    command(folders[0], "--overwrite")
    # What is missing is the run, not a place for the page.
    page.rename(tmp_path / "kept.html")
    with pytest.raises(FileFormatError, match="'nowhere' does not exist"):
        command("nowhere")


def test_the_sparsity_of_a_saved_model_is_printed(model, capsys):
    command(model)
    printed = capsys.readouterr().out
    assert printed.startswith("net\nlayer") and "head" in printed and "0.5000" in printed
    command(model, "--markdown")
    assert capsys.readouterr().out.startswith("## net\n\n| layer | weight |")
    command(model, model)
    assert capsys.readouterr().out.count(f"# {model}\n") == 2


def test_the_networks_of_a_gan_are_printed_one_by_one(tmp_path, capsys):
    gan = example_runs.gan()
    kgp.Pruner(gan.generator).update(sparsity=0.5)
    gan.save(tmp_path / "gan.keras")
    command(tmp_path / "gan.keras")
    printed = capsys.readouterr().out
    assert "generator\nlayer" in printed and "discriminator: not pruned" in printed
    assert list(saved_models.networks(gan)) == ["generator", "discriminator"] + (
        ["averaged generator"] if gan.ema_generator is not None else []
    )


def test_folders_and_files_cannot_be_mixed(folders, model, tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"Received both: .*run0' and .*net\.keras'"):
        command(folders[0], model)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (["--output", "page.html"], "--output can only be used with run folders"),
        (["--title", "Mine"], "--title can only be used with run folders"),
        (["--overwrite"], "--overwrite can only be used with run folders"),
    ],
)
def test_page_options_are_refused_for_a_model(model, option, text):
    with pytest.raises(InvalidArgumentError, match=text):
        command(model, *option)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (["--markdown"], "--markdown can only be used with .keras files"),
        (["--import", "json"], "--import can only be used with .keras files"),
    ],
)
def test_model_options_are_refused_for_a_page(folders, option, text):
    with pytest.raises(InvalidArgumentError, match=text):
        command(folders[0], *option)


def test_missing_files_and_modules_are_named(model, tmp_path):
    with pytest.raises(FileFormatError, match="nowhere' does not exist"):
        command(tmp_path / "nowhere")
    with pytest.raises(FileFormatError, match=r"nothing\.keras"):
        command(tmp_path / "nothing.keras")
    with pytest.raises(FileFormatError, match=r"run\.json.*is missing"):
        command(tmp_path)
    with pytest.raises(PruningError, match=r"Received: .no_such_module."):
        command(model, "--import", "no_such_module")


def test_a_file_without_zeros_says_what_can_be_pruned(tmp_path, capsys):
    example_runs.gan().save(tmp_path / "gan.keras")
    command(tmp_path / "gan.keras")
    printed = capsys.readouterr().out
    assert "generator" in printed and "discriminator" in printed
    assert "80% sparsity (masks)" in printed and "Next (`kgp` is keras_ganprune" in printed
    assert all(len(line) <= 80 for line in printed.splitlines() if str(tmp_path) not in line)
