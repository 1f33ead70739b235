"""
Ledger: what a pager keeps of its poll: pages, totals, the guard, `last.<path>`.

Owns the page that an answer makes, with the offset behind it, and what is said of a poll
that ends where nobody said that it does.

Path: the pagers of `source.paging` -> here -> `paging.envelope`, `paging.loops`
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec import Raw

from engine.clock import SYSTEM
from engine.errors import SourceError
from engine.records import Page, Primitive, Request, Response
from engine.source.decode.decoder import Decoded
from engine.source.paging.envelope import PromisedTotals
from engine.source.paging.loops import LoopGuard
from engine.source.paging.pager import PagingPlan
from engine.source.paging.position import Position, put_fields, whole
from engine.source.wire.origin import shown

log = logging.getLogger("source")


class PollLedger:
    """What every walk keeps: its pages, its guard, its totals, `last.<path>`."""

    def __init__(self, plan: PagingPlan, stored: Position):
        position = stored.position
        self.plan = plan
        self.poll = stored.poll
        self.index = 0
        self.guard = LoopGuard(headers=plan.shape.in_headers)
        self.totals = PromisedTotals(
            plan.fields,
            whole(position, "received", 0),
            whole(position, "pages", 0),
        )
        self.last: dict[str, object] = stored.last()
        self._later = stored.later
        self._doubted = False

    def more(self, decoded: Decoded) -> bool | None:
        """`has.more.field`, or None: nothing is said, or nothing configured."""
        fields = self.plan.fields
        if "has_more" not in fields or decoded.empty:
            return None
        more = fields.flag("has_more", decoded.found)
        return more if more is None else more is not self.plan.paging.inverted

    def stops(self, decoded: Decoded, response: Response) -> bool:
        """True if `pagination.stop.condition` holds for this page."""
        stop = self.plan.paging.stop
        return stop is not None and stop(decoded.found, response, len(decoded.records))

    def learn_last(self, records: Sequence[Raw]) -> None:
        if records:
            self.last = self.plan.last_of(records[-1])

    def page(
        self,
        response: Response,
        records: Sequence[Raw],
        position: dict[str, Primitive],
        *,
        ended: bool,
        index: int,
        dropped: int = 0,
        unread: str = "",
    ) -> Page:
        """The page, with the offset that holds once it is delivered."""
        self.index += 1
        truncated = not ended and self.index >= self.plan.paging.max_pages
        offset: dict[str, Primitive] = {"poll": self.poll, "done": ended, **position}
        offset.update(self.totals.position())
        put_fields(offset, "last.", self.last)
        if truncated:
            # What is noted is said, too, and not more often than is of use.
            self.plan.note("polls_truncated_total")
        return Page(
            response=response,
            index=index,
            records=records,
            offset=offset,
            last=ended or truncated,
            truncated=truncated,
            deduplicated=dropped,
            unread=unread,
        )

    def nothing(self, request: Request, failure: SourceError) -> Response:
        """An empty answer in the place of a refusal that means the end."""
        return Response(
            request=request,
            url=request.url,
            status=failure.status or 204,
            headers=(),
            body=b"",
            sent_at=SYSTEM.monotonic(),
            received_ms=SYSTEM.wall_ms(),
        )

    # What is said is counted too, under the name that is noted.

    def repeated(self, url: str, *, met: bool, more: bool) -> str:
        """
        Say that a page brought what another one had.

        Args:
            met: All that the API promised has come: it answers its last page to
                whoever asks beyond it, and there is nothing to say.
            more: The API says that there is more.

        Returns: what was promised and cannot be read, or "".
        """
        if met:
            return ""
        self.plan.note("polls_repeating_total")
        log.warning(
            "The poll ends at a page that repeats one before it (%s): the API takes "
            "no notice of the paging parameters, or answers beyond its end; "
            "pagination.repeats=ALLOW takes such pages.",
            shown(url),
        )
        if more:
            return "the API says that there is more, and repeats its pages"
        if self.totals.known and not self._later:
            return f"the API promised {self.totals.words}, and repeats its pages"
        return ""

    def unsure(self, words: str) -> None:
        """Say that the poll ended where nobody said that it does."""
        self.plan.note("polls_unsure_total")
        log.warning("The poll ended at %s.", words)

    def short_of(self, promised: str) -> None:
        """Say that fewer records came than the API promised."""
        self.plan.note("total_mismatch_total")
        log.warning("The poll ended before %s had come.", promised)

    def mismatch(self) -> None:
        """Say so if fewer came than were promised."""
        totals = self.totals
        if not self._later and totals.known and not totals.reached:
            self.short_of(totals.words)

    def doubt(self) -> None:
        """Say once that a total does not fit what came."""
        totals = self.totals
        if self._doubted or not (totals.doubted or totals.exceeded):
            return
        self._doubted = True
        self.plan.note("totals_doubted_total")
        said = totals.words if totals.known else "a total of 0 beside records"
        log.warning("The API said %s: its total is not believed, and asked on.", said)
