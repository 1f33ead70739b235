"""Clients for the tests of the HTTP side: real parts, small limits."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from engine.clock import SYSTEM, Clock
from engine.records import Request, Response
from engine.source.decode.decoder import compile_decoder
from engine.source.fetch.policy import RetryPolicy
from engine.source.fetch.retry import Retrying
from engine.source.wire.dns import Resolver
from engine.source.wire.http1 import Http
from engine.source.wire.http2 import Multiplexer
from engine.source.wire.options import Auth, HttpOptions
from engine.source.wire.origin import AddressRules, AllowedOrigins, origin_of
from engine.source.wire.pool import Pool, PoolOptions
from engine.source.wire.tls import TlsOptions
from tests.fakes.clock import HandClock
from tests.fakes.misbehaving import authority_pem

Headers = Sequence[tuple[str, str]]


class Stopping:
    """
    A stopping flag that notes how long it was waited, and does not wait.

    Args:
        clock: Moved on instead.
    """

    def __init__(self, clock: HandClock | None = None) -> None:
        self._clock = clock
        self.waits: list[float] = []
        self.flag = threading.Event()

    def is_set(self) -> bool:
        return self.flag.is_set()

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        if self._clock is not None:
            self._clock.move(seconds)
        return self.flag.is_set()


class Client:
    """
    One api's HTTP side against one server.

    Attributes:
        http: One try.
        pool: Its connections; `counters` says what happened.
    """

    def __init__(
        self,
        url: str,
        *,
        http2: bool = False,
        pool: Pool | None = None,
        pool_options: dict[str, Any] | None = None,
        auth: Auth | None = None,
        allowed: Sequence[str] = (),
        tls: TlsOptions | None = None,
        resolver: Resolver | None = None,
        streams: int = 100,
        reuse: bool = True,
        clock: Clock = SYSTEM,
        **options: Any,
    ):
        origin = origin_of(url)
        self.url = url
        self.pool = pool or Pool(PoolOptions(**(pool_options or {})))
        self.counters = self.pool.counters
        self.resolver = resolver or Resolver(60.0)
        self.multiplexer = (
            Multiplexer(
                streams=streams,
                connections=10,
                idle=60.0,
                buffer_size=64 * 1024,
                reuse=reuse,
            )
            if http2
            else None
        )
        options.setdefault("borders", AllowedOrigins((origin,), tuple(allowed)))
        options.setdefault("addresses", AddressRules(home=(origin.host,)))
        self.http = Http(
            HttpOptions(tls=tls or TlsOptions(ca_pem=authority_pem()), **options),
            pool=self.pool,
            resolver=self.resolver,
            auth=auth,
            multiplexer=self.multiplexer,
            clock=clock,
        )

    def get(self, path: str = "/", headers: Headers = (), **fields: Any) -> Response:
        return self.http(
            Request("GET", f"{self.url}{path}", headers=tuple(headers), **fields)
        )

    def post(self, path: str, body: bytes, headers: Headers = ()) -> Response:
        return self.http(
            Request("POST", f"{self.url}{path}", headers=tuple(headers), body=body)
        )

    def retrying(
        self,
        *,
        decode: dict[str, Any] | None = None,
        refresh: Any = None,
        **policy: Any,
    ) -> tuple[Retrying, Stopping]:
        """The layer of retries around it, and what it waited for."""
        stopping = Stopping()
        return (
            Retrying(
                self.http,
                RetryPolicy(**policy),
                stopping=stopping,
                counters=self.counters,
                decode=None if decode is None else compile_decoder(**decode),
                refresh=refresh,
                draw=lambda low, high: high,
            ),
            stopping,
        )
