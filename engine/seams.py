"""
Seams: the few verbs by which rooms that do not know each other meet.

`task.build` passes objects with these verbs from one room into another; each
has an implementation, and a fake in the tests.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from engine.records import Offset, Page, Parcel, Request, Response


class Stopping(Protocol):
    """A flag that is read between pages, and the only way to wait."""

    def is_set(self) -> bool:
        """True once the process is to end."""

    def wait(self, seconds: float) -> bool:
        """
        Sleep, cut short by stopping; beats while it sleeps.

        Blocks: at most `seconds`.  Returns `is_set()`.
        """


class Fetch(Protocol):
    """Anything that turns a request into a complete response."""

    def __call__(self, request: Request) -> Response:
        """
        Ask and answer.

        Raises: a SourceError.  Blocks: until the request's deadline, and in
        the outer layers for the limiter and the back-off; stopping cuts these.
        """


class Demanded(Struct, frozen=True):
    """
    What an answer's headers say about more requests.

    Attributes:
        after: Seconds for which it asks to be left alone (Retry-After), or None.
        spent: Whether nothing is left of a budget (a remaining of 0).
    """

    after: float | None = None
    spent: bool = False


class Limiter(Protocol):
    """Answers seconds; never sleeps."""

    def reserve(self, host: str, api: str) -> float:
        """
        Ask for one token; seconds until the request may go, 0.0 now.

        An answer above 0.0 (never above 1.0) is waited for, then `recheck` is
        asked, in the same thread, until it says 0.0.
        """

    def recheck(self, host: str) -> float:
        """
        Seconds still to wait, 0.0 now; nothing is paid twice.

        What came up meanwhile binds those who were already waiting: a pause
        of the host, a rate changed by a reload.
        """

    def paused(self, host: str) -> float:
        """Seconds for which nobody may ask the host, 0.0: none."""

    @property
    def cause(self) -> str:
        """What the last answer above 0.0 in this thread was for, in one word."""

    @property
    def left(self) -> float:
        """Seconds of that wait in all, of which an answer tells only the next part."""

    def observe(
        self, host: str, api: str, status: int, headers: list[tuple[str, str]]
    ) -> None:
        """Learn from an answer: Retry-After, RateLimit, 429 and 503."""

    def demanded(self, headers: list[tuple[str, str]], received_ms: int) -> Demanded:
        """What a refusal's headers ask for; pure."""


class Breaker(Protocol):
    """Answers whether to try; shared by all tasks."""

    def allow(self, host: str) -> bool:
        """True if a request may go; one probe at a time while half-open."""

    def reopens(self, host: str) -> float:
        """Seconds for which no request may go, 0.0 unless open."""

    def failed(self, host: str) -> None:
        """A request was given up after its retries (no answer or 5xx)."""

    def succeeded(self, host: str) -> None:
        """Tell it that the host has answered."""

    def released(self, host: str) -> None:
        """The request ended and says nothing of the host: stopped, or refused by us."""


class Transform(Protocol):
    """One compiled callable for a page."""

    def __call__(self, page: Page) -> Parcel:
        """
        Page to parcel; pure but for de-duplication's memory.

        Raises: RecordError under `errors.tolerance=none`; the page is then
        whole or nothing: no record of it is handed over.
        """


class Outlet(Protocol):
    """
    One shard's way into Kafka: the seam a transaction can take the place of.

    The order of calls is begin, then for each page hand_over, then commit.
    """

    def begin(self) -> None:
        """Begin a poll: what is handed over from now on belongs to it."""

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        """
        Give a page's records and the offset that holds once they are delivered.

        Blocks: while the bytes in flight are at `producer.buffer.memory`.
        Raises: a SinkError; nothing of the parcel counts as delivered then.
        """

    def commit(self) -> None:
        """
        End of a poll: send what is open, wait for acknowledgement and state.

        Blocks: until all of it is acknowledged and the state is saved, or a
        SinkError.
        """
