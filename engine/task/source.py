"""
Source: the HTTP side of a task, made from its configuration.

Owns the translation of keys into what `source` is constructed from, and the
order of the skins around a request.  Opens no connection: that happens with
the first request.

Path: ``task.entry``, `preview` and `check --connect`
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from pathlib import Path
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from engine.clock import SYSTEM
from engine.config import Api, Connector, Secret, Values
from engine.config.reread import (
    reread,
    reread_values,
    rereads,
    texts,
)
from engine.config.sections.auth import ApiKeyConfig, AuthConfig, AwsConfig, OAuthConfig
from engine.config.sections.borders import (
    BordersConfig,
    CertificatesConfig,
    ProxyConfig,
)
from engine.config.sections.client import BalancingConfig, ClientConfig, PoolConfig
from engine.config.sections.engine import ApiConfig, IdentityConfig, PollingConfig
from engine.config.sections.limits import (
    CircuitBreakerConfig,
    RateLimitConfig,
    RateLimitsConfig,
    RetryConfig,
)
from engine.config.sections.paging import PaginationConfig, PrefetchConfig
from engine.config.sections.processes import ScalingConfig
from engine.config.sections.request import RequestConfig
from engine.config.sections.response import AnswersConfig
from engine.config.sections.section import needed
from engine.config.sections.tls import TlsConfig
from engine.config.shapes import status_codes
from engine.errors import Denied, SharedError
from engine.language.cron import compile_cron
from engine.observe.failures import FailureLog
from engine.observe.meters import Stage
from engine.records import Offset, Response, Shard
from engine.seams import Fetch, Stopping
from engine.shared.breaker import Breaker
from engine.shared.limiter import Limiter, Limits, Listening
from engine.shared.lock import FileLock
from engine.shared.rates import Rate
from engine.source.auth.aws import AwsSigV4
from engine.source.auth.header import HeaderAuth, QueryAuth, basic, bearer
from engine.source.auth.oauth import OAuth2, OAuthOptions
from engine.source.auth.renewal import RenewableAuth, Renewing
from engine.source.auth.session import SessionAuth, load_auth
from engine.source.children import Child, Delivery, Tree
from engine.source.decode.answers import Errors
from engine.source.decode.decoder import Decode, Decoded, compile_decoder
from engine.source.fetch.balance import Balanced, Endpoints
from engine.source.fetch.breaker import Guarded
from engine.source.fetch.limit import Limited, Turnstile
from engine.source.fetch.metered import Metered
from engine.source.fetch.policy import RetryPolicy
from engine.source.fetch.retry import Retrying
from engine.source.fetch.waits import Waits
from engine.source.paging.pager import Crew
from engine.source.paging.paginator import Paginator
from engine.source.paging.request import Shape, behind
from engine.source.poll import Poll
from engine.source.prefetch import Ahead, Budget
from engine.source.wire import http2 as curl
from engine.source.wire.body import Bounds
from engine.source.wire.dns import Resolver
from engine.source.wire.http1 import Auth, Http, HttpOptions, ProxyOptions
from engine.source.wire.origin import AddressRules, Borders, origin_of
from engine.source.wire.pool import HttpCounters, Pool, PoolOptions
from engine.source.wire.tls import TlsOptions
from engine.task.cache import Caching
from engine.task.metering import Metering
from engine.task.pace import Interval, Schedule
from engine.task.paging import initial_of, paging_of
from engine.task.pause import Gate, Held

log = logging.getLogger("http")

#: Beginnings of the keys whose text goes into requests beside `auth.type`.
IN_REQUESTS = (
    "http.source.header",
    "http.source.query.params",
    "http.source.url",
    "http.source.body",
)

#: A rate and its shape: one of them with the prefix of an api is a limit of its own.
RATE = (
    "rate.limit.requests.per.second",
    "rate.limit.algorithm",
    "rate.limit.burst.capacity",
    "rate.limit.window.ms",
)


def pool_of(values: Values) -> Pool:
    """The task's connections, from the connector's values."""
    return Pool(
        PoolOptions(
            enabled=values.of(PoolConfig).enabled,
            max_connections=values.of(PoolConfig).max_connections,
            max_per_route=values.of(PoolConfig).max_per_route,
            keep_alive=values.of(PoolConfig).keep_alive,
            keep_alive_duration=values.of(PoolConfig).keep_alive_duration,
            keep_alive_requests=values.of(PoolConfig).keep_alive_requests,
            validate_after=values.of(PoolConfig).validate_after,
            cleanup=values.of(PoolConfig).cleanup,
            cleanup_interval=values.of(PoolConfig).cleanup_interval,
            max_idle=values.of(PoolConfig).max_idle,
            buffer_size=values.of(PoolConfig).buffer_size,
            dns_ttl=float(values.of(PoolConfig).dns_ttl),
        )
    )


def url_of(values: Values) -> str:
    """The logical URL template of an api, absolute."""
    url = str(values.of(RequestConfig).url)
    base = values.of(RequestConfig).base_url or first(
        values.of(BalancingConfig).endpoints
    )
    if base is not None and "://" not in url.split("${", 1)[0]:
        return behind(str(base), url)
    return url


def first(found: Sequence[str] | None) -> str | None:
    """The first of a list, None without."""
    return found[0] if found else None


def tri(word: str) -> bool | None:
    """auto, true, false."""
    return {"auto": None, "true": True, "false": False}[word.lower()]


def reveal(secret: Secret | None) -> str | None:
    """A secret's text, None if unset; to be handed on, never kept."""
    return None if secret is None else secret.reveal()


def http_options(api: Api) -> HttpOptions:
    """The HTTP keys of one api in seconds and bytes."""
    values = api.values
    homes = [
        url_of(values).split("${", 1)[0],
        *(values.of(BalancingConfig).endpoints or ()),
    ]
    origins = tuple(dict.fromkeys(origin_of(home) for home in homes))
    location = values.of(TlsConfig, at="https.ssl.").keystore_location
    trust = values.of(TlsConfig, at="https.ssl.").truststore_location
    return HttpOptions(
        connect_timeout=values.of(ClientConfig).connect_timeout,
        socket_timeout=values.of(ClientConfig).socket_timeout,
        request_timeout=values.of(ClientConfig).request_timeout,
        max_response=values.of(ClientConfig).max_response,
        encodings=(
            tuple(values.of(ClientConfig).compression_types)
            if values.of(ClientConfig).compression
            else ()
        ),
        idempotent=values.of(RequestConfig).idempotent,
        # Only JSON proves its own end where a body ends with its connection.
        close_delimited=values.of(AnswersConfig).format == "json",
        proxy=proxy_of(values),
        redirects=values.of(BordersConfig).redirects,
        lenient=values.of(ClientConfig).parser == "LENIENT",
        redirect_body=values.of(BordersConfig).redirect_body,
        tls=TlsOptions(
            ca_file=None if trust is None else str(trust),
            ca_pem=reveal(
                values.of(TlsConfig, at="https.ssl.").truststore_certificates
            ),
            cert_file=None if location is None else str(location),
            cert_pem=reveal(
                values.of(TlsConfig, at="https.ssl.").keystore_certificate_chain
            ),
            key_pem=reveal(values.of(TlsConfig, at="https.ssl.").keystore_key),
            key_password=reveal(values.of(TlsConfig, at="https.ssl.").key_password),
            protocols=tuple(values.of(TlsConfig, at="https.ssl.").protocols),
            ciphers=tuple(values.of(TlsConfig, at="https.ssl.").ciphers or ()),
            check_hostname=values.of(TlsConfig, at="https.ssl.").identification
            != "none",
            verify=values.of(CertificatesConfig).verify,
            pins=tuple(values.of(CertificatesConfig).pins or ()),
        ),
        addresses=AddressRules(
            home=tuple(origin.host for origin in origins),
            local=tri(values.of(BordersConfig).local),
            private=tri(values.of(BordersConfig).private),
            class_e=values.of(BordersConfig).class_e,
            disallow=tuple(values.of(BordersConfig).disallow or ()),
            allow=tuple(values.of(BordersConfig).allow or ()),
        ),
        borders=Borders(origins, tuple(values.of(BordersConfig).allowed_hosts or ())),
    )


def proxy_of(values: Values) -> ProxyOptions | None:
    """`http.proxy.*`."""
    proxy = values.of(ProxyConfig)
    if proxy.host is None:
        return None
    return ProxyOptions(
        proxy.host, needed(proxy.port), proxy.user, reveal(proxy.password)
    )


def policy_of(values: Values) -> RetryPolicy:
    """`max.retries` and `retry.*` in seconds."""
    return RetryPolicy(
        max_retries=values.of(RetryConfig).max_retries,
        backoff=values.of(RetryConfig).backoff,
        backoff_max=values.of(RetryConfig).backoff_max,
        exponential=values.of(RetryConfig).backoff_policy == "EXPONENTIAL_WITH_JITTER",
        statuses=values.of(RetryConfig).statuses,
        process=values.of(AnswersConfig).status_process,
        empty=values.of(AnswersConfig).status_empty,
        idempotent=values.of(RequestConfig).idempotent,
        respect=values.of(RateLimitConfig).respect,
        credentials=(
            values.of(AuthConfig).type != "NONE"
            or values.of(AuthConfig).auth_class is not None
        ),
        errors=errors_of(values),
    )


def errors_of(values: Values) -> Errors:
    """How an api says that something is wrong: `http.response.error.*`."""
    return Errors(
        values.of(AnswersConfig).error_rules or (),
        message=values.of(AnswersConfig).error_message_field,
        partial=values.of(AnswersConfig).graphql_partial == "ALLOW",
        statuses=status_codes,
    )


def rate_of(values: Values) -> Rate:
    """`rate.limit.*` of one api."""
    return Rate(
        values.of(RateLimitConfig).per_second,
        values.of(RateLimitConfig).algorithm,
        values.of(RateLimitConfig).burst,
        values.of(RateLimitConfig).window,
    )


def limits_of(connector: Connector) -> Limits:
    """
    `rate.limit.*` of a connector.

    Its own rate is the one stated without a prefix, or the default where an
    api has none of its own.  An api that states a rate, or the shape of one,
    with its prefix has a limit of its own.
    """
    scope = connector.values.of(RateLimitsConfig).scope
    limited = [api for api in connector.apis if api.values.of(RateLimitConfig).enabled]
    own = {
        api.name: rate_of(api.values)
        for api in limited
        if scope == "PER_API" or any(map(api.values.own, RATE))
    }
    stated = connector.common.stated(RATE[0])
    shared = scope != "PER_API" and (
        len(own) < len(limited) or (stated and bool(limited))
    )
    return Limits(
        rate=rate_of(connector.common) if shared else None,
        scope=scope,
        apis=own,
        unlimited=tuple(
            api.name
            for api in connector.apis
            if not api.values.of(RateLimitConfig).enabled
        ),
        listening={api.name: listening_of(api.values) for api in connector.apis},
    )


def listening_of(values: Values) -> Listening:
    """How one api takes what its server says; seconds."""
    return Listening(
        respect=values.of(RateLimitConfig).respect,
        longest=values.of(RateLimitConfig).retry_after_max,
        # With the limiter off there is no rate to halve.
        adaptive=values.of(RateLimitConfig).adaptive
        and values.of(RateLimitConfig).enabled,
        backoff=values.of(RetryConfig).backoff,
        backoff_max=values.of(RetryConfig).backoff_max,
        exponential=values.of(RetryConfig).backoff_policy == "EXPONENTIAL_WITH_JITTER",
    )


def threads_of(connector: Connector) -> int:
    """
    Page requests in flight of one task: as many as may have a connection.

    More would wait for one, and ask for pages behind the last before the answer
    that tells of it is there.
    """
    values = connector.values
    asked: int = values.of(PrefetchConfig).max_threads
    several = [api.values.of(ClientConfig).http2 for api in connector.apis]
    if all(several) and curl.installed():
        return min(asked, int(values.of(PoolConfig).http2_streams))
    route = int(values.of(PoolConfig).max_per_route)
    return min(asked, route, int(values.of(PoolConfig).max_connections))


def most_tasks_of(connector: Connector) -> int:
    """How many tasks there may ever be beside each other."""
    values = connector.values
    most: int = values.of(IdentityConfig).tasks_max
    if values.of(ScalingConfig).enabled:
        most = max(most, values.of(ScalingConfig).max_tasks)
    return most


def pace_of(
    api: Api,
    zone: tzinfo,
    *,
    resume: bool,
    skipped: Callable[[int], None],
    origin: float | None = None,
    last_ms: int | None = None,
) -> Interval | Schedule:
    """
    When an api polls.

    Args:
        resume: A poll was cut short: it goes on at once.
        skipped: Told how many ticks were missed.
        origin: Where the grid of an earlier process of this shard begins.
        last_ms: When the offset was written.
    """
    schedule = api.values.of(PollingConfig).schedule
    if schedule is not None:
        cron = compile_cron(schedule)
        return Schedule(cron, zone=zone, last_ms=last_ms, resume=resume)
    interval = api.values.of(PollingConfig).interval
    return Interval(
        interval,
        origin=origin,
        resume=resume,
        skipped=skipped,
        retry=policy_of(api.values),
    )


def paginator_of(
    connector: Connector,
    api: Api,
    shard: Shard,
    *,
    zone: tzinfo,
    task: int,
    crew: Crew | None = None,
    others: Sequence[tuple[int, int, Offset]] = (),
    note: Callable[[str], None] = lambda name: None,
) -> Paginator:
    """The walk through one shard; arguments as for `Sources.poll`."""
    values = api.values
    url = url_of(values)
    paging = paging_of(api, url, index=shard.index, count=shard.count)
    shape = Shape(
        method=values.of(RequestConfig).method,
        url=url,
        paging=paging,
        params=values.of(RequestConfig).params or "",
        headers=tuple(values.of(RequestConfig).headers or ()),
        body=values.of(RequestConfig).body,
        omit=values.of(RequestConfig).body_null == "OMIT",
        initial=initial_of(values, paging, url),
        constants={
            "connector": connector.name,
            "api": api.name,
            "entityName": shard.entity,
            "task": task,
        },
        zone=zone,
    )
    return Paginator(
        paging,
        shape=shape,
        follow=http_options(api).borders.follow,
        index=shard.index,
        count=shard.count,
        others=others,
        crew=crew,
        note=note,
    )


class Places:
    """
    Where files stand that processes share.

    Attributes:
        shared: The runtime directory, then where it is full the state's.
        state: What outlives the engine.
    """

    def __init__(self, runtime: Path, state: Path):
        self.state = state
        self.runtime = runtime
        for directory in (runtime, state):
            _make(directory)

    def shared(self, name: str) -> tuple[Path, Path]:
        """A directory of that name in each of the two, made if missing."""
        found = self.runtime / name, self.state / name
        for directory in found:
            _make(directory)
        return found

    def outlived(self, name: str) -> Path:
        """
        A directory of that name beside the state.

        Raises: SharedError, naming the key.
        """
        found = self.state / name
        try:
            found.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as failure:
            raise SharedError(f"state.dir: {found}: {failure.strerror}") from failure
        return found

    def passing(self, name: str) -> Path:
        """A directory of that name that ends with the engine; else one that does not."""
        found = self.runtime / name
        return found if _make(found) else self.outlived(name)


def _make(directory: Path) -> bool:
    """Make a directory; False where that is impossible, which its user will say."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return True


class Sources:
    """
    Makes the sources of a task's shards, and keeps what they share.

    Args:
        connector: The configuration.
        zone: `schedule.timezone`.
        task: The task's number.
        places: Where shared files stand.
        budget: Where the bytes of pages fetched ahead count.
        limits: What may be asked; None: as the connector has it.
        stop: The only way to wait, for what no single shard asks for.
        metering: Where requests and their stages are counted, or None.
        caching: The response cache, or None: each page is asked for.
        gate: Closed while the connector is paused.

    Attributes:
        pool: The task's connections.
        limiter: The connector's.
        waits: What kept each shard from asking.
        failures: What went wrong last, of each shard.
        breakers: Those of the apis that have one, by api.
    """

    def __init__(
        self,
        connector: Connector,
        *,
        zone: str,
        task: int,
        places: Places,
        budget: Budget | None,
        stop: Stopping,
        limits: Limits | None = None,
        metering: Metering | None = None,
        caching: Caching | None = None,
        gate: Gate | None = None,
    ):
        self._gate = gate if gate is not None else Gate()
        self._metering = metering
        self._caching = caching
        values = connector.values
        self.zone = ZoneInfo(zone)
        self.pool = pool_of(values)
        self.limiter = Limiter(
            places.shared("limiter"),
            connector.name,
            limits_of(connector) if limits is None else limits,
            task=task,
            tasks=most_tasks_of(connector),
        )
        # What was rotated since the engine was started is taken up by each start.
        connector = reread(connector)
        self._connector = connector
        self._apis = {api.name: api for api in connector.apis}
        #: What the references in keys of requests stood for when last read.
        self._told = {
            api.name: texts(api.values, IN_REQUESTS) for api in connector.apis
        }
        self._renewing: dict[str, Renewing | None] = {}
        self._task = task
        self._places = places
        self._stop = stop
        self._resolver = Resolver(self.pool.options.dns_ttl)
        self._ahead = Ahead(
            threads=threads_of(connector),
            pages=values.of(PrefetchConfig).queue_size,
            budget=budget,
        )
        self._multiplexer: curl.Multiplexer | None = None
        self.waits: dict[Shard, Waits] = {}
        self.failures: dict[Shard, FailureLog] = {}
        self.breakers: dict[str, Breaker] = {}
        self._tries: dict[str, Fetch] = {}
        self._auths: dict[str, Auth | None] = {}
        self._renewable: dict[str, RenewableAuth] = {}
        self._endpoints: dict[str, Endpoints] = {}

    def cut(self) -> None:
        """End the requests under way; their shards see a failed answer."""
        self.pool.cut()
        if self._multiplexer is not None:
            self._multiplexer.cut()

    def close(self) -> None:
        """Close the connections and the limiter's files."""
        self.pool.close()
        for breaker in self.breakers.values():
            breaker.close()
        if self._multiplexer is not None:
            self._multiplexer.close()
        self.limiter.close()

    def tick(self, now: float) -> float:
        """
        See to idle connections and probes; never blocks.

        Returns: seconds until it wants to be called again, at most 1.
        """
        due = self.pool.tick(now)
        if self._multiplexer is not None and self.pool.options.cleanup:
            self._multiplexer.tick(now)
        for endpoints in self._endpoints.values():
            endpoints.tick()
        return min(due, 1.0)

    @property
    def counters(self) -> HttpCounters:
        """What the HTTP side of the task counts."""
        return self.pool.counters

    # -- one api ---------------------------------------------------------------

    def _turnstile(
        self, api: Api, stopping: Stopping, waits: Waits | None = None
    ) -> Turnstile:
        """
        Where the requests of an api pay.

        What belongs to no single shard (redirects, tokens) waits for the
        first of the api's.
        """
        if waits is None:
            mine = (kept for shard, kept in self.waits.items() if shard.api == api.name)
            waits = next(mine, None) or Waits()
        return Turnstile(
            self.limiter,
            stopping=stopping,
            api=api.name,
            waits=waits,
            stage=self._stage(api),
        )

    def _stage(self, api: Api) -> Stage | None:
        return None if self._metering is None else self._metering.stage(api.name)

    def _try(self, api: Api) -> Fetch:
        """One request of an api, with its credentials."""
        made = self._tries.get(api.name)
        if made is None:
            auth = self._auth(api)
            if rereads(api.values) and api.values.of(AuthConfig).auth_class is None:
                auth = self._renewable[api.name] = RenewableAuth(auth)
            self._auths[api.name] = auth
            made = self._tries[api.name] = self._wire(api, paying=True)
        return made

    def _wire(self, api: Api, *, paying: bool) -> Fetch:
        """
        The way to an api's server.

        Args:
            paying: False for probes: what follows from them costs no token.
        """
        values = api.values
        http = functools.partial(
            Http,
            # The system's temporary directory may be memory.
            replace(http_options(api), spool_dir=str(self._places.state)),
            pool=self.pool,
            resolver=self._resolver,
            tokens=self._turnstile(api, self._stop) if paying else None,
            multiplexer=self._http2(values),
            stage=self._stage(api),
        )
        auth = values.of(AuthConfig)
        if auth.auth_class is None:
            return http(auth=self._auths[api.name])
        origin = values.origin("http.auth.class")
        carried = load_auth(
            auth.auth_class,
            auth.user,
            reveal(auth.password),
            Path(origin[0]).resolve().parent if origin else None,
        )
        inner: Fetch = http()
        if paying:
            inner = Limited(inner, self._turnstile(api, self._stop))
        return SessionAuth(inner, carried)

    def _http2(self, values: Values) -> curl.Multiplexer | None:
        if not values.of(ClientConfig).http2 or not curl.installed():
            return None
        if self._multiplexer is None:
            own = self._connector.values
            self._multiplexer = curl.Multiplexer(
                streams=own.of(PoolConfig).http2_streams,
                connections=own.of(PoolConfig).max_connections,
                idle=self.pool.options.longest_idle,
                buffer_size=own.of(PoolConfig).buffer_size,
                reuse=self.pool.options.reuse,
            )
        return self._multiplexer

    def _auth(self, api: Api) -> Auth | None:
        values = api.values
        auth = values.of(AuthConfig)
        kind = auth.type
        if auth.auth_class is not None:
            return None
        if kind == "BASIC":
            return basic(needed(auth.user), reveal(auth.password) or "")
        if kind == "BEARER":
            return bearer(needed(auth.bearer_token).reveal())
        if kind == "API_KEY":
            key = values.of(ApiKeyConfig)
            made = QueryAuth if key.location == "QUERY" else HeaderAuth
            return made(key.name, needed(key.value).reveal())
        if kind == "OAUTH2":
            return self._oauth(api)
        if kind == "AWS_SIGV4":
            aws = values.of(AwsConfig)
            return AwsSigV4(
                region=needed(aws.region),
                service=aws.service,
                access_key_id=needed(aws.access_key_id).reveal(),
                secret_access_key=needed(aws.secret_access_key).reveal(),
                session_token=reveal(aws.session_token),
            )
        return None

    def _oauth(self, api: Api) -> OAuth2:
        oauth = api.values.of(OAuthConfig)
        refresh = None
        if oauth.grant_type == "refresh_token":
            refresh = reveal(oauth.refresh_token)
        options = OAuthOptions(
            token_url=needed(oauth.token_url),
            client_id=needed(oauth.client_id),
            client_secret=needed(oauth.client_secret).reveal(),
            refresh_token=refresh,
            scope=oauth.scope,
            in_header=oauth.auth_mode == "HEADER",
            headers=tuple(oauth.headers or ()),
            params=pairs(oauth.params),
            property=oauth.property,
            buffer=float(oauth.buffer),
        )
        plain = http_options(api)
        home = origin_of(options.token_url)
        fetch = Limited(
            Http(
                replace(
                    plain,
                    borders=Borders((home,)),
                    addresses=replace(plain.addresses, home=(home.host,)),
                ),
                pool=self.pool,
                resolver=self._resolver,
                tokens=self._turnstile(api, self._stop),
            ),
            self._turnstile(api, self._stop),
        )
        name = hashlib.blake2b(
            f"{options.token_url}\0{options.client_id}".encode(), digest_size=8
        ).hexdigest()
        # A rotated refresh token outlives the engine, an access token need not.
        places = self._places
        kept = refresh is not None
        tokens = places.outlived("tokens") if kept else places.passing("tokens")
        return OAuth2(
            options,
            fetch=fetch,
            path=tokens / f"{self._connector.name}-{name}.json",
            lock=FileLock(tokens / f"{self._connector.name}-{name}.lock"),
        )

    def _balance(self, api: Api) -> Endpoints | None:
        values = api.values
        urls = values.of(BalancingConfig).endpoints
        if not urls:
            return None
        made = self._endpoints.get(api.name)
        if made is None:
            health = None
            if values.of(BalancingConfig).check_enabled:
                health = Breaker(
                    self._places.shared("endpoints"),
                    threshold=values.of(BalancingConfig).check_threshold,
                    recovery=values.of(BalancingConfig).check_interval,
                )
            base = needed(values.of(RequestConfig).url)
            made = Endpoints(
                str(origin_of(url_of(values).split("${", 1)[0]))
                if "://" in base
                else str(urls[0]),
                urls,
                strategy=values.of(BalancingConfig).strategy,
                start=self._task,
                health=health,
                probe=self._wire(api, paying=False),
                probe_path=values.of(BalancingConfig).check_path or "",
                counters=self.counters,
            )
            self._endpoints[api.name] = made
        return made

    def _breaker(self, api: Api) -> Breaker | None:
        values = api.values
        if not values.of(CircuitBreakerConfig).enabled:
            return None
        made = self.breakers.get(api.name)
        if made is None:
            made = self.breakers[api.name] = Breaker(
                self._places.shared("breaker"),
                threshold=values.of(CircuitBreakerConfig).threshold,
                recovery=values.of(CircuitBreakerConfig).recovery,
            )
        return made

    def fetch(
        self,
        api: Api,
        decode: Decode,
        stopping: Stopping,
        waits: Waits,
        failures: FailureLog,
    ) -> Fetch:
        """
        The onion of an api for one of its shards, outermost skin last.

        A token is paid for each try, a breaker is asked once for a request;
        the cache's skin goes around all of it.
        """
        api = self._apis.get(api.name, api)
        values = api.values
        metering = self._metering
        if metering is not None:
            decode = metering.through(api.name, "decode", decode)
        fetch = self._try(api)
        turnstile = self._turnstile(api, stopping, waits)
        pays = not isinstance(fetch, SessionAuth)
        fetch = Held(
            fetch,
            self._gate,
            stopping=stopping,
            turnstile=turnstile if pays else None,
        )
        if pays:
            fetch = Limited(fetch, turnstile)
        endpoints = self._balance(api)
        if endpoints is not None:
            fetch = Balanced(fetch, endpoints, stopping=stopping)
        renewing = self._renewing_of(api)
        if renewing is not None:
            fetch = renewing.through(fetch)
        breaker = self._breaker(api)
        fetch = Retrying(
            fetch,
            policy_of(values),
            stopping=stopping,
            counters=self.counters,
            failures=failures,
            decode=decode,
            refresh=functools.partial(self._refreshed, api.name, renewing),
            turnstile=self._turnstile(api, stopping, waits),
            allow=closed(breaker),
        )
        if metering is not None:
            fetch = Metered(fetch, metering.meters, stopping=stopping)
        if breaker is not None:
            fetch = Guarded(fetch, breaker, stopping=stopping, waits=waits)
        if self._caching is not None:
            fetch = self._caching.around(api, fetch, stopping)
        return fetch

    # -- credentials that change -----------------------------------------------

    def _refreshed(
        self,
        name: str,
        renewing: Renewing | None,
        response: Response | None,
        stale: bool,
    ) -> bool:
        """
        Other credentials after a refusal: a fresh token, the server's time, or what
        their files say now.  True if there are any.
        """
        auth: object = self._auths.get(name)
        if isinstance(auth, RenewableAuth):
            auth = auth.inner
        if response is not None and isinstance(auth, OAuth2 | AwsSigV4):
            try:
                if auth.refresh(response, stale):
                    return True
            except Denied:
                if renewing is None:
                    raise
        asked = response is None or response.status == 401 or stale
        return asked and renewing is not None and renewing(response)

    def _renewing_of(self, api: Api) -> Renewing | None:
        """What reads an api's secrets anew, or None: none stands in a file."""
        if api.name not in self._renewing:
            made = None
            if rereads(api.values):
                made = Renewing(
                    functools.partial(self._read_anew, api), SYSTEM.monotonic
                )
            self._renewing[api.name] = made
        return self._renewing[api.name]

    def _read_anew(self, api: Api) -> Mapping[str, str] | None:
        before, told = self._apis[api.name].values, self._told[api.name]
        values = reread_values(before, self._connector.may)
        now = texts(values, IN_REQUESTS)
        changed = {
            old: now[place]
            for place, old in told.items()
            if place in now and now[place] != old
        }
        if values is before and not changed:
            return None
        fresh = self._apis[api.name] = replace(api, values=values)
        self._told[api.name] = now
        renewable = self._renewable.get(api.name)
        if renewable is not None:
            renewable.replace(self._auth(fresh))
        log.info("%s: its credentials were read anew.", api.name)
        return changed

    def poll(
        self,
        api: Api,
        shard: Shard,
        *,
        stopping: Stopping,
        crew: Crew | None = None,
        others: Sequence[tuple[int, int, Offset]] = (),
        note: Callable[[str], None] = lambda name: None,
    ) -> Poll:
        """
        The pages of one shard.

        Args:
            others: Stored offsets of shards of another count.
            crew: Where the shards of this api meet.
            note: Told the name of each counter that goes up.
        """
        api = self._apis.get(api.name, api)
        values = api.values
        paginator = paginator_of(
            self._connector,
            api,
            shard,
            zone=self.zone,
            task=self._task,
            crew=crew,
            others=others,
            note=note,
        )
        decode = compile_decoder(
            format=values.of(AnswersConfig).format,
            data_path=values.of(AnswersConfig).data_pointer or "",
            wanted=paginator.paths,
            optional=values.of(AnswersConfig).data_optional,
            empty=values.of(AnswersConfig).status_empty,
            errors=errors_of(values),
            empty_body=values.of(AnswersConfig).empty_body == "EMPTY",
            charset=values.of(AnswersConfig).charset,
            bounds=Bounds(
                size=values.of(ClientConfig).max_response,
                spool_dir=str(self._places.state),
            ),
        )
        return Poll(
            paginator,
            fetch=self.fetch(
                api,
                decode,
                stopping,
                self.waits.setdefault(shard, Waits()),
                self.failures.setdefault(shard, FailureLog()),
            ),
            decode=once_decoded(decode),
            stopping=stopping,
            task=self._task,
            entity=shard.entity,
            ahead=self._ahead if values.of(PaginationConfig).concurrent else None,
            name=f"ahead-{shard.label}",
            expired=values.of(PaginationConfig).cursor_expired_status,
            restart=values.of(PaginationConfig).cursor_expired == "RESTART",
        )

    def tree(
        self,
        root: Api,
        poll: Poll,
        *,
        delivery: Delivery,
        stopping: Stopping,
        below: Stopping,
        notes: Mapping[str, Callable[[str], None]],
        note: Callable[[str], None],
        entity: str | None = None,
    ) -> Tree:
        """
        The pages of a root, each behind those of its children.

        Args:
            poll: The root's own.
            delivery: Where children's pages go.
            below: How children wait; several threads do at once.
            notes: As `note`, for each api below.
            entity: The root's.
        """
        return Tree(
            poll,
            self._children(root, below, notes, entity),
            delivery=delivery,
            stopping=stopping,
            note=note,
        )

    def _children(
        self,
        parent: Api,
        stopping: Stopping,
        notes: Mapping[str, Callable[[str], None]],
        entity: str | None,
    ) -> list[Child]:
        return [
            Child(
                api.name,
                self.poll(
                    api,
                    Shard(self._connector.name, api.name, entity),
                    stopping=stopping,
                    note=notes[api.name],
                ),
                extract=needed(api.values.of(ApiConfig).extract),
                concurrent=api.values.of(ApiConfig).max_concurrent,
                patient=api.values.of(RetryConfig).behavior == "IGNORE",
                children=self._children(api, stopping, notes, entity),
            )
            for api in self._connector.children(parent)
        ]


def closed(breaker: Breaker | None) -> Callable[[str], bool] | None:
    """Answers whether a host may be asked again; an open breaker says no."""
    if breaker is None:
        return None
    return lambda host: breaker.state(host) != "open"


def once_decoded(decode: Decode) -> Decode:
    """
    What the retrying skin made of a response when it judged it; what comes
    out of the cache nobody has judged yet.
    """

    def decoded(response: Response) -> Decoded:
        made: Decoded | None = response.decoded
        return decode(response) if made is None else made

    return decoded


def pairs(text: str | None) -> tuple[tuple[str, str], ...]:
    """`a=b&c=d` as pairs, percent-decoded."""
    return tuple(parse_qsl(text or "", keep_blank_values=True))
