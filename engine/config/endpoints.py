"""
Endpoints: what a connector may poll, and which of it is its own.

Owns the list of top-level apis times their listed partitions, and the choice
that `http.source.url.pattern` makes among them.

Path: ``rules_between`` and the supervisor's assignment -> here
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote, urljoin, urlsplit

from msgspec import Struct

from engine.config.pagination import TYPES
from engine.config.sections.client import BalancingConfig
from engine.config.sections.engine import ApiConfig
from engine.config.sections.offsets import OffsetsConfig, WindowsConfig
from engine.config.sections.paging import PaginationConfig
from engine.config.sections.request import CatalogConfig, RequestConfig
from engine.config.values import Api, Connector
from engine.language import (
    REQUEST_NAMES,
    EvaluationError,
    LanguageError,
    compile_glob,
    compile_template,
)

_PORTS = {"http": 80, "https": 443}


class Endpoint(Struct, frozen=True):
    """
    One api, or one listed partition of it.

    Attributes:
        api: Whose it is.
        entity: One of `entity.names`, or None.
        url: Scheme, host, port if not the default, and path of the first
            request; expressions other than `${entityName}` stay as written.
        owned: True if this connector polls it.
    """

    api: Api
    entity: str | None
    url: str
    owned: bool


def endpoints(connector: Connector) -> tuple[Endpoint, ...]:
    """
    All endpoints of the top-level apis; children go with their parents.

    Never blocks; apis without a URL have none.
    """
    pattern = connector.values.of(CatalogConfig).url_pattern
    try:
        fits = compile_glob(pattern) if pattern is not None else None
    except LanguageError:
        fits = None
    return tuple(
        Endpoint(api, entity, url, fits is None or fits(url))
        for api, entity, url in _candidates(connector)
    )


def splittable(connector: Connector, api: Api) -> bool:
    """True if the pages of an api can be dealt to several shards; never a tree's."""
    values = api.values
    if values.of(OffsetsConfig).mode != "FULL" or connector.children(api):
        return False
    windows = values.of(WindowsConfig)
    if windows.size is not None:
        # Neighbours know nothing of each other's records, nor of a start that moves.
        return not windows.overlap and "${" not in (windows.start or "")
    return TYPES[values.of(PaginationConfig).type].addressable


def most_shards(api: Api) -> int:
    """Most shards that an api may be split into: each has work of its own in a poll."""
    if api.values.of(WindowsConfig).size is not None:
        return 1 << 30
    return int(api.values.of(PaginationConfig).max_pages)


def _candidates(connector: Connector) -> Iterator[tuple[Api, str | None, str]]:
    for api in connector.apis:
        template = api.values.of(RequestConfig).url
        if template is None or api.values.of(ApiConfig).parent is not None:
            continue
        for entity in api.values.of(ApiConfig).entities or (None,):
            yield api, entity, _plain_url(api, template, entity)


def _plain_url(api: Api, template: str, entity: str | None) -> str:
    path = template.partition("?")[0]
    try:
        compiled = compile_template(path, REQUEST_NAMES)
        if entity is not None and compiled.names <= {"entityName"}:
            text = compiled.render({"entityName": entity}, lambda v: quote(str(v), ""))
            path = text if text is not None else path
    except (LanguageError, EvaluationError):
        pass
    bases = api.values.of(BalancingConfig).endpoints or ()
    base = api.values.of(RequestConfig).base_url or (bases[0] if bases else "")
    if "://" not in path.partition("${")[0] and base:
        path = urljoin(base if base.endswith("/") else f"{base}/", path.lstrip("/"))
    parts = urlsplit(path)
    try:
        port = parts.port
    except ValueError:
        return path
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    if port is not None and port != _PORTS.get(parts.scheme.lower()):
        host = f"{host}:{port}"
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else path
