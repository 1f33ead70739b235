"""
Cards: what the configuration says of each connector to those who look.

Owns the making of `view.ConnectorCard`: secrets masked, keys of the worker left out, name
and class always there.

Path: ``admin.running`` -> here -> ``config``
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.admin.view import (
    ApiCard,
    ConnectorCard,
    Thresholds,
)
from engine.config import Connector, Loaded, Values, keys
from engine.config.entries import Entry
from engine.config.load import kind_of
from engine.config.masking import shown
from engine.config.sections.cache import ResponseCacheConfig, TiersConfig
from engine.config.sections.client import PoolConfig
from engine.config.sections.engine import (
    ApiConfig,
    IdentityConfig,
    PollingConfig,
)
from engine.config.sections.observing import HealthConfig, MetricsConfig
from engine.config.sections.response import RecordsConfig
from engine.config.sections.transformation import BatchingConfig
from engine.config.served import Served, file_of


def cards(loaded: Loaded, served: Served | None = None) -> tuple[ConnectorCard, ...]:
    """What the configuration says to those who look."""
    return tuple(_card(connector, served) for connector in loaded.connectors)


def _card(connector: Connector, served: Served | None) -> ConnectorCard:
    managed = (
        served is not None
        and served.owner(connector.name) is None
        and served.file_of(connector.name) is not None
    )
    values = connector.values
    apis = connector.apis
    return ConnectorCard(
        name=connector.name,
        config=config_of(connector, served if managed else None),
        file=file_of(connector),
        managed=managed,
        apis=tuple(
            ApiCard(
                api.name,
                _interval(api.values),
                tuple(each.name for each in connector.descendants(api)),
            )
            for api in apis
            # A child is polled within its parent's poll and has no own shard.
            if api.values.of(ApiConfig).parent is None
        ),
        connector_class=values.text("connector.class")
        or values.of(IdentityConfig).connector_class,
        health=values.of(HealthConfig).enabled,
        jmx=values.of(MetricsConfig).jmx,
        jmx_detailed=values.of(MetricsConfig).jmx_detailed,
        cache=any(api.values.of(ResponseCacheConfig).enabled for api in apis),
        statistics=values.of(TiersConfig).statistics,
        statistics_seconds=60.0 * values.of(TiersConfig).statistics_minutes,
        hit_ratio_low=values.of(TiersConfig).hit_ratio,
        max_connections=values.of(PoolConfig).max_connections,
        batch_size=values.of(BatchingConfig).batch_size,
        thresholds=Thresholds(
            response_seconds=values.of(HealthConfig).response_time,
            hit_ratio=values.of(HealthConfig).hit_ratio,
            error_ratio=values.of(HealthConfig).error_rate,
            record_seconds=values.of(HealthConfig).no_records,
        ),
        topics=_topics(connector),
    )


def _interval(values: Values) -> float | None:
    if values.of(PollingConfig).schedule is not None:
        return None
    return float(values.of(PollingConfig).interval)


def _topics(connector: Connector) -> dict[str, str]:
    return {
        api.name: topic
        for api in connector.apis
        if (topic := api.values.of(RecordsConfig).fixed_topic)
    }


def config_of(connector: Connector, served: Served | None) -> dict[str, str]:
    """
    Keys and values as they were written, secrets masked; never those of the process.

    Args:
        served: Of a connector that REST may change: its own file's keys and no
            layer's, so that what is told can be sent back.
    """
    found = {}
    if served is not None:
        for key, entry in served.entries(connector.name).items():
            found[key] = shown(entry, kind_of(key))
    else:
        for values in (connector.values, *(api.values for api in connector.apis)):
            for entry, text in _stated(values):
                found[entry.key] = text
    found.setdefault(
        "connector.class",
        connector.values.text("connector.class")
        or connector.values.of(IdentityConfig).connector_class,
    )
    found.setdefault("name", connector.name)
    return found


def _stated(values: Values) -> Iterator[tuple[Entry, str]]:
    for key in values:
        entry = values.entry(key)
        table = keys.find(key)
        if entry is not None:
            yield entry, shown(entry, table.kind if table is not None else None)
