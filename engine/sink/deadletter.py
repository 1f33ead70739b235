"""
Dead letter: a record that failed, as a record of the dead-letter topic.

Owns the headers it carries (Kafka Connect's names and the HTTP context), reading
them back, and which letters have gone through since: a consumer group for each
connector, whose note holds what went through behind one that did not.

Path: `sink.outlet` turns a parcel's letters into records here; `dlq` reads them.
"""

from __future__ import annotations

import zlib
from base64 import b85decode, b85encode
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from msgspec import Raw, Struct

from engine.errors import StateError
from engine.later import later, pattern
from engine.records import DeadLetter, KafkaHeaders, Page, Parcel, Request, Response
from engine.sink.columns import Column, column_of
from engine.sink.ends import topic_ends
from engine.sink.kafka import Cluster, Stored

if TYPE_CHECKING:
    from engine.sink import library
else:
    # A task writes letters and reads none.
    library = later("engine.sink.library")

#: Bytes left for headers and framing when a value is cut.
HEADERS_ROOM = 16 * 1024

#: Longest message of a failure in a header.
MESSAGE_LIMIT = 4096

#: Connect's stage for each of ours; the rest happen in our transform.
#: Source: `org.apache.kafka.connect.runtime.errors.Stage`.
STAGES = {
    "decode": "TASK_POLL",
    "convert": "VALUE_CONVERTER",
    "size": "KAFKA_PRODUCE",
    "produce": "KAFKA_PRODUCE",
}


class DeadLetters:
    """
    Makes records of a parcel's dead letters.

    Attributes:
        topic: `errors.deadletterqueue.topic.name`, resolved.
    """

    def __init__(
        self,
        topic: str,
        *,
        connector: str,
        task: int,
        headers: bool,
        limit: int,
        redacted: Callable[[str], str],
    ) -> None:
        """
        Args:
            headers: `errors.deadletterqueue.context.headers.enable`.
            limit: Bytes a record of the topic may have.
            redacted: Cuts secrets out of a URL or a message.
        """
        self.topic = topic
        self._connector = connector
        self._task = task
        self._headers = headers
        self._redacted = redacted
        self._room = max(limit - HEADERS_ROOM, 1)

    def column(self, parcel: Parcel, api: str) -> Column:
        """The letters of a parcel, values cut at the record limit and marked so."""
        sets: list[KafkaHeaders] = []
        values: list[bytes | None] = []
        for letter in parcel.letters:
            long = len(letter.value) > self._room
            values.append(letter.value[: self._room] if long else letter.value)
            cut = long or letter.cut
            sets.append(
                self._context(parcel, api, letter, cut) if self._headers else ()
            )
        return column_of(values, None, parcel.page.response.received_ms, sets)

    def _context(
        self, parcel: Parcel, api: str, letter: DeadLetter, cut: bool
    ) -> KafkaHeaders:
        page = parcel.page
        response = page.response
        topic = parcel.topic if isinstance(parcel.topic, str) else ""
        texts = {
            "__connect.errors.topic": topic,
            "__connect.errors.connector.name": self._connector,
            "__connect.errors.task.id": str(self._task),
            "__connect.errors.stage": STAGES.get(letter.stage, "TRANSFORMATION"),
            "__connect.errors.class.name": f"engine.transform.{letter.stage}",
            "__connect.errors.exception.class.name": letter.cause,
            "__connect.errors.exception.message": self._redacted(letter.message)[
                :MESSAGE_LIMIT
            ],
            "http.url": self._redacted(response.request.url),
            "http.status": str(response.status),
            "http.attempt": str(response.tries),
            "http.api": api,
            "http.page": str(page.index),
            "http.index": str(letter.index),
        }
        if page.entity is not None:
            texts["http.entity"] = page.entity
        if cut:
            texts["http.value.bytes"] = str(letter.size or len(letter.value))
        return tuple((name, text.encode()) for name, text in texts.items())


#: Seconds without a record after which a topic that has more is given up.
READ_LIMIT = 30.0

#: Characters of a group's note; Kafka takes 4096 bytes (`offset.metadata.max.bytes`).
NOTE_LIMIT = 4000

#: Characters past which no more letters are tried: room for those of a chunk.
NOTE_FULL = 2500

#: In front of a note, so that nobody else's is taken for ours.
NOTE = "gone:"


#: A page, an index, a size: what is longer is none of ours.
_NUMBER = pattern("[0-9]{1,18}")


class Letter(Struct, frozen=True):
    """
    A dead letter as it lies in its topic.

    Attributes:
        partition, offset: Where.
        timestamp: When its page was received, epoch milliseconds.
        value: The record's bytes as received; None is no letter of ours.
        context: Its headers, in order.
    """

    partition: int
    offset: int
    timestamp: int
    value: bytes | None
    context: dict[str, str]

    @property
    def id(self) -> str:
        """How people name it: `partition:offset`."""
        return f"{self.partition}:{self.offset}"

    @property
    def connector(self) -> str:
        return self.context.get("__connect.errors.connector.name", "")

    @property
    def api(self) -> str:
        return self.context.get("http.api", "")

    @property
    def entity(self) -> str | None:
        return self.context.get("http.entity")

    @property
    def cut(self) -> bool:
        """True if the value is only the beginning of what was received."""
        return "http.value.bytes" in self.context

    @property
    def stage(self) -> str:
        """As `RecordError.stage`."""
        return self.context.get("__connect.errors.class.name", "").rpartition(".")[2]

    @property
    def message(self) -> str:
        """What went wrong."""
        return self.context.get("__connect.errors.exception.message", "")

    def number(self, name: str) -> int:
        """A header that is a number; 0 if it is none."""
        text = self.context.get(name, "")
        return int(text) if _NUMBER.fullmatch(text) else 0

    def page(self) -> Page:
        """The letter as a page of one record, as near to its own as it says."""
        url = self.context.get("http.url", "")
        response = Response(
            request=Request("GET", url, page=self.number("http.page")),
            url=url,
            status=self.number("http.status"),
            headers=(),
            body=b"",
            sent_at=0.0,
            received_ms=self.timestamp,
            tries=self.number("http.attempt"),
        )
        return Page(
            response=response,
            index=self.number("http.page"),
            records=[Raw(self.value or b"")],
            offset={},
            last=True,
            task=self.number("__connect.errors.task.id"),
            entity=self.entity,
        )


def letter_of(stored: Stored) -> Letter:
    """A record of the dead-letter topic."""
    context = {
        name: (text or b"").decode(errors="replace") for name, text in stored.headers
    }
    return Letter(
        stored.partition, stored.offset, stored.timestamp, stored.value, context
    )


class Progress:
    """
    What of one partition has gone through: all before `first`, and ranges behind.

    Args:
        first: The lowest offset that has not.
        note: As `note` gave it; somebody else's counts as none.
    """

    def __init__(self, first: int = 0, note: str = "") -> None:
        self.first = first
        self._gone: list[tuple[int, int]] = []
        at = first
        for gap, length in _told(note):
            self._gone.append((at + gap, at + gap + length))
            at += gap + length
        self._merge()

    def waits(self, offset: int) -> bool:
        """True if the record there has not gone through."""
        if offset < self.first:
            return False
        at = bisect_right(self._gone, offset, key=lambda each: each[0]) - 1
        return at < 0 or offset >= self._gone[at][1]

    def went(self, start: int, end: int) -> None:
        """From `start` to before `end` nothing is left to do."""
        if start < end:
            self._gone.append((start, end))
            self._merge()

    @property
    def note(self) -> str:
        """The ranges behind `first`, each as its distance and its length."""
        if not self._gone:
            return ""
        at = self.first
        steps = []
        for start, end in self._gone:
            steps.append(f"{start - at}+{end - start}")
            at = end
        return NOTE + b85encode(zlib.compress(",".join(steps).encode(), 9)).decode()

    def _merge(self) -> None:
        merged: list[tuple[int, int]] = []
        for start, end in sorted(self._gone):
            if end <= self.first:
                continue
            if start <= self.first:
                self.first = end
            elif merged and start <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((start, end))
        self._gone = merged


def _told(note: str) -> Iterator[tuple[int, int]]:
    """The pairs of a note of ours; none of anybody else's."""
    if not note.startswith(NOTE):
        return
    try:
        text = zlib.decompress(b85decode(note.removeprefix(NOTE))).decode()
        pairs = [step.partition("+") for step in text.split(",")]
        yield from [(int(gap), int(length)) for gap, _, length in pairs]
    except (ValueError, zlib.error) as error:
        raise StateError(f"the progress of a replay cannot be read: {error}") from error


class UnansweredLetters:
    """
    The dead letters of one connector that have not gone through yet.

    Args:
        topic: Where they lie; other connectors' letters may lie there too.
        connector: Whose they are.
    """

    def __init__(self, cluster: Cluster, topic: str, connector: str) -> None:
        self.topic = topic
        self.group = f"kafka-http-source-dlq-{connector}"
        self._cluster = cluster
        self._connector = connector
        self._progress: dict[int, Progress] = {}
        #: Partition -> behind the record that was looked at last.
        self._behind: dict[int, int] = {}
        self._saved: dict[int, tuple[int, str]] = {}

    def letters(self, *, gone: bool = False) -> Iterator[Letter]:
        """
        Those up to the end the topic has now, in order within a partition.

        Args:
            gone: Also those that went through.

        Raises: a SinkError.  Blocks: for the broker.
        """
        ends = topic_ends(self._cluster, self.topic)
        if not ends:
            return
        for partition, (offset, note) in library.group_offsets(
            self._cluster, self.group, self.topic
        ).items():
            # Behind the end: the topic was made anew since.
            if offset <= ends.get(partition, 0):
                self._progress[partition] = Progress(offset, note)
                self._saved[partition] = offset, note
        starts = {at: each.first for at, each in self._progress.items()}
        self._behind = {} if gone else dict(starts)
        for stored in library.read_topic(
            self._cluster, self.topic, READ_LIMIT, starts={} if gone else starts
        ):
            letter = letter_of(stored)
            if not self._ours(letter):
                self.went(letter)
            elif gone or self._of(letter).waits(letter.offset):
                yield letter
            else:
                self.went(letter)

    def went(self, letter: Letter) -> None:
        """Nothing is left to do for a letter, nor for what lies before it."""
        self._of(letter).went(self._before(letter), letter.offset + 1)

    def stays(self, letter: Letter) -> None:
        """A letter did not go through; what lies between it and the last did."""
        self._of(letter).went(self._before(letter), letter.offset)

    @property
    def full(self) -> bool:
        """True if more than this cannot be noted: save, and go no further."""
        return any(len(each.note) > NOTE_FULL for each in self._progress.values())

    def save(self) -> None:
        """
        Commit the progress to the group.

        Raises: a SinkError, StateError.  Blocks: for the broker.
        """
        now = {at: (each.first, each.note) for at, each in self._progress.items()}
        if any(len(note) > NOTE_LIMIT for _, note in now.values()):
            raise StateError(f"the note of {self.group} is too long to be kept")
        changed = {at: each for at, each in now.items() if self._saved.get(at) != each}
        if changed:
            library.save_group_offsets(self._cluster, self.group, self.topic, changed)
            self._saved.update(changed)

    def _ours(self, letter: Letter) -> bool:
        # A letter without context may be anybody's: it is shown, not passed over.
        return letter.connector in (self._connector, "")

    def _of(self, letter: Letter) -> Progress:
        return self._progress.setdefault(letter.partition, Progress())

    def _before(self, letter: Letter) -> int:
        before = self._behind.get(letter.partition, 0)
        self._behind[letter.partition] = letter.offset + 1
        return before


def unfit(letter: Letter, apis: Iterable[str]) -> str | None:
    """Why a letter cannot be tried again, whatever the rules; None: it can."""
    if letter.value is None:
        return "it has no value"
    if not letter.api:
        return "it has no context headers"
    if letter.cut:
        size = letter.number("http.value.bytes")
        return f"only {len(letter.value)} of its {size} bytes were kept"
    if letter.api not in apis:
        return f"there is no api {letter.api!r} in the configuration"
    return None
