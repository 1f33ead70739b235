"""
HTTP/1.1: one request, one complete answer, over HTTP/1.1.

Owns what goes out (each shape of request is prepared once), the hops of one call, and
the renaming of foreign failures. Never sleeps, never retries but for the one resend
that an ended idle connection costs, and judges no status. It is one class, and long:
whatever happens to a request, from the look-up of its way to the last redirect, is
under its one deadline.

Path: `source.fetch` (the outer layers) -> here -> `source.wire.pool`,
`source.wire.body`
->
Response
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from engine.clock import SYSTEM, Clock
from engine.errors import Forbidden, SourceError, Unreachable
from engine.later import later
from engine.observe.meters import Stage
from engine.records import Request, Response
from engine.source.wire.body import WireResponse, read_answer
from engine.source.wire.dns import Dialer, DirectConnection, Resolver
from engine.source.wire.exchange import Silent, write
from engine.source.wire.http2 import Multiplexer
from engine.source.wire.options import Auth, HttpOptions, ProxyOptions, Tokens
from engine.source.wire.origin import (
    AddressGuard,
    Origin,
    excepted,
    host_of,
    origin_of,
    shown,
)
from engine.source.wire.pieces import BodyLimits
from engine.source.wire.pool import (
    HttpCounters,
    Pool,
    PooledConnection,
    RouteConnections,
)
from engine.source.wire.prepared import (
    _CLEAN,
    PreparedShape,
    encoded_url,
    packs,
    prepare,
    with_cookies,
    without_headers,
)
from engine.source.wire.tls import check_pins, tls_context
from engine.source.wire.transfer import TransferOptions

if TYPE_CHECKING:
    import gzip
    from http import client

    from engine.source.wire import dialled
else:
    # Both only for TLS and proxies, and where a connection to one fails.
    gzip, client = later("gzip"), later("http.client")
    dialled = later("engine.source.wire.dialled")

#: Shapes that are kept prepared; templated headers make new ones without end.
MAX_SHAPES = 128

#: Seconds for which an origin's choice of protocol is remembered.
ALPN_AGE = 600.0

#: Seconds for which a shape asks neither for that nor for its addresses.
LOOK_AGE = 1.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Http:
    """
    The verb of `seams.Fetch` over HTTP/1.1, for one api.  Thread-safe.

    Every complete answer is returned, whatever its status.

    Args:
        options: Plain values.
        pool: The task's connections; shared by its apis.
        resolver: The task's names; shared by its apis.
        auth: Credentials for the api's own origins, or None.
        tokens: Asked before each redirect, and before a request is sent again
            on another connection; the first one was paid for by
            the layer outside.
        multiplexer: HTTP/2 of the task for https origins that speak it, or None.
        stage: Told how long each stage of a request over HTTP/1.1 took, or None:
            `performance.metrics.detailed`.
    """

    def __init__(
        self,
        options: HttpOptions,
        *,
        pool: Pool,
        resolver: Resolver,
        auth: Auth | None = None,
        tokens: Tokens | None = None,
        multiplexer: Multiplexer | None = None,
        stage: Stage | None = None,
        clock: Clock = SYSTEM,
    ):
        self._options = options
        self._stage = stage
        self._multiplexer = multiplexer
        self._resolver = resolver
        self._h2: dict[Origin, tuple[bool, float]] = {}
        self._pool = pool
        self._auth = auth
        self._tokens = tokens
        self._clock = clock
        self._counters: HttpCounters = pool.counters
        self._guard = AddressGuard(options.addresses)
        self._dialer = Dialer(resolver, self._guard, stage)
        self._proxy_dialer = Dialer(resolver, None, stage)
        self._context: ssl.SSLContext | None = None
        self._h2_context: ssl.SSLContext | None = None
        self._shapes: dict[Hashable, PreparedShape] = {}
        self._bounds = BodyLimits(
            silence=options.socket_timeout,
            size=options.max_response,
            piece=pool.options.buffer_size,
            close_delimited=options.close_delimited,
            spool_above=options.spool_above,
            spool_dir=options.spool_dir,
            lenient=options.lenient,
        )

    # -- the verb ---------------------------------------------------------

    def __call__(self, request: Request) -> Response:
        """
        Ask and answer; redirects are followed within the borders.

        Raises:
            Unreachable: No answer, or a part of one.
            BadPage: An encoding that was not asked for.
            Forbidden: A rule of ours: size, origin, address, pin.
        Blocks: until the deadline of one try; `tokens` add their waiting.
        """
        options = self._options
        auth = self._auth
        # First of all: it may have to ask for a token, under a deadline of its own.
        stamp = None if auth is None else auth.stamp()
        deadline = SYSTEM.monotonic() + options.request_timeout
        url, method, headers, body = (
            request.url,
            request.method,
            request.headers,
            request.body,
        )
        hops = 0
        try:
            while True:
                sent = headers
                if request.jar is not None:
                    sent = with_cookies(headers, request.jar, url)
                response = self._exchange(
                    request, url, method, sent, body, auth, stamp, deadline
                )
                if hops:
                    response = replace(response, hops=hops)
                if request.jar is not None and options.borders.ours(origin_of(url)):
                    request.jar.learn(url, response.headers)
                if response.status not in _REDIRECTS or not options.redirects:
                    return response
                location = response.header("location")
                if location is None:
                    return response
                if hops == options.redirects:
                    raise Forbidden(f"more than {hops} redirects (http.redirects.max)")
                hops += 1
                self._counters.redirects += 1
                url = options.borders.follow(url, location)
                target = origin_of(url)
                host = host_of(url)
                if response.status == 303 or (
                    response.status in (301, 302) and method == "POST"
                ):
                    method, body = "GET", None
                    headers = without_headers(
                        headers, "content-type", "content-encoding"
                    )
                if request.conditional:
                    # They ask about the answer of the first URL: RFC 9110 15.4.
                    headers = without_headers(
                        headers, "if-none-match", "if-modified-since"
                    )
                if target != origin_of(response.url) and not options.borders.ours(
                    target
                ):
                    headers, auth, stamp = (), None, None
                    if not options.redirect_body:
                        # A 307 or 308 keeps the method; what the body says was
                        # for the host it was written for.
                        body = None
                if self._tokens is not None:
                    self._tokens.observe(host_of(response.url), response)
                    deadline += self._tokens.admit(host)
        except SourceError as error:
            self._counters.failed(type(error).__name__)
            error.url = error.url or shown(url)
            raise

    def _exchange(
        self,
        request: Request,
        url: str,
        method: str,
        headers: tuple[tuple[str, str], ...],
        body: bytes | None,
        auth: Auth | None,
        stamp: Hashable | None,
        deadline: float,
    ) -> Response:
        # Hot path: what only depends on the shape was made into bytes once; a
        # page costs one lookup, one join, one send and its reads.
        cut = url.find("/", 8)
        if cut < 0 or not _CLEAN(url):
            url = encoded_url(url)
            cut = url.find("/", 8)
        if body is not None and packs(headers):
            body = gzip.compress(body, mtime=0)
        key = method, url[:cut], headers, body is None, stamp
        shape = self._shapes.get(key)
        if shape is None:
            shape = prepare(
                method,
                url,
                headers,
                body,
                auth,
                options=self._options,
                keep_alive=self._pool.options.keep_alive,
                through=self._proxy,
                route_pool=self._route_pool,
            )
            if auth is None or stamp is not None:
                if len(self._shapes) >= MAX_SHAPES:
                    self._shapes.clear()
                self._shapes[key] = shape
        target = url[cut:]
        if shape.tail:
            target = f"{target}{'&' if '?' in target else '?'}{shape.tail}"

        sent_at = self._clock.monotonic()
        if self._multiplexer is not None and SYSTEM.monotonic() >= shape.until:
            self._look_up(shape, method, deadline)
        if shape.way is not None:
            answer = self._multiplexed(shape, shape.way, target, body, deadline)
        else:
            if body is None:
                message = b"%b%b%b\r\n" % (shape.start, target.encode(), shape.rest)
            else:
                message = b"%b%b%bContent-Length: %d\r\n\r\n%b" % (
                    shape.start,
                    target.encode(),
                    shape.rest,
                    len(body),
                    body,
                )
            answer = self._send(shape, message, deadline)
        counters = self._counters
        counters.wire_bytes += answer.wire_bytes
        counters.body_bytes += len(answer.body)
        counters.statuses[answer.status] = counters.statuses.get(answer.status, 0) + 1
        return Response(
            request=request,
            url=url,
            status=answer.status,
            headers=answer.headers,
            body=answer.body,
            sent_at=sent_at,
            received_ms=self._clock.wall_ms(),
            wire_bytes=answer.wire_bytes,
        )

    def _send(
        self, shape: PreparedShape, message: bytes, deadline: float
    ) -> WireResponse:
        """One try on one connection, and one more if an idle one was dead."""
        pool = self._pool
        repeatable = self._options.idempotent
        fresh = False
        while True:
            connection = pool.take(
                shape.route_pool, deadline, repeatable=repeatable, fresh=fresh
            )
            reused = connection.sock is not None
            self._counters.requests += 1
            buffer = pool.buffer()
            try:
                if not reused:
                    self._connect(connection, deadline)
                connection.requests += 1
                sent_at = SYSTEM.monotonic()
                write(connection.sock, message, deadline)
                answer = read_answer(
                    connection.sock,
                    buffer,
                    asked=shape.asked,
                    bounds=self._bounds,
                    deadline=deadline,
                )
            except Silent as error:
                pool.drop(connection)
                if reused and repeatable and not fresh:
                    self._counters.stale_connections += 1
                    self._counters.resends += 1
                    if self._tokens is not None:
                        deadline += self._tokens.admit(host_of(str(shape.origin)))
                    fresh = True
                    continue
                raise Unreachable(f"no answer: {error}") from error
            except BaseException:
                pool.drop(connection)
                raise
            finally:
                pool.keep_buffer(buffer)
            if self._stage is not None:
                self._stage("first_byte", answer.first_at - sent_at)
                self._stage("body", SYSTEM.monotonic() - answer.first_at)
            pool.give(connection, answer.headers, answer.keep)
            return answer

    # -- HTTP/2 -----------------------------------------------------------

    def _speaks_h2(self, origin: Origin, deadline: float) -> bool:
        """
        Whether an origin chooses HTTP/2 in ALPN; asked once in a while.

        libcurl would fall back by itself, but then it would be libcurl that
        reads the HTTP/1.1 answer, and our reader proves more.
        """
        if origin.scheme != "https" or self._options.tls.legacy:
            # libcurl cannot be told of a server that renegotiates the old way.
            return False
        known = self._h2.get(origin)
        if known is not None and SYSTEM.monotonic() < known[1]:
            return known[0]
        limit = min(deadline, SYSTEM.monotonic() + self._options.connect_timeout)
        if self._h2_context is None:
            self._h2_context = tls_context(self._options.tls, "h2", "http/1.1")
        context = self._h2_context
        with (
            _renamed(limit),
            self._reach(origin, limit) as sock,
            context.wrap_socket(sock, server_hostname=origin.host) as secure,
        ):
            spoken = secure.selected_alpn_protocol() == "h2"
        self._h2[origin] = spoken, SYSTEM.monotonic() + ALPN_AGE
        return spoken

    def _reach(self, origin: Origin, limit: float) -> socket.socket:
        """A connection to an https origin on which TLS has not begun."""
        proxy = self._proxy(origin)
        if proxy is None:
            return self._dialer.dial(origin.host, origin.port, limit)
        tunnel = dialled.PlainConnection(proxy.host, proxy.port)
        tunnel.dialer, tunnel.deadline = self._proxy_dialer, limit
        tunnel.set_tunnel(origin.host, origin.port, headers=proxy.headers)
        tunnel.connect()
        tunnel.sock.settimeout(max(0.001, limit - SYSTEM.monotonic()))
        return tunnel.sock

    def _multiplexed(
        self,
        shape: PreparedShape,
        way: TransferOptions,
        target: str,
        body: bytes | None,
        deadline: float,
    ) -> WireResponse:
        url = f"{shape.base}{target}"
        counters = self._counters
        counters.requests += 1
        assert self._multiplexer is not None
        try:
            try:
                return self._multiplexer.send(way, url, body, deadline)
            except Silent as error:
                if way.once:
                    raise Unreachable(f"no answer: {error}") from error
            counters.stale_connections += 1
            counters.resends += 1
            counters.requests += 1
            try:
                return self._multiplexer.send(way, url, body, deadline)
            except Silent as error:
                raise Unreachable(f"no answer: {error}") from error
        except Unreachable as error:
            if not error.sent:
                self._resolver.forget(shape.origin.host, shape.origin.port)
                shape.until = 0.0
            raise

    def _look_up(self, shape: PreparedShape, method: str, deadline: float) -> None:
        """
        Find out how a shape goes over HTTP/2, if it does.

        Hot path: its requests ask again only once in `LOOK_AGE`, and the same
        answer of the resolver is checked once.
        """
        shape.way = self._way(shape, method, deadline)
        shape.until = SYSTEM.monotonic() + LOOK_AGE

    def _way(
        self, shape: PreparedShape, method: str, deadline: float
    ) -> TransferOptions | None:
        options = self._options
        origin = shape.origin
        proxy = self._proxy(origin)
        if not self._speaks_h2(origin, deadline):
            return None
        resolve = None
        if proxy is None:
            found = self._resolver.resolve(origin.host, origin.port, deadline)
            if shape.found is found:
                return shape.way
            addresses = [str(entry[4][0]) for entry in found]
            self._guard.check(origin.host, addresses)
            listed = ",".join(f"[{a}]" if ":" in a else a for a in addresses)
            resolve = f"{origin.host}:{origin.port}|{listed}"
            shape.found = found
        elif shape.way is not None:
            return shape.way
        return TransferOptions(
            method=method,
            lines=shape.lines,
            asked=shape.asked,
            bounds=self._bounds,
            connect=options.connect_timeout,
            resolve=resolve,
            tls=options.tls,
            once=not options.idempotent,
            proxy="" if proxy is None else f"http://{proxy.host}:{proxy.port}",
            proxy_auth=None if proxy is None else proxy.login,
        )

    # -- connections ------------------------------------------------------

    def _connect(self, connection: PooledConnection, deadline: float) -> None:
        """
        Establish: DNS, TCP, proxy, TLS, under one time limit.

        Raises: Unreachable, Forbidden.
        """
        raw = connection.raw
        limit = SYSTEM.monotonic() + self._options.connect_timeout
        raw.deadline = min(deadline, limit)
        with _renamed(raw.deadline):
            raw.connect()
            if self._options.tls.pins and isinstance(raw.sock, ssl.SSLSocket):
                check_pins(
                    raw.sock.getpeercert(binary_form=True), self._options.tls.pins
                )
        connection.connected(raw.sock)
        if self._stage is not None and isinstance(raw.sock, ssl.SSLSocket):
            self._stage("tls", SYSTEM.monotonic() - raw.dialled_at)
        self._counters.connections_opened += 1

    def _route_pool(self, origin: Origin) -> RouteConnections:
        options = self._options
        proxy = self._proxy(origin)
        route = origin, proxy, options.tls, options.addresses
        if proxy is not None:
            # The proxy resolves names: only a literal address can be checked.
            literal = origin.host.strip("[]")
            if re.fullmatch(r"[0-9.]+|[0-9a-f:.]*:[0-9a-f:.]*", literal):
                self._guard.check(origin.host, [literal])
        return self._pool.route_pool(route, lambda: self._open(origin, proxy))

    def _proxy(self, origin: Origin) -> ProxyOptions | None:
        """The proxy on the way to an origin, or None: asked itself."""
        options = self._options
        if options.proxy is None or excepted(origin, options.no_proxy):
            return None
        return options.proxy

    def _open(self, origin: Origin, proxy: ProxyOptions | None) -> Any:
        """A connection for a route, not connected yet; mostly urllib3's."""
        host, port = origin.host, origin.port
        if proxy is not None:
            host, port = proxy.host, proxy.port
        if origin.scheme == "http":
            dialer = self._dialer if proxy is None else self._proxy_dialer
            return DirectConnection(host, port, dialer)
        tls = self._options.tls
        if self._context is None:
            self._context = tls_context(tls, "http/1.1")
        verify = tls.check_hostname and tls.verify
        secure = dialled.TlsConnection(
            host,
            port,
            ssl_context=self._context,
            assert_hostname=None if verify else False,
            proxy=None if proxy is None else dialled.Url("http", None, host, port),
        )
        secure.dialer = self._dialer if proxy is None else self._proxy_dialer
        if proxy is not None:
            secure.set_tunnel(
                origin.host, origin.port, headers=proxy.headers, scheme="http"
            )
        return secure


@contextlib.contextmanager
def _renamed(deadline: float) -> Iterator[None]:
    """Failures of establishing a connection, as ours."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise Unreachable(
            f"TLS: the certificate is refused: {error.verify_message}", sent=False
        ) from error
    except ssl.SSLError as error:
        raise Unreachable(f"TLS: {error.reason or error}", sent=False) from error
    except TimeoutError as error:
        raise Unreachable("no connection in time", sent=False) from error
    except (OSError, ValueError) as error:
        raise _unconnected(error, deadline) from error
    except (client.HTTPException, dialled.HTTPError) as error:
        raise _unconnected(error, deadline) from error


def _unconnected(error: Exception, deadline: float) -> Unreachable:
    late = SYSTEM.monotonic() >= deadline
    reason = "no connection in time" if late else f"no connection: {error}"
    return Unreachable(reason, sent=False)
