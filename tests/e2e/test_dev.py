"""The demonstration: every sample record arrives, here and on a Kafka of one's own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.brokers import Broker

COMMAND = [sys.executable, "-m", "engine", "dev", "--records", "2000", "--tasks", "2"]


def test_it_shows_all_records_on_the_embedded_broker(embedded: Broker) -> None:
    said = subprocess.run(COMMAND, check=True, capture_output=True, text=True).stdout

    assert "(embedded)" in said
    assert "total: 2,000 records arrived in topic orders" in said
    assert ", 0.0 s" not in said


@pytest.mark.kafka
def test_it_shows_all_records_on_a_kafka_of_ones_own(apache: Broker) -> None:
    """Each demonstration has a topic of its own there, which stays."""
    words = ["--kafka", apache.address]
    first, second = (
        subprocess.run([*COMMAND, *words], check=True, capture_output=True, text=True)
        for _ in range(2)
    )

    for said in (first.stdout, second.stdout):
        assert f"Kafka    {apache.address}\n" in said
        assert "total: 2,000 records arrived in topic orders-" in said
    assert first.stdout.splitlines()[-1] != second.stdout.splitlines()[-1]


def test_a_kafka_that_is_not_there_is_said_with_69() -> None:
    ended = subprocess.run(
        [*COMMAND, "--kafka", "127.0.0.1:1"],
        check=False,
        capture_output=True,
        text=True,
    )

    assert 69 == ended.returncode
    assert "127.0.0.1:1" in ended.stderr
    assert "Traceback" not in ended.stderr
