"""
Registry: converters that need a Schema Registry, made from their keys.

Owns the way to the registries of a task: connections of its own, without the
API's credentials and without its rate limit, and one cache of schemas.  What
stays away is asked again as `retry.*` says and is then an API that stays away.

Path: ``task.build.transform`` -> here -> `engine.transform.registry`, ``source.wire.http1``
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable

from engine.config import Connector, Values
from engine.config.libraries import missing
from engine.config.sections.cache import SchemasConfig
from engine.config.sections.converters import ConverterConfig, NamesConfig
from engine.config.sections.section import needed
from engine.config.sections.tls import TlsConfig
from engine.errors import ConfigError, Finding, Unavailable, Unreachable
from engine.records import Page, Parcel
from engine.seams import Stopping, Transform
from engine.source.fetch.policy import RetryPolicy, pause
from engine.source.wire.dns import Resolver
from engine.source.wire.http1 import Http
from engine.source.wire.options import HttpOptions
from engine.source.wire.origin import AddressRules, AllowedOrigins, origin_of
from engine.source.wire.pool import Pool, PoolOptions
from engine.source.wire.tls import TlsOptions
from engine.transform.convert import Converter
from engine.transform.registry import Registry, SchemaCache
from engine.transform.schemas import SchemaMismatch

#: Converter -> its module, which imports what may be missing.
MODULES = {
    "AvroConverter": "engine.transform.avro",
    "JsonSchemaConverter": "engine.transform.jsonschema",
    "ProtobufConverter": "engine.transform.protobuf",
}

#: Seconds one question to a registry may take, and to connect.
ANSWER = 10.0
CONNECT = 5.0


class Registries:
    """
    A task's registries; opens nothing until a page is converted.

    Attributes:
        cache: `cache.schema.*`, shared by all converters.
    """

    def __init__(self, connector: Connector):
        values = connector.values
        self.cache = SchemaCache(
            enabled=values.of(SchemasConfig).enabled,
            size=values.of(SchemasConfig).max_size,
            ttl=float(values.of(SchemasConfig).ttl),
        )
        self._pool = Pool(PoolOptions(max_connections=8, max_per_route=4))
        self._resolver = Resolver(self._pool.options.dns_ttl)

    def close(self) -> None:
        """Close the connections to the registries."""
        self._pool.close()

    def converter(self, values: Values, side: str) -> Converter:
        """
        The converter of one side of an api.

        Args:
            side: key or value; its `<side>.converter` is one of `MODULES`.

        Raises: ConfigError: its library is not installed, or the schema that
        is given is none.
        """
        name = f"{side}.converter"
        of = values.of(ConverterConfig, side=side)
        kind = of.converter
        if why := missing(kind):
            raise _wrong(values, name, why)
        module = importlib.import_module(MODULES[kind])
        shared = {
            "side": side,
            "strategy": of.strategy.removesuffix("Strategy"),
            "latest": of.use_latest,
        }
        registry = self._registry(values, of)
        file = f"{side}.schema.file"
        given = of.schema_file
        made: Converter
        try:
            if kind == "ProtobufConverter":
                made = module.protobuf_converter(
                    registry,
                    data=needed(given).read_bytes(),
                    message=of.schema_message,
                    **shared,
                )
            else:
                text = None if given is None else given.read_text("utf-8")
                if kind == "AvroConverter":
                    sanitize = values.of(NamesConfig).sanitize
                    made = module.avro_converter(
                        registry, given=text, sanitize=sanitize, **shared
                    )
                else:
                    made = module.json_schema_converter(registry, given=text, **shared)
        except (OSError, UnicodeDecodeError, SchemaMismatch) as refused:
            raise _wrong(values, file, str(refused)) from refused
        return made

    def _registry(self, values: Values, of: ConverterConfig) -> Registry:
        urls = needed(of.registry_url)
        login = of.user_info
        origins = tuple(dict.fromkeys(map(origin_of, urls)))
        trust = values.of(TlsConfig, at="https.ssl.").truststore_location
        pem = values.of(TlsConfig, at="https.ssl.").truststore_certificates
        options = HttpOptions(
            connect_timeout=CONNECT,
            socket_timeout=ANSWER,
            request_timeout=ANSWER,
            # A redirect of a registration would arrive as a question.
            redirects=0,
            tls=TlsOptions(
                ca_file=None if trust is None else str(trust),
                ca_pem=None if pem is None else pem.reveal(),
            ),
            addresses=AddressRules(home=tuple(origin.host for origin in origins)),
            borders=AllowedOrigins(origins),
        )
        return Registry(
            urls,
            Http(options, pool=self._pool, resolver=self._resolver),
            login=None if login is None else login.reveal(),
            register=of.auto_register,
            cache=self.cache,
        )


class Persistent:
    """
    A transformation that asks again where a registry does not answer.

    Args:
        policy: `max.retries` and `retry.*`.
        draw: Uniform random number between two bounds.
    """

    def __init__(
        self,
        inner: Transform,
        policy: RetryPolicy,
        *,
        stopping: Stopping,
        draw: Callable[[float, float], float] = random.uniform,
    ):
        self._inner = inner
        self._policy = policy
        self._stopping = stopping
        self._draw = draw

    def __call__(self, page: Page) -> Parcel:
        """
        As `seams.Transform`.

        Raises: Unreachable once the tries are used up, so that the poll is
        given up and its position kept.
        Blocks: for the pauses between the tries; stopping cuts them.
        """
        tried = 0
        while True:
            tried += 1
            try:
                return self._inner(page)
            except Unavailable as away:
                failure = Unreachable(str(away))
                wait = pause(failure, tried, self._policy, self._draw)
                if wait is None or self._stopping.wait(wait):
                    raise failure from away


def _wrong(values: Values, key: str, message: str) -> ConfigError:
    entry = values.entry(key)
    file, line = ("", 0) if entry is None else (entry.file, entry.line)
    name = key if entry is None else entry.key
    return ConfigError((Finding("error", file, line, name, None, message),))
