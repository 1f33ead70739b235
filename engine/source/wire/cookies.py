"""
Cookies: what a server asked to be told again, and where it may be told.

Owns the reading of Set-Cookie and the choice of what goes into Cookie.  A jar lives as
long as its holder, a poll or a login, and is written nowhere.

Path: `source.wire.http1` (each hop of a request) -> here; `source.poll` and
`source.auth.login` make jars
Source: RFC 6265, and the prefixes of RFC 6265bis.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.later import later
from engine.source.wire.origin import Origin, ascii_host, origin_of

if TYPE_CHECKING:
    from http import cookiejar
else:
    cookiejar = later("http.cookiejar")

#: Bytes of a name with its value, and cookies of a jar: RFC 6265, 6.1, asks for no more.
MOST_BYTES = 4096
MOST_COOKIES = 100

#: Farthest an end is believed to lie ahead, in seconds: 400 days.
FARTHEST = 400 * 86_400

_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search
_IPV4 = re.compile(r"[0-9.]+").fullmatch


class Cookie(Struct, frozen=True):
    """
    One cookie.

    Attributes:
        origin: Of the answer that set it, as `scheme://host:port`.
        host: Whom it is for; with `subdomains` also every host below.
        path: And below.
        secure: Over https only.
        ends_ms: Wall milliseconds; 0: with its jar.
    """

    name: str
    value: str
    origin: str
    host: str
    path: str = "/"
    subdomains: bool = False
    secure: bool = False
    ends_ms: int = 0

    def goes_to(self, origin: Origin, path: str, *, across: bool) -> bool:
        """
        True if a request to that path may carry it.

        Args:
            across: False: to the very origin that set it and nowhere else.
        """
        if str(origin) != self.origin and not (
            across and (self.subdomains or self.host == origin.host)
        ):
            return False
        if origin.host != self.host and not (
            self.subdomains and _below(origin.host, self.host)
        ):
            return False
        if self.secure and origin.scheme != "https":
            return False
        return _covers(self.path, path)


class CookieJar:
    """
    The cookies of a poll or a login.  Thread-safe.

    Args:
        across: True: as browsers do, what a host sets for its domain goes to the other
            hosts of that domain, too.  False: never across origins.
    """

    def __init__(
        self,
        cookies: Iterable[Cookie] = (),
        *,
        across: bool = False,
        clock: Clock = SYSTEM,
    ):
        self._across = across
        self._clock = clock
        # Pages of one poll may be asked on several threads, each answer of which may set cookies:
        # a dictionary that changes while it is gone through raises.
        self._lock = threading.Lock()
        #: In the order they were first set.
        self._cookies = {(c.name, c.host, c.path): c for c in cookies}

    def __iter__(self) -> Iterator[Cookie]:
        with self._lock:
            return iter(list(self._cookies.values()))

    def learn(self, url: str, headers: Sequence[tuple[str, str]]) -> None:
        """
        Take up what an answer sets, and drop what it ends.

        Args:
            url: Of the request that was answered.
            headers: Of the answer, names in lower case.
        """
        for name, value in headers:
            if name == "set-cookie":
                self._set(url, value)

    def header(self, url: str, known: str = "") -> str:
        """
        The Cookie header of a request; "" for none.

        Args:
            known: A Cookie header that goes with it: what stands in the jar under the
                same name takes its place.
        """
        try:
            origin, path = origin_of(url), urlsplit(url).path or "/"
        except ValueError:
            return known
        now = self._clock.wall_ms()
        with self._lock:
            found = [
                c
                for c in self._cookies.values()
                if (not c.ends_ms or c.ends_ms > now)
                and c.goes_to(origin, path, across=self._across)
            ]
        # Longer paths first (5.4); the rest as they came.
        found.sort(key=lambda c: -len(c.path))
        return joined(((c.name, c.value) for c in found), known)

    def forget(self) -> None:
        """Empty it: another login has begun another session."""
        with self._lock:
            self._cookies.clear()

    def _set(self, url: str, line: str) -> None:
        made = parse(url, line, self._clock.wall_ms())
        if made is None:
            return
        key = made.name, made.host, made.path
        with self._lock:
            if made.ends_ms < 0:
                self._cookies.pop(key, None)
                return
            self._cookies[key] = made
            if len(self._cookies) > MOST_COOKIES:
                del self._cookies[next(iter(self._cookies))]


def parse(url: str, line: str, now_ms: int) -> Cookie | None:
    """
    One Set-Cookie (RFC 6265, 5.2 and 5.3).

    Returns: None for one that is to be ignored; `ends_ms` is -1 for one that has ended.
    """
    pair, *attributes = line.split(";")
    name, sign, value = pair.partition("=")
    name, value = name.strip(" \t"), value.strip(" \t")
    if not sign or not name or len(name) + len(value) > MOST_BYTES:
        return None
    if _UNSENDABLE(name) or _UNSENDABLE(value):
        return None
    origin = origin_of(url)
    host, subdomains, secure, ends = origin.host, False, False, 0
    path, max_age = "", False
    for attribute in attributes:
        word, _, said = attribute.partition("=")
        word, said = word.strip(" \t").lower(), said.strip(" \t")
        if word == "domain" and said:
            domain = _domain(said)
            if domain is None or not (
                domain == origin.host or _below(origin.host, domain)
            ):
                return None
            # A domain of one label is everybody's (`com`); an address has none below.
            if domain != origin.host and "." not in domain:
                return None
            host, subdomains = domain, "." in domain and not _IPV4(domain)
        elif word == "path":
            path = said if said.startswith("/") else ""
        elif word == "secure":
            secure = True
        elif word == "max-age" and re.fullmatch(r"-?[0-9]{1,12}", said):
            max_age = True
            seconds = min(int(said), FARTHEST)
            ends = now_ms + seconds * 1000 if seconds > 0 else -1
        elif word == "expires" and not max_age:
            at = date_of(said)
            if at is not None:
                until = min(int(at * 1000), now_ms + FARTHEST * 1000)
                ends = until if until > now_ms else -1
    if secure and origin.scheme != "https":
        return None
    if name.startswith("__Secure-") and not secure:
        return None
    if name.startswith("__Host-") and (not secure or subdomains or path != "/"):
        return None
    return Cookie(
        name=name,
        value=value,
        origin=str(origin),
        host=host,
        path=path or _default_path(url),
        subdomains=subdomains,
        secure=secure,
        ends_ms=ends,
    )


def date_of(said: str) -> float | None:
    """Seconds since 1970 of a cookie's date, in any of the forms servers write."""
    found: float | None = cookiejar.http2time(said)  # type: ignore[attr-defined]
    return found


def joined(pairs: Iterable[tuple[str, str]], known: str = "") -> str:
    """A Cookie header of some pairs, behind those of `known` with other names."""
    listed = list(pairs)
    names = {name for name, _ in listed}
    kept = [
        each.strip()
        for each in known.split(";")
        if each.strip() and each.partition("=")[0].strip() not in names
    ]
    return "; ".join([*kept, *(f"{name}={value}" for name, value in listed)])


def _domain(said: str) -> str | None:
    try:
        return ascii_host(said.removeprefix("."))
    except Exception:  # noqa: BLE001 - what is no host name is ignored, whatever is wrong
        return None


def _below(host: str, domain: str) -> bool:
    return host.endswith(f".{domain}") and not _IPV4(host)


def _default_path(url: str) -> str:
    path = urlsplit(url).path
    return path.rpartition("/")[0] or "/" if path.startswith("/") else "/"


def _covers(path: str, asked: str) -> bool:
    return asked == path or (
        asked.startswith(path) and (path.endswith("/") or asked[len(path)] == "/")
    )
