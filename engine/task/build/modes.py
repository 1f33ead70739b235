"""
Modes: the offset modes that are a pager around the pager of a pagination type.

Owns their translation from keys, and nothing that runs.

Path: ``task.build.polling`` -> here -> `source.paging.bookmark`, `source.paging.windows`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import tzinfo
from decimal import Decimal

from engine.config import Api
from engine.config.sections.offsets import OffsetsConfig, WindowsConfig
from engine.config.sections.paging import PaginationConfig
from engine.config.sections.section import needed
from engine.errors import SourceError
from engine.language import (
    REQUEST_NAMES,
    EvaluationError,
    Time,
    compile_pattern,
    compile_template,
    compile_zone,
)
from engine.language.instants import bound_in, zoneless
from engine.records import Shard
from engine.source.paging.asking import BookmarkKeys
from engine.source.paging.bookmark import Incremental
from engine.source.paging.pager import AroundMode, Others
from engine.source.paging.request import Shape
from engine.source.paging.windows import Windowed, WindowKeys


def around_of(
    api: Api,
    shard: Shard,
    shape: Shape,
    zone: tzinfo,
    others: Others,
    note: Callable[[str], None],
) -> AroundMode | None:
    """
    The mode of an api that is around its pagination type; None: its pagers have it.

    Args:
        shard: Whose pages they are.
        shape: Its requests.
        others: Stored offsets of shards of another count.
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
    if api.values.of(WindowsConfig).size is not None:
        return windowed_of(api, shard, zone, others, note)
    return None


def windowed_of(
    api: Api,
    shard: Shard,
    zone: tzinfo,
    others: Others,
    note: Callable[[str], None],
) -> Windowed:
    """The time windows of an api; arguments as for `around_of`."""
    values = api.values
    asked = values.of(WindowsConfig)
    own = zone if asked.zone is None else compile_zone(asked.zone)
    fixed = {"api": api.name, "entityName": shard.entity, "connector": shard.connector}

    def template(
        text: str,
    ) -> Callable[[int, Mapping[str, object] | None], object]:
        value = compile_template(text, REQUEST_NAMES, own).value

        def rendered(now_ms: int, scope: Mapping[str, object] | None) -> object:
            try:
                found = value({**fixed, **(scope or {}), "now": now_ms})
            except EvaluationError as e:
                raise SourceError(
                    f"http.source.window: {text} has no value: {e}"
                ) from e
            return found.text if isinstance(found, Time) else found

        return rendered

    end = asked.end
    size = needed(asked.size)
    return Windowed(
        WindowKeys(
            size=size,
            start=template(needed(asked.start)),
            end=None if end is None else template(end),
            end_fixed=end is None or "${" not in end,
            lag=asked.lag,
            overlap=asked.overlap,
            zone=own,
            wall=size % 86_400 == 0 or zoneless(asked.format),
            bound=bound_in(asked.format, own),
            pointer=values.of(OffsetsConfig).pointer,
            too_large=asked.too_large_status or (),
            too_large_field=asked.too_large_field,
            most=asked.most or 0,
            least=asked.least,
        ),
        index=shard.index,
        count=shard.count,
        others=others,
        total_field=values.of(PaginationConfig).total_field,
        note=note,
    )
