"""
JobFiles: the files that a job has made, one behind the other.

Path: `source.jobs` -> here, walked by `source.poll`
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import SourceError
from engine.records import Offset, Page, Request, Response
from engine.source.decode.decoder import Decoded
from engine.source.jobstate import FILE
from engine.source.paging.pager import PollRequests


class JobFiles:
    """
    The files of a job, one behind the other; a `pager.Pager`.

    Args:
        start: Makes their requests.
        first: How many of them were fetched before.
        ends: The positions within them and behind the last one.
        window: Of which they are, or None.
    """

    stored = onward = False

    def __init__(
        self,
        urls: Sequence[str],
        start: PollRequests,
        *,
        first: int,
        ends: tuple[Offset, Offset],
        window: tuple[int, int] | None = None,
    ):
        self._urls = urls
        self._start = start
        self._next = first
        self._ends = ends
        self._window = window
        self._asked = False
        self.over = first >= len(urls)

    def ask(self) -> Request | None:
        if self.over or self._asked:
            return None
        self._asked = True
        return self._start.follow(self._next, self._urls[self._next])

    def give_up(self) -> None:
        """Do nothing: nobody waits for a job here."""

    def expects(self, request: Request) -> bool:
        return self._asked and not self.over

    def learn(
        self, request: Request, response: Response, decoded: Decoded
    ) -> Page | None:
        self._asked = False
        index, self._next = self._next, self._next + 1
        self.over = self._next >= len(self._urls)
        within, offset = self._ends
        if not self.over:
            offset = {**within, FILE: self._next}
        return Page(
            response=response,
            index=index,
            records=decoded.records,
            offset=offset,
            last=offset["done"] is True,
            window=self._window,
        )

    def refused(self, request: Request, failure: SourceError) -> Page | None:
        raise failure
