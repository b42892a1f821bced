"""Folders that several tests use."""

import pathlib

HELPERS = pathlib.Path(__file__).parent
TESTS = HELPERS.parent
ROOT = TESTS.parent
DOCS = ROOT / "docs"
