"""
Loop: the verbs of the supervisor.

Owns the running children and closes the gap between them and the orders: it
obeys signals, reaps, ends the silent, starts what is missing and tells how
things stand.  It never learns what a child does, opens no connection, and has
one thread for life, so that forking is as safe the thousandth time as the
first.

Path: the command line's plan -> here -> ``supervisor.child``; pure judgement
comes from ``orders``, ``restart`` and ``scale``.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from engine.clock import SYSTEM, Clock
from engine.errors import EngineError, Exit, SharedError
from engine.observe import log, machine, names
from engine.shared import link
from engine.shared.board import Board
from engine.shared.lock import Claim
from engine.supervisor import restart, scale, signals, status, targets
from engine.supervisor.assign import most_tasks, overlap
from engine.supervisor.broker import EmbeddedBroker
from engine.supervisor.child import ECHO, Child, ChildSpec, LetGo, entitle, spawn
from engine.supervisor.commands import Commands, Files
from engine.supervisor.notify import Notify
from engine.supervisor.orders import Orders, Places, Wanted, specs
from engine.supervisor.rebalance import Rebalancing, hands
from engine.supervisor.runtime import Runtime
from engine.supervisor.seat import Ending, Failure, Seat
from engine.supervisor.status import ShardStatus, Snapshot

_LOG = logging.getLogger(__name__)

#: Seconds of the longest sleep between two looks at the children.
TICK = 1.0

#: Seconds between two attempts to fork when the machine has no room.
NO_ROOM = 1.0

#: Seconds the loop may be late before it doubts its own ears: it was stopped
#: or starved, and so, perhaps, were its children.
LATE = 5.0

#: Seconds that admin has to end once the tasks are gone.
AUXILIARY_GRACE = 2.0

#: Seconds between two lines for `systemctl status`.
STATUS_PERIOD = 5.0


def load_of(board: Board, slots: Sequence[int], loops: int) -> scale.Load:
    """What the shards of a connector have done, off the board."""
    sums = board.totals(slots)
    held = sum(sums[names.WAITS[on]] for on in names.HELD_BACK)
    return scale.Load(sums["produced"], held / 1e9, loops)


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
        plan: Callable[[], Wanted],
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
        self._plan = plan
        self._runtime = runtime
        self._once = once
        self._broker = broker
        self._notify = notify if notify is not None else Notify(clock=clock)
        self._on_tick = on_tick
        self._load = load
        self._let_go = tuple(let_go)
        self.files = files
        self._generation = 0
        self._clock = clock

        self._commands = Commands(self)
        self._places = Places(self.board)
        self._orders = Orders(Wanted(connectors=()), {})
        self._seats: dict[str, Seat] = {}
        self._leaving: list[Seat] = []
        self._claims: dict[str, Claim] = {}
        self._watches: dict[str, scale.Watch] = {}
        self._shards: tuple[ShardStatus, ...] = ()

        self._terminal = _is_terminal()
        self._asked_to_stop = 0
        self._asked_at = 0.0
        self._undrained = False
        self._listens_since = clock.monotonic()
        self._woke = clock.monotonic()
        self._started_ms = clock.wall_ms()
        self._all_ready = False
        self._told_ready = False
        self._fed = float("-inf")
        self._status_at = float("-inf")
        self._counted = (clock.monotonic(), 0)
        self._written: Snapshot | None = None
        self._reloads: Counter[str] = Counter(ok=0, failed=0)
        self._reload_error = ""
        self._scaling: Counter[str] = Counter()
        self._rebalancing = Rebalancing()
        self._levels_changed: dict[str, int] = {}
        self._cluster = ""
        self._said_all_failed = False

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
            self._tell()
            while not self._over():
                self._obey(signals.wait(self._pause()))
                self._reap()
                self._look()
                self._listen()
                self._end_the_silent()
                self._scale()
                self._close_the_gap()
                self._tell()
            return self._verdict()
        finally:
            self._clear_up()

    def _start(self) -> None:
        wanted = self._plan()
        self._orders = Orders.first(wanted)
        self._require_room(self._orders)
        self._claim(wanted)
        self._orders = self._decided(self._orders, ())
        if wanted.embedded and self._broker is not None:
            self._notify.status("Waiting for the embedded broker.")
            self._broker.start()
        self._seat()
        # What was built so far is shared with every child for good: a
        # collection that touched it would copy its pages into each of them.
        gc.collect()
        gc.freeze()
        # The start above took its time; the children's begins now.
        self._woke = self._listens_since = self._clock.monotonic()

    def _over(self) -> bool:
        if any(seat.child is not None for seat in self._everyone()):
            return False
        if self._asked_to_stop:
            return True
        tasks = self._tasks()
        return self._once and all(
            seat.done is not None or seat.failure is not None for seat in tasks
        )

    def _verdict(self) -> int:
        codes = [seat.failure.code for seat in self._tasks() if seat.failure]
        codes += [seat.done for seat in self._tasks() if seat.done is not None]
        if self._undrained:
            codes.append(Exit.TRY_AGAIN)
        return restart.worst(codes)

    def _clear_up(self) -> None:
        """Leave nothing behind, whatever happened."""
        for seat in self._everyone():
            if seat.child is not None:
                seat.child.signal(signal.SIGKILL)
        for seat in self._everyone():
            if seat.child is not None:
                try:
                    os.waitpid(seat.child.pid, 0)
                except ChildProcessError:
                    pass
                seat.child.link.close()
                seat.child = None
        if self._broker is not None:
            self._broker.end()
        for claim in self._claims.values():
            claim.release()
        self._claims.clear()
        self._show(self._snapshot())
        self._notify.close()
        self._runtime.remove()

    # --- obey -------------------------------------------------------------

    def _obey(self, came: frozenset[signal.Signals]) -> None:
        now = self._clock.monotonic()
        late = min(LATE, self._orders.wanted.patience.silence / 2)
        if now - self._woke > TICK + late:
            self._listens_since = now
        self._woke = now
        if came & {signal.SIGTERM, signal.SIGINT}:
            self._stop(now)
        if signal.SIGHUP in came and not self._asked_to_stop:
            if self._terminal and not _is_terminal():
                # The window was closed: nobody is there to reload for.
                self._stop(now)
            else:
                self._reload()

    def _stop(self, now: float) -> None:
        if self._asked_to_stop and now - self._asked_at <= ECHO:
            return
        self._asked_to_stop += 1
        self._asked_at = now
        patience = self._orders.wanted.patience
        if self._asked_to_stop == 1:
            _LOG.info("Stopping: tasks finish their page and end.")
            self._notify.stopping()
            return
        _LOG.warning("Asked again to stop: hurrying.")
        for seat in self._everyone():
            if seat.child is not None and seat.ending is not None:
                seat.child.hurry()
                left = patience.hurry if self._asked_to_stop == 2 else 0.0
                seat.ending.deadline = min(seat.ending.deadline, now + left)

    def _look(self) -> None:
        """Take up what somebody has changed in the connectors' directory."""
        if self.files is None or self._asked_to_stop or not self.files.changed():
            return
        try:
            wanted = self._plan()
            old = {c.name: c for c in self._orders.wanted.connectors}
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

    def _reload(self) -> None:
        """Read the files again; any error keeps the old configuration whole."""
        self._notify.reloading()
        now = self._clock.monotonic()
        try:
            orders = self.prepare(self._plan())
        except Exception as failure:  # noqa: BLE001 - a reload never kills
            self._reloads["failed"] += 1
            self._reload_error = f"{type(failure).__name__}: {failure}"
            bug = not isinstance(failure, EngineError)
            _LOG.error(
                "The reload is refused and the old configuration stays: %s",
                failure,
                exc_info=bug,
            )
        else:
            self._reloads["ok"] += 1
            self._reload_error = ""
            # What is FAILED is FAILED until a reload.
            self.adopt(orders, orders.tasks)
            _LOG.info("Reloaded.")
        self._woke = self._listens_since = max(now, self._clock.monotonic())
        if self._told_ready:
            self._notify.ready()

    def prepare(self, wanted: Wanted) -> Orders:
        """
        The orders of another configuration; what is new in it is locked.

        Raises: EngineError; nothing is changed then.
        """
        orders = self._orders.reloaded(wanted)
        self._require_room(orders)
        self._claim(wanted)
        return self._decided(orders, self._orders.tasks)

    def adopt(self, orders: Orders, connectors: Collection[str]) -> None:
        """
        Take up orders that were prepared.

        Args:
            connectors: What of these has FAILED is tried again.
        """
        old, wanted = self._orders.wanted, orders.wanted
        self._orders = orders
        self._generation += 1
        ailing = {
            seat.spec.key
            for seat in self._tasks()
            if seat.ailing and seat.spec.connector in connectors
        }
        self._renew(ailing)
        if wanted.level != old.level:
            self._set_level(link.SetLevel("", wanted.level))
        if wanted.embedded and self._broker is not None:
            self._start_broker()
        for name in connectors:
            self._watches.pop(name, None)
        self._set_limits(old)
        self._seat()
        gc.collect()
        gc.freeze()

    def _start_broker(self) -> None:
        assert self._broker is not None
        try:
            self._broker.start()
        except EngineError as failure:
            _LOG.error("%s", failure)

    def _claim(self, wanted: Wanted) -> None:
        """Take the locks of new connectors, all or none."""
        taken: list[str] = []
        try:
            for connector in wanted.connectors:
                if connector.name not in self._claims:
                    claim = Claim(connector.claims, connector.name, clock=self._clock)
                    claim.take()
                    self._claims[connector.name] = claim
                    taken.append(connector.name)
        except BaseException:
            for name in taken:
                self._claims.pop(name).release()
            raise

    def _decided(self, orders: Orders, known: Iterable[str]) -> Orders:
        """With what was decided of the connectors that are new."""
        for connector in orders.wanted.connectors:
            name, before = connector.name, set(known)
            if name in before or self._once:
                continue
            state = targets.read(connector.claims, name) or connector.initial_state
            if state != "RUNNING":
                _LOG.warning("Connector %s is %s until its resume.", name, state)
            orders = orders.told(name, state)
        return orders

    def _require_room(self, orders: Orders) -> None:
        """Raises: SharedError if the board has too few places."""
        count = len(specs(orders, self._places))
        if count > self.board.layout.children:
            raise SharedError(
                f"{count} processes; {self.board.layout.children} are the most"
            )

    # --- reap -------------------------------------------------------------

    def _reap(self) -> None:
        """Take every child that has ended; signals merge, so all of them."""
        while True:
            try:
                pid, raw = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(raw)
            for seat in self._everyone():
                if seat.child is not None and seat.child.pid == pid:
                    self._bury(seat, seat.child, code)
                    break
            else:
                # Not ours, or the broker's: an orphan that was handed to us
                # (as PID 1 of a container) is reaped and not judged.
                if self._broker is not None:
                    self._broker.reaped(pid, code)

    def _bury(self, seat: Seat, child: Child, code: int) -> None:
        now = self._clock.monotonic()
        # Its last words first: they may say why.
        self._hear(seat, child)
        child.link.close()
        ending, seat.child, seat.ending = seat.ending, None, None
        seat.ready = False
        waited, seat.waiting = seat.waiting, ""
        seat.troubles.clear()
        watch = self.board.watch(seat.index)
        watch.put("pid", 0)
        watch.put("last_exit", code)
        slot = self.board.child(seat.index)
        slot.become("ended")
        if ending is not None and ending.cause in ("changed", "stop"):
            if not seat.spec.auxiliary and code != Exit.OK:
                self._undrained = self._undrained or ending.cause == "stop"
                reason = "within its grace" if ending.killed else f"({code})"
                _LOG.warning("%s did not drain %s.", child.spec.key, reason)
            seat.due = now
            return
        exited = restart.Exited(
            code=code,
            at=now,
            lived=now - child.started,
            cause=ending.cause if ending is not None else "",
        )
        seat.last_exit = exited.why
        if exited.cause == "memory":
            seat.drained += 1
            seat.drained_ms = self._clock.wall_ms()
        if self._asked_to_stop:
            return
        if self._once and not seat.spec.auxiliary and code >= 0 and ending is None:
            # What it waited for at its end was not reached.
            seat.done, seat.waiting = code, waited
            return
        self._judge(seat, exited, now)

    def _judge(self, seat: Seat, exited: restart.Exited, now: float) -> None:
        limits = self._orders.wanted.patience.restarts
        verdict = restart.decide(exited, seat.history, now, limits)
        seat.history = restart.remembered([*seat.history, exited], now)
        watch = self.board.watch(seat.index)
        watch.put("crashes", restart.crashes(seat.history, now))
        if isinstance(verdict, restart.GiveUp) and seat.spec.auxiliary:
            verdict = restart.Again(limits.backoff_max)
        if isinstance(verdict, restart.GiveUp):
            seat.failure = Failure(verdict.why, exited.code)
            self.board.child(seat.index).become("failed")
            _LOG.error(
                "%s %s. It is FAILED until a reload or restart; the others go on.",
                seat.spec.key,
                verdict.why,
            )
            return
        seat.due = now + verdict.after
        _LOG.warning(
            "%s %s; it starts again in %.1f s.",
            seat.spec.key,
            exited.why,
            verdict.after,
        )

    # --- listen -----------------------------------------------------------

    def _listen(self) -> None:
        for seat in list(self._everyone()):
            if seat.child is not None:
                self._hear(seat, seat.child)

    def _hear(self, seat: Seat, child: Child) -> None:
        try:
            messages = child.link.receive()
        except SharedError as failure:
            _LOG.error("%s: %s", seat.spec.key, failure)
            return
        for message in messages:
            match message:
                case link.Ready():
                    seat.ready = True
                case link.ShardFinished():
                    seat.finished.add(message.slot)
                    self._shards = ()
                case link.ShardFailed():
                    seat.failed[message.slot] = Failure(message.reason, message.code)
                    self._shards = ()
                    _LOG.error(
                        "Shard %s is FAILED: %s",
                        message.shard.label,
                        message.reason,
                        extra={"connector": message.shard.connector},
                    )
                case link.TakenOver():
                    self._let_go_of(seat.spec.connector, message.reason)
                case link.BrokerWaiting():
                    waits = message.since is not None
                    seat.waiting = (message.reason or "broker") if waits else ""
                case link.Trouble():
                    seat.troubled(message.kind, message.text)
                case link.BrokerKnown():
                    self._cluster = message.cluster
                case link.Ask():
                    self._answer(child, message)
                case link.SetLevel():
                    self._set_level(message)
                case _:
                    _LOG.warning("%s sent an order.", seat.spec.key)

    def _let_go_of(self, connector: str, why: str) -> None:
        """Another engine has a connector; without any this one ends."""
        now = self._clock.monotonic()
        mine = [s for s in self._tasks() if s.spec.connector == connector]
        if all(seat.failure is not None for seat in mine):
            return
        _LOG.error("Connector %s ends here: %s.", connector, why)
        for seat in mine:
            seat.failure = Failure(why, Exit.TRY_AGAIN)
            self._end(seat, "stop", now)
        if all(seat.failure is not None for seat in self._tasks()):
            _LOG.error("No connector is left to run: this engine ends.")
            self._stop(now)

    def _answer(self, child: Child, ask: link.Ask) -> None:
        told = self._commands.obey(ask)
        self._watches.pop(ask.connector, None)
        # What is shown next is what was answered.
        self._show(self._snapshot())
        if not child.link.send(told):
            _LOG.warning("admin does not take its answers: %s.", ask.verb)

    # What `supervisor.commands` asks of it.

    @property
    def ending(self) -> bool:
        """True once it was told to stop."""
        return self._asked_to_stop > 0

    @property
    def orders(self) -> Orders:
        """What is wanted."""
        return self._orders

    def seats(self, connector: str) -> list[Seat]:
        """The connector's tasks."""
        return [s for s in self._tasks() if s.spec.connector == connector]

    def lives(self, connector: str) -> bool:
        """True while any process of it is there."""
        return any(
            seat.child is not None and seat.spec.connector == connector
            for seat in self._everyone()
        )

    def want(self, orders: Orders) -> None:
        """Want something else from now on."""
        self._orders = orders
        self._seat()

    def renew(self, keys: Iterable[str]) -> None:
        """Start some children anew, with a clean slate."""
        self._renew(set(keys))
        self._seat()

    def _renew(self, keys: set[str]) -> None:
        now = self._clock.monotonic()
        self._orders = self._orders.renewed(keys)
        for key in keys:
            self._seats[key].forgive(now)
        self._said_all_failed = False

    def _set_level(self, message: link.SetLevel) -> None:
        """Here, in every child that lives, and by the fork in those to come."""
        log.set_level(message.logger, message.level)
        name = "" if message.logger == "root" else message.logger
        self._levels_changed[name] = self._clock.wall_ms()
        for seat in self._everyone():
            if seat.child is not None:
                seat.child.link.send(message)

    def _set_limits(self, old: Wanted) -> None:
        """Tell the tasks that go on; one that cannot be told starts anew."""
        before = {connector.name: connector.limits for connector in old.connectors}
        for connector in self._orders.wanted.connectors:
            if connector.limits == before.get(connector.name, connector.limits):
                continue
            message = link.SetLimits(connector.limits)
            deaf = {
                seat.spec.key
                for seat in self._tasks()
                if seat.spec.connector == connector.name
                and seat.child is not None
                and not _told(seat.child, message)
            }
            self._renew(deaf)

    # --- end the silent ---------------------------------------------------

    def _end_the_silent(self) -> None:
        now = self._clock.monotonic()
        patience = self._orders.wanted.patience
        for seat in self._everyone():
            child = seat.child
            if child is None:
                continue
            if seat.ending is not None:
                if now >= seat.ending.deadline and not seat.ending.killed:
                    seat.ending.killed = True
                    child.signal(signal.SIGKILL)
                continue
            silence = self._silence(seat, now)
            if silence > patience.silence:
                _LOG.error(
                    "%s gave no sign of life for %.0f s while it was %s: ending it.",
                    seat.spec.key,
                    silence,
                    self.board.child(seat.index).phase,
                )
                # SIGABRT writes the stacks of all its threads; a process that
                # is stopped, or deaf to it, is killed.
                seat.ending = Ending(now + patience.dump, "silent")
                child.signal(signal.SIGABRT)
                continue
            most = child.spec.memory_max
            if (
                most
                and (used := machine.resident(child.pid)) > most
                and self._got_on(seat, child, now)
            ):
                _LOG.warning(
                    "%s holds %d bytes, more than process.memory.max.bytes=%d: "
                    "it drains and starts anew.",
                    seat.spec.key,
                    used,
                    most,
                )
                self._end(seat, "memory", now)

    def _got_on(self, seat: Seat, child: Child, now: float) -> bool:
        """
        It has delivered a page, or had its time to.

        A limit that no task can keep makes a connector slow; it must not keep
        it from its first page for ever.
        """
        return (
            self._pages(child.spec) > seat.pages
            or now - child.started >= restart.HEALTHY
        )

    def _pages(self, spec: ChildSpec) -> int:
        """Delivered of its shards, by whichever process."""
        return sum(self.board.shard(one.slot).get("pages") for one in spec.everything)

    def _silence(self, seat: Seat, now: float) -> float:
        silence = self.board.child(seat.index).silence()
        # While we were stopped nobody could have been heard.
        heard = now - self._listens_since
        return min(heard, silence if silence is not None else heard)

    def _end(self, seat: Seat, cause: str, now: float) -> None:
        if seat.child is None or seat.ending is not None:
            return
        grace = self._orders.wanted.patience.grace
        if seat.spec.auxiliary:
            grace = min(grace, AUXILIARY_GRACE)
        seat.ending = Ending(now + grace, cause)
        seat.child.signal(signal.SIGTERM)
        if self._asked_to_stop > 1:
            seat.child.hurry()
            hurry = self._orders.wanted.patience.hurry
            seat.ending.deadline = min(seat.ending.deadline, now + hurry)

    # --- scale ------------------------------------------------------------

    def _scale(self) -> None:
        if self._asked_to_stop or self._once:
            return
        now = self._clock.monotonic()
        for connector in self._orders.wanted.connectors:
            scaling = connector.scaling
            if scaling is None or self._orders.state(connector.name) != "RUNNING":
                continue
            watch = self._watches.get(connector.name)
            if watch is not None and not scale.due(watch, now, scaling):
                continue
            mine = [s for s in self._tasks() if s.spec.connector == connector.name]
            load = self._load(
                self.board,
                self._places.slots(connector.name),
                sum(len(seat.spec.shards) for seat in mine),
            )
            if watch is None:
                self._watches[connector.name] = scale.Watch(now, load)
                continue
            tasks = len(mine)
            watch, judgement = scale.judge(
                watch,
                load,
                now,
                tasks=tasks,
                most=most_tasks(connector.apis),
                scaling=scaling,
                settled=all(s.ready and s.ending is None for s in mine),
            )
            self._watches[connector.name] = watch
            label = f"{connector.name} {judgement.direction} {judgement.reason}"
            self._scaling[label] += 1
            _LOG.info(
                "Auto-scaling of %s: %d tasks, wanted %d: %s.",
                connector.name,
                tasks,
                judgement.tasks,
                judgement.text,
                extra={"direction": judgement.direction, "reason": judgement.reason},
            )
            if judgement.tasks != tasks:
                orders = self._orders.scaled(connector.name, judgement.tasks)
                try:
                    self._require_room(orders)
                except SharedError as failure:
                    _LOG.warning("No further task: %s.", failure)
                    continue
                self._orders = orders
                self._seat()

    # --- close the gap ----------------------------------------------------

    def _seat(self) -> None:
        """One seat for each wanted child; those not wanted any more leave."""
        now = self._clock.monotonic()
        wanted = specs(self._orders, self._places)
        self._places.remember(wanted.values())
        self._rebalancing.want(hands(wanted.values()), now)
        for key in [key for key in self._seats if key not in wanted]:
            self._leaving.append(self._seats.pop(key))
        for key, spec in wanted.items():
            seat = self._seats.get(key)
            if seat is None:
                self._seats[key] = Seat(spec, -1, now)
            else:
                if seat.spec.fingerprint != spec.fingerprint:
                    seat.forgive(now)
                # The entry of the new configuration, also where nothing else
                # changed: the next start is made with it.
                seat.spec = spec
        self._shards = ()

    def _close_the_gap(self) -> None:
        now = self._clock.monotonic()
        if self._broker is not None and self._orders.wanted.embedded:
            self._broker.tend()
        self._leaving = [seat for seat in self._leaving if seat.child is not None]
        for seat in self._leaving:
            self._end(seat, "changed", now)
        if self._asked_to_stop or self._finished():
            self._close_down(now)
            return
        for seat in self._seats.values():
            child = seat.child
            if self._run_state(seat) == "STOPPED":
                seat.listed = False
            if child is None:
                continue
            same = child.spec.fingerprint == seat.spec.fingerprint
            if not same or self._run_state(seat) == "STOPPED":
                self._end(seat, "changed", now)
        for seat in list(self._seats.values()):
            if self._startable(seat, now):
                self._spawn(seat, now)
        if self._settled():
            self._rebalancing.settle(self._clock.monotonic(), self._clock.wall_ms())
        self._release_claims()

    def _close_down(self, now: float) -> None:
        """Tasks first; admin can be asked how it goes until they are gone."""
        running = [s for s in self._everyone() if s.child is not None]
        tasks = [seat for seat in running if not seat.spec.auxiliary]
        for seat in tasks or running:
            self._end(seat, "stop", now)

    def _finished(self) -> bool:
        """Under `once`: no task has anything left to do."""
        return self._once and all(
            s.child is None and (s.done is not None or s.failure is not None)
            for s in self._tasks()
        )

    def _settled(self) -> bool:
        """Each process holds what it is to hold, and none is still to start."""
        if any(not seat.spec.auxiliary for seat in self._leaving):
            return False
        for seat in self._tasks():
            if seat.held == seat.spec.fingerprint:
                continue
            given_up = seat.failure is not None or not self._may_run(seat)
            if seat.child is not None or not given_up:
                return False
        return True

    def _may_run(self, seat: Seat) -> bool:
        """Whether it may be started; one that is paused lives on where it lives."""
        return self._run_state(seat) == "RUNNING"

    def _run_state(self, seat: Seat) -> str:
        """RUNNING, PAUSED or STOPPED, as its connector is wanted."""
        if seat.spec.auxiliary:
            return "RUNNING"
        return self._orders.state(seat.spec.connector)

    def _startable(self, seat: Seat, now: float) -> bool:
        if seat.child is not None or seat.failure is not None or now < seat.due:
            return False
        if seat.done is not None or not self._may_run(seat):
            return False
        # A moves from task 1 to task 2: not before task 1 has let go of it.
        return not any(
            overlap(mine.shard, theirs.shard)
            for other in self._everyone()
            if other.child is not None and other is not seat
            for mine in seat.spec.everything
            for theirs in other.child.spec.everything
        )

    def _spawn(self, seat: Seat, now: float) -> None:
        if seat.index < 0:
            seat.index = self._free_index()
            if seat.index < 0:
                return
            self.board.watch(seat.index).clear()
        for assigned in seat.spec.everything:
            self._places.publish(assigned.shard)
        try:
            seat.child = spawn(
                seat.spec,
                board=self.board,
                index=seat.index,
                runtime=self._runtime.path,
                others=self._descriptors(),
                secrets=self._orders.wanted.secrets,
                clock=self._clock,
            )
        except OSError as failure:
            seat.due = now + NO_ROOM
            _LOG.warning(
                "No process for %s (%s); trying again.", seat.spec.key, failure.strerror
            )
            return
        seat.starts += 1
        seat.listed = True
        seat.held = seat.spec.fingerprint
        seat.pages = self._pages(seat.spec)
        seat.failed.clear()
        seat.finished.clear()
        self._shards = ()
        watch = self.board.watch(seat.index)
        watch.put("pid", seat.child.pid)
        watch.put("started_ns", int(seat.child.started * 1e9))
        watch.put("restarts", seat.starts - 1)
        watch.put("wanted", 1)
        _LOG.info(
            "%s started as process %d%s.",
            seat.spec.key,
            seat.child.pid,
            _with_shards(seat.spec),
        )

    def _free_index(self) -> int:
        taken = {seat.index for seat in self._everyone()}
        free = (i for i in range(self.board.layout.children) if i not in taken)
        # None is free only while those that leave still hold theirs.
        return next(free, -1)

    def _descriptors(self) -> list[LetGo]:
        let_go: list[LetGo] = [self._notify.close, self._runtime.forget]
        let_go += [claim.forget for claim in self._claims.values()]
        let_go += [
            seat.child.link.close for seat in self._everyone() if seat.child is not None
        ]
        if self._broker is not None:
            let_go.append(self._broker.forget)
        return [*let_go, *self._let_go]

    def _release_claims(self) -> None:
        wanted = {connector.name for connector in self._orders.wanted.connectors}
        busy = {seat.spec.connector for seat in self._leaving}
        for name in [n for n in self._claims if n not in wanted and n not in busy]:
            self._claims.pop(name).release()

    # --- tell -------------------------------------------------------------

    def _tell(self) -> None:
        now = self._clock.monotonic()
        tasks = self._tasks()
        self._all_ready = self._all_ready or all(
            seat.ready
            or seat.failure is not None
            or seat.done is not None
            or not self._may_run(seat)
            for seat in tasks
        )
        self._show(self._snapshot())
        if tasks and not self._said_all_failed and all(s.given_up for s in tasks):
            self._said_all_failed = True
            _LOG.error("No task works any more; the reasons stand above.")
        if not self._notify.listening:
            return
        if self._all_ready and not self._told_ready:
            self._told_ready = True
            self._notify.ready()
        if self._notify.watchdog is not None and (
            now - self._fed >= self._notify.watchdog / 4 and self._all_within_time(now)
        ):
            self._fed = now
            self._notify.alive()
        if self._asked_to_stop:
            self._notify.extend(self._orders.wanted.patience.grace + 5)
        elif not self._told_ready:
            self._notify.extend(30)
        if now - self._status_at >= STATUS_PERIOD:
            self._status_at = now
            self._notify.status(self._line(now))

    def _all_within_time(self, now: float) -> bool:
        """False if a child is past its time and could not be ended either."""
        patience = self._orders.wanted.patience
        for seat in self._everyone():
            if seat.child is None:
                continue
            if seat.ending is not None:
                if now > seat.ending.deadline + LATE:
                    return False
            elif self._silence(seat, now) > patience.silence + LATE:
                return False
        return True

    def _line(self, now: float) -> str:
        connectors = self._orders.wanted.connectors
        running = [seat for seat in self._tasks() if seat.child is not None]
        slots = [slot for c in connectors for slot in self._places.slots(c.name)]
        records = self.board.totals(slots)["produced"]
        since, before = self._counted
        self._counted = now, records
        rate = (records - before) / max(now - since, 1e-3)
        line = f"{len(connectors)} connectors, {len(running)} tasks, {rate:.0f} rec/s"
        failed = sum(1 for seat in self._tasks() if seat.given_up)
        if failed:
            line += f", {failed} FAILED"
        if any(seat.waiting for seat in running):
            line += ", waiting for the broker"
        return line

    def _show(self, snapshot: Snapshot) -> None:
        if snapshot != self._written:
            try:
                status.write(self._runtime.path, snapshot)
                self._written = snapshot
            except OSError as failure:
                _LOG.debug("No status written: %s", failure)
        if self._on_tick is not None:
            try:
                self._on_tick(snapshot, self.board)
            except Exception:  # noqa: BLE001 - the caller's code
                # A display is no reason to end what it shows.
                self._on_tick = None
                _LOG.warning("The display failed and is off.", exc_info=True)

    def _snapshot(self) -> Snapshot:
        if not self._shards:
            self._shards = tuple(
                shard for seat in self._tasks() for shard in seat.shards()
            )
        state = "running" if self._all_ready else "starting"
        if self._asked_to_stop:
            state = "stopping"
        broker = self._broker
        return Snapshot(
            pid=os.getpid(),
            started_ms=self._started_ms,
            state=state,
            children=tuple(
                seat.status(self._run_state(seat)) for seat in self._seats.values()
            ),
            shards=self._shards,
            reloads=dict(self._reloads),
            reload_error=self._reload_error,
            scaling=dict(self._scaling),
            rebalances=self._rebalancing.tally,
            levels=log.levels(),
            levels_changed=dict(self._levels_changed),
            broker=broker.address if broker is not None else "",
            broker_pid=broker.pid if broker is not None else 0,
            cluster=self._cluster,
            generation=self._generation,
            states={name: self._orders.state(name) for name in self._orders.tasks},
        )

    # --- who there is -----------------------------------------------------

    def _everyone(self) -> Iterator[Seat]:
        yield from self._seats.values()
        yield from self._leaving

    def _tasks(self) -> list[Seat]:
        return [seat for seat in self._seats.values() if not seat.spec.auxiliary]

    def _pause(self) -> float:
        """Seconds until something is due."""
        now = self._clock.monotonic()
        moments = [now + TICK]
        for seat in self._everyone():
            if seat.child is None:
                if seat.failure is None and seat.done is None and seat.due > now:
                    moments.append(seat.due)
            elif seat.ending is not None and not seat.ending.killed:
                moments.append(seat.ending.deadline)
        return max(0.0, min(moments) - now)


def _told(child: Child, message: link.Message) -> bool:
    """False if the message is too large for a link, or the link is full."""
    try:
        return child.link.send(message)
    except SharedError:
        return False


def _is_terminal() -> bool:
    """True if stderr is a terminal that is still there."""
    return os.isatty(2)


def _with_shards(spec: ChildSpec) -> str:
    if spec.auxiliary:
        return ""
    count = len(spec.shards)
    return f" with {count:,} shard{'' if count == 1 else 's'}"
