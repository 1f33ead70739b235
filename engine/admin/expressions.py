"""
Expressions: PromQL out of the table of metrics.

Owns how a rate, a mean, a share and a quantile are written; panels and alerts say of what.

Path: ``admin.monitoring``, ``admin.alerts`` -> here -> ``observe.names``
"""

from __future__ import annotations

from engine.observe.names import Metric

#: Prometheus' job label in the rules and the dashboard's links.
JOB = "kafka-http-source"

#: What every expression of the dashboard is narrowed to.
CHOSEN = 'connector=~"$connector",task=~"$task"'
OF_CONNECTOR = 'connector=~"$connector"'
SPAN = "$__rate_interval"


def rate(metric: Metric, by: str, *, labels: str = CHOSEN, span: str = SPAN) -> str:
    """A second, by some labels."""
    return f"sum by ({by}) (rate({metric.name}{{{labels}}}[{span}]))"


def grown(name: str, by: str, span: str) -> str:
    """How many more over a span."""
    return f"sum by ({by}) (increase({name}{{{CHOSEN}}}[{span}]))"


def mean(metric: Metric, by: str, *, labels: str = CHOSEN, span: str = SPAN) -> str:
    """A PromQL expression for the mean of a histogram's values."""
    total = f"sum by ({by}) (rate({metric.name}_sum{{{labels}}}[{span}]))"
    count = f"sum by ({by}) (rate({metric.name}_count{{{labels}}}[{span}]))"
    return f"{total} / {count}"


def quantile(metric: Metric, share: float) -> str:
    """What a share of the times lies below."""
    rate = f"rate({metric.name}_bucket{{{CHOSEN}}}[{SPAN}])"
    return f"histogram_quantile({share}, sum by (connector, le) ({rate}))"


def share(metric: Metric, part: str, by: str, labels: str, span: str) -> str:
    """Which part of a rate has further labels."""
    some = rate(metric, by, labels=",".join(filter(None, (labels, part))), span=span)
    return f"{some} / {rate(metric, by, labels=labels, span=span)}"
