"""
The hand-written loop with rules: requests, msgspec to dicts, confluent-kafka.

    python -m perf.baselines.hand_rules three|twelve|avro URL BOOTSTRAP TOPIC

Follows the cursor, acks=all, idempotent, the position kept nowhere.
"""

from __future__ import annotations

import sys

import msgspec
import requests
from confluent_kafka import Producer

from perf.baselines.rules import HAND


def main(rules: str, url: str, bootstrap: str, topic: str) -> None:
    session = requests.Session()
    decode = msgspec.json.Decoder().decode
    transform = HAND[rules]
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "batch.size": 262144,
            "queue.buffering.max.messages": 500000,
        }
    )
    failed = 0

    def answered(error: object, _message: object) -> None:
        nonlocal failed
        failed += error is not None

    cursor: str | None = None
    while True:
        params = {"cursor": cursor} if cursor is not None else {}
        response = session.get(url, params=params, timeout=30)
        response.raise_for_status()
        page = decode(response.content)
        for value in transform(page["records"]):
            while True:
                try:
                    producer.produce(topic, value, on_delivery=answered)
                    break
                except BufferError:
                    producer.poll(0.01)
        producer.poll(0)
        cursor = page["next"]
        if cursor is None:
            break
    producer.flush()
    if failed:
        raise SystemExit(f"{failed} records failed")


if __name__ == "__main__":
    main(*sys.argv[1:5])
