"""Folders that are there whole or not at all."""

import contextlib
import os
import pathlib
import shutil

import numpy as np
import pytest

from keras_ganprune.errors import ArgumentTypeError, OutputError
from keras_ganprune.metrics.layer_sensitivity.report import SensitivityReport, SensitivityRow
from keras_ganprune.reports.run import record_run, save_run
from keras_ganprune.reports.write import write_report
from keras_ganprune.search import SweepResult
from keras_ganprune.search.recommendation import Trial
from keras_ganprune.utils import files, work_folders


def test_a_folder_appears_only_when_the_block_succeeds(tmp_path):
    target = tmp_path / "out"
    with files.new_folder(target) as work:
        (work / "a.txt").write_text("a")
        assert not target.exists()
    assert (target / "a.txt").read_text() == "a"
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_is_left_when_the_block_fails(tmp_path):
    with pytest.raises(RuntimeError, match="half way"), files.new_folder(tmp_path / "out") as work:
        (work / "a.txt").write_text("a")
        raise RuntimeError("half way")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_the_old_folder_stays(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with pytest.raises(OutputError, match=r"No space left on device.*No partial output is left"):
        with files.new_folder(target, overwrite=True) as work:
            (work / "new.txt").write_text("new")
            raise OSError(28, "No space left on device")
    assert [p.name for p in target.iterdir()] == ["old.txt"]


def test_overwriting_replaces_the_whole_folder(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with files.new_folder(target, overwrite=True) as work:
        (work / "new.txt").write_text("new")
    assert [p.name for p in target.iterdir()] == ["new.txt"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_is_there_as_a_whole_or_as_it_was(tmp_path):
    target = tmp_path / "a.txt"
    for text in ("old", "new"):
        with files.new_file(target) as work:
            work.write_text(text)
            assert work.name == "a.txt" and work != target
        assert target.read_text() == text
    for error in (RuntimeError("half way"), OSError(28, "No space left on device")):
        with pytest.raises(type(error), match=r"half way|No space"), files.new_file(target) as work:
            work.write_text("cut")
            raise error
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]
    with files.new_file(tmp_path / "missing" / "a.txt") as work:
        work.write_text("a")
    assert (tmp_path / "missing" / "a.txt").read_text() == "a"


@pytest.mark.parametrize("empty", [False, True])
def test_of_two_writers_of_one_new_folder_the_first_one_wins(empty, tmp_path):
    target = tmp_path / "out"
    if empty:
        target.mkdir()
    with pytest.raises(OutputError, match="must be new or empty"):
        with files.new_folder(target) as slow:
            (slow / "a.txt").write_text("slow")
            with files.new_folder(target) as fast:
                (fast / "a.txt").write_text("fast")
    assert (target / "a.txt").read_text() == "fast" and list(tmp_path.iterdir()) == [target]
    with files.new_folder(target, overwrite=True) as slow:
        (slow / "a.txt").write_text("slow")
        with files.new_folder(target, overwrite=True) as fast:
            (fast / "a.txt").write_text("faster")
    assert (target / "a.txt").read_text() == "slow" and list(tmp_path.iterdir()) == [target]


def test_a_folder_that_another_program_made_meanwhile_stays(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(OutputError, match="must be new or empty"), files.new_folder(target) as work:
        (work / "a.txt").write_text("a")
        target.mkdir()
    assert list(target.iterdir()) == []


def test_outputs_that_belong_together_appear_together(tmp_path):
    paths = [tmp_path / "files", tmp_path / "page"]

    def write(text, overwrite=False, meanwhile=lambda: None):
        with files.new_outputs(paths, overwrite) as (folder, page):
            folder.mkdir()
            (folder / "a").write_text(text)
            page.write_text(text)
            meanwhile()

    def read():
        return [(tmp_path / "files" / "a").read_text(), (tmp_path / "page").read_text()]

    with pytest.raises(OutputError, match="must be new"):
        write("slow", meanwhile=lambda: write("fast"))
    assert read() == ["fast", "fast"]
    write("new", overwrite=True)
    assert read() == ["new", "new"]
    (tmp_path / "files" / "a").unlink()
    (tmp_path / "files").rmdir()
    with pytest.raises(OutputError, match="page' exists"):
        write("other")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["page"]


@pytest.fixture
def killed(monkeypatch):
    """Return a function that begins an output and leaves what a killed process leaves."""

    def kill(path, write=lambda work: None, overwrite=False):
        with monkeypatch.context() as patch:
            patch.setattr(work_folders, "_remove", lambda folder, lock: os.close(lock))
            with pytest.raises(KeyboardInterrupt), files.new_folder(path, overwrite) as work:
                write(work)
                raise KeyboardInterrupt

    return kill


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path, killed):
    killed(tmp_path / "run", lambda work: (work / "a").write_text("a"))
    (tmp_path / ".mine-12345678").mkdir()
    (tmp_path / ".made-12345678.ganprune").mkdir()  # killed before it had locked its folder
    with files.new_folder(tmp_path / "live") as live:
        assert len(list(tmp_path.iterdir())) == 2
        with files.new_file(tmp_path / "other.txt") as work:
            work.write_text("other")
        assert live.exists()
        (live / "a").write_text("a")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mine-12345678", "live", "other.txt"]


def test_an_older_folder_comes_back_if_its_replacer_was_killed(tmp_path, killed):
    target = tmp_path / "run"
    target.mkdir()
    (target / "a").write_text("old")
    killed(target, lambda work: work_folders.put_aside(target, work.parent), overwrite=True)
    assert not target.exists()
    with pytest.raises(OutputError, match="must be new or empty"), files.new_folder(target) as work:
        (work / "a").write_text("new")
    assert (target / "a").read_text() == "old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("a" * 250, None, ""),
        ("é" * 125, None, ""),
        ("a" * 256, OutputError, r"at most 255 bytes.*name has 256\. Choose a shorter"),
        ("é" * 200, OutputError, r"name has 400\. Choose a shorter"),
        ("a\0b", OutputError, "null characters"),
        ("file/run", OutputError, "cannot be written|could not be written"),
        (5, ArgumentTypeError, r"must be a str or a `pathlib.Path`\. Received: 5"),
        (None, ArgumentTypeError, "Received: None"),
    ],
)
def test_names_of_outputs(name, error, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for write in (files.new_folder, files.new_file):
        expected = pytest.raises(error, match=text) if error else contextlib.nullcontext()
        with expected, write(name) as work:
            (work / "a" if work.is_dir() else work).write_text("a")
        if error is None:
            (shutil.rmtree if write is files.new_folder else os.unlink)(tmp_path / name)
        assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_made_and_can_be_written(tmp_path):
    assert files.make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert files.make_folder(tmp_path / "a") == tmp_path / "a"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        files.make_folder(tmp_path / "file")


def test_an_existing_folder_with_files_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(OutputError, match=r"must be new or empty.*--overwrite"):
        files.check_new_folder(tmp_path)


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(OutputError, match=r"is a file\. Choose another name"):
        files.check_new_folder(tmp_path / "a.txt")


def test_a_place_that_cannot_be_written_is_refused():
    with pytest.raises(OutputError, match="cannot be written"):
        files.check_new_folder("/proc/keras_ganprune")


def test_too_little_space_is_refused(tmp_path):
    with pytest.raises(OutputError, match="free space"):
        files.check_free_space(tmp_path / "out", 2**62)


def test_sizes_count_every_file(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_bytes(bytes(1000))
    (tmp_path / "sub" / "b").write_bytes(bytes(500))
    assert files.folder_bytes(tmp_path) == 1500
    assert 20 < files.folder_gzip_bytes(pathlib.Path(tmp_path)) < 100


@contextlib.contextmanager
def full_disk():
    """Within the context, no file can get more than 100 bytes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def heat_map(path):
    row = SensitivityRow("dense/kernel", (4, 2), 8, 0.5, 0.5, 0.7, 0.1)
    before = {"dense/kernel": 0.0}
    SensitivityReport((row,), 0.6, before).save_heat_map(path)


def csv_file(path):
    trial = Trial("magnitude", "sparsity", 0.8, 0, None, {"fd": 7.0}, achieved=0.8)
    SweepResult((trial,) * 50, {"metric": "fd", "direction": "min"}).save_csv(path)


def run_folder(path):
    history, samples = {"loss": [0.5] * 50}, {"pruned": np.ones((2, 4, 4, 1))}
    save_run(path, history=history, samples=samples, overwrite=True)


def report(path):
    run = record_run(history={"loss": [0.5] * 50}, samples={"pruned": np.ones((2, 4, 4, 1))})
    write_report(run, path, overwrite=True)


@pytest.mark.parametrize(
    ("write", "name"),
    [(heat_map, "map.png"), (csv_file, "trials.csv"), (run_folder, "run"), (report, "report.html")],
)
def test_a_full_disk_leaves_what_was_there(write, name, tmp_path):
    pytest.importorskip("matplotlib")
    write(tmp_path / name)
    before = {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}
    assert before
    with pytest.raises(OutputError, match="File too large"), full_disk():
        write(tmp_path / name)
    assert {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()} == before
