"""Paths: both spellings, the walk over arrays, missing against null."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from engine.language import MISSING, LanguageError, compile_path
from engine.language.paths import WILD

DOCUMENT = {
    "id": 7,
    "none": None,
    "Meta Data": {"2. Symbol": "IBM"},
    "@odata.nextLink": "next",
    "": "empty",
    "a/b": 1,
    "m~n": 2,
    "records": [{"Id": 1, "t": ["x", "y"]}, {"no": 0}, {"Id": None, "t": []}],
    "groups": [[{"Id": 1}, {"Id": 2}], [{"Id": 3}]],
    "list": [10, 20, 30],
    "matrix": [[1, 2], [3]],
    "none_in": [],
    "0": "zero",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", DOCUMENT),
        ("id", 7),
        ("none", None),
        ("nothing", MISSING),
        ("id.deeper", MISSING),
        ("none.deeper", MISSING),
        ("'Meta Data'.'2. Symbol'", "IBM"),
        ('"Meta Data"."2. Symbol"', "IBM"),
        ("Meta Data.'2. Symbol'", "IBM"),
        ("'@odata.nextLink'", "next"),
        ("@odata.nextLink", MISSING),
        ("''", "empty"),
        ("list[0]", 10),
        ("list[-1]", 30),
        ("list[3]", MISSING),
        ("list[-4]", MISSING),
        ("id[0]", MISSING),
        ("list[*]", [10, 20, 30]),
        ("id[*]", MISSING),
        ("records.Id", [1, None]),
        ("records[*].Id", [1, None]),
        ("records[0].Id", 1),
        ("records.t", ["x", "y"]),
        ("records.t[0]", ["x"]),
        ("records.other", MISSING),
        ("groups.Id", [1, 2, 3]),
        ("matrix[*]", [1, 2, 3]),
        ("matrix[*][0]", [1, 3]),
        ("none_in[*]", MISSING),
        ("none_in.x", MISSING),
        ("none_in", []),
        ("/id", 7),
        ("/none", None),
        ("/Meta Data/2. Symbol", "IBM"),
        ("/@odata.nextLink", "next"),
        ("/", "empty"),
        ("/a~1b", 1),
        ("/m~0n", 2),
        ("/list/0", 10),
        ("/list/00", MISSING),
        ("/list/-", MISSING),
        ("/list/-1", MISSING),
        ("/records/Id", MISSING),
        ("/records/0/Id", 1),
        ("/0", "zero"),
    ],
)
def test_a_path_finds_what_the_table_says(text: str, expected: object) -> None:
    path = compile_path(text)
    raw = json.dumps(DOCUMENT).encode()

    assert expected == path.get(DOCUMENT)
    found = path.get(Raw(raw))
    if expected is MISSING:
        assert found is MISSING
    else:
        assert expected == json.loads(raw if not text else _text(found))


def _text(value: object) -> bytes:
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, list):
        return b"[" + b",".join(map(_text, value)) + b"]"
    if isinstance(value, dict):
        pairs = (json.dumps(k).encode() + b":" + _text(v) for k, v in value.items())
        return b"{" + b",".join(pairs) + b"}"
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("text", "column"),
    [
        (".a", 1),
        ("a.", 3),
        ("a..b", 3),
        ("a[", 2),
        ("a[x]", 2),
        ("a[1", 2),
        ("a[1]b", 5),
        ("a'b", 2),
        ("'a", 1),
        ("a]", 2),
        ("a.[0]", 3),
        ("/a~b", 3),
        ("/a~", 3),
        ("/x/a~2", 5),
        ("a[\u0663]", 2),
        ("x" * 65_537, 1),
    ],
)
def test_a_path_that_is_none_names_its_column(text: str, column: int) -> None:
    with pytest.raises(LanguageError) as caught:
        compile_path(text)

    assert column == caught.value.column


def test_steps_and_single_tell_what_a_path_asks_for() -> None:
    assert ("a", 0, "b") == compile_path("a[0].b").steps
    assert compile_path("a[0].b").single
    assert ("a", WILD) == compile_path("a[*]").steps
    assert not compile_path("a[*]").single
    assert ("a", "b.c") == compile_path("/a/b.c").names
    assert None is compile_path("a[0]").names
    assert ("it's",) == compile_path("'it''s'").steps


def test_a_path_of_many_steps_does_not_recurse() -> None:
    path = compile_path(".".join("a" * 30_000))

    assert MISSING is path.get({"a": {"a": 1}})


names = st.text(min_size=0, max_size=6)


@given(st.lists(names, min_size=1, max_size=5))
def test_every_name_can_be_reached_in_both_spellings(steps: list[str]) -> None:
    document: object = 1
    for step in reversed(steps):
        document = {step: document}
    quoted = ".".join("'" + step.replace("'", "''") + "'" for step in steps)
    pointer = "".join(
        "/" + step.replace("~", "~0").replace("/", "~1") for step in steps
    )

    assert 1 == compile_path(quoted).get(document)
    assert 1 == compile_path(pointer).get(document)


@given(st.text(max_size=40))
def test_no_text_makes_anything_but_a_language_error(text: str) -> None:
    try:
        compile_path(text).get({"a": [1, {"b": 2}]})
    except LanguageError as e:
        assert 1 <= e.column <= len(text) + 1


LINKS = (
    b'{"link":[{"relation":"self","url":"a"},{"relation":"next","url":"b"},'
    b'{"relation":"next","url":"c"}],"one":{"rel":"next","url":"d"},'
    b'"many":[{"rel":["x","next"],"href":"e"}],"n":[{"id":7,"v":"f"}]}'
)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("link[relation=next].url", b'"b"'),
        ("link[relation='next'].url", b'"b"'),
        ("link[relation=last].url", None),
        ("one[rel=next].url", b'"d"'),
        ("many[rel=next].href", b'"e"'),
        ("n[id=7].v", b'"f"'),
        ("link[url=b].relation", b'"next"'),
        ("missing[rel=next]", None),
    ],
)
def test_an_item_is_found_by_its_member(path: str, found: bytes | None) -> None:
    value = compile_path(path).get(Raw(LINKS))

    assert (None if value is MISSING else bytes(value)) == found
