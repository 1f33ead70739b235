"""A shard's loop: when it polls, what it says of each poll, how it ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engine.errors import BadPage, Denied, EngineError, Exit, Unreachable
from engine.observe.failures import FailureLog
from engine.records import Page, Request, Response, Shard
from engine.task.pause import Gate
from engine.task.pulse import Pulse
from engine.task.shardloop import ShardLoop

SHARD = Shard("shop", "orders")


def page(*, last: bool = True, truncated: bool = False, unread: str = "") -> Page:
    request = Request("GET", "http://a/x")
    return Page(
        response=Response(
            request=request,
            url=request.url,
            status=200,
            headers=(),
            body=b"",
            sent_at=0.0,
            received_ms=0,
        ),
        index=0,
        records=[],
        offset={},
        last=last,
        truncated=truncated,
        unread=unread,
    )


class Polls:
    """A flow whose polls end as the test says; behind the last the loop stops."""

    shard = SHARD
    received = 3
    fresh = 0
    age: float | None = None

    def __init__(self, *ends: Page | None | EngineError | Exception):
        self.ends = list(ends)
        self.said: list[str] = []
        self.waits: list[float] = []
        self.wanted: list[float] = []
        self.gate = Gate()
        self.stopped = False

    # The flow.

    def poll(self) -> Page | None:
        self.said.append("poll")
        end = self.ends.pop(0)
        if not self.ends:
            self.stopped = True
        if isinstance(end, Exception):
            raise end
        return end

    # The pace.

    def due(self) -> float:
        return self.wanted.pop(0) if self.wanted else 0.0

    def next_ms(self) -> int:
        return 7

    def started(self) -> None:
        self.said.append("started")

    def ended(
        self,
        *,
        records: int,
        failed: bool = False,
        fresh: int = 0,
        age: float | None = None,
    ) -> None:
        self.said.append(f"ended {records}{' failed' if failed else ''}")

    # What stops it, and what it tells.

    def is_set(self) -> bool:
        return self.stopped

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.gate.closed = False
        return self.stopped

    def polling(self, begun: bool) -> None:
        self.said.append("polling" if begun else "over")

    def walk(self, **more: object) -> ShardLoop:
        self.failures = FailureLog(None)
        self.pulse = Pulse(fetch=60.0, work=30.0)
        arguments = {"patient": False, "once": False, **more}
        loop = ShardLoop(
            self,  # type: ignore[arg-type]
            pace=self,
            pulse=self.pulse,
            stopping=self,
            polling=self.polling,
            given_up=lambda failure: self.said.append(f"given up {failure}"),
            succeeded=lambda: self.said.append("succeeded"),
            failures=self.failures,
            ended=lambda loop: self.said.append("loop ended"),
            gate=self.gate,
            **arguments,  # type: ignore[arg-type]
        )
        loop.run()
        return loop


#: How a poll ends, and what is said of it between its beginning and the next.
SAID: dict[str, tuple[Page | None | EngineError, list[str]]] = {
    "whole": (page(), ["succeeded", "ended 3"]),
    "truncated": (page(last=False, truncated=True), ["succeeded", "ended 3"]),
    "without a page": (None, ["over", "succeeded", "ended 3"]),
    "cut by a stop": (page(last=False), ["ended 3"]),
    "given up": (Unreachable("x"), ["given up x", "over", "ended 3 failed"]),
}


@pytest.mark.parametrize("case", SAID)
def test_what_is_said_of_a_poll(case: str) -> None:
    end, said = SAID[case]
    polls = Polls(end, page())

    loop = polls.walk()

    begun = ["started", "polling", "poll"]
    assert [*begun, *said] == polls.said[: len(begun) + len(said)]
    assert "loop ended" == polls.said[-1]
    assert (None, Exit.OK) == (loop.verdict.failure, loop.verdict.code)
    assert ("ended", 0) == (polls.pulse.phase, loop.next_ms)


def test_it_waits_for_its_tick_and_asks_again_then() -> None:
    polls = Polls(page())
    polls.wanted = [5.0, 0.5]

    loop = polls.walk()

    assert [5.0, 0.5] == polls.waits
    assert 1 == polls.said.count("poll")
    assert loop.due_at is None


def test_a_single_poll_waits_for_nothing() -> None:
    polls = Polls(page(), page())
    polls.wanted = [5.0]

    polls.walk(once=True)

    assert [] == polls.waits
    assert 1 == polls.said.count("poll")


def test_no_poll_begins_while_the_connector_is_paused() -> None:
    polls = Polls(page())
    polls.gate.closed = True

    polls.walk()

    assert [0.2] == polls.waits
    assert 1 == polls.said.count("poll")


def test_a_loop_that_is_stopped_before_its_first_poll_has_not_failed() -> None:
    polls = Polls()
    polls.stopped = True

    loop = polls.walk()

    assert ["loop ended"] == polls.said
    assert loop.verdict.failure is None


#: The last page of a single poll, whether it was stopped: exit code, words.
ONCE: dict[str, tuple[Page | None, bool, Exit, str]] = {
    "whole": (page(), False, Exit.OK, ""),
    "without a page": (None, False, Exit.OK, ""),
    "truncated": (
        page(truncated=True),
        False,
        Exit.TRY_AGAIN,
        "cut by pagination.max.pages",
    ),
    "not all read": (page(unread="3 of 9"), False, Exit.DATA, "not all was read: 3 of"),
    "stopped": (page(last=False), True, Exit.OK, ""),
    "stopped at its end": (page(unread="1"), True, Exit.DATA, "not all was read"),
    "stopped without a page": (None, True, Exit.OK, ""),
}


@pytest.mark.parametrize("case", ONCE)
def test_how_a_run_of_one_poll_ends(case: str) -> None:
    last, stopped, code, words = ONCE[case]
    polls = Polls(last, *([] if stopped else [page()]))

    verdict = polls.walk(once=True).verdict

    assert code == verdict.code
    assert bool(words) == (verdict.failure is not None)
    assert words in str(verdict.failure)
    # It was as good as it could be: no shard is FAILED for it.
    assert verdict.follows is None


def test_bad_pages_are_borne_with_from_the_first_after_a_good_one() -> None:
    bad = BadPage("maintenance")
    polls = Polls(bad, page(), bad, page())

    loop = polls.walk(patience=60.0)

    assert loop.verdict.failure is None
    assert 2 == polls.said.count("given up maintenance")
    assert loop._bad_since is None


def test_bad_pages_that_stay_are_what_the_api_answers_now() -> None:
    polls = Polls(BadPage("gone"), BadPage("gone"), page())

    loop = polls.walk(patience=1e-9)

    assert 2 == polls.said.count("poll")
    assert Exit.DATA == loop.verdict.code


@pytest.mark.parametrize(
    "ends", [[Unreachable("x"), Unreachable("y"), page()], [Denied("z")]]
)
def test_failed_polls_are_in_the_log_of_failures(
    ends: Sequence[Page | EngineError], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    polls = Polls(*ends)

    polls.walk()

    works_again = [r for r in caplog.records if "works again after" in r.message]
    assert (len(ends) > 1) == bool(works_again)


def test_the_thread_is_named_after_its_shard() -> None:
    loop = Polls(page()).walk()

    assert ("shard-orders", True) == (loop.name, loop.daemon)
