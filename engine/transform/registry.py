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
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import Misconfigured, RecordError, SourceError, Unavailable
from engine.records import Request, Response
from engine.seams import Fetch

_Read = TypeVar("_Read")

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


class KnownSchema(Struct, frozen=True):
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
        # Shards of a task look schemas up at the same time, and a look moves an entry to the end.
        # Two threads may ask for the same schema once each, which is cheaper than waiting.
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

    def latest(self, subject: str) -> KnownSchema | None:
        """The newest schema of a subject, None if it has none."""

    def referred(self, name: str, schema: Schema) -> Reference:
        """A schema under its own name, as others refer to it."""


class Registry:
    """
    Asks a Schema Registry, and remembers what it has said.

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

    def latest(self, subject: str) -> KnownSchema | None:
        found: KnownSchema | None = self._cache.get(
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
        answer = self._ask("POST", path, subject, _spelled(schema), _id_of)
        if answer is None:
            hint = "" if self._register else " (auto.register.schemas is false)"
            raise RecordError(
                f"schema registry: subject {subject} does not have this schema{hint}",
                stage="convert",
            )
        return answer

    def _ask_latest(self, subject: str) -> KnownSchema | None:
        path = f"/subjects/{quote(subject, safe='')}/versions/latest"
        return self._ask("GET", path, subject, None, _known)

    def _ask_reference(self, name: str, schema: Schema) -> Reference:
        self._ask_id(name, schema)
        path = f"/subjects/{quote(name, safe='')}"
        version = self._ask("POST", path, name, _spelled(schema), _version_of)
        if version is None:
            raise RecordError(
                f"schema registry: {name} was registered and is not known",
                stage="convert",
            )
        return Reference(name, name, version)

    def _ask(
        self,
        method: str,
        path: str,
        subject: str,
        body: Any,
        read: Callable[[dict[str, Any]], _Read],
    ) -> _Read | None:
        """
        What an answer says, None where the registry does not know the subject
        or the schema; every address is tried.
        """
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
                status, answer = e.status, {}
            else:
                status, answer = response.status, _object(response)
            if status in _JUDGED:
                raise _refused(status, answer, subject)
            try:
                if status == 404 and answer.get("error_code") in _UNKNOWN:
                    return None
                if not 200 <= status < 300:
                    failure = f"status {status}"
                    continue
                return read(answer)
            except (KeyError, TypeError, ValueError) as e:
                # Something that is no registry, or a proxy before it.
                failure = f"an answer that is none of a registry's ({e})"
        raise Unavailable(f"schema registry: {failure}")


#: Answers that are about the schema or the login; all others are failures of
#: the registry, or of what answers in its place.
_JUDGED: Final = frozenset({401, 403, 409, 422})

#: `error_code` of a 404: no subject, no version, no schema.
_UNKNOWN: Final = frozenset({40401, 40402, 40403})

#: An id has four bytes in front of a record.
_MOST: Final = 2**31 - 1


def _object(response: Response) -> dict[str, Any]:
    """An answer's JSON object; empty where it is none."""
    try:
        answer = msgspec.json.decode(bytes(response.body))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _number(answer: dict[str, Any], name: str) -> int:
    number = answer.get(name)
    if type(number) is not int or not 0 <= number <= _MOST:
        raise ValueError(f"no {name}")
    return number


def _text(answer: Any, name: str) -> str:
    text = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(text, str):
        raise TypeError(f"no {name}")
    return text


def _id_of(answer: dict[str, Any]) -> int:
    return _number(answer, "id")


def _version_of(answer: dict[str, Any]) -> int:
    return _number(answer, "version")


def _known(answer: dict[str, Any]) -> KnownSchema:
    references = answer.get("references") or []
    if not isinstance(references, list):
        raise TypeError("references that are no list")
    kind = "AVRO" if not answer.get("schemaType") else _text(answer, "schemaType")
    schema = Schema(
        kind,
        _text(answer, "schema"),
        tuple(
            Reference(
                _text(each, "name"), _text(each, "subject"), _number(each, "version")
            )
            for each in references
        ),
    )
    return KnownSchema(_id_of(answer), _version_of(answer), schema)


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
