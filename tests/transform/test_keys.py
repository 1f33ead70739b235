"""Keys of records that stay as they came: the quick way gives what the general one gives."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from engine.errors import RecordError
from engine.language import EvaluationError, plain
from engine.transform import JsonKey, simple_converter
from engine.transform.loops import WARM
from engine.transform.page import PageTransform
from engine.transform.route import single
from tests.examples import examples
from tests.transform.pages import columns, dumped, page_of, transform

#: Template -> records of the kind that a loop of its own is made for.
QUICK: dict[str, list[bytes]] = {
    "${id}": [b'{"id":%d,"x":1}' % at for at in range(1, 10)],
    "${text}": [b'{"id":%d,"text":"k-%d"}' % (at, at) for at in range(9)],
    "${at.id}": [b'{"at":{"id":%d}}' % at for at in range(1, 10)],
    "${at.in.text}": [b'{"at":{"in":{"text":"%d"}}}' % at for at in range(9)],
    "k-${text}": [b'{"text":"k%d"}' % at for at in range(9)],
    "${text}/${id}": [b'{"id":%d,"text":"t"}' % at for at in range(1, 10)],
    "${upper(text)}": [b'{"text":"k%d"}' % at for at in range(9)],
}

#: What stands among them: other types, other spellings, names that come twice.
ODD = [
    b'{"id":0,"text":"","at":{"id":0,"in":{"text":""}}}',
    b'{"id":-0,"text":"-0","at":{"id":-0,"in":{"text":"-0"}}}',
    b'{"id":-7,"text":"\\u00e9\\n\\"","at":{"id":-7,"in":{"text":"\\u00e9"}}}',
    b'{ "id" : 1 , "text" : "a" , "at" : { "id" : 1 , "in" : { "text" : "a" } } }',
    b'{"id":1,"id":2,"text":"a","text":"b","at":{"id":1},"at":{"id":2,"in":{"text":"b"}}}',
    b'{"id":1,"i\\u0064":2,"text":"a","t\\u0065xt":"b","at":{"id":1,"i\\u0064":2}}',
    b'{"x":{"id":9,"text":"no","at":{"id":9}},"id":3,"text":"c","at":{"id":3}}',
    b'{"x":"\\"id\\":9","y":"{\\"text\\":1","id":3,"text":"c","at":{"id":3}}',
    b'{"id":9007199254740993,"text":"n","at":{"id":123456789012345678901234567890}}',
    b'{"id":1.0,"text":1.50,"at":{"id":1e3,"in":{"text":2}}}',
    b'{"id":"7","text":7,"at":{"id":"7","in":{"text":null}}}',
    b'{"id":true,"text":false,"at":{"id":null,"in":null}}',
    b'{"id":null,"text":null,"at":null}',
    b"{}",
    b'{"id":[1],"text":[1],"at":[1]}',
    b'{"id":{"a": 1},"text":{"a": 1},"at":{"id":{"a": 1}}}',
    b'{"id":"\\ud800","text":"\\ud800","at":{"id":"\\ud800"}}',
    b"null",
    b"7",
    b'"x"',
    b"[1]",
]


def warmed(template: str, **keys: Any) -> PageTransform:
    """A transform that has seen as many records as its own loop takes."""
    made = transform(key=template, tolerance="all", **keys)
    good = page_of(QUICK[template])
    for _ in range(WARM // len(good.records) + 1):
        made(good)
    return made


def cold(template: str, records: list[bytes], **keys: Any) -> dict[str, Any]:
    made = transform(key=template, tolerance="all", fast=False, **keys)
    return columns(made(page_of(records)))


@pytest.mark.parametrize("template", QUICK)
def test_a_page_of_one_kind_goes_in_one_expression(template: str) -> None:
    made = warmed(template)

    assert made.loops is not None and made.loops._narrow is not None
    assert "for row in map(decode, records)]" in made.loops._narrow.source
    assert made.fallbacks == 0
    parcel = made(page_of(QUICK[template]))
    assert cold(template, QUICK[template]) == columns(parcel)
    assert parcel.key_lengths is not None and parcel.lengths is not None


@pytest.mark.parametrize("template", QUICK)
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[:40].decode())
def test_one_of_another_kind_among_them_has_the_key_of_the_general_way(
    template: str, odd: bytes
) -> None:
    good = QUICK[template]
    for records in ([*good, odd, *good], [odd, *good], [*good, odd], [odd]):
        expected = cold(template, records)
        assert expected == columns(warmed(template)(page_of(records)))


@pytest.mark.parametrize("template", QUICK)
@settings(max_examples=examples(30), deadline=None)
@given(st.lists(st.sampled_from(ODD), min_size=1, max_size=12))
def test_pages_of_all_kinds_have_the_keys_of_the_general_way(
    template: str, records: list[bytes]
) -> None:
    assert cold(template, records) == columns(warmed(template)(page_of(records)))


@pytest.mark.parametrize("name", ["Json", "String"])
@pytest.mark.parametrize("template", QUICK)
def test_key_converters_get_the_same_by_either_way(template: str, name: str) -> None:
    keys = {"key_converter": JsonKey(simple_converter(name))}
    records = [*QUICK[template], *ODD]

    assert cold(template, records, **keys) == columns(
        warmed(template, **keys)(page_of(records))
    )


TEXTS = st.one_of(
    st.text(max_size=8).map(lambda text: dumped(text)),
    st.text(max_size=8).map(lambda text: json.dumps(text).encode()),
    st.integers().map(lambda number: b"%d" % number),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda f: repr(f).encode()),
    st.binary(max_size=6).map(lambda found: b'"' + found + b'"'),
    st.sampled_from([b"null", b"true", b"[1]", b"{}", b"-0", b"9" * 4301, b"1E5"]),
)


@settings(max_examples=examples(300), deadline=None)
@given(TEXTS)
def test_a_key_that_is_not_read_is_one_that_could_be(text: bytes) -> None:
    """What is one value and no null is told without reading it, and is never bad."""
    try:
        row = msgspec.json.decode(b'{"id":' + text + b"}", type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeError):
        return
    if list(row) != ["id"]:
        return
    value = row["id"]
    try:
        read = plain(value)
    except EvaluationError:
        with pytest.raises(RecordError):
            single(value)
        return
    if isinstance(read, list):
        with pytest.raises(RecordError):
            single(value)
    else:
        assert (None if read is None else value) == single(value)


def test_what_asks_for_more_than_a_key_goes_record_by_record() -> None:
    for keys in (
        {"timestamp": "${at}"},
        {"topic": "t-${text}"},
        {"headers": [("h", "${text}")]},
        {"filters": '[{"field":"id","operator":"GREATER_THAN","value":3}]'},
        {"deduplication": True, "deduplication_fields": ["id"]},
    ):
        records = [
            b'{"id":%d,"text":"a","at":"2026-01-01T00:00:00Z"}' % at
            for at in range(1, 10)
        ]
        page = page_of(records)
        made = transform(key="${id}", **keys)
        for _ in range(WARM // len(records) + 1):
            made(page)
        assert made.loops is not None
        loop = made.loops._narrow or made.loops._wide
        assert "for row in map(decode, records)]" not in loop.source
        fresh = transform(key="${id}", fast=False, **keys)
        if "deduplication" not in keys:
            assert columns(fresh(page)) == columns(made(page))


#: Values that have a text of their own, and what only looks like them.
OWN = [
    b"1.50", b"-0.0", b"-0", b"0", b"1e3", b"1E+400", b"-1e-999999999999999999999",
    b"12345678901234567890123", b"true", b"false", b"null", b'"-0"', b'"1.5"', b'"["',
    b'"\\ud800"', b'"' + b"[" * 200 + b'"', b"[1]", b"[]", b"{}",
]  # fmt: skip


@pytest.mark.parametrize("template", ["${v}", "${l[0]}", "${l[*]}", "${o.v}", "k-${v}"])
@pytest.mark.parametrize("value", OWN, ids=lambda value: value[:24].decode())
def test_what_has_a_text_of_its_own_is_that_text(template: str, value: bytes) -> None:
    odd = b'{"v":%s,"l":[ %s ],"o":{"v":%s},"x":1}' % (value, value, value)
    records = [odd, b'{"v":1,"l":["a"],"o":{}}', odd, b'{"l":[]}']
    made = transform(key=template, tolerance="all")
    for _ in range(WARM // len(records) + 2):
        assert cold(template, records) == columns(made(page_of(records)))
