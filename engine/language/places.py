"""
Places: how an expression's value goes into a URL, a header, a body.

Owns the encoding of each place.  An encoder takes a JSON value (or `Raw`)
and gives text, or None where the place is to be left out; what a place
cannot hold is an EvaluationError, so that nothing is injected by a value.

Path: `source`, `transform` -> here -> `values`, `templates`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, tzinfo
from typing import Any, Final
from urllib.parse import quote, quote_plus

from engine.language.answers import Scope
from engine.language.faults import EvaluationError, LanguageError
from engine.language.templates import Expression, Template, compile_template
from engine.language.values import Verbatim, compact, encode, text_of
from engine.later import pattern


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
    URL path: percent-encoded, `/` too but in what `raw` gives.

    Raises: EvaluationError: null, empty, `.` and `..`, which would ask for
    another resource than the template says.
    """
    text = text_of(value)
    if text is None or text in ("", ".", ".."):
        raise EvaluationError(
            "a URL's path needs a value there; ${coalesce(..., ...)} says what stands for "
            "one that is missing"
        )
    if type(value) is Verbatim:
        if {".", ".."} & set(text.split("/")):
            raise EvaluationError("a URL's path may not lead upwards")
        return quote(_utf8(text), safe="/:@!$'()*+,;=~")
    return quote(_utf8(text), safe="")


def encode_query_value(value: Any) -> str | None:
    """
    Query: percent-encoded; None: the parameter is left out.

    Of what `raw` gives, the characters that mean nothing there stay as they are.
    """
    text = text_of(value)
    if text is None:
        return None
    return quote(_utf8(text), safe="/:@!$'()*,;?" if type(value) is Verbatim else "")


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


class BodyTemplate:
    """
    A request's body as a template.

    Attributes:
        template: What it was compiled from.
        names: The scope's keys it asks for.
    """

    __slots__ = ("_encoders", "_omitting", "names", "template")

    def __init__(
        self,
        template: Template,
        encoders: list[Callable[[Any], str]],
        omitting: _Omitting | None = None,
    ):
        self.template = template
        self.names = template.names
        self._encoders = encoders
        self._omitting = omitting

    def render(self, scope: Scope) -> bytes:
        """
        The body, UTF-8.

        Raises: EvaluationError.
        """
        encoders = iter(self._encoders)
        values = [
            part.value(scope) if isinstance(part, Expression) else part
            for part in self.template.parts
        ]
        pieces = [
            next(encoders)(value) if isinstance(part, Expression) else value
            for part, value in zip(self.template.parts, values, strict=True)
        ]
        if self._omitting is not None:
            return _utf8(self._omitting.joined(pieces, values))
        return _utf8("".join(pieces))


class _Omitting:
    """
    Leaves out the members whose value is an expression that gives null.

    Args:
        parts: Of the body's template.
        before: What stands before such an expression: the member's name, to be
            cut off with it.
        after: What stands behind it.
        between: What separates members.
    """

    #: Stands where a member was; no JSON text and no form has a bare NUL.
    _GONE: Final = "\0"

    def __init__(
        self,
        parts: Sequence[str | Expression],
        before: re.Pattern[str],
        after: re.Pattern[str],
        between: str,
    ):
        self._between = between
        #: By the expression's place: characters kept of what is before it, and cut
        #: of what is behind it.
        self._whole: dict[int, tuple[int, int]] = {}
        for at, part in enumerate(parts):
            if not isinstance(part, Expression):
                continue
            front = parts[at - 1] if at else ""
            back = parts[at + 1] if at + 1 < len(parts) else ""
            if isinstance(front, Expression) or isinstance(back, Expression):
                continue
            name, end = before.search(front), after.match(back)
            if name is None or end is None:
                continue
            quoted = front.endswith('"')
            if quoted != back.startswith('"'):
                continue
            self._whole[at] = name.start(), int(quoted)

    def joined(self, pieces: Sequence[str], values: Sequence[Any]) -> str:
        """The body without the members whose value is null."""
        kept = list(pieces)
        for at, (front, back) in self._whole.items():
            if text_of(values[at]) is None:
                if at:
                    # Behind a member that is gone as well, less is left of it.
                    cut = len(pieces[at - 1]) - front
                    kept[at - 1] = kept[at - 1][: len(kept[at - 1]) - cut]
                kept[at] = self._GONE
                if back:
                    kept[at + 1] = kept[at + 1][back:]
        text = "".join(kept)
        if self._GONE not in text:
            return text
        between = re.escape(self._between)
        text = re.sub(rf"\0\s*{between}\s*", "", text)
        return re.sub(rf"({between}\s*)?\0", "", text)


#: A member's name, and what may end its value.
_MEMBER: Final = pattern(r'"(?:[^"\\]|\\.)*"\s*:\s*"?$')
_MEMBER_END: Final = pattern(r'"?\s*[,}]')
#: The same of a form.
_FIELD: Final = pattern(r"(?:(?<=&)|^)[^&=]*=$")
_FIELD_END: Final = pattern(r"&|$")

#: Content types by which a body is JSON or a form; others are text.
_JSON: Final = frozenset(
    {"application/json", "text/json", "application/x-json", "text/x-json",
     "application/x-ndjson", "application/ndjson", "application/jsonl",
     "application/json5", "application/jsonrequest"}
)  # fmt: skip
#: What AWS's JSON protocols send, with their version behind it.
_AMZ_JSON: Final = "application/x-amz-json-"
_FORM: Final = "application/x-www-form-urlencoded"


def is_json(content_type: str) -> bool:
    """True for a content type whose values go in as JSON (RFC 6839, 3.1)."""
    kind = content_type.split(";")[0].strip().lower()
    return kind in _JSON or kind.endswith("+json") or kind.startswith(_AMZ_JSON)


def compile_body(
    text: str,
    names: Collection[str],
    content_type: str = "application/json",
    zone: tzinfo = UTC,
    *,
    omit: bool = False,
) -> BodyTemplate:
    """
    Compile a body: its content type says how values go in.

    Args:
        omit: A member whose expression gives null is left out
            (`http.source.body.null=OMIT`).

    Raises: LanguageError; also for a JSON body with an expression after a
    string that was left open.
    """
    template = compile_template(text, names, zone)
    kind = content_type.split(";")[0].strip().lower()
    if is_json(kind):
        omitting = (
            _Omitting(template.parts, _MEMBER, _MEMBER_END, ",") if omit else None
        )
        return BodyTemplate(template, _json_encoders(template), omitting)
    form = kind == _FORM
    encoder = encode_form if form else encode_body_text
    return BodyTemplate(
        template,
        [encoder for part in template.parts if isinstance(part, Expression)],
        _Omitting(template.parts, _FIELD, _FIELD_END, "&") if omit and form else None,
    )


def _json_encoders(template: Template) -> list[Callable[[Any], str]]:
    """How each expression of a JSON template is written: inside a string, or as a value."""
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
