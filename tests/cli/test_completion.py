"""The completion of commands, applications and options in a shell."""

import shutil
import subprocess

import pytest

from keras_ganprune import cli

pytest.importorskip("shtab")


def completed(words, script):
    """Return what bash offers for the last word."""
    line = " ".join(words)
    asked = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _shtab_keras_ganprune; echo ${{COMPREPLY[@]}}"
    found = subprocess.run(["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True)
    return found.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed.")
def test_bash_completes_commands_applications_and_options(capsys):
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert completed(["keras-ganprune", "re"], script) == ["report"]
    assert completed(["keras-ganprune", "demo", "deno"], script) == ["denoising"]
    assert completed(["keras-ganprune", "export", "--form"], script) == ["--format"]
    offered = completed(["keras-ganprune", "export", "a.keras", "b", "--format", "''"], script)
    assert completed(["keras-ganprune", "demo", "--network", "dc"], script) == ["dcgan"]
    assert {"onnx", "litert", "openvino", "saved_model"} <= set(offered)


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    assert "keras-ganprune" in capsys.readouterr().out
