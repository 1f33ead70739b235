"""
Prepared: a request as bytes, but for its target and body.

Owns what may be sent in a head (GATE requests), which encodings it asks for, and that
a URL is one.

Path: `source.wire.http1` (the first request of a shape) -> here -> bytes
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import engine
from engine.errors import Forbidden
from engine.later import later
from engine.source.wire.cookies import CookieJar
from engine.source.wire.dns import Found
from engine.source.wire.options import Auth, HttpOptions, ProxyOptions
from engine.source.wire.origin import Origin, origin_of, shown
from engine.source.wire.pool import RouteConnections
from engine.source.wire.transfer import TransferOptions

if TYPE_CHECKING:
    import requests
else:
    requests = later("requests")

USER_AGENT = f"kafka-http-source/{engine.__version__}"


#: What a target may hold to be sent as it is: RFC 3986, and what APIs leave bare.
_CLEAN = re.compile(r"[!$-;=?-\[\]_a-z~]*", re.ASCII).fullmatch


_REFUSED = re.compile(r"[\x00\r\n]").search


#: A URL that requests would send as it is: nothing in it may be spelt in two ways.
_PLAIN = re.compile(
    r"https?://[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[1-9][0-9]{0,4})?(?=/)"
    r"(?:/(?!\.{1,2}(?:[/?]|\Z))(?:[A-Za-z0-9._~-]|%{once})+)*/?"
    r"(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%{once})+)?".replace(
        # An octet that has no other spelling: not one of the unreserved characters.
        "{once}",
        "(?!2[DE]|3[0-9]|[46][1-9A-F]|[57][0-9A]|5F|7E)[0-9A-F]{2}",
    ),
    re.ASCII,
).fullmatch


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch


class PreparedShape:
    """
    A request as bytes, but for target and body.

    Attributes:
        start: Method and blank, and for a proxy the origin in front of the target.
        rest: From the version to the last header, without the empty line.
        lines: The same headers one by one, without Host.
        tail: What is appended to the target: `query` of the auth.
        asked: Encodings the request allows.
        origin, base: Where it goes, and the same as text.
        route_pool: Where its connections are.
        way: How it goes over HTTP/2; None if it does not.
        found: The resolver's answer that was checked for it.
        until: Monotonic seconds until which these two need no look.
    """

    __slots__ = (
        "asked", "base", "found", "lines", "origin", "rest", "route_pool", "start",
        "tail", "until", "way",
    )  # fmt: skip

    def __init__(
        self,
        start: bytes,
        rest: bytes,
        lines: tuple[str, ...],
        tail: str,
        asked: frozenset[str],
        origin: Origin,
        route_pool: RouteConnections,
    ):
        self.start = start
        self.rest = rest
        self.lines = lines
        self.tail = tail
        self.asked = asked
        self.origin = origin
        self.base = str(origin)
        self.route_pool = route_pool
        self.way: TransferOptions | None = None
        self.found: Sequence[Found] = ()
        self.until = 0.0


def with_cookies(
    headers: tuple[tuple[str, str], ...], jar: CookieJar, url: str
) -> tuple[tuple[str, str], ...]:
    """The headers with what a poll's jar has for a URL beside cookies of ours."""
    stated = "; ".join(value for name, value in headers if name.lower() == "cookie")
    text = jar.header(url, stated)
    if not text or text == stated:
        return headers
    return (*without_headers(headers, "cookie"), ("Cookie", text))


def packs(headers: tuple[tuple[str, str], ...]) -> bool:
    """True if the user's headers say that the body is compressed."""
    return any(
        name.lower() == "content-encoding" and value.strip().lower() == "gzip"
        for name, value in headers
    )


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def without_headers(
    headers: tuple[tuple[str, str], ...], *names: str
) -> tuple[tuple[str, str], ...]:
    return tuple(item for item in headers if item[0].lower() not in names)


def _asked(accept: str) -> frozenset[str]:
    """The encodings an Accept-Encoding allows (RFC 9110, 12.5.3)."""
    asked = set()
    for item in accept.split(","):
        name, _, weight = item.partition(";")
        if weight.replace(" ", "").lower() in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            continue
        asked.add(name.strip().lower().removeprefix("x-"))
    return frozenset(asked - {""})


def encoded_url(url: str) -> str:
    """A URL as requests encodes it, without fragment; it is asked where in doubt."""
    origin_of(url.replace(" ", "%20"))
    if _PLAIN(url):
        return url
    try:
        prepared = requests.Request("GET", url).prepare()
    except (requests.exceptions.RequestException, ValueError) as error:
        raise Forbidden(f"not a URL: {shown(url)!r}") from error
    encoded = (prepared.url or "").partition("#")[0]
    if encoded.find("/", 8) < 0 or not _CLEAN(encoded):
        raise Forbidden(f"not a URL: {shown(url)!r}")
    return encoded


def _signed(
    method: str, url: str, fields: dict[str, str], body: bytes | None, auth: Auth | None
) -> Iterable[tuple[str | bytes, str | bytes]]:
    """
    The headers that requests and credentials make of ours.

    Raises: Forbidden.
    """
    try:
        prepared = requests.Request(
            method,
            url,
            headers=fields,
            data=body,
        ).prepare()
        # What is signed is what is sent: requests spells some URLs anew.
        prepared.url = url
        if auth is not None:
            auth(prepared)
    except (requests.exceptions.RequestException, ValueError) as error:
        # Its text shows the header's value: not passed on.
        raise Forbidden(
            f"a request that cannot be prepared: {type(error).__name__}"
        ) from None
    return prepared.headers.items()


def prepare(
    method: str,
    url: str,
    headers: tuple[tuple[str, str], ...],
    body: bytes | None,
    auth: Auth | None,
    *,
    options: HttpOptions,
    keep_alive: bool,
    through: Callable[[Origin], ProxyOptions | None],
    route_pool: Callable[[Origin], RouteConnections],
) -> PreparedShape:
    """
    Prepare a shape, and keep it as bytes.

    A request with credentials, and one whose URL has more than one spelling, is prepared
    by requests; of any other it would change nothing.

    Args:
        keep_alive: False: the server is told to close.
        through: The proxy on the way to an origin, or None.
        route_pool: Where connections to an origin are.

    Raises: Forbidden for a URL or header that must not be sent.
    """
    origin = origin_of(url)
    if not options.borders.ours(origin):
        # A link to a host that is only allowed: nothing of ours goes there.
        headers, auth = (), None
    if not _TOKEN(method):
        raise Forbidden(f"not a method: {method!r}")
    given = {name.lower() for name, _ in headers}
    fields: dict[str, str] = {"User-Agent": USER_AGENT, "Accept": "*/*"}
    if "accept-encoding" not in given:
        fields["Accept-Encoding"] = ", ".join(options.encodings) or "identity"
    if body is not None and "content-type" not in given:
        fields["Content-Type"] = "application/json"
    if not keep_alive:
        fields["Connection"] = "close"
    for name, value in headers:
        if not _TOKEN(name) or _REFUSED(value):
            raise Forbidden(f"a header that must not be sent: {name[:40]!r}")
        for known in [known for known in fields if known.lower() == name.lower()]:
            del fields[known]
    repeated = {
        name.lower()
        for name, _ in headers
        if 1 < sum(name.lower() == other.lower() for other, _ in headers)
    }
    fields.update(
        (name, value) for name, value in headers if name.lower() not in repeated
    )
    made: Iterable[tuple[str | bytes, str | bytes]] = fields.items()
    if auth is not None or not _PLAIN(url):
        made = _signed(method, url, fields, body, auth)
    elif any(value[:1].isspace() for value in fields.values()):
        raise Forbidden("a request that cannot be prepared: InvalidHeader")
    lines = [f"Host: {str(origin).partition('://')[2]}"]
    sent: dict[str, str] = {}
    for name, value in ((_text(name), _text(value)) for name, value in made):
        if name.lower() == "content-length":
            continue
        sent[name.lower()] = value
        lines.append(f"{name}: {value}")
    lines += [f"{name}: {value}" for name, value in headers if name.lower() in repeated]
    if any(_REFUSED(line) for line in lines):
        raise Forbidden("a header with a line break")
    if body is None and method in ("POST", "PUT", "PATCH"):
        lines.append("Content-Length: 0")
    start = f"{method} "
    proxy = through(origin)
    if proxy is not None and origin.scheme == "http":
        start += str(origin)
        lines += [f"{n}: {v}" for n, v in proxy.headers.items()]
    try:
        rest = "".join([" HTTP/1.1\r\n", *(f"{line}\r\n" for line in lines)])
        encoded = rest.encode("latin-1")
    except UnicodeEncodeError:
        raise Forbidden("a header beyond Latin-1") from None
    allowed = sent.get("accept-encoding", "")
    return PreparedShape(
        start.encode(),
        encoded,
        tuple(lines[1:]),
        auth.query if auth is not None else "",
        _asked(allowed),
        origin,
        route_pool(origin),
    )
