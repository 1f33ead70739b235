"""What APIs really do at their ends, each a row: records, requests, exit, words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Broker
from tests.e2e.paging import Answer, Asked, Row, World, ok
from tests.e2e.rig import Setup

pytestmark = pytest.mark.slow

NINE = list(range(9))
TEN = list(range(10))
PAGE = {"pagination.type": "page", "pagination.limit.value": 3}
OFFSET = {"pagination.type": "offset", "pagination.limit.value": 3}
CURSOR = {"pagination.type": "cursor", "pagination.cursor.field": "next"}
NEXT = {"pagination.type": "next_url", "pagination.cursor.field": "next"}
LINK = {"pagination.type": "link_header"}


def numbered(
    data: Sequence[object],
    size: int = 3,
    *,
    start: int = 1,
    param: str = "page",
    told: Callable[[int, Sequence[object]], dict[str, object]] | None = None,
    place: Callable[[int], int] = lambda number: number,
    beyond: Answer | None = None,
) -> Callable[[Asked], Answer]:
    """Pages by number; `told` makes the envelope, `place` the page that is shown."""

    def api(asked: Asked) -> Answer:
        number = place(asked.number(param, start) - start)
        found = data[number * size : (number + 1) * size]
        if not found and beyond is not None:
            return beyond
        return ok(found, **(told(number, found) if told else {}))

    return api


def placed(
    data: Sequence[object],
    *,
    base: int = 0,
    cap: int = 1000,
    names: tuple[str, str] = ("offset", "limit"),
    told: Callable[[int, Sequence[object]], dict[str, object]] | None = None,
) -> Callable[[Asked], Answer]:
    """Pages by the place of their first record."""

    def api(asked: Asked) -> Answer:
        at = asked.number(names[0], base) - base
        found = data[at : at + min(asked.number(names[1], cap), cap)]
        return ok(found, **(told(at, found) if told else {}))

    return api


def holes(asked: Asked) -> Answer:
    """Six pages, of which some are short and some are empty."""
    pages = [[0, 1, 2], [3], [], [4, 5, 6], [], [7, 8]]
    number = asked.number("page", 1) - 1
    return ok(pages[number] if number < 6 else [], pages=6, more=number < 5)


def chained(
    pages: int = 3,
    *,
    end: object = None,
    link: Callable[[Asked, int], object] = lambda asked, at: str(at),
    header: Callable[[Asked, int], str] | None = None,
    **more: Any,
) -> Callable[[Asked], Answer]:
    """Pages that name the next one, the last with `end` in its place."""

    def api(asked: Asked) -> Answer:
        at = asked.number("cursor", 0)
        last = at + 1 >= pages
        envelope = {k: v(at, last) if callable(v) else v for k, v in more.items()}
        if header is not None:
            if not last:
                envelope["h_Link"] = header(asked, at + 1)
        else:
            envelope["next"] = end if last else link(asked, at + 1)
        return ok([at], **envelope)

    return api


def scim(asked: Asked) -> Answer:
    at = asked.number("startIndex", 1) - 1
    found = TEN[at : at + asked.number("count", 100)]
    return ok(found, totalResults=10, itemsPerPage=len(found), startIndex=at + 1)


def odd_link(text: str) -> Callable[[Asked], Answer]:
    """Three pages whose Link headers do not keep to the grammar."""
    return chained(
        header=lambda asked, at: text.replace("URL", f"{asked.base}?cursor={at}")
    )


def redirected(asked: Asked) -> Answer:
    """The API moved: what it names is relative to where it answered."""
    if asked.path == "":
        return 302, {"Location": f"{asked.base}/v2/list"}, b""
    at = asked.number("cursor", 0)
    names = ["list", "second", "third"]
    assert asked.path == f"v2/{names[at]}", asked.path
    return ok([at], next=None if at == 2 else f"{names[at + 1]}?cursor={at + 1}")


def posted(asked: Asked) -> Answer:
    at = asked.number("cursor", 0)
    if asked.method != "POST" or json.loads(asked.body) != {"q": "all"}:
        return 405, {}, {"error": "post the query"}
    return ok([at], next=None if at == 2 else f"?cursor={at + 1}")


def once_only(asked: Asked) -> Answer:
    """An API that a parameter sent twice confuses."""
    names = [name for name, _ in asked.pairs]
    if len(names) != len(set(names)):
        return 400, {}, {"error": f"twice: {asked.pairs}"}
    size = asked.number("limit", 100)
    at = (asked.number("page", 1) - 1) * size
    return ok(TEN[at : at + size])


def keyset(param: str, round_to: int = 1, size: int = 4) -> Callable[[Asked], Answer]:
    """Records with an own number and a time; asked for by a rounded time."""
    data = [{"id": n, "n": 100 + n // 3} for n in range(20)]

    def api(asked: Asked) -> Answer:
        since = asked.number(param, 0) // round_to * round_to
        found = [each for each in data if each["n"] >= since]
        skip = asked.number("skip", 0) + (asked.number("p", 1) - 1) * size
        return ok(found[skip : skip + size])

    return api


DATA = [{"id": n, "n": 100 + n // 3} for n in range(20)]


def total(value: object) -> dict[str, object]:
    return {"pagination.total.field": "total", "value": value}


GOOD = [
    # -- counted: the base, totals, empty and short pages --------------------------
    Row("page-1", numbered(TEN), PAGE, TEN, 5),
    Row("page-0", numbered(TEN, start=0), {**PAGE, "pagination.page.start": 0}, TEN, 5),
    Row("page-short", numbered(TEN), {**PAGE, "pagination.end": "SHORT_PAGE"}, TEN, 4),
    Row("page-exact", numbered(NINE), PAGE, NINE, 4),
    Row(
        "scim",
        scim,
        {
            "pagination.type": "offset",
            "pagination.limit.value": 3,
            "pagination.limit.param": "count",
            "pagination.offset.param": "startIndex",
            "http.initial.offset": 1,
            "pagination.total.field": "totalResults",
        },
        TEN,
        4,
    ),
    Row("cap", placed(TEN, cap=2), {**OFFSET, "pagination.limit.value": 100}, TEN, 6),
    *(
        Row(
            f"{kind}-total-{name}",
            api(NINE, told=lambda at, found, t=told: {"total": t(at, found)}),
            {**keys, "pagination.total.field": "total"},
            NINE,
            4,
            words=words,
        )
        for kind, api, keys in (("page", numbered, PAGE), ("offset", placed, OFFSET))
        for name, told, words in (
            ("right", lambda at, found: 9, None),
            ("here", lambda at, found: len(found), "not believed"),
            ("first", lambda at, found: 0 if at else 9, "not believed"),
            ("zero", lambda at, found: 0, "not believed"),
            ("minus", lambda at, found: -1, None),
            ("null", lambda at, found: None, None),
            ("capped", lambda at, found: 6, None),
            ("text", lambda at, found: "0,009", None),
        )
    ),
    Row(
        "content-range",
        placed(
            TEN,
            told=lambda at, f: {"h_Content_Range": f"items {at}-{at + len(f) - 1}/10"},
        ),
        {**OFFSET, "pagination.total.field": "header:Content-Range"},
        TEN,
        4,
    ),
    Row(
        "pages-known",
        holes,
        {**PAGE, "pagination.total.pages.field": "pages"},
        NINE,
        6,
    ),
    Row("pages-more", holes, {**PAGE, "pagination.has.more.field": "more"}, NINE, 6),
    Row("pages-empty", holes, {**PAGE, "pagination.empty.pages.max": 2}, NINE, 8),
    Row(
        "spring",
        numbered(TEN, start=0, told=lambda at, found: {"last": at == 3}),
        {
            **PAGE,
            "pagination.page.start": 0,
            "pagination.has.more.field": "last",
            "pagination.has.more.inverted": "true",
        },
        TEN,
        4,
    ),
    Row(
        "more-text",
        numbered(TEN, told=lambda at, found: {"more": "N" if at == 3 else "Y"}),
        {**PAGE, "pagination.has.more.field": "more"},
        TEN,
        4,
    ),
    Row(
        "gone-beyond",
        numbered(TEN, beyond=(404, {}, {"detail": "Invalid page."})),
        PAGE,
        TEN,
        5,
        words="http.response.status.empty=204,205,404",
    ),
    Row(
        "gone-beyond-counted",
        numbered(NINE, told=lambda at, f: {"total": 9}, beyond=(404, {}, {})),
        {**PAGE, "pagination.total.field": "total"},
        NINE,
        4,
    ),
    # -- counted: numbers that are not honoured --------------------------------------
    Row(
        "ignores",
        numbered(TEN, place=lambda n: 0),
        PAGE,
        [0, 1, 2],
        2,
        words="repeats one",
    ),
    Row(
        "clamps",
        numbered(NINE, place=lambda n: min(n, 2)),
        PAGE,
        NINE,
        4,
        words="repeats one",
    ),
    Row(
        "wraps",
        numbered(NINE, place=lambda n: n % 3),
        PAGE,
        NINE,
        4,
        words="repeats one",
    ),
    Row(
        "allowed",
        numbered([1] * 4, size=1),
        {**PAGE, "pagination.limit.value": 1, "pagination.repeats": "ALLOW"},
        [1] * 4,
        5,
    ),
    # -- one parameter, once -----------------------------------------------------------
    Row("literal-page", once_only, PAGE, TEN, 5, start="?page=1&limit=3"),
    Row(
        "literal-limit",
        once_only,
        {"pagination.type": "page", "http.source.query.params": "limit=5"},
        TEN,
        3,
        start="?page=1",
    ),
    Row(
        "literal-from",
        once_only,
        {"pagination.type": "page"},
        TEN[5:],
        2,
        start="?page=2&limit=5",
    ),
    Row("literal-cursor", chained(), CURSOR, [1, 2], 2, start="?cursor=1"),
    # -- chains ------------------------------------------------------------------------
    *(
        Row(f"end-{name}", chained(end=end), CURSOR, [0, 1, 2], 3)
        for name, end in (("null", None), ("empty", ""), ("false", False))
    ),
    *(
        Row(
            f"stop-{name}",
            chained(end=end, done=lambda at, last: last),
            {**CURSOR, "pagination.stop.condition": rule},
            [0, 1, 2],
            3,
        )
        for name, end, rule in (
            (
                "zero",
                0,
                '{"field":"${response.next}","operator":"EQUALS","value":0}',
            ),
            (
                "minus",
                "-1",
                '{"field":"response.next","operator":"EQUALS","value":"-1"}',
            ),
            (
                "word",
                "end",
                '{"field":"${response.next}","operator":"IN","values":["end"]}',
            ),
            (
                "flag",
                "x",
                '{"field":"${response.done}","operator":"EQUALS","value":true}',
            ),
        )
    ),
    Row(
        "stop-count",
        numbered(TEN),
        {
            **PAGE,
            "pagination.stop.condition": '{"field":"${count}","operator":"LESS_THAN","value":3}',
        },
        TEN,
        4,
    ),
    Row(
        "sentry",
        lambda asked: ok(
            [asked.number("cursor")],
            h_Link=f'<{asked.base}?cursor={asked.number("cursor") + 1}>; rel="next"; '
            f'results="{"false" if asked.number("cursor") == 2 else "true"}"',
        ),
        {
            **LINK,
            "pagination.stop.condition": '{"field":"${header.Link}","operator":"MATCHES",'
            '"value":".*results=.false.*"}',
        },
        [0, 1, 2],
        3,
    ),
    Row(
        "itself",
        chained(end="2"),
        CURSOR,
        [0, 1, 2],
        4,
        words="repeats one",
    ),
    Row(
        "hal",
        lambda asked: ok(
            [asked.number("cursor")],
            _links={"next": {"href": f"?cursor={asked.number('cursor') + 1}"}}
            if asked.number("cursor") < 2
            else {},
        ),
        {**NEXT, "pagination.cursor.field": "_links.next.href"},
        [0, 1, 2],
        3,
    ),
    Row(
        "jsonapi",
        lambda asked: ok(
            [asked.number("cursor")],
            links={
                "next": {"href": f"{asked.base}?cursor={asked.number('cursor') + 1}"}
                if asked.number("cursor") < 2
                else None
            },
        ),
        {**NEXT, "pagination.cursor.field": "links.next"},
        [0, 1, 2],
        3,
    ),
    Row(
        "fhir",
        lambda asked: ok(
            [asked.number("cursor")],
            link=[{"relation": "self", "url": f"{asked.base}?cursor=0"}]
            + [
                {
                    "relation": "next",
                    "url": f"{asked.base}?cursor={asked.number('cursor') + 1}",
                }
            ]
            * (asked.number("cursor") < 2),
        ),
        {**NEXT, "pagination.cursor.field": "link[relation=next].url"},
        [0, 1, 2],
        3,
    ),
    Row(
        "base-field",
        lambda asked: ok(
            [asked.number("cursor")],
            _links={"base": asked.base}
            | (
                {"next": f"/rest?cursor={asked.number('cursor') + 1}"}
                if asked.number("cursor") < 2
                else {}
            ),
        ),
        {
            **NEXT,
            "pagination.cursor.field": "_links.next",
            "pagination.next.base.field": "_links.base",
        },
        [0, 1, 2],
        3,
    ),
    Row("redirected", redirected, NEXT, [0, 1, 2], 4),
    Row(
        "inner-host",
        chained(link=lambda asked, at: f"http://inner:8080/inner-host?cursor={at}"),
        {**NEXT, "pagination.next.origin": "OWN"},
        [0, 1, 2],
        3,
    ),
    Row(
        "posted",
        posted,
        {
            **NEXT,
            "http.source.method": "POST",
            "http.source.body": '{"q":"all"}',
            "pagination.next.method": "SAME",
        },
        [0, 1, 2],
        3,
    ),
    *(
        Row(f"link-{name}", odd_link(text), LINK, [0, 1, 2], 3)
        for name, text in (
            ("right", '<URL>; rel="next"'),
            ("single", "<URL>; rel='next'"),
            ("stray", 'x <URL> y; rel="next"'),
            ("bare", 'URL; rel="next"'),
            ("open", '<URL>; rel="next'),
            ("bracket", '<URL&a>b>; rel="next"'),
            ("comma", '<URL>; title=a, b; rel="next"'),
        )
    ),
    # -- keyset ------------------------------------------------------------------------
    Row(
        "keyset",
        keyset("since"),
        {
            "pagination.type": "keyset",
            "http.offset.json.pointer": "n",
            "pagination.cursor.param": "since",
            "pagination.limit.value": 4,
        },
        DATA,
        (6, 9),
    ),
    Row(
        "keyset-coarse",
        keyset("since", round_to=2, size=8),
        {
            "pagination.type": "keyset",
            "http.offset.json.pointer": "n",
            "pagination.cursor.param": "since",
            "pagination.limit.value": 8,
            "http.source.query.params": "since=${floor(offset / 2) * 2}",
        },
        DATA,
        (3, 9),
    ),
    Row(
        "keyset-inside",
        keyset("since", round_to=10),
        {
            "pagination.type": "keyset",
            "http.offset.json.pointer": "n",
            "pagination.cursor.param": "since",
            "pagination.limit.value": 4,
            "pagination.page.param": "p",
            "http.source.query.params": "since=${floor(offset / 10) * 10}",
        },
        DATA,
        (5, 9),
    ),
    Row(
        "keyset-skip",
        keyset("since", round_to=10),
        {
            "pagination.type": "keyset",
            "http.offset.json.pointer": "n",
            "pagination.cursor.param": "since",
            "pagination.limit.value": 4,
            "pagination.offset.param": "skip",
            "http.source.query.params": "since=${floor(offset / 10) * 10}",
        },
        DATA,
        (5, 9),
    ),
    # -- de-duplication ----------------------------------------------------------------
    Row(
        "inclusive",
        lambda asked: ok(
            [*range(asked.number("cursor"), min(asked.number("cursor") + 4, 10))],
            next=asked.number("cursor") + 3
            if asked.number("cursor") + 4 < 10
            else None,
        ),
        {**CURSOR, "deduplication.enabled": "true"},
        TEN,
        3,
    ),
]

BAD = [
    Row(
        "nonsense",
        chained(header=lambda a, n: "nonsense"),
        LINK,
        [],
        1,
        "Link header cannot be read: nonsense",
    ),
    Row(
        "two-ways",
        odd_link("<URL>; rel='next', <URL&b>; rel='next'"),
        LINK,
        [],
        1,
        "Link header",
    ),
    Row(
        "astray",
        chained(link=lambda a, n: f"http://inner/x?cursor={n}"),
        NEXT,
        [],
        1,
        "pagination.next.origin=OWN",
    ),
    Row(
        "deaf",
        lambda asked: ok([1, 2], next="a"),
        CURSOR,
        [1, 2],
        2,
        "pagination.cursor.param",
    ),
    Row(
        "more-unread",
        numbered(TEN, place=lambda n: 0, told=lambda n, f: {"more": True}),
        {**PAGE, "pagination.has.more.field": "more"},
        [0, 1, 2],
        2,
        "not all was read",
        "repeats one",
    ),
    Row(
        "keyset-tie",
        keyset("since", round_to=10),
        {
            "pagination.type": "keyset",
            "http.offset.json.pointer": "n",
            "pagination.cursor.param": "since",
            "pagination.limit.value": 4,
            "http.source.query.params": "since=${floor(offset / 10) * 10}",
        },
        DATA[:4],
        2,
        "pagination.page.param or pagination.offset.param",
    ),
]


def run(rows: Sequence[Row], folder: Path, broker: Broker, **keys: object) -> Any:
    """One engine reads all rows; what became of each is returned by name."""
    with World(rows) as world:
        setup = Setup(folder, "", broker)
        made: dict[str, object] = {
            "http.source.url": None,
            "kafka.topic": None,
            "apis.num": len(rows),
            "max.retries": 0,
            **keys,
        }
        for number, row in enumerate(rows, 1):
            own = {
                "api.name": row.name,
                "http.source.url": f"{world.url}/{row.name}{row.start}",
                "kafka.topic": f"{setup.topic}-{row.name}",
                **row.keys,
            }
            made |= {f"api{number}.{key}": value for key, value in own.items()}
            broker.create(f"{setup.topic}-{row.name}", 1)
        setup.write(**made)
        done = setup.once(within=240)
        got = {
            row.name: [
                json.loads(each.value or b"null")
                for each in broker.read(f"{setup.topic}-{row.name}")
            ]
            for row in rows
        }
    return done, got, world


def problems(rows: Sequence[Row], done: Any, got: Any, world: World) -> list[str]:
    found = []
    assert done.out, done.err
    apis = {each["api"]: each for each in done.document["connectors"][0]["apis"]}
    for row in rows:
        low, high = (
            row.requests if isinstance(row.requests, tuple) else (row.requests,) * 2
        )
        error = apis[row.name]["error"]
        said = "\n".join(
            line for line in done.err.splitlines() if f"/{row.name}" in line
        )
        if got[row.name] != list(row.records):
            found.append(
                f"{row.name}: got {got[row.name]} instead of {list(row.records)}"
            )
        if not low <= world.counts[row.name] <= high:
            found.append(
                f"{row.name}: asked {world.asked[row.name]}, not {row.requests}"
            )
        if (row.error is None) != (error is None) or not re.search(
            row.error or "", error or ""
        ):
            found.append(f"{row.name}: error {error}")
        if row.words is not None and not re.search(row.words, said + done.err):
            found.append(f"{row.name}: not said: {row.words}")
    return found


def test_what_can_be_read_is_read_whole(tmp_path: Path, embedded: Broker) -> None:
    done, got, world = run(GOOD, tmp_path, embedded)

    assert [] == problems(GOOD, done, got, world)
    assert 0 == done.code, done.err


def test_what_cannot_be_read_is_no_end(tmp_path: Path, embedded: Broker) -> None:
    done, got, world = run(BAD, tmp_path, embedded)

    assert [] == problems(BAD, done, got, world)
    assert 65 == done.code
