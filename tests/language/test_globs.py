"""Globs: each wildcard, and no pattern that is slow."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.language import LanguageError, compile_glob, has_wildcards


@pytest.mark.parametrize(
    ("pattern", "candidate", "expected"),
    [
        ("https://api.example.com/[a-m]*", "https://api.example.com/charlie", True),
        ("https://api.example.com/[a-m]*", "https://api.example.com/Charlie", True),
        ("https://api.example.com/[a-m]*", "https://api.example.com/zulu", False),
        ("https://api.example.com/[a-m]*", "https://api.example.com/a/b/c", True),
        ("users/*", "users/1", True),
        ("users/*", "users/", True),
        ("users/*", "users/1/orders", True),
        ("users/*", "users", False),
        ("users/*/orders", "users/1/orders", True),
        ("users/*/orders", "users/1/2/orders", False),
        ("users/**/orders", "users/1/2/orders", True),
        ("**/orders", "a/b/orders", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("a?c", "ac", False),
        ("[abc]x", "bx", True),
        ("[abc]x", "dx", False),
        ("[!a-m]x", "zx", True),
        ("[!a-m]x", "Ax", False),
        ("[!a-m]x", "/x", False),
        ("[]]x", "]x", True),
        ("[a-]x", "-x", True),
        ("[\\]]x", "]x", True),
        ("\\*", "*", True),
        ("\\*", "x", False),
        ("\\[a]", "[a]", True),
        ("a.c", "abc", False),
        ("", "", True),
        ("", "x", False),
        ("*", "", True),
        ("*", "a/b", True),
        ("products/featured", "PRODUCTS/featured", True),
        ("a*b*c", "aXbYc", True),
        ("a*b*c", "aXb/c", False),
        ("a*/b", "ab/b", True),
    ],
)
def test_a_glob_matches_whole_strings(
    pattern: str, candidate: str, expected: bool
) -> None:
    assert expected is compile_glob(pattern)(candidate)


@pytest.mark.parametrize(
    ("pattern", "column"), [("[abc", 1), ("x[", 2), ("[m-a]", 2), ("a\\", 2), ("[]", 1)]
)
def test_a_glob_that_is_none_is_refused(pattern: str, column: int) -> None:
    with pytest.raises(LanguageError) as caught:
        compile_glob(pattern)

    assert column == caught.value.column


def test_only_wildcards_make_a_pattern() -> None:
    assert not has_wildcards("products/featured")
    assert not has_wildcards("a\\*b")
    assert has_wildcards("users/*")
    assert has_wildcards("a?")
    assert has_wildcards("[ab]")


def test_many_stars_are_not_slow() -> None:
    matches = compile_glob("*a" * 40 + "b")

    assert not matches("a" * 2000)


@given(st.text(alphabet="ab*?", max_size=8), st.text(alphabet="abAB", max_size=8))
def test_without_slashes_it_is_what_shells_do(pattern: str, candidate: str) -> None:
    expected = fnmatch.fnmatchcase(candidate.lower(), pattern.lower())

    assert expected is compile_glob(pattern)(candidate)
