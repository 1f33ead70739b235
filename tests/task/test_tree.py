"""
The children of a root: their outlets are closed together, what is stored of them does
not grow for ever, and no live one is forgotten.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from msgspec import Raw

from engine.errors import Unavailable
from engine.records import Offset, Page, Parcel, Request, Response, Shard
from engine.task import tree
from engine.task.path import PagePath
from engine.task.pulse import LoopStopping, Pulse
from engine.task.tree import Branch, Branches, Rooted

CHILD = Shard("c", "orders")


class Delivery:
    """Removes at once, or refuses."""

    def __init__(self) -> None:
        self.removed: list[Mapping[str, str]] = []
        self.failure: Any = None

    def forget(self, outlet: object) -> None:
        return

    def check_failure(self) -> None:
        return

    def remove(self, partition: Mapping[str, str], done: Callable[[Any], None]) -> None:
        self.removed.append(partition)
        done(self.failure)

    @property
    def parents(self) -> list[str]:
        return [each["parent"] for each in self.removed if "part" not in each]


def branches(
    delivery: Delivery,
    offsets: Mapping[str, Offset],
    *,
    polls: int = 3,
    keeps: bool = True,
) -> Branches:
    def unused(*_: Any) -> Any:
        raise AssertionError

    branch = Branch(
        PagePath(
            CHILD,
            transform=unused,
            counting=unused,
            pulse=Pulse(fetch=1.0, work=1.0),
            stopping=unused,
        ),
        open=unused,
        memory=lambda partition: None,
        timed=unused,
        forget=delivery.remove,
        keeps=keeps,
        polls=polls,
    )
    return Branches(
        [branch],
        {("orders", parent): offset for parent, offset in offsets.items()},
        delivery=delivery,
        pulse=Pulse(fetch=1.0, work=1.0),
    )


def stored(poll: int) -> Offset:
    return {"poll": poll, "done": True}


def test_a_child_is_forgotten_after_so_many_polls_without_it() -> None:
    delivery = Delivery()
    found = branches(delivery, {"a": stored(7), "b": stored(8), "c": stored(10)})

    found.finished(10)
    assert ["a"] == delivery.parents
    # Its pages are remembered under a partition of their own.
    assert [CHILD.partition | {"parent": "a", "part": "pages"}] == delivery.removed[1:]
    found.finished(11)
    assert ["a", "b"] == delivery.parents
    assert found.offset("orders", "c") == stored(10)
    assert found.offset("orders", "a") is None


def test_a_child_that_is_named_and_fails_is_not_gone() -> None:
    delivery = Delivery()
    found = branches(delivery, {"a": stored(1)})

    for poll in range(2, 20):
        found.offset("orders", "a")
        found.finished(poll)
    assert [] == delivery.parents
    for poll in range(20, 23):
        found.finished(poll)
    assert ["a"] == delivery.parents


def test_zero_keeps_all_for_ever() -> None:
    delivery = Delivery()

    branches(delivery, {"a": stored(1)}, polls=0).finished(1_000_000)

    assert [] == delivery.removed


def test_many_are_forgotten_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_FORGOTTEN", 10)
    delivery = Delivery()
    found = branches(delivery, {str(at): stored(1) for at in range(25)})

    for poll, count in ((50, 10), (51, 20), (52, 25), (53, 25)):
        found.finished(poll)
        assert count == len(delivery.parents)


def test_what_cannot_be_removed_is_no_secret() -> None:
    delivery = Delivery()
    delivery.failure = Unavailable("gone")

    with pytest.raises(Unavailable):
        branches(delivery, {"a": stored(1)}).finished(9)


def test_without_state_each_poll_of_a_child_begins_anew() -> None:
    found = branches(Delivery(), {"a": stored(1)}, keeps=False)

    assert found.offset("orders", "a") is None


class Inner:
    def __init__(self) -> None:
        self.committed = 0

    def begin(self) -> None:
        return

    def hand_over(self, parcel: object, offset: Offset) -> None:
        return

    def commit(self) -> None:
        self.committed += 1


@pytest.mark.parametrize(
    ("offset", "removed"),
    [({"poll": 10, "done": True}, ["a"]), ({"poll": 10, "done": False}, [])],
)
def test_only_a_finished_poll_counts(offset: Offset, removed: list[str]) -> None:
    delivery, inner = Delivery(), Inner()
    rooted = Rooted(inner, branches(delivery, {"a": stored(7)}))

    rooted.hand_over(None, offset)  # type: ignore[arg-type]
    rooted.commit()

    assert (1, removed) == (inner.committed, delivery.parents)
    rooted.commit()
    assert removed == delivery.parents


class Opened:
    """An outlet of a child, and what is called of it."""

    def __init__(self, calls: list[tuple[str, str]], parent: str):
        self._calls, self._parent = calls, parent

    def begin(self) -> None:
        self._calls.append(("begin", self._parent))

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        self._calls.append(("hand over", self._parent))

    def flush(self) -> None:
        self._calls.append(("flush", self._parent))

    def commit(self) -> None:
        self._calls.append(("commit", self._parent))


class Keeper(Delivery):
    """Forgets outlets, and says which."""

    def __init__(self, calls: list[tuple[str, str]]):
        super().__init__()
        self._calls = calls

    def forget(self, outlet: Any) -> None:
        self._calls.append(("forget", outlet._parent))


def walked(calls: list[tuple[str, str]]) -> Branches:
    """Children whose pages have a record each."""
    pulse = Pulse(fetch=1.0, work=1.0)
    branch = Branch(
        PagePath(
            CHILD,
            transform=lambda page: Parcel(page=page, topic="t", values=[b"1"]),
            counting=lambda parcel: lambda moment: None,
            pulse=pulse,
            stopping=LoopStopping(threading.Event(), pulse),
        ),
        open=lambda partition: Opened(calls, partition["parent"]),  # type: ignore[arg-type, return-value]
        memory=lambda partition: None,
        timed=lambda outlet: outlet,
        forget=Delivery().remove,
    )
    return Branches([branch], {}, delivery=Keeper(calls), pulse=pulse)


def page(*, last: bool = True) -> Page:
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
        records=[Raw(b"1")],
        offset={"poll": 1, "done": last},
        last=last,
    )


def test_all_children_are_flushed_before_any_of_them_is_waited_for() -> None:
    calls: list[tuple[str, str]] = []
    found = walked(calls)

    for parent in ("a", "b", "a"):
        found.hand_over("orders", parent, page())
    found.settle()

    begun = [("begin", "a"), ("hand over", "a"), ("begin", "b"), ("hand over", "b")]
    assert [*begun, ("hand over", "a")] == calls[:5]
    assert [("flush", "a"), ("flush", "b"), ("commit", "a"), ("commit", "b")] == (
        calls[5:9]
    )
    assert [("forget", "a"), ("forget", "b")] == calls[9:]
    # Nothing is open any more; the next page opens it anew.
    calls.clear()
    found.settle()
    assert [] == calls
    found.hand_over("orders", "a", page())
    assert ("begin", "a") == calls[0]


def test_no_more_children_are_open_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_OPEN", 2)
    calls: list[tuple[str, str]] = []
    found = walked(calls)

    for parent in ("a", "b"):
        found.hand_over("orders", parent, page(last=False))
    assert "commit" not in {name for name, _ in calls}
    # One that is open already needs no room.
    found.hand_over("orders", "b", page())
    assert "commit" not in {name for name, _ in calls}
    found.hand_over("orders", "c", page())

    names = [name for name, _ in calls]
    assert ["flush", "flush", "commit", "commit", "forget", "forget"] == names[-8:-2]
    assert [("begin", "c"), ("hand over", "c")] == calls[-2:]


def test_a_child_goes_on_where_its_last_page_was_handed_over() -> None:
    found = walked([])

    assert found.offset("orders", "a") is None
    found.hand_over("orders", "a", page(last=False))

    assert {"poll": 1, "done": False} == found.offset("orders", "a")
