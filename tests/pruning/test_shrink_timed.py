"""Budgets in latency: the search on simulated runtimes, and real ones where they are installed."""

import importlib.util

import keras
import numpy as np
import pytest
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError, MissingPackageError, PruningWarning
from keras_ganprune.exporters import opened_network
from keras_ganprune.pruning import _shrink_timed as timed
from keras_ganprune.pruning.achieved_latency import AchievedLatency, measured
from keras_ganprune.pruning.shrink_model import shrink_with_cuts
from keras_ganprune.pruning.structured.budget import get

needs = {
    name: pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"needs {module}")
    for name, module in (("onnx", "onnxruntime"), ("litert", "ai_edge_litert"))
}


def perceptron(*widths, inputs=16):
    hidden = [layers.Dense(width, "relu") for width in widths]
    return keras.Sequential([keras.Input((inputs,)), *hidden, layers.Dense(4)])


# --- the request -------------------------------------------------------------------------------------


def test_round_trip():
    budget = kgp.Budget(latency=0.25, runtime="litert", batch_size=4)
    assert repr(budget) == "Budget(latency=0.25, runtime='litert', batch_size=4)"
    config = keras.saving.serialize_keras_object(budget)
    for each in (config, budget.get_config(), budget):
        assert get(each) == budget
    assert budget != kgp.Budget(latency=0.25, runtime="litert")
    assert kgp.Budget(latency=0.25).runtime == "onnx"
    assert kgp.Budget(latency=0.25).batch_size == 1
    assert repr(kgp.Budget(macs=0.5)) == "Budget(macs=0.5)"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"latency": 0.5, "runtime": "onx"}, "Did you mean 'onnx'"),
        ({"latency": 0.5, "batch_size": 0}, "`batch_size` must be a positive int"),
        ({"latency": 80}, "For 80 %, pass 0.8"),
        ({"latency": float("nan")}, "`latency` must be a fraction"),
        ({"macs": 0.5, "runtime": "onnx"}, "`runtime` is for a `latency`"),
        ({"macs": 0.5, "batch_size": 2}, "`batch_size` is for a `latency`"),
        ({"macs": 0.5, "latency": 0.5}, "exactly one of"),
        ({"runtime": "onnx"}, "exactly one of"),
    ],
)
def test_requests_that_are_refused(arguments, text):
    with pytest.raises(InvalidArgumentError, match=text):
        kgp.Budget(**arguments)


def test_where_costs_are_only_counted():
    groups = kgp.channel_groups(perceptron(8))
    with pytest.raises(InvalidArgumentError, match="`fit` counts costs"):
        kgp.pruning.structured.budget.fit(groups, [np.arange(8.0)], kgp.Budget(latency=0.5))
    with pytest.raises(InvalidArgumentError, match="`of` must be one of"):
        kgp.Channel(of="latency")


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is not None, reason="is installed")
def test_a_missing_runtime_names_the_extra():
    with pytest.raises(MissingPackageError, match=r"keras-ganprune\[onnx\]"):
        kgp.shrink(perceptron(8), budget=kgp.Budget(latency=0.5))


# --- the search, with simulated times ----------------------------------------------------------------


@pytest.fixture
def simulated(monkeypatch):
    """Return a function that sets the latency as a function of the share of the MACs."""
    tries = []

    def use(function, noise=0.0):
        rng = np.random.default_rng(0)

        def measure(budget, dense, small, macs=None, seconds=1.0, loads=1):
            tries.append(macs)
            share = function(macs) * (1.0 + noise * rng.standard_normal())
            return AchievedLatency(budget, share, (1.0, share), macs)

        monkeypatch.setattr(timed, "opened", lambda network, budget: lambda: None)
        monkeypatch.setattr(timed, "measured", measure)
        return tries

    return use


@pytest.mark.parametrize(
    ("shape", "request_"),
    [
        ("overhead", 0.25),
        *(
            pytest.param(shape, request_, marks=pytest.mark.full)
            for shape in ("linear", "overhead", "root")
            for request_ in (0.8, 0.5, 0.25)
        ),
    ],
)
def test_the_search_meets_monotone_latencies(simulated, shape, request_):
    function = {
        "linear": lambda m: m,
        "overhead": lambda m: 0.15 + 0.85 * m,
        "root": lambda m: m**0.6,
    }[shape]
    tries = simulated(function, noise=0.01)
    model = perceptron(64, 64, 48)
    budget = kgp.Budget(latency=request_, runtime="litert")
    shrunk = shrink_with_cuts(model, budget=budget)
    true = function(shrunk.latency.macs)
    assert abs(true / request_ - 1) < timed.TOLERANCE
    assert len(tries) <= timed._TRIES + 3
    small = kgp.profile(shrunk.model, latency=False).macs
    assert shrunk.latency.macs == pytest.approx(
        small / kgp.profile(model, latency=False).macs, abs=1e-6
    )


@pytest.mark.full
def test_widths_are_rounded_for_onnx_unless_that_misses(simulated):
    simulated(lambda m: m)
    shrunk = shrink_with_cuts(perceptron(64, 64), budget=kgp.Budget(latency=0.5))
    assert all(int(keep.sum()) % 8 == 0 for keep in shrunk.keeps)
    # One multiple of 8 is too coarse: any width.
    shrunk = shrink_with_cuts(perceptron(10), budget=kgp.Budget(latency=0.5))
    assert int(shrunk.keeps[0].sum()) == 5
    exact = kgp.Channel(round_to=4)
    shrunk = shrink_with_cuts(perceptron(64, 64), budget=kgp.Budget(latency=0.4), granularity=exact)
    assert all(int(keep.sum()) % 4 == 0 for keep in shrunk.keeps)


def test_what_cannot_be_met_is_refused_with_the_floor(simulated):
    simulated(lambda m: 0.6 + 0.4 * m)
    with pytest.raises(InvalidArgumentError, match=r"a budget above 0\.6"):
        kgp.shrink(perceptron(64, 64), budget=kgp.Budget(latency=0.2, runtime="litert"))


@pytest.mark.full
def test_a_jump_that_is_too_wide_warns(simulated):
    simulated(lambda m: 0.9 if m > 0.4 else 0.1)
    with pytest.warns(PruningWarning, match="missed by more than 10%"):
        kgp.shrink(perceptron(64, 64), budget=kgp.Budget(latency=0.5, runtime="litert"))


def test_the_report_is_printed(simulated, capsys):
    simulated(lambda m: m)
    kgp.shrink(perceptron(32), budget=kgp.Budget(latency=0.5, runtime="litert"))
    printed = " ".join(capsys.readouterr().out.split())
    assert "of the latency in LiteRT (requested: 0.5;" in printed


def test_monotone_model():
    # The least-squares fit of a rising function: pools of neighbours that fall have their mean.
    values = np.array([1.0, 3.0, 2.0, 2.5, 5.0, 4.0])
    expected = np.array([1.0, 2.5, 2.5, 2.5, 4.5, 4.5])
    np.testing.assert_allclose(timed._monotone(values), expected)
    np.testing.assert_allclose(timed._monotone(np.arange(4.0)), np.arange(4.0))


# --- in `Shrink` -------------------------------------------------------------------------------------


def gan():
    generator = keras.Sequential(
        [keras.Input((4,)), layers.Dense(32, "relu"), layers.Dense(32, "relu"), layers.Dense(6)]
    )
    discriminator = keras.Sequential([keras.Input((6,)), layers.Dense(8, "relu"), layers.Dense(1)])
    model = kgp.GANModel(generator, discriminator, 4, value_range=None)
    model.compile()
    return model


@pytest.mark.full
def test_shares_of_several_cuts_are_of_the_dense_network(simulated, monkeypatch):
    from keras_ganprune.callbacks import _shrink_run

    model = gan()
    dense = kgp.profile(model.generator, latency=False).macs
    exported = []

    def opened(network, budget):
        exported.append(kgp.profile(network, latency=False).macs)
        return exported[-1]

    def measure(budget, first, second, macs=None, seconds=1.0, loads=1):
        return AchievedLatency(budget, second / first, (1.0, second / first), macs)

    for module in (timed, _shrink_run):
        if hasattr(module, "opened"):
            monkeypatch.setattr(module, "opened", opened)
    monkeypatch.setattr(timed, "measured", measure)
    budgets = [kgp.Budget(latency=share, runtime="litert") for share in (0.6, 0.3)]
    callback = kgp.Shrink([1, 2], budget=budgets, verbose=0)
    model.fit(np.zeros((64, 6), "float32"), batch_size=16, verbose=0, callbacks=[callback])
    assert exported[0] == dense
    assert exported.count(dense) == 1
    for event, share in zip(callback.events, (0.6, 0.3), strict=True):
        assert event.latency.share == pytest.approx(share, rel=0.1)
        assert "of the latency in LiteRT" in str(event)
    small = kgp.profile(model.generator, latency=False).macs
    assert small / dense == pytest.approx(0.3, rel=0.1)


@pytest.mark.full
def test_shrink_refuses_before_training(simulated):
    simulated(lambda m: 0.6 + 0.4 * m)
    callback = kgp.Shrink(3, budget=kgp.Budget(latency=0.1, runtime="litert"), verbose=0)
    with pytest.raises(InvalidArgumentError, match="cannot be met in LiteRT"):
        gan().fit(np.zeros((16, 6), "float32"), verbose=0, callbacks=[callback])


# --- real runtimes -----------------------------------------------------------------------------------


def test_measured_in_keras():
    small, large = (perceptron(width, width) for width in (8, 1500))
    runs = [opened_network(network, "keras", 1) for network in (large, small)]
    found = measured(kgp.Budget(latency=0.5, runtime="keras"), *runs, seconds=0.1)
    assert found.share < 0.9
    assert found.milliseconds[1] < found.milliseconds[0]


@pytest.mark.full
@pytest.mark.parametrize(
    "runtime",
    [pytest.param("onnx", marks=needs["onnx"]), pytest.param("litert", marks=needs["litert"])],
)
def test_a_budget_holds_on_a_second_measurement(runtime):
    model = perceptron(1024, 1024, 512, inputs=512)
    budget = kgp.Budget(latency=0.4, runtime=runtime)
    shrunk = shrink_with_cuts(model, budget=budget)
    assert shrunk.latency.share == pytest.approx(0.4, rel=0.1)
    runs = [opened_network(network, runtime, 1) for network in (model, shrunk.model)]
    # Wider than the promise: tests run beside others.
    assert measured(budget, *runs, seconds=3.0).share == pytest.approx(0.4, rel=0.2)
