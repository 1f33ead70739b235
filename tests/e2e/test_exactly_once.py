"""Exactly once, seen from outside: kills, a second engine, a broker without."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.brokers import Apache, Broker, Seen
from tests.e2e.rig import Running, Setup, seeded, until
from tests.fakes.api import Api, record

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

#: Records of a page, and bytes of a record.
RECORDS, SIZE = 50, 120


def paged(folder: Path, api: Api, broker: Broker, **keys: object) -> Setup:
    return Setup(
        folder,
        f"{api.url}/page/0",
        broker,
        {
            "pagination.type": "page",
            "pagination.limit.value": RECORDS,
            "exactly.once.support": "required",
            "http.source.poll.interval.ms": 3_600_000,
            **keys,
        },
    )


def elsewhere(setup: Setup, folder: Path) -> Setup:
    """The same connector as another machine has it."""
    folder.mkdir(exist_ok=True)
    setup.write(
        **{name: folder / name for name in ("state.dir", "cache.dir", "runtime.dir")}
    )
    return setup


def asked(api: Api, more: int) -> None:
    """Wait until the API was asked for some pages more."""
    wanted = api.counts.requests + more
    until(lambda: api.counts.requests >= wanted, f"{more} more requests")


def another(running: Running, before: dict[int, int]) -> Callable[[], bool]:
    """A task was started again."""
    return lambda: running.tasks() != before


def ids(seen: Sequence[Seen]) -> list[str]:
    return [json.loads(each.value or b"")["id"] for each in seen]


def positions(broker: Broker, setup: Setup, topic: str) -> int:
    """How many records of the shard its committed position says are delivered."""
    newest = 0
    for each in broker.read(topic):
        if each.key and each.key.startswith(b'["%b"' % setup.name.encode()):
            told = json.loads(each.value or b"{}")
            page = told.get("page")
            if page is not None:
                newest = max(newest, (int(page) - 1) * RECORDS)
    return newest


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Do something again and again inside."""
    over = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            while not over.is_set():
                work()
        except BaseException as failure:  # noqa: BLE001
            failed.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)
    if failed:
        raise failed[0]


@pytest.mark.timeout(240)
def test_killed_tasks_and_engines_repeat_nothing(
    tmp_path: Path, apache: Broker
) -> None:
    dice, _ = seeded()
    pages = 400
    with Api(pages=pages, records=RECORDS, size=SIZE, latency=0.03) as api:
        setup = paged(tmp_path, api, apache)

        def kill(running: Running) -> None:
            asked(api, dice.randrange(1, 40))
            tasks = running.tasks()
            os.kill(tasks[0], signal.SIGKILL)
            until(another(running, tasks), "a task started again")

        with setup.running() as running:
            for _ in range(4):
                kill(running)
            asked(api, dice.randrange(1, 40))
        # The end of the context has killed all of it.
        with setup.running() as running:
            until(lambda: setup.arrived() >= pages * RECORDS, "all of it", 120)
            assert running.end().code == 0

    seen = setup.seen()
    assert [record(0, at, SIZE) for at in range(pages * RECORDS)] == [
        each.value for each in seen
    ]
    # Some of it was written more often than it can be read.
    assert len(apache.read(setup.topic, "read_uncommitted")) > len(seen)


@pytest.mark.timeout(240)
def test_no_record_is_seen_before_its_position_is(
    tmp_path: Path, apache: Broker
) -> None:
    pages = 60
    with Api(pages=pages, records=RECORDS, size=SIZE, latency=0.03) as api:
        setup = paged(tmp_path, api, apache)
        state = f"{setup.name}-offsets"
        setup.write(**{"offsets.storage.topic": state})
        looks = 0

        def look() -> None:
            nonlocal looks
            if not apache.partitions(state) or not apache.partitions(setup.topic):
                return
            # In this order: the position may be ahead of the older look, never behind.
            arrived = len(setup.seen())
            assert positions(apache, setup, state) >= arrived
            looks += 1

        with setup.running() as running, meanwhile(look):
            for _ in range(2):
                asked(api, 12)
                before = running.tasks()
                os.kill(before[0], signal.SIGKILL)
                until(another(running, before), "a new process")
            until(lambda: setup.arrived() >= pages * RECORDS, "all of it", 120)
        assert looks, "nobody has looked while it ran"


@pytest.mark.timeout(240)
def test_a_second_engine_takes_over_and_the_first_ends(
    tmp_path: Path, apache: Broker
) -> None:
    """By default, within seconds, and nothing is delivered by both."""
    pages = 100
    with Api(pages=pages, records=RECORDS, size=SIZE, latency=0.2) as api:
        setup = paged(tmp_path, api, apache, **{"exactly.once.support": None})
        with setup.running() as first:
            until(lambda: setup.arrived() > 0, "the first page")
            elsewhere(setup, tmp_path / "other")
            with setup.running() as second:
                done = first.done(30)
                assert done.code == 75
                assert "another engine has taken connector" in done.err
                assert "Traceback" not in done.err
                until(lambda: setup.arrived() >= pages * RECORDS, "all of it", 120)
                assert second.end().code == 0
    found = ids(setup.seen())
    assert len(found) == len(set(found)) == pages * RECORDS


@pytest.mark.timeout(240)
def test_a_reset_of_the_offsets_ends_an_engine_elsewhere(
    tmp_path: Path, apache: Broker
) -> None:
    with Api(pages=100, records=RECORDS, size=SIZE, latency=0.2) as api:
        setup = paged(tmp_path, api, apache)
        with setup.running() as running:
            until(lambda: setup.arrived() > 0, "the first page")
            elsewhere(setup, tmp_path / "other")
            assert setup.call("offsets", "reset", "--yes").code == 0
            assert running.done().code == 75
        got = setup.call("offsets", "get")
        assert "no offsets are stored" in got.out, got


@pytest.mark.timeout(240)
def test_changes_of_the_mode_and_of_the_tasks_lose_and_repeat_nothing(
    tmp_path: Path, apache: Broker
) -> None:
    """Each run but for the last is killed within the poll."""
    with Api(sources=4, pages=40, records=RECORDS, size=SIZE, latency=0.1) as api:
        urls = {
            f"api{at + 1}.http.source.url": f"{api.url}/page/{at}" for at in range(4)
        }
        names = {f"api{at + 1}.api.name": f"s{at}" for at in range(4)}
        setup = paged(
            tmp_path,
            api,
            apache,
            **{"apis.num": 4, "http.source.url": None},
            **urls,
            **names,
        )
        apache.create(setup.topic)
        for tasks in (4, 1, 2):
            setup.write(**{"tasks.max": tasks})
            with setup.running():
                asked(api, 30)
        setup.write(**{"exactly.once.support": "disabled"})
        with setup.running() as running:
            until(lambda: setup.arrived() >= 4 * 40 * RECORDS, "all of it", 120)
            assert running.end().code == 0

    by_source: dict[str, list[str]] = defaultdict(list)
    for name in ids(setup.seen()):
        by_source[name.partition("-")[0]].append(name)
    for at in range(4):
        # Nothing twice: the run at least once has ended cleanly.
        assert by_source[f"s{at}"] == [f"s{at}-{n:07d}" for n in range(40 * RECORDS)]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("boundary", ["poll", "interval"])
def test_a_broker_that_is_killed_repeats_nothing(
    tmp_path: Path, own_apache: Apache, boundary: str
) -> None:
    pages = 120
    with Api(pages=pages, records=RECORDS, size=SIZE, latency=0.05) as api:
        setup = paged(tmp_path, api, own_apache, **{"transaction.boundary": boundary})
        setup.write(**{"producer.request.timeout.ms": 5000})
        with setup.running() as running:
            until(lambda: setup.arrived() > 0, "the first page")
            own_apache.kill()
            own_apache.start()
            until(lambda: setup.arrived() >= pages * RECORDS, "all of it", 150)
            assert running.end().code == 0
    found = ids(setup.seen())
    assert len(found) == len(set(found)) == pages * RECORDS


def test_what_was_asked_for_and_cannot_be_is_said(
    tmp_path: Path, embedded: Broker
) -> None:
    """With the state in a file: requested falls back loudly, required is refused."""
    with Api(pages=2, records=RECORDS, size=SIZE) as api:
        setup = paged(
            tmp_path,
            api,
            embedded,
            **{
                "offset.storage.file.filename": tmp_path / "offsets",
                "exactly.once.support": "requested",
            },
        )
        done = setup.once()
        assert done.code == 0
        assert "Delivery is at least once although exactly.once.support=requested" in (
            done.err
        )
        setup.write(**{"exactly.once.support": "required"})
        assert setup.once().code == 78
