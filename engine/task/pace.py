"""
Pace: when the next poll is due.

Owns the grid of `http.source.poll.interval.ms` and the ticks of
`http.source.poll.schedule`.  Pure over the clock it is given: it never waits,
it says how long one would have to.

Path: `task.shardloop` asks -> here -> seconds
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from cronsim import CronSim

from engine.clock import SYSTEM, Clock
from engine.source.fetch.policy import RetryPolicy, backoff

#: Pause after a poll without records where polls follow at once, in seconds.
IDLE_PAUSE: Final = 1.0
#: Longest answer of a schedule: the wall clock may jump while one waits.
GLANCE: Final = 30.0
#: Ticks are looked for from so long ago, since a clock change can delay them.
_CHANGE: Final = timedelta(hours=3)


class Interval:
    """
    Polls on a fixed grid of the monotonic clock, start to start.

    A poll that outlasts the interval is not overlapped; the ticks it missed
    are skipped.  Interval 0: the next poll at once, but 1 s after one without
    records.  Below the first pause of `retry.*`, polls given up in a row are as far
    apart as tries of a request: who fails is not asked a thousand times a second.

    Args:
        interval: Seconds, 0 or more.
        catchup: The same after a poll that has brought something new and has not
            caught up; None: there is no such thing.
        origin: Monotonic seconds of tick 0, as an earlier process of this
            shard had it; None: now, and the first poll is due at once.
        resume: True if a crash cut a poll short: due at once, the grid stays.
        skipped: Told how many ticks were missed.
        retry: `retry.*`.
        draw: Uniform random number between two bounds.
    """

    def __init__(
        self,
        interval: float,
        *,
        catchup: float | None = None,
        origin: float | None = None,
        resume: bool = False,
        skipped: Callable[[int], None] = lambda count: None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        draw: Callable[[float, float], float] = random.uniform,
        clock: Clock = SYSTEM,
    ):
        now = clock.monotonic()
        self.origin = now if origin is None else origin
        self._interval = interval
        self._catchup = catchup
        self._started = now
        self._skipped = skipped
        self._retry = retry
        self._draw = draw
        self._clock = clock
        #: Polls given up since the last good one.
        self._failed = 0
        #: The tick that the poll under way, or the next one, belongs to.
        self._tick = 0
        self._due = now
        if interval and origin is not None:
            passed = (now - origin) / interval
            self._tick = math.floor(passed) if resume else math.ceil(passed)
            self._due = now if resume else origin + self._tick * interval

    def due(self) -> float:
        """Seconds until the next poll may start, 0.0 now."""
        return max(self._due - self._clock.monotonic(), 0.0)

    def next_ms(self) -> int:
        """Wall milliseconds at which the next poll may start."""
        return self._clock.wall_ms() + round(1000 * self.due())

    def started(self) -> None:
        """Take note that a poll starts."""
        self._started = self._clock.monotonic()
        if self._interval:
            tick = math.floor((self._started - self.origin) / self._interval)
            if tick > self._tick:
                self._skipped(tick - self._tick)
                self._tick = tick

    def ended(
        self,
        *,
        records: int,
        failed: bool = False,
        fresh: int = 0,
        age: float | None = None,
    ) -> None:
        """
        Take note that a poll has ended.

        Args:
            records: How many it received.
            failed: True if it was given up.
            fresh: Those of the records that were not delivered before.
            age: By how many seconds the newest of them lies behind the API's clock;
                None: nobody knows.
        """
        now = self._clock.monotonic()
        self._failed = self._failed + 1 if failed else 0
        rested = now
        if failed and self._interval < self._retry.backoff:
            rested += backoff(self._failed, self._retry, self._draw)
        behind = bool(fresh) and (age is None or age > self._interval)
        if self._catchup is not None and behind and not failed:
            self._due = max(now, self._started + self._catchup)
            if self._interval:
                self._tick = math.floor((self._due - self.origin) / self._interval)
            return
        if not self._interval:
            self._due = max(rested, now if records else now + IDLE_PAUSE)
            return
        tick = math.ceil((rested - self.origin) / self._interval)
        tick = max(self._tick + 1, tick)
        if tick > self._tick + 1:
            self._skipped(tick - self._tick - 1)
        self._tick = tick
        self._due = self.origin + tick * self._interval


class Schedule:
    """
    Polls at the times of a cron schedule.

    Ticks missed while polling, or while nobody was there, run once, at once.

    Args:
        cron: Six fields, seconds first, as `language.cron` compiles them.
        zone: `schedule.timezone`.
        last_ms: Wall milliseconds at which the shard last worked, or None: it
            never did, and nothing was missed.
        resume: True if a crash cut a poll short: due at once.
    """

    def __init__(
        self,
        cron: str,
        *,
        zone: tzinfo = UTC,
        last_ms: int | None = None,
        resume: bool = False,
        clock: Clock = SYSTEM,
    ):
        self._cron = cron
        self._zone = zone
        self._clock = clock
        self._resume = resume
        #: Ticks up to this moment have been served.
        self._served = clock.wall_ms() if last_ms is None else last_ms

    def due(self) -> float:
        """Seconds until the next poll may start, 0.0 now; at most half a minute."""
        if self._resume:
            return 0.0
        return min(max(self.next_ms() - self._clock.wall_ms(), 0) / 1000, GLANCE)

    def next_ms(self) -> int:
        """Wall milliseconds of the next tick that is not served."""
        now = self._clock.wall_ms()
        if self._resume:
            return now
        # Where the wall clock was set back, what was served lies ahead of it.
        self._served = min(self._served, now)
        return next_tick(self._cron, self._served, self._zone)

    def started(self) -> None:
        """A poll starts: it serves all ticks until now."""
        self._resume = False
        self._served = self._clock.wall_ms()

    def ended(
        self,
        *,
        records: int,
        failed: bool = False,
        fresh: int = 0,
        age: float | None = None,
    ) -> None:
        """A poll ended; ticks it missed are due at once."""


def next_tick(cron: str, after_ms: int, zone: tzinfo) -> int:
    """
    The first tick after a moment, in epoch milliseconds.

    Where hour and minute are fixed, a time that a clock change skips comes
    right after the change, and one that it repeats comes once.  Where either
    is a wildcard, ticks follow real time, as in Debian's cron.
    """
    after = datetime.fromtimestamp(after_ms / 1000, UTC).astimezone(zone)
    _, minute, hour, *_ = cron.split()
    if minute.startswith("*") or hour.startswith("*"):
        return round(next(CronSim(cron, after)).timestamp() * 1000)
    for tick in CronSim(cron, after.replace(tzinfo=None) - _CHANGE):
        found = _instant(tick, zone)
        if found > after_ms:
            return found
    raise AssertionError("a schedule has no last tick")


def _instant(local: datetime, zone: tzinfo) -> int:
    """A local time as epoch milliseconds; one that is skipped: the change."""
    early = local.replace(tzinfo=zone, fold=0)
    start = round(early.timestamp())
    if datetime.fromtimestamp(start, zone).replace(tzinfo=None) == local:
        return start * 1000
    # In a gap: fold 0 lies behind the change, fold 1 before it.
    low, high = round(early.replace(fold=1).timestamp()), start
    before = datetime.fromtimestamp(low, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high * 1000
