"""
Rules of the HTTP side: credentials, TLS, proxies, deadlines, rates and the cache.

Path: ``rules`` -> here -> ``scope``
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from engine.config.authentication import TYPES, AuthType
from engine.config.rules_auth import further
from engine.config.rules_kafka import stores_are_pem
from engine.config.scope import Scope
from engine.config.sections.auth import AuthConfig, credentials_of
from engine.config.sections.borders import CertificatesConfig, ProxyConfig
from engine.config.sections.cache import ResponseCacheConfig, WarmingConfig
from engine.config.sections.client import PoolConfig
from engine.config.sections.engine import PollingConfig
from engine.config.sections.limits import RateLimitConfig, RateLimitsConfig
from engine.config.sections.offsets import OffsetsConfig
from engine.config.sections.tls import TlsConfig
from engine.config.values import Api, Connector


def connections_fit(c: Scope) -> None:
    route = "http.client.max.connections.per.route"
    total = "http.client.max.connections"
    if c.values.stated(route) and c.number(route) > c.number(total):
        c.warn(
            route,
            f"above {total}={c.of(PoolConfig).max_connections}: the smaller one applies",
        )
    for larger, smaller in (
        ("pagination.concurrent.max.threads", route),
        (
            "http.client.connection.keep.alive.duration.ms",
            "http.client.connection.max.idle.time.ms",
        ),
        (
            "http.client.connection.max.idle.time.ms",
            "http.client.connection.keep.alive.duration.ms",
        ),
    ):
        if c.values.stated(larger) and c.number(larger) > c.number(smaller):
            c.note(larger, f"{smaller}={c[smaller]} binds: the smaller one applies")


def auth_is_whole(s: Scope, api: Api, connector: Connector) -> None:
    kind = s.of(AuthConfig).type
    own_class = s.of(AuthConfig).auth_class is not None
    if own_class and kind != "NONE":
        s.error("http.auth.class", f"auth.type={kind} is another way: leave one out")
    several = "auth.credentials"
    if TYPES[kind].several and s[several] is not None:
        for key in TYPES[kind].needs:
            if s.values.stated(key):
                s.error(key, f"{several} has them all: leave one of the two out")
        if kind == "BASIC" and any(":" not in each for each in credentials_of_api(api)):
            s.error(several, "of BASIC each is user:password")
    for key in TYPES[kind].needs:
        if s[key] is None and not (TYPES[kind].several and s[several] is not None):
            elsewhere = TYPES[kind].elsewhere and f", {TYPES[kind].elsewhere}"
            s.error(key, f"required by auth.type={kind}{elsewhere}")
    mine = _way_of(api)
    for key in s.values:
        if not s.values.stated(key):
            continue
        owners = [name for name, each in TYPES.items() if each.owns(key)]
        if not owners or mine.owns(key):
            continue
        # A default of all apis may belong to another one's way.
        if s.values.own(key) or not any(
            _way_of(each).owns(key) for each in connector.apis
        ):
            s.error(key, f"belongs to auth.type={' or '.join(owners)}, not {kind}")
    for key, why in further(s, kind):
        s.error(key, why)
    for key in ("oauth2.token.url", "auth.login.url"):
        if mine.owns(key) and s[key] is not None and open_http(str(s[key])):
            s.error(key, "https is required off loopback")


def credentials_of_api(api: Api) -> list[str]:
    """The parts of an api's `auth.credentials`."""
    found = api.values.of(AuthConfig).credentials
    return [] if found is None else credentials_of(found.reveal())


def _way_of(api: Api) -> AuthType:
    """An api's way of proving who we are."""
    auth = api.values.of(AuthConfig)
    # An auth object is made with user and password, as BASIC is.
    return TYPES["BASIC" if auth.auth_class else auth.type]


def open_http(url: str) -> bool:
    """Whether a URL is plain http to anything but this machine."""
    if not url.lower().startswith("http://"):
        return False
    host = urlsplit(url.partition("${")[0]).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def tls_is_sound(s: Scope, api: Api, connector: Connector) -> None:
    stores_are_pem(s, "https.ssl.")
    if s.of(CertificatesConfig).verify is False:
        s.warn("https.ssl.verify", "certificates are not checked")
    level = s.of(CertificatesConfig).seclevel
    if level is not None and level < 2:
        s.warn(
            "https.ssl.seclevel",
            "weak keys and signatures of the server are taken: only for one that "
            "cannot be renewed",
        )
    if s.of(CertificatesConfig).renegotiation:
        s.warn(
            "https.ssl.legacy.renegotiation",
            "a server without secure renegotiation is spoken to (CVE-2009-3555)",
        )
    if s.of(TlsConfig, at="https.ssl.").identification == "none":
        s.warn(
            "https.ssl.endpoint.identification.algorithm",
            "the host's name is not checked",
        )


def proxies_are_whole(s: Scope, api: Api, connector: Connector) -> None:
    host, port = "http.proxy.host", "http.proxy.port"
    if s[host] is not None and s[port] is None:
        s.error(port, f"required with {host}")
    for key in (
        port, "http.proxy.user", "http.proxy.password", "http.proxy.exceptions",
    ):  # fmt: skip
        if s[host] is None and s.values.stated(key):
            s.error(key, f"needs {host}")
    if (s.of(ProxyConfig).password is None) != (s.of(ProxyConfig).user is None):
        s.error("http.proxy.user", "user and password go together")


def deadlines_are_ordered(s: Scope, api: Api, connector: Connector) -> None:
    deadline = "http.client.request.timeout.ms"
    for key in ("http.client.connection.timeout.ms", "http.client.socket.timeout.ms"):
        if s.values.stated(key) and s.number(key) > s.number(deadline):
            s.warn(
                key,
                f"above {deadline}={s[deadline]}: the smaller one applies",
            )
    first, longest = "retry.backoff.ms", "retry.backoff.max.ms"
    if s.number(first) > s.number(longest):
        s.warn(first, f"above {longest}={s[longest]}: the smaller one applies")


def rates_have_a_limiter(s: Scope, api: Api, connector: Connector) -> None:
    off = s.of(RateLimitConfig).enabled is False
    for key in (
        "rate.limit.requests.per.second",
        "rate.limit.burst.capacity",
        "rate.limit.algorithm",
        "rate.limit.window.ms",
        "rate.limit.adaptive.enabled",
    ):
        if off and s.values.stated(key):
            s.warn(key, "rate.limit.enabled is false")
    burst = "rate.limit.burst.capacity"
    algorithm = str(s.of(RateLimitConfig).algorithm)
    if not off and s.values.stated(burst) and algorithm.endswith("WINDOW"):
        s.warn(burst, f"rate.limit.algorithm={algorithm} does not use it")
    rate, common = "rate.limit.requests.per.second", connector.common
    if off or not s.values.own(rate):
        return
    inside = connector.values.of(RateLimitsConfig).scope == "GLOBAL" and (
        common.stated(rate)
        or any(
            other.values.of(RateLimitConfig).enabled and not other.values.own(rate)
            for other in connector.apis
        )
    )
    most = common.of(RateLimitConfig).per_second
    if inside and s.number(rate) > most:
        s.warn(
            rate,
            f"never reached: all apis together make {most:g} "
            "(rate.limit.scope=PER_API counts each alone)",
        )


def freshness_is_noticed(s: Scope, api: Api, connector: Connector) -> None:
    ttl, interval = "cache.response.ttl.seconds", "http.source.poll.interval.ms"
    if s.of(ResponseCacheConfig).enabled is False:
        if connector.values.of(WarmingConfig).enabled is True:
            s.warn("cache.enabled", "cache.warming.enabled has nothing to warm")
        return
    if connector.values.of(WarmingConfig).enabled is True:
        warming_has_something(s, connector)
    if s.of(PollingConfig).schedule is None and s.number(ttl) * 1000 > s.number(
        interval
    ):
        s.warn(
            ttl, f"above {interval}={s[interval]}: data up to {s[ttl]} s late is normal"
        )


def warming_has_something(s: Scope, connector: Connector) -> None:
    if not s.of(OffsetsConfig).rereads:
        s.warn(
            "http.offset.mode",
            "cache.warming.enabled has nothing to warm: only a mode that reads "
            "everything each time asks again",
        )
    values = connector.values
    strategies = values.of(WarmingConfig).strategies or ()
    if (
        "PREDICTIVE" not in strategies
        and values.of(WarmingConfig).schedule is None
        and not values.of(WarmingConfig).patterns
    ):
        s.warn(
            "cache.warming.strategies",
            "LRU without cache.warming.schedule runs at start only, by what an "
            "earlier run has left on the disk",
        )
