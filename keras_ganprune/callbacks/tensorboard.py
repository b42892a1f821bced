"""`PruningSummary`: sparsity, masks, weights and samples in TensorBoard."""

from __future__ import annotations

import importlib
import os
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import distribution
from keras_ganprune.callbacks import fixed_inputs
from keras_ganprune.callbacks.callback_list import callbacks_beside
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.errors import (
    InvalidArgumentError,
    MissingPackageError,
    OutputError,
    PruningWarning,
)
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import is_built, masked_weights
from keras_ganprune.metrics.sparsity import count_parameters
from keras_ganprune.pruning.mask_state import sparsity_of
from keras_ganprune.training import discovery
from keras_ganprune.training.fresh_copies import FreshCopies
from keras_ganprune.utils import annotated, files, plotting, validation

# Larger masks are drawn smaller; each pixel then shows the share of kept weights in a block.
_MAX_MASK_SIDE = 512
_DEFAULT_IMAGES = 64


def require_summaries() -> Any:
    """Return TensorFlow, whose `tf.summary` writes event files on every Keras backend.

    Raises:
        MissingPackageError: TensorFlow or TensorBoard is not installed.

    Example:
    >>> from keras_ganprune.callbacks.tensorboard import require_summaries
    >>> require_summaries().__name__
    'tensorflow'
    """
    try:
        importlib.import_module("tensorboard")
        return files.tensorflow()
    except ImportError as error:
        raise MissingPackageError(
            "Event files for TensorBoard are written by TensorFlow and TensorBoard, whatever the Keras "
            f"backend. Received: {error}. Run `pip install tensorflow tensorboard`."
        ) from error


class _EventFile:
    """An event file. If it cannot be written, training continues and one warning is given.

    Args:
        log_dir: Folder; the file is written into its subfolder `pruning`.

    Raises:
        OutputError: The folder cannot be written.
        MissingPackageError: TensorFlow or TensorBoard is not installed.
    """

    def __init__(self, log_dir: pathlib.Path):
        tensorflow = require_summaries()
        self.summary = tensorflow.summary
        self.log_dir = log_dir
        self._faults = (OSError, tensorflow.errors.OpError)
        self._warned = False
        folder = log_dir / "pruning"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.writer = tensorflow.summary.create_file_writer(str(folder))
            self.writer.flush()
        except self._faults as error:
            raise OutputError(
                f"`log_dir` must be a folder that can be written. Received: '{log_dir}' "
                f"({files.reason(error)}). Choose another folder, or check its permissions and the free "
                "space."
            ) from error

    def attempt(self, write: Callable[[], None]) -> None:
        """Call a function that writes; warn once if that fails."""
        try:
            write()
        except self._faults as error:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"Event files could not be written into '{self.log_dir}' ({files.reason(error)}). "
                    "Training continues without them. Check the free space and the permissions.",
                    PruningWarning,
                    stacklevel=2,
                )


class PruningSummary(FreshCopies):
    """Writes the pruning state of networks into event files for TensorBoard.

    Use it beside `keras.callbacks.TensorBoard`. At the end of every epoch it writes the following; the
    step of the plots is the epoch, counted from 0 as in Keras's own callback:

        sparsity/NETWORK                  sparsity over all masks of the network
        layers/NETWORK/LAYER/WEIGHT       sparsity of one weight
        nonzero_parameters/NETWORK        number of parameters that are not zero
        balance_ratio                     if the logs contain it
        masks/NETWORK/LAYER/WEIGHT        picture: dark where a weight is kept, one tile per kernel tap
        weights/NETWORK/LAYER/WEIGHT      histogram of the kept weights
        samples/NETWORK                   images from fixed latent vectors, as `SampleGrid` draws them

    At the optimizer step of each mask update of a `Prune` in the same `fit`, it writes the requested and
    the achieved value: `updates/NETWORK/requested_sparsity` (or `requested_threshold`) and
    `updates/NETWORK/achieved_sparsity`.

    TensorFlow and TensorBoard must be installed, on every Keras backend. The training is bit-equal to a
    training without this callback. If the files cannot be written, a warning says so and training
    continues.

    Args:
        log_dir: Folder. The files are written into its subfolder `pruning`, a separate run in TensorBoard.
        target: The networks to write about, as for `Prune`. None for all networks of the model without
            weight averages, or for the model itself if it has none. Defaults to None.
        histogram_freq: Non-negative int, epochs between two histograms; 0 for none. Defaults to 1.
        mask_freq: Non-negative int, epochs between two pictures of the masks; 0 for none. Defaults to 1.
        image_freq: Non-negative int, epochs between two pictures of samples; 0 for none. Defaults to 1.
        images: Non-negative int, number of sample images; 0 for none. None for 64 if the model has a
            generator. Defaults to None.
        columns: Positive int, images per row. Defaults to 8.
        sample_target: Name of the network that generates the images. None for the generator or its
            average. Defaults to None.
        labels: One label per image, as for `SampleGrid`. Defaults to None.
        inputs: Inputs in place of latent vectors, as for `SampleGrid`. Defaults to None.
        seed: Non-negative int, seed of the latent vectors. Defaults to 0.
        value_range: (low, high), the values drawn black and white, as for `SampleGrid`. Defaults to None.

    Raises:
        OutputError: The folder cannot be written.
        MissingPackageError: TensorFlow or TensorBoard is not installed.
        InvalidArgumentError: A number is out of its range, both `labels` and `inputs` are given, or a
            target does not exist.
        DataError: `labels` or `inputs` does not fit the network, or its outputs are not images.

    Example:
    >>> PruningSummary("logs", histogram_freq=5)
    <PruningSummary 'logs'>
    """

    model: keras.Model  # set by Keras before any hook runs

    def __init__(
        self,
        log_dir: str | os.PathLike,
        target: str | keras.layers.Layer | Sequence[str | keras.layers.Layer] | None = None,
        *,
        histogram_freq: int = 1,
        mask_freq: int = 1,
        image_freq: int = 1,
        images: int | None = None,
        columns: int = 8,
        sample_target: str | keras.layers.Layer | None = None,
        labels: Any = None,
        inputs: Any = None,
        seed: int = 0,
        value_range: tuple[float, float] | None = None,
    ):
        annotated.check(PruningSummary.__init__, locals(), "log_dir", "target", "sample_target")
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
        self.fixed = fixed_inputs.FixedInputs(self.images or _DEFAULT_IMAGES, seed, labels, inputs)
        # Of the running `fit`; the event file is None on workers that do not write.
        self._prunes: list[Prune] = []
        self._written_updates: dict[int, int] = {}
        self._draws_samples = False
        self._events: _EventFile | None = None

    def __repr__(self):
        return f"<PruningSummary {str(self.log_dir)!r}>"

    # --- Keras's hooks ---------------------------------------------------------------------------

    def on_train_begin(self, logs=None):
        """Check the targets, and open the event file."""
        _networks(self.model, self.target)  # raises if a name is wrong
        self._prunes = [other for other in callbacks_beside() if isinstance(other, Prune)]
        self._written_updates = {id(prune): len(prune.updates) for prune in self._prunes}
        self._draws_samples = self._can_draw_samples()
        self._events = None
        if distribution.rank(self.model) == 0:
            self._events = _EventFile(self.log_dir)

    def on_epoch_end(self, epoch, logs=None):
        """Write everything that is due."""
        samples = None
        if self._draws_samples and self.image_freq and epoch % self.image_freq == 0:
            samples = (
                self._samples()
            )  # on every worker: some networks can only be called on all at once
        events = self._events
        if events is not None:
            events.attempt(lambda: self._write_epoch(events, epoch, logs or {}, samples))

    def on_train_end(self, logs=None):
        """Write the last mask updates, and close the event file."""
        events, self._events = self._events, None
        if events is not None:
            events.attempt(lambda: self._write_updates(events))
            events.attempt(events.writer.close)

    # --- samples ---------------------------------------------------------------------------------

    def _can_draw_samples(self) -> bool:
        """Return whether there are images to draw; raise if they are requested but cannot be drawn."""
        if self.images == 0 or not self.image_freq:
            return False
        try:
            _, network = fixed_inputs.sampled_network(self.model, self.sample_target)
        except InvalidArgumentError:
            if self.images is None and self.sample_target is None:
                return False  # a model without a generator
            raise
        if is_built(network):
            self._samples()  # raises if labels or inputs do not fit
        return True

    def _samples(self) -> tuple[str, np.ndarray]:
        """Return the name of the network that generates the images, and their grid in [0, 1]."""
        name, images = fixed_inputs.show_images(
            self.model, self.sample_target, self.fixed, self.value_range
        )
        return name, plotting.image_grid(images, self.columns)

    # --- writing ---------------------------------------------------------------------------------

    def _write_epoch(
        self,
        events: _EventFile,
        epoch: int,
        logs: Mapping[str, Any],
        samples: tuple[str, np.ndarray] | None,
    ) -> None:
        summary = events.summary
        # Another callback may have told TensorFlow to record only certain steps.
        with events.writer.as_default(step=epoch), summary.record_if(True):
            for name, network in _networks(self.model, self.target):
                if is_built(network):
                    self._write_network(summary, name, network, epoch)
            if "balance_ratio" in logs:
                summary.scalar("balance_ratio", float(np.mean(logs["balance_ratio"])))
            if samples is not None:
                name, grid = samples
                summary.image(f"samples/{name}", grid[None])
        self._write_updates(events)
        events.writer.flush()

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
                    blocks = (-(-side // _MAX_MASK_SIDE) for side in picture.shape)
                    shares = plotting.block_means(picture, *blocks)
                    colours = plotting.mask_colours(shares)
                    summary.image(f"masks/{name}/{path}", colours[None])
                value = value[mask]
            if self.histogram_freq and epoch % self.histogram_freq == 0:
                # A histogram of NaN is an error; a diverged network may have nothing else.
                summary.histogram(f"weights/{name}/{path}", value[np.isfinite(value)])

    def _write_updates(self, events: _EventFile) -> None:
        """Write the mask updates since the last call."""
        summary = events.summary
        with events.writer.as_default(), summary.record_if(True):
            for prune, name in _named(self._prunes):
                start = self._written_updates[id(prune)]
                self._written_updates[id(prune)] = len(prune.updates)
                for step, requested, achieved in prune.updates[start:]:
                    quantity = prune.schedule.quantity
                    summary.scalar(f"updates/{name}/requested_{quantity}", requested, step=step)
                    summary.scalar(f"updates/{name}/achieved_sparsity", achieved, step=step)


def _networks(model: keras.Model, target: Any) -> list[tuple[str, keras.layers.Layer]]:
    """Return the (name, network) pairs to write about."""
    if target is not None:
        pairs = discovery.resolve_target(model, target)
    else:
        averages = {id(network) for network in discovery.averages(model).values()}
        pairs = [
            (name, network)
            for name, network in discovery.networks(model).items()
            if isinstance(network, keras.Model) and id(network) not in averages
        ] or [("", model)]
    return [(name or network.name, network) for name, network in pairs]


def _weights(
    network: keras.layers.Layer,
) -> list[tuple[str, keras.Variable, np.ndarray | None]]:
    """Return (path, weight, mask) of all masked weights, or of all kernels if there are no masks."""
    rows: list[tuple[str, keras.Variable, np.ndarray | None]] = []
    for weight in masked_weights(network):
        # A mode may not enforce its masks ('soft'); the masks it chose last are drawn then.
        chosen = weight.layer.pruning_masks.chosen.get(weight.name)
        mask = to_numpy(weight.mask) if chosen is None else chosen
        rows.append((weight.path, weight.variable, mask))
    if rows:
        return rows
    return [(w.path, w, None) for w in network.trainable_variables if len(w.shape) > 1]


def _named(prunes: Sequence[Prune]) -> list[tuple[Prune, str]]:
    """Return each callback with a distinct name."""
    named: list[tuple[Prune, str]] = []
    for prune in prunes:
        targets = prune.target if isinstance(prune.target, (list, tuple)) else [prune.target]
        names = [t if isinstance(t, str) else getattr(t, "name", "model") for t in targets]
        name = "+".join(names)
        same = sum(other == name or other.startswith(f"{name} ") for _, other in named)
        named.append((prune, name if not same else f"{name} {same + 1}"))
    return named
