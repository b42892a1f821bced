"""`Exporter`: a format of files, and its runtime. Each format is one file that fills this contract."""

from __future__ import annotations

import abc
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import keras
import numpy as np

# Arrays by the names of the inputs, or of the outputs.
Arrays = Mapping[str, np.ndarray]


@attrs.frozen
class InputForm:
    """The form of an input of a file.

    Attributes:
        shape: Tuple of ints, or None for sizes that may vary.
        dtype: Name of its type.
    """

    shape: tuple[int | None, ...]
    dtype: str


@attrs.frozen(eq=False)
class ConversionSource:
    """A SavedModel that the converters of all formats read.

    Attributes:
        folder: The SavedModel, with one signature, 'serving_default'.
        outputs: Names of the outputs, in the order of the signature.
        function: The signature, as TensorFlow loads it.
    """

    folder: pathlib.Path
    outputs: Sequence[str]
    function: Any


@attrs.frozen(eq=False)
class ExportOptions:
    """The request to a format.

    Attributes:
        precision: 'float32', 'float16' or 'int8'.
        calibration: For 'int8', batches of inputs; otherwise empty.
        sparse: Whether zeros are left out of the file, for formats that can.
    """

    precision: str
    calibration: Sequence[Arrays] = ()
    sparse: bool = False


class Exporter(abc.ABC):
    """A format of files.

    A subclass writes a file from a SavedModel, and runs the file in the runtime that it is for. It checks
    nothing of the outputs: one function does so for all formats.
    """

    #: Identifier, such as 'onnx'.
    name: ClassVar[str]
    #: Name for people, such as 'ONNX'.
    title: ClassVar[str]
    #: Name of the runtime that proves a file, such as 'ONNX Runtime'.
    runtime: ClassVar[str]
    #: Ending of the file, such as '.onnx'.
    suffix: ClassVar[str]
    #: Precision -> '' if it can be written, or the reason why it is refused.
    precisions: ClassVar[Mapping[str, str]]

    @abc.abstractmethod
    def check_installed(self, precision: str) -> None:
        """Raise `MissingPackageError` unless the packages of the converter and the runtime are installed."""

    @abc.abstractmethod
    def write(self, source: ConversionSource, path: pathlib.Path, options: ExportOptions) -> None:
        """Write the file.

        Raises:
            UnsupportedLayerError: The format has no form for a layer of the model.
        """

    @abc.abstractmethod
    def load(
        self, path: pathlib.Path, *, exact: bool = False, threads: int | None = None
    ) -> Callable[[Arrays], Arrays]:
        """Return a file as a function from inputs to outputs, by name, run by its runtime.

        Args:
            path: The file.
            exact: Whether the runtime must compute in the precision of the file. Defaults to False: as it
                does by itself on this machine.
            threads: Number of threads. Defaults to None: that of the runtime.
        """

    @abc.abstractmethod
    def inputs(self, path: pathlib.Path) -> Mapping[str, InputForm]:
        """Return the inputs of a file by name."""

    @abc.abstractmethod
    def constants(self, path: pathlib.Path) -> Iterable[np.ndarray]:
        """Return the weights that stand in a file, such as to count their zeros."""

    def files_of(self, path: pathlib.Path) -> list[pathlib.Path]:
        """Return all files that belong to a path. Defaults to the path itself."""
        return [path]

    def can_leave_out(self, precision: str) -> str | None:
        """Return None if zeros can be left out of a file, or the reason why not."""
        return f"{self.title} files hold all zeros."

    def advice(self, network: keras.Model) -> list[str]:
        """Return sentences: what would make the network faster in this runtime. Defaults to none."""
        del network
        return []

    #: Whether the runtime may compute in another precision than that of the file.
    has_other_precision: ClassVar[bool] = False

    def other_precision(self, default: float, exact: float) -> str | None:
        """Return a sentence if the runtime computes in another precision than that of the file, or None.

        Args:
            default: Largest difference, as the runtime computes by itself.
            exact: Largest difference in the precision of the file.
        """
        return None
