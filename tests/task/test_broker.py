"""What is written in the configuration is what the Kafka clients are made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import config
from engine.config import Connector
from engine.sink.kafka import Cluster
from engine.task.build.kafka import KafkaBuilder

BASE = {
    "name": "orders",
    "http.source.url": "http://127.0.0.1:1/x",
    "kafka.topic": "orders",
    "bootstrap.servers": "a:1,b:2",
}

JAAS = 'org.apache.kafka.common.security.plain.PlainLoginModule required \
username="u" password="p";'


def brokers(folder: Path, keys: dict[str, str]) -> KafkaBuilder:
    file = folder / "c.properties"
    file.write_text("".join(f"{k}={v}\n" for k, v in {**BASE, **keys}.items()))
    [connector] = config.load([str(file)], []).connectors
    assert isinstance(connector, Connector)
    return KafkaBuilder(connector, ("a:1", "b:2"), 3)


@pytest.mark.parametrize(
    ("key", "value", "attribute", "expected"),
    [
        ("request.timeout.ms", "7000", "request_timeout", 7.0),
        ("metadata.max.age.ms", "9000", "metadata_max_age", 9.0),
        ("retry.backoff.ms", "250", "retry_backoff", 0.25),
        ("reconnect.backoff.ms", "350", "reconnect_backoff", 0.35),
        ("reconnect.backoff.max.ms", "4000", "reconnect_backoff_max", 4.0),
        ("connections.max.idle.ms", "60000", "connections_max_idle", 60.0),
        ("send.buffer.bytes", "70000", "send_buffer", 70_000),
        ("receive.buffer.bytes", "80000", "receive_buffer", 80_000),
        ("client.id", "mine", "client_id", "mine"),
        ("ssl.enabled.protocols", "TLSv1.3", "versions", ("TLSv1.3",)),
        ("ssl.cipher.suites", "A-B,C-D", "ciphers", ("A-B", "C-D")),
        ("ssl.endpoint.identification.algorithm", "none", "check_hostname", False),
        ("security.protocol", "SSL", "protocol", "SSL"),
    ],
)
@pytest.mark.parametrize("prefix", ["producer.", "producer.override."])
def test_a_key_of_the_producer_reaches_it(
    tmp_path: Path,
    prefix: str,
    key: str,
    value: str,
    attribute: str,
    expected: object,
) -> None:
    made = brokers(tmp_path, {prefix + key: value}).cluster

    assert expected == getattr(made, attribute)
    assert getattr(Cluster(bootstrap=("a:1",)), attribute) != expected


def test_security_without_prefix_is_for_every_client_of_ours(tmp_path: Path) -> None:
    keys = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": JAAS,
        "ssl.enabled.protocols": "TLSv1.3",
    }
    made = brokers(tmp_path, keys)

    for cluster in (made.cluster, made.admin):
        assert "SASL_SSL" == cluster.protocol
        assert "SCRAM-SHA-512" == cluster.mechanism
        assert {"username": "u", "password": "p"} == dict(cluster.login)
        assert ("TLSv1.3",) == cluster.versions


def test_the_admin_client_has_time_outs_and_security_of_its_own(
    tmp_path: Path,
) -> None:
    made = brokers(
        tmp_path,
        {
            "admin.override.request.timeout.ms": "20000",
            "admin.override.default.api.timeout.ms": "8000",
            "admin.override.security.protocol": "SSL",
        },
    )

    assert (8.0, "SSL") == (made.admin.request_timeout, made.admin.protocol)
    assert "PLAINTEXT" == made.cluster.protocol
