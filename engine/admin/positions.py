"""
Positions: Connect's calls for the offsets of a connector.

Owns what a position may be before it is written, and that nothing of the connector runs
meanwhile: the supervisor holds it STOPPED until all is written or nothing.  A connector
of the same name finds its offsets again, deleted and made anew or not.

Source: KIP-875; the format is `sink.state`'s, which is Connect's.

Path: ``admin.routes`` -> here -> ``sink.state``
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from engine.admin import connect
from engine.admin.answers import (
    Answer,
    Malformed,
    Question,
    json_answer,
    read_object,
    refusal,
)
from engine.admin.commands import Commands, Unanswered
from engine.admin.view import View
from engine.clock import SYSTEM
from engine.config import Connector
from engine.errors import EngineError, StateError
from engine.records import Primitive
from engine.sink.state import OWN_FIELDS, Saved, State, canonical
from engine.task.probe import next_request

#: Seconds to wait for the last task of a connector that was just stopped.
DRAINING = 20.0

#: Seconds between two looks at it.
AGAIN = 0.1

NEEDED = "Partitions / offsets need to be provided for an alter offsets request"
ALTERED = "The offsets for this connector have been altered successfully"
RESET = "The offsets for this connector have been reset successfully"


class Place(Struct, frozen=True):
    """
    Where a connector's offsets are kept.

    Attributes:
        connector: As it is configured.
        state: Reads and writes them.
        zone: `schedule.timezone`.
    """

    connector: Connector
    state: State
    zone: str


class Positions:
    """
    Tells, alters and forgets offsets.

    Args:
        view: What is running.
        commands: Asks the supervisor.
        places: Connector -> where its offsets are kept, or None.
    """

    def __init__(
        self, view: View, commands: Commands, places: Callable[[str], Place | None]
    ) -> None:
        self._view = view
        self._commands = commands
        self._places = places

    def every(self, name: str) -> Answer:
        """`GET /connectors/{name}/offsets`, in any state."""
        place = self._places(name)
        if connect.card_of(self._view, name) is None or place is None:
            return connect.missing(name)
        try:
            saved = place.state.read().values()
        except EngineError as failure:
            return refusal(500, f"The offsets cannot be read: {failure}")
        told = [
            {"partition": each.partition, "offset": each.offset}
            for each in sorted(saved, key=lambda each: sorted(each.partition.items()))
            # What is remembered beside a position is none.
            if "part" not in each.partition
        ]
        return json_answer(200, {"offsets": told})

    def alter(self, question: Question, name: str, who: str) -> Answer:
        """`PATCH /connectors/{name}/offsets`: all that is sent, or nothing."""
        sent = read_object(question.body)
        for field in sent.keys() - {"offsets"}:
            raise Malformed(f'unrecognized field "{field[:80]}"')
        offsets = sent.get("offsets")
        if offsets is None or offsets == []:
            return refusal(400, NEEDED)
        if not isinstance(offsets, list):
            raise Malformed("offsets is a list of partitions and their offsets")
        entries = [_entry(each) for each in offsets]

        def altered(place: Place) -> Answer:
            known = {canonical(p): p for p in place.state.known()}
            wanted: dict[str, tuple[dict[str, str], Mapping[str, Primitive] | None]]
            # The same partition twice: the last holds.
            wanted = {}
            for given, offset in entries:
                partition = _partition(place.connector, given, known)
                if offset is not None:
                    _require_position(place, partition, offset)
                wanted[canonical(partition)] = partition, offset
            # What is remembered of pages and records there would hide them.
            beside = [
                each
                for each in known.values()
                if "part" in each and _without_part(each) in wanted
            ]
            place.state.put([*wanted.values(), *((each, None) for each in beside)])
            return json_answer(200, {"message": ALTERED})

        return self._held(name, who, altered)

    def reset(self, name: str, who: str) -> Answer:
        """`DELETE /connectors/{name}/offsets`: all of them."""

        def forgotten(place: Place) -> Answer:
            known = place.state.known()
            if known:
                place.state.reset(known)
            return json_answer(200, {"message": RESET})

        return self._held(name, who, forgotten)

    def _held(self, name: str, who: str, change: Callable[[Place], Answer]) -> Answer:
        """While the supervisor lets nothing of the connector start."""
        place = self._places(name)
        if connect.card_of(self._view, name) is None or place is None:
            return connect.missing(name)
        refused = self._hold(name, who)
        if refused is not None:
            return refused
        try:
            return change(place)
        except Odd as problem:
            return refusal(400, str(problem))
        except EngineError as failure:
            return refusal(500, f"The offsets were not changed: {failure}")
        finally:
            try:
                self._commands.ask("free", name, who=who)
            except Unanswered:
                # Then it ends by itself.
                pass

    def _hold(self, name: str, who: str) -> Answer | None:
        """Wait for the last task of one that was just stopped; the refusal, or None."""
        deadline = SYSTEM.monotonic() + DRAINING
        while True:
            try:
                told = self._commands.ask("hold", name, who=who)
            except Unanswered as silence:
                return refusal(500, f"Request timed out. {silence}")
            if not told.refusal:
                return None
            if told.refusal == "unknown":
                return connect.missing(name)
            if told.refusal == "running":
                return refusal(
                    400,
                    "Connectors must be in the STOPPED state before their offsets can "
                    "be modified. This can be done for the specified connector by "
                    f"issuing a 'PUT' request to the '/connectors/{name}/stop' endpoint",
                )
            if SYSTEM.monotonic() > deadline:
                return refusal(409, told.message)
            threading.Event().wait(AGAIN)


def _without_part(partition: Mapping[str, str]) -> str:
    """The source partition that something is remembered beside."""
    return canonical({k: v for k, v in partition.items() if k not in ("part", "chunk")})


class Odd(Exception):
    """A partition or a position that no task could go on from."""


def _entry(value: object) -> tuple[object, Mapping[str, Primitive] | None]:
    """
    Raises: Malformed.
    """
    if not isinstance(value, dict):
        raise Malformed("an entry of offsets is an object of partition and offset")
    for field in value.keys() - {"partition", "offset"}:
        raise Malformed(f'unrecognized field "{field[:80]}"')
    offset = value.get("offset")
    if offset is not None and not isinstance(offset, dict):
        raise Malformed("an offset is an object, or null to forget it")
    return value.get("partition"), offset


def _partition(
    connector: Connector, given: object, known: Mapping[str, dict[str, str]]
) -> dict[str, str]:
    """
    A source partition of the connector.

    Raises: Odd.
    """
    if given is None or not isinstance(given, dict):
        raise Odd("Partition objects cannot be null")
    if not given.get("api"):
        raise Odd("Partition objects should contain the key 'api'")
    if not all(isinstance(value, str) for value in given.values()):
        raise Odd("The values of a partition are texts")
    partition: dict[str, str] = dict(given)
    if canonical(partition) in known:
        return partition
    names = [api.name for api in connector.apis]
    if partition["api"] not in names:
        raise Odd(
            f"no api is named {partition['api']!r}; there are: {', '.join(names)}"
        )
    for field in partition.keys() - {"api", "entity", "shard"}:
        raise Odd(
            f"a partition has no {field!r}: api, and where there are several, entity "
            "and shard"
        )
    index, _, count = partition.get("shard", "0/2").partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count) > 1):
        raise Odd(f"shard={partition['shard']!r} is no index/count, as 0/2")
    return partition


def _require_position(
    place: Place, partition: dict[str, str], offset: Mapping[str, Any]
) -> None:
    """
    Raises: Odd: the api's next request cannot be made from it.
    """
    if not offset:
        raise Odd("Offset objects should either be null or hold a position")
    for field, value in offset.items():
        if isinstance(value, dict | list):
            raise Odd(f"The value for the {field!r} key in the offset is no position")
    poll, done = offset.get("poll", 1), offset.get("done", False)
    if isinstance(poll, bool) or not isinstance(poll, int) or poll < 1:
        raise Odd("The value for the 'poll' key in the offset is a number from 1")
    if not isinstance(done, bool):
        raise Odd("The value for the 'done' key in the offset is true or false")
    api = next((a for a in place.connector.apis if a.name == partition["api"]), None)
    if api is None or "parent" in partition:
        return
    position = {k: v for k, v in offset.items() if k not in OWN_FIELDS}
    saved = Saved(partition, position, place="the request")
    try:
        next_request(place.connector, api, saved, place.zone)
    except StateError as failure:
        raise Odd(str(failure).partition("; offsets reset")[0]) from failure
