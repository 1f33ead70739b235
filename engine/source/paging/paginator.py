"""
Paginator: which request comes next, and where a poll may resume.

Owns the choice of the walk for each `pagination.type` and what a shard
remembers from poll to poll.  Pure: it sends nothing and waits for nothing.

Path: `source.poll` asks -> here -> `source.paging.by_cursor`, `source.paging.by_value`,
`source.paging.by_number`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.records import Offset
from engine.source.paging.by_cursor import CursorPager
from engine.source.paging.by_number import NumberPager
from engine.source.paging.by_value import KeysetPager
from engine.source.paging.pager import (
    COUNTS,
    Note,
    Others,
    Pager,
    Paging,
    PagingPlan,
    RequestShape,
    ShardCoordination,
)
from engine.source.paging.position import Position


class Paginator:
    """
    The walks through one shard of one api, poll after poll.

    Args:
        paging: The keys.
        shape: Makes requests.
        follow: (URL asked, reference) to the URL it leads to, or Forbidden.
        index, count: Which of the shards this is.
        others: Stored offsets of shards of another count; those of this one
            are passed over.
        crew: Where the shards of this api meet.
        note: Told the name of each counter that goes up.
    """

    def __init__(
        self,
        paging: Paging,
        *,
        shape: RequestShape,
        follow: Callable[[str, str], str],
        index: int = 0,
        count: int = 1,
        others: Others = (),
        crew: ShardCoordination | None = None,
        note: Note = lambda name: None,
    ):
        self._plan = PagingPlan(
            paging,
            shape=shape,
            follow=follow,
            index=index,
            count=count,
            others=[other for other in others if other[1] != count],
            crew=crew,
            note=note,
        )

    @property
    def paths(self) -> tuple[str, ...]:
        """The fields of the envelope that a decoder must find, in order."""
        return self._plan.paths

    @property
    def addressable(self) -> bool:
        """True if later pages can be asked for before earlier ones came."""
        return self._plan.addressable

    @property
    def note(self) -> Note:
        """Told the name of each counter that goes up."""
        return self._plan.note

    @property
    def idle(self) -> Offset | None:
        """As `Poll.idle`."""
        return self._plan.idle

    def start(
        self,
        offset: Offset | None,
        now_ms: int,
        scope: Mapping[str, object] | None = None,
        number: int | None = None,
        *,
        anew: bool = False,
    ) -> Pager:
        """
        A walk from a stored offset.

        Args:
            anew: The same poll from its beginning, wherever the offset is.
            now_ms: `${now}` of this poll, epoch milliseconds.
            scope: `parent`, `parent_value` and the like, for its templates.
            number: Of the poll, or None: as the offset counts them.

        Raises:
            StateError: The offset cannot be read, or belongs to another type.
            SourceError: A template has no value for its place.
        """
        plan = self._plan
        stored = Position(offset, type=plan.paging.type, mode=plan.paging.mode)
        plan.idle = None
        poll = stored.poll if number is None else number
        if anew:
            stored = Position(None, type=plan.paging.type, mode=plan.paging.mode)
        stored.poll = poll
        start = plan.shape.begin(now_ms, scope)
        if plan.paging.type == "keyset":
            return KeysetPager(plan, stored, start)
        if plan.paging.type in COUNTS:
            return NumberPager(plan, stored, start, child=scope is not None)
        return CursorPager(plan, stored, start)
