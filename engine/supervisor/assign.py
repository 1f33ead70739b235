"""
Assign: which task polls which part of the apis.

Owns how apis become shards and how shards are dealt to tasks; pure.  It knows
neither processes nor the board, and never gives the same work to two tasks.

Path: ``supervisor.orders`` wants so many tasks -> here -> the specs of children.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from engine.records import Shard

#: What stays the same of a shard when its api is split over more tasks.
Part: TypeAlias = tuple[str, str, str | None, int]


class AssignableApi(Struct, frozen=True):
    """
    What the supervisor needs to know of an api; a tree is known by its root.

    Attributes:
        name: `api.name`.
        fingerprint: Changes when, and only when, its configuration does.
        entities: `entity.names`, empty without.
        splittable: Its pages can be addressed, so they can be dealt.
        below: Names of the other apis of its tree.
        most: Most shards it may be split into: each has a page of its own in
            every poll (`pagination.max.pages`).
    """

    name: str
    fingerprint: str = ""
    entities: tuple[str, ...] = ()
    splittable: bool = False
    below: tuple[str, ...] = ()
    most: int = 1 << 30


def part(shard: Shard) -> Part:
    """The key under which a shard keeps its task and its place on the board."""
    return shard.connector, shard.api, shard.entity, shard.index


def overlap(one: Shard, other: Shard) -> bool:
    """True if two shards may contain the same page."""
    same = (one.connector, one.api, one.entity) == (
        other.connector,
        other.api,
        other.entity,
    )
    # i of L and j of M share pages for some i and j whenever L and M differ.
    return same and (one.count != other.count or one.index == other.index)


def most_tasks(apis: Sequence[AssignableApi]) -> int | None:
    """Tasks that could have work at all; None: as many as there may be."""
    if any(api.splittable for api in apis):
        return None
    return len(_units(apis))


def shards(connector: str, apis: Sequence[AssignableApi], tasks: int) -> list[Shard]:
    """
    Cut the apis for so many tasks.

    Every api, or each of its entities, is one shard; tasks that are left over
    are dealt one at a time, in that order, to the shards that can be split.

    Args:
        tasks: `tasks.max` or what scaling made of it, at least 1.

    Source: `tasks.max`.
    """
    units = _units(apis)
    counts = [1] * len(units)
    divisible = [
        at for at, (api, _) in enumerate(units) if api.splittable and api.most > 1
    ]
    if divisible:
        left = max(0, tasks - len(units))
        while left and divisible:
            for at in divisible[:left]:
                counts[at] += 1
            left -= min(left, len(divisible))
            divisible = [at for at in divisible if counts[at] < units[at][0].most]
    return [
        Shard(connector, api.name, entity, index, count)
        for (api, entity), count in zip(units, counts, strict=True)
        for index in range(count)
    ]


def assign(
    cut: Sequence[Shard], tasks: int, before: Mapping[Part, int]
) -> list[tuple[Shard, ...]]:
    """
    Deal shards to tasks evenly, moving as few of them as that allows.

    Args:
        cut: All shards, as `shards` gives them.
        tasks: Upper bound of tasks; each of the fewer that start has work.
        before: The task number each part has now.

    Returns: The shards of task 0, 1, ...; their sizes differ by one at most.
    """
    count = min(tasks, len(cut))
    if count == 0:
        return []
    held: list[list[Shard]] = [[] for _ in range(count)]
    homeless: list[Shard] = []
    for shard in cut:
        number = before.get(part(shard), count)
        (held[number] if number < count else homeless).append(shard)

    # The larger portions go where most is held already: nothing keeps more.
    portion, larger = divmod(len(cut), count)
    fullest = sorted(range(count), key=lambda number: (-len(held[number]), number))
    room = [portion] * count
    for number in fullest[:larger]:
        room[number] += 1
    for number in range(count):
        homeless.extend(held[number][room[number] :])
        del held[number][room[number] :]

    order = {shard: at for at, shard in enumerate(cut)}
    homeless.sort(key=order.__getitem__)
    for number in range(count):
        missing = room[number] - len(held[number])
        held[number].extend(homeless[:missing])
        del homeless[:missing]
    return [tuple(sorted(mine, key=order.__getitem__)) for mine in held]


def _units(apis: Sequence[AssignableApi]) -> list[tuple[AssignableApi, str | None]]:
    units: list[tuple[AssignableApi, str | None]] = []
    for api in apis:
        units.extend((api, entity) for entity in api.entities or (None,))
    return units
