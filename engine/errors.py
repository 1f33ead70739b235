"""
Errors: every failure has a name, and the name says what follows from it.

The tree is by place; the one attribute `then` is what the engine does next.
Steps raise, they do not decide: `then` is read in one place, `engine.policy`, which
every loop asks what follows in its own case.

    EngineError                     EXIT      leave; the supervisor starts the task again
    |- ConfigError                  GIVE_UP   78  before any fork, or a refused reload
    |  |- NoInput                   GIVE_UP   66  a file that is not there
    |  `- NotReadable               GIVE_UP   77  a file that may not be read
    |- SourceError
    |  |- Unreachable               RETRY     69  no answer, or only part of one
    |  |  `- CircuitOpen            RETRY     69  not asked: the circuit breaker is open
    |  |- Throttled                 RETRY     75  the API asks for a pause (429, 503, a rule)
    |  |- Denied                    GIVE_UP   65  401 after a fresh token, 403
    |  |- Unexpected                GIVE_UP   65  any other status; `behavior.on.error`
    |  |- BadPage                   RETRY     65  whole, but not what config says; never "no data"
    |  |- Looping                   GIVE_UP   65  the same request and the same page again
    |  |- CursorExpired             GIVE_UP   65  a stored cursor that the API no longer knows
    |  |- StartOver                 GIVE_UP   65  the API asks for a new start of the poll
    |  |- SpoolError                RETRY     74  the disk has no room for a large page or for keys
    |  `- Forbidden                 GIVE_UP   65  a rule of ours refuses the answer or the next hop
    |- RecordError                  SKIP      65  this record; `errors.tolerance`
    |- SinkError
    |  |- Refused                   SKIP      65  this record, for ever: too large, unencodable
    |  |- Misconfigured             GIVE_UP   78  topic missing, rights missing, not compacted
    |  |- Unavailable               WAIT      69  broker away: wait in place, never counted
    |  |- Fenced                    EXIT      75  someone newer owns this work
    |  `- Doubtful                  EXIT      75  a write whose end is not known
    |- StateError                   GIVE_UP   65  unreadable or unknown state; never "start over"
    |- Accounting                   EXIT      70  the sums do not add up: a bug of ours
    `- SharedError                  EXIT      70  a lock or the board gave no answer
       `- Occupied                  GIVE_UP   75  another engine runs this connector
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, IntEnum
from typing import ClassVar

from msgspec import Struct


class Exit(IntEnum):
    """Exit codes of every command and every process (sysexits)."""

    OK = 0
    USAGE = 64
    DATA = 65
    NO_INPUT = 66
    UNAVAILABLE = 69
    BUG = 70
    IO = 74
    TRY_AGAIN = 75
    PERMISSION = 77
    CONFIG = 78


class Then(Enum):
    """What the engine does after a failure."""

    #: Try the same request again, within `max.retries`.
    RETRY = "retry"
    #: Leave out this record, as `errors.tolerance` says.
    SKIP = "skip"
    #: Wait in place for somebody else's fault to end; never counted.
    WAIT = "wait"
    #: Begin anew in place, from the stored offsets.
    AGAIN = "again"
    #: End the task process; the supervisor starts it again with back-off.
    EXIT = "exit"
    #: The shard is FAILED, with its reason, until reload, restart or resume.
    GIVE_UP = "give up"


class EngineError(Exception):
    """
    The root of our failures.

    Attributes:
        then: What follows.
        code: The exit code if this failure ends a run.
    """

    then: ClassVar[Then] = Then.EXIT
    code: ClassVar[Exit] = Exit.BUG


class Finding(Struct, frozen=True):
    """
    One thing there is to say about a configuration.

    Attributes:
        severity: "error", "warning" or "notice".
        file: As it was named, "--set" for an override, "" where none is to blame.
        line: From 1; 0 where none is to blame.
        key: As it was written, `apiN.` included; "" where none is to blame.
        value: As it was written, `****` for a secret, or None.
        message: What is wrong, what is allowed, what to do.
        nearest: The known key or value that may have been meant, or None.
        column: From 1, of a part of a value that runs over lines; else 0.
    """

    severity: str
    file: str
    line: int
    key: str
    value: str | None
    message: str
    nearest: str | None = None
    column: int = 0

    def __str__(self) -> str:
        column = f":{self.column}" if self.column else ""
        place = f"{self.file}:{self.line}{column}: " if self.line else ""
        if self.file and not self.line:
            place = f"{self.file}: "
        what = self.key
        if self.key and self.value is not None:
            short = self.value if len(self.value) <= 80 else self.value[:77] + "..."
            what = f"{self.key}={short!r}"
        what = f"{what}: " if what else ""
        hint = f" (did you mean {self.nearest}?)" if self.nearest else ""
        return f"{place}{what}{self.message}{hint}"


class ConfigError(EngineError):
    """
    A configuration that cannot be run; carries every finding at once.

    Attributes:
        findings: All that is wrong, in the order of files and lines.
        beside: What else there is to say, warnings and notices.
    """

    then = Then.GIVE_UP
    code = Exit.CONFIG

    def __init__(
        self, findings: str | Sequence[Finding], *, beside: Sequence[Finding] = ()
    ):
        if isinstance(findings, str):
            findings = (Finding("error", "", 0, "", None, findings),)
        self.findings = tuple(findings)
        self.beside = tuple(beside)
        super().__init__("\n".join(map(str, self.findings)))


class NoInput(ConfigError):
    """A configuration file that is not there."""

    code = Exit.NO_INPUT


class NotReadable(ConfigError):
    """A configuration file that may not be read."""

    code = Exit.PERMISSION


class SourceError(EngineError):
    """
    The HTTP side failed.

    Attributes:
        status: The response's status code, or None without a response.
        url: The request's URL with secrets cut, or "".
        paused: True if the answer named a pause that the host's limiter keeps.
        ruled: True if an error rule of the configuration says so.
    """

    then = Then.GIVE_UP
    code = Exit.DATA
    paused = ruled = False

    def __init__(self, message: str, *, status: int | None = None, url: str = ""):
        super().__init__(message)
        self.status = status
        self.url = url


class Unreachable(SourceError):
    """
    No answer, or only a part of one, or one that says "not now" (5xx).

    Attributes:
        sent: False if the request surely never reached the API, so that it may
            be repeated even where `http.source.idempotent` is false.
    """

    then = Then.RETRY
    code = Exit.UNAVAILABLE

    def __init__(
        self,
        message: str,
        *,
        sent: bool = True,
        status: int | None = None,
        url: str = "",
    ):
        super().__init__(message, status=status, url=url)
        self.sent = sent


class CircuitOpen(Unreachable):
    """Not asked at all: the host failed too often, its circuit breaker is open."""


class Throttled(SourceError):
    """The API asked for a pause; for how long the limiter knows."""

    then = Then.RETRY
    code = Exit.TRY_AGAIN


class Denied(SourceError):
    """
    The API refuses these credentials; 77 is for rights on this machine.

    Attributes:
        stale: True if it says that a token has ended, whatever the status.
    """

    def __init__(
        self,
        message: str,
        *,
        stale: bool = False,
        status: int | None = None,
        url: str = "",
    ):
        super().__init__(message, status=status, url=url)
        self.stale = stale


class Unexpected(SourceError):
    """A status that no key names; `behavior.on.error` decides."""


class BadPage(SourceError):
    """A whole answer that is not what the configuration says; never "no data"."""

    then = Then.RETRY


class Looping(SourceError):
    """A request already sent in this poll brought the same bytes again."""


class CursorExpired(SourceError):
    """The API no longer knows the stored cursor."""


class StartOver(SourceError):
    """
    An answer after which the poll has to begin anew (an error rule's RESTART).

    `source.poll` begins anew once in a poll; a second time it is a failure.
    """


class Forbidden(SourceError):
    """A rule of ours refuses: too large, other origin, private address."""


class SpoolError(SourceError):
    """What is too large for memory could not be kept in a file: a full disk, mostly."""

    then = Then.RETRY
    code = Exit.IO


class RecordError(EngineError):
    """
    One record cannot be produced.

    Attributes:
        stage: Where: "decode", "map", "enrich", "filter", "validate", "function",
            "route", "convert", "size" or "produce".
        rule: The rule that failed, as text, or "".
    """

    then = Then.SKIP
    code = Exit.DATA

    def __init__(self, message: str, *, stage: str, rule: str = ""):
        super().__init__(message)
        self.stage = stage
        self.rule = rule


class SinkError(EngineError):
    """The Kafka side failed."""

    code = Exit.TRY_AGAIN


class Refused(SinkError):
    """Kafka will never take this record."""

    then = Then.SKIP
    code = Exit.DATA


class Misconfigured(SinkError):
    """A topic, a right or a topic's setting is missing."""

    then = Then.GIVE_UP
    code = Exit.CONFIG


class Unavailable(SinkError):
    """The broker is away; wait in place for as long as it takes."""

    then = Then.WAIT
    code = Exit.UNAVAILABLE


class NoTransactions(Unavailable):
    """The broker answers, and no coordinator of transactions does."""


class Fenced(SinkError):
    """Someone newer owns this work."""


class TakenOver(Fenced):
    """Another engine runs this connector now; this one is to end."""


class Aborted(SinkError):
    """A transaction was given up; what was in it is asked for again."""

    then = Then.AGAIN


class Doubtful(SinkError):
    """A write whose end is not known."""


class StateError(EngineError):
    """Stored offsets that cannot be read; never a reason to start over."""

    then = Then.GIVE_UP
    code = Exit.DATA


class Accounting(EngineError):
    """received is not produced + filtered + dead-lettered + deduplicated."""


class SharedError(EngineError):
    """A lock or the board gave no answer."""


class Occupied(SharedError):
    """
    Another engine runs this connector.

    Attributes:
        pid: The process that holds its lock, or None if it did not say.
    """

    then = Then.GIVE_UP
    code = Exit.TRY_AGAIN

    def __init__(self, message: str, *, pid: int | None):
        super().__init__(message)
        self.pid = pid
