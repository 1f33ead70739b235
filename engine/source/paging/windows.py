"""
Windows: time cut into pieces that are polled one by one (`http.source.window.*`).

Owns the pager around the pager of any type: each window is walked whole, once, in order
within its shard; its bounds stand in the requests. Windows are addressed by their
number, so that shards share them; one that the API calls too large is halved. It is one
class, and long: which window is next, what is left of it and what the state says are
one walk, in any order of ends.

Path: `source.paging.paginator` -> here -> the pager of a type, `language.spans`
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Final

from msgspec import Raw, Struct
from msgspec.structs import replace

from engine.errors import BadPage, SourceError, StateError
from engine.language.faults import EvaluationError
from engine.language.instants import MILLI, instant
from engine.language.spans import Grid
from engine.language.times import Time, iso_text
from engine.records import Offset, Page, Primitive, Request, Response, picked
from engine.source.decode.decoder import Decoded
from engine.source.paging.envelope import Fields
from engine.source.paging.pager import Note, Others, Pager, ShardPagers
from engine.source.paging.position import COMMON, Position, digest, whole
from engine.source.paging.ties import MOST_BACK, Ties
from engine.source.paging.values import Key, Scale, ValueReader

log = logging.getLogger("source")

#: In front of the fields of the pager within a window.
_WALK: Final = "walk."


class WindowKeys(Struct, frozen=True, kw_only=True):
    """
    The keys `http.source.window.*` of one api.

    Attributes:
        size: Seconds of a window.
        start, end: Templates of times: (now in ms, scope) to a value; without an end
            the windows go on for ever.
        end_fixed: The end is the same at every poll, and cuts the last window.
        lag: Seconds that a window has to be past before it is asked for.
        overlap: Seconds by which each begins earlier.
        zone: Whose clock and calendar they go by.
        wall: They go by the clock; else all are of one length.
        bound: What `${window.start}` is for epoch milliseconds.
        pointer: Where the time stands in a record, or None.
        too_large: Statuses by which the API says that a window is too large.
        too_large_field: Where it says so in an answer, or None.
        most: A result of so many records is cut off; 0: not known.
        least: Seconds below which no window is halved.
    """

    size: int
    start: Callable[[int, Mapping[str, object] | None], object]
    end: Callable[[int, Mapping[str, object] | None], object] | None = None
    end_fixed: bool = True
    lag: int = 0
    overlap: int = 0
    zone: tzinfo = UTC
    wall: bool = False
    bound: Callable[[int], object] = Time
    pointer: str | None = None
    too_large: Container[int] = ()
    too_large_field: str | None = None
    most: int = 0
    least: int = 1


class Windowed:
    """
    The windows of one shard, poll after poll; shared by the polls of children.

    Args:
        index, count: Which of the shards it is.
        others: Stored offsets of shards of another count.
        total_field: `pagination.total.field`.
        note: Told the name of each counter that goes up.

    Attributes:
        paths: What a decoder has to find beside what the inner pager looks at.
    """

    def __init__(
        self,
        keys: WindowKeys,
        *,
        index: int = 0,
        count: int = 1,
        others: Others = (),
        total_field: str | None = None,
        note: Note = lambda name: None,
    ):
        self.keys = keys
        self.index, self.count = index, count
        self.others = [other for other in others if other[1] != count]
        self.note = note
        self.values = None if keys.pointer is None else ValueReader(keys.pointer)
        self.fields = Fields({"too_large": keys.too_large_field, "total": total_field})
        self.paths = self.fields.paths

    def start(
        self,
        walks: ShardPagers,
        offset: Offset | None,
        now_ms: int,
        scope: Mapping[str, object] | None = None,
        number: int | None = None,
        *,
        anew: bool = False,
    ) -> WindowPager:
        """A poll from a stored offset; arguments as for `Paginator.start`."""
        stored = _Stored(offset)
        if number is not None:
            stored.poll = number
        if anew:
            # Its window begins anew; those before it are done.
            stored.walk = {}
        return WindowPager(self, walks, stored, now_ms, scope)

    def covered(self, index: int) -> bool:
        """True if a shard of another count has done a window."""
        return any(
            index % count == at and whole(offset, "window", 0) > index
            for at, count, offset in self.others
        )

    def begun(self, index: int) -> Offset | None:
        """Where a shard of another count stands within a window, or None."""
        for at, count, offset in self.others:
            if index % count == at and offset.get("window") == index:
                return offset
        return None


class _Stored:
    """An offset of a shard of windows, read."""

    def __init__(self, offset: Offset | None):
        self.poll = 1
        self.window: int | None = None
        self.start: int | None = None
        self.seconds: int | None = None
        #: The piece of the window that is under way, in epoch milliseconds.
        self.piece: tuple[int, int] | None = None
        #: Records of it so far, and the page size that its walk counts pages of.
        self.records = self.limit = 0
        self.left, self.seen = Ties(), Ties()
        self.walk: dict[str, Primitive] = {}
        if offset is None:
            return
        self.poll = whole(offset, "poll", 1, least=1)
        done = offset.get("done", False)
        if not isinstance(done, bool):
            raise StateError(f"the stored offset's done is {done!r}: not a bool")
        self.poll += done
        known = {"window", "start", "seconds", "from", "until", "kind"}
        known |= {"ties", "ties.at", "seen", "seen.at", "records", "limit"}
        for name, value in offset.items():
            if name.startswith(_WALK):
                self.walk[name.removeprefix(_WALK)] = value
            elif name not in known and name not in COMMON:
                raise StateError(
                    f"the stored offset has {name!r} and was stored without time "
                    "windows; reset the offset to start over"
                )
        if "window" not in offset:
            raise StateError(
                "the stored offset was stored without time windows; reset the offset to "
                "start over"
            )
        self.window = whole(offset, "window")
        self.start = _signed(offset, "start")
        self.seconds = whole(offset, "seconds", least=1)
        if "from" in offset:
            self.piece = _signed(offset, "from"), _signed(offset, "until")
        self.records = whole(offset, "records", 0)
        self.limit = whole(offset, "limit", 0)
        self.left = Ties.read("ties", offset)
        self.seen = Ties.read("seen", offset)


def _signed(offset: Offset, name: str) -> int:
    value = offset.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise StateError(f"the stored offset's {name} is {value!r}")
    return value


class WindowPager:
    """
    One poll: every window of the shard that is due.

    Args:
        windows: The shard's.
        walks: Makes the pager within a window.
        stored: Where it goes on.
    """

    def __init__(
        self,
        windows: Windowed,
        walks: ShardPagers,
        stored: _Stored,
        now_ms: int,
        scope: Mapping[str, object] | None,
    ):
        keys = windows.keys
        self.over = False
        self._windows, self._keys, self._walks = windows, keys, walks
        self._now_ms, self._scope = now_ms, scope
        paging = walks.paging
        self._size = paging.limit if paging.kind.asks == "page" else 0
        if stored.limit != self._size:
            # Of another size it is another page: the window begins anew.
            stored.walk = {}
        self._poll = stored.poll
        self._scale = Scale("timestamp", zone=keys.zone)
        self._count = 0
        self._inner: Pager | None = None
        self._grid = self._grid_of(stored)
        self._end = self._time("end", keys.end) if keys.end is not None else None
        #: The window under way, or the next one; its piece, and the piece's walk.
        self._at = self._first(stored)
        self._piece = stored.piece
        self._walk = stored.walk
        #: Delivered before and not yet seen again; delivered since the window began.
        self._left, self._seen = stored.left, stored.seen
        #: Records of the piece so far.
        self._received = stored.records
        self._remembers = bool(keys.overlap) or self._halves_late()
        #: A job has made what is walked: it is of one piece.
        self._single = scope is not None and "job" in scope

    # -- for whoever asks for each piece himself -----------------------------------

    @property
    def poll(self) -> int:
        """The poll's number."""
        return self._poll

    def due(self) -> dict[str, object] | None:
        """What requests may name of the piece that is due next, or None: none is."""
        if not self._due():
            return None
        start, end = self._bounds()
        if self._piece is None:
            self._piece = start, end
        low, high = self._piece
        asked = low - self._keys.overlap * 1000 if low == start else low
        return {
            "window.start": self._keys.bound(asked),
            "window.end": self._keys.bound(high),
        }

    @property
    def piece(self) -> tuple[int, int] | None:
        """The piece that is due, in epoch milliseconds."""
        return self._piece

    def here(self) -> Offset:
        """The position in front of that piece."""
        return {"poll": self._poll, "done": False, **self._place()}

    def behind(self) -> Offset:
        """The position behind it; it is left."""
        self._pass()
        done = not self._due()
        return {"poll": self._poll, "done": done, **self._place()}

    # -- where it stands ---------------------------------------------------------------

    def _grid_of(self, stored: _Stored) -> Grid:
        keys = self._keys
        start, seconds = stored.start, stored.seconds
        others = [offset for _, _, offset in self._windows.others if "start" in offset]
        if start is None and others:
            start, seconds = _signed(others[0], "start"), whole(others[0], "seconds")
        if start is None:
            return self._new_grid(self._time("start", keys.start))
        grid = self._new_grid(start, seconds)
        if seconds == keys.size:
            return grid
        if self._windows.count > 1 or others or stored.window is None:
            raise StateError(
                f"the stored windows are of {seconds} s, and "
                f"http.source.window.size.seconds is {keys.size}: with several shards "
                "they cannot be cut anew; put it back, run with tasks.max=1 first, or "
                "reset the offset"
            )
        # From the first window that is not done on, in the new size.
        start = grid.bounds(stored.window)[0]
        stored.window, stored.piece, stored.walk = 0, None, {}
        return self._new_grid(start)

    def _new_grid(self, start: int, seconds: int | None = None) -> Grid:
        keys = self._keys
        size = keys.size if seconds is None else seconds
        return Grid(start, size, keys.zone if keys.wall else UTC)

    def _halves_late(self) -> bool:
        """True if a window may be halved after pages of it were delivered."""
        keys = self._keys
        if not self._walks.paging.kind.pages:
            return False
        told = "total" in self._windows.fields
        return bool(keys.too_large or keys.too_large_field or (keys.most and not told))

    def _time(
        self,
        name: str,
        template: Callable[[int, Mapping[str, object] | None], object],
    ) -> int:
        key = f"http.source.window.{name}"
        value = template(self._now_ms, self._scope)
        try:
            return instant(value, self._keys.zone) // MILLI
        except EvaluationError as e:
            if value is None:
                raise SourceError(f"{key}: what it names has no value here") from e
            raise SourceError(f"{key} is {value!r}, which is no time") from e

    def _first(self, stored: _Stored) -> int:
        """The first window of ours that nobody has done."""
        windows = self._windows
        at = windows.index if stored.window is None else stored.window
        at += (windows.index - at) % windows.count
        if stored.window is not None and at != stored.window:
            stored.piece, stored.walk = None, {}
        return self._onward(at)

    def _onward(self, at: int) -> int:
        furthest = max(
            (whole(each[2], "window", 0) for each in self._windows.others), default=0
        )
        while at <= furthest and self._windows.covered(at):
            at += self._windows.count
        return at

    def _adopt(self) -> None:
        """Go on within a window where a shard of another count stood."""
        found = self._windows.begun(self._at)
        if found is None or self._piece is not None or self._walk:
            return
        theirs = _Stored(found)
        self._piece = theirs.piece
        self._walk = theirs.walk if theirs.limit == self._size else {}
        self._received = theirs.records
        self._left, self._seen = theirs.left, theirs.seen

    def _bounds(self) -> tuple[int, int]:
        start, end = self._grid.bounds(self._at)
        if self._end is None or not self._keys.end_fixed:
            return start, end
        return start, min(end, self._end)

    def _due(self) -> bool:
        """Bring up the first window that is due and has a length; False: none is."""
        while True:
            self._adopt()
            start, end = self._bounds()
            if self._end is not None and (start >= self._end or end > self._end):
                return False
            if end + self._keys.lag * 1000 > self._now_ms:
                return False
            if self._piece is not None and self._piece[0] == self._piece[1]:
                # It was cut by an end that may have been put off.
                if self._piece[0] >= end:
                    return False
                self._piece = self._piece[0], end
            if end > start:
                return True
            self._at = self._onward(self._at + self._windows.count)

    # -- as a pager --------------------------------------------------------------------

    @property
    def stored(self) -> bool:
        return self._inner is not None and self._inner.stored

    @property
    def onward(self) -> bool:
        return self._inner is not None and self._inner.onward

    def ask(self) -> Request | None:
        if self.over:
            return None
        if self._inner is None:
            if not self._due():
                self._nothing()
                return None
            self._begin()
        assert self._inner is not None
        return self._inner.ask()

    def _nothing(self) -> None:
        self.over = True
        position: dict[str, Primitive] = {"poll": self._poll, "done": True}
        self._walks.nothing({**position, **self._place()})

    def _begin(self) -> None:
        """The walk through the piece that is under way."""
        scope = {**(self._scope or {}), **(self.due() or {})}
        type = self._walks.paging.type
        walk, self._walk = self._walk, {}
        position = Position(
            {"poll": self._poll, "done": False, **walk} if walk else None,
            type=type,
            mode="FULL",
        )
        position.poll = self._poll
        requests = self._walks.shape.begin(self._now_ms, scope)
        if not walk:
            self._received = 0
        # Each window is a poll of its own to what compares the pages of one.
        self._inner = self._walks.walk(position, requests, child=True)

    def give_up(self) -> None:
        if self._inner is not None:
            self._inner.give_up()

    def expects(self, request: Request) -> bool:
        inner = self._inner
        return not self.over and inner is not None and inner.expects(request)

    def refused(self, request: Request, failure: SourceError) -> Page | None:
        assert self._inner is not None
        large = failure.status is not None and failure.status in self._keys.too_large
        if large and not failure.ruled:
            if self._halve(f"the API refuses it with status {failure.status}"):
                return None
            raise failure
        page = self._inner.refused(request, failure)
        return None if page is None else self._marked(page, None)

    def learn(
        self, request: Request, response: Response, decoded: Decoded
    ) -> Page | None:
        if self.over or self._inner is None:
            return None
        why = self._too_large(decoded)
        if why and self._halve(why):
            return None
        page = self._inner.learn(request, response, decoded)
        if page is None:
            return None
        self._received += page.received
        full = bool(self._keys.most) and self._received >= self._keys.most
        if full and page.offset.get("done") is True:
            words = f"its result has {self._received} records, as many as there can be"
            if self._halve(words):
                return None
            words = (
                "a window of the smallest length has as many records as the API gives"
            )
            page = replace(page, unread=page.unread or words)
        return self._marked(page, decoded)

    def _too_large(self, decoded: Decoded) -> str:
        """Why an answer says that its window is too large, before it is read; or ""."""
        keys, fields = self._keys, self._windows.fields
        if keys.too_large_field is not None and not decoded.empty:
            found = fields.get("too_large", decoded.found)
            if found is not None and fields.flag("too_large", decoded.found):
                return f"{keys.too_large_field} says so"
        if keys.most and "total" in fields:
            total = fields.count("total", decoded.found)
            if total is not None and total >= keys.most:
                return f"it has {total} records, and the API gives {keys.most}"
        return ""

    def _halve(self, why: str) -> bool:
        """Ask for half of the piece instead; False: it is as small as it may be."""
        assert self._piece is not None
        low, high = self._piece
        least = max(self._keys.least, 1) * 1000
        middle = low + (high - low) // 2 // 1000 * 1000
        shown = f"{iso_text(low)} to {iso_text(high)}"
        if middle - low < least or high - middle < least:
            self._windows.note("windows_too_large_total")
            log.warning(
                "The window %s is too large (%s), and as small as it may be "
                "(http.source.window.min.seconds).",
                shown,
                why,
            )
            return False
        log.info("The window %s is halved: %s.", shown, why)
        self._windows.note("windows_halved_total")
        self._piece, self._inner = (low, middle), None
        # What was delivered of it comes again with its halves.
        self._left = self._left.merged(self._seen)
        self._seen = Ties()
        return True

    # -- one page ------------------------------------------------------------------------

    def _marked(self, page: Page, decoded: Decoded | None) -> Page:
        """The inner pager's page, with the window's bounds and our position."""
        assert self._piece is not None
        window, index = self._piece, self._count
        self._count += 1
        records = page.records
        if self._remembers and records:
            records = self._without_known(records)
        ended = page.offset.get("done") is True
        walk: dict[str, Primitive] = {}
        if ended:
            self._pass()
        else:
            walk = {
                _WALK + name: value
                for name, value in page.offset.items()
                if name not in COMMON
            }
        done = ended and not self._due()
        position: dict[str, Primitive] = {"poll": self._poll, "done": done}
        self.over = (done or self._single) if ended else page.last
        return replace(
            page,
            window=window,
            index=index,
            records=records,
            deduplicated=page.deduplicated + len(page.records) - len(records),
            last=done if ended else page.last,
            offset={**position, **self._place(), **walk},
        )

    def _without_known(self, records: Sequence[Raw]) -> Sequence[Raw]:
        """Leave out what was delivered by the window before, or before it was halved."""
        kept = []
        for place, (record, key) in enumerate(zip(records, self._keys_of(records))):
            found = digest(record)
            if not self._left.take(found):
                kept.append(place)
            self._seen.add(found, key)
        if self._seen.bound(MOST_BACK):
            self._windows.note("offset_ties_forgotten_total")
        return picked(records, kept)

    def _keys_of(self, records: Sequence[Raw]) -> list[Key | None]:
        values = self._windows.values
        if values is None:
            return [None] * len(records)
        try:
            return [self._scale.key(value) for value in values.read(records)]
        except BadPage:
            # It is only to know which records lie in the overlap.
            return [None] * len(records)

    def _pass(self) -> None:
        """The piece is done: on to the next one, or to the next window."""
        assert self._piece is not None
        low, high = self._piece
        end = self._bounds()[1]
        self._inner = None
        if high < end:
            # Where much lies at one end of a window, the rest is asked for in few pieces.
            step = max(2 * (high - low), 1000)
            self._piece = high, min(high + step, end)
            if not self._keys.overlap:
                self._seen = Ties()
            return
        if end < self._grid.bounds(self._at)[1]:
            # Cut by the end of all: what is behind it is still to be read if that moves.
            self._piece = end, end
            return
        self._piece = None
        if self._keys.overlap:
            begins = (end - self._keys.overlap * 1000) * MILLI
            self._left = self._seen
            self._left.prune(begins)
        else:
            self._left = Ties()
        self._seen = Ties()
        self._at = self._onward(self._at + self._windows.count)

    def _place(self) -> dict[str, Primitive]:
        grid = self._grid
        place: dict[str, Primitive] = {
            "window": self._at,
            "start": grid.start,
            "seconds": grid.size,
        }
        if self._piece is not None:
            place["from"], place["until"] = self._piece
            if self._keys.most and self._inner is not None:
                place["records"] = self._received
            if self._size and self._inner is not None:
                place["limit"] = self._size
        self._left.write("ties", place)
        self._seen.write("seen", place)
        return place
