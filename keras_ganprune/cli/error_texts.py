"""The text of an error in the words of the command line: flags in the place of Python's arguments."""

from __future__ import annotations

import re
from typing import Any

from keras_ganprune.cli.arguments import dest_of, is_flag

# `name` or `name=value`, and `name(...)`, `Name`, `a.b`
_ARGUMENT = re.compile(r"`(\w+)(?:=([^`]*))?`")
_VALUE = re.compile(r"\b(\w+)='([^']*)'((?:, '[^']*')*(?: or '[^']*')?)")
_PYTHON = re.compile(r"`[\w.]+\(|`[\w.]+=|`[A-Z]\w*`|`[a-z_]+`|\w+='[^']*'")
# An alternative that the command line does not have: 'a `Criterion`, a text'.
_INSTANCE = re.compile(r"an? `[A-Z]\w*`(, | or )|(, | or )(an? `[A-Z]\w*`|a dict\b)(?! of)")
_SENTENCE = re.compile(r"(?<=[.!?]) +(?=[A-Z`'\[])")
# Arguments of objects that the command line makes of a text.
_PART_OF = {
    "shape": "granularity",
    "keep": "granularity",
    "of": "granularity",
    "weights": "criterion",
}
# What a sentence of Python says -> the argument of the command that does it, and how.
_INSTEAD = {
    "custom_objects": ("modules", "Name the module of your own classes: `--import MODULE`."),
    "register_prunable": ("modules", "Name the module of your own classes: `--import MODULE`."),
    "`strict=False`": ("macs", "Give --sparsity, --macs, --parameters or --bytes to cut channels."),
    "`budget=`": ("macs", "Give --sparsity, --macs, --parameters, --bytes or --latency."),
}


def flags_of(records: list[dict[str, Any]]) -> dict[str, str]:
    """Return the flags of a command by the names of the arguments in Python.

    Args:
        records: The recorded arguments of the command.

    Example:
    >>> flags_of([{"flags": ["--round-to"], "type": "int"}])["round_to"]
    '--round-to'
    """
    flags = {dest_of(record): record["flags"][0] for record in records if is_flag(record)}
    named = {record["name"]: record["flags"][0] for record in records if "name" in record}
    places = {dest_of(record): record for record in records if not is_flag(record)}
    known_as = {name: flags[flag] for name, flag in _PART_OF.items() if flag in flags}
    file = {"path": "MODEL" if "model" in places else "RUN"}
    shown = {name: str(record.get("metavar", name.upper())) for name, record in places.items()}
    return {**file, **known_as, **shown, **flags, **named}


def in_words_of(text: str, flags: dict[str, str]) -> str:
    """Return the text of an error with flags, without advice that is for Python only.

    Args:
        text: Text of an error of this package.
        flags: Result of `flags_of`.

    Example:
    >>> in_words_of("`round_to` must be a positive int. Received: 0.", {"round_to": "--round-to"})
    '--round-to must be a positive int. Received: 0.'
    >>> in_words_of("Unknown loss 'x'. Or pass a `GANLoss` instance.", {})
    "Unknown loss 'x'."
    """

    def flag(match: re.Match[str]) -> str:
        name, value = match[1], match[2] or ""
        if name not in flags:
            return match[0]
        switch = value in ("", "True")
        return flags[name] if switch else f"{flags[name]} {value.strip(chr(39))}"

    def value_of_flag(match: re.Match[str]) -> str:
        return (
            f"{flags[match[1]]} {match[2]}{match[3]}".replace("'", "")
            if match[1] in flags
            else match[0]
        )

    lines = []
    for line in text.splitlines():
        line = _VALUE.sub(value_of_flag, _ARGUMENT.sub(flag, line))
        first, *others = _SENTENCE.split(line)
        kept = [first]
        for sentence in others:
            instead = [
                fix
                for name, (flag_of, fix) in _INSTEAD.items()
                if name in sentence and flag_of in flags
            ]
            if instead:
                kept += [fix for fix in instead[:1] if fix not in kept]
            elif sentence.startswith("Received") or not _PYTHON.search(sentence):
                kept.append(sentence)
        lines.append(" ".join(kept))
    # A text may name both already: (`overwrite=True`, `--overwrite`).
    text = _INSTANCE.sub("", re.sub(r"(--[\w-]+), `\1`", r"\1", "\n".join(lines)))
    return text.replace(" or None. Received", ". Received")
