"""
Forgetting: what is stored is removed, and that is waited for.

Owns the wait of a shard's thread for answers that come on another one.

Path: `task.tree`, `task.diff` -> here -> ``sink.seams.Saver``
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeAlias

from engine.sink.seams import Failure

#: Seconds between two looks whether the delivery still works.
LOOK: Final = 0.2

#: Removes one thing, and calls what it is given once that is written.
Removal: TypeAlias = Callable[[Callable[[Failure], None]], None]


class WatchedDelivery(Protocol):
    """What is needed of `sink.delivery.Delivery`."""

    def check_failure(self) -> None:
        """As `Delivery.check_failure`."""


def remove_all(delivery: WatchedDelivery, removals: Iterable[Removal]) -> None:
    """
    Remove all of this from the state.

    Raises: what the delivery, or the first removal of them, failed with.
    Blocks: until all of it is written.
    """
    # Filled on the thread that has written, the sender's or a state writer's: what is called
    # there may only put down what came, and the answers are read here.
    answers: queue.SimpleQueue[Failure] = queue.SimpleQueue()
    left = 0
    for remove in removals:
        remove(answers.put)
        left += 1
    while left:
        delivery.check_failure()
        try:
            why = answers.get(timeout=LOOK)
        except queue.Empty:
            continue
        if why is not None:
            raise why
        left -= 1
