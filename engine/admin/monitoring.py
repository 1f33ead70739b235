"""
Monitoring: dashboard, alert rules and metric reference out of the one table.

Owns what people are shown and woken by: the panels, the thresholds, the words.
It names no metric itself; every expression is made from `observe.names`.

Nothing of it runs in the engine: `scripts/monitoring` writes its three files
into `conf/monitoring/`, and a test holds the files to it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from engine.observe import names as n
from engine.observe.names import ATTRIBUTES, TABLE, Attribute, Metric

#: Prometheus' job label in the rules and the dashboard's links.
JOB = "kafka-http-source"

#: What every expression of the dashboard is narrowed to.
CHOSEN = 'connector=~"$connector",task=~"$task"'
OF_CONNECTOR = 'connector=~"$connector"'
SPAN = "$__rate_interval"


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


def _rate(metric: Metric, by: str, *, labels: str = CHOSEN, span: str = SPAN) -> str:
    return f"sum by ({by}) (rate({metric.name}{{{labels}}}[{span}]))"


def _grown(name: str, by: str, span: str) -> str:
    return f"sum by ({by}) (increase({name}{{{CHOSEN}}}[{span}]))"


def _mean(metric: Metric, by: str, *, labels: str = CHOSEN, span: str = SPAN) -> str:
    total = f"sum by ({by}) (rate({metric.name}_sum{{{labels}}}[{span}]))"
    count = f"sum by ({by}) (rate({metric.name}_count{{{labels}}}[{span}]))"
    return f"{total} / {count}"


def _quantile(metric: Metric, share: float) -> str:
    rate = f"rate({metric.name}_bucket{{{CHOSEN}}}[{SPAN}])"
    return f"histogram_quantile({share}, sum by (connector, le) ({rate}))"


def _share(metric: Metric, part: str, by: str, labels: str, span: str) -> str:
    some = _rate(metric, by, labels=",".join(filter(None, (labels, part))), span=span)
    return f"{some} / {_rate(metric, by, labels=labels, span=span)}"


SUCCESS = f"{n.LAST_SUCCESS.name}{{{OF_CONNECTOR}}}"

#: The seven of the founding guide, in its order, then ours.
PANELS: tuple[Panel, ...] = (
    Panel(
        "Throughput",
        "timeseries",
        (
            (_rate(n.RECORDS_WRITTEN, "connector"), "{{connector}} written"),
            (_rate(n.RECORDS_RECEIVED, "connector"), "{{connector}} received"),
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
            (_mean(n.FETCH_TO_ACK_SECONDS, "connector"), "{{connector}} mean"),
            (_quantile(n.FETCH_TO_ACK_SECONDS, 0.5), "{{connector}} p50"),
            (_quantile(n.FETCH_TO_ACK_SECONDS, 0.99), "{{connector}} p99"),
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
        ((_rate(n.RESPONSE_BYTES, "connector"), "{{connector}} received"),),
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
            (_rate(n.RECORDS_WRITTEN, "connector"), "{{connector}} written"),
            (_rate(n.RECORDS_FILTERED, "connector"), "{{connector}} filtered"),
            (
                _rate(n.RECORDS_DEAD_LETTERED, "connector"),
                "{{connector}} dead-lettered",
            ),
            (
                _rate(n.RECORDS_DEDUPLICATED, "connector"),
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
            (_rate(n.REQUESTS, "outcome, code_class"), "{{outcome}} {{code_class}}"),
            (_rate(n.RETRIES, "reason"), "retry: {{reason}}"),
        ),
        "reqps",
        n.REQUESTS.act,
    ),
    Panel(
        "Request duration",
        "heatmap",
        (
            (
                _grown(f"{n.REQUEST_SECONDS.name}_bucket", "le", SPAN),
                "{{le}}",
            ),
        ),
        "s",
        n.REQUEST_SECONDS.act,
    ),
    Panel(
        "Waiting",
        "timeseries",
        ((_rate(n.WAIT_SECONDS, "connector, on"), "{{connector}} {{on}}"),),
        "percentunit",
        n.WAIT_SECONDS.act,
        stack=True,
    ),
    Panel(
        "Time a page spends in each stage (detailed metrics)",
        "timeseries",
        ((_mean(n.STAGE_SECONDS, "api, stage"), "{{api}} {{stage}}"),),
        "s",
        n.STAGE_SECONDS.act,
        stack=True,
    ),
    Panel(
        "Cache lookups by tier",
        "timeseries",
        ((_rate(n.CACHE_REQUESTS, "level, result"), "L{{level}} {{result}}"),),
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
                _grown(n.TASK_RESTARTS.name, "connector", "$__range"),
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


# --- alerts ------------------------------------------------------------------


class Alert(Struct, frozen=True):
    """
    One rule.

    Attributes:
        name: CamelCase, as Prometheus has it.
        expression: Fires while it gives anything.
        lasting: For how long, in Prometheus' words.
        severity: "critical": somebody now; "warning": somebody soon.
        summary: One line, with labels.
        act: What to do.
    """

    name: str
    expression: str
    lasting: str
    severity: str
    summary: str
    act: str


def _guarded(expression: str, bound: str, busy: str) -> str:
    """A ratio is no alarm where nothing happens."""
    return f"{expression} {bound} and {busy} > 0"


def _unless_healthy(expression: str) -> str:
    """What is only a figure of a connector that fares well is no alarm."""
    healthy = f'{n.STATUS.name}{{status="healthy"}} == 1'
    return f"({expression}) unless on (connector) ({healthy})"


_ERRORS = (
    _guarded(
        _share(n.REQUESTS, 'outcome="failed"', "connector", "", "2m"),
        "> 0.05",
        _rate(n.REQUESTS, "connector", labels="", span="2m"),
    ),
    _guarded(
        f"{_rate(n.RECORD_ERRORS, 'connector', labels='', span='2m')} / "
        f"{_rate(n.RECORDS_RECEIVED, 'connector', labels='', span='2m')}",
        "> 0.05",
        _rate(n.RECORDS_RECEIVED, "connector", labels="", span="2m"),
    ),
)

_FATES = " - ".join(
    f"sum by (connector) ({metric.name})"
    for metric in (
        n.RECORDS_RECEIVED,
        n.RECORDS_WRITTEN,
        n.RECORDS_FILTERED,
        n.RECORDS_DEAD_LETTERED,
        n.RECORDS_DEDUPLICATED,
    )
)

#: The four of the founding guide, in its order and with its numbers, then ours.
ALERTS: tuple[Alert, ...] = (
    Alert(
        "HttpSourceThroughputLow",
        _unless_healthy(
            f"{_rate(n.RECORDS_WRITTEN, 'connector', labels='', span='1m')} < 100"
        ),
        "5m",
        "warning",
        "{{ $labels.connector }} writes {{ $value | humanize }} records/s",
        n.RECORDS_WRITTEN.act,
    ),
    Alert(
        "HttpSourceLatencyHigh",
        _unless_healthy(
            _guarded(
                _mean(n.FETCH_TO_ACK_SECONDS, "connector", labels="", span="1m"),
                "> 2",
                f"sum by (connector) (rate({n.FETCH_TO_ACK_SECONDS.name}_count[1m]))",
            )
        ),
        "3m",
        "warning",
        "{{ $labels.connector }} takes {{ $value | humanizeDuration }} a page",
        n.FETCH_TO_ACK_SECONDS.act,
    ),
    Alert(
        "HttpSourceCacheHitRatioLow",
        _unless_healthy(
            _guarded(
                _share(
                    n.CACHE_REQUESTS, 'result=~"hit|revalidated"', "connector", "", "5m"
                ),
                "< 0.8",
                _rate(n.CACHE_REQUESTS, "connector", labels="", span="5m"),
            )
        ),
        "10m",
        "warning",
        "{{ $labels.connector }} answers {{ $value | humanizePercentage }} from cache",
        n.CACHE_HIT_RATIO.act,
    ),
    Alert(
        "HttpSourceErrorRateHigh",
        f"({_ERRORS[0]}) or ({_ERRORS[1]})",
        "2m",
        "critical",
        "{{ $value | humanizePercentage }} of {{ $labels.connector }} fails",
        n.REQUESTS.act,
    ),
    Alert(
        "HttpSourceDown",
        f'absent(up{{job="{JOB}"}}) or up{{job="{JOB}"}} == 0',
        "2m",
        "critical",
        "No engine answers to Prometheus",
        "See whether it runs: systemctl status, and the log.",
    ),
    Alert(
        "HttpSourceTaskFailed",
        f'sum by (connector) ({n.TASKS.name}{{state="failed"}}) > 0',
        "1m",
        "critical",
        "{{ $labels.connector }} has {{ $value }} FAILED tasks",
        n.TASKS.act,
    ),
    Alert(
        "HttpSourceShardFailed",
        f"{n.SHARDS_FAILED.name} > 0",
        "1m",
        "critical",
        "{{ $labels.connector }} has given up {{ $value }} shards",
        n.SHARDS_FAILED.act,
    ),
    Alert(
        "HttpSourceSilent",
        _unless_healthy(
            f"time() - max by (connector, api) ({n.LAST_SUCCESS.name}) > "
            f"3 * clamp_min(max by (connector, api) ({n.POLL_INTERVAL.name}), 20)"
        ),
        "1m",
        "critical",
        "{{ $labels.connector }} {{ $labels.api }}: no success for "
        "{{ $value | humanizeDuration }}",
        n.LAST_SUCCESS.act,
    ),
    Alert(
        "HttpSourceFailed",
        f'{n.STATUS.name}{{status="failed"}} == 1',
        "1m",
        "critical",
        "{{ $labels.connector }} is failed",
        n.STATUS.act,
    ),
    Alert(
        "HttpSourceDegraded",
        f'{n.STATUS.name}{{status="degraded"}} == 1',
        "10m",
        "warning",
        "{{ $labels.connector }} is degraded",
        n.STATUS.act,
    ),
    Alert(
        "HttpSourceRestarting",
        f"sum by (connector, task) (increase({n.TASK_RESTARTS.name}[15m])) > 3",
        "0m",
        "warning",
        "Task {{ $labels.task }} of {{ $labels.connector }} ends again and again",
        n.TASK_RESTARTS.act,
    ),
    Alert(
        "HttpSourceDeadLetters",
        f"sum by (connector) (increase({n.RECORDS_DEAD_LETTERED.name}[15m])) > 0",
        "0m",
        "warning",
        "{{ $labels.connector }} set {{ $value | humanize }} records aside",
        n.RECORDS_DEAD_LETTERED.act,
    ),
    Alert(
        "HttpSourceNumbersOff",
        f"{_FATES} != 0 or sum by (connector) "
        f"(increase({n.ACCOUNTING_ERRORS.name}[15m])) > 0",
        "5m",
        "critical",
        "{{ $labels.connector }}: {{ $value }} records are not accounted for",
        n.ACCOUNTING_ERRORS.act,
    ),
    Alert(
        "HttpSourceTlsInsecure",
        f"{n.TLS_INSECURE.name} == 1",
        "0m",
        "warning",
        "{{ $labels.connector }} does not verify certificates",
        n.TLS_INSECURE.act,
    ),
)


def alerts() -> str:
    """The rules as YAML for `rule_files`."""
    lines = [
        "# Alert rules; generated by scripts/monitoring from the table of metrics.",
        f"# Scrape the engine with job_name: {JOB}.",
        "groups:",
        "  - name: kafka-http-source",
        "    rules:",
    ]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {json.dumps(alert.expression)}",
            f"        for: {alert.lasting}",
            "        labels:",
            f"          severity: {alert.severity}",
            "        annotations:",
            f"          summary: {json.dumps(alert.summary)}",
            f"          description: {json.dumps(alert.act)}",
            f"          runbook_url: {json.dumps(f'METRICS.md#{alert.name.lower()}')}",
        ]
    return "\n".join(lines) + "\n"


# --- the reference -----------------------------------------------------------


def reference() -> str:
    """Every metric, attribute and alert as Markdown."""
    lines = [
        "# Metrics",
        "",
        "Generated by `scripts/monitoring` from `engine/observe/names.py`.",
        "",
        "All durations are seconds, all sizes bytes, all ratios 0 to 1.  Counters",
        "start with the engine and survive the restart of a task.",
        "",
        "## Families on /metrics",
        "",
        "| name | type | labels | meaning | when it moves |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{metric.name}` | {metric.kind.value} | {_labels(metric)} "
        f"| {_cell(metric.meaning)}{' Detailed only.' if metric.detailed else ''} "
        f"| {_cell(metric.act)} |"
        for metric in TABLE
    ]
    lines += [
        "",
        "## Kafka Connect's names",
        "",
        "`metrics.names` chooses the families: NATIVE, STRIMZI, CONFLUENT.  Over",
        "`/jolokia/` the same attributes are read under their object names.",
        "",
        "| object name | attribute | meaning | made from | STRIMZI | CONFLUENT |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_attribute(row) for row in ATTRIBUTES]
    lines += ["", "## Alerts", ""]
    for alert in ALERTS:
        lines += [
            f"### {alert.name}",
            "",
            f"{alert.severity.capitalize()}, after {alert.lasting}. {alert.act}",
            "",
            "```promql",
            alert.expression,
            "```",
            "",
        ]
    return "\n".join(lines)


def _labels(metric: Metric) -> str:
    shown = []
    for name in metric.labels:
        values = metric.values.get(name, ())
        shown.append(f"`{name}`" + (f" ({', '.join(values)})" if values else ""))
    return ", ".join(shown) or "-"


def _attribute(row: Attribute) -> str:
    keys = ",".join([f"type={row.group}", *(f"{key}=..." for key in row.per)])
    made: Sequence[str] = [f"`{metric.name}`" for metric in row.of]
    only = " Detailed only." if row.detailed else ""
    cells = [
        f"`{row.domain}:{keys}`",
        f"`{row.name}` ({row.kind})",
        f"{_cell(row.meaning)}{only}",
        ", ".join(made) or "-",
        _code(row.strimzi),
        _code(row.confluent),
    ]
    return f"| {' | '.join(cells)} |"


def _code(name: str) -> str:
    return f"`{name}`" if name else "-"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
