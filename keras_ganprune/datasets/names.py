"""`Names`: names with or without labels, and where they come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras_ganprune.datasets import letters
from keras_ganprune.errors import DataError

_OWN_DATA = "the user's own data"


@dataclass(frozen=True, eq=False)
class Names:
    """Different names of 4 to 12 letters from a to z, in random order.

    Attributes:
        names: The names. No name is there twice.
        labels: int64 array (n,), number of the class of each name, or None.
        classes: Words for the classes, such as names of countries, or ().
        description: One sentence: what the names are, and how many.
        license: Licence of the names. Defaults to "the user's own data".
        citation: Who made the list, and where. Defaults to "the user's own data".
    """

    names: tuple[str, ...]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    description: str
    license: str = _OWN_DATA
    citation: str = _OWN_DATA

    def __len__(self) -> int:
        return len(self.names)

    def part(self, begin: int, end: int) -> Names:
        """Return the names from number `begin` up to, without, number `end`."""
        labels = None if self.labels is None else self.labels[begin:end]
        return replace(self, names=self.names[begin:end], labels=labels)

    def split(self, most: int = 5000) -> tuple[Names, Names, Names]:
        """Return the names for training, validation and test. No name is in two of them.

        Validation and test get a tenth each, and `most` names at most.

        Args:
            most: Positive int, largest number of names for validation and for test. Defaults to 5000.
        """
        held_out = min(most, len(self) // 10)
        return (
            self.part(2 * held_out, len(self)),
            self.part(held_out, 2 * held_out),
            self.part(0, held_out),
        )


def unique(names: Iterable[str]) -> list[str]:
    """Return the names that can be used, folded, each once, in random order that is always the same.

    Example:
    >>> sorted(unique(["Köln", "Koln", "Ulm", "Bonn", "New York"]))
    ['bonn', 'koln']
    """
    usable = sorted({name for name in map(letters.fold, names) if letters.fits(name)})
    np.random.default_rng(0).shuffle(usable)
    return usable


def labelled(
    pairs: Iterable[tuple[str, str]], most: int | None = None
) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    """Return (names, numbers of their classes, classes) of the names that can be used.

    A name that belongs to two classes is left out.

    Args:
        pairs: (name, label) of each name.
        most: Largest number of names of a class, or None for all. Defaults to None.

    Example:
    >>> sorted(labelled([("Köln", "DE"), ("Nice", "FR"), ("Paris", "FR"), ("Paris", "US")])[0])
    ['koln', 'nice']
    """
    found: dict[str, set[str]] = {}
    for name, label in pairs:
        found.setdefault(letters.fold(name), set()).add(label)
    of = {name: label for name, (label, *more) in found.items() if not more}
    taken: list[str] = []
    count = Counter[str]()
    for name in unique(of):
        count[of[name]] += 1
        if most is None or count[of[name]] <= most:
            taken.append(name)
    classes = tuple(sorted(count))
    numbers = {label: number for number, label in enumerate(classes)}
    return taken, np.array([numbers[of[name]] for name in taken], "int64"), classes


def check_enough(
    names: Sequence[str], labels: np.ndarray | None, classes: Sequence[str], least: int, what: str
) -> None:
    """Raise an error if there are too few names, or too few of a class.

    Args:
        names: Names that can be used.
        labels: Number of the class of each name, or None.
        classes: Words for the classes.
        least: Smallest number of names, or of names of each class if there are labels.
        what: Where the names come from, such as "The file 'names.txt'".

    Raises:
        DataError: There are too few names, one class, or too few names of a class.
    """
    usable = "names of 4 to 12 letters, without spaces"
    if labels is None:
        if len(names) < least:
            raise DataError(
                f"{what} must have at least {least:,} different {usable}. It has {len(names):,}. Add names."
            )
        return
    if len(classes) < 2:
        raise DataError(
            f"{what} must have {usable}, of at least two classes. It has {len(names):,} of "
            f"{', '.join(map(repr, classes)) or 'no class'}. Add names with another label."
        )
    counts = dict(zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True))
    few = {label: count for label, count in counts.items() if count < least}
    if few:
        listed = ", ".join(f"{label!r}: {count}" for label, count in list(few.items())[:5])
        raise DataError(
            f"{what} must have at least {least} different {usable}, of each class. Too few: {listed}"
            f"{', ...' if len(few) > 5 else ''}. Add names, or remove these classes."
        )
