"""
The plain loop people write: requests, json, KafkaProducer.send.

    python -m perf.baselines.plain_loop URL BOOTSTRAP TOPIC
"""

from __future__ import annotations

import json
import sys

import requests
from kafka import KafkaProducer


def main(url: str, bootstrap: str, topic: str) -> None:
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        value_serializer=lambda value: json.dumps(value).encode(),
    )
    session = requests.Session()
    cursor = None
    while True:
        params = {"cursor": cursor} if cursor is not None else {}
        response = session.get(url, params=params, timeout=30)
        response.raise_for_status()
        page = response.json()
        for item in page["records"]:
            producer.send(topic, item)
        cursor = page["next"]
        if cursor is None:
            break
    producer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:4])
