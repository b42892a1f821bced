"""What sparsity buys where: sizes and times of pruned networks in four runtimes.

    python benchmarks/deployment.py                        # all networks and formats: half an hour
    python benchmarks/deployment.py --only dcgan28 mlp     # some networks
    python benchmarks/deployment.py --table                # only the page of the rows that are there

Each network is written dense, with 80 % of its weights masked, and with a quarter of its multiply-accumulates
(widths in multiples of 8), in each format and precision; the MLP also with 90 % masked in the blocks whose
zeros LiteRT skips. Each file is proven in its runtime, or the table says why it is refused. The files of a
network run in turns, with one thread. Weights are random, with settled batch normalization: sizes and times
depend on their zeros only. Each finished network is appended to a file of JSON lines: killed and started
again, the command measures the missing ones.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import _bench

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "deployment_measured.md"
RESULTS = pathlib.Path(__file__).parent / "results"
TITLES = {
    "saved_model": "SavedModel",
    "onnx": "ONNX Runtime",
    "litert": "LiteRT",
    "openvino": "OpenVINO",
}
FORMS = ("dense", "80 % masked", "90 % in blocks", "¼ MACs")
CELLS = (
    ("saved_model", "float32"),
    *((name, p) for name in ("onnx", "litert", "openvino") for p in ("float32", "float16", "int8")),
)


def networks() -> dict[str, Callable[[], Any]]:
    """Return name -> function that makes a network."""
    import keras

    from keras_ganprune.applications.image_blocks import PixelShuffle, residual_block
    from keras_ganprune.applications.networks import dcgan

    layers = keras.layers

    def stack(shape: Any, *inner: Any) -> Any:
        return keras.Sequential([keras.Input(shape), *inner])

    def mobile() -> Any:
        def block(width: int, strides: int) -> list[Any]:
            return [
                layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(6.0),
                layers.Conv2D(width, 1, use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(6.0),
            ]

        first = [layers.Conv2D(32, 3, 2, "same", use_bias=False), layers.BatchNormalization()]
        widths = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]
        inner = [layer for width, strides in widths for layer in block(width, strides)]
        return stack(
            (96, 96, 3),
            *first,
            layers.ReLU(6.0),
            *inner,
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        )

    def unet() -> Any:
        def convolved(x: Any, width: int, strides: int = 1) -> Any:
            return layers.Conv2D(width, 3, strides, "same", activation="relu")(x)

        image = keras.Input((64, 64, 1))
        down = [convolved(image, 24)]
        for width in (48, 64, 64):
            down.append(convolved(down[-1], width, 2))
        x = down.pop()
        for width in (64, 48, 24):
            x = layers.Conv2DTranspose(width, 4, 2, "same", activation="relu")(x)
            x = convolved(layers.Concatenate()([x, down.pop()]), width)
        return keras.Model(image, layers.Conv2D(1, 3, padding="same", activation="tanh")(x))

    def srgan() -> Any:
        image = keras.Input((32, 32, 3))
        x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(48, 9, padding="same")(image))
        for block in range(4):
            x = residual_block(x, 48, f"block_{block}", "prelu")
        x = PixelShuffle(2)(layers.Conv2D(192, 3, padding="same")(x))
        x = layers.PReLU(shared_axes=[1, 2])(x)
        return keras.Model(image, layers.Conv2D(3, 9, padding="same", activation="tanh")(x))

    return {
        "dcgan28": lambda: dcgan((28, 28, 1), 64, 64)[0],
        "dcgan64": lambda: dcgan((64, 64, 3), 100, 64)[0],
        "conditional": lambda: dcgan((28, 28, 1), 64, 64, classes=10)[0],
        "srgan": srgan,
        "u-net": unet,
        "mobile": mobile,
        "mlp": lambda: stack(
            (100,),
            *(layers.Dense(width, "relu") for width in (256, 512, 1024)),
            layers.Dense(784, "tanh"),
        ),
        "gru": lambda: stack((12, 64), layers.GRU(256, return_sequences=True), layers.Dense(27)),
    }


def forms_of(name: str) -> tuple[str, ...]:
    """Return the forms of a network: LiteRT skips zeros in blocks of `Dense` layers only."""
    return FORMS if name == "mlp" else tuple(form for form in FORMS if "blocks" not in form)


def form_of(model: Any, form: str) -> Any:
    """Return a network as it is, masked or cut."""
    import keras_ganprune as kgp

    if "%" in form:
        kgp.make_prunable(model)
        granularity = kgp.Block.for_runtime("litert") if "blocks" in form else "unstructured"
        kgp.Pruner(model, granularity=granularity).update(sparsity=int(form[:2]) / 100)
    elif form == "¼ MACs":
        return kgp.shrink(model, budget=kgp.Budget(macs=0.25), granularity=kgp.Channel(round_to=8))
    return model


def settle(model: Any) -> None:
    """Give batch normalizations the statistics of random inputs."""
    import keras

    from keras_ganprune.layers.probe_inputs import probe_inputs

    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    for seed in range(6):
        model(probe_inputs(model, None, batch=16, seed=seed), training=True)


def run(name: str, path: pathlib.Path, cells: Any) -> None:
    """Write, prove and time the missing rows of one network."""
    import keras

    import keras_ganprune as kgp
    from keras_ganprune.exporters.benchmark import benchmark_files
    from keras_ganprune.layers.probe_inputs import probe_inputs

    rows = rows_of(path)
    done = {
        (row["form"], row["format"], row["precision"]) for row in rows if row["network"] == name
    }
    if all((form, *cell) in done for form in forms_of(name) for cell in cells):
        return
    with tempfile.TemporaryDirectory() as folder:
        written: list[tuple[dict[str, Any], pathlib.Path]] = []
        for form in forms_of(name):
            keras.utils.set_random_seed(0)
            model = networks()[name]()
            settle(model)
            model = form_of(model, form)
            for format, precision in cells:
                row = {"network": name, "form": form, "format": format, "precision": precision}
                options: dict[str, Any] = {"latency": False}
                if precision == "int8":
                    options["calibration"] = probe_inputs(model, None, batch=64)
                if name == "gru" and format == "litert":
                    options["batch_size"] = 1
                target = pathlib.Path(folder) / f"{FORMS.index(form)}_{format}_{precision}"
                try:
                    report = kgp.export(model, target, format, precision=precision, **options)
                except kgp.PruningError as error:
                    written.append((row | {"refused": str(error)}, target))
                    continue
                row |= {"bytes": report.bytes, "gzip_bytes": report.gzip_bytes}
                row |= {"max_difference": report.max_difference, "notes": list(report.notes)}
                written.append((row, report.path))
        timed = [(row, file) for row, file in written if "refused" not in row]
        found = benchmark_files([file for _, file in timed], seconds=2.0)
        for (row, _), measured in zip(timed, found.rows, strict=True):
            row["times"] = {
                size: [times.wall, *times.quartiles, times.cpu]
                for size, times in measured.times.items()
            }
        with path.open("a", encoding="utf-8") as file:
            for row, _ in written:
                if (row["form"], row["format"], row["precision"]) not in done:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(f"{name}: {len(written)} rows", flush=True)


def rows_of(path: pathlib.Path) -> list[dict[str, Any]]:
    """Return the finished rows."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def page(rows: list[dict[str, Any]]) -> str:
    """Return a table per network: a line per form and precision, a column per format."""
    formats = list(dict.fromkeys(name for name, _ in CELLS))
    parts = []
    for network in dict.fromkeys(row["network"] for row in rows):
        cells = {
            (row["form"], row["precision"], row["format"]): row
            for row in rows
            if row["network"] == network
        }
        lines = [["", "precision", *(TITLES[name] for name in formats)]]
        notes: list[str] = []
        for form, precision in dict.fromkeys(key[:2] for key in cells):
            line = [form, precision]
            for name in formats:
                row = cells.get((form, precision, name))
                line.append(_cell(row, cells.get(("dense", "float32", name)), notes))
            lines.append(line)
        parts.append(f"## {network}\n\n{_bench.table(lines[0], lines[1:], markdown=True)}")
        parts += ["\n".join(f"{n}. {note}" for n, note in enumerate(notes, 1))] if notes else []
    return "\n\n".join(parts)


def _cell(row: Any, base: Any, notes: list[str]) -> str:
    """Return sizes and speed of a file, or the number of the note that says why it is refused."""
    if row is None or base is None or "times" not in base:
        return "–"
    if "refused" in row:
        if row["refused"] not in notes:
            notes.append(row["refused"])
        return f"refused ({notes.index(row['refused']) + 1})"
    raw, zipped = (row[key] / base["bytes"] for key in ("bytes", "gzip_bytes"))
    # CPU time: other load on the machine changes it less.
    faster = [base["times"][n][3] / row["times"][n][3] for n in base["times"]]
    return f"{raw:.2f} ({zipped:.2f}), {' / '.join(f'{each:.1f}×' for each in faster)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(networks()), default=list(networks()))
    parser.add_argument("--table", action="store_true", help="measure nothing, write the page")
    parser.add_argument("--page", type=pathlib.Path, default=PAGE)
    parser.add_argument("--rows", type=pathlib.Path, default=RESULTS / "deployment.jsonl")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    options.rows.parent.mkdir(parents=True, exist_ok=True)
    for name in [] if options.table else options.only:
        run(name, options.rows, CELLS)
    notes = [
        "A cell has the size of the file (and its size when gzipped) as a share of the dense float32 file of "
        "the same format, and how many times as fast it is: for a batch of 1 / of 16, by CPU time, one "
        "thread, all files of a network in turns. Ratios between 0.9 and 1.1 are noise.",
        *(f"{key}: {value}" for key, value in _bench.environment().items()),
    ]
    text = "\n".join(
        [
            "# What sparsity buys where, measured",
            "",
            "`python benchmarks/deployment.py` writes this page; do not edit it.",
            "",
            *(f"- {note}" for note in notes),
            "",
            page(rows_of(options.rows)),
            "",
        ]
    )
    options.page.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
