"""The folder of a compression: what a killed run needs to go on."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import FileFormatError
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.training import discovery
from keras_ganprune.utils import files

_STATE = "compress.json"


class Folder:
    """Numbers and states of a compression, in a folder or nowhere.

    Args:
        path: The folder, or None to keep nothing.
        identity: What must be the same in each process that uses the folder.

    Raises:
        FileFormatError: The folder has the state of a compression of another model, data or options.
        OutputError: The folder cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str] | None, identity: dict[str, Any]):
        self.path: pathlib.Path | None = None
        self._rows: dict[str, Any] = {"identity": identity}
        if path is None:
            return
        self.path = files.make_folder(path)
        file = self.path / _STATE
        if file.exists():
            self._rows = self._read(file, identity)
        elif any(self.path.iterdir()):
            raise FileFormatError(
                f"`folder` must be new, empty, or the folder of this compression. Received: '{path}', which "
                "holds other files. Name another folder."
            )
        else:
            self._write()

    @staticmethod
    def _read(file: pathlib.Path, identity: dict[str, Any]) -> dict[str, Any]:
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))
            found = rows["identity"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise FileFormatError(
                f"'{file}' is not the state of a compression ({error}). Remove the folder to begin anew."
            ) from error
        different = sorted(k for k in identity if found.get(k) != identity[k])
        if different:
            raise FileFormatError(
                "A killed compression goes on with the same model, data and options only. "
                f"'{file.parent}' was made with another {', '.join(different)}. Name another folder, or "
                "remove this one to begin anew."
            )
        return rows

    def _write(self) -> None:
        if self.path is not None:
            with files.new_file(self.path / _STATE) as work:
                work.write_text(json.dumps(self._rows, indent=1), encoding="utf-8")

    def get(self, name: str) -> Any:
        """Return what `put` noted, or None."""
        return self._rows.get(name)

    def put(self, name: str, value: Any) -> None:
        """Note a value that JSON knows."""
        # The value as a later process reads it.
        self._rows[name] = json.loads(json.dumps(value))
        self._write()

    def backup(self, name: str) -> list[keras.callbacks.Callback]:
        """Return the callbacks that back up and restore a training; [] without a folder."""
        if self.path is None:
            return []
        place = str(self.path / f"{name}-backup")
        return [keras.callbacks.BackupAndRestore(place, double_checkpoint=True)]

    def save(self, name: str, model: keras.Model) -> None:
        """Write the weights, masks, optimizers and random states of a model at the end of a training."""
        if self.path is None:
            return
        file = self.path / f"{name}.weights.h5"
        with files.new_file(file) as work:
            # Keras checks the ending of the name.
            partial = work.with_name(f"{work.name}.weights.h5")
            model.save_weights(partial)
            partial.replace(work)
        self.save_random(name, model)
        self.put(f"{name} is done", True)

    def load(self, name: str, model: keras.Model) -> bool:
        """Read what `save` wrote; return whether there was anything."""
        if self.path is None or not self.get(f"{name} is done"):
            return False
        model.load_weights(self.path / f"{name}.weights.h5")
        self.load_random(name, model)
        return True

    def save_random(self, name: str, model: keras.Model) -> None:
        """Write the states of random generators, such as those of dropout, which Keras does not save."""
        if self.path is not None:
            values: dict[str, Any] = {
                f"{i}": to_numpy(v) for i, v in enumerate(_random_states(model))
            }
            with files.new_file(self.path / f"{name}.npz") as work, work.open("wb") as file:
                np.savez(file, allow_pickle=False, **values)

    def load_random(self, name: str, model: keras.Model) -> None:
        """Read what `save_random` wrote, if there is such a file."""
        if self.path is None or not (self.path / f"{name}.npz").exists():
            return
        with np.load(self.path / f"{name}.npz") as values:
            for i, state in enumerate(_random_states(model)):
                state.assign(values[f"{i}"])

    def remove(self, name: str) -> None:
        """Remove what `save_random` wrote."""
        if self.path is not None:
            (self.path / f"{name}.npz").unlink(missing_ok=True)


def _random_states(model: keras.Model) -> list[keras.Variable]:
    known = {id(v) for v in (*model.weights, *model.metrics_variables)}
    known |= {id(v) for optimizer in discovery.optimizers(model) for v in optimizer.variables}
    return [v for v in model.variables if id(v) not in known]


def mark(arrays: Any) -> str:
    """Return a short text that changes with the values of arrays.

    Example:
    >>> from keras_ganprune.applications.compression.folder import mark
    >>> mark([np.zeros(3)]) == mark([np.zeros(3)]) != mark([np.ones(3)])
    True
    """
    digest = hashlib.sha256()
    for array in keras.tree.flatten(arrays):
        if array is None:
            continue  # its bytes would be an address, which is another one in each process
        value = np.ascontiguousarray(to_numpy(array) if hasattr(array, "dtype") else array)
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()[:16]
