"""
The plain loop people write: requests, json, KafkaProducer.send.

    python -m perf.baselines.plain_loop [three|twelve] URL BOOTSTRAP TOPIC
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import requests
from kafka import KafkaProducer


def as_they_are(records: Iterable[Any]) -> Iterator[bytes]:
    """The values of records without rules."""
    return (json.dumps(record).encode() for record in records)


def main(url: str, bootstrap: str, topic: str, rules: str = "") -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    session = requests.Session()
    transform = as_they_are
    if rules:
        from perf.baselines.rules import PLAIN

        transform = PLAIN[rules]
    cursor = None
    while True:
        params = {"cursor": cursor} if cursor is not None else {}
        response = session.get(url, params=params, timeout=30)
        response.raise_for_status()
        page = response.json()
        for value in transform(page["records"]):
            producer.send(topic, value)
        cursor = page["next"]
        if cursor is None:
            break
    producer.flush()


if __name__ == "__main__":
    *rules, url, bootstrap, topic = sys.argv[1:]
    main(url, bootstrap, topic, *rules)
