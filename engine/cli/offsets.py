"""
Offsets: where each shard stands, and forgetting it.

Owns the output of `offsets get` and `offsets reset`.  A reset holds the
connector's lock, so it is refused while an engine runs the connector.

Path: ``cli.main`` -> here -> ``sink.state``
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import msgspec

from engine.cli.check import load
from engine.config import Connector, Loaded
from engine.config.sections.delivery import StateConfig
from engine.config.sections.engine import ScheduleConfig
from engine.config.sections.processes import DirectoriesConfig
from engine.errors import ConfigError, Exit, StateError
from engine.shared.lock import Claim
from engine.sink.state import Saved, State, canonical
from engine.supervisor.broker import EmbeddedBroker
from engine.supervisor.runtime import Runtime, base_of, make_private
from engine.task import diff, segments
from engine.task.build.kafka import KafkaBuilder, bootstrap_of, state_place
from engine.task.owning import fence
from engine.task.probe import next_request
from engine.task.seen import PART, keys_known
from engine.task.unchanged import pages_known


class OpenedState:
    """
    The Kafka side of a command's connectors; a context.

    An embedded broker is started for the command if no engine runs it.
    """

    def __init__(self, loaded: Loaded):
        self._loaded = loaded
        self._state = Path(loaded.process.of(DirectoriesConfig).state)
        self._runtime: Runtime | None = None
        self._broker: EmbeddedBroker | None = None

    def __enter__(self) -> Self:
        make_private(self._state)
        return self

    def state(self, connector: Connector) -> State:
        """A connector's stored offsets."""
        return self.brokers(connector).state()

    def brokers(self, connector: Connector) -> KafkaBuilder:
        """A connector's Kafka side; none is asked where the state is in files."""
        values = connector.values
        if values.of(StateConfig).file is not None:
            return KafkaBuilder(connector, ("none:0",))
        return KafkaBuilder(connector, bootstrap_of(values, self.embedded))

    def embedded(self) -> str:
        """The embedded broker's address."""
        if self._broker is None:
            base = base_of(os.environ, configured=None, state=self._state)
            self._runtime = Runtime(base)
            self._broker = EmbeddedBroker(state=self._state, runtime=self._runtime.path)
            self._broker.start()
        return self._broker.address

    def __exit__(self, *_: object) -> None:
        if self._broker is not None:
            self._broker.end()
        if self._runtime is not None:
            self._runtime.remove()


def claim_of(loaded: Loaded, connector: Connector, what: str = "") -> Claim:
    """
    The connector's lock, as a running engine holds it.

    Args:
        what: In a folder of that name: a lock of a command's own.
    """
    claims = (
        Path(loaded.process.of(DirectoriesConfig).state)
        / "locks"
        / state_place(connector.values)
    )
    claims = claims / what if what else claims
    for directory in dict.fromkeys((claims.parents[1], claims.parent, claims)):
        make_private(directory)
    return Claim(claims, connector.name)


def get(args: argparse.Namespace) -> int:
    """`offsets get FILE...`: stored offsets, and what would be asked next."""
    loaded = load(args, quiet=args.json)
    zone = loaded.process.of(ScheduleConfig).timezone
    shown = []
    remembered: list[tuple[str, Saved]] = []
    with OpenedState(loaded) as opened:
        for connector in loaded.connectors:
            apis = {api.name: api for api in connector.apis}
            found = opened.state(connector).read().values()
            for saved in sorted(found, key=partial(place_of, [*apis])):
                if not chosen(args, saved.partition):
                    continue
                if "part" in saved.partition:
                    # What is remembered beside a position is none.
                    remembered.append((connector.name, saved))
                    continue
                api = apis.get(saved.partition.get("api", ""))
                request = wrong = None
                try:
                    if api is not None:
                        request = next_request(connector, api, saved, zone)
                except StateError as error:
                    wrong = error
                shown.append((connector.name, saved, request, wrong))
    worst = max((e.code for *_, e in shown if e is not None), default=Exit.OK)
    if args.json:
        document = {
            "offsets": [
                {
                    "connector": name,
                    "partition": saved.partition,
                    "offset": saved.offset,
                    "seq": saved.seq,
                    "at": saved.at,
                    "next": request,
                    "error": None if wrong is None else str(wrong),
                }
                for name, saved, request, wrong in shown
            ],
            "remembered": [
                {
                    "connector": name,
                    "partition": saved.partition,
                    **remembers(saved),
                    "at": saved.at,
                }
                for name, saved in remembered
            ],
        }
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
        return worst
    for name, saved, request, wrong in shown:
        where = msgspec.json.encode(saved.partition).decode()
        print(f"{name} {where}: {msgspec.json.encode(saved.offset).decode()}")
        if request is not None:
            print(f"    next: {request}")
        if wrong is not None:
            print(f"    error: {wrong}")
    for name, saved in remembered:
        where = msgspec.json.encode(saved.partition).decode()
        known = remembers(saved)
        words = (
            f"{known['keys']} keys of {kind_of(saved)}"
            if "keys" in known
            else f"{known['pages']} pages are not produced again while they are unchanged"
        )
        print(f"{name} {where}: {words}; a reset forgets them")
    if not shown and not remembered:
        print("no offsets are stored")
    return worst


def remembers(saved: Saved) -> dict[str, int]:
    """What is kept beside a position: {"pages": n} or {"keys": n}."""
    if saved.partition.get("part") == PART["part"]:
        return {"keys": keys_known(saved.offset)}
    if saved.partition.get("part") == diff.PART["part"]:
        return {"keys": segments.keys_known(saved.offset)}
    return {"pages": pages_known(saved.offset)}


def kind_of(saved: Saved) -> str:
    """What remembers keys, in words."""
    snapshots = saved.partition.get("part") == diff.PART["part"]
    return "a snapshot" if snapshots else "de-duplication"


def place_of(apis: Sequence[str], saved: Saved) -> tuple[object, ...]:
    """
    Where a line of `offsets get` stands: as the file has the apis, shard by shard.

    Args:
        apis: Names, in the order of the file; what is stored of others comes last.
    """
    partition = saved.partition
    name, shard = partition.get("api", ""), partition.get("shard", "0/1")
    index, _, count = shard.partition("/")
    cut = tuple(int(each) if each.isdecimal() else -1 for each in (count, index))
    known = apis.index(name) if name in apis else len(apis)
    return known, name, partition.get("entity", ""), cut, canonical(partition)


def chosen(args: argparse.Namespace, partition: Mapping[str, str]) -> bool:
    """Whether `--api` and `--parent`, where they are given, mean a partition."""
    return args.api in (None, partition.get("api")) and (
        args.parent in (None, partition.get("parent"))
    )


def reset(args: argparse.Namespace) -> int:
    """`offsets reset FILE... --yes`: forget offsets; refused while running."""
    loaded = load(args)
    if not args.yes and not confirmed():
        raise ConfigError("offsets reset forgets where to go on: say --yes")
    forgotten = 0
    with OpenedState(loaded) as opened:
        for connector in loaded.connectors:
            claim = claim_of(loaded, connector)
            claim.take()
            try:
                state = opened.state(connector)
                gone = [each for each in state.known() if chosen(args, each)]
                if gone:
                    fence(opened.brokers(connector), state, connector.name)
                    state.reset(gone)
                forgotten += sum("part" not in partition for partition in gone)
            finally:
                claim.release()
    names = [api.name for connector in loaded.connectors for api in connector.apis]
    if not forgotten and args.api not in (None, *names):
        raise ConfigError(
            f"no api is named {args.api!r}, and nothing is stored of one; there are: "
            f"{', '.join(names)}"
        )
    print(f"{forgotten} offset{'s' * (forgotten != 1)} forgotten")
    return Exit.OK


def confirmed() -> bool:
    """Ask on a terminal; False where nobody can be asked."""
    if not sys.stdin.isatty():
        return False
    return input("Forget all stored offsets? [y/N] ").strip().lower() in ("y", "yes")
