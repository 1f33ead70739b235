"""
Limits: how often and how much at once a connector asks, made from its options.

Owns which api has a limit of its own, and how many threads and tasks there may be.

Path: `build.sources`, `build.wires`, ``cli`` -> here -> ``shared``
"""

from __future__ import annotations

from engine.config import Connector, Values
from engine.config.sections.client import ClientConfig, PoolConfig
from engine.config.sections.engine import IdentityConfig
from engine.config.sections.limits import (
    RateLimitConfig,
    RateLimitsConfig,
    RetryConfig,
)
from engine.config.sections.paging import PrefetchConfig
from engine.config.sections.processes import ScalingConfig
from engine.shared.demands import Listening
from engine.shared.limiter import RateLimits
from engine.shared.rates import Rate
from engine.source.wire import http2 as curl

#: A rate and its shape: one of them with the prefix of an api is a limit of its own.
RATE = (
    "rate.limit.requests.per.second",
    "rate.limit.algorithm",
    "rate.limit.burst.capacity",
    "rate.limit.window.ms",
)


def rate_of(values: Values) -> Rate:
    """`rate.limit.*` of one api."""
    return Rate(
        values.of(RateLimitConfig).per_second,
        values.of(RateLimitConfig).algorithm,
        values.of(RateLimitConfig).burst,
        values.of(RateLimitConfig).window,
    )


def limits_of(connector: Connector) -> RateLimits:
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
    return RateLimits(
        rate=rate_of(connector.common) if shared else None,
        scope=scope,
        apis=own,
        unlimited=tuple(
            api.name
            for api in connector.apis
            if not api.values.of(RateLimitConfig).enabled
        ),
        listening={api.name: listening_of(api.values) for api in connector.apis},
        share=None if connector.beside is None else connector.beside.share,
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
