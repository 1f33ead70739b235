"""
Plots: a row of numbers over time as the points of an inline SVG.

Owns the geometry and its words for those who do not see it; colours are the style
sheet's.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from engine.clock import span

#: Width and height of the drawing in its own units.
WIDTH = 300.0
HEIGHT = 60.0


class Plot(Struct, frozen=True):
    """
    Attributes:
        title: What is drawn.
        kind: "bars" (an area from zero) or "line".
        path: The `d` of an SVG path, in a box of `WIDTH` by `HEIGHT`; "" for nothing.
        top: The largest value, in words.
        last: The newest value, in words.
        words: The plot for a screen reader.
        since: How far back it begins, in words.
    """

    title: str
    kind: str
    path: str
    top: str
    last: str
    words: str
    since: str


def plot(
    title: str,
    moments: Sequence[float],
    values: Sequence[float | None],
    said: Callable[[float], str],
    kind: str,
) -> Plot:
    """
    Draw values over time.

    Args:
        moments: Seconds before now, negative, rising; one for each value.
        values: None where nothing was measured: a line has a gap there.
        said: Writes a value for people.
        kind: "bars" or "line".
    """
    known = [value for value in values if value is not None]
    if not known or len(moments) < 2:
        return Plot(title, kind, "", "", "–", f"{title}: nothing measured yet", "")
    first = moments[0]
    most = max(known)
    across = WIDTH / -first if first < 0 else 0.0
    up = (HEIGHT - 2) / most if most > 0 else 0.0

    def at(moment: float, value: float) -> str:
        return f"{(moment - first) * across:.1f} {HEIGHT - 1 - value * up:.1f}"

    drawn: list[str] = []
    pen = "M"
    for moment, value in zip(moments, values):
        if value is None:
            pen = "M"
            continue
        # A gap after a lone value would make it a point without extent.
        drawn.append(f"{pen}{at(moment, value)}" + ("h0.1" if pen == "M" else ""))
        pen = "L"
    path = "".join(drawn)
    if kind == "bars":
        foot = f"{HEIGHT - 1:.1f}"
        path = f"M0.0 {foot}L{path[1:]}V{foot}Z"
    newest = values[-1]
    last = said(newest) if newest is not None else "–"
    since = span(-first)
    words = (
        f"{title} over the last {since}: lowest {said(min(known))}, highest "
        f"{said(most)}, newest {last}"
    )
    return Plot(title, kind, path, said(most), last, words, since)
