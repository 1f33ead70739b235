"""
Freshness: whether an answer may be kept, may be used, must be asked for anew.

Owns RFC 9111 for a private cache, RFC 5861's two directives, and the shape of
what is kept.  Pure: no clock, no store, no request is sent; ages are handed in.

Under `source.fetch.cache`.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TypeAlias
from urllib.parse import urljoin, urlsplit

import msgspec
from msgspec import Struct

from engine.later import pattern
from engine.records import Request, Response
from engine.source.fetch.fields import LONGEST, directives, http_date, joined, seconds

#: Names and values, names in lower case.
Headers: TypeAlias = tuple[tuple[str, str], ...]

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

#: RFC 9110 8.8.3: whether it is weak, and what it says.
_ENTITY_TAG = pattern(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")\Z')

#: Seconds by which a Last-Modified must be older than its answer to be strong:
#: RFC 9110 8.8.2.2.
SETTLED = 60.0
_META = struct.Struct("<I")


class StoredResponse(Struct, frozen=True, array_like=True):
    """
    What is kept of an answer.

    Attributes:
        url: What was asked.
        answered: Where it was answered, after redirects.
        status: 200.
        headers: Of the answer, without those of the connection.
        body: Whole, inflated, as the answer had it; nobody writes to it.
        age: Seconds it was old when it arrived: RFC 9111 4.2.3.
        received_ms: Wall milliseconds of its arrival, or of its last 304.
    """

    url: str
    answered: str
    status: int
    headers: Headers
    body: bytes | bytearray
    age: float = 0.0
    received_ms: int = 0

    def header(self, name: str) -> str | None:
        """All values joined by ", ", or None; name in lower case."""
        found = [value for key, value in self.headers if key == name]
        return ", ".join(found) if found else None


#: A `StoredResponse` whose body stands elsewhere.
_Head: TypeAlias = tuple[str, str, int, Headers, bytes, float, int]


class CacheVerdict(Enum):
    """What may be done with a stored answer."""

    #: Use it.
    FRESH = "fresh"
    #: Use it, and ask meanwhile.
    WHILE_REVALIDATING = "while revalidating"
    #: Ask, with its validators where it has any.
    STALE = "stale"


def encode(stored: StoredResponse) -> tuple[bytes, bytes | bytearray]:
    """As bytes, in parts: the length of the head and the head; the body, uncopied."""
    head = msgspec.msgpack.encode(msgspec.structs.replace(stored, body=b""))
    return _META.pack(len(head)) + head, stored.body


def weight(stored: StoredResponse) -> int:
    """About as many bytes as `encode` makes of it."""
    size = len(stored.body) + len(stored.url) + len(stored.answered) + 32
    return size + sum(len(name) + len(value) + 4 for name, value in stored.headers)


def decode(raw: bytes | memoryview) -> StoredResponse:
    """Raises ValueError for bytes that `encode` did not write."""
    if len(raw) < _META.size:
        raise ValueError("cut")
    (length,) = _META.unpack_from(raw)
    start = _META.size + length
    try:
        url, answered, status, headers, _, age, received_ms = _decoder().decode(
            raw[_META.size : start]
        )
    except msgspec.DecodeError as failure:
        raise ValueError(str(failure)) from failure
    body = bytes(raw[start:])
    return StoredResponse(url, answered, status, headers, body, age, received_ms)


@functools.cache
def _decoder() -> msgspec.msgpack.Decoder[_Head]:
    return msgspec.msgpack.Decoder(_Head)


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


def lifetime(stored: StoredResponse, ttl: float) -> float:
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
    if response.hops:
        # The answer is the target's, and for how long it stands says nothing of
        # how long the first URL leads there.
        return False
    headers = tuple(response.headers)
    control = directives(joined(headers, "cache-control"))
    asked = directives(joined(request.headers, "cache-control"))
    if "no-store" in control or "no-store" in asked:
        return False
    if "*" in varying(headers):
        return False
    if validators(headers, response.received_ms):
        return True
    stated = stated_lifetime(headers, response.received_ms)
    return (ttl if stated is None else stated) > 0 and "no-cache" not in control


def kept(request: Request, response: Response, delay: float) -> StoredResponse:
    """What is kept of an answer that may be."""
    headers, body = lasting(response.headers), response.body
    return StoredResponse(
        request.url,
        response.url,
        response.status,
        headers,
        body if isinstance(body, (bytes, bytearray)) else bytes(body),
        initial_age(headers, response.received_ms, delay),
        response.received_ms,
    )


def lasting(headers: Iterable[tuple[str, str]]) -> Headers:
    """Headers without those of the connection."""
    pairs = tuple((name.lower(), value) for name, value in headers)
    named = joined(pairs, "connection") or ""
    dropped = PASSING | {part.strip().lower() for part in named.split(",")}
    return tuple([pair for pair in pairs if pair[0] not in dropped])


def varying(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    """
    What Vary names, in lower case; "*" for what no request header tells.

    All that a request is made of is in the key of its answer, so that the other
    names need no further look: RFC 9111 4.1.
    """
    named = joined(headers, "vary") or ""
    return frozenset(part.strip().lower() for part in named.split(",")) - {""}


def entity_tag(headers: Iterable[tuple[str, str]]) -> tuple[str, bool] | None:
    """
    (what stands in quotes, whether it is weak) of the ETag.

    None without one, for several, and for what is no entity tag (`*`, no quotes):
    RFC 9110 8.8.3.
    """
    text = joined(headers, "etag") or ""
    match = _ENTITY_TAG.match(text) if len(text) <= LONGEST_VALIDATOR else None
    return None if match is None else (match[2], match[1] is not None)


def settled(headers: Headers, received_ms: int) -> str | None:
    """
    The Last-Modified, where it is strong enough to be asked with alone.

    None for one that is no date, or within a minute of the answer's own: what
    changed again within that second had the same.  Source: RFC 9110 8.8.2.2.
    """
    text = joined(headers, "last-modified")
    modified = http_date(text)
    if modified is None:
        return None
    date = http_date(joined(headers, "date"))
    if date is None:
        date = received_ms / 1000
    return text if date - modified >= SETTLED else None


def validators(headers: Headers, received_ms: int) -> dict[str, str]:
    """
    The condition by which a request asks only for news; empty: there is none.

    One is enough and two can disagree: the entity tag where there is one, else a
    strong Last-Modified.
    """
    if entity_tag(headers) is not None:
        return {"If-None-Match": joined(headers, "etag") or ""}
    modified = settled(headers, received_ms)
    return {} if modified is None else {"If-Modified-Since": modified}


def confirms(stored: StoredResponse, response: Response) -> bool:
    """
    Whether a 304 speaks of the stored answer that was asked about.

    A validator of its own that is another one speaks of another answer; without
    any it can only mean the one that was asked with.  Source: RFC 9111 4.3.4.
    """
    if response.hops:
        return False
    said, known = entity_tag(response.headers), entity_tag(stored.headers)
    if said is not None:
        # A proxy that compresses makes the tag of a 200 weak and leaves that of
        # a 304: weakly compared, as If-None-Match itself is.
        return known is not None and said[0] == known[0]
    modified = joined(response.headers, "last-modified")
    before = stored.header("last-modified")
    return (
        modified is None or before is None or http_date(modified) == http_date(before)
    )


def verdict(
    stored: StoredResponse, age: float, request: Request, ttl: float
) -> CacheVerdict:
    """
    What may be done with what is stored.

    Args:
        age: Seconds since it was received.

    Source: RFC 9111 4, 5.2; RFC 5861 3.
    """
    control = directives(stored.header("cache-control"))
    asked = requested(request)
    if "no-cache" in control or "no-cache" in asked:
        return CacheVerdict.STALE
    old = stored.age + age
    fresh_for = lifetime(stored, ttl)
    limit = seconds(asked.get("max-age")) if "max-age" in asked else None
    if limit is not None and old >= limit:
        return CacheVerdict.STALE
    rest = seconds(asked.get("min-fresh")) or 0
    if old + rest < fresh_for:
        return CacheVerdict.FRESH
    if "must-revalidate" in control:
        return CacheVerdict.STALE
    if "max-stale" in asked:
        allowed = seconds(asked["max-stale"])
        if asked["max-stale"] is None or (allowed or 0) > old - fresh_for:
            return CacheVerdict.FRESH
    meanwhile = seconds(control.get("stale-while-revalidate"))
    if meanwhile and old < fresh_for + meanwhile:
        return CacheVerdict.WHILE_REVALIDATING
    return CacheVerdict.STALE


def requested(request: Request) -> Mapping[str, str | None]:
    """The request's own Cache-Control; an old Pragma counts where there is none."""
    text = joined(request.headers, "cache-control")
    if text is None and "no-cache" in (joined(request.headers, "pragma") or "").lower():
        return {"no-cache": None}
    return directives(text)


def stands_in(stored: StoredResponse, age: float, request: Request, ttl: float) -> bool:
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


def freshened(
    stored: StoredResponse, response: Response, delay: float
) -> StoredResponse:
    """
    What is stored, with a 304's headers in place of those of their names.

    It may no longer be kept: see `keepable`.
    """
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


def keepable(stored: StoredResponse) -> bool:
    """Whether an answer may still be kept after a 304 has changed its headers."""
    control = directives(stored.header("cache-control"))
    return "no-store" not in control and "*" not in varying(stored.headers)


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
