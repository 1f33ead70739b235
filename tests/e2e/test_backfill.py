"""`backfill` from the command line: beside an engine, killed, gone on with, done."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.e2e.conftest import Make
from tests.e2e.rig import Running, Setup, until
from tests.fakes.misbehaving import Misbehaving, Peer, Say, perform

pytestmark = pytest.mark.slow

#: Ten days of an hour each, and a record each hour.
FIRST, HOURS = 1_704_067_200, 240


class Archive:
    """Records by the hour; says when each request came, and for what."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []
        self.lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        query = dict(parse_qsl(urlsplit(peer.asked.target).query))
        live = "since" not in query
        with self.lock:
            self.asked.append((time.monotonic(), "live" if live else "past"))
        if live:
            perform(Say(body=b'{"items":[{"at":"now"}]}'), peer)
            return
        low, high = (
            datetime.fromisoformat(query[name]).timestamp()
            for name in ("since", "until")
        )
        found = [
            {"at": at}
            for at in range(FIRST, FIRST + HOURS * 3600, 3600)
            if low <= at < high
        ]
        perform(Say(body=json.dumps({"items": found}).encode()), peer)


@pytest.fixture
def archive() -> Iterator[tuple[Archive, Misbehaving]]:
    act = Archive()
    with Misbehaving(act) as server:
        yield act, server


WINDOWS = {
    "http.offset.mode": "FULL",
    "http.source.window.size.seconds": 3600,
    "http.source.window.start": "2020-01-01T00:00:00Z",
    "http.source.query.params": "since=${window.start}&until=${window.end}",
}


def command(setup: Setup, *words: str, last: str = "2024-01-11") -> list[str]:
    """`backfill` of ten days, the windows said on the command line."""
    sets = [
        part for key, value in WINDOWS.items() for part in ("--set", f"{key}={value}")
    ]
    found = setup.command("backfill")
    return [*found, "--from", "2024-01-01", "--to", last, *sets, *words]


def hours(setup: Setup) -> Counter[str]:
    return Counter(v.decode() for v in setup.values() if b"now" not in v)


def test_a_piece_of_the_past_beside_an_engine_that_is_never_starved(
    make: Make, archive: tuple[Archive, Misbehaving]
) -> None:
    act, server = archive
    setup = make(
        f"{server.url}/orders",
        {
            "kafka.topic": "${connector}-topic",
            "rate.limit.enabled": "true",
            "rate.limit.requests.per.second": 40,
            "rate.limit.burst.capacity": 4,
            "http.source.poll.interval.ms": 10,
            "cache.enabled": "false",
        },
    )
    setup.write(**{"kafka.topic": "${connector}-topic"})
    with setup.running() as engine:
        until(lambda: len(act.asked) > 20, "the engine asks")
        began = time.monotonic()
        with Running(command(setup, "--share", "0.5"), setup.folder) as past:
            until(lambda: sum(w == "past" for _, w in act.asked) > 60, "some of it")
            os.kill(past.pid, signal.SIGTERM)
            first = past.done()
        assert 0 == first.code, first.err
        assert "goes on from here" in first.out
        assert "beside its engine" in first.err
        with Running(command(setup, "--share", "0.5"), setup.folder) as past:
            until(lambda: sum(w == "past" for _, w in act.asked) > 120, "more of it")
            # Its tasks are its children: the machine takes one away.
            [victim, *_] = past.tasks().values()
            os.kill(victim, signal.SIGKILL)
            second = past.done()
        ended = time.monotonic()
        assert 0 == second.code, second.err
        assert "backfill: done" in second.out
        assert engine.pid

    # All of it, each hour as often as a kill allows.
    found = hours(setup)
    assert HOURS == len(found)
    assert sum(found.values()) <= HOURS + 20
    # One budget for both, of which the engine has its part throughout.
    within = [who for at, who in act.asked if began <= at <= ended]
    counts, seconds = Counter(within), ended - began
    assert counts["live"] + counts["past"] <= 40 * seconds + 10
    assert counts["past"] <= 0.5 * 40 * seconds + 6
    assert counts["live"] >= 0.3 * 40 * seconds


def test_what_is_done_is_not_done_again_but_by_request(
    make: Make, archive: tuple[Archive, Misbehaving]
) -> None:
    act, server = archive
    setup = make(f"{server.url}/orders", {"listeners": "none"})

    def run(*words: str) -> str:
        with Running(command(setup, *words, last="2024-01-02"), setup.folder) as past:
            done = past.done()
        assert 0 == done.code, done.err
        return done.out

    assert "backfill: done" in run()
    assert 24 == sum(hours(setup).values())
    asked = len(act.asked)
    assert "done already" in run()
    assert asked == len(act.asked)
    assert "backfill: done" in run("--restart")
    assert 48 == sum(hours(setup).values())
    # The connector's own offsets are not touched.
    assert "no offsets are stored" in setup.call("offsets", "get").out


def test_what_cannot_be_asked_for_is_said(
    make: Make, archive: tuple[Archive, Misbehaving]
) -> None:
    _, server = archive
    setup = make(f"{server.url}/orders")
    call = setup.command("backfill")

    for words, says in (
        (("--from", "2024-01-01", "--to", "2024-01-02"), "window.size"),
        (("--from", "x", "--to", "2024-01-02"), "--from 'x'"),
        (("--from", "2024-01-01", "--to", "2099-01-02"), "lies ahead"),
    ):
        with Running([*call, *words], setup.folder) as past:
            done = past.done()
        assert 78 == done.code, done.err
        assert says in done.err
        assert "Traceback" not in done.err
