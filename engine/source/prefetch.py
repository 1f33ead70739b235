"""
Prefetch: how the pages of a poll are fetched, and handed over in order.

Owns the threads of `pagination.concurrent.*` and the bounds on what they may
fetch before anybody asks for it.  Knows neither HTTP nor Kafka: a pager says
what to ask, an answer is something that can be called.

Path: `source.poll` -> here -> `source.paging.paginator`, an answer -> Page, in order
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import Final, Protocol, TypeAlias

from engine.errors import SourceError
from engine.records import Page, Request, Response
from engine.seams import Stopping
from engine.source.decode.decoder import Decoded
from engine.source.paging.pager import Pager

#: A request, sent and decoded; raises a SourceError, blocks as a Fetch does.
Answer: TypeAlias = Callable[[Request], tuple[Response, Decoded]]

#: Pause before the board is read again, in seconds.
BOARD_PAUSE: Final = 0.02
#: How soon a waiting thread looks at `stopping` and the budget, in seconds.
LOOK: Final = 0.05
#: How long a closed poll waits for its threads, in seconds; one that sits in
#: a request leaves when that ends.
FAREWELL: Final = 0.5


class ByteBudget(Protocol):
    """The bytes a task may hold."""

    def acquire(self, size: int, stopping: Stopping) -> bool:
        """Take room, waiting for it until `stopping`; False: nothing taken."""

    def release(self, size: int) -> None:
        """Give room back."""


class _AtOnce:
    """A `Stopping` for those who do not want to wait."""

    def is_set(self) -> bool:
        return True

    def wait(self, seconds: float) -> bool:
        return True


_AT_ONCE: Final = _AtOnce()


class Unbounded:
    """A budget for who has none."""

    def acquire(self, size: int, stopping: Stopping) -> bool:
        return True

    def release(self, size: int) -> None:
        return None


def one_by_one(pager: Pager, answer: Answer, stopping: Stopping) -> Generator[Page]:
    """
    The pages of a pager, fetched by whoever asks for them.

    Ends early when stopping is set while the pager waits for other shards.

    Blocks: for each page until its answer is there.
    """
    # Hot path: no thread, no queue, no lock.
    while not pager.over:
        request = pager.ask()
        if request is None:
            if pager.over or stopping.wait(BOARD_PAUSE):
                return
            continue
        try:
            response, decoded = answer(request)
        except SourceError as failure:
            page = pager.refused(request, failure)
        else:
            page = pager.learn(request, response, decoded)
        if page is not None:
            yield page


class _Ticket:
    """A request under way: its place in line, and what came of it."""

    __slots__ = ("answer", "error", "held", "request")

    def __init__(self, request: Request, held: int):
        self.request = request
        self.held = held
        self.answer: tuple[Response, Decoded] | None = None
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.answer is not None or self.error is not None


def _page_of(pager: Pager, ticket: _Ticket) -> Page | None:
    """What an answer makes, or a failure that may be the end of the pages."""
    if isinstance(ticket.error, SourceError):
        return pager.refused(ticket.request, ticket.error)
    if ticket.error is not None:
        raise ticket.error
    assert ticket.answer is not None
    return pager.learn(ticket.request, *ticket.answer)


class _Run:
    """One poll's part of what is fetched ahead."""

    def __init__(self, pager: Pager, answer: Answer, stopping: Stopping):
        self.pager = pager
        self.answer = answer
        self.stopping = stopping
        self.tickets: deque[_Ticket] = deque()
        #: Pages in order, each with the bytes it holds of the budget.
        self.ready: deque[tuple[Page, int]] = deque()
        self.error: Exception | None = None
        self.flying = 0
        #: Pages asked for and not yet handed over.
        self.open = 0
        self.hungry = False
        self.closed = False
        #: Bytes of the page before: what the next one is reckoned at.
        self.size = 0

    @property
    def ended(self) -> bool:
        """True once nothing more is to be asked."""
        return (
            self.closed
            or self.error is not None
            or self.pager.over
            or self.stopping.is_set()
        )


class Prefetcher:
    """
    What all shards of a task fetch ahead, together within its bounds.

    A poll always may have one request under way when it holds nothing else,
    so that no bound and no other shard can stop it.

    Args:
        threads: Most requests under way (`pagination.concurrent.max.threads`).
        pages: Most pages fetched and not handed over
            (`pagination.concurrent.queue.size`).
        budget: Where their bytes count.
    """

    def __init__(self, *, threads: int, pages: int, budget: ByteBudget | None = None):
        self._threads = threads
        self._pages = pages
        self._budget = budget or Unbounded()
        self._changed = threading.Condition()
        self._flying = 0
        self._waiting = 0
        self._hungry = 0

    def pages(
        self,
        pager: Pager,
        answer: Answer,
        stopping: Stopping,
        *,
        parallel: bool,
        name: str = "ahead",
    ) -> Generator[Page]:
        """
        The pages of a pager in order, fetched by threads of their own.

        Closing the iterator ends the threads: at once, or when the request
        they are in ends.

        Args:
            parallel: True if later pages can be asked before earlier ones
                came; else one thread runs along the chain.

        Raises:
            What an answer raised, after the pages before it were handed over.

        Blocks: until the next page is there; stopping ends it.
        """
        run = _Run(pager, answer, stopping)
        threads = [
            threading.Thread(
                target=self._work, args=(run,), name=f"{name}-{number}", daemon=True
            )
            for number in range(self._threads if parallel else 1)
        ]
        for thread in threads:
            thread.start()
        try:
            while (taken := self._next(run)) is not None:
                page, held = taken
                try:
                    yield page
                finally:
                    with self._changed:
                        self._let_go(run, held, waited=True)
                if page.last:
                    return
        finally:
            self._close(run)
            for thread in threads:
                thread.join(FAREWELL / len(threads))

    def _next(self, run: _Run) -> tuple[Page, int] | None:
        """The next page, or None: the poll has ended, or is to end."""
        with self._changed:
            while not run.ready:
                if run.error is not None:
                    raise run.error
                if run.ended:
                    return None
                self._changed.wait(LOOK)
            return run.ready.popleft()

    def _close(self, run: _Run) -> None:
        with self._changed:
            run.closed = True
            for _, held in run.ready:
                self._let_go(run, held, waited=True)
            run.ready.clear()
            for ticket in run.tickets:
                if ticket.done:
                    self._let_go(run, ticket.held, waited=True)
            run.tickets = deque(each for each in run.tickets if not each.done)
            self._set_hungry(run, False)
            self._changed.notify_all()

    def _let_go(self, run: _Run, held: int, *, waited: bool) -> None:
        """A page is no longer ours; under the lock."""
        run.open -= 1
        if waited:
            self._waiting -= 1
        self._budget.release(held)
        self._changed.notify_all()

    # -- the threads -----------------------------------------------------------

    def _work(self, run: _Run) -> None:
        while (ticket := self._take(run)) is not None:
            try:
                ticket.answer = run.answer(ticket.request)
            except Exception as error:  # noqa: BLE001 - raised where it is next
                ticket.error = error
            with self._changed:
                self._landed(run, ticket)

    def _take(self, run: _Run) -> _Ticket | None:
        """The next request to send, or None: this thread is not needed."""
        with self._changed:
            while not run.ended:
                if self._may_start(run):
                    held = self._room(run)
                    if held is not None:
                        request = self._ask(run)
                        if request is not None:
                            return self._started(run, request, held)
                        self._budget.release(held)
                        self._set_hungry(run, False)
                        if run.flying == 0 and not run.ended:
                            # Others must say something first.
                            self._changed.wait(BOARD_PAUSE)
                            continue
                if not run.ended:
                    self._changed.wait(LOOK)
            self._set_hungry(run, False)
            self._changed.notify_all()
            return None

    def _ask(self, run: _Run) -> Request | None:
        try:
            return run.pager.ask()
        except Exception as error:  # noqa: BLE001 - raised behind the pages before
            if run.tickets:
                # It stands behind what is under way: asked again when that came.
                return None
            run.error = error
            self._changed.notify_all()
            return None

    def _may_start(self, run: _Run) -> bool:
        """The bounds in requests and pages; under the lock."""
        if run.open and self._waiting >= self._pages:
            return False
        if self._flying >= self._threads:
            self._set_hungry(run, run.flying == 0)
            return False
        # A free place goes first to a shard that has nothing under way.
        return run.flying == 0 or self._hungry == 0

    def _set_hungry(self, run: _Run, hungry: bool) -> None:
        if run.hungry != hungry:
            run.hungry = hungry
            self._hungry += 1 if hungry else -1

    def _room(self, run: _Run) -> int | None:
        """Bytes set aside for a page, or None: there is no room."""
        if self._budget.acquire(run.size, _AT_ONCE):
            return run.size
        return 0 if run.open == 0 else None

    def _started(self, run: _Run, request: Request, held: int) -> _Ticket:
        ticket = _Ticket(request, held)
        run.tickets.append(ticket)
        run.flying += 1
        run.open += 1
        self._flying += 1
        self._set_hungry(run, False)
        return ticket

    def _landed(self, run: _Run, ticket: _Ticket) -> None:
        """An answer, or a failure, is there; under the lock."""
        run.flying -= 1
        self._flying -= 1
        self._waiting += 1
        if ticket.answer is not None:
            size = run.size = len(ticket.answer[0].body)
            if size < ticket.held:
                self._budget.release(ticket.held - size)
                ticket.held = size
            elif self._budget.acquire(size - ticket.held, _AT_ONCE):
                ticket.held = size
        if run.closed:
            self._let_go(run, ticket.held, waited=True)
        else:
            self._settle(run)
        self._changed.notify_all()

    def _settle(self, run: _Run) -> None:
        """Turn answers into pages, as far as they lie in order."""
        tickets, pager = run.tickets, run.pager
        while tickets and tickets[0].done and run.error is None:
            ticket = tickets.popleft()
            page = None
            if pager.expects(ticket.request):
                try:
                    page = _page_of(pager, ticket)
                except Exception as error:  # noqa: BLE001 - raised in its turn
                    run.error = error
            if page is None:
                self._let_go(run, ticket.held, waited=True)
            else:
                run.ready.append((page, ticket.held))
