"""
Offsetwords: what a stored offset means, in words, and what forgetting it would cost.

Owns the sentences.  What a reset would deliver again is what the position itself counts,
else what the topic holds: the API is not asked for it.

Path: ``cli.main`` -> here -> `task.probe`, ``sink.kafka``
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from engine.cli.check import load
from engine.cli.offsets import OpenedState, chosen, place_of, remembers
from engine.config import Api, Connector
from engine.config.pagination import TYPES
from engine.config.sections.delivery import StateConfig
from engine.config.sections.engine import ScheduleConfig
from engine.config.sections.offsets import REREADING, OffsetsConfig
from engine.config.sections.paging import PaginationConfig
from engine.config.sections.response import RecordsConfig
from engine.errors import Exit, SinkError, SourceError, StateError
from engine.language import EvaluationError
from engine.language.times import iso_text
from engine.records import Primitive
from engine.sink.ends import offsets
from engine.sink.kafka import EARLIEST, LATEST, admin, describe
from engine.sink.state import Saved
from engine.task.build.kafka import KafkaBuilder
from engine.task.probe import first_request, next_request

#: Characters of a value that are shown.
SHOWN = 60


class Redelivery(Struct):
    """
    What a reset would deliver again.

    Attributes:
        records: About how many; None: that cannot be said.
        basis: "position", "topic" or "".
        words: The same as a sentence.
    """

    records: int | None
    basis: str
    words: str


class ExplainedPosition(Struct):
    """
    A stored position and what it means, for people.

    Attributes:
        next, first: The request it leads to, and the one that a reset leads to;
            None: not known before the parent's record.
        error: Why it cannot be gone on from, or None.
    """

    connector: str
    partition: dict[str, str]
    offset: dict[str, Primitive]
    means: str
    next: str | None
    first: str | None
    again: Redelivery
    error: str | None = None


def explain(args: argparse.Namespace) -> int:
    """`offsets explain FILE...`: what each stored offset means."""
    loaded = load(args, quiet=args.json)
    zone = loaded.process.of(ScheduleConfig).timezone
    told: list[ExplainedPosition] = []
    beside: dict[tuple[str, str], int] = {}
    worst = Exit.OK
    with OpenedState(loaded) as opened:
        for connector in loaded.connectors:
            apis = {api.name: api for api in connector.apis}
            brokers = opened.brokers(connector)
            held: dict[str, int | None] = {}
            found = opened.state(connector).read().values()
            for saved in sorted(found, key=partial(place_of, [*apis])):
                name = saved.partition.get("api", "")
                if not chosen(args, saved.partition):
                    continue
                if "part" in saved.partition:
                    known = sum(remembers(saved).values())
                    where = connector.name, name
                    beside[where] = beside.get(where, 0) + known
                    continue
                api = apis.get(name)
                if api is None:
                    told.append(_orphan(connector, saved))
                    continue
                if name not in held:
                    held[name] = in_topic(connector, api, brokers)
                each = _told(connector, api, saved, zone, held[name])
                if each.error is not None:
                    worst = Exit.DATA
                told.append(each)
    if args.json:
        document = {"offsets": told}
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
        return worst
    for each in told:
        print(f"{each.connector} {msgspec.json.encode(each.partition).decode()}")
        print(f"    means: {each.means}")
        if each.error is not None:
            print(f"    error: {each.error}")
        if each.next is not None:
            print(f"    next: {each.next}")
        if each.first is not None:
            print(f"    after a reset: {each.first}")
        print(f"    a reset {each.again.words}")
        known = beside.pop((each.connector, each.partition.get("api", "")), 0)
        if known:
            print(
                f"    and forgets {known:,} pages or keys by which what is unchanged or "
                "a repeat is not produced again"
            )
    if not told:
        print("no offsets are stored")
    return worst


def _told(
    connector: Connector, api: Api, saved: Saved, zone: str, held: int | None
) -> ExplainedPosition:
    request = first = wrong = None
    try:
        request = next_request(connector, api, saved, zone)
    except (StateError, SourceError) as error:
        wrong = str(error)
    try:
        first = first_request(connector, api, saved.partition, zone)
    except (StateError, SourceError):
        first = None
    return ExplainedPosition(
        connector.name,
        saved.partition,
        saved.offset,
        meaning(api, saved.offset),
        request,
        first,
        again(api, saved.offset, held),
        wrong,
    )


def _orphan(connector: Connector, saved: Saved) -> ExplainedPosition:
    return ExplainedPosition(
        connector.name,
        saved.partition,
        saved.offset,
        "of an api that the configuration does not have: nobody goes on from it",
        None,
        None,
        Redelivery(0, "", "changes nothing"),
    )


def meaning(api: Api, offset: Mapping[str, Primitive]) -> str:
    """What a position says, in a sentence or two."""
    mode = api.values.of(OffsetsConfig).mode
    done = offset.get("done") is True
    poll = offset.get("poll", 1)
    where = _where(api, offset)
    if done and mode in REREADING:
        where = "the next poll reads everything from the start"
    elif not where:
        where = "the next poll begins at the start" if done else "nothing is delivered"
    state = f"poll {poll} is {'finished' if done else 'under way'}"
    more = []
    if "ties" in offset:
        more.append("what stands at that value is known by its hash")
    if "hash" in offset:
        more.append("the records of that page are known by their hash")
    lookback = api.values.of(OffsetsConfig).lookback
    if "bookmark" in offset and lookback:
        more.append(f"it is asked from {lookback:g} earlier on (http.offset.lookback)")
    return "; ".join([f"{state}: {where}", *more])


def _where(api: Api, offset: Mapping[str, Primitive]) -> str:
    """What was delivered, by the fields of the position."""
    mode = api.values.of(OffsetsConfig).mode
    kind = api.values.of(PaginationConfig).type
    pointer = api.values.of(OffsetsConfig).pointer or "the offset"
    if "window" in offset:
        return (
            f"the windows before number {offset['window']}{_from(offset)} are delivered"
        )
    if "bookmark" in offset:
        return (
            f"every record with {pointer} up to {_cut(offset['bookmark'])} is delivered"
        )
    if "delta" in offset:
        return "it goes on with the API's own link to what has changed since"
    if "cursor" in offset:
        return f"all before the cursor {_cut(offset['cursor'])} is delivered"
    if "next" in offset:
        return f"all before the link {_cut(offset['next'])} is delivered"
    if "page" in offset:
        return f"the pages before page {offset['page']} are delivered"
    if "offset" in offset:
        if TYPES[kind].by_record or mode == "CHAINING":
            return f"every record with {pointer} up to {_cut(offset['offset'])} is delivered"
        return f"the first {_count(offset['offset'])} records are delivered"
    return ""


def _from(offset: Mapping[str, Primitive]) -> str:
    """When the window begins that is next; to the hour where clocks are put forward."""
    parts = [offset.get(name) for name in ("window", "start", "seconds")]
    if not all(isinstance(each, int) for each in parts):
        return ""
    number, start, seconds = (int(str(each)) for each in parts)
    try:
        return f" (about {iso_text(start + number * seconds * 1000)})"
    except (EvaluationError, ValueError, OverflowError):
        return ""


def again(api: Api, offset: Mapping[str, Primitive], held: int | None) -> Redelivery:
    """
    What a reset would deliver again.

    Args:
        held: Records of the api's topic, or None: that is not known.
    """
    values = api.values
    counted = _counted(api, offset)
    if counted is not None:
        return Redelivery(
            counted,
            "position",
            f"fetches {counted:,} records again and delivers them a second time",
        )
    initial = values.of(OffsetsConfig).initial
    since = "everything that the API has"
    if isinstance(number := offset.get("window"), int):
        since = f"{number:,} windows"
    if values.of(OffsetsConfig).mode == "INCREMENTAL" and initial:
        since = f"everything since http.initial.offset={initial}"
    if held is None:
        return Redelivery(
            None, "", f"fetches {since} again: duplicates of all delivered"
        )
    topic = values.of(RecordsConfig).topic
    return Redelivery(
        held,
        "topic",
        f"fetches {since} again: about {held:,} duplicates (what topic {topic} holds)",
    )


def _counted(api: Api, offset: Mapping[str, Primitive]) -> int | None:
    """How many records the position says were received since the beginning, or None."""
    mode = api.values.of(OffsetsConfig).mode
    kind = TYPES[api.values.of(PaginationConfig).type]
    at = offset.get("offset")
    if mode == "SIMPLE_INCREMENTING" and isinstance(at, int):
        start = str(api.values.of(OffsetsConfig).initial or "0")
        return max(0, at - (int(start) if start.isdecimal() else 0))
    first_poll = offset.get("poll", 1) == 1 and mode in REREADING
    received = offset.get("received")
    if first_poll and isinstance(received, int) and not isinstance(received, bool):
        return received
    if first_poll and kind.addressable and isinstance(at, int):
        return at
    return None


def in_topic(connector: Connector, api: Api, brokers: KafkaBuilder) -> int | None:
    """
    Records of an api's topic, or None: it is named by its records, or not there.

    In transactions each of these counts as one, too.

    Blocks: for some requests; raises nothing.
    """
    topic = api.values.of(RecordsConfig).fixed_topic
    if not topic or connector.values.of(StateConfig).file is not None:
        return None
    try:
        with admin(brokers.admin) as client:
            if topic not in describe(client, [topic]):
                return 0
            _, [first, last] = offsets(client, topic, EARLIEST, LATEST)
    except SinkError:
        return None
    return sum(end - first.get(index, 0) for index, end in last.items())


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else _cut(value)


def _cut(value: Primitive) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}\u2026"
