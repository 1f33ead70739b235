"""
Monitoring: the dashboard out of the one table of metrics.

Owns what people are shown: the panels, their thresholds, their words.
It names no metric itself; every expression is made from `observe.names`.

Nothing of it runs in the engine: `scripts/monitoring` writes its three files
into `conf/monitoring/`, and a test holds the files to it.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from engine.admin.expressions import (
    CHOSEN,
    OF_CONNECTOR,
    SPAN,
    grown,
    mean,
    quantile,
    rate,
)
from engine.observe import names as n


class Panel(Struct, frozen=True):
    """
    One panel.

    Attributes:
        title: Its head.
        kind: Grafana's type.
        targets: (expression, legend).
        unit: Grafana's unit.
        text: What to do when it moves.
        width: Of 24.
        height: In rows.
        limit: Where the colour changes, or None.
        floor: True if below the limit is bad.
        most: Upper end of the axis, or None.
        stack: Series on top of each other.
    """

    title: str
    kind: str
    targets: tuple[tuple[str, str], ...]
    unit: str
    text: str
    width: int = 8
    height: int = 8
    limit: float | None = None
    floor: bool = False
    most: float | None = None
    stack: bool = False


SUCCESS = f"{n.LAST_SUCCESS.name}{{{OF_CONNECTOR}}}"

#: The seven of the founding guide, in its order, then ours.
PANELS: tuple[Panel, ...] = (
    Panel(
        "Throughput",
        "timeseries",
        (
            (rate(n.RECORDS_WRITTEN, "connector"), "{{connector}} written"),
            (rate(n.RECORDS_RECEIVED, "connector"), "{{connector}} received"),
        ),
        "cps",
        n.RECORDS_WRITTEN.act,
        limit=100,
        floor=True,
    ),
    Panel(
        "Latency: request sent to record acknowledged",
        "timeseries",
        (
            (mean(n.FETCH_TO_ACK_SECONDS, "connector"), "{{connector}} mean"),
            (quantile(n.FETCH_TO_ACK_SECONDS, 0.5), "{{connector}} p50"),
            (quantile(n.FETCH_TO_ACK_SECONDS, 0.99), "{{connector}} p99"),
        ),
        "s",
        n.FETCH_TO_ACK_SECONDS.act,
        limit=2,
    ),
    Panel(
        "Cache hit ratio",
        "timeseries",
        ((f"{n.CACHE_HIT_RATIO.name}{{{OF_CONNECTOR}}}", "{{connector}}"),),
        "percentunit",
        n.CACHE_HIT_RATIO.act,
        limit=0.8,
        floor=True,
        most=1,
    ),
    Panel(
        "Error ratio",
        "timeseries",
        ((f"{n.ERROR_RATIO.name}{{{OF_CONNECTOR}}}", "{{connector}}"),),
        "percentunit",
        n.ERROR_RATIO.act,
        limit=0.05,
    ),
    Panel(
        "Connection pool utilization",
        "timeseries",
        ((f"{n.POOL_UTILIZATION.name}{{{OF_CONNECTOR}}}", "{{connector}}"),),
        "percentunit",
        n.POOL_UTILIZATION.act,
        most=1,
    ),
    Panel(
        "Memory",
        "timeseries",
        ((n.WORKER_MEMORY.name, "{{worker}}"),),
        "bytes",
        n.WORKER_MEMORY.act,
        stack=True,
    ),
    Panel(
        "Network",
        "timeseries",
        ((rate(n.RESPONSE_BYTES, "connector"), "{{connector}} received"),),
        "Bps",
        n.RESPONSE_BYTES.act,
    ),
    Panel(
        "Health",
        "state-timeline",
        ((f"{n.STATUS.name}{{{OF_CONNECTOR}}} == 1", "{{connector}} {{status}}"),),
        "none",
        n.STATUS.act,
    ),
    Panel(
        "Tasks by state",
        "timeseries",
        ((f"sum by (state) ({n.TASKS.name}{{{OF_CONNECTOR}}})", "{{state}}"),),
        "none",
        n.TASKS.act,
        stack=True,
    ),
    Panel(
        "What became of the records",
        "timeseries",
        (
            (rate(n.RECORDS_WRITTEN, "connector"), "{{connector}} written"),
            (rate(n.RECORDS_FILTERED, "connector"), "{{connector}} filtered"),
            (
                rate(n.RECORDS_DEAD_LETTERED, "connector"),
                "{{connector}} dead-lettered",
            ),
            (
                rate(n.RECORDS_DEDUPLICATED, "connector"),
                "{{connector}} deduplicated",
            ),
        ),
        "cps",
        n.RECORDS_RECEIVED.act,
        stack=True,
    ),
    Panel(
        "Requests",
        "timeseries",
        (
            (rate(n.REQUESTS, "outcome, code_class"), "{{outcome}} {{code_class}}"),
            (rate(n.RETRIES, "reason"), "retry: {{reason}}"),
        ),
        "reqps",
        n.REQUESTS.act,
    ),
    Panel(
        "Request duration",
        "heatmap",
        (
            (
                grown(f"{n.REQUEST_SECONDS.name}_bucket", "le", SPAN),
                "{{le}}",
            ),
        ),
        "s",
        n.REQUEST_SECONDS.act,
    ),
    Panel(
        "Waiting",
        "timeseries",
        ((rate(n.WAIT_SECONDS, "connector, on"), "{{connector}} {{on}}"),),
        "percentunit",
        n.WAIT_SECONDS.act,
        stack=True,
    ),
    Panel(
        "Time a page spends in each stage (detailed metrics)",
        "timeseries",
        ((mean(n.STAGE_SECONDS, "api, stage"), "{{api}} {{stage}}"),),
        "s",
        n.STAGE_SECONDS.act,
        stack=True,
    ),
    Panel(
        "Cache lookups by tier",
        "timeseries",
        ((rate(n.CACHE_REQUESTS, "level, result"), "L{{level}} {{result}}"),),
        "reqps",
        n.CACHE_REQUESTS.act,
        stack=True,
    ),
    Panel(
        "In flight to Kafka",
        "timeseries",
        (
            (
                f"sum by (connector, task) ({n.BUFFER_BYTES.name}{{{CHOSEN}}})",
                "{{connector}}/{{task}}",
            ),
        ),
        "bytes",
        n.BUFFER_BYTES.act,
        stack=True,
    ),
    Panel(
        "CPU",
        "timeseries",
        ((f"rate({n.WORKER_CPU.name}[{SPAN}])", "{{worker}}"),),
        "percentunit",
        n.WORKER_CPU.act,
        stack=True,
    ),
    Panel(
        "Time since the last success",
        "timeseries",
        (
            (
                f"time() - max by (connector, api) ({SUCCESS})",
                "{{connector}} {{api}}",
            ),
        ),
        "s",
        n.LAST_SUCCESS.act,
    ),
    Panel(
        "Restarts",
        "stat",
        (
            (
                grown(n.TASK_RESTARTS.name, "connector", "$__range"),
                "{{connector}}",
            ),
        ),
        "none",
        n.TASK_RESTARTS.act,
        width=8,
        limit=1,
    ),
    Panel(
        "What runs",
        "table",
        ((n.BUILD_INFO.name, "{{version}}"),),
        "none",
        n.BUILD_INFO.act,
        width=8,
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard in Grafana's classic model, which every version imports."""
    panels = []
    left = top = row = 0
    for number, panel in enumerate(PANELS, 1):
        if left + panel.width > 24:
            left, top, row = 0, top + row, 0
        place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
        panels.append(_panel(number, panel, place))
        left, row = left + panel.width, max(row, panel.height)
    return {
        "title": "Kafka HTTP source",
        "uid": "kafka-http-source",
        "tags": ["kafka", "kafka-connect", "http"],
        "schemaVersion": 39,
        "version": 1,
        "refresh": "10s",
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-1h", "to": "now"},
        "links": [],
        "annotations": {"list": []},
        "__inputs": [],
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _variables() -> list[dict[str, Any]]:
    def asked(name: str, query: str) -> dict[str, Any]:
        return {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "query": query,
            "refresh": 2,
            "sort": 3,
            "multi": True,
            "includeAll": True,
            "current": {"text": "All", "value": "$__all"},
        }

    name = n.RECORDS_WRITTEN.name
    return [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
        },
        asked("connector", f"label_values({name}, connector)"),
        asked("task", f'label_values({name}{{connector=~"$connector"}}, task)'),
    ]


_LEGEND = {
    "showLegend": True,
    "displayMode": "list",
    "placement": "bottom",
    "calcs": [],
}


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.limit is not None:
        colours = ("red", "green") if panel.floor else ("green", "red")
        defaults["thresholds"] = {
            "mode": "absolute",
            "steps": [
                {"color": colours[0], "value": None},
                {"color": colours[1], "value": panel.limit},
            ],
        }
    options: dict[str, Any] = {}
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stack else 0,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stack else "none", "group": "A"},
            "thresholdsStyle": {
                "mode": "off" if panel.limit is None else "dashed",
            },
        }
        options = {
            "legend": _LEGEND,
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    elif panel.kind == "heatmap":
        options = {
            "calculate": False,
            "yAxis": {"unit": panel.unit},
            "color": {"mode": "scheme", "scheme": "Oranges"},
        }
    elif panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value"}
    elif panel.kind == "state-timeline":
        options = {"mergeValues": True, "showValue": "never", "legend": _LEGEND}
    shape = {"heatmap": "heatmap", "table": "table"}.get(panel.kind, "time_series")
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "expr": expression,
                "legendFormat": legend,
                "format": shape,
                "instant": panel.kind == "table",
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
            }
            for index, (expression, legend) in enumerate(panel.targets)
        ],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }
