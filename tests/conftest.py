"""Shared by all tests: CPU only, two logical devices for tf.distribute, one seed for every test."""

import gc
import os
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# JAX compiles each small network once and runs it for a moment.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# Extractors are kept while the tests run, but not read from the user's folder, nor left there. The processes
# of pytest-xdist find the variable set.
if "KERAS_GANPRUNE_CACHE" not in os.environ:
    _KEPT = tempfile.TemporaryDirectory(prefix="ganprune_tests_")
    os.environ["KERAS_GANPRUNE_CACHE"] = _KEPT.name

import keras
import pytest

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # Must happen before TensorFlow initialises its devices; MirroredStrategy needs two of them.
    _CPU = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(_CPU, [tf.config.LogicalDeviceConfiguration()] * 2)


def pytest_configure(config):
    """Collect garbage less often: tracing makes many objects, and few of them are garbage."""
    gc.set_threshold(50_000)


@pytest.fixture(autouse=True)
def seed():
    """Seed Python, NumPy and Keras, so that a test sees the same numbers alone and in the suite."""
    keras.utils.set_random_seed(20240607)


@pytest.fixture
def without(monkeypatch):
    """Return a function that lets packages be as if they were not installed."""

    def remove(*packages):
        inside = [name for name in sys.modules if name.partition(".")[0] in packages]
        for name in (*packages, *inside):
            monkeypatch.setitem(sys.modules, name, None)

    return remove


@pytest.fixture
def traced(monkeypatch):
    """Count how often the step of `GANModel` is traced."""
    from keras_ganprune.gan import _step_tensorflow

    calls, step = [], _step_tensorflow.train_step

    def counting(gan, data):
        calls.append(gan)
        return step(gan, data)

    monkeypatch.setattr(_step_tensorflow, "train_step", counting)
    return lambda: len(calls)


# Files go to the processes of pytest-xdist as wholes, in this order: the longest first, so that none is
# left alone with one of them in the end.
LONGEST = (
    "quality_monitor",
    "sweep",
    "shrink",
    "modes_in_fit",
    "image_generation",
    "prune",
    "balance_controller",
    "zeros_hold",
    "discriminator_saliency",
    "shrink_model",
    "docs",
    "model",
)


def pytest_collection_modifyitems(items):
    order = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
