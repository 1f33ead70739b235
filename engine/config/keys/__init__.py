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
    kafka,
    letters,
    limits,
    observing,
    offsets,
    paging,
    processes,
    request,
    response,
    tls,
    topics,
    transformation,
)
from engine.config.sections.key import Key
from engine.config.sections.topics import TOPIC_SETTINGS

#: Every key by its name; families by their pattern (`http.source.header.<Name>`).
TABLE: Mapping[str, Key] = {
    key.name: key
    for part in (
        engine.Identity.entries(),
        engine.Polling.entries(),
        engine.Schedule.entries(),
        request.Request.entries(),
        request.Catalog.entries(),
        engine.Apis.entries(),
        engine.Api.entries(),
        paging.Pagination.entries(),
        paging.Prefetch.entries(),
        offsets.Offsets.entries(),
        offsets.Windows.entries(),
        response.Answers.entries(),
        response.Records.entries(),
        response.Deduplication.entries(),
        client.Pool.entries(),
        client.Client.entries(),
        client.Balancing.entries(),
        limits.RateLimit.entries(),
        limits.RateLimits.entries(),
        limits.Retry.entries(),
        limits.CircuitBreaker.entries(),
        auth.Auth.entries(),
        auth.ApiKey.entries(),
        auth.OAuth.entries(),
        auth.Aws.entries(),
        tls.Tls.entries(at="https.ssl.", side="the API"),
        borders.Certificates.entries(),
        borders.Proxy.entries(),
        borders.Borders.entries(),
        cache.ResponseCache.entries(),
        cache.TIERS,
        cache.Tiers.entries(),
        cache.Warming.entries(),
        cache.Schemas.entries(),
        transformation.Transformation.entries(),
        transformation.Batching.entries(),
        converters.SIDES,
        converters.Names.entries(),
        letters.Errors.entries(),
        letters.DeadLetterQueue.entries(),
        kafka.KEYS,
        topics.Topics.entries(),
        topics.DefaultGroup.entries(),
        topics.Groups.entries(),
        topics.Group.entries(),
        delivery.Transactions.entries(),
        delivery.StateTopic.entries(),
        delivery.State.entries(),
        observing.Log.entries(),
        observing.Metrics.entries(),
        observing.Health.entries(),
        observing.Admin.entries(),
        processes.Scaling.entries(),
        processes.Tasks.entries(),
        processes.Memory.entries(),
        processes.Directories.entries(),
        processes.PROVIDER_KEYS,
        processes.Cluster.entries(),
    )
    for key in part
}

FAMILIES: tuple[str, ...] = tuple(name for name in TABLE if "<" in name)

_API = re.compile(r"api([1-9][0-9]{0,3})\.(.+)", re.DOTALL)
_HEADER = re.compile(r"http\.source\.header\.([!#$%&'*+.^_`|~0-9A-Za-z-]+)")
_CREATION = re.compile(
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
