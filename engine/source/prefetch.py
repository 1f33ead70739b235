"""
Prefetch: how the pages of a poll are fetched, and handed over in order.

Owns the threads of `pagination.concurrent.*` and the bounds on what they may
fetch before anybody asks for it.  A shard's own thread fetches whatever nobody has
asked for yet; others fetch ahead of it while that brings anything (`source.worth`).
Knows neither HTTP nor Kafka: a pager says what to ask, an answer is something that
can be called.

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
from engine.source.places import FetchPlaces

#: A request, sent and decoded; raises a SourceError, blocks as a Fetch does.
Answer: TypeAlias = Callable[[Request], tuple[Response, Decoded]]

#: Pause before the board is read again, in seconds.
BOARD_PAUSE: Final = 0.02
#: How soon a waiting thread looks at `stopping` and the budget, in seconds.
LOOK: Final = 0.05
#: Looks without a page to ask for after which a thread ends that fetches ahead.
IDLE_LOOKS: Final = 20
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
    """
    One poll's part of what is fetched ahead; under its own lock.

    Attributes:
        arrived: Its shard waits here for a page.
        work: Threads that fetch ahead wait here for something to ask.
        most: Of these threads.
    """

    def __init__(
        self, pager: Pager, answer: Answer, stopping: Stopping, most: int, name: str
    ):
        # Between the shard's thread and those that fetch for it: guards all fields below and the
        # pager, which is no part for several threads. It is never held during a request, and the
        # locks of `FetchPlaces` and of the budget are taken under it and never the other way
        # round. Two conditions, so that a page wakes the shard and room wakes a fetcher, and
        # nobody is woken in vain.
        self.lock = threading.Lock()
        self.arrived = threading.Condition(self.lock)
        self.work = threading.Condition(self.lock)
        self.pager = pager
        self.answer = answer
        self.stopping = stopping
        self.most = most
        self.name = name
        self.threads: list[threading.Thread] = []
        #: Threads that fetch ahead, and those of them that wait.
        self.helpers = self.idle = 0
        self.tickets: deque[_Ticket] = deque()
        #: Pages in order, each with the bytes it holds of the budget.
        self.ready: deque[tuple[Page, int]] = deque()
        self.error: Exception | None = None
        self.flying = 0
        #: Pages asked for and not yet handed over.
        self.open = 0
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
        self._places = FetchPlaces(threads)

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
        The pages of a pager in order, fetched by the caller's thread and others.

        Closing the iterator ends the others: at once, or when the request
        they are in ends.

        Args:
            parallel: True if later pages can be asked before earlier ones
                came; else one thread runs along the chain.

        Raises:
            What an answer raised, after the pages before it were handed over.

        Blocks: until the next page is there; stopping ends it.
        """
        most = self._threads if parallel else 1
        run = _Run(pager, answer, stopping, most, name)
        self._places.opened()
        try:
            with run.lock:
                self._hire(run)
            while (taken := self._next(run)) is not None:
                page, held = taken
                try:
                    yield page
                finally:
                    with run.lock:
                        self._let_go(run, held)
                if page.last:
                    return
        finally:
            self._close(run)
            self._places.closed()
            for thread in run.threads:
                thread.join(FAREWELL / len(run.threads))

    # -- the shard's own thread ------------------------------------------------

    def _next(self, run: _Run) -> tuple[Page, int] | None:
        """The next page, or None: the poll has ended, or is to end."""
        while True:
            self._places.look()
            with run.lock:
                if run.ready:
                    return run.ready.popleft()
                if run.error is not None:
                    raise run.error
                if run.ended:
                    return None
                if run.flying:
                    run.arrived.wait(LOOK)
                    continue
            # Hot path: nobody has asked for it, and who waits for it fetches it;
            # a page from thread to thread costs more than most of its way.
            if not self._places.take(LOOK):
                continue
            with run.lock:
                ticket = self._own(run)
                if ticket is None:
                    self._places.give(ahead=False)
                    if not run.ended and not run.flying and not run.ready:
                        # Others must say something first.
                        run.arrived.wait(BOARD_PAUSE)
                    continue
                self._encourage(run)
            self._fetch(run, ticket, ahead=False)

    def _own(self, run: _Run) -> _Ticket | None:
        """The next request of a poll that has nothing under way."""
        if run.ended or run.flying or run.ready:
            return None
        held = self._room(run)
        request = None if held is None else self._ask(run)
        if request is None:
            self._budget.release(held or 0)
            return None
        return self._started(run, request, held or 0)

    def _close(self, run: _Run) -> None:
        with run.lock:
            run.closed = True
            for _, held in run.ready:
                self._let_go(run, held)
            run.ready.clear()
            for ticket in run.tickets:
                if ticket.done:
                    self._let_go(run, ticket.held)
            run.tickets = deque(each for each in run.tickets if not each.done)
            run.work.notify_all()

    def _let_go(self, run: _Run, held: int) -> None:
        """A page is no longer ours; under the run's lock."""
        run.open -= 1
        self._places.left()
        self._budget.release(held)
        self._encourage(run)

    # -- the threads that fetch ahead ------------------------------------------

    def _hire(self, run: _Run) -> None:
        """Start one more; under the run's lock."""
        thread = threading.Thread(
            target=self._help,
            args=(run, not run.threads),
            name=f"{run.name}-{len(run.threads)}",
            daemon=True,
        )
        run.helpers += 1
        run.threads = [each for each in run.threads if each.is_alive()]
        run.threads.append(thread)
        thread.start()

    def _encourage(self, run: _Run) -> None:
        """There may be something to fetch ahead; under the run's lock."""
        if run.ended or not self._places.free:
            return
        if run.idle:
            run.work.notify()
        elif run.helpers < run.most:
            self._hire(run)

    def _help(self, run: _Run, first: bool) -> None:
        while True:
            with run.lock:
                ticket = self._take(run, first)
            if ticket is None:
                return
            self._fetch(run, ticket, ahead=True)

    def _take(self, run: _Run, first: bool) -> _Ticket | None:
        """The next request ahead, or None: this thread is not needed."""
        looks = 0
        while not run.ended:
            ticket = self._ahead(run)
            if ticket is not None:
                self._encourage(run)
                return ticket
            # One stays, to see whether others are worth it.
            if not first and looks >= IDLE_LOOKS:
                break
            run.idle += 1
            looks += not run.work.wait(LOOK)
            run.idle -= 1
            self._places.look()
        run.helpers -= 1
        run.arrived.notify()
        return None

    def _ahead(self, run: _Run) -> _Ticket | None:
        """A request that nobody waits for yet, if the bounds allow one."""
        if run.open and self._places.waiting >= self._pages:
            return None
        if not self._places.take_ahead():
            return None
        held = self._room(run)
        if held is not None:
            request = self._ask(run)
            if request is not None:
                return self._started(run, request, held)
            self._budget.release(held)
        self._places.give(ahead=True)
        return None

    # -- both, under the run's lock but for the request itself -----------------

    def _fetch(self, run: _Run, ticket: _Ticket, *, ahead: bool) -> None:
        """Send a request, and see what its answer makes; without the lock."""
        answer: tuple[Response, Decoded] | None = None
        failure: Exception | None = None
        try:
            answer = run.answer(ticket.request)
        except Exception as error:  # noqa: BLE001 - raised where it is next
            failure = error
        with run.lock:
            # It is done for others once its bytes are counted, not before: who closes
            # the poll, or puts pages in order, would give them back a second time.
            ticket.answer, ticket.error = answer, failure
            self._places.landed(ahead=ahead)
            self._landed(run, ticket)
            if ahead:
                run.arrived.notify()

    def _ask(self, run: _Run) -> Request | None:
        try:
            return run.pager.ask()
        except Exception as error:  # noqa: BLE001 - raised behind the pages before
            if run.tickets:
                # It stands behind what is under way: asked again when that came.
                return None
            run.error = error
            run.arrived.notify()
            return None

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
        return ticket

    def _landed(self, run: _Run, ticket: _Ticket) -> None:
        """An answer, or a failure, is there."""
        run.flying -= 1
        if ticket.answer is not None:
            size = run.size = len(ticket.answer[0].body)
            if size < ticket.held:
                self._budget.release(ticket.held - size)
                ticket.held = size
            elif self._budget.acquire(size - ticket.held, _AT_ONCE):
                ticket.held = size
        if run.closed:
            self._let_go(run, ticket.held)
        else:
            self._settle(run)
            self._encourage(run)

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
                self._let_go(run, ticket.held)
            else:
                run.ready.append((page, ticket.held))
