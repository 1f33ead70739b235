"""
Reloading: from what the files say to what is wanted.

Owns the locks of the connectors and the way to other orders: read, judged whole, locked,
and only then taken up.  Any error keeps what there is.

Path: SIGHUP, a changed directory or ``supervisor.commands`` -> here -> ``supervisor.roster``
"""

from __future__ import annotations

import gc
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from engine.clock import Clock
from engine.errors import EngineError, SharedError
from engine.shared import link
from engine.shared.lock import Claim
from engine.supervisor import targets
from engine.supervisor.announcing import Announcing
from engine.supervisor.broker import EmbeddedBroker
from engine.supervisor.commands import Files
from engine.supervisor.orders import DesiredState, Orders, specs
from engine.supervisor.roster import Roster

_LOG = logging.getLogger(__name__)


class Reloading:
    """
    Takes up what is configured.

    Args:
        plan: As of `loop.Supervisor`.
        files: Where connectors come and go while it runs, or None.
        forget: A connector's past load says nothing any more.

    Attributes:
        claims: Connector -> its lock.
        tally: "ok" and "failed" -> reloads so far.
        error: Why the last one was refused, or "".
        generation: Grows with whatever is taken up.
    """

    def __init__(
        self,
        plan: Callable[[], DesiredState],
        roster: Roster,
        announcing: Announcing,
        *,
        files: Files | None,
        broker: EmbeddedBroker | None,
        forget: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self._plan = plan
        self._roster = roster
        self._announcing = announcing
        self._files = files
        self._broker = broker
        self._forget = forget
        self._clock = clock
        self.claims: dict[str, Claim] = {}
        self.tally: Counter[str] = Counter(ok=0, failed=0)
        self.error = ""
        self.generation = 0

    def first(self) -> None:
        """
        The orders of a start.

        Raises: EngineError: the plan is no good, or another engine has a connector.
        """
        wanted = self._plan()
        orders = self._roster.orders = Orders.first(wanted)
        self.require_room(orders)
        self._claim(wanted)
        self._roster.orders = self._decided(orders, ())

    def look(self) -> None:
        """Take up what somebody has changed in the connectors' directory."""
        if self._files is None or self._roster.stops or not self._files.changed():
            return
        try:
            wanted = self._plan()
            old = {c.name: c for c in self._roster.orders.wanted.connectors}
            other = [
                connector.name
                for connector in wanted.connectors
                if (before := old.get(connector.name)) is None
                or before.fingerprint != connector.fingerprint
                or before.apis != connector.apis
            ]
            gone = old.keys() - {c.name for c in wanted.connectors}
            self.adopt(self.prepare(wanted), other)
        except Exception as failure:  # noqa: BLE001 - a look never kills
            bug = not isinstance(failure, EngineError)
            _LOG.error("The connectors stay as they are: %s", failure, exc_info=bug)
            return
        for name in other:
            _LOG.info("Connector %s: taken up from its file.", name)
        for name in gone:
            _LOG.info("Connector %s: its file is gone.", name)

    def again(self) -> None:
        """Read the files again; any error keeps the old configuration whole."""
        try:
            orders = self.prepare(self._plan())
        except Exception as failure:  # noqa: BLE001 - a reload never kills
            self.tally["failed"] += 1
            self.error = f"{type(failure).__name__}: {failure}"
            bug = not isinstance(failure, EngineError)
            _LOG.error(
                "The reload is refused and the old configuration stays: %s",
                failure,
                exc_info=bug,
            )
        else:
            self.tally["ok"] += 1
            self.error = ""
            # What is FAILED is FAILED until a reload.
            self.adopt(orders, orders.tasks)
            _LOG.info("Reloaded.")

    def prepare(self, wanted: DesiredState) -> Orders:
        """
        The orders of another configuration; what is new in it is locked.

        Raises: EngineError; nothing is changed then.
        """
        orders = self._roster.orders.reloaded(wanted)
        self.require_room(orders)
        self._claim(wanted)
        return self._decided(orders, self._roster.orders.tasks)

    def adopt(self, orders: Orders, connectors: Collection[str]) -> None:
        """
        Take up orders that were prepared.

        Args:
            connectors: What of these has FAILED is tried again.
        """
        old, wanted = self._roster.orders.wanted, orders.wanted
        self._roster.orders = orders
        self.generation += 1
        ailing = {
            seat.spec.key
            for seat in self._roster.tasks()
            if seat.ailing and seat.spec.connector in connectors
        }
        self._roster.renew(ailing)
        if wanted.level != old.level:
            self._announcing.set_level(link.SetLevel("", wanted.level))
        if wanted.embedded and self._broker is not None:
            self._start_broker()
        for name in connectors:
            self._forget(name)
        self._announcing.set_limits(old)
        self._roster.deal()
        gc.collect()
        gc.freeze()

    def _start_broker(self) -> None:
        assert self._broker is not None
        try:
            self._broker.start()
        except EngineError as failure:
            _LOG.error("%s", failure)

    def _claim(self, wanted: DesiredState) -> None:
        """Take the locks of new connectors, all or none."""
        taken: list[str] = []
        try:
            for connector in wanted.connectors:
                if connector.name not in self.claims:
                    claim = Claim(connector.claims, connector.name, clock=self._clock)
                    claim.take()
                    self.claims[connector.name] = claim
                    taken.append(connector.name)
        except BaseException:
            for name in taken:
                self.claims.pop(name).release()
            raise

    def _decided(self, orders: Orders, known: Iterable[str]) -> Orders:
        """The orders with what was decided of the connectors that are new."""
        for connector in orders.wanted.connectors:
            name, before = connector.name, set(known)
            if name in before or self._roster.once:
                continue
            state = targets.read(connector.claims, name) or connector.initial_state
            if state != "RUNNING":
                _LOG.warning("Connector %s is %s until its resume.", name, state)
            orders = orders.told(name, state)
        return orders

    def require_room(self, orders: Orders) -> None:
        """Raises: SharedError if the board has too few places."""
        count = len(specs(orders, self._roster.places))
        if count > self._roster.board.layout.children:
            raise SharedError(
                f"{count} processes; {self._roster.board.layout.children} are the most"
            )

    def release(self) -> None:
        """Unlock connectors that are gone, once their last process is."""
        wanted = {connector.name for connector in self._roster.orders.wanted.connectors}
        busy = {seat.spec.connector for seat in self._roster.leaving}
        for name in [n for n in self.claims if n not in wanted and n not in busy]:
            self.claims.pop(name).release()

    def release_all(self) -> None:
        """Unlock every connector."""
        for claim in self.claims.values():
            claim.release()
        self.claims.clear()
