"""Exporters: write a model to files that another runtime reads, load them again and compare the outputs."""

from keras_ganprune.exporters.benchmark import Benchmark, BenchmarkRow, Times, benchmark_files
from keras_ganprune.exporters.file_report import FileReport
from keras_ganprune.exporters.run_export import export
from keras_ganprune.exporters.saved_model import ExportReport, export_saved_model
from keras_ganprune.exporters.timed_networks import opened_network

__all__ = [
    "Benchmark",
    "BenchmarkRow",
    "ExportReport",
    "FileReport",
    "Times",
    "benchmark_files",
    "export",
    "export_saved_model",
    "opened_network",
]
