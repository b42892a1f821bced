"""The table of exported files: what each weighs, and how fast its runtime is."""

from __future__ import annotations

from keras_ganprune.reports.run import Run
from keras_ganprune.reports.run.exported_files import ExportedFile
from keras_ganprune.reports.tables.cells import NOTHING, Table, number

_NOTE = (
    "Times: median of a call in the runtime of the file, with the quartiles where they were measured. Files "
    "that were measured together ran in turns."
)
_TITLES = {
    "keras": "Keras",
    "saved_model": "SavedModel",
    "onnx": "ONNX",
    "litert": "LiteRT",
    "openvino": "OpenVINO",
}


def files_table(run: Run) -> Table | None:
    """Return the exported files of a run, or None if there are none."""
    if not run.files:
        return None
    sizes = sorted({size for file in run.files for size in file.milliseconds}, key=int)
    metrics = list(dict.fromkeys(name for file in run.files for name in file.quality))[:1]
    header = ["file", "format", "kB", "kB gzipped", "differs by"]
    header += [f"ms, batch of {size}" for size in sizes] + metrics
    rows = []
    for file in run.files:
        title = _TITLES.get(file.format, file.format)
        row = [file.name, f"{title} {file.precision}".strip()]
        row += [f"{count / 1e3:,.0f}" for count in (file.bytes, file.gzip_bytes)]
        row.append(NOTHING if file.max_difference is None else f"{file.max_difference:.2g}")
        row += [_time(file, size) for size in sizes]
        row += [number(file.quality.get(metric)) for metric in metrics]
        rows.append(tuple(row))
    notes = list(dict.fromkeys(note for file in run.files for note in file.notes))
    return Table("Exported files", tuple(header), tuple(rows), " ".join([_NOTE, *notes]))


def _time(file: ExportedFile, size: str) -> str:
    if size not in file.milliseconds:
        return NOTHING
    text = f"{file.milliseconds[size]:.2f}"
    if size in file.quartiles:
        low, high = file.quartiles[size]
        text += f" ({low:.2f}–{high:.2f})"
    return text
