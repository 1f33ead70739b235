"""
Kinds: the types a key can have, each a reader of text.

Owns what a bool, a size, a header list or a URL looks like, and the words in
which a wrong one is refused.  Reads no file and knows no key; a value outside
its range is refused and never clamped.

Path: ``keys`` gives each key one of these -> ``load`` calls `read`.
"""

from __future__ import annotations

import difflib
import errno
import ipaddress
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from msgspec import Struct

from engine.config import grammar, jsontext
from engine.observe.redact import Secret, learn, sensitive

#: The largest number a size or duration may be: a signed 64-bit integer.
INT64 = 2**63 - 1

#: RFC 9110 section 5.6.2.
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: A longer URL or header is refused.
URL_BYTES = 8192

TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")

_EXPRESSION = re.compile(r"\$\{(?:[^}'\"]|'[^']*'|\"[^\"]*\")*\}")
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Unfit(ValueError):
    """
    A value that is not of its kind.

    Attributes:
        nearest: A value that may have been meant, or None.
        item: Which item of a list it is about, from 0, or None: the whole value.
        at: Where that item begins in the value's text, from 0, or None.
        each: Every mistake in the value; itself, where there is one.
    """

    def __init__(
        self,
        message: str,
        nearest: str | None = None,
        *,
        several: Sequence[Unfit] = (),
    ):
        super().__init__(message)
        self.nearest = nearest
        self.item: int | None = None
        self.at: int | None = None
        self.each: tuple[Unfit, ...] = tuple(several) or (self,)


class Mistakes:
    """
    Every mistake of a list, not only its first.

    `with mistakes.of(item):` around a check of one thing notes what is wrong
    with it and goes on behind.
    """

    def __init__(self) -> None:
        self._found: list[Unfit] = []

    @contextmanager
    def of(self, item: int) -> Iterator[None]:
        """Around one check of an item."""
        try:
            yield
        except Unfit as error:
            for one in error.each:
                one.item = item
                self._found.append(one)

    def close(self) -> None:
        """Raises: Unfit with all of them, if there are any."""
        if self._found:
            first = self._found[0]
            raise Unfit(str(first), first.nearest, several=self._found)


class Comment(Enum):
    """What a blank followed by `#` means inside a value."""

    #: It ends the value.
    ENDS = "ends"
    #: As ENDS, but quotes of either sort protect it.
    ENDS_OUTSIDE_QUOTES = "ends outside quotes"
    #: As ENDS, but `${...}` protects it.
    ENDS_OUTSIDE_TEMPLATE = "ends outside a template"
    #: It may be text or a comment, so it is refused.
    REFUSED = "refused"
    #: It is text.
    TEXT = "text"


class Kind(Protocol):
    """A type of value."""

    @property
    def allowed(self) -> str:
        """What is accepted, in a few words for people."""

    def read(self, text: str, near: Path) -> object:
        """
        The typed value.

        Args:
            text: Without escapes, comments and providers; not empty.
            near: The directory that relative files start at.

        Raises: Unfit.
        """


def comment_rule(kind: Kind | None) -> Comment:
    """How an inline comment is treated; an unknown key is the lenient case."""
    return getattr(kind, "comment", Comment.ENDS)


def is_json(kind: Kind | None) -> bool:
    """Whether the value may run over several lines."""
    return kind is None or isinstance(kind, Json | Body)


def is_template(kind: Kind | None) -> bool:
    """Whether `${...}` belongs to the value."""
    return getattr(kind, "template", False)


class Bool(Struct, frozen=True):
    allowed: str = "true or false"

    def read(self, text: str, near: Path) -> bool:
        word = text.lower()
        if word not in ("true", "false") or not text.isascii():
            raise Unfit("allowed: true or false")
        return word == "true"


class Int(Struct, frozen=True):
    """
    A whole number.

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
            raise Unfit(f"allowed: {self.allowed}, digits only")
        digits = text.lstrip("-").lstrip("0") or "0"
        if len(digits) > 20:
            raise Unfit(f"out of range, allowed: {self.allowed}")
        value = -int(digits) if text.startswith("-") else int(digits)
        if not self.low <= value <= self.high or (self.nonzero and value == 0):
            raise Unfit(f"out of range, allowed: {self.allowed}")
        return value


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
            raise Unfit(f"allowed: {self.allowed}, digits with an optional fraction")
        value = float(text)
        low = value > self.low if self.above else value >= self.low
        if not low or value > (self.high if self.high is not None else 1.7e308):
            raise Unfit(f"out of range, allowed: {self.allowed}")
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
        plain = _fold(text)
        for word in self.words:
            if _fold(word) == plain:
                return word
        for other, word in self.also.items():
            if _fold(other) == plain:
                return word
        for other, reason in self.refused.items():
            if _fold(other) == plain:
                raise Unfit(f"refused: {reason}")
        raise Unfit(f"allowed: {self.allowed}", nearest(text, self.words))


def _fold(word: str) -> str:
    return word.upper().replace("-", "_")


def nearest(word: str, among: Sequence[str]) -> str | None:
    """The word of `among` that is most alike, or None."""
    folded = {other.lower(): other for other in among}
    found = difflib.get_close_matches(word.lower(), list(folded), 1, 0.6)
    return folded[found[0]] if found else None


class Text(Struct, frozen=True):
    """
    Any text.

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
            raise Unfit(f"allowed: {self.words}")
        if _UNSENDABLE.search(text):
            raise Unfit("a control character")
        return text


class Password(Struct, frozen=True):
    """
    A secret.

    Attributes:
        multiline: True for PEM text.
        check: Looks at the revealed text; raises Unfit without quoting it.
    """

    multiline: bool = False
    check: Callable[[str], None] | None = None
    comment: Comment = Comment.REFUSED
    allowed: str = "secret"

    def read(self, text: str, near: Path) -> Secret:
        if "\0" in text or (not self.multiline and _UNSENDABLE.search(text)):
            raise Unfit("a control character")
        if self.check is not None:
            self.check(text)
        return Secret(text)


class Csv(Struct, frozen=True):
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
            raise Unfit("an empty item in the list")
        if self.most is not None and len(items) > self.most:
            raise Unfit(f"at most {self.most} items")
        found = []
        mistakes = Mistakes()
        for at, item in enumerate(items):
            with mistakes.of(at):
                try:
                    found.append(str(self.item.read(item, near)))
                except Unfit as error:
                    raise Unfit(f"item {item!r}: {error}", error.nearest) from error
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
            raise Unfit(f"item {item.strip()!r}, allowed: {self.allowed}")
        low = int(found.group(1))
        high = int(found.group(3) or (599 if found.group(2) else low))
        if not 100 <= low <= high <= 599:
            raise Unfit(f"item {item.strip()!r}: codes are 100..599, low-high")
        return low, high


class Charset(Struct, frozen=True):
    """A text encoding by its usual names, as Python's codec."""

    allowed: str = "a charset, as utf-8, windows-1252 or shift_jis"

    def read(self, text: str, near: Path) -> str:
        codec = grammar.charset(text)
        if codec is None:
            raise Unfit(f"no charset that is read, allowed: {self.allowed}")
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
        raise Unfit(f"allowed: {self.allowed}", nearest(text, short_names))


class ConnectorClass(Struct, frozen=True):
    """The class a foreign file names: kept as written, it picks a dialect."""

    dialects: Mapping[str, str]

    @property
    def allowed(self) -> str:
        return "class " + ", ".join(self.dialects)

    def read(self, text: str, near: Path) -> str:
        if text not in self.dialects:
            raise Unfit(f"allowed: {self.allowed}", nearest(text, list(self.dialects)))
        return text


class Url(Struct, frozen=True):
    """
    An absolute `http:` or `https:` URL.

    Attributes:
        relative: True if a relative reference is accepted, too.
        origin: True if nothing may follow host and port.
    """

    relative: bool = False
    origin: bool = False

    @property
    def allowed(self) -> str:
        words = "http: or https: URL"
        return f"{words}, or a reference to the base URL" if self.relative else words

    def read(self, text: str, near: Path) -> str:
        check_url(text, relative=self.relative)
        if self.origin and not re.fullmatch(r"[a-z]+://[^/?]+/?", text, re.IGNORECASE):
            raise Unfit("allowed: scheme, host and port only")
        return text


def check_url(text: str, *, relative: bool = False) -> None:
    """
    Refuse what is no URL of ours (RFC 3986; no userinfo, no fragment).

    Raises: Unfit.
    """
    if len(text.encode()) > URL_BYTES:
        raise Unfit(f"longer than {URL_BYTES} bytes")
    if re.search(r"[\x00-\x20\x7f]", text):
        raise Unfit("a blank or control character in a URL")
    if re.search(r"%0[0ad]", text.partition("?")[0], re.IGNORECASE):
        raise Unfit("an encoded CR, LF or NUL in a URL")
    if "#" in text:
        raise Unfit("a fragment (#...) is never sent: leave it out")
    if "\\" in text:
        raise Unfit("a backslash in a URL")
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?([^/?]*)", text)
    if found is None:
        if not relative:
            raise Unfit("allowed: an absolute http: or https: URL")
        if text.startswith("//"):
            raise Unfit("a reference may not name another host")
        return
    scheme, slashes, authority = found.groups()
    if scheme.lower() not in ("http", "https") or not slashes:
        raise Unfit(f"scheme {scheme!r}, allowed: http or https")
    if "@" in authority:
        raise Unfit("user and password do not belong in a URL: use auth.type")
    check_host_port(authority, default=True)


def check_host_port(text: str, *, default: bool) -> None:
    """
    Refuse what is no `host:port`.

    Args:
        default: True if the port may be left out.
    Raises: Unfit.
    """
    found = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::(.*))?", text)
    if found is None:
        raise Unfit(f"host {text!r}: an IPv6 address stands in brackets")
    host, port = found.groups()
    if port is None and not default:
        raise Unfit(f"{text!r} without a port")
    if port is not None and (
        not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535
    ):
        raise Unfit(f"port {port!r}, allowed: 1..65535")
    if not host:
        raise Unfit("no host")
    if host.startswith("["):
        if "%" in host:
            raise Unfit("an IPv6 zone is refused")
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError as error:
            raise Unfit(f"host {host!r} is no IPv6 address") from error
        return
    check_host(host)


def check_host(host: str) -> None:
    """
    Refuse what is neither a host name nor a plain IPv4 address.

    Raises: Unfit.
    """
    try:
        name = host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError as error:
        raise Unfit(f"host {host!r} is no host name") from error
    labels = name.removesuffix(".").split(".")
    label = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
    if len(name) > 253 or not all(label.fullmatch(part) for part in labels):
        raise Unfit(f"host {host!r} is no host name")
    # The last label of a name is never numeric (WHATWG URL, "ends in a number").
    if re.fullmatch(r"[0-9]+|0[xX][0-9a-fA-F]*", labels[-1]):
        try:
            ipaddress.IPv4Address(name)
        except ValueError as error:
            raise Unfit(f"host {host!r}: IPv4 is four decimal numbers") from error


class HostPort(Struct, frozen=True):
    """
    `host:port`.

    Attributes:
        port: True if the port must be there.
        wildcard: True if a leading `*.` is accepted.
    """

    port: bool = True
    wildcard: bool = False

    @property
    def allowed(self) -> str:
        return "host:port" if self.port else "host[:port]"

    def read(self, text: str, near: Path) -> str:
        name = text.removeprefix("*.") if self.wildcard else text
        check_host_port(name, default=not self.port)
        return text


class Listener(Struct, frozen=True):
    allowed: str = "http://host:port"

    def read(self, text: str, near: Path) -> str:
        found = re.fullmatch(r"http://([^/]+):([0-9]{1,5})/?", text, re.IGNORECASE)
        if found is None or int(found.group(2)) > 65535:
            raise Unfit("allowed: http://host:port, port 0..65535 (0: any)")
        if found.group(1) not in ("0.0.0.0", "*", "[::]"):
            check_host_port(found.group(1), default=True)
        return text.removesuffix("/")


class Cidr(Struct, frozen=True):
    allowed: str = "network as 10.0.0.0/8 or fd00::/8"

    def read(self, text: str, near: Path) -> str:
        try:
            return str(ipaddress.ip_network(text))
        except ValueError as error:
            raise Unfit(f"{error}; allowed: {self.allowed}") from error


class Pin(Struct, frozen=True):
    allowed: str = "sha256/BASE64 of a public key's SHA-256"

    def read(self, text: str, near: Path) -> str:
        if not re.fullmatch(r"sha256/[A-Za-z0-9+/]{43}=", text):
            raise Unfit(f"allowed: {self.allowed}")
        return text


class Topic(Struct, frozen=True):
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
            _grammar(grammar.template, text, self.names)
            fixed = _EXPRESSION.sub("x", text)
        if not TOPIC.fullmatch(fixed):
            raise Unfit(f"allowed: {self.allowed}")
        if text in (".", ".."):
            raise Unfit("'.' and '..' are no topic names")
        return text


class Template(Struct, frozen=True):
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
        _grammar(grammar.template, text, self.names)
        if self.url:
            origin = re.match(r"[^/?#]*:?/{0,2}[^/?#]*", text)
            if origin and "://" in origin.group() and "${" in origin.group():
                raise Unfit("${...} is allowed only behind the host")
            check_url(_EXPRESSION.sub("x", text), relative=True)
        elif _UNSENDABLE.search(text.replace("\n", "").replace("\r", "")):
            raise Unfit("a control character")
        return text


class Body(Struct, frozen=True):
    """A request's body: a template that may be JSON over several lines."""

    names: frozenset[str]
    comment: Comment = Comment.REFUSED
    template: bool = True
    allowed: str = "text or JSON with ${...}"

    def read(self, text: str, near: Path) -> str:
        _grammar(grammar.template, text, self.names)
        return text


class Params(Struct, frozen=True):
    """`a=b&c=d`."""

    names: frozenset[str]
    template: bool = True
    comment: Comment = Comment.REFUSED
    allowed: str = "a=b&c=d with ${...}"

    def read(self, text: str, near: Path) -> str:
        _grammar(grammar.template, text, self.names)
        masked = _EXPRESSION.sub(lambda found: "x" * len(found.group()), text)
        if _UNSENDABLE.search(masked):
            raise Unfit("a control character")
        for item in masked.removeprefix("?").split("&"):
            if not item.partition("=")[0].strip():
                raise Unfit("a parameter without a name; allowed: a=b&c=d")
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
                raise Unfit(f"{name!r} is no header name")
            return f"header:{name}"
        _grammar(grammar.path, text)
        return text


class Glob(Struct, frozen=True):
    allowed: str = "glob: * ** ? [a-m]"

    def read(self, text: str, near: Path) -> str:
        _grammar(grammar.glob, text)
        return text


class Cron(Struct, frozen=True):
    allowed: str = "cron, six fields, seconds first (five: second 0)"

    def read(self, text: str, near: Path) -> str:
        return str(_grammar(grammar.cron, text))


class WindowFormat(Struct, frozen=True):
    comment: Comment = Comment.REFUSED
    allowed: str = "ISO8601, EPOCH_SECONDS, EPOCH_MILLIS, or a date pattern"

    def read(self, text: str, near: Path) -> str:
        for word in ("ISO8601", "EPOCH_SECONDS", "EPOCH_MILLIS"):
            if _fold(text) == word:
                return word
        _grammar(grammar.pattern, text)
        return text


class Zone(Struct, frozen=True):
    allowed: str = "zone name as UTC or Europe/Berlin"

    def read(self, text: str, near: Path) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_+/-]{1,64}", text) or text.startswith("/"):
            raise Unfit(f"allowed: {self.allowed}")
        try:
            ZoneInfo(text)
        except (ValueError, OSError, KeyError) as error:
            raise Unfit(f"unknown zone, allowed: {self.allowed}") from error
        return text


class Regex(Struct, frozen=True):
    comment: Comment = Comment.REFUSED
    allowed: str = "regular expression"

    def read(self, text: str, near: Path) -> str:
        _grammar(grammar.regex, text)
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
            raise Unfit("no such file")
        return path


class Directory(Struct, frozen=True):
    comment: Comment = Comment.REFUSED
    allowed: str = "directory"

    def read(self, text: str, near: Path) -> Path:
        path, mode = _place(text, near)
        if mode is not None and not stat.S_ISDIR(mode):
            raise Unfit("not a directory")
        return path


def _place(text: str, near: Path) -> tuple[Path, int | None]:
    """A path and what stands there, None for nothing or nothing to be seen."""
    if "\0" in text:
        raise Unfit("a control character")
    try:
        path = near / Path(text).expanduser()
        return path, path.stat().st_mode
    except RuntimeError as error:
        raise Unfit("no such user") from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise Unfit(os.strerror(error.errno).lower()) from error
        return path, None


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
            raise Unfit(f"not JSON: {error}; allowed: {self.words}") from error
        value = jsontext.plain(node)
        try:
            self.check(value)
        except Unfit as error:
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
            raise Unfit("Authorization stands here twice")
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
    masked = _EXPRESSION.sub(lambda found: "x" * len(found.group()), text)
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
            raise Unfit(f"{item.strip()!r} has no ':'; allowed: Name:value; Name:value")
        items.append((head.strip(" \t"), value.strip(" \t")))
    return items


def check_header_name(name: str, *, kafka: bool = False) -> None:
    """Refuse a name that cannot be sent.  Raises: Unfit."""
    if not name:
        raise Unfit("a header without a name")
    if kafka:
        return
    if not TOKEN.fullmatch(name):
        raise Unfit(f"{name!r} is no header name (RFC 9110)")
    if name.lower() in RESERVED_HEADERS:
        raise Unfit(f"header {name} is written by the HTTP layer itself")


def check_header_value(
    name: str, value: str, names: frozenset[str], *, kafka: bool = False
) -> None:
    """Refuse a value that cannot be sent.  Raises: Unfit."""
    if re.search(r"[\r\n\0]", value):
        raise Unfit(f"header {name}: CR, LF or NUL in its value")
    _grammar(grammar.template, value, names)
    if kafka:
        return
    fixed = _EXPRESSION.sub("", value)
    try:
        fixed.encode("latin-1")
    except UnicodeEncodeError as error:
        raise Unfit(f"header {name}: a character outside Latin-1") from error
    if _UNSENDABLE.search(fixed):
        raise Unfit(f"header {name}: a control character in its value")
    if len(value) > URL_BYTES:
        raise Unfit(f"header {name}: longer than {URL_BYTES} bytes")


class Header(Struct, frozen=True):
    """The value of one header, `http.source.header.<Name>`: no splitting."""

    names: frozenset[str]
    template: bool = True
    comment: Comment = Comment.REFUSED
    allowed: str = "text with ${...}"

    def read(self, text: str, near: Path) -> str:
        check_header_value("value", text, self.names)
        return text


class Brokers(Struct, frozen=True):
    """`bootstrap.servers`: a csv of host:port, or `embedded`."""

    allowed: str = "csv of host:port, or embedded"

    def read(self, text: str, near: Path) -> tuple[str, ...]:
        return Csv(HostPort(), alone=("embedded",)).read(text, near)

    def read_items(self, items: Sequence[str], near: Path) -> tuple[str, ...]:
        return Csv(HostPort(), alone=("embedded",)).read_items(items, near)


def _grammar(check: Callable[..., object], *args: object) -> object:
    try:
        return check(*args)
    except grammar.LanguageError as error:
        raise Unfit(str(error)) from error
