"""
Diff: of a poll that reads everything, only what is new, changed or gone.

Owns `http.offset.mode=SNAPSHOT_DIFF` for one shard: which records of a page are left
out, when keys that did not come are gone, and that what is remembered belongs to what
was delivered.

A segment with the keys of a page's records is on its way into the state before the
records are, and holds once the shard's position names it, which is saved behind their
acknowledgement.  Who dies in between finds keys of which nobody knows what was delivered:
they are produced whatever they hold, and have their tombstone when they are gone.  So a
crash costs repeats, and neither a change nor a tombstone.

Path: ``task.path`` asks -> here -> `task.snapshot`; segments go where positions go
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from engine.errors import RecordError, StateError
from engine.records import Offset, Page, Parcel, Shard
from engine.seams import Outlet
from engine.sink.outlet import AtLeastOnce
from engine.sink.seams import Failure
from engine.sink.state import Saved
from engine.source.paging.position import JOB, SEAL, SEGMENT, whole
from engine.task.contents import Contents
from engine.task.forgetting import WatchedDelivery, remove_all
from engine.task.memory import NO_PAGE
from engine.task.path import Counting
from engine.task.snapshot import KeyTable

log = logging.getLogger("task")

#: The part of a source partition's key under which a segment is kept.
PART: Final = {"part": "snapshot"}

#: Tombstones that are handed over at once.
TOGETHER: Final = 2000

#: Outlets of segments that are open at once, where nobody waits for them.
MOST_OPEN: Final = 64

#: Counters of the source after which a poll may not have seen everything.
INCOMPLETE: Final = frozenset(
    {"total_mismatch_total", "polls_repeating_total", "polls_unsure_total"}
)


class Deliveries(WatchedDelivery, Protocol):
    """What is needed of `sink.delivery.Delivery`."""

    @property
    def transactional(self) -> bool:
        """As `Delivery.transactional`."""

    def forget(self, outlet: AtLeastOnce) -> None:
        """As `Delivery.forget`."""


class SnapshotLimits(Struct, frozen=True):
    """
    What is decided by keys.

    Attributes:
        most: Keys at most (`http.snapshot.max.keys`).
        fall: By what part the keys may become fewer from one poll to the next, else
            nothing is gone (`http.snapshot.max.fall`).
        tombstones: A key that is gone is written (`http.snapshot.tombstones.enabled`).
        tolerant: A record without a key is a dead letter (`errors.tolerance=all`).
    """

    most: int = 1_000_000
    fall: float = 0.5
    tombstones: bool = True
    tolerant: bool = False


class SegmentPlaces(Struct, frozen=True):
    """
    Where a shard's segments and tombstones go.

    Attributes:
        delivery: The task's.
        open: Makes the outlet of a segment.
        forget: Removes a segment from the state.
    """

    delivery: Deliveries
    open: Callable[[int], AtLeastOnce]
    forget: Callable[[int, Callable[[Failure], None]], None]


class SnapshotListener(Protocol):
    """What hears how a snapshot ended; see `task.counting.Tally`."""

    def note(self, name: str) -> None:
        """A counter has gone up."""

    def snapshot(self, keys: int, gone: int, withheld: int = 0) -> None:
        """
        So many keys are remembered, after so many more were found gone; so many of them were
        missing from the snapshot and are not taken for gone.
        """


class SnapshotDiff:
    """
    A shard's memory in mode SNAPSHOT_DIFF; a `task.memory.Memory`.

    Args:
        shard: Whose it is.
        stored: Its segments in the state, by number.
        offset: Its stored position, or None.
        contents: What stands for the content of a page's records.
        outlet: The shard's own, for tombstones.
        counting: As for `task.path.PagePath`.
        shifts: Pages are counted: where a record goes while they are read, the next
            page begins one too late and a record is passed over.  A key is gone then
            only if another poll, right behind, does not find it either.

    Attributes:
        doubts: As `Memory`: keys are missing for the first time.

    Raises: StateError for a segment that cannot be read.
    """

    def __init__(
        self,
        shard: Shard,
        stored: Mapping[int, Offset],
        offset: Offset | None,
        *,
        limits: SnapshotLimits,
        contents: Contents,
        places: SegmentPlaces,
        outlet: Outlet,
        counting: Counting,
        told: SnapshotListener,
        shifts: bool = False,
        spool: str | None = None,
    ):
        self._shard = shard
        self._limits = limits
        self._contents = contents
        self._places = places
        self._outlet = outlet
        self._counting = counting
        self._told = told
        self._rows = KeyTable(spool)
        self._opened: list[AtLeastOnce] = []
        self._shifts = shifts
        self._pages = 0
        #: Keys that the poll before did not find, while this one looks again.
        self._missing: set[tuple[str, bytes]] | None = None
        self.doubts = False
        #: A truncated poll goes on with what it has seen so far.
        self._goes_on = False
        #: Why this poll cannot tell what is gone, "" while it can.
        self._doubt = ""
        #: The position vouches for what another mode remembers.
        self._others = False
        self._last: Page | None = None
        self._repeats_told = False
        confirmed = 0 if offset is None else whole(offset, SEGMENT, 0)
        unsure: dict[int, None] = {}
        for number in sorted(stored):
            for row in self._rows.load(number, stored[number], confirmed):
                unsure[row] = None
        self._rows.last = max(self._rows.last, confirmed)
        #: KeyTable of which it has to be said, before any other segment holds, that
        #: nobody knows what was delivered of them.
        self._unsure = list(unsure)
        if len(self._rows):
            log.info("%s: %d keys are remembered.", shard.label, len(self._rows))
        told.snapshot(len(self._rows), 0)

    # -- the memory of a flow ------------------------------------------------------

    def begin(self, offset: Offset | None) -> Offset | None:
        """As `Memory`: everything is read, from the first page on."""
        if self._goes_on:
            self._goes_on = False
            return offset
        self._others = offset is not None and SEAL in offset
        if self._unsure:
            self._write(self._unsure, sure=True)
            self._unsure = []
        unfinished = offset is not None and offset.get("done") is not True
        if unfinished:
            self._told.note("snapshots_interrupted_total")
        self._rows.begin()
        self._pages = 0
        if not self.doubts:
            self._missing = None
        self.doubts = False
        self._doubt = ""
        self._last = None
        if offset is None:
            return None
        job = {name: value for name, value in offset.items() if name in JOB}
        if unfinished and job:
            # What it makes is fetched from its beginning.
            job.pop("job.file", None)
            poll = whole(offset, "poll", 1, least=1)
            return {"poll": poll, "done": False, **job, "job.begun": True}
        number = whole(offset, "poll", 1, least=1) - unfinished
        return {"poll": number, "done": True} if number else None

    def judge(self, parcel: Parcel, forget: Callable[[], None]) -> Parcel:
        """
        As `Memory`: what is new or has changed; of it the keys are in the state, or
        on their way into it in the same transaction.

        Raises: StateError for more keys than are allowed; RecordError for a record
            without a key, under `errors.tolerance=none`.
        """
        page = parcel.page
        self._goes_on = page.truncated
        self._last = page
        # An index below 0 is of what comes before the first page.
        self._pages += page.index >= 0
        if self._pages == 1 and page.index >= 0 and not page.received:
            self._doubt = "the first page was empty"
        parcel = self._keyed(parcel)
        if parcel.letters:
            self._doubt = "bad records have keys that nobody knows"
        if page.unread:
            self._doubt = page.unread
        if not len(parcel.values):
            return parcel
        assert parcel.keys is not None
        keys: Sequence[bytes] = parcel.keys  # type: ignore[assignment]
        try:
            places, rows, again = self._rows.changed(
                parcel.topic, keys, self._contents(parcel), self._limits.most
            )
        except OverflowError:
            raise StateError(
                f"{self._shard.label} has more than the {self._limits.most} keys of "
                "http.snapshot.max.keys: allow more, or read less"
            ) from None
        if again and not self._repeats_told:
            self._repeats_told = True
            self._told.note("snapshot_keys_repeated_total")
        if rows:
            at_hand = {row: keys[at] for row, at in zip(rows, places, strict=True)}
            self._write(list(at_hand), sure=False, keys=at_hand)
        if places and self._others:
            self._others = False
            forget()
        return kept(parcel, places)

    def sealed(self, offset: Offset) -> Offset:
        """As `Memory`: with it all that was written so far holds."""
        return {**offset, SEGMENT: self._rows.last}

    def keep(self, offset: Offset) -> None:
        """As `Memory`: the poll is finished, and what did not come is gone."""
        gone = self._rows.gone()
        withheld = 0
        if gone:
            why = self._withheld()
            if why:
                self._told.note("snapshots_withheld_total")
                log.warning(
                    "%s: %d of %d keys did not come, and none of them is taken for "
                    "gone: %s.",
                    self._shard.label,
                    len(gone),
                    self._rows.known,
                    why,
                )
                withheld, gone = len(gone), []
        gone = self._sure(gone)
        for start in range(0, len(gone), TOGETHER):
            self._bury(gone[start : start + TOGETHER], offset)
        if gone:
            self._outlet.commit()
            log.info("%s: %d keys are gone.", self._shard.label, len(gone))
        self._settle()
        self._tidy()
        self._told.snapshot(len(self._rows), len(gone), withheld)

    def note(self, name: str) -> None:
        """What the source counts, on its way to the tally."""
        if name in INCOMPLETE:
            self._doubt = "the API may not have shown all it has"
        self._told.note(name)

    # -- inside --------------------------------------------------------------------

    def _sure(self, gone: list[int]) -> list[int]:
        """Those of the missing keys that are surely gone."""
        if not gone or not self._shifts or self._pages < 2:
            self._missing = None
            return gone
        named = {self._rows.key(row): row for row in gone}
        before, self._missing = self._missing, None
        if before is None:
            self._missing = set(named)
            self.doubts = True
            return []
        return [row for name, row in named.items() if name in before]

    def _withheld(self) -> str:
        """Why nothing is taken for gone; "" where it may be."""
        if self._doubt:
            return self._doubt
        rows, fall = self._rows, self._limits.fall
        if rows.known - rows.found > fall * rows.known:
            return (
                f"{rows.found} keys after {rows.known} is a fall of more than "
                f"http.snapshot.max.fall={fall:g}"
            )
        return ""

    def _bury(self, rows: list[int], offset: Offset) -> None:
        """A tombstone for each of these keys."""
        named = [self._rows.key(row) for row in rows]
        self._write(
            rows, sure=False, gone=True, keys=dict(zip(rows, (k for _, k in named)))
        )
        self._rows.drop(rows)
        if not self._limits.tombstones:
            self._outlet.hand_over(
                Parcel(page=NO_PAGE, topic="", values=()), self.sealed(offset)
            )
            return
        assert self._last is not None
        page = replace(
            self._last,
            records=[],
            deduplicated=0,
            last=False,
            truncated=False,
            saved=False,
            response=replace(self._last.response, tries=0, wire_bytes=0, body=b""),
        )
        topics = [topic for topic, _ in named]
        parcel = Parcel(
            page=page,
            topic=topics[0] if len(set(topics)) == 1 else topics,
            values=[None] * len(rows),
            keys=[key for _, key in named],
            timestamps=page.response.received_ms,
            added=len(rows),
        )
        parcel = parcel.telling(self._counting(parcel))
        self._outlet.hand_over(parcel, self.sealed(offset))

    def _keyed(self, parcel: Parcel) -> Parcel:
        """Records without a key are bad ones: nothing could be known again of them."""
        keys = parcel.keys
        if keys is not None and None not in keys or not len(parcel.values):
            return parcel
        words = "the record has no key, by which SNAPSHOT_DIFF knows it again"
        if not self._limits.tolerant or keys is None:
            raise RecordError(words, stage="route")
        return parcel.without_keyless(words)

    def _write(
        self,
        rows: Sequence[int],
        *,
        sure: bool,
        gone: bool = False,
        keys: Mapping[int, bytes] | None = None,
    ) -> None:
        """
        Segments of some rows.

        Blocks: until they are in the state.  In transactions nobody waits: what is
            handed over behind them is in the same one, or in a later one.
        """
        places = self._places
        outlets = []
        for piece in self._rows.parcels(rows):
            number = self._rows.last + 1
            found = self._rows.segment(number, piece, sure=sure, gone=gone, keys=keys)
            outlet = places.open(number)
            outlet.begin()
            outlet.hand_over(Parcel(page=NO_PAGE, topic="", values=()), found)
            outlets.append(outlet)
        self._opened += outlets
        if not places.delivery.transactional or len(self._opened) > MOST_OPEN:
            self._settle()

    def _settle(self) -> None:
        """All segments written so far are in the state."""
        for outlet in self._opened:
            outlet.commit()
            self._places.delivery.forget(outlet)
        self._opened.clear()

    def _tidy(self) -> None:
        """Write what still holds of the oldest segments anew, and forget those."""
        victims, rows = self._rows.outworn()
        if not victims:
            return
        self._write(rows, sure=True)
        self._settle()
        places = self._places
        remove_all(places.delivery, (partial(places.forget, each) for each in victims))
        self._rows.forgotten(victims)


def kept(parcel: Parcel, places: Sequence[int]) -> Parcel:
    """A parcel of some of its records; the others count as delivered before."""
    count = len(parcel.values)
    if len(places) == count:
        return parcel
    return replace(
        parcel.picked(places),
        deduplicated=parcel.deduplicated + count - len(places),
    )


def partition_of(shard: Shard, number: int) -> dict[str, str]:
    """The source partition of a segment."""
    return {**shard.partition, **PART, "chunk": str(number)}


def segments_of(saved: Iterable[Saved], shard: Shard) -> dict[int, Saved]:
    """What is stored of a shard's segments, by number."""
    found = {}
    for each in saved:
        partition = dict(each.partition)
        number = partition.pop("chunk", "")
        if partition.pop("part", None) != PART["part"] or not number.isdigit():
            continue
        if partition == shard.partition:
            found[int(number)] = each
    return found
