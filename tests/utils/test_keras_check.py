"""A backend of Keras that is not there, or does not exist: what `import keras_ganprune` says."""

import os
import subprocess
import sys

import pytest


def start(backend, blocked, tmp_path, code="import keras_ganprune"):
    """Run code in a process in which some packages cannot be imported; return what it wrote last."""
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    environment["KERAS_HOME"] = str(tmp_path)  # nothing is configured there
    if backend is not None:
        environment["KERAS_BACKEND"] = backend
    block = f"import sys; sys.modules.update(dict.fromkeys({list(blocked)!r}))"
    result = subprocess.run(
        [sys.executable, "-c", f"{block}\n{code}"],
        capture_output=True,
        text=True,
        timeout=180,
        env=environment,
    )
    return (result.stdout + result.stderr).strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("backend", "blocked", "says"),
    [
        (
            "jax",
            ["jax", "torch"],
            "backend 'jax' (by KERAS_BACKEND), which is not installed. Installed: tensorflow. Set "
            "KERAS_BACKEND=tensorflow before Python starts. Or install it: `pip install jax`.",
        ),
        (
            None,
            ["tensorflow", "jax", "torch"],
            # Keras has written its default into its own file by then.
            "keras.json), which is not installed. Installed: none. Or install it: `pip install "
            "tensorflow`.",
        ),
        (
            "theano",
            ["jax", "torch"],
            "Received: 'theano' (by KERAS_BACKEND). Installed: tensorflow. Set "
            "KERAS_BACKEND=tensorflow before Python starts.",
        ),
    ],
)
def test_missing_and_unknown_backends(backend, blocked, says, tmp_path):
    said = start(backend, blocked, tmp_path)
    assert said.startswith("keras_ganprune.errors.")
    assert said.endswith(says)


def test_configured_in_a_file(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    said = start(None, ["torch", "jax"], tmp_path)
    assert f"backend 'torch' (by {tmp_path / 'keras.json'}), which is not installed" in said


def test_a_backend_without_training(tmp_path):
    pytest.importorskip("jax", reason="Keras's NumPy backend uses it")
    code = (
        "import keras, keras_ganprune as kgp\n"
        "g = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])\n"
        "d = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])\n"
        "gan = kgp.GANModel(g, d, 3)\n"
        "gan.compile()\n"
        "gan.train_step(None)"
    )
    said = start("numpy", [], tmp_path, code)
    assert "no training step for the Keras backend 'numpy'" in said
    assert "'tensorflow', 'jax' or 'torch'" in said
