"""
Rules of paging, and of the names that requests and records are made of.

Path: ``rules`` -> here -> ``scope``
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

from engine.config import grammar
from engine.config.pagination import TYPES
from engine.config.scope import Scope
from engine.config.sections.engine import ApiConfig
from engine.config.sections.jobs import JobsConfig
from engine.config.sections.offsets import MODES, OffsetsConfig, WindowsConfig
from engine.config.sections.paging import PaginationConfig
from engine.config.sections.request import RequestConfig
from engine.config.sections.response import DeduplicationConfig, RecordsConfig
from engine.config.sections.transformation import TransformationConfig
from engine.config.values import Api, Connector, Values

_TEMPLATES = (
    "http.source.url",
    "http.source.query.params",
    "http.source.body",
    "pagination.first.query.params",
    "http.initial.offset",
    "http.job.create.url",
    "http.job.create.body",
    "http.job.status.url",
    "http.job.status.body",
    "http.job.result.url",
    "http.source.window.start",
    "http.source.window.end",
    "kafka.topic",
    "kafka.key",
    "kafka.timestamp",
)


def chains_know_their_next(s: Scope, api: Api, connector: Connector) -> None:
    kind, mode = s.of(PaginationConfig).type, s.of(OffsetsConfig).mode
    if kind not in MODES[mode][1]:
        allowed = ", ".join(sorted(MODES[mode][1]))
        s.error(
            "pagination.type",
            f"http.offset.mode={mode} goes with {allowed}, not {kind}",
        )
    pointer = "http.offset.json.pointer"
    if mode == "SNAPSHOT_PAGINATION" and s.of(OffsetsConfig).pointer is None:
        s.error(pointer, f"required by http.offset.mode={mode}")
    for key in TYPES[kind].needs:
        if s[key] is None:
            s.error(key, f"required by pagination.type={kind}")
    if TYPES[kind].addressable and mode == "FULL":
        s.note(
            "pagination.type",
            f"{kind} over data that changes meanwhile skips and repeats records; "
            "cursor and keyset do not",
        )


def jobs_are_whole(s: Scope, api: Api, connector: Connector) -> None:
    jobs = s.of(JobsConfig)
    if jobs.create_url is None:
        for key in s.values:
            if key.startswith("http.job.") and s.values.own(key):
                s.error(key, "needs http.job.create.url")
        return
    if s.of(WindowsConfig).size is not None:
        window = "http.source.window."
        for key in ("too.large.status", "too.large.field", "records.max"):
            if s.values.stated(window + key):
                s.error(
                    window + key,
                    "a job is created for a whole window, which is not asked for in "
                    f"halves: a smaller {window}size.seconds",
                )
        if jobs.download_field is not None and s.of(WindowsConfig).overlap:
            s.error(
                f"{window}overlap.seconds",
                "goes with pages that are asked for, and not with the files of "
                "http.job.download.field",
            )
    for name in ("create", "status"):
        bodiless = s[f"http.job.{name}.method"] == "GET"
        if bodiless and s[f"http.job.{name}.body"] is not None:
            s.error(f"http.job.{name}.body", "goes with POST, not with GET")
    pages = TYPES[s.of(PaginationConfig).type].pages
    if jobs.download_field is not None and pages:
        s.error(
            "http.job.download.field",
            f"names files, each fetched whole: pagination.type={s.of(PaginationConfig).type} "
            "has nothing to page",
        )
    if jobs.download_field is not None and s.of(OffsetsConfig).mode not in (
        "FULL",
        "SNAPSHOT_DIFF",
    ):
        s.error(
            "http.job.download.field",
            f"http.offset.mode={s.of(OffsetsConfig).mode} goes by requests of its own: "
            "FULL and SNAPSHOT_DIFF go with files",
        )


def tombstones_have_keys(s: Scope, api: Api, connector: Connector) -> None:
    records = s.of(RecordsConfig)
    if s.values.stated("kafka.tombstone.condition") and records.tombstone is not None:
        if records.key is None:
            s.error("kafka.key", "required by kafka.tombstone.condition")
    elif s.of(OffsetsConfig).mode == "ODATA_PAGINATION" and records.key is None:
        s.note(
            "kafka.key",
            "without a key what was removed is produced as the API says it, and has no "
            "tombstone",
        )


def snapshots_know_their_keys(s: Scope, api: Api, connector: Connector) -> None:
    mode = "http.offset.mode"
    if s.of(OffsetsConfig).mode != "SNAPSHOT_DIFF":
        for name in ("max.fall", "max.keys", "tombstones.enabled"):
            key = f"http.snapshot.{name}"
            if s.values.own(key) or (
                s.values.stated(key)
                and not any(
                    each.values.of(OffsetsConfig).mode == "SNAPSHOT_DIFF"
                    for each in connector.apis
                )
            ):
                s.warn(key, f"has no effect without {mode}=SNAPSHOT_DIFF")
        return
    if s.of(RecordsConfig).key is None:
        s.error("kafka.key", f"required by {mode}=SNAPSHOT_DIFF")
    if s.of(RecordsConfig).topic is None:
        s.error(mode, "SNAPSHOT_DIFF needs kafka.topic: nothing is produced without")
    if s.of(DeduplicationConfig).enabled:
        s.error(
            "deduplication.enabled",
            f"{mode}=SNAPSHOT_DIFF knows itself what was delivered; what "
            "de-duplication leaves out it would take for gone",
        )
    if s.of(ApiConfig).parent is not None:
        s.error(
            mode,
            "SNAPSHOT_DIFF is for an api without api.chaining.parent: what is gone from "
            f"the list of one of {s.of(ApiConfig).parent} may be on another's. Instead: "
            "SNAPSHOT_DIFF on an address that lists them for all parents, if there is "
            "one; or FULL, which leaves out pages that are unchanged, with "
            "kafka.tombstone.condition where the records say that they are deleted. The "
            "parent itself may have SNAPSHOT_DIFF",
        )


def paging_has_a_type(s: Scope, api: Api, connector: Connector) -> None:
    kind = s.of(PaginationConfig).type
    if not TYPES[kind].pages and s.values.stated("pagination.max.pages"):
        s.warn(
            "pagination.max.pages",
            f"nothing pages: pagination.type is {kind}, and a poll is one request",
        )
    if not TYPES[kind].by_record and s.of(OffsetsConfig).mode != "INCREMENTAL":
        for key, name in _names(s.values):
            if name == "last":
                s.warn(
                    key,
                    f"${{last...}} is the last record of the page before: with "
                    f"pagination.type={kind} the next page does not follow from it; "
                    "keyset and http.offset.mode=CHAINING page by it",
                )
    if TYPES[kind].hint and not s.values.stated("http.offset.mode"):
        s.note("pagination.type", TYPES[kind].hint)


def parameters_stand_once(s: Scope, api: Api, connector: Connector) -> None:
    """A paging parameter that is written out is replaced, and which value wins."""
    kind = TYPES[s.of(PaginationConfig).type]
    sent: list[tuple[str, str]] = []
    if kind.asks:
        sent = [(kind.asks, kind.first), ("limit", "pagination.limit.value")]
    written = _written(
        str(s.of(RequestConfig).url or ""), "http.source.url"
    ) | _written(f"?{s.of(RequestConfig).params or ''}", "http.source.query.params")
    for name, key in sent:
        param = str(s[f"pagination.{name}.param"])
        if param not in written:
            continue
        where, value = written[param]
        if s.values.stated(key):
            s.warn(
                where,
                f"{param}={value} is replaced by paging: {key} says what is sent first",
            )
        elif name != "limit" or not kind.chained:
            s.note(
                where,
                f"{param} is a parameter of paging: {value!r} is sent "
                + (
                    "with each page"
                    if name == "limit"
                    else "first, then what paging has"
                ),
            )


def _written(text: str, where: str) -> dict[str, tuple[str, str]]:
    """Query parameters with plain values: name -> (key, value)."""
    found: dict[str, tuple[str, str]] = {}
    for item in text.partition("?")[2].split("&"):
        name, _, value = item.partition("=")
        if name and "${" not in item:
            found.setdefault(unquote(name), (where, unquote(value)))
    return found


WINDOW_KEYS = (
    "start",
    "end",
    "lag.seconds",
    "overlap.seconds",
    "format",
    "zone",
    "too.large.status",
    "too.large.field",
    "records.max",
    "min.seconds",
)


def windows_are_whole(s: Scope, api: Api, connector: Connector) -> None:
    window = "http.source.window."
    if s.of(WindowsConfig).size is None:
        for key in WINDOW_KEYS:
            if s.values.stated(f"{window}{key}"):
                s.error(f"{window}{key}", f"needs {window}size.seconds")
        return
    if s.of(WindowsConfig).start is None:
        s.error(f"{window}start", f"required with {window}size.seconds")
    if s.of(OffsetsConfig).mode != "FULL":
        s.error(f"{window}size.seconds", "windows need http.offset.mode=FULL")
    if not asks_for(s.values, "window.start") and not asks_for(s.values, "window.end"):
        s.warn(
            f"{window}size.seconds",
            "no request names ${window.start} or ${window.end}: every window asks for "
            "the same",
        )
    pointer = "http.offset.json.pointer"
    if s.of(WindowsConfig).overlap and s.of(OffsetsConfig).pointer is None:
        s.note(
            f"{window}overlap.seconds",
            f"{pointer} says which records lie in the overlap; without it the last "
            "50,000 are kept in the position",
        )


def names_have_values(s: Scope, api: Api, connector: Connector) -> None:
    family = [api, *connector.ancestors(api)]
    entities = any(one.values.of(ApiConfig).entities for one in family)
    for key, name in _names(s.values):
        if (
            name in ("parent", "parent_value", "parent_response")
            and s.of(ApiConfig).parent is None
        ):
            s.error(key, f"${{{name}}} needs api.chaining.parent")
        elif name in ("job", "job_url", "status") and not key.startswith(
            ("kafka.", "transformation.")
        ):
            if s.of(JobsConfig).create_url is None:
                s.error(key, f"${{{name}}} needs http.job.create.url")
        elif name == "entityName" and not entities:
            s.error(key, "${entityName} needs entity.names")
        elif name.startswith("window.") and s.of(WindowsConfig).size is None:
            s.error(key, f"${{{name}}} needs http.source.window.size.seconds")


def hyphens_are_meant(s: Scope, api: Api, connector: Connector) -> None:
    for key, text in _templates(s.values):
        records = key.startswith(("kafka.", "transformation."))
        names = grammar.RECORD_NAMES if records else grammar.REQUEST_NAMES
        try:
            found = grammar.hyphenated(text, names)
        except grammar.LanguageError:
            continue
        for name in found:
            s.warn(
                key,
                f"{name} is the field of that name; to subtract write "
                f"{name.replace('-', ' - ')}, and to say that the field is meant "
                f"quote it: record.'{name}'",
            )


def pointers_are_unquoted(s: Scope, api: Api, connector: Connector) -> None:
    for key in s.values:
        text = s.values.get(key)
        if not (key.endswith(("pointer", "field")) and isinstance(text, str)):
            continue
        if not text.startswith("/") or not s.values.stated(key):
            continue
        quoted = [
            name
            for name in text.split("/")
            if len(name) > 2 and name[0] == name[-1] == "'"
        ]
        if quoted:
            meant = text
            for name in quoted:
                meant = meant.replace(name, name[1:-1])
            s.warn(
                key,
                f"in a JSON pointer quotes belong to the name, and no record has a field "
                f"{quoted[0]} with them: write {meant}",
            )


def asks_for(values: Values, wanted: str) -> str:
    """The key of a request's template that names a name; "" if none does."""
    for key, name in _names(values):
        if name == wanted and key.startswith(("http.source.", "pagination.")):
            return key
    return ""


def _names(values: Values) -> Iterator[tuple[str, str]]:
    """Each key with a template, and each name that it asks for."""
    for key, text in _templates(values):
        for name in sorted(_asked(text)):
            yield key, name


def _templates(values: Values) -> Iterator[tuple[str, str]]:
    """Each key with a template, and the template."""
    for key in _TEMPLATES:
        if values[key] is not None:
            yield key, str(values[key])
    for key, headers in (
        ("http.source.headers", values.of(RequestConfig).headers),
        ("kafka.headers", values.of(RecordsConfig).headers),
    ):
        for _, text in headers or ():
            yield key, text
    for rule in values.of(TransformationConfig).enrichment or ():
        yield "transformation.enrichment.rules", str(rule.get("expression", ""))


def _asked(text: str) -> frozenset[str]:
    if "${" not in text:
        return frozenset()
    try:
        return grammar.template(text, grammar.REQUEST_NAMES | grammar.RECORD_NAMES)
    except grammar.LanguageError:
        return frozenset()
