from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from engine.shared.breaker import GLANCE, PROBE_LIMIT, CircuitBreaker
from tests.fakes.hands import Hands
from tests.shared.children import Child


@pytest.fixture
def clock() -> Hands:
    return Hands()


def breaker(path: Path, clock: Hands, **more) -> CircuitBreaker:
    more.setdefault("threshold", 3)
    return CircuitBreaker([path], recovery=10.0, clock=clock, **more)


def open_it(one: CircuitBreaker, clock: Hands) -> None:
    for _ in range(3):
        assert one.allow("h")
        one.failed("h")
    clock.turn(2 * GLANCE)


def test_so_many_failures_in_a_row_open_it_for_all_tasks(tmp_path, clock) -> None:
    one, other = breaker(tmp_path, clock), breaker(tmp_path, clock)
    one.failed("h")
    other.failed("h")
    assert one.allow("h")
    one.failed("h")
    clock.turn(2 * GLANCE)

    assert not one.allow("h")
    assert not other.allow("h")
    assert other.allow("elsewhere")
    assert "open" == other.state("h")


def test_an_answer_between_them_begins_anew(tmp_path, clock) -> None:
    one = breaker(tmp_path, clock)
    for _ in range(10):
        one.failed("h")
        one.failed("h")
        one.succeeded("h")

    assert one.allow("h")
    assert "closed" == one.state("h")


def test_after_its_time_one_probe_goes_for_all_tasks(tmp_path, clock) -> None:
    tasks = [breaker(tmp_path, clock) for _ in range(8)]
    open_it(tasks[0], clock)
    clock.turn(10)
    assert "half-open" == tasks[5].state("h")

    allowed = [task for task in tasks if task.allow("h")]

    assert 1 == len(allowed)
    allowed[0].succeeded("h")
    clock.turn(2 * GLANCE)
    assert all(task.allow("h") for task in tasks)


def test_a_failed_probe_opens_it_anew(tmp_path, clock) -> None:
    one, other = breaker(tmp_path, clock), breaker(tmp_path, clock)
    open_it(one, clock)
    clock.turn(10)
    assert one.allow("h")
    one.failed("h")
    clock.turn(5)

    assert not one.allow("h")
    assert not other.allow("h")
    clock.turn(5.1)
    assert other.allow("h")
    assert 2 == other.readings()[0].opened


def test_what_was_under_way_when_it_opened_does_not_keep_it_open(
    tmp_path, clock
) -> None:
    one = breaker(tmp_path, clock)
    open_it(one, clock)
    clock.turn(9)
    one.failed("h")
    clock.turn(1.1)

    assert one.allow("h")


def test_the_other_threads_of_the_prober_wait(tmp_path, clock) -> None:
    one = breaker(tmp_path, clock)
    open_it(one, clock)
    clock.turn(10)
    assert one.allow("h")
    answers = []

    thread = threading.Thread(target=lambda: answers.append(one.allow("h")))
    thread.start()
    thread.join()
    assert [False] == answers

    # A probe nobody reported does not close the host for ever.
    clock.turn(PROBE_LIMIT)
    thread = threading.Thread(target=lambda: answers.append(one.allow("h")))
    thread.start()
    thread.join()
    assert [False, True] == answers
    assert one.allow("h") is False


def test_a_prober_that_asks_again_still_is_the_prober(tmp_path, clock) -> None:
    one, other = breaker(tmp_path, clock), breaker(tmp_path, clock)
    open_it(one, clock)
    clock.turn(10)
    assert one.allow("h")

    assert one.allow("h")
    assert not other.allow("h")
    one.released("h")
    assert other.allow("h")


def test_a_killed_prober_gives_the_probe_back(tmp_path) -> None:
    one = CircuitBreaker([tmp_path], threshold=1, recovery=0.05)
    one.failed("h")
    time.sleep(0.06)

    def probe(say):
        say(str(one.allow("h")))
        signal.pause()

    with Child(probe) as prober:
        assert "True" == prober.hear()
        assert not one.allow("h")
        prober.kill()

        assert one.allow("h")


def test_one_probe_among_processes_that_ask_at_once(tmp_path) -> None:
    one = CircuitBreaker([tmp_path], threshold=1, recovery=0.2)
    one.failed("h")

    def ask(say):
        mine = CircuitBreaker([tmp_path], threshold=1, recovery=0.2)
        say("on")
        deadline = time.monotonic() + 0.6
        while time.monotonic() < deadline:
            if mine.allow("h"):
                say("probes")
                # Its answer never comes.
                signal.pause()
        say("does not")
        signal.pause()

    children = [Child(ask) for _ in range(4)]
    assert ["on"] * 4 == [child.hear() for child in children]
    answers = [child.hear() for child in children]
    for child in children:
        child.kill()

    assert ["does not"] * 3 + ["probes"] == sorted(answers)


def test_garbage_is_a_closed_breaker(tmp_path, clock) -> None:
    one = breaker(tmp_path, clock)
    open_it(one, clock)
    (path,) = tmp_path.glob("breaker-*")
    path.write_bytes(b"\xff" * 4096)

    assert breaker(tmp_path, clock).allow("h")
    one.failed("h")
    assert "closed" == one.state("h")


def test_without_a_file_a_task_has_its_own(tmp_path, clock) -> None:
    (tmp_path / "file").write_text("")
    one = breaker(tmp_path / "file", clock)
    for _ in range(3):
        assert one.allow("h")
        one.failed("h")

    assert not one.allow("h")
    one.succeeded("h")
    assert one.allow("h")


def test_those_that_were_asked_can_be_shown(tmp_path, clock) -> None:
    open_it(breaker(tmp_path, clock), clock)
    breaker(tmp_path, clock).failed("other:8443")
    one = breaker(tmp_path, clock)
    assert [] == one.readings()
    for host in ("h", "other:8443"):
        one.allow(host)

    found = {r.host: r for r in one.readings()}

    assert {"h": "open", "other:8443": "closed"} == {
        host: reading.state for host, reading in found.items()
    }
    assert 1 == found["other:8443"].failures
    assert 9 < found["h"].reopens <= 10
    assert found["h"].reopens == one.reopens("h")
    assert 0.0 == one.reopens("other:8443")


def test_apis_of_one_host_share_it_with_their_own_thresholds(tmp_path, clock) -> None:
    hasty = breaker(tmp_path, clock, threshold=1)
    calm = breaker(tmp_path, clock, threshold=100)
    calm.failed("h")
    assert calm.allow("h")

    hasty.failed("h")
    clock.turn(2 * GLANCE)

    assert not calm.allow("h")
