"""
Flow: one poll of a shard, on one screen.

Owns when a poll begins and ends, and what is committed then; the steps of each page are
in `task.path`.  Knows no thread, no process, no Kafka and no HTTP: it is given objects
with one verb each.

Path: ``source.poll`` -> here -> ``task.path`` -> here -> ``sink.commit``
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from engine.errors import RecordError, SourceError
from engine.records import Offset, Page, Parcel
from engine.seams import Outlet
from engine.task.garbage import between_pages
from engine.task.memory import NO_PAGE, Memory
from engine.task.path import PagePath


class Source(Protocol):
    """The pages of one shard."""

    @property
    def idle(self) -> Offset | None:
        """Where the shard stands after a poll in which no page fell to it."""

    def pages(self, offset: Offset | None) -> Iterator[Page]:
        """One poll from where `offset` says, first page to last."""


class Flow:
    """
    One shard's way from the API into Kafka; the place of its pages.

    Args:
        offset: Where the shard stands, or None: nothing is stored.
        source: Where pages come from.
        path: What each of them goes through.
        outlet: Where they go; moves the state.
        memory: Which pages bring nothing new.

    Attributes:
        shard: Whose pages these are.
        offset: Where the next poll starts: behind the last page handed over.
        received: Records received by this poll, or by the last one.
        fresh: Those of them that were not delivered before.
        age: By how many seconds the newest of them lies behind the API's clock; None:
            nobody knows, or the poll was cut off.
    """

    def __init__(
        self,
        offset: Offset | None,
        *,
        source: Source,
        path: PagePath,
        outlet: Outlet,
        memory: Memory,
    ):
        self.shard = path.shard
        self.offset = offset
        self.outlet = outlet
        self.memory = memory
        self.received = 0
        self.fresh = 0
        self.age: float | None = None
        self._source = source
        self._path = path

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
        self.received = self.fresh = 0
        self.age = None
        page = self._poll()
        while self.memory.doubts and not self._path.stopping.is_set():
            page = self._poll()
        return page

    def _poll(self) -> Page | None:
        page = None
        path = self._path
        pulse, stopping = path.pulse, path.stopping
        self.outlet.begin()
        pages = self._source.pages(self.memory.begin(self.offset))
        try:
            pulse.fetching()
            for page in pages:
                parcel = path.walk(page, self)
                self.received += parcel.page.received
                self.fresh += parcel.page.received - parcel.deduplicated
                self.age = None if page.truncated else page.age
                between_pages()
                if stopping.is_set():
                    break
                pulse.fetching()
        except (SourceError, RecordError):
            # The pages before this one are saved first: what follows from the failure may
            # be the end of the task.
            pulse.idle("commit")
            self.outlet.commit()
            raise
        finally:
            # Whatever ended the poll, nothing more is fetched ahead for it.
            close = getattr(pages, "close", None)
            if close is not None:
                close()
        if page is None and (idle := self._source.idle) is not None:
            # That the shard had its part is as good to know as what was on it.
            self.outlet.hand_over(Parcel(page=NO_PAGE, topic="", values=()), idle)
            self.offset = idle
        pulse.idle("commit")
        self.outlet.commit()
        if page is not None and page.offset.get("done") is True:
            self.memory.keep(page.offset)
        return page
