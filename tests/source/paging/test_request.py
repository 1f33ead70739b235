"""Requests: each value in its place, and nothing appended twice."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from engine.errors import SourceError
from engine.language.faults import LanguageError
from engine.records import Request
from engine.source.paging.pager import Paging
from engine.source.paging.request import Shape, behind

URL = "https://api.test/v1/items"


def ask(
    url: str = URL,
    *,
    method: str = "GET",
    paging: dict[str, Any] | None = None,
    constants: dict[str, object] | None = None,
    scope: dict[str, object] | None = None,
    shape: dict[str, Any] | None = None,
    **page: Any,
) -> Request:
    made = Shape(
        method=method,
        url=url,
        paging=Paging(**(paging or {})),
        constants=constants,
        **(shape or {}),
    )
    return made.begin(0, scope)(0, **page)


@pytest.mark.parametrize(
    ("paging", "page", "query"),
    [
        ({"type": "none"}, {}, ""),
        ({"type": "none", "limit_stated": True}, {}, "limit=100"),
        ({"type": "offset"}, {"offset": 7}, "offset=7&limit=100"),
        ({"type": "page", "limit": 5}, {"page": 3}, "page=3&limit=5"),
        ({"type": "cursor"}, {}, ""),
        ({"type": "cursor"}, {"cursor": "a b"}, "cursor=a%20b"),
        ({"type": "cursor", "limit_stated": True}, {}, "limit=100"),
        ({"type": "keyset", "limit_stated": True}, {"cursor": 9}, "cursor=9&limit=100"),
        ({"type": "next_url"}, {}, ""),
        ({"type": "link_header", "limit_stated": True}, {}, "limit=100"),
        (
            {"type": "offset", "offset_param": "s k", "limit_param": "$top"},
            {"offset": 0},
            "s%20k=0&%24top=100",
        ),
    ],
)
def test_paging_parameters_are_appended(
    paging: dict[str, Any], page: dict[str, Any], query: str
) -> None:
    assert query == urlsplit(ask(paging=paging, **page).url).query


@pytest.mark.parametrize(
    ("paging", "shape", "page", "url"),
    [
        (
            {"type": "offset"},
            {"params": "from=${offset}&size=${limit}"},
            {"offset": 7},
            f"{URL}?from=7&size=100",
        ),
        (
            {"type": "offset"},
            {"params": "from=${offset}"},
            {"offset": 7},
            f"{URL}?from=7&limit=100",
        ),
        (
            {"type": "cursor", "limit_stated": True},
            {"headers": [("X-Limit", "${limit}"), ("X-Cursor", "${cursor}")]},
            {"cursor": "c"},
            URL,
        ),
        (
            {"type": "cursor", "mode": "CURSOR_PAGINATION"},
            {"params": "after=${offset}"},
            {"offset": "c", "cursor": "c"},
            f"{URL}?after=c",
        ),
        (
            {"type": "keyset"},
            {"params": "since=${offset}"},
            {"offset": 5, "cursor": 5},
            f"{URL}?since=5",
        ),
    ],
)
def test_a_parameter_that_a_template_brings_is_not_appended(
    paging: dict[str, Any], shape: dict[str, Any], page: dict[str, Any], url: str
) -> None:
    assert url == ask(paging=paging, shape=shape, **page).url


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("a=b&c=d&a=e", "a=b&c=d&a=e"),
        ("a=b=c", "a=b=c"),
        ("flag&x=", "flag&x="),
        ("q=a b&r=%20&s=100%&t=ü", "q=a%20b&r=%20&s=100%25&t=%C3%BC"),
        ("f[a]=1", "f%5Ba%5D=1"),
        ("a=${entityName}&b=${cursor}&c=x", "a=e%26f&c=x"),
        ("a=x${cursor}y", ""),
        ("a=${if(1 == 1 && 2 == 2, 'y', 'n')}", "a=y"),
        ("a=${coalesce(cursor,'none')}", "a=none"),
        ("$${literal}=1", "$%7Bliteral%7D=1"),
    ],
)
def test_params(text: str, query: str) -> None:
    request = ask(
        paging={"type": "none"}, constants={"entityName": "e&f"}, shape={"params": text}
    )

    assert query == urlsplit(request.url).query


def test_a_query_in_the_url_comes_first() -> None:
    request = ask(
        f"{URL}?v=2&w=${{entityName}}",
        paging={"type": "offset"},
        constants={"entityName": "é"},
        shape={"params": "x=1"},
        offset=0,
    )

    assert f"{URL}?v=2&w=%C3%A9&x=1&offset=0&limit=100" == request.url


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a/b", "a%2Fb"),
        ("a b?c#d%", "a%20b%3Fc%23d%25"),
        (7, "7"),
        (Raw(b"1.50"), "1.50"),
        (True, "true"),
        ("\r\nHost: evil", "%0D%0AHost%3A%20evil"),
    ],
)
def test_values_in_the_path_are_encoded_whole(value: object, path: str) -> None:
    request = ask(f"{URL}/${{parent_value}}/x", scope={"parent_value": value})

    assert f"{URL}/{path}/x" == request.url


@pytest.mark.parametrize("value", [None, "", ".", ".."])
def test_a_path_needs_a_value(value: object) -> None:
    with pytest.raises(SourceError):
        ask(f"{URL}/${{parent_value}}/x", scope={"parent_value": value})


def test_a_null_header_is_left_out_and_repeats_are_kept() -> None:
    headers = [("X-A", "1"), ("X-B", "${cursor}"), ("X-A", "2"), ("X-C", "t ${page}")]

    request = ask(shape={"headers": headers}, page=4)

    assert (("X-A", "1"), ("X-A", "2"), ("X-C", "t 4")) == request.headers


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\0b", "\u20ac", "a\x0bb"])
def test_a_header_refuses_what_it_cannot_hold(value: str) -> None:
    with pytest.raises(SourceError):
        ask(
            shape={"headers": [("X-A", "${parent_value}")]},
            scope={"parent_value": value},
        )


@pytest.mark.parametrize(
    ("body", "kind", "page", "sent"),
    [
        ('{"after":"${cursor}"}', None, {"cursor": 'a"b'}, b'{"after":"a\\"b"}'),
        ('{"after":"${cursor}"}', None, {"cursor": None}, b'{"after":""}'),
        ('{"after":${cursor}}', None, {"cursor": None}, b'{"after":null}'),
        ('{"after":${cursor}}', None, {"cursor": 7}, b'{"after":7}'),
        ('{"after":${cursor}}', None, {"cursor": "t"}, b'{"after":"t"}'),
        (
            '{"search_after":${cursor}}',
            None,
            {"cursor": Raw(b'["x",1.50]')},
            b'{"search_after":["x",1.50]}',
        ),
        (
            "a=${cursor}&b=1",
            "application/x-www-form-urlencoded",
            {"cursor": "x&y z"},
            b"a=x%26y+z&b=1",
        ),
        ("${cursor}", "text/plain", {"cursor": "x&y"}, b"x&y"),
    ],
)
def test_bodies(body: str, kind: str | None, page: dict[str, Any], sent: bytes) -> None:
    headers = [] if kind is None else [("Content-Type", kind)]

    request = ask(
        method="POST",
        paging={"type": "cursor"},
        shape={"body": body, "headers": headers},
        **page,
    )

    assert sent == request.body
    assert (("Content-Type", kind or "application/json"),) == request.headers
    assert URL == request.url


def test_a_get_has_no_body() -> None:
    assert ask(shape={"body": "{}"}).body is None


def test_now_stands_still_in_a_poll_and_uuid_does_not() -> None:
    shape = Shape(
        method="GET",
        url=URL,
        paging=Paging(),
        params="t=${timestamp:now}&u=${uuid}",
    )
    start = shape.begin(1_700_000_000_123)

    one, two = (start(number).url for number in range(2))

    assert "t=1700000000123&" in one
    assert one.partition("&")[0] == two.partition("&")[0]
    assert one != two


def test_last_names_fields_of_the_record_before() -> None:
    shape = Shape(
        method="GET",
        url=URL,
        paging=Paging(),
        params="a=${last.id}&b=${last.at.day}&c=${last.tags[1]}",
    )
    start = shape.begin(0)

    first = start(0, last={})
    then = start(1, last={"id": 7, "at.day": "mon", "tags[1]": Raw(b"1.5")})

    assert ("id", "at.day", "tags[1]") == shape.last
    assert URL == first.url
    assert f"{URL}?a=7&b=mon&c=1.5" == then.url


@pytest.mark.parametrize(
    "url",
    [
        "https://${entityName}.test/x",
        "https://api.test:${entityName}/x",
        "/x",
        "https://api.test${entityName}",
    ],
)
def test_templates_stand_behind_the_host(url: str) -> None:
    with pytest.raises(SourceError):
        ask(url)


def test_an_unknown_name_is_an_error_at_once() -> None:
    with pytest.raises(LanguageError):
        ask(f"{URL}/${{curser}}")


@pytest.mark.parametrize(
    ("base", "reference", "url"),
    [
        ("https://a.test/api", "items", "https://a.test/api/items"),
        ("https://a.test/api/", "/items?x=1", "https://a.test/api/items?x=1"),
        ("https://a.test", "/items", "https://a.test/items"),
        ("https://a.test/api", "?x=1", "https://a.test/api?x=1"),
        ("https://a.test/api", "https://b.test/x", "https://b.test/x"),
    ],
)
def test_a_reference_is_put_behind_its_base(
    base: str, reference: str, url: str
) -> None:
    assert url == behind(base, reference)


@given(st.text())
def test_any_text_comes_back_out_of_a_query(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    url = ask(paging={"type": "cursor"}, cursor=text).url

    assert text == unquote(urlsplit(url).query.removeprefix("cursor="))
    assert url.isascii()
    assert not any(character in url for character in "\r\n\0 ")


def test_what_raw_gives_keeps_its_slashes_in_a_url() -> None:
    shape = Shape(
        method="POST",
        url="http://h/day/${raw(window.start)}",
        paging=Paging(type="none"),
        params="a=${raw(window.start)}&b=${window.start}",
        headers=(("X", "${raw(window.start)}"),),
        body='{"a": "${raw(window.start)}", "b": ${raw(window.start)}}',
    )
    made = shape.begin(0, {"window.start": "2024/01/02"})(0)

    assert made.url == "http://h/day/2024/01/02?a=2024/01/02&b=2024%2F01%2F02"
    assert ("X", "2024/01/02") in made.headers
    assert made.body == b'{"a": "2024/01/02", "b": "2024/01/02"}'


def test_a_first_offset_that_is_a_number_is_one_in_a_body() -> None:
    for text, shown in (("1647948000000", "1647948000000"), ("v1", '"v1"')):
        shape = Shape(
            method="POST",
            url="http://h/x",
            paging=Paging(type="keyset", offset_field="at"),
            body='{"after": [${offset}], "text": "${offset}"}',
            initial=text,
        )
        requests = shape.begin(0, None)
        made = requests(0, offset=requests.initial)
        assert made.body == f'{{"after": [{shown}], "text": "{text}"}}'.encode()
