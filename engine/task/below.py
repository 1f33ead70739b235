"""
Below: positions of the children of a root, as they are stored.

Owns which of them are a root's, which are of another parent, when two say the same, and
by how much what is stored of a child may lag behind its polls.

Path: the state -> here -> `task.tree`
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final
from zlib import crc32

from engine.records import Offset, Shard
from engine.sink.state import Saved
from engine.source.paging.position import STAMPS, UNDER

log = logging.getLogger("task")

#: Removed positions that are remembered, to say so where one of them is missed.
MOST_REMOVED: Final = 100_000
#: Parents that a line of the log names.
NAMED: Final = 5

#: Fewer polls than this (`api.chaining.state.polls`), and each poll is written.
LEAST_LAGGING = 8

#: What a position has that does not say where the next poll goes on.
PASSING: Final = STAMPS | {"poll"}


def stored_below(
    saved: Iterable[Saved], root: Shard, apis: Iterable[str]
) -> dict[tuple[str, str], Offset]:
    """What is stored of the children of one root, by api and parent value."""
    names = set(apis)
    found: dict[tuple[str, str], Offset] = {}
    for each in saved:
        partition = each.partition
        api, parent = partition.get("api"), partition.get("parent")
        if api not in names or parent is None or "part" in partition:
            continue
        if partition.get("entity") == root.entity:
            found[str(api), parent] = each.offset
    return found


def set_apart(
    offsets: Mapping[tuple[str, str], Offset], under: Mapping[str, str]
) -> tuple[dict[tuple[str, str], Offset], list[tuple[str, str]]]:
    """
    Tell positions of these children from those of the same values below another parent,
    which the log says.

    Args:
        offsets: What is stored, by api and parent value.
        under: What `names_of` says of each api, or "".

    Returns: the offsets that hold, and whose do not.
    """
    own = dict(offsets)
    strangers = [
        (api, parent)
        for (api, parent), offset in offsets.items()
        if under[api] and offset.get(UNDER, under[api]) != under[api]
    ]
    for key in strangers:
        del own[key]
    for api, count in Counter(api for api, _ in strangers).items():
        log.warning(
            "%s: %d children have positions of another api.chaining.parent or "
            "api.chaining.extract.field: they begin anew, and what was delivered of "
            "them may come again.",
            api,
            count,
        )
    return own, strangers


def same_place(before: Offset, offset: Offset) -> bool:
    """Whether two positions differ in nothing but the number of their poll."""
    return {n: v for n, v in before.items() if n not in PASSING} == {
        n: v for n, v in offset.items() if n not in PASSING
    }


def names_of(parent: str, field: str) -> str:
    """What tells whose values name children: an api's name, a path in its records."""
    return f"{crc32(f'{parent}/{field}'.encode()):08x}"


def lag_of(polls: int, parent: str) -> int:
    """
    By how many polls a written position may lag behind the child it is of.

    A quarter to half of those after which it is forgotten, another one for each
    parent, so that not all of them are written in one poll.
    """
    if not polls:
        return 1 << 62
    most = polls // 2 if polls >= LEAST_LAGGING else 0
    return most - crc32(parent.encode()) % (most // 2 + 1)


class RemovedPositions:
    """
    Children whose position was removed, while this process lives: says in the log when
    their parents come back.
    """

    def __init__(self) -> None:
        self._removed: dict[tuple[str, str], None] = {}
        self._back: list[tuple[str, str]] = []

    def add(self, keys: Iterable[tuple[str, str]]) -> None:
        """These have no position from now on."""
        for key in keys:
            self._removed[key] = None
        for key in list(self._removed)[: max(len(self._removed) - MOST_REMOVED, 0)]:
            del self._removed[key]

    def asked(self, key: tuple[str, str]) -> None:
        """A child without a position is asked for."""
        if key in self._removed:
            del self._removed[key]
            self._back.append(key)

    def tell(self) -> None:
        """A poll is over: say who came back in it."""
        for api, count in Counter(api for api, _ in self._back).items():
            names = [parent for each, parent in self._back if each == api][:NAMED]
            log.warning(
                "%s: %d parents are named again, and the positions of their children were "
                "removed (api.chaining.state.polls): those began anew, and what was "
                "delivered of them comes again: %s%s.",
                api,
                count,
                ", ".join(names),
                ", ..." if count > NAMED else "",
            )
        self._back.clear()
