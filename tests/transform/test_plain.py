"""
The engine against a second interpreter, on all three paths.

KHTTP_RULES_EXAMPLES says how many draws of rules there are (CI: some thousands of
records); run it with 100000 over night.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.transform.loops import WARM
from tests.transform import plain
from tests.transform.pages import page_of, transform

EXAMPLES = int(os.environ.get("KHTTP_RULES_EXAMPLES", "100"))

NAMES = ["a", "b", "c"]
NUMBERS = [
    "0", "-0", "1", "-1", "7", "10.00", "1.50", "1.5", "-0.0", "0.10", "1e3", "1E3",
    "2.5e-2", "9007199254740993", "9007199254740993.0", "2147483648", "12.0", "1e400",
    "9223372036854775808", "12345678.1234567891", "123456789012345678901234567890",
]  # fmt: skip
TEXTS = ["", "x", "7", "1.0", "1.50", "-0", "+3", "+-1", " 12 ", "TRUE", "0", "é", "'"]

numbers = st.sampled_from(NUMBERS).map(plain.Num)
scalars = st.one_of(numbers, numbers, st.sampled_from(TEXTS), st.none(), st.booleans())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    ),
    max_leaves=5,
)
records = st.dictionaries(st.sampled_from(NAMES), values, max_size=3)
paths = st.sampled_from(
    ["a", "b", "c", "a.b", "a[0]", "b[-1]", "a[*]", "b[*].a", "a[0].b", "c.a.b", "b.c"]
)
leaves = st.one_of(
    paths.map(lambda path: ("path", path)),
    paths.map(lambda path: ("path", path)),
    st.sampled_from(["x", "", "7"]).map(lambda text: ("text", text)),
    st.sampled_from(["1", "0.50", "2.5"]).map(lambda text: ("number", text)),
)
nodes = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "==", ">"]), inner, inner),
        st.tuples(
            st.just("call"),
            st.sampled_from(["json", "upper", "length", "mask", "abs"]),
            inner,
        ),
        st.tuples(
            st.just("call"),
            st.sampled_from(["concat", "coalesce", "min", "max"]),
            inner,
            inner,
        ),
        st.tuples(
            st.just("call"),
            st.just("if"),
            st.tuples(st.just("=="), inner, inner),
            inner,
            inner,
        ),
    ),
    max_leaves=4,
)
templates = st.one_of(
    nodes.map(lambda node: [node]),
    nodes.map(lambda node: ["k-", node]),
    st.tuples(nodes, nodes).map(lambda two: [two[0], "/", two[1]]),
)
constants = st.one_of(numbers, st.sampled_from(TEXTS), st.none(), st.booleans())


@st.composite
def mappings(draw: st.DrawFn) -> list[dict[str, Any]]:
    targets = draw(
        st.lists(
            st.sampled_from(["x", "y.p", "y.q", "z", "a"]), unique=True, max_size=3
        )
    )
    rules = []
    for target in targets:
        rule: dict[str, Any] = {"source": draw(paths), "target": target}
        if draw(st.booleans()):
            kinds = ["STRING", "INTEGER", "LONG", "BOOLEAN"]
            rule["type"] = draw(st.sampled_from(kinds))
        if draw(st.integers(0, 3)) == 0:
            rule["default"] = draw(constants)
        rules.append(rule)
    return rules


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    orders = ["GREATER_THAN", "GREATER_EQUAL", "LESS_THAN", "LESS_EQUAL"]
    kinds = ["EQUALS", "NOT_EQUALS", "CONTAINS", "NOT_CONTAINS", "IN", "NOT_IN"]
    kinds += [*orders, "BETWEEN", "EXISTS", "NOT_EXISTS", "IS_NULL", "IS_NOT_NULL"]
    rule = {
        "field": draw(st.one_of(paths, st.sampled_from(["x", "y.p", "e"]))),
        "operator": draw(st.sampled_from(kinds)),
    }
    if rule["operator"] in ("IN", "NOT_IN"):
        return rule | {"values": draw(st.lists(constants, max_size=3))}
    if rule["operator"] == "BETWEEN":
        return rule | {"min": draw(constants), "max": draw(constants)}
    if "EXISTS" in rule["operator"] or "NULL" in rule["operator"]:
        return rule
    return rule | {"value": draw(constants)}


@pytest.mark.timeout(0)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    rows=st.lists(records, min_size=1, max_size=8),
    mapped=mappings(),
    enriched=st.lists(
        st.tuples(st.sampled_from(["e", "x", "a"]), templates), max_size=2
    ),
    filtered=st.lists(filters(), max_size=1),
    key=st.one_of(st.none(), templates),
)
def test_two_interpreters_say_the_same_of_every_record(
    rows: list[Any],
    mapped: list[dict[str, Any]],
    enriched: list[tuple[str, list[Any]]],
    filtered: list[dict[str, Any]],
    key: list[Any] | None,
) -> None:
    keys: dict[str, Any] = {
        "mappings": plain.write(mapped),
        "enrichment": json.dumps(
            [{"field": f, "expression": plain.template(p)} for f, p in enriched]
        ),
        "filters": plain.write(filtered),
        "key": None if key is None else plain.template(key),
        "tolerance": "all",
    }
    general = transform(fast=False, **keys)
    wide, narrow = transform(**keys), transform(**keys)
    texts = [plain.write(row).encode() for row in rows]
    narrow(page_of((texts * WARM)[:WARM]))
    for row, text in zip(rows, texts, strict=True):
        try:
            wanted: Any = plain.transformed(
                row, mappings=mapped, enrichment=enriched, filters=filtered, key=key
            )
        except plain.Bad:
            wanted = "bad"
        except plain.Unknown:
            wanted = "unknown"
        found = [outcome(made(page_of([text]))) for made in (general, wide, narrow)]
        assert found[0] == found[1] == found[2]
        if wanted != "unknown":
            assert found[0] == wanted


def outcome(parcel: Any) -> Any:
    """What became of the one record of a page, as the interpreter says it."""
    assert parcel.balanced
    if parcel.letters:
        return "bad"
    if parcel.filtered:
        return None
    (value,) = parcel.values
    key = parcel.keys[0] if parcel.keys else None
    return bytes(value).decode(), None if key is None else key.decode()
