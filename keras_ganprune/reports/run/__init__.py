"""The folder of a run: what was asked for, what came out, and the images to look at.

    run.json      settings, seed, versions, hardware, mask updates, sparsity by layer, sizes, quality
    history.csv   the logs, a row an epoch; blank where nothing was measured
    samples.npz   uint8 images, `sample_0`, `sample_1`, ... in the order of `samples` in run.json
    masks.npz     masks as packed bits, `mask_0`, ... in the order of `layers` in run.json; if there are any

`run.json` is written last: a folder that has it is complete. Other files in the folder are left alone.
"""

from keras_ganprune.reports.run.record import record_run, save_run
from keras_ganprune.reports.run.run import LayerRow, MaskUpdate, PruneLog, Run
from keras_ganprune.reports.run.storage import FORMAT, load_run, write_run

__all__ = [
    "FORMAT",
    "LayerRow",
    "MaskUpdate",
    "PruneLog",
    "Run",
    "load_run",
    "record_run",
    "save_run",
    "write_run",
]
