"""The dense training that all networks of an application begin with."""

from __future__ import annotations

import json
import pathlib
import time
from typing import Any

import attrs
import keras

from keras_ganprune.applications.base import Application, Splits
from keras_ganprune.errors import DataError
from keras_ganprune.training import discovery
from keras_ganprune.utils import files

_WEIGHTS, _RECORD = "dense.weights.h5", "dense.json"


@attrs.frozen
class Plan:
    """The length of the trainings.

    Attributes:
        dense: Epochs of the dense training.
        branch: Epochs of each training after it.
        batch_size: Samples per step.
        steps_per_epoch: Steps per epoch.
    """

    dense: int
    branch: int
    batch_size: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """Steps of each network, from its first one on."""
        return (self.dense + self.branch) * self.steps_per_epoch

    @classmethod
    def of(cls, application: Application, data: Splits) -> Plan:
        """Return the plan of an application, with the epochs and batch size of its options.

        Raises:
            DataError: There is no training data.
        """
        options = application.options
        if not len(data.train):
            raise DataError(
                f"The training data must not be empty. Received: {data.description} Pass more data."
            )
        batch_size = options.batch_size or application.batch_size()
        per_epoch = -(-len(data.train) // batch_size)
        dense, branch = application.epochs()
        wanted = options.epochs
        if options.steps is not None:
            wanted = -(-options.steps // per_epoch)
        if wanted is not None:
            dense, branch = wanted, max(1, round(wanted * branch / dense))
        return cls(dense, branch, batch_size, per_epoch)


@attrs.frozen(eq=False)
class Training:
    """A finished training.

    Attributes:
        history: Log -> one value per epoch.
        seconds: Its time.
    """

    history: dict[str, list[float]]
    seconds: float


def fit(
    application: Application,
    model: keras.Model,
    data: Splits,
    plan: Plan,
    epochs: int,
    *more: keras.callbacks.Callback,
) -> Training:
    """Train a model as its application wants it.

    Args:
        application: The application.
        model: Its compiled model.
        data: The data.
        plan: The plan.
        epochs: Number of epochs.
        *more: Further callbacks.
    """
    started = time.perf_counter()
    history = model.fit(
        data.train.x,
        data.train.y,
        batch_size=plan.batch_size,
        epochs=epochs,
        callbacks=[*application.callbacks(data), *more],
    )
    return Training(history.history, time.perf_counter() - started)


class DenseTraining:
    """The dense training of an application, and models that go on from its end.

    The state at the end is written to a folder. A second object for that folder does not train again; one
    that is made after an interruption goes on with the last finished epoch.

    Args:
        application: The application.
        data: Its data.
        plan: The plan.
        folder: Folder for the state.
    """

    def __init__(self, application: Application, data: Splits, plan: Plan, folder: pathlib.Path):
        self.application, self.data, self.plan = application, data, plan
        self._weights, record = folder / _WEIGHTS, folder / _RECORD
        if not record.exists():
            model = self.new_model()
            backup = keras.callbacks.BackupAndRestore(str(folder / "epochs"))
            training = fit(application, model, data, plan, plan.dense, backup)
            model.save_weights(self._weights)
            text = json.dumps([training.history, training.seconds], default=float)
            with files.new_file(record) as work:
                work.write_text(text, encoding="utf-8")
        self.training = Training(*json.loads(record.read_text(encoding="utf-8")))

    def new_model(self, width: float = 1.0) -> keras.Model:
        """Return a new, untrained model of the application."""
        keras.utils.set_random_seed(self.application.options.seed)
        networks = self.application.networks(self.data, width)
        return self.application.model(networks)

    def trained_model(self) -> keras.Model:
        """Return a new model with the weights, optimizers and seeds at the end of the dense training.

        The seed for what follows is set, so that all models that go on see the same batches.
        """
        model = self.new_model()
        for optimizer in discovery.optimizers(model):
            # A GAN builds the optimizers of its networks itself.
            if not optimizer.built:
                optimizer.build(model.trainable_variables)
        model.load_weights(self._weights)
        keras.utils.set_random_seed(self.application.options.seed + 1)
        return model


def application_settings(application: Application) -> dict[str, Any]:
    """Return the options of an application as JSON values."""
    values = attrs.asdict(application.options, recurse=False)
    plain = (str, int, float, bool, type(None))
    return {key: v if isinstance(v, plain) else repr(v) for key, v in values.items()}
