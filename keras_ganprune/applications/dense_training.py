"""The dense training that all networks of an application begin with."""

from __future__ import annotations

import json
import pathlib
import time
from typing import Any

import attrs
import keras

from keras_ganprune.applications.base import Application, Splits
from keras_ganprune.applications.compression.plan import Plan as Lengths
from keras_ganprune.applications.compression.plan import batches, plan_for
from keras_ganprune.callbacks.run_progress import RunProgress
from keras_ganprune.callbacks.training_progress import TrainingProgress
from keras_ganprune.errors import DataError
from keras_ganprune.training import discovery
from keras_ganprune.utils import files

_WEIGHTS, _RECORD = "dense.weights.h5", "dense.json"


@attrs.frozen
class Plan:
    """The length of the trainings.

    Attributes:
        dense: Epochs of the dense training, as passes over the data.
        branch: Epochs of each training after it.
        batch_size: Samples per step.
        samples: Number of training samples.
    """

    dense: int
    branch: int
    batch_size: int
    samples: int

    @classmethod
    def of(cls, application: Application, data: Splits) -> Plan:
        """Return the plan of an application, with the epochs and batch size of its options.

        Raises:
            DataError: There is no training data.
        """
        options, samples = application.options, len(data.train)
        if not samples:
            raise DataError(f"There must be training data. Received: {data.description}")
        batch_size = min(options.batch_size or application.batch_size(), samples)
        dense, branch = application.epochs()
        wanted = options.epochs
        if options.steps is not None:
            wanted = -(-options.steps // (samples // batch_size))
        if wanted is not None:
            dense, branch = wanted, max(1, round(wanted * branch / dense))
        return cls(dense, branch, batch_size, samples)

    def lengths(self, epochs: int) -> Lengths:
        """Return the epochs and steps of one training, as `compress` divides them."""
        return plan_for(None, self.samples, self.batch_size, epochs, cuts=True)

    @property
    def steps(self) -> tuple[int, int]:
        """(steps of the dense training, steps of each training after it)."""
        return self.lengths(self.dense).steps, self.lengths(self.branch).steps


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
    lengths: Lengths,
    title: str,
    seed: int,
    *more: keras.callbacks.Callback,
) -> Training:
    """Train a model with the callbacks of its application.

    Args:
        application: The application.
        model: Its compiled model.
        data: The data.
        lengths: Epochs and steps.
        title: What is trained, for the lines that are printed.
        seed: Seed of the order of the data, and of what is drawn.
        *more: Further callbacks.
    """
    keras.utils.set_random_seed(seed)
    progress = RunProgress()
    progress.plan(lengths.steps)
    started = time.perf_counter()
    history = model.fit(
        batches(data.train.x, data.train.y, None, lengths, seed),
        epochs=lengths.epochs,
        shuffle=False,  # the batches are in an order that depends on the seed
        verbose=0,  # pyright: ignore[reportArgumentType]  (Keras's stub says str)
        callbacks=[*application.callbacks(data), TrainingProgress(progress, title), *more],
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
        self.seed: int = application.options.seed
        self._weights, record = folder / _WEIGHTS, folder / _RECORD
        if not record.exists():
            model, lengths = self.new_model(), plan.lengths(plan.dense)
            backup = keras.callbacks.BackupAndRestore(str(folder / "epochs"))
            training = fit(application, model, data, lengths, "dense", self.seed, backup)
            model.save_weights(self._weights)
            text = json.dumps([training.history, training.seconds], default=float)
            with files.new_file(record) as work:
                work.write_text(text, encoding="utf-8")
        self.training = Training(*json.loads(record.read_text(encoding="utf-8")))

    def new_model(self, width: float = 1.0) -> keras.Model:
        """Return a new, untrained model of the application."""
        keras.utils.set_random_seed(self.seed)
        return self.application.model(self.application.networks(self.data, width))

    def trained_model(self) -> keras.Model:
        """Return a new model with the weights, optimizers and seeds at the end of the dense training."""
        model = self.new_model()
        for optimizer in discovery.optimizers(model):
            # A GAN builds the optimizers of its networks itself.
            if not optimizer.built:
                optimizer.build(model.trainable_variables)
        model.load_weights(self._weights)
        return model


def settings_of(application: Application) -> dict[str, Any]:
    """Return the options of an application as JSON values."""
    values = attrs.asdict(application.options, recurse=False)
    plain = (str, int, float, bool, type(None))
    return {key: v if isinstance(v, plain) else repr(v) for key, v in values.items()}
