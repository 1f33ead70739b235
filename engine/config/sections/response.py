"""
Options of how a response becomes records, and of the records themselves.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from engine.config import shapes
from engine.config.grammar import RECORD_NAMES
from engine.config.kinds import (
    Bool,
    Charset,
    Choice,
    Codes,
    CommaList,
    Headers,
    Int,
    Json,
    RecordPath,
    StatusCodes,
    TemplateText,
    TopicName,
    ms,
)
from engine.config.sections.key import Computed, Lookup
from engine.config.sections.section import Rule, Section, duration, option, unset


class AnswersConfig(Section, frozen=True, kw_only=True):
    """How an answer is read, and when it is an error."""

    TITLE: ClassVar[str] = "Response to records"
    SCOPE: ClassVar[str] = "A"

    format: str = option(
        "http.response.format",
        Choice(("json", "ndjson", "json-seq", "csv", "xml", "text")),
        "json",
        "How a body is read. json-seq: documents one behind the other; xml: elements as "
        "objects, attributes as @name, text as #text; text: the whole body is one "
        "record. What JSON APIs put around a document against browsers (a prefix, a "
        "call) is passed over.",
        "ndjson",
    )
    data_pointer: str = option(
        "http.response.data.json.pointer",
        RecordPath(),
        "",
        "Where the records are: an array gives its items, an object one record, "
        "null none; with .* at the end the values of the object there are the records. "
        "Unset: the whole document.",
        "data.items",
    )
    data_optional: bool = option(
        "http.response.data.optional",
        Bool(),
        "false",
        "A response without that place is an empty page instead of a bad one.",
        "true",
    )
    status_process: Codes = option(
        "http.response.status.process",
        StatusCodes(),
        "200-203,207",
        "Statuses whose body is a page.",
        "200,206",
    )
    status_empty: Codes = option(
        "http.response.status.empty",
        StatusCodes(),
        "204,205",
        "Statuses that mean an empty page.",
        "204,404",
    )
    empty_body: str = option(
        "http.response.empty.body",
        Choice(("ERROR", "EMPTY")),
        "ERROR",
        "A usable status with nothing in its body (no bytes, blanks, a JSON null). "
        "ERROR: a bad page; EMPTY: an empty page.",
        "EMPTY",
    )
    charset: str | None = unset(
        "http.response.charset",
        Charset(),
        None,
        "How the body's bytes are read, whatever its label says. Unset: UTF-8 "
        "where it is that, else UTF-16 or UTF-32 by its first bytes, else what "
        "its Content-Type says; a label that nobody knows is passed over.",
        "windows-1252",
    )
    error_rules: Sequence[Rule] | None = unset(
        "http.response.error.rules",
        Json(shapes.error_rules, "JSON array of error rules"),
        None,
        "Errors inside answers, before what a status means by itself; the first "
        "rule that fits decides. A rule has a status (code, range, list), a "
        "header or a field (path in the body), a test of that header or field "
        "(equals: a value or a list of them; matches: a regular expression on "
        "the whole text; exists: neither missing nor null nor empty), and an "
        "action: RETRY, RATE_LIMITED (its host is paused as after a 429), "
        "REFRESH_TOKEN, EMPTY (an empty page), RESTART (the poll from its "
        "beginning), FAIL.",
        '[{"field": "ok", "equals": false, "action": "FAIL"}]',
    )
    error_message_field: str | None = unset(
        "http.response.error.message.field",
        RecordPath(),
        None,
        "Where the API says in words what is wrong. Unset, or nothing there: the "
        "places where APIs usually do (error.message, errors[].detail, detail, "
        "error_description and the like).",
        "error.message",
    )
    graphql_partial: str = option(
        "http.response.graphql.partial",
        Choice(("ERROR", "ALLOW")),
        "ERROR",
        "GraphQL's errors beside its data. ERROR: an error with their messages; "
        "ALLOW: the data is kept. Without data they are an error in any case.",
        "ALLOW",
    )
    bad_page_patience: float = duration(
        "http.response.bad.page.patience.ms",
        ms(),
        "900000",
        "How long polls that meet a bad page (a maintenance page, a changed "
        "shape) are given up and tried again before the api's shard is FAILED; "
        "0: at once. run --once ends with the first poll.",
        "60000",
    )


#: How OData says that an entity is gone, from version 4.0 on.
REMOVED: Rule = {
    "any": [
        {"field": "'@removed'", "operator": "EXISTS"},
        {
            "field": "'@odata.context'",
            "operator": "MATCHES",
            "value": ".*/\\$deletedEntity",
        },
        {
            "field": "'@context'",
            "operator": "MATCHES",
            "value": ".*/\\$deletedEntity",
        },
    ]
}


def _tombstone(get: Lookup) -> object:
    delta = get("http.offset.mode") == "ODATA_PAGINATION"
    return REMOVED if delta and get("kafka.key") is not None else None


class RecordsConfig(Section, frozen=True, kw_only=True):
    """What of a response becomes which part of a Kafka record."""

    TITLE: ClassVar[str] = "Response to records"
    SCOPE: ClassVar[str] = "A"

    topic: str | None = unset(
        "kafka.topic",
        TopicName(RECORD_NAMES),
        None,
        "The topic of a record.",
        "orders",
        required="every api without children",
    )
    key: str | None = unset(
        "kafka.key",
        TemplateText(RECORD_NAMES),
        None,
        "The key of a record; a lone expression keeps its type for "
        "key.converter. Unset or null: no key.",
        "${record.id}",
    )
    timestamp: str | None = unset(
        "kafka.timestamp",
        TemplateText(RECORD_NAMES),
        Computed(lambda get: None, "time of receipt"),
        "The time of a record, by the rules of type TIMESTAMP.",
        "${record.updated_at}",
    )
    tombstone: Rule | None = unset(
        "kafka.tombstone.condition",
        Json(shapes.condition, "JSON object, a filter"),
        Computed(
            _tombstone, "what OData says of it in http.offset.mode=ODATA_PAGINATION"
        ),
        "A filter; a record for which it holds says that something is gone, and becomes "
        "a null value under its kafka.key. No rule of the transformation sees it.",
        '{"field":"status","operator":"EQUALS","value":"cancelled"}',
    )
    headers: tuple[tuple[str, str], ...] | None = unset(
        "kafka.headers",
        Headers(RECORD_NAMES, kafka=True),
        None,
        "Headers of a record; one that gives null is left out.",
        "origin:${api};region:${record.region}",
    )
    provenance: bool = option(
        "kafka.headers.provenance.enabled",
        Bool(),
        "false",
        "Adds khttp-id (api, shard, sequence, index: the same after a retry) and "
        "khttp-url without its query.",
        "true",
    )

    @property
    def fixed_topic(self) -> str | None:
        """The topic of every record; None where it hangs on the record, or is unset."""
        return None if self.topic is None or "${" in self.topic else self.topic


class DeduplicationConfig(Section, frozen=True, kw_only=True):
    """Which records were seen before."""

    TITLE: ClassVar[str] = "Response to records"
    SCOPE: ClassVar[str] = "A"

    enabled: bool = option(
        "deduplication.enabled",
        Bool(),
        "false",
        "Drops records whose key fields were seen within the window and whose "
        "first copy was acknowledged.",
        "true",
    )
    key_fields: tuple[str, ...] | None = unset(
        "deduplication.key.fields",
        CommaList(RecordPath()),
        None,
        "What makes two records the same; unset: the whole output record.",
        "id,version",
    )
    window_minutes: int = option(
        "deduplication.window.minutes",
        Int(1, 10080, "minutes"),
        "60",
        "How long a record is remembered after it was last seen.",
    )
    store: str = option(
        "deduplication.store",
        Choice(("MEMORY", "STATE")),
        "MEMORY",
        "Where the keys seen are kept: in the task alone, or in the state as well, "
        "which a restart does not empty.",
        "STATE",
    )
