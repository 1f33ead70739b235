"""
JSON text: strict JSON that knows where each thing stands.

Owns one reader for both uses of JSON in a configuration, a whole file and a
single value.  Duplicate members, NaN, a second document and anything nested
deeper than 100 are errors with line and column; numbers keep their text.

Path: every other file of this room -> here -> `engine.language`
"""

from __future__ import annotations

import re
from decimal import Decimal
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import TypeAlias

from msgspec import Struct

from engine.language.values import spelled
from engine.later import pattern

#: Deeper nesting is refused; RFC 8259 section 9 lets a parser set a limit.
DEPTH = 100

_BLANK = pattern(r"[ \t\r\n]*")
_NUMBER = pattern(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "null": None}


class JsonError(ValueError):
    """
    Not JSON, or not strict.

    Attributes:
        line, column: Where, from 1.
    """

    def __init__(self, message: str, text: str, at: int):
        self.line = text.count("\n", 0, at) + 1
        self.column = at - text.rfind("\n", 0, at)
        super().__init__(f"{message} at line {self.line}, column {self.column}")


class JsonNode(Struct, frozen=True):
    """
    A value and its text.

    Attributes:
        value: None, bool, str, int, a `language.values.Spelled` (a number with a
            fraction or an exponent, and -0), a list or a dict of nodes.
        text: As it was written.
        at: Where it begins in the document, from 0.
    """

    value: Value
    text: str
    at: int


Value: TypeAlias = "None | bool | str | int | Decimal | list[JsonNode] | dict[str, JsonNode]"  # recursive


def parse(text: str) -> JsonNode:
    """
    Read one document.

    Raises: JsonError.  Blocks: never; linear in the text.
    """
    node, at = _value(text, _skip(text, 0), 0)
    at = _skip(text, at)
    if at != len(text):
        raise JsonError("text behind the end of the JSON value", text, at)
    return node


def plain(node: JsonNode) -> object:
    """The node without its places; every number is exact, with its text."""
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    if isinstance(node.value, dict):
        return {key: plain(item) for key, item in node.value.items()}
    return node.value


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _value(text: str, at: int, depth: int) -> tuple[JsonNode, int]:
    if depth > DEPTH:
        raise JsonError(f"nested deeper than {DEPTH}", text, at)
    head = text[at : at + 1]
    value: Value
    if head == "{":
        value, end = _object(text, at, depth)
    elif head == "[":
        value, end = _array(text, at, depth)
    elif head == '"':
        value, end = _string(text, at)
    elif number := _NUMBER.match(text, at):
        value, end = _number(text, at, number), number.end()
    else:
        for word, meaning in _WORDS.items():
            if text.startswith(word, at):
                value, end = meaning, at + len(word)
                break
        else:
            raise JsonError("a JSON value is expected", text, at)
    return JsonNode(value, text[at:end], at), end


def _number(text: str, at: int, found: re.Match[str]) -> int | Decimal:
    """An int, or what keeps the number's text: nothing passes a double."""
    written = found.group()
    if found.group(1) or found.group(2) or written == "-0":
        return spelled(written)
    if len(written) > 4000:
        raise JsonError("an integer of more than 4000 digits", text, at)
    return int(written)


def _string(text: str, at: int) -> tuple[str, int]:
    try:
        value, end = scanstring(text, at + 1, True)
    except JSONDecodeError as error:
        raise JsonError(error.msg, text, error.pos) from error
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise JsonError("half of a surrogate pair", text, at)
    return value, end


def _array(text: str, at: int, depth: int) -> tuple[list[JsonNode], int]:
    items: list[JsonNode] = []
    at = _skip(text, at + 1)
    if text.startswith("]", at):
        return items, at + 1
    while True:
        item, at = _value(text, at, depth + 1)
        items.append(item)
        at = _skip(text, at)
        if text.startswith("]", at):
            return items, at + 1
        if not text.startswith(",", at):
            raise JsonError("',' or ']' is expected", text, at)
        at = _skip(text, at + 1)


def _object(text: str, at: int, depth: int) -> tuple[dict[str, JsonNode], int]:
    members: dict[str, JsonNode] = {}
    at = _skip(text, at + 1)
    if text.startswith("}", at):
        return members, at + 1
    while True:
        if not text.startswith('"', at):
            raise JsonError("a member's name in double quotes is expected", text, at)
        begin = at
        name, at = _string(text, at)
        if name in members:
            raise JsonError(f"member {name!r} stands here twice", text, begin)
        at = _skip(text, at)
        if not text.startswith(":", at):
            raise JsonError("':' is expected", text, at)
        item, at = _value(text, _skip(text, at + 1), depth + 1)
        members[name] = item
        at = _skip(text, at)
        if text.startswith("}", at):
            return members, at + 1
        if not text.startswith(",", at):
            raise JsonError("',' or '}' is expected", text, at)
        at = _skip(text, at + 1)
