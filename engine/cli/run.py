"""
Run: `run FILE...`, from the configuration to the exit code.

Owns what the supervisor is given: the wanted state made from the files, the
entry function of each child, the display.  It opens nothing itself; the heavy
rooms are imported before the fork so that all tasks share them.

Path: ``cli.main`` -> here -> ``supervisor.loop`` -> (fork) -> ``task``
"""

from __future__ import annotations

import argparse
import functools
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine import config
from engine.cli import budget
from engine.cli.budget import Budget
from engine.cli.check import told
from engine.cli.display import SUMS, Display, Row, display, document, rate, summary
from engine.cli.output import telling
from engine.clock import SYSTEM
from engine.config import Connector, Loaded, Values
from engine.config.endpoints import splittable
from engine.config.sections.cache import ResponseCacheConfig, TierConfig
from engine.config.sections.delivery import StateConfig
from engine.config.sections.engine import IdentityConfig
from engine.config.sections.kafka import BootstrapConfig
from engine.config.sections.observing import AdminConfig, LogConfig
from engine.config.sections.paging import PaginationConfig
from engine.config.sections.processes import (
    DirectoriesConfig,
    MemoryConfig,
    ScalingConfig,
    TasksConfig,
)
from engine.config.sections.request import CatalogConfig
from engine.config.served import Served, file_of
from engine.errors import ConfigError, EngineError, Exit, NoInput
from engine.observe import log as logs
from engine.observe.meters import DIRECTORY as METERS
from engine.observe.names import WAITS
from engine.observe.redact import REDACTOR
from engine.shared.board import Board
from engine.supervisor import assign, orders, signals
from engine.supervisor.broker import EmbeddedBroker
from engine.supervisor.child import ChildContext, ChildSpec
from engine.supervisor.loop import Supervisor
from engine.supervisor.restart import Limits
from engine.supervisor.runtime import (
    NoRuntime,
    Runtime,
    base_of,
    make_private,
    make_usable,
)
from engine.supervisor.scale import Scaling
from engine.supervisor.status import ShardStatus, Snapshot
from engine.task import entry as task_entry
from engine.task.build.kafka import state_place
from engine.task.build.limits import limits_of

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
) -> int:
    """
    Run what was loaded until it is done or told to stop.

    Args:
        again: Reads it anew, for a reload.
        once: Each api is polled once.
        json: Print the totals as one document at the end.
        quiet: Show no progress and no summary.
        served: What the files say, for those who change connectors while it runs.

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
        on_tick=show.tick,
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


def refuse_unbuilt(loaded: Loaded) -> None:
    """
    Raises: ConfigError for every value whose behaviour is not available yet.
    """
    if loaded.unbuilt:
        raise ConfigError(loaded.unbuilt)


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


@contextmanager
def named(key: str) -> Iterator[None]:
    """Say which key asks for a directory that cannot be had."""
    try:
        yield
    except NoRuntime as failure:
        raise NoRuntime(f"{key}: {failure}") from failure


def make_directories(connector: Connector, process: Values) -> None:
    """
    Make what a connector's keys ask for, before anything is started.

    A cache that cannot be kept on disk is said, and is no reason to stay away.

    Raises: NoRuntime, naming the key.
    """
    values = connector.values
    file = values.of(StateConfig).file
    if file is not None:
        with named("offset.storage.file.filename"):
            make_usable(file)
    kept = any(api.values.of(ResponseCacheConfig).enabled for api in connector.apis)
    if kept and values.of(TierConfig, level="3").max_size:
        try:
            make_usable(Path(process.of(DirectoriesConfig).cache))
        except NoRuntime as failure:
            log.warning("cache.dir: %s; answers are not kept on disk.", failure)


def own_runtime(process: Values) -> Path | None:
    """`runtime.dir` if it is stated; else the machine's own rule decides."""
    if not process.stated("runtime.dir"):
        return None
    return Path(process.of(DirectoriesConfig).runtime)


class Plan:
    """
    The wanted state, read afresh at each reload.

    Args:
        loaded: What the first call gives without reading again.
        again: Reads it anew.
    """

    def __init__(
        self,
        loaded: Loaded,
        again: Callable[[], Loaded],
        *,
        once: bool,
        state: Path,
        broker: EmbeddedBroker,
        served: Served | None = None,
    ):
        self._served = served
        self._next: Loaded | None = loaded
        self._again = again
        self._once = once
        self._state = state
        self._broker = broker

    def __call__(self) -> orders.Wanted:
        """Raises: ConfigError; a reload then changes nothing."""
        loaded, self._next = self._next, None
        if loaded is None:
            loaded = self._again()
            refuse_unbuilt(loaded)
        return self._wanted(loaded)

    # As `supervisor.commands.Files`.

    def put(self, connector: str, draft: str) -> orders.Wanted:
        """Raises: EngineError."""
        assert self._served is not None
        return self._wanted(self._served.put(connector, draft), of=connector)

    def drop(self, connector: str) -> orders.Wanted:
        """Raises: KeyError."""
        assert self._served is not None
        return self._wanted(self._served.drop(connector))

    def keep(self) -> None:
        """Raises: OSError."""
        assert self._served is not None
        self._served.keep()

    def changed(self) -> bool:
        """True if somebody has changed the files of the directory."""
        return self._served is not None and self._served.changed()

    def _wanted(self, loaded: Loaded, *, of: str = "") -> orders.Wanted:
        process = loaded.process
        return orders.Wanted(
            connectors=tuple(self._connectors(loaded, of)),
            patience=orders.Patience(
                silence=process.of(TasksConfig).heartbeat_timeout,
                grace=process.of(TasksConfig).grace,
                restarts=Limits(
                    backoff=process.of(TasksConfig).restart_backoff,
                    backoff_max=process.of(TasksConfig).restart_backoff_max,
                    most=process.of(TasksConfig).restart_limit,
                ),
            ),
            others=self._others(loaded),
            secrets=loaded.variables,
            embedded=any(
                connector.values.of(BootstrapConfig).servers == ("embedded",)
                for connector in loaded.connectors
            ),
            level=process.of(LogConfig).level,
        )

    def _connectors(self, loaded: Loaded, of: str) -> Iterator[orders.Connector]:
        """
        Each that can be run.

        Args:
            of: Whose failure is the caller's; others of the directory are left out.

        Raises: EngineError.
        """
        for connector in loaded.connectors:
            owner = self._owner(connector)
            try:
                REDACTOR.names(connector.name, *(api.name for api in connector.apis))
                make_directories(connector, loaded.process)
                made = self._connector(connector, loaded.process, loaded.connectors)
            except EngineError as failure:
                if owner or connector.name == of:
                    raise
                log.error("Connector %s is left out: %s", connector.name, failure)
                continue
            yield msgspec.structs.replace(
                made, owner=owner, initial_state=connector.initial_state
            )

    def _owner(self, connector: Connector) -> str:
        """The file of the command line that it stands in; "" in the directory."""
        if self._served is None or self._served.directory is None:
            return file_of(connector) or "the command line"
        return self._served.owner(connector.name) or ""

    def _others(self, loaded: Loaded) -> tuple[ChildSpec, ...]:
        """
        The admin process, unless `listeners=none`.

        A run that ends by itself has one only where it was asked for: beside a
        service it would find the port taken.
        """
        process = loaded.process
        if process.of(AdminConfig).listeners == ("none",):
            return ()
        if self._once and not process.stated("listeners"):
            return ()
        return (
            ChildSpec(
                key="admin",
                # It takes up other connectors while it serves.
                fingerprint=process.fingerprint,
                entry=functools.partial(
                    run_admin, loaded=loaded, again=self._again, served=self._served
                ),
                auxiliary=True,
            ),
        )

    def _connector(
        self, connector: Connector, process: Values, connectors: Sequence[Connector]
    ) -> orders.Connector:
        values = connector.values
        claims = self._state / "locks" / state_place(values)
        for directory in (claims.parent, claims):
            make_private(directory)
        scaling = None
        if values.of(ScalingConfig).enabled:
            scaling = Scaling(
                least=values.of(ScalingConfig).min_tasks,
                most=values.of(ScalingConfig).max_tasks,
                up=values.of(ScalingConfig).up,
                down=values.of(ScalingConfig).down,
                interval=values.of(ScalingConfig).interval_minutes * 60,
            )
        return orders.Connector(
            name=connector.name,
            entry=functools.partial(
                run_task,
                connector=connector,
                process=process,
                broker=self._broker,
                once=self._once,
                siblings=tuple(
                    each.name
                    for each in connectors
                    if each is not connector
                    and state_place(each.values) == state_place(values)
                ),
            ),
            apis=tuple(owned(connector)),
            claims=claims,
            fingerprint=f"{connector.fingerprint}{process.fingerprint}",
            tasks=values.of(IdentityConfig).tasks_max,
            scaling=scaling,
            limits=limits_of(connector),
            memory_max=values.of(MemoryConfig).max_bytes,
        )


def owned(connector: Connector) -> Iterator[assign.Api]:
    """
    What a connector polls: its top-level apis, each with its tree.

    Source: `http.source.url.pattern`, which leaves out apis and partitions.
    """
    found: dict[str, list[str | None]] = {}
    for endpoint in config.endpoints(connector):
        if endpoint.owned:
            found.setdefault(endpoint.api.name, []).append(endpoint.entity)
    for api in connector.apis:
        if api.name in found:
            below = tuple(connector.descendants(api))
            prints = [each.fingerprint for each in (api, *below)]
            yield assign.Api(
                name=api.name,
                fingerprint="/".join(prints),
                entities=tuple(e for e in found[api.name] if e is not None),
                splittable=splittable(connector, api),
                most=api.values.of(PaginationConfig).max_pages,
                below=tuple(each.name for each in below),
            )


def run_task(
    context: ChildContext,
    *,
    connector: Connector,
    process: Values,
    broker: EmbeddedBroker,
    once: bool,
    siblings: Sequence[str] = (),
) -> int:
    """The entry of a task process."""
    return task_entry.run(
        context,
        connector=connector,
        process=process,
        embedded=lambda: broker.address,
        once=once,
        siblings=siblings,
    )


def run_admin(
    context: ChildContext,
    *,
    loaded: Loaded,
    again: Callable[[], Loaded],
    served: Served | None,
) -> int:
    """The entry of the admin process, which alone imports its room."""
    admin = importlib.import_module("engine.admin.running")
    return int(admin.run(context, loaded=loaded, again=again, served=served))


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
        self.rows: Sequence[Row] = ()
        self.budgets: dict[str, Budget] = {}
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
                Row(
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
        For how long a shard has been polled: from the start, or from the reload
        that brought it, to now, to its end, or to the reload that took it away.
        """
        began = self._since.setdefault(shard.slot, self.seconds if self._begun else 0.0)
        if held and not shard.finished and not shard.failed:
            # A reload tries again what had ended.
            self._finished.pop(shard.slot, None)
            return self.seconds - began
        return self._finished.setdefault(shard.slot, self.seconds) - began
