"""The cache from the command line: fewer calls, and not one record changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from tests.e2e.admin import LISTENING, admin_of
from tests.e2e.conftest import Make
from tests.e2e.rig import TYPES, until
from tests.fakes.api import Answer, Api, Asked

pytestmark = pytest.mark.slow


class Shelf:
    """
    Documents by path that the API can change, and what it says of them.

    Args:
        api: Serves them.
        says: Header lines, made of a document's version.
    """

    def __init__(self, api: Api, says=lambda version: []) -> None:
        self.api = api
        self.says = says
        self.versions: dict[str, int] = {}

    def put(self, path: str) -> None:
        """Put it there, or change it."""
        self.versions[path] = self.versions.get(path, 0) + 1
        self.api.route(path, self.answer)

    def records(self, path: str) -> list[bytes]:
        version = self.versions[path]
        return [
            b'{"at":"%s","v":%d,"n":%d}' % (path.encode(), version, n) for n in (0, 1)
        ]

    def answer(self, asked: Asked) -> Answer:
        headers = self.says(self.versions[asked.path])
        for name, value in headers:
            condition = {"ETag": "if-none-match", "Last-Modified": "if-modified-since"}
            if asked.headers.get(condition.get(name, "-")) == value:
                return 304, headers, b""
        return 200, headers, b'{"items":[%s]}' % b",".join(self.records(asked.path))


def etag(version: int) -> list[tuple[str, str]]:
    return [("ETag", f'"{version}"')]


def modified(version: int) -> list[tuple[str, str]]:
    return [("Last-Modified", formatdate(1_700_000_000 + version, usegmt=True))]


def fresh(version: int) -> list[tuple[str, str]]:
    return [("Cache-Control", "max-age=3600")]


def nothing(version: int) -> list[tuple[str, str]]:
    return []


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(pages=4, records=5) as found:
        yield found


@pytest.mark.parametrize("says", [etag, modified, fresh, nothing])
def test_what_was_delivered_is_not_produced_again(make: Make, api: Api, says) -> None:
    shelf = Shelf(api, says)
    shelf.put("/doc")
    setup = make(f"{api.url}/doc")

    first = setup.once()
    again = setup.once()

    assert 0 == first.code == again.code, again.err
    assert shelf.records("/doc") == setup.values()
    sums = ("received", "produced", "saved", "saved_records", "saved_requests")
    assert [2, 2, 0, 0, 0] == [first.total[name] for name in sums]
    asked = says is not fresh
    assert [0, 0, 1, 2, 1 - asked] == [again.total[name] for name in sums]
    assert 1 + asked == len(api.log)
    assert (again.total["saved_bytes"] > 0) is (says is not nothing)
    assert (again.total["bytes"] > 0) is (says is nothing)
    line = setup.call("run", "--once").out.splitlines()[-1]
    assert "saved: 1 unchanged pages, 2 records" in line
    if asked:
        shelf.put("/doc")
        changed = setup.once()
        assert 2 == changed.total["produced"]
        assert shelf.records("/doc") == setup.values()[2:]


def test_without_the_cache_each_poll_is_asked_for_and_produced(
    make: Make, api: Api
) -> None:
    shelf = Shelf(api, etag)
    shelf.put("/doc")
    setup = make(f"{api.url}/doc", {"cache.enabled": "false"})

    for _ in range(2):
        done = setup.once()
        assert (2, 0) == (done.total["produced"], done.total["saved"])

    assert 4 == len(setup.values())
    assert all("if-none-match" not in asked.headers for asked in api.log)
    assert not (setup.folder / "cache").exists()


def test_a_running_engine_asks_for_news_only(make: Make, api: Api) -> None:
    shelf = Shelf(api, etag)
    shelf.put("/doc")
    setup = make(f"{api.url}/doc", {"http.source.poll.interval.ms": 200})

    with setup.running() as running:
        until(lambda: len(api.log) >= 4, "four polls")
        assert 2 == setup.arrived()
        shelf.put("/doc")
        until(lambda: setup.arrived() >= 4, "the change")
        seen = len(api.log)
        until(lambda: len(api.log) >= seen + 2, "two more polls")
        running.end()

    assert 4 == len(setup.values())
    conditions = [asked.headers.get("if-none-match") for asked in api.log]
    assert None is conditions[0]
    assert {'"1"', '"2"'} == set(conditions[1:])


def test_only_the_pages_that_changed_are_produced(make: Make, api: Api) -> None:
    keys = {"pagination.type": "offset", "pagination.limit.value": 5}
    setup = make(f"{api.url}/offset/0", {**keys, "tasks.max": 2})
    assert 20 == setup.once().total["produced"]
    assert 0 == setup.once().total["produced"]

    api.grow(3)
    done = setup.once()

    assert (3, 20) == (done.total["produced"], done.total["saved_records"])
    assert sorted(api.all_records()) == sorted(setup.values())


def test_a_poll_cut_short_and_gone_on_with_produces_every_record(
    make: Make, api: Api
) -> None:
    keys = {"pagination.type": "offset", "pagination.limit.value": 5}
    setup = make(f"{api.url}/offset/0", {**keys, "pagination.max.pages": 3})

    codes = [setup.once().code for _ in range(4)]

    assert [75, 0, 75, 0] == codes
    assert sorted(2 * api.all_records()) == sorted(setup.values())


@pytest.mark.parametrize("tasks", [1, 3])
def test_large_answers_are_there_for_the_next_run_whoever_asked(
    make: Make, api: Api, tasks: int
) -> None:
    """Each task keeps its own until it ends; together they lie in files."""
    names = ["a", "b", "c", "d"]
    versions = dict.fromkeys(names, 1)

    def answer(asked: Asked) -> Answer:
        version = versions[asked.path[1:]]
        headers = etag(version)
        if asked.headers.get("if-none-match") == headers[0][1]:
            return 304, headers, b""
        body = json.dumps({"items": [{"v": version, "fill": "x" * 20_000}]})
        return 200, headers, body.encode()

    for name in names:
        api.route(f"/{name}", answer)
    keys = {"entity.names": ",".join(names), "tasks.max": tasks}
    setup = make(f"{api.url}/${{entityName}}", keys)

    assert 4 == setup.once().total["produced"]
    assert list(setup.folder.glob("cache/*/l3/packs/*"))
    api.log.clear()
    versions["b"] = 2
    again = setup.once()

    assert (1, 3) == (again.total["produced"], again.total["saved"])
    asked = {each.path: each.headers.get("if-none-match") for each in api.log}
    assert dict.fromkeys((f"/{name}" for name in names), '"1"') == asked


@pytest.mark.parametrize("kind", ["cursor", "next_url", "link_header", "keyset"])
def test_a_chain_is_what_it_is_without_the_cache(make: Make, api: Api, kind) -> None:
    counts = {}
    for switch in ("true", "false"):
        keys = {"pagination.type": kind, **TYPES[kind], "cache.enabled": switch}
        setup = make(f"{api.url}/{kind}/0", {**keys, "pagination.limit.value": 5})
        counts[switch] = [setup.once().total["produced"] for _ in range(2)]
    if kind == "keyset":
        assert {"true": [20, 0], "false": [20, 20]} == counts
    else:
        assert counts["false"] == counts["true"] == [20, 20]
    assert all("if-none-match" not in asked.headers for asked in api.log)


def test_a_child_that_changed_is_produced_below_a_parent_that_did_not(
    make: Make, api: Api
) -> None:
    shelf = Shelf(api, etag)
    for path in ("/c/0", "/c/1"):
        shelf.put(path)
    api.route(
        "/parents",
        lambda asked: (
            (304, etag(1), b"")
            if asked.headers.get("if-none-match") == '"1"'
            else (200, etag(1), b'{"items":[{"id":"0"},{"id":"1"}]}')
        ),
    )
    setup = make(
        "",
        {
            "http.source.url": None,
            "kafka.topic": None,
            "apis.num": 2,
            "api1.http.source.url": f"{api.url}/parents",
            "api1.kafka.topic": "T-parents",
            "api2.http.source.url": f"{api.url}/c/${{parent_value}}",
            "api2.api.chaining.parent": "api1",
            "api2.api.chaining.extract.field": "id",
        },
    )
    setup.write(**{"api2.kafka.topic": setup.topic})

    assert 6 == setup.once().total["produced"]
    assert 0 == setup.once().total["produced"]
    shelf.put("/c/1")
    done = setup.once()

    assert 0 == done.code, done.err
    assert (2, 3) == (done.total["produced"], done.total["saved_records"] - 1)
    assert shelf.records("/c/1") == setup.values()[-2:]


def test_rules_that_changed_produce_everything_again(make: Make, api: Api) -> None:
    shelf = Shelf(api, etag)
    shelf.put("/doc")
    setup = make(f"{api.url}/doc")
    setup.once()
    setup.write(**{"kafka.key": "${record.n}"})

    done = setup.once()

    assert 2 == done.total["produced"]
    assert [None, None, b"0", b"1"] == [each.key for each in setup.seen()]


def test_offsets_reset_produces_everything_again(make: Make, api: Api) -> None:
    shelf = Shelf(api, fresh)
    shelf.put("/doc")
    setup = make(f"{api.url}/doc")
    setup.once()
    [told] = setup.call("offsets", "get", "--json").document["remembered"]
    assert ({"api": "api1", "part": "pages"}, 1) == (told["partition"], told["pages"])
    assert "1 pages are not produced again" in setup.call("offsets", "get").out
    assert 0 == setup.call("offsets", "reset", "--yes").code
    assert "no offsets are stored" in setup.call("offsets", "get").out

    done = setup.once()

    assert (2, 1) == (done.total["produced"], done.total["saved_requests"])
    assert 1 == len(api.log)


def test_preview_and_check_ask_the_api_and_leave_no_trace(make: Make, api: Api) -> None:
    shelf = Shelf(api, fresh)
    shelf.put("/doc")
    setup = make(f"{api.url}/doc")

    for _ in range(2):
        shown = setup.call("preview")
        assert 2 == len(shown.out.splitlines()), shown.err
    assert 0 == setup.call("check", "--strict").code

    assert 2 == len(api.log)
    assert not (setup.folder / "cache").exists()
    assert json.loads(shown.out.splitlines()[0])["value"]["v"] == 1


def test_what_is_kept_is_seen_and_cleared_from_the_command_line(
    make: Make, api: Api
) -> None:
    shelf = Shelf(api, etag)
    shelf.put("/doc")
    setup = make(f"{api.url}/doc?api_key=hidden", {"http.source.poll.interval.ms": 200})
    nothing_yet = setup.call("cache", "stats", "--json").document
    assert [0] == [t["entries"] for t in nothing_yet["connectors"][0]["tiers"]]
    assert not (setup.folder / "cache").exists()

    with setup.running() as running:
        until(lambda: len(api.log) >= 3, "three polls")

        def told():
            found = setup.call("cache", "stats", "--json").document["connectors"][0]
            return found if found["hits"] and found["tiers"][0]["entries"] else None

        found = until(told, "hits")
        assert [(1, 1), (2, 1), (3, 0)] == [
            (tier["level"], tier["entries"]) for tier in found["tiers"]
        ]
        assert found["running"]
        [entry] = setup.call("cache", "list", "--json").document["entries"]
        assert 2 == entry["level"]
        assert ["If-None-Match"] == entry["validators"]
        assert "hidden" not in json.dumps(entry)
        asked = len(api.log)
        assert "1 answer forgotten" in setup.call("cache", "clear").out

        def anew():
            return any("if-none-match" not in a.headers for a in api.log[asked:])

        until(anew, "a poll that has nothing to go by")
        assert 2 == setup.arrived()
        running.end()

    # What was in memory outlives the engine.
    stats = setup.call("cache", "stats")
    assert "no engine runs it" in stats.out
    assert "L3 disk: 1 of 10,000 entries" in stats.out
    assert "to be revalidated" in setup.call("cache", "list").out
    assert 0 == setup.call("cache", "clear").code
    assert "nothing is kept" in setup.call("cache", "list").out


@pytest.mark.parametrize("wanted", ["true", "false"])
def test_lookups_are_shown_only_where_statistics_are_wanted(
    make: Make, api: Api, wanted: str
) -> None:
    shelf = Shelf(api, etag)
    shelf.put("/doc")
    keys = {
        **LISTENING,
        "http.source.poll.interval.ms": 200,
        "cache.statistics.enabled": wanted,
    }
    setup = make(f"{api.url}/doc", keys)

    with setup.running() as running:
        admin = admin_of(setup, running)
        until(lambda: len(api.log) >= 3, "three polls")
        until(lambda: b"_cache_entries{" in admin.ask("/metrics").body, "the gauges")
        counted = b"http_source_cache_requests_total{"
        if wanted == "true":
            until(lambda: counted in admin.ask("/metrics").body, "the lookups")
        assert (counted in admin.ask("/metrics").body) is (wanted == "true")
        assert 0 == running.end().code
