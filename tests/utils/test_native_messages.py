"""What C++ writes to the standard error is hidden within the context, and shown after it."""

import os

import pytest

from keras_ganprune.utils import native_messages


def test_what_is_written_past_python_is_hidden(capfd):
    os.write(2, b"before ")
    with native_messages.hidden():
        os.write(2, b"pages ")
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_an_error_passes_and_the_standard_error_is_back(capfd):
    with pytest.raises(ValueError, match="mine"), native_messages.hidden():
        raise ValueError("mine")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
