"""
Registry: schemas by subject and id, over the Schema Registry's REST API.

Owns the calls, what their answers mean, and the cache of them.  It is given
a fetch and knows nothing of connections.  Whose fault a failure is decides
its class: the record's (unknown, incompatible or invalid schema), the
configuration's (login), or nobody's here (the registry is away).

Path: `registered` -> here -> ``engine.seams.Fetch``
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Final, Protocol
from urllib.parse import quote

import msgspec
from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import Misconfigured, RecordError, SourceError, Unavailable
from engine.records import Request, Response
from engine.seams import Fetch

_TYPE: Final = "application/vnd.schemaregistry.v1+json"


class Reference(Struct, frozen=True):
    """Another schema that a schema is written with."""

    name: str
    subject: str
    version: int


class Schema(Struct, frozen=True):
    """
    A schema as the registry knows it.

    Attributes:
        kind: AVRO, JSON or PROTOBUF.
        text: The schema itself.
        references: What it imports.
    """

    kind: str
    text: str
    references: tuple[Reference, ...] = ()


class Known(Struct, frozen=True):
    """A schema with the id and version the registry gave it."""

    id: int
    version: int
    schema: Schema


class SchemaCache:
    """
    What is remembered of schemas: `cache.schema.*`.

    Args:
        enabled: False: nothing is remembered, every page asks anew.
        size: Most entries; the least recently used goes.
        ttl: Seconds after which an entry is asked for again.

    Attributes:
        hits, misses: Look-ups so far that were answered from here, and those
            that were not.
    """

    def __init__(
        self,
        *,
        enabled: bool = True,
        size: int = 100,
        ttl: float = 7200.0,
        clock: Clock = SYSTEM,
    ):
        self._enabled = enabled
        self._size = size
        self._ttl = ttl
        self._clock = clock
        self._entries: OrderedDict[Any, tuple[float, Any]] = OrderedDict()
        self._lock = Lock()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """What is remembered under a key, or what `make` gives now."""
        now = self._clock.monotonic()
        with self._lock:
            entry = self._entries.get(key) if self._enabled else None
            if entry is not None and now - entry[0] < self._ttl:
                self._entries.move_to_end(key)
                self.hits += 1
                return entry[1]
            self.misses += 1
        # Asked outside the lock: another shard's schema need not wait for it.
        value = make()
        if self._enabled:
            with self._lock:
                self._entries[key] = (now, value)
                self._entries.move_to_end(key)
                while len(self._entries) > self._size:
                    self._entries.popitem(last=False)
        return value


class Schemas(Protocol):
    """What a converter asks of a registry."""

    def id_of(self, subject: str, schema: Schema) -> int:
        """
        A schema's id under a subject, registered if that is allowed.

        Raises: RecordError: unknown or incompatible; Unavailable,
        Misconfigured.
        """

    def latest(self, subject: str) -> Known | None:
        """The newest schema of a subject, None if it has none."""

    def referred(self, name: str, schema: Schema) -> Reference:
        """A schema under its own name, as others refer to it."""


class Registry:
    """
    A Schema Registry.

    Args:
        urls: Its addresses, tried in order.
        fetch: Sends one request; raises a SourceError without an answer.
        login: `user:password`, or None.
        register: May unknown schemas be registered?
        cache: Shared by the converters of a task.
    """

    def __init__(
        self,
        urls: Sequence[str],
        fetch: Fetch,
        *,
        login: str | None = None,
        register: bool = True,
        cache: SchemaCache | None = None,
    ):
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._fetch = fetch
        self._register = register
        self._cache = SchemaCache() if cache is None else cache
        headers = [("Accept", _TYPE), ("Content-Type", _TYPE)]
        if login is not None:
            token = base64.b64encode(login.encode()).decode()
            headers.append(("Authorization", f"Basic {token}"))
        self._headers = tuple(headers)

    def id_of(self, subject: str, schema: Schema) -> int:
        found: int = self._cache.get(
            ("id", self._urls, subject, schema), lambda: self._ask_id(subject, schema)
        )
        return found

    def latest(self, subject: str) -> Known | None:
        found: Known | None = self._cache.get(
            ("latest", self._urls, subject), lambda: self._ask_latest(subject)
        )
        return found

    def referred(self, name: str, schema: Schema) -> Reference:
        found: Reference = self._cache.get(
            ("reference", self._urls, name, schema),
            lambda: self._ask_reference(name, schema),
        )
        return found

    def _ask_id(self, subject: str, schema: Schema) -> int:
        path = f"/subjects/{quote(subject, safe='')}"
        if self._register:
            path += "/versions"
        answer = self._ask("POST", path, subject, _spelled(schema))
        if answer is None:
            hint = "" if self._register else " (auto.register.schemas is false)"
            raise RecordError(
                f"schema registry: subject {subject} does not have this schema{hint}",
                stage="convert",
            )
        return int(answer["id"])

    def _ask_latest(self, subject: str) -> Known | None:
        path = f"/subjects/{quote(subject, safe='')}/versions/latest"
        answer = self._ask("GET", path, subject, None)
        if answer is None:
            return None
        references = tuple(
            Reference(each["name"], each["subject"], each["version"])
            for each in answer.get("references") or ()
        )
        schema = Schema(
            answer.get("schemaType") or "AVRO", answer["schema"], references
        )
        return Known(int(answer["id"]), int(answer["version"]), schema)

    def _ask_reference(self, name: str, schema: Schema) -> Reference:
        self._ask_id(name, schema)
        path = f"/subjects/{quote(name, safe='')}"
        answer = self._ask("POST", path, name, _spelled(schema))
        if answer is None:
            raise RecordError(
                f"schema registry: {name} was registered and is not known",
                stage="convert",
            )
        return Reference(name, name, int(answer["version"]))

    def _ask(
        self, method: str, path: str, subject: str, body: Any
    ) -> dict[str, Any] | None:
        """The answer's object, None for 404; every address is tried."""
        failure = "no address"
        data = None if body is None else msgspec.json.encode(body)
        for url in self._urls:
            try:
                response = self._fetch(
                    Request(method, url + path, self._headers, body=data)
                )
            except SourceError as e:
                if e.status is None:
                    failure = str(e)
                    continue
                raise _refused(e.status, {}, subject) from e
            if response.status >= 500 or response.status == 429:
                failure = f"status {response.status}"
                continue
            return _answer(response, subject)
        raise Unavailable(f"schema registry: {failure}")


def _answer(response: Response, subject: str) -> dict[str, Any] | None:
    if response.status == 404:
        return None
    try:
        answer = msgspec.json.decode(bytes(response.body))
    except msgspec.MsgspecError as e:
        if response.status < 300:
            raise Unavailable("schema registry: an answer that is no JSON") from e
        answer = {}
    answer = answer if isinstance(answer, dict) else {}
    if response.status < 300:
        return answer
    raise _refused(response.status, answer, subject)


def _refused(
    status: int, answer: dict[str, Any], subject: str
) -> RecordError | Misconfigured:
    said = str(answer.get("message") or f"status {status}")
    if status in (401, 403):
        return Misconfigured(f"schema registry: not allowed for {subject}: {said}")
    if status == 409:
        return RecordError(
            f"schema registry: the schema is not compatible with the one {subject}"
            f" has: {said}",
            stage="convert",
        )
    return RecordError(
        f"schema registry: the schema for {subject} is refused: {said}",
        stage="convert",
    )


def _spelled(schema: Schema) -> dict[str, Any]:
    body: dict[str, Any] = {"schema": schema.text}
    if schema.kind != "AVRO":
        body["schemaType"] = schema.kind
    if schema.references:
        body["references"] = [
            {"name": each.name, "subject": each.subject, "version": each.version}
            for each in schema.references
        ]
    return body
