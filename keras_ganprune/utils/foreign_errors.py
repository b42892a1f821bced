"""What an error of Keras or of a framework says, in few and whole sentences."""

from __future__ import annotations

import re

_MOST = 240  # characters


def sentence_of(error: BaseException) -> str:
    """Return the type and the first sentences of an error, without the preamble and the arguments of Keras.

    Nothing is cut in the middle of a sentence. An error without a short first sentence gives its type only.
    A configuration that Keras quotes, and all behind it, is left out.

    Args:
        error: The error.

    Example:
    >>> sentence_of(ValueError("The shape is wrong. It must have 3 axes, such as:\\n\\n(1, 2)"))
    'ValueError: The shape is wrong.'
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    if isinstance(error, NotImplementedError) and "get_config" in text:
        return "it has no `get_config` that returns the arguments of its constructor"
    if "Exception encountered" in text:
        # "... when calling X.call().", then the text; or ": " and the text, behind a configuration.
        last = text.rpartition("Exception encountered")[2]
        text = last[1:] if last.startswith(":") else last.partition("\n")[2]
    # The first paragraph; examples and the arguments of the call follow.
    text = re.split(r"\n\s*\n|\n```|Arguments received by", text.strip())[0]
    text = re.split(r" ?(?:using )?(?:[Ff]ull object )?[Cc]onfig\b[=:]", " ".join(text.split()))[0]
    kind = type(error).__name__
    if len(text) > _MOST or text.endswith(":"):
        whole = re.findall(r".*?[.!?](?= |$)", text[:_MOST])
        kept = ""
        for sentence in whole:
            if sentence.rstrip().endswith((":", "e.g.", "i.e.")):
                break
            kept += sentence
        text = kept.strip()
    return f"{kind}: {text}" if text else kind


def why_not_on_symbols(error: BaseException) -> str:
    """Return why a layer cannot be called on `keras.Input`s, as a clause that begins with "it" or "calling".

    Args:
        error: The error of that call.
    """
    text = str(error)
    frameworks = {
        "cannot be used as input to a TensorFlow function": "TensorFlow",
        "cannot be used as input to a JAX": "JAX",
        "KerasTensor is not a valid JAX type": "JAX",
        "torch": "PyTorch",
    }
    for part, name in frameworks.items():
        if part in text and "KerasTensor" in text:
            return f"it calls functions of {name}, which take no symbols (`keras.Input`)"
    none = re.search(r"Operation <(\w+) name=([^,>]+).*Non-tensor received: None", text, re.DOTALL)
    if none is not None:
        return f"its layer '{none[2]}' ({none[1]}) returns `None`, where symbols allow tensors only"
    return f"calling it on symbols failed ({sentence_of(error)})"
