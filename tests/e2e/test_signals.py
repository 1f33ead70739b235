"""Stop, Ctrl-C and reload, at any moment, as a shell and systemd give them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import random
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from engine.supervisor.stopper import ECHO
from tests.brokers import Broker
from tests.e2e.conftest import Make
from tests.e2e.rig import ROOT, TYPES, Done, Running, Setup, seeded, until
from tests.fakes.api import Api, Asked

pytestmark = pytest.mark.slow

#: A cursor chain that goes on in one poll, some hundred pages of it.
CHAIN = {
    "pagination.type": "cursor",
    **TYPES["cursor"],
    "pagination.max.pages": 100_000,
}


@pytest.fixture
def slow_api() -> Iterator[Api]:
    """400 pages, each 10 ms away: a run long enough to be stopped in."""
    with Api(pages=400, records=50, size=100, latency=0.01) as found:
        yield found


def under_way(api: Api, pages: int) -> None:
    until(lambda: len(api.targets()) >= pages, f"{pages} pages were asked")


def test_a_stop_in_the_middle_loses_nothing_and_repeats_nothing(
    make: Make, slow_api: Api
) -> None:
    setup = make(f"{slow_api.url}/cursor/0", CHAIN)

    for part in (60, 150):
        with setup.running() as running:
            under_way(slow_api, part)
            assert 0 == running.end().code, running.err
        assert not running.children()
    rest = setup.once()

    assert 0 == rest.code, rest.err
    assert 0 < rest.total["produced"] < 20_000
    assert slow_api.all_records() == setup.values()


def test_ctrl_c_in_the_middle_drains_and_prints_the_totals(
    make: Make, slow_api: Api
) -> None:
    setup = make(f"{slow_api.url}/cursor/0", CHAIN)

    with setup.running() as running:
        under_way(slow_api, 60)
        running.interrupt()
        done = running.done()

    assert 0 == done.code, done.err
    assert "Traceback" not in done.err
    assert re.search(r"^total: .* records/s$", done.out, re.MULTILINE), done.out
    values = setup.values()
    assert slow_api.all_records()[: len(values)] == values


def test_a_stop_does_not_wait_for_an_api_that_hangs(make: Make) -> None:
    with Api(pages=3, records=10) as api:
        hang = threading.Event()

        def answer(asked: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
            if asked.query.get("at") == "10":
                hang.wait(30)
            at = int(asked.query.get("at", "0"))
            onward = f',"next":"/slow?at={at + 10}"' if at < 20 else ""
            items = ",".join(str(n) for n in range(at, at + 10))
            return 200, [], f'{{"items":[{items}]{onward}}}'.encode()

        api.route("/slow", answer)
        setup = make(
            f"{api.url}/slow",
            {"pagination.type": "next_url", "pagination.cursor.field": "next"},
        )
        with setup.running() as running:
            under_way(api, 2)
            began = time.monotonic()
            done = running.end()
            took = time.monotonic() - began
        hang.set()
        rest = setup.once()

    assert 0 == done.code, done.err
    assert took < 8, done.err
    assert 0 == rest.code, rest.err
    assert [b"%d" % n for n in range(30)] == setup.values()


def test_a_stop_with_a_failed_shard_is_a_clean_one_all_the_same(make: Make) -> None:
    """What has failed was said when it did; systemd must not call the stop a failure."""
    with Api(pages=1, records=3) as api:
        api.route("/denied", lambda asked: (401, [], b"{}"))
        setup = make(
            None,
            {
                "apis.num": 2,
                "api1.http.source.url": f"{api.url}/page?page=0",
                "api2.http.source.url": f"{api.url}/denied",
            },
        )
        with setup.running() as running:
            until(lambda: running.said("is FAILED"), "the shard has failed")
            done = running.end()

    assert 0 == done.code, done.err
    assert "did not drain" not in done.err
    assert "401" in done.err


def test_a_second_signal_hurries(make: Make) -> None:
    with Api(pages=3, latency=30.0) as stuck:
        setup = make(f"{stuck.url}/cursor/0", CHAIN)
        with setup.running() as running:
            under_way(stuck, 1)
            running.interrupt()
            until(lambda: running.said("Stopping"), "the first was heard")
            time.sleep(2 * ECHO)
            running.interrupt()
            done = running.done()

    assert "hurrying" in done.err
    assert "Traceback" not in done.err


def is_ours(pid: int) -> bool:
    """True once our first line has run: SIGTERM is caught by us, or held back."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = re.findall(r"(?m)^Sig(?:Blk|Cgt):\s*(\w+)$", status)
    return any(int(mask, 16) >> (signal.SIGTERM - 1) & 1 for mask in masks)


def interpreter_alone(err: str) -> bool:
    """True for Python's own complaint from before it knew our first line."""
    return "KeyboardInterrupt" in err and f"{ROOT}/engine" not in err


@pytest.mark.timeout(240)
def test_ctrl_c_at_any_moment_leaves_no_traceback_and_no_process(
    make: Make, slow_api: Api
) -> None:
    setup = make(f"{slow_api.url}/cursor/0", CHAIN)
    # How long a start takes here decides which moments are of interest.
    with setup.running() as running:
        under_way(slow_api, 1)
        whole = time.monotonic() - running.started
        assert 0 == running.end().code
    moments = random.Random(5)

    for _ in range(6):
        moment = moments.uniform(0.02, 1.3 * whole)
        with setup.running() as running:
            with contextlib.suppress(Exception):
                running.process.wait(moment)
            left = running.children()
            ours = is_ours(running.pid)
            running.interrupt()
            if not ours:
                # Python itself may swallow one while it comes up; people press again.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.process.wait(10 * whole)
                running.interrupt()
            done = running.done()
        if not interpreter_alone(done.err):
            assert "Traceback" not in done.err + done.out, (moment, done.err)
            assert "KeyboardInterrupt" not in done.err, (moment, done.err)
            assert 0 == done.code, (moment, done)
        assert not any(each.is_running() for each in left), moment

    assert 0 == setup.once().code
    # On a slow machine a run may come to the chain's end, and the next polls again.
    records, values = slow_api.all_records(), setup.values()
    polls, rest = divmod(len(values), len(records))
    assert 0 == rest and 1 <= polls <= 6
    assert all(
        records == values[n * len(records) :][: len(records)] for n in range(polls)
    )


# -- a signal in every phase -------------------------------------------------------


class Moody:
    """A chain of pages, swift or slow or failing as the test says."""

    RECORDS = 20

    def __init__(self, api: Api) -> None:
        self.mood = ""
        self.refused = 0
        api.route("/moody", self.answer)

    def answer(self, asked: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
        if self.mood == "slow":
            time.sleep(0.6)
        if self.mood == "failing":
            self.refused += 1
            return 503, [], b""
        page = int(asked.query.get("page", "0"))
        items = b",".join(self.records(page))
        onward = b',"next":"/moody?page=%d"' % (page + 1)
        return 200, [], b'{"items":[%b]%b}' % (items, onward)

    def records(self, *pages: int) -> list[bytes]:
        places = itertools.product(pages, range(self.RECORDS))
        return [b'{"page":%d,"at":%d}' % place for place in places]


#: What the API is like, what the engine is told, and when it is in that phase.
PHASES: dict[str, tuple[str, dict[str, object], Callable[[Api, Moody], bool]]] = {
    "waits for an answer": (
        "slow",
        {},
        lambda api, moody: len(api.log) >= 2 and api.counts.busy > 0,
    ),
    "waits for a retry": (
        "failing",
        {"max.retries": 100, "retry.backoff.ms": 400, "retry.backoff.max.ms": 400},
        lambda api, moody: moody.refused >= 2,
    ),
    "waits for the rate limit": (
        "",
        {
            "rate.limit.enabled": "true",
            "rate.limit.requests.per.second": 1,
            "rate.limit.burst.capacity": 1,
        },
        lambda api, moody: len(api.log) >= 2,
    ),
    "has batches open": (
        "",
        {"producer.linger.ms": 300},
        lambda api, moody: len(api.log) >= 8,
    ),
}

#: How it is ended, and the codes that may follow; whose second Ctrl-C comes while
#: it drains drops the pages in hand.
ENDS = {
    "SIGTERM": (0,),
    "Ctrl-C": (0,),
    "Ctrl-C twice": (0, 75),
    "SIGKILL": (-signal.SIGKILL,),
}

#: After these nothing may come twice.
CLEAN = ("SIGTERM", "Ctrl-C")


def page_of(value: bytes) -> int:
    page: int = json.loads(value)["page"]
    return page


@pytest.mark.timeout(240)
def test_a_signal_in_every_phase(tmp_path: Path, broker: Broker) -> None:
    dice, seed = seeded()
    phases, ways = [*PHASES], [*ENDS]
    dice.shuffle(phases)
    dice.shuffle(ways)
    turns = list(zip(phases, ways, strict=True))
    # What an unclean end repeats shows in the turns behind it.
    turns.append(("has batches open", "SIGTERM"))
    clean, last, before = True, set[int](), list[bytes]()
    # The last page asked for before an end that was not clean.
    doubtful = -1
    with Api() as api:
        moody = Moody(api)
        setup = Setup(
            tmp_path,
            f"{api.url}/moody",
            broker,
            {
                "pagination.type": "next_url",
                "pagination.cursor.field": "next",
                "pagination.max.pages": 1_000_000,
                "circuit.breaker.enabled": "false",
            },
        )
        broker.create(setup.topic)
        own = {key: None for _, keys, _ in PHASES.values() for key in keys}
        asked: Counter[int] = Counter()
        for phase, way in turns:
            moody.mood, keys, reached = PHASES[phase]
            moody.refused = 0
            setup.write(**{**own, **keys})
            with setup.running() as running:
                until(functools.partial(reached, api, moody), phase)
                time.sleep(dice.uniform(0, 0.3))
                family = running.children()
                done, took = end(running, way)
            what = (seed, phase, way, done.err)
            assert took < 8, what
            assert done.code in ENDS[way], what
            assert "Traceback" not in done.err + done.out, what
            assert "FAILED" not in done.err, what
            assert not psutil.wait_procs(family, 5)[1], what

            asked.update(int(each.query.get("page", "0")) for each in api.log)
            api.forget()
            values = setup.values()
            count = Counter(values)
            # A kill may cut the last page between two batches.
            found, pages = list(dict.fromkeys(values)), range(max(asked) + 1)
            assert moody.records(*pages)[: len(found)] == found, what
            mine = {page_of(value) for value in values[len(before) :]}
            again = mine & {page_of(value) for value in before}
            assert not (clean and mine & last), (what, "a clean end repeats nothing")
            assert max(again, default=-1) <= doubtful, what
            assert all(n <= asked[page_of(value)] for value, n in count.items()), what
            clean, last, before = way in CLEAN, mine, values
            if not clean:
                doubtful = max(asked, default=-1)


def end(running: Running, way: str) -> tuple[Done, float]:
    """End it in a way; also the seconds that took."""
    began = time.monotonic()
    if way == "SIGTERM":
        running.tell(signal.SIGTERM)
    elif way == "SIGKILL":
        running.tell(signal.SIGKILL)
    else:
        running.interrupt()
    if way == "Ctrl-C twice":
        time.sleep(2 * ECHO)
        running.interrupt()
    return running.done(), time.monotonic() - began


# -- reload ------------------------------------------------------------------------


@pytest.fixture
def two(make: Make) -> Iterator[tuple[Api, Setup]]:
    """Two apis in two tasks, polled ten times a second."""
    with Api(sources=2, pages=1, records=5) as api:
        setup = make(
            "",
            {
                "http.source.url": None,
                "kafka.topic": None,
                "apis.num": 2,
                "tasks.max": 2,
                "http.source.poll.interval.ms": 100,
                "pagination.type": "keyset",
                "http.offset.mode": "CHAINING",
                "http.offset.json.pointer": "n",
                "api1.http.source.url": f"{api.url}/keyset/0",
                "api2.http.source.url": f"{api.url}/keyset/1",
                "api1.kafka.topic": "reload-one",
                "api2.kafka.topic": "reload-two",
            },
        )
        yield api, setup


def polled(api: Api) -> None:
    """Wait until each api has been asked again."""
    api.forget()
    until(
        lambda: {"/keyset/0", "/keyset/1"} <= set(api.counts.by_path),
        "both apis are polled",
    )


def test_a_reload_restarts_the_task_of_the_changed_api_alone(
    two: tuple[Api, Setup],
) -> None:
    api, setup = two
    with setup.running() as running:
        until(lambda: len(running.tasks()) == 2, "two tasks")
        polled(api)
        before = running.tasks()
        setup.write(**{"api2.http.source.query.params": "fresh=1"})
        running.tell(signal.SIGHUP)
        until(lambda: any("fresh=1" in t for t in api.targets()), "the new key works")
        after = running.tasks()
        polled(api)
        assert 0 == running.end().code

    assert before[0] == after[0]
    assert before[1] != after[1]


def test_a_bad_file_is_refused_and_the_old_goes_on(two: tuple[Api, Setup]) -> None:
    api, setup = two
    with setup.running() as running:
        until(lambda: len(running.tasks()) == 2, "two tasks")
        before = running.tasks()
        setup.write(**{"pagination.tpye": "page"})
        running.tell(signal.SIGHUP)
        said = until(lambda: running.said("reload is refused.*"), "it is refused")
        polled(api)
        assert before == running.tasks()
        assert 0 == running.end().code

    assert "pagination.tpye" in said.group()
