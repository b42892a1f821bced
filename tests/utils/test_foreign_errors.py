"""What an error of Keras says, in one sentence."""

import pytest

from keras_ganprune.utils.foreign_errors import sentence_of, why_not_on_symbols

SAID = "Exception encountered"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Wrong.", "TypeError: Wrong."),
        (f"Error with config={'x' * 400}.\n\n{SAID}: No b.", "TypeError: No b."),
        (f"{SAID} when calling A.\n\n\x1b[1mNo b.\x1b[0m\n\nArguments received by A", "TypeError: No b."),
        ("x" * 400, "TypeError"),
    ],
)  # fmt: skip
def test_the_useful_sentence(text, expected):
    assert sentence_of(TypeError(text)) == expected


def test_a_layer_that_returns_none_is_named():
    error = ValueError("Operation <Own name=inner, built=True> returned. Non-tensor received: None")
    assert "'inner' (Own) returns `None`" in why_not_on_symbols(error)
