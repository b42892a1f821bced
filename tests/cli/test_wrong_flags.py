"""Wrong flags and values: one line that names the flag, and nothing that only Python has."""

import re

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune import cli
from keras_ganprune.cli import error_texts

# A back-quoted name is a name of Python.
_PYTHON = re.compile(r"`[\w.]+(\(|=|`)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("wrong_flags")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    model.save(path / "model.keras")
    kgp.make_prunable(model).save(path / "masked.keras")
    kgp.Pruner(model).update(sparsity=0.5)
    model.save(path / "zeros.keras")
    np.savez(path / "data.npz", x=np.ones((8, 4), "float32"), y=np.ones((8, 2), "float32"))
    (path / "text.keras").write_text("no zip")
    (path / "text.txt").write_text("a text")
    (path / "empty").mkdir()
    (path / "full").mkdir()
    (path / "full" / "file").write_text("x")
    return path


EXPORT = ["export", "{f}/model.keras", "{f}/out"]
COMPRESS = ["compress", "{f}/model.keras", "{f}/data.npz", "{f}/out"]
SHRINK = ["shrink", "{f}/model.keras", "{f}/out"]
DEMO = ["demo", "--output", "{f}/out", "--data", "digits"]
SWEEP = ["sweep", "--output", "{f}/out", "--data", "digits", "--storage", "{f}/s.db"]
ROWS = [
    ([*SHRINK, "--sparsity", "80"], "--sparsity must be a fraction in [0, 1). Received: 80.0"),
    ([*SHRINK, "--sparsity", "nan"], "--sparsity"),
    ([*SHRINK, "--macs", "25"], "--macs"),
    ([*SHRINK, "--parameters", "-1"], "--parameters"),
    ([*SHRINK, "--bytes", "inf"], "--bytes"),
    ([*SHRINK, "--sparsity", "0.5", "--round-to", "0"], "--round-to must be a positive int"),
    ([*SHRINK, "--sparsity", "0.5", "--criterion", "nope"], "Unknown criterion 'nope'"),
    ([*SHRINK, "--sparsity", "0.5", "--criterion", "taylor"], "gradients"),
    ([*SHRINK, "--sparsity", "0.5", "--allocation", "nope"], "Unknown allocation 'nope'"),
    ([*SHRINK, "--sparsity", "0.5", "--keep", "nope"], "--keep"),
    ([*SHRINK, "--import", "no_such_module"], "--import must be the name of a Python module"),
    (SHRINK, "nothing to remove. Give --sparsity, --macs, --parameters, --bytes or --latency."),
    (["shrink", "{f}/none.keras", "{f}/out"], "There is no file"),
    (["shrink", "{f}/text.keras", "{f}/out"], "not a `.keras` file"),
    (["shrink", "{f}/model.keras", "{f}/full"], "--overwrite"),
    (["export", "{f}/model.keras", "{f}/full"], "--overwrite"),
    (["export", "{f}/none.keras", "{f}/out"], "There is no file"),
    (["export", "{f}/empty", "{f}/out"], "which has no config.json"),
    ([*EXPORT, "--format", "onnx", "--calibration", "digits"], "--calibration is for"),
    ([*EXPORT, "--precision", "int8"], "Choose 'onnx', 'litert' or 'openvino'"),
    ([*EXPORT, "--batch-size", "3"], "Received: --batch-size 3"),
    ([*EXPORT, "--format", "onnx", "--batch-size", "0"], "--batch-size must be a positive int"),
    ([*EXPORT, "--format", "onnx", "--tolerance", "-1"], "--tolerance"),
    ([*EXPORT, "--format", "tflite"], "invalid choice: 'tflite'"),
    (["export", "{f}/model.keras", "{f}/out.onnx", "--format", "litert"], "must end in '.tflite'"),
    ([*EXPORT, "--network", "nope"], "nope"),
    ([*EXPORT, "--run", "{f}/empty"], "not a run folder"),
    (["benchmark", "{f}/none.onnx"], "does not exist"),
    (["benchmark", "{f}/text.txt"], "or end in .keras, .onnx, .tflite, .xml"),
    (["benchmark", "{f}/text.keras"], "not a `.keras` file"),
    (["benchmark", "{f}/model.keras", "--batch-size", "0"], "--batch-size"),
    (["report", "{f}/empty"], "run.json"),
    (["report", "{f}/none"], "does not exist"),
    (["report", "{f}/empty", "--output", "page.txt"], "--output must end in '.html'"),
    (["report", "{f}/model.keras", "--title", "x"], "--title"),
    (["report", "{f}/empty", "--markdown"], "--markdown"),
    ([*DEMO, "--sparsity", "80"], "--sparsity must be a fraction in [0, 1)"),
    ([*DEMO, "--network", "nope"], "Unknown network 'nope'"),
    ([*DEMO, "--target", "nope"], "Unknown target 'nope'"),
    ([*DEMO, "--schedule", "nope"], "Unknown schedule 'nope'"),
    ([*DEMO, "--criterion", "nope=1"], "nope"),
    ([*DEMO, "--granularity", "0x4"], "--granularity must be positive ints"),
    ([*DEMO, "--mode", "nope"], "Unknown mode 'nope'"),
    ([*DEMO, "--allocation", "dense=80"], "80"),
    ([*DEMO, "--threshold", "-1"], "threshold"),
    ([*DEMO, "--steps", "0"], "--steps must be a positive int"),
    ([*DEMO, "--batch-size", "-1"], "--batch-size must be a positive int"),
    ([*DEMO, "--seed", "-1"], "--seed must be an int in [0, 2**32)"),
    ([*DEMO, "--steps", "5", "--epochs", "5"], "--steps or --epochs"),
    ([*DEMO, "--macs", "0.5"], "--macs is only for --structured"),
    ([*DEMO, "--structured", "--macs", "nan"], "--macs"),
    ([*DEMO, "--image-size", "64"], "--image-size is only for a folder"),
    ([*DEMO, "--order", "backward"], "--order is only for"),
    ([*DEMO, "--loss", "nope"], "nope"),
    ([*DEMO, "--tie", "--balance"], "--balance"),
    (["demo", "--output", "{f}/out", "--data", "{f}/none"], "none"),
    ([*SWEEP, "--sparsities", "0.5,80"], "sparsities"),
    ([*SWEEP, "--sparsities", "a"], "--sparsities must be numbers"),
    ([*SWEEP, "--thresholds", "-1"], "thresholds"),
    ([*SWEEP, "--criteria", ""], "--criteria"),
    ([*SWEEP, "--criteria", "nope"], "nope"),
    ([*SWEEP, "--seeds", "0"], "--seeds must"),
    ([*SWEEP, "--folds", "-1"], "--folds must"),
    ([*SWEEP, "--steps", "0"], "--steps must be a positive int"),
    ([*SWEEP, "--batch-size", "0"], "--batch-size must be a positive int"),
    ([*SWEEP, "--search", "nope"], "Unknown search 'nope'"),
    ([*SWEEP, "--search", "tpe"], "--trials must be a positive int"),
    ([*SWEEP, "--trials", "3"], "--trials is only valid"),
    ([*SWEEP, "--tolerance", "nan"], "--tolerance must be a non-negative fraction"),
    ([*SWEEP, "--tolerance", "-1"], "--tolerance"),
    ([*SWEEP, "--samples", "0"], "--samples must"),
    ([*SWEEP, "--metric", "nope"], "Unknown metric 'nope'"),
    (
        [*COMPRESS, "--macs", "0.5", "--granularity", "2:4"],
        "Received: --granularity 2:4 with a budget",
    ),
    ([*COMPRESS, "--sparsity", "0.5", "--round-to", "8"], "Received: --round-to 8 without them"),
    ([*COMPRESS, "--macs", "0.5", "--round-to", "0"], "--round-to must be a positive int"),
    ([*COMPRESS, "--sparsity", "0.5", "--granularity", "4:2"], "N must be smaller than M"),
    ([*COMPRESS, "--sparsity", "0.5", "--granularity", "nope"], "nope"),
    ([*COMPRESS, "--macs", "0.5", "--sparsity", "0.5"], "Give one of --sparsity, --macs"),
    (COMPRESS, "or --tolerance to search"),
    ([*SHRINK[:1], "{f}/masked.keras", "{f}/out"], "nothing to remove"),
    (
        [*SHRINK[:1], "{f}/zeros.keras", "{f}/out"],
        "Give --sparsity, --macs, --parameters or --bytes to cut",
    ),
    (["nope"], "Unknown command 'nope'"),
    ([*SHRINK, "--sparsity", "much"], "argument --sparsity: invalid float value"),
    ([*DEMO, "--nope"], "Unknown option '--nope'"),
    (["shrink"], "required: model, output"),
]


@pytest.mark.parametrize(("command", "text"), ROWS, ids=[" ".join(row[0][-3:]) for row in ROWS])
def test_the_error_names_the_flag_and_nothing_of_python(command, text, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    try:
        code = cli.main([part.format(f=folder) for part in command])
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    assert code == 2, printed.out
    assert text in printed.err
    known = re.sub(r"`(\.keras`|keras-ganprune|shrink`)", "", printed.err)
    assert not _PYTHON.search(known), printed.err
    assert not (folder / "out").exists()


def test_int8_needs_a_calibration(folder, capsys):
    for module in ("tf2onnx", "onnx", "onnxruntime"):
        pytest.importorskip(module)
    command = ["export", f"{folder}/model.keras", f"{folder}/out", "--format", "onnx"]
    assert cli.main([*command, "--precision", "int8"]) == 2
    assert "need --calibration" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "`round_to` must be a positive int. Received: 0.",
            "--round-to must be a positive int. Received: 0.",
        ),
        ("It exists (`overwrite=True`, `--overwrite`).", "It exists (--overwrite)."),
        (
            "Unknown loss 'x'.\nKnown: a, b. Or pass a `GANLoss` instance.",
            "Unknown loss 'x'.\nKnown: a, b.",
        ),
        ("Use allocation='uniform'.", "Use --allocation uniform."),
        (
            "Use granularity='channel'. Pass `budget=`.",
            "Use granularity='channel'. Give --sparsity, --macs, --parameters, --bytes or --latency.",
        ),
        ("It fails. Call `strip_pruning(model, copy=False)`: it needs no copy.", "It fails."),
        ("It fails. Received: `x`.", "It fails. Received: `x`."),
        (
            "A class is unknown. Pass it in `custom_objects`.",
            "A class is unknown. Name the module of your own classes: `--import MODULE`.",
        ),
    ],
)
def test_texts_in_the_words_of_a_command(text, expected):
    flags = {"round_to": "--round-to", "overwrite": "--overwrite", "modules": "--import"}
    flags |= {"allocation": "--allocation", "macs": "--macs"}
    assert error_texts.in_words_of(text, flags) == expected
