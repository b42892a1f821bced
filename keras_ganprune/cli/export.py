"""`keras-ganprune export`: a saved model as a stripped SavedModel."""

from __future__ import annotations

import argparse

from keras_ganprune.cli import saved_models
from keras_ganprune.exporters import export_saved_model
from keras_ganprune.utils import files

HELP = "Write a saved model as a stripped SavedModel."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "model",
        help="A .keras file. If it contains a GAN of this package, the generator is exported.",
    )
    parser.add_argument("output", help="Folder to write.")
    saved_models.add_live(parser, "Export")
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace an existing folder. Defaults to no."
    )
    saved_models.add_import(parser)


def run(arguments: argparse.Namespace) -> None:
    """Export the model and print the comparison with it.

    Raises:
        OutputError: The folder exists or cannot be written.
        FileFormatError: The file does not exist or cannot be loaded.
        ExportError: The outputs of the SavedModel differ from those of the model.
    """
    files.check_new_folder(arguments.output, arguments.overwrite)
    files.check_saved_model_path(arguments.output)
    model = saved_models.load(arguments.model, arguments.modules)
    average = saved_models.AVERAGED in saved_models.networks(model) and not arguments.live
    print(
        export_saved_model(model, arguments.output, average=average, overwrite=arguments.overwrite)
    )
