"""
Keys: the one table of everything that can be configured.

Owns the order of the sections and the look-up of a name.  Loading, checking,
`explain`, `config show`, the reference and Connect's definitions all read
this table; there is no second list of keys anywhere.

Path: ``config.sections`` -> here -> the rest of ``config``
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.config.sections import (
    auth,
    borders,
    cache,
    client,
    converters,
    delivery,
    engine,
    jobs,
    kafka,
    letters,
    limits,
    logins,
    observing,
    offsets,
    paging,
    processes,
    request,
    response,
    shapes,
    tls,
    topics,
    transformation,
)
from engine.config.sections.key import Key
from engine.config.sections.topics import TOPIC_SETTINGS
from engine.later import pattern

#: Every key by its name; families by their pattern (`http.source.header.<Name>`).
TABLE: Mapping[str, Key] = {
    key.name: key
    for part in (
        engine.IdentityConfig.entries(),
        engine.PollingConfig.entries(),
        engine.ScheduleConfig.entries(),
        request.RequestConfig.entries(),
        request.CatalogConfig.entries(),
        engine.ApisConfig.entries(),
        engine.ApiConfig.entries(),
        paging.PaginationConfig.entries(),
        paging.PrefetchConfig.entries(),
        offsets.OffsetsConfig.entries(),
        offsets.WindowsConfig.entries(),
        jobs.JobsConfig.entries(),
        response.AnswersConfig.entries(),
        shapes.ShapesConfig.entries(),
        response.RecordsConfig.entries(),
        response.DeduplicationConfig.entries(),
        client.PoolConfig.entries(),
        client.ClientConfig.entries(),
        client.BalancingConfig.entries(),
        limits.RateLimitConfig.entries(),
        limits.RateLimitsConfig.entries(),
        limits.RetryConfig.entries(),
        limits.CircuitBreakerConfig.entries(),
        auth.AuthConfig.entries(),
        auth.ApiKeyConfig.entries(),
        auth.OAuthConfig.entries(),
        logins.JwtConfig.entries(),
        logins.LoginConfig.entries(),
        auth.AwsConfig.entries(),
        tls.TlsConfig.entries(at="https.ssl.", side="the API"),
        borders.CertificatesConfig.entries(),
        borders.ProxyConfig.entries(),
        borders.BordersConfig.entries(),
        cache.ResponseCacheConfig.entries(),
        cache.TIERS,
        cache.TiersConfig.entries(),
        cache.WarmingConfig.entries(),
        cache.SchemasConfig.entries(),
        transformation.TransformationConfig.entries(),
        transformation.BatchingConfig.entries(),
        converters.SIDES,
        converters.NamesConfig.entries(),
        letters.ErrorsConfig.entries(),
        letters.DeadLetterQueueConfig.entries(),
        kafka.KEYS,
        topics.TopicsConfig.entries(),
        topics.DefaultGroupConfig.entries(),
        topics.GroupsConfig.entries(),
        topics.GroupConfig.entries(group="<group>"),
        delivery.TransactionsConfig.entries(),
        delivery.StateTopicConfig.entries(),
        delivery.StateConfig.entries(),
        observing.LogConfig.entries(),
        observing.MetricsConfig.entries(),
        observing.HealthConfig.entries(),
        observing.AdminConfig.entries(),
        processes.ScalingConfig.entries(),
        processes.TasksConfig.entries(),
        processes.MemoryConfig.entries(),
        processes.DirectoriesConfig.entries(),
        processes.PROVIDER_KEYS,
        processes.ClusterConfig.entries(),
    )
    for key in part
}

FAMILIES: tuple[str, ...] = tuple(name for name in TABLE if "<" in name)

_API = pattern(r"api([1-9][0-9]{0,3})\.(.+)", re.DOTALL)
_HEADER = pattern(r"http\.source\.header\.([!#$%&'*+.^_`|~0-9A-Za-z-]+)")
_CREATION = pattern(
    r"topic\.creation\.([A-Za-z0-9_-]+)\."
    r"(include|exclude|partitions|replication\.factor)"
)


def split_api(name: str) -> tuple[int | None, str]:
    """
    The api's number and the key behind `apiN.`; None without that prefix.

    `api.name` and its siblings have no number.
    """
    found = _API.fullmatch(name)
    return (int(found.group(1)), found.group(2)) if found else (None, name)


def find(name: str) -> Key | None:
    """The entry of a name without `apiN.`, families included, or None."""
    if (key := TABLE.get(name)) is not None:
        return key if "<" not in name else None
    if _HEADER.fullmatch(name):
        return TABLE["http.source.header.<Name>"]
    if (found := _CREATION.fullmatch(name)) and found.group(1) != "default":
        return TABLE[f"topic.creation.<group>.{found.group(2)}"]
    if name.startswith("offset.storage."):
        setting = name.removeprefix("offset.storage.")
        if setting in TOPIC_SETTINGS and setting != "cleanup.policy":
            return TABLE["offset.storage.<topic config>"]
    if name.startswith("topic.creation."):
        group, _, setting = name.removeprefix("topic.creation.").partition(".")
        if setting in TOPIC_SETTINGS and re.fullmatch(r"[A-Za-z0-9_-]+", group):
            place = "default" if group == "default" else "<group>"
            return TABLE[f"topic.creation.{place}.<topic config>"]
    return None


__all__ = ["FAMILIES", "TABLE", "Key", "find", "split_api"]
