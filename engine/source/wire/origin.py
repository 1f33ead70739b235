"""
Origin: where a request may go.

Owns the rules for hops (redirects, next links) and for addresses, and how a URL
is shown with its secrets cut.  Pure: opens nothing, resolves nothing.

Path: `source.wire.http1`, `source.paging.paginator` (a reference) -> here -> a URL or
Forbidden;
`source.wire.dns` (addresses) -> here -> allowed or Forbidden
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import NamedTuple, TypeAlias
from urllib.parse import quote, urljoin, urlsplit

from msgspec import Struct

from engine.errors import Forbidden
from engine.later import pattern
from engine.observe.redact import REDACTOR

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

#: Longest URL that is followed, in characters.
MAX_URL = 8192

_PORTS = {"http": 80, "https": 443}
#: What may stand in a URL that is sent; anything else is percent-encoded.
_LEGAL = "%/:=&?~#+!$,;'@()*[]"
_CONTROL = pattern(r"[\x00-\x1f\x7f]")
_CLASS_E = ip_network("240.0.0.0/4")
_BROADCAST = ip_address("255.255.255.255")
_SHARED = ip_network("100.64.0.0/10")

#: Where clouds tell an instance its credentials, as far as it is not link-local:
#: 169.254.0.0/16 (AWS, ECS, EKS, GCP, Azure, Oracle, DigitalOcean, OpenStack, ...) is.
_METADATA = frozenset(
    map(
        ip_address,
        (
            "fd00:ec2::254",  # AWS EC2
            "fd00:ec2::23",  # AWS EKS
            "fd20:ce::254",  # Google
            "fd00:c1::a9fe:a9fe",  # Oracle
            "fd00:42::42",  # Scaleway
            "100.100.100.200",  # Alibaba
            "192.0.0.192",  # Oracle, classic
            "168.63.129.16",  # Azure's WireServer
        ),
    )
)

_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")


#: IPv6 whose last 32 bits are IPv4: NAT64, compatible, translated.
_CARRIERS = tuple(map(IPv6Network, ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")))


class Origin(NamedTuple):
    """Scheme, host and port; equal where credentials may go along."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port == _PORTS[self.scheme]:
            return f"{self.scheme}://{host}"
        return f"{self.scheme}://{host}:{self.port}"


def shown(url: str) -> str:
    """A URL for people: no userinfo, no fragment, secrets and credentials masked."""
    return REDACTOR.redact_url(_CONTROL.sub("", url.partition("#")[0]))[:2048]


def host_of(url: str) -> str:
    """
    Host and, where one is written, port of an encoded URL: what limiter and
    breaker count by.
    """
    return url.split("/", 3)[2].lower()


def origin_of(url: str) -> Origin:
    """
    The origin of an absolute URL.

    Raises:
        Forbidden: Not http(s), with userinfo, or not a URL.
    """
    if len(url) > MAX_URL:
        raise Forbidden(f"a URL of over {MAX_URL} characters")
    if _CONTROL.search(url) or "\\" in url or " " in url:
        raise Forbidden("a URL with a blank, backslash or control character")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Forbidden(f"not a URL: {shown(url)!r}") from error
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise Forbidden(f"not an http or https URL: {shown(url)!r}")
    if "@" in parts.netloc:
        raise Forbidden("a URL with userinfo")
    host = parts.hostname or ""
    return Origin(scheme, ascii_host(host), port or _PORTS[scheme])


def ascii_host(host: str) -> str:
    """A host as it is compared and asked for: lower case, IDNA, no last dot."""
    host = host.lower().removesuffix(".")
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise Forbidden(f"not a host name: {host!r}") from error
    if not host or "%" in host or "/" in host:
        raise Forbidden(f"not a host name: {host!r}")
    return host


class AllowedOrigins(Struct, frozen=True):
    """
    The origins that an api's requests may reach.

    Attributes:
        home: Ours: the URL's own origin and those of its endpoints;
            credentials go there.
        allowed: `http.source.allowed.hosts`: `host[:port]`, `*.` in front
            allowed; credentials do not go there.
        based: `oauth2.base.url.hosts`, spelt alike: credentials go there, over https
            where any home has it.
    """

    home: tuple[Origin, ...]
    allowed: tuple[str, ...] = ()
    based: tuple[str, ...] = ()

    def ours(self, origin: Origin) -> bool:
        """True if credentials and configured headers may go there."""
        return origin in self.home or (bool(self.based) and self.may_base(origin))

    def may_base(self, origin: Origin) -> bool:
        """True if a login may say that requests go there."""
        if origin in self.home:
            return True
        secure = origin.scheme == "https" or all(o.scheme == "http" for o in self.home)
        return secure and listed(origin, self.based)

    def follow(self, base: str, reference: str) -> str:
        """
        The URL that a redirect or a next link leads to.

        Args:
            base: The URL that was answered.
            reference: Absolute or relative, as the API wrote it.

        Returns:
            An absolute, encoded URL without fragment.

        Raises:
            Forbidden: Another origin that is not allowed, https to http,
                userinfo, over 8 KiB, control characters.
        """
        if _CONTROL.search(reference):
            raise Forbidden("a link with a control character")
        if len(reference) > MAX_URL:
            raise Forbidden(f"a link of over {MAX_URL} characters")
        # Browsers read a backslash as a slash, we refuse to guess.
        if "\\" in reference:
            raise Forbidden("a link with a backslash")
        try:
            url = urljoin(base, reference.strip(" ")).partition("#")[0]
        except ValueError as error:
            raise Forbidden(f"not a link: {shown(reference)!r}") from error
        url = url.replace(" ", "%20")
        origin, here = origin_of(url), origin_of(base)
        if here.scheme == "https" and origin.scheme != "https":
            raise Forbidden(f"from https down to http: {shown(url)!r}")
        if (
            origin != here
            and not self.ours(origin)
            and not listed(origin, self.allowed)
        ):
            raise Forbidden(
                f"another origin, not in http.source.allowed.hosts: {origin}"
            )
        parts = urlsplit(url)
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        return f"{origin}{quote(target, safe=_LEGAL)}"


def listed(origin: Origin, hosts: Sequence[str]) -> bool:
    """True if an origin is one of `host[:port]`, `*.` in front allowed."""
    for entry in hosts:
        host, _, port = entry.lower().partition(":")
        if int(port or _PORTS[origin.scheme]) != origin.port:
            continue
        if host == origin.host:
            return True
        if host.startswith("*.") and origin.host.endswith(host[1:]):
            return True
    return False


def excepted(origin: Origin, exceptions: Sequence[str]) -> bool:
    """
    True if an origin is one of `http.proxy.exceptions`.

    Names are compared as they are written, and not by where they resolve to: that is
    for the proxy to know.
    """
    for entry in exceptions:
        name = entry.lower()
        if "/" in name:
            try:
                address = ip_address(origin.host.strip("[]"))
            except ValueError:
                continue
            if address in ip_network(name, strict=False):
                return True
            continue
        host, port = name, ""
        if name.count(":") < 2 or name.startswith("["):
            bracket = name.find("]") + 1
            host, _, port = name[bracket:].partition(":")
            host = name[:bracket] + host
        if port and int(port) != origin.port:
            continue
        below = host.removeprefix("*")
        if host.strip("[]") == origin.host.strip("[]") or (
            below.startswith(".") and origin.host.endswith(below)
        ):
            return True
    return False


class AddressRules(Struct, frozen=True):
    """
    `connection.disallow.*` and `connection.allow.cidr.ranges`.

    Attributes:
        home: Host of the configured URL (and endpoints), lower case.
        local, private: True refuses, False allows, None (auto) allows only
            where the configured host itself is there.
        class_e: True refuses 240.0.0.0/4.
        disallow, allow: CIDR ranges; allow wins over everything.
    """

    home: tuple[str, ...] = ()
    local: bool | None = None
    private: bool | None = None
    class_e: bool = True
    disallow: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()


class AddressGuard:
    """
    Says of an address whether a connection may go there.

    Remembers where the configured hosts were at their first resolution, so that
    a name which later moves to a private address (rebinding) is refused.
    """

    def __init__(self, rules: AddressRules):
        self.rules = rules
        self._allow = [ip_network(text, strict=False) for text in rules.allow]
        self._disallow = [ip_network(text, strict=False) for text in rules.disallow]
        #: Places ("local", "private") of each configured host, once resolved.
        self._homes: dict[str, frozenset[str]] = {}

    def check(self, host: str, addresses: Sequence[str]) -> None:
        """
        Refuse a host if any of its addresses is out of bounds.

        Args:
            host: As it was asked for, lower case.
            addresses: All that it resolved to.

        Raises:
            Forbidden: Names the host, the address and the rule.
        """
        places = [meant(text) for text in addresses]
        if host in self.rules.home and host not in self._homes:
            self._homes[host] = frozenset(
                place_of(inner) for each in places for inner in each
            )
        for text, each in zip(addresses, places, strict=True):
            address = ip_address(text.partition("%")[0])
            if any(address in network for network in self._allow):
                continue
            for inner in each:
                self._check(host, inner)

    def _check(self, host: str, address: Address) -> None:
        rules = self.rules
        if any(address in network for network in self._allow):
            return
        place = place_of(address)
        if place in ("link-local", "multicast", "unspecified", "a cloud's metadata"):
            self._refuse(host, address, place, "")
        if any(address in network for network in self._disallow):
            self._refuse(host, address, "listed", "cidr.ranges")
        if place == "class E" and rules.class_e:
            self._refuse(host, address, place, "class.e.ips")
        if place == "local" and self._closed(rules.local, host, place):
            self._refuse(host, address, place, "local.ips")
        if place == "private" and self._closed(rules.private, host, place):
            self._refuse(host, address, place, "private.ips")

    def _closed(self, rule: bool | None, host: str, place: str) -> bool:
        if rule is not None:
            return rule
        if host in self._homes:
            return place not in self._homes[host]
        return not any(place in places for places in self._homes.values())

    def _refuse(self, host: str, address: Address, place: str, rule: str) -> None:
        key = f" by connection.disallow.{rule}" if rule else ""
        raise Forbidden(
            f"{host} is at {address}, which is {place}: not connected{key}; "
            "connection.allow.cidr.ranges allows an address"
        )


def meant(text: str) -> tuple[Address, ...]:
    """
    Where packets to an address may end up: itself, or the IPv4 it carries.

    Sources: RFC 4291 (mapped, compatible), 3056 (6to4), 4380 (Teredo), 6052 and 8215
    (NAT64), 2765 (translated), 5214 (ISATAP).
    """
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv4Address):
        return (address,)
    bits = int(address)
    low = IPv4Address(bits & 0xFFFFFFFF)
    if address in _NAT64_LOCAL:
        # The operator chose where the IPv4 stands (RFC 6052, 2.2): any of these.
        after_48 = (bits >> 64 & 0xFFFF) << 16 | bits >> 40 & 0xFFFF
        after_56 = (bits >> 64 & 0xFF) << 24 | bits >> 32 & 0xFFFFFF
        after_64 = bits >> 24 & 0xFFFFFFFF
        inner = (int(low), after_48, after_56, after_64)
        return (address, *(IPv4Address(one) for one in inner if one >> 24))
    if bits > 1 and any(address in network for network in _CARRIERS):
        return (low,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if bits >> 32 & 0xFDFFFFFF == 0x00005EFE:
        return (address, low)
    return (address,)


def place_of(address: Address) -> str:
    """What kind of place an address is: "public", "local", "private", ..."""
    if address in _METADATA:
        return "a cloud's metadata"
    if address.is_unspecified:
        return "unspecified"
    if address.is_multicast:
        return "multicast"
    if address.is_link_local:
        return "link-local"
    if address.is_loopback:
        return "local"
    if address in _NAT64_LOCAL:
        return "private"
    if isinstance(address, IPv4Address):
        if address == _BROADCAST:
            return "unspecified"
        if address in _CLASS_E:
            return "class E"
        if address in _SHARED:
            return "private"
        if int(address) >> 24 == 0:
            return "unspecified"
    elif address.is_site_local:
        return "private"
    return "private" if address.is_private else "public"
