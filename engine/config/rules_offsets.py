"""
Rules of what carries over from poll to poll.

Path: ``rules`` -> here -> ``scope``
"""

from __future__ import annotations

from typing import Final

from engine.config.pagination import TYPES
from engine.config.rules_paging import asks_for
from engine.config.scope import Scope
from engine.config.sections.offsets import OffsetsConfig
from engine.config.sections.paging import PaginationConfig
from engine.config.values import Api, Connector

#: Keys that say something to INCREMENTAL only.
_ITS_OWN: Final = (
    "order",
    "lookback",
    "granularity.seconds",
    "format",
    "value.format",
    "zone",
    "next.field",
    "next.param",
    "next.record",
)

#: Those that say something to SNAPSHOT_PAGINATION, too.
_SHARED: Final = ("order", "lookback", "value.format", "zone")


def bookmarks_are_whole(s: Scope, api: Api, connector: Connector) -> None:
    """What INCREMENTAL needs, and what says nothing beside it or without it."""
    offsets = s.of(OffsetsConfig)
    prefix = "http.offset."
    if offsets.mode != "INCREMENTAL":
        shared = _SHARED if offsets.mode == "SNAPSHOT_PAGINATION" else ()
        for name in _ITS_OWN:
            if name not in shared and s.values.stated(prefix + name):
                s.warn(
                    prefix + name,
                    f"it says nothing in http.offset.mode={offsets.mode}: "
                    "INCREMENTAL reads it",
                )
        return
    pointer = f"{prefix}json.pointer"
    if offsets.pointer is None and offsets.next_field is None:
        s.error(
            pointer,
            "required by http.offset.mode=INCREMENTAL, unless http.offset.next.field "
            "says where the API keeps the position",
        )
    elif offsets.pointer is None and offsets.next_record is not None:
        s.error(pointer, "required by http.offset.next.record")
    if offsets.next_field is not None and offsets.next_record is not None:
        s.error(
            f"{prefix}next.record",
            "the position stands in http.offset.next.field or in a record, not in both",
        )
    opaque = offsets.next_field is not None or offsets.next_record is not None
    named = asks_for(s.values, "offset") or asks_for(s.values, "last")
    if offsets.next_param is not None and named:
        s.error(
            f"{prefix}next.param",
            f"{named} names ${{offset}} already: the position is sent there",
        )
    if not named and offsets.next_param is None:
        kind = TYPES[s.of(PaginationConfig).type]
        words = "no request names ${offset}"
        if opaque:
            s.error(
                f"{prefix}mode",
                f"{words}: the position of the next poll is sent nowhere; "
                "http.offset.next.param names a parameter for it",
            )
        elif not kind.by_record and offsets.order != "DESC":
            s.note(
                f"{prefix}mode",
                f"{words}: each poll reads everything, and produces what lies at or "
                "behind the bookmark and was not delivered",
            )
    if opaque and offsets.order != "NONE":
        s.error(
            f"{prefix}order",
            "a position that is the API's own is not compared with records",
        )
    if offsets.lookback or offsets.granularity:
        key = f"{prefix}{'lookback' if offsets.lookback else 'granularity.seconds'}"
        if offsets.next_record is not None:
            s.error(key, "nothing can be taken off the position of a record as it is")
        elif offsets.value_type == "string":
            s.error(key, "nothing can be taken off a text: http.offset.value.type")
    if offsets.granularity and offsets.value_type == "number":
        s.error(f"{prefix}granularity.seconds", "seconds are of times, not of numbers")
    if offsets.value_format is not None and offsets.value_type in ("number", "string"):
        s.error(
            f"{prefix}value.format",
            f"a pattern reads times, and http.offset.value.type={offsets.value_type}",
        )
    if TYPES[s.of(PaginationConfig).type].addressable and not offsets.lookback:
        s.note(
            "pagination.type",
            "numbered pages over data that changes meanwhile skip records: "
            "http.offset.lookback reads again what lies near, a cursor skips nothing",
        )
