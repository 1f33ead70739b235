"""The typed path and the general path: one meaning, to the byte."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import RecordError
from engine.transform.loops import WARM
from tests.examples import examples
from tests.transform.pages import columns, page_of, run, texts, transform

NAMES = ["a", "b", "c", "d e", "a.b", "é", 'q"']
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10),
    st.integers(-(2**70), 2**70),
    st.sampled_from(
        [
            b"1.50",
            b"-0",
            b"-0.0",
            b"1e3",
            b"1E400",
            b"12.0",
            b"0.1",
            b"9007199254740993.0",
            b"2147483648",
            b"[ ]",
            b"{ }",
            b'"\\u00e9\\/"',
            b'[1, {"a": 2}]',
            b'"2024-01-02T03:04:05Z"',
            b"1700000000",
            b"[" * 60 + b"]" * 60,
            b"[" * 98 + b"]" * 98,
            b"[" * 101 + b"]" * 101,
        ]
    ),
    st.sampled_from(
        ["", "x", "7", " 12 ", "true", "FALSE", "1.5", "+3", "[1]", '{"a":1}']
    ),
    st.text(max_size=5),
)
names = st.sampled_from(NAMES)


def spelled(value: Any) -> bytes:
    """JSON in which bytes stand for themselves."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict):
        members = (
            json.dumps(k).encode() + b": " + spelled(v) for k, v in value.items()
        )
        return b"{" + b", ".join(members) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(spelled, value)) + b"]"
    return json.dumps(value).encode()


values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)
    ),
    max_leaves=6,
)
records = st.one_of(
    st.dictionaries(names, values, max_size=5), st.sampled_from([[], 5, "x", None])
)


def quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


paths = st.one_of(
    names.map(quoted),
    st.tuples(names, names).map(lambda two: f"{quoted(two[0])}.{quoted(two[1])}"),
    names.map(lambda name: f"{quoted(name)}[0]"),
    names.map(lambda name: f"{quoted(name)}[*].{quoted('a')}"),
    names.map(lambda name: "/" + name),
)
TYPES = [
    "STRING",
    "INTEGER",
    "LONG",
    "DOUBLE",
    "BOOLEAN",
    "TIMESTAMP",
    "OBJECT",
    "ARRAY",
]


@st.composite
def mappings(draw: st.DrawFn) -> list[dict[str, Any]]:
    targets = draw(
        st.lists(
            st.sampled_from(["x", "y.p", "y.q", "z", "a", "b", "d e"]),
            unique=True,
            max_size=4,
        )
    )
    rules = []
    for target in targets:
        rule = {"source": draw(paths), "target": target}
        if draw(st.booleans()):
            rule["type"] = draw(st.sampled_from(TYPES))
        if draw(st.integers(0, 3)) == 0:
            rule["default"] = draw(
                st.sampled_from([None, 1, "d", [1], {"k": 1.5}, 0.5])
            )
        rules.append(rule)
    return rules


fields = st.one_of(paths, st.sampled_from(["x", "y.p", "z", "s", "a"]))
EXPRESSIONS = [
    "${a}",
    "${x}-${b}",
    "${coalesce(a, b, 'none')}",
    "${if(b == 1, a, c)}",
    "${a + 1}",
    "${upper(x)}",
    "${record.a}",
    "const",
    "${iso(now)}",
    "${length(c)}",
    "${y.p}",
]
enrichments = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {
                "field": st.sampled_from(["s", "t", "x", "a", "y.p", "u.v"]),
                "value": st.sampled_from([1, "v", None, [1, 2], {"k": 1}, 1.5]),
            }
        ),
        st.fixed_dictionaries(
            {
                "field": st.sampled_from(["s", "t", "x", "a"]),
                "expression": st.sampled_from(EXPRESSIONS),
            }
        ),
    ),
    max_size=2,
)
constants = st.sampled_from([0, 1, 1.5, 0.1, "x", "7", True, None, -3, 2**63])


@st.composite
def filters(draw: st.DrawFn, depth: int = 0) -> dict[str, Any]:
    shape = draw(st.integers(0, 5)) if depth < 2 else 5
    if shape == 0:
        return {"any": [draw(filters(depth + 1)), draw(filters(depth + 1))]}
    if shape == 1:
        return {"not": draw(filters(depth + 1))}
    field = draw(fields)
    operator = draw(
        st.sampled_from(
            [
                "EQUALS",
                "NOT_EQUALS",
                "GREATER_THAN",
                "GREATER_EQUAL",
                "LESS_THAN",
                "LESS_EQUAL",
                "CONTAINS",
                "NOT_CONTAINS",
                "EXISTS",
                "NOT_EXISTS",
                "IS_NULL",
                "IS_NOT_NULL",
                "IN",
                "NOT_IN",
                "BETWEEN",
                "MATCHES",
            ]
        )
    )
    rule: dict[str, Any] = {"field": field, "operator": operator}
    if operator == "BETWEEN":
        return rule | {"min": draw(constants), "max": draw(constants)}
    if operator in ("IN", "NOT_IN"):
        return rule | {"values": draw(st.lists(constants, max_size=3))}
    if operator == "MATCHES":
        return rule | {"value": "[a-z0-9]+"}
    if "EXISTS" in operator or "NULL" in operator:
        return rule
    return rule | {"value": draw(constants)}


checks = st.lists(
    st.builds(
        lambda field, check: {"field": field, **check},
        fields,
        st.sampled_from(
            [
                {"required": True},
                {"type": "NUMERIC"},
                {"type": "STRING", "maxLength": 3},
                {"type": "INTEGER", "min": -5, "max": 5.5},
                {"type": "TIMESTAMP"},
                {"values": [1, "x", 1.5]},
                {"pattern": "[a-z]*"},
                {"type": "ARRAY", "minLength": 1},
            ]
        ),
    ),
    max_size=2,
)


@settings(
    max_examples=examples(200),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    rows=st.lists(records, min_size=1, max_size=4),
    mapped=mappings(),
    enriched=enrichments,
    filtered=st.lists(filters(), max_size=2),
    checked=checks,
    unmapped=st.sampled_from(["DROP", "KEEP"]),
    nulls=st.sampled_from(["SKIP", "KEEP", "FAIL"]),
    key=st.sampled_from([None, "${a}", "${x}", "k-${b}", "${y.p}", "${d e}"][:5]),
    timestamp=st.sampled_from([None, None, "${a}"]),
    header=st.sampled_from([(), (("h", "${b}"),)]),
    tolerance=st.sampled_from(["all", "none"]),
    deduplication=st.sampled_from([None, [], ["a"], ["x"]]),
)
def test_every_mapping_and_record_give_the_same_on_both_paths(
    rows: list[Any],
    mapped: list[dict[str, Any]],
    enriched: list[dict[str, Any]],
    filtered: list[dict[str, Any]],
    checked: list[dict[str, Any]],
    unmapped: str,
    nulls: str,
    key: str | None,
    timestamp: str | None,
    header: Any,
    tolerance: str,
    deduplication: list[str] | None,
) -> None:
    with suppress(RecordError):
        run(
            [spelled(row) for row in rows],
            mappings=json.dumps(mapped),
            enrichment=json.dumps(enriched),
            filters=json.dumps(filtered),
            validation=json.dumps(checked),
            unmapped=unmapped,
            nulls=nulls,
            key=key,
            timestamp=timestamp,
            headers=header,
            tolerance=tolerance,
            deduplication=deduplication is not None,
            deduplication_fields=deduplication or (),
        )


usual = st.one_of(
    st.sampled_from(["", "x", "7", "2024-01-02T03:04:05Z"]),
    st.integers(-(2**40), 2**40),
    st.booleans(),
    st.sampled_from([b"1.5", b"2"]),
    st.dictionaries(names, st.sampled_from(["x", 7, True]), min_size=1, max_size=3),
)


@settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    common=st.dictionaries(names, usual, min_size=2, max_size=6),
    rows=st.lists(records, max_size=3),
    changed=st.lists(st.dictionaries(names, values, max_size=2), max_size=3),
    mapped=mappings(),
    enriched=enrichments,
    filtered=st.lists(filters(), max_size=2),
    checked=checks,
    key=st.sampled_from([None, "${a}", "${x}", "k-${b}"]),
    python=st.booleans(),
)
def test_what_differs_from_the_records_before_is_the_same_on_every_path(
    common: dict[str, Any],
    rows: list[Any],
    changed: list[dict[str, Any]],
    mapped: list[dict[str, Any]],
    enriched: list[dict[str, Any]],
    filtered: list[dict[str, Any]],
    checked: list[dict[str, Any]],
    key: str | None,
    python: bool,
) -> None:
    keys: dict[str, Any] = {
        "mappings": json.dumps(mapped),
        "enrichment": json.dumps(enriched),
        "filters": json.dumps(filtered),
        "validation": json.dumps(checked),
        "key": key,
        "tolerance": "all",
    }
    if python:
        keys["value_converter"] = Repr()
    alike = page_of([spelled(common)] * WARM)
    fast = transform(**keys)
    fast(alike)
    mixed = [common] * 40 + [{**common, **each} for each in changed] + rows
    page = page_of([spelled(row) for row in mixed])
    slow = columns(transform(fast=False, **keys)(page))
    assert columns(fast(page)) == slow
    # Now with a loop that was made anew, or without one.
    assert columns(fast(page)) == slow


class Repr:
    """A converter of values: what exactly it is given."""

    plain = False
    values = True
    exact = False

    def convert(
        self, topic: str, items: Sequence[Any], *, alike: bool = False
    ) -> list[bytes]:
        return [ascii(item).encode() for item in items]


def test_records_of_one_kind_get_a_loop_of_their_own_until_they_are_no_more() -> None:
    mapping = [{"source": "id", "target": "id", "type": "STRING"}]
    fast = transform(mappings=mapping)
    assert fast.loops is not None
    fast(page_of([{"id": 7}] * (WARM - 1)))
    assert not fast.loops.narrow
    fast(page_of([{"id": 7}]))
    assert fast.loops.narrow
    page = page_of([{"id": 8}] * 30 + [{"id": "x"}, {"id": 1.50}, {}, {"id": None}])
    parcel = fast(page)
    assert texts(parcel)[-4:] == ['{"id":"x"}', '{"id":"1.5"}', "{}", "{}"]
    # All kinds have been seen now: nothing is left to be made for.
    assert not fast.loops.narrow
    assert fast.fallbacks == 0


@pytest.mark.parametrize(
    "usual", [[{"k": "a"}, {"k": "é"}, {"k": ""}], [{"k": 7}, {"k": -(2**40)}]]
)
@pytest.mark.parametrize(
    "odd",
    [
        [],
        [{"k": 1.50}],
        [{"k": None}, {"k": "b"}],
        [{}, {"k": 3}],
        [{"k": {"a": 1}}, 5, None, [], b'{"k":"\\ud800"}'],
        [b'{"k":"a"'],
    ],
)
def test_a_page_of_which_only_a_key_is_read_is_the_same_on_every_path(
    usual: list[Any], odd: list[Any]
) -> None:
    keys: dict[str, Any] = {"key": "${k}", "tolerance": "all"}
    warm = transform(**keys)
    for _ in range(WARM):
        warm(page_of(usual))
    assert warm.loops is not None
    assert warm.loops.narrow

    for rows in (usual + odd, odd + usual, [*usual, *odd, *usual], usual):
        page = page_of(rows)
        assert columns(warm(page)) == columns(transform(fast=False, **keys)(page))
