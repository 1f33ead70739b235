"""
Kills of everything, and a broker that goes away: all records, all the same.

What is in flight when a task is killed shows in the API's log: a page that is asked
again had been asked, and its state was not saved.  A record may stand twice in the
topic only if its page was one of those.
"""

from __future__ import annotations

import random
import re
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.brokers import Apache, Broker
from tests.e2e.rig import TYPES, Done, Running, Setup, seeded, until
from tests.fakes.api import Api

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

PAGES, RECORDS = 200, 250

#: A chain of cursors and a list by page number, of 50,000 records each.
APIS = {
    "http.source.url": None,
    "apis.num": 2,
    "api1.pagination.type": "cursor",
    "api1.pagination.cursor.field": "next",
    "api1.pagination.limit.value": RECORDS,
    "api2.pagination.type": "page",
    "api2.pagination.limit.value": RECORDS,
}

#: Tasks: one has the chain, three share the pages.
TASKS = 4

#: Pages of one shard that may be in flight: one that is asked for, and those that
#: were handed over within the linger and the time of a write of the state.
IN_FLIGHT = 3

TASK_KILLS, SUPERVISOR_KILLS = 9, 2


@pytest.mark.timeout(300)
def test_nine_kills_of_tasks_and_two_of_the_supervisor(
    tmp_path: Path, apache: Broker
) -> None:
    dice, seed = seeded()
    with Api(sources=2, pages=PAGES, records=RECORDS, size=200, latency=0.16) as api:
        setup = Setup(
            tmp_path,
            "",
            apache,
            {
                **APIS,
                "api1.http.source.url": f"{api.url}/cursor/0",
                "api2.http.source.url": f"{api.url}/page/1",
                # Pages long enough in a batch for half of the kills to hit one there.
                "producer.linger.ms": 80,
                "tasks.max": TASKS,
                "task.restart.limit": 1000,
                "task.restart.backoff.ms": 100,
                "task.restart.backoff.max.ms": 200,
            },
        )
        apache.create(setup.topic, 3)
        began = time.monotonic()
        kills = shoot(setup, api, dice)
        took = time.monotonic() - began
        sent = api.all_records(0) + api.all_records(1)
        asked = Counter(api.targets())
        rewinds = rewound(api.targets())

    assert TASK_KILLS + SUPERVISOR_KILLS == len(kills)
    assert took > 30, "throttled to last"
    seen = setup.seen()
    counts = Counter(each.value or b"" for each in seen)
    assert set(sent) == counts.keys(), (seed, "lost, or never sent")
    # Each that stands there several times was on a page asked for as often.
    page_of = {
        value: (source, number // RECORDS)
        for source in (0, 1)
        for number, value in enumerate(api.all_records(source))
    }
    pages = Counter({page_of_target(target): n for target, n in asked.items()})
    assert all(n <= pages[page_of[value]] for value, n in counts.items())
    # A supervisor takes all shards with it, a task the one it has.
    victims = TASK_KILLS + SUPERVISOR_KILLS * TASKS
    assert sum(len(again) for again in rewinds) <= victims * IN_FLIGHT
    assert all(len(again) <= IN_FLIGHT for again in rewinds), (seed, rewinds)
    in_order(seen, page_of)


def shoot(setup: Setup, api: Api, dice: random.Random) -> list[int]:
    """Run to the end under fire; the pids that were killed, with pages in flight."""
    killed: list[int] = []
    shots = ["task"] * TASK_KILLS + ["supervisor"] * SUPERVISOR_KILLS
    while True:
        dice.shuffle(shots)
        command = setup.command("run", "--once", "--json")
        with Running(command, setup.folder) as running:
            while shots:
                in_flight(api, dice)
                if shots.pop() == "supervisor":
                    running.tell(signal.SIGKILL)
                    killed.append(running.pid)
                    break
                victim = until(lambda: alive(running, killed), "tasks to shoot at")
                pid = dice.choice(victim)
                psutil.Process(pid).kill()
                killed.append(pid)
            else:
                done = running.done(120)
                assert 0 == done.code, done.err
                assert "FAILED" not in done.err
                assert done.total["received"] == done.total["produced"]
                return killed
            family = running.children()
            running.process.wait(10)
            psutil.wait_procs(family, 10)


def in_flight(api: Api, dice: random.Random) -> None:
    """Wait until all shards have asked for a page, and then a random while."""
    count = len(api.log)
    until(lambda: len(api.log) > count + 2 * TASKS, "pages are asked for")
    until(lambda: api.counts.busy >= TASKS - 1, "pages are under way")
    time.sleep(dice.random())


def alive(running: Running, killed: Sequence[int]) -> list[int]:
    """The tasks that run."""
    pids = {child.pid for child in running.children()}
    return [pid for pid in running.tasks().values() if pid in pids - set(killed)]


def page_of_target(target: str) -> tuple[int, int]:
    """The API's list and the page of it that was asked for."""
    if found := re.search(r"cursor=c(?:/|%2F)(\d+)", target):
        return 0, int(found[1]) // RECORDS
    if found := re.search(r"page=(\d+)", target):
        return 1, int(found[1]) - 1
    return 0, 0


def shard_of(page: tuple[int, int]) -> int:
    """Which shard has a page: the chain, or one of those that share the list."""
    source, index = page
    return 0 if source == 0 else 1 + index % (TASKS - 1)


def rewound(targets: Sequence[str]) -> list[list[int]]:
    """For each time that a shard began anew: the pages it had asked for before."""
    asked: dict[int, list[int]] = defaultdict(list)
    found = []
    for target in targets:
        page = page_of_target(target)
        mine = asked[shard_of(page)]
        again = [index for index in mine if index >= page[1]]
        if again:
            found.append(again)
            del mine[len(mine) - len(again) :]
        mine.append(page[1])
    return found


def in_order(seen: Sequence[object], page_of: dict[bytes, tuple[int, int]]) -> None:
    """A shard's records stand in its order; where it began anew, it goes on so."""
    last: dict[tuple[int, int], tuple[int, bytes]] = {}
    steps = 0
    for each in seen:
        value = each.value or b""  # type: ignore[attr-defined]
        page = page_of[value]
        key = each.partition, shard_of(page)  # type: ignore[attr-defined]
        here = page[1], value
        steps += key in last and here <= last[key]
        last[key] = here
    # Each kill may set back each of its shards in each partition.
    assert steps <= 3 * (TASK_KILLS + SUPERVISOR_KILLS * TASKS)


# -- the broker goes away ------------------------------------------------------------


@pytest.fixture
def chain() -> Iterator[Api]:
    """A chain that no test comes to the end of."""
    with Api(pages=20_000, records=50, size=400, latency=0.005) as found:
        yield found


def chained(folder: Path, api: Api, broker: Broker | str, **keys: object) -> Setup:
    more = {
        "pagination.type": "cursor",
        **TYPES["cursor"],
        "pagination.max.pages": 1_000_000,
        "producer.buffer.memory": 4 << 20,
        **{key.replace("_", "."): value for key, value in keys.items()},
    }
    return Setup(folder, f"{api.url}/cursor/0", broker, more)


def grows(api: Api, pages: int) -> None:
    count = len(api.log)
    until(lambda: len(api.log) > count + pages, f"{pages} more pages")


def prefix(setup: Setup, api: Api) -> Counter[bytes]:
    """What stands in the topic: the first n records of the API, how often each."""
    counts = Counter(setup.values())
    assert set(api.all_records()[: len(counts)]) == counts.keys()
    return counts


def waited_in_place(done: Done) -> None:
    """No crash, no loop of crashes: each task was started once and ended well."""
    assert 0 == done.code, done.err
    assert "FAILED" not in done.err
    assert "Traceback" not in done.err
    assert 1 == done.err.count(" started as process "), done.err


def resident(running: Running) -> int:
    """Bytes of its largest process, a task."""
    return max(child.memory_info().rss for child in running.children())


@pytest.mark.timeout(240)
def test_a_broker_that_is_away_for_ten_seconds(
    tmp_path: Path, own_apache: Apache, chain: Api
) -> None:
    # A broker takes its time to end and to start again, too, on a busy machine.
    setup = chained(tmp_path, chain, own_apache, producer_delivery_timeout_ms=120_000)

    with setup.running() as running:
        grows(chain, 400)
        own_apache.stop()
        stopped = time.monotonic()
        until(lambda: running.said("has not answered for"), "it is said")
        assert time.monotonic() - stopped < 10
        until(lambda: time.monotonic() - chain.log[-1].at > 2, "the fetch waits")
        asked, held = len(chain.log), resident(running)
        full = time.monotonic()
        until(lambda: time.monotonic() > max(stopped + 10, full + 3), "ten seconds")
        assert len(chain.log) == asked, "the fetch waits, too"
        assert resident(running) - held < 4 << 20, "memory is flat"
        own_apache.start()
        grows(chain, 400)
        until(lambda: running.said("answers again after"), "it is back")
        done = running.end()

    waited_in_place(done)
    counts = prefix(setup, chain)
    # The same producer went on: its numbers keep the broker from taking any twice.
    assert {1} == set(counts.values())


@pytest.mark.timeout(240)
def test_a_broker_that_is_not_there_and_then_away_for_longer_than_a_delivery_takes(
    tmp_path: Path, own_apache: Apache, chain: Api
) -> None:
    own_apache.stop()
    setup = chained(
        tmp_path,
        chain,
        own_apache,
        producer_delivery_timeout_ms=9000,
        producer_request_timeout_ms=5000,
        # A transaction is given up after a while, and asked for again.
        exactly_once_support="disabled",
    )

    with setup.running() as running:
        until(lambda: running.said("Waiting for the broker"), "it is said", 30)
        own_apache.start()
        until(lambda: running.said("Going on from the stored offsets"), "it goes on")
        grows(chain, 200)
        own_apache.stop()
        until(lambda: running.said("has not answered for"), "it is said", 30)
        # Longer than a delivery may take where somebody waits for its end.
        time.sleep(12.0)
        asked = len(chain.targets())
        time.sleep(2.0)
        assert asked == len(chain.targets()), "it asks for no more meanwhile"
        own_apache.start()
        until(lambda: running.said("answers again after"), "it is said", 60)
        grows(chain, 200)
        done = running.end()

    waited_in_place(done)
    assert 1 == done.err.count("Waiting for the broker"), "nothing was built anew"
    assert len(done.err.splitlines()) < 60, done.err
    counts = prefix(setup, chain)
    assert 0 == sum(n - 1 for n in counts.values()), "nothing comes twice"


@pytest.mark.timeout(120)
def test_ctrl_c_while_the_broker_is_away(
    tmp_path: Path, own_apache: Apache, chain: Api
) -> None:
    setup = chained(tmp_path, chain, own_apache)

    with setup.running() as running:
        grows(chain, 50)
        own_apache.stop()
        until(lambda: running.said("has not answered for"), "it is said")
        running.interrupt()
        time.sleep(0.3)
        running.interrupt()
        middle = running.done(30)
    with setup.running() as running:
        until(lambda: running.said("Waiting for the broker"), "it is said", 40)
        running.interrupt()
        start = running.done(30)

    for done in (middle, start):
        assert "Traceback" not in done.err
        assert done.code in (0, 75), done.err
    assert not running.children()
