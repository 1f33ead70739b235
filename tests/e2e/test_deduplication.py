"""De-duplication over the pages of a poll, over polls, and over a restart."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.e2e.paging import Answer, Asked, Row, World, ok
from tests.e2e.rig import Setup

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("store", "produced"), [("MEMORY", [5, 5, 6]), ("STATE", [5, 0, 1])]
)
def test_keys_survive_a_restart_where_they_are_kept(
    tmp_path: Path, embedded: Broker, store: str, produced: list[int]
) -> None:
    data = [{"id": n} for n in (1, 2, 3, 3, 4, 5)]
    clock = itertools.count()

    def api(asked: Asked) -> Answer:
        at = asked.number("cursor")
        end = at + 2 if at + 2 < len(data) else None
        # No two answers are the same, or the pages would count as unchanged.
        return ok(data[at : at + 2], next=end, at=next(clock))

    row = Row("api", api, {}, [], 0)
    with World([row]) as world:
        setup = Setup(
            tmp_path,
            f"{world.url}/api",
            embedded,
            {
                "pagination.type": "cursor",
                "pagination.cursor.field": "next",
                "deduplication.enabled": "true",
                "deduplication.key.fields": "id",
                "deduplication.store": store,
            },
        )
        counts = []
        for run in range(3):
            if run == 2:
                data.append({"id": 6})
            done = setup.once()
            assert 0 == done.code, done.err
            counts.append(done.total["produced"])
            assert done.total["received"] == (
                done.total["produced"] + done.total["deduplicated"]
            )
        listed = setup.call("offsets", "get", "--json")
        values = [json.loads(value)["id"] for value in setup.values()]

    assert produced == counts
    kept = [each.get("keys") for each in listed.document["remembered"]]
    assert ([6] if store == "STATE" else []) == [keys for keys in kept if keys]
    if store == "STATE":
        assert [1, 2, 3, 4, 5, 6] == values
