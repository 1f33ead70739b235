"""Pagination types: declared once, walked by one class, spelt nowhere else."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from engine.config.keys import TABLE
from engine.config.pagination import TYPES, types_of
from engine.config.sections.offsets import MODES
from engine.source.paging.paginator import PAGERS

ENGINE = Path(__file__).parent.parent.parent / "engine"

#: Words that mean a type wherever they stand; the others are names of templates, too.
ONLY_TYPES = set(TYPES) - {"none", "offset", "page", "cursor"}

#: What other connectors call things is translated word by word.
TRANSLATED = "config/foreign/"


@cache
def spelt() -> dict[str, set[str]]:
    """The files that spell each type, as a text of its own."""
    found = defaultdict(set)
    for path in ENGINE.rglob("*.py"):
        name = str(path.relative_to(ENGINE))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in ONLY_TYPES:
                found[str(node.value)].add(name)
    return found


def test_every_type_has_one_pager():
    assert set(TYPES) == set(PAGERS)
    assert len(TYPES) == len(set(PAGERS.values()))


@pytest.mark.parametrize("name", sorted(ONLY_TYPES))
def test_a_type_is_spelt_in_its_declaration_and_its_pager(name):
    files = {file for file in spelt()[name] if not file.startswith(TRANSLATED)}

    assert "config/pagination.py" in files
    assert 2 == len(files), files
    assert all(file.startswith(("config/", "source/paging/")) for file in files)


@pytest.mark.parametrize("name", TYPES)
def test_a_type_names_keys_that_there_are(name):
    kind = TYPES[name]
    keys = {kind.first, kind.told_by, *kind.needs} - {""}
    keys |= {f"pagination.{kind.asks}.param"} if kind.asks else set()

    assert keys <= set(TABLE)


@pytest.mark.parametrize("name", TYPES)
def test_a_type_pages_in_one_way(name):
    kind = TYPES[name]

    assert 1 >= kind.addressable + kind.chained + kind.by_record
    assert kind.pages is (name != "none")
    assert kind.links is (kind.chained and not kind.asks)
    assert set(kind.modes) <= set(MODES)


def test_a_mode_that_no_type_names_goes_with_all():
    assert tuple(TYPES) == types_of("FULL")
    assert ("keyset",) == types_of("CHAINING")
    assert "cursor" == types_of("CURSOR_PAGINATION")[0]
