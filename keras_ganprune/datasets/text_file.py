"""Names in a text file of the user."""

from __future__ import annotations

import csv
import os
import pathlib

from keras_ganprune.datasets import names
from keras_ganprune.datasets.names import Names
from keras_ganprune.errors import DataError
from keras_ganprune.utils import annotated

_LEAST, _LEAST_OF_A_CLASS = 200, 20
_HEADER = ("name", "label")


def names_file(path: str | os.PathLike[str], labels: bool = False) -> Names:
    """Return the names of a text file. Empty lines, and names that cannot be used, are left out.

    A name can be used if it has 4 to 12 letters. Accents and apostrophes are removed first.

    Args:
        path: Path of a UTF-8 text file with one name per line. With labels, each line is
            'name<TAB>label', or 'name,label' in a file whose name ends in '.csv'.
        labels: Whether each name has a label. Defaults to False.

    Returns:
        `Names`, with labels if `labels` is True.

    Raises:
        DataError: `path` is not a file, is not UTF-8, or has fewer than 200 names. With labels: a line has
            no label, there is one class only, or a class has fewer than 20 names.

    Example:
    >>> kgp.datasets.names_file("names.txt")  # doctest: +SKIP
    """
    annotated.check(names_file, locals(), "labels")
    path = pathlib.Path(path)
    what = f"The file '{path}'"
    lines = _lines(path)
    if not any(line.strip() for line in lines):
        raise DataError(f"{what} must have one name per line. All its lines are empty.")
    if not labels:
        found, numbers, classes = names.unique(lines), None, ()
        names.check_enough(found, None, (), _LEAST, what)
    else:
        found, numbers, classes = names.labelled(_pairs(path, lines))
        names.check_enough(found, numbers, classes, _LEAST_OF_A_CLASS, what)
    of = f" in {len(classes)} classes" if labels else ""
    text = f"{len(found):,} names{of} from {sum(map(bool, map(str.strip, lines))):,} lines of '{path.name}'"
    return Names(tuple(found), numbers, classes, text)


def _lines(path: pathlib.Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(
            f"The names must be in a text file that can be read. Received: '{path}' ({error.strerror})."
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"The file '{path}' must be UTF-8 text. Line {line} is not. Open the file in an editor and save "
            "it with the encoding UTF-8."
        ) from error


def _pairs(path: pathlib.Path, lines: list[str]) -> list[tuple[str, str]]:
    """Return the (name, label) of each line that is not empty."""
    mark, form = (",", "name,label") if path.suffix.lower() == ".csv" else ("\t", "name<TAB>label")
    quoting = csv.QUOTE_MINIMAL if mark == "," else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=mark, quoting=quoting)
    pairs = []
    for fields in reader:
        cells = [field.strip() for field in fields]
        if not any(cells):
            continue
        if len(cells) != 2 or not all(cells):
            raise DataError(
                f"Each line of '{path}' must be '{form}', and neither part may be empty. Line "
                f"{reader.line_num} is {mark.join(fields)!r}. Give each name one label."
            )
        pairs.append((cells[0], cells[1]))
    if pairs and tuple(cell.lower() for cell in pairs[0]) == _HEADER:
        del pairs[0]
    return pairs
