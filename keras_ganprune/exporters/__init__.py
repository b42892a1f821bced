"""Exporters: a model as a file that another runtime reads, verified by loading it again."""

from keras_ganprune.exporters.saved_model import ExportReport, export_saved_model

__all__ = ["ExportReport", "export_saved_model"]
