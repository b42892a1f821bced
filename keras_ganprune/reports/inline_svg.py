"""SVG charts as elements of an HTML page, with the colours of its style sheet."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from keras_ganprune.reports.images import Picture
from keras_ganprune.utils.palette import LIGHT

_NAMESPACE = re.compile(r"^\{[^}]*\}")
_DROPPED = {"metadata", "style"}
# The colours become variables, which the style sheet sets for light and for dark pages.
_COLOURS = {
    **{colour: f"var(--series-{i})" for i, colour in enumerate(LIGHT.series)},
    LIGHT.ink: "var(--ink)",
    LIGHT.line: "var(--line)",
    LIGHT.paper: "none",
}


def inline(picture: Picture, prefix: str) -> str:
    """Return an SVG picture as HTML.

    Args:
        picture: A picture of `charts`.
        prefix: Text that is unique in the page. It makes the ids of different pictures different.
    """
    root = ElementTree.fromstring(picture.data)
    for parent in list(root.iter()):
        for child in list(parent):
            if _NAMESPACE.sub("", child.tag) in _DROPPED:
                parent.remove(child)
    for element in root.iter():
        element.tag = _NAMESPACE.sub("", element.tag)
        attributes = dict(element.attrib)
        element.attrib.clear()
        for key, value in attributes.items():
            name = _NAMESPACE.sub("", key)
            element.set(name, _attribute(name, value, prefix))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", picture.alt)
    return ElementTree.tostring(root, encoding="unicode", method="html")


def _attribute(name: str, value: str, prefix: str) -> str:
    if name == "id":
        value = prefix + value
    elif name == "href":
        value = value.replace("#", f"#{prefix}", 1)
    value = value.replace("url(#", f"url(#{prefix}")
    for colour, variable in _COLOURS.items():
        value = value.replace(colour, variable)
    return value
