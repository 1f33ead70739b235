"""
Meters: what a task counts and times, at the price of a look-up and an append.

Owns the accumulators of its own process and one set of files in the runtime
directory, in the format of prometheus_client's multiprocess mode; it must
never block the data path, and never grow without bound: label sets past a
limit are counted under `other`.

The files are named by the task and not by its process, so that a restarted
task goes on with the totals of the one before; `admin.store` reads them.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from engine.clock import SYSTEM, Clock
from engine.observe.meterfiles import put_aside
from engine.observe.names import Merge, Metric, MetricKind
from engine.observe.room import MeterFile

log = logging.getLogger("task")

#: Where the files are, in the supervisor's runtime directory.
DIRECTORY = "meters"

#: Label sets of one family in one task; what comes later is called `other`.
LABEL_SETS = 100

#: Values of a series kept between two flushes: past it the oldest are lost rather
#: than memory.  At 1,000 pages a second a flush each second leaves it at a fiftieth.
BACKLOG = 50_000

#: Told the name of a stage and the seconds it took.
Stage = Callable[[str, float], None]

_Series = tuple[Metric, tuple[str, ...]]
_Queues = dict[_Series, deque[float]]


class Meter(Protocol):
    """What the rooms of a task see of `Meters`."""

    #: True with `performance.metrics.detailed`: stages are worth timing.
    detailed: bool

    def count(self, metric: Metric, labels: tuple[str, ...] = (), n: float = 1) -> None:
        """Add to a counter; `labels` are the values of `metric.own`."""

    def timer(
        self, metric: Metric, labels: tuple[str, ...] = ()
    ) -> Callable[[float], None]:
        """What puts seconds into a histogram; to be kept by who calls it often."""

    def state(
        self, metric: Metric, labels: tuple[str, ...] = (), value: float = 0.0
    ) -> None:
        """Set a gauge."""


class Meters:
    """
    The meters of one task; made after the fork, by the process that counts.

    `count`, `state` and what `timer` gives may be called by any thread; `flush` and
    `close` by one at a time.

    Args:
        directory: Where the files are; made if it is not there.  It is new for
            each supervisor, so that totals count from the supervisor's start.
        connector: The connector's name.
        task: The task's number; one live process for each (connector, task).
        detailed: `performance.metrics.detailed`.
    """

    def __init__(
        self,
        *,
        directory: str | Path,
        connector: str,
        task: int,
        detailed: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        self.detailed = detailed
        self._clock = clock
        self._fixed = {"connector": connector, "task": str(task)}
        self._directory = str(directory)
        # One that cannot be made is said with the first file that has no room.
        with suppress(OSError):
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
        self._writer = f"{connector}-{task}"
        damaged = put_aside(self._directory, self._writer)
        if damaged:
            log.warning(
                "Meters of task %d were damaged and are put aside; its totals begin "
                "anew: %s.",
                task,
                "; ".join(damaged),
            )
        self._files: dict[str, MeterFile] = {}
        # Hot path: a deque's append is one C call and safe between threads, so
        # that no lock is taken, and numbers are nothing to the garbage collector;
        # the sums are made once a second in `flush`.
        self._counts: _Queues = {}
        self._times: _Queues = {}
        # Held while a series is made, never while one is used.
        self._making = threading.Lock()
        self._states: dict[_Series, float] = {}
        self._scalars: dict[_Series, Value] = {}
        self._timers: dict[_Series, tuple[list[Value], Value]] = {}
        self._sets: dict[Metric, int] = {}

    # Hot path: a tuple, its hash and an append; 0.2 us.
    def count(self, metric: Metric, labels: tuple[str, ...] = (), n: float = 1) -> None:
        try:
            self._counts[metric, labels].append(n)
        except KeyError:
            self._queue(self._counts, metric, labels).append(n)

    def timer(
        self, metric: Metric, labels: tuple[str, ...] = ()
    ) -> Callable[[float], None]:
        return self._queue(self._times, metric, labels).append

    def state(
        self, metric: Metric, labels: tuple[str, ...] = (), value: float = 0.0
    ) -> None:
        self._states[metric, labels] = value

    def flush(self) -> None:
        """
        Move what was counted into the files; once a second, and at the end.

        Blocks: not; writes into mapped memory.
        """
        for key, queue in list(self._counts.items()):
            if queue:
                self._scalar(key).inc(sum(_taken(queue)))
        now = self._clock.wall_ms() / 1000
        for key in list(self._states):
            known = key if key in self._scalars else self._within(key)
            self._scalar(known).set(self._states.pop(key), now)
        for key, queue in list(self._times.items()):
            if queue:
                self._spread(key, sorted(_taken(queue)))

    def _spread(self, key: _Series, values: list[float]) -> None:
        """Put values into their buckets: each into the first that is not below it."""
        buckets, total = self._timer(key)
        done = 0
        for bucket, bound in zip(buckets, (*key[0].buckets, math.inf), strict=True):
            upto = bisect_right(values, bound, done)
            if upto > done:
                bucket.inc(upto - done)
                done = upto
        total.inc(sum(values))

    def close(self) -> None:
        """Flush and let go of the files; nothing may be counted after it."""
        self.flush()
        for file in self._files.values():
            file.close()

    def _queue(
        self, queues: _Queues, metric: Metric, labels: tuple[str, ...]
    ) -> deque[float]:
        with self._making:
            found = queues.get((metric, labels))
            if found is None:
                key = self._within((metric, labels))
                found = queues.setdefault(key, deque(maxlen=BACKLOG))
            return found

    def _scalar(self, key: _Series) -> Value:
        value = self._scalars.get(key)
        if value is None:
            metric, labels = key
            family = metric.name.removesuffix("_total")
            value = self._open(metric, family, metric.name, labels)
            self._scalars[key] = value
        return value

    def _timer(self, key: _Series) -> tuple[list[Value], Value]:
        timer = self._timers.get(key)
        if timer is None:
            metric, labels = key
            bounds = [*map(str, metric.buckets), "+Inf"]
            name = metric.name
            buckets = [
                self._open(metric, name, f"{name}_bucket", labels, le=bound)
                for bound in bounds
            ]
            timer = buckets, self._open(metric, name, f"{name}_sum", labels)
            self._timers[key] = timer
        return timer

    def _within(self, key: _Series) -> _Series:
        """The key itself, or the family's `other` once it has too many."""
        metric, labels = key
        if len(labels) != len(metric.own):
            raise ValueError(f"{metric.name} wants {metric.own}, not {labels}")
        seen = self._sets.get(metric, 0)
        if seen >= LABEL_SETS:
            return metric, ("other",) * len(labels)
        self._sets[metric] = seen + 1
        return key

    def _open(
        self,
        metric: Metric,
        family: str,
        sample: str,
        labels: tuple[str, ...],
        **further: str,
    ) -> Value:
        own = dict(zip(metric.own, labels))
        named = {
            name: own.get(name) or self._fixed.get(name, "") for name in metric.labels
        }
        named.update(further)
        kind = metric.kind.value
        if metric.kind is MetricKind.GAUGE:
            mode = metric.merge if "task" not in metric.labels else Merge.SUM
            kind = f"{kind}_{mode.value}"
        file = self._files.get(kind)
        if file is None:
            path = os.path.join(self._directory, f"{kind}_{self._writer}.db")
            file = self._files[kind] = MeterFile(path)
        return Value(file, key_of(family, sample, named, metric.meaning))


def key_of(family: str, sample: str, labels: dict[str, str], meaning: str) -> str:
    """The key of a series in a file: one text for equal labels in any order."""
    return json.dumps([family, sample, labels, meaning], sort_keys=True)


class Value:
    """One series in a file, from the value that an earlier process left there."""

    def __init__(self, file: MeterFile, key: str) -> None:
        self._file = file
        self._key = key
        self._value, _ = file.read_value(key)

    def inc(self, amount: float) -> None:
        """Add to it."""
        self._value += amount
        self._file.write_value(self._key, self._value, 0.0)

    def set(self, value: float, moment: float) -> None:
        """Set it, as of a moment in epoch seconds."""
        self._value = value
        self._file.write_value(self._key, value, moment)


def _taken(queue: deque[float]) -> list[float]:
    """Take out what is there now; what comes meanwhile waits."""
    take = queue.popleft
    return [take() for _ in range(len(queue))]
