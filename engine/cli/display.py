"""
Display: what `run` shows while it runs, the summary it ends with, words of state.

Owns the form of them (GATE rich): a status line each 10 seconds, tables and words
of state in colour on a terminal that has rich.  Reads rows, knows nothing of
processes.  Progress goes to stderr, the rest to stdout.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

from msgspec import Struct, structs

from engine.cli import budget
from engine.cli.budget import RemainingLimits
from engine.cli.terminal import bare
from engine.clock import SYSTEM, Clock
from engine.config.libraries import load
from engine.later import later
from engine.observe.printable import printable, printable_line

if TYPE_CHECKING:
    from rich import console, table
    from rich import text as texts
else:
    console, table, texts = map(later, ("rich.console", "rich.table", "rich.text"))

#: Words of state by how they are to be taken; never the colour alone says it.
STATES = {
    "green": ("healthy", "RUNNING"),
    "yellow": ("degraded", "starting", "PAUSED", "UNASSIGNED", "RESTARTING"),
    "bold red": ("failed", "FAILED"),
}

#: Seconds between two status lines.
STATUS_EVERY = 10.0


class ShardSums(Struct, kw_only=True):
    """
    The sums of one shard, or of all of them.

    Attributes:
        saved: Pages that brought nothing new; they are not received.
        saved_records: Records on them, none of them produced again.
        saved_requests, saved_bytes: What the cache did not ask and fetch.
        waited: Seconds in which it was kept from going on, by what it waited
            for.
        seconds: From the first poll's start to now, or to its end.
        error: Why it stands still, or None.
        unreached: It has not failed: the broker was away for too long.
        finished: Its poll is over, under `run --once`.
    """

    connector: str = ""
    api: str = ""
    shard: str = ""
    pages: int = 0
    received: int = 0
    produced: int = 0
    filtered: int = 0
    dead_lettered: int = 0
    deduplicated: int = 0
    saved: int = 0
    saved_records: int = 0
    saved_requests: int = 0
    saved_bytes: int = 0
    bytes: int = 0
    waited: dict[str, float] = {}
    seconds: float = 0.0
    records_per_second: float = 0.0
    error: str | None = None
    unreached: bool = False
    finished: bool = False


#: What is added up in a total.
SUMS = (
    "pages",
    "received",
    "produced",
    "filtered",
    "dead_lettered",
    "deduplicated",
    "saved",
    "saved_records",
    "saved_requests",
    "saved_bytes",
    "bytes",
)


def total(rows: Sequence[ShardSums], seconds: float) -> ShardSums:
    """All rows added up over the same time."""
    sums = {name: sum(getattr(row, name) for row in rows) for name in SUMS}
    made = ShardSums(**sums, seconds=round(seconds, 3))
    for row in rows:
        for on, waited in row.waited.items():
            made.waited[on] = round(made.waited.get(on, 0.0) + waited, 3)
    made.records_per_second = rate(made.produced, seconds)
    failed = [row.error for row in rows if row.error]
    made.error = failed[0] if failed else None
    return made


def rate(records: int, seconds: float) -> float:
    """Records a second, 0.0 for no time."""
    return round(records / seconds, 1) if seconds > 0 else 0.0


class Display(Protocol):
    """Something that shows how far a run is."""

    def show(self, rows: Sequence[ShardSums], note: str) -> None:
        """Show the sums so far; never blocks for long, never raises."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Silence:
    """The display of a `run` that shows nothing while it runs."""

    def show(self, rows: Sequence[ShardSums], note: str) -> None:
        return

    def close(self) -> None:
        return


class StatusLine:
    """One line each ten seconds."""

    def __init__(self, out: TextIO, *, clock: Clock = SYSTEM):
        self._out = out
        self._clock = clock
        self._due = clock.monotonic() + STATUS_EVERY
        self._before = (clock.monotonic(), 0)

    def show(self, rows: Sequence[ShardSums], note: str) -> None:
        now = self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + STATUS_EVERY
        sums = total(rows, 0.0)
        then, produced = self._before
        self._before = (now, sums.produced)
        per_second = (sums.produced - produced) / max(now - then, 1e-9)
        failed = sum(row.error is not None and not row.unreached for row in rows)
        line = (
            f"{sums.produced:,} records produced, {per_second:,.0f}/s; "
            f"{sums.pages:,} pages, {sums.received:,} received"
        )
        for name in ("filtered", "dead_lettered", "deduplicated"):
            if count := getattr(sums, name):
                line += f", {count:,} {name.replace('_', '-')}"
        if sums.saved_records:
            line += f", {sums.saved_records:,} unchanged"
        if failed:
            line += f"; {failed} of {len(rows)} shards FAILED"
        if note:
            line += f"; {note}"
        # The supervisor says it, and waits for no reader.
        if has_room(self._out):
            write(self._out, line + "\n")

    def close(self) -> None:
        return


def display(*, quiet: bool) -> Display:
    """
    The display of a run.

    The tasks log to the same terminal, each in its own process: a picture that is
    drawn anew in place would erase their lines, so a line comes below them.
    """
    return Silence() if quiet else StatusLine(sys.stderr)


def coloured() -> bool:
    """True where stdout is a terminal and the extra [terminal] is installed."""
    return sys.stdout.isatty() and load("a picture drawn in place") is not None


def say(lines: Iterable[str]) -> None:
    """Print lines, words of state in colour where stdout is a terminal with rich."""
    text = "\n".join(lines)
    if not coloured():
        print(text)
        return
    shown = texts.Text(printable(text))
    for style, words in STATES.items():
        shown.highlight_words(words, style)
    console.Console(file=bare(sys.stdout), highlight=False).print(shown, soft_wrap=True)


def say_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, numbers to the right of all but the first column."""
    if not coloured():
        sizes = [
            max(len(printable_line(cell)) for cell in column)
            for column in zip(header, *rows, strict=True)
        ]
        for row in (header, *rows):
            first, *rest = map(printable_line, row)
            cells = [cell.rjust(n) for cell, n in zip(rest, sizes[1:], strict=True)]
            print("  " + "  ".join([first.ljust(sizes[0]), *cells]).rstrip())
        return
    made = table.Table(box=None, padding=(0, 0, 0, 2), header_style="bold")
    for at, name in enumerate(header):
        made.add_column(name, justify="right" if at else "left", no_wrap=not at)
    for row in rows:
        made.add_row(*(texts.Text(printable_line(cell)) for cell in row))
    console.Console(file=bare(sys.stdout), highlight=False).print(made)


def summary(
    rows: Sequence[ShardSums], seconds: float, budgets: Mapping[str, RemainingLimits]
) -> str:
    """
    The lines a run ends with: one for each api's shard, one for all, and what
    is left of the rate limits.
    """
    lines = []
    for row in [*rows, total(rows, seconds)]:
        name = f"{row.connector} {row.shard}".strip() or "total"
        text = f"{name}: {row.pages:,} pages, {row.received:,} received"
        for field in ("produced", "filtered", "dead_lettered", "deduplicated"):
            text += f", {getattr(row, field):,} {field.replace('_', '-')}"
        text += f", {row.bytes:,} bytes, {row.seconds:.1f} s"
        text += f", {row.records_per_second:,.0f} records/s"
        if row.saved or row.saved_requests:
            text += (
                f"; saved: {row.saved:,} unchanged pages, {row.saved_records:,} "
                f"records, {row.saved_requests:,} requests, {row.saved_bytes:,} bytes"
            )
        waits = [f"{s:,.1f} s for {on}" for on, s in row.waited.items() if s >= 0.05]
        if waits:
            text += f"; waited {', '.join(waits)}"
        if row.error and row.shard:
            text += f"; {row.error}"
        lines.append(text)
    return "\n".join([*lines, *budget.lines(budgets)])


def document(
    rows: Sequence[ShardSums], seconds: float, budgets: Mapping[str, RemainingLimits]
) -> dict[str, object]:
    """The same as the one document of `--json`."""
    names: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        fields = structs.asdict(row)
        del fields["finished"], fields["unreached"]
        names.setdefault(str(fields.pop("connector")), []).append(fields)
    sums = structs.asdict(total(rows, seconds))
    for name in ("connector", "api", "shard", "error", "unreached", "finished"):
        del sums[name]
    return {
        "connectors": [
            {
                "name": name,
                "apis": apis,
                **structs.asdict(budgets.get(name, RemainingLimits())),
            }
            for name, apis in names.items()
        ],
        "total": sums,
    }


def has_room(out: TextIO) -> bool:
    """False if a line would have to wait for whoever reads the stream."""
    poll = select.poll()
    try:
        poll.register(out.fileno(), select.POLLOUT)
    except (OSError, ValueError):
        return True
    return any(events & select.POLLOUT for _, events in poll.poll(0))


def write(out: TextIO, text: str) -> None:
    """Write and flush; a closed or full stream is nobody's failure here."""
    try:
        out.write(text)
        out.flush()
    except (OSError, ValueError):
        return
