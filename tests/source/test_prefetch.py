"""Pages fetched ahead: in order, within bounds, and over when it is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from engine.errors import Unexpected
from engine.records import Page, Request, Response
from engine.seams import Stopping
from engine.source.prefetch import Prefetcher
from tests.fakes.api import Api
from tests.fakes.walks import TYPES, bytes_of, poll_of
from tests.source.paging.test_paginator import URL, Answers, page


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


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
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
    with Api(pages=24, records=3, latency=0.02) as api:
        began = time.monotonic()
        how = {"ahead": Prefetcher(threads=4, pages=50)}

        pages = list(poll_of(api.url, kind, limit=3, poll=how).pages(None))

        assert api.all_records() == bytes_of(pages)
        assert 4 == api.counts.most_busy
        # 25 pages one after the other take half a second.
        assert time.monotonic() - began < 0.4


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


def test_stopping_ends_a_poll_between_pages() -> None:
    with Api(pages=1000, records=2, latency=0.005) as api:
        flag = Flag()
        how = {"ahead": Prefetcher(threads=4, pages=8), "name": "stopped"}
        pages = poll_of(api.url, "page", limit=2, poll=how, stopping=flag).pages(None)
        next(pages)
        began = time.monotonic()
        flag.set()

        rest = list(pages)

        assert time.monotonic() - began < 2
        assert len(rest) <= 12
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

    full = Answers(
        lambda query: page(query["page"]) if int(query["page"]) < 40 else page()
    )
    ahead = Prefetcher(threads=3, pages=100)
    done: list[float] = []

    def drain() -> None:
        poll = poll_of(URL, "page", limit=1, fetch=slow, poll={"ahead": ahead})
        pages = poll.pages(None)
        for _ in range(10):
            next(pages)
        pages.close()
        done.append(time.monotonic())

    began = time.monotonic()
    runners = [threading.Thread(target=drain) for _ in range(3)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join(10)

    assert 3 == len(done)
    assert most <= 3
    # Each had its share: nobody came in last by far.
    assert max(done) - began < 2.0
