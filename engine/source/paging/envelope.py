"""
Envelope: what an answer says of its own paging, beside its records.

Owns the readings of cursors, of "there is more" and of totals, in every form in
which APIs write them.  What follows from them is the walk's.

Path: `source.decode` found the places -> here -> `source.paging.pager`
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Raw

from engine.errors import BadPage, Forbidden
from engine.later import pattern
from engine.records import Primitive
from engine.source.paging.position import MAX_CURSOR

#: Texts that APIs write for true and false, in lower case.
_YES: Final = frozenset({"true", "t", "yes", "y", "on"})
_NO: Final = frozenset({"false", "f", "no", "n", "off", ""})

#: `items 0-24/66`, `0-24/66`, `*/66`, `bytes 0-24/*` (RFC 9110, 14.4).
_RANGE: Final = pattern(
    r"(?:[A-Za-z][\w-]*[ =]+)?(?:\*|[0-9]+ *- *[0-9]+) */ *(\*|[0-9]+)"
)
#: Digits in groups of three behind one and the same separator.
_GROUPED: Final = pattern(
    r"[0-9]{1,3}([,.'_ \u2019\u00a0\u2009\u202f])[0-9]{3}(?:\1[0-9]{3})*"
)
_WHOLE: Final = pattern(r"(-?[0-9]+)(?:\.0*)?")


class Fields:
    """The places in a response or its headers that paging looks at."""

    def __init__(self, places: Mapping[str, str | None]):
        self._places = {name: place for name, place in places.items() if place}
        self.paths = tuple(dict.fromkeys(self._places.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def get(self, name: str, found: Mapping[str, object]) -> object:
        """What a decoder found there; None where it is null or missing."""
        return found.get(self._places.get(name, ""))

    def token(self, name: str, found: Mapping[str, object]) -> object:
        """
        A cursor or link: str, int, or `Raw` for a number with a fraction, an
        array or an object; None is the end of data.

        Raises:
            BadPage: It is `true`, or many values.
            Forbidden: Over 64 KiB.
        """
        value = self.get(name, found)
        if value is None or value is False or value == "":
            return None
        if value is True or isinstance(value, list):
            raise BadPage(f"{self._places[name]} is {value!r:.40}, which is no cursor")
        if isinstance(value, str | Raw) and len(value) > MAX_CURSOR // 4:
            data = value.encode() if isinstance(value, str) else bytes(value)
            if len(data) > MAX_CURSOR:
                raise Forbidden(f"{self._places[name]} is over {MAX_CURSOR} bytes")
        return value

    def flag(self, name: str, found: Mapping[str, object]) -> bool | None:
        """
        True or false, as a bool, a number or a word; None where it is null.

        Raises:
            BadPage: It is none of them, or missing.
        """
        place = self._places[name]
        if place in found:
            value = found[place]
            if value is None or isinstance(value, bool):
                return value
            text = bytes(value).decode() if isinstance(value, Raw) else str(value)
            text = text.strip().lower()
            if text in _YES or (match := _WHOLE.fullmatch(text)) and int(match[1]) > 0:
                return True
            if text in _NO or (match := _WHOLE.fullmatch(text)) and not int(match[1]):
                return False
        what = "missing" if place not in found else f"{found[place]!r:.40}"
        raise BadPage(f"{place} is {what}, which is neither true nor false")

    def count(self, name: str, found: Mapping[str, object]) -> int | None:
        """
        A count: a number, or a text with separators or of a Content-Range.

        Returns: None where it is null, missing, negative or `*`: not known.

        Raises:
            BadPage: It is something else.
        """
        value = self.get(name, found)
        if value is None:
            return None
        text = bytes(value).decode() if isinstance(value, Raw) else str(value)
        written = isinstance(value, str)
        known, count = _count(text.strip(), written)
        if not known or isinstance(value, bool):
            raise BadPage(f"{self._places[name]} is {value!r:.40}, which is no count")
        return count


def _count(text: str, written: bool) -> tuple[bool, int | None]:
    """Whether a text is a count, and which; one that repeats itself counts once."""
    if (match := _WHOLE.fullmatch(text)) is not None:
        number = int(match[1])
        return True, number if number >= 0 else None
    if not written:
        return False, None
    if text in ("", "*"):
        return True, None
    if _GROUPED.fullmatch(text) is not None:
        return True, int(re.sub(r"[^0-9]", "", text))
    if (match := _RANGE.fullmatch(text)) is not None:
        return True, None if match[1] == "*" else int(match[1])
    # A header that was sent twice.
    parts = {part.strip() for part in text.split(", ")}
    if len(parts) == 1 and text not in parts:
        return _count(parts.pop(), written)
    return False, None


class PromisedTotals:
    """
    How much there is, as the API says, against how much has come.

    A total is a hint: APIs send the number of records on the page, a bound, an
    estimate, nothing or 0 on later pages.

    Attributes:
        received, pages: In this poll so far; kept in the offset where a
            field of the API counts them.
        records, all_pages: What was promised last, or None.
        doubted: What was said does not fit what came.
    """

    def __init__(self, fields: Fields, received: int, pages: int):
        self._fields = fields
        self.received = received
        self.pages = pages
        self.records: int | None = None
        self.all_pages: int | None = None
        self.doubted = False

    def learn(self, count: int, found: Mapping[str, object]) -> None:
        """One more page with `count` records."""
        self.received += count
        self.pages += 1
        if "total" in self._fields:
            self.records = self._later(self.records, "total", found)
        if "total_pages" in self._fields:
            self.all_pages = self._later(self.all_pages, "total_pages", found)

    def _later(
        self, before: int | None, name: str, found: Mapping[str, object]
    ) -> int | None:
        told = self._fields.count(name, found)
        if told == 0 and self.received:
            # Nothing at all, beside records: it is not counted on this page.
            self.doubted = True
            return before
        return before if told is None else told

    @property
    def known(self) -> bool:
        """True if the API has promised anything."""
        return self.records is not None or self.all_pages is not None

    @property
    def reached(self) -> bool:
        """True if all that was promised has come."""
        return (self.records is not None and self.received >= self.records) or (
            self.all_pages is not None and self.pages >= self.all_pages
        )

    @property
    def exceeded(self) -> bool:
        """True if more has come than was promised."""
        return (self.records is not None and self.received > self.records) or (
            self.all_pages is not None and self.pages > self.all_pages
        )

    @property
    def words(self) -> str:
        """The promise, and what came, for people."""
        if self.records is not None:
            return f"{self.records} records ({self.received} came)"
        return f"{self.all_pages} pages ({self.pages} came)"

    def position(self) -> dict[str, Primitive]:
        """What a resumed poll needs to know."""
        position: dict[str, Primitive] = {}
        if "total" in self._fields:
            position["received"] = self.received
        if "total_pages" in self._fields:
            position["pages"] = self.pages
        return position
