"""
Flow: the path of a page, on one screen.

Owns the order of the steps and the sums that must add up.  Knows no thread,
no process, no Kafka and no HTTP: it is given objects with one verb each.

Path: ``source.poll`` -> here -> ``transform`` -> here -> ``sink.commit``
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from engine.errors import Accounting, RecordError, SourceError
from engine.records import Offset, Page, Parcel, Shard
from engine.seams import Outlet, Stopping, Transform
from engine.task.garbage import between_pages
from engine.task.memory import NO_PAGE, Memory, bare
from engine.task.pause import Gate
from engine.task.pulse import Pulse

#: Makes what counts a parcel: called with the moment of its acknowledgement.
Counting = Callable[[Parcel], Callable[[float], None]]


class Source(Protocol):
    """The pages of one shard."""

    @property
    def idle(self) -> Offset | None:
        """Where the shard stands after a poll in which no page fell to it."""

    def pages(self, offset: Offset | None) -> Iterator[Page]:
        """One poll from where `offset` says, first page to last."""


class Flow:
    """
    One shard's way from the API into Kafka.

    Args:
        shard: Whose pages these are.
        offset: Where the shard stands, or None: nothing is stored.
        source: Where pages come from.
        transform: What becomes of them.
        outlet: Where they go; moves the state.
        memory: Which pages bring nothing new.
        counting: Makes what counts a parcel once it is delivered.
        pulse: Told what the loop is at.
        stopping: Read between pages.
        gate: Closed while the connector is paused; None: it never is.

    Attributes:
        offset: Where the next poll starts: behind the last page handed over.
        received: Records received by this poll, or by the last one.
    """

    def __init__(
        self,
        shard: Shard,
        offset: Offset | None,
        *,
        source: Source,
        transform: Transform,
        outlet: Outlet,
        memory: Memory,
        counting: Counting,
        pulse: Pulse,
        stopping: Stopping,
        gate: Gate | None = None,
    ):
        self._gate = gate if gate is not None else Gate()
        self.shard = shard
        self.offset = offset
        self.received = 0
        self._source = source
        self._transform = transform
        self._outlet = outlet
        self._memory = memory
        self._counting = counting
        self._pulse = pulse
        self._stopping = stopping

    def poll(self) -> Page | None:
        """
        One poll, first page to last, or until stopping; and once more, where only a
        second one tells what its memory has to know.

        Returns:
            The last page handed over, None if there was none; all of it is
            acknowledged and the state saved.

        Raises:
            SourceError, RecordError: a page failed; the pages before it are
                acknowledged, and the state says how far.
            EngineError: delivery failed; the stored state says how far.

        Blocks:
            As long as the poll takes; between pages it notices stopping.
        """
        self.received = 0
        page = self._poll()
        while self._memory.doubts and not self._stopping.is_set():
            page = self._poll()
        return page

    def _poll(self) -> Page | None:
        page = None
        pulse = self._pulse
        self._outlet.begin()
        pages = self._source.pages(self._memory.begin(self.offset))
        try:
            pulse.fetching()
            for page in pages:
                pulse.working()
                if self._gate.closed:
                    # It came while the pause began: it waits for the end of it.
                    self._gate.wait(self._stopping)
                parcel = self._transform(page)
                if not parcel.balanced:
                    raise Accounting(unbalanced(self.shard, parcel))
                parcel = self._memory.judge(parcel, self._forget)
                parcel.delivered.append(self._counting(parcel))
                self.offset = self._memory.sealed(page.offset)
                # A broker that is away is waited for here.
                pulse.idle("send")
                self._outlet.hand_over(parcel, self.offset)
                self.received += page.received
                between_pages()
                if self._stopping.is_set():
                    break
                pulse.fetching()
        except (SourceError, RecordError):
            pulse.idle("commit")
            self._outlet.commit()
            raise
        finally:
            close = getattr(pages, "close", None)
            if close is not None:
                close()
        if page is None and (idle := self._source.idle) is not None:
            # That the shard had its part is as good to know as what was on it.
            self._outlet.hand_over(Parcel(NO_PAGE, "", ()), idle)
            self.offset = idle
        pulse.idle("commit")
        self._outlet.commit()
        if page is not None and page.offset.get("done") is True:
            self._memory.keep(page.offset)
        return page

    def _forget(self) -> None:
        """What is stored vouches for no page any longer, before others are sent."""
        assert self.offset is not None
        self._pulse.idle("commit")
        self.offset = bare(self.offset)
        self._outlet.hand_over(Parcel(NO_PAGE, "", ()), self.offset)
        self._outlet.commit()
        self._pulse.working()


def unbalanced(shard: Shard, parcel: Parcel) -> str:
    """Say which sum is off."""
    return (
        f"{shard.label}, page {parcel.page.index}: received {parcel.page.received} "
        f"is not produced {len(parcel.values)} + filtered {parcel.filtered} + "
        f"dead-lettered {len(parcel.letters)} + deduplicated {parcel.deduplicated}"
    )
