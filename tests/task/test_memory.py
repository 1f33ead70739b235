"""
What is remembered never outlives a delivery it does not know of.

A task is run poll by poll against an API that goes to and fro between two
contents, and is killed at every point at which it can be: whatever it had done by
then, what Kafka has last of each page must in the end be what the API has.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from msgspec import Raw, Struct
from msgspec.structs import replace

from engine.records import Offset, Page, Parcel, Request, Response, Shard
from engine.source.paging.position import SEAL, SEGMENT
from engine.task.flow import Flow
from engine.task.memory import Forgetful, Memory, Remembering, bare
from engine.task.path import PagePath
from engine.task.pulse import Pulse
from engine.task.unchanged import Unchanged

SHARD = Shard("c", "a")


class Killed(BaseException):
    """The process is gone."""


class Never:
    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        return False


class World:
    """
    What outlives the process: Kafka, the state, and how many steps are left to live.

    Args:
        eager: A position is saved as soon as its page is acknowledged; else only
            when somebody waits for it.
    """

    def __init__(self, eager: bool) -> None:
        self.eager = eager
        self.kafka: dict[str, bytes] = {}
        self.writes = 0
        self.delivered = 0
        self.position: Offset | None = None
        self.hashes: Mapping | None = None
        self.left = 10**9

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


class Outlet:
    """Acknowledges at once; what is saved is the world's `name`."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._unsaved: Offset | None = None

    def begin(self) -> None: ...

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        world = self._world
        world.step()
        for key, value in zip(parcel.keys or (), parcel.values, strict=True):
            world.kafka[key.decode()] = bytes(value)
            world.delivered += 1
            world.step()
        self._unsaved = dict(offset)
        if world.eager:
            self.commit()

    def commit(self) -> None:
        self._world.step()
        if self._unsaved is not None:
            setattr(self._world, self._name, self._unsaved)
            self._world.writes += 1
            self._unsaved = None
        self._world.step()


class Delivery:
    def forget(self, outlet: object) -> None: ...


class Topic(Struct):
    id: str = "t"
    retention: float | None = None
    emptied_ms: int = 0


class Source:
    """The pages of an API as it is now."""

    def __init__(self, contents: Sequence[str]) -> None:
        self.contents = contents
        self.idle = None

    def pages(self, offset: Offset | None) -> Iterator[Page]:
        first, poll = 0, 1
        if offset is not None:
            poll = int(offset["poll"])
            if offset.get("done") is True:
                poll += 1
            else:
                first = int(offset["page"])
        for index in range(first, len(self.contents)):
            last = index == len(self.contents) - 1
            request = Request("GET", f"http://h/{index}", page=index)
            response = Response(
                request=request,
                url=request.url,
                status=200,
                headers=[],
                body=b"",
                sent_at=0.0,
                received_ms=0,
            )
            value = Raw(self.contents[index].encode())
            where = {"done": True} if last else {"done": False, "page": index + 1}
            yield Page(
                response=response,
                index=index,
                records=[value],
                offset={"poll": poll, **where},
                last=last,
            )


def transform(page: Page) -> Parcel:
    return Parcel(
        page=page, topic="t", values=list(page.records), keys=[b"%d" % page.index]
    )


def task(world: World, source: Source, remembering: bool) -> Flow:
    """A process that starts from what is stored."""
    memory: Memory = Forgetful()
    if remembering:
        stored = world.hashes
        memory = Remembering(
            Unchanged(stored, topic=lambda name: Topic()),
            stored,
            label="a",
            open=lambda: Outlet(world, "hashes"),
            delivery=Delivery(),
        )
    return Flow(
        world.position,
        source=source,
        path=PagePath(
            SHARD,
            transform=transform,
            counting=lambda parcel: lambda moment: None,
            pulse=Pulse(fetch=0.0, work=0.0),
            stopping=Never(),
        ),
        outlet=Outlet(world, "position"),
        memory=memory,
    )


def polled(
    world: World, contents: Sequence[str], remembering: bool, die_after: int
) -> bool:
    """One process, one poll; True if it lived to its end."""
    world.left = die_after
    try:
        task(world, Source(contents), remembering).poll()
    except Killed:
        return False
    finally:
        world.left = 10**9
    return True


def same(world: World, contents: Sequence[str]) -> bool:
    return world.kafka == {str(n): one.encode() for n, one in enumerate(contents)}


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("pages", [1, 2])
@pytest.mark.parametrize("remembering", [True, False])
def test_whenever_it_dies_the_last_word_is_the_apis(
    eager: bool, pages: int, remembering: bool
) -> None:
    """A is delivered; B is, by a process that dies at some point; then it is A again."""
    tried = 0
    for a, b in itertools.permutations(itertools.product(("1", "2"), repeat=pages), 2):
        for die_after in itertools.count():
            world = World(eager)
            for _ in range(2):
                assert polled(world, a, True, 10**9)
            lived = polled(world, b, remembering, die_after)
            tried += 1
            # What was cut is gone on with, and then there is a whole poll.
            for _ in range(2):
                polled(world, a, True, 10**9)
            assert same(world, a), (a, b, die_after)
            if lived:
                break
    assert tried > 10


@pytest.mark.parametrize("eager", [True, False])
def test_a_second_death_changes_nothing(eager: bool) -> None:
    for first, second in itertools.product(range(14), repeat=2):
        world = World(eager)
        polled(world, ["1", "1"], True, 10**9)
        polled(world, ["2", "1"], True, first)
        polled(world, ["1", "1"], True, second)
        for _ in range(2):
            polled(world, ["1", "1"], True, 10**9)
        assert same(world, ["1", "1"]), (first, second)


def test_what_is_unchanged_is_delivered_once_and_costs_one_state() -> None:
    world = World(eager=False)
    for _ in range(5):
        assert polled(world, ["1", "1"], True, 10**9)
    assert 2 == world.delivered
    writes = world.writes
    polled(world, ["1", "1"], True, 10**9)

    assert writes + 1 == world.writes


def test_a_process_that_goes_on_forgets_only_what_it_must() -> None:
    world = World(eager=False)
    source = Source(["1", "1"])
    flow = task(world, source, True)
    flow.poll()
    writes = []
    for n in range(6):
        source.contents = ["1", str(n + 2)]
        before = world.writes
        flow.poll()
        writes.append(world.writes - before)

    # At first the old one is forgotten and the new one stored; of a page that changes
    # each time nothing is stored any longer, so that nothing has to be forgotten.
    assert [3, 3, 3, 1, 1, 1] == writes
    assert 1 + 1 + 6 == world.delivered
    assert same(world, ["1", "7"])


def test_a_memory_of_another_position_is_none() -> None:
    """As it is when the process dies between a position and its hashes."""
    world = World(eager=True)
    polled(world, ["1"], True, 10**9)
    older = world.hashes
    polled(world, ["2"], True, 10**9)
    world.hashes = older
    polled(world, ["1"], True, 10**9)

    assert same(world, ["1"])


def test_without_a_seal_nothing_is_left_out() -> None:
    world = World(eager=True)
    polled(world, ["1"], True, 10**9)
    assert SEAL in world.position
    polled(world, ["2"], False, 10**9)
    assert SEAL not in world.position
    polled(world, ["1"], True, 10**9)

    assert same(world, ["1"])


def test_more_pages_than_a_poll_may_have_leave_nothing_out_and_say_so(caplog) -> None:
    world = World(eager=True)
    memory = Remembering(
        Unchanged(None, topic=lambda name: Topic()),
        None,
        label="orders",
        open=lambda: Outlet(world, "hashes"),
        delivery=Delivery(),
    )
    for poll in range(3):
        memory.begin({"poll": poll, "done": False, "page": 1})
        parcel = transform(next(Source(["1"]).pages(None)))
        parcel = replace(parcel, page=replace(parcel.page, truncated=True))
        assert not memory.judge(parcel, lambda: None).page.saved

    said = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert 1 == len(said)
    assert "orders has more pages than pagination.max.pages" in said[0].message


def remembering() -> Remembering:
    return Remembering(
        Unchanged(None, topic=lambda name: Topic()),
        None,
        label="a",
        open=lambda: Outlet(World(True), "hashes"),
        delivery=Delivery(),
    )


@pytest.mark.parametrize(
    ("made", "vouches"),
    [
        (Forgetful, {}),
        (Forgetful, {SEAL: "x"}),
        (Forgetful, {SEGMENT: 3}),
        (remembering, {SEGMENT: 3}),
    ],
)
@pytest.mark.parametrize("produces", [False, True])
def test_who_does_not_remember_it_forgets_once_what_another_run_vouched_for(
    made: Callable[[], Memory], vouches: dict[str, str | int], produces: bool
) -> None:
    """Before the first page that is produced, and only where something is vouched for."""
    page = next(Source(["1"]).pages(None))
    parcel = transform(page)
    if not produces:
        parcel = replace(parcel, values=(), keys=(), filtered=1)
    asked: list[str] = []
    memory = made()

    offset: Offset = {"poll": 1, "done": True, **vouches}
    assert offset == memory.begin(offset)
    for _ in range(2):
        assert parcel is memory.judge(parcel, lambda: asked.append("forget"))

    assert (["forget"] if vouches and produces else []) == asked
    assert not memory.doubts


def test_a_position_that_vouches_for_nothing_has_all_but_its_seal() -> None:
    vouching = {"poll": 1, SEAL: "x", SEGMENT: 2, "done": True}
    assert {"poll": 1, "done": True} == bare(vouching)
