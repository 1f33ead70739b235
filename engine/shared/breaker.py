"""
Breaker: whether a host is to be asked at all, known to all processes.

Owns one file a host, changed under a lock that dies with its holder, and the
right to probe: a second lock that its prober keeps while it asks, so that a
killed prober gives it back by dying.  Decides only; sends nothing and waits
for nothing.

Named before the fork, opened after it.  `source.fetch` asks before a request
and reports how it ended, after its retries.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import SharedError
from engine.shared.cell import Cell, Change, Numbers, file_name
from engine.shared.lock import open_private, try_lock, unlock

log = logging.getLogger(__name__)

#: Seconds for which a host's state is taken from memory.
GLANCE = 0.001

#: Seconds a probe that was never reported keeps other threads of its process
#: from probing.
PROBE_LIMIT = 300.0

STATES = ("closed", "open", "half-open")

_KIND = b"brk1"
_CLOSED = (0.0, 0.0, 0.0)


class BreakerReading(Struct, frozen=True):
    """
    A breaker, for whoever shows it.

    Attributes:
        host: Its host.
        state: One of `STATES`.
        failures: Failures in a row.
        reopens: Seconds until a probe may go, 0.0 unless open.
        opened: How often it has opened.
    """

    host: str
    state: str
    failures: int
    reopens: float
    opened: int


class CircuitBreaker:
    """
    The breaker of all tasks (`engine.seams.Breaker`): hosts that fail are left alone for a while.

    Args:
        directories: Where the files stand, as for the limiter.
        threshold: Failures in a row that open it.
        recovery: Seconds from opening to the one probe of all processes.
        patience: Seconds to wait for a stopped holder of a file.

    Source: `circuit.breaker.*`.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        *,
        threshold: int = 5,
        recovery: float = 30.0,
        patience: float = 1.0,
        clock: Clock = SYSTEM,
    ) -> None:
        self._directories = directories
        self._threshold = threshold
        self._recovery = recovery
        self._patience = patience
        self._clock = clock
        self._hosts: dict[str, _Host] = {}

    def allow(self, host: str) -> bool:
        """
        True if a request may go.  After an open breaker's time one caller of
        all processes gets True: its request is the probe.

        Blocks: On the shared file only, and only where it is not closed.
        """
        return self._host(host).allow(self._recovery)

    def failed(self, host: str) -> None:
        """A request was given up after its retries: no answer or 5xx."""
        self._host(host).failed(self._threshold, self._recovery)

    def succeeded(self, host: str) -> None:
        """The host answered, if only with a refusal."""
        self._host(host).succeeded()

    def released(self, host: str) -> None:
        """The request ended and says nothing of the host: stopped before it went."""
        self._host(host).release()

    def state(self, host: str) -> str:
        """One of `STATES`."""
        return self._host(host).reading().state

    def reopens(self, host: str) -> float:
        """Seconds until a probe may go, 0.0 unless open."""
        return self._host(host).reading().reopens

    def readings(self) -> list[BreakerReading]:
        """Those of the hosts this process has asked about."""
        return [host.reading() for host in list(self._hosts.values())]

    def close(self) -> None:
        """Close the files; a probe of ours is given back."""
        for host in self._hosts.values():
            host.close()

    def _host(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(
                self._directories, name, self._patience, self._clock
            )
        return host


class _Host:
    """
    One host's numbers: failures in a row, when the next probe may go (0.0:
    closed), and how often it opened.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        name: str,
        patience: float,
        clock: Clock,
    ) -> None:
        self._name = name
        self._monotonic = clock.monotonic
        self._look_at = 0.0
        self._numbers: Sequence[float] = _CLOSED
        self._probe_paths = [
            directory / file_name("probe", name) for directory in directories
        ]
        self._probe = -1
        self._probe_pid = 0
        self._prober = 0
        self._probe_since = 0.0
        # Between the threads of this process: guards which of them holds the probe. The probe is
        # a file's lock, which ends with its process, so a killed prober keeps no host shut;
        # within the process that lock would let every thread in.
        self._threads = threading.Lock()
        self._cell = Cell(
            file_name("breaker", name),
            directories,
            kind=_KIND,
            count=len(_CLOSED),
            text=name,
            patience=patience,
            clock=clock,
        )

    def allow(self, recovery: float) -> bool:
        now = self._monotonic()
        if now >= self._look_at:
            self._look(now)
        _, until, _ = self._numbers
        if not until:
            return True
        # A time further off than any it can have been opened for is garbage.
        if now < until <= now + 2 * recovery + 3600.0:
            return False
        return self._take_probe(now)

    def failed(self, threshold: int, recovery: float) -> None:
        self._change(self._fail, (threshold, recovery))
        self.release()

    def succeeded(self) -> None:
        now = self._monotonic()
        if now >= self._look_at:
            self._look(now)
        failures, until, _ = self._numbers
        if failures or until:
            self._change(self._succeed, (0, 0.0))
        self.release()

    def release(self) -> None:
        """Let others probe, if this thread holds the right to."""
        with self._threads:
            if self._prober == threading.get_ident():
                self._give_back()

    def _give_back(self) -> None:
        if self._probe >= 0 and self._probe_pid == os.getpid():
            unlock(self._probe)
            os.close(self._probe)
        self._probe = -1

    def reading(self) -> BreakerReading:
        now = self._monotonic()
        self._look(now)
        return _reading(self._name, self._numbers, now)

    def close(self) -> None:
        with self._threads:
            self._give_back()
        self._cell.close()

    def _look(self, now: float) -> None:
        self._look_at = now + GLANCE
        try:
            numbers = self._cell.peek()
        except SharedError:
            return
        if numbers is not None:
            self._numbers = numbers or _CLOSED

    def _take_probe(self, now: float) -> bool:
        """
        True for one caller of all.

        The lock is kept until the probe is reported.  Then the numbers have
        changed, so they are read again once it is held: who waited outside
        while another probed must not probe after it.
        """
        thread = threading.get_ident()
        with self._threads:
            if self._probe >= 0 and self._probe_pid == os.getpid():
                # Our thread asks again: its last request ended unreported.
                mine = self._prober == thread
                if not mine and now - self._probe_since < PROBE_LIMIT:
                    return False
                self._prober, self._probe_since = thread, now
                return True
            fd = self._open_probe()
            if fd < 0:
                return False
            if not try_lock(fd):
                os.close(fd)
                return False
            self._look(now)
            until = self._numbers[1]
            if until == 0.0 or now < until:
                unlock(fd)
                os.close(fd)
                return until == 0.0
            self._probe, self._probe_pid = fd, os.getpid()
            self._prober, self._probe_since = thread, now
            log.info("%s is asked again by one probe.", self._name)
            return True

    def _open_probe(self) -> int:
        for path in self._probe_paths:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                return open_private(path)
            except (OSError, SharedError):
                continue
        return -1

    def _change(
        self,
        step: Callable[
            [Numbers, float, int, tuple[int, float]], Change[Sequence[float]]
        ],
        terms: tuple[int, float],
    ) -> None:
        before = self._numbers
        try:
            self._numbers = self._cell.update(step, terms)
        except SharedError as failure:
            log.warning("%s: its breaker is known here only: %s.", self._name, failure)
            self._numbers = step(before, self._monotonic(), -1, terms)[2]
        self._look_at = self._monotonic() + GLANCE
        if before[1] == 0.0 and self._numbers[1]:
            log.warning("%s fails: requests to it are stopped.", self._name)
        elif before[1] and self._numbers[1] == 0.0:
            log.warning("%s answers again.", self._name)

    @staticmethod
    def _fail(
        numbers: Numbers,
        now: float,
        _fd: int,
        terms: tuple[int, float],
    ) -> Change[Sequence[float]]:
        threshold, recovery = terms
        failures, until, opened = numbers or _CLOSED
        failures += 1
        if until:
            # The probe failed, or a request that was under way when it opened:
            # only the first opens anew.
            if now >= until:
                until, opened = now + recovery, opened + 1
        elif failures >= threshold:
            until, opened = now + recovery, opened + 1
        new = (failures, until, opened)
        return new, None, new

    @staticmethod
    def _succeed(
        numbers: Numbers, _now: float, _fd: int, _terms: tuple[int, float]
    ) -> Change[Sequence[float]]:
        _, _, opened = numbers or _CLOSED
        new = (0.0, 0.0, opened)
        return new, None, new


def _reading(host: str, numbers: Sequence[float], now: float) -> BreakerReading:
    failures, until, opened = numbers
    state = "closed" if not until else "open" if now < until else "half-open"
    return BreakerReading(
        host, state, int(failures), max(0.0, until - now), int(opened)
    )
