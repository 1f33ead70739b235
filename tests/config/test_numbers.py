"""Numbers in rules keep their text from the file to the rule."""

from __future__ import annotations

import pytest

from engine.language.values import encode
from tests.config.conftest import Files


@pytest.mark.parametrize(
    "number",
    ["12345678.1234567891", "1e400", "-1E-400", "1.50", "-0", "-0.0", "7" * 300],
)
def test_a_rule_holds_the_number_that_was_written(files: Files, number: str) -> None:
    for key, rule in (
        ("enrichment.rules", '{"field":"a","value":N}'),
        ("field.mappings", '{"source":"a","target":"b","default":N}'),
        ("filter.expressions", '{"field":"a","operator":"EQUALS","value":N}'),
        ("validation.rules", '{"field":"a","min":N}'),
        ("validation.rules", '{"field":"a","values":[N,{"x":N}]}'),
    ):
        text = f"[{rule}]".replace("N", number)
        value = files.value(f"transformation.{key}={text}", f"transformation.{key}")
        assert encode(value) == text.encode()


def test_bounds_are_compared_as_they_are_written(files: Files) -> None:
    rule = '[{"field":"a","min":0.12345678901234567891,"max":0.1234567890123456789}]'
    (found,) = files.errors(f"transformation.validation.rules={rule}")
    assert "min is above max" in found.message


def test_a_quoted_hyphen_is_not_warned_of(files: Files) -> None:
    for key in ("${record.'a-b'}", "${a - b}", "${a-1}", "${response.header.X-Total}"):
        found = files.load(f"kafka.key={key}").findings
        assert not [each for each in found if "quote it" in each.message], key
