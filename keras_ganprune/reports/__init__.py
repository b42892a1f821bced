"""The report on one run or several: one HTML page that needs nothing else, and Markdown."""

from keras_ganprune.run_report.writing import ReportFiles, write_report

__all__ = ["ReportFiles", "write_report"]
