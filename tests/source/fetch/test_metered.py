"""Metered: one count a request, its retries inside it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.errors import Denied, SourceError, Unreachable
from engine.observe.names import REQUEST_SECONDS, REQUESTS, Metric
from engine.records import Request, Response
from engine.source.fetch.metered import Metered
from tests.fakes.view import FakeClock, Stop


class Noted:
    """A meter that remembers."""

    detailed = False

    def __init__(self) -> None:
        self.seen: list[tuple[Metric, tuple[str, ...], float]] = []

    def count(self, metric: Metric, labels: tuple[str, ...] = (), n: float = 1) -> None:
        self.seen.append((metric, labels, n))

    def timer(
        self, metric: Metric, labels: tuple[str, ...] = ()
    ) -> Callable[[float], None]:
        return lambda seconds: self.seen.append((metric, labels, seconds))

    def state(
        self, metric: Metric, labels: tuple[str, ...] = (), value: float = 0.0
    ) -> None:
        self.seen.append((metric, labels, value))


ASKED = Request("GET", "https://api.example:8443/orders?page=1")


def answering(clock: FakeClock, outcome: int | SourceError) -> object:
    def fetch(request: Request) -> Response:
        if isinstance(outcome, SourceError):
            raise outcome
        sent_at = clock.now
        clock.pass_by(0.25)
        return Response(
            request=request,
            url=request.url,
            status=outcome,
            headers=(),
            body=b"",
            sent_at=sent_at,
            received_ms=0,
        )

    return fetch


def test_an_answer_is_counted_by_its_class_and_timed_from_its_last_try() -> None:
    clock, meter = FakeClock(), Noted()
    metered = Metered(answering(clock, 200), meter, stopping=Stop(), clock=clock)  # type: ignore[arg-type]

    assert 200 == metered(ASKED).status
    counted, timed = meter.seen
    assert (REQUESTS, ("api.example:8443", "ok", "2xx"), 1) == counted
    assert (REQUEST_SECONDS, ()) == timed[:2]
    assert 0.25 == pytest.approx(timed[2])


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Unreachable("no answer"), "none"),
        (Unreachable("later", status=503), "5xx"),
        (Denied("no", status=401), "4xx"),
    ],
)
def test_a_failure_is_counted_and_goes_on(failure: SourceError, kind: str) -> None:
    meter = Noted()
    metered = Metered(answering(FakeClock(), failure), meter, stopping=Stop())  # type: ignore[arg-type]

    with pytest.raises(SourceError) as raised:
        metered(ASKED)

    assert failure is raised.value
    assert [(REQUESTS, ("api.example:8443", "failed", kind), 1)] == meter.seen


def test_a_request_cut_by_the_end_of_the_task_is_none() -> None:
    meter, stopping = Noted(), Stop()
    stopping.event.set()
    metered = Metered(
        answering(FakeClock(), Unreachable("stopping")),  # type: ignore[arg-type]
        meter,
        stopping=stopping,
    )

    with pytest.raises(Unreachable):
        metered(ASKED)

    assert [] == meter.seen
