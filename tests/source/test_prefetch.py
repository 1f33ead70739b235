"""Pages fetched ahead: in order, within bounds, and over when it is over."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest

from engine.errors import Unexpected
from engine.records import Page, Request, Response
from engine.seams import Stopping
from engine.source.prefetch import Prefetcher
from tests.fakes.api import Answer, Api, Asked
from tests.fakes.walks import TYPES, bytes_of, poll_of
from tests.source.paging.test_paginator import URL, Answers, page

#: Seconds anything may take on a busy machine before the test has failed.
PATIENCE = 30.0


class Flag:
    """A stopping flag."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        return self._event.wait(seconds)

    def set(self) -> None:
        self._event.set()


class Purse:
    """A budget that remembers."""

    def __init__(self, limit: int):
        self.limit = limit
        self.used = 0
        self.most = 0
        self._lock = threading.Lock()

    def acquire(self, size: int, stopping: Stopping) -> bool:
        with self._lock:
            if self.used and self.used + size > self.limit:
                return False
            self.used += size
            self.most = max(self.most, self.used)
            return True

    def release(self, size: int) -> None:
        with self._lock:
            self.used -= size
            assert self.used >= 0


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for a condition, under a deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def threads(name: str) -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith(name)]


@pytest.mark.parametrize("kind", ["offset", "page"])
def test_addressable_pages_are_fetched_side_by_side_and_come_in_order(
    kind: str,
) -> None:
    with Api(pages=24, records=3) as api:
        # The four behind the first are answered once all of them are under way.
        four, number = threading.Barrier(4), itertools.count()

        def answer(asked: Asked) -> Answer:
            if 1 <= next(number) <= 4:
                four.wait(PATIENCE)
            return Api.answer(plain, asked)

        with Api(pages=24, records=3) as plain:
            api.route(f"/{kind}/0", answer)
            how = {"ahead": Prefetcher(threads=4, pages=50)}

            pages = list(poll_of(api.url, kind, limit=3, poll=how).pages(None))

        assert api.all_records() == bytes_of(pages)
        assert not four.broken
        assert 4 == api.counts.most_busy


@pytest.mark.parametrize("kind", ["cursor", "next_url", "keyset"])
def test_a_chain_has_one_request_under_way_and_runs_ahead(kind: str) -> None:
    with Api(pages=12, records=3) as api:
        how = {"ahead": Prefetcher(threads=4, pages=5)}
        pages = poll_of(api.url, kind, limit=3, poll=how).pages(None)
        first = next(pages)

        # Five wait, one of them in our hands.
        until(lambda: api.counts.requests == 5)
        time.sleep(0.1)
        assert 5 == api.counts.requests
        rest = list(pages)

        assert api.all_records() == bytes_of([first, *rest])
        assert 1 == api.counts.most_busy


def test_a_full_queue_starts_no_new_request() -> None:
    with Api(pages=60, records=3) as api:
        how = {"ahead": Prefetcher(threads=4, pages=10)}
        pages = poll_of(api.url, "page", limit=3, poll=how).pages(None)
        next(pages)

        until(lambda: api.counts.requests >= 10)
        time.sleep(0.15)
        assert api.counts.requests <= 10 + 4 + 1
        pages.close()


def test_bytes_waiting_are_bounded_and_given_back() -> None:
    with Api(pages=30, records=10, size=100) as api:
        purse = Purse(5000)
        how = {"ahead": Prefetcher(threads=4, pages=50, budget=purse)}
        pages = poll_of(api.url, "page", limit=10, poll=how).pages(None)
        next(pages)

        until(lambda: purse.used > 3000)
        time.sleep(0.1)
        assert api.counts.requests <= 6
        assert 30 * 10 - 10 == len(bytes_of(list(pages)))
        assert 0 == purse.used
        assert purse.most <= 5000


def test_a_page_larger_than_the_budget_passes() -> None:
    with Api(pages=3, records=10, size=1000) as api:
        how = {"ahead": Prefetcher(threads=4, pages=50, budget=Purse(10))}

        pages = list(poll_of(api.url, "page", limit=10, poll=how).pages(None))

        assert api.all_records() == bytes_of(pages)


@pytest.mark.parametrize("kind", ["page", "cursor"])
def test_an_error_comes_after_the_pages_before_it(kind: str) -> None:
    def answer(query: dict[str, str]) -> object:
        number = int(query.get("page", query.get("cursor", "1")))
        if number == 5:
            return 500
        # Earlier pages take longer.
        time.sleep(0.02 if number > 1 else 0)
        return page(number, next=str(number + 1))

    fetch = Answers(answer)
    how = {"ahead": Prefetcher(threads=4, pages=50)}
    got: list[Page] = []

    with pytest.raises(Unexpected):
        got.extend(poll_of(URL, kind, limit=1, fetch=fetch, poll=how).pages(None))

    assert [b"1", b"2", b"3", b"4"] == bytes_of(got)


def test_failures_beyond_the_end_are_nobodys() -> None:
    """Some APIs answer 404 behind the last page; page 3 says that it is short."""

    def answer(query: dict[str, str]) -> object:
        number = int(query["page"])
        if number > 3:
            return 404
        time.sleep(0.02)
        return page(number, number) if number < 3 else page(number)

    how = {"ahead": Prefetcher(threads=8, pages=50)}
    pages = list(
        poll_of(URL, "page", limit=2, fetch=Answers(answer), poll=how).pages(None)
    )

    assert [b"1", b"1", b"2", b"2", b"3"] == bytes_of(pages)
    assert pages[-1].last


def test_a_server_of_uneven_pages_loses_nothing() -> None:
    """Pages turn out smaller than the first one: what was asked ahead is void."""
    sizes = {0: 10, 10: 10, 20: 4, 24: 7, 31: 10, 41: 9}

    def answer(query: dict[str, str]) -> object:
        at = int(query["offset"])
        size = sizes.get(at, 3)
        return page(*range(at, min(at + size, 50)), total=50)

    how = {"ahead": Prefetcher(threads=4, pages=50)}
    poll = poll_of(
        URL, "offset", limit=10, total_field="total", fetch=Answers(answer), poll=how
    )

    assert [str(n).encode() for n in range(50)] == bytes_of(list(poll.pages(None)))


@pytest.mark.parametrize("kind", TYPES)
def test_closing_ends_the_threads(kind: str) -> None:
    with Api(pages=30, records=2, latency=0.01) as api:
        purse = Purse(10**6)
        how = {
            "ahead": Prefetcher(threads=4, pages=8, budget=purse),
            "name": f"end-{kind}",
        }
        pages = poll_of(api.url, kind, limit=2, poll=how).pages(None)
        next(pages)

        pages.close()

        until(lambda: not threads(f"end-{kind}"))
        assert 0 == purse.used


def test_a_page_that_comes_while_a_poll_closes_gives_its_bytes_back_once() -> None:
    closing, asked = threading.Event(), threading.Event()

    class Slow(Purse):
        """What is let go of first, under the lock, lets the last answer come."""

        def release(self, size: int) -> None:
            if asked.is_set() and not closing.is_set():
                closing.set()
                # It comes as far as it can.
                time.sleep(0.05)
            super().release(size)

    def answer(query: dict[str, str]) -> object:
        number = int(query["page"])
        if number == 3:
            until(lambda: 2 in answered)
            asked.set()
            assert closing.wait(PATIENCE)
        answered.append(number)
        return page(number)

    answered: list[int] = []
    purse = Slow(10**6)
    how = {"ahead": Prefetcher(threads=2, pages=8, budget=purse), "name": "late"}
    pages = poll_of(URL, "page", limit=1, fetch=Answers(answer), poll=how).pages(None)
    next(pages)
    assert asked.wait(PATIENCE)

    pages.close()

    until(lambda: not threads("late"))
    assert 3 in answered
    assert 0 == purse.used


def test_stopping_ends_a_poll_between_pages() -> None:
    with Api(pages=1000, records=2, latency=0.005) as api:
        flag = Flag()
        how = {"ahead": Prefetcher(threads=4, pages=8), "name": "stopped"}
        pages = poll_of(api.url, "page", limit=2, poll=how, stopping=flag).pages(None)
        next(pages)
        flag.set()

        # A thousand pages would be many more.
        assert len(list(pages)) <= 12
        until(lambda: not threads("stopped"))


def test_shards_of_a_task_share_its_threads_and_none_starves() -> None:
    busy = 0
    most = 0
    lock = threading.Lock()

    def slow(request: Request) -> Response:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.03)
        with lock:
            busy -= 1
        return full(request)

    full = Answers(lambda query: page(query["page"]))
    ahead = Prefetcher(threads=3, pages=100)
    enough = threading.Event()
    had = [0, 0, 0]

    def drain(number: int) -> None:
        poll = poll_of(URL, "page", limit=1, fetch=slow, poll={"ahead": ahead})
        pages = poll.pages(None)
        while not enough.is_set():
            next(pages)
            had[number] += 1
        pages.close()

    runners = [threading.Thread(target=drain, args=(n,)) for n in range(3)]
    for runner in runners:
        runner.start()
    try:
        # None of them ever ends: who starves would have none.
        until(lambda: min(had) >= 10)
    finally:
        enough.set()
    for runner in runners:
        runner.join(PATIENCE)

    assert not any(runner.is_alive() for runner in runners)
    assert most <= 3
