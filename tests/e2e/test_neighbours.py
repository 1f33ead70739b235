"""
Nothing that happens to a connector disturbs the tasks of another.

Judged by what the other's task did and not by a clock, which a busy machine moves: one
process, one connection, not a word about it, and pages at every step.  How late its pages
are is `perf.bench_neighbour`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.brokers import Broker
from tests.e2e.admin import Told
from tests.e2e.rig import Running, until
from tests.e2e.test_connectors import Service, news
from tests.fakes.api import Api

pytestmark = pytest.mark.slow

STEADY = "steady"


class Steady:
    """The connector that nothing happens to, on an API of its own."""

    def __init__(self, service: Service, api: Api, running: Running) -> None:
        self._service = service
        self._api = api
        self._running = running
        api.route("/steady", news)
        keys = service.keys("steady-t", tasks__max="1")
        keys |= {"http.source.url": f"{api.url}/steady"}
        keys |= {"http.source.poll.interval.ms": "20"}
        body = {"name": STEADY, "config": keys}
        assert 201 == service.ask("POST", "/connectors", body).status
        until(lambda: len(api.log) > 20, "it polls")
        self._process = psutil.Process(self._pid())
        self._said = self._lines()
        self._connections = api.counts.connections
        self._status = service.admin.get(f"/connectors/{STEADY}/status")

    def _pid(self) -> int:
        for line in self._lines():
            if f"{STEADY}/0 started as process " in line:
                return int(line.partition("as process ")[2].split()[0])
        raise AssertionError("it never started")

    def _lines(self) -> list[str]:
        return [line for line in self._running.err.splitlines() if STEADY in line]

    def serves(self) -> None:
        """Ten pages more, out of the same process over the same connection."""
        before = len(self._api.log)
        until(lambda: len(self._api.log) >= before + 10, "pages go on")
        assert self._process.is_running()
        assert self._connections == self._api.counts.connections
        assert self._said == self._lines()
        told = self._service.admin.get(f"/connectors/{STEADY}/status")
        assert self._status == told


@pytest.fixture
def service(tmp_path: Path, embedded: Broker) -> Iterator[Service]:
    with Api() as api:
        yield Service(tmp_path, embedded, api)


def test_another_one_that_comes_changes_fails_and_goes_is_not_noticed(
    service: Service,
) -> None:
    with Api() as own, service.running() as running:
        steady = Steady(service, own, running)
        path = "/connectors/other"
        file = service.directory / "hand.properties"

        def ask(method: str, where: str, body: object = None) -> Callable[[], Told]:
            return lambda: service.ask(method, f"{path}{where}", body)

        def polled() -> None:
            service.polled("other")

        def by_hand(**more: object) -> None:
            service.api.route("/hand-t", news)
            keys = service.keys("hand-t", name="hand", **more)
            file.write_text("".join(f"{k}={v}\n" for k, v in keys.items()))

        def known(name: str, there: bool) -> None:
            until(
                lambda: (name in service.admin.get("/connectors")) == there,
                f"{name} is {'there' if there else 'gone'}",
            )

        def stopped() -> None:
            until(
                lambda: (
                    "STOPPED"
                    == service.admin.get(f"{path}/status")["connector"]["state"]
                ),
                "stopped",
            )

        offsets: list[object] = []
        for step in (
            lambda: service.create("other", tasks__max="2"),
            polled,
            # Another configuration, another number of tasks, another rate.
            ask("PATCH", "/config", {"http.source.poll.interval.ms": "30"}),
            polled,
            ask(
                "PATCH",
                "/config",
                {"tasks.max": "1", "rate.limit.requests.per.second": "90"},
            ),
            polled,
            ask("PUT", "/pause"),
            ask("PUT", "/resume"),
            polled,
            ask("POST", "/restart?includeTasks=true"),
            polled,
            ask("POST", "/tasks/0/restart"),
            polled,
            # One that fails, and again and again.
            lambda: service.api.route("/other-t", lambda asked: (401, [], b"")),
            ask("POST", "/restart?includeTasks=true&onlyFailed=true"),
            ask("PUT", "/stop"),
            stopped,
            lambda: offsets.extend(service.admin.get(f"{path}/offsets")["offsets"]),
            ask("PATCH", "/offsets", {"offsets": offsets}),
            ask("DELETE", "/offsets"),
            lambda: service.api.route("/other-t", news),
            ask("PUT", "/resume"),
            polled,
            # What is refused.
            ask("PUT", "/config", {"connector.class": "No.Such"}),
            ask("PATCH", "/config", {"no.such.key": "1"}),
            ask("DELETE", ""),
            # What people put there, well and badly.
            by_hand,
            lambda: known("hand", True),
            lambda: by_hand(tasks__max="many"),
            lambda: until(
                lambda: running.said(r"hand\.properties is left as it was"), "refused"
            ),
            file.unlink,
            lambda: known("hand", False),
        ):
            step()
            steady.serves()
        assert ["steady"] == service.admin.get("/connectors")
        assert 0 == running.end().code
    assert json.loads((service.directory / "steady.json").read_text())
