from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.records import Request, Response
from engine.source.fetch.fields import LONGEST, directives, joined
from engine.source.fetch.freshness import (
    CacheVerdict,
    StoredResponse,
    decode,
    encode,
    freshened,
    initial_age,
    kept,
    lifetime,
    stands_in,
    storable,
    touched,
    varying,
    verdict,
)

URL = "https://api.example.com/items?page=1"
NOW_MS = 2_362_927_951_000
DATE = "Wed, 16 Nov 2044 16:52:31 GMT"


def ask(**headers: str) -> Request:
    return Request("GET", URL, tuple(named(headers)))


def named(headers: dict[str, str]) -> list[tuple[str, str]]:
    return [(name.replace("_", "-"), value) for name, value in headers.items()]


def answer(request: Request | None = None, status: int = 200, **headers: str):
    return Response(
        request=request or ask(),
        url=URL,
        status=status,
        headers=[(name.lower(), value) for name, value in named(headers)],
        body=b'{"a":1}',
        sent_at=0.0,
        received_ms=NOW_MS,
    )


def stored(**headers: str) -> StoredResponse:
    return kept(ask(), answer(**headers), 0.0)


def judged(age: float, ttl: float = 0.0, request: Request | None = None, **headers):
    return verdict(stored(**headers), age, request or ask(), ttl).name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, {}),
        ("", {}),
        ("max-age=60", {"max-age": "60"}),
        ("MAX-AGE=60, No-Store", {"max-age": "60", "no-store": None}),
        ('max-age="60"', {"max-age": "60"}),
        (
            'private="a, no-store", max-age=1',
            {"private": "a, no-store", "max-age": "1"},
        ),
        ("max-age=1, max-age=1", {"max-age": "1"}),
        ("max-age=1, max-age=2", {"max-age": ""}),
        (" ,, max-age=3 ,", {"max-age": "3"}),
        ("max-age =3, no-store", {"max-age": None, "no-store": None}),
        ("@@@, no-cache", {"no-cache": None}),
    ],
)
def test_cache_control_is_read(text, expected) -> None:
    assert expected == directives(text)


@given(st.text(max_size=80))
def test_no_cache_control_is_an_error(text) -> None:
    assert all(name == name.lower() for name in directives(text))


@pytest.mark.parametrize(
    ("headers", "ttl", "seconds"),
    [
        ({"Cache_Control": "max-age=60"}, 0, 60),
        ({"Cache_Control": "max-age=60, s-maxage=600"}, 0, 60),
        ({"Cache_Control": "s-maxage=600"}, 0, 0),
        ({"Cache_Control": "max-age=60", "Expires": "0"}, 0, 60),
        ({"Cache_Control": "max-age=x"}, 0, 0),
        ({"Cache_Control": "max-age=-1"}, 0, 0),
        ({"Cache_Control": "max-age=1.5"}, 0, 0),
        ({"Cache_Control": "max-age=99999999999999999"}, 0, LONGEST),
        ({"Expires": "Wed, 16 Nov 2044 16:53:31 GMT", "Date": DATE}, 0, 60),
        ({"Expires": "Wed, 16 Nov 2044 16:51:31 GMT", "Date": DATE}, 0, 0),
        ({"Expires": "0", "Date": DATE}, 0, 0),
        ({"Expires": "0", "Date": DATE}, 30, 0),
        ({}, 0, 0),
        ({}, 30, 30),
        ({"Cache_Control": "max-age=60"}, 30, 30),
        ({"Cache_Control": "max-age=10"}, 30, 10),
        ({"Last_Modified": "Mon, 16 Nov 2020 16:52:31 GMT", "Date": DATE}, 0, 0),
    ],
)
def test_how_long_an_answer_is_fresh(headers, ttl, seconds) -> None:
    assert seconds == lifetime(stored(**headers), float(ttl))


@pytest.mark.parametrize(
    ("headers", "delay", "age"),
    [
        ({}, 0.0, 0.0),
        ({}, 2.5, 2.5),
        ({"Age": "30"}, 1.0, 31.0),
        ({"Age": "x"}, 0.0, LONGEST),
        ({"Age": "-5"}, 0.0, LONGEST),
        ({"Age": "0, 0"}, 0.0, LONGEST),
        ({"Date": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0, NOW_MS / 1000),
        ({"Date": "Thu, 01 Jan 2099 00:00:00 GMT"}, 0.5, 0.5),
    ],
)
def test_how_old_an_answer_is_when_it_arrives(headers, delay, age) -> None:
    found = tuple((n.lower(), v) for n, v in named(headers))

    assert age == initial_age(found, NOW_MS, delay)


@pytest.mark.parametrize(
    ("headers", "ttl", "expected"),
    [
        ({"Cache_Control": "max-age=60"}, 0, True),
        ({"ETag": '"a"'}, 0, True),
        ({"Last_Modified": "Mon, 16 Nov 2020 16:52:31 GMT"}, 0, True),
        ({}, 0, False),
        ({}, 5, True),
        ({"Cache_Control": "private, max-age=60"}, 0, True),
        ({"Cache_Control": "no-store, max-age=60"}, 0, False),
        ({"Cache_Control": "no-store", "ETag": '"a"'}, 5, False),
        ({"Cache_Control": "no-cache", "ETag": '"a"'}, 0, True),
        ({"Cache_Control": "no-cache, max-age=60"}, 0, False),
        ({"Cache_Control": "max-age=60", "Vary": "*"}, 0, False),
        ({"Cache_Control": "max-age=60", "Vary": "Accept, *"}, 0, False),
        ({"Cache_Control": "max-age=60", "Vary": "Accept"}, 0, True),
        ({"Cache_Control": "max-age=0"}, 0, False),
    ],
)
def test_what_may_be_kept(headers, ttl, expected) -> None:
    assert expected is storable(ask(), answer(**headers), float(ttl))


@pytest.mark.parametrize("status", [201, 203, 204, 206, 301, 304, 404, 410, 500])
def test_only_whole_pages_are_kept(status) -> None:
    headers = {"Cache_Control": "max-age=60", "ETag": '"a"'}

    assert not storable(ask(), answer(status=status, **headers), 60.0)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_only_gets_are_kept(method) -> None:
    request = Request(method, URL)

    assert not storable(request, answer(Cache_Control="max-age=60"), 60.0)


@pytest.mark.parametrize("name", ["Range", "If-None-Match", "if-modified-since"])
def test_a_callers_own_condition_is_its_own_affair(name) -> None:
    request = Request("GET", URL, ((name, "x"),))

    assert not storable(request, answer(Cache_Control="max-age=60"), 60.0)


@pytest.mark.parametrize(
    ("control", "age", "expected"),
    [
        ("max-age=60", 59.9, "FRESH"),
        ("max-age=60", 60.0, "STALE"),
        ("max-age=60, no-cache", 0.0, "STALE"),
        ("max-age=60, stale-while-revalidate=30", 80.0, "WHILE_REVALIDATING"),
        ("max-age=60, stale-while-revalidate=30", 90.0, "STALE"),
        (
            "max-age=60, stale-while-revalidate=30, must-revalidate",
            80.0,
            "STALE",
        ),
    ],
)
def test_what_may_be_done_with_it(control, age, expected) -> None:
    assert expected == judged(age, Cache_Control=control)


@pytest.mark.parametrize(
    ("asked", "age", "expected"),
    [
        ("no-cache", 0, "STALE"),
        ("max-age=10", 5, "FRESH"),
        ("max-age=10", 10, "STALE"),
        ("max-age=0", 0, "STALE"),
        ("min-fresh=20", 30, "FRESH"),
        ("min-fresh=40", 30, "STALE"),
        ("max-stale", 3000, "FRESH"),
        ("max-stale=100", 100, "FRESH"),
        ("max-stale=100", 200, "STALE"),
    ],
)
def test_what_the_request_says_counts(asked, age, expected) -> None:
    request = ask(Cache_Control=asked)

    assert expected == judged(age, request=request, Cache_Control="max-age=60")


def test_an_old_pragma_counts_where_nothing_else_is_said() -> None:
    fresh = {"Cache_Control": "max-age=60"}
    pragma = ask(Pragma="no-cache")
    both = ask(Pragma="no-cache", Cache_Control="max-age=30")

    assert "STALE" == judged(0, request=pragma, **fresh)
    assert "FRESH" == judged(0, request=both, **fresh)


@pytest.mark.parametrize(
    ("control", "age", "expected"),
    [
        ("max-age=60", 61, False),
        ("max-age=60, stale-if-error=100", 61, True),
        ("max-age=60, stale-if-error=100", 160, False),
        ("max-age=60, stale-if-error=100, must-revalidate", 61, False),
        ("max-age=60, stale-if-error=x", 61, False),
    ],
)
def test_a_stale_one_stands_in_only_where_it_may(control, age, expected) -> None:
    assert expected is stands_in(stored(Cache_Control=control), age, ask(), 0.0)


def test_what_belongs_to_the_connection_or_the_moment_is_not_kept() -> None:
    found = stored(
        Cache_Control="max-age=60",
        Set_Cookie="id=1",
        Connection="X-Hop, close",
        X_Hop="1",
        Keep_Alive="timeout=5",
        X_Kept="2",
    )

    assert (("cache-control", "max-age=60"), ("x-kept", "2")) == found.headers


def test_a_304_changes_the_headers_and_not_the_body() -> None:
    old = stored(
        ETag='"a"', Cache_Control="max-age=1", X_A="1", Content_Length="7", Age="50"
    )
    news = answer(
        status=304, ETag='"b"', Cache_Control="max-age=9", X_B="2", Content_Length="0"
    )

    found = freshened(old, news, 0.0)

    assert old.body == found.body
    assert {
        "etag": '"a"',
        "x-a": "1",
        "content-length": "7",
        "cache-control": "max-age=9",
        "x-b": "2",
    } == dict(found.headers)
    assert 0.0 == found.age


def test_vary_names_headers_and_what_no_header_tells() -> None:
    assert frozenset({"accept", "x"}) == varying([("vary", "Accept, , X"), ("a", "b")])
    assert "*" in varying([("vary", "X"), ("vary", "*")])
    assert frozenset() == varying([])


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_change_makes_answers_wrong(method) -> None:
    request = Request(method, URL)
    response = answer(
        request,
        Location="/other",
        Content_Location="https://elsewhere.example.com/x",
    )

    assert (URL, "https://api.example.com/other") == touched(request, response)
    assert () == touched(request, answer(request, status=500))
    assert () == touched(ask(), response)


@given(
    st.lists(st.tuples(st.sampled_from(["ETag", "etag", "Age", "x"]), st.text())),
    st.sampled_from(["etag", "age", "x", "y"]),
)
def test_a_header_is_read_alike_out_of_any_sequence(headers, name) -> None:
    found = [value.strip() for key, value in headers if key.lower() == name]

    assert joined(headers, name) == joined(tuple(headers), name)
    assert (", ".join(found) if found else None) == joined(tuple(headers), name)


@pytest.mark.parametrize("body", [b"[1]", bytearray(b"[1]"), memoryview(b"[1]")])
def test_a_page_is_kept_as_it_lies_unless_it_is_a_view(body) -> None:
    response = replace(answer(ask()), body=body)
    one = kept(ask(), response, 0.0)

    assert b"[1]" == one.body
    assert (one.body is body) == (not isinstance(body, memoryview))
    assert decode(b"".join(encode(one))) == one


@given(
    st.text(max_size=30),
    st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=5),
    st.binary(max_size=300),
    st.floats(0, 1e9),
)
def test_what_is_encoded_is_decoded(url, headers, body, age) -> None:
    one = StoredResponse(url, url, 200, tuple(headers), body, age, 17)

    assert one == decode(b"".join(encode(one)))


@given(st.binary(max_size=60))
def test_other_bytes_are_a_value_error(raw) -> None:
    try:
        decode(raw)
    except ValueError:
        return
    assert len(raw) >= 4


def test_a_cut_entry_is_a_value_error() -> None:
    raw = b"".join(encode(stored(Cache_Control="max-age=60")))
    for length in range(len(raw) - len(b'{"a":1}')):
        with pytest.raises(ValueError):
            decode(raw[:length])


def test_the_verdicts_are_three() -> None:
    assert 3 == len(CacheVerdict)
