"""Conversion of models from other libraries. Import the modules by name: they need these libraries."""
