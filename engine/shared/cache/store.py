"""
Store: bytes by key in one directory, for all processes, in bounded time.

Owns the SQLite file behind `diskcache` (GATE) and everything that can be wrong
with it: no pickle is ever written or read, no row names a file, every value carries
a check sum over itself and its key.  Large values that are written together lie
beside the database (`cache.packs`).  Any failure is a miss; several in a row, and it
rests.  Never blocks longer than told, neither when it is opened nor later.

Named before the fork, opened in each process after it.  Under the tiers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from select import select
from typing import Any, Literal, NoReturn, TypeAlias, TypeVar

import diskcache
from diskcache.core import MODE_RAW

from engine.clock import SYSTEM, Clock
from engine.errors import SharedError
from engine.shared.cache import rows
from engine.shared.cache.packs import LARGEST, PACKED, Packs, Parts, size_of
from engine.shared.lock import FileLock

log = logging.getLogger(__name__)

#: Failures in a row after which the store rests, and seconds for how long.
FAILURES = 3
REST = 60.0

#: Seconds between two looks whether another process still writes.
LOOK = (0.0002, 0.001)

#: What SQLite says of a file that is none, or no longer whole.
CORRUPT = ("malformed", "not a database", "corrupt", "no such table", "no such column")

Answer = TypeVar("Answer")
Call: TypeAlias = Callable[[diskcache.Cache], Answer]


class Unsafe(Exception):
    """The database holds what this program never writes."""


class SafeDisk(diskcache.Disk):  # type: ignore[misc]
    """
    Keys are text and values bytes inside the database, nothing else.

    The library's own class runs pickles, and reads and removes any file that
    a row names; here a row that is not as written is refused before it is
    looked at.
    """

    def hash(self, key: object) -> int:
        raise Unsafe("keys are not hashed here")

    def put(self, key: object) -> tuple[str, Literal[True]]:
        if type(key) is not str:
            raise Unsafe("a key is text")
        return key, True

    def get(self, key: object, raw: object) -> str:
        if not raw or type(key) is not str:
            raise Unsafe("a key is text")
        return key

    def store(
        self, value: object, read: object, key: object = None
    ) -> tuple[int, int, None, sqlite3.Binary]:
        if type(value) is not bytes or read:
            raise Unsafe("a value is bytes")
        return 0, MODE_RAW, None, sqlite3.Binary(value)

    def filename(self, key: object = None, value: object = None) -> NoReturn:
        raise Unsafe("no row names a file")

    def fetch(
        self, mode: object, filename: object, value: object, read: object
    ) -> bytes:
        if mode != MODE_RAW or filename is not None or read or type(value) is not bytes:
            raise Unsafe("a value is bytes in its row")
        return value

    def remove(self, file_path: object) -> None:
        """Removes nothing: no file belongs to a row."""


#: All of them stated: those in the database would override the library's.
SETTINGS: dict[str, Any] = {
    "statistics": 0,
    "tag_index": 0,
    # Reads stay reads; which entry leaves is the tiers' to say.
    "eviction_policy": "none",
    "size_limit": 2**62,
    "cull_limit": 0,
    "sqlite_auto_vacuum": 1,
    "sqlite_cache_size": 2048,
    "sqlite_journal_mode": "wal",
    # A mapping of a file that is cut under it kills the process.
    "sqlite_mmap_size": 0,
    "disk_min_file_size": 2**62,
    "disk_pickle_protocol": 0,
}


class Store:
    """
    One SQLite file, used by many processes.

    Args:
        directory: Its own directory, made with mode 0700.
        durable: Survives the machine's crash (disk), or need not (memory).
        patience: Seconds for any one call.
        opening: Seconds for opening; without it the store rests.
        rest: Seconds of rest after `FAILURES` failures.
    """

    def __init__(
        self,
        directory: Path,
        *,
        durable: bool = False,
        patience: float = 0.25,
        opening: float = 2.0,
        rest: float = REST,
        clock: Clock = SYSTEM,
    ) -> None:
        self.directory = directory
        #: Calls that failed, and values that were not what was written, in this
        #: process.
        self.failures = 0
        self.corrupt_values = 0
        self._durable = durable
        self._patience = patience
        self._opening = opening
        self._rest = rest
        self._monotonic = clock.monotonic
        self._clock = clock
        self._cache: diskcache.Cache | None = None
        self._owner = 0
        self._inode = 0
        self._in_a_row = 0
        self._rests_until = 0.0
        # Held while the file is opened and not while it is used: of the threads that find it
        # closed, or opened by the parent before a fork, one opens it and the others take what it
        # opened.
        self._threads = threading.Lock()
        self._packs = Packs(directory / "packs", clock=clock)

    def get(self, key: str) -> memoryview | None:
        """
        The value, or None; a value that is not as written is dropped.

        A view, since a copy of a page costs more than finding it.
        """
        value: bytes | None = self._try(lambda cache: cache.get(key, retry=False))
        if value is None:
            return None
        body = memoryview(value)[rows.SUM.size :]
        if len(value) == rows.PLACE.size and rows.SUM.unpack_from(value)[1] >= PACKED:
            packed = self._packed(value)
            if packed is None:
                return None
            body = packed
        if value.startswith(rows.summed(key, body)):
            return body
        self.corrupt_values += 1
        log.warning("A cached value in %s was damaged; dropped.", self.directory)
        self.delete(key)
        return None

    def set(self, key: str, value: Parts, expire: float) -> bool:
        """
        True if the value is kept, for `expire` seconds at most.

        Values above 8 MiB are not.
        """
        if size_of(value) > LARGEST:
            return False
        whole = rows.whole(key, value)
        kept = self._try(
            lambda cache: cache.set(key, whole, expire=expire, retry=False)
        )
        return bool(kept)

    def set_all(
        self,
        entries: Sequence[tuple[str, Parts, float]],
        most: int,
        patience: float = 0.0,
    ) -> bool:
        """
        True if all of these are kept (key, value, seconds at most), in one transaction.

        What is large goes into a pack.  Database and packs take `most` bytes; others that
        write are waited for for `patience` seconds, if that is longer than usual.
        """
        found: dict[str, bytes] = {}
        large = [each for each in entries if PACKED <= size_of(each[1]) <= LARGEST]
        packed = None
        if large:
            values = [value for _, value, _ in large]
            packed = self._try(lambda _: self._pack(values, most))
        if packed is not None:
            number, places = packed
            for (key, value, _), at in zip(large, places, strict=True):
                found[key] = rows.placed(key, value, number, at)

        def enter(cache: diskcache.Cache) -> bool:
            # The library's time: by it a row is past its own.
            now = SYSTEM.wall_ms() / 1000
            values = [
                (
                    key,
                    now,
                    now + expire,
                    now,
                    MODE_RAW,
                    found.get(key) or rows.whole(key, value),
                )
                for key, value, expire in entries
            ]
            with cache.transact(retry=False):
                cache._con.executemany(rows.ENTER, values)
            return True

        kept = bool(self._try(enter, patience))
        if packed is not None:
            self._sweep()
        return kept

    def delete(self, key: str) -> bool:
        """True if the key is no longer there."""
        return self.delete_all((key,))

    def delete_all(self, keys: Sequence[str]) -> bool:
        """True if these keys are no longer there."""

        def drop(cache: diskcache.Cache) -> bool:
            if len(keys) == 1:
                cache.delete(keys[0], retry=False)
                return True
            with cache.transact(retry=False):
                for key in keys:
                    cache.delete(key, retry=False)
            return True

        return bool(self._try(drop))

    def expire(self) -> int:
        """Drop what is past its time, and packs without a row; how many rows."""
        gone = self._try(lambda cache: cache.expire(retry=False))
        self._sweep()
        return gone or 0

    def clear(self) -> bool:
        """Drop everything."""

        def drop(cache: diskcache.Cache) -> bool:
            cache.clear(retry=False)
            self._packs.clear()
            return True

        return bool(self._try(drop))

    def count(self) -> int | None:
        """Values in the database, None if it cannot be asked."""
        return self._try(len)

    def refresh(self) -> None:
        """Look whether another process put the database aside; cheap."""
        if self._cache is None or self._owner != os.getpid():
            return
        try:
            now = (self.directory / "cache.db").stat().st_ino
        except OSError:
            now = 0
        if now != self._inode:
            self.close()

    def available(self) -> bool:
        """True unless it rests; does not open."""
        return self._monotonic() >= self._rests_until

    def close(self) -> None:
        """Close this thread's connection; a later use opens again."""
        cache, self._cache = self._cache, None
        if cache is not None and self._owner == os.getpid():
            with contextlib.suppress(Exception):
                cache.close()

    def quarantine(self) -> bool:
        """
        Put the database aside and begin a new one at the next use.

        One of them is kept, for whoever wants to know.  Safe among processes:
        only the first that asks does it.
        """
        found = self._inode
        self.close()
        try:
            with FileLock(
                self.directory.with_name(f"{self.directory.name}.quarantine"),
                patience=self._patience,
                clock=self._clock,
            ):
                return self._put_aside(found)
        except (OSError, SharedError) as failure:
            log.warning("%s could not be put aside: %s.", self.directory, failure)
            return False

    def _put_aside(self, found: int) -> bool:
        try:
            now = (self.directory / "cache.db").stat().st_ino
        except OSError:
            now = 0
        if found and now != found:
            return True
        stamp = self._clock.wall_ms()
        name = self.directory.name
        for old in self.directory.parent.glob(f"{name}.bad-*"):
            _remove(old)
        try:
            self.directory.rename(self.directory.with_name(f"{name}.bad-{stamp}"))
        except FileNotFoundError:
            return True
        log.warning("The cache in %s was damaged; put aside.", self.directory)
        return True

    def _pack(
        self, values: Sequence[Parts], most: int
    ) -> tuple[int, Sequence[int]] | None:
        taken = (self.directory / "cache.db").stat().st_size
        return self._packs.write(values, most - taken)

    def _packed(self, row: bytes) -> memoryview | None:
        """What a row's place holds; None where its pack is gone."""
        _, size, number, at = rows.PLACE.unpack(row)
        if size > LARGEST:
            return memoryview(b"")
        found = self._try(lambda _: self._packs.read(number, at, size))
        return None if found is None else memoryview(found)

    def _sweep(self) -> None:
        """Remove packs that no row speaks of."""
        places = "SELECT value FROM Cache WHERE length(value) = ?"

        def known() -> set[int]:
            cache = self._cache
            assert cache is not None
            found = cache._sql(places, (rows.PLACE.size,)).fetchall()
            return {
                rows.PLACE.unpack(row)[2] for (row,) in found if isinstance(row, bytes)
            }

        self._try(lambda _: self._packs.sweep(known))

    def _try(self, call: Call[Answer], patience: float = 0.0) -> Answer | None:
        """The call's answer, or None: no failure of a cache is anybody's."""
        if self._monotonic() < self._rests_until:
            return None
        try:
            cache = self._cache
            if cache is None or self._owner != os.getpid():
                cache = self._open()
            answer = self._in_turn(cache, call, max(patience, self._patience))
        except Exception as failure:  # noqa: BLE001 - whatever it is: a miss
            self._failed(failure)
            return None
        self._in_a_row = 0
        return answer

    def _in_turn(
        self, cache: diskcache.Cache, call: Call[Answer], patience: float
    ) -> Answer:
        """The call's answer once nobody else writes; real time, as SQLite's is."""
        # SQLite's own waiting grows to 25 ms a look and lets newcomers pass; a writer is
        # done in 0.1 ms.
        until = 0.0
        while True:
            try:
                return call(cache)
            except diskcache.Timeout:
                now = SYSTEM.monotonic()
                until = until or now + patience
                if now >= until:
                    raise
                select((), (), (), random.uniform(*LOOK))

    def _failed(self, failure: Exception) -> None:
        self.failures += 1
        if isinstance(failure, Unsafe) or "decode to UTF-8" in str(failure):
            # A foreign row: the others may be good.
            self.corrupt_values += 1
            log.warning("%s: %s; not read.", self.directory, failure)
            return
        self._in_a_row += 1
        text = str(failure)
        damaged = isinstance(failure, sqlite3.DatabaseError) and any(
            word in text for word in CORRUPT
        )
        if damaged and self._in_a_row < FAILURES:
            self.quarantine()
            return
        if self._in_a_row >= FAILURES or isinstance(failure, SharedError):
            self._rests_until = self._monotonic() + self._rest
            self._in_a_row = 0
            self.close()
            log.warning(
                "The cache in %s is left alone for %.0f s: %s.",
                self.directory,
                self._rest,
                text or type(failure).__name__,
            )

    def _open(self) -> diskcache.Cache:
        """
        Open in a thread of its own: the library tries for 60 s on a lock.

        Raises: SharedError.  Blocks: at most `opening` seconds.
        """
        with self._threads:
            if self._cache is not None and self._owner == os.getpid():
                return self._cache
            self._prepare()
            result: list[diskcache.Cache | Exception] = []
            given_up = threading.Event()

            def work() -> None:
                try:
                    cache = diskcache.Cache(
                        str(self.directory),
                        timeout=0,
                        disk=SafeDisk,
                        **SETTINGS,
                        sqlite_synchronous=1 if self._durable else 0,
                    )
                    cache.close()
                    # An opening that took longer has nobody to use it.
                    if not given_up.is_set():
                        result.append(cache)
                except Exception as failure:  # noqa: BLE001 - handed over
                    result.append(failure)

            thread = threading.Thread(target=work, name="cache-open", daemon=True)
            thread.start()
            thread.join(self._opening)
            if not result:
                given_up.set()
                raise SharedError(f"it did not open within {self._opening} s")
            found = result[0]
            if isinstance(found, Exception):
                raise found
            with contextlib.suppress(OSError):
                self._inode = (self.directory / "cache.db").stat().st_ino
            self._cache, self._owner = found, os.getpid()
            return found

    def _prepare(self) -> None:
        """A directory that is ours alone; anything else is put aside."""
        parent = self.directory.parent
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (self.directory, self.directory / "cache.db"):
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            kind = stat.S_ISDIR if path is self.directory else stat.S_ISREG
            if not kind(found.st_mode) or found.st_uid != os.geteuid():
                self._inode = 0
                if not self.quarantine() or path.exists():
                    raise SharedError(f"{path} is not ours")
        self.directory.mkdir(mode=0o700, exist_ok=True)
        if stat.S_IMODE(self.directory.stat().st_mode) != 0o700:
            self.directory.chmod(0o700)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
