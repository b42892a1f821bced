"""The parser of the command line, from the recorded arguments: it needs no Keras."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from keras_ganprune.cli.arguments import add_to, is_flag, recorded
from keras_ganprune.errors import InvalidArgumentError, unknown_name

_PROGRAM = "keras-ganprune"
_DESCRIPTION = (
    "Prune Keras 3 GANs, and any other Keras 3 model, inside model.fit; make them smaller; export the "
    "result."
)
_EXAMPLES = (
    "keras-ganprune demo --quick          # train, prune and export a GAN on real digits",
    "keras-ganprune compress --help       # make your own model sparse or small",
)
_VERBOSE = {
    "flags": ["--verbose"],
    "action": "store_true",
    "help": "Show the messages of TensorFlow and of other libraries. Defaults to no.",
}
_VERSIONS = ("keras", "tensorflow", "jax", "torch")


def application_named(argv: Sequence[str]) -> str | None:
    """Return the application that a command begins with, or None.

    Raises:
        InvalidArgumentError: There is no application with this name.

    Example:
    >>> application_named(["demo", "denoising", "--quick"]), application_named(["demo", "--quick"])
    ('denoising', None)
    """
    command = recorded()["commands"].get(argv[0]) if argv else None
    if not command or "applications" not in command or len(argv) < 2 or argv[1].startswith("-"):
        return None
    known = recorded()["applications"]
    if argv[1] not in known:
        raise InvalidArgumentError(unknown_name("application", argv[1], known))
    return argv[1]


def records_of(command: str, application: str | None = None) -> list[dict[str, Any]]:
    """Return the recorded arguments of a command, with the options of an application or without."""
    found = recorded()["commands"][command]
    own = found["arguments"] if application is None else found["applications"][application]
    return [*own, _VERBOSE]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments. Help and the version are printed, and end the process.

    Raises:
        InvalidArgumentError: The command, an option or an application is unknown, or the name of an
            application comes after its options.
    """
    commands = recorded()["commands"]
    if argv and not argv[0].startswith("-") and argv[0] not in (*commands, "completion"):
        raise InvalidArgumentError(unknown_name("command", argv[0], [*commands, "completion"]))
    application = application_named(argv)
    arguments, unknown = parser(application).parse_known_args(argv)
    flags = [word for word in unknown if word.startswith("-")]
    if flags:
        records = records_of(arguments.command, application)
        known = [record["flags"][0] for record in records if is_flag(record)]
        words = " ".join(["keras-ganprune", arguments.command, *filter(None, [application])])
        guess = unknown_name("option", flags[0].partition("=")[0], known).splitlines()[0]
        raise InvalidArgumentError(f"{guess} See `{words} --help`.")
    if unknown:
        raise InvalidArgumentError(
            f"`keras-ganprune {arguments.command}` takes fewer values. Received also: {' '.join(unknown)}. "
            "Leave them out, or write the option that they belong to before them."
        )
    _check_place(arguments, application)
    return arguments


def _check_place(arguments: argparse.Namespace, application: str | None) -> None:
    """Raise unless the name of the application comes before its options, which depend on it."""
    given = getattr(arguments, "application", None)
    if given == application:
        return
    if given not in recorded()["applications"]:
        raise InvalidArgumentError(unknown_name("application", given, recorded()["applications"]))
    raise InvalidArgumentError(
        "The name of an application must come before its options. Received: "
        f"'{given}' after them. Write `keras-ganprune {arguments.command} {given}` first."
    )


def parser(application: str | None = None, known: bool = False) -> argparse.ArgumentParser:
    """Return the parser of all commands.

    Args:
        application: Application whose options `demo` and `sweep` have. Defaults to None: those of image
            generation.
        known: Whether the parser knows the valid values of all arguments, for completion. Otherwise wrong
            values are errors of this package, with the most similar value. Defaults to False.
    """
    found = argparse.ArgumentParser(
        prog=_PROGRAM,
        description=_filled(_DESCRIPTION),
        epilog=_epilog(_EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--version", action="version", version=_version())
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in recorded()["commands"].items():
        one = commands.add_parser(
            name,
            help=command["help"],
            description=_filled(command["help"]),
            epilog=_epilog(command["examples"]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        own = application if "applications" in command else None
        add_to(one, records_of(name, own), known)
    completion = commands.add_parser(
        "completion", help="Print the file that completes commands and options in a shell."
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="Your shell.")
    return found


def _filled(text: str) -> str:
    width = max(shutil.get_terminal_size().columns - 2, 40)
    return textwrap.fill(text.replace("%%", "%"), width, break_on_hyphens=False)


def _epilog(examples: Sequence[str]) -> str:
    return "\n  ".join(["examples:", *examples])


def _version() -> str:
    """Return the versions of the package and of what it runs on, without importing them."""
    others = ", ".join(f"{name} {version}" for name in _VERSIONS if (version := _installed(name)))
    own = _installed(_PROGRAM) or "that is not installed"
    return f"{_PROGRAM} {own} (Python {platform.python_version()}, {others})"


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
