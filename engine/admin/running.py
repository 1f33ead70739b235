"""
Running: the view of a live engine.

Owns the reading of what the supervisor and the tasks leave for others to see:
the status file, the board, the configuration as it was written.  It asks
nobody and holds nobody up; the one thing it sends is a log level.

Path: ``cli.run`` starts it as a child -> here -> ``admin.entry``
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from engine import __version__
from engine.admin.answers import RequestLimits
from engine.admin.cards import cards
from engine.admin.commands import SupervisorClient
from engine.admin.entry import AdminChildContext, admin_entry
from engine.admin.positions import Place
from engine.admin.server import address
from engine.admin.view import (
    WAITING,
    ConnectorCard,
    Level,
    Process,
    ShardState,
    TaskState,
)
from engine.clock import SYSTEM
from engine.config import Loaded
from engine.config.sections.engine import (
    ScheduleConfig,
)
from engine.config.sections.observing import AdminConfig
from engine.config.served import Served
from engine.errors import EngineError
from engine.observe import build
from engine.observe import log as logs
from engine.observe.failures import decoded
from engine.observe.machine import cost
from engine.observe.meters import DIRECTORY
from engine.shared.board import Board, ChildSlot
from engine.shared.demands import CAUSES
from engine.shared.link import Link, Message, SetLevel
from engine.supervisor import status
from engine.supervisor.status import ChildStatus, Rebalances, Snapshot
from engine.task.build.kafka import KafkaBuilder, bootstrap_of

_LOG = logging.getLogger(__name__)

#: File of the bound addresses, in the supervisor's runtime directory.
LISTENERS = "listeners"

#: States of a child that Connect has another word for.
_STATES = {"DONE": "UNASSIGNED"}

_NOTHING_YET = Snapshot(pid=0, started_ms=0, state="starting")


class AdminContext(AdminChildContext, Protocol):
    """What this room needs of the child's context."""

    board: Board
    runtime: Path
    link: Link

    def report(self, message: Message) -> bool:
        """Send a message to the supervisor; False if the link is full."""


def run(
    context: AdminContext,
    *,
    loaded: Loaded,
    again: Callable[[], Loaded] | None = None,
    served: Served | None = None,
) -> int:
    """
    The admin process: the entry of its child.

    Args:
        loaded: As the supervisor has it at the fork.
        again: Reads it anew, once the supervisor has taken up another one.
        served: What the files say, for those who change connectors.

    Returns: the exit code.  Blocks: for the life of the process.
    """
    logs.name_process(task="admin")
    if served is not None:
        served.quiet = True
    process = loaded.process
    token = process.of(AdminConfig).token
    listeners = process.of(AdminConfig).listeners
    view = Running(
        context,
        loaded,
        served,
        worker_id=worker_id(listeners),
        again=again,
    )
    return admin_entry(
        context,
        view=view,
        served=served,
        places=view.place,
        commands=SupervisorClient(context.report),
        listeners=listeners,
        measure=cost,
        token=token.reveal() if token is not None else "",
        hosts=process.of(AdminConfig).allowed_hosts or (),
        bounds=RequestLimits(
            requests=process.of(AdminConfig).jolokia_max_requests,
            answer=process.of(AdminConfig).jolokia_max_answer,
            loggers=process.of(AdminConfig).max_loggers,
        ),
        families=process.of(AdminConfig).metric_names,
        ports=context.runtime / LISTENERS,
        wake=context.link.fileno(),
    )


def worker_id(listeners: Sequence[str]) -> str:
    """Host and port, as Connect names a worker."""
    return f"{socket.gethostname()}:{address(listeners[0]).port}"


def _step(child: ChildStatus, slot: ChildSlot | None) -> str:
    """What the start of a task is at."""
    if slot is None or child.state != "UNASSIGNED" or not child.pid:
        return ""
    phase = slot.phase.replace("_", " ")
    total = slot.get("step_total")
    return f"{phase}: {slot.get('step_done'):,} of {total:,}" if total else phase


class Running:
    """
    `View` of this engine.

    Args:
        context: Of the admin child.
        loaded: What the configuration says.
        served: What the files say.
        worker_id: "host:port".
        again: Reads the configuration anew.
    """

    version = __version__
    commit = build.commit()

    def __init__(
        self,
        context: AdminContext,
        loaded: Loaded,
        served: Served | None = None,
        *,
        worker_id: str,
        again: Callable[[], Loaded] | None = None,
    ) -> None:
        self._loaded = loaded
        self._served = served
        self._again = again
        self._generation: int | None = None
        # One thread reads the configuration anew, the others wait for it: `_loaded` and `_cards`
        # belong together, and a half of each would show connectors that are gone.
        self._refreshing = threading.Lock()
        self._worker_id = worker_id
        self.meters = str(context.runtime / DIRECTORY)
        self._context = context
        self._board = context.board
        self._cards = cards(loaded, served)
        self._read_at: tuple[int, int] | None = None
        self._last = _NOTHING_YET
        self._asked: dict[str, Level] = {}
        #: Connector -> api -> records it had written when its topics were forgotten.
        self._forgotten: dict[str, dict[str, int]] = {}
        # Shards that no task holds any more: they stay part of the totals.
        self._labels = self._all_labels()
        self._first = self._snapshot().generation
        self.started_ms = self._snapshot().started_ms or SYSTEM.wall_ms()

    @property
    def cluster_id(self) -> str:
        return self._snapshot().cluster

    @property
    def worker_id(self) -> str:
        """`host:port` of this worker, with the port that was found where any would do."""
        host, _, port = self._worker_id.rpartition(":")
        if port == "0":
            try:
                urls = (self._context.runtime / LISTENERS).read_text().split()
            except OSError:
                urls = []
            if urls:
                self._worker_id = f"{host}:{address(urls[0]).port}"
        return self._worker_id

    def connectors(self) -> Sequence[ConnectorCard]:
        self.refresh()
        return self._cards

    def place(self, connector: str) -> Place | None:
        """Where a connector's offsets are kept, or None: there is no such one."""
        self.refresh()
        for each in self._loaded.connectors:
            if each.name == connector:
                servers = bootstrap_of(each.values, lambda: self._snapshot().broker)
                zone = self._loaded.process.of(ScheduleConfig).timezone
                return Place(each, KafkaBuilder(each, servers).state(), zone)
        return None

    def refresh(self) -> None:
        generation = self._snapshot().generation
        if self._generation is None:
            # As it was at the fork, or read anew below if that is not the newest.
            self._generation = self._first
        if generation == self._generation or self._again is None:
            return
        with self._refreshing:
            if generation == self._generation:
                return
            try:
                self._loaded = self._again()
                self._cards = cards(self._loaded, self._served)
            except EngineError as failure:
                _LOG.warning("The configuration cannot be read anew: %s", failure)
            self._generation = generation

    def topics(self, connector: str) -> Sequence[str]:
        card = next((c for c in self._cards if c.name == connector), None)
        if card is None:
            return ()
        forgotten = self._forgotten.get(connector, {})
        found = {
            card.topics[api]: None
            for api, records in self._written(connector).items()
            if api in card.topics and records > forgotten.get(api, 0)
        }
        return tuple(found)

    def forget_topics(self, connector: str) -> None:
        if any(card.name == connector for card in self._cards):
            self._forgotten[connector] = self._written(connector)

    def _written(self, connector: str) -> dict[str, int]:
        """Api -> records it has written."""
        found: dict[str, int] = {}
        for shard in self.shards():
            if shard.connector == connector:
                written = shard.counts["produced"]
                found[shard.api] = found.get(shard.api, 0) + written
        return found

    def target(self, connector: str) -> str:
        return self._snapshot().states.get(connector, "RUNNING")

    def tasks(self) -> Sequence[TaskState]:
        found = []
        for child in self._snapshot().children:
            # Connect shows no tasks of a connector that is stopped, nor of one
            # that was paused before it had any.
            state = self.target(child.connector)
            unseen = state == "STOPPED" or (state == "PAUSED" and not child.listed)
            if child.auxiliary or unseen:
                continue
            slot = self._board.child(child.index) if child.index >= 0 else None
            phase = slot.phase if slot is not None else ""
            beat = slot.get("heartbeat_ns") / 1e9 if slot and child.pid else 0.0
            found.append(
                TaskState(
                    connector=child.connector,
                    number=child.number,
                    state=_STATES.get(child.state, child.state),
                    pid=child.pid,
                    trace=child.trace,
                    phase=WAITING if child.waiting else phase,
                    restarts=child.restarts,
                    heartbeat=beat,
                    waiting=child.waiting,
                    drained=child.drained,
                    drained_ms=child.drained_ms,
                    step=_step(child, slot),
                    troubles=child.troubles,
                )
            )
        return found

    def shards(self) -> Sequence[ShardState]:
        found = []
        held = set()
        for shard in self._snapshot().shards:
            held.add(shard.slot)
            self._labels[shard.slot] = (shard.connector, shard.api, shard.label)
            # A tree has failed once, and its root says so.
            failed = "" if shard.below else shard.failed
            found.append(self._shard(shard.slot, task=shard.task, failed=failed))
        found += [
            self._shard(slot, task=None, failed="")
            for slot in self._labels.keys() - held
        ]
        return found

    def processes(self) -> Sequence[Process]:
        seen = self._snapshot()
        found = [Process("supervisor", seen.pid)]
        found += [
            Process(child.key, child.pid) for child in seen.children if child.auxiliary
        ]
        if seen.broker_pid:
            found.append(Process("broker", seen.broker_pid))
        return [process for process in found if process.pid]

    def scaling(self) -> Mapping[tuple[str, str, str], int]:
        found = {}
        for text, n in self._snapshot().scaling.items():
            connector, _, rest = text.partition(" ")
            direction, _, reason = rest.partition(" ")
            found[connector, direction, reason] = n
        return found

    def rebalances(self) -> Rebalances:
        return self._snapshot().rebalances

    def reloads(self) -> Mapping[str, int]:
        return self._snapshot().reloads

    def loggers(self) -> Mapping[str, Level]:
        seen = self._snapshot()
        found = {
            name or "root": Level(level, seen.levels_changed.get(name))
            for name, level in seen.levels.items()
        }
        found.setdefault("root", Level("INFO"))
        for name, asked in list(self._asked.items()):
            told = found.get(name)
            if told is not None and (told.changed_ms or 0) >= (asked.changed_ms or 0):
                self._asked.pop(name, None)
            else:
                found[name] = asked
        return found

    def set_level(self, logger: str, level: str) -> Sequence[str]:
        # Shown at once; the supervisor's own word replaces it within a second.
        self._asked[logger] = Level(level, SYSTEM.wall_ms())
        self._context.report(SetLevel("" if logger == "root" else logger, level))
        return [logger]

    def _shard(self, slot: int, *, task: int | None, failed: str) -> ShardState:
        connector, api, label = self._labels[slot]
        counts = self._board.shard(slot).read()
        return ShardState(
            place=slot,
            connector=connector,
            api=api,
            label=label,
            task=task,
            counts=counts,
            success_ms=counts["last_success_ms"],
            failed=failed,
            failure=decoded(self._board.failure(slot)),
            record_ms=counts["last_record_ms"],
            next_ms=counts["next_poll_ms"],
            held_by=CAUSES[counts["held_by"]],
            held_until_ms=counts["held_until_ms"],
            position=(self._board.position(slot) or b"").decode(errors="replace"),
        )

    def _all_labels(self) -> dict[int, tuple[str, str, str]]:
        """Slot -> (connector, api, label), as the supervisor wrote them."""
        found = {}
        for slot in range(self._board.layout.shards):
            content = self._board.label(slot)
            if content:
                connector, _, label = content.decode(errors="replace").partition("/")
                api = label.partition("/")[0].partition("[")[0]
                found[slot] = (connector, api, label)
        return found

    def _snapshot(self) -> Snapshot:
        """The supervisor's status; read again only when it was replaced."""
        directory = self._context.runtime
        try:
            seen = os.stat(directory / status.NAME)
        except OSError:
            return self._last
        moment = (seen.st_ino, seen.st_mtime_ns)
        if moment != self._read_at:
            snapshot = status.read(directory)
            if snapshot is not None:
                self._last, self._read_at = snapshot, moment
        return self._last
