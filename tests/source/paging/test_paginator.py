"""The rules of paging, each on an API that is a table of answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from msgspec import Raw

from engine.errors import (
    BadPage,
    CursorExpired,
    Forbidden,
    Looping,
    StartOver,
    StateError,
    Unexpected,
)
from engine.records import Offset, Page, Request, Response
from engine.source.paging.envelope import Fields
from engine.source.prefetch import Prefetcher
from tests.fakes.walks import bytes_of, poll_of

URL = "http://api.test"

#: A page: its items, and what else the envelope says.
Told = tuple[Sequence[object], Mapping[str, object]]


def page(*items: object, **envelope: object) -> Told:
    return items, envelope


class Answers:
    """A `Fetch` over a function from a request's query to a page."""

    def __init__(self, answer: Callable[[dict[str, str]], Told | int]):
        self._answer = answer
        self.asked: list[str] = []
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        parts = urlsplit(request.url)
        self.asked.append(f"{parts.path}?{parts.query}" if parts.query else parts.path)
        told = self._answer(dict(parse_qsl(parts.query, keep_blank_values=True)))
        if isinstance(told, int):
            if told >= 400:
                raise Unexpected("refused", status=told, url=request.url)
            return Response(
                request=request,
                url=request.url,
                status=told,
                headers=(),
                body=b"",
                sent_at=0.0,
                received_ms=0,
            )
        items, envelope = told
        headers = [
            (name.removeprefix("header_"), str(value))
            for name, value in envelope.items()
            if name.startswith("header_")
        ]
        inside = {k: v for k, v in envelope.items() if not k.startswith("header_")}
        body = json.dumps({"items": items, **inside}).encode()
        return Response(
            request=request,
            url=request.url,
            status=200,
            headers=headers,
            body=body,
            sent_at=0.0,
            received_ms=0,
        )


def script(*pages: Told | int) -> Answers:
    """Answers in turn, whatever is asked; one more is a failure."""
    rest = list(pages)
    return Answers(lambda query: rest.pop(0))


def walk(
    kind: str, fetch: Answers, offset: Offset | None = None, **keys: Any
) -> list[Page]:
    return list(poll_of(URL, kind, fetch=fetch, **keys).pages(offset))


def items_of(pages: Sequence[Page]) -> list[object]:
    return [json.loads(record) for record in bytes_of(pages)]


# -- the end of a poll --------------------------------------------------------


def test_has_more_false_ends_though_there_is_a_cursor() -> None:
    fetch = script(page(1, next="a", more=True), page(2, next="b", more=False))

    pages = walk("cursor", fetch, has_more_field="more")

    assert [1, 2] == items_of(pages)
    assert pages[-1].last


@pytest.mark.parametrize(
    "more", [True, "true", 1, "1", "Y", "yes", " TRUE ", 25, "maybe", -1, 1.5, [], {}]
)
def test_has_more_without_a_cursor_or_not_a_flag_is_a_bad_page(more: object) -> None:
    with pytest.raises(BadPage):
        walk("cursor", script(page(1, more=more)), has_more_field="more")


@pytest.mark.parametrize("kind", ["offset", "page", "cursor", "keyset"])
@pytest.mark.parametrize(
    ("yes", "no", "inverted"),
    [
        (True, False, False),
        ("true", "false", False),
        (1, 0, False),
        ("1", "0", False),
        ("Y", "N", False),
        ("yes", "no", False),
        (7, 0, False),
        (False, True, True),
        ("N", "Y", True),
    ],
)
def test_has_more_is_read_as_apis_write_it(
    kind: str, yes: object, no: object, inverted: bool
) -> None:
    fetch = script(
        page({"n": 1}, more=yes, next="a"),
        page({"n": 2}, more=yes, next="b"),
        page({"n": 3}, more=no, next="c"),
    )

    pages = walk(kind, fetch, limit=1, has_more_field="more", inverted=inverted)

    assert [{"n": 1}, {"n": 2}, {"n": 3}] == items_of(pages)
    assert pages[-1].last


def test_a_null_has_more_says_nothing() -> None:
    numbered = script(page(1, more=None), page(2, more=None), page(more=None))
    chained = script(page(1, more=None, next="a"), page(2, more=None))

    assert [1, 2] == items_of(walk("page", numbered, limit=1, has_more_field="more"))
    assert [1, 2] == items_of(walk("cursor", chained, has_more_field="more"))


def test_has_more_missing_is_a_bad_page() -> None:
    with pytest.raises(BadPage):
        walk("offset", script(page(1)), has_more_field="more")


def test_has_more_may_stand_in_a_header() -> None:
    fetch = script(page(1, header_x_more="TRUE"), page(2, header_x_more="false"))

    pages = walk("page", fetch, has_more_field="header:x_more", limit=1)

    assert [1, 2] == items_of(pages)


def test_an_empty_status_ends_whatever_the_envelope_should_say() -> None:
    fetch = script(page(1, more=True), 204)

    pages = walk("page", fetch, has_more_field="more", limit=1)

    assert [1, 0] == [each.received for each in pages]
    assert pages[-1].last


def test_has_more_overrules_a_short_page_and_an_empty_one() -> None:
    fetch = script(
        page(1, 2, more=True), page(3, more=True), page(more=True), page(4, more=False)
    )

    pages = walk("page", fetch, has_more_field="more", limit=2)

    assert [1, 2, 3, 4] == items_of(pages)


@pytest.mark.parametrize("kind", ["offset", "page", "cursor"])
def test_a_total_ends_a_poll_without_another_request(kind: str) -> None:
    fetch = script(page(1, 2, total=3, next="a"), page(3, total=3, next="b"))

    pages = walk(kind, fetch, limit=2, total_field="total")

    assert [1, 2, 3] == items_of(pages)
    assert pages[-1].last


@pytest.mark.parametrize("kind", ["offset", "page", "cursor"])
def test_total_pages_end_a_poll(kind: str) -> None:
    fetch = script(page(1, 2, count=2, next="a"), page(3, count=2, next="b"))

    pages = walk(kind, fetch, limit=2, total_pages_field="count")

    assert [1, 2, 3] == items_of(pages)


@pytest.mark.parametrize("kind", ["offset", "page"])
@pytest.mark.parametrize("field", ["total_field", "total_pages_field"])
@pytest.mark.parametrize(
    "told",
    [
        # As it should be, and the last page is full.
        [4, 4, 4, 4],
        # Only at first.
        [4, 0, 0, 0],
        [4, None, None, None],
        # The records of this page.
        [1, 1, 1, 1],
        # A bound, an estimate, one that grows, one that shrinks, none.
        [2, 2, 2, 2],
        [2, 3, 4, 4],
        [4, 3, 2, 1],
        [0, 0, 0, 0],
        [-1, -1, -1, -1],
        ["3", "3", "3", "3"],
    ],
)
def test_a_total_never_ends_a_poll_at_a_full_page(
    kind: str, field: str, told: list[object]
) -> None:
    fetch = script(
        *(page(n, t=told[n]) for n in range(4)), page(t=told[0]), page(t=told[0])
    )
    notes: list[str] = []

    pages = walk(kind, fetch, limit=1, notes=notes, **{field: "t"})

    assert [0, 1, 2, 3] == items_of(pages)
    assert pages[-1].last
    doubted = told[:2] not in ([4, 4], [4, None], [-1, -1], [2, 3])
    assert doubted == ("totals_doubted_total" in notes)
    assert notes.count("totals_doubted_total") <= 1


@pytest.mark.parametrize(
    ("total", "read"),
    [
        (3, 3),
        ("3", 3),
        (3.0, 3),
        ("1,003", 1003),
        ("1.003", 1003),
        ("1 003", 1003),
        ("1'003", 1003),
        ("12\u202f345\u202f678", 12345678),
        ("items 0-24/66", 66),
        ("0-24/66", 66),
        ("bytes 0-0/1", 1),
        ("*/66", 66),
        ("items */66", 66),
        ("0-1/*", None),
        ("*", None),
        ("", None),
        (None, None),
        (-1, None),
        ("-1", None),
        ("66, 66", 66),
    ],
)
def test_totals_are_read_as_apis_write_them(total: object, read: int | None) -> None:
    found = {"t": Raw(str(total).encode()) if isinstance(total, float) else total}

    assert read == Fields({"total": "t"}).count("total", found)


def test_the_base_of_an_offset_is_no_record() -> None:
    fetch = script(page(1, 2, total=3), page(3, total=3))

    pages = walk("offset", fetch, limit=2, total_field="total", shape={"initial": "1"})

    assert [1, 2, 3] == items_of(pages)
    assert ["/offset/0?offset=1&limit=2", "/offset/0?offset=3&limit=2"] == fetch.asked


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("page", {"page_start": 3}),
        ("page", {"shape": {"initial": "3"}}),
        ("offset", {"shape": {"initial": "4"}}),
    ],
)
def test_what_is_left_out_in_front_is_not_missed(kind: str, keys: Any) -> None:
    notes: list[str] = []
    fetch = script(page(5, 6, total=7), page(7, total=7), page(total=7))

    pages = walk(kind, fetch, limit=2, total_field="total", notes=notes, **keys)

    assert [5, 6, 7] == items_of(pages)
    assert [] == notes


def test_fewer_than_promised_end_with_a_count_of_it() -> None:
    notes: list[str] = []
    fetch = script(page(1, 2, total=9), page(3, total=9), page(total=9))

    pages = walk("offset", fetch, limit=2, total_field="total", notes=notes)

    assert [1, 2, 3] == items_of(pages)
    assert pages[-1].last
    assert ["total_mismatch_total"] == notes


def test_a_total_that_shrinks_is_believed() -> None:
    fetch = script(page(1, 2, total=9), page(3, 4, total=4), page(total=4))

    assert [1, 2, 3, 4] == items_of(walk("offset", fetch, limit=2, total_field="total"))


def test_a_total_in_a_header_is_a_number_too() -> None:
    fetch = script(page(1, 2, header_x_total=3), page(3, header_x_total=3))

    pages = walk("page", fetch, limit=2, total_field="header:X_Total")

    assert [1, 2, 3] == items_of(pages)


@pytest.mark.parametrize("total", ["many", True, [1], {"value": 1}, 1.5])
def test_a_total_that_is_no_count_is_a_bad_page(total: object) -> None:
    with pytest.raises(BadPage):
        walk("offset", script(page(1, total=total)), total_field="total")


def test_an_empty_page_in_a_chain_goes_on() -> None:
    fetch = script(page(1, next="a"), page(next="b"), page(2))

    pages = walk("cursor", fetch)

    assert [1, 0, 1] == [each.received for each in pages]
    assert [1, 2] == items_of(pages)


@pytest.mark.parametrize("end", [None, False, ""])
def test_null_false_and_empty_text_end_a_chain(end: object) -> None:
    assert [1] == items_of(walk("cursor", script(page(1, next=end))))


def test_a_cursor_that_is_true_is_a_bad_page() -> None:
    with pytest.raises(BadPage):
        walk("cursor", script(page(1, next=True)))


@pytest.mark.parametrize(
    ("cursor", "sent"),
    [
        ("a b&c=d/e", "a%20b%26c%3Dd%2Fe"),
        (0, "0"),
        (12345678901234567890123, "12345678901234567890123"),
        (1.5, "1.5"),
        (["2024-05-01", 7], "%5B%222024-05-01%22%2C7%5D"),
        ({"id": 1}, "%7B%22id%22%3A1%7D"),
        ("http://elsewhere.test/x", "http%3A%2F%2Felsewhere.test%2Fx"),
    ],
)
def test_cursors_are_sent_as_they_are_written(cursor: object, sent: str) -> None:
    fetch = script(page(1, next=cursor), page(2), page(2))

    pages = walk("cursor", fetch)
    again = walk("cursor", fetch, pages[0].offset)

    assert f"/cursor/0?cursor={sent}" == fetch.asked[1]
    assert [2] == items_of(again)
    assert fetch.asked[1] == fetch.asked[2]


def test_a_cursor_over_64_kib_is_refused() -> None:
    with pytest.raises(Forbidden):
        walk("cursor", script(page(1, next="x" * 65537)))


@pytest.mark.parametrize("kind", ["offset", "page"])
@pytest.mark.parametrize("short_ends", [False, True])
def test_a_short_first_page_asks_one_more(kind: str, short_ends: bool) -> None:
    """The server may cap."""
    fetch = script(page(1, 2), page(3, 4), page(5), page())

    pages = walk(kind, fetch, limit=100, short_ends=short_ends)

    assert [1, 2, 3, 4, 5] == items_of(pages)
    assert 4 - short_ends == len(fetch.asked)


def test_offsets_advance_by_what_came_so_that_a_cap_loses_nothing() -> None:
    fetch = script(page(1, 2), page(3, 4), page(5), page())

    walk("offset", fetch, limit=100)

    assert [0, 2, 4, 5] == [
        int(dict(parse_qsl(urlsplit(each).query))["offset"]) for each in fetch.asked
    ]


@pytest.mark.parametrize("kind", ["offset", "page"])
def test_a_short_first_page_and_then_nothing_ends(kind: str) -> None:
    pages = walk(kind, script(page(1), page()), limit=100)

    assert [1, 0] == [each.received for each in pages]


@pytest.mark.parametrize("kind", ["offset", "page", "keyset"])
def test_an_empty_first_page_ends(kind: str) -> None:
    pages = walk(kind, script(page()))

    assert [True] == [each.last for each in pages]
    assert [0] == [each.received for each in pages]


@pytest.mark.parametrize("kind", ["offset", "page"])
@pytest.mark.parametrize(
    ("keys", "asked"),
    [({}, 5), ({"short_ends": True}, 2), ({"empty_pages": 2}, 6)],
)
def test_a_short_page_in_the_middle_loses_nothing(
    kind: str, keys: Any, asked: int
) -> None:
    fetch = script(page(1, 2), page(3), page(4, 5), page(6), page(), page(), page())

    pages = walk(kind, fetch, limit=2, **keys)

    assert [1, 2, 3, 4, 5, 6][: 6 if asked > 2 else 3] == items_of(pages)
    assert asked == len(fetch.asked)


def test_empty_pages_in_the_middle_lose_nothing() -> None:
    def answers() -> Answers:
        return script(page(1), page(), page(), page(2), page(), page(), page())

    assert [1] == items_of(walk("page", answers(), limit=1))
    assert [1] == items_of(walk("page", answers(), limit=1, empty_pages=2))
    assert [1, 2] == items_of(walk("page", answers(), limit=1, empty_pages=3))


@pytest.mark.parametrize("kind", ["offset", "page"])
@pytest.mark.parametrize("field", ["total_pages_field", "has_more_field"])
def test_no_empty_page_ends_while_the_api_says_that_there_is_more(
    kind: str, field: str
) -> None:
    told = {"total_pages_field": [5] * 6, "has_more_field": [True] * 4 + [False]}[field]
    fetch = script(
        page(1, 2, t=told[0]),
        page(t=told[1]),
        page(t=told[2]),
        page(3, 4, t=told[3]),
        page(5, t=told[4]),
    )

    pages = walk(kind, fetch, limit=2, **{field: "t"})

    assert [1, 2, 3, 4, 5] == items_of(pages)
    if kind == "offset":
        assert [0, 2, 4, 6, 8] == [
            int(dict(parse_qsl(urlsplit(each).query))["offset"]) for each in fetch.asked
        ]


def test_a_later_poll_goes_on_at_the_first_of_the_empty_pages() -> None:
    data = [1, 2, 3]

    def answer(query: dict[str, str]) -> Told:
        at = int(query["offset"])
        return page(*data[at : at + 2])

    keys: dict[str, Any] = {"mode": "SIMPLE_INCREMENTING", "limit": 2, "empty_pages": 3}
    first = walk("offset", Answers(answer), **keys)
    data += [4, 5]
    second = walk("offset", Answers(answer), first[-1].offset, **keys)

    assert [1, 2, 3] == items_of(first)
    assert 3 == first[-1].offset["offset"]
    assert [4, 5] == items_of(second)


# -- pages that repeat ---------------------------------------------------------

#: What an api makes of a page number that it does not honour: page k of 3.
HONOURS: dict[str, Callable[[int], int]] = {
    "ignores": lambda number: 0,
    "clamps": lambda number: min(number, 2),
    "wraps": lambda number: number % 3,
}


def repeating(kind: str, how: str, **envelope: Any) -> Answers:
    def answer(query: dict[str, str]) -> Told:
        number = int(query["page"]) - 1 if kind == "page" else int(query["offset"]) // 2
        at = 2 * HONOURS[how](number)
        return page(at, at + 1, **envelope)

    return Answers(answer)


@pytest.mark.parametrize("kind", ["offset", "page"])
@pytest.mark.parametrize("how", HONOURS)
@pytest.mark.parametrize("ahead", [False, True])
def test_a_page_that_repeats_ends_the_poll_and_is_not_produced(
    kind: str, how: str, ahead: bool
) -> None:
    fetch, notes = repeating(kind, how), list[str]()
    driver = {"ahead": Prefetcher(threads=3, pages=3)} if ahead else {}

    pages = walk(kind, fetch, limit=2, notes=notes, poll=driver)

    assert list(range(2 if how == "ignores" else 6)) == items_of(pages)
    assert [2] == [each.deduplicated for each in pages if each.deduplicated]
    assert pages[-1].last and not pages[-1].truncated
    assert True is pages[-1].offset["done"]
    assert ["polls_repeating_total"] == notes
    # However slow the reader is: three that wait, and as many under way.
    assert len(fetch.asked) <= 4 + 6 * ahead


def test_pages_that_repeat_may_be_allowed() -> None:
    fetch = script(page(0), page(0), page(0), page())

    assert [0, 0, 0] == items_of(walk("page", fetch, limit=1, repeats=True))


def test_an_api_that_answers_its_last_page_beyond_it_is_not_warned_of() -> None:
    notes: list[str] = []

    pages = walk(
        "page", repeating("page", "clamps", t=6), limit=2, notes=notes, total_field="t"
    )

    assert list(range(6)) == items_of(pages)
    assert [] == notes
    assert "" == pages[-1].unread


@pytest.mark.parametrize(
    ("keys", "envelope"),
    [({"total_field": "t"}, {"t": 60}), ({"has_more_field": "t"}, {"t": True})],
)
def test_what_was_promised_and_cannot_be_read_is_said(
    keys: Any, envelope: dict[str, Any]
) -> None:
    pages = walk("page", repeating("page", "ignores", **envelope), limit=2, **keys)

    assert [0, 1] == items_of(pages)
    assert pages[-1].unread


@pytest.mark.parametrize("restarted", [False, True])
def test_a_poll_that_goes_on_knows_the_pages_it_had(restarted: bool) -> None:
    """Cut by max.pages, it would ask page 21, 41, ... for ever."""
    fetch, notes = repeating("page", "ignores"), list[str]()
    poll = poll_of(URL, "page", fetch=fetch, limit=2, max_pages=1, notes=notes)

    first = list(poll.pages(None))
    if restarted:
        poll = poll_of(URL, "page", fetch=fetch, limit=2, max_pages=1, notes=notes)
    second = list(poll.pages(first[-1].offset))

    assert [0, 1] == items_of(first + second)
    assert True is second[-1].offset["done"]
    assert 2 == len(fetch.asked)


def test_a_page_asked_again_after_a_failure_is_no_repeat() -> None:
    fails = [True]

    def answer(query: dict[str, str]) -> Told | int:
        if query["page"] == "3" and fails and fails.pop():
            return 500
        return page(query["page"]) if int(query["page"]) < 5 else page()

    poll = poll_of(URL, "page", fetch=Answers(answer), limit=1)
    walked = poll.pages(None)
    first = next(walked)
    next(walked)
    with pytest.raises(Unexpected):
        next(walked)
    # The second page was never delivered.
    rest = list(poll.pages(first.offset))

    assert ["2", "3", "4"] == items_of(rest)


# -- refusals behind the last page -----------------------------------------------


@pytest.mark.parametrize("kind", ["offset", "page"])
@pytest.mark.parametrize(
    ("pages", "keys", "status", "noted"),
    [
        ([page(1, 2), page(3)], {}, 404, True),
        ([page(1, 2), page(3, 4)], {}, 404, True),
        ([page(1, 2), page(3, 4)], {}, 416, False),
        ([page(1, 2), page(3)], {}, 400, True),
        ([page(1, 2, t=4), page(3, 4, t=4)], {"total_field": "t"}, 404, False),
        ([page(1, 2, t=4), page(3, 4, t=4)], {"total_field": "t"}, 400, True),
        ([page(1, 2, t=2), page(3, 4, t=2)], {"total_pages_field": "t"}, 422, True),
    ],
)
def test_a_refusal_behind_the_last_page_is_the_end(
    kind: str, pages: list[Told], keys: Any, status: int, noted: bool
) -> None:
    notes: list[str] = []
    fetch = script(*pages, status)

    got = walk(kind, fetch, limit=2, notes=notes, **keys)

    assert [1, 2, 3, 4][: sum(len(each[0]) for each in pages)] == items_of(got)
    assert got[-1].last
    assert noted == ("polls_refused_total" in notes)


@pytest.mark.parametrize("kind", ["offset", "page"])
@pytest.mark.parametrize(
    ("pages", "status"),
    [
        ([], 404),
        ([page(1, 2)], 400),
        ([page(1, 2)], 403),
        ([page(1, 2)], 500),
        ([page(1, 2), page(3)], 500),
        ([page(1, 2), page(3)], 401),
    ],
)
def test_any_other_refusal_is_none(kind: str, pages: list[Told], status: int) -> None:
    with pytest.raises(Unexpected):
        walk(kind, script(*pages, status), limit=2)


# -- keyset -------------------------------------------------------------------


def keyed(*values: object) -> list[dict[str, object]]:
    return [{"id": place, "n": value} for place, value in enumerate(values)]


def serve_keyed(
    records: Sequence[Mapping[str, Any]], cap: int, *, inclusive: bool
) -> Answers:
    def answer(query: dict[str, str]) -> Told:
        width = min(int(query.get("limit", cap)), cap)
        after = query.get("cursor")
        found = [
            each
            for each in records
            if after is None
            or each["n"] > json.loads(after)
            or (inclusive and each["n"] == json.loads(after))
        ]
        return page(*found[:width])

    return Answers(answer)


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("stated", [True, False])
def test_keyset_reads_all_of_distinct_values(inclusive: bool, stated: bool) -> None:
    records = keyed(*range(1, 11))
    fetch = serve_keyed(records, 3, inclusive=inclusive)

    pages = walk("keyset", fetch, limit=3, limit_stated=stated)

    assert records == items_of(pages)


@pytest.mark.parametrize("resume", range(4))
def test_keyset_ties_across_a_page_border_come_once(resume: int) -> None:
    records = keyed(1, 2, 2, 3, 3, 3, 4, 5, 5)
    pages = walk("keyset", serve_keyed(records, 4, inclusive=True))

    assert records == items_of(pages)
    rest = walk("keyset", serve_keyed(records, 4, inclusive=True), pages[resume].offset)
    assert items_of(pages[resume + 1 :]) == items_of(rest) or pages[resume].last


@pytest.mark.parametrize("stated", [True, False])
def test_a_full_page_of_one_value_cannot_advance(stated: bool) -> None:
    records = keyed(1, 2, 3, 3, 3, 3, 4)
    fetch = serve_keyed(records, 3, inclusive=True)

    with pytest.raises(BadPage, match="single offset value"):
        walk("keyset", fetch, limit=3, limit_stated=stated)


def test_a_keyset_of_one_record_is_no_full_page() -> None:
    fetch = serve_keyed(keyed(7), 3, inclusive=True)

    assert keyed(7) == items_of(walk("keyset", fetch))


def test_keyset_without_a_value_is_a_bad_page() -> None:
    for record in ({"id": 1}, {"n": None}, {"n": [1]}, {"n": {"a": 1}}, {"n": True}):
        with pytest.raises(BadPage):
            walk("keyset", script(page(record)))


def test_keyset_values_keep_every_digit() -> None:
    body = b'{"items":[{"n":1732370000.1234567890}]}'

    def fetch(request: Request) -> Response:
        asked.append(request.url)
        data = body if len(asked) == 1 else b'{"items":[]}'
        return Response(
            request=request,
            url=request.url,
            status=200,
            headers=(),
            body=data,
            sent_at=0.0,
            received_ms=0,
        )

    asked: list[str] = []
    first, _ = poll_of(URL, "keyset", fetch=fetch).pages(None)
    list(poll_of(URL, "keyset", fetch=fetch).pages(first.offset))

    assert "1732370000.1234567890" == first.offset["offset"]
    assert asked[1] == asked[2] == f"{URL}/keyset/0?cursor=1732370000.1234567890"


# -- the loop guard -----------------------------------------------------------


@pytest.mark.parametrize(
    "pages",
    [
        # The same cursor and the same page for ever.
        [page(1, next="a")] * 3,
        # A, B, A, B.
        [page(1, next="a"), page(2, next="b"), page(3, next="a"), page(2, next="b")],
        # A, B, C, A: only the envelope differs.
        [
            page(1, next="a"),
            page(2, next="b"),
            page(3, next="a", at=1),
            page(2, next="b", at=2),
        ],
    ],
)
def test_the_same_request_with_the_same_records_is_a_loop(pages: list[Told]) -> None:
    with pytest.raises(Looping):
        walk("cursor", script(*pages))


def test_a_last_page_that_names_itself_ends_with_a_warning() -> None:
    notes: list[str] = []
    fetch = script(page(1, next="a"), page(2, next="a", at=1), page(2, next="a", at=2))

    pages = walk("cursor", fetch, notes=notes)

    assert [1, 2] == items_of(pages)
    assert 1 == pages[-1].deduplicated
    assert pages[-1].last and pages[-1].offset["done"]
    assert ["polls_repeating_total"] == notes


@pytest.mark.parametrize("kind", ["next_url", "link_header"])
def test_a_link_to_the_page_itself_ends_with_a_warning(kind: str) -> None:
    def answer(query: dict[str, str]) -> Told:
        at = int(query.get("at", "0"))
        link = f"?at={min(at + 1, 2)}"
        return page(at, next=link, header_link=f'<{link}>; rel="next"')

    assert [0, 1, 2] == items_of(walk(kind, Answers(answer)))


def test_a_feed_whose_last_page_names_itself_is_gone_on_with() -> None:
    data = [1, 2, 3]

    def answer(query: dict[str, str]) -> Told:
        at = int(query.get("cursor", "0"))
        return page(*data[at : at + 2], next=str(at + 2 * (len(data) > at + 2)))

    keys = {"mode": "CURSOR_PAGINATION"}
    first = walk("cursor", Answers(answer), **keys)
    idle = walk("cursor", Answers(answer), first[-1].offset, **keys)
    data += [4, 5]
    second = walk("cursor", Answers(answer), idle[-1].offset, **keys)

    assert [1, 2, 3] == items_of(first)
    assert [] == items_of(idle)
    assert 1 == len(idle)
    assert [4, 5] == items_of(second)


def test_an_api_that_looks_at_no_cursor_is_told_from_one_at_its_end() -> None:
    with pytest.raises(Looping, match="cursor.param"):
        walk("cursor", script(*[page(1, next="a")] * 2))


def test_the_same_request_with_other_records_goes_on() -> None:
    fetch = script(page(1, next="a"), page(2, next="a"), page(3, next="a"), page(4))

    assert [1, 2, 3, 4] == items_of(walk("cursor", fetch))


def test_nothing_new_at_the_tip_of_a_feed_is_the_end() -> None:
    fetch = script(page(1, next="a"), page(2, next="a"), page(next="a"))

    pages = walk("cursor", fetch)

    assert [1, 2] == items_of(pages)
    assert pages[-1].last


def test_records_cut_elsewhere_are_not_the_same() -> None:
    fetch = script(page(1, next="a"), page(1, 23, next="a"), page(12, 3, next="a"), 204)

    assert [1, 1, 23, 12, 3] == items_of(walk("cursor", fetch))


def test_an_offset_in_a_header_only_is_guarded() -> None:
    fetch = script(page(1), page(1))

    pages = walk(
        "offset",
        fetch,
        limit=1,
        shape={"headers": [("Range", "items=${offset}-")]},
    )

    assert [1] == items_of(pages)
    assert 2 == len(fetch.asked)


# -- max.pages ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["offset", "page", "cursor", "keyset"])
def test_max_pages_cuts_a_poll_that_the_next_goes_on_with(kind: str) -> None:
    def answer(query: dict[str, str]) -> Told:
        at = int(query.get("offset", query.get("cursor", "0")))
        if kind == "page":
            at = int(query["page"]) - 1
        if kind == "keyset" and "cursor" in query:
            at += 1
        if at >= 25:
            return page()
        return page({"n": at}, next=str(at + 1), has=at < 24)

    notes: list[str] = []
    counts, got = [], []
    offset: Offset | None = None
    for _ in range(3):
        pages = walk(
            kind,
            Answers(answer),
            offset,
            limit=1,
            max_pages=10,
            has_more_field="has",
            notes=notes,
        )
        counts.append(len(pages))
        got += items_of(pages)
        offset = pages[-1].offset
        assert pages[-1].last

    assert [10, 10, 5] == counts
    assert [{"n": place} for place in range(25)] == got
    assert ["polls_truncated_total"] * 2 == notes
    assert True is offset["done"]


# -- offset modes -------------------------------------------------------------


def test_simple_incrementing_goes_on_where_the_last_poll_ended() -> None:
    data = list(range(5))

    def answer(query: dict[str, str]) -> Told:
        at = int(query["offset"])
        return page(*data[at : at + int(query["limit"])])

    keys = {"mode": "SIMPLE_INCREMENTING", "limit": 2}
    first = walk("offset", Answers(answer), **keys)
    data += [5, 6, 7]
    second = walk("offset", Answers(answer), first[-1].offset, **keys)
    third = walk("offset", Answers(answer), second[-1].offset, **keys)

    assert [0, 1, 2, 3, 4] == items_of(first)
    assert [5, 6, 7] == items_of(second)
    assert [] == items_of(third)
    assert {"poll": 3, "done": True, "offset": 8} == third[-1].offset


def test_chaining_goes_on_from_the_last_value_and_drops_known_ties() -> None:
    records = keyed(1, 2, 2)
    keys = {"mode": "CHAINING"}
    first = walk("keyset", serve_keyed(records, 5, inclusive=True), **keys)
    records += [{"id": 3, "n": 2}, {"id": 4, "n": 5}]
    fetch = serve_keyed(records, 5, inclusive=True)
    second = walk("keyset", fetch, first[-1].offset, **keys)
    third = walk(
        "keyset", serve_keyed(records, 5, inclusive=True), second[-1].offset, **keys
    )

    assert records[:3] == items_of(first)
    assert records[3:] == items_of(second)
    assert 2 == second[0].deduplicated
    assert 4 == second[0].received
    assert [] == items_of(third)


def serve_feed(data: list[int]) -> Callable[[dict[str, str]], Told]:
    """Pages of two; a full page names the next."""

    def answer(query: dict[str, str]) -> Told:
        at = int(query.get("cursor", "0"))
        found = data[at : at + 2]
        return page(*found, next=str(at + 2) if len(data) > at + 2 else None)

    return answer


def test_cursor_pagination_reads_the_last_page_again_and_drops_what_it_had() -> None:
    data = [1, 2, 3]
    keys = {"mode": "CURSOR_PAGINATION"}
    first = walk("cursor", Answers(serve_feed(data)), **keys)
    data += [4, 5]
    fetch = Answers(serve_feed(data))
    second = walk("cursor", fetch, first[-1].offset, **keys)
    third = walk("cursor", Answers(serve_feed(data)), second[-1].offset, **keys)

    assert [1, 2, 3] == items_of(first)
    assert [4, 5] == items_of(second)
    assert 1 == second[0].deduplicated
    assert ["/cursor/0?cursor=2", "/cursor/0?cursor=4"] == fetch.asked
    assert [] == items_of(third)


def test_a_last_page_that_was_rewritten_is_produced_whole() -> None:
    data = [1, 2, 3]
    keys = {"mode": "CURSOR_PAGINATION"}
    first = walk("cursor", Answers(serve_feed(data)), **keys)
    data[2] = 33
    notes: list[str] = []
    second = walk(
        "cursor", Answers(serve_feed(data)), first[-1].offset, notes=notes, **keys
    )

    assert [33] == items_of(second)
    assert 0 == second[0].deduplicated
    assert ["page_rewritten_total"] == notes


def test_cursor_pagination_without_any_cursor_reads_the_first_page_again() -> None:
    data = [1]
    keys = {"mode": "CURSOR_PAGINATION"}
    first = walk("cursor", Answers(serve_feed(data)), **keys)
    data += [2, 3]
    second = walk("cursor", Answers(serve_feed(data)), first[-1].offset, **keys)

    assert [2, 3] == items_of(second)


def test_cursor_pagination_starts_at_the_initial_offset() -> None:
    fetch = Answers(serve_feed([1, 2, 3, 4]))

    walk("cursor", fetch, mode="CURSOR_PAGINATION", shape={"initial": "2"})

    assert ["/cursor/0?cursor=2"] == fetch.asked


@pytest.mark.parametrize("status", [400, 404, 410])
def test_a_stored_cursor_that_is_refused_has_expired(status: int) -> None:
    offset = {"poll": 1, "done": False, "cursor": "x", "count": 0, "hash": ""}

    with pytest.raises(CursorExpired) as caught:
        walk("cursor", script(status), offset)

    assert status == caught.value.status


@pytest.mark.parametrize("status", [400, 404, 410, 422])
def test_a_poll_whose_stored_cursor_is_refused_begins_anew(status: int) -> None:
    notes: list[str] = []
    offset = {"poll": 4, "done": False, "cursor": "x"}
    fetch = script(status, page(1, next="a"), page(2))

    pages = walk("cursor", fetch, offset, notes=notes, poll={"restart": True})

    assert ["/cursor/0?cursor=x", "/cursor/0", "/cursor/0?cursor=a"] == fetch.asked
    assert [1, 2] == items_of(pages)
    assert 4 == pages[-1].offset["poll"]
    assert ["polls_restarted_total"] == notes


def test_an_answer_that_asks_for_a_new_start_is_obeyed_once() -> None:
    def fetch_of(refusals: int) -> Answers:
        asked: list[dict[str, str]] = []

        def answer(query: dict[str, str]) -> Told:
            asked.append(query)
            if "cursor" in query and len(asked) <= 2 * refusals:
                raise StartOver("the cursor is too old")
            return page(len(asked), next=None if "cursor" in query else "a")

        return Answers(answer)

    assert [1, 3, 4] == items_of(walk("cursor", fetch_of(1)))
    with pytest.raises(StartOver):
        walk("cursor", fetch_of(2))


@pytest.mark.parametrize("mode", ["FULL", "CHAINING"])
def test_several_sort_values_are_one_place(mode: str) -> None:
    """As search_after of Elasticsearch: an array of the last hit, whole."""
    rows = [{"sort": [n // 2, f"k{n}"]} for n in range(7)]
    asked: list[object] = []

    def fetch(request: Request) -> Response:
        after = json.loads(request.body or b"{}").get("search_after")
        asked.append(after)
        found = [row for row in rows if after is None or row["sort"] > after]
        return Response(
            request=request,
            url=request.url,
            status=200,
            headers=(),
            body=json.dumps({"items": found[:3]}).encode(),
            sent_at=0.0,
            received_ms=0,
        )

    poll = poll_of(
        "http://api.test",
        "keyset",
        fetch=fetch,
        shape={
            "method": "POST",
            "body": '{"search_after": ${last.sort}}',
            "omit": True,
        },
        mode=mode,
        offset_field="sort[0]",
        limit=3,
        limit_stated=True,
    )
    pages = list(poll.pages(None))
    assert rows == [json.loads(r) for r in bytes_of(pages)]
    assert [None, [1, "k2"], [2, "k5"], [3, "k6"]] == asked
    for place, page in enumerate(pages[:-1], 1):
        stored = json.loads(json.dumps(page.offset))
        left = [json.loads(r) for r in bytes_of(list(poll.pages(stored)))]
        assert rows[3 * place :] == left
    broken = {**pages[0].offset, "last.[json].sort": "[1,"}
    with pytest.raises(StateError, match="no JSON"):
        list(poll.pages(broken))


def test_a_refusal_in_mid_chain_is_not_an_expired_cursor() -> None:
    with pytest.raises(Unexpected) as caught:
        walk("cursor", script(page(1, next="a"), 404))

    assert not isinstance(caught.value, CursorExpired)


@pytest.mark.parametrize(
    ("status", "anew"), [(404, True), (410, True), (400, False), (422, False)]
)
def test_a_cursor_that_expires_within_its_poll_begins_that_anew_once(
    status: int, anew: bool
) -> None:
    notes: list[str] = []
    once = [page(1, next="a"), status, page(1, next="b"), page(2)]
    if anew:
        fetch = script(*once)
        pages = walk("cursor", fetch, notes=notes, poll={"restart": True})
        assert [1, 1, 2] == items_of(pages)
        assert ["/cursor/0", "/cursor/0?cursor=a"] * 2 != fetch.asked
        assert "/cursor/0?cursor=b" == fetch.asked[-1]
        assert ["polls_restarted_total"] == notes
    # What is refused once more is refused for good, and in the API's words.
    with pytest.raises(Unexpected) as caught:
        walk(
            "cursor",
            script(page(1, next="a"), status, page(1, next="b"), status),
            poll={"restart": True},
        )
    assert not isinstance(caught.value, CursorExpired)


# -- links --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "asked"),
    [
        ("?at=2", "/next_url/0?at=2"),
        ("1", "/next_url/1"),
        ("/x/y?z=%2F", "/x/y?z=%2F"),
        ("http://API.test:80/x", "/x"),
        ("//api.test/x", "/x"),
    ],
)
def test_references_are_resolved_against_the_request(link: str, asked: str) -> None:
    fetch = script(page(1, next=link), page(2), page(2))

    first = walk("next_url", fetch)
    walk("next_url", fetch, first[0].offset)

    assert [asked, asked] == fetch.asked[1:]
    assert asked == first[0].offset["next"]


@pytest.mark.parametrize(
    "link",
    [
        "http://evil.test/x",
        "https://api.test/x",
        "http://api.test:81/x",
        "http://api.test@evil.test/",
        "//evil.test/x",
        "file:///etc/passwd",
        "http://api.test/" + "x" * 8192,
        "/a\r\nHost: evil",
    ],
)
def test_links_that_lead_astray_are_refused(link: str) -> None:
    with pytest.raises(Forbidden):
        walk("next_url", script(page(1, next=link)))


def test_a_next_url_that_is_no_text_is_a_bad_page() -> None:
    with pytest.raises(BadPage):
        walk("next_url", script(page(1, next=7)))


def test_credentials_are_cut_out_of_links() -> None:
    fetch = script(page(1, next="/x?api_key=s3cret&at=2&sig=a%2Fb"), page(2))

    pages = walk("next_url", fetch, cut=frozenset({"api_key"}))

    assert "/x?at=2&sig=a%2Fb" == pages[0].offset["next"]
    assert "/x?at=2&sig=a%2Fb" == fetch.asked[1]


def test_links_are_got_though_the_first_request_was_posted() -> None:
    fetch = script(page(1, next="/x"), page(2))
    poll = poll_of(URL, "next_url", fetch=fetch, shape={"headers": [("X-A", "1")]})

    list(poll.pages(None))

    assert [("GET", (("X-A", "1"),), True)] == [
        (each.method, each.headers, each.chained) for each in fetch.requests[1:]
    ]


def test_odata_goes_on_from_its_delta_link() -> None:
    link = "@odata.nextLink"
    delta = "@odata.deltaLink"

    def poll(fetch: Answers, offset: Offset | None) -> list[Page]:
        made = poll_of(URL, "odata", fetch=fetch, mode="CURSOR_PAGINATION")
        return list(made.pages(offset))

    def answers(*pages: Mapping[str, object]) -> Answers:
        rest = list(pages)
        fetch = Answers(lambda query: page())
        call = fetch.__call__

        class Serve(Answers):
            def __call__(self, request: Request) -> Response:
                call(request)
                body = json.dumps(rest.pop(0)).encode()
                return Response(
                    request=request,
                    url=request.url,
                    status=200,
                    headers=(),
                    body=body,
                    sent_at=0.0,
                    received_ms=0,
                )

        serve = Serve(lambda query: page())
        serve.asked = fetch.asked
        return serve

    first = poll(
        answers(
            {"value": [1], link: f"{URL}/odata/0?$skiptoken=a"},
            {"value": [2], delta: f"{URL}/odata/0?$deltatoken=d"},
        ),
        None,
    )
    fetch = answers({"value": [3], delta: f"{URL}/odata/0?$deltatoken=e"})
    second = poll(fetch, first[-1].offset)

    assert [1, 2] == items_of(first)
    assert [3] == items_of(second)
    assert "/odata/0?$deltatoken=d" == first[-1].offset["delta"]
    assert ["/odata/0?$deltatoken=d"] == fetch.asked


# -- stored offsets -----------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "offset"),
    [
        ("offset", {}),
        ("offset", {"poll": 1, "done": False}),
        ("offset", {"poll": 1, "done": False, "offset": "7"}),
        ("offset", {"poll": 1, "done": False, "offset": -1}),
        ("offset", {"poll": 1, "done": False, "offset": True}),
        ("offset", {"poll": 1, "done": False, "offset": 1.5}),
        ("offset", {"poll": "1", "done": False, "offset": 1}),
        ("offset", {"poll": 0, "done": False, "offset": 1}),
        ("offset", {"poll": 1, "done": "no", "offset": 1}),
        ("offset", {"poll": 1, "done": False, "page": 1}),
        ("offset", {"poll": 1, "done": False, "offset": 1, "cursor": "x"}),
        ("page", {"poll": 1, "done": False, "page": 0}),
        ("cursor", {"poll": 1, "done": False}),
        ("cursor", {"poll": 1, "done": False, "cursor": ""}),
        ("cursor", {"poll": 1, "done": False, "cursor": True}),
        ("cursor", {"poll": 1, "done": False, "cursor": "{", "json": True}),
        ("cursor", {"poll": 1, "done": False, "cursor": "a", "count": -1}),
        ("cursor", {"poll": 1, "done": False, "cursor": "a", "hash": 1}),
        ("next_url", {"poll": 1, "done": False, "next": 7}),
        ("next_url", {"poll": 1, "done": False, "cursor": "a"}),
        ("keyset", {"poll": 1, "done": False}),
        ("keyset", {"poll": 1, "done": False, "offset": 1, "ties": "&"}),
        ("keyset", {"poll": 1, "done": False, "offset": 1, "ties": "YWJj"}),
        ("none", {"poll": 1, "done": False, "window": 3}),
    ],
)
def test_an_offset_that_cannot_be_read_is_never_a_new_start(
    kind: str, offset: Offset
) -> None:
    with pytest.raises(StateError):
        walk(kind, script(page(1)), offset)


def test_what_the_writer_of_the_state_adds_is_passed_over() -> None:
    offset = {"v": 1, "seq": 9, "at": "2024", "poll": 1, "done": False, "offset": 4}

    assert [1] == items_of(walk("offset", script(page(1), page()), offset))
