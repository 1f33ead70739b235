"""
Roster: who is wanted, and who is there.

Owns the orders, a seat for each child that they want, those that leave, and what follows
from both: who may start, what is settled, what a run has left to do.  It starts and ends
nobody.

Path: the parts of ``supervisor.loop`` change it and read it -> here -> ``orders``, ``seat``
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.clock import Clock
from engine.shared.board import Board
from engine.supervisor.assign import overlap
from engine.supervisor.child import ChildSpec
from engine.supervisor.orders import DesiredState, Orders, SlotTable, specs
from engine.supervisor.rebalance import Rebalancing, hands
from engine.supervisor.seat import Seat
from engine.supervisor.status import ShardStatus


class Roster:
    """
    Seats, by what is wanted.

    Args:
        board: Shared with the children.
        once: Children end by themselves.

    Attributes:
        orders: What is wanted.
        seats: Key -> seat of each wanted child.
        leaving: Seats of children that are not wanted any more and have not ended yet.
        stops: Times the engine was told to stop.
        places: Where shards stand on the board.
        rebalancing: How long it takes until everybody holds what he is to hold.
    """

    def __init__(self, board: Board, *, once: bool, clock: Clock) -> None:
        self.board = board
        self.once = once
        self.stops = 0
        self.places = SlotTable(board)
        self.orders = Orders(DesiredState(connectors=()), {})
        self.seats: dict[str, Seat] = {}
        self.leaving: list[Seat] = []
        self.rebalancing = Rebalancing()
        self._clock = clock
        self._shards: tuple[ShardStatus, ...] = ()

    # --- who there is -----------------------------------------------------

    def everyone(self) -> Iterator[Seat]:
        """Every seat, those that leave among them."""
        yield from self.seats.values()
        yield from self.leaving

    def tasks(self) -> list[Seat]:
        """The seats that are wanted and no auxiliary."""
        return [seat for seat in self.seats.values() if not seat.spec.auxiliary]

    def of(self, connector: str) -> list[Seat]:
        """The connector's tasks."""
        return [s for s in self.tasks() if s.spec.connector == connector]

    def lives(self, connector: str) -> bool:
        """True while any process of it is there."""
        return any(
            seat.child is not None and seat.spec.connector == connector
            for seat in self.everyone()
        )

    @property
    def shards(self) -> tuple[ShardStatus, ...]:
        """How every shard stands."""
        if not self._shards:
            self._shards = tuple(
                shard for seat in self.tasks() for shard in seat.shards()
            )
        return self._shards

    def moved(self) -> None:
        """Something of a shard has changed."""
        self._shards = ()

    def pages(self, spec: ChildSpec) -> int:
        """Delivered of its shards, by whichever process."""
        return sum(self.board.shard(one.slot).get("pages") for one in spec.everything)

    # --- what is wanted ---------------------------------------------------

    def deal(self) -> None:
        """One seat for each wanted child; those not wanted any more leave."""
        now = self._clock.monotonic()
        wanted = specs(self.orders, self.places)
        self.places.remember(wanted.values())
        self.rebalancing.want(hands(wanted.values()), now)
        for key in [key for key in self.seats if key not in wanted]:
            self.leaving.append(self.seats.pop(key))
        for key, spec in wanted.items():
            seat = self.seats.get(key)
            if seat is None:
                self.seats[key] = Seat(spec, -1, now)
            else:
                if seat.spec.fingerprint != spec.fingerprint:
                    seat.forgive(now)
                # The entry of the new configuration, also where nothing else
                # changed: the next start is made with it.
                seat.spec = spec
        self.moved()

    def renew(self, keys: Iterable[str]) -> None:
        """Start some children anew, with a clean slate; not dealt yet."""
        now = self._clock.monotonic()
        chosen = set(keys)
        self.orders = self.orders.renewed(chosen)
        for key in chosen:
            self.seats[key].forgive(now)

    def may_run(self, seat: Seat) -> bool:
        """Whether it may be started; one that is paused lives on where it lives."""
        return self.run_state(seat) == "RUNNING"

    def run_state(self, seat: Seat) -> str:
        """RUNNING, PAUSED or STOPPED, as its connector is wanted."""
        if seat.spec.auxiliary:
            return "RUNNING"
        return self.orders.state(seat.spec.connector)

    def startable(self, seat: Seat, now: float) -> bool:
        """Whether its process may be started now."""
        if seat.child is not None or seat.failure is not None or now < seat.due:
            return False
        if seat.done is not None or not self.may_run(seat):
            return False
        # A moves from task 1 to task 2: not before task 1 has let go of it.
        return not any(
            overlap(mine.shard, theirs.shard)
            for other in self.everyone()
            if other.child is not None and other is not seat
            for mine in seat.spec.everything
            for theirs in other.child.spec.everything
        )

    def free_index(self) -> int:
        """A place on the board, or -1: all are taken."""
        taken = {seat.index for seat in self.everyone()}
        free = (i for i in range(self.board.layout.children) if i not in taken)
        # None is free only while those that leave still hold theirs.
        return next(free, -1)

    # --- how far it is ----------------------------------------------------

    def finished(self) -> bool:
        """Under `once`: no task has anything left to do."""
        return self.once and all(
            s.child is None and (s.done is not None or s.failure is not None)
            for s in self.tasks()
        )

    def settled(self) -> bool:
        """Each process holds what it is to hold, and none is still to start."""
        if any(not seat.spec.auxiliary for seat in self.leaving):
            return False
        for seat in self.tasks():
            if seat.held == seat.spec.fingerprint:
                continue
            given_up = seat.failure is not None or not self.may_run(seat)
            if seat.child is not None or not given_up:
                return False
        return True
