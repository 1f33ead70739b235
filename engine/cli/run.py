"""
Run: `run FILE...`, from the configuration to the exit code.

Owns what the supervisor is given, and the display.  It opens nothing itself; the heavy
rooms are imported before the fork so that all tasks share them.

Path: ``cli.main`` -> here -> ``cli.wanted``, ``supervisor.loop`` -> (fork) -> ``task``
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from engine import config
from engine.cli import budget
from engine.cli.budget import RemainingLimits
from engine.cli.check import told
from engine.cli.display import (
    SUMS,
    Display,
    ShardSums,
    display,
    document,
    rate,
    summary,
)
from engine.cli.output import telling
from engine.cli.wanted import Plan, make_directories, named, refuse_unbuilt
from engine.clock import SYSTEM
from engine.config import Loaded, Values
from engine.config.sections.observing import LogConfig
from engine.config.sections.processes import (
    DirectoriesConfig,
)
from engine.config.sections.request import CatalogConfig
from engine.config.served import Served
from engine.errors import EngineError, Exit, NoInput
from engine.observe import log as logs
from engine.observe.meters import DIRECTORY as METERS
from engine.observe.names import WAITS
from engine.observe.redact import REDACTOR
from engine.shared.board import Board
from engine.supervisor import signals
from engine.supervisor.broker import EmbeddedBroker
from engine.supervisor.loop import Supervisor
from engine.supervisor.runtime import (
    Runtime,
    base_of,
    make_private,
)
from engine.supervisor.status import ShardStatus, Snapshot

log = logging.getLogger("run")


def run(args: argparse.Namespace) -> int:
    """`run FILE...`: until SIGTERM or Ctrl-C, or with `--once` to the end."""
    # From here on no signal is lost or interrupts: the supervisor takes them up.
    signals.block()
    if args.connectors is None and not args.files:
        raise NoFiles("run: name a FILE, or a directory of them: --connectors DIR")
    served = Served(
        args.files,
        args.overrides,
        directory=None if args.connectors is None else own_directory(args.connectors),
        stdin=sys.stdin.buffer,
    )
    served.quiet = True
    loaded = told(served.load(), strict=args.strict)
    refuse_unbuilt(loaded)
    return serve(
        loaded,
        served.load,
        once=args.once,
        json=args.json,
        quiet=args.quiet,
        served=served,
    )


class NoFiles(EngineError):
    """A command line that says nothing of what is to run."""

    code = Exit.USAGE


def own_directory(path: str) -> Path:
    """
    The directory of `--connectors`, made where it is missing.

    Raises: NoInput.
    """
    directory = Path(path)
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as failure:
        raise NoInput(f"--connectors {path}: {failure.strerror}") from failure
    return directory


def serve(
    loaded: Loaded,
    again: Callable[[], Loaded],
    *,
    once: bool = False,
    json: bool = False,
    quiet: bool = False,
    served: Served | None = None,
    watch: Callable[[Snapshot, Board], None] | None = None,
) -> int:
    """
    Run what was loaded until it is done or told to stop.

    Args:
        again: Reads it anew, for a reload.
        once: Each api is polled once.
        json: Print the totals as one document at the end.
        quiet: Show no progress and no summary.
        served: What the files say, for those who change connectors while it runs.
        watch: Called about once a second with how everything stands.

    Returns: the exit code.  Blocks: until the run is over.
    """
    process = loaded.process
    logs.configure(
        level=process.of(LogConfig).level,
        format=process.of(LogConfig).format or logs.default_format(os.environ),
        unsafe_wire=process.of(LogConfig).unsafe_wire,
    )
    say_start(loaded)
    if served is not None:
        # There was no log yet when they were read.
        served.quiet = False
        for name, error in served.errors().items():
            served.say("%s is left as it was: %s", name, error)
    state = Path(process.of(DirectoriesConfig).state)
    with named("state.dir"):
        make_private(state)
    for connector in loaded.connectors:
        make_directories(connector, process)
    configured = own_runtime(process)
    with named("runtime.dir"):
        runtime = Runtime(base_of(os.environ, configured=configured, state=state))
    board = Board()
    broker = EmbeddedBroker(state=state, runtime=runtime.path)
    shown = display(quiet=quiet or json)
    show = Showing(shown, once, runtime.path / METERS)
    plan = Plan(loaded, again, once=once, state=state, broker=broker, served=served)
    supervisor = Supervisor(
        plan,
        runtime=runtime,
        board=board,
        once=once,
        broker=broker,
        on_tick=show.tick if watch is None else both(show.tick, watch),
        files=plan if served is not None and served.directory is not None else None,
    )
    try:
        code = supervisor.run()
    finally:
        show.display.close()
    with telling(code, needed=json):
        if json:
            text = msgspec.json.format(
                msgspec.json.encode(document(show.rows, show.seconds, show.budgets))
            )
            print(text.decode())
        elif not quiet:
            print(summary(show.rows, show.seconds, show.budgets))
    return code


def both(
    first: Callable[[Snapshot, Board], None], second: Callable[[Snapshot, Board], None]
) -> Callable[[Snapshot, Board], None]:
    """One after the other."""

    def tick(snapshot: Snapshot, board: Board) -> None:
        first(snapshot, board)
        second(snapshot, board)

    return tick


def say_start(loaded: Loaded) -> None:
    """What a reader of the log should know before anything happens."""
    if os.getuid() == 0:
        log.warning("Running as root; a user of its own is enough.")
    if loaded.absent:
        log.info("Not available yet, and off: %s.", ", ".join(loaded.absent))
    for connector in loaded.connectors:
        REDACTOR.names(connector.name, *(api.name for api in connector.apis))
        if connector.values.of(CatalogConfig).url_pattern is not None:
            found = config.endpoints(connector)
            log.info(
                "Connector %s owns %d of %d endpoints.",
                connector.name,
                sum(endpoint.owned for endpoint in found),
                len(found),
            )


def own_runtime(process: Values) -> Path | None:
    """`runtime.dir` if it is stated; else the machine's own rule decides."""
    if not process.stated("runtime.dir"):
        return None
    return Path(process.of(DirectoriesConfig).runtime)


class Showing:
    """
    Turns what the supervisor says each second into rows.

    Args:
        meters: Where the tasks write what they measure.

    Attributes:
        rows: One a shard, as last seen.
        seconds: Since the start.
        budgets: What is left of the rate limits, once the last task is gone.
    """

    def __init__(self, shown: Display, once: bool, meters: Path):
        self.display = shown
        self.rows: Sequence[ShardSums] = ()
        self.budgets: dict[str, RemainingLimits] = {}
        self._meters = meters
        self._once = once
        self._began = SYSTEM.monotonic()
        #: Slot -> seconds at which its shard was first seen, and at which it ended.
        self._since: dict[int, float] = {}
        self._finished: dict[int, float] = {}
        self._known: dict[int, ShardStatus] = {}
        self._begun = False
        self.seconds = 0.0

    def tick(self, snapshot: Snapshot, board: Board) -> None:
        """Called by the supervisor about once a second, and at the end."""
        self.seconds = SYSTEM.monotonic() - self._began
        trouble = {
            (child.connector, child.number): child.trace
            for child in snapshot.children
            if child.trace and not child.auxiliary
        }
        # Its task has ended while it waited: only `run --once` gives up so.
        unreached = {
            (child.connector, child.number): f"not reached: {child.waiting}"
            for child in snapshot.children
            if child.waiting and child.state == "DONE"
        }
        now = {shard.slot: shard for shard in snapshot.shards}
        # What scaling or a reload took away keeps its place, and its counts.
        self._known |= now
        rows = []
        for shard in self._known.values():
            counts = board.shard(shard.slot).read()
            seconds = self._seconds(shard, held=shard.slot in now)
            holder = (shard.connector, shard.task)
            error = shard.failed or trouble.get(holder)
            away = None if shard.finished else unreached.get(holder)
            rows.append(
                ShardSums(
                    connector=shard.connector,
                    api=shard.api,
                    shard=shard.label,
                    **{name: counts[name] for name in SUMS},
                    waited={
                        on: round(counts[column] / 1e9, 3)
                        for on, column in WAITS.items()
                    },
                    seconds=round(seconds, 3),
                    records_per_second=rate(counts["produced"], seconds),
                    error=error or away or None if shard.slot in now else None,
                    unreached=not error and away is not None,
                    finished=shard.finished,
                )
            )
        self._begun = True
        self.rows = rows
        if not any(child.pid for child in snapshot.children):
            self.budgets = budget.read(self._meters)
        waits = [c.waiting for c in snapshot.children if c.waiting and c.pid]
        self.display.show(rows, f"waiting for the broker: {waits[0]}" if waits else "")

    def _seconds(self, shard: ShardStatus, *, held: bool) -> float:
        """
        Seconds for which a shard has been polled: from the start, or the reload that brought it,
        to now, to its end, or to the reload that took it away.
        """
        began = self._since.setdefault(shard.slot, self.seconds if self._begun else 0.0)
        if held and not shard.finished and not shard.failed:
            # A reload tries again what had ended.
            self._finished.pop(shard.slot, None)
            return self.seconds - began
        return self._finished.setdefault(shard.slot, self.seconds) - began
