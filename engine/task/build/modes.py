"""
Modes: the offset modes that are a pager around the pager of a pagination type.

Owns their translation from keys, and nothing that runs.

Path: ``task.build.polling`` -> here -> `source.paging.bookmark`
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from decimal import Decimal

from engine.config import Api
from engine.config.sections.offsets import OffsetsConfig
from engine.language import compile_pattern, compile_zone
from engine.source.paging.asking import BookmarkKeys
from engine.source.paging.bookmark import Incremental
from engine.source.paging.pager import AroundMode
from engine.source.paging.request import Shape


def around_of(
    api: Api, shape: Shape, zone: tzinfo, note: Callable[[str], None]
) -> AroundMode | None:
    """
    The mode of an api that is around its pagination type; None: its pagers have it.

    Args:
        shape: Its requests.
        zone: `schedule.timezone`.
        note: Told the name of each counter that goes up.
    """
    offsets = api.values.of(OffsetsConfig)
    if offsets.mode in ("INCREMENTAL", "SNAPSHOT_PAGINATION"):
        whole = offsets.mode == "SNAPSHOT_PAGINATION"
        pattern = offsets.value_format
        return Incremental(
            BookmarkKeys(
                pointer=offsets.pointer,
                value_type=offsets.value_type,
                value_pattern=None if pattern is None else compile_pattern(pattern),
                order=offsets.order,
                lookback=Decimal(repr(offsets.lookback)),
                granularity=0 if whole else offsets.granularity,
                format=None if whole else offsets.format,
                zone=zone if offsets.zone is None else compile_zone(offsets.zone),
                next_field=None if whole else offsets.next_field,
                next_record=None if whole else offsets.next_record,
                filtered=not whole and (shape.offset or shape.by_record),
                whole=whole,
            ),
            note=note,
        )
    return None
