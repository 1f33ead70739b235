"""
Poll: the pages of one shard, first to last.

Owns the joining of what a poll is made of: a paginator says what to ask, a
fetch asks, a decoder splits the answer.  Decides nothing itself but what a
refused cursor means and when a poll begins anew.

Path: `task.flow` -> here -> `source.paging.paginator`, `source.fetch`,
`source.decode`; back come pages
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Generator, Mapping
from contextlib import closing
from typing import Final

from msgspec.structs import replace

from engine.clock import SYSTEM, Clock
from engine.errors import BadPage, CursorExpired, Looping, SourceError
from engine.policy import Follows, of_walk
from engine.records import Offset, Page, Request, Response
from engine.seams import Fetch, Stopping
from engine.source.decode.decoder import Decode, Decoded
from engine.source.decode.diagnosis import bad_page
from engine.source.decode.shapes import Exploding
from engine.source.paging.pager import Pager
from engine.source.paging.paginator import Paginator
from engine.source.prefetch import Prefetcher, one_by_one
from engine.source.wire.cookies import CookieJar
from engine.source.wire.origin import shown

log = logging.getLogger("source")

#: Statuses by which APIs say that they no longer know a stored cursor.
EXPIRED: Final = frozenset({400, 404, 410, 422})

#: Those that say it of a cursor which they have given in the same poll: the others are
#: as likely to mean that there is more than they give.
EXPIRED_WITHIN: Final = frozenset({404, 410})


class Poll:
    """
    A source of pages for one shard.

    Args:
        paginator: The walk.
        fetch: Sends a request.
        decode: Splits a response; it was compiled with `paginator.paths`.
        task: Number of the task, for `${task}`.
        entity: `${entityName}`, or None.
        ahead: Fetches in threads of its own (`pagination.concurrent.enabled`);
            None: in the caller's thread, one request at a time.
        name: Of the threads.
        expired: Statuses by which the API says that it no longer knows a stored
            cursor (`pagination.cursor.expired.status`).
        expired_within: Those by which it says so of a cursor of the same poll, which
            matters only where such a poll begins anew.
        restart: True if such a poll begins anew, False if it fails
            (`pagination.cursor.expired`).
        explode: Makes the records of a page out of what the API counts as records.
        jar: Makes the cookies of a poll, or None: none are kept.
    """

    def __init__(
        self,
        paginator: Paginator,
        *,
        fetch: Fetch,
        decode: Decode,
        stopping: Stopping,
        task: int = 0,
        entity: str | None = None,
        ahead: Prefetcher | None = None,
        name: str = "ahead",
        expired: Container[int] = EXPIRED,
        expired_within: Container[int] = EXPIRED_WITHIN,
        restart: bool = False,
        explode: Exploding | None = None,
        jar: Callable[[], CookieJar] | None = None,
        clock: Clock = SYSTEM,
    ):
        self._paginator = paginator
        self._fetch = fetch
        self._decode = decode
        self._stopping = stopping
        self._task = task
        self._entity = entity
        self._ahead = ahead
        self._name = name
        self._expired = expired
        self._within = expired_within
        self._restart = restart
        self._explode = explode
        self._jar = jar
        self._clock = clock

    @property
    def idle(self) -> Offset | None:
        """
        Where the shard stands after a poll in which no page fell to it.

        None if one did, or if the poll came to no end.
        """
        return self._paginator.idle

    def pages(
        self,
        offset: Offset | None,
        *,
        scope: Mapping[str, object] | None = None,
        number: int | None = None,
    ) -> Generator[Page]:
        """
        One poll, from where an offset says, first page to last.

        Each page carries the offset that holds once it is delivered.

        Args:
            scope: `parent` and `parent_value`, of a child.
            number: Of the poll, where somebody else counts them: a parent.

        Raises:
            SourceError: A page could not be had; those before it were yielded.
            StateError: The offset cannot be read.

        Blocks: for each page until it is there; stopping cuts it.
        """
        now = self._clock.wall_ms()
        anew = again = False
        while True:
            course = self._paginator.start(offset, now, scope, number, anew=anew)
            began = _reached(offset)
            try:
                for page in self._walk(course):
                    # What begins anew knows what this poll has delivered.
                    offset = page.offset
                    yield page
                return
            except SourceError as failure:
                # Who has come further is not refused the same thing once more.
                again = again and _reached(offset) == began
                follows = of_walk(failure, begun_anew=again, may_leave=self._restart)
                if follows is not Follows.ANEW:
                    if isinstance(failure, _ExpiredWithin):
                        raise failure.refusal from None
                    raise
                log.warning("The poll begins anew: %s", failure)
                self._paginator.note("polls_restarted_total")
                anew = again = True

    def _walk(self, course: Pager) -> Generator[Page]:
        answer = self._answer_for(course)
        course = _Naming(course)
        if self._ahead is None:
            pages = one_by_one(course, answer, self._stopping)
        else:
            pages = self._ahead.pages(
                course,
                answer,
                self._stopping,
                parallel=self._paginator.addressable,
                name=self._name,
            )
        with closing(pages):
            try:
                for page in pages:
                    records = page.records
                    if self._explode is not None:
                        records = self._explode(records)
                    yield replace(
                        page, task=self._task, entity=self._entity, records=records
                    )
            except SourceError:
                course.give_up()
                raise

    def _answer_for(
        self, course: Pager
    ) -> Callable[[Request], tuple[Response, Decoded]]:
        fetch, decode = self._fetch, self._decode
        jar = None if self._jar is None else self._jar()

        def answer(request: Request) -> tuple[Response, Decoded]:
            asked = request if jar is None else replace(request, jar=jar)
            try:
                response = fetch(asked)
            except SourceError as e:
                if (
                    e.status is not None
                    and e.status in self._expired
                    and course.stored
                    and not e.ruled
                ):
                    raise _expired(e.status, request.url, str(e)) from e
                if (
                    self._restart
                    and e.status in self._within
                    and course.onward
                    and not e.ruled
                ):
                    raise _ExpiredWithin(e, request.url) from e
                raise
            decoded = decode(response)
            if response.status in self._expired and course.stored and not decoded.empty:
                raise _expired(response.status, request.url)
            return response, decoded

        return answer


class _ExpiredWithin(CursorExpired):
    """A cursor that the API gave in this very poll is refused."""

    def __init__(self, refusal: SourceError, url: str):
        super().__init__(
            f"the API no longer knows a cursor that it gave in this poll: {refusal}",
            status=refusal.status,
            url=url,
        )
        self.refusal = refusal


def _reached(offset: Offset | None) -> tuple[object, ...]:
    """From where a poll begins anew: what a walk that begins there does not repeat."""
    found = offset or {}
    return found.get("bookmark"), found.get("window"), found.get("done")


class _Naming:
    """A course whose bad pages say which answer they are."""

    def __init__(self, course: Pager):
        self._course = course
        self.ask = course.ask
        self.expects = course.expects
        self.give_up = course.give_up
        self.refused = course.refused

    @property
    def over(self) -> bool:
        return self._course.over

    @property
    def stored(self) -> bool:
        return self._course.stored

    @property
    def onward(self) -> bool:
        return self._course.onward

    def learn(
        self, request: Request, response: Response, decoded: Decoded
    ) -> Page | None:
        try:
            return self._course.learn(request, response, decoded)
        except (BadPage, Looping) as failure:
            if not failure.url:
                failure.args = (bad_page(response, str(failure)),)
                failure.status, failure.url = response.status, shown(response.url)
            raise


def _expired(status: int | None, url: str, told: str = "") -> CursorExpired:
    return CursorExpired(
        f"the API no longer knows the stored cursor (status {status}"
        f"{': ' if told else ''}{told}); "
        "pagination.cursor.expired=RESTART reads from the beginning, and so does "
        "offsets reset",
        status=status,
        url=url,
    )
