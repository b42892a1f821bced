"""The colours of every chart, picture and page: one palette, for light and for dark paper."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """Colours as '#rrggbb'.

    Attributes:
        paper: Background of a page or a chart.
        card: Background of a box on the paper.
        ink: Text and axes.
        soft: Text of minor importance, such as notes.
        line: Borders and grid lines.
        accent: Links.
        bar: Filled part of a bar.
        track: Empty part of a bar.
        series: Lines of a chart, in the order of use.
    """

    paper: str
    card: str
    ink: str
    soft: str
    line: str
    accent: str
    bar: str
    track: str
    series: tuple[str, ...]

    def colour(self, number: int) -> str:
        """Return the colour of a series. After the last colour, the first colour is used again.

        Example:
        >>> LIGHT.colour(0), LIGHT.colour(8)
        ('#0072b2', '#0072b2')
        """
        return self.series[number % len(self.series)]

    def variables(self) -> dict[str, str]:
        """Return the colours by the names that the style sheet of a page uses.

        Example:
        >>> LIGHT.variables()["series-1"], DARK.variables()["paper"]
        ('#d55e00', '#0d1117')
        """
        names = ("paper", "card", "ink", "soft", "line", "accent", "bar", "track")
        single = {name: getattr(self, name) for name in names}
        return single | {f"series-{i}": colour for i, colour in enumerate(self.series)}


# Colour-blind readers can distinguish the series of both palettes (after Okabe & Ito).
LIGHT = Palette(
    paper="#ffffff",
    card="#f6f8fa",
    ink="#1f2328",
    soft="#59636e",
    line="#d1d9e0",
    accent="#0b5fa5",
    bar="#0072b2",
    track="#e4e9ee",
    series=(
        *("#0072b2", "#d55e00", "#009e73", "#aa4499"),
        *("#8a6400", "#3399cc", "#882255", "#555555"),
    ),
)
DARK = Palette(
    paper="#0d1117",
    card="#161b22",
    ink="#e6edf3",
    soft="#9da7b3",
    line="#30363d",
    accent="#7cbcff",
    bar="#3d9be0",
    track="#2a313a",
    series=(
        *("#58a6ff", "#ff9e64", "#3fb98f", "#d98cc8"),
        *("#e3b341", "#9bd3f5", "#e58ab0", "#b0b8c0"),
    ),
)

# Every picture of a mask: the colours of pruned and of kept weights. A cell between the two colours shows
# the share of kept weights.
PRUNED, KEPT = "#ecf0f4", LIGHT.accent
MASK_CAPTION = "Dark where a weight is kept, light where it is pruned."


def rgb(colour: str) -> tuple[int, int, int]:
    """Return a '#rrggbb' colour as three ints from 0 to 255.

    Example:
    >>> rgb("#0b5fa5")
    (11, 95, 165)
    """
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def mix(low: str, high: str, share: float) -> tuple[int, int, int]:
    """Return the colour between two '#rrggbb' colours, as three ints from 0 to 255.

    Args:
        low: Colour for a share of 0.
        high: Colour for a share of 1.
        share: Float in [0, 1].

    Example:
    >>> mix("#000000", "#ffffff", 0.2)
    (51, 51, 51)
    """
    red, green, blue = (
        round(a + share * (b - a)) for a, b in zip(rgb(low), rgb(high), strict=True)
    )
    return red, green, blue
