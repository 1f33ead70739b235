"""
Keys of the HTTP client: connections, retries, limits, doors and locks.

Owns their entries in the table and nothing else.

Path: here -> ``keys.TABLE``
"""

from __future__ import annotations

import math

from engine.config import shapes
from engine.config.grammar import REQUEST_NAMES
from engine.config.keys.key import Computed, Key, Lookup, section
from engine.config.kinds import (
    Bool,
    Choice,
    Cidr,
    Csv,
    File,
    Headers,
    HostPort,
    Int,
    Json,
    Number,
    Params,
    Password,
    Pin,
    RecordPath,
    StatusCodes,
    Text,
    Url,
    ms,
    seconds,
    size,
)
from engine.config.pem import check_certificates, check_key

DAY = 86400000

#: PEM only; what a JVM's store has to become first.
STORE_TYPE = Choice(
    ("PEM",),
    refused={
        word: "only PEM is read; convert with: "
        "keytool -importkeystore -srckeystore FILE -destkeystore store.p12 "
        "-deststoretype PKCS12 && openssl pkcs12 -in store.p12 -nodes -out store.pem"
        for word in ("JKS", "PKCS12")
    },
)

_VERSIONS = Choice(
    ("TLSv1.2", "TLSv1.3"),
    refused={
        word: "older than TLS 1.2" for word in ("TLSv1", "TLSv1.1", "SSLv3", "SSL")
    },
)

IDENTIFICATION = Choice(("https", "none"))


def _burst(get: Lookup) -> object:
    rate = get("rate.limit.requests.per.second")
    return max(1, math.ceil(rate)) if isinstance(rate, float) else None


def tls(prefix: str, scope: str, side: str) -> list[Key]:
    """The keys that both sides have, `https.ssl.*` and `ssl.*`."""
    key = section(f"TLS towards {side}")
    return [
        key(
            f"{prefix}truststore.location",
            File(exists=True),
            None,
            scope,
            f"PEM file of the authorities trusted towards {side}; unset: the system's.",
            "ca.pem",
        ),
        key(
            f"{prefix}truststore.certificates",
            Password(multiline=True, check=check_certificates),
            None,
            scope,
            "The same as PEM text.",
            "${file:ca.pem}",
        ),
        key(
            f"{prefix}truststore.type",
            STORE_TYPE,
            "PEM",
            scope,
            "Form of the trust store; JKS and PKCS12 have to be converted.",
        ),
        key(
            f"{prefix}keystore.location",
            File(exists=True),
            None,
            scope,
            "PEM file with our certificate chain and its key.",
            "client.pem",
        ),
        key(
            f"{prefix}keystore.key",
            Password(multiline=True, check=check_key),
            None,
            scope,
            "Our key as PEM text, with the certificate chain beside it.",
            "${file:client.key}",
        ),
        key(
            f"{prefix}keystore.certificate.chain",
            Password(multiline=True, check=check_certificates),
            None,
            scope,
            "Our certificate chain as PEM text.",
            "${file:client.crt}",
        ),
        key(
            f"{prefix}keystore.type",
            STORE_TYPE,
            "PEM",
            scope,
            "Form of the key store; JKS and PKCS12 have to be converted.",
        ),
        key(
            f"{prefix}key.password",
            Password(),
            None,
            scope,
            "What our key is encrypted with.",
            "${env:TLS_KEY_PASSWORD}",
        ),
        key(
            f"{prefix}endpoint.identification.algorithm",
            IDENTIFICATION,
            "https",
            scope,
            "Whether the certificate must name the host. none, or an empty value: "
            "not checked, with a warning at each start.",
        ),
        key(
            f"{prefix}enabled.protocols",
            Csv(_VERSIONS),
            "TLSv1.2,TLSv1.3",
            scope,
            "TLS versions offered.",
        ),
        key(
            f"{prefix}cipher.suites",
            Csv(Text(r"[A-Za-z0-9_-]+", "cipher suite")),
            None,
            scope,
            "Cipher suites offered; unset: the library's choice.",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
        ),
    ]


def _connections() -> list[Key]:
    key = section("HTTP client")
    http = "http.client."
    return [
        key(
            f"{http}connection.pool.enabled",
            Bool(),
            "true",
            "T",
            "false: a connection serves one request and is closed by us.",
            "false",
        ),
        key(
            f"{http}max.connections",
            Int(1, 10000),
            "20",
            "T",
            "Open sockets of a task, busy and idle, to all routes.",
            "50",
        ),
        key(
            f"{http}max.connections.per.route",
            Int(1, 10000),
            "10",
            "T",
            "Open sockets of a task to one scheme, host, port and proxy.",
            "20",
        ),
        key(
            f"{http}connection.keep.alive.enabled",
            Bool(),
            "true",
            "T",
            "false: `Connection: close` is sent and nothing is reused.",
            "false",
        ),
        key(
            f"{http}connection.keep.alive.duration.ms",
            ms(0, DAY),
            "300000",
            "T",
            "A connection idle for longer is not reused; the server's Keep-Alive may "
            "shorten it. 0: no reuse.",
        ),
        key(
            f"{http}connection.keep.alive.max.requests",
            Int(1, 1000000),
            "1000",
            "T",
            "Requests after which a connection is retired.",
        ),
        key(
            f"{http}connection.pool.validate.after.inactivity.ms",
            ms(0, DAY),
            "30000",
            "T",
            "A connection idle for longer is looked at before it is reused. 0: always.",
        ),
        key(
            f"{http}connection.cleanup.enabled",
            Bool(),
            "true",
            "T",
            "Whether idle connections past their time are closed without being "
            "touched.",
            "false",
        ),
        key(
            f"{http}connection.cleanup.interval.ms",
            ms(100, DAY),
            "60000",
            "T",
            "Pause between those sweeps.",
        ),
        key(
            f"{http}connection.max.idle.time.ms",
            ms(1000, DAY),
            "300000",
            "T",
            "Idle age at which a sweep closes.",
        ),
        key(
            f"{http}connection.timeout.ms",
            ms(1, DAY),
            "30000",
            "A",
            "For DNS, TCP, proxy and TLS together, over all addresses of the host.",
            "5000",
        ),
        key(
            f"{http}socket.timeout.ms",
            ms(1, DAY),
            "30000",
            "A",
            "Longest silence: to the first byte and between two reads.",
            "10000",
        ),
        key(
            f"{http}request.timeout.ms",
            ms(1, DAY),
            "60000",
            "A",
            "Deadline of one try by the wall clock, from the pool to the last byte; "
            "not the limiter's wait, not the back-off.",
        ),
        key(
            f"{http}http2.enabled",
            Bool(),
            "false",
            "A",
            "HTTP/2 over TLS where the server has it and the extra `http2` is "
            "installed; else HTTP/1.1.",
            "true",
        ),
        key(
            f"{http}http2.max.concurrent.streams",
            Int(1, 1000),
            "100",
            "T",
            "Streams on one HTTP/2 connection.",
        ),
        key(
            f"{http}buffer.size.bytes",
            size(4096, 16777216),
            "65536",
            "T",
            "Largest single read from the socket and piece out of the inflater.",
        ),
        key(
            f"{http}max.response.size.bytes",
            size(1024, 2147483647),
            "10485760",
            "A",
            "Most bytes of a body, on the wire and inflated, each. A larger page is "
            "a bad page at once.",
        ),
        key(
            f"{http}parser",
            Choice(("LENIENT", "STRICT")),
            "LENIENT",
            "A",
            "How an HTTP/1.1 answer is read. LENIENT: bare line feeds, folded or odd "
            "headers, control characters, one Content-Length said twice, chunks "
            "beside a Content-Length (the connection is closed then), line ends "
            "behind the body, a Content-Encoding that is none; never where two "
            "readers could see two different bodies. STRICT: nothing of these.",
            "STRICT",
        ),
        key(
            f"{http}compression.enabled",
            Bool(),
            "true",
            "A",
            "Asks for compressed bodies; false sends `identity`.",
            "false",
        ),
        key(
            f"{http}compression.types",
            Csv(Choice(("gzip", "deflate", "br", "zstd"))),
            "gzip,deflate",
            "A",
            "What is asked for, in order. br and zstd need a library.",
        ),
        key(
            f"{http}dns.cache.ttl.seconds",
            seconds(0, 86400),
            "60",
            "T",
            "How long a DNS answer is kept. 0: asked for each new connection.",
            "300",
        ),
    ]


def _balancing() -> list[Key]:
    key = section("Several hosts")
    health = "http.load.balancing.health.check."
    return [
        key(
            "http.source.endpoints",
            Json(shapes.endpoints, "JSON array of 1 to 100 URLs"),
            None,
            "A",
            "Equivalent base URLs; the chosen one takes the place of the origin of "
            "http.source.url, or goes before a relative one.",
            '["https://api1.example.com", "https://api2.example.com"]',
        ),
        key(
            "http.load.balancing.strategy",
            Choice(("ROUND_ROBIN", "RANDOM", "FAILOVER")),
            "ROUND_ROBIN",
            "A",
            "How an endpoint is chosen: by request where pages are addressed, by "
            "poll for chains.",
            "FAILOVER",
        ),
        key(
            f"{health}enabled",
            Bool(),
            "true",
            "A",
            "A failing endpoint leaves the rotation, is probed, and comes back.",
            "false",
        ),
        key(
            f"{health}path",
            Text(r"/[^\s#]*", "URL path that begins with /"),
            None,
            "A",
            "What a probe asks; unset: the endpoint itself.",
            "/healthz",
        ),
        key(
            f"{health}interval.ms",
            ms(1, DAY),
            "10000",
            "A",
            "Pause between two probes of one endpoint.",
        ),
        key(
            f"{health}threshold",
            Int(1, 100),
            "3",
            "A",
            "Failures in a row that take an endpoint out.",
        ),
    ]


def _limits() -> list[Key]:
    key = section("Rate limit")
    return [
        key(
            "rate.limit.enabled",
            Bool(),
            "false",
            "A",
            "Our own limit. What the server asks for is obeyed without it.",
            "true",
        ),
        key(
            "rate.limit.requests.per.second",
            Number(0.0001, 100000),
            "10",
            "A",
            "Tries a second of rate.limit.scope: by default of all tasks together.",
            "20",
        ),
        key(
            "rate.limit.algorithm",
            Choice(("TOKEN_BUCKET", "SLIDING_WINDOW", "FIXED_WINDOW", "LEAKY_BUCKET")),
            "TOKEN_BUCKET",
            "A",
            "How the rate is shaped: bursts (token), even (leaky), by windows.",
            "SLIDING_WINDOW",
        ),
        key(
            "rate.limit.burst.capacity",
            Int(1, 1000000),
            Computed(_burst, "the rate, rounded up"),
            "A",
            "Size of the bucket; for LEAKY_BUCKET the places in its queue. The "
            "window algorithms do not use it.",
            "50",
        ),
        key(
            "rate.limit.scope",
            Choice(("GLOBAL", "PER_API", "PER_HOST", "PER_TASK")),
            "GLOBAL",
            "C",
            "What one limit counts. An api's own rate under GLOBAL is a second limit "
            "inside the first.",
            "PER_HOST",
        ),
        key(
            "rate.limit.window.ms",
            ms(10, DAY),
            "1000",
            "A",
            "Length of a window; stretched to 1/rate if that is longer.",
        ),
        key(
            "rate.limit.respect.headers",
            Bool(),
            "true",
            "A",
            "Retry-After, RateLimit and X-RateLimit pause all tasks of that host.",
            "false",
        ),
        key(
            "rate.limit.retry.after.max.ms",
            ms(),
            "3600000",
            "A",
            "A longer demand of the server is cut to it.",
        ),
        key(
            "rate.limit.adaptive.enabled",
            Bool(),
            "false",
            "A",
            "429 halves the rate; without one it creeps back.",
            "true",
        ),
    ]


def _failures() -> list[Key]:
    key = section("Retries and circuit breaker")
    return [
        key(
            "behavior.on.error",
            Choice(("FAIL", "IGNORE")),
            "FAIL",
            "A",
            "After a permanent failure: FAIL ends the api's shard, IGNORE tries "
            "again at the next tick. The position is kept either way.",
            "IGNORE",
        ),
        key(
            "max.retries",
            Int(0, 1000),
            "5",
            "A",
            "Tries of a request after the first; each costs a token.",
        ),
        key(
            "retry.backoff.ms",
            ms(1, 3600000),
            "1000",
            "A",
            "First pause before a retry.",
        ),
        key(
            "retry.backoff.max.ms",
            ms(1, 3600000),
            "60000",
            "A",
            "Longest pause before a retry.",
        ),
        key(
            "retry.backoff.policy",
            Choice(("EXPONENTIAL_WITH_JITTER", "CONSTANT_VALUE")),
            "EXPONENTIAL_WITH_JITTER",
            "A",
            "How the pause grows. A Retry-After wins over it.",
            "CONSTANT_VALUE",
        ),
        key(
            "retry.on.status.codes",
            StatusCodes(),
            "408,425,429,500,502-504",
            "A",
            "Statuses that are tried again, 401 and 403 too where they stand here; 429 "
            "and 503 always are, and a 403 or 413 that says it is a matter of time.",
        ),
        key(
            "circuit.breaker.enabled",
            Bool(),
            "true",
            "A",
            "One breaker a host, shared by all tasks.",
            "false",
        ),
        key(
            "circuit.breaker.failure.threshold",
            Int(1, 1000),
            "5",
            "A",
            "Requests given up in a row that open it (no answer or 5xx, not 429).",
        ),
        key(
            "circuit.breaker.recovery.timeout.ms",
            ms(100, 3600000),
            "30000",
            "A",
            "Then one probe goes for all tasks: it closes the breaker or opens it "
            "anew.",
        ),
    ]


def _auth() -> list[Key]:
    key = section("Authentication")
    code = Text(
        r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", "module:Class, found by Python's import"
    )
    return [
        key(
            "auth.type",
            Choice(("NONE", "BASIC", "BEARER", "API_KEY", "OAUTH2", "AWS_SIGV4")),
            "NONE",
            "A",
            "How requests prove who we are. Client certificates go with any.",
            "BEARER",
        ),
        key(
            "http.auth.class",
            code,
            None,
            "A",
            "An auth object of the requests library, made with connection.user and "
            "connection.password where these are set.",
            "requests.auth:HTTPDigestAuth",
        ),
        key(
            "connection.user",
            Text(),
            None,
            "A",
            "User of BASIC and of http.auth.class.",
            "reader",
        ),
        key(
            "connection.password",
            Password(),
            None,
            "A",
            "Password of BASIC and of http.auth.class.",
            "${env:API_PASSWORD}",
        ),
        key(
            "bearer.token",
            Password(),
            None,
            "A",
            "Token of BEARER.",
            "${file:token.txt}",
        ),
        key(
            "api.key.location",
            Choice(("HEADER", "QUERY")),
            "HEADER",
            "A",
            "Where API_KEY puts the key; out of a query it is cut from logs, cache "
            "and state.",
            "QUERY",
        ),
        key(
            "api.key.name",
            Text(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", "header or parameter name"),
            "X-API-KEY",
            "A",
            "Name of API_KEY's header or parameter.",
        ),
        key(
            "api.key.value",
            Password(),
            None,
            "A",
            "The key of API_KEY.",
            "${env:API_KEY}",
        ),
        key(
            "oauth2.token.url",
            Url(),
            None,
            "A",
            "Where OAUTH2 gets its token.",
            "https://login.example.com/token",
        ),
        key("oauth2.client.id", Text(), None, "A", "Client of OAUTH2.", "my-client"),
        key(
            "oauth2.client.secret",
            Password(),
            None,
            "A",
            "The client's secret.",
            "${env:CLIENT_SECRET}",
        ),
        key(
            "oauth2.grant.type",
            Choice(("client_credentials", "refresh_token")),
            "client_credentials",
            "A",
            "How OAUTH2 asks.",
            "refresh_token",
        ),
        key(
            "oauth2.refresh.token",
            Password(),
            None,
            "A",
            "The token to begin with; a rotated one is kept in the state directory.",
            "${file:refresh.txt}",
        ),
        key(
            "oauth2.client.scope",
            Text(),
            None,
            "A",
            "Scope asked for; unset, none is sent.",
            "orders.read",
        ),
        key(
            "oauth2.client.auth.mode",
            Choice(("HEADER", "URL")),
            "HEADER",
            "A",
            "Client and secret in a Basic header, or as form fields.",
            "URL",
        ),
        key(
            "oauth2.client.headers",
            Headers(REQUEST_NAMES),
            None,
            "A",
            "Further headers of the token request.",
            "X-Tenant:blue",
        ),
        key(
            "oauth2.token.params",
            Params(REQUEST_NAMES),
            None,
            "A",
            "Further form fields of the token request.",
            "audience=https://api.example.com",
        ),
        key(
            "oauth2.token.property",
            RecordPath(),
            "access_token",
            "A",
            "Where the token stands in the answer.",
        ),
        key(
            "oauth2.token.refresh.buffer.seconds",
            seconds(),
            "60",
            "A",
            "A token is renewed this long before it ends, at the latest at 80 % of "
            "its life.",
        ),
        key(
            "http.auth.aws.region",
            Text(r"[a-z0-9-]+", "AWS region"),
            None,
            "A",
            "Region of AWS_SIGV4; unset: AWS_REGION, else AWS_DEFAULT_REGION.",
            "eu-central-1",
        ),
        key(
            "http.auth.aws.service",
            Text(r"[a-z0-9-]+", "AWS service"),
            "execute-api",
            "A",
            "Service of AWS_SIGV4.",
        ),
        key(
            "http.auth.aws.access.key.id",
            Password(),
            None,
            "A",
            "Access key; where neither it nor its secret is set: AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of the environment.",
            "${env:AWS_ACCESS_KEY_ID}",
        ),
        key(
            "http.auth.aws.secret.access.key",
            Password(),
            None,
            "A",
            "Its secret.",
            "${env:AWS_SECRET_ACCESS_KEY}",
        ),
        key(
            "http.auth.aws.session.token",
            Password(),
            None,
            "A",
            "The session's token, for temporary keys.",
            "${env:AWS_SESSION_TOKEN}",
        ),
    ]


def _doors() -> list[Key]:
    key = section("Where requests may go")
    three = Choice(("auto", "true", "false"))
    return [
        key(
            "https.ssl.verify",
            Bool(),
            "true",
            "A",
            "false: certificates are not checked, with a warning at each start.",
            "false",
        ),
        key(
            "https.ssl.certificate.pins",
            Csv(Pin()),
            None,
            "A",
            "Hashes of public keys; the server's own certificate must match one.",
            "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        ),
        key(
            "http.proxy.host",
            Text(r"[A-Za-z0-9._\[\]:-]+", "host name"),
            None,
            "A",
            "Proxy; CONNECT for https. Environment variables are never read.",
            "proxy.example.com",
        ),
        key("http.proxy.port", Int(1, 65535), None, "A", "The proxy's port.", "3128"),
        key("http.proxy.user", Text(), None, "A", "User at the proxy.", "me"),
        key(
            "http.proxy.password",
            Password(),
            None,
            "A",
            "Password at the proxy.",
            "${env:PROXY_PASSWORD}",
        ),
        key(
            "http.redirects.max",
            Int(0, 20),
            "5",
            "A",
            "Redirects followed: within the origin and to http.source.allowed.hosts, "
            "never from https to http.",
        ),
        key(
            "http.redirects.body.to.other.hosts",
            Bool(),
            "false",
            "A",
            "A 307 or 308 to a host of http.source.allowed.hosts is followed with the "
            "request's body, without its headers. false: without both.",
            "true",
        ),
        key(
            "http.source.allowed.hosts",
            Csv(HostPort(port=False, wildcard=True)),
            None,
            "A",
            "Other hosts that redirects and next links may lead to; no credential "
            "and no header of ours goes there.",
            "cdn.example.com,*.example.org",
        ),
        key(
            "connection.disallow.local.ips",
            three,
            "auto",
            "A",
            "Refuses loopback addresses after DNS. auto: unless the configured host "
            "is there itself.",
            "true",
        ),
        key(
            "connection.disallow.private.ips",
            three,
            "auto",
            "A",
            "The same for private networks. What carries IPv4 inside (NAT64, 6to4, "
            "Teredo, mapped) counts as what is inside.",
            "true",
        ),
        key(
            "connection.disallow.class.e.ips",
            Bool(),
            "true",
            "A",
            "The same for 240.0.0.0/4.",
        ),
        key(
            "connection.disallow.cidr.ranges",
            Csv(Cidr()),
            None,
            "A",
            "Networks that are refused.",
            "10.0.0.0/8",
        ),
        key(
            "connection.allow.cidr.ranges",
            Csv(Cidr()),
            None,
            "A",
            "Networks that are allowed whatever else says, link-local and the metadata "
            "addresses of clouds included.",
            "169.254.10.0/24",
        ),
    ]


KEYS = [
    *_connections(),
    *_balancing(),
    *_limits(),
    *_failures(),
    *_auth(),
    *tls("https.ssl.", "A", "the API"),
    *_doors(),
]
