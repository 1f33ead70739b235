"""
Announcing: what running children are told without being started anew.

Owns the levels of loggers and the rate limits: both hold in every process that lives, and
by the fork in those to come.

Path: a reload or admin -> here -> ``shared.link`` -> tasks
"""

from __future__ import annotations

from engine.clock import Clock
from engine.errors import SharedError
from engine.observe import log
from engine.shared import link
from engine.supervisor.child import Child
from engine.supervisor.orders import DesiredState
from engine.supervisor.roster import Roster


class Announcing:
    """
    Tells running children what has changed for them.

    Attributes:
        levels_changed: Logger -> wall milliseconds of the last change of its level.
    """

    def __init__(self, roster: Roster, *, clock: Clock) -> None:
        self._roster = roster
        self._clock = clock
        self.levels_changed: dict[str, int] = {}

    def set_level(self, message: link.SetLevel) -> None:
        """Here, in every child that lives, and by the fork in those to come."""
        log.set_level(message.logger, message.level)
        name = "" if message.logger == "root" else message.logger
        self.levels_changed[name] = self._clock.wall_ms()
        for seat in self._roster.everyone():
            if seat.child is not None:
                seat.child.link.send(message)

    def set_limits(self, old: DesiredState) -> None:
        """Tell the tasks that go on; one that cannot be told starts anew."""
        before = {connector.name: connector.limits for connector in old.connectors}
        for connector in self._roster.orders.wanted.connectors:
            if connector.limits == before.get(connector.name, connector.limits):
                continue
            message = link.SetLimits(connector.limits)
            deaf = {
                seat.spec.key
                for seat in self._roster.tasks()
                if seat.spec.connector == connector.name
                and seat.child is not None
                and not _told(seat.child, message)
            }
            self._roster.renew(deaf)


def _told(child: Child, message: link.Message) -> bool:
    """False if the message is too large for a link, or the link is full."""
    try:
        return child.link.send(message)
    except SharedError:
        return False
