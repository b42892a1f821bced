"""Arguments that are checked by their annotations."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pytest

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.utils import annotated


def call(
    switch: bool = True,
    count: int = 1,
    share: float | None = None,
    name: str = "x",
    path: str | os.PathLike[str] = ".",
    mode: Literal["same", "valid"] = "same",
    sizes: int | Sequence[int] = (1,),
    names: Sequence[str] | None = None,
    pair: tuple[float, float] = (0.0, 1.0),
    table: Mapping[str, float] | None = None,
    function: Callable[[int], int] | None = None,
    array: np.ndarray | None = None,
    anything: Any = None,
    prefix: str = "",
):
    annotated.check(call, locals())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("switch", np.True_),
        ("count", np.int64(3)),
        ("share", 1),
        ("share", np.float32(0.5)),
        ("path", pathlib.Path("a")),
        ("mode", "valid"),
        ("sizes", 3),
        ("sizes", [1, 2]),
        ("sizes", np.array([1, 2])),
        ("names", ["a"]),
        ("names", []),
        ("pair", [0, 1]),
        ("table", {}),
        ("function", len),
        ("array", np.ones(2)),
        ("anything", object()),
        ("prefix", ""),
    ],
)
def test_what_fits(name, value):
    call(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("switch", 1, "`switch` must be True or False. Received: 1."),
        ("count", 1.5, "`count` must be an int. Received: 1.5."),
        ("count", True, "`count` must be an int. Received: True."),
        ("share", float("nan"), "`share` must be a finite number or None. Received: nan."),
        ("share", "0.5", "`share` must be a finite number or None. Received: '0.5'."),
        ("share", np.ones(2), "`share` must be a finite number or None"),
        ("name", "", "`name` must be a text that is not empty. Received: ''."),
        ("path", None, "`path` must be a path. Received: None."),
        ("path", b"a", "`path` must be a path"),
        ("mode", "vald", "`mode` must be one of .* Did you mean 'valid'"),
        ("mode", 3, "`mode` must be 'same' or 'valid'. Received: 3."),
        ("sizes", [1.5], r"`sizes` must be an int or a list \(an int in each place\)"),
        ("names", "ab", "`names` must be a list"),
        ("names", np.array(["a"]), "`names` must be a list"),
        ("pair", 3, "`pair` must be a list"),
        ("table", [1], "`table` must be a dict or None"),
        ("function", 3, "`function` must be a function or None"),
        ("array", [1], "`array` must be an array or None"),
        ("prefix", None, "`prefix` must be a text"),
    ],
)
def test_what_does_not_fit(name, value, text):
    with (
        pytest.raises(ArgumentTypeError, match=text)
        if name != "mode"
        else pytest.raises(InvalidArgumentError, match=text)
    ):
        call(**{name: value})


def test_some_arguments_only():
    def both(a: int, b: int):
        annotated.check(both, locals(), "a")

    both(1, "b")
    with pytest.raises(ArgumentTypeError, match="`a` must be an int"):
        both("a", 1)
