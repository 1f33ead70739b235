"""Parents and children from the command line: nothing of a tree gets lost."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.brokers import Broker
from tests.e2e.conftest import Make
from tests.e2e.rig import Running, Setup, until
from tests.fakes.api import Answer, Api, Asked
from tests.fakes.misbehaving import Misbehaving, Peer, Say, perform

pytestmark = pytest.mark.slow

#: Users of the parent: three pages of four.
USERS = range(1, 13)
#: Pages of orders of each user, and orders on each.
PAGES, ORDERS = 2, 3


def answer(items: list[object]) -> Answer:
    body = json.dumps({"items": items}).encode()
    return 200, [("Content-Type", "application/json")], body


def users(asked: Asked) -> Answer:
    page = int(asked.query["page"])
    found = [user for user in USERS if (user - 1) // 4 == page - 1]
    return answer([{"id": user, "name": f"user {user}"} for user in found])


def orders(asked: Asked) -> Answer:
    user, page = int(asked.path.rsplit("/", 1)[1]), int(asked.query["page"])
    if page > PAGES:
        return answer([])
    return answer([{"user": user, "n": PAGES * page + n} for n in range(ORDERS)])


ALL = [
    {"user": user, "n": PAGES * page + n}
    for user in USERS
    for page in range(1, PAGES + 1)
    for n in range(ORDERS)
]


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(latency=0.02) as api:
        api.route("/users", users)
        for user in USERS:
            api.route(f"/orders/{user}", orders)
        yield api


def chained(make: Make, api: Api, **keys: object) -> Setup:
    """A parent without a topic and its child."""
    setup = make(
        "",
        {
            "http.source.url": None,
            "kafka.topic": None,
            "pagination.type": "page",
            "pagination.limit.value": ORDERS,
            "api1.api.name": "users",
            "api1.http.source.url": f"{api.url}/users",
            "api1.pagination.limit.value": 4,
            "api2.api.name": "orders",
            "api2.http.source.url": f"{api.url}/orders/${{parent_value}}",
            "api2.api.chaining.parent": "users",
            "api2.api.chaining.extract.field": "id",
            "api2.kafka.key": "${parent.name}",
        },
    )
    setup.write(**{"api2.kafka.topic": setup.topic, **keys})
    return setup


def found(setup: Setup) -> list[dict[str, int]]:
    return [json.loads(value) for value in setup.values()]


def as_text(records: list[dict[str, int]]) -> list[str]:
    return sorted(json.dumps(each, sort_keys=True) for each in records)


def test_children_arrive_and_a_parent_without_a_topic_produces_nothing(
    make: Make, api: Api
) -> None:
    setup = chained(make, api)

    done = setup.once()

    assert 0 == done.code, done.err
    assert as_text(ALL) == as_text(found(setup))
    assert {f"user {each['user']}".encode() for each in ALL} == {
        each.key for each in setup.seen()
    }
    rows = {row["api"]: row for row in done.document["connectors"][0]["apis"]}
    names = ("received", "produced", "filtered")
    assert [12, 0, 12] == [rows["users"][name] for name in names]
    assert [72, 72, 0] == [rows["orders"][name] for name in names]
    assert 36 == rows["orders"]["pages"]
    stored = setup.call("offsets", "get", "--json").document["offsets"]
    assert {None, *map(str, USERS)} == {s["partition"].get("parent") for s in stored}
    assert all(s["offset"]["done"] for s in stored)


def test_a_parent_with_a_topic_produces_its_own_records(make: Make, api: Api) -> None:
    setup = chained(make, api)
    setup.write(**{"api1.kafka.topic": f"{setup.topic}-users"})

    done = setup.once()

    assert 0 == done.code, done.err
    assert isinstance(setup.broker, Broker)
    names = [
        json.loads(each.value or b"")["id"]
        for each in setup.broker.read(f"{setup.topic}-users")
    ]
    assert list(USERS) == sorted(names)
    assert as_text(ALL) == as_text(found(setup))


def test_each_poll_asks_each_child_again(make: Make, api: Api) -> None:
    setup = chained(make, api)
    setup.write(**{"cache.enabled": "false"})

    codes = [setup.once().code for _ in range(2)]

    assert [0, 0] == codes
    assert as_text(ALL * 2) == as_text(found(setup))


def test_a_kill_in_the_middle_of_a_tree_loses_nothing(make: Make, api: Api) -> None:
    api.latency = 0.15
    setup = chained(make, api, **{"api2.api.chaining.max.concurrent": 2})

    with Running(setup.command("run", "--once", "--json"), setup.folder) as first:
        until(lambda: asked(api, "/orders/6"), "the second page is under way")
        for pid in first.tasks().values():
            [p.send_signal(signal.SIGKILL) for p in first.children() if p.pid == pid]
        done = first.done()

    assert 0 == done.code, done.err
    assert "SIGKILL" in done.err
    arrived = as_text(found(setup))
    assert set(as_text(ALL)) == set(arrived)
    # What had been settled is not asked again: of the first page nothing is.
    counts = Counter(json.loads(text)["user"] for text in arrived)
    assert [6, 6, 6, 6] == [counts[user] for user in (1, 2, 3, 4)]


def test_a_kill_of_all_of_it_loses_nothing(make: Make, api: Api) -> None:
    api.latency = 0.1
    setup = chained(make, api, **{"api2.api.chaining.max.concurrent": 3})

    with Running(setup.command("run", "--once"), setup.folder):
        until(lambda: asked(api, "/orders/7"), "the second page is under way")
    assert len(found(setup)) < len(ALL)
    done = setup.once()

    assert 0 == done.code, done.err
    assert set(as_text(ALL)) == set(as_text(found(setup)))


def test_a_clean_stop_in_the_middle_repeats_no_settled_child(
    make: Make, api: Api
) -> None:
    api.latency = 0.1
    setup = chained(make, api, **{"api2.api.chaining.max.concurrent": 1})

    with setup.running() as first:
        until(lambda: asked(api, "/orders/6"), "the second page is under way")
        stopped = first.end()
    before = len(found(setup))
    done = setup.once()

    assert [0, 0] == [stopped.code, done.code], done.err
    assert 24 <= before < len(ALL)
    # The child in hand goes on behind its last page: not even that is repeated.
    assert as_text(ALL) == as_text(found(setup))


def test_a_failed_child_holds_its_parent_and_says_so(make: Make, api: Api) -> None:
    api.route("/orders/6", lambda asked: (404, [], b""))
    setup = chained(make, api)

    done = setup.once()
    api.route("/orders/6", orders)
    again = setup.once()

    assert [65, 0] == [done.code, again.code], done.err
    rows = done.document["connectors"][0]["apis"]
    assert all("404" in row["error"] for row in rows)
    assert set(as_text(ALL)) == set(as_text(found(setup)))


def test_a_failed_child_is_skipped_where_errors_are_ignored(
    make: Make, api: Api
) -> None:
    api.route("/orders/6", lambda asked: (404, [], b""))
    setup = chained(make, api, **{"api2.behavior.on.error": "IGNORE"})

    done = setup.once()

    assert 0 == done.code, done.err
    assert "skipped" in done.err
    rest = [each for each in ALL if each["user"] != 6]
    assert as_text(rest) == as_text(found(setup))


def test_a_tree_stays_one_shard_whatever_tasks_there_may_be(
    make: Make, api: Api
) -> None:
    setup = chained(make, api, **{"tasks.max": 4})

    done = setup.once()

    assert 0 == done.code, done.err
    rows = done.document["connectors"][0]["apis"]
    assert ["users", "orders"] == [row["shard"] for row in rows]
    assert as_text(ALL) == as_text(found(setup))


def test_children_of_children(make: Make, api: Api) -> None:
    for user in USERS:
        for n in range(10):
            api.route(
                f"/lines/{user}/{n}",
                lambda asked: answer(
                    [{"of": asked.path}] if asked.query["page"] == "1" else []
                ),
            )
    setup = chained(make, api)
    topic = f"{setup.topic}-lines"
    setup.write(
        **{
            "api3.api.name": "lines",
            "api3.http.source.url": f"{api.url}/lines/${{parent.user}}/${{parent.n}}",
            "api3.api.chaining.parent": "orders",
            "api3.api.chaining.extract.field": "key",
            "api3.kafka.topic": topic,
        }
    )
    api.route("/users", users)
    for user in USERS:
        api.route(f"/orders/{user}", keyed)

    done = setup.once()

    assert 0 == done.code, done.err
    assert isinstance(setup.broker, Broker)
    lines = [json.loads(each.value or b"")["of"] for each in setup.broker.read(topic)]
    assert sorted({f"/lines/{e['user']}/{e['n']}" for e in ALL}) == sorted(lines)


def keyed(asked: Asked) -> Answer:
    """Orders with a key over all users."""
    items = json.loads(orders(asked)[2])["items"]
    return answer([{**each, "key": f"{each['user']}-{each['n']}"} for each in items])


def asked(api: Api, path: str) -> bool:
    return any(each.path == path for each in api.log)


def grown(make: Make, records: list[object], **keys: object) -> list[str]:
    """What the children of such parents were asked with, as the topic has it."""

    def act(peer: Peer) -> None:
        target = peer.asked.target
        found = records if target == "/parents" else [{"asked": target}]
        perform(Say(body=json.dumps({"items": found}).encode()), peer)

    with Misbehaving(act) as server:
        setup = make(
            "",
            {
                "http.source.url": None,
                "kafka.topic": None,
                "api1.api.name": "parents",
                "api1.http.source.url": f"{server.url}/parents",
                "api2.api.name": "children",
                "api2.http.source.url": f"{server.url}/of/${{parent_value}}",
                "api2.api.chaining.parent": "parents",
                "api2.api.chaining.extract.field": "id",
                **keys,
            },
        )
        setup.write(**{"api2.kafka.topic": setup.topic})
        done = setup.once()

    assert 0 == done.code, done.err
    return [json.loads(value)["asked"].removeprefix("/of/") for value in setup.values()]


def of(*ids: object) -> list[object]:
    return [{"id": each} for each in ids]


@pytest.mark.parametrize(
    ("parents", "field", "children"),
    [
        ([], "id", []),
        # Null, missing and empty name none; twice is once; each item is one.
        ([*of(None, 7, 7, [], [1, 2], [2, 3], 0, -1, 10**19), {"other": 4}], "id",
            ["7", "1", "2", "3", "0", "-1", "10000000000000000000"]),
        ([{"a": {"b": 3}}, {"a": None}, {}], "a.b", ["3"]),
        (of("a/b", "c d", "e?f&g=h", "ü", "%2F", "#"), "id",
            ["a%2Fb", "c%20d", "e%3Ff%26g%3Dh", "%C3%BC", "%252F", "%23"]),
    ],
    ids=["no parents", "odd values", "nested", "encoded"],
)  # fmt: skip
def test_odd_parents_have_the_children_they_name(
    make: Make, parents: list[object], field: str, children: list[str]
) -> None:
    keys = {"api2.api.chaining.extract.field": field}

    assert sorted(children) == sorted(grown(make, parents, **keys))


def test_a_thousand_parents_have_a_child_each(make: Make) -> None:
    assert {str(n) for n in range(1000)} == set(grown(make, of(*range(1000))))
