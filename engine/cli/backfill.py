"""
Backfill: `backfill FILE --from T --to T`, a piece of the past beside the engine of today.

Owns the connector that does it: the file's own, with windows from T to T, and a name,
a state, a lock and transactions of its own; topic, dead letters, rate limit and rotated
refresh tokens stay the file's.  It takes a part of the rates and no more, of the very
buckets that the engine uses where it runs here; an engine that is started meanwhile is
found within some seconds.

Path: ``cli.main`` -> here -> ``cli.run``
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import logging
import math
import os
import signal
import sys
from collections.abc import Sequence
from datetime import tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import replace

from engine.cli.check import told
from engine.cli.display import has_room, write
from engine.cli.offsets import OpenedState, claim_of
from engine.cli.run import own_runtime, serve
from engine.clock import SYSTEM, Clock
from engine.config import Connector, Loaded
from engine.config.sections.engine import ApiConfig, ScheduleConfig
from engine.config.sections.limits import RateLimitConfig
from engine.config.sections.offsets import WindowsConfig
from engine.config.sections.processes import DirectoriesConfig
from engine.config.served import Served
from engine.config.values import Beside
from engine.errors import ConfigError, EngineError, Exit
from engine.language import EvaluationError, parse_timestamp
from engine.language.times import iso_text
from engine.shared.board import Board
from engine.sink.state import State
from engine.supervisor import signals
from engine.supervisor.runtime import base_of
from engine.supervisor.status import Snapshot
from engine.task.owning import fence

log = logging.getLogger("run")

#: Seconds between two looks for the engine beside.
LOOK = 5.0

#: Seconds of work before what is left is reckoned.
SURE = 5.0

#: What an api has to say before a piece of its past can be asked for.
NEEDED = (
    "no api has time windows: state http.source.window.size.seconds, and name "
    "${window.start} and ${window.end} in its request, in the file or here by --set "
    "(with --set http.offset.mode=FULL where the file says INCREMENTAL)"
)


def backfill(args: argparse.Namespace) -> int:
    """`backfill FILE... --from T --to T`: until it is done, or interrupted."""
    signals.block()
    load = functools.partial(_loaded, args)
    loaded, live, span = load()
    mine = loaded.connectors[0]
    if args.restart:
        _forget(loaded, mine)
    elif (finished := _finished(loaded, mine)) is not None:
        print(f"{finished}; --restart does it again")
        return Exit.OK
    _say(mine, live, span, args.share)
    progress = BackfillProgress(span, sizes_of(mine), quiet=args.quiet or args.json)
    beside = mine.beside

    def watch(snapshot: Snapshot, board: Board) -> None:
        progress.tick(snapshot, board)
        if progress.looks and engine_of(loaded, live) != (beside and beside.runtime):
            # Another engine than at the start: the tasks take up its rates anew.
            os.kill(os.getpid(), signal.SIGHUP)
            progress.looks = False

    def again() -> Loaded:
        nonlocal beside
        found = load()[0]
        beside = found.connectors[0].beside
        progress.looks = True
        return found

    code = serve(
        loaded, again, once=True, json=args.json, quiet=args.quiet, watch=watch
    )
    if not args.quiet and not args.json:
        print(progress.ended(code == Exit.OK))
    return code


def _loaded(args: argparse.Namespace) -> tuple[Loaded, Connector, tuple[int, int]]:
    """
    What runs: the one connector that does the backfill, the one of the file, and the
    time from and to in epoch milliseconds.

    Raises: ConfigError.
    """
    served = Served(args.files, args.overrides, stdin=sys.stdin.buffer)
    served.quiet = True
    loaded = told(served.load(), strict=args.strict)
    if loaded.unbuilt:
        raise ConfigError(loaded.unbuilt)
    live = _chosen(loaded.connectors, args.connector)
    zone = ZoneInfo(loaded.process.of(ScheduleConfig).timezone)
    span = span_of(args.since, args.to, zone)
    runtime = engine_of(loaded, live)
    mine = derived(live, span, share=args.share, api=args.api, runtime=runtime)
    process = loaded.process.replaced({"listeners": ("none",)})
    return replace(loaded, connectors=(mine,), process=process), live, span


def span_of(
    since: str, to: str, zone: tzinfo, now_ms: int | None = None
) -> tuple[int, int]:
    """
    `--from` and `--to` in epoch milliseconds.

    Raises: ConfigError: no times, none between them, or one that lies ahead.
    """
    found = []
    for option, text in (("--from", since), ("--to", to)):
        try:
            found.append(parse_timestamp(text, zone))
        except EvaluationError as error:
            raise ConfigError(
                f"{option} {text!r}: {error}; write 2024-01-31 or 2024-01-31T12:00:00Z"
            ) from error
    first, last = found
    if first >= last:
        raise ConfigError("--from has to lie before --to")
    if last > (SYSTEM.wall_ms() if now_ms is None else now_ms):
        raise ConfigError(f"--to {to}: lies ahead; what comes is the engine's to bring")
    return first, last


def derived(
    live: Connector,
    span: tuple[int, int],
    *,
    share: float,
    api: str | None,
    runtime: Path | None,
) -> Connector:
    """
    The connector that does a piece of another one's past.

    Args:
        api: Only this one.
        runtime: Of the engine that runs the other one here, or None.

    Raises: ConfigError: no api that can be asked for a piece of time.
    """
    names = [each.name for each in live.apis]
    if api is not None and api not in names:
        raise ConfigError(f"no api is named {api!r}; there are: {', '.join(names)}")
    chosen = [
        each
        for each in live.apis
        if each.values.of(WindowsConfig).size is not None
        and each.values.of(ApiConfig).parent is None
        and api in (None, each.name)
    ]
    if not chosen:
        raise ConfigError(NEEDED)
    wanted = {each.name for each in chosen}
    for each in chosen:
        wanted |= {below.name for below in live.descendants(each)}
    first, last = (iso_text(ms) for ms in span)
    digest = hashlib.blake2b(f"{first} {last}".encode(), digest_size=4).hexdigest()
    name = f"{live.name}-backfill-{digest}"
    changed = {
        "http.source.window.start": first,
        "http.source.window.end": last,
        "http.source.window.lag.seconds": 0,
        "cache.enabled": False,
    }
    return replace(
        live,
        name=name,
        values=live.values.replaced({"name": name, "auto.scaling.enabled": False}),
        apis=tuple(
            replace(each, values=each.values.replaced(changed))
            for each in live.apis
            if each.name in wanted
        ),
        initial_state="RUNNING",
        beside=Beside(live.name, share, runtime),
    )


def engine_of(loaded: Loaded, live: Connector) -> Path | None:
    """The runtime directory of the engine that runs a connector here, or None."""
    pid = claim_of(loaded, live).holder()
    if pid is None:
        return None
    state = Path(loaded.process.of(DirectoriesConfig).state)
    base = base_of(os.environ, configured=own_runtime(loaded.process), state=state)
    return next(iter(sorted(base.glob(f"{pid}.*"))), None)


def _chosen(found: Sequence[Connector], name: str | None) -> Connector:
    names = ", ".join(each.name for each in found)
    if name is None and len(found) == 1:
        return found[0]
    for each in found:
        if each.name == name:
            return each
    raise ConfigError(
        f"--connector: which of {names}?"
        if name is None
        else f"no connector is named {name!r}; there are: {names}"
    )


def _state(opened: OpenedState, mine: Connector) -> State:
    return opened.state(mine)


def _forget(loaded: Loaded, mine: Connector) -> None:
    """Forget how far it has come.  Raises: Occupied where it runs."""
    with OpenedState(loaded) as opened:
        claim = claim_of(loaded, mine)
        claim.take()
        try:
            state = _state(opened, mine)
            known = state.known()
            if known:
                fence(opened.brokers(mine), state, mine.name)
                state.reset(known)
        finally:
            claim.release()


def _finished(loaded: Loaded, mine: Connector) -> str | None:
    """Words where every shard has come to the end, else None."""
    with OpenedState(loaded) as opened:
        try:
            saved = [s for s in _state(opened, mine).read().values()
                     if "part" not in s.partition]  # fmt: skip
        except EngineError:
            # `run` says it better.
            return None
    apis = {api.name for api in mine.apis if api.values.of(ApiConfig).parent is None}
    done = {each.partition.get("api") for each in saved if each.offset.get("done")}
    if not saved or not apis <= done or any(not s.offset.get("done") for s in saved):
        return None
    return "This backfill is done already"


def _say(mine: Connector, live: Connector, span: tuple[int, int], share: float) -> None:
    first, last = (iso_text(ms) for ms in span)
    where = "beside its engine" if mine.beside and mine.beside.runtime else "alone"
    rate = live.common.of(RateLimitConfig)
    limited = any(api.values.of(RateLimitConfig).enabled for api in mine.apis)
    said = f"{share:.0%} of {rate.per_second:g} requests a second" if limited else ""
    print(
        f"{live.name} from {first} to {last}, {where}"
        f"{f', at most {said}' if said else ''}",
        file=sys.stderr,
    )
    if not limited:
        print(
            "no rate limit is configured: there is no budget to take a share of, and "
            "only what the host demands is kept to",
            file=sys.stderr,
        )


def sizes_of(mine: Connector) -> dict[str, int]:
    """Seconds of a window, by api."""
    return {
        api.name: api.values.of(WindowsConfig).size or 0
        for api in mine.apis
        if api.values.of(WindowsConfig).size is not None
    }


class BackfillProgress:
    """
    How far a backfill is, out of the positions that its shards have saved.

    Args:
        span: From and to, epoch milliseconds.
        sizes: Seconds of a window, by api.

    Attributes:
        looks: Whether it is time to look for the engine beside.
    """

    def __init__(
        self,
        span: tuple[int, int],
        sizes: dict[str, int],
        *,
        quiet: bool = False,
        clock: Clock = SYSTEM,
    ):
        self._span = span
        self._sizes = sizes
        self._quiet = quiet
        self._clock = clock
        self._began: tuple[float, float] | None = None
        self._due = clock.monotonic() + LOOK
        self._part = 0.0
        self._whole = False
        self.looks = False

    def tick(self, snapshot: Snapshot, board: Board) -> None:
        """Called about once a second; says it every few seconds."""
        if snapshot.shards:
            self._whole = all(shard.finished for shard in snapshot.shards)
        now = self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + LOOK
        self.looks = True
        parts = []
        for shard in snapshot.shards:
            if shard.api in self._sizes:
                saved = b"" if shard.finished else board.position(shard.slot) or b""
                parts.append(1.0 if shard.finished else self.part_of(shard.api, saved))
        if not parts:
            return
        self._part = sum(parts) / len(parts)
        if self._began is None:
            self._began = now, self._part
        if not self._quiet and has_room(sys.stderr):
            write(sys.stderr, f"{self.line(now)}\n")

    def part_of(self, api: str, saved: bytes) -> float:
        """Which part of its time a shard has done, by its position as JSON."""
        try:
            position = msgspec.json.decode(saved)
        except msgspec.DecodeError:
            return 0.0
        if not isinstance(position, dict):
            return 0.0
        if position.get("done") is True:
            return 1.0
        number = position.get("window")
        if not isinstance(number, int):
            return 0.0
        first, last = self._span
        windows = math.ceil((last - first) / 1000 / self._sizes[api])
        return min(1.0, max(0.0, number / windows))

    def line(self, now: float) -> str:
        """What is done, and about how long the rest takes."""
        first, last = self._span
        at = iso_text(int(first + (last - first) * self._part))
        text = f"backfill: {self._part:.1%}, about {at}"
        if self._began is None:
            return text
        began, before = self._began
        gone, done = now - began, self._part - before
        if gone < SURE or done <= 0:
            return text
        return f"{text}; {_lasting((1.0 - self._part) * gone / done)} left"

    def ended(self, well: bool) -> str:
        """The last line; `well` is how the run ended."""
        if well and self._whole:
            return "backfill: done"
        return "backfill: ended; the same command goes on from here"


def _lasting(seconds: float) -> str:
    """A duration in words, no finer than it is known."""
    for size, word in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {word}"
    return f"about {max(1.0, seconds):.0f} seconds"
