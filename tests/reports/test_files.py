"""The exported files of a run: in its folder, on its page, and from the command line."""

import json

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune import cli
from keras_ganprune.errors import FileFormatError
from keras_ganprune.reports.run.exported_files import ExportedFile, add_files

DIGITS = ExportedFile(
    "digits.onnx", "onnx", "int8", 4_000, 900, 0.01, {"1": 0.5}, {}, {"fd": 2.0}, ("Slow.",)
)


def run_folder(tmp_path):
    images = {"pruned": np.zeros((2, 4, 4, 1))}
    kgp.save_run(tmp_path / "run", history={"loss": [1.0, 0.5]}, samples=images)
    return tmp_path / "run"


def test_files_are_read_with_the_run_and_shown(tmp_path):
    folder = run_folder(tmp_path)
    assert kgp.load_run(folder).files == ()
    add_files(folder, [DIGITS])
    measured = ExportedFile(
        "digits.onnx", "onnx", "", 4_000, 901, None, {"1": 0.4, "16": 3.0}, {"1": (0.3, 0.6)}
    )
    other = ExportedFile("model.keras", "keras", "", 9_000, 8_000, milliseconds={"1": 2.0})
    add_files(folder, [measured, other])
    first, second = kgp.load_run(folder).files
    assert (first.precision, first.max_difference, first.notes) == ("int8", 0.01, ("Slow.",))
    assert first.milliseconds == {"1": 0.4, "16": 3.0} and second == other
    page = kgp.write_report(folder, tmp_path / "report.html")
    for text in (page.html.read_text(), page.markdown.read_text()):
        assert "Exported files" in text and "digits.onnx" in text.replace("\\", "")
        assert "0.40 (0.30–0.60)" in text.replace("\\", "") and "Slow" in text


def test_a_new_file_of_the_same_name_replaces_what_was_known(tmp_path):
    folder = run_folder(tmp_path)
    add_files(folder, [DIGITS])
    add_files(folder, [ExportedFile("digits.onnx", "onnx", "", 5_000, 1_000)])
    (entry,) = kgp.load_run(folder).files
    assert entry.max_difference is None and entry.bytes == 5_000


@pytest.mark.parametrize("text", ["[", "{}", '[{"name": 3}]', "[3]", "\xff"])
def test_a_damaged_list_of_files_is_named(text, tmp_path):
    folder = run_folder(tmp_path)
    (folder / "files.json").write_text(text, encoding="latin-1")
    with pytest.raises(FileFormatError, match=r"files\.json. is damaged"):
        kgp.load_run(folder)


def test_export_and_benchmark_add_to_a_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorflow")
    monkeypatch.chdir(tmp_path)
    folder = run_folder(tmp_path)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.save("model.keras")
    assert cli.main(["export", "model.keras", "out", "--run", str(folder)]) == 0
    files = ["model.keras", "out", "--run", str(folder), "--batch-size", "1"]
    assert cli.main(["benchmark", *files]) == 0
    entries = {file.name: file for file in kgp.load_run(folder).files}
    assert set(entries) == {"model.keras", "out"}
    assert entries["out"].max_difference is not None and entries["out"].quartiles.keys() == {"1"}
    assert json.loads((folder / "files.json").read_text())
    for command in (["export", "model.keras", "more"], ["benchmark", "model.keras"]):
        assert cli.main([*command, "--run", "nowhere"]) == 2
        assert "not a run folder" in capsys.readouterr().err
    assert not (tmp_path / "more").exists()
