"""What came out: sparsity and sizes."""

from keras_ganprune.metrics.sparsity import SparsityReport, SparsityRow, sparsity_report

__all__ = ["SparsityReport", "SparsityRow", "sparsity_report"]
