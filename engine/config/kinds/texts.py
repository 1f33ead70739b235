"""
Texts: values with a grammar of their own: templates, paths, headers, JSON.

Owns which grammar a text is held to; the grammars are in ``language``.

Path: `kinds.kind` -> here -> ``config.sections``
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from engine.config import grammar, jsontext
from engine.config.kinds.kind import (
    EXPRESSION,
    TOKEN,
    TOPIC,
    UNSENDABLE,
    URL_BYTES,
    Comment,
    InvalidValue,
    Kind,
    fold,
    in_grammar,
)
from engine.config.kinds.net import check_url
from engine.observe.redact import learn, sensitive


def is_json(kind: Kind | None) -> bool:
    """Whether the value may run over several lines."""
    return kind is None or isinstance(kind, Json | BodyText)


class TopicName(Struct, frozen=True):
    """
    A topic's name (Kafka: at most 249 of `[A-Za-z0-9._-]`, not `.` or `..`).

    Attributes:
        names: Names a `${...}` in it may use; empty: no template.
    """

    names: frozenset[str] = frozenset()
    comment: Comment = Comment.ENDS_OUTSIDE_TEMPLATE
    allowed: str = "topic: at most 249 of A-Z a-z 0-9 . _ -"

    @property
    def template(self) -> bool:
        return bool(self.names)

    def read(self, text: str, near: Path) -> str:
        fixed = text
        if self.template:
            in_grammar(grammar.template, text, self.names)
            fixed = EXPRESSION.sub("x", text)
        if not TOPIC.fullmatch(fixed):
            raise InvalidValue(f"allowed: {self.allowed}")
        if text in (".", ".."):
            raise InvalidValue("'.' and '..' are no topic names")
        return text


class TemplateText(Struct, frozen=True):
    """
    Text with `${...}`.

    Attributes:
        names: Names it may use; `*`: any path of a record, too.
        url: True for `http.source.url`.
        comment: As `Comment`.
    """

    names: frozenset[str]
    url: bool = False
    comment: Comment = Comment.REFUSED
    template: bool = True

    @property
    def allowed(self) -> str:
        return "URL with ${...} behind its host" if self.url else "text with ${...}"

    def read(self, text: str, near: Path) -> str:
        in_grammar(grammar.template, text, self.names)
        if self.url:
            origin = re.match(r"[^/?#]*:?/{0,2}[^/?#]*", text)
            if origin and "://" in origin.group() and "${" in origin.group():
                raise InvalidValue("${...} is allowed only behind the host")
            check_url(EXPRESSION.sub("x", text), relative=True)
        elif UNSENDABLE.search(text.replace("\n", "").replace("\r", "")):
            raise InvalidValue("a control character")
        return text


class BodyText(Struct, frozen=True):
    """A request's body: a template that may be JSON over several lines."""

    names: frozenset[str]
    comment: Comment = Comment.REFUSED
    template: bool = True
    allowed: str = "text or JSON with ${...}"

    def read(self, text: str, near: Path) -> str:
        in_grammar(grammar.template, text, self.names)
        return text


class Params(Struct, frozen=True):
    """`a=b&c=d`."""

    names: frozenset[str]
    template: bool = True
    comment: Comment = Comment.REFUSED
    allowed: str = "a=b&c=d with ${...}"

    def read(self, text: str, near: Path) -> str:
        in_grammar(grammar.template, text, self.names)
        masked = EXPRESSION.sub(lambda found: "x" * len(found.group()), text)
        if UNSENDABLE.search(masked):
            raise InvalidValue("a control character")
        for item in masked.removeprefix("?").split("&"):
            if not item.partition("=")[0].strip():
                raise InvalidValue("a parameter without a name; allowed: a=b&c=d")
        return text


class RecordPath(Struct, frozen=True):
    """
    A path into a document: pointer or dotted.

    Attributes:
        header: True if `header:NAME` is accepted.
    """

    header: bool = False
    comment: Comment = Comment.ENDS_OUTSIDE_QUOTES

    @property
    def allowed(self) -> str:
        words = "path: a.b[0], or /a/b/0"
        return f"{words}, or header:NAME" if self.header else words

    def read(self, text: str, near: Path) -> str:
        if self.header and text.lower().startswith("header:"):
            name = text[len("header:") :]
            if not TOKEN.fullmatch(name):
                raise InvalidValue(f"{name!r} is no header name")
            return f"header:{name}"
        in_grammar(grammar.path, text)
        return text


class Glob(Struct, frozen=True):
    allowed: str = "glob: * ** ? [a-m]"

    def read(self, text: str, near: Path) -> str:
        in_grammar(grammar.glob, text)
        return text


class Cron(Struct, frozen=True):
    allowed: str = "cron, six fields, seconds first (five: second 0)"

    def read(self, text: str, near: Path) -> str:
        return str(in_grammar(grammar.cron, text))


class TimeFormat(Struct, frozen=True):
    """How a request writes a time: a word of `grammar.FORMATS`, or a date pattern."""

    comment: Comment = Comment.REFUSED

    @property
    def allowed(self) -> str:
        return f"{', '.join(grammar.FORMATS)}, or a date pattern"

    def read(self, text: str, near: Path) -> str:
        if fold(text) in grammar.FORMATS:
            return fold(text)
        in_grammar(grammar.pattern, text)
        return text


class DatePattern(Struct, frozen=True):
    comment: Comment = Comment.REFUSED
    allowed: str = "date pattern, as yyyy-MM-dd HH:mm"

    def read(self, text: str, near: Path) -> str:
        in_grammar(grammar.pattern, text)
        return text


class RegexText(Struct, frozen=True):
    comment: Comment = Comment.REFUSED
    allowed: str = "regular expression"

    def read(self, text: str, near: Path) -> str:
        in_grammar(grammar.regex, text)
        return text


class Json(Struct, frozen=True):
    """
    A JSON value; who declares a key of this kind says what type `check` leaves.

    Attributes:
        check: Looks at the parsed value; raises Unfit.
        words: What is accepted.
    """

    check: Callable[[object], None]
    words: str = "JSON array"

    @property
    def allowed(self) -> str:
        return self.words

    def read(self, text: str, near: Path) -> Any:
        try:
            node = jsontext.parse(text)
        except jsontext.JsonError as error:
            raise InvalidValue(f"not JSON: {error}; allowed: {self.words}") from error
        value = jsontext.plain(node)
        try:
            self.check(value)
        except InvalidValue as error:
            for one in error.each:
                if one.item is not None and isinstance(node.value, list):
                    one.at = node.value[one.item].at
            raise
        return value


#: Headers that the HTTP layer writes itself (RFC 9110 section 7.6.1, 7.8, 8.6).
RESERVED_HEADERS = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "te",
        "upgrade",
        "expect",
    }
)


class Headers(Struct, frozen=True):
    """
    `Name:value; Name:value`, values are templates.

    Attributes:
        names: Names the templates may use; `*`: any path of a record, too.
        kafka: True for record headers: UTF-8, no reserved names.
    """

    names: frozenset[str]
    kafka: bool = False
    template: bool = True
    comment: Comment = Comment.REFUSED
    allowed: str = "Name:value; Name:value"

    def read(self, text: str, near: Path) -> tuple[tuple[str, str], ...]:
        return self.check(split_headers(text))

    def check(self, headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """The same headers, if each of them can be sent.  Raises: Unfit."""
        for name, value in headers:
            check_header_name(name, kafka=self.kafka)
            check_header_value(name, value, self.names, kafka=self.kafka)
            if not self.kafka and sensitive(name):
                learn_header(value)
        lower = [name.lower() for name, _ in headers]
        if not self.kafka and lower.count("authorization") > 1:
            raise InvalidValue("Authorization stands here twice")
        return tuple(headers)


def learn_header(value: str) -> None:
    """Have a credential header's fixed text cut wherever it shows up."""
    if "${" not in value:
        learn(value)
        learn(value.partition(" ")[2])


def split_headers(text: str) -> list[tuple[str, str]]:
    """
    A header list's items, order and repeats kept.

    A `;` starts a new item only if a name and `:` follow it before the next
    `;`, so that `Accept:application/json; charset=utf-8` is one header.

    Raises: Unfit.
    """
    masked = EXPRESSION.sub(lambda found: "x" * len(found.group()), text)
    starts = [0]
    name = re.compile(rf"[ \t]*{TOKEN.pattern}[ \t]*:")
    for found in re.finditer(";", masked):
        if name.match(masked, found.end()):
            starts.append(found.end())
    items = []
    for start, end in zip(starts, [*(s - 1 for s in starts[1:]), len(text)]):
        item = text[start:end]
        head, colon, value = item.partition(":")
        if not colon:
            raise InvalidValue(
                f"{item.strip()!r} has no ':'; allowed: Name:value; Name:value"
            )
        items.append((head.strip(" \t"), value.strip(" \t")))
    return items


def check_header_name(name: str, *, kafka: bool = False) -> None:
    """Refuse a name that cannot be sent.  Raises: Unfit."""
    if not name:
        raise InvalidValue("a header without a name")
    if kafka:
        return
    if not TOKEN.fullmatch(name):
        raise InvalidValue(f"{name!r} is no header name (RFC 9110)")
    if name.lower() in RESERVED_HEADERS:
        raise InvalidValue(f"header {name} is written by the HTTP layer itself")


def check_header_value(
    name: str, value: str, names: frozenset[str], *, kafka: bool = False
) -> None:
    """Refuse a value that cannot be sent.  Raises: Unfit."""
    if re.search(r"[\r\n\0]", value):
        raise InvalidValue(f"header {name}: CR, LF or NUL in its value")
    in_grammar(grammar.template, value, names)
    if kafka:
        return
    fixed = EXPRESSION.sub("", value)
    try:
        fixed.encode("latin-1")
    except UnicodeEncodeError as error:
        raise InvalidValue(f"header {name}: a character outside Latin-1") from error
    if UNSENDABLE.search(fixed):
        raise InvalidValue(f"header {name}: a control character in its value")
    if len(value) > URL_BYTES:
        raise InvalidValue(f"header {name}: longer than {URL_BYTES} bytes")


class Header(Struct, frozen=True):
    """The value of one header, `http.source.header.<Name>`: no splitting."""

    names: frozenset[str]
    template: bool = True
    comment: Comment = Comment.REFUSED
    allowed: str = "text with ${...}"

    def read(self, text: str, near: Path) -> str:
        check_header_value("value", text, self.names)
        return text
