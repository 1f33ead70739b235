"""
Options of where requests may go: TLS, proxy, redirects, addresses.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from typing import ClassVar

from engine.config.kinds import (
    Bool,
    Choice,
    Cidr,
    CommaList,
    HostPort,
    Int,
    Password,
    Pin,
    ProxyException,
    Text,
)
from engine.config.sections.section import Section, option, unset
from engine.observe.redact import Secret


class CertificatesConfig(Section, frozen=True, kw_only=True):
    """Which certificates of the API's are taken."""

    TITLE: ClassVar[str] = "Where requests may go"
    SCOPE: ClassVar[str] = "A"

    verify: bool = option(
        "https.ssl.verify",
        Bool(),
        "true",
        "false: certificates are not checked, with a warning at each start.",
        "false",
    )
    pins: tuple[str, ...] | None = unset(
        "https.ssl.certificate.pins",
        CommaList(Pin()),
        None,
        "Hashes of public keys; the server's own certificate must match one.",
        "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    )
    seclevel: int | None = unset(
        "https.ssl.seclevel",
        Int(0, 5),
        None,
        "OpenSSL's security level towards the API; unset, the library's (2). 0 and 1 "
        "take the short keys and old signatures of servers nobody renews, with a "
        "warning at each start.",
        "1",
    )
    renegotiation: bool = option(
        "https.ssl.legacy.renegotiation",
        Bool(),
        "false",
        "true: a server without secure renegotiation (RFC 5746) is spoken to, with a "
        "warning at each start.",
        "true",
    )


class ProxyConfig(Section, frozen=True, kw_only=True):
    """The way through a proxy."""

    TITLE: ClassVar[str] = "Where requests may go"
    SCOPE: ClassVar[str] = "A"

    host: str | None = unset(
        "http.proxy.host",
        Text(r"[A-Za-z0-9._\[\]:-]+", "host name"),
        None,
        "Proxy; CONNECT for https. Environment variables are never read.",
        "proxy.example.com",
    )
    port: int | None = unset(
        "http.proxy.port", Int(1, 65535), None, "The proxy's port.", "3128"
    )
    user: str | None = unset(
        "http.proxy.user", Text(), None, "User at the proxy.", "me"
    )
    password: Secret | None = unset(
        "http.proxy.password",
        Password(),
        None,
        "Password at the proxy.",
        "${env:PROXY_PASSWORD}",
    )
    exceptions: tuple[str, ...] | None = unset(
        "http.proxy.exceptions",
        CommaList(ProxyException()),
        None,
        "Hosts that are asked without the proxy: names, all below a domain, networks "
        "of addresses that are written as such.",
        "intranet.example.com,*.internal,10.0.0.0/8",
    )


class BordersConfig(Section, frozen=True, kw_only=True):
    """Which hosts and addresses may be asked."""

    TITLE: ClassVar[str] = "Where requests may go"
    SCOPE: ClassVar[str] = "A"

    redirects: int = option(
        "http.redirects.max",
        Int(0, 20),
        "5",
        "Redirects followed: within the origin and to http.source.allowed.hosts, "
        "never from https to http.",
    )
    redirect_body: bool = option(
        "http.redirects.body.to.other.hosts",
        Bool(),
        "false",
        "A 307 or 308 to a host of http.source.allowed.hosts is followed with the "
        "request's body, without its headers. false: without both.",
        "true",
    )
    allowed_hosts: tuple[str, ...] | None = unset(
        "http.source.allowed.hosts",
        CommaList(HostPort(port=False, wildcard=True)),
        None,
        "Other hosts that redirects and next links may lead to; no credential "
        "and no header of ours goes there.",
        "cdn.example.com,*.example.org",
    )
    local: str = option(
        "connection.disallow.local.ips",
        Choice(("auto", "true", "false")),
        "auto",
        "Refuses loopback addresses after DNS. auto: unless the configured host "
        "is there itself.",
        "true",
    )
    private: str = option(
        "connection.disallow.private.ips",
        Choice(("auto", "true", "false")),
        "auto",
        "The same for private networks. What carries IPv4 inside (NAT64, 6to4, "
        "Teredo, mapped) counts as what is inside.",
        "true",
    )
    class_e: bool = option(
        "connection.disallow.class.e.ips", Bool(), "true", "The same for 240.0.0.0/4."
    )
    disallow: tuple[str, ...] | None = unset(
        "connection.disallow.cidr.ranges",
        CommaList(Cidr()),
        None,
        "Networks that are refused.",
        "10.0.0.0/8",
    )
    allow: tuple[str, ...] | None = unset(
        "connection.allow.cidr.ranges",
        CommaList(Cidr()),
        None,
        "Networks that are allowed whatever else says, link-local and the metadata "
        "addresses of clouds included.",
        "169.254.10.0/24",
    )
