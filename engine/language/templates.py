"""
Templates: text with `${...}`, compiled once, without eval.

Owns which names hold where, and what a text with expressions in it comes to: its own
value if it is one expression, text otherwise.

Path: `config`, `source`, `transform` -> here -> `language.grammar`, `language.answers`
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, tzinfo
from typing import Any, Final

from engine.language.answers import Lookup, answer, lookup_in
from engine.language.faults import LanguageError
from engine.language.grammar import ExpressionReader
from engine.language.nodes import Node, names_of
from engine.language.paths import LONGEST
from engine.language.values import MISSING, Verbatim, settle, text_of

#: Names that hold in every template.
COMMON_NAMES: Final = frozenset(
    [
        "entityName",
        "parent_value",
        "parent",
        "api",
        "connector",
        "task",
        "now",
        "today",
        "yesterday",
        "uuid",
    ]
)

#: Names of URLs, query parameters, headers and bodies.
REQUEST_NAMES: Final = COMMON_NAMES | {
    "offset",
    "skip",
    "cursor",
    "page",
    "limit",
    "last",
    "parent_response",
    "job",
    "job_url",
    "status",
    "window.start",
    "window.end",
}

#: Names of enrichment, topic, key, timestamp and record headers; with `*`
#: every other name is a path in the record.
RECORD_NAMES: Final = COMMON_NAMES | {
    "record",
    "response",
    "response.header",
    "window.start",
    "window.end",
    "*",
}


class Expression:
    """
    One compiled `${...}` of a template.

    Attributes:
        node: Its tree.
        column: Where it stands in the text, from 1.
        text: As it was written, `${` and `}` included.
    """

    __slots__ = ("_answer", "column", "node", "text")

    def __init__(self, node: Node, column: int, lookup: Lookup, text: str):
        self.node = node
        self.column = column
        self.text = text
        self._answer = answer(node, lookup)

    def value(self, scope: Any) -> Any:
        """
        A JSON value, `Raw` where it is a part of a document as it came.

        Raises: EvaluationError.
        """
        value = self._answer(scope)
        if value is MISSING:
            return None
        return settle(value)

    def part(self, scope: Any) -> Any:
        """As `value`, for a place of a text: what `raw` gives is still known for it."""
        value = self._answer(scope)
        if type(value) is Verbatim:
            return value
        return None if value is MISSING else settle(value)


class Template:
    """
    Text with `${...}` in it, compiled: it is rendered with the names of a scope.

    Attributes:
        text: As it was written.
        parts: Literal text and expressions, in order.
        names: The scope's keys it asks for (`now` for `today`, too).
        lone: True if it is one expression and nothing else.
        constant: True if it holds no expression.
        hyphenated: Names with a hyphen that are not quoted: `a-b` is a field
            and no subtraction, which not everybody means.
    """

    __slots__ = ("constant", "hyphenated", "lone", "names", "parts", "text")

    def __init__(
        self,
        text: str,
        parts: list[str | Expression],
        hyphenated: tuple[str, ...] = (),
    ):
        self.text = text
        self.hyphenated = hyphenated
        self.parts = tuple(parts)
        self.names = frozenset(
            name
            for part in parts
            if isinstance(part, Expression)
            for name in names_of(part.node)
        )
        self.constant = all(isinstance(part, str) for part in parts)
        self.lone = len(parts) == 1 and not self.constant

    @property
    def literal(self) -> str:
        """The text between the expressions; of a constant, all of it."""
        return "".join(part for part in self.parts if isinstance(part, str))

    def bound(self, lookup: Lookup) -> Template:
        """The same template over a scope of another kind."""
        return Template(
            self.text,
            [
                part
                if isinstance(part, str)
                else Expression(part.node, part.column, lookup, part.text)
                for part in self.parts
            ],
            self.hyphenated,
        )

    def value(self, scope: Any) -> Any:
        """
        The value: a lone expression keeps its type, all else is text.

        Null in a part of a text makes the whole null.

        Raises: EvaluationError.
        """
        if self.lone:
            only = self.parts[0]
            assert isinstance(only, Expression)
            return only.value(scope)
        return self.render(scope, text_of)

    def render(self, scope: Any, encode: Callable[[Any], str | None]) -> str | None:
        """
        The text, each expression's value put in by `encode`.

        Returns: None if `encode` gave None for a part: to be left out.

        Raises: EvaluationError.
        """
        pieces = []
        for part in self.parts:
            if isinstance(part, str):
                pieces.append(part)
            else:
                piece = encode(part.part(scope))
                if piece is None:
                    return None
                pieces.append(piece)
        return "".join(pieces)

    def __repr__(self) -> str:
        return f"Template({self.text!r})"


def compile_template(text: str, names: Collection[str], zone: tzinfo = UTC) -> Template:
    """
    Compile text with `${...}`; `$${` is a literal `${`.

    Args:
        names: Roots that hold here, `a.b` for one step of a root only, `*`
            if every other name is a path in the record.
        zone: Of `today`, `${date:}`, and times without offset.

    Raises: LanguageError.
    """
    if len(text) > LONGEST:
        raise LanguageError(f"a template is at most {LONGEST} characters")
    parts: list[str | Expression] = []
    literal: list[str] = []
    hyphenated: list[str] = []
    at = 0
    while True:
        found = text.find("${", at)
        if found < 0:
            literal.append(text[at:])
            break
        if found > at and text[found - 1] == "$":
            literal.append(text[at : found - 1] + "${")
            at = found + 2
            continue
        literal.append(text[at:found])
        if any(literal):
            parts.append("".join(literal))
        literal = []
        reader = ExpressionReader(text, found + 2, names, zone)
        node, at = reader.expression()
        hyphenated += reader.hyphenated
        parts.append(Expression(node, found + 1, lookup_in(zone), text[found:at]))
    if any(literal) or not parts:
        parts.append("".join(literal))
    return Template(text, parts, tuple(dict.fromkeys(hyphenated)))


def compile_expression(
    text: str, names: Collection[str], zone: tzinfo = UTC
) -> Expression:
    """
    Compile one bare expression, without `${` and `}`.

    Raises: LanguageError.
    """
    reader = ExpressionReader(text + "}", 0, names, zone)
    node, end = reader.expression()
    if end != len(text) + 1:
        raise LanguageError("unexpected }", end)
    return Expression(node, 1, lookup_in(zone), text)
