"""Dashboard and alerts: valid, up to date, on metrics that are emitted."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.admin import alerts, monitoring, reference
from engine.admin.alerts import ALERTS
from engine.admin.expressions import JOB
from engine.admin.monitoring import PANELS
from tests.admin.conftest import Stage
from tests.admin.test_prometheus import everything
from tests.needs import need

CONF = Path(__file__).parent.parent.parent / "conf" / "monitoring"
EXPRESSIONS = [
    *(expression for panel in PANELS for expression, _ in panel.targets),
    *(alert.expression for alert in ALERTS),
]
NAME = re.compile(r"\b(?:http_source|kafka_connect)_\w+")


def promtool(*words: str) -> None:
    need(shutil.which("promtool"), "promtool")
    ran = subprocess.run(
        ["promtool", *words], capture_output=True, text=True, check=False
    )
    assert 0 == ran.returncode, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dashboard.json", json.dumps(monitoring.dashboard(), indent=2) + "\n"),
        ("alerts.yml", alerts.alerts()),
        ("METRICS.md", reference.reference()),
    ],
)
def test_the_files_are_what_the_table_makes(name: str, content: str) -> None:
    """If not: run scripts/monitoring."""
    assert content == (CONF / name).read_text()


def test_every_metric_in_an_expression_is_emitted(stage: Stage) -> None:
    everything(stage)
    text = stage.ask("/metrics").body.decode()
    shown = {
        sample.name
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    for expression in EXPRESSIONS:
        used = set(NAME.findall(expression))
        assert used or "up{" in expression
        assert used <= shown, expression


def test_every_label_in_an_expression_is_emitted(stage: Stage) -> None:
    everything(stage)
    text = stage.ask("/metrics").body.decode()
    labels = {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    for expression in EXPRESSIONS:
        for name, inner in re.findall(r"(http_source_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)=~?\"", inner)) <= labels[name], expression


def test_every_expression_is_promql(tmp_path: Path) -> None:
    rules = []
    for number, expression in enumerate(EXPRESSIONS):
        plain = expression.replace("$__rate_interval", "1m").replace("$__range", "1h")
        rules.append({"record": f"expression:{number}", "expr": plain})
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))

    promtool("check", "rules", str(file))


def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", str(CONF / "alerts.yml"))


def test_the_seven_panels_of_the_guide_come_first() -> None:
    titles = [panel.title.lower() for panel in PANELS[:7]]

    for title, word in zip(
        titles,
        ("throughput", "latency", "cache hit", "error", "pool", "memory", "network"),
        strict=True,
    ):
        assert word in title


def test_panels_do_not_overlap_and_fill_the_width() -> None:
    panels = monitoring.dashboard()["panels"]
    assert len(panels) == len({panel["id"] for panel in panels})

    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


#: TypeScript: a text stands for the enum it is a value of; options may be few.
TYPES = """
import type { Dashboard } from '@grafana/schema'
%s
type Written<T> =
  T extends string ? (string extends T ? string : `${T}`)
  : T extends (infer One)[] ? Written<One>[]
  : T extends object ? { [Key in keyof T]: Written<T[Key]> }
  : T
type Some<T> =
  T extends unknown[] ? T : T extends object ? { [Key in keyof T]?: Some<T[Key]> } : T
export const dashboard: Written<Dashboard> = %s
"""

#: Panel type -> where Grafana keeps the types of its options and fields.
PLUGINS = {
    "timeseries": "timeseries/panelcfg/x/TimeSeriesPanelCfg",
    "heatmap": "heatmap/panelcfg/x/HeatmapPanelCfg",
    "state-timeline": "statetimeline/panelcfg/x/StateTimelinePanelCfg",
    "stat": "stat/panelcfg/x/StatPanelCfg",
    "table": "table/panelcfg/x/TablePanelCfg",
}


@pytest.mark.slow
def test_grafanas_own_types_accept_the_dashboard(tmp_path: Path) -> None:
    need(shutil.which("npm"), "npm")
    (tmp_path / "package.json").write_text('{"private": true}')
    packages = ["@grafana/schema@12.2.1", "typescript@5.9.3"]
    words = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    installed = subprocess.run(
        [*words, *packages], cwd=tmp_path, capture_output=True, timeout=100, check=False
    )
    need(0 == installed.returncode, " and ".join(packages))
    made = monitoring.dashboard()
    del made["__inputs"]  # only the import dialogue reads it
    kinds = {panel["type"] for panel in made["panels"]}
    imports = "\n".join(
        f"import type * as {kind.replace('-', '_')} from"
        f" './node_modules/@grafana/schema/dist/types/raw/composable/{path}_types.gen'"
        for kind, path in PLUGINS.items()
        if kind in kinds
    )
    checks = []
    for number, panel in enumerate(made["panels"]):
        kind = panel["type"].replace("-", "_")
        fields = json.dumps(panel["fieldConfig"]["defaults"].get("custom", {}))
        options = json.dumps(panel["options"])
        checks.append(
            f"const o{number}: Some<Written<{kind}.Options>> = {options}\n"
            + (
                f"const f{number}: Some<Written<{kind}.FieldConfig>> = {fields}\n"
                if fields != "{}"
                else ""
            )
        )
    source = TYPES % (imports, json.dumps(made, indent=1)) + "".join(checks)
    (tmp_path / "dashboard.ts").write_text(source)

    compiler = ["node", "node_modules/typescript/bin/tsc", "--noEmit", "--strict"]
    compiler += ["--skipLibCheck", "--module", "esnext"]
    ran = subprocess.run(
        [*compiler, "--moduleResolution", "bundler", "dashboard.ts"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "" == ran.stdout


def test_the_dashboard_is_the_classic_model_with_its_own_data_source() -> None:
    made = monitoring.dashboard()

    assert 39 <= made["schemaVersion"] <= 41
    assert {"graph", "table-old"}.isdisjoint(panel["type"] for panel in made["panels"])
    assert ["datasource", "connector", "task"] == [
        variable["name"] for variable in made["templating"]["list"]
    ]
    sources = {panel["datasource"]["uid"] for panel in made["panels"]}
    assert {"${datasource}"} == sources


def counter(name: str, step: float, **labels: str) -> dict[str, str]:
    """A series that grows by `step` a minute for an hour."""
    return series(name, f"0+{step}x60", **labels)


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{inner}}}", "values": values}


C = {"connector": "orders"}
CT = {"connector": "orders", "task": "0"}
CTA = {"connector": "orders", "task": "0", "api": "api1"}
UP = series("up", "1x60", job=JOB)
WRITTEN = "http_source_records_written_total"
RECEIVED = "http_source_records_received_total"
REQUESTS = "http_source_requests_total"
LOOKUPS = "http_source_cache_requests_total"
SPENT = "http_source_fetch_to_ack_seconds_sum"
PAGES = "http_source_fetch_to_ack_seconds_count"
SUCCESS = "http_source_last_success_timestamp_seconds"
INTERVAL = "http_source_poll_interval_seconds"

#: Alert -> series that fire it, series that do not, labels it then has.
CASES: dict[str, tuple[list[dict[str, str]], list[dict[str, str]], dict[str, str]]] = {
    "HttpSourceThroughputLow": (
        [counter(WRITTEN, 60 * 99, **CTA)],
        [counter(WRITTEN, 60 * 101, **CTA)],
        C,
    ),
    "HttpSourceLatencyHigh": (
        [counter(SPENT, 21, **CT), counter(PAGES, 10, **CT)],
        [
            counter(SPENT, 19, **CT),
            counter(PAGES, 10, **CT),
            series(SPENT, "50x60", connector="idle", task="0"),
            series(PAGES, "10x60", connector="idle", task="0"),
        ],
        C,
    ),
    "HttpSourceCacheHitRatioLow": (
        [
            counter(LOOKUPS, 7, level="1", result="hit", **CT),
            counter(LOOKUPS, 3, level="none", result="miss", **CT),
        ],
        [
            counter(LOOKUPS, 7, level="1", result="hit", **CT),
            counter(LOOKUPS, 2, level="3", result="revalidated", **CT),
            counter(LOOKUPS, 1, level="none", result="miss", **CT),
        ],
        C,
    ),
    "HttpSourceErrorRateHigh": (
        [
            counter(REQUESTS, 94, outcome="ok", **CT),
            counter(REQUESTS, 6, outcome="failed", **CT),
        ],
        [
            counter(REQUESTS, 96, outcome="ok", **CT),
            counter(REQUESTS, 4, outcome="failed", **CT),
        ],
        C,
    ),
    "HttpSourceDown": (
        [series("up", "0x60", job=JOB)],
        [UP],
        {"job": JOB},
    ),
    "HttpSourceTaskFailed": (
        [series("http_source_tasks", "1x60", state="failed", **C)],
        [
            series("http_source_tasks", "0x60", state="failed", **C),
            series("http_source_tasks", "4x60", state="running", **C),
        ],
        C,
    ),
    "HttpSourceShardFailed": (
        [series("http_source_shards_failed", "1x60", **C)],
        [series("http_source_shards_failed", "0x60", **C)],
        C,
    ),
    "HttpSourceSilent": (
        [
            series(SUCCESS, "0x60", **CTA),
            series(INTERVAL, "600x60", connector="orders", api="api1"),
        ],
        [
            counter(SUCCESS, 60, **CTA),
            series(INTERVAL, "60x60", connector="orders", api="api1"),
        ],
        {"connector": "orders", "api": "api1"},
    ),
    "HttpSourceFailed": (
        [series("http_source_health_status", "1x60", status="failed", **C)],
        [series("http_source_health_status", "0x60", status="failed", **C)],
        {**C, "status": "failed"},
    ),
    "HttpSourceDegraded": (
        [series("http_source_health_status", "1x60", status="degraded", **C)],
        [series("http_source_health_status", "0x60", status="degraded", **C)],
        {**C, "status": "degraded"},
    ),
    "HttpSourceRestarting": (
        [counter("http_source_task_restarts_total", 1, **CT)],
        [series("http_source_task_restarts_total", "3x60", **CT)],
        CT,
    ),
    "HttpSourceDeadLetters": (
        [counter("http_source_records_dead_lettered_total", 1, **CTA)],
        [series("http_source_records_dead_lettered_total", "7x60", **CTA)],
        C,
    ),
    "HttpSourceNumbersOff": (
        [
            counter(RECEIVED, 6001, **CTA),
            counter(WRITTEN, 6000, **CTA),
            counter("http_source_records_filtered_total", 0, **CTA),
            counter("http_source_records_dead_lettered_total", 0, **CTA),
            counter("http_source_records_deduplicated_total", 0, **CTA),
        ],
        [
            counter(RECEIVED, 6010, **CTA),
            counter(WRITTEN, 6000, **CTA),
            counter("http_source_records_filtered_total", 4, **CTA),
            counter("http_source_records_dead_lettered_total", 3, **CTA),
            counter("http_source_records_deduplicated_total", 3, **CTA),
        ],
        C,
    ),
    "HttpSourceTlsInsecure": (
        [series("http_source_tls_insecure", "1x60", **C)],
        [series("http_source_tls_insecure", "0x60", **C)],
        C,
    ),
}


#: Figures that are an alarm only where the connector does not fare well.
FIGURES = (
    "HttpSourceThroughputLow",
    "HttpSourceLatencyHigh",
    "HttpSourceCacheHitRatioLow",
    "HttpSourceSilent",
)
HEALTHY = series("http_source_health_status", "1x60", status="healthy", **C)


def test_every_alert_has_a_case() -> None:
    assert {alert.name for alert in ALERTS} == CASES.keys()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fires", [True, False])
def test_an_alert_fires_when_it_should_and_only_then(
    tmp_path: Path, name: str, fires: bool
) -> None:
    firing, quiet, labels = CASES[name]

    held(tmp_path, name, firing if fires else quiet, labels if fires else None)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_a_healthy_connector_is_no_alarm(tmp_path: Path, name: str) -> None:
    held(tmp_path, name, [*CASES[name][0], HEALTHY], None)


def held(
    tmp_path: Path,
    name: str,
    given: list[dict[str, str]],
    labels: dict[str, str] | None,
) -> None:
    """Prometheus finds the alert with these labels, or (None) not at all."""
    alert = next(alert for alert in ALERTS if alert.name == name)
    # Names and labels alone: the words are made from values of that moment.
    rules = re.sub(
        r"(?m)^ +(annotations:|summary: .*|description: .*|runbook_url: .*)\n",
        "",
        alerts.alerts(),
    )
    (tmp_path / "rules.yml").write_text(rules)
    expected = []
    if labels is not None:
        expected = [{"exp_labels": {"severity": alert.severity, **labels}}]
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": given,
                "alert_rule_test": [
                    {"eval_time": "45m", "alertname": name, "exp_alerts": expected}
                ],
            }
        ],
    }
    file = tmp_path / "test.json"
    file.write_text(json.dumps(test))

    promtool("test", "rules", str(file))


def test_the_guides_numbers_and_times_are_kept() -> None:
    told = [(alert.lasting, alert.expression) for alert in ALERTS[:4]]

    for (lasting, expression), (wanted, number) in zip(
        told,
        (("5m", "< 100"), ("3m", "> 2 "), ("10m", "< 0.8"), ("2m", "> 0.05")),
        strict=True,
    ):
        assert wanted == lasting
        assert number in f"{expression} "
