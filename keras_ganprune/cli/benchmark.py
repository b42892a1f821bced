"""`keras-ganprune benchmark`: sizes and times of files side by side."""

from __future__ import annotations

import argparse

from keras_ganprune.cli.arguments import Recorder
from keras_ganprune.exporters import Benchmark, benchmark_files
from keras_ganprune.reports.run.exported_files import ExportedFile, add_files
from keras_ganprune.utils.closing import closing
from keras_ganprune.utils.status_line import StatusLine

HELP = "Measure sizes and times of files side by side: .keras, SavedModel, ONNX, LiteRT, OpenVINO."
EXAMPLES = (
    "keras-ganprune benchmark dense.onnx small.onnx",
    "keras-ganprune benchmark gan.keras gan.tflite --batch-size 1 16 64",
)


def add_arguments(recorder: Recorder) -> None:
    """Add the arguments of the command."""
    recorder.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="A .keras file, the folder of a SavedModel, or a .onnx, .tflite or .xml file. The others are "
        "compared with the first one.",
    )
    recorder.add_argument(
        "--batch-size",
        dest="batch_sizes",
        type=int,
        nargs="+",
        default=[1, 16],
        help="Batch sizes. Defaults to 1 16.",
    )
    recorder.add_argument(
        "--threads",
        type=int,
        default=1,
        help="Threads of ONNX Runtime, LiteRT and OpenVINO. Defaults to 1.",
    )
    recorder.add_argument("--seed", type=int, default=0, help="Seed of the inputs. Defaults to 0.")
    recorder.add_argument(
        "--run",
        default=None,
        metavar="FOLDER",
        help="Folder of a run: the files are added to it, and its report shows them. Defaults to none.",
    )
    recorder.add_argument(
        "--markdown", action="store_true", help="Print the table as Markdown. Defaults to no."
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure the files and print the table.

    Raises:
        FileFormatError: A file does not exist or cannot be read.
        MissingPackageError: The runtime of a file is not installed.
        OutputError: The files cannot be added to the run.
    """
    # A table in Markdown is for a file.
    with StatusLine(enabled=not arguments.markdown).doing("Measuring the files in turns"):
        found = benchmark_files(
            arguments.files, arguments.batch_sizes, arguments.seed, arguments.threads
        )
    print(found.to_markdown() if arguments.markdown else found)
    if arguments.run is not None:
        add_files(
            arguments.run,
            [
                ExportedFile(
                    name=row.path.name,
                    format=row.format,
                    precision="",
                    bytes=row.bytes,
                    gzip_bytes=row.gzip_bytes,
                    milliseconds={str(size): times.wall for size, times in row.times.items()},
                    quartiles={str(size): times.quartiles for size, times in row.times.items()},
                )
                for row in found.rows
            ],
        )
    if not arguments.markdown:
        print(f"\n{_closing(found, arguments)}")


def _closing(found: Benchmark, arguments: argparse.Namespace) -> str:
    """Return the last lines: the fastest and the smallest file."""
    size = min(found.rows[0].times)
    first, *others = found.rows
    # Only what differs from the first file by more than the noise can be said to be faster or slower.
    surely = [row for row in others if not row.times[size].within_noise]
    fastest = min([first, *surely], key=lambda row: row.times[size].wall)
    smallest = min(found.rows, key=lambda row: row.gzip_bytes)
    speed = f"the fastest is {fastest.path}" if surely else "no time differs by more than the noise"
    worth = f"for a batch of {size}, {speed}; the smallest file is {smallest.path}."
    if not others:
        worth = ""
    if arguments.run is not None:
        return closing(f"the files in the run '{arguments.run}'.", worth, ["report", arguments.run])
    return closing("the table.", worth, ["benchmark", *arguments.files, "--markdown"])
