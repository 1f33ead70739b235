"""
Freshness: whether an answer may be kept, may be used, must be asked for anew.

Owns RFC 9111 for a private cache, RFC 5861's two directives, and the shape of
what is kept.  Pure: no clock, no store, no request is sent; ages are handed in.

Under `source.cached`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TypeAlias
from urllib.parse import urljoin, urlsplit

import msgspec
from msgspec import Struct

from engine.records import Request, Response

#: Names and values, names in lower case.
Headers: TypeAlias = tuple[tuple[str, str], ...]

#: A lifetime beyond this is this: RFC 9111 1.2.2.
LONGEST = 2**31

#: Characters of an ETag or Last-Modified that is sent back: the head of a request
#: with more is refused by most servers (8 KiB in all for nginx and Apache).
LONGEST_VALIDATOR = 8 * 1024

#: Statuses that are kept; the others a page never comes with.
KEPT = frozenset({200})

#: Answers for which a stale one may stand in: RFC 5861 4.
ERRORS = frozenset({500, 502, 503, 504})

#: Methods that change nothing: RFC 9110 9.2.1.
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

#: Of one connection, or of one moment: not kept.  RFC 9111 3.1.
PASSING = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "set-cookie",
        "set-cookie2",
    }
)

#: What a 304 does not change, since it speaks of the body as it was sent:
#: RFC 9111 3.2, 4.3.4.
OF_THE_BODY = frozenset(
    {
        "content-length",
        "content-encoding",
        "content-range",
        "content-md5",
        "content-digest",
        "transfer-encoding",
        # The condition named ours, and the answer was: that one still holds.
        "etag",
    }
)

#: Conditions and ranges of a caller's own: such a request is its own affair.
OWN = frozenset(
    {
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
        "range",
    }
)

_DIRECTIVE = re.compile(
    r'[ \t]*([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^ \t,;"]*)))?'
    r"[^,]*(?:,|\Z)"
)
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
_SECONDS = re.compile(r"[0-9]{1,20}\Z")
_META = struct.Struct("<I")


class Stored(Struct, frozen=True, array_like=True):
    """
    What is kept of an answer.

    Attributes:
        url: What was asked.
        answered: Where it was answered, after redirects.
        status: 200; 0: no answer, only the names in `vary` by which the
            answers of this URL differ.
        headers: Of the answer, without those of the connection.
        body: Whole, inflated.
        vary: Request headers named by Vary, with the value they had.
        age: Seconds it was old when it arrived: RFC 9111 4.2.3.
        received_ms: Wall milliseconds of its arrival, or of its last 304.
    """

    url: str
    answered: str
    status: int
    headers: Headers
    body: bytes
    vary: tuple[tuple[str, str | None], ...] = ()
    age: float = 0.0
    received_ms: int = 0

    def header(self, name: str) -> str | None:
        """All values joined by ", ", or None; name in lower case."""
        found = [value for key, value in self.headers if key == name]
        return ", ".join(found) if found else None


class Verdict(Enum):
    """What may be done with a stored answer."""

    #: Use it.
    FRESH = "fresh"
    #: Use it, and ask meanwhile.
    WHILE_REVALIDATING = "while revalidating"
    #: Ask, with its validators where it has any.
    STALE = "stale"


def encode(stored: Stored) -> bytes:
    """As bytes: the length of the head, the head, the body."""
    head = msgspec.msgpack.encode(msgspec.structs.replace(stored, body=b""))
    return b"".join((_META.pack(len(head)), head, stored.body))


def decode(raw: bytes | memoryview) -> Stored:
    """Raises ValueError for bytes that `encode` did not write."""
    if len(raw) < _META.size:
        raise ValueError("cut")
    (length,) = _META.unpack_from(raw)
    start = _META.size + length
    try:
        stored = _DECODER.decode(raw[_META.size : start])
    except msgspec.DecodeError as failure:
        raise ValueError(str(failure)) from failure
    return Stored(
        stored.url,
        stored.answered,
        stored.status,
        stored.headers,
        bytes(raw[start:]),
        stored.vary,
        stored.age,
        stored.received_ms,
    )


_DECODER = msgspec.msgpack.Decoder(Stored)


def directives(text: str | None) -> dict[str, str | None]:
    """
    Cache-Control by name in lower case; of a repeated one the first counts,
    unless a later one says otherwise: then it is "" and means nothing good.
    """
    found: dict[str, str | None] = {}
    if not text:
        return found
    place = 0
    while place < len(text):
        match = _DIRECTIVE.match(text, place)
        if match is None:
            comma = text.find(",", place)
            if comma < 0:
                break
            place = comma + 1
            continue
        name = match[1].lower()
        value = match[2] if match[2] is not None else match[3]
        if name in found and found[name] != value:
            found[name] = ""
        else:
            found[name] = value
        place = match.end()
    return found


def seconds(text: str | None) -> int | None:
    """Delta seconds, held to 2^31; None for anything else."""
    if text is None or not _SECONDS.match(text):
        return None
    return min(int(text), LONGEST)


def http_date(text: str | None) -> float | None:
    """Epoch seconds of an HTTP date, or None."""
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return moment.timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def joined(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    """All values of a header, any case, joined by ", "; or None."""
    found = [value.strip() for key, value in headers if key.lower() == name]
    return ", ".join(found) if found else None


def stated_lifetime(headers: Headers, received_ms: int) -> float | None:
    """
    Seconds of freshness that the answer itself states, or None.

    An unreadable one is 0.0: it wanted to say something.  s-maxage is not for
    a private cache.  Source: RFC 9111 4.2.1, 5.3.
    """
    control = directives(joined(headers, "cache-control"))
    if "max-age" in control:
        age = seconds(control["max-age"])
        return float(age) if age is not None else 0.0
    expires = [value for key, value in headers if key == "expires"]
    if expires:
        until = http_date(expires[0]) if len(set(expires)) == 1 else None
        if until is None:
            return 0.0
        date = http_date(joined(headers, "date"))
        return max(0.0, until - (received_ms / 1000 if date is None else date))
    return None


def lifetime(stored: Stored, ttl: float) -> float:
    """
    Seconds for which it is fresh.

    Args:
        ttl: `cache.response.ttl.seconds`: what stands in for a lifetime that
            is not stated, and cuts one that is; 0.0: neither.
    """
    stated = stated_lifetime(stored.headers, stored.received_ms)
    if stated is None:
        return ttl
    return min(stated, ttl) if ttl else stated


def initial_age(headers: Headers, received_ms: int, delay: float) -> float:
    """
    Seconds an answer was old when it arrived.

    Args:
        delay: Seconds from asking to its arrival.

    Source: RFC 9111 4.2.3.
    """
    date = http_date(joined(headers, "date"))
    apparent = max(0.0, received_ms / 1000 - date) if date is not None else 0.0
    text = joined(headers, "age")
    if text is None:
        return max(apparent, delay)
    age = seconds(text)
    # Not a number, or several: nobody knows how old it is.
    return float(LONGEST) if age is None else max(apparent, age + delay)


def storable(request: Request, response: Response, ttl: float) -> bool:
    """
    Whether an answer may be kept, and is of any use if it is.

    Source: RFC 9111 3; `cache.*`: complete GET answers with status 200.
    """
    if request.method != "GET" or response.status not in KEPT:
        return False
    if any(name.lower() in OWN for name, _ in request.headers):
        return False
    headers = tuple(response.headers)
    control = directives(joined(headers, "cache-control"))
    asked = directives(joined(request.headers, "cache-control"))
    if "no-store" in control or "no-store" in asked:
        return False
    vary = joined(headers, "vary")
    if vary is not None and "*" in {part.strip() for part in vary.split(",")}:
        return False
    if validators(headers):
        return True
    stated = stated_lifetime(headers, response.received_ms)
    return (ttl if stated is None else stated) > 0 and "no-cache" not in control


def kept(request: Request, response: Response, delay: float) -> Stored:
    """What is kept of an answer that may be."""
    headers = lasting(response.headers)
    return Stored(
        request.url,
        response.url,
        response.status,
        headers,
        bytes(response.body),
        varying(request, joined(headers, "vary")),
        initial_age(headers, response.received_ms, delay),
        response.received_ms,
    )


def lasting(headers: Iterable[tuple[str, str]]) -> Headers:
    """Headers without those of the connection, and without unusable validators."""
    pairs = [(name.lower(), value) for name, value in headers]
    named = joined(pairs, "connection") or ""
    dropped = PASSING | {part.strip().lower() for part in named.split(",")}
    for name in ("etag", "last-modified"):
        value = joined(pairs, name)
        if value and not _fits(value):
            dropped |= {name}
    return tuple(pair for pair in pairs if pair[0] not in dropped)


def varying(request: Request, vary: str | None) -> tuple[tuple[str, str | None], ...]:
    """The request's headers that Vary names, sorted, spaces evened out."""
    if vary is None:
        return ()
    names = sorted({part.strip().lower() for part in vary.split(",") if part.strip()})
    return tuple((name, _evened(joined(request.headers, name))) for name in names)


def _evened(value: str | None) -> str | None:
    if value is None:
        return None
    return ",".join(" ".join(part.split()) for part in value.split(","))


def validators(headers: Headers) -> dict[str, str]:
    """
    The conditions by which a request asks only for news.

    One beyond `LONGEST_VALIDATOR`, or that cannot stand in a request's header,
    is none: the API would refuse its own word, at every poll anew.
    """
    found = {}
    etag = joined(headers, "etag")
    if etag and _fits(etag):
        found["If-None-Match"] = etag
    modified = joined(headers, "last-modified")
    if modified and _fits(modified):
        found["If-Modified-Since"] = modified
    return found


def _fits(value: str) -> bool:
    return len(value) <= LONGEST_VALIDATOR and not _UNSENDABLE.search(value)


def verdict(stored: Stored, age: float, request: Request, ttl: float) -> Verdict:
    """
    What may be done with what is stored.

    Args:
        age: Seconds since it was received.

    Source: RFC 9111 4, 5.2; RFC 5861 3.
    """
    control = directives(stored.header("cache-control"))
    asked = requested(request)
    if "no-cache" in control or "no-cache" in asked:
        return Verdict.STALE
    old = stored.age + age
    fresh_for = lifetime(stored, ttl)
    limit = seconds(asked.get("max-age")) if "max-age" in asked else None
    if limit is not None and old >= limit:
        return Verdict.STALE
    rest = seconds(asked.get("min-fresh")) or 0
    if old + rest < fresh_for:
        return Verdict.FRESH
    if "must-revalidate" in control:
        return Verdict.STALE
    if "max-stale" in asked:
        allowed = seconds(asked["max-stale"])
        if asked["max-stale"] is None or (allowed or 0) > old - fresh_for:
            return Verdict.FRESH
    meanwhile = seconds(control.get("stale-while-revalidate"))
    if meanwhile and old < fresh_for + meanwhile:
        return Verdict.WHILE_REVALIDATING
    return Verdict.STALE


def requested(request: Request) -> Mapping[str, str | None]:
    """The request's own Cache-Control; an old Pragma counts where there is none."""
    text = joined(request.headers, "cache-control")
    if text is None and "no-cache" in (joined(request.headers, "pragma") or "").lower():
        return {"no-cache": None}
    return directives(text)


def stands_in(stored: Stored, age: float, request: Request, ttl: float) -> bool:
    """
    Whether a stale answer may be used because the API fails.

    Only where the answer, or the request, allows it by stale-if-error.
    Source: RFC 5861 4.
    """
    control = directives(stored.header("cache-control"))
    if "must-revalidate" in control or "no-cache" in control:
        return False
    allowed = seconds(control.get("stale-if-error"))
    if allowed is None:
        allowed = seconds(requested(request).get("stale-if-error"))
    return allowed is not None and stored.age + age < lifetime(stored, ttl) + allowed


def freshened(stored: Stored, response: Response, delay: float) -> Stored:
    """What is stored, with a 304's headers in place of those of their names."""
    news = [pair for pair in lasting(response.headers) if pair[0] not in OF_THE_BODY]
    names = {name for name, _ in news}
    # An Age of before says nothing of the answer that was just confirmed.
    names.add("age")
    headers = tuple(p for p in stored.headers if p[0] not in names) + tuple(news)
    return msgspec.structs.replace(
        stored,
        headers=headers,
        age=initial_age(headers, response.received_ms, delay),
        received_ms=response.received_ms,
    )


def touched(request: Request, response: Response) -> tuple[str, ...]:
    """
    URLs whose answers a change may have made wrong.

    Source: RFC 9111 4.4.
    """
    if request.method in SAFE or not 200 <= response.status < 400:
        return ()
    found = [request.url]
    origin = urlsplit(request.url)[:2]
    for name in ("location", "content-location"):
        value = response.header(name)
        if value:
            url = urljoin(request.url, value)
            if urlsplit(url)[:2] == origin:
                found.append(url)
    return tuple(found)
