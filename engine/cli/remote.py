"""
Remote: what a running engine says of itself, here or on another machine.

Owns `status` and `top`: both ask the admin process over HTTP and nothing else,
so that they show the same on this machine as from afar.  They change nothing.

Path: ``cli.main`` -> here -> (HTTP) -> ``admin``
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import EngineError, Exit
from engine.supervisor.runtime import NAME, base_of, running

#: Where an engine listens that was told nothing else.
DEFAULT = "http://127.0.0.1:8080"

#: File in a runtime directory that lists the bound addresses.
LISTENERS = "listeners"

#: Seconds an answer may take.
PATIENCE = 10.0

#: No proxy of the environment ever sees these requests.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NoColumn(EngineError):
    """`--sort` names none of the columns."""

    code = Exit.USAGE


class NoAnswer(EngineError):
    """No engine answers at that address."""

    code = Exit.UNAVAILABLE


def status(args: argparse.Namespace) -> int:
    """
    `status`: how every connector and task stands.

    Args:
        args: `url` or None, `json`.

    Raises: NoAnswer.  Blocks: for three requests.
    """
    url = base_url(args.url)
    told = {
        "url": url,
        "health": _json(url, "/health"),
        "metrics": _json(url, "/health/metrics"),
        "connectors": _json(url, "/connectors?expand=status&expand=info"),
    }
    if args.json:
        print(json.dumps(told, indent=2))
    else:
        print("\n".join(_status_lines(told)))
    return Exit.OK


def top(args: argparse.Namespace) -> int:
    """
    `top`: every task's rates, refreshed in place until Ctrl-C.

    On something that is no terminal, or with `--json`, one picture and the end.

    Args:
        args: `url` or None, `json`, `interval` in seconds, `sort`.

    Raises: NoColumn; NoAnswer if the first request fails; later ones are tried
        again.
    Blocks: until Ctrl-C, or for one interval.
    """
    url = base_url(args.url)
    watch = Top(url, sort=args.sort)
    watch.look()
    pause = threading.Event()
    if args.json or not sys.stdout.isatty():
        pause.wait(args.interval)
        rows = watch.look()
        if args.json:
            print(json.dumps({"url": url, "tasks": [row.document() for row in rows]}))
        else:
            print("\n".join(table(rows, width=10_000)))
        return Exit.OK
    # The other screen, so that what stood here before comes back at the end.
    sys.stdout.write("\x1b[?1049h\x1b[?25l")
    try:
        while True:
            pause.wait(args.interval)
            _draw(watch, url)
    except KeyboardInterrupt:
        return Exit.OK
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()


def _draw(watch: Top, url: str) -> None:
    size = shutil.get_terminal_size()
    try:
        lines = table(watch.look(), width=size.columns)
    except NoAnswer as failure:
        lines = [str(failure)]
    lines = [f"{url}  (Ctrl-C ends)", "", *lines][: size.lines - 1]
    # Each line is cleared behind its end: nothing flickers.
    sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
    sys.stdout.flush()


# --- asking ------------------------------------------------------------------


def base_url(given: str | None) -> str:
    """
    Where to ask: as given; else the newest engine of this user here; else 8080.
    """
    if given:
        return (given if "//" in given else f"http://{given}").rstrip("/")
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    base = base_of(os.environ, configured=None, state=Path(home) / NAME)
    for directory in reversed(running(base)):
        try:
            urls = (directory / LISTENERS).read_text().split()
        except OSError:
            continue
        if urls:
            return urls[0]
    return DEFAULT


def _get(url: str, path: str) -> bytes:
    """
    The body, whatever the status: /health says how it stands with a 500, too.

    Raises: NoAnswer.
    """
    try:
        with _OPENER.open(f"{url}{path}", timeout=PATIENCE) as answer:
            content: bytes = answer.read()
    except urllib.error.HTTPError as refused:
        content = refused.read()
    except (OSError, ValueError) as failure:
        reason = getattr(failure, "reason", failure)
        raise NoAnswer(
            f"no engine answers at {url}: {reason}; is it running, and does "
            "`listeners` name this address? --url names another"
        ) from failure
    return content


def _json(url: str, path: str) -> Any:
    try:
        return json.loads(_get(url, path))
    except ValueError as failure:
        raise NoAnswer(f"what answers at {url} is no engine") from failure


def _status_lines(told: Mapping[str, Any]) -> Iterator[str]:
    health, metrics = told["health"], told["metrics"]
    verdicts = health.get("connectors", {})
    figures = metrics.get("connectors", {})
    yield f"{told['url']}: {health.get('status', 'health checks are off')}"
    for name, connector in told["connectors"].items():
        verdict = verdicts.get(name, {})
        stands = connector["status"]
        yield ""
        yield f"{name}: {verdict.get('status', stands['connector']['state'].lower())}"
        for reason in verdict.get("reasons", ()):
            yield f"  {reason}"
        for task in stands["tasks"]:
            trace = task.get("trace", "").strip().splitlines()
            why = f": {trace[0]}" if trace else ""
            yield f"  task {task['id']}: {task['state']}{why}"
        if name in figures:
            yield from _figures(figures[name])


def _figures(numbers: Mapping[str, Any]) -> Iterator[str]:
    records = numbers["records"]
    yield (
        f"  records: {records['produced']} produced of {records['received']} received"
        f", {records['filtered']} filtered, {records['deadLettered']} dead-lettered"
        f", {records['deduplicated']} deduplicated"
    )
    yield (
        f"  last minutes: {numbers['throughput']['messagesPerSecond']} records/s"
        f", latency {numbers['latency']['averageMs']} ms"
        f" (p99 {numbers['latency']['p99Ms']} ms)"
        f", errors {numbers['errorRate']} %, cache hits {numbers['cacheHitRatio']}"
    )


# --- top ---------------------------------------------------------------------


class Row(Struct, frozen=True):
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
    ("TASK", 24, "task"),
    ("STATE", 10, "state"),
    ("IN/S", 8, "received_rate"),
    ("OUT/S", 8, "written_rate"),
    ("OUT", 11, "written"),
    ("BYTES/S", 8, "bytes_rate"),
    ("P50", 7, "p50_ms"),
    ("P99", 7, "p99_ms"),
    ("ERR", 6, "errors"),
    ("RETRY", 6, "retries"),
    ("HIT", 5, "hit_ratio"),
    ("WAIT", 5, "waiting"),
    ("AGO", 6, "silent"),
    ("RSS", 7, "memory"),
    ("CPU", 5, "cpu"),
    ("IN", 11, "received"),
)

#: What `--sort` may name -> attribute.
SORTS = {head.lower(): attribute for head, _, attribute in COLUMNS}

_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

_Labels = dict[str, str]
_Scrape = dict[str, list[tuple[_Labels, float]]]


def parsed(text: str) -> _Scrape:
    """The text format of Prometheus, as far as the engine writes it."""
    found: _Scrape = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None or line.startswith("#"):
            continue
        labels = {
            name: re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], value)
            for name, value in _LABEL.findall(match[2] or "")
        }
        found.setdefault(match[1], []).append((labels, float(match[3])))
    return found


class Top:
    """
    Compares one scrape with the one before.

    Args:
        url: Of the admin process.
        sort: One of `SORTS`, in any case; numbers fall, texts rise.

    Raises: NoColumn.
    """

    def __init__(self, url: str, *, sort: str = "task", clock: Clock = SYSTEM) -> None:
        if sort.lower() not in SORTS:
            raise NoColumn(f"--sort {sort}: the columns are {', '.join(SORTS)}")
        self._url = url
        self._sort = SORTS[sort.lower()]
        self._clock = clock
        self._before: _Scrape = {}
        self._at = 0.0

    def look(self) -> list[Row]:
        """
        One row a task.

        Raises: NoAnswer.  Blocks: for two requests.
        """
        now = self._clock.monotonic()
        scrape = parsed(_get(self._url, "/metrics").decode())
        states = _json(self._url, "/connectors?expand=status")
        seconds = max(now - self._at, 1e-3)
        wall = self._clock.wall_ms() / 1000
        rows = [
            _row(connector, task, scrape, self._before, seconds, wall)
            for connector, told in states.items()
            for task in told["status"]["tasks"]
        ]
        self._before, self._at = scrape, now
        return self._sorted(rows)

    def _sorted(self, rows: list[Row]) -> list[Row]:
        rows.sort(key=lambda row: (row.connector, int(row.task)))
        if self._sort not in ("task", "state"):
            rows.sort(key=lambda row: -(getattr(row, self._sort) or 0))
        elif self._sort == "state":
            rows.sort(key=lambda row: row.state)
        return rows


def _row(
    connector: str,
    task: Mapping[str, Any],
    scrape: _Scrape,
    before: _Scrape,
    seconds: float,
    wall: float,
) -> Row:
    mine = {"connector": connector, "task": str(task["id"])}
    worker = {"worker": f"{connector}-{task['id']}"}

    def total(name: str, **further: str) -> float:
        return _sum(scrape, f"http_source_{name}", {**mine, **further})

    def grown(name: str, labels: _Labels) -> float:
        name = f"http_source_{name}"
        return max(0.0, _sum(scrape, name, labels) - _sum(before, name, labels))

    lookups = grown("cache_requests_total", mine)
    hits = sum(
        grown("cache_requests_total", {**mine, "result": result})
        for result in ("hit", "revalidated")
    )
    buckets = _buckets(scrape, before, mine)
    newest = max(
        (
            value
            for labels, value in _of(scrape, "last_success_timestamp_seconds", mine)
        ),
        default=None,
    )
    return Row(
        connector=connector,
        task=str(task["id"]),
        state=task["state"],
        received=int(total("records_received_total")),
        written=int(total("records_written_total")),
        received_rate=grown("records_received_total", mine) / seconds,
        written_rate=grown("records_written_total", mine) / seconds,
        bytes_rate=grown("response_bytes_total", mine) / seconds,
        p50_ms=1000 * quantile(buckets, 0.5),
        p99_ms=1000 * quantile(buckets, 0.99),
        errors=int(
            total("requests_total", outcome="failed")
            + max(total("record_errors_total"), total("records_dead_lettered_total"))
        ),
        retries=int(total("retries_total")),
        hit_ratio=hits / lookups if lookups else None,
        waiting=grown("rate_limit_wait_seconds_total", mine) / seconds,
        silent=max(0.0, wall - newest) if newest is not None else None,
        memory=int(_sum(scrape, "http_source_worker_resident_memory_bytes", worker)),
        cpu=grown("worker_cpu_seconds_total", worker) / seconds,
    )


def _of(scrape: _Scrape, name: str, labels: _Labels) -> Iterator[tuple[_Labels, float]]:
    for given, value in scrape.get(f"http_source_{name}", ()):
        if labels.items() <= given.items():
            yield given, value


def _sum(scrape: _Scrape, name: str, labels: _Labels) -> float:
    return sum(
        value
        for given, value in scrape.get(name, ())
        if labels.items() <= given.items()
    )


def _buckets(
    scrape: _Scrape, before: _Scrape, labels: _Labels
) -> list[tuple[float, float]]:
    """(upper bound, count up to it) of the interval; of all time if it is empty."""
    name = "fetch_to_ack_seconds_bucket"
    now = {float(given["le"]): n for given, n in _of(scrape, name, labels)}
    then = {float(given["le"]): n for given, n in _of(before, name, labels)}
    since = [(bound, n - then.get(bound, 0.0)) for bound, n in sorted(now.items())]
    if since and since[-1][1] > 0:
        return since
    return sorted(now.items())


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float:
    """Seconds below which `share` of the counts lie; even spread inside a bucket."""
    wanted = share * (buckets[-1][1] if buckets else 0.0)
    if wanted <= 0:
        return 0.0
    low = below = 0.0
    for bound, count in buckets:
        if count >= wanted:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (wanted - below) / max(count - below, 1e-9)
        low, below = bound, count
    return low


def table(rows: Iterable[Row], *, width: int) -> list[str]:
    """Rows as text, cut at the terminal's width between two columns."""
    shown: list[tuple[str, int, str]] = []
    used = 0
    for head, size, attribute in COLUMNS:
        used += size + 1
        if used > width and shown:
            break
        shown.append((head, size, attribute))
    lines = [" ".join(_fit(head, size, head) for head, size, _ in shown).rstrip()]
    for row in rows:
        cells = [
            _fit(_cell(row, attribute), size, head) for head, size, attribute in shown
        ]
        lines.append(" ".join(cells).rstrip())
    return lines


def _fit(text: str, size: int, head: str) -> str:
    if head in ("TASK", "STATE"):
        return text[:size].ljust(size)
    return text.rjust(size)


def _cell(row: Row, attribute: str) -> str:
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
