"""
Mapped: a page too large for memory is split window by window.

Owns the finding of places where a document may be cut, each proven by the parse
of both its sides, so that the pages of the map behind the window can be handed
back to the system.  All of a document is parsed before any of it is a page; what
is kept of its records is their lengths, and they are cut off the map again when they
are asked for, a window at a time: as objects they would take half as much as their
text.  Answers None where a document is not of the usual shape: it is then split in
one go.

Path: `source.decode` (a mapped body) -> here -> records
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from engine.records import CutSequence
from engine.source.wire.pieces import hand_back, mapped

#: Bytes that are split in one go.
WINDOW = 1 << 20
#: Places tried as the end of a window before it is given up.
TRIES = 48
#: Bytes in front of the records, and of the first member's name.
MAX_PREFIX, MAX_HEAD = 1 << 20, 256
#: Stands in for the records while their place is looked for.
MARKER = b'["\\u0000here"]'

_ITEMS = msgspec.json.Decoder(list[Raw])
_BROKEN = (msgspec.DecodeError, RecursionError)
_BLANKS = b" \t\r\n"


def split_mapped(
    body: memoryview, names: tuple[str, ...], quick: Callable[[bytes], Any]
) -> Any:
    """
    Split a document whose records stand at plain names.

    Args:
        body: Over a map.
        names: Where the records are; empty: the document is their array.
        quick: Splits a small document of the same shape; raises what msgspec
            does, answers None if the shape is another.

    Returns:
        What `quick` gives for the document without most of its records, with
        all of them put in (`CutSequence`), or None.
    """
    if not mapped(body):
        return None
    source: Any = body.obj
    start = _array_at(source, names, quick)
    if start is None:
        return None
    prefix = bytes(body[:start])
    head = _head(source, start + 1)
    lengths = array("I")
    firsts = [0]
    # Where windows begin, and the rest.
    places = [start]
    while len(body) - places[-1] > 2 * WINDOW:
        found = _window(body, places[-1], head)
        if found is None:
            return None
        items, end = found
        lengths.extend(map(len, items))
        firsts.append(len(lengths))
        hand_back(body, places[-1], end)
        places.append(end)
        # Not two windows at a time.
        del found, items
    try:
        decoded = quick(b"".join((prefix, b"[", body[places[-1] + 1 :])))
    except _BROKEN:
        # What is wrong is said of the whole, by its place in it.
        return None
    hand_back(body, places[-1], len(body))
    if decoded is None or len(places) == 1:
        return decoded
    rest: Sequence[Raw] = decoded.records
    lengths.extend(map(len, rest))

    def cut(number: int) -> Sequence[Raw]:
        if number == len(places) - 1:
            return rest
        start, stop = places[number : number + 2]
        items = _items(body, start, stop)
        hand_back(body, start, stop)
        return items

    return replace(decoded, records=CutSequence(lengths, firsts, cut))


def lines_mapped(body: memoryview, read: Callable[[bytes], list[Raw]]) -> Sequence[Raw]:
    """
    Split a mapped document of lines.

    Args:
        read: The records of whole lines; it raises for what is none.
    """
    source: Any = body.obj
    lengths = array("I")
    firsts: list[int] = []
    spans: list[tuple[int, int]] = []
    at = 0
    while at < len(body):
        end = len(body)
        if end - at > WINDOW:
            # A line may be longer than a window.
            end = source.rfind(b"\n", at, at + WINDOW) + 1
            end = end or source.find(b"\n", at) + 1 or len(body)
        items = read(bytes(body[at:end]))
        hand_back(body, at, end)
        if items:
            firsts.append(len(lengths))
            spans.append((at, end))
            lengths.extend(map(len, items))
        at = end
        # Not two windows at a time.
        del items

    def cut(number: int) -> Sequence[Raw]:
        start, stop = spans[number]
        items = read(bytes(body[start:stop]))
        hand_back(body, start, stop)
        return items

    return CutSequence(lengths, firsts, cut) if firsts else []


def _items(body: memoryview, at: int, comma: int) -> list[Raw]:
    """
    What stands between a bracket or comma and the comma behind it, as an array.

    Views into a copy of it, so that of the map nothing need stay in memory.
    """
    return _ITEMS.decode(b"".join((b"[", body[at + 1 : comma], b"]")))


def _array_at(
    source: Any, names: tuple[str, ...], quick: Callable[[bytes], Any]
) -> int | None:
    """Where the array of the records begins: proven by a parse up to there."""
    if not names:
        at = _skip(source, 0)
        return at if source[at : at + 1] == b"[" else None
    name = msgspec.json.encode(names[-1])
    at = -1
    for _ in range(TRIES):
        at = source.find(name, at + 1, MAX_PREFIX)
        if at < 0:
            return None
        colon = _skip(source, at + len(name))
        start = _skip(source, colon + 1)
        if source[colon : colon + 1] != b":" or source[start : start + 1] != b"[":
            continue
        try:
            decoded = quick(source[:start] + MARKER + b"}" * len(names))
        except _BROKEN:
            continue
        if decoded is not None and [MARKER[1:-1]] == [
            bytes(record) for record in decoded.records
        ]:
            return start
    return None


def _head(source: Any, at: int) -> bytes | None:
    """How an item begins, up to the colon of its first member; None: no object."""
    at = _skip(source, at)
    if source[at : at + 1] != b"{":
        return None
    colon = source.find(b":", at, at + MAX_HEAD)
    return bytes(source[at : colon + 1]) if colon > 0 else None


def _window(
    body: memoryview, at: int, head: bytes | None
) -> tuple[list[Raw], int] | None:
    """
    The items behind the bracket or comma at `at`, up to a comma between items.

    Where the text from an item's beginning up to a comma is a whole array, that
    comma stands between two items and in no text and no deeper place.
    """
    source: Any = body.obj
    end = at + WINDOW
    for _ in range(TRIES):
        end = source.rfind(head if head is not None else b",", at + 1, end)
        if end < 0:
            return None
        comma = end if head is None else _back(source, end - 1)
        if comma <= at or source[comma : comma + 1] != b",":
            continue
        try:
            return _items(body, at, comma), comma
        except _BROKEN:
            continue
    return None


def _skip(source: Any, at: int) -> int:
    while source[at : at + 1] and source[at] in _BLANKS:
        at += 1
    return at


def _back(source: Any, at: int) -> int:
    while at > 0 and source[at] in _BLANKS:
        at -= 1
    return at
