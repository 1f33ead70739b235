"""
Options of the HTTP client: connections, requests, several hosts.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from engine.config import shapes
from engine.config.kinds import (
    Bool,
    Choice,
    CommaList,
    Int,
    Json,
    Text,
    ms,
    seconds,
    size,
)
from engine.config.sections.section import Section, duration, option, unset

DAY = 86400000


class PoolConfig(Section, frozen=True, kw_only=True):
    """The connections of a task; seconds and bytes."""

    TITLE: ClassVar[str] = "HTTP client"
    SCOPE: ClassVar[str] = "T"

    enabled: bool = option(
        "http.client.connection.pool.enabled",
        Bool(),
        "true",
        "false: a connection serves one request and is closed by us.",
        "false",
    )
    max_connections: int = option(
        "http.client.max.connections",
        Int(1, 10000),
        "20",
        "Open sockets of a task, busy and idle, to all routes.",
        "50",
    )
    max_per_route: int = option(
        "http.client.max.connections.per.route",
        Int(1, 10000),
        "10",
        "Open sockets of a task to one scheme, host, port and proxy.",
        "20",
    )
    keep_alive: bool = option(
        "http.client.connection.keep.alive.enabled",
        Bool(),
        "true",
        "false: `Connection: close` is sent and nothing is reused.",
        "false",
    )
    keep_alive_duration: float = duration(
        "http.client.connection.keep.alive.duration.ms",
        ms(0, DAY),
        "300000",
        "A connection idle for longer is not reused; the server's Keep-Alive may "
        "shorten it. 0: no reuse.",
    )
    keep_alive_requests: int = option(
        "http.client.connection.keep.alive.max.requests",
        Int(1, 1000000),
        "1000",
        "Requests after which a connection is retired.",
    )
    validate_after: float = duration(
        "http.client.connection.pool.validate.after.inactivity.ms",
        ms(0, DAY),
        "30000",
        "A connection idle for longer is looked at before it is reused. 0: always.",
    )
    cleanup: bool = option(
        "http.client.connection.cleanup.enabled",
        Bool(),
        "true",
        "Whether idle connections past their time are closed without being touched.",
        "false",
    )
    cleanup_interval: float = duration(
        "http.client.connection.cleanup.interval.ms",
        ms(100, DAY),
        "60000",
        "Pause between those sweeps.",
    )
    max_idle: float = duration(
        "http.client.connection.max.idle.time.ms",
        ms(1000, DAY),
        "300000",
        "Idle age at which a sweep closes.",
    )
    buffer_size: int = option(
        "http.client.buffer.size.bytes",
        size(4096, 16777216),
        "65536",
        "Largest single read from the socket and piece out of the inflater.",
    )
    dns_ttl: int = option(
        "http.client.dns.cache.ttl.seconds",
        seconds(0, 86400),
        "60",
        "How long a DNS answer is kept. 0: asked for each new connection.",
        "300",
    )
    http2_streams: int = option(
        "http.client.http2.max.concurrent.streams",
        Int(1, 1000),
        "100",
        "Streams on one HTTP/2 connection.",
    )


class ClientConfig(Section, frozen=True, kw_only=True):
    """The requests of an api; seconds and bytes."""

    TITLE: ClassVar[str] = "HTTP client"
    SCOPE: ClassVar[str] = "A"

    connect_timeout: float = duration(
        "http.client.connection.timeout.ms",
        ms(1, DAY),
        "30000",
        "For DNS, TCP, proxy and TLS together, over all addresses of the host.",
        "5000",
    )
    socket_timeout: float = duration(
        "http.client.socket.timeout.ms",
        ms(1, DAY),
        "30000",
        "Longest silence: to the first byte and between two reads.",
        "10000",
    )
    request_timeout: float = duration(
        "http.client.request.timeout.ms",
        ms(1, DAY),
        "60000",
        "Deadline of one try by the wall clock, from the pool to the last byte; "
        "not the limiter's wait, not the back-off.",
    )
    http2: bool = option(
        "http.client.http2.enabled",
        Bool(),
        "false",
        "HTTP/2 over TLS where the server has it and the extra `http2` is "
        "installed; else HTTP/1.1.",
        "true",
    )
    max_response: int = option(
        "http.client.max.response.size.bytes",
        size(1024, 2147483647),
        "10485760",
        "Most bytes of a body, on the wire and inflated, each. A larger page is "
        "a bad page at once.",
    )
    parser: str = option(
        "http.client.parser",
        Choice(("LENIENT", "STRICT")),
        "LENIENT",
        "How an HTTP/1.1 answer is read. LENIENT: bare line feeds, folded or odd "
        "headers, control characters, one Content-Length said twice, chunks "
        "beside a Content-Length (the connection is closed then), line ends "
        "behind the body, a Content-Encoding that is none; never where two "
        "readers could see two different bodies. STRICT: nothing of these.",
        "STRICT",
    )
    compression: bool = option(
        "http.client.compression.enabled",
        Bool(),
        "true",
        "Asks for compressed bodies; false sends `identity`.",
        "false",
    )
    compression_types: tuple[str, ...] = option(
        "http.client.compression.types",
        CommaList(Choice(("gzip", "deflate", "br", "zstd"))),
        "gzip,deflate",
        "What is asked for, in order. br and zstd need a library.",
    )


class BalancingConfig(Section, frozen=True, kw_only=True):
    """Several servers of one api."""

    TITLE: ClassVar[str] = "Several hosts"
    SCOPE: ClassVar[str] = "A"

    endpoints: Sequence[str] | None = unset(
        "http.source.endpoints",
        Json(shapes.endpoints, "JSON array of 1 to 100 URLs"),
        None,
        "Equivalent base URLs; the chosen one takes the place of the origin of "
        "http.source.url, or goes before a relative one.",
        '["https://api1.example.com", "https://api2.example.com"]',
    )
    strategy: str = option(
        "http.load.balancing.strategy",
        Choice(("ROUND_ROBIN", "RANDOM", "FAILOVER")),
        "ROUND_ROBIN",
        "How an endpoint is chosen: by request where pages are addressed, by "
        "poll for chains.",
        "FAILOVER",
    )
    check_enabled: bool = option(
        "http.load.balancing.health.check.enabled",
        Bool(),
        "true",
        "A failing endpoint leaves the rotation, is probed, and comes back.",
        "false",
    )
    check_path: str | None = unset(
        "http.load.balancing.health.check.path",
        Text(r"/[^\s#]*", "URL path that begins with /"),
        None,
        "What a probe asks; unset: the endpoint itself.",
        "/healthz",
    )
    check_interval: float = duration(
        "http.load.balancing.health.check.interval.ms",
        ms(1, DAY),
        "10000",
        "Pause between two probes of one endpoint.",
    )
    check_threshold: int = option(
        "http.load.balancing.health.check.threshold",
        Int(1, 100),
        "3",
        "Failures in a row that take an endpoint out.",
    )
