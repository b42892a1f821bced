"""The page of examples/browser draws the images of the exported generator."""

import base64
import functools
import http.server
import io
import os
import re
import shutil
import subprocess
import threading

import keras
import numpy as np
import paths
import pytest

import keras_ganprune as kgp
from keras_ganprune.applications.networks import dcgan

FOLDER = paths.ROOT / "examples" / "browser"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
COLUMNS, ROWS, GAP, LATENT, SEED = 10, 6, 2, 16, 7


def commands():
    """Return the commands of the README that bring the runtime."""
    (block,) = re.findall(r"```console\n(\s*npm install\n.*?)```", README, flags=re.DOTALL)
    return [line.strip() for line in block.splitlines() if line.strip()]


def latents(count, seed):
    """Return the random numbers of app.js: Mulberry32 and Box-Muller."""
    state, drawn = seed, []
    for _ in range(2 * count):
        state = (state + 0x6D2B79F5) % 2**32
        t = (state ^ (state >> 15)) * (state | 1) % 2**32
        t ^= (t + (t ^ (t >> 7)) * (t | 61)) % 2**32
        drawn.append((t ^ (t >> 14)) / 2**32)
    first, second = np.array(drawn).reshape(-1, 2).T
    numbers = np.sqrt(-2 * np.log(1 - first)) * np.cos(2 * np.pi * second)
    return numbers.astype("float32")


def test_the_readme_says_how_to_get_what_the_page_needs():
    assert commands()[:2] == ["npm install", "mkdir -p ort"]
    script = (FOLDER / "app.js").read_text(encoding="utf-8")
    (runtime,) = re.findall(r'from "\./ort/(\S+)"', script)
    assert any(line.endswith(f"/{runtime} ort") for line in commands())
    assert "digits.onnx" in script and "digits.onnx" in README


def test_the_page_has_no_address_of_another_server():
    for file in ("index.html", "style.css", "app.js"):
        assert "//" not in re.sub(r"(?m)^\s*//.*|\s// .*", "", (FOLDER / file).read_text("utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return the address of the page, served with its runtime, and its folder."""
    for program in ("npm", "node", "chromium"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder = tmp_path_factory.mktemp("page") / "browser"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("node_modules", "ort", "*.onnx"))
    for command in commands():
        done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True)
        if done.returncode and command == "npm install":
            pytest.skip(f"npm cannot install the runtime: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", folder
        server.shutdown()


def opened(address, profile):
    """Return the page as it stands in headless Chromium when all is drawn."""
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
    command = ["chromium", *flags, f"--user-data-dir={profile}", "--dump-dom", address]
    # No proxy: the server is on this machine.
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("classes", [None, 10])
def test_the_page_draws_what_the_network_gives(page, classes, tmp_path):
    for module in ("tf2onnx", "onnx", "onnxruntime", "PIL"):
        pytest.importorskip(module)
    import onnxruntime
    from PIL import Image

    keras.utils.set_random_seed(0)
    address, folder = page
    generator, _ = dcgan((8, 8, 1), LATENT, 8, classes=classes)
    for variable in generator.trainable_variables:  # so that the images differ by more than a level
        variable.assign(3 * variable)
    file = folder / f"{classes}.onnx"
    kgp.export(generator, file, "onnx", latency=False)

    count = COLUMNS * ROWS
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    vectors, *labels = [each.name for each in session.get_inputs()]
    inputs = {vectors: latents(count * LATENT, SEED).reshape(count, LATENT)}
    inputs |= dict.fromkeys(labels, np.arange(count, dtype="int32") % COLUMNS)
    (images,) = session.run(None, inputs)
    levels = np.clip(np.round((images[..., 0] + 1) * 127.5), 0, 255)
    assert levels.std(0).mean() > 5

    html = opened(f"{address}?model={file.name}&seed={SEED}&record", tmp_path)
    assert re.search(r'id="status" role="status"></p>', html), html[-2000:]
    assert re.search(r'id="seed">7<', html) and re.search(r'id="time">[\d.]+ ms<', html)
    assert ('<label id="class-field">' in html) == (classes is not None)
    png = base64.b64decode(re.search(r'data-png="data:image/png;base64,([^"]+)"', html)[1])
    drawn = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), "float64")
    assert drawn.shape == (ROWS * (8 + GAP) - GAP, COLUMNS * (8 + GAP) - GAP, 3)
    for number, expected in enumerate(levels):
        row, column = divmod(number, COLUMNS)
        found = drawn[row * 10 : row * 10 + 8, column * 10 : column * 10 + 8]
        np.testing.assert_allclose(found, np.repeat(expected[..., None], 3, -1), atol=1)


@pytest.mark.full
def test_a_missing_network_is_said(page, tmp_path):
    html = opened(f"{page[0]}?model=none.onnx", tmp_path)
    assert "none.onnx is not beside this page" in html


def test_nothing_large_is_kept_beside_the_page():
    ignored = (FOLDER / ".gitignore").read_text(encoding="utf-8").split()
    assert {"node_modules/", "ort/", "*.onnx"} <= set(ignored)
