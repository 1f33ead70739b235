"""
Places: how an expression's value goes into a URL, a header, a body.

Owns the encoding of each place.  An encoder takes a JSON value (or `Raw`)
and gives text, or None where the place is to be left out; what a place
cannot hold is an EvaluationError, so that nothing is injected by a value.

Path: `source`, `transform` -> here -> `values`, `templates`
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, tzinfo
from typing import Any, Final
from urllib.parse import quote, quote_plus

from engine.language.faults import EvaluationError, LanguageError
from engine.language.templates import (
    Expression,
    Scope,
    Template,
    compile_template,
)
from engine.language.values import compact, encode, text_of


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as e:
        raise EvaluationError("text with a lone surrogate") from e


def encode_text(value: Any) -> str | None:
    """Topic, key, record header: the value as text."""
    return text_of(value)


def encode_path_segment(value: Any) -> str:
    """
    URL path: percent-encoded, `/` too.

    Raises: EvaluationError: null, empty, `.` and `..`, which would ask for
    another resource than the template says.
    """
    text = text_of(value)
    if text is None or text in ("", ".", ".."):
        raise EvaluationError("a URL's path needs a value")
    return quote(_utf8(text), safe="")


def encode_query_value(value: Any) -> str | None:
    """Query: percent-encoded; None: the parameter is left out."""
    text = text_of(value)
    return None if text is None else quote(_utf8(text), safe="")


def encode_header(value: Any) -> str | None:
    """
    HTTP header: as it is; None: the header is left out.

    Raises: EvaluationError: CR, LF, NUL, or outside Latin-1.
    """
    text = text_of(value)
    if text is None:
        return None
    if any(mark in text for mark in "\r\n\0"):
        raise EvaluationError("a line break in a header's value")
    try:
        text.encode("latin-1")
    except UnicodeEncodeError as e:
        raise EvaluationError("a character outside Latin-1 in a header") from e
    return text


def encode_in_json_string(value: Any) -> str:
    """Body, inside a JSON string: escaped text; null is empty."""
    text = text_of(value)
    return "" if text is None else encode(text).decode()[1:-1]


def encode_json(value: Any) -> str:
    """Body, elsewhere in JSON: the JSON value."""
    return compact(encode(value)).decode()


def encode_form(value: Any) -> str:
    """Body of a form: form-encoded; null is empty."""
    text = text_of(value)
    return "" if text is None else quote_plus(_utf8(text))


def encode_body_text(value: Any) -> str:
    """Body of any other kind: as it is; null is empty."""
    return text_of(value) or ""


class Body:
    """
    A request's body as a template.

    Attributes:
        template: What it was compiled from.
        names: The scope's keys it asks for.
    """

    __slots__ = ("_encoders", "names", "template")

    def __init__(self, template: Template, encoders: list[Callable[[Any], str]]):
        self.template = template
        self.names = template.names
        self._encoders = encoders

    def render(self, scope: Scope) -> bytes:
        """
        The body, UTF-8.

        Raises: EvaluationError.
        """
        encoders = iter(self._encoders)
        pieces = [
            next(encoders)(part.value(scope)) if isinstance(part, Expression) else part
            for part in self.template.parts
        ]
        return _utf8("".join(pieces))


#: Content types by which a body is JSON or a form; others are text.
_JSON: Final = ("application/json", "text/json", "+json")
_FORM: Final = "application/x-www-form-urlencoded"


def compile_body(
    text: str,
    names: Collection[str],
    content_type: str = "application/json",
    zone: tzinfo = UTC,
) -> Body:
    """
    Compile a body: its content type says how values go in.

    Raises: LanguageError; also for a JSON body with an expression after a
    string that was left open.
    """
    template = compile_template(text, names, zone)
    kind = content_type.split(";")[0].strip().lower()
    if kind in _JSON or kind.endswith("+json"):
        return Body(template, _json_encoders(template))
    encoder = encode_form if kind == _FORM else encode_body_text
    return Body(
        template,
        [encoder for part in template.parts if isinstance(part, Expression)],
    )


def _json_encoders(template: Template) -> list[Callable[[Any], str]]:
    """For each expression: does it stand inside a string?"""
    encoders: list[Callable[[Any], str]] = []
    inside = escaped = False
    for part in template.parts:
        if isinstance(part, Expression):
            if escaped:
                raise LanguageError("a backslash before ${", part.column)
            encoders.append(encode_in_json_string if inside else encode_json)
            continue
        for character in part:
            if escaped:
                escaped = False
            elif inside and character == "\\":
                escaped = True
            elif character == '"':
                inside = not inside
    if inside:
        raise LanguageError("a string is not closed", len(template.text))
    return encoders
