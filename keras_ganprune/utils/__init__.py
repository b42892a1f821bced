"""Helpers that know nothing of pruning."""
