"""What a running engine shows: every family of the table, and every expression."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as strictly,
)

from engine.admin.expressions import JOB
from engine.admin.monitoring import PANELS
from engine.observe import names
from engine.observe.names import MetricKind
from tests.brokers import Broker
from tests.e2e.admin import LISTENING, Admin, admin_of, total
from tests.e2e.rig import Running, Setup, until
from tests.fakes.api import Answer, Api, Asked
from tests.needs import need
from tests.transform.registry_server import registry_server

pytestmark = pytest.mark.slow

#: Everything that has a number of its own, switched on.
KEYS: dict[str, object] = {
    **LISTENING,
    "http.source.poll.interval.ms": 200,
    "performance.metrics.detailed": "true",
    "metrics.names": "NATIVE,STRIMZI,CONFLUENT",
    "jmx.enabled": "true",
    "errors.tolerance": "all",
    "errors.deadletterqueue.topic.name": "${connector}-dead",
    "deduplication.enabled": "true",
    "deduplication.key.fields": "id",
    "retry.backoff.ms": 1,
    "value.converter": "AvroConverter",
    "transformation.filter.expressions": json.dumps(
        [{"field": "kind", "operator": "NOT_EQUALS", "value": "noise"}]
    ),
    "transformation.validation.rules": json.dumps([{"field": "id", "max": 1_000_000}]),
    "rate.limit.enabled": "true",
    "rate.limit.requests.per.second": 20,
    "rate.limit.burst.capacity": 1,
    # Room for one answer: the second puts it out.
    "cache.l1.max.size": 1,
    "cache.l2.max.size": 1,
    "cache.l3.max.size": 1,
    "cache.warming.enabled": "true",
    "cache.warming.schedule": "* * * * * *",
    "cache.warming.patterns": '["x"]',
    "auto.scaling.enabled": "true",
    "auto.scaling.evaluation.interval.minutes": 0.05,
}


class Source:
    """Pages with news, something bad, something filtered and something seen."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, asked: Asked) -> Answer:
        self.asked += 1
        if self.asked == 2:
            return 503, [], b"try again"
        n = self.asked
        items = [
            *({"id": 10 * n + i, "kind": "news"} for i in range(10)),
            {"id": 7, "kind": "news"},
            {"id": 5_000_000, "kind": "news"},
            {"id": 10 * n, "kind": "noise"},
        ]
        headers = [
            ("Content-Type", "application/json"),
            ("Cache-Control", "max-age=1"),
            ("ETag", f'"{n}"'),
            ("X-RateLimit-Limit", "1000"),
            ("X-RateLimit-Remaining", str(1000 - n % 900)),
            ("X-RateLimit-Reset", "60"),
        ]
        return 200, headers, json.dumps({"items": items}).encode()


class Stage(NamedTuple):
    """An engine in which something of everything happens."""

    setup: Setup
    running: Running
    admin: Admin


@pytest.fixture(scope="module")
def stage(
    tmp_path_factory: pytest.TempPathFactory, embedded: Broker
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("metrics")
    with Api() as api, registry_server() as registry:
        api.route("/x", Source())
        setup = Setup(folder, f"{api.url}/x", embedded, KEYS)
        setup.write(**{"value.converter.schema.registry.url": registry.url})
        with setup.running() as running:
            admin = admin_of(setup, running)
            until(lambda: total(admin.scrape(), names.POLLS.name) > 5, "some polls", 60)
            yield Stage(setup, running, admin)


def shown(admin: Admin) -> set[str]:
    """The samples of a scrape, histograms by the name of their family."""
    timers = {
        metric.name for metric in names.TABLE if metric.kind is MetricKind.HISTOGRAM
    }
    found = {name for name, _ in admin.scrape()}
    families = {name: re.sub(r"_(bucket|sum|count)$", "", name) for name in found}
    return {family if family in timers else name for name, family in families.items()}


def test_every_family_of_the_table_is_emitted(stage: Stage) -> None:
    wanted = {metric.name for metric in names.TABLE}

    # Judgements of auto-scaling take their three seconds.
    deadline = time.monotonic() + 20
    while missing := wanted - shown(stage.admin):
        assert time.monotonic() < deadline, f"families are missing: {missing}"
        time.sleep(0.2)


def test_nothing_is_emitted_that_is_in_no_table(stage: Stage) -> None:
    known = {metric.name for metric in names.TABLE}
    known |= {row.strimzi for row in names.ATTRIBUTES}
    known |= {row.confluent for row in names.ATTRIBUTES}

    assert shown(stage.admin) <= known


def test_the_sums_of_the_records_add_up_at_any_moment(stage: Stage) -> None:
    for _ in range(20):
        scrape = stage.admin.scrape()
        fates = [
            total(scrape, metric.name)
            for metric in (
                names.RECORDS_WRITTEN,
                names.RECORDS_FILTERED,
                names.RECORDS_DEAD_LETTERED,
                names.RECORDS_DEDUPLICATED,
            )
        ]
        assert all(n > 0 for n in fates)
        assert total(scrape, names.RECORDS_RECEIVED.name) == sum(fates)


def test_each_stage_of_a_page_has_its_time(stage: Stage) -> None:
    seen = {
        dict(labels)["stage"]
        for name, labels in stage.admin.scrape()
        if name == f"{names.STAGE_SECONDS.name}_count"
    }

    # A name that is an address is not looked up, http has no TLS.
    assert set(names.STAGE_SECONDS.values["stage"]) - {"dns", "tls"} <= seen


def test_values_of_labels_are_those_of_the_table(stage: Stage) -> None:
    bounds = {metric.name: metric.values for metric in names.TABLE}

    for name, labels in stage.admin.scrape():
        for label, values in bounds.get(name, {}).items():
            assert dict(labels)[label] in values, (name, labels)


def test_openmetrics_is_read_by_a_strict_parser(stage: Stage) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    told = stage.admin.ask("/metrics", headers={"Accept": accept})

    assert told.headers["Content-Type"].startswith("application/openmetrics-text")
    assert told.body.endswith(b"# EOF\n")
    families = {family.name for family in strictly(told.body.decode())}
    assert "http_source_records_written" in families


def test_promtool_finds_nothing_to_say_about_our_own_families(stage: Stage) -> None:
    need(shutil.which("promtool"), "promtool")
    text = stage.admin.ask("/metrics").body.decode()
    native = re.findall(r"^(?:# \w+ )?http_source_.*\n", text, re.MULTILINE)
    assert len(native) > 100

    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input="".join(native),
        text=True,
        capture_output=True,
        check=False,
    )

    assert ("", "", 0) == (checked.stdout, checked.stderr, checked.returncode)


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """A Prometheus that scrapes the engine each second."""
    need(shutil.which("prometheus"), "prometheus")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    job = {
        "job_name": JOB,
        "scrape_interval": "1s",
        "static_configs": [{"targets": [target.removeprefix("http://")]}],
    }
    file = folder / "prometheus.json"
    file.write_text(json.dumps({"scrape_configs": [job]}))
    log = (folder / "log").open("wb")
    running = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        running.kill()
        running.wait()
        log.close()


def asked(url: str, expression: str) -> list[Any]:
    """What Prometheus gives for an expression now."""
    query = urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=10) as told:
            found: list[Any] = json.load(told)["data"]["result"]
            return found
    except ConnectionError:
        return []
    except urllib.error.HTTPError as refused:
        # 503: it is still starting.
        assert 503 == refused.code, f"{expression}: {refused.read()!r}"
        return []
    except urllib.error.URLError:
        return []


def filled(expression: str) -> str:
    """An expression as Grafana asks it, with everything chosen."""
    for variable, value in (
        ("$__rate_interval", "5s"),
        ("$__range", "1m"),
        ("$connector", ".*"),
        ("$task", ".*"),
    ):
        expression = expression.replace(variable, value)
    return expression


def test_every_expression_of_the_dashboard_has_an_answer_in_prometheus(
    stage: Stage, tmp_path: Path
) -> None:
    unanswered = {filled(text) for panel in PANELS for text, _ in panel.targets}
    with prometheus(tmp_path, stage.admin.url) as url:
        until(lambda: asked(url, f'up{{job="{JOB}"}} == 1'), "a scrape")
        # Rates need several scrapes.
        deadline = time.monotonic() + 30
        while unanswered and time.monotonic() < deadline:
            unanswered = {text for text in unanswered if not asked(url, text)}
            time.sleep(0.5)

    assert set() == unanswered


def _only_grows(sample: str) -> bool:
    if sample.startswith("http_source_worker"):
        return False
    ours = sample.startswith("http_source_")
    return sample.endswith(
        ("_total", "_count", "_sum", "_bucket") if ours else "_total"
    )


def test_counters_survive_a_killed_task(stage: Stage) -> None:
    """Last: it leaves the task's process another one."""
    name = stage.setup.name
    before = stage.admin.scrape()
    pid = stage.running.tasks()[0]

    os.kill(pid, signal.SIGKILL)
    until(lambda: stage.running.tasks()[0] != pid, "another process")

    after = stage.admin.scrape()
    fallen = {
        key: (value, after.get(key))
        for key, value in before.items()
        if _only_grows(key[0]) and after.get(key, -1.0) < value
    }
    assert {} == fallen
    written = total(after, names.RECORDS_WRITTEN.name)
    until(
        lambda: total(stage.admin.scrape(), names.RECORDS_WRITTEN.name) > written,
        "it counts on",
    )
    restarts = total(
        stage.admin.scrape(), names.TASK_RESTARTS.name, connector=name, task="0"
    )
    assert 1 == restarts
    told = stage.admin.get("/health/metrics")
    assert told["totalMessages"] >= written
