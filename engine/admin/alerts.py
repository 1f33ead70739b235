"""
Alerts: what people are woken by.

Owns the alert rules: their thresholds, how long they must hold, and their words.

Path: `scripts/monitoring` -> here -> ``admin.expressions``
"""

from __future__ import annotations

import json

from msgspec import Struct

from engine.admin.expressions import JOB, mean, rate, share
from engine.observe import names as n


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
        share(n.REQUESTS, 'outcome="failed"', "connector", "", "2m"),
        "> 0.05",
        rate(n.REQUESTS, "connector", labels="", span="2m"),
    ),
    _guarded(
        f"{rate(n.RECORD_ERRORS, 'connector', labels='', span='2m')} / "
        f"{rate(n.RECORDS_RECEIVED, 'connector', labels='', span='2m')}",
        "> 0.05",
        rate(n.RECORDS_RECEIVED, "connector", labels="", span="2m"),
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
            f"{rate(n.RECORDS_WRITTEN, 'connector', labels='', span='1m')} < 100"
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
                mean(n.FETCH_TO_ACK_SECONDS, "connector", labels="", span="1m"),
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
                share(
                    n.CACHE_REQUESTS, 'result=~"hit|revalidated"', "connector", "", "5m"
                ),
                "< 0.8",
                rate(n.CACHE_REQUESTS, "connector", labels="", span="5m"),
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
