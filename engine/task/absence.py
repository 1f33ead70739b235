"""
Absence: a broker that leaves unanswered what was sent to it.

Owns what is said of it while the producer still tries: once after `FIRST`
seconds, then each minute, and when it answers again.  The producer keeps what
is on its way and sends it again; once it gives up, the task waits in place
(`task.run`), and `sink.kafka.wait_for_broker` says so.

Path: ``task.entry`` asks the delivery at each look -> here -> log, supervisor
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from engine.shared.link import BrokerWaiting, Message

log = logging.getLogger("task")

#: Seconds without an answer after which it is said, then between two lines.
FIRST = 5.0
NEXT = 60.0


class Absence:
    """
    Whether the broker is away; says so to people and to the supervisor.

    Args:
        address: Of the broker, for people.
        report: To the supervisor, which shows it; False if it was not taken.
        linger: Seconds a batch may wait before it is sent.
    """

    def __init__(
        self, address: str, report: Callable[[Message], bool], *, linger: float = 0.0
    ):
        self._address = address
        self._report = report
        self._first = FIRST + linger
        self._since: float | None = None
        self._lines = 0

    def __bool__(self) -> bool:
        """True while the broker is away."""
        return self._since is not None

    def look(self, silent: float, now: float) -> None:
        """
        Take note of the broker.

        Args:
            silent: Seconds for which it has left something unanswered.
            now: Monotonic seconds.
        """
        if silent >= self._first:
            self._away(now - silent, now)
        elif self._since is not None:
            self._back(now)

    def _away(self, since: float, now: float) -> None:
        if self._since is None:
            self._since, self._lines = since, 0
        past = now - self._since
        if past < self._first + self._lines * NEXT:
            return
        text = f"Kafka at {self._address} has not answered for {past:.0f} s"
        log.warning(
            "%s; waiting for it: what is on its way is kept and sent again.", text
        )
        if not self._lines:
            self._report(BrokerWaiting(self._since, text))
        self._lines += 1

    def _back(self, now: float) -> None:
        assert self._since is not None
        log.warning(
            "Kafka at %s answers again after %.0f s.",
            self._address,
            now - self._since,
        )
        self._since = None
        self._report(BrokerWaiting(None))
