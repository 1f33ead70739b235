"""
Poll: the pages of one shard, first to last.

Owns the joining of what a poll is made of: a paginator says what to ask, a
fetch asks, a decoder splits the answer.  Decides nothing itself but what an
empty status and a refused cursor mean.

Path: `task.flow` -> here -> `source.paginate`, `source.fetch`,
`source.decode`; back come pages
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

from msgspec import Raw, Struct

from engine.clock import SYSTEM, Clock
from engine.errors import CursorExpired, SourceError
from engine.records import Offset, Page, Request, Response
from engine.seams import Fetch, Stopping
from engine.source.ahead import one_by_one
from engine.source.paginate import Paginator
from engine.source.walk import Course, Decoded

#: Statuses by which an API says that it no longer knows a cursor.
_EXPIRED: Final = frozenset({400, 404, 410})


class _Nothing(Struct, frozen=True):
    """What a response with an empty status decodes to."""

    records: list[Raw] = []
    values: tuple[Raw | None, ...] = ()


class Poll:
    """
    A source of pages for one shard.

    Args:
        paginator: The walk.
        fetch: Sends a request.
        decode: Splits a response; it was compiled with `paginator.paths`.
        empty: Statuses that mean an empty page
            (`http.response.status.empty`).
        task: Number of the task, for `${task}`.
        entity: `${entityName}`, or None.
        ahead: Fetches in threads of its own; None: in the caller's.
    """

    def __init__(
        self,
        paginator: Paginator,
        *,
        fetch: Fetch,
        decode: Callable[[Response], Decoded],
        stopping: Stopping,
        empty: Collection[int] = frozenset({204, 205}),
        task: int = 0,
        entity: str | None = None,
        clock: Clock = SYSTEM,
    ):
        self._paginator = paginator
        self._fetch = fetch
        self._decode = decode
        self._stopping = stopping
        self._empty = frozenset(empty)
        self._task = task
        self._entity = entity
        self._clock = clock

    def pages(self, offset: Offset | None) -> Iterator[Page]:
        """
        One poll, from where an offset says, first page to last.

        Each page carries the offset that holds once it is delivered.

        Raises:
            SourceError: A page could not be had; those before it were yielded.
            StateError: The offset cannot be read.

        Blocks: for each page until it is there; stopping cuts it.
        """
        course = self._paginator.start(offset, self._clock.wall_ms())
        for page in one_by_one(course, self._answer_for(course), self._stopping):
            page.task = self._task
            page.entity = self._entity
            yield page

    def _answer_for(
        self, course: Course
    ) -> Callable[[Request], tuple[Response, Decoded]]:
        fetch, decode, empty = self._fetch, self._decode, self._empty

        def answer(request: Request) -> tuple[Response, Decoded]:
            try:
                response = fetch(request)
            except SourceError as e:
                if e.status in _EXPIRED and course.stored:
                    raise _expired(e.status, request.url) from e
                raise
            if response.status in empty:
                if response.status in _EXPIRED and course.stored:
                    raise _expired(response.status, request.url)
                return response, _Nothing()
            return response, decode(response)

        return answer


def _expired(status: int | None, url: str) -> CursorExpired:
    return CursorExpired(
        f"the API no longer knows the stored cursor (status {status}); reset the "
        "offset to start over",
        status=status,
        url=url,
    )
