"""
Absence: writes that wait, because the broker is away or a partition is.

Owns what is said of it: once after `FIRST` seconds, then each minute, and when it
is over.  The producer keeps what is on its way and sends it again for as long as
it takes.

Path: `task.session` asks the delivery at each look -> here -> log, supervisor
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from msgspec import Struct

from engine.shared.link import BrokerWaiting, Message
from engine.sink.produce.producer import Wait

log = logging.getLogger("task")

#: Seconds without an answer after which it is said, then between two lines.
FIRST = 5.0
NEXT = 60.0

#: Partitions that are named one by one; a broker that has led a thousand would
#: fill the log.
MOST = 10


class _Told(Struct):
    """Since when something waits, and how often that was said."""

    since: float
    lines: int = 0


class Absence:
    """
    What is not written; says so to people and to the supervisor.

    Args:
        address: Of the broker, for people.
        report: To the supervisor, which shows it; False if it was not taken.
        linger: Seconds a batch may wait before it is sent.

    Attributes:
        first: Seconds after which a wait is said.
    """

    def __init__(
        self, address: str, report: Callable[[Message], bool], *, linger: float = 0.0
    ):
        self.first = FIRST + linger
        self._address = address
        self._report = report
        self._whole: _Told | None = None
        self._parts: dict[tuple[str, int], _Told] = {}
        self._reported = ""

    def __bool__(self) -> bool:
        """True while something waits."""
        return self._whole is not None or bool(self._parts)

    def look(self, silent: float, waits: Sequence[Wait], now: float) -> None:
        """
        Take note of the broker.

        Args:
            silent: Seconds for which it has left everything unanswered.
            waits: Partitions that nothing is written to.
            now: Monotonic seconds.
        """
        if silent >= self.first:
            why = waits[0].why if waits else ""
            self._away(now - silent, now, why)
        elif self._whole is not None:
            log.warning(
                "Kafka at %s answers again after %.0f s.",
                self._address,
                now - self._whole.since,
            )
            self._whole = None
        self._look_at_parts(waits, now)
        self._tell()

    def _away(self, since: float, now: float, why: str) -> None:
        if self._whole is None:
            self._whole = _Told(since)
        if not self._due(self._whole, now):
            return
        reason = f" ({why})" if why else ""
        log.warning(
            "Kafka at %s has not answered for %.0f s%s; waiting for it: what is on "
            "its way is kept and sent again.",
            self._address,
            now - self._whole.since,
            reason,
        )

    def _look_at_parts(self, waits: Sequence[Wait], now: float) -> None:
        found = {(each.topic, each.partition): each for each in waits}
        for place in [place for place in self._parts if place not in found]:
            told = self._parts.pop(place)
            if told.lines:
                waited = now - told.since
                log.warning("%s-%d is written to again after %.0f s.", *place, waited)
        for place, wait in found.items():
            told = self._parts.setdefault(place, _Told(now - wait.seconds))
            named = told.lines or sum(1 for each in self._parts.values() if each.lines)
            # While nobody answers at all, one line says it for all partitions.
            if self._whole is None and named <= MOST and self._due(told, now):
                log.warning(
                    "%s-%d has not been written to for %.0f s: %s; its records are "
                    "kept until it is, other partitions go on.",
                    *place,
                    now - told.since,
                    wait.why,
                )

    def _due(self, told: _Told, now: float) -> bool:
        if now - told.since < self.first + told.lines * NEXT:
            return False
        told.lines += 1
        return True

    def _tell(self) -> None:
        """What has changed, to the supervisor."""
        since, text = None, ""
        if self._whole is not None:
            since = self._whole.since
            text = f"Kafka at {self._address} does not answer"
        elif self._parts:
            place, told = min(self._parts.items(), key=lambda each: each[1].since)
            since = told.since
            more = f" and {len(self._parts) - 1} more" if len(self._parts) > 1 else ""
            text = f"{place[0]}-{place[1]}{more} cannot be written to"
        if text == self._reported:
            return
        if self._report(BrokerWaiting(since, text) if text else BrokerWaiting(None)):
            self._reported = text
