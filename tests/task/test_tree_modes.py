"""Trees whose parents and children go on from positions, from every state they saved."""

from __future__ import annotations

import copy
import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest

from engine.records import Offset, Page, Parcel, Request, Response, Shard
from engine.sink.state import canonical
from engine.source.children import ChildApi, Tree
from engine.source.paging.asking import BookmarkKeys
from engine.source.poll import Poll
from engine.task.flow import Flow
from engine.task.memory import Forgetful
from engine.task.path import PagePath
from engine.task.pulse import Pulse
from engine.task.tree import Branch, Branches, Rooted, without_topic
from tests.fakes.feeds import URL, Feed
from tests.fakes.walks import Never, poll_of

Record = tuple[str, int, int]


class World:
    """Customers in a list, the orders of each in another, and what each poll changes."""

    def __init__(self, parents: str, children: str):
        self.customers = Feed(parents, size=2)
        self.kind = children
        self.orders: dict[int, Feed] = {}
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()

    def tick(self, seconds: int) -> None:
        for feed in (self.customers, *self.orders.values()):
            feed.now += seconds

    def order(self, customer: int, number: int) -> None:
        """An order comes or changes, and its customer with it."""
        self.customers.put(customer)
        if customer not in self.orders:
            self.orders[customer] = Feed(self.kind, size=2)
            self.orders[customer].now = self.customers.now
        self.orders[customer].put(number)

    def __call__(self, request: Request) -> Response:
        path = urlsplit(request.url).path
        with self.lock:
            self.asked[path] += 1
            if path == "/customers":
                return self.customers(request)
            return self.orders[int(path.rsplit("/", 1)[1])](request)

    @property
    def all(self) -> set[Record]:
        """Each order as it is by now."""
        return {
            (f"/of/{customer}", number, each["version"])
            for customer, feed in self.orders.items()
            for number, each in feed.records.items()
        }


class Kafka:
    """Takes all at once, and keeps every state that ever was."""

    def __init__(self) -> None:
        self.saved: dict[str, Offset] = {}
        self.topic: list[Record] = []
        #: What was saved, and how much was delivered by then.
        self.states: list[tuple[dict[str, Offset], int]] = []
        self.writes: Counter[str] = Counter()

    def outlet(self, partition: Mapping[str, str]) -> Any:
        return Outlet(self, partition)

    def forget(self, outlet: object) -> None:
        return

    def check_failure(self) -> None:
        return

    def remove(self, partition: Mapping[str, str], done: Callable[[Any], None]) -> None:
        self.saved.pop(canonical(partition), None)
        done(None)

    def below(self) -> dict[tuple[str, str], Offset]:
        found = {}
        for key, offset in self.saved.items():
            partition = json.loads(key)
            if "parent" in partition:
                found[partition["api"], partition["parent"]] = offset
        return found


class Outlet:
    def __init__(self, kafka: Kafka, partition: Mapping[str, str]):
        self.kafka, self.key = kafka, canonical(partition)

    def begin(self) -> None:
        return

    def flush(self) -> None:
        return

    def commit(self) -> None:
        return

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        kafka = self.kafka
        for value in parcel.values:
            path = urlsplit(parcel.page.response.request.url).path
            found = json.loads(bytes(value))  # type: ignore[arg-type]
            kafka.topic.append((path, found["id"], found["version"]))
        kafka.saved[self.key] = json.loads(json.dumps(offset))
        kafka.writes[self.key] += 1
        kafka.states.append((copy.deepcopy(kafka.saved), len(kafka.topic)))


def produced(page: Page) -> Parcel:
    values = [bytes(each) for each in page.records]
    return Parcel(
        page=page, topic="orders", values=values, deduplicated=page.deduplicated
    )


def poll_over(world: World, kind: str, path: str, mode: str) -> Poll:
    shape, paging = {"params": "since=${offset}"}, {"limit": 2}
    if mode == "FULL":
        return poll_of(URL, kind, fetch=world, path=URL + path, **paging)
    bookmark = BookmarkKeys(pointer="updated", order=mode.partition(" ")[2] or "NONE")
    return poll_of(
        URL,
        kind,
        fetch=world,
        path=URL + path,
        shape=shape,
        bookmark=bookmark,
        **paging,
    )


class Engine:
    """One process: from what is saved, polls one behind the other."""

    def __init__(
        self, world: World, kafka: Kafka, modes: tuple[str, str], polls: int = 0
    ):
        self.kafka = kafka
        root = Shard("c", "customers")
        pulse = Pulse(fetch=1.0, work=1.0)

        def path(shard: Shard, transform: Callable[[Page], Parcel]) -> PagePath:
            return PagePath(
                shard,
                transform=transform,
                counting=lambda parcel: lambda now: None,
                pulse=pulse,
                stopping=Never(),
            )

        branch = Branch(
            path(Shard("c", "orders"), produced),
            open=kafka.outlet,
            memory=lambda partition: None,
            timed=lambda outlet: outlet,
            forget=kafka.remove,
            polls=polls,
        )
        branches = Branches([branch], kafka.below(), delivery=kafka, pulse=pulse)
        child = ChildApi(
            "orders",
            poll_over(world, world.kind, "/of/${parent_value}", modes[1]),
            extract="id",
            concurrent=1,
        )
        tree = Tree(
            poll_over(world, world.customers.kind, "/customers", modes[0]),
            [child],
            delivery=branches,
            stopping=Never(),
        )
        self.flow = Flow(
            kafka.saved.get(canonical(root.partition)),
            source=tree,
            path=path(root, without_topic),
            outlet=Rooted(kafka.outlet(root.partition), branches),
            memory=Forgetful(),
        )

    def poll(self) -> None:
        self.flow.poll()


#: Type of the parent's pages, its mode; type of the children's, theirs.
TREES = [
    (parents, above, children, below)
    for parents, above in itertools.product(
        ("link_header", "page"), ("FULL", "INCREMENTAL", "INCREMENTAL ASC")
    )
    for children, below in (
        ("cursor", "INCREMENTAL"),
        ("page", "INCREMENTAL"),
        ("next_url", "INCREMENTAL ASC"),
        ("offset", "FULL"),
    )
]


@pytest.mark.parametrize(("parents", "above", "children", "below"), TREES)
def test_every_saved_state_leads_to_the_same_end(
    parents: str, above: str, children: str, below: str
) -> None:
    world, modes = World(parents, children), (above, below)
    if above.endswith("ASC"):
        world.customers.order = "ASC"
    for customer, number in itertools.product(range(5), range(5)):
        world.tick(7 * (number % 2))
        world.order(customer, number)
    kafka = Kafka()
    engine = Engine(world, kafka, modes)
    world.tick(1)
    engine.poll()
    first = len(kafka.states)
    world.tick(10)
    for customer, number in ((1, 3), (1, 9), (4, 0), (7, 1), (7, 2), (7, 3)):
        world.order(customer, number)
    world.tick(1)
    engine.poll()

    assert world.all <= set(kafka.topic)
    if below != "FULL":
        assert 1 == max(Counter(kafka.topic).values())
    for saved, delivered in kafka.states[first - 1 :]:
        again = Kafka()
        again.saved = copy.deepcopy(saved)
        again.topic = kafka.topic[:delivered]
        resumed = Engine(world, again, modes)
        resumed.poll()
        resumed.poll()
        assert world.all <= set(again.topic), saved
        if below != "FULL":
            assert 1 == max(Counter(again.topic).values()), saved
            assert positions(kafka) == positions(again), saved


def positions(kafka: Kafka) -> dict[tuple[str, str], Any]:
    return {key: each.get("bookmark") for key, each in kafka.below().items()}


@pytest.mark.parametrize("below", ["INCREMENTAL", "INCREMENTAL ASC"])
def test_what_is_as_it_was_costs_no_state(below: str) -> None:
    world = World("page", "cursor")
    for customer, number in itertools.product(range(9), range(5)):
        world.order(customer, number)
    kafka = Kafka()
    engine = Engine(world, kafka, ("FULL", below))
    world.tick(1)
    engine.poll()
    before = kafka.writes.copy()

    engine.poll()
    world.tick(5)
    world.order(3, 1)
    world.tick(1)
    engine.poll()
    for _ in range(2):
        Engine(world, kafka, ("FULL", below)).poll()

    changed = {k: n - before[k] for k, n in kafka.writes.items() if n != before[k]}
    root = canonical(Shard("c", "customers").partition)
    assert {'{"api":"orders","parent":"3"}', root} == changed.keys()
    assert 1 == changed['{"api":"orders","parent":"3"}']
    assert 1 == max(Counter(kafka.topic).values())
    assert world.all <= set(kafka.topic)


@pytest.mark.parametrize("restarted", [False, True])
def test_who_is_gone_is_forgotten_and_who_is_named_is_not(restarted: bool) -> None:
    world, polls = World("page", "cursor"), 8
    for customer in range(4):
        world.order(customer, 1)
    kafka = Kafka()
    engine = Engine(world, kafka, ("FULL", "INCREMENTAL"), polls)
    world.tick(1)
    for _ in range(3):
        engine.poll()
    world.customers.remove(2)
    left = 0
    while ("orders", "2") in kafka.below():
        if restarted:
            engine = Engine(world, kafka, ("FULL", "INCREMENTAL"), polls)
        engine.poll()
        left += 1
        assert left <= 2 * polls
        assert {"0", "1", "3"} <= {parent for _, parent in kafka.below()}

    # What was written of it may lag behind what it was asked, and never the other way.
    assert left >= polls if restarted else left == polls
    assert 1 == max(Counter(kafka.topic).values())


@pytest.mark.parametrize("away", [3, 20])
def test_a_parent_that_comes_back_loses_nothing(
    away: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Within the polls it goes on where it stood; behind them it is a new one."""
    world = World("page", "cursor")
    for customer, number in itertools.product(range(4), range(3)):
        world.order(customer, number)
    kafka = Kafka()
    engine = Engine(world, kafka, ("FULL", "INCREMENTAL"), 8)
    world.tick(1)
    engine.poll()
    world.customers.remove(2)
    for _ in range(away):
        engine.poll()
    world.tick(5)
    world.order(2, 7)
    world.tick(1)
    engine.poll()

    assert world.all <= set(kafka.topic)
    twice = {record[0] for record, n in Counter(kafka.topic).items() if n > 1}
    assert ({"/of/2"} if away > 8 else set()) == twice
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert (1 if away > 8 else 0) == len(said)
    assert all("1 parents are named again" in each and ": 2." in each for each in said)
    # It is no news any more.
    caplog.clear()
    engine.poll()
    assert not caplog.records
