"""`FileReport`: what was written, what it costs, and how well it agrees with the model."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping
from typing import Any

import attrs

from keras_ganprune.utils.notebook import Block, ShownInNotebooks

# Metrics that are printed; all are in `quality`.
_SHOWN = 3


@attrs.frozen
class FileReport(ShownInNotebooks):
    """The result of `export`.

    Attributes:
        path: `pathlib.Path` of the file, or of the folder of a SavedModel.
        format: 'saved_model', 'onnx', 'litert' or 'openvino'.
        precision: 'float32', 'float16' or 'int8'.
        bytes: Int, size in bytes.
        gzip_bytes: Int, size in bytes, compressed by gzip.
        max_difference: Float, largest absolute difference from the outputs of the model.
        mean_difference: Float, mean absolute difference.
        psnr: Float, 10 log10(range^2 / mean squared difference) in dB; inf if there is no difference.
        milliseconds: Dict, batch size -> median time in the runtime; empty if it was not measured.
        zeros: Int, zeros of the kernels of the model.
        zeros_in_file: Int, those of them that were found in the file.
        weights: Int, number of weights of the kernels of the model.
        quality: Dict, metric -> value for the outputs of the file; empty if nothing was to be measured.
        model_quality: Dict, metric -> value for the outputs of the model.
        notes: Tuple of sentences: what was refused, and what is to be known.

    Example:
    >>> report = FileReport(pathlib.Path("digits.onnx"), "onnx", "float32", 4000, 900, 1e-7, 1e-8, 140.0)
    >>> print(report)
    ONNX float32 digits.onnx: 4,000 bytes (900 gzipped); differs by 1e-07 at most
    """

    path: pathlib.Path
    format: str
    precision: str
    bytes: int
    gzip_bytes: int
    max_difference: float
    mean_difference: float = 0.0
    psnr: float = float("inf")
    milliseconds: Mapping[int, float] = attrs.field(factory=dict)
    zeros: int = 0
    zeros_in_file: int = 0
    weights: int = 0
    quality: Mapping[str, float] = attrs.field(factory=dict)
    model_quality: Mapping[str, float] = attrs.field(factory=dict)
    notes: tuple[str, ...] = ()

    def _blocks(self) -> list[Block]:
        return [*str(self).split("\n")]

    def __str__(self) -> str:
        title = _TITLES.get(self.format, self.format)
        difference = f"differs by {self.max_difference:.2g} at most"
        if self.precision != "float32":
            difference += f", {self.mean_difference:.2g} on average ({self.psnr:.1f} dB)"
        text = (
            f"{title} {self.precision} {self.path}: {self.bytes:,} bytes ({self.gzip_bytes:,} gzipped); "
            f"{difference}"
        )
        if self.zeros:
            text += (
                f"; {self.zeros_in_file:,} of {self.zeros:,} zeros found again, "
                f"of {self.weights:,} weights"
            )
        if self.milliseconds:
            times = ", ".join(f"{ms:.2f} ms for {n}" for n, ms in self.milliseconds.items())
            text += f"; {times}"
        lines = [text]
        if self.quality:
            lines.append(", ".join(self._compared(name) for name in list(self.quality)[:_SHOWN]))
        return "\n".join([*lines, *self.notes])

    def _compared(self, name: str) -> str:
        text = f"{name} {self.quality[name]:.4g}"
        if name in self.model_quality:
            text += f" (the model: {self.model_quality[name]:.4g})"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as a dict that JSON can hold, with the path as text."""
        fields = attrs.asdict(self, recurse=False)
        fields["path"] = str(self.path)
        fields["milliseconds"] = {str(size): ms for size, ms in self.milliseconds.items()}
        fields["quality"], fields["model_quality"] = dict(self.quality), dict(self.model_quality)
        fields["notes"] = list(self.notes)
        # JSON has no infinity.
        fields["psnr"] = self.psnr if math.isfinite(self.psnr) else None
        return fields


_TITLES = {
    "saved_model": "SavedModel",
    "onnx": "ONNX",
    "litert": "LiteRT",
    "openvino": "OpenVINO",
}
