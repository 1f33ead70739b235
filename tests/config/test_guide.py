"""
A tuning guide's configuration loads unchanged.

The keys and values that operators copy from it are arranged here; with
KAFKA_HTTP_SOURCE_GUIDE naming the Markdown file itself, each of its fences is
loaded as it stands there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from engine.config import ConfigError, load
from tests.config.conftest import BASE, Files

GUIDE = os.environ.get("KAFKA_HTTP_SOURCE_GUIDE", "")


def fences() -> list[str]:
    if not GUIDE:
        return []
    text = Path(GUIDE).read_text()
    return re.findall(r"^```properties\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.skipif(not GUIDE, reason="KAFKA_HTTP_SOURCE_GUIDE names no guide")
def test_the_guide_has_thirty_fences() -> None:
    assert 30 == len(fences())


@pytest.mark.parametrize("text", fences())
def test_each_fence_loads_over_a_nameless_base(files: Files, text: str) -> None:
    base = files.write(BASE, "base.properties")
    fence = files.write(text)

    loaded = load([base, fence])
    names = re.findall(r"^name=(.*)$", text, re.MULTILINE) or ["base"]
    assert names == [connector.name for connector in loaded.connectors]


#: Line, key, value: everything that needs more than `key=value`.
LINES: list[tuple[str, str, Any]] = [
    ("transformation.enabled=false  # not needed here", "transformation.enabled", False),
    ("cache.enabled=false  # live data", "cache.enabled", False),
    ("pagination.limit.value=1000  # as the API allows", "pagination.limit.value", 1000),
    ("cache.schema.ttl.seconds=14400  # 4 hours", "cache.schema.ttl.seconds", 14400),
    (
        "http.client.max.response.size.bytes=10485760  # 10MB",
        "http.client.max.response.size.bytes",
        10485760,
    ),
    (
        "transformation.max.record.size.bytes=1048576  # 1MB",
        "transformation.max.record.size.bytes",
        1048576,
    ),
    ("cache.max.memory.bytes=536870912  # 512MB", "cache.max.memory.bytes", 536870912),
    ("producer.buffer.memory=134217728  # 128MB", "producer.buffer.memory", 134217728),
    (
        ('transformation.field.mappings=[\n  {"source": "id", "target": "record_id", '
        '"type": "STRING"}\n]'),
        "transformation.field.mappings",
        [{"source": "id", "target": "record_id", "type": "STRING"}],
    ),
    (
        "http.source.headers=Accept-Encoding:gzip,deflate",
        "http.source.headers",
        (("Accept-Encoding", "gzip,deflate"),),
    ),
    (
        "http.client.compression.types=gzip,deflate",
        "http.client.compression.types",
        ("gzip", "deflate"),
    ),
    (
        "cache.warming.strategies=PREDICTIVE,LRU",
        "cache.warming.strategies",
        ("PREDICTIVE", "LRU"),
    ),
    (
        "cache.warming.schedule=0 */5 * * * *  # each fifth minute",
        "cache.warming.schedule",
        "0 */5 * * * *",
    ),
    (
        ('cache.warming.patterns=[\n  "users/*",\n  "products/featured",\n'
        '  "config/settings"\n]'),
        "cache.warming.patterns",
        ["users/*", "products/featured", "config/settings"],
    ),
    (
        ('http.source.endpoints=[\n  "https://api1.example.com",\n'
        '  "https://api2.example.com",\n  "https://api3.example.com"\n]'),
        "http.source.endpoints",
        [f"https://api{n}.example.com" for n in (1, 2, 3)],
    ),
    (
        "http.source.url.pattern=https://api.example.com/[a-m]*",
        "http.source.url.pattern",
        "https://api.example.com/[a-m]*",
    ),
    (
        "connector.class=io.confluent.connect.http.HttpSourceConnector",
        "connector.class",
        "io.confluent.connect.http.HttpSourceConnector",
    ),
    (
        "key.converter=org.apache.kafka.connect.storage.StringConverter",
        "key.converter",
        "StringConverter",
    ),
    (
        "value.converter=org.apache.kafka.connect.json.JsonConverter",
        "value.converter",
        "JsonConverter",
    ),
    ("value.converter.schemas.enable=false", "value.converter.schemas.enable", False),
    ("cache.l2.policy=LFU", "cache.l2.policy", "LFU"),
    ("http.load.balancing.strategy=ROUND_ROBIN", "http.load.balancing.strategy", "ROUND_ROBIN"),
    ("log.level=WARN", "log.level", "WARN"),
    ("auto.scaling.evaluation.interval.minutes=5", "auto.scaling.evaluation.interval.minutes", 5.0),
    ("health.check.error.rate.threshold=0.05", "health.check.error.rate.threshold", 0.05),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "key", "value"), LINES, ids=[key for _, key, _ in LINES]
)
def test_a_line_means_what_it_says(
    files: Files, text: str, key: str, value: Any
) -> None:
    assert value == files.value(text + "\n", key)


def test_cursor_paging_with_a_remark(files: Files) -> None:
    text = (
        "pagination.type=cursor  # faster than counting\n"
        "pagination.cursor.field=next_cursor\n"
    )
    assert "cursor" == files.value(text, "pagination.type")


def test_two_instances_in_one_file(files: Files) -> None:
    text = (
        "# one half\nname=instance-1\n"
        "http.source.url.pattern=https://api.example.com/[a-m]*\n\n"
        "# the other\nname=instance-2\n"
        "http.source.url.pattern=https://api.example.com/[n-z]*\n"
    )
    one, two = files.load(text).connectors

    assert ["instance-1", "instance-2"] == [one.name, two.name]
    assert "https://api.example.com/[n-z]*" == two.values["http.source.url.pattern"]


#: A whole template, which names no URL and no topic.
TEMPLATE = """
name=fast
connector.class=io.confluent.connect.http.HttpSourceConnector
tasks.max=8
http.source.poll.interval.ms=15000
http.client.connection.pool.enabled=true
http.client.max.connections=40
http.client.max.connections.per.route=20
http.client.connection.timeout.ms=10000
http.client.socket.timeout.ms=30000
cache.enabled=true
cache.response.max.size=3000
cache.response.ttl.seconds=600
cache.schema.max.size=200
cache.schema.ttl.seconds=7200
rate.limit.enabled=true
rate.limit.requests.per.second=20
rate.limit.algorithm=TOKEN_BUCKET
rate.limit.burst.capacity=50
transformation.batch.size=500
producer.batch.size=65536
producer.linger.ms=5
jmx.enabled=true
health.check.enabled=true
"""


def test_a_template_without_url_and_topic_loads_over_a_base_only(files: Files) -> None:
    assert "fast" == files.load(TEMPLATE).connectors[0].name

    with pytest.raises(ConfigError) as caught:
        load([files.write(TEMPLATE)], ["bootstrap.servers=127.0.0.1:9092"])
    keys = {finding.key for finding in caught.value.findings}
    assert {"http.source.url", "kafka.topic"} == keys
