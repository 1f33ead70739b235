"""
Claims: which page's records a shard of an api takes, for its siblings to see.

Owns a few cells of the board for each shard, written by that shard alone and
read by the others; nobody ever holds a lock.

Path: `shared.board` makes them, the tasks write and read
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from engine.clock import SYSTEM

#: Pages of a shard that its siblings can see: the first ones of its newest polls, and
#: the newest of the others.
FIRST = 4
PAGES = 32

#: Cells of one shard: a counter, and hash, mark and place of each page.
CELLS = 1 + 3 * PAGES

#: Longest wait for a sibling that has seen the same records and not yet decided, in
#: seconds.  It decides within microseconds unless it was killed; after that the page
#: is taken: a copy is better than a loss.
PATIENCE = 0.5

_LOOK = 0.0005
_LOW = (1 << 63) - 1


class Claims:
    """
    The pages of one shard, with one writer.

    A claim is tentative until the siblings' claims were looked at.  Its hash is
    written last and wiped first, so a reader that finds the hash before and after
    has read one claim, whenever the writer was killed.

    Args:
        cells: The board.
        at: The first of `CELLS` cells.
    """

    __slots__ = ("_cells", "_hashes", "_marks", "_places", "_used")

    def __init__(self, cells: memoryview[int], at: int) -> None:
        self._cells = cells
        self._used = at
        self._hashes = at + 1
        self._marks = self._hashes + PAGES
        self._places = self._marks + PAGES

    def propose(self, poll: int, place: int, found: int) -> int:
        """Put up a tentative claim; returns where it stands, for `settle`."""
        cells = self._cells
        slot = self._slot(poll, place)
        # The hash is taken out first and put in last: readers in other processes go by it,
        # and a writer killed in between leaves a slot that says nothing.
        cells[self._hashes + slot] = 0
        cells[self._marks + slot] = poll * 2
        cells[self._places + slot] = place
        cells[self._hashes + slot] = _hash(found)
        return slot

    def settle(self, slot: int, *, taken: bool) -> None:
        """The page is ours and is handed over, or the claim is taken back."""
        if taken:
            self._cells[self._marks + slot] |= 1
        else:
            self._wipe(slot)

    def find(self, poll: int, place: int, found: int) -> tuple[int, bool] | None:
        """
        The page with a hash that counts against one at a place.

        That is one of the same poll, or the first one of a later poll that lies
        before the place: shards count their polls alone, and one may lag behind.

        Returns: its place, and False if it is tentative; or None.
        """
        cells, found = self._cells, _hash(found)
        hashes = cells[self._hashes : self._hashes + PAGES].tolist()
        if found not in hashes:
            return None
        for slot, each in enumerate(hashes):
            if each != found:
                continue
            mark, its_place = cells[self._marks + slot], cells[self._places + slot]
            # Looked at twice: between the two reads its owner, another process, may have given
            # the slot to another page, whose mark and place these would be.
            if cells[self._hashes + slot] != found:
                continue
            later = slot < FIRST and mark & 1 and its_place < place
            if mark >> 1 == poll or (later and mark >> 1 > poll):
                return its_place, bool(mark & 1)
        return None

    def keep(self, poll: int | None) -> None:
        """Wipe what is tentative and what is of another poll; None: everything."""
        for slot in range(PAGES):
            mark = self._cells[self._marks + slot]
            if poll is None or mark >> 1 != poll or not mark & 1:
                self._wipe(slot)

    def _wipe(self, slot: int) -> None:
        self._cells[self._hashes + slot] = 0
        self._cells[self._marks + slot] = 0

    def _slot(self, poll: int, place: int) -> int:
        """Where a page stands: as before, else first of its poll, else next."""
        cells = self._cells
        if place in cells[self._places : self._places + PAGES].tolist():
            for slot in range(PAGES):
                if (
                    cells[self._places + slot] == place
                    and cells[self._marks + slot] >> 1 == poll
                    and cells[self._hashes + slot]
                ):
                    return slot
        if cells[self._marks + poll % FIRST] >> 1 != poll:
            return poll % FIRST
        cells[self._used] += 1
        return FIRST + cells[self._used] % (PAGES - FIRST)


def claim(
    own: Claims, siblings: Sequence[Claims], poll: int, place: int, found: int
) -> int | None:
    """
    Take a page's records, unless the same ones were taken before in this poll.

    Who has put up a claim looks at the others' before it is firm.  Of two that
    meet so, the higher place gives way at once and the lower one waits for that;
    a firm claim holds against both.  So one copy is taken in whatever order
    things happen, as long as the other claim is among its shard's `PAGES`.

    Args:
        place: The page's number, or the place of its first record.
        found: The hash of its records.

    Returns: None if they are this page's; else the place that has them.

    Blocks: for `PATIENCE` at most, where a sibling was killed before it decided.
    """
    before = own.find(poll, place, found)
    if before is not None and before[0] < place:
        # Of an earlier process of this shard: ours knows its own pages.
        return before[0]
    slot = own.propose(poll, place, found)
    deadline = 0.0
    for sibling in siblings:
        while (met := sibling.find(poll, place, found)) is not None:
            its_place, firm = met
            if its_place == place:
                break
            if firm or its_place < place:
                own.settle(slot, taken=False)
                return its_place
            now = SYSTEM.monotonic()
            deadline = deadline or now + PATIENCE
            if now > deadline:
                break
            threading.Event().wait(_LOOK)
    own.settle(slot, taken=True)
    return None


def _hash(found: int) -> int:
    """A hash as a cell holds it; never 0, which is no claim."""
    return (found & _LOW) or 1
