"""
Placing: what a source partition and a position may be, before they are written by hand.

Owns the one rule for Connect's REST calls and the command line: a partition that some
task would poll, and a position from which its next request can be made.

Path: ``admin.positions``, ``cli.offsets`` -> here -> `task.probe`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.config import Connector
from engine.config.sections.engine import ApiConfig
from engine.errors import StateError
from engine.sink.state import OWN_FIELDS, Saved, canonical
from engine.task.probe import next_request


class InvalidPosition(Exception):
    """A partition or a position that no task could go on from."""


def without_part(partition: Mapping[str, str]) -> str:
    """The source partition that something is remembered beside."""
    return canonical({k: v for k, v in partition.items() if k not in ("part", "chunk")})


def require_partition(
    connector: Connector, given: object, known: Mapping[str, dict[str, str]]
) -> dict[str, str]:
    """
    A source partition of the connector.

    Args:
        given: As it came from outside.
        known: Those that something is stored for, by `canonical`.

    Raises: Odd.
    """
    if given is None or not isinstance(given, dict):
        raise InvalidPosition("Partition objects cannot be null")
    if not given.get("api"):
        raise InvalidPosition("Partition objects should contain the key 'api'")
    if not all(isinstance(value, str) for value in given.values()):
        raise InvalidPosition("The values of a partition are texts")
    partition: dict[str, str] = dict(given)
    if canonical(partition) in known:
        return partition
    names = [api.name for api in connector.apis]
    if partition["api"] not in names:
        raise InvalidPosition(
            f"no api is named {partition['api']!r}; there are: {', '.join(names)}"
        )
    for field in partition.keys() - {"api", "entity", "shard", "parent"}:
        raise InvalidPosition(
            f"a partition has no {field!r}: api, and where there are several, entity, "
            "shard and parent"
        )
    above = next(
        api.values.of(ApiConfig).parent
        for api in connector.apis
        if api.name == partition["api"]
    )
    if above is None and "parent" in partition:
        raise InvalidPosition(f"{partition['api']} has no parent (api.chaining.parent)")
    if above is not None and "parent" not in partition:
        raise InvalidPosition(
            f"{partition['api']} is polled for each record of {above}: of each there is "
            "an offset with parent, the record's value"
        )
    if above is not None and "shard" in partition:
        raise InvalidPosition(
            f"{partition['api']} is polled below {above}, and has no shards"
        )
    index, _, count = partition.get("shard", "0/2").partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count) > 1):
        raise InvalidPosition(f"shard={partition['shard']!r} is no index/count, as 0/2")
    return partition


def require_position(
    connector: Connector,
    zone: str,
    partition: dict[str, str],
    offset: Mapping[str, Any],
) -> None:
    """
    Refuse a position that no task could go on from.

    Args:
        zone: `schedule.timezone`.

    Raises: Odd: the api's next request cannot be made from it.
    """
    if not offset:
        raise InvalidPosition("Offset objects should either be null or hold a position")
    for field, value in offset.items():
        if isinstance(value, dict | list):
            raise InvalidPosition(
                f"The value for the {field!r} key in the offset is no position"
            )
    poll, done = offset.get("poll", 1), offset.get("done", False)
    if isinstance(poll, bool) or not isinstance(poll, int) or poll < 1:
        raise InvalidPosition(
            "The value for the 'poll' key in the offset is a number from 1"
        )
    if not isinstance(done, bool):
        raise InvalidPosition(
            "The value for the 'done' key in the offset is true or false"
        )
    api = next((a for a in connector.apis if a.name == partition["api"]), None)
    if api is None:
        return
    position = {k: v for k, v in offset.items() if k not in OWN_FIELDS}
    saved = Saved(partition, position, place="the request")
    try:
        next_request(connector, api, saved, zone)
    except StateError as failure:
        raise InvalidPosition(str(failure).partition("; offsets reset")[0]) from failure
