"""
Budget: what was left of the rate limits when a run ended.

Owns the picking of it out of the tasks' meters, which outlive them, and its
words.  It asks no limiter: what a task told last is what is shown.

Path: `cli.run` at the end of a run -> here -> `cli.display`
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from engine.later import later
from engine.observe import names
from engine.observe.names import Metric

if TYPE_CHECKING:
    from engine.admin import store
else:
    store = later("engine.admin.store")


class Limit(Struct):
    """
    One of our own limits.

    Attributes:
        limit: "all", or what `rate.limit.scope` counts by.
        left: Requests that could go at once.
        capacity: Most that ever could.
        requests_per_second: Its rate.
    """

    limit: str
    left: float = 0.0
    capacity: float = 0.0
    requests_per_second: float = 0.0


class Host(Struct):
    """
    What one host said last.

    Attributes:
        endpoint: Its name.
        remaining, quota: Of its window; None where it did not say.
        paused_seconds: For so long it wants no further request.
        factor: Part of our own limit that was used, 1.0 unless adaptive.
    """

    endpoint: str
    remaining: float | None = None
    quota: float | None = None
    paused_seconds: float = 0.0
    factor: float = 1.0


class RemainingLimits(Struct):
    """What is left of one connector's limits."""

    limits: list[Limit] = []
    hosts: list[Host] = []


_LIMITS: Mapping[str, str] = {
    names.RATE_LIMIT_LEFT.name: "left",
    names.RATE_LIMIT_CAPACITY.name: "capacity",
    names.RATE_LIMIT_RATE.name: "requests_per_second",
}

_HOSTS: Mapping[str, str] = {
    names.RATE_LIMIT_REMAINING.name: "remaining",
    names.RATE_LIMIT_QUOTA.name: "quota",
    names.RATE_LIMIT_PAUSED.name: "paused_seconds",
    names.RATE_LIMIT_FACTOR.name: "factor",
}


def read(meters: Path) -> dict[str, RemainingLimits]:
    """
    What is left, by connector.

    Args:
        meters: Where the tasks wrote what they measured; may be gone.
    """
    limits: dict[tuple[str, str], Limit] = {}
    hosts: dict[tuple[str, str], Host] = {}
    for series, value in store.MeterStore(str(meters)).read().items():
        of = series.connector
        if field := _LIMITS.get(series.family):
            label = series.label(_own(names.RATE_LIMIT_LEFT))
            setattr(limits.setdefault((of, label), Limit(label)), field, value)
        elif field := _HOSTS.get(series.family):
            label = series.label(_own(names.RATE_LIMIT_REMAINING))
            setattr(hosts.setdefault((of, label), Host(label)), field, value)
    found: dict[str, RemainingLimits] = {}
    for (of, _), limit in sorted(limits.items()):
        found.setdefault(of, RemainingLimits()).limits.append(limit)
    for (of, _), host in sorted(hosts.items()):
        found.setdefault(of, RemainingLimits()).hosts.append(host)
    return found


def lines(budgets: Mapping[str, RemainingLimits]) -> list[str]:
    """The same for people; hosts that demanded nothing are left out."""
    said = []
    for connector, budget in budgets.items():
        for limit in budget.limits:
            said.append(
                f"{connector} limit {limit.limit}: {limit.left:,.0f} of "
                f"{limit.capacity:,.0f} requests left, "
                f"{limit.requests_per_second:g}/s"
            )
        for host in budget.hosts:
            words = []
            if host.remaining is not None:
                of = "" if host.quota is None else f" of {host.quota:,.0f}"
                words.append(f"{host.remaining:,.0f}{of} requests left by its own word")
            if host.paused_seconds:
                words.append(f"wants none for {host.paused_seconds:,.1f} s")
            if host.factor < 1:
                words.append(f"{host.factor:.0%} of the limit is used")
            if words:
                said.append(f"{connector} host {host.endpoint}: {', '.join(words)}")
    return said


def _own(metric: Metric) -> str:
    """The one label of its own that the families of a budget have."""
    [label] = metric.own
    return label
