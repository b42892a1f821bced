"""Complete applications: data, networks, training with pruning, evaluation, export.

To add an application: one file (or folder) here, and one row in `keras_ganprune.cli`.
"""
