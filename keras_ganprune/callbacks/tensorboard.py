"""Pruning in TensorBoard: sparsity, masks, weights and samples over training."""

from __future__ import annotations

import importlib
import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import distribution
from keras_ganprune.callbacks import _fixed_inputs
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.callbacks.quality_monitor import callbacks_beside
from keras_ganprune.errors import (
    InvalidArgumentError,
    MissingPackageError,
    OutputError,
    PruningWarning,
)
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.traversal import is_built, masked_weights
from keras_ganprune.metrics.sparsity import count_parameters
from keras_ganprune.pruning.mask_state import sparsity_of
from keras_ganprune.training import discovery
from keras_ganprune.utils import files, plotting, validation

# Larger masks are drawn smaller, each point the share of weights that stay there.
_LARGEST = 512
_IMAGES = 64


def require_summaries() -> Any:
    """Return TensorFlow, whose `tf.summary` writes event files, whatever the Keras backend.

    Raises:
        MissingPackageError: TensorFlow or TensorBoard is not installed.
    """
    try:
        importlib.import_module("tensorboard")
        return files.tensorflow()
    except ImportError as error:
        raise MissingPackageError(
            "Event files for TensorBoard are written by TensorFlow and TensorBoard, whatever the Keras "
            f"backend. Received: {error}. Run `pip install tensorflow tensorboard`."
        ) from error


class PruningSummary(keras.callbacks.Callback):
    """Writes how a network is pruned into event files for TensorBoard, beside `keras.callbacks.TensorBoard`.

    At the end of every epoch (which is the step of the plots, from 0 as Keras's own callback counts):

        sparsity/NETWORK                  of all its masks together
        layers/NETWORK/LAYER/WEIGHT       sparsity of one weight
        nonzero_parameters/NETWORK        how many of its parameters are not zero
        balance_ratio                     where the logs hold it
        masks/NETWORK/LAYER/WEIGHT        picture: white where a weight stays, each tap of a kernel a tile
        weights/NETWORK/LAYER/WEIGHT      histogram of the weights that stay
        samples/NETWORK                   images of the same latent vectors, as `SampleGrid` draws

    and, at the optimizer step of each mask update of a `Prune` in the same `fit`, what was asked for and
    what came out: `updates/NETWORK/requested` and `updates/NETWORK/achieved`.

    It needs TensorFlow and TensorBoard, on every Keras backend. Training goes on bit by bit as without it.
    If nothing can be written any more, a warning says so and training goes on.

    Args:
        log_dir: Folder; the files go into its subfolder `pruning`, a run of its own for TensorBoard.
        target: The networks to write about, as for `Prune`; None for all networks of the model (or the
            model itself, where it is one), weight averages left out.
        histogram_freq, mask_freq, image_freq: Ints, epochs between two histograms, pictures of masks,
            images; 0 for none.
        images: Int, how many images; 0 for none, None for 64 where the model has a generator.
        columns: Positive int, images in a row.
        sample_target: Name of the network that makes the images; None for the generator or its average.
        labels, inputs, seed, value_range: As for `SampleGrid`.

    Raises:
        OutputError: the folder cannot be written.
        MissingPackageError: TensorFlow or TensorBoard is not installed.
        InvalidArgumentError, DataError: see the texts.

    Example:
    >>> PruningSummary("logs", histogram_freq=5)
    <PruningSummary 'logs'>
    """

    def __init__(
        self,
        log_dir: str | os.PathLike,
        target: Any = None,
        *,
        histogram_freq: int = 1,
        mask_freq: int = 1,
        image_freq: int = 1,
        images: int | None = None,
        columns: int = 8,
        sample_target: Any = None,
        labels: Any = None,
        inputs: Any = None,
        seed: int = 0,
        value_range: tuple[float, float] | None = None,
    ):
        super().__init__()
        self.log_dir = pathlib.Path(log_dir)
        self.target = target
        self.histogram_freq = validation.non_negative_int(histogram_freq, "histogram_freq")
        self.mask_freq = validation.non_negative_int(mask_freq, "mask_freq")
        self.image_freq = validation.non_negative_int(image_freq, "image_freq")
        self.images = None if images is None else validation.non_negative_int(images, "images")
        self.columns = validation.positive_int(columns, "columns")
        self.sample_target = sample_target
        self.value_range = None if value_range is None else validation.value_range(value_range)
        self.fixed = _fixed_inputs.FixedInputs(self.images or _IMAGES, seed, labels, inputs)

    def __repr__(self):
        return f"<PruningSummary {str(self.log_dir)!r}>"

    # --- Keras's hooks ---------------------------------------------------------------------------

    def on_train_begin(self, logs=None):
        model = self.model
        _networks(model, self.target)  # a wrong name is told at once
        self._prunes = [other for other in callbacks_beside() if isinstance(other, Prune)]
        self._written = {id(prune): len(prune.updates) for prune in self._prunes}
        self._samples = self._takes_samples(model)
        self._warned = False
        self._writer = None
        if distribution.rank(model) > 0:
            return
        self._tensorflow = require_summaries()
        self._faults = (OSError, self._tensorflow.errors.OpError)
        folder = self.log_dir / "pruning"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = self._tensorflow.summary.create_file_writer(str(folder))
            self._writer.flush()
        except self._faults as error:
            raise OutputError(
                f"`log_dir` must be a folder that can be written. '{self.log_dir}': {_reason(error)}. "
                "Choose another one, or check the permissions and the free space."
            ) from error

    def on_epoch_end(self, epoch, logs=None):
        model = self.model
        images = None
        if self._samples and self.image_freq and epoch % self.image_freq == 0:
            images = self._look(model)  # on every worker, since some can only compute together
        if self._writer is not None:
            self._attempt(lambda: self._write(model, epoch, logs or {}, images))

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._attempt(self._write_updates)
            self._attempt(self._writer.close)
            self._writer = None

    # --- What they do ----------------------------------------------------------------------------

    def _takes_samples(self, model: keras.Model) -> bool:
        if self.images == 0 or not self.image_freq:
            return False
        try:
            _, network = _fixed_inputs.sampled_network(model, self.sample_target)
        except InvalidArgumentError:
            if self.images is None and self.sample_target is None:
                return False  # a model that makes no images
            raise
        if is_built(network):
            self._look(model)  # what is missing is told at once
        return True

    def _look(self, model: keras.Model) -> tuple[str, np.ndarray]:
        """Return the name of the network that makes the images, and their grid in [0, 1]."""
        name, images = _fixed_inputs.show_images(
            model, self.sample_target, self.fixed, self.value_range
        )
        return name, plotting.image_grid(images, self.columns)

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except self._faults as error:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"Event files could not be written into '{self.log_dir}' ({_reason(error)}). Training "
                    "goes on without them. Check the free space and the permissions.",
                    PruningWarning,
                    stacklevel=2,
                )

    def _write(self, model: Any, epoch: int, logs: dict, images: Any) -> None:
        summary = self._tensorflow.summary
        # (Another callback may have told TensorFlow to record certain steps only.)
        with self._writer.as_default(step=epoch), summary.record_if(True):
            for name, network in _networks(model, self.target):
                if is_built(network):
                    self._write_network(summary, name, network, epoch)
            if "balance_ratio" in logs:
                summary.scalar("balance_ratio", float(np.mean(logs["balance_ratio"])))
            if images is not None:
                name, grid = images
                summary.image(f"samples/{name}", grid[None])
        self._write_updates()
        self._writer.flush()

    def _write_network(
        self, summary: Any, name: str, network: keras.layers.Layer, epoch: int
    ) -> None:
        _, nonzero = count_parameters(network.weights)
        summary.scalar(f"sparsity/{name}", sparsity_of(network))
        summary.scalar(f"nonzero_parameters/{name}", nonzero)
        for path, variable, mask in _weights(network):
            value = to_numpy(variable).astype("float32")
            if mask is not None:
                summary.scalar(f"layers/{name}/{path}", 1.0 - np.count_nonzero(mask) / mask.size)
                if self.mask_freq and epoch % self.mask_freq == 0:
                    picture = plotting.mask_picture(mask)
                    steps = (-(-side // _LARGEST) for side in picture.shape)
                    shares = plotting.block_means(picture, *steps).astype("float32")
                    summary.image(f"masks/{name}/{path}", shares[None, ..., None])
                value = value[mask]
            if self.histogram_freq and epoch % self.histogram_freq == 0:
                # Of a diverged network there is nothing to count.
                summary.histogram(f"weights/{name}/{path}", value[np.isfinite(value)])

    def _write_updates(self) -> None:
        summary = self._tensorflow.summary
        with self._writer.as_default(), summary.record_if(True):
            for prune, name in _named(self._prunes):
                start, self._written[id(prune)] = self._written[id(prune)], len(prune.updates)
                for step, requested, achieved in prune.updates[start:]:
                    quantity = prune.schedule.quantity
                    summary.scalar(f"updates/{name}/requested_{quantity}", requested, step=step)
                    summary.scalar(f"updates/{name}/achieved_sparsity", achieved, step=step)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)


def _networks(model: keras.Model, target: Any) -> list[tuple[str, keras.layers.Layer]]:
    """Return the (name, network) pairs to write about."""
    if target is not None:
        found = discovery.resolve_target(model, target)
    else:
        left_out = {id(network) for network in discovery.averages(model).values()}
        found = [
            (name, network)
            for name, network in discovery.networks(model).items()
            if isinstance(network, keras.Model) and id(network) not in left_out
        ] or [("", model)]
    return [(name or network.name, network) for name, network in found]


def _weights(
    network: keras.layers.Layer,
) -> list[tuple[str, keras.Variable, np.ndarray | None]]:
    """Return (path, weight, mask) of all masked weights; of a network without masks, of its kernels."""
    found = []
    for weight in masked_weights(network):
        # Under a mode that does not hold its masks: the last one chosen.
        chosen = weight.layer.pruning_masks.chosen.get(weight.name)
        found.append(
            (weight.path, weight.variable, to_numpy(weight.mask) if chosen is None else chosen)
        )
    kernels = [w for w in network.trainable_variables if len(w.shape) > 1]
    return found or [(w.path, w, None) for w in kernels]


def _named(prunes: list[Prune]) -> list[tuple[Prune, str]]:
    """Return each callback with a name of its own."""
    found: list[tuple[Prune, str]] = []
    for prune in prunes:
        targets = prune.target if isinstance(prune.target, (list, tuple)) else [prune.target]
        names = [t if isinstance(t, str) else getattr(t, "name", "model") for t in targets]
        name = "+".join(names)
        same = sum(other == name or other.startswith(f"{name} ") for _, other in found)
        found.append((prune, name if not same else f"{name} {same + 1}"))
    return found
