"""
Spans: time cut into windows of one length, by the clock of a zone.

Owns the arithmetic: where window n begins and ends when clocks are put forward and back.
A window of a day is a calendar day of the zone, of 23 or 25 hours where it has so many;
windows follow each other without a gap and without an overlap.  Pure.

Path: `source.paging.windows` -> here
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from msgspec import Struct

from engine.language.faults import EvaluationError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLI = timedelta(milliseconds=1)


class Grid(Struct, frozen=True):
    """
    Windows of equal length, one after the other, without an end.

    Attributes:
        start: Epoch milliseconds at which window 0 begins.
        size: Seconds by the zone's clock.
        zone: Its clock.
    """

    start: int
    size: int
    zone: tzinfo = UTC

    def bounds(self, index: int) -> tuple[int, int]:
        """
        Begin and end of a window in epoch milliseconds; the end is not in it.

        Both are the same where the clock has left out the whole of it.

        Raises: EvaluationError: outside the years 1 to 9999.
        """
        return self._edge(index), self._edge(index + 1)

    def _edge(self, index: int) -> int:
        if self.zone is UTC:
            return self.start + index * self.size * 1000
        try:
            first = _EPOCH + timedelta(milliseconds=self.start)
            wall = first.astimezone(self.zone).replace(tzinfo=None)
            wall += timedelta(seconds=index * self.size)
            return instant_of(wall, self.zone)
        except (OverflowError, ValueError) as e:
            raise EvaluationError("a time out of range") from e


def instant_of(wall: datetime, zone: tzinfo) -> int:
    """
    Epoch milliseconds at which a zone's clock first shows a time, or would have.

    Where the clock is put forward over it, that is the moment of the change.
    """
    early = wall.replace(tzinfo=zone, fold=0)
    late = wall.replace(tzinfo=zone, fold=1)
    there = _ms(early)
    if early.utcoffset() == late.utcoffset():
        return there
    if early.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall:
        # Shown twice: the first time counts.
        return there
    low, high = sorted((there, _ms(late)))
    # The clock jumps over it between these two.
    before = _gap(low, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _gap(middle, zone) == before:
            low = middle
        else:
            high = middle
    return high


def _ms(moment: datetime) -> int:
    return (moment.astimezone(UTC) - _EPOCH) // _MILLI


def _gap(ms: int, zone: tzinfo) -> timedelta | None:
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone).utcoffset()
