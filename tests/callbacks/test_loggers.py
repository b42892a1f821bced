"""MLflow and Weights & Biases, by the lines of docs/monitoring.md: the real packages, without a network."""

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.applications import networks

pytestmark = pytest.mark.full

X, Y = np.ones((32, 4), "float32"), np.ones((32, 3), "float32")
IMAGES = np.zeros((32, 4, 4, 1), "float32")


def fit_network(logger):
    """Fit one network; return the history."""
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    network.compile("adam", "mse")
    prune = kgp.Prune(kgp.PolynomialDecay(0.8, 2, 8), frequency=1)
    callbacks = [prune, logger]
    return network.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=callbacks).history


def fit_gan(logger):
    """Fit a GAN, which has no `optimizer` of its own; return the history."""
    gan = kgp.GANModel(*networks.mlp((4, 4, 1), latent_dim=4), latent_dim=4, value_range=None)
    gan.compile()
    prune = kgp.Prune(kgp.PolynomialDecay(0.8, 2, 8), "generator", frequency=1)
    monitor = kgp.QualityMonitor(lambda generator: {"fd": 2.5})
    callbacks = [monitor, prune, logger]
    return gan.fit(IMAGES, batch_size=8, epochs=3, verbose=0, callbacks=callbacks).history


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    """MLflow, with a folder as its store."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    package = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    before = package.get_tracking_uri()
    package.set_tracking_uri((tmp_path / "runs").as_uri())
    yield package
    package.set_tracking_uri(before)


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    """Weights & Biases in offline mode, and its run."""
    package = pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")
    with package.init(project="pruning", mode="offline", dir=str(tmp_path)) as run:
        yield package, run
    assert list(tmp_path.rglob("*.wandb"))


def logged(mlflow, run, history):
    """Check that MLflow has every log of every epoch."""
    client = mlflow.MlflowClient()
    for name, values in history.items():
        found = client.get_metric_history(run.info.run_id, name)
        assert [metric.step for metric in found] == [0, 1, 2], name
        assert [metric.value for metric in found] == pytest.approx(values), name


def test_mlflow_logs_a_gan(mlflow):
    with mlflow.start_run() as run:
        history = fit_gan(
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: mlflow.log_metrics(logs, step=epoch)
            )
        )
    assert {"generator_sparsity", "fd", "generator_loss"} <= set(history)
    logged(mlflow, run, history)


def test_the_callback_of_mlflow_logs_a_network_and_a_gan(mlflow):
    module = pytest.importorskip("mlflow.keras")
    for fit, name in ((fit_network, "sparsity"), (fit_gan, "generator_sparsity")):
        with mlflow.start_run() as run:
            history = fit(module.MlflowCallback())
        found = mlflow.MlflowClient().get_metric_history(run.info.run_id, name)
        assert [metric.value for metric in found] == pytest.approx(history[name])


def test_wandb_logs_a_gan(wandb):
    _, run = wandb
    history = fit_gan(
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: run.log(logs))
    )
    for name, values in history.items():
        assert run.summary[name] == pytest.approx(values[-1]), name
    assert run.summary["_step"] == 2 and "generator_sparsity" in history


def test_the_callback_of_wandb_logs_a_network(wandb):
    _, run = wandb
    module = pytest.importorskip("wandb.integration.keras")
    history = fit_network(module.WandbMetricsLogger())
    assert run.summary["epoch/sparsity"] == pytest.approx(history["sparsity"][-1])
    assert run.summary["epoch/epoch"] == 2
