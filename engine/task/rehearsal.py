"""
Rehearsal: everything that a task builds from its keys alone, built once for `check`.

Owns the promise that a value which `run` refuses is an error of `check`: the task's own
constructors judge, and not a second list of what they might refuse.  Opens no
connection, produces nothing and moves no state; a user's function and login class are
imported, as a task would import them.

Path: `check` -> here -> ``task.build.transform``, ``task.probe``, ``task.build.kafka``
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from engine.config import Api, Connector, Values
from engine.config.sections.engine import ApiConfig
from engine.config.sections.kafka import BootstrapConfig, ProducerConfig
from engine.config.sections.response import RecordsConfig
from engine.errors import ConfigError, EngineError, Misconfigured
from engine.records import Shard
from engine.sink.compress import packing
from engine.sink.kafka import tls
from engine.source.wire.tls import tls_context
from engine.task.build.http import http_options
from engine.task.build.kafka import KafkaBuilder
from engine.task.build.registry import Registries
from engine.task.build.transform import transform_of
from engine.task.probe import pages

#: Whose it is, the key to blame, what is wrong.
Refusal = tuple[Api | None, str, str]


def refusals(connector: Connector, zone: str) -> Iterator[Refusal]:
    """
    What a task of this connector would refuse at its start.

    Args:
        zone: `schedule.timezone`.
    """
    found: list[tuple[Api | None, str, EngineError]] = []

    @contextmanager
    def noting(api: Api | None, key: str) -> Iterator[None]:
        try:
            yield
        except (ConfigError, Misconfigured) as refused:
            found.append((api, key, refused))
        except OSError as failure:
            # A file that a key names, and that cannot be read.
            found.append((api, key, Misconfigured(str(failure))))

    servers = connector.values.of(BootstrapConfig).servers or ()
    brokers = KafkaBuilder(connector, tuple(servers))
    for side, cluster in (("producer", brokers.cluster), ("admin", brokers.admin)):
        if cluster.protocol.endswith("SSL"):
            with noting(None, f"{side}.security.protocol"):
                tls(cluster)
    with noting(None, "producer.compression.type"):
        packing(connector.values.of(ProducerConfig).compression)
    registries = Registries(connector)
    try:
        for api in connector.apis:
            shard = Shard(connector.name, api.name, next(iter(_entities(api)), None))
            with noting(api, "http.source.url"), pages(connector, api, zone):
                pass
            with noting(api, "https.ssl.verify"):
                tls_context(http_options(api).tls)
            if api.values.of(RecordsConfig).topic is None:
                # A parent that is only there for its children produces nothing.
                continue
            with noting(api, "transformation.enabled"):
                transform_of(
                    connector,
                    api,
                    shard,
                    zone=zone,
                    registries=registries,
                    reserved=brokers.reserved(),
                )
    finally:
        registries.close()
    for whose, key, refused in found:
        values = connector.values if whose is None else whose.values
        texts = (
            [f"{f.key}: {f.message}" if f.key else f.message for f in refused.findings]
            if isinstance(refused, ConfigError)
            else [str(refused)]
        )
        for text in "\n".join(texts).splitlines():
            blamed = _blamed(values, text)
            yield whose, blamed or key, text.removeprefix(f"{blamed}: ")


def _entities(api: Api) -> tuple[str, ...]:
    return tuple(api.values.of(ApiConfig).entities or ())


def _blamed(values: Values, text: str) -> str:
    """The key that a refusal begins with, "" for none."""
    found = re.match(r"([a-z0-9]+(?:\.[a-z0-9]+)+)", text)
    return found[1] if found and values.get(found[1]) is not None else ""
