"""
Loop: the verbs of the supervisor.

Owns their order: it obeys signals, reaps, takes up what has changed, listens, ends the
silent, starts what is missing and tells how things stand.  Each verb is a part of its own:
``reloading``, ``endings``, ``hearing``, ``announcing``, ``resizing``, ``spawning`` and
``telling``, around the ``roster`` of who is wanted and who is there.  It never learns what
a child does, opens no connection, and has one thread for life, so that forking is as safe
the thousandth time as the first.

Path: the command line's plan -> here -> ``supervisor.child``; pure judgement
comes from ``orders``, ``restart`` and ``scale``.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Callable, Collection, Iterable, Sequence

from engine.clock import SYSTEM, Clock
from engine.errors import Exit
from engine.shared import link
from engine.shared.board import Board
from engine.supervisor import restart, scale, signals
from engine.supervisor.announcing import Announcing
from engine.supervisor.broker import EmbeddedBroker
from engine.supervisor.child import LetGo, entitle
from engine.supervisor.commands import Commands, Files
from engine.supervisor.endings import Endings
from engine.supervisor.hearing import Hearing
from engine.supervisor.notify import Notify
from engine.supervisor.orders import DesiredState, Orders
from engine.supervisor.reloading import Reloading
from engine.supervisor.resizing import Resizing, load_of
from engine.supervisor.roster import Roster
from engine.supervisor.runtime import Runtime
from engine.supervisor.seat import Seat
from engine.supervisor.spawning import Spawning
from engine.supervisor.status import Snapshot
from engine.supervisor.stopper import ECHO
from engine.supervisor.telling import Telling

_LOG = logging.getLogger(__name__)

#: Seconds of the longest sleep between two looks at the children.
TICK = 1.0

#: Seconds the loop may be late before it doubts its own ears: it was stopped
#: or starved, and so, perhaps, were its children.
LATE = 5.0


class Supervisor:
    """
    Runs what the plan wants until it is done or told to stop.

    Args:
        plan: Reads the configuration; called once at the start and at each
            SIGHUP.  Raises an EngineError if it is no good, and then a reload
            changes nothing.
        runtime: This supervisor's directory; removed at the end.
        board: Shared with the children; made here if not given.
        once: Children end by themselves; the run ends with the last of them
            and the worst exit code.
        broker: Started and ended with the run if the plan wants it.
        notify: The way to systemd.
        on_tick: Called about once a second with how things stand, and at the
            end; for a progress display.
        load: Board, slots, number of shards -> load of a connector.
        let_go: Called in each child: descriptors of the caller's.
        files: Where connectors come and go while it runs, or None.
    """

    def __init__(
        self,
        plan: Callable[[], DesiredState],
        *,
        runtime: Runtime,
        board: Board | None = None,
        once: bool = False,
        broker: EmbeddedBroker | None = None,
        notify: Notify | None = None,
        on_tick: Callable[[Snapshot, Board], None] | None = None,
        load: Callable[[Board, Sequence[int], int], scale.Load] = load_of,
        let_go: Sequence[LetGo] = (),
        files: Files | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.board = board if board is not None else Board(clock=clock)
        self.files = files
        self._runtime = runtime
        self._broker = broker
        self._notify = notify if notify is not None else Notify(clock=clock)
        self._let_go = tuple(let_go)
        self._clock = clock
        self._commands = Commands(self)
        self._terminal = _is_terminal()
        self._asked_at = 0.0
        self._woke = clock.monotonic()

        roster = self._roster = Roster(self.board, once=once, clock=clock)
        self._endings = Endings(roster, broker=broker, clock=clock)
        self._announcing = Announcing(roster, clock=clock)
        self._reloading = Reloading(
            plan,
            roster,
            self._announcing,
            files=files,
            broker=broker,
            forget=lambda connector: self._resizing.forget(connector),
            clock=clock,
        )
        self._resizing = Resizing(
            roster, load=load, require_room=self._reloading.require_room, clock=clock
        )
        self._hearing = Hearing(
            roster,
            self._endings,
            self._announcing,
            obey=self._obeyed,
            stop=self._stop,
            clock=clock,
        )
        self._spawning = Spawning(roster, runtime, ours=self._descriptors, clock=clock)
        self._telling = Telling(
            roster,
            endings=self._endings,
            hearing=self._hearing,
            reloading=self._reloading,
            resizing=self._resizing,
            announcing=self._announcing,
            runtime=runtime,
            broker=broker,
            notify=self._notify,
            on_tick=on_tick,
            clock=clock,
        )

    # --- the run ----------------------------------------------------------

    def run(self) -> int:
        """
        Start everything, keep it running, end it.

        Returns: the exit code of the run.
        Raises: EngineError if the start fails: the plan is no good, another
            engine runs one of its connectors, or the embedded broker does not
            come up.  Nothing is left behind then.
        Blocks: until the run is over.
        """
        signals.block()
        entitle("supervisor")
        try:
            self._start()
            self._close_the_gap()
            self._telling.tell()
            # The order of a turn: what has come is taken in before anything is begun, so
            # that a child which has just ended is judged before its place is filled, and
            # another configuration is known before the gap to it is closed.  What is told
            # last is what the turn has made of it.
            while not self._over():
                self._obey(signals.wait(self._pause()))
                self._reap()
                self._reloading.look()
                self._hearing.listen()
                self._endings.end_the_silent()
                self._resizing.look()
                self._close_the_gap()
                self._telling.tell()
            return self._verdict()
        finally:
            self._clear_up()

    def _start(self) -> None:
        self._reloading.first()
        if self._roster.orders.wanted.embedded and self._broker is not None:
            self._notify.status("Waiting for the embedded broker.")
            self._broker.start()
        self._roster.deal()
        # What was built so far is shared with every child for good: a
        # collection that touched it would copy its pages into each of them.  Little
        # of it is garbage, and to look for that is a twentieth of a start.
        gc.freeze()
        gc.enable()
        # The start above took its time; the children's begins now.
        self._woke = self._endings.listens_since = self._clock.monotonic()

    def _over(self) -> bool:
        roster = self._roster
        if any(seat.child is not None for seat in roster.everyone()):
            return False
        if roster.stops:
            return True
        return roster.once and all(
            seat.done is not None or seat.failure is not None for seat in roster.tasks()
        )

    def _verdict(self) -> int:
        tasks = self._roster.tasks()
        codes = [seat.failure.code for seat in tasks if seat.failure]
        codes += [seat.done for seat in tasks if seat.done is not None]
        if self._endings.undrained:
            codes.append(Exit.TRY_AGAIN)
        return restart.worst(codes)

    def _clear_up(self) -> None:
        """Leave nothing behind, whatever happened."""
        # The children first: once the locks of their connectors are let go, another
        # engine may run them.
        self._endings.kill()
        if self._broker is not None:
            self._broker.end()
        self._reloading.release_all()
        self._telling.show()
        self._notify.close()
        self._runtime.remove()

    # --- obey -------------------------------------------------------------

    def _obey(self, came: frozenset[signal.Signals]) -> None:
        now = self._clock.monotonic()
        late = min(LATE, self._roster.orders.wanted.patience.silence / 2)
        if now - self._woke > TICK + late:
            self._endings.listens_since = now
        self._woke = now
        if came & {signal.SIGTERM, signal.SIGINT}:
            self._stop(now)
        if signal.SIGHUP in came and not self._roster.stops:
            if self._terminal and not _is_terminal():
                # The window was closed: nobody is there to reload for.
                self._stop(now)
            else:
                self._reload()

    def _stop(self, now: float) -> None:
        if self._roster.stops and now - self._asked_at <= ECHO:
            return
        self._roster.stops += 1
        self._asked_at = now
        if self._roster.stops == 1:
            _LOG.info("Stopping: tasks finish their page and end.")
            self._notify.stopping()
            return
        _LOG.warning("Asked again to stop: hurrying.")
        self._endings.hurry(now)

    def _reload(self) -> None:
        """Read the files again; any error keeps the old configuration whole."""
        self._notify.reloading()
        now = self._clock.monotonic()
        self._reloading.again()
        self._woke = self._endings.listens_since = max(now, self._clock.monotonic())
        if self._telling.ready:
            self._notify.ready()

    def _reap(self) -> None:
        for seat, child, code in self._endings.reaped():
            # Its last words first: they may say why.
            self._hearing.hear(seat, child)
            self._endings.bury(seat, child, code)

    def _obeyed(self, ask: link.Ask) -> link.AskOutcome:
        """What became of an order of admin's."""
        told = self._commands.obey(ask)
        self._resizing.forget(ask.connector)
        # What is shown next is what was answered.
        self._telling.show()
        return told

    # --- close the gap ----------------------------------------------------

    def _close_the_gap(self) -> None:
        roster, now = self._roster, self._clock.monotonic()
        if self._broker is not None and roster.orders.wanted.embedded:
            self._broker.tend()
        roster.leaving = [seat for seat in roster.leaving if seat.child is not None]
        for seat in roster.leaving:
            self._endings.end(seat, "changed", now)
        if roster.stops or roster.finished():
            self._close_down(now)
            return
        for seat in roster.seats.values():
            child = seat.child
            if roster.run_state(seat) == "STOPPED":
                seat.listed = False
            if child is None:
                continue
            same = child.spec.fingerprint == seat.spec.fingerprint
            if not same or roster.run_state(seat) == "STOPPED":
                self._endings.end(seat, "changed", now)
        for seat in list(roster.seats.values()):
            if roster.startable(seat, now):
                self._spawning.start(seat, now)
        if roster.settled():
            roster.rebalancing.settle(self._clock.monotonic(), self._clock.wall_ms())
        self._reloading.release()

    def _close_down(self, now: float) -> None:
        """Tasks first; admin can be asked how it goes until they are gone."""
        running = [s for s in self._roster.everyone() if s.child is not None]
        tasks = [seat for seat in running if not seat.spec.auxiliary]
        for seat in tasks or running:
            self._endings.end(seat, "stop", now)

    def _descriptors(self) -> list[LetGo]:
        """What a child has to let go of."""
        let_go: list[LetGo] = [self._notify.close]
        let_go += [claim.forget for claim in self._reloading.claims.values()]
        if self._broker is not None:
            let_go.append(self._broker.forget)
        return [*let_go, *self._let_go]

    def _pause(self) -> float:
        """Seconds until something is due."""
        now = self._clock.monotonic()
        moments = [now + TICK]
        for seat in self._roster.everyone():
            if seat.child is None:
                if seat.failure is None and seat.done is None and seat.due > now:
                    moments.append(seat.due)
            elif seat.ending is not None and not seat.ending.killed:
                moments.append(seat.ending.deadline)
        return max(0.0, min(moments) - now)

    # --- what `supervisor.commands` asks of it ------------------------------

    @property
    def ending(self) -> bool:
        """True once it was told to stop."""
        return self._roster.stops > 0

    @property
    def orders(self) -> Orders:
        """What is wanted."""
        return self._roster.orders

    def seats(self, connector: str) -> list[Seat]:
        """The connector's tasks."""
        return self._roster.of(connector)

    def lives(self, connector: str) -> bool:
        """True while any process of it is there."""
        return self._roster.lives(connector)

    def want(self, orders: Orders) -> None:
        """Want something else from now on."""
        self._roster.orders = orders
        self._roster.deal()

    def renew(self, keys: Iterable[str]) -> None:
        """Start some children anew, with a clean slate."""
        self._roster.renew(keys)
        self._roster.deal()

    def prepare(self, wanted: DesiredState) -> Orders:
        """
        The orders of another configuration; what is new in it is locked.

        Raises: EngineError; nothing is changed then.
        """
        return self._reloading.prepare(wanted)

    def adopt(self, orders: Orders, connectors: Collection[str]) -> None:
        """
        Take up orders that were prepared.

        Args:
            connectors: What of these has FAILED is tried again.
        """
        self._reloading.adopt(orders, connectors)


def _is_terminal() -> bool:
    """True if stderr is a terminal that is still there."""
    return os.isatty(2)
