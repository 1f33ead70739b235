"""
Identity: which topic it is that records have gone to.

Owns what a topic's name does not say: the cluster it is in, its id, whether it
holds anything, and for how long the broker keeps what it does.  What was delivered
to a topic is there only while it is the same one.

Path: asked by the task for `task.unchanged` -> here -> `sink.kafka`
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.errors import SinkError
from engine.sink.ends import Identified, identify
from engine.sink.kafka import Cluster

log = logging.getLogger(__name__)

#: Seconds for which an answer of the broker's counts.
LOOK = 10.0


class KnownTopic(Struct, frozen=True):
    """
    A topic, as it was found.

    Attributes:
        id: Of the cluster and of the topic; brokers without topic ids (before
            2.8, and the embedded one) tell of the cluster only.
        retention: Seconds after which its records go, None: never by their age, or
            nobody may say.
        emptied_ms: Wall milliseconds of a look that found nothing in it; 0: there
            is something.
    """

    id: str
    retention: float | None
    emptied_ms: int


class Identities:
    """
    The topics of a session.  Thread-safe.

    Args:
        ensure: Makes sure that a topic is there, as it is for records of it: which one
            it is cannot be known before.
        ask: What the cluster says of a topic, None: there is no such one; raises a
            SinkError.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        ensure: Callable[[str], object] = lambda topic: None,
        ask: Callable[[Cluster, str], Identified | None] = identify,
        clock: Clock = SYSTEM,
    ) -> None:
        self._cluster = cluster
        self._ensure = ensure
        self._ask = ask
        self._clock = clock
        # Held while the broker is asked: the shards of a task ask at the same moment, and one
        # answer serves all. Each looks again once it has the lock.
        self._threads = threading.Lock()
        self._known: dict[str, tuple[KnownTopic | None, float]] = {}

    def of(self, topic: str) -> KnownTopic | None:
        """
        What is known of a topic; None: nothing.

        Blocks: for a few requests to the broker, once in `LOOK` seconds; other
        threads that ask meanwhile wait.
        """
        found = self._known.get(topic)
        if found is not None and self._clock.monotonic() < found[1]:
            return found[0]
        with self._threads:
            found = self._known.get(topic)
            if found is not None and self._clock.monotonic() < found[1]:
                return found[0]
            known = None if found is None else found[0]
            looked_ms = self._clock.wall_ms()
            try:
                said = self._ask(self._cluster, topic)
                if said is None:
                    self._ensure(topic)
                    said = self._ask(self._cluster, topic)
                known = None
                if said is not None:
                    known = KnownTopic(
                        said.id, said.retention, looked_ms if said.empty else 0
                    )
            except SinkError as failure:
                # It is as it was, as far as anybody knows.
                log.info("What topic %s is cannot be asked: %s", topic, failure)
            self._known[topic] = known, self._clock.monotonic() + LOOK
            return known
