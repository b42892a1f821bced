"""Folders that are there whole or not at all."""

import pathlib

import pytest

from keras_ganprune.errors import OutputError
from keras_ganprune.utils import files


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
    with pytest.raises(FileNotFoundError, match="missing"):
        with files.new_file(tmp_path / "missing" / "a.txt"):
            pass


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
