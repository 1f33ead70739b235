"""
Host: what a server has said of its own limits, shared by all processes through a cell.

Owns how long nobody may ask it, and by how much all rates of it are lowered.

Path: `shared.limiter` -> here -> `shared.feedback`, `shared.cell`
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from engine.clock import Clock
from engine.errors import SharedError
from engine.policy import doubled
from engine.shared import feedback
from engine.shared.cell import (
    Cell,
    Change,
    Numbers,
    file_name,
)
from engine.shared.rates import (
    LEAST_FACTOR,
)

log = logging.getLogger("engine.shared.limiter")


#: Seconds for which a host's demands are taken from memory.
GLANCE = 0.001


#: Shortest pause after a 429 or 503, in seconds.
LEAST_PAUSE = 0.05


#: Answers that are seen before the fastest of them is taken for usual, and by
#: how much that grows with each further one.
FEW = 20


FORGETTING = 1.002


#: Seconds of the longest pause that is kept, or believed of a file: 31 days.
LONGEST_BELIEVED = 31 * 86_400.0


#: Growth of the adaptive rate in a second without a 429.
CREEP = 1.05


#: Why a request waits; index in a host's record.  The first two are our own
#: limits, the rest the host's demands: a time it named, nothing left in the
#: window it told of, a refusal that names no time.
CAUSES = ("", "limiter", "api_limiter", "retry_after", "budget", "throttled")


_HOST = b"hst1"


class HostReading(Struct, frozen=True):
    """
    What a host demanded.

    Attributes:
        host: Its name.
        paused: Seconds that nobody may ask it, 0.0: none.
        cause: Why: "retry_after", "budget" or "throttled".
        factor: Part of the rate that is used, 1.0 unless adaptive.
        limit, remaining: Its own budget as last told, or None where it is
            not known; whole again once its window is over.
        reset: Seconds until then, or None.
    """

    host: str
    paused: float
    cause: str
    factor: float
    limit: float | None
    remaining: float | None
    reset: float | None


class Listening(Struct, frozen=True, kw_only=True):
    """
    How one api takes what its server says.

    Attributes:
        respect: `rate.limit.respect.headers`; False: it neither learns from
            answers nor waits for what others have learnt.
        longest: `rate.limit.retry.after.max.ms` in seconds.
        adaptive: `rate.limit.adaptive.enabled`.
        backoff, backoff_max: `retry.backoff.ms` and `.max.ms` in seconds: the
            pause after a refusal that names no time, doubled for each further
            one.
        exponential: False: always `backoff`.
    """

    respect: bool = True
    longest: float = 3600.0
    adaptive: bool = False
    backoff: float = 1.0
    backoff_max: float = 60.0
    exponential: bool = True


HEEDED_BY_ALL = Listening()


class HostDemands:
    """
    What one host demanded, in one file that all its callers read.

    The numbers: until when nobody may ask, why, strikes in a row, the factor
    of the adaptive rate and its moment, the host's own limit, what is left of
    it (-1: not told) and when it is whole again.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        host: str,
        *,
        patience: float,
        clock: Clock,
    ) -> None:
        self.cause = ""
        self.look_at = 0.0
        #: True while there is more to it than the bucket.
        self.demands = False
        self._host = host
        self._monotonic = clock.monotonic
        self._until = 0.0
        self._strikes = 0.0
        self._factor = 1.0
        self._factor_at = 0.0
        self._fastest = float("inf")
        self._answers = 0
        self._budget = (-1.0, -1.0, 0.0)
        self._cell = Cell(
            file_name("host", host),
            directories,
            kind=_HOST,
            count=8,
            text=host,
            patience=patience,
            clock=clock,
        )

    def look(self) -> None:
        """Read what any process has learnt; keep what is known if that fails."""
        now = self._monotonic()
        self.look_at = now + GLANCE
        try:
            numbers = self._cell.peek()
        except SharedError:
            numbers = None
        if numbers:
            self._know(numbers)
        elif numbers is not None:
            self._until, self._strikes, self._factor = 0.0, 0.0, 1.0
        self.demands = self._until > now or self.factor_at(now) < 1.0

    def pause(self, now: float) -> float:
        """Seconds for which nobody may ask."""
        if now >= self.look_at:
            self.look()
        left = self._until - now
        return left if 0 < left <= LONGEST_BELIEVED else 0.0

    def factor_at(self, now: float) -> float:
        """Part of the rate that is used, growing by 5 % a second."""
        if self._factor >= 1.0:
            return 1.0
        passed = min(200.0, max(0.0, now - self._factor_at))
        grown: float = self._factor * CREEP**passed
        return min(1.0, max(LEAST_FACTOR, grown))

    def learn(
        self,
        demand: feedback.Demand,
        listening: Listening,
        *,
        halve: bool,
        strike: bool,
        chance: float,
    ) -> None:
        """
        Take up what an answer demanded, for all processes.

        Args:
            halve: The adaptive rate is halved.
            strike: It was a refusal.
            chance: Part of the back-off that is waited, 0 to 1.
        """
        if demand.after is not None and demand.after > listening.longest:
            log.warning(
                "%s asks for a pause of %.0f s, cut to %.0f s.",
                self._host,
                demand.after,
                listening.longest,
            )
        lesson = (demand, listening, halve, strike, chance)
        try:
            self._know(self._cell.update(self._learn, lesson))
        except SharedError as failure:
            log.warning("%s: its demand is known here only: %s.", self._host, failure)
            known = self._numbers()
            self._know(self._learn(known, self._monotonic(), -1, lesson)[2])
        now = self._monotonic()
        self.look_at = now + GLANCE
        self.demands = self._until > now or self.factor_at(now) < 1.0

    def forgive(self) -> None:
        """The host answered well: the next strike is a first one again."""
        if self._monotonic() >= self.look_at:
            self.look()
        if self._strikes:
            try:
                self._know(self._cell.update(_forgive, None))
            except SharedError:
                self._strikes = 0.0

    def usual(self, seconds: float) -> float:
        """
        The seconds an answer takes that nothing holds up: the least of those
        seen, forgotten slowly; at most the newest one's.  0.0 until enough were
        seen: a first request, with its connection to make, counts as late.
        """
        self._answers += 1
        self._fastest = min(seconds, self._fastest * FORGETTING)
        return min(self._fastest, seconds) if self._answers > FEW else 0.0

    def reading(self) -> HostReading:
        now = self._monotonic()
        paused = self.pause(now)
        limit, remaining, reset_at = self._budget
        known = remaining >= 0
        if known and reset_at <= now:
            # Whole again, as far as anybody has told.
            remaining, known = limit, limit >= 0
        return HostReading(
            self._host,
            paused,
            self.cause if paused else "",
            self.factor_at(now),
            limit if known and limit >= 0 else None,
            remaining if known else None,
            reset_at - now if known and now < reset_at < math.inf else None,
        )

    def close(self) -> None:
        self._cell.close()

    def _numbers(self) -> list[float]:
        cause = float(CAUSES.index(self.cause))
        moments = [self._until, cause, self._strikes, self._factor, self._factor_at]
        return moments + list(self._budget)

    def _know(self, numbers: Sequence[float]) -> None:
        self._until, cause, self._strikes, self._factor, self._factor_at = numbers[:5]
        limit, remaining, reset_at = numbers[5:]
        self._budget = (limit, remaining, reset_at)
        self.cause = CAUSES[int(cause)] if 0 <= cause < len(CAUSES) else ""

    def _learn(
        self,
        numbers: Numbers,
        now: float,
        _fd: int,
        lesson: tuple[feedback.Demand, Listening, bool, bool, float],
    ) -> Change[Sequence[float]]:
        demand, listening, halve, strike, chance = lesson
        until, cause, strikes, factor, factor_at, *budget = numbers or _UNTOLD
        if until > now + LONGEST_BELIEVED:
            until = 0.0
        # What was in flight when the pause began says nothing new.
        known = until > now
        if demand.after:
            wanted = now + min(demand.after, listening.longest, LONGEST_BELIEVED)
            if wanted > until:
                until, cause = wanted, float(CAUSES.index(demand.cause))
        elif strike and not known:
            strikes += 1
            pause = _backoff(listening, strikes, chance)
            until, cause = now + pause, float(CAUSES.index("throttled"))
        if halve and not known and now - factor_at >= 1.0:
            self._factor, self._factor_at = factor, factor_at
            factor = max(LEAST_FACTOR, self.factor_at(now) / 2)
            factor_at = now
        if demand.remaining is not None:
            budget = [
                -1.0 if demand.limit is None else demand.limit,
                demand.remaining,
                math.inf if demand.reset is None else now + demand.reset,
            ]
        new = (until, cause, strikes, factor, factor_at, *budget)
        return new, None, new


def _backoff(listening: Listening, strikes: float, chance: float) -> float:
    """Seconds after so many refusals in a row, as `retry.backoff.*` has it."""
    if not listening.exponential:
        return max(LEAST_PAUSE, listening.backoff)
    highest = doubled(listening.backoff, listening.backoff_max, strikes)
    return max(LEAST_PAUSE, chance * highest)


_UNTOLD = (0.0, 0.0, 0.0, 1.0, -1e9, -1.0, -1.0, 0.0)


def _forgive(
    numbers: Numbers, _now: float, _fd: int, _given: None
) -> Change[Sequence[float]]:
    until, cause, _, *rest = numbers or _UNTOLD
    new = (until, cause, 0.0, *rest)
    return new, None, new
