"""A view with one connector, and meters it can read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.admin.answers import AdminRequest, AdminResponse, RequestLimits
from engine.admin.guard import ConnectionEnds, Guard
from engine.admin.page.buttons import Buttons
from engine.admin.page.pages import StatusPages
from engine.admin.page.sessions import Sessions
from engine.admin.positions import Place
from engine.admin.routes import Router
from engine.admin.view import ConnectorCard, ShardState, TaskState
from engine.admin.watch import HealthWatch
from engine.observe.meters import Meters
from tests.fakes.view import FakeClock, FakeView, Obeying, card, unmeasured

LOCAL = ConnectionEnds("127.0.0.1", "127.0.0.1")


class Stage:
    """One connector whose shard, meters and time a test moves by hand."""

    def __init__(self, directory: str, *cards: ConnectorCard):
        self.clock = FakeClock()
        self.view = FakeView(
            directory, started_ms=self.clock.wall_ms(), cards=cards or [card()]
        )
        self.view.task_states = [TaskState("orders", 0, "RUNNING", pid=1)]
        self.meters = self.task(0)
        self.counts: dict[str, int] = {}
        self.shard()
        self.commands = Obeying()
        self.places: Callable[[str], Place | None] = lambda name: None
        self.watch = HealthWatch(self.view, clock=self.clock)
        self.families = ["NATIVE", "STRIMZI"]
        self.token = ""
        self.hosts = ["connect.example"]
        self.bounds = RequestLimits()
        self._sessions: Sessions | None = None

    def task(self, number: int, connector: str = "orders") -> Meters:
        return Meters(
            directory=self.view.meters,
            connector=connector,
            task=number,
            clock=self.clock,
        )

    def shard(self, **changed: object) -> None:
        """Replace the one shard; `counts` and a success by default."""
        values: dict[str, object] = {
            "place": 0,
            "connector": "orders",
            "api": "api1",
            "label": "api1",
            "task": 0,
            "counts": dict(self.counts),
            "success_ms": 0,
        }
        self.view.shard_states = [ShardState(**{**values, **changed})]  # type: ignore[arg-type]

    def deliver(self, records: int) -> None:
        """The shard got a page of so many records into Kafka, just now."""
        for column in ("received", "produced"):
            self.counts[column] = self.counts.get(column, 0) + records
        self.counts["pages"] = self.counts.get("pages", 0) + 1
        self.shard(success_ms=self.clock.wall_ms())

    @property
    def acted(self) -> list[tuple[str, str]]:
        """What the supervisor was asked for."""
        return [(connector, verb) for verb, connector, _ in self.commands.asked]

    @property
    def sessions(self) -> Sessions:
        """Of one life of the process."""
        if self._sessions is None:
            self._sessions = Sessions(self.token, clock=self.clock)
        return self._sessions

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes = b"",
        caller: ConnectionEnds = LOCAL,
        query: dict[str, list[str]] | None = None,
        **headers: str,
    ) -> AdminResponse:
        """Through the routes, without a socket."""
        self.meters.flush()
        routes = Router(
            self.view,
            self.watch,
            self.commands,
            places=self.places,
            guard=Guard(token=self.token, hosts=self.hosts),
            bounds=self.bounds,
            families=self.families,
            measure=unmeasured,
            pages=StatusPages(
                self.view,
                self.watch.look,
                began=self.watch.began,
                sessions=self.sessions,
                act=Buttons(self.commands),
            ),
        )
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        request = AdminRequest(
            method, path, query or {}, {"host": "localhost:8080", **given}, body
        )
        return routes(request, caller)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(str(tmp_path / "meters"))
    yield made
    made.meters.close()


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def make(*cards: ConnectorCard) -> Stage:
        made.append(Stage(str(tmp_path / "meters"), *cards))
        return made[-1]

    yield make
    for one in made:
        one.meters.close()
