"""The report on one run or several: one HTML page that needs nothing else, and Markdown."""

from keras_ganprune.metrics.intervals import Interval, mean_interval, paired_increase
from keras_ganprune.run_report.writing import ReportFiles, write_report

__all__ = ["Interval", "ReportFiles", "mean_interval", "paired_increase", "write_report"]
