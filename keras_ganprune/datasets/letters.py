"""Names as letters: a to z without accents, and class numbers for the networks."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import numpy as np

from keras_ganprune.errors import DataError

#: Number of letters of the longest and of the shortest name.
LENGTH, SHORTEST = 12, 4
#: All symbols. The first one fills a name up to `LENGTH`.
SYMBOLS = " abcdefghijklmnopqrstuvwxyz"

# Letters that Unicode does not take apart into a letter of a to z and an accent.
_LETTERS = str.maketrans(
    dict(zip("ıəłøđðħ", "ialoddh", strict=True)) | {"ß": "ss", "æ": "ae", "œ": "oe", "þ": "th"}
)
# Apostrophes and the signs by which Arabic, Hebrew and Russian sounds are written.
_SIGNS = frozenset("'’‘`´ʻʼʽʾʿʹ")


def fold(name: str) -> str:
    """Return a name in small letters without accents and apostrophes. All other characters stay.

    Args:
        name: Any text.

    Example:
    >>> fold("Płock"), fold("Wǔhàn"), fold("Qing’an"), fold("Bad Köstritz")
    ('plock', 'wuhan', 'qingan', 'bad kostritz')
    """
    parts = unicodedata.normalize("NFKD", name.strip().lower().translate(_LETTERS))
    return "".join(c for c in parts if not unicodedata.combining(c) and c not in _SIGNS)


def fits(name: str) -> bool:
    """Return whether a folded name has 4 to 12 letters from a to z, and nothing else.

    Example:
    >>> fits("plock"), fits("bad kostritz"), fits("ulm")
    (True, False, False)
    """
    return SHORTEST <= len(name) <= LENGTH and name.isascii() and name.isalpha() and name.islower()


def encode(names: Iterable[str]) -> np.ndarray:
    """Return the numbers of the letters of names: a is 1, z is 26, and 0 follows the last letter.

    Args:
        names: Names of at most 12 letters from a to z. A space is a gap, with the number 0.

    Returns: int32 array (n, 12).

    Raises:
        DataError: A name is too long, or has another character.

    Example:
    >>> encode(["ulm"])
    array([[21, 12, 13,  0,  0,  0,  0,  0,  0,  0,  0,  0]], dtype=int32)
    """
    names = list(names)
    codes = np.zeros((len(names), LENGTH), "int32")
    for row, name in zip(codes, names, strict=True):
        numbers = [SYMBOLS.find(letter) for letter in name]
        if len(name) > LENGTH or min(numbers, default=0) < 0:
            raise DataError(
                f"A name must have at most {LENGTH} letters from a to z. Received: {name!r}. `fold` "
                "removes accents, and `fits` says which names can be used."
            )
        row[: len(name)] = numbers
    return codes


def decode(codes: np.ndarray) -> list[str]:
    """Return the names for numbers of letters. A gap inside a name is a space.

    Args:
        codes: Int array (n, length) of numbers from 0 to 26.

    Example:
    >>> decode(encode(["ulm", "bonn"]))
    ['ulm', 'bonn']
    """
    return ["".join(SYMBOLS[number] for number in row).rstrip() for row in codes]
