"""A poll that the death of its task cuts goes on at once; one that ended waits."""

from __future__ import annotations

import os
import signal
import threading

from tests.e2e.conftest import Make
from tests.e2e.rig import TYPES, Running, Setup, until
from tests.fakes.api import Answer, Api, Asked

#: So long that no tick comes within a test.
RARELY = {"http.source.poll.interval.ms": 3_600_000, "task.restart.backoff.ms": 10}


class Gate:
    """Answers while it is open; what is asked meanwhile waits."""

    def __init__(self, api: Api, path: str) -> None:
        self.open = threading.Event()
        self.waiting = 0
        self._api = api
        api.route(path, self._answer)
        self._kind = path.split("/")[1]

    def _answer(self, asked: Asked) -> Answer:
        if not self.open.is_set():
            self.waiting += 1
            self.open.wait(30)
        serve = getattr(self._api, f"_serve_{self._kind}")
        answer: Answer = serve(0, len(self._api.all_records()), asked.query)
        return answer


def killed(running: Running) -> None:
    """The task is gone, and another one in its place."""
    before = running.tasks()[0]
    os.kill(before, signal.SIGKILL)
    until(lambda: running.tasks()[0] != before, "it started again")


def polled(setup: Setup, api: Api) -> None:
    until(lambda: setup.arrived() >= len(api.all_records()), "all has arrived")


def test_a_poll_that_is_cut_before_its_first_page_is_asked_for_again_at_once(
    make: Make,
) -> None:
    """Nothing is stored of it: neither of the first poll ever, nor of a later one."""
    with Api(pages=3, records=50) as api:
        gate = Gate(api, "/keyset/0")
        keys = {"pagination.type": "keyset", "http.offset.mode": "CHAINING"}
        setup = make(f"{api.url}/keyset/0", {**keys, **TYPES["keyset"], **RARELY})
        with setup.running() as running:
            until(lambda: gate.waiting == 1, "the first poll is under way")
            killed(running)
            until(lambda: gate.waiting == 2, "and asked for again")
            gate.open.set()
            polled(setup, api)

            api.grow(100)
            done = running.end()

    assert 0 == done.code, done.err
    assert api.all_records()[:150] == setup.values()


def test_a_task_that_dies_between_two_polls_keeps_their_grid(make: Make) -> None:
    """There is nothing to go on with: the next poll is on its tick, not before."""
    with Api(pages=3, records=50) as api:
        keys = {"pagination.type": "keyset", "http.offset.mode": "CHAINING"}
        rare = {**RARELY, "http.source.poll.interval.ms": 3_000}
        setup = make(f"{api.url}/keyset/0", {**keys, **TYPES["keyset"], **rare})
        with setup.running() as running:
            polled(setup, api)
            until(lambda: len(api.log) == 4, "the poll has seen its end")
            # Its position is stored: what comes now is asked for from there.
            killed(running)
            until(lambda: len(api.log) > 4, "the next poll")
            assert 0 == running.end().code

        first, *_, following = [asked.at for asked in api.log[:5]]
        assert 2.5 < following - first
