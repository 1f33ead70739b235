"""
Ledger: which entries a shared tier holds, how large, how old, how often asked.

Owns a file of fixed slots beside the tier's store, found by the entry's digest
in one or two reads.  Decides who leaves by LRU, LFU or FIFO and holds the
tier's limit; never the values.  Changes are made under a lock that dies with
its holder; marking a use takes none, since a lost mark costs nothing.

Below the tiers; opened in each process after the fork.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import pread, pwrite
from pathlib import Path

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import SharedError
from engine.shared.cache.ages import ReceivedAt
from engine.shared.lock import lock_within, open_private, unlock

#: Parts of the statistics window in which uses are counted.
PARTS = 6

#: Slots that are looked at to find who leaves: all of them up to this many,
#: beyond it so many in a row from a random place on.
MOST_SCANNED = 65_536

#: Most slots of a file.
MOST_SLOTS = 1 << 23

_MARK = b"led1"
#: Mark, slots, entries, bytes, entries allowed, last change of that.
_HEAD = struct.Struct("<4sIqqqd")
_FIRST = 64

#: Digest, bytes, boot, stored, received (monotonic, wall), used, part, uses; the
#: last three change with each use, in one write.
_SLOT = struct.Struct(f"<16sI4s4dI{PARTS}H")
_USE = struct.Struct(f"<dI{PARTS}H")
_USE_AT = _SLOT.size - _USE.size
_STORED_END = struct.calcsize("<16sI4sd")
_CHUNK = 16
_FREE = bytes(16)
_GONE = b"\xff" * 16

#: More uses in one part than this are not told apart.
_MOST_USES = 0xFFFF


class Line(Struct, frozen=True):
    """One entry of the ledger."""

    digest: bytes
    size: int
    stored: float
    used: float
    received: ReceivedAt
    uses: int


def order(policy: str) -> Callable[[Line], tuple[float, float]]:
    """Sorts the entry that is to leave first to the front."""
    if policy == "LFU":
        return lambda line: (line.uses, line.stored)
    if policy == "FIFO":
        return lambda line: (line.stored, 0.0)
    return lambda line: (line.used, line.stored)


class Ledger:
    """
    Args:
        path: Its file.
        entries: Entries the tier may hold, as configured.
        grown: How many times as many it may be allowed later.
        window: Seconds over which uses are counted (LFU).
        patience: Seconds to wait for another process.
        guest: Only a file that others laid out is used, as they did.
    """

    def __init__(
        self,
        path: Path,
        *,
        entries: int,
        grown: float = 4.0,
        window: float = 3600.0,
        patience: float = 0.25,
        guest: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        # With a third to spare: a search stays short.
        wanted = min(MOST_SLOTS, max(64, int(entries * grown * 4 / 3) + 1))
        self._slots = 1 << (wanted - 1).bit_length()
        self._entries = min(entries, self._slots * 3 // 4)
        self._path = path
        self._part = max(window / PARTS, 0.001)
        self._patience = patience
        self._guest = guest
        self._clock = clock
        # Held around the file's lock, which all threads of this process hold at once: guards the
        # descriptor and a change of head and slots that belongs together.
        self._threads = threading.Lock()
        self._fd = -1
        self._owner = 0
        self._last_stamp = 0.0

    def put(
        self, digest: bytes, size: int, received: ReceivedAt, *, most: int
    ) -> tuple[int, int, int] | None:
        """
        Enter or replace; (entries, bytes, entries allowed) after it, or None
        where the tier would hold more entries than it may, or more bytes than
        `most`.

        Asked and entered under one lock: of many processes with room for one,
        one finds it.  What grows is written to the head before the slot, so that
        a holder killed between the two leaves sums that are too large until they
        are counted anew, and never too small.

        Raises: SharedError if the file cannot be used, or is full.
        """
        (entered,), totals = self.put_all(((digest, size, received),), most=most)
        return totals if entered else None

    def put_all(
        self,
        lines: Sequence[tuple[bytes, int, ReceivedAt]],
        *,
        most: int,
        landing: Callable[[int, int], None] | None = None,
    ) -> tuple[list[bool], tuple[int, int, int]]:
        """
        As so many `put`, under one lock; which of them are entered, and the totals.

        Args:
            landing: Called under the lock for each that is entered, behind its entry,
                with its place in `lines` and the bytes of what it replaces, 0: nothing.

        Raises: as `put`, and what `landing` does; some of them may be entered then.
        """
        done: list[bool] = []
        with self._locked() as fd:
            entries, volume, allowed, changed = self._head(fd)
            told = entries, volume
            left = sum(size for _, size, _ in lines)
            for number, (digest, size, received) in enumerate(lines):
                at, old = self._find(fd, digest, free=True)
                before = 0 if old is None else old[1]
                fits = old is not None or entries < allowed
                fits = fits and volume - before + size <= most
                done.append(fits)
                if fits:
                    entries += old is None
                    if entries > told[0] or volume + size > told[1]:
                        # All that may follow, too: one write for them.
                        told = entries + len(lines) - number - 1, volume + left
                        self._write_head(fd, *told, allowed, changed)
                    pwrite(fd, self._line(digest, size, received), at)
                    volume += size - before
                    if landing is not None:
                        landing(number, before)
                left -= size
            if told != (entries, volume):
                self._write_head(fd, entries, volume, allowed, changed)
        return done, (entries, volume, allowed)

    def _line(self, digest: bytes, size: int, received: ReceivedAt) -> bytes:
        """The slot of what is entered now."""
        stamp = self._stamp()
        return _SLOT.pack(
            digest, size, received.boot, stamp, received.monotonic, received.wall,
            stamp, int(stamp / self._part), *([0] * PARTS),
        )  # fmt: skip

    # Hot path: one read, and one write where it is entered; 4 us.
    def touch(self, digest: bytes) -> int | None:
        """
        Mark a use; the entry's bytes, None if it is not entered.

        Without lock: of two at once, one may be lost.
        """
        fd = self._open()
        at, found = self._find(fd, digest)
        if found is None:
            return None
        part, *uses = found[7:]
        stamp = self._stamp()
        now = int(stamp / self._part)
        if now != part:
            # Parts that passed since are empty; the newest stands first.
            passed = min(PARTS, now - part) if now > part else PARTS
            uses = [0] * passed + uses[: PARTS - passed]
        uses[0] = min(_MOST_USES, uses[0] + 1)
        pwrite(fd, _USE.pack(stamp, now, *uses), at + _USE_AT)
        return found[1]

    def drop(self, digest: bytes) -> bool:
        """Strike out; True if it was there."""
        return self.drop_all((digest,)) == [True]

    def drop_all(
        self,
        digests: Sequence[bytes],
        *,
        stored: Sequence[float] | None = None,
        going: Callable[[bytes, int], None] | None = None,
    ) -> list[bool]:
        """
        Strike out these, under one lock; True for each that it has struck.

        Args:
            stored: Of each its `Line.stored`; what was entered anew since is left.
            going: Called under the lock for each that goes, before it does, with its
                digest and bytes.

        Raises: SharedError, and what `going` does.
        """
        gone: list[bool] = []
        with self._locked() as fd:
            entries, volume, allowed, changed = self._head(fd)
            for number, digest in enumerate(digests):
                at, old = self._find(fd, digest)
                goes = old is not None and (stored is None or old[3] == stored[number])
                gone.append(goes)
                if old is None or not goes:
                    continue
                if going is not None:
                    going(digest, old[1])
                pwrite(fd, _GONE, at)
                entries, volume = entries - 1, volume - old[1]
            if any(gone):
                # Behind all of them: too large until it is counted anew, never too small.
                self._write_head(fd, entries, volume, allowed, changed)
        return gone

    def has(self, digest: bytes) -> bool:
        """True if it is entered."""
        return self.size(digest) is not None

    def size(self, digest: bytes) -> int | None:
        """Its bytes, None if it is not entered."""
        found = self._find(self._open(), digest)[1]
        return None if found is None else found[1]

    def totals(self) -> tuple[int, int, int]:
        """(entries, bytes, entries allowed)."""
        return self._head(self._open())[:3]

    def first_to_leave(self, count: int, policy: str) -> list[Line]:
        """The next `count` by the policy."""
        return heapq.nsmallest(count, self.lines(MOST_SCANNED), key=order(policy))

    def lines(self, most: int = MOST_SLOTS) -> Iterator[Line]:
        """The entries; of more slots than `most`, those of a part of the file."""
        now = self._now_part()
        for raw, at in self._entered(most):
            found = _SLOT.unpack_from(raw, at)
            digest, size, born, stored, monotonic, wall, used, part, *uses = found
            inside = PARTS - max(0, now - part)
            yield Line(
                digest, size, stored, used, ReceivedAt(monotonic, wall, born),
                sum(uses[:inside]) if inside > 0 else 0,
            )  # fmt: skip

    def digests(self) -> Iterator[bytes]:
        """What is entered."""
        for raw, at in self._entered(MOST_SLOTS):
            yield raw[at : at + 16]

    def _entered(self, most: int) -> Iterator[tuple[bytes, int]]:
        """Slots of entries: bytes of the file, and where in them one begins."""
        fd = self._open()
        start = 0
        if self._slots > most:
            start = random.randrange(self._slots - most)
        step = 4096
        for first in range(start, min(self._slots, start + most), step):
            raw = pread(fd, step * _SLOT.size, _FIRST + first * _SLOT.size)
            # Hot path: no line of Python for a slot that was never used, in which the
            # time of entry is 0 and so its highest byte.
            marks = raw[_STORED_END - 1 :: _SLOT.size]
            for place in itertools.compress(itertools.count(), marks):
                at = place * _SLOT.size
                whole = len(raw) - at >= _SLOT.size
                if whole and raw[at : at + 16] not in (_FREE, _GONE):
                    yield raw, at

    def recount(self) -> tuple[int, int]:
        """
        Count anew and close the gaps of what was struck out; (entries, bytes).

        A holder killed between a slot and the head leaves the sums wrong until
        this is done, with each sweep.
        """
        if self._slots > 4 * MOST_SCANNED:
            return self.totals()[:2]
        with self._locked() as fd:
            raw = pread(fd, self._slots * _SLOT.size, _FIRST)
            entries = volume = gone = 0
            kept: list[bytes] = []
            for place in range(0, len(raw) - _SLOT.size + 1, _SLOT.size):
                digest = raw[place : place + 16]
                if digest == _FREE:
                    continue
                if digest == _GONE:
                    gone += 1
                    continue
                entries += 1
                volume += int.from_bytes(raw[place + 16 : place + 20], "little")
                kept.append(raw[place : place + _SLOT.size])
            _, _, allowed, changed = self._head(fd)
            if gone > self._slots // 8:
                # In one write: whoever is killed here, or looks meanwhile, has nearly all.
                pwrite(fd, self._closed_up(kept), _FIRST)
            self._write_head(fd, entries, volume, allowed, changed)
        return entries, volume

    def _closed_up(self, kept: Sequence[bytes]) -> bytearray:
        """All slots, with these at the first free place that a search comes to."""
        image, width = bytearray(self._slots * _SLOT.size), _SLOT.size
        for slot in kept:
            place = int.from_bytes(slot[:8], "little") & (self._slots - 1)
            while image[place * width : place * width + 16] != _FREE:
                place = (place + 1) & (self._slots - 1)
            image[place * width : (place + 1) * width] = slot
        return image

    def allow(self, change: Callable[[int, float], int | None]) -> int:
        """
        Change how many entries are allowed: `change(allowed, changed at)` says
        the new number, or None to leave it.  Returns what holds.
        """
        with self._locked() as fd:
            entries, volume, allowed, changed = self._head(fd)
            new = change(allowed, changed)
            if new is None:
                return allowed
            new = min(new, self._slots * 3 // 4)
            self._write_head(fd, entries, volume, new, self._clock.monotonic())
            return new

    def clear(self) -> None:
        """Strike out everything."""
        with self._locked() as fd:
            os.ftruncate(fd, 0)
            self._lay_out(fd)

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        if self._fd >= 0 and self._owner == os.getpid():
            os.close(self._fd)
        self._fd = -1

    def _find(
        self, fd: int, digest: bytes, *, free: bool = False
    ) -> tuple[int, tuple[int, ...] | None]:
        """
        (offset, slot) of the digest; slot None: not there, and with `free` the
        offset of where it can stand.
        """
        mask = self._slots - 1
        place = int.from_bytes(digest[:8], "little") & mask
        empty = -1
        for _ in range(0, self._slots + _CHUNK, _CHUNK):
            count = min(_CHUNK, self._slots - place)
            start = _FIRST + place * _SLOT.size
            raw = pread(fd, count * _SLOT.size, start)
            for offset in range(0, len(raw) - _SLOT.size + 1, _SLOT.size):
                found = raw[offset : offset + 16]
                if found == digest:
                    return start + offset, _SLOT.unpack_from(raw, offset)
                if found == _FREE:
                    return (empty if empty >= 0 else start + offset), None
                if found == _GONE and empty < 0:
                    empty = start + offset
            place = (place + count) & mask
        if free and empty < 0:
            raise SharedError(f"{self._path}: full")
        return empty, None

    def _head(self, fd: int) -> tuple[int, int, int, float]:
        raw = pread(fd, _HEAD.size, 0)
        if len(raw) == _HEAD.size:
            mark, slots, entries, volume, allowed, changed = _HEAD.unpack(raw)
            if mark == _MARK and slots == self._slots:
                return max(0, entries), max(0, volume), allowed, changed
        raise SharedError(f"{self._path}: no ledger")

    def _write_head(
        self, fd: int, entries: int, volume: int, allowed: int, changed: float
    ) -> None:
        pwrite(fd, _HEAD.pack(_MARK, self._slots, entries, volume, allowed, changed), 0)

    def _lay_out(self, fd: int) -> None:
        os.ftruncate(fd, _FIRST + self._slots * _SLOT.size)
        self._write_head(fd, 0, 0, self._entries, self._clock.monotonic())

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The descriptor under its lock, for this thread of this process alone."""
        with self._threads:
            fd = self._open()
            if not lock_within(fd, self._patience, self._clock):
                raise SharedError(f"{self._path}: its holder does not move")
            try:
                yield fd
            finally:
                unlock(fd)

    def _open(self) -> int:
        pid = os.getpid()
        if self._fd >= 0 and self._owner == pid:
            return self._fd
        if self._guest and not self._path.exists():
            raise SharedError(f"{self._path}: no ledger")
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = open_private(self._path)
        try:
            if not lock_within(fd, self._patience, self._clock):
                raise SharedError(f"{self._path}: its holder does not move")
            try:
                if self._guest:
                    self._adopt(fd)
                else:
                    self._prepare(fd)
            finally:
                unlock(fd)
        except OSError as failure:
            os.close(fd)
            raise SharedError(f"{self._path}: {failure.strerror}") from failure
        except SharedError:
            os.close(fd)
            raise
        self._fd, self._owner = fd, pid
        return fd

    def _prepare(self, fd: int) -> None:
        """A file that fits these settings; one that does not begins anew."""
        if os.fstat(fd).st_size == _FIRST + self._slots * _SLOT.size:
            try:
                self._head(fd)
                return
            except SharedError:
                pass
        os.ftruncate(fd, 0)
        self._lay_out(fd)

    def _adopt(self, fd: int) -> None:
        """Go by the settings the file was laid out for."""
        slots = (os.fstat(fd).st_size - _FIRST) // _SLOT.size
        if slots > 0:
            self._slots = slots
        self._head(fd)

    def _now_part(self) -> int:
        return int(self._clock.wall_ms() / 1000 / self._part)

    def _stamp(self) -> float:
        # Strictly rising within a process, whatever the clock does: the order
        # of two uses must not depend on its resolution.
        self._last_stamp = max(
            self._clock.wall_ms() / 1000, self._last_stamp + 0.000_001
        )
        return self._last_stamp
