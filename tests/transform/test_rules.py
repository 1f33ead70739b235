"""Rules: the tables of mappings, enrichment, filters and validation, row by row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.errors import ConfigError, RecordError
from tests.transform.pages import run, texts, transform


def mapped(value: bytes, **rule: Any) -> str:
    """The one field of a record after a mapping, as JSON text."""
    rules = json.dumps([{"source": "v", "target": "o", **rule}])
    text = texts(run([b'{"v":' + value + b"}"], mappings=rules))[0]
    return text.removeprefix('{"o":').removesuffix("}")


BAD = object()


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (None, b"1.50", "1.50"),
        (None, b"1E400", "1E400"),
        (None, b"-0", "-0"),
        (None, b"1" * 5000, "1" * 5000),
        (None, b'"\\/\\u00e9"', '"\\/\\u00e9"'),
        (None, b'{ "a" : [ 1 ] }', '{ "a" : [ 1 ] }'),
        (None, b'{"b":1,"a":2}', '{"b":1,"a":2}'),
        ("STRING", b'"x"', '"x"'),
        ("STRING", b"7", '"7"'),
        (
            "STRING",
            b"123456789012345678901234567890",
            '"123456789012345678901234567890"',
        ),
        ("STRING", b"1" * 4500, f'"{"1" * 4500}"'),
        ("STRING", b"1.50", '"1.50"'),
        ("STRING", b"1E3", '"1E3"'),
        ("STRING", b"-0.0", '"-0.0"'),
        ("STRING", b"true", '"true"'),
        ("STRING", b"false", '"false"'),
        ("STRING", b'{ "a" : 1.50 }', '"{\\"a\\":1.50}"'),
        ("STRING", b"[ 1, 2 ]", '"[1,2]"'),
        ("INTEGER", b'"12"', "12"),
        ("INTEGER", b'" +12 "', "12"),
        ("INTEGER", b'"-12.00"', "-12"),
        ("INTEGER", b'"12."', "12"),
        ("INTEGER", b'"0012"', "12"),
        ("INTEGER", b'"12.5"', BAD),
        ("INTEGER", b'"1e3"', BAD),
        ("INTEGER", b'"x"', BAD),
        ("INTEGER", b'""', BAD),
        ("INTEGER", '"\u0661"'.encode(), BAD),
        ("INTEGER", b'"1_000"', BAD),
        ("INTEGER", b"2147483647", "2147483647"),
        ("INTEGER", b"-2147483648", "-2147483648"),
        ("INTEGER", b"2147483648", BAD),
        ("INTEGER", b'"2147483648"', BAD),
        ("INTEGER", b"12.0", "12"),
        ("INTEGER", b"1e3", "1000"),
        ("INTEGER", b"12.5", BAD),
        ("INTEGER", b"1e999999", BAD),
        ("INTEGER", b"1e10", BAD),
        ("INTEGER", b"true", BAD),
        ("INTEGER", b"{}", BAD),
        ("INTEGER", b"[]", BAD),
        ("LONG", b"9223372036854775807", "9223372036854775807"),
        ("LONG", b"9223372036854775808", BAD),
        ("LONG", b"-9223372036854775808", "-9223372036854775808"),
        ("LONG", b'"9223372036854775807"', "9223372036854775807"),
        ("LONG", b"9007199254740993.0", "9007199254740993"),
        ("LONG", b"1e18", "1000000000000000000"),
        ("LONG", b"false", BAD),
        ("DOUBLE", b"1.5", "1.5"),
        ("DOUBLE", b"3", "3.0"),
        ("DOUBLE", b"-0", "0.0"),
        ("DOUBLE", b"-0.0", "-0.0"),
        ("DOUBLE", b"1e-400", "0.0"),
        ("DOUBLE", b'"+1.5e3"', "1500.0"),
        ("DOUBLE", b'"1.5"', "1.5"),
        ("DOUBLE", b'" 1.5"', BAD),
        ("DOUBLE", b'"NaN"', BAD),
        ("DOUBLE", b'"Infinity"', BAD),
        ("DOUBLE", b'".5"', BAD),
        ("DOUBLE", b"1e400", BAD),
        ("DOUBLE", b'"1e400"', BAD),
        ("DOUBLE", b"1" * 400, BAD),
        ("DOUBLE", b"9007199254740993", "9007199254740992.0"),
        ("DOUBLE", b"true", BAD),
        ("DOUBLE", b"{}", BAD),
        ("DOUBLE", b"[1]", BAD),
        ("BOOLEAN", b"true", "true"),
        ("BOOLEAN", b'"TRUE"', "true"),
        ("BOOLEAN", b'"False"', "false"),
        ("BOOLEAN", b'"1"', "true"),
        ("BOOLEAN", b'"0"', "false"),
        ("BOOLEAN", b'"yes"', BAD),
        ("BOOLEAN", b"1", "true"),
        ("BOOLEAN", b"0", "false"),
        ("BOOLEAN", b"2", BAD),
        ("BOOLEAN", b"1.0", BAD),
        ("BOOLEAN", b"{}", BAD),
        ("BOOLEAN", b"[]", BAD),
        ("TIMESTAMP", b'"2024-01-02T03:04:05Z"', "1704164645000"),
        ("TIMESTAMP", b'"2024-01-02T03:04:05.678Z"', "1704164645678"),
        ("TIMESTAMP", b"1704164645", "1704164645000"),
        ("TIMESTAMP", b"1704164645.5", "1704164645500"),
        ("TIMESTAMP", b"-1700000000.5", "-1700000000500"),
        ("TIMESTAMP", b'"2024-W01-2T03:04:05Z"', BAD),
        ("TIMESTAMP", b'"20240102T030405.123Z"', BAD),
        ("TIMESTAMP", b'"soon"', BAD),
        ("TIMESTAMP", b"true", BAD),
        ("TIMESTAMP", b"{}", BAD),
        ("TIMESTAMP", b"[1]", BAD),
        ("OBJECT", b'{ "a": 1.50 }', '{ "a": 1.50 }'),
        ("OBJECT", b'"{\\"a\\": 1.50}"', '{"a": 1.50}'),
        ("OBJECT", b'"{"', BAD),
        ("OBJECT", b'"[1]"', BAD),
        ("OBJECT", b"1", BAD),
        ("OBJECT", b"1.5", BAD),
        ("OBJECT", b"true", BAD),
        ("OBJECT", b"[]", BAD),
        ("ARRAY", b"[ 1.50 ]", "[ 1.50 ]"),
        ("ARRAY", b'"[1, 2]"', "[1, 2]"),
        ("ARRAY", b'"[1"', '["[1"]'),
        ("ARRAY", b'"x"', '["x"]'),
        ("ARRAY", b"1", "[1]"),
        ("ARRAY", b"1.50", "[1.50]"),
        ("ARRAY", b"true", "[true]"),
        ("ARRAY", b'{"a":1}', '[{"a":1}]'),
    ],
)
def test_each_type_makes_of_each_kind_what_the_table_says(
    kind: str | None, value: bytes, expected: object
) -> None:
    rule = {} if kind is None else {"type": kind}
    if expected is BAD:
        with pytest.raises(RecordError) as caught:
            mapped(value, **rule)
        assert "map" == caught.value.stage
        assert "transformation.field.mappings[0]" == caught.value.rule
    else:
        assert expected == mapped(value, **rule)


def test_a_timestamp_with_a_format_reads_that_pattern_only() -> None:
    rule = {"type": "TIMESTAMP", "format": "dd.MM.yyyy"}

    assert "1704153600000" == mapped(b'"02.01.2024"', **rule)
    with pytest.raises(RecordError):
        mapped(b'"2024-01-02"', **rule)


def test_a_default_stands_for_missing_and_null_and_hides_no_failure() -> None:
    rules = json.dumps(
        [{"source": "v", "target": "o", "type": "INTEGER", "default": "none"}]
    )
    rows = [b"{}", b'{"v":null}', b'{"v":7}', b'{"v":"x"}']

    parcel = run(rows, mappings=rules, tolerance="all")

    assert ['{"o":"none"}', '{"o":"none"}', '{"o":7}'] == texts(parcel)
    assert [3] == [letter.index for letter in parcel.letters]


def test_a_default_of_any_kind_is_as_given() -> None:
    for given in ("1.50", '"x"', "null", "[1,2.0]", '{"a":1}', "true"):
        rules = f'[{{"source":"v","target":"o","default":{given}}}]'
        assert [f'{{"o":{given}}}'] == texts(run([b"{}"], mappings=rules))


@pytest.mark.parametrize(
    ("nulls", "expected"), [("SKIP", "{}"), ("KEEP", '{"o":null}'), ("FAIL", None)]
)
def test_null_without_default_is_handled_as_the_key_says(
    nulls: str, expected: str | None
) -> None:
    for kind in ({}, {"type": "STRING"}, {"type": "DOUBLE"}, {"type": "OBJECT"}):
        rules = json.dumps([{"source": "v", "target": "o", **kind}])
        if expected is None:
            with pytest.raises(RecordError, match="null"):
                run([b'{"v":null}'], mappings=rules, nulls=nulls)
        else:
            found = texts(run([b'{"v":null}'], mappings=rules, nulls=nulls))
            assert [expected] == found
        assert ["{}"] == texts(run([b"{}"], mappings=rules, nulls=nulls))


def test_targets_keep_the_order_of_the_mappings_and_nest() -> None:
    rules = json.dumps(
        [
            {"source": "c", "target": "z"},
            {"source": "a", "target": "in.side.a"},
            {"source": "b", "target": "'dotted.name'"},
            {"source": "d", "target": "in.d"},
            {"source": "missing", "target": "empty.x"},
        ]
    )
    row = {"a": 1, "b": 2, "c": 3, "d": 4}

    assert ['{"z":3,"in":{"side":{"a":1},"d":4},"dotted.name":2}'] == texts(
        run([row], mappings=rules)
    )


def test_an_empty_target_makes_the_value_the_whole_record() -> None:
    rules = '[{"source": "a.b", "target": ""}]'

    assert ["1.50", '"x"', "[ 1 ]"] == texts(
        run(
            [b'{"a":{"b":1.50}}', b'{"a":{"b":"x"}}', b'{"a":{"b":[ 1 ]}}'],
            mappings=rules,
        )
    )
    with pytest.raises(RecordError, match="nothing is left"):
        run([{}], mappings=rules)


def test_unmapped_fields_follow_only_where_they_are_kept() -> None:
    rules = '[{"source": "b", "target": "x"}, {"source": "c.d", "target": "a"}]'
    row = b'{"a": 0, "b": 1, "c": {"d": 2, "e": 3}, "f": 1.50}'

    assert ['{"x":1,"a":2}'] == texts(run([row], mappings=rules))
    assert ['{"x":1,"a":2,"f":1.50}'] == texts(
        run([row], mappings=rules, unmapped="KEEP")
    )


def test_the_founding_example_gives_exactly_that() -> None:
    rules = '[{"source": "id", "target": "record_id", "type": "STRING"}]'

    assert ['{"record_id":"7"}'] == texts(run([{"id": 7, "x": 1}], mappings=rules))


def test_duplicate_members_give_the_last() -> None:
    rules = '[{"source": "a", "target": "a"}]'

    assert ['{"a":2}'] == texts(run([b'{"a":1,"a":2}'], mappings=rules))


@pytest.mark.parametrize(
    ("rules", "place"),
    [
        ('[{"source": "a"}]', "mappings[0]"),
        ('[{"source": "a", "target": "b", "x": 1}]', "mappings[0]"),
        ('[{"source": "a", "target": "b", "type": "TEXT"}]', "mappings[0]"),
        ('[{"source": "a..b", "target": "b"}]', "column 3"),
        ('[{"source": "a", "target": "b[0]"}]', "no index"),
        ('[{"source": "a", "target": "/b"}]', "dotted path"),
        ('[{"source":"a","target":"b"},{"source":"c","target":"b"}]', "mappings[1]"),
        ('[{"source":"a","target":"b"},{"source":"c","target":"b.c"}]', "mappings[1]"),
        ('[{"source":"a","target":"b.c"},{"source":"c","target":"b"}]', "mappings[1]"),
        ('[{"source":"a","target":""},{"source":"c","target":"b"}]', "empty target"),
        ('[{"source":"a","target":"b","format":"yyyy"}]', "TIMESTAMP"),
        (
            '[{"source":"a","target":"b","type":"TIMESTAMP","format":"qq"}]',
            "date pattern",
        ),
        ('{"source": "a", "target": "b"}', "array"),
        ("[1]", "JSON object"),
        ("[", "mappings"),
    ],
)
def test_a_mapping_that_is_wrong_is_refused_at_load(rules: str, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        transform(mappings=rules)

    assert place in str(caught.value)
    assert "transformation.field.mappings" in str(caught.value)


def test_all_findings_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        transform(
            mappings='[{"source": "a", "target": "a"}, {"source": "a..", "target": "b"}]',
            enrichment='[{"field": "x", "expression": "${"}]',
            filters='[{"field": "x", "operator": "LIKE"}]',
            validation='[{"field": "x"}]',
        )

    for place in (
        "field.mappings[1]",
        "enrichment.rules[0]",
        "filter.expressions[0]",
        "validation.rules[0]",
    ):
        assert place in str(caught.value)


# -- enrichment


def test_each_rule_sees_the_record_as_the_one_before_left_it() -> None:
    rules = json.dumps(
        [
            {"field": "a", "value": "static", "type": "STATIC"},
            {"field": "b", "expression": "${a}-${id}"},
            {"field": "id", "expression": "${id + 1}", "type": "EXPRESSION"},
            {"field": "c.d", "expression": "${id}"},
            {"field": "n", "expression": "${missing}"},
            {"field": "o", "value": {"k": [1]}},
        ]
    )

    assert [
        '{"id":8,"a":"static","b":"static-7","c":{"d":8},"n":null,"o":{"k":[1]}}'
    ] == texts(run([{"id": 7}], enrichment=rules))


def test_a_lone_expression_keeps_its_type_and_its_text() -> None:
    rules = '[{"field":"x","expression":"${v}"},{"field":"y","expression":"v=${v}"}]'

    assert ['{"v":1.50,"x":1.50,"y":"v=1.50"}'] == texts(
        run([b'{"v":1.50}'], enrichment=rules)
    )
    assert ['{"v":{"a":1},"x":{"a":1},"y":"v={\\"a\\":1}"}'] == texts(
        run([b'{"v":{"a":1}}'], enrichment=rules)
    )


def test_enrichment_and_validation_have_a_switch_each() -> None:
    keys: dict[str, Any] = {
        "enrichment": '[{"field": "x", "value": 1}]',
        "validation": '[{"field": "y", "required": true}]',
    }

    with pytest.raises(RecordError):
        run([{"a": 1}], **keys)
    assert ['{"a":1,"x":1}'] == texts(run([{"a": 1}], **keys, validation_enabled=False))
    with pytest.raises(RecordError):
        run([{"a": 1}], **keys, enrichment_enabled=False)
    off = run(
        [b'{ "a" : 1 }'], **keys, enrichment_enabled=False, validation_enabled=False
    )
    assert ['{ "a" : 1 }'] == texts(off)
    assert ['{ "a" : 1 }'] == texts(run([b'{ "a" : 1 }'], **keys, enabled=False))


def test_a_field_cannot_be_set_within_a_scalar() -> None:
    with pytest.raises(RecordError, match="no object"):
        run([{"a": 1}], enrichment='[{"field": "a.b", "value": 1}]')
    assert ['{"a":{"b":1}}'] == texts(
        run([{"a": None}], enrichment='[{"field": "a.b", "value": 1}]')
    )


# -- filters


def passes(record: bytes, **rule: Any) -> bool:
    parcel = run([record], filters=json.dumps([rule]))
    assert 1 == len(parcel.values) + parcel.filtered
    if parcel.values:
        assert record == bytes(parcel.values[0] or b"")
    return bool(parcel.values)


MISSING, NULL = b"{}", b'{"v":null}'


def v(text: str) -> bytes:
    return b'{"v":' + text.encode() + b"}"


@pytest.mark.parametrize(
    ("operator", "members", "true", "false"),
    [
        (
            "EQUALS",
            {"value": 1},
            ["1", "1.0", '"1"', '"1.00"', "1e0"],
            ["2", '"x"', "true"],
        ),
        ("EQUALS", {"value": "1"}, ["1", '"1"', "1.0"], ['"1.0"', '" 1"', "2"]),
        ("EQUALS", {"value": "x"}, ['"x"'], ['"X"', "1", "null"]),
        ("EQUALS", {"value": None}, ["null"], ["0", '""', "false"]),
        ("EQUALS", {"value": True}, ["true"], ["1", '"true"', "false"]),
        ("EQUALS", {"value": {"a": 1}}, ['{"a":1.0}'], ['{"a":1,"b":2}', "{}"]),
        ("EQUALS", {"value": [1, "x"]}, ['[1,"x"]'], ['["x",1]', "[1]"]),
        ("EQUALS", {"value": 0.1}, ["0.1", "0.10", '"0.1"'], ["0.1000000000000000055"]),
        ("NOT_EQUALS", {"value": 1}, ["2", '"x"', "null"], ["1", "1.0"]),
        ("NOT_EQUALS", {"value": None}, ["0"], ["null"]),
        ("GREATER_THAN", {"value": 5}, ["6", "5.1", "1e9"], ["5", "4", '"6"', "true"]),
        ("GREATER_THAN", {"value": 1.5}, ["2", "1.50000000000000000001"], ["1.5", "1"]),
        ("GREATER_THAN", {"value": "b"}, ['"c"', '"ba"'], ['"b"', '"B"', "9"]),
        (
            "GREATER_THAN",
            {"value": "2024-01-01T12:00:00Z"},
            ['"2024-01-01T12:00:00.001Z"', '"2024-01-01T11:30:00-01:00"'],
            ['"2024-01-01T12:30:00+01:00"', '"2024-01-01T12:00:00Z"'],
        ),
        ("GREATER_EQUAL", {"value": 5}, ["5", "5.0"], ["4.9"]),
        ("GREATER_THAN_OR_EQUAL", {"value": 5}, ["5"], ["4"]),
        ("LESS_THAN", {"value": 5}, ["4", "4.999"], ["5", '"4"']),
        ("LESS_EQUAL", {"value": 5}, ["5"], ["5.1"]),
        ("LESS_THAN_OR_EQUAL", {"value": 5}, ["5"], ["6"]),
        ("BETWEEN", {"min": 1, "max": 3}, ["1", "3", "2.5"], ["0", "4", '"2"']),
        ("IN", {"values": ["a", "b"]}, ['"a"'], ['"c"', "1"]),
        ("IN", {"values": [1, "x", None]}, ["1", "1.0", '"1"', "null"], ["2"]),
        ("IN", {"values": []}, [], ["1"]),
        ("NOT_IN", {"values": ["a", 1]}, ['"c"', "2"], ['"a"', "1.0"]),
        (
            "CONTAINS",
            {"value": "b"},
            ['"abc"', '["b"]'],
            ['"xyz"', '["bb"]', "1", '{"b":1}'],
        ),
        ("CONTAINS", {"value": 1}, ["[1]", "[1.0]", '"a1"'], ["[2]"]),
        ("NOT_CONTAINS", {"value": "b"}, ['"xyz"', '["x"]', "1"], ['"abc"', '["b"]']),
        ("MATCHES", {"value": "[a-z]+"}, ['"abc"'], ['"abc1"', '"1abc"', "{}"]),
        ("REGEX_MATCH", {"value": "[a-z]+"}, ['"abc"'], ['"ABC"']),
        ("EXISTS", {}, ["1", "null"], []),
        ("NOT_EXISTS", {}, [], ["1", "null"]),
        ("IS_NULL", {}, ["null"], ["0", '""', "[]"]),
        ("IS_NOT_NULL", {}, ["0", '""'], ["null"]),
    ],
)
def test_each_operator_holds_as_the_table_says(
    operator: str, members: dict[str, Any], true: list[str], false: list[str]
) -> None:
    rule = {"field": "v", "operator": operator, **members}
    for text in true:
        assert passes(v(text), **rule), text
    for text in false:
        assert not passes(v(text), **rule), text


@pytest.mark.parametrize(
    ("operator", "members", "missing", "null"),
    [
        ("EQUALS", {"value": 1}, False, False),
        ("NOT_EQUALS", {"value": 1}, True, True),
        ("EQUALS", {"value": None}, False, True),
        ("NOT_EQUALS", {"value": None}, True, False),
        ("GREATER_THAN", {"value": 1}, False, False),
        ("GREATER_EQUAL", {"value": 1}, False, False),
        ("LESS_THAN", {"value": 1}, False, False),
        ("LESS_EQUAL", {"value": 1}, False, False),
        ("BETWEEN", {"min": 0, "max": 1}, False, False),
        ("IN", {"values": [1]}, False, False),
        ("NOT_IN", {"values": [1]}, True, True),
        ("CONTAINS", {"value": "a"}, False, False),
        ("NOT_CONTAINS", {"value": "a"}, True, True),
        ("MATCHES", {"value": ".*"}, False, False),
        ("EXISTS", {}, False, True),
        ("NOT_EXISTS", {}, True, False),
        ("IS_NULL", {}, True, True),
        ("IS_NOT_NULL", {}, False, False),
    ],
)
def test_missing_and_null_answer_as_the_table_says(
    operator: str, members: dict[str, Any], missing: bool, null: bool
) -> None:
    rule = {"field": "v", "operator": operator, **members}

    assert missing is passes(MISSING, **rule)
    assert null is passes(NULL, **rule)


def test_groups_nest_and_all_filters_must_hold() -> None:
    filters = json.dumps(
        [
            {
                "any": [
                    {"field": "a", "operator": "EQUALS", "value": 1},
                    {
                        "all": [
                            {"field": "b", "operator": "EXISTS"},
                            {"not": {"field": "b", "operator": "IS_NULL"}},
                        ]
                    },
                ]
            },
            {"field": "c", "operator": "NOT_EXISTS"},
        ]
    )
    rows = [{"a": 1}, {"b": 1}, {"b": None}, {"a": 1, "c": 1}, {}]

    parcel = run(rows, filters=filters)

    assert ['{"a":1}', '{"b":1}'] == texts(parcel)
    assert 3 == parcel.filtered


def test_a_field_is_looked_up_as_it_now_is_and_then_as_received() -> None:
    keys = {
        "mappings": '[{"source": "a", "target": "b"}]',
        "filters": '[{"field": "b", "operator": "EQUALS", "value": 1},'
        ' {"field": "c", "operator": "EQUALS", "value": 3}]',
    }

    assert ['{"b":1}'] == texts(run([{"a": 1, "b": 9, "c": 3}], **keys))
    assert [] == texts(run([{"a": 9, "b": 1, "c": 3}], **keys))


@pytest.mark.parametrize(
    "rule",
    [
        {"field": "a"},
        {"operator": "EXISTS"},
        {"field": "a", "operator": "LIKE", "value": 1},
        {"field": "a", "operator": "EQUALS"},
        {"field": "a", "operator": "EXISTS", "value": 1},
        {"field": "a", "operator": "IN", "values": "x"},
        {"field": "a", "operator": "MATCHES", "value": "("},
        {"field": "a", "operator": "MATCHES", "value": r"(a)\1"},
        {"field": "a..", "operator": "EXISTS"},
        {"any": []},
        {"any": [{"field": "a", "operator": "EXISTS"}], "field": "b"},
        {"not": [1]},
        [],
    ],
)
def test_a_filter_that_is_wrong_is_refused_at_load(rule: Any) -> None:
    with pytest.raises(ConfigError, match=r"filter\.expressions\[0\]"):
        transform(filters=json.dumps([rule]))


@pytest.mark.parametrize("pattern", ["(_+)+!", "(a|aa)+$", r"(\w+\s?)*!"])
def test_no_record_stops_a_filter_or_a_validation(pattern: str) -> None:
    records = [{"a": sign * 40_000} for sign in ("_", "a", "w ", "é")]
    rule = {"field": "a", "operator": "MATCHES", "value": pattern}

    run(records, filters=json.dumps([rule]))
    checks = [{"field": "a", "pattern": pattern}]
    run(records, validation=json.dumps(checks), tolerance="all")


def test_a_text_too_long_for_its_expression_is_a_bad_record() -> None:
    pattern = "(?:[ab]{0,900}c|[ab]{0,900}d)*x"
    rule = {"field": "a", "operator": "MATCHES", "value": pattern}

    with pytest.raises(RecordError, match="too long for this expression"):
        run([{"a": "a" * 2_000_000}], filters=json.dumps([rule]))


def test_filters_nest_32_deep_and_no_deeper() -> None:
    rule: Any = {"field": "a", "operator": "EXISTS"}
    for _ in range(31):
        rule = {"not": rule}
    assert [] == texts(run([{"a": 1}], filters=json.dumps([rule])))

    with pytest.raises(ConfigError, match="32"):
        transform(filters=json.dumps([{"not": rule}]))


# -- validation


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ({"required": True}, ["1", '""'], ["null"]),
        ({"type": "NUMERIC"}, ["1", "1.5", "null"], ['"1"', "true", "[]"]),
        ({"type": "STRING"}, ['"x"', "null"], ["1", "{}"]),
        ({"type": "INTEGER"}, ["1", "1.0", "null"], ["1.5", '"1"', "true"]),
        ({"type": "BOOLEAN"}, ["true"], ["1", '"true"']),
        ({"type": "OBJECT"}, ["{}"], ["[]", '"{}"']),
        ({"type": "ARRAY"}, ["[]"], ["{}", "1"]),
        (
            {"type": "TIMESTAMP"},
            ['"2024-01-02"', "1700000000", '"1700000000"'],
            ['"soon"', "true", "[]"],
        ),
        ({"min": 1, "max": 2.5}, ["1", "2.5"], ["0", "2.51", '"2"']),
        ({"minLength": 2}, ['"ab"', "[1,2]"], ['"a"', "[1]", "12"]),
        ({"maxLength": 2}, ['"ab"', '"\u00e9\u00e9"', "[]"], ['"abc"', "[1,2,3]"]),
        ({"pattern": "[a-z]+"}, ['"abc"'], ['"abc1"', "[]"]),
        ({"values": ["a", 1]}, ['"a"', "1", "1.0"], ['"b"', "2"]),
        ({"required": False, "minLength": 1}, ["null", '"a"'], ['""']),
    ],
)
def test_each_check_fails_as_it_says(
    rule: dict[str, Any], good: list[str], bad: list[str]
) -> None:
    rules = json.dumps([{"field": "v", **rule}])
    for text in good:
        assert 1 == len(run([v(text)], validation=rules).values), text
    for text in bad:
        with pytest.raises(RecordError) as caught:
            run([v(text)], validation=rules)
        assert "validate" == caught.value.stage, text
        assert "transformation.validation.rules[0]" == caught.value.rule


def test_a_missing_field_passes_all_but_required() -> None:
    loose = '[{"field": "v", "type": "NUMERIC", "min": 1, "values": [1]}]'
    strict = '[{"field": "v", "required": true}]'

    assert ["{}"] == texts(run([b"{}"], validation=loose))
    with pytest.raises(RecordError, match="v is missing"):
        run([b"{}"], validation=strict)


def test_the_first_failing_rule_is_named_and_no_value_is() -> None:
    rules = (
        '[{"field": "a", "required": true}, {"field": "b", "pattern": "[0-9]*"},'
        ' {"field": "c", "required": true}]'
    )
    with pytest.raises(RecordError) as caught:
        run([{"a": 1, "b": "hunter2"}], validation=rules)

    assert "transformation.validation.rules[1]" == caught.value.rule
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"field": "a"},
        {"field": "a", "type": "DATE"},
        {"field": "a", "required": "yes"},
        {"field": "a", "min": "1"},
        {"field": "a", "minLength": -1},
        {"field": "a", "maxLength": 1.5},
        {"field": "a", "pattern": "("},
        {"field": "a", "values": 1},
        {"field": "a", "max": True},
        {"field": "a", "unknown": 1},
    ],
)
def test_a_check_that_is_wrong_is_refused_at_load(rule: Any) -> None:
    with pytest.raises(ConfigError, match=r"validation\.rules\[0\]"):
        transform(validation=json.dumps([rule]))
