"""
Rates: the algorithms of the limiter, as what they make of a bucket's numbers.

Owns the arithmetic and the layout of what stands in a bucket's file; each
algorithm takes one request's place in constant time and gives none that the
rate forbids.  Knows nothing of locks, hosts or waiting.

Below the limiter, which runs a step under the file's lock.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from os import pread, pwrite
from struct import pack, unpack
from typing import Protocol, TypeAlias

from msgspec import Struct

from engine.shared.cell import TAIL_AT, Change, Numbers

ALGORITHMS = ("TOKEN_BUCKET", "LEAKY_BUCKET", "FIXED_WINDOW", "SLIDING_WINDOW")

#: Seconds ahead for which places are given out.  It bounds what the dead can
#: take with them, and how far a clock in a file may be believed.
HORIZON = 60.0

#: Less than this is now: half of what a clock read as float resolves.
NOW = 1e-7

#: Most cells of a sliding window's log; beyond it one stands for several.
MOST_STAMPS = 65_536

#: The adaptive rate never falls below this part of the configured one.
LEAST_FACTOR = 0.01

#: A request that reaches the server later than it was granted counts there
#: from its arrival: for at most this part of the window it does so here, too.
LATEST_ARRIVAL = 0.1

#: Seconds to wait, the monotonic time of the place that was given (0.0: none,
#: ask again then), and the place's number where it can be corrected, or -1.
Grant: TypeAlias = tuple[float, float, float]


class Rate(Struct, frozen=True):
    """
    A limit: so many requests in so much time, and how many at once.

    Attributes:
        per_second: Requests a second, above 0; fractions count.
        algorithm: One of `ALGORITHMS`.
        burst: Bucket size, or places in the queue of LEAKY_BUCKET; None: the
            rate rounded up.
        window: Seconds of the window algorithms; stretched where less than
            one request fits.

    Source: `rate.limit.*`.
    """

    per_second: float
    algorithm: str = "TOKEN_BUCKET"
    burst: int | None = None
    window: float = 1.0


#: What brings numbers of another epoch to this one, then grants.
Settle: TypeAlias = Callable[[Numbers, float, int, float], Change[Grant]]


class Terms(Protocol):
    """
    A rate as an algorithm: what it makes of a bucket's numbers.

    The numbers are the rate's epoch (see the bucket) and three of its own.
    """

    rate: Rate
    #: The epoch whose numbers `grant` takes; others go to `settle` first.
    epoch: float
    settle: Settle
    per_second: float
    #: Seconds a request takes of the rate, and by how much the whole bucket
    #: may run ahead: what a process needs that must do without the file.
    interval: float
    tolerance: float
    #: Most requests that may go at once, and bytes of the file.
    capacity: float
    size: int

    def grant(
        self, numbers: Numbers, now: float, fd: int, cost: float
    ) -> Change[Grant]:
        """Numbers after one more request, and (seconds to wait, place)."""

    def used(self, numbers: Sequence[float], now: float, fd: int) -> float:
        """Requests of `capacity` that are gone."""

    def spent(self, now: float, fd: int) -> list[float]:
        """Numbers with nothing left."""

    def carry(
        self, before: Terms, numbers: Sequence[float], now: float, fd: int
    ) -> Sequence[float]:
        """
        What was used under another rate, under this one.

        Places in the future are not carried over: who waits for one asks anew.
        """


def terms_of(rate: Rate, settle: Settle) -> Terms:
    """The algorithm that the rate names."""
    if rate.algorithm == "FIXED_WINDOW":
        return FixedWindow(rate, settle)
    if rate.algorithm == "SLIDING_WINDOW":
        return SlidingWindow(rate, settle)
    return GCRA(rate, settle)


class GCRA:
    """
    TOKEN_BUCKET and LEAKY_BUCKET by the generic cell rate algorithm: one time says all.

    Source: the generic cell rate algorithm: a theoretical arrival time, which
    may be ahead of the clock by the bucket's size.
    """

    def __init__(self, rate: Rate, settle: Settle) -> None:
        burst = rate.burst or max(1, math.ceil(round(rate.per_second, 9)))
        leaky = rate.algorithm == "LEAKY_BUCKET"
        self.rate = rate
        self.epoch = 0.0
        self.settle = settle
        self.per_second = rate.per_second
        self.interval = 1.0 / rate.per_second
        self.capacity = 1.0 if leaky else float(burst)
        self.tolerance = self.capacity * self.interval
        self.size = TAIL_AT
        # The queue of a leaky bucket ends with the places it was given.
        self._horizon = min(HORIZON, burst * self.interval) if leaky else HORIZON
        self._farthest = self.tolerance + HORIZON + self.interval / LEAST_FACTOR

    def grant(
        self, numbers: Numbers, now: float, fd: int, cost: float
    ) -> Change[Grant]:
        if not numbers or numbers[0] != self.epoch:
            return self.settle(numbers, now, fd, cost)
        epoch, tat, _, _ = numbers
        if tat < now:
            tat = now
        elif not tat <= now + self._farthest:
            tat = now + self.tolerance
        # A request dearer than the bucket is wide waits for the others, not
        # for itself.
        price = self.interval * cost
        tat += price
        due = tat - (max(self.tolerance, price))
        wait = due - now
        if wait <= 0.0:
            return (epoch, tat, 0.0, 0.0), None, (0.0, now, -1.0)
        if wait > self._horizon + NOW:
            return None, None, (wait - self._horizon, 0.0, -1.0)
        return (epoch, tat, 0.0, 0.0), None, (wait, due, -1.0)

    def used(self, numbers: Sequence[float], now: float, fd: int) -> float:
        return min(self.capacity, max(0.0, (numbers[1] - now) / self.interval))

    def spent(self, now: float, fd: int) -> list[float]:
        return [0.0, now + self.tolerance, 0.0, 0.0]

    def carry(
        self, before: Terms, numbers: Sequence[float], now: float, fd: int
    ) -> list[float]:
        used = min(self.capacity, before.used(numbers, now, fd))
        return [0.0, now + used * self.interval, 0.0, 0.0]


class FixedWindow:
    """
    FIXED_WINDOW: numbers of the clock's windows, and how many went in one.

    Where rate x window is no whole number, some windows hold one more than
    others, so that the sum is exact.
    """

    def __init__(self, rate: Rate, settle: Settle) -> None:
        self.rate = rate
        self.epoch = 0.0
        self.settle = settle
        self.per_second = rate.per_second
        self.interval = 1.0 / rate.per_second
        self._window = max(rate.window, self.interval)
        self._each = round(rate.per_second * self._window, 9)
        self.capacity = float(math.ceil(self._each))
        self.tolerance = self.interval
        self.size = TAIL_AT

    def grant(
        self, numbers: Numbers, now: float, fd: int, cost: float
    ) -> Change[Grant]:
        if not numbers or numbers[0] != self.epoch:
            return self.settle(numbers, now, fd, cost)
        epoch, window, count, _ = numbers
        window, count = self._current(window, count, now)
        need = cost
        while (room := self._allowance(window) - count) < need - NOW:
            need -= max(0.0, room)
            window, count = window + 1, 0.0
            if window * self._window - now > HORIZON:
                return None, None, (window * self._window - now - HORIZON, 0.0, -1.0)
        due = max(now, window * self._window)
        return (epoch, window, count + need, 0.0), None, (due - now, due, -1.0)

    def used(self, numbers: Sequence[float], now: float, fd: int) -> float:
        window, count = self._current(numbers[1], numbers[2], now)
        return count if window <= now // self._window else self.capacity

    def spent(self, now: float, fd: int) -> list[float]:
        window = now // self._window
        return [0.0, window, self._allowance(window), 0.0]

    def carry(
        self, before: Terms, numbers: Sequence[float], now: float, fd: int
    ) -> list[float]:
        window = now // self._window
        used = min(self._allowance(window), before.used(numbers, now, fd))
        return [0.0, window, used, 0.0]

    def _current(self, window: float, count: float, now: float) -> tuple[float, float]:
        current = now // self._window
        if window < current:
            return current, 0.0
        if not window * self._window <= now + HORIZON + 2 * self._window:
            return current, self._allowance(current)
        return window, count

    def _allowance(self, window: float) -> float:
        return math.floor((window + 1) * self._each + NOW) - math.floor(
            window * self._each + NOW
        )


class SlidingWindow:
    """
    SLIDING_WINDOW: a log of the last grants, as many as a window holds.

    A grant may be one window after the one that stands in its place in the
    log, and never before the last one.  Where a window holds more than the
    log, a place stands for the last of several grants in a row: never more
    than allowed, and at most that few less.  Where rate x window is no whole
    number, it is rounded up and the window stretched to fit.

    The numbers are counted on before the log is written: a process killed
    between the two leaves the moment of an older grant in place of its own,
    which was never used.
    """

    def __init__(self, rate: Rate, settle: Settle) -> None:
        self.rate = rate
        self.epoch = 0.0
        self.settle = settle
        self.per_second = rate.per_second
        self.interval = 1.0 / rate.per_second
        count = max(1, math.ceil(round(rate.per_second * rate.window, 9)))
        self._window = count / rate.per_second
        self._group = -(-count // MOST_STAMPS)
        self._places = count // self._group
        self.capacity = float(count)
        self.tolerance = self.interval
        self.size = TAIL_AT + 8 * self._places

    def grant(
        self, numbers: Numbers, now: float, fd: int, cost: float
    ) -> Change[Grant]:
        if not numbers or numbers[0] != self.epoch:
            return self.settle(numbers, now, fd, cost)
        epoch, count, last, threshold = numbers
        if not last <= now + HORIZON + self._window / LEAST_FACTOR:
            count, last, threshold = self.spent(now, fd)[1:]
        place = int(count) // self._group % self._places
        if count % self._group == 0:
            threshold = 0.0
            if count >= self._group * self._places:
                raw = pread(fd, 8, TAIL_AT + 8 * place)
                stamp = unpack("<d", raw)[0] if len(raw) == 8 else 0.0
                if not 0.0 < stamp <= now + HORIZON + self._window:
                    # The log was cut or overwritten: as if all of it was used.
                    count, last, _ = self.spent(now, fd)[1:]
                    place, stamp = 0, now
                threshold = stamp + self._window * cost
        due = max(now, last, threshold)
        if due - now > HORIZON:
            return None, None, (due - now - HORIZON, 0.0, -1.0)
        tail = (TAIL_AT + 8 * place, pack("<d", due))
        number = count if self._group == 1 else -1.0
        return (epoch, count + 1, due, threshold), tail, (due - now, due, number)

    def correct(
        self, numbers: Numbers, _now: float, fd: int, sent: tuple[float, float]
    ) -> Change[None]:
        """
        Count the request of place `sent[0]` from `sent[1]` seconds after its grant.

        Two requests a window apart may arrive nearer to each other than they
        went: the first over a new connection, the second over a warm one.
        """
        number, late = sent
        if (
            numbers is None
            or not numbers
            or not 0 < numbers[1] - number <= self._places
        ):
            return None, None, None
        at = TAIL_AT + 8 * (int(number) % self._places)
        raw = pread(fd, 8, at)
        if len(raw) == 8 and (stamp := unpack("<d", raw)[0]) > 0.0:
            late = min(late, self._window * LATEST_ARRIVAL)
            pwrite(fd, pack("<d", stamp + late), at)
        return None, None, None

    def used(self, numbers: Sequence[float], now: float, fd: int) -> float:
        stamps = self._stamps(numbers, fd)
        inside = len(stamps) - bisect_right(stamps, now - self._window)
        return min(self.capacity, float(inside * self._group))

    def spent(self, now: float, fd: int) -> list[float]:
        return self._begin([now] * self._places, fd)

    def carry(
        self, before: Terms, numbers: Sequence[float], now: float, fd: int
    ) -> list[float]:
        if isinstance(before, SlidingWindow) and before._group == self._group:
            stamps = before._stamps(numbers, fd)
            stamps = stamps[: bisect_right(stamps, now)]
        else:
            used = min(self.capacity, before.used(numbers, now, fd))
            stamps = [now] * math.ceil(used / self._group)
        return self._begin(stamps[-self._places :], fd)

    def _begin(self, stamps: Sequence[float], fd: int) -> list[float]:
        pwrite(fd, array("d", stamps).tobytes(), TAIL_AT)
        last = stamps[-1] if stamps else 0.0
        return [0.0, float(len(stamps) * self._group), last, 0.0]

    def _stamps(self, numbers: Sequence[float], fd: int) -> list[float]:
        """The log, oldest first."""
        log_ = array("d")
        raw = pread(fd, 8 * self._places, TAIL_AT)
        log_.frombytes(raw[: len(raw) // 8 * 8])
        written = -(-int(numbers[1]) // self._group)
        return sorted(log_[: min(written, self._places)])
