"""
Keys that change between runs: nothing is lost, and what comes twice is in the table.

A run believes what an earlier one has remembered, and runs in between may have had other
keys under which nothing was remembered. Each step of a row is a run with some keys, and
what the API has by then; the topic must hold what is listed, in this order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest

from tests.e2e.conftest import Make
from tests.fakes.api import Answer, Api, Asked

pytestmark = pytest.mark.slow


class Documents:
    """An API with a document at each path, and a time at which each record changed."""

    def __init__(self, api: Api):
        self.api = api
        self.items: dict[str, list[dict[str, Any]]] = {}
        for path in ("/customers", "/list", "/of/1"):
            api.route(path, self._answer)

    def _answer(self, asked: Asked) -> Answer:
        since = str(asked.query.get("since", ""))
        found = [
            each
            for each in self.items.get(asked.path, [])
            if str(each.get("at", "")) >= since
        ]
        return 200, [], json.dumps({"items": found}).encode()


@pytest.fixture
def documents() -> Iterator[Documents]:
    with Api() as api:
        yield Documents(api)


Step = tuple[dict[str, object], str, list[str]]


class Row(NamedTuple):
    """
    Attributes:
        keys: Of all steps.
        steps: Keys, what the API shows (words of the values, each with an id and a time),
            and the values that the run produces.
        path: Whose content the words are.
    """

    keys: dict[str, object]
    steps: Sequence[Step]
    path: str = "/list"


INCREMENTAL: dict[str, object] = {
    "http.offset.mode": "INCREMENTAL",
    "http.offset.json.pointer": "/at",
    "http.source.query.params": "since=${offset}",
}
ONLY_FULL: dict[str, object] = dict.fromkeys(INCREMENTAL)
DIFF: dict[str, object] = {"http.offset.mode": "SNAPSHOT_DIFF"}
FULL: dict[str, object] = {"http.offset.mode": "FULL"}
KEEP: dict[str, object] = {"api2.api.chaining.state": "KEEP"}
NONE: dict[str, object] = {"api2.api.chaining.state": "NONE"}
CHILD: dict[str, object] = {
    "http.source.url": None,
    "kafka.topic": None,
    "api1.api.name": "customers",
    "api2.api.name": "orders",
    "api2.api.chaining.parent": "customers",
    "api2.api.chaining.extract.field": "id",
}
PRODUCTS: dict[str, object] = {
    "api1.api.name": "products",
    "api2.api.chaining.parent": "products",
}
DEDUP: dict[str, object] = {
    "deduplication.enabled": "true",
    "deduplication.key.fields": "id",
    "deduplication.store": "STATE",
    "cache.enabled": "false",
}


def below(keys: dict[str, object]) -> dict[str, object]:
    """Keys of the child alone."""
    return {f"api2.{name}": value for name, value in keys.items()}


ROWS = {
    # A child's position has a seal of pages that NONE knows nothing of.
    "the state of children kept, not kept, kept": Row(
        CHILD,
        [
            (KEEP, "1A", ["1A"]),
            (KEEP, "1A", []),
            (NONE, "1B", ["1B"]),
            (KEEP, "1A", ["1A"]),
            (KEEP, "1A", []),
        ],
        "/of/1",
    ),
    "and nothing changed meanwhile: all of it comes once in each run of NONE": Row(
        CHILD,
        [
            (KEEP, "1A", ["1A"]),
            (NONE, "1A", ["1A"]),
            (NONE, "1A", ["1A"]),
            (KEEP, "1A", ["1A"]),
        ],
        "/of/1",
    ),
    "an incremental child: what came in between comes again": Row(
        {**CHILD, **below(INCREMENTAL)},
        [
            (KEEP, "1A", ["1A"]),
            ({**below(ONLY_FULL), **NONE}, "1A 2B", ["1A", "2B"]),
            ({**below(INCREMENTAL), **KEEP}, "1A 2B 3C", ["2B", "3C"]),
        ],
        "/of/1",
    ),
    "a child that reads all, then since a bookmark, then all": Row(
        CHILD,
        [
            ({}, "1A", ["1A"]),
            (below(INCREMENTAL), "1A 2B", ["1A", "2B"]),
            (below(ONLY_FULL), "1A", ["1A"]),
            (below(ONLY_FULL), "1A", []),
        ],
        "/of/1",
    ),
    # The same value of another parent is another child.
    "the parent of an incremental child": Row(
        {**CHILD, **below(INCREMENTAL)},
        [
            ({}, "2A", ["2A"]),
            (PRODUCTS, "1X", ["1X"]),
            (PRODUCTS, "1X", []),
        ],
        "/of/1",
    ),
    "the field that names children": Row(
        {**CHILD, **below(INCREMENTAL)},
        [
            ({}, "2A", ["2A"]),
            ({"api2.api.chaining.extract.field": "no"}, "1X", ["1X"]),
        ],
        "/of/1",
    ),
    "the parent's number in the file becomes its name": Row(
        {**CHILD, **below(INCREMENTAL)},
        [({}, "2A", ["2A"]), ({"api2.api.chaining.parent": "api1"}, "2A 3B", ["3B"])],
        "/of/1",
    ),
    "all, since a bookmark, all": Row(
        {},
        [
            (ONLY_FULL, "1A", ["1A"]),
            (INCREMENTAL, "1A 2B", ["1A", "2B"]),
            (ONLY_FULL, "1A", ["1A"]),
        ],
    ),
    "since a bookmark, all, since a bookmark: all comes again": Row(
        {},
        [
            (INCREMENTAL, "1A 2B", ["1A", "2B"]),
            (ONLY_FULL, "1A 2B", ["1A", "2B"]),
            (INCREMENTAL, "1A 2B 3C", ["1A", "2B", "3C"]),
        ],
    ),
    # What SNAPSHOT_DIFF knows of a key is of a run before.
    "a snapshot, all, a snapshot": Row(
        {"kafka.key": "${record.id}"},
        [
            (DIFF, "1A", ["1A"]),
            (FULL, "1B", ["1B"]),
            (DIFF, "1A", ["1A"]),
            (DIFF, "1A", []),
            (FULL, "1A", ["1A"]),
            (DIFF, "2B", ["2B", "gone"]),
        ],
    ),
    "de-duplication on, off, on": Row(
        DEDUP,
        [
            ({}, "1A", ["1A"]),
            ({"deduplication.enabled": "false"}, "1A 2B", ["1A", "2B"]),
            ({"deduplication.enabled": "true"}, "1A 2B 3C", ["2B", "3C"]),
        ],
    ),
    # The number of an order that looks like an id is another key.
    "the fields of de-duplication": Row(
        DEDUP,
        [
            ({}, "1A", ["1A"]),
            ({"deduplication.key.fields": "no"}, "2B", ["2B"]),
            ({"deduplication.key.fields": "no"}, "2B", []),
        ],
    ),
    "the response cache on, off, on": Row(
        {},
        [
            ({}, "1A", ["1A"]),
            ({"cache.enabled": "false"}, "1B", ["1B"]),
            ({"cache.enabled": "true"}, "1A", ["1A"]),
        ],
    ),
}


def records(words: str) -> list[dict[str, Any]]:
    """1A is the record 1 with the value A; `no` is one less than its id."""
    return [
        {
            "id": int(word[0]),
            "no": int(word[0]) - 1,
            "v": word,
            "at": f"2024-01-0{word[0]}T00:00:00Z",
        }
        for word in words.split()
    ]


@pytest.mark.parametrize("name", ROWS)
def test_changed_between_runs(make: Make, documents: Documents, name: str) -> None:
    row = ROWS[name]
    setup = make(f"{documents.api.url}/list", row.keys)
    if row.keys.items() >= CHILD.items():
        setup.write(
            **{
                "api1.http.source.url": f"{documents.api.url}/customers",
                "api2.http.source.url": f"{documents.api.url}/of/${{parent_value}}",
                "api2.kafka.topic": setup.topic,
            }
        )
    documents.items["/customers"] = [{"id": 1, "no": 1}]
    before: list[str] = []
    for number, (keys, words, brings) in enumerate(row.steps):
        documents.items[row.path] = records(words)
        setup.write(**keys)
        done = setup.once()
        assert 0 == done.code, done.err
        values = [
            json.loads(value)["v"] if value else "gone" for value in setup.values()
        ]
        assert [*before, *brings] == values, (number, done.err)
        before = values


def test_another_topic_gets_what_the_first_one_has(
    make: Make, documents: Documents
) -> None:
    """De-duplication knows what went into a topic, and not into which other one."""
    setup = make(f"{documents.api.url}/list", DEDUP)
    documents.items["/list"] = records("1A 2B")
    assert 0 == setup.once().code
    first, setup.topic = setup.topic, f"{setup.topic}-2"
    setup.write(**{"kafka.topic": setup.topic})

    assert 0 == setup.once().code
    assert 2 == len(setup.values())
    setup.write(**{"kafka.topic": first})
    setup.topic = first
    # What was kept of it gave way to the other's: it comes again.
    assert 0 == setup.once().code
    assert 4 == len(setup.values())
