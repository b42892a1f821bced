"""Docstrings of this package, in the form that Griffe's Google style reads.

The docstrings follow Keras: doctest lines of "Example:" are not indented, one entry of "Args:" may describe
several arguments, and "Returns:" may be one line. Griffe wants an "Examples:" section with indented lines,
one argument per entry, and the description below its header. Names of the public API become links.
"""

from __future__ import annotations

import re

import griffe

HEADER = re.compile(
    r"^(Args|Attributes|Example|Examples|Raises|Reference|References|Returns|Warns):"
)
SEVERAL = re.compile(r"^( +)(\*{0,2}\w+(?:, \*{0,2}\w+)+): ")


class KerasStyle(griffe.Extension):
    """Rewrite every docstring of the package before it is parsed."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_) -> None:
        """Rewrite the docstrings of a package that has been read."""
        names = public_names(pkg)
        self._walk(pkg, pkg.path, names)

    def _walk(self, thing: griffe.Object, root: str, names: set[str]) -> None:
        if isinstance(thing, griffe.Attribute):
            describe_prunable_class(thing)
        if thing.docstring:
            thing.docstring.value = rewritten(thing.docstring.value, root, names - {thing.name})
        for member in thing.members.values():
            if not member.is_alias:
                self._walk(member, root, names)  # pyright: ignore[reportArgumentType]


def describe_prunable_class(attribute: griffe.Attribute) -> None:
    """Describe `PrunableDense = _define(keras.layers.Dense, "kernel")`, as the class does at run time."""
    found = re.fullmatch(r"_define\((keras\.layers\.\w+)(?:, )?(.*)\)", str(attribute.value))
    if not found or attribute.docstring:
        return
    kernels = re.findall(r"'([\w.]+)'", found[2])
    masked = ", ".join(f"`{name}`" for name in kernels)
    if not masked:
        attention = "the kernels of its queries, keys, values and outputs"
        masked = attention if found[2] else "the weights that belong to its channels"
    attribute.docstring = griffe.Docstring(
        f"`{found[1]}` with a mask for {masked}.\n\nIt takes the arguments of `{found[1]}`.",
        parent=attribute,
    )


def public_names(package: griffe.Module) -> set[str]:
    """Return the names of `__all__`."""
    return {str(name).strip("'\"") for name in package.exports or ()}


def rewritten(text: str, root: str, names: set[str]) -> str:
    """Return a docstring with Griffe's sections and with links to public names."""
    sections: list[list[str]] = [[]]
    for line in text.splitlines():
        if HEADER.match(line):
            sections.append([])
        sections[-1].append(line)
    # Griffe reads a header only after a blank line.
    return "\n".join(line for each in sections for line in (*_section(each, root, names), ""))


def _section(lines: list[str], root: str, names: set[str]) -> list[str]:
    header = HEADER.match(lines[0]) if lines else None
    kind = header[1] if header else ""
    if kind in ("Example", "Examples"):
        rest = [lines[0].partition(":")[2].strip(), *lines[1:]]
        indented = all(line.startswith("    ") for line in rest if line)
        # A blank line ends the block of `>>>` lines, so that text after it is text.
        return ["Examples:", *(line if indented or not line else f"    {line}" for line in rest)]
    lines = [_linked(line, root, names) for line in lines]
    if kind in ("Args", "Attributes"):
        return _one_entry_each(lines)
    if kind == "Returns":
        first = lines[0].partition(":")[2].strip()
        rest = [f"    {line.strip()}" if line else line for line in lines[1:]]
        return ["Returns:", *([f"    {first}"] if first else []), *rest]
    return lines


def _one_entry_each(lines: list[str]) -> list[str]:
    entries: list[list[str]] = []
    for line in lines:
        if not entries or re.match(r"^ {4}\S", line):
            entries.append([])
        entries[-1].append(line)
    result = []
    for first, *rest in entries:
        several = SEVERAL.match(first)
        names = several[2].split(", ") if several else [""]
        for name in names:
            changed = SEVERAL.sub(rf"\g<1>{name}: ", first) if several else first
            result += [changed, *(line for line in rest if line)]
    return result


def _linked(line: str, root: str, names: set[str]) -> str:
    if line.startswith("    ") and "`" not in line:
        return line
    return re.sub(
        r"(?<!\[)`(?:kgp\.)?(\w+)`(?!\])",
        lambda found: f"[{found[0]}][{root}.{found[1]}]" if found[1] in names else found[0],
        line,
    )
