"""
Path: the steps that a page takes into Kafka, a shard's own and a child's alike.

Owns their order and the sums that must add up; when a poll begins and ends, and what is
committed then, is of whoever walks its pages.

Path: ``task.flow`` and ``task.tree`` -> here -> ``transform`` -> here -> ``sink.outlet``
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from engine.errors import Accounting
from engine.records import Offset, Page, Parcel, Shard
from engine.seams import Outlet, Stopping, Transform
from engine.task.memory import NO_PAGE, Memory, bare
from engine.task.pause import Gate
from engine.task.pulse import Pulse

#: Makes what counts a parcel: called with the moment of its acknowledgement.
Counting = Callable[[Parcel], Callable[[float], None]]


class PagePlace(Protocol):
    """
    Whose page it is: a shard, or a child of one.

    Attributes:
        offset: Where it stands: behind the last page handed over.
    """

    offset: Offset | None

    @property
    def memory(self) -> Memory:
        """Which of its pages bring nothing new."""

    @property
    def outlet(self) -> Outlet:
        """
        The shard's way into Kafka, begun; it is asked for when there is something to hand over.
        """


class PagePath:
    """
    The way of the pages of one api; used by the thread of its shard.

    Args:
        shard: Whose pages these are; a child's is its api, with its root's entity.
        transform: What becomes of them.
        counting: Makes what counts a parcel once it is delivered.
        pulse: Told what the loop is at.
        stopping: Cuts a pause short.
        gate: Closed while the connector is paused; None: it never is.
    """

    def __init__(
        self,
        shard: Shard,
        *,
        transform: Transform,
        counting: Counting,
        pulse: Pulse,
        stopping: Stopping,
        gate: Gate | None = None,
    ):
        self.shard = shard
        self.pulse = pulse
        self.stopping = stopping
        self._transform = transform
        self._counting = counting
        self._gate = gate if gate is not None else Gate()

    def walk(self, page: Page, place: PagePlace) -> Parcel:
        """
        Take one page from the source into Kafka, and move its place behind it.

        Returns: What was handed over.

        Raises:
            RecordError, Accounting, StateError: nothing of the page is handed over.
            SinkError: the delivery failed; its place is where it was.

        Blocks: through a pause, while the bytes in flight are at
            `producer.buffer.memory`, and where the state has to be saved first.
        """
        pulse = self.pulse
        pulse.working()
        if self._gate.closed:
            # It came while the pause began: it waits for the end of it.
            self._gate.wait(self.stopping)
        parcel = self._transform(page)
        check_sums(self.shard, parcel)
        memory = place.memory
        # Before it is handed over: where the page differs from what is remembered, the position
        # is saved without its seal first, and that is waited for.
        parcel = memory.judge(parcel, lambda: self._forget(place))
        parcel = parcel.telling(self._counting(parcel))
        offset = memory.sealed(page.offset)
        # A broker that is away is waited for here.
        pulse.idle("send")
        place.outlet.hand_over(parcel, offset)
        # Not before: a hand-over that raises leaves the place where the next poll has to begin.
        place.offset = offset
        return parcel

    def _forget(self, place: PagePlace) -> None:
        """What is stored vouches for no page any longer, before others are sent."""
        assert place.offset is not None
        self.pulse.idle("commit")
        place.offset = bare(place.offset)
        outlet = place.outlet
        outlet.hand_over(Parcel(page=NO_PAGE, topic="", values=()), place.offset)
        outlet.commit()
        self.pulse.working()


def check_sums(shard: Shard, parcel: Parcel) -> None:
    """Raises: Accounting, which says what sum is off."""
    if not parcel.balanced:
        raise Accounting(
            f"{shard.label}, page {parcel.page.index}: received {parcel.page.received} "
            f"is not produced {len(parcel.values)} + filtered {parcel.filtered} + "
            f"dead-lettered {len(parcel.letters)} + deduplicated {parcel.deduplicated}"
        )
