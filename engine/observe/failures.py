"""
Failures: what went wrong last, in words and in one word of few.

Owns the kinds of failures, how a kind is read off an exception, and what a
shard remembers of its last failure until somebody looks: since when it fails,
how often, and when it is tried again.  It decides nothing and writes nothing.

Path: `source.fetch` and ``task.shardloop`` tell a shard's `FailureLog` -> here ->
``task.reporting`` puts it on the board -> ``admin`` shows it
"""

from __future__ import annotations

import errno
import threading
from collections import defaultdict
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from engine import errors
from engine.clock import SYSTEM, Clock
from engine.observe.redact import redact

#: Characters of a failure's message that are kept.
LONGEST = 600

#: Bytes of an encoded failure: its place on the board.
SIZE = 1536

#: Every kind, the label of the counter of failures.
KINDS = (
    "dns",
    "refused",
    "unreachable",
    "timeout",
    "tls",
    "cut",
    "denied",
    "throttled",
    "client_error",
    "server_error",
    "bad_page",
    "loop",
    "cursor_expired",
    "forbidden",
    "record",
    "broker",
    "state",
    "disk_full",
    "configuration",
    "bug",
)

#: Class name of a foreign exception -> kind; subclasses count by their bases.
_FOREIGN = {
    "gaierror": "dns",
    "SSLError": "tls",
    "ConnectionRefusedError": "refused",
    "TimeoutError": "timeout",
    "ConnectionResetError": "cut",
    "ConnectionAbortedError": "cut",
    "BrokenPipeError": "cut",
}

_NUMBERS = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timeout",
}

#: Our own failures, the more special ones first.
_OURS: tuple[tuple[type[BaseException], str], ...] = (
    (errors.Denied, "denied"),
    (errors.Throttled, "throttled"),
    (errors.BadPage, "bad_page"),
    (errors.Looping, "loop"),
    (errors.CursorExpired, "cursor_expired"),
    (errors.Forbidden, "forbidden"),
    (errors.SpoolError, "disk_full"),
    (errors.RecordError, "record"),
    (errors.Refused, "record"),
    (errors.Misconfigured, "configuration"),
    (errors.SinkError, "broker"),
    (errors.StateError, "state"),
    (errors.ConfigError, "configuration"),
)


def kind_of(failure: BaseException) -> str:
    """One of `KINDS`: what a person would call the cause."""
    if isinstance(failure, errors.SourceError) and failure.status is not None:
        if failure.status == 429 or isinstance(failure, errors.Throttled):
            return "throttled"
        if failure.status in (401, 403, 407):
            return "denied"
        if failure.status >= 500:
            return "server_error"
        if failure.status >= 400 and not isinstance(failure, errors.CursorExpired):
            return "client_error"
    for one in _chain(failure):
        if isinstance(one, OSError) and one.errno in _NUMBERS:
            return _NUMBERS[one.errno]
        for base in type(one).__mro__:
            if base.__name__ in _FOREIGN:
                return _FOREIGN[base.__name__]
    for ours, kind in _OURS:
        if isinstance(failure, ours):
            return kind
    if isinstance(failure, errors.Unreachable):
        return "cut" if failure.sent else "unreachable"
    return "client_error" if isinstance(failure, errors.SourceError) else "bug"


def _chain(failure: BaseException) -> Iterator[BaseException]:
    """The failure and what caused it; a circle ends."""
    seen: set[int] = set()
    one: BaseException | None = failure
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


class LastFailure(Struct, frozen=True):
    """
    A shard's last failure; times are wall milliseconds.

    Attributes:
        kind: One of `KINDS`.
        message: What went wrong, for people, secrets cut.
        count: Failed tries in a row.
        polls: Polls given up in a row.
        since_ms: The first of them.
        at_ms: The last of them.
        next_ms: When it is tried again, 0 where nobody knows.
        over_ms: When something succeeded again, 0 as long as it lasts.
    """

    kind: str
    message: str
    count: int
    polls: int
    since_ms: int
    at_ms: int
    next_ms: int = 0
    over_ms: int = 0

    def encoded(self) -> bytes:
        """
        The last failure for its place on the board: at most `SIZE` bytes, the message cut to fit.
        """
        content = msgspec.json.encode(self)
        cut = self
        while len(content) > SIZE:
            shorter = cut.message[: len(cut.message) * 3 // 4]
            cut = msgspec.structs.replace(cut, message=shorter)
            content = msgspec.json.encode(cut)
        return content


def decoded(content: bytes | None) -> LastFailure | None:
    """What stands on the board; None for nothing, or for what is no failure."""
    if not content:
        return None
    try:
        return msgspec.json.decode(content, type=LastFailure)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class FailureLog:
    """
    What one shard remembers of its failures; any thread may tell it.

    Args:
        last: What an earlier process of the shard has told, or None.

    Attributes:
        counts: Failed tries so far, by kind; only grows.
    """

    def __init__(
        self, last: LastFailure | None = None, *, clock: Clock = SYSTEM
    ) -> None:
        self._clock = clock
        # A shard's thread, those that fetch ahead and its retries tell of failures; reports and
        # the board read them. Guards that the last failure and its count belong together.
        self._lock = threading.Lock()
        self._last = last
        #: True from a failure to the next success; read without the lock.
        self._lasting = last is not None and not last.over_ms
        self.counts: defaultdict[str, int] = defaultdict(int)

    def failed(self, failure: BaseException, wait: float | None = None) -> None:
        """
        A try has failed.

        Args:
            wait: Seconds until the next try; None where nobody knows yet.
        """
        kind = kind_of(failure)
        with self._lock:
            self.counts[kind] += 1
            self._note(kind, failure, wait, tries=1)

    def given_up(self, failure: BaseException, wait: float | None = None) -> None:
        """
        A poll is over with this failure, whose tries were told before.

        Args:
            wait: Seconds until the next poll; None: there will be none.
        """
        kind = kind_of(failure)
        with self._lock:
            if not self._lasting:
                # Nothing of it was a try: a bad record, a loop of pages.
                self.counts[kind] += 1
            self._note(kind, failure, wait, tries=not self._lasting, polls=1)

    # Hot path: called once a page.
    def answered(self) -> None:
        """
        A try has brought an answer.

        Polls that were given up one after the other are made good by a poll that
        ends and not by its first page.
        """
        if self._lasting and self._last is not None and not self._last.polls:
            self.succeeded()

    def succeeded(self) -> LastFailure | None:
        """
        A poll has ended well.

        Returns: the failure that is over with it, None where there was none.
        """
        if not self._lasting:
            return None
        with self._lock:
            self._lasting = False
            if self._last is not None:
                self._last = msgspec.structs.replace(
                    self._last, next_ms=0, over_ms=self._clock.wall_ms()
                )
            return self._last

    @property
    def last(self) -> LastFailure | None:
        """The last one, over or not; None before the first."""
        return self._last

    def _note(
        self,
        kind: str,
        failure: BaseException,
        wait: float | None,
        *,
        tries: int,
        polls: int = 0,
    ) -> None:
        now = self._clock.wall_ms()
        before = self._last if self._lasting else None
        self._lasting = True
        text = redact(str(failure)) or type(failure).__name__
        if before is not None and isinstance(failure, errors.CircuitOpen):
            # Why the breaker has opened says more than that it is open.
            kind, text = before.kind, before.message
        self._last = LastFailure(
            kind=kind,
            message=text if len(text) <= LONGEST else text[: LONGEST - 3] + "...",
            count=tries + (before.count if before else 0),
            polls=polls + (before.polls if before else 0),
            since_ms=before.since_ms if before else now,
            at_ms=now,
            next_ms=0 if wait is None else now + round(1000 * wait),
        )
