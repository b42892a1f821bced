"""Every example that a user may copy runs."""

import doctest
import importlib
import inspect
import pathlib
import pkgutil
import re

import keras
import numpy as np
import paths
import pytest

import keras_ganprune

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(keras_ganprune.__path__, "keras_ganprune.")
    if not info.name.endswith("__main__")
)


# These train or search for seconds; CI runs them too.
LONG = {
    f"keras_ganprune.{name}"
    for name in (
        "search.run_sweep",
        "metrics.extractor_training",
        "metrics.generated_training_data",
        "metrics.layer_sensitivity.measure",
        "pruning.criteria.gradient",
        "layers.lora",
        "layers.computed_kernels",
        "callbacks.prune",
    )
}


def test_the_long_ones_are_modules():
    assert set(MODULES) >= LONG


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.full) if n in LONG else n for n in MODULES]
)
def test_doctests(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("keras_ganprune"):
            raise
        pytest.skip(f"{error.name} is not installed")
    # As after `from keras_ganprune import *`, with the usual short names.
    names = {**vars(keras_ganprune), **vars(module)}
    names |= {"keras": keras, "np": np, "kgp": keras_ganprune}
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
        keras_ganprune.ImageQuality,
        keras_ganprune.QualityReport,
        keras_ganprune.FeatureExtractor,
        keras_ganprune.train_extractor,
        keras_ganprune.frechet_distance,
        keras_ganprune.kernel_distance,
        keras_ganprune.manifold_metrics,
        keras_ganprune.QualityMonitor,
        keras_ganprune.DiversityGuard,
        keras_ganprune.SampleGrid,
        keras_ganprune.PruningSummary,
        keras_ganprune.Progress,
        keras_ganprune.DiffAugment,
        keras_ganprune.Distillation,
        keras_ganprune.ImageToImageGAN,
        keras_ganprune.PerceptualLoss,
        keras_ganprune.ReconstructionLoss,
        keras_ganprune.keep_known_pixels,
        keras_ganprune.recover,
        keras_ganprune.repair,
        keras_ganprune.RepairReport,
        keras_ganprune.sweep,
        keras_ganprune.SweepResult,
        keras_ganprune.Recommendation,
        keras_ganprune.sensitivity,
        keras_ganprune.SensitivityReport,
        keras_ganprune.save_run,
        keras_ganprune.load_run,
        keras_ganprune.write_report,
    ):
        assert ">>> " in (thing.__doc__ or ""), thing


def test_the_files_that_the_architecture_page_names_exist():
    page = (paths.DOCS / "architecture.md").read_text(encoding="utf-8")
    package = pathlib.Path(keras_ganprune.__file__).parent
    names = re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)`", page)
    assert len(names) > 30
    for name in names:
        assert (package / name).exists() or (paths.ROOT / name).exists(), name


@pytest.mark.parametrize("thing", [keras_ganprune.Prune, keras_ganprune.Pruner])
def test_help_lists_the_valid_names(thing):
    signature = str(inspect.signature(thing))
    for name in ("taylor", "channel", "global_ranking", "rigl"):
        assert repr(name) in signature
