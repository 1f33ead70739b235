"""
State file: a connector's offsets in a directory, one file for each partition.

Path: `sink.state` says what is kept -> here -> a disk
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.clock import SYSTEM, Clock
from engine.errors import Doubtful, SinkError, StateError
from engine.later import later
from engine.records import Offset
from engine.sink.reading import Progress
from engine.sink.seams import Failure, Sending
from engine.sink.state import Counter, Saved, canonical, key_of, parse

if TYPE_CHECKING:
    from concurrent import futures
else:
    futures = later("concurrent.futures")

#: Seconds between two attempts to write what the disk does not take.
AGAIN = 1.0

#: Bytes of a file that is written to see whether files can be.
BLOCK = 4096

#: Files that are read before it is said how many.
TOLD_EVERY = 1000


class FileState:
    """
    Offsets in a directory, one file for each source partition.

    A file is a checksum and a line of JSON, the same key and value as in a
    topic.  It is replaced whole, and the version before stays beside it.
    """

    def __init__(
        self,
        directory: Path,
        connector: str,
        *,
        once: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        """
        Args:
            once: As `TopicState`.
        """
        self._directory = directory
        self._connector = connector
        self._counter = Counter(clock, once)
        self._writer: futures.ThreadPoolExecutor | None = None
        #: Path -> the text in it that we read or wrote last; else there is no file.
        self._left: dict[Path, bytes] = {}
        self._rival = ""

    def load(self, progress: Progress = lambda done, total: None) -> dict[str, Saved]:
        """As `State`; makes the directory where it is missing."""
        with self._naming():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self._found(progress)
        self._counter.loaded(found)
        return found

    def read(self) -> dict[str, Saved]:
        """As `State`."""
        return self._found(lambda done, total: None)

    def _found(self, progress: Progress) -> dict[str, Saved]:
        return {
            canonical(partition): parse(partition, value, str(path))
            for path, partition, value in self._files(progress)
        }

    def known(self) -> list[dict[str, str]]:
        """As `State`, but a file whose checksum is wrong may be anybody's."""
        return [partition for _, partition, _ in self._files(lambda done, total: None)]

    def _files(
        self, progress: Progress
    ) -> Iterator[tuple[Path, dict[str, str], bytes]]:
        """Path, partition and value of each of our files."""
        with self._naming():
            paths = sorted(self._directory.glob("*.offset"))
        for done, path in enumerate(paths, 1):
            with self._naming():
                text = path.read_bytes()
            connector, partition, value = _unpacked(path, text)
            if connector == self._connector:
                self._left[path] = text.rstrip(b"\n").partition(b" ")[2]
                yield path, partition, value
            if done % TOLD_EVERY == 0 or done == len(paths):
                progress(done, len(paths))

    def reset(self, partitions: Sequence[Mapping[str, str]]) -> None:
        """As `State`."""
        with self._naming():
            for partition in partitions:
                path = self._path(partition)
                if path.exists():
                    os.replace(path, path.with_suffix(".before"))
                self._left.pop(path, None)
            _sync(self._directory)

    def put(self, entries: Sequence[tuple[Mapping[str, str], Offset | None]]) -> None:
        """As `State`."""
        with self._naming():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self._found(lambda done, total: None)
        for partition, offset in entries:
            if offset is None:
                self.reset([partition])
                continue
            known = found.get(canonical(partition))
            seq = 0 if known is None else known.seq
            self._write(partition, self._counter.set_value(seq, offset))

    def save(
        self,
        delivery: Sending,
        partition: Mapping[str, str],
        offset: Offset,
        done: Callable[[Failure], None],
    ) -> None:
        """As `seams.Saver`; by a thread of its own, since a disk is slow."""
        value = self._counter.next_value(partition, offset)
        self._submit(delivery, partial(self._write, partition, value), done)

    def forget(
        self,
        delivery: Sending,
        partition: Mapping[str, str],
        done: Callable[[Failure], None],
    ) -> None:
        """As `seams.Saver`; neither the file nor the version before it stays."""
        self._counter.forgotten(partition)
        self._submit(delivery, partial(self._remove, partition), done)

    def able(self) -> str:
        """As `State`: a file like those of offsets is written and removed."""
        probe = self._directory / "probe.new"
        try:
            with self._naming():
                _put(probe, bytes(BLOCK))
        except Doubtful as error:
            return str(error)
        finally:
            with suppress(OSError):
                probe.unlink()
        return ""

    def own(
        self,
        partitions: Iterable[Mapping[str, str]],
        generation: int | None = None,
    ) -> None:
        """As `State`; each write looks whether the file is as it was left."""

    def rival(self) -> str:
        """As `State`."""
        found, self._rival = self._rival, ""
        return found

    def _submit(
        self,
        delivery: Sending,
        work: Callable[[], None],
        done: Callable[[Failure], None],
    ) -> None:
        if self._writer is None:
            # Made by the process that uses it: a thread does not survive a fork.
            self._writer = futures.ThreadPoolExecutor(1, "state")
        ended = self._writer.submit(self._insist, delivery, work)
        ended.add_done_callback(lambda ended: done(_failure(ended.exception())))

    def _insist(self, delivery: Sending, work: Callable[[], None]) -> None:
        """
        Write, again and again while the disk does not take it.

        Meanwhile nothing more is delivered: what has no state would be delivered
        again by the next start.
        """
        held = False
        while True:
            try:
                work()
            except Doubtful as error:
                held = True
                if not delivery.hold(str(error), AGAIN):
                    raise
            else:
                if held:
                    delivery.free()
                return

    def _remove(self, partition: Mapping[str, str]) -> None:
        path = self._path(partition)
        with self._naming():
            for each in (path, path.with_suffix(".before")):
                each.unlink(missing_ok=True)
            self._left.pop(path, None)
            _sync(self._directory)

    def _write(self, partition: Mapping[str, str], value: bytes) -> None:
        text = key_of(self._connector, partition)[:-1] + b"," + value + b"]"
        path = self._path(partition)
        fresh, before = path.with_suffix(".new"), path.with_suffix(".before")
        with self._naming():
            self._look(path)
            _put(fresh, b"%08x %b\n" % (zlib.crc32(text), text))
            # The version before is linked first, so that at no moment is there none.
            with suppress(FileNotFoundError):
                before.unlink()
            with suppress(FileNotFoundError):
                os.link(path, before)
            os.replace(fresh, path)
            self._left[path] = text
            _sync(self._directory)

    def _look(self, path: Path) -> None:
        """Whether the file is as this process left it."""
        left = self._left.get(path, b"")
        try:
            _, _, text = path.read_bytes().rstrip(b"\n").partition(b" ")
        except FileNotFoundError:
            return
        if text != left:
            self._rival = (
                f"Another engine saves the offsets of connector {self._connector!r}, "
                f"too: {path} holds what this one did not write. Both deliver the same "
                "pages, and each goes on from the other's offsets: stop one of them"
            )

    def _path(self, partition: Mapping[str, str]) -> Path:
        key = key_of(self._connector, partition)
        return self._directory / f"{sha256(key).hexdigest()[:32]}.offset"

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Doubtful(f"state in {self._directory}: {error}") from error


def _failure(error: BaseException | None) -> Failure:
    if error is None or isinstance(error, (SinkError, StateError)):
        return error
    return Doubtful(f"saving state: {error!r}")


def _unpacked(path: Path, text: bytes) -> tuple[str, dict[str, str], bytes]:
    """Connector, partition and value of a file, its checksum proven."""
    sum_, _, line = text.rstrip(b"\n").partition(b" ")
    try:
        if int(sum_, 16) != zlib.crc32(line):
            raise ValueError("its checksum is wrong")
        connector, partition, value = msgspec.json.decode(
            line, type=tuple[str, dict[str, str], msgspec.Raw]
        )
    except (ValueError, msgspec.MsgspecError) as error:
        before = path.with_suffix(".before")
        remedy = f"put {before}, the version before it, in its place"
        if not before.exists():
            remedy = "remove it to start over"
        raise StateError(
            f"the offset in {path} cannot be read: {error}; {remedy}"
        ) from error
    return connector, partition, bytes(value)


def _put(path: Path, content: bytes) -> None:
    """A file with this content, on the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
