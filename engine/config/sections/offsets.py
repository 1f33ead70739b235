"""
Options of what carries over from one poll to the next.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from typing import ClassVar

from engine.config.grammar import REQUEST_NAMES
from engine.config.kinds import (
    Bool,
    Choice,
    Codes,
    DatePattern,
    Int,
    Number,
    RecordPath,
    StatusCodes,
    TemplateText,
    Text,
    TimeFormat,
    Zone,
    ratio,
    seconds,
)
from engine.config.pagination import TYPES, types_of
from engine.config.sections.key import Computed, Lookup
from engine.config.sections.section import Section, option, unset

#: Offset mode -> the pagination type it implies, and those it allows.
MODES: dict[str, tuple[str, frozenset[str]]] = {
    mode: (types_of(mode)[0], frozenset(types_of(mode)))
    for mode in (
        "FULL",
        "SIMPLE_INCREMENTING",
        "CHAINING",
        "CURSOR_PAGINATION",
        "INCREMENTAL",
        "SNAPSHOT_PAGINATION",
        "SNAPSHOT_DIFF",
        "ODATA_PAGINATION",
    )
}


#: Modes whose polls begin at the first page each time.
REREADING = frozenset({"FULL", "SNAPSHOT_PAGINATION", "SNAPSHOT_DIFF"})


def _initial_offset(get: Lookup) -> object:
    kind = TYPES[str(get("pagination.type"))]
    if not kind.addressable or get("http.offset.mode") == "INCREMENTAL":
        return None
    return "0" if kind.first == "http.initial.offset" else str(get(kind.first))


class OffsetsConfig(Section, frozen=True, kw_only=True):
    """What carries over from one poll to the next."""

    TITLE: ClassVar[str] = "Offsets and time windows"
    SCOPE: ClassVar[str] = "A"

    mode: str = option(
        "http.offset.mode",
        Choice(tuple(MODES)),
        "FULL",
        "What carries over from one poll to the next.",
        "SIMPLE_INCREMENTING",
    )
    initial: str | None = unset(
        "http.initial.offset",
        TemplateText(REQUEST_NAMES),
        Computed(
            _initial_offset, "0 for type offset, the first page for page, else none"
        ),
        "First ${offset}, used only without state. None: its parameter is left out.",
        "0",
    )
    pointer: str | None = unset(
        "http.offset.json.pointer",
        RecordPath(),
        None,
        "Where the offset value stands in a record as received.",
        "/updated_at",
    )
    value_type: str = option(
        "http.offset.value.type",
        Choice(("auto", "number", "timestamp", "string")),
        "auto",
        "How two offset values are compared. auto: numbers as numbers, two times as "
        "instants, else by character; of timestamps, and under auto of numbers like "
        "1700000000 in a field that is named as a time is (created, updated_at, ts), "
        "the bookmark of INCREMENTAL stays at or below the server's Date. number: as "
        "numbers, whatever the clock says.",
        "timestamp",
    )
    order: str = option(
        "http.offset.order",
        Choice(("ASC", "DESC", "NONE")),
        "NONE",
        "How the API sorts by the offset value, which INCREMENTAL makes use of.",
        "ASC",
    )
    lookback: float = option(
        "http.offset.lookback",
        Number(),
        "0",
        "Taken off the bookmark when INCREMENTAL asks, for records that arrive late: "
        "seconds for times, a plain difference for numbers. What was delivered is not "
        "produced again.",
        "300",
    )
    granularity: int = option(
        "http.offset.granularity.seconds",
        seconds(),
        "0",
        "To how many seconds the API's filter is coarse: INCREMENTAL asks from the "
        "beginning of them on.",
        "60",
    )
    format: str | None = unset(
        "http.offset.format",
        TimeFormat(),
        None,
        "How ${offset} is written where it is a time; unset: as the records have it. "
        "It is rounded down to what the form can say.",
        "EPOCH_SECONDS",
    )
    value_format: str | None = unset(
        "http.offset.value.format",
        DatePattern(),
        None,
        "The date pattern of the records' offset values, where they are in no usual form.",
        "dd/MM/yyyy HH:mm:ss",
    )
    zone: str | None = unset(
        "http.offset.zone",
        Zone(),
        None,
        "The zone of offset values without one, and of those that are sent without one; "
        "unset: schedule.timezone.",
        "America/New_York",
    )
    next_field: str | None = unset(
        "http.offset.next.field",
        RecordPath(header=True),
        None,
        "Where the position of INCREMENTAL's next poll stands in an answer, instead of "
        "the largest offset value; the newest of the poll counts.",
        "nextSyncToken",
    )
    next_param: str | None = unset(
        "http.offset.next.param",
        Text(r"[^\s&=#?]{1,256}", "name of a query parameter"),
        None,
        "The query parameter that INCREMENTAL sends its position in, where no template "
        "names ${offset}; left out in the first poll.",
        "syncToken",
    )
    next_record: str | None = unset(
        "http.offset.next.record",
        Choice(("FIRST", "LAST")),
        None,
        "The record whose offset value is the position of INCREMENTAL's next poll, "
        "instead of the largest one: the first or the last of the poll.",
        "FIRST",
    )
    tombstones: bool = option(
        "http.snapshot.tombstones.enabled",
        Bool(),
        "true",
        "SNAPSHOT_DIFF writes a null value for a key that is gone.",
        "false",
    )
    snapshot_max_keys: int = option(
        "http.snapshot.max.keys",
        Int(1),
        "1000000",
        "Most keys that SNAPSHOT_DIFF holds, of a shard; more is an error.",
        "5000000",
    )
    snapshot_max_fall: float = option(
        "http.snapshot.max.fall",
        ratio(),
        "0.5",
        "By what part the keys may become fewer from one poll of SNAPSHOT_DIFF to the "
        "next. After a greater fall nothing is taken for gone, and that is said.",
        "0.9",
    )

    @property
    def rereads(self) -> bool:
        """True if each poll begins at the first page."""
        return self.mode in REREADING


class WindowsConfig(Section, frozen=True, kw_only=True):
    """Time cut into windows that are polled one by one."""

    TITLE: ClassVar[str] = "Offsets and time windows"
    SCOPE: ClassVar[str] = "A"

    size: int | None = unset(
        "http.source.window.size.seconds",
        seconds(1),
        None,
        "Cuts time into windows that are walked one by one, with ${window.start} "
        "and ${window.end} in the request.",
        "3600",
    )
    start: str | None = unset(
        "http.source.window.start",
        TemplateText(REQUEST_NAMES),
        None,
        "Where the first window begins; fixed at the first start.",
        "2024-01-01T00:00:00Z",
    )
    end: str | None = unset(
        "http.source.window.end",
        TemplateText(REQUEST_NAMES),
        None,
        "Where the last window ends; unset, it moves with the clock.",
        "2025-01-01T00:00:00Z",
    )
    lag: int = option(
        "http.source.window.lag.seconds",
        seconds(),
        "0",
        "A window is asked for once it ended this long ago.",
        "60",
    )
    overlap: int = option(
        "http.source.window.overlap.seconds",
        seconds(),
        "0",
        "By how much a window begins earlier; repeats are dropped.",
        "30",
    )
    format: str = option(
        "http.source.window.format",
        TimeFormat(),
        "ISO8601",
        "How the bounds of a window are written.",
        "EPOCH_MILLIS",
    )
    zone: str | None = unset(
        "http.source.window.zone",
        Zone(),
        None,
        "The zone whose days the windows are, and in which their bounds are written "
        "without a zone; unset: schedule.timezone.",
        "Europe/Berlin",
    )
    too_large_status: Codes | None = unset(
        "http.source.window.too.large.status",
        StatusCodes(),
        None,
        "Statuses by which the API says that a window has too much: it is asked for in "
        "halves.",
        "413",
    )
    too_large_field: str | None = unset(
        "http.source.window.too.large.field",
        RecordPath(header=True),
        None,
        "Where an answer says that its window has too much: true, 1 or yes.",
        "incomplete_results",
    )
    most: int | None = unset(
        "http.source.window.records.max",
        Int(1),
        None,
        "How many records the API gives at most, whatever there is: a window with as "
        "many is asked for in halves.",
        "1000",
    )
    least: int = option(
        "http.source.window.min.seconds",
        seconds(1),
        "1",
        "Shorter than this no window becomes by halving.",
        "60",
    )
