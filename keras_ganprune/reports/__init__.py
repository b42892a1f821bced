"""Run folders, and reports on one run or several: one HTML page, and Markdown."""

from keras_ganprune.reports.run import Run, load_run, record_run, save_run, write_run
from keras_ganprune.reports.write import ReportFiles, write_report
from keras_ganprune.utils.plotting import draw_mask, image_grid

__all__ = [
    "ReportFiles",
    "Run",
    "draw_mask",
    "image_grid",
    "load_run",
    "record_run",
    "save_run",
    "write_report",
    "write_run",
]
