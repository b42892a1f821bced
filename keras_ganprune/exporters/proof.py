"""The proof of an exported file: the user's model against the file, in the runtime that the file is for."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable, Iterable, Sequence

import attrs
import numpy as np

from keras_ganprune.errors import ExportError
from keras_ganprune.exporters.contract import Arrays, Exporter

# Largest valid difference by precision, relative to the largest output. Half a number has 11 bits.
TOLERANCES = {"float32": 1e-4, "float16": 2e-2}
# The mean difference of an int8 file must be below this share of the range of the outputs. It is some 0.5 %
# for a good file, and over 20 % for a wrong one.
_MEAN_OF_INT8 = 0.05
# In half precision, a difference of up to so many rounding steps is valid.
_STEPS = 8
# Kernels of fewer weights are not looked for in a file.
_SMALLEST = 32


@attrs.frozen
class Agreement:
    """How well the outputs of a file agree with those of the model.

    Attributes:
        largest: Largest absolute difference.
        mean: Mean absolute difference.
        psnr: Peak signal-to-noise ratio in dB: 10 log10(range^2 / mean squared difference).
        scale: Largest absolute output of the model.
        span: Range of the outputs of the model.
    """

    largest: float
    mean: float
    psnr: float
    scale: float
    span: float


def agreement(expected: Sequence[Arrays], found: Sequence[Arrays], title: str) -> Agreement:
    """Compare outputs.

    Args:
        expected: Outputs of the model, for each batch.
        found: Outputs of the file.
        title: Name of the file, for errors.

    Raises:
        ExportError: The outputs have other names or shapes, or are not finite.
    """
    largest, total, squares, count = 0.0, 0.0, 0.0, 0
    low, high = math.inf, -math.inf
    for ours, theirs in zip(expected, found, strict=True):
        for name, array in ours.items():
            if name not in theirs:
                raise ExportError(
                    f"The {title} must have the outputs of the model. It has no output '{name}'. "
                    "Nothing was written."
                )
            one, other = np.asarray(array, "float64"), np.asarray(theirs[name], "float64")
            if one.shape != other.shape:
                raise ExportError(
                    f"The {title} must give outputs of the model's shapes. The output '{name}' has the shape "
                    f"{other.shape}, not {one.shape}. Nothing was written."
                )
            if not np.isfinite(one).all():
                raise ExportError(
                    f"The outputs of the model must be finite. The output '{name}' has NaN or infinite "
                    "values. Nothing was written."
                )
            if not np.isfinite(other).all():
                raise ExportError(
                    f"The outputs of the {title} must be finite. Its runtime gives NaN or infinite values in "
                    f"'{name}'. Nothing was written. Choose another precision."
                )
            gap = np.abs(one - other)
            largest = max(largest, float(gap.max(initial=0.0)))
            total, squares, count = total + gap.sum(), squares + (gap**2).sum(), count + gap.size
            low, high = min(low, one.min(initial=low)), max(high, one.max(initial=high))
    mean_square = squares / max(1, count)
    span = max(high - low, 0.0)
    psnr = 10 * math.log10(span**2 / mean_square) if mean_square and span else math.inf
    scale = max(abs(low), abs(high)) if count else 0.0
    return Agreement(largest, total / max(1, count), psnr, scale, span)


def check_agreement(
    found: Agreement, precision: str, tolerance: float | None, title: str, step: float = 0.0
) -> None:
    """Raise `ExportError` if outputs differ by more than is valid.

    Args:
        found: The comparison.
        precision: Precision of the file.
        tolerance: Largest valid difference, relative to the largest output, or None: that of the precision.
        title: Name of the file, for errors.
        step: Largest relative rounding step of the layers of the model that compute in half precision.
    """
    if tolerance is None and precision == "int8":
        if found.mean > _MEAN_OF_INT8 * max(found.span, 1e-12):
            raise ExportError(
                f"The {title} must give nearly the outputs of the model. The mean difference is "
                f"{found.mean:.3g}, of outputs with a range of {found.span:.3g}. Nothing was written. "
                "Calibrate with inputs like those that it will see, or choose another precision."
            )
        return
    if tolerance is None:
        tolerance = max(TOLERANCES[precision], _STEPS * step)
    allowed = tolerance * max(1.0, found.scale)
    if found.largest > allowed:
        raise ExportError(
            f"The {title} must give the outputs of the model. Largest difference: {found.largest:.3g}; "
            f"allowed: {allowed:.3g}. Nothing was written."
        )


@attrs.frozen
class Zeros:
    """The zeros of the kernels of a model, and of a file.

    Attributes:
        model: Zeros in the kernels of the model.
        file: Zeros that stand in the file for these kernels.
        missing: Paths of kernels whose zeros are no zeros in the file.
        unseen: Paths of kernels that are not found in the file in one piece.
    """

    model: int
    file: int
    missing: tuple[str, ...]
    unseen: tuple[str, ...]


def zeros(kernels: Iterable[tuple[str, np.ndarray]], constants: Iterable[np.ndarray]) -> Zeros:
    """Look for the zeros of kernels in the constants of a file.

    A converter may transpose a kernel, and may multiply it by the scale of a batch normalization. Neither
    changes the number of its zeros. So each kernel is looked for by its number of weights.

    Args:
        kernels: Path and values of each kernel of the model.
        constants: The constants of the file.
    """
    counts: dict[int, list[int]] = {}
    for constant in constants:
        array = np.asarray(constant)
        if array.dtype.kind in "fiu" or array.dtype.name == "bfloat16":
            counts.setdefault(array.size, []).append(int((array == 0).sum()))
    model, file, missing, unseen = 0, 0, [], []
    # The kernels with the most zeros choose first.
    ordered = sorted(
        ((int((values == 0).sum()), path, values.size) for path, values in kernels), reverse=True
    )
    for wanted, path, size in ordered:
        if not wanted or size < _SMALLEST:
            continue
        model += wanted
        left = counts.get(size, [])
        if not left:
            unseen.append(path)
            continue
        best = max(left)
        left.remove(best)
        file += min(best, wanted)
        if best < wanted:
            missing.append(path)
    return Zeros(model, file, tuple(missing), tuple(unseen))


def run_all(
    exporter: Exporter, path: pathlib.Path, batches: Sequence[Arrays], *, exact: bool = False
) -> list[Arrays]:
    """Return the outputs of a file for each batch.

    Raises:
        ExportError: The runtime cannot run the file.
    """
    try:
        function: Callable[[Arrays], Arrays] = exporter.load(path, exact=exact)
        return [
            {name: np.array(value) for name, value in function(batch).items()} for batch in batches
        ]
    except Exception as error:
        raise ExportError(
            f"{exporter.runtime} must run the file. It says: {str(error).strip()[-300:]} Nothing was "
            "written. Choose another format or precision."
        ) from error
