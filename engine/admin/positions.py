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

from msgspec import Struct

from engine.admin import connect
from engine.admin.answers import (
    AdminRequest,
    AdminResponse,
    Malformed,
    json_answer,
    read_object,
    refusal,
)
from engine.admin.commands import SupervisorClient, Unanswered
from engine.admin.view import EngineView
from engine.clock import SYSTEM
from engine.config import Connector
from engine.errors import EngineError
from engine.records import Primitive
from engine.sink.state import State, canonical
from engine.task.placing import (
    InvalidPosition,
    require_partition,
    require_position,
    without_part,
)

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


class OffsetsResource:
    """
    Tells, alters and forgets offsets.

    Args:
        view: What is running.
        commands: Asks the supervisor.
        places: Connector -> where its offsets are kept, or None.
    """

    def __init__(
        self,
        view: EngineView,
        commands: SupervisorClient,
        places: Callable[[str], Place | None],
    ) -> None:
        self._view = view
        self._commands = commands
        self._places = places

    def every(self, name: str) -> AdminResponse:
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

    def alter(self, request: AdminRequest, name: str, who: str) -> AdminResponse:
        """`PATCH /connectors/{name}/offsets`: all that is sent, or nothing."""
        sent = read_object(request.body)
        for field in sent.keys() - {"offsets"}:
            raise Malformed(f'unrecognized field "{field[:80]}"')
        offsets = sent.get("offsets")
        if offsets is None or offsets == []:
            return refusal(400, NEEDED)
        if not isinstance(offsets, list):
            raise Malformed("offsets is a list of partitions and their offsets")
        entries = [_entry(each) for each in offsets]

        def altered(place: Place) -> AdminResponse:
            known = {canonical(p): p for p in place.state.known()}
            wanted: dict[str, tuple[dict[str, str], Mapping[str, Primitive] | None]]
            # The same partition twice: the last holds.
            wanted = {}
            for given, offset in entries:
                partition = require_partition(place.connector, given, known)
                if offset is not None:
                    require_position(place.connector, place.zone, partition, offset)
                wanted[canonical(partition)] = partition, offset
            # What is remembered of pages and records there would hide them.
            beside = [
                each
                for each in known.values()
                if "part" in each and without_part(each) in wanted
            ]
            place.state.put([*wanted.values(), *((each, None) for each in beside)])
            return json_answer(200, {"message": ALTERED})

        return self._held(name, who, altered)

    def reset(self, name: str, who: str) -> AdminResponse:
        """`DELETE /connectors/{name}/offsets`: all of them."""

        def forgotten(place: Place) -> AdminResponse:
            known = place.state.known()
            if known:
                place.state.reset(known)
            return json_answer(200, {"message": RESET})

        return self._held(name, who, forgotten)

    def _held(
        self, name: str, who: str, change: Callable[[Place], AdminResponse]
    ) -> AdminResponse:
        """While the supervisor lets nothing of the connector start."""
        place = self._places(name)
        if connect.card_of(self._view, name) is None or place is None:
            return connect.missing(name)
        refused = self._hold(name, who)
        if refused is not None:
            return refused
        try:
            return change(place)
        except InvalidPosition as problem:
            return refusal(400, str(problem))
        except EngineError as failure:
            return refusal(500, f"The offsets were not changed: {failure}")
        finally:
            try:
                self._commands.ask("free", name, who=who)
            except Unanswered:
                # Then it ends by itself.
                pass

    def _hold(self, name: str, who: str) -> AdminResponse | None:
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
