"""
Children: apis that are polled once for each record of another api.

Owns the walk through a tree of parents and children: which values a parent's
page names, that each is polled once, and that the parent's position passes a
page only when all its children are delivered.  Children are fetched in
threads, but everything is handed over by the thread that asked for the tree.

Path: `task.flow` asks for the parent's pages -> here -> `source.poll`;
children's pages go through a `ChildDelivery`
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self, TypeAlias

from msgspec import Raw
from msgspec.structs import replace

from engine.errors import BadPage, SourceError
from engine.language.faults import EvaluationError
from engine.language.paths import compile_path
from engine.language.values import MISSING, text_of
from engine.later import later
from engine.policy import Follows, of_child
from engine.records import Offset, Page
from engine.seams import Stopping
from engine.source.paging.pager import Note
from engine.source.paging.position import plain_value, whole
from engine.source.poll import Poll

if TYPE_CHECKING:
    from concurrent import futures as concurrent

    #: What is to be done, and where its result goes.
    _Call: TypeAlias = tuple[Callable[[], Any], concurrent.Future[Any]]
else:
    concurrent = later("concurrent.futures")

log = logging.getLogger("source")

#: Most apis from the top of a tree to its lowest leaf.
LEVELS: Final = 5
#: How soon a waiting thread looks at `stopping`, in seconds.
LOOK: Final = 0.05


class ChildDelivery(Protocol):
    """
    Where the pages of children go, and where each of them stands.

    A child's source partition is that of its api with `"parent": value`.
    Called by one thread at a time.
    """

    def offset(self, api: str, parent: str) -> Offset | None:
        """The newest offset handed over for a child, or the stored one."""

    def hand_over(self, api: str, parent: str, page: Page) -> None:
        """Transform a page of a child and give it to Kafka; may block."""

    def settle(self) -> None:
        """Wait until all that was handed over is acknowledged and saved."""


class ChildApi:
    """
    One api below another.

    Args:
        api: Its `api.name`.
        poll: Polls it; the same object for all parent values.
        extract: `api.chaining.extract.field`, a path in the parent's record.
        concurrent: Child polls under way at once
            (`api.chaining.max.concurrent`).
        patient: True for `behavior.on.error=IGNORE`: a child poll that fails
            for good is skipped and counted.
        children: The apis below it.

    Attributes:
        values: What a parent's record names, as `naming` reads it.
    """

    def __init__(
        self,
        api: str,
        poll: Poll,
        *,
        extract: str,
        concurrent: int = 10,
        patient: bool = False,
        children: Sequence[ChildApi] = (),
    ):
        self.api = api
        self.poll = poll
        self.concurrent = concurrent
        self.patient = patient
        self.children = tuple(children)
        self.values = naming(extract)


def naming(extract: str) -> Callable[[Raw], list[object]]:
    """
    Reads what a parent's record names: str, int, bool or number text, one for
    each child poll; None for an item that names nothing.

    The reader raises BadPage where the record cannot be read.
    """
    get = compile_path(extract).get

    def values(record: Raw) -> list[object]:
        try:
            found = get(record)
            if isinstance(found, Raw) and bytes(found).lstrip()[:1] == b"[":
                found = _ITEMS(found)
            items = found if isinstance(found, list) else [found]
            return [_one(item) for item in items]
        except EvaluationError as e:
            raise BadPage(f"a record cannot be read at {extract!r}: {e}") from e

    return values


_ITEMS: Final = compile_path("[*]").get


def _one(item: object) -> object:
    """A value to ask with, or None."""
    value = None if item is MISSING else plain_value(item)
    if value == "" or (isinstance(value, Raw) and bytes(value)[:1] in (b"[", b"{")):
        return None
    return value


class _Cut(Exception):
    """The tree is to end; nothing more is begun."""


class _Desk:
    """
    Where threads have things done by the thread that owns the tree.

    One at a time, in the order of asking.
    """

    def __init__(self, stopping: Stopping):
        #: What is to be done, and child polls that have ended.
        self._calls: queue.SimpleQueue[_Call | concurrent.Future[None]] = (
            queue.SimpleQueue()
        )
        self._stopping = stopping
        # Set once by the owner. A thread that waits looks at it every `LOOK` seconds, since an
        # owner that has left the loop answers no call any more.
        self._closed = threading.Event()

    @property
    def cut(self) -> bool:
        """True once nothing more is to be begun."""
        return self._closed.is_set() or self._stopping.is_set()

    def close(self) -> None:
        """Nothing is done any more; who waits is told so."""
        self._closed.set()

    def call(self, work: Callable[[], Any]) -> Any:
        """
        Have something done by the owner, and wait for it.

        Raises: What it raised, or _Cut.
        """
        done: concurrent.Future[Any] = concurrent.Future()
        self._calls.put((work, done))
        while not self.cut:
            try:
                return done.result(LOOK)
            except TimeoutError:
                # The work may have raised one itself.
                if done.done():
                    raise
        raise _Cut

    def serve(self, under_way: Sequence[concurrent.Future[None]]) -> None:
        """
        Do what is asked until all of these have ended.

        Raises: What the first of them that failed raised, or _Cut.
        """
        # Hot path: each of thousands is looked at once, when it has ended.
        for each in under_way:
            each.add_done_callback(self._calls.put)
        failure: BaseException | None = None
        left = len(under_way)
        while left:
            asked = self._calls.get()
            if isinstance(asked, concurrent.Future):
                left -= 1
                error = None if asked.cancelled() else asked.exception()
                if error is None:
                    continue
                if failure is None:
                    for each in under_way:
                        each.cancel()
                if failure is None or isinstance(failure, _Cut):
                    # One that only followed from another counts last.
                    failure = error
                continue
            work, done = asked
            if self.cut or failure is not None:
                done.set_exception(_Cut())
                continue
            try:
                done.set_result(work())
            except Exception as error:  # noqa: BLE001 - raised where it was asked
                done.set_exception(error)
        if failure is not None:
            raise failure


def _failure_of(futures: Sequence[concurrent.Future[None]]) -> BaseException | None:
    """The first failure; one that only followed from another counts last."""
    failures = [
        error
        for each in futures
        if each.done() and not each.cancelled() and (error := each.exception())
    ]
    failures.sort(key=lambda error: isinstance(error, _Cut))
    return failures[0] if failures else None


class Tree:
    """
    A parent and all that is below it, as the source of one shard.

    Args:
        parent: Polls the top api.
        children: The apis right below it.
        delivery: Where children's pages go.
        note: Told the name of each counter that goes up.
    """

    def __init__(
        self,
        parent: Poll,
        children: Sequence[ChildApi],
        *,
        delivery: ChildDelivery,
        stopping: Stopping,
        note: Note = lambda name: None,
    ):
        self._parent = parent
        self._children = tuple(children)
        self._delivery = delivery
        self._stopping = stopping
        self._note = note

    @property
    def idle(self) -> Offset | None:
        """As `Poll.idle`."""
        return self._parent.idle

    def pages(self, offset: Offset | None) -> Generator[Page]:
        """
        The parent's pages; each comes once all below it is delivered.

        Raises:
            SourceError: The parent or a child could not be polled.
            EngineError: What a delivery raised.

        Blocks: for all child polls of a page; stopping ends it, and the page
            in hand is not yielded then.
        """
        run = _Run(self._delivery, _Desk(self._stopping), self._note)
        with run, closing(self._parent.pages(offset)) as pages:
            for page in pages:
                number = whole(page.offset, "poll", 1)
                futures = run.submit(
                    self._children, page, number, self._delivery.offset
                )
                if futures:
                    try:
                        run.desk.serve(futures)
                    except _Cut:
                        return
                    self._delivery.settle()
                yield page


class _Asked(NamedTuple):
    """
    A child poll that is to be.

    Attributes:
        value, text: What the record names, and the same as a text.
        record: Of a page above.
        offset: Where the child stands.
    """

    child: ChildApi
    value: object
    text: str
    record: Raw
    above: Page
    number: int
    offset: Offset | None


class _Run:
    """One poll of a tree."""

    def __init__(self, delivery: ChildDelivery, desk: _Desk, note: Note):
        self.desk = desk
        self._delivery = delivery
        self._note = note
        self._pools: dict[str, concurrent.ThreadPoolExecutor] = {}
        # Child polls run on threads of their own and may have children themselves. Guards that a
        # value is taken once in a poll, and that each api has one pool.
        self._lock = threading.Lock()
        #: Hashes of (api, value) that have been taken in this poll.
        self._taken: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.desk.close()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def submit(
        self,
        children: Sequence[ChildApi],
        page: Page,
        number: int,
        stored: Callable[[str, str], Offset | None],
    ) -> list[concurrent.Future[None]]:
        """
        Begin the child polls of a page, each value once in the tree's poll.

        Args:
            stored: Where a child stands, as `ChildDelivery.offset`.
        """
        futures = []
        for child in children:
            for record in page.records:
                for value in child.values(record):
                    text = text_of(value)
                    if text is None:
                        self._note("children_without_value_total")
                        continue
                    if not self._take(child.api, text):
                        continue
                    offset = stored(child.api, text)
                    if (
                        offset is not None
                        and offset.get("done") is True
                        and whole(offset, "poll", 1) == number
                    ):
                        # Delivered in this very poll, before a crash.
                        continue
                    asked = _Asked(child, value, text, record, page, number, offset)
                    futures.append(self._pool(child).submit(self._poll, asked))
        return futures

    def _take(self, api: str, value: str) -> bool:
        key = hash((api, value))
        with self._lock:
            if key in self._taken:
                return False
            self._taken.add(key)
            return True

    def _pool(self, child: ChildApi) -> concurrent.ThreadPoolExecutor:
        with self._lock:
            pool = self._pools.get(child.api)
            if pool is None:
                pool = self._pools[child.api] = concurrent.ThreadPoolExecutor(
                    child.concurrent, thread_name_prefix=f"child-{child.api}"
                )
            return pool

    def _poll(self, asked: _Asked) -> None:
        """One child poll, in a thread of its pool."""
        desk, delivery = self.desk, self._delivery
        if desk.cut:
            raise _Cut
        child, record, number = asked.child, asked.record, asked.number
        scope = {
            "parent": record,
            "parent_value": asked.value,
            "parent_response": Raw(asked.above.response.body),
        }
        last = False
        try:
            pages = child.poll.pages(asked.offset, scope=scope, number=number)
            with closing(pages):
                for page in pages:
                    page = replace(page, parent=record, parent_value=asked.value)
                    self._below(child, page, number)
                    desk.call(partial(delivery.hand_over, child.api, asked.text, page))
                    last = page.last
        except SourceError as failure:
            follows = of_child(failure, tolerant=child.patient)
            if follows is not Follows.NEXT_CHILD:
                raise
            self._note("child_polls_skipped_total")
            log.warning("The poll of a child of %s is skipped: %s", child.api, failure)
            return
        if not last:
            raise _Cut

    def _below(self, child: ChildApi, page: Page, number: int) -> None:
        """Grandchildren: the child's page waits until they are delivered."""
        if not child.children:
            return
        desk, delivery = self.desk, self._delivery
        futures = self.submit(
            child.children,
            page,
            number,
            lambda api, parent: desk.call(partial(delivery.offset, api, parent)),
        )
        if not futures:
            return
        # The end of the run cancels what has not begun, and `wait` is not told.
        while concurrent.wait(futures, LOOK, concurrent.FIRST_EXCEPTION).not_done:
            if _failure_of(futures) is not None:
                break
            if self.desk.cut:
                raise _Cut
        failure = _failure_of(futures)
        if failure is not None:
            for each in futures:
                each.cancel()
            raise failure
        self.desk.call(self._delivery.settle)
