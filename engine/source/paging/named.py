"""
Named: which template of a request has no value, in the words of its file.

Owns the keys under which templates of a request stand, and the look for the expression
that is to blame.

Path: `source.paging.request`, `source.jobs` -> here -> `language.templates`
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from engine.errors import SourceError
from engine.language.faults import EvaluationError
from engine.language.nodes import names_of
from engine.language.templates import Template
from engine.language.values import plain
from engine.source.paging.params import PAGE_NAMES


class TemplateKeys(Struct, frozen=True):
    """The keys under which the templates of a request stand in a file."""

    url: str = "http.source.url"
    params: str = "http.source.query.params"
    first_params: str = "pagination.first.query.params"
    body: str = "http.source.body"
    header: str = "http.source.header."


PAGE_KEYS: Final = TemplateKeys()


class TemplatePlace(Struct, frozen=True):
    """
    A template of a request.

    Attributes:
        key: Under which it stands in a file.
        encode: How a value goes into its place.
    """

    key: str
    template: Template
    encode: Callable[[Any], str | None]


def missing_in(
    places: Iterable[TemplatePlace],
    names: frozenset[str],
    scope: Mapping[str, object],
    *,
    later: frozenset[str] = frozenset(),
) -> tuple[str, str] | None:
    """
    The first expression that asks for one of some names and comes to nothing.

    Args:
        scope: What is known by now.
        later: Names of what is not: an expression with one of them, or with one of
            what changes from page to page, is not looked at.

    Returns: its key and its text, or None: all have a value.
    """
    for place in places:
        for part in place.template.parts:
            if isinstance(part, str):
                continue
            asked = names_of(part.node)
            if not asked & names or asked & (PAGE_NAMES | later):
                continue
            try:
                value = plain(part.value(scope))
            except EvaluationError:
                value = None
            if value is None or value == "":
                return place.key, part.text
    return None


def unfit(
    error: EvaluationError,
    places: Iterable[TemplatePlace],
    scope: Mapping[str, object],
) -> SourceError:
    """What to say of a request whose template has no value for its place."""
    for place in places:
        for part in place.template.parts:
            if isinstance(part, str):
                continue
            try:
                place.encode(part.part(scope))
            except EvaluationError as again:
                if str(again) == str(error):
                    return SourceError(
                        f"{place.key}: {part.text} has no fitting value: {error}"
                    )
    return SourceError(f"a template of the request has no fitting value: {error}")
