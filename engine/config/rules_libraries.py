"""
Rules of libraries: no key asks for what is not installed.

Owns the findings about optional libraries, by the keys that need them; whether one
is there says ``libraries``, which the engine asks as well.

Path: ``rules`` -> here
"""

from __future__ import annotations

from engine.config.libraries import missing
from engine.config.scope import Scope
from engine.config.sections.client import ClientConfig
from engine.config.sections.kafka import ProducerConfig
from engine.config.sections.request import RequestConfig
from engine.config.values import Api, Connector

#: Encodings that the standard library decodes.
_PLAIN = frozenset({"gzip", "deflate", "identity", "x-gzip", ""})


def codecs_are_installed(c: Scope) -> None:
    key = "producer.compression.type"
    if c.of(ProducerConfig).compression in ("zstd", "snappy") and (
        why := missing(f"compression.type {c.of(ProducerConfig).compression}")
    ):
        c.error(key, why)


def encodings_can_be_read(s: Scope, api: Api, connector: Connector) -> None:
    types = "http.client.compression.types"
    # Switched off, they are asked for by nobody.
    if s.of(ClientConfig).compression is not False:
        for encoding in s.values.of(ClientConfig).compression_types:
            if why := _unreadable(encoding):
                s.error(types, why)
    headers = "http.source.headers"
    for name, value in s.values.of(RequestConfig).headers or ():
        if name.lower() != "accept-encoding" or "${" in value:
            continue
        for item in value.lower().split(","):
            encoding, _, weight = (part.strip() for part in item.partition(";"))
            if weight.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
                continue
            if why := _unreadable(encoding):
                s.error(headers, f"Accept-Encoding: {why}")
        if s.of(ClientConfig).compression is False:
            s.warn(
                headers,
                "Accept-Encoding asks for what http.client.compression.enabled=false "
                "does not",
            )


def _unreadable(encoding: str) -> str:
    if encoding in _PLAIN:
        return ""
    if encoding in ("br", "zstd"):
        return missing(f"Content-Encoding {encoding}")
    return f"{encoding!r} cannot be read: gzip, deflate, br, zstd or identity"


def http2_is_installed(s: Scope, api: Api, connector: Connector) -> None:
    key = "http.client.http2.enabled"
    if s.of(ClientConfig).http2 is True and (why := missing("HTTP/2")):
        s.warn(key, f"HTTP/1.1 is spoken: {why}")


def converters_are_installed(s: Scope, api: Api, connector: Connector) -> None:
    for key in ("key.converter", "value.converter"):
        kind = str(s[key]).removesuffix("Converter")
        if kind in ("Avro", "Protobuf", "JsonSchema") and (
            why := missing(f"{kind}Converter")
        ):
            s.error(key, why)
