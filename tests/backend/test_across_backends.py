"""Equal masks, files that every backend reads and SavedModels from all of them; see backend_script.py.

Each backend runs in a process of its own, first to write a folder, then to read those of the others.
"""

import importlib
import importlib.util
import itertools
import json
import subprocess
import sys

import networks as nets
import numpy as np
import paths
import pytest

HERE = paths.HELPERS
sys.path.insert(0, str(paths.ROOT / "examples"))

two_processes = importlib.import_module("two_processes")

# Each backend runs in processes of its own.
pytestmark = pytest.mark.full

ALL = ("tensorflow", "jax", "torch")
BACKENDS = [name for name in ALL if importlib.util.find_spec(name) is not None]
# What backend_script.py writes and reads.
FILES = ("gan.keras", "gan.weights.h5", "classifier.keras")
PAIRS = list(itertools.permutations(ALL, 2))
# Long enough for three processes on two busy cores; what hangs is killed.
LIMIT = 300


def needs(*backends):
    missing = [name for name in backends if name not in BACKENDS]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}: pip install {' '.join(missing)}")


def run(phase, folders):
    """Let all backends do their part at once."""
    cache = next(iter(folders.values())).parent / "cache"
    environments = [
        {
            "KERAS_BACKEND": name,
            "CUDA_VISIBLE_DEVICES": "-1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # JAX compiles each small network once and runs it for a moment.
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "OMP_NUM_THREADS": "1",
        }
        for name in folders
    ]
    script = str(HERE / "backend_script.py")
    commands = []
    for folder in folders.values():
        others = [f for f in folders.values() if f is not folder] if phase == "read" else []
        commands.append([script, phase, *map(str, [folder, *others])])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    for name, ended in zip(
        folders, two_processes.start(environments, commands, LIMIT, **pipes), strict=True
    ):
        assert ended.returncode == 0, f"{name}: {ended.stderr[-3000:]}"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the folder that each backend has written."""
    folder = tmp_path_factory.mktemp("backends")
    folders = {name: folder / name for name in BACKENDS}
    for each in folders.values():
        each.mkdir()
    run("write", folders)
    return folders


@pytest.fixture(scope="module")
def read(written):
    """Return the same folders when each backend has read those of the others."""
    run("read", written)
    return written


def arrays(path):
    with np.load(path) as found:
        return dict(found)


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


# --- equal weights -------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["jax", "torch"])
def test_masks_are_identical(other, written):
    needs("tensorflow", other)
    mine, others = (arrays(written[name] / "masks.npz") for name in ("tensorflow", other))
    # Three fillings and criteria, three steps; of 2:4 one allocation, of the others three.
    assert len(mine) == 3 * 3 * (3 * 3 + 1)
    assert all(0.1 < mask.mean() < 0.9 for mask in mine.values())
    assert_equal(others, mine)


@pytest.mark.parametrize("other", ["jax", "torch"])
@pytest.mark.parametrize("criterion", ["gradient", "taylor", "rigl"])
def test_averaged_gradients_are_equal(criterion, other, written):
    needs("tensorflow", other)
    mine, others = (
        arrays(written[name] / "gradients.npz")[criterion] for name in ("tensorflow", other)
    )
    assert mine.shape == (3, 54 + 324 + 162)  # updates at the steps 2, 6 and 10
    assert np.all(mine.max(axis=1) > 0)
    np.testing.assert_allclose(others, mine, rtol=0, atol=1e-4 * mine.max())


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("writer", "reader"), PAIRS)
def test_files_are_read_on_another_backend(writer, reader, name, read):
    needs(writer, reader)
    wanted = arrays(read[writer] / f"{name}.npz")
    assert_equal(arrays(read[reader] / f"{name}-from-{writer}.npz"), wanted)
    masks = [array for key, array in wanted.items() if " mask " in key]
    # The average's masks are copies, without a clock of their own.
    clocks = [a.tolist() for key, a in wanted.items() if " clock " in key and "ema" not in key]
    if name == "classifier.keras":
        assert all(mask.mean() == 0.5 for mask in masks)
        return
    # In the middle of the schedule: the update of step 5, and two more batches.
    assert 0.3 < np.mean([mask.mean() for mask in masks]) < 0.7
    assert {step for step, _ in clocks} == {7}
    assert len({stamp for _, stamp in clocks}) == 1


@pytest.mark.parametrize(("writer", "reader"), PAIRS)
def test_training_goes_on_on_another_backend(writer, reader, read):
    needs(writer, reader)
    found = json.loads((read[reader] / "trained.json").read_text())[writer]
    assert (found["step"], found["finite"], found["leaks"]) == (12, True, {})
    assert found["kept"] == [[nets.kept_oracle(n, 0.75), n] for _, n in found["kept"]]


# --- SavedModels ---------------------------------------------------------------------------------


def exports(written, backend):
    needs("tensorflow", backend)
    return json.loads((written[backend] / "exports.json").read_text())


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_saved_models_of_another_backend_are_verified(backend, written):
    found = exports(written, backend)["whole"]
    assert 0.0 <= found["difference"] < 1e-5
    assert found["left"] == ["whole"]


def test_plain_tensorflow_serves_them(written):
    needs("tensorflow")
    folders = [str(written[name]) for name in ("jax", "torch") if name in written]
    script = (
        "import sys\n"
        "sys.modules['keras_ganprune'] = sys.modules['keras'] = None\n"  # any import of it fails
        "import numpy as np, tensorflow as tf\n"
        "for folder in sys.argv[1:]:\n"
        "    model = tf.saved_model.load(folder + '/exports/whole')\n"
        "    with np.load(folder + '/served.npz') as given:\n"
        "        images = model.serve(given['z']).numpy()\n"
        "        gap = np.max(np.abs(images - given['outputs']))\n"
        "    assert gap <= 1e-4, (folder, gap)\n"
        "    print('served', images.shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *folders], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:-1] == ["served (4, 14, 14, 1)"] * len(folders)


def test_jax_converts_what_tensorflow_cannot_make_again(written):
    found = exports(written, "jax")
    for name, nonzero in (("script", 6), ("no_config", 12)):
        assert found[name]["nonzero"] == nonzero
        assert found[name]["difference"] < 1e-5
        assert found[name]["left"] == ["saved"]


@pytest.mark.parametrize(
    ("name", "reason", "fix"),
    [
        (
            "script",
            "no other process can import 'OfThisScript' of the module '__main__'",
            "Define its classes and functions at the top level of a module",
        ),
        ("no_config", "it has no `get_config`", "Let the `get_config` of each class return all"),
    ],
)
def test_torch_says_what_tensorflow_cannot_make_again(name, reason, fix, written):
    found = exports(written, "torch")[name]
    assert found["error"].startswith(
        "UnsupportedLayerError: On the PyTorch backend a TensorFlow process"
    )
    assert reason in found["error"]
    assert fix in found["error"]
    assert found["left"] == []


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize(
    ("case", "start", "text"),
    [
        ("slow", "ExportError", "must end within 0.05 seconds"),
        ("killed", "ExportError", "exit code -9; nothing was written. Its last output: no memory"),
        ("full", "OutputError", "could not be written (No space left on device). No partial"),
        ("differs", "ExportError", "must give the outputs of the model"),
        ("missing", "MissingPackageError", "needs TensorFlow"),
    ],
)
def test_a_broken_export_leaves_nothing(case, start, text, backend, written):
    found = exports(written, backend)[case]
    assert found["error"].startswith(f"{start}: ")
    assert text in found["error"]
    assert found["left"] == []
