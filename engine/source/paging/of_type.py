"""
Of type: what the pagers of all pagination types have in common.

Owns how the pager of a poll is made, and what holds unless a type says otherwise: one
request at a time, no shard waits for another, a refused request is a failure.

Path: `paging.by_cursor`, `by_value`, `by_number` -> here -> `paging.ledger`
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from engine.errors import SourceError
from engine.records import Page, Request, Response
from engine.source.decode.decoder import Decoded
from engine.source.paging.ledger import PollLedger
from engine.source.paging.pager import Paging, PagingPlan, PollRequests
from engine.source.paging.position import Position


class TypePager(ABC):
    """
    The pager of one poll; a `paging.pager.Pager`.

    Attributes:
        TYPE: The type's name in `config.pagination`.
        over: True once the poll has ended; nothing more is asked.
        stored: True while what is asked comes out of a stored cursor or link.

    Args:
        plan: What the shard's polls go by.
        stored: Where it goes on; its poll's number may be set to a later one.
        start: Makes its requests.
        child: The poll is one of many with this number: of one parent's value.

    Raises:
        StateError: The position belongs to another type, or cannot be read.
        SourceError: The first place is none.
    """

    TYPE: ClassVar[str]

    @classmethod
    def places(cls, paging: Paging) -> Mapping[str, str | None]:
        """The places in an answer that only this type looks at, by name."""
        return {}

    def __init__(
        self,
        plan: PagingPlan,
        stored: Position,
        start: PollRequests,
        *,
        child: bool = False,
    ):
        self.over = False
        self._plan = plan
        self._start = start
        self._asked = False
        self._ledger = PollLedger(plan, self._taken_up(stored))
        self._begin(stored, child=child)

    @property
    def stored(self) -> bool:
        """As `Pager`: nothing that expires is asked for."""
        return False

    @property
    def onward(self) -> bool:
        """As `Pager`: False where no page is asked for by an answer."""
        return False

    def _taken_up(self, stored: Position) -> Position:
        """Where the poll goes on, before its ledger is opened with that."""
        return stored

    @abstractmethod
    def _begin(self, stored: Position, *, child: bool) -> None:
        """Set up what the type keeps of a poll, behind a stored position."""

    @abstractmethod
    def ask(self) -> Request | None:
        """As `Pager`."""

    def give_up(self) -> None:
        """As `Pager`: nobody waits for it."""

    def expects(self, request: Request) -> bool:
        """As `Pager`."""
        return self._asked and not self.over

    @abstractmethod
    def learn(
        self, request: Request, response: Response, decoded: Decoded
    ) -> Page | None:
        """As `Pager`."""

    def refused(self, request: Request, failure: SourceError) -> Page | None:
        """As `Pager`: no refusal is an end."""
        raise failure
