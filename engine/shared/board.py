"""
Board: what processes let each other see, without ever waiting for each other.

Owns one piece of anonymous memory, mapped before the fork (GATE mmap): it has
no file that could be truncated, keeps what a killed writer wrote, and ends
with the last process.  Every slot has one writer at a time; nothing two
processes write may stand here.

The supervisor makes it and reads heartbeats and sums; tasks write their slots;
admin reads all of it.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import SharedError
from engine.observe.failures import SIZE
from engine.shared.claims import CELLS, Claims

#: A child's life, written by the child alone: index of its `PHASES`, of its
#: `STATES`, monotonic nanoseconds of its last beat, and how much of how much is
#: done of the step of a start, 0 of 0 where it has no number.
CHILD = (
    "heartbeat_ns",
    "phase",
    "state",
    "shards_running",
    "shards_failed",
    "step_done",
    "step_total",
)

#: What the supervisor alone writes about a child.
WATCH = ("pid", "started_ns", "restarts", "last_exit", "wanted", "crashes")

#: What a child may be busy with; the supervisor judges its silence by it.
PHASES = (
    "starting",
    "idle",
    "polling",
    "fetching",
    "transforming",
    "sending",
    "committing",
    "waiting_limit",
    "waiting_broker",
    "draining",
    "ended",
    "preparing_topics",
    "reading_state",
    "saving_state",
    "opening_connections",
    "fencing",
)

#: What a child is.
STATES = ("unused", "starting", "running", "draining", "failed", "ended")

#: What happened to a shard since its slot was cleared; all of them only grow,
#: but for the grid its polls start on (monotonic ns), which is set once, and
#: the number of the poll it is in, 0 once that is delivered or given up.  Wall
#: milliseconds of its last success, its last record and its next poll, and up to
#: when a limit holds it back, by its place in `demands.CAUSES`.
SHARD = (
    "pages",
    "received",
    "produced",
    "filtered",
    "dead_lettered",
    "deduplicated",
    "doubled",
    "saved",
    "saved_records",
    "saved_requests",
    "saved_bytes",
    "bytes",
    "polls",
    "polls_skipped",
    "polls_truncated",
    "polls_doubtful",
    "polls_withheld",
    "tombstones",
    "snapshot_keys",
    "withheld_keys",
    "requests",
    "retries",
    "errors",
    "fetch_ns",
    "transform_ns",
    "send_ns",
    "wait_limiter_ns",
    "wait_api_limiter_ns",
    "wait_retry_after_ns",
    "wait_budget_ns",
    "wait_throttled_ns",
    "wait_breaker_ns",
    "wait_broker_ns",
    "busy_ns",
    "last_success_ms",
    "last_record_ms",
    "next_poll_ms",
    "held_until_ms",
    "held_by",
    "grid_ns",
    "polling",
)

#: What a shard tells its siblings about the poll it is in.
NOTICE = ("poll", "size", "end")

#: Bytes of a slot's label.
LABEL = 480

#: Bytes of what a shard says of its last failure.
FAILURE = SIZE

#: Bytes of the position a shard has saved last, as JSON.
POSITION = 1024

_CELL = 8
_HEAD = struct.Struct("<QI")


class Layout(Struct, frozen=True):
    """
    Where each name sits on the board.

    Room is laid out for the most that may ever run, since the memory cannot
    grow after the fork; what is never written costs no memory.

    Attributes:
        children: Most child processes, tasks and admin together.
        shards: Most shards.
        child, watch, shard, notice: Names of the cells of each slot, in order.
    """

    children: int = 257
    shards: int = 4096
    child: tuple[str, ...] = CHILD
    watch: tuple[str, ...] = WATCH
    shard: tuple[str, ...] = SHARD
    notice: tuple[str, ...] = NOTICE


class Slot:
    """
    A row of 64-bit counters with one writer.

    Reading never tears: a cell is one aligned machine word.
    """

    __slots__ = ("_at", "_cells")

    def __init__(self, cells: memoryview[int], at: Mapping[str, int]) -> None:
        self._cells = cells
        self._at = at

    # Hot path: one dictionary look-up and one addition on a memory view, no
    # check of the writer; 110 to 190 ns.
    def add(self, name: str, amount: int = 1) -> None:
        """Count; raises KeyError for a name the layout does not hold."""
        self._cells[self._at[name]] += amount

    def add_all(self, amounts: Iterable[tuple[str, int]]) -> None:
        """Count several at once: half the price of as many `add`."""
        cells, at = self._cells, self._at
        for name, amount in amounts:
            cells[at[name]] += amount

    def put(self, name: str, value: int) -> None:
        """Set a cell; raises KeyError for a name the layout does not hold."""
        self._cells[self._at[name]] = value

    def get(self, name: str) -> int:
        """Read a cell."""
        return self._cells[self._at[name]]

    def read(self) -> dict[str, int]:
        """All cells by name."""
        return {name: self._cells[at] for name, at in self._at.items()}

    def clear(self) -> None:
        """Back to zero, before the slot is given to somebody else."""
        for at in self._at.values():
            self._cells[at] = 0


class ChildSlot(Slot):
    """What a child says about itself."""

    __slots__ = ("_beat_at", "_clock", "_phase_at")

    def __init__(
        self, cells: memoryview[int], at: Mapping[str, int], clock: Clock
    ) -> None:
        super().__init__(cells, at)
        self._clock = clock
        self._beat_at = at["heartbeat_ns"]
        self._phase_at = at["phase"]

    def beat(self) -> None:
        """Say that the process is alive now."""
        self._cells[self._beat_at] = int(self._clock.monotonic() * 1e9)

    def enter(self, phase: str) -> None:
        """Alive now, and busy with one of `PHASES`."""
        self._cells[self._phase_at] = PHASES.index(phase)
        self.beat()

    def become(self, state: str) -> None:
        """Say that the process is in another state, one of `STATES`."""
        self.put("state", STATES.index(state))
        self.beat()

    @property
    def phase(self) -> str:
        """What the child is busy with."""
        return PHASES[self._cells[self._phase_at]]

    @property
    def state(self) -> str:
        """What the child is."""
        return STATES[self.get("state")]

    def silence(self) -> float | None:
        """Seconds since the last beat; None if there never was one."""
        beat = self._cells[self._beat_at]
        return self._clock.monotonic() - beat / 1e9 if beat else None


class BoardMessage:
    """
    A few bytes that are replaced as a whole, with one writer.

    Two copies take turns; each carries a serial number and a check sum over
    it and the bytes.  The writer always overwrites the older copy, so the
    newer one stays whole whenever the writer is killed, and a reader that is
    overtaken while it copies sees a wrong sum and reads again.
    """

    __slots__ = ("_at", "_bytes", "_seen", "_size")

    def __init__(self, cells: memoryview[int], at: int, size: int) -> None:
        self._bytes = cells
        self._at = at
        self._size = size
        # Both copies as they stood at the last good look, and what they say.  One tuple:
        # threads that look at the same time never see the bytes of one and the word of
        # another.
        self._seen: tuple[bytes, bytes | None] = (bytes(2 * self.room(size)), None)

    def write(self, content: bytes) -> None:
        """Replace it; raises SharedError if it does not fit."""
        if len(content) > self._size:
            raise SharedError(f"{len(content)} bytes do not fit in {self._size}")
        serials = [serial for serial, _ in (self._copy(0), self._copy(1))]
        serial = max(serials) + 1
        older = 0 if serials[0] <= serials[1] else 1
        content = content.ljust(self._size, b"\0")
        head = _HEAD.pack(serial, _check(serial, content))
        start = self._at + older * self.room(self._size)
        # The sum of the old head stands over new bytes until the last line:
        # a writer killed here leaves a copy nobody believes.
        self._bytes[start + _HEAD.size : start + _HEAD.size + self._size] = content
        self._bytes[start : start + _HEAD.size] = head

    def read(self) -> bytes | None:
        """
        What was written last, padded with NUL; None if nothing ever was.

        Blocks: never; a reader that was overtaken reads again, and only a
        writer that replaces both copies meanwhile can make it do so twice.
        """
        # Hot path: shards that share an api look at each other twice a page, and next to
        # always the same bytes stand there, whose sums need not be made again.
        end = self._at + 2 * self.room(self._size)
        for _ in range(100):
            both = bytes(self._bytes[self._at : end])
            seen, said = self._seen
            if both == seen:
                return said
            copies = sorted((self._copy(0, both), self._copy(1, both)))
            serial, content = copies[1]
            if serial:
                self._seen = (both, content)
                return content
        return None

    def _copy(self, which: int, both: bytes | None = None) -> tuple[int, bytes]:
        """The serial and content of a copy, (0, b"") where its sum is wrong."""
        room = self.room(self._size)
        if both is None:
            both = bytes(self._bytes[self._at : self._at + 2 * room])
        piece = both[which * room : which * room + _HEAD.size + self._size]
        serial, check = _HEAD.unpack_from(piece)
        content = piece[_HEAD.size :]
        return (serial, content) if check == _check(serial, content) else (0, b"")

    @staticmethod
    def room(size: int) -> int:
        """Bytes one copy takes, a multiple of 8."""
        return -(-(_HEAD.size + size) // 8) * 8


class Notice:
    """
    What a page shard tells its siblings: three numbers, always of one moment.

    The poll's number, the page size that the server really gives, and the
    first page number beyond the end (-1 while unknown).
    """

    __slots__ = ("_message", "_pack")

    def __init__(self, message: BoardMessage, count: int) -> None:
        self._message = message
        self._pack = struct.Struct(f"<{count}q")

    def publish(self, *, poll: int, size: int, end: int = -1) -> None:
        """Tell the siblings; the shard's own task only."""
        self._message.write(self._pack.pack(poll, size, end))

    def read(self) -> tuple[int, int, int] | None:
        """(poll, size, end) as last published, or None."""
        content = self._message.read()
        if content is None:
            return None
        poll, size, end = self._pack.unpack(content)
        return poll, size, end


class Board:
    """
    The whole of it.  Made before the fork; each process takes its slots.

    Raises: SharedError if the memory cannot be had.
    """

    def __init__(self, layout: Layout | None = None, *, clock: Clock = SYSTEM) -> None:
        self.layout = layout = layout or Layout()
        self._clock = clock
        self._child = _Region(0, layout.children, layout.child)
        self._watch = _Region(self._child.end, layout.children, layout.watch)
        self._shard = _Region(self._watch.end, layout.shards, layout.shard)
        self._notice_size = _CELL * len(layout.notice)
        self._notices = self._shard.end * _CELL
        self._labels = self._notices + layout.shards * 2 * BoardMessage.room(
            self._notice_size
        )
        self._failures = self._labels + layout.shards * 2 * BoardMessage.room(LABEL)
        self._positions = self._failures + layout.shards * 2 * BoardMessage.room(
            FAILURE
        )
        self._claims = self._positions + layout.shards * 2 * BoardMessage.room(POSITION)
        size = self._claims + layout.shards * CELLS * _CELL
        try:
            self._memory = mmap.mmap(-1, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
        except OSError as failure:
            raise SharedError(f"no memory for the board: {failure}") from failure
        self._bytes = memoryview(self._memory)
        self._cells: memoryview[int] = self._bytes.cast("q")

    def child(self, index: int) -> ChildSlot:
        """The slot of child `index`, 0 <= index < layout.children."""
        return ChildSlot(self._cells, self._child.at(index), self._clock)

    def watch(self, index: int) -> Slot:
        """What the supervisor says about child `index`."""
        return Slot(self._cells, self._watch.at(index))

    def shard(self, index: int) -> Slot:
        """The counters of the shard in slot `index`; they outlive its task."""
        return Slot(self._cells, self._shard.at(index))

    def notice(self, index: int) -> Notice:
        """What the shard in slot `index` tells its siblings."""
        return Notice(
            self._message(self._notices, index, self._notice_size),
            len(self.layout.notice),
        )

    def claims(self, index: int) -> Claims:
        """The pages that the shard in slot `index` takes."""
        if not 0 <= index < self.layout.shards:
            raise SharedError(f"the board has {self.layout.shards} slots for shards")
        return Claims(self._cells, self._claims // _CELL + index * CELLS)

    def label(self, index: int, content: bytes | None = None) -> bytes | None:
        """
        Whose slot `index` is: set by the supervisor, read by admin.

        Args:
            content: At most 480 bytes without NUL; None only reads.
        """
        return self._text(self._labels, index, LABEL, content)

    def failure(self, index: int, content: bytes | None = None) -> bytes | None:
        """
        What the shard in slot `index` says of its last failure.

        Args:
            content: At most `FAILURE` bytes without NUL; None only reads.
        """
        return self._text(self._failures, index, FAILURE, content)

    def position(self, index: int, content: bytes | None = None) -> bytes | None:
        """
        The position that the shard in slot `index` has saved last.

        Args:
            content: At most `POSITION` bytes without NUL; None only reads.
        """
        return self._text(self._positions, index, POSITION, content)

    def totals(self, indices: Iterable[int]) -> dict[str, int]:
        """The shards' counters, added up by name."""
        sums = dict.fromkeys(self.layout.shard, 0)
        for index in indices:
            for name, value in self.shard(index).read().items():
                sums[name] += value
        return sums

    def _text(
        self, start: int, index: int, size: int, content: bytes | None
    ) -> bytes | None:
        message = self._message(start, index, size)
        if content is not None:
            message.write(content)
        found = message.read()
        return found.rstrip(b"\0") if found is not None else None

    def _message(self, start: int, index: int, size: int) -> BoardMessage:
        if not 0 <= index < self.layout.shards:
            raise SharedError(f"the board has {self.layout.shards} slots for shards")
        at = start + index * 2 * BoardMessage.room(size)
        return BoardMessage(self._bytes, at, size)


class _Region:
    """`count` slots with the same names, from cell `start` on."""

    def __init__(self, start: int, count: int, names: Sequence[str]) -> None:
        if len(set(names)) != len(names):
            raise SharedError("a name stands twice on the board")
        self._start = start
        self._count = count
        self._names = names
        self.end = start + count * len(names)

    def at(self, index: int) -> dict[str, int]:
        if not 0 <= index < self._count:
            raise SharedError(f"slot {index} of {self._count} on the board")
        first = self._start + index * len(self._names)
        return {name: first + place for place, name in enumerate(self._names)}


def _check(serial: int, content: bytes) -> int:
    # Never 0 for a written copy, so that untouched memory is told from it.
    return zlib.crc32(content, serial & 0xFFFFFFFF) | 1
