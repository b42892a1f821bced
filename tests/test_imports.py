"""The architecture, read from the source: the order of the folders, no circles, no hidden names."""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest

import keras_ganprune

ROOT = pathlib.Path(keras_ganprune.__file__).parent

# Each row may import only from the rows above it; see docs/architecture.md.
ROWS = [
    "errors",
    "utils",
    "backend",
    "datasets",
    "layers",
    "training",
    "gan",
    "pruning",
    "metrics",
    "callbacks",
    "exporters",
    "search",
    "interop",
    "reports",
    "applications",
    "cli",
    "__main__",
    "__init__",
]

# The core uses `keras` and `keras.ops`; these files are the ones that know a framework.
FRAMEWORKS = {"tensorflow", "tf_keras", "tensorflow_model_optimization", "torch", "jax"}
MAY_USE_A_FRAMEWORK = (
    "backend/_",
    "gan/_step_",
    "exporters/_tensorflow",
    "interop/tfmot/",
    "metrics/measure_latency.py",
)

SOURCES = sorted(ROOT.rglob("*.py"))
FOLDERS = sorted({path.parent.name for path in ROOT.glob("*/__init__.py")})


def dotted(path: pathlib.Path) -> str:
    """Return the module name of a source file."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in SOURCES}


def imported_modules(text: str, modules=MODULES) -> set[str]:
    """Return the modules that a source imports, inside functions too.

    `from package import name` imports the submodule of that name where there is one.
    """
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "write absolute imports"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in modules else node.module)
    return found


def row(module: str) -> str:
    """Return the row of a module of this package."""
    return [*module.split("."), "__init__"][1]


@functools.cache
def own_imports() -> dict[str, set[str]]:
    """Return, for each module of the package, the modules of the package that it imports."""
    return {
        module: imported_modules(path.read_text(encoding="utf-8")) & set(MODULES)
        for module, path in MODULES.items()
    }


@pytest.mark.parametrize("folder", ROWS)
def test_a_folder_imports_only_from_rows_above(folder):
    allowed = {*ROWS[: ROWS.index(folder)], folder}
    for module, imports in own_imports().items():
        if row(module) == folder:
            upwards = {name for name in imports if row(name) not in allowed}
            assert upwards == set(), f"{module} imports from a row below it"


def test_every_folder_has_a_row():
    assert {row(module) for module in MODULES} == set(ROWS)
    assert len(FOLDERS) <= 15


def test_no_circles():
    graph = own_imports()
    finished: set[str] = set()

    def visit(module, path):
        assert module not in path, f"circle: {' -> '.join([*path, module])}"
        if module not in finished:
            for name in sorted(graph[module]):
                visit(name, [*path, module])
            finished.add(module)

    for module in graph:
        visit(module, [])


def test_the_core_knows_no_framework():
    for path in SOURCES:
        source = path.relative_to(ROOT).as_posix()
        modules = imported_modules(path.read_text(encoding="utf-8"))
        used = {name.split(".")[0] for name in modules} & FRAMEWORKS
        if not source.startswith(MAY_USE_A_FRAMEWORK):
            assert used == set(), source
        if not source.startswith("interop/"):
            assert used <= {"tensorflow", "torch", "jax"}, source


@pytest.mark.parametrize("package", [m for m, path in MODULES.items() if path.stem == "__init__"])
def test_no_public_name_hides_a_module(package):
    # `package.name` would be the module or the function, depending on what was imported first.
    tree = ast.parse(MODULES[package].read_text(encoding="utf-8"))
    beside = {module.removeprefix(f"{package}.") for module in MODULES if module != package}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or alias.name
                is_module = f"{node.module}.{alias.name}" in MODULES
                assert name not in beside or is_module, name


def test_the_public_names():
    folders = {folder for folder in FOLDERS if folder not in ("utils", "backend")}
    names = set(dir(keras_ganprune))
    assert names == {*keras_ganprune.__all__, *folders, "errors", "__version__"}
    assert len(set(keras_ganprune.__all__)) == len(keras_ganprune.__all__)
    for name in names:
        assert hasattr(keras_ganprune, name)


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("import a.b, c", {"a.b", "c"}),
        ("from keras_ganprune import layers", {"keras_ganprune.layers"}),
        ("from keras_ganprune import Prune", {"keras_ganprune"}),
        ("from keras_ganprune.gan import losses", {"keras_ganprune.gan.losses"}),
        ("from keras_ganprune.gan import GANModel", {"keras_ganprune.gan"}),
        ("def f():\n    import tensorflow as tf", {"tensorflow"}),
    ],
)
def test_reader(text, modules):
    assert imported_modules(text) == modules


@pytest.mark.full
def test_import_is_lean():
    # In a fresh process, since other tests import these; Keras itself may bring some of them.
    code = (
        "import sys, keras; before = set(sys.modules); import keras_ganprune; "
        "print(*{m.split('.')[0] for m in set(sys.modules) - before} & {'tf_keras', 'matplotlib', "
        "'tensorflow_model_optimization', 'sklearn', 'mlxtend', 'pandas', 'PIL', 'scipy', 'optuna', "
        "'sqlalchemy', 'jinja2'})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stdout.split() == []
