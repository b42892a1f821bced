"""Conversion of models from other libraries. Import its modules by name: they need those libraries."""
