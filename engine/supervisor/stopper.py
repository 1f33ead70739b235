"""
Stopper: how a child is told to end, and the only way in which it waits.

Path: the supervisor (signal, link) -> here -> every loop of a child
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections import deque
from collections.abc import Callable

from engine.clock import SYSTEM, Clock
from engine.observe import log
from engine.shared.board import ChildSlot
from engine.shared.link import Link, Message, SetLevel, Stop

#: Seconds between two beats of a child that waits.
BEAT = 1.0

#: Seconds within which two requests to stop are one that arrived twice.
ECHO = 0.1


class Stopper:
    """
    Whether the process is to end, and the way to wait (`engine.seams.Stopping`).

    The handler of SIGTERM only sets a flag and lets the kernel write one byte
    into a pipe that nobody empties: every thread that waits on it wakes, at
    once and for good, and no lock is touched in a handler.

    Args:
        slot: The child's place on the board.
        link: Orders from the supervisor.

    Attributes:
        alive: Asked before each beat; a child with several loops sets it, so
            that one loop's waiting does not hide that another one hangs.
    """

    def __init__(self, slot: ChildSlot, link: Link, *, clock: Clock = SYSTEM) -> None:
        self._slot = slot
        self._link = link
        self._clock = clock
        self._told = False
        self._told_at = 0.0
        self._hurried = False
        self._orders: deque[Message] = deque()
        self._main = threading.get_ident()
        self.alive: Callable[[], bool] = lambda: True
        # Nobody reads this pipe: from its first byte on it stays readable, so that every thread
        # which waits wakes, and whoever waits later does not wait at all.
        self._wake, self._waken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def is_set(self) -> bool:
        """True once the process is to end."""
        return self._told

    @property
    def hurried(self) -> bool:
        """True once the process is to drop the page in hand and end."""
        return self._hurried

    def wait(self, seconds: float) -> bool:
        """
        Sleep, cut short by stopping.

        In the main thread it beats meanwhile and takes orders off the link;
        other threads may wait here, too, and only wait.

        Blocks: at most `seconds`.  Returns: `is_set()`.
        """
        deadline = self._clock.monotonic() + seconds
        main = threading.get_ident() == self._main
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if main and not self._link.closed:
            poll.register(self._link.fileno(), select.POLLIN)
        while True:
            if main:
                if self.alive():
                    self._slot.beat()
                if not self._link.closed and not self._take_orders():
                    # The supervisor is gone; so are we.
                    self.tell(hurry=True)
            left = deadline - self._clock.monotonic()
            if self._told or left <= 0:
                return self._told
            # Rounded up: a wait of 0.4 ms is no reason to spin.
            poll.poll(int(min(left, BEAT) * 1000) + 1)

    def orders(self) -> list[Message]:
        """What the supervisor ordered and nobody took yet; main thread only."""
        if not self._link.closed:
            self._take_orders()
        taken = list(self._orders)
        self._orders.clear()
        return taken

    def tell(self, *, hurry: bool = False) -> None:
        """Ask the process to end; asked twice, or with `hurry`, to hurry."""
        self._hurried = self._hurried or self._told or hurry
        if not self._told:
            self._told_at = self._clock.monotonic()
        self._told = True
        try:
            os.write(self._waken, b"\0")
        except BlockingIOError:
            pass

    def arm(self) -> None:
        """Install the handlers of a child; the signals are still blocked."""
        signal.set_wakeup_fd(self._waken, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_term)
        # Ctrl-C goes to the whole process group; the supervisor passes it on.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def keeps(self) -> tuple[int, int]:
        """The descriptors it needs."""
        return self._wake, self._waken

    def _on_term(self, *_: object) -> None:
        # A signal to the whole group comes twice: from its sender, and passed
        # on by the supervisor.  That is one request, not two.
        now = self._clock.monotonic()
        self._hurried = self._hurried or (self._told and now - self._told_at > ECHO)
        if not self._told:
            self._told_at = now
        # Plain assignments only, and no lock: a handler runs in the main thread between any two
        # steps of it, and would wait for ever for a lock which that thread holds.
        self._told = True

    def _take_orders(self) -> bool:
        """False if the supervisor has gone."""
        for message in self._link.receive():
            if isinstance(message, Stop):
                self.tell(hurry=message.hurry)
            elif isinstance(message, SetLevel):
                log.set_level(message.logger, message.level)
            else:
                self._orders.append(message)
        return not self._link.closed
