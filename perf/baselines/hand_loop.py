"""
What a good engineer writes by hand: requests, msgspec, confluent-kafka.

    python -m perf.baselines.hand_loop [three|twelve|avro] URL BOOTSTRAP TOPIC

Follows the cursor, acks=all, idempotent, the position kept nowhere.  Without rules
records stay the bytes they are (msgspec.Raw), with rules they become dicts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

import msgspec
import requests
from confluent_kafka import Producer

#: A body's values and the cursor behind it.
Read = Callable[[bytes], tuple[Iterable[bytes], str | None]]


class Envelope(msgspec.Struct):
    records: list[msgspec.Raw]
    next: str | None = None


def reader(rules: str) -> Read:
    """What reads a body; `rules` may be empty."""
    if not rules:
        envelope = msgspec.json.Decoder(Envelope).decode

        def read(body: bytes) -> tuple[Iterable[bytes], str | None]:
            page = envelope(body)
            return map(bytes, page.records), page.next

        return read
    # It brings fastavro, which a loop without rules would not load.
    from perf.baselines.rules import HAND

    decode, transform = msgspec.json.Decoder().decode, HAND[rules]

    def read_by_rules(body: bytes) -> tuple[Iterable[bytes], str | None]:
        page = decode(body)
        return transform(page["records"]), page["next"]

    return read_by_rules


def main(url: str, bootstrap: str, topic: str, rules: str = "") -> None:
    session = requests.Session()
    read = reader(rules)
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
        values, cursor = read(response.content)
        for value in values:
            while True:
                try:
                    producer.produce(topic, value, on_delivery=answered)
                    break
                except BufferError:
                    producer.poll(0.01)
        producer.poll(0)
        if cursor is None:
            break
    producer.flush()
    if failed:
        raise SystemExit(f"{failed} records failed")


if __name__ == "__main__":
    *rules, url, bootstrap, topic = sys.argv[1:]
    main(url, bootstrap, topic, *rules)
