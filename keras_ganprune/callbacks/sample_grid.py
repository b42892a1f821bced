"""Pictures of what a generator makes, epoch by epoch."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import re
import warnings
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import distribution
from keras_ganprune.callbacks import _fixed_inputs
from keras_ganprune.errors import OutputError, PruningWarning, UnbuiltModelError
from keras_ganprune.utils import files, plotting, validation

_FRAME = re.compile(r"epoch_(\d{4,})\.png")
# An image of a few pixels is drawn larger, so that it can be seen.
_SIDE = 48
# How much longer than the others the last frame of the animation is shown.
_LAST = 5
_MOST_FRAMES = 100


class SampleGrid(keras.callbacks.Callback):
    """Draws the same samples at the end of epochs: a PNG grid for each, and an animated GIF of all.

    The folder gets `epoch_0001.png` and so on, `latest.png` and `training.gif`. The GIF is made anew when
    the number of pictures has doubled and when training ends, so that it costs little; it has 100 frames
    at most, evenly spaced. A run that is resumed (an `initial_epoch`, `BackupAndRestore`) goes on with the
    pictures that are there; one that begins at its first epoch replaces those of an earlier run, so give
    each run a folder of its own. Another `fit` with the same callback counts on.

    The images are those of fixed latent vectors, from the network that a `fit` that ended here would
    leave (its average, where it has one). Training goes on bit by bit as without the callback. If a file
    cannot be written any more, a warning says so, training goes on, and the next epoch tries again.

    Args:
        path: Folder, made if it is not there.
        every: Positive int, epochs between two pictures; the first and last are always drawn.
        n: Positive int, images in a picture.
        columns: Positive int, images in a row.
        target: Name of the network that makes the images; None for the generator or its average.
        labels: For conditional GANs, one label an image, as `fit` gets them; None for the classes in turn,
            where they are one-hot rows.
        inputs: What the network is called on, in place of latent vectors: `images[:64]` to translate.
        seed: Int, of the latent vectors.
        value_range: (low, high), what is drawn black and white; None for that of `GANModel`, or (-1, 1).
        zoom: Positive int, pixels for each pixel of an image; None for images of 48 pixels or more.
        gif: Bool, whether to make the GIF.
        duration_ms: Positive int, milliseconds for each picture in the GIF; the last stays longer.

    Attributes:
        written: List of epochs (from 1) that were drawn.
        failed: List of epochs whose files could not be written.

    Raises:
        OutputError: the folder cannot be made or written.
        MissingPackageError: Pillow is not installed.
        InvalidArgumentError, DataError: see the texts.

    Example:
    >>> SampleGrid("samples", every=5)
    <SampleGrid 'samples' every 5 epochs: 64 images in 8 columns>
    """

    def __init__(
        self,
        path: str | os.PathLike,
        every: int = 1,
        *,
        n: int = 64,
        columns: int = 8,
        target: Any = None,
        labels: Any = None,
        inputs: Any = None,
        seed: int = 0,
        value_range: tuple[float, float] | None = None,
        zoom: int | None = None,
        gif: bool = True,
        duration_ms: int = 200,
    ):
        super().__init__()
        plotting.require_pillow()
        self.path = pathlib.Path(path)
        self.every = validation.positive_int(every, "every")
        self.fixed = _fixed_inputs.FixedInputs(n, seed, labels, inputs)
        self.columns = min(validation.positive_int(columns, "columns"), self.fixed.n)
        self.target = target
        self.value_range = None if value_range is None else validation.value_range(value_range)
        self.zoom = None if zoom is None else validation.positive_int(zoom, "zoom")
        self.gif = validation.boolean(gif, "gif")
        self.duration_ms = validation.positive_int(duration_ms, "duration_ms")
        self.written: list[int] = []
        self.failed: list[int] = []
        self._before = 0  # epochs of earlier `fit`s
        self._done = 0

    def __repr__(self):
        return (
            f"<SampleGrid {str(self.path)!r} every {self.every} epochs: {self.fixed.n} images in "
            f"{self.columns} columns>"
        )

    # --- Keras's hooks ---------------------------------------------------------------------------

    def on_train_begin(self, logs=None):
        model = self.model
        _fixed_inputs.sampled_network(model, self.target)  # a wrong name is told at once
        self._begun = False
        self._cleared = False
        self._warned = False
        self._in_gif = 0
        self._writes = distribution.rank(model) == 0
        if self._writes:
            try:
                files.make_folder(self.path)
            except OSError as error:
                raise OutputError(
                    f"`path` must be a folder that can be written. '{self.path}': "
                    f"{error.strerror or error}. Choose another one, or check the permissions and the free "
                    "space."
                ) from error
        with contextlib.suppress(UnbuiltModelError):  # the first batch will build it
            self._look()

    def on_epoch_begin(self, epoch, logs=None):
        if not self._begun:
            self._begun = True
            self._before = self._done if epoch == 0 else 0

    def on_epoch_end(self, epoch, logs=None):
        number = self._before + epoch + 1
        self._done = number
        last = (self.params or {}).get("epochs")
        if epoch % self.every and epoch + 1 != last and not self.model.stop_training:
            return
        grid = self._look()  # on every worker, since some can only compute together
        if self._writes:
            self._attempt(number, lambda: self._write(number, grid))

    def on_train_end(self, logs=None):
        if self._writes and self.gif and self.written:
            self._attempt(self.written[-1], lambda: self._animate(self.written[-1]))

    # --- What they do ----------------------------------------------------------------------------

    def _look(self) -> np.ndarray:
        """Return the picture as uint8 array (height, width, channels)."""
        _, images = _fixed_inputs.show_images(self.model, self.target, self.fixed, self.value_range)
        zoom = self.zoom or max(1, -(-_SIDE // min(images.shape[1:3])))
        images = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
        grid = plotting.image_grid(images, self.columns, gap=2)
        return np.round(grid * 255).astype("uint8")

    def _attempt(self, number: int, write: Any) -> None:
        try:
            write()
        except OSError as error:
            self.failed.append(number)
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"The picture of epoch {number} could not be written into '{self.path}' "
                    f"({error.strerror or error}). Training goes on, and the next one is tried again. "
                    "Check the free space and the permissions.",
                    PruningWarning,
                    stacklevel=2,
                )

    def _write(self, number: int, grid: np.ndarray) -> None:
        if not self._cleared:
            # Of an earlier run, or of this one before it was cut short.
            for frame in self._frames():
                if frame >= number:
                    self._file(frame).unlink()
            self._cleared = True
        picture = plotting.require_pillow().fromarray(grid[..., 0] if grid.shape[-1] == 1 else grid)
        content = io.BytesIO()
        picture.save(content, format="PNG")
        for path in (self._file(number), self.path / "latest.png"):
            with files.new_file(path) as work:
                work.write_bytes(content.getvalue())
        self.written.append(number)
        if self.gif and len(self._frames(number)) >= 2 * self._in_gif:
            self._animate(number)

    def _file(self, number: int) -> pathlib.Path:
        return self.path / f"epoch_{number:04d}.png"

    def _frames(self, until: int | None = None) -> list[int]:
        """Return the numbers of the pictures that are there, up to one."""
        names = (_FRAME.fullmatch(path.name) for path in self.path.iterdir())
        numbers = sorted(int(match[1]) for match in names if match)
        return [number for number in numbers if until is None or number <= until]

    def _animate(self, until: int) -> None:
        image = plotting.require_pillow()
        frames = []
        numbers = self._frames(until)
        chosen = np.linspace(0, len(numbers) - 1, min(len(numbers), _MOST_FRAMES)).round()
        for number in (numbers[int(i)] for i in chosen):
            with image.open(self._file(number)) as frame:
                frames.append(frame.convert("L" if frame.mode == "L" else "RGB"))
        # Of a run before the restart that drew them in another size.
        frames = [frame for frame in frames if frame.size == frames[-1].size]
        times = [self.duration_ms] * len(frames)
        times[-1] *= _LAST
        content = io.BytesIO()
        frames[0].save(
            content,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=times,
            loop=0,
        )
        with files.new_file(self.path / "training.gif") as work:
            work.write_bytes(content.getvalue())
        self._in_gif = len(numbers)
