"""
Offsetfile: stored offsets set by hand, written to a file, and taken back from one.

Owns the lines of the file, one JSON object each, and that all of them are right before
anything is written.  What is remembered beside a position is among them, so that what
was exported is whole again when it is imported.

Path: ``cli.main`` -> here -> `task.placing`, ``sink.state``
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from engine.cli.check import load
from engine.cli.offsets import OpenedState, chosen, claim_of, place_of
from engine.config import Connector, Loaded
from engine.config.sections.engine import ScheduleConfig
from engine.errors import ConfigError, Exit, NoInput, StateError
from engine.records import Primitive
from engine.sink.state import OWN_FIELDS, State, canonical
from engine.task.owning import fence
from engine.task.placing import (
    InvalidPosition,
    require_partition,
    require_position,
    without_part,
)
from engine.task.probe import next_request

#: Mistakes of a file that are told; beyond it only how many there are.
MOST_TOLD = 20

#: Bytes of a line: a cursor, and a page's hashes, are far below.
LONGEST = 16 << 20

#: Fields of a line; those behind the first three are for people.
FIELDS = ("connector", "partition", "offset", "seq", "at")

Entry = tuple[dict[str, str], dict[str, Primitive]]


class OffsetLine(Struct):
    """
    A line that is right.

    Attributes:
        place: file:line.
    """

    connector: str
    partition: dict[str, str]
    offset: dict[str, Primitive]
    place: str


@contextmanager
def holding(
    loaded: Loaded, connectors: Sequence[Connector]
) -> Iterator[tuple[OpenedState, Callable[[Connector], State]]]:
    """
    Nothing of some connectors runs here meanwhile; for what changes their offsets.

    Yields: what opens their Kafka side, and each one's state, read as it is and fenced
    before it is given out.
    Raises: Occupied where an engine runs one of them.
    """
    with ExitStack() as held, OpenedState(loaded) as opened:
        for connector in connectors:
            claim = claim_of(loaded, connector)
            claim.take()
            held.callback(claim.release)

        def fenced(connector: Connector) -> State:
            state = opened.state(connector)
            fence(opened.brokers(connector), state, connector.name)
            return state

        yield opened, fenced


def export(args: argparse.Namespace) -> int:
    """`offsets export FILE... [--output OUT]`: a JSON line for each that is stored."""
    loaded = load(args, quiet=True)
    lines: list[bytes] = []
    with OpenedState(loaded) as opened:
        for connector in loaded.connectors:
            names = [api.name for api in connector.apis]
            found = opened.state(connector).read().values()
            for saved in sorted(found, key=partial(place_of, names)):
                if not chosen(args, saved.partition):
                    continue
                line = {
                    "connector": connector.name,
                    "partition": saved.partition,
                    "offset": saved.offset,
                    "seq": saved.seq,
                    "at": saved.at,
                }
                lines.append(msgspec.json.encode(line))
    text = b"".join(line + b"\n" for line in lines)
    if args.output is None:
        print(text.decode(), end="")
        return Exit.OK
    _write(Path(args.output), text)
    print(f"{len(lines)} lines written to {args.output}", file=sys.stderr)
    return Exit.OK


def import_(args: argparse.Namespace) -> int:
    """
    `offsets import FILE... --from LINES --yes`: offsets become those of the file.

    An api that the file names is as the file has it: what else is stored of it is
    forgotten.  Other apis stay.
    """
    loaded = load(args)
    if not args.yes:
        raise ConfigError("offsets import replaces what is stored: say --yes")
    zone = loaded.process.of(ScheduleConfig).timezone
    by_name = {each.name: each for each in loaded.connectors}
    lines = read_lines(Path(args.source), by_name, zone)
    named = [by_name[name] for name in dict.fromkeys(line.connector for line in lines)]
    with holding(loaded, named) as (opened, fenced):
        for connector in named:
            mine = [line for line in lines if line.connector == connector.name]
            apis = {line.partition.get("api") for line in mine}
            kept = {canonical(line.partition) for line in mine}
            # Read before anything is fenced: what cannot be read ends it here.
            known = opened.state(connector).known()
            gone = [
                (each, None)
                for each in known
                if each.get("api") in apis and canonical(each) not in kept
            ]
            put = [(line.partition, line.offset) for line in mine]
            fenced(connector).put([*put, *gone])
    positions = sum("part" not in line.partition for line in lines)
    print(f"{positions} offset{'s' * (positions != 1)} imported")
    return Exit.OK


def set_(args: argparse.Namespace) -> int:
    """`offsets set FILE... --position JSON`: one shard goes on from there."""
    loaded = load(args)
    connector = _one(loaded.connectors, args.connector, "connector")
    zone = loaded.process.of(ScheduleConfig).timezone
    api = _one(connector.apis, args.api, "api")
    given = {"api": api.name}
    for name in ("entity", "shard", "parent"):
        if getattr(args, name) is not None:
            given[name] = getattr(args, name)
    offset = _position(args.position)
    with holding(loaded, [connector]) as (opened, fenced):
        known = {canonical(each): each for each in opened.state(connector).known()}
        try:
            partition = require_partition(connector, given, known)
            others = [
                each
                for each in known.values()
                if "part" not in each
                and {**each, "shard": ""} == {**partition, "shard": ""}
                and each != partition
            ]
            if others:
                shards = ", ".join(each.get("shard", "the whole") for each in others)
                raise InvalidPosition(
                    f"offsets of {api.name} are stored of {shards}: they would still "
                    "count; say --shard, or forget them with offsets reset --api"
                )
            require_position(connector, zone, partition, offset)
        except InvalidPosition as odd:
            raise StateError(f"{canonical(given)}: {odd}") from odd
        # What is remembered of pages and records there would hide them.
        beside = [
            (each, None)
            for each in known.values()
            if "part" in each and without_part(each) == canonical(partition)
        ]
        fenced(connector).put([(partition, offset), *beside])
        saved = opened.state(connector).read()[canonical(partition)]
        request = next_request(connector, api, saved, zone)
    print(f"{connector.name} {canonical(partition)}: {_shown(saved.offset)}")
    if request is not None:
        print(f"    next: {request}")
    return Exit.OK


def read_lines(
    path: Path, connectors: Mapping[str, Connector], zone: str
) -> list[OffsetLine]:
    """
    The lines of a file, each of them right.

    Raises: NoInput; StateError with every mistake, by file:line.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NoInput(f"{path}: there is no such file") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    wrong: list[str] = []
    lines: list[OffsetLine] = []
    seen: dict[tuple[str, str], int] = {}
    for number, text in enumerate(content.split(b"\n"), 1):
        if not text.strip():
            continue
        place = f"{path}:{number}"
        try:
            line = _line(text, connectors, zone, place)
            first = seen.setdefault((line.connector, canonical(line.partition)), number)
            if first != number:
                raise InvalidPosition(f"the same partition as in line {first}")
        except InvalidPosition as odd:
            wrong.append(f"{place}: {odd}")
        else:
            lines.append(line)
    if not lines and not wrong:
        wrong.append(f"{path}: no line in it")
    if wrong:
        more = len(wrong) - MOST_TOLD
        told = [*wrong[:MOST_TOLD], *([f"and {more} more"] if more > 0 else [])]
        raise StateError("\n".join([*told, "nothing was changed"]))
    return lines


def _line(
    text: bytes, connectors: Mapping[str, Connector], zone: str, place: str
) -> OffsetLine:
    """Raises: Odd."""
    if len(text) > LONGEST:
        raise InvalidPosition(f"longer than {LONGEST} bytes")
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidPosition(f"no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidPosition("not an object of connector, partition and offset")
    for field in found.keys() - set(FIELDS):
        raise InvalidPosition(
            f"unknown field {field[:80]!r}; there are: {', '.join(FIELDS)}"
        )
    name, offset = found.get("connector"), found.get("offset")
    connector = connectors.get(name) if isinstance(name, str) else None
    if connector is None:
        raise InvalidPosition(
            f"no connector is named {str(name)[:80]!r}; there are: {', '.join(connectors)}"
        )
    if not isinstance(offset, dict):
        raise InvalidPosition("an offset is an object")
    for field, value in offset.items():
        if not isinstance(value, str | int | float | bool):
            raise InvalidPosition(
                f"{field[:80]!r} of the offset is no text, number or truth"
            )
    own = {key: offset[key] for key in OWN_FIELDS & offset.keys()}
    if own.get("v", 1) != 1:
        raise InvalidPosition(f"an offset of the unknown version {own['v']!r}")
    given: Any = found.get("partition")
    if isinstance(given, dict) and "part" in given:
        partition = _beside(connector, given)
    else:
        partition = require_partition(connector, given, {})
        require_position(connector, zone, partition, offset)
    return OffsetLine(connector.name, partition, offset, place)


def _beside(connector: Connector, given: dict[str, Any]) -> dict[str, str]:
    """The partition of what is remembered beside a position."""
    if not _texts(given) or given.get("api", "") not in _names(connector):
        raise InvalidPosition(
            f"of no api of {connector.name}; there are: {', '.join(_names(connector))}"
        )
    return dict(given)


def _texts(given: Mapping[str, Any]) -> bool:
    return all(isinstance(value, str) for value in given.values())


def _names(connector: Connector) -> list[str]:
    return [api.name for api in connector.apis]


def _position(text: str) -> dict[str, Primitive]:
    try:
        return msgspec.json.decode(text, type=dict[str, Primitive])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StateError(
            f"--position: a JSON object of texts, numbers and truths: {error}"
        ) from error


def _one(found: Sequence[Any], name: str | None, what: str) -> Any:
    """The one that is meant; raises ConfigError."""
    names = ", ".join(each.name for each in found)
    if name is None:
        if len(found) == 1:
            return found[0]
        raise ConfigError(f"--{what}: which of {names}?")
    for each in found:
        if each.name == name:
            return each
    raise ConfigError(f"no {what} is named {name!r}; there are: {names}")


def _shown(offset: Mapping[str, Primitive]) -> str:
    return msgspec.json.encode(dict(offset)).decode()


def _write(path: Path, content: bytes) -> None:
    """A file of ours only, there as a whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"--output {path}: {error.strerror}") from error
