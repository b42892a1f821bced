"""Selection on the device against the one on the host: the same masks, on any device."""

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.errors import DivergedError
from keras_ganprune.layers import device_topk, mask_ops
from keras_ganprune.layers.tensors import to_numpy


def variables(values, alive=None):
    alive = np.ones(values.shape, bool) if alive is None else alive
    kwargs = {"trainable": False}
    return (
        keras.Variable(values, dtype=str(values.dtype), **kwargs),
        keras.Variable(alive, dtype="bool", **kwargs),
    )


def oracle(values, alive, keep):
    scores = np.where(alive, np.abs(values.astype("float32")), -np.inf)
    return mask_ops.top_k_mask(scores, min(keep, int(alive.sum())))


RNG = np.random.default_rng(0)
VALUES = {
    "normal": RNG.normal(size=(40, 25)),
    "ties": RNG.integers(-3, 4, size=(40, 25)),
    "constant": np.full((40, 25), 0.5),
    "zero": np.zeros((40, 25)),
    "tiny": RNG.normal(size=(40, 25)) * 1e-42,
    "wide": RNG.normal(size=(40, 25)) * 10.0 ** RNG.integers(-30, 30, size=(40, 25)),
}


@pytest.mark.parametrize(
    ("kind", "keep", "dtype"),
    [
        # By default the lowest and the highest count of two types, and ties in the middle.
        pytest.param(
            kind,
            keep,
            dtype,
            marks=[] if keep in ((1, 999) if dtype == "float32" else (250,)) else pytest.mark.full,
        )
        for kind in VALUES
        for keep in (1, 2, 250, 999, 1000)
        for dtype in ("float32", "float16")
    ],
)
def test_same_as_on_the_host(kind, keep, dtype):
    if keras.backend.backend() != "torch" and kind == "tiny":
        pytest.skip("TensorFlow and XLA take denormal numbers for zero")
    with np.errstate(over="ignore"):
        values = VALUES[kind].astype(dtype)
    if not np.isfinite(values).all():
        pytest.skip("too large for the type")
    alive = RNG.uniform(size=values.shape) < 0.7
    for allowed in (np.ones_like(alive), alive):
        variable, mask = variables(values, allowed)
        found = device_topk.largest(variable, mask, keep)
        np.testing.assert_array_equal(found, oracle(values, allowed, keep))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite(bad):
    values = np.ones((4, 3), "float32")
    values[1, 1] = bad
    with pytest.raises(DivergedError, match="NaN or infinite"):
        device_topk.largest(*variables(values), 3)


def model():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((30,)), keras.layers.Dense(20), keras.layers.Dense(5)])


@pytest.mark.parametrize(
    ("settings", "used"),
    [
        ({}, True),
        ({"allocation": "erk"}, True),
        ({"allocation": "global_ranking"}, False),
        ({"criterion": "l2"}, False),
        ({"granularity": "2:4"}, False),
        ({"mode": "soft"}, False),
    ],
    ids=str,
)
def test_pruner_uses_it_where_it_applies(settings, used, monkeypatch):
    calls, original = [], device_topk.largest

    def counting(*args):
        calls.append(args)
        return original(*args)

    on_host, on_device = model(), model()
    pruner = kgp.Pruner(on_host, **settings)
    sparsities = (0.5, 0.5) if "granularity" in settings else (0.3, 0.8)
    for sparsity in sparsities:
        pruner.update(sparsity=sparsity)
    monkeypatch.setattr(device_topk, "worth_it", lambda variable: True)
    monkeypatch.setattr(device_topk, "largest", counting)
    other = kgp.Pruner(on_device, **settings)
    for sparsity in sparsities:
        report = other.update(sparsity=sparsity)
    assert len(calls) == (4 if used else 0)
    for one, two in zip(on_host.weights, on_device.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(two))
    assert report.achieved == pytest.approx(report.requested, abs=0.01)


def test_small_tensors_and_those_on_the_cpu_stay_there():
    variable, _ = variables(np.zeros((2048, 1024), "float32"))
    assert not device_topk.worth_it(variable)
