"""
What a good engineer writes by hand: requests, msgspec, confluent-kafka.

    python -m perf.baselines.hand_loop [--rules three|twelve|avro] [--set K=V]...
        [--numbered] [--ca FILE] [--key FIELD] URL[,URL...] BOOTSTRAP TOPIC

Follows the cursor (`--numbered`: counts `page` until an empty one), acks=all,
idempotent, the position kept nowhere.  Several URLs take turns by the page: on one
core threads would only add to what they cost.  Without rules records stay the bytes
they are (msgspec.Raw), with rules they become dicts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator

import msgspec
import requests
from confluent_kafka import Producer

#: A body's values and the cursor behind it.
Read = Callable[[bytes], tuple[Iterable[bytes], str | None]]

#: librdkafka's settings unless the words say others: those of the engine's defaults.
SETTINGS = {
    "acks": "all",
    "enable.idempotence": "true",
    "linger.ms": "5",
    "batch.size": "262144",
    "queue.buffering.max.messages": "500000",
}


class Envelope(msgspec.Struct):
    records: list[msgspec.Raw]
    next: str | None = None


class Keyed(msgspec.Struct):
    """A record of which only the key is wanted."""

    key: str


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


def pages(
    session: requests.Session,
    url: str,
    read: Read,
    numbered: bool,
    verify: str | bool = True,
) -> Iterator[Iterable[bytes]]:
    """The values of each page of one URL."""
    cursor: str | None = None
    number = 0
    while True:
        params = {"cursor": cursor} if cursor is not None else {}
        if numbered:
            params = {"page": str(number)}
            number += 1
        response = session.get(url, params=params, timeout=30, verify=verify)
        response.raise_for_status()
        values, cursor = read(response.content)
        if numbered:
            values = list(values)
            if not values:
                return
        yield values
        if cursor is None and not numbered:
            return


def turns(walks: list[Iterator[Iterable[bytes]]]) -> Iterator[Iterable[bytes]]:
    """Pages of several walks, one of each in turn."""
    while walks:
        for walk in list(walks):
            values = next(walk, None)
            if values is None:
                walks.remove(walk)
            else:
                yield values


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rules", default="")
    words.add_argument("--set", action="append", default=[], metavar="K=V")
    words.add_argument("--numbered", action="store_true")
    words.add_argument("--ca")
    words.add_argument("--key", action="store_true", help="the field `key` as key")
    words.add_argument("urls")
    words.add_argument("bootstrap")
    words.add_argument("topic")
    given = words.parse_args()

    session = requests.Session()
    read = reader(given.rules)
    settings = dict(SETTINGS, **{"bootstrap.servers": given.bootstrap})
    settings.update(line.split("=", 1) for line in given.set)
    producer = Producer(settings)
    topic = given.topic
    key_of = msgspec.json.Decoder(Keyed).decode if given.key else None
    failed = 0

    def answered(error: object, _message: object) -> None:
        nonlocal failed
        failed += error is not None

    urls = given.urls.split(",")
    verify = given.ca or True
    walks = [pages(session, url, read, given.numbered, verify) for url in urls]
    for values in turns(walks):
        for value in values:
            key = key_of(value).key if key_of else None
            while True:
                try:
                    producer.produce(topic, value, key, on_delivery=answered)
                    break
                except BufferError:
                    producer.poll(0.01)
        producer.poll(0)
    producer.flush()
    if failed:
        raise SystemExit(f"{failed} records failed")


if __name__ == "__main__":
    main()
