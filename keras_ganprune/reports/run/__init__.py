"""The folder of a run: settings, logs, images, masks and measurements.

    run.json      settings, seed, versions, hardware, mask updates, sparsity by layer, sizes, quality
    history.csv   the logs, one row per epoch; blank where nothing was measured
    picture_0.png, ... in the order of `pictures` in run.json; absent without pictures
    samples.npz   uint8 images `sample_0`, `sample_1`, ... in the order of `samples` in run.json
    masks.npz     masks as packed bits `mask_0`, ... in the order of `layers`; absent without masks

`run.json` is written last, so a folder with a `run.json` is complete. Other files in the folder are kept.
"""

from keras_ganprune.reports.run.record import record_run, save_run
from keras_ganprune.reports.run.run import LayerRow, MaskUpdate, MetricColumn, PruneLog, Run
from keras_ganprune.reports.run.storage import FORMAT, load_run, write_run

__all__ = [
    "FORMAT",
    "LayerRow",
    "MaskUpdate",
    "MetricColumn",
    "PruneLog",
    "Run",
    "load_run",
    "record_run",
    "save_run",
    "write_run",
]
