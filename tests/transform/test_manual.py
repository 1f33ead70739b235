"""The manual's examples of rules and templates, each of them run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from engine.config import load
from engine.records import Shard
from engine.task.build.registry import Registries
from engine.task.build.transform import transform_of
from engine.transform.loops import WARM
from tests.transform.pages import columns, page_of, transform

DOCS = Path(__file__).parents[2] / "docs"
BASE = """
name=orders
http.source.url=https://api.example.com/v1/things
kafka.topic=things
bootstrap.servers=127.0.0.1:9092
errors.tolerance=all
"""


def fences(name: str) -> list[tuple[str, str, int]]:
    """Info string, content and line of each fence of a page."""
    text = (DOCS / name).read_text()
    return [
        (found[1], found[2], text.count("\n", 0, found.start()) + 1)
        for found in re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE)
    ]


def examples() -> list[Any]:
    rows = fences("transformation.md")
    found = []
    for rules, given, wanted in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        kinds = (rules[0], given[0], wanted[0])
        assert kinds == ("properties", "json in", "json out"), f"line {rules[2]}"
        found.append(pytest.param(rules[1], given[1], wanted[1], id=f"line-{rules[2]}"))
    return found


@pytest.mark.parametrize(("rules", "given", "wanted"), examples())
def test_an_example_of_the_rules_does_what_it_says(
    rules: str, given: str, wanted: str, tmp_path: Path
) -> None:
    base, path = tmp_path / "base.properties", tmp_path / "example.properties"
    base.write_text(BASE)
    path.write_text(rules)
    connector = load([base, path]).connectors[0]
    records = [line.encode() for line in given.splitlines()]
    expected = wanted.splitlines()
    assert len(records) == len(expected)

    def made() -> Any:
        shard = Shard(connector.name, "api1")
        return transform_of(
            connector,
            connector.apis[0],
            shard,
            zone="UTC",
            registries=Registries(connector),
        )

    # Each alone, since a parcel does not say which record was filtered.
    for record, line in zip(records, expected):
        for warm in (False, True):
            compiled = made()
            if warm:
                compiled(page_of([record] * WARM))
            parcel = compiled(page_of([record]))
            if line == "filtered":
                assert parcel.filtered == 1, record
            elif line == "bad record":
                assert len(parcel.letters) == 1, record
            else:
                assert columns(parcel)["values"] == [line.encode()], record


def record() -> bytes:
    (found,) = (content for info, content, _ in fences("template-language.md"))
    # As an API writes it: numbers as they stand here, without blanks.
    value = json.loads(found, parse_float=lambda text: f"@{text}@")
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub('"@(.*?)@"', r"\1", text).encode()


def expressions() -> list[Any]:
    text = (DOCS / "template-language.md").read_text()
    found = []
    for block in text.split("| expression | gives |\n|---|---|\n")[1:]:
        for line in block.split("\n\n")[0].splitlines():
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            expression, gives = (cell.strip().replace("\\|", "|") for cell in cells)
            assert expression[0] == "`" == expression[-1]
            found.append(pytest.param(expression[1:-1], gives.strip("`")))
    return found


@pytest.mark.parametrize(("expression", "gives"), expressions())
def test_a_row_of_the_template_language_gives_what_it_says(
    expression: str, gives: str
) -> None:
    for fast in (False, True):
        made = transform(
            mappings=[{"source": "gone", "target": "gone"}],
            enrichment=[{"field": "e", "expression": expression}],
            tolerance="all",
            fast=fast,
        )
        parcel = made(page_of([record()]))
        if gives == "bad record":
            assert len(parcel.letters) == 1
        else:
            (value,) = parcel.values
            assert bytes(value or b"").decode() == '{"e":' + gives + "}"


def test_the_manual_has_an_example_of_every_type_operator_check_and_function() -> None:
    from engine.language.functions import functions
    from engine.language.rules import (
        CHECKS,
        MAPPING_TYPES,
        OPERATORS,
        VALIDATION_TYPES,
    )
    from engine.language.times import UTC

    rules = "".join(each[1] for each in fences("transformation.md"))
    for word in {*MAPPING_TYPES, *VALIDATION_TYPES, *OPERATORS}:
        assert f'"{word}"' in rules, word
    for word in CHECKS:
        assert f'"{word}":' in rules, word
    rows = " ".join(each.values[0] for each in expressions())
    for name in [*functions(UTC), "if", "coalesce"]:
        assert f"{name}(" in rows, name
