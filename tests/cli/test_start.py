"""The command line answers help, typos and missing files before Keras is imported, and hides logs of C++."""

import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import time

import pytest

import keras_ganprune
from keras_ganprune.cli import arguments

ROOT = pathlib.Path(keras_ganprune.__file__).parents[1]
COMMANDS = sorted(arguments.recorded()["commands"])
APPLICATIONS = sorted(arguments.recorded()["applications"])

# Runs commands as the script of pip does, and says what each printed and what was imported.
SCRIPT = """
import contextlib, io, json, sys
from keras_ganprune.cli import main
results = []
for words in json.loads(sys.stdin.read()):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
    imported = {name for name, module in sys.modules.items() if module is not None}
    heavy = {"keras", "tensorflow", "jax", "torch", "scipy", "matplotlib"} & imported
    results.append([code, out.getvalue(), err.getvalue(), sorted(heavy)])
print(json.dumps(results))
"""


def command(folder, *words, source=SCRIPT, given="", **variables):
    """Run a command in a process of its own; return it and its CPU seconds."""
    script = folder / "keras-ganprune"
    script.write_text(source)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    found = subprocess.run(
        [sys.executable, str(script), *words],
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        input=given,
        capture_output=True,
        text=True,
        cwd=folder,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found, sum(after[:2]) - sum(before[:2])


HELPS = [
    ["--help"],
    ["--version"],
    ["demo", "--list"],
    *([name, "--help"] for name in COMMANDS),
    *(["demo", name, "--help"] for name in APPLICATIONS),
    *(["sweep", name, "--help"] for name in APPLICATIONS[:2]),
]


def results(folder, commands, **settings):
    """Run commands in one process; return (exit code, output, errors, heavy imports) of each."""
    found, _ = command(folder, given=json.dumps(commands), **settings)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_help_is_printed_without_keras(tmp_path):
    found = results(tmp_path, HELPS, COLUMNS="80")
    for words, (code, output, errors, heavy) in zip(HELPS, found, strict=True):
        assert (code, errors, heavy) == (0, "", []), words
        assert output.count("\n") >= 1
        if words[-1] == "--help":
            assert "examples:" in output
            texts = output.partition("examples:")[0].splitlines()
            assert all(len(line) <= 80 for line in texts), words


def test_help_takes_half_a_second_of_cpu(tmp_path):
    source = "import sys\nfrom keras_ganprune.cli import main\nsys.exit(main())"
    seconds = []
    for _ in range(3):
        found, taken = command(tmp_path, "demo", "--help", source=source)
        assert found.returncode == 0
        seconds.append(taken)
    assert min(seconds) < 0.5


WRONG = [
    (["dmeo"], "Did you mean 'demo'?"),
    (["demo", "denoisin"], "Did you mean 'denoising'?"),
    (["demo", "--quick", "denoisin"], "Did you mean 'denoising'?"),
    (["demo", "--quick", "denoising"], "must come before its options"),
    (["demo", "--sparsty", "0.8"], "Did you mean '--sparsity'? See `keras-ganprune demo --help`."),
    (["demo", "denoising", "--nose"], "See `keras-ganprune demo denoising --help`."),
    (["demo", "--sparsity", "80"], "For 80 %, pass 0.8"),
    (["demo", "denoising", "--sparsity", "80"], "For 80 %, pass 0.8"),
    (["demo", "denoising", "--macs", "25"], "For a quarter, pass 0.25"),
    (["demo", "--steps", "0"], "--steps must be a positive int"),
    (["demo", "--network", "dcgna"], "Did you mean 'dcgan'?"),
    (["demo", "--data", "mnits"], "Did you mean 'mnist'?"),
    (["demo", "--output", "full"], "--overwrite"),
    (["demo", "detection", "--output", "full"], "--overwrite"),
    (["demo", "--steps", "many"], "invalid int value: 'many'"),
    (["sweep", "--data", "no-folder"], "no-folder"),
    (["sweep", "--output", "full"], "--overwrite"),
    (["compress", "no.keras", "digits", "out"], "There is no file 'no.keras'"),
    (["compress", "model.keras", "no.npz", "out"], "There is no file 'no.npz'"),
    (["compress", "model.keras", "digist", "out"], "Did you mean 'digits'?"),
    (["compress", "model.keras", "digits", "full"], "--overwrite"),
    (["shrink", "no.keras", "out"], "There is no file 'no.keras'"),
    (["export", "no.keras", "out"], "There is no file 'no.keras'"),
    (["export", "model.keras", "out", "--format", "onxx"], "invalid choice: 'onxx'"),
    (["export", "model.keras", "out", "--calibration", "no.npz"], "There is no file 'no.npz'"),
    (["export", "model.keras", "out", "--run", "full"], "it has no run.json"),
    (["benchmark", "no.onnx"], "'no.onnx' does not exist"),
    (["report", "no_run"], "'no_run' does not exist"),
    (["report", "no.keras"], "There is no file 'no.keras'"),
    (["report"], "the following arguments are required: RUN"),
    (["report", "full", "--verbsoe"], "Did you mean '--verbose'?"),
]


def test_a_wrong_argument_is_told_without_keras(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    (tmp_path / "model.keras").write_text("x")
    found = results(tmp_path, [words for words, _ in WRONG])
    for (words, text), (code, output, errors, heavy) in zip(WRONG, found, strict=True):
        assert text in errors, words
        assert (code, output, heavy) == (2, "", []), words
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        (["sweep"], "optuna", "sweep"),
        (["sweep", "denoising"], "matplotlib", "demo"),
        (["demo"], "PIL", "demo"),
        (["completion", "bash"], "shtab", "completion"),
    ],
)
def test_a_missing_package_is_told_without_keras(words, package, extra, tmp_path):
    blocked = f"import sys\nsys.modules['{package}'] = None\n{SCRIPT}"
    (found,) = results(tmp_path, [words], source=blocked)
    assert f"pip install 'keras-ganprune[{extra}]'" in found[2]
    assert (found[0], found[1], found[3]) == (2, "", [])


def test_python_minus_m_is_as_fast(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "keras_ganprune", "--help"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.stdout.startswith("usage: keras-ganprune")
    assert not re.search(r"\| +(keras|tensorflow)$", found.stderr, re.M)


@pytest.mark.parametrize("way", ["script", "python -m"])
def test_all_is_imported_after_the_checks(way, tmp_path):
    """Keras cannot start, and our own text of it, which comes first of all imports, says why."""
    (tmp_path / "model.keras").write_text("x")
    script = tmp_path / "keras-ganprune"
    script.write_text("import sys\nfrom keras_ganprune.cli import main\nsys.exit(main())")
    program = [str(script)] if way == "script" else ["-m", "keras_ganprune"]
    found = subprocess.run(
        [sys.executable, *program, "report", "model.keras"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "nope"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert found.returncode == 2
    assert (
        "Keras needs the backend 'tensorflow', 'jax' or 'torch'. Received: 'nope'" in found.stderr
    )
    assert "Traceback" not in found.stderr


LOGS = """
import os, subprocess, sys
from keras_ganprune.utils import native_messages
native_messages.hide_logs()
os.write(2, b"I0000 00:00:17.96 204 port.cc:153] oneDNN custom operations are on\\n")
os.write(2, b"E0000 00:00:17.96 204 cuda.cc:31] failed call to cuInit: UNKNOWN ERROR\\n")
os.write(2, b"2026-01-01 10:00:00.123: W tensorflow/x.cc:1] remapper failed\\n")
os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
os.write(2, b"F0000 00:00:17.96 204 x.cc:1] fatal\\n")
subprocess.run([sys.executable, "-c", "import sys; print('of a child', file=sys.stderr)"])
print("a warning", file=sys.stderr)
print("a result")
sys.stdout.flush()
os.write(2, b"terminate called\\n")
if sys.argv[1:]:
    os.abort()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="A forked process hides the logs.")
@pytest.mark.parametrize("words", [[], ["abort"]], ids=["ends", "is aborted"])
def test_logs_of_c_are_hidden_and_nothing_else(words, tmp_path):
    found, _ = command(tmp_path, *words, source=LOGS)
    assert found.stdout == "a result\n"
    assert (found.returncode == 0) == (not words)
    assert found.stderr.splitlines()[0] in ("a warning", "F0000 00:00:17.96 204 x.cc:1] fatal")
    assert sorted(line for line in found.stderr.splitlines() if "Aborted" not in line) == [
        "F0000 00:00:17.96 204 x.cc:1] fatal",
        "a warning",
        "of a child",
        "terminate called",
    ]


@pytest.mark.full
def test_a_command_on_a_file_shows_no_log_unless_verbose(tmp_path):
    source = "import sys\nfrom keras_ganprune.cli import main\nsys.exit(main())"
    made = (
        "import keras; keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save('m.keras')"
    )
    subprocess.run([sys.executable, "-c", made], cwd=tmp_path, check=True, capture_output=True)
    found, _ = command(tmp_path, "export", "m.keras", "out", source=source)
    assert (found.returncode, found.stderr) == (0, "")
    loud, _ = command(tmp_path, "export", "m.keras", "loud", "--verbose", source=source)
    assert loud.returncode == 0
    assert re.search(r"^[IWE]\d{4} ", loud.stderr, re.M)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to all processes of a console.")
def test_ctrl_c_during_the_imports_is_no_traceback(tmp_path):
    (tmp_path / "model.keras").write_text("x")
    script = tmp_path / "keras-ganprune"
    script.write_text("import sys\nfrom keras_ganprune.cli import main\nsys.exit(main())")
    started = subprocess.Popen(
        [sys.executable, str(script), "export", "model.keras", "out"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    time.sleep(1.0)  # the imports take seconds
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate()
    assert started.returncode == 130
    assert errors == "keras-ganprune: stopped.\n"
