"""
The plain loop with rules: requests, json, KafkaProducer.send.

    python -m perf.baselines.plain_rules three|twelve URL BOOTSTRAP TOPIC
"""

from __future__ import annotations

import sys

import requests
from kafka import KafkaProducer

from perf.baselines.rules import PLAIN


def main(rules: str, url: str, bootstrap: str, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    session = requests.Session()
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
    main(*sys.argv[1:5])
