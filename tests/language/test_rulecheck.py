"""One reading of rules: what the configuration refuses, the transformation refuses too."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from engine.config import shapes
from engine.config.kinds import InvalidValue
from engine.errors import ConfigError
from engine.language import LanguageError, decode
from engine.language.rulecheck import (
    RuleFault,
    condition_faults,
    enrichment_faults,
    filter_faults,
    mapping_faults,
    validation_faults,
)
from engine.transform.conditions import compile_condition
from engine.transform.rules import compile_rules

HERE: Any = "rule {}".format
EXISTS = {"field": "a", "operator": "EXISTS"}
DEEP: Any = EXISTS
for _ in range(32):
    DEEP = {"not": DEEP}

#: Key of `compile_rules`, its checks, and lists of rules with the places of their faults.
LISTS: dict[str, tuple[Callable[..., list[RuleFault]], Callable[[object], None]]] = {
    "mappings": (mapping_faults, shapes.mappings),
    "enrichment": (enrichment_faults, shapes.enrichment),
    "filters": (filter_faults, shapes.filters),
    "validation": (validation_faults, shapes.validation),
}
GOOD: list[tuple[str, list[Any]]] = [
    ("mappings", []),
    ("mappings", [{"source": "", "target": ""}]),
    ("mappings", [{"source": "/a/0", "target": "b.c", "type": "timestamp"}]),
    (
        "mappings",
        [{"source": "a", "target": "t", "type": "TIMESTAMP", "format": "yyyy"}],
    ),
    ("enrichment", [{"field": "a", "value": None}]),
    ("enrichment", [{"field": "a", "expression": "${a}-${b}", "type": "Expression"}]),
    ("filters", [EXISTS, {"any": [EXISTS, {"not": EXISTS}]}]),
    ("filters", [{"field": "a", "operator": "greater-than-or-equal", "value": 1.5}]),
    ("filters", [{"field": "a", "operator": "IN", "values": []}]),
    ("filters", [{"field": "a", "operator": "BETWEEN", "min": "a", "max": 2}]),
    ("validation", [{"field": "a", "min": 1.5, "max": 2, "values": [1]}]),
    ("validation", [{"field": "a", "required": False, "type": "numeric"}]),
]
#: The rules, the places of what is wrong, and a part of the first message.
WRONG: list[tuple[str, Any, list[int | None], str]] = [
    ("mappings", {"source": "a", "target": "b"}, [None], "a JSON array"),
    ("mappings", [1], [0], "a JSON object is expected"),
    ("mappings", [{}], [0, 0], "source is missing"),
    ("mappings", [{"source": "a", "traget": "b"}], [0], "unknown member 'traget'"),
    ("mappings", [{"source": 1, "target": "b"}], [0], "source must be a path"),
    ("mappings", [{"source": "a..", "target": "b"}], [0], "source"),
    ("mappings", [{"source": "a", "target": "b[0]"}], [0], "names only"),
    ("mappings", [{"source": "a", "target": "/b"}], [0], "dotted"),
    ("mappings", [{"source": "a", "target": "b", "type": "INT"}], [0], "'INT'"),
    ("mappings", [{"source": "a", "target": "b", "type": 1}], [0], "type 1"),
    ("mappings", [{"source": "a", "target": "b", "format": "yyyy"}], [0], "TIMESTAMP"),
    (
        "mappings",
        [{"source": "a", "target": "b", "type": "TIMESTAMP", "format": ""}],
        [0],
        "date pattern",
    ),
    (
        "mappings",
        [{"source": "a", "target": "b"}, {"source": "c", "target": "b"}],
        [1],
        "rules 0 and 1 have the same target 'b'",
    ),
    (
        "mappings",
        [{"source": "a", "target": "b.c"}, {"source": "c", "target": "b"}],
        [0],
        "lies inside 'b' of rule 1",
    ),
    (
        "mappings",
        [{"source": "a", "target": "b"}, {"source": "c", "target": ""}],
        [1],
        "single mapping",
    ),
    ("enrichment", [{}], [0, 0], "field is missing"),
    ("enrichment", [{"field": "", "value": 1}], [0], "must be a path"),
    ("enrichment", [{"field": "a", "value": 1, "expression": "x"}], [0], "unknown"),
    ("enrichment", [{"field": "a", "type": "STATIC"}], [0], "value is missing"),
    ("enrichment", [{"field": "a", "value": 1, "type": "X"}], [0], "'X'"),
    ("enrichment", [{"field": "a", "expression": 1}], [0], "must be text"),
    ("enrichment", [{"field": "a", "expression": "${"}], [0], "rule 0"),
    ("filters", [EXISTS, {"field": "a"}], [1], "operator is missing"),
    ("filters", [{"field": "a", "operator": "LIKE"}], [0], "'LIKE'"),
    ("filters", [{"operator": "EXISTS"}], [0], "field is missing"),
    ("filters", [{"field": "a", "operator": "EQUALS"}], [0], "value is missing"),
    ("filters", [{"field": "a", "operator": "IN", "values": "x"}], [0], "a list"),
    ("filters", [{"field": "a", "operator": "MATCHES", "value": "("}], [0], "value"),
    ("filters", [{"field": "a", "operator": "MATCHES", "value": 1}], [0], "regular"),
    ("filters", [{"any": []}], [0], "any holds a list"),
    ("filters", [{"any": [EXISTS], "field": "a"}], [0], "any stands alone"),
    ("filters", [{"all": [1, {}]}], [0, 0], "rule 0: all holds filters"),
    ("filters", [{"not": {"any": [{}]}}], [0], "rule 0.not[0].any[0]: operator"),
    ("filters", [DEEP], [0], "nested deeper than 32"),
    ("validation", [{}], [0], "field is missing"),
    ("validation", [{"field": "a"}], [0], "nothing to check"),
    ("validation", [{"field": "a", "minimum": 1}], [0], "unknown member"),
    ("validation", [{"field": "a", "required": 1}], [0], "required"),
    ("validation", [{"field": "a", "type": "DATE"}], [0], "'DATE'"),
    ("validation", [{"field": "a", "min": "1"}], [0], "min must be a number"),
    ("validation", [{"field": "a", "max": True}], [0], "max must be a number"),
    ("validation", [{"field": "a", "minLength": -1}], [0], "a whole number"),
    ("validation", [{"field": "a", "maxLength": 1.5}], [0], "a whole number"),
    ("validation", [{"field": "a", "min": 2, "max": 1}], [0], "min is above max"),
    ("validation", [{"field": "a", "pattern": "("}], [0], "pattern"),
    ("validation", [{"field": "a", "values": 1}], [0], "values must be a list"),
]


@pytest.mark.parametrize(("key", "rules"), GOOD)
def test_what_is_good_is_good_to_both(key: str, rules: list[Any]) -> None:
    faults, refuse = LISTS[key]

    assert [] == faults(exact(rules), HERE)
    refuse(exact(rules))
    compile_rules(**{key: json.dumps(rules)})


@pytest.mark.parametrize(("key", "rules", "places", "words"), WRONG)
def test_what_is_wrong_is_wrong_to_both(
    key: str, rules: Any, places: list[int | None], words: str
) -> None:
    faults, refuse = LISTS[key]

    found = faults(exact(rules), HERE)

    assert places == [each.item for each in found]
    assert words in found[0].message
    with pytest.raises(InvalidValue) as refused:
        refuse(exact(rules))
    assert [each.message for each in found] == [str(one) for one in refused.value.each]
    assert places == [one.item for one in refused.value.each]
    with pytest.raises(ConfigError) as uncompiled:
        compile_rules(**{key: json.dumps(rules)})
    # Each is called by its key there, and nothing else is said.
    lines = str(uncompiled.value).splitlines()
    assert len(places) == len(lines)
    at = next((place for place in places if place is not None), None)
    assert ("" if at is None else f"[{at}]") in lines[0]


def test_a_word_that_is_misspelt_is_one_mistake_with_what_may_be_meant() -> None:
    [fault] = mapping_faults([{"source": "a", "traget": "b"}], HERE)

    assert "target" == fault.nearest


@pytest.mark.parametrize(
    "rule", [1, [], {}, {"field": "a"}, {"any": []}, {"not": {"field": "a"}}, DEEP]
)
def test_a_condition_by_itself_is_refused_by_both(rule: Any) -> None:
    assert condition_faults(rule)
    with pytest.raises(InvalidValue):
        shapes.condition(rule)
    with pytest.raises(LanguageError):
        compile_condition(rule)


def exact(rules: Any) -> Any:
    """As either side has them: numbers stay as they are written."""
    return decode(json.dumps(rules).encode())
