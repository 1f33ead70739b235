"""What every pagination type owes: all of it, once, in order, from anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.source.prefetch import Prefetcher
from tests.fakes.api import Api
from tests.fakes.walks import TYPES, bytes_of, poll_of


@pytest.fixture(params=["sequential", "ahead"])
def how(request: pytest.FixtureRequest) -> dict[str, Any]:
    """How a poll fetches: in our thread, or ahead in threads of its own."""
    if request.param == "sequential":
        return {}
    return {"ahead": Prefetcher(threads=4, pages=10)}


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with Api(pages=6, records=7, size=80) as api:
        yield api


@pytest.mark.parametrize("kind", TYPES)
def test_all_records_come_once_and_in_order(
    api: Api, kind: str, how: dict[str, Any]
) -> None:
    pages = list(poll_of(api.url, kind, limit=7, poll=how).pages(None))

    assert api.all_records() == bytes_of(pages)
    assert [page.last for page in pages] == [False] * (len(pages) - 1) + [True]
    assert not any(page.truncated for page in pages)
    assert [True] == [page.offset["done"] for page in pages if page.last]


@pytest.mark.parametrize("kind", TYPES)
def test_every_offset_resumes_with_exactly_the_rest(
    api: Api, kind: str, how: dict[str, Any]
) -> None:
    pages = list(poll_of(api.url, kind, limit=7, poll=how).pages(None))

    for place, page in enumerate(pages[:-1]):
        rest = list(poll_of(api.url, kind, limit=7, poll=how).pages(page.offset))

        assert bytes_of(pages[place + 1 :]) == bytes_of(rest)
        assert rest[-1].last


@pytest.mark.parametrize("kind", TYPES)
def test_a_finished_full_poll_starts_anew(
    api: Api, kind: str, how: dict[str, Any]
) -> None:
    *_, last = poll_of(api.url, kind, limit=7, poll=how).pages(None)

    again = list(poll_of(api.url, kind, limit=7, poll=how).pages(last.offset))

    assert api.all_records() == bytes_of(again)
    assert 2 == again[0].offset["poll"]
