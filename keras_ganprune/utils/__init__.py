"""Helpers that do not depend on pruning: validation, files, registry, tables, plotting."""
