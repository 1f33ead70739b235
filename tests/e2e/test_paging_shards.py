"""APIs that ignore, clamp or wrap the page, read by several tasks: no page twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.e2e.paging import Answer, Asked, Row, World, ok
from tests.e2e.rig import Setup

pytestmark = pytest.mark.slow

PAGES = 5
HOW: dict[str, Callable[[int], int]] = {
    "ignored": lambda number: 0,
    "clamped": lambda number: min(number, PAGES - 1),
    "wrapped": lambda number: number % PAGES,
}


def deaf(
    kind: str, how: str, total: int | None = None, most: int = 1000
) -> Callable[[Asked], Answer]:
    """Pages of 3 records; `most` of them, however often the same."""

    def api(asked: Asked) -> Answer:
        if kind == "page":
            number = asked.number("page", 1) - 1
        else:
            number = asked.number("offset") // 3
        if number >= most:
            return ok([])
        at = HOW[how](number) * 3
        return ok(range(at, at + 3), **({} if total is None else {"total": total}))

    return api


def rows(tasks: int) -> list[Row]:
    whole, found = list(range(3 * PAGES)), []
    for kind in ("offset", "page"):
        keys = {"pagination.type": kind, "pagination.limit.value": 3}
        told = {**keys, "pagination.total.field": "total"}
        allowed = {**keys, "pagination.repeats": "ALLOW"}
        for how in HOW:
            records = whole[:3] if how == "ignored" else whole
            most = PAGES + (PAGES + 1) * tasks
            if how != "wrapped":
                most = len(records) // 3 + tasks
            found.append(
                Row(
                    f"{kind}-{how}", deaf(kind, how), keys, records, most,
                    words="repeats one",
                )
            )  # fmt: skip
        found += [
            Row(
                f"{kind}-{how}-told",
                deaf(kind, how, len(whole)), told, whole, PAGES + (PAGES + 1) * tasks,
            )
            for how in ("clamped", "wrapped")
        ]  # fmt: skip
        found += [
            Row(
                f"{kind}-unread", deaf(kind, "ignored", 60), told, whole[:3], tasks + 1,
                error="promised 60 records", words="repeats one",
            ),
            Row(
                f"{kind}-allowed", deaf(kind, "ignored", most=8), allowed, whole[:3] * 8, 8 + tasks,
            ),
        ]  # fmt: skip
    return found


@pytest.mark.parametrize("tasks", [1, 2, 3, 8])
def test_a_page_that_repeats_another_task_s_is_not_produced(
    tmp_path: Path, embedded: Broker, tasks: int
) -> None:
    table = rows(tasks)
    with World(table) as world:
        setup = Setup(tmp_path, "", embedded)
        made: dict[str, object] = {
            "http.source.url": None,
            "kafka.topic": None,
            "tasks.max": tasks,
            "apis.num": len(table),
            "max.retries": 0,
        }
        for number, row in enumerate(table, 1):
            own = {
                "api.name": row.name,
                "http.source.url": f"{world.url}/{row.name}",
                "kafka.topic": f"{setup.topic}-{row.name}",
                **row.keys,
            }
            made |= {f"api{number}.{key}": value for key, value in own.items()}
            embedded.create(f"{setup.topic}-{row.name}", 1)
        setup.write(**made)
        done = setup.once(within=240)
        problems = []
        for row in table:
            got = sorted(
                json.loads(each.value or b"null")
                for each in embedded.read(f"{setup.topic}-{row.name}")
            )
            if got != sorted(row.records):
                problems.append(f"{row.name}: got {got}")
            if world.counts[row.name] > row.requests:
                problems.append(f"{row.name}: asked {world.asked[row.name]}")
            said = any(
                "repeats one" in line and f"/{row.name}?" in line
                for line in done.err.splitlines()
            )
            if said != (row.words is not None):
                problems.append(f"{row.name}: said {said}")
    assert [] == problems, done.err
    errors = {
        each["api"]
        for each in done.document["connectors"][0]["apis"]
        if each["error"] is not None
    }
    assert {"offset-unread", "page-unread"} == errors
    assert 65 == done.code
