"""
Memory: pages of the last poll that need not be produced again.

Owns where a shard's memory of its pages is kept: beside its position, under a
source partition of its own, written once a poll is over and all of it is
acknowledged, and only where something has changed.

Path: ``task.flow`` and ``task.tree`` ask -> here -> ``source.unchanged``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from engine.records import Offset, Page, Parcel, Primitive, Request, Response
from engine.sink.commit import AtLeastOnce
from engine.source.standing import whole
from engine.source.unchanged import Unchanged

#: The part of a source partition's key under which its pages are remembered.
PART = {"part": "pages"}

#: What is handed over with a state that belongs to no page.
NO_PAGE = Page(Response(Request("GET", ""), "", 200, (), b"", 0.0, 0), 0, [], {}, True)


class Outlets(Protocol):
    """What is needed of `sink.commit.Delivery`."""

    def forget(self, outlet: AtLeastOnce) -> None:
        """As `Delivery.forget`."""


class Memory(Protocol):
    """What a poll is told of pages it had before."""

    def begin(self, offset: Offset | None) -> None:
        """A poll starts from an offset."""

    def judge(self, page: Page) -> None:
        """Make a page `saved` that brings nothing new, and take its records off."""

    def keep(self, offset: Offset) -> None:
        """
        The poll is over with a page of this offset, and all of it acknowledged.

        Blocks: until the state is saved.  Raises: what the delivery failed with.
        """


class Forgetful:
    """The memory of what has none: the cache is off, or no poll is like another."""

    def begin(self, offset: Offset | None) -> None:
        return

    def judge(self, page: Page) -> None:
        return

    def keep(self, offset: Offset) -> None:
        return


class Remembering:
    """
    The memory of one source partition.

    Args:
        unchanged: Its pages.
        stored: What was kept of them before, or None.
        open: Makes the outlet of the partition under which it is kept.
        delivery: Where that outlet belongs to.
    """

    def __init__(
        self,
        unchanged: Unchanged,
        stored: Mapping[str, Primitive] | None,
        *,
        open: Callable[[], AtLeastOnce],
        delivery: Outlets,
    ):
        self._unchanged = unchanged
        self._hashes = None if stored is None else stored.get("hashes")
        self._open = open
        self._delivery = delivery

    def begin(self, offset: Offset | None) -> None:
        """As `Memory`."""
        self._unchanged.begin(whole=offset is None or offset.get("done") is True)

    def judge(self, page: Page) -> None:
        """As `Memory`."""
        self._unchanged.judge(page)

    def keep(self, offset: Offset) -> None:
        """As `Memory`."""
        outlet = self.hand_over(offset)
        if outlet is not None:
            outlet.commit()
            self._delivery.forget(outlet)

    def hand_over(self, offset: Offset) -> AtLeastOnce | None:
        """
        The first half of `keep`; the caller commits and forgets the outlet.

        Returns: None if what is kept is as it was.
        """
        found = self._unchanged.finished(whole(offset, "poll", 1))
        if found["hashes"] == self._hashes:
            return None
        self._hashes = found["hashes"]
        outlet = self._open()
        outlet.begin()
        outlet.hand_over(Parcel(NO_PAGE, "", ()), found)
        return outlet
