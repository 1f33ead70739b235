"""The steps of one page: the same ones, in the same order, for a shard and a child."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from msgspec import Raw

from engine.errors import Accounting, Doubtful, EngineError, RecordError
from engine.records import Offset, Page, Parcel, Request, Response, Shard
from engine.task.flow import Flow
from engine.task.path import PagePath
from engine.task.pause import Gate
from engine.task.pulse import Pulse
from engine.task.tree import Branch, Branches

SHARD = Shard("shop", "orders")
SEALED: Offset = {"page": 1, "seal": "x"}


def page(index: int = 1) -> Page:
    request = Request("GET", "http://a/x")
    response = Response(
        request=request,
        url=request.url,
        status=200,
        headers=(),
        body=b"",
        sent_at=0.0,
        received_ms=0,
    )
    return Page(
        response=response,
        index=index,
        records=[Raw(b"1"), Raw(b"2")],
        offset={"page": index + 1},
        last=False,
    )


class Steps:
    """Every seam of a page's path; keeps what is called, in its order."""

    doubts = False
    idle = None

    def __init__(self, *, sums: int = 0, failures: Mapping[str, EngineError] = {}):
        self.calls: list[object] = []
        self.forgets = self.stopped = False
        self.gate = Gate()
        self._sums = sums
        self._failures = failures

    def step(self, name: str, *more: object) -> None:
        self.calls.append((name, *more) if more else name)
        if name in self._failures:
            raise self._failures[name]

    # The transformation, and what counts.

    def transform(self, page: Page) -> Parcel:
        self.step("transform")
        return Parcel(
            page=page,
            topic="t",
            values=[bytes(each) for each in page.records[self._sums :]],
        )

    def counting(self, parcel: Parcel) -> Callable[[float], None]:
        self.step("count")
        return lambda moment: self.calls.append("counted")

    # The memory.

    def judge(self, parcel: Parcel, forget: Callable[[], None]) -> Parcel:
        self.step("judge")
        if self.forgets:
            forget()
        return parcel

    def sealed(self, offset: Offset) -> Offset:
        return {**offset, "sealed": True}

    def keep(self, offset: Offset) -> None:
        self.step("keep")

    # The outlet; a memory has the same verb.

    def begin(self, offset: Offset | None = None) -> Offset | None:
        return offset

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        self.step("hand over", len(parcel.values), dict(offset))
        for tell in parcel.delivered:
            tell(0.0)

    def commit(self) -> None:
        self.step("commit")

    def flush(self) -> None: ...

    # The delivery, and what stops.

    def forget(self, outlet: object) -> None: ...

    def check_failure(self) -> None: ...

    def is_set(self) -> bool:
        return self.stopped

    def wait(self, seconds: float) -> bool:
        self.step("wait")
        self.gate.closed = False
        return False


class Beats(Pulse):
    """Says what it is told among the other steps."""

    def __init__(self, steps: Steps):
        super().__init__(fetch=1.0, work=1.0)
        self._steps = steps

    def fetching(self) -> None:
        self._steps.step("(fetch)")

    def working(self) -> None:
        self._steps.step("(work)")

    def idle(self, phase: str) -> None:
        self._steps.step(f"({phase})")


class OfShard:
    """The page is a shard's own."""

    begins = "(fetch)"

    def __init__(self, steps: Steps, path: PagePath):
        self._steps = steps
        self._flow = Flow(SEALED, source=self, path=path, outlet=steps, memory=steps)
        self.idle = None

    def pages(self, offset: Offset | None) -> Iterator[Page]:
        yield page()

    def walk(self) -> None:
        self._flow.poll()

    @property
    def offset(self) -> Offset | None:
        return self._flow.offset


class OfChild:
    """The page is that of a child."""

    begins = "(fetch)"

    def __init__(self, steps: Steps, path: PagePath):
        made: Any = steps
        branch = Branch(
            path,
            open=lambda partition: made,
            memory=lambda partition: made,
            timed=lambda outlet: made,
            forget=lambda partition, done: done(None),
        )
        self._branches = Branches(
            [branch], {("orders", "7"): SEALED}, delivery=steps, pulse=path.pulse
        )

    def walk(self) -> None:
        self._branches.offset("orders", "7")
        self._branches.hand_over("orders", "7", page())
        self._branches.settle()

    @property
    def offset(self) -> Offset | None:
        return self._branches.offset("orders", "7")


def path(steps: Steps) -> PagePath:
    return PagePath(
        SHARD,
        transform=steps.transform,
        counting=steps.counting,
        pulse=Beats(steps),
        stopping=steps,
        gate=steps.gate,
    )


BOTH = pytest.mark.parametrize("kind", [OfShard, OfChild])
MOVED = {"page": 2, "sealed": True}
#: How a page's way ends, behind it the end of its poll.
ALL = [
    "(work)",
    "transform",
    "judge",
    "count",
    "(send)",
    ("hand over", 2, MOVED),
    "counted",
]


def between(steps: Steps) -> list[object]:
    """The steps of the page alone."""
    first = steps.calls.index("(work)")
    calls = steps.calls[first:]
    last = max(at for at, each in enumerate(calls) if each in ("counted", "judge"))
    return calls[: last + 1]


@BOTH
def test_the_steps_come_in_this_order(kind: Any) -> None:
    steps = Steps()
    place = kind(steps, path(steps))

    place.walk()

    assert ALL == between(steps)
    assert place.begins == steps.calls[0]
    assert "commit" == [each for each in steps.calls if each == "commit"][-1]
    assert MOVED == place.offset


@BOTH
def test_what_is_stored_is_unsealed_and_saved_before_anything_else_goes(
    kind: Any,
) -> None:
    steps = Steps()
    steps.forgets = True
    place = kind(steps, path(steps))

    place.walk()

    forgotten = ["(commit)", ("hand over", 0, {"page": 1}), "commit", "(work)"]
    assert [*ALL[:3], *forgotten, *ALL[3:]] == between(steps)
    assert MOVED == place.offset


@BOTH
def test_a_page_that_came_as_a_pause_began_waits_for_its_end(kind: Any) -> None:
    steps = Steps()
    steps.gate.closed = True

    kind(steps, path(steps)).walk()

    assert ["(work)", "wait", *ALL[1:]] == between(steps)


@BOTH
def test_sums_that_do_not_add_up_end_it_before_anything_is_judged(kind: Any) -> None:
    steps = Steps(sums=1)
    place = kind(steps, path(steps))

    with pytest.raises(Accounting, match="page 1: received 2 is not produced 1"):
        place.walk()

    assert "transform" == steps.calls[-1]
    assert SEALED == place.offset


#: What fails, and what was called last of the page's steps then.
FAILURES = {
    "transform": RecordError("bad", stage="map"),
    "judge": RecordError("no key", stage="route"),
    "hand over": Doubtful("who knows"),
}


@BOTH
@pytest.mark.parametrize("step", FAILURES)
def test_a_page_that_fails_leaves_its_place_where_it_was(kind: Any, step: str) -> None:
    steps = Steps(failures={step: FAILURES[step]})
    place = kind(steps, path(steps))

    with pytest.raises(type(FAILURES[step])):
        place.walk()

    done = [each[0] if isinstance(each, tuple) else each for each in ALL]
    names = [each[0] if isinstance(each, tuple) else each for each in steps.calls]
    first = names.index("(work)")
    upto = done.index(step) + 1
    assert done[:upto] == names[first : first + upto]
    # A shard's poll commits what came before a record of no use.
    rest = names[first + upto :]
    assert set(rest) <= {"(commit)", "commit"}
    assert "counted" not in names
    assert SEALED == place.offset


def test_a_child_that_keeps_no_state_stands_nowhere() -> None:
    steps = Steps()
    made: Any = steps
    branch = Branch(
        path(steps),
        open=lambda partition: made,
        memory=lambda partition: made,
        timed=lambda outlet: made,
        forget=lambda partition, done: done(None),
        keeps=False,
    )
    branches = Branches([branch], {}, delivery=steps, pulse=Beats(steps))

    branches.hand_over("orders", "7", page())

    assert branches.offset("orders", "7") is None
    assert ("hand over", 2, {"page": 2}) in steps.calls
