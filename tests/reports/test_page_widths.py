"""The page in headless Chromium: on a phone and on a desk, no column is cut off."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import threading

import example_runs
import numpy as np
import pytest

import keras_ganprune as kgp

# Writes into the outer page what is wider than its box, and how wide the page is.
_OUTER = """<body style="margin:0"><iframe src="report.html" style="border:0;width:{width}px;height:900px">
</iframe><pre id="found"></pre><script>
document.querySelector("iframe").onload = event => {{
  const page = event.target.contentDocument;
  for (const each of page.querySelectorAll("details")) each.open = true;
  const wide = [...page.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth + 1);
  document.getElementById("found").textContent = JSON.stringify({{
    page: page.documentElement.scrollWidth, tables: page.querySelectorAll("table").length,
    wide: wide.map(e => e.getAttribute("aria-label")) }});
}};
</script></body>"""


@pytest.fixture
def opened(tmp_path):
    """Return a function of a width that returns what the outer page has found."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def at(width):
            (tmp_path / "outer.html").write_text(_OUTER.format(width=width), encoding="utf-8")
            flags = [
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--virtual-time-budget=5000",
            ]
            flags += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000"]
            address = f"http://127.0.0.1:{server.server_port}/outer.html"
            environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
            done = subprocess.run(
                ["chromium", *flags, "--dump-dom", address],
                capture_output=True,
                text=True,
                timeout=120,
                env=environment,
            )
            assert done.returncode == 0, done.stderr[-2000:]
            return json.loads(re.search(r'<pre id="found">(.+?)</pre>', done.stdout)[1])

        yield at
        server.shutdown()


def application_run(seed):
    names = ("dense", "80 % sparse", "25 % of the MACs", "non-local means")
    numbers = {"psnr": 25.78, "ssim": 0.7412, "error": 0.0123}
    sizes = {
        "parameters": 67_553_280,
        "nonzero": 16_958_592,
        "macs": 67_553_280,
        "gzip_bytes": 447_147,
    }
    return kgp.reports.record_run(
        history={"loss": [1.0]},
        samples={"dense": np.zeros((4, 8, 8, 1))},
        quality={name: numbers for name in names},
        metrics={
            "psnr": ("PSNR, dB", True, 2),
            "ssim": ("SSIM", True, 4),
            "error": ("e", False, 4),
        },
        sizes={name: sizes for name in names[:3]},
        latency={name: {"SavedModel, batch of 16": 57.3} for name in names[:3]},
        settings={"an option with a long name": "a_value_without_any_space_" * 4},
        seed=seed,
        name=f"denoising {seed}",
        equal_steps=True,
    )


RUNS = {
    "gan": lambda: [example_runs.made(0, equal_steps=True)],
    "two_gans": lambda: [example_runs.made(i, equal_steps=True) for i in range(2)],
    "application": lambda: [application_run(0)],
    "two_applications": lambda: [application_run(0), application_run(1)],
}


@pytest.mark.full
@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("width", [390, 1280])
def test_no_column_is_cut_off(kind, width, tmp_path, opened):
    kgp.write_report(RUNS[kind](), tmp_path / "report.html")
    found = opened(width)
    assert found["tables"] >= 3
    assert found["page"] <= width
    assert found["wide"] == []
