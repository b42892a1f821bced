"""The order of the layers, read from the source: each row may import only from rows above it."""

import ast
import pathlib
import subprocess
import sys

import pytest

import keras_ganprune

ROOT = pathlib.Path(keras_ganprune.__file__).parent

# One row for each module or subpackage, from the ground up; see 'Layout' in the design.
ROWS = [
    "errors",
    "packages",
    "arguments",
    "_start",
    "_workers_tensorflow",
    "_workers_torch",
    "_workers_jax",
    "workers",
    "_gradients_tensorflow",
    "_gradients_jax",
    "_gradients_torch",
    "tracing",
    "files",
    "_registry",
    "masks",
    "kernel_axes",
    "granularity",
    "schedules",
    "modes",
    "_masking_torch",
    "masking",
    "device_masks",
    "wiring",
    "criteria",
    "allocation",
    "combinations",
    "selection",
    "scope",
    "cloning",
    "layers",
    "sharing",
    "saving",
    "structured",
    "probing",
    "mask_report",
    "parts",
    "group_parts",
    "block_parts",
    "cost_share",
    "missed",
    "targets",
    "shrinking",
    "restoring",
    "_optimizers_torch",
    "pruner",
    "discovery",
    "slots",
    "state",
    "nan_guard",
    "clock",
    "averages",
    "gradients",
    "adaptive",
    "rewind",
    "callback_warnings",
    "callbacks",
    "balance",
    "rebuilding",
    "surgery",
    "gan",
    "recalibration",
    "shrink_callback",
    "metrics",
    "data",
    "_export_tensorflow",
    "_export_process",
    "exporting",
    "export",
    "interop",
    "report",
    "fixed_samples",
    "monitors",
    "diversity_guard",
    "sample_grid",
    "summaries",
    "recovery",
    "sensitivity",
    "sweep",
    "run_folder",
    "run_report",
    "networks",
    "demo_options",
    "demo",
    "sweep_command",
    "report_command",
    "cli",
    "__main__",
    "__init__",
]

# What a module may import of this package where that is less than all rows above it.
ONLY = {
    "errors.py": set(),
    "packages.py": {"errors"},
    "arguments.py": {"errors"},
    "masks.py": {"errors"},
    "metrics/sparsity.py": {"layers", "masking"},
    "gan/_step_tensorflow.py": set(),
    "_gradients_tensorflow.py": set(),
    "_gradients_jax.py": set(),
    "_gradients_torch.py": set(),
    "_workers_tensorflow.py": {"errors"},
    "_workers_torch.py": {"errors"},
    "_workers_jax.py": {"errors"},
    "_masking_torch.py": set(),
    "_optimizers_torch.py": {"errors"},
    "gan/losses.py": {"errors", "_registry"},
}

# Frameworks that the core must not know, and who may.
FRAMEWORKS = {"tensorflow", "tf_keras", "tensorflow_model_optimization", "torch", "jax"}
MAY_USE_A_FRAMEWORK = (
    "gan/_step_",
    "_gradients_",
    "_masking_",
    "_workers_",
    "_optimizers_",
    "_export_tensorflow.py",
    "interop/",
    "metrics/timing.py",
)

SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
each_source = pytest.mark.parametrize("source", SOURCES)


def row(module: str) -> str:
    """Return the row of a file or dotted module inside the package."""
    return module.removesuffix(".py").replace("/", ".").split(".")[0]


def imported_modules(text: str, source: str) -> set[str]:
    """Return the absolute names of all modules that a source imports, inside functions too."""
    found = set()
    package = ["keras_ganprune", *source.split("/")[:-1]]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            # `from package import module` names modules; elsewhere the names are attributes.
            if name == "keras_ganprune":
                found.update(f"{name}.{alias.name}" for alias in node.names)
            else:
                found.add(name)
    return found


def own_rows(source: str) -> set[str]:
    modules = imported_modules((ROOT / source).read_text(encoding="utf-8"), source)
    # `from keras_ganprune import Name` asks the package itself, which is the last row.
    rows = set()
    for module in modules:
        if module.split(".")[0] == "keras_ganprune":
            part = [*module.split("."), "__init__"][1]
            rows.add(part if part in ROWS else "__init__")
    return rows


@each_source
def test_every_module_has_a_row(source):
    assert row(source) in ROWS, f"add '{row(source)}' to ROWS, where it belongs"


@each_source
def test_imports_only_from_rows_above(source):
    here = row(source)
    allowed = set(ROWS[: ROWS.index(here)])
    if "/" in source:
        allowed.add(here)  # modules of one subpackage may use each other
    assert own_rows(source) <= ONLY.get(source, allowed)


@each_source
def test_core_knows_no_framework(source):
    modules = imported_modules((ROOT / source).read_text(encoding="utf-8"), source)
    used = {name.split(".")[0] for name in modules} & FRAMEWORKS
    if not source.startswith(MAY_USE_A_FRAMEWORK):
        assert used == set()
    if not source.startswith("interop/"):
        assert used <= {"tensorflow", "torch", "jax"}


@pytest.mark.parametrize(
    ("text", "source", "modules"),
    [
        ("import a.b, c", "x.py", {"a.b", "c"}),
        ("from keras_ganprune import layers", "x.py", {"keras_ganprune.layers"}),
        ("from keras_ganprune.gan import losses", "x.py", {"keras_ganprune.gan"}),
        ("from . import layers", "x.py", {"keras_ganprune.layers"}),
        ("from .layers import walk", "x.py", {"keras_ganprune.layers"}),
        ("from ..layers import walk", "gan/x.py", {"keras_ganprune.layers"}),
        ("from .losses import Hinge", "gan/x.py", {"keras_ganprune.gan.losses"}),
        ("def f():\n    import tensorflow as tf", "x.py", {"tensorflow"}),
    ],
)
def test_reader(text, source, modules):
    assert imported_modules(text, source) == modules


def test_import_is_lean():
    # In a fresh process, since other tests import these; Keras itself may bring some of them.
    code = (
        "import sys, keras; before = set(sys.modules); import keras_ganprune; "
        "print(*{m.split('.')[0] for m in set(sys.modules) - before} & {'tf_keras', 'matplotlib', "
        "'tensorflow_model_optimization', 'sklearn', 'mlxtend', 'pandas', 'PIL', 'scipy', 'optuna', "
        "'sqlalchemy'})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stdout.split() == []
