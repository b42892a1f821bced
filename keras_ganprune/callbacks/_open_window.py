"""What is being sampled when a model is saved, so that a resumed run goes on with it: gradients, batches."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_ganprune.callbacks._saved_batches import arrays_of, batches_of
from keras_ganprune.layers.mask_store import memory, write_with
from keras_ganprune.layers.tensors import to_numpy


class OpenWindow:
    """Saves what a run has sampled since the last mask update, and the update that waits for it.

    Without it, the first update of a resumed run would average gradients over fewer batches, or wait for new
    ones. Sums are read from the device only when the model is saved.

    Args:
        run: The `PruningRun`.
    """

    def __init__(self, run: Any):
        self.run = run
        self.store = memory(run.targets.first)
        settings = run.callback.settings
        names = [name for name, _ in run.targets.networks]
        # Other callbacks may prune the same network.
        text = f"{settings.criterion!r} {settings.mode!r} {settings.schedule!r} {names}"
        self.prefix = f"window_{zlib.crc32(text.encode()):x}_"
        write_with(self.store, self.prefix, self)

    def arrays_to_save(self) -> dict[str, np.ndarray]:
        """Return the sums, and what is known of the steps. No sums if no batch was sampled."""
        run, sampler = self.run, self.run.targets.sampler
        if not run.targets.collectors or not run.started:
            return {}
        due, target = run.postponed or (-1, 0.0)
        sampled = 0 if sampler is None else sampler.batches
        arrays = {
            "clock": np.array([run.last_step, sampled, due], dtype=np.int64),
            "rates": run.clock.rates,
            "target": np.array(target, dtype=np.float64),
        }
        if sampler is not None and sampled:
            for number, variable in enumerate(sampler.variables):
                arrays[f"sum_{number}"] = np.array(to_numpy(variable))
        calibration = run.targets.calibration
        if calibration is not None and calibration.recorded:
            arrays |= arrays_of(calibration.recorded)
        return {self.prefix + name: array for name, array in arrays.items()}

    def resume(self) -> None:
        """Go on with what was sampled before the run was interrupted, if the masks were read from a file."""
        arrays = self.store.arrays
        names = [name for name in arrays if name.startswith(self.prefix)]
        saved = {name.removeprefix(self.prefix): arrays.pop(name) for name in names}
        run, sampler = self.run, self.run.targets.sampler
        loaded = run.targets.loaded or any(store.restored for store in run.stores)
        if not saved or not loaded or any(c.batches for c in run.targets.collectors):
            return
        step, batches, due = map(int, saved["clock"])
        if step != run.last_step:
            return  # The model was trained since, without this callback.
        if not run.clock.offset:
            run.clock.rates = saved["rates"]
        if due >= 0:
            run.postponed = due, saved["target"].tolist()
        if run.targets.calibration is not None:
            run.targets.calibration.recorded = batches_of(saved)
        if sampler is None:
            return
        sums = [saved.get(f"sum_{number}") for number in range(len(sampler.variables))]
        pairs = list(zip(sampler.variables, sums, strict=True))
        if batches and all(s is not None and s.shape == tuple(v.shape) for v, s in pairs):
            sampler.batches = batches
            for variable, array in pairs:
                variable.assign(array)


def resumed_window(run: Any) -> OpenWindow | None:
    """Return the window of a run that begins or goes on, or None if it samples nothing."""
    if not run.targets.collectors:
        return None
    window = OpenWindow(run)
    window.resume()
    return window


def forget_interrupted(collectors: Iterable[Any]) -> None:
    """Forget what a `fit` has sampled that was interrupted in a sampled batch."""
    for collector in collectors:
        if collector.active:
            collector.stop()
            collector.reset()
