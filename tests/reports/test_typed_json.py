"""The reader of JSON files: it accepts what the annotations say, and names the field of anything else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_ganprune.reports.run import _typed_json


class Point(NamedTuple):
    step: int
    value: float


@dataclass(frozen=True)
class Inner:
    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Outer:
    count: int
    ratio: float | None
    inner: Mapping[str, Inner]
    pair: tuple[str, int]
    anything: Any
    flag: bool = False


GOOD = {
    "count": 3,
    "ratio": 2,
    "inner": {"a": {"name": "x", "points": [[1, 0.5], [2, 1]]}},
    "pair": ["a", 1],
    "anything": [None],
    "of a later version": 1,
}


def test_a_good_file_is_read():
    outer = _typed_json.read(Outer, GOOD)
    inner = Inner("x", (Point(1, 0.5), Point(2, 1)))
    assert outer == Outer(3, 2, {"a": inner}, ("a", 1), [None])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"count": 1.5}, "count must be an int. Found: 1.5"),
        ({"count": True}, "count must be an int. Found: True"),
        ({"ratio": "high"}, "ratio must be a number. Found: 'high'"),
        ({"flag": 1}, "flag must be true or false. Found: 1"),
        ({"pair": ["a"]}, "pair must be a list of 2 values"),
        ({"pair": [1, 1]}, r"pair\[0\] must be a text. Found: 1"),
        ({"inner": []}, r"inner must be an object. Found: \[\]"),
        ({"inner": {"a": {"name": "x"}}}, r"'inner\['a'\]\.points' is missing"),
        (
            {"inner": {"a": {"name": "x", "points": [[1, None]]}}},
            r"inner\['a'\]\.points\[0\]\[1\] must be a number. Found: None",
        ),
    ],
)
def test_a_wrong_field_is_named(change, text):
    with pytest.raises(_typed_json.FieldError, match=text):
        _typed_json.read(Outer, GOOD | change)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=5,
)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.sampled_from([key for key in GOOD if key in Outer.__annotations__]), JSON)
def test_any_json_is_read_or_refused(field, value):
    content = json.loads(json.dumps(GOOD | {field: value}))
    try:
        outer = _typed_json.read(Outer, content)
    except _typed_json.FieldError as error:
        assert field in str(error)
    else:
        assert isinstance(outer, Outer)
