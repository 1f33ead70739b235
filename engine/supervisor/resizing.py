"""
Resizing: how many tasks a connector has, while it runs.

Owns the looks at each connector's load and the step that follows; the judgement is
``supervisor.scale``'s, the processes are made by whoever closes the gap.

Path: ``supervisor.loop`` -> here -> ``supervisor.scale`` -> ``supervisor.roster``
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from engine.clock import Clock
from engine.errors import SharedError
from engine.observe import names
from engine.shared.board import Board
from engine.supervisor import scale
from engine.supervisor.assign import most_tasks
from engine.supervisor.orders import Orders
from engine.supervisor.roster import Roster

_LOG = logging.getLogger(__name__)


def load_of(board: Board, slots: Sequence[int], loops: int) -> scale.Load:
    """What the shards of a connector have done, off the board."""
    sums = board.totals(slots)
    held = sum(sums[names.WAITS[on]] for on in names.HELD_BACK)
    return scale.Load(sums["produced"], held / 1e9, loops)


class Resizing:
    """
    Gives connectors more tasks, or fewer.

    Args:
        load: Board, slots, number of shards -> load of a connector.
        require_room: Raises SharedError if orders want too many processes.

    Attributes:
        steps: "connector direction reason" -> times it was judged so.
    """

    def __init__(
        self,
        roster: Roster,
        *,
        load: Callable[[Board, Sequence[int], int], scale.Load],
        require_room: Callable[[Orders], None],
        clock: Clock,
    ) -> None:
        self._roster = roster
        self._load = load
        self._require_room = require_room
        self._clock = clock
        self._watches: dict[str, scale.LoadSample] = {}
        self.steps: Counter[str] = Counter()

    def forget(self, connector: str) -> None:
        """What it did before says nothing any more: it has changed."""
        self._watches.pop(connector, None)

    def look(self) -> None:
        """Judge every connector that is due."""
        if self._roster.stops or self._roster.once:
            return
        now = self._clock.monotonic()
        for connector in self._roster.orders.wanted.connectors:
            scaling = connector.scaling
            if (
                scaling is None
                or self._roster.orders.state(connector.name) != "RUNNING"
            ):
                continue
            watch = self._watches.get(connector.name)
            if watch is not None and not scale.due(watch, now, scaling):
                continue
            mine = [
                s for s in self._roster.tasks() if s.spec.connector == connector.name
            ]
            load = self._load(
                self._roster.board,
                self._roster.places.slots(connector.name),
                sum(len(seat.spec.shards) for seat in mine),
            )
            if watch is None:
                self._watches[connector.name] = scale.LoadSample(now, load)
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
            self.steps[label] += 1
            _LOG.info(
                "Auto-scaling of %s: %d tasks, wanted %d: %s.",
                connector.name,
                tasks,
                judgement.tasks,
                judgement.text,
                extra={"direction": judgement.direction, "reason": judgement.reason},
            )
            if judgement.tasks != tasks:
                orders = self._roster.orders.scaled(connector.name, judgement.tasks)
                try:
                    self._require_room(orders)
                except SharedError as failure:
                    _LOG.warning("No further task: %s.", failure)
                    continue
                self._roster.orders = orders
                self._roster.deal()
