"""docs/guarantees.md is true: each of its cells is measured again on this backend."""

import importlib.util
import json
import pathlib

import computed
import guarantees
import pytest
import travel
import writers

DOCS = pathlib.Path(__file__).parents[1] / "docs"
MEASURED = json.loads(guarantees.path_of(guarantees.BACKEND).read_text(encoding="utf-8"))
# One network of each fault that was found, for the everyday suite.
EVERYDAY = {
    ("strip", "normalization"),
    ("strip", "fourier"),
    ("strip", "own_relu"),
    ("strip in place", "no_config"),
    ("shrink", "normalization"),
    ("shrink(sparsity=)", "forgetful"),
    ("Shrink", "normalization"),
    ("average", "buffer"),
}


def _cells():
    for cell in guarantees.cells():
        yield pytest.param(*cell, marks=() if cell in EVERYDAY else pytest.mark.full)


@pytest.mark.parametrize(("route", "name"), _cells())
def test_a_network_on_a_route(route, name):
    assert guarantees.outcome(route, name) == MEASURED["outputs"][name][route]


@pytest.mark.full
@pytest.mark.parametrize("name", list(writers.everything()))
def test_zeros_hold(name):
    assert guarantees.zeros_hold(name) == MEASURED["zeros"][name]


@pytest.mark.full
@pytest.mark.parametrize(("way", "make"), list(travel.cells()))
def test_masks_travel(way, make):
    assert guarantees.travels(way, make) == MEASURED["travel"][way][make]


@pytest.mark.full
@pytest.mark.parametrize(("route", "name"), computed.cells())
def test_computed_kernels_keep_zeros(route, name):
    assert guarantees.keeps_zeros(route, name) == MEASURED["computed"][route][name]


def test_the_tables_are_complete():
    for kind, cells in (("travel", travel.cells()), ("computed", computed.cells())):
        assert {(row, c) for row, r in MEASURED[kind].items() for c in r} == set(cells)
    assert set(MEASURED["zeros"]) == set(writers.everything())
    assert {(r, n) for n, row in MEASURED["outputs"].items() for r in row} == set(
        guarantees.cells()
    )


def test_the_page_shows_what_was_measured():
    spec = importlib.util.spec_from_file_location("make_guarantees", DOCS / "make_guarantees.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert {way for way, _ in travel.cells()} <= set(make.WAYS)
    assert set(make.COMPUTED) == set(computed.KERNELS)
    assert set(make.NETWORKS) == set(guarantees.ZOO) and set(make.ROUTES) == set(guarantees.ROUTES)
    assert make.PAGE.read_text(encoding="utf-8") == make.page(), (
        "run `python docs/make_guarantees.py`"
    )
