"""From whatever offset a poll is resumed, it gives exactly the rest."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.records import Request, Response
from engine.source.prefetch import Prefetcher
from tests.examples import examples
from tests.fakes.api import Api, Asked
from tests.fakes.walks import TYPES, bytes_of, poll_of


class Inside:
    """A `Fetch` that asks the oracle without a socket between."""

    def __init__(self, api: Api):
        self._api = api

    def __call__(self, request: Request) -> Response:
        parts = urlsplit(request.url)
        asked = Asked(0.0, "GET", f"{parts.path}?{parts.query}", 0, {})
        status, headers, body = self._api.answer(asked)
        lower = [(name.lower(), value) for name, value in headers]
        return Response(
            request=request,
            url=request.url,
            status=status,
            headers=lower,
            body=body,
            sent_at=0.0,
            received_ms=0,
        )


@settings(max_examples=examples(80), deadline=None)
@given(
    kind=st.sampled_from(TYPES),
    count=st.integers(0, 40),
    limit=st.integers(1, 12),
    stated=st.booleans(),
    cap=st.sampled_from([None, 1, 3, 5]),
    told=st.sampled_from(["", "total", "pages", "has_more"]),
    inclusive=st.booleans(),
    max_pages=st.sampled_from([1, 2, 3, 1000]),
    threads=st.sampled_from([0, 1, 3]),
    mode=st.sampled_from(["FULL", "other"]),
)
def test_every_saved_offset_gives_exactly_the_rest(
    kind: str,
    count: int,
    limit: int,
    stated: bool,
    cap: int | None,
    told: str,
    inclusive: bool,
    max_pages: int,
    threads: int,
    mode: str,
) -> None:
    width = min(limit, cap or limit)
    if inclusive and width == 1:
        # A page of one record cannot advance over a value it includes.
        inclusive = False
    if kind in ("keyset", "cursor") and not stated:
        limit = 100
    modes = {"offset": "SIMPLE_INCREMENTING", "keyset": "CHAINING"}
    modes |= dict.fromkeys(("cursor", "next_url", "odata"), "CURSOR_PAGINATION")
    keys: dict[str, Any] = {"limit": limit, "limit_stated": stated}
    keys["mode"] = "FULL" if mode == "FULL" else modes.get(kind, "FULL")
    if told == "total":
        keys["total_field"] = "total"
    if told == "pages" and kind in ("offset", "page") and cap is None:
        keys["total_pages_field"] = "pages"
    if told == "has_more" and kind not in ("none", "keyset"):
        keys["has_more_field"] = "has_more"

    with Api(
        pages=count,
        records=1,
        cap=cap,
        totals=True,
        has_more=True,
        inclusive=inclusive,
    ) as api:
        api.per_page = limit

        def polled(offset: Any, most: int = 1000) -> list[Any]:
            how = {"ahead": Prefetcher(threads=threads, pages=4)} if threads else {}
            poll = poll_of(
                api.url,
                kind,
                fetch=Inside(api),
                poll=how,
                max_pages=most,
                **keys,
            )
            return list(poll.pages(offset))

        whole = polled(None)
        assert api.all_records() == bytes_of(whole)
        assert whole[-1].offset["done"] is True
        for place, page in enumerate(whole[:-1]):
            rest = polled(page.offset)
            assert bytes_of(whole[place + 1 :]) == bytes_of(rest)
            assert rest[-1].offset["done"] is True

        cut: list[Any] = []
        offset = None
        for _ in range(200):
            cut += polled(offset, max_pages)
            offset = cut[-1].offset
            if offset["done"]:
                break
        assert api.all_records() == bytes_of(cut)

        if keys["mode"] != "FULL":
            api.grow(5)
            news = polled(whole[-1].offset)
            assert api.all_records()[count:] == bytes_of(news)
