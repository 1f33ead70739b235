"""
Dead letter: a record that failed, as a record of the dead-letter topic.

Owns the headers it carries: Kafka Connect's names and the HTTP context, so that
it can be understood and tried again.

Path: `sink.commit` turns a parcel's letters into records here.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.records import DeadLetter, KafkaHeaders, Parcel
from engine.sink.batch import Column, column_of

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
            cut = len(letter.value) > self._room
            values.append(letter.value[: self._room] if cut else letter.value)
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
        if cut:
            texts["http.value.bytes"] = str(len(letter.value))
        return tuple((name, text.encode()) for name, text in texts.items())
