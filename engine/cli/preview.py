"""
Preview: the first records as they would be produced.

Owns the output of `preview`.  Asks the API for as many pages as it needs and
no more, writes to no topic, reads and moves no state.

Path: ``cli.main`` -> here -> ``task.probe``, ``task.build.transform``
"""

from __future__ import annotations

import argparse
import base64
import sys
from collections.abc import Iterator
from contextlib import closing

import msgspec
from msgspec import Raw

from engine.cli.check import load
from engine.config import Api, Connector
from engine.config.sections.engine import ApiConfig, ScheduleConfig
from engine.config.sections.response import RecordsConfig
from engine.errors import ConfigError, Exit
from engine.records import Encoded, KafkaHeaders, Parcel
from engine.task.build.registry import Registries
from engine.task.build.transform import burying, transform_of
from engine.task.probe import pages, scope_of


def preview(args: argparse.Namespace) -> int:
    """`preview FILE`: JSON lines on stdout; 65 if a record cannot be produced."""
    loaded = load(args)
    zone = loaded.process.of(ScheduleConfig).timezone
    worst = Exit.OK
    chosen = [
        (connector, api)
        for connector in loaded.connectors
        for api in connector.apis
        if args.api in (None, api.name)
        and api.values.of(RecordsConfig).topic is not None
    ]
    if not chosen:
        raise ConfigError(f"no api is named {args.api!r}")
    for connector, api in chosen:
        show = differences if args.diff else records
        with closing(Registries(connector)) as registries:
            for line, bad in show(connector, api, zone, args.records, registries):
                print(line)
                worst = Exit.DATA if bad else worst
        sys.stdout.flush()
    return worst


def above(
    connector: Connector, api: Api, zone: str
) -> tuple[bool, dict[str, object] | None]:
    """
    Whether an api is a child, and what it is polled with then; who reads the records is
    told where no record of its parent names a value.
    """
    if connector.parent(api) is None:
        return False, None
    scope = scope_of(connector, api, zone)
    if scope is None:
        parent = api.values.of(ApiConfig).parent
        print(
            f"{api.name} was not asked: no record on the first pages of {parent} has a "
            "value at api.chaining.extract.field",
            file=sys.stderr,
        )
    return True, scope


def records(
    connector: Connector, api: Api, zone: str, count: int, registries: Registries
) -> Iterator[tuple[str, bool]]:
    """The first records of an api as produced; each a line, and whether it is bad."""
    below, scope = above(connector, api, zone)
    if below and scope is None:
        return
    walk = pages(connector, api, zone, scope=scope)
    transform = burying(
        connector,
        api,
        walk.shard,
        transform_of(connector, api, walk.shard, zone=zone, registries=registries),
        zone=zone,
        registries=registries,
    )
    left = count
    with walk as found:
        for page in found:
            parcel = transform(page)
            good = lines(parcel)
            # A bad one among the first is shown however many good ones follow.
            letters = [
                letter
                for at, letter in enumerate(parcel.letters)
                if letter.index < left or len(good) + at < left
            ]
            for line in good[: left - len(letters)]:
                yield line, False
                left -= 1
            for letter in letters:
                problem = {
                    "dead_letter": text_or_bytes(letter.value),
                    "stage": letter.stage,
                    "error": f"{letter.cause}: {letter.message}",
                }
                yield msgspec.json.encode(problem).decode(), True
                left -= 1
            if left <= 0:
                return


def differences(
    connector: Connector, api: Api, zone: str, count: int, registries: Registries
) -> Iterator[tuple[str, bool]]:
    """The first records of an api before and after, and what left them out."""
    below, scope = above(connector, api, zone)
    if below and scope is None:
        return
    walk = pages(connector, api, zone, scope=scope)
    transform = transform_of(
        connector, api, walk.shard, zone=zone, registries=registries
    )
    left = count
    with walk as found:
        for page in found:
            for step in transform.inspect(page)[:left]:
                line: dict[str, object] = {
                    "page": page.index,
                    "index": step.index,
                    "outcome": step.outcome,
                    "before": json_or_text(step.before),
                    "after": None if step.after is None else json_or_text(step.after),
                }
                for name in ("stage", "rule", "message"):
                    if getattr(step, name):
                        line[name] = getattr(step, name)
                yield msgspec.json.encode(line).decode(), step.outcome == "failed"
            left -= len(page.records)
            if left <= 0:
                return


def lines(parcel: Parcel) -> list[str]:
    """The records of a parcel, one JSON document each."""
    made = []
    for at, value in enumerate(parcel.values):
        topic = parcel.topic if isinstance(parcel.topic, str) else parcel.topic[at]
        key = None if parcel.keys is None else parcel.keys[at]
        stamp = parcel.timestamps
        document = {
            "topic": topic,
            "key": None if key is None else text_or_bytes(key),
            "value": None if value is None else json_or_text(value),
            "timestamp": stamp if isinstance(stamp, int) else stamp[at],
            "headers": headers_of(parcel, at),
        }
        made.append(msgspec.json.encode(document).decode())
    return made


def headers_of(parcel: Parcel, at: int) -> list[list[object]]:
    """One record's headers as [name, value] pairs."""
    found = parcel.headers
    one: KafkaHeaders
    if found and not isinstance(found[0][0], str):
        one = found[at]  # type: ignore[assignment]
    else:
        one = found  # type: ignore[assignment]
    return [
        [name, None if value is None else text_or_bytes(value)] for name, value in one
    ]


def json_or_text(value: Encoded) -> object:
    """A value as the JSON it is, untouched; else as text or base64."""
    raw = bytes(value)
    try:
        msgspec.json.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        # Neither JSON nor, nested too deep, anything that can be shown as it.
        return text_or_bytes(raw)
    return Raw(raw)


def text_or_bytes(value: bytes) -> object:
    """UTF-8 as text, anything else as {"base64": ...}."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
