"""`SampleGrid`: pictures of the generated images, epoch by epoch."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import distribution
from keras_ganprune.callbacks import fixed_inputs
from keras_ganprune.errors import (
    InvalidArgumentError,
    OutputError,
    PruningWarning,
    UnbuiltModelError,
)
from keras_ganprune.training.fresh_copies import FreshCopies
from keras_ganprune.utils import annotated, files, plotting, validation

_PNG_NAME = re.compile(r"epoch_(\d{4,})\.png")
# Smaller images are enlarged to at least this number of pixels per side, to be visible.
_VISIBLE_SIDE = 48
# The last frame of the animation is shown so many times longer than the others.
_LAST_FRAME_FACTOR = 5
_MAX_FRAMES = 100
# GIF counts hundredths of a second in 16 bits.
_LONGEST_MS = 655_350 // _LAST_FRAME_FACTOR
_MAX_PIXELS = 2**28


@dataclass
class _FitState:
    """What a grid knows of the running `fit`.

    Attributes:
        writes: Whether this worker writes the files.
        begun: Whether the first epoch has begun.
        cleared: Whether pictures of earlier runs were removed.
        warned: Whether a failed write was reported.
        gif_frames: Number of pictures when the GIF was written last.
    """

    writes: bool = True
    begun: bool = False
    cleared: bool = False
    warned: bool = False
    gif_frames: int = 0


class SampleGrid(FreshCopies):
    """Draws the same samples at the end of epochs: a PNG grid per epoch, and an animated GIF.

    The folder contains `epoch_0001.png` and so on, `latest.png` and `training.gif`. The GIF is written
    whenever the number of pictures has doubled and when training ends, so it costs little. It has at most
    100 frames, evenly spaced.

    A resumed run (`initial_epoch`, `BackupAndRestore`) keeps the existing pictures. A run that begins at
    its first epoch replaces the pictures of an earlier run, so give each run its own folder. A second
    `fit` with the same callback continues to count.

    The images come from fixed latent vectors and from the network that `fit` would leave if it ended now
    (the average of the generator, if there is one). The training is bit-equal to a training without this
    callback. If a file cannot be written, a warning says so, training continues, and the next epoch
    tries again.

    Args:
        path: Folder; it is created if it does not exist.
        every: Positive int, epochs between two pictures. The first and the last epoch are always drawn.
            Defaults to 1.
        n: Positive int, images per picture. Defaults to 64.
        columns: Positive int, images per row. Defaults to 8.
        target: Name of the network that generates the images. None for the generator or its average.
            Defaults to None.
        labels: For conditional GANs: one label per image, in the form that `fit` takes. None for all
            classes in turn, if the labels are one-hot rows. Defaults to None.
        inputs: Inputs of the network in place of latent vectors, such as `images[:64]` for image
            translation. Defaults to None.
        seed: Non-negative int, seed of the latent vectors. Defaults to 0.
        value_range: (low, high), the values drawn black and white. None for the range of a `GANModel`,
            else (-1, 1). Defaults to None.
        zoom: Positive int, drawn pixels per image pixel and axis. None enlarges images to at least 48
            pixels. Defaults to None.
        gif: Bool, whether to write the GIF. Defaults to True.
        duration_ms: Positive int, milliseconds per picture in the GIF; the last one is shown longer.
            Defaults to 200.

    Attributes:
        written: List of drawn epochs, counted from 1.
        failed: List of epochs whose files could not be written.

    Raises:
        OutputError: The folder cannot be created or written.
        MissingPackageError: Pillow is not installed.
        InvalidArgumentError: A number is out of its range, both `labels` and `inputs` are given, or
            `target` does not exist.
        InvalidArgumentError: A picture has more than 2**28 pixels.
        InvalidArgumentError: The network does not take latent vectors, and `inputs` is None.
        DataError: `labels` or `inputs` does not fit the network, or its outputs are not images.

    Example:
    >>> SampleGrid("samples", every=5)
    <SampleGrid 'samples' every 5 epochs: 64 images in 8 columns>
    """

    model: keras.Model  # set by Keras before any hook runs

    def __init__(
        self,
        path: str | os.PathLike,
        every: int = 1,
        *,
        n: int = 64,
        columns: int = 8,
        target: str | keras.layers.Layer | None = None,
        labels: Any = None,
        inputs: Any = None,
        seed: int = 0,
        value_range: tuple[float, float] | None = None,
        zoom: int | None = None,
        gif: bool = True,
        duration_ms: int = 200,
    ):
        annotated.check(SampleGrid.__init__, locals(), "path", "target")
        super().__init__()
        plotting.require_pillow()
        self.path = pathlib.Path(path)
        self.every = validation.positive_int(every, "every")
        self.fixed = fixed_inputs.FixedInputs(n, seed, labels, inputs)
        self.columns = min(validation.positive_int(columns, "columns"), self.fixed.n)
        self.target = target
        self.value_range = None if value_range is None else validation.value_range(value_range)
        self.zoom = None if zoom is None else validation.positive_int(zoom, "zoom")
        self.gif = validation.boolean(gif, "gif")
        self.duration_ms = validation.positive_int(duration_ms, "duration_ms")
        if self.duration_ms > _LONGEST_MS:
            raise InvalidArgumentError(
                f"`duration_ms` must be at most {_LONGEST_MS}, because a GIF cannot show a picture for "
                f"longer. Received: {duration_ms!r}."
            )
        self.written: list[int] = []
        self.failed: list[int] = []
        self._earlier_epochs = 0  # those of earlier `fit`s
        self._last_number = 0
        self._state = _FitState()

    def __repr__(self):
        return (
            f"<SampleGrid {str(self.path)!r} every {self.every} epochs: {self.fixed.n} images in "
            f"{self.columns} columns>"
        )

    # --- Keras's hooks ---------------------------------------------------------------------------

    def on_train_begin(self, logs=None):
        """Check the target, and create the folder."""
        fixed_inputs.sampled_network(self.model, self.target)  # raises if the name is wrong
        self._state = _FitState(writes=distribution.rank(self.model) == 0)
        if self._state.writes:
            try:
                files.make_folder(self.path)
            except OSError as error:
                raise OutputError(
                    f"`path` must be a folder that can be written. Received: '{self.path}' "
                    f"({error.strerror or error}). Choose another folder, or check its permissions and "
                    "the free space."
                ) from error
        with contextlib.suppress(UnbuiltModelError):  # the first batch will build the network
            self._picture()  # raises if labels or inputs do not fit

    def on_epoch_begin(self, epoch, logs=None):
        """Continue the count of an earlier `fit`."""
        if not self._state.begun:
            self._state.begun = True
            self._earlier_epochs = self._last_number if epoch == 0 else 0

    def on_epoch_end(self, epoch, logs=None):
        """Draw the picture of the epoch if it is due."""
        number = self._earlier_epochs + epoch + 1
        self._last_number = number
        last = (self.params or {}).get("epochs")
        if epoch % self.every and epoch + 1 != last and not self.model.stop_training:
            return
        picture = (
            self._picture()
        )  # on every worker: some networks can only be called on all at once
        if self._state.writes:
            self._attempt(number, lambda: self._write(number, picture))

    def on_train_end(self, logs=None):
        """Write the GIF of all pictures."""
        if self._state.writes and self.gif and self.written:
            self._attempt(self.written[-1], lambda: self._animate(self.written[-1]))

    # --- pictures --------------------------------------------------------------------------------

    def _picture(self) -> np.ndarray:
        """Return the picture of the present network as uint8 array (height, width, channels)."""
        _, images = fixed_inputs.show_images(self.model, self.target, self.fixed, self.value_range)
        zoom = self.zoom or max(1, -(-_VISIBLE_SIDE // min(images.shape[1:3])))
        rows = -(-len(images) // self.columns)
        pixels = rows * images.shape[1] * zoom * self.columns * images.shape[2] * zoom
        if pixels > _MAX_PIXELS:
            raise InvalidArgumentError(
                f"A picture must have at most {_MAX_PIXELS:,} pixels. Received: n={self.fixed.n}, "
                f"columns={self.columns} and zoom={zoom}, which make {pixels:,}. Lower one of them."
            )
        images = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
        grid = plotting.image_grid(images, self.columns, gap=2)
        return np.round(grid * 255).astype("uint8")

    def _attempt(self, number: int, write: Callable[[], None]) -> None:
        """Write files; if that fails, note the epoch and warn once."""
        try:
            write()
        except OSError as error:
            self.failed.append(number)
            if not self._state.warned:
                self._state.warned = True
                warnings.warn(
                    f"The picture of epoch {number} could not be written into '{self.path}' "
                    f"({files.reason(error)}). Training continues, and the next picture is tried "
                    "again. Check the free space and the permissions.",
                    PruningWarning,
                    stacklevel=2,
                )

    def _write(self, number: int, picture: np.ndarray) -> None:
        if not self._state.cleared:
            # Pictures of an earlier run, or of this run before it was interrupted.
            for other in self._numbers():
                if other >= number:
                    self._file(other).unlink()
            self._state.cleared = True
        grey = picture.shape[-1] == 1
        content = io.BytesIO()
        image = plotting.require_pillow().fromarray(picture[..., 0] if grey else picture)
        image.save(content, format="PNG")
        for path in (self._file(number), self.path / "latest.png"):
            with files.new_file(path) as work:
                work.write_bytes(content.getvalue())
        self.written.append(number)
        if self.gif and len(self._numbers(number)) >= 2 * self._state.gif_frames:
            self._animate(number)

    def _file(self, number: int) -> pathlib.Path:
        return self.path / f"epoch_{number:04d}.png"

    def _numbers(self, until: int | None = None) -> list[int]:
        """Return the numbers of the existing pictures, in order, up to a number."""
        names = (_PNG_NAME.fullmatch(path.name) for path in self.path.iterdir())
        numbers = sorted(int(match[1]) for match in names if match)
        return [number for number in numbers if until is None or number <= until]

    def _animate(self, until: int) -> None:
        """Write the GIF of the pictures up to a number."""
        image = plotting.require_pillow()
        frames = []
        numbers = self._numbers(until)
        chosen = np.linspace(0, len(numbers) - 1, min(len(numbers), _MAX_FRAMES)).round()
        for number in (numbers[int(i)] for i in chosen):
            with image.open(self._file(number)) as frame:
                frames.append(frame.convert("L" if frame.mode == "L" else "RGB"))
        # A run before the restart may have drawn another size.
        frames = [frame for frame in frames if frame.size == frames[-1].size]
        durations = [self.duration_ms] * len(frames)
        durations[-1] *= _LAST_FRAME_FACTOR
        content = io.BytesIO()
        frames[0].save(
            content,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=durations,
            loop=0,
        )
        with files.new_file(self.path / "training.gif") as work:
            work.write_bytes(content.getvalue())
        self._state.gif_frames = len(numbers)
