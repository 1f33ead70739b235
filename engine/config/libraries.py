"""
Libraries: which optional ones are there, and what to do where one is missing.

Owns the one table of what needs which library.  `check`, the engine and the
commands all ask here, so that none of them promises what another cannot keep.  A
library counts as there when it can be imported and has what is used of it: one that
is too old, or whose shared object is missing, is told with its own words.

Path: ``config.rules_libraries`` and the files that use a library -> here
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import ModuleType

from msgspec import Struct

#: Answers what a module lacks, "" if it will do.
Lacks = Callable[[ModuleType], str]


class Need(Struct, frozen=True):
    """
    What may be missing.

    Attributes:
        extra: The extra of this package that brings it.
        modules: Import paths, the best first: any one of them will do.
        lacks: What a module that was found lacks.
    """

    extra: str
    modules: tuple[str, ...]
    lacks: Lacks = lambda module: ""


def _bounded(module: ModuleType) -> str:
    # Without it one small answer may inflate to all the memory there is.
    found = getattr(getattr(module, "Decompressor", None), "can_accept_more_data", None)
    return "" if found is not None else "too old: it cannot bound its output"


def _http2(module: ModuleType) -> str:
    features = module.version_info()[4]
    there = features & getattr(module, "VERSION_HTTP2", 1 << 16)
    return "" if there else "its libcurl has no HTTP/2"


def _having(*names: str) -> Lacks:
    """Too old without what later releases brought."""

    def lacks(module: ModuleType) -> str:
        absent = [name for name in names if not hasattr(module, name)]
        return f"too old: it has no {absent[0]}" if absent else ""

    return lacks


_ZSTD = ("compression.zstd", "backports.zstd", "zstandard")

#: By what it is for.
NEEDS = {
    # http.client.compression.types, Accept-Encoding of http.source.headers
    "Content-Encoding br": Need("encodings", ("brotli", "brotlicffi"), _bounded),
    "Content-Encoding zstd": Need("encodings", _ZSTD),
    # producer.compression.type; the one that Kafka's users have comes first
    "compression.type zstd": Need("compression", _ZSTD[::-1]),
    "compression.type snappy": Need("compression", ("snappy",)),
    # key.converter, value.converter
    "AvroConverter": Need("avro", ("fastavro",)),
    "ProtobufConverter": Need(
        "protobuf",
        ("google.protobuf.message_factory",),
        _having("GetMessageClass"),
    ),
    "JsonSchemaConverter": Need("schema", ("jsonschema_rs",), _having("RegexOptions")),
    # oauth2.jwt.algorithm, but for HS256 to HS512
    "a signed JWT": Need("jwt", ("cryptography.hazmat.primitives.serialization",)),
    # http.client.http2.enabled
    "HTTP/2": Need("http2", ("pycurl",), _http2),
    # `top` in place, colours
    "a picture drawn in place": Need("terminal", ("rich",)),
    # what each process is, in ps and top
    "a process's title": Need("service", ("setproctitle",)),
    # bootstrap.servers
    "the embedded broker": Need("embedded", ("noida_db",)),
}


@functools.cache
def _found(purpose: str) -> tuple[ModuleType | None, str]:
    need = NEEDS[purpose]
    why = []
    for path in need.modules:
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError:
            why.append(f"{path} is not installed")
        except Exception as error:  # noqa: BLE001 - a library's own import may do anything
            why.append(f"{path} cannot be loaded: {error}")
        else:
            lack = need.lacks(module)
            if not lack:
                return module, ""
            why.append(f"{path} is {lack}" if lack[:3] == "too" else f"{path}: {lack}")
    return None, "; ".join(why)


def load(purpose: str) -> ModuleType | None:
    """
    The module for one of `NEEDS`, None where none will do.

    Blocks: for the import, the first time.
    """
    return _found(purpose)[0]


def missing(purpose: str) -> str:
    """What is missing for one of `NEEDS` and what to do; "" if nothing is."""
    module, why = _found(purpose)
    if module is not None:
        return ""
    return (
        f"{purpose} needs a library ({why}): "
        f"pip install 'kafka-http-source[{NEEDS[purpose].extra}]'"
    )
