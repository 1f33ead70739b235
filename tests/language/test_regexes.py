"""Regexes: what explodes on a hostile sample is refused at load."""

from __future__ import annotations

import time

import pytest

from engine.language import LanguageError, compile_regex


@pytest.mark.parametrize(
    "text",
    [
        "(a+)+$",
        "(a|aa)+$",
        "(x+x+)+y",
        "([a-z]+)*[0-9]",
        r"(\d+)*[a-z]",
        "(.*)*z",
        "(a?){60}a{60}",
    ],
)
def test_endless_backtracking_is_refused_in_time(text: str) -> None:
    begin = time.monotonic()

    with pytest.raises(LanguageError, match="backtrack"):
        compile_regex(text)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("text", "column"), [("(", 1), ("a)", 2), ("[z-a]", 2), ("*", 1), ("a{2,1}", 3)]
)
def test_what_is_no_expression_names_its_column(text: str, column: int) -> None:
    with pytest.raises(LanguageError) as caught:
        compile_regex(text)

    assert column == caught.value.column


@pytest.mark.parametrize(
    "text",
    [
        r"[a-z]+@[a-z]+\.[a-z]{2,}",
        r".+@.+",
        r"\d{4}-\d{2}-\d{2}",
        r"(foo|bar)*baz?",
        r"[A-Z][a-z]*( [A-Z][a-z]*)*",
        "",
    ],
)
def test_what_people_write_passes(text: str) -> None:
    assert compile_regex(text).pattern == text
