"""Places: how a value goes into a URL, a header, a body, and what cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from engine.language import (
    RECORD_NAMES,
    EvaluationError,
    LanguageError,
    compile_body,
    encode_body_text,
    encode_form,
    encode_header,
    encode_in_json_string,
    encode_json,
    encode_path_segment,
    encode_query_value,
    encode_text,
)


@pytest.mark.parametrize(
    ("encode", "value", "expected"),
    [
        (encode_path_segment, "a/b c", "a%2Fb%20c"),
        (encode_path_segment, 7, "7"),
        (encode_path_segment, "..x", "..x"),
        (encode_path_segment, "%2e", "%252e"),
        (encode_query_value, "a&b=c+d", "a%26b%3Dc%2Bd"),
        (encode_query_value, "", ""),
        (encode_query_value, None, None),
        (encode_query_value, [1, "x"], "%5B1%2C%22x%22%5D"),
        (encode_header, "caf\u00e9", "caf\u00e9"),
        (encode_header, None, None),
        (encode_in_json_string, 'a"b\n', 'a\\"b\\n'),
        (encode_in_json_string, None, ""),
        (encode_in_json_string, 7, "7"),
        (encode_in_json_string, {"a": "x"}, '{\\"a\\":\\"x\\"}'),
        (encode_json, 'a"', '"a\\""'),
        (encode_json, None, "null"),
        (encode_json, Raw("1.50"), "1.50"),
        (encode_json, [1, None, True], "[1,null,true]"),
        (encode_form, "a b&c", "a+b%26c"),
        (encode_form, None, ""),
        (encode_body_text, "a b", "a b"),
        (encode_body_text, None, ""),
        (encode_text, True, "true"),
        (encode_text, Raw('{ "a" : 1.50 }'), '{"a":1.50}'),
        (encode_text, None, None),
    ],
)
def test_each_place_encodes_as_the_table_says(
    encode: Callable[[Any], str | None], value: object, expected: str | None
) -> None:
    assert expected == encode(value)


@pytest.mark.parametrize(
    ("encode", "value"),
    [
        (encode_path_segment, None),
        (encode_path_segment, ""),
        (encode_path_segment, "."),
        (encode_path_segment, ".."),
        (encode_path_segment, "\ud800"),
        (encode_query_value, "\udfff"),
        (encode_header, "a\rb"),
        (encode_header, "a\nb"),
        (encode_header, "a\0b"),
        (encode_header, "\u20ac"),
    ],
)
def test_what_a_place_cannot_hold_is_refused(
    encode: Callable[[Any], str | None], value: object
) -> None:
    with pytest.raises(EvaluationError):
        encode(value)


def body(text: str, kind: str, **record: Any) -> str:
    compiled = compile_body(text, RECORD_NAMES, kind)
    return compiled.render({"record": record}).decode()


def test_a_json_body_knows_where_a_string_is() -> None:
    text = '{"q": "x-${a}", "n": ${a}, "e": "\\"${a}", "l": [${b}, "${b}"]}'

    found = body(text, "application/json; charset=utf-8", a='say "hi"', b=None)

    assert {
        "q": 'x-say "hi"',
        "n": 'say "hi"',
        "e": '"say "hi"',
        "l": [None, ""],
    } == json.loads(found)


def test_other_bodies_are_form_encoded_or_as_they_are() -> None:
    assert "a=x+y&b=" == body(
        "a=${a}&b=${b}", "application/x-www-form-urlencoded", a="x y", b=None
    )
    assert "<x>x y</x>" == body("<x>${a}</x>", "application/xml", a="x y")
    assert '{"a":"x\\""}' == body('{"a":"${a}"}', "application/merge+json", a='x"')


def test_a_json_body_that_leaves_a_string_open_is_refused() -> None:
    for text in ('{"a": "x', '{"a": "x${id}', '{"a": "\\${id}"}'):
        with pytest.raises(LanguageError):
            compile_body(text, RECORD_NAMES, "application/json")


@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1))
def test_no_text_escapes_its_place(text: str) -> None:
    if text not in (".", ".."):
        segment = encode_path_segment(text)
        assert "/" not in segment and text == unquote(segment)
    assert [text] == parse_qs(f"q={encode_query_value(text)}", keep_blank_values=True)[
        "q"
    ]
    assert text == json.loads(f'"{encode_in_json_string(text)}"')
    assert text == json.loads(encode_json(text))
    assert [text] == parse_qs(f"q={encode_form(text)}", keep_blank_values=True)["q"]
