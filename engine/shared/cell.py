"""
Cell: a few numbers in a small file that many processes change.

Owns the file's shape (mark, check sum, boot, numbers) and what happens when it
is gone, cut, filled with garbage, somebody else's, or cannot be written.  Never
maps the file: a mapping of a truncated file, or on a full tmpfs, kills the
process; reading and writing only fail.  That a file has changed is said in memory
without a name (GATE mmap), which what was forked from one process shares: who looks reads the
file only where there is something new.  Never waits longer than told.

Under the limiter and the breaker; above `lock`.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from collections.abc import Callable, Sequence
from hashlib import blake2b
from os import pread, pwrite
from pathlib import Path
from threading import Lock
from typing import TypeAlias, TypeVar
from zlib import crc32

from engine.clock import SYSTEM, Clock
from engine.errors import SharedError
from engine.shared.lock import (
    FREE,
    TAKE,
    flock,
    lock_within,
    open_private,
    try_lock,
    unlock,
)

#: Seconds between two looks whether the file still stands in its directory.
RENEWAL = 0.1

#: Seconds for which a file whose holder is stopped is left alone.
REST = 1.0

#: Places for changes in memory; cells that share one read once too often.
PLACES = 512

#: Seconds that a file which failed before is waited for.
SHORT_PATIENCE = 0.02

#: Where the name and anything longer than the numbers stand in the file.
TEXT_AT = 512
TAIL_AT = 1024

#: The numbers: () before the first write, None if they cannot be believed.
Numbers: TypeAlias = Sequence[float] | None

#: New numbers (None: leave them), bytes to write behind them (or None) at an
#: offset, and what the caller gets.
Answer = TypeVar("Answer")
Given = TypeVar("Given")
Change: TypeAlias = tuple[Sequence[float] | None, tuple[int, bytes] | None, Answer]

#: A record is a check sum over all that follows it, a tag of eight bytes (the
#: kind, and four of the boot), and the numbers.
_CHECK = struct.Struct("<I")
_MOVED = b"gone" * 8
_TEXT = struct.Struct("<H")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# How often the cells of a place have changed.  Made before any fork, so that all
# tasks of an engine see each other's changes at once; whoever does not share it
# sees them at the next renewal.  No lock: it is written under the file's, and a
# writer killed before it is as one that does not share it.
_CHANGES = memoryview(mmap.mmap(-1, 8 * PLACES)).cast("Q")


def boot() -> bytes:
    """Four bytes that change when the machine, and with it the clock, restarts."""
    try:
        text = _BOOT_ID.read_bytes()
    except OSError:
        text = b""
    return blake2b(text, digest_size=4).digest()


def file_name(kind: str, key: str) -> str:
    """A file name for any text: readable where it can be, and always distinct."""
    plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in key[:40])
    return f"{kind}-{plain}-{blake2b(key.encode(), digest_size=6).hexdigest()}"


class Cell:
    """
    Named before the fork; opened at first use, anew in every process.

    Args:
        name: The file's name.
        directories: Where it may stand: the first that can hold it.  One that
            already stands in a later directory is used there, so that all
            processes agree.
        kind: Four bytes that tell the meaning and version of the numbers.
        count: How many numbers.
        text: Written once beside them, at most 500 bytes, for people.
        size: Bytes reserved for the file, at least 1024.
        patience: Seconds to wait for another holder.
    """

    def __init__(
        self,
        name: str,
        directories: Sequence[Path],
        *,
        kind: bytes,
        count: int,
        text: str = "",
        size: int = TAIL_AT,
        patience: float = 1.0,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self._paths = [directory / name for directory in directories]
        self._kind = kind
        self._text = text.encode()[:500]
        self._size = size
        self._patience = patience
        self._monotonic = clock.monotonic
        self._clock = clock
        # The file's lock is one for the whole process, so this one keeps its threads apart. It
        # guards every field below: without it a thread would take the numbers that another one
        # has just written for those that it has read. `peek` does without, since `_seen` is one
        # tuple that is replaced whole.
        self._threads = Lock()
        self._record = struct.Struct(f"<8s{count}d")
        self._whole = struct.Struct(f"<I8s{count}d")
        self._length = _CHECK.size + self._record.size
        self._tag = kind + boot()
        self._fd = -1
        self._owner = 0
        self._look_at = 0.0
        self._rest_until = 0.0
        self._sour = False
        self._wrote = b""
        self._known: Numbers = ()
        self._place = crc32(name.encode()) % PLACES
        #: What was read last, and the changes of the place before it was.
        self._seen: tuple[int, Numbers] = (-1, None)

    def update(
        self, step: Callable[[Numbers, float, int, Given], Change[Answer]], given: Given
    ) -> Answer:
        """
        Read, let `step(numbers, now, fd, given)` decide, write.

        The numbers are written before the tail: a holder killed between them
        leaves a tail one step behind, never one ahead.

        Raises: SharedError if the file cannot be used now.
        Blocks: at most the patience; while the file is known to be stuck, 20 ms.
        """
        # Hot path: written out flat; 4 system calls, and 2 us around them.
        with self._threads:
            now = self._monotonic()
            fd = self._fd
            try:
                try:
                    if now >= self._look_at:
                        fd = self._locked()
                    else:
                        flock(fd, TAKE)
                except BlockingIOError:
                    fd = self._locked()
                    now = self._monotonic()
                try:
                    changes = _CHANGES[self._place]
                    raw = pread(fd, self._length, 0)
                    # What we wrote ourselves last needs no reading.
                    numbers = self._known if raw == self._wrote else self._parse(raw)
                    if numbers is not None or not raw.startswith(_MOVED):
                        new, tail, answer = step(numbers, now, fd, given)
                        if new is not None:
                            body = self._record.pack(self._tag, *new)
                            self._wrote = raw = _CHECK.pack(crc32(body)) + body
                            self._known = new
                            pwrite(fd, raw, 0)
                            changes += 1
                            _CHANGES[self._place] = changes
                            if tail is not None:
                                pwrite(fd, tail[1], tail[0])
                            numbers = new
                        if numbers is not None:
                            self._seen = changes, numbers
                        return answer
                finally:
                    flock(fd, FREE)
            except OSError as failure:
                self._drop()
                raise SharedError(f"{self.name}: {failure.strerror}") from failure
            self._look_at = 0.0
        # Deleted, and somebody took the numbers along: follow.
        return self.update(step, given)

    def peek(self) -> Numbers:
        """
        The numbers without the lock; None also where a writer is just at it.

        Raises: SharedError if the file cannot be opened.  Blocks: never, but
        for opening.
        """
        if self._monotonic() >= self._look_at:
            return self.update(_nothing, None)
        # Hot path: a page looks at its host's demands and breaker four times, and
        # each call to the system lets another thread take the interpreter.
        changes = _CHANGES[self._place]
        seen, numbers = self._seen
        if seen == changes:
            return numbers
        try:
            numbers = self._parse(pread(self._fd, self._length, 0))
            if numbers is not None:
                self._seen = changes, numbers
            return numbers
        except OSError as failure:
            raise SharedError(f"{self.name}: {failure.strerror}") from failure

    def fileno(self) -> int:
        """The open file, for reading beyond the numbers; -1 before the first use."""
        return self._fd

    def reserve(self, fd: int, size: int) -> None:
        """Within a step: room for `size` bytes; raises OSError where there is none."""
        if size > self._size:
            os.posix_fallocate(fd, 0, size)
            self._size = size

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        with self._threads:
            self._drop()

    def _locked(self) -> int:
        # The loop ends: each turn either returns, raises, or has a new file.
        for _ in range(8):
            if self._fd < 0 or self._owner != os.getpid():
                self._fd = -1
                self._fd = self._open()
                self._owner = os.getpid()
                self._look_at = 0.0
            fd = self._fd
            self._wait(fd)
            now = self._monotonic()
            if now < self._look_at:
                return fd
            if os.fstat(fd).st_nlink > 0:
                self._look_at = now + RENEWAL
                self._sour = False
                return fd
            # Deleted under us.  Whoever notices first takes the numbers along
            # and marks the old file, so that all who still have it open follow
            # at their next look instead of counting beside us.
            self._move(fd)
        raise SharedError(f"{self.name}: its file does not stay")

    def _wait(self, fd: int) -> None:
        if try_lock(fd):
            return
        if self._monotonic() < self._rest_until:
            raise SharedError(f"{self.name}: its holder does not move")
        patience = SHORT_PATIENCE if self._sour else self._patience
        if not lock_within(fd, patience, self._clock):
            self._sour = True
            self._rest_until = self._monotonic() + REST
            raise SharedError(f"{self.name}: its holder does not move")
        self._sour = False

    def _move(self, fd: int) -> None:
        old = os.pread(fd, self._size, 0)
        os.pwrite(fd, _MOVED, 0)
        unlock(fd)
        os.close(fd)
        self._fd = -1
        if old.startswith(_MOVED):
            return
        new = self._open()
        self._fd, self._owner = new, os.getpid()
        if lock_within(new, SHORT_PATIENCE, self._clock):
            if not self._parse(os.pread(new, self._length, 0)):
                os.pwrite(new, old, 0)
            unlock(new)

    def _open(self) -> int:
        *_, last = self._paths
        for path in self._paths:
            # Where one process could not write into the first directory all
            # follow it into the next.
            if path is not last and any(
                later.exists() for later in self._paths[self._paths.index(path) + 1 :]
            ):
                continue
            try:
                return self._open_at(path)
            except (OSError, SharedError):
                if path is last:
                    raise
        raise SharedError(f"{self.name}: no directory")

    def _open_at(self, path: Path) -> int:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _clear_the_way(path)
        fd = open_private(path)
        try:
            # A file of its size is laid out already; who holds its lock then
            # is found out, and waited for, by the first change.
            if os.fstat(fd).st_size < self._size:
                if not lock_within(fd, self._patience, self._clock):
                    raise SharedError(f"{self.name}: its holder does not move")
                try:
                    if os.fstat(fd).st_size < self._size:
                        self._lay_out(fd, path)
                finally:
                    unlock(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _lay_out(self, fd: int, path: Path) -> None:
        fresh = os.fstat(fd).st_size == 0
        try:
            os.posix_fallocate(fd, 0, self._size)
            if self._text:
                os.pwrite(fd, _TEXT.pack(len(self._text)) + self._text, TEXT_AT)
        except OSError:
            if fresh:
                path.unlink(missing_ok=True)
            raise

    def _parse(self, raw: bytes) -> Numbers:
        if len(raw) == self._length:
            check, tag, *numbers = self._whole.unpack(raw)
            if tag == self._tag and check == crc32(raw[4:]):
                return numbers
        return self._doubt(raw)

    def _doubt(self, raw: bytes) -> Numbers:
        # Of another boot, or never written: as new.  Anything else: garbage.
        kind, sum_ = self._tag[:4], _CHECK.pack(crc32(raw[4:]))
        if len(raw) == self._length and raw[:4] == sum_ and raw[4:8] == kind:
            return ()
        return None if not raw or any(raw) else ()

    def _drop(self) -> None:
        if self._fd >= 0 and self._owner == os.getpid():
            os.close(self._fd)
        self._fd = -1
        self._look_at = 0.0
        self._wrote = b""


def _nothing(numbers: Numbers, _now: float, _fd: int, _given: None) -> Change[Numbers]:
    return None, None, numbers


def _clear_the_way(path: Path) -> None:
    """Remove what is no regular file of ours; the directory is ours alone."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
        return
    names = (path.with_name(f"{path.name}.bad{n or ''}") for n in range(100))
    aside = next((name for name in names if not os.path.lexists(name)), path)
    try:
        path.rename(aside)
    except OSError as failure:
        raise SharedError(f"{path}: not ours: {failure.strerror}") from failure
