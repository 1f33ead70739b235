"""
Admission: records that their topic would not take are bad records before they are sent.

Owns the check of a parcel against what the broker says of its topics: time stamps,
keys, sizes, and whether a topic that records name may be made.  What is only known
to the broker is refused there, and is a bad record then (`sink.outlet`).

Path: the transform of a shard -> here -> ``task.path``
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from msgspec.structs import replace

from engine.clock import SYSTEM, Clock
from engine.errors import RecordError, Refused, Unavailable
from engine.observe.redact import redact
from engine.records import DeadLetter, Page, Parcel
from engine.seams import Stopping, Transform
from engine.sink.kafka import TopicDescription

#: Seconds between two tries to look a topic up.
AGAIN = 0.5


class AdmissionRules(Protocol):
    """What is asked of `sink.preflight.Topics`."""

    def known(self, topic: str) -> TopicDescription: ...

    def record_limit(self, topic: str) -> int: ...


class Admission:
    """
    A transformation whose records are all fit for their topics.

    Args:
        tolerant: Unfit ones are dead letters (`errors.tolerance=all`); else the
            first of them is raised.
        fixed: The one topic of the api, or None: records name theirs.
    """

    def __init__(
        self,
        inner: Transform,
        topics: AdmissionRules,
        *,
        tolerant: bool,
        fixed: str | None,
        stopping: Stopping,
        clock: Clock = SYSTEM,
    ):
        self._inner = inner
        self._topics = topics
        self._tolerant = tolerant
        self._fixed = fixed
        self._stopping = stopping
        self._clock = clock

    def __call__(self, page: Page) -> Parcel:
        """
        As `seams.Transform`.

        Raises: RecordError under `errors.tolerance=none`; Misconfigured for a topic
        that is missing and may not be made.
        Blocks: at a topic's first record, until the broker answers.
        """
        parcel = self._inner(page)
        if not parcel.values:
            return parcel
        bad = self._unfit(parcel)
        if not bad:
            return parcel
        if not self._tolerant:
            raise bad[min(bad)]
        return _without(parcel, bad)

    def _unfit(self, parcel: Parcel) -> dict[int, RecordError]:
        topic = parcel.topic
        if isinstance(topic, str):
            return self._judge(topic, parcel, None)
        groups: dict[str, list[int]] = {}
        for at, name in enumerate(topic):
            groups.setdefault(name, []).append(at)
        found: dict[int, RecordError] = {}
        for name, members in groups.items():
            found |= self._judge(name, parcel, members)
        return found

    def _judge(
        self, topic: str, parcel: Parcel, members: Sequence[int] | None
    ) -> dict[int, RecordError]:
        """The records at these places, None for all, that the topic would not take."""
        places = range(len(parcel.values)) if members is None else members
        try:
            rules = self._ask(lambda: self._topics.known(topic))
        except Refused as refused:
            error = RecordError(str(refused), stage="route", rule="kafka.topic")
            return dict.fromkeys(places, error)
        found: dict[int, RecordError] = {}
        self._judge_times(topic, rules, parcel, places, found)
        if "compact" in rules.cleanup.split(","):
            keys = parcel.keys
            for at in places if keys is None or None in keys else ():
                if keys is None or keys[at] is None:
                    found[at] = RecordError(
                        f"no key (kafka.key), and topic {topic} has "
                        f"cleanup.policy={rules.cleanup}",
                        stage="produce",
                        rule="kafka.key",
                    )
        # A fixed topic's limit is the transform's own.
        if topic != self._fixed:
            self._judge_sizes(topic, parcel, places, found)
        return found

    def _judge_times(
        self,
        topic: str,
        rules: TopicDescription,
        parcel: Parcel,
        places: Sequence[int],
        found: dict[int, RecordError],
    ) -> None:
        if rules.earliest is None and rules.latest is None:
            return
        now = self._clock.wall_ms()
        stamps = parcel.timestamps
        sides: tuple[tuple[str, int | None, Callable[[int], int]], ...] = (
            ("before", rules.earliest, lambda stamp: now - stamp),
            ("after", rules.latest, lambda stamp: stamp - now),
        )
        for side, bound, distance in sides:
            if bound is None:
                continue
            if isinstance(stamps, int):
                late = places if distance(stamps) > bound else ()
            elif max(map(distance, (min(stamps), max(stamps)))) > bound:
                # Hot path: one look at the page's two ends passes nearly all.
                late = [at for at in places if distance(stamps[at]) > bound]
            else:
                late = ()
            for at in late:
                stamp = stamps if isinstance(stamps, int) else stamps[at]
                found[at] = RecordError(
                    f"the time stamp {_text(stamp)} (kafka.timestamp) is "
                    f"{distance(stamp) / 1000:.0f} s {side} now, and topic {topic} has "
                    f"message.timestamp.{side}.max.ms={bound}",
                    stage="produce",
                    rule="kafka.timestamp",
                )

    def _judge_sizes(
        self,
        topic: str,
        parcel: Parcel,
        places: Sequence[int],
        found: dict[int, RecordError],
    ) -> None:
        limit = self._ask(lambda: self._topics.record_limit(topic))
        keys, headers = parcel.keys, parcel.headers
        for at in places:
            value = parcel.values[at]
            size = 0 if value is None else len(value)
            size += len(keys[at] or b"") if keys is not None else 0
            if isinstance(headers, list):
                size += sum(len(name) + len(text or b"") for name, text in headers[at])
            if size > limit:
                found[at] = RecordError(
                    f"{size} bytes, more than the {limit} that topic {topic} takes "
                    "(its max.message.bytes, or producer.max.request.size)",
                    stage="size",
                    rule="kafka.topic",
                )

    def _ask(self, ask: Callable[[], TopicDescription] | Callable[[], int]) -> Any:
        while True:
            try:
                return ask()
            except Unavailable:
                # What was fetched is kept; the broker's absence is no failure.
                if self._stopping.wait(AGAIN):
                    raise


def _text(stamp: int) -> str:
    try:
        return datetime.fromtimestamp(stamp / 1000, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{stamp} ms"


def _without(parcel: Parcel, bad: dict[int, RecordError]) -> Parcel:
    """The parcel with letters in place of the records at these places."""
    kept = [at for at in range(len(parcel.values)) if at not in bad]
    indexes = parcel.indexes
    records = parcel.page.records
    letters = list(parcel.letters)
    for at, error in sorted(bad.items()):
        index = at if indexes is None else indexes[at]
        letters.append(
            DeadLetter(
                index=index,
                value=bytes(records[index]),
                stage=error.stage,
                cause=type(error).__name__,
                message=redact(str(error)),
            )
        )
    letters.sort(key=lambda letter: letter.index)

    def cut(column: Any) -> Any:
        return [column[at] for at in kept]

    keys, stamps, headers = parcel.keys, parcel.timestamps, parcel.headers
    return replace(
        parcel,
        indexes=kept if indexes is None else cut(indexes),
        values=cut(parcel.values),
        letters=letters,
        lengths=None,
        key_lengths=None,
        keys=None if keys is None else cut(keys),
        timestamps=stamps if isinstance(stamps, int) else cut(stamps),
        headers=cut(headers) if isinstance(headers, list) else headers,
        topic=parcel.topic if isinstance(parcel.topic, str) else cut(parcel.topic),
    )
