"""
The rows of `perf/run` as a table and as a picture.

Owns the form only: results/rows.json, the table between two marks of README.md, and
rows.svg, which takes its colours from the reader's light or dark page.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from perf import rig

BEGIN, END = "<!-- rows of perf/run -->", "<!-- end of the rows -->"


@dataclass
class Line:
    """
    One row.

    Attributes:
        ours, baseline: Figures of each run, in `unit`.
        asked: Most of ours as a share of the baseline's; `absolute`: of ours itself.
        least: Least of ours as a share of the baseline's.
        faster: Least records/s as a multiple of the baseline's.
        speeds, rates: That multiple, and our records/s, of each run.
        others: Cores that strangers used meanwhile.
        failed: Why a run failed, in words.
    """

    name: str
    title: str
    unit: str
    against: str
    asked: float | None = None
    least: float | None = None
    faster: float | None = None
    absolute: bool = False
    failed: str = ""
    ours: list[float] = field(default_factory=list)
    baseline: list[float] = field(default_factory=list)
    speeds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    others: float = 0.0

    def shares(self) -> list[float]:
        """Ours by the baseline's, run by run."""
        return [a / b for a, b in zip(self.ours, self.baseline, strict=False) if b]

    def judged(self) -> list[float]:
        """What `asked` or `least` is about."""
        return self.ours if self.absolute else self.shares()

    def missed(self) -> list[str]:
        """What was asked for and is not had, in words."""
        found = []
        if values := self.judged():
            middle = statistics.median(values)
            if self.asked is not None and middle > self.asked:
                found.append(f"{number(middle)} for {number(self.asked)}")
            if self.least is not None and middle < self.least:
                found.append(f"{number(middle)} for {number(self.least)}")
        if self.speeds and self.faster is not None:
            middle = statistics.median(self.speeds)
            if middle < self.faster:
                found.append(f"{number(middle)} x records/s for {self.faster:g}")
        return found


def number(value: float) -> str:
    """As many digits as say something."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def spread(values: Sequence[float]) -> str:
    """Median, and least to most behind it."""
    if not values:
        return ""
    middle = number(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values))} to {number(max(values))})"


def table(lines: Sequence[Line]) -> str:
    """The rows in Markdown."""
    found = [
        "| row | engine | baseline | share (least to most) | asked | records/s, times |",
        "|---|---|---|---|---|---|",
    ]
    for line in lines:
        if not line.ours:
            why = line.failed or "not measured"
            found.append(f"| {line.title} | failed: {why} | | | | |".replace("\n", " "))
            continue
        ours, theirs = (
            number(statistics.median(values)) for values in (line.ours, line.baseline)
        )
        asked = "" if line.asked is None else f"<= {line.asked:g}"
        asked = asked if line.least is None else f">= {line.least:g}"
        unit = f" {line.unit}" if line.absolute else ""
        cells = [
            line.title,
            f"{ours} {line.unit}",
            f"{line.against}: {theirs}",
            spread(line.shares()),
            f"{asked}{unit if asked else ''}" + (" missed" if line.missed() else ""),
            spread(line.speeds),
        ]
        found.append(f"| {' | '.join(cells)} |")
    return "\n".join(found)


def words(notes: Mapping[str, Any]) -> str:
    """One sentence about where the figures come from."""
    machine = notes["machine"]
    quiet = "strangers used" if not notes["noisy"] else "NOISY: strangers used"
    return (
        f"{machine['date']}, commit {notes['commit']}, {machine['cores']} cores,"
        f" Python {machine['python']}, medians of {notes['runs']} interleaved runs of"
        f" {notes['records']:,} records; {quiet} {notes['others_cores']:g} cores"
        f" meanwhile; {notes['seconds']} s."
    )


def show(lines: Sequence[Line], notes: Mapping[str, Any]) -> str:
    """All of it for a terminal, misses last."""
    found = [table(lines), "", words(notes)]
    for line in lines:
        found += [f"missed: {line.name}: {each}" for each in line.missed()]
        if line.failed:
            found.append(f"failed: {line.name}: {line.failed}")
    return "\n".join(found)


def keep(lines: Sequence[Line], notes: Mapping[str, Any]) -> None:
    """Write results/rows.json, the table of README.md and rows.svg."""
    folder = rig.ROOT / "perf"
    document = {**notes, "rows": [asdict(line) for line in lines]}
    place = folder / "results" / "rows.json"
    place.write_text(json.dumps(document, indent=1) + "\n")
    (folder / "rows.svg").write_text(picture(lines, notes))
    image = "![CPU a record as a share of the baseline's]"
    middle = f"{image}(rows.svg)\n\n{words(notes)}\n\n{table(lines)}"
    between(folder / "README.md", BEGIN, END, middle)
    between(rig.ROOT / "README.md", BEGIN, END, f"{image}(perf/rows.svg)")


def between(place: Path, begin: str, end: str, middle: str) -> None:
    """Put text between two marks of a file; SystemExit unless it has both."""
    before, found, rest = place.read_text().partition(begin)
    _, closed, behind = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{place}: no {begin} ... {end}")
    place.write_text(f"{before}{begin}\n{middle}\n{end}{behind}")


#: Pixels of the picture: where bars begin, how wide 1.0 is, a row's height.
LEFT, WIDE, HIGH = 450, 230, 22

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.muted { fill: #59636e }
.bar { fill: #2f81f7 } .miss { fill: #d29922 }
.asked { stroke: #1f2328; stroke-width: 2 } .one { stroke: #8c959f }
.spread { stroke: #1f2328; opacity: .55 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .muted { fill: #9198a1 }
  .asked, .spread { stroke: #e6edf3 }
}
"""


def picture(lines: Sequence[Line], notes: Mapping[str, Any]) -> str:
    """Bars of CPU a record as a share of the baseline's, with what was asked."""
    shown = [line for line in lines if line.shares() and line.unit == "us a record"]
    shown = [line for line in shown if not line.name.startswith("limit")]
    high = HIGH * len(shown) + 100
    most = 1.6

    def x(share: float) -> float:
        return LEFT + WIDE * min(share, most)

    machine, _, runs = words(notes).partition(", medians")
    found = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 {high}" role="img">',
        "<title>CPU a record as a share of the baseline's, by setting</title>",
        f"<style>{STYLE}</style>",
        (
            '<text x="12" y="20">CPU a record, all processes, less a start, as a share of'
            " the baseline's; shorter is better</text>"
        ),
    ]
    for at, line in enumerate(shown):
        y = 40 + HIGH * at
        shares = sorted(line.shares())
        middle = statistics.median(shares)
        kind = "miss" if line.missed() else "bar"
        found += [
            (
                f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">'
                f"{escape(line.title)}</text>"
            ),
            (
                f'<rect class="{kind}" x="{LEFT}" y="{y + 2}" height="14"'
                f' width="{x(middle) - LEFT:.1f}" rx="2"/>'
            ),
            (
                f'<line class="spread" x1="{x(shares[0]):.1f}" x2="{x(shares[-1]):.1f}"'
                f' y1="{y + 9}" y2="{y + 9}"/>'
            ),
            (
                f'<text class="muted" x="{x(max(middle, shares[-1], line.asked or 0)) + 8:.1f}"'
                f' y="{y + 13}">{number(middle)}</text>'
            ),
        ]
        if line.asked is not None:
            found.append(
                f'<line class="asked" x1="{x(line.asked):.1f}"'
                f' x2="{x(line.asked):.1f}" y1="{y}" y2="{y + 18}"/>'
            )
    bottom = 40 + HIGH * len(shown)
    found += [
        f'<line class="one" x1="{x(1)}" x2="{x(1)}" y1="34" y2="{bottom}"/>',
        (
            f'<text class="muted" x="{x(1)}" y="{bottom + 14}" text-anchor="middle">'
            "1 = the baseline</text>"
        ),
        f'<text class="muted" x="12" y="{bottom + 34}">{escape(machine)},</text>',
        f'<text class="muted" x="12" y="{bottom + 50}">medians{escape(runs)}</text>',
        "</svg>",
    ]
    return "\n".join(found) + "\n"
