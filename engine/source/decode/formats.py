"""
Formats: bodies that are no JSON document, as JSON.

Owns NDJSON, sequences of JSON texts, CSV, plain text and XML (GATE xmltodict): what is a
whole document of each, and what JSON it means.

Path: `decode.decoder` -> here -> records, or the document that it looks into
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NoReturn, TypeAlias

import msgspec
from msgspec import Raw, Struct

from engine.columnfile import ColumnFile
from engine.errors import BadPage
from engine.later import pattern
from engine.source.decode.mapped import lines_mapped
from engine.source.decode.readable import Unreadable
from engine.source.wire.pieces import hand_back, mapped

Body: TypeAlias = bytes | bytearray | memoryview

#: Longest CSV field, in characters; the body's own limit is in front of it.
MAX_FIELD = 1 << 30

#: Of a mapped body: objects that are put away at once, and bytes that are read.
AT_ONCE, BUFFER = 1000, 1 << 18

#: A lone surrogate as an escape: JSON has them (RFC 8259, 8.2), msgspec reads none.
LONE = pattern(rb"\\u[dD][89a-fA-F]")

_WHOLE = msgspec.json.Decoder(Raw)
_BLANKS = " \t\r\n\x1e"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


#: Reads what msgspec refuses, and says where a text ends.
SPELLER = json.JSONDecoder(parse_constant=_refuse_constant)


class CsvFormat(Struct, frozen=True):
    """
    How comma-separated values are written (RFC 4180, and what is sent as such).

    Attributes:
        delimiter: One character (`http.response.csv.delimiter`).
        quote: One character, or "": nothing is quoted.
        names: Names of the fields; empty: the first line has them.
        header: True if there is a first line of names, to be skipped where `names`
            are given (`http.response.csv.header`).
    """

    delimiter: str = ","
    quote: str = '"'
    names: tuple[str, ...] = ()
    header: bool = True


class Xml(Struct, frozen=True):
    """
    How XML becomes JSON.

    Attributes:
        lists: Elements that are arrays also where only one came
            (`http.response.xml.lists`).
        strip: True if prefixes of namespaces are cut off.
    """

    lists: tuple[str, ...] = ()
    strip: bool = False


# -- documents of JSON, one behind the other ---------------------------------------


def ndjson(body: Body) -> Sequence[Raw]:
    """
    One document a line; blank lines are skipped.

    Raises: BadPage.
    """
    if mapped(body):
        # What is wrong with it is said of the whole.
        with contextlib.suppress(RecursionError, msgspec.DecodeError):
            return lines_mapped(memoryview(body), _lines)
    try:
        return _lines(bytes(body) if isinstance(body, memoryview) else body)
    except RecursionError as error:
        raise BadPage("a line is nested too deeply") from error
    except msgspec.DecodeError as error:
        if LONE.search(body) is None:
            raise Unreadable("NDJSON", str(error)) from error
        return _spelled_lines(bytes(body))


def _lines(content: bytes | bytearray) -> list[Raw]:
    records = _WHOLE.decode_lines(content)
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    if lines != len(records):
        # Blank lines, or documents that do not keep to their line.
        return [_WHOLE.decode(line) for line in content.split(b"\n") if line.strip()]
    return records


def _spelled_lines(body: bytes) -> list[Raw]:
    try:
        lines = [line.strip() for line in body.split(b"\n") if line.strip()]
        for line in lines:
            SPELLER.decode(str(line, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise Unreadable("NDJSON", str(error)) from error
    return [Raw(line) for line in lines]


def sequence(body: Body) -> list[Raw]:
    """
    JSON texts one behind the other: with the record separators of RFC 7464, with
    blanks or lines between them, or with nothing.

    Raises: BadPage: one is no JSON, or cut; nothing of the page is a record then.
    """
    text = str(body, "utf-8")
    found: list[Raw] = []
    at, end = 0, len(text)
    try:
        while True:
            while at < end and text[at] in _BLANKS:
                at += 1
            if at == end:
                return found
            start = at
            _, at = SPELLER.raw_decode(text, at)
            if text[start] not in '{["' and at < end and text[at] not in _BLANKS:
                # Two numbers without anything between them may be one, or cut.
                raise Unreadable("a sequence of JSON", f"character {at}: no separator")
            found.append(Raw(text[start:at].encode()))
    except RecursionError as error:
        raise BadPage("a text is nested too deeply") from error
    except ValueError as error:
        raise Unreadable("a sequence of JSON", str(error)) from error


_GUARDS = (
    b")]}',",
    b")]}'",
    b")]}",
    b"while(1);",
    b"for(;;);",
    b"throw 1;",
    b"{}&&",
    b"{} &&",
)
_CALL = pattern(rb"\s*(?:/\*\*/\s*)?[A-Za-z_$][\w$.]*\s*\((.*)\)\s*;?\s*", re.DOTALL)


def unguarded(body: Body) -> bytes | None:
    """
    A document behind what keeps browsers from running it: a prefix as `)]}',`, or a
    call around it (JSONP).

    Returns: what is left, or None where there is nothing of the kind.
    """
    text = bytes(body).strip()
    for guard in _GUARDS:
        if text.startswith(guard):
            return text[len(guard) :].lstrip()
    called = _CALL.fullmatch(text)
    return called[1].strip() if called is not None else None


# -- values between commas ---------------------------------------------------------


def table(shape: CsvFormat) -> Callable[[Body], Sequence[Raw]]:
    """
    A reader of comma-separated values: an object a line, all values strings.

    A line of another length than the names makes a bad page: it may be cut.
    """
    encode = msgspec.json.Encoder().encode
    quoting = csv.QUOTE_MINIMAL if shape.quote else csv.QUOTE_NONE
    options: dict[str, Any] = {
        "delimiter": shape.delimiter,
        "quotechar": shape.quote or None,
        "quoting": quoting,
        "strict": True,
    }

    def objects(lines: Iterable[str]) -> Iterator[bytes]:
        csv.field_size_limit(MAX_FIELD)
        reader = csv.reader(lines, **options)
        try:
            first = next(reader, []) if shape.header else []
            names: Sequence[str] = shape.names or first
            if not names or len(set(names)) != len(names):
                raise BadPage("the first line of the CSV does not name its fields")
            for row in reader:
                if not row:
                    continue
                if len(row) != len(names):
                    raise BadPage(
                        f"line {reader.line_num} has {len(row)} fields, not {len(names)}"
                    )
                yield encode(dict(zip(names, row, strict=True)))
        except csv.Error as error:
            raise Unreadable("CSV", f"line {reader.line_num}: {error}") from error

    def read(body: Body) -> Sequence[Raw]:
        if not len(body):
            raise BadPage("the body is empty")
        if not mapped(body):
            lines = io.StringIO(str(body, "utf-8"), newline="")
            return list(map(Raw, objects(lines)))
        # As text, then as objects, it would be six times its bytes in memory.
        made = objects(_text_lines(memoryview(body)))
        with ColumnFile() as file:
            while piece := list(islice(made, AT_ONCE)):
                file.extend(piece)
            return file.column(Raw)[0]

    return read


class _Mapped(io.RawIOBase):
    """A mapped body as a file; what was read of it does not stay in memory."""

    def __init__(self, body: memoryview):
        self._body = body
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        start = self._at
        piece = self._body[start : start + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        hand_back(self._body, start, self._at)
        return len(piece)


def _text_lines(body: memoryview) -> Iterator[str]:
    """The lines of a mapped body with their ends, as `csv` wants them."""
    stream = io.BufferedReader(_Mapped(body), BUFFER)
    return iter(io.TextIOWrapper(stream, encoding="utf-8", newline=""))


def text(body: Body) -> list[Raw]:
    """The whole body as one string."""
    return [Raw(msgspec.json.encode(str(body, "utf-8")))]


# -- elements ----------------------------------------------------------------------


def document(shape: Xml, names: tuple[str, ...]) -> Callable[[Body], bytes]:
    """
    A reader of XML: the document as JSON.

    An element is an object of its elements, its attributes as `@name` and its text as
    `#text`; one with text alone is a string, an empty one null, one that comes again
    beside itself an array.  All values are strings.  Entities and external documents are
    refused.

    Args:
        names: Where the records are: an element that has none of them has an empty list.

    Blocks: for the import of the library, the first time.
    """
    # Few APIs answer in XML: a start does without.
    from xmltodict import parse

    lists = set(shape.lists)

    def cut(path: Any, key: str, value: Any) -> tuple[str, Any]:
        mark, name = ("@", key[1:]) if key.startswith("@") else ("", key)
        return mark + name.rpartition(":")[2], value

    def read(body: Body) -> bytes:
        try:
            found = parse(
                bytes(body),
                # The bytes are UTF-8 by now, whatever the declaration says.
                encoding="utf-8",
                force_list=(lambda path, key, value: key.rpartition(":")[2] in lists)
                if lists
                else None,
                postprocessor=cut if shape.strip else None,
            )
        except RecursionError as error:
            raise BadPage("the XML is nested too deeply") from error
        except Exception as error:
            # expat's error is no ValueError, a forbidden entity is one.
            if type(error).__name__ == "ExpatError" or isinstance(error, ValueError):
                raise Unreadable("XML", str(error)) from error
            raise
        _empty_lists(found, names)
        return msgspec.json.encode(found)

    return read


def _empty_lists(found: dict[str, Any], names: tuple[str, ...]) -> None:
    """An element where the records stand, without any of them, holds an empty array."""
    at: Any = found
    for place, name in enumerate(names):
        below = names[place + 1 :]
        if place and not below and name not in at:
            at[name] = []
        elif name in at and at[name] is None:
            # Nothing is in it, so nothing is in what would be in it.
            inner: Any = []
            for outer in reversed(below):
                inner = {outer: inner}
            at[name] = inner
            return
        at = at.get(name)
        if not isinstance(at, dict):
            return
