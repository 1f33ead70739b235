"""
Watching: looks for another engine on the same connector, now and then.

Owns the thread that asks the state, and for how long an answer stands.  Who
finds something says it; the other engine finds ours, and says it, too.

Path: `build.wiring` starts it -> here -> `sink.state`, and back to its tick
"""

from __future__ import annotations

import logging
import threading

from engine.clock import SYSTEM, Clock
from engine.errors import EngineError, TakenOver
from engine.sink.state import State

log = logging.getLogger("task")

#: Seconds between two looks.
LOOK = 10.0

#: Seconds for which it is said after the last sign of another engine.
STANDS = 150.0


class RivalWatcher:
    """
    A thread that looks for others' records in the state topic, until stopping.

    Args:
        state: Whose keys are looked at.
        stop: Ends it.
    """

    def __init__(self, state: State, stop: threading.Event, clock: Clock = SYSTEM):
        self._state = state
        self._stop = stop
        self._clock = clock
        self._found = ""
        self._until = 0.0
        self._taken: TakenOver | None = None
        thread = threading.Thread(target=self._watch, name="watching", daemon=True)
        thread.start()

    @property
    def rival(self) -> str:
        """What another engine did lately, or ""."""
        return self._found if self._clock.monotonic() < self._until else ""

    def check(self) -> None:
        """Raise TakenOver if another engine owns the connector by now."""
        if self._taken is not None:
            raise self._taken

    def _watch(self) -> None:
        while not self._stop.wait(LOOK):
            try:
                found = self._state.rival()
            except TakenOver as failure:
                self._taken = failure
                return
            except EngineError as failure:
                # A broker that is away is said by those who deliver to it.
                log.debug("No look for another engine: %s", failure)
                continue
            if found:
                self._found = found
                self._until = self._clock.monotonic() + STANDS
