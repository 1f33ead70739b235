"""
Plain: numbers, words, secrets, lists and files.

Owns what a bool, a size or a list looks like; a value outside its range is refused
and never clamped.

Path: `kinds.kind` -> here -> ``config.sections``
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec import Struct

from engine.config import grammar
from engine.config.kinds.kind import (
    INT64,
    UNSENDABLE,
    Comment,
    InvalidValue,
    Kind,
    Mistakes,
    fold,
    nearest,
)
from engine.observe.redact import Secret


class Bool(Struct, frozen=True):
    allowed: str = "true or false"

    def read(self, text: str, near: Path) -> bool:
        word = text.lower()
        if word not in ("true", "false") or not text.isascii():
            raise InvalidValue("allowed: true or false")
        return word == "true"


class Int(Struct, frozen=True):
    """
    A whole number, within bounds where a key has some.

    Attributes:
        low, high: Both included.
        unit: The type's name in the reference; "ms", "bytes", ...
        nonzero: True if 0 is refused inside the range.
    """

    low: int = 0
    high: int = INT64
    unit: str = "int"
    nonzero: bool = False

    @property
    def allowed(self) -> str:
        high = "" if self.high == INT64 else str(self.high)
        but = ", but 0" if self.nonzero else ""
        return f"{self.unit} {self.low}..{high}{but}"

    def read(self, text: str, near: Path) -> int:
        pattern = r"-?[0-9]+" if self.low < 0 else r"[0-9]+"
        if not re.fullmatch(pattern, text):
            raise InvalidValue(f"allowed: {self.allowed}, digits only")
        digits = text.lstrip("-").lstrip("0") or "0"
        if len(digits) > 20:
            raise InvalidValue(f"out of range, allowed: {self.allowed}")
        value = -int(digits) if text.startswith("-") else int(digits)
        if not self.low <= value <= self.high or (self.nonzero and value == 0):
            raise InvalidValue(f"out of range, allowed: {self.allowed}")
        return value


class Tasks(Int, frozen=True):
    """A number of processes, or `auto`: two for each core this process may use."""

    @property
    def allowed(self) -> str:
        return f"{super().allowed}, or auto"

    def read(self, text: str, near: Path) -> int:
        if text.lower() == "auto":
            return max(self.low, min(self.high, 2 * cores()))
        return super().read(text, near)


def cores() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0))


class Duration(Int, frozen=True):
    """A whole number of milliseconds."""

    unit: str = "ms"

    @staticmethod
    def seconds(value: int) -> float:
        """The same as the engine counts time: in seconds."""
        return value / 1000


def ms(low: int = 0, high: int = INT64) -> Duration:
    return Duration(low, high)


def size(low: int = 0, high: int = INT64) -> Int:
    return Int(low, high, "bytes")


def seconds(low: int = 0, high: int = INT64) -> Int:
    return Int(low, high, "seconds")


class Number(Struct, frozen=True):
    """
    A finite number with an optional fraction.

    Attributes:
        low, high: Both included, but low if `above`.
        unit: The type's name in the reference.
        above: True if `low` itself is refused.
    """

    low: float = 0.0
    high: float | None = None
    unit: str = "number"
    above: bool = False

    @property
    def allowed(self) -> str:
        high = "" if self.high is None else f"{self.high:.10g}"
        low = f"above {self.low:.10g}, to " if self.above else f"{self.low:.10g}.."
        return f"{self.unit} {low}{high}"

    def read(self, text: str, near: Path) -> float:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
            raise InvalidValue(
                f"allowed: {self.allowed}, digits with an optional fraction"
            )
        value = float(text)
        low = value > self.low if self.above else value >= self.low
        if not low or value > (self.high if self.high is not None else 1.7e308):
            raise InvalidValue(f"out of range, allowed: {self.allowed}")
        return value


def ratio(*, above: bool = False) -> Number:
    return Number(0.0, 1.0, "ratio", above)


class Choice(Struct, frozen=True):
    """
    One of a few words: any case, `-` for `_`; shown as listed here.

    Attributes:
        words: The spellings.
        refused: Words that are known and refused, with the reason.
        also: Further spellings and what they mean.
    """

    words: tuple[str, ...]
    refused: Mapping[str, str] = {}
    also: Mapping[str, str] = {}

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(self.words)

    def read(self, text: str, near: Path) -> str:
        plain = fold(text)
        for word in self.words:
            if fold(word) == plain:
                return word
        for other, word in self.also.items():
            if fold(other) == plain:
                return word
        for other, reason in self.refused.items():
            if fold(other) == plain:
                raise InvalidValue(f"refused: {reason}")
        raise InvalidValue(f"allowed: {self.allowed}", nearest(text, self.words))


class Text(Struct, frozen=True):
    """
    Any text, taken as it stands.

    Attributes:
        pattern: What the whole of it must match, or None.
        words: The pattern in words.
        comment: As `Comment`.
    """

    pattern: str | None = None
    words: str = "text"
    comment: Comment = Comment.REFUSED

    @property
    def allowed(self) -> str:
        return self.words

    def read(self, text: str, near: Path) -> str:
        if self.pattern is not None and not re.fullmatch(self.pattern, text):
            raise InvalidValue(f"allowed: {self.words}")
        if UNSENDABLE.search(text):
            raise InvalidValue("a control character")
        return text


class Delimiter(Struct, frozen=True):
    """
    One character of ASCII that is no line end, letter or digit; TAB and SPACE by name.

    Attributes:
        none: True if NONE, read as "", is allowed.
    """

    none: bool = False
    comment: Comment = Comment.REFUSED

    @property
    def allowed(self) -> str:
        return "one character, TAB or SPACE" + (", or NONE" if self.none else "")

    def read(self, text: str, near: Path) -> str:
        named = {"TAB": "\t", "\\T": "\t", "SPACE": " "}.get(text.upper(), text)
        if self.none and text.upper() == "NONE":
            return ""
        if len(named) != 1 or not named.isascii() or named.isalnum() or named in "\r\n":
            raise InvalidValue(f"allowed: {self.allowed}")
        return named


class Password(Struct, frozen=True):
    """
    A secret: it becomes a `Secret` and is never shown.

    Attributes:
        multiline: True for PEM text.
        check: Looks at the revealed text; raises Unfit without quoting it.
    """

    multiline: bool = False
    check: Callable[[str], None] | None = None
    comment: Comment = Comment.REFUSED
    allowed: str = "secret"

    def read(self, text: str, near: Path) -> Secret:
        if "\0" in text or (not self.multiline and UNSENDABLE.search(text)):
            raise InvalidValue("a control character")
        if self.check is not None:
            self.check(text)
        return Secret(text)


class CommaList(Struct, frozen=True):
    """A comma list; in JSON form an array of strings is the same."""

    item: Kind
    most: int | None = None
    alone: tuple[str, ...] = ()

    @property
    def comment(self) -> Comment:
        return Comment.ENDS

    @property
    def allowed(self) -> str:
        words = f"csv of {self.item.allowed.removeprefix('one of ')}"
        return words + "".join(f", or {word}" for word in self.alone)

    def read(self, text: str, near: Path) -> tuple[str, ...]:
        return self.read_items([item.strip(" \t") for item in text.split(",")], near)

    def read_items(self, items: Sequence[str], near: Path) -> tuple[str, ...]:
        if len(items) == 1 and items[0].lower() in self.alone:
            return (items[0].lower(),)
        if not all(items):
            raise InvalidValue("an empty item in the list")
        if self.most is not None and len(items) > self.most:
            raise InvalidValue(f"at most {self.most} items")
        found = []
        mistakes = Mistakes()
        for at, item in enumerate(items):
            with mistakes.of(at):
                try:
                    found.append(str(self.item.read(item, near)))
                except InvalidValue as error:
                    raise InvalidValue(
                        f"item {item!r}: {error}", error.nearest
                    ) from error
        mistakes.close()
        return tuple(found)


class Codes(Struct, frozen=True):
    """Status codes: ranges, both ends included."""

    ranges: tuple[tuple[int, int], ...]

    def __contains__(self, status: object) -> bool:
        # A request that had no answer has no status: it is none of them.
        if not isinstance(status, int):
            return False
        return any(low <= status <= high for low, high in self.ranges)

    def __str__(self) -> str:
        return ",".join(
            str(low) if low == high else f"{low}-{high}" for low, high in self.ranges
        )


class StatusCodes(Struct, frozen=True):
    allowed: str = "status codes and ranges, as 404,408,500-599 or 500-"

    def read(self, text: str, near: Path) -> Codes:
        mistakes = Mistakes()
        ranges: list[tuple[int, int]] = []
        for at, item in enumerate(text.split(",")):
            with mistakes.of(at):
                ranges.append(self._range(item))
        mistakes.close()
        return Codes(tuple(ranges))

    def _range(self, item: str) -> tuple[int, int]:
        found = re.fullmatch(r"[ \t]*([0-9]{3})(?:(-)([0-9]{3})?)?[ \t]*", item)
        if not found:
            raise InvalidValue(f"item {item.strip()!r}, allowed: {self.allowed}")
        low = int(found.group(1))
        high = int(found.group(3) or (599 if found.group(2) else low))
        if not 100 <= low <= high <= 599:
            raise InvalidValue(f"item {item.strip()!r}: codes are 100..599, low-high")
        return low, high


class Charset(Struct, frozen=True):
    """A text encoding by its usual names, as Python's codec."""

    allowed: str = "a charset, as utf-8, windows-1252 or shift_jis"

    def read(self, text: str, near: Path) -> str:
        codec = grammar.charset(text)
        if codec is None:
            raise InvalidValue(f"no charset that is read, allowed: {self.allowed}")
        return codec


class ClassName(Struct, frozen=True):
    """
    A Java class name, full or short.

    Attributes:
        classes: Full name -> our name.
        suffix: What may be left out of a short name.
    """

    classes: Mapping[str, str]
    suffix: str = ""

    @property
    def allowed(self) -> str:
        return "class " + ", ".join(sorted(set(self.classes.values())))

    def read(self, text: str, near: Path) -> str:
        if text in self.classes:
            return self.classes[text]
        for full, ours in self.classes.items():
            short = full.rpartition(".")[2]
            if text in (short, short.removesuffix(self.suffix) if self.suffix else ""):
                return ours
        short_names = sorted(set(self.classes.values()))
        raise InvalidValue(f"allowed: {self.allowed}", nearest(text, short_names))


class ConnectorClass(Struct, frozen=True):
    """The class a foreign file names: kept as written, it picks a dialect."""

    dialects: Mapping[str, str]

    @property
    def allowed(self) -> str:
        return "class " + ", ".join(self.dialects)

    def read(self, text: str, near: Path) -> str:
        if text not in self.dialects:
            raise InvalidValue(
                f"allowed: {self.allowed}", nearest(text, list(self.dialects))
            )
        return text


class Zone(Struct, frozen=True):
    allowed: str = "zone name as UTC or Europe/Berlin"

    def read(self, text: str, near: Path) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_+/-]{1,64}", text) or text.startswith("/"):
            raise InvalidValue(f"allowed: {self.allowed}")
        try:
            ZoneInfo(text)
        except (ValueError, OSError, KeyError) as error:
            raise InvalidValue(f"unknown zone, allowed: {self.allowed}") from error
        return text


class File(Struct, frozen=True):
    """
    A file's path; a relative one starts at the configuration file.

    Attributes:
        exists: True if it must be there and readable now.
    """

    exists: bool = False
    comment: Comment = Comment.REFUSED
    allowed: str = "file"

    def read(self, text: str, near: Path) -> Path:
        path, mode = _place(text, near)
        if self.exists and (mode is None or not stat.S_ISREG(mode)):
            raise InvalidValue("no such file")
        return path


class Directory(Struct, frozen=True):
    comment: Comment = Comment.REFUSED
    allowed: str = "directory"

    def read(self, text: str, near: Path) -> Path:
        path, mode = _place(text, near)
        if mode is not None and not stat.S_ISDIR(mode):
            raise InvalidValue("not a directory")
        return path


def _place(text: str, near: Path) -> tuple[Path, int | None]:
    """A path and what stands there, None for nothing or nothing to be seen."""
    if "\0" in text:
        raise InvalidValue("a control character")
    try:
        path = near / Path(text).expanduser()
        return path, path.stat().st_mode
    except RuntimeError as error:
        raise InvalidValue("no such user") from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise InvalidValue(os.strerror(error.errno).lower()) from error
        return path, None
