"""
Memory: pages of the last poll that need not be produced again.

Owns where a shard's memory of its pages is kept: beside its position, under a
source partition of its own, written once a poll is over and all of it is
acknowledged, and only where something has changed.

What is remembered says what was delivered last, so it must never outlive a
delivery that it does not know of.  Two things hold that: the position of a
finished poll carries a seal of what is remembered, which any other writer of
positions leaves out; and before anything is delivered that differs, the position
is saved without it.  A process that dies anywhere in between, and one that
remembers nothing (`cache.enabled=false`), or other things (`SNAPSHOT_DIFF`), leave a
memory that nobody trusts.

Path: ``task.flow``, ``task.path`` and ``task.tree`` ask -> here -> ``task.unchanged``
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec.structs import replace

from engine.records import Offset, Page, Parcel, Primitive, Request, Response
from engine.sink.outlet import AtLeastOnce
from engine.source.paging.position import SEAL, SEGMENT, VOUCHING, whole
from engine.task.unchanged import Unchanged

log = logging.getLogger("task")

#: The part of a source partition's key under which its pages are remembered.
PART = {"part": "pages"}

#: What is handed over with a state that belongs to no page.
NO_PAGE = Page(
    response=Response(
        request=Request("GET", ""),
        url="",
        status=200,
        headers=(),
        body=b"",
        sent_at=0.0,
        received_ms=0,
    ),
    index=0,
    records=[],
    offset={},
    last=True,
)


class Outlets(Protocol):
    """What is needed of `sink.delivery.Delivery`."""

    def forget(self, outlet: AtLeastOnce) -> None:
        """As `Delivery.forget`."""


class Memory(Protocol):
    """
    What a poll is told of pages it had before.

    Attributes:
        doubts: The poll that was kept leaves a question that another one answers.
    """

    doubts: bool

    def begin(self, offset: Offset | None) -> Offset | None:
        """A poll starts from an offset.  Returns: where its walk is to begin."""

    def judge(self, parcel: Parcel, forget: Callable[[], None]) -> Parcel:
        """
        What is to be handed over for a page: nothing, where it brings nothing new.

        Args:
            forget: Saves the position without what it vouches for, and waits until
                that is saved; called before the first page of a poll that is produced.
        """

    def sealed(self, offset: Offset) -> Offset:
        """The offset of a page that was just judged, as it is to be saved."""

    def keep(self, offset: Offset) -> None:
        """
        The poll is over with a page of this offset, and all of it acknowledged.

        Blocks: until the state is saved.  Raises: what the delivery failed with.
        """


class Forgetful:
    """The memory of what has none: the cache is off, or no poll is like another."""

    doubts = False

    def __init__(self) -> None:
        self._vouched = False

    def begin(self, offset: Offset | None) -> Offset | None:
        """As `Memory`."""
        self._vouched = offset is not None and not VOUCHING.isdisjoint(offset)
        return offset

    def judge(self, parcel: Parcel, forget: Callable[[], None]) -> Parcel:
        """As `Memory`."""
        if self._vouched and produces(parcel):
            # Of an earlier run that did remember: it does not know of this.
            self._vouched = False
            forget()
        return parcel

    def sealed(self, offset: Offset) -> Offset:
        """As `Memory`."""
        return offset

    def keep(self, offset: Offset) -> None:
        """As `Memory`."""


class Remembering:
    """
    The memory of one source partition.

    Args:
        label: The shard, for people.
        unchanged: Its pages.
        stored: What was kept of them before, or None.
        open: Makes the outlet of the partition under which it is kept.
        delivery: Where that outlet belongs to.
    """

    doubts = False

    def __init__(
        self,
        unchanged: Unchanged,
        stored: Mapping[str, Primitive] | None,
        *,
        label: str,
        open: Callable[[], AtLeastOnce],
        delivery: Outlets,
    ):
        self._label = label
        self._unchanged = unchanged
        self._stored = dict(stored or {})
        self._open = open
        self._delivery = delivery
        self._vouched = False
        #: The position vouches for what another mode remembers.
        self._others = False
        self._told = False

    def begin(self, offset: Offset | None) -> Offset | None:
        """As `Memory`."""
        seal = "" if offset is None else str(offset.get(SEAL, ""))
        self._vouched = bool(seal)
        self._others = offset is not None and SEGMENT in offset
        self._unchanged.begin(
            whole=offset is None or offset.get("done") is True,
            seal=seal,
        )
        return offset

    def judge(self, parcel: Parcel, forget: Callable[[], None]) -> Parcel:
        """As `Memory`."""
        page = parcel.page
        if page.truncated and not self._told:
            self._told = True
            log.warning(
                "%s has more pages than pagination.max.pages: no poll is a whole one, "
                "so its pages are produced again although they are unchanged.",
                self._label,
            )
        if self._unchanged.judge(parcel):
            page = replace(
                page,
                saved=True,
                saved_records=page.received,
                records=[],
                deduplicated=0,
            )
            # What was left out was delivered, so that de-duplication learns of it.
            return Parcel(
                page=page, topic="", values=(), acknowledged=parcel.acknowledged
            )
        stale = self._others or (self._vouched and self._unchanged.forgets)
        if stale and produces(parcel):
            self._vouched = self._others = False
            forget()
        return parcel

    def sealed(self, offset: Offset) -> Offset:
        """As `Memory`."""
        if offset.get("done") is not True:
            return offset
        seal = self._unchanged.seal(whole(offset, "poll", 1))
        return {**offset, SEAL: seal} if seal else offset

    def keep(self, offset: Offset) -> None:
        """As `Memory`."""
        outlet = self.hand_over(offset)
        if outlet is not None:
            outlet.commit()
            self._delivery.forget(outlet)

    def hand_over(self, offset: Offset) -> AtLeastOnce | None:
        """
        The first half of `keep`; the caller commits and forgets the outlet.

        Returns: None if what is kept is as it was, or nothing.
        """
        found = self._unchanged.finished(whole(offset, "poll", 1))
        kept = {name: self._stored.get(name) for name in found if name != "poll"}
        if not found["hashes"] or kept == {name: found[name] for name in kept}:
            return None
        self._stored = dict(found)
        outlet = self._open()
        outlet.begin()
        outlet.hand_over(Parcel(page=NO_PAGE, topic="", values=()), found)
        return outlet


def bare(offset: Offset) -> Offset:
    """A position that vouches for nothing."""
    return {name: value for name, value in offset.items() if name not in VOUCHING}


def produces(parcel: Parcel) -> bool:
    """Whether anything of it goes to Kafka."""
    return bool(len(parcel.values) or parcel.letters)
