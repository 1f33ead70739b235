"""
Wires: the way to the servers of a task's apis, made from its configuration.

Owns what all requests of a task share (connections, names, HTTP/2, the one rate limiter)
and what carries one try.  Opens no connection: that happens with the first request.

Path: `build.sources` -> here -> `source.wire`, `source.fetch.limit`
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from engine.config import Api, Connector, Values
from engine.config.sections.auth import AuthConfig
from engine.config.sections.client import ClientConfig, PoolConfig
from engine.later import later
from engine.observe.meters import Stage
from engine.records import Shard
from engine.seams import Fetch, Stopping
from engine.shared.limiter import RateLimiter, RateLimits
from engine.source.fetch.limit import CredentialTurns, Limited, RateGate
from engine.source.fetch.waits import Waits
from engine.source.wire import http2 as curl
from engine.source.wire.dns import Resolver
from engine.source.wire.http1 import Http
from engine.source.wire.options import Auth
from engine.source.wire.origin import AllowedOrigins, origin_of
from engine.task.build.http import http_options, pool_of, reveal
from engine.task.build.limits import limits_of, most_tasks_of
from engine.task.build.places import Places
from engine.task.metering import Metering

if TYPE_CHECKING:
    from engine.source.auth import session as session_auth
else:
    session_auth = later("engine.source.auth.session")


class Wires:
    """
    What the requests of a task go over.

    Args:
        connector: The configuration.
        task: The task's number.
        places: Where shared files stand.
        limits: What may be asked; None: as the connector has it.
        stop: The only way to wait, for what no single shard asks for.
        metering: Where the stages of requests are told, or None.
        waits: What kept each shard from asking.
        turns: Gives an api's several credentials; None: it has one.

    Attributes:
        pool: The task's connections.
        limiter: The connector's.
    """

    def __init__(
        self,
        connector: Connector,
        *,
        task: int,
        places: Places,
        limits: RateLimits | None,
        stop: Stopping,
        metering: Metering | None,
        waits: Mapping[Shard, Waits],
        turns: Callable[[Api], Callable[[], CredentialTurns | None] | None],
    ):
        self._values = connector.values
        self._places = places
        self._stop = stop
        self._metering = metering
        self._waits = waits
        self._turns = turns
        self.pool = pool_of(connector.values)
        self.limiter = RateLimiter(
            places.shared(
                "limiter",
                None if connector.beside is None else connector.beside.runtime,
            ),
            connector.known_as,
            limits_of(connector) if limits is None else limits,
            task=task,
            tasks=most_tasks_of(connector),
        )
        self._resolver = Resolver(self.pool.options.dns_ttl)
        self._multiplexer: curl.Multiplexer | None = None

    def cut(self) -> None:
        """End the requests under way; who asked sees a failed answer."""
        self.pool.cut()
        if self._multiplexer is not None:
            self._multiplexer.cut()

    def close(self) -> None:
        """Close the connections and the limiter's files."""
        self.pool.close()
        if self._multiplexer is not None:
            self._multiplexer.close()
        self.limiter.close()

    def tick(self, now: float) -> float:
        """See to idle connections; seconds until it wants to be called again."""
        due = self.pool.tick(now)
        if self._multiplexer is not None and self.pool.options.cleanup:
            self._multiplexer.tick(now)
        return due

    def rate_gate(
        self,
        api: Api,
        stopping: Stopping,
        waits: Waits | None = None,
        *,
        picks: bool = True,
    ) -> RateGate:
        """
        Where the requests of an api pay.

        What belongs to no single shard (redirects, tokens) waits for the
        first of the api's.
        """
        if waits is None:
            mine = (
                kept for shard, kept in self._waits.items() if shard.api == api.name
            )
            waits = next(mine, None) or Waits()
        return RateGate(
            self.limiter,
            stopping=stopping,
            api=api.name,
            waits=waits,
            stage=self.stage(api),
            turns=self._turns(api),
            picks=picks,
        )

    def stage(self, api: Api) -> Stage | None:
        """What is told the stages of an api's requests; None: nobody wants them."""
        return None if self._metering is None else self._metering.stage(api.name)

    def way(self, api: Api, auth: Auth | None, *, paying: bool) -> Fetch:
        """
        The way to an api's server.

        Args:
            auth: What its requests prove with who we are.
            paying: False for probes: what follows from them costs no token.
        """
        values = api.values
        http = functools.partial(
            Http,
            # The system's temporary directory may be memory.
            replace(http_options(api), spool_dir=str(self._places.state)),
            pool=self.pool,
            resolver=self._resolver,
            tokens=self.rate_gate(api, self._stop, picks=False) if paying else None,
            multiplexer=self._http2(values),
            stage=self.stage(api),
        )
        keys = values.of(AuthConfig)
        if keys.auth_class is None:
            return http(auth=auth)
        origin = values.origin("http.auth.class")
        carried = session_auth.load_auth(
            keys.auth_class,
            keys.user,
            reveal(keys.password),
            Path(origin[0]).resolve().parent if origin else None,
        )
        inner: Fetch = http()
        if paying:
            inner = Limited(inner, self.rate_gate(api, self._stop))
        return session_auth.SessionAuth(inner, carried)

    def _http2(self, values: Values) -> curl.Multiplexer | None:
        if not values.of(ClientConfig).http2 or not curl.installed():
            return None
        if self._multiplexer is None:
            own = self._values
            self._multiplexer = curl.Multiplexer(
                streams=own.of(PoolConfig).http2_streams,
                connections=own.of(PoolConfig).max_connections,
                idle=self.pool.options.longest_idle,
                buffer_size=own.of(PoolConfig).buffer_size,
                reuse=self.pool.options.reuse,
            )
        return self._multiplexer

    def plain(self, api: Api, url: str, redirects: int | None = None) -> Fetch:
        """
        A way to where an api's tokens come from: limited, without credentials.

        Args:
            redirects: How many are followed; None: as the api has it.
        """
        plain, home = http_options(api), origin_of(url)
        return Limited(
            Http(
                replace(
                    plain,
                    borders=AllowedOrigins((home,)),
                    addresses=replace(plain.addresses, home=(home.host,)),
                    redirects=plain.redirects if redirects is None else redirects,
                ),
                pool=self.pool,
                resolver=self._resolver,
                tokens=self.rate_gate(api, self._stop),
            ),
            self.rate_gate(api, self._stop),
        )
