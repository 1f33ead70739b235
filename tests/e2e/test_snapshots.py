"""SNAPSHOT_DIFF in real runs: restarts, kills, and what is said of a fall."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import Make
from tests.e2e.rig import Done, Setup, seeded, until
from tests.fakes.table import Table

pytestmark = pytest.mark.slow

#: A pagination type -> what it asks `tests.fakes.table`.
TYPES: dict[str, tuple[str, dict[str, object]]] = {
    "none": ("all", {}),
    "page": ("page", {"pagination.limit.value": 3}),
    "cursor": ("cursor", {"pagination.cursor.field": "next"}),
    "link_header": ("cursor", {}),
}


def snapshot(make: Make, table: Table, kind: str, **keys: object) -> Setup:
    path, more = TYPES[kind]
    return make(
        f"{table.url}/{path}",
        {
            "http.offset.mode": "SNAPSHOT_DIFF",
            "pagination.type": kind,
            "kafka.key": "${record.id}",
            **more,
            **keys,
        },
    )


def in_files(setup: Setup) -> dict[str, object]:
    """Its state in a directory: at least once."""
    return {"offset.storage.file.filename": setup.folder / "offsets"}


def produced(setup: Setup, *words: str) -> list[tuple[str, int | None]]:
    """One run: each key that it has produced, with its v; None for a tombstone."""
    before = setup.arrived()
    done = setup.once(*words)
    assert done.code == 0, done.err
    return read(setup, before)


def read(setup: Setup, before: int = 0) -> list[tuple[str, int | None]]:
    return [
        (
            (each.key or b"").decode(),
            None if each.value is None else json.loads(each.value)["v"],
        )
        for each in setup.seen()[before:]
    ]


@pytest.mark.parametrize(
    ("kind", "exactly"),
    [
        ("none", "requested"),
        ("page", "disabled"),
        ("cursor", "requested"),
        ("link_header", "disabled"),
        ("page", "file"),
    ],
)
def test_each_run_produces_what_is_new_changed_or_gone(
    make: Make, kind: str, exactly: str
) -> None:
    with Table() as table:
        setup = snapshot(make, table, kind)
        if exactly == "file":
            setup.write(**in_files(setup))
        else:
            setup.write(**{"exactly.once.support": exactly})
        table.put(*range(8), v=1)
        assert sorted(produced(setup)) == [(str(n), 1) for n in range(8)]
        assert produced(setup) == []
        table.put(2, 11, v=2)
        table.take(0, 5)
        assert sorted(produced(setup), key=lambda one: int(one[0])) == [
            ("0", None),
            ("2", 2),
            ("5", None),
            ("11", 2),
        ]
        assert produced(setup) == []
        table.put(0, v=1)
        assert produced(setup) == [("0", 1)]


def test_a_fall_and_an_empty_page_delete_nothing_and_say_so(make: Make) -> None:
    with Table() as table:
        setup = snapshot(make, table, "cursor", **{"http.snapshot.max.fall": 0.4})
        table.put(*range(10), v=1)
        produced(setup)
        table.take(*range(5))
        done = setup.once()
        assert done.code == 0
        assert done.total["produced"] == 0
        assert "http.snapshot.max.fall=0.4" in done.err
        table.take(*range(10))
        done = setup.once()
        assert done.total["produced"] == 0
        assert "the first page was empty" in done.err
        table.put(*range(6), v=1)
        setup.write(**{"http.snapshot.max.fall": 0.5})
        assert sorted(produced(setup)) == [(str(n), None) for n in range(6, 10)]


@pytest.mark.parametrize("files", [False, True])
def test_a_kill_within_a_poll_loses_no_change_and_no_key(
    make: Make, files: bool
) -> None:
    dice, _ = seeded()
    with Table() as table:
        table.put(*range(300), v=0)
        setup = snapshot(
            make,
            table,
            "cursor",
            **{
                "http.source.poll.interval.ms": 50,
                "pagination.limit.value": 20,
                "http.snapshot.max.fall": 1,
            },
        )
        if files:
            setup.write(**in_files(setup))
        for version in range(1, 5):
            begun = len(table.asked)
            stop = begun + dice.randrange(2, 30)
            with setup.running() as running:
                until(lambda stop=stop: len(table.asked) >= stop, "some pages")
                for process in [*running.children(), running.process]:
                    process.kill()
            table.take(*dice.sample(range(300), 20))
            table.put(*dice.sample(range(300), 20), v=version)
        produced(setup)
        last = dict(read(setup))
        with table.lock:
            there = {str(n): row["v"] for n, row in table.rows.items()}
        assert {key: v for key, v in last.items() if v is not None} == there
        assert produced(setup) == []


def test_more_keys_than_allowed_fail_the_api_by_name(make: Make) -> None:
    with Table() as table:
        table.put(*range(9), v=1)
        setup = snapshot(make, table, "none", **{"http.snapshot.max.keys": 8})
        done: Done = setup.once()
        assert done.code == 65
        assert "http.snapshot.max.keys" in done.err
        assert setup.arrived() == 0


@pytest.mark.parametrize("files", [False, True])
def test_what_is_remembered_is_shown_and_forgotten(make: Make, files: bool) -> None:
    with Table() as table:
        table.put(*range(9), v=1)
        setup = snapshot(make, table, "cursor")
        setup.write(**(in_files(setup) if files else {}))
        produced(setup)
        shown = json.loads(setup.call("offsets", "get", "--json").out)
        assert sum(each["keys"] for each in shown["remembered"]) == 9
        assert setup.call("offsets", "reset", "--yes").code == 0
        assert len(produced(setup)) == 9
