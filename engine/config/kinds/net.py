"""
Net: URLs, hosts, listeners and networks.

Owns what can be connected to or listened on (RFC 3986, WHATWG URL).

Path: `kinds.kind`, `kinds.plain` -> here -> ``config.sections``
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from engine.config.kinds.kind import URL_BYTES, InvalidValue
from engine.config.kinds.plain import CommaList


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
            raise InvalidValue("allowed: scheme, host and port only")
        return text


def check_url(text: str, *, relative: bool = False) -> None:
    """
    Refuse what is no URL of ours (RFC 3986; no userinfo, no fragment).

    Raises: Unfit.
    """
    if len(text.encode()) > URL_BYTES:
        raise InvalidValue(f"longer than {URL_BYTES} bytes")
    if re.search(r"[\x00-\x20\x7f]", text):
        raise InvalidValue("a blank or control character in a URL")
    if re.search(r"%0[0ad]", text.partition("?")[0], re.IGNORECASE):
        raise InvalidValue("an encoded CR, LF or NUL in a URL")
    if "#" in text:
        raise InvalidValue("a fragment (#...) is never sent: leave it out")
    if "\\" in text:
        raise InvalidValue("a backslash in a URL")
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?([^/?]*)", text)
    if found is None:
        if not relative:
            raise InvalidValue("allowed: an absolute http: or https: URL")
        if text.startswith("//"):
            raise InvalidValue("a reference may not name another host")
        return
    scheme, slashes, authority = found.groups()
    if scheme.lower() not in ("http", "https") or not slashes:
        raise InvalidValue(f"scheme {scheme!r}, allowed: http or https")
    if "@" in authority:
        raise InvalidValue("user and password do not belong in a URL: use auth.type")
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
        raise InvalidValue(f"host {text!r}: an IPv6 address stands in brackets")
    host, port = found.groups()
    if port is None and not default:
        raise InvalidValue(f"{text!r} without a port")
    if port is not None and (
        not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535
    ):
        raise InvalidValue(f"port {port!r}, allowed: 1..65535")
    if not host:
        raise InvalidValue("no host")
    if host.startswith("["):
        if "%" in host:
            raise InvalidValue("an IPv6 zone is refused")
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError as error:
            raise InvalidValue(f"host {host!r} is no IPv6 address") from error
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
        raise InvalidValue(f"host {host!r} is no host name") from error
    labels = name.removesuffix(".").split(".")
    label = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
    if len(name) > 253 or not all(label.fullmatch(part) for part in labels):
        raise InvalidValue(f"host {host!r} is no host name")
    # The last label of a name is never numeric (WHATWG URL, "ends in a number").
    if re.fullmatch(r"[0-9]+|0[xX][0-9a-fA-F]*", labels[-1]):
        try:
            ipaddress.IPv4Address(name)
        except ValueError as error:
            raise InvalidValue(
                f"host {host!r}: IPv4 is four decimal numbers"
            ) from error


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


class ProxyException(Struct, frozen=True):
    """A host with or without port, all below a domain, or a network of addresses."""

    allowed: str = "host[:port], *.domain or network"

    def read(self, text: str, near: Path) -> str:
        if "/" in text:
            return Cidr().read(text, near)
        if text.count(":") > 1 and not text.startswith("["):
            text = f"[{text}]"
        check_host_port(text.removeprefix("*").removeprefix("."), default=True)
        return text


class Listener(Struct, frozen=True):
    allowed: str = "http://host:port"

    def read(self, text: str, near: Path) -> str:
        found = re.fullmatch(r"http://([^/]+):([0-9]{1,5})/?", text, re.IGNORECASE)
        if found is None or int(found.group(2)) > 65535:
            raise InvalidValue("allowed: http://host:port, port 0..65535 (0: any)")
        if found.group(1) not in ("0.0.0.0", "*", "[::]"):
            check_host_port(found.group(1), default=True)
        return text.removesuffix("/")


class Cidr(Struct, frozen=True):
    allowed: str = "network as 10.0.0.0/8 or fd00::/8"

    def read(self, text: str, near: Path) -> str:
        try:
            return str(ipaddress.ip_network(text))
        except ValueError as error:
            raise InvalidValue(f"{error}; allowed: {self.allowed}") from error


class Pin(Struct, frozen=True):
    allowed: str = "sha256/BASE64 of a public key's SHA-256"

    def read(self, text: str, near: Path) -> str:
        if not re.fullmatch(r"sha256/[A-Za-z0-9+/]{43}=", text):
            raise InvalidValue(f"allowed: {self.allowed}")
        return text


class BootstrapServers(Struct, frozen=True):
    """`bootstrap.servers`: a csv of host:port, or `embedded`."""

    allowed: str = "csv of host:port, or embedded"

    def read(self, text: str, near: Path) -> tuple[str, ...]:
        return CommaList(HostPort(), alone=("embedded",)).read(text, near)

    def read_items(self, items: Sequence[str], near: Path) -> tuple[str, ...]:
        return CommaList(HostPort(), alone=("embedded",)).read_items(items, near)
