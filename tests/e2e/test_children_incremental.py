"""Children that ask for what has come since, each from a bookmark of its own."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator

import psutil
import pytest

from tests.brokers import Broker
from tests.e2e.conftest import Make
from tests.e2e.rig import Running, Setup, until
from tests.fakes.api import Answer, Api, Asked

pytestmark = pytest.mark.slow


class Shop:
    """
    Customers, a page of so many each, and the orders of each, inclusive since a time.

    Attributes:
        customers: Those that the list names.
        orders: (number, changed) of each.
    """

    def __init__(self, size: int = 500):
        self.size = size
        self.customers: list[str] = []
        self.orders: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.gone: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()

    def list_customers(self, asked: Asked) -> Answer:
        at = int(asked.query.get("cursor", 0))
        found = self.customers[at : at + self.size]
        more = at + self.size if at + self.size < len(self.customers) else None
        items = [{"id": each} for each in found]
        return said({"items": items, "next": more})

    def list_orders(self, asked: Asked) -> Answer:
        of, since = asked.query["of"], int(asked.query.get("since", 0))
        with self.lock:
            self.asked[of] += 1
        if of in self.gone:
            return said({"error": "no such customer"}, 404)
        items = [
            {"of": of, "n": n, "at": at} for n, at in self.orders[of] if at >= since
        ]
        return said({"items": items})


def said(document: object, status: int = 200) -> Answer:
    body = json.dumps(document).encode()
    return status, [("Content-Type", "application/json")], body


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def api(shop: Shop) -> Iterator[Api]:
    with Api(keep_log=False) as api:
        api.route("/customers", shop.list_customers)
        api.route("/orders", shop.list_orders)
        yield api


def chained(make: Make, api: Api, **keys: object) -> Setup:
    """Customers, all in each poll, and their orders since each one's bookmark."""
    setup = make(
        "",
        {
            "http.source.url": None,
            "kafka.topic": None,
            "api1.api.name": "customers",
            "api1.http.source.url": f"{api.url}/customers",
            "api1.pagination.type": "cursor",
            "api1.pagination.cursor.field": "next",
            "api2.api.name": "orders",
            "api2.http.source.url": f"{api.url}/orders?of=${{parent_value}}",
            "api2.http.source.query.params": "since=${offset}",
            "api2.http.offset.mode": "INCREMENTAL",
            "api2.http.offset.json.pointer": "/at",
            "api2.api.chaining.parent": "customers",
            "api2.api.chaining.extract.field": "id",
        },
    )
    setup.write(
        **{
            "api2.kafka.topic": setup.topic,
            "offsets.storage.topic": f"{setup.name}-offsets",
            **keys,
        }
    )
    return setup


def produced(setup: Setup) -> Counter[tuple[str, int]]:
    found = (json.loads(value) for value in setup.values())
    return Counter((each["of"], each["n"]) for each in found)


def states(setup: Setup) -> list[tuple[bytes, bytes | None]]:
    """Every state record of a child, in order."""
    assert isinstance(setup.broker, Broker)
    topic = str(setup.keys["offsets.storage.topic"])
    found = setup.broker.read(topic)
    return [(e.key or b"", e.value) for e in found if b'"parent"' in (e.key or b"")]


def test_a_poll_with_few_changes_costs_few_states(
    make: Make, shop: Shop, api: Api
) -> None:
    shop.customers = [f"customer-{n}" for n in range(800)]
    for n, each in enumerate(shop.customers):
        shop.orders[each] = [(1, 1_700_000_000 + n), (2, 1_700_000_100 + n)]
    setup = chained(make, api)
    written = [0]

    def poll() -> int:
        done = setup.once()
        assert 0 == done.code, done.err
        found = len(states(setup))
        written.append(found)
        return found - written[-2]

    assert 800 == poll()
    size = sum(len(key) + len(value or b"") for key, value in states(setup))
    assert size < 260 * 800
    assert 0 == poll()
    shop.orders["customer-77"].append((3, 1_700_009_000))
    assert 1 == poll()
    assert 0 == poll()

    assert 1601 == len(produced(setup)) == sum(produced(setup).values())
    assert {4} == set(shop.asked.values())


def test_kills_in_the_middle_of_polls_lose_nothing(
    make: Make, shop: Shop, api: Api
) -> None:
    shop.size = 7
    shop.customers = [f"c{n}" for n in range(40)]
    setup = chained(
        make,
        api,
        **{"http.source.poll.interval.ms": 100, "api2.api.chaining.max.concurrent": 3},
    )
    number = 0
    for kill in range(4):
        with setup.running() as running:
            for _ in range(30):
                number += 1
                shop.orders[f"c{number % 40}"].append((number, 1_700_000_000 + number))
                time.sleep(0.01)
            some = 20 * kill
            until(lambda least=some: setup.arrived() > least, "some of them")
            if kill < 3:
                kill_all(running)
                continue
            until(lambda: len(produced(setup)) == 120, "all of them")
            assert 0 == running.end().code

    assert 1 == max(produced(setup).values())


def kill_all(running: Running) -> None:
    for process in [psutil.Process(running.pid), *running.children()]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    running.process.wait(60)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("behavior.on.error", "IGNORE"),
        ("http.response.error.rules", '[{"status": 404, "action": "EMPTY"}]'),
    ],
)
def test_a_parent_that_is_not_found_keeps_its_place_and_the_others_go_on(
    make: Make, shop: Shop, api: Api, key: str, value: str
) -> None:
    shop.customers = ["a", "b", "c"]
    for each in shop.customers:
        shop.orders[each] = [(1, 10)]
    setup = chained(make, api, **{f"api2.{key}": value})
    assert 0 == setup.once().code
    shop.gone = {"b"}
    for each in shop.customers:
        shop.orders[each].append((2, 20))
    done = setup.once()
    assert 0 == done.code, done.err
    assert ("is skipped" in done.err) == (value == "IGNORE")
    assert {"a", "c"} == {of for of, n in produced(setup) if n == 2}
    shop.gone = set()
    assert 0 == setup.once().code

    assert {(of, n): 1 for of in "abc" for n in (1, 2)} == produced(setup)


@pytest.mark.parametrize("order", ["ASC", "NONE"])
def test_a_value_of_the_parents_answer_is_another_in_each_poll(
    make: Make, shop: Shop, api: Api, order: str
) -> None:
    """A view that is opened with each page of parents, and cursors that hold in it."""
    views = itertools.count(1)
    alive: set[str] = set()
    asked: list[tuple[str, str | None]] = []

    def customers(_: Asked) -> Answer:
        view = f"view{next(views)}"
        alive.clear()
        alive.add(view)
        return said({"items": [{"id": "a"}], "pit": view})

    def orders(each: Asked) -> Answer:
        view, cursor = each.query["pit"], each.query.get("cursor")
        asked.append((view, cursor))
        if view not in alive or (cursor is not None and not cursor.startswith(view)):
            return said({"error": "no search context"}, 404)
        at = int(cursor.partition(":")[2]) if cursor else 0
        if at == 3 and view == "view1":
            return said({"error": "forbidden"}, 403)
        found = [row for row in shop.orders["a"] if row[1] >= int(each.query["since"])]
        items = [{"of": "a", "n": n, "at": when} for n, when in found[at : at + 1]]
        more = f"{view}:{at + 1}" if at + 1 < len(found) else None
        return said({"items": items, "next": more})

    shop.orders["a"] = [(n, 100 + n) for n in range(5)]
    api.route("/customers", customers)
    api.route("/orders", orders)
    setup = chained(
        make,
        api,
        **{
            "api2.http.source.query.params": "since=${offset}"
            "&pit=${parent_response.pit}",
            "api2.http.initial.offset": "0",
            "api2.pagination.type": "cursor",
            "api2.pagination.cursor.field": "next",
            "api2.http.offset.order": order,
        },
    )
    assert 0 != setup.once().code
    done = setup.once()
    assert 0 == done.code, done.err
    # The cursor of a view that was closed is told of once, and not failed for; in
    # order the bookmark has moved, and none is asked with.
    assert (("view2", "view1:3") in asked) == (order == "NONE")
    shop.orders["a"].append((9, 300))
    assert 0 == setup.once().code

    found = produced(setup)
    assert {("a", n) for n in (0, 1, 2, 3, 4, 9)} == set(found)
    # What lay below the bookmark that had not moved yet has come once more.
    twice = {n for (_, n), count in found.items() if count > 1}
    assert (set() if order == "ASC" else {0, 1}) == twice


def test_the_children_of_a_snapshot_are_those_of_all_that_are_in_it(
    make: Make, shop: Shop, api: Api
) -> None:
    shop.customers = ["a", "b", "c"]
    for each in shop.customers:
        shop.orders[each] = [(1, 10)]
    parents = f"customers-{os.getpid()}"
    setup = chained(
        make,
        api,
        **{
            "api1.http.offset.mode": "SNAPSHOT_DIFF",
            "api1.kafka.topic": parents,
            "api1.kafka.key": "${record.id}",
        },
    )
    assert 0 == setup.once().code
    shop.customers = ["a", "c", "d"]
    for each in shop.customers:
        shop.orders[each].append((2, 20))
    assert 0 == setup.once().code

    assert isinstance(setup.broker, Broker)
    listed = [(e.key, e.value is None) for e in setup.broker.read(parents)]
    assert [(b"a", False), (b"b", False), (b"c", False)] == sorted(listed[:3])
    assert [(b"b", True), (b"d", False)] == sorted(listed[3:])
    assert 1 == max(produced(setup).values())
    assert {"a", "c", "d"} == {of for of, n in produced(setup) if n == 2}


def test_children_of_children_have_a_place_of_their_own(
    make: Make, shop: Shop, api: Api
) -> None:
    lines: dict[str, list[tuple[int, int]]] = defaultdict(list)
    asked: Counter[str] = Counter()

    def orders(each: Asked) -> Answer:
        status, _, body = shop.list_orders(each)
        items = json.loads(body)["items"]
        keyed = [{**item, "key": f"{item['of']}-{item['n']}"} for item in items]
        return said({"items": keyed}, status)

    def of_order(each: Asked) -> Answer:
        order, since = each.query["of"], int(each.query.get("since", 0))
        asked[order] += 1
        found = [row for row in lines[order] if row[1] >= since]
        return said({"items": [{"of": order, "n": n, "at": at} for n, at in found]})

    api.route("/orders", orders)
    api.route("/lines", of_order)
    shop.customers = ["a", "b"]
    for each in shop.customers:
        shop.orders[each] = [(1, 10), (2, 20)]
    for order in ("a-1", "a-2", "b-1", "b-2"):
        lines[order] = [(1, 10), (2, 20)]
    setup = chained(make, api)
    setup.write(
        **{
            "api2.kafka.topic": None,
            "api3.api.name": "lines",
            "api3.http.source.url": f"{api.url}/lines?of=${{parent_value}}",
            "api3.http.source.query.params": "since=${offset}",
            "api3.http.offset.mode": "INCREMENTAL",
            "api3.http.offset.json.pointer": "/at",
            "api3.api.chaining.parent": "orders",
            "api3.api.chaining.extract.field": "key",
            "api3.kafka.topic": setup.topic,
        }
    )
    assert 0 == setup.once().code
    # An order that has changed: its lines are asked for, and those of no other.
    lines["a-1"].append((3, 40))
    lines["b-2"].append((3, 40))
    shop.orders["a"][0] = (1, 30)
    assert 0 == setup.once().code

    assert {"a-1": 2, "a-2": 1, "b-1": 1, "b-2": 1} == asked
    expected = {(of, n) for of in lines for n in (1, 2)} | {("a-1", 3)}
    assert dict.fromkeys(expected, 1) == produced(setup)


def test_check_plan_and_preview_know_children(make: Make, shop: Shop, api: Api) -> None:
    shop.customers = ["a", "b"]
    for each in shop.customers:
        shop.orders[each] = [(1, 10), (2, 20)]
    setup = chained(make, api, **{"api2.kafka.key": "${parent.id}"})
    done = setup.call("check")
    assert 0 == done.code, done.err
    shown = setup.call("preview")
    assert 0 == shown.code, shown.err
    found = [json.loads(line) for line in shown.out.splitlines()]
    assert ["a", "a"] == [each["key"] for each in found]
    assert [1, 2] == [each["value"]["n"] for each in found]
    plan = setup.call("plan", "--json")
    assert 0 == plan.code, plan.err
    assert "customers" in plan.out
    assert "orders" in plan.out
    shop.customers = []
    shown = setup.call("preview")
    assert 0 == shown.code
    assert "orders was not asked" in shown.err


def test_a_child_s_place_is_shown_set_forgotten_and_taken_along(
    make: Make, shop: Shop, api: Api
) -> None:
    shop.customers = ["a", "b"]
    for each in shop.customers:
        shop.orders[each] = [(1, 10), (2, 20)]
    setup = chained(make, api)
    assert 0 == setup.once().code

    got = setup.call("offsets", "get", "--parent", "a", "--json").document["offsets"]
    assert [f"GET {api.url}/orders?of=a&since=20"] == [each["next"] for each in got]
    told = setup.call("offsets", "explain", "--api", "orders", "--json").document
    assert {
        (f"GET {api.url}/orders?of={of}&since=20", f"GET {api.url}/orders?of={of}")
        for of in "ab"
    } == {(each["next"], each["first"]) for each in told["offsets"]}
    assert "up to 20 is delivered" in told["offsets"][0]["means"]

    lines = setup.folder / "lines"
    assert 0 == setup.call("offsets", "export", "--output", str(lines)).code
    done = setup.call("offsets", "reset", "--parent", "b", "--yes")
    assert "1 offset forgotten" in done.out
    assert 0 == setup.call("offsets", "import", "--from", str(lines), "--yes").code
    assert 0 == setup.once().code
    assert 4 == sum(produced(setup).values())

    place = ["offsets", "set", "--api", "orders", "--position"]
    wrong = setup.call(*place, '{"bookmark": 15}')
    assert 0 != wrong.code
    assert "of each there is an offset with parent" in wrong.err
    wrong = setup.call(*place, '{"poll": 1, "done": true, "page": 3}', "--parent", "b")
    assert 0 != wrong.code
    assert "another http.offset.mode" in wrong.err
    done = setup.call(
        *place, '{"bookmark": 15, "kind": "number", "done": true}', "--parent", "b"
    )
    assert f"next: GET {api.url}/orders?of=b&since=15" in done.out
    assert 0 == setup.once().code
    again = {key for key, count in produced(setup).items() if count == 2}
    assert {("b", 2)} == again
