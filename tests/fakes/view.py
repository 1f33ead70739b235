"""A view whose every answer a test can set, and an admin that serves it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from engine.admin.answers import BOUNDS, RequestLimits
from engine.admin.commands import SupervisorClient
from engine.admin.entry import admin_entry
from engine.admin.view import (
    ApiCard,
    ConnectorCard,
    Level,
    Process,
    ShardState,
    TaskState,
)
from engine.observe.machine import Cost
from engine.shared.link import AskOutcome, Message
from engine.supervisor.status import Rebalances


class FakeClock:
    """Time that a test moves by hand."""

    def __init__(self, monotonic: float = 1000.0, wall_ms: int = 1_800_000_000_000):
        self.now = monotonic
        self._offset = wall_ms / 1000 - monotonic

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return round((self.now + self._offset) * 1000)

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


def card(name: str = "orders", **changed: object) -> ConnectorCard:
    values: dict[str, object] = {
        "name": name,
        "config": {"name": name, "http.auth.password": "${env:SECRET}"},
        "apis": (ApiCard("api1", 10.0),),
        "topics": {"api1": "orders-topic"},
    }
    return ConnectorCard(**{**values, **changed})  # type: ignore[arg-type]


class FakeView:
    """Plain attributes; `counts` is what the one shard of api1 has counted."""

    version = "0.1.0"
    commit = "abcdef0"
    cluster_id = "kraft-1"
    worker_id = "localhost:8080"

    def __init__(self, meters: str, *, started_ms: int, cards: Sequence[ConnectorCard]):
        self.meters = meters
        self.started_ms = started_ms
        self.cards = list(cards)
        self.task_states: list[TaskState] = []
        self.written = {"orders": ["orders-topic"]}
        self.targets: dict[str, str] = {}
        self.shard_states: list[ShardState] = []
        self.levels = {"root": Level("INFO")}
        self.judgements: dict[tuple[str, str, str], int] = {}
        self.rebalanced = Rebalances()
        self.others: list[Process] = []

    def refresh(self) -> None:
        """Nothing: a test sets what there is."""

    def connectors(self) -> Sequence[ConnectorCard]:
        return self.cards

    def target(self, connector: str) -> str:
        return self.targets.get(connector, "RUNNING")

    def topics(self, connector: str) -> Sequence[str]:
        return self.written.get(connector, ())

    def forget_topics(self, connector: str) -> None:
        self.written.pop(connector, None)

    def tasks(self) -> Sequence[TaskState]:
        return self.task_states

    def shards(self) -> Sequence[ShardState]:
        return self.shard_states

    def processes(self) -> Sequence[Process]:
        return self.others

    def scaling(self) -> Mapping[tuple[str, str, str], int]:
        return self.judgements

    def rebalances(self) -> Rebalances:
        return self.rebalanced

    def reloads(self) -> Mapping[str, int]:
        return {"ok": 1}

    def loggers(self) -> Mapping[str, Level]:
        return self.levels

    def set_level(self, logger: str, level: str) -> Sequence[str]:
        self.levels[logger] = Level(level, 1_800_000_000_123)
        return [logger]


class Obeying(SupervisorClient):
    """A supervisor that does all it is asked for, at once; `asked` is what."""

    def __init__(self) -> None:
        super().__init__(lambda message: True)
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.told = AskOutcome(0)

    def ask(self, verb: str, connector: str, **more: Any) -> AskOutcome:
        self.asked.append((verb, connector, more))
        return self.told


def unmeasured(pid: int) -> Cost | None:
    return Cost(resident=20_000_000, cpu=1.5, descriptors=12)


class Stop:
    """`seams.Stopping` over an event."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def is_set(self) -> bool:
        return self.event.is_set()

    def wait(self, seconds: float) -> bool:
        return self.event.wait(seconds)


class FakeContext:
    """What a child is given, without a fork."""

    def __init__(self) -> None:
        self.stopping = Stop()
        self.said_ready = False

    def ready(self) -> None:
        self.said_ready = True

    def orders(self) -> list[Message]:
        return []


@contextmanager
def serving(
    view: FakeView,
    ports: str,
    *,
    listeners: Sequence[str] = ("http://127.0.0.1:0",),
    token: str = "",
    hosts: Sequence[str] = (),
    bounds: RequestLimits = BOUNDS,
    families: Sequence[str] = ("NATIVE", "STRIMZI"),
    commands: SupervisorClient | None = None,
) -> Iterator[list[str]]:
    """The admin process' loop in a thread; gives the URLs it listens on."""
    context = FakeContext()
    codes: list[int] = []
    thread = threading.Thread(
        target=lambda: codes.append(
            admin_entry(
                context,
                view=view,
                commands=commands or Obeying(),
                listeners=listeners,
                measure=unmeasured,
                token=token,
                hosts=hosts,
                bounds=bounds,
                families=families,
                ports=ports,
            )
        )
    )
    thread.start()
    try:
        urls: list[str] = []
        for _ in range(200):
            try:
                with open(ports) as file:
                    urls = file.read().split()
                break
            except FileNotFoundError:
                context.stopping.wait(0.02)
        yield urls
    finally:
        context.stopping.event.set()
        thread.join(10)
        assert ([0], True) == (codes, context.said_ready)
