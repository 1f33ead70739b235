"""
Totals: counts and times of a task, as numbers that are added and subtracted.

Owns which metric falls into which number, and how totals are kept over a span of time.

Path: ``admin.watch`` -> here -> ``observe.names``
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from engine.admin.store import Series
from engine.observe import names
from engine.observe.names import SECONDS, Metric

#: Seconds between two samples of the rings.
STEP = 5.0

#: (connector, task); the task is "" for shards that nobody holds.
Place = tuple[str, str]

Families = Mapping[str, Sequence[tuple[Series, float]]]

_NAMES = (
    "received",
    "written",
    "filtered",
    "dead",
    "deduplicated",
    "saved",
    "pages",
    "polls",
    "bytes",
    "requests",
    "failed",
    "errors",
    "lookups",
    "hits",
    "retries",
    "letters_topic",
    "letters_log",
    "commits_ok",
    "commits_failed",
    "response_seconds",
    "ack_seconds",
    "commit_seconds",
)
_AT = {name: place for place, name in enumerate(_NAMES)}
_WIDTH = len(SECONDS) + 1
_TIMERS = {
    "response": len(_NAMES),
    "ack": len(_NAMES) + _WIDTH,
    "commit": len(_NAMES) + 2 * _WIDTH,
}
_SIZE = len(_NAMES) + 3 * _WIDTH

_COLUMNS = {
    "received": "received",
    "produced": "written",
    "filtered": "filtered",
    "dead_lettered": "dead",
    "deduplicated": "deduplicated",
    "saved": "saved",
    "pages": "pages",
    "polls": "polls",
    "bytes": "bytes",
}

_HISTOGRAMS = (
    (names.REQUEST_SECONDS, "response"),
    (names.FETCH_TO_ACK_SECONDS, "ack"),
    (names.COMMIT_SECONDS, "commit"),
)


class Totals:
    """Counts and time spent, as numbers that can be added and subtracted."""

    __slots__ = ("_values",)

    def __init__(self, values: array[float] | None = None) -> None:
        self._values = values if values is not None else array("d", bytes(8 * _SIZE))

    def __getitem__(self, name: str) -> float:
        return self._values[_AT[name]]

    def add(self, name: str, value: float) -> None:
        self._values[_AT[name]] += value

    def add_bucket(self, timer: str, bound: float, value: float) -> None:
        place = min(bisect_left(SECONDS, bound), _WIDTH - 1)
        self._values[_TIMERS[timer] + place] += value

    def buckets(self, timer: str) -> Sequence[float]:
        """How many fell into each bucket of `names.SECONDS`, and beyond."""
        start = _TIMERS[timer]
        return self._values[start : start + _WIDTH]

    def minus(self, earlier: Totals) -> Totals:
        pairs = zip(self._values, earlier._values)
        return Totals(array("d", [max(0.0, a - b) for a, b in pairs]))

    @staticmethod
    def sum(parts: Iterable[Totals]) -> Totals:
        columns = zip(*(part._values for part in parts))
        values = array("d", map(sum, columns))
        return Totals(values if values else None)

    def mean_ms(self, timer: str) -> float:
        """Milliseconds, 0 when nothing was timed."""
        count = sum(self.buckets(timer))
        return 1000 * self[f"{timer}_seconds"] / count if count else 0.0

    def quantile_ms(self, timer: str, share: float) -> float:
        """
        Milliseconds below which `share` of the times lie.

        Even spread inside a bucket is assumed, as Prometheus does; what lies
        beyond the last bound counts as that bound.
        """
        buckets = self.buckets(timer)
        wanted = share * sum(buckets)
        if wanted <= 0:
            return 0.0
        below = 0.0
        for place, n in enumerate(buckets[:-1]):
            if n and below + n >= wanted:
                low = SECONDS[place - 1] if place else 0.0
                part = (wanted - below) / n
                return 1000 * (low + part * (SECONDS[place] - low))
            below += n
        return 1000 * SECONDS[-1]

    def longest_ms(self, timer: str) -> float:
        """Upper bound of the slowest bucket that is not empty."""
        places = [i for i, n in enumerate(self.buckets(timer)) if n]
        return 1000 * SECONDS[min(places[-1], _WIDTH - 2)] if places else 0.0


NOTHING = Totals()

ByPlace = Mapping[Place, Totals]


class SlidingTotals:
    """
    Totals as they stood over a span of time, at most `parts` of them.

    Args:
        span: Seconds that are looked back over.
        began: Monotonic seconds at which all totals were zero.
        now: Monotonic seconds.
        parts: Samples kept.
    """

    def __init__(
        self, span: float, *, began: float, now: float, parts: int = 60
    ) -> None:
        self._span = span
        self._step = max(span / parts, STEP) * 0.99
        self._samples: deque[tuple[float, ByPlace]] = deque()
        if now - began <= span:
            self._samples.append((began, {}))

    def add(self, now: float, totals: ByPlace) -> None:
        samples = self._samples
        if samples and now - samples[-1][0] < self._step:
            return
        samples.append((now, totals))
        while len(samples) > 1 and samples[1][0] <= now - self._span:
            samples.popleft()

    def samples(self) -> Sequence[tuple[float, ByPlace]]:
        """Time and totals of each sample that is kept, the oldest first."""
        return tuple(self._samples)

    def base(self, now: float) -> tuple[float, ByPlace]:
        """The youngest sample that is `span` old, else the oldest there is."""
        found = self._samples[0]
        for sample in self._samples:
            if sample[0] > now - self._span:
                break
            found = sample
        return found


def totals_of(
    families: Families,
    credited: Mapping[tuple[str, str, str], Mapping[str, int]],
) -> dict[Place, Totals]:
    found: dict[Place, Totals] = {}
    for (connector, task, _), counts in credited.items():
        totals = found.setdefault((connector, task), Totals())
        for column, count in counts.items():
            if column in _COLUMNS:
                totals.add(_COLUMNS[column], count)

    def of(metric: Metric) -> Iterator[tuple[Totals, Series, float]]:
        for series, value in families.get(metric.name, ()):
            place = (series.connector, series.task)
            if place not in found:
                found[place] = Totals()
            yield found[place], series, value

    for metric, timer in _HISTOGRAMS:
        for totals, series, value in of(metric):
            if series.bound is None:
                totals.add(f"{timer}_seconds", value)
            elif value:
                totals.add_bucket(timer, series.bound, value)
    for totals, series, value in of(names.REQUESTS):
        totals.add("requests", value)
        if series.label("outcome") == "failed":
            totals.add("failed", value)
    for totals, series, value in of(names.CACHE_REQUESTS):
        if series.label("result") in names.CACHE_JUDGED:
            totals.add("lookups", value)
        if series.label("result") in names.CACHE_HITS:
            totals.add("hits", value)
    for totals, _, value in of(names.RECORD_ERRORS):
        totals.add("errors", value)
    for totals, _, value in of(names.RETRIES):
        totals.add("retries", value)
    for totals, series, value in of(names.DEAD_LETTERS):
        to_log = series.label("to") == "log"
        totals.add("letters_log" if to_log else "letters_topic", value)
    for totals, series, value in of(names.COMMITS):
        failed = series.label("result") == "failed"
        totals.add("commits_failed" if failed else "commits_ok", value)
    return found
