"""
Top: every task's rates, refreshed in place.

Owns `top`: what is read off two scrapes of `/metrics`, and the screen it is
drawn on (GATE rich).  Where nobody watches, or without rich, it is one picture.

Path: ``cli.main`` -> here -> ``cli.scrape``, ``cli.remote`` -> (HTTP) -> ``admin``
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from engine.cli.display import STATES
from engine.cli.remote import NoAnswer, base_url, connectors, health
from engine.cli.scrape import (
    Labels,
    Scrape,
    buckets,
    grown,
    quantile,
    samples,
    scraped,
    total,
)
from engine.cli.terminal import bare
from engine.clock import SYSTEM, Clock
from engine.config.libraries import missing
from engine.errors import EngineError, Exit
from engine.later import later
from engine.observe import names
from engine.observe.printable import printable_line

if TYPE_CHECKING:
    from rich import console
    from rich import live as pictures
    from rich import table as tables
    from rich import text as texts
else:
    console, pictures, tables, texts = map(
        later, ("rich.console", "rich.live", "rich.table", "rich.text")
    )

#: Reasons that are shown on the screen.
REASONS = 5

KEYS = "q ends   s sorts by the next column   S by the one before"


class NoColumn(EngineError):
    """`--sort` names none of the columns."""

    code = Exit.USAGE


def top(args: argparse.Namespace) -> int:
    """
    `top`: every task's rates, refreshed in place until q or Ctrl-C.

    On something that is no terminal, or with `--json`, one picture and the end.

    Args:
        args: `url` or None, `json`, `interval` in seconds, `sort`, `filter`.

    Raises: NoColumn; NoAnswer if the first request fails; later ones are tried
        again.
    Blocks: until q or Ctrl-C, or for one interval.
    """
    url = base_url(args.url)
    watch = Top(url, sort=args.sort, only=args.filter)
    watch.look()
    if not args.json and _watched():
        return _live(watch, args.interval)
    threading.Event().wait(args.interval)
    rows = watch.look()
    if args.json:
        print(json.dumps({"url": url, "tasks": [row.document() for row in rows]}))
    else:
        print("\n".join([*table(rows), *watch.reasons]))
    return Exit.OK


def _watched() -> bool:
    """True if there is a screen to draw on, and something to draw with."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return False
    if why := missing("a picture drawn in place"):
        print(why, file=sys.stderr)
    return not why


# --- what is read ------------------------------------------------------------


class TaskRow(Struct, frozen=True):
    """
    One task over the last interval.

    Attributes:
        connector, task, state: Which, and how it stands.
        received, written: Records since the start.
        received_rate, written_rate, bytes_rate: A second.
        p50_ms, p99_ms: Request sent to record acknowledged.
        errors: Failed requests and bad records since the start.
        retries: Since the start.
        hit_ratio: Of lookups in the interval, or None without any.
        waiting: Share of the interval spent waiting for the limiter.
        silent: Seconds since the last success, or None before the first.
        memory: Resident bytes.
        cpu: Share of one core.
    """

    connector: str
    task: str
    state: str
    received: int
    written: int
    received_rate: float
    written_rate: float
    bytes_rate: float
    p50_ms: float
    p99_ms: float
    errors: int
    retries: int
    hit_ratio: float | None
    waiting: float
    silent: float | None
    memory: int
    cpu: float

    def document(self) -> dict[str, Any]:
        """For `--json`; decimals rounded to four places."""
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name in self.__struct_fields__
            for value in [getattr(self, name)]
        }


#: Head, width, attribute; what does not fit on the line is left out from the right.
COLUMNS = (
    ("TASK", 18, "task"),
    ("STATE", 10, "state"),
    ("IN/S", 7, "received_rate"),
    ("OUT/S", 7, "written_rate"),
    ("ERR", 6, "errors"),
    ("AGO", 6, "silent"),
    ("P99", 7, "p99_ms"),
    ("CPU", 5, "cpu"),
    ("OUT", 11, "written"),
    ("RSS", 7, "memory"),
    ("RETRY", 6, "retries"),
    ("WAIT", 5, "waiting"),
    ("HIT", 5, "hit_ratio"),
    ("P50", 7, "p50_ms"),
    ("BYTES/S", 8, "bytes_rate"),
    ("IN", 11, "received"),
)

#: What `--sort` may name -> attribute.
SORTS = {head.lower(): attribute for head, _, attribute in COLUMNS}


class Top:
    """
    Compares one scrape with the one before.

    Args:
        url: Of the admin process.
        sort: One of `SORTS`, in any case; numbers fall, texts rise.
        only: Tasks to show, by `connector/number`; `*` and `?` stand for others.

    Attributes:
        sort: The attribute of a row that the rows are sorted by.
        status: How the engine stood at the last look, in a line.
        reasons: Why it is not well, a sentence each.

    Raises: NoColumn.
    """

    def __init__(
        self,
        url: str,
        *,
        sort: str = "task",
        only: str = "*",
        clock: Clock = SYSTEM,
    ) -> None:
        if sort.lower() not in SORTS:
            raise NoColumn(f"--sort {sort}: the columns are {', '.join(SORTS)}")
        self.url = url
        self.sort = SORTS[sort.lower()]
        self.status = ""
        self.reasons: Sequence[str] = ()
        self._only = only
        self._clock = clock
        self._before: Scrape = {}
        self._at = 0.0

    def look(self) -> list[TaskRow]:
        """
        One row a task, sorted.

        Raises: NoAnswer, which `status` says then.  Blocks: for three requests.
        """
        try:
            scrape = scraped(self.url)
            states = connectors(self.url)
            stands = health(self.url)
        except NoAnswer as failure:
            self.status, self.reasons = str(failure), ()
            raise
        now = self._clock.monotonic()
        seconds = max(now - self._at, 1e-3)
        wall = self._clock.wall_ms() / 1000
        self.status = _standing(stands, scrape, wall)
        self.reasons = stands.get("reasons", ())
        rows = [
            _row(connector, task, scrape, self._before, seconds, wall)
            for connector, told in states.items()
            for task in told["status"]["tasks"]
            if fnmatch.fnmatchcase(f"{connector}/{task['id']}", self._only)
        ]
        self._before, self._at = scrape, now
        return self.sorted(rows)

    def turn(self, step: int) -> None:
        """Sort by a neighbour of the present column."""
        known = list(SORTS.values())
        self.sort = known[(known.index(self.sort) + step) % len(known)]

    def sorted(self, rows: Iterable[TaskRow]) -> list[TaskRow]:
        """Rows in the order asked for."""
        rows = sorted(rows, key=lambda row: (row.connector, int(row.task)))
        if self.sort not in ("task", "state"):
            rows.sort(key=lambda row: -(getattr(row, self.sort) or 0))
        elif self.sort == "state":
            rows.sort(key=lambda row: row.state)
        return rows


def _standing(health: Mapping[str, Any], scrape: Scrape, wall: float) -> str:
    """The verdict, the version, and how long it has been up."""
    said = [str(health.get("status", "health checks are off"))]
    for labels, _ in samples(scrape, "build_info", {}):
        said.append(f"version {labels['version']}")
    for _, began in samples(scrape, "start_timestamp_seconds", {}):
        minutes = max(0.0, wall - began) / 60
        said.append(f"up {minutes // 60:.0f}h{minutes % 60:02.0f}m")
    return "  ".join(said)


def _row(
    connector: str,
    task: Mapping[str, Any],
    scrape: Scrape,
    before: Scrape,
    seconds: float,
    wall: float,
) -> TaskRow:
    mine = {"connector": connector, "task": str(task["id"])}
    worker = {"worker": f"{connector}-{task['id']}"}

    def so_far(name: str, **further: str) -> float:
        return total(scrape, name, {**mine, **further})

    def since(name: str, labels: Labels) -> float:
        return max(0.0, total(scrape, name, labels) - total(before, name, labels))

    answered = {
        result: since("cache_requests_total", {**mine, "result": result})
        for result in names.CACHE_JUDGED
    }
    lookups = sum(answered.values())
    hits = sum(answered[result] for result in names.CACHE_HITS)
    latencies = _latencies(scrape, before, mine)
    newest = max(
        (
            value
            for labels, value in samples(scrape, "last_success_timestamp_seconds", mine)
        ),
        default=None,
    )
    return TaskRow(
        connector=connector,
        task=str(task["id"]),
        state=task["state"],
        received=int(so_far("records_received_total")),
        written=int(so_far("records_written_total")),
        received_rate=since("records_received_total", mine) / seconds,
        written_rate=since("records_written_total", mine) / seconds,
        bytes_rate=since("response_bytes_total", mine) / seconds,
        p50_ms=1000 * quantile(latencies, 0.5),
        p99_ms=1000 * quantile(latencies, 0.99),
        errors=int(
            so_far("requests_total", outcome="failed")
            + max(so_far("record_errors_total"), so_far("records_dead_lettered_total"))
        ),
        retries=int(so_far("retries_total")),
        hit_ratio=hits / lookups if lookups else None,
        waiting=since("rate_limit_wait_seconds_total", mine) / seconds,
        silent=max(0.0, wall - newest) if newest is not None else None,
        memory=int(total(scrape, "worker_resident_memory_bytes", worker)),
        cpu=since("worker_cpu_seconds_total", worker) / seconds,
    )


def _latencies(
    scrape: Scrape, before: Scrape, labels: Labels
) -> list[tuple[float, float]]:
    """(upper bound, count up to it) of the interval; of all time if it is empty."""
    now = buckets(scrape, "fetch_to_ack_seconds", labels)
    since = grown(now, buckets(before, "fetch_to_ack_seconds", labels))
    return since if since and since[-1][1] > 0 else list(now.items())


# --- how it is written ----------------------------------------------------


def fitting(width: int) -> Sequence[tuple[str, int, str]]:
    """The columns that a line of so many characters has room for."""
    used = accumulate(size + 1 for _, size, _ in COLUMNS)
    return COLUMNS[: max(1, sum(end <= width for end in used))]


def table(rows: Iterable[TaskRow]) -> list[str]:
    """Rows as plain text with every column, for whatever reads it."""
    shown = COLUMNS
    lines = [" ".join(_fit(head, size, head) for head, size, _ in shown).rstrip()]
    for row in rows:
        cells = [
            _fit(cell(row, attribute), size, head) for head, size, attribute in shown
        ]
        lines.append(" ".join(cells).rstrip())
    return lines


def _fit(text: str, size: int, head: str) -> str:
    if head in ("TASK", "STATE"):
        return text[:size].ljust(size)
    return text.rjust(size)


def cell(row: TaskRow, attribute: str) -> str:
    value = getattr(row, attribute)
    match attribute:
        case "task":
            return f"{row.connector}/{row.task}"
        case "state":
            return str(value)
        case "hit_ratio" | "waiting" | "cpu":
            return "-" if value is None else f"{100 * value:.0f}%"
        case "silent":
            return "-" if value is None else f"{value:.0f}s"
        case "p50_ms" | "p99_ms":
            return f"{value:.0f}ms"
    return human(value)


def human(value: float) -> str:
    """Four digits at most: 950, 12.3k, 4.56M."""
    for factor, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 10 * factor or (sign != "k" and value >= factor):
            return f"{value / factor:.3g}{sign}" if value < 1e12 else f"{value:.2e}"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


# --- the screen --------------------------------------------------------------


def _live(watch: Top, interval: float) -> int:
    # A kill leaves the terminal as it was, like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), _keys() as key, _screen() as draw:
        rows, due = watch.look(), SYSTEM.monotonic() + interval
        while True:
            draw(watch, watch.sorted(rows))
            # A key that sorts draws anew what was read; rates need their time.
            match key(due - SYSTEM.monotonic()):
                case "q":
                    break
                case "s":
                    watch.turn(1)
                case "S":
                    watch.turn(-1)
            if SYSTEM.monotonic() >= due:
                with contextlib.suppress(NoAnswer):
                    rows = watch.look()
                due = SYSTEM.monotonic() + interval
    return Exit.OK


@contextlib.contextmanager
def _screen() -> Iterator[Callable[[Top, Sequence[TaskRow]], None]]:
    """The terminal's other screen: what stood here before comes back at the end."""
    screen = console.Console(file=bare(sys.stdout))
    with pictures.Live(console=screen, auto_refresh=False, screen=True) as picture:
        yield lambda watch, rows: picture.update(
            drawn(watch, rows, picture.console.size.width), refresh=True
        )


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """
    Keys as they are pressed, without Enter and without an echo.

    Gives: seconds to wait for a key -> the key, or "".
    """
    if not sys.stdin.isatty():
        pause = threading.Event()

        def none(seconds: float) -> str:
            pause.wait(max(0.0, seconds))
            return ""

        yield none
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def pressed(seconds: float) -> str:
        if not select.select([fd], [], [], max(0.0, seconds))[0]:
            return ""
        # Nothing to read: the terminal is gone, and nobody to draw for.
        return os.read(fd, 1).decode(errors="replace") or "q"

    try:
        tty.setcbreak(fd)
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def drawn(watch: Top, rows: Sequence[TaskRow], width: int) -> console.RenderableType:
    """The tasks as a screen: how the engine stands, a line for each, the keys."""
    made = tables.Table(
        box=None, padding=(0, 1, 0, 0), header_style="bold", expand=False
    )
    columns = fitting(width)
    for name, size, attribute in columns:
        left = name in ("TASK", "STATE")
        made.add_column(
            f"{name}*" if attribute == watch.sort else name,
            justify="left" if left else "right",
            min_width=0 if left else size,
            max_width=size,
            no_wrap=True,
        )
    for row in rows:
        made.add_row(*(_coloured(cell(row, each)) for _, _, each in columns))
    head = _coloured(f"{watch.url}  {watch.status}")
    reasons = [_coloured(reason) for reason in watch.reasons[:REASONS]]
    if len(watch.reasons) > REASONS:
        reasons.append(
            texts.Text(f"... and {len(watch.reasons) - REASONS:,} more reasons")
        )
    blank = [texts.Text("")] if reasons else []
    keys = texts.Text(KEYS, style="dim")
    return console.Group(
        head, texts.Text(""), made, *blank, *reasons, texts.Text(""), keys
    )


def _coloured(text: str) -> texts.Text:
    shown = texts.Text(printable_line(text))
    for style, words in STATES.items():
        shown.highlight_words(words, style)
    return shown
