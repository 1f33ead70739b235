"""
Paginator: which request comes next, and where a poll may resume.

Owns the table of the pagers, one class for each `pagination.type`, and what a
shard remembers from poll to poll.  Pure: it sends nothing and waits for nothing.

Path: `source.poll` asks -> here -> `source.paging.by_cursor`, `by_offset`, `by_page`,
`by_value`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from engine.records import Offset
from engine.source.paging import by_cursor, by_link, by_offset, by_page, by_value
from engine.source.paging.of_type import TypePager
from engine.source.paging.pager import (
    AroundMode,
    Note,
    Others,
    Pager,
    Paging,
    PagingPlan,
    PollRequests,
    RequestShape,
    ShardCoordination,
)
from engine.source.paging.position import Position
from engine.source.paging.windows import Windowed

#: The pager of each type.  A module's `PAGERS` are the types that it walks.
PAGERS: Final[Mapping[str, type[TypePager]]] = {
    pager.TYPE: pager
    for module in (by_cursor, by_link, by_offset, by_page, by_value)
    for pager in module.PAGERS
}


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
        coordination: Where the shards of this api meet.
        note: Told the name of each counter that goes up.
        around: The offset mode, where it is a pager around the type's; else None.
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
        coordination: ShardCoordination | None = None,
        note: Note = lambda name: None,
        around: AroundMode | None = None,
    ):
        self._pager = PAGERS[paging.type]
        self._around = around
        if around is not None:
            # What is shared among shards is not the pages of a walk.
            index, count, others, coordination = 0, 1, (), None
        self._plan = PagingPlan(
            # What is around a walk carries over; the walk itself has but its poll.
            paging if around is None else replace(paging, mode="FULL"),
            shape=shape,
            follow=follow,
            index=index,
            count=count,
            others=[other for other in others if other[1] != count],
            coordination=coordination,
            note=note,
            places=self._pager.places(paging),
        )

    @property
    def paths(self) -> tuple[str, ...]:
        """The fields of the envelope that a decoder must find, in order."""
        if self._around is None:
            return self._plan.paths
        return tuple(dict.fromkeys((*self._plan.paths, *self._around.paths)))

    @property
    def addressable(self) -> bool:
        """True if later pages can be asked for before earlier ones came."""
        return self._around is None and self._plan.addressable

    @property
    def paging(self) -> Paging:
        """As `ShardPagers`."""
        return self._plan.paging

    @property
    def shape(self) -> RequestShape:
        """As `ShardPagers`."""
        return self._plan.shape

    def nothing(self, offset: Offset) -> None:
        """As `ShardPagers`."""
        self._plan.note("polls_without_page_total")
        self._plan.idle = offset

    def walk(
        self, stored: Position, start: PollRequests, *, child: bool = False
    ) -> Pager:
        """As `ShardPagers`."""
        return self._pager(self._plan, stored, start, child=child)

    @property
    def windows(self) -> Windowed | None:
        """The time windows of the shard, or None: it has none."""
        return self._around if isinstance(self._around, Windowed) else None

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
        plan.idle = None
        if self._around is not None:
            return self._around.start(self, offset, now_ms, scope, number, anew=anew)
        stored = Position(offset, type=plan.paging.type, mode=plan.paging.mode)
        poll = stored.poll if number is None else number
        if anew:
            stored = Position(None, type=plan.paging.type, mode=plan.paging.mode)
        stored.poll = poll
        start = plan.shape.begin(now_ms, scope)
        return self._pager(plan, stored, start, child=scope is not None)
