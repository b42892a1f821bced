"""The pages on deployment: all code runs, and a file runs in its runtime without Keras and this package."""

import os
import re
import subprocess
import sys
import textwrap

import keras
import numpy as np
import paths
import pytest

import keras_ganprune as kgp
from keras_ganprune import cli
from keras_ganprune.applications.networks import dcgan

# Page -> packages that its code needs, and packages that its program must do without.
PAGES = {
    "deployment_saved_model": (["tensorflow"], ["keras", "tf_keras", "keras_ganprune"]),
    "deployment_onnx": (
        ["tf2onnx", "onnxruntime"],
        ["keras", "tf_keras", "keras_ganprune", "tensorflow", "tf2onnx", "onnx"],
    ),
    "deployment_litert": (
        ["ai_edge_litert"],
        ["keras", "tf_keras", "keras_ganprune", "tensorflow"],
    ),
    "deployment_openvino": (
        ["openvino", "nncf"],
        ["keras", "tf_keras", "keras_ganprune", "tensorflow", "nncf"],
    ),
}
GUIDE = "deployment"
# The line of a program that is for a class-conditional generator.
CONDITIONAL = re.compile(r"# (inputs.*  # only for a class-conditional generator)")

# What stands before a program: these packages are as if they were not installed. (TensorFlow looks for Keras
# when it is imported, but does not import it.)
REFUSE = """
import importlib.machinery
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        raise ModuleNotFoundError(f"{{spec.name}} is refused")

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Refused())
"""
KEEP = """
np.savez("found.npz", z=z, images=images)
assert not set({names}) & set(sys.modules)
"""


def text_of(page):
    return (paths.DOCS / f"{page}.md").read_text(encoding="utf-8")


def blocks(page, language="python"):
    found = re.findall(rf"(?ms)^ *```{language}\n(.*?)^ *```$", text_of(page))
    return [textwrap.dedent(block) for block in found]


def uses_keras(block):
    return bool(re.search(r"\b(keras|kgp)\b", block))


def program(page):
    """Return the code of a page that needs the runtime alone."""
    (block,) = [block for block in blocks(page) if not uses_keras(block)]
    return block


def run_alone(code, folder, refused=(), python=sys.executable):
    """Run a program in a process of its own; return its latent vectors and images."""
    code = REFUSE.format(names=set(refused)) + code + KEEP.format(names=list(refused))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.load(folder / "found.npz")
    return found["z"], found["images"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_a_short_complete_program(page):
    code = program(page)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    assert len(CONDITIONAL.findall(code)) == 1
    assert "thread" in code.lower()  # how many is said where it runs
    assert f"({page}.md)" in text_of(GUIDE) and f"({GUIDE}.md)" in text_of(page)


@pytest.mark.parametrize("page", [GUIDE, *PAGES])
def test_links_of_a_page_exist(page):
    for link in re.findall(r"\]\(((?!http)[^)#]+)\)", text_of(page)):
        assert (paths.DOCS / link).exists(), link


def test_commands_of_the_guide_have_the_right_options(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = [line for block in blocks(GUIDE, "console") for line in block.splitlines()]
    commands = [line.split()[1:] for line in lines if line.startswith("keras-ganprune ")]
    assert len(commands) >= 4
    for command in commands:
        # A wrong option would end the process before the file is missed.
        assert cli.main(command) == 2
        assert "gan.keras" in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.filterwarnings(
    # Converters and runtimes of other projects.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore:.*Interpreter is deprecated.*:UserWarning",
    "ignore:In (ONNX Runtime|LiteRT|OpenVINO), :keras_ganprune.errors.PruningWarning",
    "ignore:The budget, 0.25 of the macs, is missed:keras_ganprune.errors.PruningWarning",
)
class TestCode:
    @pytest.mark.parametrize("classes", [None, 10])
    @pytest.mark.parametrize("page", PAGES)
    def test_the_program_of_a_page_runs_alone(self, page, classes, tmp_path, monkeypatch):
        needed, refused = PAGES[page]
        for module in needed:
            pytest.importorskip(module)
        keras.utils.set_random_seed(0)
        gan = kgp.GANModel(*dcgan((8, 8, 1), 64, 8, classes=classes), latent_dim=64)
        gan.compile("adam", "adam")
        gan.save(tmp_path / "gan.keras")
        monkeypatch.chdir(tmp_path)
        first = blocks(page)[0]
        exec(compile(first, page, "exec"), {"__name__": page})

        code = program(page)
        if classes:
            code = CONDITIONAL.sub(r"\1", code)
        z, images = run_alone(code, tmp_path, refused)
        inputs = [z, np.arange(16, dtype="int32") % 10] if classes else z
        expected = gan.sampler.predict(inputs, verbose=0)
        np.testing.assert_allclose(images, expected, atol=1e-5)
        assert images.std() > 0.01

    @pytest.mark.parametrize("page", [GUIDE, *PAGES])
    def test_all_other_code_of_a_page_runs(self, page, tmp_path, monkeypatch, capsys):
        for module in PAGES[page][0] if page in PAGES else ["tf2onnx", "ai_edge_litert"]:
            pytest.importorskip(module)
        gan = kgp.GANModel(*dcgan((8, 8, 1), 64, 16), latent_dim=64)
        gan.compile("adam", "adam")
        gan.save(tmp_path / "gan.keras")
        monkeypatch.chdir(tmp_path)
        names = {"__name__": page}
        for number, block in enumerate(filter(uses_keras, blocks(page))):
            exec(compile(block, f"docs/{page}.md, block {number}", "exec"), names)
        reports = capsys.readouterr().out
        assert reports.count(" gzipped); ") == text_of(page).count("kgp.export(")
