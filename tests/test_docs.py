"""Every example that a user may copy runs."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest

import keras_ganprune

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(keras_ganprune.__path__, "keras_ganprune.")
    if not info.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("keras_ganprune"):
            raise
        pytest.skip(f"{error.name} is not installed")
    names = {**vars(module), "keras": keras, "np": np}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    output = []
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, globs=names):
        runner.run(test, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)


def test_the_main_classes_have_examples():
    for thing in (
        keras_ganprune.Prune,
        keras_ganprune.Pruner,
        keras_ganprune.make_prunable,
        keras_ganprune.strip_pruning,
        keras_ganprune.sparsity_report,
        keras_ganprune.register_prunable,
        keras_ganprune.PolynomialDecay,
        keras_ganprune.Threshold,
    ):
        assert ">>> " in (thing.__doc__ or ""), thing
