"""
Bucket: one rate of the limiter, shared by all processes through a cell.

Owns how a token is taken, how the terms of a rate reach who shares it, and what holds
where the file cannot be used.

Path: `shared.limiter` -> here -> `shared.rates`, `shared.cell`
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from os import pread, pwrite
from pathlib import Path
from struct import Struct as Packing
from zlib import crc32

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import SharedError
from engine.shared.cell import (
    REST,
    Cell,
    Change,
    Numbers,
    file_name,
)
from engine.shared.rates import (
    ALGORITHMS,
    HORIZON,
    Grant,
    Rate,
    SlidingWindow,
    terms_of,
)

log = logging.getLogger("engine.shared.limiter")


#: Seconds below which a request is not late.
LEAST_LATENESS = 0.001


_BUCKET = b"lim1"


#: Where a bucket's rate stands in its file, and how: check sum, the epoch it
#: began, when it was configured last, requests a second, algorithm, burst, window.
_TERMS_AT = 256


_TERMS = Packing("<I6d")


class BucketReading(Struct, frozen=True):
    """
    A bucket, for whoever shows it.

    Attributes:
        bucket: "all", or what `rate.limit.scope` counts by.
        left: Requests that could go at once.
        capacity: Most that could ever go at once.
        per_second: Its rate as it is now.
        shared: False while this process keeps to a part of its own.
    """

    bucket: str
    left: float
    capacity: float
    per_second: float
    shared: bool = True


class Bucket:
    """
    One limit in one file.

    Its numbers are the rate's epoch and three of the algorithm's; the rate
    itself stands behind them, for whoever was started before it changed.  An
    epoch begins when the rate changes, not when a task with the same one is
    started again: those who wait keep their places.

    Args:
        directories, patience: As for the limiter.
        name: Of the file.
        label: For people.
        cause: What waiting for it is called: one of `CAUSES`.
        generation: When the rate was configured (monotonic); the latest holds.
        share: Over how many processes the rate is divided while the file
            cannot be used.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        name: str,
        label: str,
        rate: Rate,
        *,
        cause: str = "rate",
        generation: float,
        share: int = 1,
        patience: float = 1.0,
        clock: Clock = SYSTEM,
    ) -> None:
        self.label = label
        self.cause = cause
        self._generation = generation
        self._terms = terms_of(rate, self._settle_and_grant)
        self._share = share
        self._monotonic = clock.monotonic
        self._cell = Cell(
            file_name("limit", name),
            directories,
            kind=_BUCKET,
            count=4,
            text=name,
            size=self._terms.size,
            patience=patience,
            clock=clock,
        )
        #: Hot path: the limiter calls `update(grant, cost)` itself while the
        #: file can be shared, and `take` where that fails.
        self.update = self._cell.update
        self.grant = self._terms.grant
        #: Until when this process decides alone, 0.0: the file is shared.
        self.alone = 0.0
        self._alone_tat = 0.0

    def take(self, cost: float) -> Grant:
        """
        Ask for `cost` requests.

        Never raises: without its file a process keeps to its part of the rate.
        """
        if self.alone:
            return self._rejoin(cost)
        try:
            return self.update(self.grant, cost)
        except SharedError as failure:
            log.warning(
                "Rate limit %s: this process keeps to 1/%d of it: %s.",
                self.label,
                self._share,
                failure,
            )
            self._alone_tat = self._monotonic() + self._terms.tolerance * self._share
            return self._alone(cost)

    def correct(self, number: float, late: float) -> None:
        """Count the place's request from `late` seconds after its grant."""
        terms = self._terms
        if late >= LEAST_LATENESS and isinstance(terms, SlidingWindow):
            with contextlib.suppress(SharedError):
                self.update(terms.correct, (number, late))

    def changed(self, epoch: float) -> bool:
        """True if the rate is no longer that of `epoch`."""
        try:
            numbers = self._cell.peek()
        except SharedError:
            return False
        return numbers is not None and len(numbers) > 0 and numbers[0] != epoch

    def reading(self) -> BucketReading:
        """What is left; takes no lock."""
        terms = self._terms
        used, shared = 0.0, not self.alone
        try:
            numbers = self._cell.peek()
            if numbers:
                used = terms.used(numbers, self._monotonic(), self._cell.fileno())
        except (SharedError, OSError):
            shared = False
        left = max(0.0, terms.capacity - used)
        return BucketReading(self.label, left, terms.capacity, terms.per_second, shared)

    def close(self) -> None:
        self._cell.close()

    @property
    def epoch(self) -> float:
        """The epoch of the rate that holds."""
        return self._terms.epoch

    def _settle_and_grant(
        self, numbers: Numbers, now: float, fd: int, cost: float
    ) -> Change[Grant]:
        settled = self._settle(numbers, now, fd)
        new, tail, answer = self._terms.grant(settled, now, fd, cost)
        return new or settled, tail, answer

    def _settle(self, numbers: Numbers, now: float, fd: int) -> Sequence[float]:
        """Bring the numbers and this process to the same, the latest, rate."""
        found = self._read_rate(fd, numbers[0]) if numbers else None
        if numbers and found is not None:
            latest, rate = found
            if rate == self._terms.rate:
                self._terms.epoch = numbers[0]
                if self._generation > latest:
                    self._write_rate(fd)
                return numbers
            if self._generation <= latest:
                # Somebody was configured after us.
                self._terms = terms_of(rate, self._settle_and_grant)
                self._terms.epoch = numbers[0]
                self.grant = self._terms.grant
                return numbers
        terms = self._terms
        self._cell.reserve(fd, terms.size)
        if numbers and found is not None:
            before = terms_of(found[1], self._settle_and_grant)
            numbers = terms.carry(before, numbers, now, fd)
        elif numbers is None or len(numbers):
            # Nobody knows what was used: as if all of it was.
            numbers = terms.spent(now, fd)
        else:
            numbers = (0.0, 0.0, 0.0, 0.0)
        terms.epoch = self._generation
        self._write_rate(fd)
        return (terms.epoch, *numbers[1:])

    def _write_rate(self, fd: int) -> None:
        rate = self._terms.rate
        body = _TERMS.pack(
            0,
            self.epoch,
            self._generation,
            rate.per_second,
            ALGORITHMS.index(rate.algorithm),
            rate.burst or 0,
            rate.window,
        )[4:]
        pwrite(fd, crc32(body).to_bytes(4, "little") + body, _TERMS_AT)

    @staticmethod
    def _read_rate(fd: int, epoch: float) -> tuple[float, Rate] | None:
        """(when configured, rate) of the epoch; None if it does not stand there."""
        raw = pread(fd, _TERMS.size, _TERMS_AT)
        if len(raw) < _TERMS.size:
            return None
        check, began, latest, per_second, algorithm, burst, window = _TERMS.unpack(raw)
        if check != crc32(raw[4:]) or began != epoch:
            return None
        algorithm = ALGORITHMS[int(algorithm)]
        return latest, Rate(per_second, algorithm, int(burst) or None, window)

    def _rejoin(self, cost: float) -> Grant:
        if self._monotonic() < self.alone:
            return self._alone(cost)
        try:
            answer = self.update(self.grant, cost)
        except SharedError:
            return self._alone(cost)
        self.alone = 0.0
        log.warning("Rate limit %s is shared again.", self.label)
        return answer

    def _alone(self, cost: float) -> Grant:
        """Reserve from this process's own part of the rate; it begins with an empty bucket."""
        now = self._monotonic()
        self.alone = now + REST / 4
        terms = self._terms
        tat = max(self._alone_tat, now) + terms.interval * self._share * cost
        due = tat - max(terms.tolerance, terms.interval * self._share)
        if due - now > HORIZON:
            return due - now - HORIZON, 0.0, -1.0
        self._alone_tat = tat
        return max(0.0, due - now), due, -1.0
